//! Updates a live directory.

use oxistrano_core::{Dir, Failure};

use crate::apply;
use crate::changes::Synced;
use crate::plan::Plan;
use crate::sync_options::SyncOptions;

/// Makes `to` equal to `from` while other processes read it. First, new entries are made, then
/// existing ones are replaced, each file in one step, then the rest is deleted. Contents are
/// compared, times are not; a changed file has the time of its writing. Hard links become separate
/// files, except inside a new directory.
///
/// # Errors
/// Before anything is changed: what cannot be synchronised (devices, mount points, a file where a
/// protected path needs a directory). Later: what could not be written; every file is then either
/// the old or the new one, and a second call finishes the work.
pub fn sync_tree(from: &Dir, to: &Dir, options: &SyncOptions) -> Result<Synced, Failure> {
    let plan = Plan::make(from, to, options).map_err(|f| f.state("Nothing was changed."))?;
    if options.dry_run {
        return Ok(plan.synced);
    }
    apply::apply(&plan, from, to, options)?;
    Ok(plan.synced)
}
