//! What fails leaves the shop closed and says how to continue.

use std::fs;
use std::os::unix::fs::chown;

use crate::closed::{FLAG, LOG, UPGRADE, check_closed, closed, commands, how, is_open};
use oxistrano_harness::{
    Manifest, NOBODY, Shop, Signal, await_end, exception, fails, is_root, json, not_checked,
};

#[test]
fn an_import_that_is_wanted_and_does_not_happen_is_a_failure() {
    for (way, command) in [
        ("upgrade", "setup:upgrade"),
        ("parts", "app:config:import"),
        ("import", "app:config:import"),
    ] {
        for state in ["finished", "begun"] {
            let mut arguments = how(way);
            arguments["import_needed"] = true.into();
            arguments["state"] = state.into();
            arguments["lower"] = (state == "finished").into();
            let run = |shop: &Shop| {
                let reply = shop.run("magento_upgrade", arguments.clone());
                if state == "finished" {
                    return reply;
                }
                let mut arguments = how(way);
                arguments["begun"] = reply["id"].clone();
                shop.run("magento_upgrade", arguments)
            };
            let shop = closed();
            let reply = run(&shop);
            assert_eq!(reply["failed"], true, "{way} {reply}");
            reply.says([
                "the configuration was not imported",
                "config_hash",
                "Maintenance stays on",
            ]);
            assert!(!is_open(&shop));
            let imports = "echo 'Processing configurations data from configuration file...'";
            let text =
                if way == "upgrade" { format!("{UPGRADE}{imports}") } else { imports.to_owned() };
            shop.answer(command, &text);
            let _ = run(&shop).changed();
            assert!(is_open(&shop));
        }
    }
}

#[test]
fn a_word_that_contradicts_the_exit_code_is_a_failure() {
    for (way, command, before) in
        [("upgrade", "setup:upgrade", UPGRADE), ("import", "app:config:import", "")]
    {
        let shop = closed();
        let script = "echo 'Processing configurations data from configuration file...'\n\
            echo 'Import failed: The website with id 7 does not exist'";
        shop.answer(command, &format!("{before}{script}"));
        let reply = shop.run("magento_upgrade", how(way)).failed("upgrade_failed");
        reply.says(["Import failed: The website with id 7 does not exist", "Maintenance stays on"]);
        assert!(!is_open(&shop));
    }
}

#[test]
fn a_data_patch_that_fails_leaves_the_shop_closed_and_says_how_to_go_on_and_back() {
    let shop = closed();
    let message = "Unable to apply data patch Shop\\Store\\Setup\\Patch\\Data\\AddStores for module \
                   Shop_Store. Original exception message: SQLSTATE[42S22]: Column not found: 1054 \
                   Unknown column 'x'";
    let block = exception(Some("PatchApplier.php line 170"), message);
    shop.answer("setup:upgrade", &format!("{UPGRADE}{}", fails(1, &block)));
    let reply = shop.run("magento_upgrade", how("upgrade")).failed("upgrade_failed");
    reply.says([
        "`bin/magento setup:upgrade --keep-generated` failed: exit code 1: Unable to apply",
    ]);
    reply.says([message]);
    check_closed(&shop, &reply);
    assert_eq!(reply["answers"][0]["rc"], 1);
    assert!(reply["lines"].to_string().contains("PatchApplier.php line 170"), "{reply}");
    let log = shop.root.read(LOG);
    assert!(
        log.contains("Schema creation/updates:") && log.contains("In PatchApplier.php"),
        "{log}"
    );
}

#[test]
fn a_database_that_is_down_is_the_reason() {
    let shop = closed();
    let script = "echo 'Cache types config flushed successfully'\n\
                  echo 'SQLSTATE[HY000] [2002] Connection refused'; exit 1";
    shop.answer("setup:upgrade", script);
    let reply = shop.run("magento_upgrade", how("upgrade")).failed("upgrade_failed");
    reply.says(["exit code 1: SQLSTATE[HY000] [2002] Connection refused"]);
    check_closed(&shop, &reply);
}

#[test]
fn parts_stop_at_the_first_that_fails() {
    let parts = ["setup:db-schema:upgrade", "setup:db-data:upgrade", "app:config:import"];
    for (count, part) in parts.iter().enumerate() {
        let shop = closed();
        shop.answer(part, "echo 'Unable to apply data patch'; exit 1");
        let reply = shop.run("magento_upgrade", how("parts")).failed("upgrade_failed");
        reply.says([*part, "Unable to apply data patch"]);
        assert_eq!(commands(&shop).len(), count + 1);
        assert_eq!(reply["answers"].as_array().unwrap().len(), count + 1);
        check_closed(&shop, &reply);
    }
}

#[test]
fn killed_or_missing_php_leaves_the_shop_closed() {
    let shop = closed();
    shop.answer("setup:upgrade", "echo one; kill -9 $$");
    let reply = shop.run("magento_upgrade", how("upgrade")).failed("upgrade_failed");
    reply.says(["exit code 137"]);
    check_closed(&shop, &reply);

    let mut arguments = how("upgrade");
    arguments["php"] = "/no/such/php".into();
    let reply = shop.run("magento_upgrade", arguments).failed("command_failed");
    reply.says(["the program /no/such/php does not exist; install it, or set its full path."]);
    assert!(!reply.msg().contains("longer timeout"), "{reply}");
    check_closed(&shop, &reply);
}

#[test]
fn a_failure_of_an_open_shop_says_that_it_is_open() {
    let shop = closed();
    let _ = shop.run("magento_maintenance", json!({"state": "lowered"})).changed();
    shop.answer("setup:upgrade", "exit 1");
    let mut arguments = how("upgrade");
    arguments["require_maintenance"] = false.into();
    let reply = shop.run("magento_upgrade", arguments).failed("upgrade_failed");
    reply.says(["The shop is open, and its database may be partly upgraded."]);
    assert_eq!(reply["maintenance_is_on"], false);
    // Somebody may lower it while it runs.
    let shop = closed();
    shop.answer("setup:upgrade", &format!("rm '{}'; exit 1", shop.root.at(FLAG).display()));
    let reply = shop.run("magento_upgrade", how("upgrade")).failed("upgrade_failed");
    reply.says(["The shop is open, and its database may be partly upgraded."]);
}

#[test]
fn a_timeout_ends_it_and_leaves_the_shop_closed() {
    let shop = closed();
    shop.answer("setup:db-schema:upgrade", "echo begun; sleep 300 & echo $! > \"$here/pid\"; wait");
    let mut arguments = how("parts");
    arguments["timeout"] = 1.into();
    let reply = shop.run("magento_upgrade", arguments).failed("command_failed");
    reply.says(["did not end within 1 s and was stopped", "with a longer timeout"]);
    check_closed(&shop, &reply);
    assert_eq!(commands(&shop).len(), 1);
    let pid = shop.left("pid");
    await_end(&pid);
    assert!(shop.root.read(LOG).contains("begun\n"));
}

#[test]
fn signals_do_not_stop_it_half_way() {
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        let shop = closed();
        let script = "echo begun > \"$here/begun\"; sleep 1; echo done > \"$here/done\"; \
                      echo 'Schema creation/updates:'";
        shop.answer("setup:db-schema:upgrade", script);
        let running = shop.start("magento_upgrade", how("parts"));
        shop.await_left("begun");
        running.signal(signal);
        running.signal(signal);
        let reply = running.wait().changed();
        assert_eq!(shop.left("done"), "done\n");
        assert_eq!(commands(&shop).len(), 3, "the other parts as well");
        assert_eq!(reply["lowered"], true);
        assert!(is_open(&shop));
    }
}

#[test]
fn a_flag_that_cannot_be_lowered_is_a_failure_that_says_what_was_done() {
    if !is_root() {
        return not_checked("a directory that cannot be written any more");
    }
    let shop = Shop::new();
    let root = &shop.root;
    for path in ["shared/var", "../php"] {
        chown(root.at(path), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let raise = json!({"state": "raised", "paths": ["current"]});
    let _ = shop.run_as(NOBODY, "magento_maintenance", raise).changed();
    let closes =
        format!("chmod 555 '{}'; echo 'Nothing to import.'", root.at("shared/var").display());
    shop.answer("setup:upgrade", &closes);
    let reply = shop.run_as(NOBODY, "magento_upgrade", how("upgrade")).failed("io");
    reply.says([
        "the database was upgraded, but: cannot lower the maintenance flag",
        "Permission denied",
        "The shop is still closed there.",
    ]);
    assert!(root.has(FLAG));
}

#[test]
fn without_a_configuration_nothing_is_run() {
    let shop = closed();
    fs::remove_file(shop.root.at("shared/app/etc/env.php")).unwrap();
    let before = Manifest::exact(&shop.root.path());
    let reply = shop.run("magento_upgrade", how("upgrade")).failed("no_magento");
    reply.says(["PHP was not started; nothing was changed."]);
    before.assert_same(&Manifest::exact(&shop.root.path()));
}

#[test]
fn a_program_that_is_not_magento_opens_no_shop() {
    let shop = closed();
    for (way, command) in [
        ("upgrade", "setup:upgrade"),
        ("import", "app:config:import"),
        ("parts", "setup:db-schema:upgrade"),
    ] {
        shop.answer(command, "echo well");
        let reply = shop.run("magento_upgrade", how(way)).failed("upgrade_failed");
        reply.says(["exit code 0: well, which is not what Magento prints"]);
        check_closed(&shop, &reply);
    }
}
