//! Opens and closes a deploy.
//!
//! Does: makes the directories, takes the lock, clears away what an interrupted deploy
//! left, frees the lock at the end. Requires: the right to write in the deploy root.
//! After a failure: the lock is not taken, and no release has been touched.

mod docs;
mod end;
mod start;

use oxistrano_core::{Context, Documentation, Failure, Literal, Module, Outcome, RelPath};
use oxistrano_releases::{Version, release_options};

oxistrano_core::choices! {
    /// The moment of a deploy.
    pub enum Moment {
        /// Its beginning.
        Started = "started",
        /// Its good end.
        Finished = "finished",
        /// Its bad end.
        Failed = "failed",
        /// Nobody deploys, whatever the lock says.
        Unlocked = "unlocked",
    }
}

release_options! {
    /// The options of `release_setup`.
    pub struct Options {
        /// V(started) makes the directories, takes the lock and removes what an interrupted
        /// deploy left. V(finished) notes the good end in the history and frees the lock.
        /// V(failed) removes the unfinished release unless it is live, notes O(reason), frees
        /// the lock and says what is live. V(unlocked) frees the lock whoever holds it.
        state: Moment, default = Some(Literal::Text("started"));
        /// The release that is being deployed. If it is not given to O(state=started), the UTC time
        /// as C(20260824101500Z).
        version: Option<Version>;
        /// Directories that releases share, relative to O(shared_dir); made if missing.
        shared_paths: Vec<RelPath>;
        /// Files that releases share, relative to O(shared_dir); their directories are made if
        /// missing, the files themselves are not.
        shared_files: Vec<RelPath>;
        /// Owner of the shared directories that are made, by name or number; if it is not given, the user
        /// that the module runs as.
        shared_owner: Option<String>;
        /// Group of the shared directories that are made, by name or number.
        shared_group: Option<String>;
        /// Whether to make missing O(shared_paths).
        ensure_shared_paths: bool, default = Some(Literal::Flag(true));
        /// Whether to make missing directories of O(shared_files).
        ensure_shared_file_dirs: bool, default = Some(Literal::Flag(true));
        /// Make an empty staging directory (RV(staging_path)) for those who fetch into it.
        staging: bool, default = Some(Literal::Flag(false));
        /// With O(state=started): first free the lock, whoever holds it. Only if you know that nobody
        /// deploys.
        unlock: bool, default = Some(Literal::Flag(false));
        /// Whether M(oxistrano.deploy.release_unpack) makes the next release of one that was whole when its
        /// deploy failed (O(state=failed)) or died (O(state=started)), where there is room for it. It is no
        /// release any more in either case; with V(false) it is removed.
        spare: bool, default = Some(Literal::Flag(false));
        /// Why the deploy failed, for the history.
        reason: Option<String>;
        /// Take the lock from the holder who took it at this time. The action plugin sets it when
        /// it has found that the controlling process of that deploy has died.
        take_over: Option<String>, internal = true;
    }
}

/// The module.
pub struct ReleaseSetup;

/// The module as a program.
pub const PROGRAM: oxistrano_core::Program = oxistrano_releases::program::<ReleaseSetup>();

impl Module for ReleaseSetup {
    type Options = Options;
    const NAME: &'static str = "release_setup";
    const DOCUMENTATION: Documentation = docs::DOCUMENTATION;

    fn run(options: Options, context: &Context) -> Result<Outcome, Failure> {
        let done = match options.state {
            Moment::Started => start::run(&options, context),
            Moment::Finished => end::finish(&options, context),
            Moment::Failed => end::fail(&options, context),
            Moment::Unlocked => end::unlock(&options, context),
        };
        // For the role to repeat; the protocol takes the secrets out.
        match (options.reason.filter(|reason| !reason.is_empty()), done) {
            (None, done) => done,
            (Some(reason), Ok(outcome)) => Ok(outcome.value("reason", reason)),
            (Some(reason), Err(failure)) => Err(failure.value("reason", reason)),
        }
    }
}
