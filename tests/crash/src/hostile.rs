//! A process of the web user's that swaps what it can in a deploy root, as fast as it can.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};
use rustix::process::{Pid, Signal, kill_process};

use crate::harm::WEB;
use crate::scene::names;

/// On how many files a hostile process holds a lease at a time.
const LEASED: usize = 16;
/// Holds them: whoever opens one and is ready to wait, waits for 45 seconds. One that was broken
/// is replaced by a new one. Ends with its parent.
const HOLDER: &str = r#"
import fcntl, os, signal, sys, time
own, uid, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
parent = os.getppid()
os.setgroups([])
os.setgid(uid)
os.setuid(uid)
signal.signal(signal.SIGIO, signal.SIG_IGN)
held, old = [None] * count, []
while os.getppid() == parent:
    for number in range(count):
        file = held[number]
        if file and fcntl.fcntl(file, fcntl.F_GETLEASE) == fcntl.F_WRLCK and len(old) < 400:
            continue
        path = f'{own}/leased-{number}'
        new = open(path + '.new', 'w+')
        new.write('<?php return [];\n')
        new.flush()
        fcntl.fcntl(new, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        os.rename(path + '.new', path)
        old = old[-300:] + [file]
        held[number] = new
    time.sleep(0.005)
"#;

/// The hostile process: swaps until it is ended. `paths` are given below the deploy root.
pub fn be_hostile(shop: &Path, outside: &Path, own: &Path, seed: u64) {
    let mut random = seed | 1;
    let mut below = move |limit: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 11) as usize % limit.max(1)
    };
    let (mut swaps, mut targets) = (0_u64, Vec::new());
    let counter = fs::File::create(own.join("count")).expect("a file in its own directory");
    for turn in 0_usize.. {
        if turn % 64 == 0 {
            targets = targets_in(shop);
            forestall(shop, outside, &mut below);
        }
        let Some(target) = targets.get(below(targets.len())) else { continue };
        // A name beside it, because only there everything can be exchanged with it.
        let Some(parent) = target.parent() else { continue };
        let evil = parent.join(format!("evil-{seed}"));
        // So that it is to be given its owner and mode again, and not replaced.
        if below(4) == 0 {
            let _ = fs::set_permissions(target, fs::Permissions::from_mode(0o600));
        }
        let made = match below(12) {
            0 | 1 => symlink(outside.join("dir"), &evil).is_ok(),
            2 => symlink(outside.join("secret"), &evil).is_ok(),
            3 => symlink("../../../outside/dir", &evil).is_ok(),
            4 => mknodat(CWD, &evil, FileType::Fifo, Mode::from_raw_mode(0o666), 0).is_ok(),
            5 => fs::create_dir(&evil).is_ok(),
            // The kernel forbids it only where they may not write.
            6 | 7 => fs::hard_link(outside.join("grouped"), &evil).is_ok(),
            8 => mknodat(CWD, &evil, FileType::Socket, Mode::from_raw_mode(0o666), 0).is_ok(),
            9 | 10 => {
                let leased = own.join(format!("leased-{}", below(LEASED)));
                fs::hard_link(leased, &evil).is_ok()
            }
            // A new one: it must not be the hostile process itself that changes what is outside.
            _ => fs::File::create_new(&evil).and_then(|file| file.set_len(200 << 30)).is_ok(),
        };
        if !made {
            // It may have been carried off, or be there from before.
            let _ = fs::remove_file(&evil).or_else(|_| fs::remove_dir_all(&evil));
            continue;
        }
        let exchange = || renameat_with(CWD, &evil, CWD, target, RenameFlags::EXCHANGE).is_ok();
        if exchange() {
            swaps += 1;
            // Over the one before: never half there.
            let _ = counter.write_all_at(format!("{swaps:020}").as_bytes(), 0);
            if below(12) == 0 {
                // As long as a module works: else it hardly ever meets one of them.
                sleep(Duration::from_millis(below(120) as u64));
            }
            let until = Instant::now() + Duration::from_micros(below(400) as u64);
            while Instant::now() < until {
                std::hint::spin_loop();
            }
            exchange();
        }
        let _ = fs::remove_file(&evil);
        let _ = fs::remove_dir(&evil);
    }
}

/// What it may hope to swap.
fn targets_in(shop: &Path) -> Vec<PathBuf> {
    let mut targets = Vec::new();
    let mut add = |directory: &Path, depth: usize| add_below(directory, depth, &mut targets);
    add(&shop.join("shared"), 3);
    add(&shop.join("current"), 3);
    for release in names(&shop.join("releases")) {
        add(&shop.join("releases").join(release), 2);
    }
    add(&shop.join(".oxistrano"), 1);
    targets.extend(names(shop).iter().map(|name| shop.join(name)));
    targets
        .extend(names(&shop.join("releases")).iter().map(|name| shop.join("releases").join(name)));
    targets
}

fn add_below(directory: &Path, depth: usize, targets: &mut Vec<PathBuf>) {
    for name in names(directory) {
        if name.starts_with("evil") {
            continue;
        }
        let path = directory.join(&name);
        if depth > 1 && path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
            add_below(&path, depth - 1, targets);
        }
        targets.push(path);
    }
}

/// Puts links to what is outside in the place of what modules have just made under a temporary
/// name. Nobody can guess those, but see them.
fn forestall(shop: &Path, outside: &Path, below: &mut impl FnMut(usize) -> usize) {
    let places =
        ["shared", "shared/var", "shared/app/etc", ".", ".oxistrano", "releases", "current"];
    let place = shop.join(places[below(places.len())]);
    let victim = outside.join(["secret", "grouped"][below(2)]);
    for name in names(&place).into_iter().filter(|name| name.starts_with(".oxistrano-tmp-")) {
        let path = place.join(name);
        let _ = fs::remove_file(&path).or_else(|_| fs::rename(&path, place.join("evil-taken")));
        let _ = fs::hard_link(&victim, &path).or_else(|_| symlink(&victim, &path));
        let _ = fs::remove_dir_all(place.join("evil-taken"));
    }
}

/// The hostile processes.
#[derive(Debug)]
pub(crate) struct Hostile {
    children: Vec<(Child, PathBuf)>,
    holders: Vec<Child>,
}

impl Hostile {
    pub(crate) fn start(top: &Path, root: &Path, outside: &Path, exe: &Path, count: u64) -> Self {
        // Where the web user can run it.
        let program = top.join("hostile");
        fs::copy(exe, &program).expect("a copy of this program");
        let mut hostile = Self { children: Vec::new(), holders: Vec::new() };
        for number in 1..=count {
            let own = top.join(format!("own-{number}"));
            fs::create_dir_all(&own).expect("a directory");
            chown(&own, Some(WEB), Some(WEB)).expect("a directory of the web user");
            let mut holder = Command::new("python3");
            holder.args(["-c", HOLDER]).arg(&own).args([WEB.to_string(), LEASED.to_string()]);
            hostile.holders.push(holder.current_dir("/").spawn().expect("python3"));
            let started = Instant::now();
            while !own.join(format!("leased-{}", LEASED - 1)).exists() {
                assert!(started.elapsed() < Duration::from_secs(30), "no leases are held");
                sleep(Duration::from_millis(5));
            }
            let mut command = Command::new(&program);
            command.arg("be-hostile").arg(root).arg(outside).arg(&own);
            command.arg((number * 7919 + 17).to_string()).uid(WEB).gid(WEB).current_dir("/");
            hostile.children.push((command.spawn().expect("a hostile process"), own));
        }
        hostile
    }

    /// Lets them rest while something is put back, and go on.
    pub(crate) fn rest(&self, work: impl FnOnce()) {
        let tell = |signal| {
            for (child, _) in &self.children {
                let _ = kill_process(Pid::from_child(child), signal);
            }
        };
        tell(Signal::STOP);
        // It is not in the middle of a system call when it has stopped.
        sleep(Duration::from_millis(5));
        work();
        tell(Signal::CONT);
    }

    /// Ends them; how many swaps they made.
    pub(crate) fn stop(mut self) -> u64 {
        let mut swaps = 0;
        for (child, own) in &mut self.children {
            let ended = child.try_wait().expect("its state");
            assert!(ended.is_none(), "a hostile process has ended: {ended:?}");
            let _ = child.kill();
            let _ = child.wait();
            let count = fs::read_to_string(own.join("count")).expect("its count");
            swaps += count.parse::<u64>().unwrap_or(0);
        }
        swaps
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        let children = self.children.iter_mut().map(|(child, _)| child);
        for child in children.chain(&mut self.holders) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The arguments of the hostile process, if this is one.
pub fn hostile_arguments() -> Option<[String; 4]> {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    if words.first().map(|word| word.as_os_str()) != Some(OsStr::new("be-hostile")) {
        return None;
    }
    let words: Vec<_> = words[1..].iter().map(|word| word.to_string_lossy().into_owned()).collect();
    words.try_into().ok()
}
