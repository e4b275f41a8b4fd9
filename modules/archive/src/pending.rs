//! Files that were read from the stream and may not have been written yet.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use oxistrano_core::Failure;

use crate::attributes::Attributes;
use crate::batch::{Batch, Taken};
use crate::crew::Crew;
use crate::paths::Hashed;
use crate::place::{self, Place};
use crate::spare::Stock;
use crate::stream::Body;

/// As many names are remembered.
pub(crate) const MOST_UNDER_WAY: usize = 1 << 16;

/// Small files on their way to the disk.
pub(crate) struct Pending<'a> {
    root: &'a Path,
    archive: &'a Path,
    /// The threads that write them.
    crew: Option<Crew>,
    /// The next batch for them.
    batch: Batch,
    /// Hashes of the names, and of the places that they are in.
    under_way: HashSet<u64, Hashed>,
    hasher: RandomState,
    stock: Arc<Stock>,
}

impl<'a> Pending<'a> {
    /// Creates an empty one. Without threads, what is added is written by the caller's.
    pub(crate) fn new(
        root: &'a Path,
        archive: &'a Path,
        crew: Option<Crew>,
        stock: Arc<Stock>,
    ) -> Self {
        Self {
            root,
            archive,
            crew,
            batch: Batch::default(),
            under_way: HashSet::default(),
            hasher: RandomState::new(),
            stock,
        }
    }

    /// Whether there are threads.
    pub(crate) fn has_crew(&self) -> bool {
        self.crew.is_some()
    }

    /// Whether there may be a file under this name that has not been written.
    pub(crate) fn has(&self, place: &Place, name: &OsStr) -> bool {
        !self.under_way.is_empty() && self.under_way.contains(&self.hash(place, name))
    }

    fn hash(&self, place: &Place, name: &OsStr) -> u64 {
        self.hasher.hash_one((place.number, name.as_bytes()))
    }

    /// Takes the contents of a file out of the stream.
    pub(crate) fn add(
        &mut self,
        place: &Arc<Place>,
        name: &OsStr,
        attributes: Attributes,
        body: &mut Body<'_, '_>,
    ) -> Result<(), Failure> {
        if self.has(place, name) || self.under_way.len() >= MOST_UNDER_WAY {
            self.settle()?;
        }
        let contents = self.batch.contents();
        loop {
            let bytes = body.peek()?;
            if bytes.is_empty() {
                break;
            }
            contents.extend_from_slice(bytes);
            let taken = bytes.len();
            body.consume(taken);
        }
        self.under_way.insert(self.hash(place, name));
        self.batch.push(place, name, attributes);
        if self.batch.is_full() {
            self.hand_over()?;
            if self.crew.as_ref().is_some_and(Crew::has_many_taken) {
                self.settle()?;
            }
        }
        Ok(())
    }

    fn hand_over(&mut self) -> Result<(), Failure> {
        if self.batch.is_empty() {
            return Ok(());
        }
        if let Some(crew) = &self.crew {
            self.batch = crew.hand_over(std::mem::take(&mut self.batch))?;
            return Ok(());
        }
        let taken = self.batch.write(self.root, &self.stock)?;
        self.write_taken(taken)
    }

    fn write_taken(&self, taken: Vec<Taken>) -> Result<(), Failure> {
        for taken in taken {
            let path = taken.place.path().join(taken.name());
            place::remove(&taken.place, &path, self.root, self.archive)?;
            taken.write(self.root, &self.stock)?;
        }
        Ok(())
    }

    /// Waits until everything is written.
    pub(crate) fn settle(&mut self) -> Result<(), Failure> {
        self.hand_over()?;
        self.under_way.clear();
        match &self.crew {
            Some(crew) => self.write_taken(crew.settle()?),
            None => Ok(()),
        }
    }
}
