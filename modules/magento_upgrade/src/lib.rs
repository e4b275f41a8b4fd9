//! To be written.

mod docs;

use oxistrano_core::{Context, Documentation, Failure, Module, Outcome};

oxistrano_core::options! {
    /// The options of `magento_upgrade`.
    pub struct Options {
    }
}

/// The module.
pub struct MagentoUpgrade;

impl Module for MagentoUpgrade {
    type Options = Options;
    const NAME: &'static str = "magento_upgrade";
    const DOCUMENTATION: Documentation = docs::DOCUMENTATION;

    fn run(_options: Options, _context: &Context) -> Result<Outcome, Failure> {
        Err(Failure::new("not_written", "magento_upgrade is not written yet"))
    }
}
