//! Root's modules in directories of a user who means ill: a process of the web user swaps what
//! it may rename (directories for links that lead out, files for FIFOs and for links to what
//! only root may read, sockets, files on which it holds a lease) as fast as it can, while deploys
//! and rollbacks run. [`crate::strangers`] does the same to the modules for Magento and php-fpm.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use oxistrano_harness::{Manifest, json};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};

use crate::hostile::Hostile;
use crate::programs::Said;
use crate::scene::{Deploy, How, Scene, Via, names};
use crate::strangers;
use crate::table::Row;

/// The web user.
pub(crate) const WEB: u32 = 33;
/// What must never be seen anywhere.
pub(crate) const SECRET: &str = "the-secret-of-root";

/// What belongs to the web user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Theirs {
    /// What releases share, and what is in the releases: the usual.
    Contents,
    /// The deploy root and everything below it.
    Everything,
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
    rows.extend(strangers::run(modules, top, exe, rounds.div_ceil(6)));
    rows
}

fn beside(scene: &Scene, exe: &Path, theirs: Theirs, rounds: usize, mut row: Row) -> Row {
    prepare(scene, theirs);
    let template = scene.keep_as("template");
    let before = Manifest::exact(&scene.outside());
    let hostile = Hostile::start(scene.top(), &scene.root(), &scene.outside(), exe, 2);
    let (mut well, mut refused) = (0, 0);
    for round in 0..rounds {
        let via = if round % 4 == 3 { Via::Rsync } else { Via::Symlink };
        let how = if round % 3 == 1 { How::Copy } else { How::Unpack };
        let version = ["a", "b", "c", "d", "e", "f", "g"][round % 7];
        let deploy = Deploy {
            version,
            contents: "1",
            how,
            via,
            force: true,
            keep: 2,
            ..Deploy::of(version)
        };
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
            let (root, outside) = (scene.root(), scene.outside());
            for path in [root.clone(), root.join(".oxistrano"), root.join("releases")] {
                give(&outside, &path, 1);
            }
        }
        mend(&scene.root().join(".oxistrano"));
        if let Some(what) = changed(&before, &Manifest::exact(&scene.outside())) {
            row.violations.push(format!("round {round}: outside, {what}"));
            break;
        }
        if let Some(path) = leaked(&scene.root()) {
            row.violations.push(format!("round {round}: the secret is in {}", path.display()));
            break;
        }
        // Else so much is broken in the end that there is nothing to do. Not each time: what is
        // left of one round is there in the next.
        if round % 3 == 2 {
            hostile.rest(|| scene.restore(Some(&template)));
        }
    }
    row.points = hostile.stop() as usize;
    if row.points == 0 {
        row.violations.push("nothing was swapped, so nothing was tried".to_owned());
    }
    row.remark = format!("points: swaps; {well} calls did their work, {refused} refused");
    row
}

/// What is not as it was.
pub(crate) fn changed(before: &Manifest, after: &Manifest) -> Option<String> {
    let (before, after) = (before.to_string(), after.to_string());
    let news = after.lines().filter(|line| !before.lines().any(|was| was == *line));
    let words: Vec<_> = news.map(str::trim).collect();
    (before != after).then(|| format!("this is new: {words:?}; before: {before}"))
}

/// What an administrator would do: a link in the place of the lock refuses every deploy.
pub(crate) fn mend(state: &Path) {
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
    victims(&outside, SECRET);
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
        Theirs::Contents => give(&scene.outside(), &scene.root().join("shared"), 9),
        Theirs::Everything => give(&scene.outside(), &scene.root(), 9),
    }
}

/// What is outside: nobody but root may read the secret, and nothing may be changed. What would be
/// seen if it were written to, removed or given away.
pub(crate) fn victims(outside: &Path, secret: &str) {
    fs::write(outside.join("secret"), secret).expect("a secret");
    fs::set_permissions(outside.join("secret"), fs::Permissions::from_mode(0o600))
        .expect("permissions");
    // What they may write to, but do not own.
    fs::write(outside.join("grouped"), "untouched").expect("a victim");
    chown(outside.join("grouped"), Some(0), Some(WEB)).expect("a victim of their group");
    fs::set_permissions(outside.join("grouped"), fs::Permissions::from_mode(0o660))
        .expect("permissions");
    fs::create_dir_all(outside.join("dir")).expect("a directory");
    for name in ["var", "etc", "media", "REVISION", "index.php"] {
        fs::write(outside.join("dir").join(name), "untouched").expect("a victim");
    }
}

/// Gives something to the web user, so many levels of it. The neighbour may be at work meanwhile:
/// what it has put there from `outside` is not given to it by this test.
pub(crate) fn give(outside: &Path, path: &Path, levels: usize) {
    let files = ["secret", "grouped"].map(|name| outside.join(name).symlink_metadata());
    give_all_but(&files.map(|file| file.map_or(0, |file| file.ino())), path, levels);
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

pub(crate) fn wrong_with(said: &Said) -> Option<String> {
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
pub(crate) fn leaked(directory: &Path) -> Option<PathBuf> {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(metadata) = path.symlink_metadata() else { continue };
        if metadata.is_dir() {
            if let Some(found) = leaked(&path) {
                return Some(found);
            }
        } else if metadata.is_file() && metadata.size() < 1 << 20 {
            // Looked at again: it may be something else by now.
            let flags = rustix::fs::OFlags::RDONLY
                | rustix::fs::OFlags::NOFOLLOW
                | rustix::fs::OFlags::NONBLOCK;
            let Ok(fd) = rustix::fs::open(&path, flags, Mode::empty()) else { continue };
            let mut text = String::new();
            let _ = std::io::Read::read_to_string(&mut fs::File::from(fd), &mut text);
            if text.contains(SECRET) {
                return Some(path);
            }
        }
    }
    None
}
