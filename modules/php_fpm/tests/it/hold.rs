//! `php_fpm` holds the requests of a real php-fpm.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use crate::common::{Fpm, SECOND, Setup, get, module, program};
use oxistrano_fastcgi::{Address, Request, Response, ask};
use oxistrano_harness::{NOBODY, Value, is_root, json, not_checked, run_program};
use rustix::process::{Pid, Signal, kill_process};

/// Writes each request's name down, so that one that comes twice is seen.
const NOTE: &str = "<?php file_put_contents(dirname(__DIR__, 3) . '/notes', $_GET['id'] . \"\\n\", \
    FILE_APPEND | LOCK_EX); usleep(2000); echo $_GET['id'];";
const BODY: &str = "<?php $in = fopen('php://input', 'r'); $sum = hash_init('md5'); \
    hash_update_stream($sum, $in); echo hash_final($sum), ' ', str_repeat('x', 3000000);";

pub fn started(setup: Setup) -> Option<Fpm> {
    let fpm = Fpm::start(setup)?;
    fpm.write("releases/1/pub/note.php", NOTE);
    fpm.write("releases/1/pub/body.php", BODY);
    fs::write(fpm.at("notes"), "").unwrap();
    fs::set_permissions(fpm.at("notes"), Permissions::from_mode(0o666)).unwrap();
    assert_eq!(socket_of(&fpm).file_type(), fs::metadata(path(&fpm)).unwrap().file_type());
    Some(fpm)
}

pub fn path(fpm: &Fpm) -> PathBuf {
    fpm.scratch.path().join("fpm.sock")
}

pub fn socket_of(fpm: &Fpm) -> fs::Metadata {
    fs::symlink_metadata(path(fpm)).unwrap()
}

/// What stands beside the socket.
pub fn beside(fpm: &Fpm) -> Vec<String> {
    let names = fs::read_dir(fpm.scratch.path()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains("oxistrano")).collect()
}

fn ask_for(address: &Address, script: &Path, id: &str) -> Option<Response> {
    let request = Request::new()
        .param("REQUEST_METHOD", "GET")
        .param("SCRIPT_NAME", "/note.php")
        .param("QUERY_STRING", format!("id={id}"))
        .param("SCRIPT_FILENAME", script.to_str().unwrap());
    ask(address, &request, 60 * SECOND).ok()
}

/// A request's name, the status of its answer, and how long that took.
type Answered = (String, Option<u16>, Duration);

/// Requests without a pause, by four clients.
pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Vec<Answered>>>,
}

impl Load {
    pub fn on(fpm: &Fpm) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicUsize::new(0));
        let clients = (0..4).map(|client| {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            let (address, script) = (fpm.address.clone(), fpm.at("releases/1/pub/note.php"));
            thread::spawn(move || {
                let mut all = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let (id, begun) = (format!("{client}-{}", all.len()), Instant::now());
                    let response = ask_for(&address, &script, &id);
                    let is_its_own = response.as_ref().is_none_or(|one| one.body == id.as_bytes());
                    assert!(is_its_own, "{response:?}");
                    answered.fetch_add(1, Ordering::Relaxed);
                    all.push((id, response.map(|one| one.status), begun.elapsed()));
                    sleep(SECOND / 200);
                }
                all
            })
        });
        let clients = clients.collect();
        sleep(SECOND / 2);
        Self { stop, answered, clients }
    }

    fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// All were answered, each once. Returns how many, and the slowest.
    #[track_caller]
    pub fn end(self, fpm: &Fpm) -> (usize, Duration) {
        sleep(SECOND / 2);
        self.stop.store(true, Ordering::Relaxed);
        let all: Vec<_> =
            self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        let failed: Vec<_> = all.iter().filter(|one| one.1 != Some(200)).collect();
        assert!(failed.is_empty(), "{} of {}: {failed:?}", failed.len(), all.len());
        let notes = fs::read_to_string(fpm.at("notes")).unwrap();
        let ids: BTreeSet<&str> = notes.lines().collect();
        assert_eq!(ids.len(), notes.lines().count(), "one was asked twice");
        assert_eq!(ids, all.iter().map(|one| one.0.as_str()).collect());
        (all.len(), all.iter().map(|one| one.2).max().unwrap())
    }
}

/// One request that waits.
pub fn waiting(fpm: &Fpm, id: &'static str) -> JoinHandle<Option<Response>> {
    let (address, script) = (fpm.address.clone(), fpm.at("releases/1/pub/note.php"));
    let one = thread::spawn(move || ask_for(&address, &script, id));
    sleep(SECOND / 5);
    one
}

#[track_caller]
pub fn hold(fpm: &Fpm) -> Value {
    let reply = fpm.run(json!({"state": "held"})).changed();
    assert_eq!((&reply["held"], &reply["in_flight"]), (&json!(true), &json!(0)), "{reply}");
    reply.value().clone()
}

#[track_caller]
pub fn release(fpm: &Fpm) {
    let reply = fpm.run(json!({"state": "released"})).changed();
    assert_eq!(reply["held"], false);
    leads_to_fpm(fpm);
}

/// Nothing of ours is left, and what is asked is answered.
#[track_caller]
pub fn leads_to_fpm(fpm: &Fpm) {
    let response = get(&fpm.address, &fpm.at("releases/1/pub/index.php"));
    assert_eq!(response.expect("php-fpm").status, 200);
    // The process that watches may have the lock for a moment.
    for _ in 0..200 {
        if beside(fpm).is_empty() {
            break;
        }
        sleep(SECOND / 20);
    }
    assert_eq!(beside(fpm), Vec::<String>::new());
    let reply = fpm.run(json!({"state": "status"})).unchanged();
    assert_eq!((&reply["held"], &reply["warnings"]), (&json!(false), &Value::Null), "{reply}");
}

/// The processes that hold (`hold`) or watch (`watch`) in this directory.
pub fn processes(fpm: &Fpm, what: &str) -> Vec<Pid> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let word = format!("\0--oxistrano-{what}\0");
        let is_one = fs::read(entry.path().join("cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&word));
        let directory = fs::read_link(entry.path().join("fd/0"));
        if is_one && directory.is_ok_and(|directory| directory == fpm.scratch.path()) {
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok()).unwrap();
            found.push(Pid::from_raw(pid).unwrap());
        }
    }
    found
}

#[track_caller]
pub fn only(fpm: &Fpm, what: &str) -> Pid {
    let found = processes(fpm, what);
    assert_eq!(found.len(), 1, "{what}: {found:?}");
    found[0]
}

#[track_caller]
pub fn within(time: Duration, what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < time, "not within {time:?}: {what}");
        sleep(SECOND / 100);
    }
}

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

#[test]
fn limits_that_are_none_are_refused() {
    for (name, value) in [("hold", 0), ("hold", 3601), ("hold_most", 0), ("hold_most", 10_001)] {
        let reply = module(&json!({"state": "held", name: value}));
        reply.failed("invalid_arguments").says([name, "must be from 1"]);
    }
}
