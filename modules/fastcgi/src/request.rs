//! A request and its encoding (FastCGI 1.0, role responder).

use oxistrano_core::Failure;

pub(crate) const VERSION: u8 = 1;
/// The id of the request; there is one per connection.
pub(crate) const ID: u16 = 1;
pub(crate) const BEGIN_REQUEST: u8 = 1;
pub(crate) const END_REQUEST: u8 = 3;
pub(crate) const PARAMS: u8 = 4;
pub(crate) const STDIN: u8 = 5;
pub(crate) const STDOUT: u8 = 6;
pub(crate) const STDERR: u8 = 7;

const RESPONDER: u8 = 1;
/// The largest content of a record that php-fpm reads.
const CONTENT: usize = 65_528;
/// The default limit of an answer.
const LIMIT: usize = 16 << 20;

/// A request to a responder.
#[derive(Debug, Clone)]
pub struct Request {
    params: Vec<(Vec<u8>, Vec<u8>)>,
    stdin: Vec<u8>,
    pub(crate) limit: usize,
}

impl Default for Request {
    fn default() -> Self {
        Self::new()
    }
}

impl Request {
    /// An empty one, whose answer may have 16 MiB.
    pub fn new() -> Self {
        Self { params: Vec::new(), stdin: Vec::new(), limit: LIMIT }
    }

    /// Adds a parameter, for example `SCRIPT_FILENAME`.
    #[must_use]
    pub fn param(mut self, name: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        self.params.push((name.into(), value.into()));
        self
    }

    /// Sets the body, with its parameters.
    #[must_use]
    pub fn body(mut self, content_type: &str, body: Vec<u8>) -> Self {
        let length = body.len().to_string();
        self.stdin = body;
        self.param("CONTENT_TYPE", content_type).param("CONTENT_LENGTH", length)
    }

    /// Sets the limit of the answer in bytes, including headers.
    #[must_use]
    pub fn limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    /// The bytes of the request. No parameter spans two records, because php-fpm does not support that.
    ///
    /// # Errors
    /// A parameter that is too large for a record.
    pub fn encode(&self) -> Result<Vec<u8>, Failure> {
        let mut out = Vec::new();
        // No FCGI_KEEP_CONN: the pool closes the connection.
        record(&mut out, ID, BEGIN_REQUEST, &[0, RESPONDER, 0, 0, 0, 0, 0, 0]);
        let pairs = self.params.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
        params(&mut out, ID, pairs).map_err(|(name, length)| {
            let name = String::from_utf8_lossy(name).escape_debug().to_string();
            Failure::new("fastcgi_request", format!("cannot send '{name}'"))
                .cause(format!("it has {length} bytes, and php-fpm accepts {CONTENT}"))
        })?;
        for part in self.stdin.chunks(CONTENT) {
            record(&mut out, ID, STDIN, part);
        }
        record(&mut out, ID, STDIN, &[]);
        Ok(out)
    }
}

/// All parameters, and their end; or the name and the size of one that is too large.
pub(crate) fn params<'a>(
    out: &mut Vec<u8>,
    id: u16,
    pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<(), (&'a [u8], usize)> {
    let mut content = Vec::new();
    for (name, value) in pairs {
        let mut pair = Vec::with_capacity(name.len() + value.len() + 8);
        for part in [name, value] {
            length(&mut pair, part.len());
        }
        pair.extend_from_slice(name);
        pair.extend_from_slice(value);
        if pair.len() > CONTENT {
            return Err((name, pair.len()));
        }
        if content.len() + pair.len() > CONTENT {
            record(out, id, PARAMS, &content);
            content.clear();
        }
        content.extend_from_slice(&pair);
    }
    if !content.is_empty() {
        record(out, id, PARAMS, &content);
    }
    record(out, id, PARAMS, &[]);
    Ok(())
}

fn length(out: &mut Vec<u8>, length: usize) {
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        // Longer than 31 bits is longer than a record, which is refused.
        _ => out.extend_from_slice(&(length as u32 | 1 << 31).to_be_bytes()),
    }
}

/// The id of a connection's first request, from its first four bytes.
pub fn begins(head: [u8; 4]) -> Option<u16> {
    let [version, kind, id_high, id_low] = head;
    let is_one = (version, kind) == (VERSION, BEGIN_REQUEST);
    is_one.then_some(u16::from_be_bytes([id_high, id_low]))
}

/// The whole answer to a request that is not passed on, as php-fpm would send it. `stdout`, headers
/// and text, is at most 65,528 bytes long.
pub fn refusal(id: u16, stdout: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    record(&mut out, id, STDOUT, stdout);
    record(&mut out, id, STDOUT, &[]);
    record(&mut out, id, END_REQUEST, &[0; 8]);
    out
}

/// `content` is at most [`CONTENT`] long.
fn record(out: &mut Vec<u8>, id: u16, kind: u8, content: &[u8]) {
    let padding = content.len().next_multiple_of(8) - content.len();
    let [id_high, id_low] = id.to_be_bytes();
    let [length_high, length_low] = (content.len() as u16).to_be_bytes();
    out.extend_from_slice(&[VERSION, kind, id_high, id_low, length_high, length_low]);
    out.extend_from_slice(&[padding as u8, 0]);
    out.extend_from_slice(content);
    out.resize(out.len() + padding, 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Params = Vec<(Vec<u8>, Vec<u8>)>;

    /// Reads it as the other side does: parameters record by record.
    fn decode(mut bytes: &[u8]) -> (Params, Vec<u8>) {
        let (mut params, mut stdin, mut ends) = (Vec::new(), Vec::new(), 0);
        while !bytes.is_empty() {
            let length = usize::from(u16::from_be_bytes([bytes[4], bytes[5]]));
            let next = 8 + length + usize::from(bytes[6]);
            let mut content = &bytes[8..8 + length];
            assert!(length <= CONTENT && next % 8 == 0 && bytes[0] == 1 && bytes[3] == 1);
            ends += usize::from(length == 0);
            if bytes[1] == STDIN {
                stdin.extend_from_slice(content);
            }
            while bytes[1] == PARAMS && !content.is_empty() {
                let mut take = || {
                    let long = content[0] >= 0x80;
                    let (head, rest) = content.split_at(if long { 4 } else { 1 });
                    content = rest;
                    head.iter().fold(0, |n, byte| n << 8 | usize::from(*byte))
                        & 0x7fff_ffff
                        & if long { usize::MAX } else { 0x7f }
                };
                let (name, value) = (take(), take());
                params.push((content[..name].to_vec(), content[name..name + value].to_vec()));
                content = &content[name + value..];
            }
            bytes = &bytes[next..];
        }
        assert_eq!(ends, 2, "each stream has one end");
        (params, stdin)
    }

    #[test]
    fn a_parameter_that_no_record_can_hold_is_refused() {
        let error = Request::new().param("X", vec![b'x'; CONTENT]).encode().unwrap_err();
        assert!(error.to_string().starts_with("cannot send 'X': it has 65534 bytes"), "{error}");
        let most = CONTENT - 1 - 1 - 4;
        assert!(Request::new().param("X", vec![b'x'; most]).encode().is_ok());
    }

    #[test]
    fn a_refusal_is_an_answer_to_the_very_request_that_has_begun() {
        let sent = Request::new().encode().unwrap();
        let head: [u8; 4] = sent[..4].try_into().unwrap();
        assert_eq!(begins(head), Some(ID));
        assert_eq!(begins([1, 1, 2, 3]), Some(515));
        for other in [[0, 1, 0, 1], [1, 9, 0, 0], *b"GET "] {
            assert_eq!(begins(other), None);
        }
        let text = b"Status: 503 Service Unavailable\r\n\r\nlater";
        let answer = refusal(515, text);
        assert!(answer.chunks(8).next().is_some_and(|head| head[2..4] == [2, 3]));
        let mut decoder = crate::Decoder::new(1 << 16);
        decoder.push(&refusal(ID, text)).unwrap();
        assert_eq!(decoder.end().map(|end| end.protocol), Some(0));
        assert_eq!(decoder.into_streams().0, text);
    }

    proptest! {
        #[test]
        fn what_is_sent_arrives(
            params in prop::collection::vec((1usize..300, 0usize..40_000), 0..9),
            body in 0usize..200_000,
        ) {
            let params: Vec<_> =
                params.into_iter().map(|(n, v)| (vec![b'n'; n], vec![b'v'; v])).collect();
            let mut request = Request::new();
            for (name, value) in &params {
                request = request.param(name.clone(), value.clone());
            }
            request.stdin = vec![b'b'; body];
            prop_assert_eq!(decode(&request.encode().unwrap()), (params, request.stdin));
        }
    }
}
