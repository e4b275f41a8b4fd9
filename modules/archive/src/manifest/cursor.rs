//! Reads the entries of a manifest, one after the other, from any position.

use super::varint::{self, Reader, Wrong};
use super::{
    COLUMNS, DIRECTORY, FILE, HARD_LINK, HAS_NANOSECONDS, HAS_TIME, HASHES, KIND, KINDS, LONGEST,
    Manifest, NAMES, OWNERS, PALETTE, SHARED, SIZES, SYMLINK, TARGETS, TIMES,
};
use crate::entry::{Entry, Kind, Time};
use crate::hash::Hash;

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

impl Manifest {
    /// A position before the first entry.
    pub(crate) fn cursor(&self) -> Cursor {
        let (record, file, directory, at, name, seconds) = Default::default();
        Cursor { record, file, directory, at, name, seconds }
    }

    /// Returns the next entry and advances the cursor; `None` after the last entry.
    pub(crate) fn next(&self, cursor: &mut Cursor) -> Result<Option<Record>, Wrong> {
        let Some(row) = self.step(cursor)? else { return Ok(None) };
        Ok(Some(self.record(cursor, &row)))
    }

    /// The entry that [`Manifest::step`] has returned, with what the cursor has of it.
    pub(crate) fn record(&self, cursor: &Cursor, row: &Row<'_>) -> Record {
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
        Record { entry, size: row.size, hash }
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
        while self.step(&mut cursor)?.is_some() {
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
    pub(super) kind: u8,
    /// Its permissions and owner, in the palette.
    pub(super) shade: usize,
    pub(crate) mtime: Option<Time>,
    /// Of a regular file.
    pub(crate) size: u64,
    /// Of a link.
    pub(super) target: &'a [u8],
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
            manifest.step(&mut cursor)?.ok_or("it has no such entry")?;
        }
        Ok(cursor)
    }
}
