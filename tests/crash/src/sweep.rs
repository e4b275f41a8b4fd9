//! Every disturbance of every step of a deploy. After each of them a whole deploy is run; what
//! it leaves has to be what it leaves when the disturbed step was done, or was never begun.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::disturb::{ERRORS, Fault, Point, points};
use crate::scene::{Deploy, How, SHARED_FILE, Scene, Step, Via};
use crate::table::Row;
use crate::verdict::{Before, Seen, Whole};

/// A step, and the state in which it is run.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// For people.
    pub name: &'static str,
    /// How the two releases that are there before were made live; `None`: nothing is there.
    base: Option<Via>,
    /// Whether there is a spare beside them.
    spare: bool,
    /// A deploy that died before, and the step that it did not come to.
    died: Option<(Deploy, &'static str)>,
    /// The deploy that the step is of.
    deploy: Deploy,
    /// The step.
    step: &'static str,
    /// Whether the step replaces what is live.
    replaces: bool,
    /// The deploy that comes afterwards, when it is not the same again.
    next: Deploy,
}

/// All steps, in all states that make a difference.
pub fn cases() -> Vec<Case> {
    let three = Deploy::of("3");
    let next = Deploy { deployer: 2, ..Deploy::of("4") };
    let case = |name, step| Case {
        name,
        base: Some(Via::Symlink),
        spare: false,
        died: None,
        deploy: three,
        step,
        replaces: false,
        next,
    };
    let rsync = Deploy { via: Via::Rsync, ..three };
    let next_rsync = Deploy { via: Via::Rsync, ..next };
    let again = Deploy { version: "2", contents: "3", force: true, ..three };
    let staged = Deploy { how: How::Adopt, ..three };
    let sent = Deploy { how: How::Delta, ..three };
    let copied = Deploy { how: How::Copy, ..three };
    let pruned = Deploy { keep: 1, ..three };
    let dead = Deploy { deployer: 9, ..Deploy::of("dead") };
    let copy = |name, step| Case {
        base: Some(Via::Rsync),
        deploy: rsync,
        next: next_rsync,
        ..case(name, step)
    };
    vec![
        Case { base: None, ..case("release_setup, started, nothing there", "setup") },
        case("release_setup, started", "setup"),
        Case {
            died: Some((dead, "activate")),
            deploy: Deploy { deployer: 9, ..three },
            ..case("release_setup, started, after a deploy that died", "setup")
        },
        Case {
            died: Some((Deploy { deployer: 9, ..again }, "activate")),
            deploy: Deploy { deployer: 9, ..three },
            replaces: true,
            ..case("release_setup, started, puts back what was live", "setup")
        },
        case("release_unpack", "code"),
        Case { spare: true, ..case("release_unpack, on a spare", "code") },
        Case { deploy: sent, ..case("release_unpack, of what differs", "code") },
        Case {
            deploy: sent,
            spare: true,
            ..case("release_unpack, of what differs, on a spare", "code")
        },
        Case {
            deploy: again,
            replaces: true,
            ..case("release_unpack, in place of what is live", "code")
        },
        Case { deploy: copied, ..case("release_copy", "code") },
        Case { spare: true, deploy: copied, ..case("release_copy, on a spare", "code") },
        Case { deploy: staged, ..case("release_copy, what was fetched", "code") },
        Case {
            deploy: Deploy { how: How::Copy, ..again },
            replaces: true,
            ..case("release_copy, in place of what is live", "code")
        },
        case("release_link", "link"),
        copy("release_link, rsync", "link"),
        case("release_activate", "activate"),
        Case { base: None, ..case("release_activate, the first", "activate") },
        copy("release_activate, rsync", "activate"),
        Case {
            deploy: rsync,
            next: next_rsync,
            ..case("release_activate, link to rsync", "activate")
        },
        Case { base: Some(Via::Rsync), ..case("release_activate, rsync to link", "activate") },
        Case { deploy: pruned, next: Deploy { keep: 1, ..next }, ..case("release_prune", "prune") },
        Case {
            spare: true,
            deploy: Deploy { spare: true, ..pruned },
            next: Deploy { keep: 1, spare: true, ..next },
            ..case("release_prune, keeps a spare", "prune")
        },
        case("release_rollback", "rollback"),
        Case {
            deploy: rsync,
            next: next_rsync,
            base: Some(Via::Rsync),
            ..case("release_rollback, rsync", "rollback")
        },
        case("release_setup, finished", "finish"),
        Case {
            deploy: again,
            replaces: true,
            ..case("release_setup, finished, live one replaced", "finish")
        },
        case("release_setup, failed", "fail"),
        Case {
            deploy: again,
            replaces: true,
            ..case("release_setup, failed, puts back what was live", "fail")
        },
    ]
}

/// How much of it.
#[derive(Debug, Clone)]
pub struct Extent {
    /// Which faults.
    pub faults: Vec<Fault>,
    /// Every n-th point.
    pub stride: usize,
    /// Deploy the next version and the same again after each, not just one of them.
    pub both: bool,
    /// Only cases whose name contains this.
    pub only: String,
    /// Let modules have as many threads as they like. Not all points are met then.
    pub threads: bool,
}

impl Extent {
    /// Every kill.
    pub fn kills() -> Self {
        let (only, threads) = (String::new(), false);
        Self { faults: vec![Fault::Kill], stride: 1, both: true, only, threads }
    }

    /// Every error.
    pub fn errors() -> Self {
        let faults = ERRORS.iter().map(|(name, _)| Fault::Error(name)).collect();
        Self { faults, both: false, ..Self::kills() }
    }

    /// Reads and writes that do less, all of a run at once, in all its threads.
    pub fn shorts() -> Self {
        Self { faults: vec![Fault::Short], threads: true, ..Self::errors() }
    }

    /// The cases that are asked for.
    pub fn chosen<Case: Copy>(
        &self,
        cases: &[Case],
        name: impl Fn(&Case) -> &'static str,
    ) -> Vec<Case> {
        let exactly = cases.iter().any(|case| name(case) == self.only);
        let mut chosen = cases.to_vec();
        chosen.retain(|case| match exactly {
            true => name(case) == self.only,
            false => name(case).contains(&self.only),
        });
        chosen
    }

    /// Every n-th of all disturbances at these points; where there are fewer than n, the one in
    /// the middle: no call of a module is left out.
    fn sample<'a>(&self, points: &'a [Point]) -> Vec<(Fault, &'a Point)> {
        let at = |fault: &Fault| {
            let fault = *fault;
            points.iter().filter(move |point| fault.fits(point)).map(move |point| (fault, point))
        };
        let all: Vec<_> = self.faults.iter().flat_map(at).collect();
        let first = self.stride.min(all.len()) / 2;
        all.into_iter().skip(first).step_by(self.stride).collect()
    }

    /// Tries every disturbance at these points, each with as many things that may follow it as
    /// there are: `try_one` gets the number of the one that follows, and returns what did not
    /// hold, and whether the run came to the point at all; `may_miss` in a hundred need not.
    pub fn disturb(
        &self,
        what: &str,
        points: &[Point],
        follow: usize,
        may_miss: usize,
        mut try_one: impl FnMut(Fault, &Point, usize) -> (Vec<String>, bool),
    ) -> Row {
        let mut row = Row::new(what);
        let mut missed = 0;
        for (fault, point) in self.sample(points) {
            row.points += 1;
            let turns = match self.both {
                true => follow,
                false => 1,
            };
            for turn in 0..turns {
                row.runs += 1;
                let (wrong, met) = try_one(fault, point, (turn + row.points) % follow);
                missed += usize::from(!met);
                row.violations.extend(wrong.into_iter().map(|wrong| {
                    format!("{} at {} {}: {wrong}", fault.name(), point.call, point.number)
                }));
            }
        }
        if missed > 0 {
            row.remark = format!("{missed} times it ran another way and did not come there");
        }
        if missed * 100 > row.runs * may_miss {
            row.violations.push(format!("{missed} of {} runs were not disturbed", row.runs));
        }
        row
    }
}

/// The sweep, in directories below `top`, on two processors.
pub fn run(modules: &Path, top: &Path, extent: &Extent) -> Vec<Row> {
    let cases = cases();
    rows(&extent.chosen(&cases, |case| case.name), extent, |index, case| {
        let scene = Scene::new(modules, &top.join(format!("case-{index}")));
        let row = Swept::new(&scene, case).sweep(extent);
        let _ = fs::remove_dir_all(scene.top());
        row
    })
}

/// A row for each case, made on two processors.
pub fn rows<Case: Sync>(
    cases: &[Case],
    extent: &Extent,
    sweep: impl Fn(usize, &Case) -> Row + Sync,
) -> Vec<Row> {
    let next = AtomicUsize::new(0);
    let rows = Mutex::new(Vec::new());
    let processors = std::thread::available_parallelism().map_or(1, usize::from).min(2);
    std::thread::scope(|scope| {
        for processor in 0..processors {
            let (next, rows, sweep) = (&next, &rows, &sweep);
            scope.spawn(move || {
                if !extent.threads {
                    let mut set = CpuSet::new();
                    set.set(processor);
                    // Only then is a run the same each time; without it some points are missed.
                    let _ = sched_setaffinity(None, &set);
                }
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(index) else { return };
                    let row = sweep(index, case);
                    eprintln!("{}: {} runs, {:?}", row.what, row.runs, row.violations);
                    rows.lock().expect("the rows").push((index, row));
                }
            });
        }
    });
    let mut rows = rows.into_inner().expect("the rows");
    rows.sort_by_key(|(index, _)| *index);
    rows.into_iter().map(|(_, row)| row).collect()
}

/// What follows the disturbed step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The next version, by somebody else.
    Next,
    /// The same deploy from the start.
    Again,
}

/// A case with what is expected of it.
struct Swept<'a> {
    scene: &'a Scene,
    case: &'a Case,
    template: Option<PathBuf>,
    step: Step,
    whole: Whole,
    /// What comes of it: the step not begun, the step done; then a deploy.
    expected: Vec<(Then, Vec<Seen>)>,
    /// As after an error: the step not begun or done, `failed`, then a deploy.
    after_failing: Vec<Seen>,
    /// The step done.
    done: Option<Seen>,
}

impl<'a> Swept<'a> {
    fn new(scene: &'a Scene, case: &'a Case) -> Self {
        let mut swept = Self {
            scene,
            case,
            template: None,
            step: scene.step(&case.deploy, case.step),
            whole: Whole::new(),
            expected: Vec::new(),
            after_failing: Vec::new(),
            done: None,
        };
        if let Some(via) = case.base {
            for version in ["1", "2"] {
                let deploy = Deploy { via, ..Deploy::of(version) };
                scene.up_to(&deploy, "code");
                let shared = scene.root().join("shared");
                fs::write(shared.join(SHARED_FILE), "<?php return ['key' => 1];").expect("a file");
                fs::write(shared.join("var/session"), "somebody's").expect("a file");
                scene.deploy(&deploy).expect("a deploy of the base");
            }
            if case.spare {
                scene.make_spare("1", case.deploy.how);
            }
            swept.template = Some(scene.keep_as("template"));
        }
        swept.note_releases();
        if case.died.is_some() {
            // What it has put in the place of what was live is whole, too.
            swept.prepare();
            swept.note_releases();
        }
        let follow = match case.step {
            "rollback" => vec![Then::Next],
            _ => vec![Then::Next, Then::Again],
        };
        for then in follow {
            let ends = [false, true].map(|done| {
                swept.prepare();
                if done {
                    scene.programs.must(swept.step.module, &swept.step.arguments);
                    swept.note_releases();
                    swept.done = Some(Seen::of(scene));
                }
                swept.follow(then).unwrap_or_else(|why| panic!("{}, {then:?}: {why}", case.name));
                swept.note_releases();
                Seen::of(scene)
            });
            swept.expected.push((then, ends.to_vec()));
        }
        let failed = scene.step(&case.deploy, "fail");
        for done in [false, true] {
            swept.prepare();
            if done {
                scene.programs.must(swept.step.module, &swept.step.arguments);
            }
            scene.programs.run(failed.module, &failed.arguments, &[]);
            swept.follow(Then::Next).unwrap_or_else(|why| panic!("{}, failed: {why}", case.name));
            swept.after_failing.push(Seen::of(scene));
        }
        swept
    }

    /// The state before the step.
    fn prepare(&self) {
        self.scene.restore(self.template.as_deref());
        if let Some((died, before)) = &self.case.died {
            self.scene.up_to(died, before);
        }
        let until = match self.step.name {
            // From what is there.
            "rollback" => return,
            // Before the switch.
            "fail" => "activate",
            name => name,
        };
        self.scene.up_to(&self.case.deploy, until);
    }

    /// A whole deploy.
    fn follow(&self, then: Then) -> Result<(), String> {
        self.scene.settle();
        match then {
            Then::Next => self.scene.deploy(&self.case.next),
            Then::Again => self.scene.deploy(&self.case.deploy),
        }
    }

    /// Remembers what whole releases look like.
    fn note_releases(&mut self) {
        let releases = self.scene.root().join("releases");
        for version in crate::scene::names(&releases) {
            if !version.starts_with('.') {
                let manifest = oxistrano_harness::Manifest::of(&releases.join(&version));
                self.whole.entry(manifest.to_string()).or_insert(manifest);
            }
        }
    }

    fn sweep(&self, extent: &Extent) -> Row {
        let (scene, step) = (self.scene, &self.step);
        self.prepare();
        let log = scene.top().join("trace");
        let points = points(&scene.programs, step.module, &step.arguments, &log);
        extent.disturb(self.case.name, &points, self.expected.len(), 5, |fault, point, turn| {
            self.try_one(fault, point, turn)
        })
    }

    /// One disturbance and what follows. Returns what did not hold, and whether the run came to
    /// the point at all.
    fn try_one(&self, fault: Fault, point: &Point, turn: usize) -> (Vec<String>, bool) {
        let (scene, step) = (self.scene, &self.step);
        self.prepare();
        let before = Before::of(scene);
        let log = scene.top().join("trace");
        let (said, met) = fault.run(&scene.programs, step.module, &step.arguments, point, &log);
        let mut wrong = before.violations(scene, &self.whole, self.case.replaces);
        if said.hung {
            wrong.push("it hangs".to_owned());
        }
        if fault == Fault::Kill {
            let (then, expected) = &self.expected[turn];
            wrong.extend(self.recovered(*then, expected));
            return (wrong, met);
        }
        if said.value.is_none() && !point.prints {
            wrong.push(format!(
                "no result, but: {}",
                said.raw.chars().take(200).collect::<String>()
            ));
        }
        if said.code() == "panic" {
            wrong.push(format!("a panic: {}", said.message()));
        }
        if said.has_failed()
            && said.message().contains("Nothing was changed")
            && !before.is_unchanged(scene)
        {
            wrong.push(format!("says that nothing was changed: {}", said.message()));
        }
        if let Some(done) = self.done.as_ref().filter(|_| fault.is_harmless()) {
            let seen = Seen::of(scene);
            if !said.is_well() {
                wrong.push(format!("fails: {}", said.message()));
            } else if seen != *done {
                wrong.push(format!("leaves something else: {}", seen.difference(done)));
            }
        }
        if said.is_well() {
            wrong.extend(self.recovered(Then::Next, &self.expected[0].1[1..]));
            return (wrong, met);
        }
        // What the role does then.
        let failed = scene.step(&self.case.deploy, "fail");
        let ended = scene.programs.run(failed.module, &failed.arguments, &[]);
        if !ended.is_well() {
            wrong.push(format!("state=failed after that: {}", ended.message()));
        }
        wrong.extend(self.recovered(Then::Next, &self.after_failing));
        (wrong, met)
    }

    fn recovered(&self, then: Then, expected: &[Seen]) -> Option<String> {
        if let Err(why) = self.follow(then) {
            return Some(format!("the deploy after it fails ({then:?}): {why}"));
        }
        let seen = Seen::of(self.scene);
        if expected.contains(&seen) {
            return None;
        }
        let differences: Vec<_> =
            expected.iter().map(|expected| format!("[{}]", seen.difference(expected))).collect();
        Some(format!(
            "the deploy after it ({then:?}) leaves something else: {}",
            differences.join(" or ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_leaves_no_row_empty() {
        let point = |number: usize| Point { call: "renameat", number, ..Point::default() };
        for (count, stride, expected) in
            [(1, 7, vec![1]), (4, 7, vec![3]), (7, 7, vec![4]), (18, 7, vec![4, 11, 18])]
        {
            let points: Vec<_> = (1..=count).map(point).collect();
            let extent = Extent { stride, ..Extent::kills() };
            let numbers: Vec<_> =
                extent.sample(&points).iter().map(|(_, point)| point.number).collect();
            assert_eq!(numbers, expected, "{count} points, stride {stride}");
        }
        let points: Vec<_> = (1..=4).map(point).collect();
        assert_eq!(Extent::kills().sample(&points).len(), 4);
        assert!(Extent::kills().sample(&[]).is_empty());
    }
}
