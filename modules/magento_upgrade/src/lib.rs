//! Upgrades the database of a shop to what a release needs.
//!
//! Does: `setup:upgrade --keep-generated`, or its parts, or only the import of the
//! configuration; then lowers the maintenance flag, if it is told to. Requires: that the
//! flag is up. After a failure: the flag stays up, and the failure says so.

mod background;
mod docs;
mod log;

use std::thread::sleep;
use std::time::{Duration, Instant};

use oxistrano_core::json::{Map, Value, json};
use oxistrano_core::{
    AbsPath, Context, Dir, Documentation, Failure, Literal, Module, Outcome, RelPath, show,
};
use oxistrano_magento::maintenance::{Flag, Places};
use oxistrano_magento::running::{self, Held};
use oxistrano_magento::{Answer, Magento, magento_options};

use log::Log;

oxistrano_core::choices! {
    /// How far to go.
    pub enum State {
        /// It runs.
        Begun = "begun",
        /// It has succeeded.
        Finished = "finished",
    }
}

oxistrano_core::choices! {
    /// What to run.
    pub enum How {
        /// Everything, in one command.
        Upgrade = "upgrade",
        /// The same in three commands.
        Parts = "parts",
        /// Only the configuration.
        Import = "import",
    }
}

impl How {
    /// Magento's commands, in their order.
    fn commands(self) -> &'static [Command] {
        match self {
            Self::Upgrade => &[UPGRADE],
            Self::Parts => &[SCHEMA, DATA, IMPORT],
            Self::Import => &[IMPORT],
        }
    }
}

/// A command of Magento, and what it prints when it has done its work: exit code 0 from a
/// program that is not Magento (`true`, a wrapper that loses the code) must not open a shop.
struct Command {
    words: &'static [&'static str],
    /// One of them, in 2.4.7 and in its source since 2.3.
    says: &'static [&'static str],
}

const IMPORTS: &str = "Processing configurations data";
const IMPORTED: &[&str] = &["Nothing to import.", IMPORTS];
/// With exit code 0 in 2.3.1 (magento2#23222).
const FAILED: &str = "Import failed:";
const UPGRADE: Command = Command { words: &["setup:upgrade", "--keep-generated"], says: IMPORTED };
const SCHEMA: Command =
    Command { words: &["setup:db-schema:upgrade"], says: &["Schema creation/updates:"] };
const DATA: Command =
    Command { words: &["setup:db-data:upgrade"], says: &["Data install/update:"] };
const IMPORT: Command = Command { words: &["app:config:import"], says: IMPORTED };

magento_options! {
    /// The options of `magento_upgrade`.
    pub struct Options {
        /// V(finished) does the whole upgrade, or with O(begun) waits for the end of the one that it names.
        /// V(begun) starts the upgrade and returns, so that the play can bring php-fpm to the new release
        /// meanwhile. By then the release must be live: if it is not and the deploy fails, the release is
        /// removed while it upgrades.
        state: State, default = Some(Literal::Text("finished"));
        /// With O(state=finished), the RV(id) that O(state=begun) has returned.
        begun: Option<String>;
        /// V(upgrade) runs C(setup:upgrade --keep-generated), which imports the configuration at its end;
        /// V(parts) runs C(setup:db-schema:upgrade), C(setup:db-data:upgrade) and C(app:config:import);
        /// V(import) only C(app:config:import).
        how: How, default = Some(Literal::Text("upgrade"));
        /// Root of the deployment, an absolute path.
        deploy_to: AbsPath;
        /// Magento's root directories whose code runs, relative to O(deploy_to), as for
        /// M(oxistrano.deploy.magento_maintenance); if none is named, V(current).
        paths: Vec<RelPath>;
        /// Fail when the maintenance flag is not up in every one of O(paths): visitors would meet code
        /// and schema that do not fit each other.
        require_maintenance: bool, default = Some(Literal::Flag(true));
        /// Run the commands with a cache of their own, below C(var), which is removed afterwards: for a
        /// release that is not live, so that the live one keeps its cache and reads nothing of theirs.
        own_cache: bool, default = Some(Literal::Flag(false));
        /// Upgrade beside the release that serves visitors, which M(oxistrano.deploy.magento_status) has said
        /// can be done (RV(oxistrano.deploy.magento_status#module:online)). It has a cache of its own, needs
        /// no maintenance flag, and waits for no lock of the database for longer than a second, because
        /// visitors would wait behind it; then it tries again, ten times.
        online: bool, default = Some(Literal::Flag(false));
        /// Fail when no configuration was imported, because M(oxistrano.deploy.magento_status) has said
        /// that this is needed.
        import_needed: bool, default = Some(Literal::Flag(false));
        /// Lower the flag, if M(oxistrano.deploy.magento_maintenance) has raised it, the moment that
        /// everything has succeeded.
        lower: bool, default = Some(Literal::Flag(false));
        /// Seconds that all commands together may take; then the one that runs and all that it started is
        /// ended. Signals to the module and a lost connection do not end it.
        timeout: u64, default = Some(Literal::Number(3600));
    }
}

/// More lines than these nobody reads; the log has them.
const LINES: usize = 200;
/// And of a line not more characters than these.
const WIDTH: usize = 1000;

/// The module.
pub struct MagentoUpgrade;

/// The module as a program.
pub const PROGRAM: oxistrano_core::Program = oxistrano_core::Program::of::<MagentoUpgrade>();

impl Module for MagentoUpgrade {
    type Options = Options;
    const NAME: &'static str = "magento_upgrade";
    const DOCUMENTATION: Documentation = docs::DOCUMENTATION;

    fn run(options: Options, context: &Context) -> Result<Outcome, Failure> {
        let patience = Duration::from_secs(options.timeout);
        let mut places = Places::find(&options.deploy_to, &options.paths)?;
        let begun = options.begun.clone().filter(|id| !id.is_empty());
        let outcome = match (begun, context.check_mode) {
            (_, true) => return Ok(would(&options)),
            (Some(id), _) if options.state == State::Finished => {
                let result = background::result(&options.deploy_to, &id, patience)
                    .map_err(|failure| closed(failure, &options, None))?;
                from_background(result)?
            }
            _ if options.online && options.how == How::Import => {
                return Err(Failure::new("not_online", "a configuration is not imported online")
                    .cause("the live release answers 500 as soon as the hash of another one is in the database")
                    .state("Nothing was changed."))
            }
            _ => {
                let magento = options.magento()?;
                if options.require_maintenance && !options.online && !places.is_closed() {
                    return Err(open(&options, &places));
                }
                if options.state == State::Begun {
                    let id = background::begin(&options.deploy_to, &arguments(&options), patience)?;
                    return Ok(Outcome::new(true).msg("the upgrade has begun").value("id", id));
                }
                running::wait(&options.deploy_to, patience)?;
                let held = running::hold(&options.deploy_to, &options.path, patience)?;
                if options.own_cache || options.online {
                    let (magento, apart) = magento.apart()?;
                    let outcome = finish(&options, &magento, &held);
                    let left = apart.end();
                    outcome?.warnings(left)
                } else {
                    finish(&options, &magento, &held)?
                }
            }
        };
        let lowered = options.lower
            && places.lower(false).map_err(|failure| {
                failure.while_trying(format!("{}, but", done(options.how, true)))
            })?;
        Ok(outcome.value("lowered", lowered).value("maintenance", places.to_json()))
    }
}

fn would(options: &Options) -> Outcome {
    let words: Vec<_> = options.how.commands().iter().map(|command| command.words[0]).collect();
    Outcome::new(true).msg(format!("would run {}", words.join(", ")))
}

/// The arguments with which this program does all of it, but for the flag: whether that is
/// lowered is decided when everything else is done as well.
fn arguments(options: &Options) -> Map<String, Value> {
    let paths: Vec<_> = options.paths.iter().map(ToString::to_string).collect();
    let arguments = json!({
        "state": State::Finished.word(),
        "how": options.how.word(),
        "deploy_to": options.deploy_to.to_string(),
        "paths": paths,
        "require_maintenance": options.require_maintenance,
        "own_cache": options.own_cache,
        "online": options.online,
        "import_needed": options.import_needed,
        "timeout": options.timeout,
        "path": options.path.to_string(),
        "php": options.php.words(),
        "path_for_php": options.path_for_php.as_ref().map(|path| path.display().to_string()),
        "user": options.user,
        "environment": options.environment,
    });
    match arguments {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// What the process in the background has printed, as if it had been done here.
fn from_background(mut result: Map<String, Value>) -> Result<Outcome, Failure> {
    let text = |value: Option<Value>| match value {
        Some(Value::String(text)) => text,
        _ => String::new(),
    };
    let msg = text(result.remove("msg"));
    let failed = result.remove("failed") == Some(Value::Bool(true));
    let changed = result.remove("changed") == Some(Value::Bool(true));
    let warnings = result.remove("warnings");
    for key in ["code", "invocation", "lowered", "maintenance", "path"] {
        result.remove(key);
    }
    if failed {
        let failure = Failure::new("upgrade_failed", msg.trim_end_matches('.'));
        return Err(result
            .into_iter()
            .fold(failure, |failure, (key, value)| failure.value(&key, value)));
    }
    let outcome = Outcome::new(changed).msg(msg);
    let outcome =
        result.into_iter().fold(outcome, |outcome, (key, value)| outcome.value(&key, value));
    let warnings = warnings.as_ref().and_then(Value::as_array).cloned().unwrap_or_default();
    Ok(outcome.warnings(warnings.into_iter().map(|warning| text(Some(warning)))))
}

/// Does all of it, but for the flag.
fn finish(options: &Options, magento: &Magento, held: &Held) -> Result<Outcome, Failure> {
    let config = config(magento);
    let mut log = Log::open(&options.deploy_to)?;
    let answers = upgrade(options, magento, &mut log, held)
        .map_err(|failure| closed(failure, options, log.path()))?;
    let changed = answers.iter().any(|answer| !answer.says("Nothing to import."))
        || options.how != How::Import;
    let seconds: f64 = answers.iter().map(Answer::seconds).sum();
    let rewritten = config != crate::config(magento);
    Ok(Outcome::new(changed)
        .msg(format!("{} ({seconds:.1} s)", done(options.how, changed)))
        .value("seconds", (seconds * 1000.0).round() / 1000.0)
        .value("lines", essential(&answers))
        .value("answers", answers.iter().map(Answer::to_json).collect::<Vec<_>>())
        .value("log", log.path())
        .warnings(log.warning())
        .warnings(held.warning.clone())
        .warnings(magento.warning())
        .warnings(rewritten.then(|| {
            "setup:upgrade has rewritten app/etc/config.php of this release on this host only, \
             because its modules were not in Magento's order; commit the file as it is now"
                .to_owned()
        })))
}

/// `app/etc/config.php` of the release, which may be the web user's to exchange; `None` where it is
/// no file of a size that Magento writes.
fn config(magento: &Magento) -> Option<Vec<u8>> {
    let etc = RelPath::new("app/etc").ok()?;
    Dir::open(magento.path()).ok()?.open_inside(&etc).ok()?.read("config.php").ok()?
}

/// Runs the commands until one fails.
fn upgrade(
    options: &Options,
    magento: &Magento,
    log: &mut Log,
    held: &Held,
) -> Result<Vec<Answer>, Failure> {
    let mut answers: Vec<Answer> = Vec::new();
    let mut left = Duration::from_secs(options.timeout);
    for Command { words, says } in options.how.commands() {
        let command = words.join(" ");
        log.heading(&command);
        let started = Instant::now();
        let answer = attempts(options, magento, words, left, log, held).map_err(|failure| {
            // Else it did not start, and says itself what to do.
            if started.elapsed() < left {
                return failure;
            }
            failure.remedy("find out what it waited for, and run it again with a longer timeout")
        })?;
        left = left.saturating_sub(started.elapsed());
        let contradicts =
            answer.stdout.lines().map(str::trim).find(|line| line.starts_with(FAILED));
        let done =
            answer.rc == 0 && contradicts.is_none() && says.iter().any(|words| answer.says(words));
        if !done {
            let cause = match answer.rc {
                0 if contradicts.is_some() => show::line(contradicts.unwrap_or_default(), WIDTH),
                0 => format!("{}, which are not Magento's words", answer.reason()),
                _ => answer.reason(),
            };
            return Err(Failure::new("upgrade_failed", format!("`bin/magento {command}` failed"))
                .cause(cause)
                .value(
                    "answers",
                    answers.iter().chain([&answer]).map(Answer::to_json).collect::<Vec<_>>(),
                )
                .value("lines", essential(std::slice::from_ref(&answer)))
                .path(magento.path()));
        }
        answers.push(answer);
    }
    // What was wanted has not happened, and no status will say so any more: a module's recurring data
    // has refreshed the hash that it goes by.
    if options.import_needed && !answers.iter().any(|answer| answer.says(IMPORTS)) {
        return Err(Failure::new("not_imported", "the configuration was not imported")
            .cause("app:config:status said that it has to be, and then there was nothing to import")
            .remedy(
                "DELETE FROM flag WHERE flag_code = 'config_hash' (with the prefix of your tables), so \
                 that Magento imports it, and deploy again",
            )
            .value("answers", answers.iter().map(Answer::to_json).collect::<Vec<_>>())
            .path(magento.path()));
    }
    Ok(answers)
}

/// Runs a command; online again, as long as all that it met was a lock.
fn attempts(
    options: &Options,
    magento: &Magento,
    words: &[&str],
    left: Duration,
    log: &Log,
    held: &Held,
) -> Result<Answer, Failure> {
    let started = Instant::now();
    let mut attempt = 1;
    loop {
        // The first one has all of it, to the second: its message says how long that was.
        let left = if attempt == 1 { left } else { left.saturating_sub(started.elapsed()) };
        let answer =
            magento.change(words, left, log.handle(), held.file.clone(), options.online)?;
        let waited = options.online
            && answer.rc != 0
            && [&answer.stdout, &answer.stderr].iter().any(|text| text.contains(LOCKED));
        if !waited || attempt == ATTEMPTS || left < AGAIN * 2 {
            return Ok(answer);
        }
        attempt += 1;
        sleep(AGAIN);
    }
}

/// The shop is open, and is not to be upgraded under its visitors.
fn open(options: &Options, places: &Places) -> Failure {
    let up = places.lines(Flag::word);
    let cause = match up.is_empty() {
        true => format!("nothing is at {} to be closed", places.missing()),
        false => format!("the shop is open ({})", up.join(", ")),
    };
    Failure::new(
        "not_in_maintenance",
        format!("refusing to upgrade the database for '{}'", options.path),
    )
    .cause(cause)
    .remedy(
        "raise the maintenance flag first (magento_maintenance), or say require_maintenance=false",
    )
    .state("Nothing was changed.")
}

/// What the server says to who has waited for a lock for too long.
const LOCKED: &str = "Lock wait timeout exceeded";
/// How often it is tried, and how long is waited in between.
const ATTEMPTS: u32 = 10;
const AGAIN: Duration = Duration::from_secs(2);

/// What a failed upgrade leaves, and how to go on or back.
fn closed(failure: Failure, options: &Options, log: Option<String>) -> Failure {
    let closed =
        Places::find(&options.deploy_to, &options.paths).is_ok_and(|places| places.is_closed());
    let state = if options.online {
        "The live release goes on serving. Its database may be added to in part, which it does not mind. Mend \
         the cause and deploy again"
    } else if closed {
        "Maintenance is on and stays on: the shop is closed, and its database may be upgraded in \
         part. To go on, mend the cause and deploy again: the next deploy upgrades, then opens the \
         shop. To go back, restore the database from its backup and roll back"
    } else {
        "The shop is open, and its database may be upgraded in part. Mend the cause and run it again"
    };
    failure
        .state(match &log {
            Some(path) => format!("{state}. All output: {path}."),
            None => format!("{state}."),
        })
        .value("maintenance_is_on", closed)
        .value("log", log)
}

fn done(how: How, changed: bool) -> &'static str {
    match (how, changed) {
        (How::Import, false) => "nothing to import",
        (How::Import, true) => "the configuration was imported",
        _ => "the database was upgraded",
    }
}

/// What a person wants to see of hundreds of lines: not which modules had nothing to do, no
/// progress bars, nothing twice.
fn essential(answers: &[Answer]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let text = answers.iter().flat_map(|answer| answer.stdout.lines().chain(answer.stderr.lines()));
    for line in text.map(str::trim_end) {
        let is_noise = line.trim().is_empty()
            || line.starts_with("Module '") && line.ends_with("':")
            || line.starts_with("Running schema recurring")
            || line.starts_with("Running data recurring")
            || line.contains("[>-") && line.contains('%');
        if !is_noise && lines.last().is_none_or(|last| last != line) {
            lines.push(line.chars().take(WIDTH).collect());
        }
    }
    if lines.len() > LINES {
        // How it began, and how it ended.
        let left_out = lines.len() - LINES;
        let rest = lines.split_off(LINES / 2).split_off(left_out);
        lines.push(format!("[{left_out} lines left out]"));
        lines.extend(rest);
    }
    lines
}
