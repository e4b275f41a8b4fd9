//! Runs Magento's upgrade commands and checks their output.

use std::thread::sleep;
use std::time::{Duration, Instant};

use oxistrano_core::{Dir, Failure, Outcome, RelPath, show};
use oxistrano_magento::running::Held;
use oxistrano_magento::{Answer, Magento};

use crate::log::Log;
use crate::tell::{WIDTH, closed, done, essential};
use crate::{How, Options};

/// The server's error after a lock timeout.
const LOCKED: &str = "Lock wait timeout exceeded";
/// How often to try, and how long to wait in between.
const ATTEMPTS: u32 = 10;
const AGAIN: Duration = Duration::from_secs(2);

impl How {
    /// Magento's commands, in their order.
    pub(crate) fn commands(self) -> &'static [Command] {
        match self {
            Self::Upgrade => &[UPGRADE],
            Self::Parts => &[SCHEMA, DATA, IMPORT],
            Self::Import => &[IMPORT],
        }
    }
}

/// A command of Magento, and its output on success: exit code 0 from a program that is not Magento
/// (`true`, a wrapper that drops the code) must not open a shop.
pub(crate) struct Command {
    pub(crate) words: &'static [&'static str],
    /// One of these, in 2.4.7 and in its source since 2.3.
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

/// Does the whole upgrade, except for the flag.
pub fn finish(options: &Options, magento: &Magento, held: &Held) -> Result<Outcome, Failure> {
    let config = config(magento);
    let mut log = Log::open(&options.deploy_to)?;
    let answers = upgrade(options, magento, &mut log, held)
        .map_err(|failure| closed(failure, options, log.path()))?;
    let changed = answers.iter().any(|answer| !answer.says("Nothing to import."))
        || options.how != How::Import;
    let seconds: f64 = answers.iter().map(Answer::seconds).sum();
    let rewritten = config != self::config(magento);
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
            "setup:upgrade has rewritten app/etc/config.php of this release, on this host only, \
             because its modules were not in Magento's order; commit the new file"
                .to_owned()
        })))
}

/// `app/etc/config.php` of the release, which the web user may replace; `None` if it is not a file of a plausible size.
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
            // Otherwise it did not start, and the failure already says what to do.
            if started.elapsed() < left {
                return failure;
            }
            failure.remedy(
                "find out what it was waiting for, and run it again with a longer \
                timeout",
            )
        })?;
        left = left.saturating_sub(started.elapsed());
        let contradicts =
            answer.stdout.lines().map(str::trim).find(|line| line.starts_with(FAILED));
        let done =
            answer.rc == 0 && contradicts.is_none() && says.iter().any(|words| answer.says(words));
        if !done {
            let cause = match answer.rc {
                0 if contradicts.is_some() => show::line(contradicts.unwrap_or_default(), WIDTH),
                0 => format!("{}, which is not what Magento prints", answer.reason()),
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
    // The import has not happened, and the status will not report it again: a module's recurring
    // data script has updated the hash.
    if options.import_needed && !answers.iter().any(|answer| answer.says(IMPORTS)) {
        return Err(Failure::new("not_imported", "the configuration was not imported")
            .cause(
                "app:config:status reported a pending import, but Magento then found nothing \
                to import",
            )
            .remedy(
                "to have Magento import it, run DELETE FROM flag WHERE flag_code = 'config_hash' \
                 (with your table prefix), and deploy again",
            )
            .value("answers", answers.iter().map(Answer::to_json).collect::<Vec<_>>())
            .path(magento.path()));
    }
    Ok(answers)
}

/// Runs a command; with `online`, tries again after a lock timeout.
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
        // The first attempt gets the whole time, because its message says how long it was.
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
