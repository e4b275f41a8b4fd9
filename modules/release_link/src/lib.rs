//! Links a release to what releases share.
//!
//! Does: puts a relative link to `shared` at each shared path of the release, in place
//! of whatever the artifact has there. Requires: the release. After a failure: the
//! release is not live yet and can be linked again; nothing in `shared` is ever touched.

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
        /// How O(current_dir) leads to the release. With V(rsync) the release also gets a
        /// C(.rsync-filter) that names the shared paths, as the upstream role makes it.
        current_via: Via, default = Some(Literal::Text("symlink"));
        /// Wait until the release is on the disk, which takes as long as the disk needs for what was
        /// unpacked. Here, while the site is open, and not in M(oxistrano.deploy.release_activate).
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
                    "'{path}' is linked, but it is not in '{}' yet",
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
        // Also what was linked already: an earlier try may have died here.
        if options.durable && !context.check_mode {
            durable::secure(&root, &release)
                .map_err(|failure| failure.state("The release is linked, and not live."))?;
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

/// In check mode the release has not been made; otherwise it is an error.
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

/// The text of the filter file, if it has to be written.
fn filter(options: &Options, release: &Dir, paths: &[RelPath]) -> Result<Option<String>, Failure> {
    if options.current_via != Via::Rsync {
        return Ok(None);
    }
    let text = paths.iter().fold(String::new(), |text, path| text + &format!("- /{path}\n"));
    let now = release.read(FILTER).map_err(|failure| failure.state("Nothing was changed."))?;
    // With nothing to share, upstream leaves no file.
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
