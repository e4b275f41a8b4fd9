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
        Self::of(numbers.filter_map(|file| index.recorded(file)).collect())
    }

    fn of(mut files: Vec<(Mark, Hash)>) -> Self {
        files.sort_unstable_by_key(|(mark, _)| mark.inode);
        // If a path is twice in an archive, the second file can get the inode of the first one, which
        // was removed, and in the same tick of the clock the same ctime.
        let alone = files.chunk_by(|one, other| one.0.inode == other.0.inode);
        let alone = alone.filter_map(|same| <&[_; 1]>::try_from(same).ok()).flatten().copied();
        Self { files: alone.collect() }
    }

    /// The mark of this file, if its contents are known to have this hash.
    pub(crate) fn has(&self, stat: &Stat, hash: &Hash) -> Option<Mark> {
        let at = self.files.binary_search_by_key(&stat.st_ino, |(mark, _)| mark.inode).ok()?;
        let (mark, recorded) = self.files.get(at)?;
        (*mark == Mark::of(stat) && recorded == hash).then_some(*mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_files_with_the_same_inode_nothing_is_known() {
        let stat = rustix::fs::stat("/proc/self/exe").unwrap();
        let mark = Mark::of(&stat);
        let other = Mark { inode: mark.inode + 1, ..mark };
        let known = Recorded::of(vec![(mark, [1; 32]), (other, [2; 32])]);
        assert_eq!((known.has(&stat, &[1; 32]), known.has(&stat, &[2; 32])), (Some(mark), None));
        let twice = Recorded::of(vec![(mark, [1; 32]), (other, [2; 32]), (mark, [3; 32])]);
        assert_eq!((twice.has(&stat, &[1; 32]), twice.has(&stat, &[3; 32])), (None, None));
    }
}
