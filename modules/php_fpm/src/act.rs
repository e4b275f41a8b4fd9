//! The methods to drop old code from a pool: reset, reload, restart. Each is verified.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use oxistrano_core::Failure;
use oxistrano_core::command::Program;

use crate::deadline::Deadline;
use crate::hold;
use crate::master::Master;
use crate::options::Method;
use crate::php::{Answer, Opcache, Php};
use crate::place;
use crate::pool::{Pool, past};
use crate::prove;

/// For `php-fpm -t`.
const TEST: Duration = Duration::from_secs(20);
const NOTHING: &str = "Nothing was changed.";

/// Does it. Returns warnings.
///
/// # Errors
/// What went wrong, with the state that things are in.
pub fn act(
    pool: &Pool,
    php: Option<(&Php, &Answer)>,
    method: Method,
    service: Option<&str>,
) -> Result<Vec<String>, Failure> {
    match (method, php) {
        (Method::Reset, Some((php, before))) => reset(pool, php, before).map(|()| Vec::new()),
        (Method::Reset, None) => Err(Failure::new("opcache_unavailable", "cannot reset opcache")),
        (Method::Reload, php) => reload(pool, php),
        (Method::Restart, _) => restart(pool, service),
    }
}

/// `opcache_reset()`: takes effect when no request that uses the cache is running any more.
fn reset(pool: &Pool, php: &Php, before: &Answer) -> Result<(), Failure> {
    let failed = || Failure::new("reset_failed", "cannot reset opcache");
    match before.opcache() {
        Opcache::Enabled => {}
        Opcache::Disabled => {
            return Err(failed()
                .cause("opcache is switched off in this pool")
                .remedy("no old code is cached; remove the task")
                .state(NOTHING));
        }
        Opcache::Absent => {
            return Err(failed()
                .cause("the extension opcache is not loaded in this pool")
                .remedy("no old code is cached; remove the task")
                .state(NOTHING));
        }
    }
    let restarts = "/statistics/manual_restarts";
    // A pending restart that somebody else has requested is enough.
    if !before.is_pending() {
        let answer = php.ask("reset", oxistrano_core::json::json!({}))?;
        if !answer.flag("/reset") && !answer.is_pending() {
            return Err(failed().cause("opcache_reset() returned false").state(NOTHING));
        }
    }
    let done = pool.wait(|| {
        let now = php.ask("status", oxistrano_core::json::json!({})).map_err(|failure| {
            failure.state("opcache_reset() was called. Whether it has taken effect is not known.")
        })?;
        let happened = now.number(restarts) > before.number(restarts)
            || now.number("/statistics/last_restart_time")
                > before.number("/statistics/last_restart_time");
        Ok(happened && !now.is_pending())
    })?;
    if done {
        return Ok(());
    }
    Err(failed()
        .cause("a request that began before the reset is still running, and opcache waits for it")
        .remedy("raise timeout, or end that request")
        .state(
            "The reset is pending: until the last such request has ended, PHP runs without \
             opcache, then with an empty one.",
        ))
}

fn reload(pool: &Pool, php: Option<(&Php, &Answer)>) -> Result<Vec<String>, Failure> {
    let master = pool.master("reload")?;
    test_configuration(master, pool.deadline)?;
    let started = php.map_or(0, |(_, answer)| started(answer));
    // Otherwise a restart within the same second would not be detected.
    past(started, pool.deadline)?;
    // The reload would cut off requests in flight, so they are finished first, and new ones wait.
    let pause = match pool.process_control_timeout() {
        Some(0) => hold::pause(pool)?,
        _ => None,
    };
    let warnings = pool.cut_off(started).filter(|_| {
        let is_quiet = match &pause {
            Some(pause) => pause.is_quiet,
            // Held already, by a deploy.
            None => place::door(&pool.address) != pool.address && pool.busy().accepted == 0,
        };
        // Other pools of this master are not held.
        !is_quiet || pool.config.as_ref().map_or(true, |config| config.pools.len() > 1)
    });
    let before = master.workers();
    master.reload()?;
    let sent = "The reload was requested.";
    let mut trouble = None;
    let done = pool.wait(|| {
        let workers = master.workers();
        if !before.is_empty() && workers.iter().any(|worker| before.contains(worker)) {
            return Ok(false);
        }
        let answer = match php {
            Some((php, _)) => php.ask("status", oxistrano_core::json::json!({})).map(Some),
            None => pool.answers().map(|()| None),
        };
        match answer {
            // We may not see the old workers, so the new ones have to be recognised.
            Ok(Some(answer)) => Ok(self::started(&answer) > started || started == 0),
            Ok(None) => Ok(true),
            Err(failure) if failure.code() == "interrupted" => Err(failure.state(sent)),
            // Expected in the time between the old workers and the new ones.
            Err(failure) => {
                trouble = Some(failure);
                Ok(false)
            }
        }
    })?;
    if done {
        return Ok(warnings.into_iter().collect());
    }
    let failure = Failure::new("reload_failed", "php-fpm did not reload in time").state(sent);
    Err(match trouble {
        Some(trouble) => failure.cause(trouble).remedy("check php-fpm's log"),
        None => failure
            .cause("old workers are still working on requests")
            .remedy("raise timeout above process_control_timeout, or end those requests"),
    })
}

/// The start time of the cache, and so of the workers; 0 without opcache.
fn started(answer: &Answer) -> u64 {
    answer.number("/statistics/start_time")
}

fn restart(pool: &Pool, service: Option<&str>) -> Result<Vec<String>, Failure> {
    let systemd = Path::new("/run/systemd/system").is_dir();
    let failed = || Failure::new("no_service", "cannot restart php-fpm").state(NOTHING);
    let name = match (service, pool.found.master()) {
        (Some(service), _) => service.to_owned(),
        (None, Some(master)) if systemd => prove::service(master, pool.deadline)?,
        (None, _) => {
            let why = pool.found.why().unwrap_or_else(|| "systemd does not run here".to_owned());
            return Err(failed()
                .cause(format!("its service is not known: {why}"))
                .remedy("set service, for example to php8.2-fpm"));
        }
    };
    let odd = |c: char| !c.is_ascii_alphanumeric() && !"@._:-\\".contains(c);
    if name.is_empty() || name.starts_with('-') || name.contains(odd) {
        return Err(
            failed().cause(format!("'{}' is not a valid service name", name.escape_debug()))
        );
    }
    let mut warnings = Vec::new();
    match pool.found.master() {
        Some(master) => test_configuration(master, pool.deadline)?,
        None => warnings.extend(pool.found.why().map(|why| {
            format!("php-fpm's configuration was not tested before the restart: {why}.")
        })),
    }
    let argv: [&str; 3] = if systemd {
        ["systemctl", "restart", &name]
    } else {
        ["service", name.trim_end_matches(".service"), "restart"]
    };
    Program::new(argv).timeout(pool.deadline.left()).run_ok().map_err(|failure| {
        failure
            .while_trying("cannot restart php-fpm")
            .remedy("run as root (become), and check the service's log")
            .state("Whether php-fpm runs is not known.")
    })?;
    let mut trouble = None;
    let done = pool.wait(|| {
        // If the master was not known, only an answer can be checked.
        let new = match pool.found.master() {
            Some(old) => Master::behind(&pool.address, pool.deadline.left())
                .is_ok_and(|found| found.master().is_some_and(|new| !new.is(old))),
            None => true,
        };
        match (new, pool.answers()) {
            (new, Ok(())) => Ok(new),
            (_, Err(failure)) if failure.code() == "interrupted" => Err(failure),
            (_, Err(failure)) => {
                trouble = Some(failure);
                Ok(false)
            }
        }
    })?;
    if done {
        return Ok(warnings);
    }
    let failure = Failure::new(
        "restart_failed",
        format!(
            "restarting the service '{name}' did not \
        restart php-fpm"
        ),
    );
    Err(match trouble {
        Some(trouble) => failure.cause(trouble).remedy("check php-fpm's log"),
        None => failure
            .cause("the pool is still served by the same master process")
            .remedy("set service to the service of this pool"),
    }
    .state("The service was restarted."))
}

/// `php-fpm -t`: a reload with a broken configuration ends php-fpm. The program is executed by the
/// handle that was proved, and only root can write the configuration.
fn test_configuration(master: &Master, deadline: Deadline) -> Result<(), Failure> {
    let Some(config) = master.config.as_ref() else { return Ok(()) };
    if !master.shares_root() {
        return Ok(());
    }
    let real = prove::configuration(config)?;
    let (program, called) = master.program();
    // -R: the test must accept pools that run as root.
    let argv = ["-t", "-R", "-y"].map(OsString::from);
    let argv = [called.into()].into_iter().chain(argv).chain([real.into()]);
    let test = Program::new(argv).executable(program).timeout(TEST.min(deadline.left()));
    if !master.is_unchanged() {
        return Err(Failure::new("no_master", "cannot test php-fpm's configuration")
            .cause(format!("the master process {} has ended", master.pid()))
            .remedy("check whether php-fpm runs, and try again")
            .state(NOTHING));
    }
    let said = match test.run_ok() {
        Ok(_) => return Ok(()),
        Err(failure) if failure.code() == "interrupted" => return Err(failure),
        Err(failure) => failure.to_string(),
    };
    // Any other failure of the test does not prevent a reload.
    if !said.contains("FPM initialization failed") {
        return Ok(());
    }
    let errors = said.split("ERROR: ").skip(1).filter_map(|rest| rest.lines().next());
    let errors: Vec<_> = errors.map(|line| line.trim_end_matches(['.', ' '])).collect();
    Err(Failure::new("broken_configuration", "php-fpm's configuration is broken")
        .cause(errors.join("; ").replace("\\n", " "))
        .remedy("fix it; php-fpm would not start with it")
        .path(config)
        .state("Nothing was changed: php-fpm still runs with the configuration that it has read."))
}
