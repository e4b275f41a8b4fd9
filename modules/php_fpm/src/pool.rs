//! The pool that a run is about: where it listens, its master, its PHP.

use std::os::fd::AsFd;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use oxistrano_core::{AbsPath, Failure};
use oxistrano_fastcgi::{Address, Connections, ask, connections};

use crate::config::{self, Config, PoolConfig};
use crate::deadline::Deadline;
use crate::hold;
use crate::master::{Found, Master};
use crate::php::{Answer, Php, params};

/// A pool.
#[derive(Debug)]
pub struct Pool {
    /// Where it listens.
    pub address: Address,
    /// Who serves it.
    pub found: Found,
    /// Its configuration, or why it cannot be read.
    pub config: Result<Config, String>,
    /// When the run has to end.
    pub deadline: Deadline,
    script_dir: Option<AbsPath>,
    deploy_to: Option<AbsPath>,
}

impl Pool {
    /// Looks who listens there.
    ///
    /// # Errors
    /// When nobody does.
    pub fn at(
        address: Address,
        deadline: Deadline,
        script_dir: Option<AbsPath>,
        deploy_to: Option<AbsPath>,
    ) -> Result<Self, Failure> {
        let found = Master::behind(&address, deadline.left())
            .map_err(|failure| failure.state("Nothing was changed."))?;
        let config = read_config(&found, deadline);
        Ok(Self { address, found, config, deadline, script_dir, deploy_to })
    }

    /// Opens a line to its PHP.
    ///
    /// # Errors
    /// When the pool does not run our script.
    pub fn php(&self) -> Result<(Php, Answer), Failure> {
        Php::open(
            &self.address,
            self.script_dir.as_ref(),
            self.deploy_to.as_ref(),
            self.configured().map(|pool| pool.chroot.as_str()).filter(|root| !root.is_empty()),
            self.deadline,
        )
    }

    /// What the configuration says of it.
    pub fn configured(&self) -> Option<&PoolConfig> {
        let listens = |pool: &&PoolConfig| {
            Address::new(&pool.listen).is_ok_and(|address| address == self.address)
        };
        self.config.as_ref().ok()?.pools.iter().find(listens)
    }

    /// Seconds that a reload leaves to requests in flight; `None` if that is not known.
    pub fn process_control_timeout(&self) -> Option<u64> {
        self.config.as_ref().ok().map(|config| config.process_control_timeout.as_secs())
    }

    /// Whether a worker answers, whatever it says.
    pub fn answers(&self) -> Result<(), Failure> {
        let request = params("/nonexistent/oxistrano.php".as_ref(), "/oxistrano.php", "GET");
        ask(&hold::door(&self.address), &request.limit(1 << 20), self.deadline.left()).map(|_| ())
    }

    /// Requests at work and in the queue. What we have asked ourselves is over, but its worker
    /// may not have noticed yet, hence the smallest number of a short while.
    pub fn busy(&self) -> Connections {
        let mut least = connections(&self.address);
        for _ in 0..5 {
            if least.accepted == 0 {
                break;
            }
            // What is shown is not worth a failure; the next wait notices a signal.
            if self.deadline.sleep(Duration::from_millis(10)).is_err() {
                break;
            }
            let now = connections(&self.address);
            least.accepted = least.accepted.min(now.accepted);
            least.queued = least.queued.min(now.queued);
        }
        least
    }

    /// What must be said about requests that a reload would cut. `since` is when the master
    /// read its configuration, in seconds since the epoch; 0: not known.
    pub fn cut_off(&self, since: u64) -> Option<String> {
        let busy = match self.busy().accepted {
            0 => String::new(),
            active => format!(" ({active} at the moment)"),
        };
        let advice = "set it in the [global] section of php-fpm.conf, to 10s for example";
        match &self.config {
            Err(why) => Some(format!(
                "Whether the reload cuts requests in flight{busy} is not known: \
                 process_control_timeout cannot be read ({why})."
            )),
            Ok(config) if config.process_control_timeout.is_zero() => Some(format!(
                "The reload cuts requests in flight{busy}, their clients get 502: \
                 process_control_timeout is 0; {advice}."
            )),
            Ok(config) => {
                let changed = config.changed.duration_since(UNIX_EPOCH).unwrap_or_default();
                (since > 0 && changed.as_secs() > since).then(|| {
                    format!(
                        "php-fpm's configuration was changed after php-fpm has read it: whether \
                         this reload cuts requests in flight{busy} depends on the \
                         process_control_timeout that it had before."
                    )
                })
            }
        }
    }

    /// Waits until `ready` says so; `true` if it did in time.
    ///
    /// # Errors
    /// What `ready` fails with, and `interrupted`.
    pub fn wait(&self, mut ready: impl FnMut() -> Result<bool, Failure>) -> Result<bool, Failure> {
        let mut pause = Duration::from_millis(10);
        loop {
            if ready()? {
                return Ok(true);
            }
            if self.deadline.is_over() {
                return Ok(false);
            }
            self.deadline.sleep(pause)?;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }
}

fn read_config(found: &Found, deadline: Deadline) -> Result<Config, String> {
    let Some(master) = found.master() else { return Err(found.why().unwrap_or_default()) };
    let path = master.config.as_ref().ok_or("the master process does not name it")?;
    config::read(path, master.root().as_fd(), deadline.end())
}

/// Seconds since the epoch.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Waits until the clock shows another second: times here have no fractions.
///
/// # Errors
/// `interrupted`.
pub fn past(second: u64, deadline: Deadline) -> Result<(), Failure> {
    let limit = Instant::now() + Duration::from_secs(2);
    while now() <= second && Instant::now() < limit {
        deadline.sleep(Duration::from_millis(20))?;
    }
    Ok(())
}
