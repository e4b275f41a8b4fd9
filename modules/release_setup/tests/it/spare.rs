//! `release_setup`: what becomes of a release that was whole when its deploy failed or died.

use std::fs;
use std::os::unix::fs::MetadataExt;

use oxistrano_harness::{Manifest, Root, app, json, spares_are_kept, tar_gz};

const SPARE: &str = "releases/.oxistrano-spare";

/// 1 is live; the deploy of 2 has come as far as its links, and hooks have worked in it.
fn two_begun() -> Root {
    let root = Root::with(&["1"]);
    root.begin("2", &app("new"), &json!({"shared_paths": ["log"]}));
    root.write("releases/2/index.php", "changed by a hook");
    root.write("releases/2/left/by", "a hook");
    root
}

fn failed(root: &Root, spare: bool) -> oxistrano_harness::Reply {
    let end = json!({"version": "2", "state": "failed", "spare": spare});
    root.run("release_setup", end).changed()
}

#[test]
fn the_next_release_is_made_of_it_and_is_the_same_as_anew() {
    if !spares_are_kept("release_setup") {
        return;
    }
    for died in [false, true] {
        let root = two_begun();
        let inode = |path: &str| root.at(path).metadata().unwrap().ino();
        let program = inode("releases/2/bin/run");
        if died {
            let _ = root.run("release_setup", json!({"state": "unlocked"})).changed();
        } else {
            let reply = failed(&root, true);
            reply.says(["the unfinished release is kept as the spare", "Release 1 is live"]);
            assert_eq!(reply["removed"], "2");
        }
        let reply = root.run("release_setup", json!({"version": "3", "spare": true})).changed();
        assert_eq!(reply["removed_broken"], if died { json!(["2"]) } else { json!([]) });
        // It is no release any more, and nobody goes back to it.
        let reply = root.run("release_info", json!({}));
        assert_eq!(reply["releases"].as_array().unwrap().len(), 1);
        assert_eq!(inode(&format!("{SPARE}/bin/run")), program);
        let back = json!({"version": "2", "_ansible_check_mode": true});
        let _ = root.run("release_rollback", back).failed("cannot_roll_back");
        let src = root.archive("3.tar.gz", &tar_gz(&app("new")));
        let unpack = json!({"version": "3", "src": src, "remote_src": true});
        let reply = root.run("release_unpack", unpack.clone()).changed();
        assert_eq!((&reply["files"], &reply["kept_files"]), (&json!(2), &json!(1)));
        assert_eq!(inode("releases/3/bin/run"), program);
        let made = Manifest::of(&root.at("releases/3"));
        fs::remove_dir_all(root.at("releases/3")).unwrap();
        let _ = root.run("release_unpack", unpack).changed();
        Manifest::of(&root.at("releases/3")).assert_same(&made);
    }
}

#[test]
fn it_is_removed_where_that_is_wanted_or_it_was_not_whole() {
    let root = two_begun();
    let said = failed(&root, false);
    said.says(["the unfinished release was removed"]);
    assert!(!root.has(SPARE) && root.releases() == ["1"]);
    let _ = root.run("release_setup", json!({"version": "2"})).changed();
    // As of a strategy that was still at it.
    root.write("releases/2/index.php", "half");
    failed(&root, true).says(["the unfinished release was removed"]);
    assert!(!root.has(SPARE) && root.releases() == ["1"]);
}

#[test]
fn it_takes_the_place_of_an_earlier_one() {
    if !spares_are_kept("release_setup") {
        return;
    }
    let root = two_begun();
    root.write(format!("{SPARE}/old"), "");
    let _ = failed(&root, true);
    assert!(root.has(format!("{SPARE}/left/by")) && !root.has(format!("{SPARE}/old")));
    root.settle();
    let hidden = fs::read_dir(root.at("releases")).unwrap().count();
    assert_eq!(hidden, 2, "1 and the spare");
}
