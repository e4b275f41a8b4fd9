//! Pauses the queue consumers of a shop, or restarts them with the live code.
//!
//! Does: sets Magento's poison pill, and stops, ends or continues the consumers of this host, each
//! between two messages. Requires: `/proc`. After a failure: no consumer stays stopped.

mod docs;
mod idle;

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use oxistrano_core::{
    Context, Documentation, Failure, Literal, Module, Outcome, RelPath, interrupt, users,
};
use oxistrano_magento::processes::{Job, Task, named, running};
use oxistrano_magento::{Answer, Place, magento_options};
use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};

use idle::Seen;

oxistrano_core::choices! {
    /// The wanted state of the consumers.
    pub enum State {
        /// Paused.
        Held = "held",
        /// Restarted with the live code.
        Restarted = "restarted",
        /// Continued.
        Released = "released",
    }
}

magento_options! {
    /// The options of `magento_consumers`.
    pub struct Options {
        /// V(held) pauses each consumer (SIGSTOP) once it waits for a message; for cron or the
        /// supervisor it still runs. V(restarted) ends each consumer (SIGTERM) that runs other code
        /// than that of O(path), once it waits for a message; cron or the supervisor starts it
        /// again. V(released) resumes the consumers that were held.
        state: State;
        /// Root of the deployment, an absolute path. Only consumers whose C(bin/magento) is below it are affected.
        deploy_to: oxistrano_core::AbsPath;
        /// The directory of the releases, relative to O(deploy_to).
        releases_dir: RelPath, default = Some(Literal::Text("releases"));
        /// The link to the live release, relative to O(deploy_to).
        current_dir: RelPath, default = Some(Literal::Text("current"));
        /// Seconds to wait for consumers that work on a message. V(0) does not wait.
        wait: u64, default = Some(Literal::Number(60));
        /// With O(state=held) and O(state=restarted), whether to also run
        /// C(queue:consumers:restart) of O(path). Each consumer of the shop, on any host, then
        /// returns its next message to the queue and ends. Once per database is enough. If Magento
        /// does not have this command, that is not a failure.
        poison_pill: bool, default = Some(Literal::Flag(true));
        /// Seconds that the command may take.
        timeout: u64, default = Some(Literal::Number(60));
    }
}

/// The module.
pub struct MagentoConsumers;

/// The module as a program.
pub const PROGRAM: oxistrano_core::Program = oxistrano_core::Program::of::<MagentoConsumers>();

/// How often to check the working consumers.
const PAUSE: Duration = Duration::from_millis(100);

impl Module for MagentoConsumers {
    type Options = Options;
    const NAME: &'static str = "magento_consumers";
    const DOCUMENTATION: Documentation = docs::DOCUMENTATION;

    fn run(options: Options, context: &Context) -> Result<Outcome, Failure> {
        let shop = Shop::new(&options)?;
        let chosen = shop.chosen();
        if context.check_mode {
            let names = chosen.iter().map(Job::name).collect::<Vec<_>>();
            let what = match options.state {
                State::Held => "held",
                State::Restarted => "restarted",
                State::Released => "released",
            };
            return Ok(Outcome::new(!names.is_empty())
                .msg(format!("{} would be {what}", count(names.len())))
                .value("consumers", named(names)));
        }
        if options.state == State::Released {
            let names = release(&chosen);
            return Ok(Outcome::new(!names.is_empty())
                .msg(format!("{} released", have_been(names.len())))
                .value("consumers", named(names)));
        }
        let told = if options.poison_pill { poison(&options) } else { Ok((false, None)) };
        let done = told.and_then(|told| Ok((told, shop.settle(options.wait)?)));
        let ((pill, warning), done) = done.inspect_err(|_| {
            // Release all, including those that an earlier run has held, because no later task may do it.
            release(&shop.consumers());
        })?;
        let word = if options.state == State::Held { "held" } else { "ended, to be started again" };
        let left = done.warning(options.wait, pill, options.state);
        Ok(Outcome::new(!done.names.is_empty() || pill)
            .msg(format!("{} {word}", have_been(done.names.len())))
            .value("consumers", named(done.names))
            .value("left", done.left)
            .value("poison_pill", pill)
            .warnings(warning)
            .warnings(left))
    }
}

/// The result.
#[derive(Debug, Default)]
struct Done {
    names: Vec<String>,
    /// Those that were still working at the end of the wait.
    left: Vec<String>,
    /// Whether the state of some could not be read.
    hidden: bool,
}

impl Done {
    fn warning(&self, waited: u64, pill: bool, state: State) -> Option<String> {
        let follows = match state {
            State::Restarted if pill => {
                "Those that Magento can stop will end before their next \
                message"
            }
            State::Restarted => "They continue with the code that they have loaded",
            State::Held | State::Released => "They continue to run",
        };
        let why = if self.hidden {
            "the kernel does not say whether these consumers are working (is CAP_SYS_PTRACE \
             missing?)"
                .to_owned()
        } else {
            format!("these consumers were still working on messages after {waited} s")
        };
        (!self.left.is_empty()).then(|| format!("{why}: {}. {follows}.", self.left.join(", ")))
    }
}

/// The consumers of a shop on this host, and the selection among them.
struct Shop<'a> {
    options: &'a Options,
    uid: u32,
    place: Place,
}

impl<'a> Shop<'a> {
    fn new(options: &'a Options) -> Result<Self, Failure> {
        let user = options.user.as_deref().filter(|user| !user.is_empty());
        let user = user.map(users::resolve_user).transpose()?;
        let place =
            Place::new(options.deploy_to.as_path(), &options.releases_dir, &options.current_dir);
        Ok(Self { options, uid: user.map_or_else(users::current, |user| user.uid), place })
    }

    fn consumers(&self) -> Vec<Job> {
        let jobs = running(self.uid, &self.place.roots());
        jobs.into_iter().filter(|job| job.task == Task::Consumer).collect()
    }

    /// Those that the state applies to.
    fn chosen(&self) -> Vec<Job> {
        let mut consumers = self.consumers();
        consumers.retain(|job| match self.options.state {
            State::Held => true,
            State::Restarted => !self.runs_live_code(job),
            State::Released => is_stopped(job),
        });
        consumers
    }

    /// Whether it runs the code of `path`. If it was started by a path through `current`, it runs
    /// the code that was live at that time.
    fn runs_live_code(&self, job: &Job) -> bool {
        let live = self.options.path.as_path();
        let same = |path: &Path| {
            path == live || path.canonicalize().ok().is_some_and(|path| path == real(live))
        };
        for releases in &self.place.releases {
            if let Ok(rest) = job.program.strip_prefix(releases) {
                return rest.iter().next().is_some_and(|version| same(&releases.join(version)));
            }
        }
        let link = self.place.current.iter().find(|link| job.program.starts_with(link));
        match (link.and_then(|link| link.symlink_metadata().ok()), job.process.started()) {
            (Some(link), Ok(ticks)) => started_at(ticks) > (link.ctime(), link.ctime_nsec()),
            _ => false,
        }
    }

    /// Holds or ends each consumer once it waits for a message.
    fn settle(&self, wait: u64) -> Result<Done, Failure> {
        let deadline = Instant::now() + Duration::from_secs(wait);
        let mut done = Done::default();
        loop {
            let (mut busy, mut hidden) = (Vec::new(), Vec::new());
            for job in self.chosen() {
                let name = job.name();
                match idle::pause(&job.process) {
                    Ok(Seen::Paused) if self.options.state == State::Restarted => {
                        if job
                            .process
                            .signal(Signal::TERM)
                            .and(job.process.signal(Signal::CONT))
                            .is_ok()
                            && !done.names.contains(&name)
                        {
                            done.names.push(name);
                        }
                    }
                    Ok(Seen::Paused) if !done.names.contains(&name) => done.names.push(name),
                    Ok(Seen::Paused) => {}
                    Ok(Seen::Busy) => busy.push(name),
                    Err(error) if error.kind() == ErrorKind::PermissionDenied => hidden.push(name),
                    // It has ended.
                    Err(_) => {}
                }
            }
            if busy.is_empty() || Instant::now() >= deadline {
                if self.options.state == State::Restarted {
                    self.release_the_rest();
                }
                done.hidden = busy.is_empty() && !hidden.is_empty();
                busy.append(&mut hidden);
                // One that has not ended yet after SIGTERM is already in `names`.
                busy.retain(|name| !done.names.contains(name));
                done.left = named(busy);
                return Ok(done);
            }
            interrupt::check()?;
            sleep(PAUSE);
        }
    }

    /// Continues the held consumers that run the live code.
    fn release_the_rest(&self) {
        release(&self.consumers().into_iter().filter(is_stopped).collect::<Vec<_>>());
    }
}

/// Sets Magento's poison pill. Returns whether it is set, and a warning if not.
fn poison(options: &Options) -> Result<(bool, Option<String>), Failure> {
    const COMMAND: &str = "queue:consumers:restart";
    let magento = options.magento()?;
    let reason = match magento.ask(&[COMMAND], Duration::from_secs(options.timeout)) {
        Ok(answer) if answer.rc == 0 => return Ok((true, None)),
        Ok(answer) if is_unknown(&answer) => return Ok((false, None)),
        Ok(answer) => answer.reason(),
        // The consumers of this host do not need it.
        Err(failure) => {
            interrupt::check()?;
            failure.to_string()
        }
    };
    Ok((
        false,
        Some(format!(
            "`bin/magento {COMMAND}` failed ({reason}), so consumers on hosts outside this play \
             continue with the code that they have loaded",
        )),
    ))
}

/// Before Magento 2.4 there was no such command.
fn is_unknown(answer: &Answer) -> bool {
    let reason = answer.reason();
    reason.contains("is not defined") || reason.contains("There are no commands defined")
}

fn is_stopped(job: &Job) -> bool {
    job.process.state().is_ok_and(|state| state == b'T')
}

fn release(jobs: &[Job]) -> Vec<String> {
    let released =
        jobs.iter().filter(|job| is_stopped(job) && job.process.signal(Signal::CONT).is_ok());
    released.map(Job::name).collect()
}

fn real(path: &Path) -> std::path::PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Converts ticks after boot (1/100 s, the unit of `/proc`) to seconds and nanoseconds since 1970.
fn started_at(ticks: u64) -> (i64, i64) {
    const SECOND: i64 = 1_000_000_000;
    let nanoseconds = |clock| {
        let time = clock_gettime(clock);
        time.tv_sec * SECOND + time.tv_nsec
    };
    let boot = nanoseconds(ClockId::Realtime) - nanoseconds(ClockId::Boottime);
    let at = boot + i64::try_from(ticks).unwrap_or(i64::MAX / SECOND) * (SECOND / 100);
    (at.div_euclid(SECOND), at.rem_euclid(SECOND))
}

fn count(consumers: usize) -> String {
    match consumers {
        0 => "no consumers of this shop".to_owned(),
        1 => "1 consumer".to_owned(),
        consumers => format!("{consumers} consumers"),
    }
}

fn have_been(consumers: usize) -> String {
    format!("{} {}", count(consumers), if consumers == 1 { "was" } else { "were" })
}
