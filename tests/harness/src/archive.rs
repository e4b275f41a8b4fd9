//! Archives for tests.

use std::io::Write;

use tar::{Builder, EntryType, Header};

/// One entry of an archive. Names are taken as they are, hostile ones too.
#[derive(Debug, Clone)]
pub struct Entry {
    name: String,
    kind: EntryType,
    mode: u32,
    owner: (u64, u64),
    contents: Vec<u8>,
    target: String,
}

impl Entry {
    fn new(name: &str, kind: EntryType, mode: u32) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            mode,
            owner: (0, 0),
            contents: Vec::new(),
            target: String::new(),
        }
    }

    /// With other permissions.
    #[must_use]
    pub fn mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }

    /// With an owner and a group, by number.
    #[must_use]
    pub fn owner(self, uid: u64, gid: u64) -> Self {
        Self { owner: (uid, gid), ..self }
    }

    /// Of any type, a device for example.
    pub fn special(name: &str, kind: EntryType) -> Self {
        Self::new(name, kind, 0o644)
    }
}

/// A file, 0644.
pub fn file(name: &str, contents: impl AsRef<[u8]>) -> Entry {
    Entry { contents: contents.as_ref().to_vec(), ..Entry::new(name, EntryType::Regular, 0o644) }
}

/// A directory, 0755.
pub fn dir(name: &str) -> Entry {
    Entry::new(name, EntryType::Directory, 0o755)
}

/// A symbolic link.
pub fn symlink(name: &str, target: &str) -> Entry {
    Entry { target: target.to_owned(), ..Entry::new(name, EntryType::Symlink, 0o777) }
}

/// A hard link to an entry before it.
pub fn hard_link(name: &str, target: &str) -> Entry {
    Entry { target: target.to_owned(), ..Entry::new(name, EntryType::Link, 0o644) }
}

/// A tar of them.
pub fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for entry in entries {
        let mut header = Header::new_gnu();
        // Not `set_path`: it refuses what the module has to refuse.
        for (field, text) in [(0, &entry.name), (157, &entry.target)] {
            assert!(text.len() < 100, "'{text}' is too long for this");
            header.as_mut_bytes()[field..field + text.len()].copy_from_slice(text.as_bytes());
        }
        header.set_entry_type(entry.kind);
        header.set_mode(entry.mode);
        header.set_uid(entry.owner.0);
        header.set_gid(entry.owner.1);
        header.set_mtime(1_234_567_890);
        header.set_size(entry.contents.len() as u64);
        header.set_cksum();
        builder.append(&header, entry.contents.as_slice()).expect("an entry");
    }
    builder.into_inner().expect("the end of the archive")
}

/// Compressed with gzip.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("compression");
    encoder.finish().expect("compression")
}

/// A tar.gz of them.
pub fn tar_gz(entries: &[Entry]) -> Vec<u8> {
    gzip(&tar(entries))
}
