//! What `ansible-doc` shows of `magento_upgrade` beside its options.

use oxistrano_core::Documentation;

pub const DOCUMENTATION: Documentation = Documentation {
    short: "To be written",
    description: &[],
    notes: &[],
    see_also: &[],
    examples: "",
    returns: &[],
    action_plugin: true,
};
