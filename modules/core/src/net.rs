//! Resolves host names without `getaddrinfo`, which a static program must not call because it loads
//! NSS plugins, and makes connections with a deadline.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::net::{connect as begin, socket_with, sockopt};

use crate::command::Program;
use crate::interrupt;

/// How often to check for a signal while waiting.
const SLICE: Duration = Duration::from_millis(100);

/// A name server that does not answer must not hold up a deploy.
const LOOKUP: Duration = Duration::from_secs(10);

/// The addresses of a host and port: a literal address, from `/etc/hosts`, or from `getent`.
///
/// # Errors
/// Why the name cannot be resolved.
#[expect(clippy::disallowed_methods, reason = "a file of root")]
pub fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let at = |addresses: Vec<IpAddr>| {
        addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect()
    };
    if let Ok(address) = host.parse() {
        return Ok(at(vec![address]));
    }
    let hosts = fs::read("/etc/hosts").unwrap_or_default();
    let mut found = in_hosts(&String::from_utf8_lossy(&hosts), host);
    if found.is_empty() {
        let getent = Program::new(["getent", "ahosts", "--", host]).timeout(LOOKUP);
        match getent.run() {
            // getent fails for an unknown name.
            Ok(output) if output.status.success() => {
                found = in_ahosts(&String::from_utf8_lossy(&output.stdout));
            }
            Err(failure) if !failure.is_missing_program() => return Err(failure.to_string()),
            _ => {}
        }
    }
    if found.is_empty() && host == "localhost" {
        found.push(Ipv4Addr::LOCALHOST.into());
    }
    if found.is_empty() {
        return Err(format!("the host name '{host}' cannot be resolved by /etc/hosts or getent"));
    }
    Ok(at(found))
}

/// Connects, at most until `deadline`. The socket does not block.
///
/// # Errors
/// `TimedOut`, `Interrupted` by a signal to this process, or what the system says.
pub fn connect(address: SocketAddr, deadline: Instant) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    match begin(&socket, &address) {
        Ok(()) => return Ok(socket),
        Err(Errno::INPROGRESS | Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    while wait(&socket, PollFlags::OUT, deadline)?.is_empty() {}
    sockopt::socket_error(&socket)??;
    Ok(socket)
}

/// Waits for a socket, at most one slice; empty if nothing happened.
///
/// # Errors
/// As [`connect`].
pub fn wait(socket: impl AsFd, wanted: PollFlags, deadline: Instant) -> io::Result<PollFlags> {
    if interrupt::check().is_err() {
        return Err(io::ErrorKind::Interrupted.into());
    }
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let timeout = Timespec { tv_sec: 0, tv_nsec: left.min(SLICE).subsec_nanos().into() };
    let socket = socket.as_fd();
    let mut polled = [PollFd::new(&socket, wanted)];
    match poll(&mut polled, Some(&timeout)) {
        Ok(_) | Err(Errno::INTR) => Ok(polled[0].revents()),
        Err(error) => Err(error.into()),
    }
}

fn in_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    lines
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let address = words.next()?.parse().ok()?;
            words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
        })
        .collect()
}

/// `192.0.2.1     STREAM php`
fn in_ahosts(text: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in text.lines() {
        let address = line.split_ascii_whitespace().next().and_then(|word| word.parse().ok());
        if let Some(address) = address.filter(|address| !found.contains(address)) {
            found.push(address);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_the_hosts_file() {
        let text = "# php\n127.0.0.1 localhost\n192.0.2.7\tshop PHP # x\n::1 php\nnonsense php\n";
        let expected: Vec<IpAddr> = vec!["192.0.2.7".parse().unwrap(), "::1".parse().unwrap()];
        assert_eq!(in_hosts(text, "php"), expected);
        assert!(in_hosts(text, "x").is_empty());
        assert_eq!(in_ahosts("192.0.2.1 STREAM a\n192.0.2.1 DGRAM\nx\n").len(), 1);
        assert!(!resolve("localhost", 9000).unwrap().is_empty());
        let error = resolve("no-such-host.invalid", 9000).unwrap_err();
        assert!(error.contains("no-such-host.invalid"), "{error}");
    }
}
