//! `magento_maintenance`: where the flag goes up and down, and whose it is.

use std::fs;
use std::os::unix::fs::symlink;

use oxistrano_harness::{Reply, Shop, Value, json};

const SHARED: &str = "shared/var/.maintenance.flag";
const ONE: &str = "releases/1/var/.maintenance.flag";
const TWO: &str = "releases/2/var/.maintenance.flag";

fn both() -> Value {
    json!(["current", "releases/2"])
}

#[track_caller]
fn maintenance(shop: &Shop, state: &str) -> Reply {
    shop.run("magento_maintenance", json!({"state": state, "paths": both()}))
}

#[test]
fn a_shared_var_has_one_flag() {
    let shop = Shop::new();
    let reply = maintenance(&shop, "reported").unchanged();
    assert_eq!((&reply["is_on"], &reply["was_on"]), (&json!(false), &json!(false)));
    assert_eq!(reply.msg(), "maintenance is off");

    let reply = maintenance(&shop, "raised").changed();
    reply.says(["maintenance is on", ".maintenance.flag"]);
    assert_eq!((&reply["is_on"], &reply["was_on"]), (&json!(true), &json!(false)));
    assert_eq!(reply["roots"], json!(["releases/1", "releases/2"]));
    let flags = reply["flags"].as_array().unwrap();
    assert_eq!(flags.len(), 1, "{reply}");
    assert_eq!(flags[0]["flag"], "ours");
    assert!(flags[0]["since"].as_str().unwrap().ends_with('Z'), "{reply}");
    assert!(shop.root.has(SHARED));

    let before = shop.root.manifest();
    let reply = maintenance(&shop, "raised").unchanged();
    assert_eq!((&reply["was_on"], &reply["was_ours"]), (&json!(false), &json!(true)));
    before.assert_same(&shop.root.manifest());

    let reply = maintenance(&shop, "lowered").changed();
    assert_eq!(reply.msg(), "maintenance is off");
    assert_eq!(reply["is_on"], false);
    assert!(!shop.root.has(SHARED));
    let _ = maintenance(&shop, "lowered").unchanged();
    assert_eq!(fs::read_dir(shop.root.at("shared/var")).unwrap().count(), 1, "only log");
}

#[test]
fn each_var_of_its_own_has_its_flag() {
    let shop = Shop::with_own_vars();
    assert_eq!(maintenance(&shop, "raised").changed()["flags"].as_array().unwrap().len(), 2);
    assert!(shop.root.has(ONE) && shop.root.has(TWO));
    // One of them gone is not closed.
    fs::remove_file(shop.root.at(ONE)).unwrap();
    let reply = maintenance(&shop, "reported").unchanged();
    assert_eq!((&reply["is_on"], &reply["was_ours"]), (&json!(false), &json!(true)));
    let _ = maintenance(&shop, "raised").changed();
    let _ = maintenance(&shop, "lowered").changed();
    assert!(!shop.root.has(ONE) && !shop.root.has(TWO));
}

#[test]
fn two_deploy_roots_that_share_var_have_one_directory_and_one_flag() {
    let (one, two) = (Shop::new(), Shop::new());
    let directories = |shop| maintenance(shop, "reported").unchanged()["directories"].clone();
    assert_eq!(directories(&one).as_array().unwrap().len(), 1);
    assert_ne!(directories(&one), directories(&two));
    fs::remove_dir_all(two.root.at("shared/var")).unwrap();
    symlink(one.root.at("shared/var"), two.root.at("shared/var")).unwrap();
    assert_eq!(directories(&one), directories(&two));

    let raise = json!({"state": "raised", "paths": both(), "hosts": ["web1", "web2"]});
    let reply = one.run("magento_maintenance", raise).changed();
    assert_eq!(reply["flags"][0]["hosts"], json!(["web1", "web2"]));
    let reply = maintenance(&two, "kept").unchanged();
    assert_eq!(reply["was_ours"], true);
    assert_eq!(reply["flags"][0]["hosts"], json!(["web1", "web2"]));
    let reply = maintenance(&two, "lowered").changed();
    assert_eq!(reply["flags"][0]["hosts"], json!([]));
    assert_eq!(maintenance(&one, "reported").unchanged()["was_ours"], false);
}

#[test]
fn the_roots_name_the_same_code_after_a_switch() {
    let shop = Shop::with_own_vars();
    let roots = maintenance(&shop, "raised").changed()["roots"].clone();
    fs::remove_file(shop.root.at("current")).unwrap();
    shop.root.link("current", "./releases/2");
    let lower = json!({"state": "lowered", "paths": roots});
    let _ = shop.run("magento_maintenance", lower).changed();
    assert!(!shop.root.has(ONE) && !shop.root.has(TWO));
}

#[test]
fn without_paths_it_is_current() {
    let shop = Shop::with_own_vars();
    let _ = shop.run("magento_maintenance", json!({"state": "raised"})).changed();
    assert!(shop.root.has(ONE) && !shop.root.has(TWO));
}

#[test]
fn before_the_first_deploy_there_is_no_current() {
    let shop = Shop::with_own_vars();
    fs::remove_file(shop.root.at("current")).unwrap();
    let _ = maintenance(&shop, "raised").changed();
    assert!(!shop.root.has(ONE) && shop.root.has(TWO));
    let _ = maintenance(&shop, "lowered").changed();

    let before = shop.root.manifest();
    let reply = shop.run("magento_maintenance", json!({"state": "raised"})).failed("no_magento");
    reply.says(["there is no release at current", "Nothing was changed."]);
    let reply = shop.check("magento_maintenance", json!({"state": "raised"})).failed("no_magento");
    reply.says(["there is no release at current"]);
    let _ = shop.run("magento_maintenance", json!({"state": "lowered"})).unchanged();
    let reply = shop.run("magento_maintenance", json!({"state": "reported"})).unchanged();
    assert_eq!(reply["is_on"], false, "nothing is closed: {reply}");
    before.assert_same(&shop.root.manifest());
}

#[test]
fn a_deploy_root_that_is_missing_is_named() {
    let shop = Shop::new();
    let arguments = json!({"state": "raised", "deploy_to": shop.root.beside("nothing")});
    shop.run("magento_maintenance", arguments).failed("io").says(["nothing'", "No such file"]);
    for path in ["../x", "/etc", "a/../../b"] {
        let arguments = json!({"state": "raised", "paths": [path]});
        shop.run("magento_maintenance", arguments).failed("invalid_arguments").says(["paths"]);
    }
}

#[test]
fn a_var_that_is_missing_is_made_to_close_and_only_then() {
    let shop = Shop::with_own_vars();
    fs::remove_dir(shop.root.at("releases/2/var")).unwrap();
    assert_eq!(maintenance(&shop, "reported").unchanged()["is_on"], false);
    let _ = maintenance(&shop, "lowered").unchanged();
    assert!(!shop.root.has("releases/2/var"));
    let check = json!({"state": "raised", "paths": both()});
    let _ = shop.check("magento_maintenance", check).changed();
    assert_eq!(maintenance(&shop, "raised").changed()["is_on"], true);
    assert!(shop.root.has(TWO));
}

#[test]
fn a_flag_of_somebody_else_is_kept() {
    for contents in [
        "",
        "0",
        "{}",
        "{\"raised_by_oxistrano\": 5}",
        "{\"raised_by_oxistrano\": ",
        "[\"raised_by_oxistrano\"]",
        &"x".repeat(100_000),
    ] {
        let shop = Shop::new();
        shop.root.write(SHARED, contents);
        let reply = maintenance(&shop, "raised").unchanged();
        assert_eq!((&reply["is_on"], &reply["was_on"]), (&json!(true), &json!(true)));
        reply.says(["maintenance was already on"]);
        let reply = maintenance(&shop, "lowered").unchanged();
        reply.says(["maintenance is on, but this module did not switch it on"]);
        reply.warns("force=true");
        assert_eq!(shop.root.read(SHARED), contents);

        let force = json!({"state": "lowered", "paths": both(), "force": true});
        let _ = shop.check("magento_maintenance", force.clone()).changed();
        let reply = shop.run("magento_maintenance", force.clone()).changed();
        reply.has_no_warnings();
        assert!(!shop.root.has(SHARED));
        let _ = shop.run("magento_maintenance", force).unchanged();
    }
}

#[test]
fn one_flag_of_somebody_else_and_one_of_ours() {
    let shop = Shop::with_own_vars();
    shop.root.write(ONE, "");
    let reply = maintenance(&shop, "raised").changed();
    assert_eq!((&reply["is_on"], &reply["was_on"]), (&json!(true), &json!(true)));
    let reply = maintenance(&shop, "lowered").changed();
    reply.says(["maintenance is on, but this module did not switch it on"]);
    reply.warns("maintenance was already on before, so it stays on");
    assert!(shop.root.has(ONE) && !shop.root.has(TWO));
}

#[test]
fn magento_s_own_commands_can_be_mixed_with_it() {
    let shop = Shop::new();
    let _ = maintenance(&shop, "raised").changed();
    // maintenance:enable touches it, maintenance:disable removes it.
    fs::File::options().append(true).open(shop.root.at(SHARED)).unwrap();
    assert_eq!(maintenance(&shop, "reported").unchanged()["was_ours"], true);
    fs::remove_file(shop.root.at(SHARED)).unwrap();
    let _ = maintenance(&shop, "lowered").unchanged();
    assert_eq!(maintenance(&shop, "reported").unchanged()["is_on"], false);
}

#[test]
fn a_reason_of_any_kind_leaves_a_flag_that_is_known_as_ours() {
    for reason in ["deploy of \"2\"\n\u{1b}[31m", "", &"ü".repeat(10_000), "😀\0"] {
        let shop = Shop::new();
        let raise = json!({"state": "raised", "paths": both(), "reason": reason});
        let _ = shop.run("magento_maintenance", raise).changed();
        assert_eq!(maintenance(&shop, "reported").unchanged()["was_ours"], true);
        let _ = maintenance(&shop, "lowered").changed();
        assert!(!shop.root.has(SHARED));
    }
    let shop = Shop::new();
    let raise = json!({"state": "raised", "reason": "deploy of 2"});
    let _ = shop.run("magento_maintenance", raise).changed();
    assert!(shop.root.read(SHARED).contains("deploy of 2"));
}

const ADDRESSES: &str = "shared/var/.maintenance.ip";

#[track_caller]
fn allow(shop: &Shop, addresses: Value) -> Reply {
    let raise = json!({"state": "raised", "paths": both(), "allowed_ips": addresses});
    shop.run("magento_maintenance", raise)
}

#[test]
fn addresses_stay_unless_they_are_named() {
    let shop = Shop::new();
    shop.root.write(ADDRESSES, "10.0.0.1,10.0.0.2");
    let _ = maintenance(&shop, "raised").changed();
    let _ = maintenance(&shop, "lowered").changed();
    assert_eq!(shop.root.read(ADDRESSES), "10.0.0.1,10.0.0.2");
    let _ = allow(&shop, json!(["10.0.0.1", "10.0.0.2"])).changed();
    let _ = allow(&shop, json!(["10.0.0.1", "10.0.0.2"])).unchanged();

    let check = json!({"state": "raised", "paths": both(), "allowed_ips": ["::1"]});
    let _ = shop.check("magento_maintenance", check).changed();
    let _ = allow(&shop, json!(["2001:db8::1", "192.0.2.7"])).changed();
    // As Magento wants it: commas, no blanks, no line's end.
    assert_eq!(shop.root.read(ADDRESSES), "2001:db8::1,192.0.2.7");
    let _ = allow(&shop, json!([])).changed();
    assert!(!shop.root.has(ADDRESSES));
    let _ = allow(&shop, json!([])).unchanged();
    let _ = allow(&shop, json!("192.0.2.8,192.0.2.9")).changed();
    assert_eq!(shop.root.read(ADDRESSES), "192.0.2.8,192.0.2.9");
}

#[test]
fn addresses_that_magento_could_not_read_are_refused() {
    let shop = Shop::new();
    for wrong in [json!(["1.2.3.4, 5.6.7.8"]), json!([""]), json!(["1.2.3.4\n"]), json!(["a,b"])] {
        let before = shop.root.manifest();
        let reply = allow(&shop, wrong).failed("bad_address");
        reply.says(["must not contain spaces or commas", "Nothing was changed."]);
        before.assert_same(&shop.root.manifest());
    }
}

#[test]
fn addresses_go_everywhere_also_into_a_var_that_is_made() {
    let shop = Shop::with_own_vars();
    fs::remove_dir(shop.root.at("releases/2/var")).unwrap();
    let _ = allow(&shop, json!(["192.0.2.7"])).changed();
    for release in ["releases/1", "releases/2"] {
        assert_eq!(shop.root.read(format!("{release}/var/.maintenance.ip")), "192.0.2.7");
    }
}

#[test]
fn check_mode_shows_what_would_change() {
    let shop = Shop::with_own_vars();
    let raise = json!({"state": "raised", "paths": both()});
    let reply = shop.check("magento_maintenance", raise.clone()).changed();
    assert_eq!(reply.msg(), "would raise the maintenance flag");
    let planned = reply["diff"].clone();
    let before = planned["before"].as_str().unwrap();
    assert_eq!(before.matches(": down\n").count(), 2, "{before}");
    assert_eq!(planned["after"].as_str().unwrap().matches(": ours\n").count(), 2, "{reply}");
    assert_eq!(reply["is_on"], false, "nothing was done: {reply}");

    let mut real = raise.clone();
    real["_ansible_diff"] = true.into();
    assert_eq!(shop.run("magento_maintenance", real).changed()["diff"], planned);

    let _ = shop.check("magento_maintenance", raise).unchanged();
    let lower = json!({"state": "lowered", "paths": both()});
    let reply = shop.check("magento_maintenance", lower.clone()).changed();
    assert_eq!(reply.msg(), "would lower the maintenance flag");
    assert_eq!(reply["diff"]["after"].as_str().unwrap().matches(": down\n").count(), 2);
    assert_eq!(shop.run("magento_maintenance", lower).changed()["is_on"], false);
    let reported = json!({"state": "reported", "paths": both()});
    let _ = shop.check("magento_maintenance", reported).unchanged();
}

#[test]
fn an_absolute_shared_link_is_followed() {
    let shop = Shop::new();
    for release in ["releases/1", "releases/2"] {
        fs::remove_file(shop.root.at(release).join("var")).unwrap();
        symlink(shop.root.at("shared/var"), shop.root.at(release).join("var")).unwrap();
    }
    assert_eq!(maintenance(&shop, "raised").changed()["flags"].as_array().unwrap().len(), 1);
    assert!(shop.root.has(SHARED));
}

#[test]
fn two_that_raise_at_once_leave_one_flag() {
    let shop = Shop::with_own_vars();
    let raise = || shop.start("magento_maintenance", json!({"state": "raised", "paths": both()}));
    let running: Vec<_> = (0..8).map(|_| raise()).collect();
    let replies: Vec<_> = running.into_iter().map(|running| running.wait()).collect();
    for reply in &replies {
        assert_ne!(reply["failed"], true, "{reply}");
        assert_eq!(reply["is_on"], true, "{reply}");
    }
    for release in ["releases/1/var", "releases/2/var"] {
        let names: Vec<_> = fs::read_dir(shop.root.at(release)).unwrap().flatten().collect();
        assert_eq!(names.len(), 1, "{names:?}");
    }
    assert_eq!(maintenance(&shop, "lowered").changed()["is_on"], false);
}

#[test]
fn what_somebody_else_has_closed_stays_closed_over_a_switch() {
    let shop = Shop::with_own_vars();
    shop.root.write(ONE, "");
    shop.root.write("releases/1/var/.maintenance.ip", "192.0.2.7");
    let keep = json!({"state": "kept", "paths": both()});
    let _ = shop.check("magento_maintenance", keep.clone()).changed();
    let reply = maintenance(&shop, "kept").changed();
    assert_eq!((&reply["is_on"], &reply["was_on"]), (&json!(true), &json!(true)));
    assert_eq!(shop.root.read("releases/2/var/.maintenance.ip"), "192.0.2.7");
    // Somebody else's as well, so that nobody but them opens the shop.
    assert_eq!(reply["flags"][1]["flag"], "foreign", "{reply}");
    let _ = maintenance(&shop, "kept").unchanged();
    let _ = shop.check("magento_maintenance", keep).unchanged();
    let _ = maintenance(&shop, "lowered").unchanged();
    assert!(shop.root.has(ONE) && shop.root.has(TWO));
}

#[test]
fn nothing_is_kept_where_nobody_has_closed_the_code_that_runs() {
    // Open; closed by us; closed in the new release only; the same `var`; nothing runs yet.
    let open = Shop::with_own_vars();
    let ours = Shop::with_own_vars();
    let _ = ours.run("magento_maintenance", json!({"state": "raised"})).changed();
    let new = Shop::with_own_vars();
    new.root.write(TWO, "");
    new.root.write("releases/2/var/.maintenance.ip", "192.0.2.7");
    let shared = Shop::new();
    shared.root.write(SHARED, "");
    let first = Shop::with_own_vars();
    fs::remove_file(first.root.at("current")).unwrap();
    for shop in [open, ours, new, shared, first] {
        let before = shop.root.manifest();
        let _ = maintenance(&shop, "kept").unchanged();
        before.assert_same(&shop.root.manifest());
    }
}

#[test]
fn addresses_of_the_new_release_are_its_own() {
    let shop = Shop::with_own_vars();
    shop.root.write("releases/1/var/.maintenance.ip", "192.0.2.7");
    let _ = maintenance(&shop, "kept").changed();
    assert_eq!(shop.root.read("releases/2/var/.maintenance.ip"), "192.0.2.7");
    assert!(!shop.root.has(TWO), "the shop is open");
    shop.root.write("releases/2/var/.maintenance.ip", "192.0.2.8");
    let _ = maintenance(&shop, "kept").unchanged();
    assert_eq!(shop.root.read("releases/2/var/.maintenance.ip"), "192.0.2.8");
}
