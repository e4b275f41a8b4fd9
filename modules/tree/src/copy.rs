//! Copies a tree into an empty directory, or onto an unneeded tree.

use std::sync::atomic::{AtomicU64, Ordering};

use oxistrano_core::{Dir, Failure, RelPath};

use crate::fill;
use crate::spare::Spare;
use crate::walk::open_below;

/// How to copy the contents of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    /// Clones (reflinks), which share blocks until one file is changed; copies if that is not possible.
    #[default]
    Reflink,
    /// Hard links to the source's files; copies if that is not possible, or if the file needs another owner.
    Hardlink,
    /// Copies.
    Copy,
}

/// What to copy, and how. Paths are relative to the directory that is copied.
#[derive(Debug, Clone)]
pub struct CopyOptions {
    /// How to copy the contents of files.
    pub method: Method,
    /// Copy what is below this directory of the source, which becomes the root; no part
    /// of the path may be a link.
    pub subtree: Option<RelPath>,
    /// Exclude these paths, and everything below them.
    pub exclude: Vec<RelPath>,
    /// Copy only these and the directories above them. A listed directory is created, but its contents are not copied.
    pub only: Option<Vec<RelPath>>,
    /// The owner, instead of the source's.
    pub owner: Option<u32>,
    /// The group, instead of the source's.
    pub group: Option<u32>,
    /// Whether the target directory itself gets mode, owner and times, too.
    pub root_metadata: bool,
    /// Keep the times.
    pub times: bool,
    /// Keep extended attributes and ACLs.
    pub attributes: bool,
    /// Keep what new files inherit from the target: setgid with its group, if the source only has
    /// the user's default group; and an ACL, if the source has none.
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

/// Copies what is in `from` into the empty directory `to`.
///
/// # Errors
/// The first entry that could not be copied, with its full path. `to` then contains a part of the
/// tree, with temporary permissions, and should be removed.
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
    fill::run(&source(from, options)?, to, options, None)
}

/// Turns `to`, an unneeded tree, into what [`copy_tree`] would make in an empty directory: what is the
/// same stays, everything else is written again or removed. A file that stays keeps its access time.
/// `to` itself must have owner, mode and attributes of a new directory.
///
/// # Errors
/// The same, and an entry of `to` that cannot be changed. `to` is then a mixture of both trees.
pub fn copy_onto(
    from: &Dir,
    to: &Dir,
    options: &CopyOptions,
    spare: Spare,
) -> Result<Copied, Failure> {
    fill::run(&source(from, options)?, to, options, Some(spare))
}

fn source(from: &Dir, options: &CopyOptions) -> Result<Dir, Failure> {
    match &options.subtree {
        Some(subtree) => open_below(from, subtree.as_path()),
        None => from.duplicate(),
    }
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
