//! `magento_status`: how PHP is run, and when it is not.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use oxistrano_harness::{Manifest, NOBODY, Shop, is_root, json, not_checked};

fn up_to_date() -> Shop {
    let shop = Shop::new();
    shop.answer("setup:db:status", &crate::common::database()[0].script);
    shop.answer("app:config:status", &crate::common::configuration()[0].script);
    shop
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

#[test]
fn both_commands_are_run_in_the_release_without_questions_and_colours() {
    let shop = up_to_date();
    let _ = shop.run("magento_status", json!({})).unchanged();
    let calls = ["app:config:status --no-ansi -n", "setup:db:status --no-ansi -n"];
    let magento = shop.root.at("releases/2/bin/magento").display().to_string();
    let calls = calls.map(|call| format!("{magento} {call}"));
    assert_eq!(sorted(shop.calls()), calls);
    assert_eq!(shop.left("directory"), format!("{}\n", shop.root.at("releases/2").display()));
}

#[test]
fn the_command_may_be_a_string_with_quotes() {
    let mut shop = up_to_date();
    let blank = shop.root.beside("a dir; with 'blanks' $HOME `x`");
    symlink(shop.directory(), &blank).unwrap();
    let quoted = blank.display().to_string().replace('\'', "'\\''");
    for php in [
        format!("sh '{quoted}/php' '{quoted}'"),
        format!("  sh   \"{}\"\t'{quoted}' ", shop.script().display()),
        format!("env -i PATH=/usr/bin:/bin sh {} '{quoted}'", shop.script().display()),
    ] {
        let reply = shop.run("magento_status", json!({"php": php})).unchanged();
        assert_eq!(reply["upgrade_needed"], false, "{php}");
    }
    assert_eq!(shop.calls().len(), 6);
    // No shell takes the string apart.
    let canary = shop.root.beside("canary");
    shop.set("CANARY", &canary);
    for evil in
        ["sh; touch $CANARY", "sh $(touch $CANARY)", "sh | touch $CANARY", "`touch $CANARY`"]
    {
        let _ = shop.run("magento_status", json!({"php": evil})).failed("cannot_tell");
    }
    assert!(!canary.exists());
}

#[test]
fn a_command_that_is_none_is_refused() {
    let shop = up_to_date();
    for (php, why) in [
        (json!("php 'x"), "quote that is not closed"),
        (json!("  "), "does not name a program"),
        (json!([]), "does not name a program"),
        (json!({"php": 1}), "a list of words or a string"),
        (json!([["php"]]), "its words must be strings"),
    ] {
        let reply = shop.run("magento_status", json!({"php": php})).failed("invalid_arguments");
        reply.says([why, "Nothing was changed."]);
    }
    assert!(shop.calls().is_empty());
}

#[test]
fn a_container_sees_the_release_elsewhere() {
    let shop = up_to_date();
    let arguments = json!({"path_for_php": "/app/releases/2"});
    let _ = shop.run("magento_status", arguments).unchanged();
    for call in shop.calls() {
        assert!(call.starts_with("/app/releases/2/bin/magento "), "{call}");
    }
    // An empty one is none, as a variable that is not set gives it.
    let _ = shop.run("magento_status", json!({"path_for_php": "", "user": ""})).unchanged();
    assert!(shop.calls()[2].starts_with(shop.root.path().to_str().unwrap()));
}

#[test]
fn the_environment_reaches_php() {
    let mut shop = up_to_date();
    shop.set("FROM_OUTSIDE", "kept");
    let script = "printf '%s|' \"$MAGE_MODE\" \"$NUMBER\" \"$YES\" \"${NO-unset}\" \"$EMPTY\" \
                  \"$FROM_OUTSIDE\" > \"$here/environment\"\n";
    shop.answer("setup:db:status", &format!("{script}{}", crate::common::database()[0].script));
    let environment = json!({
        "MAGE_MODE": "pro duction\n$HOME",
        "NUMBER": 7,
        "YES": true,
        "NO": false,
        "EMPTY": null,
    });
    let _ = shop.run("magento_status", json!({"environment": environment})).unchanged();
    assert_eq!(shop.left("environment"), "pro duction\n$HOME|7|1|||kept|");
}

#[test]
fn names_of_variables_that_no_environment_can_hold_are_refused_without_a_panic() {
    let shop = up_to_date();
    for (name, value) in [("A\0B", "s3cret"), ("", "s3cret"), ("A=B", "s3cret"), ("A", "s3cret\0")]
    {
        let reply = shop.run("magento_status", json!({"environment": {name: value}}));
        let reply = reply.failed("bad_environment");
        reply.says(["PHP was not started"]);
        assert!(!reply.msg().contains("s3cret"), "{reply}");
    }
    assert!(shop.calls().is_empty());
}

#[test]
fn without_a_configuration_php_is_not_started() {
    let shop = up_to_date();
    let env = shop.root.at("releases/2/app/etc/env.php");
    fs::remove_file(shop.root.at("shared/app/etc/env.php")).unwrap();
    let check = |says: &str| {
        let before = Manifest::exact(&shop.root.path());
        let reply = shop.run("magento_status", json!({})).failed("no_magento");
        reply.says([says, "PHP was not started; nothing was changed.", "ansistrano_shared_files"]);
        before.assert_same(&Manifest::exact(&shop.root.path()));
    };
    check("is a link to \"../../../../shared/app/etc/env.php\", which is not a file");
    fs::remove_file(&env).unwrap();
    check("there is no app/etc/env.php");
    fs::create_dir(&env).unwrap();
    check("app/etc/env.php");
    fs::remove_dir(&env).unwrap();
    symlink("env.php", &env).unwrap();
    check("which is not a file");
    assert!(shop.calls().is_empty());
}

#[test]
fn what_is_no_magento_is_refused() {
    let shop = up_to_date();
    let arguments = json!({"path": shop.root.at("releases/3")});
    let reply = shop.run("magento_status", arguments).failed("no_magento");
    reply.says(["releases/3", "there is no bin/magento", "PHP was not started"]);
    let reply = shop.run("magento_status", json!({"path": "releases/2"}));
    reply.failed("invalid_arguments").says(["path"]);
    assert!(shop.calls().is_empty());
}

#[test]
fn it_only_asks_in_check_mode_too() {
    let shop = up_to_date();
    shop.answer("setup:db:status", &crate::common::database()[1].script);
    let reply = shop.check("magento_status", json!({})).unchanged();
    assert_eq!(reply["upgrade_needed"], true, "{reply}");
}

#[test]
fn root_runs_it_as_the_shop_s_user() {
    if !is_root() {
        return not_checked("PHP as another user");
    }
    let shop = up_to_date();
    fs::set_permissions(shop.directory(), fs::Permissions::from_mode(0o777)).unwrap();
    let script = "{ id -u; id -g; id -G; echo \"$HOME $USER $LOGNAME\"; } > \"$here/who\"\n\
                  umask > \"$here/umask\"\n";
    shop.answer("setup:db:status", &format!("{script}{}", crate::common::database()[0].script));
    for user in ["www-data", "33"] {
        let _ = fs::remove_file(shop.directory().join("who"));
        let reply = shop.run("magento_status", json!({"user": user})).unchanged();
        reply.has_no_warnings();
        assert_eq!(shop.left("who"), "33\n33\n33\n/var/www www-data www-data\n");
        assert_eq!(fs::metadata(shop.directory().join("who")).unwrap().uid(), 33);
    }
    let set = json!({"user": "www-data", "environment": {"HOME": "/tmp"}});
    let _ = shop.run("magento_status", set).unchanged();
    assert!(shop.left("who").ends_with("/tmp www-data www-data\n"), "{}", shop.left("who"));

    let reply = shop.run("magento_status", json!({"user": "nobody-at-all"}));
    reply.failed("no_such_user").says(["the user 'nobody-at-all' does not exist"]);
    shop.run("magento_status", json!({"user": "root"})).unchanged().warns("PHP ran as root");
    shop.run("magento_status", json!({})).unchanged().warns("PHP ran as root");
}

#[test]
fn nobody_else_can_become_another_user() {
    if !is_root() {
        return not_checked("a module as nobody");
    }
    let shop = up_to_date();
    fs::set_permissions(shop.directory(), fs::Permissions::from_mode(0o777)).unwrap();
    let reply = shop.run_as(NOBODY, "magento_status", json!({"user": "www-data"}));
    reply.failed("cannot_tell").says(["only root can run it as www-data", "set become"]);
    assert!(shop.calls().is_empty());
    let reply = shop.run_as(NOBODY, "magento_status", json!({"user": "nobody"})).unchanged();
    reply.has_no_warnings();
}
