//! Running a module's program as Ansible does: arguments in a file, one JSON object on
//! standard output. Unlike the harness, which tests use, this judges nothing.

use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use oxistrano_harness::Value;
use rustix::process::{Pid, Signal, kill_process_group};

/// Nothing that is run here takes this long unless it hangs.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// Where the built modules are, and a directory for arguments and outputs.
#[derive(Debug, Clone)]
pub struct Programs {
    modules: PathBuf,
    scratch: PathBuf,
    environment: Vec<(String, String)>,
    /// Whether the programs that a module executes are disturbed as it is. What stands in for
    /// PHP is not: that what it does is done is what a module is asked about.
    pub with_children: bool,
    /// Whether each module is run in a name space of its own, in which it has the same number
    /// as all others.
    pub in_container: bool,
}

/// What a program has left when it ended.
#[derive(Debug, Clone)]
pub struct Said {
    /// Its one JSON object; `None`: it has printed something else, or nothing.
    pub value: Option<Value>,
    /// Standard output and standard error, for messages.
    pub raw: String,
    /// Whether SIGKILL ended it.
    pub killed: bool,
    /// Whether it was still at work after [`TIMEOUT`].
    pub hung: bool,
}

impl Said {
    /// Whether it says that it has done its work.
    pub fn is_well(&self) -> bool {
        self.value.as_ref().is_some_and(|value| value["failed"] != true)
    }

    /// Whether it says that it could not do its work.
    pub fn has_failed(&self) -> bool {
        self.value.as_ref().is_some_and(|value| value["failed"] == true)
    }

    /// Its message, or what it has printed instead.
    pub fn message(&self) -> String {
        match self.value.as_ref().and_then(|value| value["msg"].as_str()) {
            Some(text) => text.to_owned(),
            None => format!("(no result) {}", self.raw),
        }
    }

    /// The code of its failure.
    pub fn code(&self) -> &str {
        self.value.as_ref().and_then(|value| value["code"].as_str()).unwrap_or_default()
    }
}

/// A program that has been started.
#[derive(Debug)]
pub struct Started {
    child: Child,
    files: [PathBuf; 3],
    started: Instant,
}

impl Programs {
    /// The modules in `modules`; `scratch` is for this one's own use.
    pub fn new(modules: &Path, scratch: &Path) -> Self {
        fs::create_dir_all(scratch).expect("a scratch directory");
        Self {
            modules: modules.to_owned(),
            scratch: scratch.to_owned(),
            environment: Vec::new(),
            with_children: true,
            in_container: false,
        }
    }

    /// One more variable in the environment of the modules.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.environment.push((name.to_owned(), value.into()));
    }

    /// The program of a module.
    pub fn path(&self, module: &str) -> PathBuf {
        self.modules.join(module)
    }

    /// Starts a module behind the words of `wrap` (`strace …`, `prlimit …`).
    pub fn start(&self, module: &str, arguments: &Value, wrap: &[String]) -> Started {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let files =
            ["args", "out", "err"].map(|name| self.scratch.join(format!("{name}-{number}")));
        fs::write(&files[0], arguments.to_string()).expect("the arguments");
        let mut words: Vec<PathBuf> = Vec::new();
        if self.in_container {
            let first = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
            words.extend(first.map(PathBuf::from));
            // Number 1 is strace, or a shell.
            let shell = ["sh", "-c", "\"$@\"; exit $?", "sh"];
            words.extend(shell.iter().filter(|_| wrap.is_empty()).map(PathBuf::from));
        }
        words.extend(wrap.iter().map(PathBuf::from));
        words.push(self.path(module));
        words.push(files[0].clone());
        let create = |path| Stdio::from(File::create(path).expect("a file for the output"));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir("/").stdin(Stdio::null());
        command.envs(self.environment.iter().cloned());
        command.stdout(create(&files[1])).stderr(create(&files[2])).process_group(0);
        let child = command.spawn().unwrap_or_else(|error| panic!("{words:?}: {error}"));
        Started { child, files, started: Instant::now() }
    }

    /// Runs a module to its end.
    pub fn run(&self, module: &str, arguments: &Value, wrap: &[String]) -> Said {
        self.start(module, arguments, wrap).wait()
    }

    /// Runs a module that has to succeed.
    #[track_caller]
    pub fn must(&self, module: &str, arguments: &Value) -> Value {
        let said = self.run(module, arguments, &[]);
        assert!(said.is_well(), "{module} {arguments}: {}", said.message());
        said.value.unwrap_or_default()
    }
}

impl Started {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has ended, or kills it after [`TIMEOUT`].
    pub fn wait(mut self) -> Said {
        let mut hung = false;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("its state") {
                break status;
            }
            if !hung && self.started.elapsed() > TIMEOUT {
                hung = true;
                let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            }
            sleep(Duration::from_micros(500));
        };
        let read = |path: &PathBuf| {
            String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
        };
        let (out, err) = (read(&self.files[1]), read(&self.files[2]));
        for file in &self.files {
            let _ = fs::remove_file(file);
        }
        let value = serde_json::from_str::<Value>(&out).ok().filter(Value::is_object);
        // strace ends as what it has traced; a shell would say 137.
        let killed = status.signal() == Some(9) || status.code() == Some(137);
        Said { value, raw: format!("{out}{err}"), killed, hung }
    }
}
