//! An entry as the archive describes it, before any decision.

/// One entry, unchecked.
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
    /// Its owner; a zip archive has none.
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

/// Which parts of a sparse file are in the archive, and where they belong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Map {
    /// Offset and length of each part, ascending.
    pub(crate) parts: Vec<(u64, u64)>,
    /// The size of the file with its holes.
    pub(crate) size: u64,
}

impl Map {
    /// Whether the parts are in order, inside the file, and together `stored` bytes.
    pub(crate) fn check(&self, stored: u64) -> Result<(), &'static str> {
        let mut end = 0;
        let mut sum = 0u64;
        for (offset, length) in &self.parts {
            if *offset < end {
                return Err("its sparse map is not sorted");
            }
            end = offset.checked_add(*length).ok_or("its sparse map is too large")?;
            sum = sum.checked_add(*length).ok_or("its sparse map is too large")?;
        }
        if end > self.size || i64::try_from(self.size).is_err() {
            return Err("its sparse map exceeds the size of the file");
        }
        if sum != stored {
            return Err("its sparse map does not match its contents");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_maps_that_fit_are_accepted() {
        let check = |parts: &[(u64, u64)], size, stored| {
            Map { parts: parts.to_vec(), size }.check(stored).is_ok()
        };
        assert!(check(&[(0, 5), (10, 5), (20, 0)], 20, 10));
        assert!(check(&[], 1 << 40, 0));
        assert!(!check(&[(10, 5), (0, 5)], 20, 10));
        assert!(!check(&[(0, 5), (4, 5)], 20, 10));
        assert!(!check(&[(0, 50)], 20, 50));
        assert!(!check(&[(0, 5)], 20, 6));
        assert!(!check(&[(u64::MAX, 5)], 20, 5));
        assert!(!check(&[], u64::MAX, 0));
    }
}
