//! The threads that write small files while the next entries are read.
//!
//! Files of an archive depend only on their directory and name, and nearly all files of an
//! application are small. So they are copied out of the stream, in batches of consecutive files
//! (threads that create files in the same directory block each other in the kernel), and written by
//! any free thread; the reading thread helps if too many batches are waiting.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use oxistrano_core::Failure;

use crate::batch::{Batch, Taken};
use crate::spare::Stock;

/// The number of batches that may wait: limits memory and open directories.
const WAITING: usize = 6;
/// The number of files with taken names that may wait: each keeps its contents in memory and its directory open.
const MOST_TAKEN: usize = 64;
/// More writers would only wait for the file system.
const MOST_THREADS: usize = 4;

/// The threads.
pub(crate) struct Crew {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    root: PathBuf,
    stock: Arc<Stock>,
    state: Mutex<State>,
    /// Signals new work, or the end of work.
    change: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Batch>,
    /// Written batches, whose memory is reused.
    spent: Vec<Batch>,
    busy: usize,
    taken: Vec<Taken>,
    failure: Option<Failure>,
    over: bool,
}

impl Crew {
    /// Starts the threads; `None` on a single processor.
    pub(crate) fn start(root: &Path, stock: Arc<Stock>) -> Option<Self> {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let shared = Arc::new(Shared {
            root: root.to_owned(),
            stock,
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

    /// Hands a batch over and returns an empty one; helps if too many are waiting.
    ///
    /// # Errors
    /// The first failure of any thread.
    pub(crate) fn hand_over(&self, batch: Batch) -> Result<Batch, Failure> {
        let mut state = self.shared.lock();
        state.waiting.push_back(batch);
        self.shared.change.notify_one();
        while state.waiting.len() > WAITING {
            let Some(batch) = state.take() else { break };
            drop(state);
            self.shared.write(batch);
            state = self.shared.lock();
        }
        match state.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(state.spent.pop().unwrap_or_default()),
        }
    }

    /// Whether [`Crew::settle`] should not be put off.
    pub(crate) fn has_many_taken(&self) -> bool {
        self.shared.lock().taken.len() >= MOST_TAKEN
    }

    /// Helps until all is written; returns the files whose names were taken.
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
    /// After the drop, no thread writes any more, because the files may be removed next.
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

    fn write(&self, mut batch: Batch) {
        // Always marks the batch as done, because the others would wait forever.
        let mut turn = Turn { shared: self, result: None };
        let result = batch.write(&self.root, &self.stock);
        turn.result = Some(result.map(|taken| (taken, batch)));
    }
}

struct Turn<'a> {
    shared: &'a Shared,
    result: Option<Result<(Vec<Taken>, Batch), Failure>>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.busy -= 1;
        let failed = match self.result.take() {
            Some(Ok((taken, batch))) => {
                state.taken.extend(taken);
                if state.spent.len() < WAITING {
                    state.spent.push(batch);
                }
                None
            }
            Some(Err(failure)) => Some(failure),
            None => Some(Failure::new("panic", "a thread that writes files stopped unexpectedly")),
        };
        if let Some(failure) = failed {
            state.failure.get_or_insert(failure);
            state.waiting.clear();
        }
        let quiet = state.busy == 0 && state.waiting.is_empty();
        drop(state);
        if quiet {
            self.shared.change.notify_all();
        }
    }
}
