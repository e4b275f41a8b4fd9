//! php-fpm's master process: who it is, which file configures it, a signal to it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{kill_process, pidfd_open, pidfd_send_signal, Pid, PidfdFlags, Signal};

use oxistrano_core::{users, Failure};
use oxistrano_fastcgi::{holds, listening, peers, Address};

const TITLE: &str = "php-fpm: master process";

/// A master process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Master {
    /// Its id.
    pub pid: u32,
    /// Who it runs as.
    pub uid: u32,
    /// Its configuration as its title names it, made absolute; in its own file system.
    pub config: Option<PathBuf>,
}

impl Master {
    /// The process with this id, if it is a master.
    pub fn of(pid: u32) -> Option<Self> {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let title = fs::read(process.join("cmdline")).ok()?;
        let title = String::from_utf8_lossy(&title);
        let rest = title.trim_end_matches(['\0', ' ']).strip_prefix(TITLE)?;
        // A title that did not fit is cut off.
        let config = rest.trim().strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        let config = config.filter(|path| !path.is_empty()).map(|path| {
            let directory = fs::read_link(process.join("cwd")).unwrap_or_else(|_| "/".into());
            directory.join(path)
        });
        let uid = fs::metadata(&process).ok()?.uid();
        Some(Self { pid, uid, config })
    }

    /// The master whose pool listens there; `None` where the system does not tell.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn behind(address: &Address, timeout: Duration) -> Result<Option<Self>, Failure> {
        let peer = peers(address, timeout)?.into_iter().find_map(Self::of);
        // One that makes a daemon of itself is another process after a reload, and the
        // socket still names the one that made it.
        Ok(peer.or_else(|| Self::holding(address)))
    }

    /// The master that holds the listening socket now.
    fn holding(address: &Address) -> Option<Self> {
        let here: Vec<u64> = listening()
            .into_iter()
            .filter(|one| one.address == *address)
            .map(|one| one.inode)
            .collect();
        holds(|inode| here.contains(&inode)).into_iter().find_map(|(pid, _)| Self::of(pid))
    }

    /// Whether what it says of itself can be believed: a web user can name a process of
    /// their own as they like.
    pub fn is_trusted(&self) -> bool {
        self.uid == 0 || self.uid == users::current()
    }

    /// Where its file system is seen from here: it may live in a container.
    pub fn root(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.pid));
        if fs::metadata(&root).is_ok() {
            root
        } else {
            "/".into()
        }
    }

    /// Whether its file system is ours.
    pub fn shares_root(&self) -> bool {
        let id = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
        id(&self.root()) == id(Path::new("/"))
    }

    /// Its workers.
    pub fn workers(&self) -> Vec<u32> {
        let mut workers = Vec::new();
        for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = process.file_name().to_str().and_then(|name| name.parse().ok());
            let stat = fs::read(process.path().join("stat")).unwrap_or_default();
            if let (Some(pid), true) = (pid, parent(&stat) == Some(self.pid)) {
                workers.push(pid);
            }
        }
        workers
    }

    /// The service that it belongs to, as systemd names it.
    pub fn unit(&self) -> Option<String> {
        unit(&fs::read_to_string(format!("/proc/{}/cgroup", self.pid)).ok()?)
    }

    /// Sends SIGUSR2: a graceful reload.
    ///
    /// # Errors
    /// `not_permitted`; `no_master` when it has ended meanwhile.
    pub fn reload(&self) -> Result<(), Failure> {
        let what = format!("cannot reload php-fpm (master process {})", self.pid);
        let gone = || {
            Failure::new("no_master", what.clone())
                .cause("it has ended meanwhile")
                .state("Nothing was changed.")
        };
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).ok_or_else(gone)?;
        // The handle stays with this process, whoever gets its number afterwards.
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => Some(handle),
            Err(Errno::NOSYS | Errno::PERM) => None,
            Err(_) => return Err(gone()),
        };
        if Self::of(self.pid).as_ref() != Some(self) {
            return Err(gone());
        }
        let sent = match &handle {
            Some(handle) => pidfd_send_signal(handle, Signal::USR2),
            None => kill_process(pid, Signal::USR2),
        };
        match sent {
            Ok(()) => Ok(()),
            Err(Errno::SRCH) => Err(gone()),
            Err(error) => Err(Failure::new("not_permitted", what)
                .cause(std::io::Error::from(error).kind())
                .remedy(format!("run as root (become), or as user id {}", self.uid))
                .state("Nothing was changed.")),
        }
    }
}

/// The parent in `/proc/PID/stat`; the name before it may contain anything.
fn parent(stat: &[u8]) -> Option<u32> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    std::str::from_utf8(stat.get(end + 1..)?).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The last `.service` in `0::/system.slice/php8.2-fpm.service`.
fn unit(cgroup: &str) -> Option<String> {
    cgroup
        .lines()
        .filter_map(|line| line.splitn(3, ':').nth(2))
        .flat_map(|path| path.split('/'))
        .rfind(|name| name.ends_with(".service") && !name.starts_with("user@"))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_read_from_both_kinds_of_cgroups() {
        let unit_of = |text| unit(text).unwrap_or_default();
        assert_eq!(unit_of("0::/system.slice/php8.2-fpm.service\n"), "php8.2-fpm.service");
        let old =
            "12:pids:/system.slice/php-fpm.service\n1:name=systemd:/system.slice/php-fpm.service\n";
        assert_eq!(unit_of(old), "php-fpm.service");
        assert_eq!(unit_of("0::/user.slice/user@1000.service/app.slice/x.scope\n"), "");
        assert_eq!(unit_of("0::/\n"), "");
    }

    #[test]
    fn a_name_with_brackets_hides_no_parent() {
        assert_eq!(parent(b"7 (a) S 1) S 42 7 7 0"), Some(42));
        assert_eq!(parent(b"7 (a"), None);
        assert_eq!(Master::of(std::process::id()), None);
    }
}
