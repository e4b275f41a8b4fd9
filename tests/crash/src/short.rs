//! Reads and writes that do less than they were asked to, as a nearly full disk or a signal may
//! have it. strace can only pretend that; here the count that a program passes to the kernel is
//! made smaller, so that the rest is really not done.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode};

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Event, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use registers::Registers;

/// The first word of the arguments of this program when it is to do that.
const WORD: &str = "cut-short";
/// What the log says when at least one call was cut short.
pub const MARK: &str = "cut short";

/// The words before those of a program that is to be cut short. The file `log` has [`MARK`] then.
pub fn words(log: &str) -> Vec<String> {
    let exe = std::env::current_exe().expect("this program");
    // A test is in a directory below that of the program `crash`.
    let program = match exe.parent().filter(|directory| directory.ends_with("deps")) {
        Some(tests) => tests.with_file_name("crash"),
        None => exe,
    };
    [program.to_str().expect("UTF-8"), WORD, log].map(str::to_owned).to_vec()
}

/// Does it, if this process was started for that: runs the program and ends as it does.
pub fn if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next()? != WORD {
        return None;
    }
    let log = PathBuf::from(arguments.next()?);
    let (code, cut) = run(&arguments.collect::<Vec<_>>()).expect("a program that can be traced");
    fs::write(log, if cut > 0 { MARK } else { "" }).expect("the log");
    Some(ExitCode::from(code))
}

/// Runs a program to its end; returns its exit code, and how many of its calls were cut short.
/// What it executes is let go.
fn run(words: &[String]) -> io::Result<(u8, usize)> {
    let program = stopped(words)?;
    let main = Pid::from_raw(program.id().cast_signed());
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_EXITKILL;
    ptrace::seize(main, options)?;
    kill(main, Signal::SIGCONT)?;
    let first = words.last().and_then(|word| fs::canonicalize(word).ok());
    let mut cutter = Cutter { first, ..Cutter::default() };
    let mut ended = None;
    loop {
        // A process that is gone in between says so itself.
        let gone = |result: nix::Result<()>| match result {
            Err(Errno::ESRCH) => Ok(()),
            result => result,
        };
        let status = match (waitpid(None, Some(WaitPidFlag::__WALL)), ended) {
            // What it has started and is about to be let go would otherwise end with this process.
            (Err(Errno::ECHILD), Some(code)) => return Ok((code, cutter.cut)),
            (status, _) => status?,
        };
        match status {
            WaitStatus::Exited(pid, code) if pid == main => ended = Some(code as u8),
            WaitStatus::Signaled(pid, signal, _) if pid == main => ended = Some(128 + signal as u8),
            WaitStatus::PtraceSyscall(pid) => {
                gone(cutter.at_call(pid))?;
                gone(ptrace::syscall(pid, None))?;
            }
            WaitStatus::PtraceEvent(pid, _, event) if event == Event::PTRACE_EVENT_EXEC as i32 => {
                gone(match pid == main {
                    true => ptrace::syscall(pid, None),
                    false => ptrace::detach(pid, None),
                })?;
            }
            WaitStatus::PtraceEvent(pid, ..) => gone(ptrace::syscall(pid, None))?,
            WaitStatus::Stopped(pid, Signal::SIGCONT | Signal::SIGSTOP) => {
                gone(ptrace::syscall(pid, None))?;
            }
            WaitStatus::Stopped(pid, signal) => gone(ptrace::syscall(pid, signal))?,
            _ => {}
        }
    }
}

/// A shell that has stopped itself and becomes the program when it goes on.
fn stopped(words: &[String]) -> io::Result<Child> {
    let become_it = ["-c", "kill -STOP $$; exec \"$@\"", "sh"];
    let shell = Command::new("/bin/sh").args(become_it).args(words).spawn()?;
    waitpid(Pid::from_raw(shell.id().cast_signed()), Some(WaitPidFlag::WUNTRACED))?;
    Ok(shell)
}

/// Which argument of a system call is its count, if it is one that may do less.
fn count_of(number: i64) -> Option<usize> {
    match number {
        libc::SYS_read | libc::SYS_write | libc::SYS_pread64 | libc::SYS_pwrite64 => Some(3),
        // The number of pieces.
        libc::SYS_readv | libc::SYS_writev => Some(3),
        libc::SYS_sendfile => Some(4),
        libc::SYS_copy_file_range => Some(5),
        _ => None,
    }
}

#[cfg(target_arch = "x86_64")]
mod registers {
    use nix::libc;
    use nix::sys::ptrace;
    use nix::unistd::Pid;

    /// Those of a thread that is stopped at a system call.
    pub struct Registers(libc::user_regs_struct);

    impl Registers {
        pub fn of(thread: Pid) -> nix::Result<Self> {
            ptrace::getregs(thread).map(Self)
        }

        pub fn set(self, thread: Pid) -> nix::Result<()> {
            ptrace::setregs(thread, self.0)
        }

        /// The number of the system call; `None` at its end.
        pub fn begins(&self) -> Option<i64> {
            let begins = self.0.rax.cast_signed() == -i64::from(libc::ENOSYS);
            begins.then_some(self.0.orig_rax.cast_signed())
        }

        /// The n-th argument, from 1.
        pub fn argument(&mut self, n: usize) -> &mut u64 {
            match n {
                1 => &mut self.0.rdi,
                2 => &mut self.0.rsi,
                3 => &mut self.0.rdx,
                4 => &mut self.0.r10,
                5 => &mut self.0.r8,
                _ => &mut self.0.r9,
            }
        }
    }
}

/// Not known; see [`reason_against`].
#[cfg(not(target_arch = "x86_64"))]
mod registers {
    pub struct Registers([u64; 6]);

    impl Registers {
        pub fn of(_: nix::unistd::Pid) -> nix::Result<Self> {
            Err(nix::errno::Errno::ENOTSUP)
        }

        pub fn set(self, _: nix::unistd::Pid) -> nix::Result<()> {
            Ok(())
        }

        pub fn begins(&self) -> Option<i64> {
            None
        }

        pub fn argument(&mut self, n: usize) -> &mut u64 {
            &mut self.0[n - 1]
        }
    }
}

/// Why calls cannot be cut short here; `None`: they can.
pub fn reason_against() -> Option<&'static str> {
    (!cfg!(target_arch = "x86_64")).then_some("the registers of this processor are not known")
}

#[derive(Default)]
struct Cutter {
    /// The file whose reading is the first that is cut short: the module's arguments. What
    /// reads before that is the loader, which does not take less than it wants.
    first: Option<PathBuf>,
    /// How many calls.
    cut: usize,
    /// The threads in such a call, which argument it is, and what it was: a program may rely on
    /// its registers.
    inside: HashMap<Pid, (usize, u64)>,
}

impl Cutter {
    /// At the beginning and at the end of each call.
    fn at_call(&mut self, thread: Pid) -> nix::Result<()> {
        let mut registers = Registers::of(thread)?;
        if let Some((argument, count)) = self.inside.remove(&thread) {
            *registers.argument(argument) = count;
            return registers.set(thread);
        }
        let Some(argument) = registers.begins().and_then(count_of) else { return Ok(()) };
        let count = *registers.argument(argument);
        let less = match count {
            0 | 1 => return Ok(()),
            2..=16 => 1,
            17..=4096 => 7,
            _ => 1000,
        };
        // What goes through a pipe or into an event's counter is whole otherwise, too.
        let file = PathBuf::from(format!("/proc/{thread}/fd/{}", registers.argument(1)));
        if !file.metadata().is_ok_and(|file| file.is_file()) {
            return Ok(());
        }
        if self.first.is_some() {
            self.first.take_if(|first| fs::read_link(&file).is_ok_and(|path| path == *first));
            if self.first.is_some() {
                return Ok(());
            }
        }
        *registers.argument(argument) = less;
        registers.set(thread)?;
        self.inside.insert(thread, (argument, count));
        self.cut += 1;
        Ok(())
    }
}
