//! Makes a release from a directory on the host.
//!
//! Does: copies the tree under a temporary name, onto the spare if there is one, or takes the fetched
//! tree; writes `REVISION`, renames it.
//! Requires: the directories that `release_setup` makes. After a failure: the release is absent and
//! nothing else has changed, the source included.

mod docs;
mod tracked;

use std::path::PathBuf;

use oxistrano_core::{
    AbsPath, Constraint, Context, Diff, Dir, Documentation, Failure, Literal, Module, Outcome,
    RelPath,
};
use oxistrano_releases::{
    Built, Placement, Root, STAGING_NAME, Site, Staging, Version, release_options, shared_links,
    trash,
};
use oxistrano_tree::{CopyOptions, Method, Spare, copy_onto, copy_tree};

/// Failures that would also happen without the spare: of the source, or an interruption.
const NOT_OF_THE_SPARE: [&str; 6] =
    ["source_changed", "special_file", "missing", "mount_point", "recursion", "interrupted"];

oxistrano_core::choices! {
    /// How to copy a file.
    pub enum How {
        /// A reflink if the file system supports it, else a copy.
        Auto = "auto",
        /// Always a copy of the bytes.
        Copy = "copy",
        /// A hard link: source and release share the file.
        Hardlink = "hardlink",
    }
}

release_options! {
    /// The options of `release_copy`.
    pub struct Options {
        /// The release to make, the name of its directory.
        version: Version;
        /// The directory on the host to copy. By default, the staging directory of
        /// M(oxistrano.deploy.release_setup), which is renamed instead of copied.
        src: Option<AbsPath>;
        /// How files are copied. With V(hardlink), a file that is later written in place changes in
        /// O(src) and in the release.
        method: How, default = Some(Literal::Text("auto"));
        /// Paths to leave out, relative to O(src), with everything below them.
        exclude: Vec<RelPath>;
        /// Whether O(src) is a Git work tree of which to copy only the files that Git tracks,
        /// including those of submodules.
        git_tracked: bool, default = Some(Literal::Flag(false));
        /// The C(git) program that lists the tracked files.
        git_executable: PathBuf, default = Some(Literal::Text("git"));
        /// Copy only what is below this directory of O(src).
        subtree: Option<RelPath>;
        /// The content of the file C(REVISION) in the release. By default, O(version).
        revision: Option<String>;
        /// Build the release from the spare, an unneeded release that
        /// M(oxistrano.deploy.release_prune) has kept, if there is one: files that are the same in
        /// O(src) stay, only the others are copied. The result is the same as without it. With
        /// O(method=hardlink), a file stays if it is still a hard link to the file in O(src).
        spare: bool, default = Some(Literal::Flag(true));
        /// Replace a release of this version even if it is live, or if no deploy has made it. The
        /// replaced release is kept until the switch; if the deploy fails before that, it is
        /// restored.
        force: bool, default = Some(Literal::Flag(false));
        /// Directories that releases share. Only needed with O(force): a release that replaces the
        /// live one needs its links before it does.
        shared_paths: Vec<RelPath>;
        /// Files that releases share; otherwise as O(shared_paths).
        shared_files: Vec<RelPath>;
    }
    constraints: [
        Constraint::RequiredBy("git_tracked", &["src"]),
        Constraint::RequiredBy("subtree", &["src"]),
        Constraint::RequiredBy("exclude", &["src"]),
    ];
}

/// The module.
pub struct ReleaseCopy;

/// The module as a program.
pub const PROGRAM: oxistrano_core::Program = oxistrano_releases::program::<ReleaseCopy>();

impl Module for ReleaseCopy {
    type Options = Options;
    const NAME: &'static str = "release_copy";
    const DOCUMENTATION: Documentation = docs::DOCUMENTATION;

    fn run(options: Options, context: &Context) -> Result<Outcome, Failure> {
        run(&options, context).map_err(|failure| failure.state("Nothing was changed."))
    }
}

fn run(options: &Options, context: &Context) -> Result<Outcome, Failure> {
    let layout = options.layout();
    let revision = options.revision.as_deref().unwrap_or(options.version.as_str());
    let path = layout.release_path(&options.version).display().to_string();
    let from = match &options.src {
        Some(src) => src.as_path().to_owned(),
        None => layout.releases_path().join(STAGING_NAME),
    };
    let result = |changed, msg: String| {
        Outcome::new(changed)
            .msg(msg)
            .value("release_path", path.clone())
            .value("version", options.version.as_str())
            .value("revision", revision)
            .diff(Diff {
                header: path.clone(),
                before: vec!["absent".into()],
                after: vec!["release".into()],
            })
    };
    let would = || result(true, format!("would make {} from {}", options.version, from.display()));
    let root = match Root::open_if_there(&layout)? {
        None if context.check_mode => return Ok(would()),
        Some(root) => root,
        None => Root::open(layout.clone())?,
    };
    let (root, _) = root.changing(&options.deployer, context.check_mode)?;
    let shared = shared_links(&options.shared_paths, &options.shared_files).paths;
    let placement = Placement {
        root: &root,
        version: &options.version,
        revision,
        source: None,
        force: options.force,
        shared: &shared,
    };
    placement.decide()?;
    // In check mode nothing was fetched, so the source may not exist yet.
    if context.check_mode {
        return Ok(would());
    }
    let releases = root.releases()?;
    placement.begin(&options.deployer)?;
    let (staging, mut trash, outcome) = match &options.src {
        None => {
            let staging = Staging::adopt(&releases).map_err(|failure| {
                failure
                    .while_trying("no files have been fetched")
                    .remedy("run release_setup first, and fetch into its staging_path")
            })?;
            (staging, Vec::new(), result(true, format!("made {path} from what was fetched")))
        }
        Some(src) => {
            let source = open_source(&root, src)?;
            let copy_options = copy_options(options, &source)?;
            let site = Site {
                releases: &releases,
                spare: options.spare,
                not_of_the_spare: &NOT_OF_THE_SPARE,
            };
            let built = site.build(
                |tree, grave| copy_onto(&source, tree, &copy_options, Spare::new(grave)?),
                |tree| copy_tree(&source, tree, &copy_options),
            );
            let Built { staging, made: copied, trash, warning } = built.map_err(|failure| {
                failure.state("The unfinished release was removed; the live release is unchanged.")
            })?;
            let outcome = result(true, format!("copied {} files into {path}", copied.files))
                .value("files", copied.files)
                .value("directories", copied.directories)
                .value("links", copied.links)
                .value("bytes", copied.bytes)
                .value("reflinked", copied.cloned)
                .value("hardlinked", copied.linked)
                .value("kept_files", copied.kept)
                .value("kept_bytes", copied.kept_bytes)
                .warnings(warning);
            (staging, trash, outcome)
        }
    };
    trash.extend(placement.finish(staging)?);
    Ok(outcome.warnings(trash::empty_later(&releases, &trash)))
}

fn copy_options(options: &Options, source: &Dir) -> Result<CopyOptions, Failure> {
    let only = match options.git_tracked {
        true => Some(tracked::files(&options.git_executable, source, options.subtree.as_ref())?),
        false => None,
    };
    Ok(CopyOptions {
        method: match options.method {
            How::Auto => Method::Reflink,
            How::Copy => Method::Copy,
            How::Hardlink => Method::Hardlink,
        },
        exclude: options.exclude.clone(),
        // Git does not track directories, so the release's own has default permissions.
        root_metadata: only.is_none(),
        only,
        subtree: options.subtree.clone(),
        inherit: true,
        ..CopyOptions::default()
    })
}

fn open_source(root: &Root, src: &AbsPath) -> Result<Dir, Failure> {
    match src.as_path().metadata() {
        Ok(metadata) if !metadata.is_dir() => {
            let remedy = "set src to the directory that is to become the release; for an archive use \
                 release_unpack";
            Err(Failure::new("no_source", format!("cannot copy '{src}'"))
                .cause("it is not a directory")
                .remedy(remedy)
                .path(src.as_path()))
        }
        Err(error) => Err(Failure::io("copy", src.as_path(), error)),
        // In the deploy root, where others may write, their links are not followed.
        Ok(_) if src.as_path().starts_with(&root.layout().deploy_to) => {
            let (parent, name) = root.locate(src.as_path())?;
            parent.open_trusted_dir(name)
        }
        Ok(_) => Dir::open(src.as_path()),
    }
}
