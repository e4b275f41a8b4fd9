//! Root's modules in directories of a user who means ill: a process of the web user swaps what
//! it may rename (directories for links that lead out, files for FIFOs and for links to what
//! only root may read) as fast as it can, while deploys and rollbacks run.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{chown, symlink, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use oxistrano_harness::{json, Manifest};
use rustix::fs::{
    mknodat, renameat_with, AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Uid, CWD,
};

use crate::programs::Said;
use crate::scene::{names, Deploy, How, Scene, Via};
use crate::table::Row;

/// The web user.
const WEB: u32 = 33;
/// What must never be seen anywhere.
const SECRET: &str = "the-secret-of-root";

/// What belongs to the web user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Theirs {
    /// What releases share, and what is in the releases: the usual.
    Contents,
    /// The deploy root and everything below it.
    Everything,
}

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
    for turn in 0_usize.. {
        if turn % 64 == 0 {
            targets = targets_in(shop);
            let _ = fs::write(own.join("count"), swaps.to_string());
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
        let made = match below(9) {
            0 | 1 => symlink(outside.join("dir"), &evil).is_ok(),
            2 => symlink(outside.join("secret"), &evil).is_ok(),
            3 => symlink("../../../outside/dir", &evil).is_ok(),
            4 => mknodat(CWD, &evil, FileType::Fifo, Mode::from_raw_mode(0o666), 0).is_ok(),
            5 => fs::create_dir(&evil).is_ok(),
            // The kernel forbids it only where they may not write.
            6 | 7 => fs::hard_link(outside.join("grouped"), &evil).is_ok(),
            _ => fs::File::create_new(&evil).and_then(|file| file.set_len(200 << 30)).is_ok(),
        };
        if !made {
            // It may have been carried off, or be there from before.
            let _ = fs::remove_file(&evil);
            continue;
        }
        let exchange = || renameat_with(CWD, &evil, CWD, target, RenameFlags::EXCHANGE).is_ok();
        if exchange() {
            swaps += 1;
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

/// Some hundred module calls beside it. `exe`: the program that becomes the hostile one with
/// the word `be-hostile`.
pub fn run(modules: &Path, top: &Path, exe: &Path, rounds: usize) -> Vec<Row> {
    let scenes = [
        ("contents of releases and shared belong to the web user", Theirs::Contents),
        ("the deploy root and all in it belong to the web user", Theirs::Everything),
    ];
    let mut rows = Vec::new();
    for (number, (what, theirs)) in scenes.into_iter().enumerate() {
        let top = top.join(format!("neighbour-{number}"));
        let scene = Scene::new(modules, &top);
        rows.push(beside(&scene, exe, theirs, rounds, Row::new(what)));
        let _ = fs::remove_dir_all(&top);
    }
    rows
}

fn beside(scene: &Scene, exe: &Path, theirs: Theirs, rounds: usize, mut row: Row) -> Row {
    prepare(scene, theirs);
    let before = Manifest::exact(&scene.outside());
    let hostile = Hostile::start(scene, exe, 2);
    let (mut well, mut refused) = (0, 0);
    for round in 0..rounds {
        let via = if round % 4 == 3 { Via::Rsync } else { Via::Symlink };
        let how = if round % 3 == 1 { How::Copy } else { How::Unpack };
        let version = ["a", "b", "c", "d", "e", "f", "g"][round % 7];
        let deploy = Deploy { version, contents: "1", via, how, force: true, keep: 2, deployer: 1 };
        let mut steps = scene.steps(&deploy);
        for step in &mut steps {
            if step.name == "code" && how == How::Copy {
                // Which they may change while it is copied.
                step.arguments["src"] = scene.root().join("shared/src").to_str().into();
            }
            if step.name == "setup" {
                step.arguments["shared_owner"] = WEB.to_string().into();
                step.arguments["shared_group"] = WEB.to_string().into();
            }
        }
        let info = json!({"deploy_to": scene.root().to_str()});
        let calls = steps.iter().map(|step| (step.module, &step.arguments));
        for (module, arguments) in calls.chain([("release_info", &info)]) {
            row.runs += 1;
            let said = scene.programs.run(module, arguments, &[]);
            if said.is_well() {
                well += 1;
            } else {
                refused += 1;
            }
            row.violations
                .extend(wrong_with(&said).map(|why| format!("round {round}, {module}: {why}")));
        }
        if theirs == Theirs::Everything {
            give(scene, &scene.root(), 1);
            give(scene, &scene.root().join(".oxistrano"), 1);
            give(scene, &scene.root().join("releases"), 1);
        }
        mend(&scene.root().join(".oxistrano"));
        if Manifest::exact(&scene.outside()) != before {
            row.violations.push(format!("round {round}: something outside has changed"));
            break;
        }
        if let Some(path) = leaked(&scene.root()) {
            row.violations.push(format!("round {round}: the secret is in {}", path.display()));
            break;
        }
    }
    row.points = hostile.stop() as usize;
    row.remark = format!("points: swaps; {well} calls did their work, {refused} refused");
    row
}

/// What an administrator would do: a link in the place of the lock refuses every deploy.
fn mend(state: &Path) {
    for path in names(state).into_iter().map(|name| state.join(name)) {
        if path.symlink_metadata().is_ok_and(|info| !info.is_file() && !info.is_dir()) {
            let _ = fs::remove_file(path);
        }
    }
}

fn prepare(scene: &Scene, theirs: Theirs) {
    let outside = scene.outside();
    for directory in [scene.top(), &outside] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).expect("permissions");
    }
    fs::write(outside.join("secret"), SECRET).expect("a secret");
    fs::set_permissions(outside.join("secret"), fs::Permissions::from_mode(0o600))
        .expect("permissions");
    // What they may write to, but do not own.
    fs::write(outside.join("grouped"), "untouched").expect("a victim");
    chown(outside.join("grouped"), Some(0), Some(WEB)).expect("a victim of their group");
    fs::set_permissions(outside.join("grouped"), fs::Permissions::from_mode(0o660))
        .expect("permissions");
    // What would be seen if it were written to, removed or given away.
    for name in ["var", "etc", "media", "REVISION", "index.php"] {
        fs::write(outside.join("dir").join(name), "untouched").expect("a victim");
    }
    let first = Deploy::of("0");
    scene.deploy(&first).expect("a first deploy");
    for name in ["shared/src/app/etc", "shared/src/pub", "shared/src/var"] {
        fs::create_dir_all(scene.root().join(name)).expect("a directory");
    }
    for number in 0..40 {
        let name = format!("shared/src/{}/{number}", ["app/etc", "pub", "var"][number % 3]);
        fs::write(scene.root().join(name), "x").expect("a file");
    }
    fs::write(scene.root().join("shared/app/etc/env.php"), "x").expect("a file");
    match theirs {
        Theirs::Contents => give(scene, &scene.root().join("shared"), 9),
        Theirs::Everything => give(scene, &scene.root(), 9),
    }
}

/// Gives something in a scene to the web user, so many levels of it. The neighbour may be at work
/// meanwhile: what it has put there from outside is not given to it by this test.
fn give(scene: &Scene, path: &Path, levels: usize) {
    let outside = ["secret", "grouped"].map(|name| scene.outside().join(name).symlink_metadata());
    give_all_but(&outside.map(|file| file.map_or(0, |file| file.ino())), path, levels);
}

fn give_all_but(inodes: &[u64], path: &Path, levels: usize) {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(held) = rustix::fs::open(path, flags, Mode::empty()) else { return };
    let Ok(stat) = rustix::fs::fstat(&held) else { return };
    if inodes.contains(&stat.st_ino) {
        return;
    }
    let web = (Some(Uid::from_raw(WEB)), Some(Gid::from_raw(WEB)));
    let _ = rustix::fs::chownat(&held, "", web.0, web.1, AtFlags::EMPTY_PATH);
    if levels > 0 && FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        let here = PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()));
        for name in names(&here) {
            give_all_but(inodes, &here.join(name), levels - 1);
        }
    }
}

fn wrong_with(said: &Said) -> Option<String> {
    if said.hung {
        return Some("it hangs".to_owned());
    }
    if said.raw.contains(SECRET) {
        return Some("its output has the secret".to_owned());
    }
    if said.value.is_none() || said.code() == "panic" {
        return Some(format!("no result: {}", said.raw.chars().take(300).collect::<String>()));
    }
    None
}

/// A file in the deploy root that has the secret: copied there, or linked.
fn leaked(directory: &Path) -> Option<PathBuf> {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(metadata) = path.symlink_metadata() else { continue };
        if metadata.is_dir() {
            if let Some(found) = leaked(&path) {
                return Some(found);
            }
        } else if metadata.is_file() && metadata.size() == SECRET.len() as u64 {
            // Looked at again: it may be something else by now.
            let flags = rustix::fs::OFlags::RDONLY
                | rustix::fs::OFlags::NOFOLLOW
                | rustix::fs::OFlags::NONBLOCK;
            let Ok(fd) = rustix::fs::open(&path, flags, Mode::empty()) else { continue };
            let mut text = String::new();
            let _ = std::io::Read::read_to_string(&mut fs::File::from(fd), &mut text);
            if text == SECRET {
                return Some(path);
            }
        }
    }
    None
}

/// The hostile processes.
struct Hostile {
    children: Vec<(Child, PathBuf)>,
}

impl Hostile {
    fn start(scene: &Scene, exe: &Path, count: u64) -> Self {
        // Where the web user can run it.
        let program = scene.top().join("hostile");
        fs::copy(exe, &program).expect("a copy of this program");
        let start = |number: u64| {
            let own = scene.top().join(format!("own-{number}"));
            fs::create_dir_all(&own).expect("a directory");
            chown(&own, Some(WEB), Some(WEB)).expect("a directory of the web user");
            let mut command = Command::new(&program);
            command.arg("be-hostile").arg(scene.root()).arg(scene.outside()).arg(&own);
            command.arg((number * 7919 + 17).to_string()).uid(WEB).gid(WEB).current_dir("/");
            (command.spawn().expect("a hostile process"), own)
        };
        Self { children: (1..=count).map(start).collect() }
    }

    /// Ends them; how many swaps they made.
    fn stop(mut self) -> u64 {
        let mut swaps = 0;
        for (child, own) in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
            let count = fs::read_to_string(own.join("count")).unwrap_or_default();
            swaps += count.parse::<u64>().unwrap_or(0);
        }
        swaps
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        for (child, _) in &mut self.children {
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
