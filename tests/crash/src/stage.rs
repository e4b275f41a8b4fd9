//! A Magento shop on which modules are disturbed: the harness's, whose `php` keeps what the
//! database would in files, with a crontab, a pool and a Varnish server of its own.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use oxistrano_harness::{Shop, Value, is_root, json};

use crate::peers;
use crate::programs::{Programs, Said};

/// What stands in for Magento's commands: each does its part of the database in one step, or
/// says nothing of having done it.
const COMMANDS: [(&str, &str); 8] = [
    (
        "setup:upgrade",
        "becomes schema && becomes data && becomes config && printf '%s\\n' Schema Data 'Nothing to import.'",
    ),
    ("setup:db-schema:upgrade", "becomes schema && echo 'Schema creation/updates:'"),
    ("setup:db-data:upgrade", "becomes data && echo 'Data install/update:'"),
    ("app:config:import", "becomes config && echo 'Nothing to import.'"),
    ("cache:flush", "becomes cache && printf '%s\\n' 'Flushed cache types:' config layout"),
    ("cache:clean", "becomes cache && printf '%s\\n' 'Cleaned cache types:' config layout"),
    ("setup:db:status", "echo \"Run 'setup:upgrade' to update your DB schema and data.\"; exit 2"),
    ("app:config:status", "echo 'Config files are up to date.'"),
];
const BECOMES: &str =
    "becomes() { echo new > \"$here/db/$1.new\" && mv \"$here/db/$1.new\" \"$here/db/$1\"; }";
/// As cron's own: the old one, or the new one.
const CRONTAB: &str = r#"case $1 in
-l) cat "$CRONTAB" ;;
-) cat > "$CRONTAB.new" && mv "$CRONTAB.new" "$CRONTAB" ;;
esac
"#;
/// The lines of the shop, of another, and of Magento's own making.
const JOBS: &str = "MAILTO=ops@example.com\n\
    #~ MAGENTO START 0123\n\
    * * * * * php {}/releases/1/bin/magento cron:run\n\
    #~ MAGENTO END 0123\n\
    */5 * * * * cd {}/current && php bin/magento queue:consumers:start x\n\
    * * * * * php {}2/current/bin/magento cron:run\n";

/// What is put back before each run: the deploy root, what stands for the database, for the
/// crontab, for opcache and Varnish, and what nobody may touch.
const WORLD: [&str; 5] = ["shop", "php", "cron", "peers", "outside"];
/// Where the pool listens.
const SOCKET: &str = "pool.sock";
/// The user of the web, to whom releases and `shared` belong.
const WEB: &str = "33:33";

/// The shop and its surroundings.
#[derive(Debug)]
pub struct Stage {
    /// The modules.
    pub programs: Programs,
    shop: Shop,
    top: PathBuf,
    port: u16,
    listener: UnixListener,
}

impl Stage {
    /// A shop whose releases share `var`, or each have their own. `top` is for what belongs to
    /// the harness itself.
    pub fn new(modules: &Path, top: &Path, shares_var: bool) -> Self {
        let shop = if shares_var { Shop::new() } else { Shop::with_own_vars() };
        let mut programs = Programs::new(modules, &top.join("run"));
        programs.with_children = false;
        let beside = |name: &str| shop.root.beside(name);
        shop.program(
            "crontab",
            &format!("CRONTAB='{}'\n{CRONTAB}", beside("cron/crontab").display()),
        );
        let path = std::env::var("PATH").unwrap_or_default();
        programs.set("PATH", format!("{}:{path}", beside("programs").display()));
        for (command, script) in COMMANDS {
            shop.answer(command, &format!("{BECOMES}\n{script}"));
        }
        for directory in ["php/db", "cron", "peers", "outside", "shop/.oxistrano"] {
            fs::create_dir_all(beside(directory)).expect("a directory");
        }
        for part in ["schema", "data", "config", "cache"] {
            fs::write(beside("php/db").join(part), "old\n").expect("a file");
        }
        let jobs = JOBS.replace("{}", shop.root.path().to_str().expect("UTF-8"));
        fs::write(beside("cron/crontab"), jobs).expect("the crontab");
        // PHP writes them anew: the directory is not touched by it.
        for file in ["php/calls", "php/directory"] {
            fs::write(beside(file), "").expect("a file");
        }
        fs::write(beside("peers/opcache"), peers::OPCACHE).expect("a file");
        fs::write(beside("outside/victim"), "untouched").expect("a file");
        // What a deploy keeps there is nothing to these modules.
        for mark in ["lock.json", "history.jsonl"] {
            shop.root.write(Path::new(".oxistrano").join(mark), "{}\n");
        }
        for (file, text) in [("pub/index.php", "<?php"), ("lib.php", "<?php")] {
            shop.root.write(Path::new("releases/1").join(file), text);
            shop.root.write(Path::new("releases/2").join(file), text);
        }
        let port = peers::varnish(beside("peers/varnish"));
        let opcache = beside("peers/opcache");
        let entry = shop.root.path().join("current/pub/index.php");
        let listener = peers::pool(&beside(SOCKET), opcache, entry);
        let stage = Self { programs, shop, top: top.to_owned(), port, listener };
        if is_root() {
            for directory in ["releases", "shared"] {
                run("chown", &["-Rh", WEB], &[], &[stage.root().join(directory)]);
            }
        }
        stage
    }

    /// The deploy root.
    pub fn root(&self) -> PathBuf {
        self.shop.root.path()
    }

    /// Something beside it.
    pub fn beside(&self, path: &str) -> PathBuf {
        self.shop.root.beside(path)
    }

    /// Everything, deploy root and surroundings.
    pub fn everything(&self) -> PathBuf {
        self.shop.root.beside("")
    }

    /// A file for the harness.
    pub fn log(&self) -> PathBuf {
        self.top.join("trace")
    }

    /// The arguments with which modules find the shop and the words of PHP.
    pub fn with(&self, mut arguments: Value) -> Value {
        arguments["deploy_to"] = self.root().to_str().into();
        arguments
    }

    /// The same for modules that run PHP for release 2.
    pub fn with_php(&self, arguments: Value) -> Value {
        let mut arguments = self.with(arguments);
        arguments["path"] = self.root().join("releases/2").to_str().into();
        arguments["php"] = self.shop.php();
        arguments
    }

    /// Those that say where the pool is.
    pub fn with_pool(&self, arguments: Value) -> Value {
        let mut arguments = self.with(arguments);
        arguments["socket"] = self.socket().to_str().into();
        arguments
    }

    /// Where Varnish listens.
    pub fn varnish(&self) -> Value {
        json!([format!("127.0.0.1:{}", self.port)])
    }

    fn socket(&self) -> PathBuf {
        self.beside(SOCKET)
    }

    /// What the pool listens on.
    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Puts a program in front of all others of its name.
    pub fn program(&self, name: &str, script: &str) {
        self.shop.program(name, script);
    }

    /// Runs a module to its end, and all that it has begun.
    pub fn run(&self, module: &str, arguments: &Value) -> Said {
        let said = self.programs.run(module, arguments, &[]);
        self.settle();
        said
    }

    /// The same; it has to succeed.
    #[track_caller]
    pub fn must(&self, module: &str, arguments: &Value) -> Value {
        let value = self.programs.must(module, arguments);
        self.settle();
        value
    }

    /// How often PHP was started.
    pub fn calls(&self) -> usize {
        self.shop.calls().len()
    }

    /// Waits for what a module that is no more has begun.
    pub fn settle(&self) {
        peers::settle_pool(&self.socket());
        peers::settle_varnish(self.port);
        let started = Instant::now();
        // One that begins during a look is not seen by it, where its number is one that the look has passed.
        while self.is_at_work() || self.is_at_work() {
            assert!(started.elapsed() < Duration::from_secs(30), "it never ends");
            sleep(Duration::from_millis(2));
        }
    }

    /// Whether a process of the shop runs: one that names it, or has a file of it open.
    fn is_at_work(&self) -> bool {
        let everything = self.everything();
        let name = everything.to_str().expect("UTF-8").trim_end_matches('/');
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let mut processes = processes.filter(|process| {
            let pid = process.file_name().to_string_lossy().parse::<u32>();
            pid.is_ok_and(|pid| pid != std::process::id())
        });
        processes.any(|process| {
            let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
            let output = fs::read_link(process.path().join("fd/1")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(name) || output.starts_with(name)
        })
    }

    /// Keeps a copy of all that is put back.
    pub fn keep(&self) {
        let kept = self.top.join("kept");
        fs::create_dir_all(&kept).expect("a directory");
        run("cp", &["-a", "-t"], &[kept], &WORLD.map(|part| self.beside(part)));
    }

    /// Puts it back.
    pub fn restore(&self) {
        let kept = WORLD.map(|part| self.top.join("kept").join(part));
        run("rm", &["-rf"], &[], &WORLD.map(|part| self.beside(part)));
        run("cp", &["-a", "-t"], &[self.everything()], &kept);
    }

    /// Puts the deploy root, the database and the crontab back, and nothing else: the rest is what
    /// nobody may touch.
    pub fn put_back_shop(&self) {
        let parts = ["shop", "php", "cron"];
        let kept = parts.map(|part| self.top.join("kept").join(part));
        run("rm", &["-rf"], &[], &parts.map(|part| self.beside(part)));
        run("cp", &["-a", "-t"], &[self.everything()], &kept);
    }
}

fn run(program: &str, options: &[&str], to: &[PathBuf], paths: &[PathBuf]) {
    let status = Command::new(program).args(options).args(to).args(paths).status();
    assert!(status.is_ok_and(|status| status.success()), "{program} {options:?} {paths:?}");
}
