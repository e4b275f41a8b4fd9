//! What a deploy root is and what may be done to it: everything that more than two of
//! the `release_*` modules need. `docs/ARCHITECTURE.md` has the picture.
//!
//! * [`Root`]: the open directories, the lock and the mutex.
//! * [`History`]: what happened, one line per event.
//! * [`Releases`]: the releases that are there and what each of them is.
//! * [`Staging`]: a release that is being made.
//! * [`spare`]: a release that is not needed any more, as raw material for the next.
//! * [`trash`]: a release that is being deleted.
//! * [`Artifacts`]: the archives that controllers have sent.
//! * [`durable`]: what is on the disk before that.
//! * [`Comparison`]: what a release would change, for check mode.
//! * [`switch`]: the one way in which `current` comes to lead somewhere else.

mod artifacts;
mod busy;
mod comparison;
mod damage;
mod deployer;
pub mod durable;
mod history;
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

pub use artifacts::{Artifact, Artifacts};
pub use comparison::Comparison;
pub use deployer::Deployer;
pub use history::{Event, EventKind, History, Outcome, Record};
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

/// The program of a `release_*` module: the module itself, or, when this process was
/// started to do so, the deletion of what stands in the trash.
pub const fn program<M: Module>() -> Program {
    Program::of::<M>().with_job(trash::reap)
}
