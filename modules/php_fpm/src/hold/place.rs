//! The names in a socket's directory: the known one, and two beside it while requests are held.
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

/// The holder's socket, beside the known name.
const HOLDER: &str = ".oxistrano";
/// php-fpm's socket, beside the known name.
const POOL: &str = ".oxistrano-pool";
const LOCK: &str = ".oxistrano-lock";
/// The longest path that a socket can be reached by.
const LONGEST: usize = 107;
/// For the names to be changed by somebody else.
const PATIENCE: Duration = Duration::from_secs(2);

/// A pool's socket: in a directory in which nobody else can put anything, or, for root, in one of another user's, in
/// which everything is done as that user.
#[derive(Debug)]
pub struct Place {
    pub dir: Dir,
    pub known: OsString,
    /// That user.
    pub owner: Option<User>,
}

/// What stands there.
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

    /// Whether there is nothing of ours.
    pub fn is_clean(&self) -> bool {
        self.holder.is_none() && self.pool.is_none()
    }
}

/// For as long as names are looked at and changed. Its file stays while requests are held: in a file
/// system that is full meanwhile none could be made, and without one nobody may put the names back.
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
    /// Where a socket really is, links followed.
    ///
    /// # Errors
    /// Why its directory is not trusted, with a subject: `'/run/php' can be written by others`.
    pub fn of(path: &Path) -> Result<Self, String> {
        let there = follow(path).or_else(|why| match (path.parent(), path.file_name()) {
            // The name is its owner's to give. No link of that user's is followed: it is no socket.
            (Some(parent), Some(name)) if users::is_root() => {
                follow(parent).map(|real| real.join(name)).map_err(|_| why)
            }
            _ => Err(why),
        });
        let path = there?;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(format!("'{}' names no socket", path.display()));
        };
        // Once more without links: by this path the kernel lists what is bound there.
        let real = Dir::open(parent).and_then(|dir| trusted::path_of(&dir).or_fail("open", parent));
        let dir = real.and_then(|real| Dir::open(&real)).map_err(|failure| failure.to_string())?;
        Self::in_dir(dir, name)
    }

    fn in_dir(dir: Dir, known: &OsStr) -> Result<Self, String> {
        let info = dir.info().map_err(|failure| failure.to_string())?;
        if info.mode() & 0o022 != 0 {
            return Err(format!("'{}' can be written by others", dir.path().display()));
        }
        let (uid, path) = (info.uid(), dir.path().display().to_string());
        let owner = match uid {
            uid if trusted::is_owner(uid) => None,
            uid if users::is_root() => {
                let owner = users::by_id(uid).map_err(|failure| failure.to_string())?;
                Some(owner.ok_or(format!("'{path}' belongs to user id {uid}, whom nobody knows"))?)
            }
            uid => return Err(format!("'{path}' belongs to user id {uid}")),
        };
        Ok(Self { dir, known: known.to_owned(), owner })
    }

    /// While this is there, everything is done as the user whose directory it is.
    pub fn as_owner(&self) -> Result<Option<Acting>, Failure> {
        self.owner.as_ref().map(|owner| Acting::user(owner.uid, owner.gid)).transpose()
    }

    /// The one that this process was started for: the directory is its standard input.
    pub fn from_stdin(known: &OsStr) -> Result<Self, Failure> {
        let given = Dir::from_stdin()?;
        // With its path: by that the kernel lists what is bound there.
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

    /// Whether all of its names can be connected to.
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
        // An error says nothing; the next look may.
        self.dir
            .lookup(&self.known)
            .map_or(true, |known| known.is_some_and(|known| known.same_file(holder)))
    }

    /// Whether this can be a socket of php-fpm's. In a directory of another user's it has to be that user's: a
    /// server that asks who has sent something (`SO_PASSCRED`) is told the real user, and that is root.
    pub fn may_be_fpms(&self, door: &OwnedFd) -> bool {
        self.owner
            .as_ref()
            .is_none_or(|owner| fstat(door).is_ok_and(|stat| stat.st_uid == owner.uid))
    }

    /// A handle to connect by, whatever is called so later.
    pub fn handle(&self, name: impl AsRef<Path>) -> Result<OwnedFd, Failure> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&self.dir, name.as_ref(), flags, Mode::empty()).or_fail("open", self.dir.at(name))
    }

    /// Has `made` made under the holder's name, and puts it under the known one. What was there keeps
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
            return Err(Failure::new("held", "requests are held already"));
        }
        self.restore(None)?;
        let is_theirs =
            |known: &Info| self.owner.as_ref().is_none_or(|owner| known.uid() == owner.uid);
        let known = self.look()?.known;
        let socket = known.filter(|known| known.kind() == FileType::Socket && is_theirs(known));
        let path = self.dir.at(&self.known);
        let socket = socket.ok_or_else(|| {
            Failure::new("no_socket", format!("'{}' is no socket", path.display()))
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
            Failure::new("no_socket", "php-fpm has just made its socket anew").remedy("try again")
        })?;
        let new = self.dir.temporary(&self.known);
        link(&holder, &new)?;
        self.dir.rename(&new, &self.known)?;
        Ok((made, info, door))
    }

    /// The known name leads to php-fpm again, and the names beside it are gone; of this holder only,
    /// if one is given. Returns whether it led to a holder.
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

    /// The same where nobody is left who holds: one who was just about to may do so by now.
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
        // Of one that was killed in between.
        self.dir.clear_temporaries(&self.known);
        if seen.pool.is_none() && seen.is_held() {
            // Nothing that it could lead to; php-fpm makes one when it is started.
            self.dir.remove_file(&self.known)?;
        } else if seen.pool.is_some() {
            if seen.is_held() {
                if self.dir.exchange(&pool, &self.known)? {
                    let taken = self.dir.lookup(&pool)?;
                    let is_ours =
                        matches!((&taken, &seen.holder), (Some(a), Some(b)) if a.same_file(b));
                    if !is_ours {
                        // php-fpm has made its socket anew in this very moment: that is the one.
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

    /// Whether its directory, and every name with it, is gone: systemd removes that of a service that
    /// has `RuntimeDirectory=` when it stops, and makes another. No lock can be made in it any more.
    fn is_removed(&self) -> bool {
        self.dir.info().is_ok_and(|dir| dir.stat().st_nlink == 0)
    }

    /// Whether somebody listens behind the known name.
    pub fn answers(&self) -> bool {
        let Ok(_acting) = self.as_owner() else { return false };
        answers(&self.dir.at(&self.known))
    }

    /// Who removes its file has it: who waits for it looks whether the file is still there.
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

/// The path without links, if each directory and link on the way is root's or ours; as it is, if nothing is there.
#[expect(clippy::disallowed_methods, reason = "the root directory")]
fn follow(path: &Path) -> Result<PathBuf, String> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, Mode::empty()).map_err(|error| error.to_string())?;
    match trusted::chain_with_links(rustix::fd::AsFd::as_fd(&root), path)? {
        Some(there) => trusted::path_of(there).map_err(|error| error.to_string()),
        // Then it is no link either.
        None => Ok(path.to_owned()),
    }
}

/// Whether somebody listens there.
fn answers(path: &Path) -> bool {
    // A queue that is full is somebody's.
    matches!(try_unix(path), Ok(_) | Err(Errno::AGAIN | Errno::INTR))
}

/// Where a pool is asked: while its requests are held, not by the name that others know.
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
