//! Owns the threads that write small files while the next entries are read.
//!
//! Files of an archive do not depend on each other but for their directory and their name,
//! and nearly all of an application's are small. So they are copied out of the stream, a
//! directory's together (threads that make files in one directory wait for each other in
//! the kernel), and written by whoever is free; who reads the stream helps when there is
//! more to write than may wait. Everything else is written in its turn, after [`settle`]
//! where it could meet what is still under way.
//!
//! [`settle`]: Crew::settle

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use oxistrano_core::{Dir, Failure};
use rustix::fs::{self, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::directories::times;
use crate::entry::Time;

/// What is to be changed of owner and group.
pub(crate) type Owner = (Option<Uid>, Option<Gid>);

/// A larger file is written as it comes.
pub(crate) const SMALL: u64 = 128 << 10;
/// What one thread takes at a time.
const BATCH_FILES: usize = 64;
const BATCH_BYTES: usize = 256 << 10;
/// What may wait to be written: bounds memory and open directories.
const WAITING_BYTES: usize = 8 << 20;
const WAITING_BATCHES: usize = 64;
/// More writers than this only wait for the file system.
const MOST_THREADS: usize = 4;

pub(crate) const CREATE: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// What a file is made with, and what it gets when its contents are there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes {
    /// Final permissions.
    pub(crate) mode: u32,
    /// Whether they differ from those it is made with.
    pub(crate) chmod: bool,
    /// Owner and group, if they must be changed.
    pub(crate) owner: Option<Owner>,
    /// Time of modification.
    pub(crate) mtime: Option<Time>,
}

impl Attributes {
    /// Setuid and the like come when owner and contents are there.
    pub(crate) fn created_with(&self) -> Mode {
        Mode::from_raw_mode(self.mode & 0o777)
    }

    /// Gives them to an open file; `Err` says what could not be done.
    pub(crate) fn settle(&self, file: impl std::os::fd::AsFd) -> Result<(), (&'static str, Errno)> {
        if let Some((uid, gid)) = self.owner {
            fs::fchown(&file, uid, gid).map_err(|error| ("change the owner of", error))?;
        }
        if self.chmod {
            fs::fchmod(&file, Mode::from_raw_mode(self.mode))
                .map_err(|error| ("set the mode of", error))?;
        }
        if let Some(mtime) = self.mtime {
            fs::futimens(&file, &times(mtime)).map_err(|error| ("set the time of", error))?;
        }
        Ok(())
    }
}

/// A file whose contents are here.
#[derive(Debug)]
pub(crate) struct SmallFile {
    /// Its name in the directory.
    pub(crate) name: OsString,
    /// Its path in the archive.
    pub(crate) path: PathBuf,
    /// Where its contents end in those of the batch; they begin where the one before ends.
    pub(crate) end: usize,
    /// Its attributes.
    pub(crate) attributes: Attributes,
}

/// Files of one directory.
#[derive(Debug)]
pub(crate) struct Batch {
    dir: Arc<Dir>,
    files: Vec<SmallFile>,
    contents: Vec<u8>,
}

impl Batch {
    /// None yet.
    pub(crate) fn new(dir: Arc<Dir>) -> Self {
        Self { dir, files: Vec::new(), contents: Vec::new() }
    }

    /// Whether it is for this directory.
    pub(crate) fn is_in(&self, dir: &Arc<Dir>) -> bool {
        Arc::ptr_eq(&self.dir, dir)
    }

    /// Whether it should be handed over.
    pub(crate) fn is_full(&self) -> bool {
        self.files.len() >= BATCH_FILES || self.contents.len() >= BATCH_BYTES
    }

    /// Where the contents of the next file go.
    pub(crate) fn contents(&mut self) -> &mut Vec<u8> {
        &mut self.contents
    }

    /// Adds the file whose contents were put there.
    pub(crate) fn push(&mut self, file: SmallFile) {
        self.files.push(file);
    }

    /// Writes all; comes back with those whose name was taken.
    fn write(self, root: &Path) -> Result<Vec<Taken>, Failure> {
        let mut taken = Vec::new();
        let mut start = 0;
        for file in self.files {
            let contents = self.contents.get(start..file.end).unwrap_or_default();
            start = file.end;
            match write(&self.dir, &file, contents) {
                Ok(()) => {}
                Err(("create", Errno::EXIST)) => {
                    taken.push(Taken { contents: contents.to_vec(), file })
                }
                Err((verb, error)) => return Err(Failure::io(verb, &root.join(&file.path), error)),
            }
        }
        Ok(taken)
    }
}

/// Writes one file under a name that must be free; `Err` says what could not be done.
pub(crate) fn write(
    dir: &Dir,
    file: &SmallFile,
    mut contents: &[u8],
) -> Result<(), (&'static str, Errno)> {
    let fd = fs::openat(dir, &file.name, CREATE, file.attributes.created_with())
        .map_err(|error| ("create", error))?;
    while !contents.is_empty() {
        match rustix::io::write(&fd, contents) {
            Ok(written) => contents = contents.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(error) => return Err(("write", error)),
        }
    }
    file.attributes.settle(&fd)
}

/// A file whose name was taken: by an entry before it, or by what was there.
#[derive(Debug)]
pub(crate) struct Taken {
    /// The file.
    pub(crate) file: SmallFile,
    /// Its contents.
    pub(crate) contents: Vec<u8>,
}

/// The threads.
pub(crate) struct Crew {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    root: PathBuf,
    state: Mutex<State>,
    /// Something to do, or nothing left to do.
    change: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Batch>,
    bytes: usize,
    busy: usize,
    taken: Vec<Taken>,
    failure: Option<Failure>,
    over: bool,
}

impl Crew {
    /// Starts the threads; `None` where one processor has to do everything.
    pub(crate) fn start(root: &Path) -> Option<Self> {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let shared = Arc::new(Shared {
            root: root.to_owned(),
            state: Mutex::default(),
            change: Condvar::new(),
        });
        let threads: Vec<_> = (1..processors.min(MOST_THREADS + 1))
            .map_while(|_| {
                let shared = Arc::clone(&shared);
                thread::Builder::new().spawn(move || shared.work()).ok()
            })
            .collect();
        (!threads.is_empty()).then_some(Self { shared, threads })
    }

    /// Hands a batch over; helps if too much is waiting.
    ///
    /// # Errors
    /// The first failure of any thread.
    pub(crate) fn hand_over(&self, batch: Batch) -> Result<(), Failure> {
        if batch.files.is_empty() {
            return Ok(());
        }
        let mut state = self.shared.lock();
        state.bytes += batch.contents.len();
        state.waiting.push_back(batch);
        self.shared.change.notify_one();
        while state.bytes > WAITING_BYTES || state.waiting.len() > WAITING_BATCHES {
            let Some(batch) = state.take() else { break };
            drop(state);
            self.shared.write(batch);
            state = self.shared.lock();
        }
        state.failure.take().map_or(Ok(()), Err)
    }

    /// Helps until all is written; comes back with the files whose names were taken.
    ///
    /// # Errors
    /// The first failure of any thread.
    pub(crate) fn settle(&self) -> Result<Vec<Taken>, Failure> {
        let mut state = self.shared.lock();
        loop {
            if let Some(failure) = state.failure.take() {
                return Err(failure);
            }
            if let Some(batch) = state.take() {
                drop(state);
                self.shared.write(batch);
                state = self.shared.lock();
            } else if state.busy == 0 {
                return Ok(std::mem::take(&mut state.taken));
            } else {
                state = self.shared.change.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

impl Drop for Crew {
    /// Nothing is written any more when it is gone: what was written may be removed next.
    fn drop(&mut self) {
        {
            let mut state = self.shared.lock();
            state.over = true;
            state.waiting.clear();
        }
        self.shared.change.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl State {
    fn take(&mut self) -> Option<Batch> {
        let batch = self.waiting.pop_front()?;
        self.bytes -= batch.contents.len();
        self.busy += 1;
        Some(batch)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut state = self.lock();
        while !state.over {
            state = match state.take() {
                Some(batch) => {
                    drop(state);
                    self.write(batch);
                    self.lock()
                }
                None => self.change.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn write(&self, batch: Batch) {
        // Says that it is done whatever happens, or the others would wait for ever.
        let mut turn = Turn { shared: self, result: None };
        turn.result = Some(batch.write(&self.root));
    }
}

struct Turn<'a> {
    shared: &'a Shared,
    result: Option<Result<Vec<Taken>, Failure>>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.busy -= 1;
        let failed = match self.result.take() {
            Some(Ok(taken)) => {
                state.taken.extend(taken);
                None
            }
            Some(Err(failure)) => Some(failure),
            None => Some(Failure::new("panic", "a thread that writes files stopped")),
        };
        if let Some(failure) = failed {
            state.failure.get_or_insert(failure);
            state.waiting.clear();
            state.bytes = 0;
        }
        let quiet = state.busy == 0 && state.waiting.is_empty();
        drop(state);
        if quiet {
            self.shared.change.notify_all();
        }
    }
}
