//! The program's size: every host gets it, so it may not grow unnoticed.

use std::collections::BTreeMap;

use crate::{Outcome, binaries, root};

const NOTED: &str = "xtask/sizes.txt";
/// What it may grow without being announced, in percent.
const GROWTH: u64 = 5;
/// What it may have at all, in bytes.
const LIMIT: u64 = 3_600_000;

/// Compares with what is noted, or notes.
pub fn check(arguments: &[String]) -> Outcome {
    let text =
        std::fs::read_to_string(root().join(NOTED)).map_err(|error| format!("{NOTED}: {error}"))?;
    let noted: BTreeMap<&str, u64> = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(name, size)| Some((name, size.parse().ok()?)))
        .collect();
    let mut sizes = BTreeMap::new();
    let mut problems = Vec::new();
    let mut built = 0;
    for processor in binaries::PROCESSORS {
        let Ok(metadata) = std::fs::metadata(binaries::path_for(processor)) else { continue };
        let (size, before) = (metadata.len(), noted.get(processor).copied().unwrap_or(0));
        built += 1;
        eprintln!("{processor:<8} {size:>9} bytes  {}", change(size, before));
        sizes.insert(processor, size);
        if size * 100 > before * (100 + GROWTH) {
            problems.push(format!(
                "the program for {processor} is more than {GROWTH} % larger than noted; if that is wanted, run `cargo xtask sizes --write` and say why in the commit"
            ));
        }
        if size > LIMIT {
            problems.push(format!("the program for {processor} is larger than {LIMIT} bytes"));
        }
    }
    if built == 0 {
        return Err("nothing is built; run `cargo xtask build` first".to_owned());
    }
    if arguments.iter().any(|argument| argument == "--write") {
        let text: String = sizes.iter().map(|(name, size)| format!("{name} {size}\n")).collect();
        return std::fs::write(root().join(NOTED), text)
            .map_err(|error| format!("cannot write {NOTED}: {error}"));
    }
    if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
}

fn change(size: u64, before: u64) -> String {
    if before == 0 {
        return "new".to_owned();
    }
    format!("{:+.1} %", (size as f64 / before as f64 - 1.0) * 100.0)
}
