//! Several modules in one call of the program, as the action plugin asks for it.

use std::fs::{DirEntry, read_dir};
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use oxistrano_harness::{Root, Value, app, json, tar};

use super::PROGRAM;

struct Answer {
    phases: Vec<Value>,
    code: Option<i32>,
    text: String,
}

impl Answer {
    fn of(mut child: Child) -> Self {
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        let code = child.wait().unwrap().code();
        let lines = text.lines().filter_map(|line| line.strip_prefix("oxistrano-phase: "));
        Self { phases: lines.map(|line| line.parse().unwrap()).collect(), code, text }
    }

    fn result(&self, number: usize) -> Value {
        self.phases[number]["output"].as_str().unwrap().trim().parse().unwrap()
    }
}

/// Starts the program with a line on standard input, which stays open.
fn start(line: &str) -> Child {
    let mut child = Command::new(PROGRAM)
        .args(["release_phases", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.as_mut().unwrap(), "{line}").unwrap();
    child
}

/// The line that asks for these phases; `content`: the number of the one that gets what follows.
fn asked(phases: &[(&str, Value)], content: Option<usize>) -> String {
    let told: Vec<Value> = phases
        .iter()
        .map(|(module, arguments)| json!({"module": module, "arguments": arguments}))
        .collect();
    json!({"phases": told, "content": content}).to_string()
}

fn run(phases: &[(&str, Value)], content: Option<(usize, &[u8])>) -> Answer {
    let mut child = start(&asked(phases, content.map(|(number, _)| number)));
    // It need not read what no phase gets.
    let _ = child.stdin.take().unwrap().write_all(content.map_or(b"", |(_, bytes)| bytes));
    Answer::of(child)
}

fn setup(root: &Root, version: &str) -> (&'static str, Value) {
    ("release_setup", json!({"deploy_to": root.path(), "version": version}))
}

fn finish(root: &Root) -> (&'static str, Value) {
    ("release_setup", json!({"deploy_to": root.path(), "state": "finished"}))
}

fn info(root: &Root) -> (&'static str, Value) {
    ("release_info", json!({"deploy_to": root.path()}))
}

/// The archive is the content of the phase, as from the controller.
fn unpack(root: &Root, archive: &[u8], sha256: &str) -> (&'static str, Value) {
    let artifact = json!({"size": archive.len(), "sha256": sha256, "offset": 0});
    let src = "/on/the/controller.tar";
    (
        "release_unpack",
        json!({"deploy_to": root.path(), "version": "1", "src": src, "artifact": artifact}),
    )
}

fn sha256(root: &Root, bytes: &[u8]) -> String {
    let path = root.archive("archive", bytes);
    let ran = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(ran.stdout).unwrap()[..64].to_owned()
}

#[test]
fn they_run_one_after_the_other_and_the_content_goes_to_its_phase() {
    let root = Root::fresh();
    let archive = tar(&app("1"));
    let digest = sha256(&root, &archive);
    let link = json!({"deploy_to": root.path(), "version": "1", "shared_paths": ["var"]});
    let activate = json!({"deploy_to": root.path(), "version": "1"});
    let answer = run(
        &[
            setup(&root, "1"),
            unpack(&root, &archive, &digest),
            ("release_link", link),
            ("release_activate", activate),
        ],
        Some((1, &archive)),
    );
    assert_eq!((answer.phases.len(), answer.code), (4, Some(0)), "{}", answer.text);
    for (number, phase) in answer.phases.iter().enumerate() {
        assert_eq!(phase["code"], 0);
        assert!(phase["seconds"].as_f64().unwrap() >= 0.0);
        assert_eq!(answer.result(number)["changed"], true, "{}", answer.text);
    }
    assert_eq!(root.live(), "1");
}

#[test]
fn nothing_runs_after_a_failure() {
    let root = Root::fresh();
    let wrong = ("release_activate", json!({"deploy_to": root.path(), "version": "9"}));
    let answer = run(&[setup(&root, "1"), wrong, info(&root)], None);
    assert_eq!((answer.phases.len(), answer.code), (2, Some(1)), "{}", answer.text);
    assert_eq!(answer.phases[1]["code"], 1);
    assert_eq!(answer.result(1)["failed"], true);
}

#[test]
fn nothing_runs_after_a_module_that_asks_for_an_archive() {
    let root = Root::fresh();
    let archive = tar(&app("1"));
    let digest = sha256(&root, &archive);
    let mut asks = unpack(&root, &archive, &digest);
    asks.1["artifact"].as_object_mut().unwrap().remove("offset");
    let answer = run(&[setup(&root, "1"), asks, info(&root)], None);
    assert_eq!((answer.phases.len(), answer.code), (2, Some(1)), "{}", answer.text);
    assert_eq!(answer.result(1)["wanted"], 0);
    assert_ne!(answer.result(1)["failed"], true);
}

#[test]
fn what_cannot_be_asked_is_refused_as_a_module_does() {
    for asked in ["", "{", "[]", r#"{"phases": [{"module": "no_such", "arguments": {}}]}"#] {
        let mut child = start(asked);
        drop(child.stdin.take());
        let answer = Answer::of(child);
        assert_eq!((answer.phases.len(), answer.code), (0, Some(1)), "{asked}");
        let reply: Value = answer.text.trim().parse().unwrap();
        assert_eq!((&reply["failed"], &reply["code"]), (&json!(true), &json!("usage")), "{asked}");
    }
}

/// The bytes of the content that come.
const SENT: usize = 512;

/// The module waits for the content, of which only the beginning comes.
fn waiting(root: &Root, next: (&'static str, Value)) -> Child {
    let archive = tar(&app("1"));
    let digest = sha256(root, &archive);
    let phases = [unpack(root, &archive, &digest), next];
    let mut child = start(&asked(&phases, Some(0)));
    wait_until(|| module_of(&child).is_some());
    // It is where it waits: the part of the archive has come.
    child.stdin.as_mut().unwrap().write_all(&archive[..SENT]).unwrap();
    let artifacts = root.at(".oxistrano/artifacts");
    let length = |entry: DirEntry| entry.metadata().map_or(0, |info| info.len());
    wait_until(|| {
        read_dir(&artifacts)
            .is_ok_and(|parts| parts.flatten().any(|part| length(part) == SENT as u64))
    });
    child
}

fn wait_until(condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The process id of the module that runs.
fn module_of(child: &Child) -> Option<String> {
    let id = child.id();
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
    children.split_whitespace().next().map(str::to_owned)
}

fn kill(signal: &str, process: &str) {
    assert!(Command::new("kill").args([signal, process]).status().unwrap().success());
}

#[test]
fn a_signal_goes_on_to_the_module_which_ends_in_an_orderly_way() {
    let root = Root::fresh();
    drop(root.run("release_setup", json!({"version": "1"})).changed());
    let child = waiting(&root, info(&root));
    kill("-TERM", &child.id().to_string());
    let answer = Answer::of(child);
    assert_eq!(answer.phases.len(), 1, "{}", answer.text);
    assert_eq!((&answer.phases[0]["code"], answer.code), (&json!(1), Some(1)), "{}", answer.text);
    // And does not ask for the rest, with which the deploy would go on.
    let result = answer.result(0);
    assert_eq!((&result["code"], &result["wanted"]), (&json!("interrupted"), &json!(null)));
    let message =
        "interrupted by SIGTERM. What has come of the archive stays, and is not sent again.";
    assert_eq!(result["msg"], message);
}

#[test]
fn when_it_is_killed_the_module_ends_as_well() {
    let root = Root::fresh();
    drop(root.run("release_setup", json!({"version": "1"})).changed());
    let mut child = waiting(&root, info(&root));
    let module = module_of(&child).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until(|| !std::path::Path::new(&format!("/proc/{module}/exe")).exists());
}

#[test]
fn of_a_module_that_is_killed_the_code_is_told_and_nothing_else_runs() {
    let root = Root::fresh();
    drop(root.run("release_setup", json!({"version": "1"})).changed());
    let mut child = waiting(&root, info(&root));
    kill("-KILL", &module_of(&child).unwrap());
    // The sender goes on to the end of the content.
    drop(child.stdin.take());
    let answer = Answer::of(child);
    assert_eq!((answer.phases.len(), answer.code), (1, Some(137)), "{}", answer.text);
    assert_eq!(answer.phases[0]["code"], 137);
    assert_eq!(answer.phases[0]["output"], "");
}

#[test]
fn nothing_more_runs_when_nobody_reads_the_answer() {
    let root = Root::fresh();
    drop(root.run("release_setup", json!({"version": "1"})).changed());
    let mut child = waiting(&root, finish(&root));
    drop(child.stdout.take());
    // The content ends here, and with it the first phase.
    drop(child.stdin.take());
    child.wait().unwrap();
    assert_eq!(root.lock()["version"], "1");
}
