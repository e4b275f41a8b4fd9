//! What the tests of the modules share: a scratch deploy root, and running a module's
//! program as Ansible does. A failing test prints the deploy tree.

mod archive;
mod binary;
mod declared;
mod manifest;
mod reply;
mod root;
mod shop;

pub use archive::{Entry, dir, file, gzip, hard_link, symlink, tar, tar_gz};
pub use binary::binary;
pub use manifest::Manifest;
pub use reply::Reply;
pub use root::{Root, Running, app, run_program};
pub use rustix::process::Signal;
pub use serde_json::{Value, json};
pub use shop::{Shop, exception, fails};
pub use tar::EntryType;

/// A user who is neither root nor the owner of anything: `nobody`.
pub const NOBODY: u32 = 65534;

/// Whether the tests run as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Waits until a process that was killed has ended; whoever inherited it may bury it later.
///
/// # Panics
/// When it goes on for 30 s.
pub fn await_end(pid: &str) {
    let state =
        || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    let started = std::time::Instant::now();
    while !state().is_empty() && !state().contains(") Z ") {
        assert!(started.elapsed().as_secs() < 30, "it runs: {}", state());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// Says loudly what was not checked.
pub fn not_checked(what: &str) {
    not_checked_without("root", what);
}

fn not_checked_without(need: &str, what: &str) {
    // Past the capture of the test runner.
    let text = format!("\n*** NOT CHECKED, this needs {need}: {what}\n");
    let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
}

/// Whether modules keep spares in scratch directories: not on a disk that is nearly full (`docs/spare.md`). Then it says
/// loudly what was not checked. The rule is written here once more: asked of the modules, one that never keeps a spare would
/// leave its tests out.
///
/// # Panics
/// Without a directory for temporary files.
pub fn spares_are_kept(what: &str) -> bool {
    let disk = rustix::fs::statvfs(std::env::temp_dir()).expect("the scratch directory's disk");
    let enough = |free: u64, all: u64, most: u64| free >= most.min(all / 4);
    let is_roomy = enough(disk.f_bavail, disk.f_blocks, (20 << 30) / disk.f_frsize.max(1))
        && enough(disk.f_favail, disk.f_files, 2_000_000);
    if !is_roomy {
        not_checked_without("a disk with 20 GB or a quarter free (TMPDIR)", what);
    }
    is_roomy
}

/// A mounted file system, until it is dropped; known by the name of its source, because
/// the directory above it may be renamed.
#[derive(Debug)]
pub struct Mount(String);

/// Mounts an empty tmpfs of this size; `None` where that is not allowed.
pub fn tmpfs(at: &std::path::Path, size: &str) -> Option<Mount> {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let source = format!("oxistrano-test-{}-{count}", std::process::id());
    let options = format!("size={size},mode=0755");
    let mut mount = std::process::Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", &options, &source]).arg(at);
    let mounted = mount.output().is_ok_and(|output| output.status.success());
    mounted.then_some(Mount(source))
}

/// Puts an empty layer over a directory, whose own files become the lower one of an overlayfs, as in
/// a container what came with its image; `beside` is for what is written. `None` where that is not
/// allowed.
pub fn overlay(at: &std::path::Path, beside: &std::path::Path) -> Option<Mount> {
    let source = format!("oxistrano-overlay-{}-{}", std::process::id(), beside.display());
    let (upper, work) = (beside.join("upper"), beside.join("work"));
    std::fs::create_dir_all(&upper).and_then(|()| std::fs::create_dir_all(&work)).ok()?;
    let options = format!(
        "lowerdir={},upperdir={},workdir={},redirect_dir=off",
        at.display(),
        upper.display(),
        work.display()
    );
    let mut mount = std::process::Command::new("mount");
    mount.args(["-t", "overlay", "-o", &options, &source]).arg(at);
    let mounted = mount.output().is_ok_and(|output| output.status.success());
    mounted.then_some(Mount(source))
}

impl Drop for Mount {
    fn drop(&mut self) {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let found = mounts.lines().find_map(|line| {
            let mut fields = line.split(' ');
            (fields.next() == Some(&self.0)).then(|| fields.next()).flatten()
        });
        // Lazily: a process that removes old releases may still have it open.
        let unmounted = std::process::Command::new("umount").arg("-l").args(found).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("cannot unmount {} at {found:?}", self.0);
        }
    }
}
