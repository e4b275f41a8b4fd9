//! Decodes a pool's answer. It accepts any bytes in pieces of any size, and its memory is bounded.

use std::fmt;

use crate::request::{END_REQUEST, ID, STDERR, STDOUT, VERSION};

const HEADER: usize = 8;
/// The limit for the error stream.
const STDERR_LIMIT: usize = 64 << 10;

/// What is wrong with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// A record of another protocol version, or not FastCGI.
    Version(u8),
    /// A record of a request that was not sent.
    Id(u16),
    /// A closing record of this length.
    End(usize),
    /// More than this many bytes of answer.
    TooLarge(usize),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => {
                write!(f, "it does not speak FastCGI 1 (a record begins with byte {version})")
            }
            Self::Id(id) => write!(f, "it answers request {id}, which was not sent"),
            Self::End(length) => write!(f, "its closing record has {length} bytes instead of 8"),
            Self::TooLarge(limit) => write!(f, "its answer has more than {limit} bytes"),
        }
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// The program's exit code.
    pub app: u32,
    /// 0 complete, 1 cannot multiplex, 2 overloaded, 3 unknown role.
    pub protocol: u8,
}

/// The reader. Feed it with [`Self::push`] until [`Self::end`] says how it ended.
#[derive(Debug)]
pub struct Decoder {
    header: [u8; HEADER],
    /// Bytes of the header that have arrived.
    have: usize,
    /// Bytes of content that are still to come.
    content: usize,
    padding: usize,
    closing: Vec<u8>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    limit: usize,
    end: Option<End>,
}

impl Decoder {
    /// A reader that accepts `limit` bytes of answer.
    pub fn new(limit: usize) -> Self {
        Self {
            header: [0; HEADER],
            have: 0,
            content: 0,
            padding: 0,
            closing: Vec::new(),
            stdout: Vec::new(),
            stderr: Vec::new(),
            limit,
            end: None,
        }
    }

    /// Adds the next bytes. After the end they are ignored.
    ///
    /// # Errors
    /// What is wrong with them; the decoder must not be used after that.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), Problem> {
        while self.end.is_none() && !bytes.is_empty() {
            if self.have < HEADER {
                let part = take(&mut bytes, HEADER - self.have);
                self.header[self.have..self.have + part.len()].copy_from_slice(part);
                self.have += part.len();
                if self.have == HEADER {
                    self.begin()?;
                }
            } else if self.content > 0 {
                let part = take(&mut bytes, self.content);
                self.content -= part.len();
                self.keep(part)?;
            } else {
                let part = take(&mut bytes, self.padding);
                self.padding -= part.len();
            }
            if self.have == HEADER && self.content == 0 && self.padding == 0 {
                self.have = 0;
            }
        }
        Ok(())
    }

    /// The header is complete.
    fn begin(&mut self) -> Result<(), Problem> {
        let [version, kind, id_high, id_low, high, low, padding, _] = self.header;
        if version != VERSION {
            return Err(Problem::Version(version));
        }
        let id = u16::from_be_bytes([id_high, id_low]);
        if matches!(kind, STDOUT | STDERR | END_REQUEST) && id != ID {
            return Err(Problem::Id(id));
        }
        self.content = usize::from(u16::from_be_bytes([high, low]));
        self.padding = usize::from(padding);
        if kind == END_REQUEST && self.content != 8 {
            return Err(Problem::End(self.content));
        }
        Ok(())
    }

    fn keep(&mut self, part: &[u8]) -> Result<(), Problem> {
        match self.header[1] {
            STDOUT if self.stdout.len() + part.len() > self.limit => {
                return Err(Problem::TooLarge(self.limit));
            }
            STDOUT => self.stdout.extend_from_slice(part),
            STDERR => {
                let room = STDERR_LIMIT - self.stderr.len();
                self.stderr.extend_from_slice(&part[..part.len().min(room)]);
            }
            END_REQUEST => {
                self.closing.extend_from_slice(part);
                if let [a, b, c, d, protocol, _, _, _] = *self.closing {
                    self.end = Some(End { app: u32::from_be_bytes([a, b, c, d]), protocol });
                }
            }
            // Management records, and record types of later versions.
            _ => {}
        }
        Ok(())
    }

    /// How it ended; `None` as long as it has not.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// Whether anything has arrived.
    pub fn has_begun(&self) -> bool {
        self.have > 0 || !self.stdout.is_empty() || !self.stderr.is_empty()
    }

    /// Standard output and the beginning of the error stream.
    pub fn into_streams(self) -> (Vec<u8>, Vec<u8>) {
        (self.stdout, self.stderr)
    }
}

fn take<'a>(bytes: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (part, rest) = bytes.split_at(most.min(bytes.len()));
    *bytes = rest;
    part
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(kind: u8, id: u16, content: &[u8], padding: u8) -> Vec<u8> {
        let mut out = vec![VERSION, kind];
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&(content.len() as u16).to_be_bytes());
        out.extend_from_slice(&[padding, 0]);
        out.extend_from_slice(content);
        out.extend(vec![0xff; usize::from(padding)]);
        out
    }

    fn read(bytes: &[u8], limit: usize) -> Result<Decoder, Problem> {
        let mut decoder = Decoder::new(limit);
        decoder.push(bytes).map(|()| decoder)
    }

    #[test]
    fn a_whole_answer_is_read_and_the_rest_ignored() {
        let mut bytes = record(STDOUT, 1, b"Status: 200\r\n", 3);
        bytes.extend(record(11, 0, &[99; 8], 0));
        bytes.extend(record(STDERR, 1, b"oh", 6));
        bytes.extend(record(STDOUT, 1, b"\r\nbody", 0));
        bytes.extend(record(STDOUT, 1, b"", 0));
        bytes.extend(record(END_REQUEST, 1, &[0, 0, 1, 2, 0, 0, 0, 0], 0));
        bytes.extend([7; 100]);
        let decoder = read(&bytes, 100).unwrap();
        assert_eq!(decoder.end(), Some(End { app: 258, protocol: 0 }));
        assert_eq!(decoder.into_streams(), (b"Status: 200\r\n\r\nbody".to_vec(), b"oh".to_vec()));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let cases = [
            (b"HTTP/1.1 400 Bad Request".to_vec(), Problem::Version(b'H'), "byte 72"),
            (record(STDOUT, 2, b"x", 0), Problem::Id(2), "request 2, which was not sent"),
            (record(END_REQUEST, 1, b"123", 0), Problem::End(3), "3 bytes instead of 8"),
            (record(STDOUT, 1, &[b'x'; 65535], 0), Problem::TooLarge(1000), "more than 1000"),
        ];
        for (bytes, problem, text) in cases {
            assert_eq!(read(&bytes, 1000).unwrap_err(), problem);
            assert!(problem.to_string().contains(text), "{problem}");
        }
    }

    #[test]
    fn an_endless_error_stream_is_cut_and_no_error() {
        let mut decoder = Decoder::new(10);
        for _ in 0..10 {
            decoder.push(&record(STDERR, 1, &[b'e'; 60_000], 0)).unwrap();
        }
        assert_eq!(decoder.into_streams().1.len(), STDERR_LIMIT);
    }

    /// Mostly bytes that make sense, so that the deeper parts are reached.
    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let one = (
            prop::sample::select(vec![STDOUT, STDERR, END_REQUEST, 11, 0, 255]),
            prop_oneof![9 => Just(1u16), 1 => any::<u16>()],
            prop_oneof![
                3 => prop::collection::vec(any::<u8>(), 0..200),
                1 => prop::collection::vec(any::<u8>(), 8..9),
            ],
            any::<u8>(),
        )
            .prop_map(|(kind, id, content, padding)| record(kind, id, &content, padding));
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..400),
            prop::collection::vec(one, 0..8).prop_map(|records| records.concat()),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn any_bytes_in_any_pieces_give_the_same(
            bytes in stream(),
            cuts in prop::collection::vec(0usize..400, 0..20),
        ) {
            let whole = read(&bytes, 300);
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut pieces = Decoder::new(300);
            let result = cuts.windows(2).try_for_each(|cut| pieces.push(&bytes[cut[0]..cut[1]]));
            match whole {
                Err(problem) => prop_assert_eq!(result, Err(problem)),
                Ok(whole) => {
                    prop_assert_eq!(result, Ok(()));
                    prop_assert_eq!(pieces.end(), whole.end());
                    let streams = whole.into_streams();
                    prop_assert!(streams.0.len() <= 300 && streams.1.len() <= STDERR_LIMIT);
                    prop_assert_eq!(pieces.into_streams(), streams);
                }
            }
        }
    }
}
