//! The one error of a module: what failed, on which path, why, what to do, and what
//! state things are in.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::mask::Mask;
use crate::temporary;

/// Why a module could not do its work. Becomes `failed`, `msg`, `code` and `path` of
/// the result.
///
/// The message reads `what: cause; remedy. State.`:
/// `cannot activate 7: '/srv/shop/releases/7' does not exist; deploy it first. Nothing
/// was changed.`
#[derive(Debug, Clone)]
pub struct Failure(Box<Parts>);

/// Boxed, so that a `Result` that is almost always `Ok` stays small.
#[derive(Debug, Clone)]
struct Parts {
    code: &'static str,
    what: String,
    cause: Option<String>,
    remedy: Option<String>,
    state: Option<String>,
    path: Option<PathBuf>,
    errno: Option<i32>,
    values: Map<String, Value>,
}

impl Failure {
    /// A failure with a stable `code` (for programs) and `what` failed (for people, no
    /// final stop).
    pub fn new(code: &'static str, what: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            code,
            what: what.into(),
            cause: None,
            remedy: None,
            state: None,
            path: None,
            errno: None,
            values: Map::new(),
        }))
    }

    /// An operating system error while doing `verb` to `path`: `cannot create '/srv/x': No space
    /// left on device; free some space there`. If the path is a temporary one, the message names
    /// its directory.
    pub fn io(verb: &str, path: &Path, error: impl Into<io::Error>) -> Self {
        let error = error.into();
        let temporary = path.file_name().is_some_and(temporary::is_temporary);
        let (verb, path) = match path.parent().filter(|_| temporary) {
            Some(directory) => ("write into the directory", directory),
            None => (verb, path),
        };
        let mut failure = Self::new("io", format!("cannot {verb} {}", quote(path)))
            .cause(describe(&error))
            .path(path);
        failure.0.remedy = remedy(&error).map(str::to_owned);
        failure.0.errno = error.raw_os_error();
        failure
    }

    /// Why it failed.
    #[must_use]
    pub fn cause(mut self, cause: impl fmt::Display) -> Self {
        self.0.cause = Some(cause.to_string());
        self
    }

    /// One more reason.
    #[must_use]
    pub fn also(mut self, cause: &str) -> Self {
        self.0.cause = Some(match self.0.cause {
            Some(first) => format!("{first}; {cause}"),
            None => cause.to_owned(),
        });
        self
    }

    /// What the user can do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.0.remedy = Some(remedy.into());
        self
    }

    /// The state that things are in, a full sentence. If it is set several times, the first (innermost) one stays.
    #[must_use]
    pub fn state(mut self, state: impl Into<String>) -> Self {
        self.0.state.get_or_insert(state.into());
        self
    }

    /// Replaces the state.
    #[must_use]
    pub fn instead_of_state(mut self, state: impl Into<String>) -> Self {
        self.0.state = Some(state.into());
        self
    }

    /// The path that the failure is about.
    #[must_use]
    pub fn path(mut self, path: impl Into<PathBuf>) -> Self {
        self.0.path = Some(path.into());
        self
    }

    /// One more key of the result, for programs.
    #[must_use]
    pub fn value(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.values.insert(key.to_owned(), value.into());
        self
    }

    /// Puts what was attempted in front: `cannot unpack 'a.tar': cannot create 'x': …`.
    #[must_use]
    pub fn while_trying(mut self, what: impl fmt::Display) -> Self {
        self.0.what = format!("{what}: {}", self.0.what);
        self
    }

    /// Masks secrets, for output of another program.
    #[must_use]
    pub fn without(mut self, mask: &Mask) -> Self {
        self.0.what = mask.hide(&self.0.what);
        self.0.cause = self.0.cause.map(|cause| mask.hide(&cause));
        let values = std::mem::take(&mut self.0.values);
        self.0.values = values.into_iter().map(|(key, value)| (key, mask.apply(value))).collect();
        self
    }

    /// Whether it is this error of the operating system.
    pub fn is(&self, error: rustix::io::Errno) -> bool {
        self.0.errno == Some(error.raw_os_error())
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// Whether it failed because a program does not exist on this host.
    pub fn is_missing_program(&self) -> bool {
        self.0.values.contains_key("missing_program")
    }

    pub(crate) fn into_result(self) -> Map<String, Value> {
        let msg = self.to_string();
        let mut result = self.0.values;
        result.insert("failed".into(), true.into());
        result.insert("msg".into(), msg.into());
        result.insert("code".into(), self.0.code.into());
        if let Some(path) = self.0.path {
            result.insert("path".into(), path.to_string_lossy().into());
        }
        result
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.what)?;
        if let Some(cause) = &self.0.cause {
            write!(f, ": {cause}")?;
        }
        if let Some(remedy) = &self.0.remedy {
            write!(f, "; {remedy}")?;
        }
        f.write_str(".")?;
        if let Some(state) = &self.0.state {
            write!(f, " {state}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// `'path'`, with control characters escaped.
pub fn quote(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().escape_debug())
}

/// Adds path and verb to an operating system's error.
pub trait IoContext<T> {
    /// `Err` becomes [`Failure::io`].
    fn or_fail(self, verb: &str, path: impl AsRef<Path>) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> IoContext<T> for Result<T, E> {
    fn or_fail(self, verb: &str, path: impl AsRef<Path>) -> Result<T, Failure> {
        self.map_err(|error| Failure::io(verb, path.as_ref(), error))
    }
}

/// The error's text without Rust's "(os error 13)".
fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

fn remedy(error: &io::Error) -> Option<&'static str> {
    use io::ErrorKind as E;
    // ErrorKind::FilesystemLoop is not stable.
    if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
        return Some("replace the symbolic link in this path by a file or directory");
    }
    Some(match error.kind() {
        E::PermissionDenied => {
            "run as a user who has the permission (become), or correct the \
            permissions"
        }
        E::StorageFull => "free some space there",
        E::QuotaExceeded => "raise the quota, or free some space",
        E::ReadOnlyFilesystem => "mount that file system writable",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_written_under_a_temporary_name_is_named_by_its_directory() {
        let path =
            Path::new("/srv/shared").join(temporary::unused(".oxistrano-tmp-", Path::new("var")));
        let failure = Failure::io("create the directory", &path, rustix::io::Errno::ACCESS);
        assert_eq!(
            failure.to_string(),
            "cannot write into the directory '/srv/shared': Permission denied; run as a user who \
             has the permission (become), or correct the permissions."
        );
    }

    #[test]
    fn message_says_what_why_remedy_and_state() {
        let failure = Failure::new("not_a_link", "cannot activate 7")
            .cause("'/srv/current' is a directory")
            .remedy("move it away")
            .state("Nothing was changed.");
        assert_eq!(
            failure.to_string(),
            "cannot activate 7: '/srv/current' is a directory; move it away. Nothing was changed."
        );
    }

    #[test]
    fn io_failure_names_the_path_and_the_remedy() {
        let error = io::Error::from_raw_os_error(28);
        assert_eq!(
            Failure::io("write", Path::new("/srv/a\nb"), error).to_string(),
            "cannot write '/srv/a\\nb': No space left on device; free some space there."
        );
    }
}
