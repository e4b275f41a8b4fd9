//! Whether it is worth while to make a tree of what another one has.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use oxistrano_core::Failure;

/// After so many files that differ it is asked, once.
const ENOUGH: u64 = 4096;
/// In a tree of more files: after this part of them, 1/8.
const PART: u64 = 8;
/// It is worth while if one file stays for so many that differ.
const RATIO: u64 = 8;

/// The code of the failure that says it is not.
pub const USELESS: &str = "useless_spare";

/// What has stayed of a tree so far, and what not. An empty directory is filled sooner if nearly nothing stays: a tree that is
/// not in the cache has to be read for it, directory by directory.
#[derive(Debug)]
pub struct Worth {
    enough: u64,
    files: AtomicU64,
    bytes: AtomicU64,
    differ: AtomicU64,
    decided: AtomicBool,
}

impl Worth {
    /// `files`: how many the tree has; 0 if that is not known.
    #[must_use]
    pub fn of(files: u64) -> Self {
        let enough = ENOUGH.max(files / PART);
        let (files, bytes, differ, decided) = Default::default();
        Self { enough, files, bytes, differ, decided }
    }

    /// Counts a file that stays, and its bytes.
    pub fn keep(&self, bytes: u64) {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts a file that is replaced.
    pub fn differs(&self) {
        self.differ.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of files that stayed, and their bytes.
    pub fn kept(&self) -> (u64, u64) {
        (self.files.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// Whether to go on. Once it is, it stays so: later, more would be lost than gained.
    ///
    /// # Errors
    /// [`USELESS`]: nearly nothing has stayed.
    pub fn check(&self) -> Result<(), Failure> {
        let differ = self.differ.load(Ordering::Relaxed);
        if differ < self.enough || self.decided.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        if is_worth(self.files.load(Ordering::Relaxed), differ) {
            return Ok(());
        }
        Err(Failure::new(USELESS, "cannot build on the spare")
            .cause("nearly all of the new release differs from it"))
    }
}

/// Whether a tree is of use in which so many files stay, and so many differ.
#[must_use]
pub fn is_worth(stay: u64, differ: u64) -> bool {
    differ < ENOUGH || stay >= differ / RATIO
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It ends after `stay` files that stay and `differ` that differ.
    fn ends(worth: &Worth, stay: u64, differ: u64) -> bool {
        (0..stay).for_each(|_| worth.keep(2));
        (0..differ).any(|_| {
            worth.differs();
            worth.check().is_err_and(|failure| failure.code() == USELESS)
        })
    }

    #[test]
    fn it_ends_where_nearly_nothing_stays_of_many() {
        assert!(!ends(&Worth::of(0), 0, ENOUGH - 1));
        assert!(ends(&Worth::of(0), 0, ENOUGH));
        assert!(ends(&Worth::of(0), ENOUGH / RATIO - 1, ENOUGH));
        assert!(!ends(&Worth::of(0), ENOUGH / RATIO, ENOUGH));
        assert!(!ends(&Worth::of(8 * PART * ENOUGH), 0, 8 * ENOUGH - 1));
        assert!(ends(&Worth::of(8 * PART * ENOUGH), 0, 8 * ENOUGH));
    }

    #[test]
    fn it_does_not_end_later() {
        let worth = Worth::of(0);
        assert!(!ends(&worth, ENOUGH / RATIO, 100 * ENOUGH));
        assert_eq!(worth.kept(), (ENOUGH / RATIO, 2 * ENOUGH / RATIO));
    }
}
