//! Makes a manifest, entry by entry.

use super::varint::{self, Wrong, zigzag};
use super::{
    COLUMNS, Cursor, DIRECTORY, FILE, HARD_LINK, HAS_NANOSECONDS, HAS_TIME, HASHES, KINDS, LONGEST,
    MOST_ENTRIES, Manifest, NAMES, OWNERS, PALETTE, Row, SHARED, SIZES, SYMLINK, Shade, TARGETS,
    TIMES,
};
use crate::entry::{Entry, Kind, Owner, Time};
use crate::format::Format;
use crate::hash::Hash;
use crate::piece::Piece;

/// The maximum number of different pairs of permissions and owner.
const MOST_SHADES: usize = 4096;

/// Why an archive has no manifest.
pub(crate) type Unlisted = &'static str;

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
        hash: Option<&[u8]>,
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
        let shade = self.shade(entry.mode, owner)?;
        let target = target.map(|target| target.as_slice());
        self.add(&entry.name, kind, shade, (entry.mtime, size, target), hash)
    }

    /// Adds the entry of another manifest that [`Manifest::step`] has returned, with another time. `shades` has for each of that
    /// manifest's shades its position here, once it is known.
    pub(super) fn copy(
        &mut self,
        from: &Manifest,
        cursor: &Cursor,
        row: &Row<'_>,
        mtime: Option<Time>,
        shades: &mut [Option<usize>],
    ) -> Result<(), Unlisted> {
        let known = shades.get_mut(row.shade).ok_or("it has an unknown owner")?;
        let shade = match *known {
            Some(shade) => shade,
            None => {
                let (mode, owner) = from.palette.get(row.shade).ok_or("it has an unknown owner")?;
                *known.insert(self.shade(*mode, owner.as_ref())?)
            }
        };
        let hash = (row.kind == FILE).then(|| from.hash(cursor.file - 1));
        let target = matches!(row.kind, SYMLINK | HARD_LINK).then_some(row.target);
        self.add(&cursor.name, row.kind, shade, (mtime, row.size, target), hash).map(drop)
    }

    fn add(
        &mut self,
        name: &[u8],
        kind: u8,
        shade: usize,
        (mtime, size, target): (Option<Time>, u64, Option<&[u8]>),
        hash: Option<&[u8]>,
    ) -> Result<Option<u32>, Unlisted> {
        if self.count >= MOST_ENTRIES {
            return Err("it has more than 2,000,000 entries");
        }
        self.count += 1;
        let nanoseconds = mtime.map_or(0, |mtime| mtime.nanoseconds);
        let timed = if mtime.is_some() { HAS_TIME } else { 0 };
        let exact = if nanoseconds > 0 { HAS_NANOSECONDS } else { 0 };
        self.columns[KINDS].push(kind | timed | exact);
        let shared = shared(&self.name, name);
        varint::push(&mut self.columns[SHARED], shared as u64);
        push_text(&mut self.columns[NAMES], &name[shared..]);
        self.name.truncate(shared);
        self.name.extend_from_slice(&name[shared..]);
        varint::push(&mut self.columns[OWNERS], shade as u64);
        if let Some(mtime) = mtime {
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
            self.columns[HASHES].extend_from_slice(hash.unwrap_or_default());
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

/// How many bytes two names have in common at their beginning.
fn shared(before: &[u8], now: &[u8]) -> usize {
    let (words, _) = before.as_chunks::<8>();
    let (others, _) = now.as_chunks::<8>();
    let same = 8 * words.iter().zip(others).take_while(|(word, other)| word == other).count();
    let rest = before[same..].iter().zip(&now[same..]);
    same + rest.take_while(|(before, now)| before == now).count()
}

fn push_text(column: &mut Vec<u8>, text: &[u8]) {
    column.extend_from_slice(text);
    column.push(0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;

    #[test]
    fn as_many_as_are_unpacked_have_a_manifest() {
        let most = Limits::default().max_entries;
        let mut encoder = Encoder::new(Format::Tar);
        let shade = encoder.shade(0o755, None).unwrap();
        let mut add = |number: u64| {
            encoder.add(&number.to_be_bytes(), DIRECTORY, shade, (None, 0, None), None)
        };
        for number in 0..most {
            let _ = add(number).unwrap();
        }
        let why = add(most).unwrap_err();
        assert_eq!(why.replace(',', ""), format!("it has more than {most} entries"));
        let manifest = encoder.finish().unwrap();
        let read = Manifest::parse(manifest.encode()).unwrap();
        assert_eq!((u64::from(read.count), read.digest()), (most, manifest.digest()));
    }
}
