//! Makes archives byte by byte, unpacks them into scratch directories, and tells what is
//! there afterwards.

#![allow(dead_code)]

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use oxistrano_archive::{Summary, UnpackOptions, list, list_contents, unpack};
use oxistrano_core::{Dir, Failure};
use oxistrano_tree::compare;

/// A directory with an archive and an empty `out`.
pub struct Scratch {
    dir: tempfile::TempDir,
}

impl Scratch {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("out")).unwrap();
        fs::write(dir.path().join("outside"), "safe").unwrap();
        Self { dir }
    }

    pub fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    pub fn archive(&self) -> PathBuf {
        // The name must not matter.
        self.dir.path().join("archive.bin")
    }

    /// Unpacks, after making sure that check mode says the same.
    pub fn unpack(&self, archive: &[u8], options: &UnpackOptions) -> Result<Summary, Failure> {
        fs::write(self.archive(), archive).unwrap();
        let file = File::open(self.archive()).unwrap();
        let listed = list(&file, &self.archive(), options);
        assert_eq!(fs::read_dir(self.out()).unwrap().count(), 0, "check mode wrote something");
        let result = unpack(&file, &self.archive(), &Dir::open(&self.out()).unwrap(), options);
        match (&listed, &result) {
            (Ok(listed), Ok(unpacked)) => {
                assert_eq!(listed, unpacked);
                let (_, files) = list_contents(&file, &self.archive(), options).unwrap();
                let count = files.count();
                let found = compare(&Dir::open(&self.out()).unwrap(), files, &[]).unwrap();
                let same = format!("0 added, 0 changed, 0 removed, {count} unchanged");
                assert_eq!(found.summary(), same, "{found:?}");
            }
            (Err(listed), Err(failure)) => {
                assert_eq!(listed.code(), failure.code(), "{listed} | {failure}");
            }
            (listed, result) => panic!("check mode differs: {listed:?}, {result:?}"),
        }
        assert_eq!(fs::read(self.dir.path().join("outside")).unwrap(), b"safe");
        result
    }

    /// `path kind mode mtime contents` of everything, sorted.
    pub fn tree(&self) -> Vec<String> {
        let mut lines = Vec::new();
        walk(&self.out(), &self.out(), &mut lines);
        lines.sort();
        lines
    }

    pub fn meta(&self, path: &str) -> fs::Metadata {
        fs::symlink_metadata(self.out().join(path)).unwrap()
    }

    pub fn mode(&self, path: &str) -> u32 {
        self.meta(path).permissions().mode() & 0o7777
    }

    pub fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.out().join(path)).unwrap()
    }
}

fn walk(root: &Path, dir: &Path, lines: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        let name =
            path.strip_prefix(root).unwrap().as_os_str().as_bytes().escape_ascii().to_string();
        let mode = meta.permissions().mode() & 0o7777;
        let mtime = meta.mtime();
        if meta.is_dir() {
            lines.push(format!("{name} dir {mode:o} {mtime}"));
            walk(root, &path, lines);
        } else if meta.is_symlink() {
            lines.push(format!("{name} -> {} {mtime}", fs::read_link(&path).unwrap().display()));
        } else {
            let contents = fs::read(&path).unwrap();
            lines.push(format!("{name} file {mode:o} {mtime} {}", contents.escape_ascii()));
        }
    }
}

/// The code and the text of an expected failure.
pub fn failure(archive: &[u8], options: &UnpackOptions) -> (&'static str, String) {
    let failure = Scratch::new().unpack(archive, options).unwrap_err();
    (failure.code(), failure.to_string())
}

/// A tar under construction, from raw headers.
#[derive(Default, Clone)]
pub struct Raw(pub Vec<u8>);

impl Raw {
    pub fn new() -> Self {
        Self::default()
    }

    /// An entry with a ustar header, which `change` may spoil before the checksum is made.
    pub fn with(
        mut self,
        name: &str,
        kind: u8,
        contents: &[u8],
        change: impl Fn(&mut [u8; 512]),
    ) -> Self {
        let mut header = [0u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..107].copy_from_slice(if kind == b'5' { b"0000755" } else { b"0000644" });
        header[108..115].copy_from_slice(b"0000000");
        header[116..123].copy_from_slice(b"0000000");
        header[124..135].copy_from_slice(format!("{:011o}", contents.len()).as_bytes());
        header[136..147].copy_from_slice(format!("{:011o}", 1_000_000).as_bytes());
        header[156] = kind;
        header[257..265].copy_from_slice(b"ustar\x0000");
        change(&mut header);
        header[148..156].copy_from_slice(b"        ");
        let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        self.0.extend(header);
        self.0.extend(contents);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(self, name: &str, contents: &[u8]) -> Self {
        self.with(name, b'0', contents, |_| ())
    }

    pub fn dir(self, name: &str, mode: u32) -> Self {
        self.with(name, b'5', b"", |h| {
            h[100..107].copy_from_slice(format!("{mode:07o}").as_bytes());
        })
    }

    pub fn link(self, name: &str, kind: u8, target: &str) -> Self {
        self.with(name, kind, b"", |h| {
            h[157..157 + target.len()].copy_from_slice(target.as_bytes());
        })
    }

    pub fn pax(self, kind: u8, records: &[(&str, &str)]) -> Self {
        let mut body = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length =
                (1..9).map(|n| rest + n).find(|n| n.to_string().len() + rest == *n).unwrap();
            writeln!(body, "{length} {key}={value}").unwrap();
        }
        self.with("pax", kind, &body, |_| ())
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// A tree with one of everything, as a tar by the `tar` crate.
pub fn sample_tar() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |name: &str, kind, mode, contents: &[u8], link: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(1_234_567_890);
        header.set_size(contents.len() as u64);
        if link.is_empty() {
            builder.append_data(&mut header, name, contents).unwrap();
        } else {
            builder.append_link(&mut header, name, link).unwrap();
        }
    };
    use tar::EntryType as T;
    add("bin/", T::Directory, 0o755, b"", "");
    add("bin/magento", T::Regular, 0o755, b"#!/usr/bin/env php\n", "");
    add("pub/empty/", T::Directory, 0o750, b"", "");
    add("pub/index.php", T::Regular, 0o640, b"<?php\n", "");
    add("pub/same.php", T::Link, 0o640, b"", "pub/index.php");
    add("pub/media", T::Symlink, 0o777, b"", "../../shared/media");
    add(&format!("long/{}/file", "n".repeat(200)), T::Regular, 0o644, b"long", "");
    add("big", T::Regular, 0o644, &noise(700_000), "");
    builder.into_inner().unwrap()
}

/// What `sample_tar` becomes, without the big file.
pub fn check_sample(scratch: &Scratch) {
    let long = "n".repeat(200);
    assert_eq!(scratch.read("big"), noise(700_000));
    fs::remove_file(scratch.out().join("big")).unwrap();
    let mut tree = scratch.tree();
    // What the archive does not mention has the time of now.
    tree.retain(|line| !line.starts_with("long dir") && !line.starts_with("pub dir"));
    tree.retain(|line| !line.starts_with(&format!("long/{long} dir")));
    assert_eq!(
        tree,
        [
            "bin dir 755 1234567890".to_owned(),
            "bin/magento file 755 1234567890 #!/usr/bin/env php\\n".to_owned(),
            format!("long/{long}/file file 644 1234567890 long"),
            "pub/empty dir 750 1234567890".to_owned(),
            "pub/index.php file 640 1234567890 <?php\\n".to_owned(),
            "pub/media -> ../../shared/media 1234567890".to_owned(),
            "pub/same.php file 640 1234567890 <?php\\n".to_owned(),
        ]
    );
    assert_eq!(scratch.meta("pub/same.php").ino(), scratch.meta("pub/index.php").ino());
}

/// Bytes that do not compress.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

pub fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zst(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn bz2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
