//! zip archives, made by the `zip` crate.

use std::io::{Cursor, Write};

use crate::common::*;
use oxistrano_archive::{Pattern, UnpackOptions};
use zip::write::{SimpleFileOptions, ZipWriter};
use zip::{CompressionMethod, DateTime};

fn plain() -> UnpackOptions {
    UnpackOptions::default()
}

fn options() -> SimpleFileOptions {
    let time = DateTime::from_date_and_time(2009, 2, 13, 23, 31, 30).unwrap();
    SimpleFileOptions::default().last_modified_time(time)
}

fn archive(make: impl Fn(&mut ZipWriter<Cursor<Vec<u8>>>)) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    make(&mut zip);
    zip.finish().unwrap().into_inner()
}

fn sample() -> Vec<u8> {
    archive(|zip| {
        zip.add_directory("bin/", options().unix_permissions(0o750)).unwrap();
        zip.start_file("bin/magento", options().unix_permissions(0o755)).unwrap();
        zip.write_all(&b"php".repeat(1000)).unwrap();
        zip.start_file("stored", options().compression_method(CompressionMethod::Stored)).unwrap();
        zip.write_all(b"stored").unwrap();
        zip.start_file("ünï/codé", options().large_file(true)).unwrap();
        zip.write_all(b"unicode").unwrap();
        zip.start_file("empty", options()).unwrap();
        zip.add_symlink("media", "../shared/media", options()).unwrap();
    })
}

#[test]
fn a_zip_round_trips() {
    let scratch = Scratch::new();
    let summary = scratch.unpack(&sample(), &UnpackOptions { checksum: true, ..plain() }).unwrap();
    assert_eq!(
        (summary.format, summary.files, summary.directories, summary.links),
        ("zip", 4, 1, 1)
    );
    let file = std::fs::File::open(scratch.archive()).unwrap();
    assert_eq!(summary.sha256, Some(oxistrano_archive::sha256(&file, &scratch.archive()).unwrap()));
    let mut tree = scratch.tree();
    tree.retain(|line| !line.starts_with("\\xc3\\xbcn\\xc3\\xaf dir"));
    assert_eq!(
        tree,
        [
            "\\xc3\\xbcn\\xc3\\xaf/cod\\xc3\\xa9 file 644 1234567890 unicode".to_owned(),
            "bin dir 750 1234567890".to_owned(),
            format!("bin/magento file 755 1234567890 {}", "php".repeat(1000)),
            "empty file 644 1234567890 ".to_owned(),
            "media -> ../shared/media 1234567890".to_owned(),
            "stored file 644 1234567890 stored".to_owned(),
        ]
    );
}

#[test]
fn excluded_entries_are_left_out() {
    let scratch = Scratch::new();
    let options = UnpackOptions {
        exclude: ["bin/*", "ünï", "media"].map(Pattern::new).to_vec(),
        ..plain()
    };
    scratch.unpack(&sample(), &options).unwrap();
    let names: Vec<_> =
        scratch.tree().iter().map(|l| l.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(names, ["bin", "empty", "stored"]);
}

/// Puts other bytes in the place of a name, in both headers.
fn renamed(mut bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let found: Vec<usize> =
        (0..bytes.len() - from.len()).filter(|n| bytes[*n..].starts_with(from)).collect();
    assert_eq!(found.len(), 2);
    for at in found {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    bytes
}

fn one_file(name: &str) -> Vec<u8> {
    archive(|zip| {
        zip.start_file(name, options()).unwrap();
        zip.write_all(b"evil").unwrap();
    })
}

#[test]
fn names_that_lead_outside_are_refused() {
    for (name, why) in [
        ("../outside", "'..'"),
        ("a/../../xx", "'..'"),
        ("/etc/passw", "absolute"),
        ("..\\outside", "backslash"),
        ("C:\\outside", "backslash"),
        ("nul\0byte--", "NUL"),
    ] {
        let bytes = renamed(
            one_file(&"x".repeat(name.len())),
            "x".repeat(name.len()).as_bytes(),
            name.as_bytes(),
        );
        let (code, text) = failure(&bytes, &plain());
        assert_eq!(code, "unsafe_entry", "{text}");
        assert!(text.contains(why), "{text}");
    }
}

#[test]
fn nothing_is_written_through_a_link() {
    let bytes = archive(|zip| {
        zip.add_symlink("sub", "..", options()).unwrap();
        zip.start_file("sub/outside", options()).unwrap();
        zip.write_all(b"evil").unwrap();
    });
    let (code, text) = failure(&bytes, &plain());
    assert_eq!(code, "unsafe_entry");
    assert!(text.contains("symbolic link"), "{text}");
}

#[test]
fn of_two_entries_with_one_name_the_last_counts() {
    let bytes = archive(|zip| {
        for (name, contents) in [("same1", "first"), ("same2", "second")] {
            zip.start_file(name, options()).unwrap();
            zip.write_all(contents.as_bytes()).unwrap();
        }
    });
    let scratch = Scratch::new();
    scratch.unpack(&renamed(bytes, b"same2", b"same1"), &plain()).unwrap();
    assert_eq!(scratch.tree(), ["same1 file 644 1234567890 second"]);
}

#[test]
fn special_files_are_refused() {
    let mut bytes = one_file("fifo");
    // The upper half of the external attributes, in the central directory.
    let central = (0..bytes.len()).find(|n| bytes[*n..].starts_with(b"PK\x01\x02")).unwrap();
    bytes[central + 40..central + 42].copy_from_slice(&0o010_644u16.to_le_bytes());
    let (code, text) = failure(&bytes, &plain());
    assert_eq!(code, "unsafe_entry", "{text}");
    assert!(text.contains("'fifo': it is a FIFO"), "{text}");
}

#[test]
fn what_cannot_be_read_is_named() {
    let central =
        |bytes: &[u8]| (0..bytes.len()).find(|n| bytes[*n..].starts_with(b"PK\x01\x02")).unwrap();
    let mut encrypted = one_file("secret");
    let at = central(&encrypted);
    encrypted[6] |= 1;
    encrypted[at + 8] |= 1;
    let (code, text) = failure(&encrypted, &plain());
    assert_eq!(code, "bad_archive");
    assert!(text.contains("'secret': it is encrypted"), "{text}");

    let mut lzma = one_file("packed");
    lzma[8] = 14;
    lzma[at + 10] = 14;
    let (code, text) = failure(&lzma, &plain());
    assert_eq!(code, "bad_archive");
    assert!(text.contains("'packed': its compression is not supported"), "{text}");
}

#[test]
fn damage_is_noticed() {
    let whole = sample();
    for length in [whole.len() - 1, whole.len() - 30, whole.len() / 2, 40] {
        assert_eq!(failure(&whole[..length], &plain()).0, "bad_archive", "{length}");
    }
    let mut bytes = whole.clone();
    let at = (0..bytes.len()).find(|n| bytes[*n..].starts_with(b"storedstored")).unwrap();
    bytes[at + 8] ^= 1;
    let (code, text) = failure(&bytes, &plain());
    assert_eq!(code, "bad_archive");
    assert!(text.contains("'stored'"), "{text}");
    assert_eq!(failure(&archive(|_| ()), &plain()).0, "empty_archive");
}

#[test]
fn a_zip_behind_a_program_is_refused_for_what_it_is() {
    let script = &b"#!/bin/sh\nexec java -jar \"$0\" \"$@\"\n"[..];
    for (archive, is_zip) in [
        ([script, &sample()].concat(), true),
        ([&b"\x7fELF\x02"[..], &sample()].concat(), true),
        ([b"junk", &sample()[..]].concat(), false),
        (script.to_vec(), false),
    ] {
        let (code, text) = failure(&archive, &plain());
        assert_eq!(code, "unknown_format");
        assert_eq!(text.contains("it is a self-extracting zip"), is_zip, "{text}");
    }
}

#[test]
fn a_time_without_a_zone_is_never_later_than_now() {
    let far = DateTime::from_date_and_time(2107, 12, 31, 23, 59, 58).unwrap();
    let bytes = archive(|zip| {
        let options = SimpleFileOptions::default().last_modified_time(far);
        zip.start_file("index.php", options).unwrap();
    });
    let scratch = Scratch::new();
    scratch.unpack(&bytes, &plain()).unwrap();
    let made = scratch.meta("index.php").modified().unwrap();
    assert!(made <= std::time::SystemTime::now(), "{made:?}");
}

#[test]
fn a_compression_that_is_not_supported_is_named() {
    let bytes = archive(|zip| {
        zip.start_file("index.php", options()).unwrap();
        zip.write_all(b"php").unwrap();
    });
    for (method, name) in [(9, "Deflate64"), (12, "bzip2"), (93, "zstd"), (77, "an unusual one")] {
        let mut bytes = bytes.clone();
        let central = bytes.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
        bytes[8] = method;
        bytes[central + 10] = method;
        let (code, text) = failure(&bytes, &plain());
        assert_eq!(code, "bad_archive");
        assert!(text.contains("'index.php'") && text.contains(name), "{text}");
    }
}
