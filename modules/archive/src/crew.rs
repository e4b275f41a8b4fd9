//! Owns the threads that write small files while the next entries are read.
//!
//! Files of an archive do not depend on each other but for their directory and their name,
//! and nearly all of an application's are small. So they are copied out of the stream, many
//! at a time and one after the other as they came (threads that make files in one directory
//! wait for each other in the kernel), and written by whoever is free; who reads the stream
//! helps when there is more to write than may wait.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use oxistrano_core::Failure;

use crate::batch::{Batch, Taken};
use crate::spare::Stock;

/// What may wait to be written: bounds memory, and with the directories of a batch how many
/// are open.
const WAITING: usize = 6;
/// As many files whose names were taken may wait for the others: each has its contents, and
/// keeps its directory open.
const MOST_TAKEN: usize = 64;
/// More writers than this only wait for the file system.
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
    /// Something to do, or nothing left to do.
    change: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Batch>,
    /// Written ones, whose memory is used again.
    spent: Vec<Batch>,
    busy: usize,
    taken: Vec<Taken>,
    failure: Option<Failure>,
    over: bool,
}

impl Crew {
    /// Starts the threads; `None` where one processor has to do everything.
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

    /// Hands a batch over and comes back with an empty one; helps if too much is waiting.
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
        // Says that it is done whatever happens, or the others would wait for ever.
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
