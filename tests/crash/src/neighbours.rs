//! Root's modules in directories of a user who means ill: a process of the web user swaps what
//! it may rename (directories for links that lead out, files for FIFOs and for links to what
//! only root may read, sockets, files on which it holds a lease) as fast as it can, while deploys
//! and rollbacks run. [`crate::strangers`] does the same to the modules for Magento and php-fpm.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use oxistrano_harness::{Manifest, json};

use crate::harm::{SECRET, Theirs, WEB, changed, give, leaked, mend, victims, wrong_with};
use crate::hostile::Hostile;
use crate::scene::{Deploy, How, Scene, Via};
use crate::strangers;
use crate::table::Row;

/// Some hundred module calls beside it. `exe`: the program that becomes the hostile one with
/// the word `be-hostile`.
pub fn run(modules: &Path, top: &Path, exe: &Path, rounds: usize) -> Vec<Row> {
    let scenes = [
        ("contents of releases and shared belong to the web user", Theirs::Contents),
        ("the deploy root and all in it belong to the web user", Theirs::Everything),
    ];
    let mut rows = Vec::new();
    for (number, (what, theirs)) in scenes.into_iter().enumerate() {
        let top = top.join(format!("neighbour-{number}"));
        let scene = Scene::new(modules, &top);
        rows.push(beside(&scene, exe, theirs, rounds, Row::new(what)));
        let _ = fs::remove_dir_all(&top);
    }
    rows.extend(strangers::run(modules, top, exe, rounds.div_ceil(6)));
    rows
}

fn beside(scene: &Scene, exe: &Path, theirs: Theirs, rounds: usize, mut row: Row) -> Row {
    prepare(scene, theirs);
    let template = scene.keep_as("template");
    let before = Manifest::exact(&scene.outside());
    let hostile = Hostile::start(scene.top(), &scene.root(), &scene.outside(), exe, 2);
    let (mut well, mut refused) = (0, 0);
    for round in 0..rounds {
        let via = if round % 4 == 3 { Via::Rsync } else { Via::Symlink };
        let how = if round % 3 == 1 { How::Copy } else { How::Unpack };
        let version = ["a", "b", "c", "d", "e", "f", "g"][round % 7];
        let deploy = Deploy {
            version,
            contents: "1",
            how,
            via,
            force: true,
            keep: 2,
            ..Deploy::of(version)
        };
        let mut steps = scene.steps(&deploy);
        for step in &mut steps {
            if step.name == "code" && how == How::Copy {
                // Which they may change while it is copied.
                step.arguments["src"] = scene.root().join("shared/src").to_str().into();
            }
            if step.name == "setup" {
                step.arguments["shared_owner"] = WEB.to_string().into();
                step.arguments["shared_group"] = WEB.to_string().into();
            }
        }
        let info = json!({"deploy_to": scene.root().to_str()});
        let calls = steps.iter().map(|step| (step.module, &step.arguments));
        for (module, arguments) in calls.chain([("release_info", &info)]) {
            row.runs += 1;
            let said = scene.programs.run(module, arguments, &[]);
            if said.is_well() {
                well += 1;
            } else {
                refused += 1;
            }
            row.violations
                .extend(wrong_with(&said).map(|why| format!("round {round}, {module}: {why}")));
        }
        if theirs == Theirs::Everything {
            let (root, outside) = (scene.root(), scene.outside());
            for path in [root.clone(), root.join(".oxistrano"), root.join("releases")] {
                give(&outside, &path, 1);
            }
        }
        mend(&scene.root().join(".oxistrano"));
        if let Some(what) = changed(&before, &Manifest::exact(&scene.outside())) {
            row.violations.push(format!("round {round}: outside, {what}"));
            break;
        }
        if let Some(path) = leaked(&scene.root()) {
            row.violations.push(format!("round {round}: the secret is in {}", path.display()));
            break;
        }
        // Else so much is broken in the end that there is nothing to do. Not each time: what is
        // left of one round is there in the next.
        if round % 3 == 2 {
            hostile.rest(|| scene.restore(Some(&template)));
        }
    }
    row.points = hostile.stop() as usize;
    if row.points == 0 {
        row.violations.push("nothing was swapped, so nothing was tried".to_owned());
    }
    row.remark = format!("points: swaps; {well} calls did their work, {refused} refused");
    row
}

fn prepare(scene: &Scene, theirs: Theirs) {
    let outside = scene.outside();
    for directory in [scene.top(), &outside] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).expect("permissions");
    }
    victims(&outside, SECRET);
    let first = Deploy::of("0");
    scene.deploy(&first).expect("a first deploy");
    for name in ["shared/src/app/etc", "shared/src/pub", "shared/src/var"] {
        fs::create_dir_all(scene.root().join(name)).expect("a directory");
    }
    for number in 0..40 {
        let name = format!("shared/src/{}/{number}", ["app/etc", "pub", "var"][number % 3]);
        fs::write(scene.root().join(name), "x").expect("a file");
    }
    fs::write(scene.root().join("shared/app/etc/env.php"), "x").expect("a file");
    match theirs {
        Theirs::Contents => give(&scene.outside(), &scene.root().join("shared"), 9),
        Theirs::Everything => give(&scene.outside(), &scene.root(), 9),
    }
}
