//! `state=started`: starts a deploy.

use std::collections::HashSet;
use std::path::PathBuf;

use oxistrano_core::{
    Context, Diff, Dir, Failure, IoContext, Outcome, RelPath, clock, remove, users,
};
use oxistrano_releases::{
    EventKind, Indexes, Layout, Lock, LockKind, Release, Root, STAGING_NAME, State, Version,
    replaced, shared_links, spare, switch, trash,
};

use crate::Options;

/// What `state=started` has to do.
struct Plan {
    version: Version,
    /// Directories to create, relative to the deploy root; the root itself is empty.
    directories: Vec<PathBuf>,
    /// Releases whose deploy did not reach the switch.
    broken: Vec<Version>,
    warnings: Vec<String>,
}

fn plan(options: &Options, root: Option<&Root>) -> Result<Plan, Failure> {
    let version = match &options.version {
        Some(version) => version.clone(),
        None => Version::new(clock::word(clock::now()))
            .map_err(|why| Failure::new("bad_clock", "cannot name the release").cause(why))?,
    };
    let layout = options.layout();
    let mut wanted = vec![layout.releases_dir.clone(), layout.shared_dir.clone()];
    let below_shared = |path: &RelPath| RelPath::new(layout.shared_dir.as_path().join(path)).ok();
    if options.ensure_shared_paths {
        wanted.extend(options.shared_paths.iter().filter_map(below_shared));
    }
    if options.ensure_shared_file_dirs {
        let parents = options.shared_files.iter().filter_map(RelPath::parent);
        wanted.extend(parents.filter_map(|path| below_shared(&path)));
    }
    let mut directories: Vec<PathBuf> = Vec::new();
    if root.is_none() {
        directories.push(PathBuf::new());
    }
    let mut planned: HashSet<RelPath> = HashSet::new();
    for path in wanted {
        // Links to directories are followed.
        let there = layout.deploy_to.as_path().join(&path);
        match there.metadata() {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => {
                return Err(Failure::new(
                    "not_a_directory",
                    format!("cannot create the directory '{}'", there.display()),
                )
                .cause("a file has that name")
                .remedy(
                    "remove it or move it away; if it is a shared file, list it in \
                    shared_files",
                )
                .state("Nothing was changed.")
                .path(there));
            }
            Err(_) if planned.contains(&path) => {}
            Err(_) => {
                directories.push(path.as_path().to_owned());
                planned.insert(path);
            }
        }
    }
    let (broken, damage) = root.map_or_else(|| Ok((Vec::new(), Vec::new())), left_behind)?;
    let mut warnings = shared_links(&options.shared_paths, &options.shared_files).warnings;
    warnings.extend(damage);
    Ok(Plan { version, directories, broken, warnings })
}

/// Starts a deploy, or in check mode reports what it would do.
pub fn run(options: &Options, context: &Context) -> Result<Outcome, Failure> {
    start(options, context).map_err(|failure| failure.state("Nothing was deployed."))
}

fn start(options: &Options, context: &Context) -> Result<Outcome, Failure> {
    let layout = options.layout();
    let mut freed = None;
    if options.unlock {
        let root = Root::open_if_there(&layout)?;
        freed = root.map_or(Ok(None), |root| root.unlock(context.check_mode))?;
    }
    let existing = Root::open_if_there(&layout)?;
    // In check mode the lock that would be freed still exists.
    if let Some(root) = existing.as_ref().filter(|_| !options.unlock) {
        require_free(options, root)?;
    }
    let mut plan = plan(options, existing.as_ref())?;
    plan.warnings.extend(freed.map(|(held, _)| format!("freed the lock: {held}")));
    let plan = plan;
    let facts = |outcome: Outcome| {
        outcome
            .value("version", plan.version.as_str())
            .value("release_path", layout.release_path(&plan.version).display().to_string())
            .value("releases_path", layout.releases_path().display().to_string())
            .value("shared_path", layout.shared_path().display().to_string())
            .value("current_path", layout.current_path().display().to_string())
            .value("staging_path", layout.releases_path().join(STAGING_NAME).display().to_string())
            .warnings(plan.warnings.clone())
            .diff(diff(&layout, &plan))
    };
    if context.check_mode {
        return Ok(
            facts(Outcome::new(true)).msg(format!("would start the deploy of {}", plan.version))
        );
    }
    if existing.is_none() {
        let path = layout.deploy_to.as_path();
        #[expect(clippy::disallowed_methods, reason = "the administrator has named it")]
        let made = std::fs::create_dir_all(path);
        made.or_fail("create the directory", path)
            .map_err(|failure| failure.state("Nothing was changed."))?;
    }
    let root = Root::open(layout.clone())?.exclusively()?;
    let lock = Lock::new(LockKind::Deploy, Some(&plan.version), &options.deployer);
    let held = root.take_lock(&lock, options.take_over.as_deref())?;
    // From here on the lock is ours, and any failure frees it.
    match prepare(options, &plan, &root, held) {
        Ok((removed, warnings)) => {
            let removed: Vec<_> = removed.iter().map(Version::as_str).collect();
            Ok(facts(Outcome::new(true))
                .msg(format!("{} is ready for {}", root.describe(), plan.version))
                .value("removed_broken", removed)
                .warnings(warnings))
        }
        Err(failure) => {
            let _ = root.free_lock();
            Err(failure.state("The lock is free again; the live release is unchanged."))
        }
    }
}

/// Releases whose deploy did not reach the switch, and warnings about the history. No other deploy
/// holds the lock, so a release in progress belongs to a deploy of ours that died.
fn left_behind(root: &Root) -> Result<(Vec<Version>, Vec<String>), Failure> {
    let left = |release: &&Release| {
        matches!(release.state, State::Broken | State::InProgress) && !release.doubtful
    };
    let releases = root.all_releases()?;
    let mut warnings = releases.warnings(root);
    let mut versions = Vec::new();
    for release in releases.iter().filter(left) {
        match root.is_busy(&release.version)? {
            true => warnings.push(root.busy(&release.version)),
            false => versions.push(release.version.clone()),
        }
    }
    Ok((versions, warnings))
}

/// Fails before anything is created if another deploy is running.
fn require_free(options: &Options, root: &Root) -> Result<(), Failure> {
    match root.require_unlocked(&options.deployer) {
        Err(failure) => {
            let since = root.lock().ok().flatten().map(|lock| lock.since);
            let taking_over = options.take_over.is_some() && options.take_over == since;
            if taking_over { Ok(()) } else { Err(failure) }
        }
        Ok(_) => Ok(()),
    }
}

/// Creates what is missing and removes leftovers. Returns the removed releases.
fn prepare(
    options: &Options,
    plan: &Plan,
    root: &Root,
    held: Option<Lock>,
) -> Result<(Vec<Version>, Vec<String>), Failure> {
    let owner = Owner::of(options)?;
    for path in &plan.directories {
        if let Ok(path) = RelPath::new(path) {
            owner.make(root.dir(), &path, &options.shared_dir)?;
        }
    }
    let releases = root.releases()?;
    remove::remove_tree(&releases, STAGING_NAME)?;
    trash::finish_in_place(&releases)?;
    trash::forget(&releases)?;
    let mut dirs = vec![root.dir().duplicate()?, root.state()?, releases.duplicate()?];
    // It may not exist yet.
    dirs.extend(root.current_parent().ok());
    for dir in dirs {
        for name in dir.names()?.into_iter().filter(|name| Dir::is_temporary(name)) {
            remove::remove_tree(&dir, name)?;
        }
    }
    let mut warnings = root.bury(held, &options.deployer)?;
    for version in replaced::settle(root, &releases)?.1 {
        warnings.push(format!(
            "restored release {version}, which an interrupted deploy had \
            replaced"
        ));
    }
    switch::note_what_is_live(root, &releases)?;
    // Read again: the plan was made before the lock was taken.
    let (broken, _) = left_behind(root)?;
    let all = root.all_releases()?;
    let is_whole = |version: &&Version| all.get(version).is_some_and(Release::is_whole);
    // The newest first.
    let whole = broken.iter().find(is_whole).filter(|_| options.spare);
    let mut given_up = Vec::new();
    for version in &broken {
        let is_spare = Some(version) == whole && spare::replace(&releases, version, &mut given_up)?;
        if !is_spare {
            trash::discard(&releases, version)?;
        }
        root.record(version, EventKind::Removed)?;
    }
    warnings.extend(trash::empty_later(&releases, &trash::leftovers(&releases)?));
    Indexes::tidy(root);
    root.record(&plan.version, Root::started_event(&options.deployer))?;
    if options.staging {
        releases.make_dir(STAGING_NAME, 0o777)?;
    }
    Ok((broken, warnings))
}

/// The owner of created shared directories.
struct Owner {
    uid: Option<u32>,
    gid: Option<u32>,
}

impl Owner {
    fn of(options: &Options) -> Result<Self, Failure> {
        let named = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
        Ok(Self {
            uid: named(&options.shared_owner)
                .map(|name| users::resolve_owner(&name))
                .transpose()?,
            gid: named(&options.shared_group)
                .map(|name| users::resolve_group(&name))
                .transpose()?,
        })
    }

    /// Creates a directory and missing parents.
    fn make(&self, root: &Dir, path: &RelPath, shared: &RelPath) -> Result<(), Failure> {
        let mut dir = root.duplicate()?;
        let mut here = std::path::PathBuf::new();
        for name in path.names() {
            here.push(name);
            if here.starts_with(shared) {
                dir.make_dir_owned(name, self.uid, self.gid)?;
            } else {
                dir.make_dir_if_missing(name)?;
            }
            dir = dir.open_trusted_dir(name)?;
        }
        Ok(())
    }
}

fn diff(layout: &Layout, plan: &Plan) -> Diff {
    let mut before: Vec<_> =
        plan.directories.iter().map(|path| format!("{}: absent", path.display())).collect();
    let mut after: Vec<_> =
        plan.directories.iter().map(|path| format!("{}: directory", path.display())).collect();
    for version in &plan.broken {
        before.push(format!("{}/{version}: broken release", layout.releases_dir));
        after.push(format!("{}/{version}: absent", layout.releases_dir));
    }
    before.push("lock: free".to_owned());
    after.push(format!("lock: deploy of {}", plan.version));
    Diff { header: layout.deploy_to.to_string(), before, after }
}
