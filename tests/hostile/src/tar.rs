//! A tar, header by header, without a library that would refuse to write what is wanted.

use std::io::{self, Write};

/// An entry: its header, and what follows it.
#[derive(Debug, Clone)]
pub struct Entry {
    header: [u8; 512],
    contents: Vec<u8>,
    /// Whether the header has a field that must not be put right.
    checksum: bool,
}

/// An entry of this type, 0644, of no size, from January 1970.
pub fn entry(name: impl AsRef<[u8]>, kind: u8) -> Entry {
    let name = name.as_ref();
    let mut header = [0; 512];
    header[..name.len()].copy_from_slice(name);
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar\x0000");
    let entry = Entry { header, contents: Vec::new(), checksum: true };
    entry.mode(if kind == b'5' { 0o755 } else { 0o644 }).owner(0, 0).claims(0).octal(136, 1_000_000)
}

/// A file with a few bytes in it.
pub fn file(name: impl AsRef<[u8]>) -> Entry {
    entry(name, b'0').contents(b"evil\n")
}

/// A directory.
pub fn dir(name: impl AsRef<[u8]>) -> Entry {
    entry(name, b'5')
}

/// A symbolic link.
pub fn symlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Entry {
    entry(name, b'2').target(target.as_ref())
}

/// A hard link.
pub fn hard_link(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Entry {
    entry(name, b'1').target(target.as_ref())
}

/// A GNU long name (`L`) or long link (`K`).
pub fn gnu_long(kind: u8, text: impl AsRef<[u8]>) -> Entry {
    entry("././@LongLink", kind).contents(&[text.as_ref(), b"\0"].concat())
}

/// PAX records for the next entry (`x`) or all that follow (`g`).
pub fn pax(kind: u8, records: &[(&str, &[u8])]) -> Entry {
    let records: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
    entry("pax", kind).contents(&records)
}

/// One PAX record, its length put before it.
pub fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (1..20).map(|digits| digits + rest).find(|n| n.to_string().len() + rest == *n);
    let mut record = format!("{} {key}=", length.unwrap_or_default()).into_bytes();
    record.extend_from_slice(value);
    record.push(b'\n');
    record
}

impl Entry {
    /// What follows the header, and its size in it.
    #[must_use]
    pub fn contents(mut self, contents: &[u8]) -> Self {
        self.contents = contents.to_vec();
        self.claims(contents.len() as u64)
    }

    /// A size, whatever follows.
    #[must_use]
    pub fn claims(self, size: u64) -> Self {
        if size < 1 << 33 {
            return self.octal(124, size);
        }
        let mut field = [0; 12];
        field[0] = 0x80;
        field[4..].copy_from_slice(&size.to_be_bytes());
        self.field(124, &field)
    }

    /// Permissions.
    #[must_use]
    pub fn mode(self, mode: u32) -> Self {
        self.field(100, format!("{mode:07o}").as_bytes())
    }

    /// Owner and group by number.
    #[must_use]
    pub fn owner(self, uid: u32, gid: u32) -> Self {
        let (uid, gid) = (format!("{uid:07o}"), format!("{gid:07o}"));
        self.field(108, &uid.as_bytes()[..7]).field(116, &gid.as_bytes()[..7])
    }

    fn target(self, target: &[u8]) -> Self {
        self.field(157, target)
    }

    fn octal(self, at: usize, number: u64) -> Self {
        self.field(at, format!("{number:011o}\0").as_bytes())
    }

    /// Any field.
    #[must_use]
    pub fn field(mut self, at: usize, bytes: &[u8]) -> Self {
        self.header[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// In GNU's format, where the prefix means something else.
    #[must_use]
    pub fn gnu(self) -> Self {
        self.field(257, b"ustar  \0")
    }

    /// The checksum is left as it is.
    #[must_use]
    pub fn without_checksum(mut self) -> Self {
        self.checksum = false;
        self
    }

    /// The blocks.
    pub fn bytes(&self) -> Vec<u8> {
        let mut header = self.header;
        if self.checksum {
            header[148..156].fill(b' ');
            let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
            header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        let mut bytes = header.to_vec();
        bytes.extend_from_slice(&self.contents);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }
}

/// The marks of the end.
pub const END: [u8; 1024] = [0; 1024];

/// These entries, and the end.
///
/// # Errors
/// Those of `out`.
pub fn tar(out: &mut dyn Write, entries: &[Entry]) -> io::Result<()> {
    for entry in entries {
        out.write_all(&entry.bytes())?;
    }
    out.write_all(&END)
}

/// The same as bytes.
pub fn bytes(entries: &[Entry]) -> Vec<u8> {
    entries.iter().flat_map(Entry::bytes).chain(END).collect()
}
