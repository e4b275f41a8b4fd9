//! The work of [`copy_tree`](crate::copy_tree): directories are jobs of several threads,
//! and so are the files of large ones.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use oxistrano_core::dir::Info;
use oxistrano_core::{Dir, Failure, IoContext, interrupt};
use rustix::fs::{self, AtFlags, FileType, Stat};
use rustix::io::Errno;

use crate::attributes::{Attributes, passes_acl_on};
use crate::copy::{Copied, CopyOptions, Counts, Method};
use crate::file::{Copier, Source, add_name, changed, special, vanished};
use crate::hardlinks::{Claim, HardLinks};
use crate::listing::{Listing, Part};
use crate::metadata::Rules;
use crate::pool::{Pool, Room};
use crate::walk::{Budget, Place, mount_point, names_in, open_below};

/// The number of files of one directory in a job.
const BATCH: usize = 64;

/// Copies what is in `source` into the empty directory `to`.
pub fn run(source: &Dir, to: &Dir, options: &CopyOptions) -> Result<Copied, Failure> {
    let room = Room::measure();
    let budget = Budget::new(room.kept);
    let mut rules = Rules::new(options.owner, options.group);
    rules.times = options.times;
    rules.attributes = options.attributes;
    rules.strip_acls = options.attributes && !options.inherit && passes_acl_on(to.as_fd());
    if options.inherit {
        rules.inherit_from(&to.info()?);
    }
    let info = source.info()?;
    let task = Task {
        options,
        listing: options.only.as_deref().map(Listing::new),
        device: info.device(),
        target: to.info()?,
        root: to,
        copier: Copier::new(rules, options.method == Method::Reflink),
        can_link: AtomicBool::new(options.method == Method::Hardlink),
        hard_links: HardLinks::default(),
        counts: Counts::default(),
    };
    let root = Arc::new(Node {
        parent: None,
        from: Place::root(source, &budget)?,
        to: Place::root(to, &budget)?,
        rel: PathBuf::new(),
        attributes: task.attributes(source),
        info,
        pending: AtomicUsize::new(1),
    });
    let part = task.listing.as_ref().map(Listing::all);
    Pool::run(room.threads, vec![Job::Fill(root, part)], |job, pool| task.work(job, pool))?;
    Ok(task.counts.total())
}

/// A directory being copied. After its last entry, it gets its metadata.
struct Node {
    parent: Option<Arc<Node>>,
    from: Arc<Place>,
    to: Arc<Place>,
    rel: PathBuf,
    info: Info,
    attributes: Attributes,
    /// The number of unfinished jobs and subdirectories.
    pending: AtomicUsize,
}

enum Job {
    /// Copy the contents of a directory that was made.
    Fill(Arc<Node>, Option<Part>),
    /// Make and fill the subdirectory of that name.
    Directory(Arc<Node>, OsString, Option<Part>),
    /// Copy these files and links.
    Files(Arc<Node>, Vec<(OsString, FileType)>),
}

struct Task<'a> {
    options: &'a CopyOptions,
    listing: Option<Listing<'a>>,
    device: u64,
    target: Info,
    root: &'a Dir,
    copier: Copier,
    can_link: AtomicBool,
    hard_links: HardLinks,
    counts: Counts,
}

impl Task<'_> {
    fn work(&self, job: Job, pool: &Pool<Job>) -> Result<(), Failure> {
        match job {
            Job::Fill(node, part) => {
                self.fill(&node, (None, None), part, pool)?;
                self.done(&node)
            }
            Job::Directory(parent, name, part) => self.directory(&parent, name, part, pool),
            Job::Files(node, names) => {
                let (from, to) = (node.from.open()?, node.to.open()?);
                self.files(&node, (&from, &to), &names, pool)?;
                self.done(&node)
            }
        }
    }

    fn directory(
        &self,
        parent: &Arc<Node>,
        name: OsString,
        part: Option<Part>,
        pool: &Pool<Job>,
    ) -> Result<(), Failure> {
        let from = parent.from.open()?.open_dir(&name)?;
        let info = from.info()?;
        if info.device() != self.device {
            return Err(mount_point(from.path()));
        }
        if info.same_file(&self.target) {
            return Err(Failure::new("recursion", "cannot copy a directory into itself")
                .cause(format!("'{}' is the target", from.path().display()))
                .path(from.path()));
        }
        let to = parent.to.open()?.make_dir(&name, 0o700)?;
        let attributes = self.attributes(&from);
        let (from_place, from) = Place::below(&parent.from, &name, from);
        let (to_place, to) = Place::below(&parent.to, &name, to);
        let node = Arc::new(Node {
            parent: Some(Arc::clone(parent)),
            rel: parent.rel.join(&name),
            from: from_place,
            to: to_place,
            info,
            attributes,
            pending: AtomicUsize::new(1),
        });
        self.fill(&node, (from, to), part, pool)?;
        self.counts.directories.fetch_add(1, Ordering::Relaxed);
        self.done(&node)
    }

    /// Copies the contents of a directory: files now, or by idle threads; subdirectories later.
    fn fill(
        &self,
        node: &Arc<Node>,
        (from, to): (Option<Dir>, Option<Dir>),
        part: Option<Part>,
        pool: &Pool<Job>,
    ) -> Result<(), Failure> {
        let (from, to) = (node.from.with(from)?, node.to.with(to)?);
        let dirs: (&Dir, &Dir) = (&from, &to);
        let excluded = names_in(&self.options.exclude, &node.rel);
        let mut batch = Batch { task: self, node, names: Vec::new() };
        if let (Some(part), Some(listing)) = (part, &self.listing) {
            for listed in listing.names(&part).filter(|listed| !excluded.contains(&listed.name)) {
                let info = from.lookup(listed.name)?;
                let is_dir = info.is_some_and(|info| info.is_dir());
                match info {
                    Some(_) if is_dir => {
                        push_directory(node, listed.name, Some(listed.below), pool);
                        continue;
                    }
                    Some(info) if listed.itself => {
                        batch.add(listed.name, info.kind(), dirs, pool)?;
                    }
                    _ => {}
                }
                // Only a directory has entries below it.
                let missing = match info {
                    Some(_) => listing.first(&listed.below),
                    None => Some(listed.path),
                };
                if let Some(missing) = missing {
                    let below = missing.as_path().strip_prefix(&node.rel);
                    let path = from.at(below.unwrap_or(missing.as_path()));
                    return Err(Failure::new(
                        "missing",
                        format!("cannot copy '{}'", path.display()),
                    )
                    .cause("it is listed, but does not exist")
                    .path(path));
                }
            }
            return batch.finish(dirs, pool);
        }
        let entries =
            fs::Dir::read_from(from.as_fd()).or_fail("read the directory", from.path())?;
        for entry in entries {
            let entry = entry.or_fail("read the directory", from.path())?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." || excluded.contains(&name) {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => {
                    from.lookup(name)?.ok_or_else(|| vanished(&from.at(name)))?.kind()
                }
                kind => kind,
            };
            match kind {
                FileType::Directory => push_directory(node, name, None, pool),
                kind => batch.add(name, kind, dirs, pool)?,
            }
        }
        batch.finish(dirs, pool)
    }
}

fn push_directory(node: &Arc<Node>, name: &OsStr, part: Option<Part>, pool: &Pool<Job>) {
    node.pending.fetch_add(1, Ordering::Relaxed);
    pool.push(Job::Directory(Arc::clone(node), name.to_owned(), part));
}

/// Names of files that are copied together.
struct Batch<'a> {
    task: &'a Task<'a>,
    node: &'a Arc<Node>,
    names: Vec<(OsString, FileType)>,
}

impl Batch<'_> {
    fn add(
        &mut self,
        name: &OsStr,
        kind: FileType,
        dirs: (&Dir, &Dir),
        pool: &Pool<Job>,
    ) -> Result<(), Failure> {
        self.names.push((name.to_owned(), kind));
        if self.names.len() < BATCH {
            return Ok(());
        }
        let names = std::mem::take(&mut self.names);
        if pool.is_hungry() {
            self.node.pending.fetch_add(1, Ordering::Relaxed);
            pool.push(Job::Files(Arc::clone(self.node), names));
            return Ok(());
        }
        self.task.files(self.node, dirs, &names, pool)
    }

    fn finish(self, dirs: (&Dir, &Dir), pool: &Pool<Job>) -> Result<(), Failure> {
        self.task.files(self.node, dirs, &self.names, pool)
    }
}

impl Task<'_> {
    fn attributes(&self, source: &Dir) -> Attributes {
        match self.options.attributes {
            true => Attributes::read(source.as_fd()),
            false => Attributes::default(),
        }
    }

    fn files(
        &self,
        node: &Node,
        dirs: (&Dir, &Dir),
        names: &[(OsString, FileType)],
        pool: &Pool<Job>,
    ) -> Result<(), Failure> {
        for (name, kind) in names {
            interrupt::check()?;
            if pool.is_stopped() {
                return Ok(());
            }
            match kind {
                FileType::RegularFile => self.file(node, dirs, name, pool)?,
                FileType::Symlink => self.link(node, dirs, name, pool)?,
                _ => {
                    let path = dirs.0.at(name);
                    let noun = dirs.0.lookup(name)?.map_or("gone", |info| info.noun());
                    return Err(special(&path, noun));
                }
            }
        }
        Ok(())
    }

    fn file(
        &self,
        node: &Node,
        (from, to): (&Dir, &Dir),
        name: &OsStr,
        pool: &Pool<Job>,
    ) -> Result<(), Failure> {
        self.counts.files.fetch_add(1, Ordering::Relaxed);
        if self.can_link.load(Ordering::Relaxed) && self.link_to_source((from, to), name)? {
            self.counts.linked.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let source = Source::open(from, name)?;
        let several = source.stat.st_nlink > 1;
        if several && self.known(&source.stat, to, name, pool)? {
            return Ok(());
        }
        let cloned = self.copier.file(&source, (from, name), (to, name))?;
        self.counts.cloned.fetch_add(cloned.into(), Ordering::Relaxed);
        self.counts.bytes.fetch_add(source.stat.st_size as u64, Ordering::Relaxed);
        if several {
            self.hard_links.copied(&source.stat, &node.rel.join(name));
        }
        Ok(())
    }

    fn link(
        &self,
        node: &Node,
        (from, to): (&Dir, &Dir),
        name: &OsStr,
        pool: &Pool<Job>,
    ) -> Result<(), Failure> {
        self.counts.links.fetch_add(1, Ordering::Relaxed);
        let info = from.lookup(name)?.ok_or_else(|| vanished(&from.at(name)))?;
        let several = info.stat().st_nlink > 1;
        if several && self.known(info.stat(), to, name, pool)? {
            return Ok(());
        }
        self.copier.link(info.stat(), (from, name), (to, name))?;
        if several {
            self.hard_links.copied(info.stat(), &node.rel.join(name));
        }
        Ok(())
    }

    /// If this is another name of a copied file, makes the hard link and returns true.
    fn known(
        &self,
        stat: &Stat,
        to: &Dir,
        name: &OsStr,
        pool: &Pool<Job>,
    ) -> Result<bool, Failure> {
        match self.hard_links.claim(stat, || pool.is_stopped())? {
            Claim::First => Ok(false),
            Claim::To(path) => {
                let dir = open_below(self.root, path.parent().unwrap_or(Path::new("")))?;
                add_name((&dir, path.file_name().unwrap_or_default()), (to, name))
            }
        }
    }

    /// Makes the name a hard link to the source's file. `false`: it has to be copied.
    fn link_to_source(&self, (from, to): (&Dir, &Dir), name: &OsStr) -> Result<bool, Failure> {
        let info = from.lookup(name)?.ok_or_else(|| vanished(&from.at(name)))?;
        if !info.is_file() {
            return Err(changed(&from.at(name)));
        }
        // Changing the owner would change the source, too.
        if !self.copier.rules.wanted(info.stat()).fits(info.stat()) {
            return Ok(false);
        }
        match fs::linkat(from, name, to, name, AtFlags::empty()) {
            // Linked by name, so check that it is the same file.
            Ok(()) if to.lookup(name)?.is_some_and(|made| made.same_file(&info)) => Ok(true),
            Ok(()) => {
                to.remove_file(name)?;
                Err(changed(&from.at(name)))
            }
            Err(Errno::XDEV) => {
                self.can_link.store(false, Ordering::Relaxed);
                Ok(false)
            }
            // Too many names, another user's file, or a file system without hard links.
            Err(Errno::MLINK | Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP | Errno::NOSYS) => {
                Ok(false)
            }
            Err(error) => Err(Failure::io("link", &to.at(name), error)),
        }
    }

    /// One entry of a directory is done. After the last one, the directory gets its metadata, and so on upwards.
    fn done(&self, node: &Arc<Node>) -> Result<(), Failure> {
        let mut node = node;
        while node.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
            if node.parent.is_some() || self.options.root_metadata {
                let dir = node.to.open()?;
                let stat = node.info.stat();
                self.copier.rules.finish(dir.as_fd(), stat, &node.attributes, dir.path())?;
            }
            let Some(parent) = &node.parent else { break };
            node = parent;
        }
        Ok(())
    }
}
