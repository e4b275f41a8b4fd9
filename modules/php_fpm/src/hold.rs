//! Holds requests at the pool's socket and releases them (`state=held` and `state=released`), and
//! repairs the socket after a killed hold (every state). See docs/hold.md.

mod holder;
mod line;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use oxistrano_core::dir::Info;
use oxistrano_core::{Context, Diff, Failure, IoContext, Outcome, interrupt, net};
use oxistrano_fastcgi::{Address, connections, has, listening, try_unix};
use rustix::event::PollFlags;
use rustix::net::{SocketAddrUnix, getpeername};

use crate::place::{Place, Seen};
use crate::pool::Pool;

pub use holder::{Limits, job};

const NOTHING: &str = "Nothing was changed.";
/// The remedy for an unsuitable directory.
const ELSEWHERE: &str = "let the pool listen in a directory that belongs to root (listen = \
    /run/shop/php-fpm.sock, with RuntimeDirectory= or tmpfiles.d), or use the maintenance page \
    (magento2_upgrade_mode: maintenance)";
/// The time limit for starting a holder.
const BEGIN: Duration = Duration::from_secs(5);
/// The time limit for requests in flight; at most a third of the hold.
const DRAIN: Duration = Duration::from_secs(5);

/// The limits of the hold during a reload.
const PAUSE: Limits = Limits { seconds: 15, most: 500, except: Vec::new(), current: None };

/// The failure if requests cannot be held.
fn cannot(code: &'static str, cause: impl std::fmt::Display) -> Failure {
    Failure::new(code, "cannot hold the pool's requests").cause(cause).state(NOTHING)
}

/// Restores php-fpm's socket after a hold whose processes were killed. Returns a warning about it.
///
/// # Errors
/// When it cannot be restored.
pub fn repair(address: &Address, context: &Context) -> Result<Option<String>, Failure> {
    let Address::Unix(path) = address else { return Ok(None) };
    // In an untrusted directory, nothing is ever held.
    let Ok(place) = Place::of(path) else { return Ok(None) };
    let seen = place.look()?;
    if seen.is_clean() || seen.is_held() && place.answers() {
        return Ok(None);
    }
    let left = format!("A hold that was killed left its own socket at '{}'", path.display());
    if context.check_mode {
        return Ok(Some(format!(
            "{left}; the next run outside check mode restores php-fpm's socket."
        )));
    }
    let was_held = place.put_right()?;
    Ok(was_held.then(|| format!("{left}; php-fpm's socket was restored.")))
}

/// `state=held`.
///
/// # Errors
/// When requests cannot be held.
pub fn held(pool: &Pool, limits: &Limits, context: &Context) -> Result<Outcome, Failure> {
    let Address::Unix(path) = &pool.address else {
        return Err(cannot("not_holdable", "the pool listens on a port, and only a unix socket can \
            be taken over")
            .remedy("let it listen on a unix socket, or use the maintenance page (magento2_upgrade_mode: maintenance)"));
    };
    let place = Place::of(path).map_err(|why| {
        cannot("untrusted_directory", format!("{why}, so others could replace php-fpm's socket"))
            .path(path)
            .remedy(ELSEWHERE)
    })?;
    let seen = place.look()?;
    if seen.is_held() {
        let outcome = Outcome::new(false).msg(
            "requests are already held; that hold continues, and its time \
                is not extended",
        );
        return Ok(described(outcome, &pool.address));
    }
    let bound = check(pool, &place)?;
    let diff = Diff {
        header: path.display().to_string(),
        before: vec!["leads to php-fpm".to_owned()],
        after: vec![format!("leads to a holder, for {} s at most", limits.seconds)],
    };
    let outcome = Outcome::new(true).diff(diff);
    if context.check_mode {
        return Ok(outcome.msg("would hold the pool's requests"));
    }
    begin(&place, limits, &bound)?;
    let in_flight = drain(pool, &bound, limits).map_err(|failure| {
        failure.state(format!("Requests are held, for {} s at most.", limits.seconds))
    })?;
    let msg = format!("holds requests for {} s at most", limits.seconds);
    let outcome = described(outcome.msg(msg), &pool.address).value("in_flight", in_flight);
    Ok(match in_flight {
        0 => outcome,
        some => outcome.warning(format!(
            "{some} connections to php-fpm are still in use, or are kept open \
             (fastcgi_keep_conn): requests on them are not held."
        )),
    })
}

/// Waits until no request is in flight, and returns the number of those that still are.
fn drain(pool: &Pool, bound: &Path, limits: &Limits) -> Result<usize, Failure> {
    // Leave enough time for the work during the hold.
    let end = Instant::now() + DRAIN.min(Duration::from_secs(limits.seconds) / 3);
    let bound = Address::Unix(bound.to_owned());
    loop {
        let in_flight = count(&bound);
        if in_flight == 0 || Instant::now() >= end.min(pool.deadline.end()) {
            return Ok(in_flight);
        }
        pool.deadline.sleep(Duration::from_millis(10))?;
    }
}

/// Requests are held while this exists.
pub struct Pause {
    place: Place,
    /// The holder's socket. After its time, another hold may have taken its place.
    holder: Option<Info>,
    /// Whether all earlier requests have been answered.
    pub is_quiet: bool,
}

impl Drop for Pause {
    fn drop(&mut self) {
        // If that fails, the hold ends by its time limit.
        if let Some(holder) = &self.holder {
            let _ = self.place.put_back(Some(holder));
        }
    }
}

/// Holds the requests for a short time; `None` if they cannot be held, or already are.
///
/// # Errors
/// `interrupted`.
pub fn pause(pool: &Pool) -> Result<Option<Pause>, Failure> {
    let Address::Unix(path) = &pool.address else { return Ok(None) };
    let Ok(place) = Place::of(path) else { return Ok(None) };
    if !place.look().is_ok_and(|seen| seen.is_clean()) {
        return Ok(None);
    }
    let Ok(bound) = check(pool, &place) else { return Ok(None) };
    let begun = begin(&place, &PAUSE, &bound);
    interrupt::check()?;
    if begun.is_err() {
        return Ok(None);
    }
    let holder = place.look().ok().and_then(|seen| seen.holder);
    let mut pause = Pause { place, holder, is_quiet: false };
    pause.is_quiet = drain(pool, &bound, &PAUSE)? == 0;
    Ok(Some(pause))
}

/// Checks the conditions before anything is changed. Returns the path that php-fpm has bound.
#[expect(clippy::disallowed_methods, reason = "a file of the kernel")]
fn check(pool: &Pool, place: &Place) -> Result<PathBuf, Failure> {
    let master = pool.master("hold the requests of")?;
    let socket = place.dir.lookup(&place.known)?;
    if let (Some(owner), Some(socket)) = (&place.owner, &socket)
        && (socket.uid(), socket.gid()) != (owner.uid, owner.gid)
    {
        return Err(cannot(
            "not_holdable",
            format!(
                "'{}' belongs to user id {} (group {}), who cannot create a socket of user id {} \
                 (group {})",
                place.dir.path().display(),
                owner.uid,
                owner.gid,
                socket.uid(),
                socket.gid(),
            ),
        )
        .remedy(ELSEWHERE));
    }
    if !place.is_short() {
        return Err(cannot(
            "not_holdable",
            "the path of its socket is too long to add a second name",
        )
        .remedy("use a path of at most 92 bytes"));
    }
    // With SELinux, the web server may connect only to processes of php-fpm's domain.
    if std::fs::read("/sys/fs/selinux/enforce").is_ok_and(|text| text.starts_with(b"1")) {
        return Err(cannot(
            "not_holdable",
            "SELinux would not let the web server connect to the holder",
        )
        .remedy("use the maintenance page (magento2_upgrade_mode: maintenance)"));
    }
    let known = place.dir.at(&place.known);
    let acting = place.as_owner()?;
    let socket = try_unix(&known).or_fail("connect to", &known)?;
    drop(acting);
    let name =
        getpeername(&socket).ok().flatten().and_then(|name| SocketAddrUnix::try_from(name).ok());
    let bound = name
        .and_then(|name| name.path().map(|path| PathBuf::from(OsStr::from_bytes(path.to_bytes()))));
    let all = listening();
    let one = bound
        .as_deref()
        .and_then(|bound| all.iter().find(|one| one.address == Address::Unix(bound.to_owned())));
    let (Some(bound), Some(one)) = (&bound, one) else {
        return Err(cannot(
            "not_holdable",
            "the kernel does not list its socket here, so it is not \
            known when no request is in flight",
        )
        .remedy("run the module where php-fpm runs"));
    };
    if let Some(pid) = master.parent().filter(|pid| has(*pid, one.inode)) {
        return Err(cannot("not_holdable", format!("its socket was made by systemd or by the \
            process that started php-fpm (process {pid} has it open, too)"))
            .remedy("let php-fpm make its own socket (no .socket unit), or use the maintenance page (magento2_upgrade_mode: maintenance)"));
    }
    Ok(bound.clone())
}

/// Starts a holder and waits until it holds.
fn begin(place: &Place, limits: &Limits, bound: &Path) -> Result<(), Failure> {
    let failed = |cause: &str| {
        Failure::new("not_held", "cannot hold the pool's requests")
            .cause(cause.trim())
            .state("The socket leads to php-fpm, or will again within a second.")
    };
    let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .or_fail("start a holder for", place.dir.path())?;
    holder::start(place, limits, bound, theirs)?;
    let (end, mut said) = (Instant::now() + BEGIN, Vec::new());
    loop {
        let mut some = [0; 512];
        let ready = net::wait(&ours, PollFlags::IN, end).map_err(|error| {
            interrupt::check().err().unwrap_or_else(|| failed(&error.to_string()))
        })?;
        if ready.is_empty() {
            continue;
        }
        match rustix::io::read(&ours, &mut some) {
            Ok(0) | Err(_) => break,
            Ok(count) => said.extend(some.iter().take(count)),
        }
        if said.ends_with(b"\n") {
            break;
        }
    }
    match String::from_utf8_lossy(&said).trim() {
        holder::READY => Ok(()),
        "" => Err(failed("the holder ended without a message")),
        why => Err(failed(why)),
    }
}

/// `state=released`.
///
/// # Errors
/// When the names cannot be changed.
pub fn released(address: &Address, context: &Context) -> Result<Outcome, Failure> {
    let nothing = || Ok(Outcome::new(false).msg("no requests are held").value("held", false));
    let Address::Unix(path) = address else { return nothing() };
    let Ok(place) = Place::of(path) else { return nothing() };
    let seen = place.look()?;
    if seen.is_clean() {
        return nothing();
    }
    let waiting = waiting(&place, &seen);
    let outcome = Outcome::new(true).value("waiting", waiting).diff(Diff {
        header: path.display().to_string(),
        before: vec!["leads to a holder".to_owned()],
        after: vec!["leads to php-fpm".to_owned()],
    });
    if context.check_mode {
        return Ok(outcome
            .msg("would pass the held requests on to php-fpm")
            .value("held", seen.is_held()));
    }
    place.put_back(None)?;
    Ok(outcome.msg(format!("passed {waiting} held requests on to php-fpm")).value("held", false))
}

/// For `state=status`, too: whether requests are held, and how many.
pub fn described(outcome: Outcome, address: &Address) -> Outcome {
    let waiting = match address {
        Address::Unix(path) => Place::of(path).ok().and_then(|place| {
            let seen = place.look().ok().filter(|seen| seen.is_held() && place.answers())?;
            Some(waiting(&place, &seen))
        }),
        Address::Tcp { .. } => None,
    };
    outcome.value("held", waiting.is_some()).value("waiting", waiting.unwrap_or_default())
}

/// The smallest number within a short time: checks whether the holder is alive also connect.
fn waiting(place: &Place, seen: &Seen) -> usize {
    if !seen.is_held() {
        return 0;
    }
    let holder = Address::Unix(place.holder());
    let mut least = count(&holder);
    for _ in 0..3 {
        if least > 0 {
            sleep(Duration::from_millis(10));
            least = least.min(count(&holder));
        }
    }
    least
}

fn count(address: &Address) -> usize {
    let now = connections(address);
    now.accepted + now.queued
}
