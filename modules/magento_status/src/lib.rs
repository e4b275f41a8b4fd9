//! Asks whether the database and the configuration are what a release needs.
//!
//! Does: runs `setup:db:status` and `app:config:status` of that release, at once. Requires:
//! its `app/etc/env.php`. After a failure: nothing was changed, and nothing is known.

mod docs;

use std::thread;
use std::time::Duration;

use oxistrano_core::{AbsPath, Context, Documentation, Failure, Literal, Module, Outcome};
use oxistrano_magento::{magento_options, running, status};

magento_options! {
    /// The options of `magento_status`.
    pub struct Options {
        /// Root of the deployment, an absolute path. If it is given, an upgrade that was begun there and
        /// still runs is waited for first: as long as it does, no answer holds.
        deploy_to: Option<AbsPath>;
        /// Seconds that each of the two commands may take; then it and all that it started is ended.
        timeout: u64, default = Some(Literal::Number(120));
    }
}

/// The module.
pub struct MagentoStatus;

/// The module as a program.
pub const PROGRAM: oxistrano_core::Program = oxistrano_core::Program::of::<MagentoStatus>();

impl Module for MagentoStatus {
    type Options = Options;
    const NAME: &'static str = "magento_status";
    const DOCUMENTATION: Documentation = docs::DOCUMENTATION;

    fn run(options: Options, _context: &Context) -> Result<Outcome, Failure> {
        // This release is not live yet, or not any more.
        let (magento, apart) = options.magento()?.apart()?;
        let timeout = Duration::from_secs(options.timeout);
        if let Some(deploy_to) = &options.deploy_to {
            running::wait(deploy_to, timeout)
                .map_err(|failure| failure.state("Nothing was changed."))?;
        }
        // Both only read, and each spends most of its time starting.
        let (database, configuration) = thread::scope(|scope| {
            let database =
                thread::Builder::new().spawn_scoped(scope, || status::database(&magento, timeout));
            let configuration = status::configuration(&magento, timeout);
            // Where no thread can be started, one after the other.
            let database = match database {
                Ok(database) => database.join(),
                Err(_) => Ok(status::database(&magento, timeout)),
            };
            (database, configuration)
        });
        let database = database.map_err(|_| Failure::new("panic", "the query was not finished"))?;
        let left = apart.end();
        status::require_told(&magento, &database, &configuration)?;
        let msg = match (database.is_needed(), configuration.is_needed()) {
            (true, _) => "the database needs setup:upgrade",
            (false, true) => "the configuration needs app:config:import",
            (false, false) => "database and configuration are up to date",
        };
        Ok(Outcome::new(false)
            .msg(msg)
            .value("upgrade_needed", database.is_needed())
            // setup:upgrade imports the configuration at its end.
            .value("import_needed", configuration.is_needed())
            .value("maintenance_needed", database.is_needed() || configuration.is_needed())
            .value("database", database.database_json())
            .value("configuration", configuration.configuration_json())
            .warnings(left)
            .warnings(magento.warning()))
    }
}
