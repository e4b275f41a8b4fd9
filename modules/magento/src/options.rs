//! The options of every module that starts PHP.

/// Declares the options of a module that runs Magento's command: its own, then the common ones.
/// Otherwise as `oxistrano_core::options!`.
#[macro_export]
macro_rules! magento_options {
    (
        $(#[doc = $doc:literal])*
        $visibility:vis struct $name:ident { $($own:tt)* }
        $($rest:tt)*
    ) => {
        $crate::core::options! {
            $(#[doc = $doc])*
            $visibility struct $name {
                /// Magento's root directory in the release, an absolute path on the host.
                path: $crate::core::AbsPath;
                $($own)*
                /// The command that runs PHP: a list of words, or one string, which is split as a
                /// shell would split it. No shell is started. C(bin/magento) and its arguments are
                /// appended.
                php: $crate::Php;
                /// O(path) as O(php) sees it, if that differs, for example in a container.
                path_for_php: Option<std::path::PathBuf>;
                /// The user to run O(php) as, a name or a number. By default, the user that the
                /// module runs as; only root can name another one.
                user: Option<String>;
                /// Environment variables for O(php), in addition to those of the module. If O(user)
                /// is another user, it gets only some of the module's own: C(PATH), language, time
                /// zone, proxies, C(PHPRC), C(PHP_*), C(MAGE_*), C(MAGENTO_*) and C(CONFIG__*).
                environment: $crate::core::Values, default = Some($crate::core::Literal::EmptyDict);
            }
            $($rest)*
        }

        impl $name {
            /// The release whose command is run.
            fn magento(&self) -> Result<$crate::Magento, $crate::core::Failure> {
                $crate::Magento::new(
                    &self.path,
                    &self.php,
                    self.path_for_php.as_deref().filter(|path| !path.as_os_str().is_empty()),
                    self.user.as_deref(),
                    &self.environment,
                )
            }
        }
    };
}
