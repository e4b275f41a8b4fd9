//! Files with holes: their maps, and their sizes.

use crate::Expected::Unpacked;
use crate::tar::{Entry, entry, pax, tar};
use crate::{Case, bad, case, too_large};

fn v0(size: &'static str, map: &'static str) -> Entry {
    pax(b'x', &[("GNU.sparse.size", size.as_bytes()), ("GNU.sparse.map", map.as_bytes())])
}

fn v1(size: &'static str) -> Entry {
    pax(
        b'x',
        &[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"s"),
            ("GNU.sparse.realsize", size.as_bytes()),
        ],
    )
}

fn old(size: &[u8], parts: &[(&[u8], &[u8])]) -> Entry {
    let sparse = entry("s", b'S').contents(b"12345678").gnu().field(483, size);
    parts.iter().enumerate().fold(sparse, |sparse, (number, (offset, length))| {
        sparse.field(386 + 24 * number, offset).field(398 + 24 * number, length)
    })
}

fn eight() -> Entry {
    entry("s", b'0').contents(b"12345678")
}

pub(super) static CASES: &[Case] = &[
    case(
        "a hole of an exabyte",
        |o| tar(o, &[v0("1000000000000000000", "0,8"), eight()]),
        too_large("'s'"),
    ),
    case("a hole of 8 EB", |o| tar(o, &[v0("18446744073709551615", "0,8"), eight()]), bad("'s'")),
    case(
        "many holes together",
        |o| {
            let one = [v0("1000000000", "0,8"), eight()].map(|entry| entry.bytes()).concat();
            (0..70).try_for_each(|_| o.write_all(&one))?;
            tar(o, &[])
        },
        too_large("'s'"),
    ),
    case(
        "a hole of a gigabyte",
        |o| tar(o, &[v0("1000000000", "0,8"), eight()]),
        too_large("max_ratio"),
    ),
    case(
        "a hole of a gigabyte that is wanted",
        |o| tar(o, &[v0("1000000000", "0,8"), eight()]),
        Unpacked(&["s file 644"]),
    )
    .with(&[("max_ratio", 1_000_000)]),
    case("parts that overlap", |o| tar(o, &[v0("8", "0,4,2,4"), eight()]), bad("'s'")),
    case("parts in the wrong order", |o| tar(o, &[v0("80", "40,4,0,4"), eight()]), bad("'s'")),
    case("a part beyond the end", |o| tar(o, &[v0("4", "0,8"), eight()]), bad("'s'")),
    case(
        "a part beyond 64 bits",
        |o| tar(o, &[v0("80", "18446744073709551615,8"), eight()]),
        bad("'s'"),
    ),
    case("more parts than contents", |o| tar(o, &[v0("80", "0,4,10,40"), eight()]), bad("'s'")),
    case("half a part", |o| tar(o, &[v0("80", "0,8,9"), eight()]), bad("GNU.sparse.map")),
    case(
        "a map for every entry",
        |o| {
            let map = format!("0,8{}", ",8,0".repeat(250_000));
            tar(o, &[pax(b'g', &[("GNU.sparse.map", map.as_bytes())])])
        },
        crate::Expected::Refused("empty_archive", "no entries"),
    ),
    case(
        "a version that is not known",
        |o| {
            tar(
                o,
                &[pax(b'x', &[("GNU.sparse.major", b"7"), ("GNU.sparse.realsize", b"8")]), eight()],
            )
        },
        bad("'s'"),
    ),
    case(
        "a map that is cut off",
        |o| tar(o, &[v1("8"), entry("x", b'0').contents(b"3\n0\n")]),
        bad("'s'"),
    ),
    case(
        "a map of nonsense",
        |o| tar(o, &[v1("8"), entry("x", b'0').contents(&[b'x'; 512])]),
        bad("'s'"),
    ),
    case(
        "a map of too many parts",
        |o| {
            tar(o, &[v1("8"), entry("x", b'0').contents(&[&b"99999999\n"[..], &[0; 503]].concat())])
        },
        bad("'s'"),
    ),
    case(
        "a map in the header that goes on for ever",
        |o| tar(o, &[old(b"00000000010\0", &[]).field(482, b"\x01")]),
        bad("'s'"),
    ),
    case(
        "a negative part in the header",
        |o| tar(o, &[old(b"00000000010\0", &[(&[0xff; 12], b"00000000010\0")])]),
        bad("'s'"),
    ),
    case(
        "a negative size in the header",
        |o| tar(o, &[old(&[0xff; 12], &[(b"00000000000\0", b"00000000010\0")])]),
        bad("'s'"),
    ),
];
