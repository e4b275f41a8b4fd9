//! Files that only root, or who runs the module, can have made as they are: what is executed, and
//! what decides what is done as root.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::fs::{fstat, open, openat, openat2, readlinkat};
use rustix::io::Errno;

use crate::dir::noun;
use crate::{interrupt, users};

/// How often a path is looked up again in which somebody renames directories.
const TRIES: usize = 20;
const STICKY: u32 = 0o1000;
/// Links on one path, as the kernel has it.
const MOST_LINKS: usize = 40;

/// Whether this user's word counts: root's, and that of whoever runs the module.
pub fn is_owner(uid: u32) -> bool {
    uid == 0 || uid == users::current()
}

/// Why somebody else may have made it as it is; `None` if nobody else can have.
pub fn doubt(stat: &Stat) -> Option<String> {
    // For other users than root a group is its members' own business.
    let others = if users::is_root() { 0o022 } else { 0o002 };
    match stat.st_mode & 0o7777 {
        _ if !is_owner(stat.st_uid) => Some(format!("belongs to user id {}", stat.st_uid)),
        mode if mode & others != 0 => Some(format!("is writable by others (mode {mode:04o})")),
        _ => None,
    }
}

/// The same of a file; also why it is none.
pub fn doubt_about_file(stat: &Stat) -> Option<String> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => doubt(stat),
        kind => Some(format!("is {}", noun(kind))),
    }
}

/// Looks a path up below `root`, links included, as a process does whose root directory that is.
/// Nothing is opened yet: with `O_PATH` no FIFO, device or lease can hold anybody up.
///
/// # Errors
/// What the system says.
pub fn look_up(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..TRIES {
        match openat2(root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Kernels before 5.6, and containers that do not know the call.
            Err(Errno::NOSYS | Errno::PERM) if is_our_root(root) => {
                let path = Path::new("/").join(path);
                return openat(CWD, &path, flags, Mode::empty());
            }
            looked_up => return looked_up,
        }
    }
    Err(Errno::AGAIN)
}

/// Whether that is the root directory of this process, too.
#[expect(clippy::disallowed_methods, reason = "the root directory")]
pub fn is_our_root(root: BorrowedFd<'_>) -> bool {
    let id = |stat: Stat| (stat.st_dev, stat.st_ino);
    let ours = open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let ours = ours.and_then(fstat).map(id);
    fstat(root).map(id).is_ok_and(|theirs| ours == Ok(theirs))
}

/// The contents of a file that nobody else can have written, at most `most` bytes, and its
/// inode. A file on which somebody holds a lease is waited for until `deadline`.
///
/// # Errors
/// Why it is not read, with a verb: `belongs to user id 33`.
#[expect(
    clippy::disallowed_methods,
    reason = "held first, and the very file that was examined is opened"
)]
pub fn read(
    handle: BorrowedFd<'_>,
    most: u64,
    deadline: Instant,
) -> Result<(Vec<u8>, Stat), String> {
    let failed = |error: std::io::Error| format!("cannot be read: {error}");
    let stat = fstat(handle).map_err(|error| failed(error.into()))?;
    if let Some(doubt) = doubt_about_file(&stat) {
        return Err(doubt);
    }
    let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
    if size > most {
        return Err(format!("has {size} bytes, more than the limit of {most}"));
    }
    // The very file that was examined, whatever has its name now.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let name = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let file = loop {
        match open(&name, flags, Mode::empty()) {
            // A lease: its holder is asked to give it up, and need not.
            Err(Errno::AGAIN) if Instant::now() < deadline => {
                interrupt::check().map_err(|failure| format!("was not read: {failure}"))?;
                sleep(Duration::from_millis(20));
            }
            Err(Errno::AGAIN) => return Err("is locked by a process (a lease)".to_owned()),
            opened => break File::from(opened.map_err(|error| failed(error.into()))?),
        }
    };
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes).map_err(failed)?;
    Ok((bytes, stat))
}

/// The path of a handle, without links; as this process sees it.
///
/// # Errors
/// What the system says.
pub fn path_of(handle: impl AsFd) -> Result<PathBuf, Errno> {
    let name = format!("/proc/self/fd/{}", handle.as_fd().as_raw_fd());
    let target = readlinkat(CWD, &name, Vec::new())?;
    Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
}

/// Whether nobody else can put something at this path, in which no links are followed: all
/// directories on the way are root's or ours, and closed to others or sticky. The handle is what
/// stands at its end, `None` if nothing does.
///
/// # Errors
/// The directory of which that is not so, and why.
pub fn chain(root: BorrowedFd<'_>, path: &Path) -> Result<Option<OwnedFd>, String> {
    Walk { root, stack: Vec::new(), links: None }.to(path)
}

/// The same of a path with links, each of which has to be root's or ours as well: whoever made
/// one has chosen what the path leads to. The root directory has to be that of this process.
///
/// # Errors
/// The directory or link of which that is not so, and why.
pub fn chain_with_links(root: BorrowedFd<'_>, path: &Path) -> Result<Option<OwnedFd>, String> {
    Walk { root, stack: Vec::new(), links: Some(MOST_LINKS) }.to(path)
}

/// On the way along a path, one name after the other.
struct Walk<'a> {
    root: BorrowedFd<'a>,
    /// The directories below the root that it is in, with their names.
    stack: Vec<(OsString, OwnedFd)>,
    /// How many links may still be followed; `None`: they are not followed.
    links: Option<usize>,
}

impl Walk<'_> {
    fn to(mut self, path: &Path) -> Result<Option<OwnedFd>, String> {
        let mut left: Vec<OsString> = names_backwards(path);
        while let Some(name) = left.pop() {
            let (here, at) = (self.here(), self.at());
            let stat = fstat(here).map_err(|error| cannot(&at, error))?;
            let doubt = match FileType::from_raw_mode(stat.st_mode) {
                // In a sticky directory others can add names, not replace ours. A directory of ours
                // has no second name; a file of ours can have been given one there, by whomever.
                FileType::Directory if is_sticky(&stat) && is_owner(stat.st_uid) => None,
                FileType::Directory => doubt(&stat),
                kind => Some(format!("is {}", noun(kind))),
            };
            if let Some(doubt) = doubt {
                return Err(format!("'{}' {doubt}", at.display()));
            }
            if name == ".." {
                self.stack.pop();
                continue;
            }
            let others_add = is_sticky(&stat) && self::doubt(&stat).is_some();
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let there = match openat(here, &name, flags, Mode::empty()) {
                Err(Errno::NOENT) if left.is_empty() && !others_add => return Ok(None),
                opened => opened.map_err(|error| cannot(&at.join(&name), error))?,
            };
            let stat = fstat(&there).map_err(|error| cannot(&at.join(&name), error))?;
            let kind = FileType::from_raw_mode(stat.st_mode);
            let is_link = kind == FileType::Symlink && self.links.is_some();
            if others_add && (is_link || left.is_empty() && kind != FileType::Directory) {
                return Err(format!("any user may create files in '{}'", at.display()));
            }
            if is_link {
                self.follow(&there, &stat, &at.join(&name), &mut left)?;
            } else {
                self.stack.push((name, there));
            }
        }
        match self.stack.pop() {
            Some((_, there)) => Ok(Some(there)),
            None => self.root.try_clone_to_owned().map(Some).map_err(|error| error.to_string()),
        }
    }

    fn follow(
        &mut self,
        link: &OwnedFd,
        stat: &Stat,
        at: &Path,
        left: &mut Vec<OsString>,
    ) -> Result<(), String> {
        // Its mode says nothing: nobody can write one.
        if !is_owner(stat.st_uid) {
            return Err(format!("the link '{}' belongs to user id {}", at.display(), stat.st_uid));
        }
        self.links = self.links.and_then(|links| links.checked_sub(1));
        if self.links.is_none() {
            return Err(format!("'{}' is one of too many links", at.display()));
        }
        let target = readlinkat(link, "", Vec::new()).map_err(|error| cannot(at, error))?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        if target.is_absolute() {
            self.stack.clear();
        }
        left.extend(names_backwards(&target));
        Ok(())
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.stack.last().map_or(self.root, |(_, here)| here.as_fd())
    }

    fn at(&self) -> PathBuf {
        Path::new("/").join(self.stack.iter().map(|(name, _)| name).collect::<PathBuf>())
    }
}

fn names_backwards(path: &Path) -> Vec<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    let mut names: Vec<_> = names.collect();
    names.reverse();
    names
}

fn is_sticky(stat: &Stat) -> bool {
    stat.st_mode & STICKY != 0
}

fn cannot(at: &Path, error: Errno) -> String {
    format!("'{}' cannot be examined: {}", at.display(), std::io::Error::from(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(200)
    }

    fn scratch() -> (tempfile::TempDir, OwnedFd) {
        let scratch = tempfile::tempdir().unwrap();
        let root = open(scratch.path(), OFlags::PATH, Mode::empty()).unwrap();
        (scratch, root)
    }

    fn read_at(root: &OwnedFd, path: &str) -> Result<Vec<u8>, String> {
        let handle = look_up(root.as_fd(), Path::new(path)).map_err(|error| error.to_string())?;
        read(handle.as_fd(), 100, soon()).map(|(bytes, _)| bytes)
    }

    #[test]
    fn links_stay_below_the_root() {
        let (scratch, root) = scratch();
        fs::create_dir(scratch.path().join("etc")).unwrap();
        fs::write(scratch.path().join("etc/passwd"), "inside").unwrap();
        symlink("/etc/passwd", scratch.path().join("absolute")).unwrap();
        symlink("../../../../etc/passwd", scratch.path().join("relative")).unwrap();
        for path in ["/etc/passwd", "absolute", "/relative", "/../etc/passwd"] {
            assert_eq!(read_at(&root, path).unwrap(), b"inside", "{path}");
        }
    }

    #[test]
    fn only_a_file_of_ours_is_read() {
        let (scratch, root) = scratch();
        let at = |name: &str| scratch.path().join(name);
        fs::write(at("large"), "x".repeat(101)).unwrap();
        assert!(read_at(&root, "large").unwrap_err().contains("has 101 bytes"));
        fs::write(at("open"), "x").unwrap();
        fs::set_permissions(at("open"), Permissions::from_mode(0o646)).unwrap();
        assert!(read_at(&root, "open").unwrap_err().contains("by others (mode 0646)"));
        assert!(read_at(&root, "/").unwrap_err().contains("is a directory"));
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(CWD, at("fifo"), FileType::Fifo, mode, 0).unwrap();
        assert!(read_at(&root, "fifo").unwrap_err().contains("is a FIFO"));
        if users::is_root() {
            fs::write(at("other"), "x").unwrap();
            chown(at("other"), Some(65534), None).unwrap();
            assert!(read_at(&root, "other").unwrap_err().contains("belongs to user id 65534"));
        }
    }

    #[test]
    fn a_lease_holds_nobody_up() {
        let (scratch, root) = scratch();
        let path = scratch.path().join("leased");
        fs::write(&path, "x").unwrap();
        let holder = "import fcntl, signal, sys, time\n\
                      signal.signal(signal.SIGIO, signal.SIG_IGN)\n\
                      f = open(sys.argv[1], 'r+')\n\
                      fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_WRLCK)\n\
                      print('held', flush=True)\n\
                      time.sleep(30)\n";
        let mut holder = std::process::Command::new("python3")
            .args(["-c", holder])
            .arg(&path)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = [0; 5];
        holder.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
        let started = Instant::now();
        let error = read_at(&root, "leased").unwrap_err();
        let elapsed = started.elapsed();
        holder.kill().unwrap();
        holder.wait().unwrap();
        assert!(error.contains("a lease"), "{error}");
        assert!(elapsed < Duration::from_secs(10), "{elapsed:?}");
        assert_eq!(read_at(&root, "leased").unwrap(), b"x", "given up");
    }

    #[test]
    fn a_path_is_as_good_as_the_worst_directory_on_it() {
        let (scratch, root) = scratch();
        let at = |name: &str| scratch.path().join(name);
        fs::create_dir_all(at("a/b")).unwrap();
        fs::write(at("a/b/c"), "").unwrap();
        let chain = |path: &str| chain(root.as_fd(), Path::new(path));
        assert!(chain("/a/b/c").unwrap().is_some());
        assert!(chain("/a/b/none").unwrap().is_none());
        fs::set_permissions(at("a"), Permissions::from_mode(0o777)).unwrap();
        let error = chain("/a/b/c").unwrap_err();
        assert_eq!(error, "'/a' is writable by others (mode 0777)");
        fs::set_permissions(at("a"), Permissions::from_mode(0o1777)).unwrap();
        assert!(chain("/a/b/c").is_ok(), "sticky, as /tmp");
        fs::hard_link(at("a/b/c"), at("a/named")).unwrap();
        let error = chain("/a/named").unwrap_err();
        assert_eq!(error, "any user may create files in '/a'");
        assert!(chain("/a/gone").is_err(), "it may have been there");
        symlink("b", at("a/link")).unwrap();
        assert!(chain("/a/link/c").unwrap_err().contains("a symbolic link"));
        if users::is_root() {
            chown(at("a"), Some(65534), None).unwrap();
            assert_eq!(chain("/a/b/c").unwrap_err(), "'/a' belongs to user id 65534");
        }
    }

    #[test]
    fn a_path_with_links_is_as_good_as_who_made_them() {
        let (scratch, root) = scratch();
        let at = |name: &str| scratch.path().join(name);
        fs::create_dir_all(at("a/b")).unwrap();
        fs::create_dir(at("tmp")).unwrap();
        fs::write(at("a/b/c"), "found").unwrap();
        let id = |fd: &OwnedFd| fstat(fd).map(|stat| (stat.st_dev, stat.st_ino)).unwrap();
        let there = id(&chain(root.as_fd(), Path::new("/a/b/c")).unwrap().unwrap());
        let led = |path: &str| chain_with_links(root.as_fd(), Path::new(path));
        for (link, target) in [
            ("a/relative", "b/../../a/b"),
            ("absolute", "/a/relative"),
            ("out", "../../../../../a"),
            ("tmp/link", "/a"),
        ] {
            symlink(target, at(link)).unwrap();
        }
        for path in ["/a/relative/c", "/absolute/c", "/out/b/c", "/../a/./b/../relative/c"] {
            assert_eq!(id(&led(path).unwrap().unwrap()), there, "{path}");
        }
        assert!(led("/absolute/none").unwrap().is_none());
        symlink("round", at("round")).unwrap();
        assert_eq!(led("/round").unwrap_err(), "'/round' is one of too many links");
        fs::set_permissions(at("tmp"), Permissions::from_mode(0o1777)).unwrap();
        assert_eq!(led("/tmp/link/b").unwrap_err(), "any user may create files in '/tmp'");
        fs::set_permissions(at("a"), Permissions::from_mode(0o777)).unwrap();
        assert_eq!(led("/out/b/c").unwrap_err(), "'/a' is writable by others (mode 0777)");
        fs::set_permissions(at("a"), Permissions::from_mode(0o755)).unwrap();
        if users::is_root() {
            std::os::unix::fs::lchown(at("out"), Some(65534), None).unwrap();
            assert_eq!(led("/out/b/c").unwrap_err(), "the link '/out' belongs to user id 65534");
        }
    }
}
