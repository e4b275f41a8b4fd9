//! What makes two builds of the same commit the same bytes, wherever they are made: no path of
//! this machine gets into the program. `scripts/release-check` compares two.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use crate::root;

/// Lets a build by `cargo` with these `flags` for the compiler name sources by paths that are
/// the same everywhere. The location of a panic has one, and so may an assertion in C.
///
/// And C leaves out what is there twice: zstd decodes with its smaller tables and without a variant for
/// windows that are larger than the cache. That is 50 kB less, and files are written slower than it decodes.
pub fn prepare(cargo: &mut Command, flags: &str) {
    // Separated by this, so that a path may have spaces in it.
    let mut encoded: Vec<OsString> = flags.split_whitespace().map(Into::into).collect();
    let mut for_c = std::env::var_os("CFLAGS").unwrap_or_default();
    for_c.push(" -DHUF_FORCE_DECOMPRESS_X1 -DZSTD_FORCE_DECOMPRESS_SEQUENCES_SHORT");
    for (directory, name) in [(cargo_home(), "/cargo"), (root(), "/oxistrano")] {
        let mut flag = OsString::from("--remap-path-prefix=");
        flag.push(&directory);
        flag.push("=");
        flag.push(name);
        encoded.push(flag);
        // The crate cc splits this at spaces.
        if !directory.as_os_str().as_encoded_bytes().contains(&b' ') {
            for_c.push(" -ffile-prefix-map=");
            for_c.push(&directory);
            for_c.push("=");
            for_c.push(name);
        }
    }
    cargo.env_remove("RUSTFLAGS");
    cargo.env("CARGO_ENCODED_RUSTFLAGS", encoded.join(&OsString::from("\x1f")));
    cargo.env("CFLAGS", for_c);
}

/// Where cargo keeps the sources of crates.
fn cargo_home() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home).unwrap_or_default()
}
