//! Running upgrades. A background upgrade has a file in the state directory of the deploy root and
//! holds a lock (`flock`) on it as long as it runs; the commands of every upgrade hold the file of
//! [`hold`].

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
/// The file that the commands of an upgrade hold a lock on.
const HELD: &str = "magento_upgrade.lock";
/// The file with the release in which they run.
const RELEASE: &str = "magento_upgrade.release";
/// How often to check whether an upgrade has ended. Short, because the shop is closed until then.
const PAUSE: Duration = Duration::from_millis(5);

/// Waits until no upgrade is running, and removes results that no deploy has fetched; with
/// `only_look` (check mode, without the lock: a deploy may still fetch them) they stay.
///
/// # Errors
/// `still_running`, or an I/O error.
pub fn wait(deploy_to: &AbsPath, patience: Duration, only_look: bool) -> Result<(), Failure> {
    let root = Dir::open(deploy_to.as_path())?;
    // Without our state directory, no upgrade was started.
    if !root.lookup(STATE_DIRECTORY)?.is_some_and(|info| info.is_dir()) {
        return Ok(());
    }
    let state = root.open_dir(STATE_DIRECTORY)?;
    // If this process is the background upgrade, one file is its own result.
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
        // There is none, or it is unusable; `hold` warns about that.
        Err(failure) if failure.code() == "io" => Ok(()),
        waited => waited,
    }
}

/// Prevents two upgrades at the same time.
#[derive(Debug)]
pub struct Held {
    /// The standard input of every command of the upgrade: an empty file, locked as long as one of
    /// the commands is running, even if the module has died.
    pub file: Option<Arc<File>>,
    /// The warning if there is none.
    pub warning: Option<String>,
}

/// Waits until no command of an upgrade is running, and prevents new ones while the file is open.
/// It is passed as standard input, because programs between the module and PHP (`sudo`) close all
/// other files.
///
/// Without a state directory there is no such file. If files cannot be locked (some network file
/// systems), it is a warning.
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
            // Another process may have created it.
            let _ = state.create_file(HELD, 0o600);
        }
        let file = state.open_file(HELD)?;
        Ok((state, file))
    };
    let locked = open().and_then(|(state, file)| {
        let operation = FlockOperation::NonBlockingLockExclusive;
        lock(&file, operation, &state, Path::new(HELD), patience).map(|()| file)
    });
    // For modules that remove releases (`oxistrano_releases::busy`). Not in the locked file, which PHP could write.
    if locked.is_ok() {
        let state = root.open_dir(STATE_DIRECTORY)?;
        // Only the process that holds the lock writes it.
        state.clear_temporaries(RELEASE);
        state.write(RELEASE, format!("{release}\n").as_bytes(), 0o600)?;
    }
    match locked {
        Ok(file) => Ok(Held { file: Some(Arc::new(file)), warning: None }),
        Err(failure) if failure.code() == "io" => {
            let warning =
                format!("a second upgrade at the same time would not be detected: {failure}");
            Ok(Held { file: None, warning: Some(warning) })
        }
        Err(failure) => Err(failure),
    }
}

/// Waits for the upgrade of this file.
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
            .cause("this deploy or an earlier one has started it")
            .remedy(format!(
                "wait until it ends and try again; `fuser -v {}` lists its processes",
                state.at(name).display()
            ))
            .path(state.at(name)));
        }
        sleep(PAUSE);
    }
}
