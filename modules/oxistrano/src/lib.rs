//! The shipped program, which contains all modules: separate programs would each contain the same
//! 1.1 MB of Rust's and C's runtime. `docs/ARCHITECTURE.md` has the figures.

mod modules;
mod phases;

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

use oxistrano_core::{Failure, Program, refuse};

pub use modules::MODULES;

/// Runs the module whose name the program was called by (`plugins/modules/release_setup`, a
/// link to it), or whose name is its first argument (`oxistrano release_setup -`); or several of them, one after the other
/// (`oxistrano release_phases -`).
pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let called = arguments.next().unwrap_or_default();
    let first = arguments.next().unwrap_or_default();
    let called = Path::new(&called).file_name().unwrap_or_default();
    match named(&[called, &first]) {
        Some(module) => module.run(),
        None if first == phases::NAME => phases::main(),
        None => {
            let names: Vec<_> = MODULES.iter().map(|module| module.name).collect();
            refuse(
                Failure::new("usage", "oxistrano does not know which module it should run")
                    .remedy(format!(
                        "call it by the name of a module, or give one as the first argument: {}",
                        names.join(", ")
                    ))
                    .value("modules", names),
            )
        }
    }
}

/// The module that one of the words names, by itself or, as ansible-core copies a module to a
/// host, behind `AnsiballZ_`.
fn named(words: &[&OsStr]) -> Option<&'static Program> {
    words.iter().filter_map(|word| word.to_str()).find_map(|word| {
        let word = word.strip_prefix("AnsiballZ_").unwrap_or(word);
        MODULES.iter().find(|module| module.name == word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_known_by_the_name_of_the_program_or_by_its_first_argument() {
        let name = |words: [&str; 2]| named(&words.map(OsStr::new)).map(|module| module.name);
        assert_eq!(name(["release_info", "-"]), Some("release_info"));
        assert_eq!(name(["AnsiballZ_php_fpm", "/tmp/args"]), Some("php_fpm"));
        assert_eq!(name(["oxistrano-0123", "magento_cron"]), Some("magento_cron"));
        assert_eq!(name(["release_info", "release_setup"]), Some("release_info"));
        assert_eq!(name(["oxistrano", "/tmp/release_info"]), None);
    }
}
