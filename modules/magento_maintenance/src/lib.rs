//! To be written.

mod docs;

use oxistrano_core::{Context, Documentation, Failure, Module, Outcome};

oxistrano_core::options! {
    /// The options of `magento_maintenance`.
    pub struct Options {
    }
}

/// The module.
pub struct MagentoMaintenance;

impl Module for MagentoMaintenance {
    type Options = Options;
    const NAME: &'static str = "magento_maintenance";
    const DOCUMENTATION: Documentation = docs::DOCUMENTATION;

    fn run(_options: Options, _context: &Context) -> Result<Outcome, Failure> {
        Err(Failure::new("not_written", "magento_maintenance is not written yet"))
    }
}
