//! Clones on file systems that have them, and copies on those that have not.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{ALL, assert_same, empty, manifest, open, put, root};
use oxistrano_tree::{CopyOptions, Method, copy_tree};

fn run(argv: &[&str]) -> bool {
    Command::new(argv[0]).args(&argv[1..]).output().is_ok_and(|output| output.status.success())
}

/// A file system in a file, unmounted at the end.
struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        run(&["umount", self.0.to_str().unwrap()]);
    }
}

fn clones_on(name: &str, make: &[&str]) {
    let scratch = tempfile::tempdir().unwrap();
    let (image, mount) = (scratch.path().join("image"), empty(scratch.path(), "mount"));
    fs::File::create(&image).unwrap().set_len(512 << 20).unwrap();
    let (image, at) = (image.to_str().unwrap(), mount.to_str().unwrap());
    if !run(&[make, &[image]].concat()) {
        eprintln!("NOT TESTED, no {}: clones on {name}", make[0]);
        return;
    }
    if !run(&["mount", "-o", "loop", image, at]) {
        eprintln!("NOT TESTED, cannot mount a loop device: clones on {name}");
        return;
    }
    let _mounted = Mounted(&mount);
    let source = empty(&mount, "source");
    put(&source, "dir/large", vec![7; 5_000_000]);
    put(&source, "small", "0123456789");
    put(&source, "empty", "");
    fs::File::create(source.join("hole")).unwrap().set_len(3_000_000).unwrap();
    let target = empty(&mount, "target");
    let copied = copy_tree(&open(&source), &open(&target), &CopyOptions::default()).unwrap();
    assert_eq!((copied.files, copied.cloned), (4, 3), "an empty file needs no clone");
    assert_same(&manifest(&source, ALL), &manifest(&target, ALL));
    // A clone is a file of its own.
    fs::write(target.join("small"), "changed").unwrap();
    assert_eq!(fs::read(source.join("small")).unwrap(), b"0123456789");
    let target = empty(&mount, "copies");
    let options = CopyOptions { method: Method::Copy, ..Default::default() };
    assert_eq!(copy_tree(&open(&source), &open(&target), &options).unwrap().cloned, 0);
    // From one file system to the other: copies.
    let target = empty(scratch.path(), "elsewhere");
    let copied = copy_tree(&open(&source), &open(&target), &CopyOptions::default()).unwrap();
    assert_eq!((copied.files, copied.cloned, copied.bytes), (4, 0, 8_000_010));
}

#[test]
fn clones_on_xfs() {
    if root("clones on xfs") {
        clones_on("xfs", &["mkfs.xfs", "-q"]);
    }
}

#[test]
fn clones_on_btrfs() {
    if root("clones on btrfs") {
        clones_on("btrfs", &["mkfs.btrfs", "-q"]);
    }
}

#[test]
fn copies_where_nothing_can_be_cloned() {
    let places = ["/dev/shm", "/tmp"];
    for place in places {
        let Ok(scratch) = tempfile::tempdir_in(place) else { continue };
        let (source, target) = (empty(scratch.path(), "source"), empty(scratch.path(), "target"));
        for n in 0..50 {
            put(&source, &format!("{n}"), vec![n; usize::from(n) * 5000]);
        }
        let copied = copy_tree(&open(&source), &open(&target), &CopyOptions::default()).unwrap();
        assert_eq!((copied.files, copied.bytes), (50, 5000 * (0..50).sum::<u64>()));
        assert_same(&manifest(&source, ALL), &manifest(&target, ALL));
    }
}
