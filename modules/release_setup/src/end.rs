//! `state=finished`, `failed` and `unlocked`: ends a deploy.

use oxistrano_core::json::json;
use oxistrano_core::{Context, Diff, Failure, Outcome, clock, remove};
use oxistrano_releases::{
    EventKind, Lock, LockKind, Outcome as Ending, Release, Root, STAGING_NAME, State, Version,
    replaced, spare, switch, trash,
};

use crate::Options;

/// Ends a deploy that succeeded.
pub fn finish(options: &Options, context: &Context) -> Result<Outcome, Failure> {
    let Some(root) = Root::open_if_there(&options.layout())? else {
        return Ok(Outcome::new(false).msg("the deploy root does not exist"));
    };
    // The action plugin has found that the holder has ended, on the same controller.
    let held = root.lock().ok().flatten();
    let ended = held.filter(|lock| Some(&lock.since) == options.take_over.as_ref());
    let deployer = ended.map_or_else(|| options.deployer.clone(), |lock| lock.deployer);
    let (root, lock) = root.changing(&deployer, context.check_mode)?;
    let Some(lock) = lock else {
        return Ok(Outcome::new(false).msg("no deploy is in progress"));
    };
    if context.check_mode {
        return Ok(Outcome::new(true).msg("would free the lock").diff(freed(&root, &lock)));
    }
    // The lock is freed even if a step fails.
    let closed = close_well(options, &root, &lock);
    root.free_lock()?;
    let outcome = Outcome::new(true).msg("the lock is free").diff(freed(&root, &lock));
    Ok(outcome.warnings(closed?))
}

/// What `--diff` shows.
fn freed(root: &Root, lock: &Lock) -> Diff {
    let kind = match lock.kind {
        LockKind::Deploy => "deploy of",
        LockKind::Rollback => "rollback to",
    };
    let held = format!("lock: {kind} {}", lock.version.as_deref().unwrap_or("a release"));
    Diff {
        header: root.layout().deploy_to.to_string(),
        before: vec![held],
        after: vec!["lock: free".to_owned()],
    }
}

fn close_well(options: &Options, root: &Root, lock: &Lock) -> Result<Vec<String>, Failure> {
    let releases = root.releases()?;
    remove::remove_tree(&releases, STAGING_NAME)?;
    switch::note_what_is_live(root, &releases)?;
    let (trash, _) = replaced::settle(root, &releases)?;
    let mut warnings: Vec<_> = trash::empty_later(&releases, &trash).into_iter().collect();
    // A rollback was recorded by its switch.
    let version = version_of(options, lock).filter(|_| lock.kind == LockKind::Deploy);
    if let Some(version) = version {
        let history = root.history()?;
        let (outcome, reason) = match history.latest(&version) {
            Some(record) if record.activated.is_some() => (Ending::Success, None),
            _ => (Ending::Failed, Some("the deploy ended before the switch".to_owned())),
        };
        if outcome == Ending::Failed {
            warnings.push(format!(
                "release {version} was never made live, so the history records \
                this deploy as failed"
            ));
        }
        root.record(&version, EventKind::Ended { outcome, reason })?;
    }
    Ok(warnings)
}

/// The version in the arguments, else that of the lock.
fn version_of(options: &Options, lock: &Lock) -> Option<Version> {
    options.version.clone().or_else(|| Version::new(lock.version.clone()?).ok())
}

/// What remains of a failed deploy.
#[derive(Default)]
struct Left {
    removed: Option<String>,
    /// It is the spare now.
    is_spare: bool,
    put_back: Option<String>,
    warnings: Vec<String>,
}

/// Ends a deploy that failed.
pub fn fail(options: &Options, context: &Context) -> Result<Outcome, Failure> {
    // An invalid deploy root was reported by an earlier step.
    let Ok(Some(root)) = Root::open_if_there(&options.layout()) else {
        return Ok(Outcome::new(false).msg("Nothing was deployed: the deploy root does not exist."));
    };
    // Without the lock, the release in progress is not ours either.
    let Ok(Some(held)) = root.require_unlocked(&options.deployer) else {
        return Ok(Outcome::new(false).msg(what_is_live(&root)?).value("live", live(&root)?));
    };
    let diff = freed(&root, &held);
    if context.check_mode {
        return Ok(Outcome::new(true)
            .msg("would remove the unfinished release and free the lock")
            .diff(diff));
    }
    let (root, lock) = root.changing(&options.deployer, false)?;
    let Some(lock) = lock else {
        return Ok(Outcome::new(false).msg(what_is_live(&root)?).value("live", live(&root)?));
    };
    let version = version_of(options, &lock).filter(|_| lock.kind == LockKind::Deploy);
    // The lock is freed even if a step fails.
    let cleared = clear_away(options, &root, version.as_ref());
    root.free_lock()?;
    let left = cleared?;
    let releases = root.all_releases()?;
    let record = version.as_ref().and_then(|version| releases.history().latest(version));
    let is_live =
        releases.active().is_some_and(|release| Some(&release.version) == version.as_ref());
    // The version may have been live before this deploy.
    let switched = is_live && record.is_some_and(|record| record.activated.is_some());
    // A hook may already have rolled back.
    let went_back = record.is_some_and(|record| record.rolled_back.is_some());
    let mut text = match &version {
        Some(_) => format!("{} ", when_it_failed(switched, went_back, &left)),
        None => String::new(),
    };
    text.push_str(&what_is_live(&root)?);
    if let (true, Some(previous)) = (switched, releases.previous()) {
        text.push_str(&format!(
            " The previous release, {}, still exists: to go back to it, run the playbook \
             oxistrano.deploy.rollback.",
            previous.version
        ));
    }
    Ok(Outcome::new(true)
        .msg(text)
        .diff(diff)
        .value("removed", left.removed)
        .value("put_back", left.put_back)
        .value("switched", switched)
        .value("live", live(&root)?)
        .warnings(left.warnings))
}

/// One sentence.
fn when_it_failed(switched: bool, went_back: bool, left: &Left) -> String {
    if switched {
        return "The deploy failed after the switch.".to_owned();
    }
    if went_back {
        return "The deploy failed after the switch, and the release was rolled back.".to_owned();
    }
    match left {
        Left { put_back: Some(version), .. } => {
            format!("The deploy failed before the switch; release {version} is restored.")
        }
        Left { is_spare: true, .. } => {
            "The deploy failed before the switch; the unfinished release is kept as the spare for \
             the next deploy."
                .to_owned()
        }
        Left { removed: Some(_), .. } => {
            "The deploy failed before the switch; the unfinished release was removed.".to_owned()
        }
        _ => "The deploy failed before the switch.".to_owned(),
    }
}

fn clear_away(options: &Options, root: &Root, version: Option<&Version>) -> Result<Left, Failure> {
    let mut left = Left::default();
    let Some(releases) = root.releases_if_there()? else { return Ok(left) };
    remove::remove_tree(&releases, STAGING_NAME)?;
    switch::note_what_is_live(root, &releases)?;
    let (mut trash, restored) = replaced::settle(root, &releases)?;
    left.put_back = restored.first().map(ToString::to_string);
    if let Some(version) = version {
        let all = root.all_releases()?;
        let unfinished = all.get(version).is_some_and(|release| {
            matches!(release.state, State::InProgress | State::Broken) && !release.doubtful
        });
        left.warnings.extend(all.warnings(root));
        let busy = unfinished && root.is_busy(version)?;
        left.warnings.extend(busy.then(|| root.busy(version)));
        let unfinished = unfinished && !busy;
        if unfinished {
            let whole = all.get(version).is_some_and(Release::is_whole);
            left.is_spare =
                options.spare && whole && spare::replace(&releases, version, &mut trash)?;
            if !left.is_spare {
                trash.push(trash::discard(&releases, version)?);
            }
            left.removed = Some(version.to_string());
        }
        let reason = options.reason.as_deref().map(Root::reason);
        root.record(version, EventKind::Ended { outcome: Ending::Failed, reason })?;
        if unfinished {
            root.record(version, EventKind::Removed)?;
        }
    }
    left.warnings.extend(trash::empty_later(&releases, &trash));
    Ok(left)
}

fn live(root: &Root) -> Result<Option<String>, Failure> {
    Ok(root.all_releases()?.active().map(|release| release.version.to_string()))
}

/// One sentence.
fn what_is_live(root: &Root) -> Result<String, Failure> {
    let current = root.layout().current_path();
    Ok(match root.all_releases()?.active() {
        Some(release) => {
            let activated = release.record.as_ref().and_then(|record| record.activated);
            let since =
                activated.map(|at| format!(", since {}", clock::iso(at))).unwrap_or_default();
            format!("Release {} is live ('{}'{since}).", release.version, current.display())
        }
        None => format!("No release is live: '{}' does not point to one.", current.display()),
    })
}

/// Frees the lock, whichever deploy holds it.
pub fn unlock(options: &Options, context: &Context) -> Result<Outcome, Failure> {
    let Some(root) = Root::open_if_there(&options.layout())? else {
        return Ok(Outcome::new(false).msg("the deploy root does not exist"));
    };
    let header = root.layout().deploy_to.to_string();
    let diff = |held: &str| Diff {
        header: header.clone(),
        before: vec![format!("lock: {held}")],
        after: vec!["lock: free".to_owned()],
    };
    match root.unlock(context.check_mode)? {
        None => Ok(Outcome::new(false).msg("the lock is free")),
        Some((held, _)) if context.check_mode => {
            Ok(Outcome::new(true).msg(format!("would free the lock: {held}")).diff(diff(&held)))
        }
        Some((held, lock)) => Ok(Outcome::new(true)
            .msg(format!("freed the lock: {held}"))
            .diff(diff(&held))
            .value("lock", lock.map(|lock| json!(lock)))),
    }
}
