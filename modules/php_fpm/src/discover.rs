//! The php-fpm sockets of this host, when the play has named none.

use std::time::Duration;

use oxistrano_core::Failure;
use oxistrano_fastcgi::{holds, listening, Address};

use crate::master::Master;

/// For asking a socket who made it.
const QUICK: Duration = Duration::from_secs(2);

/// The one socket that there is.
///
/// # Errors
/// `no_socket` when there is none, `several_sockets` with all of them.
pub fn the_socket() -> Result<Address, Failure> {
    let mut found = sockets();
    found.sort();
    found.dedup();
    let listed: Vec<String> = found.iter().map(ToString::to_string).collect();
    match found.pop() {
        None => Err(Failure::new("no_socket", "cannot find a php-fpm pool on this host")
            .cause("no process called 'php-fpm: master process' of root or of this user listens")
            .remedy("start php-fpm, run as root (become), or name the pool with socket")
            .state("Nothing was changed.")),
        Some(address) if found.is_empty() => Ok(address),
        Some(_) => {
            Err(Failure::new("several_sockets", "there are several php-fpm pools on this host")
                .cause(listed.join(", "))
                .remedy("name the one of this site with socket")
                .value("sockets", listed)
                .state("Nothing was changed."))
        }
    }
}

fn sockets() -> Vec<Address> {
    let all = listening();
    let held = holds(|inode| all.iter().any(|one| one.inode == inode));
    let is_master = |pid: u32| Master::of(pid).is_some_and(|master| master.is_trusted());
    let of_fpm = all.iter().filter(|one| {
        let mut holders = held.iter().filter(|holder| holder.1 == one.inode).peekable();
        match (&one.address, holders.peek().is_some()) {
            (_, true) => holders.any(|holder| is_master(holder.0)),
            // Who is not root does not see what root's processes hold; but the socket tells.
            // Only those are asked whose name says that they are PHP's.
            (Address::Unix(path), false) => {
                let path = path.to_string_lossy();
                (path.contains("php") || path.contains("fpm"))
                    && Master::behind(&one.address, QUICK)
                        .is_ok_and(|master| master.is_some_and(|master| master.is_trusted()))
            }
            _ => false,
        }
    });
    of_fpm.map(|one| one.address.clone()).collect()
}
