//! The archives that controllers have sent to a deploy root, each under its SHA-256: whole
//! ones, kept for the next time, and parts of what is still coming. `docs/transport.md`.
//!
//! They lie in a directory of the state that is this user's alone. The deploy root may belong
//! to somebody else, so that is looked at each time; and what is taken from here is compared
//! with its SHA-256 while it is unpacked.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{self, Mode, OFlags, Timespec, Timestamps, UTIME_NOW};
use rustix::io::Errno;

use oxistrano_core::{Dir, Failure, IoContext, interrupt, users};

use crate::Root;
use crate::artifact::{Artifact, is_sha256};

const DIR: &str = "artifacts";
const PART: &str = ".part";
/// How long a part waits for the rest.
const PATIENCE: Duration = Duration::from_secs(7 * 86400);
/// Seconds and nanoseconds: two short deploys may follow each other within one second.
type Moment = (i64, i64);

/// Bytes that are taken at a time.
const BLOCK: usize = 256 * 1024;

/// The archives of a deploy root.
#[derive(Debug)]
pub struct Artifacts {
    dir: Dir,
    /// Check mode.
    only_look: bool,
}

impl Artifacts {
    /// Opens their directory. If it is missing, it is made; if others could have written
    /// there, it is this user's afterwards and empty.
    ///
    /// # Errors
    /// `no_place` when it cannot become this user's.
    pub fn open(root: &Root) -> Result<Self, Failure> {
        Self::secured(root).map_err(|failure| {
            let cause = failure.to_string();
            Failure::new("no_place", format!("cannot keep archives in {}", root.describe()))
                .cause(cause.trim_end_matches('.'))
                .state("Nothing was changed.")
        })
    }

    fn secured(root: &Root) -> Result<Self, Failure> {
        let state = root.state()?;
        let there = state.lookup(DIR)?;
        if there.is_some_and(|info| !info.is_dir()) {
            state.remove_file(DIR)?;
        }
        if !there.is_some_and(|info| info.is_dir()) {
            match state.make_dir(DIR, 0o700) {
                Err(failure) if state.lookup(DIR)?.is_none() => return Err(failure),
                // Or another process was faster.
                _ => {}
            }
        }
        let artifacts = Self { dir: state.open_dir(DIR)?, only_look: false };
        if !artifacts.is_ours()? {
            let info = artifacts.dir.info()?;
            if info.uid() != users::current() {
                artifacts.dir.set_owner(users::current(), info.gid())?;
            }
            artifacts.dir.set_mode(0o700)?;
            for (name, _) in artifacts.names()? {
                artifacts.dir.remove_file(name)?;
            }
        }
        Ok(artifacts)
    }

    /// Opens it for check mode; `None` if [`Self::open`] would change it.
    ///
    /// # Errors
    /// An I/O error.
    pub fn open_to_look(root: &Root) -> Result<Option<Self>, Failure> {
        let Some(state) = root.state_if_there()? else { return Ok(None) };
        if !state.lookup(DIR)?.is_some_and(|info| info.is_dir()) {
            return Ok(None);
        }
        // It may be another user's.
        let Ok(dir) = state.open_dir(DIR) else { return Ok(None) };
        let artifacts = Self { dir, only_look: true };
        Ok(artifacts.is_ours()?.then_some(artifacts))
    }

    fn is_ours(&self) -> Result<bool, Failure> {
        let info = self.dir.info()?;
        Ok(info.uid() == users::current() && info.mode() & 0o077 == 0)
    }

    /// The archive, if it is here completely.
    ///
    /// # Errors
    /// An I/O error.
    pub fn whole(&self, artifact: &Artifact) -> Result<Option<File>, Failure> {
        let Some(name) = artifact.sha256.as_deref() else { return Ok(None) };
        let file = self.file(name, OFlags::RDONLY)?;
        Ok(file.filter(|(_, info)| info.len() == artifact.size).map(|(file, _)| file))
    }

    /// How many bytes of it have arrived, from its beginning.
    ///
    /// # Errors
    /// An I/O error.
    pub fn received(&self, artifact: &Artifact) -> Result<u64, Failure> {
        let part = self.file(&part(artifact), OFlags::RDONLY)?;
        Ok(part.map_or(0, |(_, info)| info.len()))
    }

    /// Reads bytes from `offset` on until `input` ends; bytes that are already here are skipped,
    /// bytes after a gap are ignored. Afterwards, [`Self::whole`] and [`Self::received`] show what
    /// is here.
    ///
    /// Several processes may send the same archive at the same time: a part grows only at its end,
    /// and each writes the same bytes at the same offset. A lock would be held by a process that
    /// waits for a dead controller, and would block the next deploy.
    ///
    /// # Errors
    /// An I/O error; the bytes before it stay.
    pub fn receive(
        &self,
        artifact: &Artifact,
        offset: u64,
        input: &mut impl Read,
    ) -> Result<(), Failure> {
        let name = part(artifact);
        let path = self.dir.at(&name);
        let file = self.part(&name, artifact.size)?;
        let length = || file.metadata().map(|info| info.len()).or_fail("examine", &path);
        let mut buffer = vec![0; BLOCK];
        let uninterrupted = || {
            interrupt::check().map_err(|interrupted| {
                interrupted.state("What has come of the archive stays, and is not sent again.")
            })
        };
        let mut at = offset;
        while at < artifact.size {
            uninterrupted()?;
            let read = match input.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => (artifact.size - at).min(read as u64) as usize,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    uninterrupted()?;
                    return Err(Failure::io("read", Path::new("/dev/stdin"), error));
                }
            };
            let here = length()?;
            if here < at {
                break;
            }
            let known = (here - at).min(read as u64) as usize;
            file.write_all_at(&buffer[known..read], at + known as u64).or_fail("write", &path)?;
            at += read as u64;
        }
        match length()? == artifact.size {
            true => self.complete(artifact, &name),
            false => Ok(()),
        }
    }

    /// Gives the complete part its final name, unless another process has done so. In that case,
    /// the part's name may already belong to a new part of a third process, which must not replace
    /// the complete archive.
    fn complete(&self, artifact: &Artifact, part: &str) -> Result<(), Failure> {
        let whole = artifact.sha256.as_deref().unwrap_or_default();
        let renamed = self.dir.rename_new(part, whole);
        if self.whole(artifact)?.is_some() {
            return Ok(());
        }
        match renamed? {
            true => Ok(()),
            // The existing file has another size, and is useless.
            false => self.dir.rename(part, whole),
        }
    }

    /// Opens the existing part, or a new one.
    fn part(&self, name: &str, size: u64) -> Result<File, Failure> {
        loop {
            match self.file(name, OFlags::RDWR)? {
                Some((file, info)) if info.len() <= size => return Ok(file),
                // Its size exceeds that of this archive.
                Some(_) => drop(self.dir.remove_file(name)?),
                None => {}
            }
            match self.dir.create_file(name, 0o600) {
                // Another sending process was faster.
                Err(_) if self.dir.lookup(name)?.is_some() => {}
                made => return made,
            }
        }
    }

    /// Makes sure that there is room for the rest of it; removes other archives if necessary.
    ///
    /// # Errors
    /// `no_space`, with the sizes.
    pub fn make_room(&self, artifact: &Artifact, src: &Path) -> Result<(), Failure> {
        let missing = artifact.size.saturating_sub(self.received(artifact)?);
        let mut others: Vec<_> = self.names()?;
        others.retain(|(name, _)| *name != *part(artifact));
        loop {
            let free = fs::fstatvfs(&self.dir).or_fail("examine", self.dir.path())?;
            // Root may use the blocks that are reserved for root.
            let blocks = if users::is_root() { free.f_bfree } else { free.f_bavail };
            let free = blocks.saturating_mul(free.f_frsize);
            if missing <= free {
                return Ok(());
            }
            let Some((name, _)) = others.pop() else {
                let what = format!(
                    "not enough space for '{}' in '{}' on the host",
                    src.display(),
                    self.dir.path().display()
                );
                return Err(Failure::new("no_space", what)
                    .cause(format!(
                        "{} are still to be sent, and {} are free",
                        megabytes(missing),
                        megabytes(free)
                    ))
                    .remedy(
                        "free some space there; the unpacked release needs its own space in \
                        addition",
                    )
                    .path(self.dir.path()));
            };
            self.dir.remove_file(name)?;
        }
    }

    /// Removes it, whole or not.
    ///
    /// # Errors
    /// An I/O error.
    pub fn discard(&self, artifact: &Artifact) -> Result<(), Failure> {
        self.dir.remove_file(part(artifact))?;
        artifact.sha256.as_deref().map_or(Ok(false), |name| self.dir.remove_file(name)).map(drop)
    }

    /// After a deploy of `latest`: keeps the `keep` archives that were used last, and parts that
    /// may still be completed.
    ///
    /// # Errors
    /// An I/O error.
    pub fn tidy(&self, latest: &Artifact, keep: u64) -> Result<(), Failure> {
        let latest = OsString::from(latest.sha256.as_deref().unwrap_or_default());
        if let Some((file, _)) = self.file(latest.to_str().unwrap_or_default(), OFlags::RDWR)? {
            let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
            let used = Timestamps { last_access: now, last_modification: now };
            fs::futimens(&file, &used).or_fail("touch", self.dir.at(&latest))?;
        }
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs() as i64;
        let (mut whole, parts): (Vec<_>, Vec<_>) =
            self.names()?.into_iter().partition(|(name, _)| is_sha256(name.as_encoded_bytes()));
        // Even if the clock was changed, this one is the latest.
        whole.sort_by_key(|(name, _)| *name != latest);
        let too_many = whole.into_iter().skip(usize::try_from(keep).unwrap_or(usize::MAX));
        let too_old = |mtime: i64| now.saturating_sub(mtime) > PATIENCE.as_secs() as i64;
        let given_up = parts.into_iter().filter(|(_, (seconds, _))| too_old(*seconds));
        too_many.chain(given_up).try_for_each(|(name, _)| self.dir.remove_file(name).map(drop))
    }

    /// The archives and parts with the times of their last use, the latest first. Other names are ignored.
    fn names(&self) -> Result<Vec<(OsString, Moment)>, Failure> {
        let mut found = Vec::new();
        for name in self.dir.names()? {
            let bytes = name.as_encoded_bytes();
            if is_sha256(bytes.strip_suffix(PART.as_bytes()).unwrap_or(bytes))
                && let Some(info) = self.dir.lookup(&name)?
            {
                let used = (info.mtime(), info.stat().st_mtime_nsec as i64);
                found.push((name, used));
            }
        }
        found.sort_by_key(|(_, used)| std::cmp::Reverse(*used));
        Ok(found)
    }

    /// Opens a file that belongs only to this user. Anything else under its name is removed, and
    /// the result is `None`: a link, a FIFO, a hard link, a file that others may read or write.
    fn file(&self, name: &str, access: OFlags) -> Result<Option<(File, Metadata)>, Failure> {
        let path = self.dir.at(name);
        let flags = access | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        match fs::openat(&self.dir, name, flags, Mode::empty()).map(File::from) {
            Ok(file) => {
                let info = file.metadata().or_fail("examine", &path)?;
                let alone = info.nlink() == 1 && info.mode() & 0o077 == 0;
                if info.is_file() && alone && info.uid() == users::current() {
                    return Ok(Some((file, info)));
                }
            }
            Err(Errno::NOENT) => return Ok(None),
            // A link, a socket.
            Err(Errno::LOOP | Errno::NXIO | Errno::ACCESS) => {}
            Err(error) => return Err(Failure::io("open", &path, error)),
        }
        if !self.only_look {
            self.dir.remove_file(name)?;
        }
        Ok(None)
    }
}

fn part(artifact: &Artifact) -> String {
    format!("{}{PART}", artifact.sha256.as_deref().unwrap_or_default())
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::tests::scratch;

    fn artifact(digit: char, size: u64) -> Artifact {
        Artifact::of(size, digit.to_string().repeat(64))
    }

    fn send(to: &Artifacts, what: &Artifact, offset: u64, bytes: &[u8]) -> u64 {
        to.receive(what, offset, &mut &*bytes).unwrap();
        match to.whole(what).unwrap() {
            Some(_) => what.size,
            None => to.received(what).unwrap(),
        }
    }

    #[test]
    fn what_comes_twice_or_out_of_turn_is_put_right() {
        let (_scratch, root) = scratch();
        let artifacts = Artifacts::open(&root).unwrap();
        let one = artifact('a', 10);
        assert_eq!(send(&artifacts, &one, 0, b"0123"), 4);
        assert_eq!(send(&artifacts, &one, 0, b"012"), 4, "all of it was there");
        assert_eq!(send(&artifacts, &one, 7, b"789"), 4, "after a gap");
        assert_eq!(send(&artifacts, &one, 2, b"2345"), 6, "overlapping");
        assert_eq!(send(&artifacts, &one, 6, b""), 6);
        assert!(artifacts.whole(&one).unwrap().is_none());
        assert_eq!(send(&artifacts, &one, 6, b"6789 and too much"), 10);
        let mut contents = String::new();
        artifacts.whole(&one).unwrap().unwrap().read_to_string(&mut contents).unwrap();
        assert_eq!(contents, "0123456789");
        assert_eq!(artifacts.names().unwrap().len(), 1);
        assert!(artifacts.whole(&artifact('a', 11)).unwrap().is_none());
        artifacts.discard(&one).unwrap();
        assert!(artifacts.whole(&one).unwrap().is_none());
    }

    #[test]
    fn two_who_send_the_same_complete_it_together() {
        let (_scratch, root) = scratch();
        let contents: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
        let one = artifact('b', contents.len() as u64);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let artifacts = Artifacts::open(&root).unwrap();
                    let mut at = 0;
                    while artifacts.whole(&one).unwrap().is_none() {
                        let end = contents.len().min(at as usize + 100_000);
                        at = send(&artifacts, &one, at, &contents[at as usize..end]);
                    }
                });
            }
        });
        let mut read = Vec::new();
        let artifacts = Artifacts::open(&root).unwrap();
        artifacts.whole(&one).unwrap().unwrap().read_to_end(&mut read).unwrap();
        assert!(read == contents);
    }

    #[test]
    fn a_third_ones_new_part_does_not_take_the_place_of_what_is_whole() {
        /// While its bytes are awaited, another one sends all of them, and a third one begins.
        struct Late<'a>(&'a Artifacts, &'a Artifact, &'a [u8]);
        impl Read for Late<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                if self.0.whole(self.1).unwrap().is_none() {
                    assert_eq!(send(self.0, self.1, 0, b"0123456789"), 10);
                    drop(self.0.part(&part(self.1), 10).unwrap());
                }
                self.2.read(buffer)
            }
        }
        let (_scratch, root) = scratch();
        let artifacts = Artifacts::open(&root).unwrap();
        let one = artifact('d', 10);
        artifacts.receive(&one, 0, &mut Late(&artifacts, &one, b"0123456789")).unwrap();
        let mut contents = String::new();
        artifacts.whole(&one).unwrap().unwrap().read_to_string(&mut contents).unwrap();
        assert_eq!(contents, "0123456789");
        // A leftover of another size, under its name, is no reason to begin again and again.
        fs::openat(&artifacts.dir, "e".repeat(64), OFlags::CREATE | OFlags::WRONLY, Mode::RWXU)
            .unwrap();
        assert_eq!(send(&artifacts, &artifact('e', 3), 0, b"012"), 3);
    }

    #[test]
    fn the_last_ones_stay_and_old_parts_go() {
        let (_scratch, root) = scratch();
        let artifacts = Artifacts::open(&root).unwrap();
        let old = |name: &str, days: u64| {
            let file = File::options().write(true).open(artifacts.dir.at(name)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(days * 86400)).unwrap();
        };
        for (digit, days) in [('a', 3), ('b', 2), ('c', 90)] {
            send(&artifacts, &artifact(digit, 1), 0, b"x");
            old(&digit.to_string().repeat(64), days);
        }
        for (digit, days) in [('d', 6), ('e', 8)] {
            send(&artifacts, &artifact(digit, 2), 0, b"x");
            old(&part(&artifact(digit, 2)), days);
        }
        std::fs::write(artifacts.dir.at("not-ours"), "").unwrap();
        let left = || -> Vec<String> {
            let names = artifacts.dir.names().unwrap();
            names.iter().map(|name| name.to_string_lossy()[..1].to_owned()).collect()
        };
        artifacts.tidy(&artifact('c', 1), 2).unwrap();
        assert_eq!(left(), ["b", "c", "d", "n"]);
        artifacts.tidy(&artifact('b', 1), 0).unwrap();
        assert_eq!(left(), ["d", "n"]);
    }
}
