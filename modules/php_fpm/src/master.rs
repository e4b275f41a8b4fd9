//! php-fpm's master process: proved before anything that it says of itself is believed, run or
//! read. A web user can give a process of their own any title, have php-fpm's listening socket
//! (`exec()` hands it on), start setuid programs, and wait until a number is free again.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::hold;
use oxistrano_core::process::{self, Process};
use oxistrano_core::{Failure, interrupt, trusted, users};
use oxistrano_fastcgi::{Address, has, holds, listening, listens, peers};
use rustix::fs::fstat;
use rustix::io::Errno;
use rustix::process::Signal;

const TITLE: &str = "php-fpm: master process";
/// A part of the name that php-fpm's program has on every system (`php-fpm8.2`).
const NAME: &str = "php-fpm";
/// What the kernel adds to the path of a program that was removed, by an upgrade for example.
const DELETED: &str = " (deleted)";

/// A process that is php-fpm's master beyond doubt: root's, or of the user who runs the module,
/// with all of its user ids, and its program is php-fpm's, which only root can have put there.
#[derive(Debug)]
pub struct Master {
    process: Process,
    /// When it was started, as the kernel counts.
    started: u64,
    program: Arc<OwnedFd>,
    program_path: PathBuf,
    /// Its configuration as its title names it, made absolute; in its own file system.
    pub config: Option<PathBuf>,
    /// Its root directory: it may live in a container.
    root: OwnedFd,
    /// As it was when it was proved: after a restart it is not there to be asked.
    control_group: Option<String>,
}

/// A process that says it is a master, and may be anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubtful {
    /// Its number.
    pub pid: u32,
    /// Why it is not believed, with a verb.
    pub why: String,
    /// It is root's, and this process may not look closely enough.
    pub is_roots: bool,
}

/// What became of the question who serves a pool.
#[derive(Debug)]
pub enum Found {
    /// Its master.
    Master(Box<Master>),
    /// None that could be proved.
    Doubtful(Doubtful),
    /// None that the system tells of.
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

    /// Its number; also of root's, for one who may not look closer. Nothing follows from it.
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
            Self::Nothing => {
                Some("the system does not tell which process made the socket".to_owned())
            }
        }
    }

    /// Where it is php-fpm that listens, as far as this process may see.
    pub fn is_likely(&self) -> bool {
        self.pid().is_some()
    }
}

impl Master {
    /// The process with this number: `None` if it does not say that it is a master.
    pub fn of(pid: u32) -> Option<Result<Self, Doubtful>> {
        let process = Process::open(pid).ok()?;
        let doubtful = |why: String, is_roots| Some(Err(Doubtful { pid, why, is_roots }));
        // First, and from the kernel's memory: the title is in the process's own, and its word only
        // (kernels before 4.17 even wait for whatever it has put there).
        let ids = process.users().ok()?;
        let me = users::current();
        if !ids.iter().all(|id| *id == me) && ids != [0; 4] {
            let name = process.read("comm").ok()?;
            let [real, effective, saved, files] = ids;
            let why = format!(
                "has the user ids {real} (real), {effective} (effective), {saved} (saved) and {files} \
                 (for files), and not {me} as all of them"
            );
            return if name.starts_with(NAME.as_bytes()) { doubtful(why, false) } else { None };
        }
        let title = process.read("cmdline").ok()?;
        let title = String::from_utf8_lossy(&title);
        let rest = title.trim_end_matches(['\0', ' ']).strip_prefix(TITLE)?;
        if ids != [me; 4] {
            let why = format!("is root's, and this module runs as user id {me}");
            return doubtful(why, true);
        }
        // A title that did not fit is cut off.
        let config = rest.trim().strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        let config = config.filter(|path| !path.is_empty()).map(PathBuf::from);
        match Self::proved(process, config) {
            Ok(master) => Some(Ok(master)),
            Err(why) => doubtful(why, false),
        }
    }

    fn proved(process: Process, config: Option<PathBuf>) -> Result<Self, String> {
        let hidden = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => "has ended meanwhile".to_owned(),
            _ => format!("cannot be looked at: {error}"),
        };
        if process.link("ns/user").map_err(hidden)?
            != std::fs::read_link("/proc/self/ns/user").map_err(hidden)?
        {
            return Err("lives in a user namespace of its own".to_owned());
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
        master.is_unchanged().then_some(master).ok_or_else(|| "has ended meanwhile".to_owned())
    }

    /// The master whose pool listens there.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn behind(address: &Address, timeout: Duration) -> Result<Found, Failure> {
        let deadline = Instant::now() + timeout;
        let peers = peers(&hold::door(address), timeout)?;
        let here: Vec<_> = listening().into_iter().filter(|one| one.address == *address).collect();
        // Who has made it and has it still needs not be looked for among all processes.
        for pid in &peers {
            if here.iter().any(|one| has(*pid, one.inode) && listens(*pid, one))
                && let Some(Ok(master)) = Self::of(*pid)
            {
                return Ok(Found::Master(Box::new(master)));
            }
        }
        // Who made the socket is asked of it, and may be gone: php-fpm that makes a daemon of
        // itself is another process after a reload, and who calls listen() is its maker. Who
        // holds it does so now.
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

    /// Who has started it, as far as that process still is.
    pub fn parent(&self) -> Option<u32> {
        process::parent(&self.process.read("stat").ok()?)
    }

    /// Whether that is the same process.
    pub fn is(&self, other: &Self) -> bool {
        (self.pid(), self.started) == (other.pid(), other.started)
    }

    /// Whether it still is what was proved: it lives, belongs to whom it did, and runs the program
    /// that it ran. To be asked right before anything is done with it.
    pub fn is_unchanged(&self) -> bool {
        let id = |fd: &OwnedFd| fstat(fd).map(|stat| (stat.st_dev, stat.st_ino)).ok();
        let program = self.process.follow("exe").ok();
        let runs_it = program.as_ref().and_then(id) == id(&self.program);
        let is_ours = self.process.users().is_ok_and(|ids| ids == [users::current(); 4]);
        runs_it && is_ours && self.process.is_alive()
    }

    /// Its program: the handle to execute, and what it is called.
    pub fn program(&self) -> (Arc<OwnedFd>, &Path) {
        (Arc::clone(&self.program), &self.program_path)
    }

    /// Its root directory.
    pub fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// Whether its file system is ours.
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

    /// The control group that it is in, as systemd names it.
    pub fn control_group(&self) -> Option<&str> {
        self.control_group.as_deref()
    }

    /// The system service that it is in.
    pub fn unit(&self) -> Option<String> {
        unit(below(self.control_group()?, &manager())).map(str::to_owned)
    }

    /// Sends SIGUSR2: a graceful reload.
    ///
    /// # Errors
    /// `not_permitted`; `no_master` when it has ended meanwhile.
    pub fn reload(&self) -> Result<(), Failure> {
        let what = format!("cannot reload php-fpm (master process {})", self.pid());
        let gone = || {
            Failure::new("no_master", what.clone())
                .cause("it has ended meanwhile")
                .remedy("look whether php-fpm runs, and try again")
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
                // By its number, a signal could reach another process.
                return failure
                    .cause("this kernel, or container, has no handles of processes (pidfd)")
                    .remedy("use method=reset, or method=restart");
            }
            failure.cause(error.kind()).remedy("run as root (become)")
        })
    }
}

/// The path of a process's program, if only root (or we) can have put that there, and if it is
/// called as php-fpm is.
#[expect(clippy::disallowed_methods, reason = "the root directory")]
fn program_path(process: &Process, root: &OwnedFd, program: &OwnedFd) -> Result<PathBuf, String> {
    let stat = fstat(program).map_err(|error| format!("cannot be looked at: {error}"))?;
    let path = process.link("exe").map_err(|error| format!("cannot be looked at: {error}"))?;
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
    // A link of anybody's to another program of root's has such a name as well. The path is that
    // in its own file system, or, where it has another root directory in ours, the one in ours.
    let ours = rustix::fs::open("/", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty())
        .map_err(|error| format!("cannot be looked at: {error}"))?;
    let mut problem = String::new();
    for root in [root, &ours] {
        match trusted::chain(root.as_fd(), &path) {
            Ok(None) if stat.st_nlink == 0 => return Ok(path),
            // Another one by now: an upgrade has put it there.
            Ok(Some(_)) if stat.st_nlink == 0 => return Ok(path),
            Ok(Some(there)) => {
                let is_it = fstat(&there)
                    .is_ok_and(|there| (there.st_dev, there.st_ino) == (stat.st_dev, stat.st_ino));
                if is_it {
                    return Ok(path);
                }
                problem = "which is another file than the one that runs".to_owned();
            }
            Ok(None) => problem = "which is not there".to_owned(),
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

/// The control group below which systemd has its slices: that of process 1 without `init.scope`. Not
/// always the topmost: containers may share the name space of their host's groups.
fn manager() -> String {
    let first = Process::open(1).and_then(|first| first.read("cgroup")).unwrap_or_default();
    let group = control_group(&String::from_utf8_lossy(&first)).unwrap_or_default();
    group.strip_suffix("/init.scope").unwrap_or_default().to_owned()
}

/// A control group as systemd names it, whose own is `manager`.
fn below<'a>(group: &'a str, manager: &str) -> &'a str {
    group.strip_prefix(manager).filter(|rest| rest.starts_with('/')).unwrap_or(group)
}

/// The system service that a control group belongs to: below slices only, and never below one
/// of users, who name services of their own as they like. What a service has below itself is
/// the service's.
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
