//! Which shared paths a release links to.

use std::collections::HashSet;
use std::path::Path;

use oxistrano_core::RelPath;

/// The paths to link, and warnings about those that are left out.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SharedLinks {
    /// Each path once, and none inside another.
    pub paths: Vec<RelPath>,
    /// Warnings.
    pub warnings: Vec<String>,
}

/// Joins shared paths and files. A path inside another one is already shared by the link above it;
/// linking it again would delete the shared data (which the upstream role does).
pub fn shared_links(paths: &[RelPath], files: &[RelPath]) -> SharedLinks {
    let mut links = SharedLinks::default();
    let given: HashSet<&Path> = paths.iter().chain(files).map(RelPath::as_path).collect();
    let mut linked = HashSet::new();
    for path in paths.iter().chain(files) {
        match path.as_path().ancestors().skip(1).find(|above| given.contains(above)) {
            Some(above) => links.warnings.push(format!(
                "shared path '{path}' is inside the shared path '{}' and needs no link",
                above.display()
            )),
            None if !linked.insert(path) => {}
            None => links.paths.push(path.clone()),
        }
    }
    links
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn paths(texts: &[&str]) -> Vec<RelPath> {
        texts.iter().map(|text| RelPath::new(text).unwrap()).collect()
    }

    #[test]
    fn a_path_inside_another_is_left_out() {
        let links = shared_links(
            &paths(&["var/log", "var", "media"]),
            &paths(&["var/x.txt", ".env", "media"]),
        );
        assert_eq!(links.paths, paths(&["var", "media", ".env"]));
        assert_eq!(links.warnings.len(), 2);
    }

    proptest! {
        #[test]
        fn no_link_ever_lies_inside_another(texts in prop::collection::vec("[ab](/[ab]){0,3}", 0..8)) {
            let given: Vec<_> = texts.iter().map(|text| RelPath::new(text).unwrap()).collect();
            let links = shared_links(&given, &[]);
            for (i, a) in links.paths.iter().enumerate() {
                for (j, b) in links.paths.iter().enumerate() {
                    prop_assert!(i == j || !a.is_within(b));
                }
            }
            // And everything is shared, by itself or by what is above it.
            for path in &given {
                prop_assert!(links.paths.iter().any(|link| path.is_within(link)));
            }
        }
    }
}
