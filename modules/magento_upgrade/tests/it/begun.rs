//! An upgrade in the background, and those that wait for it.

use std::fs;

use crate::closed::{UPGRADE, both, check_closed, closed, how, is_open};
use oxistrano_harness::{Reply, Shop, Value, json};

/// Begins one and returns its id.
fn begin(shop: &Shop) -> Value {
    let mut arguments = both();
    arguments["state"] = "begun".into();
    shop.run("magento_upgrade", arguments).changed()["id"].clone()
}

fn finish(shop: &Shop, id: &Value) -> Reply {
    let mut arguments = both();
    arguments["begun"] = id.clone();
    arguments["lower"] = true.into();
    shop.run("magento_upgrade", arguments)
}

#[test]
fn what_was_begun_goes_on_and_is_waited_for() {
    let shop = closed();
    let script =
        format!("echo begun > \"$here/begun\"; sleep 1; {UPGRADE} echo done > \"$here/done\"");
    shop.answer("setup:upgrade", &script);
    let id = begin(&shop);
    shop.await_left("begun");
    assert_eq!(shop.left("done"), "", "it did not wait");
    assert!(!is_open(&shop));
    let reply = finish(&shop, &id).changed();
    assert_eq!(shop.left("done"), "done\n");
    reply.says(["the database was upgraded ("]);
    assert_eq!(reply["lowered"], true);
    assert!(reply["seconds"].as_f64().unwrap() >= 1.0, "{reply}");
    assert!(reply["lines"].as_array().unwrap().contains(&json!("Nothing to import.")));
    assert!(is_open(&shop));
    assert_eq!(
        fs::read_dir(shop.root.at(".oxistrano")).unwrap().count(),
        3,
        "only the log, the lock and the release's name"
    );
    finish(&shop, &id).failed("no_such_upgrade").says(["does not exist"]);
}

#[test]
fn a_failure_of_what_was_begun_reads_as_any_other() {
    let shop = closed();
    shop.answer("setup:upgrade", "echo 'Unable to apply data patch'; exit 1");
    let direct = shop.run("magento_upgrade", how("upgrade")).failed("upgrade_failed");
    let id = begin(&shop);
    let reply = finish(&shop, &id).failed("upgrade_failed");
    assert_eq!(reply.msg(), direct.msg());
    check_closed(&shop, &reply);
}

#[test]
fn an_open_shop_is_refused_at_once() {
    let shop = closed();
    let _ = shop.run("magento_maintenance", json!({"state": "lowered"})).changed();
    let mut arguments = both();
    arguments["state"] = "begun".into();
    let _ = shop.run("magento_upgrade", arguments).failed("not_in_maintenance");
    assert!(shop.calls().is_empty());
}

#[test]
fn one_that_was_killed_is_a_failure_and_the_next_waits_for_nobody() {
    let shop = closed();
    shop.answer("setup:upgrade", "echo $PPID > \"$here/pid\"; sleep 30");
    let id = begin(&shop);
    let pid: i32 = shop.await_left("pid").trim().parse().unwrap();
    let killed = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(killed.unwrap().success());
    let reply = finish(&shop, &id).failed("upgrade_lost");
    reply.says(["ended without a result", "Maintenance stays on"]);
    shop.answer("setup:upgrade", UPGRADE);
    let _ = shop.run("magento_upgrade", how("upgrade")).changed();
    assert!(is_open(&shop));
}

#[test]
fn the_next_upgrade_waits_for_the_one_before() {
    let shop = closed();
    let script = format!("echo x >> \"$here/begun\"; sleep 1; {UPGRADE} echo x >> \"$here/done\"");
    shop.answer("setup:upgrade", &script);
    let _ = begin(&shop);
    shop.await_left("begun");
    let mut impatient = how("upgrade");
    impatient["timeout"] = 0.into();
    let _ = shop.run("magento_upgrade", impatient).failed("still_running");
    let ask = json!({"deploy_to": shop.root.path().to_str(), "timeout": 0});
    shop.run("magento_status", ask).failed("still_running").says(["wait until it ends"]);
    let _ = shop.run("magento_upgrade", how("upgrade")).changed();
    assert_eq!((shop.left("begun").len(), shop.left("done").len()), (4, 4), "one after the other");
}

#[test]
fn what_a_killed_module_leaves_at_work_is_waited_for() {
    for begun in [false, true] {
        let shop = closed();
        let script =
            format!("echo x >> \"$here/begun\"; sleep 1; {UPGRADE} echo x >> \"$here/done\"");
        shop.answer("setup:upgrade", &script);
        if begun {
            shop.answer("setup:upgrade", &format!("echo $PPID > \"$here/pid\"; {script}"));
            let _ = begin(&shop);
            let pid = shop.await_left("pid");
            let killed = std::process::Command::new("kill").args(["-9", pid.trim()]).status();
            assert!(killed.unwrap().success());
            oxistrano_harness::await_end(pid.trim());
        } else {
            let running = shop.start("magento_upgrade", how("upgrade"));
            shop.await_left("begun");
            running.kill();
        }
        let mut impatient = how("upgrade");
        impatient["timeout"] = 0.into();
        let reply = shop.run("magento_upgrade", impatient).failed("still_running");
        reply.says(["still running", "fuser -v", "magento_upgrade.lock"]);
        let ask = json!({"deploy_to": shop.root.path().to_str(), "timeout": 0});
        let _ = shop.run("magento_status", ask).failed("still_running");
        assert_eq!(shop.left("done"), "", "it still runs");
        assert!(!is_open(&shop));
        let _ = shop.run("magento_upgrade", how("upgrade")).changed();
        assert_eq!((shop.left("begun").len(), shop.left("done").len()), (4, 4), "one by one");
        assert!(is_open(&shop));
    }
}

#[test]
fn a_lock_that_cannot_be_had_is_a_warning() {
    let shop = closed();
    fs::create_dir(shop.root.at(".oxistrano/magento_upgrade.lock")).unwrap();
    let reply = shop.run("magento_upgrade", how("upgrade")).changed();
    reply.warns("a second upgrade at the same time would not be detected");
    assert!(is_open(&shop));
}
