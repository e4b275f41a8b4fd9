//! An upgrade that goes on while the play does something else.
//!
//! It is this program once more, in a process group of its own, told to run to the end, with
//! a file in the state directory as its standard output. A lock on that file (`flock`, held by
//! the process's own handle) tells whether it still runs, whatever becomes of it; what it
//! prints at its end is its result.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use oxistrano_core::json::{self, Map, Value};
use oxistrano_core::{clock, interrupt, AbsPath, Dir, Failure, IoContext, RelPath};
use rustix::fs::{flock, FlockOperation};
use rustix::io::Errno;

use crate::log::STATE;

const PREFIX: &str = "magento_upgrade.";
const SUFFIX: &str = ".json";
/// Between two looks whether it has ended; the shop is closed meanwhile.
const PAUSE: Duration = Duration::from_millis(5);

/// Begins an upgrade with these arguments and returns the name by which [`result`] knows it.
/// Waits for the end of one that an earlier deploy has begun.
///
/// # Errors
/// `still_running` when that takes longer than `patience`; an I/O error. Nothing was begun
/// then.
pub fn begin(
    deploy_to: &AbsPath,
    arguments: &Map<String, Value>,
    patience: Duration,
) -> Result<String, Failure> {
    let root = Dir::open(deploy_to.as_path())?;
    root.make_dir_if_missing(STATE)?;
    let state = root.open_dir(STATE)?;
    wait_for_all_in(&state, patience)?;
    let id = format!("{}-{}", clock::version(clock::now()), std::process::id());
    let name = format!("{PREFIX}{id}{SUFFIX}");
    let output = state.create_file(&name, 0o640)?;
    flock(&output, FlockOperation::NonBlockingLockExclusive).or_fail("lock", state.at(&name))?;
    let started = start(output, arguments).or_fail("start the upgrade for", state.at(&name));
    if started.is_err() {
        state.remove_file(&name)?;
    }
    started.map(|()| id)
}

fn start(output: File, arguments: &Map<String, Value>) -> std::io::Result<()> {
    // What it reads is in a file without a name, so that nobody waits for anybody.
    let mut input =
        File::from(rustix::fs::memfd_create("arguments", rustix::fs::MemfdFlags::CLOEXEC)?);
    input.write_all(Value::Object(arguments.clone()).to_string().as_bytes())?;
    input.rewind()?;
    // /proc/self/exe works although Ansible may have deleted the module's file.
    Command::new("/proc/self/exe")
        .arg("-")
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::from(input))
        .stdout(Stdio::from(output))
        .stderr(Stdio::null())
        .spawn()
        .map(drop)
}

/// Waits for the end of what [`begin`] began, and returns its result.
///
/// # Errors
/// `no_such_upgrade`, `upgrade_lost` when it has ended without one, `still_running`.
pub fn result(
    deploy_to: &AbsPath,
    id: &str,
    patience: Duration,
) -> Result<Map<String, Value>, Failure> {
    let state = Dir::open(deploy_to.as_path())?.open_dir(STATE)?;
    let unknown = || {
        Failure::new("no_such_upgrade", format!("there is no upgrade '{}'", id.escape_debug()))
            .remedy("give begun what state=begun has returned as id")
    };
    let name = RelPath::new(format!("{PREFIX}{id}{SUFFIX}"))
        .ok()
        .filter(|name| name.depth() == 1)
        .ok_or_else(unknown)?;
    if state.lookup(&name)?.is_none() {
        return Err(unknown());
    }
    wait(&state, name.as_path().into(), patience)?;
    let text = state.read(&name)?.unwrap_or_default();
    let result = json::from_slice(&text).map_err(|_| {
        Failure::new("upgrade_lost", "the upgrade has ended without saying how")
            .cause("its process was killed, or the disk is full")
    });
    state.remove_file(&name)?;
    result
}

/// Waits until no upgrade runs that was begun earlier, and clears their results away.
///
/// # Errors
/// `still_running`.
pub fn wait_for_others(deploy_to: &AbsPath, patience: Duration) -> Result<(), Failure> {
    let root = Dir::open(deploy_to.as_path())?;
    match root.lookup(STATE)? {
        Some(info) if info.is_dir() => wait_for_all_in(&root.open_dir(STATE)?, patience),
        // What is no directory, none of ours was begun in.
        _ => Ok(()),
    }
}

fn wait_for_all_in(state: &Dir, patience: Duration) -> Result<(), Failure> {
    // Where this process is the one in the background, its own result is under way there.
    let own = rustix::fs::fstat(std::io::stdout()).map_or(0, |stat| stat.st_ino);
    for name in state.names()? {
        let text = name.to_string_lossy();
        let is_own = state.lookup(&name)?.is_some_and(|info| info.inode() == own);
        if text.starts_with(PREFIX) && text.ends_with(SUFFIX) && !is_own {
            wait(state, PathBuf::from(&name), patience)?;
            state.remove_file(&name)?;
        }
    }
    Ok(())
}

fn wait(state: &Dir, name: PathBuf, patience: Duration) -> Result<(), Failure> {
    let file = state.open_file(&name)?;
    let started = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK | Errno::INTR) => {}
            Err(error) => return Err(Failure::io("lock", &state.at(&name), error)),
        }
        interrupt::check()?;
        if started.elapsed() > patience {
            return Err(Failure::new("still_running", "an upgrade is still running")
                .cause(format!("it was begun by this or an earlier deploy ({})", name.display()))
                .remedy("wait for its end and deploy again"));
        }
        sleep(PAUSE);
    }
}
