//! Requests of a real php-fpm wait, and what php-fpm may do at the same time.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle, sleep};
use std::time::Instant;

use crate::common::{Fpm, SECOND, Setup, get};
use crate::holding::{
    Load, beside, hold, leads_to_fpm, path, processes, release, socket_of, started, waiting, within,
};
use oxistrano_fastcgi::{Request, Response};
use oxistrano_harness::{Value, json};
use rustix::process::Signal;

#[test]
fn requests_wait_and_each_is_answered_once() {
    let Some(fpm) = started(Setup::default()) else { return };
    let load = Load::on(&fpm);
    let before = socket_of(&fpm);
    hold(&fpm);
    let held = socket_of(&fpm);
    assert_ne!(before.ino(), held.ino());
    let looks = |one: &fs::Metadata| (one.mode(), one.uid(), one.gid());
    assert_eq!(looks(&before), looks(&held), "the web server may connect as before");
    sleep(SECOND / 5);
    let answered = load.answered();
    sleep(3 * SECOND);
    assert_eq!(load.answered(), answered, "nobody is answered while requests are held");
    let reply = fpm.run(json!({"state": "status"})).unchanged();
    assert_eq!((&reply["held"], &reply["waiting"]), (&json!(true), &json!(4)), "{reply}");
    assert_eq!(reply["master_pid"], fpm.pid(), "php-fpm itself is asked");
    fpm.run(json!({"state": "held"})).unchanged().says(["already held"]);
    release(&fpm);
    assert_eq!(socket_of(&fpm).ino(), before.ino());
    let (count, slowest) = load.end(&fpm);
    assert!(count > 40 && slowest > 3 * SECOND && slowest < 6 * SECOND, "{count}, {slowest:?}");
    fpm.run(json!({"state": "released"})).unchanged().says(["no requests are held"]);
    within(5 * SECOND, "the holder ends", || processes(&fpm, "hold").is_empty());
    within(5 * SECOND, "the watcher ends", || processes(&fpm, "watch").is_empty());
}

#[test]
fn who_waited_since_before_the_switch_is_answered_by_the_release_that_is_live_then() {
    let Some(fpm) = started(Setup::default()) else { return };
    let ask = |fpm: &Fpm| {
        // As a web server with $realpath_root asks.
        let script = fs::canonicalize(fpm.at("current/pub/index.php")).unwrap();
        let address = fpm.address.clone();
        let one = thread::spawn(move || get(&address, &script));
        sleep(SECOND / 5);
        one
    };
    let text = |one: JoinHandle<Option<Response>>| {
        let response = one.join().unwrap().expect("an answer");
        (response.status, String::from_utf8_lossy(&response.body).into_owned())
    };
    hold(&fpm);
    let before = ask(&fpm);
    let mut slow = UnixStream::connect(path(&fpm)).unwrap();
    let script = fs::canonicalize(fpm.at("current/pub/index.php")).unwrap();
    let request = Request::new()
        .param("REQUEST_METHOD", "GET")
        .param("SCRIPT_FILENAME", script.to_str().unwrap())
        .param("PHP_ADMIN_VALUE", format!("open_basedir={}", script.parent().unwrap().display()));
    let bytes = request.encode().unwrap();
    let (first, rest) = bytes.split_at(bytes.len() / 2);
    slow.write_all(first).unwrap();
    fpm.switch("2");
    let after = ask(&fpm);
    release(&fpm);
    for one in [before, after] {
        assert_eq!(text(one), (200, "release 2".to_owned()));
    }
    // In pieces, after longer than php-fpm itself waits for one.
    sleep(6 * SECOND);
    slow.write_all(rest).unwrap();
    slow.set_read_timeout(Some(5 * SECOND)).unwrap();
    let mut answer = Vec::new();
    slow.read_to_end(&mut answer).unwrap();
    assert!(String::from_utf8_lossy(&answer).contains("release 2"), "{answer:?}");
}

#[test]
fn a_pool_that_starts_its_workers_on_demand_is_held() {
    let pool = "pm = ondemand\npm.process_idle_timeout = 1s".to_owned();
    let Some(fpm) = started(Setup { pool, ..Setup::default() }) else { return };
    sleep(2 * SECOND);
    let load = Load::on(&fpm);
    hold(&fpm);
    sleep(2 * SECOND);
    release(&fpm);
    load.end(&fpm);
}

#[test]
fn php_fpm_is_reloaded_and_emptied_while_requests_wait() {
    let Some(fpm) = started(Setup::default()) else { return };
    let load = Load::on(&fpm);
    hold(&fpm);
    // Nothing is in flight, so that nothing is cut although process_control_timeout is 0.
    let reply = fpm.run(json!({"state": "reloaded"})).changed();
    assert_eq!(reply["warnings"], Value::Null, "{reply}");
    let _ = fpm.run(json!({"state": "reset"})).changed();
    let reply = fpm.run(json!({"state": "status"})).unchanged();
    assert_eq!((&reply["held"], &reply["master_pid"]), (&json!(true), &json!(fpm.pid())));
    release(&fpm);
    load.end(&fpm);
}

#[test]
fn a_reload_holds_the_requests_itself_and_cuts_none() {
    let Some(fpm) = started(Setup::default()) else { return };
    let load = Load::on(&fpm);
    for _ in 0..3 {
        let reply = fpm.run(json!({"state": "reloaded"})).changed();
        assert_eq!(reply["process_control_timeout"], 0);
        assert_eq!(reply["warnings"], Value::Null, "{reply}");
        sleep(SECOND / 2);
    }
    let (_, slowest) = load.end(&fpm);
    assert!(slowest < 5 * SECOND, "{slowest:?}");
    leads_to_fpm(&fpm);
}

#[test]
fn a_restart_of_php_fpm_ends_the_hold_and_what_waits_is_answered() {
    let Some(mut fpm) = started(Setup::default()) else { return };
    hold(&fpm);
    let one = waiting(&fpm, "one");
    fpm.stop(Signal::TERM);
    sleep(SECOND);
    assert!(!one.is_finished());
    fpm.start_again();
    assert_eq!(one.join().unwrap().unwrap().status, 200);
    within(SECOND, "the names are gone", || beside(&fpm).is_empty());
    leads_to_fpm(&fpm);
    assert_eq!(fs::read_to_string(fpm.at("notes")).unwrap(), "one\n");
}

#[test]
fn a_restart_that_makes_the_directory_anew_ends_the_hold_too() {
    // As systemd does for a service with RuntimeDirectory=.
    let run = tempfile::tempdir().unwrap();
    let make = || {
        let _ = fs::create_dir(run.path());
        fs::set_permissions(run.path(), Permissions::from_mode(0o755)).unwrap();
    };
    make();
    let listen = Some(run.path().join("fpm.sock").display().to_string());
    let Some(mut fpm) = Fpm::start(Setup { listen, ..Setup::default() }) else { return };
    fpm.write("releases/1/pub/note.php", "<?php echo $_GET['id'];");
    hold(&fpm);
    let one = waiting(&fpm, "one");
    fpm.stop(Signal::TERM);
    fs::remove_dir_all(run.path()).unwrap();
    make();
    // The holder looks often meanwhile.
    sleep(SECOND);
    assert!(!one.is_finished());
    fpm.start_again();
    within(5 * SECOND, "it is passed on", || one.is_finished());
    assert_eq!(one.join().unwrap().unwrap().body, b"one");
    let is_left = || {
        fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            // With " (deleted)" after it.
            let directory = fs::read_link(entry.path().join("fd/0")).unwrap_or_default();
            directory.to_string_lossy().starts_with(run.path().to_str().unwrap())
        })
    };
    within(5 * SECOND, "holder and watcher end", || !is_left());
    leads_to_fpm(&fpm);
}

#[test]
fn a_request_in_flight_is_waited_for() {
    let Some(fpm) = started(Setup::default()) else { return };
    let (address, path) = (fpm.address.clone(), fpm.at("releases/1/pub/slow.php"));
    let slow = thread::spawn(move || get(&address, &path).unwrap());
    sleep(SECOND / 2);
    let begun = Instant::now();
    hold(&fpm);
    assert!(begun.elapsed() > SECOND, "{:?}", begun.elapsed());
    assert_eq!(slow.join().unwrap().body, b"slept");
    release(&fpm);
}

#[test]
fn a_request_that_takes_too_long_is_said() {
    let Some(fpm) = started(Setup::default()) else { return };
    let (address, path) = (fpm.address.clone(), fpm.at("releases/1/pub/slow.php"));
    let slow = thread::spawn(move || get(&address, &path).unwrap());
    sleep(SECOND / 2);
    let reply = fpm.run(json!({"state": "held", "hold": 3})).changed();
    assert_eq!(reply["in_flight"], 1);
    reply.warns("1 connections to php-fpm are still in use");
    release(&fpm);
    assert_eq!(slow.join().unwrap().body, b"slept");
}
