//! What stays in the database after a rollback to an earlier release.

use std::time::Duration;

use oxistrano_core::json::{Map, Value, json};

use crate::pending::told;
use crate::{Magento, script};

/// What the newer release has changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Since {
    /// Patches that have run, and that the earlier release does not know.
    pub patches: Vec<String>,
    /// New constraints of tables that the earlier release uses and that it does not know.
    pub constraints: Vec<String>,
    /// Sections of the configuration that were imported, and differ from its own.
    pub imported: Vec<String>,
}

/// What a release's code declares.
#[derive(Debug)]
pub struct Code(Map<String, Value>);

impl Code {
    /// Asks the release.
    ///
    /// # Errors
    /// Why it is not known.
    pub fn ask(magento: &Magento, timeout: Duration) -> Result<Self, String> {
        told(magento, script::CODE, timeout).map(Self)
    }
}

impl Since {
    /// Compares the earlier release with the one that was live.
    pub fn between(Code(earlier): &Code, Code(left): &Code) -> Self {
        let mut since = Self::default();
        for patch in
            list(left, "patches").iter().filter(|patch| !list(earlier, "patches").contains(patch))
        {
            since.patches.extend(patch.as_str().map(str::to_owned));
        }
        for strict in
            list(left, "strict").iter().filter(|strict| !list(earlier, "strict").contains(strict))
        {
            let part =
                |number: usize| strict.get(number).and_then(Value::as_str).unwrap_or_default();
            if list(earlier, "tables").iter().any(|table| table == part(0)) {
                since.constraints.push(format!("{} {} of table {}", part(2), part(1), part(0)));
            }
        }
        for (section, hash) in left.get("imported").and_then(Value::as_object).into_iter().flatten()
        {
            if earlier.get("imported").and_then(|of| of.get(section)) != Some(hash) {
                since.imported.push(section.clone());
            }
        }
        since
    }

    /// As a module returns it.
    pub fn to_json(&self) -> Value {
        json!({"patches": self.patches, "constraints": self.constraints, "imported": self.imported})
    }
}

fn list<'a>(facts: &'a Map<String, Value>, name: &str) -> &'a [Value] {
    facts.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(earlier: &Value, left: &Value) -> Since {
        let code = |facts: &Value| Code(facts.as_object().unwrap().clone());
        Since::between(&code(earlier), &code(left))
    }

    #[test]
    fn what_only_the_release_that_is_left_has_is_told() {
        let earlier = json!({
            "patches": ["A"], "tables": ["t"], "strict": [["t", "PRIMARY", "primary"]], "imported": {"system": "1", "scopes": "1"},
        });
        assert_eq!(between(&earlier, &earlier), Since::default());
        let left = json!({
            "patches": ["A", "B"], "tables": ["t", "new"],
            "strict": [["t", "PRIMARY", "primary"], ["t", "c", "column"], ["new", "x", "unique"]],
            "imported": {"system": "2", "scopes": "1", "themes": "1"},
        });
        let since = between(&earlier, &left);
        assert_eq!(since.patches, ["B"]);
        assert_eq!(since.constraints, ["column c of table t"]);
        assert_eq!(since.imported, ["system", "themes"]);
        assert_eq!(between(&left, &earlier).imported, ["system"]);
    }
}
