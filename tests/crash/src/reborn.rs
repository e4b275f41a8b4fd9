//! A container in which every module has the number of the one before it, as it is where one
//! command is run in it at a time. What one that was killed has left must not be in the way of
//! the next, whose temporary names would be the same if they were made of that number.

use std::path::Path;

use crate::again::TRIES;
use crate::disturb::{Fault, points};
use crate::scene::{Deploy, Scene};
use crate::sweep::Extent;
use crate::table::Row;

const STEPS: [&str; 8] =
    ["setup", "code", "link", "activate", "prune", "finish", "fail", "rollback"];

/// Kills every step at every call; afterwards a whole deploy has to succeed and leave nothing
/// that is there for a moment only.
pub fn run(modules: &Path, top: &Path, extent: &Extent) -> Vec<Row> {
    STEPS.map(|name| sweep(modules, &top.join(format!("reborn-{name}")), name, extent)).into()
}

fn sweep(modules: &Path, top: &Path, name: &str, extent: &Extent) -> Row {
    let mut scene = Scene::new(modules, top);
    for version in ["1", "2"] {
        scene.deploy(&Deploy::of(version)).expect("a deploy");
    }
    let (deploy, next) = (Deploy::of("3"), Deploy { deployer: 2, ..Deploy::of("4") });
    if name != "rollback" {
        scene.up_to(&deploy, name);
    }
    let template = scene.keep_as("template");
    let step = scene.step(&deploy, name);
    scene.programs.in_container = true;
    let log = top.join("trace");
    let points = points(&scene.programs, step.module, &step.arguments, &log);
    let extent = Extent { faults: vec![Fault::Kill], both: false, ..extent.clone() };
    let what = format!("{name}, each process with the same number");
    let row = extent.disturb(&what, &points, 1, 5, |fault, point, _| {
        let run = || {
            scene.restore(Some(&template));
            fault.run(&scene.programs, step.module, &step.arguments, point, &log).1
        };
        // Its threads take turns in another way each time.
        let met = (0..TRIES).any(|_| run());
        let mut wrong = Vec::new();
        if let Err(why) = scene.deploy(&next) {
            wrong.push(format!("the deploy after it fails: {why}"));
        }
        for place in ["", "releases", ".oxistrano"] {
            let names = crate::scene::names(&scene.root().join(place));
            let left = names.into_iter().filter(|name| name.starts_with(".oxistrano-tmp"));
            wrong.extend(left.map(|name| format!("'{name}' stays in '{place}'")));
        }
        (wrong, met)
    });
    let _ = std::fs::remove_dir_all(top);
    row
}
