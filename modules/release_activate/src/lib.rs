//! Makes a release the live one.
//!
//! Does: leads `current` to the release, with one rename. Requires: the release. After a failure:
//! the message says which release is live, in most cases the old one.

mod docs;

use oxistrano_core::{Context, Documentation, Failure, Literal, Module, Outcome, RelPath};
use oxistrano_releases::{Root, Version, Via, release_options, shared_links, switch, trash};

release_options! {
    /// The options of `release_activate`.
    pub struct Options {
        /// The release to make live.
        version: Version;
        /// V(symlink) makes O(current_dir) a symbolic link, replaced by one rename. V(rsync) keeps a
        /// directory with a copy of the release, each changed file replaced by a rename. Changing
        /// from one to the other exchanges the two without a moment in which there is neither, where the
        /// file system can exchange two names; otherwise a warning says so.
        current_via: Via, default = Some(Literal::Text("symlink"));
        /// With O(current_via=rsync), directories that stay links to O(shared_dir).
        shared_paths: Vec<RelPath>;
        /// With O(current_via=rsync), files that stay links to O(shared_dir).
        shared_files: Vec<RelPath>;
        /// Whether to wait before the switch until the release is on the disk, so that a power
        /// failure leaves either the old or the new release. This is short, because
        /// M(oxistrano.deploy.release_link) has already waited for most of it.
        durable: bool, default = Some(Literal::Flag(true));
    }
}

/// The module.
pub struct ReleaseActivate;

/// The module as a program.
pub const PROGRAM: oxistrano_core::Program = oxistrano_releases::program::<ReleaseActivate>();

impl Module for ReleaseActivate {
    type Options = Options;
    const NAME: &'static str = "release_activate";
    const DOCUMENTATION: Documentation = docs::DOCUMENTATION;

    fn run(options: Options, context: &Context) -> Result<Outcome, Failure> {
        let layout = options.layout();
        let would = format!("would activate {}", options.version);
        let root = match Root::open_if_there(&layout)? {
            None if context.check_mode => {
                let diff = switch::first_diff(&layout, &options.version, options.current_via);
                let outcome = Outcome::new(true).value("version", options.version.as_str());
                return Ok(outcome.msg(would).diff(diff));
            }
            Some(root) => root,
            None => Root::open(layout.clone())?,
        };
        let (root, _) = root.changing(&options.deployer, context.check_mode)?;
        let shared = shared_links(&options.shared_paths, &options.shared_files).paths;
        let previous = root.all_releases()?.active().map(|release| release.version.clone());
        let result = |outcome: Outcome| {
            outcome
                .value("version", options.version.as_str())
                .value("current_path", layout.current_path().display().to_string())
                .value("previous", previous.as_ref().map(Version::as_str))
        };
        if context.check_mode {
            // In check mode, the release does not exist yet.
            let via = options.current_via;
            let plan = match switch::plan(&root, &options.version, via, &shared) {
                Err(failure) if failure.code() == switch::NO_RELEASE => {
                    switch::plan_ahead(&root, &options.version, via)
                }
                plan => plan,
            }?;
            let revision = previous.as_ref().and_then(|version| switch::revision(&root, version));
            let outcome = Outcome::new(plan.is_needed()).diff(plan.diff(&root));
            return Ok(result(outcome).value("previous_revision", revision).msg(would));
        }
        let plan = switch::plan(&root, &options.version, options.current_via, &shared)?;
        let diff = plan.diff(&root);
        let switched = plan.apply(&root, options.durable)?;
        let later = trash::empty_later(&root.releases()?, &switched.trash);
        let msg = if switched.changed { "is live now" } else { "is already live" };
        Ok(result(Outcome::new(switched.changed))
            .msg(format!("{} {msg}", options.version))
            .diff(diff)
            .warnings(switched.warnings)
            .warnings(later))
    }
}
