//! `magento_status` asks a release that is not live: with a cache of its own, of which nothing stays.

use std::fs;

use oxistrano_harness::{Manifest, Shop, Value, json};

/// What PHP was told, and a cache as Magento makes one; it fails where there is one already of other code.
const ASKS: &str = "printf '%s\\n' \"$MAGENTO_DC__OVERRIDE\" >>\"$here/override\"\n\
    cd \"$(dirname \"$script\")/../var\"\n\
    if [ -e oxistrano_cache/of_other_code ]; then echo stale; exit 1; fi\n\
    mkdir -p oxistrano_cache/mage--a && echo new >oxistrano_cache/mage--a/mage---events\n";

fn shop() -> Shop {
    let shop = Shop::new();
    shop.answer("setup:db:status", &format!("{ASKS}echo 'All modules are up to date.'"));
    shop.answer("app:config:status", &format!("{ASKS}echo 'Config files are up to date.'"));
    shop
}

/// What each of the commands was told.
fn told(shop: &Shop) -> Vec<Value> {
    shop.left("override").lines().map(|line| line.parse().expect("JSON")).collect()
}

#[test]
fn each_command_has_a_cache_of_its_own_that_is_gone_afterwards() {
    for shop in [shop(), {
        let shop = shop();
        for release in ["releases/1", "releases/2"] {
            fs::remove_file(shop.root.at(release).join("var")).unwrap();
            fs::create_dir(shop.root.at(release).join("var")).unwrap();
        }
        shop
    }] {
        shop.root.write("releases/2/var/cache/kept", "");
        let before = Manifest::of(&shop.root.path());
        let reply = shop.run("magento_status", json!({})).unchanged();
        assert!(!reply["warnings"].to_string().contains("could not be removed"), "{reply}");
        before.assert_same(&Manifest::of(&shop.root.path()));
        let told = told(&shop);
        assert_eq!(told.len(), 2, "{told:?}");
        for told in told {
            for frontend in ["default", "page_cache"] {
                let cache = &told["cache"]["frontend"][frontend];
                assert_eq!(cache["backend"], "Cm_Cache_Backend_File", "{told}");
                assert_eq!(cache["backend_options"]["cache_dir"], "oxistrano_cache", "{told}");
                assert_eq!(cache["id_prefix"], "oxistrano_", "{told}");
            }
        }
    }
}

#[test]
fn nothing_of_it_stays_when_the_command_fails_or_is_ended() {
    for ending in ["exit 255", "sleep 60"] {
        let shop = shop();
        shop.answer("setup:db:status", &format!("{ASKS}{ending}"));
        let _ = shop.run("magento_status", json!({"timeout": 2})).failed("cannot_tell");
        assert!(!shop.left("override").is_empty());
        assert!(!shop.root.has("shared/var/oxistrano_cache"));
    }
}

#[test]
fn what_a_killed_process_has_left_is_not_read() {
    let shop = shop();
    shop.root.write("shared/var/oxistrano_cache/of_other_code", "");
    let _ = shop.run("magento_status", json!({})).unchanged();
    assert!(!shop.root.has("shared/var/oxistrano_cache"));
}

#[test]
fn what_else_the_environment_overrides_goes_on() {
    let mut shop = shop();
    let given = json!({"db": {"host": "a"}, "cache": {"graphql": {"id_salt": "x"}}}).to_string();
    let arguments = json!({"environment": {"MAGENTO_DC__OVERRIDE": given}});
    let _ = shop.run("magento_status", arguments).unchanged();
    shop.set("MAGENTO_DC__OVERRIDE", &given);
    let _ = shop.run("magento_status", json!({})).unchanged();
    let told = told(&shop);
    assert_eq!(told.len(), 4);
    for told in told {
        assert_eq!(told["db"]["host"], "a", "{told}");
        // The key as a whole: another backend's settings would not fit.
        assert!(told["cache"]["graphql"].is_null(), "{told}");
    }
}

#[test]
fn an_override_that_is_none_is_refused_and_not_shown() {
    let shop = shop();
    for text in ["s3cret", "[1]", "{"] {
        let arguments = json!({"environment": {"MAGENTO_DC__OVERRIDE": text}});
        let reply = shop.run("magento_status", arguments).failed("bad_environment");
        reply
            .says(["MAGENTO_DC__OVERRIDE is set, but is not a JSON object", "nothing was changed"]);
        assert!(!reply.msg().contains("s3cret"), "{reply}");
    }
    assert!(shop.calls().is_empty());
}
