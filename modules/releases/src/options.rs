//! The options that every `release_*` module has.

oxistrano_core::choices! {
    /// How `current` leads to the active release.
    pub enum Via {
        /// A symbolic link.
        Symlink = "symlink",
        /// A directory with a copy of the release.
        Rsync = "rsync",
    }
}

/// The `code` of the failure that says who holds the lock; the action plugin looks for it.
pub const LOCK_CODE: &str = "locked";

/// Declares the options of a `release_*` module: the common ones, then its own. Otherwise as
/// `oxistrano_core::options!`.
#[macro_export]
macro_rules! release_options {
    (
        $(#[doc = $doc:literal])*
        $visibility:vis struct $name:ident { $($own:tt)* }
        $($rest:tt)*
    ) => {
        $crate::core::options! {
            $(#[doc = $doc])*
            $visibility struct $name {
                /// Root of the deployment, an absolute path.
                deploy_to: $crate::core::AbsPath, aliases = &["path"];
                $($own)*
                /// The directory of the releases, relative to O(deploy_to).
                releases_dir: $crate::core::RelPath,
                    default = Some($crate::core::Literal::Text("releases"));
                /// The directory of the files that releases share, relative to O(deploy_to).
                shared_dir: $crate::core::RelPath,
                    default = Some($crate::core::Literal::Text("shared"));
                /// The name of the link (or directory) of the live release, relative to O(deploy_to).
                current_dir: $crate::core::RelPath,
                    default = Some($crate::core::Literal::Text("current"));
                /// Who deploys. The action plugin fills it in with the controlling process, so that
                /// the lock recognises its holder.
                deployer: $crate::Deployer, internal = true;
            }
            $($rest)*
        }

        impl $name {
            /// Where things are.
            fn layout(&self) -> $crate::Layout {
                $crate::Layout {
                    deploy_to: self.deploy_to.clone(),
                    releases_dir: self.releases_dir.clone(),
                    shared_dir: self.shared_dir.clone(),
                    current_dir: self.current_dir.clone(),
                }
            }
        }
    };
}
