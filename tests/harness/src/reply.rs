//! What a module has said.

use std::fmt;
use std::ops::Index;
use std::process::Output;

use serde_json::{Deserializer, Value};

/// The one JSON object that a module has printed.
#[derive(Clone)]
pub struct Reply(Value);

impl Reply {
    /// Checks the form: exactly one JSON object on stdout, nothing on stderr, the exit
    /// code as Ansible expects it.
    #[track_caller]
    pub fn of(output: &Output) -> Self {
        let stdout = String::from_utf8_lossy(&output.stdout);
        let stderr = String::from_utf8_lossy(&output.stderr);
        // `make coverage`: it cannot note its lines where it may not write, or no more than a few bytes.
        let stderr = stderr
            .lines()
            .filter(|line| !(cfg!(coverage) && line.starts_with("LLVM Profile Error")));
        let stderr = stderr.collect::<Vec<_>>().join("\n");
        assert_eq!(stderr, "", "stderr must be empty; stdout: {stdout}");
        let mut objects = Deserializer::from_str(&stdout).into_iter::<Value>();
        let first = match objects.next() {
            Some(Ok(value)) => value,
            other => panic!("no JSON on stdout ({other:?}), status {}: {stdout:?}", output.status),
        };
        assert!(first.is_object(), "no object: {stdout}");
        assert!(objects.next().is_none(), "more than one object: {stdout}");
        assert!(stdout.ends_with("}\n"), "no line's end: {stdout:?}");
        assert!(first["changed"].is_boolean() || first["failed"] == true, "{stdout}");
        let reply = Self(first);
        assert_eq!(output.status.code(), Some(i32::from(reply.has_failed())), "{reply}");
        if reply.has_failed() {
            assert!(reply["code"].is_string() && reply["msg"].is_string(), "{reply}");
        }
        reply
    }

    fn has_failed(&self) -> bool {
        self.0["failed"] == true
    }

    /// It worked and changed something.
    #[track_caller]
    #[must_use]
    pub fn changed(self) -> Self {
        assert!(!self.has_failed() && self.0["changed"] == true, "should have changed: {self}");
        self
    }

    /// It worked and changed nothing.
    #[track_caller]
    #[must_use]
    pub fn unchanged(self) -> Self {
        assert!(!self.has_failed() && self.0["changed"] == false, "should not change: {self}");
        self
    }

    /// It failed with this code.
    #[track_caller]
    #[must_use]
    pub fn failed(self, code: &str) -> Self {
        assert!(self.has_failed(), "should have failed with {code}: {self}");
        assert_eq!(self.0["code"], code, "{self}");
        assert_ne!(self.0["changed"], true, "{self}");
        self
    }

    /// The message contains each of these.
    #[track_caller]
    pub fn says<'a>(&self, parts: impl IntoIterator<Item = &'a str>) {
        for part in parts {
            assert!(self.msg().contains(part), "'{part}' is missing in: {}\n{self}", self.msg());
        }
    }

    /// There is a warning with this text.
    #[track_caller]
    pub fn warns(&self, part: &str) {
        let warnings = self.0["warnings"].as_array().cloned().unwrap_or_default();
        let found = warnings.iter().any(|text| text.as_str().is_some_and(|t| t.contains(part)));
        assert!(found, "no warning says '{part}': {self}");
    }

    /// There is no warning at all.
    #[track_caller]
    pub fn has_no_warnings(&self) {
        assert!(self.0["warnings"].is_null(), "{self}");
    }

    /// The message.
    pub fn msg(&self) -> &str {
        self.0["msg"].as_str().unwrap_or_default()
    }

    /// All of it.
    pub fn value(&self) -> &Value {
        &self.0
    }
}

impl Index<&str> for Reply {
    type Output = Value;
    fn index(&self, key: &str) -> &Value {
        &self.0[key]
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
