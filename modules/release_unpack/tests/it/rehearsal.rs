//! `release_unpack` in check mode with diff: what would change for visitors. `Root::check` makes sure that nothing does.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::common::{sha256, with};
use oxistrano_harness::{Reply, Root, Value, binary, file, json, symlink, tar_gz};

/// A root in which 1 is live, with files of its own and a link to `shared`.
fn live() -> Root {
    let root = Root::fresh();
    let entries = [
        file("index.php", "<?php // 1\n"),
        file("app/longer.php", "1"),
        file("app/gone.php", "1"),
        file("same.php", "same"),
        symlink("latest", "index.php"),
    ];
    root.deploy_with("1", &entries, json!({"shared_paths": ["var"]}));
    root
}

fn next() -> Vec<u8> {
    tar_gz(&[
        file("index.php", "<?php // 2\n"),
        file("app/longer.php", "12345"),
        file("new/deep.php", "new"),
        file("same.php", "same"),
        symlink("latest", "index.php"),
        file("var/of the build.txt", "replaced by a link"),
    ])
}

fn on_host(root: &Root, archive: &[u8]) -> Value {
    let src = root.archive("next.tar.gz", archive);
    json!({"version": "2", "src": src, "remote_src": true, "shared_paths": ["var"]})
}

#[track_caller]
fn tells_all(reply: &Reply) {
    assert_eq!(reply["compared_with"], "1");
    let first = json!({
        "added": ["new/deep.php"],
        "changed": ["app/longer.php", "index.php"],
        "removed": ["app/gone.php"],
    });
    let changes = json!({"added": 1, "changed": 2, "removed": 1, "same": 2, "first": first});
    assert_eq!(reply["changes"], changes);
    let side = |side: &str| -> Vec<String> {
        reply["diff"][side].as_str().unwrap().lines().map(str::to_owned).collect()
    };
    let line = "compared with 1, the live release: 1 added, 2 changed, 1 removed, 2 unchanged";
    assert_eq!(
        side("before"),
        ["absent", line, "app/longer.php: 1 bytes", "index.php: 11 bytes", "app/gone.php: 1 bytes"]
    );
    let after = side("after");
    assert!(after[0].starts_with("release, 6 files and links"), "{after:?}");
    let other = "index.php: 11 bytes, different content";
    assert_eq!(after[1..], [line, "app/longer.php: 5 bytes", other, "new/deep.php: 3 bytes"]);
}

#[test]
fn the_files_that_change_are_told_by_an_archive_on_the_host() {
    let root = live();
    let reply = root.check("release_unpack", on_host(&root, &next())).changed();
    reply.says(["would unpack 5 files"]);
    tells_all(&reply);
    // The same again, under another name.
    let _ = root.run("release_setup", json!({"version": "2"})).changed();
    let _ = root.run("release_unpack", on_host(&root, &next())).changed();
    let _ = root.run("release_activate", json!({"version": "2"})).changed();
    let _ = root.run("release_setup", json!({"state": "finished"})).changed();
    let again = with(on_host(&root, &next()), "version", "3");
    let reply = root.check("release_unpack", again).changed();
    let changes = &reply["changes"];
    assert_eq!((&changes["added"], &changes["changed"]), (&json!(0), &json!(0)));
    assert_eq!((&changes["removed"], &changes["same"]), (&json!(0), &json!(5)));
}

#[test]
fn the_first_deploy_has_nothing_to_be_compared_with() {
    for root in [Root::fresh(), Root::new()] {
        let reply = root.check("release_unpack", on_host(&root, &next())).changed();
        assert!(reply["changes"].is_null() && reply["compared_with"].is_null(), "{reply}");
        assert_eq!(reply["diff"]["after"], "release, 6 files and links\n");
    }
}

/// As the action plugin does it: the list is made on the controller, where there is no deploy root, and sent.
fn listing(root: &Root, archive: &[u8], options: &Value) -> Vec<u8> {
    let listing = root.beside("listing");
    let mut arguments = options.clone();
    arguments["src"] = root.archive("on the controller.tar.gz", archive).into();
    arguments["deploy_to"] = root.beside("nowhere").to_str().into();
    arguments["listing"] = listing.to_str().into();
    arguments["remote_src"] = true.into();
    arguments["_ansible_check_mode"] = true.into();
    let _ = root.run("release_unpack", arguments).changed();
    assert!(!root.beside("nowhere").exists());
    let made = fs::read(&listing).unwrap();
    fs::remove_file(&listing).unwrap();
    fs::remove_file(root.beside("on the controller.tar.gz")).unwrap();
    made
}

fn from_controller(archive: &[u8]) -> Value {
    let digits = &sha256(archive)["sha256:".len()..];
    let artifact = json!({"sha256": digits, "size": archive.len()});
    json!({"version": "2", "src": "/on/the/controller.tar.gz", "artifact": artifact, "shared_paths": ["var"]})
}

/// Runs it in check mode with `bytes` after its arguments.
#[track_caller]
fn told(root: &Root, mut arguments: Value, bytes: &[u8]) -> Reply {
    arguments["deploy_to"] = root.path().to_str().into();
    arguments["_ansible_check_mode"] = true.into();
    arguments["_ansible_diff"] = true.into();
    let mut child = Command::new(binary("release_unpack"))
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(format!("{arguments}\n").as_bytes()).unwrap();
    stdin.write_all(bytes).unwrap();
    drop(stdin);
    Reply::of(&child.wait_with_output().unwrap())
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

#[test]
fn the_files_that_change_are_told_by_the_list_of_an_archive_that_stays_where_it_is() {
    let root = live();
    let archive = next();
    let mut arguments = from_controller(&archive);
    let reply = root.check("release_unpack", arguments.clone()).changed();
    assert_eq!(reply["listing_wanted"], true);
    let packed = zlib(&listing(&root, &archive, &json!({"version": "1"})));
    arguments["artifact"]["listing"] = packed.len().into();
    let before = root.content();
    let reply = told(&root, arguments.clone(), &packed).changed();
    before.assert_same(&root.content());
    assert_eq!((&reply["to_send"], &reply["files"]), (&archive.len().into(), &json!(5)));
    tells_all(&reply);
    let reply = told(&root, arguments, &packed[..packed.len() / 2]).failed("io");
    reply.says(["the list of the archive", "Nothing was changed."]);
}

#[test]
fn the_list_has_what_would_be_unpacked_and_nothing_else() {
    let root = live();
    let archive = tar_gz(&[file("top/same.php", "same"), file("top/notes.md", "left out")]);
    let options = json!({"version": "1", "strip_components": 1, "exclude": ["*.md"]});
    let packed = zlib(&listing(&root, &archive, &options));
    let mut arguments = from_controller(&archive);
    arguments["artifact"]["listing"] = packed.len().into();
    let changes = told(&root, arguments, &packed).changed()["changes"].clone();
    assert_eq!((&changes["same"], &changes["added"]), (&json!(1), &json!(0)));
    assert_eq!(changes["removed"], 4);
}

#[test]
fn where_it_cannot_be_told_the_reason_is() {
    let root = live();
    let mut arguments = from_controller(&next());
    arguments["artifact"]["unlisted"] = "this controller cannot".into();
    let reply = told(&root, arguments, b"").changed();
    assert_eq!(
        (&reply["changes_unknown"], &reply["changes"]),
        (&json!("this controller cannot"), &Value::Null)
    );
    let after = reply["diff"]["after"].as_str().unwrap();
    assert!(
        after.contains(
            "compared with 1, the live release: not known, because this controller cannot"
        ),
        "{after}"
    );
}

#[test]
fn a_live_release_that_cannot_be_read_is_no_reason_to_fail() {
    let root = live();
    // Deeper than any archive can be: a user has done that.
    let mut deep = root.at("releases/1");
    (0..260).for_each(|_| deep.push("d"));
    fs::create_dir_all(&deep).unwrap();
    let reply = root.check("release_unpack", on_host(&root, &next())).changed();
    assert!(reply["changes_unknown"].as_str().unwrap().contains("is nested too deeply"), "{reply}");
    reply.says(["would unpack 5 files"]);
}

#[test]
fn a_broken_archive_fails_in_check_mode_as_it_would_without() {
    let root = live();
    let archive = next();
    let cut = on_host(&root, &archive[..archive.len() / 2]);
    let _ = root.check("release_unpack", cut).failed("bad_archive");
}
