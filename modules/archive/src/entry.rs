//! Owns what an archive says about one of its entries, before anything is decided.

use crate::sparse::Map;

/// One entry, as the archive has it. Nothing in it has been checked.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its name, byte for byte.
    pub(crate) name: Vec<u8>,
    /// What it is.
    pub(crate) kind: Kind,
    /// Permissions, with setuid and the like.
    pub(crate) mode: u32,
    /// Time of modification, if the archive knows it.
    pub(crate) mtime: Option<Time>,
    /// Who owns it; a zip archive does not say.
    pub(crate) owner: Option<Owner>,
}

/// What an entry is.
#[derive(Debug)]
pub(crate) enum Kind {
    /// A regular file; its contents follow. Without a map they are all of it.
    File(Option<Map>),
    /// A directory.
    Directory,
    /// A symbolic link to this.
    Symlink(Vec<u8>),
    /// Another name of the entry with this name.
    HardLink(Vec<u8>),
    /// What is never unpacked: a device, a FIFO …
    Special(&'static str),
}

/// Seconds since the epoch, and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Time {
    /// Seconds, negative before 1970.
    pub(crate) seconds: i64,
    /// 0 to 999,999,999, always forward.
    pub(crate) nanoseconds: u32,
}

/// Owner and group by number and, if they are known, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) user: Vec<u8>,
    pub(crate) group: Vec<u8>,
}
