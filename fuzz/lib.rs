//! What each target does with its input. `tests/hostile` does the same with the seeds, without a
//! sanitizer, in every run of the tests.
//!
//! An archive in memory is read once for check mode and once for good, into a directory that is
//! looked at afterwards.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use oxistrano_archive::{
    Index, Indexed, Limits, Manifest, Message, Numbers, Plan, UnpackOptions, list, unpack,
};
use oxistrano_core::command::Output;
use oxistrano_core::json::Value;
use oxistrano_core::{Dir, Program};
use oxistrano_fastcgi::{Decoder, Response};
use oxistrano_magento::Answer;
use rustix::fs::{MemfdFlags, memfd_create};

/// Small, so that a bomb is noticed and costs no time.
const LIMITS: Limits =
    Limits { max_entries: 200, max_bytes: 1 << 20, max_ratio: 1000, window: 8 << 20 };

/// What lies beside the directory that is unpacked into.
const VICTIM: &str = "nothing may touch this";

/// A plain tar, its headers' checksums put right.
pub fn tar(bytes: &[u8]) {
    attack(&with_checksums(bytes));
}

/// Whatever it is by its first bytes; the seeds are gzip, zstd, xz and bzip2.
pub fn compressed(bytes: &[u8]) {
    attack(bytes);
}

/// A zip: anything that begins as one.
pub fn zip(bytes: &[u8]) {
    if bytes.starts_with(b"PK") {
        attack(bytes);
    }
}

/// The arguments of modules: any bytes are options or a failure that says what is wrong, and
/// what is `no_log` is not in it.
///
/// # Panics
/// When it is otherwise.
pub fn arguments(text: &[u8]) {
    oxistrano::MODULES.iter().for_each(|module| read(module, text));
}

/// No name of an option, no word of a message and no default has it.
const SECRET: &str = "\u{2603}s3cr3t";

fn read(module: &Program, text: &[u8]) {
    if let Err(result) = module.check(text) {
        let result = Value::Object(result);
        assert!(result["msg"].is_string(), "{result}");
    }
    let given = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    let Some(Value::Object(given)) = given else { return };
    for spec in module.options.iter().filter(|spec| spec.no_log) {
        let mut given = given.clone();
        given.insert(spec.name.to_owned(), SECRET.into());
        if let Err(result) = module.check(Value::Object(given).to_string().as_bytes()) {
            let result = Value::Object(result).to_string();
            assert!(!result.contains(SECRET), "{} of {}: {result}", spec.name, module.name);
        }
    }
}

/// Bytes of a pool's answer that are accepted.
const LIMIT: usize = 4096;
const STDERR: usize = 64 << 10;

/// What listens at a pool's address answers anything, in pieces of any length.
///
/// # Panics
/// When the pieces make a difference, or too much is kept.
pub fn fastcgi(piece: u8, bytes: &[u8]) {
    let mut whole = Decoder::new(LIMIT);
    let wholly = whole.push(bytes);
    let mut pieces = Decoder::new(LIMIT);
    let piecemeal =
        bytes.chunks(usize::from(piece).max(1)).try_for_each(|piece| pieces.push(piece));
    assert_eq!(wholly, piecemeal);
    if wholly.is_ok() {
        assert_eq!(whole.end(), pieces.end());
        let (stdout, stderr) = whole.into_streams();
        assert!(stdout.len() <= LIMIT && stderr.len() <= STDERR);
        assert_eq!(stdout, pieces.into_streams().0);
        if let Ok(response) = Response::new(stdout.clone(), &stderr) {
            assert!((100..1000).contains(&response.status) && stdout.ends_with(&response.body));
        }
    }
}

/// What a command of Magento printed: a reason in one line, and a result of bounded size.
///
/// # Panics
/// When it is otherwise.
pub fn magento(code: u8, on_stderr: bool, bytes: &[u8]) {
    let (stdout, stderr) = if on_stderr { (&b""[..], bytes) } else { (bytes, &b""[..]) };
    let answer = Answer::new(Output {
        stdout: stdout.to_vec(),
        stderr: stderr.to_vec(),
        status: ExitStatus::from_raw(i32::from(code) << 8),
        elapsed: Duration::ZERO,
        complete: true,
    });
    let reason = answer.reason();
    assert!(reason.chars().count() <= 401, "{reason}");
    assert!(!reason.contains(['\n', '\r', '\u{1b}']), "{reason:?}");
    assert!(!answer.stdout.contains('\u{1b}') && !answer.stderr.contains('\u{1b}'));
    assert!(answer.to_json().to_string().len() < 2 << 20);
}

/// What tells what is in an archive, and what a host has of it: a manifest as CI may have left it, the first entry
/// of a bundle, or an index. They are told apart by how they begin.
///
/// # Panics
/// When a manifest that was read is written in another way.
pub fn manifest(bytes: &[u8]) {
    let options = UnpackOptions { limits: LIMITS, ..UnpackOptions::default() };
    let plan = |manifest: &Manifest, spare: Option<Indexed>| {
        // It may make no sense further on.
        let _ = Plan::make(manifest, &Numbers::default(), &options, spare, &mut std::iter::empty());
    };
    let index = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        let _ = Index::has(&bytes);
        Index::parse(bytes)
    };
    if let Ok(read) = Manifest::parse(bytes.to_vec()) {
        assert_eq!(read.encode(), bytes);
        assert_eq!(read.cut().files(), read.files());
        plan(&read, None);
    }
    if let Some(there) = index(bytes) {
        let scratch = Scratch::new();
        let top = Dir::open(&scratch.out()).expect("the scratch directory");
        let read = there.manifest().clone();
        plan(&read, Some(Indexed { top, index: there }));
        scratch.look();
    }
    let mut file = File::from(memfd_create("bundle", MemfdFlags::CLOEXEC).expect("memory"));
    file.write_all(&with_checksums(bytes)).expect("memory");
    if let Ok(message) = Message::read(&file, Path::new("bundle"), &LIMITS) {
        let base = Manifest::parse(include_bytes!("seeds/manifest/manifest").to_vec());
        if let Ok(read) = message.manifest(|_| base.ok()) {
            plan(&read, None);
        }
    }
}

/// Reads `archive` as the module does.
fn attack(archive: &[u8]) {
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
fn with_checksums(bytes: &[u8]) -> Vec<u8> {
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
