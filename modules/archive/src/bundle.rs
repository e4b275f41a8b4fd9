//! Owns bundles, which are sent instead of an archive. A bundle is a tar, compressed or not. Its
//! first entry is a message: it names the entries whose contents follow, and has a manifest if the
//! other side needs one. The other entries of the tar are these contents, each named by the number
//! of its entry.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::thread;

use oxistrano_core::{Failure, IoContext, interrupt};
use sha2::{Digest, Sha256};

use crate::entries::{Entries, read_ahead};
use crate::failures;
use crate::file::ArchiveFile;
use crate::format;
use crate::hash::{Hash, binary};
use crate::header::{BLOCK, Header};
use crate::limits::Limits;
use crate::manifest::{Encoder, MOST_BYTES, Manifest, delta};
use crate::numbers::Numbers;
use crate::options::UnpackOptions;
use crate::rows::{Rows, beginning};
use crate::stream::{self, Body};

const MAGIC: &[u8; 8] = b"OXIMSG1\n";
const NOTHING: u8 = 0;
const DIFFERENCE: u8 = 1;
const WHOLE: u8 = 2;
/// The name of the first entry of a bundle.
const MESSAGE: &str = "message";
/// Files up to this size are held in memory until it is known whether they are wanted.
const SMALL: u64 = 1 << 20;

/// The first entry of a bundle.
#[derive(Debug)]
pub struct Message {
    /// The entries whose contents follow.
    pub sent: Numbers,
    kind: u8,
    /// For a difference, the digest of its base.
    base: String,
    content: Vec<u8>,
}

impl Message {
    /// A message without a manifest.
    pub fn new(sent: Numbers) -> Self {
        Self { sent, kind: NOTHING, base: String::new(), content: Vec::new() }
    }

    /// A message with a manifest that is encoded relative to one that the other side has.
    ///
    /// # Errors
    /// `bad_manifest`.
    pub fn difference(sent: Numbers, new: &Manifest, base: &Manifest) -> Result<Self, Failure> {
        let content = delta::encode(new, base).map_err(bad)?;
        Ok(Self { sent, kind: DIFFERENCE, base: base.digest().unwrap_or_default(), content })
    }

    /// A message with a whole manifest; its hashes may be cut.
    pub fn whole(sent: Numbers, new: &Manifest) -> Self {
        Self { sent, kind: WHOLE, base: String::new(), content: new.encode() }
    }

    /// The first blocks of the bundle.
    pub fn encode(&self) -> Vec<u8> {
        let sent = self.sent.to_string();
        let mut bytes = MAGIC.to_vec();
        bytes.push(self.kind);
        for text in [&sent, &self.base] {
            bytes.extend((text.len() as u64).to_le_bytes());
            bytes.extend(text.as_bytes());
        }
        let size = bytes.len() + self.content.len();
        let mut blocks = header(MESSAGE, size as u64).to_vec();
        blocks.extend(bytes);
        blocks.extend(&self.content);
        blocks.resize(blocks.len().next_multiple_of(BLOCK), 0);
        blocks
    }

    fn parse(bytes: Vec<u8>) -> Option<Self> {
        let mut rest = bytes.strip_prefix(MAGIC)?;
        let (kind, after) = rest.split_first()?;
        rest = after;
        let mut texts = [String::new(), String::new()];
        for text in &mut texts {
            let (length, after) = rest.split_first_chunk()?;
            let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
            let (given, after) = after.split_at_checked(length)?;
            *text = std::str::from_utf8(given).ok()?.to_owned();
            rest = after;
        }
        let [sent, base] = texts;
        Some(Self { sent: sent.parse().ok()?, kind: *kind, base, content: rest.to_vec() })
    }

    /// Reads the message of a bundle.
    ///
    /// # Errors
    /// `bad_archive`; an I/O error.
    pub fn read(file: &File, path: &Path, limits: &Limits) -> Result<Self, Failure> {
        let format = format::format_within(file, path, limits)?;
        let mut bytes = None;
        let mut take = |tar: &mut dyn Read| {
            let mut header = Header([0; BLOCK]);
            tar.read_exact(&mut header.0)?;
            let size = header.size().filter(|size| *size <= MOST_BYTES + (1 << 20));
            let size = size.filter(|_| header.is_valid() && header.name() == MESSAGE.as_bytes());
            if let Some(size) = size {
                let mut message = Vec::new();
                tar.take(size).read_to_end(&mut message)?;
                bytes = Some(message).filter(|message| message.len() as u64 == size);
            }
            Ok(false)
        };
        format
            .decompress(&mut ArchiveFile::new(file), limits, &mut take)
            .map_err(|error| failures::unreadable(path, b"", error))?;
        bytes.and_then(Self::parse).ok_or_else(|| failures::bad(path, b"", "it has no message"))
    }

    /// Whether it has a manifest.
    pub fn has_manifest(&self) -> bool {
        self.kind != NOTHING
    }

    /// Returns its manifest. `base` returns the manifest with the given digest.
    ///
    /// # Errors
    /// `bad_manifest`.
    pub fn manifest(
        self,
        base: impl FnOnce(&str) -> Option<Manifest>,
    ) -> Result<Manifest, Failure> {
        match self.kind {
            DIFFERENCE => {
                let base = base(&self.base).ok_or_else(|| bad("its base is not there"))?;
                delta::decode(&self.content, &base).map_err(bad)
            }
            WHOLE => Manifest::parse(self.content).map_err(bad),
            _ => Err(bad("there is none")),
        }
    }
}

fn bad(why: &'static str) -> Failure {
    Failure::new("bad_manifest", "cannot use the manifest of the archive").cause(why)
}

/// A ustar header.
fn header(name: &str, size: u64) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, text: &[u8]| {
        for (place, byte) in header.iter_mut().skip(at).zip(text) {
            *place = *byte;
        }
    };
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    for at in [108, 116] {
        put(at, b"0000000\0");
    }
    match size >> 33 {
        0 => put(124, format!("{size:011o}\0").as_bytes()),
        _ => put(124, &[&[0x80, 0, 0, 0], &size.to_be_bytes()[..]].concat()),
    }
    put(136, b"00000000000\0        0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    for (place, byte) in header.iter_mut().skip(148).zip(format!("{sum:06o}\0").bytes()) {
        *place = byte;
    }
    header
}

/// What [`pack`] has to write.
#[derive(Debug, Default)]
pub struct Packing<'a> {
    /// The manifest of the archive, if it is known.
    pub known: Option<Manifest>,
    /// Contents that this manifest has are not written.
    pub base: Option<&'a Manifest>,
    /// The entries of that manifest whose contents the host has lost.
    pub lost: Numbers,
    /// With a base: contents that these have are not written either.
    pub also: &'a [Manifest],
    /// The contents of these entries are written in any case. Without a base, only these.
    pub wanted: Numbers,
    /// If the manifest is known: the most bytes of contents that are worth writing.
    pub most: Option<u64>,
}

/// The result of [`pack`].
#[derive(Debug)]
pub struct Packed {
    /// The manifest of the archive.
    pub manifest: Manifest,
    /// The entries whose contents were written.
    pub sent: Numbers,
}

/// Reads an archive, makes its manifest, and writes wanted contents to `into` in the form of a
/// bundle.
///
/// # Errors
/// `unlisted` if the archive cannot have a manifest; `no_gain` if the contents have more bytes than
/// [`Packing::most`]; otherwise as [`crate::list`].
pub fn pack(
    file: &File,
    path: &Path,
    options: &UnpackOptions,
    packing: Packing<'_>,
    into: &File,
) -> Result<Packed, Failure> {
    let Packing { known, base, lost, also, mut wanted, most } = packing;
    let has = base.map(|base| hashes(base, &lost, also)).transpose().map_err(bad)?;
    if let (Some(known), Some(has)) = (&known, &has) {
        wanted = not_in(known, has).map_err(bad)?.with(&wanted);
    }
    if let (Some(known), Some(most)) = (&known, most)
        && bytes_of(known, &wanted).map_err(bad)? > most
    {
        let what = format!("cannot leave much out of what is sent of '{}'", path.display());
        return Err(Failure::new("no_gain", what).cause("the other releases have little of it"));
    }
    if let Some(manifest) = known.clone().filter(|_| wanted.is_empty()) {
        return Ok(Packed { manifest, sent: wanted });
    }
    let mut packer = Packer {
        path,
        out: Out { file: BufWriter::with_capacity(1 << 20, into), path },
        encoder: known.is_none().then_some(None),
        has: has.filter(|_| known.is_none()),
        wanted,
        sent: Vec::new(),
    };
    let format = format::format_within(file, path, &options.limits)?;
    let size = file.metadata().or_fail("read", path)?.len();
    let ceiling = options.limits.ceiling(size);
    let (feed, stream) = stream::pipe(path, ceiling);
    let checksum = thread::scope(|scope| {
        let reader = read_ahead(scope, file, path, format, options, feed)?;
        let read = packer.read(&mut Entries::new(stream, format), format, options);
        let checksum = reader.join().map_err(|_| failures::bad(path, b"", "its reader stopped"));
        read.and(checksum)
    })?;
    let checksum = checksum.map_err(|error| failures::unreadable(path, b"", error))?;
    packer.out.file.flush().or_fail("write", path)?;
    let mut manifest = match (known, packer.encoder.flatten()) {
        (Some(known), _) => known,
        (None, Some(encoder)) => encoder.finish().map_err(bad)?,
        (None, None) => Encoder::new(format).finish().map_err(bad)?,
    };
    if let Some(sum) = checksum.and_then(|text| binary(&text)) {
        manifest.set_archive(sum);
    }
    Ok(Packed { manifest, sent: packer.sent.into_iter().collect() })
}

/// So many bytes of a hash tell contents apart. If they are the same for others, these are not sent at first,
/// and the host asks for them.
const ROW: usize = 8;

/// The first bytes of the hashes of all contents but those of the entries `lost`; and of all that are in `also`.
fn hashes(manifest: &Manifest, lost: &Numbers, also: &[Manifest]) -> Result<Rows, &'static str> {
    let mut cursor = manifest.cursor();
    let mut lost = lost.iter().peekable();
    let mut all = Vec::with_capacity(manifest.files() as usize);
    while let Some(row) = manifest.step(&mut cursor)? {
        let entry = cursor.record - 1;
        while lost.next_if(|number| *number < entry).is_some() {}
        if row.is_file() && lost.peek() != Some(&entry) {
            all.push((beginning(manifest.hash(cursor.file - 1), ROW), 0));
        }
    }
    let also = also.iter().flat_map(Manifest::hashes);
    all.extend(also.map(|hash| (beginning(hash, ROW), 0)));
    Ok(Rows::new(all))
}

/// The entries whose contents are not among these.
fn not_in(manifest: &Manifest, has: &Rows) -> Result<Numbers, &'static str> {
    let mut cursor = manifest.cursor();
    let mut missing = Vec::new();
    while let Some(record) = manifest.next(&mut cursor)? {
        if record.is_file() && record.size > 0 && !has_hash(has, &record.hash) {
            missing.push(cursor.record - 1);
        }
    }
    Ok(missing.into_iter().collect())
}

/// The sizes of these entries, added up.
fn bytes_of(manifest: &Manifest, entries: &Numbers) -> Result<u64, &'static str> {
    let mut cursor = manifest.cursor();
    let mut entries = entries.iter().peekable();
    let mut bytes = 0u64;
    while entries.peek().is_some()
        && let Some(row) = manifest.step(&mut cursor)?
    {
        if entries.next_if_eq(&(cursor.record - 1)).is_some() {
            bytes = bytes.saturating_add(row.size);
        }
    }
    Ok(bytes)
}

fn has_hash(rows: &Rows, hash: &Hash) -> bool {
    !rows.get(beginning(hash, ROW)).is_empty()
}

/// Reads the entries of the archive.
struct Packer<'a> {
    path: &'a Path,
    out: Out<'a>,
    /// `None` if the manifest is known. The inner value is `None` until the first entry.
    encoder: Option<Option<Encoder>>,
    /// Hashes of contents that are not wanted.
    has: Option<Rows>,
    wanted: Numbers,
    sent: Vec<u32>,
}

impl Packer<'_> {
    fn read(
        &mut self,
        entries: &mut Entries<'_>,
        format: format::Format,
        options: &UnpackOptions,
    ) -> Result<(), Failure> {
        let wanted = std::mem::take(&mut self.wanted);
        let mut wanted = wanted.iter().peekable();
        let mut number = 0u32;
        while let Some(entry) = entries.next()? {
            interrupt::check()?;
            if u64::from(number) >= options.limits.max_entries {
                let why = "more entries than the limit (max_entries)";
                return Err(failures::too_large(self.path, &entry.name, why));
            }
            let mut body = entries.body();
            let size = *body.remaining;
            let is_file = matches!(entry.kind, crate::entry::Kind::File(_));
            let asked = wanted.next_if_eq(&number).is_some();
            let file = match &mut self.encoder {
                Some(encoder) => encoder
                    .get_or_insert_with(|| Encoder::new(format))
                    .push(&entry, size, Some(&[0; 32]))
                    .map_err(|why| unlisted(self.path, why))?,
                None => None,
            };
            if is_file && (asked || file.is_some()) {
                let hash = self.file(number, size, asked, &mut body)?;
                if let (Some(Some(encoder)), Some(file)) = (&mut self.encoder, file) {
                    encoder.set_hash(file, &hash);
                }
            }
            number = number.saturating_add(1);
        }
        Ok(())
    }

    /// Writes a file if it is wanted, which may depend on its hash. Returns the hash.
    fn file(
        &mut self,
        number: u32,
        size: u64,
        asked: bool,
        body: &mut Body<'_, '_>,
    ) -> Result<Hash, Failure> {
        let known = |hash: &Hash, has: &Option<Rows>| {
            size == 0 || has.as_ref().is_none_or(|has| has_hash(has, hash))
        };
        if !asked && (self.has.is_none() || size <= SMALL) {
            if self.has.is_none() {
                body.start_hash();
                return body.finish_hash();
            }
            let contents = body.all()?;
            let hash = Sha256::digest(&contents).into();
            if !known(&hash, &self.has) {
                self.out.write(&header(&number.to_string(), size))?;
                self.out.write(&contents)?;
                self.out.pad(size)?;
                self.sent.push(number);
            }
            return Ok(hash);
        }
        // A large file is written first, and removed again if its hash says that it is not wanted.
        let before = self.out.position()?;
        self.out.write(&header(&number.to_string(), size))?;
        body.start_hash();
        loop {
            let bytes = body.peek()?;
            if bytes.is_empty() {
                break;
            }
            self.out.write(bytes)?;
            let length = bytes.len();
            body.consume(length);
        }
        self.out.pad(size)?;
        let hash = body.finish_hash()?;
        match !asked && known(&hash, &self.has) {
            true => self.out.back_to(before)?,
            false => self.sent.push(number),
        }
        Ok(hash)
    }
}

/// The file that contents are written to.
struct Out<'a> {
    file: BufWriter<&'a File>,
    path: &'a Path,
}

impl Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.told(|file| file.write_all(bytes))
    }

    fn pad(&mut self, size: u64) -> Result<(), Failure> {
        let zeros = [0; BLOCK];
        self.write(zeros.get(..(size.wrapping_neg() % BLOCK as u64) as usize).unwrap_or_default())
    }

    fn position(&mut self) -> Result<u64, Failure> {
        self.told(|file| file.stream_position())
    }

    fn back_to(&mut self, position: u64) -> Result<(), Failure> {
        self.told(|file| {
            file.seek(SeekFrom::Start(position))?;
            file.get_ref().set_len(position)
        })
    }

    fn told<T>(
        &mut self,
        act: impl FnOnce(&mut BufWriter<&File>) -> io::Result<T>,
    ) -> Result<T, Failure> {
        act(&mut self.file).or_fail("write what is in", self.path)
    }
}

fn unlisted(path: &Path, why: &str) -> Failure {
    Failure::new(
        "unlisted",
        format!(
            "cannot make a manifest of {}",
            failures::show(path.as_os_str().as_encoded_bytes())
        ),
    )
    .cause(why)
    .remedy("deploy it without: it is sent as a whole")
    .path(path)
}
