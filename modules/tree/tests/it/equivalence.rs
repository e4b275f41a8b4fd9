//! Random trees: a copy is what `cp -a` makes of it, a synchronised directory is what
//! the source is.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::common::{ALL, CONTENTS, assert_same, chmod, empty, manifest, open};
use oxistrano_core::users;
use oxistrano_tree::{CopyOptions, Method, SyncOptions, copy_tree, sync_tree};
use proptest::prelude::*;

#[derive(Debug, Clone)]
pub enum Thing {
    File(Vec<u8>),
    Large(usize),
    Sparse(u64),
    Link(String),
    Hard(usize),
    Directory,
}

#[derive(Debug, Clone)]
pub struct Entry {
    path: Vec<u8>,
    thing: Thing,
    mode: u32,
    owner: u32,
    time: u64,
}

fn thing() -> impl Strategy<Value = Thing> {
    prop_oneof![
        6 => prop::collection::vec(any::<u8>(), 0..50).prop_map(Thing::File),
        1 => (60_000_usize..300_000).prop_map(Thing::Large),
        1 => (0_u64..2_000_000).prop_map(Thing::Sparse),
        2 => "[a-c/.]{1,8}".prop_map(Thing::Link),
        2 => (0_usize..20).prop_map(Thing::Hard),
        3 => Just(Thing::Directory),
    ]
}

pub fn tree() -> impl Strategy<Value = Vec<Entry>> {
    // Few names, so that they meet; bytes that are no UTF-8 among them.
    let name = prop_oneof![
        Just(b"a".to_vec()),
        Just(b"b".to_vec()),
        Just(b"c c\n".to_vec()),
        Just(vec![0xff, b'x'])
    ];
    let path = prop::collection::vec(name, 1..5).prop_map(|names| names.join(&b'/'));
    let mode = prop::sample::select(vec![
        0o644, 0o755, 0o600, 0o444, 0o2755, 0o4711, 0o1777, 0o000, 0o500,
    ]);
    let entry = (path, thing(), mode, 0_u32..4, 0_u64..2_000_000_000)
        .prop_map(|(path, thing, mode, owner, time)| Entry { path, thing, mode, owner, time });
    prop::collection::vec(entry, 0..40)
}

/// Makes the tree, as far as the entries do not contradict each other.
pub fn build(root: &Path, entries: &[Entry]) {
    let mut made: Vec<(PathBuf, &Entry)> = Vec::new();
    for entry in entries {
        let path = root.join(PathBuf::from(std::ffi::OsString::from_vec(entry.path.clone())));
        let parent = path.parent().unwrap();
        // Through a link it would lie elsewhere, perhaps outside.
        let leads_away = parent
            .ancestors()
            .take_while(|above| *above != root)
            .any(|above| above.symlink_metadata().is_ok_and(|there| there.is_symlink()));
        if leads_away || path.symlink_metadata().is_ok() || fs::create_dir_all(parent).is_err() {
            continue;
        }
        let done = match &entry.thing {
            Thing::File(contents) => fs::write(&path, contents),
            Thing::Large(size) => fs::write(&path, b"0123456789\n".repeat(size / 11)),
            Thing::Sparse(size) => fs::File::create_new(&path).and_then(|file| {
                std::os::unix::fs::FileExt::write_all_at(&file, b"middle", size / 2)?;
                file.set_len(*size + 10)
            }),
            Thing::Link(target) => symlink(target, &path),
            Thing::Hard(index) => match made.get(*index) {
                Some((other, _)) if !other.is_dir() || other.is_symlink() => {
                    fs::hard_link(other, &path)
                }
                _ => continue,
            },
            Thing::Directory => fs::create_dir(&path),
        };
        if done.is_ok() {
            made.push((path, entry));
        }
    }
    for (path, entry) in made.iter().rev() {
        if users::is_root() {
            lchown(path, Some(entry.owner), Some(entry.owner + 1)).unwrap();
        }
        let info = path.symlink_metadata().unwrap();
        if !info.is_symlink() {
            // Somebody who is not root must be able to read it.
            let floor = if info.is_dir() { 0o700 } else { 0o400 };
            chmod(path, if users::is_root() { entry.mode } else { entry.mode & 0o777 | floor });
            let time = SystemTime::UNIX_EPOCH + Duration::new(entry.time, 123_456_789);
            fs::File::open(path).unwrap().set_modified(time).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_copy_is_what_cp_makes(entries in tree(), method in prop::sample::select(vec![Method::Reflink, Method::Copy])) {
        let scratch = tempfile::tempdir().unwrap();
        let source = empty(scratch.path(), "source");
        build(&source, &entries);
        let ours = empty(scratch.path(), "ours");
        copy_tree(&open(&source), &open(&ours), &CopyOptions { method, ..CopyOptions::default() }).unwrap();
        let theirs = scratch.path().join("theirs");
        assert!(Command::new("cp").arg("-a").args([&source, &theirs]).status().unwrap().success());
        assert_same(&manifest(&ours, ALL), &manifest(&theirs, ALL));
        assert_same(&manifest(&ours, ALL), &manifest(&source, ALL));
    }

    #[test]
    fn a_synchronised_directory_is_what_the_source_is(old in tree(), new in tree()) {
        let scratch = tempfile::tempdir().unwrap();
        let (source, live) = (empty(scratch.path(), "source"), empty(scratch.path(), "live"));
        build(&source, &new);
        build(&live, &old);
        let before = manifest(&live, ALL);
        let plan = SyncOptions { dry_run: true, ..SyncOptions::default() };
        let planned = sync_tree(&open(&source), &open(&live), &plan).unwrap();
        assert_same(&before, &manifest(&live, ALL));

        let done = sync_tree(&open(&source), &open(&live), &SyncOptions::default()).unwrap();
        prop_assert_eq!(&planned, &done);
        let after = manifest(&live, CONTENTS);
        assert_same(&after, &manifest(&source, CONTENTS));
        let gone = before.keys().filter(|path| !after.contains_key(*path)).count();
        prop_assert!(done.deleted.count >= gone as u64);
        prop_assert_eq!(
            done.created.count + done.updated.count + done.unchanged,
            after.len() as u64
        );

        let untouched = manifest(&live, ALL);
        let again = sync_tree(&open(&source), &open(&live), &SyncOptions::default()).unwrap();
        prop_assert!(!again.changed(), "{:?}", again);
        assert_same(&untouched, &manifest(&live, ALL));
    }
}
