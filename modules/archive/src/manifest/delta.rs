//! Owns the difference of two manifests: a new one, encoded relative to a base that both sides have.
//!
//! It has runs of entries that are the same in the base, and other entries in full. Many builds
//! change the times of all files. Then it also has the times of the entries that are otherwise the
//! same.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use super::cursor::Row;
use super::varint::{self, Reader, unzigzag, zigzag};
use super::{Cursor, Encoder, MOST_ENTRIES, Manifest, Wrong};
use crate::entry::Time;
use crate::format::Format;
use crate::rows::Rows;

const MAGIC: &[u8; 8] = b"OXIDEL1\n";
/// How the times of entries in runs are given: not at all (they are those of the base), in seconds,
/// or in seconds and nanoseconds.
const SAME: u8 = 0;
const SECONDS: u8 = 1;
const NANOSECONDS: u8 = 2;
/// If more than one entry in this many has another time, the times of all are given.
const FEW: usize = 50;

/// If an archive has a name more often, only so many of them are compared.
const MOST_NAMESAKES: usize = 8;

/// Encodes `new` relative to `base`.
pub(crate) fn encode(new: &Manifest, base: &Manifest) -> Result<Vec<u8>, Wrong> {
    let twins = twins(new, base)?;
    let moved = twins.iter().flatten().filter(|twin| twin.is_moved).count();
    let times = match moved {
        few if few * FEW <= twins.len() => SAME,
        _ if !has_nanoseconds(new)? => SECONDS,
        _ => NANOSECONDS,
    };
    let mut literals = Encoder::new(new.format);
    let (mut runs, mut column) = (Vec::new(), Vec::new());
    let (mut seconds, mut expected) = (0, 0);
    // The number of entries that are in the base, where they begin there (relative to the end of the
    // previous run), and the number of entries in full that follow.
    let mut run = (0u64, 0i64, 0u64);
    let mut cursor = new.cursor();
    for twin in &twins {
        let Some(row) = new.step(&mut cursor)? else { break };
        match twin.filter(|twin| times != SAME || !twin.is_moved) {
            Some(Twin { number, .. }) => {
                if run.2 > 0 || (run.0 > 0 && number != expected) {
                    push_run(&mut runs, &mut run);
                }
                if run.0 == 0 {
                    run.1 = i64::from(number) - i64::from(expected);
                }
                run.0 += 1;
                expected = number + 1;
                if let Some(mtime) = row.mtime.filter(|_| times != SAME) {
                    varint::push(&mut column, zigzag(mtime.seconds.wrapping_sub(seconds)));
                    seconds = mtime.seconds;
                    if times == NANOSECONDS {
                        varint::push(&mut column, mtime.nanoseconds.into());
                    }
                }
            }
            None => {
                let record = new.record(&cursor, &row);
                literals.push(&record.entry, record.size, Some(&record.hash))?;
                run.2 += 1;
            }
        }
    }
    push_run(&mut runs, &mut run);
    let literals = literals.finish()?.encode();
    let mut bytes = MAGIC.to_vec();
    bytes.push(new.format.number());
    bytes.push(times);
    for part in [&runs, &column, &literals] {
        bytes.extend((part.len() as u64).to_le_bytes());
    }
    Ok([bytes, runs, column, literals].concat())
}

/// The entry of the base that is the same except perhaps for its time.
#[derive(Clone, Copy)]
struct Twin {
    number: u32,
    /// Whether its time is another one.
    is_moved: bool,
}

/// Finds the twin of each entry of `new`. Mostly both have the same names in the same order, so the entry after the last
/// one that was found is looked at first. A name that is elsewhere is looked up.
fn twins(new: &Manifest, base: &Manifest) -> Result<Vec<Option<Twin>>, Wrong> {
    let hasher = RandomState::new();
    let mut table: Option<(Rows, Vec<Cursor>)> = None;
    let mut twins = Vec::with_capacity(new.count as usize);
    let (mut cursor, mut before) = (new.cursor(), base.cursor());
    let mut known = base.step(&mut before)?;
    while let Some(row) = new.step(&mut cursor)? {
        let mut twin = None;
        if known.is_some() && before.name == cursor.name {
            twin = known.as_ref().and_then(|known| of(new, &cursor, &row, base, &before, known));
        } else {
            let (names, marks) = match &table {
                Some(table) => table,
                None => table.insert((names(base, &hasher)?, base.marks()?)),
            };
            let numbers = names.get(hasher.hash_one(&cursor.name)).iter().rev();
            for (_, number) in numbers.take(MOST_NAMESAKES) {
                let mut there = Cursor::before(*number, marks, base)?;
                let found = base.step(&mut there)?;
                if there.name != cursor.name {
                    continue;
                }
                twin = found.as_ref().and_then(|known| of(new, &cursor, &row, base, &there, known));
                (before, known) = (there, found);
                if twin.is_some() {
                    break;
                }
            }
        }
        twins.push(twin);
        // Where the name is nowhere, the next one may still be here.
        if known.is_some() && before.name == cursor.name {
            known = base.step(&mut before)?;
        }
    }
    Ok(twins)
}

/// The twin, if two entries with the same name are the same.
fn of(
    new: &Manifest,
    cursor: &Cursor,
    row: &Row<'_>,
    base: &Manifest,
    there: &Cursor,
    known: &Row<'_>,
) -> Option<Twin> {
    let is_same = row.kind == known.kind
        && row.size == known.size
        && (!row.is_file() || new.hash(cursor.file - 1) == base.hash(there.file - 1))
        && row.target == known.target
        && new.palette.get(row.shade) == base.palette.get(known.shade)
        && row.mtime.is_some() == known.mtime.is_some();
    is_same.then(|| Twin { number: there.record - 1, is_moved: row.mtime != known.mtime })
}

/// The names of a manifest by their hash.
fn names(manifest: &Manifest, hasher: &RandomState) -> Result<Rows, Wrong> {
    let mut cursor = manifest.cursor();
    let mut names = Vec::with_capacity(manifest.count as usize);
    while manifest.step(&mut cursor)?.is_some() {
        names.push((hasher.hash_one(&cursor.name), cursor.record - 1));
    }
    Ok(Rows::new(names))
}

fn has_nanoseconds(manifest: &Manifest) -> Result<bool, Wrong> {
    let mut cursor = manifest.cursor();
    while let Some(row) = manifest.step(&mut cursor)? {
        if row.mtime.is_some_and(|at| at.nanoseconds > 0) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn push_run(runs: &mut Vec<u8>, run: &mut (u64, i64, u64)) {
    varint::push(runs, run.0);
    varint::push(runs, zigzag(run.1));
    varint::push(runs, run.2);
    *run = (0, 0, 0);
}

/// Decodes what [`encode`] has written.
pub(crate) fn decode(bytes: &[u8], base: &Manifest) -> Result<Manifest, Wrong> {
    let mut reader = Reader(bytes);
    if reader.take(MAGIC.len())? != MAGIC || base.is_cut() {
        return Err("it is no difference of manifests of this version");
    }
    let format = Format::by_number(reader.byte()?).ok_or("its archive has an unknown format")?;
    let times = reader.byte()?;
    let mut lengths = [0; 3];
    for length in &mut lengths {
        *length = usize::try_from(u64::from_le_bytes(reader.array()?)).unwrap_or(usize::MAX);
    }
    let mut runs = Reader(reader.take(lengths[0])?);
    let mut column = Reader(reader.take(lengths[1])?);
    let literals = Manifest::parse(reader.take(lengths[2])?.to_vec())?;
    if literals.is_cut() || !reader.0.is_empty() {
        return Err("its parts make no sense");
    }
    let mut given = literals.cursor();
    let mut known = base.cursor();
    let mut marks = None;
    let mut new = Encoder::new(format);
    let mut shades = vec![None; base.palette.len()];
    let mut seconds: i64 = 0;
    while !runs.0.is_empty() {
        let (copied, jump) = (runs.number()?, unzigzag(runs.number()?));
        let full = runs.number()?;
        if copied.max(full) > u64::from(MOST_ENTRIES) {
            return Err("it has too many entries");
        }
        if jump != 0 {
            let marks = match &marks {
                Some(marks) => marks,
                None => marks.insert(base.marks()?),
            };
            let to = i64::from(known.record).checked_add(jump);
            let to = to.and_then(|to| u32::try_from(to).ok()).ok_or("it has no such entry")?;
            known = Cursor::before(to, marks, base)?;
        }
        for _ in 0..copied {
            let row = base.step(&mut known)?.ok_or("it has no such entry")?;
            let mut mtime = row.mtime;
            if let Some(mtime) = mtime.as_mut().filter(|_| times != SAME) {
                seconds = seconds.wrapping_add(unzigzag(column.number()?));
                let nanoseconds = match times {
                    NANOSECONDS => column.number()?,
                    _ => 0,
                };
                let nanoseconds = u32::try_from(nanoseconds).unwrap_or(u32::MAX);
                if nanoseconds >= 1_000_000_000 {
                    return Err("a time of it is none");
                }
                *mtime = Time { seconds, nanoseconds };
            }
            new.copy(base, &known, &row, mtime, &mut shades)?;
        }
        for _ in 0..full {
            let record = literals.next(&mut given)?.ok_or("it has no such entry")?;
            new.push(&record.entry, record.size, Some(&record.hash))?;
        }
    }
    if literals.next(&mut given)?.is_some() || !column.0.is_empty() {
        return Err("it has more than its entries");
    }
    new.finish()
}
