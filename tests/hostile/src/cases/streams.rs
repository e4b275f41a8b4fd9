//! Compressed streams: bombs, damage, and what stands before, between and behind them.

use std::io::Write;

use crate::Expected::{Refused, Unpacked};
use crate::packed::{bytes, bzip2, gzip, xz, zeros, zstd};
use crate::tar::{self, END, entry, file, tar};
use crate::{Case, bad, case, too_large};

/// What a bomb may become here; the default is for honest archives.
const SMALL: &[(&str, u64)] = &[("max_bytes", 2 << 20)];
/// What it becomes.
const BOMB: u64 = 4 << 30;

/// A file of zeros.
fn bomb(out: &mut dyn Write) -> std::io::Result<()> {
    out.write_all(&entry("bomb", b'0').claims(BOMB).bytes())?;
    zeros(out, 12 << 20)
}

fn two() -> Vec<u8> {
    tar::bytes(&[file("a"), file("b")])
}

/// Without its last bytes, in which the checksum is.
fn cut(packed: Vec<u8>) -> Vec<u8> {
    packed[..packed.len() - 6].to_vec()
}

fn flipped(mut packed: Vec<u8>) -> Vec<u8> {
    let checksum = packed.len() - 6;
    packed[checksum] ^= 0x10;
    packed
}

const BOTH: crate::Expected = Unpacked(&["a file 644", "b file 644"]);

pub(super) static CASES: &[Case] = &[
    case("a bomb in gzip", |o| gzip(o, &bomb), too_large("bomb")).with(SMALL),
    case("a bomb in zstd", |o| zstd(o, &bomb), too_large("bomb")).with(SMALL),
    case("a bomb in xz", |o| xz(o, &bomb), too_large("bomb")).with(SMALL),
    case("a bomb in bzip2", |o| bzip2(o, &bomb), too_large("bomb")).with(SMALL),
    case(
        "a bomb that its ratio gives away",
        |o| {
            zstd(o, &|o| {
                o.write_all(&entry("bomb", b'0').claims(80 << 20).bytes())?;
                zeros(o, 80 << 20)?;
                o.write_all(&END)
            })
        },
        too_large("max_ratio"),
    ),
    case(
        "a bomb of nothing behind the end",
        |o| {
            gzip(o, &|o| {
                tar(o, &[file("a")])?;
                zeros(o, 12 << 20)
            })
        },
        too_large("'a'"),
    )
    .with(SMALL),
    case(
        "gzip in gzip",
        |o| gzip(o, &|o| gzip(o, &|o| tar(o, &[file("a")]))),
        Refused("unknown_format", "does not contain a tar"),
    ),
    case(
        "no tar in gzip",
        |o| gzip(o, &|o| o.write_all(&[b'x'; 4096])),
        Refused("unknown_format", "does not contain a tar"),
    ),
    case("only zeros", |o| zeros(o, 1 << 20), Refused("empty_archive", "no entries")),
    case(
        "an end in the first block",
        |o| {
            o.write_all(&END)?;
            tar(o, &[file("a")])
        },
        Refused("empty_archive", "no entries"),
    ),
    case("gzip that is cut off", |o| o.write_all(&cut(bytes(gzip, &two()))), bad("truncated")),
    case("zstd that is cut off", |o| o.write_all(&cut(bytes(zstd, &two()))), bad("truncated")),
    case("xz that is cut off", |o| o.write_all(&cut(bytes(xz, &two()))), bad("truncated")),
    case("bzip2 that is cut off", |o| o.write_all(&cut(bytes(bzip2, &two()))), bad("truncated")),
    case("a flipped bit in gzip", |o| o.write_all(&flipped(bytes(gzip, &two()))), bad("damaged")),
    case("a flipped bit in xz", |o| o.write_all(&flipped(bytes(xz, &two()))), bad("damaged")),
    case("a flipped bit in bzip2", |o| o.write_all(&flipped(bytes(bzip2, &two()))), bad("damaged")),
    case("a plain tar without its end", |o| o.write_all(&two()[..1024]), bad("'a'")),
    case("a plain tar cut in its contents", |o| o.write_all(&two()[..1024 + 514]), bad("'b'")),
    case(
        "a plain tar with something behind it",
        |o| {
            o.write_all(&two())?;
            o.write_all(b"and so on, for more than a header")
        },
        BOTH,
    ),
    case(
        "an archive behind an archive",
        |o| {
            tar(o, &[file("a"), file("b")])?;
            tar(o, &[file("../victim/x")])
        },
        BOTH,
    ),
    case(
        "gzip with something behind it",
        |o| {
            o.write_all(&bytes(gzip, &two()))?;
            o.write_all(b"and so on, for more than a header")
        },
        bad("damaged"),
    ),
    case(
        "gzip in several members",
        |o| {
            let tar = two();
            tar.chunks(700).try_for_each(|part| o.write_all(&bytes(gzip, part)))
        },
        BOTH,
    ),
    case(
        "a member behind the end",
        |o| {
            o.write_all(&bytes(gzip, &two()))?;
            gzip(o, &|o| tar(o, &[file("../victim/x")]))
        },
        BOTH,
    ),
    case(
        "20,000 members of nothing",
        |o| {
            let nothing = bytes(gzip, b"");
            (0..20_000).try_for_each(|_| o.write_all(&nothing))?;
            o.write_all(&bytes(gzip, &two()))
        },
        BOTH,
    ),
    case(
        "20,000 frames that are skipped",
        |o| {
            (0..20_000).try_for_each(|_| o.write_all(b"\x50\x2a\x4d\x18\x02\0\0\0xx"))?;
            o.write_all(&bytes(zstd, &two()))
        },
        BOTH,
    ),
    case(
        "a name in gzip that never ends",
        |o| {
            o.write_all(b"\x1f\x8b\x08\x08\0\0\0\0\0\x03")?;
            o.write_all(&vec![b'n'; 8 << 20])
        },
        bad("damaged"),
    ),
    case(
        "a window of 2 GB in zstd",
        |o| o.write_all(b"\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00"),
        too_large("window"),
    ),
    case(
        "a dictionary of 1.5 GB in xz",
        |o| {
            // The dictionary's size in the header of the first block, and that header's CRC-32.
            let mut packed = bytes(xz, &two());
            packed[16] = 39;
            let mut crc = flate2::Crc::new();
            crc.update(&packed[12..20]);
            packed[20..24].copy_from_slice(&crc.sum().to_le_bytes());
            o.write_all(&packed)
        },
        too_large("window"),
    ),
    case(
        "nothing in gzip",
        |o| gzip(o, &|_| Ok(())),
        Refused("unknown_format", "does not contain a tar"),
    ),
    case("the beginning of gzip", |o| o.write_all(b"\x1f\x8b"), bad("truncated")),
];
