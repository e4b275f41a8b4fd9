//! Starts this program again, for work that outlives the module.

use std::ffi::OsStr;
use std::io;
use std::process::Stdio;

use super::new;
use crate::program;

/// Starts this program as the same module with other arguments, in `/`, without a terminal and
/// without standard error. It ends when it has done its work; no process waits for it.
///
/// # Errors
/// When it cannot start.
pub fn start_detached(
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    stdin: Stdio,
    stdout: Stdio,
) -> io::Result<()> {
    // /proc/self/exe works although Ansible may have deleted the module's file.
    let mut command = new("/proc/self/exe");
    command
        .args(program::name())
        .args(arguments)
        .current_dir("/")
        .stdin(stdin)
        .stdout(stdout)
        .stderr(Stdio::null());
    command.spawn().map(drop)
}
