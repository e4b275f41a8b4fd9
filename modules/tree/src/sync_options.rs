//! The options for updating a live directory.

use oxistrano_core::RelPath;

/// The options.
#[derive(Debug, Clone)]
pub struct SyncOptions {
    /// Paths that are ignored on both sides, with everything below them. The directories above them are never deleted.
    pub protect: Vec<RelPath>,
    /// The owner, instead of the source's.
    pub owner: Option<u32>,
    /// The group, instead of the source's.
    pub group: Option<u32>,
    /// Clone contents if the file system supports it.
    pub reflink: bool,
    /// Whether the directory itself gets the source's mode and owner, too.
    pub root_metadata: bool,
    /// Only report what would be changed.
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
