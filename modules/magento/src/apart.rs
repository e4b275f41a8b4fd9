//! A separate cache for commands of a release that is not live.
//!
//! Two releases that share a cache read each other's entries: the new code reads the old one's
//! events (`Class "…" does not exist`), and the live shop those of a release of which only the
//! status was queried (both measured on 2.4.7). Magento also reads its configuration from an
//! environment variable.

use std::path::PathBuf;

use oxistrano_core::json::{self, Map, Value, json};
use oxistrano_core::remove::remove_tree;
use oxistrano_core::{Dir, Failure};

use crate::Magento;

/// JSON. Each of its top-level keys replaces that key of `env.php` as a whole. (Variables for
/// single values, `MAGENTO_DC_CACHE__…`, have no effect on the cache.)
pub(crate) const VARIABLE: &str = "MAGENTO_DC__OVERRIDE";
/// Below `var`, because Magento resolves any path relative to it.
const DIRECTORY: &str = "oxistrano_cache";
const PREFIX: &str = "oxistrano_";

/// The directory of such a cache. Dropping this value removes it.
#[must_use]
#[derive(Debug)]
pub struct Apart(Option<PathBuf>);

impl Magento {
    /// Switches to a separate cache, which exists as long as the returned `Apart`. The rest of an
    /// earlier one, left by a killed process, is removed first: it may be of other code.
    ///
    /// # Errors
    /// `bad_environment` if the environment already has that variable, and it is not a JSON object.
    pub fn apart(mut self) -> Result<(Self, Apart), Failure> {
        let given = self.environment.iter().rev().find(|(name, _)| name == VARIABLE);
        let given = given.map(|(_, text)| text.clone()).or_else(|| std::env::var(VARIABLE).ok());
        let mut all: Map<String, Value> = match given.filter(|text| !text.trim().is_empty()) {
            Some(text) => json::from_str(&text).map_err(|_| {
                // Without its value, which may contain a password.
                Failure::new("bad_environment", "cannot set a separate cache for PHP")
                    .cause(format!("{VARIABLE} is set, but is not a JSON object"))
                    .state("PHP was not started; nothing was changed.")
            })?,
            None => Map::new(),
        };
        let one = json!({
            "id_prefix": PREFIX,
            "backend": "Cm_Cache_Backend_File",
            "backend_options": {"cache_dir": DIRECTORY},
        });
        all.insert("cache".to_owned(), json!({"frontend": {"default": one, "page_cache": one}}));
        self.environment.retain(|(name, _)| name != VARIABLE);
        self.environment.push((VARIABLE.to_owned(), Value::Object(all).to_string()));
        let apart = Apart(Some(self.path().join("var")));
        // `end` reports what cannot be removed.
        let _ = apart.remove();
        Ok((self, apart))
    }
}

impl Apart {
    fn remove(&self) -> Result<(), Failure> {
        match &self.0 {
            // Without a `var`, there is no cache.
            Some(var) if var.is_dir() => remove_tree(&Dir::open(var)?, DIRECTORY).map(drop),
            _ => Ok(()),
        }
    }

    /// Removes it; returns a warning if that fails.
    pub fn end(mut self) -> Option<String> {
        let warning = self
            .remove()
            .err()
            .map(|failure| format!("the cache of these commands could not be removed: {failure}"));
        self.0 = None;
        warning
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        let _ = self.remove();
    }
}
