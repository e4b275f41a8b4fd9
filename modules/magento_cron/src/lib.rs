//! To be written.

mod docs;

use oxistrano_core::{Context, Documentation, Failure, Module, Outcome};

oxistrano_core::options! {
    /// The options of `magento_cron`.
    pub struct Options {
    }
}

/// The module.
pub struct MagentoCron;

impl Module for MagentoCron {
    type Options = Options;
    const NAME: &'static str = "magento_cron";
    const DOCUMENTATION: Documentation = docs::DOCUMENTATION;

    fn run(_options: Options, _context: &Context) -> Result<Outcome, Failure> {
        Err(Failure::new("not_written", "magento_cron is not written yet"))
    }
}
