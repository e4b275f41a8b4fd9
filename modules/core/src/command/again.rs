//! Runs this program again as one of its modules, and waits for the result.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

use crate::command::Output;
use crate::interrupt;

/// How often to check for a signal.
const SLICE: Duration = Duration::from_millis(50);

/// Runs a module as Ansible does: `-` is its only argument, `input` writes to its standard input, standard error is this
/// process's. A signal to this process goes on to the module, which then ends in an orderly way; so does the death of
/// this process.
///
/// # Errors
/// When it cannot start.
pub fn run_again(module: &str, input: impl FnOnce(&mut dyn Write)) -> io::Result<Output> {
    let started = Instant::now();
    // /proc/self/exe works although Ansible may have deleted the module's file.
    let mut command = Command::new("/proc/self/exe");
    command.args([module, "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    // SAFETY: between fork and exec one system call is made.
    unsafe {
        command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::TERM))?));
    }
    let mut child = command.spawn()?;
    // Cleared before the process is waited for, after which its number may be another's.
    let running = Mutex::new(i32::try_from(child.id()).ok().and_then(Pid::from_raw));
    let mut stdout = Vec::new();
    thread::scope(|scope| {
        let watch = thread::Builder::new().spawn_scoped(scope, || watch(&running))?;
        // A module reads all of its input before it prints anything.
        if let Some(mut stdin) = child.stdin.take() {
            input(&mut stdin);
            // Before the input ends, which a signal may be the cause of.
            pass_a_signal_on(&running);
        }
        let read = child.stdout.take().map_or(Ok(0), |mut pipe| pipe.read_to_end(&mut stdout));
        *running.lock().unwrap_or_else(PoisonError::into_inner) = None;
        watch.thread().unpark();
        let status = child.wait()?;
        let elapsed = started.elapsed();
        Ok(Output { stdout, stderr: Vec::new(), status, elapsed, complete: read.is_ok() })
    })
}

/// Passes a signal on as soon as there is one, until the module has ended.
fn watch(running: &Mutex<Option<Pid>>) {
    while !pass_a_signal_on(running) {
        thread::park_timeout(SLICE);
    }
}

/// Returns whether there is nothing more to do.
fn pass_a_signal_on(running: &Mutex<Option<Pid>>) -> bool {
    match *running.lock().unwrap_or_else(PoisonError::into_inner) {
        None => true,
        Some(child) if interrupt::check().is_err() => {
            let _ = kill_process(child, Signal::TERM);
            true
        }
        Some(_) => false,
    }
}

/// Whether somebody can still read standard output. If the connection is lost, nobody can.
pub fn somebody_reads() -> bool {
    let stdout = rustix::stdio::stdout();
    let mut asked = [PollFd::new(&stdout, PollFlags::empty())];
    match poll(&mut asked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
        Ok(_) => !asked.iter().any(|it| it.revents().intersects(PollFlags::ERR | PollFlags::HUP)),
        Err(_) => true,
    }
}
