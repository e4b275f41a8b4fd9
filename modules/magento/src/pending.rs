//! What `setup:upgrade` of a release would do, asked without doing it: facts of Magento's own classes and
//! of the database server, as `php/pending.php` collects them.

use std::time::Duration;

use oxistrano_core::json::{self, Map, Value};

use crate::{Magento, script};

/// What the line with the facts begins with.
const MARK: &str = "OXISTRANO ";

/// The facts, as the script tells them.
#[derive(Debug, Clone, Default)]
pub struct Pending(pub(crate) Map<String, Value>);

impl Pending {
    /// Asks the release. What cannot be told is a part of the answer.
    pub fn ask(magento: &Magento, timeout: Duration) -> Self {
        Self(told(magento, script::PENDING, timeout).unwrap_or_else(|reason| {
            let why = Map::from_iter([("upgrade".to_owned(), reason.into())]);
            Map::from_iter([("unknown".to_owned(), Value::Object(why))])
        }))
    }

    /// Websites, groups and stores of the database that an import of this release's configuration deletes.
    pub fn deletes(&self) -> Vec<String> {
        texts(&self.0, "import", "deletes")
    }

    /// Sections of the configuration that were imported, and that this release does not have.
    pub fn imported_by_others(&self) -> Vec<String> {
        texts(&self.0, "import", "of_others")
    }
}

/// What a script of ours tells.
///
/// # Errors
/// Why it does not.
pub(crate) fn told(
    magento: &Magento,
    script: &[u8],
    timeout: Duration,
) -> Result<Map<String, Value>, String> {
    let answer = magento.script(script, timeout).map_err(|failure| failure.to_string())?;
    let facts = answer.stdout.lines().find_map(|line| line.strip_prefix(MARK));
    facts.and_then(|facts| json::from_str(facts).ok()).ok_or_else(|| answer.reason())
}

fn texts(map: &Map<String, Value>, part: &str, name: &str) -> Vec<String> {
    let list = map.get(part).and_then(|part| part.get(name)).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}
