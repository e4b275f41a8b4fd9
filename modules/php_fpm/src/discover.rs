//! Finds the php-fpm sockets of this host, if the play does not set one.

use std::time::{Duration, Instant};

use oxistrano_core::Failure;
use oxistrano_fastcgi::{Address, holds, listening, listens};

use crate::master::{Found, Master};

/// The time limit for searching open descriptors: a user may have millions of them.
const LOOK: Duration = Duration::from_secs(5);
/// The time limit for asking a socket for its creator.
const QUICK: Duration = Duration::from_secs(2);

/// The only socket.
///
/// # Errors
/// `no_socket` when there is none, `several_sockets` with all of them.
pub fn the_socket() -> Result<Address, Failure> {
    let (found, doubtful) = sockets();
    only(found, doubtful)
}

fn only(mut found: Vec<Address>, doubtful: Option<String>) -> Result<Address, Failure> {
    found.sort();
    found.dedup();
    let listed: Vec<String> = found.iter().map(ToString::to_string).collect();
    match found.pop() {
        None => Err(Failure::new("no_socket", "cannot find a php-fpm pool on this host")
            .cause(match doubtful {
                None => "no process called 'php-fpm: master process' of root or of this user \
                    listens"
                    .to_owned(),
                Some(why) => format!("{why}, so it is not accepted as php-fpm's master"),
            })
            .remedy(
                "start php-fpm, run as root (become), or set socket (role: \
                 magento2_php_fpm_socket; magento2_php_fpm: none if the host has no php-fpm)",
            )
            .state("Nothing was changed.")),
        Some(address) if found.is_empty() => Ok(address),
        Some(_) => {
            Err(Failure::new("several_sockets", "there are several php-fpm pools on this host")
                .cause(listed.join(", "))
                .remedy("set socket to the one of this site (role: magento2_php_fpm_socket)")
                .value("sockets", listed)
                .state("Nothing was changed."))
        }
    }
}

/// The sockets of php-fpm, and why a process that claims to be php-fpm was not accepted.
fn sockets() -> (Vec<Address>, Option<String>) {
    let all = listening();
    let held = holds(|inode| all.iter().any(|one| one.inode == inode), Instant::now() + LOOK);
    let mut doubtful = None;
    let mut is_master = |pid: u32| match Master::of(pid) {
        Some(Ok(_)) => true,
        Some(Err(one)) if one.is_roots => true,
        Some(Err(one)) => {
            doubtful = Found::Doubtful(one).why();
            false
        }
        None => false,
    };
    let of_fpm = all.iter().filter(|one| {
        let mut holders = held.iter().filter(|holder| holder.1 == one.inode).peekable();
        match (&one.address, holders.peek().is_some()) {
            (_, true) => holders.any(|holder| is_master(holder.0) && listens(holder.0, one)),
            // Only root sees the sockets of root's processes; other users have to connect and ask
            // for the peer. Only sockets with PHP in their names are asked.
            (Address::Unix(path), false) => {
                let path = path.to_string_lossy();
                (path.contains("php") || path.contains("fpm"))
                    && Master::behind(&one.address, QUICK).is_ok_and(|found| found.is_likely())
            }
            _ => false,
        }
    });
    let addresses = of_fpm.map(|one| one.address.clone()).collect();
    (addresses, doubtful)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_there_is_no_pool_or_more_than_one_the_variables_of_the_role_are_named() {
        let socket = |name: &str| Address::Unix(name.into());
        assert_eq!(only(vec![socket("/a"), socket("/a")], None).unwrap(), socket("/a"));
        for doubtful in [None, Some("process 7 is somebody else's")] {
            let failure = only(Vec::new(), doubtful.map(str::to_owned)).unwrap_err();
            assert_eq!(failure.code(), "no_socket");
            let text = failure.to_string();
            for words in [
                "magento2_php_fpm_socket",
                "magento2_php_fpm: none",
                doubtful.unwrap_or("no process"),
            ] {
                assert!(text.contains(words), "{text}");
            }
        }
        let text = only(vec![socket("/b"), socket("/a")], None).unwrap_err().to_string();
        assert!(text.contains("/a, /b") && text.contains("magento2_php_fpm_socket"), "{text}");
    }
}
