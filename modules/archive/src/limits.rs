//! The limits: a small archive can describe a large tree.

use std::path::Path;

use oxistrano_core::Failure;

use crate::failures;
use crate::manifest::MOST_ENTRIES;

/// The limits for an archive.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Entries, including excluded ones and directories without an entry.
    pub max_entries: u64,
    /// Bytes that come out of the decompressor, headers included; and the sizes of all
    /// files that are written, holes included.
    pub max_bytes: u64,
    /// The same bytes, as a multiple of the archive's own size. Does not count below
    /// [`Limits::ALWAYS`].
    pub max_ratio: u64,
    /// Memory for the window of zstd and xz, in bytes; zstd rounds it down to a power of 2.
    pub window: u64,
}

impl Default for Limits {
    /// Two million entries, 64 GiB, a thousand times the archive's size, and a window of
    /// 128 MiB: `zstd --long=27` and `xz -9`. Empty files without end, in `zstd -19`, become
    /// 600 times the archive; zeros become 1,030 times in gzip and more in the others.
    fn default() -> Self {
        Self {
            max_entries: MOST_ENTRIES.into(),
            max_bytes: 64 << 30,
            max_ratio: 1000,
            window: 128 << 20,
        }
    }
}

impl Limits {
    /// This many bytes are always allowed (64 MiB).
    pub const ALWAYS: u64 = 64 << 20;

    /// For an archive of `size` bytes.
    pub(crate) fn ceiling(&self, size: u64) -> Ceiling {
        Ceiling {
            max_bytes: self.max_bytes,
            max_ratio: self.max_ratio,
            by_ratio: size.saturating_mul(self.max_ratio).max(Self::ALWAYS),
        }
    }
}

/// The limit in bytes for a certain archive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ceiling {
    max_bytes: u64,
    max_ratio: u64,
    by_ratio: u64,
}

impl Ceiling {
    /// Whether so many bytes may come out of the archive, holes included.
    ///
    /// # Errors
    /// `too_large`, naming the entry.
    pub(crate) fn check(&self, bytes: u64, archive: &Path, entry: &[u8]) -> Result<(), Failure> {
        self.check_claim(bytes, archive, entry)?;
        if bytes > self.by_ratio {
            let cause =
                format!("more bytes than {} times the archive's size (max_ratio)", self.max_ratio);
            return Err(failures::too_large(archive, entry, cause));
        }
        Ok(())
    }

    /// Checks the size in a header. It is not compared with the archive's size: a wrong size means
    /// a damaged archive, not a large one.
    ///
    /// # Errors
    /// `too_large`, naming the entry.
    pub(crate) fn check_claim(
        &self,
        bytes: u64,
        archive: &Path,
        entry: &[u8],
    ) -> Result<(), Failure> {
        if bytes > self.max_bytes {
            let cause = format!("more bytes than the limit of {} (max_bytes)", self.max_bytes);
            return Err(failures::too_large(archive, entry, cause));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lower_of_size_and_ratio_counts_and_is_named() {
        let limits = Limits { max_bytes: 1 << 30, max_ratio: 10, ..Limits::default() };
        let check = |size, bytes| {
            let checked = limits.ceiling(size).check(bytes, Path::new("a.tar"), b"e");
            checked.map_err(|failure| failure.to_string())
        };
        let text = check(50 << 20, (500 << 20) + 1).unwrap_err();
        assert!(
            text.contains("'e': more bytes than 10 times the archive's size (max_ratio)"),
            "{text}"
        );
        check(50 << 20, 500 << 20).unwrap();
        check(1, Limits::ALWAYS).unwrap();
        check(1, Limits::ALWAYS + 1).unwrap_err();
        check(u64::MAX, 1 << 30).unwrap();
        let text = check(u64::MAX, (1 << 30) + 1).unwrap_err();
        assert!(text.contains("more bytes than the limit of 1073741824 (max_bytes)"), "{text}");
    }
}
