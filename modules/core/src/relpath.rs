//! Paths that have been checked.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use crate::convert::Kind;
use crate::options::{FromValue, OptionSpec};

/// The longest path, including the NUL byte at its end.
const LONGEST: usize = 4096;

/// A path below some directory: relative, not empty, without `..`; `.` and double slashes are
/// removed. Names are kept byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelPath(PathBuf);

impl RelPath {
    /// Checks a path.
    ///
    /// # Errors
    /// Why it does not stay below a directory.
    pub fn new(path: impl AsRef<Path>) -> Result<Self, String> {
        let path = path.as_ref();
        if let Some(simple) = Self::simple(path.as_os_str().as_bytes()) {
            return Ok(Self(OsStr::from_bytes(simple).into()));
        }
        let wrong = |why: &str| Err(format!("{} {why}", crate::failure::quote(path)));
        if path.as_os_str().as_bytes().contains(&0) {
            return wrong("contains a NUL byte");
        }
        let mut clean = PathBuf::new();
        for component in path.components() {
            match component {
                Component::Normal(name) => clean.push(name),
                Component::CurDir => {}
                Component::ParentDir => return wrong("contains '..'"),
                Component::RootDir | Component::Prefix(_) => {
                    return wrong("is absolute, not relative");
                }
            }
        }
        if clean.as_os_str().is_empty() {
            return wrong("is not the path of a file");
        }
        Ok(Self(clean))
    }

    /// The bytes of the path, if that can be told at a glance: but for a `./` before it and a slash after it, it is as it
    /// will be. `None` if [`RelPath::new`] has to look at its names, or refuses it.
    pub fn simple(path: &[u8]) -> Option<&[u8]> {
        let path = path.strip_prefix(b"./").unwrap_or(path);
        let path = path.strip_suffix(b"/").unwrap_or(path);
        let may_be = path.last().is_some_and(|last| *last != b'/');
        (may_be && !is_odd(path)).then_some(path)
    }

    /// As a path.
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// The number of names in it, at least 1.
    pub fn depth(&self) -> usize {
        self.0.components().count()
    }

    /// The directories above the last name, if any.
    pub fn parent(&self) -> Option<RelPath> {
        self.0
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .map(|parent| Self(parent.to_owned()))
    }

    /// The last name.
    pub fn name(&self) -> &OsStr {
        self.0.file_name().unwrap_or_default()
    }

    /// Its names, from the top.
    pub fn names(&self) -> impl Iterator<Item = &OsStr> {
        self.0.iter()
    }

    /// Whether it is `other` or is below it.
    pub fn is_within(&self, other: &RelPath) -> bool {
        self.0.starts_with(&other.0)
    }
}

/// Whether a path has a NUL byte, an empty name, or one that begins with a dot. This is asked several times for each
/// entry of an archive, so eight bytes are looked at together.
fn is_odd(path: &[u8]) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const LOW: u64 = 0x7f * ONES;
    // The highest bit of each byte that is this one.
    let are = |word: u64, byte: u8| {
        let other = word ^ (ONES * u64::from(byte));
        !(((other & LOW) + LOW) | other | LOW)
    };
    let (words, rest) = path.as_chunks();
    let mut last = [b'_'; 8];
    last[..rest.len()].copy_from_slice(rest);
    // The first name begins as if a slash were before it.
    let mut before = 0x80;
    words.iter().chain([&last]).any(|word| {
        let word = u64::from_le_bytes(*word);
        let slashes = are(word, b'/');
        let odd = (slashes | are(word, b'.')) & (slashes << 8 | before);
        before = slashes >> 56;
        odd | are(word, 0) != 0
    })
}

impl AsRef<Path> for RelPath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

impl FromValue for RelPath {
    const SPEC: OptionSpec = OptionSpec::of(Kind::Str);
    fn from_value(value: Option<Value>) -> Result<Self, String> {
        let path = String::from_value(value)?;
        short_enough(path.as_ref())?;
        RelPath::new(path)
    }
}

/// An absolute path without `..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbsPath(PathBuf);

impl AbsPath {
    /// Checks a path.
    ///
    /// # Errors
    /// Why it is not absolute.
    pub fn new(path: impl AsRef<Path>) -> Result<Self, String> {
        let path = path.as_ref();
        let wrong = |why: &str| Err(format!("{} {why}", crate::failure::quote(path)));
        if !path.is_absolute() {
            return wrong("is relative; write the full path from /");
        }
        if path.as_os_str().as_bytes().contains(&0) {
            return wrong("contains a NUL byte");
        }
        if path.components().any(|component| component == Component::ParentDir) {
            return wrong("contains '..'");
        }
        // Collecting the components removes double and trailing slashes.
        Ok(Self(path.components().collect()))
    }

    /// As a path.
    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

impl AsRef<Path> for AbsPath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl fmt::Display for AbsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

impl FromValue for AbsPath {
    const SPEC: OptionSpec = OptionSpec::of(Kind::Path);
    fn from_value(value: Option<Value>) -> Result<Self, String> {
        let path = PathBuf::from_value(value)?;
        short_enough(&path)?;
        AbsPath::new(path)
    }
}

/// The kernel accepts no longer path (`PATH_MAX`), and a very long one slows down the checks and fills every message.
fn short_enough(path: &Path) -> Result<(), String> {
    let length = path.as_os_str().len();
    if length < LONGEST {
        return Ok(());
    }
    let beginning = String::from_utf8_lossy(&path.as_os_str().as_bytes()[..40]).into_owned();
    let beginning = beginning.escape_debug();
    Err(format!(
        "'{beginning}…' is too long: it has {length} bytes, a path must have fewer than \
        {LONGEST}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refusals_say_why() {
        for (path, why) in [
            ("/etc", "'/etc' is absolute, not relative"),
            ("a/../b", "'a/../b' contains '..'"),
            ("", "'' is not the path of a file"),
            ("./.", "'./.' is not the path of a file"),
            ("a\0b", "'a\\0b' contains a NUL byte"),
        ] {
            assert_eq!(RelPath::new(path).unwrap_err(), why);
        }
    }

    #[test]
    fn redundant_parts_go() {
        let path = RelPath::new("./a//b/./c/").unwrap();
        assert_eq!(path.as_path(), Path::new("a/b/c"));
        assert_eq!((path.depth(), path.name().to_str()), (3, Some("c")));
        assert_eq!(path.parent().unwrap().as_path(), Path::new("a/b"));
        assert!(path.is_within(&RelPath::new("a/b").unwrap()));
        assert!(!RelPath::new("ab/c").unwrap().is_within(&RelPath::new("a").unwrap()));
    }

    proptest! {
        #[test]
        fn what_is_simple_is_as_the_long_way_says(text in "[a./\u{0}\u{81}]{0,40}|\\PC{0,20}") {
            let name = text.as_bytes();
            let path = name.strip_prefix(b"./").unwrap_or(name);
            let path = path.strip_suffix(b"/").unwrap_or(path);
            let names = path.split(|byte| *byte == b'/');
            let is_simple = |name: &[u8]| !name.is_empty() && name[0] != b'.' && !name.contains(&0);
            let expected = names.into_iter().all(is_simple).then_some(path);
            prop_assert_eq!(RelPath::simple(name), expected);
            // As name by name.
            if let Some(simple) = expected {
                let names = Path::new(&text).components().filter(|name| *name != Component::CurDir);
                let long: PathBuf = names.collect();
                prop_assert_eq!(long.as_os_str().as_bytes(), simple);
            }
        }

        #[test]
        fn what_is_accepted_stays_below(text in "[a./]{0,12}|\\PC{0,20}") {
            if let Ok(path) = RelPath::new(&text) {
                prop_assert!(path.as_path().is_relative());
                prop_assert!(path.depth() >= 1);
                prop_assert!(path.as_path().components().all(|c| matches!(c, Component::Normal(_))));
                let joined = Path::new("/srv/shop").join(&path);
                prop_assert!(joined.starts_with("/srv/shop"));
                prop_assert!(joined != Path::new("/srv/shop"));
                // Checking twice changes nothing.
                prop_assert_eq!(RelPath::new(&path), Ok(path));
            }
        }

        #[test]
        fn whatever_has_a_parent_reference_is_refused(before in "[a-z/]{0,6}", after in "[a-z]{0,6}") {
            let text = format!("{before}/../{after}");
            prop_assert!(RelPath::new(&text).is_err());
        }

        #[test]
        fn ordinary_paths_are_accepted_unchanged(names in prop::collection::vec("[a-z][a-z.]{0,5}", 1..6)) {
            let text = names.join("/");
            let path = RelPath::new(&text).unwrap();
            prop_assert_eq!(path.as_path(), Path::new(&text));
            prop_assert_eq!(path.depth(), names.len());
        }
    }
}
