//! Running another program: bounded output, a timeout that ends its whole process
//! group, and an error that says how it ended.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{kill_process_group, Pid, Signal};

use crate::{interrupt, Failure};

/// The last bytes of standard error that a failure shows.
const STDERR_TAIL: usize = 1024;

/// What a program printed.
#[derive(Debug)]
pub struct Output {
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// How it ended.
    pub status: ExitStatus,
}

/// Runs a program in `directory`, without standard input, for at most `timeout`.
///
/// # Errors
/// `command_failed` when it cannot start, ends with another code than 0, is killed, or
/// takes too long; with `rc` and `stderr`.
pub fn run(argv: &[OsString], directory: &Path, timeout: Duration) -> Result<Output, Failure> {
    let output = run_any(argv, directory, timeout)?;
    if output.status.success() {
        return Ok(output);
    }
    let stderr = tail(&output.stderr);
    let cause = match (output.status.signal(), stderr.is_empty()) {
        (Some(signal), _) => format!("it was killed by signal {signal}"),
        (None, true) => format!("it ended with exit code {}", output.status.code().unwrap_or(-1)),
        (None, false) => stderr.clone(),
    };
    Err(failed(argv, cause).value("rc", output.status.code().unwrap_or(-1)).value("stderr", stderr))
}

fn run_any(argv: &[OsString], directory: &Path, timeout: Duration) -> Result<Output, Failure> {
    let (program, arguments) =
        argv.split_first().ok_or_else(|| failed(argv, "no program was named"))?;
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| failed(argv, error))?;
    let drain = |stream: Option<Box<dyn Read + Send>>| {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut stream) = stream {
                let _ = stream.read_to_end(&mut bytes);
            }
            bytes
        })
    };
    let stdout = drain(child.stdout.take().map(|s| Box::new(s) as _));
    let stderr = drain(child.stderr.take().map(|s| Box::new(s) as _));
    let started = Instant::now();
    let mut pause = Duration::from_millis(1);
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|error| failed(argv, error))? {
            break status;
        }
        let problem = match interrupt::check() {
            Err(failure) => Some(failure),
            Ok(()) if started.elapsed() > timeout => Some(failed(
                argv,
                format!("it did not end within {} s and was killed", timeout.as_secs()),
            )),
            Ok(()) => None,
        };
        if let Some(failure) = problem {
            if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = child.wait();
            return Err(failure);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    };
    Ok(Output {
        stdout: stdout.join().unwrap_or_default(),
        stderr: stderr.join().unwrap_or_default(),
        status,
    })
}

fn failed(argv: &[OsString], cause: impl std::fmt::Display) -> Failure {
    let line: Vec<_> = argv.iter().map(|word| word.to_string_lossy()).collect();
    Failure::new("command_failed", format!("`{}` failed", line.join(" ").escape_debug()))
        .cause(cause)
}

fn tail(bytes: &[u8]) -> String {
    let start = bytes.len().saturating_sub(STDERR_TAIL);
    String::from_utf8_lossy(&bytes[start..]).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, timeout: u64) -> Result<Output, Failure> {
        run(
            &["sh".into(), "-c".into(), script.into()],
            Path::new("/"),
            Duration::from_secs(timeout),
        )
    }

    #[test]
    fn output_comes_back() {
        assert_eq!(sh("pwd", 10).unwrap().stdout, b"/\n");
    }

    #[test]
    fn failures_say_how_it_ended() {
        let text = |script: &str| sh(script, 10).unwrap_err().to_string();
        assert_eq!(text("echo oh no >&2; exit 3"), "`sh -c echo oh no >&2; exit 3` failed: oh no.");
        assert_eq!(text("exit 3"), "`sh -c exit 3` failed: it ended with exit code 3.");
        assert_eq!(text("kill -9 $$"), "`sh -c kill -9 $$` failed: it was killed by signal 9.");
    }

    #[test]
    fn a_timeout_ends_the_whole_group() {
        let started = Instant::now();
        let error = sh("sleep 60 & sleep 60", 1).unwrap_err().to_string();
        assert!(error.contains("did not end within 1 s"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(30));
    }
}
