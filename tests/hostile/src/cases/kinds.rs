//! What is neither file nor directory nor link, and bits and owners that give rights away.

use crate::Expected::Unpacked;
use crate::tar::{dir, entry, file, pax, tar};
use crate::{Case, bad, case, unsafe_entry};

pub(super) static CASES: &[Case] = &[
    case(
        "a character device",
        |o| tar(o, &[entry("dev", b'3').field(329, b"0000001").field(337, b"0000003")]),
        unsafe_entry("dev"),
    ),
    case(
        "a block device",
        |o| tar(o, &[entry("dev", b'4').field(329, b"0000010")]),
        unsafe_entry("dev"),
    ),
    case("a FIFO", |o| tar(o, &[entry("pipe", b'6')]), unsafe_entry("pipe")),
    case(
        "a FIFO in the place of a file",
        |o| tar(o, &[file("x"), entry("x", b'6')]),
        unsafe_entry("x"),
    ),
    case(
        "the rest of another volume",
        |o| tar(o, &[entry("m", b'M').contents(b"x")]),
        unsafe_entry("'m'"),
    ),
    case(
        "an access control list of Solaris",
        |o| tar(o, &[entry("acl", b'A').contents(b"x")]),
        unsafe_entry("acl"),
    ),
    case(
        "names of old GNU tar",
        |o| tar(o, &[entry("n", b'N').contents(b"Rename /etc/passwd to x\n")]),
        unsafe_entry("'n'"),
    ),
    case("a type of 255", |o| tar(o, &[entry("t", 255)]), unsafe_entry("'t'")),
    case(
        "a contiguous file",
        |o| tar(o, &[entry("c", b'7').contents(b"x")]),
        Unpacked(&["c file 644"]),
    ),
    case(
        "a directory with a list of files",
        |o| tar(o, &[entry("d", b'D').contents(b"Yx\0\0"), file("d/x")]),
        Unpacked(&["d dir 644", "d/x file 644"]),
    ),
    case("a label", |o| tar(o, &[entry("label", b'V'), file("x")]), Unpacked(&["x file 644"])),
    // Whoever builds an archive is trusted with what the web user may do, not with root.
    case("a setuid program", |o| tar(o, &[file("sh").mode(0o6755)]), Unpacked(&["sh file 755"])),
    case(
        "a setuid program of somebody else",
        |o| tar(o, &[file("sh").mode(0o6755).owner(1, 1)]),
        Unpacked(&["sh file 755"]),
    ),
    case(
        "a sticky directory that passes its group on",
        |o| tar(o, &[dir("d").mode(0o3775), file("d/x")]),
        Unpacked(&["d dir 3775", "d/x file 644"]),
    ),
    case(
        "a directory that nobody may enter",
        |o| tar(o, &[dir("d").mode(0), file("d/x").mode(0)]),
        Unpacked(&["d dir 0", "d/x file 0"]),
    ),
    case(
        "an owner of -1",
        |o| {
            tar(
                o,
                &[
                    pax(b'x', &[("uid", b"4294967295"), ("gid", b"4294967295")]),
                    file("x").mode(0o4755),
                ],
            )
        },
        bad("uid"),
    ),
    case(
        "an owner whose name is a megabyte",
        |o| tar(o, &[pax(b'x', &[("uname", &[b'u'; 1_000_000])]), file("x")]),
        Unpacked(&["x file 644"]),
    ),
];
