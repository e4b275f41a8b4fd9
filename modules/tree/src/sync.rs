//! Bringing a live directory up to date.

use oxistrano_core::{Dir, Failure};

use crate::apply;
use crate::changes::Synced;
use crate::plan::Plan;
use crate::sync_options::SyncOptions;

/// Makes `to` what `from` is, while others read it. First everything new is put there,
/// then what is there already is replaced, file by file in one step each, then the rest
/// is deleted. Contents are compared, times are not; a changed file keeps the time of
/// its writing. Hard links become files of their own, but for those inside a directory
/// that is new.
///
/// # Errors
/// Before anything is changed: what cannot be synchronised (devices, mount points, a
/// file where a protected path needs a directory). Later: what could not be written;
/// every file is then an old or a new one, and a second call finishes the work.
pub fn sync_tree(from: &Dir, to: &Dir, options: &SyncOptions) -> Result<Synced, Failure> {
    let plan = Plan::make(from, to, options).map_err(|f| f.state("Nothing was changed."))?;
    if options.dry_run {
        return Ok(plan.synced);
    }
    apply::apply(&plan, from, to, options)?;
    Ok(plan.synced)
}
