//! Which commands are run, and for which shop.

use std::fs;

use crate::closed::{FLAG, LOG, UPGRADE, both, closed, commands, how, is_open};
use oxistrano_harness::{Manifest, Shop, json};

#[test]
fn each_way_has_its_commands_in_their_order() {
    for (way, expected) in [
        ("upgrade", vec!["setup:upgrade --keep-generated --no-ansi -n"]),
        (
            "parts",
            vec![
                "setup:db-schema:upgrade --no-ansi -n",
                "setup:db-data:upgrade --no-ansi -n",
                "app:config:import --no-ansi -n",
            ],
        ),
        ("import", vec!["app:config:import --no-ansi -n"]),
    ] {
        let shop = closed();
        let reply = shop.run("magento_upgrade", how(way));
        assert_ne!(reply["failed"], true, "{reply}");
        assert_eq!(commands(&shop), expected);
        assert_eq!(reply["changed"], way != "import", "nothing was imported: {reply}");
        assert_eq!(reply["lowered"], true);
        assert_eq!(reply["answers"].as_array().unwrap().len(), expected.len());
        assert!(reply["seconds"].is_number());
        assert!(is_open(&shop));
        let log = shop.root.read(LOG);
        let headings: Vec<_> = log.lines().filter(|line| line.starts_with("# ")).collect();
        let headings: Vec<_> =
            headings.iter().map(|line| format!("{} --no-ansi -n", &line[14..])).collect();
        assert_eq!(headings, expected, "{log}");
    }
}

#[test]
fn with_a_cache_of_its_own_no_other_is_touched_and_nothing_of_it_stays() {
    let script = "printf '%s\\n' \"$MAGENTO_DC__OVERRIDE\" >>\"$here/override\"\n\
        mkdir \"$(dirname \"$script\")/../var/oxistrano_cache\"\n";
    for (own, state) in [(false, "finished"), (true, "finished"), (true, "begun")] {
        let shop = closed();
        shop.answer("setup:upgrade", &format!("{script}{UPGRADE}"));
        let mut arguments = both();
        arguments["own_cache"] = own.into();
        arguments["state"] = state.into();
        let reply = shop.run("magento_upgrade", arguments).changed();
        if state == "begun" {
            let mut arguments = both();
            arguments["begun"] = reply["id"].clone();
            let _ = shop.run("magento_upgrade", arguments).changed();
        }
        let told = shop.left("override");
        assert_eq!(told.contains("\"cache_dir\":\"oxistrano_cache\""), own, "{told}");
        assert_eq!(
            shop.root.has("shared/var/oxistrano_cache"),
            !own,
            "what PHP made by itself stays"
        );
    }
}

#[test]
fn what_was_imported_is_a_change() {
    let shop = closed();
    shop.answer(
        "app:config:import",
        "echo 'Processing configurations data from configuration file...'",
    );
    let reply = shop.run("magento_upgrade", how("import")).changed();
    reply.says(["the configuration was imported"]);
}

#[test]
fn an_open_shop_is_not_upgraded() {
    let shop = closed();
    let _ = shop.run("magento_maintenance", json!({"state": "lowered"})).changed();
    for way in ["upgrade", "parts", "import"] {
        let before = Manifest::exact(&shop.root.path());
        let reply = shop.run("magento_upgrade", how(way)).failed("not_in_maintenance");
        reply.says([
            "refusing to upgrade",
            "the shop is open (",
            "raise the maintenance flag first",
            "Nothing was changed.",
        ]);
        before.assert_same(&Manifest::exact(&shop.root.path()));
    }
    assert!(shop.calls().is_empty());
    let mut arguments = both();
    arguments["require_maintenance"] = false.into();
    let _ = shop.run("magento_upgrade", arguments).changed();
}

#[test]
fn a_shop_that_is_half_open_is_not_upgraded() {
    let shop = Shop::with_own_vars();
    shop.answer("setup:upgrade", UPGRADE);
    shop.root.write("releases/2/var/.maintenance.flag", "");
    let reply = shop.run("magento_upgrade", both()).failed("not_in_maintenance");
    reply.says(["/var/.maintenance.flag: down", "/var/.maintenance.flag: foreign"]);
    // A release without any `var` is open.
    shop.root.write("releases/1/var/.maintenance.flag", "");
    fs::remove_dir_all(shop.root.at("releases/2/var")).unwrap();
    let reply = shop.run("magento_upgrade", both()).failed("not_in_maintenance");
    reply.says(["releases/2/var/.maintenance.flag: down"]);
    assert!(shop.calls().is_empty());
}

#[test]
fn paths_at_which_nothing_is_are_not_closed() {
    let shop = closed();
    let reply = shop.run("magento_upgrade", json!({"paths": ["curent", "release/2"]}));
    reply.failed("not_in_maintenance").says(["there is no shop to close at curent, release/2"]);
    assert!(shop.calls().is_empty());
}

#[test]
fn a_flag_of_somebody_else_will_do_and_stays() {
    let shop = closed();
    shop.root.write(FLAG, "");
    let reply = shop.run("magento_upgrade", how("upgrade")).changed();
    assert_eq!(reply["lowered"], false);
    assert!(!is_open(&shop));
}

#[test]
fn check_mode_runs_nothing() {
    let shop = closed();
    let reply = shop.check("magento_upgrade", how("parts")).changed();
    assert_eq!(
        reply.msg(),
        "would run setup:db-schema:upgrade, setup:db-data:upgrade, app:config:import"
    );
    // In a play in check mode nobody has raised the flag.
    let _ = shop.run("magento_maintenance", json!({"state": "lowered"})).changed();
    let _ = shop.check("magento_upgrade", how("upgrade")).changed();
    assert!(shop.calls().is_empty());
    assert!(!shop.root.has(LOG));
}
