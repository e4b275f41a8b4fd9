//! docs/waits.md lists every place of the modules at which a process waits for somebody else. A new
//! one is in the list, with its end and what a signal does to it, or this fails.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What waits: a call of this name, with these arguments if any are named.
const CALLS: [&str; 13] = [
    "sleep(",
    "wait(",
    "wait_timeout(",
    "wait_with_output(",
    "join()",
    "recv(",
    "recv_timeout(",
    "poll(",
    "flock(",
    "connect(",
    "connect_timeout(",
    "read_to_end(",
    "io::copy(",
];

/// File and call, and how often it is there.
type Waits = BTreeMap<(String, String), usize>;

fn in_sources(directory: &Path, root: &Path, waits: &mut Waits) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            in_sources(&path, root, waits);
            continue;
        }
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            for call in CALLS {
                let found = line.match_indices(call).filter(|(at, _)| is_call(&line[..*at]));
                let count = found.count();
                if count > 0 {
                    let word = call.trim_end_matches(['(', ')']).to_owned();
                    *waits.entry((name.clone(), word)).or_default() += count;
                }
            }
        }
    }
}

/// Whether what stands before it makes it neither a part of another name nor a definition.
fn is_call(before: &str) -> bool {
    let is_name = before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
    !is_name && !before.ends_with("fn ")
}

/// The rows `| `modules/…` | `sleep` × 2 | …`.
fn in_the_list(text: &str) -> Waits {
    let mut waits = Waits::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, file, call, waits_for, end, signal, _] = cells.as_slice() else { continue };
        let Some(file) = file.strip_prefix('`').and_then(|f| f.strip_suffix('`')) else { continue };
        let says = [waits_for, end, signal];
        assert!(says.iter().all(|cell| !cell.is_empty()), "a cell is empty: {line}");
        for one in call.split(", ") {
            let (word, count) = one.split_once(" × ").unwrap_or((one, "1"));
            let key = (file.to_owned(), word.trim_matches('`').to_owned());
            assert!(waits.insert(key, count.parse().unwrap()).is_none(), "twice: {line}");
        }
    }
    waits
}

#[test]
fn every_wait_is_in_the_list_with_its_end() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut there = Waits::new();
    for entry in fs::read_dir(root.join("modules")).unwrap() {
        let sources = entry.unwrap().path().join("src");
        if sources.is_dir() {
            in_sources(&sources, &root, &mut there);
        }
    }
    let listed = in_the_list(&fs::read_to_string(root.join("docs/waits.md")).unwrap());
    let missing: Vec<_> = there.iter().filter(|(key, n)| listed.get(key) != Some(n)).collect();
    let gone: Vec<_> = listed.iter().filter(|(key, n)| there.get(key) != Some(n)).collect();
    assert!(
        missing.is_empty() && gone.is_empty(),
        "docs/waits.md: in the sources and not there: {missing:#?}; there and not in the sources: {gone:#?}"
    );
    assert!(there.len() > 20, "the search finds nothing: {there:?}");
}

#[test]
fn a_wait_is_seen_and_a_definition_is_none() {
    assert!(is_call("        thread::") && is_call("  running."));
    assert!(!is_call("    pub fn ") && !is_call("self.over_"));
    let listed =
        in_the_list("| file | x | a | b | c |\n| `a.rs` | `wait` × 2, `sleep` | a | b | c |\n");
    assert_eq!(listed.len(), 2);
}
