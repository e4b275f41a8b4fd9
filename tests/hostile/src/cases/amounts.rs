//! Small archives that are a lot of work.

use std::io::{self, Write};

use crate::Expected::Many;
use crate::case;
use crate::packed::zstd;
use crate::tar::{Entry, dir, entry, file, gnu_long, hard_link, pax, symlink, tar};
use crate::{Case, too_large};

/// Enough to see that nothing grows with the square. A million takes half a minute.
const MANY: usize = 5_000;

fn many(out: &mut dyn Write, count: usize, one: fn(usize) -> Entry) -> io::Result<()> {
    zstd(out, &|out| {
        (0..count).try_for_each(|number| out.write_all(&one(number).bytes()))?;
        tar(out, &[file("last")])
    })
}

pub(super) static CASES: &[Case] = &[
    case("5,000 empty directories", |o| many(o, MANY, |n| dir(format!("{n}"))), Many(MANY + 1)),
    case(
        "5,000 empty directories in one another's company",
        |o| many(o, MANY, |n| dir(format!("{}/{}/{n}", n % 7, n % 97))),
        Many(MANY + 7 + 7 * 97 + 1),
    ),
    case("5,000 times the same directory", |o| many(o, MANY, |_| dir("d")), Many(2)),
    case("5,000 times the same file", |o| many(o, MANY, |_| file("f")), Many(2)),
    case(
        "a file and a link in turn",
        |o| {
            many(o, 5_000, |n| match n % 3 {
                0 => file("f"),
                1 => symlink("f", "../../../victim/file"),
                _ => dir("f"),
            })
        },
        Many(2),
    ),
    case(
        "5,000 hard links",
        |o| {
            many(o, 5_000, |n| match n {
                0 => file("f"),
                n => hard_link(format!("{n}"), "f"),
            })
        },
        Many(5_001),
    ),
    case(
        "a file below each of many directories",
        |o| many(o, 5_000, |n| file(format!("{n}/x"))),
        Many(10_001),
    ),
    case(
        "closed directories that fill the memory",
        |o| {
            zstd(o, &|out| {
                let above = format!("{}/", "n".repeat(250)).repeat(15);
                for number in 0..4_000 {
                    out.write_all(&gnu_long(b'L', format!("{above}{number}")).bytes())?;
                    out.write_all(&dir("d").mode(0).bytes())?;
                }
                tar(out, &[])
            })
        },
        too_large("u+rwx"),
    ),
    case(
        "more entries than are allowed",
        |o| many(o, 1001, |n| file(format!("{n}"))),
        too_large("entries"),
    )
    .with(&[("max_entries", 1000)]),
    case(
        "entries that are left out count, too",
        |o| many(o, 1001, |_| entry(".", b'5')),
        too_large("entries"),
    )
    .with(&[("max_entries", 1000)]),
    case(
        "directories that no entry stands for count, too",
        |o| many(o, 30, |n| file(format!("{n}/{}x", "d/".repeat(40)))),
        too_large("max_entries"),
    )
    .with(&[("max_entries", 1000)]),
    case(
        "files that are overwritten when it is not known any more that they were written",
        |o| {
            let large = vec![b'x'; 128 << 10];
            zstd(o, &|out| {
                let name = |number| format!("{}/{number}", number % 50);
                (0..800).try_for_each(|n| out.write_all(&file(name(n)).bytes()))?;
                // Whatever is a hard link waits until all is written.
                out.write_all(&hard_link("again", name(0)).bytes())?;
                (0..800)
                    .try_for_each(|n| out.write_all(&file(name(n)).contents(&large).bytes()))?;
                tar(out, &[])
            })
        },
        Many(851),
    )
    .with(&[("max_ratio", 1_000_000)]),
    case(
        "headers that never come to an entry",
        |o| {
            zstd(o, &|out| {
                let header = pax(b'x', &[("comment", &[b'c'; 512 << 10])]).bytes();
                (0..100).try_for_each(|_| out.write_all(&header))
            })
        },
        too_large("limit"),
    )
    .with(&[("max_bytes", 32 << 20)]),
    case(
        "256 names of users of a megabyte each",
        |o| {
            zstd(o, &|out| {
                for number in 0..256 {
                    let name = [format!("{number:03}").as_bytes(), &[b'u'; 1_000_000]].concat();
                    out.write_all(&pax(b'x', &[("uname", &name)]).bytes())?;
                    out.write_all(&file(format!("{number}")).bytes())?;
                }
                tar(out, &[])
            })
        },
        Many(256),
    )
    .with(&[("max_ratio", 1_000_000)]),
    case(
        "a large header for all of many entries",
        |o| {
            zstd(o, &|out| {
                let map = "0,8,".repeat(130_000) + "8,0";
                out.write_all(
                    &pax(b'g', &[("GNU.sparse.map", map.as_bytes()), ("linkpath", &[b'l'; 4000])])
                        .bytes(),
                )?;
                (0..5_000)
                    .try_for_each(|number| out.write_all(&dir(format!("{number}")).bytes()))?;
                tar(out, &[])
            })
        },
        Many(5_000),
    ),
];
