//! `release_unpack`: a release is built on the spare.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use crate::common::{entries, sample, unpack, with};
use oxistrano_harness::{Manifest, Root, file, json, not_checked, tar_gz};
use sha2::{Digest, Sha256};

const SPARE: &str = "releases/.oxistrano-spare";

/// A root in which a release of the sample is the spare, and the deploy of 2 has begun.
fn with_spare() -> Root {
    let root = Root::with(&["0"]);
    let src = sample(&root);
    let _ = root.run("release_setup", json!({"version": "2"})).changed();
    let _ = root.run("release_unpack", unpack(&src)).changed();
    fs::rename(root.at("releases/2"), root.at(SPARE)).unwrap();
    root
}

fn hidden(root: &Root) -> Vec<String> {
    root.settle();
    hidden_now(root)
}

fn hidden_now(root: &Root) -> Vec<String> {
    let names = fs::read_dir(root.at("releases")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with('.')).collect()
}

/// The sample with another `index.php`, and without its `deep`.
fn changed(root: &Root) -> String {
    let mut all = entries();
    all.pop();
    all[2] = file("index.php", "<?php // changed\n");
    root.archive("changed.tar.gz", &tar_gz(&all))
}

#[test]
fn the_release_is_the_same_as_anew_and_what_stays_is_the_same_file() {
    let root = with_spare();
    let inode = |path: &str| root.at(path).metadata().unwrap().ino();
    let before = inode("releases/.oxistrano-spare/bin/magento");
    fs::write(root.at("releases/.oxistrano-spare/left"), "by a hook").unwrap();
    fs::write(root.at("releases/.oxistrano-spare/REVISION"), "other").unwrap();
    let src = changed(&root);
    let _ = root.check("release_unpack", unpack(&src)).changed();
    assert!(root.at(SPARE).exists());
    let reply = root.run("release_unpack", unpack(&src)).changed();
    assert_eq!((&reply["files"], &reply["kept_files"]), (&json!(2), &json!(1)));
    assert_eq!(inode("releases/2/bin/magento"), before);
    assert!(hidden(&root).is_empty(), "{:?}", hidden(&root));
    assert_eq!(root.state("2"), "in_progress");
    let built = Manifest::of(&root.at("releases/2"));
    fs::remove_dir_all(root.at("releases/2")).unwrap();
    let reply = root.run("release_unpack", with(unpack(&src), "spare", false)).changed();
    assert_eq!(reply["kept_files"], 0);
    Manifest::of(&root.at("releases/2")).assert_same(&built);
}

#[test]
fn what_the_index_has_recorded_is_not_read() {
    let root = with_spare();
    let (old, new) = (fs::read_to_string(root.at(SPARE).join("bin/magento")).unwrap(), "other");
    let new = new.repeat(old.len())[..old.len()].to_owned();
    // An index that says so of the old file tells that nobody has looked.
    let user = rustix::process::geteuid().as_raw();
    let inode = root.at(SPARE).metadata().unwrap().ino();
    let index = root.at(format!(".oxistrano/index-{user}/{inode}"));
    let mut bytes = fs::read(&index).unwrap();
    let hash: [u8; 32] = Sha256::digest(&old).into();
    let at = bytes.windows(32).position(|part| part == hash).unwrap();
    bytes[at..at + 32].copy_from_slice(&Sha256::digest(&new));
    let end = bytes.len() - 4;
    // And as if it had been finished in a later tick of the clock than the file.
    bytes[end - 12] = bytes[end - 12].wrapping_add(1);
    let sum = crc32fast::hash(&bytes[..end]);
    bytes[end..].copy_from_slice(&sum.to_le_bytes());
    fs::write(&index, bytes).unwrap();
    let mut all = entries();
    all[1] = file("bin/magento", &new).mode(0o755);
    let reply = root.run("release_unpack", unpack(&root.archive("new.tar.gz", &tar_gz(&all))));
    assert_eq!(reply.changed()["kept_files"], 2);
    assert_eq!(fs::read_to_string(root.at("releases/2/bin/magento")).unwrap(), old);
}

/// So many small files, of which the first are the same in each version.
fn many(version: &str, all: usize, same: usize) -> Vec<u8> {
    let text = |number| if number < same { "same" } else { version };
    let files = (0..all).map(|n| file(&format!("d{}/{n}", n % 50), text(n)));
    tar_gz(&files.collect::<Vec<_>>())
}

#[test]
fn where_nearly_all_is_new_an_empty_directory_is_filled() {
    // The last: it is not asked again later.
    for (all, same, stays) in
        [(5000, 0, false), (5000, 500, false), (8000, 2000, true), (12000, 600, true)]
    {
        let root = Root::with(&["0"]);
        let src = root.archive("1.tar.gz", &many("1", all, same));
        let _ = root.run("release_setup", json!({"version": "2"})).changed();
        let _ = root.run("release_unpack", unpack(&src)).changed();
        fs::rename(root.at("releases/2"), root.at(SPARE)).unwrap();
        let inode = |path: &str| root.at(path).metadata().unwrap().ino();
        let before = inode("releases/.oxistrano-spare/d7");
        let src = root.archive("2.tar.gz", &many("2", all, same));
        let reply = root.run("release_unpack", unpack(&src)).changed();
        assert_eq!(inode("releases/2/d7") == before, stays, "{same}");
        assert_eq!(reply["kept_files"], if stays { same } else { 0 });
        // Nothing is wrong.
        assert_eq!(reply["warnings"], json!(null));
        let last = format!("releases/2/d{}/{}", (all - 1) % 50, all - 1);
        assert_eq!(
            (root.read(&last), root.read("releases/2/d0/0")),
            ("2".into(), if same > 0 { "same" } else { "2" }.into())
        );
        let files = walk(&root.at("releases/2"));
        assert_eq!(files, all + 1, "REVISION is one more");
        assert!(hidden(&root).is_empty(), "{:?}", hidden(&root));
    }
}

fn walk(directory: &std::path::Path) -> usize {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { walk(&path) } else { 1 }).sum()
}

#[test]
fn where_the_disk_has_no_room_for_both_the_spare_goes_first() {
    let root = Root::fresh();
    fs::create_dir(root.path()).unwrap();
    let Some(_mount) = oxistrano_harness::tmpfs(&root.path(), "38m") else {
        return not_checked("a disk that is nearly full");
    };
    let src = root.archive("1.tar.gz", &many("1", 5000, 0));
    let _ = root.run("release_setup", json!({"version": "2"})).changed();
    let _ = root.run("release_unpack", unpack(&src)).changed();
    fs::rename(root.at("releases/2"), root.at(SPARE)).unwrap();
    let src = root.archive("2.tar.gz", &many("2", 5000, 0));
    let again = Manifest::of(&root.at(SPARE));
    let reply = root.run("release_unpack", unpack(&src)).changed();
    assert_eq!(reply["warnings"], json!(null));
    assert_eq!(walk(&root.at("releases/2")), 5001);
    // Nor is it in the way where it is not to be used.
    fs::rename(root.at("releases/2"), root.at(SPARE)).unwrap();
    let src = root.archive("1.tar.gz", &many("1", 5000, 0));
    let _ = root.run("release_unpack", with(unpack(&src), "spare", false)).changed();
    assert!(!root.at(SPARE).exists());
    Manifest::of(&root.at("releases/2")).assert_same(&again);
}

#[test]
fn without_spare_it_is_left_alone() {
    let root = with_spare();
    let src = changed(&root);
    let before = Manifest::exact(&root.at(SPARE));
    for (name, value) in [("spare", json!(false)), ("unchanged", json!("hardlink"))] {
        let reply = root.run("release_unpack", with(unpack(&src), name, value)).changed();
        assert_eq!(reply["kept_files"], 0);
        before.assert_same(&Manifest::exact(&root.at(SPARE)));
        fs::remove_dir_all(root.at("releases/2")).unwrap();
    }
}

#[test]
fn a_bad_archive_costs_no_spare() {
    let root = with_spare();
    let mut all = entries();
    all.push(file("../x", "evil"));
    let src = root.archive("bad.tar.gz", &tar_gz(&all));
    let _ = root.run("release_unpack", unpack(&src)).failed("unsafe_entry");
    assert_eq!(hidden(&root), [".oxistrano-spare"]);
    let reply = root.run("release_unpack", unpack(&changed(&root))).changed();
    assert_eq!(reply["kept_files"], 1);
}

#[test]
fn a_spare_that_cannot_be_used_is_given_up() {
    let root = with_spare();
    let src = changed(&root);
    let within = root.at("releases/.oxistrano-spare/bin");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&within).status();
    if mounted.is_ok_and(|status| status.success()) {
        fs::write(within.join("theirs"), "x").unwrap();
        let reply = root.run("release_unpack", unpack(&src)).changed();
        assert_eq!(reply["kept_files"], 0);
        assert_eq!(root.read("releases/2/bin/magento"), "#!/usr/bin/env php\n");
        let trash = hidden_now(&root);
        let place = trash.iter().map(|name| root.at("releases").join(name).join("bin"));
        let theirs: Vec<_> = place.filter(|path| path.join("theirs").exists()).collect();
        assert_eq!(theirs.len(), 1, "{trash:?}");
        assert!(Command::new("umount").arg(&theirs[0]).status().unwrap().success());
        fs::remove_dir_all(root.at("releases/2")).unwrap();
    } else {
        not_checked("nothing can be mounted here: a mount in the spare");
    }
    // A file that cannot be taken away.
    let root = with_spare();
    let src = changed(&root);
    let fixed = root.at("releases/.oxistrano-spare/deep/er");
    if Command::new("chattr").arg("+i").arg(&fixed).status().is_ok_and(|status| status.success()) {
        let reply = root.run("release_unpack", unpack(&src)).changed();
        let trash = hidden_now(&root);
        let paths = trash.iter().map(|name| root.at("releases").join(name));
        for path in paths {
            let _ = Command::new("chattr").args(["-R", "-i"]).arg(&path).status();
        }
        let _ = reply;
        assert_eq!(root.read("releases/2/index.php"), "<?php // changed\n");
        assert!(!root.at("releases/2/deep").exists());
    } else {
        not_checked("chattr +i: a file that cannot be removed");
    }
}

#[test]
fn a_link_in_the_place_of_the_spare_is_given_up() {
    let root = with_spare();
    fs::rename(root.at(SPARE), root.at("elsewhere")).unwrap();
    root.link(SPARE, "../elsewhere");
    let before = Manifest::exact(&root.at("elsewhere"));
    let reply = root.run("release_unpack", unpack(&changed(&root))).changed();
    assert_eq!(reply["kept_files"], 0);
    before.assert_same(&Manifest::exact(&root.at("elsewhere")));
}
