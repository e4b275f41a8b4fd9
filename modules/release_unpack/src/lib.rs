//! Unpacks an artifact into a new release.
//!
//! Does: checks the checksum, unpacks beside the final place, writes `REVISION`,
//! renames, removes the archive. Requires: the directories that `release_setup` makes.
//! After a failure: the release is absent and nothing else has changed.

mod docs;
mod tar_options;

use std::fs::File;
use std::io::ErrorKind;

use oxistrano_archive::{self as archive, Limits, Pattern, UnpackOptions};
use oxistrano_core::{
    users, AbsPath, Context, Diff, Documentation, Failure, IoContext, Literal, Mode, Module,
    Outcome, RelPath,
};
use oxistrano_releases::{
    release_options, shared_links, trash, Decision, Placement, Root, Staging, Version,
};

release_options! {
    /// The options of `release_unpack`.
    pub struct Options {
        /// The release to make, the name of its directory.
        version: Version;
        /// The archive: a tar (plain, gzip, zstd, xz or bzip2) or a zip, known by its content.
        /// A file on the controller, looked for like the C(src) of M(ansible.builtin.copy), or with
        /// O(remote_src) an absolute path on the host.
        src: AbsPath;
        /// Whether O(src) is on the host.
        remote_src: bool, default = Some(Literal::Flag(false));
        /// C(sha256:) and 64 hexadecimal digits. Checked before anything is written.
        checksum: Option<String>;
        /// Owner of all that is unpacked: a name or a number. If it is not given, as C(tar) does: the
        /// archive's owners for root, else the executing user.
        owner: Option<String>;
        /// Group of all that is unpacked; otherwise as O(owner).
        group: Option<String>;
        /// Permissions of files: octal in quotes (V('0644')) or symbolic (V(u=rwX,go=rX)), applied to
        /// those in the archive. If it is not given, those in the archive, less the umask unless root.
        mode: Option<Mode>;
        /// Permissions of directories; otherwise as O(mode).
        directory_mode: Option<Mode>;
        /// The number of leading names to drop from each path.
        strip_components: u32, default = Some(Literal::Number(0));
        /// Patterns of what to leave out, as for C(tar --exclude): V(*.pdf), V(dev/tests).
        exclude: Vec<String>;
        /// Options as for C(tar), for those who come from M(ansible.builtin.unarchive):
        /// C(--strip-components=N), C(--exclude=PATTERN), C(--no-same-owner), C(--same-owner),
        /// C(--no-same-permissions), C(--same-permissions). Others are refused.
        extra_opts: Vec<String>;
        /// What the file C(REVISION) in the release says. The version, if it is not given.
        revision: Option<String>;
        /// Remove O(src) from the host when the release is in its place. What the action plugin
        /// brought is removed in any case.
        remove_src: bool, default = Some(Literal::Flag(false));
        /// Replace a release of this version even if it is live or no deploy has made it. What was
        /// live is kept until the switch; a deploy that fails before it puts it back.
        force: bool, default = Some(Literal::Flag(false));
        /// Directories that releases share. Only for O(force): a release that takes the place of the
        /// live one is linked to them before it does.
        shared_paths: Vec<RelPath>;
        /// Files that releases share; otherwise as O(shared_paths).
        shared_files: Vec<RelPath>;
        /// Refuse archives that unpack to more bytes than this.
        max_bytes: u64, default = Some(Literal::Number(64 << 30));
        /// Refuse archives with more entries than this.
        max_entries: u64, default = Some(Literal::Number(2_000_000));
    }
}

/// The module.
pub struct ReleaseUnpack;

impl Module for ReleaseUnpack {
    type Options = Options;
    const NAME: &'static str = "release_unpack";
    const DOCUMENTATION: Documentation = docs::DOCUMENTATION;

    fn run(options: Options, context: &Context) -> Result<Outcome, Failure> {
        run(&options, context).map_err(|failure| failure.state("Nothing was changed."))
    }
}

fn run(options: &Options, context: &Context) -> Result<Outcome, Failure> {
    let unpack_options = unpack_options(options)?;
    let src = options.src.as_path();
    let layout = options.layout();
    let existing = Root::open_if_there(&layout)?;
    let file = open(options, existing.as_ref())?;
    let format = archive::format_of(&file, src)?;
    let revision = options.revision.as_deref().unwrap_or(options.version.as_str());
    let path = layout.release_path(&options.version).display().to_string();
    let result = |changed, msg: String| {
        Outcome::new(changed)
            .msg(msg)
            .value("release_path", path.clone())
            .value("version", options.version.as_str())
            .value("revision", revision)
            .value("format", format.name())
    };
    // Read twice only where something depends on it before anything is written.
    let mut known = None;
    if options.checksum.is_some() || layout.release_path(&options.version).exists() {
        let sha256 = archive::sha256(&file, src)?;
        if let Some(checksum) = &options.checksum {
            check(checksum, &sha256, options)?;
        }
        known = Some(sha256);
    }
    let root = match existing {
        None if context.check_mode => {
            let there = archive::list(&file, src, &unpack_options)?;
            let msg = format!("would unpack {} files into {path}", there.files);
            return Ok(result(true, msg).diff(diff(&path)));
        }
        Some(root) => root,
        None => Root::open(layout.clone())?,
    };
    let (root, _) = root.changing(&options.deployer, context.check_mode)?;
    let shared = shared_links(&options.shared_paths, &options.shared_files).paths;
    let known_source = known.as_deref().map(|sha256| source(options, sha256));
    let placement = Placement {
        root: &root,
        version: &options.version,
        revision,
        source: known_source.as_deref(),
        force: options.force,
        shared: &shared,
    };
    if placement.decide()? == Decision::Unchanged {
        return Ok(result(false, format!("{} is there, from the same archive", options.version)));
    }
    if context.check_mode {
        let there = archive::list(&file, src, &unpack_options)?;
        let msg = format!("would unpack {} files into {path}", there.files);
        return Ok(result(true, msg).diff(diff(&path)));
    }
    placement.begin(&options.deployer)?;
    let releases = root.releases()?;
    let staging = Staging::create(&releases)?;
    let unpacked =
        archive::unpack(&file, src, staging.dir(), &unpack_options).map_err(|failure| {
            failure.state("The unfinished release was removed; what was live is untouched.")
        })?;
    // As a recursive chown does; an archive need not say anything of its top.
    if unpack_options.owner.is_some() || unpack_options.group.is_some() {
        let info = staging.dir().info()?;
        let uid = unpack_options.owner.unwrap_or(info.uid());
        staging.dir().set_owner(uid, unpack_options.group.unwrap_or(info.gid()))?;
    }
    let sha256 = known.as_deref().or(unpacked.sha256.as_deref());
    let made_from = sha256.map(|sha256| source(options, sha256));
    let replaced = Placement { source: made_from.as_deref(), ..placement }.finish(staging)?;
    let later = trash::empty_later(&releases, replaced.as_slice());
    let mut outcome = result(true, format!("unpacked {} files into {path}", unpacked.files))
        .value("checksum", sha256.map(|sha256| format!("sha256:{sha256}")))
        .value("files", unpacked.files)
        .value("directories", unpacked.directories)
        .value("links", unpacked.links)
        .value("bytes", unpacked.bytes)
        .diff(diff(&path))
        .warnings(later);
    if options.remove_src {
        // What was fetched into the staging directory has gone with it.
        let gone = match root.locate(src) {
            Ok((dir, name)) => dir.remove_file(name).map(drop),
            Err(_) if !src.exists() => Ok(()),
            Err(failure) => Err(failure),
        };
        outcome = outcome.warnings(gone.err().map(|failure| failure.to_string()));
    }
    Ok(outcome)
}

/// What a release is made from: the archive, and the options that decide what becomes of
/// it. The same again is the same release.
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
        apply_umask: !extra.same_permissions.unwrap_or_else(users::is_root),
        checksum: true,
        limits: Limits {
            max_entries: options.max_entries,
            max_bytes: options.max_bytes,
            ..Limits::default()
        },
    })
}

fn open(options: &Options, root: Option<&Root>) -> Result<File, Failure> {
    let src = options.src.as_path();
    let refused = |cause: &str| {
        Failure::new("no_archive", format!("cannot unpack '{}'", options.src))
            .cause(cause)
            .remedy("name the archive in src (ansistrano_deploy_from)")
            .path(src)
    };
    match src.metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(refused("there is no such file on the host"));
        }
        Ok(metadata) if metadata.is_dir() => {
            return Err(refused("it is a directory, not an archive"))
        }
        Ok(metadata) if !metadata.is_file() => return Err(refused("it is not a regular file")),
        Ok(metadata) if metadata.len() == 0 => return Err(refused("it is empty")),
        _ => {}
    }
    match root.filter(|_| src.starts_with(&options.deploy_to)) {
        // Where others may write, no link is followed.
        Some(root) => root.locate(src).and_then(|(dir, name)| dir.open_file(name)),
        None => File::open(src).or_fail("open", src),
    }
}

/// Compares, in the form that the option has.
fn check(wanted: &str, actual: &str, options: &Options) -> Result<(), Failure> {
    let digits = wanted.strip_prefix("sha256:").unwrap_or_default().trim();
    if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(Failure::new(
            "bad_checksum_option",
            format!("'{}' is no checksum", wanted.escape_debug()),
        )
        .remedy("write it as sha256:<64 hexadecimal digits>"));
    }
    if digits.eq_ignore_ascii_case(actual) {
        return Ok(());
    }
    Err(Failure::new("wrong_checksum", format!("'{}' has the wrong checksum", options.src))
        .cause(format!("it is sha256:{actual}, not sha256:{digits}"))
        .remedy("build or fetch the archive again, or correct the checksum")
        .path(options.src.as_path()))
}

fn diff(path: &str) -> Diff {
    Diff { header: path.to_owned(), before: vec!["absent".into()], after: vec!["release".into()] }
}
