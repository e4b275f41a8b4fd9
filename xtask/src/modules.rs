//! The modules that there are.

use oxistrano_core::{Documentation, Module, OptionSpec, Options};

/// What is known of a module without running it.
pub struct Described {
    /// Its name.
    pub name: &'static str,
    /// Its options.
    pub options: &'static [OptionSpec],
    /// The rest of its documentation.
    pub documentation: Documentation,
}

fn described<M: Module>() -> Described {
    Described {
        name: M::NAME,
        options: <M::Options as Options>::SPECS,
        documentation: M::DOCUMENTATION,
    }
}

/// All of them, by name.
pub fn all() -> Vec<Described> {
    vec![
        described::<magento_cache::MagentoCache>(),
        described::<magento_cron::MagentoCron>(),
        described::<magento_maintenance::MagentoMaintenance>(),
        described::<magento_status::MagentoStatus>(),
        described::<magento_upgrade::MagentoUpgrade>(),
        described::<php_fpm::PhpFpm>(),
        described::<release_activate::ReleaseActivate>(),
        described::<release_copy::ReleaseCopy>(),
        described::<release_info::ReleaseInfo>(),
        described::<release_link::ReleaseLink>(),
        described::<release_prune::ReleasePrune>(),
        described::<release_rollback::ReleaseRollback>(),
        described::<release_setup::ReleaseSetup>(),
        described::<release_unpack::ReleaseUnpack>(),
    ]
}
