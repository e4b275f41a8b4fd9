//! Magento's maintenance flag behind a hold. Raising and lowering it in the call that holds and
//! releases saves a call to each host, for which visitors would wait.

use oxistrano_core::json::{Value, json};
use oxistrano_core::{Context, Failure, Outcome};
use oxistrano_magento::maintenance::{Addresses, Places};

use crate::options::Options;

/// Raises the flag. Requests are held, so no visitor sees it.
///
/// # Errors
/// When it cannot be raised; requests are still held then.
pub fn raised(outcome: Outcome, options: &Options, context: &Context) -> Result<Outcome, Failure> {
    let Some(mut places) = places(options)? else { return Ok(outcome) };
    let addresses = options.maintenance_allowed_ips.as_deref().map(Addresses::new).transpose()?;
    let was = (places.foreign(), places.ours());
    let reason = options.maintenance_reason.as_deref();
    let closed = places.close(addresses.as_ref(), reason, context.check_mode);
    let changed = closed.map_err(|failure| {
        // It may be what comes after it that has failed.
        let flag = if places.is_closed() { "The flag is up" } else { "No flag was raised" };
        let seconds = options.hold;
        failure.instead_of_state(format!("{flag}. Requests are held, for {seconds} s at most."))
    })?;
    Ok(outcome.or_changed(changed).value("maintenance", described(&places, was, changed)))
}

/// Lowers our flag, before the requests continue. Returns what the result says of it.
///
/// # Errors
/// When it cannot be lowered; then no request may continue.
pub fn lowered(options: &Options, context: &Context) -> Result<Option<(bool, Value)>, Failure> {
    let Some(mut places) = places(options)? else { return Ok(None) };
    let was = (places.foreign(), places.ours());
    let changed = match context.check_mode {
        true => places.would_lower(false),
        false => places.lower(false)?,
    };
    Ok(Some((changed, described(&places, was, changed))))
}

fn places(options: &Options) -> Result<Option<Places>, Failure> {
    match &options.deploy_to {
        Some(root) if !options.maintenance.is_empty() => {
            Places::find(root, &options.maintenance).map(Some)
        }
        _ => Ok(None),
    }
}

/// As `magento_maintenance` returns it.
fn described(places: &Places, (foreign, ours): (bool, bool), changed: bool) -> Value {
    json!({
        "changed": changed,
        "is_on": places.is_closed(),
        "was_on": foreign,
        "was_ours": ours,
        "flags": places.to_json(),
    })
}
