//! The secrets of a shop's `app/etc/env.php`: a PHP exception may contain them in its stack trace,
//! and results are shown, logged and kept.

use std::path::Path;

use oxistrano_core::dir::read_followed;
use oxistrano_core::json::json;
use oxistrano_core::mask::Mask;
use oxistrano_core::secrets;

use crate::question;

/// The limit for the file; a shop's has a few kB.
const MOST: u64 = 1 << 20;
/// A shorter `key` is some other key; encryption keys have 32 characters.
const SHORTEST_KEY: usize = 16;
/// Words that Magento's answers and our messages consist of. Such a password is not secret, and
/// masking it would make messages unreadable (`bin/********`).
const COMMON: [&str; 3] = [
    "bin/magento setup:upgrade setup:db:status setup:db-schema setup:db-data app:config:status \
     app:config:import cache:flush cache:clean maintenance:enable",
    "Magento\\Framework\\Setup\\Exception",
    "localhost 127.0.0.1 database mysql mariadb redis",
];

/// Passwords and keys in the file. If it cannot be read, there are none, because PHP cannot read it either.
pub fn secrets(env: &Path) -> Mask {
    let mut mask = Mask::default();
    // The web user may replace it at any time.
    let Ok(bytes) = read_followed(env, MOST) else { return mask };
    let text = String::from_utf8_lossy(&bytes);
    for range in secrets::ranges(&text) {
        mask.add_secret(&unescaped(&text[range]));
    }
    // Magento keeps older keys in the same string, one per line.
    for range in secrets::ranges_of(&text, |name| name == "key") {
        // Up to the closing quote, over all lines.
        let key = text[range.start..].split(['\'', '"']).next().unwrap_or_default();
        key.lines().filter(|key| key.len() >= SHORTEST_KEY).for_each(|key| mask.add_secret(key));
    }
    mask.spare(&json!([question::WORDS.as_slice(), &COMMON]));
    mask
}

/// Decodes a single-quoted PHP string.
fn unescaped(text: &str) -> String {
    text.replace("\\'", "'").replace("\\\\", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_however_the_file_is_written() {
        let scratch = tempfile::tempdir().unwrap();
        let env = scratch.path().join("env.php");
        for text in [
            "'key'=>'0123456789abcdef0123456789abcdef'",
            "\"key\" => \"0123456789abcdef0123456789abcdef\"",
            "'key'\n =>\n  '0123456789abcdef0123456789abcdef'",
            "'key' => 'fedcba9876543210fedcba9876543210\n0123456789abcdef0123456789abcdef'",
            "'pass' => '0123456789abcdef0123456789abcdef'",
            "'pass'=>\"0123456789abcdef0123456789abcdef\"",
        ] {
            std::fs::write(&env, format!("<?php return ['crypt' => [{text}]];")).unwrap();
            let shown = secrets(&env).hide("of 0123456789abcdef0123456789abcdef.");
            assert_eq!(shown, "of ********.", "{text}");
        }
    }

    #[test]
    fn passwords_and_keys_are_not_in_an_answer() {
        let scratch = tempfile::tempdir().unwrap();
        let env = scratch.path().join("env.php");
        std::fs::write(
            &env,
            r"<?php return [
                'crypt' => ['key' => 'base64aaaabbbbccccddddeeeeffff0000'],
                'db' => ['connection' => ['default' => [
                    'host' => 'db.example.com', 'username' => 'magento', 'password' => 'it\'s s3cret',
                ]]],
                'session' => ['redis' => ['host' => 'r', 'password' => 'upgrade']],
                'modes' => ['key' => 'short'],
            ];",
        )
        .unwrap();
        let mask = secrets(&env);
        for (text, shown) in [
            (
                "#0 PDO->__construct('mysql:host=db.example.com', 'magento', 'it's s3cret')",
                "'magento', '********')",
            ),
            ("key base64aaaabbbbccccddddeeeeffff0000 is bad", "key ******** is bad"),
            ("Run 'setup:upgrade' to update", "Run 'setup:upgrade' to update"),
            ("short", "short"),
        ] {
            assert!(mask.hide(text).ends_with(shown), "{}", mask.hide(text));
        }
        assert_eq!(secrets(&scratch.path().join("none")).hide("x"), "x");
    }

    #[test]
    fn a_password_that_is_a_word_of_every_message_does_not_spoil_them() {
        let scratch = tempfile::tempdir().unwrap();
        let env = scratch.path().join("env.php");
        for word in ["magento", "database", "localhost", "Magento", "upgrade"] {
            std::fs::write(&env, format!("<?php return ['db' => ['password' => '{word}']];"))
                .unwrap();
            let said = "cannot run 'bin/magento setup:upgrade': the database at localhost is down";
            assert_eq!(secrets(&env).hide(said), said, "{word}");
            let said = "Magento\\Framework\\Exception: no such table";
            assert_eq!(secrets(&env).hide(said), said, "{word}");
        }
        // One that only has such a word in it is hidden.
        std::fs::write(&env, "<?php return ['db' => ['password' => 'magento-9x']];").unwrap();
        assert_eq!(secrets(&env).hide("for 'magento-9x'"), "for '********'");
    }
}
