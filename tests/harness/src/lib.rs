//! What the tests of the modules share: a scratch deploy root, and running a module's
//! program as Ansible does. A failing test prints the deploy tree.

mod archive;
mod binary;
mod manifest;
mod reply;
mod root;

pub use archive::{dir, file, gzip, hard_link, symlink, tar, tar_gz, Entry};
pub use binary::{binary, MODULES};
pub use manifest::Manifest;
pub use reply::Reply;
pub use root::{app, run_program, Root, Running};
pub use serde_json::{json, Value};
pub use tar::EntryType;

/// A user who is neither root nor the owner of anything: `nobody`.
pub const NOBODY: u32 = 65534;

/// Whether the tests run as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says loudly what was not checked.
pub fn not_checked(what: &str) {
    // Past the capture of the test runner.
    let text = format!("\n*** NOT CHECKED, this needs root: {what}\n");
    let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
}

/// A mounted file system, until it is dropped.
#[derive(Debug)]
pub struct Mount(std::path::PathBuf);

/// Mounts an empty tmpfs of this size; `None` where that is not allowed.
pub fn tmpfs(at: &std::path::Path, size: &str) -> Option<Mount> {
    let options = format!("size={size},mode=0755");
    let mut mount = std::process::Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at);
    let mounted = mount.output().is_ok_and(|output| output.status.success());
    mounted.then(|| Mount(at.to_owned()))
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a process that removes old releases may still have it open.
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).output();
    }
}
