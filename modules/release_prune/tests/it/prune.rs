//! `release_prune`: which releases go.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use oxistrano_harness::{NOBODY, Root, Value, app, is_root, json, not_checked};

fn keep(count: u32) -> Value {
    json!({"keep": count})
}

fn five() -> Root {
    Root::with(&["1", "2", "3", "4", "5"])
}

/// A release whose deploy died before the switch.
fn broken(root: &Root, version: &str) {
    root.begin(version, &app(version), &json!({}));
    let _ = root.run("release_setup", json!({"state": "unlocked"})).changed();
}

#[test]
fn check_mode_changes_nothing() {
    let root = Root::fresh();
    let _ = root.check("release_prune", keep(1)).unchanged();
    let root = five();
    let reply = root.check("release_prune", keep(3)).changed();
    reply.says(["would remove 2, 1"]);
    assert_eq!(reply["removed"], json!(["2", "1"]));
    let diff = &reply["diff"];
    assert_eq!(diff["before"], "5: active\n4: complete\n3: complete\n2: complete\n1: complete\n");
    assert_eq!(diff["after"], "5: active\n4: complete\n3: complete\n");
    let _ = root.check("release_prune", json!({"versions": ["1"]})).changed();
}

#[test]
fn check_mode_refuses_the_live_release_as_the_real_run_does() {
    let root = five();
    let _ = root.check("release_prune", json!({"versions": ["5"]})).failed("release_in_use");
    let _ = root.run("release_prune", json!({"versions": ["5"]})).failed("release_in_use");
    assert_eq!(root.live(), "5");
}

#[test]
fn check_mode_counts_the_release_that_is_to_come() {
    let root = five();
    let reply = root.check("release_prune", json!({"keep": 2, "version": "6"})).changed();
    assert_eq!(reply["removed"], json!(["4", "3", "2", "1"]));
    let alone = json!({"keep": 1, "keep_previous": false, "version": "6"});
    let reply = root.check("release_prune", alone).changed();
    assert_eq!(reply["removed"], json!(["5", "4", "3", "2", "1"]));
}

#[test]
fn what_is_live_is_not_guessed() {
    let root = Root::with(&["1", "2", "3"]);
    // 1 is live, but this user may not look along the way to it.
    fs::create_dir(root.at("hidden")).unwrap();
    root.link("hidden/1", "../releases/1");
    fs::remove_file(root.at("current")).unwrap();
    root.link("current", "hidden/1");
    assert_eq!(root.live(), "1");
    if is_root() {
        let owner = format!("{NOBODY}:{NOBODY}");
        let chown = Command::new("chown").arg("-R").arg(owner).arg(root.path()).status();
        assert!(chown.unwrap().success());
    }
    let allow = |mode| fs::set_permissions(root.at("hidden"), fs::Permissions::from_mode(mode));
    allow(0o000).unwrap();
    let reply = root.run_as(NOBODY, "release_prune", keep(1));
    allow(0o755).unwrap();
    reply.failed("io").says(["hidden/1", "Permission denied"]);
    assert!(root.has("releases/1"));
}

#[test]
fn the_first_run_removes_and_the_second_changes_nothing() {
    let root = five();
    let reply = root.run("release_prune", keep(3)).changed();
    assert_eq!(reply["removed"], json!(["2", "1"]));
    assert_eq!(reply["matched"], 5);
    assert_eq!(reply["files"][0]["path"], root.at("releases/5").to_str().unwrap());
    assert_eq!(root.releases(), ["3", "4", "5"]);
    let _ = root.run("release_prune", keep(3)).unchanged();
    assert_eq!([root.live(), root.read("current/index.php")], ["5", "5"]);
}

#[test]
fn without_a_number_everything_stays() {
    let root = five();
    broken(&root, "6");
    let _ = root.run("release_prune", json!({})).unchanged();
    let _ = root.run("release_prune", keep(0)).unchanged();
    assert_eq!(root.releases().len(), 6);
}

#[test]
fn broken_releases_do_not_count_and_go() {
    // deployphp/deployer#814: failed deploys pushed the good releases out.
    let root = Root::with(&["1", "2", "3"]);
    // Not by setup, which would remove those that broke before.
    for version in ["4", "5", "6"] {
        root.unpack(version, &app(version));
        assert_eq!(root.state(version), "broken");
    }
    let reply = root.run("release_prune", keep(3)).changed();
    assert_eq!(reply["removed"], json!(["6", "5", "4"]));
    assert_eq!(root.releases(), ["1", "2", "3"]);
}

#[test]
fn releases_that_were_rolled_back_from_do_not_count_and_go() {
    let root = five();
    let _ = root.run("release_rollback", json!({})).changed();
    assert_eq!(root.state("5"), "rolled_back");
    let reply = root.run("release_prune", keep(4)).changed();
    assert_eq!(reply["removed"], json!(["5"]));
    assert_eq!(root.releases(), ["1", "2", "3", "4"]);
}

#[test]
fn the_live_release_and_the_one_before_it_stay_whatever_the_number() {
    let root = five();
    let _ = root.run("release_prune", keep(1)).changed();
    assert_eq!(root.releases(), ["4", "5"]);
    let _ = root.run("release_rollback", json!({})).changed();
    assert_eq!(root.read("current/index.php"), "4");
}

#[test]
fn the_previous_one_goes_only_on_request() {
    let root = five();
    let _ = root.run("release_prune", json!({"keep": 1, "keep_previous": false})).changed();
    assert_eq!(root.releases(), ["5"]);
}

#[test]
fn an_old_release_that_is_live_is_never_removed() {
    let root = five();
    let _ = root.run("release_rollback", json!({"version": "2"})).changed();
    let _ = root.run("release_prune", json!({"keep": 1, "keep_previous": false})).changed();
    assert!(root.releases().contains(&"2".to_owned()));
    assert_eq!([root.live(), root.read("current/index.php")], ["2", "2"]);
}

#[test]
fn a_release_in_progress_is_never_removed() {
    let root = five();
    root.begin("6", &app("6"), &json!({}));
    let _ = root.run("release_prune", json!({"keep": 1, "keep_previous": false})).changed();
    assert_eq!(root.releases(), ["5", "6"]);
    assert_eq!(root.state("6"), "in_progress");
    let reply = root.run("release_prune", json!({"versions": ["6"]})).failed("release_in_use");
    reply.says(["refusing to remove release 6", "it is being deployed", "Nothing was changed."]);
    assert_eq!(root.releases(), ["5", "6"]);
}

#[test]
fn a_release_in_which_a_command_runs_stays_until_it_has_ended() {
    let root = five();
    let running = root.busy("1");
    let reply = root.run("release_prune", keep(3)).changed();
    assert_eq!(reply["removed"], json!(["2"]), "{reply}");
    reply.warns("releases/1' was not removed, because a command is running in it");
    let reply = root.run("release_prune", json!({"versions": ["1"]})).failed("release_in_use");
    reply.says(["a command is running in it", "Nothing was changed."]);
    drop(running);
    let reply = root.run("release_prune", keep(3)).changed();
    assert_eq!(reply["removed"], json!(["1"]), "{reply}");
}

#[test]
fn the_live_release_is_refused_by_name_and_nothing_else_is_removed() {
    let root = five();
    let before = root.content();
    let arguments = json!({"keep": 2, "versions": ["1", "5"]});
    let reply = root.run("release_prune", arguments).failed("release_in_use");
    reply.says(["refusing to remove release 5", "it is live", "Nothing was changed."]);
    before.assert_same(&root.content());
}

#[test]
fn releases_go_by_name_and_one_that_is_not_there_is_no_error() {
    let root = five();
    let arguments = json!({"versions": ["2", "never-there"]});
    let reply = root.run("release_prune", arguments.clone()).changed();
    assert_eq!(reply["removed"], json!(["2"]));
    assert_eq!(root.releases(), ["1", "3", "4", "5"]);
    let _ = root.run("release_prune", arguments).unchanged();
    assert_eq!(root.state("2"), "absent");
}

#[test]
fn what_no_deploy_has_made_is_reported_and_stays() {
    let root = five();
    root.write("releases/backup/dump.sql", "precious");
    root.write("releases/notes.txt", "precious");
    root.link("releases/latest", "5");
    let reply = root.run("release_prune", keep(2)).changed();
    assert_eq!(reply["unrecognised"], json!(["backup"]));
    reply.warns("no known deploy made them: backup");
    assert_eq!(root.releases(), ["4", "5", "backup", "latest", "notes.txt"]);
    assert_eq!(root.read("releases/backup/dump.sql"), "precious");
}

#[test]
fn a_release_of_the_upstream_role_counts_when_it_has_a_revision() {
    let root = Root::with(&["5"]);
    for version in ["1", "2", "3"] {
        root.write(format!("releases/{version}/REVISION"), version);
        let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        let release = fs::File::open(root.at(format!("releases/{version}"))).unwrap();
        release
            .set_modified(time + std::time::Duration::from_secs(version.parse().unwrap()))
            .unwrap();
    }
    let reply = root.run("release_prune", keep(3)).changed();
    assert_eq!(reply["removed"], json!(["1"]));
    assert_eq!(root.releases(), ["2", "3", "5"]);
}

#[test]
fn removal_is_left_to_a_process_that_the_play_does_not_wait_for() {
    let root = five();
    for n in 0..300 {
        root.write(format!("releases/1/many/{}/{n}", n % 10), "x");
    }
    let reply = root.run("release_prune", keep(2)).changed();
    assert_eq!(reply["removed_files"], Value::Null);
    // Out of sight at once, whoever removes it.
    for version in ["1", "2", "3"] {
        assert!(!root.has(format!("releases/{version}")));
    }
    assert_eq!(root.releases(), ["4", "5"]);
}

#[test]
fn with_wait_all_is_gone_at_the_end_and_counted() {
    let root = five();
    let reply = root.run("release_prune", json!({"keep": 4, "wait": "yes"})).changed();
    let names: Vec<_> = fs::read_dir(root.at("releases")).unwrap().collect();
    assert_eq!(names.len(), 4);
    // index.php, bin/run and REVISION; the release and bin.
    assert_eq!((&reply["removed_files"], &reply["removed_directories"]), (&json!(3), &json!(2)));
}

#[test]
fn no_link_is_followed() {
    let root = five();
    fs::create_dir(root.beside("outside")).unwrap();
    fs::write(root.beside("outside/file"), "precious").unwrap();
    root.write("shared/media/file", "precious");
    root.link("releases/1/outside", "../../../outside");
    root.link("releases/1/media", "../../shared/media");
    root.link("releases/1/absolute", root.beside("outside").to_str().unwrap());
    let _ = root.run("release_prune", json!({"versions": ["1"], "wait": true})).changed();
    assert!(!root.has("releases/1"));
    assert_eq!(root.read("shared/media/file"), "precious");
    assert_eq!(fs::read_to_string(root.beside("outside/file")).unwrap(), "precious");
}

#[test]
fn a_failure_keeps_what_is_live_and_what_is_kept() {
    use std::os::unix::fs::PermissionsExt;
    let root = five();
    let before = root.content();
    fs::set_permissions(root.at("releases"), fs::Permissions::from_mode(0o555)).unwrap();
    let reply = root.run_as(oxistrano_harness::NOBODY, "release_prune", keep(2));
    fs::set_permissions(root.at("releases"), fs::Permissions::from_mode(0o755)).unwrap();
    reply.failed("io").says(["Permission denied"]);
    before.assert_same(&root.content());
}

#[test]
fn no_mount_point_is_crossed_and_the_rest_is_reported() {
    let root = five();
    fs::create_dir(root.at("releases/1/mounted")).unwrap();
    let Some(_mount) = oxistrano_harness::tmpfs(&root.at("releases/1/mounted"), "1m") else {
        return not_checked("that a mount point in a release is not emptied");
    };
    root.write("releases/1/mounted/file", "precious");
    let reply = root.run("release_prune", json!({"versions": ["1"], "wait": true}));
    // Under whatever name the release has now.
    let found = fs::read_dir(root.at("releases")).unwrap().flatten().any(|entry| {
        fs::read_to_string(entry.path().join("mounted/file")).is_ok_and(|text| text == "precious")
    });
    assert!(found, "what was mounted has been emptied: {reply}");
    reply.failed("mount_point").says(["another file system is mounted there", "unmount"]);
    assert_eq!(root.live(), "5");
}

#[test]
fn a_release_that_cannot_be_moved_keeps_no_other() {
    if !is_root() {
        return not_checked("a release that cannot be moved: this needs root");
    }
    let root = five();
    let mounted = |what: &[&str]| {
        let status = Command::new(what[0]).args(&what[1..]).arg(root.at("releases/2")).status();
        assert!(status.expect("a program").success(), "{what:?}");
    };
    let place = root.at("releases/2");
    mounted(&["mount", "--bind", place.to_str().unwrap()]);
    for wait in [true, false] {
        let arguments = json!({"keep": 2, "wait": wait});
        let reply = root.run("release_prune", arguments).failed("io");
        reply.says(["releases/2", "Not removed: 2."]);
        assert_eq!(reply.msg().contains("Removed: 3, 1."), wait, "{reply}");
        assert_eq!(root.releases(), ["2", "4", "5"]);
    }
    mounted(&["umount"]);
    let _ = root.run("release_prune", keep(2)).changed();
    assert_eq!(root.releases(), ["4", "5"]);
}

#[test]
fn what_is_live_by_way_of_another_link_stays() {
    let root = Root::with(&["1", "2", "3"]);
    root.link("live", "releases/1");
    fs::remove_file(root.at("current")).unwrap();
    root.link("current", "live");
    let _ = root.run("release_prune", json!({"versions": ["1"]})).failed("release_in_use");
    let reply = root.run("release_prune", json!({"keep": 1, "keep_previous": false})).changed();
    assert_eq!(reply["removed"], json!(["3", "2"]));
    assert_eq!((root.live().as_str(), root.read("current/index.php").as_str()), ("1", "1"));
}

#[test]
fn what_could_not_be_deleted_is_said_with_path_and_cause_until_it_is_gone() {
    if !is_root() {
        return not_checked("files of others in a release");
    }
    let root = Root::fresh();
    fs::create_dir(root.path()).unwrap();
    std::os::unix::fs::chown(root.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let deploy = |version: &str| {
        let run = |module, arguments| root.run_as(NOBODY, module, arguments);
        let _ = run("release_setup", json!({"version": version, "staging": true})).changed();
        let _ = run("release_copy", json!({"version": version})).changed();
        let _ = run("release_activate", json!({"version": version})).changed();
        let reply = run("release_prune", keep(1));
        let _ = run("release_setup", json!({"version": version, "state": "finished"})).changed();
        reply
    };
    for version in ["1", "2", "3"] {
        deploy(version).has_no_warnings();
        // The web server's, in each release.
        root.write(format!("releases/{version}/cache/page"), "");
    }
    let started = std::time::Instant::now();
    let trash = |root: &Root| {
        root.run_as(NOBODY, "release_info", json!({})).value()["trash"].as_array().unwrap().clone()
    };
    while trash(&root).iter().any(|left| left["reason"].is_null()) {
        assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", trash(&root));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let left = trash(&root);
    assert!(!left.is_empty());
    let path = left[0]["path"].as_str().unwrap();
    let named = format!("{path}/cache/page': Permission denied");
    assert!(left[0]["reason"].as_str().unwrap().contains(&named), "{left:?}");
    for (module, arguments) in [
        ("release_info", json!({})),
        ("release_prune", keep(1)),
        ("release_rollback", json!({"_ansible_check_mode": true})),
        ("release_setup", json!({"version": "5"})),
    ] {
        let reply = root.run_as(NOBODY, module, arguments);
        reply.warns(&named);
        reply.warns(&format!("Delete '{path}' as root"));
    }
    let unlock = || root.run_as(NOBODY, "release_setup", json!({"state": "unlocked"})).changed();
    let _ = unlock();
    // Somebody does as he was told: then the note is of no use any more.
    let notes = || {
        let names = fs::read_dir(root.at("releases")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(".oxistrano-stays-")).count()
    };
    let before = notes();
    fs::remove_dir_all(path).unwrap();
    let _ = root.run_as(NOBODY, "release_setup", json!({"version": "5"})).changed();
    assert_eq!(notes(), before - 1);
    let _ = unlock();
    // Root can, and then nothing is said any more.
    let _ = root.run("release_setup", json!({"version": "6"})).changed();
    root.settle();
    root.run_as(NOBODY, "release_info", json!({})).has_no_warnings();
    let _ = root.run("release_setup", json!({"version": "6", "state": "failed"})).changed();
    let _ = root.run("release_setup", json!({"version": "7"})).changed();
    assert_eq!(notes(), 0);
}
