//! Upgrades the database of a shop for a release.
//!
//! Does: `setup:upgrade --keep-generated`, or its parts, or only the import of the configuration;
//! then lowers the maintenance flag, if requested. Requires: that the flag is up. After a failure:
//! the flag stays up, and the failure says so.

mod background;
mod docs;
mod log;
mod run;
mod tell;

use std::time::Duration;

use oxistrano_core::{AbsPath, Context, Documentation, Failure, Literal, Module, Outcome, RelPath};
use oxistrano_magento::magento_options;
use oxistrano_magento::maintenance::Places;
use oxistrano_magento::running;

use background::{arguments, from_background};
use run::finish;
use tell::{closed, done, open, would};

oxistrano_core::choices! {
    /// How far to go.
    pub enum State {
        /// It is running.
        Begun = "begun",
        /// It has succeeded.
        Finished = "finished",
    }
}

oxistrano_core::choices! {
    /// What to run.
    pub enum How {
        /// Everything, in one command.
        Upgrade = "upgrade",
        /// The same in three commands.
        Parts = "parts",
        /// Only the configuration.
        Import = "import",
    }
}

magento_options! {
    /// The options of `magento_upgrade`.
    pub struct Options {
        /// V(finished) runs the whole upgrade or, with O(begun), waits for the end of that one.
        /// V(begun) starts the upgrade and returns, so that the play can bring php-fpm to the new
        /// release during the upgrade. Use V(begun) only if the release is already live: otherwise
        /// a deploy that fails removes the release while the upgrade runs.
        state: State, default = Some(Literal::Text("finished"));
        /// With O(state=finished), the RV(id) that O(state=begun) returned.
        begun: Option<String>;
        /// V(upgrade) runs C(setup:upgrade --keep-generated), which also imports the configuration.
        /// V(parts) runs C(setup:db-schema:upgrade), C(setup:db-data:upgrade) and
        /// C(app:config:import). V(import) runs only C(app:config:import).
        how: How, default = Some(Literal::Text("upgrade"));
        /// Root of the deployment, an absolute path.
        deploy_to: AbsPath;
        /// The Magento root directories whose code serves visitors, relative to O(deploy_to), as
        /// for M(oxistrano.deploy.magento_maintenance). By default, V(current).
        paths: Vec<RelPath>;
        /// Whether to fail if the maintenance flag is not up in all of O(paths). Otherwise visitors
        /// could meet code and schema that do not match.
        require_maintenance: bool, default = Some(Literal::Flag(true));
        /// Whether to run the commands with a separate cache below C(var), which is removed
        /// afterwards. Use it for a release that is not live, so that the live release keeps its
        /// cache and does not read what these commands have cached.
        own_cache: bool, default = Some(Literal::Flag(false));
        /// Whether to upgrade while the live release serves visitors, if
        /// M(oxistrano.deploy.magento_status) has reported that this is possible
        /// (RV(oxistrano.deploy.magento_status#module:online)). The upgrade then uses a separate
        /// cache and needs no maintenance flag. It waits at most one second for a database lock,
        /// because visitors would wait behind it, and then tries again, up to ten times.
        online: bool, default = Some(Literal::Flag(false));
        /// Whether to fail if no configuration was imported. Set it if
        /// M(oxistrano.deploy.magento_status) has reported that an import is needed.
        import_needed: bool, default = Some(Literal::Flag(false));
        /// Whether to lower the maintenance flag as soon as everything has succeeded, if
        /// M(oxistrano.deploy.magento_maintenance) has raised it.
        lower: bool, default = Some(Literal::Flag(false));
        /// Seconds that all commands together may take. After that, the running command and all
        /// processes that it started are ended. Signals to the module and a lost connection do not
        /// end it.
        timeout: u64, default = Some(Literal::Number(3600));
    }
}

/// The module.
pub struct MagentoUpgrade;

/// The module as a program.
pub const PROGRAM: oxistrano_core::Program = oxistrano_core::Program::of::<MagentoUpgrade>();

impl Module for MagentoUpgrade {
    type Options = Options;
    const NAME: &'static str = "magento_upgrade";
    const DOCUMENTATION: Documentation = docs::DOCUMENTATION;

    fn run(options: Options, context: &Context) -> Result<Outcome, Failure> {
        let patience = Duration::from_secs(options.timeout);
        let mut places = Places::find(&options.deploy_to, &options.paths)?;
        let begun = options.begun.clone().filter(|id| !id.is_empty());
        let outcome = match (begun, context.check_mode) {
            (_, true) => return Ok(would(&options)),
            (Some(id), _) if options.state == State::Finished => {
                let result = background::result(&options.deploy_to, &id, patience)
                    .map_err(|failure| closed(failure, &options, None))?;
                from_background(result)?
            }
            _ if options.online && options.how == How::Import => {
                return Err(Failure::new(
                    "not_online",
                    "a configuration cannot be imported online",
                )
                .cause(
                    "the live release would answer 500 as soon as the database has the \
                        hash of another configuration",
                )
                .state("Nothing was changed."));
            }
            _ => {
                let magento = options.magento()?;
                if options.require_maintenance && !options.online && !places.is_closed() {
                    return Err(open(&options, &places));
                }
                if options.state == State::Begun {
                    let id = background::begin(&options.deploy_to, &arguments(&options), patience)?;
                    return Ok(Outcome::new(true).msg("the upgrade has started").value("id", id));
                }
                running::wait(&options.deploy_to, patience, false)?;
                let held = running::hold(&options.deploy_to, &options.path, patience)?;
                if options.own_cache || options.online {
                    let (magento, apart) = magento.apart()?;
                    let outcome = finish(&options, &magento, &held);
                    let left = apart.end();
                    outcome?.warnings(left)
                } else {
                    finish(&options, &magento, &held)?
                }
            }
        };
        let lowered = options.lower
            && places.lower(false).map_err(|failure| {
                failure.while_trying(format!("{}, but", done(options.how, true)))
            })?;
        Ok(outcome.value("lowered", lowered).value("maintenance", places.to_json()))
    }
}
