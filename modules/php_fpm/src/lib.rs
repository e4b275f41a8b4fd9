//! Asks and tends a php-fpm pool around a deploy: what opcache holds, compiling the new
//! release before the switch, forgetting the old one after it, graceful reloads.
//!
//! Does: sends FastCGI requests for a script of its own, a signal to php-fpm's master, or
//! restarts its service. Requires: the pool's socket. Leaves behind: nothing; the script
//! is removed whatever happens.

mod act;
mod config;
mod deadline;
mod discover;
mod docs;
mod fresh;
mod hold;
mod master;
mod php;
mod pool;
mod prove;
mod requests;
mod script;
mod warm;

use std::path::Path;

use oxistrano_core::json::{Map, Value};
use oxistrano_core::{AbsPath, Context, Documentation, Failure, Literal, Module, Outcome, RelPath};
use oxistrano_fastcgi::Address;

use deadline::Deadline;
use fresh::{Live, Room};
use php::{Answer, Opcache, Php};
use pool::Pool;
use requests::Url;

/// Magento's, and those of most others.
const ENTRY_POINTS: [&str; 5] =
    ["pub/index.php", "pub/static.php", "pub/get.php", "pub/health_check.php", "index.php"];

oxistrano_core::choices! {
    /// What is wanted.
    pub enum State {
        /// Only ask.
        Status = "status",
        /// The new release is compiled.
        Warmed = "warmed",
        /// No old code is served.
        Fresh = "fresh",
        /// The cache is emptied.
        Reset = "reset",
        /// The workers are new.
        Reloaded = "reloaded",
        /// The service is restarted.
        Restarted = "restarted",
        /// New requests wait.
        Held = "held",
        /// What waits goes on.
        Released = "released",
    }
}

oxistrano_core::choices! {
    /// How old code is got rid of.
    pub enum Method {
        /// `opcache_reset()`
        Reset = "reset",
        /// SIGUSR2
        Reload = "reload",
        /// By the service manager.
        Restart = "restart",
    }
}

oxistrano_core::choices! {
    /// What to do when the cache is nearly full.
    pub enum WhenFull {
        /// Say so.
        Warn = "warn",
        /// Empty it.
        Reset = "reset",
        /// Reload.
        Reload = "reload",
    }
}

oxistrano_core::options! {
    /// The options of `php_fpm`.
    pub struct Options {
        /// V(status) asks and changes nothing.
        ///
        /// V(warmed), before the switch: compiles for O(release_path) the scripts that opcache holds
        /// of the live release, the most used first, a few at a time.
        ///
        /// V(fresh), after the switch: finds out whether old code would be served, and only then
        /// does what O(method) says.
        ///
        /// V(reset) empties opcache, V(reloaded) replaces the workers gracefully, V(restarted)
        /// restarts the service. With O(deploy_to) the first two then compile for the live release what
        /// opcache held.
        ///
        /// V(held): new requests wait at the pool's socket until V(released), for O(hold) seconds at
        /// most, and then go on to php-fpm; those in flight are waited for. For code and schema that
        /// must change together, without anybody being refused. With O(deploy_to), what was asked of the
        /// release that was live at the beginning (C($realpath_root)) is then asked of the one that is.
        state: State, default = Some(Literal::Text("fresh"));
        /// The pool's socket, C(/run/php/php8.2-fpm.sock) or C(127.0.0.1:9000). By default the only
        /// one on the host; if there are several, the module fails and lists them.
        socket: Option<Address>;
        /// Root of the deployment, an absolute path. Needed for O(state=warmed) and O(state=fresh).
        deploy_to: Option<AbsPath>, aliases = &["path"];
        /// The name in O(deploy_to) that leads to the active release.
        current_dir: RelPath, default = Some(Literal::Text("current"));
        /// The directory of the releases, relative to O(deploy_to).
        releases_dir: RelPath, default = Some(Literal::Text("releases"));
        /// With O(state=warmed), the new release, an absolute path.
        release_path: Option<AbsPath>;
        /// The scripts that the web server asks for, relative to a release. By default
        /// V(pub/index.php), V(pub/static.php), V(pub/get.php), V(pub/health_check.php),
        /// V(index.php). O(state=fresh) also looks at all cached scripts in a release's root and in
        /// its C(pub/).
        entry_points: Vec<RelPath>;
        /// Other paths by which a web server names O(current_dir), a root that leads through another
        /// link for example.
        served_as: Vec<AbsPath>;
        /// With O(state=warmed), URLs that the new release is then asked for, as the web server would
        /// with C($realpath_root), so that classes are linked and caches filled. The new code runs:
        /// mind a database that has not been upgraded yet.
        requests: Vec<String>;
        /// FastCGI parameters to add to O(requests), C(MAGE_RUN_CODE) for example.
        request_params: Map<String, Value>, default = Some(Literal::EmptyDict);
        /// With O(state=warmed), how many scripts at most.
        max_files: u32, default = Some(Literal::Number(20_000));
        /// With O(state=fresh), what is done when old code would be served. V(reset) takes effect when
        /// no request that uses opcache is running; after it, what was cached is compiled again for
        /// the live release.
        method: Method, default = Some(Literal::Text("reset"));
        /// With O(state=fresh), what is done when opcache has no room for another release.
        when_full: WhenFull, default = Some(Literal::Text("warn"));
        /// The service to restart. By default the systemd unit of the master process.
        service: Option<String>;
        /// A directory for the script that asks. The pool's user must be able to read in it, the web
        /// must not serve it. By default C(.oxistrano) in O(deploy_to), else C(/dev/shm), else
        /// C(/tmp).
        script_dir: Option<AbsPath>;
        /// With O(state=held), for how many seconds at most. Mind the web server's own limit
        /// (C(fastcgi_read_timeout), 60 s).
        hold: u64, default = Some(Literal::Number(25));
        /// With O(state=held), how many requests wait at most. What comes beyond is answered 503 with
        /// C(Retry-After).
        hold_most: u32, default = Some(Literal::Number(500));
        /// With O(state=held), the requests that php-fpm goes on answering, by their C(SCRIPT_NAME): those by which
        /// a balancer sees whether the host is well. On a connection that the web server keeps open they wait, too.
        hold_except: Vec<String>, default = Some(Literal::EmptyList);
        /// Seconds for all of it.
        timeout: u64, default = Some(Literal::Number(60));
    }
}

/// The module.
pub struct PhpFpm;

/// The module as a program.
pub const PROGRAM: oxistrano_core::Program =
    oxistrano_core::Program::of::<PhpFpm>().with_job(hold::job);

impl Module for PhpFpm {
    type Options = Options;
    const NAME: &'static str = "php_fpm";
    const DOCUMENTATION: Documentation = docs::DOCUMENTATION;

    fn run(options: Options, context: &Context) -> Result<Outcome, Failure> {
        let plan = Plan::new(options)?;
        let deadline = Deadline::after(plan.options.timeout);
        let address = match &plan.options.socket {
            Some(address) => address.clone(),
            None => discover::the_socket()?,
        };
        let repaired = hold::repair(&address, context)?;
        if plan.options.state == State::Released {
            let released = hold::released(&address, context)?;
            let released = released.or_changed(repaired.is_some()).warnings(repaired);
            return Ok(released.value("socket", address.to_string()));
        }
        let pool = Pool::at(
            address,
            deadline,
            plan.options.script_dir.clone(),
            plan.options.deploy_to.clone(),
        )?;
        let outcome = match plan.options.state {
            State::Status => status(&pool),
            State::Warmed => plan.warmed(&pool, context),
            State::Fresh => plan.fresh(&pool, context),
            State::Reset => plan.forced(&pool, Method::Reset, context),
            State::Reloaded => plan.forced(&pool, Method::Reload, context),
            State::Restarted => plan.forced(&pool, Method::Restart, context),
            State::Held => hold::held(&pool, &plan.limits(), context),
            // Done above.
            State::Released => hold::released(&pool.address, context),
        }?;
        let outcome = outcome.or_changed(repaired.is_some()).warnings(repaired);
        Ok(outcome.value("socket", pool.address.to_string()))
    }
}

/// The options, looked at together.
struct Plan {
    options: Options,
    entry_points: Vec<RelPath>,
    urls: Vec<Url>,
}

impl Plan {
    fn new(options: Options) -> Result<Self, Failure> {
        let mut problems = Vec::new();
        let needs_root = matches!(options.state, State::Warmed | State::Fresh);
        if needs_root && options.deploy_to.is_none() {
            problems.push(format!("with state={}, deploy_to is required", options.state.word()));
        }
        if options.state == State::Warmed && options.release_path.is_none() {
            problems.push("with state=warmed, release_path is required".to_owned());
        }
        if options.timeout == 0 {
            problems.push("timeout: must be at least 1".to_owned());
        }
        if !(1..=3600).contains(&options.hold) {
            problems.push("hold: must be from 1 to 3600".to_owned());
        }
        if !(1..=10_000).contains(&options.hold_most) {
            problems.push("hold_most: must be from 1 to 10000".to_owned());
        }
        let mut urls = Vec::new();
        for url in &options.requests {
            match Url::new(url) {
                Ok(url) => urls.push(url),
                Err(problem) => problems.push(problem),
            }
        }
        if !problems.is_empty() {
            return Err(Failure::new("invalid_arguments", "php_fpm was called wrongly")
                .cause(problems.join("; "))
                .value("problems", problems)
                .state("Nothing was changed."));
        }
        let mut entry_points = options.entry_points.clone();
        if entry_points.is_empty() {
            entry_points = ENTRY_POINTS.iter().filter_map(|path| RelPath::new(path).ok()).collect();
        }
        Ok(Self { options, entry_points, urls })
    }

    fn limits(&self) -> hold::Limits {
        hold::Limits {
            seconds: self.options.hold,
            most: self.options.hold_most as usize,
            except: self.options.hold_except.clone(),
            current: self
                .options
                .deploy_to
                .as_ref()
                .map(|root| root.as_path().join(&self.options.current_dir)),
        }
    }

    fn live(&self) -> Result<Live, Failure> {
        // Looked at in `new`.
        let deploy_to = self
            .options
            .deploy_to
            .as_ref()
            .ok_or_else(|| Failure::new("invalid_arguments", "deploy_to is required"))?;
        let options = &self.options;
        Live::look(deploy_to, &options.current_dir, &options.releases_dir, &options.served_as)
    }

    fn forced(&self, pool: &Pool, method: Method, context: &Context) -> Result<Outcome, Failure> {
        let done = done(method);
        if context.check_mode {
            return Ok(Outcome::new(true).msg(format!("would have {done}")));
        }
        // To reset, PHP must be asked; to reload it is better; a restart is for pools that hang.
        let (php, mut warnings) = match method {
            Method::Restart => (None, Vec::new()),
            Method::Reset => (Some(pool.php()?), Vec::new()),
            Method::Reload => match pool.php() {
                Ok(php) => (Some(php), Vec::new()),
                Err(failure) if is_only_unseen(&failure) => {
                    let warning = "The reload is verified by the process list only";
                    (None, vec![format!("{warning}: {failure}")])
                }
                Err(failure) => return Err(failure.state("Nothing was changed.")),
            },
        };
        let asked = php.as_ref().map(|(php, answer)| (php, answer));
        let known = php.as_ref().and_then(|(php, _)| self.known(php));
        warnings.extend(act::act(pool, asked, method, self.options.service.as_deref())?);
        let outcome = Outcome::new(true).msg(done).value("method", method.word());
        let outcome = described(outcome, pool).warnings(warnings);
        match (php, known) {
            (Some((php, _)), Some((live, known))) => {
                warmed_again(outcome, &php, &live, known, pool, method)
            }
            _ => Ok(outcome),
        }
    }

    /// The live release, and what opcache holds of it and of those before; `None` where that is not known.
    fn known(&self, php: &Php) -> Option<(Live, warm::Cached)> {
        self.options.deploy_to.as_ref()?;
        let live = self.live().ok()?;
        let answer = live.ask(php, &self.entry_points).ok()?;
        let known = self.cached(php, &live, &answer).ok()?;
        Some((live, known))
    }

    fn cached(&self, php: &Php, live: &Live, answer: &Answer) -> Result<warm::Cached, Failure> {
        let directories = fresh::directories(live, answer);
        let directories: Vec<&Path> = directories.iter().map(AsRef::as_ref).collect();
        warm::cached(php, &directories, self.options.max_files)
    }

    fn fresh(&self, pool: &Pool, context: &Context) -> Result<Outcome, Failure> {
        let live = self.live()?;
        let (php, before) = pool.php()?;
        let outcome = |changed| described(Outcome::new(changed), pool);
        if before.opcache() != Opcache::Enabled {
            let why = format!(
                "opcache is not enabled in this pool; paths may be remembered for {} s \
                 (realpath_cache_ttl)",
                before.number("/realpath_cache_ttl")
            );
            return Ok(outcome(false).msg(why.clone()).value("needed", false).value("why", why));
        }
        let answer = live.ask(&php, &self.entry_points)?;
        let verdict = fresh::judge(&live, &answer, pool::now());
        let room = Room::of(&live, &answer);
        let outcome = |changed| {
            outcome(changed)
                .value("needed", verdict.needed)
                .value("why", verdict.why.as_str())
                .value("nearly_full", room.nearly_full)
                .value("room", room.figures.clone())
        };
        let method = match (verdict.needed, room.nearly_full, self.options.when_full) {
            (true, _, _) => Some(self.options.method),
            (false, true, WhenFull::Reset) => Some(Method::Reset),
            (false, true, WhenFull::Reload) => Some(Method::Reload),
            _ => None,
        };
        let preloaded = fresh::preloaded(&live, &answer, method);
        let outcome = |changed| outcome(changed).warnings(preloaded.clone());
        let Some(method) = method else {
            return Ok(outcome(false).msg(verdict.why.as_str()).warnings(room.warning()));
        };
        // A full cache is why it is done, or is gone with it.
        let reason =
            if verdict.needed { verdict.why.clone() } else { room.warning().unwrap_or_default() };
        let outcome = |changed| outcome(changed).value("method", method.word());
        if context.check_mode {
            return Ok(outcome(true).msg(format!("would have {}: {reason}", done(method))));
        }
        let known = self.cached(&php, &live, &answer)?;
        let warnings =
            act::act(pool, Some((&php, &answer)), method, self.options.service.as_deref())?;
        let outcome = outcome(true).msg(format!("{}: {reason}", done(method))).warnings(warnings);
        warmed_again(outcome, &php, &live, known, pool, method)
    }

    fn warmed(&self, pool: &Pool, context: &Context) -> Result<Outcome, Failure> {
        let release = self.release()?;
        if context.check_mode {
            let would = format!("would compile the scripts of '{}'", self.shown_release());
            return Ok(Outcome::new(true).msg(would));
        }
        let Some(release) = release else {
            return Err(Failure::new("no_release", "cannot warm opcache")
                .cause(format!("'{}' is not there", self.shown_release()))
                .remedy("make the release first")
                .state("Nothing was changed."));
        };
        // The first deploy has no live release.
        let live = match self.live() {
            Ok(live) => Some(live),
            Err(failure) if failure.code() == "nothing_live" => None,
            Err(failure) => return Err(failure),
        };
        let unchanged = |pool: &Pool, why: &str| {
            Ok(described(Outcome::new(false), pool).msg(why).value("fits", true))
        };
        if live.as_ref().is_some_and(|live| live.directory) {
            let why = "current is a directory: its files are what is served, not the release's, and \
                       they cannot be compiled before they are replaced";
            return unchanged(pool, why);
        }
        let (php, before) = pool.php()?;
        if before.opcache() != Opcache::Enabled {
            return unchanged(
                pool,
                "opcache is not enabled in this pool: there is nothing to warm",
            );
        }
        let known = match &live {
            // The release that is live already is compiled as far as it was used.
            Some(live) => warm::cached(&php, &[&live.real], self.options.max_files)?,
            None => warm::Cached { names: Vec::new(), scripts: 0, memory: 0 },
        };
        let mut notes = Vec::new();
        let mut names = known.names;
        if names.is_empty() {
            notes.push(
                "opcache holds nothing of a live release that tells what is used: only the entry \
                 points were compiled."
                    .to_owned(),
            );
        }
        // In front: they are asked for first.
        for entry in self.entry_points.iter().rev() {
            let entry = entry.to_string();
            if !names.contains(&entry) && release.join(&entry).is_file() {
                names.insert(0, entry);
            }
        }
        let warmed = warm::compile(&php, &release, names, pool.deadline)?;
        let results = requests::ask_all(
            &hold::door(&pool.address),
            &self.urls,
            &release,
            &self.entry_points,
            &self.options.request_params,
            pool.deadline,
        )?;
        let figures = warmed.opcache().map_or(Value::Null, Answer::figures);
        let msg = format!(
            "compiled {} scripts of '{}', {} were cached already",
            warmed.compiled,
            release.display(),
            warmed.cached
        );
        Ok(described(Outcome::new(warmed.compiled > 0), pool)
            .msg(msg)
            .value("fits", !warmed.no_room)
            .value("warmed", warmed.figures())
            .value("live_scripts", known.scripts)
            .value("live_memory", known.memory)
            .value("opcache", figures)
            .warnings(notes)
            .warnings(warmed.warnings())
            .warnings(requests::warning(&results))
            .value("requests", results))
    }

    /// The real path of the new release: opcache knows scripts by it. `None` if it is not
    /// there.
    fn release(&self) -> Result<Option<std::path::PathBuf>, Failure> {
        let Some(path) = &self.options.release_path else { return Ok(None) };
        match std::fs::canonicalize(path.as_path()) {
            Ok(real) => Ok(Some(real)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::io("open", path.as_path(), error)),
        }
    }

    fn shown_release(&self) -> String {
        self.options.release_path.as_ref().map_or_else(String::new, ToString::to_string)
    }
}

/// The pool lives, only our script does not run in it.
fn is_only_unseen(failure: &Failure) -> bool {
    [php::NOT_RUN, "opcache_unavailable", "unexpected_answer"].contains(&failure.code())
}

/// What was there before, for the release that is live now; not worth a failure.
fn warmed_again(
    outcome: Outcome,
    php: &Php,
    live: &Live,
    known: warm::Cached,
    pool: &Pool,
    method: Method,
) -> Result<Outcome, Failure> {
    match warm::compile(php, &live.real, known.names, pool.deadline) {
        Ok(warmed) => Ok(outcome.value("warmed", warmed.figures()).warnings(warmed.warnings())),
        Err(failure) if failure.code() == "interrupted" => {
            Err(failure.instead_of_state(format!("php-fpm is {}, and not warm.", done(method))))
        }
        Err(failure) => Ok(outcome.warning(format!("It could not be warmed again: {failure}"))),
    }
}

fn done(method: Method) -> &'static str {
    match method {
        Method::Reset => "reset opcache",
        Method::Reload => "reloaded php-fpm",
        Method::Restart => "restarted php-fpm",
    }
}

fn status(pool: &Pool) -> Result<Outcome, Failure> {
    let (_script, answer): (Php, Answer) = pool.php()?;
    let busy = pool.busy();
    let figures = answer.figures();
    let msg = match answer.opcache() {
        Opcache::Enabled => format!(
            "PHP {}, opcache uses {} % of its memory for {} scripts, {} % are hits",
            answer.text("/php"),
            figures["used_percent"],
            figures["scripts"],
            figures["hit_rate"]
        ),
        Opcache::Disabled => format!("PHP {}, opcache is switched off", answer.text("/php")),
        Opcache::Absent => format!("PHP {}, opcache is not loaded", answer.text("/php")),
    };
    Ok(hold::described(described(Outcome::new(false), pool), &pool.address)
        .msg(msg)
        .value("php_version", answer.text("/php"))
        .value("opcache", figures)
        .value("active", busy.accepted)
        .value("queue", busy.queued)
        .value("pool", pool.configured().map(|pool| pool.name.as_str())))
}

/// With what is known of the pool's master.
fn described(outcome: Outcome, pool: &Pool) -> Outcome {
    let master = pool.found.master();
    outcome
        .value("master_pid", pool.found.pid())
        .value("master_in_doubt", pool.found.why())
        .value("unit", master.and_then(master::Master::unit))
        .value("config", master.and_then(|m| m.config.as_ref()).map(|p| p.display().to_string()))
        .value("process_control_timeout", pool.process_control_timeout())
}
