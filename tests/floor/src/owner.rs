//! Owns the identity of a thread: whoever makes something owns it.

use rustix::io::Result;
use rustix::process::{Gid, Uid};
use rustix::thread;

/// From now on this thread, and no other, makes things for somebody else, with all that root
/// may do; without that it could not write where the other one may not.
pub fn make_for((uid, gid): (u32, u32)) -> Result<()> {
    let capabilities = thread::capabilities(None)?;
    thread::set_thread_res_gid(None, Gid::from_raw(gid), None)?;
    thread::set_thread_res_uid(None, Uid::from_raw(uid), None)?;
    thread::set_capabilities(None, capabilities)
}
