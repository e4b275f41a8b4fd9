//! A hold is bounded: its time, the number of requests, memory.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixStream;
use std::thread::{self, sleep};
use std::time::Instant;

use crate::common::{SECOND, Setup, module};
use crate::holding::{
    Load, ask_for, beside, hold, leads_to_fpm, only, path, release, started, waiting, within,
};
use oxistrano_fastcgi::{Request, ask};
use oxistrano_harness::json;

#[test]
fn after_its_time_what_waits_is_answered_by_php_fpm() {
    let Some(fpm) = started(Setup::default()) else { return };
    let load = Load::on(&fpm);
    let reply = fpm.run(json!({"state": "held", "hold": 2})).changed();
    reply.says(["for 2 s at most"]);
    within(4 * SECOND, "the names are gone", || beside(&fpm).is_empty());
    let (_, slowest) = load.end(&fpm);
    assert!(slowest > 2 * SECOND - SECOND / 5 && slowest < 4 * SECOND, "{slowest:?}");
    leads_to_fpm(&fpm);
}

#[test]
fn what_is_more_than_may_wait_is_refused_with_a_time_to_come_again() {
    let Some(fpm) = started(Setup::default()) else { return };
    let _ = fpm.run(json!({"state": "held", "hold_most": 3})).changed();
    let ids = ["1", "2", "3"];
    let kept: Vec<_> = ids.into_iter().map(|id| waiting(&fpm, id)).collect();
    for _ in 0..20 {
        let begun = Instant::now();
        let response = ask_for(&fpm.address, &fpm.at("releases/1/pub/note.php"), "more").unwrap();
        assert_eq!(response.status, 503);
        let header =
            response.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("retry-after"));
        assert!(header.is_some(), "{response:?}");
        assert!(begun.elapsed() < SECOND);
    }
    // Who gives up makes room.
    let gone = UnixStream::connect(path(&fpm)).unwrap();
    drop(gone);
    release(&fpm);
    for one in kept {
        assert_eq!(one.join().unwrap().unwrap().status, 200);
    }
    let notes = fs::read_to_string(fpm.at("notes")).unwrap();
    assert_eq!(notes.lines().collect::<BTreeSet<_>>(), ids.into_iter().collect());
}

#[test]
fn who_gives_up_while_waiting_never_reaches_php() {
    let Some(fpm) = started(Setup::default()) else { return };
    hold(&fpm);
    let request = Request::new()
        .param("REQUEST_METHOD", "GET")
        .param("SCRIPT_NAME", "/note.php")
        .param("QUERY_STRING", "id=gone")
        .param("SCRIPT_FILENAME", fpm.at("releases/1/pub/note.php").to_str().unwrap());
    assert!(ask(&fpm.address, &request, SECOND / 2).is_err());
    sleep(SECOND / 5);
    release(&fpm);
    sleep(SECOND / 2);
    assert_eq!(fs::read_to_string(fpm.at("notes")).unwrap(), "");
}

#[test]
fn a_large_body_waits_in_the_socket_and_not_in_memory() {
    let Some(fpm) = started(Setup { ini: vec!["post_max_size=64M".into()], ..Setup::default() })
    else {
        return;
    };
    hold(&fpm);
    let body: Vec<u8> = (0..20_000_000u32).map(|n| (n % 251) as u8).collect();
    let request = Request::new()
        .param("REQUEST_METHOD", "POST")
        .param("SCRIPT_NAME", "/body.php")
        .param("SCRIPT_FILENAME", fpm.at("releases/1/pub/body.php").to_str().unwrap())
        .body("application/octet-stream", body.clone());
    let (address, asked) = (fpm.address.clone(), request.clone());
    let one = thread::spawn(move || ask(&address, &asked, 60 * SECOND).unwrap());
    sleep(SECOND);
    let holder = only(&fpm, "hold");
    release(&fpm);
    let response = one.join().unwrap();
    let most = fs::read_to_string(format!("/proc/{}/status", holder.as_raw_nonzero()));
    let most = most.unwrap_or_default();
    let most = most.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    let most: u64 = most.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(most < 12_000, "{most} kB");
    assert_eq!(response.status, 200);
    let direct = ask(&fpm.address, &request, 60 * SECOND).unwrap();
    assert!(response.body.len() > 3_000_000 && response.body == direct.body);
}

#[test]
fn limits_that_are_none_are_refused() {
    for (name, value) in [("hold", 0), ("hold", 3601), ("hold_most", 0), ("hold_most", 10_001)] {
        let reply = module(&json!({"state": "held", name: value}));
        reply.failed("invalid_arguments").says([name, "must be from 1"]);
    }
}
