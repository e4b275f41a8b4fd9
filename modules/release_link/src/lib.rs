//! Links the shared files and directories into a release.
//!
//! Does: puts a relative link to `shared` at each shared path of the release, replacing what the
//! artifact has there. Requires: the release. After a failure: the release is not live, and the
//! module can be run again; nothing in `shared` is ever changed.

mod docs;

use oxistrano_core::{
    Context, Diff, Dir, Documentation, Failure, Literal, Module, Outcome, RelPath,
};
use oxistrano_releases::switch::FILTER;
use oxistrano_releases::{Root, Version, Via, durable, links, release_options, shared_links};

release_options! {
    /// The options of `release_link`.
    pub struct Options {
        /// The release to link.
        version: Version;
        /// Directories that releases share, relative to O(shared_dir).
        shared_paths: Vec<RelPath>;
        /// Files that releases share, relative to O(shared_dir).
        shared_files: Vec<RelPath>;
        /// Whether O(current_dir) is a symbolic link to the live release or a copy of it. With
        /// V(rsync) the module also writes a file C(.rsync-filter) with the shared paths into the
        /// release, as the role C(ansistrano.deploy) does.
        current_via: Via, default = Some(Literal::Text("symlink"));
        /// Wait until all files of the release are written to disk. This is done here, while the
        /// old release still serves visitors, so that M(oxistrano.deploy.release_activate) does not
        /// have to wait.
        durable: bool, default = Some(Literal::Flag(true));
    }
}

/// The module.
pub struct ReleaseLink;

/// The module as a program.
pub const PROGRAM: oxistrano_core::Program = oxistrano_releases::program::<ReleaseLink>();

impl Module for ReleaseLink {
    type Options = Options;
    const NAME: &'static str = "release_link";
    const DOCUMENTATION: Documentation = docs::DOCUMENTATION;

    fn run(options: Options, context: &Context) -> Result<Outcome, Failure> {
        let shared = shared_links(&options.shared_paths, &options.shared_files);
        let layout = options.layout();
        let Some(root) = Root::open_if_there(&layout)? else {
            return absent(&options, context, &shared.paths);
        };
        let (root, _) = root.changing(&options.deployer, context.check_mode)?;
        let there = match root.releases_if_there()? {
            Some(releases) => releases.lookup(&options.version)?.is_some(),
            None => false,
        };
        if !there {
            return absent(&options, context, &shared.paths);
        }
        let release = root.releases()?.open_dir(&options.version)?;
        let planned = links::missing(&release, &shared.paths, |path| layout.shared_target(path))?;
        let filter = filter(&options, &release, &shared.paths)?;
        let changed = !planned.is_empty() || filter.is_some();
        let missing = shared.paths.iter().filter(|path| !layout.shared_path().join(path).exists());
        let warnings: Vec<_> = missing
            .map(|path| {
                format!(
                    "the link '{path}' was made, but its target does not exist in '{}' yet",
                    layout.shared_path().display()
                )
            })
            .collect();
        if changed && !context.check_mode {
            for link in &planned {
                link.make(&release)?;
            }
            if let Some(text) = &filter {
                release.write(FILTER, text.as_bytes(), 0o666)?;
            }
        }
        // Even if all links exist: an earlier try may have died here.
        if options.durable && !context.check_mode {
            durable::secure(&root, &release).map_err(|failure| {
                failure.state("The links were made; the release is not live.")
            })?;
        }
        Ok(Outcome::new(changed)
            .msg(format!(
                "{} of {} shared paths {}",
                planned.len(),
                shared.paths.len(),
                verb(context)
            ))
            .value("linked", planned.iter().map(|link| link.path.to_string()).collect::<Vec<_>>())
            .diff(diff(&release, &planned))
            .warnings(shared.warnings)
            .warnings(warnings))
    }
}

fn verb(context: &Context) -> &'static str {
    if context.check_mode { "would be linked" } else { "linked" }
}

/// In check mode the release does not exist yet; otherwise this is an error.
fn absent(options: &Options, context: &Context, paths: &[RelPath]) -> Result<Outcome, Failure> {
    let layout = options.layout();
    let path = layout.release_path(&options.version);
    if context.check_mode {
        let line =
            |path: &RelPath| format!("{path}: link to {}", layout.shared_target(path).display());
        let diff = Diff {
            header: path.display().to_string(),
            before: paths.iter().map(|path| format!("{path}: absent")).collect(),
            after: paths.iter().map(line).collect(),
        };
        return Ok(Outcome::new(!paths.is_empty())
            .msg(format!("would link {} shared paths", paths.len()))
            .value("linked", paths.iter().map(ToString::to_string).collect::<Vec<_>>())
            .diff(diff));
    }
    Err(Failure::new("no_release", format!("cannot link release {}", options.version))
        .cause(format!("'{}' does not exist", path.display()))
        .remedy("deploy it first (release_unpack or release_copy)")
        .state("Nothing was changed.")
        .path(path))
}

/// The content of the filter file, if it has to be written.
fn filter(options: &Options, release: &Dir, paths: &[RelPath]) -> Result<Option<String>, Failure> {
    if options.current_via != Via::Rsync {
        return Ok(None);
    }
    let text = paths.iter().fold(String::new(), |text, path| text + &format!("- /{path}\n"));
    let now = release.read(FILTER).map_err(|failure| failure.state("Nothing was changed."))?;
    // Without shared paths, the upstream role writes no file.
    if now.as_deref() == Some(text.as_bytes()) || (now.is_none() && text.is_empty()) {
        return Ok(None);
    }
    Ok(Some(text))
}

fn diff(release: &Dir, links: &[links::Link]) -> Diff {
    let line = |link: &links::Link, what: &str| format!("{}: {what}", link.path);
    Diff {
        header: release.path().display().to_string(),
        before: links
            .iter()
            .map(|link| line(link, link.instead_of.as_deref().unwrap_or("absent")))
            .collect(),
        after: links
            .iter()
            .map(|link| line(link, &format!("link to {}", link.target.display())))
            .collect(),
    }
}
