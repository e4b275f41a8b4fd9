//! A new module: its crate, its place in the list of modules, what is generated from that.

use std::fs;
use std::path::Path;

use crate::{Outcome, cargo, root};

const LIST: &str = "modules/oxistrano/Cargo.toml";

/// What every module's crate begins with; `@name@` and `@Type@` are replaced.
const FILES: [(&str, &str); 4] = [
    ("Cargo.toml", include_str!("new/Cargo.toml.in")),
    ("src/main.rs", include_str!("new/main.rs.in")),
    ("src/docs.rs", include_str!("new/docs.rs.in")),
    ("tests/it/main.rs", include_str!("new/test.rs.in")),
];

/// A module of releases has options that all of them have, and knows who deploys.
const LIB: &str = include_str!("new/lib.rs.in");
const RELEASE_LIB: &str = include_str!("new/release_lib.rs.in");

/// Makes the module that `arguments` name.
pub fn new(arguments: &[String]) -> Outcome {
    let [name] = arguments else { return Err("usage: cargo xtask new NAME".to_owned()) };
    check_name(name)?;
    let directory = root().join("modules").join(name);
    if directory.exists() {
        return Err(format!("{} is there already; nothing was changed", directory.display()));
    }
    for (path, text) in files(name) {
        write(&directory.join(path), &text)?;
    }
    let list = root().join(LIST);
    let text = fs::read_to_string(&list).map_err(|error| format!("{LIST}: {error}"))?;
    write(&list, &entered(&text, name)?)?;
    let status = cargo().args(["xtask", "gen"]).status();
    if !status.is_ok_and(|status| status.success()) {
        return Err(format!("made modules/{name}, but `cargo xtask gen` fails"));
    }
    eprintln!("made modules/{name}; begin with its src/lib.rs, then `cargo test -p {name}`");
    Ok(())
}

/// The files of a module's crate.
fn files(name: &str) -> Vec<(&'static str, String)> {
    let release = name.starts_with("release_");
    let dependencies = if release {
        "oxistrano-core.workspace = true\noxistrano-releases.workspace = true"
    } else {
        "oxistrano-core.workspace = true"
    };
    FILES
        .into_iter()
        .chain([("src/lib.rs", if release { RELEASE_LIB } else { LIB })])
        .map(|(path, text)| {
            let text = text.replace("@name@", name).replace("@Type@", &type_of(name));
            (path, text.replace("@dependencies@", dependencies))
        })
        .collect()
}

fn check_name(name: &str) -> Outcome {
    let is_word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_lowercase())
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    if name.split('_').all(is_word) {
        return Ok(());
    }
    Err(format!(
        "'{name}' is no name for a module: lower case words with '_' between, as release_info"
    ))
}

/// `release_info` is `ReleaseInfo` in Rust.
fn type_of(name: &str) -> String {
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    name.split('_').map(capital).collect()
}

/// The manifest of the shipped program with one dependency more, in the order of their names.
fn entered(manifest: &str, name: &str) -> Result<String, String> {
    let line = format!("{name} = {{ path = \"../{name}\" }}");
    let mut lines: Vec<&str> = manifest.lines().collect();
    let first = lines.iter().position(|line| *line == "[dependencies]");
    let first = first.ok_or(format!("{LIST} has no [dependencies]"))? + 1;
    let length =
        lines[first..].iter().take_while(|other| **other < line.as_str() && !other.is_empty());
    let at = first + length.count();
    lines.insert(at, &line);
    Ok(lines.join("\n") + "\n")
}

fn write(path: &Path, text: &str) -> Outcome {
    path.parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(path, text))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_module_is_entered_in_the_order_of_names() {
        let list = "[dependencies]\na = 1\nc = 1\n\n[lints]\n";
        let line = |name| format!("{name} = {{ path = \"../{name}\" }}\n");
        let with = |before: &str, name, after: &str| format!("{before}{}{after}", line(name));
        assert_eq!(
            entered(list, "b").unwrap(),
            with("[dependencies]\na = 1\n", "b", "c = 1\n\n[lints]\n")
        );
        assert_eq!(
            entered(list, "d").unwrap(),
            with("[dependencies]\na = 1\nc = 1\n", "d", "\n[lints]\n")
        );
    }

    #[test]
    fn what_a_module_begins_with_has_rustfmts_form() {
        for name in ["release_new", "other_new"] {
            for (path, text) in files(name) {
                assert!(!text.contains('@'), "{path}");
                if path.ends_with(".rs") {
                    assert_eq!(formatted(&text), text, "{path}");
                }
            }
        }
    }

    fn formatted(text: &str) -> String {
        let mut rustfmt = Command::new("rustfmt")
            .args(["--edition", "2024", "--config-path"])
            .arg(root())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("rustfmt");
        rustfmt.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        String::from_utf8(rustfmt.wait_with_output().unwrap().stdout).unwrap()
    }

    #[test]
    fn only_words_are_names() {
        for wrong in ["", "Release", "a-b", "a__b", "_a", "1a", "../a", "a/b"] {
            assert!(check_name(wrong).is_err(), "{wrong}");
        }
        check_name("release_info2").unwrap();
        assert_eq!(type_of("php_fpm"), "PhpFpm");
    }
}
