//! Removal of a tree: through directory handles, never through a link, never across a
//! device, with several threads.

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::{Dir, Failure, interrupt};

/// More levels than any application has. Each is an open directory.
const LEVELS: usize = 128;
/// File descriptors of a thread in addition to the directories on its way down.
const BESIDE: usize = 4;

/// What was removed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// Files and links.
    pub files: u64,
    /// Directories.
    pub directories: u64,
}

/// Removes `name` in `parent`, with everything below it. It is not an error if it does not exist.
///
/// # Errors
/// The first entry that could not be removed; the others are still tried. A mount point below is
/// not touched, and is reported.
pub fn remove_tree(parent: &Dir, name: impl Into<OsString>) -> Result<Removed, Failure> {
    let name = name.into();
    let Some(info) = parent.lookup(&name)? else {
        return Ok(Removed::default());
    };
    if !info.is_dir() {
        parent.remove_file(&name)?;
        return Ok(Removed { files: 1, directories: 0 });
    }
    if info.device() != parent.info()?.device() {
        return Err(mount_point(&parent.at(&name)));
    }
    let root = Arc::new(Node {
        parent: None,
        dir: parent.duplicate()?,
        name: OsString::new(),
        depth: 0,
        pending: AtomicUsize::new(1),
    });
    let (threads, deepest) = room();
    let work = Work {
        device: info.device(),
        deepest,
        queue: Mutex::new(Queue { jobs: vec![(root, name)], busy: 0 }),
        wake: Condvar::new(),
        files: AtomicU64::new(0),
        directories: AtomicU64::new(0),
        failure: Mutex::new(None),
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            // Fewer threads only take longer.
            let _ = thread::Builder::new().spawn_scoped(scope, || work.run());
        }
        work.run();
    });
    match work.failure.into_inner().unwrap_or(None) {
        Some(failure) => Err(failure),
        None => Ok(Removed {
            files: work.files.into_inner(),
            directories: work.directories.into_inner(),
        }),
    }
}

/// How many threads may work, and how many levels each of them may have open.
fn room() -> (usize, usize) {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(8192).min(8192) as usize;
    let open = std::fs::read_dir("/proc/self/fd").map_or(32, Iterator::count);
    let free = limit.saturating_sub(open);
    let threads = thread::available_parallelism().map_or(2, usize::from).clamp(1, 8);
    let threads = threads.min(free / 16).max(1);
    (threads, (free / threads).saturating_sub(BESIDE).clamp(2, LEVELS))
}

fn mount_point(path: &std::path::Path) -> Failure {
    Failure::new("mount_point", format!("refusing to remove {}", crate::failure::quote(path)))
        .cause("another file system is mounted there")
        .remedy("unmount it first")
        .path(path)
        .name_mount(path)
}

/// An open directory that is removed after the last of its subdirectories. The walk is depth-first,
/// so only the directories on the way down are open.
struct Node {
    parent: Option<Arc<Node>>,
    dir: Dir,
    name: OsString,
    /// Its level; that of the removed directory is 1.
    depth: usize,
    /// The number of remaining subdirectories, plus one while it is being read.
    pending: AtomicUsize,
}

struct Queue {
    jobs: Vec<(Arc<Node>, OsString)>,
    busy: usize,
}

struct Work {
    device: u64,
    /// Directories below this many levels are first moved to the top.
    deepest: usize,
    queue: Mutex<Queue>,
    wake: Condvar,
    files: AtomicU64,
    directories: AtomicU64,
    failure: Mutex<Option<Failure>>,
}

impl Work {
    fn run(&self) {
        while let Some((parent, name)) = self.next() {
            if let Err(failure) = interrupt::check().and_then(|()| self.empty(&parent, name)) {
                self.fail(failure);
            }
            if let Ok(mut queue) = self.queue.lock() {
                queue.busy -= 1;
                self.wake.notify_all();
            }
        }
    }

    fn next(&self) -> Option<(Arc<Node>, OsString)> {
        let mut queue = self.queue.lock().ok()?;
        loop {
            if let Some(job) = queue.jobs.pop() {
                queue.busy += 1;
                return Some(job);
            }
            if queue.busy == 0 {
                return None;
            }
            queue = self.wake.wait(queue).ok()?;
        }
    }

    fn fail(&self, failure: Failure) {
        if let Ok(mut first) = self.failure.lock() {
            first.get_or_insert(failure);
        }
    }

    /// Removes the files of a directory and queues its subdirectories.
    fn empty(&self, parent: &Arc<Node>, name: OsString) -> Result<(), Failure> {
        let Some(dir) = open_for_removal(&parent.dir, &name)? else {
            // Another process is removing it, too, and was faster.
            self.done(parent);
            return Ok(());
        };
        if dir.info()?.device() != self.device {
            return Err(mount_point(dir.path()));
        }
        let mut subdirectories = Vec::new();
        for entry in fs::Dir::read_from(dir.as_fd())
            .map_err(|e| Failure::io("read the directory", dir.path(), e))?
        {
            let entry = entry.map_err(|e| Failure::io("read the directory", dir.path(), e))?;
            let child = entry.file_name();
            if child == c"." || child == c".." {
                continue;
            }
            let is_dir = match entry.file_type() {
                FileType::Unknown => None,
                kind => Some(kind == FileType::Directory),
            };
            if is_dir != Some(true) {
                match unlink(&dir, child) {
                    Ok(()) => {
                        self.files.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    Err(Errno::ISDIR | Errno::PERM) if is_dir.is_none() => {}
                    Err(Errno::NOENT) => continue,
                    Err(error) => {
                        let path = dir.at(child.to_string_lossy().as_ref());
                        self.fail(Failure::io("remove", &path, error));
                        continue;
                    }
                }
            }
            use std::os::unix::ffi::OsStringExt;
            subdirectories.push(OsString::from_vec(child.to_bytes().to_vec()));
        }
        let node = Arc::new(Node {
            parent: Some(Arc::clone(parent)),
            dir,
            name,
            depth: parent.depth + 1,
            pending: AtomicUsize::new(1),
        });
        if node.depth >= self.deepest {
            subdirectories.retain(|name| !self.moved_up(&node, name));
        }
        node.pending.fetch_add(subdirectories.len(), Ordering::AcqRel);
        if !subdirectories.is_empty() {
            let mut queue = self
                .queue
                .lock()
                .map_err(|_| Failure::new("panic", "a thread stopped unexpectedly"))?;
            queue.jobs.extend(subdirectories.into_iter().map(|name| (Arc::clone(&node), name)));
            self.wake.notify_all();
        }
        self.done(&node);
        Ok(())
    }

    /// Moves a directory to the top of the removed tree, so that few directories are open at a
    /// time, however deep it is. `false`: it has to be removed where it is.
    fn moved_up(&self, node: &Arc<Node>, name: &OsString) -> bool {
        let mut top = node;
        while let Some(parent) = top.parent.as_ref().filter(|parent| parent.parent.is_some()) {
            top = parent;
        }
        let free = top.dir.temporary(name);
        if node.dir.rename_to(name, &top.dir, &free).is_err() {
            return false;
        }
        let Ok(mut queue) = self.queue.lock() else { return false };
        top.pending.fetch_add(1, Ordering::AcqRel);
        // At the front, so that its old parents are closed first.
        queue.jobs.insert(0, (Arc::clone(top), free));
        true
    }

    /// One entry of `node` was removed. If it was the last, removes the directory, and so on upwards.
    fn done(&self, node: &Arc<Node>) {
        let mut node = node;
        while node.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
            let Some(parent) = &node.parent else { return };
            match fs::unlinkat(&parent.dir, &node.name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {
                    self.directories.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => self.fail(Failure::io("remove", node.dir.path(), error)),
            }
            node = parent;
        }
    }
}

/// Opens a directory to empty it. If its owner lacks the permission (`chmod 500`), adds it.
#[expect(clippy::disallowed_methods, reason = "of what is held, by its number")]
fn open_for_removal(parent: &Dir, name: &OsString) -> Result<Option<Dir>, Failure> {
    let dir = match parent.open_dir_same_mount(name) {
        Ok(Some(dir)) => dir,
        Ok(None) => return Err(mount_point(&parent.at(name))),
        Err(_) if parent.lookup(name)?.is_none() => return Ok(None),
        Err(failure) => {
            // An `O_PATH` handle needs no permission, and makes sure that exactly this directory is
            // changed, not one that has replaced it.
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let handle =
                fs::openat(parent, name, flags, Mode::empty()).map_err(|_| failure.clone())?;
            let by_handle = format!("/proc/self/fd/{}", handle.as_raw_fd());
            fs::chmod(by_handle, Mode::from_raw_mode(0o700)).map_err(|_| failure)?;
            parent.open_dir(name)?
        }
    };
    let info = dir.info()?;
    if info.mode() & 0o300 != 0o300 && info.uid() == crate::users::current() {
        dir.set_mode(0o700)?;
    }
    Ok(Some(dir))
}

fn unlink(dir: &Dir, name: &std::ffi::CStr) -> Result<(), Errno> {
    fs::unlinkat(dir, name, AtFlags::empty())
}

/// Sets a low priority for processor and disk.
pub fn be_nice() {
    let _ = rustix::process::nice(19);
    // The kernel's ioprio_set has no safe wrapper; a nice value of 19 alone gives the
    // best-effort class its lowest level.
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_tree_goes_and_what_its_links_point_at_stays() {
        let scratch = tempfile::tempdir().unwrap();
        let top = scratch.path();
        std::fs::create_dir_all(top.join("outside")).unwrap();
        std::fs::write(top.join("outside/file"), "keep").unwrap();
        for d in 0..20 {
            let dir = top.join(format!("tree/a{d}/b/c"));
            std::fs::create_dir_all(&dir).unwrap();
            for f in 0..20 {
                std::fs::write(dir.join(f.to_string()), "x").unwrap();
            }
        }
        symlink("../outside", top.join("tree/link")).unwrap();
        symlink("nowhere", top.join("tree/dangling")).unwrap();
        let removed = remove_tree(&Dir::open(top).unwrap(), "tree").unwrap();
        assert_eq!(removed, Removed { files: 402, directories: 61 });
        assert!(!top.join("tree").exists());
        assert_eq!(std::fs::read(top.join("outside/file")).unwrap(), b"keep");
        // Nor is what is to be removed, if it is a link itself.
        symlink("outside", top.join("link")).unwrap();
        let removed = remove_tree(&Dir::open(top).unwrap(), "link").unwrap();
        assert_eq!(removed, Removed { files: 1, directories: 0 });
        assert_eq!(std::fs::read(top.join("outside/file")).unwrap(), b"keep");
    }

    #[test]
    fn a_missing_tree_is_no_error_and_a_file_goes() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = Dir::open(scratch.path()).unwrap();
        assert_eq!(remove_tree(&dir, "nothing").unwrap(), Removed::default());
        std::fs::write(scratch.path().join("file"), "").unwrap();
        assert_eq!(remove_tree(&dir, "file").unwrap().files, 1);
    }

    #[test]
    fn two_at_the_same_tree_both_succeed() {
        for _ in 0..20 {
            let scratch = tempfile::tempdir().unwrap();
            for d in 0..60 {
                std::fs::create_dir_all(scratch.path().join(format!("tree/{d}/a/b"))).unwrap();
            }
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        remove_tree(&Dir::open(scratch.path()).unwrap(), "tree").unwrap();
                    });
                }
            });
            assert!(!scratch.path().join("tree").exists());
        }
    }

    #[test]
    fn a_tree_may_be_deeper_than_files_may_be_open() {
        let scratch = tempfile::tempdir().unwrap();
        let mut dir = Dir::open(scratch.path()).unwrap();
        for level in 0..3 * LEVELS {
            // Each with a second branch, a file, and a name too long to be made longer.
            let name = "d".repeat(1 + level % 255);
            let below = dir.make_dir(&name, 0o755).unwrap();
            below.make_dir("branch", 0o755).unwrap().write("file", b"", 0o644).unwrap();
            dir = below;
        }
        drop(dir);
        let removed = remove_tree(&Dir::open(scratch.path()).unwrap(), "d").unwrap();
        assert_eq!((removed.directories, removed.files), (6 * LEVELS as u64, 3 * LEVELS as u64));
        assert!(!scratch.path().join("d").exists());
    }

    #[test]
    fn directories_without_permissions_go_too() {
        let scratch = tempfile::tempdir().unwrap();
        let locked = scratch.path().join("tree/locked");
        std::fs::create_dir_all(&locked).unwrap();
        std::fs::write(locked.join("file"), "").unwrap();
        std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o000)).unwrap();
        remove_tree(&Dir::open(scratch.path()).unwrap(), "tree").unwrap();
        assert!(!scratch.path().join("tree").exists());
    }
}
