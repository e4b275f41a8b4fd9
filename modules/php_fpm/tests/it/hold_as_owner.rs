//! `php_fpm` holds the requests of a php-fpm whose socket lies in the web user's directory, as `/run/php` of Debian is.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::thread::sleep;

use crate::common::{Fpm, SECOND, Setup};
use crate::holding::{Load, started, waiting, within};
use crate::holding::{beside, hold, leads_to_fpm, only, path, processes, release, socket_of};
use oxistrano_harness::{NOBODY, is_root, json, not_checked};
use rustix::process::{Signal, kill_process};

fn in_the_web_users_directory() -> Option<Fpm> {
    if !is_root() {
        not_checked("directories of another user");
        return None;
    }
    let pool = "listen.owner = nobody\nlisten.group = nogroup\nlisten.mode = 0660".to_owned();
    let fpm = started(Setup { pool, ..Setup::default() })?;
    chown(fpm.scratch.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    fs::set_permissions(fpm.scratch.path(), Permissions::from_mode(0o755)).unwrap();
    Some(fpm)
}

#[test]
fn requests_wait_there_too_and_what_is_made_there_is_the_web_users() {
    let Some(fpm) = in_the_web_users_directory() else { return };
    let load = Load::on(&fpm);
    let before = socket_of(&fpm);
    hold(&fpm);
    assert_ne!(socket_of(&fpm).ino(), before.ino());
    for name in beside(&fpm) {
        let made = fs::symlink_metadata(fpm.scratch.path().join(&name)).unwrap();
        assert_eq!(made.uid(), NOBODY, "{name}");
    }
    let looks = |one: &fs::Metadata| (one.mode(), one.uid(), one.gid());
    assert_eq!(looks(&before), looks(&socket_of(&fpm)), "the web server may connect as before");
    sleep(SECOND);
    assert_eq!(fpm.run(json!({"state": "status"})).unchanged()["waiting"], 4);
    release(&fpm);
    assert_eq!(socket_of(&fpm).ino(), before.ino());
    let (count, slowest) = load.end(&fpm);
    assert!(count > 10 && slowest > SECOND, "{count}, {slowest:?}");
    within(5 * SECOND, "the holder ends", || processes(&fpm, "hold").is_empty());
}

#[test]
fn whichever_of_the_two_is_killed_there_php_fpm_has_its_name_again_within_a_second() {
    let Some(fpm) = in_the_web_users_directory() else { return };
    let before = socket_of(&fpm).ino();
    hold(&fpm);
    kill_process(only(&fpm, "hold"), Signal::KILL).unwrap();
    within(SECOND, "php-fpm's socket is back", || socket_of(&fpm).ino() == before);
    leads_to_fpm(&fpm);

    hold(&fpm);
    let first = only(&fpm, "watch");
    kill_process(first, Signal::KILL).unwrap();
    within(SECOND, "another watches", || {
        processes(&fpm, "watch").first().is_some_and(|now| *now != first)
    });
    release(&fpm);
    for what in ["watch", "hold"] {
        within(5 * SECOND, "they end", || processes(&fpm, what).is_empty());
    }

    hold(&fpm);
    for what in ["watch", "hold"] {
        kill_process(only(&fpm, what), Signal::STOP).unwrap();
    }
    for what in ["watch", "hold"] {
        kill_process(only(&fpm, what), Signal::KILL).unwrap();
    }
    within(5 * SECOND, "they are gone", || processes(&fpm, "hold").is_empty());
    fpm.run(json!({"state": "status"})).warns("A hold that was killed left its own socket");
    assert_eq!(socket_of(&fpm).ino(), before);
    leads_to_fpm(&fpm);
}

#[test]
fn what_waits_is_not_passed_on_to_where_only_root_may_connect() {
    is_not_passed_on_to_a_socket_of_roots(0o600);
}

/// The journal's is one. Whose bytes come there is told by the real user of who sends them: root.
#[test]
fn nor_to_a_socket_of_roots_that_is_everybodys_to_connect_to() {
    is_not_passed_on_to_a_socket_of_roots(0o666);
}

fn is_not_passed_on_to_a_socket_of_roots(mode: u32) {
    let Some(mut fpm) = in_the_web_users_directory() else { return };
    let elsewhere = tempfile::tempdir().unwrap();
    fs::set_permissions(elsewhere.path(), Permissions::from_mode(0o755)).unwrap();
    let roots = elsewhere.path().join("roots.sock");
    let listener = UnixListener::bind(&roots).unwrap();
    fs::set_permissions(&roots, Permissions::from_mode(mode)).unwrap();
    listener.set_nonblocking(true).unwrap();
    hold(&fpm);
    let one = waiting(&fpm, "one");
    fpm.stop(Signal::TERM);
    // The web user's answer to a name that is free.
    let _ = fs::remove_file(path(&fpm));
    symlink(&roots, path(&fpm)).unwrap();
    let answer = one.join().unwrap();
    assert!(listener.accept().is_err(), "somebody came");
    assert_eq!(answer.unwrap().status, 503);
    fs::remove_file(path(&fpm)).unwrap();
    fpm.start_again();
}

#[test]
fn a_name_that_the_web_user_has_made_a_link_is_no_socket() {
    let Some(fpm) = in_the_web_users_directory() else { return };
    let real = fpm.scratch.path().join("real.sock");
    fs::rename(path(&fpm), &real).unwrap();
    symlink(&real, path(&fpm)).unwrap();
    let reply = fpm.run(json!({"state": "held"}));
    assert_eq!(reply["failed"], true, "{reply}");
    assert_eq!(beside(&fpm), Vec::<String>::new());
    fs::rename(&real, path(&fpm)).unwrap();
}
