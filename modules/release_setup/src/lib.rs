//! Opens and closes a deploy.
//!
//! Does: makes the directories, takes the lock, clears away what an interrupted deploy
//! left, frees the lock at the end. Requires: the right to write in the deploy root.
//! After a failure: the lock is not taken, and no release has been touched.

mod docs;

use std::path::PathBuf;

use oxistrano_core::json::json;
use oxistrano_core::{
    clock, remove, Context, Diff, Documentation, Failure, IoContext, Literal, Module, Outcome,
    RelPath,
};
use oxistrano_releases::{
    release_options, replaced, shared_links, trash, EventKind, Layout, Lock, LockKind,
    Outcome as Ending, Release, Root, State, Version, STAGING_NAME,
};

oxistrano_core::choices! {
    /// The moment of a deploy.
    pub enum Moment {
        /// Its beginning.
        Started = "started",
        /// Its good end.
        Finished = "finished",
        /// Its bad end.
        Failed = "failed",
        /// Nobody deploys, whatever the lock says.
        Unlocked = "unlocked",
    }
}

release_options! {
    /// The options of `release_setup`.
    pub struct Options {
        /// V(started) makes the directories, takes the lock and removes what an interrupted
        /// deploy left. V(finished) notes the good end in the history and frees the lock.
        /// V(failed) removes the unfinished release unless it is live, notes O(reason), frees
        /// the lock and says what is live. V(unlocked) frees the lock whoever holds it.
        state: Moment, default = Some(Literal::Text("started"));
        /// The release that is being deployed. If it is not given to O(state=started), the UTC time
        /// as C(20260824101500Z).
        version: Option<Version>;
        /// Directories that releases share, relative to O(shared_dir); made if missing.
        shared_paths: Vec<RelPath>;
        /// Files that releases share, relative to O(shared_dir); their directories are made if
        /// missing, the files themselves are not.
        shared_files: Vec<RelPath>;
        /// Whether to make missing O(shared_paths).
        ensure_shared_paths: bool, default = Some(Literal::Flag(true));
        /// Whether to make missing directories of O(shared_files).
        ensure_shared_file_dirs: bool, default = Some(Literal::Flag(true));
        /// Make an empty staging directory (RV(staging_path)) for a strategy that fetches into it.
        staging: bool, default = Some(Literal::Flag(false));
        /// Why the deploy failed, for the history.
        reason: Option<String>;
        /// Take the lock from the holder who took it at this time. The action plugin sets it when
        /// it has found that the controlling process of that deploy has died.
        take_over: Option<String>;
    }
}

/// The module.
pub struct ReleaseSetup;

impl Module for ReleaseSetup {
    type Options = Options;
    const NAME: &'static str = "release_setup";
    const DOCUMENTATION: Documentation = docs::DOCUMENTATION;

    fn run(options: Options, context: &Context) -> Result<Outcome, Failure> {
        match options.state {
            Moment::Started => start(&options, context),
            Moment::Finished => finish(&options, context),
            Moment::Failed => fail(&options, context),
            Moment::Unlocked => unlock(&options, context),
        }
    }
}

/// What `state=started` has to do.
struct Plan {
    version: Version,
    /// Directories to make, relative to the deploy root; the root itself is empty.
    directories: Vec<PathBuf>,
    /// Releases whose deploy did not reach the switch.
    broken: Vec<Version>,
    warnings: Vec<String>,
}

fn plan(options: &Options, root: Option<&Root>) -> Result<Plan, Failure> {
    let version = match &options.version {
        Some(version) => version.clone(),
        None => Version::new(clock::version(clock::now()))
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
    for path in wanted {
        // Through links that lead to directories, as a user would see it.
        let there = layout.deploy_to.as_path().join(&path);
        match there.metadata() {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => {
                return Err(Failure::new(
                    "not_a_directory",
                    format!("cannot create the directory '{}'", there.display()),
                )
                .cause("a file has that name")
                .remedy("move it away; a shared file belongs into shared_files")
                .state("Nothing was changed.")
                .path(there));
            }
            Err(_) if directories.iter().any(|planned| planned == path.as_path()) => {}
            Err(_) => directories.push(path.as_path().to_owned()),
        }
    }
    // Nobody else holds the lock, so what is in progress is what died under ours.
    let left = |release: &&Release| matches!(release.state, State::Broken | State::InProgress);
    let broken = match root {
        Some(root) => {
            let releases = root.all_releases()?;
            releases.iter().filter(left).map(|release| release.version.clone()).collect()
        }
        None => Vec::new(),
    };
    let warnings = shared_links(&options.shared_paths, &options.shared_files).warnings;
    Ok(Plan { version, directories, broken, warnings })
}

fn start(options: &Options, context: &Context) -> Result<Outcome, Failure> {
    let layout = options.layout();
    let existing = Root::open_if_there(&layout)?;
    if let Some(root) = &existing {
        require_free(options, root)?;
    }
    let plan = plan(options, existing.as_ref())?;
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
        std::fs::create_dir_all(path)
            .or_fail("create the directory", path)
            .map_err(|failure| failure.state("Nothing was changed."))?;
    }
    let root = Root::open(layout.clone())?.exclusively()?;
    let lock = Lock::new(LockKind::Deploy, Some(&plan.version), &options.deployer);
    let held = root.take_lock(&lock, options.take_over.as_deref())?;
    // From here on the lock is ours: whatever goes wrong frees it.
    match prepare(options, &plan, &root, held.as_ref()) {
        Ok(warnings) => {
            let broken: Vec<_> = plan.broken.iter().map(Version::as_str).collect();
            Ok(facts(Outcome::new(true))
                .msg(format!("{} is ready for {}", root.describe(), plan.version))
                .value("removed_broken", broken)
                .warnings(warnings))
        }
        Err(failure) => {
            let _ = root.free_lock();
            Err(failure.state("The lock is free again; no release was touched."))
        }
    }
}

/// Fails early, before anything is made, when somebody else deploys.
fn require_free(options: &Options, root: &Root) -> Result<(), Failure> {
    match root.require_unlocked(&options.deployer) {
        Err(failure) => {
            let since = root.lock().ok().flatten().map(|lock| lock.since);
            let taking_over = options.take_over.is_some() && options.take_over == since;
            if taking_over {
                Ok(())
            } else {
                Err(failure)
            }
        }
        Ok(_) => Ok(()),
    }
}

fn prepare(
    options: &Options,
    plan: &Plan,
    root: &Root,
    held: Option<&Lock>,
) -> Result<Vec<String>, Failure> {
    let mut warnings = Vec::new();
    for path in &plan.directories {
        if let Ok(path) = RelPath::new(path) {
            root.dir().ensure_below(&path)?;
        }
    }
    if let Some(held) = held {
        if let Some(version) = held.version.clone().and_then(|version| Version::new(version).ok()) {
            let history = root.history()?;
            if history.latest(&version).is_some_and(|record| record.ended.is_none()) {
                let reason = Some("its controlling process died".to_owned());
                root.record(&version, EventKind::Ended { outcome: Ending::Failed, reason })?;
            }
        }
        if held.deployer != options.deployer {
            warnings
                .push(format!("took over the lock of a deploy that has died: {}", held.describe()));
        }
    }
    let releases = root.releases()?;
    remove::remove_tree(&releases, STAGING_NAME)?;
    for version in replaced::settle(root, &releases)?.1 {
        warnings.push(format!(
            "put the live release {version} back as it was before an interrupted deploy"
        ));
    }
    for version in &plan.broken {
        trash::discard(&releases, version)?;
        root.record(version, EventKind::Removed)?;
    }
    trash::empty_later(&releases, &trash::leftovers(&releases)?)?;
    root.record(&plan.version, Root::started_event(&options.deployer))?;
    if options.staging {
        releases.make_dir(STAGING_NAME, 0o777)?;
    }
    Ok(warnings)
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

fn finish(options: &Options, context: &Context) -> Result<Outcome, Failure> {
    let Some(root) = Root::open_if_there(&options.layout())? else {
        return Ok(Outcome::new(false).msg("there is no deploy root"));
    };
    let Some(lock) = root.require_unlocked(&options.deployer)? else {
        return Ok(Outcome::new(false).msg("nobody deploys here"));
    };
    if context.check_mode {
        return Ok(Outcome::new(true).msg("would free the lock"));
    }
    let root = root.exclusively()?;
    let releases = root.releases()?;
    remove::remove_tree(&releases, STAGING_NAME)?;
    trash::empty_later(&releases, &replaced::settle(&root, &releases)?.0)?;
    if let Some(version) = version_of(options, &lock) {
        // A rollback is noted when it switches.
        if lock.kind == LockKind::Deploy {
            root.record(&version, EventKind::Ended { outcome: Ending::Success, reason: None })?;
        }
    }
    root.free_lock()?;
    Ok(Outcome::new(true).msg("the lock is free"))
}

/// The version in the arguments, else that of the lock.
fn version_of(options: &Options, lock: &Lock) -> Option<Version> {
    options.version.clone().or_else(|| Version::new(lock.version.clone()?).ok())
}

fn fail(options: &Options, context: &Context) -> Result<Outcome, Failure> {
    // What is no deploy root has been complained of before.
    let Ok(Some(root)) = Root::open_if_there(&options.layout()) else {
        return Ok(Outcome::new(false).msg("Nothing was deployed: there is no deploy root."));
    };
    match root.require_unlocked(&options.deployer) {
        Ok(Some(_)) => {}
        Ok(None) => {
            return Ok(Outcome::new(false).msg(what_is_live(&root)?).value("live", live(&root)?))
        }
        // Not ours: neither the lock nor what is in progress.
        Err(_) => {
            return Ok(Outcome::new(false).msg(what_is_live(&root)?).value("live", live(&root)?))
        }
    }
    if context.check_mode {
        return Ok(Outcome::new(true).msg("would remove the unfinished release and free the lock"));
    }
    let root = root.exclusively()?;
    let Some(lock) = root.require_unlocked(&options.deployer)? else {
        return Ok(Outcome::new(false).msg(what_is_live(&root)?));
    };
    let (mut removed, mut put_back) = (None, None);
    let version = version_of(options, &lock);
    if let Some(releases) = root.releases_if_there()? {
        remove::remove_tree(&releases, STAGING_NAME)?;
        let (trash, restored) = replaced::settle(&root, &releases)?;
        trash::empty_later(&releases, &trash)?;
        put_back = restored.first().map(ToString::to_string);
        if let Some(version) = version.as_ref().filter(|_| lock.kind == LockKind::Deploy) {
            let unfinished = root
                .all_releases()?
                .get(version)
                .is_some_and(|release| matches!(release.state, State::InProgress | State::Broken));
            if unfinished {
                let trash = trash::discard(&releases, version)?;
                trash::empty_later(&releases, &[trash])?;
                removed = Some(version.as_str().to_owned());
            }
            let reason = options.reason.clone();
            root.record(version, EventKind::Ended { outcome: Ending::Failed, reason })?;
            if removed.is_some() {
                root.record(version, EventKind::Removed)?;
            }
        }
    }
    root.free_lock()?;
    let active = root.all_releases()?;
    let switched = match &version {
        Some(version) => {
            active.active().is_some_and(|release| release.version == *version)
                && root.history()?.latest(version).is_some_and(|record| record.activated.is_some())
        }
        None => false,
    };
    let mut text = String::new();
    if lock.kind == LockKind::Deploy {
        text = match (switched, &put_back, &removed) {
            (true, _, _) => "The deploy failed after the switch. ".to_owned(),
            (false, Some(version), _) => {
                format!("The deploy failed before the switch; {version} is back as it was. ")
            }
            (false, None, Some(_)) => {
                "The deploy failed before the switch; the unfinished release was removed. "
                    .to_owned()
            }
            (false, None, None) => "The deploy failed before the switch. ".to_owned(),
        };
    }
    text.push_str(&what_is_live(&root)?);
    if let (true, Some(previous)) = (switched, active.previous()) {
        text.push_str(&format!(
            " The release before it, {}, is still there: playbooks/rollback.yml goes back to it.",
            previous.version
        ));
    }
    Ok(Outcome::new(true)
        .msg(text)
        .value("removed", removed)
        .value("put_back", put_back)
        .value("switched", switched)
        .value("live", live(&root)?))
}

fn live(root: &Root) -> Result<Option<String>, Failure> {
    Ok(root.all_releases()?.active().map(|release| release.version.to_string()))
}

/// One sentence.
fn what_is_live(root: &Root) -> Result<String, Failure> {
    let current = root.layout().current_path();
    Ok(match root.all_releases()?.active() {
        Some(release) => {
            let since = release
                .record
                .as_ref()
                .and_then(|record| record.activated)
                .map(|at| format!(", since {}", clock::iso(at)))
                .unwrap_or_default();
            format!("Live is {} ('{}'{since}).", release.version, current.display())
        }
        None => format!("Nothing is live: '{}' leads to no release.", current.display()),
    })
}

fn unlock(options: &Options, context: &Context) -> Result<Outcome, Failure> {
    let Some(root) = Root::open_if_there(&options.layout())? else {
        return Ok(Outcome::new(false).msg("there is no deploy root"));
    };
    let lock = root.lock();
    let held = match &lock {
        Ok(None) => return Ok(Outcome::new(false).msg("the lock is free")),
        Ok(Some(lock)) => lock.describe(),
        Err(_) => "a lock that cannot be understood".to_owned(),
    };
    if context.check_mode {
        return Ok(Outcome::new(true).msg(format!("would free the lock: {held}")));
    }
    // With the mutex: not under the hands of a module that is at work.
    let root = root.exclusively()?;
    root.free_lock()?;
    let lock = lock.ok().flatten().map(|lock| json!(lock));
    Ok(Outcome::new(true).msg(format!("freed the lock: {held}")).value("lock", lock))
}
