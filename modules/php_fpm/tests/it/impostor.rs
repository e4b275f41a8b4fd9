//! `php_fpm` where a process pretends to be php-fpm's master. Whatever it is, nothing of it is run
//! or believed. Each of them would have been run as root when its title was believed.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use crate::common::{Fpm, SECOND, Setup};
use oxistrano_harness::{NOBODY, Reply, is_root, json, not_checked, run_program};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// With arguments (`-t -R -y CONFIG`) it notes who has run it. Without, it becomes the maker of the
/// listening socket that it was handed, and stays for a minute.
const SOURCE: &str = r#"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>
static void note(const char *path, int number) {
    char text[16];
    int file = open(path, O_WRONLY | O_CREAT | O_APPEND, 0644);
    if (write(file, text, snprintf(text, sizeof text, "%d\n", number)) < 0) _exit(9);
    close(file);
}
int main(int argc, char **argv) {
    if (argc > 1) { note(RAN, geteuid()); return 0; }
    if (fork()) _exit(0);
    setsid();
    signal(SIGUSR2, SIG_IGN);
    int taken = 0;
    for (int fd = 0; fd < 64; fd++) taken |= !listen(fd, 16);
    if (!taken) return 8;
    for (int fd = 1; fd < 64; fd++) close(fd);
    note(READY, getpid());
    sleep(60);
    return 0;
}
"#;

/// How it is disguised.
struct Disguise {
    /// Its file's name, below a directory of the scratch directory.
    name: &'static str,
    /// Owner and mode of the file.
    file: (u32, u32),
    /// Owner of the file's directory.
    directory: u32,
    /// Who starts it.
    uid: u32,
    /// Owner of the configuration that its title names.
    config: u32,
}

/// One that nothing speaks against.
const GOOD: Disguise =
    Disguise { name: "php-fpm8.9", file: (0, 0o755), directory: 0, uid: 0, config: 0 };

/// It runs, and the test answers for it on the socket.
struct Impostor {
    scratch: TempDir,
    pid: i32,
}

impl Impostor {
    /// Compiles and disguises it.
    fn made(disguise: &Disguise) -> (TempDir, PathBuf) {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        fs::set_permissions(scratch.path(), Permissions::from_mode(0o755)).unwrap();
        for name in ["bin", "notes"] {
            fs::create_dir(at(name)).unwrap();
        }
        fs::set_permissions(at("notes"), Permissions::from_mode(0o777)).unwrap();
        fs::write(at("source.c"), SOURCE).unwrap();
        let program = at("bin").join(disguise.name);
        let define = |name: &str, file: &str| format!("-D{name}=\"{}\"", at(file).display());
        let mut cc = Command::new("cc");
        cc.args([define("RAN", "notes/ran"), define("READY", "notes/ready")]);
        assert!(cc.arg("-o").arg(&program).arg(at("source.c")).status().unwrap().success());
        fs::write(at("fpm.conf"), "[global]\nprocess_control_timeout = 7s\n").unwrap();
        let own = |path: &Path, uid| chown(path, Some(uid), Some(uid)).unwrap();
        own(&at("fpm.conf"), disguise.config);
        own(&program, disguise.file.0);
        fs::set_permissions(&program, Permissions::from_mode(disguise.file.1)).unwrap();
        own(&at("bin"), disguise.directory);
        (scratch, program)
    }

    fn title(scratch: &TempDir) -> String {
        format!("php-fpm: master process ({}/fpm.conf)", scratch.path().display())
    }

    /// Waits until it runs.
    fn running(scratch: TempDir) -> Self {
        let started = Instant::now();
        loop {
            let text = fs::read_to_string(scratch.path().join("notes/ready")).unwrap_or_default();
            if let Ok(pid) = text.trim().parse() {
                return Self { scratch, pid };
            }
            assert!(started.elapsed() < 20 * SECOND, "it does not start");
            thread::sleep(SECOND / 100);
        }
    }

    fn start(disguise: &Disguise) -> Self {
        let (scratch, program) = Self::made(disguise);
        let listener = UnixListener::bind(scratch.path().join("s")).unwrap();
        let inherited = OwnedFd::from(listener.try_clone().unwrap());
        thread::spawn(move || listener.incoming().for_each(|stream| not_found(stream.unwrap())));
        let mut command = Command::new(program);
        command.arg0(Self::title(&scratch)).stdin(Stdio::from(inherited)).uid(disguise.uid);
        assert!(command.status().unwrap().success());
        Self::running(scratch)
    }

    fn run(&self, state: &str) -> Reply {
        let service = self.scratch.path().join("service");
        fs::write(&service, "#!/bin/sh\nexit 0\n").unwrap();
        fs::set_permissions(&service, Permissions::from_mode(0o755)).unwrap();
        let arguments = self.scratch.path().join("arguments");
        let socket = self.scratch.path().join("s");
        let text = json!({
            "state": state, "socket": socket.to_str(), "service": "x", "timeout": 3,
            "script_dir": self.scratch.path().to_str(),
        });
        fs::write(&arguments, text.to_string()).unwrap();
        let path = format!("{}:{}", self.scratch.path().display(), std::env::var("PATH").unwrap());
        let mut module = Command::new(env!("CARGO_BIN_EXE_php_fpm"));
        Reply::of(&module.arg(arguments).env("PATH", path).output().unwrap())
    }

    /// Who has run it as if it were php-fpm.
    fn was_run_by(&self) -> String {
        fs::read_to_string(self.scratch.path().join("notes/ran")).unwrap_or_default()
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        // It is its own until the minute is over.
        let _ = Pid::from_raw(self.pid).map(|pid| kill_process(pid, Signal::KILL));
    }
}

/// Answers as a pool that does not see the script.
fn not_found(mut stream: UnixStream) {
    loop {
        let mut header = [0; 8];
        if stream.read_exact(&mut header).is_err() {
            return;
        }
        let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let mut content = vec![0; length + usize::from(header[6])];
        if stream.read_exact(&mut content).is_err() {
            return;
        }
        if header[1] == 5 && length == 0 {
            break;
        }
    }
    let body = b"Status: 404 Not Found\r\n\r\n";
    let record = [&[1, 6, 0, 1, 0, body.len() as u8, 0, 0], &body[..]].concat();
    let _ = stream.write_all(&record);
    let _ = stream.write_all(&[1, 3, 0, 1, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

fn can() -> bool {
    let can = is_root() && !Path::new("/run/systemd/system").is_dir();
    if !can {
        not_checked("impostors of php-fpm's master (needs root, and a host without systemd)");
    }
    can
}

#[test]
fn what_cannot_be_proved_to_be_the_master_is_neither_run_nor_read() {
    if !can() {
        return;
    }
    let people = "has the user ids 65534 (real), 0 (effective)";
    for (what, disguise, why) in [
        ("a setuid program", Disguise { file: (0, 0o4755), uid: NOBODY, ..GOOD }, people),
        (
            "a web user's process",
            Disguise { file: (NOBODY, 0o755), uid: NOBODY, ..GOOD },
            "has the user ids 65534 (real), 65534",
        ),
        (
            "a program of the web user's",
            Disguise { file: (NOBODY, 0o755), ..GOOD },
            "which belongs to user id 65534",
        ),
        (
            "a program that others may write",
            Disguise { file: (0, 0o757), ..GOOD },
            "is writable by others",
        ),
        (
            "root's program in the web user's directory",
            Disguise { directory: NOBODY, ..GOOD },
            "which others may have put there: ",
        ),
        ("another program of root's", Disguise { name: "su", ..GOOD }, "is not called php-fpm"),
    ] {
        let impostor = Impostor::start(&disguise);
        let reply = impostor.run("reloaded");
        assert_eq!(impostor.was_run_by(), "", "{what} was run as root");
        reply.failed("untrusted_master").says([why, "Nothing was changed."]);
        let reply = impostor.run("restarted");
        assert_eq!(impostor.was_run_by(), "", "{what} was run as root");
        assert!(reply["config"].is_null() && reply["unit"].is_null(), "{what}: {reply}");
        assert!(reply["process_control_timeout"].is_null(), "{what}: {reply}");
        assert!(reply["master_in_doubt"].as_str().unwrap().contains(why), "{what}: {reply}");
        reply.warns("was not tested before the restart");
    }
}

#[test]
fn what_is_proved_is_tested_with_a_configuration_that_only_root_can_write() {
    if !can() {
        return;
    }
    // Else the test above could not see that something was run.
    let good = Impostor::start(&GOOD);
    let reply = good.run("reloaded").changed();
    assert_eq!(good.was_run_by(), "0\n");
    assert_eq!(
        (&reply["process_control_timeout"], &reply["master_pid"]),
        (&json!(7), &json!(good.pid))
    );
    let other = Impostor::start(&Disguise { config: NOBODY, ..GOOD });
    for state in ["reloaded", "restarted"] {
        let reply = other.run(state).failed("untrusted_configuration");
        reply.says([
            "it belongs to user id 65534",
            "let only that user write to the file",
            "Nothing was changed.",
        ]);
    }
    assert_eq!(other.was_run_by(), "");
}

#[test]
fn a_web_user_who_takes_the_socket_over_changes_nobody_s_mind() {
    if !can() {
        return;
    }
    let Some(fpm) = Fpm::start(Setup::default()) else { return };
    assert_eq!(fpm.by_realpath(), "release 1");
    let (scratch, program) = Impostor::made(&Disguise { name: "su", file: (0, 0o4755), ..GOOD });
    // exec() hands the listening socket on.
    let title = Impostor::title(&scratch);
    let command = format!("bash -c \"exec -a '{title}' {}\" 2>&1", program.display());
    let script = "releases/1/pub/attack.php";
    fpm.write(script, &format!("<?php exec({command:?}, $said, $code); echo $code;"));
    let said = fpm.get(fpm.at(script)).unwrap();
    let impostor = Impostor::running(scratch);
    assert_eq!(String::from_utf8_lossy(&said.body), "0", "{said:?}");
    for state in ["status", "reloaded"] {
        let reply = fpm.run(json!({"state": state}));
        assert_eq!(impostor.was_run_by(), "", "it was run as root");
        assert_eq!(reply["master_pid"], fpm.pid(), "{reply}");
        let config = fpm.scratch.path().join("fpm.conf");
        assert_eq!(reply["config"], config.to_str().unwrap());
    }
    assert_eq!(fpm.by_realpath(), "release 1");
    // Who may not look closer is not misled either.
    let program = Path::new(env!("CARGO_BIN_EXE_php_fpm"));
    let arguments = json!({"state": "status", "socket": fpm.address.to_string()});
    let reply = run_program(program, &arguments, Some(NOBODY)).unchanged();
    assert!(reply["config"].is_null(), "{reply}");
}
