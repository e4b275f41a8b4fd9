//! What there is on a stage, and what a disturbed module may have done to it.

use std::collections::BTreeMap;

use oxistrano_harness::Manifest;

use crate::stage::Stage;

/// Names and what stands there, without what differs from run to run: process ids in names,
/// the time in a flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct World(BTreeMap<String, String>);

/// What a module may change, relative to everything: a path, or with `*` at its end all that
/// begin like it.
pub type Changes = &'static [&'static str];

/// How names of files begin that are there only for a moment.
const MOMENTARY: [&str; 2] = [".oxistrano-tmp-", ".oxistrano-php-fpm."];
/// What a run in the background says at its end, and what PHP has printed: as far as it came.
const RESULT: &str = "shop/.oxistrano/magento_upgrade.";
/// What is written down for the harness.
const NOT_SEEN: [&str; 4] = ["php/calls", "php/directory", "php/answers", "programs"];

impl World {
    /// As it is, to be compared with what another run has left.
    pub fn of(stage: &Stage) -> Self {
        Self::read(&Manifest::of(&stage.everything()))
    }

    /// With inodes and times, to be compared within a run.
    pub fn exact(stage: &Stage) -> Self {
        Self::read(&Manifest::exact(&stage.everything()))
    }

    fn read(manifest: &Manifest) -> Self {
        let manifest = NOT_SEEN.iter().fold(manifest.clone(), |all, path| all.without(path));
        let text = manifest.to_string();
        let lines = text.lines().filter_map(|line| line.get(2..)?.split_once(' '));
        Self(
            lines
                // To whom asks for the flag, a link to nowhere is none.
                .filter(|(path, what)| !path.is_empty() && !what.ends_with("-> nowhere"))
                .map(|(path, what)| {
                    let what = match path.starts_with(RESULT) && path.ends_with(".json") {
                        true => "a result",
                        false => what.trim_start(),
                    };
                    (name(path), without_time(what))
                })
                .collect(),
        )
    }

    /// Without what was only there for a moment.
    #[must_use]
    pub fn without_momentary(&self) -> Self {
        let mut rest = self.0.clone();
        rest.retain(|path, _| !is_momentary(path));
        Self(rest)
    }

    /// Where it is not what was wanted, in words; nothing if it is. A log that is not whole is no
    /// failure.
    pub fn lacks(&self, wanted: &Self) -> Option<String> {
        let (mut is, mut wanted) = (self.without_momentary(), wanted.clone());
        for world in [&mut is, &mut wanted] {
            world.0.retain(|path, _| !path.starts_with(RESULT));
        }
        (is != wanted).then(|| is.difference(&wanted))
    }

    /// The paths at which they differ.
    pub fn differing<'a>(&'a self, other: &'a Self) -> Vec<&'a str> {
        let mut paths: Vec<&str> =
            self.0.keys().chain(other.0.keys()).map(String::as_str).collect();
        paths.sort_unstable();
        paths.dedup();
        paths.retain(|path| self.0.get(*path) != other.0.get(*path));
        paths
    }

    /// The differences in words.
    pub fn difference(&self, other: &Self) -> String {
        let is = |world: &Self, path: &str| world.0.get(path).cloned().unwrap_or("nothing".into());
        let paths = self.differing(other);
        let words = paths
            .iter()
            .take(4)
            .map(|path| format!("{path} is {}, not {}", is(self, path), is(other, path)));
        words.collect::<Vec<_>>().join("; ")
    }

    /// What is there for a moment only, and is still there.
    pub fn momentary(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).filter(|path| is_momentary(path)).collect()
    }
}

/// How a world was before, and how it should become.
#[derive(Debug)]
pub struct Before<'a> {
    exact: World,
    plain: World,
    wanted: &'a World,
    changes: Changes,
    last: Option<&'static str>,
}

impl<'a> Before<'a> {
    /// Looks.
    pub fn of(
        stage: &Stage,
        wanted: &'a World,
        changes: Changes,
        last: Option<&'static str>,
    ) -> Self {
        Self { exact: World::exact(stage), plain: World::of(stage), wanted, changes, last }
    }

    /// What does not hold right after a disturbance: nothing may have been touched but what the
    /// module is to change, and each of that is as it was, or as it is wanted.
    pub fn violations(&self, stage: &Stage) -> Vec<String> {
        let (exact, plain) = (World::exact(stage), World::of(stage));
        let mut wrong = Vec::new();
        if let (Some(last), Some(lacks)) = (self.last, plain.lacks(self.wanted)) {
            let (was, is) = (self.plain.without_momentary(), plain.without_momentary());
            let too_early = was.differing(&is).into_iter().find(|path| path.starts_with(last));
            wrong.extend(too_early.map(|path| format!("{path} has changed too early: {lacks}")));
        }
        for path in exact.differing(&self.exact) {
            let (was, is) = (self.plain.0.get(path), plain.0.get(path));
            if self.may_change(path) {
                // The owner of a directory that was made may come with the next run.
                let is_free =
                    path.starts_with(RESULT) || is.is_some_and(|what| what.starts_with("dir "));
                if was != is && is != self.wanted.0.get(path) && !is_free {
                    wrong.push(format!("{path} is half changed: {is:?}"));
                }
            } else if is_momentary(path) && self.is_beside_a_change(path) {
                // What clears it away is looked at when the next run has ended.
            } else if !(was == is && self.is_above_a_change(path)) {
                wrong.push(format!("{path} was touched: {was:?}, now {is:?}"));
            }
        }
        wrong
    }

    /// Whether these are as they were; what was there for a moment is nothing that was changed.
    pub fn is_unchanged(&self, stage: &Stage, below: &str) -> bool {
        let (was, is) = (self.plain.without_momentary(), World::of(stage).without_momentary());
        !was.differing(&is).iter().any(|path| path.starts_with(below))
    }

    fn may_change(&self, path: &str) -> bool {
        !is_momentary(path)
            && self.changes.iter().any(|change| match change.strip_suffix('*') {
                Some(beginning) => path.starts_with(beginning),
                None => path == *change,
            })
    }

    fn is_beside_a_change(&self, path: &str) -> bool {
        // In a directory of its own as well.
        let at = MOMENTARY.iter().find_map(|beginning| path.find(beginning)).unwrap_or(0);
        self.is_above_a_change(path[..at].trim_end_matches('/'))
    }

    fn is_above_a_change(&self, path: &str) -> bool {
        self.changes.iter().any(|change| {
            change
                .strip_prefix(path)
                .is_some_and(|rest| rest.strip_prefix('/').is_some_and(|name| !name.contains('/')))
        })
    }
}

fn is_momentary(path: &str) -> bool {
    MOMENTARY.iter().any(|beginning| path.contains(beginning))
}

/// Without process ids and random numbers.
fn name(path: &str) -> String {
    if let Some(beginning) =
        MOMENTARY.iter().find_map(|beginning| path.find(beginning).map(|at| at + beginning.len()))
    {
        let (before, after) = path.split_at(beginning);
        let inside = after.split_once('/').map(|(_, inside)| format!("/{inside}"));
        let kind: String = after.chars().take_while(|c| !c.is_ascii_digit()).collect();
        return format!("{before}{kind}N{}", inside.unwrap_or_default());
    }
    match path.strip_prefix(RESULT).and_then(|rest| rest.strip_suffix(".json")) {
        Some(_) => format!("{RESULT}N.json"),
        None => path.to_owned(),
    }
}

/// A flag of ours without the time at which it was raised.
fn without_time(what: &str) -> String {
    let Some(at) = what.find("raised_by_oxistrano") else { return what.to_owned() };
    let (before, after) = what.split_at(at);
    let end = after.find('}').unwrap_or(after.len());
    let note: String =
        after[..end].chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    format!("{before}{note}{}", &after[end..])
}
