//! What tar can say, and what becomes of it.

use std::os::unix::fs::MetadataExt;

use crate::common::*;
use oxistrano_archive::{Pattern, UnpackOptions};
use oxistrano_core::{Mode, users};

fn plain() -> UnpackOptions {
    UnpackOptions::default()
}

fn unpacked(archive: Raw, options: &UnpackOptions) -> Scratch {
    let scratch = Scratch::new();
    scratch.unpack(&archive.end(), options).unwrap();
    scratch
}

fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:")).unwrap();
    u32::from_str_radix(umask.trim(), 8).unwrap()
}

#[test]
fn modes_are_those_of_the_archive_whatever_the_umask() {
    let mode = |name, mode: &'static str| {
        move |raw: Raw| raw.with(name, b'0', b"", |h| h[100..107].copy_from_slice(mode.as_bytes()))
    };
    let archive =
        mode("b", "0000444")(mode("a", "0000666")(Raw::new())).dir("d/", 0o777).dir("e/", 0o1777);
    let scratch = unpacked(archive.clone(), &plain());
    let modes = ["a", "b", "d", "e"].map(|name| scratch.mode(name));
    assert_eq!(modes, [0o666, 0o444, 0o777, 0o1777]);
    let scratch = unpacked(archive.clone(), &UnpackOptions { apply_umask: true, ..plain() });
    let modes = ["a", "b", "d", "e"].map(|name| scratch.mode(name));
    assert_eq!(modes, [0o666, 0o444, 0o777, 0o777].map(|mode| mode & !umask()));
    let wanted = Mode::parse("u=rwX,go=rX").ok();
    let options =
        UnpackOptions { mode: Some(Mode::Fixed(0o600)), directory_mode: wanted, ..plain() };
    let scratch = unpacked(archive.file("x/y", b""), &options);
    let modes = ["a", "b", "d", "e", "x", "x/y"].map(|name| scratch.mode(name));
    assert_eq!(modes, [0o600, 0o600, 0o755, 0o755, 0o755, 0o600]);
}

#[test]
fn set_id_bits_are_kept_only_with_their_owner() {
    let archive = Raw::new()
        .with("s", b'0', b"x", |h| h[100..107].copy_from_slice(b"0006755"))
        .dir("g/", 0o2755);
    let scratch = unpacked(archive.clone(), &plain());
    assert_eq!([scratch.mode("s"), scratch.mode("g")], [0o755, 0o755]);
    if !users::is_root() {
        return;
    }
    let owners = || UnpackOptions { preserve_owner: true, ..plain() };
    let scratch = unpacked(archive.clone(), &owners());
    assert_eq!([scratch.mode("s"), scratch.mode("g")], [0o755, 0o2755]);
    let scratch = unpacked(archive.clone(), &UnpackOptions { set_id: true, ..owners() });
    assert_eq!([scratch.mode("s"), scratch.mode("g")], [0o6755, 0o2755]);
    let owner = UnpackOptions { preserve_owner: true, owner: Some(33), group: Some(34), ..plain() };
    let scratch = unpacked(archive.file("made/x", b"").link("l", b'2', "s"), &owner);
    assert_eq!([scratch.mode("s"), scratch.mode("g")], [0o755, 0o2755]);
    for path in ["s", "g", "made", "made/x", "l"] {
        assert_eq!((scratch.meta(path).uid(), scratch.meta(path).gid()), (33, 34), "{path}");
    }
}

#[test]
fn the_directory_itself_gets_what_the_archive_says_of_it() {
    let archive = Raw::new().dir("./", 0o750).file("./x", b"");
    assert_eq!(unpacked(archive.clone(), &plain()).mode("."), 0o750);
    // Whoever unpacks can still write into it.
    let closed = Raw::new().dir("./", 0o050).file("./x", b"");
    assert_eq!(unpacked(closed, &plain()).mode("."), 0o750);
    if users::is_root() {
        let owner = UnpackOptions { preserve_owner: true, owner: Some(33), ..plain() };
        assert_eq!(unpacked(archive, &owner).meta(".").uid(), 33);
    }
}

#[test]
fn owners_are_found_by_name_then_by_number() {
    if !users::is_root() {
        return;
    }
    let archive = Raw::new()
        .with("known", b'0', b"", |h| {
            h[108..115].copy_from_slice(b"0001750");
            h[265..269].copy_from_slice(b"root");
        })
        .with("unknown", b'0', b"", |h| {
            h[108..115].copy_from_slice(b"0001750");
            h[116..123].copy_from_slice(b"0001751");
            h[265..272].copy_from_slice(b"no-such");
        })
        .pax(b'x', &[("uid", "3000000"), ("gid", "3000001")])
        .file("large", b"");
    let scratch = unpacked(archive.clone(), &UnpackOptions { preserve_owner: true, ..plain() });
    let owner = |name| (scratch.meta(name).uid(), scratch.meta(name).gid());
    assert_eq!(owner("known").0, 0);
    assert_eq!(owner("unknown"), (1000, 1001));
    assert_eq!(owner("large"), (3_000_000, 3_000_001));
    let scratch = unpacked(archive, &plain());
    assert_eq!(scratch.meta("unknown").uid(), 0);
}

#[test]
fn directories_that_no_entry_mentions_belong_to_whoever_unpacks_or_to_the_owner_wanted() {
    if !users::is_root() {
        eprintln!("NOT CHECKED without root: owners of directories");
        return;
    }
    let owned = |h: &mut [u8]| {
        h[108..115].copy_from_slice(b"0001750");
        h[116..123].copy_from_slice(b"0001751");
    };
    let archive = Raw::new()
        .with("a/b/first", b'0', b"x", |h| owned(h))
        .with("c/d/", b'5', b"", |h| owned(h))
        // Entered again, when it has its owner.
        .with("a/b/second", b'0', b"x", |h| owned(h))
        .with("e/f", b'2', b"", |h| {
            owned(h);
            h[157..161].copy_from_slice(b"x\0\0\0");
        });
    let owner = |scratch: &Scratch, name| (scratch.meta(name).uid(), scratch.meta(name).gid());
    let own = (users::current(), rustix::process::getegid().as_raw());
    let keep = || UnpackOptions { preserve_owner: true, ..plain() };
    for (options, wanted) in [
        (keep(), own),
        (UnpackOptions { owner: Some(33), ..keep() }, (33, own.1)),
        (UnpackOptions { group: Some(33), ..keep() }, (own.0, 33)),
    ] {
        let ids = (options.owner.unwrap_or(1000), options.group.unwrap_or(1001));
        let scratch = unpacked(archive.clone(), &options);
        for name in ["a", "a/b", "c", "e"] {
            assert_eq!(owner(&scratch, name), wanted, "{name}");
        }
        for name in ["a/b/first", "c/d", "a/b/second", "e/f"] {
            assert_eq!(owner(&scratch, name), ids, "{name}");
        }
    }
    // In a directory that passes its group on, that group.
    use std::os::unix::fs::{PermissionsExt, chown};
    let scratch = Scratch::new();
    chown(scratch.out(), None, Some(33)).unwrap();
    std::fs::set_permissions(scratch.out(), std::fs::Permissions::from_mode(0o2755)).unwrap();
    scratch.unpack(&archive.end(), &keep()).unwrap();
    assert_eq!(owner(&scratch, "a/b"), (own.0, 33));
}

#[test]
fn times_are_kept_also_of_directories_and_links() {
    let archive = Raw::new()
        .dir("d/", 0o755)
        .pax(b'x', &[("mtime", "1234567890.987654321")])
        .file("d/x", b"")
        .link("d/l", b'2', "x")
        .pax(b'x', &[("mtime", "-5.5")])
        .dir("d/old/", 0o755)
        .file("d/old/y", b"");
    let scratch = unpacked(archive, &plain());
    let time = |name| (scratch.meta(name).mtime(), scratch.meta(name).mtime_nsec());
    assert_eq!(time("d"), (1_000_000, 0));
    assert_eq!(time("d/x"), (1_234_567_890, 987_654_321));
    assert_eq!(time("d/l"), (1_000_000, 0));
    assert_eq!(time("d/old"), (-6, 500_000_000));
}

#[test]
fn directories_may_close_before_their_entries_come() {
    let archive = Raw::new()
        .dir("locked/", 0o000)
        .dir("locked/in/", 0o500)
        .file("locked/in/file", b"x")
        .file("locked/file", b"x")
        .file("made/file", b"x")
        .dir("made/", 0o000);
    let scratch = unpacked(archive, &plain());
    assert_eq!([scratch.mode("locked"), scratch.mode("made")], [0, 0]);
    for dir in ["locked", "made"] {
        use std::os::unix::fs::PermissionsExt;
        let open = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(scratch.out().join(dir), open).unwrap();
    }
    assert_eq!(scratch.mode("locked/in"), 0o500);
    assert_eq!(scratch.read("locked/in/file"), b"x");
    let open = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o700);
    std::fs::set_permissions(scratch.out().join("locked/in"), open).unwrap();
}

#[test]
fn long_names_of_every_kind() {
    let long = format!("{}/{}", "d".repeat(150), "f".repeat(150));
    let archive = Raw::new()
        .with("././@LongLink", b'L', format!("gnu/{long}\0").as_bytes(), |_| ())
        .file("short", b"1")
        .with("././@LongLink", b'K', format!("target/{long}\0").as_bytes(), |_| ())
        .with("././@LongLink", b'L', format!("link/{long}\0").as_bytes(), |_| ())
        .link("short", b'2', "short")
        .pax(
            b'x',
            &[
                ("path", &format!("pax/{long}")),
                ("linkpath", &format!("gnu/{long}")),
                ("comment", "x"),
            ],
        )
        .link("short", b'1', "short")
        .file("after", b"2");
    let scratch = unpacked(archive, &plain());
    assert_eq!(scratch.read(&format!("gnu/{long}")), b"1");
    assert_eq!(scratch.read(&format!("pax/{long}")), b"1");
    let target = std::fs::read_link(scratch.out().join(format!("link/{long}"))).unwrap();
    assert_eq!(target.to_str(), Some(&*format!("target/{long}")));
    assert_eq!(scratch.read("after"), b"2");
}

#[test]
fn the_header_of_git_archive_is_understood() {
    let archive = Raw::new()
        .pax(b'g', &[("comment", "4b825dc642cb6eb9a060e54bf8d69288fbee4904")])
        .dir("app/", 0o775)
        .file("app/x", b"1");
    assert_eq!(unpacked(archive, &plain()).read("app/x"), b"1");
}

#[test]
fn the_last_entry_of_a_name_counts() {
    let archive = Raw::new()
        .file("a", b"old and longer")
        .link("h", b'1', "a")
        .file("a", b"new")
        .dir("d/", 0o700)
        .file("d/kept", b"x")
        .dir("d/", 0o750)
        .dir("was-dir/", 0o700)
        .file("was-dir", b"file")
        .file("was-file", b"")
        .dir("was-file/", 0o711)
        .file("was-file/x", b"")
        .link("a-link", b'2', "1")
        .link("a-link", b'2', "2");
    let scratch = unpacked(archive, &plain());
    assert_eq!(
        scratch.tree(),
        [
            "a file 644 1000000 new",
            "a-link -> 2 1000000",
            "d dir 750 1000000",
            "d/kept file 644 1000000 x",
            "h file 644 1000000 old and longer",
            "was-dir file 644 1000000 file",
            "was-file dir 711 1000000",
            "was-file/x file 644 1000000 ",
        ]
    );
}

#[test]
fn hard_links_share_their_file_also_after_stripping() {
    let archive = Raw::new()
        .file("top/a", b"x")
        .link("top/sub/b", b'1', "top/a")
        .link("top/a", b'1', "top/a")
        .link("top/sub/b", b'1', "top/a")
        .with("top/c", b'1', b"", |h| {
            h[157..162].copy_from_slice(b"top/a");
            // Some write the size of the file, and nothing behind it.
            h[124..135].copy_from_slice(b"00000000001");
        })
        .file("top/after", b"");
    let scratch = unpacked(archive, &UnpackOptions { strip_components: 1, ..plain() });
    let inode = scratch.meta("a").ino();
    assert_eq!([scratch.meta("sub/b").ino(), scratch.meta("c").ino()], [inode, inode]);
    assert_eq!(scratch.meta("a").nlink(), 3);
}

#[test]
fn excluded_entries_are_left_out_and_their_contents_skipped() {
    let archive = Raw::new()
        .dir("./app/", 0o755)
        .file("./app/a.pdf", &noise(1000))
        .dir("./app/var/", 0o755)
        .file("./app/var/log", &noise(1000))
        .file("./app/x", b"x");
    let options =
        UnpackOptions { exclude: vec![Pattern::new("*.pdf"), Pattern::new("app/var")], ..plain() };
    let scratch = unpacked(archive, &options);
    assert_eq!(scratch.tree(), ["app dir 755 1000000", "app/x file 644 1000000 x"]);
}

#[test]
fn stripped_entries_move_up() {
    let archive = Raw::new()
        .dir("./", 0o700)
        .dir("./app-1.0/", 0o755)
        .file("./README", b"gone")
        .file("./app-1.0/index.php", b"x")
        .link("./app-1.0/var", b'2', "../../shared/var");
    let scratch = unpacked(archive, &UnpackOptions { strip_components: 2, ..plain() });
    assert_eq!(scratch.tree(), ["index.php file 644 1000000 x", "var -> ../../shared/var 1000000"]);
}

/// `size` bytes, of which only those around 1 MB and 3 MB are not holes.
fn check_sparse(scratch: &Scratch) {
    let contents = scratch.read("sparse");
    assert_eq!(contents.len(), 4_000_000);
    assert_eq!(&contents[1_048_576..1_048_580], b"one!");
    assert_eq!(&contents[3_145_728..3_145_732], b"two!");
    assert_eq!(contents.iter().filter(|b| **b != 0).count(), 8);
    // In units of 512 bytes; a file system without holes would need 7812.
    assert!(scratch.meta("sparse").blocks() < 2000, "{}", scratch.meta("sparse").blocks());
    assert_eq!(scratch.read("after"), b"fine");
}

/// Parts lie behind each other without padding.
const PARTS: &[u8] = b"one!two!";

#[test]
fn sparse_files_of_old_gnu_tar() {
    let place = |h: &mut [u8], at: usize, offset: u64, length: u64| {
        h[at..at + 12].copy_from_slice(format!("{offset:011o}\0").as_bytes());
        h[at + 12..at + 24].copy_from_slice(format!("{length:011o}\0").as_bytes());
    };
    let header = |extended: bool| {
        move |h: &mut [u8; 512]| {
            h[257..265].copy_from_slice(b"ustar  \0");
            h[483..494].copy_from_slice(format!("{:011o}", 4_000_000).as_bytes());
            h[124..135].copy_from_slice(format!("{:011o}", PARTS.len()).as_bytes());
            place(h, 386, 1_048_576, 4);
            if extended {
                h[482] = 1;
            } else {
                place(h, 410, 3_145_728, 4);
                place(h, 434, 4_000_000, 0);
            }
        }
    };
    let archive = Raw::new().with("sparse", b'S', PARTS, header(false)).file("after", b"fine");
    check_sparse(&unpacked(archive, &plain()));

    let mut more = [0u8; 512];
    place(&mut more, 0, 3_145_728, 4);
    place(&mut more, 24, 4_000_000, 0);
    let contents = [&more[..], PARTS].concat();
    let archive = Raw::new().with("sparse", b'S', &contents, header(true)).file("after", b"fine");
    check_sparse(&unpacked(archive, &plain()));
}

#[test]
fn sparse_files_of_pax() {
    let version_0_0 = [
        ("GNU.sparse.size", "4000000"),
        ("GNU.sparse.numblocks", "2"),
        ("GNU.sparse.offset", "1048576"),
        ("GNU.sparse.numbytes", "4"),
        ("GNU.sparse.offset", "3145728"),
        ("GNU.sparse.numbytes", "4"),
    ];
    let archive = Raw::new().pax(b'x', &version_0_0).file("sparse", PARTS).file("after", b"fine");
    check_sparse(&unpacked(archive, &plain()));

    let version_0_1 = [
        ("GNU.sparse.name", "sparse"),
        ("GNU.sparse.size", "4000000"),
        ("GNU.sparse.map", "1048576,4,3145728,4"),
    ];
    let archive = Raw::new()
        .pax(b'x', &version_0_1)
        .file("GNUSparseFile.1/sparse", PARTS)
        .file("after", b"fine");
    check_sparse(&unpacked(archive, &plain()));

    let version_1_0 = [
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", "sparse"),
        ("GNU.sparse.realsize", "4000000"),
    ];
    let mut contents = b"2\n1048576\n4\n3145728\n4\n".to_vec();
    contents.resize(512, 0);
    contents.extend(PARTS);
    let archive = Raw::new()
        .pax(b'x', &version_1_0)
        .file("GNUSparseFile.1/sparse", &contents)
        .file("after", b"fine");
    check_sparse(&unpacked(archive, &plain()));
}

#[test]
fn a_directory_that_passes_its_group_on_keeps_doing_so() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new();
    std::fs::set_permissions(scratch.out(), std::fs::Permissions::from_mode(0o2755)).unwrap();
    scratch.unpack(&Raw::new().dir("d/", 0o777).dir("d/e/", 0o755).end(), &plain()).unwrap();
    assert_eq!([scratch.mode("d"), scratch.mode("d/e")], [0o2777, 0o2755]);
}

#[test]
fn also_under_somebody_who_is_not_in_that_group() {
    use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    const NOBODY: u32 = 65534;
    const WEB: u32 = 33;
    if !rustix::process::geteuid().is_root() {
        eprintln!("NOT CHECKED without root: unpacking as somebody else");
        return;
    }
    let scratch = Scratch::new();
    let out = scratch.out();
    chown(&out, Some(NOBODY), Some(WEB)).unwrap();
    std::fs::set_permissions(&out, std::fs::Permissions::from_mode(0o2750)).unwrap();
    for above in out.ancestors().skip(1).take_while(|path| *path != std::env::temp_dir()) {
        std::fs::set_permissions(above, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    let archive = Raw::new().dir("d/", 0o755).file("d/f", b"x").file("f", b"x").end();
    // The identity is that of a thread, and of those that it starts.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            set_thread_groups(&[]).unwrap();
            let gid = rustix::process::Gid::from_raw(NOBODY);
            set_thread_res_gid(gid, gid, gid).unwrap();
            let uid = rustix::process::Uid::from_raw(NOBODY);
            set_thread_res_uid(uid, uid, uid).unwrap();
            scratch.unpack(&archive, &plain()).unwrap();
        });
    });
    for name in ["", "d", "d/f", "f"] {
        assert_eq!(out.join(name).metadata().unwrap().gid(), WEB, "{name}");
    }
    assert_eq!([out.metadata().unwrap().mode() & 0o7777, scratch.mode("d")], [0o2750, 0o2755]);
}
