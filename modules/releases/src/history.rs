//! What happened in a deploy root: one JSON object per line, appended, never changed.

use std::collections::HashMap;
use std::io::Write;
use std::os::unix::fs::FileExt;

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use oxistrano_core::{Failure, IoContext, clock, json, secrets};

use crate::Version;
use crate::damage::Damage;
use crate::deployer::Deployer;
use crate::root::{Root, local_user};

pub(crate) const FILE: &str = "history.jsonl";
/// About 1 KB for each deploy: enough for 250,000.
const LARGEST: u64 = 256 << 20;
/// The number of characters of a reason that are kept.
const REASON: usize = 1000;

/// One line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Event {
    /// Seconds since the epoch; in the file, UTC for people.
    #[serde(with = "time")]
    pub at: i64,
    /// The release.
    pub version: String,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

mod time {
    use oxistrano_core::clock;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub fn serialize<S: Serializer>(at: &i64, serializer: S) -> Result<S::Ok, S::Error> {
        clock::iso(*at).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
        let text = String::deserialize(deserializer)?;
        clock::parse_iso(&text).ok_or_else(|| Error::custom("no time"))
    }
}

/// What can happen to a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventKind {
    /// Its deploy began.
    Started {
        /// The user on this host.
        user: String,
        /// The user and host of the controller.
        by: String,
    },
    /// Its directory is complete.
    Placed {
        /// What it was made from, if that can be recognised: an archive's checksum and how it was unpacked.
        source: Option<String>,
    },
    /// `current` leads to it.
    Activated {
        /// The first line of its `REVISION`.
        revision: Option<String>,
        /// The shared paths that it was deployed with.
        #[serde(default)]
        shared: Vec<String>,
    },
    /// Its deploy ended.
    Ended {
        /// The outcome.
        outcome: Outcome,
        /// Why, if it failed.
        reason: Option<String>,
    },
    /// It was rolled back.
    RolledBack {
        /// The release that is live instead.
        to: String,
        /// Why.
        reason: Option<String>,
        /// The user on this host.
        user: String,
    },
    /// The directory that its latest deploy made was removed, and the earlier one restored.
    Restored,
    /// It was deleted.
    Removed,
}

/// How a deploy ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It succeeded.
    Success,
    /// It failed.
    Failed,
}

/// One deploy, put together from its events.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Record {
    /// The release.
    pub version: String,
    /// The first line of its `REVISION` when it was activated.
    pub revision: Option<String>,
    /// The user on this host.
    pub user: Option<String>,
    /// The user and host of the controller.
    pub by: Option<String>,
    /// Seconds since the epoch.
    #[serde(serialize_with = "as_time")]
    pub started: Option<i64>,
    /// When it became live.
    #[serde(serialize_with = "as_time")]
    pub activated: Option<i64>,
    /// When its deploy ended.
    #[serde(serialize_with = "as_time")]
    pub ended: Option<i64>,
    /// How its deploy ended; none if it is still running, or died.
    pub outcome: Option<Outcome>,
    /// Why it failed, or was rolled back.
    pub reason: Option<String>,
    /// When it was rolled back.
    #[serde(serialize_with = "as_time")]
    pub rolled_back: Option<i64>,
    /// Whether this deploy made the directory.
    pub placed: bool,
    /// Whether it was deleted.
    pub removed: bool,
    /// What its directory was made from, if that can be recognised.
    pub source: Option<String>,
    /// The shared paths that it was activated with.
    #[serde(skip)]
    pub shared: Vec<String>,
    /// The number of its first line.
    #[serde(skip)]
    line: usize,
    /// The number of the line of its rollback.
    #[serde(skip)]
    left: usize,
}

#[allow(clippy::ref_option, reason = "serde calls it so")]
fn as_time<S: serde::Serializer>(time: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(clock::iso).serialize(serializer)
}

/// All deploys of a root, the oldest first.
#[derive(Debug, Default)]
pub struct History {
    records: Vec<Record>,
    /// The deploys of each version, as indexes into `records`.
    of: HashMap<String, Vec<usize>>,
    /// The versions that were activated, in order.
    activations: Vec<String>,
    /// The time of the latest event so far.
    now: i64,
    /// The number of the current line, from 1 on.
    line: usize,
    damage: Damage,
}

impl History {
    /// Parses the lines; unreadable ones are counted.
    pub fn parse(text: &[u8]) -> Self {
        let mut history = Self::default();
        for line in text.split(|byte| *byte == b'\n') {
            history.line += 1;
            match json::from_slice::<Event>(line) {
                Ok(event) => history.apply(event),
                Err(_) if line.trim_ascii().is_empty() => {}
                Err(_) => history.damage.add(history.line),
            }
        }
        history
    }

    fn apply(&mut self, event: Event) {
        // Keeps events in order even if the clock was set back.
        self.now = self.now.max(event.at);
        let at = Some(self.now);
        if let EventKind::RolledBack { to, .. } = &event.kind {
            let to = to.clone();
            self.record(&to).rolled_back = None;
            self.activations.push(to);
        }
        if matches!(event.kind, EventKind::Started { .. }) {
            self.begin(&event.version);
        }
        if matches!(event.kind, EventKind::Activated { .. }) {
            self.activations.push(event.version.clone());
        }
        let line = self.line;
        let record = self.record(&event.version);
        match event.kind {
            EventKind::Started { user, by } => {
                (record.started, record.user, record.by) = (at, Some(user), Some(by));
            }
            EventKind::Placed { source } => {
                (record.placed, record.source) = (true, source);
                (record.rolled_back, record.reason) = (None, None);
            }
            EventKind::Activated { revision, shared } => {
                (record.activated, record.revision, record.rolled_back) = (at, revision, None);
                // It exists again: somebody has restored it.
                (record.shared, record.removed) = (shared, false);
            }
            EventKind::Ended { outcome, reason } => {
                (record.ended, record.outcome, record.reason) = (at, Some(outcome), reason);
            }
            EventKind::RolledBack { reason, .. } => {
                (record.rolled_back, record.reason, record.left) = (at, reason, line);
            }
            EventKind::Restored => (record.placed, record.source) = (false, None),
            EventKind::Removed => (record.removed, record.source) = (true, None),
        }
    }

    fn begin(&mut self, version: &str) -> usize {
        let order = self.records.len();
        let line = self.line;
        let mut record = Record { version: version.to_owned(), line, ..Record::default() };
        // Until a new deploy has made the directory, the old one stays.
        if let Some(before) = self.newest(version).map(|index| &self.records[index]) {
            (record.rolled_back, record.left) = (before.rolled_back, before.left);
            record.source.clone_from(&before.source);
            record.reason.clone_from(&before.reason);
        }
        self.records.push(record);
        self.of.entry(version.to_owned()).or_default().push(order);
        order
    }

    fn record(&mut self, version: &str) -> &mut Record {
        let index = self.newest(version).unwrap_or_else(|| self.begin(version));
        &mut self.records[index]
    }

    fn newest(&self, version: &str) -> Option<usize> {
        self.of.get(version)?.last().copied()
    }

    /// The deploys, the oldest first.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The latest deploy of a version.
    pub fn latest(&self, version: &Version) -> Option<&Record> {
        self.newest(version.as_str()).map(|index| &self.records[index])
    }

    /// The deploy that made the directory of a version (the latest one that got that far), and its index.
    pub fn maker(&self, version: &Version) -> Option<(usize, &Record)> {
        let deploys = self.of.get(version.as_str())?.iter().rev();
        deploys
            .map(|index| (*index, &self.records[*index]))
            .find(|(_, record)| record.placed || record.activated.is_some())
    }

    /// Whether the directory of a version was ever live.
    pub fn was_active(&self, version: &Version) -> bool {
        self.maker(version).is_some_and(|(_, record)| record.activated.is_some())
    }

    /// The versions that were live before `active`, the latest first.
    pub fn before<'a>(&'a self, active: &'a str) -> impl Iterator<Item = &'a str> {
        self.activations.iter().rev().map(String::as_str).filter(move |version| *version != active)
    }

    /// Whether everything is known of the deploy that made the directory of a version: no
    /// unreadable line follows its beginning.
    pub fn knows(&self, version: &Version) -> bool {
        let known = |(_, record): (usize, &Record)| {
            record.started.is_some() && record.line > self.damage.last
        };
        !self.damage.any() || self.maker(version).is_some_and(known)
    }

    /// Whether no unreadable line follows the beginning of a deploy.
    pub fn knows_since(&self, record: Option<&Record>) -> bool {
        !self.damage.any() || record.is_some_and(|record| record.line > self.damage.last)
    }

    /// Whether it is known that a rolled back version has not been activated again: no unreadable
    /// line follows the rollback.
    pub fn knows_as_left(&self, record: &Record) -> bool {
        !self.damage.any() || record.left > self.damage.last
    }

    /// The unreadable lines.
    pub fn damage(&self) -> &Damage {
        &self.damage
    }

    /// The release that was activated last.
    pub fn last_activated(&self) -> Option<&str> {
        self.activations.last().map(String::as_str)
    }
}

impl Root {
    /// Reads the history; an empty one if there is none.
    ///
    /// # Errors
    /// An I/O error.
    pub fn history(&self) -> Result<History, Failure> {
        let Some(state) = self.state_if_there()? else { return Ok(History::default()) };
        let there = state.lookup(FILE)?;
        let text = state.read_up_to(FILE, LARGEST).map_err(|failure| match there {
            Some(info) if !info.is_file() => failure
                .cause(format!("it is {}", info.noun()))
                .remedy("move it away, and restore the history file if you have it"),
            Some(info) if info.size() > LARGEST => failure.remedy(
                "move it away, and write its last lines, those of the releases that still exist, \
                 to a new file (tail -n 1000)",
            ),
            _ => failure,
        })?;
        Ok(History::parse(&text.unwrap_or_default()))
    }

    /// The warning about unreadable lines; `kept` are the releases that are not removed because of them.
    pub fn damage_warning(&self, damage: &Damage, kept: &[String]) -> Option<String> {
        if !damage.any() {
            return None;
        }
        let stay = match kept {
            [] => String::new(),
            kept => format!(" (now: {})", kept.join(", ")),
        };
        Some(format!(
            "{} of '{}' cannot be read: damaged, truncated, or written by a newer Oxistrano. It may \
             have said that a release was live, so no release of an earlier deploy is removed{stay}. \
             Write the event again (for a release that was live: {{\"at\":\"{}\",\"version\":\"NAME\",\
             \"event\":\"activated\",\"revision\":null}}), or delete the line; after that, releases \
             that the history does not call activated count as unfinished and are removed",
            damage.lines(),
            self.state_path().join(FILE).display(),
            clock::iso(clock::now()),
        ))
    }
    /// Appends an event. Events that later modules cannot infer are on the disk when this returns:
    /// without the start of its deploy, the part of a release that is left after a power failure
    /// would look complete.
    ///
    /// # Errors
    /// An I/O error.
    pub fn record(&self, version: &Version, kind: EventKind) -> Result<(), Failure> {
        self.record_at(clock::now(), version, kind)
    }

    /// The same for an event at an earlier time.
    pub(crate) fn record_at(
        &self,
        at: i64,
        version: &Version,
        kind: EventKind,
    ) -> Result<(), Failure> {
        let durable = matches!(kind, EventKind::Started { .. } | EventKind::Ended { .. });
        let event = Event { at: at.min(clock::now()), version: version.as_str().to_owned(), kind };
        let state = self.state()?;
        let path = state.at(FILE);
        let mut file = state.open_for_team(FILE, OFlags::APPEND, 0o640)?;
        let mut line = Vec::new();
        // If the last line is truncated, this one must not become part of it.
        let length = file.metadata().or_fail("examine", &path)?.len();
        let mut last = [b'\n'];
        if length > 0 {
            file.read_exact_at(&mut last, length - 1).or_fail("read", &path)?;
        }
        if last != [b'\n'] {
            line.push(b'\n');
        }
        line.extend(json::to_vec(&event).unwrap_or_default());
        line.push(b'\n');
        // In one write, so that lines do not mix. On a full disk, no part of the line may stay,
        // because it would count as damage.
        if let Err(error) = file.write_all(&line) {
            let _ = file.set_len(length);
            return Err(Failure::io("write", &path, error));
        }
        if durable {
            file.sync_data().or_fail("sync", &path)?;
        }
        if length == 0 {
            // The name of a new file, and of its directory.
            state.sync()?;
            self.dir().sync()?;
        }
        Ok(())
    }

    /// A reason as the history keeps it: without secrets, and short.
    pub fn reason(text: &str) -> String {
        // A secret that is cut in two might not be recognised, so mask a longer text, then cut it.
        let beginning: String = text.chars().take(4 * REASON).collect();
        let mut reason: String = secrets::hide(&beginning).chars().take(REASON).collect();
        if text.chars().nth(REASON).is_some() {
            reason.push('…');
        }
        reason
    }

    /// The event that a deploy was started by this process and this deployer.
    pub fn started_event(deployer: &Deployer) -> EventKind {
        let by = if deployer.host.is_empty() {
            String::new()
        } else {
            format!("{}@{}", deployer.user, deployer.host)
        };
        EventKind::Started { user: local_user(), by }
    }
}

#[cfg(test)]
mod tests;
