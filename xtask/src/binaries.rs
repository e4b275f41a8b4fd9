//! Building the shipped program, static, and the links under the modules' names.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::{CROSS_DIRECTORY, Outcome, STATIC, cargo, cross, reproducible, root};

/// Where the programs are, one for each system that they were built for.
const PROGRAMS: &str = "plugins/plugin_utils/programs";
/// What it can be built for, by the word of `uname -m`.
pub const PROCESSORS: [&str; 2] = ["x86_64", "aarch64"];
/// Where Ansible looks for modules.
const MODULES: &str = "plugins/modules";

/// Builds it for this machine's processor; with `--all` for the others as well. With `--compile` it
/// only compiles it for the others, so that `--all` has nothing left to compile.
pub fn build(arguments: &[String]) -> Outcome {
    let own = std::env::consts::ARCH;
    if arguments.iter().any(|argument| argument == "--compile") {
        for processor in PROCESSORS.into_iter().filter(|processor| *processor != own) {
            compile_for(processor, &cross::variables(processor)?)?;
        }
        return Ok(());
    }
    let target = targets()
        .into_iter()
        .find(|target| has_target(target))
        .ok_or("the Rust toolchain has no target for Linux on this processor")?;
    let program = path_for(own);
    let changed = install(&compile(&target, "target/static", &[])?, &program)?;
    let modules = modules_of(&program)?;
    link(&root().join(MODULES), "..", &program, &modules)?;
    let all = arguments.iter().any(|argument| argument == "--all");
    for processor in PROCESSORS.into_iter().filter(|processor| *processor != own) {
        if all {
            match cross::variables(processor) {
                Ok(variables) => build_other(processor, &variables, &modules)?,
                Err(why) => eprintln!("built for {own} alone, not for {processor}: {why}"),
            }
        } else if changed && path_for(processor).exists() {
            // It would be sent to hosts, beside plugins that are newer.
            remove(processor)?;
            eprintln!(
                "removed the program for {processor}, which is older: `cargo xtask build --all` makes it anew"
            );
        }
    }
    Ok(())
}

fn build_other(processor: &str, variables: &[(String, PathBuf)], modules: &[String]) -> Outcome {
    let program = path_for(processor);
    install(&compile_for(processor, variables)?, &program)?;
    let directory = links_of(processor);
    std::fs::create_dir_all(&directory)
        .map_err(|error| format!("cannot make {}: {error}", directory.display()))?;
    link(&directory, "../..", &program, modules)
}

fn remove(processor: &str) -> Outcome {
    let failed = |error| format!("cannot remove the program for {processor}: {error}");
    std::fs::remove_file(path_for(processor)).map_err(failed)?;
    match std::fs::remove_dir_all(links_of(processor)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(error)),
        _ => Ok(()),
    }
}

fn compile_for(processor: &str, variables: &[(String, PathBuf)]) -> Result<PathBuf, String> {
    compile(&format!("{processor}-unknown-linux-gnu"), CROSS_DIRECTORY, variables)
}

/// Builds the program for a target below `directory`, and returns where it is.
fn compile(
    target: &str,
    directory: &str,
    variables: &[(String, PathBuf)],
) -> Result<PathBuf, String> {
    let mut cargo = cargo();
    cargo.args(["build", "--release", "--locked", "--package", "oxistrano", "--bin", "oxistrano"]);
    // Apart from other builds, whose flags differ.
    cargo.args(["--target", target, "--target-dir", directory]);
    cargo.envs(variables.iter().map(|(name, value)| (name, value)));
    reproducible::prepare(&mut cargo, STATIC);
    let status = cargo.status().map_err(|error| format!("cannot run cargo: {error}"))?;
    if !status.success() {
        return Err(format!("cargo build failed for {target}"));
    }
    let built = root().join(directory).join(target).join("release/oxistrano");
    check_static(&built)?;
    Ok(built)
}

/// Where the program for a processor is.
pub fn path_for(processor: &str) -> PathBuf {
    root().join(PROGRAMS).join(format!("oxistrano-linux-{processor}"))
}

/// Where ansible-core's own way finds the modules for another processor
/// (`oxistrano.deploy.linux_aarch64.release_info`).
fn links_of(processor: &str) -> PathBuf {
    root().join(MODULES).join(format!("linux_{processor}"))
}

/// What it can be built for on this processor, the best first: musl where the toolchain has it.
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

/// Replaces it in one step: a playbook may be running. Returns whether it was another one.
fn install(from: &Path, to: &Path) -> Result<bool, String> {
    if std::fs::read(from).ok() == std::fs::read(to).ok() {
        return Ok(false);
    }
    let new = to.with_extension("new");
    std::fs::create_dir_all(root().join(PROGRAMS))
        .and_then(|()| std::fs::copy(from, &new))
        .and_then(|_| std::fs::rename(&new, to))
        .map(|()| true)
        .map_err(|error| format!("cannot write {}: {error}", to.display()))
}

/// The modules that a program has in it, by its own answer to a call that names none.
fn modules_of(program: &Path) -> Result<Vec<String>, String> {
    let failed = |why: String| format!("cannot ask {} for its modules: {why}", program.display());
    let output = Command::new(program)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(error.to_string()))?;
    let answer: Value =
        serde_json::from_slice(&output.stdout).map_err(|error| failed(error.to_string()))?;
    let names = answer["modules"].as_array().into_iter().flatten();
    let names: Vec<_> = names.filter_map(Value::as_str).map(str::to_owned).collect();
    if names.is_empty() { Err(failed(format!("it says {answer}"))) } else { Ok(names) }
}

/// In this directory, each module is a link to the program, and no link is left of one that is
/// gone. `up` leads from there to `plugins`.
fn link(directory: &Path, up: &str, program: &Path, modules: &[String]) -> Outcome {
    let failed = |error| format!("cannot make the links in {}: {error}", directory.display());
    let name = program.file_name().unwrap_or_default();
    let target = Path::new(up).join("plugin_utils/programs").join(name);
    // One that is right stays: a play or a linter may be reading it.
    let is_right = |path: &Path| {
        let is_module = modules.iter().any(|module| path.file_name() == Some(module.as_ref()));
        is_module && std::fs::read_link(path).is_ok_and(|to| to == target)
    };
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_symlink() && path.extension().is_none() && !is_right(&path) {
            std::fs::remove_file(path).map_err(failed)?;
        }
    }
    for path in modules.iter().map(|module| directory.join(module)) {
        if !is_right(&path) {
            symlink(&target, path).map_err(failed)?;
        }
    }
    Ok(())
}
