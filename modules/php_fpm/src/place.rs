//! The names in a socket's directory: the known one, and two more while requests are held.
//! docs/hold.md says what each is and who may change it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use oxistrano_core::dir::Info;
use oxistrano_core::effective::Acting;
use oxistrano_core::users::{self, User};
use oxistrano_core::{Dir, Failure, IoContext, trusted};
use oxistrano_fastcgi::{Address, try_unix};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, linkat, openat};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// The suffix of the holder's socket.
const HOLDER: &str = ".oxistrano";
/// The suffix of php-fpm's socket.
const POOL: &str = ".oxistrano-pool";
const LOCK: &str = ".oxistrano-lock";
/// The longest path that a socket can be reached by.
const LONGEST: usize = 107;
/// How long to wait while another process changes the names.
const PATIENCE: Duration = Duration::from_secs(2);

/// A pool's socket, in a directory in which no other user can create files. For root, it may also
/// be in another user's directory; everything is then done as that user.
#[derive(Debug)]
pub struct Place {
    pub dir: Dir,
    pub known: OsString,
    /// That user, if it is not the current one.
    pub owner: Option<User>,
}

/// The current state of the names.
#[derive(Debug)]
pub struct Seen {
    pub known: Option<Info>,
    pub holder: Option<Info>,
    pub pool: Option<Info>,
}

impl Seen {
    /// Whether the known name leads to a holder.
    pub fn is_held(&self) -> bool {
        match (&self.known, &self.holder) {
            (Some(known), Some(holder)) => known.same_file(holder),
            _ => false,
        }
    }

    /// Whether there are no names of ours.
    pub fn is_clean(&self) -> bool {
        self.holder.is_none() && self.pool.is_none()
    }
}

/// Held while names are examined and changed. Its file stays while requests are held: if the file
/// system is full at the end, no new one could be made, and the names must not be restored without
/// the lock.
struct Lock<'a>(&'a Place, #[expect(dead_code, reason = "held")] File);

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        if self.0.look().is_ok_and(|seen| seen.is_clean()) {
            let Ok(_acting) = self.0.as_owner() else { return };
            let _ = self.0.dir.remove_file(self.0.beside(LOCK));
        }
    }
}

impl Place {
    /// Finds a socket and follows links.
    ///
    /// # Errors
    /// Why its directory is not trusted, with a subject: `'/run/php' is writable by others`.
    pub fn of(path: &Path) -> Result<Self, String> {
        let there = follow(path).or_else(|why| match (path.parent(), path.file_name()) {
            // The owner of the directory may create this name, so a link of that user is not followed.
            (Some(parent), Some(name)) if users::is_root() => {
                follow(parent).map(|real| real.join(name)).map_err(|_| why)
            }
            _ => Err(why),
        });
        let path = there?;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(format!("'{}' is not the path of a socket", path.display()));
        };
        // The path without links, as the kernel lists the socket.
        let real = Dir::open(parent).and_then(|dir| trusted::path_of(&dir).or_fail("open", parent));
        let dir = real.and_then(|real| Dir::open(&real)).map_err(|failure| failure.to_string())?;
        Self::in_dir(dir, name)
    }

    fn in_dir(dir: Dir, known: &OsStr) -> Result<Self, String> {
        let info = dir.info().map_err(|failure| failure.to_string())?;
        if info.mode() & 0o022 != 0 {
            return Err(format!("'{}' is writable by others", dir.path().display()));
        }
        let (uid, path) = (info.uid(), dir.path().display().to_string());
        let owner = match uid {
            uid if trusted::is_owner(uid) => None,
            uid if users::is_root() => {
                let owner = users::by_id(uid).map_err(|failure| failure.to_string())?;
                Some(owner.ok_or(format!("'{path}' belongs to the unknown user id {uid}"))?)
            }
            uid => return Err(format!("'{path}' belongs to user id {uid}")),
        };
        Ok(Self { dir, known: known.to_owned(), owner })
    }

    /// While the result exists, this thread acts as the owner of the directory.
    pub fn as_owner(&self) -> Result<Option<Acting>, Failure> {
        self.owner.as_ref().map(|owner| Acting::user(owner.uid, owner.gid)).transpose()
    }

    /// The place that this process was started for; its directory is standard input.
    pub fn from_stdin(known: &OsStr) -> Result<Self, Failure> {
        let given = Dir::from_stdin()?;
        // With its path, as the kernel lists the socket.
        let dir = Dir::open(&trusted::path_of(&given).or_fail("open", given.path())?)?;
        match dir.info()?.same_file(&given.info()?) {
            true => {
                Self::in_dir(dir, known).map_err(|why| Failure::new("untrusted_directory", why))
            }
            false => Err(Failure::new("moved", "the socket's directory was moved")),
        }
    }

    fn beside(&self, ending: &str) -> OsString {
        let mut name = self.known.clone();
        name.push(ending);
        name
    }

    /// The path of the holder's socket.
    pub fn holder(&self) -> PathBuf {
        self.dir.at(self.beside(HOLDER))
    }

    /// The path of php-fpm's socket while requests are held.
    pub fn pool(&self) -> PathBuf {
        self.dir.at(self.beside(POOL))
    }

    /// Whether its names are short enough for a socket.
    pub fn is_short(&self) -> bool {
        self.pool().as_os_str().len() <= LONGEST
    }

    pub fn look(&self) -> Result<Seen, Failure> {
        let holder = self.dir.lookup(self.beside(HOLDER))?;
        let pool = self.dir.lookup(self.beside(POOL))?;
        Ok(Seen { known: self.dir.lookup(&self.known)?, holder, pool })
    }

    /// Whether the known name leads to the holder with that socket.
    pub fn is_held_by(&self, holder: &Info) -> bool {
        // After an error, the next check decides.
        self.dir
            .lookup(&self.known)
            .map_or(true, |known| known.is_some_and(|known| known.same_file(holder)))
    }

    /// Whether this can be php-fpm's socket. In another user's directory it must belong to that
    /// user: a server with `SO_PASSCRED` sees the real user, which is root.
    pub fn may_be_fpms(&self, door: &OwnedFd) -> bool {
        self.owner
            .as_ref()
            .is_none_or(|owner| fstat(door).is_ok_and(|stat| stat.st_uid == owner.uid))
    }

    /// A handle on a socket, to connect by.
    pub fn handle(&self, name: impl AsRef<Path>) -> Result<OwnedFd, Failure> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&self.dir, name.as_ref(), flags, Mode::empty()).or_fail("open", self.dir.at(name))
    }

    /// Lets `make` create the holder's socket and gives it the known name. php-fpm's socket keeps
    /// its second name, and is returned.
    ///
    /// # Errors
    /// Nothing was changed then.
    pub fn hold<T>(
        &self,
        make: impl FnOnce(&Path, &Info) -> Result<T, Failure>,
    ) -> Result<(T, Info, OwnedFd), Failure> {
        let _lock = self.lock()?;
        if self.look()?.is_held() && self.answers() {
            return Err(Failure::new("held", "requests are already held"));
        }
        self.restore(None)?;
        let is_theirs =
            |known: &Info| self.owner.as_ref().is_none_or(|owner| known.uid() == owner.uid);
        let known = self.look()?.known;
        let socket = known.filter(|known| known.kind() == FileType::Socket && is_theirs(known));
        let path = self.dir.at(&self.known);
        let socket = socket.ok_or_else(|| {
            Failure::new("no_socket", format!("'{}' is not a socket", path.display()))
        })?;
        let made = self.switch(&socket, make);
        if made.is_err() {
            self.restore(None)?;
        }
        made
    }

    fn switch<T>(
        &self,
        socket: &Info,
        make: impl FnOnce(&Path, &Info) -> Result<T, Failure>,
    ) -> Result<(T, Info, OwnedFd), Failure> {
        let (holder, pool) = (self.beside(HOLDER), self.beside(POOL));
        let made = make(holder.as_ref(), socket)?;
        let _acting = self.as_owner()?;
        let link = |from: &OsStr, to: &OsStr| {
            linkat(&self.dir, from, &self.dir, to, AtFlags::empty())
                .or_fail("make a second name of", self.dir.at(from))
        };
        link(&self.known, &pool)?;
        let door = self.handle(&pool)?;
        let is_it = fstat(&door).is_ok_and(|stat| stat.st_ino == socket.inode());
        let info = self.dir.lookup(&holder)?.filter(|_| is_it).ok_or_else(|| {
            Failure::new("no_socket", "php-fpm has just created its socket again")
                .remedy("try again")
        })?;
        let new = self.dir.temporary(&self.known);
        link(&holder, &new)?;
        self.dir.rename(&new, &self.known)?;
        Ok((made, info, door))
    }

    /// Gives php-fpm's socket the known name again and removes the other two names; if `of` is
    /// given, only if that holder has it. Returns whether it led to a holder.
    ///
    /// # Errors
    /// When others change the names for longer than two seconds, or an I/O error.
    pub fn put_back(&self, of: Option<&Info>) -> Result<bool, Failure> {
        if self.is_removed() {
            return Ok(false);
        }
        let _lock = self.lock()?;
        self.restore(of)
    }

    /// The same if no holder is alive; another process may start to hold at the same time.
    ///
    /// # Errors
    /// As above.
    pub fn put_right(&self) -> Result<bool, Failure> {
        let _lock = self.lock()?;
        if self.look()?.is_held() && self.answers() {
            return Ok(false);
        }
        self.restore(None)
    }

    fn restore(&self, of: Option<&Info>) -> Result<bool, Failure> {
        let _acting = self.as_owner()?;
        let seen = self.look()?;
        let is_meant = |holder: &Info| of.is_none_or(|of| of.same_file(holder));
        if !seen.holder.as_ref().is_none_or(is_meant) {
            return Ok(false);
        }
        let (holder, pool) = (self.beside(HOLDER), self.beside(POOL));
        // Left by a process that was killed in between.
        self.dir.clear_temporaries(&self.known);
        if seen.pool.is_none() && seen.is_held() {
            // There is no socket of php-fpm; it creates one at its next start.
            self.dir.remove_file(&self.known)?;
        } else if seen.pool.is_some() {
            if seen.is_held() {
                if self.dir.exchange(&pool, &self.known)? {
                    let taken = self.dir.lookup(&pool)?;
                    let is_ours =
                        matches!((&taken, &seen.holder), (Some(a), Some(b)) if a.same_file(b));
                    if !is_ours {
                        // php-fpm has just created its socket again: keep that one.
                        self.dir.exchange(&pool, &self.known)?;
                    }
                } else {
                    self.dir.rename(&pool, &self.known)?;
                }
            } else if seen.known.is_none() && answers(&self.pool()) {
                self.dir.rename_new(&pool, &self.known)?;
            }
            self.dir.remove_file(&pool)?;
        }
        self.dir.remove_file(&holder)?;
        Ok(seen.is_held())
    }

    /// Whether its directory was removed: systemd does so when a service with `RuntimeDirectory=`
    /// stops, and creates a new one. No lock can be made in it any more.
    fn is_removed(&self) -> bool {
        self.dir.info().is_ok_and(|dir| dir.stat().st_nlink == 0)
    }

    /// Whether a process listens at the known name.
    pub fn answers(&self) -> bool {
        let Ok(_acting) = self.as_owner() else { return false };
        answers(&self.dir.at(&self.known))
    }

    /// The owner of the lock may remove its file, so a waiting process checks afterwards that the file still exists.
    fn lock(&self) -> Result<Lock<'_>, Failure> {
        let (name, end) = (self.beside(LOCK), Instant::now() + PATIENCE);
        let _acting = self.as_owner()?;
        loop {
            let file = self.dir.open_to_write(&name, OFlags::empty(), 0o600)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    let mine = fstat(&file).or_fail("examine", self.dir.at(&name))?;
                    let there = self.dir.lookup(&name)?;
                    if there.is_some_and(|there| there.inode() == mine.st_ino) {
                        return Ok(Lock(self, file));
                    }
                }
                Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < end => {
                    sleep(Duration::from_millis(10));
                }
                Err(error) => return Err(Failure::io("lock", &self.dir.at(&name), error)),
            }
        }
    }
}

/// The path without links, if every directory and link in it belongs to root or to us; unchanged if it does not exist.
#[expect(clippy::disallowed_methods, reason = "the root directory")]
fn follow(path: &Path) -> Result<PathBuf, String> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, Mode::empty()).map_err(|error| error.to_string())?;
    match trusted::chain_with_links(rustix::fd::AsFd::as_fd(&root), path)? {
        Some(there) => trusted::path_of(there).map_err(|error| error.to_string()),
        // It does not exist, so it is not a link.
        None => Ok(path.to_owned()),
    }
}

/// Whether a process listens there.
fn answers(path: &Path) -> bool {
    // If the queue is full, a process listens.
    matches!(try_unix(path), Ok(_) | Err(Errno::AGAIN | Errno::INTR))
}

/// The address to query a pool: while its requests are held, this is php-fpm's second name.
pub fn door(address: &Address) -> Address {
    if let Address::Unix(path) = address
        && let Ok(place) = Place::of(path)
        && place.look().is_ok_and(|seen| seen.is_held() && seen.pool.is_some())
    {
        return Address::Unix(place.pool());
    }
    address.clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::thread;

    #[test]
    fn a_hold_that_begins_meanwhile_is_not_put_right() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("fpm.sock");
        let _pool = UnixListener::bind(&path).unwrap();
        let place = Place::of(&path).unwrap();
        let (made, _, _) = place
            .hold(|name, _| {
                let listener = UnixListener::bind(place.dir.at(name)).unwrap();
                let path = path.clone();
                let other = thread::spawn(move || Place::of(&path).unwrap().put_right());
                sleep(Duration::from_millis(200));
                Ok((listener, other))
            })
            .unwrap();
        let (listener, other) = made;
        assert!(!other.join().unwrap().unwrap());
        assert!(place.look().unwrap().is_held());
        drop(listener);
        assert!(place.put_right().unwrap(), "nobody is left");
        assert!(place.look().unwrap().is_clean());
    }
}
