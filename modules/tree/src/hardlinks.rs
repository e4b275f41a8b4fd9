//! Keeps track of files with several names, and where the first copy of each is.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use oxistrano_core::Failure;
use rustix::fs::Stat;

/// The files with several names that were seen.
#[derive(Debug, Default)]
pub struct HardLinks {
    seen: Mutex<HashMap<(u64, u64), State>>,
    wake: Condvar,
}

#[derive(Debug)]
enum State {
    /// A thread is copying it.
    Copying,
    /// Its copy, and how many names of it are still to come.
    At(PathBuf, u64),
}

/// What to do with a name.
#[derive(Debug, PartialEq, Eq)]
pub enum Claim {
    /// Copy it, then say where with [`HardLinks::copied`].
    First,
    /// Link it to this.
    To(PathBuf),
}

impl HardLinks {
    /// Decides what to do with a name of a file that has several. Waits for a thread that is
    /// copying the file, unless all have been stopped.
    pub fn claim(&self, stat: &Stat, stopped: impl Fn() -> bool) -> Result<Claim, Failure> {
        let key = key(stat);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match seen.get_mut(&key) {
                None => {
                    seen.insert(key, State::Copying);
                    return Ok(Claim::First);
                }
                Some(State::At(path, left)) => {
                    *left = left.saturating_sub(1);
                    let (path, last) = (path.clone(), *left == 0);
                    if last {
                        seen.remove(&key);
                    }
                    return Ok(Claim::To(path));
                }
                Some(State::Copying) if stopped() => {
                    return Err(Failure::new("stopped", "another file could not be copied"));
                }
                Some(State::Copying) => {
                    let wait = self.wake.wait_timeout(seen, Duration::from_millis(20));
                    seen = wait.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }

    /// The copy stands at this path now.
    // The field's type differs between architectures.
    #[allow(clippy::unnecessary_cast)]
    pub fn copied(&self, stat: &Stat, path: &Path) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Names outside of the tree never come, so their entry stays.
        seen.insert(
            key(stat),
            State::At(path.to_owned(), (stat.st_nlink as u64).saturating_sub(1)),
        );
        self.wake.notify_all();
    }
}

fn key(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}
