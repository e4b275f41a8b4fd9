//! A lot of everything: modules at once, releases, shared paths, levels of directories.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Instant;

use oxistrano_harness::{Value, json};
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};

use crate::programs::{Said, Started};
use crate::scene::{Deploy, Scene};
use crate::table::Row;

/// All of it; `files`: how many files the tree has that is copied and deleted.
pub fn run(modules: &Path, top: &Path, files: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    for (number, measure) in
        [at_once, many_roots, many_releases, shared_paths, deep, long_names].into_iter().enumerate()
    {
        let scene = Scene::new(modules, &top.join(format!("load-{number}")));
        rows.extend(measure(&scene));
        let _ = fs::remove_dir_all(scene.top());
    }
    let scene = Scene::new(modules, &top.join("load-files"));
    rows.extend(many_files(&scene, files));
    let _ = fs::remove_dir_all(scene.top());
    rows
}

/// A row for one call, with its time.
fn timed(scene: &Scene, what: &str, module: &str, arguments: &Value, wrap: &[String]) -> Row {
    let started = Instant::now();
    let said = scene.programs.run(module, arguments, wrap);
    let mut row = Row { points: 1, runs: 1, ..Row::new(what) };
    row.remark = format!("{:.0} ms", started.elapsed().as_secs_f64() * 1000.0);
    if !said.is_well() {
        row.violations.push(said.message());
    }
    row
}

fn with(scene: &Scene, more: Value) -> Value {
    let mut arguments = scene.basic(1);
    for (key, value) in more.as_object().into_iter().flatten() {
        arguments[key] = value.clone();
    }
    arguments
}

/// A hundred deployers want one root.
fn at_once(scene: &Scene) -> Vec<Row> {
    scene.deploy(&Deploy::of("1")).expect("a deploy");
    let mut row =
        Row { points: 100, runs: 100, ..Row::new("100 deploys begun at once in one root") };
    let started = Instant::now();
    let all: Vec<Started> = (0..100)
        .map(|number| {
            let deploy = Deploy { deployer: number + 10, ..Deploy::of("2") };
            let step = scene.step(&deploy, "setup");
            scene.programs.start(step.module, &step.arguments, &[])
        })
        .collect();
    let said: Vec<Said> = all.into_iter().map(Started::wait).collect();
    let well = said.iter().filter(|said| said.is_well()).count();
    row.remark = format!("{well} has the lock after {:.1} s", started.elapsed().as_secs_f64());
    if well != 1 {
        row.violations.push(format!("{well} have the lock"));
    }
    let refused = |said: &&Said| !said.is_well() && !matches!(said.code(), "locked" | "busy");
    row.violations.extend(said.iter().filter(refused).map(Said::message));
    vec![row]
}

/// A hundred roots, a deploy in each, at once.
fn many_roots(scene: &Scene) -> Vec<Row> {
    let mut row = Row { points: 100, runs: 400, ..Row::new("100 roots deployed to at once") };
    let archive = scene.archive("1");
    let started = Instant::now();
    for module in ["release_setup", "release_unpack", "release_link", "release_activate"] {
        let all: Vec<Started> = (0..100)
            .map(|number| {
                let root = scene.top().join(format!("root-{number}"));
                let mut arguments = json!({"deploy_to": root.to_str(), "version": "1"});
                if module == "release_unpack" {
                    arguments["src"] = archive.to_str().into();
                    arguments["remote_src"] = true.into();
                }
                scene.programs.start(module, &arguments, &[])
            })
            .collect();
        let said = all.into_iter().map(Started::wait).filter(|said| !said.is_well());
        row.violations.extend(said.map(|said| format!("{module}: {}", said.message())));
    }
    row.remark = format!("{:.1} s for 4 × 100 calls", started.elapsed().as_secs_f64());
    vec![row]
}

/// A thousand releases that were live.
fn many_releases(scene: &Scene) -> Vec<Row> {
    scene.deploy(&Deploy::of("1")).expect("a deploy");
    let releases = scene.root().join("releases");
    let mut history =
        fs::read_to_string(scene.root().join(".oxistrano/history.jsonl")).expect("a history");
    // Before the one that is live.
    let mut older = String::new();
    for number in 0..1000 {
        let version = format!("20250101{number:06}Z");
        fs::create_dir_all(releases.join(&version).join("app")).expect("a release");
        fs::write(releases.join(&version).join("REVISION"), &version).expect("a release");
        let (minute, second) = (number / 60, number % 60);
        let at = format!("2025-01-01T00:{minute:02}:{second:02}Z");
        for event in [
            json!({"at": at, "version": version, "event": "started", "user": "x", "by": ""}),
            json!({"at": at, "version": version, "event": "placed", "source": null}),
            json!({"at": at, "version": version, "event": "activated", "revision": version}),
            json!({"at": at, "version": version, "event": "ended", "outcome": "success", "reason": null}),
        ] {
            let _ = writeln!(older, "{event}");
        }
    }
    history.insert_str(0, &older);
    fs::write(scene.root().join(".oxistrano/history.jsonl"), history).expect("a history");
    let next = Deploy::of("3");
    let setup = scene.step(&next, "setup");
    let mut rows = vec![
        timed(
            scene,
            "release_info, 1,000 releases",
            "release_info",
            &json!({"deploy_to": scene.root().to_str()}),
            &[],
        ),
        timed(scene, "release_setup, 1,000 releases", setup.module, &setup.arguments, &[]),
    ];
    for name in ["code", "link", "activate"] {
        let step = scene.step(&next, name);
        rows.push(timed(
            scene,
            &format!("{}, 1,000 releases", step.module),
            step.module,
            &step.arguments,
            &[],
        ));
    }
    let prune = with(scene, json!({"keep": 5, "wait": true}));
    rows.push(timed(scene, "release_prune of 995 releases", "release_prune", &prune, &[]));
    let left = crate::scene::names(&releases).len();
    if left != 5 {
        rows[5].violations.push(format!("{left} releases are left"));
    }
    rows
}

/// Many shared paths.
fn shared_paths(scene: &Scene) -> Vec<Row> {
    let mut rows = Vec::new();
    for count in [200, 2000] {
        let paths: Vec<_> = (0..count).map(|n| format!("pub/{}/{n}", n % 10)).collect();
        let version = format!("v{count}");
        let options = |more: Value| {
            let mut arguments = with(scene, json!({"version": version, "shared_paths": paths}));
            for (key, value) in more.as_object().into_iter().flatten() {
                arguments[key] = value.clone();
            }
            arguments
        };
        let archive = scene.archive("1");
        let setup = options(json!({}));
        rows.push(timed(
            scene,
            &format!("release_setup, {count} shared paths"),
            "release_setup",
            &setup,
            &[],
        ));
        let code = json!({"version": version, "src": archive.to_str(), "remote_src": true});
        scene.programs.must("release_unpack", &with(scene, code));
        let link = options(json!({}));
        rows.push(timed(
            scene,
            &format!("release_link, {count} shared paths"),
            "release_link",
            &link,
            &[],
        ));
        rows.push(timed(
            scene,
            &format!("release_activate, {count} shared paths"),
            "release_activate",
            &link,
            &[],
        ));
        let rsync = options(json!({"current_via": "rsync"}));
        rows.push(timed(
            scene,
            &format!("release_activate, rsync, {count} shared paths"),
            "release_activate",
            &rsync,
            &[],
        ));
        let done = with(scene, json!({"version": version, "state": "finished"}));
        scene.programs.must("release_setup", &done);
    }
    rows
}

/// Directories in directories, deeper than files may be open or a path may be long.
fn deep(scene: &Scene) -> Vec<Row> {
    let tree = scene.top().join("deep");
    fs::create_dir(&tree).expect("a directory");
    make_deep(&tree, 300);
    let few = ["prlimit".to_owned(), "--nofile=64".to_owned()];
    let mut rows = Vec::new();
    scene.programs.must("release_setup", &with(scene, json!({"version": "deep"})));
    let copy = with(scene, json!({"version": "deep", "src": tree.to_str()}));
    let what = "release_copy of 300 levels, 64 open files";
    rows.push(timed(scene, what, "release_copy", &copy, &few));
    let unlock = with(scene, json!({"state": "unlocked"}));
    scene.programs.must("release_setup", &unlock);
    // As the web user may make it, in a release.
    let below = scene.root().join("releases/deep/more");
    fs::create_dir(&below).expect("a directory");
    make_deep(&below, 3000);
    let prune = with(scene, json!({"keep": 1, "wait": true}));
    let what = "release_prune of 3,000 levels, 64 open files";
    let mut row = timed(scene, what, "release_prune", &prune, &few);
    let left = crate::scene::names(&scene.root().join("releases"));
    if !left.is_empty() {
        row.violations.push(format!("{left:?} is left"));
    }
    rows.push(row);
    rows
}

fn make_deep(tree: &Path, levels: usize) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut dir = openat(CWD, tree, flags, Mode::empty()).expect("a directory");
    for _ in 0..levels {
        mkdirat(&dir, "d", Mode::from_raw_mode(0o755)).expect("a directory");
        dir = openat(&dir, "d", flags, Mode::empty()).expect("a directory");
    }
}

/// Names and paths as long as they may be.
fn long_names(scene: &Scene) -> Vec<Row> {
    let name = "n".repeat(255);
    let mut rows = Vec::new();
    let mut row = |what: &str, version: &str, shared: &[String], may_fail: bool| {
        let arguments = with(scene, json!({"version": version, "shared_paths": shared}));
        let mut row = timed(scene, what, "release_setup", &arguments, &[]);
        let archive = scene.archive("1");
        let code = json!({"version": version, "src": archive.to_str(), "remote_src": true});
        for (module, arguments) in [
            ("release_unpack", with(scene, code)),
            ("release_link", arguments.clone()),
            ("release_activate", arguments),
            ("release_setup", with(scene, json!({"version": version, "state": "finished"}))),
        ] {
            let said = scene.programs.run(module, &arguments, &[]);
            row.runs += 1;
            if !said.is_well() {
                row.violations.push(format!("{module}: {}", said.message()));
            }
        }
        if may_fail {
            let reasons = ["too long", "longer than", "locked", "no release", "not exist"];
            let clear = |text: &String| reasons.iter().any(|reason| text.contains(reason));
            let first = row.violations.first().cloned().unwrap_or_default();
            row.remark = format!("refused: {}", first.chars().take(60).collect::<String>());
            row.violations.retain(|text| !clear(text));
        }
        rows.push(row);
    };
    row("a release with a name of 255 bytes", &name, &[], true);
    row("a release with a name of 200 bytes", &name[..200], &[], false);
    row("shared paths with a name of 255 bytes", "1", &[format!("pub/{name}")], false);
    let below = |levels: usize| vec![name.as_str(); levels].join("/");
    row("a shared path of 2,500 bytes", "2", &[below(10)], false);
    row("a shared path longer than PATH_MAX", "3", &[below(20)], true);
    rows
}

/// A tree of many files, copied, hard-linked, deleted.
fn many_files(scene: &Scene, files: usize) -> Vec<Row> {
    let tree = scene.top().join("tree");
    for number in 0..files.div_ceil(100) {
        let directory = tree.join(format!("{}/{number}", number % 100));
        fs::create_dir_all(&directory).expect("a directory");
        for file in 0..100.min(files - number * 100) {
            fs::write(directory.join(file.to_string()), "").expect("a file");
        }
    }
    let mut rows = Vec::new();
    let archive = scene.top().join("tree.tar.gz");
    let mut tar = std::process::Command::new("tar");
    tar.env("GZIP", "-1").arg("-czf").arg(&archive).arg("-C").arg(&tree).arg(".");
    assert!(tar.status().is_ok_and(|status| status.success()), "tar");
    scene.programs.must("release_setup", &with(scene, json!({"version": "m0"})));
    let unpack = json!({"version": "m0", "src": archive.to_str(), "remote_src": true});
    let what = format!("release_unpack of {files} files");
    rows.push(measured(scene, &what, "release_unpack", &with(scene, unpack)));
    scene.programs.must("release_setup", &with(scene, json!({"state": "unlocked"})));
    for (version, method) in [("m1", "copy"), ("m2", "hardlink")] {
        scene.programs.must("release_setup", &with(scene, json!({"version": version})));
        let copy = with(scene, json!({"version": version, "src": tree.to_str(), "method": method}));
        let what = format!("release_copy of {files} files, {method}");
        rows.push(measured(scene, &what, "release_copy", &copy));
        scene.programs.must("release_setup", &with(scene, json!({"state": "unlocked"})));
    }
    let prune = with(scene, json!({"keep": 1, "wait": true}));
    rows.push(measured(
        scene,
        &format!("release_prune of 3 × {files} files"),
        "release_prune",
        &prune,
    ));
    rows
}

/// With the peak of its memory.
fn measured(scene: &Scene, what: &str, module: &str, arguments: &Value) -> Row {
    let report = scene.top().join("time");
    let wrap = ["time", "-f", "%M", "-o"].map(str::to_owned).into_iter();
    let wrap: Vec<_> = match has_time() {
        true => wrap.chain([report.to_string_lossy().into_owned()]).collect(),
        false => Vec::new(),
    };
    let mut row = timed(scene, what, module, arguments, &wrap);
    let peak = fs::read_to_string(&report).unwrap_or_default();
    if let Ok(kilobytes) = peak.trim().parse::<u64>() {
        let _ = write!(row.remark, ", {} MB", kilobytes / 1024);
    }
    row
}

fn has_time() -> bool {
    std::process::Command::new("time").arg("true").output().is_ok()
}
