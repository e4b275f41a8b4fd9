//! `php_fpm` on a real php-fpm: reloads, restarts, and who is at the other end.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::thread;

use crate::common::{Fpm, SECOND, Setup, get, module};
use oxistrano_harness::{Reply, Value, is_root, json, not_checked};

fn global(lines: &str) -> Setup {
    Setup { global: lines.to_owned(), ..Setup::default() }
}

/// A request in flight, and the reload meanwhile.
fn reload_with_a_request_in_flight(fpm: &Fpm) -> (Value, Option<u16>) {
    assert_eq!(fpm.by_realpath(), "release 1");
    let began = |status: &Value| status["start_time"].as_u64().unwrap();
    let before = began(&fpm.status());
    let (address, path) = (fpm.address.clone(), fpm.at("releases/1/pub/slow.php"));
    let slow = thread::spawn(move || get(&address, &path));
    thread::sleep(SECOND / 2);
    let reply = fpm.run(json!({"state": "reloaded"})).changed();
    assert_eq!(reply["master_pid"], fpm.pid());
    assert!(began(&fpm.status()) > before, "a new cache");
    (reply.value().clone(), slow.join().unwrap().map(|response| response.status))
}

/// The request in flight does not end before the reload, however busy the machine is.
fn slower(fpm: &Fpm) {
    fpm.write(
        "releases/1/pub/slow.php",
        "<?php for ($end = microtime(true) + 20; microtime(true) < $end;) { usleep(10000); }",
    );
}

fn on_a_port() -> Setup {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    Setup { listen: Some(format!("127.0.0.1:{port}")), ..Setup::default() }
}

#[test]
fn without_a_timeout_a_request_in_flight_ends_first_and_others_wait() {
    let Some(fpm) = Fpm::start(Setup::default()) else { return };
    let (reply, status) = reload_with_a_request_in_flight(&fpm);
    assert_eq!((status, &reply["process_control_timeout"]), (Some(200), &json!(0)));
    assert_eq!(reply["warnings"], Value::Null, "{reply}");
    let names = fs::read_dir(fpm.scratch.path()).unwrap();
    let left = names
        .filter(|name| name.as_ref().unwrap().file_name().to_string_lossy().contains("oxistrano"));
    assert_eq!(left.count(), 0);
}

#[test]
fn one_that_does_not_end_is_cut_and_that_is_said() {
    let Some(fpm) = Fpm::start(Setup::default()) else { return };
    slower(&fpm);
    let (reply, status) = reload_with_a_request_in_flight(&fpm);
    assert_eq!(status, None);
    let warning = reply["warnings"][0].as_str().unwrap();
    assert!(warning.contains("(1 now)") && warning.contains("502"), "{warning}");
}

#[test]
fn another_pool_of_the_same_master_is_not_held_and_that_is_said() {
    let pool =
        "[other]\nlisten = /tmp/oxistrano-other-".to_owned() + &std::process::id().to_string();
    let user = if is_root() { "\nuser = nobody\ngroup = nogroup" } else { "" };
    let pool = pool + user + "\npm = static\npm.max_children = 1";
    let Some(fpm) = Fpm::start(Setup { pool, ..Setup::default() }) else { return };
    let (reply, status) = reload_with_a_request_in_flight(&fpm);
    assert_eq!(status, Some(200));
    assert!(reply["warnings"][0].as_str().unwrap().contains("502"), "{reply}");
}

#[test]
fn without_a_timeout_a_request_in_flight_is_cut_on_a_port_and_that_is_said() {
    let Some(fpm) = Fpm::start(on_a_port()) else { return };
    slower(&fpm);
    let (reply, status) = reload_with_a_request_in_flight(&fpm);
    assert_eq!(status, None, "trap 4: the connection is closed, nginx says 502");
    assert_eq!(reply["process_control_timeout"], 0);
    let warning = reply["warnings"][0].as_str().unwrap();
    assert!(warning.contains("(1 now)") && warning.contains("502"), "{warning}");
}

#[test]
fn with_a_timeout_a_request_in_flight_is_answered() {
    let Some(fpm) = Fpm::start(global("process_control_timeout = 10s")) else { return };
    let (reply, status) = reload_with_a_request_in_flight(&fpm);
    assert_eq!(status, Some(200));
    assert_eq!(reply["process_control_timeout"], 10);
    assert_eq!(reply["warnings"], Value::Null, "{reply}");
}

#[test]
fn a_reload_that_takes_too_long_says_what_it_waits_for() {
    let Some(fpm) = Fpm::start(global("process_control_timeout = 10s")) else { return };
    let (address, path) = (fpm.address.clone(), fpm.at("releases/1/pub/slow.php"));
    let slow = thread::spawn(move || get(&address, &path));
    thread::sleep(SECOND / 2);
    let reply = fpm.run(json!({"state": "reloaded", "timeout": 1})).failed("reload_failed");
    reply.says(["old workers are still working", "The reload was requested."]);
    assert_eq!(slow.join().unwrap().unwrap().status, 200);
}

#[test]
fn the_old_release_is_gone_after_a_reload_as_well() {
    let Some(fpm) = Fpm::start(global("process_control_timeout = 10s")) else { return };
    assert_eq!(fpm.by_link(), "release 1");
    fpm.switch("2");
    let reply = fpm.run(json!({"method": "reload"})).changed();
    assert_eq!(reply["method"], "reload");
    assert_eq!(fpm.by_link(), "release 2");
    assert!(reply["warmed"]["compiled"].as_u64().unwrap() >= 12, "{reply}");
}

#[test]
fn a_broken_configuration_is_not_reloaded() {
    let Some(fpm) = Fpm::start(Setup::default()) else { return };
    let config = fpm.scratch.path().join("fpm.conf");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("pm = static", "pm = nonsense")).unwrap();
    let reply = fpm.run(json!({"state": "reloaded"})).failed("broken_configuration");
    reply.says([
        "configuration is broken",
        "unable to parse value for entry 'pm'",
        "still runs with",
    ]);
    let reply =
        fpm.run(json!({"state": "restarted", "service": "x"})).failed("broken_configuration");
    assert_eq!(reply["path"], config.to_str().unwrap());
    assert_eq!(fpm.by_realpath(), "release 1");
}

#[test]
fn a_configuration_that_php_fpm_has_not_read_yet_is_said() {
    let Some(fpm) = Fpm::start(Setup::default()) else { return };
    thread::sleep(SECOND + SECOND / 5);
    let config = fpm.scratch.path().join("fpm.conf");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("[global]", "[global]\nprocess_control_timeout = 1m")).unwrap();
    let reply = fpm.run(json!({"state": "reloaded"})).changed();
    assert_eq!(reply["process_control_timeout"], 60);
    reply.warns("changed after php-fpm read it");
}

/// Runs the module where `service` is this script.
fn with_service(fpm: &Fpm, script: &str, arguments: &Value) -> Reply {
    let bin = fpm.scratch.path().join("bin");
    fs::create_dir_all(&bin).unwrap();
    fs::write(bin.join("service"), script).unwrap();
    fs::set_permissions(bin.join("service"), fs::Permissions::from_mode(0o755)).unwrap();
    let file = fpm.scratch.path().join("args");
    fs::write(&file, arguments.to_string()).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new(env!("CARGO_BIN_EXE_php_fpm"));
    Reply::of(&command.arg(file).env("PATH", path).output().unwrap())
}

#[test]
fn a_restart_is_done_by_the_service_manager_and_verified() {
    if Path::new("/run/systemd/system").is_dir() {
        return not_checked("a restart by systemd (it would restart a real service)");
    }
    let Some(fpm) = Fpm::start(Setup::default()) else { return };
    let arguments = json!({
        "state": "restarted", "service": "php-test.service", "socket": fpm.address.to_string(), "timeout": 5,
    });
    let reply = with_service(&fpm, "#!/bin/sh\nexit 0\n", &arguments).failed("restart_failed");
    reply.says(["still served by the same master process", "The service was restarted."]);
    let reply = with_service(&fpm, "#!/bin/sh\necho no such service >&2; exit 4\n", &arguments);
    reply.failed("command_failed").says(["cannot restart php-fpm", "no such service"]);
    let top = fpm.scratch.path().display();
    let script = format!(
        "#!/bin/sh\n[ \"$*\" = 'php-test restart' ] || exit 9\nkill {old}\n\
         while [ -S {top}/fpm.sock ]; do sleep 0.02; done\n\
         {program} -y {top}/fpm.conf -g {top}/pid -D >/dev/null 2>&1 </dev/null\n",
        old = fpm.pid(),
        program = crate::common::program().unwrap().display(),
    );
    let reply = with_service(&fpm, &script, &arguments);
    let new = fs::read_to_string(fpm.scratch.path().join("pid")).unwrap();
    let new: i32 = new.trim().parse().unwrap();
    let _ = reply.changed();
    assert_eq!(fpm.by_realpath(), "release 1");
    let pid = rustix::process::Pid::from_raw(new).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
}

#[test]
fn check_mode_does_nothing() {
    let Some(fpm) = Fpm::start(Setup::default()) else { return };
    assert_eq!(fpm.by_realpath(), "release 1");
    let before = fpm.status();
    for state in ["reset", "reloaded", "restarted"] {
        let _ = fpm.run(json!({"state": state, "_ansible_check_mode": true})).changed();
    }
    let after = fpm.status();
    for key in ["start_time", "scripts", "manual_restarts"] {
        assert_eq!(before[key], after[key]);
    }
}

#[test]
fn a_port_is_as_good_as_a_socket() {
    let setup = Setup { global: "process_control_timeout = 5".to_owned(), ..on_a_port() };
    let Some(fpm) = Fpm::start(setup) else { return };
    let reply = fpm.run(json!({"state": "reloaded"})).changed();
    assert_eq!(
        (&reply["master_pid"], &reply["process_control_timeout"]),
        (&json!(fpm.pid()), &json!(5))
    );
}

#[test]
fn a_socket_that_is_not_named_is_found_or_all_are_listed() {
    let Some(first) = Fpm::start(Setup::default()) else { return };
    let Some(second) = Fpm::start(Setup::default()) else { return };
    let reply = module(&json!({"state": "status"})).failed("several_sockets");
    reply.says([first.address.to_string().as_str(), second.address.to_string().as_str()]);
}

#[test]
fn a_status_says_what_there_is() {
    let Some(fpm) = Fpm::start(global("process_control_timeout = 2m")) else { return };
    assert_eq!(fpm.by_realpath(), "release 1");
    let reply = fpm.run(json!({"state": "status"})).unchanged();
    reply.says(["PHP ", "opcache uses", "12 scripts"]);
    assert_eq!(reply["process_control_timeout"], 120);
    assert_eq!((&reply["pool"], &reply["active"]), (&json!("test"), &json!(0)));
    assert_eq!(reply["config"], fpm.scratch.path().join("fpm.conf").to_str().unwrap());
    let opcache = &reply["opcache"];
    assert_eq!(opcache["validate_timestamps"], false);
    for key in ["memory_used", "memory_free", "max_keys", "start_time"] {
        assert!(opcache[key].as_u64().unwrap() > 0, "{key}: {opcache}");
    }
}

#[test]
fn who_may_not_signal_is_told_so() {
    if !is_root() {
        return not_checked("a module of another user");
    }
    let Some(fpm) = Fpm::start(Setup::default()) else { return };
    let arguments = json!({"state": "reloaded", "socket": fpm.address.to_string()});
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_php_fpm"));
    let reply =
        oxistrano_harness::run_program(program, &arguments, Some(oxistrano_harness::NOBODY));
    reply.failed("not_permitted").says(["become", "Nothing was changed"]);
    // But it may ask.
    let arguments = json!({"state": "status", "socket": fpm.address.to_string()});
    let reply =
        oxistrano_harness::run_program(program, &arguments, Some(oxistrano_harness::NOBODY));
    assert_eq!(reply.unchanged()["master_pid"], fpm.pid());
}
