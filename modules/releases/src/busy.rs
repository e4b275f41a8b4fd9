//! A release in which an upgrade's command is running, perhaps after its play has ended, is neither
//! removed nor replaced. `oxistrano_magento::running` records such commands in the state directory.

use std::path::Path;

use oxistrano_core::Failure;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::{Root, Version};

const LOCK: &str = "magento_upgrade.lock";
const RELEASE: &str = "magento_upgrade.release";

impl Root {
    /// Whether a command is running in this release.
    ///
    /// # Errors
    /// An I/O error.
    pub fn is_busy(&self, version: &Version) -> Result<bool, Failure> {
        let Some(state) = self.state_if_there()? else { return Ok(false) };
        if !state.lookup(LOCK)?.is_some_and(|info| info.is_file()) {
            return Ok(false);
        }
        let name = state.read(RELEASE)?.unwrap_or_default();
        let name = String::from_utf8_lossy(&name);
        let name = Path::new(name.trim_end()).file_name();
        if name != Some(version.as_ref()) {
            return Ok(false);
        }
        let held = flock(state.open_file(LOCK)?, FlockOperation::NonBlockingLockShared);
        Ok(held == Err(Errno::WOULDBLOCK))
    }

    /// The warning for a release that is kept for this reason.
    pub fn busy(&self, version: &Version) -> String {
        format!(
            "'{}' was not removed, because a command is running in it (`fuser -v {}` shows \
             which); a later deploy removes it",
            self.layout().release_path(version).display(),
            self.state_path().join(LOCK).display()
        )
    }
}
