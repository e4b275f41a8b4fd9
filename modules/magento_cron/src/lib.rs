//! Holds the cron jobs and queue consumers of a shop back, and lets them go on with the
//! release that is live.
//!
//! Does: edits the lines of the crontab that belong to this deploy root, and waits for what
//! they have started. Requires: the program `crontab`, where there are jobs. After a
//! failure: the crontab is as it was, or as it was asked for.

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
    /// What the jobs should do.
    pub enum State {
        /// Not start.
        Held = "held",
        /// Run the code of the release that is named.
        Running = "running",
    }
}

oxistrano_core::options! {
    /// The options of `magento_cron`.
    pub struct Options {
        /// V(held) comments the lines out and waits until what they have started has ended;
        /// V(running) puts the lines back and points all of them at O(path).
        state: State;
        /// Root of the deployment, an absolute path. Only lines that name it are touched.
        deploy_to: AbsPath;
        /// With O(state=running), Magento's root directory that the lines are to name.
        path: Option<AbsPath>;
        /// The directory of the releases, relative to O(deploy_to).
        releases_dir: RelPath, default = Some(Literal::Text("releases"));
        /// What leads to the live release, relative to O(deploy_to). A line that names it needs no
        /// change of path.
        current_dir: RelPath, default = Some(Literal::Text("current"));
        /// Whose crontab and processes, by name or number; if it is not given, those of the user that the
        /// module runs as. Only root can name another.
        user: Option<String>;
        /// With O(state=held), seconds to wait for a C(cron:run) that is running; V(0): not at all.
        wait: u64, default = Some(Literal::Number(60));
        /// With O(state=held), end the queue consumers of the shop (SIGTERM); the cron jobs, or the
        /// supervisor that started them, start them again.
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
                // Magento writes, and looks for, the path without links.
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
            State::Running => outcome(format!("{} running", count(edited.jobs.len()))),
            State::Held => {
                let left = settle(&options, user.as_ref(), &place)?;
                outcome(format!("{} held back", count(edited.jobs.len())))
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
        0 => "no cron job of this shop is".to_owned(),
        1 => "1 cron job is".to_owned(),
        jobs => format!("{jobs} cron jobs are"),
    }
}

/// Waits for the jobs that run and ends the consumers. Returns what runs still.
fn settle(options: &Options, user: Option<&User>, place: &Place) -> Result<Vec<String>, Failure> {
    let uid = user.map_or_else(users::current, |user| user.uid);
    let roots = place.roots();
    if options.stop_consumers {
        jobs::stop_consumers(uid, &roots);
    }
    jobs::wait(uid, &roots, options.stop_consumers, Duration::from_secs(options.wait)).map_err(
        |failure| {
            failure.state("The cron jobs are held back; what they had started may still run.")
        },
    )
}
