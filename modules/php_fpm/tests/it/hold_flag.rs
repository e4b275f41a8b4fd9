//! Magento's maintenance flag, raised by the call that holds and lowered by the one that releases.

use std::fs;
use std::net::TcpListener;

use crate::common::{Fpm, Setup};
use crate::holding::{hold, leads_to_fpm, release, started, waiting};
use oxistrano_harness::{Value, json};

const VAR: &str = "releases/1/var";
const FLAG: &str = "releases/1/var/.maintenance.flag";

fn held(more: &Value) -> Value {
    let mut arguments =
        json!({"state": "held", "maintenance": ["current"], "maintenance_reason": "deploy of 2"});
    arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    arguments
}

fn released() -> Value {
    json!({"state": "released", "maintenance": ["current"]})
}

#[test]
fn the_flag_is_raised_behind_the_hold_and_lowered_before_requests_continue() {
    let Some(fpm) = started(Setup::default()) else { return };
    fs::create_dir_all(fpm.at(VAR)).unwrap();
    // It says whether the flag was up when it ran.
    fpm.write(
        "releases/1/pub/note.php",
        "<?php echo file_exists(dirname(__DIR__) . '/var/.maintenance.flag') ? 'closed' : 'open';",
    );
    let reply = fpm.run(held(&json!({"maintenance_allowed_ips": ["203.0.113.7"]}))).changed();
    let maintenance = &reply["maintenance"];
    assert_eq!((&maintenance["is_on"], &maintenance["changed"]), (&json!(true), &json!(true)));
    assert_eq!((&maintenance["was_on"], &maintenance["was_ours"]), (&json!(false), &json!(false)));
    assert!(fs::read_to_string(fpm.at(FLAG)).unwrap().contains("deploy of 2"));
    let allowed = fpm.at("releases/1/var/.maintenance.ip");
    assert_eq!(fs::read_to_string(allowed).unwrap(), "203.0.113.7");
    let one = waiting(&fpm, "a");
    let reply = fpm.run(released()).changed();
    assert_eq!(reply["maintenance"]["is_on"], false, "{reply}");
    assert_eq!(one.join().unwrap().unwrap().body, b"open");
    leads_to_fpm(&fpm);
    let again = fpm.run(released()).unchanged();
    assert_eq!(again["maintenance"]["changed"], false, "{again}");
}

#[test]
fn a_flag_that_cannot_be_raised_is_a_failure_and_requests_are_held() {
    let Some(fpm) = started(Setup::default()) else { return };
    let reply = fpm.run(held(&json!({"maintenance": ["elsewhere"]}))).failed("no_magento");
    assert!(reply.msg().contains("Requests are held, for 25 s at most."), "{reply}");
    assert_eq!(fpm.run(json!({"state": "status"})).unchanged()["held"], true);
    release(&fpm);
}

#[test]
fn where_requests_cannot_be_held_no_flag_is_raised() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = Some(format!("127.0.0.1:{port}"));
    let Some(fpm) = Fpm::start(Setup { listen, ..Setup::default() }) else { return };
    fs::create_dir_all(fpm.at(VAR)).unwrap();
    let reply = fpm.run(held(&json!({}))).failed("not_holdable");
    assert!(!fpm.at(FLAG).exists(), "{reply}");
}

#[test]
fn a_flag_that_cannot_be_lowered_keeps_the_requests_waiting() {
    let Some(fpm) = started(Setup::default()) else { return };
    hold(&fpm);
    // Where no flag can be.
    fs::write(fpm.at(VAR), "").unwrap();
    let reply = fpm.run(released());
    assert_eq!(reply["failed"], true, "{reply}");
    assert_eq!(fpm.run(json!({"state": "status"})).unchanged()["held"], true);
    fs::remove_file(fpm.at(VAR)).unwrap();
    let reply = fpm.run(released()).changed();
    assert_eq!(reply["held"], false, "{reply}");
    leads_to_fpm(&fpm);
}

#[test]
fn somebody_elses_flag_stays() {
    let Some(fpm) = started(Setup::default()) else { return };
    fs::create_dir_all(fpm.at(VAR)).unwrap();
    fs::write(fpm.at(FLAG), "").unwrap();
    let reply = fpm.run(held(&json!({}))).changed();
    assert_eq!(reply["maintenance"]["was_on"], true, "{reply}");
    let reply = fpm.run(released()).changed();
    assert!(fpm.at(FLAG).exists(), "{reply}");
    leads_to_fpm(&fpm);
}
