//! Owns the manifest of an archive: path and attributes of each entry, in the order of the archive,
//! and the SHA-256 of the contents of each file. `docs/spare.md` says what it is used for.
//!
//! It is stored in columns, one for each attribute, because these compress well. The same entries
//! give the same bytes, so the digest of the columns identifies them, whatever the compression of
//! the archive. A manifest from another machine is checked while it is read.

pub(crate) mod delta;
mod varint;

use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};

use crate::entry::{Entry, Kind, Owner, Time};
use crate::format::Format;
use crate::hash::{Hash, hexadecimal};
use crate::piece::Piece;
pub(crate) use varint::Wrong;
use varint::{Reader, zigzag};

/// The number of bytes of each hash that are sent to a side that has no manifest to compare with. The
/// rest is not needed: the result is compared with the digest, which is that of the whole hashes.
pub const CUT: usize = 6;
/// An archive with more entries has no manifest.
pub(crate) const MOST_ENTRIES: u32 = 1_000_000;
/// The maximum size of a manifest in bytes.
pub const MOST_BYTES: u64 = 512 << 20;
/// The maximum number of different pairs of permissions and owner.
const MOST_SHADES: usize = 4096;
/// No entry that can be unpacked has a longer name or target.
const LONGEST: usize = 4096;

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

/// One entry.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) entry: Entry,
    /// Of a regular file.
    pub(crate) size: u64,
    /// Of a regular file; bytes that were cut off are zero.
    pub(crate) hash: Hash,
}

impl Record {
    pub(crate) fn is_file(&self) -> bool {
        matches!(self.entry.kind, Kind::File(_))
    }
}

/// Why an archive has no manifest.
pub(crate) type Unlisted = &'static str;

/// Permissions and owner: few different ones, for many entries.
type Shade = (u32, Option<Owner>);

/// Makes a manifest, entry by entry.
#[derive(Debug)]
pub(crate) struct Encoder {
    format: Format,
    columns: [Vec<u8>; COLUMNS],
    count: u32,
    files: u32,
    directories: u32,
    name: Vec<u8>,
    seconds: i64,
    palette: Vec<Shade>,
    /// The position in `palette` of the previous entry's.
    shade: usize,
}

impl Encoder {
    pub(crate) fn new(format: Format) -> Self {
        let (columns, palette, name) = Default::default();
        let (count, files, directories, seconds, shade) = Default::default();
        Self { format, columns, count, files, directories, name, seconds, palette, shade }
    }

    /// Adds an entry. Returns its number among the files, or among the directories. The hash of a
    /// file may be set later, or all hashes at the end, if none is given here.
    pub(crate) fn push(
        &mut self,
        entry: &Entry,
        size: u64,
        hash: Option<&Hash>,
    ) -> Result<Option<u32>, Unlisted> {
        let (kind, target) = match &entry.kind {
            Kind::File(None) => (FILE, None),
            Kind::File(Some(_)) => return Err("it has a sparse file"),
            Kind::Directory => (DIRECTORY, None),
            Kind::Symlink(target) => (SYMLINK, Some(target)),
            Kind::HardLink(target) => (HARD_LINK, Some(target)),
            Kind::Special(_) => return Err("it has a device, a FIFO or the like"),
        };
        let strange = |text: &[u8]| text.contains(&0) || text.len() > LONGEST;
        let owner = entry.owner.as_ref();
        if strange(&entry.name)
            || target.is_some_and(|target| strange(target))
            || owner.is_some_and(|owner| strange(&owner.user) || strange(&owner.group))
        {
            return Err("it has a name that is no name");
        }
        if self.count >= MOST_ENTRIES {
            return Err("it has more than 1,000,000 entries");
        }
        self.count += 1;
        let nanoseconds = entry.mtime.map_or(0, |mtime| mtime.nanoseconds);
        let timed = if entry.mtime.is_some() { HAS_TIME } else { 0 };
        let exact = if nanoseconds > 0 { HAS_NANOSECONDS } else { 0 };
        self.columns[KINDS].push(kind | timed | exact);
        let both = self.name.iter().zip(&entry.name);
        let shared = both.take_while(|(before, now)| before == now).count();
        varint::push(&mut self.columns[SHARED], shared as u64);
        push_text(&mut self.columns[NAMES], &entry.name[shared..]);
        self.name.truncate(shared);
        self.name.extend_from_slice(&entry.name[shared..]);
        let shade = self.shade(entry.mode, owner)?;
        varint::push(&mut self.columns[OWNERS], shade as u64);
        if let Some(mtime) = entry.mtime {
            let since = mtime.seconds.wrapping_sub(self.seconds);
            varint::push(&mut self.columns[TIMES], zigzag(since));
            self.seconds = mtime.seconds;
            if nanoseconds > 0 {
                varint::push(&mut self.columns[TIMES], nanoseconds.into());
            }
        }
        if let Some(target) = target {
            push_text(&mut self.columns[TARGETS], target);
        }
        let number = match kind {
            FILE => &mut self.files,
            DIRECTORY => &mut self.directories,
            _ => return Ok(None),
        };
        *number += 1;
        if kind == FILE {
            varint::push(&mut self.columns[SIZES], size);
            self.columns[HASHES].extend_from_slice(hash.map_or(&[], |hash| hash));
        }
        Ok(Some(*number - 1))
    }

    fn shade(&mut self, mode: u32, owner: Option<&Owner>) -> Result<usize, Unlisted> {
        let is = |shade: &Shade| (shade.0, shade.1.as_ref()) == (mode, owner);
        // Nearly always the same as for the previous entry.
        if !self.palette.get(self.shade).is_some_and(is) {
            let known = self.palette.iter().position(is);
            self.shade = known.unwrap_or(self.palette.len());
            if known.is_none() {
                self.add_shade(mode, owner)?;
            }
        }
        Ok(self.shade)
    }

    fn add_shade(&mut self, mode: u32, owner: Option<&Owner>) -> Result<(), Unlisted> {
        if self.palette.len() >= MOST_SHADES {
            return Err("it has too many different owners");
        }
        self.palette.push((mode, owner.cloned()));
        let palette = &mut self.columns[PALETTE];
        varint::push(palette, mode.into());
        palette.push(u8::from(owner.is_some()));
        if let Some(owner) = owner {
            varint::push(palette, owner.uid.into());
            varint::push(palette, owner.gid.into());
            push_text(palette, &owner.user);
            push_text(palette, &owner.group);
        }
        Ok(())
    }

    /// How many files it has so far.
    pub(crate) fn files(&self) -> u32 {
        self.files
    }

    /// How many directories it has so far.
    pub(crate) fn directories(&self) -> u32 {
        self.directories
    }

    /// Sets the hash of a file.
    pub(crate) fn set_hash(&mut self, file: u32, hash: &Hash) {
        let at = file as usize * hash.len();
        if let Some(place) = self.columns[HASHES].get_mut(at..at + hash.len()) {
            place.copy_from_slice(hash);
        }
    }

    /// Returns the manifest.
    pub(crate) fn finish(self) -> Result<Manifest, Wrong> {
        if self.columns[HASHES].len() != self.files as usize * 32 {
            return Err("hashes are missing");
        }
        Manifest::new(self.format, [0; 32], 32, self.count, self.columns.map(Piece::from))
    }

    /// The same, with the hashes of all files.
    pub(crate) fn finish_with(mut self, hashes: Vec<u8>) -> Result<Manifest, Wrong> {
        self.columns[HASHES] = hashes;
        self.finish()
    }
}

fn push_text(column: &mut Vec<u8>, text: &[u8]) {
    column.extend_from_slice(text);
    column.push(0);
}

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

    /// A position before the first entry.
    pub(crate) fn cursor(&self) -> Cursor {
        let (record, file, directory, at, name, seconds) = Default::default();
        Cursor { record, file, directory, at, name, seconds }
    }

    /// Returns the next entry and advances the cursor; `None` after the last entry.
    pub(crate) fn next(&self, cursor: &mut Cursor) -> Result<Option<Record>, Wrong> {
        let Some(row) = self.step(cursor)? else { return Ok(None) };
        let (mode, owner) = self.palette.get(row.shade).cloned().unwrap_or_default();
        let (mut hash, kind) = ([0; 32], row.kind);
        let kind = match kind {
            FILE => {
                hash[..self.cut].copy_from_slice(self.hash(cursor.file - 1));
                Kind::File(None)
            }
            DIRECTORY => Kind::Directory,
            SYMLINK => Kind::Symlink(row.target.to_vec()),
            _ => Kind::HardLink(row.target.to_vec()),
        };
        let entry = Entry { name: cursor.name.clone(), kind, mode, mtime: row.mtime, owner };
        Ok(Some(Record { entry, size: row.size, hash }))
    }

    /// Advances the cursor to the next entry, whose name it has then. `None` after the last entry.
    /// Copies nothing but the name.
    pub(crate) fn step(&self, cursor: &mut Cursor) -> Result<Option<Row<'_>>, Wrong> {
        if cursor.record == self.count {
            let ends = self.columns.iter().zip(cursor.at).enumerate();
            let mut left = ends.filter(|(number, _)| *number != PALETTE);
            return match left.all(|(_, (column, at))| column.len() == at) {
                true => Ok(None),
                false => Err("it has more than its entries"),
            };
        }
        let mut readers = std::array::from_fn(|n| {
            Reader(self.columns[n].get(cursor.at[n]..).unwrap_or_default())
        });
        let row = self.read(cursor, &mut readers)?;
        for (n, reader) in readers.iter().enumerate() {
            cursor.at[n] = self.columns[n].len() - reader.0.len();
        }
        Ok(Some(row))
    }

    fn read<'a>(
        &'a self,
        cursor: &mut Cursor,
        columns: &mut [Reader<'a>; COLUMNS],
    ) -> Result<Row<'a>, Wrong> {
        let flags = columns[KINDS].byte()?;
        let shared = columns[SHARED].number()? as usize;
        if shared > cursor.name.len() {
            return Err("a name of it shares more than there is");
        }
        cursor.name.truncate(shared);
        cursor.name.extend_from_slice(columns[NAMES].text()?);
        if cursor.name.len() > LONGEST {
            return Err("a name of it is too long");
        }
        let shade = usize::try_from(columns[OWNERS].number()?).unwrap_or(usize::MAX);
        if shade >= self.palette.len() {
            return Err("it has an unknown owner");
        }
        let mtime = match flags & HAS_TIME {
            0 => None,
            _ => {
                let since = varint::unzigzag(columns[TIMES].number()?);
                cursor.seconds = cursor.seconds.wrapping_add(since);
                let nanoseconds = match flags & HAS_NANOSECONDS {
                    0 => 0,
                    _ => columns[TIMES].number()?,
                };
                let nanoseconds = u32::try_from(nanoseconds).unwrap_or(u32::MAX);
                if nanoseconds >= 1_000_000_000 {
                    return Err("a time of it is none");
                }
                Some(Time { seconds: cursor.seconds, nanoseconds })
            }
        };
        let (mut size, mut target) = (0, &[][..]);
        let kind = flags & KIND;
        match kind {
            FILE => {
                size = columns[SIZES].number()?;
                columns[HASHES].take(self.cut)?;
                cursor.file += 1;
            }
            DIRECTORY => cursor.directory += 1,
            SYMLINK | HARD_LINK => target = columns[TARGETS].text()?,
            _ => return Err("an entry of it is of an unknown kind"),
        }
        cursor.record += 1;
        Ok(Row { kind, shade, mtime, size, target })
    }

    /// Positions at regular distances (`Cursor::STEP`), from which [`Cursor::before`] starts.
    pub(crate) fn marks(&self) -> Result<Vec<Cursor>, Wrong> {
        let mut cursor = self.cursor();
        let mut marks = vec![cursor.clone()];
        while self.next(&mut cursor)?.is_some() {
            if cursor.record.is_multiple_of(Cursor::STEP) {
                marks.push(cursor.clone());
            }
        }
        Ok(marks)
    }
}

/// One entry, without its name, which the cursor has.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    kind: u8,
    /// Its permissions and owner, in the palette.
    shade: usize,
    pub(crate) mtime: Option<Time>,
    /// Of a regular file.
    pub(crate) size: u64,
    /// Of a link.
    target: &'a [u8],
}

impl Row<'_> {
    pub(crate) fn is_file(&self) -> bool {
        self.kind == FILE
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.kind == DIRECTORY
    }

    pub(crate) fn is_hard_link(&self) -> bool {
        self.kind == HARD_LINK
    }
}

/// A position in a manifest.
#[derive(Debug, Clone)]
pub(crate) struct Cursor {
    /// The number of the next entry, and that of the next file.
    pub(crate) record: u32,
    pub(crate) file: u32,
    /// The number of the next directory.
    pub(crate) directory: u32,
    at: [usize; COLUMNS],
    /// The name of the previous entry.
    pub(crate) name: Vec<u8>,
    seconds: i64,
}

impl Cursor {
    const STEP: u32 = 128;

    /// The position before an entry. `marks`: the result of [`Manifest::marks`].
    pub(crate) fn before(
        record: u32,
        marks: &[Cursor],
        manifest: &Manifest,
    ) -> Result<Cursor, Wrong> {
        let mark = marks.get((record / Self::STEP) as usize).ok_or("it has no such entry")?;
        let mut cursor = mark.clone();
        while cursor.record < record {
            manifest.next(&mut cursor)?.ok_or("it has no such entry")?;
        }
        Ok(cursor)
    }
}
