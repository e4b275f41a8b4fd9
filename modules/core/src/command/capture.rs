//! What a program prints, read while it runs and bounded.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

/// More than a list of all files of a release. A program that prints endlessly must not fill the memory.
const HEAD: usize = 32 << 20;
/// The end usually says what went wrong, so it is kept, too.
const TAIL: usize = 64 << 10;

#[derive(Default)]
struct Text {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    dropped: usize,
    ended: bool,
}

impl Text {
    fn add(&mut self, bytes: &[u8]) {
        let (head, tail) = bytes.split_at(bytes.len().min(HEAD - self.head.len()));
        self.head.extend_from_slice(head);
        self.tail.extend(tail);
        let over = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..over);
        self.dropped += over;
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head.clone();
        if self.dropped > 0 {
            bytes.extend(format!("\n[{} bytes left out]\n", self.dropped).bytes());
        }
        bytes.extend(&self.tail);
        bytes
    }
}

/// A stream that a thread reads.
pub struct Capture(Arc<(Mutex<Text>, Condvar)>);

impl Capture {
    /// Reads a stream.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(mut stream: impl Read + Send + 'static) -> std::io::Result<Self> {
        let shared = Arc::new((Mutex::new(Text::default()), Condvar::new()));
        let theirs = Arc::clone(&shared);
        thread::Builder::new().spawn(move || {
            let mut buffer = [0; 8192];
            while let Some(count) = read(&mut stream, &mut buffer) {
                locked(&theirs.0).add(buffer.get(..count).unwrap_or_default());
            }
            locked(&theirs.0).ended = true;
            theirs.1.notify_all();
        })?;
        Ok(Self(shared))
    }

    /// A capture without a stream, which stays empty.
    pub fn nothing() -> Self {
        let ended = Text { ended: true, ..Text::default() };
        Self(Arc::new((Mutex::new(ended), Condvar::new())))
    }

    /// The output so far.
    pub fn so_far(&self) -> Vec<u8> {
        locked(&self.0.0).bytes()
    }

    /// The output until its end or the deadline, and whether it is complete.
    pub fn until(&self, deadline: Instant) -> (Vec<u8>, bool) {
        let mut text = locked(&self.0.0);
        while !text.ended {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            text = self.0.1.wait_timeout(text, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        (text.bytes(), text.ended && text.dropped == 0)
    }
}

/// What was written into a file from an offset on, bounded as a stream is; and whether it is
/// all.
pub fn read_back(file: &File, offset: u64) -> std::io::Result<(Vec<u8>, bool)> {
    let end = file.metadata()?.len();
    let mut text = Text::default();
    let mut buffer = [0; 8192];
    let mut at = offset;
    while at < end {
        match file.read_at(&mut buffer, at)? {
            0 => break,
            count => {
                text.add(buffer.get(..count).unwrap_or_default());
                at += count as u64;
            }
        }
    }
    Ok((text.bytes(), text.dropped == 0))
}

/// The number of bytes; `None` at the end.
fn read(stream: &mut impl Read, buffer: &mut [u8]) -> Option<usize> {
    loop {
        match stream.read(buffer) {
            Ok(0) => return None,
            Ok(count) => return Some(count),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

fn locked(text: &Mutex<Text>) -> MutexGuard<'_, Text> {
    text.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_endless_output_is_left_out() {
        let mut text = Text::default();
        text.add(&vec![b'a'; HEAD]);
        text.add(&vec![b'b'; TAIL + 5]);
        text.add(b"end");
        let bytes = text.bytes();
        assert!(bytes.len() < HEAD + TAIL + 100);
        assert!(bytes.ends_with(b"bend"));
        assert!(bytes[HEAD..].starts_with(b"\n[8 bytes left out]\nbbb"));
    }
}
