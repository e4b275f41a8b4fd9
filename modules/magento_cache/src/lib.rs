//! To be written.

mod docs;

use oxistrano_core::{Context, Documentation, Failure, Module, Outcome};

oxistrano_core::options! {
    /// The options of `magento_cache`.
    pub struct Options {
    }
}

/// The module.
pub struct MagentoCache;

impl Module for MagentoCache {
    type Options = Options;
    const NAME: &'static str = "magento_cache";
    const DOCUMENTATION: Documentation = docs::DOCUMENTATION;

    fn run(_options: Options, _context: &Context) -> Result<Outcome, Failure> {
        Err(Failure::new("not_written", "magento_cache is not written yet"))
    }
}
