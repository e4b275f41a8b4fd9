//! Deletes releases that are too old, broken or rolled back from.
//!
//! Does: renames them out of the way, then removes them, by default in a process that
//! the play does not wait for. Requires: nothing. After a failure: what was renamed is
//! out of the way and is removed by the next deploy; the others are whole.

mod docs;

use oxistrano_core::json::json;
use oxistrano_core::{Context, Diff, Dir, Documentation, Failure, Literal, Module, Outcome};
use oxistrano_releases::{
    EventKind, Release, Releases, Root, State, Version, release_options, spare, trash,
};

release_options! {
    /// The options of `release_prune`.
    pub struct Options {
        /// How many complete releases to keep, the live one included; V(0): all. Broken releases and
        /// those that were rolled back from are never counted and, unless this is V(0), never kept.
        keep: u32, default = Some(Literal::Number(0));
        /// Keep the release before the live one, the target of a rollback, even with O(keep=1).
        keep_previous: bool, default = Some(Literal::Flag(true));
        /// Delete these as well. The live one and the one in progress are refused.
        versions: Vec<Version>;
        /// In check mode, the release that the deploy would have made live.
        version: Option<Version>;
        /// Wait for the removal. Otherwise the releases are renamed out of the way, and a detached
        /// process of low priority removes them.
        wait: bool, default = Some(Literal::Flag(false));
        /// V(true): keep the newest of the releases that O(keep) removes as raw material for the
        /// next one, hidden among the releases, so that M(oxistrano.deploy.release_unpack) only
        /// writes what has changed. There is at most one. It is kept only if a quarter of the file
        /// system is free, in bytes and in inodes, or 20 GB and 2,000,000 inodes are; otherwise,
        /// and with V(false), an existing one is removed. If this is not given, none is made and an
        /// existing one stays.
        spare: Option<bool>;
    }
}

/// The module.
pub struct ReleasePrune;

/// The module as a program.
pub const PROGRAM: oxistrano_core::Program = oxistrano_releases::program::<ReleasePrune>();

impl Module for ReleasePrune {
    type Options = Options;
    const NAME: &'static str = "release_prune";
    const DOCUMENTATION: Documentation = docs::DOCUMENTATION;

    fn run(options: Options, context: &Context) -> Result<Outcome, Failure> {
        let Some(root) = Root::open_if_there(&options.layout())? else {
            return Ok(Outcome::new(false).msg("there is no deploy root"));
        };
        let (root, _) = root.changing(&options.deployer, context.check_mode)?;
        let releases = root.all_releases()?;
        let mut doomed = plan(&options, &releases)?;
        let mut busy = Vec::new();
        for version in std::mem::take(&mut doomed) {
            match root.is_busy(&version)? {
                true if options.versions.contains(&version) => {
                    return Err(refused(&version, "a command runs in it"));
                }
                true => busy.push(root.busy(&version)),
                false => doomed.push(version),
            }
        }
        let dir = root.releases_if_there()?;
        let there = dir.as_ref().map(spare::find).transpose()?.flatten();
        let kept = match &dir {
            None => Kept::AsItIs,
            Some(dir) => match options.spare {
                None => Kept::AsItIs,
                Some(true) if spare::has_room(dir)? => {
                    let of_age = |version: &&Version| !options.versions.contains(version);
                    doomed.iter().find(of_age).cloned().map_or(Kept::AsItIs, Kept::Newest)
                }
                Some(_) => Kept::None,
            },
        };
        let gives_up = there.is_some() && matches!(kept, Kept::None);
        let names: Vec<_> = doomed.iter().map(ToString::to_string).collect();
        let unrecognised: Vec<_> = releases
            .in_state(State::Unrecognised)
            .map(|release| release.version.to_string())
            .collect();
        let mut outcome = Outcome::new(!doomed.is_empty() || gives_up)
            .value("files", releases.as_found(&root))
            .value("matched", releases.iter().count())
            .value("removed", names.clone())
            .value("unrecognised", unrecognised.clone())
            .diff(diff(&root, &releases, &doomed));
        if !unrecognised.is_empty() && options.keep > 0 {
            outcome = outcome.warning(format!(
                "not removed from '{}', because no deploy is known to have made them: {}",
                root.layout().releases_path().display(),
                unrecognised.join(", ")
            ));
        }
        outcome = outcome.warnings(releases.warnings(&root)).warnings(busy);
        let mut done: Vec<_> = (!doomed.is_empty()).then(|| names.join(", ")).into_iter().collect();
        done.extend(gives_up.then(|| "the spare".to_owned()));
        let done = done.join(" and ");
        if context.check_mode || done.is_empty() {
            let would = match done.is_empty() {
                true => "nothing to remove".into(),
                false => format!("would remove {done}"),
            };
            return Ok(outcome.msg(would).value("spare", json!(there)));
        }
        let dir = root.releases()?;
        let (trash, stays) = set_aside(&root, &dir, &doomed, &kept);
        outcome = outcome.value("spare", json!(spare::find(&dir)?));
        if options.wait {
            let state = "They are renamed; the next deploy removes what is left.";
            let removed = trash::empty(&dir, trash).map_err(|failure| failure.state(state));
            stays.map_or(Ok(()), Err)?;
            let removed = removed?;
            outcome = outcome
                .value("removed_files", removed.files)
                .value("removed_directories", removed.directories);
        } else {
            outcome = outcome.warnings(trash::empty_later(&dir, &trash));
            stays.map_or(Ok(()), Err)?;
        }
        Ok(outcome.msg(format!("removed {done}")))
    }
}

/// What becomes of the spare.
enum Kept {
    /// This release is to be it.
    Newest(Version),
    /// Nothing.
    AsItIs,
    /// There is to be none.
    None,
}

/// Takes one release out of the way: as the spare, or as trash. Comes back with what is trash now.
fn out_of_the_way(dir: &Dir, version: &Version, kept: &Kept) -> Result<Vec<trash::Item>, Failure> {
    if !matches!(kept, Kept::Newest(newest) if newest == version) {
        return Ok(vec![trash::discard(dir, version)?]);
    }
    let mut trash: Vec<_> = spare::discard(dir)?.into_iter().collect();
    // What cannot be renamed cannot be it.
    if !spare::keep(dir, version).unwrap_or(false) {
        trash.push(trash::discard(dir, version)?);
    }
    Ok(trash)
}

/// Takes releases out of the way. One that stays (somebody has mounted something there, or made it
/// immutable) does not keep the others; the first of those is the failure, which says of each what
/// has become of it.
fn set_aside(
    root: &Root,
    dir: &Dir,
    doomed: &[Version],
    kept: &Kept,
) -> (Vec<trash::Item>, Option<Failure>) {
    let (mut trash, mut stays) = (Vec::new(), None);
    if matches!(kept, Kept::None) {
        match spare::discard(dir) {
            Ok(item) => trash.extend(item),
            Err(failure) => stays = Some(failure),
        }
    }
    let mut gone = Vec::new();
    let mut unnoted = Vec::new();
    let mut parts = Vec::new();
    let mut left = Vec::new();
    for version in doomed {
        let noted = match out_of_the_way(dir, version, kept) {
            Ok(items) => {
                trash.extend(items);
                root.record(version, EventKind::Removed)
            }
            Err(failure) => {
                let in_part = trash::is_going(dir, version).unwrap_or(false);
                if in_part { &mut parts } else { &mut left }.push(version.as_str());
                stays.get_or_insert(failure);
                continue;
            }
        };
        match noted {
            Ok(()) => gone.push(version.as_str()),
            Err(failure) => {
                unnoted.push(version.as_str());
                stays.get_or_insert(failure);
            }
        }
    }
    let told: [(&str, Vec<&str>); 4] = [
        ("Out of the way", gone),
        ("Renamed, but not recorded in the history", unnoted),
        ("Removed in part, the rest by the next deploy", parts),
        ("Still there", left),
    ];
    let told = told.iter().filter(|(_, versions)| !versions.is_empty());
    let told: Vec<_> =
        told.map(|(what, versions)| format!("{what}: {}.", versions.join(", "))).collect();
    (trash, stays.map(|failure| failure.instead_of_state(told.join(" "))))
}

/// Chooses; the live release, the one in progress and (unless told) the previous one are
/// never among them.
fn plan(options: &Options, releases: &Releases) -> Result<Vec<Version>, Failure> {
    let mut doomed = Vec::new();
    if options.keep > 0 {
        // In check mode the new release is missing; what is live would only be complete.
        let upcoming = options.version.as_ref().filter(|version| releases.get(version).is_none());
        let before = releases.active().filter(|_| upcoming.is_some());
        let previous = before.or(releases.previous()).map(|release| &release.version);
        let previously_active = if before.is_some() { None } else { releases.previously_active() };
        let protected = |version: &Version| {
            options.keep_previous
                && (Some(version) == previous || Some(version) == previously_active)
        };
        let is_live = |release: &Release| release.state == State::Active && upcoming.is_none();
        // Those that stay in any case have their places before those that are merely newer.
        let mut kept = u32::from(upcoming.is_some());
        for release in releases.iter() {
            kept += u32::from(is_live(release) || protected(&release.version));
        }
        for release in releases.iter() {
            match release.state {
                State::InProgress | State::Unrecognised => {}
                // For what the rest of the history says, nothing is removed that it may be wrong of.
                State::Broken | State::RolledBack if release.doubtful => {}
                State::Broken | State::RolledBack => doomed.push(release.version.clone()),
                State::Active | State::Complete
                    if is_live(release) || protected(&release.version) => {}
                State::Active | State::Complete if kept < options.keep => kept += 1,
                State::Active | State::Complete if release.doubtful => {}
                State::Active | State::Complete => doomed.push(release.version.clone()),
            }
        }
    }
    for version in &options.versions {
        match releases.get(version).map(|release| release.state) {
            None => {}
            Some(State::Active) => return Err(refused(version, "it is live")),
            Some(State::InProgress) => return Err(refused(version, "it is being deployed")),
            Some(_) if doomed.contains(version) => {}
            Some(_) => doomed.push(version.clone()),
        }
    }
    Ok(doomed)
}

fn refused(version: &Version, why: &str) -> Failure {
    Failure::new("release_in_use", format!("refusing to remove release {version}"))
        .cause(why)
        .state("Nothing was changed.")
}

fn diff(root: &Root, releases: &Releases, doomed: &[Version]) -> Diff {
    let line = |version: &Version, state: &str| format!("{version}: {state}");
    let all = releases.iter().map(|release| line(&release.version, release.state.word()));
    let left = releases.iter().filter(|release| !doomed.contains(&release.version));
    Diff {
        header: root.layout().releases_path().display().to_string(),
        before: all.collect(),
        after: left.map(|release| line(&release.version, release.state.word())).collect(),
    }
}
