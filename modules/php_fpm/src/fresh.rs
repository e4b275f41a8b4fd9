//! Whether php-fpm would serve old code after the switch, and whether opcache has room for the next release.
//!
//! opcache has a key for a script's real path and, if it was requested by a path with a link, a key
//! for that path, too; with `validate_timestamps=0` it does not resolve that link again. So
//! `…/current/pub/index.php` is a key if and only if a web server passes unresolved paths, and the
//! script of that key is the old one if and only if opcache was not restarted since the switch.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use oxistrano_core::json::{Value, json};
use oxistrano_core::{AbsPath, Failure, IoContext, RelPath};

use crate::options::Method;
use crate::php::{Answer, Php, in_json};

/// The advice for a full cache.
pub const ADVICE: &str = "Raise opcache.memory_consumption and opcache.max_accelerated_files, or \
                          let this module empty the cache (when_full).";

/// The live release, and the paths to it.
#[derive(Debug)]
pub struct Live {
    /// The paths by which web servers may name `current`.
    pub currents: Vec<PathBuf>,
    /// Its real path.
    pub real: PathBuf,
    /// The real path of the directory of the releases.
    pub releases: PathBuf,
    /// Whether `current` is a directory whose files are replaced in place.
    pub directory: bool,
    /// When the link was made, in seconds since the epoch.
    pub switched: u64,
}

impl Live {
    /// Looks.
    ///
    /// # Errors
    /// `nothing_live` if `current` does not exist.
    pub fn look(
        deploy_to: &AbsPath,
        current_dir: &RelPath,
        releases_dir: &RelPath,
        served_as: &[AbsPath],
    ) -> Result<Self, Failure> {
        let current = deploy_to.as_path().join(current_dir);
        let nothing = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => Failure::new(
                "nothing_live",
                format!("'{}' does not point to a release", current.display()),
            )
            .remedy("deploy first, or set deploy_to and current_dir")
            .path(&current)
            .state("Nothing was changed."),
            _ => Failure::io("follow", &current, error),
        };
        let real = fs::canonicalize(&current).map_err(nothing)?;
        let link = fs::symlink_metadata(&current).or_fail("examine", &current)?;
        let releases = deploy_to.as_path().join(releases_dir);
        let releases = fs::canonicalize(&releases).unwrap_or(releases);
        // The path of the deploy root may contain links, too.
        let spelled = fs::canonicalize(deploy_to.as_path()).map(|root| root.join(current_dir));
        let mut currents = vec![current];
        currents.extend(spelled.ok());
        currents.extend(served_as.iter().map(|path| path.as_path().to_owned()));
        currents.sort();
        currents.dedup();
        Ok(Self {
            currents,
            real,
            releases,
            directory: link.is_dir(),
            switched: u64::try_from(link.ctime()).unwrap_or(0),
        })
    }

    /// The name of the live release; `None` if it is not in the directory of the releases.
    pub fn release(&self) -> Option<String> {
        let below = self.real.strip_prefix(&self.releases).ok()?;
        below.components().next().map(|name| name.as_os_str().to_string_lossy().into_owned())
    }

    /// Asks opcache about it.
    ///
    /// # Errors
    /// When the pool does not answer.
    pub fn ask(&self, php: &Php, entry_points: &[RelPath]) -> Result<Answer, Failure> {
        let names = entry_points.iter().map(|entry| in_json(entry.as_path()));
        let currents = self.currents.iter().map(|path| in_json(path));
        php.ask(
            "stale",
            json!({
                "current": currents.collect::<Result<Vec<_>, _>>()?,
                "current_real": in_json(&self.real)?,
                "releases": in_json(&self.releases)?,
                "directory": self.directory,
                "entry_points": names.collect::<Result<Vec<_>, _>>()?,
            }),
        )
    }
}

/// The judgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether old code would be served.
    pub needed: bool,
    /// The reason, without a full stop.
    pub why: String,
}

/// Decides by opcache's answer; `now` in seconds since the epoch.
pub fn judge(live: &Live, answer: &Answer, now: u64) -> Verdict {
    let verdict = |needed, why: String| Verdict { needed, why };
    // Within the same second, the order is not known.
    let restarted = answer.cached_since() > live.switched;
    let checks = answer.flag("/validate_timestamps");
    let frequency = answer.number("/revalidate_freq");
    if live.directory {
        let scripts = answer.number("/inplace/scripts");
        if scripts == 0 {
            return verdict(false, "opcache holds no script of the live release".to_owned());
        }
        if checks {
            let why = format!("opcache sees changed files by itself within {frequency} s");
            return verdict(false, why);
        }
        return if answer.number("/inplace/changed") < answer.cached_since() {
            verdict(false, "no cached file was replaced since opcache was started".to_owned())
        } else {
            let why = "current is a directory whose files were replaced, and opcache does not \
                check their times (validate_timestamps=0)";
            verdict(true, why.to_owned())
        };
    }
    let ttl = answer.number("/realpath_cache_ttl");
    // If times are checked, only the workers' caches of paths are old, and these expire.
    let expired = checks && now.saturating_sub(live.switched) > ttl.max(frequency);
    let how = |paths: &[&str]| {
        let first = paths.first().copied().unwrap_or_default().escape_debug();
        match paths.len() {
            0 | 1 => format!("the web server passes paths through current ('{first}')"),
            more => format!(
                "the web server passes paths through current ('{first}' and {} more)",
                more - 1
            ),
        }
    };
    let (keys, resolved) = (answer.texts("/paths"), answer.texts("/resolved"));
    let seen = if keys.is_empty() { &resolved } else { &keys };
    if seen.is_empty() && !answer.flag("/full") {
        let why =
            "no request has used a path through current since opcache was started ($realpath_root)";
        return verdict(false, why.to_owned());
    }
    if restarted {
        return verdict(false, "opcache was restarted after the switch".to_owned());
    }
    if expired {
        return verdict(false, "the cached old paths have expired".to_owned());
    }
    if seen.is_empty() {
        let why = "opcache is full: it neither keeps new scripts nor records the paths they were \
            requested by, so it may still serve old code";
        return verdict(true, why.to_owned());
    }
    let why = match (keys.is_empty(), checks) {
        (false, false) => "opcache keeps the scripts that these paths led to before the switch",
        _ => "workers remember for a while where these paths led before the switch",
    };
    verdict(true, format!("{}, and {why}", how(seen)))
}

/// A reset does not affect preloaded code, which is part of the master process.
pub fn preloaded(live: &Live, answer: &Answer, method: Option<Method>) -> Option<String> {
    let script = answer.text("/preload");
    let began = answer.number("/statistics/start_time");
    let replaced = matches!(method, Some(Method::Reload | Method::Restart));
    (!script.is_empty() && began <= live.switched && !replaced).then(|| {
        format!(
            "opcache.preload ('{}') ran before the switch, and the code that it loaded stays \
             until php-fpm is reloaded: use state=reloaded.",
            script.escape_debug()
        )
    })
}

/// How much of the cache is left for the next release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// Whether another release as large as the largest one does not fit.
    pub nearly_full: bool,
    /// As the result shows it.
    pub figures: Value,
    warning: String,
}

impl Room {
    /// Judges.
    pub fn of(live: &Live, answer: &Answer) -> Self {
        let releases = answer.value("/releases").as_object();
        let number = |value: &Value, key: &str| value[key].as_u64().unwrap_or(0).min(1 << 53);
        let (mut memory, mut scripts) = (0, 0);
        let (mut dead_memory, mut dead_scripts, mut dead) = (0, 0, 0);
        let active = live.release();
        for (name, release) in releases.into_iter().flatten() {
            memory = memory.max(number(release, "memory"));
            scripts = scripts.max(number(release, "scripts"));
            if Some(name) != active.as_ref() {
                dead += 1;
                dead_memory += number(release, "memory");
                dead_scripts += number(release, "scripts");
            }
        }
        let (free, keys_free) = (answer.number("/memory/free_memory"), answer.keys_free());
        // A script takes a key for each path by which it was requested.
        let all = answer.number("/statistics/num_cached_scripts").max(1);
        let keys = scripts * answer.number("/statistics/num_cached_keys").max(all) / all;
        let full = answer.flag("/full");
        // A directory whose files are replaced needs no room for a second release.
        let nearly_full = full || (!live.directory && (memory > free || keys > keys_free));
        let mb = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1_048_576.0);
        let mut warning = match full {
            true => "opcache is full".to_owned(),
            false => "opcache has no room for another release like this one".to_owned(),
        };
        warning += &format!(
            ": {} and {keys_free} keys are free, a release takes {} and {keys} keys",
            mb(free),
            mb(memory)
        );
        if dead > 0 {
            warning += &format!(
                ", {dead} releases that are not live take {} with {dead_scripts} scripts",
                mb(dead_memory)
            );
        }
        warning += &format!(". {ADVICE}");
        Self {
            nearly_full,
            figures: json!({
                "memory_free": free,
                "keys_free": keys_free,
                "memory_per_release": memory,
                "keys_per_release": keys,
                "dead_releases": dead,
                "dead_memory": dead_memory,
            }),
            warning,
        }
    }

    /// What a person should know.
    pub fn warning(&self) -> Option<String> {
        self.nearly_full.then(|| self.warning.clone())
    }
}

/// The directories in which scripts of any release are.
pub fn directories(live: &Live, answer: &Answer) -> Vec<PathBuf> {
    let releases = answer.value("/releases").as_object();
    let names = releases.into_iter().flatten().map(|(name, _)| Path::new(name));
    // Each must be a single name.
    let names = names.filter(|name| RelPath::new(name).is_ok_and(|name| name.depth() == 1));
    let mut directories: Vec<_> = names.map(|name| live.releases.join(name)).collect();
    directories.push(live.real.clone());
    directories.sort();
    directories.dedup();
    directories
}

#[cfg(test)]
mod tests {
    use super::*;

    const SWITCHED: u64 = 1000;

    fn live(directory: bool) -> Live {
        Live {
            currents: vec!["/srv/shop/current".into()],
            real: if directory { "/srv/shop/current" } else { "/srv/shop/releases/2" }.into(),
            releases: "/srv/shop/releases".into(),
            directory,
            switched: SWITCHED,
        }
    }

    fn answer(restarted: u64, checks: bool, paths: &[&str], resolved: &[&str]) -> Answer {
        Answer::of(json!({
            "opcache": "enabled",
            "validate_timestamps": u8::from(checks),
            "revalidate_freq": 2,
            "realpath_cache_ttl": 120,
            "statistics": {"start_time": 10, "last_restart_time": restarted},
            "paths": paths,
            "resolved": resolved,
        }))
    }

    #[test]
    fn old_code_is_told_from_new() {
        let path = &["/srv/shop/current/pub/index.php"][..];
        for (restarted, checks, paths, resolved, now, needed, why) in [
            // $realpath_root
            (0, false, &[][..], &[][..], 1001, false, "no request has used"),
            // $document_root
            (0, false, path, path, 1001, true, "opcache keeps the script"),
            (0, false, path, path, 9999, true, "opcache keeps the script"),
            (999, false, path, path, 1001, true, "opcache keeps the script"),
            // In the same second: better once too often.
            (1000, false, path, path, 1001, true, "opcache keeps the script"),
            (1001, false, path, path, 1002, false, "restarted after the switch"),
            // Times are checked, but where a link leads is remembered.
            (0, true, &[], path, 1001, true, "workers remember for a while"),
            (0, true, path, path, 1120, true, "workers remember for a while"),
            (0, true, path, path, 1121, false, "have expired"),
            // revalidate_path=1 has no such keys.
            (0, false, &[], path, 1001, true, "workers remember for a while"),
        ] {
            let verdict = judge(&live(false), &answer(restarted, checks, paths, resolved), now);
            assert_eq!(verdict.needed, needed, "{restarted} {checks} {paths:?}: {verdict:?}");
            assert!(verdict.why.contains(why), "{verdict:?}");
        }
    }

    #[test]
    fn a_full_cache_cannot_tell() {
        let full =
            |restarted| Answer::of(json!({"full": true, "statistics": {"start_time": restarted}}));
        let verdict = judge(&live(false), &full(10), 1001);
        assert!(verdict.needed && verdict.why.contains("is full"), "{verdict:?}");
        assert!(!judge(&live(false), &full(1001), 1002).needed);
    }

    #[test]
    fn preloaded_code_needs_a_reload() {
        let answer = |began| {
            Answer::of(json!({"preload": "/srv/p.php", "statistics": {"start_time": began}}))
        };
        let live = live(false);
        let warning = preloaded(&live, &answer(999), Some(Method::Reset)).unwrap();
        assert!(
            warning.contains("'/srv/p.php'") && warning.contains("state=reloaded"),
            "{warning}"
        );
        assert!(preloaded(&live, &answer(999), None).is_some());
        assert_eq!(preloaded(&live, &answer(999), Some(Method::Reload)), None);
        assert_eq!(preloaded(&live, &answer(1001), None), None);
        assert_eq!(preloaded(&live, &Answer::of(json!({})), None), None);
    }

    #[test]
    fn files_that_were_replaced_in_place_are_old() {
        let answer = |scripts, changed, checks: u8| {
            Answer::of(json!({
                "inplace": {"scripts": scripts, "changed": changed},
                "validate_timestamps": checks,
                "statistics": {"start_time": 500},
            }))
        };
        for (scripts, changed, checks, needed) in [
            (0, 0, 0, false),
            (9, 499, 0, false),
            (9, 500, 0, true),
            (9, 501, 0, true),
            (9, 501, 1, false),
        ] {
            let verdict = judge(&live(true), &answer(scripts, changed, checks), 1001);
            assert_eq!(verdict.needed, needed, "{verdict:?}");
        }
    }

    #[test]
    fn room_is_what_the_largest_release_would_need() {
        let answer = |free: u64, keys: u64| {
            Answer::of(json!({
                "memory": {"free_memory": free},
                "statistics": {"num_cached_scripts": 200, "num_cached_keys": keys, "max_cached_keys": 1000},
                "releases": {
                    "1": {"scripts": 100, "memory": 5_000_000},
                    "2": {"scripts": 90, "memory": 4_000_000},
                },
            }))
        };
        let room = Room::of(&live(false), &answer(6_000_000, 400));
        assert!(!room.nearly_full && room.warning().is_none(), "{room:?}");
        assert_eq!(room.figures["dead_memory"], 5_000_000);
        assert_eq!(room.figures["keys_per_release"], 200);
        let room = Room::of(&live(false), &answer(4_999_999, 400));
        let warning = room.warning().unwrap();
        assert!(warning.contains("1 releases that are not live take 4.8 MB"), "{warning}");
        assert!(Room::of(&live(false), &answer(6_000_000, 900)).nearly_full);
        assert!(!Room::of(&live(true), &answer(4_999_999, 400)).nearly_full);
    }

    #[test]
    fn directories_stay_where_the_releases_are() {
        let answer = Answer::of(json!({"releases": {"1": {}, "..": {}, "/etc": {}, "a/b": {}}}));
        let found = directories(&live(false), &answer);
        assert_eq!(found, ["/srv/shop/releases/1", "/srv/shop/releases/2"].map(PathBuf::from));
    }
}
