//! Building the modules as static binaries.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{modules, root, Outcome};

const MUSL: &str = "x86_64-unknown-linux-musl";
const GNU: &str = "x86_64-unknown-linux-gnu";

/// Builds them for musl where the toolchain has it, else for glibc, and puts them into
/// `library/`.
pub fn build(_: &[String]) -> Outcome {
    let target = if has_target(MUSL) { MUSL } else { GNU };
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root()).args([
        "build",
        "--release",
        "--locked",
        "--bins",
        "--target",
        target,
    ]);
    // Apart from other builds, whose flags differ.
    cargo.args(["--target-dir", "target/static"]);
    cargo.env("RUSTFLAGS", "-C target-feature=+crt-static -C relocation-model=static");
    let modules = modules::all();
    for module in &modules {
        cargo.args(["--package", module.name]);
    }
    let status = cargo.status().map_err(|error| format!("cannot run cargo: {error}"))?;
    if !status.success() {
        return Err("cargo build failed".to_owned());
    }
    for module in &modules {
        let built = root().join("target/static").join(target).join("release").join(module.name);
        check_static(&built)?;
        install(&built, &path_of(module.name))?;
    }
    Ok(())
}

/// Where a built module is.
pub fn path_of(name: &str) -> PathBuf {
    root().join("library").join(name)
}

fn has_target(target: &str) -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output =
        Command::new(rustc).args(["--print", "target-libdir", "--target", target]).output();
    output.is_ok_and(|output| {
        let directory = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success() && Path::new(&directory).is_dir()
    })
}

/// A program that wants an interpreter is not static.
fn check_static(path: &Path) -> Outcome {
    let bytes =
        std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let number = |at: usize, length: usize| -> Option<u64> {
        let field = bytes.get(at..at + length)?;
        Some(field.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    let interpreter = || {
        let (headers, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
        (0..count).find(|index| {
            let at = usize::try_from(headers + index * size).unwrap_or(usize::MAX - 8);
            number(at, 4) == Some(3) // PT_INTERP
        })
    };
    if !bytes.starts_with(b"\x7fELF\x02") {
        return Err(format!("{} is not a 64-bit ELF file", path.display()));
    }
    match interpreter() {
        None => Ok(()),
        Some(_) => Err(format!("{} is not static: it names an interpreter", path.display())),
    }
}

/// Replaces it in one step: a playbook may be running.
fn install(from: &Path, to: &Path) -> Outcome {
    if std::fs::read(from).ok() == std::fs::read(to).ok() {
        return Ok(());
    }
    let new = to.with_extension("new");
    std::fs::copy(from, &new)
        .and_then(|_| std::fs::rename(&new, to))
        .map_err(|error| format!("cannot write {}: {error}", to.display()))
}
