//! One system call of a run that kills the program, or fails. `strace` counts the calls of
//! an undisturbed run and disturbs the n-th of a name; it counts for each thread and each
//! name separately, so a run that is to be repeated exactly has one processor.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use oxistrano_harness::Value;

use crate::programs::{Programs, Said};
use crate::short;

/// Calls that change something, or let another process do so. A kill at the entry of each of
/// them finds everything that a kill between two of them would.
pub const CHANGES: [&str; 45] = [
    "openat",
    "openat2",
    "creat",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "unlink",
    "unlinkat",
    "rmdir",
    "write",
    "pwrite64",
    "writev",
    "pwritev",
    "truncate",
    "ftruncate",
    "fallocate",
    "copy_file_range",
    "sendfile",
    "chmod",
    "fchmod",
    "fchmodat",
    "chown",
    "lchown",
    "fchown",
    "fchownat",
    "utimensat",
    "fsetxattr",
    "fremovexattr",
    "fsync",
    "fdatasync",
    "syncfs",
    "sync_file_range",
    "flock",
    "ioctl",
    "clone3",
    "execve",
    "exit_group",
];

/// Calls that look.
const LOOKS: [&str; 14] = [
    "fstat",
    "newfstatat",
    "statx",
    "fstatfs",
    "getdents64",
    "read",
    "pread64",
    "readv",
    "readlinkat",
    "lseek",
    "dup",
    "fcntl",
    "fgetxattr",
    "clone",
];

/// Calls that tell another process something, and with which one is begun. Only for modules
/// whose children are not disturbed themselves.
const TELLS: [&str; 8] = [
    "connect",
    "sendto",
    "sendmsg",
    "shutdown",
    "kill",
    "pidfd_send_signal",
    "pipe2",
    "memfd_create",
];

/// Calls that hear what it says.
const HEARS: [&str; 5] = ["socket", "recvfrom", "recvmsg", "poll", "pidfd_open"];

/// The n-th call of a name.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// The system call.
    pub call: &'static str,
    /// Which one, from 1.
    pub number: usize,
    /// Whether it makes a file, when it opens one.
    pub creates: bool,
    /// Whether it writes the result.
    pub prints: bool,
}

/// What happens there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL before the call is done.
    Kill,
    /// The call is not done and fails like this.
    Error(&'static str),
    /// All reads and writes of files do less than they are asked to.
    Short,
}

/// The point at which all of a run is disturbed.
const THROUGHOUT: &str = "all along";

/// Calls that make, move or open a name.
const NAMES: &[&str] = &["openat", "mkdirat", "renameat", "renameat2", "linkat", "symlinkat"];
const WRITES: &[&str] = &["write", "pwrite64", "ftruncate", "copy_file_range"];
const SYNCS: &[&str] = &["fsync", "fdatasync", "syncfs"];
const READS: &[&str] = &["read", "pread64"];
const STATS: &[&str] = &["newfstatat", "statx"];
const METADATA: &[&str] = &["fchmod", "fchmodat", "fchown", "fchownat", "utimensat"];
const TALKS: &[&str] = &["connect", "sendto", "sendmsg", "recvfrom", "recvmsg", "poll"];

/// The errors, and the calls that can have them.
pub const ERRORS: [(&str, &[&[&str]]); 6] = [
    ("ENOSPC", &[NAMES, WRITES, SYNCS, &["fsetxattr"]]),
    (
        "EIO",
        &[
            NAMES,
            WRITES,
            SYNCS,
            READS,
            STATS,
            METADATA,
            &["openat2", "unlinkat", "flock", "fstat", "getdents64", "readlinkat"],
        ],
    ),
    (
        "EMFILE",
        &[&[
            "openat",
            "openat2",
            "dup",
            "fcntl",
            "clone3",
            "socket",
            "pipe2",
            "memfd_create",
            "pidfd_open",
        ]],
    ),
    (
        "EACCES",
        &[
            NAMES,
            STATS,
            METADATA,
            &["openat2", "unlinkat", "execve", "connect", "kill", "pidfd_send_signal"],
        ],
    ),
    ("EINTR", &[READS, WRITES, SYNCS, TALKS, &["openat", "flock"]]),
    ("EAGAIN", &[&["clone3", "clone"]]),
];

/// Whether this error is one that the call can have.
fn can_have(call: &str, error: &str) -> bool {
    ERRORS
        .iter()
        .any(|(name, groups)| *name == error && groups.iter().any(|calls| calls.contains(&call)))
}

/// Why calls cannot be disturbed here; `None`: they can.
pub fn reason_against() -> Option<String> {
    let inject = ["-qq", "-o", "/dev/null", "-f", "-e", "trace=chdir", "true"];
    match Command::new("strace").args(inject).output() {
        Err(_) => Some("there is no program strace".to_owned()),
        Ok(output) if !output.status.success() => {
            Some(format!("strace may not trace: {}", String::from_utf8_lossy(&output.stderr)))
        }
        Ok(_) => None,
    }
}

/// The words in front of a program. Without `--seccomp-bpf`, with which strace 6 lets the call be
/// done all the same before the signal comes, or loses the signal.
fn strace(programs: &Programs, output: &Path, calls: &str, inject: Option<String>) -> Vec<String> {
    let mut words = ["strace", "-f", "-qq", "-s", "0"].map(str::to_owned).to_vec();
    if !programs.with_children {
        words.push("--detach-on=execve".to_owned());
    }
    words.push("-o".to_owned());
    words.push(output.to_str().expect("UTF-8").to_owned());
    words.extend(["-e".to_owned(), format!("trace={calls}")]);
    words.extend(
        inject.into_iter().flat_map(|inject| ["-e".to_owned(), format!("inject={inject}")]),
    );
    words
}

/// The calls that are looked at.
fn names(programs: &Programs) -> Vec<&'static str> {
    let others = TELLS.iter().chain(&HEARS).filter(|_| !programs.with_children);
    CHANGES.iter().chain(&LOOKS).chain(others).copied().collect()
}

/// The trace of an undisturbed run, which is made: a line for each call.
pub fn trace(programs: &Programs, module: &str, arguments: &Value, log: &Path) -> String {
    // A name that this processor's kernel does not have is no error with the question mark.
    let calls: Vec<_> = names(programs).iter().map(|name| format!("?{name}")).collect();
    let said = programs.run(module, arguments, &strace(programs, log, &calls.join(","), None));
    assert!(said.is_well(), "{module} undisturbed: {}", said.message());
    let text = String::from_utf8_lossy(&fs::read(log).expect("the trace")).into_owned();
    let _ = fs::remove_file(log);
    text
}

/// The calls of an undisturbed run, which is made.
pub fn points(programs: &Programs, module: &str, arguments: &Value, log: &Path) -> Vec<Point> {
    let names = names(programs);
    let text = trace(programs, module, arguments, log);
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut points: BTreeMap<(&'static str, usize), Point> = BTreeMap::new();
    // Before it opens its arguments it is the loader and the runtime that work; also in a
    // process that it starts, whose calls have the same numbers.
    let mut loading: Option<BTreeMap<&str, usize>> = None;
    // It is the first thread that says how it went.
    let first = text.split(' ').next().unwrap_or_default();
    for line in text.lines() {
        if loading.is_none() && line.contains("/args-") {
            loading = Some(counts.iter().map(|((_, call), number)| (*call, *number)).collect());
        }
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((name, rest)) = rest.trim_start().split_once('(') else { continue };
        let Some(call) = names.iter().find(|known| **known == name) else { continue };
        let number = counts.entry((thread, call)).or_default();
        *number += 1;
        let is_own = loading
            .as_ref()
            .is_some_and(|loading| *number > loading.get(call).copied().unwrap_or(0));
        if !is_own {
            continue;
        }
        let point = points.entry((call, *number)).or_insert(Point {
            call,
            number: *number,
            creates: false,
            prints: false,
        });
        point.creates |= rest.contains("O_CREAT");
        point.prints |= name == "write" && rest.starts_with("1,") && thread == first;
    }
    points.insert(
        (THROUGHOUT, 1),
        Point { call: THROUGHOUT, number: 1, creates: false, prints: false },
    );
    points.into_values().collect()
}

impl Fault {
    /// Whether it makes sense at a point.
    pub fn fits(self, point: &Point) -> bool {
        match self {
            Fault::Kill => {
                let opens = matches!(point.call, "openat" | "openat2");
                let changes = CHANGES.contains(&point.call) || TELLS.contains(&point.call);
                changes && (!opens || point.creates)
            }
            Fault::Error(error) => {
                can_have(point.call, error)
                    && (error != "ENOSPC" || point.call != "openat" || point.creates)
            }
            Fault::Short => point.call == THROUGHOUT,
        }
    }

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Kill => "SIGKILL",
            Fault::Error(error) => error,
            Fault::Short => "short",
        }
    }

    /// Whether the run has to end as an undisturbed one does.
    pub fn is_harmless(self) -> bool {
        self == Fault::Short
    }

    /// Runs a module with it; the second says whether it came to the point.
    pub fn run(
        self,
        programs: &Programs,
        module: &str,
        arguments: &Value,
        at: &Point,
        log: &Path,
    ) -> (Said, bool) {
        let inject = |fault: &str| {
            let inject = format!("{}:{fault}:when={}", at.call, at.number);
            strace(programs, log, at.call, Some(inject))
        };
        let (wrap, mark) = match self {
            Fault::Kill => (inject("signal=KILL"), "killed by SIGKILL"),
            Fault::Error(error) => (inject(&format!("error={error}")), "(INJECTED)"),
            Fault::Short => (short::words(log.to_str().expect("UTF-8")), short::MARK),
        };
        let said = programs.run(module, arguments, &wrap);
        let trace = fs::read(log).unwrap_or_default();
        let _ = fs::remove_file(log);
        (said, String::from_utf8_lossy(&trace).contains(mark))
    }
}
