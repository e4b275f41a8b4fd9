//! A shop that is closed for an upgrade.

use std::fs;

use oxistrano_harness::{Reply, Shop, Value, json};

pub const FLAG: &str = "shared/var/.maintenance.flag";
pub const LOG: &str = ".oxistrano/magento_upgrade.log";

/// What `setup:upgrade --keep-generated` prints, shortened.
pub const UPGRADE: &str = "cat <<'END'
Cache types config flushed successfully
Cache cleared successfully
File system cleanup:
The directory '/srv/shop/generated/code/' doesn't exist - skipping cleanup
Updating modules:
Schema creation/updates:
Module 'Magento_AdminAnalytics':
Module 'Magento_Store':
Running schema recurring...
  0/10 [>---------------------------]   0% < 1 sec
Module 'Shop_Store':
Data install/update:
Running data recurring...
Nothing to import.
Nothing to import.
END
";

/// A shop of which release 2 was just switched to, closed, with Oxistrano's state directory.
pub fn closed() -> Shop {
    let shop = Shop::new();
    for command in ["setup:upgrade", "setup:db-schema:upgrade", "setup:db-data:upgrade"] {
        shop.answer(command, UPGRADE);
    }
    shop.answer("app:config:import", "echo 'Nothing to import.'");
    fs::create_dir(shop.root.at(".oxistrano")).unwrap();
    let raise = json!({"state": "raised", "paths": ["current", "releases/2"]});
    let _ = shop.run("magento_maintenance", raise).changed();
    shop
}

pub fn both() -> Value {
    json!({"paths": ["current", "releases/2"]})
}

pub fn how(how: &str) -> Value {
    json!({"paths": ["current", "releases/2"], "how": how, "lower": true})
}

/// The commands that were run.
pub fn commands(shop: &Shop) -> Vec<String> {
    let calls = shop.calls();
    let words = calls.iter().map(|call| call.split_once("bin/magento ").expect("a command").1);
    words.map(str::to_owned).collect()
}

#[track_caller]
pub fn is_open(shop: &Shop) -> bool {
    let arguments = json!({"state": "reported", "paths": ["current", "releases/2"]});
    shop.run("magento_maintenance", arguments).unchanged()["is_on"] == false
}

#[track_caller]
pub fn check_closed(shop: &Shop, reply: &Reply) {
    reply.says([
        "Maintenance stays on: the shop is closed, and its database may be partly upgraded",
        "To continue, fix the cause and deploy again",
        "To go back, restore the database from its backup and roll back",
        &format!("All output: {}.", shop.root.at(LOG).display()),
    ]);
    assert_eq!(reply["maintenance_is_on"], true, "{reply}");
    assert!(!is_open(shop));
}
