//! `magento_status`: what is up to date, what is not, and what nobody can tell.

use oxistrano_harness::{Manifest, Reply, Shop, await_end, exception, fails, json};

/// A shop in which all is up to date.
fn up_to_date() -> Shop {
    let shop = Shop::new();
    shop.answer("setup:db:status", &crate::common::database()[0].script);
    shop.answer("app:config:status", &crate::common::configuration()[0].script);
    shop
}

/// The database's answer is this, the configuration's is "up to date".
#[track_caller]
fn database_answers(script: &str) -> Reply {
    let shop = up_to_date();
    shop.answer("setup:db:status", script);
    shop.run("magento_status", json!({"timeout": 20}))
}

/// That this says neither "up to date" nor "upgrade needed".
#[track_caller]
fn tells_nothing(script: &str) -> Reply {
    let reply = database_answers(script).failed("cannot_tell");
    assert_eq!(reply["database"]["state"], "cannot_tell", "{reply}");
    assert_eq!(reply["configuration"]["state"], "up_to_date", "{reply}");
    for key in ["upgrade_needed", "import_needed", "maintenance_needed"] {
        assert!(reply[key].is_null(), "{key} in {reply}");
    }
    reply.says(["cannot determine whether the shop needs an upgrade", "Nothing was changed."]);
    reply
}

#[test]
fn each_answer_of_one_command_with_each_of_the_other() {
    for database in crate::common::database() {
        for configuration in crate::common::configuration() {
            let shop = Shop::new();
            shop.answer("setup:db:status", &database.script);
            shop.answer("app:config:status", &configuration.script);
            let before = Manifest::exact(&shop.root.path());
            let reply = shop.run("magento_status", json!({}));
            before.assert_same(&Manifest::exact(&shop.root.path()));
            assert_eq!(reply["database"]["state"], database.state, "{reply}");
            assert_eq!(reply["configuration"]["state"], configuration.state, "{reply}");
            if [database.state, configuration.state].contains(&"cannot_tell") {
                let reply = reply.failed("cannot_tell");
                reply.says([database.reason, configuration.reason]);
                assert!(reply["maintenance_needed"].is_null(), "{reply}");
                continue;
            }
            let reply = reply.unchanged();
            let upgrade = database.state == "upgrade_needed";
            let import = configuration.state == "import_needed";
            assert_eq!(reply["upgrade_needed"], upgrade, "{reply}");
            assert_eq!(reply["import_needed"], import, "{reply}");
            assert_eq!(reply["maintenance_needed"], upgrade || import, "{reply}");
        }
    }
}

#[test]
fn one_reason_of_both_is_said_once() {
    let shop = Shop::new();
    shop.answer("setup:db:status", &crate::common::database()[3].script);
    shop.answer("app:config:status", &crate::common::configuration()[2].script);
    let reply = shop.run("magento_status", json!({})).failed("cannot_tell");
    reply.says(["setup:db:status and app:config:status: exit code 255: SQLSTATE"]);
    assert_eq!(reply.msg().matches("Connection refused").count(), 1, "{reply}");
}

#[test]
fn the_result_has_texts_codes_and_times() {
    let reply = database_answers(&crate::common::database()[1].script).unchanged();
    assert_eq!(reply["database"]["rc"], 2);
    let text = reply["database"]["stdout"].as_str().unwrap();
    assert!(text.starts_with("Declarative Schema is not up to date\nData patches"), "{text}");
    assert_eq!(reply["database"]["stderr"], "");
    assert!(reply["database"]["seconds"].is_number(), "{reply}");
    assert!(reply["database"]["reason"].is_null(), "{reply}");
    assert_eq!(reply["configuration"]["rc"], 0);
}

#[test]
fn a_code_without_magento_s_words_tells_nothing() {
    for (script, says) in [
        ("exit 0", "exit code 0 without any output"),
        ("echo yes", "exit code 0: yes"),
        ("echo \"Run 'setup:upgrade' to update your DB schema and data.\"", "exit code 0"),
        ("exit 2", "exit code 2 without any output"),
        ("echo 'sh: 1: Syntax error: Unterminated quoted string' >&2; exit 2", "Syntax error"),
        ("echo 'All modules are up to date.'; exit 2", "exit code 2"),
        ("echo 'All modules are up to date.'; exit 1", "exit code 1"),
        ("echo 'All modules are up to date.'; exit 255", "exit code 255"),
        ("echo 'sh: 1: php: not found' >&2; exit 127", "exit code 127: sh: 1: php: not found"),
        ("echo 'All modules are up to date.' >&2", "exit code 0"),
        ("echo 'Config files are up to date.'", "exit code 0"),
    ] {
        tells_nothing(script).says([says]);
    }
}

#[test]
fn a_fatal_error_and_redis_down_tell_nothing() {
    let fatal = "PHP Fatal error:  Allowed memory size of 134217728 bytes exhausted (tried to \
                 allocate 20480 bytes) in /srv/vendor/x.php on line 5";
    tells_nothing(&fails(255, fatal)).says(["Allowed memory size of 134217728 bytes exhausted"]);
    tells_nothing(
        "echo 'Connection to Redis tcp://127.0.0.1:6379 failed after 2 failures'; exit 1",
    )
    .says(["Connection to Redis tcp://127.0.0.1:6379 failed after 2 failures"]);
}

#[test]
fn killed_by_a_signal_tells_nothing() {
    tells_nothing("echo 'All modules are up to date.'; kill -9 $$").says(["exit code 137"]);
    tells_nothing("kill -15 $$").says(["exit code 143 without any output"]);
    tells_nothing("kill -2 $$").says(["exit code 130"]);
}

#[test]
fn words_among_warnings_colours_and_carriage_returns_are_read() {
    let warned = "echo 'PHP Warning:  Module \"imagick\" is already loaded in Unknown on line 0'
                  echo; echo 'Deprecated: Function strftime() is deprecated in x.php on line 1'";
    let reply = database_answers(&format!("{warned}; echo 'All modules are up to date.'"));
    assert_eq!(reply.unchanged()["upgrade_needed"], false);
    let needed = "printf '\\033[31mDeclarative Schema is not up to date\\033[39m\\r\\n\\033[33mRun \
                  '\"'setup:upgrade'\"' to update your DB schema and data.\\033[39m\\r\\n'; exit 2";
    let reply = database_answers(needed).unchanged();
    assert_eq!(reply["upgrade_needed"], true);
    let text = reply["database"]["stdout"].as_str().unwrap();
    assert!(!text.contains(['\u{1b}', '\r']), "{text:?}");
    let coloured = "printf '\\033[32;1mAll modules are up to date.\\033[39;22m\\r\\n'";
    assert_eq!(database_answers(coloured).unchanged()["upgrade_needed"], false);
    // A terminal's title, as some shells set it.
    let titled = "printf '\\033]0;deploy@shop\\007All modules are up to date.\\n'";
    assert_eq!(database_answers(titled).unchanged()["upgrade_needed"], false);
}

#[test]
fn garbage_tells_nothing() {
    tells_nothing("head -c 100000 /dev/urandom; exit 0");
    tells_nothing("head -c 100000 /dev/zero; exit 2");
    tells_nothing("head -c 100000 /dev/urandom >&2; exit 255");
    tells_nothing("printf '\\033['; exit 0");
    tells_nothing(&fails(1, "\nIn X.php line 1:\n"));
}

#[test]
fn huge_output_stays_out_of_the_result() {
    let huge =
        "head -c 50000000 /dev/zero | tr '\\0' 'x'; echo; echo 'All modules are up to date.'";
    let reply = database_answers(huge).unchanged();
    assert_eq!(reply["upgrade_needed"], false);
    let size = reply.value().to_string().len();
    assert!(size < 1_000_000, "{size} bytes of result");
    let text = reply["database"]["stdout"].as_str().unwrap();
    assert!(text.ends_with("All modules are up to date."), "the end says how it went");
}

#[test]
fn output_without_end_is_ended_and_stays_out_of_the_memory_and_the_result() {
    let shop = up_to_date();
    shop.answer("setup:db:status", "exec cat /dev/zero");
    let reply = shop.run("magento_status", json!({"timeout": 2})).failed("cannot_tell");
    reply.says(["did not end within 2 s"]);
    let size = reply.value().to_string().len();
    assert!(size < 1_000_000, "{size} bytes of result");
}

#[test]
fn a_timeout_ends_all_that_was_started() {
    let shop = up_to_date();
    shop.answer(
        "setup:db:status",
        // A child that ignores what it is asked, and its own child.
        "sh -c 'trap \"\" TERM; sleep 300 & echo $! >> \"$0\"; wait' \"$here/pids\" &
         echo $! >> \"$here/pids\"; echo $$ >> \"$here/pids\"
         echo 'All modules are up to date.'; sleep 300; exit 0",
    );
    let started = std::time::Instant::now();
    let reply = shop.run("magento_status", json!({"timeout": 1})).failed("cannot_tell");
    reply.says([
        "setup:db:status: `sh ",
        "did not end within 1 s and was stopped with all its processes",
    ]);
    assert!(started.elapsed().as_secs() < 20);
    let pids = shop.left("pids");
    assert_eq!(pids.lines().count(), 3, "{pids}");
    for pid in pids.lines() {
        await_end(pid);
    }
}

#[test]
fn what_it_leaves_in_the_background_holds_nobody_up() {
    let started = std::time::Instant::now();
    let reply = database_answers("echo 'All modules are up to date.'; sleep 30 & exit 0");
    assert_eq!(reply.unchanged()["upgrade_needed"], false);
    assert!(started.elapsed().as_secs() < 15);
}

#[test]
fn a_signal_to_the_module_tells_nothing() {
    let shop = up_to_date();
    shop.answer("setup:db:status", "echo $$ > \"$here/pid\"; exec sleep 300");
    let running = shop.start("magento_status", json!({}));
    let pid = shop.await_left("pid");
    let reply = running.terminate().failed("cannot_tell");
    reply.says(["interrupted by SIGTERM"]);
    await_end(&pid);
}

#[test]
fn php_that_is_missing_tells_nothing() {
    let shop = up_to_date();
    for php in [json!("/no/such/php8.2"), json!(["/no/such/php8.2", "-d", "x=1"])] {
        let reply = shop.run("magento_status", json!({"php": php})).failed("cannot_tell");
        reply.says([
            "the program /no/such/php8.2 does not exist",
            "install it, or set its full path",
        ]);
        assert_eq!(reply["database"]["state"], "cannot_tell");
        assert_eq!(reply["configuration"]["state"], "cannot_tell");
    }
    let not_executable = shop.root.at("current/bin/magento");
    let arguments = json!({"php": [not_executable]});
    shop.run("magento_status", arguments).failed("cannot_tell").says(["Permission denied"]);
    let true_and_false =
        [("true", "exit code 0 without any output"), ("false", "exit code 1 without any output")];
    for (php, says) in true_and_false {
        shop.run("magento_status", json!({"php": php})).failed("cannot_tell").says([says]);
    }
}

#[test]
fn a_message_of_several_lines_is_read_whole() {
    let message = "Please upgrade your database: Run \"bin/magento setup:upgrade\" from the Magento \
                   root directory.\nThe following modules are outdated:\nShop_Store schema: current \
                   version - none, required version - 1.0.0";
    let reply =
        tells_nothing(&fails(1, &exception(Some("DbStatusValidator.php line 75"), message)));
    reply.says([message.replace('\n', " ").as_str()]);
}
