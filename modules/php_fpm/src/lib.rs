//! To be written.

mod docs;

use oxistrano_core::{Context, Documentation, Failure, Module, Outcome};

oxistrano_core::options! {
    /// The options of `php_fpm`.
    pub struct Options {
    }
}

/// The module.
pub struct PhpFpm;

impl Module for PhpFpm {
    type Options = Options;
    const NAME: &'static str = "php_fpm";
    const DOCUMENTATION: Documentation = docs::DOCUMENTATION;

    fn run(_options: Options, _context: &Context) -> Result<Outcome, Failure> {
        Err(Failure::new("not_written", "php_fpm is not written yet"))
    }
}
