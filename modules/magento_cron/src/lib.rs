//! Disables the cron jobs of a shop and ends its queue consumers, and enables the jobs with the live release.
//!
//! Does: edits the lines of the crontab that belong to this deploy root, and waits for what they
//! have started. Requires: the program `crontab`, if there are jobs. After a failure: the crontab
//! is unchanged, or changed as requested.

mod crontab;
mod docs;
mod jobs;

use std::time::Duration;

use oxistrano_core::users::{self, User};
use oxistrano_core::{
    AbsPath, Context, Diff, Documentation, Failure, Literal, Module, Outcome, RelPath,
};

use crontab::{Crontab, readable};
use oxistrano_magento::Place;

oxistrano_core::choices! {
    /// The wanted state of the jobs.
    pub enum State {
        /// Disabled.
        Held = "held",
        /// Enabled, with the code of O(path).
        Running = "running",
    }
}

oxistrano_core::options! {
    /// The options of `magento_cron`.
    pub struct Options {
        /// V(held) comments the lines out and waits until the processes that they started have
        /// ended. V(running) restores the lines and points all of them to O(path).
        state: State;
        /// Root of the deployment, an absolute path. Only lines that contain it are changed.
        deploy_to: AbsPath;
        /// With O(state=running), the Magento root directory to write into the lines.
        path: Option<AbsPath>;
        /// The directory of the releases, relative to O(deploy_to).
        releases_dir: RelPath, default = Some(Literal::Text("releases"));
        /// The link to the live release, relative to O(deploy_to). Lines with this path keep it.
        current_dir: RelPath, default = Some(Literal::Text("current"));
        /// The user whose crontab and processes to manage, a name or a number. By default, the user
        /// that the module runs as; only root can name another one.
        user: Option<String>;
        /// With O(state=held), seconds to wait for a running C(cron:run). V(0) does not wait.
        wait: u64, default = Some(Literal::Number(60));
        /// With O(state=held), whether to end the queue consumers of the shop (SIGTERM). The cron
        /// jobs or the supervisor that started them will start them again.
        stop_consumers: bool, default = Some(Literal::Flag(true));
    }
}

/// The module.
pub struct MagentoCron;

/// The module as a program.
pub const PROGRAM: oxistrano_core::Program = oxistrano_core::Program::of::<MagentoCron>();

impl Module for MagentoCron {
    type Options = Options;
    const NAME: &'static str = "magento_cron";
    const DOCUMENTATION: Documentation = docs::DOCUMENTATION;

    fn run(options: Options, context: &Context) -> Result<Outcome, Failure> {
        let user = options.user.as_deref().filter(|user| !user.is_empty());
        let user = user.map(users::resolve_user).transpose()?;
        let crontab = Crontab::read(user.clone())?;
        let deploy_to = options.deploy_to.as_path();
        let place = Place::new(deploy_to, &options.releases_dir, &options.current_dir);
        let edited = match options.state {
            State::Held => crontab.held(&place),
            State::Running => {
                // Magento writes and searches the path without links.
                let path = options.path.as_ref().map(AbsPath::as_path);
                let real = path.and_then(|path| path.canonicalize().ok());
                crontab.running(&place, real.as_deref().or(path))
            }
        };
        let changed = edited.text != crontab.text;
        let diff = Diff {
            header: "crontab".into(),
            before: readable(&crontab.text).lines().map(str::to_owned).collect(),
            after: readable(&edited.text).lines().map(str::to_owned).collect(),
        };
        let outcome = |msg: String| {
            Outcome::new(changed).msg(msg).value("jobs", edited.jobs.clone()).diff(diff.clone())
        };
        if context.check_mode {
            return Ok(outcome(format!("would change {}", count(edited.jobs.len()))));
        }
        if changed {
            crontab.write(&edited.text)?;
        }
        Ok(match options.state {
            State::Running => outcome(format!("{} enabled", count(edited.jobs.len()))),
            State::Held => {
                let left = settle(&options, user.as_ref(), &place)?;
                outcome(format!("{} disabled", count(edited.jobs.len())))
                    .value("left", left.clone())
                    .warnings((!left.is_empty()).then(|| {
                        format!("still running after {} s: {}", options.wait, left.join(", "))
                    }))
            }
        })
    }
}

fn count(jobs: usize) -> String {
    match jobs {
        0 => "no cron jobs of this shop are".to_owned(),
        1 => "1 cron job is".to_owned(),
        jobs => format!("{jobs} cron jobs are"),
    }
}

/// Waits for the running jobs and ends the consumers. Returns those that are still running.
fn settle(options: &Options, user: Option<&User>, place: &Place) -> Result<Vec<String>, Failure> {
    let uid = user.map_or_else(users::current, |user| user.uid);
    let roots = place.roots();
    if options.stop_consumers {
        jobs::stop_consumers(uid, &roots);
    }
    jobs::wait(uid, &roots, options.stop_consumers, Duration::from_secs(options.wait)).map_err(
        |failure| {
            failure.state("The cron jobs are disabled; processes that they started may still run.")
        },
    )
}
