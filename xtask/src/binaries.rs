//! Building the shipped program, static, and the links under the modules' names.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{reproducible, root, Outcome};

/// Where the programs are, one for each system that they were built for.
const PROGRAMS: &str = "plugins/plugin_utils/programs";
/// What it can be built for, by the word of `uname -m`.
pub const PROCESSORS: [&str; 2] = ["x86_64", "aarch64"];
/// Where Ansible looks for modules.
const MODULES: &str = "plugins/modules";

/// Builds it for musl where the toolchain has it, else for glibc.
pub fn build(_: &[String]) -> Outcome {
    let target = targets()
        .into_iter()
        .find(|target| has_target(target))
        .ok_or("the Rust toolchain has no target for Linux on this processor")?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    cargo.args(["build", "--release", "--locked", "--package", "oxistrano", "--bin", "oxistrano"]);
    // Apart from other builds, whose flags differ.
    cargo.args(["--target", &target, "--target-dir", "target/static"]);
    reproducible::prepare(&mut cargo, "-C target-feature=+crt-static -C relocation-model=static");
    let status = cargo.status().map_err(|error| format!("cannot run cargo: {error}"))?;
    if !status.success() {
        return Err("cargo build failed".to_owned());
    }
    let built = root().join("target/static").join(target).join("release/oxistrano");
    check_static(&built)?;
    let program = path_for(std::env::consts::ARCH);
    install(&built, &program)?;
    link(&program)
}

/// Where the program for a processor is.
pub fn path_for(processor: &str) -> PathBuf {
    root().join(PROGRAMS).join(format!("oxistrano-linux-{processor}"))
}

/// What it can be built for here, the best first.
fn targets() -> Vec<String> {
    ["musl", "gnu"].map(|c| format!("{}-unknown-linux-{c}", std::env::consts::ARCH)).into()
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
    std::fs::create_dir_all(root().join(PROGRAMS))
        .and_then(|()| std::fs::copy(from, &new))
        .and_then(|_| std::fs::rename(&new, to))
        .map_err(|error| format!("cannot write {}: {error}", to.display()))
}

/// Each module is a link to the program, and no link is left of one that is gone.
fn link(program: &Path) -> Outcome {
    let directory = root().join(MODULES);
    let failed = |error| format!("cannot make the links in {}: {error}", directory.display());
    for entry in std::fs::read_dir(&directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_symlink() && path.extension().is_none() {
            std::fs::remove_file(path).map_err(failed)?;
        }
    }
    let name = program.file_name().unwrap_or_default();
    let target = Path::new("../plugin_utils/programs").join(name);
    for module in oxistrano::MODULES {
        symlink(&target, directory.join(module.name)).map_err(failed)?;
    }
    Ok(())
}
