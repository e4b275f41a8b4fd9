//! `release_unpack`: archives that are no good, and what is left of them: nothing.

use std::fs;
use std::io::Write;

use crate::common::{entries, formats, noise, sample, sha256, started, unpack, with};
use oxistrano_harness::{
    Entry, EntryType, Root, dir, file, gzip, hard_link, json, not_checked, symlink, tar, tar_gz,
    tmpfs,
};

/// It is refused with this code and these words, in check mode, too, and nothing is left
/// behind.
#[track_caller]
fn refused(root: &Root, arguments: oxistrano_harness::Value, code: &str, words: &[&str]) {
    let before = root.content();
    let _ = root.check("release_unpack", arguments.clone()).failed(code);
    let reply = root.run("release_unpack", arguments).failed(code);
    reply.says(words.iter().copied());
    before.assert_same(&root.content());
    assert_eq!(root.live(), "1");
}

#[test]
fn a_wrong_checksum_is_shown_with_the_right_one() {
    let root = started();
    let src = sample(&root);
    let wrong = sha256(b"something else");
    let right = sha256(&tar_gz(&entries()));
    let arguments = with(unpack(&src), "checksum", wrong.as_str());
    refused(&root, arguments, "wrong_checksum", &[&src, &wrong, &right, "Nothing was changed."]);
}

#[test]
fn what_is_no_checksum_is_refused() {
    let root = started();
    let src = sample(&root);
    let digits = sha256(&tar_gz(&entries())).replace("sha256:", "");
    for wrong in [digits.as_str(), "md5:abc", "sha1:abc"] {
        let arguments = with(unpack(&src), "checksum", wrong);
        refused(
            &root,
            arguments,
            "bad_checksum_option",
            &[wrong, "is not a checksum", "sha256:<64"],
        );
    }
    for wrong in ["sha256:", "sha256:abc", "sha256:zz"] {
        let before = root.content();
        let reply = root.run("release_unpack", with(unpack(&src), "checksum", wrong));
        assert_eq!(reply["failed"], true, "{reply}");
        before.assert_same(&root.content());
    }
}

#[test]
fn a_source_that_is_no_archive_is_named_with_the_reason() {
    let root = started();
    let missing = root.beside("missing.tar.gz");
    let missing = missing.to_str().unwrap();
    refused(
        &root,
        unpack(missing),
        "no_archive",
        &[
            missing,
            "the file does not exist on the host",
            "ansistrano_deploy_from",
            "Nothing was changed.",
        ],
    );
    let empty = root.archive("empty", b"");
    refused(&root, unpack(&empty), "no_archive", &[&empty, "it is empty"]);
    let directory = root.beside("");
    let directory = directory.to_str().unwrap().trim_end_matches('/');
    refused(&root, unpack(directory), "no_archive", &[directory, "it is a directory"]);
    refused(&root, unpack("/dev/null"), "no_archive", &["it is not a regular file"]);
    let text = root.archive("readme.tar.gz", b"This is no archive at all.\n");
    refused(&root, unpack(&text), "unknown_format", &[&text, "neither a tar nor a zip"]);
    let text = root.archive("readme.tar.gz", &gzip(b"No tar is in here.\n"));
    refused(&root, unpack(&text), "unknown_format", &["does not contain a tar"]);
    let nothing = root.archive("nothing.tar.gz", &tar_gz(&[]));
    refused(&root, unpack(&nothing), "empty_archive", &["it has no entries"]);
    let arguments = with(unpack(&sample(&root)), "strip_components", 9);
    refused(&root, arguments, "empty_archive", &["all of its entries were excluded"]);
}

#[test]
fn every_format_that_is_cut_off_is_noticed() {
    let root = started();
    for (format, bytes) in formats() {
        for part in [1, 2, 3] {
            let cut = &bytes[..bytes.len() * part / 4];
            let src = root.archive(&format!("cut.{format}"), cut);
            let before = root.content();
            let reply = root.run("release_unpack", unpack(&src));
            assert_eq!(reply["failed"], true, "{format} {part}/4: {reply}");
            reply.says(["cut."]);
            before.assert_same(&root.content());
        }
    }
    let mut bytes = tar_gz(&[file("big", noise(300_000)), file("after", "")]);
    bytes.truncate(200_000);
    let src = root.archive("cut.tar.gz", &bytes);
    refused(&root, unpack(&src), "bad_archive", &["'big'", "truncated", "transfer it again"]);
}

#[test]
fn damage_is_noticed() {
    let root = started();
    let mut bytes = tar_gz(&[file("big", noise(300_000))]);
    let end = bytes.len() - 8;
    bytes[end] ^= 0xff;
    let src = root.archive("damaged.tar.gz", &bytes);
    refused(&root, unpack(&src), "bad_archive", &["damaged"]);
}

#[test]
fn hostile_entries_are_refused_by_name_and_nothing_is_left_behind() {
    let root = started();
    fs::write(root.beside("victim"), "precious").unwrap();
    let good = || file("before.php", "harmless");
    let hostile: Vec<(Vec<Entry>, &str)> = vec![
        (vec![good(), file("/etc/oxistrano-test", "evil")], "/etc/oxistrano-test"),
        (vec![good(), file("../victim", "evil")], "../victim"),
        (vec![good(), file("a/../../../victim", "evil")], "a/../../../victim"),
        (vec![good(), symlink("up", "../../.."), file("up/victim", "evil")], "up/victim"),
        (vec![good(), symlink("tmp", "/tmp"), dir("tmp/oxistrano-test")], "tmp/oxistrano-test"),
        (vec![good(), hard_link("h", "../../../victim")], "h"),
        (vec![good(), hard_link("h", "/etc/passwd")], "h"),
        (vec![good(), Entry::special("null", EntryType::Char)], "null"),
        (vec![good(), Entry::special("disk", EntryType::Block)], "disk"),
        (vec![good(), Entry::special("pipe", EntryType::Fifo)], "pipe"),
    ];
    for (entries, name) in hostile {
        for bytes in [tar(&entries), tar_gz(&entries)] {
            let src = root.archive("hostile", &bytes);
            let name = format!("'{name}'");
            refused(&root, unpack(&src), "unsafe_entry", &["cannot unpack", &name]);
        }
    }
    assert_eq!(fs::read(root.beside("victim")).unwrap(), b"precious");
    let links = [symlink("up", "../../.."), hard_link("h", "up/victim")];
    let src = root.archive("hostile", &tar(&links));
    let before = root.content();
    let reply = root.run("release_unpack", unpack(&src));
    assert_eq!(reply["failed"], true, "{reply}");
    before.assert_same(&root.content());
}

#[test]
fn what_is_refused_says_what_is_live() {
    let root = started();
    let src = root.archive("hostile", &tar_gz(&[file("x", ""), file("../victim", "evil")]));
    let reply = root.run("release_unpack", unpack(&src)).failed("unsafe_entry");
    reply.says(["The unfinished release was removed; the live release is unchanged."]);
    assert_eq!(reply["entry"], "../victim");
}

#[test]
fn archives_that_are_too_large_are_refused() {
    let root = started();
    let src =
        root.archive("app.tar.gz", &tar_gz(&[file("big", vec![0; 1_000_000]), file("b", "")]));
    refused(
        &root,
        with(unpack(&src), "max_bytes", 500_000),
        "too_large",
        &["more bytes than the limit"],
    );
    refused(
        &root,
        with(unpack(&src), "max_entries", 1),
        "too_large",
        &["more entries than the limit"],
    );
}

#[test]
fn without_a_deploy_root_or_its_directories_it_says_what_to_do() {
    let root = Root::fresh();
    let src = sample(&root);
    let reply = root.run("release_unpack", unpack(&src)).failed("no_deploy_root");
    reply.says(["run release_setup first", "Nothing was changed."]);
    fs::create_dir(root.path()).unwrap();
    let reply = root.run("release_unpack", unpack(&src)).failed("io");
    reply.says(["releases'", "Nothing was changed."]);
}

#[test]
fn the_staging_directory_is_never_written_through_a_link() {
    let root = started();
    fs::create_dir(root.beside("outside")).unwrap();
    fs::write(root.beside("outside/precious"), "").unwrap();
    root.link("releases/.oxistrano-staging", "../../outside");
    let _ = root.run("release_unpack", unpack(&sample(&root))).changed();
    let names: Vec<_> = fs::read_dir(root.beside("outside")).unwrap().collect();
    assert_eq!(names.len(), 1);
    assert_eq!(root.read("releases/2/index.php"), "<?php\n");
}

/// A hundred files of 64 KiB, a thousand times over, in a few megabytes: gzip streams
/// one behind the other are one.
fn endless(root: &Root) -> String {
    let files: Vec<_> = (0..100).map(|n| file(&format!("file{n}"), vec![0; 65536])).collect();
    let mut part = tar(&files);
    part.truncate(part.len() - 1024);
    root.archive("endless.tar.gz", &gzip(&part).repeat(1000))
}

/// One file of 4 GiB.
fn huge(root: &Root) -> String {
    let mut header = tar(&[file("huge", "")]);
    header.truncate(512);
    header[124..136].copy_from_slice(format!("{:011o}\0", 4u64 << 30).as_bytes());
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut bytes = gzip(&header);
    bytes.write_all(&gzip(&vec![0; 1 << 20]).repeat(4096)).unwrap();
    root.archive("huge.tar.gz", &bytes)
}

/// 60 GB of zstd frames that are to be skipped: much is read, and nothing comes out.
fn silent(root: &Root) -> String {
    let src = root.archive("silent.tar.zst", &zstd::encode_all(&tar(&entries())[..], 1).unwrap());
    let mut file = fs::OpenOptions::new().append(true).open(&src).unwrap();
    for _ in 0..30 {
        file.write_all(b"\x50\x2a\x4d\x18\0\0\0\x80").unwrap();
        file.set_len(file.metadata().unwrap().len() + (2 << 30)).unwrap();
    }
    src
}

#[test]
fn sigterm_in_the_middle_leaves_nothing_behind_and_says_so() {
    let root = started();
    for (src, sign) in [(endless(&root), "file5"), (huge(&root), "huge"), (silent(&root), "")] {
        let before = root.content();
        let mut running = root.start("release_unpack", unpack(&src));
        running.until(|| root.has(format!("releases/.oxistrano-staging/{sign}")));
        let asked = std::time::Instant::now();
        let reply = running.terminate().failed("interrupted");
        assert!(asked.elapsed().as_secs() < 10, "it took {:?}", asked.elapsed());
        reply.says(["interrupted by SIGTERM", "The unfinished release was removed"]);
        before.assert_same(&root.content());
        assert_eq!([root.live(), root.read("current/index.php")], ["1", "1"]);
        // And the next try works.
        let _ = root.run("release_unpack", unpack(&sample(&root))).changed();
        let _ = root.run("release_setup", json!({"version": "2", "state": "failed"})).changed();
        let _ = root.run("release_setup", json!({"version": "2"})).changed();
    }
}

#[test]
fn what_a_power_failure_leaves_is_removed_by_the_next_deploy() {
    let root = started();
    let src = endless(&root);
    let mut running = root.start("release_unpack", unpack(&src));
    running.until(|| root.has("releases/.oxistrano-staging/file5"));
    running.kill();
    assert!(root.has("releases/.oxistrano-staging"));
    assert!(!root.has("releases/2"), "a part of a release must not look like one");
    assert_eq!(root.live(), "1");
    let _ = root.run("release_setup", json!({"state": "unlocked"})).changed();
    root.deploy("3");
    assert_eq!(root.releases(), ["1", "3"]);
}

#[test]
fn a_full_disk_leaves_nothing_behind_and_is_named() {
    let root = Root::fresh();
    fs::create_dir(root.path()).unwrap();
    let Some(_mount) = tmpfs(&root.path(), "1m") else {
        return not_checked("a full disk");
    };
    root.deploy("1");
    let _ = root.run("release_setup", json!({"version": "2"})).changed();
    let before = root.content();
    let mut many: Vec<_> = (0..20).map(|n| file(&format!("file{n}"), noise(5000))).collect();
    many.push(file("big", noise(2_000_000)));
    let src = root.archive("app.tar.gz", &tar_gz(&many));
    let reply = root.run("release_unpack", unpack(&src)).failed("io");
    reply.says(["No space left on device", "free some space there", "big'"]);
    reply.says(["The unfinished release was removed; the live release is unchanged."]);
    before.assert_same(&root.content());
    assert_eq!(root.read("current/index.php"), "1");
    // There is room for what fits.
    let _ = root.run("release_unpack", unpack(&sample(&root))).changed();
}
