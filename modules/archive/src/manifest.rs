//! Owns the manifest of an archive: path and attributes of each entry, in the order of the archive,
//! and the SHA-256 of the contents of each file. `docs/spare.md` says what it is used for.
//!
//! It is stored in columns, one for each attribute, because these compress well. The same entries
//! give the same bytes, so the digest of the columns identifies them, whatever the compression of
//! the archive. A manifest from another machine is checked while it is read.

mod cursor;
pub(crate) mod delta;
mod encoder;
mod varint;

use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};

use crate::entry::Owner;
use crate::format::Format;
use crate::hash::{Hash, hexadecimal};
use crate::piece::Piece;
pub(crate) use cursor::{Cursor, Row};
pub(crate) use encoder::Encoder;
use varint::Reader;
pub(crate) use varint::Wrong;

/// The number of bytes of each hash that are sent to a side that has no manifest to compare with. The
/// rest is not needed: the result is compared with the digest, which is that of the whole hashes.
pub const CUT: usize = 6;
/// An archive with more entries has no manifest. As many are unpacked where nothing else is said.
pub(crate) const MOST_ENTRIES: u32 = 2_000_000;
/// The maximum size of a manifest in bytes.
pub const MOST_BYTES: u64 = 512 << 20;
/// No entry that can be unpacked has a longer name or target.
const LONGEST: usize = 4096;

// The format, which `encoder` writes and `cursor` reads.
const MAGIC: &[u8; 8] = b"OXIMAN1\n";
const COLUMNS: usize = 9;
const HEAD: usize = MAGIC.len() + 2 + 4 + 32 + COLUMNS * 8;
// The columns.
const KINDS: usize = 0;
const SHARED: usize = 1;
const NAMES: usize = 2;
const OWNERS: usize = 3;
const TIMES: usize = 4;
const SIZES: usize = 5;
const TARGETS: usize = 6;
const PALETTE: usize = 7;
const HASHES: usize = 8;

const FILE: u8 = 0;
const DIRECTORY: u8 = 1;
const SYMLINK: u8 = 2;
const HARD_LINK: u8 = 3;
const KIND: u8 = 0x0f;
const HAS_TIME: u8 = 0x10;
const HAS_NANOSECONDS: u8 = 0x20;

/// Permissions and owner: few different ones, for many entries.
type Shade = (u32, Option<Owner>);

/// The manifest of an archive.
#[derive(Debug, Clone)]
pub struct Manifest {
    format: Format,
    /// The SHA-256 of the archive; zeros if it is unknown.
    archive: Hash,
    /// The number of bytes of each hash that are stored.
    cut: usize,
    count: u32,
    columns: [Piece; COLUMNS],
    palette: Arc<Vec<Shade>>,
    directories: u32,
    /// Once it was computed.
    digest: OnceLock<Hash>,
}

impl Manifest {
    fn new(
        format: Format,
        archive: Hash,
        cut: usize,
        count: u32,
        columns: [Piece; COLUMNS],
    ) -> Result<Self, Wrong> {
        let mut reader = Reader(&columns[PALETTE]);
        let mut palette = Vec::new();
        while !reader.0.is_empty() {
            let mode = u32::try_from(reader.number()?).map_err(|_| "it has a wrong mode")?;
            let owner = match reader.byte()? {
                0 => None,
                _ => {
                    let id = |number| u32::try_from(number).map_err(|_| "it has a wrong owner");
                    let (uid, gid) = (id(reader.number()?)?, id(reader.number()?)?);
                    let (user, group) = (reader.text()?.to_vec(), reader.text()?.to_vec());
                    Some(Owner { uid, gid, user, group })
                }
            };
            palette.push((mode & 0o7777, owner));
        }
        let is_directory = |kind: &&u8| **kind & KIND == DIRECTORY;
        let directories = columns[KINDS].iter().filter(is_directory).count() as u32;
        let (palette, digest) = (Arc::new(palette), OnceLock::new());
        Ok(Self { format, archive, cut, count, columns, palette, directories, digest })
    }

    /// Reads what [`Manifest::encode`] has written.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, &'static str> {
        Self::parse_piece(bytes.into())
    }

    /// The same. The manifest shares the bytes.
    pub(crate) fn parse_piece(bytes: Piece) -> Result<Self, Wrong> {
        const SHORT: Wrong = "it is cut off";
        let head = bytes.get(..HEAD).ok_or(SHORT)?;
        let mut reader = Reader(head);
        if reader.take(MAGIC.len())? != MAGIC {
            return Err("it is no manifest of this version");
        }
        let format =
            Format::by_number(reader.byte()?).ok_or("its archive has an unknown format")?;
        let cut = usize::from(reader.byte()?);
        let count = u32::from_le_bytes(reader.array()?);
        if (cut != CUT && cut != 32) || count > MOST_ENTRIES {
            return Err("its head makes no sense");
        }
        let archive = reader.array()?;
        let mut columns: [Piece; COLUMNS] = Default::default();
        let mut at = HEAD;
        for column in &mut columns {
            let length = usize::try_from(u64::from_le_bytes(reader.array()?)).map_err(|_| SHORT)?;
            let end = at.checked_add(length).ok_or(SHORT)?;
            *column = bytes.part(at..end).ok_or(SHORT)?;
            at = end;
        }
        if at != bytes.len() {
            return Err("something comes after its end");
        }
        Self::new(format, archive, cut, count, columns)
    }

    /// The bytes to store or to send. Cut hashes stay cut.
    pub fn encode(&self) -> Vec<u8> {
        let size = self.columns.iter().map(|column| column.len()).sum::<usize>();
        let mut bytes = Vec::with_capacity(HEAD + size);
        bytes.extend_from_slice(MAGIC);
        bytes.push(self.format.number());
        bytes.push(self.cut as u8);
        bytes.extend(self.count.to_le_bytes());
        bytes.extend(self.archive);
        for column in &self.columns {
            bytes.extend((column.len() as u64).to_le_bytes());
        }
        for column in &self.columns {
            bytes.extend_from_slice(column);
        }
        bytes
    }

    /// The same with cut hashes. The other side computes the whole hash of each file that it unpacks.
    #[must_use]
    pub fn cut(&self) -> Self {
        let hashes = self.columns[HASHES].chunks_exact(self.cut);
        let cut: Vec<u8> = hashes.flat_map(|hash| &hash[..CUT.min(self.cut)]).copied().collect();
        let mut manifest = self.clone();
        manifest.columns[HASHES] = cut.into();
        (manifest.cut, manifest.digest) = (CUT, OnceLock::new());
        manifest
    }

    /// The digest, which identifies it, in hexadecimal; `None` if the hashes are cut.
    pub fn digest(&self) -> Option<String> {
        (!self.is_cut()).then(|| hexadecimal(&self.raw_digest()))
    }

    pub(crate) fn raw_digest(&self) -> Hash {
        *self.digest.get_or_init(|| {
            let mut sum = Sha256::new();
            for column in &self.columns {
                sum.update((column.len() as u64).to_le_bytes());
                sum.update(&**column);
            }
            sum.finalize().into()
        })
    }

    /// The same, with a digest that is known.
    pub(crate) fn with_digest(mut self, digest: Hash) -> Self {
        self.digest = OnceLock::from(digest);
        self
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.cut < 32
    }

    /// How many entries it has.
    pub fn entries(&self) -> u32 {
        self.count
    }

    /// How many of them are regular files.
    pub fn files(&self) -> u32 {
        (self.columns[HASHES].len() / self.cut) as u32
    }

    /// How many of them are directories.
    pub(crate) fn directories(&self) -> u32 {
        self.directories
    }

    /// The format of the archive.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The SHA-256 of the archive, in hexadecimal; zeros if it is unknown.
    pub fn archive(&self) -> String {
        hexadecimal(&self.archive)
    }

    /// Sets the SHA-256 of the archive.
    pub fn set_archive(&mut self, sha256: Hash) {
        self.archive = sha256;
    }

    /// The hash of the file with this number. It is cut if the manifest's hashes are.
    pub(crate) fn hash(&self, file: u32) -> &[u8] {
        let at = file as usize * self.cut;
        self.columns[HASHES].get(at..at + self.cut).unwrap_or_default()
    }

    /// The hashes of all files.
    pub(crate) fn hashes(&self) -> impl Iterator<Item = &[u8]> {
        self.columns[HASHES].chunks_exact(self.cut)
    }

    /// Replaces the cut hashes by whole ones. Each must begin with the cut one.
    pub(crate) fn complete(&mut self, hashes: Vec<u8>) -> Result<(), Wrong> {
        let cut = self.columns[HASHES].chunks_exact(self.cut);
        let whole = hashes.chunks_exact(32);
        if cut.len() != whole.len() || !cut.zip(whole).all(|(cut, whole)| whole.starts_with(cut)) {
            return Err("its files have other hashes");
        }
        (self.columns[HASHES], self.cut) = (hashes.into(), 32);
        self.digest = OnceLock::new();
        Ok(())
    }
}
