//! The options of every module that starts PHP.

/// Declares the options of a module that runs Magento's command: its own, then those that
/// all of them have. Otherwise as `oxistrano_core::options!`.
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
                /// Magento's root directory on the host, that of the release that is asked, an
                /// absolute path.
                path: $crate::core::AbsPath;
                $($own)*
                /// The command that runs PHP, as a list of words, or as one string that is split
                /// like a shell splits it; no shell runs it. Magento's C(bin/magento) and its
                /// arguments are put behind it.
                php: $crate::Php;
                /// O(path) as O(php) sees it, if that differs (in a container, for example).
                path_for_php: Option<std::path::PathBuf>;
                /// The user to run O(php) as, by name or number; if it is not given, the user that the
                /// module runs as. Only root can run it as another.
                user: Option<String>;
                /// Environment variables for O(php), beside those of the module. Of these, another
                /// O(user) gets only C(PATH), language, time zone, proxies, C(PHPRC), C(PHP_*), C(MAGE_*),
                /// C(MAGENTO_*) and C(CONFIG__*).
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
