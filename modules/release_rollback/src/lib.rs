//! Goes back to an earlier release.
//!
//! Does: chooses the release, takes the lock, switches, remembers why the bad one was
//! left. Requires: a complete release to go to. After a failure: `current` leads where it
//! led before.

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
        /// V(active) switches. V(chosen) only chooses the release and takes the deploy lock, for a play
        /// that does something before the switch; M(oxistrano.deploy.release_setup) with C(state=finished)
        /// frees the lock.
        state: Step, default = Some(Literal::Text("active"));
        /// The release to go to. If it is not given or empty, the newest complete release before the
        /// live one that has not been rolled back from.
        version: Option<String>;
        /// The reason; kept in the history with the release that is left.
        reason: Option<String>;
        /// How O(current_dir) leads to the release. If it is not given, the way it does now.
        current_via: Option<Via>;
        /// If O(current_dir) is a directory, directories that stay links to O(shared_dir).
        shared_paths: Vec<RelPath>;
        /// If O(current_dir) is a directory, files that stay links to O(shared_dir).
        shared_files: Vec<RelPath>;
        /// First free the lock, whoever holds it. Only if you know that nobody deploys.
        unlock: bool, default = Some(Literal::Flag(false));
        /// Take the lock from the holder who took it at this time. The action plugin sets it when
        /// it has found that the controlling process of that deploy has died.
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
        // In check mode the lock that would be freed is still there.
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
            // The switch is shown by the step that does it.
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

/// For check mode: what visitors would get in place of what they get.
fn compare(
    root: &Root,
    releases: &Releases,
    target: &Release,
    shared: &[RelPath],
) -> Result<Option<Comparison>, Failure> {
    let files = |leave: &[RelPath]| Files::of(&root.releases()?.open_dir(&target.version)?, leave);
    Comparison::with_live(root, releases, files, shared)
}

/// Takes the lock, unless the caller holds it already: for the rollback that this is a
/// step of, or for a deploy that goes back in a hook and goes on after it. Returns whether
/// it has to be freed again.
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
    // Noted first: who is killed in between has judged the release all the same, and it must
    // not be gone back to.
    let user = oxistrano_releases::local_user();
    let (target, reason) = (to.version.to_string(), options.reason.as_deref().map(Root::reason));
    root.record(from, EventKind::RolledBack { to: target, reason, user })?;
    // A release that was live is on the disk; and a rollback must not wait for a slow one.
    plan.apply(root, false).inspect_err(|_| {
        let still_live =
            root.all_releases().is_ok_and(|all| all.active().is_some_and(|r| r.version == *from));
        if still_live {
            let again = EventKind::Activated { revision: None, shared: Vec::new() };
            let _ = root.record(from, again);
        }
    })
}

/// The release to go to.
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
            let failure = cannot("there is no complete release before the live one".to_owned());
            match candidates() {
                names if names.is_empty() => failure,
                names => failure.remedy(format!(
                    "name the one to go to (ansistrano_rollback_to_release): {}",
                    names.join(", ")
                )),
            }
        });
    };
    let version =
        Version::new(name).map_err(|why| cannot(why).path(root.layout().releases_path()))?;
    match releases.get(&version) {
        None => Err(cannot(format!("there is no release {version}")).remedy(match candidates() {
            names if names.is_empty() => "deploy it".to_owned(),
            names => format!("there are: {}", names.join(", ")),
        })),
        Some(release) => match release.state {
            State::Active | State::Complete | State::RolledBack => Ok(release),
            _ if release.doubtful => {
                let failure =
                    cannot(format!("it cannot be told whether release {version} was live"));
                Err(releases.warnings(root).into_iter().fold(failure, Failure::remedy))
            }
            State::Unrecognised => Err(cannot(format!(
                "release {version} is unrecognised: no deploy that is known of has made it, and it has \
                 no file {REVISION}, so it cannot be told whether it is whole"
            ))
            .remedy(format!(
                "if it was live once, make that file (touch {}) and try again",
                root.layout().release_path(&version).join(REVISION).display()
            ))),
            state => Err(cannot(format!(
                "release {version} is {}: its deploy never reached the switch",
                state.word()
            ))),
        },
    }
}

/// What every result says.
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
