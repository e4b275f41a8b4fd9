//! What is on the disk, and not only in the kernel's memory, before a release goes live: a
//! power failure must not leave a `current` that leads to files without contents.
//! `docs/trust.md` says what is promised.

use oxistrano_core::{Dir, Failure};

use crate::root::Root;

/// Waits until a release and everything that is noted of it are on the disk. What others have
/// written to that file system goes with it, so that it may take as long as the disk is slow;
/// a second time soon after takes milliseconds.
///
/// # Errors
/// When the disk could not take what was written.
pub fn secure(root: &Root, release: &Dir) -> Result<(), Failure> {
    let state = root.state()?;
    let together = state.info()?.device() == release.info()?.device();
    let others = (!together).then_some(&state);
    for dir in [release].into_iter().chain(others) {
        dir.sync_file_system().map_err(|failure| {
            failure.remedy(
                "look at the disk (dmesg), then deploy again; durable=false does not wait for it",
            )
        })?;
    }
    Ok(())
}
