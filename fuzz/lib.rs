//! What the targets share: an archive in memory, read once for check mode and once for good,
//! into a directory that is looked at afterwards.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use oxistrano_archive::{list, unpack, Limits, UnpackOptions};
use oxistrano_core::Dir;
use rustix::fs::{memfd_create, MemfdFlags};

/// Small, so that a bomb is noticed and costs no time.
const LIMITS: Limits = Limits { max_entries: 200, max_bytes: 1 << 20, max_ratio: 1000, window: 8 << 20 };

/// What lies beside the directory that is unpacked into.
const VICTIM: &str = "nothing may touch this";

/// Reads `archive` as the module does.
///
/// # Panics
/// When something was written outside, or check mode says yes to what cannot be unpacked.
pub fn attack(archive: &[u8]) {
    let options = UnpackOptions { checksum: true, limits: LIMITS, ..UnpackOptions::default() };
    let mut file = File::from(memfd_create("archive", MemfdFlags::CLOEXEC).expect("memory"));
    file.write_all(archive).expect("memory");
    let path = Path::new("archive");
    let listed = list(&file, path, &options);
    let scratch = Scratch::new();
    let into = Dir::open(&scratch.out()).expect("the scratch directory");
    let unpacked = unpack(&file, path, &into, &options);
    drop(into);
    match (&listed, &unpacked) {
        (Ok(listed), Ok(unpacked)) => assert_eq!(listed, unpacked),
        (Ok(_), Err(failure)) => {
            // Only writing shows that a name is too long for this file system.
            assert_eq!(failure.code(), "io", "check mode said that it can be unpacked: {failure}");
        }
        (Err(_), Ok(_)) => panic!("check mode refused what was unpacked: {listed:?}"),
        (Err(_), Err(_)) => {}
    }
    scratch.look();
}

/// `victim` and an empty `out`, in memory, removed when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let path = PathBuf::from(format!("/dev/shm/oxistrano-fuzz-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("out")).expect("/dev/shm");
        fs::write(path.join("victim"), VICTIM).expect("/dev/shm");
        Self(path)
    }

    fn out(&self) -> PathBuf {
        self.0.join("out")
    }

    fn look(&self) {
        let beside = fs::read_dir(&self.0).expect("the scratch directory").count();
        assert_eq!(beside, 2, "something was made outside");
        let victim = fs::read(self.0.join("victim")).expect("the victim");
        assert_eq!(victim, VICTIM.as_bytes(), "something was written outside");
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Puts right the checksums of what could be tar headers: by chance none ever is.
pub fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for header in bytes.chunks_exact_mut(512).filter(|header| header.starts_with_name()) {
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    }
    bytes
}

trait Block {
    fn starts_with_name(&self) -> bool;
}

impl Block for [u8] {
    /// Contents would be changed, too, if they look like a header; that does no harm here.
    fn starts_with_name(&self) -> bool {
        self[257..262] == *b"ustar" || (self[0] != 0 && self[148] != 0)
    }
}
