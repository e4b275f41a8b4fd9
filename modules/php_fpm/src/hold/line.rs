//! One connection that was held: passed on byte for byte (but for the directory of the release in
//! what waited over a switch), or refused.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use oxistrano_fastcgi::{Found, begins, keeps_connection, moved, param, refusal};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};

/// For the other side to take its answer and to close.
const GOODBYE: Duration = Duration::from_secs(5);
/// For a request to say what it is.
const SILENCE: Duration = Duration::from_secs(1);
/// Nothing has moved for so long: the web server has given up long before.
const STALE: Duration = Duration::from_secs(3600);
/// The parameters of a request have more seldom.
const PARAMS: usize = 256 << 10;
/// Read and written in one go at most, so that each has its turn.
const TURN: usize = 16;

/// What is said instead of an answer; the times of Magento's own page, and when to come again.
const PAGE: &[u8] = b"Status: 503 Service Unavailable\r\nRetry-After: 10\r\n\
    Cache-Control: no-store\r\nContent-Type: text/html; charset=UTF-8\r\n\r\n\
    <!doctype html><title>Error 503: Service Unavailable</title>\
    <h1>Service Temporarily Unavailable</h1><p>The shop is being updated. Please try again in a moment.</p>\n";

/// A connection.
pub struct Line {
    client: OwnedFd,
    /// Whether it is known which request it brings.
    pub is_judged: bool,
    stage: Stage,
    /// When bytes have moved last.
    since: Instant,
}

enum Stage {
    /// Nothing is read: what was sent waits in the socket.
    Held,
    /// To php-fpm.
    Passed(Box<Passed>),
    /// It gets [`PAGE`]; the beginning of its request.
    Refused(Vec<u8>),
    /// All is said. What still comes is read and thrown away: closed before, it would be an error.
    Done,
}

/// The release that was live when requests began to wait, and the one that is when they go on. A web server with
/// `$realpath_root` has looked for the live one before.
#[derive(Debug)]
pub struct Switched {
    pub from: Vec<u8>,
    pub to: Vec<u8>,
}

/// Between the web server and php-fpm.
struct Passed {
    /// As long as its beginning is not all there: what is, and what to change in it.
    beginning: Option<(Vec<u8>, Rc<Switched>)>,
    pool: OwnedFd,
    /// Read, and not taken yet by the other side.
    there: Vec<u8>,
    back: Vec<u8>,
    /// The web server sends no more.
    asked: bool,
    /// php-fpm reads no more.
    deaf: bool,
}

impl Line {
    pub fn held(client: OwnedFd) -> Self {
        Self { client, is_judged: false, stage: Stage::Held, since: Instant::now() }
    }

    pub fn is_held(&self) -> bool {
        matches!(self.stage, Stage::Held)
    }

    /// Whether its request, alone on its connection, is for one of these scripts. Nothing is taken out of the socket.
    pub fn is_one_of(&self, scripts: &[String], scratch: &mut [u8]) -> Found<bool> {
        if scripts.is_empty() || self.since.elapsed() > SILENCE {
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
            _ => Found::NotYet,
        }
    }

    pub fn pass(&mut self, pool: OwnedFd, switched: Option<&Rc<Switched>>) {
        let beginning = switched.map(|switched| (Vec::new(), Rc::clone(switched)));
        let (there, back) = (Vec::new(), Vec::new());
        let passed = Passed { beginning, pool, there, back, asked: false, deaf: false };
        (self.stage, self.since) = (Stage::Passed(Box::new(passed)), Instant::now());
    }

    pub fn refuse(&mut self) {
        (self.stage, self.since) = (Stage::Refused(Vec::new()), Instant::now());
    }

    /// What is waited for.
    pub fn wanted(&self) -> [Option<(&OwnedFd, PollFlags)>; 2] {
        let (client, pool) = match &self.stage {
            // That it is gone is told in any case.
            Stage::Held => (PollFlags::empty(), None),
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
                // That php-fpm is gone is told for ever, and does not help before its answer is taken.
                (client, Some((&passed.pool, pool)).filter(|(_, flags)| !flags.is_empty()))
            }
        };
        [Some((&self.client, client)), pool]
    }

    /// Does what can be done; `client` is what has happened to the web server's end. `false` when
    /// nothing is left to do.
    pub fn advance(&mut self, client: PollFlags, scratch: &mut [u8]) -> bool {
        if client.intersects(PollFlags::HUP | PollFlags::ERR) {
            return false;
        }
        let for_long = self.since.elapsed();
        match &mut self.stage {
            Stage::Held => true,
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
                // It finds room: nothing was written before.
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
            Stage::Passed(passed) => match passed.advance(&self.client, scratch, for_long) {
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

/// What has become of the bytes.
enum Moved {
    Nothing,
    Some,
    /// php-fpm has closed, and its answer is delivered.
    All,
    /// The web server takes no more.
    Broken,
}

impl Passed {
    fn advance(&mut self, client: &OwnedFd, scratch: &mut [u8], for_long: Duration) -> Moved {
        let mut any = false;
        if for_long > SILENCE {
            self.begin(true);
        }
        for _ in 0..TURN {
            let mut moved = false;
            // To php-fpm. What it does not want is read all the same, or the web server waits.
            if self.there.is_empty() && !self.asked {
                match receive(client, scratch) {
                    Got::Bytes(count) if !self.deaf => {
                        moved = true;
                        let read =
                            self.beginning.as_mut().map_or(&mut self.there, |(read, _)| read);
                        read.extend(scratch.iter().take(count));
                        self.begin(false);
                    }
                    Got::Bytes(_) => moved = true,
                    Got::Nothing => {}
                    // Once more when that is sent.
                    Got::End if self.begin(true) => moved = true,
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
            // And back.
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

    /// Lets the request begin, if its parameters are there, or `as_it_is`. Returns whether it does.
    fn begin(&mut self, as_it_is: bool) -> bool {
        let Some((read, switched)) = &mut self.beginning else { return false };
        match moved(read, &switched.from, &switched.to) {
            Found::NotYet if !as_it_is && read.len() < PARAMS => return false,
            Found::Is((used, beginning)) => {
                drop(read.splice(..used, beginning));
            }
            _ => {}
        }
        self.there.append(read);
        self.beginning = None;
        true
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

/// Sends as much as is taken; `true` if that is anything.
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
