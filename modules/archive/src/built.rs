//! Owns the reading of a release that is built from parts: the entries are those of the manifest,
//! and the contents come from the sources that the plan names.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use oxistrano_core::{Dir, Failure};

use crate::entry::{Entry, Kind};
use crate::failures;
use crate::known::{Known, Quiet};
use crate::manifest::{Cursor, Manifest};
use crate::paths::clean;
use crate::plan::{Plan, Source};
use crate::replica::Replica;
use crate::stream::{Body, Stream};
use crate::tar_reader::TarReader;

/// Reads the entries.
pub(crate) struct BuiltReader<'a> {
    /// For messages.
    archive: &'a Path,
    manifest: &'a Manifest,
    plan: &'a Plan,
    /// The tree that is being changed.
    here: &'a Dir,
    strip_components: u32,
    bundles: Vec<Bundle<'a>>,
    cursor: Cursor,
    replica: Replica<'a>,
    /// The bundle that has the contents of the current entry.
    current: Option<usize>,
    remaining: u64,
}

struct Bundle<'a> {
    tar: TarReader<'a>,
    /// The number of the entry whose contents come next in it.
    at: Option<u32>,
}

impl<'a> BuiltReader<'a> {
    /// `bundles`: the stream of each bundle, and whether it is compressed.
    pub(crate) fn new(
        archive: &'a Path,
        manifest: &'a Manifest,
        plan: &'a Plan,
        here: &'a Dir,
        strip_components: u32,
        bundles: Vec<(Stream<'a>, bool)>,
    ) -> Result<Self, Failure> {
        let bundles = bundles
            .into_iter()
            .map(|(stream, compressed)| {
                let mut tar = TarReader::new(stream, compressed);
                // Skip the message, which was read before.
                tar.next()?;
                let at = number(&mut tar)?;
                Ok(Bundle { tar, at })
            })
            .collect::<Result<_, Failure>>()?;
        let (cursor, replica) = (manifest.cursor(), Replica::new());
        Ok(Self {
            archive,
            manifest,
            plan,
            here,
            strip_components,
            bundles,
            cursor,
            replica,
            current: None,
            remaining: 0,
        })
    }

    pub(crate) fn next(&mut self) -> Result<Option<Entry>, Failure> {
        if let Some(bundle) = self.current.take().and_then(|n| self.bundles.get_mut(n)) {
            bundle.at = number(&mut bundle.tar)?;
        }
        self.remaining = 0;
        let read = self.manifest.next(&mut self.cursor);
        let Some(record) = read.map_err(|why| failures::bad(self.archive, b"", why))? else {
            // All contents in the bundles must have been used.
            if self.bundles.iter().any(|bundle| bundle.at.is_some()) {
                return Err(failures::bad(self.archive, b"", "more was sent than was wanted"));
            }
            return Ok(None);
        };
        if !matches!(record.entry.kind, Kind::File(_)) {
            return Ok(Some(record.entry));
        }
        let plan = self.plan;
        match plan.sources.get(self.cursor.file as usize - 1) {
            Some(Source::Empty) if record.size == 0 => {}
            Some(Source::Dropped) => return Ok(Some(record.entry)),
            Some(source @ (Source::Here { .. } | Source::Elsewhere(..))) => {
                let own = clean(&record.entry.name, self.strip_components).unwrap_or_default();
                let own = Path::new(OsStr::from_bytes(&own));
                let (top, path) = match source {
                    Source::Elsewhere(top, path) => {
                        (plan.tops.get(usize::from(*top)), path.as_deref().unwrap_or(own))
                    }
                    _ => (Some(self.here), own),
                };
                self.replica.set(top.ok_or_else(|| failures::stale(path))?, path);
            }
            Some(Source::Sent) => {
                let entry = self.cursor.record - 1;
                let mut bundles = self.bundles.iter_mut();
                self.current = bundles.position(|bundle| bundle.at == Some(entry));
                let bundle = self.current.and_then(|n| self.bundles.get_mut(n));
                let sent = bundle.map(|bundle| *bundle.tar.body().remaining);
                if sent != Some(record.size) {
                    let why = "its contents were not sent, or others";
                    return Err(failures::bad(self.archive, &record.entry.name, why));
                }
            }
            _ => return Err(failures::bad(self.archive, &record.entry.name, "it is missing")),
        }
        self.remaining = record.size;
        Ok(Some(record.entry))
    }

    /// The number of the file that `next` returned last, and what is known of the spare's file there.
    pub(crate) fn file(&self) -> (u32, Option<Known>) {
        let number = self.cursor.file.saturating_sub(1);
        (number, self.plan.known(number))
    }

    /// The same for a directory.
    pub(crate) fn directory(&self) -> (u32, Option<Quiet>) {
        let number = self.cursor.directory.saturating_sub(1);
        (number, self.plan.quiet(number))
    }

    pub(crate) fn body(&mut self) -> Body<'_, 'a> {
        match self.current.and_then(|n| self.bundles.get_mut(n)) {
            Some(bundle) => bundle.tar.body(),
            None => Body::of_file(&mut self.replica, &mut self.remaining),
        }
    }
}

/// The number of the entry whose contents come next.
fn number(tar: &mut TarReader<'_>) -> Result<Option<u32>, Failure> {
    let Some(entry) = tar.next()? else { return Ok(None) };
    let name =
        std::str::from_utf8(&entry.name).ok().filter(|_| matches!(entry.kind, Kind::File(None)));
    match name.and_then(|name| name.parse().ok()) {
        Some(number) => Ok(Some(number)),
        None => Err(tar.bad("it is no number of an entry")),
    }
}
