//! `magento_cache` with `state: prefixed`: an `env.php` for one release.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use oxistrano_harness::{Manifest, Reply, Shop, Value, is_root, json, not_checked};

const ENV: &str = "releases/2/app/etc/env.php";
const SHARED: &str = "shared/app/etc/env.php";
const CONFIGURATION: &str = "<?php
return [
    'backend' => ['frontName' => 'admin'],
    'db' => ['connection' => ['default' => ['password' => 'it\\'s \"secret\"']]],
    'cache' => [
        'frontend' => [
            'default' => ['backend' => 'Redis', 'id_prefix' => 'old_'],
            'third' => ['id_prefix' => 'kept_'],
        ],
    ],
];
";

fn shop() -> Shop {
    let shop = Shop::new();
    shop.root.write(SHARED, CONFIGURATION);
    shop
}

#[track_caller]
fn prefix(shop: &Shop, prefix: &str) -> Reply {
    shop.run("magento_cache", json!({"state": "prefixed", "prefix": prefix}))
}

/// What PHP reads from a file; `None` where there is no PHP.
fn read_by_php(file: &Path) -> Option<Value> {
    let mut php = Command::new("php");
    php.args([
        "-n",
        "-d",
        "display_errors=stderr",
        "-r",
        "echo json_encode(require $argv[1]);",
        "--",
    ]);
    let Ok(output) = php.arg(file).output() else {
        not_checked("what PHP reads; it is not installed");
        return None;
    };
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    Some(text.parse().expect("JSON"))
}

#[test]
fn php_reads_the_shared_configuration_with_the_prefix() {
    let shop = shop();
    let _ = prefix(&shop, "20260824101500Z_").changed();
    let file = shop.root.at(ENV);
    assert!(file.symlink_metadata().unwrap().is_file());
    assert_eq!(shop.root.read(SHARED), CONFIGURATION);
    let Some(read) = read_by_php(&file) else { return };
    let mut expected = read_by_php(&shop.root.at(SHARED)).unwrap();
    let frontends = &mut expected["cache"]["frontend"];
    frontends["default"]["id_prefix"] = "20260824101500Z_".into();
    frontends["page_cache"]["id_prefix"] = "20260824101500Z_".into();
    assert_eq!(read, expected);
    // Through `current`, too, and after the shared one has changed.
    fs::remove_file(shop.root.at("current")).unwrap();
    shop.root.link("current", "./releases/2");
    shop.root.write(SHARED, "<?php return ['new' => true];");
    let read = read_by_php(&shop.root.at("current/app/etc/env.php")).unwrap();
    assert_eq!(
        (&read["new"], &read["cache"]["frontend"]["page_cache"]["id_prefix"]),
        (&json!(true), &json!("20260824101500Z_"))
    );
}

#[test]
fn php_reads_it_also_through_an_absolute_link_with_an_odd_name() {
    let shop = shop();
    let odd = shop.root.beside("a $HOME {$x} ?> \"dir\"");
    fs::create_dir(&odd).unwrap();
    fs::write(odd.join("env.php"), CONFIGURATION).unwrap();
    fs::remove_file(shop.root.at(ENV)).unwrap();
    symlink(odd.join("env.php"), shop.root.at(ENV)).unwrap();
    let _ = prefix(&shop, "2_").changed();
    let Some(read) = read_by_php(&shop.root.at(ENV)) else { return };
    assert_eq!(read["cache"]["frontend"]["default"]["id_prefix"], "2_");
    assert_eq!(read["backend"]["frontName"], "admin");
}

#[test]
fn once_is_enough_and_another_prefix_takes_its_place() {
    let shop = shop();
    let arguments = json!({"state": "prefixed", "prefix": "2_"});
    let _ = shop.check("magento_cache", arguments.clone()).changed();
    let _ = prefix(&shop, "2_").changed();
    let before = Manifest::exact(&shop.root.path());
    let _ = prefix(&shop, "2_").unchanged();
    let _ = shop.check("magento_cache", arguments).unchanged();
    before.assert_same(&Manifest::exact(&shop.root.path()));
    let kept = json!({"state": "prefixed", "prefix": "3_", "keep": true});
    assert_eq!(shop.run("magento_cache", kept).unchanged()["prefix"], "2_");
    let _ = prefix(&shop, "3_").changed();
    if let Some(read) = read_by_php(&shop.root.at(ENV)) {
        assert_eq!(read["cache"]["frontend"]["default"]["id_prefix"], "3_");
    }
    // The module still finds a Magento with a configuration there.
    shop.answer("cache:flush", "echo 'Flushed cache types:'");
    let _ = shop.run("magento_cache", json!({})).changed();
    assert_eq!(
        shop.root.target("releases/1/app/etc/env.php"),
        "../../../../shared/app/etc/env.php"
    );
}

#[test]
fn a_prefix_that_is_none_is_refused() {
    let shop = shop();
    let before = Manifest::exact(&shop.root.path());
    for wrong in ["", "a b", "'; system('id'); '", "a\\", "ü", "a\n", "<?php"] {
        let reply = prefix(&shop, wrong).failed("no_prefix");
        reply.says(["may contain only letters, digits, _, - and .", "Nothing was changed."]);
    }
    let reply = shop.run("magento_cache", json!({"state": "prefixed"}));
    reply.failed("invalid_arguments").says(["prefix is required with state=prefixed"]);
    before.assert_same(&Manifest::exact(&shop.root.path()));
}

#[test]
fn a_file_of_the_releases_own_is_read_as_well() {
    let shop = shop();
    fs::remove_file(shop.root.at(ENV)).unwrap();
    shop.root.write(ENV, CONFIGURATION);
    fs::set_permissions(shop.root.at(ENV), fs::Permissions::from_mode(0o640)).unwrap();
    let _ = shop.check("magento_cache", json!({"state": "prefixed", "prefix": "2_"})).changed();
    assert_eq!(shop.root.read(ENV), CONFIGURATION);
    let _ = prefix(&shop, "2_").changed();
    let own = "releases/2/app/etc/env.own.php";
    assert_eq!((shop.root.read(own).as_str(), shop.root.mode(own)), (CONFIGURATION, 0o640));
    let _ = prefix(&shop, "2_").unchanged();
    // Killed between the two steps.
    fs::remove_file(shop.root.at(ENV)).unwrap();
    let _ = prefix(&shop, "2_").changed();
    if let Some(read) = read_by_php(&shop.root.at(ENV)) {
        assert_eq!(read["backend"]["frontName"], "admin");
        assert_eq!(read["cache"]["frontend"]["default"]["id_prefix"], "2_");
    }
    // None at all.
    fs::remove_file(shop.root.at(own)).unwrap();
    fs::remove_file(shop.root.at(ENV)).unwrap();
    let _ = prefix(&shop, "2_").failed("no_prefix");
    assert!(!shop.root.has(ENV));
}

#[test]
fn what_magento_would_refuse_in_a_key_is_written_otherwise() {
    let shop = shop();
    let reply = prefix(&shop, "v1.2-rc_").changed();
    assert_eq!(reply["prefix"], "v1_2e_2_2d_rc_", "{reply}");
    assert!(shop.root.read(ENV).contains("'v1_2e_2_2d_rc_'"));
}

/// What Magento makes of the live release's file when it changes something.
const WRITTEN: &str = "<?php
return [
    'cache' => ['frontend' => ['default' => ['id_prefix' => '1_'], 'page_cache' => ['id_prefix' => '1_']]],
    'cache_types' => ['layout' => 0],
];
";
const LIVE: &str = "releases/1/app/etc/env.php";

/// Release 1 is live with a prefix, and Magento has written into its file.
fn written() -> (Shop, Value) {
    let shop = shop();
    let path = shop.root.at("releases/1");
    let arguments = json!({"state": "prefixed", "prefix": "1_", "path": path.to_str()});
    let _ = shop.run("magento_cache", arguments).changed();
    shop.root.write(LIVE, WRITTEN);
    let live = shop.root.at("current");
    let arguments = json!({"state": "prefixed", "prefix": "2_", "live": live.to_str()});
    (shop, arguments)
}

#[test]
fn what_magento_has_written_into_the_live_release_is_not_lost_with_it() {
    let (shop, arguments) = written();
    let mode = fs::Permissions::from_mode(0o660);
    fs::set_permissions(shop.root.at(SHARED), mode).unwrap();
    let before = Manifest::exact(&shop.root.path());
    assert_eq!(shop.check("magento_cache", arguments.clone()).changed()["carried"], true);
    before.assert_same(&Manifest::exact(&shop.root.path()));
    assert_eq!(shop.run("magento_cache", arguments.clone()).changed()["carried"], true);
    assert_eq!((shop.root.read(SHARED).as_str(), shop.root.mode(SHARED)), (WRITTEN, 0o660));
    for (file, prefix) in [(LIVE, "1_"), (ENV, "2_")] {
        let Some(read) = read_by_php(&shop.root.at(file)) else { return };
        assert_eq!(read["cache_types"]["layout"], 0, "{file}");
        assert_eq!(read["cache"]["frontend"]["default"]["id_prefix"], prefix);
    }
    let reply = shop.run("magento_cache", arguments).unchanged();
    assert_eq!(reply["carried"], false);
    assert_eq!(reply["live"], shop.root.at("releases/1").canonicalize().unwrap().to_str().unwrap());
}

#[test]
fn what_both_have_changed_is_for_a_person_to_decide() {
    let (shop, arguments) = written();
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    fs::File::open(shop.root.at(SHARED)).unwrap().set_modified(later).unwrap();
    let reply = shop.run("magento_cache", arguments.clone()).changed();
    assert_eq!(reply["carried"], false, "{reply}");
    assert!(reply["warnings"].to_string().contains("the shared file is newer"), "{reply}");
    assert_eq!(
        (shop.root.read(SHARED), shop.root.read(LIVE)),
        (CONFIGURATION.into(), WRITTEN.into())
    );
    // Nor is what never was ours.
    shop.root.write(LIVE, "<?php return ['own' => 1];");
    let reply = shop.run("magento_cache", arguments.clone()).unchanged();
    assert!(reply["warnings"].to_string().contains("does not contain the cache prefix"), "{reply}");
    assert_eq!(shop.root.read(SHARED), CONFIGURATION);
    if !is_root() {
        return not_checked("files of different users");
    }
    let (shop, arguments) = written();
    std::os::unix::fs::chown(shop.root.at(LIVE), Some(33), Some(33)).unwrap();
    let reply = shop.run("magento_cache", arguments).changed();
    assert!(reply["warnings"].to_string().contains("belong to different users"), "{reply}");
    assert_eq!(shop.root.read(SHARED), CONFIGURATION);
}

#[test]
fn a_directory_that_releases_share_is_left_alone() {
    // Its env.php is the one of all releases, a link or not.
    let shop = shop();
    let root = &shop.root;
    fs::remove_dir_all(root.at("releases/2/app/etc")).unwrap();
    root.link("releases/2/app/etc", "../../../shared/app/etc");
    fs::rename(root.at(SHARED), root.beside("env.php")).unwrap();
    symlink(root.beside("env.php"), root.at(SHARED)).unwrap();
    let before = Manifest::exact(&root.path());
    let reply = prefix(&shop, "2_");
    assert_eq!(reply["failed"], true, "{reply}");
    reply.says(["releases/2/app/etc", "Nothing was changed."]);
    before.assert_same(&Manifest::exact(&root.path()));
}

#[test]
fn a_link_that_dangles_stays_seen_as_one() {
    let shop = shop();
    fs::remove_file(shop.root.at(SHARED)).unwrap();
    let before = Manifest::exact(&shop.root.path());
    let reply = prefix(&shop, "2_").failed("no_prefix");
    reply.says(["which is not a file", "Nothing was changed."]);
    before.assert_same(&Manifest::exact(&shop.root.path()));
}

#[test]
fn a_target_that_php_would_read_otherwise_is_refused() {
    let shop = shop();
    for name in ["it's", "back\\slash", "line\nend"] {
        let odd = shop.root.beside(name);
        fs::write(&odd, CONFIGURATION).unwrap();
        fs::remove_file(shop.root.at(ENV)).unwrap();
        symlink(&odd, shop.root.at(ENV)).unwrap();
        prefix(&shop, "2_").failed("no_prefix").says(["cannot be written as a PHP string"]);
        assert_eq!(fs::read_link(shop.root.at(ENV)).unwrap(), odd);
    }
}

#[test]
fn it_belongs_to_the_owner_of_its_directory() {
    if !is_root() {
        return not_checked("the owner of env.php");
    }
    let shop = shop();
    std::os::unix::fs::chown(shop.root.at("releases/2/app/etc"), Some(33), Some(65534)).unwrap();
    let _ = prefix(&shop, "2_").changed();
    assert_eq!(shop.root.owner(ENV), (33, 65534));
    assert_eq!(shop.root.mode(ENV), 0o644);
}
