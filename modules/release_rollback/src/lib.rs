//! Goes back to an earlier release.
//!
//! Does: chooses the release, takes the lock, switches, records why. Requires: a complete release
//! to go to. After a failure: `current` leads where it led before.

mod docs;

use oxistrano_core::{Context, Diff, Documentation, Failure, Literal, Module, Outcome, RelPath};
use oxistrano_releases::{
    Comparison, EventKind, Lock, LockKind, REVISION, Release, Releases, Root, State, Version, Via,
    release_options, shared_links, switch, trash,
};
use oxistrano_tree::Files;

oxistrano_core::choices! {
    /// How far to go.
    pub enum Step {
        /// Choose and take the lock.
        Chosen = "chosen",
        /// Switch.
        Active = "active",
    }
}

release_options! {
    /// The options of `release_rollback`.
    pub struct Options {
        /// V(active) switches to the earlier release. V(chosen) only chooses the release and takes
        /// the deploy lock, for a play that does something before the switch;
        /// M(oxistrano.deploy.release_setup) with C(state=finished) frees the lock.
        state: Step, default = Some(Literal::Text("active"));
        /// The release to go back to. By default, or if this is empty, the newest complete release
        /// before the live one that has not been rolled back.
        version: Option<String>;
        /// Why you roll back. The history records it with the release that was live.
        reason: Option<String>;
        /// Whether O(current_dir) becomes a symbolic link to the release or a copy of it. By
        /// default it stays what it is.
        current_via: Option<Via>;
        /// Directories that releases share, relative to O(shared_dir). Only needed if
        /// O(current_dir) is a directory, where they stay links.
        shared_paths: Vec<RelPath>;
        /// Files that releases share; otherwise as O(shared_paths).
        shared_files: Vec<RelPath>;
        /// Free the lock first, no matter which deploy holds it. Use this only if you know that no deploy is running.
        unlock: bool, default = Some(Literal::Flag(false));
        /// Take over the lock that was taken at this time. The action plugin sets it when it has
        /// found that the controlling process of that deploy has died.
        take_over: Option<String>, internal = true;
    }
}

/// The module.
pub struct ReleaseRollback;

/// The module as a program.
pub const PROGRAM: oxistrano_core::Program = oxistrano_releases::program::<ReleaseRollback>();

impl Module for ReleaseRollback {
    type Options = Options;
    const NAME: &'static str = "release_rollback";
    const DOCUMENTATION: Documentation = docs::DOCUMENTATION;

    fn run(options: Options, context: &Context) -> Result<Outcome, Failure> {
        let mut warnings = Vec::new();
        if options.unlock {
            let freed = Root::open(options.layout())?.unlock(context.check_mode)?;
            warnings.extend(freed.map(|(held, _)| format!("freed the lock: {held}")));
        }
        let root = Root::open(options.layout())?;
        let since = root.lock().ok().flatten().map(|lock| lock.since);
        let taking_over = options.take_over.is_some() && options.take_over == since;
        // In check mode the lock that would be freed still exists.
        if !taking_over && !options.unlock {
            root.require_unlocked(&options.deployer)?;
        }
        let root = if context.check_mode { root } else { root.exclusively()? };
        let releases = root.all_releases()?;
        let named = options.version.as_deref().filter(|name| !name.is_empty());
        let target = choose(&root, &releases, named)?;
        warnings.extend(releases.warnings(&root));
        let from = releases.active().map(|release| release.version.clone());
        let result = facts(&root, &releases, from.as_ref(), target);
        let chosen = format!("going back to {}", target.version);
        let via = options.current_via.or(releases.via()).unwrap_or(Via::Symlink);
        let shared = shared_links(&options.shared_paths, &options.shared_files).paths;
        let plan = switch::plan(&root, &target.version, via, &shared)?;
        if context.check_mode {
            let revision = |version| switch::revision(&root, version);
            let outcome = Outcome::new(true)
                .msg(format!("would go back to {}", target.version))
                .value("from_revision", from.as_ref().and_then(revision))
                .value("to_revision", revision(&target.version))
                .warnings(warnings);
            let compared = match context.diff && options.state == Step::Active {
                true => compare(&root, &releases, target, &shared)?,
                false => None,
            };
            // Only the step that switches shows the switch.
            let diff = match options.state {
                Step::Active => plan.diff(&root),
                Step::Chosen => Diff {
                    header: options.deploy_to.to_string(),
                    before: vec!["lock: free".to_owned()],
                    after: vec![format!("lock: rollback to {}", target.version)],
                },
            };
            return Ok(result(match compared {
                Some(compared) => compared.tell(outcome, diff),
                None => outcome.diff(diff),
            }));
        }
        let (own_lock, taken) = take_lock(&options, &root, &target.version)?;
        warnings.extend(taken);
        if options.state == Step::Chosen {
            return Ok(result(Outcome::new(true).msg(chosen).warnings(warnings)));
        }
        let diff = plan.diff(&root);
        let switched = switch_back(&options, &root, &plan, from.as_ref(), target);
        if own_lock {
            root.free_lock()?;
        }
        let switched = switched?;
        warnings.extend(switched.warnings);
        warnings.extend(trash::empty_later(&root.releases()?, &switched.trash));
        Ok(result(Outcome::new(switched.changed))
            .msg(format!("{} is live now", target.version))
            .diff(diff)
            .warnings(warnings))
    }
}

/// For check mode: compares the target with the live release.
fn compare(
    root: &Root,
    releases: &Releases,
    target: &Release,
    shared: &[RelPath],
) -> Result<Option<Comparison>, Failure> {
    let files = |leave: &[RelPath]| Files::of(&root.releases()?.open_dir(&target.version)?, leave);
    Comparison::with_live(root, releases, files, shared)
}

/// Takes the lock, unless the caller already holds it, for a rollback in several steps or a deploy
/// with a rollback in a hook. Returns whether it has to be freed.
fn take_lock(
    options: &Options,
    root: &Root,
    target: &Version,
) -> Result<(bool, Vec<String>), Failure> {
    let held = root.lock()?;
    if held.as_ref().is_some_and(|lock| lock.deployer == options.deployer) {
        return Ok((false, Vec::new()));
    }
    let lock = Lock::new(LockKind::Rollback, Some(target), &options.deployer);
    let died = root.take_lock(&lock, options.take_over.as_deref())?;
    let warnings = root.bury(died, &options.deployer)?;
    Ok((options.state == Step::Active, warnings))
}

fn switch_back(
    options: &Options,
    root: &Root,
    plan: &switch::Plan,
    from: Option<&Version>,
    to: &Release,
) -> Result<switch::Switched, Failure> {
    let Some(from) = from.filter(|from| **from != to.version) else {
        return plan.apply(root, false);
    };
    // Recorded before the switch: if this process is killed in between, the release must still count as rolled back.
    let user = oxistrano_releases::local_user();
    let (target, reason) = (to.version.to_string(), options.reason.as_deref().map(Root::reason));
    root.record(from, EventKind::RolledBack { to: target, reason, user })?;
    // A release that was live is already on the disk, and a rollback must not wait for a slow disk.
    plan.apply(root, false).inspect_err(|_| {
        let still_live =
            root.all_releases().is_ok_and(|all| all.active().is_some_and(|r| r.version == *from));
        if still_live {
            let again = EventKind::Activated { revision: None, shared: Vec::new() };
            let _ = root.record(from, again);
        }
    })
}

/// Chooses the target.
fn choose<'a>(
    root: &Root,
    releases: &'a Releases,
    named: Option<&str>,
) -> Result<&'a Release, Failure> {
    let cannot = |cause: String| {
        Failure::new("cannot_roll_back", format!("cannot roll back {}", root.describe()))
            .cause(cause)
            .state(match releases.active() {
                Some(active) => format!("Nothing was changed; {} is live.", active.version),
                None => "Nothing was changed; nothing is live.".to_owned(),
            })
    };
    let candidates = || -> Vec<_> {
        releases
            .iter()
            .filter(|release| matches!(release.state, State::Complete | State::RolledBack))
            .map(|release| release.version.to_string())
            .collect()
    };
    let Some(name) = named else {
        return releases.previous().ok_or_else(|| {
            let failure = cannot("there is no earlier complete release".to_owned());
            match candidates() {
                names if names.is_empty() => failure,
                names => failure.remedy(format!(
                    "name the release to go back to (ansistrano_rollback_to_release): {}",
                    names.join(", ")
                )),
            }
        });
    };
    let version =
        Version::new(name).map_err(|why| cannot(why).path(root.layout().releases_path()))?;
    match releases.get(&version) {
        None => {
            Err(cannot(format!("release {version} does not exist")).remedy(match candidates() {
                names if names.is_empty() => "deploy it first".to_owned(),
                names => format!("these exist: {}", names.join(", ")),
            }))
        }
        Some(release) => match release.state {
            State::Active | State::Complete | State::RolledBack => Ok(release),
            _ if release.doubtful => {
                let failure =
                    cannot(format!("it is not known whether release {version} was ever live"));
                Err(releases.warnings(root).into_iter().fold(failure, Failure::remedy))
            }
            State::Unrecognised => Err(cannot(format!(
                "release {version} is unrecognised: no known deploy has made it, and it has no \
                 file {REVISION}, so it is not known whether it is complete"
            ))
            .remedy(format!(
                "if it has been live before, create that file (touch {}) and try again",
                root.layout().release_path(&version).join(REVISION).display()
            ))),
            state => Err(cannot(format!(
                "release {version} is {}: its deploy never reached the switch",
                state.word()
            ))),
        },
    }
}

/// The values of every result.
fn facts<'a>(
    root: &'a Root,
    releases: &'a Releases,
    from: Option<&'a Version>,
    target: &'a Release,
) -> impl Fn(Outcome) -> Outcome + 'a {
    move |outcome| {
        outcome
            .value("from", from.map(Version::as_str))
            .value("to", target.version.as_str())
            .value("previous", releases.previous().map(|release| release.version.as_str()))
            .value(
                "release_path",
                root.layout().release_path(&target.version).display().to_string(),
            )
            .value("releases_path", root.layout().releases_path().display().to_string())
            .value("files", releases.as_found(root))
            .value("matched", releases.iter().count())
            .value("releases", releases.iter().map(Release::to_json).collect::<Vec<_>>())
    }
}
