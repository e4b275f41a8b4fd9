//! Owns the path that an entry's name stands for, and the hash by which paths are compared. Both are
//! needed for every entry of a manifest, so they are fast for the names that nearly all entries have.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::os::unix::ffi::OsStrExt;

use oxistrano_core::RelPath;

/// A name without its first components, if it has more.
pub(crate) fn stripped(name: &[u8], components: u32) -> Option<RelPath> {
    let mut rest = name;
    for _ in 0..components {
        rest = &rest[rest.iter().position(|b| *b == b'/')?..];
        rest = &rest[rest.iter().take_while(|b| **b == b'/').count()..];
    }
    RelPath::new(OsStr::from_bytes(rest)).ok()
}

/// The path of an entry below the release, without its first components. `None` for the release itself, and
/// for a name that is refused or has no more components.
pub(crate) fn clean(name: &[u8], strip_components: u32) -> Option<Cow<'_, [u8]>> {
    if strip_components == 0
        && let Some(path) = RelPath::simple(name)
    {
        return Some(Cow::Borrowed(path));
    }
    let path = stripped(name, strip_components)?;
    Some(Cow::Owned(path.as_path().as_os_str().as_bytes().to_vec()))
}

/// A path as the directory that it is in and its name there.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

/// Hashes paths, with a key that nobody can guess.
#[derive(Debug, Clone)]
pub(crate) struct Paths([u64; 2]);

impl Paths {
    pub(crate) fn new() -> Self {
        let state = RandomState::new();
        Self([state.hash_one(0), state.hash_one(1)])
    }

    /// The hash of a path.
    pub(crate) fn hash(&self, path: &[u8]) -> u64 {
        let [key, seed] = self.0;
        let mix = |sum: u64, word: u64| {
            let product = u128::from(sum ^ word) * u128::from(key | 1);
            product as u64 ^ (product >> 64) as u64
        };
        let mut words = path.chunks_exact(8);
        let mut sum = seed ^ path.len() as u64;
        for word in &mut words {
            sum = mix(sum, u64::from_le_bytes(word.try_into().unwrap_or_default()));
        }
        let rest = words.remainder().iter().fold(0, |rest, byte| rest << 8 | u64::from(*byte));
        mix(mix(sum, rest), seed)
    }
}

/// For what is a hash already.
pub(crate) type Hashed = BuildHasherDefault<AsItIs>;

#[derive(Default)]
pub(crate) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0 << 8 | u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Component, Path, PathBuf};

    #[test]
    fn the_short_way_gives_the_same_paths_as_the_long_one() {
        for name in [
            "a", "a/", "./a/b", "a//b", "a/./b", "a/../b", "../a", "/a", "./", ".", "", ".a",
            "./.a/b", "a/.b", "a/b//", ".//a", "a/..", "a/b/",
        ] {
            let names = Path::new(name).components().filter(|name| *name != Component::CurDir);
            let is_below = names.clone().all(|name| matches!(name, Component::Normal(_)));
            let long: PathBuf = names.collect();
            let long = Some(long.as_os_str().as_bytes()).filter(|it| is_below && !it.is_empty());
            assert_eq!(clean(name.as_bytes(), 0).as_deref(), long, "{name}");
        }
        assert_eq!(clean(b"./a/b", 2).as_deref(), Some(&b"b"[..]));
        assert_eq!(
            (split(b"a/b/c"), split(b"a")),
            ((&b"a/b"[..], &b"c"[..]), (&b""[..], &b"a"[..]))
        );
    }

    #[test]
    fn hashes_of_paths_differ() {
        let paths = Paths::new();
        let all: std::collections::HashSet<u64> =
            (0..10_000).map(|n| paths.hash(format!("app/code/{n}").as_bytes())).collect();
        assert_eq!(all.len(), 10_000);
        assert_ne!(paths.hash(b"a"), paths.hash(b"a\0"));
        assert_ne!(paths.hash(b"a"), Paths::new().hash(b"a"));
    }
}
