//! The messages of an upgrade: what was done, and the state after a failure.

use oxistrano_core::{Failure, Outcome};
use oxistrano_magento::Answer;
use oxistrano_magento::maintenance::{Flag, Places};

use crate::{How, Options};

/// The limit of lines in the result; the log has all.
const LINES: usize = 200;
/// The limit of characters of a line.
pub const WIDTH: usize = 1000;

pub fn would(options: &Options) -> Outcome {
    let words: Vec<_> = options.how.commands().iter().map(|command| command.words[0]).collect();
    Outcome::new(true).msg(format!("would run {}", words.join(", ")))
}

/// The failure if the shop is open.
pub fn open(options: &Options, places: &Places) -> Failure {
    let up = places.lines(Flag::word);
    let cause = match up.is_empty() {
        true => format!("there is no shop to close at {}", places.missing()),
        false => format!("the shop is open ({})", up.join(", ")),
    };
    Failure::new(
        "not_in_maintenance",
        format!("refusing to upgrade the database for '{}'", options.path),
    )
    .cause(cause)
    .remedy(
        "raise the maintenance flag first (magento_maintenance), or set require_maintenance=false",
    )
    .state("Nothing was changed.")
}

/// Adds the state after a failed upgrade, and how to continue or go back.
pub fn closed(failure: Failure, options: &Options, log: Option<String>) -> Failure {
    let closed =
        Places::find(&options.deploy_to, &options.paths).is_ok_and(|places| places.is_closed());
    let state = if options.online {
        "The live release still serves visitors. Part of the additions may be in its database, \
         which does not affect it. Fix the cause and deploy again"
    } else if closed {
        "Maintenance stays on: the shop is closed, and its database may be partly upgraded. To \
         continue, fix the cause and deploy again: the next deploy upgrades, then opens the shop. \
         To go back, restore the database from its backup and roll back"
    } else {
        "The shop is open, and its database may be partly upgraded. Fix the cause and run the \
         upgrade again"
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

/// The essential lines of the output: without modules that had nothing to do, progress bars and repeated lines.
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
        // Keep the beginning and the end.
        let left_out = lines.len() - LINES;
        let rest = lines.split_off(LINES / 2).split_off(left_out);
        lines.push(format!("[{left_out} lines left out]"));
        lines.extend(rest);
    }
    lines
}
