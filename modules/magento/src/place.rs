//! Where the code of a shop lies.

use std::path::{Path, PathBuf};

use oxistrano_core::RelPath;

/// Where the releases of a shop are, as its deployer writes it and as it is without links:
/// Magento writes the latter.
#[derive(Debug)]
pub struct Place {
    /// The directory of its releases.
    pub releases: Vec<PathBuf>,
    /// What leads to the live one.
    pub current: Vec<PathBuf>,
}

impl Place {
    /// That of a deploy root.
    pub fn new(deploy_to: &Path, releases: &RelPath, current: &RelPath) -> Self {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let written = deploy_to.join(releases);
        let mut place = Self {
            releases: vec![written.clone(), real(&written)],
            current: vec![deploy_to.join(current), real(deploy_to).join(current)],
        };
        place.releases.dedup();
        place.current.dedup();
        place
    }

    /// All directories below which the code of the shop lies.
    pub fn roots(&self) -> Vec<PathBuf> {
        self.releases.iter().chain(&self.current).cloned().collect()
    }
}
