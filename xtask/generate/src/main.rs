//! Writes what is generated: documentation of the modules and the roles, what Ansible needs to
//! know of each module. `cargo xtask gen` runs it.
//!
//! A package of its own, because it has all modules in it, and `cargo xtask build` should not.

mod collection;
mod documentation;
mod page;
mod variables;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let check = std::env::args().skip(1).any(|argument| argument == "--check");
    match generate(check) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("xtask gen: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the repository.
fn root() -> PathBuf {
    let generate = Path::new(env!("CARGO_MANIFEST_DIR"));
    generate.ancestors().nth(2).unwrap_or(generate).to_owned()
}

fn generate(check: bool) -> Result<(), String> {
    let mut files = documentation::files();
    files.push(page::page());
    files.push(collection::runtime());
    files.extend(variables::pages()?);
    let mut stale = Vec::new();
    for (path, text) in files {
        let full = root().join(&path);
        if std::fs::read_to_string(&full).ok().as_deref() == Some(&text) {
            continue;
        }
        if check {
            stale.push(path);
        } else {
            std::fs::write(&full, text).map_err(|error| format!("cannot write {path}: {error}"))?;
            eprintln!("wrote {path}");
        }
    }
    stale.extend(collection::action_plugins(check)?);
    if stale.is_empty() {
        Ok(())
    } else {
        Err(format!("not up to date: {}; run `cargo xtask gen` and commit", stale.join(", ")))
    }
}
