//! The project's own tools. `make` calls them; `cargo xtask` lists them.

mod binaries;
mod collection;
mod cross;
mod documentation;
mod new;
mod page;
mod reproducible;
mod sizes;
mod variables;

use std::path::PathBuf;
use std::process::ExitCode;

/// What went wrong, for people.
pub type Outcome = Result<(), String>;

/// Its name, what it does, the function.
type Task = (&'static str, &'static str, fn(&[String]) -> Outcome);

const TASKS: &[Task] = &[
    (
        "build",
        "build the program, static, and the links to it (--all: for aarch64 as well)",
        binaries::build,
    ),
    (
        "cross",
        "run cargo for aarch64, emulated: cargo xtask cross test -p oxistrano-core",
        cross::cargo,
    ),
    ("gen", "write generated documentation (--check: fail if it is not up to date)", generate),
    ("new", "NAME: make a module that builds, is documented and tested", new::new),
    ("sizes", "compare the program with xtask/sizes.txt (--write: note them there)", sizes::check),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let task = arguments.first().and_then(|name| TASKS.iter().find(|task| task.0 == name));
    let Some((name, _, run)) = task else {
        eprintln!("usage: cargo xtask TASK");
        for (name, what, _) in TASKS {
            eprintln!("  {name:<8} {what}");
        }
        return ExitCode::from(2);
    };
    match run(&arguments[1..]) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("xtask {name}: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the repository.
pub fn root() -> PathBuf {
    let xtask = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().map_or(xtask.clone(), PathBuf::from)
}

fn generate(arguments: &[String]) -> Outcome {
    let mut files = documentation::files();
    files.push(page::page());
    files.push(collection::runtime());
    files.extend(variables::pages()?);
    let check = arguments.iter().any(|argument| argument == "--check");
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
