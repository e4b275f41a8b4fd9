//! `magento_cron`: what the cron jobs have started, with real processes.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use oxistrano_harness::{Reply, Shop, Signal, binary, json};

/// A process whose command line and directory look like one of Magento; ended with the test.
struct Job(Child);

impl Job {
    /// `bin/magento` is a script of the shell here that does what `script` says; `ready` is
    /// what it must not forget to make.
    fn start(shop: &Shop, directory: &Path, magento: &str, words: &[&str], script: &str) -> Self {
        let ready = shop.root.beside("ready");
        let _ = fs::remove_file(&ready);
        let program = directory.join(magento);
        fs::write(&program, format!("{script}\n: > '{}'\n{LOOP}", ready.display())).unwrap();
        let mut command = Command::new("sh");
        command.current_dir(directory).arg(magento).args(words).stdin(Stdio::null());
        let job = Self(command.spawn().unwrap());
        let started = Instant::now();
        while !ready.exists() {
            assert!(started.elapsed() < Duration::from_secs(60), "it does not start");
            sleep(Duration::from_millis(5));
        }
        job
    }

    fn runs(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

/// For a minute, without a child that would outlive the test for long.
const LOOP: &str = "i=0; while [ $i -lt 600 ]; do sleep 0.1; i=$((i+1)); done";

impl Drop for Job {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn shop() -> Shop {
    let shop = Shop::new();
    shop.program("crontab", "echo 'no crontab for you' >&2; exit 1");
    shop
}

#[test]
fn a_job_that_runs_is_waited_for() {
    let shop = shop();
    let release = shop.root.at("releases/1");
    let magento = release.join("bin/magento").display().to_string();
    let end = "trap 'exit 0' USR1; (sleep 1; kill -USR1 $$) &";
    let mut job = Job::start(&shop, &release, &magento, &["cron:run", "--group=index"], end);
    let started = Instant::now();
    let reply = shop.run("magento_cron", json!({"state": "held", "wait": 50})).unchanged();
    assert!(!job.runs(), "it did not wait");
    assert!(started.elapsed() < Duration::from_secs(40));
    assert_eq!(reply["left"], json!([]));
    reply.has_no_warnings();
}

#[test]
fn one_that_does_not_end_is_told_of_and_left_alone() {
    let shop = shop();
    // By a path relative to its directory, as in `cd …/current && php bin/magento`.
    let release = shop.root.at("releases/1");
    let mut job = Job::start(&shop, &release, "bin/magento", &["cron:run"], "");
    let reply = shop.run("magento_cron", json!({"state": "held", "wait": 1})).unchanged();
    assert!(job.runs(), "it was ended");
    let left = reply["left"].as_array().unwrap();
    assert_eq!(left.len(), 1, "{reply}");
    assert_eq!(left[0], format!("sh bin/magento cron:run ({})", job.0.id()));
    reply.warns("still running after 1 s");
    let reply = shop.run("magento_cron", json!({"state": "held", "wait": 0})).unchanged();
    assert_eq!(reply["left"].as_array().unwrap().len(), 1);
    // To let the jobs go on nothing is waited for.
    let reply = shop.run("magento_cron", json!({"state": "running"})).unchanged();
    assert!(reply["left"].is_null(), "{reply}");
}

#[test]
fn a_job_that_has_given_its_process_a_title_is_waited_for_too() {
    let shop = shop();
    let magento = shop.root.at("releases/1/bin/magento").display().to_string();
    let title = format!("/usr/bin/php8.2 {magento} cron:run # group: default, job: acme");
    let mut command = Command::new("cat");
    command.arg0(&title).stdin(Stdio::piped()).stdout(Stdio::null());
    let job = Job(command.spawn().unwrap());
    let reply = shop.run("magento_cron", json!({"state": "held", "wait": 1})).unchanged();
    assert_eq!(reply["left"], json!([format!("{title} ({})", job.0.id())]));
    reply.warns("still running after 1 s");
}

#[test]
fn consumers_are_asked_to_end_unless_they_may_go_on() {
    let shop = shop();
    let release = shop.root.at("releases/2");
    let magento = release.join("bin/magento").display().to_string();
    let words = ["queue:consumers:start", "async.operations.all"];
    let mut job = Job::start(&shop, &release, &magento, &words, "trap 'exit 0' TERM");
    let arguments = json!({"state": "held", "wait": 1, "stop_consumers": false});
    let reply = shop.run("magento_cron", arguments).unchanged();
    assert!(job.runs());
    assert_eq!(reply["left"], json!([]), "it may run");
    // Check mode ends nobody.
    let _ = shop.check("magento_cron", json!({"state": "held"})).unchanged();
    assert!(job.runs());
    let reply = shop.run("magento_cron", json!({"state": "held", "wait": 50})).unchanged();
    assert!(!job.runs());
    assert_eq!(reply["left"], json!([]));
}

#[test]
fn what_is_not_of_this_shop_or_does_something_else_goes_on() {
    let shop = shop();
    let other = shop.root.beside("shop2/releases/1");
    fs::create_dir_all(other.join("bin")).unwrap();
    let consumer = "queue:consumers:start";
    let release = shop.root.at("releases/1");
    let mut jobs = [
        Job::start(&shop, &other, "bin/magento", &[consumer], ""),
        Job::start(&shop, &release, "bin/magento", &["indexer:reindex", consumer], ""),
        Job::start(&shop, &release, "app/etc/config.php", &[consumer], ""),
    ];
    let started = Instant::now();
    let reply = shop.run("magento_cron", json!({"state": "held", "wait": 30})).unchanged();
    assert!(started.elapsed() < Duration::from_secs(20), "it waited for a stranger");
    assert_eq!(reply["left"], json!([]));
    assert!(jobs.iter_mut().all(Job::runs));
}

#[test]
fn a_signal_ends_the_waiting_and_the_jobs_stay_held() {
    let shop = shop();
    let asked = shop.root.beside("asked");
    shop.program(
        "crontab",
        &format!(": > '{}'; echo 'no crontab for you' >&2; exit 1", asked.display()),
    );
    let release = shop.root.at("releases/1");
    let _job = Job::start(&shop, &release, "bin/magento", &["cron:run"], "");
    let started = Instant::now();
    let running = shop.start("magento_cron", json!({"state": "held", "wait": 100}));
    while !asked.exists() {
        assert!(started.elapsed() < Duration::from_secs(30), "it does not look at the crontab");
        sleep(Duration::from_millis(5));
    }
    // From there to the waiting it has nothing to do.
    sleep(Duration::from_millis(500));
    running.terminate().failed("interrupted").says(["SIGTERM", "The cron jobs are disabled"]);
    assert!(started.elapsed() < Duration::from_secs(40));
}

#[test]
fn what_a_job_was_called_with_is_shown_in_one_short_line() {
    let shop = shop();
    let release = shop.root.at("releases/1");
    let long = "x".repeat(100_000);
    let words = ["cron:run", "\u{1b}]0;title\u{7}\u{9b}2J\nTASK [done]\u{202e}", &long, &long];
    let _job = Job::start(&shop, &release, "bin/magento", &words, "");
    let reply = shop.run("magento_cron", json!({"state": "held", "wait": 0})).unchanged();
    let shown = reply["left"][0].as_str().unwrap();
    assert!(shown.starts_with("sh bin/magento cron:run \\u{1b}]0;title"), "{shown}");
    assert!(!shown.contains(|c: char| c.is_control() || c == '\u{202e}'), "{shown:?}");
    assert!(shown.chars().count() < 300, "{shown}");
    assert!(reply.to_string().len() < 10_000);
}

#[test]
fn a_user_database_that_does_not_answer_ends_and_hears_a_signal() {
    let shop = shop();
    shop.program("getent", "sleep 60");
    let arguments = json!({"state": "held", "wait": 0, "user": "nobody-at-all"});
    let started = Instant::now();
    let reply = shop.run("magento_cron", arguments.clone()).failed("command_failed");
    reply.says(["cannot look up 'nobody-at-all' (passwd)", "did not end within 10 s", "nsswitch"]);
    assert!(started.elapsed() < Duration::from_secs(40));
    let started = Instant::now();
    let running = shop.start("magento_cron", arguments);
    sleep(Duration::from_secs(2));
    running.terminate().failed("interrupted").says(["SIGTERM"]);
    // Before its time is over.
    assert!(started.elapsed() < Duration::from_secs(9), "{:?}", started.elapsed());
}

#[test]
fn a_signal_ends_the_waiting_for_arguments_that_do_not_come() {
    let mut command = Command::new(binary("magento_cron"));
    let command = command.arg("-").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut module = command.spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&module);
    // The pipe stays open, and half of something has come.
    let mut sender = module.stdin.take().unwrap();
    std::io::Write::write_all(&mut sender, b"{\"state\": ").unwrap();
    sleep(Duration::from_secs(1));
    let started = Instant::now();
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    let reply = Reply::of(&module.wait_with_output().unwrap());
    reply.failed("interrupted").says(["SIGTERM", "Nothing was changed."]);
    assert!(started.elapsed() < Duration::from_secs(20));
    drop(sender);
}
