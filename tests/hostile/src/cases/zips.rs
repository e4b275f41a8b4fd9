//! Zip: what is said twice and differently, and what is said of the end.

use crate::Expected::{Refused, Unpacked};
use crate::zip::{
    End, Entry, deflated, dir, stored, symlink, with_end, zip, zip64_end, zip64_extra,
};
use crate::{Case, bad, case, too_large, unsafe_entry};

const SMALL: &[(&str, u64)] = &[("max_bytes", 2 << 20)];
const ONE: crate::Expected = Unpacked(&["x file 644"]);

fn fine() -> Entry {
    stored("x", b"evil\n")
}

/// Many entries, each being the same megabytes of zeros.
fn overlapping() -> Vec<u8> {
    let kernel = deflated("0", &vec![0; 512 << 10]);
    let mut entries = vec![kernel.clone()];
    entries.extend((1..200).map(|number| {
        kernel.clone().central(|header| header.name = number.to_string().into_bytes()).at(0)
    }));
    zip(&entries)
}

pub(super) static CASES: &[Case] = &[
    case(
        "a parent",
        |o| o.write_all(&zip(&[stored("../victim/x", b"")])),
        unsafe_entry("../victim/x"),
    ),
    case(
        "an absolute path",
        |o| o.write_all(&zip(&[stored("/tmp/x", b"")])),
        unsafe_entry("/tmp/x"),
    ),
    case(
        "backslashes",
        |o| o.write_all(&zip(&[stored("..\\victim\\x", b"")])),
        unsafe_entry("victim"),
    ),
    case(
        "a file through a link",
        |o| o.write_all(&zip(&[symlink("l", b"../../../victim"), stored("l/x", b"")])),
        unsafe_entry("l/x"),
    ),
    case(
        "a file through a link in the other order",
        |o| o.write_all(&zip(&[stored("l/x", b""), symlink("l", b"../../../victim")])),
        bad("'l'"),
    ),
    case(
        "a link with a target of 8 kB",
        |o| o.write_all(&zip(&[symlink("l", &[b't'; 8192])])),
        bad("too long"),
    ),
    case(
        "a link with a NUL in its target",
        |o| o.write_all(&zip(&[symlink("l", b"a\0b")])),
        unsafe_entry("'l'"),
    ),
    case(
        "a character device",
        |o| o.write_all(&zip(&[fine().mode(0o020_666)])),
        unsafe_entry("'x'"),
    ),
    case("a FIFO", |o| o.write_all(&zip(&[fine().mode(0o010_666)])), unsafe_entry("'x'")),
    case("a socket", |o| o.write_all(&zip(&[fine().mode(0o140_666)])), unsafe_entry("'x'")),
    case(
        "a setuid program",
        |o| o.write_all(&zip(&[fine().mode(0o104_755)])),
        Unpacked(&["x file 755"]),
    ),
    case(
        "a directory with contents",
        |o| o.write_all(&zip(&[stored("d/", b"evil").mode(0o040_755), fine()])),
        Unpacked(&["d dir 755", "x file 644"]),
    ),
    case(
        "a directory without a slash",
        |o| o.write_all(&zip(&[dir("d"), stored("d/x", b"")])),
        Unpacked(&["d dir 755", "d/x file 644"]),
    ),
    case(
        "a NUL in the name",
        |o| o.write_all(&zip(&[stored("x\0.php", b"")])),
        unsafe_entry("x\\0.php"),
    ),
    case("an empty name", |o| o.write_all(&zip(&[stored("", b"evil"), fine()])), ONE),
    case("twice the same name", |o| o.write_all(&zip(&[stored("x", b"first"), fine()])), ONE),
    case(
        "another name before the contents",
        |o| o.write_all(&zip(&[fine().local(|h| h.name = b"../victim/x".to_vec())])),
        ONE,
    ),
    case(
        "another name in the directory",
        |o| o.write_all(&zip(&[fine().central(|h| h.name = b"../victim/x".to_vec())])),
        unsafe_entry("../victim/x"),
    ),
    case(
        "another name in a field",
        |o| {
            o.write_all(&zip(&[fine().both(|h| {
                let mut crc = flate2::Crc::new();
                crc.update(b"x");
                h.extra =
                    [&b"\x75\x70\x0e\x00\x01"[..], &crc.sum().to_le_bytes(), b"../victim"].concat();
            })]))
        },
        unsafe_entry("../victim"),
    ),
    case("another checksum", |o| o.write_all(&zip(&[fine().both(|h| h.crc ^= 1)])), bad("'x'")),
    case(
        "more than the directory says",
        |o| o.write_all(&zip(&[deflated("x", &[b'x'; 5000]).central(|h| h.size = 10)])),
        bad("'x'"),
    ),
    case(
        "less than the directory says",
        |o| o.write_all(&zip(&[deflated("x", &[b'x'; 50]).central(|h| h.size = 5000)])),
        bad("'x'"),
    ),
    case(
        "a stored file of two sizes",
        |o| o.write_all(&zip(&[fine().central(|h| h.size = 50)])),
        bad("'x'"),
    ),
    case(
        "4 GB that are not there",
        |o| {
            o.write_all(&zip(&[
                fine().both(|h| (h.size, h.compressed) = (u32::MAX - 1, u32::MAX - 1))
            ]))
        },
        bad("'x'"),
    ),
    case(
        "2^63 bytes in ZIP64",
        |o| {
            o.write_all(&zip(&[fine().both(|h| {
                (h.size, h.compressed, h.extra) =
                    (u32::MAX, u32::MAX, zip64_extra(&[1 << 63, 1 << 63]));
            })]))
        },
        too_large("'x'"),
    ),
    case(
        "ZIP64 without its field",
        |o| o.write_all(&zip(&[fine().both(|h| (h.size, h.compressed) = (u32::MAX, u32::MAX))])),
        bad(""),
    ),
    case(
        "a compression that is not known",
        |o| o.write_all(&zip(&[fine().both(|h| h.method = 99)])),
        bad("compression is not supported"),
    ),
    case(
        "another compression before the contents",
        |o| o.write_all(&zip(&[fine().local(|h| h.method = 8)])),
        ONE,
    ),
    case("a password", |o| o.write_all(&zip(&[fine().both(|h| h.flags = 1)])), bad("encrypted")),
    case(
        "a bomb",
        |o| o.write_all(&zip(&[deflated("bomb", &vec![0; 2512 << 10])])),
        too_large("bomb"),
    )
    .with(SMALL),
    case("a bomb of entries that overlap", |o| o.write_all(&overlapping()), too_large("'"))
        .with(SMALL),
    case(
        "an entry that is nowhere",
        |o| o.write_all(&zip(&[fine(), stored("y", b"").at(0x7fff_ffff)])),
        bad(""),
    ),
    case(
        "an entry that is the directory",
        |o| o.write_all(&zip(&[fine(), stored("y", b"").at(36)])),
        bad(""),
    ),
    case(
        "more entries than there are",
        |o| o.write_all(&with_end(&[fine()], &End { count: Some(9), ..End::default() })),
        bad(""),
    ),
    case(
        "fewer entries than there are",
        |o| {
            o.write_all(&with_end(
                &[fine(), stored("y", b"")],
                &End { count: Some(1), ..End::default() },
            ))
        },
        ONE,
    ),
    case(
        "a directory that begins elsewhere",
        |o| o.write_all(&with_end(&[fine()], &End { start: Some(3), ..End::default() })),
        bad(""),
    ),
    case(
        "a directory beyond the end",
        |o| o.write_all(&with_end(&[fine()], &End { start: Some(u32::MAX - 1), ..End::default() })),
        bad(""),
    ),
    case(
        "an end in the comment",
        |o| {
            o.write_all(&with_end(
                &[fine()],
                &End { comment: [&b"PK\x05\x06"[..], &[0; 18]].concat(), ..End::default() },
            ))
        },
        Refused("empty_archive", "no entries"),
    ),
    case(
        "50,000 ends",
        |o| {
            o.write_all(&zip(&[fine()]))?;
            (0..50_000).try_for_each(|_| o.write_all(b"PK\x05\x06"))
        },
        bad(""),
    ),
    case(
        "18 quintillion entries in ZIP64",
        |o| {
            o.write_all(&with_end(
                &[fine()],
                &End {
                    count: Some(u16::MAX),
                    size: Some(u32::MAX),
                    start: Some(u32::MAX),
                    before: zip64_end(u64::MAX, 47, 36, 36 + 47),
                    ..End::default()
                },
            ))
        },
        bad(""),
    ),
    case(
        "a ZIP64 end that is nowhere",
        |o| {
            o.write_all(&with_end(
                &[fine()],
                &End {
                    count: Some(u16::MAX),
                    size: Some(u32::MAX),
                    start: Some(u32::MAX),
                    before: zip64_end(1, 47, 36, u64::MAX - 9),
                    ..End::default()
                },
            ))
        },
        bad(""),
    ),
    case(
        "cut off",
        |o| {
            let whole = zip(&[fine()]);
            o.write_all(&whole[..whole.len() - 9])
        },
        bad(""),
    ),
    case("without entries", |o| o.write_all(&zip(&[])), Refused("empty_archive", "no entries")),
    case("only the first bytes", |o| o.write_all(b"PK\x03\x04"), bad("")),
    case(
        "behind a program",
        |o| {
            o.write_all(b"#!/bin/sh\nexit\n")?;
            o.write_all(&zip(&[fine()]))
        },
        Refused("unknown_format", "a self-extracting zip"),
    ),
];
