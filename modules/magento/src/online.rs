//! Whether an upgrade can be done while the live release goes on working: only what adds, and only what
//! the server does without a lock. What is not known to be safe is not.

use std::path::{Path, PathBuf};

use oxistrano_core::dir::read_followed;
use oxistrano_core::json::{Map, Value};

use crate::pending::Pending;

/// As much of a module's file is compared.
const MOST: u64 = 1 << 20;
/// The parts without which nothing can be said.
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
    /// What the new one would do.
    pub pending: &'a Pending,
    /// Its root.
    pub release: &'a Path,
    /// That of the live one.
    pub live: &'a Path,
    /// Whether Magento says that the database needs an upgrade.
    pub upgrade: bool,
    /// Patches and scripts that may run, by their classes; `*` is each.
    pub allowed: &'a [String],
    /// Megabytes of a table in which something may be built; 0 is no bound.
    pub most: u64,
}

impl Pair<'_> {
    /// Why the upgrade cannot be done online; empty if it can.
    pub fn obstacles(&self) -> Vec<String> {
        let facts = &self.pending.0;
        let mut found = Vec::new();
        let unknown = facts.get("unknown").and_then(Value::as_object);
        for (part, why) in unknown.into_iter().flatten() {
            found.push(format!("what the upgrade does ({part}) cannot be told: {}", word(why)));
        }
        if unknown.is_none() {
            for part in PARTS.iter().filter(|part| !facts.contains_key(**part)) {
                found.push(format!("what the upgrade does ({part}) was not told"));
            }
            let pending = ["changes", "data_patches", "schema_patches", "versions"];
            if self.upgrade && pending.iter().all(|part| list(facts, part).is_empty()) {
                found.push("why Magento wants an upgrade was not found".to_owned());
            }
        }
        if !self.live.join("bin/magento").is_file() {
            found.push("there is no live release that could go on working".to_owned());
        }
        found.extend(
            list(facts, "changes")
                .iter()
                .filter_map(|change| self.pending.obstacle(change, self.most)),
        );
        self.code(&mut found);
        self.rest(&mut found);
        // A table that cannot be altered is one reason, however many changes it has.
        let mut told: Vec<String> = Vec::new();
        for why in found {
            if !told.contains(&why) {
                told.push(why);
            }
        }
        told
    }

    /// What runs beside the declared schema.
    fn code(&self, found: &mut Vec<String>) {
        let facts = &self.pending.0;
        for patch in list(facts, "data_patches").iter().map(word) {
            if !self.allows(patch) {
                found.push(format!("data patch {patch} would change data under the live release"));
            }
        }
        for patch in list(facts, "schema_patches").iter().map(word) {
            if !self.allows(patch) {
                found.push(format!(
                    "schema patch {patch} would change tables under the live release"
                ));
            }
        }
        for version in list(facts, "versions") {
            let (module, current) = (text(version, "module"), text(version, "current"));
            for class in list_of(version, "scripts").iter().map(word) {
                found.push(format!("the setup script {class} would run under the live release"));
            }
            if current != "none" && facts.get("blue_green") != Some(&Value::Bool(true)) {
                found.push(format!(
                    "the live release would stop, because the setup_version of {module} goes from {current} to {}",
                    text(version, "required")
                ));
            }
        }
        for script in list(facts, "scripts") {
            let (class, file) = (text(script, "class"), text(script, "file"));
            let known = class.starts_with("Magento\\") && self.is_the_same(file);
            if !known && !self.allows(class) {
                found.push(format!(
                    "{class}, which runs in every upgrade, would run under the live release"
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
                found.push(format!("the queues at the message broker would change ({file})"));
            }
        }
        for trigger in list(facts, "triggers").iter().map(word) {
            found.push(format!(
                "trigger {trigger} would be made anew, and indexers would miss changes"
            ));
        }
        let gone = facts.get("themes").map_or(&[][..], |themes| list_of(themes, "gone"));
        for theme in gone.iter().map(word) {
            found.push(format!(
                "theme {theme}, which this release does not have, would become a virtual one"
            ));
        }
        for table in list(facts, "emptied").iter().map(word) {
            // Between two steps of an indexer.
            if !["_tmp", "_idx", "_replica"].iter().any(|end| table.ends_with(end)) {
                found.push(format!("table {table}, which is in memory, would be emptied"));
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
        if Path::new(file).is_absolute() || file.split('/').any(|part| part == "..") {
            return false;
        }
        let read = |root: &Path| -> Option<Vec<u8>> {
            let path: PathBuf = root.join(file);
            read_followed(&path, MOST).ok().filter(|bytes| (bytes.len() as u64) < MOST)
        };
        let new = read(self.release);
        new.is_some() && new == read(self.live)
    }
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

    /// As a module returns it: each change with what keeps it from being made online.
    pub fn to_json(&self, most: u64) -> Value {
        let mut map = self.0.clone();
        // Hundreds of files, to be compared with the live ones.
        for name in ["scripts", "queues"] {
            map.remove(name);
        }
        for change in map.get_mut("changes").and_then(Value::as_array_mut).into_iter().flatten() {
            let obstacle = self.obstacle(change, most);
            change["obstacle"] = obstacle.into();
        }
        Value::Object(map)
    }
}

/// Why the live release's code does not go on working after this change, whatever the server does.
fn breaks(change: &Value) -> Option<String> {
    let (table, name) = (text(change, "table"), text(change, "name"));
    let is = |key: &str| change.get(key).and_then(Value::as_bool).unwrap_or(false);
    let why = match (text(change, "operation"), text(change, "element")) {
        _ if is("fills") => format!("data would be moved into table {table}"),
        ("create_table", _) => {
            // With them, rows of the new table keep the live release from deleting others.
            let blocking = list_of(change, "references").iter().find(|to| {
                !["CASCADE", "SET NULL"]
                    .contains(&text(to, "on_delete").to_ascii_uppercase().as_str())
            })?;
            format!(
                "rows of the new table {table} would keep those of {} from being deleted",
                text(blocking, "table")
            )
        }
        ("add_column", _) if is("identity") => {
            format!("table {table} gets a column that counts, {name}")
        }
        ("add_column", _) => {
            if is("nullable") || change.get("default").is_some_and(|default| !default.is_null()) {
                return None;
            }
            format!(
                "column {name} of table {table} would be new, may not be empty and has no default: the live \
                 release does not fill it"
            )
        }
        ("add_complex_element", "index") => return None,
        ("add_complex_element", _) => {
            format!(
                "table {table} would refuse what the live release writes ({} {name})",
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
        (other, _) => format!("{other} of table {table} is not known"),
    };
    Some(why)
}

/// Why altering this table keeps others from using it.
fn locks(changes: &[&Value], told: &Value, server: &Value) -> Option<String> {
    for name in ["alter_algorithm", "own_alter_algorithm", "old_alter_table", "own_old_alter_table"]
    {
        let set = text(server, name);
        if !["", "OFF", "DEFAULT", "INPLACE", "NOCOPY", "INSTANT"].contains(&set) {
            return Some(format!("the server is told to copy tables ({name} is {set})"));
        }
    }
    if text(told, "engine") != "InnoDB" {
        return Some(format!("its engine is {}", text(told, "engine")));
    }
    let says = |how: &str| told.get(how).and_then(Value::as_bool);
    let Some(inplace) = says("inplace") else {
        if text(server, "wsrep_on") == "ON" {
            return Some("a Galera cluster may stand still for as long as it takes".to_owned());
        }
        let why = unproved(changes, told, text(server, "version"))?;
        return Some(format!("{why}, and the server could not be asked ({})", text(server, "why")));
    };
    if !inplace {
        return Some(text(told, "inplace_error").to_owned());
    }
    // Everybody in the cluster waits for everybody's ALTER.
    if text(server, "wsrep_on") == "ON" && says("instant") != Some(true) {
        return Some("a Galera cluster stands still for as long as it takes".to_owned());
    }
    None
}

/// Why altering this table, though nobody is kept from using it, is nothing to do beside visitors: the server reads all of it,
/// keeps what is written meanwhile, and replicas are behind by as long as it takes.
fn loads(changes: &[&Value], told: &Value, most: u64) -> Option<String> {
    let instant = told.get("instant").and_then(Value::as_bool);
    // Without the server's word: a column is one in its list of columns.
    let built = instant.map_or_else(
        || changes.iter().any(|change| text(change, "element") == "index"),
        |instant| !instant,
    );
    let megabytes = count(told, "bytes").unwrap_or(0) >> 20;
    (built && most > 0 && megabytes > most).then(|| {
        format!(
            "has {megabytes} MB, and what is new would have to be built in it, which takes long and loads the server; the bound \
             is {most} MB"
        )
    })
}

/// Without the server's word: what InnoDB has done without a lock for years. `None` if it is that.
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
        return Some(format!("not known of server {version}"));
    }
    let plain = ["Dynamic", "Compact"].contains(&text(told, "row_format"))
        && count(told, "odd_indexes") == Some(0)
        && !["partitioned", "compressed", "encrypt"]
            .iter()
            .any(|word| text(told, "options").to_ascii_lowercase().contains(word));
    if !plain {
        return Some("it is no plain table".to_owned());
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
    // An index on a column that is added with it takes another way.
    if (indexes == 0 || indexes == changes.len()) && changes.iter().all(known) {
        return None;
    }
    Some("not known to be done without a lock".to_owned())
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

/// The server's numbers come as text.
fn count(value: &Value, name: &str) -> Option<u64> {
    let value = value.get(name)?;
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests;
