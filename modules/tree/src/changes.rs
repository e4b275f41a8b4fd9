//! What bringing a live directory up to date has changed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// So many paths of each kind are listed.
pub const LISTED: usize = 100;

/// Changes of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// How many.
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
    /// Files, links and directories that were not there.
    pub created: Changes,
    /// Those that had other contents, or are something else than before, or belong to
    /// somebody else, or have another mode.
    pub updated: Changes,
    /// Those that the source does not have.
    pub deleted: Changes,
    /// How many were right already.
    pub unchanged: u64,
}

impl Synced {
    /// Whether anything was changed.
    pub fn changed(&self) -> bool {
        self.created.count + self.updated.count + self.deleted.count > 0
    }
}
