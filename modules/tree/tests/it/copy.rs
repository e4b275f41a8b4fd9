//! What a copy keeps, leaves out and refuses.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, lchown, symlink};
use std::path::Path;

use crate::common::{ALL, assert_same, attributes, chmod, empty, manifest, open, put, rel, root};
use oxistrano_tree::{Copied, CopyOptions, Method, copy_tree};
use rustix::fs::{CWD, Mode, XattrFlags, lsetxattr, mkfifoat};

fn copy(from: &Path, to: &Path, options: &CopyOptions) -> Result<Copied, String> {
    copy_tree(&open(from), &open(to), options).map_err(|failure| failure.to_string())
}

fn sample(top: &Path) -> std::path::PathBuf {
    let source = empty(top, "source");
    put(&source, "index.php", "<?php");
    put(&source, "app/etc/env.php", "secret");
    put(&source, "app/code/A.php", "A");
    put(&source, "var/cache/x", "x");
    put(&source, "var/cachet", "y");
    symlink("/etc/passwd", source.join("app/link")).unwrap();
    source
}

fn names(dir: &Path) -> Vec<String> {
    let look = crate::common::Look { root: false, ..ALL };
    manifest(dir, look).into_keys().map(|path| path.to_str().unwrap().to_owned()).collect()
}

#[test]
fn everything_is_counted() {
    let scratch = tempfile::tempdir().unwrap();
    let (source, target) = (sample(scratch.path()), empty(scratch.path(), "target"));
    let copied =
        copy(&source, &target, &CopyOptions { method: Method::Copy, ..Default::default() });
    let expected = Copied { files: 5, directories: 5, links: 1, bytes: 14, ..Copied::default() };
    assert_eq!(copied.unwrap(), expected);
    assert_same(&manifest(&source, ALL), &manifest(&target, ALL));
    let error = copy(&source, &target, &CopyOptions::default()).unwrap_err();
    assert!(error.contains("is not empty"), "{error}");
}

#[test]
fn paths_are_left_out_with_what_is_below() {
    let scratch = tempfile::tempdir().unwrap();
    let (source, target) = (sample(scratch.path()), empty(scratch.path(), "target"));
    let exclude =
        vec![rel("var/cache"), rel("app/etc/env.php"), rel("index.php"), rel("nothing/here")];
    copy(&source, &target, &CopyOptions { exclude, ..Default::default() }).unwrap();
    assert_eq!(
        names(&target),
        ["app", "app/code", "app/code/A.php", "app/etc", "app/link", "var", "var/cachet"]
    );
}

#[test]
fn only_what_is_listed_is_copied() {
    let scratch = tempfile::tempdir().unwrap();
    let (source, target) = (sample(scratch.path()), empty(scratch.path(), "target"));
    fs::create_dir(source.join("submodule")).unwrap();
    put(&source, "submodule/file", "");
    let only: Vec<_> = ["submodule", "app/link", "var/cachet", "var/cache/x", "app/code"]
        .iter()
        .map(|p| rel(p))
        .collect();
    let options = CopyOptions {
        only: Some(only.clone()),
        exclude: vec![rel("var/cache")],
        ..Default::default()
    };
    copy(&source, &target, &options).unwrap();
    assert_eq!(names(&target), ["app", "app/code", "app/link", "submodule", "var", "var/cachet"]);
    assert_eq!(
        target.join("app").metadata().unwrap().mtime(),
        source.join("app").metadata().unwrap().mtime()
    );

    for missing in ["app/none", "none/at/all", "app/link/x", "index.php/x"] {
        let target = empty(scratch.path(), &missing.replace('/', "-"));
        let only = Some([only.clone(), vec![rel(missing), rel("index.php")]].concat());
        let options = CopyOptions { only, ..Default::default() };
        let error = copy(&source, &target, &options).unwrap_err();
        assert!(
            error.contains(&format!("/source/{missing}': it is listed, but does not exist")),
            "{error}"
        );
    }
}

#[test]
fn a_subtree_becomes_the_root() {
    let scratch = tempfile::tempdir().unwrap();
    let (source, target) = (sample(scratch.path()), empty(scratch.path(), "target"));
    chmod(source.join("app"), 0o751);
    let options =
        CopyOptions { subtree: Some(rel("app")), exclude: vec![rel("etc")], ..Default::default() };
    copy(&source, &target, &options).unwrap();
    assert_eq!(names(&target), ["code", "code/A.php", "link"]);
    assert_eq!(target.metadata().unwrap().mode() & 0o7777, 0o751);
    // Not through a link.
    symlink("app", source.join("alias")).unwrap();
    let other = empty(scratch.path(), "other");
    let options = CopyOptions { subtree: Some(rel("alias/code")), ..Default::default() };
    assert!(copy(&source, &other, &options).unwrap_err().contains("alias"));
}

#[test]
fn special_files_are_refused_by_name() {
    let scratch = tempfile::tempdir().unwrap();
    let (source, target) = (sample(scratch.path()), empty(scratch.path(), "target"));
    mkfifoat(CWD, source.join("var/pipe"), Mode::from_raw_mode(0o600)).unwrap();
    let error = copy(&source, &target, &CopyOptions::default()).unwrap_err();
    assert!(error.contains("source/var/pipe': it is a FIFO"), "{error}");
    fs::remove_file(source.join("var/pipe")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(source.join("sock")).unwrap();
    fs::remove_dir_all(&target).unwrap();
    fs::create_dir(&target).unwrap();
    let error = copy(&source, &target, &CopyOptions::default()).unwrap_err();
    assert!(error.contains("it is a socket"), "{error}");
}

#[test]
fn a_directory_is_not_copied_into_itself() {
    let scratch = tempfile::tempdir().unwrap();
    let source = sample(scratch.path());
    let target = empty(&source, "releases");
    let error = copy(&source, &target, &CopyOptions::default()).unwrap_err();
    assert!(error.contains("into itself"), "{error}");
    let again = empty(&source.join("app"), "target");
    let options = CopyOptions { exclude: vec![rel("app/target")], ..Default::default() };
    copy(&source, &again, &options).unwrap();
}

#[test]
fn a_mount_point_is_not_entered() {
    if !root("mount points") {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let (source, target) = (sample(scratch.path()), empty(scratch.path(), "target"));
    let mount = source.join("var/cache");
    let status =
        std::process::Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&mount).status();
    if !status.is_ok_and(|status| status.success()) {
        eprintln!("NOT TESTED, cannot mount: mount points");
        return;
    }
    let result = copy(&source, &target, &CopyOptions::default());
    std::process::Command::new("umount").arg(&mount).status().unwrap();
    let error = result.unwrap_err();
    assert!(error.contains("var/cache': another file system is mounted there"), "{error}");
}

#[test]
fn hard_links_to_the_source() {
    let scratch = tempfile::tempdir().unwrap();
    let (source, target) = (sample(scratch.path()), empty(scratch.path(), "target"));
    let options = CopyOptions { method: Method::Hardlink, ..Default::default() };
    let copied = copy(&source, &target, &options).unwrap();
    assert_eq!((copied.files, copied.linked, copied.bytes), (5, 5, 0));
    assert_eq!(
        source.join("index.php").metadata().unwrap().ino(),
        target.join("index.php").metadata().unwrap().ino()
    );

    if root("another owner than the source's hard links have") {
        let target = empty(scratch.path(), "owned");
        let options = CopyOptions { owner: Some(77), group: Some(78), ..options.clone() };
        assert_eq!(copy(&source, &target, &options).unwrap().linked, 0);
        let owner = |path: &Path| (path.metadata().unwrap().uid(), path.metadata().unwrap().gid());
        assert_eq!(owner(&target.join("var/cache/x")), (77, 78));
        assert_eq!(owner(&target), (77, 78));
        assert_eq!(owner(&source.join("var/cache/x")), (0, 0));
    }
    // Another device: copies.
    match tempfile::tempdir_in("/dev/shm") {
        Ok(other) if other.path().metadata().unwrap().dev() != source.metadata().unwrap().dev() => {
            let copied = copy(&source, other.path(), &options).unwrap();
            assert_eq!((copied.files, copied.linked, copied.bytes), (5, 0, 14));
        }
        _ => eprintln!("NOT TESTED, no second file system: hard links across devices"),
    }
}

#[test]
fn hard_links_within_the_tree_stay_together() {
    let scratch = tempfile::tempdir().unwrap();
    let (source, target) = (empty(scratch.path(), "source"), empty(scratch.path(), "target"));
    for n in 0..200 {
        let first = put(&source, &format!("{}/{n}", n % 7), n.to_string());
        for copy in 1..6 {
            let other = source.join(format!("d{copy}/{}", n % 11));
            fs::create_dir_all(&other).unwrap();
            fs::hard_link(&first, other.join(n.to_string())).unwrap();
        }
    }
    let copied =
        copy(&source, &target, &CopyOptions { method: Method::Copy, ..Default::default() })
            .unwrap();
    assert_eq!(copied.files, 1200);
    assert_same(&manifest(&source, ALL), &manifest(&target, ALL));
}

#[test]
fn holes_stay_holes() {
    let scratch = tempfile::tempdir().unwrap();
    let (source, target) = (empty(scratch.path(), "source"), empty(scratch.path(), "target"));
    for (name, places) in [("ends", vec![0, 12 << 20]), ("middle", vec![5 << 20]), ("none", vec![])]
    {
        let file = fs::File::create(source.join(name)).unwrap();
        for place in places {
            file.write_all_at(b"data", place).unwrap();
        }
        file.set_len(16 << 20).unwrap();
    }
    copy(&source, &target, &CopyOptions { method: Method::Copy, ..Default::default() }).unwrap();
    assert_same(&manifest(&source, ALL), &manifest(&target, ALL));
    for name in ["ends", "middle", "none"] {
        let info = target.join(name).metadata().unwrap();
        assert_eq!(info.len(), 16 << 20);
        assert!(info.blocks() * 512 < 1 << 20, "{name} takes {} blocks", info.blocks());
    }
}

/// An ACL that lets user 77 read; in the kernel's form.
fn acl() -> Vec<u8> {
    let entry = |tag: u16, bits: u16, id: u32| {
        [tag.to_le_bytes().to_vec(), bits.to_le_bytes().to_vec(), id.to_le_bytes().to_vec()]
            .concat()
    };
    let none = u32::MAX;
    [
        2_u32.to_le_bytes().to_vec(),
        entry(1, 7, none),
        entry(2, 5, 77),
        entry(4, 4, none),
        entry(16, 5, none),
        entry(32, 0, none),
    ]
    .concat()
}

#[test]
fn attributes_and_acls_are_kept() {
    let places = ["/tmp", "/var/tmp", "/dev/shm", "."];
    let set =
        |path: &Path, name: &str, value: &[u8]| lsetxattr(path, name, value, XattrFlags::empty());
    let scratch = places
        .iter()
        .filter_map(|place| tempfile::tempdir_in(place).ok())
        .find(|dir| set(dir.path(), "user.test", b"1").is_ok());
    let Some(scratch) = scratch else {
        eprintln!("NOT TESTED, no file system with attributes in {places:?}");
        return;
    };
    let source = sample(scratch.path());
    set(&source.join("index.php"), "user.kind", b"front controller").unwrap();
    set(&source.join("index.php"), "user.long", &[7; 2000]).unwrap();
    set(&source.join("app"), "user.empty", b"").unwrap();
    let acls = set(&source.join("var"), "system.posix_acl_default", &acl()).is_ok();
    if acls {
        set(&source.join("app/etc/env.php"), "system.posix_acl_access", &acl()).unwrap();
        put(&source, "var/inherits", "");
    } else {
        eprintln!("NOT TESTED, no ACLs on {:?}", scratch.path());
    }
    let target = empty(scratch.path(), "target");
    copy(&source, &target, &CopyOptions::default()).unwrap();
    assert_same(&manifest(&source, ALL), &manifest(&target, ALL));
    assert!(!attributes(&target.join("index.php")).is_empty());
    if acls {
        // As cp -a: an ACL that only the target's parent gives is not the copy's.
        let target = empty(scratch.path(), "second");
        set(&target, "system.posix_acl_default", &acl()).unwrap();
        copy(&source, &target, &CopyOptions::default()).unwrap();
        assert_same(&manifest(&source, ALL), &manifest(&target, ALL));
        // Where what the target passes on is wanted, it stays beside the source's own.
        let inherits = empty(scratch.path(), "inherits");
        set(&inherits, "system.posix_acl_default", &acl()).unwrap();
        let options = CopyOptions { inherit: true, root_metadata: false, ..Default::default() };
        copy(&source, &inherits, &options).unwrap();
        let acls = |path: &str| {
            let all = attributes(&inherits.join(path)).into_iter();
            all.map(|(name, _)| name).filter(|n| n.to_bytes().starts_with(b"system")).count()
        };
        assert_eq!([acls("index.php"), acls("app"), acls("app/etc/env.php")], [1, 2, 1]);
        let mode = |path: &Path| path.symlink_metadata().unwrap().mode() & 0o7777;
        assert_eq!(mode(&inherits.join("index.php")), mode(&source.join("index.php")));
        let plain = empty(scratch.path(), "third");
        copy(&source, &plain, &CopyOptions { attributes: false, ..Default::default() }).unwrap();
        assert_eq!(attributes(&plain.join("index.php")), []);
    }
}

#[test]
fn setuid_does_not_go_to_another_owner() {
    if !root("setuid files") {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let (source, target) = (sample(scratch.path()), empty(scratch.path(), "target"));
    lchown(source.join("index.php"), Some(5), Some(6)).unwrap();
    chmod(source.join("index.php"), 0o6755);
    chmod(source.join("app"), 0o2775);
    let mode = |path: &str| target.join(path).metadata().unwrap().mode() & 0o7777;
    let options = CopyOptions { owner: Some(77), group: Some(77), ..Default::default() };
    copy(&source, &target, &options).unwrap();
    assert_eq!((mode("index.php"), mode("app")), (0o755, 0o2775));
    fs::remove_dir_all(&target).unwrap();
    fs::create_dir(&target).unwrap();
    copy(&source, &target, &CopyOptions::default()).unwrap();
    assert_eq!(mode("index.php"), 0o6755);
}

#[test]
fn the_root_is_left_alone_on_request() {
    let scratch = tempfile::tempdir().unwrap();
    let (source, target) = (sample(scratch.path()), empty(scratch.path(), "target"));
    chmod(&source, 0o700);
    chmod(&target, 0o2750);
    let options = CopyOptions { root_metadata: false, ..Default::default() };
    copy(&source, &target, &options).unwrap();
    assert_eq!(target.metadata().unwrap().mode() & 0o7777, 0o2750);
}

#[test]
fn a_file_that_grows_while_it_is_copied_is_an_error() {
    let scratch = tempfile::tempdir().unwrap();
    let source = empty(scratch.path(), "source");
    put(&source, "log", vec![b'x'; 64 << 20]);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            use std::io::Write;
            let mut log = fs::OpenOptions::new().append(true).open(source.join("log")).unwrap();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                log.write_all(b"line\n").unwrap();
            }
        });
        let target = empty(scratch.path(), "target");
        let result =
            copy(&source, &target, &CopyOptions { method: Method::Copy, ..Default::default() });
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let error = result.unwrap_err();
        assert!(error.contains("source/log': it was changed at the same time"), "{error}");
    });
}
