//! Raises and lowers Magento's maintenance flag.
//!
//! Does: makes or removes `var/.maintenance.flag` wherever running code looks for it, without PHP.
//! Requires: nothing. After a failure: a failed raise leaves all flags unchanged; a failed lowering
//! has lowered all flags that it could.

mod docs;

use oxistrano_core::{
    AbsPath, Context, Diff, Documentation, Failure, Literal, Module, Outcome, RelPath,
};
use oxistrano_magento::maintenance::{Addresses, Flag, Places};

oxistrano_core::choices! {
    /// The wanted state of the flag.
    pub enum State {
        /// The shop is closed.
        Raised = "raised",
        /// The shop is open, unless somebody else has closed it.
        Lowered = "lowered",
        /// Closed for all if it is closed for the first.
        Kept = "kept",
        /// Report only.
        Reported = "reported",
    }
}

oxistrano_core::options! {
    /// The options of `magento_maintenance`.
    pub struct Options {
        /// Root of the deployment, an absolute path. No flag is written outside of it, except
        /// through a symbolic link that belongs to root or to the user that the module runs as.
        deploy_to: AbsPath;
        /// V(raised) closes the shop, V(lowered) opens it, V(reported) changes nothing. V(kept) is
        /// for the time before a switch. It makes the other O(paths) like the first one, which is
        /// the code that runs now: if somebody else has closed that one, the others are closed too,
        /// with the same allowed addresses, so that the switch does not open the shop; if it is
        /// open, a flag that a failed deploy has left in the others is lowered.
        state: State;
        /// The Magento root directories whose code serves visitors, relative to O(deploy_to).
        /// During a switch these are two, and if each has its own C(var), each checks its own flag.
        /// Directories that do not exist are ignored.
        paths: Vec<RelPath>;
        /// With O(state=lowered), also lower a flag that this module did not raise.
        force: bool, default = Some(Literal::Flag(false));
        /// With O(state=raised), the addresses (C(REMOTE_ADDR)) that may still use the shop. An
        /// empty list allows none. By default, the addresses that are already set stay. They also
        /// stay when the flag is lowered.
        allowed_ips: Option<Vec<String>>, default = None;
        /// With O(state=raised), the reason to write into the flag.
        reason: Option<String>;
        /// With O(state=raised), the hosts that share the flag, to be written into it. If the deploy
        /// is interrupted, the next one knows by RV(flags) that lowering it here opens all of them.
        hosts: Vec<String>;
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
            State::Raised => {
                let addresses = options.allowed_ips.as_deref().map(Addresses::new).transpose()?;
                let reason = options.reason.as_deref();
                places.hosts.clone_from(&options.hosts);
                places.close(addresses.as_ref(), reason, context.check_mode)?
            }
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
            .value("local", places.is_local()?)
            .value("directories", places.identities()?)
            .diff(Diff { header: "maintenance".into(), before, after });
        let kept = matches!(options.state, State::Lowered | State::Kept) && places.foreign();
        Ok(outcome.warnings(kept.then(|| {
            "maintenance was already on before, so it stays on; to open the shop, run bin/magento \
             maintenance:disable, or magento_maintenance with state=lowered and force=true"
                .to_owned()
        })))
    }
}

fn message(options: &Options, context: &Context, places: &Places, changed: bool) -> String {
    let list = || places.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match (options.state, changed) {
        (State::Raised, true) if context.check_mode => "would raise the maintenance flag".into(),
        (State::Lowered, true) if context.check_mode => "would lower the maintenance flag".into(),
        (State::Raised, true) => format!("maintenance is on: {}", list()),
        (State::Raised, false) => format!("maintenance was already on: {}", list()),
        (State::Lowered, true) if !places.foreign() => "maintenance is off".into(),
        (State::Lowered | State::Kept | State::Reported, _) if places.foreign() => {
            format!("maintenance is on, but this module did not switch it on: {}", list())
        }
        (_, _) if places.ours() => format!("maintenance is on: {}", list()),
        (_, _) => "maintenance is off".into(),
    }
}
