//! Owns the difference of two manifests: a new one, encoded relative to a base that both sides have.
//!
//! It has runs of entries that are the same in the base, and other entries in full. Many builds
//! change the times of all files. Then it also has the times of the entries that are otherwise the
//! same.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use super::cursor::Record;
use super::varint::{self, Reader, unzigzag, zigzag};
use super::{Cursor, Encoder, MOST_ENTRIES, Manifest, Wrong};
use crate::entry::{Kind, Time};
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

/// Encodes `new` relative to `base`.
pub(crate) fn encode(new: &Manifest, base: &Manifest) -> Result<Vec<u8>, Wrong> {
    let known = all(base)?;
    let hasher = RandomState::new();
    let names = known.iter().zip(0..).map(|(it, n)| (hasher.hash_one(&it.entry.name), n));
    let names = Rows::new(names.collect());
    let records = all(new)?;
    let same: Vec<Option<usize>> = records
        .iter()
        .map(|record| {
            let found = names.get(hasher.hash_one(&record.entry.name)).iter().rev();
            let mut numbers = found.map(|(_, number)| *number as usize);
            numbers.find(|number| is_same(record, &known[*number]))
        })
        .collect();
    let moved = |record: &Record, number: Option<usize>| {
        number.is_some_and(|number| known[number].entry.mtime != record.entry.mtime)
    };
    let others = records.iter().zip(&same).filter(|(record, number)| moved(record, **number));
    let times = match others.count() {
        few if few * FEW <= records.len() => SAME,
        _ if records.iter().all(|it| it.entry.mtime.is_none_or(|at| at.nanoseconds == 0)) => {
            SECONDS
        }
        _ => NANOSECONDS,
    };
    let mut literals = Encoder::new(new.format);
    let (mut runs, mut column) = (Vec::new(), Vec::new());
    let (mut seconds, mut expected) = (0, 0);
    // The number of entries that are in the base, where they begin there (relative to the end of the
    // previous run), and the number of entries in full that follow.
    let mut run = (0u64, 0i64, 0u64);
    for (record, number) in records.iter().zip(&same) {
        let number = number.filter(|_| times != SAME || !moved(record, *number));
        match number {
            Some(number) => {
                if run.2 > 0 || (run.0 > 0 && number != expected) {
                    push_run(&mut runs, &mut run);
                }
                if run.0 == 0 {
                    run.1 = number as i64 - expected as i64;
                }
                run.0 += 1;
                expected = number + 1;
                if let Some(mtime) = record.entry.mtime.filter(|_| times != SAME) {
                    varint::push(&mut column, zigzag(mtime.seconds.wrapping_sub(seconds)));
                    seconds = mtime.seconds;
                    if times == NANOSECONDS {
                        varint::push(&mut column, mtime.nanoseconds.into());
                    }
                }
            }
            None => {
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

fn push_run(runs: &mut Vec<u8>, run: &mut (u64, i64, u64)) {
    varint::push(runs, run.0);
    varint::push(runs, zigzag(run.1));
    varint::push(runs, run.2);
    *run = (0, 0, 0);
}

fn all(manifest: &Manifest) -> Result<Vec<Record>, Wrong> {
    let mut cursor = manifest.cursor();
    std::iter::from_fn(|| manifest.next(&mut cursor).transpose()).collect()
}

/// Whether two entries are the same except for their time.
fn is_same(new: &Record, known: &Record) -> bool {
    let kind = match (&new.entry.kind, &known.entry.kind) {
        (Kind::File(_), Kind::File(_)) => new.size == known.size && new.hash == known.hash,
        (Kind::Directory, Kind::Directory) => true,
        (Kind::Symlink(new), Kind::Symlink(known))
        | (Kind::HardLink(new), Kind::HardLink(known)) => new == known,
        _ => false,
    };
    kind && new.entry.name == known.entry.name
        && new.entry.mode & 0o7777 == known.entry.mode
        && new.entry.owner == known.entry.owner
        && new.entry.mtime.is_some() == known.entry.mtime.is_some()
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
            let mut record = base.next(&mut known)?.ok_or("it has no such entry")?;
            if let Some(mtime) = record.entry.mtime.as_mut().filter(|_| times != SAME) {
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
            new.push(&record.entry, record.size, Some(&record.hash))?;
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
