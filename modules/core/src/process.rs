//! A handle on a process. A process id may belong to another process as soon as the process has
//! ended; a handle never does. Everything is read through the handle, and signals are sent through
//! it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, fstatfs, openat, readlinkat};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// `PROC_SUPER_MAGIC`: only the kernel's `/proc` is accepted.
const PROC: u64 = 0x9fa0;
/// More than any file below `/proc/PID` that is read here has.
const LARGEST: u64 = 1 << 20;

/// A process.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    /// `/proc/PID`: lookups in it fail after the process has ended.
    directory: OwnedFd,
    /// None if the kernel does not support or allow it.
    pidfd: Option<OwnedFd>,
}

impl Process {
    /// Opens the process that has this id now.
    ///
    /// # Errors
    /// `NotFound` when there is none, or an I/O error.
    #[expect(
        clippy::disallowed_methods,
        reason = "a directory of the kernel, and that it is one is looked at"
    )]
    pub fn open(pid: u32) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::open(format!("/proc/{pid}"), flags, Mode::empty())?;
        if fstatfs(&directory)?.f_type as u64 != PROC {
            return Err(io::Error::other("/proc is not a mounted proc file system"));
        }
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let pidfd = match pidfd_open(raw.ok_or(Errno::SRCH)?, PidfdFlags::empty()) {
            Ok(pidfd) => Some(pidfd),
            Err(Errno::NOSYS | Errno::PERM) => None,
            Err(Errno::SRCH) => return Err(io::ErrorKind::NotFound.into()),
            Err(error) => return Err(error.into()),
        };
        let process = Self { pid, directory, pidfd };
        // It is still alive, so both handles are of the same process.
        match process.state()? {
            b'Z' | b'X' => Err(io::ErrorKind::NotFound.into()),
            _ => Ok(process),
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it is still running.
    pub fn is_alive(&self) -> bool {
        match &self.pidfd {
            Some(pidfd) => {
                let mut polled = [PollFd::new(pidfd, PollFlags::IN)];
                let now = Timespec { tv_sec: 0, tv_nsec: 0 };
                // Readable: it has ended.
                poll(&mut polled, Some(&now)).is_ok_and(|ready| ready == 0)
            }
            None => self.state().is_ok_and(|state| !b"ZX".contains(&state)),
        }
    }

    /// Reads a file in its `/proc` directory, at most `LARGEST` bytes.
    ///
    /// `cmdline` and `environ` are in the process's own memory, so it can change them.
    ///
    /// # Errors
    /// When it has ended, or may not be read.
    pub fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat(&self.directory, name, flags, Mode::empty())?);
        let mut bytes = Vec::new();
        file.take(LARGEST).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The target of a link in its directory (`cwd`, `exe`, `ns/mnt`), as text.
    ///
    /// # Errors
    /// When it has ended, or may not be read.
    pub fn link(&self, name: &str) -> io::Result<PathBuf> {
        let target = readlinkat(&self.directory, name, Vec::new())?;
        Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
    }

    /// An `O_PATH` handle on what a link in its directory leads to, independent of the link's text.
    ///
    /// # Errors
    /// When it has ended, or may not be seen.
    pub fn follow(&self, name: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        Ok(openat(&self.directory, name, flags, Mode::empty())?)
    }

    /// Its real, effective, saved and file system user ids.
    ///
    /// # Errors
    /// When it has ended.
    pub fn users(&self) -> io::Result<[u32; 4]> {
        let status = self.read("status")?;
        users(&String::from_utf8_lossy(&status))
            .ok_or_else(|| io::Error::other("its status does not name its users"))
    }

    /// Its start time in ticks after boot. Together with the process id it identifies a process.
    ///
    /// # Errors
    /// When it has ended.
    pub fn started(&self) -> io::Result<u64> {
        self.stat(19)
    }

    /// Sends a signal to it, and to no other process.
    ///
    /// # Errors
    /// When it has ended (`ESRCH`), may not be signalled (`EPERM`), or the kernel has no handles
    /// of processes (`ENOSYS`).
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let pidfd = self.pidfd.as_ref().ok_or(Errno::NOSYS)?;
        Ok(pidfd_send_signal(pidfd, signal)?)
    }

    /// Its state, as the kernel's letter: `R` runs, `S` sleeps, `T` is stopped by a signal.
    ///
    /// # Errors
    /// When it does not exist any more.
    pub fn state(&self) -> io::Result<u8> {
        let stat = self.read("stat")?;
        fields(&stat).and_then(|mut rest| rest.next()?.bytes().next()).ok_or(malformed())
    }

    /// A number in `stat`, counted from the state, which is 0.
    fn stat(&self, index: usize) -> io::Result<u64> {
        let stat = self.read("stat")?;
        fields(&stat).and_then(|mut rest| rest.nth(index)?.parse().ok()).ok_or(malformed())
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// The parent that `/proc/PID/stat` names.
pub fn parent(stat: &[u8]) -> Option<u32> {
    fields(stat)?.nth(1)?.parse().ok()
}

/// The fields of `/proc/PID/stat` after the name, which may contain any character.
fn fields(stat: &[u8]) -> Option<std::str::SplitAsciiWhitespace<'_>> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    Some(std::str::from_utf8(stat.get(end + 1..)?).ok()?.split_ascii_whitespace())
}

fn malformed() -> io::Error {
    io::Error::other("its stat file is not from the kernel")
}

fn users(status: &str) -> Option<[u32; 4]> {
    // The name of the process comes before it, its line feeds escaped.
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    let mut ids = line.split_ascii_whitespace().map(|id| id.parse().ok());
    Some([ids.next()??, ids.next()??, ids.next()??, ids.next()??])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn this_process_is_who_it_is() {
        let me = Process::open(std::process::id()).unwrap();
        assert_eq!(me.pid(), std::process::id());
        assert_eq!(me.users().unwrap(), [crate::users::current(); 4]);
        assert_eq!(me.link("exe").unwrap(), std::env::current_exe().unwrap());
        assert!(me.is_alive() && me.started().unwrap() > 0);
        assert!(Process::open(4_194_999).is_err(), "no process has a number this high");
    }

    #[test]
    fn of_one_that_has_ended_nothing_is_read_and_nobody_is_signalled() {
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        let process = Process::open(child.id()).unwrap();
        assert!(process.is_alive());
        process.signal(Signal::TERM).unwrap();
        child.wait().unwrap();
        assert!(!process.is_alive());
        assert!(process.read("status").is_err() && process.follow("exe").is_err());
        let error = process.signal(Signal::TERM).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::SRCH.raw_os_error()));
    }

    #[test]
    fn all_four_users_are_read_and_a_name_hides_nothing() {
        let status = "Name:\tx\\nUid:\t0\nUmask:\t0022\nUid:\t33\t0\t0\t0\nGid:\t33\n";
        assert_eq!(users(status), Some([33, 0, 0, 0]));
        assert_eq!(users("Uid:\t1\t2\t3\n"), None);
        assert_eq!(parent(b"7 (a) S 1) S 42 7 7 0"), Some(42));
        assert_eq!(parent(b"7 (a"), None);
    }
}
