//! Where secrets usually are in a text: `scheme://user:HERE@host`, `--db-password=HERE`,
//! `DB_PASSWORD=HERE`, `'password' => 'HERE'`, `"api_key": "HERE"`, `Authorization: HERE`,
//! `mysql -pHERE`.
//!
//! A guess, in addition to `no_log`: it hides too much rather than too little, but only the
//! value, so that what is left of a message still says what it is about.

use std::ops::Range;

/// What stands in place of a secret in a text.
pub const HIDDEN: &str = "********";

/// Words that make a name that of a secret, wherever they stand in it.
const WORDS: [&str; 7] =
    ["password", "passwd", "passphrase", "secret", "token", "credential", "authorization"];
/// Words that do so as a part of their own: `MYSQL_PWD`, `redis-auth`.
const PARTS: [&str; 6] = ["pass", "pwd", "pw", "auth", "apikey", "cookie"];
/// Words that do so where they stand alone between quotes, as the key of an array.
const BARE: [&str; 4] = ["pass", "pwd", "pw", "auth"];
/// Programs that take a password behind a flag, the flag, and whether it may be a word of its own.
const CLIENTS: [(&str, &str, bool); 13] = [
    ("mysql", "-p", false),
    ("mysqldump", "-p", false),
    ("mysqladmin", "-p", false),
    ("mysqlcheck", "-p", false),
    ("mysqlimport", "-p", false),
    ("mysqlshow", "-p", false),
    ("mariadb", "-p", false),
    ("mariadb-dump", "-p", false),
    ("mariadb-admin", "-p", false),
    ("mydumper", "-p", true),
    ("myloader", "-p", true),
    ("sshpass", "-p", true),
    ("redis-cli", "-a", true),
];
/// What may stand before `key` so that it is no key of an array or a database.
const KEYS: [&str; 11] = [
    "api",
    "app",
    "access",
    "crypt",
    "encryption",
    "private",
    "signing",
    "license",
    "master",
    "auth",
    "consumer",
];
/// Values that tell nothing: `(using password: YES)`.
const NOTHING: [&str; 8] = ["yes", "no", "true", "false", "null", "none", HIDDEN, ""];
/// A user of a URL that has no password and is at least so long is a token.
const TOKEN: usize = 16;

/// Whether a variable, a field or an option of this name holds a secret.
pub fn is_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    if WORDS.iter().any(|word| name.contains(word)) {
        // `password_file`, `token_path`: where it is, not what.
        return !["_file", "_path", "-file", "_name"].iter().any(|end| name.ends_with(end));
    }
    let parts: Vec<&str> = name.split(['_', '-', '.']).filter(|part| !part.is_empty()).collect();
    let key_after = |pair: &[&str]| pair[1] == "key" && KEYS.contains(&pair[0]);
    (parts.len() > 1 && parts.iter().any(|part| PARTS.contains(part)))
        || name == "apikey"
        || parts.windows(2).any(key_after)
}

/// The text with its secrets replaced.
pub fn hide(text: &str) -> String {
    let mut hidden = String::with_capacity(text.len());
    let mut done = 0;
    for range in ranges(text) {
        hidden.push_str(&text[done..range.start]);
        hidden.push_str(HIDDEN);
        done = range.end;
    }
    hidden.push_str(&text[done..]);
    hidden
}

/// Where they are, in order, none in another. Linear in the length of the text.
pub fn ranges(text: &str) -> Vec<Range<usize>> {
    ranges_of(text, is_name)
}

/// The same with other names than those of secrets.
pub fn ranges_of(text: &str, is_name: impl Fn(&str) -> bool) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    // The program whose arguments these are.
    let mut client = None;
    while let Some(c) = text[at..].chars().next() {
        let range = match c {
            ':' if text[at..].starts_with("://") => in_url(text, at),
            '\n' | ';' | '|' | '&' => {
                client = None;
                None
            }
            c if is_of_name(c) => {
                let end = at + run(&text[at..], is_of_name);
                let name = &text[at..end];
                let one = CLIENTS.iter().find(|(program, ..)| *program == name);
                client = one.or(client);
                let value = (is_name(name) || is_bare(text, at..end))
                    .then(|| value_after(text, at..end))
                    .flatten();
                match value.or_else(|| after_flag(text, at..end, client?)) {
                    None => {
                        at = end;
                        continue;
                    }
                    found => found,
                }
            }
            _ => None,
        };
        match range {
            Some(range) => {
                at = range.end;
                found.push(range);
            }
            None => at += c.len_utf8(),
        }
    }
    found
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

/// The length of what `text` begins with of such characters.
fn run(text: &str, wanted: impl Fn(char) -> bool) -> usize {
    text.find(|c| !wanted(c)).unwrap_or(text.len())
}

/// Whether this is the whole of a key between quotes.
fn is_bare(text: &str, name: Range<usize>) -> bool {
    let quote = text[..name.start].chars().next_back().filter(|c| "'\"".contains(*c));
    let word = text[name.clone()].to_ascii_lowercase();
    BARE.contains(&word.as_str())
        && quote.is_some_and(|quote| text[name.end..].trim_start_matches('\\').starts_with(quote))
}

/// The password behind the flag of such a program, if that flag begins here.
fn after_flag(
    text: &str,
    word: Range<usize>,
    (_, flag, apart): &(&str, &str, bool),
) -> Option<Range<usize>> {
    let before = text[..word.start].chars().next_back();
    let begins = before.is_none_or(|c| c.is_whitespace() || "'\"[(,".contains(c));
    if !begins || !text[word.clone()].starts_with(flag) {
        return None;
    }
    let mut at = word.start + flag.len();
    if *apart {
        at += run(&text[at..], |c| c == ' ');
    }
    let quote = text[at..].chars().next().filter(|c| "'\"".contains(*c));
    let range = match quote {
        // One that ends a word of a list: `'-psecret'`.
        Some(quote) if before == Some(quote) => return None,
        Some(quote) => at + 1..at + 1 + quoted(&text[at + 1..], quote, false),
        None => at..at + run(&text[at..], |c| !c.is_whitespace() && !"'\",;|&)]".contains(c)),
    };
    (!NOTHING.contains(&&text[range.clone()])).then_some(range)
}

/// The password in the URL whose `://` is `at`.
fn in_url(text: &str, at: usize) -> Option<Range<usize>> {
    let start = at + "://".len();
    let authority =
        start + run(&text[start..], |c| !c.is_whitespace() && !"/?#'\"<>\\,;".contains(c));
    let user_end = start + text[start..authority].rfind('@')?;
    let user = &text[start..user_end];
    match user.find(':') {
        Some(colon) if !NOTHING.contains(&&user[colon + 1..]) => Some(start + colon + 1..user_end),
        None if user.len() >= TOKEN && text[..at].ends_with(['p', 's']) => Some(start..user_end),
        _ => None,
    }
}

/// The value of this name.
fn value_after(text: &str, name: Range<usize>) -> Option<Range<usize>> {
    let mut at = name.end;
    let is_header = text[name].eq_ignore_ascii_case("authorization");
    // The quote behind the name, and the backslash of one in JSON in a string.
    at += run(&text[at..], |c| "'\"\\]".contains(c)).min(3);
    // In a file, an arrow may stand on a line of its own.
    let blanks = run(&text[at..], char::is_whitespace);
    at += match text[at + blanks..].starts_with("=>") {
        true => blanks,
        false => run(&text[at..], |c| c == ' '),
    };
    let rest = &text[at..];
    let (operator, only_quoted) = if rest.starts_with("=>") {
        (2, true)
    } else if rest.starts_with('=') {
        (1, false)
    } else if rest.starts_with(':') && !rest.starts_with("://") {
        (1, !is_header)
    } else {
        return None;
    };
    at += operator;
    if operator == 2 {
        at += run(&text[at..], char::is_whitespace);
    } else if rest.starts_with(':') {
        at += run(&text[at..], |c| c == ' ');
    }
    let inner = text[at..].starts_with('\\');
    at += usize::from(inner);
    let quote = text[at..].chars().next().filter(|c| "'\"".contains(*c));
    let range = match quote {
        Some(quote) => at + 1..at + 1 + quoted(&text[at + 1..], quote, inner),
        None if only_quoted => return None,
        None if is_header => at..at + run(&text[at..], |c| !"\r\n'\"".contains(c)),
        None => at..at + run(&text[at..], |c| !c.is_whitespace() && !"&;,'\")}]>".contains(c)),
    };
    let value = text[range.clone()].trim_end_matches('\\');
    let told = NOTHING.iter().any(|nothing| value.eq_ignore_ascii_case(nothing));
    (!told).then_some(range.start..range.start + value.len())
}

/// The length up to the closing quote, all of it if the text was cut off before. `inner`: the
/// quotes themselves are escaped, as in JSON in a string.
fn quoted(text: &str, quote: char, inner: bool) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            '\n' => return at,
            c if c == quote && inner => return at - usize::from(escaped),
            c if c == quote && !escaped => return at,
            _ => escaped = c == '\\' && (inner || !escaped),
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn secrets_are_found_where_they_usually_are() {
        for (text, hidden) in [
            (
                "git clone https://bob:s3cr3t@example.com/x.git",
                "git clone https://bob:********@example.com/x.git",
            ),
            ("https://ghp_0123456789abcdef@github.com/x", "https://********@github.com/x"),
            ("redis://:s3cr3t@localhost:6379/0", "redis://:********@localhost:6379/0"),
            ("amqp://u:p@ss@host", "amqp://u:********@host"),
            ("setup:install --db-password=s3cr3t -n", "setup:install --db-password=******** -n"),
            ("docker exec -e DB_PASSWORD=s3cr3t php", "docker exec -e DB_PASSWORD=******** php"),
            ("GET /x?token=abc&page=2", "GET /x?token=********&page=2"),
            ("'password' => 's3cr3t',", "'password' => '********',"),
            ("[\"api_key\"] => \"a b\"", "[\"api_key\"] => \"********\""),
            (r#"{"secret": "a\"b", "x": 1}"#, r#"{"secret": "********", "x": 1}"#),
            (r#"{\"access_token\":\"abc\"}"#, r#"{\"access_token\":\"********\"}"#),
            ("Authorization: Bearer abc def\nHost: x", "Authorization: ********\nHost: x"),
            ("MYSQL_PWD='s3cr3t' mysql", "MYSQL_PWD='********' mysql"),
            ("'password'=>'s3cr3t',", "'password'=>'********',"),
            ("'password'\t=>\n\t's3cr3t',", "'password'\t=>\n\t'********',"),
            ("'pass' => 's3cr3t', \"pwd\": \"x y\"", "'pass' => '********', \"pwd\": \"********\""),
            ("mysql -uroot -ps3cr3t! shop", "mysql -uroot -p******** shop"),
            ("/usr/bin/mysqldump -p's3c r3t' shop", "/usr/bin/mysqldump -p'********' shop"),
            ("['mariadb', '-ps3cr3t', 'shop']", "['mariadb', '-p********', 'shop']"),
            (
                "sshpass -p s3cr3t ssh x; redis-cli -a abc",
                "sshpass -p ******** ssh x; redis-cli -a ********",
            ),
        ] {
            assert_eq!(hide(text), hidden);
        }
    }

    #[test]
    fn what_is_none_stays() {
        for text in [
            "Access denied for user 'magento'@'localhost' (using password: YES)",
            "https://example.com/a:b@c",
            "ssh://deploy@example.com/srv/shop.git",
            "syntax error, unexpected token \"{\" in x.php",
            "there is no option passwrd (did you mean password?)",
            "Duplicate entry 'a' for key=PRIMARY",
            "cache_key=abc",
            "password needs paths",
            "PWD=/var/www",
            "password_file=/etc/x",
            "the author: 'me'",
            "mysql -p shop",
            "mysql --port 3307 -u root",
            "mysql is up; cp -pr a b",
            "pass: 3, fail: 0",
            "password=",
        ] {
            assert_eq!(hide(text), text);
        }
    }

    #[test]
    fn names_tell() {
        for name in [
            "DB_PASSWORD",
            "dbPassword",
            "MYSQL_PWD",
            "REDIS_AUTH",
            "HTTP_AUTHORIZATION",
            "PHP_AUTH_PW",
            "HTTP_COOKIE",
            "crypt_key",
            "X-Auth-Token",
            "COMPOSER_AUTH",
        ] {
            assert!(is_name(name), "{name}");
        }
        for name in ["PWD", "author", "key", "cache_key", "MAGE_MODE", "PATH", "pass", "TOKEN_PATH"]
        {
            assert!(!is_name(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_hidden_in_parts_that_do_not_overlap(
            text in "(password|token|://|:|=>|=|'|\"|\\\\|@| |\\PC|\n){0,30}"
        ) {
            let mut end = 0;
            for range in ranges(&text) {
                prop_assert!(range.start >= end && range.end <= text.len());
                end = range.end;
                let _ = &text[range];
            }
        }

        #[test]
        fn a_password_of_a_url_never_stays(password in "[a-zA-Z0-9+%!~]{6,20}", before in "[ a-z]{0,10}") {
            let text = format!("{before} https://user:{password}@example.com/");
            let stays = hide(&text).contains(&password);
            prop_assert!(!stays || "https://user:@example.com/".contains(&password));
        }
    }
}
