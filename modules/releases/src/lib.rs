//! What a deploy root is, and the operations on it that several `release_*` modules need.
//! `docs/ARCHITECTURE.md` has the picture.
//!
//! * [`Root`]: the open directories, the lock and the mutex.
//! * [`History`]: what happened, one line per event.
//! * [`Releases`]: the existing releases and their states.
//! * [`Staging`]: a release that is being made.
//! * [`spare`]: a former release, kept as raw material for the next one.
//! * [`Site`]: where a release is built, on the spare or in an empty directory.
//! * [`trash`]: a release that is being deleted.
//! * [`Artifacts`]: the archives that controllers have sent.
//! * [`Indexes`]: what tells which files of a release are as they were unpacked.
//! * [`durable`]: waits until a release is on the disk.
//! * [`Comparison`]: what a release would change, for check mode.
//! * [`switch`]: the only way to change what `current` leads to.

mod artifact;
mod artifacts;
mod build;
mod busy;
mod comparison;
mod damage;
mod deployer;
pub mod durable;
mod history;
mod indexes;
pub mod links;
mod lock;
mod options;
mod placement;
mod release;
pub mod replaced;
pub mod returns;
mod root;
mod shared;
pub mod spare;
mod staging;
pub mod switch;
pub mod trash;
mod version;

pub use artifact::{Artifact, Delta};
pub use artifacts::Artifacts;
pub use build::{Built, Site};
pub use comparison::Comparison;
pub use deployer::Deployer;
pub use history::{Event, EventKind, History, Outcome, Record};
pub use indexes::Indexes;
pub use lock::{Lock, LockKind};
pub use options::{LOCK_CODE, Via};
pub use placement::{Decision, Placement};
pub use release::{REVISION, Release, Releases, State};
pub use root::{Layout, Root, local_user};
pub use shared::{SharedLinks, shared_links};
pub use staging::{NAME as STAGING_NAME, Staging};
pub use version::Version;

#[doc(hidden)]
pub use oxistrano_core as core;

use oxistrano_core::{Module, Program};

/// The program of a `release_*` module: the module, or the deletion of the trash if this process was started for that.
pub const fn program<M: Module>() -> Program {
    Program::of::<M>().with_job(trash::reap)
}
