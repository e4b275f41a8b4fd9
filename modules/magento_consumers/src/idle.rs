//! Stops a consumer between two messages.
//!
//! Whether a consumer works on a message is not visible from outside. But between messages it waits
//! in `sleep` (queues in the database) or in `select` (a broker, by php-amqplib); while it works,
//! it computes, or waits for the database or another server in `poll`, `read` or `recv`. A process
//! that was stopped by a signal still shows its system call, and starts nothing until it is
//! continued.

use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use oxistrano_core::process::Process;
use rustix::process::Signal;

/// The numbers of the system calls in which a consumer is idle: `nanosleep`, `clock_nanosleep`,
/// `select` and `pselect6`.
#[cfg(target_arch = "x86_64")]
const WAITING: &[i64] = &[35, 230, 23, 270];
/// As above; this architecture has no `select`.
#[cfg(target_arch = "aarch64")]
const WAITING: &[i64] = &[101, 115, 72];

/// The result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It waited for a message, and is stopped.
    Paused,
    /// It works on a message, and continues.
    Busy,
}

/// Stops a process (SIGSTOP) if it waits for a message.
///
/// # Errors
/// When it has ended, or this process may not examine it (`EACCES`, `EPERM`); it then continues.
pub fn pause(process: &Process) -> io::Result<Seen> {
    if process.state()? != b'T' {
        // Checked first, so that most working consumers are not stopped at all.
        if !waits(process)? {
            return Ok(Seen::Busy);
        }
        process.signal(Signal::STOP)?;
        let started = Instant::now();
        while process.state()? != b'T' {
            if started.elapsed() > Duration::from_secs(1) {
                process.signal(Signal::CONT)?;
                return Ok(Seen::Busy);
            }
            sleep(Duration::from_millis(1));
        }
    }
    match waits(process) {
        Ok(true) => Ok(Seen::Paused),
        seen => {
            // Also continues one that somebody has stopped while it worked.
            process.signal(Signal::CONT)?;
            seen.map(|_| Seen::Busy)
        }
    }
}

/// Whether it is in one of those system calls.
fn waits(process: &Process) -> io::Result<bool> {
    let text = process.read("syscall")?;
    let text = String::from_utf8_lossy(&text);
    let number = text.split_ascii_whitespace().next().and_then(|word| word.parse().ok());
    Ok(number.is_some_and(|number| WAITING.contains(&number)))
}
