//! Extended attributes, POSIX ACLs among them.

use std::ffi::{CStr, CString};
use std::os::fd::AsFd;
use std::path::Path;

use oxistrano_core::Failure;
use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fremovexattr, fsetxattr};
use rustix::io::Errno;

const ACCESS: &CStr = c"system.posix_acl_access";
const DEFAULT: &CStr = c"system.posix_acl_default";

/// The maximum size of an attribute and of a list of them (`XATTR_SIZE_MAX`).
const LONGEST: usize = 65536;

/// The attributes of one file. Without `security.*`: labels and capabilities are set by the target's system.
#[derive(Debug, Default)]
pub struct Attributes(Vec<(CString, Vec<u8>)>);

impl Attributes {
    /// Reads them; none if the file system does not support or allow it.
    pub fn read(fd: impl AsFd) -> Self {
        let Some(list) = sized(|buffer| flistxattr(&fd, buffer)) else {
            return Self::default();
        };
        let names = list.split_inclusive(|byte| *byte == 0).filter_map(|name| {
            let name = CStr::from_bytes_with_nul(name).ok()?;
            (!name.to_bytes().starts_with(b"security.")).then_some(name)
        });
        let pairs = names.filter_map(|name| {
            let value = sized(|buffer| fgetxattr(&fd, name, buffer))?;
            Some((name.to_owned(), value))
        });
        Self(pairs.collect())
    }

    /// Sets them, as far as the file system and our permissions allow.
    ///
    /// `strip_acls`: removes an ACL that the file has inherited from its directory and that the source does not have.
    pub fn write(&self, fd: impl AsFd, strip_acls: bool, path: &Path) -> Result<(), Failure> {
        for acl in [ACCESS, DEFAULT] {
            if strip_acls && !self.0.iter().any(|(name, _)| name.as_c_str() == acl) {
                let _ = fremovexattr(&fd, acl);
            }
        }
        for (name, value) in &self.0 {
            // The target's file system may not support an attribute, and some need root.
            let set = fsetxattr(&fd, name.as_c_str(), value, XattrFlags::empty());
            if let Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::IO | Errno::ROFS)) = set {
                return Err(Failure::io("set an attribute of", path, error));
            }
        }
        Ok(())
    }
}

/// Whether new files in this directory inherit an ACL.
pub fn passes_acl_on(fd: impl AsFd) -> bool {
    sized(|buffer| fgetxattr(&fd, DEFAULT, buffer)).is_some_and(|acl| !acl.is_empty())
}

/// Reads into a small buffer, and into one of the largest size when that is too small.
fn sized(read: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> Option<Vec<u8>> {
    let mut small = [0; 512];
    match read(&mut small) {
        Ok(length) => return Some(small[..length].to_vec()),
        Err(Errno::RANGE) => {}
        Err(_) => return None,
    }
    let mut large = vec![0; LONGEST];
    let length = read(&mut large).ok()?;
    large.truncate(length);
    Some(large)
}
