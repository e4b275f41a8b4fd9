//! Owns what is said of an upgrade: what was done, what state a failure leaves.

use oxistrano_core::{Failure, Outcome};
use oxistrano_magento::Answer;
use oxistrano_magento::maintenance::{Flag, Places};

use crate::{How, Options};

/// More lines than these nobody reads; the log has them.
const LINES: usize = 200;
/// And of a line not more characters than these.
pub const WIDTH: usize = 1000;

pub fn would(options: &Options) -> Outcome {
    let words: Vec<_> = options.how.commands().iter().map(|command| command.words[0]).collect();
    Outcome::new(true).msg(format!("would run {}", words.join(", ")))
}

/// The shop is open, and is not to be upgraded under its visitors.
pub fn open(options: &Options, places: &Places) -> Failure {
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

/// What a failed upgrade leaves, and how to go on or back.
pub fn closed(failure: Failure, options: &Options, log: Option<String>) -> Failure {
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

pub fn done(how: How, changed: bool) -> &'static str {
    match (how, changed) {
        (How::Import, false) => "nothing to import",
        (How::Import, true) => "the configuration was imported",
        _ => "the database was upgraded",
    }
}

/// What a person wants to see of hundreds of lines: not which modules had nothing to do, no
/// progress bars, nothing twice.
pub fn essential(answers: &[Answer]) -> Vec<String> {
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
