//! The PHP scripts without what only people read, and packed: they are in every program, on every host.

use std::io::Write;
use std::{env, fs, path::Path};

#[expect(clippy::disallowed_methods, reason = "this is no module: it runs where it is built")]
fn main() {
    let out = env::var("OUT_DIR").expect("cargo sets it");
    println!("cargo::rerun-if-changed=build.rs");
    for name in ["pending", "online", "code"] {
        let source = format!("src/php/{name}.php");
        println!("cargo::rerun-if-changed={source}");
        let text = fs::read_to_string(&source).expect("the script is there");
        let lines = text.lines().map(str::trim).filter(|line| {
            !line.is_empty() && !line.starts_with("//") && !line.starts_with("<?php")
        });
        let text = lines.collect::<Vec<_>>().join("\n");
        assert!(text.len() < 1 << 15, "src/script.rs has no room for {source}");
        let file = fs::File::create(Path::new(&out).join(name)).expect("OUT_DIR can be written");
        let mut packed = flate2::write::DeflateEncoder::new(file, flate2::Compression::best());
        packed.write_all(text.as_bytes()).and_then(|()| packed.finish()).expect("it is written");
    }
}
