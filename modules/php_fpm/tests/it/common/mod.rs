//! A php-fpm of our own with a deploy root of our own.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use oxistrano_fastcgi::{Address, Request, Response, ask};
use oxistrano_harness::{Reply, Value, is_root, json, not_checked, run_program};
use tempfile::TempDir;

pub const SECOND: Duration = Duration::from_secs(1);

/// Runs the module.
#[track_caller]
pub fn module(arguments: &Value) -> Reply {
    run_program(Path::new(env!("CARGO_BIN_EXE_php_fpm")), arguments, None)
}

/// php-fpm's program, the youngest if there are several.
pub fn program() -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = ["/usr/sbin", "/usr/local/sbin"]
        .iter()
        .filter_map(|directory| fs::read_dir(directory).ok())
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("php-fpm")))
        .collect();
    found.sort();
    found.pop()
}

/// How a php-fpm is set up.
#[derive(Default, Clone)]
pub struct Setup {
    /// Lines of `[global]`.
    pub global: String,
    /// Lines of the pool.
    pub pool: String,
    /// `opcache.validate_timestamps=1` for example.
    pub ini: Vec<String>,
    /// `listen` instead of a socket.
    pub listen: Option<String>,
}

fn spawn(top: &Path, ini: &[String]) -> Child {
    let mut command = Command::new(program().expect("php-fpm"));
    command.arg("-y").arg(top.join("fpm.conf"));
    let defaults = ["opcache.enable=1", "opcache.validate_timestamps=0", "opcache.jit=off"];
    for ini in defaults.iter().copied().chain(ini.iter().map(String::as_str)) {
        command.arg("-d").arg(ini);
    }
    let output = fs::File::options().create(true).append(true).open(top.join("out"));
    let output = output.expect("a file");
    command.stdin(Stdio::null()).stdout(output.try_clone().expect("a file")).stderr(output);
    command.spawn().expect("php-fpm")
}

/// A running php-fpm beside a deploy root `shop` with two releases, the first one live.
pub struct Fpm {
    pub scratch: TempDir,
    pub address: Address,
    child: Child,
}

impl Fpm {
    /// Starts it; `None`, said loudly, where there is no php-fpm.
    #[track_caller]
    pub fn start(setup: Setup) -> Option<Self> {
        if program().is_none() {
            not_checked("php-fpm is not installed, so nothing was tried on a real one");
            return None;
        }
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let top = scratch.path();
        fs::set_permissions(top, fs::Permissions::from_mode(0o755)).expect("permissions");
        let socket = top.join("fpm.sock");
        let listen = setup.listen.clone().unwrap_or_else(|| socket.display().to_string());
        let user = if is_root() { "user = nobody\ngroup = nogroup\n" } else { "" };
        let config = format!(
            "[global]\nerror_log = {log}\ndaemonize = no\n{global}\n[test]\nlisten = {listen}\n\
             listen.mode = 0666\n{user}pm = static\npm.max_children = 2\ncatch_workers_output = yes\n{pool}\n",
            log = top.join("fpm.log").display(),
            global = setup.global,
            pool = setup.pool,
        );
        fs::write(top.join("fpm.conf"), config).expect("the configuration");
        let child = spawn(top, &setup.ini);
        let fpm = Self { address: Address::new(&listen).expect("an address"), scratch, child };
        for version in ["1", "2"] {
            fpm.release(version);
        }
        fpm.switch("1");
        fpm.until(|| fpm.get("/none.php").is_some());
        Some(fpm)
    }

    #[track_caller]
    fn until(&self, ready: impl Fn() -> bool) {
        let started = Instant::now();
        while !ready() {
            assert!(started.elapsed() < 20 * SECOND, "php-fpm is not ready: {}", self.log());
            sleep(Duration::from_millis(10));
        }
    }

    pub fn log(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.scratch.path().join(name));
        format!("{}{}", read("out").unwrap_or_default(), read("fpm.log").unwrap_or_default())
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it, with this signal.
    pub fn stop(&mut self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("php-fpm");
        self.child.wait().expect("php-fpm");
    }

    /// Starts it again, with the same configuration.
    pub fn start_again(&mut self) {
        self.child = spawn(self.scratch.path(), &[]);
    }

    pub fn root(&self) -> PathBuf {
        self.scratch.path().join("shop")
    }

    pub fn at(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    /// A file with a time an hour ago, so that opcache keeps it.
    pub fn write(&self, path: &str, contents: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        // As rsync does: a new file renamed into place.
        let new = path.with_extension("new");
        fs::write(&new, contents).expect("a file");
        let file = fs::File::options().write(true).open(&new).expect("the file");
        file.set_modified(SystemTime::now() - 3600 * SECOND).expect("its time");
        fs::rename(&new, &path).expect("a rename");
    }

    /// A release: an entry point, a library, a few classes.
    pub fn release(&self, version: &str) {
        let release = format!("releases/{version}");
        self.write(
            &format!("{release}/pub/index.php"),
            "<?php require __DIR__ . '/../lib.php'; for ($i = 0; $i < 10; $i++) { \
             require __DIR__ . \"/../src/C$i.php\"; } header('X-Worker: ' . getmypid()); echo version();",
        );
        let library = format!("<?php function version() {{ return 'release {version}'; }}");
        self.write(&format!("{release}/lib.php"), &library);
        for index in 0..10 {
            let class =
                format!("<?php class C{index} {{ function f() {{ return '{version}'; }} }}");
            self.write(&format!("{release}/src/C{index}.php"), &class);
        }
        // Not one sleep(3): a signal to the worker would end it.
        self.write(
            &format!("{release}/pub/slow.php"),
            "<?php for ($end = microtime(true) + 3; microtime(true) < $end;) { usleep(10000); } echo 'slept';",
        );
    }

    /// As release_activate does it.
    pub fn switch(&self, version: &str) {
        let new = self.at("new");
        symlink(format!("releases/{version}"), &new).expect("a link");
        fs::rename(new, self.at("current")).expect("a rename");
    }

    /// Asks for a script by its path.
    pub fn get(&self, path: impl AsRef<Path>) -> Option<Response> {
        get(&self.address, path.as_ref())
    }

    /// What a page says, by the path that nginx passes with `$realpath_root`.
    #[track_caller]
    pub fn by_realpath(&self) -> String {
        let path = fs::canonicalize(self.at("current/pub/index.php")).expect("the release");
        self.text(&path)
    }

    /// The same with `$document_root`.
    #[track_caller]
    pub fn by_link(&self) -> String {
        self.by(&self.at("current/pub/index.php"))
    }

    /// What a page says, by both workers: which one answers is the kernel's choice.
    #[track_caller]
    pub fn by(&self, path: &Path) -> String {
        let (mut said, mut workers) = (BTreeSet::new(), BTreeSet::new());
        for asked in 0.. {
            if asked >= 8 && workers.len() >= 2 {
                break;
            }
            assert!(asked < 5000, "only {workers:?} answer");
            let response = self.answer(path);
            let worker = response.headers.into_iter().find(|(name, _)| name == "X-Worker");
            workers.insert(worker.expect("its number").1);
            said.insert(String::from_utf8(response.body).expect("UTF-8"));
        }
        assert_eq!(said.len(), 1, "{said:?}");
        said.pop_first().expect("an answer")
    }

    #[track_caller]
    fn answer(&self, path: &Path) -> Response {
        let response = self.get(path).expect("an answer");
        assert_eq!(response.status, 200, "{response:?}");
        response
    }

    #[track_caller]
    fn text(&self, path: &Path) -> String {
        String::from_utf8(self.answer(path).body).expect("UTF-8")
    }

    /// Runs the module on this pool.
    #[track_caller]
    pub fn run(&self, mut arguments: Value) -> Reply {
        if arguments["socket"].is_null() {
            arguments["socket"] = self.address.to_string().into();
        }
        if arguments["deploy_to"].is_null() {
            arguments["deploy_to"] = self.root().to_str().into();
        }
        let reply = module(&arguments);
        self.nothing_is_left();
        reply
    }

    #[track_caller]
    pub fn fresh(&self) -> Reply {
        self.run(json!({}))
    }

    #[track_caller]
    pub fn warm(&self, version: &str) -> Reply {
        let release = self.at("releases").join(version);
        self.run(json!({"state": "warmed", "release_path": release.to_str()}))
    }

    #[track_caller]
    pub fn status(&self) -> Value {
        self.run(json!({"state": "status"})).unchanged()["opcache"].clone()
    }

    /// All that the module may have put somewhere.
    #[track_caller]
    pub fn nothing_is_left(&self) {
        let places = [self.at(".oxistrano"), self.root(), "/dev/shm".into(), "/tmp".into()];
        for place in places {
            for entry in fs::read_dir(&place).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                // Those of other tests that run at the same time are alive, or just gone.
                let pid =
                    name.strip_prefix(".oxistrano-php-fpm.").and_then(|n| n.split('.').next());
                let alive = |pid: &str| Path::new("/proc").join(pid).exists();
                let left = pid.is_some_and(|pid| !alive(pid)) && entry.path().exists();
                assert!(!left, "{} was left", entry.path().display());
            }
        }
    }
}

pub fn get(address: &Address, path: &Path) -> Option<Response> {
    let request = Request::new()
        .param("REQUEST_METHOD", "GET")
        .param("SCRIPT_NAME", "/x.php")
        .param("REQUEST_URI", "/x.php")
        .param("SCRIPT_FILENAME", path.to_str().expect("UTF-8"));
    ask(address, &request, 20 * SECOND).ok()
}

impl Drop for Fpm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("php-fpm said:\n{}", self.log());
        }
        // SIGTERM lets the master end its workers.
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        // In the middle of a start it may not hear that.
        for _ in 0..250 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(SECOND / 50);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
