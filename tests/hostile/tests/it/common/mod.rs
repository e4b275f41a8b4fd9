//! Runs `release_unpack` on an archive, beside a victim.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use oxistrano_harness::{Manifest, Reply, Root, Value, binary, json};
use oxistrano_hostile::Case;

/// More than any of these archives may take, even where other tests run at the same time.
const TIMEOUT: Duration = Duration::from_secs(100);
/// What a program may have in memory at once, in kB.
const MEMORY: i64 = 64 << 10;

/// A deploy root with a live release, and beside it what nobody may touch.
pub struct Attack {
    root: Root,
    number: u32,
}

/// What became of an archive.
pub struct Outcome {
    pub reply: Reply,
    /// `name kind mode`, as [`oxistrano_hostile::Expected`] has it.
    pub tree: Vec<String>,
}

impl Attack {
    pub fn new() -> Self {
        let root = Root::with(&["1"]);
        // Where `../../../victim` leads from a release that is being made.
        fs::create_dir(root.beside("victim")).unwrap();
        fs::write(root.beside("victim/file"), "nothing may touch this").unwrap();
        fs::create_dir(root.beside("victim/empty")).unwrap();
        Self { root, number: 1 }
    }

    pub fn victim(&self) -> PathBuf {
        self.root.beside("victim")
    }

    /// Unpacks a case.
    pub fn run(&mut self, case: &Case) -> Result<Outcome, String> {
        let path = self.root.beside("archive.bin");
        let mut file = BufWriter::new(File::create(&path).unwrap());
        (case.make)(&mut file).unwrap();
        file.flush().unwrap();
        let limits = case.limits.iter().map(|(name, value)| (*name, json!(value)));
        self.attack(&path, limits.collect())
    }

    /// Unpacks bytes.
    pub fn unpack(
        &mut self,
        archive: &[u8],
        options: Vec<(&str, Value)>,
    ) -> Result<Outcome, String> {
        let path = self.root.beside("archive.bin");
        fs::write(&path, archive).unwrap();
        self.attack(&path, options)
    }

    fn attack(&mut self, archive: &Path, options: Vec<(&str, Value)>) -> Result<Outcome, String> {
        self.number += 1;
        let version = self.number.to_string();
        let _ = self.root.run("release_setup", json!({"version": version}));
        let mut arguments = json!({
            "deploy_to": self.root.path().to_str(),
            "version": version,
            "src": archive.to_str(),
            "remote_src": true,
        });
        for (name, value) in options {
            arguments[name] = value;
        }
        let victim = Manifest::exact(&self.victim());
        let limit = MEMORY.max(peak());
        let mut looking = arguments.clone();
        looking["_ansible_check_mode"] = true.into();
        let (output, memory) = measured(&binary("release_unpack"), &looking.to_string())?;
        let said = Reply::of(&output);
        if memory > limit {
            return Err(format!("took {memory} kB of memory in check mode"));
        }
        let (output, memory) = measured(&binary("release_unpack"), &arguments.to_string())?;
        let after = Manifest::exact(&self.victim());
        if victim != after {
            return Err(format!("something was touched outside:\n{victim}\nbecame\n{after}"));
        }
        if memory > limit {
            return Err(format!("took {memory} kB of memory"));
        }
        let reply = Reply::of(&output);
        // Of several defects it may meet another one first; and only writing shows what a file
        // system cannot do, and what has to be kept until the end.
        let seen = reply["code"] != "io" && reply["code"] != "too_large";
        if said["failed"] != reply["failed"] && seen {
            return Err(format!("check mode says {}, it is {}", said["msg"], reply["msg"]));
        }
        let release = self.root.at("releases").join(&version);
        let mut tree = Vec::new();
        walk(&release, &release, &mut tree);
        // The module's own.
        tree.retain(|line| !line.starts_with("REVISION file"));
        tree.sort();
        let mut around = fs::read_dir(self.root.at("releases")).unwrap();
        if around.any(|entry| {
            let name = entry.unwrap().file_name();
            // What is in the trash is being deleted.
            let trash = name.to_string_lossy().starts_with(".oxistrano-trash-");
            !trash && name != "1" && *name != *version
        }) {
            return Err("something was left behind".to_owned());
        }
        let _ = self.root.run("release_setup", json!({"version": version, "state": "failed"}));
        Ok(Outcome { reply, tree })
    }
}

/// Runs it; how much memory it took at most, in kB.
#[allow(clippy::zombie_processes, reason = "wait4 waits for it, and says how much it took")]
fn measured(program: &Path, arguments: &str) -> Result<(Output, i64), String> {
    let mut child = Command::new(program)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(arguments.as_bytes()).unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    // Its answer is shorter than what a pipe holds.
    let started = Instant::now();
    let (status, memory) = loop {
        let (mut status, mut usage) = (0, nothing_used());
        // SAFETY: both are valid for writing, and the child has not been waited for.
        let ended = unsafe { libc::wait4(pid, &raw mut status, libc::WNOHANG, &raw mut usage) };
        if ended == pid {
            break (status, usage.ru_maxrss);
        }
        if started.elapsed() > TIMEOUT {
            child.kill().unwrap();
            child.wait().unwrap();
            return Err(format!("it did not end within {TIMEOUT:?}"));
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let read = |from: Option<&mut dyn std::io::Read>| {
        let mut bytes = Vec::new();
        from.map(|from| from.read_to_end(&mut bytes)).transpose().unwrap();
        bytes
    };
    let output = Output {
        status: std::os::unix::process::ExitStatusExt::from_raw(status),
        stdout: read(child.stdout.as_mut().map(|pipe| pipe as &mut dyn std::io::Read)),
        stderr: read(child.stderr.as_mut().map(|pipe| pipe as &mut dyn std::io::Read)),
    };
    Ok((output, memory))
}

/// The most that this process has had, in kB. It counts as the program's until it becomes one.
fn peak() -> i64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim_end_matches("kB").trim().parse().unwrap()
}

fn nothing_used() -> libc::rusage {
    // SAFETY: a plain C structure of numbers, for which zeros are valid.
    unsafe { std::mem::zeroed() }
}

fn walk(top: &Path, below: &Path, lines: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(below) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(top).unwrap().as_os_str().as_bytes().escape_ascii();
        let meta = fs::symlink_metadata(&path).unwrap();
        let mode = meta.permissions().mode() & 0o7777;
        if meta.is_symlink() {
            lines.push(format!("{name} -> {}", fs::read_link(&path).unwrap().display()));
        } else if meta.is_dir() {
            lines.push(format!("{name} dir {mode:o}"));
            walk(top, &path, lines);
        } else {
            lines.push(format!("{name} file {mode:o}"));
        }
    }
}
