//! Every format, whole and damaged, made by other writers than our readers' authors where
//! there is a crate that writes it.

use crate::common::*;
use oxistrano_archive::{Format, Limits, UnpackOptions, format_of, sha256};
use std::fs::File;

type Compress = fn(&[u8]) -> Vec<u8>;

const COMPRESSED: [(&str, Compress); 4] =
    [("tar.gz", gz), ("tar.zst", zst), ("tar.xz", xz), ("tar.bz2", bz2)];

fn plain() -> UnpackOptions {
    UnpackOptions::default()
}

#[test]
fn a_plain_tar_round_trips() {
    let scratch = Scratch::new();
    let summary = scratch.unpack(&sample_tar(), &plain()).unwrap();
    check_sample(&scratch);
    assert_eq!(summary.format, "tar");
    assert_eq!((summary.files, summary.directories, summary.links), (4, 2, 2));
    assert_eq!(summary.bytes, 19 + 6 + 4 + 700_000);
    assert_eq!(summary.sha256, None);
}

#[test]
fn every_compression_round_trips() {
    for (name, compress) in COMPRESSED {
        let scratch = Scratch::new();
        let options = UnpackOptions { checksum: true, ..plain() };
        let summary = scratch.unpack(&compress(&sample_tar()), &options).unwrap();
        check_sample(&scratch);
        assert_eq!(summary.format, name);
        let file = File::open(scratch.archive()).unwrap();
        assert_eq!(summary.sha256, Some(sha256(&file, &scratch.archive()).unwrap()), "{name}");
    }
}

#[test]
fn the_checksum_is_the_one_that_everybody_computes() {
    let scratch = Scratch::new();
    std::fs::write(scratch.archive(), "abc").unwrap();
    let sum = sha256(&File::open(scratch.archive()).unwrap(), &scratch.archive()).unwrap();
    assert_eq!(sum, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

#[test]
fn several_streams_one_behind_the_other_are_one() {
    let tar = sample_tar();
    for (_, compress) in COMPRESSED {
        let scratch = Scratch::new();
        let pieces: Vec<u8> = tar.chunks(300_001).flat_map(compress).collect();
        scratch.unpack(&pieces, &plain()).unwrap();
        check_sample(&scratch);
    }
}

#[test]
fn skippable_frames_are_skipped() {
    let skippable = [&b"\x5e\x2a\x4d\x18\x05\0\0\0"[..], b"hello"].concat();
    let tar = sample_tar();
    let (a, b) = tar.split_at(4096);
    let scratch = Scratch::new();
    scratch
        .unpack(&[&skippable[..], &zst(a), &skippable, &zst(b), &skippable].concat(), &plain())
        .unwrap();
    check_sample(&scratch);
}

#[test]
fn old_ustar_and_v7_headers_are_read() {
    let v7 = Raw::new()
        .with("dir/", 0, b"", |h| {
            h[257..265].fill(0);
            h[100..107].copy_from_slice(b"0000755");
        })
        .with("dir/file", 0, b"old", |h| h[257..265].fill(0));
    let scratch = Scratch::new();
    scratch.unpack(&v7.end(), &plain()).unwrap();
    assert_eq!(scratch.read("dir/file"), b"old");
    let ustar = Raw::new().with("name", b'0', b"x", |h| h[345..351].copy_from_slice(b"prefix"));
    let scratch = Scratch::new();
    scratch.unpack(&ustar.end(), &plain()).unwrap();
    assert_eq!(scratch.read("prefix/name"), b"x");
}

#[test]
fn a_stream_that_is_cut_off_is_noticed_wherever_it_is_cut() {
    let tar = Raw::new().file("a", &noise(3000)).file("b", b"small").end();
    for (name, compress) in COMPRESSED {
        let whole = compress(&tar);
        for length in (whole.len() - 40..whole.len()).chain([whole.len() / 2, whole.len() / 3]) {
            let (code, text) = failure(&whole[..length], &plain());
            assert_eq!(code, "bad_archive", "{name} {length}: {text}");
            assert!(text.contains("create the archive again"), "{text}");
        }
    }
    for length in [600, 1024 + 100, 3584, 4096 + 511, tar.len() - 1024] {
        let (code, text) = failure(&tar[..length], &plain());
        assert_eq!(code, "bad_archive", "{length}: {text}");
        assert!(text.contains("truncated"), "{length}: {text}");
    }
}

#[test]
fn damage_is_noticed_and_named() {
    let tar = Raw::new().file("first", &noise(400_000)).file("second", &noise(400_000)).end();
    for (name, compress) in COMPRESSED {
        let mut bytes = compress(&tar);
        let at = bytes.len() * 3 / 4;
        bytes[at..at + 8].iter_mut().for_each(|b| *b ^= 0x55);
        let (code, text) = failure(&bytes, &plain());
        assert_eq!(code, "bad_archive", "{name}: {text}");
    }
    let mut bytes = tar.clone();
    bytes[512 + 400_384 + 5] ^= 1;
    let (code, text) = failure(&bytes, &plain());
    assert_eq!(code, "bad_archive");
    assert!(text.contains("'first': what follows this entry is not a tar header"), "{text}");
}

#[test]
fn what_comes_after_the_end_is_ignored_but_must_be_whole() {
    let tar = [sample_tar(), b"garbage".repeat(1000)].concat();
    for archive in [tar.clone(), gz(&tar)] {
        let scratch = Scratch::new();
        scratch.unpack(&archive, &plain()).unwrap();
        check_sample(&scratch);
    }
    let whole = gz(&tar);
    assert_eq!(failure(&whole[..whole.len() - 1], &plain()).0, "bad_archive");
}

#[test]
fn a_compressed_tar_needs_no_end_mark() {
    let tar = Raw::new().file("a", b"x").0;
    Scratch::new().unpack(&gz(&tar), &plain()).unwrap();
    let (code, text) = failure(&tar, &plain());
    assert_eq!(code, "bad_archive");
    assert!(text.contains("has no end mark") && text.contains("compress it"), "{text}");
}

#[test]
fn zeros_behind_what_is_compressed_are_padding_and_anything_else_is_damage() {
    let tar = sample_tar();
    for (name, compress) in COMPRESSED {
        // Beginnings shorter than a header, and one with a zero at its end.
        let pieces: Vec<u8> =
            tar[..300].chunks(100).chain([&tar[300..]]).flat_map(compress).collect();
        for zeros in [1, 3, 4, 511, 300_000] {
            let scratch = Scratch::new();
            let padded = [&pieces[..], &vec![0; zeros]].concat();
            let options = UnpackOptions { checksum: true, ..plain() };
            let summary = scratch.unpack(&padded, &options).unwrap();
            check_sample(&scratch);
            let file = File::open(scratch.archive()).unwrap();
            assert_eq!(summary.sha256, Some(sha256(&file, &scratch.archive()).unwrap()), "{name}");
            // xz may have some between two streams.
            let allowed = name == "tar.xz" && zeros % 4 == 0;
            let stream = compress(b"more");
            for behind in [&b"x"[..], &stream].iter().take(if allowed { 1 } else { 2 }) {
                let (code, text) = failure(&[&padded[..], *behind].concat(), &plain());
                assert_eq!(code, "bad_archive", "{name} {zeros}: {text}");
            }
            // What is missing at the end of a stream is not made up for by zeros.
            let cut = [&pieces[..pieces.len() - 9], &vec![0; zeros]].concat();
            assert_eq!(failure(&cut, &plain()).0, "bad_archive", "{name} {zeros}");
        }
    }
}

#[test]
fn what_others_make_is_called_by_its_name() {
    for (start, name) in [
        (&b"LZIP\x01"[..], "compressed by lzip"),
        (b"\x04\x22\x4d\x18", "compressed by lz4"),
        (b"\x1f\x9d\x90", "compressed by compress (.Z)"),
        (b"\x5d\0\0\x80", "compressed by lzma"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (b"Rar!\x1a\x07", "a rar archive"),
    ] {
        let (code, text) = failure(&[start, &noise(1000)].concat(), &plain());
        assert_eq!(code, "unknown_format");
        assert!(text.contains(&format!("it is {name}, which is not supported")), "{text}");
    }
}

#[test]
fn empty_archives_are_refused() {
    for archive in
        [Raw::new().end(), gz(&Raw::new().end()), Raw::new().dir("./", 0o755).end(), Vec::new()]
    {
        assert_eq!(failure(&archive, &plain()).0, "empty_archive");
    }
    let options = UnpackOptions { strip_components: 3, ..plain() };
    let (code, text) = failure(&sample_tar(), &UnpackOptions { strip_components: 9, ..options });
    assert_eq!(code, "empty_archive");
    assert!(text.contains("check strip_components and exclude"), "{text}");
}

#[test]
fn unknown_formats_are_named_with_those_that_are_known() {
    for bytes in [
        b"<html>not found</html>".to_vec(),
        noise(5000),
        gz(b"no tar"),
        zst(&noise(9999)),
        bz2(b"x"),
    ] {
        let (code, text) = failure(&bytes, &plain());
        assert_eq!(code, "unknown_format", "{text}");
        assert!(text.contains("tar.zst, tar.xz, tar.bz2 and zip"), "{text}");
    }
    assert!(
        failure(&gz(b"no tar"), &plain()).1.contains("compressed (gz), but does not contain a tar")
    );
}

#[test]
fn the_format_is_told_by_the_content() {
    let scratch = Scratch::new();
    for (bytes, format) in [(sample_tar(), Format::Tar), (xz(&sample_tar()), Format::TarXz)] {
        std::fs::write(scratch.archive(), bytes).unwrap();
        let file = File::open(scratch.archive()).unwrap();
        assert_eq!(format_of(&file, &scratch.archive()).unwrap(), format);
    }
}

#[test]
fn windows_beyond_the_limit_are_refused_and_can_be_allowed() {
    let tar = Raw::new().file("a", &noise(100_000)).end();
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(28).unwrap();
    std::io::Write::write_all(&mut encoder, &tar).unwrap();
    let archive = encoder.finish().unwrap();
    let (code, text) = failure(&archive, &plain());
    assert_eq!(code, "too_large", "{text}");
    assert!(text.contains("--long=27"), "{text}");
    let limits = Limits { window: 1 << 31, ..Limits::default() };
    Scratch::new().unpack(&archive, &UnpackOptions { limits, ..plain() }).unwrap();

    let limits = Limits { window: 1 << 20, ..Limits::default() };
    let (code, text) = failure(&xz(&tar), &UnpackOptions { limits, ..plain() });
    assert_eq!(code, "too_large", "{text}");
}

#[test]
fn limits_hold() {
    let tar = Raw::new().file("a", &[0; 100_000]).file("b", b"").end();
    let with = |limits| failure(&gz(&tar), &UnpackOptions { limits, ..plain() }).0;
    assert_eq!(with(Limits { max_entries: 1, ..Limits::default() }), "too_large");
    assert_eq!(with(Limits { max_bytes: 50_000, ..Limits::default() }), "too_large");
    // Also what comes after the end counts, or it would never end.
    let bomb = gz(&[&tar[..], &[0; 1_000_000]].concat());
    let limits = Limits { max_bytes: 500_000, ..Limits::default() };
    assert_eq!(failure(&bomb, &UnpackOptions { limits, ..plain() }).0, "too_large");
}

/// A gigabyte, most of it a hole, so that it costs neither disk nor much time.
#[test]
fn memory_does_not_grow_with_the_archive() {
    let size = 1_000_000_000u64.next_multiple_of(512);
    let header = Raw::new().with("large", b'0', b"", |h| {
        h[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    });
    let scratch = Scratch::new();
    std::fs::write(scratch.archive(), header.0).unwrap();
    let file = File::options().read(true).write(true).open(scratch.archive()).unwrap();
    file.set_len(512 + size + 1024).unwrap();
    let before = resident();
    let summary = oxistrano_archive::list(&file, &scratch.archive(), &plain()).unwrap();
    assert_eq!(summary.bytes, size);
    let grown = resident().saturating_sub(before);
    assert!(grown < 60_000, "{grown} kB");
}

/// This process' memory in kB. Other tests run beside, so it is only a rough measure.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
