//! `php_fpm` against a FastCGI server of the test: answers that no honest PHP gives, and
//! what happens on the way.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use oxistrano_harness::{Reply, Value, json, run_program};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_php_fpm");

/// The parameters and the body of a request, as far as the tests look at them.
struct Asked {
    script: PathBuf,
    mark: String,
    question: Value,
}

/// A server that lets `answer` say what goes to standard output.
struct Fake {
    scratch: TempDir,
    socket: PathBuf,
    asked: Receiver<(PathBuf, Value)>,
}

impl Fake {
    fn new(answer: impl Fn(&Asked) -> Vec<u8> + Send + 'static) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let socket = scratch.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let (sender, asked) = channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), &answer, &sender);
            }
        });
        Self { scratch, socket, asked }
    }

    fn arguments(&self, mut arguments: Value) -> Value {
        arguments["socket"] = self.socket.to_str().into();
        arguments["script_dir"] = self.scratch.path().to_str().into();
        arguments
    }

    #[track_caller]
    fn run(&self, arguments: Value) -> Reply {
        let reply = run_program(Path::new(PROGRAM), &self.arguments(arguments), None);
        self.nothing_is_left();
        reply
    }

    #[track_caller]
    fn nothing_is_left(&self) {
        let names: Vec<_> =
            fs::read_dir(self.scratch.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(
            names.iter().filter(|n| n.to_string_lossy().starts_with('.')).count(),
            0,
            "{names:?}"
        );
    }
}

fn serve(
    mut stream: UnixStream,
    answer: &impl Fn(&Asked) -> Vec<u8>,
    sender: &Sender<(PathBuf, Value)>,
) {
    let (mut params, mut body) = (Vec::new(), Vec::new());
    loop {
        let mut header = [0; 8];
        // One who only connects wants to know who we are.
        if stream.read_exact(&mut header).is_err() {
            return;
        }
        let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let mut content = vec![0; length + usize::from(header[6])];
        stream.read_exact(&mut content).unwrap();
        content.truncate(length);
        match header[1] {
            4 => params.extend(content),
            5 if length == 0 => break,
            5 => body.extend(content),
            _ => {}
        }
    }
    let text = String::from_utf8_lossy(&params).into_owned();
    let after = |name: &str, length: usize| {
        let at = text.find(name).unwrap() + name.len();
        text[at..].chars().take(length).collect::<String>()
    };
    let script = after("SCRIPT_FILENAME", 300);
    let script = PathBuf::from(script.split_inclusive(".php").next().unwrap());
    let question = serde(&body);
    let asked = Asked { script, mark: after("OXISTRANO_MARK", 32), question };
    let _ = sender.send((asked.script.clone(), asked.question.clone()));
    for part in answer(&asked).chunks(60_000) {
        let [high, low] = (part.len() as u16).to_be_bytes();
        if stream.write_all(&[&[1, 6, 0, 1, high, low, 0, 0], part].concat()).is_err() {
            return;
        }
    }
    let _ = stream.write_all(&[1, 3, 0, 1, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

fn serde(body: &[u8]) -> Value {
    String::from_utf8_lossy(body).parse().unwrap()
}

/// As the script answers.
fn said(asked: &Asked, answer: &Value) -> Vec<u8> {
    let mark = &asked.mark;
    format!("Content-type: text/html\r\n\r\n\n{mark}{answer}{mark}\n").into_bytes()
}

#[test]
fn the_script_is_there_while_it_is_asked_and_only_then() {
    let fake = Fake::new(|asked| {
        let source = fs::read_to_string(&asked.script).unwrap();
        assert!(source.starts_with("<?php"));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&asked.script), 0o644);
        assert_eq!(mode(asked.script.parent().unwrap()), 0o711);
        said(asked, &json!({"opcache": "absent", "php": "5.3"}))
    });
    fake.run(json!({"state": "status"})).unchanged().says(["PHP 5.3, opcache is not loaded"]);
    let (script, question) = fake.asked.try_recv().unwrap();
    assert!(!script.exists());
    assert_eq!(question["ask"], "status");
}

#[test]
fn answers_that_no_php_gives_are_refused() {
    type Answer = fn(&Asked) -> Vec<u8>;
    let cases: [(Answer, &str, &str); 9] = [
        (|_| Vec::new(), "fastcgi_no_answer", "its answer is empty"),
        (
            |_| b"Status: 500 Oh\r\n\r\n<b>oh\x1b[2J".to_vec(),
            "unexpected_answer",
            "(status 500): <b>oh\\u{1b}",
        ),
        (|_| b"X: y\r\n\r\n{\"opcache\": \"enabled\"}".to_vec(), "unexpected_answer", "to its end"),
        (|a| said(a, &json!([1])), "unexpected_answer", "not a JSON object"),
        (|a| said(a, &json!({})), "opcache_unavailable", "did not report it"),
        (|a| format!("\n{}{{", a.mark).into_bytes(), "unexpected_answer", "not a JSON object"),
        (
            |_| b"Status: 404 Not Found\r\n\r\nFile not found.\n".to_vec(),
            "script_not_run",
            "does not find it",
        ),
        (
            |_| b"Status: 403 Forbidden\r\n\r\nAccess denied.\n".to_vec(),
            "script_not_run",
            "may not read it",
        ),
        (
            |_| [b"\n".to_vec(), vec![b'x'; 40 << 20]].concat(),
            "fastcgi_no_answer",
            "more than 33554432 bytes",
        ),
    ];
    for (answer, code, text) in cases {
        let fake = Fake::new(answer);
        fake.run(json!({"state": "status"})).failed(code).says([text]);
    }
}

#[test]
fn names_that_lead_out_of_the_release_are_not_compiled() {
    let root = tempfile::tempdir().unwrap();
    for version in ["1", "2"] {
        fs::create_dir_all(root.path().join("releases").join(version)).unwrap();
    }
    std::os::unix::fs::symlink("releases/1", root.path().join("current")).unwrap();
    let fake = Fake::new(|asked| {
        let answer = match asked.question["ask"].as_str().unwrap() {
            "scripts" => {
                json!({"opcache": "enabled", "names": ["../../etc/x.php", "/etc/y.php", "a.php", 7]})
            }
            "compile" => {
                json!({"opcache": "enabled", "next": 1, "compiled": 1, "failed": "nonsense"})
            }
            _ => json!({"opcache": "enabled"}),
        };
        said(asked, &answer)
    });
    let reply = fake.run(json!({
        "state": "warmed", "deploy_to": root.path().to_str(), "release_path": root.path().join("releases/2").to_str(),
    }));
    assert_eq!(reply.changed()["warmed"]["compiled"], 1);
    let compiled = fake.asked.try_iter().find(|asked| asked.1["ask"] == "compile").unwrap();
    assert_eq!(compiled.1["names"], json!(["a.php"]));
    assert_eq!(
        compiled.1["base"],
        fs::canonicalize(root.path().join("releases/2")).unwrap().to_str().unwrap()
    );
}

/// Warms with a pool that no longer answers from this question on.
#[track_caller]
fn warmed_by_a_pool_that_is_stuck_at(stuck: &'static str) -> Reply {
    let fake = Fake::new(move |asked| {
        if asked.question["ask"] == stuck {
            thread::sleep(Duration::from_secs(4));
        }
        said(asked, &json!({"opcache": "enabled", "names": ["lib.php"]}))
    });
    let root = fake.scratch.path().join("shop");
    fs::create_dir_all(root.join("releases/1/pub")).unwrap();
    fs::create_dir_all(root.join("releases/2/pub")).unwrap();
    fs::write(root.join("releases/2/pub/index.php"), "<?php").unwrap();
    std::os::unix::fs::symlink("releases/1", root.join("current")).unwrap();
    let release = root.join("releases/2");
    fake.run(json!({"state": "warmed", "deploy_to": root.to_str(), "release_path": release.to_str(), "timeout": 2}))
}

#[test]
fn a_pool_that_is_too_slow_to_compile_all_is_warned_of() {
    let reply = warmed_by_a_pool_that_is_stuck_at("compile").unchanged();
    let warnings = reply["warnings"].to_string();
    assert!(warnings.contains("before the whole release was compiled, because the pool is busy"));
    let reply = warmed_by_a_pool_that_is_stuck_at("scripts").unchanged();
    let warnings = reply["warnings"].to_string();
    assert!(warnings.contains("no worker of the pool answered within 2 s"), "{reply}");
    // A pool of which nothing is known may be set up wrongly.
    let reply = warmed_by_a_pool_that_is_stuck_at("status").failed("fastcgi_timeout");
    assert!(reply.msg().contains("no worker of the pool answered"), "{reply}");
}

#[test]
fn a_pool_that_compiles_nothing_is_not_asked_for_ever() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("releases/1/pub")).unwrap();
    fs::write(root.path().join("releases/1/pub/index.php"), "<?php").unwrap();
    let fake =
        Fake::new(|asked| said(asked, &json!({"opcache": "enabled", "next": 0, "error": "oh"})));
    let reply = fake.run(json!({
        "state": "warmed", "deploy_to": root.path().to_str(), "release_path": root.path().join("releases/1").to_str(),
    }));
    reply
        .failed("unexpected_answer")
        .says(["does not compile anything: oh", "0 scripts were compiled"]);
}

#[test]
fn a_signal_ends_it_in_an_orderly_way() {
    let fake = Fake::new(|_| {
        thread::sleep(Duration::from_secs(30));
        Vec::new()
    });
    let arguments = fake.scratch.path().join("args");
    fs::write(&arguments, fake.arguments(json!({"state": "status"})).to_string()).unwrap();
    let mut child = Command::new(PROGRAM);
    let child =
        child.arg(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (script, _) = fake.asked.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(script.exists());
    let started = Instant::now();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let reply = Reply::of(&child.wait_with_output().unwrap()).failed("interrupted");
    reply.says(["SIGTERM"]);
    assert!(started.elapsed() < Duration::from_secs(5));
    fake.nothing_is_left();
}

#[test]
fn what_a_killed_run_leaves_the_next_one_removes() {
    let first = AtomicBool::new(true);
    let fake = Fake::new(move |asked| {
        if first.swap(false, Ordering::Relaxed) {
            thread::sleep(Duration::from_secs(2));
        }
        said(asked, &json!({"opcache": "absent"}))
    });
    let arguments = fake.scratch.path().join("args");
    fs::write(&arguments, fake.arguments(json!({"state": "status"})).to_string()).unwrap();
    let mut command = Command::new(PROGRAM);
    let mut child = command.arg(&arguments).stdout(Stdio::null()).spawn().unwrap();
    let (script, _) = fake.asked.recv_timeout(Duration::from_secs(20)).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(script.exists(), "nobody could remove it");
    let _ = fake.run(json!({"state": "status"})).unchanged();
    assert!(!script.exists());
}

#[test]
fn arguments_that_do_not_fit_together_are_all_reported() {
    let scratch = tempfile::tempdir().unwrap();
    let socket = scratch.path().join("none");
    let socket = socket.to_str().unwrap();
    let run = |arguments: Value| run_program(Path::new(PROGRAM), &arguments, None);
    run(json!({"socket": socket}))
        .failed("invalid_arguments")
        .says(["deploy_to is required with state=fresh"]);
    let reply = run(json!({"socket": socket, "state": "warmed", "timeout": 0, "requests": ["x"]}));
    reply.failed("invalid_arguments").says([
        "deploy_to",
        "release_path",
        "timeout",
        "'x' does not begin",
    ]);
    run(json!({"socket": "x", "state": "status"}))
        .failed("invalid_arguments")
        .says(["socket: 'x' is neither"]);
    run(json!({"socket": socket, "state": "status"})).failed("fastcgi_unreachable").says([
        "cannot connect to",
        "No such file",
        "Nothing was changed",
    ]);
}

#[test]
fn a_socket_of_another_program_is_not_reloaded_or_restarted() {
    let fake = Fake::new(|asked| said(asked, &json!({"opcache": "absent"})));
    fake.run(json!({"state": "reloaded"}))
        .failed("no_master")
        .says(["cannot reload", "Nothing was changed"]);
    fake.run(json!({"state": "restarted", "service": "-x"}))
        .failed("no_service")
        .says(["is not a valid service name"]);
}
