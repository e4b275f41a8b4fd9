//! Unpacks an artifact into a new release.
//!
//! Does: receives from the controller what the host lacks, checks the checksum, unpacks under a
//! temporary name, writes `REVISION`, renames. Requires: the directories that `release_setup`
//! makes. After a failure: the release is absent and nothing else has changed.

mod artifact;
mod delta;
mod docs;
mod rehearsal;
mod request;
mod tar_options;
mod top;
mod unchanged;

use oxistrano_archive::{
    self as archive, Earlier, Format, Limits, Noted, Pattern, Spare, UnpackOptions,
};
use oxistrano_core::dir::open_followed;
use oxistrano_core::{
    AbsPath, Context, Diff, Dir, Documentation, Failure, IoContext, Literal, Mode, Module, Outcome,
    RelPath, users,
};
use oxistrano_releases::{
    Artifact, Built, Decision, Indexes, Placement, Root, Site, Version, release_options,
    shared_links, trash,
};
use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use artifact::{Archive, Found};
use delta::Parts;
use unchanged::Unchanged;

/// Failures that would also happen without the spare: of the archive, or an interruption.
const NOT_OF_THE_SPARE: [&str; 9] = [
    "unknown_format",
    "empty_archive",
    "bad_archive",
    "bad_manifest",
    "unsafe_entry",
    "too_large",
    "changed",
    "stale",
    "interrupted",
];

release_options! {
    /// The options of `release_unpack`.
    pub struct Options {
        /// The release to make, which is the name of its directory.
        version: Version;
        /// The archive: a tar (plain, gzip, zstd, xz or bzip2) or a zip, recognised by its content.
        /// It is a file on the controller, searched like the C(src) of M(ansible.builtin.copy), or
        /// with O(remote_src) an absolute path on the host.
        src: AbsPath;
        /// Whether O(src) is on the host.
        remote_src: bool, default = Some(Literal::Flag(false));
        /// The expected checksum, C(sha256:) and 64 hexadecimal digits. It is checked before
        /// anything is written.
        checksum: Option<String>;
        /// Owner of everything that is unpacked, a name or a number. By default as with C(tar): the
        /// owners in the archive if the module runs as root, else the user that the module runs as.
        owner: Option<String>;
        /// Group of everything that is unpacked; otherwise as O(owner).
        group: Option<String>;
        /// Permissions of files: octal in quotes (V('0644')), or symbolic (V(u=rwX,go=rX)), which
        /// changes those in the archive. By default those in the archive, less the umask if the
        /// module does not run as root.
        mode: Option<Mode>;
        /// Permissions of directories; otherwise as O(mode).
        directory_mode: Option<Mode>;
        /// The number of leading path components to remove, as for C(tar).
        strip_components: u32, default = Some(Literal::Number(0));
        /// Patterns of entries to leave out, as for C(tar --exclude), for example V(*.pdf) or
        /// V(dev/tests).
        exclude: Vec<String>;
        /// Options of C(tar), for playbooks that used M(ansible.builtin.unarchive):
        /// C(--strip-components=N), C(--exclude=PATTERN), C(--no-same-owner), C(--same-owner),
        /// C(--no-same-permissions), C(--same-permissions). Others are refused. Setuid and setgid
        /// bits of files are dropped without C(--same-permissions).
        extra_opts: Vec<String>;
        /// The content of the file C(REVISION) in the release. By default, O(version).
        revision: Option<String>;
        /// Whether to remove O(src) from the host after the release was made. A file on the
        /// controller is never removed.
        remove_src: bool, default = Some(Literal::Flag(false));
        /// Replace a release of this version even if it is live, or if no deploy has made it. The
        /// replaced release is kept until the switch; if the deploy fails before that, it is
        /// restored.
        force: bool, default = Some(Literal::Flag(false));
        /// Directories that releases share. Only needed with O(force): a release that replaces the
        /// live one needs its links before it does.
        shared_paths: Vec<RelPath>;
        /// Files that releases share; otherwise as O(shared_paths).
        shared_files: Vec<RelPath>;
        /// How many of the archives that the controller has sent are kept on the host, in the state
        /// directory of O(deploy_to); the last ones that were deployed stay. An archive that is
        /// kept is not sent again. Each needs its size in disk space.
        keep_artifacts: u64, default = Some(Literal::Number(1));
        /// What to do with files that the live release has with the same contents, owner, group and
        /// mode under the same path. V(copy) writes them like all others. V(reflink) lets them
        /// share blocks with the live release's files until one of them is changed (xfs, btrfs).
        /// V(hardlink) makes hard links to the live release's files, with their modification times,
        /// so changing such a file in place changes it in every release. If the file system does
        /// not support it, files are written.
        unchanged: Unchanged, default = Some(Literal::Text("copy"));
        /// Whether to build the release from the spare that M(oxistrano.deploy.release_prune) has
        /// kept, if there is one: files that are the same as in the archive stay, and only the
        /// others are written. The result is the same as without the spare. It has no effect if
        /// O(unchanged) is not V(copy).
        spare: bool, default = Some(Literal::Flag(true));
        /// Refuse archives that unpack to more bytes than this.
        max_bytes: u64, default = Some(Literal::Number(64 << 30));
        /// Refuse archives that unpack to more than this many times their size and to more than 64
        /// MiB.
        max_ratio: u64, default = Some(Literal::Number(1000));
        /// Refuse archives with more entries than this. Directories without an entry of their own
        /// count, too.
        max_entries: u64, default = Some(Literal::Number(2_000_000));
        /// Describes O(src) on the controller. The action plugin fills it in when it sends the
        /// archive.
        artifact: Option<Artifact>;
        /// In check mode, the file to write the list of the contents of O(src) to. For the action
        /// plugin, which runs this on the controller.
        listing: Option<AbsPath>, internal = true;
    }
}

/// The module.
pub struct ReleaseUnpack;

/// The module as a program.
pub const PROGRAM: oxistrano_core::Program = oxistrano_releases::program::<ReleaseUnpack>();

impl Module for ReleaseUnpack {
    type Options = Options;
    const NAME: &'static str = "release_unpack";
    const DOCUMENTATION: Documentation = docs::DOCUMENTATION;
    /// The archive comes on standard input, in pieces.
    const READS_INPUT: bool = true;

    fn run(options: Options, context: &Context) -> Result<Outcome, Failure> {
        run(&options, context).map_err(|failure| failure.state("Nothing was changed."))
    }
}

fn run(options: &Options, context: &Context) -> Result<Outcome, Failure> {
    let unpack_options = unpack_options(options)?;
    let existing = Root::open_if_there(&options.layout())?;
    let archive = match &options.artifact {
        None => Archive::on_host(open(options, existing.as_ref())?),
        Some(artifact) => {
            // The archive is not sent if the release exists.
            if is_there(options, artifact, existing.as_ref())? {
                return Ok(already_there(options));
            }
            match artifact::find(artifact, options, existing.as_ref(), context)? {
                Found::Here(archive) => archive,
                Found::NotSent(here) => {
                    let missing = artifact.size.saturating_sub(here);
                    return rehearsal::would_bring(options, context, artifact, missing);
                }
                Found::Parts(parts) => {
                    let material = Material::Parts(&parts);
                    let built = unpack(options, context, &unpack_options, existing, &material);
                    return match built {
                        // Contents are missing; the controller sends them.
                        Ok(outcome) if parts.asked.get() => Ok(outcome),
                        Ok(outcome) => Ok(outcome.warnings(parts.discard())),
                        Err(failure) => parts.blame(failure),
                    };
                }
                Found::Wanted(outcome) => return Ok(outcome),
            }
        }
    };
    let material = Material::Archive(&archive);
    let unpacked = unpack(options, context, &unpack_options, existing, &material);
    match (unpacked, &options.artifact) {
        (Ok(outcome), _) if context.check_mode => Ok(outcome),
        (Ok(outcome), _) => Ok(outcome.warnings(archive.keep(options.keep_artifacts))),
        (Err(_), Some(artifact)) if context.check_mode && archive.is_damaged(options) => {
            rehearsal::would_bring(options, context, artifact, artifact.size)
        }
        (Err(failure), _) if context.check_mode => Err(failure),
        (Err(failure), _) => archive.blame(failure, options),
    }
}

/// Whether the release exists and was made from the archive of the controller.
fn is_there(options: &Options, artifact: &Artifact, root: Option<&Root>) -> Result<bool, Failure> {
    if artifact.size == 0 {
        return Err(no_archive(options, "it is empty"));
    }
    if let (Some(checksum), Some(sha256)) = (&options.checksum, &artifact.sha256) {
        check(checksum, sha256, options)?;
    }
    let Some(root) = root else { return Ok(false) };
    root.require_unlocked(&options.deployer)?;
    let source = artifact.sha256.as_ref().map(|sha256| source(options, sha256));
    let Some(source) = source.as_deref() else { return Ok(false) };
    let decision = placement(options, root, Some(source), &[]).decide()?;
    Ok(decision == Decision::Unchanged)
}

fn placement<'a>(
    options: &'a Options,
    root: &'a Root,
    source: Option<&'a str>,
    shared: &'a [RelPath],
) -> Placement<'a> {
    let (version, revision, force) = (&options.version, revision(options), options.force);
    Placement { root, version, revision, source, force, shared }
}

fn revision(options: &Options) -> &str {
    options.revision.as_deref().unwrap_or(options.version.as_str())
}

fn release_path(options: &Options) -> String {
    options.layout().release_path(&options.version).display().to_string()
}

fn result(options: &Options, changed: bool, msg: String) -> Outcome {
    Outcome::new(changed)
        .msg(msg)
        .value("release_path", release_path(options))
        .value("version", options.version.as_str())
        .value("revision", revision(options))
}

fn already_there(options: &Options) -> Outcome {
    result(
        options,
        false,
        format!("release {} already exists, from the same archive", options.version),
    )
}

/// What a release is made from.
enum Material<'a> {
    Archive(&'a Archive<'a>),
    Parts(&'a Parts),
}

impl Material<'_> {
    fn format(&self, src: &Path) -> Result<Format, Failure> {
        match self {
            Material::Archive(archive) => archive::format_of(&archive.file, src),
            Material::Parts(parts) => Ok(parts.manifest.format()),
        }
    }

    /// The SHA-256 that the archive has on the controller.
    fn sha256(&self) -> Option<&str> {
        match self {
            Material::Archive(archive) => archive.sha256(),
            Material::Parts(parts) => parts.artifact.sha256.as_deref(),
        }
    }

    /// Checks that what was read was the archive of the controller.
    fn confirm(&self, read: Option<&str>) -> Result<(), Failure> {
        match self {
            Material::Archive(archive) => archive.confirm(read),
            // The digest of the manifest was compared.
            Material::Parts(_) => Ok(()),
        }
    }
}

fn unpack(
    options: &Options,
    context: &Context,
    unpack_options: &UnpackOptions,
    existing: Option<Root>,
    material: &Material<'_>,
) -> Result<Outcome, Failure> {
    let src = options.src.as_path();
    let layout = options.layout();
    let format = material.format(src)?;
    let path = release_path(options);
    let result = |changed, msg| result(options, changed, msg).value("format", format.name());
    let would_unpack = |root| match material {
        Material::Archive(archive) => {
            rehearsal::would_unpack(options, context, unpack_options, archive, root)
                .map(|outcome| outcome.value("format", format.name()))
        }
        // In check mode nothing is sent.
        Material::Parts(_) => Ok(result(true, format!("would build {path}"))),
    };
    // The archive is read for its hash only if the hash is needed before anything is written.
    let mut known = material.sha256().map(str::to_owned);
    let needed = options.checksum.is_some() || layout.release_path(&options.version).exists();
    if let Material::Archive(archive) = material
        && known.is_none()
        && needed
    {
        let sha256 = archive::sha256(&archive.file, src)?;
        if let Some(checksum) = &options.checksum {
            check(checksum, &sha256, options)?;
        }
        known = Some(sha256);
    }
    let root = match existing {
        None if context.check_mode => return would_unpack(None),
        Some(root) => root,
        None => Root::open(layout)?,
    };
    let (root, _) = root.changing(&options.deployer, context.check_mode)?;
    let shared = shared_links(&options.shared_paths, &options.shared_files).paths;
    let known_source = known.as_deref().map(|sha256| source(options, sha256));
    let placement = placement(options, &root, known_source.as_deref(), &shared);
    if placement.decide()? == Decision::Unchanged {
        return Ok(already_there(options).value("format", format.name()));
    }
    if context.check_mode {
        return would_unpack(Some(&root));
    }
    let on_spare = options.spare && options.unchanged == Unchanged::Copy;
    if let Material::Parts(parts) = material
        && let Some(asked) = parts.plan(&root, unpack_options, on_spare)?
    {
        return Ok(asked);
    }
    let on_spare = match material {
        Material::Archive(_) => on_spare,
        Material::Parts(parts) => parts.is_on_spare(),
    };
    placement.begin(&options.deployer)?;
    let releases = root.releases()?;
    let mut earlier = unchanged::earlier(options.unchanged, &root, &releases)?;
    let fill = |into: &Dir, spare, earlier: Option<Earlier>| {
        let (unpacked, noted) = match (material, earlier) {
            (Material::Parts(parts), _) => parts.fill(&root, src, unpack_options, into, spare)?,
            (Material::Archive(archive), Some(earlier)) => {
                let file = &archive.file;
                let shared =
                    archive::unpack_sharing(file, src, into, unpack_options, Some(earlier))?;
                (shared, None)
            }
            (Material::Archive(archive), None) => {
                archive::unpack_noting(&archive.file, src, into, unpack_options, spare)?
            }
        };
        material.confirm(unpacked.sha256.as_deref())?;
        Ok((unpacked, noted))
    };
    let site = Site { releases: &releases, spare: on_spare, not_of_the_spare: &NOT_OF_THE_SPARE };
    let built = site.build(
        |tree, grave| {
            let spare = match material {
                Material::Archive(_) => delta::spare_of(&root, tree, grave)?,
                // The plan has what the index knows.
                Material::Parts(_) => Spare::new(grave)?,
            };
            fill(tree, Some(spare), None)
        },
        |tree| fill(tree, None, earlier.take()),
    );
    let removed = |failure: Failure| {
        failure.state("The unfinished release was removed; the live release is unchanged.")
    };
    let Built { staging, made: (unpacked, noted), mut trash, warning } = built.map_err(removed)?;
    top::give_owner(staging.dir(), unpack_options).map_err(removed)?;
    let alone = top::warning_if_alone(staging.dir(), src).map_err(removed)?;
    let index = noted.map(|mut noted| {
        noted.lose(&shared);
        write_index(&root, &noted, staging.dir()).map(|()| noted.has())
    });
    let (has, index) = match index.transpose() {
        Ok(has) => (has.filter(|_| options.artifact.is_some()), None),
        Err(failure) => (
            None,
            Some(format!(
                "the next deploy may send the whole archive, because this release has no index: {failure}"
            )),
        ),
    };
    let sha256 = known.as_deref().or(unpacked.sha256.as_deref());
    let made_from = sha256.map(|sha256| source(options, sha256));
    let replaced = Placement { source: made_from.as_deref(), ..placement }.finish(staging)?;
    trash.extend(replaced);
    let later = trash::empty_later(&releases, &trash);
    Indexes::tidy(&root);
    let mut outcome = result(true, format!("unpacked {} files into {path}", unpacked.files))
        .value("checksum", sha256.map(|sha256| format!("sha256:{sha256}")))
        .value("files", unpacked.files)
        .value("directories", unpacked.directories)
        .value("links", unpacked.links)
        .value("bytes", unpacked.bytes)
        .value("shared_files", unpacked.shared_files)
        .value("shared_bytes", unpacked.shared_bytes)
        .value("kept_files", unpacked.kept_files)
        .value("kept_bytes", unpacked.kept_bytes)
        .diff(diff(&path))
        .warnings(later)
        .warnings(warning)
        .warnings(alone)
        .warnings(index);
    if let Some(has) = has {
        // For the action plugin.
        outcome = outcome.value("has", has);
    }
    if options.remove_src && options.artifact.is_none() {
        let gone = remove_archive(&root, src);
        outcome = outcome.warnings(gone.err().map(|failure| failure.to_string()));
    }
    Ok(outcome)
}

fn write_index(root: &Root, noted: &Noted, release: &Dir) -> Result<(), Failure> {
    noted.write(Indexes::make(root)?.dir(), &Indexes::name(release)?)
}

/// Removes the archive from the host. One that was fetched into the staging directory has been
/// removed with it.
fn remove_archive(root: &Root, src: &Path) -> Result<(), Failure> {
    match root.locate(src) {
        Ok((dir, name)) => dir.remove_file(name).map(drop),
        Err(_) if !src.exists() => Ok(()),
        Err(failure) => Err(failure),
    }
}

/// Identifies what a release is made from: the archive, and the options that change the release.
/// The same text means the same release.
fn source(options: &Options, sha256: &str) -> String {
    let mut source = format!("sha256:{sha256}");
    for (name, value) in [
        ("owner", options.owner.clone()),
        ("group", options.group.clone()),
        ("mode", options.mode.as_ref().map(|mode| format!("{mode:?}"))),
        ("directory_mode", options.directory_mode.as_ref().map(|mode| format!("{mode:?}"))),
        (
            "strip_components",
            Some(options.strip_components).filter(|n| *n > 0).map(|n| n.to_string()),
        ),
        ("exclude", Some(options.exclude.join(" ")).filter(|patterns| !patterns.is_empty())),
        ("extra_opts", Some(options.extra_opts.join(" ")).filter(|opts| !opts.is_empty())),
    ] {
        if let Some(value) = value {
            source.push_str(&format!(" {name}={value}"));
        }
    }
    source
}

fn unpack_options(options: &Options) -> Result<UnpackOptions, Failure> {
    let extra = tar_options::parse(&options.extra_opts)?;
    let owner = options.owner.as_deref().map(users::resolve_owner).transpose()?;
    let group = options.group.as_deref().map(users::resolve_group).transpose()?;
    let patterns = options.exclude.iter().chain(&extra.exclude);
    Ok(UnpackOptions {
        owner,
        group,
        mode: options.mode.clone(),
        directory_mode: options.directory_mode.clone(),
        strip_components: extra.strip_components.unwrap_or(options.strip_components),
        exclude: patterns.map(|text| Pattern::new(text)).collect(),
        preserve_owner: extra.same_owner.unwrap_or_else(users::is_root),
        set_id: extra.same_permissions == Some(true),
        apply_umask: !extra.same_permissions.unwrap_or_else(users::is_root),
        checksum: true,
        limits: Limits {
            max_entries: options.max_entries,
            max_bytes: options.max_bytes,
            max_ratio: options.max_ratio,
            ..Limits::default()
        },
    })
}

fn open(options: &Options, root: Option<&Root>) -> Result<File, Failure> {
    let src = options.src.as_path();
    let refused = |cause| no_archive(options, cause);
    match src.metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(refused("the file does not exist on the host"));
        }
        Ok(metadata) if metadata.is_dir() => {
            return Err(refused("it is a directory, not an archive"));
        }
        Ok(metadata) if !metadata.is_file() => return Err(refused("it is not a regular file")),
        Ok(metadata) if metadata.len() == 0 => return Err(refused("it is empty")),
        _ => {}
    }
    match root.filter(|_| src.starts_with(&options.deploy_to)) {
        // In the deploy root, where other users may write, links are not followed.
        Some(root) => root.locate(src).and_then(|(dir, name)| dir.open_file(name)),
        None => open_followed(src).or_fail("open", src),
    }
}

fn no_archive(options: &Options, cause: &str) -> Failure {
    Failure::new("no_archive", format!("cannot unpack '{}'", options.src))
        .cause(cause)
        .remedy("set src (ansistrano_deploy_from) to the archive")
        .path(options.src.as_path())
}

/// Compares checksums, in the form of the option.
fn check(wanted: &str, actual: &str, options: &Options) -> Result<(), Failure> {
    let digits = wanted.strip_prefix("sha256:").unwrap_or_default().trim();
    if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(Failure::new(
            "bad_checksum_option",
            format!("'{}' is not a checksum", wanted.escape_debug()),
        )
        .remedy("use the form sha256:<64 hexadecimal digits>"));
    }
    if digits.eq_ignore_ascii_case(actual) {
        return Ok(());
    }
    Err(Failure::new("wrong_checksum", format!("'{}' has the wrong checksum", options.src))
        .cause(format!("it has sha256:{actual}, not sha256:{digits}"))
        .remedy("build or fetch the archive again, or correct the checksum")
        .path(options.src.as_path()))
}

fn diff(path: &str) -> Diff {
    Diff { header: path.to_owned(), before: vec!["absent".into()], after: vec!["release".into()] }
}
