//! The pool of a run: its address, its master, its PHP.

use std::os::fd::AsFd;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use oxistrano_core::{AbsPath, Failure};
use oxistrano_fastcgi::{Address, Connections, ask, connections};

use crate::config::{self, Config, PoolConfig};
use crate::deadline::Deadline;
use crate::master::{Found, Master};
use crate::php::{Answer, Php, params};
use crate::place;

/// A pool.
#[derive(Debug)]
pub struct Pool {
    /// Its address.
    pub address: Address,
    /// Its master process.
    pub found: Found,
    /// Its configuration, or why it cannot be read.
    pub config: Result<Config, String>,
    /// When the run has to end.
    pub deadline: Deadline,
    script_dir: Option<AbsPath>,
    deploy_to: Option<AbsPath>,
}

impl Pool {
    /// Finds the pool at an address.
    ///
    /// # Errors
    /// When no process listens there.
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

    /// The master, if it is proved to be php-fpm's.
    ///
    /// # Errors
    /// Why `verb` is not possible.
    pub fn master(&self, verb: &str) -> Result<&Master, Failure> {
        let what = format!("cannot {verb} php-fpm");
        let failure = match &self.found {
            Found::Master(master) => return Ok(master),
            Found::Doubtful(doubtful) => {
                let cause = format!("its master process {} {}", doubtful.pid, doubtful.why);
                if doubtful.is_roots {
                    Failure::new("not_permitted", what).cause(cause).remedy("run as root (become)")
                } else {
                    Failure::new("untrusted_master", what).cause(cause).remedy(
                        "run as the user who runs php-fpm (become_user), use method=reset, or find \
                         out who started that process",
                    )
                }
            }
            Found::Nothing => Failure::new("no_master", what)
                .cause(format!(
                    "the master process of the socket '{}' is not known; it may run in a container or \
                     on another host",
                    self.address
                ))
                .remedy("run the module where php-fpm runs, as root (become), or use method=reset"),
        };
        Err(failure.state("Nothing was changed."))
    }

    /// Connects to its PHP.
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

    /// Its section of the configuration.
    pub fn configured(&self) -> Option<&PoolConfig> {
        let listens = |pool: &&PoolConfig| {
            Address::new(&pool.listen).is_ok_and(|address| address == self.address)
        };
        self.config.as_ref().ok()?.pools.iter().find(listens)
    }

    /// Seconds that a reload gives requests in flight to finish; `None` if not known.
    pub fn process_control_timeout(&self) -> Option<u64> {
        self.config.as_ref().ok().map(|config| config.process_control_timeout.as_secs())
    }

    /// Whether a worker answers, whatever it says.
    pub fn answers(&self) -> Result<(), Failure> {
        let request = params("/nonexistent/oxistrano.php".as_ref(), "/oxistrano.php", "GET");
        ask(&place::door(&self.address), &request.limit(1 << 20), self.deadline.left()).map(|_| ())
    }

    /// Requests in progress and in the queue. The smallest number within a short time, because our
    /// own finished requests may still be counted.
    pub fn busy(&self) -> Connections {
        let mut least = connections(&self.address);
        for _ in 0..5 {
            if least.accepted == 0 {
                break;
            }
            // The number is only shown, so this is not a failure; the next wait handles a signal.
            if self.deadline.sleep(Duration::from_millis(10)).is_err() {
                break;
            }
            let now = connections(&self.address);
            least.accepted = least.accepted.min(now.accepted);
            least.queued = least.queued.min(now.queued);
        }
        least
    }

    /// The warning about requests that a reload would cut off. `since` is when the master read its
    /// configuration, in seconds since the epoch; 0 if not known.
    pub fn cut_off(&self, since: u64) -> Option<String> {
        let busy = match self.busy().accepted {
            0 => String::new(),
            active => format!(" ({active} now)"),
        };
        let advice = "set it in the [global] section of php-fpm.conf, for example to 10s";
        match &self.config {
            Err(why) => Some(format!(
                "Whether the reload cuts off requests in flight{busy} is not known, because \
                 process_control_timeout cannot be read ({why})."
            )),
            Ok(config) if config.process_control_timeout.is_zero() => Some(format!(
                "The reload cuts off requests in flight{busy}, and their clients get 502, because \
                 process_control_timeout is 0; {advice}."
            )),
            Ok(config) => {
                let changed = config.changed.duration_since(UNIX_EPOCH).unwrap_or_default();
                (since > 0 && changed.as_secs() > since).then(|| {
                    format!(
                        "php-fpm's configuration was changed after php-fpm read it: whether this \
                         reload cuts off requests in flight{busy} depends on the old \
                         process_control_timeout."
                    )
                })
            }
        }
    }

    /// Waits until `ready` returns true; `false` after the deadline.
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
    let path = master.config.as_ref().ok_or("the master process does not show its path")?;
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
