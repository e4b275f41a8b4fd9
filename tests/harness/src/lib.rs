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
