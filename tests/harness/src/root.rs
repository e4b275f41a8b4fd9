//! A scratch deploy root, and modules run on it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Entry, Manifest, Reply, binary, file, tar_gz};

/// No module has a reason to take longer in a test.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A deploy root `shop` in a directory of its own. When the test fails, what is there
/// is printed.
#[derive(Debug)]
pub struct Root {
    scratch: TempDir,
}

impl Root {
    /// One that is not there yet.
    pub fn fresh() -> Self {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        // Tests run modules as other users, too.
        set_mode(scratch.path(), 0o755);
        Self { scratch }
    }

    /// One with its directories, and nobody deploys.
    #[allow(clippy::new_without_default, reason = "it runs programs")]
    pub fn new() -> Self {
        let root = Self::fresh();
        let _ = root.run("release_setup", json!({"version": "0"})).changed();
        let _ = root.run("release_setup", json!({"version": "0", "state": "failed"})).changed();
        root
    }

    /// One in which these releases were deployed, one after the other.
    pub fn with(versions: &[&str]) -> Self {
        let root = Self::fresh();
        for version in versions {
            root.deploy(version);
        }
        root
    }

    /// The deploy root.
    pub fn path(&self) -> PathBuf {
        self.scratch.path().join("shop")
    }

    /// Something in it.
    pub fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.path().join(path)
    }

    /// Something beside it.
    pub fn beside(&self, path: impl AsRef<Path>) -> PathBuf {
        self.scratch.path().join(path)
    }

    /// Runs a module, with `deploy_to` added.
    #[track_caller]
    pub fn run(&self, module: &str, arguments: Value) -> Reply {
        run_program(&binary(module), &self.complete(arguments), None)
    }

    /// Runs a module with `--check --diff` and makes sure that nothing whatever is
    /// different afterwards, in the deploy root and beside it.
    #[track_caller]
    pub fn check(&self, module: &str, mut arguments: Value) -> Reply {
        arguments["_ansible_check_mode"] = true.into();
        arguments["_ansible_diff"] = true.into();
        self.settle();
        let before = Manifest::exact(self.scratch.path());
        let reply = self.run(module, arguments);
        before.assert_same(&Manifest::exact(self.scratch.path()));
        reply.kept_to_documentation(module)
    }

    /// Runs a module as another user, when the tests run as root; else as their user.
    #[track_caller]
    pub fn run_as(&self, uid: u32, module: &str, arguments: Value) -> Reply {
        run_program(&binary(module), &self.complete(arguments), Some(uid))
    }

    /// Starts a module and does not wait for its end.
    pub fn start(&self, module: &str, arguments: Value) -> Running {
        Running::start(&binary(module), &self.complete(arguments), &[])
    }

    fn complete(&self, mut arguments: Value) -> Value {
        if arguments["deploy_to"].is_null() {
            arguments["deploy_to"] = self.path().to_str().into();
        }
        arguments
    }

    /// Deploys a release with a few files.
    #[track_caller]
    pub fn deploy(&self, version: &str) {
        self.deploy_with(version, &app(version), json!({}));
    }

    /// Deploys a release with these entries and, for each step, these options as far as
    /// the step has them.
    #[track_caller]
    pub fn deploy_with(&self, version: &str, entries: &[Entry], options: Value) {
        self.begin(version, entries, &options);
        let _ = self.run("release_activate", merged(version, &options)).changed();
        let finish = json!({"version": version, "state": "finished"});
        let _ = self.run("release_setup", finish).changed();
    }

    /// A deploy up to the switch.
    #[track_caller]
    pub fn begin(&self, version: &str, entries: &[Entry], options: &Value) {
        let mut setup = merged(version, options);
        setup.as_object_mut().expect("options").remove("current_via");
        let _ = self.run("release_setup", setup).changed();
        self.unpack(version, entries);
        let linked = self.run("release_link", merged(version, options));
        assert_ne!(linked["failed"], true, "{linked}");
    }

    /// Unpacks a release.
    #[track_caller]
    pub fn unpack(&self, version: &str, entries: &[Entry]) {
        let src = self.archive(&format!("{version}.tar.gz"), &tar_gz(entries));
        let arguments =
            json!({"version": version, "src": src, "remote_src": true, "remove_src": true});
        let _ = self.run("release_unpack", arguments).changed();
    }

    /// Writes an archive beside the deploy root; returns its path.
    pub fn archive(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.beside(name);
        fs::write(&path, bytes).expect("the archive");
        path.to_str().expect("UTF-8").to_owned()
    }

    /// As if a command of an upgrade ran in this release, for as long as what is returned.
    pub fn busy(&self, version: &str) -> fs::File {
        let release = self.at("releases").join(version);
        self.write(".oxistrano/magento_upgrade.release", &format!("{}\n", release.display()));
        let lock = fs::File::create(self.at(".oxistrano/magento_upgrade.lock")).expect("the lock");
        lock.lock().expect("nobody else has it");
        lock
    }

    /// Writes a file and the directories above it.
    pub fn write(&self, path: impl AsRef<Path>, contents: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        fs::write(path, contents).expect("a file");
    }

    /// Makes a symbolic link.
    pub fn link(&self, path: impl AsRef<Path>, target: &str) {
        symlink(target, self.at(path)).expect("a link");
    }

    /// What a file contains; through links, as a web server would read it.
    #[track_caller]
    pub fn read(&self, path: impl AsRef<Path>) -> String {
        let path = self.at(path);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// What a link holds.
    #[track_caller]
    pub fn target(&self, path: impl AsRef<Path>) -> String {
        let path = self.at(path);
        let target =
            fs::read_link(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        target.to_str().expect("UTF-8").to_owned()
    }

    /// Whether anything, also a link that leads nowhere, has that name.
    pub fn has(&self, path: impl AsRef<Path>) -> bool {
        self.at(path).symlink_metadata().is_ok()
    }

    /// Permissions.
    #[track_caller]
    pub fn mode(&self, path: impl AsRef<Path>) -> u32 {
        self.at(path).symlink_metadata().expect("metadata").mode() & 0o7777
    }

    /// Owner and group.
    #[track_caller]
    pub fn owner(&self, path: impl AsRef<Path>) -> (u32, u32) {
        let meta = self.at(path).symlink_metadata().expect("metadata");
        (meta.uid(), meta.gid())
    }

    /// The names in the directory of the releases, hidden ones too, once the processes
    /// that remove old releases have ended.
    #[track_caller]
    pub fn releases(&self) -> Vec<String> {
        self.settle();
        names(&self.at("releases"))
    }

    /// Waits until what is in the trash is gone.
    #[track_caller]
    pub fn settle(&self) {
        let started = Instant::now();
        let trash = |name: &String| name.starts_with(".oxistrano-trash-");
        while names(&self.at("releases")).iter().any(trash) {
            assert!(started.elapsed() < Duration::from_secs(20), "the trash stays");
            sleep(Duration::from_millis(10));
        }
    }

    /// Everything in the deploy root.
    pub fn manifest(&self) -> Manifest {
        Manifest::of(&self.path())
    }

    /// What a deploy is about: everything but Oxistrano's own state and the trash.
    pub fn content(&self) -> Manifest {
        self.settle();
        self.manifest().without(".oxistrano")
    }

    /// The lock; null if nobody holds it.
    pub fn lock(&self) -> Value {
        match fs::read(self.at(".oxistrano/lock.json")) {
            Ok(text) => serde_json::from_slice(&text).expect("a lock"),
            Err(_) => Value::Null,
        }
    }

    /// What `release_info` says of a release's state.
    #[track_caller]
    pub fn state(&self, version: &str) -> String {
        let info = self.run("release_info", json!({})).unchanged();
        let releases = info["releases"].as_array().cloned().unwrap_or_default();
        let found = releases.iter().find(|release| release["version"] == version);
        found.and_then(|release| release["state"].as_str()).unwrap_or("absent").to_owned()
    }

    /// The live release by `release_info`.
    #[track_caller]
    pub fn live(&self) -> String {
        let info = self.run("release_info", json!({})).unchanged();
        info["active"].as_str().unwrap_or("nothing").to_owned()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("What is in '{}':\n{}", self.path().display(), self.manifest());
        }
    }
}

/// A little application.
pub fn app(version: &str) -> Vec<Entry> {
    vec![file("index.php", version), file("bin/run", "#!/bin/sh\n").mode(0o755)]
}

fn merged(version: &str, options: &Value) -> Value {
    let mut merged = options.clone();
    merged["version"] = version.into();
    merged
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions");
}

/// What Ansible puts on the host: the module and its arguments, in a directory of their
/// own.
struct Files {
    directory: TempDir,
    program: PathBuf,
    uid: Option<u32>,
}

impl Files {
    fn new(program: &Path, arguments: &Value, uid: Option<u32>) -> Self {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let file = directory.path().join("args");
        fs::write(&file, arguments.to_string()).expect("the arguments");
        let uid = uid.filter(|_| crate::is_root());
        let mut program = program.to_owned();
        if uid.is_some() {
            // The target directory may be out of that user's reach.
            let copy = directory.path().join(program.file_name().expect("a name"));
            // Not `fs::copy`: a child that another test forks meanwhile would hold it open
            // for writing, and then it cannot be executed.
            // What it is a link to: the link leads nowhere from another directory.
            program = fs::canonicalize(&program).expect("the program");
            if fs::hard_link(&program, &copy).is_err() {
                let copied = Command::new("cp").arg(&program).arg(&copy).status();
                assert!(copied.expect("cp").success());
            }
            set_mode(directory.path(), 0o755);
            program = copy;
        }
        Self { directory, program, uid }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(self.directory.path().join("args")).current_dir("/");
        if let Some(uid) = self.uid {
            command.uid(uid).gid(uid);
        }
        command
    }
}

/// Runs a program with its arguments in a file, as Ansible does.
#[track_caller]
pub fn run_program(program: &Path, arguments: &Value, uid: Option<u32>) -> Reply {
    run_program_in(program, arguments, uid, &[])
}

/// The same with these environment variables as well.
#[track_caller]
pub(crate) fn run_program_in(
    program: &Path,
    arguments: &Value,
    uid: Option<u32>,
    environment: &[(String, String)],
) -> Reply {
    let files = Files::new(program, arguments, uid);
    let mut command = assert_cmd::Command::from_std(files.command());
    command.envs(environment.iter().cloned());
    Reply::of(&command.timeout(TIMEOUT).output().expect("the module"))
}

/// A module at work.
#[derive(Debug)]
pub struct Running {
    child: Child,
    _files: Files,
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.program.fmt(f)
    }
}

impl Running {
    /// Starts a program as [`run_program`] does, and does not wait for its end.
    pub(crate) fn start(
        program: &Path,
        arguments: &Value,
        environment: &[(String, String)],
    ) -> Self {
        let files = Files::new(program, arguments, None);
        let mut command = files.command();
        command.envs(environment.iter().cloned());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Self { child: child.expect("the module"), _files: files }
    }

    /// Waits until `ready`. Panics when the module ends before.
    #[track_caller]
    pub fn until(&mut self, ready: impl Fn() -> bool) {
        let started = Instant::now();
        while !ready() {
            assert!(started.elapsed() < TIMEOUT, "it never came to that");
            let ended = self.child.try_wait().expect("its state");
            assert!(ended.is_none(), "the module has ended already");
            sleep(Duration::from_millis(1));
        }
    }

    /// Sends a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("the signal");
    }

    /// Sends SIGTERM and waits for the end.
    #[track_caller]
    pub fn terminate(self) -> Reply {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Sends SIGKILL: a power failure.
    pub fn kill(mut self) {
        self.child.kill().expect("the signal");
        self.child.wait().expect("its end");
    }

    /// Waits for the end.
    #[track_caller]
    pub fn wait(self) -> Reply {
        Reply::of(&self.child.wait_with_output().expect("its end"))
    }
}
