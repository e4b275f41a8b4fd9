//! What a copy of a tree has copied.

use std::sync::atomic::{AtomicU64, Ordering};

/// What was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Copied {
    /// Regular files, by any method; each name counts.
    pub files: u64,
    /// Directories below the root.
    pub directories: u64,
    /// Symbolic links.
    pub links: u64,
    /// The size of the files whose contents were copied or cloned, or were there already.
    pub bytes: u64,
    /// Files that are clones.
    pub cloned: u64,
    /// Files that are hard links to the source.
    pub linked: u64,
    /// Files that stayed.
    pub kept: u64,
    /// Their bytes.
    pub kept_bytes: u64,
}

/// [`Copied`], counted by several threads.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub files: AtomicU64,
    pub directories: AtomicU64,
    pub links: AtomicU64,
    pub bytes: AtomicU64,
    pub cloned: AtomicU64,
    pub linked: AtomicU64,
}

impl Counts {
    pub fn total(&self) -> Copied {
        Copied {
            files: self.files.load(Ordering::Relaxed),
            directories: self.directories.load(Ordering::Relaxed),
            links: self.links.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            cloned: self.cloned.load(Ordering::Relaxed),
            linked: self.linked.load(Ordering::Relaxed),
            ..Copied::default()
        }
    }
}
