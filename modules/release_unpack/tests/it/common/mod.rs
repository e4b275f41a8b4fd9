//! What the tests of `release_unpack` share.

#![allow(dead_code, reason = "not every test program uses all of it")]

use std::io::{Cursor, Write};

use oxistrano_harness::{Entry, Root, Value, dir, file, hard_link, json, symlink, tar, tar_gz};

/// A root in which 1 is live and the deploy of 2 has begun.
pub fn started() -> Root {
    let root = Root::with(&["1"]);
    let _ = root.run("release_setup", json!({"version": "2"})).changed();
    root
}

/// A bit of everything.
pub fn entries() -> Vec<Entry> {
    vec![
        dir("bin"),
        file("bin/magento", "#!/usr/bin/env php\n").mode(0o755),
        file("index.php", "<?php\n"),
        hard_link("same.php", "index.php"),
        symlink("media", "../../shared/media"),
        dir("empty"),
        file("deep/er/file.txt", "deep"),
    ]
}

/// Arguments for version 2.
pub fn unpack(src: &str) -> Value {
    json!({"version": "2", "src": src, "remote_src": true})
}

/// With one more.
pub fn with(mut arguments: Value, key: &str, value: impl Into<Value>) -> Value {
    arguments[key] = value.into();
    arguments
}

/// The archive of [`entries`] beside the deploy root.
pub fn sample(root: &Root) -> String {
    root.archive("app.tar.gz", &tar_gz(&entries()))
}

/// The same entries in every format, by its name.
pub fn formats() -> Vec<(&'static str, Vec<u8>)> {
    let plain = tar(&entries());
    vec![
        ("tar.gz", oxistrano_harness::gzip(&plain)),
        ("tar.zst", zstd::encode_all(plain.as_slice(), 1).unwrap()),
        ("tar.xz", {
            let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
            encoder.write_all(&plain).unwrap();
            encoder.finish().unwrap()
        }),
        ("tar.bz2", {
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            encoder.write_all(&plain).unwrap();
            encoder.finish().unwrap()
        }),
        ("tar", plain),
        ("zip", zipped()),
    ]
}

fn zipped() -> Vec<u8> {
    use zip::write::{SimpleFileOptions, ZipWriter};
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let mode = |mode| SimpleFileOptions::default().unix_permissions(mode);
    zip.add_directory("bin/", mode(0o755)).unwrap();
    for (path, text, bits) in [
        ("bin/magento", "#!/usr/bin/env php\n", 0o755),
        ("index.php", "<?php\n", 0o644),
        ("same.php", "<?php\n", 0o644),
        ("deep/er/file.txt", "deep", 0o644),
    ] {
        zip.start_file(path, mode(bits)).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.add_symlink("media", "../../shared/media", mode(0o777)).unwrap();
    zip.add_directory("empty/", mode(0o755)).unwrap();
    zip.finish().unwrap().into_inner()
}

/// `sha256:` and the checksum.
pub fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(bytes);
    digest.iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
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
