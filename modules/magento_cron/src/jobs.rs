//! Waits for processes that the cron jobs of a shop have started.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use oxistrano_core::{Failure, interrupt};
use oxistrano_magento::processes::{Task, named, running};
use rustix::process::Signal;

/// Asks the queue consumers to end.
pub fn stop_consumers(uid: u32, roots: &[PathBuf]) {
    for job in running(uid, roots).iter().filter(|job| job.task == Task::Consumer) {
        // It may have ended. One that cannot be signalled is reported as still running.
        let _ = job.process.signal(Signal::TERM);
    }
}

/// Waits until the jobs have ended, and the consumers if they were stopped. Returns those
/// that have not.
///
/// # Errors
/// When a signal comes.
pub fn wait(
    uid: u32,
    roots: &[PathBuf],
    consumers: bool,
    patience: Duration,
) -> Result<Vec<String>, Failure> {
    let deadline = Instant::now() + patience;
    loop {
        let left: Vec<String> = running(uid, roots)
            .into_iter()
            .filter(|job| consumers || job.task == Task::Cron)
            .map(|job| job.name())
            .collect();
        if left.is_empty() || Instant::now() >= deadline {
            return Ok(named(left));
        }
        interrupt::check()?;
        sleep(Duration::from_millis(100));
    }
}
