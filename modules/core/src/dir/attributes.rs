//! Extended attributes.

use std::os::fd::AsFd;

use rustix::fs::flistxattr;
use rustix::io::Errno;

/// SELinux's label, which every file has if SELinux is enabled.
const LABEL: &[u8] = b"security.selinux";
/// A longer list has other attributes in any case.
const LONGEST: usize = 256;

/// Whether an open file has extended attributes: an access list, capabilities or user attributes.
/// True if that is not known. SELinux's label does not count.
pub fn has_attributes(file: impl AsFd) -> bool {
    let mut names = [0; LONGEST];
    match flistxattr(file, &mut names[..]) {
        Ok(0) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => false,
        Ok(length) => {
            let names = names.get(..length).unwrap_or_default();
            names.split(|byte| *byte == 0).any(|name| !name.is_empty() && name != LABEL)
        }
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_is_seen() {
        let file = tempfile::tempfile_in("/dev/shm").unwrap();
        assert!(!has_attributes(&file));
        let flags = rustix::fs::XattrFlags::empty();
        match rustix::fs::fsetxattr(&file, "user.note", b"x", flags) {
            Ok(()) => assert!(has_attributes(&file)),
            Err(error) => eprintln!("NOT CHECKED: attributes cannot be set here: {error}"),
        }
    }
}
