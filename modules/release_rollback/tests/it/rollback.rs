//! `release_rollback`: where it goes, and what is remembered.

use std::fs;

use oxistrano_harness::{Manifest, Root, Value, app, json};

fn back() -> Value {
    json!({"reason": "checkout answers 500"})
}

fn three() -> Root {
    Root::with(&["1", "2", "3"])
}

/// A release whose deploy died before the switch.
fn broken(root: &Root, version: &str) {
    root.begin(version, &app(version), &json!({}));
    let _ = root.run("release_setup", json!({"state": "unlocked"})).changed();
    assert_eq!(root.state(version), "broken");
}

#[test]
fn check_mode_changes_nothing() {
    let root = Root::fresh();
    let _ = root.check("release_rollback", back()).failed("no_deploy_root");
    let root = three();
    let reply = root.check("release_rollback", back()).changed();
    reply.says(["would go back to 2"]);
    assert_eq!((&reply["from"], &reply["to"]), (&json!("3"), &json!("2")));
    let after =
        "link to ./releases/2\ncompared with 3, the live release: 0 added, 1 changed, 0 removed";
    assert!(reply["diff"]["after"].as_str().unwrap().starts_with(after), "{reply}");
    assert_eq!((&reply["compared_with"], &reply["changes"]["changed"]), (&json!("3"), &json!(1)));
    assert_eq!((&reply["from_revision"], &reply["to_revision"]), (&json!("3"), &json!("2")));
    let chosen = root.check("release_rollback", json!({"state": "chosen"})).changed();
    assert_eq!(chosen["diff"]["after"], "lock: rollback to 2\n");
    let _ = root.check("release_rollback", json!({"version": "7"})).failed("cannot_roll_back");
}

#[test]
fn it_goes_to_the_newest_complete_release_before_the_live_one() {
    let root = three();
    let before = root.content();
    let reply = root.run("release_rollback", back()).changed();
    reply.says(["2 is live now"]);
    assert_eq!((&reply["from"], &reply["to"]), (&json!("3"), &json!("2")));
    assert_eq!(reply["release_path"], root.at("releases/2").to_str().unwrap());
    assert_eq!(reply["releases"].as_array().unwrap().len(), 3);
    assert_eq!(
        (&reply["matched"], reply["files"][2]["path"].as_str()),
        (&json!(3), root.at("releases/1").to_str())
    );
    assert_eq!(root.target("current"), "./releases/2");
    assert_eq!([root.state("3"), root.state("2")], ["rolled_back", "active"]);
    assert_eq!(root.lock(), Value::Null);
    before.without("current").assert_same(&root.content().without("current"));
}

#[test]
fn the_reason_is_kept_with_the_release_that_was_left() {
    let root = three();
    let _ = root.run("release_rollback", back()).changed();
    let info = root.run("release_info", json!({})).unchanged();
    let record = &info["history"][0];
    assert_eq!(
        (&record["version"], &record["reason"]),
        (&json!("3"), &json!("checkout answers 500"))
    );
    assert!(record["rolled_back"].as_str().unwrap().ends_with('Z'), "{info}");
}

#[test]
fn the_next_rollback_goes_further_back_and_not_to_the_bad_one() {
    // roots/trellis#1148.
    let root = three();
    let _ = root.run("release_rollback", back()).changed();
    let reply = root.run("release_rollback", back()).changed();
    assert_eq!((&reply["from"], &reply["to"]), (&json!("2"), &json!("1")));
    let before = root.content();
    let reply = root.run("release_rollback", back()).failed("cannot_roll_back");
    reply.says(["there is no earlier complete release", "Nothing was changed; 1 is live."]);
    before.assert_same(&root.content());
}

#[test]
fn after_a_rollback_and_a_good_deploy_it_passes_the_bad_one_over() {
    let root = three();
    let _ = root.run("release_rollback", back()).changed();
    root.deploy("4");
    let reply = root.run("release_rollback", back()).changed();
    assert_eq!((&reply["from"], &reply["to"]), (&json!("4"), &json!("2")));
}

#[test]
fn broken_and_unrecognised_releases_are_passed_over() {
    // ansistrano/deploy#209.
    let root = Root::with(&["1", "2"]);
    broken(&root, "3");
    root.write("releases/by-hand/index.php", "");
    // Not by setup, which would remove the broken one.
    let _ = root.run("release_rollback", json!({"version": "2"}));
    let reply = root.run("release_rollback", back()).changed();
    assert_eq!(reply["to"], "1");
}

#[test]
fn a_failed_deploy_before_the_switch_is_not_one_release_too_far() {
    // capistrano/capistrano#514: 2 is live, the deploy of 3 has failed.
    let root = Root::with(&["1", "2"]);
    broken(&root, "3");
    assert_eq!(root.live(), "2");
    let reply = root.run("release_rollback", back()).changed();
    assert_eq!((&reply["from"], &reply["to"]), (&json!("2"), &json!("1")));
}

#[test]
fn a_named_release_is_gone_to_also_one_that_was_left_before() {
    let root = three();
    let _ = root.run("release_rollback", json!({"version": "1"})).changed();
    assert_eq!(root.live(), "1");
    let reply = root.run("release_rollback", json!({"version": "3"})).changed();
    assert_eq!((&reply["from"], &reply["to"]), (&json!("1"), &json!("3")));
    assert_eq!([root.state("3"), root.state("1")], ["active", "rolled_back"]);
}

#[test]
fn to_the_live_release_changes_nothing() {
    let root = three();
    let before = root.content();
    let _ = root.run("release_rollback", json!({"version": "3"})).unchanged();
    before.assert_same(&root.content());
    assert_eq!(root.state("3"), "active");
    assert_eq!(root.lock(), Value::Null);
}

#[test]
fn an_unknown_name_is_answered_with_those_that_there_are() {
    let root = three();
    broken(&root, "4");
    let before = root.content();
    let reply = root.run("release_rollback", json!({"version": "7"})).failed("cannot_roll_back");
    reply.says([
        "release 7 does not exist",
        "these exist: 2, 1",
        "Nothing was changed; 3 is live.",
    ]);
    for name in ["../3", "a/b", "..", "/etc"] {
        let _ = root.run("release_rollback", json!({"version": name})).failed("cannot_roll_back");
    }
    before.assert_same(&root.content());
    assert_eq!(root.lock(), Value::Null);
}

#[test]
fn a_broken_release_is_refused_by_name() {
    let root = three();
    broken(&root, "4");
    let before = root.content();
    let reply = root.run("release_rollback", json!({"version": "4"})).failed("cannot_roll_back");
    reply.says(["release 4 is broken", "never reached the switch", "3 is live"]);
    before.assert_same(&root.content());
}

/// A deploy root as somebody, or a deployer that writes no `REVISION`, has made it.
fn hand_made(releases: &[&str]) -> Root {
    let root = Root::fresh();
    for version in releases {
        root.write(format!("releases/{version}/index.php"), version);
        root.write(format!("releases/{version}/keep"), "");
    }
    root.link("current", &format!("releases/{}", releases.last().unwrap()));
    root
}

#[test]
fn it_goes_back_to_what_was_live_before_the_first_deploy() {
    let root = hand_made(&["7", "8"]);
    let link = root.at("current");
    let touched =
        std::process::Command::new("touch").args(["-h", "-d", "@1000000000"]).arg(link).status();
    assert!(touched.unwrap().success());
    root.deploy("20260101000000Z");
    // Live since somebody has led current to it.
    let reply = root.run("release_info", json!({}));
    let releases = reply.value()["releases"].as_array().unwrap();
    let eighth = releases.iter().find(|release| release["version"] == "8").unwrap();
    assert_eq!(eighth["activated"], "2001-09-09T01:46:40Z");
    // What is written into it afterwards does not make it younger.
    root.write("releases/8/error_log", "");
    assert_eq!([root.state("7"), root.state("8")], ["unrecognised", "complete"]);
    let reply = root.run("release_rollback", back()).changed();
    assert_eq!((&reply["from"], &reply["to"]), (&json!("20260101000000Z"), &json!("8")));
    assert_eq!(root.read("current/index.php"), "8");
}

#[test]
fn what_somebody_has_led_current_to_between_two_deploys_was_live_as_well() {
    let root = Root::with(&["1", "2"]);
    root.write("releases/hotfix/index.php", "hotfix");
    fs::remove_file(root.at("current")).unwrap();
    root.link("current", "releases/hotfix");
    root.deploy("3");
    let reply = root.run("release_rollback", json!({"version": "hotfix"})).changed();
    assert_eq!(reply["to"], "hotfix");
    // Somebody has put back what had been removed.
    let _ = root.run("release_rollback", json!({"version": "3"})).changed();
    let _ = root.run("release_prune", json!({"keep": 1})).changed();
    root.settle();
    assert!(!root.has("releases/1"));
    root.write("releases/1/index.php", "1");
    fs::remove_file(root.at("current")).unwrap();
    root.link("current", "releases/1");
    root.deploy("4");
    assert_eq!(root.state("1"), "complete");
}

#[test]
fn a_release_that_was_rolled_back_from_is_not_judged_anew_because_it_is_live() {
    let root = three();
    let _ = root.run("release_rollback", back()).changed();
    // As a rollback leaves it that was killed between its note and the switch.
    fs::remove_file(root.at("current")).unwrap();
    root.link("current", "./releases/3");
    root.deploy("4");
    assert_eq!(root.state("3"), "rolled_back");
    // The same of one that no deploy has made.
    let root = hand_made(&["7", "8"]);
    root.write("releases/7/REVISION", "");
    let _ = root.run("release_rollback", json!({"version": "7"})).changed();
    fs::remove_file(root.at("current")).unwrap();
    root.link("current", "./releases/8");
    root.deploy("9");
    assert_eq!(root.state("8"), "rolled_back");
}

#[test]
fn a_release_of_which_nothing_is_known_is_refused_with_what_is_true_of_it() {
    let root = hand_made(&["7", "8"]);
    root.deploy("9");
    let before = root.content();
    let reply = root.run("release_rollback", json!({"version": "7"})).failed("cannot_roll_back");
    let mark = root.at("releases/7/REVISION");
    reply.says([
        "release 7 is unrecognised",
        "no file REVISION",
        mark.to_str().unwrap(),
        "9 is live",
    ]);
    assert!(!reply.msg().contains("never reached"), "{reply}");
    before.assert_same(&root.content());
    root.write("releases/7/REVISION", "");
    let _ = root.run("release_rollback", json!({"version": "7"})).changed();
}

#[test]
fn an_empty_name_is_none() {
    let root = three();
    let reply = root.run("release_rollback", json!({"version": ""})).changed();
    assert_eq!(reply["to"], "2");
}

#[test]
fn with_one_release_or_none_there_is_nothing_to_go_to() {
    let root = Root::with(&["1"]);
    let before = root.content();
    let reply = root.run("release_rollback", back()).failed("cannot_roll_back");
    reply.says(["1 is live"]);
    before.assert_same(&root.content());
    let root = Root::new();
    root.run("release_rollback", back()).failed("cannot_roll_back").says(["nothing is live"]);
    assert_eq!(root.lock(), Value::Null);
}

#[test]
fn when_only_bad_ones_are_left_they_are_offered_by_name() {
    let root = Root::with(&["1", "2"]);
    let _ = root.run("release_rollback", json!({"version": "1"})).changed();
    let reply = root.run("release_rollback", back()).failed("cannot_roll_back");
    reply.says(["name the release to go back to", "ansistrano_rollback_to_release", ": 2"]);
}

#[test]
fn a_copy_is_led_back_as_a_copy_with_its_shared_links() {
    // ansistrano/rollback#18.
    let root = Root::new();
    let options =
        json!({"current_via": "rsync", "shared_paths": ["var"], "shared_files": [".env"]});
    root.write("shared/var/log", "precious log");
    root.write("shared/.env", "precious settings");
    for version in ["1", "2", "3"] {
        root.deploy_with(version, &app(version), options.clone());
    }
    let shared = Manifest::exact(&root.at("shared"));
    let arguments = json!({"shared_paths": ["var"], "shared_files": [".env"]});
    let reply = root.run("release_rollback", arguments).changed();
    assert_eq!((&reply["from"], &reply["to"]), (&json!("3"), &json!("2")));
    assert!(root.at("current").is_dir() && !root.at("current").is_symlink());
    assert_eq!([root.read("current/index.php"), root.read("current/REVISION")], ["2", "2"]);
    assert_eq!(
        [root.target("current/var"), root.target("current/.env")],
        ["../shared/var", "../shared/.env"]
    );
    shared.assert_same(&Manifest::exact(&root.at("shared")));
    assert_eq!(root.live(), "2");
    let arguments = json!({"current_via": "symlink"});
    let _ = root.run("release_rollback", arguments).changed();
    assert_eq!(root.target("current"), "./releases/1");
}

#[test]
fn chosen_takes_the_lock_and_active_goes_where_it_said() {
    let root = three();
    let before = root.content();
    let reply = root.run("release_rollback", json!({"state": "chosen"})).changed();
    assert_eq!((&reply["to"], &reply["previous"]), (&json!("2"), &json!("2")));
    reply.says(["going back to 2"]);
    before.assert_same(&root.content());
    assert_eq!((&root.lock()["kind"], &root.lock()["version"]), (&json!("rollback"), &json!("2")));
    let other = json!({"deployer": {"host": "ci", "user": "bob", "pid": 1}, "version": "4"});
    root.run("release_setup", other).failed("locked").says(["rollback to 2"]);
    let _ = root.run("release_rollback", json!({"version": "2", "reason": "bad"})).changed();
    assert_eq!([root.live(), root.state("3")], ["2", "rolled_back"]);
    assert_eq!(root.lock()["kind"], "rollback");
    let _ = root.run("release_setup", json!({"state": "finished"})).changed();
    assert_eq!(root.lock(), Value::Null);
    let info = root.run("release_info", json!({})).unchanged();
    assert_eq!(
        (&info["history"][0]["version"], &info["history"][0]["reason"]),
        (&json!("3"), &json!("bad"))
    );
}

#[test]
fn in_two_steps_it_goes_to_a_release_of_the_upstream_role() {
    let root = Root::new();
    root.write("releases/1/REVISION", "1");
    root.deploy("2");
    let reply = root.run("release_rollback", json!({"state": "chosen"})).changed();
    assert_eq!(reply["to"], "1");
    let _ = root.run("release_rollback", json!({"version": "1"})).changed();
    assert_eq!(root.live(), "1");
}

#[test]
fn a_rollback_given_up_after_the_choice_changes_nothing() {
    let root = three();
    let before = root.content();
    let _ = root.run("release_rollback", json!({"state": "chosen"})).changed();
    let reply = root.run("release_setup", json!({"state": "failed"})).changed();
    reply.says(["Release 3 is live"]);
    before.assert_same(&root.content());
    assert_eq!(root.state("2"), "complete");
    assert_eq!(root.lock(), Value::Null);
}

#[test]
fn a_failed_switch_keeps_the_live_release_and_its_good_name() {
    let root = three();
    fs::remove_file(root.at("current")).unwrap();
    root.write("current/index.php", "somebody's data");
    let before = root.content();
    let _ = root.run("release_rollback", json!({"version": "1"})).failed("blocked_path");
    before.assert_same(&root.content());
    assert_eq!(root.lock(), Value::Null);
    assert_eq!(root.state("2"), "complete");
}

#[test]
fn a_lock_of_somebody_who_died_can_be_taken_over() {
    let root = three();
    let by = json!({"host": "ci", "user": "alice", "pid": 7});
    let _ = root.run("release_setup", json!({"version": "4", "deployer": by})).changed();
    let _ = root.run("release_rollback", back()).failed("locked");
    let mut arguments = back();
    arguments["take_over"] = root.lock()["since"].clone();
    let _ = root.run("release_rollback", arguments).changed();
    assert_eq!(root.live(), "2");
    assert_eq!(root.lock(), Value::Null);
}
