//! Deletes old, broken and rolled back releases.
//!
//! Does: renames them out of the way, then removes them, by default in a process that the play does
//! not wait for. Requires: nothing. After a failure: the next deploy removes those that were
//! renamed; the others are complete.

mod docs;

use oxistrano_core::json::json;
use oxistrano_core::{Context, Diff, Dir, Documentation, Failure, Literal, Module, Outcome};
use oxistrano_releases::{
    EventKind, Indexes, Release, Releases, Root, State, Version, release_options, spare, trash,
};

release_options! {
    /// The options of `release_prune`.
    pub struct Options {
        /// How many complete releases to keep, including the live one. With V(0) no release is
        /// removed because of its age or state. Broken and rolled back releases do not count, and
        /// are removed unless this is V(0).
        keep: u32, default = Some(Literal::Number(0));
        /// Keep the release that a rollback would go to, even with O(keep=1).
        keep_previous: bool, default = Some(Literal::Flag(true));
        /// Releases to remove in addition. The live release and the one that is being deployed are refused.
        versions: Vec<Version>;
        /// In check mode, the release that the deploy would make live.
        version: Option<Version>;
        /// Wait until the releases are deleted. Otherwise they are only renamed, and a background
        /// process of low priority deletes them.
        wait: bool, default = Some(Literal::Flag(false));
        /// With V(true), the newest of the releases that O(keep) removes is kept as the spare: a
        /// hidden directory from which M(oxistrano.deploy.release_unpack) or
        /// M(oxistrano.deploy.release_copy) builds the next release, so that it writes only what has
        /// changed. There is at most one spare. It is kept only if
        /// a quarter of the file system is free, in bytes and in inodes, or 20 GB and 2,000,000
        /// inodes are free; otherwise, and with V(false), an existing spare is removed. By default
        /// no spare is made, and an existing one stays.
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
            return Ok(Outcome::new(false).msg("the deploy root does not exist"));
        };
        let (root, _) = root.changing(&options.deployer, context.check_mode)?;
        let releases = root.all_releases()?;
        let mut doomed = plan(&options, &releases)?;
        let mut busy = Vec::new();
        for version in std::mem::take(&mut doomed) {
            match root.is_busy(&version)? {
                true if options.versions.contains(&version) => {
                    return Err(refused(&version, "a command is running in it"));
                }
                true => busy.push(root.busy(&version)),
                false => doomed.push(version),
            }
        }
        let dir = root.releases_if_there()?;
        let there = dir.as_ref().map(spare::find).transpose()?.flatten();
        let of_age = |version: &&Version| !options.versions.contains(version);
        let newest = doomed.iter().find(of_age).cloned();
        let lacks = match (&dir, options.spare) {
            (Some(dir), Some(true)) => spare::lacks_room(dir)?,
            _ => None,
        };
        let no_spare = lacks.filter(|_| newest.is_some() || there.is_some());
        let kept = match options.spare {
            Some(true) if no_spare.is_none() => newest.map_or(Kept::AsItIs, Kept::Newest),
            Some(_) if dir.is_some() => Kept::None,
            _ => Kept::AsItIs,
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
            .value("no_spare", no_spare.clone())
            .diff(diff(&root, &releases, &doomed));
        if !unrecognised.is_empty() && options.keep > 0 {
            outcome = outcome.warning(format!(
                "these directories in '{}' were not removed, because no known deploy made them: {}",
                root.layout().releases_path().display(),
                unrecognised.join(", ")
            ));
        }
        outcome = outcome.warnings(releases.warnings(&root)).warnings(busy);
        let mut done: Vec<_> = (!doomed.is_empty()).then(|| names.join(", ")).into_iter().collect();
        done.extend(gives_up.then(|| "the spare".to_owned()));
        let mut done = done.join(" and ");
        if let Some(why) = &no_spare {
            let path = root.layout().releases_path();
            done.push_str(&format!(
                "; the next deploy has no spare to build on, for lack of space in '{}' ({why})",
                path.display()
            ));
        }
        if context.check_mode || done.is_empty() {
            let would = match done.is_empty() {
                true => "nothing to remove".into(),
                false => format!("would remove {done}"),
            };
            return Ok(outcome.msg(would).value("spare", json!(there)));
        }
        let dir = root.releases()?;
        let (trash, stays) = set_aside(&root, &dir, &doomed, &kept);
        Indexes::tidy(&root);
        outcome = outcome.value("spare", json!(spare::find(&dir)?));
        if options.wait {
            let state = "The releases are renamed; the next deploy removes what is left of them.";
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

/// What to do with the spare.
enum Kept {
    /// This release becomes the spare.
    Newest(Version),
    /// Keep it.
    AsItIs,
    /// Remove it.
    None,
}

/// Makes one release the spare, or trash. Returns the new trash.
fn out_of_the_way(dir: &Dir, version: &Version, kept: &Kept) -> Result<Vec<trash::Item>, Failure> {
    if !matches!(kept, Kept::Newest(newest) if newest == version) {
        return Ok(vec![trash::discard(dir, version)?]);
    }
    let mut trash: Vec<_> = spare::discard(dir)?.into_iter().collect();
    // A release that cannot be renamed cannot be the spare.
    if !spare::keep(dir, version).unwrap_or(false) {
        trash.push(trash::discard(dir, version)?);
    }
    Ok(trash)
}

/// Renames releases for removal. If one cannot be renamed (a mount, an immutable file), the others
/// still are. The first such error is the failure, and its message has the state of each release.
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
        ("Removed", gone),
        ("Removed, but the history does not record it", unnoted),
        ("Partly removed (the next deploy removes the rest)", parts),
        ("Not removed", left),
    ];
    let told = told.iter().filter(|(_, versions)| !versions.is_empty());
    let told: Vec<_> =
        told.map(|(what, versions)| format!("{what}: {}.", versions.join(", "))).collect();
    (trash, stays.map(|failure| failure.instead_of_state(told.join(" "))))
}

/// Chooses the releases to remove; never the live one, the one in progress and (by default) the previous one.
fn plan(options: &Options, releases: &Releases) -> Result<Vec<Version>, Failure> {
    let mut doomed = Vec::new();
    if options.keep > 0 {
        // In check mode the new release does not exist; after the deploy, the live one would only be complete.
        let upcoming = options.version.as_ref().filter(|version| releases.get(version).is_none());
        let before = releases.active().filter(|_| upcoming.is_some());
        let previous = before.or(releases.previous()).map(|release| &release.version);
        let previously_active = if before.is_some() { None } else { releases.previously_active() };
        let protected = |version: &Version| {
            options.keep_previous
                && (Some(version) == previous || Some(version) == previously_active)
        };
        let is_live = |release: &Release| release.state == State::Active && upcoming.is_none();
        // Those that stay in any case count first.
        let mut kept = u32::from(upcoming.is_some());
        for release in releases.iter() {
            kept += u32::from(is_live(release) || protected(&release.version));
        }
        for release in releases.iter() {
            match release.state {
                State::InProgress | State::Unrecognised => {}
                // Never remove a release that an unreadable line of the history may be about.
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
