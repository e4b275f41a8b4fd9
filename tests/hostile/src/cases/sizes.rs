//! Sizes that are lies.

use crate::Expected::Unpacked;
use crate::tar::{dir, entry, file, pax, tar};
use crate::{Case, bad, case, too_large};

const NEGATIVE: [u8; 12] = [0xff; 12];
const HUGE: [u8; 12] = [0x80, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];

pub(super) static CASES: &[Case] = &[
    case("4 GB that are not there", |o| tar(o, &[file("big").claims(4 << 30)]), bad("big")),
    case("8 GB in octal", |o| tar(o, &[file("big").field(124, b"77777777777\0")]), bad("big")),
    case("8 EB in base 256", |o| tar(o, &[file("big").claims(i64::MAX as u64)]), too_large("big")),
    case("more than any number has", |o| tar(o, &[file("big").field(124, &HUGE)]), bad("big")),
    case("a negative size", |o| tar(o, &[file("neg").field(124, &NEGATIVE)]), bad("neg")),
    case("a minus sign", |o| tar(o, &[file("neg").field(124, b"-0000000001\0")]), bad("neg")),
    case(
        "a size of nonsense",
        |o| tar(o, &[file("odd").field(124, b"0x10\0\0\0\0\0\0\0\0")]),
        bad("odd"),
    ),
    case(
        "a size of blanks",
        |o| tar(o, &[entry("x", b'0').field(124, b"            "), file("y")]),
        Unpacked(&["x file 644", "y file 644"]),
    ),
    case(
        "a directory with contents",
        |o| tar(o, &[dir("d").contents(&[b'x'; 1000]), file("d/x")]),
        Unpacked(&["d dir 755", "d/x file 644"]),
    ),
    case("a directory of 4 GB", |o| tar(o, &[dir("d").claims(4 << 30)]), bad("'d'")),
    case(
        "a PAX size of more",
        |o| tar(o, &[pax(b'x', &[("size", b"5000")]), file("x")]),
        bad("'x'"),
    ),
    case(
        "a PAX size of less hides a header",
        |o| {
            tar(
                o,
                &[
                    pax(b'x', &[("size", b"0")]),
                    entry("x", b'0').contents(&file("../hidden").bytes()),
                ],
            )
        },
        crate::unsafe_entry("../hidden"),
    ),
    case("a PAX size of -1", |o| tar(o, &[pax(b'x', &[("size", b"-1")]), file("x")]), bad("size")),
    case(
        "a PAX size beyond 64 bits",
        |o| tar(o, &[pax(b'x', &[("size", b"18446744073709551616")]), file("x")]),
        bad("size"),
    ),
    case(
        "a PAX size of 64 bits",
        |o| tar(o, &[pax(b'x', &[("size", b"18446744073709551615")]), file("x")]),
        too_large("'x'"),
    ),
    case(
        "a long name of 8 GB",
        |o| tar(o, &[entry("l", b'L').field(124, b"77777777777\0"), file("x")]),
        bad("1 MiB"),
    ),
    case(
        "a wrong checksum",
        |o| tar(o, &[file("a"), file("b").field(148, b"0000001\0").without_checksum()]),
        bad("'a'"),
    ),
];
