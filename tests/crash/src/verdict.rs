//! What must hold after a module was disturbed, and what a deploy root has come to.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;

use oxistrano_harness::{Manifest, json};

use crate::scene::{SHARED_FILE, SHARED_PATHS, Scene, names};

/// Everything that somebody could see of a deploy root at rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Releases, shared data, `current`.
    pub tree: Manifest,
    /// The names in the state directory.
    pub state: Vec<String>,
    /// What `release_info` says each release is.
    pub releases: BTreeMap<String, String>,
}

impl Seen {
    /// Looks, when nothing works there any more.
    pub fn of(scene: &Scene) -> Self {
        scene.settle();
        let tree = Manifest::of(&scene.root()).without(".oxistrano").renamed(without_number);
        let state = names(&scene.root().join(".oxistrano"));
        Self { tree, state, releases: states(scene) }
    }

    /// The first differences, in words.
    pub fn difference(&self, other: &Self) -> String {
        let mut words = Vec::new();
        let (a, b) = (self.tree.to_string(), other.tree.to_string());
        let (a, b): (Vec<_>, Vec<_>) = (a.lines().collect(), b.lines().collect());
        words.extend(a.iter().filter(|line| !b.contains(line)).map(|line| format!("+{line}")));
        words.extend(b.iter().filter(|line| !a.contains(line)).map(|line| format!("-{line}")));
        if self.state != other.state {
            words.push(format!("state directory: {:?}, not {:?}", self.state, other.state));
        }
        if self.releases != other.releases {
            words.push(format!("releases: {:?}, not {:?}", self.releases, other.releases));
        }
        words.truncate(6);
        let words: Vec<_> = words
            .iter()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        words.join("; ")
    }
}

/// A release that is set aside has a number in its name that is another one each time.
fn without_number(name: &OsStr) -> OsString {
    match name.to_str().and_then(|name| name.strip_prefix(".oxistrano-replaced-")) {
        Some(rest) => format!(
            ".oxistrano-replaced-N{}",
            rest.trim_start_matches(|c: char| c.is_ascii_digit())
        )
        .into(),
        None => name.to_owned(),
    }
}

/// What `release_info` says each release is.
pub fn states(scene: &Scene) -> BTreeMap<String, String> {
    let arguments = json!({"deploy_to": scene.root().to_str()});
    let said = scene.programs.run("release_info", &arguments, &[]);
    let value = said.value.unwrap_or_default();
    let releases = value["releases"].as_array().cloned().unwrap_or_default();
    let text = |value: &oxistrano_harness::Value| value.as_str().unwrap_or_default().to_owned();
    releases.iter().map(|release| (text(&release["version"]), text(&release["state"]))).collect()
}

/// A deploy root before a module is disturbed.
#[derive(Debug)]
pub struct Before {
    outside: Manifest,
    shared: Manifest,
    /// What is live, with inodes and times.
    live: Option<(String, Manifest)>,
    copy: Option<Manifest>,
    tree: Manifest,
}

/// What a release of these contents holds, whoever looks at it.
pub type Whole = BTreeMap<String, Manifest>;

impl Before {
    /// Looks.
    pub fn of(scene: &Scene) -> Self {
        let current = scene.root().join("current");
        let live = fs::read_link(&current)
            .ok()
            .and_then(|target| Some(target.file_name()?.to_str()?.to_owned()));
        let exact = |version: String| {
            let tree = Manifest::exact(&scene.root().join("releases").join(&version));
            (version, tree)
        };
        Self {
            outside: Manifest::exact(&scene.outside()),
            shared: Manifest::of(&scene.root().join("shared")),
            live: live.map(exact),
            copy: (current.is_dir() && !current.is_symlink()).then(|| Manifest::of(&current)),
            tree: Manifest::of(&scene.root()).without(".oxistrano"),
        }
    }

    /// Whether nothing but the state directory is different.
    pub fn is_unchanged(&self, scene: &Scene) -> bool {
        scene.settle();
        Manifest::of(&scene.root()).without(".oxistrano") == self.tree
    }

    /// What does not hold right after the disturbance. `replaces`: the live release is what
    /// the module was to replace.
    pub fn violations(&self, scene: &Scene, whole: &Whole, replaces: bool) -> Vec<String> {
        let mut wrong = Vec::new();
        let current = scene.root().join("current");
        if Manifest::exact(&scene.outside()) != self.outside {
            wrong.push("something outside the deploy root has changed".to_owned());
        }
        let shared = Manifest::of(&scene.root().join("shared")).to_string();
        if !self.shared.to_string().lines().all(|line| shared.contains(line)) {
            wrong.push("shared data has changed".to_owned());
        }
        if self.live.is_some() || self.copy.is_some() {
            match fs::metadata(&current) {
                Ok(metadata) if metadata.is_dir() => {}
                _ => wrong.push("current leads nowhere".to_owned()),
            }
        }
        if let Ok(target) = fs::read_link(&current) {
            let version = target.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let now = Manifest::of(&scene.root().join("releases").join(version));
            if !whole.values().any(|whole| *whole == now) {
                wrong.push(format!("current leads to {version}, which is not whole"));
            }
        } else if current.is_dir() {
            wrong.extend(self.copy_is_served(&current));
        }
        if let (Some((version, before)), false) = (&self.live, replaces) {
            let now = Manifest::exact(&scene.root().join("releases").join(version));
            if now != *before {
                wrong.push(format!("release {version}, which was live, has changed"));
            }
        }
        for (version, state) in states(scene) {
            let now = Manifest::of(&scene.root().join("releases").join(&version));
            let good = matches!(state.as_str(), "active" | "complete" | "rolled_back");
            if good && !whole.values().any(|whole| *whole == now) {
                wrong.push(format!("release {version} is said to be {state}, but is not whole"));
            }
        }
        wrong
    }

    /// A copy that is being brought up to date is old and new at the same time, but nothing
    /// that both have may be missing, the shared data least of all.
    fn copy_is_served(&self, current: &Path) -> Vec<String> {
        let common = ["index.php", "app/etc/config.php", "pub/index.php", "REVISION", SHARED_FILE];
        let missing = common
            .iter()
            .chain(&SHARED_PATHS)
            .filter(|name| current.join(name).symlink_metadata().is_err());
        missing.map(|name| format!("current lacks {name}")).collect()
    }
}
