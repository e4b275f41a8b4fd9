//! `php_fpm` on a real php-fpm: what opcache serves, and what the module makes of it.

use std::fs;
use std::os::unix::fs::symlink;
use std::thread;

use crate::common::{Fpm, SECOND, Setup, get};
use oxistrano_harness::{Value, json, not_checked};

fn ini(lines: &[&str]) -> Setup {
    Setup { ini: lines.iter().map(|line| (*line).to_owned()).collect(), ..Setup::default() }
}

#[test]
fn with_realpath_root_nothing_is_needed_and_nothing_done() {
    let Some(fpm) = Fpm::start(Setup::default()) else { return };
    assert_eq!(fpm.by_realpath(), "release 1");
    fpm.switch("2");
    assert_eq!(fpm.by_realpath(), "release 2");
    let before = fpm.status();
    let reply = fpm.fresh().unchanged();
    assert_eq!((&reply["needed"], &reply["nearly_full"]), (&json!(false), &json!(false)));
    reply.says(["$realpath_root"]);
    reply.has_no_warnings();
    let after = fpm.status();
    assert_eq!((&before["scripts"], &after["manual_restarts"]), (&after["scripts"], &json!(0)));
}

#[test]
fn with_document_root_the_old_release_is_served_until_the_module_acts() {
    let Some(fpm) = Fpm::start(Setup::default()) else { return };
    // A link that is not older than the cache, be it of the same second: it may not be told which was first.
    fpm.switch("1");
    assert_eq!(fpm.by_link(), "release 1");
    let reply = fpm.fresh().changed();
    reply.says(["reset opcache", "current/pub/index.php"]);
    assert_eq!(fpm.by_link(), "release 1");
    fpm.switch("2");
    assert_eq!(fpm.by_link(), "release 1", "trap 3: this is what the module is for");
    let check = fpm.run(json!({"_ansible_check_mode": true})).changed();
    check.says(["would have reset opcache"]);
    assert_eq!(fpm.by_link(), "release 1");
    let reply = fpm.fresh().changed();
    assert_eq!((&reply["needed"], &reply["method"]), (&json!(true), &json!("reset")));
    // Both workers' own caches of paths are gone as well.
    assert_eq!(fpm.by_link(), "release 2");
    assert_eq!(reply["warmed"]["failed"], json!([]), "{reply}");
    assert!(reply["warmed"]["compiled"].as_u64().unwrap() >= 12, "{reply}");
    // A second later it can be told that opcache is younger than the switch.
    thread::sleep(2 * SECOND);
    let _ = fpm.fresh();
    thread::sleep(2 * SECOND);
    let reply = fpm.fresh().unchanged();
    reply.says(["restarted after the switch"]);
    assert_eq!(fpm.by_link(), "release 2");
}

#[test]
fn other_ways_to_current_are_found_or_can_be_named() {
    let Some(fpm) = Fpm::start(Setup::default()) else { return };
    symlink(fpm.root(), fpm.scratch.path().join("www")).unwrap();
    let path = fpm.scratch.path().join("www/current/pub/index.php");
    assert_eq!(fpm.by(&path), "release 1");
    fpm.switch("2");
    // A worker that answered by it knows the path; both have.
    let reply = fpm.run(json!({"_ansible_check_mode": true})).changed();
    reply.says(["www/current/pub/index.php"]);
    let named = fpm.scratch.path().join("www/current");
    let _ = fpm.run(json!({"served_as": [named.to_str()]})).changed();
    assert_eq!(fpm.get(&path).unwrap().body, b"release 2");
}

#[test]
fn a_directory_in_place_of_the_link_is_old_when_files_were_replaced() {
    let Some(fpm) = Fpm::start(Setup::default()) else { return };
    fs::remove_file(fpm.at("current")).unwrap();
    fs::rename(fpm.at("releases/1"), fpm.at("current")).unwrap();
    assert_eq!(fpm.by_link(), "release 1");
    // Files that were there before opcache began are no reason; those of this second may be.
    fpm.write("current/lib.php", "<?php function version() { return 'release 2'; }");
    assert_eq!(fpm.by_link(), "release 1");
    let reply = fpm.fresh().changed();
    reply.says(["files were replaced"]);
    assert_eq!(fpm.by_link(), "release 2");
    thread::sleep(2 * SECOND);
    let _ = fpm.fresh();
    thread::sleep(2 * SECOND);
    fpm.fresh().unchanged().says(["no cached file was replaced"]);
}

#[test]
fn with_times_checked_the_workers_memory_of_paths_is_what_is_old() {
    let setup = ini(&["opcache.validate_timestamps=1", "opcache.revalidate_freq=0"]);
    let Some(fpm) = Fpm::start(setup) else { return };
    assert_eq!(fpm.by_link(), "release 1");
    fpm.switch("2");
    assert_eq!(fpm.by_link(), "release 1", "the realpath cache of the workers");
    let reply = fpm.fresh().changed();
    reply.says(["workers remember for a while"]);
    assert_eq!(fpm.by_link(), "release 2");
}

#[test]
fn the_new_release_is_compiled_before_the_switch() {
    let Some(fpm) = Fpm::start(Setup::default()) else { return };
    assert_eq!(fpm.by_realpath(), "release 1");
    let before = fpm.status();
    assert_eq!(before["scripts"], 12);
    let check = fpm.run(json!({
        "state": "warmed", "release_path": fpm.at("releases/2").to_str(), "_ansible_check_mode": true,
    }));
    check.changed().says(["would compile"]);
    assert_eq!(fpm.status()["scripts"], 12);
    let reply = fpm.warm("2").changed();
    assert_eq!(reply["warmed"]["compiled"], 12, "{reply}");
    assert_eq!((&reply["fits"], &reply["live_scripts"]), (&json!(true), &json!(12)));
    reply.has_no_warnings();
    // Cached for the web, and nothing of ours beside it.
    assert_eq!(fpm.status()["scripts"], 24);
    let again = fpm.warm("2").unchanged();
    assert_eq!(again["warmed"]["cached"], 12);
    fpm.switch("2");
    let before = fpm.status();
    assert_eq!(fpm.by_realpath(), "release 2");
    let after = fpm.status();
    assert_eq!(after["scripts"], before["scripts"], "the first visitor compiles nothing");
    // Each question of ours is a miss of its own: it is not kept.
    let misses = |figures: &Value| figures["misses"].as_u64().unwrap();
    assert_eq!(misses(&after), misses(&before) + 1);
}

#[test]
fn what_cannot_be_compiled_is_named_and_the_rest_is_compiled() {
    let Some(fpm) = Fpm::start(Setup::default()) else { return };
    assert_eq!(fpm.by_realpath(), "release 1");
    fpm.write("releases/2/src/C3.php", "<?php class {");
    fpm.write("releases/2/src/C4.php", "<?php use A\\C4; class C4 {}");
    fs::remove_file(fpm.at("releases/2/src/C5.php")).unwrap();
    let reply = fpm.warm("2").changed();
    assert_eq!(reply["warmed"]["compiled"], 9, "{reply}");
    assert_eq!(reply["warmed"]["missing"], 1, "{reply}");
    reply.warns("2 of the release's scripts cannot be compiled");
    reply.warns("src/C3.php (syntax error");
    reply.warns("in line 1");
}

#[test]
fn files_just_written_are_waited_for() {
    let Some(fpm) = Fpm::start(Setup::default()) else { return };
    assert_eq!(fpm.by_realpath(), "release 1");
    // opcache.file_update_protection is 2 s.
    fs::write(fpm.at("releases/2/lib.php"), "<?php function version() { return 'x'; }").unwrap();
    let reply = fpm.warm("2").changed();
    assert_eq!(reply["warmed"]["compiled"], 12, "{reply}");
    let future = fs::File::options().write(true).open(fpm.at("releases/2/lib.php")).unwrap();
    future.set_modified(std::time::SystemTime::now() + 1000 * SECOND).unwrap();
    let _ = fpm.run(json!({"state": "reset"})).changed();
    assert_eq!(fpm.by_realpath(), "release 1");
    let reply = fpm.warm("2").changed();
    assert_eq!(reply["warmed"]["left_out"], 1, "{reply}");
    reply.warns("their times are in the future");
}

#[test]
fn what_was_emptied_on_request_is_filled_again_for_the_live_release() {
    let Some(fpm) = Fpm::start(Setup::default()) else { return };
    assert_eq!(fpm.by_realpath(), "release 1");
    fpm.switch("2");
    for state in ["reset", "reloaded"] {
        let reply = fpm.run(json!({"state": state})).changed();
        // All that release 1 was seen to use.
        assert!(reply["warmed"]["compiled"].as_u64().unwrap() >= 12, "{state}: {reply}");
        assert_eq!(fpm.by_realpath(), "release 2");
    }
}

#[test]
fn another_root_than_the_pools_is_no_silent_reason_to_leave_it_cold() {
    let Some(fpm) = Fpm::start(Setup::default()) else { return };
    let other = fpm.at("other");
    fs::create_dir_all(other.join("releases/1")).unwrap();
    for state in ["reset", "reloaded"] {
        let run = || fpm.run(json!({"state": state, "deploy_to": other.to_str()})).changed();
        assert_eq!(fpm.by_realpath(), "release 1");
        let _ = fs::remove_file(other.join("current"));
        run().warns("does not point to a release");
        assert_eq!(fpm.by_realpath(), "release 1");
        symlink("releases/1", other.join("current")).unwrap();
        run().warns("set deploy_to to the root that this pool serves");
        // Nothing is cached, and so nothing is missed.
        assert_eq!(run()["warnings"], Value::Null);
    }
}

#[test]
fn with_nothing_to_learn_from_the_entry_points_are_compiled() {
    let Some(fpm) = Fpm::start(Setup::default()) else { return };
    let reply = fpm.warm("2").changed();
    assert_eq!(reply["warmed"]["compiled"], 1, "{reply}");
    reply.warns("only the entry points");
    // The first deploy: nothing is live.
    fs::remove_file(fpm.at("current")).unwrap();
    let _ = fpm.warm("2").unchanged();
    fpm.fresh().failed("nothing_live").says(["does not point to a release"]);
    fpm.warm("7").failed("no_release").says(["releases/7' does not exist"]);
}

#[test]
fn pages_of_the_new_release_can_be_asked_for_before_the_switch() {
    let Some(fpm) = Fpm::start(Setup::default()) else { return };
    fpm.write(
        "releases/2/pub/index.php",
        "<?php $s = $_SERVER; if (($s['MAGE_RUN_CODE'] ?? '') !== 'b2b') { http_response_code(500); } \
         if ($s['REQUEST_URI'] === '/gone') { http_response_code(404); } \
         if ($s['HTTPS'] !== 'on' || $s['HTTP_HOST'] !== 'shop.example' || \
             $s['DOCUMENT_ROOT'] !== __DIR__ || $_GET !== ['a' => '1']) { http_response_code(400); }",
    );
    let reply = fpm.run(json!({
        "state": "warmed",
        "release_path": fpm.at("releases/2").to_str(),
        "requests": ["https://shop.example/x?a=1", "https://shop.example/gone?a=1", "https://other/"],
        "request_params": {"MAGE_RUN_CODE": "b2b"},
    }));
    let statuses: Vec<_> = (0..3).map(|at| reply["requests"][at]["status"].clone()).collect();
    assert_eq!(statuses, [json!(200), json!(200), json!(400)], "{reply}");
    assert_eq!(reply["requests"][0]["ok"], true);
    reply.warns("https://other/ (400)");
    assert_eq!(fpm.by_realpath(), "release 1");
}

/// A release with so much code that few of them fit.
fn large(fpm: &Fpm, version: &str) {
    for index in 0..10 {
        let functions: String = (0..1200)
            .map(|f| format!("function f{index}_{f}() {{ return [{f}, '{version}{f}']; }}\n"))
            .collect();
        fpm.write(&format!("releases/{version}/src/C{index}.php"), &format!("<?php {functions}"));
    }
}

/// 8 MB is the least that opcache takes; the strings have their own part of it.
fn small() -> Setup {
    ini(&["opcache.memory_consumption=12", "opcache.interned_strings_buffer=2"])
}

#[test]
fn a_cache_without_room_for_another_release_is_said_and_emptied_on_request() {
    let Some(fpm) = Fpm::start(small()) else { return };
    for version in ["1", "2", "3"] {
        fpm.release(version);
        large(&fpm, version);
    }
    assert_eq!(fpm.by_realpath(), "release 1");
    let used = fpm.status()["memory_used"].as_u64().unwrap();
    let warmed = fpm.warm("2").changed();
    let reply = match &warmed["fits"] {
        Value::Bool(true) => {
            fpm.switch("2");
            fpm.fresh().unchanged()
        }
        _ => {
            warmed.warns("no room for the whole release");
            fpm.fresh().unchanged()
        }
    };
    assert_eq!((&reply["needed"], &reply["nearly_full"]), (&json!(false), &json!(true)), "{used}");
    reply.warns("when_full");
    reply.warns("opcache.memory_consumption");
    let warmed = fpm.warm("3");
    assert_eq!(warmed["fits"], false, "{warmed}");
    warmed.warns("no room for the whole release");
    assert_eq!(fpm.status()["full"], false, "the shop keeps room for its requests");
    let reply = fpm.run(json!({"when_full": "reset"})).changed();
    reply.says(["reset opcache"]);
    assert_eq!(fpm.status()["manual_restarts"], 1);
}

#[test]
fn a_full_cache_cannot_tell_so_it_is_emptied() {
    let lines = ["opcache.memory_consumption=8", "opcache.interned_strings_buffer=2"];
    let Some(fpm) = Fpm::start(ini(&lines)) else { return };
    // opcache calls itself full when not even 64 kB are free in one piece.
    for index in 0..400 {
        let functions: String =
            (0..100).map(|f| format!("function f{f}() {{ return {f}; }}\n")).collect();
        let name = format!("releases/1/src/bulk{index}.php");
        fpm.write(&name, &format!("<?php {functions}"));
        assert_eq!(fpm.get(fpm.at(&name)).unwrap().status, 200);
    }
    assert_eq!(fpm.status()["full"], true);
    fpm.switch("2");
    let reply = fpm.fresh().changed();
    assert_eq!((&reply["needed"], &reply["nearly_full"]), (&json!(true), &json!(true)));
    reply.says(["opcache is full", "may still serve old code"]);
    assert_eq!(fpm.status()["full"], false);
}

#[test]
fn keys_run_out_as_well() {
    // 223 is the least.
    let Some(fpm) = Fpm::start(ini(&["opcache.max_accelerated_files=200"])) else { return };
    for index in 0..120 {
        for version in ["1", "2"] {
            fpm.write(&format!("releases/{version}/src/bulk{index}.php"), "<?php");
        }
        let path = fpm.at(&format!("releases/1/src/bulk{index}.php"));
        assert_eq!(fpm.get(path).unwrap().status, 200);
    }
    let reply = fpm.fresh().unchanged();
    assert_eq!((&reply["needed"], &reply["nearly_full"]), (&json!(false), &json!(true)));
    let warmed = fpm.warm("2").changed();
    assert_eq!(warmed["fits"], false);
    warmed.warns("opcache.max_accelerated_files");
    let keys = |name: &str| fpm.status()[name].as_u64().unwrap();
    assert!(keys("keys") < keys("max_keys"), "some are left for requests");
}

#[test]
fn a_reset_waits_for_requests_that_use_the_cache() {
    let Some(fpm) = Fpm::start(Setup::default()) else { return };
    let (address, path) = (fpm.address.clone(), fpm.at("releases/1/pub/slow.php"));
    let slow = thread::spawn(move || get(&address, &path));
    thread::sleep(SECOND / 2);
    let reply = fpm.run(json!({"state": "reset", "timeout": 1})).failed("reset_failed");
    reply.says(["still running", "The reset is pending"]);
    // It goes on waiting for the same one.
    let _ = fpm.run(json!({"state": "reset"})).changed();
    assert_eq!(slow.join().unwrap().unwrap().body, b"slept");
    let status = fpm.status();
    assert_eq!(
        (&status["manual_restarts"], &status["restart_pending"]),
        (&json!(1), &json!(false))
    );
}

#[test]
fn a_pool_whose_workers_are_all_busy_is_not_waited_for_for_ever() {
    let setup = Setup { pool: "pm.max_children = 1\n".to_owned(), ..Setup::default() };
    let Some(fpm) = Fpm::start(setup) else { return };
    let (address, path) = (fpm.address.clone(), fpm.at("releases/1/pub/slow.php"));
    let slow = thread::spawn(move || get(&address, &path));
    thread::sleep(SECOND / 2);
    let reply = fpm.run(json!({"state": "status", "timeout": 1})).failed("fastcgi_timeout");
    reply.says(["probably all are busy", "pm.max_children"]);
    assert_eq!(slow.join().unwrap().unwrap().status, 200);
}

#[test]
fn without_opcache_there_is_nothing_to_do() {
    let Some(fpm) = Fpm::start(ini(&["opcache.enable=0"])) else { return };
    fpm.fresh().unchanged().says(["opcache is not enabled"]);
    fpm.warm("2").unchanged().says(["nothing to warm"]);
    fpm.run(json!({"state": "reset"})).failed("reset_failed").says(["switched off"]);
    assert_eq!(fpm.status()["enabled"], false);
}

#[test]
fn what_keeps_a_script_from_running_is_said() {
    let pool = |line: &str| Setup { pool: line.to_owned(), ..Setup::default() };
    let Some(fpm) = Fpm::start(pool("security.limit_extensions = .php8\n")) else { return };
    fpm.fresh().failed("script_not_run").says(["security.limit_extensions"]);
    drop(fpm);
    let Some(fpm) = Fpm::start(pool("php_admin_value[open_basedir] = /nonexistent\n")) else {
        return;
    };
    fpm.fresh().failed("script_not_run").says([
        "open_basedir forbids it",
        "/nonexistent",
        "script_dir",
    ]);
    drop(fpm);
    let Some(fpm) = Fpm::start(ini(&["opcache.restrict_api=/nonexistent"])) else { return };
    fpm.fresh().failed("opcache_unavailable").says(["restrict_api", "/nonexistent", "script_dir"]);
    drop(fpm);
    let Some(fpm) = Fpm::start(ini(&["disable_functions=opcache_reset,getmypid,ini_set"])) else {
        return;
    };
    fpm.fresh().failed("opcache_unavailable").says(["disable_functions has opcache_reset"]);
}

#[test]
fn restricted_or_based_elsewhere_it_works_with_a_directory_that_is_allowed() {
    let scratch = tempfile::tempdir().unwrap();
    let allowed = scratch.path().to_str().unwrap().to_owned();
    fs::set_permissions(&allowed, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let setup = Setup {
        pool: format!("php_admin_value[open_basedir] = {allowed}\n"),
        ini: vec![format!("opcache.restrict_api={allowed}")],
        ..Setup::default()
    };
    let Some(fpm) = Fpm::start(setup) else { return };
    let _ = fpm.run(json!({"state": "reset", "script_dir": allowed})).changed();
    assert_eq!(fs::read_dir(&allowed).unwrap().count(), 0);
    let reply = fpm.run(json!({"state": "reset", "script_dir": "/nonexistent/none"}));
    reply.failed("script_not_run").says(["'/nonexistent/none'", "set script_dir"]);
}

#[test]
fn a_pool_with_another_root_is_known_by_its_configuration() {
    if !oxistrano_harness::is_root() {
        return not_checked("a pool with chroot");
    }
    let root = tempfile::tempdir().unwrap();
    fs::set_permissions(root.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let pool = format!("chroot = {}\n", root.path().display());
    let Some(fpm) = Fpm::start(Setup { pool, ..Setup::default() }) else { return };
    let reply = fpm.fresh().failed("script_not_run");
    reply.says(["another root directory", root.path().to_str().unwrap(), "chroot"]);
    let reply = fpm.run(json!({"state": "reloaded"})).changed();
    reply.warns("verified only by the process list");
}

#[test]
fn it_prefers_the_state_directory_and_cleans_up_after_killed_runs() {
    let Some(fpm) = Fpm::start(Setup::default()) else { return };
    let left = fpm.at(".oxistrano/.oxistrano-php-fpm.4194999.0123");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("ask.php"), "<?php").unwrap();
    let _ = fpm.fresh();
    assert!(!left.exists());
    assert_eq!(fs::read_dir(fpm.at(".oxistrano")).unwrap().count(), 0);
    // One that the pool cannot pass through is no obstacle.
    fs::set_permissions(fpm.at(".oxistrano"), std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .unwrap();
    assert_eq!(fpm.status()["enabled"], true);
}

#[test]
fn code_around_the_script_does_not_disturb() {
    let scratch = tempfile::tempdir().unwrap();
    fs::set_permissions(scratch.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let before = scratch.path().join("before.php");
    fs::write(&before, "<?php echo '{\"opcache\": \"hostile\"}'; register_shutdown_function(function () { echo '}}'; });")
        .unwrap();
    let setup = ini(&[
        &format!("auto_prepend_file={}", before.display()),
        "variables_order=GPC",
        "output_buffering=4096",
    ]);
    let Some(fpm) = Fpm::start(setup) else { return };
    assert_eq!(fpm.status()["enabled"], true);
}
