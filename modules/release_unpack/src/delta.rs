//! Builds a release from what the host has and from what differs, which the controller has sent.
//! `docs/spare.md` describes the exchange.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::path::{Path, PathBuf};

use oxistrano_archive::{
    self as archive, Building, Index, Indexed, Limits, Manifest, Message, Noted, Numbers, Plan,
    Spare, Summary, UnpackOptions,
};
use oxistrano_core::json::{Value, json};
use oxistrano_core::{Dir, Failure, Outcome, input};
use oxistrano_releases::{Artifact, Artifacts, Delta, Indexes, Root, spare};

use crate::request::{useless, wanted};

/// What the controller has sent instead of an archive.
pub struct Parts {
    /// The archive, as the controller describes it.
    pub artifact: Artifact,
    pub manifest: Manifest,
    digest: String,
    sent: Numbers,
    bundles: Vec<(File, PathBuf)>,
    kept: Artifacts,
    /// The plan, and whether it is for the spare.
    plan: RefCell<Option<(Plan, bool)>>,
    /// Whether the controller is asked for missing contents.
    pub asked: Cell<bool>,
}

/// What to do about an archive of which only parts are sent.
pub enum Found {
    Here(Box<Parts>),
    Wanted(Outcome),
}

/// Tells the controller what the host has, if it has a release to build on. The action plugin reads
/// these keys.
pub fn offer(delta: &Delta, root: &Root) -> Result<Option<Outcome>, Failure> {
    let Some(indexes) = Indexes::open(root) else { return Ok(None) };
    let (mut any, mut base, mut also) = (false, None, Vec::new());
    for release in releases(root)? {
        let head = indexes.read(&release, Some(Index::HEAD));
        let Some((head, digest)) = head.and_then(|head| Index::digest(&head).map(|it| (head, it)))
        else {
            continue;
        };
        any = true;
        if !delta.known.contains(&digest) {
            continue;
        }
        match &base {
            None => base = Some((digest, head)),
            Some((first, _)) if *first == digest || also.contains(&digest) => {}
            Some(_) => also.push(digest),
        }
    }
    let offer = match base {
        Some((digest, head)) => {
            // The controller sends what the host has lost of it without being asked.
            json!({"base": Index::has(&head).unwrap_or(digest), "also": also})
        }
        None => json!({"base": Value::Null}),
    };
    Ok(any.then(|| wanted(0, false).value("delta", offer)))
}

/// The directories of all releases: the live one, then the others, newest first, then the spare.
fn releases(root: &Root) -> Result<Vec<Dir>, Failure> {
    let Some(dir) = root.releases_if_there()? else { return Ok(Vec::new()) };
    let all = root.all_releases()?;
    let active = all.active().map(|release| &release.version);
    let others = all.iter().map(|release| &release.version).filter(|it| Some(*it) != active);
    let names = active.into_iter().chain(others).map(AsRef::<Path>::as_ref);
    let names = names.chain([spare::NAME.as_ref()]);
    Ok(names.filter_map(|name| dir.open_dir(name).ok()).collect())
}

fn indexed(indexes: &Indexes, top: &Dir) -> Option<Indexed> {
    let index = Index::parse(indexes.read(top, None)?)?;
    Some(Indexed { top: top.duplicate().ok()?, index })
}

/// A release with its index, if it has one.
fn known(root: &Root, top: &Dir) -> Option<Indexed> {
    indexed(&Indexes::open(root)?, top)
}

/// The spare that an archive is unpacked onto, with its index if it has one.
pub fn spare_of(root: &Root, tree: &Dir, grave: Dir) -> Result<Spare, Failure> {
    let index = Indexes::open(root).and_then(|it| Index::parse(it.read(tree, None)?));
    let spare = Spare::new(grave)?.if_useful();
    Ok(match &index {
        Some(index) => spare.with_index(index),
        None => spare,
    })
}

/// Receives the bundles, until all of them are complete.
pub fn receive(
    artifact: &Artifact,
    delta: &Delta,
    kept: Artifacts,
    root: &Root,
    src: &Path,
) -> Result<Found, Failure> {
    let mut offset = artifact.offset;
    let mut bundles = Vec::new();
    for bundle in delta.artifacts() {
        if kept.whole(&bundle)?.is_none()
            && let Some(offset) = offset.take()
        {
            kept.receive(&bundle, offset, &mut *input::lock())?;
        }
        let Some(file) = kept.whole(&bundle)? else {
            kept.make_room(&bundle, src)?;
            return Ok(Found::Wanted(wanted(kept.received(&bundle)?, false)));
        };
        bundles.push((file, src.to_owned()));
    }
    match read(&bundles, root) {
        Ok((manifest, sent)) => Ok(Found::Here(Box::new(Parts {
            artifact: artifact.clone(),
            manifest,
            digest: delta.digest.clone(),
            sent,
            bundles,
            kept,
            plan: RefCell::default(),
            asked: Cell::default(),
        }))),
        Err(failure) => {
            for bundle in delta.artifacts() {
                kept.discard(&bundle)?;
            }
            Ok(Found::Wanted(useless(&failure)))
        }
    }
}

/// Reads the manifest, and which contents were sent.
fn read(bundles: &[(File, PathBuf)], root: &Root) -> Result<(Manifest, Numbers), Failure> {
    let (mut sent, mut manifest) = (Numbers::default(), None);
    for (file, path) in bundles {
        let message = Message::read(file, path, &Limits::default())?;
        sent = sent.with(&message.sent);
        if message.has_manifest() && manifest.is_none() {
            let base = |digest: &str| base(digest, root);
            manifest = Some(message.manifest(base)?);
        }
    }
    let missing = || {
        Failure::new("bad_manifest", "nothing says what is in the archive")
            .cause(format!("{} files were sent", bundles.len()))
    };
    Ok((manifest.ok_or_else(missing)?, sent))
}

/// The manifest with this digest, from the index of a release.
fn base(digest: &str, root: &Root) -> Option<Manifest> {
    let indexes = Indexes::open(root)?;
    releases(root).ok()?.iter().find_map(|release| {
        let head = indexes.read(release, Some(Index::HEAD))?;
        let found = Index::digest(&head)? == digest;
        found.then(|| Index::parse(indexes.read(release, None)?))?.map(|it| it.manifest().clone())
    })
}

impl Parts {
    /// Looks for all contents. `Some` is a request for those that are nowhere on this host.
    ///
    /// # Errors
    /// An I/O error.
    pub fn plan(
        &self,
        root: &Root,
        options: &UnpackOptions,
        on_spare: bool,
    ) -> Result<Option<Outcome>, Failure> {
        let releases = root.releases()?;
        let spare = match on_spare {
            true => releases.open_dir(spare::NAME).ok(),
            false => None,
        };
        let known = spare.as_ref().and_then(|spare| known(root, spare));
        let (spare, known) = match self.is_worth(known.as_ref()) {
            true => (spare, known),
            false => (None, None),
        };
        let plan = self.make_plan(root, options, spare.as_ref(), known)?;
        if plan.missing.is_empty() {
            *self.plan.borrow_mut() = Some((plan, spare.is_some()));
            return Ok(None);
        }
        self.asked.set(true);
        let missing = json!({"missing": plan.missing.to_string()});
        Ok(Some(wanted(0, false).value("delta", missing)))
    }

    /// Whether enough can stay of the spare. Nothing is examined for that.
    fn is_worth(&self, spare: Option<&Indexed>) -> bool {
        spare.is_none_or(|spare| {
            let (stay, differ) = archive::in_common(&self.manifest, spare.index.manifest());
            oxistrano_tree::is_worth(stay, differ)
        })
    }

    /// Whether the plan is to build on the spare.
    pub fn is_on_spare(&self) -> bool {
        self.plan.borrow().as_ref().is_some_and(|(_, on_spare)| *on_spare)
    }

    fn make_plan(
        &self,
        root: &Root,
        options: &UnpackOptions,
        spare: Option<&Dir>,
        known: Option<Indexed>,
    ) -> Result<Plan, Failure> {
        let Some(indexes) = Indexes::open(root) else {
            let mut none = std::iter::empty();
            return Plan::make(&self.manifest, &self.sent, options, None, &mut none);
        };
        let top = spare.map(|spare| spare.info().map(|info| info.inode())).transpose()?;
        let others = releases(root)?;
        let others = others.iter().filter(|other| {
            // The spare is changed at the same time, so nothing is copied from it.
            other.info().is_ok_and(|info| Some(info.inode()) != top)
        });
        let mut others = others.filter_map(|other| indexed(&indexes, other));
        Plan::make(&self.manifest, &self.sent, options, known, &mut others)
    }

    /// Builds the tree in `into`, which is the spare or empty.
    ///
    /// # Errors
    /// As [`archive::build`].
    pub fn fill(
        &self,
        root: &Root,
        src: &Path,
        options: &UnpackOptions,
        into: &Dir,
        spare: Option<Spare>,
    ) -> Result<(Summary, Option<Noted>), Failure> {
        let made =
            self.plan.borrow_mut().take().filter(|(_, for_spare)| *for_spare == spare.is_some());
        let plan = match made {
            Some((plan, _)) => plan,
            None => {
                let tree = spare.as_ref().map(|_| into);
                self.make_plan(root, options, tree, tree.and_then(|tree| known(root, tree)))?
            }
        };
        let building = Building {
            manifest: self.manifest.clone(),
            digest: &self.digest,
            plan,
            bundles: &self.bundles,
            size: self.artifact.size,
        };
        let (summary, noted) = archive::build(building, src, into, options, spare)?;
        Ok((summary, Some(noted)))
    }

    /// Removes the bundles when they are no longer needed. Returns why that failed.
    pub fn discard(&self) -> Option<String> {
        let delta = self.artifact.delta()?;
        let mut gone = delta.artifacts().map(|bundle| self.kept.discard(&bundle));
        gone.find_map(Result::err).map(|failure| failure.to_string())
    }

    /// After a failure: asks for the whole archive if the bundles may be the cause.
    ///
    /// # Errors
    /// The failure, if it has another cause.
    pub fn blame(&self, failure: Failure) -> Result<Outcome, Failure> {
        let of_parts = [
            "stale",
            "bad_manifest",
            "bad_archive",
            "too_large",
            "unknown_format",
            "strange_spare",
        ];
        let _ = self.discard();
        match of_parts.contains(&failure.code()) {
            true => Ok(useless(&failure)),
            false => Err(failure),
        }
    }
}
