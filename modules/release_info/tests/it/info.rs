//! `release_info`: what is deployed.

use std::fs;

use oxistrano_harness::{Manifest, Reply, Root, Value, app, is_root, json};

fn ask(root: &Root) -> Reply {
    let before = Manifest::exact(&root.beside(""));
    let reply = root.run("release_info", json!({})).unchanged();
    before.assert_same(&Manifest::exact(&root.beside("")));
    let checked = root.check("release_info", json!({})).unchanged();
    let keys = ["active", "previous", "releases", "history", "lock", "current_via"];
    for key in keys {
        assert_eq!(reply[key], checked[key]);
    }
    reply
}

#[test]
fn where_nothing_is_deployed_it_says_so_and_makes_nothing() {
    let root = Root::fresh();
    let reply = ask(&root);
    reply.says(["nothing is deployed to"]);
    assert_eq!((&reply["active"], &reply["previous"]), (&Value::Null, &Value::Null));
    assert_eq!((&reply["releases"], &reply["history"]), (&json!([]), &json!([])));
    assert_eq!(reply["releases_path"], root.at("releases").to_str().unwrap());
    fs::create_dir(root.path()).unwrap();
    ask(&root).says(["nothing is live"]);
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
}

#[test]
fn every_state_has_its_name() {
    let root = Root::with(&["1", "2", "3", "4"]);
    let _ = root.run("release_rollback", json!({})).changed();
    root.unpack("broken", &app("x"));
    root.write("releases/by-hand/file", "");
    root.write("releases/upstream/REVISION", "abc");
    // Older than all others: a release without a record is put among them by its time, in seconds.
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    fs::File::open(root.at("releases/upstream")).unwrap().set_modified(long_ago).unwrap();
    let by = json!({"host": "ci", "user": "alice", "pid": 7});
    // Without a staging directory: setup would remove the broken one.
    root.write(
        ".oxistrano/lock.json",
        &json!({"kind": "deploy", "version": "5",
        "since": "2026-01-01T00:00:00Z", "user": "x", "deployer": by})
        .to_string(),
    );
    root.write("releases/5/file", "");
    for (version, state) in [
        ("1", "complete"),
        ("2", "complete"),
        ("3", "active"),
        ("4", "rolled_back"),
        ("5", "in_progress"),
        ("broken", "broken"),
        ("by-hand", "unrecognised"),
        ("upstream", "complete"),
    ] {
        assert_eq!(root.state(version), state, "{version}");
    }
    let reply = ask(&root);
    assert_eq!((&reply["active"], &reply["previous"]), (&json!("3"), &json!("2")));
    assert_eq!(
        (&reply["lock"]["version"], &reply["lock"]["deployer"]["user"]),
        (&json!("5"), &json!("alice"))
    );
    assert_eq!(reply["current_via"], "symlink");
}

#[test]
fn the_releases_are_sorted_by_the_time_of_their_deploy_not_by_name() {
    let root = Root::with(&["b", "c", "a"]);
    let reply = ask(&root);
    let names: Vec<_> =
        reply["releases"].as_array().unwrap().iter().map(|r| &r["version"]).collect();
    assert_eq!(names, ["a", "c", "b"]);
    assert_eq!(reply["previous"], "c");
}

#[test]
fn the_history_says_who_when_what_and_how_it_ended() {
    let root = Root::with(&["1"]);
    let by = json!({"host": "ci", "user": "alice", "pid": 7});
    let _ = root.run("release_setup", json!({"version": "2", "deployer": by})).changed();
    let failed = json!({"version": "2", "deployer": by, "state": "failed", "reason": "red"});
    let _ = root.run("release_setup", failed).changed();
    let reply = ask(&root);
    let (failed, good) = (&reply["history"][0], &reply["history"][1]);
    assert_eq!((&failed["version"], &failed["by"]), (&json!("2"), &json!("alice@ci")));
    assert_eq!((&failed["outcome"], &failed["reason"]), (&json!("failed"), &json!("red")));
    assert_eq!(failed["activated"], Value::Null);
    assert_eq!((&good["version"], &good["outcome"]), (&json!("1"), &json!("success")));
    assert_eq!(good["revision"], "1");
    if is_root() {
        assert_eq!(good["user"], "root");
    }
    for key in ["started", "activated", "ended"] {
        let time = good[key].as_str().unwrap();
        assert!(time.len() == 20 && time.starts_with("20") && time.ends_with('Z'), "{time}");
    }
}

#[test]
fn the_history_is_as_long_as_asked_for() {
    let root = Root::with(&["1", "2", "3"]);
    let length = |count: u32| {
        let reply = root.run("release_info", json!({"history": count})).unchanged();
        reply["history"].as_array().unwrap().len()
    };
    assert_eq!([length(1), length(2), length(20), length(0)], [1, 2, 3, 3]);
}

#[test]
fn a_copy_as_current_is_known() {
    let root = Root::new();
    for version in ["1", "2"] {
        root.deploy_with(version, &app(version), json!({"current_via": "rsync"}));
    }
    let reply = ask(&root);
    assert_eq!((&reply["active"], &reply["previous"]), (&json!("2"), &json!("1")));
    assert_eq!(reply["current_via"], "rsync");
}

#[test]
fn a_current_that_leads_elsewhere_or_nowhere_is_no_release() {
    let root = Root::with(&["1"]);
    for target in ["/etc", "./releases/7", "/no/such/place", "current"] {
        fs::remove_file(root.at("current")).unwrap();
        root.link("current", target);
        ask(&root).says(["nothing is live"]);
    }
}

#[test]
fn a_lock_that_makes_no_sense_is_shown_as_such() {
    let root = Root::with(&["1"]);
    root.write(".oxistrano/lock.json", "{");
    let reply = ask(&root);
    assert!(reply["lock"]["unreadable"].as_str().unwrap().contains("the lock is invalid"));
    assert_eq!(reply["active"], "1");
}

#[test]
fn a_root_of_the_upstream_role_is_understood() {
    let root = Root::fresh();
    for version in ["20260101000000Z", "20260201000000Z"] {
        root.write(format!("releases/{version}/REVISION"), version);
    }
    root.link("current", "./releases/20260201000000Z");
    let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    fs::File::open(root.at("releases/20260101000000Z")).unwrap().set_modified(time).unwrap();
    let reply = ask(&root);
    assert_eq!(
        (&reply["active"], &reply["previous"]),
        (&json!("20260201000000Z"), &json!("20260101000000Z"))
    );
    assert!(!root.has(".oxistrano"));
}
