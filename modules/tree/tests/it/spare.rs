//! Copying onto what was there before gives what copying into an empty directory gives.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::{ALL, Look, assert_same, chmod, empty, manifest, open, put, rel, root};
use crate::equivalence::{build, tree};
use oxistrano_core::{Failure, users};
use oxistrano_tree::{Copied, CopyOptions, Method, Spare, copy_onto, copy_tree};
use proptest::prelude::*;
use rustix::fs::XattrFlags;

/// Everything below a directory, in an order that depends on nothing else.
fn paths(top: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> =
        manifest(top, ALL).into_keys().filter(|path| !path.as_os_str().is_empty()).collect();
    found.sort();
    found
}

/// What is changed without a trace: contents, and the time of modification is as it was.
fn change_secretly(path: &Path) -> std::io::Result<()> {
    let modified = fs::metadata(path)?.modified()?;
    let file = File::options().write(true).open(path)?;
    file.write_all_at(b"!", 0)?;
    file.set_modified(modified)
}

/// What somebody does to a tree. Nothing from 10 on can be copied or is wanted in a source.
fn spoil(top: &Path, outside: &Path, (what, index): (u8, usize)) {
    let all = paths(top);
    let Some(path) = all.get(index % all.len().max(1)).map(|path| top.join(path)) else { return };
    let beside = top.join("beside");
    let info = path.symlink_metadata().unwrap();
    // Who opens a FIFO waits.
    let is_file = info.is_file();
    let done = match what {
        0 => fs::remove_file(&path),
        1 if is_file && info.len() > 0 => change_secretly(&path),
        2 if !info.is_symlink() => {
            chmod(&path, 0o750);
            Ok(())
        }
        3 if is_file => {
            File::options().append(true).open(&path).and_then(|mut f| f.write_all(b"x"))
        }
        4 => fs::remove_file(&path).and_then(|()| fs::create_dir(&path)),
        5 => fs::rename(&path, &beside),
        6 => fs::remove_file(&path).and_then(|()| symlink("a", &path)),
        7 => lchown(&path, Some(33), Some(33)),
        8 if info.is_dir() => fs::write(path.join("more"), "more"),
        9 if is_file => File::open(&path).unwrap().set_modified(std::time::UNIX_EPOCH),
        10 => fs::hard_link(&path, outside.join(index.to_string())),
        11 if is_file => {
            chmod(&path, 0o4755);
            Ok(())
        }
        12 => fs::remove_file(&path)
            .and_then(|()| Command::new("mkfifo").arg(&path).status().map(drop)),
        13 if is_file || info.is_dir() => File::open(&path).map(|file| {
            let _ = rustix::fs::fsetxattr(&file, "user.note", b"x", XattrFlags::empty());
        }),
        14 if info.is_dir() => {
            let moved = top.join("moved");
            fs::rename(&path, &moved).and_then(|()| symlink(outside, &path))
        }
        _ => Ok(()),
    };
    // Most of it is not possible most of the time.
    let _ = done;
}

struct Place {
    _scratch: tempfile::TempDir,
    top: PathBuf,
}

impl Place {
    fn new() -> Self {
        let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
        let top = scratch.path().to_owned();
        Self { _scratch: scratch, top }
    }

    /// A tree, and a copy of it that is the spare.
    fn with_spare(options: &CopyOptions) -> (Self, PathBuf, PathBuf) {
        let place = Self::new();
        let (source, spare) = (empty(&place.top, "source"), empty(&place.top, "spare"));
        put(&source, "app/small", "small");
        put(&source, "app/changed", "old");
        put(&source, "large", vec![7; 300_000]);
        fs::create_dir(source.join("empty")).unwrap();
        symlink("app/small", source.join("link")).unwrap();
        copy_tree(&open(&source), &open(&spare), options).unwrap();
        (place, source, spare)
    }

    fn onto(&self, source: &Path, to: &Path, options: &CopyOptions) -> Result<Copied, Failure> {
        let grave = empty(&self.top, &format!("grave{}", fs::read_dir(&self.top).unwrap().count()));
        // As the one who takes a spare makes its top.
        let made = fs::metadata(&grave).unwrap();
        lchown(to, Some(made.uid()), Some(made.gid())).unwrap();
        fs::set_permissions(to, made.permissions()).unwrap();
        copy_onto(&open(source), &open(to), options, Spare::new(open(&grave))?)
    }
}

fn inode(path: &Path) -> u64 {
    path.symlink_metadata().unwrap().ino()
}

const NAMES: [&str; 6] = ["app", "app/small", "app/changed", "large", "link", "empty"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    #[test]
    fn onto_whatever_was_there_it_is_as_in_an_empty_directory(
        entries in tree(),
        other in prop::option::weighted(0.3, tree()),
        new in prop::collection::vec((0_u8..10, 0_usize..40), 0..4),
        spoilt in prop::collection::vec((0_u8..15, 0_usize..40), 0..5),
        method in prop::sample::select(vec![Method::Reflink, Method::Copy, Method::Hardlink]),
        listed in any::<bool>(),
        setgid in any::<bool>(),
    ) {
        let place = Place::new();
        let (source, outside) = (empty(&place.top, "source"), empty(&place.top, "outside"));
        if setgid && users::is_root() {
            lchown(&place.top, None, Some(33)).unwrap();
            chmod(&place.top, 0o2775);
        }
        build(&source, &entries);
        let mut options = CopyOptions { method, inherit: true, ..CopyOptions::default() };
        let spare = empty(&place.top, "spare");
        copy_tree(&open(&source), &open(&spare), &options).unwrap();
        spoilt.iter().for_each(|what| spoil(&spare, &outside, *what));
        // Only how many names it has may change.
        let alone = Look { hard_links: false, ..ALL };
        let theirs = manifest(&outside, alone);
        // The next release: another tree, or the same in which something is another.
        let source = match other {
            Some(other) => {
                let source = empty(&place.top, "other");
                build(&source, &other);
                source
            }
            None => source,
        };
        new.iter().for_each(|what| spoil(&source, &outside, *what));
        if listed {
            let files = paths(&source);
            let files = files.iter().filter(|path| !source.join(path).symlink_metadata().unwrap().is_dir());
            options.only = Some(files.map(|path| oxistrano_core::RelPath::new(path).unwrap()).collect());
            options.root_metadata = false;
        }
        let fresh = empty(&place.top, "fresh");
        let anew = copy_tree(&open(&source), &open(&fresh), &options).unwrap();
        let onto = place.onto(&source, &spare, &options).unwrap();
        // What is not given its time has that of now.
        let look = Look { root: !listed, ..ALL };
        assert_same(&manifest(&fresh, look), &manifest(&spare, look));
        let told = |copied: Copied| Copied { kept: 0, kept_bytes: 0, ..copied };
        prop_assert_eq!(told(anew), told(onto));
        if method != Method::Hardlink {
            assert_same(&manifest(&outside, alone), &theirs);
        }
    }
}

#[test]
fn what_is_the_same_is_the_same_file_and_the_rest_is_another() {
    let options = CopyOptions::default();
    let (place, source, spare) = Place::with_spare(&options);
    let before = NAMES.map(|name| inode(&spare.join(name)));
    put(&spare, "more/below/file", "");
    put(&spare, "app/more", "");
    let mut open = File::options().append(true).open(spare.join("app/changed")).unwrap();
    put(&source, "app/changed", "new");
    let copied = place.onto(&source, &spare, &options).unwrap();
    assert_eq!((copied.files, copied.kept, copied.kept_bytes), (3, 2, 300_005));
    for (name, before) in NAMES.iter().zip(before) {
        assert_eq!(inode(&spare.join(name)) == before, *name != "app/changed", "{name}");
    }
    open.write_all(b"late").unwrap();
    assert_same(&manifest(&source, ALL), &manifest(&spare, ALL));
}

#[test]
fn a_file_that_was_changed_and_given_its_old_time_is_replaced() {
    let options = CopyOptions::default();
    let (place, source, spare) = Place::with_spare(&options);
    let large = spare.join("large");
    let modified = fs::metadata(&large).unwrap().modified().unwrap();
    File::options().write(true).open(&large).unwrap().write_all_at(b"!", 299_999).unwrap();
    File::open(&large).unwrap().set_modified(modified).unwrap();
    change_secretly(&spare.join("app/small")).unwrap();
    let copied = place.onto(&source, &spare, &options).unwrap();
    assert_eq!(copied.kept, 1);
    assert_same(&manifest(&source, ALL), &manifest(&spare, ALL));
}

#[test]
fn a_file_with_another_name_elsewhere_is_neither_kept_nor_changed() {
    let options = CopyOptions::default();
    let (place, source, spare) = Place::with_spare(&options);
    for (name, elsewhere) in [("app/small", "1"), ("app/changed", "2"), ("large", "3")] {
        fs::hard_link(spare.join(name), place.top.join(elsewhere)).unwrap();
    }
    fs::write(source.join("app/changed"), "new").unwrap();
    File::open(source.join("large")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    let copied = place.onto(&source, &spare, &options).unwrap();
    assert_eq!(copied.kept, 0);
    assert_eq!(fs::read(place.top.join("2")).unwrap(), b"old");
    assert_ne!(place.top.join("3").metadata().unwrap().mtime(), 0);
    assert_ne!(inode(&spare.join("large")), inode(&place.top.join("3")));
}

#[test]
fn what_is_another_users_set_user_id_or_no_file_is_replaced() {
    if !root("files of other users in a spare") {
        return;
    }
    let options = CopyOptions::default();
    let (place, source, spare) = Place::with_spare(&options);
    chmod(source.join("large"), 0o4755);
    chmod(spare.join("large"), 0o4755);
    lchown(spare.join("app/small"), Some(33), Some(33)).unwrap();
    lchown(spare.join("link"), Some(33), Some(33)).unwrap();
    fs::remove_file(spare.join("app/changed")).unwrap();
    let made = Command::new("mkfifo").arg(spare.join("app/changed")).stdout(Stdio::null()).status();
    assert!(made.unwrap().success());
    let before = NAMES.map(|name| inode(&spare.join(name)));
    let copied = place.onto(&source, &spare, &options).unwrap();
    assert_eq!(copied.kept, 0);
    assert_same(&manifest(&source, ALL), &manifest(&spare, ALL));
    let same = |name: &str| {
        NAMES
            .iter()
            .zip(before)
            .any(|(other, inode_)| *other == name && inode(&spare.join(name)) == inode_)
    };
    assert!(same("app") && same("empty") && !same("large") && !same("link"));
}

#[test]
fn a_mount_in_it_makes_it_unusable_and_is_not_touched() {
    let options = CopyOptions::default();
    let (place, source, spare) = Place::with_spare(&options);
    let app = spare.join("app");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&app).status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("NOT CHECKED: nothing can be mounted here");
        return;
    }
    fs::write(app.join("small"), "theirs").unwrap();
    let failures = [source.clone(), empty(&place.top, "without")]
        .map(|source| place.onto(&source, &spare, &options).unwrap_err());
    let text = fs::read_to_string(app.join("small"));
    assert!(Command::new("umount").arg(&app).status().unwrap().success());
    assert_eq!(text.unwrap(), "theirs");
    assert_eq!(failures[0].code(), "strange_spare");
    // What is to go cannot; whatever it is called, it is not the source's.
    assert_ne!(failures[1].code(), "mount_point");
}

#[test]
fn what_has_attributes_on_either_side_is_made_anew() {
    let options = CopyOptions::default();
    let (place, source, spare) = Place::with_spare(&options);
    let note = |path: PathBuf| {
        let file = File::open(path).unwrap();
        rustix::fs::fsetxattr(&file, "user.note", b"x", XattrFlags::empty()).is_ok()
    };
    let all =
        [spare.join("app"), spare.join("large"), source.join("app/small"), source.join("empty")];
    if !all.into_iter().all(note) {
        eprintln!("NOT CHECKED: attributes cannot be set here");
        return;
    }
    let before = NAMES.map(|name| inode(&spare.join(name)));
    let copied = place.onto(&source, &spare, &options).unwrap();
    assert_eq!(copied.kept, 0);
    let after = NAMES.map(|name| inode(&spare.join(name)));
    let same: Vec<_> = before.iter().zip(after).map(|(a, b)| *a == b).collect();
    assert_eq!(same, [false, false, false, false, true, true]);
    assert_same(&manifest(&source, ALL), &manifest(&spare, ALL));
}

#[test]
fn with_hard_links_what_is_the_sources_own_stays() {
    let options = CopyOptions { method: Method::Hardlink, ..CopyOptions::default() };
    let (place, source, spare) = Place::with_spare(&options);
    // As rsync and git bring a file: another one under its name.
    fs::remove_file(source.join("app/changed")).unwrap();
    put(&source, "app/changed", "new");
    let copied = place.onto(&source, &spare, &options).unwrap();
    assert_eq!((copied.files, copied.linked, copied.kept), (3, 3, 2));
    for name in ["app/small", "app/changed", "large"] {
        assert_eq!(inode(&spare.join(name)), inode(&source.join(name)), "{name}");
    }
    // A copy of it is none.
    let options = CopyOptions { method: Method::Copy, ..options };
    let copied = place.onto(&source, &spare, &options).unwrap();
    assert_eq!((copied.linked, copied.kept), (0, 0));
    assert_ne!(inode(&spare.join("large")), inode(&source.join("large")));
}

#[test]
fn what_is_left_out_goes() {
    let options = CopyOptions::default();
    let (place, source, spare) = Place::with_spare(&options);
    let options = CopyOptions { exclude: vec![rel("app/small"), rel("empty")], ..options };
    let copied = place.onto(&source, &spare, &options).unwrap();
    assert_eq!((copied.kept, copied.directories), (2, 1));
    assert!(!spare.join("app/small").exists() && !spare.join("empty").exists());
}
