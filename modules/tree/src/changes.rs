//! The changes that an update of a live directory has made.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// How many paths of each kind are listed.
pub const LISTED: usize = 100;

/// Changes of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Their number.
    pub count: u64,
    first: BTreeSet<PathBuf>,
}

impl Changes {
    /// The first [`LISTED`] of their paths, sorted.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.first.iter().map(PathBuf::as_path)
    }

    pub(crate) fn add(&mut self, path: PathBuf) {
        self.count += 1;
        self.first.insert(path);
        if self.first.len() > LISTED {
            self.first.pop_last();
        }
    }
}

/// What was changed, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Synced {
    /// New files, links and directories.
    pub created: Changes,
    /// Those whose contents, type, owner or mode has changed.
    pub updated: Changes,
    /// Those that the source does not have.
    pub deleted: Changes,
    /// The number of unchanged ones.
    pub unchanged: u64,
}

impl Synced {
    /// Whether anything was changed.
    pub fn changed(&self) -> bool {
        self.created.count + self.updated.count + self.deleted.count > 0
    }
}
