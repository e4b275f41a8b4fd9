//! Filling an empty directory with a tree.

use std::sync::atomic::{AtomicU64, Ordering};

use oxistrano_core::{Dir, Failure, RelPath};

use crate::fill;
use crate::walk::open_below;

/// How the contents of files get there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    /// Clones share their blocks until one is changed; copies where that is not
    /// possible.
    #[default]
    Reflink,
    /// Second names for the source's files; copies where that is not possible, or where
    /// the file has to get another owner.
    Hardlink,
    /// Copies.
    Copy,
}

/// What to copy, and how. Paths are relative to the directory that is copied.
#[derive(Debug, Clone)]
pub struct CopyOptions {
    /// How the contents of files get there.
    pub method: Method,
    /// Copy what is below this directory of the source, which becomes the root; no part
    /// of the path may be a link.
    pub subtree: Option<RelPath>,
    /// Leave these out, and what is below them.
    pub exclude: Vec<RelPath>,
    /// Copy only these and the directories above them. A listed directory is made, what
    /// is in it is not copied.
    pub only: Option<Vec<RelPath>>,
    /// The owner, instead of the source's.
    pub owner: Option<u32>,
    /// The group, instead of the source's.
    pub group: Option<u32>,
    /// The target directory itself gets mode, owner and times too.
    pub root_metadata: bool,
    /// Keep the times.
    pub times: bool,
    /// Keep extended attributes and ACLs.
    pub attributes: bool,
    /// What the target passes on to all that is made in it stays: setgid with its group, where the
    /// source has just the group that everything of this user has; and an ACL, where the source
    /// has none.
    pub inherit: bool,
}

impl Default for CopyOptions {
    /// As `cp -a`, cloning where possible.
    fn default() -> Self {
        Self {
            method: Method::default(),
            subtree: None,
            exclude: Vec::new(),
            only: None,
            owner: None,
            group: None,
            root_metadata: true,
            times: true,
            attributes: true,
            inherit: false,
        }
    }
}

/// What was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Copied {
    /// Regular files, however they got there; every name counts.
    pub files: u64,
    /// Directories below the root.
    pub directories: u64,
    /// Symbolic links.
    pub links: u64,
    /// The size of the files whose contents were copied or cloned.
    pub bytes: u64,
    /// Files that are clones.
    pub cloned: u64,
    /// Files that are hard links to the source.
    pub linked: u64,
}

/// Copies what is in `from` into the empty directory `to`.
///
/// # Errors
/// The first thing that could not be copied, whole path and all. `to` then holds a part
/// of the tree, with provisional permissions, and is best removed.
pub fn copy_tree(from: &Dir, to: &Dir, options: &CopyOptions) -> Result<Copied, Failure> {
    if !to.names()?.is_empty() {
        return Err(Failure::new(
            "not_empty",
            format!("refusing to copy into '{}'", to.path().display()),
        )
        .cause("it is not empty")
        .state("Nothing was changed.")
        .path(to.path()));
    }
    let source = match &options.subtree {
        Some(subtree) => open_below(from, subtree.as_path())?,
        None => from.duplicate()?,
    };
    fill::run(&source, to, options)
}

/// [`Copied`] while several threads count.
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
        }
    }
}
