//! Owns the manifest of an archive: path and attributes of each entry, in the order of the archive,
//! and the SHA-256 of the contents of each file. `docs/spare.md` says what it is used for.
//!
//! It is stored in columns, one for each attribute, because these compress well. The same entries
//! give the same bytes, so the digest of the columns identifies them, whatever the compression of
//! the archive. A manifest from another machine is checked while it is read.

pub(crate) mod delta;
mod varint;

use std::fmt::Write;

use sha2::{Digest, Sha256};

use crate::Format;
use crate::entry::{Entry, Kind, Owner, Time};
use varint::{Reader, zigzag};

/// The SHA-256 of a file's contents.
pub(crate) type Hash = [u8; 32];
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
/// What is wrong with bytes that should be a manifest.
pub(crate) type Wrong = &'static str;

/// Permissions and owner: few different ones, for many entries.
type Shade = (u32, Option<Owner>);

/// Makes a manifest, entry by entry.
#[derive(Debug)]
pub(crate) struct Encoder {
    format: Format,
    columns: [Vec<u8>; COLUMNS],
    count: u32,
    files: u32,
    name: Vec<u8>,
    seconds: i64,
    palette: Vec<Shade>,
    /// The position in `palette` of the previous entry's.
    shade: usize,
}

impl Encoder {
    pub(crate) fn new(format: Format) -> Self {
        let (columns, palette, name) = Default::default();
        Self { format, columns, count: 0, files: 0, name, seconds: 0, palette, shade: 0 }
    }

    /// Adds an entry. For a file, returns its number among the files; its hash may be set later.
    pub(crate) fn push(
        &mut self,
        entry: &Entry,
        size: u64,
        hash: &Hash,
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
        if kind != FILE {
            return Ok(None);
        }
        varint::push(&mut self.columns[SIZES], size);
        self.columns[HASHES].extend_from_slice(hash);
        self.files += 1;
        Ok(Some(self.files - 1))
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

    /// Sets the hash of a file.
    pub(crate) fn set_hash(&mut self, file: u32, hash: &Hash) {
        let at = file as usize * hash.len();
        if let Some(place) = self.columns[HASHES].get_mut(at..at + hash.len()) {
            place.copy_from_slice(hash);
        }
    }

    /// Returns the manifest.
    pub(crate) fn finish(self) -> Result<Manifest, Wrong> {
        Manifest::new(self.format, [0; 32], 32, self.count, self.columns)
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
    columns: [Vec<u8>; COLUMNS],
    palette: Vec<Shade>,
}

impl Manifest {
    fn new(
        format: Format,
        archive: Hash,
        cut: usize,
        count: u32,
        columns: [Vec<u8>; COLUMNS],
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
        Ok(Self { format, archive, cut, count, columns, palette })
    }

    /// Reads what [`Manifest::encode`] has written.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
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
        let mut rest = Reader(bytes.get(HEAD..).ok_or(SHORT)?);
        let mut columns: [Vec<u8>; COLUMNS] = Default::default();
        for column in &mut columns {
            let length = usize::try_from(u64::from_le_bytes(reader.array()?)).map_err(|_| SHORT)?;
            *column = rest.take(length)?.to_vec();
        }
        if !rest.0.is_empty() {
            return Err("something comes after its end");
        }
        Self::new(format, archive, cut, count, columns)
    }

    /// The bytes to store or to send. Cut hashes stay cut.
    pub fn encode(&self) -> Vec<u8> {
        let size = self.columns.iter().map(Vec::len).sum::<usize>();
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
        let cut = hashes.flat_map(|hash| &hash[..CUT.min(self.cut)]).copied().collect();
        let mut columns = self.columns.clone();
        columns[HASHES] = cut;
        Self { cut: CUT, columns, palette: self.palette.clone(), ..*self }
    }

    /// The digest, which identifies it, in hexadecimal; `None` if the hashes are cut.
    pub fn digest(&self) -> Option<String> {
        (!self.is_cut()).then(|| hexadecimal(&self.raw_digest()))
    }

    pub(crate) fn raw_digest(&self) -> Hash {
        let mut sum = Sha256::new();
        for column in &self.columns {
            sum.update((column.len() as u64).to_le_bytes());
            sum.update(column);
        }
        sum.finalize().into()
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
        (self.columns[HASHES], self.cut) = (hashes, 32);
        Ok(())
    }

    /// A position before the first entry.
    pub(crate) fn cursor(&self) -> Cursor {
        Cursor { record: 0, file: 0, at: [0; COLUMNS], name: Vec::new(), seconds: 0 }
    }

    /// Returns the next entry and advances the cursor; `None` after the last entry.
    pub(crate) fn next(&self, cursor: &mut Cursor) -> Result<Option<Record>, Wrong> {
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
        let record = self.read(cursor, &mut readers)?;
        for (n, reader) in readers.iter().enumerate() {
            cursor.at[n] = self.columns[n].len() - reader.0.len();
        }
        Ok(Some(record))
    }

    fn read(
        &self,
        cursor: &mut Cursor,
        columns: &mut [Reader<'_>; COLUMNS],
    ) -> Result<Record, Wrong> {
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
        let (mode, owner) = self.palette.get(shade).ok_or("it has an unknown owner")?.clone();
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
        let (mut size, mut hash) = (0, [0; 32]);
        let kind = match flags & KIND {
            FILE => {
                size = columns[SIZES].number()?;
                hash[..self.cut].copy_from_slice(columns[HASHES].take(self.cut)?);
                cursor.file += 1;
                Kind::File(None)
            }
            DIRECTORY => Kind::Directory,
            SYMLINK => Kind::Symlink(columns[TARGETS].text()?.to_vec()),
            HARD_LINK => Kind::HardLink(columns[TARGETS].text()?.to_vec()),
            _ => return Err("an entry of it is of an unknown kind"),
        };
        cursor.record += 1;
        let entry = Entry { name: cursor.name.clone(), kind, mode, mtime, owner };
        Ok(Record { entry, size, hash })
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

/// A position in a manifest.
#[derive(Debug, Clone)]
pub(crate) struct Cursor {
    /// The number of the next entry, and that of the next file.
    pub(crate) record: u32,
    pub(crate) file: u32,
    at: [usize; COLUMNS],
    name: Vec<u8>,
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

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
