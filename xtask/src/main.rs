//! The project's own tools. `make` calls them; `cargo xtask` lists them.

mod binaries;
mod cross;
mod new;
mod reproducible;
mod sizes;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// What went wrong, for people.
pub type Outcome = Result<(), String>;

/// How rustc makes a static program.
pub const STATIC: &str = "-C target-feature=+crt-static -C relocation-model=static";

/// Where programs for other processors are compiled: such a build does not wait for one for this
/// machine.
pub const CROSS_DIRECTORY: &str = "target/cross";

/// Its name, what it does, the function.
type Task = (&'static str, &'static str, fn(&[String]) -> Outcome);

const TASKS: &[Task] = &[
    (
        "build",
        "build the program, static, and the links to it (--all: for aarch64 as well; --compile: only compile for that)",
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

/// Runs the package that has all modules in it.
fn generate(arguments: &[String]) -> Outcome {
    let status = cargo()
        .args(["run", "--quiet", "--locked", "--package", "xtask-generate", "--"])
        .args(arguments)
        .status()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    // It has said why.
    if status.success() { Ok(()) } else { std::process::exit(1) }
}

/// The cargo that runs this, in the root of the repository.
fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    cargo
}
