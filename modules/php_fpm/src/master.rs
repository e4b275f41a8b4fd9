//! php-fpm's master process. It must be proved before its data is trusted or its program is run: a
//! web user can give a process any title, inherit php-fpm's listening socket (through `exec()`),
//! start setuid programs, and wait for a process id to be reused.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::place;
use oxistrano_core::process::{self, Process};
use oxistrano_core::{Failure, interrupt, trusted, users};
use oxistrano_fastcgi::{Address, has, holds, listening, listens, peers};
use rustix::fs::fstat;
use rustix::io::Errno;
use rustix::process::Signal;

const TITLE: &str = "php-fpm: master process";
/// A part of the name of php-fpm's program on every system (`php-fpm8.2`).
const NAME: &str = "php-fpm";
/// The kernel's suffix for a program that was removed, for example by an upgrade.
const DELETED: &str = " (deleted)";

/// A process that is proved to be php-fpm's master: all of its user ids are root's or the module
/// user's, and its program is php-fpm, which only root can have installed.
#[derive(Debug)]
pub struct Master {
    process: Process,
    /// Its start time in kernel ticks.
    started: u64,
    program: Arc<OwnedFd>,
    program_path: PathBuf,
    /// The absolute path of its configuration, from its title, in its own file system.
    pub config: Option<PathBuf>,
    /// Its root directory, because it may run in a container.
    root: OwnedFd,
    /// Read when it was proved, because the process does not exist any more after a restart.
    control_group: Option<String>,
}

/// A process that claims to be a master, but is not proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubtful {
    /// Its number.
    pub pid: u32,
    /// Why it is not accepted, with a verb.
    pub why: String,
    /// It belongs to root, and this process may not examine it.
    pub is_roots: bool,
}

/// The result of the search for a pool's master.
#[derive(Debug)]
pub enum Found {
    /// Its master.
    Master(Box<Master>),
    /// It could not be proved.
    Doubtful(Doubtful),
    /// No process was found.
    Nothing,
}

impl Found {
    /// The master, if it is proved.
    pub fn master(&self) -> Option<&Master> {
        match self {
            Self::Master(master) => Some(master),
            _ => None,
        }
    }

    /// Its process id, also of an unproved one of root. Only for messages.
    pub fn pid(&self) -> Option<u32> {
        match self {
            Self::Master(master) => Some(master.pid()),
            Self::Doubtful(doubtful) if doubtful.is_roots => Some(doubtful.pid),
            _ => None,
        }
    }

    /// Why there is no proved master; `None` if there is one.
    pub fn why(&self) -> Option<String> {
        match self {
            Self::Master(_) => None,
            Self::Doubtful(doubtful) => {
                Some(format!("the process {} {}", doubtful.pid, doubtful.why))
            }
            Self::Nothing => Some("the process that made the socket is not known".to_owned()),
        }
    }

    /// Whether php-fpm listens there, as far as this process may see.
    pub fn is_likely(&self) -> bool {
        self.pid().is_some()
    }
}

impl Master {
    /// Examines the process with this id: `None` if its title does not claim to be a master.
    pub fn of(pid: u32) -> Option<Result<Self, Doubtful>> {
        let process = Process::open(pid).ok()?;
        let doubtful = |why: String, is_roots| Some(Err(Doubtful { pid, why, is_roots }));
        // First, because the kernel reports the user ids, while the title is in the process's own
        // memory (with kernels before 4.17, reading it may even block).
        let ids = process.users().ok()?;
        let me = users::current();
        if !ids.iter().all(|id| *id == me) && ids != [0; 4] {
            let name = process.read("comm").ok()?;
            let [real, effective, saved, files] = ids;
            let why = format!(
                "has the user ids {real} (real), {effective} (effective), {saved} (saved) and \
                 {files} (for files), not {me} for all of them"
            );
            return if name.starts_with(NAME.as_bytes()) { doubtful(why, false) } else { None };
        }
        let title = process.read("cmdline").ok()?;
        let title = String::from_utf8_lossy(&title);
        let rest = title.trim_end_matches(['\0', ' ']).strip_prefix(TITLE)?;
        if ids != [me; 4] {
            let why = format!("belongs to root, and this module runs as user id {me}");
            return doubtful(why, true);
        }
        // A long title is truncated.
        let config = rest.trim().strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        let config = config.filter(|path| !path.is_empty()).map(PathBuf::from);
        match Self::proved(process, config) {
            Ok(master) => Some(Ok(master)),
            Err(why) => doubtful(why, false),
        }
    }

    fn proved(process: Process, config: Option<PathBuf>) -> Result<Self, String> {
        let hidden = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => "has ended".to_owned(),
            _ => format!("cannot be examined: {error}"),
        };
        if process.link("ns/user").map_err(hidden)?
            != std::fs::read_link("/proc/self/ns/user").map_err(hidden)?
        {
            return Err("runs in a separate user namespace".to_owned());
        }
        let root = process.follow("root").map_err(hidden)?;
        let program = process.follow("exe").map_err(hidden)?;
        let program_path = program_path(&process, &root, &program)?;
        let started = process.started().map_err(hidden)?;
        let config = match config {
            Some(path) if path.is_relative() => {
                Some(process.link("cwd").map_err(hidden)?.join(path))
            }
            config => config,
        };
        let control_group = process
            .read("cgroup")
            .ok()
            .and_then(|text| control_group(&String::from_utf8_lossy(&text)));
        let program = Arc::new(program);
        let master = Self { process, started, program, program_path, config, root, control_group };
        master.is_unchanged().then_some(master).ok_or_else(|| "has ended".to_owned())
    }

    /// The master whose pool listens there.
    ///
    /// # Errors
    /// When no process listens there.
    pub fn behind(address: &Address, timeout: Duration) -> Result<Found, Failure> {
        let deadline = Instant::now() + timeout;
        let peers = peers(&place::door(address), timeout)?;
        let here: Vec<_> = listening().into_iter().filter(|one| one.address == *address).collect();
        // If the creator of the socket still has it, no search is needed.
        for pid in &peers {
            if here.iter().any(|one| has(*pid, one.inode) && listens(*pid, one))
                && let Some(Ok(master)) = Self::of(*pid)
            {
                return Ok(Found::Master(Box::new(master)));
            }
        }
        // The creator of the socket may have ended: after a reload, a daemonised php-fpm is another
        // process. So search for the processes that have it open now.
        let held = holds(|inode| here.iter().any(|one| one.inode == inode), deadline);
        interrupt::check()?;
        let mut doubtful: Option<Doubtful> = None;
        for pid in held.iter().map(|(pid, _)| pid).chain(&peers) {
            let mut its = held.iter().filter(|one| one.0 == *pid).peekable();
            let is_there = |(pid, inode): &(u32, u64)| {
                here.iter().any(|one| one.inode == *inode && listens(*pid, one))
            };
            match Self::of(*pid) {
                Some(Ok(master)) if its.peek().is_none() || its.any(is_there) => {
                    return Ok(Found::Master(Box::new(master)));
                }
                Some(Err(one)) if doubtful.is_none() || one.is_roots => doubtful = Some(one),
                _ => {}
            }
        }
        Ok(doubtful.map_or(Found::Nothing, Found::Doubtful))
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its parent process, if that still exists.
    pub fn parent(&self) -> Option<u32> {
        process::parent(&self.process.read("stat").ok()?)
    }

    /// Whether it is the same process.
    pub fn is(&self, other: &Self) -> bool {
        (self.pid(), self.started) == (other.pid(), other.started)
    }

    /// Whether it is still the proved process: it is alive, and has the same users and program.
    /// Check this right before using it.
    pub fn is_unchanged(&self) -> bool {
        let id = |fd: &OwnedFd| fstat(fd).map(|stat| (stat.st_dev, stat.st_ino)).ok();
        let program = self.process.follow("exe").ok();
        let runs_it = program.as_ref().and_then(id) == id(&self.program);
        let is_ours = self.process.users().is_ok_and(|ids| ids == [users::current(); 4]);
        runs_it && is_ours && self.process.is_alive()
    }

    /// Its program: a handle to execute, and its name.
    pub fn program(&self) -> (Arc<OwnedFd>, &Path) {
        (Arc::clone(&self.program), &self.program_path)
    }

    /// Its root directory.
    pub fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// Whether it has our root directory.
    pub fn shares_root(&self) -> bool {
        trusted::is_our_root(self.root.as_fd())
    }

    /// Its workers.
    pub fn workers(&self) -> Vec<u32> {
        let mut workers = Vec::new();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            let stat = pid.and_then(|pid| Process::open(pid).ok()?.read("stat").ok());
            if let (Some(pid), Some(stat)) = (pid, stat)
                && process::parent(&stat) == Some(self.pid())
            {
                workers.push(pid);
            }
        }
        workers
    }

    /// Its control group, as systemd names it.
    pub fn control_group(&self) -> Option<&str> {
        self.control_group.as_deref()
    }

    /// Its system service.
    pub fn unit(&self) -> Option<String> {
        unit(below(self.control_group()?, &manager())).map(str::to_owned)
    }

    /// Sends SIGUSR2: a graceful reload.
    ///
    /// # Errors
    /// `not_permitted`; `no_master` when it has ended.
    pub fn reload(&self) -> Result<(), Failure> {
        let what = format!("cannot reload php-fpm (master process {})", self.pid());
        let gone = || {
            Failure::new("no_master", what.clone())
                .cause("it has ended")
                .remedy("check whether php-fpm runs, and try again")
                .state("Nothing was changed.")
        };
        if !self.is_unchanged() {
            return Err(gone());
        }
        self.process.signal(Signal::USR2).map_err(|error| {
            let number = error.raw_os_error();
            if number == Some(Errno::SRCH.raw_os_error()) {
                return gone();
            }
            let failure = Failure::new("not_permitted", what.clone()).state("Nothing was changed.");
            if number == Some(Errno::NOSYS.raw_os_error()) {
                // By its process id, a signal could reach another process.
                return failure
                    .cause("this kernel or container does not support process handles (pidfd)")
                    .remedy("use method=reset, or method=restart");
            }
            failure.cause(error.kind()).remedy("run as root (become)")
        })
    }
}

/// The path of a process's program, if only root (or we) can have installed it, and if its name is that of php-fpm.
#[expect(clippy::disallowed_methods, reason = "the root directory")]
fn program_path(process: &Process, root: &OwnedFd, program: &OwnedFd) -> Result<PathBuf, String> {
    let stat = fstat(program).map_err(|error| format!("cannot be examined: {error}"))?;
    let path = process.link("exe").map_err(|error| format!("cannot be examined: {error}"))?;
    let path = match path.to_str().and_then(|text| text.strip_suffix(DELETED)) {
        Some(before) if stat.st_nlink == 0 => PathBuf::from(before),
        _ => path,
    };
    let shown = path.display();
    if let Some(doubt) = trusted::doubt_about_file(&stat) {
        return Err(format!("runs the program '{shown}', which {doubt}"));
    }
    let called = path.file_name().map(|name| name.to_string_lossy().into_owned());
    if !path.is_absolute() || !called.is_some_and(|name| name.contains(NAME)) {
        return Err(format!("runs the program '{shown}', which is not called {NAME}"));
    }
    // Any user can hard-link another program of root under such a name, so the path is checked,
    // too. It is a path in the process's own root directory, or in ours.
    let ours = rustix::fs::open("/", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty())
        .map_err(|error| format!("cannot be examined: {error}"))?;
    let mut problem = String::new();
    for root in [root, &ours] {
        match trusted::chain(root.as_fd(), &path) {
            Ok(None) if stat.st_nlink == 0 => return Ok(path),
            // An upgrade has installed another one.
            Ok(Some(_)) if stat.st_nlink == 0 => return Ok(path),
            Ok(Some(there)) => {
                let is_it = fstat(&there)
                    .is_ok_and(|there| (there.st_dev, there.st_ino) == (stat.st_dev, stat.st_ino));
                if is_it {
                    return Ok(path);
                }
                problem = "which is not the file that runs".to_owned();
            }
            Ok(None) => problem = "which does not exist".to_owned(),
            Err(why) => problem = format!("which others may have put there: {why}"),
        }
    }
    Err(format!("runs the program '{shown}', {problem}"))
}

/// The path in `0::/system.slice/php8.2-fpm.service`, of systemd's own hierarchy.
fn control_group(text: &str) -> Option<String> {
    let mut lines = text.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, kinds, path) = (parts.next()?, parts.next()?, parts.next()?);
        (kinds.is_empty() || kinds == "name=systemd").then_some((kinds.is_empty(), path))
    });
    // On systems with both kinds, systemd keeps its services in its named one.
    let (mut unified, mut named) = (None, None);
    for (is_unified, path) in &mut lines {
        *(if is_unified { &mut unified } else { &mut named }) = Some(path.to_owned());
    }
    named.or(unified)
}

/// The control group that contains systemd's slices: that of process 1 without `init.scope`. It is
/// not always the topmost one: containers may share the control groups of their host.
fn manager() -> String {
    let first = Process::open(1).and_then(|first| first.read("cgroup")).unwrap_or_default();
    let group = control_group(&String::from_utf8_lossy(&first)).unwrap_or_default();
    group.strip_suffix("/init.scope").unwrap_or_default().to_owned()
}

/// The name of a control group relative to systemd's own, `manager`.
fn below<'a>(group: &'a str, manager: &str) -> &'a str {
    group.strip_prefix(manager).filter(|rest| rest.starts_with('/')).unwrap_or(group)
}

/// The system service of a control group: directly below slices, but not below those of users, who
/// may give their services any name. Groups below a service belong to it.
fn unit(group: &str) -> Option<&str> {
    let mut names = group.strip_prefix('/')?.split('/');
    let mut slices = 0;
    let unit = loop {
        let name = names.next()?;
        let is_users = name == "user.slice" || name.starts_with("user-");
        if name.ends_with(".slice") && !is_users {
            slices += 1;
        } else {
            break name;
        }
    };
    let is_service = unit.len() > ".service".len() && unit.ends_with(".service");
    (slices > 0 && is_service && !unit.starts_with("user@")).then_some(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_read_from_both_kinds_of_cgroups() {
        let unit_of = |text| {
            control_group(text).and_then(|g| unit(&g).map(str::to_owned)).unwrap_or_default()
        };
        assert_eq!(unit_of("0::/system.slice/php8.2-fpm.service\n"), "php8.2-fpm.service");
        let old =
            "12:pids:/system.slice/php-fpm.service\n1:name=systemd:/system.slice/php-fpm.service\n";
        assert_eq!(unit_of(old), "php-fpm.service");
        let template = "0::/system.slice/system-php\\x2dfpm.slice/php-fpm@8.2.service\n";
        assert_eq!(unit_of(template), "php-fpm@8.2.service");
        assert_eq!(unit_of("0::/web.slice/php-fpm.service\n"), "php-fpm.service");
        // The part that a service may fill as it likes.
        assert_eq!(unit_of("0::/system.slice/fpm.service/ssh.service\n"), "fpm.service");
    }

    #[test]
    fn in_a_container_without_groups_of_its_own_units_are_below_its_systemd() {
        let group = "/libpod_parent/libpod-1/system.slice/php8.2-fpm.service";
        assert_eq!(unit(below(group, "/libpod_parent/libpod-1")), Some("php8.2-fpm.service"));
        // Of another container, or of the machine's.
        assert_eq!(unit(below(group, "/libpod_parent/libpod")), None);
        assert_eq!(unit(below(group, "/libpod_parent/libpod-2")), None);
        assert_eq!(unit(below(group, "")), None);
        let users = "/libpod_parent/libpod-1/user.slice/user-33.slice/user@33.service/ssh.service";
        assert_eq!(unit(below(users, "/libpod_parent/libpod-1")), None);
    }

    #[test]
    fn a_service_of_a_user_is_none() {
        for group in [
            "/user.slice/user-33.slice/user@33.service/ssh.service",
            "/user.slice/user-33.slice/user@33.service/app.slice/ssh.service",
            "/user.slice/user-1000.slice/session-3.scope",
            "/user.slice/ssh.service",
            "/system.slice/user@33.service/ssh.service",
            "/../system.slice/ssh.service",
            "/x/ssh.service",
            "/ssh.service",
            "/system.slice/.service",
            "/system.slice",
            "/",
            "",
        ] {
            assert_eq!(unit(group), None, "{group}");
            assert_eq!(unit(below(group, "")), None, "{group}");
        }
    }

    #[test]
    fn what_does_not_say_that_it_is_one_is_none() {
        assert!(Master::of(std::process::id()).is_none());
    }
}
