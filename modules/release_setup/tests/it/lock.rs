//! `release_setup`: who may deploy, and what an interrupted or failed deploy leaves.

use std::fs;

use oxistrano_harness::{Root, Value, app, json};

fn deployer(user: &str, pid: u64) -> Value {
    json!({"host": "ci", "user": user, "pid": pid, "started": 5, "boot_id": "b",
           "pid_namespace": "pid:[1]"})
}

fn setup(version: &str, state: &str, by: &Value) -> Value {
    json!({"version": version, "state": state, "deployer": by})
}

/// A root in which alice deploys 2 and 1 is live.
fn alice_deploys() -> (Root, Value, Value) {
    let root = Root::with(&["1"]);
    let (alice, bob) = (deployer("alice", 4711), deployer("bob", 815));
    let _ = root.run("release_setup", setup("2", "started", &alice)).changed();
    (root, alice, bob)
}

#[test]
fn the_second_deployer_is_told_who_deploys_what_since_when_from_where_and_what_to_do() {
    let (root, alice, bob) = alice_deploys();
    let before = root.manifest();
    let since = root.lock()["since"].as_str().unwrap().to_owned();
    let reply = root.run("release_setup", setup("3", "started", &bob)).failed("locked");
    reply.says([root.path().to_str().unwrap(), "is locked", "deploy of 2", "alice@ci"]);
    reply.says(["4711", since.as_str(), "oxistrano_unlock=true", "state=unlocked"]);
    reply.says(["Nothing was changed."]);
    assert_eq!(reply["lock"]["version"], "2");
    assert_eq!(reply["lock"]["deployer"], alice);
    before.assert_same(&root.manifest());
}

#[test]
fn every_module_that_changes_something_is_refused_while_somebody_else_deploys() {
    let (root, _, bob) = alice_deploys();
    let src = root.archive("app.tar", &oxistrano_harness::tar(&app("1")));
    let before = root.content();
    for (module, arguments) in [
        ("release_setup", json!({"state": "finished"})),
        ("release_unpack", json!({"version": "3", "src": src, "remote_src": true})),
        ("release_copy", json!({"version": "3", "src": root.at("releases/1").to_str()})),
        ("release_link", json!({"version": "1", "shared_paths": ["var"]})),
        ("release_activate", json!({"version": "1", "current_via": "rsync"})),
        ("release_prune", json!({"keep": 1})),
        ("release_rollback", json!({"version": "1"})),
    ] {
        for check in [false, true] {
            let mut arguments = arguments.clone();
            arguments["deployer"] = bob.clone();
            arguments["_ansible_check_mode"] = check.into();
            root.run(module, arguments).failed("locked").says(["alice@ci"]);
        }
    }
    before.assert_same(&root.content());
    let info = root.run("release_info", json!({})).unchanged();
    assert_eq!(info["lock"]["version"], "2");
}

#[test]
fn the_same_deployer_comes_in_again() {
    let (root, alice, _) = alice_deploys();
    let reply = root.run("release_setup", setup("2", "started", &alice)).changed();
    reply.has_no_warnings();
    assert_eq!(root.lock()["deployer"], alice);
}

#[test]
fn a_lock_whose_holder_has_died_is_taken_over_and_that_is_said() {
    let (root, _, bob) = alice_deploys();
    let mut arguments = setup("3", "started", &bob);
    arguments["take_over"] = "1999-01-01T00:00:00Z".into();
    let _ = root.run("release_setup", arguments.clone()).failed("locked");
    arguments["take_over"] = root.lock()["since"].clone();
    let _ = root.check("release_setup", arguments.clone()).changed();
    let reply = root.run("release_setup", arguments).changed();
    reply.warns("took over the lock of a deploy that died");
    reply.warns("alice@ci");
    assert_eq!((&root.lock()["deployer"], &root.lock()["version"]), (&bob, &json!("3")));
    let info = root.run("release_info", json!({})).unchanged();
    let died = info["history"].as_array().unwrap().iter().find(|r| r["version"] == "2").unwrap();
    assert_eq!(
        (&died["outcome"], &died["reason"]),
        (&json!("failed"), &json!("its controlling process died"))
    );
}

#[test]
fn a_deploy_whose_holder_has_ended_is_finished_by_who_knows_since_when_it_was_held() {
    let (root, _, bob) = alice_deploys();
    let mut arguments = setup("2", "finished", &bob);
    let _ = root.run("release_setup", arguments.clone()).failed("locked");
    arguments["take_over"] = "1999-01-01T00:00:00Z".into();
    let _ = root.run("release_setup", arguments.clone()).failed("locked");
    arguments["take_over"] = root.lock()["since"].clone();
    let _ = root.run("release_setup", arguments.clone()).changed();
    assert_eq!(root.lock(), Value::Null);
    let _ = root.run("release_setup", arguments).unchanged();
}

#[test]
fn unlocked_frees_the_lock_of_anybody_once() {
    let (root, _, bob) = alice_deploys();
    let arguments = json!({"state": "unlocked", "deployer": bob});
    let reply = root.run("release_setup", arguments.clone()).changed();
    reply.says(["freed the lock", "alice@ci", "deploy of 2"]);
    assert_eq!(reply["lock"]["version"], "2");
    root.run("release_setup", arguments).unchanged().says(["the lock is free"]);
    let _ = root.run("release_setup", setup("3", "started", &bob)).changed();
}

#[test]
fn a_lock_that_makes_no_sense_is_a_lock_and_can_be_freed() {
    for text in ["", "{", "null", "{\"kind\": \"party\"}", "\u{0}\u{1}"] {
        let root = Root::with(&["1"]);
        root.write(".oxistrano/lock.json", text);
        let reply = root.run("release_setup", json!({"version": "2"})).failed("locked");
        reply.says(["the lock is invalid", "oxistrano_unlock=true", "Nothing was changed."]);
        let _ = root.run("release_activate", json!({"version": "1"})).failed("locked");
        let _ = root.run("release_info", json!({})).unchanged();
        let _ = root.run("release_setup", json!({"state": "unlocked"})).changed();
        let _ = root.run("release_setup", json!({"version": "2"})).changed();
    }
}

#[test]
fn who_knows_that_nobody_deploys_frees_the_lock_on_the_way() {
    let (root, alice, bob) = alice_deploys();
    for (module, mut arguments) in [
        ("release_setup", setup("3", "started", &bob)),
        ("release_rollback", json!({"version": "1", "state": "chosen", "deployer": bob})),
    ] {
        let _ = root.run("release_setup", json!({"state": "unlocked", "deployer": alice}));
        let _ = root.run("release_setup", setup("2", "started", &alice)).changed();
        arguments["unlock"] = false.into();
        let _ = root.run(module, arguments.clone()).failed("locked");
        arguments["unlock"] = true.into();
        let _ = root.check(module, arguments.clone()).changed();
        assert_eq!(root.lock()["deployer"], alice, "check mode leaves it");
        let reply = root.run(module, arguments).changed();
        reply.warns("freed the lock: deploy of 2 by alice@ci");
        assert_eq!(root.lock()["deployer"], bob);
    }
}

#[test]
fn the_history_keeps_the_reason_without_its_secrets() {
    let (root, alice, _) = alice_deploys();
    let mut arguments = setup("2", "failed", &alice);
    arguments["reason"] = "git clone https://bob:hunter22pw@git.example.com/shop failed".into();
    let _ = root.run("release_setup", arguments).changed();
    let history = fs::read_to_string(root.at(".oxistrano/history.jsonl")).unwrap();
    assert!(history.contains("git.example.com/shop failed"), "{history}");
    assert!(!history.contains("hunter22pw"), "{history}");
}

#[test]
fn a_history_with_garbage_costs_only_the_garbage() {
    let root = Root::with(&["1", "2"]);
    let path = root.at(".oxistrano/history.jsonl");
    let mut text = b"{\"at\":1,\"version\"\n\xff\xfe\n[]\n\n".to_vec();
    text.extend(fs::read(&path).unwrap());
    text.extend(b"{\"at\": 99, \"version\": \"9\", \"event\": \"invented\"}\n{\"at\":7,\"ver");
    fs::write(&path, text).unwrap();
    root.deploy("3");
    assert_eq!([root.live(), root.state("2"), root.state("1")], ["3", "complete", "complete"]);
    let info = root.run("release_info", json!({})).unchanged();
    assert_eq!(info["history"].as_array().unwrap().len(), 3);
}

#[test]
fn a_state_directory_that_is_a_file_or_a_link_is_refused() {
    for link in [false, true] {
        let root = Root::with(&["1"]);
        fs::remove_dir_all(root.at(".oxistrano")).unwrap();
        fs::create_dir(root.beside("outside")).unwrap();
        if link {
            root.link(".oxistrano", "../outside");
        } else {
            root.write(".oxistrano", "a file");
        }
        let reply = root.run("release_setup", json!({"version": "2"}));
        assert_eq!(reply["failed"], true, "{reply}");
        reply.says([".oxistrano"]);
        assert_eq!(fs::read_dir(root.beside("outside")).unwrap().count(), 0);
    }
}

#[test]
fn finished_frees_the_lock_and_a_second_time_changes_nothing() {
    let root = Root::fresh();
    let _ = root.run("release_setup", json!({"state": "finished"})).unchanged();
    root.begin("1", &app("1"), &json!({}));
    let _ = root.run("release_activate", json!({"version": "1"})).changed();
    assert_eq!(root.lock()["version"], "1");
    let _ = root.run("release_setup", json!({"version": "1", "state": "finished"})).changed();
    assert_eq!(root.lock(), Value::Null);
    let again = json!({"version": "1", "state": "finished"});
    root.run("release_setup", again).unchanged().says(["no deploy is in progress"]);
}

#[test]
fn failed_before_the_switch_removes_the_unfinished_release_and_keeps_the_live_one() {
    let root = Root::with(&["1"]);
    let before = root.content();
    root.begin("2", &app("2"), &json!({}));
    let arguments = json!({"version": "2", "state": "failed", "reason": "tests are red"});
    let reply = root.run("release_setup", arguments).changed();
    reply.says([
        "failed before the switch",
        "Release 1 is live",
        root.at("current").to_str().unwrap(),
    ]);
    assert_eq!((&reply["removed"], &reply["live"]), (&json!("2"), &json!("1")));
    assert_eq!(reply["switched"], false);
    before.assert_same(&root.content());
    assert_eq!(root.lock(), Value::Null);
    let info = root.run("release_info", json!({})).unchanged();
    let record = &info["history"][0];
    assert_eq!(
        (&record["outcome"], &record["reason"]),
        (&json!("failed"), &json!("tests are red"))
    );
    let again = json!({"version": "2", "state": "failed"});
    root.run("release_setup", again).unchanged().says(["Release 1 is live"]);
}

#[test]
fn failed_in_the_first_deploy_says_that_nothing_is_live() {
    let root = Root::fresh();
    let arguments = json!({"version": "1", "state": "failed"});
    root.run("release_setup", arguments.clone()).unchanged().says(["Nothing was deployed"]);
    root.begin("1", &app("1"), &json!({}));
    root.run("release_setup", arguments).changed().says(["No release is live"]);
    assert_eq!(root.releases(), [""; 0]);
}

#[test]
fn failed_after_the_switch_keeps_the_release_and_says_how_to_go_back() {
    let root = Root::with(&["1"]);
    root.begin("2", &app("2"), &json!({}));
    let _ = root.run("release_activate", json!({"version": "2"})).changed();
    let reply = root.run("release_setup", json!({"version": "2", "state": "failed"})).changed();
    reply.says([
        "failed after the switch",
        "Release 2 is live",
        "The previous release, 1,",
        "rollback",
    ]);
    assert_eq!((&reply["switched"], &reply["removed"]), (&json!(true), &Value::Null));
    assert_eq!(root.releases(), ["1", "2"]);
    assert_eq!(root.read("current/index.php"), "2");
}

#[test]
fn failed_of_somebody_else_touches_nothing_of_the_one_who_deploys() {
    let (root, _, bob) = alice_deploys();
    root.write("releases/.oxistrano-staging/file", "");
    let before = root.manifest();
    let reply = root.run("release_setup", setup("3", "failed", &bob)).unchanged();
    reply.says(["Release 1 is live"]);
    before.assert_same(&root.manifest());
}

#[test]
fn a_failed_redeploy_of_the_live_version_removes_nothing_that_is_live() {
    let root = Root::with(&["1"]);
    let _ = root.run("release_setup", json!({"version": "1"})).changed();
    let reply = root.run("release_setup", json!({"version": "1", "state": "failed"})).changed();
    assert_eq!(reply["removed"], Value::Null);
    assert_eq!([root.live(), root.read("current/index.php")], ["1", "1"]);
}

#[test]
fn a_failed_redeploy_of_an_earlier_version_does_not_remove_what_it_has_not_made() {
    let root = Root::with(&["1", "2"]);
    let before = root.content();
    let _ = root.run("release_setup", json!({"version": "1"})).changed();
    let _ = root.run("release_setup", json!({"version": "1", "state": "failed"})).changed();
    before.assert_same(&root.content());
    assert_eq!(root.state("1"), "complete");
}

#[test]
fn the_next_deploy_removes_what_an_interrupted_one_has_left() {
    let root = Root::with(&["1"]);
    root.begin("2", &app("2"), &json!({}));
    // Its controller dies, somebody frees the lock.
    let _ = root.run("release_setup", json!({"state": "unlocked"})).changed();
    root.write("releases/.oxistrano-staging/half/file", "");
    root.write("releases/by-hand/file", "");
    assert_eq!(root.state("2"), "broken");
    let reply = root.check("release_setup", json!({"version": "3"})).changed();
    assert!(reply["diff"]["before"].as_str().unwrap().contains("2: broken release"), "{reply}");
    // Trash whose remover has died; not earlier, because the check waits for what is in it.
    root.write("releases/.oxistrano-trash-0.1.1/half/file", "");
    let reply = root.run("release_setup", json!({"version": "3"})).changed();
    assert_eq!(reply["removed_broken"], json!(["2"]));
    assert_eq!(root.releases(), ["1", "by-hand"]);
    assert_eq!(root.live(), "1");
}

#[test]
fn a_deploy_that_is_tried_again_begins_anew() {
    let root = Root::with(&["1"]);
    let before = root.content();
    root.begin("2", &app("2"), &json!({}));
    let reply = root.run("release_setup", json!({"version": "2"})).changed();
    assert_eq!(reply["removed_broken"], json!(["2"]));
    before.assert_same(&root.content());
    root.unpack("2", &app("2"));
    assert_eq!([root.state("2"), root.live()], ["in_progress", "1"]);
}

#[test]
fn of_many_who_begin_at_once_one_deploys() {
    let root = Root::new();
    let running: Vec<_> = (0..6)
        .map(|n| {
            let by = deployer("crowd", n);
            root.start("release_setup", setup(&format!("v{n}"), "started", &by))
        })
        .collect();
    let replies: Vec<_> = running.into_iter().map(|running| running.wait()).collect();
    let winners: Vec<_> = replies.iter().filter(|reply| reply["failed"] != true).collect();
    assert_eq!(winners.len(), 1, "{replies:?}");
    assert_eq!(root.lock()["version"], winners[0]["version"]);
    for reply in replies.into_iter().filter(|reply| reply["failed"] == true) {
        let _ = reply.failed("locked");
    }
}
