//! The options and their checks.

use oxistrano_core::json::{Map, Value};
use oxistrano_core::{AbsPath, Failure, Literal, RelPath};
use oxistrano_fastcgi::Address;

use crate::requests::Url;

/// Those of Magento and most other applications.
const ENTRY_POINTS: [&str; 5] =
    ["pub/index.php", "pub/static.php", "pub/get.php", "pub/health_check.php", "index.php"];

oxistrano_core::choices! {
    /// The wanted state.
    pub enum State {
        /// Report only.
        Status = "status",
        /// The new release is compiled.
        Warmed = "warmed",
        /// No old code is served.
        Fresh = "fresh",
        /// The cache is emptied.
        Reset = "reset",
        /// The workers are replaced.
        Reloaded = "reloaded",
        /// The service is restarted.
        Restarted = "restarted",
        /// New requests wait.
        Held = "held",
        /// Held requests go on.
        Released = "released",
    }
}

oxistrano_core::choices! {
    /// How to drop old code.
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
        /// Warn.
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
        /// V(status) reports the state of the pool and changes nothing.
        ///
        /// V(warmed) is for the time before the switch. It compiles the scripts of O(release_path)
        /// that opcache holds of the live release, the most used first, a few at a time.
        ///
        /// V(fresh) is for the time after the switch. It finds out whether php-fpm would serve old
        /// code, and only then does what O(method) says.
        ///
        /// V(reset) empties opcache, V(reloaded) replaces the workers gracefully, V(restarted)
        /// restarts the service. With O(deploy_to), V(reset) and V(reloaded) then compile the
        /// scripts of the live release that opcache held before.
        ///
        /// V(held) is for code and schema that must change together, without refusing visitors. The
        /// module waits for the requests in flight. New requests wait at the pool's socket until
        /// V(released), at most O(hold) seconds, and then go on to php-fpm. With O(deploy_to),
        /// requests for the release that was live at the beginning (C($realpath_root)) are then
        /// passed on to the new live release.
        state: State, default = Some(Literal::Text("fresh"));
        /// The pool's socket or port, for example C(/run/php/php8.2-fpm.sock) or C(127.0.0.1:9000).
        /// By default, the only pool on the host; if there are several, the module fails and lists
        /// them.
        socket: Option<Address>;
        /// Root of the deployment, an absolute path. Needed for O(state=warmed) and O(state=fresh).
        deploy_to: Option<AbsPath>, aliases = &["path"];
        /// The name of the link (or directory) of the live release, relative to O(deploy_to).
        current_dir: RelPath, default = Some(Literal::Text("current"));
        /// The directory of the releases, relative to O(deploy_to).
        releases_dir: RelPath, default = Some(Literal::Text("releases"));
        /// With O(state=warmed), the new release, an absolute path.
        release_path: Option<AbsPath>;
        /// The scripts that the web server requests, relative to a release. By default
        /// V(pub/index.php), V(pub/static.php), V(pub/get.php), V(pub/health_check.php),
        /// V(index.php). O(state=fresh) also looks at all cached scripts in a release's root and in
        /// its C(pub/).
        entry_points: Vec<RelPath>;
        /// Other paths by which a web server passes O(current_dir), for example a document root
        /// that leads through another link.
        served_as: Vec<AbsPath>;
        /// With O(state=warmed), URLs to request from the new release after compiling, as the web
        /// server would with C($realpath_root), so that classes are linked and caches filled. This
        /// runs the new code, maybe against a database that is not upgraded yet.
        requests: Vec<String>;
        /// FastCGI parameters to add to O(requests), for example C(MAGE_RUN_CODE).
        request_params: Map<String, Value>, default = Some(Literal::EmptyDict);
        /// With O(state=warmed), the maximum number of scripts to compile.
        max_files: u32, default = Some(Literal::Number(20_000));
        /// With O(state=fresh), what to do if old code would be served. V(reset) takes effect when
        /// no request that uses opcache is running. Afterwards, the scripts that were cached are
        /// compiled again for the live release.
        method: Method, default = Some(Literal::Text("reset"));
        /// With O(state=fresh), what to do if opcache has no room for another release.
        when_full: WhenFull, default = Some(Literal::Text("warn"));
        /// The service to restart. By default the systemd unit of the master process.
        service: Option<String>;
        /// A directory for the module's PHP script. The pool's user must be able to read files in
        /// it, and the web server must not serve it. By default C(.oxistrano) in O(deploy_to), else
        /// C(/dev/shm), else C(/tmp).
        script_dir: Option<AbsPath>;
        /// With O(state=held), the maximum number of seconds that requests wait. Stay below the web
        /// server's own limit (C(fastcgi_read_timeout), by default 60 s).
        hold: u64, default = Some(Literal::Number(25));
        /// With O(state=held), the maximum number of requests that wait. Further requests are
        /// answered with 503 and C(Retry-After).
        hold_most: u32, default = Some(Literal::Number(500));
        /// With O(state=held), requests that php-fpm still answers, by their C(SCRIPT_NAME), for
        /// example a load balancer's health check. On a connection that the web server keeps open,
        /// they also wait.
        hold_except: Vec<String>, default = Some(Literal::EmptyList);
        /// Magento root directories, relative to O(deploy_to), as for
        /// M(oxistrano.deploy.magento_maintenance). With O(state=held), the maintenance flag is
        /// raised in them as soon as requests are held. With O(state=released), it is lowered right
        /// before they continue, unless somebody else has raised it. Visitors wait for less time
        /// than with a task of its own.
        maintenance: Vec<RelPath>;
        /// With O(maintenance) and O(state=held), the addresses (C(REMOTE_ADDR)) that may still use
        /// the shop, as for M(oxistrano.deploy.magento_maintenance).
        maintenance_allowed_ips: Option<Vec<String>>, default = None;
        /// With O(maintenance) and O(state=held), the reason to write into the flag.
        maintenance_reason: Option<String>;
        /// Seconds that the module may take altogether.
        timeout: u64, default = Some(Literal::Number(60));
    }
}

/// The checked options.
pub struct Plan {
    pub options: Options,
    pub entry_points: Vec<RelPath>,
    pub urls: Vec<Url>,
}

impl Plan {
    pub fn new(options: Options) -> Result<Self, Failure> {
        let mut problems = Vec::new();
        let needs_root = matches!(options.state, State::Warmed | State::Fresh);
        if needs_root && options.deploy_to.is_none() {
            problems.push(format!("deploy_to is required with state={}", options.state.word()));
        }
        if options.state == State::Warmed && options.release_path.is_none() {
            problems.push("release_path is required with state=warmed".to_owned());
        }
        if !options.maintenance.is_empty() && options.deploy_to.is_none() {
            problems.push("deploy_to is required with maintenance".to_owned());
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
            return Err(Failure::new("invalid_arguments", "php_fpm got invalid arguments")
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

    /// The real path of the new release, as in opcache's keys. `None` if it does not exist.
    pub fn release(&self) -> Result<Option<std::path::PathBuf>, Failure> {
        let Some(path) = &self.options.release_path else { return Ok(None) };
        match std::fs::canonicalize(path.as_path()) {
            Ok(real) => Ok(Some(real)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::io("open", path.as_path(), error)),
        }
    }

    pub fn shown_release(&self) -> String {
        self.options.release_path.as_ref().map_or_else(String::new, ToString::to_string)
    }
}
