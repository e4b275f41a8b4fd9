//! Whose requests are held, and which pools are refused.

use std::fs::{self, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::common::{Fpm, SECOND, Setup, get, program};
use crate::holding::{beside, hold, path, release, socket_of, started, waiting, within};
use oxistrano_harness::{NOBODY, is_root, json, not_checked, run_program};
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn a_directory_in_which_the_sockets_owner_cannot_be_acted_for_is_refused() {
    if !is_root() {
        return not_checked("directories of another user");
    }
    let Some(fpm) = started(Setup::default()) else { return };
    let before = socket_of(&fpm).ino();
    for (owner, mode, code, says) in [
        (NOBODY, 0o755, "not_holdable", "belongs to user id 65534"),
        (0, 0o777, "untrusted_directory", "is writable by others"),
        (NOBODY, 0o775, "untrusted_directory", "is writable by others"),
        (4_000_000, 0o755, "untrusted_directory", "belongs to the unknown user id"),
    ] {
        chown(fpm.scratch.path(), Some(owner), None).unwrap();
        fs::set_permissions(fpm.scratch.path(), Permissions::from_mode(mode)).unwrap();
        for check in [true, false] {
            let arguments = json!({"state": "held", "_ansible_check_mode": check});
            let reply = fpm.run(arguments).failed(code);
            reply.says([says, "maintenance page", "Nothing was changed."]);
        }
        fpm.run(json!({"state": "released"})).unchanged().says(["no requests are held"]);
    }
    assert_eq!((socket_of(&fpm).ino(), beside(&fpm)), (before, Vec::new()));
}

#[test]
fn a_port_and_a_socket_of_somebody_elses_are_refused() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = Some(format!("127.0.0.1:{port}"));
    let Some(fpm) = Fpm::start(Setup { listen, ..Setup::default() }) else { return };
    let reply = fpm.run(json!({"state": "held"})).failed("not_holdable");
    reply.says(["listens on a port", "maintenance page", "Nothing was changed."]);
    fpm.run(json!({"state": "released"})).unchanged().says(["no requests are held"]);
    drop(fpm);

    // As systemd does it: the socket is made by who starts php-fpm, and handed on.
    let Some(mut fpm) = started(Setup::default()) else { return };
    fpm.stop(Signal::TERM);
    let listener = UnixListener::bind(path(&fpm)).unwrap();
    fs::set_permissions(path(&fpm), Permissions::from_mode(0o666)).unwrap();
    let number = listener.as_raw_fd();
    let mut command = Command::new(program().unwrap());
    command.arg("-y").arg(fpm.scratch.path().join("fpm.conf"));
    command.env("FPM_SOCKETS", format!("{}={number}", path(&fpm).display()));
    rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::empty()).unwrap();
    let mut child = command.spawn().unwrap();
    within(10 * SECOND, "php-fpm", || get(&fpm.address, &fpm.at("none")).is_some());
    let reply = fpm.run(json!({"state": "held"}));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    child.wait().unwrap();
    reply.failed("not_holdable").says([
        "made by systemd",
        "maintenance page",
        "Nothing was changed.",
    ]);
    let _ = fs::remove_file(path(&fpm));
    fpm.start_again();
}

#[test]
fn who_has_started_php_fpm_holds_it_without_being_root() {
    if !is_root() {
        return not_checked("another user's php-fpm");
    }
    let Some(mut fpm) = started(Setup::default()) else { return };
    fpm.stop(Signal::TERM);
    for name in ["", "fpm.log", "out"] {
        chown(fpm.scratch.path().join(name), Some(NOBODY), None).unwrap();
    }
    let mut command = Command::new(program().unwrap());
    command.arg("-y").arg(fpm.scratch.path().join("fpm.conf")).uid(NOBODY).gid(NOBODY);
    let mut child = command.spawn().unwrap();
    within(10 * SECOND, "php-fpm", || get(&fpm.address, &fpm.at("none")).is_some());
    let run = |state| {
        let arguments = json!({"state": state, "socket": fpm.address.to_string()});
        run_program(Path::new(env!("CARGO_BIN_EXE_php_fpm")), &arguments, Some(NOBODY))
    };
    let before = socket_of(&fpm).ino();
    let held = run("held");
    let one = waiting(&fpm, "one");
    let waits = !one.is_finished();
    let released = run("released");
    let answer = one.join().unwrap();
    // It removes its socket when it ends.
    let after = socket_of(&fpm).ino();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    child.wait().unwrap();
    fpm.start_again();
    assert_eq!(held.changed()["held"], true);
    assert!(waits);
    let _ = released.changed();
    assert_eq!((answer.unwrap().status, after), (200, before));
    assert_eq!(beside(&fpm), Vec::<String>::new());
}

#[test]
fn who_may_connect_by_an_access_list_may_still() {
    if !is_root() {
        return not_checked("access lists");
    }
    let pool = "listen.acl_users = nobody".to_owned();
    let Some(fpm) = started(Setup { pool, ..Setup::default() }) else { return };
    let acl = || {
        let mut list = vec![0; 1000];
        let length = rustix::fs::getxattr(path(&fpm), "system.posix_acl_access", &mut list[..]);
        length.map(|length| list[..length].to_vec())
    };
    let Ok(before) = acl() else { return not_checked("access lists: the file system has none") };
    hold(&fpm);
    assert_eq!(acl(), Ok(before));
    release(&fpm);
}

#[test]
fn check_mode_says_what_it_would_hold() {
    let Some(fpm) = started(Setup::default()) else { return };
    let before = socket_of(&fpm).ino();
    let arguments = json!({"state": "held", "_ansible_check_mode": true, "_ansible_diff": true});
    let reply = fpm.run(arguments).changed();
    reply.says(["would hold"]);
    assert!(reply["diff"].to_string().contains("leads to a holder, for 25 s at most"), "{reply}");
    assert_eq!((socket_of(&fpm).ino(), beside(&fpm)), (before, Vec::new()));
    hold(&fpm);
    let held = socket_of(&fpm).ino();
    fpm.run(json!({"state": "released", "_ansible_check_mode": true})).changed().says(["would"]);
    assert_eq!(socket_of(&fpm).ino(), held);
    release(&fpm);
}
