//! Many and deep directories with few file descriptors. The limit is that of the whole
//! process, so this is the only test here.

#[path = "it/common/mod.rs"]
mod common;

use common::{ALL, CONTENTS, assert_same, empty, manifest, open, put};
use oxistrano_tree::{CopyOptions, Spare, SyncOptions, copy_onto, copy_tree, sync_tree};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn sixty_four_file_descriptors_are_enough() {
    // In memory if possible: it makes thousands of directories.
    let scratch = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let source = empty(scratch.path(), "source");
    for a in 0..6 {
        for b in 0..30 {
            put(&source, &format!("wide{a}/{b}/c/file"), format!("{a}{b}"));
        }
        put(&source, &format!("deep{a}/{}file", "sub/".repeat(100)), "deep");
    }
    for n in 0..5000 {
        put(&source, &format!("many/{n}"), n.to_string());
    }
    let limits = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), ..limits }).unwrap();
    let target = empty(scratch.path(), "target");
    let copied = copy_tree(&open(&source), &open(&target), &CopyOptions::default());
    let spare = Spare::new(open(empty(scratch.path(), "grave"))).unwrap();
    let onto = copy_onto(&open(&source), &open(&target), &CopyOptions::default(), spare);
    let live = empty(scratch.path(), "live");
    put(&live, "many/17", "old");
    let synced = sync_tree(&open(&source), &open(&live), &SyncOptions::default());
    let again = sync_tree(&open(&source), &open(&live), &SyncOptions::default());
    setrlimit(Resource::Nofile, limits).unwrap();
    assert_eq!(copied.unwrap().files, 5000 + 180 + 6);
    assert_eq!(onto.unwrap().kept, 5000 + 180 + 6);
    assert_eq!(synced.unwrap().updated.count, 1);
    assert!(!again.unwrap().changed());
    assert_same(&manifest(&source, ALL), &manifest(&target, ALL));
    assert_same(&manifest(&source, CONTENTS), &manifest(&live, CONTENTS));
}
