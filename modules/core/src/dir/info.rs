//! The metadata of a name.

use rustix::fs::{FileType, Stat};

/// The metadata of a name, from one `lstat`.
#[derive(Debug, Clone, Copy)]
pub struct Info {
    pub(super) stat: Stat,
}

/// The type of a file, for messages.
pub fn noun(kind: FileType) -> &'static str {
    match kind {
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::RegularFile => "a file",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        _ => "a device",
    }
}

impl Info {
    /// A directory, not a link to one.
    pub fn is_dir(&self) -> bool {
        self.kind() == FileType::Directory
    }
    /// A symbolic link.
    pub fn is_symlink(&self) -> bool {
        self.kind() == FileType::Symlink
    }
    /// A regular file.
    pub fn is_file(&self) -> bool {
        self.kind() == FileType::RegularFile
    }
    /// Its type.
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }
    /// Its type, for messages.
    pub fn noun(&self) -> &'static str {
        noun(self.kind())
    }
    /// Permission bits.
    pub fn mode(&self) -> u32 {
        self.stat.st_mode & 0o7777
    }
    /// Owner.
    pub fn uid(&self) -> u32 {
        self.stat.st_uid
    }
    /// Group.
    pub fn gid(&self) -> u32 {
        self.stat.st_gid
    }
    /// Bytes.
    pub fn size(&self) -> u64 {
        self.stat.st_size as u64
    }
    /// Modification time, seconds since the epoch.
    pub fn mtime(&self) -> i64 {
        self.stat.st_mtime
    }
    /// Its inode number.
    pub fn inode(&self) -> u64 {
        self.stat.st_ino
    }
    /// Its device number.
    pub fn device(&self) -> u64 {
        self.stat.st_dev
    }
    /// Whether both are the same file.
    pub fn same_file(&self, other: &Info) -> bool {
        self.stat.st_dev == other.stat.st_dev && self.stat.st_ino == other.stat.st_ino
    }
    /// All of it.
    pub fn stat(&self) -> &Stat {
        &self.stat
    }
}
