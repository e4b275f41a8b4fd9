//! The one time limit of a run.

use std::thread;
use std::time::{Duration, Instant};

use oxistrano_core::{Failure, interrupt};

/// When the module has to end.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    end: Instant,
}

impl Deadline {
    /// A deadline in `seconds` from now.
    pub fn after(seconds: u64) -> Self {
        // At most a year, so that it never overflows.
        Self { end: Instant::now() + Duration::from_secs(seconds.min(31_536_000)) }
    }

    /// The time left, at least a moment, so that the last request is still sent.
    pub fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now()).max(Duration::from_millis(50))
    }

    /// The end.
    pub fn end(&self) -> Instant {
        self.end
    }

    /// Whether it has passed.
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }

    /// Waits, but not beyond it.
    ///
    /// # Errors
    /// `interrupted` by a signal.
    pub fn sleep(&self, time: Duration) -> Result<(), Failure> {
        let until = (Instant::now() + time).min(self.end);
        loop {
            interrupt::check()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(Duration::from_millis(50)));
        }
    }
}
