//! Bringing a live directory up to date.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use oxistrano_core::{Dir, Failure, RelPath};

use crate::apply;
use crate::plan::Plan;

/// So many paths of each kind are listed.
pub const LISTED: usize = 100;

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

/// Makes `to` what `from` is, while others read it. First everything new is put there,
/// then what is there already is replaced, file by file in one step each, then the rest
/// is deleted. Contents are compared, times are not; a changed file keeps the time of
/// its writing. Hard links become files of their own, but for those inside a directory
/// that is new.
///
/// # Errors
/// Before anything is changed: what cannot be synchronised (devices, mount points, a
/// file where a protected path needs a directory). Later: what could not be written;
/// every file is then an old or a new one, and a second call finishes the work.
pub fn sync_tree(from: &Dir, to: &Dir, options: &SyncOptions) -> Result<Synced, Failure> {
    let plan = Plan::make(from, to, options).map_err(|f| f.state("Nothing was changed."))?;
    if options.dry_run {
        return Ok(plan.synced);
    }
    apply::apply(&plan, from, to, options)?;
    Ok(plan.synced)
}
