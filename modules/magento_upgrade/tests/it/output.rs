//! What Magento prints: in the result, in the log.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use crate::closed::{LOG, UPGRADE, both, closed, how, is_open};
use oxistrano_harness::json;

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
