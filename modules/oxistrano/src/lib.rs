//! All modules in one program, as it is shipped: each by itself carries the same 1.1 MB of
//! Rust's and C's run time. `docs/ARCHITECTURE.md` has the figures.

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

use oxistrano_core::{refuse, Failure, Program};

/// The modules, by name.
pub const MODULES: &[Program] = include!(concat!(env!("OUT_DIR"), "/modules.rs"));

/// Runs the module whose name the program was called by (`plugins/modules/release_setup`, a
/// link to it), or whose name is its first argument (`oxistrano release_setup -`).
pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let called = arguments.next().unwrap_or_default();
    let first = arguments.next().unwrap_or_default();
    let of = |name: &OsStr| MODULES.iter().find(|module| name == module.name);
    let called = Path::new(&called).file_name().and_then(of);
    match called.or_else(|| of(&first)) {
        Some(module) => module.run(),
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
