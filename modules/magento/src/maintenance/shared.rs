//! Whether another host looks for the flag in the same directory.

use oxistrano_core::{Dir, Failure, IoContext};
use rustix::fs::{AtFlags, StatxFlags, fstatfs, statx};

use super::Places;

/// `f_type` of file systems that only this machine can write to: ext4, XFS, Btrfs, ZFS, bcachefs, F2FS, tmpfs, overlayfs.
const LOCAL: [u64; 8] = [
    0xEF53,
    0x5846_5342,
    0x9123_683E,
    0x2FC1_2FC1,
    0xCA45_1A4E,
    0xF2F5_2010,
    0x0102_1994,
    0x794C_7630,
];

impl Places {
    /// Whether all places are on file systems of this machine. If they are not, another machine may see
    /// a flag as soon as this one raises it. If this machine exports them, the other one is not local.
    ///
    /// # Errors
    /// An I/O error.
    pub fn is_local(&self) -> Result<bool, Failure> {
        let mut is_local = true;
        for dir in self.directories() {
            let kind = fstatfs(dir).or_fail("examine", dir.path())?.f_type;
            is_local &= LOCAL.contains(&(kind as u64 & 0xFFFF_FFFF));
        }
        Ok(is_local)
    }

    /// The identity of each place, `device:inode:time of creation`. Hosts that share a local directory,
    /// as containers of one machine may, return the same for it.
    ///
    /// # Errors
    /// An I/O error.
    pub fn identities(&self) -> Result<Vec<String>, Failure> {
        self.directories().map(identity).collect()
    }

    fn directories(&self) -> impl Iterator<Item = &Dir> {
        self.places.iter().map(|place| &place.var).chain(&self.bare)
    }
}

/// Two machines have the same one only if they were cloned together with the directory. The boot id would
/// tell these apart, but systemd-nspawn and LXC give each container another one.
fn identity(dir: &Dir) -> Result<String, Failure> {
    let info = dir.info()?;
    // Not every file system knows the time, and some sandboxes refuse the call.
    let born = statx(dir, "", AtFlags::EMPTY_PATH, StatxFlags::BTIME)
        .ok()
        .filter(|found| found.stx_mask & StatxFlags::BTIME.bits() != 0)
        .map(|found| format!("{}.{:09}", found.stx_btime.tv_sec, found.stx_btime.tv_nsec))
        .unwrap_or_default();
    Ok(format!("{}:{}:{born}", info.device(), info.inode()))
}
