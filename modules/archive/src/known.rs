//! What an index tells of files and directories of the spare, so that these need not be opened.

use crate::hash::Hash;
use crate::notes::Mark;

/// Owner, group and permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u32,
}

/// What the index says of a file of the spare that has the contents already.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    pub(crate) hash: Hash,
    pub(crate) mark: Mark,
    /// Its owner, group and permissions, if it has the right time.
    pub(crate) look: Option<Look>,
}

/// A directory of the spare that has the same names as the new one, and the same files.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quiet {
    pub(crate) mark: Mark,
    pub(crate) look: Look,
}
