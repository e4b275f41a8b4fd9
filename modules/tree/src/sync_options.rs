//! What bringing a live directory up to date leaves alone, and what it sets.

use oxistrano_core::RelPath;

/// What to leave alone, and what to set.
#[derive(Debug, Clone)]
pub struct SyncOptions {
    /// Paths that are touched on neither side, with all that is below them. The
    /// directories above them are never deleted.
    pub protect: Vec<RelPath>,
    /// The owner, instead of the source's.
    pub owner: Option<u32>,
    /// The group, instead of the source's.
    pub group: Option<u32>,
    /// Clone contents where the file system can.
    pub reflink: bool,
    /// The directory itself gets the source's mode and owner too.
    pub root_metadata: bool,
    /// Only say what would be changed.
    pub dry_run: bool,
}

impl Default for SyncOptions {
    /// As `rsync -a --no-times --delete-after`.
    fn default() -> Self {
        Self {
            protect: Vec::new(),
            owner: None,
            group: None,
            reflink: true,
            root_metadata: true,
            dry_run: false,
        }
    }
}
