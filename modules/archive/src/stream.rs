//! Owns the pipe between the thread that decompresses and the one that writes. It has a few
//! buffers, which are reused.

use std::borrow::Cow;
use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use oxistrano_core::{Failure, interrupt};
use sha2::{Digest, Sha256};

use crate::failures;
use crate::hash::Hash;
use crate::limits::Ceiling;
use crate::replica::Replica;

/// The size of a buffer in bytes, and the number of buffers.
const BUFFER: usize = 256 * 1024;
const BUFFERS: usize = 8;

enum Piece {
    Bytes(Vec<u8>),
    /// Sent explicitly, because a thread that stops early must not look like the end.
    End,
    Failed(io::Error),
}

/// The decompressor's side.
pub(crate) struct Feed {
    pieces: SyncSender<Piece>,
    spent: Receiver<Vec<u8>>,
    buffer: Vec<u8>,
    filled: usize,
}

/// The side of the reader of entries. It knows which entry is being read, for messages.
pub(crate) struct Stream<'a> {
    pieces: Receiver<Piece>,
    spent: Sender<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
    ended: bool,
    /// How many bytes may arrive, and how many have arrived.
    ceiling: Ceiling,
    arrived: u64,
    archive: &'a Path,
    entry: Vec<u8>,
}

/// Makes a pipe that passes no more bytes than `ceiling` allows.
pub(crate) fn pipe(archive: &Path, ceiling: Ceiling) -> (Feed, Stream<'_>) {
    let (pieces, received) = sync_channel(BUFFERS);
    let (spent, returned) = channel();
    let feed = Feed { pieces, spent: returned, buffer: vec![0; BUFFER], filled: 0 };
    let stream = Stream {
        pieces: received,
        spent,
        current: Vec::new(),
        at: 0,
        ended: false,
        ceiling,
        arrived: 0,
        archive,
        entry: Vec::new(),
    };
    (feed, stream)
}

impl Feed {
    /// Reads `source` to its end. Returns the number of bytes.
    pub(crate) fn take_from(&mut self, source: &mut impl Read) -> io::Result<u64> {
        let mut taken = 0;
        loop {
            match source.read(&mut self.buffer[self.filled..]) {
                Ok(0) => return Ok(taken),
                Ok(n) => {
                    self.filled += n;
                    taken += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            if self.filled == self.buffer.len() {
                self.flush()?;
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let fresh = self.spent.try_recv().unwrap_or_else(|_| Vec::with_capacity(BUFFER));
        let mut full = std::mem::replace(&mut self.buffer, fresh);
        // Only a new buffer is filled with zeros here; a reused one is long enough.
        self.buffer.resize(BUFFER, 0);
        full.truncate(self.filled);
        self.filled = 0;
        self.send(Piece::Bytes(full))
    }

    fn send(&self, piece: Piece) -> io::Result<()> {
        // An error means that the reader has failed; it reports the reason.
        self.pieces.send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Reports how it ended. Bytes that were read before a failure still arrive.
    pub(crate) fn finish(mut self, result: io::Result<()>) {
        let last = match result {
            Ok(()) => Piece::End,
            Err(error) => Piece::Failed(error),
        };
        let _ = self.flush().and_then(|()| self.send(last));
    }
}

impl<'a> Stream<'a> {
    /// The archive's path.
    pub(crate) fn archive(&self) -> &'a Path {
        self.archive
    }

    /// From now on messages name this entry.
    pub(crate) fn enter(&mut self, entry: &[u8]) {
        self.entry.clear();
        self.entry.extend_from_slice(entry);
    }

    /// A failure `bad_archive` that names the entry.
    pub(crate) fn bad(&self, cause: impl std::fmt::Display) -> Failure {
        failures::bad(self.archive, &self.entry, cause)
    }

    /// Returns some of the next bytes; none at the end.
    pub(crate) fn peek(&mut self) -> Result<&[u8], Failure> {
        while self.at == self.current.len() && !self.ended {
            interrupt::check()?;
            match self.pieces.recv() {
                Ok(Piece::Bytes(bytes)) => {
                    self.arrived += bytes.len() as u64;
                    self.ceiling.check(self.arrived, self.archive, &self.entry)?;
                    // If the other side has ended already, the buffer is not needed.
                    let _ = self.spent.send(std::mem::replace(&mut self.current, bytes));
                    self.at = 0;
                }
                Ok(Piece::End) => self.ended = true,
                Ok(Piece::Failed(error)) => {
                    return Err(failures::unreadable(self.archive, &self.entry, error));
                }
                Err(_) => return Err(self.bad("the decompressor stopped unexpectedly")),
            }
        }
        Ok(&self.current[self.at..])
    }

    /// Skips the first `amount` bytes of what `peek` returned, and returns them.
    pub(crate) fn consume(&mut self, amount: usize) -> &[u8] {
        let start = self.at;
        self.at = (start + amount).min(self.current.len());
        self.current.get(start..self.at).unwrap_or_default()
    }

    /// Fills `into`. `false` if the stream was at its end.
    pub(crate) fn fill(&mut self, into: &mut [u8]) -> Result<bool, Failure> {
        let mut filled = 0;
        while filled < into.len() {
            let bytes = self.peek()?;
            if bytes.is_empty() {
                return if filled == 0 { Ok(false) } else { Err(self.cut_off()) };
            }
            let n = bytes.len().min(into.len() - filled);
            into[filled..filled + n].copy_from_slice(&bytes[..n]);
            self.consume(n);
            filled += n;
        }
        Ok(true)
    }

    /// Skips `amount` bytes.
    pub(crate) fn skip(&mut self, mut amount: u64) -> Result<(), Failure> {
        while amount > 0 {
            let available = self.peek()?.len();
            if available == 0 {
                return Err(self.cut_off());
            }
            let n = usize::try_from(amount).map_or(available, |amount| amount.min(available));
            self.consume(n);
            amount -= n as u64;
        }
        Ok(())
    }

    /// Reads to the end, so that damage after the last entry is noticed.
    pub(crate) fn drain(&mut self) -> Result<(), Failure> {
        loop {
            match self.peek()?.len() {
                0 => return Ok(()),
                n => self.consume(n),
            };
        }
    }

    fn cut_off(&self) -> Failure {
        self.bad("the archive is truncated here")
    }
}

/// The contents of one entry: the next bytes of the stream, up to the end of the entry, or the bytes
/// of a file.
pub(crate) struct Body<'b, 'a> {
    from: From<'b, 'a>,
    /// The number of bytes that are left.
    pub(crate) remaining: &'b mut u64,
    sum: Option<Sha256>,
}

enum From<'b, 'a> {
    Stream(&'b mut Stream<'a>),
    File(&'b mut Replica<'a>),
}

impl<'b, 'a> Body<'b, 'a> {
    /// The next `remaining` bytes of a stream.
    pub(crate) fn of_stream(stream: &'b mut Stream<'a>, remaining: &'b mut u64) -> Self {
        Self { from: From::Stream(stream), remaining, sum: None }
    }

    /// The next `remaining` bytes of a file.
    pub(crate) fn of_file(file: &'b mut Replica<'a>, remaining: &'b mut u64) -> Self {
        Self { from: From::File(file), remaining, sum: None }
    }

    /// Returns some of the next bytes; none at the end of the entry.
    pub(crate) fn peek(&mut self) -> Result<&[u8], Failure> {
        if *self.remaining == 0 {
            return Ok(&[]);
        }
        let bytes = match &mut self.from {
            From::File(file) => file.peek(),
            From::Stream(stream) => {
                if stream.peek()?.is_empty() {
                    return Err(stream.cut_off());
                }
                stream.peek()
            }
        }?;
        let n = usize::try_from(*self.remaining).map_or(bytes.len(), |most| most.min(bytes.len()));
        Ok(&bytes[..n])
    }

    /// Skips the first `amount` bytes of what `peek` returned.
    pub(crate) fn consume(&mut self, amount: usize) {
        let consumed = match &mut self.from {
            From::Stream(stream) => stream.consume(amount),
            From::File(file) => file.consume(amount),
        };
        if let Some(sum) = &mut self.sum {
            sum.update(consumed);
        }
        *self.remaining -= amount as u64;
    }

    /// Reads all that is left. Only for contents that are known to be short.
    pub(crate) fn read_all(&mut self) -> Result<Vec<u8>, Failure> {
        let mut all = Vec::with_capacity(usize::try_from(*self.remaining).unwrap_or_default());
        loop {
            let bytes = self.peek()?;
            if bytes.is_empty() {
                return Ok(all);
            }
            all.extend_from_slice(bytes);
            let taken = bytes.len();
            self.consume(taken);
        }
    }

    /// All that is left, without skipping it if it is in the buffer. Only for contents that are known to be short.
    pub(crate) fn all(&mut self) -> Result<Cow<'_, [u8]>, Failure> {
        if self.peek()?.len() as u64 == *self.remaining {
            return self.peek().map(Cow::Borrowed);
        }
        self.read_all().map(Cow::Owned)
    }

    /// Starts to compute the SHA-256 of the bytes that are consumed.
    pub(crate) fn start_hash(&mut self) {
        self.sum = Some(Sha256::new());
    }

    /// Skips what is left, and returns the SHA-256 of all bytes since [`Self::start_hash`].
    pub(crate) fn finish_hash(&mut self) -> Result<Hash, Failure> {
        loop {
            let length = self.peek()?.len();
            if length == 0 {
                return Ok(self.sum.take().unwrap_or_default().finalize().into());
            }
            self.consume(length);
        }
    }
}
