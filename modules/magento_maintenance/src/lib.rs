//! Raises and lowers Magento's maintenance flag.
//!
//! Does: makes or removes `var/.maintenance.flag` wherever running code looks for it, without
//! PHP. Requires: nothing. After a failure: a raise left every flag as it was, a lowering has
//! lowered those that it could.

mod docs;

use oxistrano_core::{
    AbsPath, Context, Diff, Documentation, Failure, Literal, Module, Outcome, RelPath,
};
use oxistrano_magento::maintenance::{Addresses, Flag, Places};

oxistrano_core::choices! {
    /// What the flag should be.
    pub enum State {
        /// The shop is closed.
        Raised = "raised",
        /// The shop is open, unless somebody else has closed it.
        Lowered = "lowered",
        /// Closed for all if it is closed for the first.
        Kept = "kept",
        /// Only ask.
        Reported = "reported",
    }
}

oxistrano_core::options! {
    /// The options of `magento_maintenance`.
    pub struct Options {
        /// Root of the deployment, an absolute path. No flag is made outside of it, except where a link leads
        /// that root or the module's user has made.
        deploy_to: AbsPath;
        /// V(raised) closes the shop, V(lowered) opens it, V(reported) changes nothing. V(kept), before a
        /// switch: if somebody else has closed the first of O(paths), the code that runs now, the others
        /// are closed as well, so that the switch does not open the shop, and with the same allowed addresses; if
        /// it is open, a flag that a failed deploy has left at the others is lowered.
        state: State;
        /// Magento's root directories whose code runs, relative to O(deploy_to). While a release is
        /// switched these are two, and with a C(var) of its own each looks for its own flag. What is not
        /// there is left out.
        paths: Vec<RelPath>;
        /// With O(state=lowered), also lower a flag that this module has not raised.
        force: bool, default = Some(Literal::Flag(false));
        /// With O(state=raised), the addresses (C(REMOTE_ADDR)) that get in all the same; an empty list
        /// lets nobody in. If it is not given, those that are set stay. They stay when the flag is lowered.
        allowed_ips: Option<Vec<String>>, default = None;
        /// With O(state=raised), the reason; it is written into the flag.
        reason: Option<String>;
    }
}

/// The module.
pub struct MagentoMaintenance;

/// The module as a program.
pub const PROGRAM: oxistrano_core::Program = oxistrano_core::Program::of::<MagentoMaintenance>();

impl Module for MagentoMaintenance {
    type Options = Options;
    const NAME: &'static str = "magento_maintenance";
    const DOCUMENTATION: Documentation = docs::DOCUMENTATION;

    fn run(options: Options, context: &Context) -> Result<Outcome, Failure> {
        let mut places = Places::find(&options.deploy_to, &options.paths)?;
        let (foreign, ours) = (places.foreign(), places.ours());
        let before = places.lines(Flag::word);
        let changed = match options.state {
            State::Reported => false,
            State::Raised => raise(&options, context, &mut places)?,
            State::Kept if context.check_mode => places.would_keep()?,
            State::Kept => places.keep()?,
            State::Lowered if context.check_mode => places.would_lower(options.force),
            State::Lowered => places.lower(options.force)?,
        };
        let after = places.lines(|flag| match (options.state, flag) {
            (State::Raised, Flag::Down) if context.check_mode => "ours",
            (State::Lowered, Flag::Ours(_)) if context.check_mode => "down",
            (State::Lowered, Flag::Foreign) if context.check_mode && options.force => "down",
            (_, flag) => flag.word(),
        });
        let msg = message(&options, context, &places, changed);
        let outcome = Outcome::new(changed)
            .msg(msg)
            .value("is_on", places.is_closed())
            .value("was_on", foreign)
            .value("was_ours", ours)
            .value("roots", places.roots.clone())
            .value("flags", places.to_json())
            .diff(Diff { header: "maintenance".into(), before, after });
        let kept = matches!(options.state, State::Lowered | State::Kept) && places.foreign();
        Ok(outcome.warnings(kept.then(|| {
            "maintenance was on before and is left on; to open the shop: bin/magento \
             maintenance:disable, or magento_maintenance with state=lowered and force=true"
                .to_owned()
        })))
    }
}

fn raise(options: &Options, context: &Context, places: &mut Places) -> Result<bool, Failure> {
    places.require_any()?;
    let addresses = options.allowed_ips.as_deref().map(Addresses::new).transpose()?;
    let differ = match &addresses {
        Some(addresses) => places.addresses_differ(addresses)?,
        None => false,
    };
    if context.check_mode {
        return Ok(differ || places.is_open_somewhere());
    }
    if let Some(addresses) = &addresses {
        places.allow(addresses)?;
    }
    let raised = places.raise(options.reason.as_deref()).map_err(|failure| match differ {
        true => failure.instead_of_state("No flag was raised; the addresses are those asked for."),
        false => failure,
    })?;
    if let Some(addresses) = &addresses {
        // Again for a `var` that was only made now.
        places.allow(addresses)?;
    }
    Ok(differ || raised)
}

fn message(options: &Options, context: &Context, places: &Places, changed: bool) -> String {
    let list = || places.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match (options.state, changed) {
        (State::Raised, true) if context.check_mode => "would raise the maintenance flag".into(),
        (State::Lowered, true) if context.check_mode => "would lower the maintenance flag".into(),
        (State::Raised, true) => format!("maintenance is on: {}", list()),
        (State::Raised, false) => format!("maintenance was on already: {}", list()),
        (State::Lowered, true) if !places.foreign() => "maintenance is off".into(),
        (State::Lowered | State::Kept | State::Reported, _) if places.foreign() => {
            format!("maintenance is on, by somebody else: {}", list())
        }
        (_, _) if places.ours() => format!("maintenance is on: {}", list()),
        (_, _) => "maintenance is off".into(),
    }
}
