//! Whether an upgrade can be done while the live release continues to work: only changes that add
//! something, and only those that the server makes without a lock. Unknown changes count as unsafe.

use std::path::Path;

use oxistrano_core::dir::read_followed;
use oxistrano_core::json::{Map, Value};

use crate::pending::Pending;

mod returning;

/// The limit for comparing a module's file.
const MOST: u64 = 1 << 20;
/// The parts that are needed for a decision.
const PARTS: [&str; 10] = [
    "changes",
    "data_patches",
    "schema_patches",
    "versions",
    "scripts",
    "queues",
    "triggers",
    "themes",
    "emptied",
    "import",
];

/// The pair of releases.
#[derive(Debug)]
pub struct Pair<'a> {
    /// What the upgrade would do.
    pub pending: &'a Pending,
    /// Its root.
    pub release: &'a Path,
    /// That of the live one.
    pub live: &'a Path,
    /// Whether Magento says that the database needs an upgrade.
    pub upgrade: bool,
    /// Patches and scripts that may run, by their classes; `*` is each.
    pub allowed: &'a [String],
    /// The largest table, in megabytes, in which something may be built; 0 sets no limit.
    pub most: u64,
}

impl Pair<'_> {
    /// Why the upgrade cannot be done online; empty if it can.
    pub fn obstacles(&self) -> Vec<String> {
        let facts = &self.pending.0;
        let mut found = Vec::new();
        let unknown = facts.get("unknown").and_then(Value::as_object);
        for (part, why) in unknown.into_iter().flatten() {
            found.push(format!("it is not known what the upgrade does ({part}): {}", word(why)));
        }
        if unknown.is_none() {
            for part in PARTS.iter().filter(|part| !facts.contains_key(**part)) {
                found.push(format!("it is not known what the upgrade does ({part})"));
            }
            let pending = ["changes", "data_patches", "schema_patches", "versions"];
            if self.upgrade && pending.iter().all(|part| list(facts, part).is_empty()) {
                found.push("it is not known why Magento needs an upgrade".to_owned());
            }
        }
        if !self.live.join("bin/magento").is_file() {
            found.push("there is no live release that could continue to serve visitors".to_owned());
        }
        found.extend(
            list(facts, "changes")
                .iter()
                .filter_map(|change| self.pending.obstacle(change, self.most)),
        );
        found.extend(returning::obstacles(facts, self.live));
        self.code(&mut found);
        self.rest(&mut found);
        // Each reason once: a table that cannot be altered may have many changes.
        let mut told: Vec<String> = Vec::new();
        for why in found {
            if !told.contains(&why) {
                told.push(why);
            }
        }
        told
    }

    /// Code that the upgrade runs in addition to the declared schema.
    fn code(&self, found: &mut Vec<String>) {
        let facts = &self.pending.0;
        for patch in list(facts, "data_patches").iter().map(word) {
            if !self.allows(patch) {
                found.push(format!(
                    "data patch {patch} would change data that the live release \
                    uses"
                ));
            }
        }
        for patch in list(facts, "schema_patches").iter().map(word) {
            if !self.allows(patch) {
                found.push(format!(
                    "schema patch {patch} would change tables that the live release uses"
                ));
            }
        }
        for version in list(facts, "versions") {
            let (module, current) = (text(version, "module"), text(version, "current"));
            for class in list_of(version, "scripts").iter().map(word) {
                found.push(format!(
                    "the setup script {class} would run while the live release \
                    serves visitors"
                ));
            }
            if current != "none" && facts.get("blue_green") != Some(&Value::Bool(true)) {
                found.push(format!(
                    "the live release would stop working, because the setup_version of {module} \
                     changes from {current} to {}",
                    text(version, "required")
                ));
            }
        }
        for script in list(facts, "scripts") {
            let (class, file) = (text(script, "class"), text(script, "file"));
            let known = class.starts_with("Magento\\") && self.is_the_same(file);
            if !known && !self.allows(class) {
                found.push(format!(
                    "{class}, which runs in every upgrade, would run while the live release \
                     serves visitors"
                ));
            }
        }
    }

    fn rest(&self, found: &mut Vec<String>) {
        let facts = &self.pending.0;
        if facts.get("amqp") == Some(&Value::Bool(true)) {
            let changed =
                list(facts, "queues").iter().map(word).find(|file| !self.is_the_same(file));
            if let Some(file) = changed {
                found.push(format!("the message broker's queues would change ({file})"));
            }
        }
        for trigger in list(facts, "triggers").iter().map(word) {
            found.push(format!(
                "trigger {trigger} would be created again, and indexers would miss changes"
            ));
        }
        let gone = facts.get("themes").map_or(&[][..], |themes| list_of(themes, "gone"));
        for theme in gone.iter().map(word) {
            found.push(format!(
                "theme {theme}, which is missing in this release, would become a virtual theme"
            ));
        }
        for table in list(facts, "emptied").iter().map(word) {
            // These are used only between two steps of an indexer.
            if !["_tmp", "_idx", "_replica"].iter().any(|end| table.ends_with(end)) {
                found.push(format!("table {table}, which is an in-memory table, would be emptied"));
            }
        }
    }

    fn allows(&self, class: &str) -> bool {
        self.allowed
            .iter()
            .any(|allowed| allowed == "*" || allowed.trim_start_matches('\\') == class)
    }

    /// Whether the live release has the same file.
    fn is_the_same(&self, file: &str) -> bool {
        let new = read(self.release, file);
        new.is_some() && new == read(self.live, file)
    }
}

fn is_within(file: &str) -> bool {
    !Path::new(file).is_absolute() && file.split('/').all(|part| part != "..")
}

/// A file of a release; none outside of it.
fn read(root: &Path, file: &str) -> Option<Vec<u8>> {
    if !is_within(file) {
        return None;
    }
    read_followed(&root.join(file), MOST).ok().filter(|bytes| (bytes.len() as u64) < MOST)
}

impl Pending {
    /// Why this change of the schema cannot be made online.
    fn obstacle(&self, change: &Value, most: u64) -> Option<String> {
        if let Some(why) = breaks(change) {
            return Some(why);
        }
        if text(change, "operation") == "create_table" {
            return None;
        }
        let table = text(change, "table");
        let all = list(&self.0, "changes").iter();
        let changes: Vec<_> = all.filter(|change| text(change, "table") == table).collect();
        let told =
            self.0.get("tables").and_then(|tables| tables.get(table)).unwrap_or(&Value::Null);
        let server =
            self.0.get("servers").and_then(|servers| servers.get(text(told, "connection")));
        locks(&changes, told, server.unwrap_or(&Value::Null))
            .map(|why| format!("table {table} cannot be altered while it is used: {why}"))
            .or_else(|| loads(&changes, told, most).map(|why| format!("table {table} {why}")))
    }

    /// As a module returns it: each change with its obstacle.
    pub fn to_json(&self, most: u64) -> Value {
        let mut map = self.0.clone();
        // Hundreds of files, needed only for the comparison.
        for name in ["scripts", "queues", "whitelists"] {
            map.remove(name);
        }
        for change in map.get_mut("changes").and_then(Value::as_array_mut).into_iter().flatten() {
            let obstacle = self.obstacle(change, most);
            change["obstacle"] = obstacle.into();
        }
        Value::Object(map)
    }
}

/// Why the live release's code would not work after this change, whatever the server does.
fn breaks(change: &Value) -> Option<String> {
    let (table, name) = (text(change, "table"), text(change, "name"));
    let is = |key: &str| change.get(key).and_then(Value::as_bool).unwrap_or(false);
    let why = match (text(change, "operation"), text(change, "element")) {
        _ if is("fills") => format!("data would be moved into table {table}"),
        ("create_table", _) => {
            // Such a foreign key prevents the live release from deleting rows.
            let blocking = list_of(change, "references").iter().find(|to| {
                !["CASCADE", "SET NULL"]
                    .contains(&text(to, "on_delete").to_ascii_uppercase().as_str())
            })?;
            format!(
                "rows of the new table {table} would prevent rows of {} from being deleted",
                text(blocking, "table")
            )
        }
        ("add_column", _) if is("identity") => {
            format!("table {table} would get an auto-increment column, {name}")
        }
        ("add_column", _) => {
            if is("nullable") || change.get("default").is_some_and(|default| !default.is_null()) {
                return None;
            }
            format!(
                "the new column {name} of table {table} is NOT NULL and has no default, and the \
                 live release does not fill it"
            )
        }
        ("add_complex_element", "index") => return None,
        ("add_complex_element", _) => {
            format!(
                "table {table} could refuse what the live release writes ({} {name})",
                text(change, "type")
            )
        }
        ("drop_table" | "recreate_table", _) => {
            format!("table {table}, which the live release may use, would be removed")
        }
        ("drop_element" | "drop_reference", _) => {
            format!("table {table} would lose {} {name}", text(change, "type"))
        }
        ("modify_column", _) => format!("column {name} of table {table} would be changed"),
        ("modify_table", _) => {
            format!("table {table} would be changed (engine, character set or comment)")
        }
        (other, _) => format!("the operation {other} on table {table} is unknown"),
    };
    Some(why)
}

/// Why altering this table locks it.
fn locks(changes: &[&Value], told: &Value, server: &Value) -> Option<String> {
    for name in ["alter_algorithm", "own_alter_algorithm", "old_alter_table", "own_old_alter_table"]
    {
        let set = text(server, name);
        if !["", "OFF", "DEFAULT", "INPLACE", "NOCOPY", "INSTANT"].contains(&set) {
            return Some(format!("the server is configured to copy tables ({name} is {set})"));
        }
    }
    if text(told, "engine") != "InnoDB" {
        return Some(format!("its engine is {}", text(told, "engine")));
    }
    let says = |how: &str| told.get(how).and_then(Value::as_bool);
    let Some(inplace) = says("inplace") else {
        if text(server, "wsrep_on") == "ON" {
            return Some("a Galera cluster may block until it is done".to_owned());
        }
        let why = unproved(changes, told, text(server, "version"))?;
        return Some(format!("{why}, and the server could not be asked ({})", text(server, "why")));
    };
    if !inplace {
        return Some(text(told, "inplace_error").to_owned());
    }
    // All nodes of the cluster wait for each ALTER.
    if text(server, "wsrep_on") == "ON" && says("instant") != Some(true) {
        return Some("a Galera cluster blocks until it is done".to_owned());
    }
    None
}

/// Why altering this table would load the server too much, although it is not locked: the server
/// reads all of it and logs concurrent writes, and replicas lag behind for that time.
fn loads(changes: &[&Value], told: &Value, most: u64) -> Option<String> {
    let instant = told.get("instant").and_then(Value::as_bool);
    // If the server could not be asked: adding a column is instant, building an index is not.
    let built = instant.map_or_else(
        || changes.iter().any(|change| text(change, "element") == "index"),
        |instant| !instant,
    );
    let megabytes = count(told, "bytes").unwrap_or(0) >> 20;
    (built && most > 0 && megabytes > most).then(|| {
        format!(
            "has {megabytes} MB, and the change would have to be built in it, which takes long \
             and loads the server; the limit is {most} MB (magento2_online_most_mb)"
        )
    })
}

/// If the server could not be asked: `None` if InnoDB has long made this change without a lock.
fn unproved(changes: &[&Value], told: &Value, version: &str) -> Option<String> {
    let mut numbers =
        version.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0_u32));
    let number = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let new_enough = if version.contains("MariaDB") {
        number >= (10, 4)
    } else {
        number == (8, 0) || number == (8, 4)
    };
    if !new_enough || version.contains("aurora") {
        return Some(format!("whether it locks is not known for server {version}"));
    }
    let plain = ["Dynamic", "Compact"].contains(&text(told, "row_format"))
        && count(told, "odd_indexes") == Some(0)
        && !["partitioned", "compressed", "encrypt"]
            .iter()
            .any(|word| text(told, "options").to_ascii_lowercase().contains(word));
    if !plain {
        return Some("it is not a plain table".to_owned());
    }
    let is_index = |change: &&&Value| text(change, "element") == "index";
    let indexes = changes.iter().filter(is_index).count();
    let known = |change: &&Value| match text(change, "element") {
        "index" => text(change, "index_type") == "btree",
        _ => {
            let now = change
                .get("default")
                .and_then(Value::as_str)
                .is_some_and(|default| default.to_ascii_uppercase().contains("CURRENT"));
            let types = [
                "int",
                "smallint",
                "bigint",
                "tinyint",
                "boolean",
                "varchar",
                "decimal",
                "date",
                "datetime",
                "timestamp",
            ];
            types.contains(&text(change, "type")) && !now
        }
    };
    // An index on a column that is added with it works differently.
    if (indexes == 0 || indexes == changes.len()) && changes.iter().all(known) {
        return None;
    }
    Some("the change is not known to work without a lock".to_owned())
}

fn list<'a>(facts: &'a Map<String, Value>, name: &str) -> &'a [Value] {
    facts.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn list_of<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The server returns numbers as text.
fn count(value: &Value, name: &str) -> Option<u64> {
    let value = value.get(name)?;
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests;
