//! Reads the first bytes of a request, as far as they have arrived.

use crate::request::{BEGIN_REQUEST, PARAMS, begins, params};

/// The offset of the flags in the first record of a request.
const FLAGS: usize = 8 + 2;
/// `FCGI_KEEP_CONN`.
const KEEP: u8 = 1;
/// Settings of PHP, a line each, as in php.ini: `open_basedir` is a list of directories.
const SETTINGS: [&[u8]; 2] = [b"PHP_VALUE", b"PHP_ADMIN_VALUE"];

/// The result of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found<T> {
    /// It was found.
    Is(T),
    /// The request does not have it, or is not a request.
    None,
    /// More bytes are needed.
    NotYet,
}

/// Whether more requests may follow on the same connection.
pub fn keeps_connection(bytes: &[u8]) -> Found<bool> {
    match bytes.first_chunk().map(|head| begins(*head)) {
        Some(None) => Found::None,
        Some(Some(_)) if bytes.len() > FLAGS => {
            Found::Is(bytes.get(FLAGS).is_some_and(|flags| flags & KEEP != 0))
        }
        _ => Found::NotYet,
    }
}

/// A parameter of the request that these bytes begin with.
pub fn param(bytes: &[u8], name: &[u8]) -> Found<Vec<u8>> {
    if keeps_connection(bytes) == Found::None {
        return Found::None;
    }
    // A pair may span several records.
    let (mut rest, mut pairs, mut are_all) = (bytes, Vec::new(), false);
    while let Some((header, after)) = rest.split_first_chunk::<8>() {
        let [_, kind, _, _, high, low, padding, _] = *header;
        let length = usize::from(u16::from_be_bytes([high, low]));
        match kind {
            BEGIN_REQUEST => {}
            PARAMS if length > 0 => pairs.extend_from_slice(after.get(..length).unwrap_or(after)),
            _ => {
                are_all = true;
                break;
            }
        }
        match after.get(length + usize::from(padding)..) {
            Some(next) => rest = next,
            None => break,
        }
    }
    if !are_all {
        return Found::NotYet;
    }
    // If a name occurs twice, PHP takes the last one.
    let (mut left, mut found) = (pairs.as_slice(), Found::None);
    while let Some((key, value)) = pair(&mut left) {
        if key == name {
            found = Found::Is(value.to_vec());
        }
    }
    found
}

/// The beginning of a request up to the end of its parameters, with the directory `from` replaced
/// by `to` in their values and in paths in settings of PHP; and how many bytes that replaces. `None` if there is nothing to change.
pub fn moved(bytes: &[u8], from: &[u8], to: &[u8]) -> Found<(usize, Vec<u8>)> {
    let id = match bytes.first_chunk().map(|head| begins(*head)) {
        Some(Some(id)) => id,
        Some(None) => return Found::None,
        None => return Found::NotYet,
    };
    let (mut out, mut pairs, mut used) = (Vec::new(), Vec::new(), 0);
    loop {
        let Some((header, after)) = bytes.get(used..).and_then(<[u8]>::split_first_chunk::<8>)
        else {
            return Found::NotYet;
        };
        let [_, kind, _, _, high, low, padding, _] = *header;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let whole = 8 + length + usize::from(padding);
        let (Some(content), Some(record)) = (after.get(..length), bytes.get(used..used + whole))
        else {
            return Found::NotYet;
        };
        used += whole;
        match kind {
            BEGIN_REQUEST if out.is_empty() => out.extend_from_slice(record),
            PARAMS if length > 0 => pairs.extend_from_slice(content),
            PARAMS => break,
            _ => return Found::None,
        }
    }
    let (mut left, mut changed, mut all) = (pairs.as_slice(), false, Vec::new());
    while let Some((name, value)) = pair(&mut left) {
        let other = if SETTINGS.contains(&name) {
            in_settings(value, from, to)
        } else {
            let rest = value.strip_prefix(from);
            rest.filter(|rest| rest.first().is_none_or(|c| *c == b'/'))
                .map(|rest| [to, rest].concat())
        };
        changed |= other.is_some();
        all.push((name, other.unwrap_or_else(|| value.to_vec())));
    }
    let pairs = all.iter().map(|(name, value)| (*name, value.as_slice()));
    if !changed || !left.is_empty() || params(&mut out, id, pairs).is_err() {
        return Found::None;
    }
    Found::Is((used, out))
}

/// Settings with `to` for `from` where that is a path, or the beginning of one. None if it is nowhere.
fn in_settings(settings: &[u8], from: &[u8], to: &[u8]) -> Option<Vec<u8>> {
    let between = |c: &u8| c.is_ascii_whitespace() || b"=:;,\"'".contains(c);
    let (mut out, mut rest, mut changed) = (Vec::new(), settings, false);
    while let Some((first, after)) = rest.split_first() {
        let path = rest.strip_prefix(from).filter(|after| {
            !from.is_empty()
                && out.last().is_none_or(between)
                && after.first().is_none_or(|c| *c == b'/' || between(c))
        });
        if let Some(after) = path {
            out.extend_from_slice(to);
            (rest, changed) = (after, true);
        } else {
            out.push(*first);
            rest = after;
        }
    }
    changed.then_some(out)
}

fn pair<'a>(left: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let mut rest = *left;
    let (name, value) = (length(&mut rest)?, length(&mut rest)?);
    let (name, rest) = rest.split_at_checked(name)?;
    let (value, rest) = rest.split_at_checked(value)?;
    *left = rest;
    Some((name, value))
}

/// In one byte, or in four with the highest bit set.
fn length(rest: &mut &[u8]) -> Option<usize> {
    if let Some((short @ 0..0x80, after)) = rest.split_first() {
        *rest = after;
        return Some(usize::from(*short));
    }
    let (long, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    usize::try_from(u32::from_be_bytes(*long) & !(1 << 31)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Request;
    use proptest::prelude::*;

    fn request(params: &[(String, String)]) -> Vec<u8> {
        let all = params.iter().fold(Request::new(), |request, (name, value)| {
            request.param(name.as_bytes(), value.as_bytes())
        });
        all.encode().unwrap()
    }

    proptest! {
        #[test]
        fn a_parameter_is_found_when_all_are_there_and_never_another(
            params in proptest::collection::vec(("[A-C]{1,2}", ".{0,200}"), 0..20), cut in 0.0..=1.0,
        ) {
            let bytes = request(&params);
            let wanted = params.iter().rfind(|(name, _)| name == "A").map(|(_, value)| value);
            let found = param(&bytes, b"A");
            prop_assert_eq!(&found, &wanted.map_or(Found::None, |value| Found::Is(value.clone().into_bytes())));
            let part = param(&bytes[..(bytes.len() as f64 * cut) as usize], b"A");
            prop_assert!(part == found || part == Found::NotYet, "{:?}", part);
        }

        #[test]
        fn any_bytes_end_in_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            let _ = param(&bytes, b"A");
            let mut begun = vec![1, BEGIN_REQUEST, 0, 1, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, PARAMS];
            begun.extend(&bytes);
            let _ = param(&begun, b"A");
            let _ = moved(&begun, b"", b"A");
        }
    }

    #[test]
    fn a_request_for_another_directory_is_that_request_but_for_the_directory() {
        let long = "/x".repeat(200);
        let params = |root: &str| {
            [
                ("SCRIPT_FILENAME", format!("{root}/pub/index.php")),
                ("DOCUMENT_ROOT", root.to_owned()),
                ("A", format!("{root}{long}")),
                (
                    "PHP_VALUE",
                    format!("open_basedir={root}/pub:/tmp\nauto_prepend_file = \"{root}/a.php\""),
                ),
                ("PHP_ADMIN_VALUE", format!("open_basedir={root}:{root}/pub\nerror_log={root}")),
                // Not below it.
                ("B", "/srv/releases/10/pub".to_owned()),
                ("PHP_VALUE", "open_basedir=/srv/releases/10:/mnt/srv/releases/1/pub".to_owned()),
                ("C", "see /srv/releases/1/pub".to_owned()),
            ]
            .map(|(name, value)| (name.to_owned(), value))
        };
        let (from, to) = ("/srv/releases/1", "/srv/releases/20260101000000Z");
        let (old, new) = (request(&params(from)), request(&params(to)));
        for cut in 0..=old.len() {
            match moved(&old[..cut], from.as_bytes(), to.as_bytes()) {
                Found::Is((used, begins)) => {
                    assert_eq!([&begins, &old[used..]].concat(), new);
                }
                Found::NotYet => assert!(cut < old.len()),
                Found::None => panic!("{cut}"),
            }
        }
        assert_eq!(moved(&new, from.as_bytes(), to.as_bytes()), Found::None);
        assert_eq!(moved(b"GET / HTTP/1.1", b"/", b"/"), Found::None);
    }

    #[test]
    fn of_two_with_one_name_php_takes_the_last() {
        let two = [("A", "1"), ("A", "2")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(param(&request(&two), b"A"), Found::Is(b"2".to_vec()));
    }

    #[test]
    fn whether_more_requests_follow_is_a_flag_of_the_first_record() {
        let mut bytes = request(&[]);
        assert_eq!(keeps_connection(&bytes), Found::Is(false));
        bytes[FLAGS] |= KEEP;
        assert_eq!(keeps_connection(&bytes), Found::Is(true));
        assert_eq!(keeps_connection(&bytes[..FLAGS]), Found::NotYet);
        assert_eq!(keeps_connection(b"GET / HTTP/1.1\r\n"), Found::None);
    }
}
