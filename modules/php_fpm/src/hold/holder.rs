//! The holder, a process in which requests wait, and the process that watches it. docs/hold.md has the design.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use oxistrano_core::command::start_detached;
use oxistrano_core::dir::Info;
use oxistrano_core::{Failure, IoContext, interrupt};
use oxistrano_fastcgi::{Found, is_heard, try_unix};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{XattrFlags, getxattr, setxattr};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::net::{accept_with, bind, listen, socket_with};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, setsid};

use super::line::{Line, Switched};
use crate::place::Place;

const HOLD: &str = "--oxistrano-hold";
const WATCH: &str = "--oxistrano-watch";
/// How often the holder checks that the known name still leads to it.
const TICK: Duration = Duration::from_millis(20);
/// How often the watcher checks.
const GLANCE: Duration = Duration::from_millis(200);
/// How often the holder checks that php-fpm still listens.
const PULSE: Duration = Duration::from_millis(500);
/// The additional time before the watcher ends the hold.
const OVERTIME: Duration = Duration::from_secs(1);
/// How long to wait for php-fpm to come back before waiting requests are refused.
const RETURN: Duration = Duration::from_secs(10);
/// How long to accept connections that found the holder's socket just before its name was removed.
const LATE: Duration = Duration::from_secs(1);
/// How many watchers may die before the holder gives up.
const WATCHERS: u8 = 3;
/// The holder's message when it holds.
pub const READY: &str = "held";
const ACL: &str = "system.posix_acl_access";

/// Starts a holder, which reports through `said`.
pub fn start(place: &Place, limits: &Limits, bound: &Path, said: OwnedFd) -> Result<(), Failure> {
    let dir = place.dir.as_fd().try_clone_to_owned().or_fail("reopen", place.dir.path())?;
    let (seconds, most) = (limits.seconds.to_string(), limits.most.to_string());
    let current = limits.current.as_deref().unwrap_or(Path::new(""));
    let arguments = [
        HOLD.as_ref(),
        &*place.known,
        seconds.as_ref(),
        most.as_ref(),
        bound.as_ref(),
        current.as_ref(),
    ];
    let arguments = arguments.into_iter().chain(limits.except.iter().map(OsStr::new));
    start_detached(arguments, dir.into(), said.into())
        .or_fail("start a holder for", place.dir.path())
}

/// The limits: how long, how many, and the exceptions.
#[derive(Debug, Clone)]
pub struct Limits {
    pub seconds: u64,
    pub most: usize,
    /// `SCRIPT_NAME`s of requests that do not wait.
    pub except: Vec<String>,
    /// The path of the link to the live release.
    pub current: Option<PathBuf>,
}

/// Holds or watches, if this process was started for that.
pub fn job(arguments: &[OsString]) -> Option<ExitCode> {
    let number = |text: &OsStr| text.to_str()?.parse().ok();
    let done = match arguments {
        [word, known, seconds, most, bound, current, except @ ..] if word == HOLD => {
            let except = except.iter().map(|name| name.to_string_lossy().into_owned()).collect();
            let current = Some(PathBuf::from(current)).filter(|path| path.is_absolute());
            let (seconds, most) = (number(seconds)?, number(most)? as usize);
            let limits = Limits { seconds, most, except, current };
            let done = Holder::begin(known, limits, bound.as_ref());
            done.map(Holder::run).map_err(|failure| {
                let _ = writeln!(std::io::stdout(), "{failure}");
            })
        }
        [word, known, seconds] if word == WATCH => {
            watch(known, Duration::from_secs(number(seconds)?)).map_err(drop)
        }
        _ => return None,
    };
    Some(ExitCode::from(u8::from(done.is_err())))
}

/// Restores php-fpm's socket when the holder (which has the other end of our standard output) has
/// died, or if it is still there after its time.
fn watch(known: &OsStr, time: Duration) -> Result<(), Failure> {
    apart();
    let place = Place::from_stdin(known)?;
    let Some(holder) = place.look()?.holder else { return Ok(()) };
    let end = Instant::now() + time + OVERTIME;
    loop {
        let stdout = std::io::stdout();
        let mut polled = [PollFd::new(&stdout, PollFlags::IN)];
        let _ = poll(&mut polled, Some(&timespec(GLANCE)));
        let [polled] = polled;
        if !polled.revents().is_empty() || Instant::now() >= end {
            return place.put_back(Some(&holder)).map(drop);
        }
        if place.look().is_ok_and(|seen| seen.holder.is_none_or(|now| !now.same_file(&holder))) {
            return Ok(());
        }
    }
}

/// Starts a new session and turns SIGTERM into a request to end.
fn apart() {
    let _ = setsid();
    interrupt::install();
}

fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() }
}

struct Holder {
    place: Place,
    limits: Limits,
    listener: OwnedFd,
    /// The holder's socket.
    me: Info,
    /// php-fpm's socket, by a handle.
    door: OwnedFd,
    /// The path of php-fpm's socket in the kernel's list.
    bound: PathBuf,
    /// A pipe; the watcher has its other end.
    watcher: OwnedFd,
    watchers: u8,
    end: Instant,
    /// The release that was live at the beginning.
    live: Option<PathBuf>,
    /// The release that is live now, if it is another one.
    switched: Option<Switched>,
    lines: Vec<Line>,
    scratch: Vec<u8>,
}

impl Holder {
    fn begin(known: &OsStr, limits: Limits, bound: &Path) -> Result<Self, Failure> {
        apart();
        // Two descriptors for each connection; further connections wait in the socket's queue.
        let limit = getrlimit(Resource::Nofile);
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
        let place = Place::from_stdin(known)?;
        let end = Instant::now() + Duration::from_secs(limits.seconds);
        let ((listener, watcher), me, door) = place.hold(|name, like| {
            let listener = listen_at(&place, name, like)?;
            Ok((listener, start_watcher(&place, limits.seconds)?))
        })?;
        let mut out = std::io::stdout();
        let _ = writeln!(out, "{READY}").and_then(|()| out.flush());
        // Close standard output, so that a reader does not wait for this process.
        if let Ok(null) = rustix::fs::openat(
            rustix::fs::CWD,
            "/dev/null",
            rustix::fs::OFlags::RDWR,
            rustix::fs::Mode::empty(),
        ) {
            let _ = rustix::stdio::dup2_stdout(null);
        }
        let (lines, scratch) = (Vec::new(), vec![0; 64 << 10]);
        let bound = bound.to_owned();
        let live =
            limits.current.as_deref().and_then(|current| std::fs::canonicalize(current).ok());
        Ok(Self {
            live,
            switched: None,
            place,
            limits,
            listener,
            me,
            door,
            bound,
            watcher,
            watchers: 1,
            end,
            lines,
            scratch,
        })
    }

    fn run(mut self) {
        self.hold();
        self.pass();
    }

    /// Holds until the known name leads elsewhere: a release, or a new socket of php-fpm.
    fn hold(&mut self) {
        let mut pulse = Instant::now() + PULSE;
        loop {
            self.turn(TICK);
            self.judge();
            let now = Instant::now();
            let mut is_over = now >= self.end || interrupt::check().is_err();
            if now >= pulse {
                pulse = now + PULSE;
                is_over |= !is_heard(&self.bound);
            }
            is_over |= !self.is_watched();
            // Also if it already leads elsewhere, because the other two names have to be removed.
            if is_over || !self.place.is_held_by(&self.me) {
                let put_back = self.place.put_back(Some(&self.me));
                if put_back.is_ok() && !self.place.is_held_by(&self.me) {
                    return;
                }
            }
        }
    }

    /// Decides about new connections: they wait, are refused, or go to php-fpm at once.
    fn judge(&mut self) {
        let mut waiting = self.lines.iter().filter(|line| line.is_held() && line.is_judged).count();
        for line in self.lines.iter_mut().filter(|line| line.is_held() && !line.is_judged) {
            match line.is_one_of(&self.limits.except, &mut self.scratch) {
                Found::NotYet => {}
                Found::Is(true) => {
                    let Ok(_acting) = self.place.as_owner() else { continue };
                    // If php-fpm's queue is full, it waits like the others.
                    if let Ok(pool) = try_unix(&by_handle(&self.door)) {
                        line.pass(pool);
                    }
                    line.is_judged = true;
                }
                Found::Is(false) | Found::None => {
                    line.is_judged = true;
                    if waiting >= self.limits.most {
                        line.refuse();
                    } else {
                        waiting += 1;
                    }
                }
            }
        }
    }

    /// Replaces a watcher that was killed.
    fn is_watched(&mut self) -> bool {
        let mut polled = [PollFd::new(&self.watcher, PollFlags::empty())];
        let _ = poll(&mut polled, Some(&timespec(Duration::ZERO)));
        let [polled] = polled;
        if polled.revents().is_empty() {
            return true;
        }
        // Limited, because the names may not be restorable for a long time.
        if self.watchers >= WATCHERS {
            return false;
        }
        self.watchers += 1;
        let left = self.end.saturating_duration_since(Instant::now()).as_secs() + 1;
        match start_watcher(&self.place, left) {
            Ok(watcher) => {
                self.watcher = watcher;
                true
            }
            Err(_) => false,
        }
    }

    /// Passes connections on until the last one has ended.
    fn pass(&mut self) {
        let released = Instant::now();
        let now = self.limits.current.as_deref().and_then(|path| std::fs::canonicalize(path).ok());
        let bytes = |path: PathBuf| path.into_os_string().into_vec();
        self.switched = self
            .live
            .take()
            .zip(now)
            .filter(|(live, now)| live != now)
            .map(|(live, now)| Switched { from: bytes(live), to: bytes(now) });
        loop {
            let waits = self.connect(released.elapsed() > RETURN);
            let wait = if waits { TICK } else { GLANCE };
            let some = self.turn(wait);
            if self.lines.is_empty() && !some && released.elapsed() > LATE {
                return;
            }
        }
    }

    /// Connects the waiting ones to php-fpm, in order, except those whose request is not complete yet. Returns whether any is
    /// still waiting.
    fn connect(&mut self, give_up: bool) -> bool {
        // As the directory's owner, so that only sockets which that user may use are reached.
        let Ok(_acting) = self.place.as_owner() else { return true };
        let mut some = false;
        for line in self.lines.iter_mut().filter(|line| line.is_held()) {
            if !line.is_ready(self.switched.as_ref(), &mut self.scratch) {
                some = true;
                continue;
            }
            let known = self.place.dir.at(&self.place.known);
            // php-fpm's socket from before or, if it was restarted, its new one.
            match try_unix(&by_handle(&self.door)).or_else(|error| match error {
                // By its path, which may lead to another directory by now, so check again that it is trusted.
                Errno::CONNREFUSED if !self.place.is_held_by(&self.me) => {
                    let now = Place::of(&known).ok().filter(|now| now.owner.is_none());
                    let door = now.and_then(|now| now.handle(&now.known).ok());
                    match door.filter(|door| self.place.may_be_fpms(door)) {
                        Some(door) => try_unix(&by_handle(&door)),
                        None => Err(error),
                    }
                }
                _ => Err(error),
            }) {
                Ok(pool) => line.pass(pool),
                // php-fpm's queue is full, or we have no free descriptors.
                Err(Errno::AGAIN | Errno::INTR | Errno::MFILE | Errno::NFILE) => return true,
                Err(_) if give_up => line.refuse(),
                Err(_) => return true,
            }
        }
        some
    }

    /// Waits for events and handles them. Returns whether there are new connections.
    fn turn(&mut self, wait: Duration) -> bool {
        let full = self.lines.len() >= self.limits.most * 2;
        let mut polled = vec![PollFd::new(
            &self.listener,
            if full { PollFlags::empty() } else { PollFlags::IN },
        )];
        let mut whose = Vec::new();
        for (index, line) in self.lines.iter().enumerate() {
            for (end, wanted) in line.wanted().into_iter().enumerate() {
                if let Some((socket, flags)) = wanted {
                    polled.push(PollFd::new(socket, flags));
                    whose.push((index, end));
                }
            }
        }
        let _ = poll(&mut polled, Some(&timespec(wait)));
        let mut client = vec![PollFlags::empty(); self.lines.len()];
        for (polled, (index, end)) in polled.iter().skip(1).zip(whose) {
            if let Some(client) = client.get_mut(index).filter(|_| end == 0) {
                *client = polled.revents();
            }
        }
        drop(polled);
        let mut client = client.into_iter();
        let scratch = &mut self.scratch;
        self.lines
            .retain_mut(|line| line.advance(client.next().unwrap_or(PollFlags::empty()), scratch));
        !full && self.accept()
    }

    fn accept(&mut self) -> bool {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let mut some = false;
        while self.lines.len() < self.limits.most * 2 {
            let Ok(client) = accept_with(&self.listener, flags) else { break };
            some = true;
            self.lines.push(Line::held(client));
        }
        some
    }
}

/// A path to connect to a socket by its handle.
fn by_handle(door: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", door.as_raw_fd()))
}

fn start_watcher(place: &Place, seconds: u64) -> Result<OwnedFd, Failure> {
    let failed = "start a watcher for";
    let path = place.dir.path();
    let (theirs, ours) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).or_fail(failed, path)?;
    let dir = place.dir.as_fd().try_clone_to_owned().or_fail("reopen", path)?;
    let seconds = seconds.to_string();
    let arguments = [WATCH.as_ref(), &*place.known, OsStr::new(&seconds)];
    start_detached(arguments, Stdio::from(dir), Stdio::from(theirs)).or_fail(failed, path)?;
    Ok(ours)
}

/// Creates a socket with the same permissions as `like`.
fn listen_at(place: &Place, name: &Path, like: &Info) -> Result<OwnedFd, Failure> {
    let _acting = place.as_owner()?;
    let path = place.dir.at(name);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
    let listener = listener.or_fail("make the socket", &path)?;
    let address = SocketAddrUnix::new(&path).or_fail("make the socket", &path)?;
    bind(&listener, &address).or_fail("make the socket", &path)?;
    let handle = place.dir.handle(name)?.ok_or(Errno::NOENT).or_fail("open", &path)?;
    handle.set_owner(Some(like.uid()), Some(like.gid()))?;
    handle.set_mode(like.mode() & 0o7777)?;
    // The pool's listen.acl_users, if there are any.
    let (from, to) = (place.handle(&place.known)?, place.handle(name)?);
    let by_number = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let mut acl = vec![0; 4096];
    if let Ok(length) = getxattr(by_number(&from), ACL, &mut acl[..]) {
        let acl = acl.get(..length).unwrap_or_default();
        setxattr(by_number(&to), ACL, acl, XattrFlags::empty())
            .or_fail("set the access list of", &path)?;
    }
    // The longest queue that the system allows.
    listen(&listener, i32::MAX).or_fail("listen at", &path)?;
    Ok(listener)
}
