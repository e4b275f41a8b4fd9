//! Two ways to copy a tree, both through open directory handles and without following symbolic links; and a comparison.
//!
//! * [`copy_tree`] fills an empty directory, as `cp -a` does: modes, owners, times,
//!   links, hard links, holes, extended attributes. Files are cloned, hard-linked or
//!   copied, in parallel. [`copy_onto`] makes the same of a tree that nobody needs any more,
//!   and leaves in it what is the same.
//! * [`sync_tree`] brings a live directory up to date, as `rsync -a --no-times
//!   --delete-after` does, for readers that look at it all the time: a file is the old
//!   one or the new one, never a part, and nothing is deleted before everything new is
//!   in place.
//! * [`compare()`] says which files of a live directory would change, by contents.
//!
//! Mechanism only: it does not know what a release or a document root is.

mod apply;
mod attributes;
mod changes;
mod compare;
mod copied;
mod copy;
mod copy_options;
mod file;
mod fill;
mod hardlinks;
mod listing;
mod metadata;
mod plan;
mod pool;
mod spare;
mod sync;
mod sync_options;
mod walk;
mod worth;

pub use changes::{Changes, LISTED, Synced};
pub use compare::{Contents, Difference, Files, compare};
pub use copied::Copied;
pub use copy::{copy_onto, copy_tree};
pub use copy_options::{CopyOptions, Method};
pub use spare::Spare;
pub use sync::sync_tree;
pub use sync_options::SyncOptions;
pub use worth::{USELESS, Worth, is_worth};
