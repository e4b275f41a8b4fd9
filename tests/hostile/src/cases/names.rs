//! Names that lead elsewhere, or that some program on the way takes for something else.

use crate::Expected::{Refused, Unpacked};
use crate::tar::{dir, file, gnu_long, pax, tar};
use crate::{Case, bad, case, unsafe_entry};

/// As many names as the longest path that is accepted may have.
const DEEP: usize = 256;

pub(super) static CASES: &[Case] = &[
    case("absolute", |o| tar(o, &[file("/tmp/x")]), unsafe_entry("/tmp/x")),
    case("absolute with many slashes", |o| tar(o, &[file("///tmp/x")]), unsafe_entry("///tmp/x")),
    case("absolute directory", |o| tar(o, &[dir("/")]), unsafe_entry("'/'")),
    case(
        "absolute behind a dot",
        |o| tar(o, &[file(".//tmp/x")]),
        Unpacked(&["tmp dir 755", "tmp/x file 644"]),
    ),
    case("parent", |o| tar(o, &[file("../victim/x")]), unsafe_entry("../victim/x")),
    case(
        "parent in the middle",
        |o| tar(o, &[file("a/../../victim/x")]),
        unsafe_entry("a/../../victim/x"),
    ),
    case("parent that comes back", |o| tar(o, &[file("a/../b")]), unsafe_entry("a/../b")),
    case("parent at the end", |o| tar(o, &[dir("a/..")]), unsafe_entry("a/..")),
    case(
        "parent behind dots",
        |o| tar(o, &[file("./.././victim/x")]),
        unsafe_entry("./.././victim/x"),
    ),
    case("parent alone", |o| tar(o, &[dir("..")]), unsafe_entry("'..'")),
    case(
        "parent after good ones",
        |o| tar(o, &[file("a"), file("b"), file("../victim/x")]),
        unsafe_entry("../victim/x"),
    ),
    case(
        "parent in the prefix",
        |o| tar(o, &[file("x").field(345, b"../victim")]),
        unsafe_entry("../victim/x"),
    ),
    case("absolute prefix", |o| tar(o, &[file("x").field(345, b"/tmp")]), unsafe_entry("/tmp/x")),
    case(
        "GNU's prefix is none",
        |o| tar(o, &[file("x").field(345, b"../victim").gnu()]),
        Unpacked(&["x file 644"]),
    ),
    case(
        "parent in a GNU long name",
        |o| tar(o, &[gnu_long(b'L', "../victim/x"), file("fine")]),
        unsafe_entry("../victim/x"),
    ),
    case(
        "parent in a PAX path",
        |o| tar(o, &[pax(b'x', &[("path", b"../victim/x")]), file("fine")]),
        unsafe_entry("../victim/x"),
    ),
    case(
        "parent in a global PAX path",
        |o| tar(o, &[pax(b'g', &[("path", b"../victim/x")]), file("fine")]),
        unsafe_entry("../victim/x"),
    ),
    case(
        "parent in a sparse file's name",
        |o| tar(o, &[pax(b'x', &[("GNU.sparse.name", b"../victim/x")]), file("fine")]),
        unsafe_entry("../victim/x"),
    ),
    case(
        "dots that are no parent",
        |o| tar(o, &[file("..."), file(".. /x"), file("..x")]),
        Unpacked(&["..  dir 755", ".. /x file 644", "... file 644", "..x file 644"]),
    ),
    case(
        "backslashes",
        |o| tar(o, &[file("..\\victim\\x")]),
        Unpacked(&["..\\\\victim\\\\x file 644"]),
    ),
    case(
        "a drive",
        |o| tar(o, &[file("C:/x"), file("C:y")]),
        Unpacked(&["C: dir 755", "C:/x file 644", "C:y file 644"]),
    ),
    case(
        "overlong UTF-8 of dots and slash",
        |o| tar(o, &[file(b"\xc0\xae\xc0\xae\xc0\xafx")]),
        Unpacked(&["\\xc0\\xae\\xc0\\xae\\xc0\\xafx file 644"]),
    ),
    case(
        "full-width dots",
        |o| tar(o, &[file("．．/x")]),
        Unpacked(&[
            "\\xef\\xbc\\x8e\\xef\\xbc\\x8e dir 755",
            "\\xef\\xbc\\x8e\\xef\\xbc\\x8e/x file 644",
        ]),
    ),
    case(
        "line feeds and escapes",
        |o| tar(o, &[file("a\nb\x1b[2Jc")]),
        Unpacked(&["a\\nb\\x1b[2Jc file 644"]),
    ),
    case(
        "an escape in a refused name",
        |o| tar(o, &[file("../\x1b]0;evil\x07")]),
        unsafe_entry("../\\u{1b}]0;evil\\u{7}"),
    ),
    case("invalid UTF-8", |o| tar(o, &[file(b"a\xff\xfe")]), Unpacked(&["a\\xff\\xfe file 644"])),
    case(
        "a name of an option",
        |o| tar(o, &[file("-rf"), file("--checkpoint-action=exec=sh")]),
        Unpacked(&["--checkpoint-action=exec=sh file 644", "-rf file 644"]),
    ),
    case("an empty name", |o| tar(o, &[file(""), file("x")]), Unpacked(&["x file 644"])),
    case("a file that is the root", |o| tar(o, &[file("."), file("x")]), Unpacked(&["x file 644"])),
    case(
        "a NUL in a PAX path",
        |o| tar(o, &[pax(b'x', &[("path", b"x\0/../../victim/y")]), file("fine")]),
        unsafe_entry("x\\0"),
    ),
    case(
        "a name of 256 bytes",
        |o| tar(o, &[pax(b'x', &[("path", &[b'n'; 256])]), file("x")]),
        Refused("io", "nnnn"),
    ),
    case(
        "a path of 5000 bytes",
        |o| tar(o, &[pax(b'x', &[("path", "n/".repeat(2500).as_bytes())]), file("x")]),
        unsafe_entry("n/n/n"),
    ),
    case(
        "a path of a megabyte",
        |o| tar(o, &[pax(b'x', &[("path", "n/".repeat(500_000).as_bytes())]), file("x")]),
        unsafe_entry("n/n/n"),
    ),
    case(
        "too deep",
        |o| tar(o, &[pax(b'x', &[("path", "d/".repeat(DEEP + 1).as_bytes())]), file("x")]),
        unsafe_entry("d/d/d"),
    ),
    case(
        "letters that differ in case",
        |o| tar(o, &[file("Readme"), file("README"), file("A/x"), file("a")]),
        Unpacked(&[
            "A dir 755",
            "A/x file 644",
            "README file 644",
            "Readme file 644",
            "a file 644",
        ]),
    ),
    case("an entry below a file", |o| tar(o, &[file("a"), file("a/b")]), bad("a/b")),
];
