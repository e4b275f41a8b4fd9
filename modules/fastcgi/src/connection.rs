//! A connection that gives up at a deadline and at a signal, whatever the other side does.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv,
    send, socket_with,
};

use oxistrano_core::{Failure, interrupt, net};

use crate::{Decoder, Problem};

/// Why there is no answer.
#[derive(Debug)]
pub enum Trouble {
    /// An error of the operating system.
    System(io::Error),
    /// The deadline has passed.
    Late,
    /// The other side closed the connection before the end.
    Closed,
    /// It does not follow the protocol.
    Protocol(Problem),
    /// A signal.
    Interrupted(Failure),
}

impl From<Errno> for Trouble {
    fn from(error: Errno) -> Self {
        Self::System(error.into())
    }
}

/// Connects to a unix socket.
///
/// # Errors
/// As [`Trouble`] has them.
pub fn unix(path: &Path, deadline: Instant) -> Result<OwnedFd, Trouble> {
    loop {
        match try_unix(path) {
            Ok(socket) => return Ok(socket),
            // The queue of connections is full, and the kernel does not signal when it is not.
            Err(Errno::AGAIN) => {
                let rest = left(deadline)?;
                std::thread::sleep(rest.min(Duration::from_millis(10)));
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Connects to a unix socket without waiting.
///
/// # Errors
/// `AGAIN` if the queue of connections is full, `CONNREFUSED` if no process listens.
pub fn try_unix(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// Connects to a TCP port.
///
/// # Errors
/// As [`Trouble`] has them.
pub fn tcp(address: SocketAddr, deadline: Instant) -> Result<OwnedFd, Trouble> {
    net::connect(address, deadline).map_err(trouble)
}

/// Sends `request` and reads until the answer has ended.
///
/// # Errors
/// As [`Trouble`] has them.
pub fn exchange(
    socket: &OwnedFd,
    request: &[u8],
    decoder: &mut Decoder,
    deadline: Instant,
) -> Result<(), Trouble> {
    let mut unsent = request;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let wanted = if unsent.is_empty() {
            PollFlags::IN
        } else {
            // Read and write: the other side may answer before it has read everything.
            PollFlags::IN | PollFlags::OUT
        };
        let ready = net::wait(socket, wanted, deadline).map_err(trouble)?;
        if ready.contains(PollFlags::OUT) {
            match send(socket, unsent, SendFlags::NOSIGNAL) {
                Ok(count) => unsent = unsent.get(count..).unwrap_or_default(),
                Err(Errno::AGAIN | Errno::INTR) => {}
                // It reads no more, but may have answered.
                Err(Errno::PIPE | Errno::CONNRESET) => unsent = &[],
                Err(error) => return Err(error.into()),
            }
        }
        if ready.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            match recv(socket, &mut buffer, RecvFlags::empty()) {
                Ok((_, 0)) | Err(Errno::CONNRESET) => return Err(Trouble::Closed),
                Ok((_, count)) => {
                    let bytes = buffer.get(..count).unwrap_or_default();
                    decoder.push(bytes).map_err(Trouble::Protocol)?;
                    if decoder.end().is_some() {
                        return Ok(());
                    }
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn trouble(error: io::Error) -> Trouble {
    match (error.kind(), interrupt::check()) {
        (_, Err(failure)) => Trouble::Interrupted(failure),
        (io::ErrorKind::TimedOut, _) => Trouble::Late,
        _ => Trouble::System(error),
    }
}

fn left(deadline: Instant) -> Result<Duration, Trouble> {
    interrupt::check().map_err(Trouble::Interrupted)?;
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Trouble::Late);
    }
    Ok(left)
}
