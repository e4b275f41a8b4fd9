//! To be written.

mod docs;

use oxistrano_core::{Context, Documentation, Failure, Module, Outcome};

oxistrano_core::options! {
    /// The options of `magento_status`.
    pub struct Options {
    }
}

/// The module.
pub struct MagentoStatus;

impl Module for MagentoStatus {
    type Options = Options;
    const NAME: &'static str = "magento_status";
    const DOCUMENTATION: Documentation = docs::DOCUMENTATION;

    fn run(_options: Options, _context: &Context) -> Result<Outcome, Failure> {
        Err(Failure::new("not_written", "magento_status is not written yet"))
    }
}
