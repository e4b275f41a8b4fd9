//! A few threads that work on a stack of jobs, each of which may push more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use oxistrano_core::{Failure, interrupt};
use rustix::process::{Resource, getrlimit};

/// File descriptors that one thread may have open for a moment: both sides of a step
/// down, two directories being read, two files.
const PER_THREAD: usize = 8;

/// How many threads may run, and how many more directories may stay open.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    pub threads: usize,
    pub kept: usize,
}

impl Room {
    /// Measures the limit of open files and the number of those that are open.
    pub fn measure() -> Self {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(1024).min(8192) as usize;
        // One of the entries is the listing itself.
        let open = std::fs::read_dir("/proc/self/fd").map_or(32, Iterator::count);
        let free = limit.saturating_sub(open + 4);
        let threads = thread::available_parallelism().map_or(2, usize::from).clamp(1, 8);
        let threads = threads.min(free / (2 * PER_THREAD)).max(1);
        Self { threads, kept: free.saturating_sub(threads * PER_THREAD) }
    }
}

/// The jobs. The last one pushed is worked on first, so that a tree is walked depth
/// first and few of its directories are pending at a time.
pub struct Pool<J> {
    queue: Mutex<Queue<J>>,
    wake: Condvar,
    stopped: AtomicBool,
    threads: usize,
}

struct Queue<J> {
    jobs: Vec<J>,
    busy: usize,
    failure: Option<Failure>,
}

impl<J: Send> Pool<J> {
    /// Runs `work` on all jobs until none is left or one fails. Returns the first failure and drops the remaining jobs.
    pub fn run(
        threads: usize,
        jobs: Vec<J>,
        work: impl Fn(J, &Self) -> Result<(), Failure> + Sync,
    ) -> Result<(), Failure> {
        let pool = Self {
            queue: Mutex::new(Queue { jobs, busy: 0, failure: None }),
            wake: Condvar::new(),
            stopped: AtomicBool::new(false),
            threads,
        };
        thread::scope(|scope| {
            for _ in 1..threads {
                // Without more threads it only takes longer.
                let _ = thread::Builder::new().spawn_scoped(scope, || pool.work(&work));
            }
            pool.work(&work);
        });
        match pool.queue.into_inner().unwrap_or_else(PoisonError::into_inner).failure {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    fn work(&self, work: &(impl Fn(J, &Self) -> Result<(), Failure> + Sync)) {
        while let Some(job) = self.next() {
            // Always finishes the job, because the other threads would wait forever for one that panicked.
            let mut turn = Turn { pool: self, failure: None, finished: false };
            turn.failure = interrupt::check().and_then(|()| work(job, self)).err();
            turn.finished = true;
        }
    }

    fn next(&self) -> Option<J> {
        let mut queue = self.lock();
        loop {
            if self.is_stopped() {
                queue.jobs.clear();
            }
            if let Some(job) = queue.jobs.pop() {
                queue.busy += 1;
                return Some(job);
            }
            if queue.busy == 0 {
                return None;
            }
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// One more job.
    pub fn push(&self, job: J) {
        self.lock().jobs.push(job);
        self.wake.notify_one();
    }

    /// Whether a thread is idle, so that the caller should share its work.
    pub fn is_hungry(&self) -> bool {
        self.threads > 1 && self.lock().jobs.len() < self.threads
    }

    /// Whether a job has failed.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Queue<J>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A job being worked on.
struct Turn<'a, J: Send> {
    pool: &'a Pool<J>,
    failure: Option<Failure>,
    finished: bool,
}

impl<J: Send> Drop for Turn<'_, J> {
    fn drop(&mut self) {
        let mut queue = self.pool.lock();
        queue.busy -= 1;
        if let Some(failure) = self.failure.take() {
            queue.failure.get_or_insert(failure);
            self.pool.stopped.store(true, Ordering::Relaxed);
        }
        if !self.finished {
            self.pool.stopped.store(true, Ordering::Relaxed);
        }
        if queue.busy == 0 || self.pool.is_stopped() {
            self.pool.wake.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn jobs_may_push_jobs() {
        let sum = AtomicU64::new(0);
        Pool::run(4, vec![10_u64], |job, pool| {
            sum.fetch_add(1, Ordering::Relaxed);
            (0..job).for_each(|smaller| pool.push(smaller));
            Ok(())
        })
        .unwrap();
        assert_eq!(sum.into_inner(), 1 << 10);
    }

    #[test]
    fn a_failure_stops_all() {
        let done = AtomicU64::new(0);
        let result = Pool::run(3, (0..100_000).collect(), |job: u32, _| {
            done.fetch_add(1, Ordering::Relaxed);
            if job == 99_000 { Err(Failure::new("x", "job 99000")) } else { Ok(()) }
        });
        assert_eq!(result.unwrap_err().to_string(), "job 99000.");
        assert!(done.into_inner() < 100_000);
    }

    #[test]
    fn a_panic_ends_the_others_too() {
        let result = std::panic::catch_unwind(|| {
            Pool::run(4, (0..1000).collect(), |job: u32, _| {
                assert!(job != 500, "on purpose");
                Ok(())
            })
        });
        assert!(result.is_err());
    }
}
