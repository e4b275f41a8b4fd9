//! The decisions about an entry: whether it is written, where, with which owner and permissions, or refused.
//!
//! A symbolic link may point anywhere: a deployed tree has links to shared directories outside of
//! it, and a link is harmless until it is followed. This crate never follows one.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use oxistrano_core::{Failure, Mode, RelPath, users};

use crate::entry::{Entry, Kind, Map, Owner, Time};
use crate::failures::{too_large, unsafe_entry};
use crate::known::{Known, Quiet};
use crate::options::UnpackOptions;
use crate::paths::stripped;

/// The kernel's `PATH_MAX`, without its NUL: what is longer cannot be named in one call.
const LONGEST_PATH: usize = 4095;

/// The handles of the directories on the way to an entry are open at the same time.
const DEEPEST: usize = 256;

/// As many names of users are looked up; each may cost a process.
const MOST_NAMES: usize = 256;
/// And no longer ones: no user has them, and they are kept.
const LONGEST_NAME: usize = 256;

/// An entry that will be written.
#[derive(Debug)]
pub(crate) struct Item {
    /// Where.
    pub(crate) path: RelPath,
    /// What.
    pub(crate) kind: ItemKind,
    /// Final permissions.
    pub(crate) mode: u32,
    /// Final owner, where it is not simply whoever unpacks.
    pub(crate) uid: Option<u32>,
    /// Final group, likewise.
    pub(crate) gid: Option<u32>,
    /// Time of modification.
    pub(crate) mtime: Option<Time>,
    /// Of a file or directory: its number among those of the archive, if it is to be noted.
    pub(crate) number: Option<u32>,
    /// The file of this name that was there before has the same contents if this is its mark.
    pub(crate) known: Option<Known>,
    /// The directory of this name that was there before needs no change, nor do its files.
    pub(crate) quiet: Option<Quiet>,
}

/// What an item is.
#[derive(Debug)]
pub(crate) enum ItemKind {
    /// A file, its contents being in the body.
    File(Option<Map>),
    /// A directory.
    Directory,
    /// A link to this.
    Symlink(Vec<u8>),
    /// One more name of this.
    HardLink(RelPath),
}

/// What an entry `./` says of the directory that is unpacked into: its permissions and its
/// owner, as with GNU tar. Its time says when it was filled.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Top {
    /// Final permissions.
    pub(crate) mode: u32,
    /// Final owner, where it is to be changed.
    pub(crate) uid: Option<u32>,
    /// Final group, likewise.
    pub(crate) gid: Option<u32>,
}

/// Decides, entry after entry.
pub(crate) struct Selection<'a> {
    options: &'a UnpackOptions,
    archive: &'a Path,
    umask: u32,
    users: HashMap<Vec<u8>, Option<u32>>,
    groups: HashMap<Vec<u8>, Option<u32>>,
    /// Entries that were looked at.
    pub(crate) seen: u64,
    /// What the archive says of the directory itself.
    pub(crate) top: Option<Top>,
}

impl<'a> Selection<'a> {
    /// Decides by `options`.
    pub(crate) fn new(options: &'a UnpackOptions, archive: &'a Path, umask: u32) -> Self {
        Self {
            options,
            archive,
            umask,
            users: HashMap::new(),
            groups: HashMap::new(),
            seen: 0,
            top: None,
        }
    }

    /// Decides about an entry; `None` if it is left out.
    pub(crate) fn choose(&mut self, entry: Entry) -> Result<Option<Item>, Failure> {
        self.seen += 1;
        self.check_count(self.seen, &entry.name)?;
        // Matching it would take long, and such a name could not be written.
        if entry.name.len() > LONGEST_PATH {
            return Err(self.refuse(&entry.name, "its name is longer than 4095 bytes"));
        }
        // First, so that an entry that would be refused can be excluded.
        if self.options.exclude.iter().any(|pattern| pattern.matches(&entry.name)) {
            return Ok(None);
        }
        let name = &entry.name;
        let Some(path) = self.place(name, name)? else {
            if is_root(name) && matches!(entry.kind, Kind::Directory) {
                let (uid, gid) = self.owner(entry.owner.as_ref())?;
                // We still have to write into it.
                let mode = self.mode(entry.mode, true) | 0o700;
                self.top = Some(Top { mode, uid, gid });
            }
            return Ok(None);
        };
        let kind = match entry.kind {
            Kind::File(map) => ItemKind::File(map),
            Kind::Directory => ItemKind::Directory,
            Kind::Symlink(target) => {
                if target.is_empty() || target.contains(&0) || target.len() > LONGEST_PATH {
                    return Err(self.refuse(
                        name,
                        "the target of the link is empty, too long or has a NUL byte",
                    ));
                }
                ItemKind::Symlink(target)
            }
            Kind::HardLink(target) => match self.place(&target, name)? {
                Some(target) => ItemKind::HardLink(target),
                None => {
                    return Err(
                        self.refuse(name, "it is a link to an entry that strip_components removes")
                    );
                }
            },
            Kind::Special(what) => return Err(self.refuse(name, &format!("it is {what}"))),
        };
        let is_dir = matches!(kind, ItemKind::Directory);
        let (uid, gid) = self.owner(entry.owner.as_ref())?;
        let mode = self.mode(entry.mode, is_dir);
        let (number, known, quiet) = Default::default();
        let mtime = entry.mtime;
        Ok(Some(Item { path, kind, mode, uid, gid, mtime, number, known, quiet }))
    }

    /// Whether there may be so many directories that the archive does not mention: one entry's
    /// name can have hundreds, so they count like entries.
    pub(crate) fn check(&self, unmentioned: u64, item: &Item) -> Result<(), Failure> {
        let name = item.path.as_path().as_os_str().as_bytes();
        self.check_count(self.seen.saturating_add(unmentioned), name)
    }

    fn check_count(&self, count: u64, name: &[u8]) -> Result<(), Failure> {
        if count > self.options.limits.max_entries {
            let why = "more entries than the limit (max_entries; parent directories count, too)";
            return Err(too_large(self.archive, name, why));
        }
        Ok(())
    }

    /// Owner, group and permissions of a directory that the archive does not mention.
    pub(crate) fn unmentioned(
        options: &UnpackOptions,
        umask: u32,
    ) -> (u32, Option<u32>, Option<u32>) {
        let mode = 0o777 & !umask;
        let mode = options.directory_mode.as_ref().map_or(mode, |wanted| wanted.apply(mode, true));
        (mode, options.owner, options.group)
    }

    fn refuse(&self, entry: &[u8], why: &str) -> Failure {
        unsafe_entry(self.archive, entry, why)
    }

    /// Where a name lies after `strip_components`, which counts like GNU tar's: `.` is a
    /// component. `None` for the root itself and for what has no more components.
    fn place(&self, name: &[u8], entry: &[u8]) -> Result<Option<RelPath>, Failure> {
        if name.len() > LONGEST_PATH {
            return Err(self.refuse(entry, "its name is longer than 4095 bytes"));
        }
        // The whole name is judged, also what is stripped from it.
        let whole = match RelPath::new(OsStr::from_bytes(name)) {
            Ok(whole) => whole,
            Err(_) if is_root(name) => return Ok(None),
            Err(why) => return Err(self.refuse(entry, &why)),
        };
        // Its names have one slash between them.
        let path = whole.as_path().as_os_str().as_bytes();
        let slashes = || path.iter().filter(|byte| **byte == b'/').count();
        if path.len() > DEEPEST && slashes() >= DEEPEST {
            return Err(self.refuse(entry, "it is below more than 256 directories"));
        }
        if self.options.strip_components == 0 {
            return Ok(Some(whole));
        }
        Ok(stripped(name, self.options.strip_components))
    }

    fn owner(&mut self, entry: Option<&Owner>) -> Result<(Option<u32>, Option<u32>), Failure> {
        let (mut uid, mut gid) = (self.options.owner, self.options.group);
        let Some(owner) = entry.filter(|_| self.options.preserve_owner) else {
            return Ok((uid, gid));
        };
        if uid.is_none() {
            let look_up = |name: &str| Ok(users::by_name(name)?.map(|user| user.uid));
            uid = Some(known(&mut self.users, &owner.user, look_up)?.unwrap_or(owner.uid));
        }
        if gid.is_none() {
            let look_up = users::group_by_name;
            gid = Some(known(&mut self.groups, &owner.group, look_up)?.unwrap_or(owner.gid));
        }
        Ok((uid, gid))
    }

    fn mode(&self, mode: u32, is_dir: bool) -> u32 {
        let options = self.options;
        let mode = if options.apply_umask {
            mode & 0o777 & !self.umask
        } else if options.set_id
            && options.preserve_owner
            && options.owner.is_none()
            && options.group.is_none()
        {
            mode & 0o7777
        } else if is_dir && options.preserve_owner {
            // Setgid on a directory passes its group on, whichever that is.
            mode & 0o3777
        } else {
            // Setuid was meant for the owner in the archive, and would give the creator of the
            // archive the rights of another owner.
            mode & 0o1777
        };
        let wanted: &Option<Mode> = if is_dir { &options.directory_mode } else { &options.mode };
        wanted.as_ref().map_or(mode, |wanted| wanted.apply(mode, is_dir))
    }
}

/// `.`, `./`, `././/` or nothing at all.
fn is_root(name: &[u8]) -> bool {
    name.first() != Some(&b'/')
        && name.split(|b| *b == b'/').all(|part| part.is_empty() || part == b".")
}

fn known(
    cache: &mut HashMap<Vec<u8>, Option<u32>>,
    name: &[u8],
    look_up: impl Fn(&str) -> Result<Option<u32>, Failure>,
) -> Result<Option<u32>, Failure> {
    if name.is_empty() || name.len() > LONGEST_NAME {
        return Ok(None);
    }
    if let Some(id) = cache.get(name) {
        return Ok(*id);
    }
    if cache.len() >= MOST_NAMES {
        return Ok(None);
    }
    let id = std::str::from_utf8(name).ok().map(look_up).transpose()?.flatten();
    cache.insert(name.to_vec(), id);
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str, strip: u32) -> Result<Option<String>, &'static str> {
        let options = UnpackOptions { strip_components: strip, ..UnpackOptions::default() };
        let selection = Selection::new(&options, Path::new("x.tar"), 0o022);
        let placed = selection.place(name.as_bytes(), name.as_bytes());
        placed.map(|path| path.map(|path| path.to_string())).map_err(|failure| failure.code())
    }

    #[test]
    fn components_are_stripped_as_gnu_tar_does() {
        for (name, strip, expected) in [
            ("a/b/c", 0, Some("a/b/c")),
            ("a/b/c", 1, Some("b/c")),
            ("a//b/c", 1, Some("b/c")),
            ("./a/b", 1, Some("a/b")),
            ("./a/b", 2, Some("b")),
            ("a/", 1, None),
            ("a", 1, None),
            ("a/b", 9, None),
            ("./", 0, None),
            ("", 0, None),
            (".", 1, None),
        ] {
            assert_eq!(place(name, strip), Ok(expected.map(str::to_owned)), "{name} {strip}");
        }
    }

    #[test]
    fn what_leaves_the_root_is_refused_even_if_that_part_is_stripped() {
        for (name, strip) in
            [("/a/b", 1), ("../a", 1), ("a/../b", 2), ("a/..", 0), ("/", 0), ("a\0b", 0)]
        {
            assert_eq!(place(name, strip), Err("unsafe_entry"), "{name} {strip}");
        }
        assert_eq!(place(&"a/".repeat(300), 0), Err("unsafe_entry"));
        assert_eq!(place(&"a".repeat(5000), 0), Err("unsafe_entry"));
    }

    #[test]
    fn setuid_needs_the_archives_own_owner() {
        let mode = |options: UnpackOptions| {
            Selection::new(&options, Path::new("x.tar"), 0o022).mode(0o6777, false)
        };
        let plain = UnpackOptions::default;
        assert_eq!(mode(plain()), 0o777);
        assert_eq!(mode(UnpackOptions { preserve_owner: true, ..plain() }), 0o777);
        let kept = || UnpackOptions { preserve_owner: true, set_id: true, ..plain() };
        assert_eq!(mode(kept()), 0o6777);
        assert_eq!(mode(UnpackOptions { owner: Some(33), ..kept() }), 0o777);
        assert_eq!(mode(UnpackOptions { apply_umask: true, ..plain() }), 0o755);
        // On a directory setgid says who gets what is made in it.
        let owned = UnpackOptions { preserve_owner: true, owner: Some(33), ..plain() };
        let mode_of_directory =
            Selection::new(&owned, Path::new("x.tar"), 0o022).mode(0o2775, true);
        assert_eq!(mode_of_directory, 0o2775);
        let wanted = Mode::parse("u=rwX,go=rX").ok();
        assert_eq!(mode(UnpackOptions { mode: wanted, ..plain() }), 0o755);
    }
}
