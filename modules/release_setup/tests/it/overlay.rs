//! Releases that came with the image of a container: directories in a lower layer of an overlayfs,
//! which cannot be renamed (EXDEV).

use std::fs;

use oxistrano_harness::{Mount, Root, Value, app, file, json, not_checked, overlay, tar_gz};

/// These releases, deployed in the lower layer; `None` where nothing can be mounted.
fn baked(versions: &[&str], prepare: impl Fn(&Root)) -> Option<(Root, Mount)> {
    let root = Root::with(versions);
    prepare(&root);
    root.settle();
    match overlay(&root.path(), &root.beside("layer")) {
        Some(mount) => {
            let renamed = fs::rename(root.at("releases/1"), root.at("releases/renamed"));
            let error = renamed.expect_err("a lower directory");
            assert_eq!(error.kind(), std::io::ErrorKind::CrossesDevices, "{error}");
            Some((root, mount))
        }
        None => {
            not_checked("releases in a lower layer of an overlayfs");
            None
        }
    }
}

fn keep(keep: u32, wait: bool) -> Value {
    json!({"keep": keep, "wait": wait})
}

#[test]
fn old_ones_are_removed_in_place() {
    for wait in [true, false] {
        let Some((root, _mount)) = baked(&["1", "2", "3"], |_| {}) else { return };
        root.deploy("4");
        let reply = root.run("release_prune", keep(2, wait)).changed();
        assert_eq!(reply["removed"], json!(["2", "1"]), "{reply}");
        root.settle();
        assert_eq!(root.releases(), ["3", "4"]);
        assert_eq!(fs::read_dir(root.at("releases")).unwrap().count(), 2, "nothing is left there");
        assert_eq!(root.live(), "4");
        let _ = root.run("release_prune", keep(2, wait)).unchanged();
    }
}

#[test]
fn a_broken_one_does_not_keep_setup_from_its_work() {
    let died = |root: &Root| {
        root.begin("3", &app("3"), &json!({}));
        let _ = root.run("release_setup", json!({"state": "unlocked"})).changed();
    };
    let Some((root, _mount)) = baked(&["1", "2"], died) else { return };
    let reply = root.run("release_setup", json!({"version": "4"})).changed();
    assert_eq!(reply["removed_broken"], json!(["3"]));
    assert_eq!(root.releases(), ["1", "2"]);
}

#[test]
fn one_that_was_not_removed_to_the_end_is_no_release_and_goes_before_the_next_is_made() {
    let Some((root, _mount)) = baked(&["1", "2", "3"], |_| {}) else { return };
    // What a killed prune leaves.
    root.write("releases/.oxistrano-removing-2", "");
    fs::remove_file(root.at("releases/2/index.php")).unwrap();
    assert_eq!(root.state("2"), "broken");
    assert_eq!(root.run("release_info", json!({}))["previous"], "1");
    let _ = root.run("release_setup", json!({"version": "2"})).changed();
    assert!(!root.has("releases/2") && !root.has("releases/.oxistrano-removing-2"));
    let _ = root.run("release_setup", json!({"state": "failed"})).changed();
    // Also without a setup.
    root.write("releases/.oxistrano-removing-2", "");
    root.write("releases/2/half", "");
    root.unpack("2", &app("2"));
    assert!(!root.has("releases/2/half") && !root.has("releases/.oxistrano-removing-2"));
    assert_eq!(root.read("releases/2/REVISION"), "2");
}

#[test]
fn one_that_cannot_be_removed_is_told_apart_from_those_that_are_gone() {
    let Some((root, _mount)) = baked(&["1", "2", "3", "4"], |_| {}) else { return };
    fs::create_dir(root.at("releases/2/mounted")).unwrap();
    let inner = oxistrano_harness::tmpfs(&root.at("releases/2/mounted"), "1m");
    assert!(inner.is_some(), "one mount could be made, another cannot");
    let reply = root.run("release_prune", keep(1, true)).failed("mount_point");
    reply.says(["Removed: 1.", "Partly removed (the next deploy removes the rest): 2."]);
    assert_eq!(root.state("2"), "broken");
    let reply = root.run("release_prune", keep(1, true)).failed("mount_point");
    assert!(!reply.msg().contains("Removed: "), "{reply}");
    drop(inner);
    let _ = root.run("release_prune", keep(1, true)).changed();
    assert_eq!(root.releases(), ["3", "4"]);
}

#[test]
fn a_directory_in_one_becomes_a_link_to_what_is_shared() {
    let made = |root: &Root| root.write("releases/2/var/of-the-artifact", "");
    let Some((root, _mount)) = baked(&["1", "2"], made) else { return };
    let link = json!({"version": "2", "shared_paths": ["var"]});
    let _ = root.run("release_link", link.clone()).changed();
    assert_eq!(root.target("releases/2/var"), "../../shared/var");
    let _ = root.run("release_link", link).unchanged();
}

#[test]
fn one_is_only_replaced_where_nobody_misses_it() {
    let died = |root: &Root| {
        root.begin("3", &app("3"), &json!({}));
        let _ = root.run("release_setup", json!({"state": "unlocked"})).changed();
    };
    let Some((root, _mount)) = baked(&["1", "2"], died) else { return };
    let unpack = |version: &str| {
        let src = root.archive("x.tar.gz", &tar_gz(&app("anew")));
        json!({"version": version, "src": src, "remote_src": true, "force": true})
    };
    let _ = root.run("release_unpack", unpack("3")).changed();
    assert_eq!(root.read("releases/3/index.php"), "anew");
    // It is live: there is no moment in which it may be missing.
    let reply = root.run("release_unpack", unpack("2"));
    reply.says(["choose another version"]);
    assert_eq!(root.read("current/index.php"), "2");
    assert_eq!(root.releases(), ["1", "2", "3"]);
}

#[test]
fn a_copy_that_is_live_is_brought_up_to_date() {
    let rsync = json!({"current_via": "rsync"});
    let copied =
        |root: &Root| root.deploy_with("2", &[file("x/y", "2"), file("z", "2")], rsync.clone());
    let Some((root, _mount)) = baked(&["1"], copied) else { return };
    assert_eq!(root.read("current/x/y"), "2");
    root.deploy_with("3", &[file("x", "3"), file("z/y", "3")], rsync.clone());
    assert_eq!((root.read("current/x"), root.read("current/z/y")), ("3".into(), "3".into()));
    let _ = root.run("release_rollback", rsync).changed();
    assert_eq!(root.read("current/x/y"), "2");
}
