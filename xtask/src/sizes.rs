//! The binaries' sizes: every task sends one, so none may grow unnoticed.

use std::collections::BTreeMap;

use crate::{binaries, modules, root, Outcome};

const NOTED: &str = "xtask/sizes.txt";
/// What it may grow without being announced, in percent.
const GROWTH: u64 = 5;

/// Compares with what is noted, or notes.
pub fn check(arguments: &[String]) -> Outcome {
    let mut sizes = BTreeMap::new();
    for module in modules::all() {
        let size = std::fs::metadata(binaries::path_of(module.name))
            .map_err(|error| format!("{}: {error}; run `cargo xtask build` first", module.name))?
            .len();
        sizes.insert(module.name, size);
    }
    if arguments.iter().any(|argument| argument == "--write") {
        let text: String = sizes.iter().map(|(name, size)| format!("{name} {size}\n")).collect();
        return std::fs::write(root().join(NOTED), text)
            .map_err(|error| format!("cannot write {NOTED}: {error}"));
    }
    let noted =
        std::fs::read_to_string(root().join(NOTED)).map_err(|error| format!("{NOTED}: {error}"))?;
    let noted: BTreeMap<&str, u64> = noted
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(name, size)| Some((name, size.parse().ok()?)))
        .collect();
    let mut grown = Vec::new();
    for (name, size) in sizes {
        let before = noted.get(name).copied().unwrap_or(0);
        println_size(name, size, before);
        if size * 100 > before * (100 + GROWTH) {
            grown.push(name);
        }
    }
    if grown.is_empty() {
        Ok(())
    } else {
        Err(format!(
            "more than {GROWTH} % larger than noted: {}; if that is wanted, run `cargo xtask sizes --write` and say why in the commit",
            grown.join(", ")
        ))
    }
}

fn println_size(name: &str, size: u64, before: u64) {
    let change = if before == 0 {
        "new".to_owned()
    } else {
        format!("{:+.1} %", (size as f64 / before as f64 - 1.0) * 100.0)
    };
    eprintln!("{name:<18} {size:>9} bytes  {change}");
}
