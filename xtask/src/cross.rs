//! Building for aarch64 on another processor, by Debian's tools (`scripts/cross`).

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Command;

use crate::{CROSS_DIRECTORY, Outcome, STATIC, root};

/// What starts a program for aarch64 here, for `cargo test`: the emulator, in a namespace in which
/// the programs that it starts run as well.
const RUNNER: [&str; 3] =
    ["tests/playbooks/arm64.py", "run", ".build/arm64/qemu/usr/bin/qemu-aarch64"];

/// Runs cargo for aarch64, with the arguments given.
pub fn cargo(arguments: &[String]) -> Outcome {
    let variables = variables("aarch64")?;
    let [script, how, qemu] = RUNNER;
    let root = root();
    let runner =
        format!("python3 {} {how} {}", root.join(script).display(), root.join(qemu).display());
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&root).args(arguments);
    cargo.envs(variables.iter().map(|(name, value)| (name, value)));
    cargo.env("CARGO_BUILD_TARGET", "aarch64-unknown-linux-gnu");
    cargo.env("CARGO_TARGET_DIR", root.join(CROSS_DIRECTORY));
    cargo.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", runner);
    cargo.env("RUSTFLAGS", STATIC);
    let status = cargo.status().map_err(|error| format!("cannot run cargo: {error}"))?;
    status.success().then_some(()).ok_or_else(|| format!("cargo {} failed", arguments.join(" ")))
}

/// The variables with which cargo builds for another processor, by the tools that
/// `scripts/cross` makes; or why there are none.
pub fn variables(processor: &str) -> Result<Vec<(String, PathBuf)>, String> {
    if processor != "aarch64" {
        return Err("scripts/cross makes no tools for it".to_owned());
    }
    let failed = |error| format!("cannot run scripts/cross: {error}");
    let mut script = Command::new(root().join("scripts/cross"))
        .stderr(std::process::Stdio::piped())
        .spawn()
        .map_err(failed)?;
    // It may take minutes, so it is heard at once. Its last line says why it has failed.
    let mut last = String::new();
    for line in script.stderr.take().into_iter().flat_map(|said| BufReader::new(said).lines()) {
        last = line.map_err(failed)?;
        eprintln!("{last}");
    }
    if !script.wait().map_err(failed)?.success() {
        return Err(last);
    }
    let directory = std::env::var_os("OXISTRANO_CROSS").map(PathBuf::from);
    let directory = directory.unwrap_or_else(|| root().join(".build/cross"));
    let tool = |name: &str| directory.join("bin").join(name);
    Ok(vec![
        ("RUSTC".to_owned(), tool("rustc")),
        ("CC_aarch64_unknown_linux_gnu".to_owned(), tool("aarch64-linux-gnu-gcc")),
        ("AR_aarch64_unknown_linux_gnu".to_owned(), tool("aarch64-linux-gnu-ar")),
        ("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER".to_owned(), tool("aarch64-linux-gnu-gcc")),
    ])
}
