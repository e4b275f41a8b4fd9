//! Finds the modules' programs: links to the shipped one under the modules' names, as in the
//! collection. Cargo tells a test only where the programs of its own package are, so it is
//! built once per test program, with the profile and into the directory that the test itself
//! was built with. On an up-to-date tree that takes a few tenths of a second.

use std::env;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The program of a module. `OXISTRANO_BIN_DIR` names a directory of built ones, for
/// testing those that are shipped: `OXISTRANO_BIN_DIR=$PWD/plugins/modules cargo test`.
pub fn binary(module: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| match env::var_os("OXISTRANO_BIN_DIR") {
        Some(directory) => directory.into(),
        None => link(&build()),
    });
    let program = directory.join(module);
    assert!(program.is_file(), "there is no program {}", program.display());
    program
}

/// A directory beside the program with a link to it for each module, as the program itself
/// tells them.
fn link(profile: &Path) -> PathBuf {
    let output = Command::new(profile.join("oxistrano")).output().expect("the program");
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("its JSON");
    let directory = profile.join("oxistrano-modules");
    std::fs::create_dir_all(&directory).expect("a directory for the links");
    for module in said["modules"].as_array().expect("its modules") {
        // Another test may have made it.
        let _ = symlink("../oxistrano", directory.join(module.as_str().expect("a name")));
    }
    directory
}

fn build() -> PathBuf {
    // target[/TRIPLE]/PROFILE/deps/test-0123456789abcdef
    let test = env::current_exe().expect("the test's own path");
    let profile = test.ancestors().nth(2).expect("the directory of the profile").to_owned();
    let target = profile
        .ancestors()
        .skip(1)
        .find(|directory| directory.join(".rustc_info.json").is_file())
        .expect("Cargo's target directory above the test");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root).args(["build", "--quiet", "--package", "oxistrano", "--target-dir"]);
    cargo.arg(target);
    let name = |path: &Path| path.file_name().unwrap_or_default().to_owned();
    match name(&profile) {
        debug if debug == "debug" => {}
        other => {
            cargo.arg("--profile").arg(other);
        }
    }
    if let Some(above) = profile.parent().filter(|above| *above != target) {
        cargo.arg("--target").arg(name(above));
    }
    let output = cargo.output().expect("cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    profile
}
