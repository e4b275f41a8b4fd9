//! A live directory while and after it is brought up to date.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::common::{
    ALL, CONTENTS, assert_same, chmod, empty, manifest, open, put, rel, root, temporary_names,
};
use oxistrano_tree::{LISTED, SyncOptions, Synced, sync_tree};
use rustix::fs::{CWD, Mode, mkfifoat};

fn sync(from: &Path, to: &Path, options: &SyncOptions) -> Result<Synced, String> {
    sync_tree(&open(from), &open(to), options).map_err(|failure| failure.to_string())
}

fn both(top: &Path) -> (PathBuf, PathBuf) {
    (empty(top, "source"), empty(top, "live"))
}

fn paths(changes: &oxistrano_tree::Changes) -> Vec<&str> {
    changes.paths().map(|path| path.to_str().unwrap()).collect()
}

#[test]
fn the_report_names_what_happened() {
    let scratch = tempfile::tempdir().unwrap();
    let (source, live) = both(scratch.path());
    for (path, contents) in [("same", "same"), ("text", "new"), ("new/a/b", "b"), ("mode", "m")] {
        put(&source, path, contents);
    }
    symlink("new", source.join("link")).unwrap();
    for (path, contents) in [("same", "same"), ("text", "old"), ("mode", "m"), ("gone/x/y", "z")] {
        put(&live, path, contents);
    }
    symlink("old", live.join("link")).unwrap();
    chmod(source.join("mode"), 0o750);
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    for path in ["same", "mode", "text"] {
        fs::File::open(live.join(path)).unwrap().set_modified(old).unwrap();
        fs::File::open(source.join(path))
            .unwrap()
            .set_modified(old + Duration::from_secs(9))
            .unwrap();
    }
    let inode = live.join("mode").metadata().unwrap().ino();
    let done = sync(&source, &live, &SyncOptions::default()).unwrap();
    assert_eq!(paths(&done.created), ["new", "new/a", "new/a/b"]);
    assert_eq!(paths(&done.updated), ["link", "mode", "text"]);
    assert_eq!(paths(&done.deleted), ["gone", "gone/x", "gone/x/y"]);
    assert_eq!(done.unchanged, 2, "the root and 'same'");
    assert_same(&manifest(&source, CONTENTS), &manifest(&live, CONTENTS));
    // What was right was not written again; what was written has the time of that.
    let time = |path: &str| live.join(path).metadata().unwrap().modified().unwrap();
    assert_eq!((time("same"), time("mode")), (old, old));
    assert_eq!(live.join("mode").metadata().unwrap().ino(), inode);
    assert!(time("text") > SystemTime::now() - Duration::from_secs(60));
}

#[test]
fn lists_are_limited_and_counts_are_not() {
    let scratch = tempfile::tempdir().unwrap();
    let (source, live) = both(scratch.path());
    for n in 0..300 {
        put(&source, &format!("dir/{n:03}"), "");
    }
    let options = SyncOptions { dry_run: true, ..Default::default() };
    let planned = sync(&source, &live, &options).unwrap();
    assert_eq!(planned.created.count, 301);
    assert_eq!(paths(&planned.created).len(), LISTED);
    assert_eq!(paths(&planned.created)[..2], ["dir", "dir/000"]);
    assert!(fs::read_dir(&live).unwrap().next().is_none());
}

#[test]
fn readers_see_the_old_or_the_new() {
    let scratch = tempfile::tempdir().unwrap();
    let (source, live) = both(scratch.path());
    let contents = |n: u8| vec![n; 40_000];
    let write = |n: u8| {
        put(&source, "pub/index.php", contents(n));
        let _ = fs::remove_file(source.join("pub/link"));
        symlink(
            if n.is_multiple_of(2) { "index.php" } else { "./index.php" },
            source.join("pub/link"),
        )
        .unwrap();
    };
    write(0);
    sync(&source, &live, &SyncOptions::default()).unwrap();
    let (stop, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for path in ["pub/index.php", "pub/link"] {
            let (stop, reads, live) = (&stop, &reads, &live);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let seen = fs::read(live.join(path)).expect("the file is missing");
                    assert_eq!(seen.len(), 40_000, "{path} is a part");
                    assert!(seen.iter().all(|byte| *byte == seen[0]), "{path} is mixed");
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for n in 1..=200 {
            write(n);
            let done = sync(&source, &live, &SyncOptions::default()).unwrap();
            assert_eq!(done.updated.count, 2);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(reads.into_inner() > 200);
    assert_eq!(temporary_names(&live), [] as [PathBuf; 0]);
}

#[test]
fn protected_paths_are_untouched_on_both_sides() {
    let scratch = tempfile::tempdir().unwrap();
    let (source, live) = both(scratch.path());
    put(&source, "pub/media/from-source", "no");
    put(&source, "app/etc/env.php", "the release's");
    put(&source, "app/etc/config.php", "new");
    put(&source, "new/shared/x", "no");
    put(&source, "new/file", "yes");
    put(&live, "pub/media/photo", "photo");
    put(&live, "pub/stale", "");
    put(&live, "app/etc/env.php", "the live one");
    put(&live, "only/live/log/a", "log");
    put(&live, "only/live/other", "");
    put(&live, "only/stale/deep/x", "");
    symlink("/etc/shared", live.join("var")).unwrap();
    put(&source, "var/cache", "no");
    let protect =
        ["pub/media", "app/etc/env.php", "only/live/log", "var", "new/shared", "none/at/all"];
    let options = SyncOptions {
        protect: protect.iter().map(|path| rel(path)).collect(),
        ..Default::default()
    };
    let shared = manifest(&live.join("pub/media"), ALL);
    let done = sync(&source, &live, &options).unwrap();
    assert_same(&shared, &manifest(&live.join("pub/media"), ALL));
    assert_eq!(paths(&done.created), ["app/etc/config.php", "new", "new/file"]);
    assert_eq!(
        paths(&done.deleted),
        ["only/live/other", "only/stale", "only/stale/deep", "only/stale/deep/x", "pub/stale"]
    );
    let read = |path: &str| fs::read_to_string(live.join(path)).unwrap();
    assert_eq!(
        (read("app/etc/env.php"), read("only/live/log/a")),
        ("the live one".into(), "log".into())
    );
    assert_eq!(fs::read_link(live.join("var")).unwrap(), Path::new("/etc/shared"));
    assert!(!live.join("new/shared").exists());
    assert!(!sync(&source, &live, &options).unwrap().changed());

    // A directory that holds a protected path is not replaced by a file.
    fs::remove_dir_all(source.join("pub")).unwrap();
    put(&source, "pub", "a file");
    put(&source, "another-new", "");
    let error = sync(&source, &live, &options).unwrap_err();
    assert!(error.contains("live/pub': it contains a protected path"), "{error}");
    assert!(error.ends_with("Nothing was changed."), "{error}");
    assert!(!live.join("another-new").exists());
}

#[test]
fn anything_becomes_anything() {
    type Make = fn(&Path);
    let make: [(&str, Make); 4] = [
        ("file", |path| fs::write(path, "contents").unwrap()),
        ("link", |path| symlink("elsewhere", path).unwrap()),
        ("directory", |path| {
            put(path, "sub/file", "x");
        }),
        ("empty", |path| fs::create_dir(path).unwrap()),
    ];
    let scratch = tempfile::tempdir().unwrap();
    let (source, live) = both(scratch.path());
    for (new, make_new) in make {
        for (old, make_old) in make {
            let name = format!("{old}-to-{new}");
            make_new(&source.join(&name));
            make_old(&live.join(&name));
        }
        mkfifoat(CWD, live.join(format!("pipe-to-{new}")), Mode::from_raw_mode(0o600)).unwrap();
        make_new(&source.join(format!("pipe-to-{new}")));
    }
    let planned =
        sync(&source, &live, &SyncOptions { dry_run: true, ..Default::default() }).unwrap();
    let done = sync(&source, &live, &SyncOptions::default()).unwrap();
    assert_eq!(planned, done);
    assert_same(&manifest(&source, CONTENTS), &manifest(&live, CONTENTS));
    assert!(!sync(&source, &live, &SyncOptions::default()).unwrap().changed());
}

#[test]
fn special_files_are_refused_before_anything_is_changed() {
    let scratch = tempfile::tempdir().unwrap();
    let (source, live) = both(scratch.path());
    put(&source, "a", "new");
    fs::create_dir_all(source.join("new/deep")).unwrap();
    mkfifoat(CWD, source.join("new/deep/pipe"), Mode::from_raw_mode(0o600)).unwrap();
    let error = sync(&source, &live, &SyncOptions::default()).unwrap_err();
    assert!(
        error.contains("new/deep/pipe': it is a FIFO") && error.ends_with("Nothing was changed."),
        "{error}"
    );
    assert!(!live.join("a").exists());
}

#[test]
fn files_with_other_names_outside_keep_their_metadata() {
    let scratch = tempfile::tempdir().unwrap();
    let (source, live) = both(scratch.path());
    let outside = put(scratch.path(), "outside", "same");
    chmod(&outside, 0o640);
    fs::hard_link(&outside, live.join("file")).unwrap();
    chmod(put(&source, "file", "same"), 0o604);
    sync(&source, &live, &SyncOptions::default()).unwrap();
    assert_eq!(live.join("file").metadata().unwrap().mode() & 0o777, 0o604);
    assert_eq!(outside.metadata().unwrap().mode() & 0o777, 0o640);
    // The source as a hard link: nothing to do, nothing to write.
    fs::remove_file(live.join("file")).unwrap();
    fs::hard_link(source.join("file"), live.join("file")).unwrap();
    assert!(!sync(&source, &live, &SyncOptions::default()).unwrap().changed());
}

#[test]
fn owners_follow_the_source_or_the_options() {
    if !root("owners") {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let (source, live) = both(scratch.path());
    for path in ["kept", "dir/new"] {
        put(&source, path, path);
    }
    put(&live, "kept", "kept");
    symlink("x", source.join("link")).unwrap();
    symlink("x", live.join("link")).unwrap();
    let options = SyncOptions { owner: Some(77), group: Some(78), ..Default::default() };
    let done = sync(&source, &live, &options).unwrap();
    assert_eq!(paths(&done.updated), ["", "kept", "link"]);
    for path in ["", "kept", "link", "dir", "dir/new"] {
        let info = live.join(path).symlink_metadata().unwrap();
        assert_eq!((info.uid(), info.gid()), (77, 78), "{path}");
    }
    assert!(!sync(&source, &live, &options).unwrap().changed());
    sync(&source, &live, &SyncOptions::default()).unwrap();
    assert_same(&manifest(&source, CONTENTS), &manifest(&live, CONTENTS));
}

#[test]
fn links_are_compared_byte_by_byte() {
    let top = tempfile::tempdir().unwrap();
    let (source, live) = both(top.path());
    for (name, target, before) in [("a", "/.", "/"), ("b", "x", "x/"), ("c", "x/y", "x//y")] {
        symlink(target, source.join(name)).unwrap();
        symlink(before, live.join(name)).unwrap();
    }
    assert_eq!(sync(&source, &live, &SyncOptions::default()).unwrap().updated.count, 3);
    for name in ["a", "b", "c"] {
        let target = |tree: &Path| tree.join(name).read_link().unwrap().into_os_string();
        assert_eq!(target(&live), target(&source));
    }
}

#[test]
fn leftovers_of_a_broken_sync_go() {
    let scratch = tempfile::tempdir().unwrap();
    let (source, live) = both(scratch.path());
    put(&source, "a/file", "x");
    put(&live, "a/file", "x");
    put(&live, "a/.oxistrano-tmp-file.99.0", "half");
    let done = sync(&source, &live, &SyncOptions::default()).unwrap();
    assert_eq!((done.deleted.count, done.unchanged), (1, 3));
    assert_eq!(temporary_names(&live), [] as [PathBuf; 0]);
}

#[test]
fn holes_of_terabytes_are_compared_in_no_time() {
    let scratch = tempfile::tempdir().unwrap();
    let (source, live) = both(scratch.path());
    const LENGTH: u64 = 8 << 40;
    let make = |path: &Path, last: &[u8]| {
        let file = fs::File::create(path.join("sparse")).unwrap();
        file.set_len(LENGTH).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, last, LENGTH - 1).unwrap();
    };
    for (ours, theirs, differs) in [(b"x", b"x", false), (b"x", b"y", true)] {
        make(&source, ours);
        make(&live, theirs);
        let began = std::time::Instant::now();
        assert_eq!(sync(&source, &live, &SyncOptions::default()).unwrap().changed(), differs);
        assert!(began.elapsed().as_secs() < 20);
    }
}
