//! A cache of its own for commands of a release that is not live.
//!
//! Two releases that share a cache read what the other has written: new code the events of the old
//! (`Class "…" does not exist`), and the live shop those of a release that was only asked something
//! (both measured on 2.4.7). Magento takes its configuration from an environment variable as well.

use std::path::PathBuf;

use oxistrano_core::json::{self, Map, Value, json};
use oxistrano_core::remove::remove_tree;
use oxistrano_core::{Dir, Failure};

use crate::Magento;

/// JSON, each top-level key of which takes the place of that key of `env.php`, whole. (Those for single
/// values, `MAGENTO_DC_CACHE__…`, do not reach the cache.)
pub(crate) const VARIABLE: &str = "MAGENTO_DC__OVERRIDE";
/// Below `var`, wherever that leads: Magento takes any path for one that begins there.
const DIRECTORY: &str = "oxistrano_cache";
const PREFIX: &str = "oxistrano_";

/// The directory of such a cache; it goes with this value.
#[must_use]
#[derive(Debug)]
pub struct Apart(Option<PathBuf>);

impl Magento {
    /// From here on with a cache of its own, that lasts as long as what is returned beside it. What a
    /// killed process has left of an earlier one is removed first: it may be of other code.
    ///
    /// # Errors
    /// `bad_environment` when the environment has that variable already, and no JSON object in it.
    pub fn apart(mut self) -> Result<(Self, Apart), Failure> {
        let given = self.environment.iter().rev().find(|(name, _)| name == VARIABLE);
        let given = given.map(|(_, text)| text.clone()).or_else(|| std::env::var(VARIABLE).ok());
        let mut all: Map<String, Value> = match given.filter(|text| !text.trim().is_empty()) {
            Some(text) => json::from_str(&text).map_err(|_| {
                // Not its value: there may be a password in it.
                Failure::new("bad_environment", "cannot give PHP a cache of its own")
                    .cause(format!("{VARIABLE} is set, and is no JSON object"))
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
        // What cannot be removed is told at the end.
        let _ = apart.remove();
        Ok((self, apart))
    }
}

impl Apart {
    fn remove(&self) -> Result<(), Failure> {
        match &self.0 {
            // Without a var there is nothing in it.
            Some(var) if var.is_dir() => remove_tree(&Dir::open(var)?, DIRECTORY).map(drop),
            _ => Ok(()),
        }
    }

    /// Removes it; a warning if that does not succeed.
    pub fn end(mut self) -> Option<String> {
        let warning = self.remove().err().map(|failure| {
            format!("the cache of the commands that were run is left behind: {failure}")
        });
        self.0 = None;
        warning
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        let _ = self.remove();
    }
}
