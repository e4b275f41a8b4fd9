//! For check mode: compares the files of a new release with those of the live one.

use oxistrano_core::{Diff, Failure, Outcome, RelPath};
use oxistrano_tree::{Difference, Files, compare};

use crate::release::REVISION;
use crate::root::Root;
use crate::switch::FILTER;
use crate::{Releases, Version};

/// The comparison, or why there is none.
#[derive(Debug)]
pub struct Comparison {
    live: Version,
    found: Result<Difference, String>,
}

impl Comparison {
    /// Compares with the live release, if there is one. Shared paths and files that the modules
    /// write are excluded. If the live release cannot be read, that is not a failure.
    ///
    /// # Errors
    /// When a signal ends the process.
    pub fn with_live(
        root: &Root,
        releases: &Releases,
        files: impl FnOnce(&[RelPath]) -> Result<Files, Failure>,
        shared: &[RelPath],
    ) -> Result<Option<Self>, Failure> {
        let Some(active) = releases.active() else { return Ok(None) };
        let own = [REVISION, FILTER].into_iter().filter_map(|name| RelPath::new(name).ok());
        let leave: Vec<_> = own.chain(shared.iter().cloned()).collect();
        let found = files(&leave).and_then(|files| {
            let live = root.releases()?.open_dir(&active.version)?;
            compare(&live, files, &leave)
        });
        oxistrano_core::interrupt::check()?;
        let found = found.map_err(|failure| failure.to_string());
        Ok(Some(Self { live: active.version.clone(), found }))
    }

    /// A comparison that is not possible.
    pub fn impossible(releases: &Releases, why: &str) -> Option<Self> {
        let live = releases.active()?.version.clone();
        Some(Self { live, found: Err(why.to_owned()) })
    }

    /// Adds it to a result and its diff.
    pub fn tell(self, outcome: Outcome, mut diff: Diff) -> Outcome {
        let Self { live, found } = self;
        let outcome = outcome.value("compared_with", live.as_str());
        match found {
            Ok(found) => {
                let line = format!("compared with {live}, the live release: {}", found.summary());
                let [before, after] = found.sides();
                for (side, lines) in [(&mut diff.before, before), (&mut diff.after, after)] {
                    side.push(line.clone());
                    side.extend(lines);
                }
                outcome.value("changes", found.to_json()).diff(diff)
            }
            Err(why) => {
                diff.after.push(format!(
                    "compared with {live}, the live release: not known, \
                    because {why}"
                ));
                outcome.value("changes_unknown", why).diff(diff)
            }
        }
    }
}
