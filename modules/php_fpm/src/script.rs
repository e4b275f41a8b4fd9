//! The PHP script: written where the pool can read it and the web server does not serve it, and always removed.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs::{File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};

use oxistrano_core::{AbsPath, Dir, Failure, IoContext, STATE_DIRECTORY, users};

const SOURCE: &str = include_str!("ask.php");
const PREFIX: &str = ".oxistrano-php-fpm.";
const NAME: &str = "ask.php";
/// opcache does not keep a file that is younger than `opcache.file_update_protection`
/// seconds; this one is younger than any.
const FUTURE: Duration = Duration::from_secs(366 * 86_400);

/// A directory for the script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// `script_dir`, set by the administrator.
    Given(AbsPath),
    /// Oxistrano's directory in a deploy root.
    State(AbsPath),
    /// A directory for temporary files.
    Temporary(&'static str),
}

impl Place {
    /// The directories to try, in this order.
    pub fn all(script_dir: Option<&AbsPath>, deploy_to: Option<&AbsPath>) -> Vec<Self> {
        if let Some(given) = script_dir {
            return vec![Self::Given(given.clone())];
        }
        let state = deploy_to.map(|root| Self::State(root.clone()));
        // systemd's PrivateTmp gives a service another /tmp, but not another /dev/shm.
        state.into_iter().chain(["/dev/shm", "/tmp"].map(Self::Temporary)).collect()
    }

    /// Its path.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Given(path) => path.as_path().to_owned(),
            Self::State(root) => root.as_path().join(STATE_DIRECTORY),
            Self::Temporary(path) => PathBuf::from(path),
        }
    }

    fn open(&self) -> Result<Dir, Failure> {
        match self {
            Self::Given(path) => Dir::open(path.as_path()),
            Self::State(root) => Dir::open(root.as_path())?.open_trusted_dir(STATE_DIRECTORY),
            Self::Temporary(path) => {
                let dir = Dir::open(Path::new(path))?;
                let mode = dir.info()?.mode();
                if mode & 0o022 != 0 && mode & 0o1000 == 0 {
                    return Err(Failure::new("untrusted_directory", format!("not using '{path}'"))
                        .cause("others may replace files in it (it has no sticky bit)"));
                }
                Ok(dir)
            }
        }
    }
}

/// The written script. Dropping it removes it.
#[derive(Debug)]
pub struct Script {
    parent: Dir,
    directory: OsString,
    mark: String,
}

impl Script {
    /// Writes it, after removing those that killed runs have left.
    ///
    /// # Errors
    /// When it cannot.
    pub fn put(place: &Place) -> Result<Self, Failure> {
        let parent = place.open()?;
        sweep(&parent);
        let directory = format!("{PREFIX}{}.{}", std::process::id(), random()?);
        let directory = OsString::from(directory);
        // From here on, it is always removed.
        let script = Self { parent, directory, mark: random()? };
        let dir = script.parent.make_dir(&script.directory, 0o700)?;
        // A user who may write to the parent may have replaced it.
        let info = dir.info()?;
        if info.uid() != users::current() || !dir.names()?.is_empty() {
            return Err(Failure::new("untrusted_directory", "not using a directory just made")
                .cause("another directory has replaced it")
                .path(script.path()));
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let path = script.path();
        let file = openat(&dir, NAME, flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o600))
            .or_fail("create", &path)?;
        let mut file = File::from(file);
        file.write_all(SOURCE.as_bytes())
            .and_then(|()| file.set_modified(SystemTime::now() + FUTURE))
            // The pool's user must be able to read it, whatever the umask is. It contains no secret.
            .and_then(|()| file.set_permissions(Permissions::from_mode(0o644)))
            .or_fail("write", &path)?;
        // Others may enter it, but not list it.
        dir.set_mode(0o711)?;
        Ok(script)
    }

    /// Its path.
    pub fn path(&self) -> PathBuf {
        self.parent.at(&self.directory).join(NAME)
    }

    /// The random mark around the answer.
    pub fn mark(&self) -> &str {
        &self.mark
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        remove(&self.parent, &self.directory);
    }
}

/// Removes our directory, which contains only the script. Not by `remove_tree`, which stops at a signal.
fn remove(parent: &Dir, name: &OsStr) {
    if let Ok(dir) = parent.open_dir(name) {
        let _ = dir.remove_file(NAME);
    }
    let _ = unlinkat(parent, name, AtFlags::REMOVEDIR);
}

/// Removes the directories of runs whose process has ended.
fn sweep(parent: &Dir) {
    for name in parent.names().unwrap_or_default() {
        let text = name.to_string_lossy();
        let pid = text.strip_prefix(PREFIX).and_then(|rest| rest.split('.').next());
        let Some(pid) = pid.and_then(|pid| pid.parse::<u32>().ok()) else { continue };
        let ours = parent.lookup(&name).is_ok_and(|info| {
            info.is_some_and(|i| i.is_dir() && (i.uid() == users::current() || users::is_root()))
        });
        if ours && !Path::new(&format!("/proc/{pid}")).exists() {
            remove(parent, &name);
        }
    }
}

/// 128 bits as hexadecimal digits.
#[expect(clippy::disallowed_methods, reason = "a device of the system")]
fn random() -> Result<String, Failure> {
    let path = Path::new("/dev/urandom");
    let mut bytes = [0; 16];
    File::open(path).and_then(|mut file| file.read_exact(&mut bytes)).or_fail("read", path)?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn place(path: &Path) -> Place {
        Place::Given(AbsPath::new(path).unwrap())
    }

    #[test]
    fn it_is_readable_and_has_a_name_of_its_own_and_goes() {
        let scratch = tempfile::tempdir().unwrap();
        let script = Script::put(&place(scratch.path())).unwrap();
        let meta = fs::metadata(script.path()).unwrap();
        assert_eq!(meta.permissions().mode() & 0o7777, 0o644);
        assert!(meta.modified().unwrap() > SystemTime::now() + FUTURE / 2);
        let directory = fs::metadata(script.path().parent().unwrap()).unwrap();
        assert_eq!(directory.permissions().mode() & 0o7777, 0o711);
        let other = Script::put(&place(scratch.path())).unwrap();
        assert_ne!(script.mark(), other.mark());
        drop(other);
        assert!(script.path().exists(), "a sweep must leave who is at work");
        drop(script);
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_killed_runs_have_left_is_swept_and_nothing_else() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        // No process has a number this high.
        fs::create_dir(at(&format!("{PREFIX}4194999.x"))).unwrap();
        fs::write(at(&format!("{PREFIX}4194999.x/{NAME}")), "").unwrap();
        fs::write(at(&format!("{PREFIX}4194999.file")), "").unwrap();
        fs::create_dir(at(&format!("{PREFIX}1.x"))).unwrap();
        fs::create_dir(at(&format!("{PREFIX}none"))).unwrap();
        let target = tempfile::tempdir().unwrap();
        fs::write(target.path().join("precious"), "").unwrap();
        std::os::unix::fs::symlink(target.path(), at(&format!("{PREFIX}4194999.link"))).unwrap();
        drop(Script::put(&place(scratch.path())).unwrap());
        let mut left: Vec<_> =
            fs::read_dir(scratch.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        let names = ["1.x", "4194999.file", "4194999.link", "none"];
        assert_eq!(left, names.map(|name| OsString::from(format!("{PREFIX}{name}"))));
        assert!(target.path().join("precious").exists());
    }

    #[test]
    fn a_temporary_directory_must_be_sticky() {
        let scratch = tempfile::tempdir().unwrap();
        let path: &'static str = scratch.path().to_str().unwrap().to_owned().leak();
        fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
        let error = Script::put(&Place::Temporary(path)).unwrap_err();
        assert_eq!(error.code(), "untrusted_directory");
        fs::set_permissions(path, Permissions::from_mode(0o1777)).unwrap();
        assert!(Script::put(&Place::Temporary(path)).is_ok());
    }
}
