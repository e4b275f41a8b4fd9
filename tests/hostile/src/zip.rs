//! A zip, record by record: what its local headers say and what its central directory says
//! are set apart.

use std::io::Write;

/// Made on Unix, so that attributes have a mode.
const UNIX: u16 = 3 << 8 | 30;

/// What a header says of an entry.
#[derive(Debug, Clone)]
pub struct Header {
    /// The name.
    pub name: Vec<u8>,
    /// 0 stored, 8 deflate.
    pub method: u16,
    /// Bit 0: encrypted, bit 3: sizes behind the contents.
    pub flags: u16,
    /// CRC-32 of the contents.
    pub crc: u32,
    /// As it is in the archive.
    pub compressed: u32,
    /// As it will be.
    pub size: u32,
    /// Further fields.
    pub extra: Vec<u8>,
}

/// An entry.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Before the contents.
    pub local: Header,
    /// In the directory.
    pub central: Header,
    /// Type and permissions.
    pub mode: u32,
    /// As they stand in the archive.
    pub contents: Vec<u8>,
    /// Where the local header is, if that is to be a lie.
    pub offset: Option<u32>,
}

/// A stored file.
pub fn stored(name: impl AsRef<[u8]>, contents: &[u8]) -> Entry {
    let size = contents.len() as u32;
    of(name.as_ref(), 0, contents.to_vec(), size, crc(contents), 0o100_644)
}

/// A deflated file.
pub fn deflated(name: impl AsRef<[u8]>, contents: &[u8]) -> Entry {
    let mut packed = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(contents).expect("memory");
    let packed = packed.finish().expect("memory");
    of(name.as_ref(), 8, packed, contents.len() as u32, crc(contents), 0o100_644)
}

/// A symbolic link.
pub fn symlink(name: impl AsRef<[u8]>, target: &[u8]) -> Entry {
    Entry { mode: 0o120_777, ..stored(name, target) }
}

/// A directory.
pub fn dir(name: impl AsRef<[u8]>) -> Entry {
    Entry { mode: 0o040_755, ..stored(name, b"") }
}

fn of(name: &[u8], method: u16, contents: Vec<u8>, size: u32, crc: u32, mode: u32) -> Entry {
    let header = Header {
        name: name.to_vec(),
        method,
        flags: 0,
        crc,
        compressed: contents.len() as u32,
        size,
        extra: Vec::new(),
    };
    Entry { local: header.clone(), central: header, mode, contents, offset: None }
}

fn crc(contents: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(contents);
    crc.sum()
}

impl Entry {
    /// Another local header.
    #[must_use]
    pub fn local(mut self, change: impl Fn(&mut Header)) -> Self {
        change(&mut self.local);
        self
    }

    /// Another record in the directory.
    #[must_use]
    pub fn central(mut self, change: impl Fn(&mut Header)) -> Self {
        change(&mut self.central);
        self
    }

    /// Both.
    #[must_use]
    pub fn both(self, change: impl Fn(&mut Header)) -> Self {
        self.local(&change).central(&change)
    }

    /// Another type or other permissions.
    #[must_use]
    pub fn mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }

    /// A lie about where it is.
    #[must_use]
    pub fn at(self, offset: u32) -> Self {
        Self { offset: Some(offset), ..self }
    }
}

impl Header {
    fn common(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for field in [20, self.flags, self.method, 0, 0x21] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        for field in [self.crc, self.compressed, self.size] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        for length in [self.name.len(), self.extra.len()] {
            out.extend_from_slice(&(length as u16).to_le_bytes());
        }
        out
    }
}

/// What the end of the directory says.
#[derive(Debug, Clone, Default)]
pub struct End {
    /// How many entries, if not those that are there.
    pub count: Option<u16>,
    /// How long the directory is.
    pub size: Option<u32>,
    /// Where it begins.
    pub start: Option<u32>,
    /// What is behind it, and counted.
    pub comment: Vec<u8>,
    /// What stands before the record of the end.
    pub before: Vec<u8>,
}

/// A whole zip.
pub fn zip(entries: &[Entry]) -> Vec<u8> {
    with_end(entries, &End::default())
}

/// A whole zip with another end.
pub fn with_end(entries: &[Entry], end: &End) -> Vec<u8> {
    let mut out = Vec::new();
    let mut directory = Vec::new();
    for entry in entries {
        let offset = entry.offset.unwrap_or(out.len() as u32);
        if entry.offset.is_none() {
            out.extend_from_slice(b"PK\x03\x04");
            out.extend(entry.local.common());
            out.extend_from_slice(&entry.local.name);
            out.extend_from_slice(&entry.local.extra);
            out.extend_from_slice(&entry.contents);
        }
        directory.extend_from_slice(b"PK\x01\x02");
        directory.extend_from_slice(&UNIX.to_le_bytes());
        directory.extend(entry.central.common());
        // The lengths of comment, disk and internal attributes.
        directory.extend_from_slice(&[0; 6]);
        directory.extend_from_slice(&(entry.mode << 16).to_le_bytes());
        directory.extend_from_slice(&offset.to_le_bytes());
        directory.extend_from_slice(&entry.central.name);
        directory.extend_from_slice(&entry.central.extra);
    }
    let start = end.start.unwrap_or(out.len() as u32);
    let count = end.count.unwrap_or(entries.len() as u16);
    let size = end.size.unwrap_or(directory.len() as u32);
    out.extend(directory);
    out.extend_from_slice(&end.before);
    out.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&size.to_le_bytes());
    out.extend_from_slice(&start.to_le_bytes());
    out.extend_from_slice(&(end.comment.len() as u16).to_le_bytes());
    out.extend_from_slice(&end.comment);
    out
}

/// The end record of ZIP64 and the one that says where it is.
pub fn zip64_end(count: u64, size: u64, start: u64, at: u64) -> Vec<u8> {
    let mut out = b"PK\x06\x06".to_vec();
    out.extend_from_slice(&44u64.to_le_bytes());
    out.extend_from_slice(&[45, 3, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for field in [count, count, size, start] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.extend_from_slice(b"PK\x06\x07\0\0\0\0");
    out.extend_from_slice(&at.to_le_bytes());
    out.extend_from_slice(&1u32.to_le_bytes());
    out
}

/// The extra field of ZIP64 with these numbers.
pub fn zip64_extra(numbers: &[u64]) -> Vec<u8> {
    let mut out = vec![1, 0];
    out.extend_from_slice(&((numbers.len() * 8) as u16).to_le_bytes());
    numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
    out
}
