//! Makes sure that a release is on the disk before it goes live: a power failure must not leave a
//! `current` that leads to empty files. `docs/trust.md` says what is promised.

use oxistrano_core::{Dir, Failure};

use crate::root::Root;

/// Waits until a release and its events are on the disk. Writes of other processes to the same file
/// system are flushed, too, so this may take long on a slow disk. A second call takes milliseconds.
///
/// # Errors
/// When the disk reports a write error.
pub fn secure(root: &Root, release: &Dir) -> Result<(), Failure> {
    let state = root.state()?;
    let together = state.info()?.device() == release.info()?.device();
    let others = (!together).then_some(&state);
    for dir in [release].into_iter().chain(others) {
        dir.sync_file_system().map_err(|failure| {
            failure.remedy(
                "check the disk (dmesg), then deploy again; durable=false does not wait for the \
                 disk",
            )
        })?;
    }
    Ok(())
}
