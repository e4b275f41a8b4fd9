//! Upgrades that run in the background, each with a file in the state directory of the deploy
//! root on which it holds a lock (`flock`) for as long as it runs, whatever becomes of it.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use oxistrano_core::{interrupt, AbsPath, Dir, Failure};
use rustix::fs::{flock, FlockOperation};
use rustix::io::Errno;

/// The state directory of a deploy root.
pub const STATE: &str = ".oxistrano";
/// How the names of the files begin.
pub const PREFIX: &str = "magento_upgrade.";
/// And how they end.
pub const SUFFIX: &str = ".json";
/// Between two looks whether one has ended; the shop is closed meanwhile.
const PAUSE: Duration = Duration::from_millis(5);

/// Waits until none runs, and clears away what those have left that nobody asked for.
///
/// # Errors
/// `still_running`, or an I/O error.
pub fn wait(deploy_to: &AbsPath, patience: Duration) -> Result<(), Failure> {
    let root = Dir::open(deploy_to.as_path())?;
    // In what is no directory of ours, none was begun.
    if !root.lookup(STATE)?.is_some_and(|info| info.is_dir()) {
        return Ok(());
    }
    let state = root.open_dir(STATE)?;
    // Where this process is the one in the background, its own result is under way there.
    let own = rustix::fs::fstat(std::io::stdout()).map_or(0, |stat| stat.st_ino);
    for name in state.names()? {
        let text = name.to_string_lossy();
        let is_own = state.lookup(&name)?.is_some_and(|info| info.inode() == own);
        if text.starts_with(PREFIX) && text.ends_with(SUFFIX) && !is_own {
            wait_for(&state, Path::new(&name), patience)?;
            state.remove_file(&name)?;
        }
    }
    Ok(())
}

/// Waits for the one whose file this is.
///
/// # Errors
/// As [`wait`].
pub fn wait_for(state: &Dir, name: &Path, patience: Duration) -> Result<(), Failure> {
    let file = state.open_file(name)?;
    let started = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockShared) {
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
            .cause(format!("this or an earlier deploy has begun it ({})", name.display()))
            .remedy("wait for its end and try again")
            .path(state.at(name)));
        }
        sleep(PAUSE);
    }
}
