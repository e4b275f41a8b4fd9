//! Manages a php-fpm pool during a deploy: reports opcache's state, compiles the new release before
//! the switch, drops the old one after it, and reloads gracefully.
//!
//! Does: sends FastCGI requests for a script of its own, a signal to php-fpm's master, or restarts its
//! service. Requires: the pool's socket. Leaves behind: nothing; the script is always removed.

mod act;
mod config;
mod deadline;
mod discover;
mod docs;
mod flag;
mod fresh;
mod hold;
mod master;
mod options;
mod php;
mod place;
mod pool;
mod prove;
mod requests;
mod script;
mod states;
mod warm;

use oxistrano_core::{Context, Documentation, Failure, Module, Outcome};

use deadline::Deadline;
use options::Plan;
pub use options::{Method, Options, State, WhenFull};
use pool::Pool;
use states::status;

/// The module.
pub struct PhpFpm;

/// The module as a program.
pub const PROGRAM: oxistrano_core::Program =
    oxistrano_core::Program::of::<PhpFpm>().with_job(hold::job);

impl Module for PhpFpm {
    type Options = Options;
    const NAME: &'static str = "php_fpm";
    const DOCUMENTATION: Documentation = docs::DOCUMENTATION;

    fn run(options: Options, context: &Context) -> Result<Outcome, Failure> {
        let plan = Plan::new(options)?;
        let deadline = Deadline::after(plan.options.timeout);
        let address = match &plan.options.socket {
            Some(address) => address.clone(),
            None => discover::the_socket()?,
        };
        let repaired = hold::repair(&address, context)?;
        if plan.options.state == State::Released {
            let lowered = flag::lowered(&plan.options, context)?;
            let mut released = hold::released(&address, context)?;
            if let Some((changed, maintenance)) = lowered {
                released = released.or_changed(changed).value("maintenance", maintenance);
            }
            let released = released.or_changed(repaired.is_some()).warnings(repaired);
            return Ok(released.value("socket", address.to_string()));
        }
        let pool = Pool::at(
            address,
            deadline,
            plan.options.script_dir.clone(),
            plan.options.deploy_to.clone(),
        )?;
        let outcome = match plan.options.state {
            State::Status => status(&pool),
            State::Warmed => plan.warmed(&pool, context),
            State::Fresh => plan.fresh(&pool, context),
            State::Reset => plan.forced(&pool, Method::Reset, context),
            State::Reloaded => plan.forced(&pool, Method::Reload, context),
            State::Restarted => plan.forced(&pool, Method::Restart, context),
            State::Held => hold::held(&pool, &plan.limits(), context)
                .and_then(|held| flag::raised(held, &plan.options, context)),
            // Done above.
            State::Released => hold::released(&pool.address, context),
        }?;
        let outcome = outcome.or_changed(repaired.is_some()).warnings(repaired);
        Ok(outcome.value("socket", pool.address.to_string()))
    }
}
