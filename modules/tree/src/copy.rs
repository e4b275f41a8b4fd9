//! Copies a tree into an empty directory, or onto an unneeded tree.

use oxistrano_core::{Dir, Failure};

use crate::copied::Copied;
use crate::copy_options::CopyOptions;
use crate::fill;
use crate::spare::Spare;
use crate::walk::open_below;

/// Copies what is in `from` into the empty directory `to`.
///
/// # Errors
/// The first entry that could not be copied, with its full path. `to` then contains a part of the
/// tree, with temporary permissions, and should be removed.
pub fn copy_tree(from: &Dir, to: &Dir, options: &CopyOptions) -> Result<Copied, Failure> {
    if !to.names()?.is_empty() {
        return Err(Failure::new(
            "not_empty",
            format!("refusing to copy into '{}'", to.path().display()),
        )
        .cause("it is not empty")
        .state("Nothing was changed.")
        .path(to.path()));
    }
    fill::run(&source(from, options)?, to, options, None)
}

/// Turns `to`, an unneeded tree, into what [`copy_tree`] would make in an empty directory: what is the
/// same stays, everything else is written again or removed. A file that stays keeps its access time.
/// `to` itself must have owner, mode and attributes of a new directory.
///
/// # Errors
/// The same, and an entry of `to` that cannot be changed. `to` is then a mixture of both trees.
pub fn copy_onto(
    from: &Dir,
    to: &Dir,
    options: &CopyOptions,
    spare: Spare,
) -> Result<Copied, Failure> {
    fill::run(&source(from, options)?, to, options, Some(spare))
}

fn source(from: &Dir, options: &CopyOptions) -> Result<Dir, Failure> {
    match &options.subtree {
        Some(subtree) => open_below(from, subtree.as_path()),
        None => from.duplicate(),
    }
}
