//! Two at once on one host, and readers beside a switch.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use oxistrano_harness::Value;
use rustix::fs::{CWD, Mode, OFlags, fstat, openat};

use crate::programs::Said;
use crate::scene::{Deploy, Scene, Step, Via};
use crate::table::Row;

/// All of it: so many pairs of each kind, so many switches.
pub fn run(modules: &Path, top: &Path, pairs: usize, switches: usize) -> Vec<Row> {
    let scene = |name: &str| {
        let scene = Scene::new(modules, &top.join(name));
        for version in ["1", "2"] {
            scene.deploy(&Deploy::of(version)).expect("a deploy");
        }
        scene
    };
    let rows = vec![
        two_of(&scene("deploys"), "two deploys", "setup", pairs),
        two_of(&scene("rollback"), "a deploy and a rollback", "rollback", pairs),
        two_of(&scene("prune"), "a deploy and a prune", "prune", pairs),
        whole_deploys(&scene("whole"), pairs / 4 + 1),
        switched(&scene("switch"), "switches of a link, under readers", &[Via::Symlink], switches),
        switched(
            &scene("exchange"),
            "link to rsync and back, under readers",
            &[Via::Symlink, Via::Rsync],
            switches / 20 + 1,
        ),
    ];
    for name in ["deploys", "rollback", "prune", "whole", "switch", "exchange"] {
        let _ = fs::remove_dir_all(top.join(name));
    }
    rows
}

/// The beginning of a deploy and something of somebody else, started together. Whoever takes
/// the lock goes on; a prune takes none, so it may also be through before.
fn two_of(scene: &Scene, what: &str, other: &str, times: usize) -> Row {
    let mut row = Row::new(what);
    let (mut firsts, mut both) = (0, 0);
    for time in 0..times {
        let deploy = Deploy::of("3");
        let theirs = Deploy { deployer: 2, ..Deploy::of("4") };
        let mut second = scene.step(&theirs, other);
        if other == "rollback" {
            // It keeps the lock, as a rollback play does.
            second.arguments["state"] = "chosen".into();
        }
        let mut steps = [scene.step(&deploy, "setup"), second];
        if time % 2 == 1 {
            steps.reverse();
        }
        let started = steps.each_ref().map(|step| start(scene, step));
        let mut said = started.map(crate::programs::Started::wait).to_vec();
        if time % 2 == 1 {
            said.reverse();
        }
        row.runs += 1;
        let (first, second) = (&said[0], &said[1]);
        match (first.is_well(), second.is_well()) {
            (true, false) => firsts += 1,
            (false, true) if other != "prune" => {}
            (true, true) if other == "prune" => both += 1,
            _ => row.violations.push(format!("{}; {}", first.message(), second.message())),
        }
        row.violations.extend(said.iter().filter_map(unexplained));
        // Whoever holds the lock ends.
        for deployer in [1, 2] {
            let mut end = scene.basic(deployer);
            end["state"] = "failed".into();
            scene.programs.run("release_setup", &end, &[]);
        }
        if scene.lock() != Value::Null {
            row.violations.push("the lock stays".to_owned());
        }
    }
    row.points = times;
    row.remark = match other {
        "prune" => format!("refused {firsts} times, through before the deploy {both} times"),
        _ => format!("the deploy was first {firsts} times"),
    };
    row
}

/// Whole deploys of three at once, who try again while they are refused.
fn whole_deploys(scene: &Scene, times: usize) -> Row {
    let mut row = Row::new("three whole deploys, tried until they go through");
    let refusals = AtomicU64::new(0);
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for deployer in 1..=3 {
            let (scene, refusals, wrong) = (&scene, &refusals, &wrong);
            scope.spawn(move || {
                let version = ["a", "b", "c"][deployer as usize - 1];
                for _ in 0..times {
                    let deploy =
                        Deploy { deployer, contents: "1", force: true, ..Deploy::of(version) };
                    for step in scene.steps(&deploy) {
                        loop {
                            let said = scene.programs.run(step.module, &step.arguments, &[]);
                            if said.is_well() {
                                break;
                            }
                            // Only at the beginning may somebody else be first.
                            if step.name != "setup" || unexplained(&said).is_some() {
                                let text = format!("{version}, {}: {}", step.name, said.message());
                                wrong.lock().expect("the list").push(text);
                                return;
                            }
                            refusals.fetch_add(1, Ordering::Relaxed);
                        }
                        if step.name == "finish" {
                            break;
                        }
                    }
                }
            });
        }
    });
    (row.points, row.runs) = (3 * times, 3 * times);
    row.violations = wrong.into_inner().expect("the list");
    row.remark = format!("{} times refused with the holder's name", refusals.into_inner());
    row
}

fn start(scene: &Scene, step: &Step) -> crate::programs::Started {
    scene.programs.start(step.module, &step.arguments, &[])
}

/// A refusal that does not say who is at work.
fn unexplained(said: &Said) -> Option<String> {
    if said.is_well() {
        return None;
    }
    let explained = match said.code() {
        "locked" => said.message().contains("alice@ci (process"),
        "busy" => said.message().contains("(process"),
        _ => false,
    };
    (!explained).then(|| format!("refused without saying who works there: {}", said.message()))
}

/// Two releases made live in turns, while others read.
fn switched(scene: &Scene, what: &str, vias: &[Via], times: usize) -> Row {
    let mut row = Row::new(what);
    let (stop, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (stop, reads, wrong) = (&stop, &reads, &wrong);
            let current = scene.root().join("current");
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    reads.fetch_add(1, Ordering::Relaxed);
                    if let Some(why) = read(&current, vias.contains(&Via::Rsync)) {
                        wrong.lock().expect("the list").push(why);
                    }
                }
            });
        }
        for time in 0..times {
            let version = ["1", "2"][time % 2];
            let deploy = Deploy { via: vias[time % vias.len()], ..Deploy::of(version) };
            let step = scene.step(&deploy, "activate");
            let said = scene.programs.run(step.module, &step.arguments, &[]);
            row.runs += 1;
            if !said.is_well() {
                row.violations.push(said.message());
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    row.points = times;
    row.violations.extend(wrong.into_inner().expect("the list"));
    row.remark = format!("{} reads", reads.into_inner());
    row
}

/// Reads as a web server does, and as somebody who holds the directory open. When `current` was
/// a directory itself (`may_go`), that one is removed once a link has taken its place, and who
/// still holds it sees its files go; but never those of two releases.
fn read(current: &Path, may_go: bool) -> Option<String> {
    for name in ["index.php", "zz-last", "REVISION", "pub/media"] {
        let look = || fs::metadata(current.join(name));
        // Who is on the way through the directory is like somebody who holds it.
        let found = look().or_else(|error| if may_go { look() } else { Err(error) });
        if let Err(error) = found {
            return Some(format!("current/{name}: {error}"));
        }
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = match openat(CWD, current, flags, Mode::empty()) {
        Ok(dir) => dir,
        Err(error) => return Some(format!("current: {error}")),
    };
    let text = |name: &str| {
        let fd = openat(&dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mut text = String::new();
        std::io::Read::read_to_string(&mut fs::File::from(fd), &mut text).ok()?;
        Some(text)
    };
    let parts = ["REVISION", "index.php", "zz-last"].map(text);
    let still_there = fs::metadata(current).map(|now| now.ino()).ok();
    let gone = may_go && fstat(&dir).map(|held| held.st_ino).ok() != still_there;
    let of_one = parts.iter().flatten().all(|part| Some(part) == parts.iter().flatten().next());
    match of_one && (gone || parts.iter().all(Option::is_some)) {
        true => None,
        false => Some(format!("half a release: {parts:?}")),
    }
}
