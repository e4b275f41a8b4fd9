//! Checks whether database and configuration match a release.
//!
//! Does: runs `setup:db:status` and `app:config:status` of that release, at once. Requires:
//! its `app/etc/env.php`. After a failure: nothing was changed, and nothing is known.

mod docs;

use std::thread;
use std::time::Duration;

use oxistrano_core::{
    AbsPath, Context, Documentation, Failure, Literal, Module, Outcome, json::Value,
};
use oxistrano_magento::online::Pair;
use oxistrano_magento::pending::Pending;
use oxistrano_magento::since::{Code, Since};
use oxistrano_magento::{Magento, magento_options, running, status};

/// About half a minute of work for MariaDB (docs/magento.md).
const MOST_MB: i64 = 1024;

magento_options! {
    /// The options of `magento_status`.
    pub struct Options {
        /// Root of the deployment, an absolute path. If it is set, the module first waits until an
        /// upgrade that still runs there has ended, because its answers would change.
        deploy_to: Option<AbsPath>;
        /// Root of Magento in the release that serves visitors. If it is set and an upgrade is
        /// needed, the module also reports what the upgrade would do, and whether it can be done
        /// online, that is while this release continues to work (RV(online)).
        live: Option<AbsPath>;
        /// Classes of data patches, schema patches and recurring setup scripts that may run while
        /// the live release serves visitors; V(*) allows all. Any other one makes RV(online) false.
        allowed: Vec<String>;
        /// The largest size in megabytes of a table in which something has to be built, for example
        /// an index; a larger table makes RV(online) false. V(0) sets no limit. Changes that the
        /// server makes at once (C(ALGORITHM=INSTANT)) are not limited.
        most_mb: u64, default = Some(Literal::Number(MOST_MB));
        /// For a rollback, the root of Magento in the newer release that was live until now. If it
        /// is set, the module reports what that release leaves in the database (RV(since)).
        left: Option<AbsPath>;
        /// Seconds that each command may take. After that, the command and all processes that it started are ended.
        timeout: u64, default = Some(Literal::Number(120));
    }
}

/// The module.
pub struct MagentoStatus;

/// The module as a program.
pub const PROGRAM: oxistrano_core::Program = oxistrano_core::Program::of::<MagentoStatus>();

impl Module for MagentoStatus {
    type Options = Options;
    const NAME: &'static str = "magento_status";
    const DOCUMENTATION: Documentation = docs::DOCUMENTATION;

    fn run(options: Options, context: &Context) -> Result<Outcome, Failure> {
        if context.check_mode && !options.path.as_path().exists() {
            let msg =
                "the release does not exist yet, so it is not known whether an upgrade is needed";
            return Ok(Outcome::new(false).msg(msg));
        }
        // This release is not live.
        let (magento, apart) = options.magento()?.apart()?;
        let timeout = Duration::from_secs(options.timeout);
        if let Some(deploy_to) = &options.deploy_to {
            running::wait(deploy_to, timeout, context.check_mode)
                .map_err(|failure| failure.state("Nothing was changed."))?;
        }
        // In parallel: both only read, and spend most of their time starting PHP.
        let (database, configuration) = thread::scope(|scope| {
            let database =
                thread::Builder::new().spawn_scoped(scope, || status::database(&magento, timeout));
            let configuration = status::configuration(&magento, timeout);
            // If no thread can be started, one after the other.
            let database = match database {
                Ok(database) => database.join(),
                Err(_) => Ok(status::database(&magento, timeout)),
            };
            (database, configuration)
        });
        let database = database.map_err(|_| Failure::new("panic", "the query did not finish"))?;
        let needed = database.is_needed() || configuration.is_needed();
        let told = database.reason.is_none() && configuration.reason.is_none();
        let pending =
            (options.live.is_some() && told && needed).then(|| Pending::ask(&magento, timeout));
        let since = match &options.left {
            Some(left) if told => Some(ask_since(&options, &magento, left, timeout)),
            _ => None,
        };
        let left = apart.end();
        status::require_told(&magento, &database, &configuration)?;
        let msg = match (database.is_needed(), configuration.is_needed()) {
            (true, _) => "the database needs setup:upgrade",
            (false, true) => "the configuration needs app:config:import",
            (false, false) => "database and configuration are up to date",
        };
        let mut obstacles = match (&options.live, &pending) {
            (Some(live), Some(pending)) => Pair {
                pending,
                release: options.path.as_path(),
                live: live.as_path(),
                upgrade: database.is_needed(),
                allowed: &options.allowed,
                most: options.most_mb,
            }
            .obstacles(),
            _ => Vec::new(),
        };
        if options.live.is_some() && configuration.is_needed() {
            // The database has one hash for all releases, so the live one would answer 500.
            obstacles.push(
                "a changed configuration has to be imported, which stops the live release"
                    .to_owned(),
            );
        }
        let online = options.live.is_some().then_some(obstacles.is_empty());
        let msg = match (online, needed) {
            (Some(true), true) => format!("{msg}, which can be done online"),
            (Some(false), true) => {
                format!("{msg}, which cannot be done online: {}", obstacles.join("; "))
            }
            _ => msg.to_owned(),
        };
        Ok(Outcome::new(false)
            .msg(msg)
            .value("online", online)
            .value("obstacles", obstacles)
            .value("deletes", pending.as_ref().map(Pending::deletes).unwrap_or_default())
            .value(
                "pending",
                pending.as_ref().map_or(Value::Null, |pending| pending.to_json(options.most_mb)),
            )
            .value("upgrade_needed", database.is_needed())
            // setup:upgrade imports the configuration at its end.
            .value("import_needed", configuration.is_needed())
            .value("maintenance_needed", needed)
            .value("database", database.database_json())
            .value("configuration", configuration.configuration_json())
            .value(
                "since",
                since.as_ref().and_then(|since| since.as_ref().ok()).map(Since::to_json),
            )
            .warnings(since.and_then(Result::err))
            .warnings(left)
            .warnings(magento.warning()))
    }
}

/// What the newer release leaves in the database, or a warning that this is not known: that release may be broken.
fn ask_since(
    options: &Options,
    earlier: &Magento,
    left: &AbsPath,
    timeout: Duration,
) -> Result<Since, String> {
    let ask = || {
        let earlier = Code::ask(earlier, timeout)?;
        // In a container it is next to the other one, under its own name.
        let real = left.as_path().canonicalize().map_err(|error| error.to_string())?;
        let given = options.path_for_php.as_deref().filter(|path| !path.as_os_str().is_empty());
        let for_php = given.zip(real.file_name()).map(|(path, name)| path.with_file_name(name));
        let real = AbsPath::new(&real)?;
        let (user, environment) = (options.user.as_deref(), &options.environment);
        // From here on, this one uses the separate cache.
        let left = Magento::new(&real, &options.php, for_php.as_deref(), user, environment)
            .and_then(Magento::apart);
        let (left, apart) = left.map_err(|failure| failure.to_string())?;
        let left = Code::ask(&left, timeout);
        apart.end();
        Ok(Since::between(&earlier, &left?))
    };
    ask().map_err(|why: String| {
        format!(
            "it is not known what of '{left}' stays in the database: {}",
            why.trim_end_matches('.')
        )
    })
}
