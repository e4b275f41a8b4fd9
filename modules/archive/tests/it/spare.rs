//! Unpacking onto what was there before gives what unpacking anew gives.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;

use crate::common::{Raw, noise};
use oxistrano_archive::{Index, Spare, Summary, UnpackOptions, unpack, unpack_noting, unpack_onto};
use oxistrano_core::{Dir, Failure, users};

/// Few names, so that they meet each other: as files, directories and links.
pub const NAMES: [&str; 8] = ["a", "b", "a/x", "a/y", "b/x/z", "b/x", "c/d/e/f", "a/y/z"];
/// Before this all is of the archives, after it of now.
const PAST: i64 = 1_000_000_000;

/// An entry: its kind, its name, another name, and a number for all else.
pub type Entry = (u8, usize, usize, u8);

pub fn archive(entries: &[Entry]) -> Vec<u8> {
    let large = noise(150_000);
    entries
        .iter()
        .fold(Raw::new(), |raw, (kind, name, other, number)| {
            let change = |header: &mut [u8; 512]| {
                let mode = [0o644, 0o755, 0o600, 0o2755, 0o4755, 0o555][usize::from(number % 6)];
                header[100..107].copy_from_slice(format!("{mode:07o}").as_bytes());
                let id = u32::from(*number == 9) * 33;
                header[108..115].copy_from_slice(format!("{id:07o}").as_bytes());
                header[116..123].copy_from_slice(format!("{id:07o}").as_bytes());
                header[136..147].copy_from_slice(format!("{:011o}", number / 4).as_bytes());
                let target = NAMES[*other].as_bytes();
                header[157..157 + target.len()].copy_from_slice(target);
            };
            let small = vec![b'0' + number % 3; usize::from(*number % 5) * 700];
            let cut = &large[usize::from(*number % 2)..];
            let name = NAMES[*name];
            match kind {
                0..=4 => raw.with(name, b'0', &small, change),
                5 => raw.with(name, b'0', cut, change),
                6 | 7 => raw.with(name, b'5', b"", change),
                8 => raw.with(name, b'2', b"", change),
                9 => raw.with(name, b'1', b"", change),
                _ => raw
                    .pax(
                        b'x',
                        &[
                            ("GNU.sparse.major", "1"),
                            ("GNU.sparse.minor", "0"),
                            ("GNU.sparse.name", name),
                            ("GNU.sparse.realsize", "90000"),
                        ],
                    )
                    .with(
                        name,
                        b'0',
                        &[&b"1\n80000\n4\n"[..], &[0; 502], b"text"].concat(),
                        change,
                    ),
            }
        })
        .end()
}

/// What somebody does to a release.
pub fn spoil(top: &Path, outside: &Path, (what, name): (u8, usize)) {
    let path = top.join(NAMES[name]);
    let beside = top.join("beside");
    // Who opens a FIFO waits.
    let is_file = path.symlink_metadata().is_ok_and(|info| info.is_file());
    let done = match what {
        0 => fs::remove_file(&path),
        1 if is_file => fs::write(&path, "changed"),
        2 if is_file => fs::set_permissions(&path, Permissions::from_mode(0o640)),
        3 if is_file => fs::set_permissions(&path, Permissions::from_mode(0o4755)),
        4 => fs::create_dir(&path).and_then(|()| fs::write(path.join("left"), "x")),
        5 => fs::hard_link(&path, beside),
        6 => symlink(outside, &path),
        7 => lchown(&path, Some(33), Some(33)),
        8 => fs::rename(&path, beside),
        9 => {
            Command::new("mkfifo").arg(&path).stderr(std::process::Stdio::null()).status().map(drop)
        }
        10 if is_file => {
            File::options().append(true).open(&path).and_then(|file| file.set_len(700))
        }
        11 => fs::remove_file(&path).and_then(|()| symlink("a", &path)),
        _ => fs::rename(&path, top.join("x")).and_then(|()| symlink("x", &path)),
    };
    // Most of it is not possible most of the time.
    let _ = done;
}

pub struct Place {
    _scratch: tempfile::TempDir,
    pub top: PathBuf,
}

impl Place {
    pub fn new() -> Self {
        let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
        let top = scratch.path().to_owned();
        Self { _scratch: scratch, top }
    }

    pub fn make(&self, name: &str) -> PathBuf {
        let path = self.top.join(name);
        fs::create_dir(&path).unwrap();
        path
    }

    pub fn file(&self, archive: &[u8]) -> (File, PathBuf) {
        let path = self.top.join("archive");
        fs::write(&path, archive).unwrap();
        (File::open(&path).unwrap(), path)
    }

    pub fn anew(
        &self,
        archive: &[u8],
        into: &Path,
        options: &UnpackOptions,
    ) -> Result<Summary, Failure> {
        let (file, path) = self.file(archive);
        unpack(&file, &path, &Dir::open(into).unwrap(), options)
    }

    fn spare(&self) -> Spare {
        let grave = self.make(&format!("grave{}", fs::read_dir(&self.top).unwrap().count()));
        Spare::new(Dir::open(&grave).unwrap()).unwrap()
    }

    /// Unpacks, and returns the index of the tree, if it can have one.
    fn indexed(
        &self,
        archive: &[u8],
        into: &Path,
        options: &UnpackOptions,
        onto: bool,
    ) -> Option<Index> {
        let (file, path) = self.file(archive);
        let spare = onto.then(|| self.spare());
        let (_, noted) =
            unpack_noting(&file, &path, &Dir::open(into).unwrap(), options, spare).ok()?;
        // Files that were written in the same tick of the clock are not known.
        std::thread::sleep(std::time::Duration::from_millis(10));
        noted?.write(&Dir::open(&self.top).unwrap(), "index").unwrap();
        Index::parse(fs::read(self.top.join("index")).unwrap())
    }

    fn onto_with(
        &self,
        archive: &[u8],
        into: &Path,
        options: &UnpackOptions,
        index: Option<&Index>,
    ) -> Result<Summary, Failure> {
        let (file, path) = self.file(archive);
        let mut spare = self.spare();
        if let Some(index) = index {
            spare = spare.with_index(index);
        }
        unpack_onto(&file, &path, &Dir::open(into).unwrap(), options, spare)
    }

    pub fn onto(
        &self,
        archive: &[u8],
        into: &Path,
        options: &UnpackOptions,
    ) -> Result<Summary, Failure> {
        self.onto_with(archive, into, options, None)
    }
}

/// All that can be told of a tree. Files with several names have the first of them with each.
pub fn tree(top: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut left = vec![top.to_owned()];
    while let Some(path) = left.pop() {
        let info = path.symlink_metadata().unwrap();
        let what = if info.is_dir() {
            let entries = fs::read_dir(&path).unwrap();
            left.extend(entries.map(|entry| entry.unwrap().path()));
            "directory".to_owned()
        } else if info.is_symlink() {
            fs::read_link(&path).unwrap().display().to_string()
        } else if !info.is_file() {
            "something else".to_owned()
        } else {
            let contents = fs::read(&path).unwrap();
            let holes = info.blocks() * 512 < info.size();
            format!("{} {holes} {}", info.nlink(), contents.escape_ascii())
        };
        let time = (info.mtime() < PAST).then_some((info.mtime(), info.mtime_nsec()));
        let mode = info.permissions().mode();
        let name = path.strip_prefix(top).unwrap().display().to_string();
        let (uid, gid) = (info.uid(), info.gid());
        all.insert(name, format!("{mode:o} {uid}:{gid} {time:?} {what} #{}", info.ino()));
    }
    let mut first: HashMap<String, String> = HashMap::new();
    for (name, told) in &mut all {
        let (what, inode) = told.rsplit_once('#').unwrap();
        let first = first.entry(inode.to_owned()).or_insert_with(|| name.clone());
        *told = format!("{what}#{first}");
    }
    all
}

pub fn entries() -> impl Strategy<Value = Vec<Entry>> {
    proptest::collection::vec((0_u8..11, 0..NAMES.len(), 0..NAMES.len(), 0_u8..10), 1..14)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn onto_whatever_was_there_it_is_as_anew(
        before in entries(),
        // Often the same archive, but for an entry.
        same in 0_u8..3,
        other in entries(),
        spoilt in proptest::collection::vec((0_u8..13, 0..NAMES.len()), 0..4),
        with in 0_u8..4,
        has_index in any::<bool>(),
    ) {
        let options = UnpackOptions {
            preserve_owner: users::is_root() && with % 2 == 0,
            owner: (users::is_root() && with == 3).then_some(34),
            directory_mode: oxistrano_core::Mode::parse("0775").ok().filter(|_| with == 1),
            set_id: true,
            ..UnpackOptions::default()
        };
        let after = match same {
            0 => other,
            1 => before.clone(),
            _ => [&before[..before.len() / 2], &other[..1], &before[before.len() / 2..]].concat(),
        };
        let place = Place::new();
        let spare = place.make("spare");
        let index = match has_index {
            true => place.indexed(&archive(&before), &spare, &options, false),
            false => place.anew(&archive(&before), &spare, &options).ok().and(None),
        };
        // As the one who takes a spare makes its top.
        fs::set_permissions(&spare, place.make("like").metadata().unwrap().permissions()).unwrap();
        let outside = place.top.join("outside");
        fs::write(&outside, "whole").unwrap();
        spoilt.iter().for_each(|what| spoil(&spare, &outside, *what));
        lchown(&spare, Some(users::current()), Some(fs::metadata(&place.top).unwrap().gid())).unwrap();
        let fresh = place.make("fresh");
        let anew = place.anew(&archive(&after), &fresh, &options);
        let onto = place.onto_with(&archive(&after), &spare, &options, index.as_ref());
        match (anew, onto) {
            (Ok(anew), Ok(onto)) => {
                prop_assert_eq!(tree(&fresh), tree(&spare));
                let none = Summary { kept_files: 0, kept_bytes: 0, ..onto };
                prop_assert_eq!(anew, none);
            }
            // Of several defects another one may be met first.
            (Err(_), Err(onto)) => prop_assert!(
                ["bad_archive", "unsafe_entry"].contains(&onto.code()), "{}", onto
            ),
            (anew, onto) => prop_assert!(false, "{:?}\n{:?}", anew, onto),
        }
        prop_assert_eq!(fs::read_to_string(&outside).unwrap(), "whole");
    }
}

/// A page of a file on a tmpfs, mapped. Only the first change of it sets the file's ctime.
struct Mapped<'a>(&'a mut [u8]);

impl Mapped<'_> {
    fn new(path: &Path, length: usize) -> Self {
        use rustix::mm::{MapFlags, ProtFlags, mmap};
        let file = File::options().read(true).write(true).open(path).unwrap();
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping of a file that has these bytes. Nobody else reads it while it is changed.
        unsafe {
            let page =
                mmap(std::ptr::null_mut(), length, access, MapFlags::SHARED, file, 0).unwrap();
            Self(std::slice::from_raw_parts_mut(page.cast(), length))
        }
    }
}

impl Drop for Mapped<'_> {
    fn drop(&mut self) {
        // SAFETY: it is the mapping of `new`, and nothing borrows from it any more.
        unsafe { rustix::mm::munmap(self.0.as_mut_ptr().cast(), self.0.len()).unwrap() }
    }
}

#[test]
fn what_was_read_and_stays_is_not_known_later() {
    let place = Place::new();
    let spare = place.make("spare");
    let options = UnpackOptions::default();
    let small = spare.join("app/small");
    place.anew(&release(b"old"), &spare, &options).unwrap();
    let mapped = Mapped::new(&small, 5);
    mapped.0.copy_from_slice(b"other");
    mapped.0.copy_from_slice(b"small");
    let before = inode(&small);
    let index = place.indexed(&release(b"old"), &spare, &options, true).unwrap();
    assert_eq!(inode(&small), before);
    let ctime = || small.metadata().map(|info| (info.ctime(), info.ctime_nsec())).unwrap();
    let unseen = ctime();
    mapped.0.copy_from_slice(b"other");
    assert_eq!(ctime(), unseen);
    place.onto_with(&release(b"new"), &spare, &options, Some(&index)).unwrap();
    assert_eq!(fs::read(&small).unwrap(), b"small");
    assert_ne!(inode(&small), before);
}

#[test]
fn what_was_unpacked_is_known_until_it_is_changed() {
    let place = Place::new();
    let spare = place.make("spare");
    let options = UnpackOptions::default();
    let index = place.indexed(&release(b"old"), &spare, &options, false).unwrap();
    let names = ["app/small", "large"];
    let inodes = || names.map(|name| inode(&spare.join(name)));
    let before = inodes();
    let onto = |index| place.onto_with(&release(b"new"), &spare, &options, index).unwrap();
    let summary = onto(Some(&index));
    assert_eq!((summary.kept_files, summary.kept_bytes), (2, 300_005));
    assert_eq!(inodes(), before);
    for name in names {
        let mut file = File::options().write(true).open(spare.join(name)).unwrap();
        file.write_all(b"third").unwrap();
    }
    assert_eq!(onto(Some(&index)).kept_files, 1);
    assert_eq!(fs::read(spare.join("app/small")).unwrap(), b"small");
    assert_eq!(fs::read(spare.join("large")).unwrap(), noise(300_000));
}

/// A release with a file of each size, a link and a directory.
fn release(changed: &[u8]) -> Vec<u8> {
    Raw::new()
        .dir("app", 0o755)
        .file("app/small", b"small")
        .file("app/changed", changed)
        .file("large", &noise(300_000))
        .link("link", b'2', "app/small")
        .dir("empty", 0o750)
        .end()
}

fn inode(path: &Path) -> u64 {
    path.symlink_metadata().unwrap().ino()
}

#[test]
fn what_is_the_same_is_the_same_file_and_the_rest_is_another() {
    let place = Place::new();
    let spare = place.make("spare");
    let options = UnpackOptions::default();
    place.anew(&release(b"old"), &spare, &options).unwrap();
    let names = ["app", "app/small", "app/changed", "large", "link", "empty"];
    let before = names.map(|name| inode(&spare.join(name)));
    fs::create_dir_all(spare.join("more/below")).unwrap();
    fs::write(spare.join("app/more"), "more").unwrap();
    let mut open = File::options().append(true).open(spare.join("app/changed")).unwrap();
    let summary = place.onto(&release(b"new"), &spare, &options).unwrap();
    assert_eq!((summary.files, summary.kept_files, summary.kept_bytes), (3, 2, 300_005));
    for (name, before) in names.iter().zip(before) {
        assert_eq!(inode(&spare.join(name)) == before, *name != "app/changed", "{name}");
    }
    open.write_all(b"late").unwrap();
    assert_eq!(fs::read(spare.join("app/changed")).unwrap(), b"new");
    assert_eq!(fs::read_dir(spare.join("app")).unwrap().count(), 2);
    assert!(!spare.join("more").exists());
}

#[test]
fn a_file_with_another_name_elsewhere_is_neither_kept_nor_changed() {
    let place = Place::new();
    let spare = place.make("spare");
    let options = UnpackOptions::default();
    place.anew(&release(b"old"), &spare, &options).unwrap();
    for (name, elsewhere) in [("app/small", "1"), ("app/changed", "2"), ("large", "3")] {
        fs::hard_link(spare.join(name), place.top.join(elsewhere)).unwrap();
    }
    let summary = place.onto(&release(b"new"), &spare, &options).unwrap();
    assert_eq!(summary.kept_files, 0);
    assert_eq!(fs::read(place.top.join("2")).unwrap(), b"old");
    assert_eq!(place.top.join("1").metadata().unwrap().mtime(), 1_000_000);
    assert_ne!(inode(&spare.join("large")), inode(&place.top.join("3")));
}

#[test]
fn a_mount_in_it_makes_it_unusable_and_is_not_touched() {
    let place = Place::new();
    let spare = place.make("spare");
    let options = UnpackOptions::default();
    place.anew(&release(b"old"), &spare, &options).unwrap();
    let app = spare.join("app");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&app).status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("NOT CHECKED: nothing can be mounted here");
        return;
    }
    fs::write(app.join("small"), "theirs").unwrap();
    let failure = place.onto(&release(b"new"), &spare, &options).unwrap_err();
    let text = fs::read_to_string(app.join("small"));
    assert!(Command::new("umount").arg(&app).status().unwrap().success());
    assert_eq!((failure.code(), text.unwrap().as_str()), ("strange_spare", "theirs"));
}

#[test]
fn what_has_an_access_list_is_made_anew() {
    let place = Place::new();
    let spare = place.make("spare");
    let options = UnpackOptions::default();
    place.anew(&release(b"old"), &spare, &options).unwrap();
    let names = ["app", "app/small", "large", "empty"];
    let note = |name: &&str| {
        let file = File::open(spare.join(name)).unwrap();
        rustix::fs::fsetxattr(&file, "user.note", b"x", rustix::fs::XattrFlags::empty()).is_ok()
    };
    if !["app", "large"].iter().all(note) {
        eprintln!("NOT CHECKED: attributes cannot be set here");
        return;
    }
    let before = names.map(|name| inode(&spare.join(name)));
    place.onto(&release(b"old"), &spare, &options).unwrap();
    let after = names.map(|name| inode(&spare.join(name)));
    let same: Vec<_> = before.iter().zip(after).map(|(a, b)| *a == b).collect();
    assert_eq!(same, [false, false, false, true]);
    assert!(!oxistrano_core::dir::has_attributes(File::open(spare.join("app")).unwrap()));
}
