//! Owns what an index has recorded of the files of a tree, found by their inodes.

use rustix::fs::Stat;

use crate::hash::Hash;
use crate::index::Index;
use crate::notes::Mark;

/// The files that were not changed before the index was finished.
#[derive(Debug)]
pub(crate) struct Recorded {
    /// By inode.
    files: Vec<(Mark, Hash)>,
}

impl Recorded {
    pub(crate) fn new(index: &Index) -> Self {
        let numbers = 0..index.manifest.files();
        let mut files: Vec<_> = numbers.filter_map(|file| index.recorded(file)).collect();
        files.sort_unstable_by_key(|(mark, _)| mark.inode);
        Self { files }
    }

    /// The mark of this file, if its contents are known to have this hash.
    pub(crate) fn has(&self, stat: &Stat, hash: &Hash) -> Option<Mark> {
        let at = self.files.binary_search_by_key(&stat.st_ino, |(mark, _)| mark.inode).ok()?;
        let (mark, recorded) = self.files.get(at)?;
        (*mark == Mark::of(stat) && recorded == hash).then_some(*mark)
    }
}
