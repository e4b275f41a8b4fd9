//! Compares two trees by contents, for a rehearsal. Nothing is written, and no link is followed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use oxistrano_core::dir::Info;
use oxistrano_core::json::{Value, json};
use oxistrano_core::show::line;
use oxistrano_core::{Dir, Failure, IoContext, RelPath, interrupt};
use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

/// The limit for the number of files, because of the memory that the list needs.
const MOST: usize = 250_000;
const MOST_BYTES: usize = 32 << 20;
/// The same depth as for archives.
const DEEPEST: usize = 256;
/// Names that are shown of each kind of change, and characters of each.
const SHOWN: usize = 20;
const LONGEST: usize = 200;
/// Of a path, in an encoded list.
const LONGEST_PATH: usize = 4095;

/// The beginning of a SHA-256, which is enough to detect unintended changes.
type Sum = [u8; 16];

/// A file, or a symbolic link whose contents are its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    link: bool,
    size: u64,
    sum: Sum,
}

/// The files and links of a tree, by path.
#[derive(Debug, Default)]
pub struct Files {
    entries: BTreeMap<Vec<u8>, Entry>,
    /// Of all names.
    bytes: usize,
    too_many: bool,
}

/// The digest of a file's contents.
#[derive(Debug, Default)]
pub struct Contents {
    size: u64,
    hash: Sha256,
}

impl Contents {
    /// Adds the next bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        self.hash.update(bytes);
    }

    /// Adds `count` zeros.
    pub fn add_zeros(&mut self, mut count: u64) {
        let zeros = [0; 4096];
        while count > 0 {
            let some = count.min(zeros.len() as u64);
            self.add(&zeros[..some as usize]);
            count -= some;
        }
    }

    fn end(self, link: bool) -> Entry {
        let (mut sum, whole) = (Sum::default(), self.hash.finalize());
        sum.copy_from_slice(&whole[..size_of::<Sum>()]);
        Entry { link, size: self.size, sum }
    }
}

impl Files {
    /// Adds a file; replaces an earlier entry of that name.
    pub fn add_file(&mut self, path: &Path, contents: Contents) {
        self.add(path.as_os_str().as_bytes().to_vec(), contents.end(false));
    }

    /// A symbolic link.
    pub fn add_link(&mut self, path: &Path, target: &[u8]) {
        let mut contents = Contents::default();
        contents.add(target);
        self.add(path.as_os_str().as_bytes().to_vec(), contents.end(true));
    }

    /// Adds another name of the entry `target`.
    pub fn add_name(&mut self, path: &Path, target: &Path) {
        if let Some(entry) = self.entries.get(target.as_os_str().as_bytes()).copied() {
            self.add(path.as_os_str().as_bytes().to_vec(), entry);
        }
    }

    /// Removes an entry, because a directory replaces it.
    pub fn forget(&mut self, path: &Path) {
        self.entries.remove(path.as_os_str().as_bytes());
    }

    fn add(&mut self, path: Vec<u8>, entry: Entry) {
        if self.entries.len() == MOST || self.bytes > MOST_BYTES {
            self.too_many = true;
            return;
        }
        self.bytes += path.len();
        self.entries.insert(path, entry);
    }

    /// The number of entries.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// The number of regular files.
    pub fn regular(&self) -> usize {
        self.entries.values().filter(|entry| !entry.link).count()
    }

    /// Reads those of a tree, except below the paths `leave` and mount points.
    ///
    /// # Errors
    /// When something in it cannot be read.
    pub fn of(tree: &Dir, leave: &[RelPath]) -> Result<Self, Failure> {
        let mut files = Self::default();
        walk(tree, leave, &mut |path, dir, info| {
            if let Some(entry) = entry(dir, path, info)? {
                files.add(path.as_os_str().as_bytes().to_vec(), entry);
            }
            Ok(())
        })?;
        Ok(files)
    }

    /// Encodes it for another process, see [`Self::decode`].
    pub fn encode(&self) -> Vec<u8> {
        let mut text = vec![u8::from(self.too_many)];
        for (path, entry) in &self.entries {
            text.push(u8::from(entry.link));
            text.extend(entry.size.to_le_bytes());
            text.extend(entry.sum);
            // Paths in an archive are not longer than the kernel allows.
            text.extend(u16::try_from(path.len()).unwrap_or(u16::MAX).to_le_bytes());
            text.extend(path);
        }
        text
    }

    /// Decodes the output of [`Self::encode`].
    ///
    /// # Errors
    /// An I/O error, or invalid data.
    pub fn decode(mut input: impl Read) -> io::Result<Self> {
        let mut files = Self { too_many: read::<1>(&mut input)? != [0], ..Self::default() };
        let mut link = [0];
        while input.read(&mut link)? == 1 {
            let size = u64::from_le_bytes(read(&mut input)?);
            let sum = read(&mut input)?;
            let mut path = vec![0; usize::from(u16::from_le_bytes(read(&mut input)?))];
            if path.len() > LONGEST_PATH {
                return Err(ErrorKind::InvalidData.into());
            }
            input.read_exact(&mut path)?;
            files.add(path, Entry { link: link != [0], size, sum });
        }
        Ok(files)
    }
}

fn read<const N: usize>(input: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes).map(|()| bytes)
}

/// Files with one kind of change: their number, and the first ones.
#[derive(Debug, Default)]
struct Some {
    count: u64,
    /// Path, size before and after.
    first: Vec<(String, u64, u64)>,
}

impl Some {
    fn note(&mut self, path: &[u8], before: u64, after: u64) {
        self.count += 1;
        if self.first.len() < SHOWN {
            self.first.push((line(&String::from_utf8_lossy(path), LONGEST), before, after));
        }
    }

    fn names(&self) -> Vec<&str> {
        self.first.iter().map(|(path, ..)| path.as_str()).collect()
    }
}

/// The differences of two trees. Directories, owners, permissions and times are not compared.
#[derive(Debug, Default)]
pub struct Difference {
    added: Some,
    changed: Some,
    removed: Some,
    same: u64,
}

/// Compares `live` with `wanted`, except below the paths `leave` and mount points.
///
/// # Errors
/// When something in `live` cannot be read; `too_many` files.
pub fn compare(live: &Dir, wanted: Files, leave: &[RelPath]) -> Result<Difference, Failure> {
    if wanted.too_many {
        let cause = format!("there are more than {MOST} files, or their names are too long");
        return Err(Failure::new("too_many", "the files were not compared").cause(cause));
    }
    let (mut wanted, mut found) = (wanted.entries, Difference::default());
    walk(live, leave, &mut |path, dir, info| {
        let name = path.as_os_str().as_bytes();
        let Some(new) = wanted.remove(name) else {
            found.removed.note(name, info.size(), 0);
            return Ok(());
        };
        // Files of different sizes need not be read.
        let same = info.size() == new.size && entry(dir, path, info)? == Some(new);
        if same {
            found.same += 1;
        } else {
            found.changed.note(name, info.size(), new.size);
        }
        Ok(())
    })?;
    for (path, new) in &wanted {
        let path = Path::new(OsStr::from_bytes(path));
        if !is_left(path, leave) {
            found.added.note(path.as_os_str().as_bytes(), 0, new.size);
        }
    }
    Ok(found)
}

impl Difference {
    /// In words.
    pub fn summary(&self) -> String {
        let Self { added, changed, removed, same } = self;
        let (added, changed, removed) = (added.count, changed.count, removed.count);
        format!("{added} added, {changed} changed, {removed} removed, {same} unchanged")
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        let Self { added, changed, removed, same } = self;
        json!({
            "added": added.count,
            "changed": changed.count,
            "removed": removed.count,
            "same": same,
            "first": {"added": added.names(), "changed": changed.names(), "removed": removed.names()},
        })
    }

    /// Lines for the two sides of a diff; not of all files, if there are many.
    pub fn sides(&self) -> [Vec<String>; 2] {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for (path, old, new) in &self.changed.first {
            before.push(format!("{path}: {old} bytes"));
            let other = if old == new { ", different content" } else { "" };
            after.push(format!("{path}: {new} bytes{other}"));
        }
        before
            .extend(self.removed.first.iter().map(|(path, old, _)| format!("{path}: {old} bytes")));
        after.extend(self.added.first.iter().map(|(path, _, new)| format!("{path}: {new} bytes")));
        let rest = |kinds: [(&Some, &str); 2], side: &mut Vec<String>| {
            for (some, word) in kinds {
                let more = some.count - some.first.len() as u64;
                if more > 0 {
                    side.push(format!("and {more} more {word}"));
                }
            }
        };
        rest([(&self.changed, "changed"), (&self.removed, "removed")], &mut before);
        rest([(&self.changed, "changed"), (&self.added, "added")], &mut after);
        [before, after]
    }
}

fn is_left(path: &Path, leave: &[RelPath]) -> bool {
    leave.iter().any(|left| path.starts_with(left.as_path()))
}

/// Reads the entry of a name, if it is a file or a link. It may be removed at the same time.
fn entry(dir: &Dir, path: &Path, info: &Info) -> Result<Option<Entry>, Failure> {
    let name = path.file_name().unwrap_or_default();
    let mut contents = Contents::default();
    if info.is_symlink() {
        contents.add(dir.read_link(name)?.unwrap_or_default().as_os_str().as_bytes());
    } else if info.is_file() {
        let file = open(dir, name).or_fail("read", dir.at(name))?;
        read_all(&file, &mut contents).or_fail("read", dir.at(name))?;
    } else {
        return Ok(None);
    }
    Ok(Some(contents.end(info.is_symlink())))
}

/// Opens a file for reading without following a link, blocking on a FIFO or changing its access time.
fn open(dir: &Dir, name: &OsStr) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = match fs::openat(dir, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => fs::openat(dir, name, flags, Mode::empty()),
        opened => opened,
    };
    opened.map(File::from)
}

fn read_all(mut file: &File, contents: &mut Contents) -> io::Result<()> {
    let mut buffer = [0; 64 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => contents.add(&buffer[..read]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        interrupt::check().map_err(io::Error::other)?;
    }
}

type Each<'a> = dyn FnMut(&Path, &Dir, &Info) -> Result<(), Failure> + 'a;

fn walk(top: &Dir, leave: &[RelPath], each: &mut Each<'_>) -> Result<(), Failure> {
    let mut rel = PathBuf::new();
    below(top, &mut rel, top.info()?.device(), leave, each)
}

fn below(
    dir: &Dir,
    rel: &mut PathBuf,
    device: u64,
    leave: &[RelPath],
    each: &mut Each<'_>,
) -> Result<(), Failure> {
    let mut names = dir.names()?;
    names.sort();
    for name in names {
        interrupt::check()?;
        rel.push(&name);
        if !is_left(rel, leave)
            && let Some(info) = dir.lookup(&name)?
        {
            if !info.is_dir() {
                each(rel, dir, &info)?;
            } else if info.device() == device {
                if rel.iter().count() > DEEPEST {
                    return Err(Failure::new("too_deep", "the files were not compared")
                        .cause(format!("'{}' is nested too deeply", dir.at(&name).display())));
                }
                below(&dir.open_dir(&name)?, rel, device, leave, each)?;
            }
        }
        rel.pop();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(all: &[(&str, &str)]) -> Files {
        let mut files = Files::default();
        for (path, text) in all {
            let mut contents = Contents::default();
            contents.add(text.as_bytes());
            files.add_file(Path::new(path), contents);
        }
        files
    }

    fn tree(all: &[(&str, &str)]) -> (tempfile::TempDir, Dir) {
        let place = tempfile::tempdir().unwrap();
        for (path, text) in all {
            let path = place.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let dir = Dir::open(place.path()).unwrap();
        (place, dir)
    }

    fn paths(all: &[&str]) -> Vec<RelPath> {
        all.iter().map(|path| RelPath::new(path).unwrap()).collect()
    }

    #[test]
    fn each_kind_of_change_is_told_apart() {
        let (place, live) = tree(&[
            ("same", "1"),
            ("a/longer", "12"),
            ("a/other", "12"),
            ("a/gone", "1"),
            ("was_file", "x"),
            ("shared/live", "1"),
        ]);
        std::os::unix::fs::symlink("same", place.path().join("link")).unwrap();
        std::os::unix::fs::symlink("x", place.path().join("was_link")).unwrap();
        std::fs::create_dir(place.path().join("empty")).unwrap();
        let mut wanted = files(&[
            ("same", "1"),
            ("a/longer", "1234"),
            ("a/other", "34"),
            ("new/one", "1"),
            ("was_link", "x"),
            ("shared/from the build", "1"),
        ]);
        wanted.add_link(Path::new("link"), b"same");
        wanted.add_link(Path::new("was_file"), b"x");
        let found = compare(&live, wanted, &paths(&["shared"])).unwrap();
        assert_eq!(found.summary(), "1 added, 4 changed, 1 removed, 2 unchanged");
        let first = &found.to_json()["first"];
        assert_eq!(first["changed"], json!(["a/longer", "a/other", "was_file", "was_link"]));
        assert_eq!((&first["added"], &first["removed"]), (&json!(["new/one"]), &json!(["a/gone"])));
        let [before, after] = found.sides();
        assert_eq!(before[..2], ["a/longer: 2 bytes", "a/other: 2 bytes"]);
        assert_eq!(after[..2], ["a/longer: 4 bytes", "a/other: 2 bytes, different content"]);
        assert_eq!((&*before[4], &*after[4]), ("a/gone: 1 bytes", "new/one: 1 bytes"));
    }

    #[test]
    fn a_tree_does_not_differ_from_itself_and_what_was_sent_is_the_same() {
        let (place, live) = tree(&[("a", "1"), ("b/c", "22"), ("b/d/e", "")]);
        std::os::unix::fs::symlink("nowhere", place.path().join("b/link")).unwrap();
        let same = "0 added, 0 changed, 0 removed, 4 unchanged";
        let own = Files::of(&live, &[]).unwrap();
        assert_eq!(own.count(), 4);
        let sent = Files::decode(&*own.encode()).unwrap();
        for files in [own, sent] {
            assert_eq!(compare(&live, files, &[]).unwrap().summary(), same);
        }
    }

    #[test]
    fn a_hard_link_has_the_contents_of_what_it_names_and_a_directory_none() {
        let (_place, live) = tree(&[("a", "1"), ("b", "1"), ("c/d", "1")]);
        let mut wanted = files(&[("a", "1"), ("c", "1")]);
        wanted.add_name(Path::new("b"), Path::new("a"));
        wanted.forget(Path::new("c"));
        wanted.add_name(Path::new("c/d"), Path::new("a"));
        let found = compare(&live, wanted, &[]).unwrap();
        assert_eq!(found.summary(), "0 added, 0 changed, 0 removed, 3 unchanged");
    }

    #[test]
    fn holes_are_zeros() {
        let (_place, live) = tree(&[("a", &format!("1{}2", "\0".repeat(10_000)))]);
        let (mut wanted, mut contents) = (Files::default(), Contents::default());
        contents.add(b"1");
        contents.add_zeros(10_000);
        contents.add(b"2");
        wanted.add_file(Path::new("a"), contents);
        assert_eq!(compare(&live, wanted, &[]).unwrap().same, 1);
    }

    #[test]
    fn many_changes_are_counted_and_not_all_shown() {
        let names: Vec<_> = (0..100).map(|number| format!("{number:03}\u{1b}[31m")).collect();
        let all: Vec<_> = names.iter().map(|name| (name.as_str(), "1")).collect();
        let (_place, live) = tree(&all);
        let found = compare(&live, Files::default(), &[]).unwrap();
        assert_eq!(found.removed.count, 100);
        let [before, after] = found.sides();
        assert_eq!((before.len(), after.len()), (21, 0));
        assert_eq!(before[20], "and 80 more removed");
        assert!(!before.concat().contains('\u{1b}'), "{before:?}");
    }

    #[test]
    fn what_cannot_be_told_is_said() {
        let (_place, live) = tree(&[("a", "1")]);
        let too_many = Files { too_many: true, ..Files::default() };
        let too_many = Files::decode(&*too_many.encode()).unwrap();
        assert_eq!(compare(&live, too_many, &[]).unwrap_err().code(), "too_many");
        for cut in 1..20 {
            let text = files(&[("a", "1")]).encode();
            assert!(Files::decode(&text[..text.len() - cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn a_fifo_is_not_read() {
        let (place, live) = tree(&[("a", "")]);
        let made = std::process::Command::new("mkfifo").arg(place.path().join("b")).status();
        assert!(made.unwrap().success());
        let wanted = files(&[("a", ""), ("b", "")]);
        assert_eq!(
            compare(&live, wanted, &[]).unwrap().summary(),
            "0 added, 1 changed, 0 removed, 1 unchanged"
        );
        assert_eq!(Files::of(&live, &[]).unwrap().count(), 1);
    }
}
