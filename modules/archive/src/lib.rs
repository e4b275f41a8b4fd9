//! Unpacks an archive below an open directory, in one pass, without any other program.
//!
//! tar (v7, ustar, GNU, PAX; plain or in gzip, zstd, xz or bzip2) and zip. One thread reads and
//! decompresses the file, and computes its checksum on the way; another reads entries from that
//! stream and writes them, with the help of a crew for small files. Memory does not grow with the
//! archive, except for the decompressor's window.
//!
//! An archive is not trusted, and this process may be root: nothing is written outside the
//! directory, no link is followed, no device is made. See [`unpack()`] for what is refused.
//!
//! The parts of unpacking, in the order in which bytes pass through them:
//!
//! * `format` recognises archives and decompresses; `stream` passes bytes from one thread to the
//!   other; `tar_reader` and `zip_reader` parse entries; `entries` starts the
//!   one thread, and the right one of the readers.
//! * `pass` takes entry after entry; `select` decides whether and how each is written, or refuses it.
//! * `writer` writes it, with `directories` for those and `crew` for small files; in check mode,
//!   `survey` only checks it.
//! * `unpack` has the ways to do so.
//!
//! Where the host has most of a release already (`docs/spare.md`), `manifest` says what is in an
//! archive, `index` which files of a release are as they were unpacked, `plan` where each file comes
//! from, `bundle` what is sent, and `build` makes the release from all of these.

mod attributes;
mod batch;
mod build;
mod built;
mod bundle;
mod crew;
mod directories;
mod earlier;
mod entries;
mod entry;
mod failures;
mod file;
mod format;
mod hash;
mod header;
mod identity;
mod index;
mod known;
mod limits;
mod look;
mod manifest;
mod notes;
mod noting;
mod numbers;
mod options;
mod pass;
mod paths;
mod pattern;
mod pax;
mod pending;
mod piece;
mod place;
mod plan;
mod recorded;
mod remains;
mod replica;
mod rows;
mod select;
mod spare;
mod sparse;
mod stream;
mod survey;
mod tar_reader;
mod twins;
mod umask;
mod unpack;
mod writer;
mod zip_reader;

pub use build::{Building, build};
pub use bundle::{Message, Packed, Packing, pack};
pub use earlier::{Earlier, Unchanged};
pub use file::sha256;
pub use format::{Format, format_of};
pub use index::{Index, Noted};
pub use limits::Limits;
pub use manifest::{MOST_BYTES as MOST_BYTES_OF_MANIFEST, Manifest};
pub use numbers::Numbers;
pub use options::UnpackOptions;
pub use pass::Summary;
pub use pattern::Pattern;
pub use plan::{Indexed, Plan, in_common};
pub use spare::Spare;
pub use unpack::{list, list_contents, unpack, unpack_noting, unpack_onto, unpack_sharing};
