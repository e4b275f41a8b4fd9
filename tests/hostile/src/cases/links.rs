//! Links, and what comes after them.

use crate::Expected::Unpacked;
use crate::tar::{dir, entry, file, gnu_long, hard_link, pax, symlink, tar};
use crate::{Case, bad, case, unsafe_entry};

pub(super) static CASES: &[Case] = &[
    case(
        "a link out is a link",
        |o| tar(o, &[symlink("l", "../../../victim")]),
        Unpacked(&["l -> ../../../victim"]),
    ),
    case(
        "a file through a link",
        |o| tar(o, &[symlink("l", "../../../victim"), file("l/x")]),
        unsafe_entry("l/x"),
    ),
    case(
        "a file through an absolute link",
        |o| tar(o, &[symlink("l", "/tmp"), file("l/x")]),
        unsafe_entry("l/x"),
    ),
    case(
        "a file through a link to here",
        |o| tar(o, &[symlink("l", "."), file("l/x")]),
        unsafe_entry("l/x"),
    ),
    case(
        "a file through a link inside",
        |o| tar(o, &[dir("d"), symlink("l", "d"), file("l/x")]),
        unsafe_entry("l/x"),
    ),
    case(
        "a file through two links",
        |o| tar(o, &[symlink("a", ".."), symlink("b", "a/../.."), file("b/victim/x")]),
        unsafe_entry("b/victim/x"),
    ),
    case(
        "a file deep below a link",
        |o| tar(o, &[symlink("d/l", "../../.."), file("d/l/a/b/c/x")]),
        unsafe_entry("d/l/a/b/c/x"),
    ),
    case(
        "a link through a link",
        |o| tar(o, &[symlink("l", ".."), symlink("l/x", "/")]),
        unsafe_entry("l/x"),
    ),
    case(
        "a directory through a link",
        |o| tar(o, &[symlink("l", ".."), dir("l/x")]),
        unsafe_entry("l/x"),
    ),
    case(
        "a hard link through a link",
        |o| tar(o, &[file("f"), symlink("l", ".."), hard_link("l/x", "f")]),
        unsafe_entry("l/x"),
    ),
    case(
        "a path with dots through a link",
        |o| tar(o, &[symlink("l", ".."), file("l/./x")]),
        unsafe_entry("l/x"),
    ),
    case(
        "a link with a slash at its end",
        |o| tar(o, &[symlink("l/", "../../../victim"), file("l/x")]),
        unsafe_entry("l/x"),
    ),
    case(
        "a file in the place of a link",
        |o| tar(o, &[symlink("l", "../../../victim/file"), file("l")]),
        Unpacked(&["l file 644"]),
    ),
    case(
        "a directory in the place of a link",
        |o| tar(o, &[symlink("l", "../../../victim"), dir("l").mode(0o777), file("l/x")]),
        Unpacked(&["l dir 777", "l/x file 644"]),
    ),
    case(
        "a link in the place of an empty directory",
        |o| tar(o, &[dir("d"), symlink("d", "../../../victim"), file("d/x")]),
        unsafe_entry("d/x"),
    ),
    case(
        "a link in the place of a full directory",
        |o| tar(o, &[file("d/y"), symlink("d", "../../../victim"), file("d/x")]),
        bad("'d'"),
    ),
    case(
        "the mode of a directory that has become a link",
        |o| tar(o, &[dir("d").mode(0o777), symlink("d", "../../../victim")]),
        Unpacked(&["d -> ../../../victim"]),
    ),
    case(
        "the root as a link",
        |o| tar(o, &[symlink(".", "../../../victim"), file("x")]),
        Unpacked(&["x file 644"]),
    ),
    case("an empty target", |o| tar(o, &[symlink("l", "")]), unsafe_entry("'l'")),
    case(
        "a target with a NUL",
        |o| tar(o, &[pax(b'x', &[("linkpath", b"a\0b")]), symlink("l", "x")]),
        unsafe_entry("'l'"),
    ),
    case(
        "a target of a megabyte",
        |o| tar(o, &[gnu_long(b'K', "t".repeat(1_000_000)), symlink("l", "x")]),
        unsafe_entry("'l'"),
    ),
    case(
        "a link with contents",
        |o| tar(o, &[entry("l", b'2').field(157, b"t").contents(&[b'x'; 600]), file("y")]),
        Unpacked(&["l -> t", "y file 644"]),
    ),
    case(
        "a hard link to outside",
        |o| tar(o, &[hard_link("h", "../victim/file")]),
        unsafe_entry("'h'"),
    ),
    case(
        "a hard link to an absolute path",
        |o| tar(o, &[hard_link("h", "/etc/passwd")]),
        unsafe_entry("'h'"),
    ),
    case(
        "a hard link to outside through PAX",
        |o| tar(o, &[pax(b'x', &[("linkpath", b"/etc/passwd")]), hard_link("h", "f")]),
        unsafe_entry("'h'"),
    ),
    case(
        "a hard link to what a link leads to",
        |o| tar(o, &[symlink("l", "../../.."), hard_link("h", "l/victim/file")]),
        unsafe_entry("l/victim/file"),
    ),
    case(
        "a hard link to a link",
        |o| tar(o, &[symlink("l", "../../../victim/file"), hard_link("h", "l"), file("h")]),
        Unpacked(&["h file 644", "l -> ../../../victim/file"]),
    ),
    case("a hard link to a directory", |o| tar(o, &[dir("d"), hard_link("h", "d")]), bad("'h'")),
    case("a hard link to itself", |o| tar(o, &[hard_link("h", "h")]), bad("'h'")),
    case(
        "a hard link to what comes later",
        |o| tar(o, &[hard_link("h", "f"), file("f")]),
        bad("'h'"),
    ),
    case(
        "a hard link with contents",
        |o| tar(o, &[file("f"), hard_link("h", "f").claims(5), file("y")]),
        Unpacked(&["f file 644", "h file 644", "y file 644"]),
    ),
    case(
        "a file in the place of a hard link",
        |o| tar(o, &[file("f").mode(0o600), hard_link("h", "f"), file("h").mode(0o666)]),
        Unpacked(&["f file 600", "h file 666"]),
    ),
    case(
        "a link's mode",
        |o| {
            tar(
                o,
                &[
                    symlink("l", "../../../victim/file").mode(0o4777),
                    symlink("l", "../../../victim/file"),
                ],
            )
        },
        Unpacked(&["l -> ../../../victim/file"]),
    ),
];
