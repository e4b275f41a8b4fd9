//! One held connection: passed on byte for byte (except for the release's directory after a switch), or refused.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use oxistrano_fastcgi::{Found, begins, keeps_connection, moved, param, refusal};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};

/// How long the other side may take to read its answer and close.
const GOODBYE: Duration = Duration::from_secs(5);
/// How long a request may take to say what it asks for, before it counts as a waiting one.
const SILENCE: Duration = Duration::from_secs(1);
/// How long a web server may send nothing before the rest of the parameters is no longer waited for: its own limit, by default.
const PATIENCE: Duration = Duration::from_secs(60);
/// A connection without traffic for so long is closed; the web server has given up long before.
const STALE: Duration = Duration::from_secs(3600);
/// The limit for the parameters of a request.
const PARAMS: usize = 256 << 10;
/// The number of reads and writes per turn, so that each connection gets its turn.
const TURN: usize = 16;

/// The answer to a refused request, like Magento's own page, with a `Retry-After`.
const PAGE: &[u8] = b"Status: 503 Service Unavailable\r\nRetry-After: 10\r\n\
    Cache-Control: no-store\r\nContent-Type: text/html; charset=UTF-8\r\n\r\n\
    <!doctype html><title>Error 503: Service Unavailable</title>\
    <h1>Service Temporarily Unavailable</h1><p>The shop is being updated. Please try again in a moment.</p>\n";

/// A connection.
pub struct Line {
    client: OwnedFd,
    /// Whether its request is known.
    pub is_judged: bool,
    stage: Stage,
    /// The time of the last traffic.
    since: Instant,
}

enum Stage {
    /// The request waits in the socket. After a switch: the beginning that was read, until its parameters are complete.
    Held(Vec<u8>),
    /// Connected to php-fpm.
    Passed(Box<Passed>),
    /// It gets [`PAGE`]. Contains the beginning of its request.
    Refused(Vec<u8>),
    /// The answer is sent. Further input is read and dropped, because closing earlier would reset the connection.
    Done,
}

/// The release that was live at the beginning of the hold, and the new one. A web server with
/// `$realpath_root` has resolved the path to the old one.
#[derive(Debug)]
pub struct Switched {
    pub from: Vec<u8>,
    pub to: Vec<u8>,
}

/// A connection between the web server and php-fpm.
struct Passed {
    pool: OwnedFd,
    /// Bytes that were read but not yet written to the other side.
    there: Vec<u8>,
    back: Vec<u8>,
    /// The web server has finished sending.
    asked: bool,
    /// php-fpm has stopped reading.
    deaf: bool,
}

impl Line {
    pub fn held(client: OwnedFd) -> Self {
        Self { client, is_judged: false, stage: Stage::Held(Vec::new()), since: Instant::now() }
    }

    pub fn is_held(&self) -> bool {
        matches!(self.stage, Stage::Held(_))
    }

    /// Whether it has a single request, for one of these scripts. It only peeks at the socket.
    pub fn is_one_of(&self, scripts: &[String], scratch: &mut [u8]) -> Found<bool> {
        if scripts.is_empty() {
            return Found::None;
        }
        let beginning =
            match recv(&self.client, &mut *scratch, RecvFlags::DONTWAIT | RecvFlags::PEEK) {
                Ok((_, count)) => scratch.get(..count).unwrap_or_default(),
                Err(Errno::AGAIN | Errno::INTR) => &[],
                Err(_) => return Found::None,
            };
        match (keeps_connection(beginning), param(beginning, b"SCRIPT_NAME")) {
            (Found::Is(false), Found::Is(name)) => {
                Found::Is(scripts.iter().any(|script| script.as_bytes() == name))
            }
            (Found::Is(true) | Found::None, _) | (_, Found::None) => Found::None,
            // Only now: it may be this program that had to wait.
            _ if self.since.elapsed() > SILENCE => Found::None,
            _ => Found::NotYet,
        }
    }

    /// Whether it can go on: at once, or over a switch when all its parameters are there, with the directory of the release
    /// that is live now in them. Not by the time alone, which passes while the web server or this program gets no processor;
    /// and php-fpm, which closes a connection that is silent for five seconds, is not connected to before.
    pub fn is_ready(&mut self, switched: Option<&Switched>, scratch: &mut [u8]) -> bool {
        let (Stage::Held(read), Some(switched)) = (&mut self.stage, switched) else { return true };
        loop {
            match moved(read, &switched.from, &switched.to) {
                Found::Is((used, beginning)) => {
                    drop(read.splice(..used, beginning));
                    return true;
                }
                Found::NotYet if read.len() < PARAMS => {}
                _ => return true,
            }
            match receive(&self.client, scratch) {
                Got::Bytes(count) => {
                    read.extend(scratch.iter().take(count));
                    self.since = Instant::now();
                }
                Got::Nothing => return self.since.elapsed() > PATIENCE,
                Got::End => return true,
            }
        }
    }

    pub fn pass(&mut self, pool: OwnedFd) {
        let there = match &mut self.stage {
            Stage::Held(read) => std::mem::take(read),
            _ => Vec::new(),
        };
        let passed = Passed { pool, there, back: Vec::new(), asked: false, deaf: false };
        (self.stage, self.since) = (Stage::Passed(Box::new(passed)), Instant::now());
    }

    pub fn refuse(&mut self) {
        (self.stage, self.since) = (Stage::Refused(Vec::new()), Instant::now());
    }

    /// The events to wait for.
    pub fn wanted(&self) -> [Option<(&OwnedFd, PollFlags)>; 2] {
        let (client, pool) = match &self.stage {
            // A closed connection is always reported.
            Stage::Held(_) => (PollFlags::empty(), None),
            Stage::Refused(_) | Stage::Done => (PollFlags::IN, None),
            Stage::Passed(passed) => {
                let both = |read, write| {
                    let mut flags = PollFlags::empty();
                    flags.set(PollFlags::IN, read);
                    flags.set(PollFlags::OUT, write);
                    flags
                };
                let client =
                    both(passed.there.is_empty() && !passed.asked, !passed.back.is_empty());
                let pool = both(passed.back.is_empty(), !passed.there.is_empty());
                // After php-fpm has closed, its event would repeat until the answer is delivered,
                // so do not wait for it.
                (client, Some((&passed.pool, pool)).filter(|(_, flags)| !flags.is_empty()))
            }
        };
        [Some((&self.client, client)), pool]
    }

    /// Advances the connection; `client` are the events of the web server's end. `false` when it is finished.
    pub fn advance(&mut self, client: PollFlags, scratch: &mut [u8]) -> bool {
        if client.intersects(PollFlags::HUP | PollFlags::ERR) {
            return false;
        }
        let for_long = self.since.elapsed();
        match &mut self.stage {
            Stage::Held(_) => true,
            Stage::Refused(head) => {
                if for_long > GOODBYE {
                    return false;
                }
                match receive(&self.client, scratch) {
                    Got::Bytes(count) => head.extend(scratch.iter().take(count.min(4))),
                    Got::Nothing => return true,
                    Got::End => return false,
                }
                let Some(first) = head.first_chunk::<4>() else { return true };
                let Some(id) = begins(*first) else { return false };
                // It fits into the socket's buffer, because nothing was written before.
                let _ = send(&self.client, &refusal(id, PAGE), SendFlags::NOSIGNAL);
                self.done()
            }
            Stage::Done => loop {
                match receive(&self.client, scratch) {
                    Got::Bytes(_) if for_long <= GOODBYE => {}
                    Got::Nothing => return for_long <= GOODBYE,
                    _ => return false,
                }
            },
            Stage::Passed(passed) => match passed.advance(&self.client, scratch) {
                Moved::Nothing => for_long <= STALE,
                Moved::Some => {
                    self.since = Instant::now();
                    true
                }
                Moved::All => self.done(),
                Moved::Broken => false,
            },
        }
    }

    fn done(&mut self) -> bool {
        let _ = shutdown(&self.client, Shutdown::Write);
        (self.stage, self.since) = (Stage::Done, Instant::now());
        true
    }
}

/// The result of moving bytes.
enum Moved {
    Nothing,
    Some,
    /// php-fpm has closed, and its answer is delivered.
    All,
    /// The web server has closed.
    Broken,
}

impl Passed {
    fn advance(&mut self, client: &OwnedFd, scratch: &mut [u8]) -> Moved {
        let mut any = false;
        for _ in 0..TURN {
            let mut moved = false;
            // To php-fpm. Input that it does not read is still consumed, because otherwise the web server waits.
            if self.there.is_empty() && !self.asked {
                match receive(client, scratch) {
                    Got::Bytes(count) if !self.deaf => {
                        moved = true;
                        self.there.extend(scratch.iter().take(count));
                    }
                    Got::Bytes(_) => moved = true,
                    Got::Nothing => {}
                    Got::End => {
                        self.asked = true;
                        let _ = shutdown(&self.pool, Shutdown::Write);
                    }
                }
            }
            match give(&self.pool, &mut self.there) {
                Ok(some) => moved |= some,
                Err(_) => {
                    self.deaf = true;
                    self.there.clear();
                }
            }
            // From php-fpm.
            if self.back.is_empty() {
                match receive(&self.pool, scratch) {
                    Got::Bytes(count) => {
                        moved = true;
                        self.back.extend(scratch.iter().take(count));
                    }
                    Got::Nothing => {}
                    Got::End => return Moved::All,
                }
            }
            match give(client, &mut self.back) {
                Ok(some) => moved |= some,
                Err(_) => return Moved::Broken,
            }
            any |= moved;
            if !moved {
                break;
            }
        }
        if any { Moved::Some } else { Moved::Nothing }
    }
}

enum Got {
    Bytes(usize),
    Nothing,
    End,
}

fn receive(from: &OwnedFd, scratch: &mut [u8]) -> Got {
    match recv(from, scratch, RecvFlags::DONTWAIT) {
        Ok((_, 0)) => Got::End,
        Ok((_, count)) => Got::Bytes(count),
        Err(Errno::AGAIN | Errno::INTR) => Got::Nothing,
        Err(_) => Got::End,
    }
}

/// Sends as much as possible; `true` if anything was sent.
fn give(to: &OwnedFd, bytes: &mut Vec<u8>) -> Result<bool, Errno> {
    let before = bytes.len();
    while !bytes.is_empty() {
        match send(to, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(count) => drop(bytes.drain(..count)),
            Err(Errno::AGAIN) => break,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes.len() < before)
}
