//! A list of paths, seen directory by directory.

use std::ffi::OsStr;
use std::ops::Range;

use oxistrano_core::RelPath;

/// Sorted paths, so that those below one directory are adjacent.
#[derive(Debug)]
pub struct Listing<'a>(Vec<&'a RelPath>);

/// The paths of a listing that lie below one directory.
#[derive(Debug, Clone)]
pub struct Part {
    range: Range<usize>,
    depth: usize,
}

/// One name in a directory.
#[derive(Debug)]
pub struct Listed<'a> {
    pub name: &'a OsStr,
    /// The first path that begins with it.
    pub path: &'a RelPath,
    /// Whether it is listed itself.
    pub itself: bool,
    /// What is listed below it.
    pub below: Part,
}

impl<'a> Listing<'a> {
    pub fn new(paths: &'a [RelPath]) -> Self {
        let mut sorted: Vec<_> = paths.iter().collect();
        sorted.sort();
        sorted.dedup();
        Self(sorted)
    }

    /// All of it.
    pub fn all(&self) -> Part {
        Part { range: 0..self.0.len(), depth: 0 }
    }

    /// The first path of a part.
    pub fn first(&self, part: &Part) -> Option<&'a RelPath> {
        self.0[part.range.clone()].first().copied()
    }

    /// The names in the directory that a part belongs to.
    pub fn names(&self, part: &Part) -> impl Iterator<Item = Listed<'a>> + use<'a, '_> {
        let Part { range: Range { mut start, end }, depth } = part.clone();
        std::iter::from_fn(move || {
            let path = *self.0[..end].get(start)?;
            let name = path.names().nth(depth)?;
            let here = &self.0[start..end];
            let length = here.partition_point(|other| other.names().nth(depth) == Some(name));
            // A path comes before those below it.
            let itself = path.depth() == depth + 1;
            let below =
                Part { range: start + usize::from(itself)..start + length, depth: depth + 1 };
            start += length;
            Some(Listed { name, path, itself, below })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_a_tree() {
        let paths: Vec<_> = ["b/x", "a.txt", "a/b/c", "a", "a/b-c", "a/b/d", "a"]
            .iter()
            .map(|path| RelPath::new(path).unwrap())
            .collect();
        let list = Listing::new(&paths);
        let show = |part: &Part| -> Vec<String> {
            list.names(part)
                .map(|n| {
                    format!("{} {} {}", n.name.to_str().unwrap(), n.itself, n.below.range.len())
                })
                .collect()
        };
        assert_eq!(show(&list.all()), ["a true 3", "a.txt true 0", "b false 1"]);
        let a = list.names(&list.all()).next().unwrap().below;
        assert_eq!(show(&a), ["b false 2", "b-c true 0"]);
    }
}
