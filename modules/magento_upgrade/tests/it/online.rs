//! `magento_upgrade` beside a live release (`online`).

use std::fs;

use oxistrano_harness::{Shop, Value, json};

const UPGRADED: &str = "echo 'Nothing to import.'";

fn shop(script: &str) -> Shop {
    let shop = Shop::new();
    shop.answer("setup:upgrade", script);
    fs::create_dir(shop.root.at(".oxistrano")).unwrap();
    shop
}

fn online() -> Value {
    json!({"paths": ["current"], "online": true})
}

#[test]
fn it_needs_no_flag_and_waits_for_no_lock_and_has_a_cache_of_its_own() {
    let told = "echo \"$seconds\" >\"$here/seconds\"; echo \"$MAGENTO_DC__OVERRIDE\" >\"$here/override\"\n\
        cat \"$(dirname \"$script\")/../../../.oxistrano/magento_upgrade.release\" >\"$here/lock\"\n";
    for state in ["finished", "begun"] {
        let shop = shop(&format!("{told}{UPGRADED}"));
        let mut arguments = online();
        arguments["state"] = state.into();
        let reply = shop.run("magento_upgrade", arguments).changed();
        if state == "begun" {
            let mut arguments = online();
            arguments["begun"] = reply["id"].clone();
            let _ = shop.run("magento_upgrade", arguments).changed();
        }
        assert_eq!(shop.left("seconds"), "1\n");
        assert!(shop.left("override").contains("oxistrano_cache"));
        assert!(!shop.root.has("shared/var/.maintenance.flag"));
        // Who removes releases reads it.
        assert!(shop.left("lock").ends_with("releases/2\n"), "{}", shop.left("lock"));
        assert!(shop.calls()[0].ends_with("setup:upgrade --keep-generated --no-ansi -n"));
    }
}

#[test]
fn a_lock_that_others_have_is_waited_for_in_between_only() {
    let locked = "echo x >>\"$here/attempts\"\n\
        [ $(wc -l <\"$here/attempts\") -gt 2 ] || { echo 'SQLSTATE[HY000]: General error: 1205 Lock wait timeout exceeded; \
        try restarting transaction, query was: ALTER TABLE x'; exit 1; }\n";
    let shop = shop(&format!("{locked}{UPGRADED}"));
    let _ = shop.run("magento_upgrade", online()).changed();
    assert_eq!(shop.left("attempts").lines().count(), 3);
    // With the shop closed nobody waits behind it, so it is not tried again.
    fs::remove_file(shop.directory().join("attempts")).unwrap();
    let mut arguments = online();
    (arguments["online"], arguments["require_maintenance"]) = (false.into(), false.into());
    let _ = shop.run("magento_upgrade", arguments).failed("upgrade_failed");
    assert_eq!(shop.left("attempts").lines().count(), 1);
}

#[test]
fn another_failure_is_one_at_once_and_says_that_the_live_release_serves() {
    let shop = shop("echo x >>\"$here/attempts\"; echo 'Unable to apply data patch A'; exit 1");
    let reply = shop.run("magento_upgrade", online()).failed("upgrade_failed");
    reply.says(["Unable to apply data patch A", "The live release still serves visitors"]);
    assert_eq!(shop.left("attempts").lines().count(), 1);
}

#[test]
fn a_configuration_is_never_imported_online() {
    let shop = shop(UPGRADED);
    let mut arguments = online();
    arguments["how"] = "import".into();
    let _ = shop.run("magento_upgrade", arguments).failed("not_online");
    assert!(shop.calls().is_empty());
}
