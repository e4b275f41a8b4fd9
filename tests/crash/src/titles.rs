//! Processes that are not what they are called: of the web user's, with the title of php-fpm's
//! master or of Magento's cron jobs, each for some milliseconds. Whoever comes next has the number
//! of the one before, if the kernel can be made to give it: root's program after the web user's, the
//! web user's after root's, and processes that have nothing to do with any of it.

use std::fs::{self, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::harm::WEB;

/// With arguments (`-t -R -y CONFIG`) it writes down who has run it, and with what. As `php` it is a
/// job of cron's. Else it becomes the maker of the listening socket that it was handed.
const SOURCE: &str = r#"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
int main(int argc, char **argv) {
    alarm(30);
    if (argc > 1 && strcmp(argv[0], "php")) {
        char text[512];
        int length = snprintf(text, sizeof text, "%d %.400s\n", getuid(), argv[argc - 1]);
        int file = open(RAN, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0644);
        return write(file, text, length) != length;
    }
    signal(SIGUSR2, SIG_IGN);
    listen(0, 16);
    for (;;) pause();
}
"#;

/// The number of the last process, which can be set to let the next have one that is chosen.
const LAST: &str = "/proc/sys/kernel/ns_last_pid";

/// They come and go until this is dropped.
#[derive(Debug)]
pub struct Titles {
    directory: PathBuf,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<Tally>>,
}

/// What came of them.
#[derive(Debug, Default)]
pub struct Tally {
    /// How many there were.
    pub processes: usize,
    /// How many of them had the number of the one before.
    pub again: usize,
    /// What must not have happened.
    pub violations: Vec<String>,
}

impl Titles {
    /// Starts. `directory`: a new one; `leased`: a file on which somebody holds a lease.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn start(
        directory: &Path,
        listener: &UnixListener,
        release: &Path,
        secret: &Path,
        leased: &Path,
    ) -> Result<Self, String> {
        let at = |name: &str| directory.join(name);
        for name in ["root", "web", "notes"] {
            fs::create_dir_all(at(name)).map_err(|error| error.to_string())?;
        }
        let _ = fs::set_permissions(at("notes"), Permissions::from_mode(0o777));
        fs::write(at("source.c"), SOURCE).map_err(|error| error.to_string())?;
        // Owner and mode of the programs: root's own, root's under another name that anybody runs as
        // root, and the web user's own.
        for (name, note, owner, mode) in [
            ("root/php-fpm8.9", "notes/good", 0, 0o755),
            ("root/su", "notes/bad", 0, 0o4755),
            ("web/php-fpm8.9", "notes/bad", WEB, 0o755),
        ] {
            let ran = format!("-DRAN=\"{}\"", at(note).display());
            let cc =
                Command::new("cc").arg(ran).arg("-o").arg(at(name)).arg(at("source.c")).status();
            if !cc.is_ok_and(|status| status.success()) {
                return Err("there is no C compiler".to_owned());
            }
            let _ = chown(at(name), Some(owner), Some(owner));
            let _ = fs::set_permissions(at(name), Permissions::from_mode(mode));
        }
        let include = format!(
            "[global]\ninclude = {}\ninclude = {}\ninclude = {}\n",
            secret.display(),
            at("web/fifo").display(),
            leased.display()
        );
        let _ = fs::write(at("root/fpm.conf"), "[global]\nprocess_control_timeout = 7s\n");
        let _ = fs::write(at("web/include"), include);
        let _ = symlink(secret, at("web/secret"));
        let _ = symlink(leased, at("web/leased"));
        let _ = mknodat(CWD, at("web/fifo"), FileType::Fifo, Mode::from_raw_mode(0o666), 0);
        let _ = chown(at("web"), Some(WEB), Some(WEB));
        let listener = listener.try_clone().map_err(|error| error.to_string())?;
        let ended = Arc::new(AtomicBool::new(false));
        let crowd = Crowd {
            directory: directory.to_owned(),
            release: release.to_owned(),
            listener,
            random: 0x9e37_79b9_7f4a_7c15,
        };
        let flag = ended.clone();
        let thread = Some(std::thread::spawn(move || crowd.go_on_until(&flag)));
        Ok(Self { directory: directory.to_owned(), ended, thread })
    }

    /// Ends them.
    pub fn stop(mut self) -> Tally {
        self.ended.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it runs");
        let mut tally = thread.join().expect("the thread");
        let read = |name: &str| {
            fs::read_to_string(self.directory.join("notes").join(name)).unwrap_or_default()
        };
        let bad = read("bad");
        let by_root = bad.lines().filter(|line| line.starts_with("0 "));
        tally.violations.extend(by_root.map(|line| format!("root has run a stranger: {line}")));
        let own = self.directory.join("root/fpm.conf");
        let own = own.to_str().expect("UTF-8");
        let good = read("good");
        let others = good.lines().filter(|line| !line.ends_with(own));
        tally.violations.extend(others.map(|line| format!("run with a stranger's file: {line}")));
        tally
    }
}

impl Drop for Titles {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Crowd {
    directory: PathBuf,
    release: PathBuf,
    listener: UnixListener,
    random: u64,
}

impl Crowd {
    fn below(&mut self, limit: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as usize % limit
    }

    fn go_on_until(mut self, ended: &AtomicBool) -> Tally {
        let mut tally = Tally::default();
        let mut strangers: Vec<Child> = Vec::new();
        let mut last: Option<u32> = None;
        while !ended.load(Ordering::Relaxed) {
            if let Some(last) = last.filter(|_| self.below(4) > 0) {
                let _ = fs::write(LAST, (last - 1).to_string());
            }
            // One that nobody has a reason to tell anything.
            if self.below(3) == 0 {
                let mut command = Command::new("sleep");
                let child = command.arg("30").current_dir("/").spawn().expect("sleep");
                tally.again += usize::from(last == Some(child.id()));
                strangers.push(child);
                if strangers.len() > 12 {
                    let stranger = strangers.remove(0);
                    tally.violations.extend(told(stranger));
                }
                last = None;
                continue;
            }
            let mut command = match self.below(3) {
                0 => self.job(),
                _ => self.master(),
            };
            // The release may be shut at the moment, even to its owner.
            let Ok(mut child) = command.spawn() else { continue };
            tally.processes += 1;
            tally.again += usize::from(last == Some(child.id()));
            // As long as a module works, or for a part of that.
            let most = if self.below(3) == 0 { 400_000 } else { 12_000 };
            let pause = self.below(most) as u64;
            sleep(Duration::from_micros(pause));
            let _ = child.kill();
            let _ = child.wait();
            last = Some(child.id());
        }
        tally.violations.extend(strangers.into_iter().filter_map(told));
        tally
    }

    /// A job of cron's, or a consumer, with more to say than anybody wants to hear.
    fn job(&mut self) -> Command {
        let mut command = Command::new(self.directory.join("web/php-fpm8.9"));
        let word = ["cron:run", "queue:consumers:start"][self.below(2)];
        let junk = ["x", "\x1b]0;owned\x07\x1b[2J\n", "--password=hunter2"][self.below(3)];
        let long = if self.below(8) == 0 { "y".repeat(100_000) } else { String::new() };
        command.arg0("php").arg(self.release.join("bin/magento")).args([word, junk, &long]);
        // It may have been exchanged for something else: then it runs elsewhere.
        let there = self.release.is_dir();
        command.current_dir(if there { &self.release } else { Path::new("/") });
        command.stdin(Stdio::null()).uid(WEB).gid(WEB);
        command
    }

    /// One that has the socket and the title of php-fpm's master. One in six really is as good as that.
    fn master(&mut self) -> Command {
        let own = "root/fpm.conf";
        let configs = [own, "web/include", "web/secret", "web/leased", "web/fifo"];
        let config = configs[self.below(configs.len())];
        let (program, uid, config) = match self.below(6) {
            0 => ("root/php-fpm8.9", 0, own),
            1 => ("root/php-fpm8.9", 0, config),
            2 => ("root/su", 0, config),
            3 => ("root/su", WEB, config),
            4 => ("web/php-fpm8.9", 0, own),
            _ => ("web/php-fpm8.9", WEB, config),
        };
        let mut command = Command::new(self.directory.join(program));
        let config = self.directory.join(config);
        command.arg0(format!("php-fpm: master process ({})", config.display()));
        let inherited = OwnedFd::from(self.listener.try_clone().expect("the socket"));
        command.stdin(Stdio::from(inherited)).uid(uid).gid(uid).current_dir("/");
        command
    }
}

/// Ends a stranger; what it says of a signal that was not meant for it.
fn told(mut stranger: Child) -> Option<String> {
    let before = stranger.try_wait().ok().flatten();
    let _ = stranger.kill();
    let _ = stranger.wait();
    let status = before?;
    let signal = status.signal()?;
    Some(format!("signal {signal} was sent to a process that has nothing to do with the shop"))
}
