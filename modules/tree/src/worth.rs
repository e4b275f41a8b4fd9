//! Whether it is worth while to make a tree of what another one has.

use std::sync::atomic::{AtomicU64, Ordering};

use oxistrano_core::Failure;

/// After so many names that had to be freed it is asked.
const ENOUGH: u64 = 4096;
/// It is if one file stays for so many of them.
const RATIO: u64 = 8;

/// The code of the failure that says it is not.
pub const USELESS: &str = "useless_spare";

/// What has stayed of a tree so far, and what not. An empty directory is filled sooner if nearly nothing stays: a tree that is
/// not in the cache has to be read for it, directory by directory.
#[derive(Debug, Default)]
pub struct Worth {
    files: AtomicU64,
    bytes: AtomicU64,
    freed: AtomicU64,
}

impl Worth {
    /// Counts a file that stays, and its bytes.
    pub fn keep(&self, bytes: u64) {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts a name that was freed for something else.
    pub fn free(&self) {
        self.freed.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of files that stayed, and their bytes.
    pub fn kept(&self) -> (u64, u64) {
        (self.files.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// Whether to go on.
    ///
    /// # Errors
    /// [`USELESS`]: nearly nothing has stayed of many.
    pub fn check(&self) -> Result<(), Failure> {
        let freed = self.freed.load(Ordering::Relaxed);
        if freed < ENOUGH || self.files.load(Ordering::Relaxed) >= freed / RATIO {
            return Ok(());
        }
        Err(Failure::new(USELESS, "cannot build on the spare")
            .cause("nearly all of the new release differs from it"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_where_nearly_nothing_stays_of_many() {
        let worth = Worth::default();
        for _ in 0..ENOUGH - 1 {
            worth.free();
        }
        assert!(worth.check().is_ok());
        worth.free();
        assert_eq!(worth.check().unwrap_err().code(), USELESS);
        for _ in 0..ENOUGH / RATIO {
            worth.keep(2);
        }
        assert!(worth.check().is_ok());
        assert_eq!(worth.kept(), (ENOUGH / RATIO, 2 * ENOUGH / RATIO));
    }
}
