//! Starts and ends a deploy.
//!
//! Does: creates the directories, takes the lock, removes the leftovers of an interrupted deploy,
//! frees the lock at the end. Requires: the right to write in the deploy root. After a failure: the
//! lock is free, and no release was changed.

mod docs;
mod end;
mod start;

use oxistrano_core::{Context, Documentation, Failure, Literal, Module, Outcome, RelPath};
use oxistrano_releases::{Version, release_options};

oxistrano_core::choices! {
    /// The phase of a deploy.
    pub enum Moment {
        /// Its beginning.
        Started = "started",
        /// The deploy succeeded.
        Finished = "finished",
        /// The deploy failed.
        Failed = "failed",
        /// No deploy is running, whatever the lock says.
        Unlocked = "unlocked",
    }
}

release_options! {
    /// The options of `release_setup`.
    pub struct Options {
        /// V(started) creates the directories, takes the lock and removes what an interrupted
        /// deploy left behind. V(finished) records the success in the history and frees the lock.
        /// V(failed) removes the unfinished release unless it is live, records O(reason), frees the
        /// lock and reports which release is live. V(unlocked) frees the lock, no matter which
        /// deploy holds it.
        state: Moment, default = Some(Literal::Text("started"));
        /// The release that is being deployed. By default, O(state=started) names it by the UTC
        /// time, for example C(20260824101500Z).
        version: Option<Version>;
        /// Directories that releases share, relative to O(shared_dir). Missing ones are created.
        shared_paths: Vec<RelPath>;
        /// Files that releases share, relative to O(shared_dir). Missing parent directories are
        /// created, missing files are not.
        shared_files: Vec<RelPath>;
        /// Owner of the shared directories that are created, a name or a number. By default, the
        /// user that the module runs as.
        shared_owner: Option<String>;
        /// Group of the shared directories that are created, a name or a number.
        shared_group: Option<String>;
        /// Whether to create missing O(shared_paths).
        ensure_shared_paths: bool, default = Some(Literal::Flag(true));
        /// Whether to create missing parent directories of O(shared_files).
        ensure_shared_file_dirs: bool, default = Some(Literal::Flag(true));
        /// Whether to create an empty staging directory (RV(staging_path)), for modules that fetch files into it.
        staging: bool, default = Some(Literal::Flag(false));
        /// With O(state=started): free the lock first, no matter which deploy holds it. Use this
        /// only if you know that no deploy is running.
        unlock: bool, default = Some(Literal::Flag(false));
        /// What happens to the release of a deploy that failed (O(state=failed)) or died
        /// (O(state=started)) before the switch. With V(true), if it was complete and the file
        /// system has room, it is kept as raw material: M(oxistrano.deploy.release_unpack)
        /// or M(oxistrano.deploy.release_copy) builds the next release from it. With V(false) it is removed.
        spare: bool, default = Some(Literal::Flag(false));
        /// Why the deploy failed, for the history.
        reason: Option<String>;
        /// Take over the lock that was taken at this time. The action plugin sets it when it has
        /// found that the controlling process of that deploy has died.
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
        // The role shows it again; the protocol masks secrets.
        match (options.reason.filter(|reason| !reason.is_empty()), done) {
            (None, done) => done,
            (Some(reason), Ok(outcome)) => Ok(outcome.value("reason", reason)),
            (Some(reason), Err(failure)) => Err(failure.value("reason", reason)),
        }
    }
}
