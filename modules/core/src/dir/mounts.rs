//! Names mounts in messages: a file system that a user has mounted (FUSE) refuses root with
//! "Permission denied", and a mount point cannot be renamed.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::Failure;
use crate::failure::quote;

/// The limit for the list of mounts.
const MOST: u64 = 16 << 20;

#[expect(clippy::disallowed_methods, reason = "a file of the kernel, read up to a bound")]
fn all() -> Option<Vec<u8>> {
    let mut list = Vec::new();
    File::open("/proc/self/mountinfo").ok()?.take(MOST).read_to_end(&mut list).ok()?;
    Some(list)
}

/// The path without links, except its last name: the mount point itself may not be accessible, the
/// directories above it are.
fn real(path: &Path) -> Option<PathBuf> {
    Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?))
}

/// Whether nothing is mounted at a path or below it; false if that is not known.
pub fn is_free_of_mounts(path: &Path) -> bool {
    let (Some(real), Some(list)) = (real(path), all()) else { return false };
    let mut places = list
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4).map(unescaped));
    !places.any(|place| place.starts_with(&real))
}

/// What is mounted at a path, in words.
pub fn mounted_at(path: &Path) -> Option<String> {
    let (real, list) = (real(path)?, all()?);
    // The last mount at a path hides the earlier ones.
    list.split(|byte| *byte == b'\n').rev().find_map(|line| named(line, &real))
}

/// The mount of a line of `mountinfo`, if it is at this path: `36 35 98:0 / /mnt rw shared:1 - ext3
/// /dev/root rw,user_id=33`.
fn named(line: &[u8], path: &Path) -> Option<String> {
    let mut fields = line.split(|byte| *byte == b' ');
    if unescaped(fields.nth(4)?) != path {
        return None;
    }
    let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
    let kind = String::from_utf8_lossy(rest.next()?).escape_debug().to_string();
    let options = String::from_utf8_lossy(rest.nth(1)?).into_owned();
    let user = options.split(',').find_map(|option| option.strip_prefix("user_id="));
    Some(match user.and_then(|user| user.parse::<u32>().ok()) {
        Some(user) => format!("user id {user} has mounted a file system there ({kind})"),
        None => format!("a file system is mounted there ({kind})"),
    })
}

/// Decodes the kernel's escapes, for example `\\040` for a blank.
fn unescaped(text: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let digits = (*first == b'\\').then(|| after.get(..3)).flatten();
        let octal = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|octal| u8::from_str_radix(octal, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

impl Failure {
    /// If something is mounted at the failure's path, adds that as the cause.
    #[must_use]
    pub fn name_mount(self, path: &Path) -> Self {
        match mounted_at(path) {
            Some(mount) if !path.as_os_str().as_bytes().is_empty() => {
                self.also(&mount).remedy(format!("unmount it: umount -l {}", quote(path)))
            }
            _ => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_by_their_place_and_told_by_kind_and_user() {
        let line = br"36 35 0:52 / /srv/a\040b rw,nosuid shared:1 - fuse.sshfs web@x:/ rw,user_id=33,group_id=33";
        let told = named(line, Path::new("/srv/a b")).unwrap();
        assert_eq!(told, "user id 33 has mounted a file system there (fuse.sshfs)");
        assert_eq!(named(line, Path::new("/srv/a")), None);
        let line = b"22 1 0:21 / /proc rw - proc proc rw";
        assert_eq!(
            named(line, Path::new("/proc")).unwrap(),
            "a file system is mounted there (proc)"
        );
        for broken in [&b""[..], b"1 2 3", b"36 35 0:52 / /proc rw -", br"1 2 3 4 /proc\9 - a b"] {
            assert_eq!(named(broken, Path::new("/proc")), None);
        }
        assert!(mounted_at(Path::new("/proc")).is_some());
        assert!(mounted_at(Path::new("/proc/self")).is_none());
        assert!(!is_free_of_mounts(Path::new("/proc")));
        assert!(is_free_of_mounts(Path::new("/proc/self/fd")));
        assert!(!is_free_of_mounts(Path::new("/no/such/place")));
    }
}
