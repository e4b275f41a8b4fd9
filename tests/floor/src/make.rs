//! Owns the making: several threads, each with a directory of its own, because the kernel
//! lets only one at a time make something in a directory.

use std::error::Error;
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::fs::{self, AtFlags, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use crate::options::Options;
use crate::owner;
use crate::tree::{Directory, Time, Tree};

const CREATE: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::CLOEXEC);

/// Makes all of it.
pub fn make(tree: &Tree, options: &Options) -> Result<(), Box<dyn Error>> {
    // Permissions are meant as they are.
    rustix::process::umask(Mode::empty());
    fs::mkdir(&options.target, Mode::from_raw_mode(tree.directories[0].mode))?;
    let top = File::open(&options.target)?;
    if let Some((uid, gid)) = options.owner {
        std::os::unix::fs::fchown(&top, Some(uid), Some(gid))?;
    }
    let work = Work {
        tree,
        top: &top,
        owner: options.owner,
        times: options.times,
        queue: Mutex::new(Queue { ready: vec![0], left: tree.directories.len(), failure: None }),
        change: Condvar::new(),
    };
    thread::scope(|scope| {
        for _ in 0..options.threads {
            scope.spawn(|| work.run());
        }
    });
    match work.queue.into_inner().unwrap_or_else(PoisonError::into_inner).failure {
        Some((path, error)) => Err(format!("{path}: {error}").into()),
        None => Ok(()),
    }
}

struct Queue {
    /// Directories that exist and are to be filled.
    ready: Vec<usize>,
    /// How many have not been filled.
    left: usize,
    failure: Option<(String, Errno)>,
}

struct Work<'a> {
    tree: &'a Tree,
    top: &'a File,
    owner: Option<(u32, u32)>,
    times: bool,
    queue: Mutex<Queue>,
    change: Condvar,
}

impl Work<'_> {
    fn run(&self) {
        if let Err(error) = self.owner.map_or(Ok(()), owner::make_for) {
            return self.fail("cannot make files for somebody else", error);
        }
        while let Some(directory) = self.next() {
            if let Err(error) = self.fill(directory) {
                return self.fail(&directory.path.to_string_lossy(), error);
            }
            let mut queue = self.lock();
            queue.left -= 1;
            queue.ready.extend(&directory.subdirectories);
            // One of them is for this thread.
            if queue.left == 0 || directory.subdirectories.len() > 1 {
                self.change.notify_all();
            }
        }
    }

    fn next(&self) -> Option<&Directory> {
        let mut queue = self.lock();
        loop {
            if queue.left == 0 || queue.failure.is_some() {
                return None;
            }
            if let Some(number) = queue.ready.pop() {
                return Some(&self.tree.directories[number]);
            }
            queue = self.change.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn fail(&self, what: &str, error: Errno) {
        self.lock().failure.get_or_insert((what.to_owned(), error));
        self.change.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that lies in a directory, subdirectories still empty; then its time is final.
    fn fill(&self, directory: &Directory) -> Result<(), Errno> {
        for number in &directory.subdirectories {
            let subdirectory = &self.tree.directories[*number];
            fs::mkdirat(self.top, &subdirectory.path, Mode::from_raw_mode(subdirectory.mode))?;
        }
        for file in &directory.files {
            let fd = fs::openat(self.top, &file.path, CREATE, Mode::from_raw_mode(file.mode))?;
            let mut contents = &self.tree.contents[file.contents.clone()];
            while !contents.is_empty() {
                contents = &contents[rustix::io::write(&fd, contents)?..];
            }
            if let Some(time) = self.time(file.mtime) {
                fs::futimens(fd.as_fd(), &time)?;
            }
        }
        for link in &directory.links {
            fs::symlinkat(&link.target, self.top, &link.path)?;
            if let Some(time) = self.time(link.mtime) {
                fs::utimensat(self.top, &link.path, &time, AtFlags::SYMLINK_NOFOLLOW)?;
            }
        }
        match self.time(directory.mtime) {
            Some(time) if directory.path.is_empty() => fs::futimens(self.top, &time),
            Some(time) => {
                fs::utimensat(self.top, &directory.path, &time, AtFlags::SYMLINK_NOFOLLOW)
            }
            None => Ok(()),
        }
    }

    fn time(&self, mtime: Option<Time>) -> Option<Timestamps> {
        let (tv_sec, tv_nsec) = mtime.filter(|_| self.times)?;
        let last_access = Timespec { tv_sec: 0, tv_nsec: fs::UTIME_OMIT };
        Some(Timestamps { last_access, last_modification: Timespec { tv_sec, tv_nsec } })
    }
}
