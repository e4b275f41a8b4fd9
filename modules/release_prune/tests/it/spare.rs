//! `release_prune`: a release that goes is kept as raw material for the next.

use std::fs;
use std::process::Command;

use oxistrano_harness::{Root, json, not_checked, spares_are_kept};

const SPARE: &str = "releases/.oxistrano-spare";

fn hidden(root: &Root) -> Vec<String> {
    let names = fs::read_dir(root.at("releases")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with('.')).collect()
}

fn three() -> Root {
    Root::with(&["1", "2", "3", "4"])
}

#[test]
fn the_newest_of_those_that_go_is_kept_and_only_that() {
    if !spares_are_kept("release_prune") {
        return;
    }
    let root = three();
    let arguments = json!({"keep": 2, "spare": true, "wait": true});
    let reply = root.check("release_prune", arguments.clone()).changed();
    assert_eq!((&reply["spare"], hidden(&root).len()), (&json!(null), 0));
    let reply = root.run("release_prune", arguments).changed();
    assert_eq!(reply["removed"], json!(["2", "1"]));
    assert_eq!(reply["spare"]["path"], root.at(SPARE).to_str().unwrap());
    assert_eq!(root.releases(), [".oxistrano-spare", "3", "4"]);
    assert_eq!(hidden(&root), [".oxistrano-spare"]);
    assert_eq!(root.read("releases/.oxistrano-spare/REVISION"), "2");
    let info = root.run("release_info", json!({})).unchanged();
    assert_eq!(info["spare"]["path"], root.at(SPARE).to_str().unwrap());
    assert_eq!(info["releases"].as_array().unwrap().len(), 2);
    // A later one takes its place, nothing to prune leaves it.
    root.deploy("5");
    let again = json!({"keep": 2, "spare": true, "wait": true});
    let _ = root.run("release_prune", again.clone()).changed();
    let _ = root.run("release_prune", again).unchanged();
    assert_eq!(hidden(&root), [".oxistrano-spare"]);
    assert_eq!(root.read("releases/.oxistrano-spare/REVISION"), "3");
}

#[test]
fn one_that_is_not_wanted_goes_and_else_it_stays() {
    if !spares_are_kept("release_prune") {
        return;
    }
    let root = three();
    let _ = root.run("release_prune", json!({"keep": 2, "spare": true, "wait": true})).changed();
    let _ = root.run("release_prune", json!({"keep": 2})).unchanged();
    let none = json!({"keep": 2, "spare": false, "wait": true});
    root.check("release_prune", none.clone()).changed().says(["would remove the spare"]);
    assert_eq!(hidden(&root), [".oxistrano-spare"]);
    let reply = root.run("release_prune", none.clone()).changed();
    assert_eq!((&reply["spare"], hidden(&root).len()), (&json!(null), 0));
    let _ = root.run("release_prune", none).unchanged();
}

#[test]
fn what_is_removed_by_name_is_removed() {
    let root = three();
    let named = json!({"versions": ["1"], "spare": true, "wait": true});
    let reply = root.run("release_prune", named).changed();
    assert_eq!((&reply["spare"], hidden(&root).len()), (&json!(null), 0));
}

#[test]
fn where_there_is_little_room_there_is_none() {
    let root = three();
    let releases = root.at("releases");
    let there = fs::read_dir(&releases).unwrap().map(|entry| entry.unwrap().path());
    let there: Vec<_> = there.collect();
    let aside = root.at("aside");
    fs::create_dir(&aside).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m,nr_inodes=200", "none"])
        .arg(&aside)
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        not_checked("nothing can be mounted here: a full file system");
        return;
    }
    let run = |program: &str, arguments: &[&std::path::Path]| {
        assert!(Command::new(program).args(arguments).status().unwrap().success());
    };
    for path in there {
        run("cp", &["-a".as_ref(), &path, &aside]);
    }
    run("mount", &["--move".as_ref(), &aside, &releases]);
    fs::write(releases.join("full"), vec![0; 900 << 10]).unwrap();
    let reply = root.run("release_prune", json!({"keep": 3, "spare": true, "wait": true}));
    let hidden = hidden(&root);
    run("umount", &[&releases]);
    let reply = reply.changed();
    reply.says(["removed 1; ", "no spare to build on, for lack of space"]);
    assert_eq!((&reply["removed"], &reply["spare"]), (&json!(["1"]), &json!(null)));
    assert_eq!(reply["no_spare"], "of 0.0 GB, 0.0 are free: less than a quarter");
    assert!(hidden.is_empty(), "{hidden:?}");
}
