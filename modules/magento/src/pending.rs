//! What `setup:upgrade` of a release would do: facts from Magento's own classes and from the
//! database server, collected by `php/pending.php`.

use std::time::Duration;

use oxistrano_core::json::{self, Map, Value};

use crate::{Magento, script};

/// The beginning of the line with the facts.
const MARK: &str = "OXISTRANO ";

/// The facts that the script prints.
#[derive(Debug, Clone, Default)]
pub struct Pending(pub(crate) Map<String, Value>);

impl Pending {
    /// Asks the release. The answer also lists what could not be determined.
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

/// The facts that one of our scripts prints.
///
/// # Errors
/// Why it prints none.
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
