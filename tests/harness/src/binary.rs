//! Finds the programs. Cargo tells a test only where the programs of its own package
//! are, so the others are built once per test program, with the profile and into the
//! directory that the test itself was built with. On an up-to-date tree that takes a
//! few tenths of a second.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The modules that work on releases; what all of them have in common is tested for all.
pub const MODULES: [&str; 8] = [
    "release_setup",
    "release_unpack",
    "release_copy",
    "release_link",
    "release_activate",
    "release_prune",
    "release_rollback",
    "release_info",
];

/// The modules that run Magento's command, or stand in for it.
pub const MAGENTO_MODULES: [&str; 5] =
    ["magento_status", "magento_maintenance", "magento_upgrade", "magento_cache", "magento_cron"];

/// The program of a module. `OXISTRANO_BIN_DIR` names a directory of built ones, for
/// testing those that are shipped: `OXISTRANO_BIN_DIR=$PWD/library cargo test`.
pub fn binary(module: &str) -> PathBuf {
    static RELEASES: OnceLock<PathBuf> = OnceLock::new();
    static MAGENTO: OnceLock<PathBuf> = OnceLock::new();
    // The one family does not need the other.
    let (directory, family) = match MAGENTO_MODULES.contains(&module) {
        true => (&MAGENTO, &MAGENTO_MODULES[..]),
        false => (&RELEASES, &MODULES[..]),
    };
    let directory = directory.get_or_init(|| match env::var_os("OXISTRANO_BIN_DIR") {
        Some(directory) => directory.into(),
        None => build(family),
    });
    let program = directory.join(module);
    assert!(program.is_file(), "there is no program {}", program.display());
    program
}

fn build(modules: &[&str]) -> PathBuf {
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
    cargo.current_dir(root).args(["build", "--quiet", "--bins", "--target-dir"]).arg(target);
    for module in modules {
        cargo.args(["--package", module]);
    }
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
