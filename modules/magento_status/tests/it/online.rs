//! `magento_status` with a live release: what the script has told, as a verdict. What the script itself does
//! is tried on a shop with a database (tests/playbooks/test_magento_online.py).

use oxistrano_harness::{Reply, Shop, Value, json};

const NOTHING: &str = r#"{"changes": [], "data_patches": ["A\\B"], "schema_patches": [], "versions": [], "scripts": [],
    "queues": [], "triggers": [], "themes": {}, "emptied": [], "import": {"deletes": ["store x"], "of_others": []}}"#;

fn asked(script: &str, arguments: Value) -> Reply {
    let shop = Shop::new();
    shop.answer("setup:db:status", "echo \"Run 'setup:upgrade'\"; exit 2");
    shop.answer("app:config:status", "echo 'Config files are up to date.'");
    shop.answer("pending", script);
    let mut arguments = arguments;
    if arguments["live"] == true {
        arguments["live"] = shop.root.at("current").to_str().into();
    }
    let reply = shop.run("magento_status", arguments).unchanged();
    let calls = shop.calls().iter().filter(|call| call.ends_with(" pending")).count();
    assert_eq!(calls, usize::from(reply["pending"].is_object()), "{reply}");
    reply
}

fn told(facts: &str) -> String {
    format!("echo some notice; printf '%s\\n' 'OXISTRANO {}'", facts.replace('\n', " "))
}

#[test]
fn without_a_live_release_nothing_is_asked() {
    let reply = asked("exit 1", json!({}));
    assert!(reply["online"].is_null() && reply["pending"].is_null(), "{reply}");
}

#[test]
fn the_verdict_is_by_what_was_told_and_allowed() {
    let reply = asked(&told(NOTHING), json!({"live": true}));
    assert_eq!(reply["online"], false, "{reply}");
    assert_eq!(
        reply["obstacles"],
        json!(["data patch A\\B would change data that the live release uses"])
    );
    assert_eq!(reply["deletes"], json!(["store x"]));
    let reply = asked(&told(NOTHING), json!({"live": true, "allowed": ["A\\B"]}));
    assert_eq!(reply["online"], true, "{reply}");
    reply.says(["the database needs setup:upgrade, which can be done online"]);
}

#[test]
fn what_cannot_be_told_is_not_online_and_no_failure() {
    for (script, why) in [
        ("echo 'PHP Fatal error: no such class' >&2; exit 255", "no such class"),
        ("echo '{}'", "it is not known what the upgrade does (upgrade)"),
        ("echo 'OXISTRANO {'", "it is not known what the upgrade does (upgrade)"),
        ("echo 'OXISTRANO {}'", "it is not known what the upgrade does (changes)"),
    ] {
        let reply = asked(script, json!({"live": true, "allowed": ["*"]}));
        assert_eq!(reply["online"], false, "{script}: {reply}");
        assert!(reply["obstacles"].to_string().contains(why), "{script}: {reply}");
    }
}
