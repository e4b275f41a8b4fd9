//! Makes the table of modules from the dependencies of this crate: each that is not of
//! the project's own mechanism (`oxistrano-…`) is a module.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn main() {
    let variable = |name| std::env::var_os(name).unwrap_or_default();
    println!("cargo::rerun-if-changed=Cargo.toml");
    let manifest = Path::new(&variable("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let output = Command::new(variable("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1", "--manifest-path"])
        .arg(&manifest)
        .output()
        .expect("cargo metadata");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo's JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let this = packages.iter().find(|package| package["name"] == "oxistrano").expect("this crate");
    let dependencies = this["dependencies"].as_array().expect("dependencies").iter();
    let mut table = String::from("&[\n");
    for name in dependencies
        .filter(|dependency| dependency["kind"].is_null())
        .filter_map(|dependency| dependency["name"].as_str())
        .filter(|name| !name.starts_with("oxistrano-"))
    {
        table += &format!("    {name}::PROGRAM,\n");
    }
    table += "]\n";
    #[expect(clippy::disallowed_methods, reason = "this is no module: it runs where it is built")]
    std::fs::write(Path::new(&variable("OUT_DIR")).join("modules.rs"), table).expect("the table");
}
