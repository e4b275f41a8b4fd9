//! A hold ends well if a process is killed or hangs, or the disk is full.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread::sleep;

use crate::common::{Fpm, SECOND, Setup, get};
use crate::holding::{
    Load, beside, hold, leads_to_fpm, only, path, processes, release, socket_of, started, waiting,
    within,
};
use oxistrano_harness::{json, not_checked};
use rustix::process::{Pid, Signal, kill_process};

/// A file system of a test's own, until the test is over.
struct Mounted(tempfile::TempDir);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_hold_opens_although_no_file_can_be_made_any_more() {
    // /run is one file system, and a web user may have a directory there (/run/php).
    let run = tempfile::tempdir().unwrap();
    let options = "nr_inodes=20,mode=0755";
    let mount =
        Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(run.path()).output();
    if !mount.is_ok_and(|mount| mount.status.success()) {
        return not_checked("no file system can be mounted here");
    }
    let run = Mounted(run);
    let listen = Some(run.0.path().join("fpm.sock").display().to_string());
    let Some(fpm) = Fpm::start(Setup { listen, ..Setup::default() }) else { return };
    let before = fs::metadata(run.0.path().join("fpm.sock")).unwrap().ino();
    let _ = fpm.run(json!({"state": "held", "hold": 2})).changed();
    let full = (0..30).any(|n| fs::write(run.0.path().join(n.to_string()), "").is_err());
    assert!(full);
    let is_back = || fs::metadata(run.0.path().join("fpm.sock")).is_ok_and(|s| s.ino() == before);
    within(4 * SECOND, "php-fpm's socket is back", is_back);
    leads_to_fpm(&fpm);
}

#[test]
fn php_fpm_that_is_killed_can_be_started_again() {
    let Some(mut fpm) = started(Setup::default()) else { return };
    let before = socket_of(&fpm).ino();
    hold(&fpm);
    let one = waiting(&fpm, "one");
    // All of it, as a service manager does: its workers alone would go on.
    let workers = fs::read_to_string(format!("/proc/{0}/task/{0}/children", fpm.pid())).unwrap();
    fpm.stop(Signal::KILL);
    for worker in workers.split_whitespace() {
        kill_process(Pid::from_raw(worker.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
    }
    within(3 * SECOND, "its own socket is there", || socket_of(&fpm).ino() == before);
    // php-fpm refuses to start where somebody listens.
    fpm.start_again();
    assert_eq!(one.join().unwrap().unwrap().status, 200);
    leads_to_fpm(&fpm);
}

#[test]
fn php_fpm_that_does_not_come_back_is_a_503_with_a_time_to_come_again() {
    let Some(mut fpm) = started(Setup::default()) else { return };
    hold(&fpm);
    let one = waiting(&fpm, "one");
    fpm.stop(Signal::TERM);
    let response = one.join().unwrap().unwrap();
    assert_eq!(response.status, 503);
    fpm.start_again();
    within(5 * SECOND, "php-fpm", || get(&fpm.address, &fpm.at("none")).is_some());
    leads_to_fpm(&fpm);
}

#[test]
fn a_holder_that_is_killed_is_put_right_within_a_second() {
    let Some(fpm) = started(Setup::default()) else { return };
    let before = socket_of(&fpm).ino();
    hold(&fpm);
    kill_process(only(&fpm, "hold"), Signal::KILL).unwrap();
    within(SECOND, "php-fpm's socket is back", || socket_of(&fpm).ino() == before);
    within(SECOND, "the names are gone", || beside(&fpm).is_empty());
    leads_to_fpm(&fpm);
}

#[test]
fn a_watcher_that_is_killed_is_replaced_and_the_hold_goes_on() {
    let Some(fpm) = started(Setup::default()) else { return };
    let before = socket_of(&fpm).ino();
    let load = Load::on(&fpm);
    hold(&fpm);
    let first = only(&fpm, "watch");
    kill_process(first, Signal::KILL).unwrap();
    within(SECOND, "another watches", || {
        processes(&fpm, "watch").first().is_some_and(|now| *now != first)
    });
    assert_eq!(fpm.run(json!({"state": "status"})).unchanged()["held"], true);
    release(&fpm);
    load.end(&fpm);
    // The new one watches as well as the first.
    within(5 * SECOND, "the holder ends", || processes(&fpm, "hold").is_empty());
    hold(&fpm);
    kill_process(only(&fpm, "watch"), Signal::KILL).unwrap();
    within(SECOND, "another watches", || processes(&fpm, "watch").len() == 1);
    sleep(SECOND / 5);
    kill_process(only(&fpm, "hold"), Signal::KILL).unwrap();
    within(SECOND, "php-fpm's socket is back", || socket_of(&fpm).ino() == before);
}

#[test]
fn a_holder_that_hangs_is_put_right_after_its_time() {
    let Some(fpm) = started(Setup::default()) else { return };
    let before = socket_of(&fpm).ino();
    let _ = fpm.run(json!({"state": "held", "hold": 1})).changed();
    let holder = only(&fpm, "hold");
    kill_process(holder, Signal::STOP).unwrap();
    within(4 * SECOND, "php-fpm's socket is back", || socket_of(&fpm).ino() == before);
    let one = waiting(&fpm, "one");
    assert_eq!(one.join().unwrap().unwrap().status, 200);
    kill_process(holder, Signal::CONT).unwrap();
    within(5 * SECOND, "the holder ends", || processes(&fpm, "hold").is_empty());
    leads_to_fpm(&fpm);
}

#[test]
fn both_killed_are_put_right_by_the_next_run_whatever_it_is() {
    let Some(fpm) = started(Setup::default()) else { return };
    let before = socket_of(&fpm).ino();
    for state in ["status", "fresh", "reloaded", "released", "held"] {
        within(5 * SECOND, "earlier ones end", || processes(&fpm, "hold").is_empty());
        hold(&fpm);
        let (holder, watcher) = (only(&fpm, "hold"), only(&fpm, "watch"));
        kill_process(watcher, Signal::STOP).unwrap();
        kill_process(holder, Signal::KILL).unwrap();
        kill_process(watcher, Signal::KILL).unwrap();
        within(SECOND, "they are gone", || UnixStream::connect(path(&fpm)).is_err());
        assert_ne!(socket_of(&fpm).ino(), before, "nobody is there to put it back");
        if state == "status" {
            let arguments = json!({"state": state, "_ansible_check_mode": true});
            let reply = fpm.run(arguments).changed();
            reply.warns("the next run outside check mode restores php-fpm's socket");
            assert_eq!((&reply["held"], beside(&fpm).len()), (&json!(false), 3), "{reply}");
        }
        fpm.run(json!({"state": state})).changed().warns("php-fpm's socket was restored");
        let _ = fpm.run(json!({"state": "released"}));
        assert_eq!(socket_of(&fpm).ino(), before);
        leads_to_fpm(&fpm);
    }
}
