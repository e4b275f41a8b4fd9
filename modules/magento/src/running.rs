//! Upgrades that still run. One in the background has a file in the state directory of the
//! deploy root, on which it holds a lock (`flock`) for as long as it runs, whatever becomes of it;
//! the commands of each have the file of [`hold`].

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use oxistrano_core::{AbsPath, Dir, Failure, STATE_DIRECTORY, interrupt};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// How the names of the files begin.
pub const PREFIX: &str = "magento_upgrade.";
/// And how they end.
pub const SUFFIX: &str = ".json";
/// What the commands of an upgrade hold a lock on.
const HELD: &str = "magento_upgrade.lock";
/// In which release they run.
const RELEASE: &str = "magento_upgrade.release";
/// Between two checks whether an upgrade has ended; the shop is closed during that time.
const PAUSE: Duration = Duration::from_millis(5);

/// Waits until none runs, and clears away what those have left that nobody asked for; with
/// `only_look` (check mode, which has no lock: a deploy may still ask for it) it stays.
///
/// # Errors
/// `still_running`, or an I/O error.
pub fn wait(deploy_to: &AbsPath, patience: Duration, only_look: bool) -> Result<(), Failure> {
    let root = Dir::open(deploy_to.as_path())?;
    // In what is no directory of ours, none was begun.
    if !root.lookup(STATE_DIRECTORY)?.is_some_and(|info| info.is_dir()) {
        return Ok(());
    }
    let state = root.open_dir(STATE_DIRECTORY)?;
    // Where this process is the one in the background, its own result is under way there.
    let own = rustix::fs::fstat(std::io::stdout()).map_or(0, |stat| stat.st_ino);
    for name in state.names()? {
        let text = name.to_string_lossy();
        let is_own = state.lookup(&name)?.is_some_and(|info| info.inode() == own);
        if text.starts_with(PREFIX) && text.ends_with(SUFFIX) && !is_own {
            wait_for(&state, Path::new(&name), patience)?;
            if !only_look {
                state.remove_file(&name)?;
            }
        }
    }
    match wait_for(&state, Path::new(HELD), patience) {
        // There is none, or it is of no use: who upgrades is warned.
        Err(failure) if failure.code() == "io" => Ok(()),
        waited => waited,
    }
}

/// What keeps two upgrades apart.
#[derive(Debug)]
pub struct Held {
    /// To be the standard input of every command of the upgrade: empty, and locked for as long as
    /// one of them has it, which it does when the module that started it is no more.
    pub file: Option<Arc<File>>,
    /// Why there is none.
    pub warning: Option<String>,
}

/// Waits until no command of an upgrade runs, and lets none begin while the file is open
/// somewhere. Standard input is what programs between the module and PHP (`sudo`, which closes
/// all else) hand on.
///
/// A deploy root without a state directory has no place for it. Where files cannot be locked
/// (some network file systems) that is a warning.
///
/// # Errors
/// `still_running` when that takes longer than `patience`; `interrupted`.
pub fn hold(deploy_to: &AbsPath, release: &AbsPath, patience: Duration) -> Result<Held, Failure> {
    let root = Dir::open(deploy_to.as_path())?;
    if !root.lookup(STATE_DIRECTORY)?.is_some_and(|info| info.is_dir()) {
        return Ok(Held { file: None, warning: None });
    }
    let open = || {
        let state = root.open_dir(STATE_DIRECTORY)?;
        if state.lookup(HELD)?.is_none() {
            // Somebody else may just have made it.
            let _ = state.create_file(HELD, 0o600);
        }
        let file = state.open_file(HELD)?;
        Ok((state, file))
    };
    let locked = open().and_then(|(state, file)| {
        let operation = FlockOperation::NonBlockingLockExclusive;
        lock(&file, operation, &state, Path::new(HELD), patience).map(|()| file)
    });
    // For who removes releases (`oxistrano_releases::busy`). Not into the locked file, which PHP has.
    if locked.is_ok() {
        root.open_dir(STATE_DIRECTORY)?.write(RELEASE, format!("{release}\n").as_bytes(), 0o600)?;
    }
    match locked {
        Ok(file) => Ok(Held { file: Some(Arc::new(file)), warning: None }),
        Err(failure) if failure.code() == "io" => {
            let warning =
                format!("a second upgrade at the same time would not be noticed: {failure}");
            Ok(Held { file: None, warning: Some(warning) })
        }
        Err(failure) => Err(failure),
    }
}

/// Waits for the one whose file this is.
///
/// # Errors
/// As [`wait`].
pub fn wait_for(state: &Dir, name: &Path, patience: Duration) -> Result<(), Failure> {
    let file = state.open_file(name)?;
    lock(&file, FlockOperation::NonBlockingLockShared, state, name, patience)
}

fn lock(
    file: &File,
    operation: FlockOperation,
    state: &Dir,
    name: &Path,
    patience: Duration,
) -> Result<(), Failure> {
    let started = Instant::now();
    loop {
        match flock(file, operation) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK | Errno::INTR) => {}
            Err(error) => return Err(Failure::io("lock", &state.at(name), error)),
        }
        interrupt::check()?;
        if started.elapsed() > patience {
            return Err(Failure::new(
                "still_running",
                "an upgrade of the database is still running",
            )
            .cause("this or an earlier deploy has begun it")
            .remedy(format!(
                "wait for its end and try again; `fuser -v {}` names its processes",
                state.at(name).display()
            ))
            .path(state.at(name)));
        }
        sleep(PAUSE);
    }
}
