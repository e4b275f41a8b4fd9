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
/// A kilobyte for each deploy: a quarter of a million of them.
const LARGEST: u64 = 256 << 20;
/// So many characters of a reason are kept.
const REASON: usize = 1000;

/// One line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Event {
    /// Seconds since the epoch; in the file, UTC for people.
    #[serde(with = "time")]
    pub at: i64,
    /// Which release.
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
    /// Its directory is whole.
    Placed {
        /// What it was made from, where that can be told again: an archive's checksum and how
        /// it was unpacked.
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
        /// How.
        outcome: Outcome,
        /// Why, if it failed.
        reason: Option<String>,
    },
    /// It was left for another one.
    RolledBack {
        /// Where to.
        to: String,
        /// Why.
        reason: Option<String>,
        /// The user on this host.
        user: String,
    },
    /// What its latest deploy had put there was taken away again, and what was there
    /// before is back.
    Restored,
    /// It was deleted.
    Removed,
}

/// How a deploy ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Well.
    Success,
    /// Not.
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
    /// When `current` came to lead to it.
    #[serde(serialize_with = "as_time")]
    pub activated: Option<i64>,
    /// When its deploy ended.
    #[serde(serialize_with = "as_time")]
    pub ended: Option<i64>,
    /// How its deploy ended; none: it still runs, or died.
    pub outcome: Option<Outcome>,
    /// Why it failed, or was rolled back from.
    pub reason: Option<String>,
    /// When it was rolled back from.
    #[serde(serialize_with = "as_time")]
    pub rolled_back: Option<i64>,
    /// Whether this deploy put the directory there.
    pub placed: bool,
    /// Whether it was deleted.
    pub removed: bool,
    /// What its directory was made from, where that can be told again.
    pub source: Option<String>,
    /// The shared paths that it was activated with.
    #[serde(skip)]
    pub shared: Vec<String>,
    /// The line with which it begins.
    #[serde(skip)]
    line: usize,
    /// The line that says that it was rolled back from.
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
    /// The deploys of a version, by their places in `records`.
    of: HashMap<String, Vec<usize>>,
    /// What `current` was led to, one after the other.
    activations: Vec<String>,
    /// The time of the latest event so far.
    now: i64,
    /// The line that is being read, from 1 on.
    line: usize,
    damage: Damage,
}

impl History {
    /// Puts the lines together; those that are no event are counted.
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
        // Events are in order even if the clock was put back.
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
                // Somebody has put it back.
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
        // Until a new deploy has put a directory there, the old one is what it was.
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

    /// The deploy that made what the directory of a version holds: the latest that got as
    /// far as putting it there. With its place in the order of deploys.
    pub fn maker(&self, version: &Version) -> Option<(usize, &Record)> {
        let deploys = self.of.get(version.as_str())?.iter().rev();
        deploys
            .map(|index| (*index, &self.records[*index]))
            .find(|(_, record)| record.placed || record.activated.is_some())
    }

    /// Whether the directory of a version holds what was live once.
    pub fn was_active(&self, version: &Version) -> bool {
        self.maker(version).is_some_and(|(_, record)| record.activated.is_some())
    }

    /// What `current` was led to before it was led to `active`, the latest first.
    pub fn before<'a>(&'a self, active: &'a str) -> impl Iterator<Item = &'a str> {
        self.activations.iter().rev().map(String::as_str).filter(move |version| *version != active)
    }

    /// Whether all is known of the deploy that made what the directory of a version holds: no
    /// line that cannot be read comes after its beginning.
    pub fn knows(&self, version: &Version) -> bool {
        let known = |(_, record): (usize, &Record)| {
            record.started.is_some() && record.line > self.damage.last
        };
        !self.damage.any() || self.maker(version).is_some_and(known)
    }

    /// Whether all is known of a deploy since its beginning.
    pub fn knows_since(&self, record: Option<&Record>) -> bool {
        !self.damage.any() || record.is_some_and(|record| record.line > self.damage.last)
    }

    /// Whether a version that was rolled back from has not been gone back to since, in a line that
    /// cannot be read.
    pub fn knows_as_left(&self, record: &Record) -> bool {
        !self.damage.any() || record.left > self.damage.last
    }

    /// The lines that are no event.
    pub fn damage(&self) -> &Damage {
        &self.damage
    }

    /// The release that `current` was led to last.
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
                .remedy("move it away, and put the history back in its place if you have it"),
            Some(info) if info.size() > LARGEST => failure.remedy(
                "move it away and keep its last lines, as many as there are of releases that are \
                 still there (tail -n 1000)",
            ),
            _ => failure,
        })?;
        Ok(History::parse(&text.unwrap_or_default()))
    }

    /// What a person should know and do when lines of the history cannot be read; `kept` are the
    /// releases that stay for that reason.
    pub fn damage_warning(&self, damage: &Damage, kept: &[String]) -> Option<String> {
        if !damage.any() {
            return None;
        }
        let stay = match kept {
            [] => String::new(),
            kept => format!(", which now holds for {}", kept.join(", ")),
        };
        Some(format!(
            "{} of '{}' cannot be read: damaged, cut off, or written by a newer Oxistrano. Nothing \
             that began before is removed for what may have stood there{stay}. Write the event in its \
             place again (for a release that was live: {{\"at\":\"{}\",\"version\":\"NAME\",\
             \"event\":\"activated\",\"revision\":null}}), or delete the line; then releases that \
             the history does not call activated count as unfinished and are removed",
            damage.lines(),
            self.state_path().join(FILE).display(),
            clock::iso(clock::now()),
        ))
    }
    /// Appends an event. What later modules could not find out for themselves is on the disk
    /// when this returns: without the beginning of its deploy, what a power failure leaves of a
    /// release would look like a whole one.
    ///
    /// # Errors
    /// An I/O error.
    pub fn record(&self, version: &Version, kind: EventKind) -> Result<(), Failure> {
        self.record_at(clock::now(), version, kind)
    }

    /// The same for what happened at an earlier time.
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
        // A line that was cut off must not swallow this one.
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
        // In one write, so that no other line comes between. One that finds no room must not leave
        // a part of itself: it would count as damage from then on.
        if let Err(error) = file.write_all(&line) {
            let _ = file.set_len(length);
            return Err(Failure::io("write", &path, error));
        }
        if durable {
            file.sync_data().or_fail("sync", &path)?;
        }
        if length == 0 {
            // The name of a new file, and that of its directory.
            state.sync()?;
            self.dir().sync()?;
        }
        Ok(())
    }

    /// A reason as the history keeps it: without secrets, and so short that a line is read in no
    /// time.
    pub fn reason(text: &str) -> String {
        // A secret that is cut in two may not be known as one: the end of a longer beginning goes.
        let beginning: String = text.chars().take(4 * REASON).collect();
        let mut reason: String = secrets::hide(&beginning).chars().take(REASON).collect();
        if text.chars().nth(REASON).is_some() {
            reason.push('…');
        }
        reason
    }

    /// The event that a deploy began, as this process and this deployer.
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
