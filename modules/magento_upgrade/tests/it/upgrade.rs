//! `magento_upgrade`: what is run in which order, and what a failure leaves.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::time::{Duration, Instant};

use oxistrano_harness::{
    Manifest, NOBODY, Reply, Shop, Signal, Value, await_end, exception, fails, is_root, json,
    not_checked,
};

const FLAG: &str = "shared/var/.maintenance.flag";
const LOG: &str = ".oxistrano/magento_upgrade.log";

/// What `setup:upgrade --keep-generated` prints, shortened.
const UPGRADE: &str = "cat <<'END'
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
fn closed() -> Shop {
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

fn both() -> Value {
    json!({"paths": ["current", "releases/2"]})
}

fn how(how: &str) -> Value {
    json!({"paths": ["current", "releases/2"], "how": how, "lower": true})
}

/// The commands that were run.
fn commands(shop: &Shop) -> Vec<String> {
    let calls = shop.calls();
    let words = calls.iter().map(|call| call.split_once("bin/magento ").expect("a command").1);
    words.map(str::to_owned).collect()
}

#[track_caller]
fn is_open(shop: &Shop) -> bool {
    let arguments = json!({"state": "reported", "paths": ["current", "releases/2"]});
    shop.run("magento_maintenance", arguments).unchanged()["is_on"] == false
}

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
fn the_lines_that_say_something_are_shown() {
    let shop = closed();
    let reply = shop.run("magento_upgrade", both()).changed();
    assert_eq!(
        reply["lines"],
        json!([
            "Cache types config flushed successfully",
            "Cache cleared successfully",
            "File system cleanup:",
            "The directory '/srv/shop/generated/code/' doesn't exist - skipping cleanup",
            "Updating modules:",
            "Schema creation/updates:",
            "Data install/update:",
            "Nothing to import.",
        ])
    );
    assert!(shop.root.read(LOG).contains("Module 'Magento_Store':\n"), "the log has all of it");
    assert_eq!(reply["log"], shop.root.at(LOG).display().to_string());
    reply.says(["the database was upgraded ("]);
}

#[test]
fn huge_output_is_in_the_log_and_not_in_the_result() {
    let shop = closed();
    let script = "i=0; while [ $i -lt 100000 ]; do echo \"Module $i is told of at some length\"; \
                  i=$((i+1)); done; echo 'Nothing to import.'; echo 'the end'";
    shop.answer("setup:upgrade", script);
    let reply = shop.run("magento_upgrade", both()).changed();
    let size = reply.value().to_string().len();
    assert!(size < 1_000_000, "{size} bytes of result");
    let lines = reply["lines"].as_array().unwrap();
    assert_eq!(
        (&lines[0], lines.last().unwrap()),
        (&json!("Module 0 is told of at some length"), &json!("the end"))
    );
    assert_eq!(lines[100], "[99802 lines left out]");
    assert_eq!(shop.root.read(LOG).lines().count(), 100_003);
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

#[track_caller]
fn check_closed(shop: &Shop, reply: &Reply) {
    reply.says([
        "Maintenance stays on: the shop is closed, and its database may be partly upgraded",
        "To continue, fix the cause and deploy again",
        "To go back, restore the database from its backup and roll back",
        &format!("All output: {}.", shop.root.at(LOG).display()),
    ]);
    assert_eq!(reply["maintenance_is_on"], true, "{reply}");
    assert!(!is_open(shop));
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
fn output_is_kept_as_it_comes_also_when_the_module_is_killed() {
    let shop = closed();
    // PHP ignores SIGPIPE, too.
    let script = "trap '' PIPE; echo 'Schema creation/updates:'; echo on stderr >&2\n\
                  i=0; while [ $i -lt 500 ] && ! grep -q 'on stderr' \"$log\"\n\
                  do i=$((i+1)); sleep 0.02; done\n\
                  echo begun > \"$here/begun\"; sleep 1; echo more 2>/dev/null\n\
                  echo done > \"$here/done\"";
    let log = format!("log='{}'\n", shop.root.at(LOG).display());
    shop.answer("setup:upgrade", &format!("{log}{script}"));
    let running = shop.start("magento_upgrade", how("upgrade"));
    shop.await_left("begun");
    running.kill();
    let text = shop.root.read(LOG);
    assert!(text.starts_with("# bin/magento setup:upgrade --keep-generated\n"), "{text}");
    assert!(text.contains("Schema creation/updates:\n") && text.contains("on stderr\n"), "{text}");
    shop.await_left("done");
    assert!(!is_open(&shop), "nobody knows how it ended");
    // And the next one goes on, with a log of its own.
    shop.answer("setup:upgrade", UPGRADE);
    let reply = shop.run("magento_upgrade", how("upgrade")).changed();
    assert_eq!(reply["lowered"], true);
    assert!(!shop.root.read(LOG).contains("on stderr"));
}

#[test]
fn config_php_that_it_rewrites_is_told_of() {
    let shop = closed();
    let rewrite = "echo '<?php return [1];' > \"${script%/bin/magento}/app/etc/config.php\"\n";
    shop.answer("setup:upgrade", &format!("{rewrite}{UPGRADE}"));
    let reply = shop.run("magento_upgrade", both()).changed();
    reply.warns("has rewritten app/etc/config.php of this release, on this host only");
    let again = shop.run("magento_upgrade", both()).changed();
    assert!(!again.value()["warnings"].to_string().contains("config.php"), "{again}");
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

#[test]
fn without_a_state_directory_there_is_no_log() {
    let shop = closed();
    fs::remove_dir(shop.root.at(".oxistrano")).unwrap();
    let reply = shop.run("magento_upgrade", both()).changed();
    assert!(reply["log"].is_null(), "{reply}");
    assert!(!shop.root.has(".oxistrano"));
    shop.answer("setup:upgrade", "exit 1");
    let reply = shop.run("magento_upgrade", both()).failed("upgrade_failed");
    assert!(!reply.msg().contains("All output"), "{reply}");
}

#[test]
fn the_log_is_never_written_through_a_link() {
    let shop = closed();
    let root = &shop.root;
    let precious = root.beside("precious");
    fs::write(&precious, "precious").unwrap();
    symlink(&precious, root.at(LOG)).unwrap();
    let reply = shop.run("magento_upgrade", both()).changed();
    assert!(root.at(LOG).symlink_metadata().unwrap().is_file());
    assert_eq!(root.mode(LOG) & 0o137, 0, "not for everybody");
    assert!(!reply["log"].is_null());

    fs::remove_file(root.at(LOG)).unwrap();
    fs::create_dir(root.at(LOG)).unwrap();
    let reply = shop.run("magento_upgrade", both()).changed();
    reply.warns("the output is not logged");
    assert!(reply["log"].is_null());

    fs::remove_dir_all(root.at(".oxistrano")).unwrap();
    let elsewhere = root.beside("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, root.at(".oxistrano")).unwrap();
    shop.run("magento_upgrade", both()).changed().warns("the output is not logged");
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
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

#[test]
fn whatever_the_web_user_puts_in_the_place_of_config_php_is_neither_waited_for_nor_read() {
    let kinds: [(&str, &[&str]); 4] = [
        ("a FIFO", &["mkfifo"]),
        ("an endless file", &["ln", "-s", "/dev/zero"]),
        ("a file with a hole of 200 GB", &["truncate", "-s", "200G"]),
        ("a directory", &["mkdir"]),
    ];
    for (what, command) in kinds {
        let shop = closed();
        shop.answer("setup:upgrade", UPGRADE);
        for release in ["1", "2"] {
            let config = shop.root.at(format!("releases/{release}/app/etc/config.php"));
            fs::remove_file(&config).unwrap();
            let mut make = std::process::Command::new(command[0]);
            let made = make.args(&command[1..]).arg(&config).status().unwrap();
            assert!(made.success(), "{what}");
        }
        let began = Instant::now();
        let reply = shop.run("magento_upgrade", both()).changed();
        assert!(began.elapsed() < Duration::from_secs(30), "{what}: {:?}", began.elapsed());
        assert!(!reply.to_string().contains("config.php"), "{what}: {reply}");
    }
}
