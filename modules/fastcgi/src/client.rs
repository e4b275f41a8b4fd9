//! Sends a request and waits for the answer.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use oxistrano_core::{Failure, interrupt, net};

use crate::connection::{Trouble, exchange, tcp, unix};
use crate::{Address, Decoder, Request, Response, holds, listening};

/// The code of the failure if no process listens.
pub const UNREACHABLE: &str = "fastcgi_unreachable";
/// The code of the failure if there is no answer in time.
pub const TIMEOUT: &str = "fastcgi_timeout";
/// The code of the failure if the answer is not valid.
pub const NO_ANSWER: &str = "fastcgi_no_answer";

/// Sends a request and waits for the whole answer; connecting counts towards `timeout`.
///
/// # Errors
/// [`UNREACHABLE`], [`TIMEOUT`], [`NO_ANSWER`], `fastcgi_request`, `interrupted`.
pub fn ask(address: &Address, request: &Request, timeout: Duration) -> Result<Response, Failure> {
    let bytes = request.encode()?;
    let deadline = Instant::now() + timeout;
    let socket = open(address, deadline, timeout)?;
    let mut decoder = Decoder::new(request.limit);
    exchange(&socket, &bytes, &mut decoder, deadline)
        .map_err(|trouble| no_answer(address, trouble, decoder.has_begun(), timeout))?;
    let refusal = match decoder.end().map_or(0, |end| end.protocol) {
        0 => None,
        2 => Some("it is overloaded".to_owned()),
        other => Some(format!("it refuses the request (protocol status {other})")),
    };
    let (stdout, stderr) = decoder.into_streams();
    let response = match refusal {
        None => Response::new(stdout, &stderr).map_err(|malformed| malformed.to_string()),
        Some(refusal) => Err(refusal),
    };
    response.map_err(|cause| {
        let stderr = String::from_utf8_lossy(&stderr).trim().to_owned();
        Failure::new(NO_ANSWER, what(address)).cause(cause).value("stderr", stderr)
    })
}

/// The processes that may serve the socket: for a unix socket the one that called `listen(2)`, for
/// a port of this host all that have it open. Empty if that is not known: in another PID namespace,
/// on another host, without permission.
///
/// # Errors
/// [`UNREACHABLE`] or [`TIMEOUT`] when it cannot connect.
pub fn peers(address: &Address, timeout: Duration) -> Result<Vec<u32>, Failure> {
    match address {
        Address::Unix(_) => {
            let socket = open(address, Instant::now() + timeout, timeout)?;
            Ok(maker(&socket).into_iter().collect())
        }
        Address::Tcp { host, port } => {
            let targets = resolve(address, host, *port)?;
            let inodes: Vec<u64> = listening()
                .into_iter()
                .filter(|one| targets.iter().any(|target| one.takes(target)))
                .map(|one| one.inode)
                .collect();
            Ok(holds(|inode| inodes.contains(&inode), Instant::now() + timeout)
                .into_iter()
                .map(|(pid, _)| pid)
                .collect())
        }
    }
}

/// `SO_PEERCRED`. Not by rustix, whose type does not allow the pid 0 of a process in another PID namespace.
fn maker(socket: &OwnedFd) -> Option<u32> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the descriptor is open, and the kernel writes at most `length` bytes to `peer`,
    // a plain C structure of that size.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    u32::try_from(peer.pid).ok().filter(|pid| result == 0 && *pid > 0)
}

fn open(address: &Address, deadline: Instant, timeout: Duration) -> Result<OwnedFd, Failure> {
    let failed = |trouble| match trouble {
        Trouble::System(error) => unreachable(address, &error),
        other => no_answer(address, other, false, timeout),
    };
    match address {
        Address::Unix(path) => unix(path, deadline).map_err(failed),
        Address::Tcp { host, port } => {
            let targets = resolve(address, host, *port)?;
            let mut last = Trouble::Late;
            for target in targets {
                match tcp(target, deadline) {
                    Ok(socket) => return Ok(socket),
                    Err(Trouble::Interrupted(failure)) => return Err(failure),
                    Err(trouble) => last = trouble,
                }
            }
            Err(failed(last))
        }
    }
}

fn resolve(address: &Address, host: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    net::resolve(host, port)
        .map_err(|why| interrupt::check().err().unwrap_or_else(|| unreachable(address, why)))
}

fn what(address: &Address) -> String {
    format!("no usable answer from '{address}'")
}

fn unreachable(address: &Address, cause: impl std::fmt::Display) -> Failure {
    let cause = cause.to_string();
    let cause = cause.split(" (os error").next().unwrap_or_default();
    let failure = Failure::new(UNREACHABLE, format!("cannot connect to '{address}'")).cause(cause);
    let failure = match address {
        Address::Unix(path) => failure.path(path as &Path),
        Address::Tcp { .. } => failure,
    };
    match cause {
        cause if cause.contains("ermission") => {
            failure.remedy("run as root (become) or as a user who may write to the socket")
        }
        _ => failure.remedy("check whether php-fpm runs, and its pool's `listen` setting"),
    }
}

fn no_answer(address: &Address, trouble: Trouble, begun: bool, timeout: Duration) -> Failure {
    let within = format!("within {:.0} s", timeout.as_secs_f64());
    match trouble {
        Trouble::Interrupted(failure) => failure,
        Trouble::System(error) => Failure::new(NO_ANSWER, what(address)).cause(error),
        Trouble::Protocol(problem) => Failure::new(NO_ANSWER, what(address))
            .cause(problem)
            .remedy("check whether a php-fpm pool listens there"),
        Trouble::Closed => Failure::new(NO_ANSWER, what(address))
            .cause("the connection was closed before the answer was complete")
            .remedy("check php-fpm's log: a worker may have been ended or have crashed"),
        Trouble::Late if begun => Failure::new(TIMEOUT, what(address))
            .cause(format!("its answer was not complete {within}"))
            .remedy("raise timeout"),
        Trouble::Late => Failure::new(TIMEOUT, what(address))
            .cause(format!("no worker of the pool answered {within}; probably all are busy"))
            .remedy("raise timeout, or the pool's pm.max_children"),
    }
}
