//! The name of a release.

use std::ffi::OsStr;
use std::fmt;
use std::path::Path;

use oxistrano_core::json::Value;
use oxistrano_core::{FromValue, Kind, OptionSpec, RelPath};

/// A release's version, which is the name of its directory: one path component that
/// does not begin with a dot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(String);

impl Version {
    /// Checks a name.
    ///
    /// # Errors
    /// Why it is not valid.
    pub fn new(name: impl Into<String>) -> Result<Self, String> {
        let name = name.into();
        let wrong = |why: &str| Err(format!("'{}' {why}", name.escape_debug()));
        match RelPath::new(&name) {
            Err(why) => Err(why),
            Ok(path) if path.depth() != 1 || name.contains('/') => {
                wrong("is not the name of a directory")
            }
            Ok(_) if name.starts_with('.') => wrong("begins with a dot"),
            Ok(_) if name.len() > 200 => wrong("is longer than 200 bytes"),
            Ok(_) if name.chars().any(char::is_control) => wrong("contains a control character"),
            Ok(_) => Ok(Self(name)),
        }
    }

    /// As a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<Path> for Version {
    fn as_ref(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl AsRef<OsStr> for Version {
    fn as_ref(&self) -> &OsStr {
        OsStr::new(&self.0)
    }
}

impl FromValue for Version {
    const SPEC: OptionSpec = OptionSpec::of(Kind::Str);
    fn from_value(value: Option<Value>) -> Result<Self, String> {
        Version::new(String::from_value(value)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_are_no_single_directory_are_refused() {
        for name in ["", ".", "..", "a/b", "a/", "/a", ".hidden", "a\0b", "a\nb"] {
            assert!(Version::new(name).is_err(), "{name:?}");
        }
        for name in ["20260824101500Z", "v1.2.3", "feature branch", "ünïcode"] {
            assert!(Version::new(name).is_ok(), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn an_accepted_name_is_one_component(name in "\\PC{0,12}") {
            if Version::new(name.clone()).is_ok() {
                let joined = Path::new("/srv/releases").join(&name);
                prop_assert_eq!(joined.parent(), Some(Path::new("/srv/releases")));
                prop_assert_eq!(joined.file_name(), Some(OsStr::new(&name)));
            }
        }
    }
}
