//! Copies one file or link: its contents, cloned or copied with holes, and its metadata.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use oxistrano_core::dir::Info;
use oxistrano_core::remove::remove_tree;
use oxistrano_core::{Dir, Failure, IoContext, interrupt};
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, SeekFrom, Stat};
use rustix::io::{self, Errno};

use crate::attributes::Attributes;
use crate::metadata::Rules;

/// A file up to this size is read and written at once.
const SMALL: u64 = 64 * 1024;
/// The size of one copy request to the kernel.
const CHUNK: u64 = 16 * 1024 * 1024;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; SMALL as usize]);
    static OTHER: RefCell<Vec<u8>> = RefCell::new(vec![0; SMALL as usize]);
}

/// How to copy files, and what the two file systems support.
#[derive(Debug)]
pub struct Copier {
    pub rules: Rules,
    clone: AtomicBool,
    in_kernel: AtomicBool,
}

/// A regular file of the source.
pub struct Source {
    fd: OwnedFd,
    pub stat: Stat,
}

impl Source {
    /// Opens a regular file; anything else is refused, without blocking.
    pub fn open(dir: &Dir, name: &OsStr) -> Result<Self, Failure> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let fd = match fs::openat(dir, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Err(vanished(&dir.at(name))),
            Err(Errno::LOOP) => return Err(changed(&dir.at(name))),
            Err(error) => return Err(Failure::io("read", &dir.at(name), error)),
        };
        let stat = fs::fstat(&fd).or_fail("examine", dir.at(name))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(changed(&dir.at(name)));
        }
        Ok(Self { fd, stat })
    }

    /// A regular file that is open already.
    pub fn held(fd: OwnedFd, stat: Stat) -> Self {
        Self { fd, stat }
    }

    pub fn size(&self) -> u64 {
        self.stat.st_size as u64
    }

    pub fn is_sparse(&self) -> bool {
        (self.stat.st_blocks as u64) * 512 < self.size()
    }

    /// The offset of the next data after holes; the end if there is none, and `place` if that is not known.
    fn data_from(&self, place: u64) -> u64 {
        if !self.is_sparse() {
            return place;
        }
        match fs::seek(&self.fd, SeekFrom::Data(place)) {
            Ok(data) => data,
            Err(Errno::NXIO) => self.size(),
            Err(_) => place,
        }
    }

    /// Checks that it has not changed since it was opened.
    pub fn check(&self, path: &Path) -> Result<(), Failure> {
        let now = fs::fstat(&self.fd).or_fail("examine", path)?;
        let same = now.st_size == self.stat.st_size
            && now.st_mtime == self.stat.st_mtime
            && now.st_mtime_nsec == self.stat.st_mtime_nsec;
        if same { Ok(()) } else { Err(changed(path)) }
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Copier {
    pub fn new(rules: Rules, clone: bool) -> Self {
        Self { rules, clone: AtomicBool::new(clone), in_kernel: AtomicBool::new(true) }
    }

    /// Copies a file under a free name. Returns whether it was cloned.
    pub fn file(
        &self,
        source: &Source,
        (from, name): (&Dir, &OsStr),
        (to, new): (&Dir, &OsStr),
    ) -> Result<bool, Failure> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let target = to.at(new);
        let fd =
            fs::openat(to, new, flags, Mode::from_raw_mode(0o600)).or_fail("create", &target)?;
        let origin = from.at(name);
        let cloned = self.contents(source, &fd, &origin, &target)?;
        let attributes = match self.rules.attributes {
            true => Attributes::read(&source.fd),
            false => Attributes::default(),
        };
        self.rules.finish(&fd, &source.stat, &attributes, &target)?;
        source.check(&origin)?;
        Ok(cloned)
    }

    /// Copies a symbolic link under a free name.
    pub fn link(
        &self,
        stat: &Stat,
        (from, name): (&Dir, &OsStr),
        (to, new): (&Dir, &OsStr),
    ) -> Result<(), Failure> {
        let target = from.read_link(name)?.ok_or_else(|| changed(&from.at(name)))?;
        let make = |dir: &Dir, name: &OsStr| {
            dir.make_symlink(name, &target)?;
            let link = dir.handle(name)?.ok_or_else(|| changed(&dir.at(name)))?;
            self.rules.finish_link(&link, stat)
        };
        if to.is_ours_alone()? {
            return make(to, new);
        }
        // A link can be opened only by its name. Here, others could replace it by another user's
        // file, which would then get another owner.
        let (private, dir) = to.make_private_dir(new)?;
        let name = OsStr::new("link");
        let made = make(&dir, name).and_then(|()| dir.rename_to(name, to, new));
        let removed = remove_tree(to, private);
        made.and(removed.map(drop))
    }

    fn contents(
        &self,
        source: &Source,
        fd: &OwnedFd,
        origin: &Path,
        target: &Path,
    ) -> Result<bool, Failure> {
        let size = source.size();
        if size == 0 {
            return Ok(false);
        }
        if self.clone.load(Ordering::Relaxed) {
            match fs::ioctl_ficlone(fd, &source.fd) {
                Ok(()) => return Ok(true),
                // Depends on the file: swap, no checksums, encryption …
                Err(Errno::INVAL | Errno::TXTBSY) => {}
                // Any other error means that the file system cannot clone; or the error, for
                // example a full disk, occurs again below.
                Err(_) => self.clone.store(false, Ordering::Relaxed),
            }
        }
        if !source.is_sparse() {
            return self.range(source, fd, (0, size), origin, target).map(|()| false);
        }
        let mut end = 0;
        while end < size {
            interrupt::check()?;
            let start = match fs::seek(&source.fd, SeekFrom::Data(end)) {
                Ok(start) => start,
                // Only a hole up to the end.
                Err(Errno::NXIO) => break,
                // The file system does not report holes.
                Err(Errno::INVAL | Errno::OPNOTSUPP) => end,
                Err(error) => return Err(Failure::io("read", origin, error)),
            };
            end = match fs::seek(&source.fd, SeekFrom::Hole(start)) {
                Ok(end) => end.min(size),
                Err(Errno::INVAL | Errno::OPNOTSUPP) => size,
                Err(Errno::NXIO) => return Err(changed(origin)),
                Err(error) => return Err(Failure::io("read", origin, error)),
            };
            self.range(source, fd, (start, end), origin, target)?;
        }
        fs::ftruncate(fd, size).or_fail("write", target)?;
        Ok(false)
    }

    /// Copies a range of bytes; the second offset is exclusive.
    fn range(
        &self,
        source: &Source,
        fd: &OwnedFd,
        (mut place, end): (u64, u64),
        origin: &Path,
        target: &Path,
    ) -> Result<(), Failure> {
        while end - place > SMALL && self.in_kernel.load(Ordering::Relaxed) {
            interrupt::check()?;
            let (mut from, mut to) = (place, place);
            let length = (end - place).min(CHUNK) as usize;
            match fs::copy_file_range(&source.fd, Some(&mut from), fd, Some(&mut to), length) {
                // The end of the file, or a file system that returns 0 without reason.
                Ok(0) => break,
                Ok(copied) => place += copied as u64,
                Err(Errno::INTR) => {}
                Err(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => break,
                Err(Errno::IO) => return Err(Failure::io("copy", origin, Errno::IO)),
                // EXDEV, ENOSYS, EINVAL, EOPNOTSUPP, and EPERM from a sandbox.
                Err(_) => self.in_kernel.store(false, Ordering::Relaxed),
            }
        }
        BUFFER.with_borrow_mut(|buffer| {
            while place < end {
                interrupt::check()?;
                let wanted = (end - place).min(SMALL) as usize;
                let read = retry(|| io::pread(&source.fd, &mut buffer[..wanted], place));
                let read = read.or_fail("read", origin)?;
                if read == 0 {
                    return Err(changed(origin));
                }
                let mut rest = &buffer[..read];
                while !rest.is_empty() {
                    let written = retry(|| io::pwrite(fd, rest, place)).or_fail("write", target)?;
                    rest = &rest[written..];
                    place += written as u64;
                }
            }
            Ok(())
        })
    }
}

/// Whether two files of the same size have the same contents.
pub fn same_contents(a: &Source, b: &Source, path: &Path) -> Result<bool, Failure> {
    OTHER.with_borrow_mut(|other| {
        BUFFER.with_borrow_mut(|buffer| {
            let mut place = 0;
            while place < a.size() {
                interrupt::check()?;
                // Skip common holes, which may have terabytes.
                place = a.data_from(place).min(b.data_from(place)).max(place);
                let read =
                    retry(|| io::pread(&a.fd, &mut buffer[..], place)).or_fail("read", path)?;
                if read == 0 {
                    return Ok(place == a.size());
                }
                let mut filled = 0;
                while filled < read {
                    let at = place + filled as u64;
                    let more = retry(|| io::pread(&b.fd, &mut other[filled..read], at));
                    match more.or_fail("read", path)? {
                        0 => return Ok(false),
                        more => filled += more,
                    }
                }
                if buffer[..read] != other[..read] {
                    return Ok(false);
                }
                place += read as u64;
            }
            Ok(place == a.size())
        })
    })
}

/// Sets owner and permissions of a file or link in a directory that no other user can change.
/// `false`: it has to be replaced, because it has other names, which must not be changed, or was
/// replaced.
pub fn settle(rules: &Rules, dir: &Dir, name: &OsStr, source: &Info) -> Result<bool, Failure> {
    let Some(there) = dir.handle(name)? else { return Ok(false) };
    let now = there.info()?;
    if now.kind() != source.kind() || now.stat().st_nlink != 1 {
        return Ok(false);
    }
    if source.is_symlink() {
        return rules.settle_link(&there, source.stat()).map(|()| true);
    }
    rules.settle_file(&there, source.stat()).map(|()| true)
}

/// Makes a hard link. `false` if the file can have no more names.
pub fn add_name((from, name): (&Dir, &OsStr), (to, new): (&Dir, &OsStr)) -> Result<bool, Failure> {
    match fs::linkat(from, name, to, new, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::MLINK) => Ok(false),
        Err(error) => Err(Failure::io("link", &to.at(new), error)),
    }
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => interrupt_only()?,
            other => return other,
        }
    }
}

/// Only a signal that ends this process may interrupt a call.
fn interrupt_only() -> io::Result<()> {
    interrupt::check().map_err(|_| Errno::INTR)
}

/// The failure for something that is not a file, directory or link.
pub fn special(path: &Path, noun: &str) -> Failure {
    Failure::new("special_file", format!("refusing to copy '{}'", path.display()))
        .cause(format!("it is {noun}"))
        .remedy("remove it, or exclude that path")
        .path(path)
}

pub fn vanished(path: &Path) -> Failure {
    moving(path, "it was removed at the same time")
}

pub fn changed(path: &Path) -> Failure {
    moving(path, "it was changed at the same time")
}

fn moving(path: &Path, why: &str) -> Failure {
    Failure::new("source_changed", format!("cannot copy '{}'", path.display()))
        .cause(why)
        .remedy("make sure that no process writes there during the copy")
        .path(path)
}
