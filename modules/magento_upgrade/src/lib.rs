//! Upgrades the database of a shop to what a release needs.
//!
//! Does: `setup:upgrade --keep-generated`, or its parts, or only the import of the
//! configuration; then lowers the maintenance flag, if it is told to. Requires: that the
//! flag is up. After a failure: the flag stays up, and the failure says so.

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
        /// It runs.
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
        /// V(finished) does the whole upgrade, or with O(begun) waits for the end of the one that it names.
        /// V(begun) starts the upgrade and returns, so that the play can bring php-fpm to the new release
        /// meanwhile. By then the release must be live: if it is not and the deploy fails, the release is
        /// removed while it upgrades.
        state: State, default = Some(Literal::Text("finished"));
        /// With O(state=finished), the RV(id) that O(state=begun) has returned.
        begun: Option<String>;
        /// V(upgrade) runs C(setup:upgrade --keep-generated), which imports the configuration at its end;
        /// V(parts) runs C(setup:db-schema:upgrade), C(setup:db-data:upgrade) and C(app:config:import);
        /// V(import) only C(app:config:import).
        how: How, default = Some(Literal::Text("upgrade"));
        /// Root of the deployment, an absolute path.
        deploy_to: AbsPath;
        /// Magento's root directories whose code runs, relative to O(deploy_to), as for
        /// M(oxistrano.deploy.magento_maintenance); if none is named, V(current).
        paths: Vec<RelPath>;
        /// Fail when the maintenance flag is not up in every one of O(paths): visitors would meet code
        /// and schema that do not fit each other.
        require_maintenance: bool, default = Some(Literal::Flag(true));
        /// Run the commands with a cache of their own, below C(var), which is removed afterwards: for a
        /// release that is not live, so that the live one keeps its cache and reads nothing of theirs.
        own_cache: bool, default = Some(Literal::Flag(false));
        /// Upgrade beside the release that serves visitors, which M(oxistrano.deploy.magento_status) has said
        /// can be done (RV(oxistrano.deploy.magento_status#module:online)). It has a cache of its own, needs
        /// no maintenance flag, and waits for no lock of the database for longer than a second, because
        /// visitors would wait behind it; then it tries again, ten times.
        online: bool, default = Some(Literal::Flag(false));
        /// Fail when no configuration was imported, because M(oxistrano.deploy.magento_status) has said
        /// that this is needed.
        import_needed: bool, default = Some(Literal::Flag(false));
        /// Lower the flag, if M(oxistrano.deploy.magento_maintenance) has raised it, the moment that
        /// everything has succeeded.
        lower: bool, default = Some(Literal::Flag(false));
        /// Seconds that all commands together may take; then the one that runs and all that it started is
        /// ended. Signals to the module and a lost connection do not end it.
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
                return Err(Failure::new("not_online", "a configuration is not imported online")
                    .cause("the live release answers 500 as soon as the hash of another one is in the database")
                    .state("Nothing was changed."))
            }
            _ => {
                let magento = options.magento()?;
                if options.require_maintenance && !options.online && !places.is_closed() {
                    return Err(open(&options, &places));
                }
                if options.state == State::Begun {
                    let id = background::begin(&options.deploy_to, &arguments(&options), patience)?;
                    return Ok(Outcome::new(true).msg("the upgrade has begun").value("id", id));
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
