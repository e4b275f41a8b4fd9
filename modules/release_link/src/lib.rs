//! Links a release to what releases share.
//!
//! Does: puts a relative link to `shared` at each shared path of the release, in place
//! of whatever the artifact has there. Requires: the release. After a failure: the
//! release is not live yet and can be linked again; nothing in `shared` is ever touched.

mod docs;

use std::path::{Path, PathBuf};

use oxistrano_core::{
    remove, Context, Diff, Dir, Documentation, Failure, Literal, Module, Outcome, RelPath,
};
use oxistrano_releases::{release_options, shared_links, Layout, Root, Version, Via};

/// What the upstream role writes for its `rsync` into `current`, and what we keep for
/// those who call rsync in hooks of their own.
const FILTER: &str = ".rsync-filter";

release_options! {
    /// The options of `release_link`.
    pub struct Options {
        /// The release to link.
        version: Version;
        /// Directories that releases share, relative to O(shared_dir).
        shared_paths: Vec<RelPath>;
        /// Files that releases share, relative to O(shared_dir).
        shared_files: Vec<RelPath>;
        /// How V(current) leads to the release. With V(rsync) the release also gets a
        /// C(.rsync-filter) that names the shared paths, as the upstream role makes it.
        current_via: Via, default = Some(Literal::Text("symlink"));
    }
}

/// The module.
pub struct ReleaseLink;

impl Module for ReleaseLink {
    type Options = Options;
    const NAME: &'static str = "release_link";
    const DOCUMENTATION: Documentation = docs::DOCUMENTATION;

    fn run(options: Options, context: &Context) -> Result<Outcome, Failure> {
        let links = shared_links(&options.shared_paths, &options.shared_files);
        let layout = options.layout();
        let Some(root) = Root::open_if_there(&layout)? else {
            return absent(&options, context, links.paths.len());
        };
        root.require_unlocked(&options.deployer)?;
        let there = match root.releases_if_there()? {
            Some(releases) => releases.lookup(&options.version)?.is_some(),
            None => false,
        };
        if !there {
            return absent(&options, context, links.paths.len());
        }
        let release = root.releases()?.open_dir(&options.version)?;
        let planned = plan(&release, &layout, &links.paths)?;
        let filter = filter(&options, &release, &links.paths)?;
        let changed = !planned.is_empty() || filter.is_some();
        let missing = links.paths.iter().filter(|path| !layout.shared_path().join(path).exists());
        let warnings: Vec<_> = missing
            .map(|path| {
                format!(
                    "'{path}' is linked, but it is not in '{}' yet",
                    layout.shared_path().display()
                )
            })
            .collect();
        if changed && !context.check_mode {
            let root = root.exclusively()?;
            root.require_unlocked(&options.deployer)?;
            for link in &planned {
                link.apply(&release)?;
            }
            if let Some(text) = &filter {
                release.write(FILTER, text.as_bytes(), 0o666)?;
            }
        }
        Ok(Outcome::new(changed)
            .msg(format!(
                "{} of {} shared paths {}",
                planned.len(),
                links.paths.len(),
                verb(context)
            ))
            .value("linked", planned.iter().map(|link| link.path.to_string()).collect::<Vec<_>>())
            .diff(diff(&release, &planned))
            .warnings(links.warnings)
            .warnings(warnings))
    }
}

fn verb(context: &Context) -> &'static str {
    if context.check_mode {
        "would be linked"
    } else {
        "linked"
    }
}

/// In check mode the release has not been made; otherwise it is an error.
fn absent(options: &Options, context: &Context, count: usize) -> Result<Outcome, Failure> {
    if context.check_mode {
        return Ok(Outcome::new(count > 0).msg(format!("would link {count} shared paths")));
    }
    let path = options.layout().release_path(&options.version);
    Err(Failure::new("no_release", format!("cannot link release {}", options.version))
        .cause(format!("'{}' does not exist", path.display()))
        .remedy("deploy it first (release_unpack or release_copy)")
        .state("Nothing was changed.")
        .path(path))
}

/// One link to make.
struct Link {
    path: RelPath,
    target: PathBuf,
    /// What is there now, in words; `None`: nothing.
    instead_of: Option<String>,
}

fn plan(release: &Dir, layout: &Layout, paths: &[RelPath]) -> Result<Vec<Link>, Failure> {
    let mut links = Vec::new();
    for path in paths {
        let target = target(layout, path);
        let instead_of = match parent(release, path)? {
            None => None,
            Some(dir) => match dir.lookup(path.name())? {
                None => None,
                Some(info) if info.is_symlink() => {
                    let now = dir.read_link(path.name())?.unwrap_or_default();
                    if now == target {
                        continue;
                    }
                    Some(format!("link to {}", now.display()))
                }
                Some(info) => Some(info.noun().to_owned()),
            },
        };
        links.push(Link { path: path.clone(), target, instead_of });
    }
    Ok(links)
}

/// `../../shared/var`: as the upstream role writes it, for releases of any depth.
fn target(layout: &Layout, path: &RelPath) -> PathBuf {
    let up = path.depth() + layout.releases_dir.depth();
    std::iter::repeat_n(Path::new(".."), up)
        .chain([layout.shared_dir.as_path(), path.as_path()])
        .collect()
}

/// The directory in the release that will hold the link, if it is there.
fn parent(release: &Dir, path: &RelPath) -> Result<Option<Dir>, Failure> {
    let mut dir = release.duplicate()?;
    let Some(parent) = path.parent() else { return Ok(Some(dir)) };
    for name in parent.names() {
        match dir.lookup(name)? {
            None => return Ok(None),
            Some(info) if info.is_dir() => dir = dir.open_dir(name)?,
            Some(info) => {
                let at = dir.at(name);
                return Err(Failure::new(
                    "blocked_path",
                    format!("cannot link the shared path '{path}'"),
                )
                .cause(format!(
                    "'{}' in the release is {}, not a directory",
                    at.display(),
                    info.noun()
                ))
                .remedy("share that one, or leave it out of the artifact")
                .state("Nothing was changed.")
                .path(at));
            }
        }
    }
    Ok(Some(dir))
}

impl Link {
    fn apply(&self, release: &Dir) -> Result<(), Failure> {
        let dir = match self.path.parent() {
            Some(parent) => make_dirs(release, &parent)?,
            None => release.duplicate()?,
        };
        let name = self.path.name();
        if !dir.lookup(name)?.is_some_and(|info| info.is_dir()) {
            return dir.replace_with_symlink(name, &self.target);
        }
        // A directory of the artifact: exchanged with the link, so that a release which
        // is live already never lacks it.
        let link = dir.temporary(name);
        dir.make_symlink(&link, &self.target)?;
        if dir.exchange(&link, name)? {
            remove::remove_tree(&dir, link)?;
        } else {
            remove::remove_tree(&dir, name)?;
            dir.rename(&link, name)?;
        }
        Ok(())
    }
}

/// Makes the directories above a link, following no link of the artifact.
fn make_dirs(release: &Dir, path: &RelPath) -> Result<Dir, Failure> {
    path.names().try_fold(release.duplicate()?, |dir, name| {
        dir.make_dir_if_missing(name)?;
        dir.open_dir(name)
    })
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

fn diff(release: &Dir, links: &[Link]) -> Diff {
    let line = |link: &Link, what: &str| format!("{}: {what}", link.path);
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
