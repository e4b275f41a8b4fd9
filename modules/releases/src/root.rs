//! The open deploy root and its state directory.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{self, FlockOperation, OFlags};
use rustix::io::Errno;

use oxistrano_core::json::{Value, json};
use oxistrano_core::{AbsPath, Dir, Failure, RelPath, STATE_DIRECTORY, users};

use crate::Version;

const MUTEX: &str = "mutex";
/// How long a module waits for another one in the same root.
const PATIENCE: Duration = Duration::from_secs(10);

/// The paths in a deploy root.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The root.
    pub deploy_to: AbsPath,
    /// The releases, below it.
    pub releases_dir: RelPath,
    /// The shared directory, below it.
    pub shared_dir: RelPath,
    /// The link or directory of the active one.
    pub current_dir: RelPath,
}

impl Layout {
    /// Fails if one of its directories is inside another.
    fn check(&self) -> Result<(), Failure> {
        let state = RelPath::new(STATE_DIRECTORY).map_err(|why| Failure::new("bad_layout", why))?;
        let named = [
            ("releases_dir", &self.releases_dir),
            ("shared_dir", &self.shared_dir),
            ("current_dir", &self.current_dir),
            ("the state directory", &state),
        ];
        for (what, path) in named {
            for (other_what, other) in named {
                if what != other_what && path.is_within(other) {
                    return Err(Failure::new(
                        "bad_layout",
                        format!("cannot use '{}' as a deploy root", self.deploy_to),
                    )
                    .cause(format!("{what} '{path}' is inside {other_what} '{other}'"))
                    .remedy("use separate directories")
                    .state("Nothing was changed."));
                }
            }
        }
        Ok(())
    }

    /// The absolute path of the releases.
    pub fn releases_path(&self) -> PathBuf {
        self.deploy_to.as_path().join(&self.releases_dir)
    }

    /// The absolute path of the shared directory.
    pub fn shared_path(&self) -> PathBuf {
        self.deploy_to.as_path().join(&self.shared_dir)
    }

    /// The absolute path of `current`.
    pub fn current_path(&self) -> PathBuf {
        self.deploy_to.as_path().join(&self.current_dir)
    }

    /// The absolute path of a release.
    pub fn release_path(&self, version: &Version) -> PathBuf {
        self.releases_path().join(version)
    }

    /// The target of the link `current`: `./releases/7`, the form of the upstream role, with as
    /// many `..` as `current` is deep.
    pub fn link_target(&self, version: &Version) -> PathBuf {
        let up = self.current_dir.depth() - 1;
        let mut target = PathBuf::from(".");
        target.extend(std::iter::repeat_n("..", up));
        target.join(&self.releases_dir).join(version)
    }
}

/// An open deploy root.
#[derive(Debug)]
pub struct Root {
    layout: Layout,
    dir: Dir,
    /// Locked while a module that changes something is running.
    _mutex: Option<File>,
}

impl Root {
    /// Opens a root that must exist.
    ///
    /// # Errors
    /// `no_deploy_root` with what to do.
    pub fn open(layout: Layout) -> Result<Self, Failure> {
        Self::open_if_there(&layout)?.ok_or_else(|| {
            Failure::new(
                "no_deploy_root",
                format!("the deploy root '{}' does not exist", layout.deploy_to),
            )
            .remedy("run release_setup first, or correct deploy_to")
            .state("Nothing was changed.")
            .path(layout.deploy_to.as_path())
        })
    }

    /// Opens a root; `None` if it does not exist.
    ///
    /// # Errors
    /// When it is not a directory.
    pub fn open_if_there(layout: &Layout) -> Result<Option<Self>, Failure> {
        let path = layout.deploy_to.as_path();
        if path.parent().is_none() {
            return Err(Failure::new(
                "bad_deploy_root",
                "the file system's root cannot be a deploy root",
            )
            .remedy("set deploy_to to a separate directory")
            .state("Nothing was changed."));
        }
        layout.check()?;
        match path.metadata() {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => {
                return Err(Failure::new(
                    "bad_deploy_root",
                    format!("'{path}' cannot be a deploy root", path = layout.deploy_to),
                )
                .cause("it is a file, not a directory")
                .remedy("move it away, or set another deploy_to")
                .state("Nothing was changed.")
                .path(path));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(Failure::io("examine", path, error).state("Nothing was changed."));
            }
        }
        Ok(Some(Self { layout: layout.clone(), dir: Dir::open(path)?, _mutex: None }))
    }

    /// The paths.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The root directory.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Space on its file system, as df(1) counts it; null if that is not known.
    pub fn disk(&self) -> Value {
        let Ok(disk) = fs::fstatvfs(&self.dir) else { return Value::Null };
        json!({
            "total": disk.f_blocks.saturating_mul(disk.f_frsize),
            "available": disk.f_bavail.saturating_mul(disk.f_frsize),
            "inodes": disk.f_files,
            "inodes_available": disk.f_favail,
        })
    }

    /// For people.
    pub fn describe(&self) -> String {
        format!("'{}'", self.layout.deploy_to)
    }

    /// The directory of the releases.
    ///
    /// # Errors
    /// When it is missing.
    pub fn releases(&self) -> Result<Dir, Failure> {
        self.dir.open_below(&self.layout.releases_dir)
    }

    /// The directory of the releases; `None` if it does not exist.
    ///
    /// # Errors
    /// When it is not a directory.
    pub fn releases_if_there(&self) -> Result<Option<Dir>, Failure> {
        match self.dir.lookup(&self.layout.releases_dir)? {
            None => Ok(None),
            Some(_) => self.releases().map(Some),
        }
    }

    /// The directory that contains `current`.
    ///
    /// # Errors
    /// When it is missing.
    pub fn current_parent(&self) -> Result<Dir, Failure> {
        match self.layout.current_dir.parent() {
            Some(parent) => self.dir.open_below(&parent),
            None => self.dir.duplicate(),
        }
    }

    /// Opens the directory of a path; returns it and the name in it. Below the deploy root, where
    /// others may write, their links are not followed; elsewhere, the administrator's path is
    /// trusted.
    ///
    /// # Errors
    /// When the directory cannot be opened.
    pub fn locate(&self, path: &Path) -> Result<(Dir, OsString), Failure> {
        let name = path.file_name().unwrap_or_default().to_owned();
        let parent = path.parent().unwrap_or(Path::new("/"));
        let dir = match parent.strip_prefix(self.layout.deploy_to.as_path()) {
            Ok(below) => match RelPath::new(below) {
                Ok(below) => self.dir.open_below(&below)?,
                // The deploy root itself.
                Err(_) => self.dir.duplicate()?,
            },
            Err(_) => Dir::open(parent)?,
        };
        Ok((dir, name))
    }

    /// The path of the state directory.
    pub fn state_path(&self) -> PathBuf {
        self.layout.deploy_to.as_path().join(STATE_DIRECTORY)
    }

    /// The state directory; created if it is missing.
    ///
    /// # Errors
    /// An I/O error.
    pub fn state(&self) -> Result<Dir, Failure> {
        self.dir.make_dir_if_missing(STATE_DIRECTORY)?;
        self.open_state()
    }

    fn open_state(&self) -> Result<Dir, Failure> {
        let there = self.dir.lookup(STATE_DIRECTORY)?;
        self.dir.open_dir(STATE_DIRECTORY).map_err(|failure| match there {
            Some(info) if !info.is_dir() => failure
                .also(&format!("it is {}", info.noun()))
                .remedy("Oxistrano keeps its own directory there: move it away")
                .state("Nothing was changed."),
            _ => failure,
        })
    }

    /// The state directory; `None` if Oxistrano has deployed nothing yet.
    ///
    /// # Errors
    /// When it is not a directory.
    pub fn state_if_there(&self) -> Result<Option<Dir>, Failure> {
        match self.dir.lookup(STATE_DIRECTORY)? {
            None => Ok(None),
            Some(_) => self.open_state().map(Some),
        }
    }

    /// Makes sure that no other module works in this root until this process ends.
    ///
    /// # Errors
    /// `busy` when another one does not end within ten seconds.
    pub fn exclusively(mut self) -> Result<Self, Failure> {
        let state = self.state()?;
        let path = state.at(MUTEX);
        // A user who can open it can lock it: only its owner and users who could also remove it.
        let there = state.lookup(MUTEX)?;
        let opened = state.open_for_team(MUTEX, OFlags::empty(), 0o600);
        let mut file = opened.map_err(|failure| match there {
            Some(info) if !info.is_file() => failure
                .also(&format!("it is {}", info.noun()))
                .remedy("Oxistrano needs a file with this name: remove it")
                .state("Nothing was changed."),
            _ => failure,
        })?;
        let started = Instant::now();
        loop {
            match fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK | Errno::INTR) => {}
                Err(error) => return Err(Failure::io("lock", &path, error)),
            }
            oxistrano_core::interrupt::check()?;
            if started.elapsed() > PATIENCE {
                let mut holder = String::new();
                let _ = file.take(20).read_to_string(&mut holder);
                return Err(Failure::new("busy", format!("{} is busy", self.describe()))
                    .cause(format!(
                        "another Oxistrano module is running there (process {})",
                        holder.trim()
                    ))
                    .remedy("try again when it has ended")
                    .state("Nothing was changed.")
                    .path(path));
            }
            sleep(Duration::from_millis(50));
        }
        // Only for the message above.
        let _ = file
            .set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| write!(file, "{}", std::process::id()));
        self._mutex = Some(file);
        Ok(self)
    }
}

/// The name of this process's user, for the lock and the history.
pub fn local_user() -> String {
    let uid = users::current();
    // The name is only shown, so a directory server that does not answer is not a failure.
    users::by_id(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub fn layout(path: &std::path::Path) -> Layout {
        Layout {
            deploy_to: AbsPath::new(path).unwrap(),
            releases_dir: RelPath::new("releases").unwrap(),
            shared_dir: RelPath::new("shared").unwrap(),
            current_dir: RelPath::new("current").unwrap(),
        }
    }

    /// An empty deploy root with its directories.
    pub fn scratch() -> (tempfile::TempDir, Root) {
        let scratch = tempfile::tempdir().unwrap();
        for name in ["releases", "shared"] {
            std::fs::create_dir(scratch.path().join(name)).unwrap();
        }
        let root = Root::open(layout(scratch.path())).unwrap();
        (scratch, root)
    }

    #[test]
    fn links_have_the_form_of_the_upstream_role() {
        let mut layout = layout(std::path::Path::new("/srv/shop"));
        let version = Version::new("7").unwrap();
        assert_eq!(layout.link_target(&version), PathBuf::from("./releases/7"));
        layout.current_dir = RelPath::new("web/live").unwrap();
        assert_eq!(layout.link_target(&version), PathBuf::from("./../releases/7"));
    }

    #[test]
    fn directories_inside_one_another_are_refused() {
        let scratch = tempfile::tempdir().unwrap();
        for (releases, shared, current) in [
            ("current", "shared", "current"),
            ("releases", "releases/shared", "current"),
            ("releases", "shared", "shared/current"),
            (".oxistrano", "shared", "current"),
        ] {
            let mut layout = layout(scratch.path());
            layout.releases_dir = RelPath::new(releases).unwrap();
            layout.shared_dir = RelPath::new(shared).unwrap();
            layout.current_dir = RelPath::new(current).unwrap();
            assert_eq!(Root::open(layout).unwrap_err().code(), "bad_layout");
        }
    }

    #[test]
    fn a_mutex_that_is_no_file_is_refused_and_never_waited_for() {
        let (_scratch, root) = scratch();
        let path = root.state().unwrap().at(MUTEX);
        let fifo = rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o666),
            0,
        );
        fifo.unwrap();
        let error = root.exclusively().unwrap_err().to_string();
        assert!(error.contains("it is not a regular file"), "{error}");
    }

    #[test]
    fn a_file_is_no_deploy_root() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Root::open(layout(file.path())).unwrap_err().to_string();
        assert!(error.contains("it is a file, not a directory"), "{error}");
        let error = Root::open(layout(std::path::Path::new("/no/such/root"))).unwrap_err();
        assert_eq!(error.code(), "no_deploy_root");
    }
}
