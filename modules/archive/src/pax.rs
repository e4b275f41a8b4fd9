//! Owns PAX extended headers: `length key=value` records before an entry, which say what
//! its own header has no room for.

use crate::entry::{Entry, Map, Time};
use crate::header::is_id;
use crate::sparse::MOST_PARTS;

/// A longer text is no path and no name, and is not copied for every entry.
const MOST_FOR_ALL: usize = 4096;

/// What is known of PAX records. Everything else (`atime`, extended attributes …) is
/// left out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pax {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) linkpath: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    mtime: Option<Time>,
    uid: Option<u32>,
    gid: Option<u32>,
    user: Option<Vec<u8>>,
    group: Option<Vec<u8>>,
    /// The sparse file's version, name, size and map.
    pub(crate) major: Option<u64>,
    sparse_name: Option<Vec<u8>>,
    pub(crate) real_size: Option<u64>,
    parts: Option<Vec<(u64, u64)>>,
    offset: Option<u64>,
}

impl Pax {
    /// Adds the records of one extended header; later ones win, and an empty value takes
    /// an earlier one back.
    pub(crate) fn add(&mut self, mut records: &[u8]) -> Result<(), String> {
        while !records.is_empty() && records[0] != 0 {
            let (key, value, rest) = split(records).ok_or("its PAX header is damaged")?;
            self.set(key, value).ok_or_else(|| {
                format!("its PAX record {} is invalid", crate::failures::show(key))
            })?;
            records = rest;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"path" => self.path = text(value),
            b"linkpath" => self.linkpath = text(value),
            b"size" => self.size = maybe(value, number)?,
            b"mtime" => self.mtime = maybe(value, time)?,
            b"uid" => self.uid = maybe(value, id)?,
            b"gid" => self.gid = maybe(value, id)?,
            b"uname" => self.user = text(value),
            b"gname" => self.group = text(value),
            b"GNU.sparse.major" => self.major = maybe(value, number)?,
            b"GNU.sparse.name" => self.sparse_name = text(value),
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => self.real_size = maybe(value, number)?,
            b"GNU.sparse.map" => {
                let numbers: Option<Vec<u64>> = value.split(|b| *b == b',').map(number).collect();
                let numbers = if value.is_empty() { Vec::new() } else { numbers? };
                let pairs = numbers.chunks(2);
                self.parts = Some(pairs.map(|p| Some((p[0], *p.get(1)?))).collect::<Option<_>>()?);
            }
            b"GNU.sparse.offset" => self.offset = Some(number(value)?),
            b"GNU.sparse.numbytes" => {
                let parts = self.parts.get_or_insert_default();
                if parts.len() > MOST_PARTS {
                    return None;
                }
                parts.push((self.offset.take()?, number(value)?));
            }
            _ => {}
        }
        Some(())
    }

    /// Keeps only records that apply to all following entries: each gets a copy, so they must be
    /// small. A sparse map is never shared.
    pub(crate) fn keep_for_all(&mut self) {
        let short = |text: Option<Vec<u8>>| text.filter(|text| text.len() <= MOST_FOR_ALL);
        *self = Self {
            path: short(self.path.take()),
            linkpath: short(self.linkpath.take()),
            user: short(self.user.take()),
            group: short(self.group.take()),
            size: self.size,
            mtime: self.mtime,
            uid: self.uid,
            gid: self.gid,
            ..Self::default()
        };
    }

    /// The map of a sparse file of version 0.0 or 0.1.
    pub(crate) fn map(&mut self) -> Option<Map> {
        Some(Map { parts: self.parts.take()?, size: self.real_size? })
    }

    /// Overrides the values of the entry's header.
    pub(crate) fn apply(self, entry: &mut Entry) {
        if let Some(path) = self.sparse_name.or(self.path) {
            entry.name = path;
        }
        entry.mtime = self.mtime.or(entry.mtime);
        if let Some(owner) = &mut entry.owner {
            owner.uid = self.uid.unwrap_or(owner.uid);
            owner.gid = self.gid.unwrap_or(owner.gid);
            if let Some(user) = self.user {
                owner.user = user;
            }
            if let Some(group) = self.group {
                owner.group = group;
            }
        }
    }
}

/// The first record's key and value, and what comes after it.
fn split(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = records.iter().take(20).position(|b| *b == b' ')?;
    let length = usize::try_from(number(&records[..blank])?).ok()?;
    if length > records.len() || length < blank + 2 {
        return None;
    }
    let (record, rest) = records.split_at(length);
    let (newline, record) = record[blank + 1..].split_last()?;
    let equals = record.iter().position(|b| *b == b'=').filter(|_| *newline == b'\n')?;
    Some((&record[..equals], &record[equals + 1..], rest))
}

fn text(value: &[u8]) -> Option<Vec<u8>> {
    (!value.is_empty()).then(|| value.to_vec())
}

/// `Some(None)` for an empty value, `None` for a wrong one.
fn maybe<T>(value: &[u8], parse: impl Fn(&[u8]) -> Option<T>) -> Option<Option<T>> {
    if value.is_empty() { Some(None) } else { parse(value).map(Some) }
}

fn id(digits: &[u8]) -> Option<u32> {
    u32::try_from(number(digits)?).ok().filter(is_id)
}

fn number(digits: &[u8]) -> Option<u64> {
    if !digits.first()?.is_ascii_digit() {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// `1350244992.023960108`, also negative.
fn time(value: &[u8]) -> Option<Time> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(value) => (true, value),
        None => (false, value),
    };
    let (whole, fraction) = match value.iter().position(|b| *b == b'.') {
        Some(point) => (&value[..point], &value[point + 1..]),
        None => (value, &b""[..]),
    };
    let seconds = i64::try_from(number(whole)?).ok()?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let nanoseconds = fraction
        .iter()
        .chain(std::iter::repeat(&b'0'))
        .take(9)
        .fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
    Some(match (negative, nanoseconds) {
        (false, _) => Time { seconds, nanoseconds },
        (true, 0) => Time { seconds: -seconds, nanoseconds },
        (true, _) => Time { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn records_are_read_by_their_length() {
        let mut pax = Pax::default();
        pax.add(b"12 path=a\nb\n22 mtime=1.5000000009\n13 uid=70000\n").unwrap();
        assert_eq!(pax.path.as_deref(), Some(&b"a\nb"[..]));
        assert_eq!(pax.mtime, Some(Time { seconds: 1, nanoseconds: 500_000_000 }));
        assert_eq!(pax.uid, Some(70_000));
        pax.add(b"8 path=\n").unwrap();
        assert_eq!(pax.path, None);
    }

    #[test]
    fn damaged_records_are_refused() {
        for records in [
            &b"99 path=a\n"[..],
            b"3 path=a\n",
            b"path=a\n",
            b"10 path=ab\n",
            b"9 path=ab",
            b"7 patha\n",
            b"9 size=x\n",
            b"10 size=-1\n",
            b"+9 size=1\n",
            b"29 size=99999999999999999999\n",
        ] {
            assert!(Pax::default().add(records).is_err(), "{}", String::from_utf8_lossy(records));
        }
    }

    #[test]
    fn times_before_the_epoch_count_forward() {
        assert_eq!(time(b"-1.25"), Some(Time { seconds: -2, nanoseconds: 750_000_000 }));
        assert_eq!(time(b"-3"), Some(Time { seconds: -3, nanoseconds: 0 }));
        assert_eq!(time(b"1.x"), None);
    }

    proptest! {
        #[test]
        fn no_header_is_too_strange(records in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Pax::default().add(&records);
        }

        #[test]
        fn what_was_written_is_read(path in proptest::collection::vec(any::<u8>(), 1..300)) {
            let body = [&b" path="[..], &path, b"\n"].concat();
            let length = (1..9).map(|n| body.len() + n).find(|n| n.to_string().len() + body.len() == *n).unwrap();
            let record = [length.to_string().as_bytes(), &body].concat();
            let mut pax = Pax::default();
            pax.add(&record).unwrap();
            prop_assert_eq!(pax.path, Some(path));
        }
    }
}
