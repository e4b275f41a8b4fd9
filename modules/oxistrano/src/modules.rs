//! The list of modules, which the build script makes from the dependencies in `Cargo.toml`.

use oxistrano_core::Program;

/// The modules, by name.
pub const MODULES: &[Program] = include!(concat!(env!("OUT_DIR"), "/modules.rs"));
