//! `release_copy`: a release is built on the spare.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use crate::copy::{copy, git, repository, started, with};
use oxistrano_harness::{Manifest, Root, Value, json, not_checked};

const SPARE: &str = "releases/.oxistrano-spare";

/// A root in which a copy of the tree beside it is the spare, and the deploy of 2 has begun.
fn with_spare() -> Root {
    let root = started();
    make_spare(&root, copy(&root));
    root
}

fn make_spare(root: &Root, arguments: Value) {
    let _ = root.run("release_copy", arguments).changed();
    fs::rename(root.at("releases/2"), root.at(SPARE)).unwrap();
}

fn hidden_now(root: &Root) -> Vec<String> {
    let names = fs::read_dir(root.at("releases")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with('.')).collect()
}

fn inode(root: &Root, path: &str) -> u64 {
    root.at(path).metadata().unwrap().ino()
}

#[test]
fn the_release_is_the_same_as_anew_and_what_stays_is_the_same_file() {
    let root = with_spare();
    let before = inode(&root, &format!("{SPARE}/bin/run"));
    fs::write(root.beside("src/index.php"), "3").unwrap();
    fs::remove_file(root.beside("src/docs/a/b.md")).unwrap();
    root.write(format!("{SPARE}/left"), "by a hook");
    root.write(format!("{SPARE}/REVISION"), "other");
    let _ = root.check("release_copy", copy(&root)).changed();
    assert!(root.at(SPARE).exists());
    let reply = root.run("release_copy", copy(&root)).changed();
    assert_eq!((&reply["files"], &reply["kept_files"]), (&json!(3), &json!(2)));
    assert_eq!(reply["kept_bytes"], "#!/bin/sh\n".len() + "cache".len());
    assert_eq!(inode(&root, "releases/2/bin/run"), before);
    root.settle();
    assert!(hidden_now(&root).is_empty(), "{:?}", hidden_now(&root));
    let built = Manifest::of(&root.at("releases/2"));
    let reply = root.run("release_copy", with(copy(&root), "spare", false)).changed();
    assert_eq!(reply["kept_files"], 0);
    Manifest::of(&root.at("releases/2")).assert_same(&built);
}

#[test]
fn without_spare_and_for_what_was_fetched_it_is_left_alone() {
    let root = with_spare();
    let before = Manifest::exact(&root.at(SPARE));
    let reply = root.run("release_copy", with(copy(&root), "spare", false)).changed();
    assert_eq!(reply["kept_files"], 0);
    before.assert_same(&Manifest::exact(&root.at(SPARE)));
    root.write("releases/.oxistrano-staging/index.php", "fetched");
    let _ = root.run("release_copy", json!({"version": "2"})).changed();
    before.assert_same(&Manifest::exact(&root.at(SPARE)));
}

#[test]
fn where_nearly_all_is_new_an_empty_directory_is_filled() {
    for (same, left, stays) in [(100, 0, false), (2500, 0, true), (5000, 5000, true)] {
        let root = started();
        let write = |version: &str| {
            for number in 0..5000 {
                let text = if number < same { "same" } else { version };
                let path = root.beside(format!("src/d{}/{number}", number % 50));
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
        };
        write("1");
        make_spare(&root, copy(&root));
        // They are nothing that differs.
        (0..left).for_each(|number| root.write(format!("{SPARE}/d1/left{number}"), ""));
        write("2");
        let before = inode(&root, &format!("{SPARE}/d7"));
        let reply = root.run("release_copy", copy(&root)).changed();
        assert_eq!(inode(&root, "releases/2/d7") == before, stays, "{same}");
        // And the four that `started` has made.
        assert_eq!(reply["kept_files"], if stays { same + 4 } else { 0 });
        assert_eq!(reply["warnings"], json!(null));
        assert_eq!(root.read("releases/2/d49/4999"), if same < 5000 { "2" } else { "same" });
        assert!(!root.at("releases/2/d1/left0").exists());
    }
}

#[test]
fn a_source_that_cannot_be_copied_costs_no_spare() {
    let root = with_spare();
    let socket = root.beside("src/bin/socket");
    let held = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let _ = root.run("release_copy", copy(&root)).failed("special_file");
    root.settle();
    assert_eq!(hidden_now(&root), [".oxistrano-spare"]);
    drop(held);
    fs::remove_file(socket).unwrap();
    let reply = root.run("release_copy", copy(&root)).changed();
    assert_eq!(reply["kept_files"], 4);
}

#[test]
fn a_spare_that_cannot_be_used_is_given_up_with_a_warning() {
    // A file that cannot be taken away.
    let root = with_spare();
    let fixed = root.at(SPARE).join("docs/a/b.md");
    fs::remove_dir_all(root.beside("src/docs/a")).unwrap();
    fs::write(root.beside("src/docs/a"), "a file now").unwrap();
    if Command::new("chattr").arg("+i").arg(&fixed).status().is_ok_and(|status| status.success()) {
        let reply = root.run("release_copy", copy(&root)).changed();
        for name in hidden_now(&root) {
            let path = root.at("releases").join(name);
            let _ = Command::new("chattr").args(["-R", "-i"]).arg(path).status();
        }
        assert_eq!(root.read("releases/2/docs/a"), "a file now");
        drop(reply);
    } else {
        not_checked("chattr +i: a file that cannot be removed");
    }
    let root = with_spare();
    let within = root.at(SPARE).join("bin");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&within).status();
    if !mounted.is_ok_and(|status| status.success()) {
        return not_checked("nothing can be mounted here: a mount in the spare");
    }
    fs::write(within.join("theirs"), "x").unwrap();
    let reply = root.run("release_copy", copy(&root)).changed();
    let trash = hidden_now(&root);
    let place = trash.iter().map(|name| root.at("releases").join(name).join("bin"));
    let theirs: Vec<_> = place.filter(|path| path.join("theirs").exists()).collect();
    assert_eq!(theirs.len(), 1, "{trash:?}");
    assert!(Command::new("umount").arg(&theirs[0]).status().unwrap().success());
    assert_eq!(reply["kept_files"], 0);
    assert_eq!(root.read("releases/2/bin/run"), "#!/bin/sh\n");
}

#[test]
fn of_a_git_work_tree_what_is_the_same_stays_and_what_is_not_tracked_any_more_goes() {
    let root = started();
    let work = root.beside("work");
    repository(&work, &[("index.php", "1"), ("web/app.php", "app"), ("web/old/gone.php", "x")]);
    let arguments = json!({"version": "2", "src": work.to_str(), "git_tracked": true});
    make_spare(&root, arguments.clone());
    let before = inode(&root, &format!("{SPARE}/web/app.php"));
    fs::write(work.join("index.php"), "2").unwrap();
    fs::write(work.join("untracked"), "x").unwrap();
    git(&work, &["rm", "-q", "--cached", "web/old/gone.php"]);
    let reply = root.run("release_copy", arguments).changed();
    assert_eq!((&reply["files"], &reply["kept_files"]), (&json!(2), &json!(1)));
    assert_eq!(inode(&root, "releases/2/web/app.php"), before);
    let paths = Manifest::of(&root.at("releases/2"));
    assert_eq!(paths.paths(), ["REVISION", "index.php", "web", "web/app.php"]);
}
