//! The listening sockets of this host and their processes, from `/proc`.
//!
//! The kernel's list is not a snapshot: it is written a page at a time and continued at a remembered number. If other
//! processes close sockets meanwhile, an existing one can be missing or listed twice (measured: one list of a thousand, on a
//! host with 1,800 short-lived sockets). So nothing here relies on a single reading.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use oxistrano_core::{interrupt, net};
use rustix::fs::fstat;
use rustix::net::{SocketAddrUnix, getsockname};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::Address;

/// A listening socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listening {
    /// Its inode number, as in a process's file descriptors.
    pub inode: u64,
    /// Its address; a port on all addresses has the loopback address.
    pub address: Address,
    bound: Option<SocketAddr>,
}

impl Listening {
    /// Whether a connection to `target` arrives here.
    pub(crate) fn takes(&self, target: &SocketAddr) -> bool {
        self.bound.is_some_and(|bound| {
            bound.port() == target.port()
                && (bound.ip() == target.ip() || bound.ip().is_unspecified())
        })
    }
}

/// Whether a process that [`holds`] it listens there; checked with the kernel if possible. The list
/// in `/proc` does not escape names, so a name with a line feed can fake a line about any socket.
pub fn listens(pid: u32, one: &Listening) -> bool {
    match &one.address {
        Address::Unix(path) => name_of(pid, one.inode)
            .is_none_or(|name| String::from_utf8_lossy(&name) == path.to_string_lossy()),
        Address::Tcp { .. } => true,
    }
}

/// The name of a process's socket. `None` if it is not known: before Linux 5.6, or without
/// permission to trace the process.
fn name_of(pid: u32, inode: u64) -> Option<Vec<u8>> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    let path = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    for (fd, _) in descriptors_of(&path).filter(|(_, found)| *found == inode) {
        let socket = pidfd_getfd(&process, fd, PidfdGetfdFlags::empty()).ok()?;
        // The process id may belong to another process by now, and the descriptor to another file.
        if fstat(&socket).is_ok_and(|stat| stat.st_ino == inode) {
            let name = SocketAddrUnix::try_from(getsockname(&socket).ok()?).ok()?;
            return Some(name.path_bytes().unwrap_or_default().to_vec());
        }
    }
    None
}

/// Listings, until two in a row say the same.
const LOOKS: usize = 10;

/// What two looks in a row agree on, or the last one says.
fn agreed<T: PartialEq>(look: impl Fn() -> T) -> T {
    let mut last = look();
    for _ in 1..LOOKS {
        let now = look();
        if now == last {
            break;
        }
        last = now;
    }
    last
}

/// The connections that others have to a listener.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Connections {
    /// Connections that were accepted.
    pub accepted: usize,
    /// Connections that are waiting to be accepted.
    pub queued: usize,
}

/// All listeners of this network namespace.
pub fn listening() -> Vec<Listening> {
    let mut found = Vec::new();
    let files = [UNIX, TCP].concat();
    let all = [sockets(&files), sockets(&files)].into_iter().flatten();
    for one in all.filter(|one| one.state == State::Listening) {
        let address = match (one.path, one.bound) {
            (Some(path), _) => Address::Unix(path),
            (None, Some(bound)) => {
                let host = match bound.ip() {
                    IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
                    IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.to_string(),
                    ip => ip.to_string(),
                };
                Address::Tcp { host, port: bound.port() }
            }
            (None, None) => continue,
        };
        let one = Listening { inode: one.inode, address, bound: one.bound };
        if !found.contains(&one) {
            found.push(one);
        }
    }
    found
}

/// Whether a process listens on the unix socket that was bound to this path, even if it was renamed.
pub fn is_heard(path: &Path) -> bool {
    (0..3).any(|_| {
        sockets(UNIX)
            .iter()
            .any(|one| one.state == State::Listening && one.path.as_deref() == Some(path))
    })
}

/// The connections to an address of this host, as the kernel counts them.
pub fn connections(address: &Address) -> Connections {
    // Only the needed list: on a busy host the list of TCP connections is long.
    let (files, targets) = match address {
        Address::Tcp { host, port } => (TCP, net::resolve(host, *port).unwrap_or_default()),
        Address::Unix(_) => (UNIX, Vec::new()),
    };
    let is_here = |one: &Socket| match (address, one.bound) {
        (Address::Unix(path), _) => one.path.as_ref() == Some(path),
        (Address::Tcp { .. }, Some(bound)) => targets.contains(&bound),
        (Address::Tcp { .. }, None) => false,
    };
    agreed(|| {
        let mut count = Connections::default();
        for one in sockets(files).iter().filter(|one| is_here(one)) {
            match one.state {
                // A queued connection belongs to no file yet.
                State::Connected if one.inode == 0 => count.queued += 1,
                State::Connected => count.accepted += 1,
                State::Listening | State::Other => {}
            }
        }
        count
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Listening,
    Connected,
    Other,
}

/// A line of `/proc/net`.
struct Socket {
    /// 0 if no process has it.
    inode: u64,
    state: State,
    path: Option<PathBuf>,
    bound: Option<SocketAddr>,
}

const UNIX: &[&str] = &["/proc/net/unix"];
const TCP: &[&str] = &["/proc/net/tcp", "/proc/net/tcp6"];

#[expect(clippy::disallowed_methods, reason = "files of the kernel")]
fn sockets(files: &[&str]) -> Vec<Socket> {
    let mut found = Vec::new();
    for file in files {
        let text = fs::read(file).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let line = if UNIX.contains(file) { unix } else { tcp };
        found.extend(text.lines().filter_map(line));
    }
    found
}

/// `0000000000000000: 00000002 00000000 00010000 0001 01 20301 /run/x.sock`
fn unix(line: &str) -> Option<Socket> {
    let mut rest = line;
    let mut fields = [""; 7];
    for field in &mut fields {
        (*field, rest) = rest.trim_start().split_once(' ')?;
    }
    let [_, _, _, flags, kind, state, inode] = fields;
    // SOCK_STREAM, and a name in the file system.
    let path = rest.trim_start();
    if kind != "0001" || !path.starts_with('/') {
        return None;
    }
    let state = match (flags, state) {
        // __SO_ACCEPTCON
        ("00010000", _) => State::Listening,
        // SS_CONNECTED; what waits to be accepted is shown as connecting.
        (_, "03" | "02") => State::Connected,
        _ => State::Other,
    };
    Some(Socket { inode: inode.parse().ok()?, state, path: Some(PathBuf::from(path)), bound: None })
}

/// `0: 0100007F:2328 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 20301 …`
fn tcp(line: &str) -> Option<Socket> {
    let fields: Vec<_> = line.split_ascii_whitespace().collect();
    let state = match *fields.get(3)? {
        "0A" => State::Listening,
        "01" => State::Connected,
        _ => State::Other,
    };
    let (ip, port) = fields.get(1)?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    // 32 bits at a time, in the host's order.
    let mut bytes = Vec::new();
    for at in (0..ip.len()).step_by(8) {
        let word = u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?;
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    let ip = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(bytes) => IpAddr::from(Ipv4Addr::from(bytes)),
        Err(_) => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?)),
    };
    let bound = Some(SocketAddr::new(ip, port));
    Some(Socket { inode: fields.get(9)?.parse().ok()?, state, path: None, bound })
}

/// Which process has which of these sockets open (pid, inode), as far as permissions allow. A user
/// may have millions of descriptors, so the search ends at the deadline or a signal.
pub fn holds(wanted: impl Fn(u64) -> bool, deadline: Instant) -> Vec<(u32, u64)> {
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = process.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(pid) = pid else { continue };
        for (_, inode) in descriptors_of(&process.path()) {
            if Instant::now() >= deadline || interrupt::check().is_err() {
                return found;
            }
            if wanted(inode) && !found.contains(&(pid, inode)) {
                found.push((pid, inode));
            }
        }
    }
    found
}

/// Whether a process has this socket open.
pub fn has(pid: u32, inode: u64) -> bool {
    descriptors_of(Path::new(&format!("/proc/{pid}"))).any(|(_, found)| found == inode)
}

/// The sockets of a process: descriptor, inode.
fn descriptors_of(process: &Path) -> impl Iterator<Item = (RawFd, u64)> {
    fs::read_dir(process.join("fd")).into_iter().flatten().flatten().filter_map(|fd| {
        let target = fs::read_link(fd.path()).ok()?;
        let name = target.as_os_str().as_bytes();
        let inode = name.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
        let inode = std::str::from_utf8(inode).ok()?.parse().ok()?;
        Some((fd.file_name().to_str()?.parse().ok()?, inode))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::time::Duration;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn our_own_listeners_are_found_with_their_holder() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("a b.sock");
        let _unix = UnixListener::bind(&path).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let everywhere = TcpListener::bind("[::]:0").unwrap();
        let all = listening();
        let of = |address: Address| {
            all.iter().find(|one| one.address == address).expect("it is listed").clone()
        };
        let tcp = |host: &str, port| Address::Tcp { host: host.to_owned(), port };
        let found = of(Address::Unix(path));
        let target = port.local_addr().unwrap();
        let second = of(tcp("127.0.0.1", target.port()));
        assert!(second.takes(&target) && !found.takes(&target));
        let target =
            SocketAddr::new(Ipv6Addr::LOCALHOST.into(), everywhere.local_addr().unwrap().port());
        assert!(of(tcp("::1", target.port())).takes(&target));
        let me = std::process::id();
        for inode in [found.inode, second.inode] {
            assert!(holds(|one| one == inode, soon()).contains(&(me, inode)) && has(me, inode));
        }
    }

    #[test]
    fn what_a_listing_leaves_out_is_looked_for_again() {
        let said = |all: &[u32]| {
            let mut all = all.to_vec();
            all.reverse();
            let all = std::cell::RefCell::new(all);
            agreed(|| all.borrow_mut().pop().unwrap_or_default())
        };
        assert_eq!(said(&[3, 3]), 3);
        assert_eq!(said(&[2, 3, 3]), 3);
        assert_eq!(said(&[3, 2, 3, 4, 4, 5]), 4);
        // Where it changes all the time, there is an end to it.
        assert_eq!(said(&(1..100).collect::<Vec<_>>()), 10);
    }

    #[test]
    fn connections_are_counted_as_served_and_waiting() {
        let end = soon();
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let address = Address::Unix(path.clone());
        assert_eq!(connections(&address), Connections::default());
        let _clients: Vec<_> = (0..3).map(|_| UnixStream::connect(&path).unwrap()).collect();
        let _one = listener.accept().unwrap();
        assert_eq!(connections(&address), Connections { accepted: 1, queued: 2 });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        let _clients: Vec<_> = (0..3).map(|_| TcpStream::connect(target).unwrap()).collect();
        let _one = listener.accept().unwrap();
        let address = Address::new(&target.to_string()).unwrap();
        // For the client they are there before the kernel has taken the last packet to this end.
        let wanted = Connections { accepted: 1, queued: 2 };
        while connections(&address) != wanted {
            assert!(Instant::now() < end, "{:?}", connections(&address));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_name_with_a_line_feed_makes_nobody_listen_elsewhere() {
        let scratch = tempfile::tempdir().unwrap();
        let real = scratch.path().join("real");
        let _real = UnixListener::bind(&real).unwrap();
        let at = |path: &Path| {
            let mut all = listening().into_iter();
            all.find(|one| one.address == Address::Unix(path.to_owned()))
        };
        let me = std::process::id();
        let found = at(&real).unwrap();
        assert!(listens(me, &found));
        let line = format!("x\n0: 2 0 00010000 0001 01 {} ", found.inode);
        fs::create_dir(scratch.path().join(&line)).unwrap();
        let _other = UnixListener::bind(scratch.path().join(&line).join("forged")).unwrap();
        let forged = at(Path::new("/forged")).expect("the kernel shows it as it is");
        assert!(holds(|inode| inode == forged.inode, soon()).contains(&(me, forged.inode)));
        assert!(!listens(me, &forged));
        assert!(listens(me, &found));
    }

    #[test]
    fn nobody_has_so_many_descriptors_that_a_deadline_passes() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let copies: Vec<_> = (0..500).map(|_| port.try_clone().unwrap()).collect();
        let looked_at = std::cell::Cell::new(0);
        let count = |_| {
            looked_at.set(looked_at.get() + 1);
            std::thread::sleep(Duration::from_millis(10));
            false
        };
        holds(count, Instant::now() + Duration::from_millis(100));
        assert!(looked_at.get() < copies.len() / 10, "{}", looked_at.get());
    }
}
