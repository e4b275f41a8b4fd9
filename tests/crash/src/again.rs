//! Every disturbance of every call of the modules for Magento and php-fpm. After each of them
//! the same is called again: it has to succeed, and to leave what it leaves undisturbed.

use std::fs;
use std::path::Path;

use oxistrano_harness::Value;

use crate::calls::{Call, calls};
use crate::disturb::{Fault, Point, points};
use crate::programs::Said;
use crate::stage::Stage;
use crate::sweep::{Extent, rows};
use crate::table::Row;
use crate::world::{Before, World};

/// How often a disturbance is tried that the run did not come to.
pub(crate) const TRIES: usize = 4;
/// More of one system call are not disturbed each, only the first.
const MANY: usize = 64;
const FIRST: usize = 24;
/// What a failure may say of the state that things are in, and of what that has to be true:
/// the beginning of paths.
const CLAIMS: [(&str, &str); 4] = [
    ("othing was changed", ""),
    ("the shop is as it was", "shop/"),
    ("The crontab is as it was", "cron/"),
    ("PHP was not started", "php/"),
];

/// The sweep, in directories below `top`, on two processors.
pub fn run(modules: &Path, top: &Path, extent: &Extent) -> Vec<Row> {
    let calls: Vec<Call> = calls();
    rows(&extent.chosen(&calls, |call| call.name), extent, |index, call| {
        let top = top.join(format!("call-{index}"));
        let stage = Stage::new(modules, &top, call.shares_var);
        let row = Called::new(&stage, call).sweep(extent);
        let _ = fs::remove_dir_all(&top);
        row
    })
}

/// Without most of those that look at each process of the machine: there are as many as there
/// are processes at the moment, and those at the end are not met again.
fn few_that_look(points: Vec<Point>) -> Vec<Point> {
    let of = |call: &str| points.iter().filter(|point| point.call == call).count();
    let matters =
        |point: &Point| Fault::Kill.fits(point) || point.number <= FIRST || of(point.call) <= MANY;
    points.iter().filter(|point| matters(point)).cloned().collect()
}

/// A call with what is expected of it.
struct Called<'a> {
    stage: &'a Stage,
    call: &'a Call,
    arguments: Value,
    /// What it leaves.
    wanted: World,
    /// What is left when it was called again after it had not begun, and after it was done.
    ends: [World; 2],
}

impl<'a> Called<'a> {
    fn new(stage: &'a Stage, call: &'a Call) -> Self {
        (call.prepare)(stage);
        stage.keep();
        let arguments = (call.arguments)(stage);
        stage.must(call.module, &arguments);
        let wanted = World::of(stage);
        let ends = [false, true].map(|done| {
            stage.restore();
            if done {
                stage.must(call.module, &arguments);
            }
            (call.again)(stage, &arguments, call.module)
                .unwrap_or_else(|why| panic!("{}, done before: {done}: {why}", call.name));
            World::of(stage)
        });
        Self { stage, call, arguments, wanted, ends }
    }

    fn sweep(&self, extent: &Extent) -> Row {
        let (stage, call) = (self.stage, self.call);
        stage.restore();
        let points = points(&stage.programs, call.module, &self.arguments, &stage.log());
        let points = few_that_look(points);
        stage.settle();
        let may_miss = if call.is_steady { 5 } else { 40 };
        let mut row = extent
            .disturb(call.name, &points, 1, may_miss, |fault, point, _| self.try_one(fault, point));
        // What a pool was asked for twice it has counted twice.
        let [once, twice] = &self.ends;
        if twice.differing(once).iter().any(|path| !path.starts_with("peers/")) {
            row.violations.push(format!("undisturbed, called twice: {}", twice.difference(once)));
        }
        row
    }

    /// One disturbance and the call after it.
    fn try_one(&self, fault: Fault, point: &Point) -> (Vec<String>, bool) {
        let (stage, call) = (self.stage, self.call);
        let mut tries = 0;
        let (before, calls, said, met) = loop {
            stage.restore();
            let before = Before::of(stage, &self.wanted, call.changes, call.last);
            let calls = stage.calls();
            let (said, met) =
                fault.run(&stage.programs, call.module, &self.arguments, point, &stage.log());
            stage.settle();
            tries += 1;
            // How often it looks whether a child has ended is different each time.
            if met || tries == TRIES {
                break (before, calls, said, met);
            }
        };
        let mut wrong = before.violations(stage);
        if said.hung {
            wrong.push("it hangs".to_owned());
        }
        if fault != Fault::Kill {
            wrong.extend(self.says_what_is(&said, point, &before, stage.calls() > calls));
        }
        if fault.is_harmless() {
            let done = World::of(stage).without_momentary();
            if !said.is_well() {
                wrong.push(format!("fails: {}", said.message()));
            } else if done != self.wanted {
                wrong.push(format!("leaves something else: {}", done.difference(&self.wanted)));
            }
        }
        if let Err(why) = (call.again)(stage, &self.arguments, call.module) {
            wrong.push(format!("called again, it fails: {why}"));
        }
        let end = World::of(stage);
        wrong.extend(end.momentary().iter().map(|path| format!("{path} stays")));
        let end = end.without_momentary();
        if !self.ends.contains(&end) {
            let differences: Vec<_> =
                self.ends.iter().map(|wanted| format!("[{}]", end.difference(wanted))).collect();
            let differences = differences.join(" or ");
            wrong.push(format!("called again, it leaves something else: {differences}"));
        }
        (wrong, met)
    }

    /// Whether an answer came, and is true.
    fn says_what_is(
        &self,
        said: &Said,
        point: &Point,
        before: &Before<'_>,
        php_ran: bool,
    ) -> Vec<String> {
        let mut wrong = Vec::new();
        if said.value.is_none() && !point.prints {
            wrong.push(format!(
                "no result, but: {}",
                said.raw.chars().take(200).collect::<String>()
            ));
        }
        if said.code() == "panic" {
            wrong.push(format!("a panic: {}", said.message()));
        }
        let message = said.message();
        for (claim, of) in CLAIMS.iter().filter(|(claim, _)| message.contains(claim)) {
            let started = *claim == "PHP was not started" && php_ran;
            if said.has_failed() && (started || !before.is_unchanged(self.stage, of)) {
                wrong.push(format!("says '{claim}', which is not true: {message}"));
            }
        }
        let lacks = World::of(self.stage).lacks(&self.wanted);
        wrong.extend(
            lacks
                .filter(|_| said.is_well())
                .map(|what| format!("says that it is done, but {what}")),
        );
        wrong
    }
}
