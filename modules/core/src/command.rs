//! Running another program: as another user, without this one's terminal, with bounded output, a
//! timeout that ends its whole process group, and an error that says how it ended.
//!
//! Every process that a module starts is started here.

mod again;
mod as_user;
mod capture;
mod detached;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::users::{self, User};
use crate::{Failure, interrupt};
pub use again::{run_again, somebody_reads};
use capture::Capture;
pub use detached::start_detached;

/// The last bytes of standard error that a failure shows.
const STDERR_TAIL: usize = 1024;
/// How long a process group that was asked to end may take before it is killed.
const GRACE: Duration = Duration::from_secs(2);
/// How long to wait for output of processes that an ended program has left behind.
const AFTERWARDS: Duration = Duration::from_secs(1);

/// What a program printed.
#[derive(Debug)]
pub struct Output {
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// How it ended.
    pub status: ExitStatus,
    /// How long it ran.
    pub elapsed: Duration,
    /// Whether the output is complete: nothing was left out, and no process that it left behind can print more.
    pub complete: bool,
}

impl Output {
    /// The exit code; as a shell has it, 128 and the signal's number when it was killed.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or_default())
    }
}

/// A program to run, without standard input, in a session of its own.
#[derive(Debug, Clone)]
pub struct Program {
    argv: Vec<OsString>,
    executable: Option<Arc<OwnedFd>>,
    directory: PathBuf,
    timeout: Duration,
    environment: Vec<(OsString, OsString)>,
    user: Option<User>,
    log: Option<Arc<File>>,
    input: Option<Vec<u8>>,
    input_file: Option<Arc<File>>,
    to_the_end: bool,
}

impl Program {
    /// The program and its arguments, to be run in `/` for at most a minute.
    pub fn new(argv: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            executable: None,
            directory: PathBuf::from("/"),
            timeout: Duration::from_secs(60),
            environment: Vec::new(),
            user: None,
            log: None,
            input: None,
            input_file: None,
            to_the_end: false,
        }
    }

    /// The file to execute, by its handle, so that exactly this file runs. The first word of the
    /// arguments is then only its name.
    #[must_use]
    pub fn executable(mut self, file: Arc<OwnedFd>) -> Self {
        self.executable = Some(file);
        self
    }

    /// Where to run it.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = directory.into();
        self
    }

    /// How long it may run.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// One more environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// The user to run as, with that user's groups and `HOME`. Only root can run as another user;
    /// such a process gets only the environment variables that `as_user.rs` names.
    #[must_use]
    pub fn user(mut self, user: Option<User>) -> Self {
        self.user = user;
        self
    }

    /// A file that it prints into, both streams as one, and that holds all of it even when
    /// this process is killed. What is in it comes back as standard output. The file must
    /// be open for reading as well.
    #[must_use]
    pub fn log(mut self, log: Option<File>) -> Self {
        self.log = log.map(Arc::new);
        self
    }

    /// Its standard input.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = Some(input.into());
        self
    }

    /// A file to have as standard input, open until it and all that it hands it on to have
    /// ended, whatever becomes of this process.
    #[must_use]
    pub fn input_file(mut self, file: Option<Arc<File>>) -> Self {
        self.input_file = file;
        self
    }

    /// Signals to this process do not end it, for programs that must not be interrupted.
    #[must_use]
    pub fn to_the_end(mut self) -> Self {
        self.to_the_end = true;
        self
    }

    /// Runs it. Any exit code is a result, not a failure.
    ///
    /// # Errors
    /// `command_failed` when it cannot start or takes too long.
    pub fn run(&self) -> Result<Output, Failure> {
        let started = Instant::now();
        let logged_from = match &self.log {
            Some(log) => log.as_ref().stream_position().map_err(|error| self.failed(error))?,
            None => 0,
        };
        // The readers start before the program: if no thread can be started, no program may be running.
        let (stdout_end, stdout) = self.output()?;
        let (stderr_end, stderr) = self.output()?;
        let mut child = self.start(stdout_end, stderr_end)?;
        let status = self.wait(&mut child, started, &stderr)?;
        let elapsed = started.elapsed();
        if let Some(log) = &self.log {
            let (stdout, complete) = capture::read_back(log, logged_from)
                .map_err(|error| self.failed(format!("its output cannot be read: {error}")))?;
            return Ok(Output { stdout, stderr: Vec::new(), status, elapsed, complete });
        }
        // A daemon that it started may keep the pipes open.
        let deadline = Instant::now() + AFTERWARDS;
        let (stdout, all_of_stdout) = stdout.until(deadline);
        let (stderr, all_of_stderr) = stderr.until(deadline);
        let complete = all_of_stdout && all_of_stderr;
        Ok(Output { stdout, stderr, status, elapsed, complete })
    }

    /// Runs it. Any exit code but 0 is a failure.
    ///
    /// # Errors
    /// `command_failed` when it cannot start, ends with another code, is killed, or takes
    /// too long; with `rc` and `stderr`.
    pub fn run_ok(&self) -> Result<Output, Failure> {
        let output = self.run()?;
        if output.status.success() {
            return Ok(output);
        }
        let stderr = tail(&output.stderr);
        let cause = match (output.status.signal(), stderr.is_empty()) {
            (Some(signal), _) => format!("it was killed by signal {signal}"),
            (None, true) => format!("it exited with code {}", output.code()),
            (None, false) => stderr.clone(),
        };
        Err(self.failed(cause).value("rc", output.code()).value("stderr", stderr))
    }

    fn start(&self, stdout: Stdio, stderr: Stdio) -> Result<Child, Failure> {
        let (program, arguments) =
            self.argv.split_first().ok_or_else(|| self.failed("it names no program"))?;
        let mut command = match &self.executable {
            // As fexecve(3) does it. The handle is closed by the exec that it names.
            Some(file) => {
                let mut command = new(format!("/proc/self/fd/{}", file.as_raw_fd()));
                command.arg0(program);
                command
            }
            None => new(program),
        };
        command.args(arguments).stdin(self.stdin()?).stdout(stdout).stderr(stderr);
        let mut enters_as_user = false;
        if let Some(user) = &self.user {
            if user.uid != users::current() {
                if !users::is_root() {
                    return Err(self
                        .failed(format!("only root can run it as {}", user.name))
                        .remedy("set become, or do not set a user"));
                }
                as_user::hand_on_less(&mut command);
                as_user::become_user(&mut command, user)?;
                enters_as_user = true;
            }
            command.env("HOME", &user.home).env("USER", &user.name).env("LOGNAME", &user.name);
        }
        // Entered by the user, not by root: otherwise that user gets below directories that they
        // may not enter, and a link to it may be theirs.
        if enters_as_user {
            as_user::enter_afterwards(&mut command, &self.directory)
                .map_err(|error| self.failed(error))?;
        } else {
            command.current_dir(&self.directory);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let missing = || {
            self.failed(format!("the program {} does not exist", program.to_string_lossy()))
                .value("missing_program", true)
                .remedy("install it, or set its full path")
        };
        command.spawn().map_err(|error| match error.kind() {
            // execve gives this error for a missing directory, too.
            io::ErrorKind::NotFound if !self.directory.is_dir() => {
                self.failed(format!("the directory '{}' does not exist", self.directory.display()))
            }
            io::ErrorKind::NotFound => missing(),
            io::ErrorKind::PermissionDenied if self.is_nowhere(program) => missing(),
            io::ErrorKind::PermissionDenied if enters_as_user => {
                self.failed(error).remedy(format!(
                    "check that this user may enter '{}' and execute the program",
                    self.directory.display()
                ))
            }
            _ => self.failed(error),
        })
    }

    /// Whether a program is in no directory of `PATH`. If the user may not enter one of these
    /// (root's `/root/bin`), exec says "permission denied" although the program does not exist.
    fn is_nowhere(&self, program: &OsStr) -> bool {
        let of_its_own = self.environment.iter().rev().find(|(name, _)| name == "PATH");
        let path = of_its_own.map(|(_, path)| path.clone()).or_else(|| std::env::var_os("PATH"));
        let name = Path::new(program);
        self.executable.is_none()
            && name.components().count() == 1
            && !path.is_some_and(|path| {
                std::env::split_paths(&path)
                    .any(|directory| directory.join(name).symlink_metadata().is_ok())
            })
    }

    /// The input is in an unnamed file, not in a pipe: if this process dies, the program must not read an early end.
    #[expect(clippy::disallowed_methods, reason = "a device of the system")]
    fn stdin(&self) -> Result<Stdio, Failure> {
        let made = || -> io::Result<File> {
            if let Some(file) = &self.input_file {
                return file.try_clone();
            }
            let Some(input) = &self.input else { return File::open("/dev/null") };
            let mut file =
                File::from(rustix::fs::memfd_create("input", rustix::fs::MemfdFlags::CLOEXEC)?);
            file.write_all(input)?;
            file.rewind()?;
            Ok(file)
        };
        made().map(Stdio::from).map_err(|error| self.failed(error))
    }

    /// Its standard output, and what captures it; with a log, all output goes there.
    fn output(&self) -> Result<(Stdio, Capture), Failure> {
        let made = || match &self.log {
            Some(log) => Ok((Stdio::from(log.try_clone()?), Capture::nothing())),
            None => {
                let (reader, writer) = io::pipe()?;
                Ok((Stdio::from(writer), Capture::start(reader)?))
            }
        };
        made().map_err(|error: io::Error| self.failed(error))
    }

    fn wait(
        &self,
        child: &mut Child,
        started: Instant,
        stderr: &Capture,
    ) -> Result<ExitStatus, Failure> {
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(status) = child.try_wait().map_err(|error| self.failed(error))? {
                return Ok(status);
            }
            let interrupted = if self.to_the_end { None } else { interrupt::check().err() };
            let late = started.elapsed() > self.timeout;
            if late || interrupted.is_some() {
                let printed = tail(&stderr.so_far());
                let end = if end(child) {
                    "was stopped with all its processes"
                } else {
                    "could not be stopped (it may run as another user), so it is still running"
                };
                let failure = interrupted.unwrap_or_else(|| {
                    let seconds = self.timeout.as_secs();
                    self.failed(format!("it did not end within {seconds} s and {end}"))
                        .value("timed_out", true)
                });
                return Err(failure.value("stderr", printed));
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    fn failed(&self, cause: impl std::fmt::Display) -> Failure {
        Failure::new("command_failed", format!("`{self}` failed")).cause(cause)
    }
}

impl std::fmt::Display for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let line: Vec<_> = self.argv.iter().map(|word| word.to_string_lossy()).collect();
        line.join(" ").escape_debug().fmt(f)
    }
}

/// Runs a program in `directory` for at most `timeout`, see [`Program::run_ok`].
///
/// # Errors Those of [`Program::run_ok`].
pub fn run(argv: &[OsString], directory: &Path, timeout: Duration) -> Result<Output, Failure> {
    Program::new(argv).directory(directory).timeout(timeout).run_ok()
}

/// Ends the process group, by SIGTERM, then by SIGKILL. Returns whether it has ended; a process of
/// another user (sudo) cannot be ended.
fn end(child: &mut Child) -> bool {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let signal = |signal| {
        if let Some(group) = group {
            let _ = kill_process_group(group, signal);
        }
    };
    let mut ended_within = |time: Duration| {
        let deadline = Instant::now() + time;
        loop {
            match child.try_wait() {
                Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(20)),
                Ok(None) => return false,
                Ok(Some(_)) | Err(_) => return true,
            }
        }
    };
    signal(Signal::TERM);
    ended_within(GRACE);
    // Processes of the group may outlive its leader.
    signal(Signal::KILL);
    ended_within(GRACE)
}

/// A command in its own session, without a terminal, so that a process of another user cannot write
/// into the deployer's terminal (`TIOCSTI`). Its process id is also that of its process group.
fn new(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    // SAFETY: between fork and exec one system call is made.
    unsafe {
        command.pre_exec(|| Ok(rustix::process::setsid().map(drop)?));
    }
    command
}

fn tail(bytes: &[u8]) -> String {
    let start = bytes.len().saturating_sub(STDERR_TAIL);
    String::from_utf8_lossy(&bytes[start..]).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, timeout: u64) -> Program {
        Program::new(["sh", "-c", script]).timeout(Duration::from_secs(timeout))
    }

    #[test]
    fn output_comes_back() {
        let output = sh("pwd; echo no >&2; exit 7", 10).run().unwrap();
        assert_eq!(
            (output.stdout.as_slice(), output.stderr.as_slice()),
            (&b"/\n"[..], &b"no\n"[..])
        );
        assert_eq!(output.code(), 7);
        assert_eq!(sh("kill -9 $$", 10).run().unwrap().code(), 137);
    }

    #[test]
    fn input_and_environment_reach_it() {
        let program = sh("cat; echo $NAME", 10).input("in\n").env("NAME", "value");
        assert_eq!(program.run().unwrap().stdout, b"in\nvalue\n");
    }

    #[test]
    fn failures_say_how_it_ended() {
        let text = |script: &str| sh(script, 10).run_ok().unwrap_err().to_string();
        assert_eq!(text("echo oh no >&2; exit 3"), "`sh -c echo oh no >&2; exit 3` failed: oh no.");
        assert_eq!(text("exit 3"), "`sh -c exit 3` failed: it exited with code 3.");
        assert_eq!(text("kill -9 $$"), "`sh -c kill -9 $$` failed: it was killed by signal 9.");
    }

    #[test]
    fn what_cannot_start_is_named() {
        let missing = Program::new(["no-such-program"]).run().unwrap_err().to_string();
        assert_eq!(
            missing,
            "`no-such-program` failed: the program no-such-program does not exist; install it, or \
             set its full path."
        );
        let nowhere = sh("true", 10).directory("/no/such").run().unwrap_err().to_string();
        assert!(nowhere.contains("the directory '/no/such' does not exist"), "{nowhere}");
    }

    #[test]
    fn it_has_a_session_of_its_own_and_no_terminal() {
        // Session, process group and the terminal's number, 0 for none.
        let script = "read -r _ _ _ _ group session tty _ < /proc/$$/stat; \
                      [ $group = $$ ] && [ $session = $$ ] && [ $tty = 0 ] && ! (: </dev/tty) 2>/dev/null";
        sh(script, 10).run_ok().unwrap();
    }

    #[test]
    fn what_is_executed_is_the_handle_and_not_the_name() {
        let sh = Program::new(["named", "-c", "echo $0; readlink /proc/$$/exe", "named"]);
        let real = std::fs::canonicalize("/bin/sh").unwrap();
        let handle = Arc::new(OwnedFd::from(File::open(&real).unwrap()));
        let output = sh.executable(handle).run_ok().unwrap();
        assert_eq!(output.stdout, format!("named\n{}\n", real.display()).as_bytes());
    }

    #[test]
    fn a_timeout_ends_the_whole_group() {
        let started = Instant::now();
        let error = sh("trap '' TERM; sleep 60 & sleep 60", 1).run().unwrap_err().to_string();
        assert!(error.contains("did not end within 1 s"), "{error}");
        assert!(error.ends_with("was stopped with all its processes."), "{error}");
        assert!(started.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_daemon_that_keeps_the_pipes_holds_nobody_up() {
        let started = Instant::now();
        let output = sh("echo done; sleep 20 &", 10).run().unwrap();
        assert_eq!(output.stdout, b"done\n");
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn the_log_gets_everything_also_without_us() {
        let mut log = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut log, b"# before\n").unwrap();
        let output =
            sh("echo out; echo err >&2", 10).log(Some(log.try_clone().unwrap())).run().unwrap();
        assert_eq!((output.stdout.as_slice(), output.complete), (&b"out\nerr\n"[..], true));
        let mut text = String::new();
        log.rewind().unwrap();
        io::Read::read_to_string(&mut log, &mut text).unwrap();
        assert_eq!(text, "# before\nout\nerr\n");
    }

    #[test]
    fn what_may_not_be_all_says_so() {
        assert!(sh("echo x", 10).run().unwrap().complete);
        assert!(!sh("sleep 20 & echo x", 10).run().unwrap().complete);
    }
}
