//! The directories of a shop's code.

use std::path::{Path, PathBuf};

use oxistrano_core::RelPath;

/// The paths of a shop's releases, as the deployer writes them and with links resolved, as Magento writes them.
#[derive(Debug)]
pub struct Place {
    /// The directory of its releases.
    pub releases: Vec<PathBuf>,
    /// The links to the live one.
    pub current: Vec<PathBuf>,
}

impl Place {
    /// The place of a deploy root.
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

    /// All directories that contain the code of the shop.
    pub fn roots(&self) -> Vec<PathBuf> {
        self.releases.iter().chain(&self.current).cloned().collect()
    }
}
