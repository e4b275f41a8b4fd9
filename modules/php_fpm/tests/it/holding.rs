//! A pool whose requests are held: clients that wait, and what is left in its directory.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use crate::common::{Fpm, SECOND, Setup, get};
use oxistrano_fastcgi::{Address, Request, Response, ask};
use oxistrano_harness::{Value, json};
use rustix::process::Pid;

/// Writes each request's name down, so that one that comes twice is seen.
pub const NOTE: &str = "<?php file_put_contents(dirname(__DIR__, 3) . '/notes', $_GET['id'] . \"\\n\", \
    FILE_APPEND | LOCK_EX); usleep(2000); echo $_GET['id'];";
pub const BODY: &str = "<?php $in = fopen('php://input', 'r'); $sum = hash_init('md5'); \
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

pub fn ask_for(address: &Address, script: &Path, id: &str) -> Option<Response> {
    let request = Request::new()
        .param("REQUEST_METHOD", "GET")
        .param("SCRIPT_NAME", "/note.php")
        .param("QUERY_STRING", format!("id={id}"))
        .param("SCRIPT_FILENAME", script.to_str().unwrap());
    ask(address, &request, 60 * SECOND).ok()
}

/// A request's name, the status of its answer, and how long that took.
pub type Answered = (String, Option<u16>, Duration);

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

    pub fn answered(&self) -> usize {
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
