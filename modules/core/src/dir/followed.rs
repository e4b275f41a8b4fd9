//! Opens a file by its path and follows links: for paths that the administrator has set, or where
//! another program follows the same links anyway.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::fs::{self, FileType, Mode, OFlags};

use super::noun;

/// Opens a regular file for reading. Its type is checked before it is opened, so that a FIFO does
/// not block and no device is opened; a lease of another process is an error at once.
///
/// # Errors
/// When it is something else, or cannot be opened.
#[expect(
    clippy::disallowed_methods,
    reason = "held first, and the very file that was examined is opened"
)]
pub fn open_followed(path: &Path) -> io::Result<File> {
    let handle = fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let kind = FileType::from_raw_mode(fs::fstat(&handle)?.st_mode);
    if kind != FileType::RegularFile {
        return Err(io::Error::other(format!("it is {}, not a regular file", noun(kind))));
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let by_number = format!("/proc/self/fd/{}", handle.as_raw_fd());
    Ok(File::from(fs::open(by_number, flags, Mode::empty())?))
}

/// Reads at most the first `most` bytes of such a file.
///
/// # Errors
/// As [`open_followed`].
pub fn read_followed(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_followed(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_to_regular_files_and_nothing_is_waited_for() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        std::fs::write(at("file"), "contents").unwrap();
        symlink("file", at("link")).unwrap();
        assert_eq!(read_followed(&at("link"), 4).unwrap(), b"cont");
        symlink("/dev/zero", at("zero")).unwrap();
        fs::mknodat(fs::CWD, at("fifo"), FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
        for (name, what) in [("zero", "a device"), ("fifo", "a FIFO"), (".", "a directory")] {
            let error = read_followed(&at(name), 4).unwrap_err().to_string();
            assert_eq!(error, format!("it is {what}, not a regular file"));
        }
    }
}
