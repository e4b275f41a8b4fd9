//! Files that are as in an earlier release.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{Raw, noise};
use oxistrano_archive::{Earlier, Summary, Unchanged, UnpackOptions, unpack_sharing};
use oxistrano_core::Dir;

/// Larger than what is written by the threads.
const LARGE: usize = 300_000;

/// Where an earlier and a new release are.
struct Releases(PathBuf);

impl Releases {
    fn below(top: &Path) -> Self {
        for name in ["old", "new"] {
            fs::create_dir(top.join(name)).unwrap();
        }
        Self(top.to_owned())
    }

    fn unpack(&self, into: &str, archive: &[u8], how: Unchanged) -> Summary {
        let path = self.0.join("archive");
        fs::write(&path, archive).unwrap();
        let file = fs::File::open(&path).unwrap();
        let options = UnpackOptions { preserve_owner: true, ..UnpackOptions::default() };
        let earlier = Earlier::new(&Dir::open(&self.0.join("old")).unwrap(), how);
        let into = Dir::open(&self.0.join(into)).unwrap();
        unpack_sharing(
            &file,
            &path,
            &into,
            &options,
            earlier.filter(|_| into.path().ends_with("new")),
        )
        .unwrap()
    }

    fn old(&self, path: &str) -> PathBuf {
        self.0.join("old").join(path)
    }

    fn fresh(&self, path: &str) -> PathBuf {
        self.0.join("new").join(path)
    }

    fn same_file(&self, path: &str) -> bool {
        let (old, new) = (self.old(path).metadata().unwrap(), self.fresh(path).metadata().unwrap());
        (old.dev(), old.ino()) == (new.dev(), new.ino())
    }
}

/// Every entry with this time, which differs from that of the other archive.
fn archive(time: u32, entries: &[(&str, &[u8])]) -> Vec<u8> {
    let all = entries.iter().fold(Raw::new(), |raw, (name, contents)| {
        raw.with(name, b'0', contents, |header| {
            header[136..147].copy_from_slice(format!("{time:011o}").as_bytes());
        })
    });
    all.end()
}

#[test]
fn the_same_files_are_linked_and_others_written() {
    let scratch = tempfile::tempdir().unwrap();
    let releases = Releases::below(scratch.path());
    let (large, mut changed) = (noise(LARGE), noise(LARGE));
    *changed.last_mut().unwrap() ^= 1;
    let names = ["same", "a/same", "size", "text", "mode", "a/b/fifo", "link", "setuid", "empty"];
    let mut entries: Vec<(&str, &[u8])> = names.iter().map(|name| (*name, &b"0123"[..])).collect();
    entries.extend([("a/large", &large[..]), ("a/changed", &large[..]), ("swapped/x", b"0123")]);
    entries.iter_mut().filter(|(name, _)| *name == "empty").for_each(|entry| entry.1 = b"");
    let _ = releases.unpack("old", &archive(1_000_000, &entries), Unchanged::Copy);
    // What the owner of the old release may have done to it.
    fs::set_permissions(releases.old("mode"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(releases.old("setuid"), fs::Permissions::from_mode(0o4644)).unwrap();
    fs::remove_file(releases.old("a/b/fifo")).unwrap();
    let made = Command::new("mkfifo").arg(releases.old("a/b/fifo")).status().unwrap();
    assert!(made.success());
    fs::rename(releases.old("link"), scratch.path().join("elsewhere")).unwrap();
    symlink("../elsewhere", releases.old("link")).unwrap();
    fs::rename(releases.old("swapped"), scratch.path().join("swapped")).unwrap();
    symlink("../swapped", releases.old("swapped")).unwrap();
    for (name, contents) in &mut entries {
        match *name {
            "size" => *contents = b"01234",
            "text" => *contents = b"4567",
            "a/changed" => *contents = &changed,
            _ => {}
        }
    }
    entries.push(("fresh", b"fresh"));
    let summary = releases.unpack("new", &archive(2_000_000, &entries), Unchanged::HardLink);
    assert_eq!(summary.files, 13);
    assert_eq!((summary.shared_files, summary.shared_bytes), (4, 8 + LARGE as u64));
    for (name, contents) in entries {
        let new = releases.fresh(name);
        assert_eq!(fs::read(&new).unwrap(), contents, "{name}");
        let info = new.symlink_metadata().unwrap();
        assert_eq!(info.permissions().mode() & 0o7777, 0o644, "{name}");
        let shared = ["same", "a/same", "empty", "a/large"].contains(&name);
        let expected = if shared { (2, 1_000_000) } else { (1, 2_000_000) };
        assert_eq!((info.nlink(), info.mtime()), expected, "{name}");
        assert_eq!(name != "fresh" && releases.same_file(name), shared, "{name}");
    }
    let left: Vec<_> = fs::read_dir(releases.fresh("a")).unwrap().collect();
    assert_eq!(left.len(), 4, "{left:?}");
}

#[test]
fn a_file_of_another_owner_is_not_shared() {
    if !oxistrano_core::users::is_root() {
        eprintln!("NOT CHECKED without root: files of other owners");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let releases = Releases::below(scratch.path());
    let entries: [(&str, &[u8]); 3] = [("first", b"1"), ("own", b"own"), ("theirs", b"theirs")];
    let _ = releases.unpack("old", &archive(1, &entries), Unchanged::Copy);
    chown(releases.old("theirs"), Some(65534), None).unwrap();
    let summary = releases.unpack("new", &archive(1, &entries), Unchanged::HardLink);
    assert!(releases.same_file("own"));
    assert!(!releases.same_file("theirs"));
    assert_eq!(releases.fresh("theirs").metadata().unwrap().uid(), 0);
    assert_eq!(summary.shared_files, 2);
}

#[test]
fn where_the_file_system_cannot_files_are_written() {
    let scratch = tempfile::tempdir().unwrap();
    let releases = Releases::below(scratch.path());
    let entries: [(&str, &[u8]); 2] = [("a", b"a"), ("b/c", &noise(LARGE))];
    let _ = releases.unpack("old", &archive(1, &entries), Unchanged::Copy);
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    let other =
        elsewhere.path().metadata().unwrap().dev() != scratch.path().metadata().unwrap().dev();
    if other {
        fs::remove_dir(scratch.path().join("new")).unwrap();
        symlink(elsewhere.path(), scratch.path().join("new")).unwrap();
    } else {
        eprintln!("NOT CHECKED: there is one file system only");
    }
    for how in [Unchanged::HardLink, Unchanged::Reflink] {
        let summary = releases.unpack("new", &archive(2, &entries), how);
        assert_eq!(summary.shared_files == 0, other);
        assert_eq!(fs::read(releases.fresh("b/c")).unwrap(), noise(LARGE));
        for (name, _) in entries {
            fs::remove_file(releases.fresh(name)).unwrap();
        }
    }
}

/// A file system of its own; unmounted in the end.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new(kind: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        fs::create_dir(dir.path().join("mnt")).unwrap();
        fs::File::create(&image).unwrap().set_len(400 << 20).unwrap();
        let run = |program: &str, arguments: &[&str]| {
            let output = Command::new(program)
                .args(arguments)
                .args([&image])
                .args((program == "mount").then(|| dir.path().join("mnt")))
                .output();
            output.is_ok_and(|output| output.status.success())
        };
        let mounted = run(&format!("mkfs.{kind}"), &["-q"]) && run("mount", &["-o", "loop"]);
        if !mounted {
            eprintln!("NOT CHECKED: {kind} cannot be made and mounted here (root, mkfs.{kind})");
            return None;
        }
        Some(Self(dir))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("mnt")
    }

    /// Bytes in use, when all is written.
    fn used(&self) -> u64 {
        assert!(Command::new("sync").arg("-f").arg(self.path()).status().unwrap().success());
        let output =
            Command::new("df").args(["-B1", "--output=used"]).arg(self.path()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().last().unwrap().trim().parse().unwrap()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

fn blocks_are_shared_on(kind: &str) {
    let Some(mounted) = Mounted::new(kind) else { return };
    let releases = Releases::below(&mounted.path());
    let contents: Vec<(String, Vec<u8>)> = (0..300)
        .map(|number| (format!("d{}/{number}", number % 7), noise(40_000 + 1000 * number)))
        .collect();
    let mut entries: Vec<(&str, &[u8])> =
        contents.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let all: u64 = contents.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    let _ = releases.unpack("old", &archive(1_000_000, &entries), Unchanged::Copy);
    let (mut small, mut large) = (entries[3].1.to_vec(), entries[290].1.to_vec());
    small[0] ^= 1;
    large[200_000] ^= 1;
    (entries[3].1, entries[290].1) = (&small, &large);
    let new = archive(2_000_000, &entries);
    fs::write(releases.0.join("archive"), &new).unwrap();
    let before = mounted.used();
    let summary = releases.unpack("new", &new, Unchanged::Reflink);
    let grown = mounted.used() - before;
    assert_eq!(summary.shared_files, 298, "{kind}");
    assert!(grown < all / 10, "{kind}: {grown} more bytes in use for {all}");
    eprintln!("{kind}: a second release of {all} bytes takes {grown}");
    for (name, contents) in entries {
        assert_eq!(fs::read(releases.fresh(name)).unwrap(), contents, "{name}");
        assert_eq!(releases.fresh(name).metadata().unwrap().mtime(), 2_000_000, "{name}");
        assert!(!releases.same_file(name), "{name}");
    }
    // Each has its own contents from now on.
    fs::write(releases.fresh("d0/0"), "changed").unwrap();
    assert_eq!(fs::read(releases.old("d0/0")).unwrap(), contents[0].1);
}

#[test]
fn blocks_are_shared_on_xfs() {
    blocks_are_shared_on("xfs");
}

#[test]
fn blocks_are_shared_on_btrfs() {
    blocks_are_shared_on("btrfs");
}
