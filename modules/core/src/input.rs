//! Standard input, read so that a signal ends the wait: the sender may stop without closing the pipe.

use std::io::{self, BufReader, Read};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::interrupt;

/// How often to check for a signal.
const SLICE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
const BUFFER: usize = 64 << 10;

/// Standard input. Reading fails after a signal, also where the input has ended.
#[derive(Debug)]
pub struct Input(());

/// The only reader of it, because its buffer has taken bytes from the pipe.
pub fn lock() -> MutexGuard<'static, BufReader<Input>> {
    static INPUT: LazyLock<Mutex<BufReader<Input>>> =
        LazyLock::new(|| Mutex::new(BufReader::with_capacity(BUFFER, Input(()))));
    INPUT.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let stdin = rustix::stdio::stdin();
        loop {
            not_after_a_signal()?;
            match poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&SLICE)) {
                Ok(0) | Err(Errno::INTR) => continue,
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
            match rustix::io::read(stdin, &mut *buffer) {
                Err(Errno::INTR | Errno::AGAIN) => {}
                // The signal may have ended the sender as well: then the input is not complete.
                Ok(0) => return not_after_a_signal().map(|()| 0),
                read => return Ok(read?),
            }
        }
    }
}

/// Not with `ErrorKind::Interrupted`, after which callers try again.
fn not_after_a_signal() -> io::Result<()> {
    interrupt::check().map_err(|failure| io::Error::other(failure.to_string()))
}
