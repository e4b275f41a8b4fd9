//! Owns the reading of a tar stream: which headers belong to an entry, and where it ends.

use oxistrano_core::{Failure, interrupt};

use crate::entry::{Entry, Kind, Map};
use crate::header::{BLOCK, Header};
use crate::pax::Pax;
use crate::sparse;
use crate::stream::{Body, Stream};

/// A long name or a set of PAX records may take this much; GNU tar has no such limit, but
/// a name of more than 4095 bytes could not be used anyway.
const LONGEST_EXTENSION: u64 = 1024 * 1024;

/// Entries of a tar archive, in its order.
pub(crate) struct TarReader<'a> {
    stream: Stream<'a>,
    /// What is left of the current entry's contents, and the zeros after it.
    remaining: u64,
    padding: u64,
    globals: Pax,
    /// A plain tar has no checksum over all, so its end must be marked.
    must_be_marked: bool,
}

/// What stands before an entry's own header.
#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: Option<Pax>,
}

impl<'a> TarReader<'a> {
    /// Reads from `stream`; `compressed` if something else guarantees that it is whole.
    pub(crate) fn new(stream: Stream<'a>, compressed: bool) -> Self {
        Self {
            stream,
            remaining: 0,
            padding: 0,
            globals: Pax::default(),
            must_be_marked: !compressed,
        }
    }

    /// The next entry; `None` after the last, when all has been read.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, Failure> {
        self.skip_contents()?;
        let mut extensions = Extensions::default();
        let mut any = false;
        loop {
            interrupt::check()?;
            let mut header = Header([0; BLOCK]);
            let found = self.stream.fill(&mut header.0)?;
            if !found && (self.must_be_marked || any) {
                return Err(self
                    .stream
                    .bad("the archive is truncated here, or has no end mark")
                    .remedy("or compress it, which adds a checksum"));
            }
            if !found || header.is_end() {
                if any {
                    return Err(self.stream.bad("the archive ends before an announced entry"));
                }
                // GNU tar ignores what comes after the mark, but damage there is damage.
                self.stream.drain()?;
                return Ok(None);
            }
            if !header.is_valid() {
                return Err(self.stream.bad("what follows this entry is not a tar header"));
            }
            match header.type_flag() {
                b'L' => extensions.name = Some(until_nul(self.extension(&header)?)),
                b'K' => extensions.link = Some(until_nul(self.extension(&header)?)),
                b'x' | b'X' => {
                    let mut pax = self.globals.clone();
                    self.records(&header, &mut pax)?;
                    extensions.pax = Some(pax);
                }
                b'g' => {
                    let mut globals = std::mem::take(&mut self.globals);
                    self.records(&header, &mut globals)?;
                    globals.keep_for_all();
                    self.globals = globals;
                    continue;
                }
                // The label of a volume.
                b'V' => self.begin(header.size(), &header)?,
                _ => return self.entry(&header, extensions).map(Some),
            }
            any |= header.type_flag() != b'V';
            self.skip_contents()?;
        }
    }

    /// `bad_archive`, naming the entry.
    pub(crate) fn bad(&self, why: &str) -> Failure {
        self.stream.bad(why)
    }

    /// The contents of the entry that `next` returned.
    pub(crate) fn body(&mut self) -> Body<'_, 'a> {
        Body::of_stream(&mut self.stream, &mut self.remaining)
    }

    fn entry(&mut self, header: &Header, extensions: Extensions) -> Result<Entry, Failure> {
        let mut pax = extensions.pax.unwrap_or_else(|| self.globals.clone());
        let mut entry = Entry {
            name: extensions.name.unwrap_or_else(|| header.name()),
            kind: Kind::Directory,
            mode: header.mode(),
            mtime: header.mtime(),
            owner: Some(header.owner()),
        };
        let link =
            pax.linkpath.take().or(extensions.link).unwrap_or_else(|| header.link_name().to_vec());
        let version = pax.major.unwrap_or(0);
        let real_size = pax.real_size;
        let map = pax.map();
        let size = pax.size.or_else(|| header.size());
        pax.apply(&mut entry);
        self.stream.enter(&entry.name);
        self.begin(size, header)?;
        entry.kind = match header.type_flag() {
            // The first tar had no type for directories.
            0 | b'0' if entry.name.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' => Kind::File(match (version, real_size) {
                (1, Some(real)) => Some(self.sparse_1_0(real)?),
                (0, _) => map,
                _ => return Err(self.stream.bad("its sparse format is unknown")),
            }),
            b'1' => Kind::HardLink(link),
            b'2' => Kind::Symlink(link),
            b'3' => Kind::Special("a character device"),
            b'4' => Kind::Special("a block device"),
            // GNU's `D` is a directory with a list of its files in an incremental archive.
            b'5' | b'D' => Kind::Directory,
            b'6' => Kind::Special("a FIFO"),
            b'S' => Kind::File(Some(sparse::from_header(header, &mut self.stream)?)),
            b'M' => Kind::Special("a part of a file from another volume"),
            _ => Kind::Special("of an unknown type"),
        };
        if let Kind::File(Some(map)) = &entry.kind {
            map.check(self.remaining).map_err(|why| self.stream.bad(why))?;
        }
        Ok(entry)
    }

    /// Notes how much follows a header.
    fn begin(&mut self, size: Option<u64>, header: &Header) -> Result<(), Failure> {
        let size = size.ok_or_else(|| self.stream.bad("its size is invalid"))?;
        // A hard link has no contents, whatever its header says; so it is in GNU tar.
        self.remaining = if header.type_flag() == b'1' { 0 } else { size };
        self.padding = self.remaining.wrapping_neg() % BLOCK as u64;
        Ok(())
    }

    fn sparse_1_0(&mut self, real_size: u64) -> Result<Map, Failure> {
        sparse::from_contents(&mut self.stream, &mut self.remaining, real_size)
    }

    fn extension(&mut self, header: &Header) -> Result<Vec<u8>, Failure> {
        self.begin(header.size(), header)?;
        if self.remaining > LONGEST_EXTENSION {
            return Err(self.stream.bad("the next entry's extended header is larger than 1 MiB"));
        }
        self.body().read_all()
    }

    fn records(&mut self, header: &Header, pax: &mut Pax) -> Result<(), Failure> {
        let records = self.extension(header)?;
        pax.add(&records).map_err(|why| self.stream.bad(format!("in the next entry, {why}")))?;
        self.skip_contents()
    }

    fn skip_contents(&mut self) -> Result<(), Failure> {
        let rest = std::mem::take(&mut self.remaining);
        self.stream.skip(rest)?;
        let padding = std::mem::take(&mut self.padding);
        self.stream.skip(padding)
    }
}

fn until_nul(mut name: Vec<u8>) -> Vec<u8> {
    name.truncate(name.iter().position(|b| *b == 0).unwrap_or(name.len()));
    name
}
