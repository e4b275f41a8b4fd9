//! Archives made to do harm, one trick at a time.

use crate::common::*;
use oxistrano_archive::{Pattern, UnpackOptions, unpack};
use oxistrano_core::Dir;

fn plain() -> UnpackOptions {
    UnpackOptions::default()
}

/// It is refused with this code, its name and this reason.
fn refused(archive: Raw, code: &str, name: &str, why: &str) {
    let (found, text) = failure(&archive.end(), &plain());
    assert_eq!(found, code, "{text}");
    assert!(text.contains(&format!("'{name}'")), "{text}");
    assert!(text.contains(why), "{text}");
}

#[test]
fn names_that_lead_outside_are_refused() {
    let file = |name: &str| Raw::new().file("before", b"").file(name, b"evil");
    refused(file("/etc/passwd"), "unsafe_entry", "/etc/passwd", "is absolute");
    refused(file("//x"), "unsafe_entry", "//x", "is absolute");
    refused(file("../outside"), "unsafe_entry", "../outside", "'..'");
    refused(file("a/../../outside"), "unsafe_entry", "a/../../outside", "'..'");
    refused(file("a/.."), "unsafe_entry", "a/..", "'..'");
    let dir = Raw::new().dir("../", 0o777);
    refused(dir, "unsafe_entry", "../", "'..'");
    let pax = Raw::new().pax(b'x', &[("path", "../outside")]).file("fine", b"evil");
    refused(pax, "unsafe_entry", "../outside", "'..'");
    let gnu = Raw::new().with("././@LongLink", b'L', b"/outside\0", |_| ()).file("fine", b"evil");
    refused(gnu, "unsafe_entry", "/outside", "is absolute");
    let global = Raw::new().pax(b'g', &[("path", "../outside")]).file("fine", b"evil");
    refused(global, "unsafe_entry", "../outside", "'..'");
}

#[test]
fn nothing_is_written_through_a_link_of_the_archive() {
    for target in ["..", "/tmp", "real", "."] {
        let link = Raw::new().dir("real/", 0o755).link("sub", b'2', target);
        refused(
            link.clone().file("sub/outside", b"evil"),
            "unsafe_entry",
            "sub/outside",
            "symbolic link",
        );
        refused(link.clone().dir("sub/x/", 0o755), "unsafe_entry", "sub/x", "symbolic link");
        refused(link.clone().link("sub/x", b'2', "y"), "unsafe_entry", "sub/x", "symbolic link");
        refused(link.file("sub/a/b/c", b"evil"), "unsafe_entry", "sub/a/b/c", "symbolic link");
    }
}

#[test]
fn nothing_is_written_through_a_link_that_somebody_has_put_there() {
    let scratch = Scratch::new();
    let outside = scratch.out().parent().unwrap().join("elsewhere");
    std::fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, scratch.out().join("sub")).unwrap();
    // No entry has made it, so that only the file system knows that it is a link.
    for archive in [Raw::new().file("sub/evil", b"evil"), Raw::new().dir("sub/evil/", 0o755)] {
        std::fs::write(scratch.archive(), archive.end()).unwrap();
        let file = std::fs::File::open(scratch.archive()).unwrap();
        let out = Dir::open(&scratch.out()).unwrap();
        unpack(&file, &scratch.archive(), &out, &plain()).unwrap_err();
    }
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn a_file_in_the_place_of_a_link_replaces_the_link() {
    let scratch = Scratch::new();
    let archive = Raw::new().link("x", b'2', "../outside").file("x", b"inside");
    scratch.unpack(&archive.end(), &plain()).unwrap();
    assert_eq!(scratch.read("x"), b"inside");
    assert!(scratch.meta("x").is_file());
}

#[test]
fn a_directory_in_the_place_of_a_link_replaces_the_link() {
    let scratch = Scratch::new();
    let archive = Raw::new().link("x", b'2', "..").dir("x/", 0o755).file("x/outside", b"inside");
    scratch.unpack(&archive.end(), &plain()).unwrap();
    assert_eq!(scratch.read("x/outside"), b"inside");
}

#[test]
fn hard_links_stay_inside() {
    let link = |target: &str| Raw::new().file("a", b"").link("h", b'1', target);
    refused(link("../outside"), "unsafe_entry", "h", "'..'");
    refused(link("/etc/passwd"), "unsafe_entry", "h", "is absolute");
    refused(
        link("missing"),
        "bad_archive",
        "h",
        "hard link to 'missing', which does not exist yet",
    );
    refused(link("no/where"), "bad_archive", "h", "does not exist yet");
    refused(Raw::new().dir("d/", 0o755).link("h", b'1', "d"), "bad_archive", "h", "to a directory");
    let through = Raw::new().link("up", b'2', "..").link("h", b'1', "up/outside");
    let (_, text) = failure_of_unpack_only(&through.end());
    assert!(text.contains("symbolic link"), "{text}");
}

/// Here check mode, which does not look at a link's way, says "does not exist yet" instead.
fn failure_of_unpack_only(archive: &[u8]) -> (&'static str, String) {
    let scratch = Scratch::new();
    std::fs::write(scratch.archive(), archive).unwrap();
    let file = std::fs::File::open(scratch.archive()).unwrap();
    let dir = oxistrano_core::Dir::open(&scratch.out()).unwrap();
    assert!(oxistrano_archive::list(&file, &scratch.archive(), &plain()).is_err());
    let failure = oxistrano_archive::unpack(&file, &scratch.archive(), &dir, &plain()).unwrap_err();
    (failure.code(), failure.to_string())
}

#[test]
fn a_hard_link_to_a_link_is_a_link() {
    let scratch = Scratch::new();
    let archive = Raw::new().link("s", b'2', "../outside").link("h", b'1', "s").file("h", b"new");
    scratch.unpack(&archive.end(), &plain()).unwrap();
    assert!(scratch.meta("s").is_symlink());
    assert_eq!(scratch.read("h"), b"new");
}

#[test]
fn special_files_are_refused() {
    for (kind, what) in [
        (b'3', "a character device"),
        (b'4', "a block device"),
        (b'6', "a FIFO"),
        (b'M', "volume"),
        (b'Q', "unknown type"),
    ] {
        refused(Raw::new().with("dev", kind, b"", |_| ()), "unsafe_entry", "dev", what);
    }
}

#[test]
fn what_is_refused_can_be_excluded() {
    let archive = Raw::new().file("ok", b"").with("dev", b'3', b"", |_| ()).file("../x", b"").end();
    let options =
        UnpackOptions { exclude: vec![Pattern::new("dev"), Pattern::new("../*")], ..plain() };
    let scratch = Scratch::new();
    scratch.unpack(&archive, &options).unwrap();
    assert_eq!(scratch.tree().len(), 1);
}

#[test]
fn strange_names_are_kept_or_refused() {
    let scratch = Scratch::new();
    let archive = Raw::new()
        .file("new\nline", b"")
        .file("back\\slash", b"")
        .file("...", b"")
        .file("-rf", b"")
        .with("x\u{1}", b'0', b"", |h| h[0] = 0xff);
    scratch.unpack(&archive.end(), &plain()).unwrap();
    let names: Vec<String> =
        scratch.tree().iter().map(|l| l.split(" file").next().unwrap().to_owned()).collect();
    assert_eq!(names, ["-rf", "...", "\\xff\\x01", "back\\\\slash", "new\\nline"]);

    let nul = Raw::new().pax(b'x', &[("path", "a\0b")]).file("x", b"");
    refused(nul, "unsafe_entry", "a\\0b", "NUL");
    let target = Raw::new().pax(b'x', &[("linkpath", "a\0b")]).link("s", b'2', "y");
    refused(target, "unsafe_entry", "s", "NUL");
    refused(Raw::new().link("s", b'2', ""), "unsafe_entry", "s", "empty");
    let deep = Raw::new().pax(b'x', &[("path", &"d/".repeat(300))]).file("x", b"");
    assert_eq!(failure(&deep.end(), &plain()).0, "unsafe_entry");
    let long = Raw::new().pax(b'x', &[("path", &"n".repeat(5000))]).file("x", b"");
    let (code, text) = failure(&long.end(), &plain());
    assert_eq!(code, "unsafe_entry");
    assert!(text.len() < 1000, "{text}");
}

#[test]
fn hostile_sizes_allocate_nothing() {
    let size = |value: &'static [u8]| {
        move |h: &mut [u8; 512]| h[124..124 + value.len()].copy_from_slice(value)
    };
    for kind in [b'L', b'K', b'x', b'g'] {
        let archive = Raw::new().with("x", kind, b"", size(b"77777777777")).file("y", b"");
        let (code, text) = failure(&archive.end(), &plain());
        assert_eq!(code, "bad_archive");
        assert!(text.contains("larger than 1 MiB"), "{text}");
    }
    let huge = Raw::new().with("x", b'0', b"", size(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"));
    assert_eq!(failure(&huge.end(), &plain()).0, "too_large");
    let negative =
        Raw::new().with("x", b'0', b"", size(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"));
    refused(negative, "bad_archive", "x", "its size is invalid");
    let more = Raw::new().pax(b'x', &[("size", "18446744073709551615")]).file("x", b"");
    assert_eq!(failure(&more.end(), &plain()).0, "too_large");
}

#[test]
fn hostile_pax_headers_are_refused() {
    let body = |body: &[u8]| Raw::new().with("p", b'x', body, |_| ()).file("x", b"").end();
    for records in [&b"99 path=a\n"[..], b"0 path=a\n", b"nonsense", b"12 size=abc\n\n"] {
        assert_eq!(failure(&body(records), &plain()).0, "bad_archive");
    }
    let alone = Raw::new().file("a", b"").pax(b'x', &[("path", "b")]);
    refused(alone, "bad_archive", "a", "ends before an announced entry");
}

#[test]
fn a_file_is_no_directory() {
    refused(Raw::new().file("a", b"").file("a/b", b""), "bad_archive", "a/b", "is a file");
    let filled = Raw::new().file("a/b", b"").file("a", b"");
    refused(filled, "bad_archive", "a", "a directory with entries under the same name");
}

#[test]
fn hostile_sparse_maps_are_refused() {
    let map = |map: &str, size: &str| {
        Raw::new()
            .pax(b'x', &[("GNU.sparse.size", size), ("GNU.sparse.map", map)])
            .file("s", b"12345678")
    };
    refused(map("0,4,2,4", "8"), "bad_archive", "s", "not sorted");
    refused(map("0,8", "4"), "bad_archive", "s", "exceeds the size");
    refused(map("0,4", "8"), "bad_archive", "s", "does not match");
    refused(map("18446744073709551615,8", "8"), "bad_archive", "s", "too large");
    // A file of an exabyte would cost nothing here, but whoever copies it pays.
    let (code, _) = failure(&map("0,8", "1000000000000000000").end(), &plain());
    assert_eq!(code, "too_large");
}
