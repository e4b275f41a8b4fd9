//! Finds the archive of a deploy. It is a file on the host, or one on the controller if that is the
//! same machine, or the controller sends it: in pieces, one with each call of the module.

use std::fs::File;

use oxistrano_archive as archive;
use oxistrano_core::{Context, Failure, Outcome};
use oxistrano_releases::{Artifact, Artifacts, Root};

use crate::Options;
use crate::delta::{self, Parts};
use crate::request::wanted;
use crate::unchanged::Unchanged;

/// An archive that is on this host.
pub struct Archive<'a> {
    pub file: File,
    /// How the controller describes it, if it came from there.
    artifact: Option<&'a Artifact>,
    kept: Option<Artifacts>,
}

/// What to do about an archive of the controller.
pub enum Found<'a> {
    /// It can be unpacked.
    Here(Archive<'a>),
    /// In check mode: the host has only this many bytes of it, and nothing is sent.
    NotSent(u64),
    /// The release can be built from parts.
    Parts(Box<Parts>),
    /// It is missing or incomplete.
    Wanted(Outcome),
}

/// Looks for the archive, and receives what the controller sends of it.
///
/// # Errors
/// `no_place`, `no_space`; an I/O error.
pub fn find<'a>(
    artifact: &'a Artifact,
    options: &Options,
    root: Option<&Root>,
    context: &Context,
) -> Result<Found<'a>, Failure> {
    let here = |file, kept| Ok(Found::Here(Archive { file, artifact: Some(artifact), kept }));
    if let Some(file) = artifact.open_here() {
        return here(file, None);
    }
    if artifact.sha256.is_none() {
        return Ok(Found::Wanted(wanted(0, false)));
    }
    if context.check_mode {
        let kept = root.map(Artifacts::open_to_look).transpose()?.flatten();
        let whole = kept.as_ref().map(|kept| kept.whole(artifact)).transpose()?.flatten();
        if let Some(file) = whole {
            return here(file, kept);
        }
        let received = kept.map(|kept| kept.received(artifact)).transpose()?;
        return Ok(Found::NotSent(received.unwrap_or_default()));
    }
    let root = match root {
        Some(root) => root,
        None => &Root::open(options.layout())?,
    };
    let kept = Artifacts::open(root)?;
    let delta = match kept.whole(artifact)? {
        // Files that are shared with the live release are not built from parts: the archive is sent.
        None if options.unchanged == Unchanged::Copy => artifact.delta(),
        _ => None,
    };
    if let Some(delta) = delta.as_ref().filter(|delta| delta.is_sent()) {
        let src = options.src.as_path();
        return Ok(match delta::receive(artifact, delta, kept, root, src)? {
            delta::Found::Here(parts) => Found::Parts(parts),
            delta::Found::Wanted(outcome) => Found::Wanted(outcome),
        });
    }
    if kept.whole(artifact)?.is_none()
        && let Some(offset) = artifact.offset
    {
        kept.receive(artifact, offset, &mut *oxistrano_core::input::lock())?;
    }
    match kept.whole(artifact)? {
        Some(file) => here(file, Some(kept)),
        None => {
            let received = kept.received(artifact)?;
            // An upload of the archive that has begun is continued.
            if let Some(delta) = delta.filter(|_| received == 0)
                && let Some(offer) = delta::offer(&delta, root)?
            {
                return Ok(Found::Wanted(offer));
            }
            kept.make_room(artifact, options.src.as_path())?;
            Ok(Found::Wanted(wanted(received, false)))
        }
    }
}

impl Archive<'_> {
    /// An archive that does not come from the controller.
    pub fn on_host(file: File) -> Self {
        Self { file, artifact: None, kept: None }
    }

    /// The SHA-256 that it has on the controller, and must have here.
    pub fn sha256(&self) -> Option<&str> {
        self.artifact.and_then(|artifact| artifact.sha256.as_deref())
    }

    /// Checks, after it was read to its end, that this was the archive of the controller.
    ///
    /// # Errors
    /// `changed` if it was not.
    pub fn confirm(&self, read: Option<&str>) -> Result<(), Failure> {
        let Some(artifact) = self.artifact else { return Ok(()) };
        let same = self.sha256().is_none_or(|sha256| read == Some(sha256));
        if same && artifact.is_unchanged(&self.file) {
            return Ok(());
        }
        Err(Failure::new("changed", "the archive has changed")
            .cause("another process changed it while it was read")
            .remedy("deploy again when no process writes to it any more"))
    }

    /// Whether the archive that is kept here differs from the controller's. Reads all of it.
    pub fn is_damaged(&self, options: &Options) -> bool {
        let read = |_: &Artifacts| archive::sha256(&self.file, options.src.as_path()).ok();
        let read = self.kept.as_ref().and_then(read);
        read.is_some_and(|sha256| self.sha256() != Some(sha256.as_str()))
    }

    /// After a failure: removes the archive that is kept here if it is damaged, and asks for it
    /// again.
    ///
    /// # Errors
    /// The failure, if that was not the cause.
    pub fn blame(&self, failure: Failure, options: &Options) -> Result<Outcome, Failure> {
        let (Some(artifact), Some(kept)) = (self.artifact, &self.kept) else { return Err(failure) };
        // These say nothing about the archive.
        let innocent = ["locked", "busy", "interrupted", "release_exists"];
        if innocent.contains(&failure.code()) || !self.is_damaged(options) {
            return Err(failure);
        }
        kept.discard(artifact).map(|()| wanted(0, true))
    }

    /// After the deploy: keeps this many archives. Returns why that failed.
    pub fn keep(&self, number: u64) -> Option<String> {
        let (artifact, kept) = (self.artifact?, self.kept.as_ref()?);
        kept.tidy(artifact, number).err().map(|failure| failure.to_string())
    }
}
