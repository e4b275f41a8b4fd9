//! What the web user has and what is not theirs to see or to change, and whether they did.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use oxistrano_harness::Manifest;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};

use crate::programs::Said;
use crate::scene::names;

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
