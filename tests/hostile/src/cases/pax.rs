//! Extended headers that contradict each other, or themselves.

use crate::Expected::Unpacked;
use crate::tar::{entry, file, gnu_long, hard_link, pax, symlink, tar};
use crate::{Case, bad, case, unsafe_entry};

fn raw(records: &[u8]) -> crate::tar::Entry {
    entry("pax", b'x').contents(records)
}

pub(super) static CASES: &[Case] = &[
    case(
        "the last path counts",
        |o| tar(o, &[pax(b'x', &[("path", b"../victim/x"), ("path", b"fine")]), file("x")]),
        Unpacked(&["fine file 644"]),
    ),
    case(
        "the last path is hostile",
        |o| tar(o, &[pax(b'x', &[("path", b"fine"), ("path", b"../victim/x")]), file("x")]),
        unsafe_entry("../victim/x"),
    ),
    case(
        "PAX and GNU name it differently",
        |o| tar(o, &[gnu_long(b'L', "fine"), pax(b'x', &[("path", b"../victim/x")]), file("x")]),
        unsafe_entry("../victim/x"),
    ),
    case(
        "GNU and PAX name it differently",
        |o| tar(o, &[pax(b'x', &[("path", b"fine")]), gnu_long(b'L', "../victim/x"), file("x")]),
        Unpacked(&["fine file 644"]),
    ),
    case(
        "two GNU names",
        |o| tar(o, &[gnu_long(b'L', "../victim/x"), gnu_long(b'L', "fine"), file("x")]),
        Unpacked(&["fine file 644"]),
    ),
    case(
        "two PAX headers",
        |o| {
            tar(
                o,
                &[pax(b'x', &[("path", b"../victim/x")]), pax(b'x', &[("mtime", b"1")]), file("x")],
            )
        },
        Unpacked(&["x file 644"]),
    ),
    case(
        "a global between a header and its entry",
        |o| {
            tar(
                o,
                &[
                    pax(b'x', &[("path", b"fine")]),
                    pax(b'g', &[("path", b"../victim/x")]),
                    file("x"),
                ],
            )
        },
        Unpacked(&["fine file 644"]),
    ),
    case("a GNU name for nobody", |o| tar(o, &[file("a"), gnu_long(b'L', "b")]), bad("'a'")),
    case(
        "a PAX header for nobody",
        |o| tar(o, &[file("a"), pax(b'x', &[("path", b"b")])]),
        bad("'a'"),
    ),
    case(
        "an empty GNU name",
        |o| tar(o, &[entry("l", b'L'), file("x"), file("y")]),
        Unpacked(&["y file 644"]),
    ),
    case(
        "a GNU name without its NUL",
        |o| tar(o, &[entry("l", b'L').contents(b"fine"), file("x")]),
        Unpacked(&["fine file 644"]),
    ),
    case(
        "a GNU name with a NUL in it",
        |o| tar(o, &[entry("l", b'L').contents(b"fine\0/../../victim/x"), file("x")]),
        Unpacked(&["fine file 644"]),
    ),
    case(
        "a GNU target for a hard link",
        |o| tar(o, &[gnu_long(b'K', "../victim/file"), hard_link("h", "f")]),
        unsafe_entry("'h'"),
    ),
    case(
        "a GNU target for a file",
        |o| tar(o, &[gnu_long(b'K', "/etc/passwd"), file("x")]),
        Unpacked(&["x file 644"]),
    ),
    case(
        "a length beyond the header",
        |o| tar(o, &[raw(b"99 path=a\n"), file("x")]),
        bad("PAX header is damaged"),
    ),
    case(
        "a length of 0",
        |o| tar(o, &[raw(b"0 path=a\n"), file("x")]),
        bad("PAX header is damaged"),
    ),
    case(
        "a length of 1",
        |o| tar(o, &[raw(b"1 path=a\n"), file("x")]),
        bad("PAX header is damaged"),
    ),
    case(
        "a length of 2^64",
        |o| tar(o, &[raw(b"18446744073709551616 path=a\n"), file("x")]),
        bad("PAX header is damaged"),
    ),
    case(
        "a record without its end",
        |o| tar(o, &[raw(b"9 path=ab"), file("x")]),
        bad("PAX header is damaged"),
    ),
    case(
        "a record without a value",
        |o| tar(o, &[raw(b"7 path\n"), file("x")]),
        bad("PAX header is damaged"),
    ),
    case(
        "an owner of minus one",
        |o| tar(o, &[pax(b'x', &[("uid", b"-1")]), file("x")]),
        bad("uid"),
    ),
    case(
        "a time that is none",
        |o| tar(o, &[pax(b'x', &[("mtime", b"NaN")]), file("x")]),
        bad("mtime"),
    ),
    case(
        "a time beyond all times",
        |o| tar(o, &[pax(b'x', &[("mtime", b"9223372036854775807.999999999")]), file("x")]),
        Unpacked(&["x file 644"]),
    ),
    case(
        "a time before all times",
        |o| tar(o, &[pax(b'x', &[("mtime", b"-9223372036854775807.1")]), symlink("x", "y")]),
        Unpacked(&["x -> y"]),
    ),
    case(
        "attributes that nobody wants",
        |o| {
            tar(
                o,
                &[
                    pax(
                        b'x',
                        &[
                            ("SCHILY.xattr.security.capability", b"\x01\0\0\x02\xff\xff\xff\xff"),
                            ("SCHILY.acl.access", b"user::rwx"),
                            ("LIBARCHIVE.symlinktype", b"dir"),
                        ],
                    ),
                    file("x"),
                ],
            )
        },
        Unpacked(&["x file 644"]),
    ),
    case(
        "a header of 2 MiB",
        |o| tar(o, &[pax(b'x', &[("comment", &[b'c'; 2 << 20])]), file("x")]),
        bad("1 MiB"),
    ),
    case(
        "a path that is taken back",
        |o| {
            tar(
                o,
                &[pax(b'g', &[("path", b"../victim/x")]), pax(b'x', &[("path", b"")]), file("x")],
            )
        },
        Unpacked(&["x file 644"]),
    ),
];
