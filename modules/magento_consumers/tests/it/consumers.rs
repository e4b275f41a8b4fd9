//! Real processes that wait as consumers do, and work as they do.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use oxistrano_harness::{Shop, json};

/// Waits for messages as with a queue in the database; with a file `work-N` it works on one until that is gone.
const SLEEPS: &str = "time.sleep(60)";
/// The same with a broker.
const SELECTS: &str = "select.select([socket.create_server(('127.0.0.1', 0))], [], [], 60)";

/// A consumer of a shop; ended with the test.
struct Consumer {
    process: Child,
    work: std::path::PathBuf,
}

impl Consumer {
    /// By the path `magento`, as seen from `directory`.
    fn start(shop: &Shop, directory: &Path, magento: &str, waits: &str) -> Self {
        Self::start_at_work(shop, directory, magento, waits, false)
    }

    fn start_at_work(
        shop: &Shop,
        directory: &Path,
        magento: &str,
        waits: &str,
        works: bool,
    ) -> Self {
        static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (ready, work) = (
            shop.root.beside(format!("ready-{number}")),
            shop.root.beside(format!("work-{number}")),
        );
        if works {
            fs::write(&work, "").unwrap();
        }
        let script = format!(
            "import os, select, socket, time\nready, work = {:?}, {:?}\nopen(ready, 'w').close()\n\
             while True:\n    while os.path.exists(work): pass\n    {waits}\n",
            ready.display().to_string(),
            work.display().to_string(),
        );
        fs::write(directory.join(magento), script).unwrap();
        let mut command = Command::new("python3");
        command
            .current_dir(directory)
            .args([magento, "queue:consumers:start", "export"])
            .stdin(Stdio::null());
        let consumer = Self { process: command.spawn().unwrap(), work };
        consumer.until("it does not start", |_| ready.exists());
        if !works {
            consumer.until("it does not wait", |consumer| consumer.state() == 'S');
        }
        consumer
    }

    fn until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let started = Instant::now();
        while !done(self) {
            assert!(started.elapsed() < Duration::from_secs(60), "{what}");
            sleep(Duration::from_millis(5));
        }
    }

    fn state(&self) -> char {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        stat.rsplit(") ").next().unwrap().chars().next().unwrap()
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.process.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    fn name(&self) -> String {
        format!("({})", self.process.id())
    }

    #[track_caller]
    fn was_ended(&mut self) {
        let status = self.process.wait().unwrap();
        assert_eq!(status.signal(), Some(15), "{status}");
    }

    #[track_caller]
    fn goes_on(&mut self) {
        assert!(self.process.try_wait().unwrap().is_none(), "it was ended");
        assert_ne!(self.state(), 'T', "it was stopped");
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Release 2 is the one that is to run.
fn shop() -> Shop {
    let shop = Shop::new();
    shop.answer("queue:consumers:restart", "exit 0");
    shop
}

#[test]
fn those_that_wait_and_run_other_code_are_ended() {
    let shop = shop();
    let old = shop.root.at("releases/1");
    let live = shop.root.at("releases/2");
    let magento = old.join("bin/magento").display().to_string();
    let mut first = Consumer::start(&shop, &old, &magento, SLEEPS);
    let mut second = Consumer::start(&shop, &old, "bin/magento", SELECTS);
    let mut new = Consumer::start(&shop, &live, "bin/magento", SLEEPS);
    let reply = shop.check("magento_consumers", json!({"state": "restarted"})).changed();
    reply.says(["2 consumers would be restarted"]);
    first.goes_on();
    let reply = shop.run("magento_consumers", json!({"state": "restarted"})).changed();
    reply.says(["2 consumers were ended"]);
    reply.has_no_warnings();
    assert_eq!(reply["left"], json!([]));
    let magento = live.join("bin/magento");
    assert_eq!(
        shop.calls(),
        [format!("{} queue:consumers:restart --no-ansi -n", magento.display())]
    );
    first.was_ended();
    second.was_ended();
    new.goes_on();
    let reply = shop
        .run("magento_consumers", json!({"state": "restarted", "poison_pill": false}))
        .unchanged();
    reply.says(["no consumers of this shop were"]);
    assert_eq!(shop.calls().len(), 1, "no pill was wanted");
}

#[test]
fn one_that_works_on_a_message_finishes_it_first() {
    let shop = shop();
    let old = shop.root.at("releases/1");
    let mut consumer = Consumer::start_at_work(&shop, &old, "bin/magento", SLEEPS, true);
    let reply = shop.run("magento_consumers", json!({"state": "restarted", "wait": 1}));
    reply.warns("were still working on messages after 1 s");
    assert!(reply["left"][0].as_str().unwrap().ends_with(&consumer.name()), "{reply}");
    consumer.goes_on();

    let work = consumer.work.clone();
    let ends = std::thread::spawn(move || {
        sleep(Duration::from_millis(500));
        fs::remove_file(work).unwrap();
    });
    let reply = shop.run("magento_consumers", json!({"state": "restarted", "wait": 50})).changed();
    ends.join().unwrap();
    assert_eq!(reply["left"], json!([]));
    consumer.was_ended();
}

#[test]
fn those_that_are_held_are_stopped_until_they_are_released_or_ended() {
    let shop = shop();
    let old = shop.root.at("releases/1");
    let mut consumer = Consumer::start(&shop, &old, "bin/magento", SLEEPS);
    let held = json!({"state": "held"});
    shop.run("magento_consumers", held.clone()).changed().says(["1 consumer was held"]);
    assert_eq!(consumer.state(), 'T');
    // Again: it still is.
    assert_eq!(
        shop.run("magento_consumers", held.clone())["consumers"].as_array().unwrap().len(),
        1
    );
    shop.run("magento_consumers", json!({"state": "released"}))
        .changed()
        .says(["1 consumer was released"]);
    consumer.goes_on();
    let _ = shop.run("magento_consumers", json!({"state": "released"})).unchanged();

    consumer.until("it does not wait", |consumer| consumer.state() == 'S');
    let _ = shop.run("magento_consumers", held);
    let _ = shop.run("magento_consumers", json!({"state": "restarted"})).changed();
    consumer.was_ended();
}

#[test]
fn one_that_runs_the_live_code_and_was_held_goes_on() {
    let shop = shop();
    let mut consumer = Consumer::start(&shop, &shop.root.at("releases/2"), "bin/magento", SLEEPS);
    let _ = shop.run("magento_consumers", json!({"state": "held"})).changed();
    assert_eq!(consumer.state(), 'T');
    let _ = shop.run("magento_consumers", json!({"state": "restarted"}));
    consumer.goes_on();
}

#[test]
fn one_that_somebody_has_stopped_in_the_middle_of_a_message_is_not_ended() {
    let shop = shop();
    let old = shop.root.at("releases/1");
    let mut consumer = Consumer::start_at_work(&shop, &old, "bin/magento", SLEEPS, true);
    consumer.signal("STOP");
    consumer.until("it does not stop", |consumer| consumer.state() == 'T');
    shop.run("magento_consumers", json!({"state": "restarted", "wait": 0})).warns("still working");
    consumer.goes_on();
}

#[test]
fn by_the_path_through_current_the_code_is_what_was_live_at_the_start() {
    let shop = shop();
    let magento = shop.root.at("current/bin/magento").display().to_string();
    let mut before = Consumer::start(&shop, &shop.root.path(), &magento, SLEEPS);
    // The switch; both times are told by the hundredth of a second.
    sleep(Duration::from_millis(50));
    fs::remove_file(shop.root.at("current")).unwrap();
    shop.root.link("current", "./releases/2");
    sleep(Duration::from_millis(50));
    let mut after = Consumer::start(&shop, &shop.root.path(), &magento, SLEEPS);
    shop.run("magento_consumers", json!({"state": "restarted"})).says(["1 consumer was ended"]);
    before.was_ended();
    after.goes_on();
}

#[test]
fn a_magento_that_cannot_tell_its_consumers_is_no_failure() {
    let shop = Shop::new();
    let reply = shop.run("magento_consumers", json!({"state": "restarted"})).unchanged();
    assert_eq!(reply["poison_pill"], json!(false));
    reply.has_no_warnings();
    shop.answer(
        "queue:consumers:restart",
        "echo 'SQLSTATE[HY000] [2002] Connection refused' >&2; exit 255",
    );
    let mut consumer = Consumer::start(&shop, &shop.root.at("releases/1"), "bin/magento", SLEEPS);
    let reply = shop.run("magento_consumers", json!({"state": "restarted"})).changed();
    reply.warns("Connection refused");
    consumer.was_ended();
}

#[test]
fn a_command_that_takes_too_long_leaves_no_consumer_stopped() {
    let shop = Shop::new();
    shop.answer("queue:consumers:restart", "sleep 60");
    let mut old = Consumer::start(&shop, &shop.root.at("releases/1"), "bin/magento", SLEEPS);
    let mut live = Consumer::start(&shop, &shop.root.at("releases/2"), "bin/magento", SLEEPS);
    let held = json!({"state": "held", "poison_pill": false});
    shop.run("magento_consumers", held).changed().says(["2 consumers were held"]);
    let reply = shop.run("magento_consumers", json!({"state": "restarted", "timeout": 1}));
    reply.changed().warns("queue:consumers:restart");
    old.was_ended();
    live.goes_on();
}
