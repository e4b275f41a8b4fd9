//! The options for copying a tree.

use oxistrano_core::RelPath;

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
