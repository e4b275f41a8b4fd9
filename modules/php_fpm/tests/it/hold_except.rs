//! Requests that do not wait while the others are held: a balancer's question whether the host is well.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use crate::common::{Fpm, SECOND, Setup};
use crate::holding::{path, release, started, waiting};
use oxistrano_fastcgi::{Request, Response, ask};
use oxistrano_harness::json;

const HEALTH: &str = "/health_check.php";
/// In the record that a request begins with.
const FLAGS: usize = 10;

fn request(script: &Path) -> Request {
    Request::new()
        .param("REQUEST_METHOD", "GET")
        .param("SCRIPT_FILENAME", script.to_str().unwrap())
        .param("SCRIPT_NAME", HEALTH)
}

fn healthy(fpm: &Fpm, time: Duration) -> Option<Response> {
    ask(&fpm.address, &request(&fpm.at("releases/1/pub/health_check.php")), time).ok()
}

fn held(most: u32) -> Option<Fpm> {
    let fpm = started(Setup::default())?;
    fpm.write("releases/1/pub/health_check.php", "<?php echo 'well';");
    let arguments = json!({"state": "held", "hold_except": [HEALTH, "/ping"], "hold_most": most});
    let _ = fpm.run(arguments).changed();
    Some(fpm)
}

#[test]
fn who_asks_whether_the_host_is_well_is_answered_and_the_others_wait() {
    let Some(fpm) = held(1) else { return };
    let one = waiting(&fpm, "one");
    for _ in 0..3 {
        // Although no more may wait.
        assert_eq!(healthy(&fpm, 5 * SECOND).unwrap().body, b"well");
    }
    assert!(!one.is_finished());
    assert_eq!(fpm.run(json!({"state": "status"})).unchanged()["waiting"], 1);
    release(&fpm);
    assert_eq!(one.join().unwrap().unwrap().status, 200);
}

#[test]
fn a_request_that_comes_in_pieces_is_known_when_it_is_there() {
    let Some(fpm) = held(5) else { return };
    let bytes = request(&fpm.at("releases/1/pub/health_check.php")).encode().unwrap();
    let mut stream = UnixStream::connect(path(&fpm)).unwrap();
    for part in bytes.chunks(bytes.len() / 3) {
        stream.write_all(part).unwrap();
        sleep(SECOND / 10);
    }
    stream.set_read_timeout(Some(5 * SECOND)).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(String::from_utf8_lossy(&answer).contains("well"));
    release(&fpm);
}

#[test]
fn on_a_connection_on_which_more_may_follow_it_waits() {
    let Some(fpm) = held(5) else { return };
    let mut bytes = request(&fpm.at("releases/1/pub/health_check.php")).encode().unwrap();
    bytes[FLAGS] = 1;
    let mut stream = UnixStream::connect(path(&fpm)).unwrap();
    stream.write_all(&bytes).unwrap();
    stream.set_read_timeout(Some(SECOND / 2)).unwrap();
    assert!(stream.read(&mut [0]).is_err(), "it was answered");
    let reply = fpm.run(json!({"state": "released"})).changed();
    assert_eq!(reply["waiting"], 1);
    stream.set_read_timeout(Some(5 * SECOND)).unwrap();
    assert!(stream.read(&mut [0]).unwrap() > 0);
}

#[test]
fn without_such_a_list_it_waits_like_others() {
    let Some(fpm) = started(Setup::default()) else { return };
    fpm.write("releases/1/pub/health_check.php", "<?php echo 'well';");
    let _ = fpm.run(json!({"state": "held"})).changed();
    assert!(healthy(&fpm, SECOND / 2).is_none());
    let _ = fpm.run(json!({"state": "released"})).changed();
}
