//! What the live release has given up and the new one brings back, as where the code of an earlier release is deployed again. The
//! live release would remove it, and its `setup:db:status` says so.

use std::collections::BTreeSet;
use std::fs::read_dir;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use oxistrano_core::dir::read_followed;
use oxistrano_core::json::{self, Map, Value};

use super::{MOST, is_within, list, text, word};

/// The file of a module with everything that its tables have, or once had; Magento reads it of disabled modules as well.
const WHITELIST: &str = "etc/db_schema_whitelist.json";
/// Where modules are, by Composer's and Magento's conventions: two directories below.
const PLACES: [&str; 2] = ["app/code", "vendor"];

/// Why it cannot be brought back while the live release works.
pub(super) fn obstacles(facts: &Map<String, Value>, live: &Path) -> Vec<String> {
    let changes = list(facts, "changes");
    let adds = ["create_table", "add_column", "add_complex_element"];
    if !changes.iter().any(|change| adds.contains(&text(change, "operation"))) {
        return Vec::new();
    }
    let known = list(facts, "whitelists").iter().map(word).filter(|file| is_within(file));
    let mut files: BTreeSet<PathBuf> = known.map(|file| live.join(file)).collect();
    files.extend(PLACES.iter().flat_map(|place| modules(&live.join(place))));
    let (mut own, mut found) = (Vec::new(), Vec::new());
    for file in files {
        match whitelist(&file) {
            Ok(whitelist) => own.extend(whitelist),
            Err(why) => found.push(format!(
                "it is not known what the live release would remove again: {}: {why}",
                file.display()
            )),
        }
    }
    found.extend(changes.iter().filter(|change| is_listed(change, &own)).map(|change| {
        let (table, name) = (text(change, "table"), text(change, "name"));
        let what = match text(change, "element") {
            "table" => format!("table {table}"),
            element => format!("{element} {name} of table {table}"),
        };
        format!(
            "the live release would remove {what} again (db_schema_whitelist.json), and not accept \
             the database"
        )
    }));
    found
}

/// The files of modules that only the live release has, or has elsewhere. Which of them are registered is not asked: one more
/// makes an upgrade safer.
fn modules(place: &Path) -> Vec<PathBuf> {
    let below = |directory: &Path| {
        let entries = read_dir(directory).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let vendors = below(place).into_iter();
    let files = vendors.flat_map(|vendor| below(&vendor)).map(|module| module.join(WHITELIST));
    files.filter(|file| file.exists()).collect()
}

fn whitelist(file: &Path) -> Result<Option<Value>, String> {
    match read_followed(file, MOST) {
        Ok(bytes) if bytes.len() as u64 == MOST => Err(format!("it has {MOST} bytes or more")),
        Ok(bytes) => match json::from_slice::<Value>(&bytes) {
            Ok(whitelist) if whitelist.is_object() => Ok(Some(whitelist)),
            // PHP writes an empty one so.
            Ok(Value::Array(list)) if list.is_empty() => Ok(None),
            Ok(_) => Err("it is no JSON object".to_owned()),
            Err(error) => Err(error.to_string()),
        },
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Names are listed without the prefix that all tables of the shop have (`db/table_prefix`).
fn is_listed(change: &Value, own: &[Value]) -> bool {
    let plain = |key: &str, name: &str| match text(change, key) {
        "" => text(change, name).to_owned(),
        plain => plain.to_owned(),
    };
    let (table, name) = (plain("plain_table", "table"), plain("plain_name", "name"));
    match text(change, "operation") {
        "create_table" => own.iter().any(|of| of.get(&table).is_some()),
        "add_column" | "add_complex_element" => own.iter().any(|of| {
            let kinds = of.get(&table).and_then(Value::as_object);
            kinds.into_iter().flatten().any(|(_, names)| names.get(&name).is_some())
        }),
        _ => false,
    }
}
