//! What php-fpm's configuration says of a reload: `process_control_timeout`.

use std::fs;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A configuration is a few kilobytes; more is something else.
const LARGEST: u64 = 1 << 20;
const MOST_FILES: usize = 1000;
/// Files that include files; php-fpm itself stops at 4.
const DEEPEST: usize = 8;

/// What was found in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How long workers may go on with their requests when the master reloads; 0: not at all.
    pub process_control_timeout: Duration,
    /// When the youngest of its files was changed.
    pub changed: SystemTime,
    /// Its pools.
    pub pools: Vec<PoolConfig>,
}

/// What it says of a pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolConfig {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub listen: String,
    /// The root directory that its workers see; empty: that of the system.
    pub chroot: String,
}

/// Reads `path` and what it includes; `root` is where the process's file system is seen.
///
/// # Errors
/// Why it cannot be read.
pub fn read(path: &Path, root: &Path) -> Result<Config, String> {
    let mut reader = Reader { root: root.to_owned(), files: 0, found: Found::default() };
    reader.file(path, 0)?;
    Ok(reader.found.finish())
}

struct Reader {
    root: PathBuf,
    files: usize,
    found: Found,
}

impl Reader {
    fn file(&mut self, path: &Path, depth: usize) -> Result<(), String> {
        if depth > DEEPEST {
            return Err(format!("'{}' is included too deeply", path.display()));
        }
        self.files += 1;
        if self.files > MOST_FILES {
            return Err(format!("it includes more than {MOST_FILES} files"));
        }
        let here = below(&self.root, path);
        let wrong = |error: std::io::Error| format!("cannot read '{}': {error}", path.display());
        let meta = fs::metadata(&here).map_err(wrong)?;
        if !meta.is_file() || meta.len() > LARGEST {
            return Err(format!("'{}' is no ordinary configuration file", path.display()));
        }
        let mut text = Vec::new();
        fs::File::open(&here)
            .and_then(|file| file.take(LARGEST).read_to_end(&mut text))
            .map_err(wrong)?;
        self.found.changed = self.found.changed.max(meta.modified().ok());
        for line in String::from_utf8_lossy(&text).lines() {
            if let Some(pattern) = self.found.line(line) {
                let pattern = Path::new(&pattern);
                // php-fpm's own prefix; it is not in the title.
                let pattern = Path::new("/usr").join(pattern);
                for file in glob(&self.root, &pattern) {
                    self.file(&file, depth + 1)?;
                }
            }
        }
        Ok(())
    }
}

fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

#[derive(Default)]
struct Found {
    section: String,
    timeout: Option<Duration>,
    changed: Option<SystemTime>,
    pools: Vec<PoolConfig>,
}

impl Found {
    /// One line; the pattern if it includes other files.
    fn line(&mut self, line: &str) -> Option<String> {
        let line = line.trim();
        if line.is_empty() || line.starts_with([';', '#']) {
            return None;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            self.section = name.trim().to_owned();
            if !name.eq_ignore_ascii_case("global") {
                let name = self.section.clone();
                self.pools.push(PoolConfig { name, ..PoolConfig::default() });
            }
            return None;
        }
        let (key, value) = line.split_once('=')?;
        let value = unquoted(value);
        match (key.trim().to_ascii_lowercase().as_str(), self.pools.last_mut()) {
            ("include", _) => return Some(value),
            ("process_control_timeout", _) if self.section.eq_ignore_ascii_case("global") => {
                self.timeout = seconds(&value);
            }
            ("listen", Some(pool)) => pool.listen = value.replace("$pool", &pool.name),
            ("chroot", Some(pool)) => pool.chroot = value.replace("$pool", &pool.name),
            _ => {}
        }
        None
    }

    fn finish(self) -> Config {
        Config {
            process_control_timeout: self.timeout.unwrap_or_default(),
            changed: self.changed.unwrap_or(SystemTime::UNIX_EPOCH),
            pools: self.pools,
        }
    }
}

/// `"10s" ; comment` → `10s`
fn unquoted(value: &str) -> String {
    let value = value.trim();
    for quote in ['"', '\''] {
        if let Some((inside, _)) = value.strip_prefix(quote).and_then(|v| v.split_once(quote)) {
            return inside.to_owned();
        }
    }
    value.split(';').next().unwrap_or_default().trim().to_owned()
}

/// `10`, `10s`, `2m`, `1h`, `1d`
fn seconds(value: &str) -> Option<Duration> {
    let (number, unit) = match value.char_indices().last()? {
        (_, last) if last.is_ascii_digit() => (value, 1),
        (at, last) => {
            let unit = match last.to_ascii_lowercase() {
                's' => 1,
                'm' => 60,
                'h' => 3600,
                'd' => 86_400,
                _ => return None,
            };
            (value.get(..at)?, unit)
        }
    };
    number.trim().parse::<u32>().ok().map(|number| Duration::from_secs(u64::from(number) * unit))
}

/// The files that a pattern with `*` and `?` means, sorted, as `root` has them.
fn glob(root: &Path, pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("/")];
    for component in pattern.components() {
        let Component::Normal(part) = component else { continue };
        let part = part.to_string_lossy();
        let mut next = Vec::new();
        for directory in found {
            if !part.contains(['*', '?']) {
                next.push(directory.join(part.as_ref()));
                continue;
            }
            for entry in fs::read_dir(below(root, &directory)).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                if !name.starts_with('.') && matches(part.as_bytes(), name.as_bytes()) {
                    next.push(directory.join(name.as_ref()));
                }
            }
        }
        next.sort();
        next.truncate(MOST_FILES);
        found = next;
    }
    found.retain(|path| below(root, path).exists());
    found
}

/// In linear space and bounded time: the last star is all that has to be tried again.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(wanted) if *wanted == b'?' || *wanted == name[n] => (p, n) = (p + 1, n + 1),
            _ => match star {
                Some((at, from)) => {
                    (p, n) = (at + 1, from + 1);
                    star = Some((at, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_have_units() {
        for (text, expected) in [
            ("10", 10),
            ("10s", 10),
            ("2m", 120),
            ("1h", 3600),
            ("1d", 86_400),
            ("0", 0),
            ("3S", 3),
        ] {
            assert_eq!(seconds(text), Some(Duration::from_secs(expected)), "{text}");
        }
        for text in ["", "s", "-1", "1w", "x", "1.5", "10 ms"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn the_timeout_is_found_in_included_files() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        fs::create_dir(at("pool.d")).unwrap();
        let text = "; process_control_timeout = 1\n[global]\npid = x\ninclude=/pool.d/*.conf\n";
        fs::write(at("php-fpm.conf"), text).unwrap();
        let read = || read(Path::new("/php-fpm.conf"), scratch.path());
        assert_eq!(read().unwrap().process_control_timeout, Duration::ZERO);
        // As some set it: in a file that sorts before the pools.
        fs::write(at("pool.d/a.conf"), "process_control_timeout = \"20s\" ; as nginx\n").unwrap();
        let pool =
            "[shop]\nlisten = /run/$pool.sock\nchroot=/srv/$pool\nprocess_control_timeout=3\n";
        fs::write(at("pool.d/shop.conf"), pool).unwrap();
        fs::write(at("pool.d/shop.conf.off"), "[global]\nprocess_control_timeout=1d\n").unwrap();
        let config = read().unwrap();
        assert_eq!(config.process_control_timeout, Duration::from_secs(20));
        let text = |text: &str| text.to_owned();
        let (name, listen, chroot) = (text("shop"), text("/run/shop.sock"), text("/srv/shop"));
        assert_eq!(config.pools, [PoolConfig { name, listen, chroot }]);
        // One that includes itself comes to an end.
        fs::write(at("pool.d/b.conf"), "include = /pool.d/b.conf\n").unwrap();
        assert!(read().unwrap_err().contains("b.conf' is included too deeply"));
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let error = read(Path::new("/dev/null"), Path::new("/")).unwrap_err();
        assert!(error.contains("no ordinary configuration"), "{error}");
        assert!(read(Path::new("/none"), Path::new("/")).unwrap_err().contains("'/none'"));
    }

    proptest! {
        #[test]
        fn patterns_match_as_their_definition_says(pattern in "[ab*?]{0,8}", name in "[ab]{0,8}") {
            fn simply(pattern: &[u8], name: &[u8]) -> bool {
                match (pattern.split_first(), name.split_first()) {
                    (None, rest) => rest.is_none(),
                    (Some((b'*', later)), rest) => {
                        simply(later, name) || rest.is_some_and(|(_, name)| simply(pattern, name))
                    }
                    (Some((wanted, later)), Some((byte, name))) => {
                        (wanted == byte || *wanted == b'?') && simply(later, name)
                    }
                    _ => false,
                }
            }
            prop_assert_eq!(
                matches(pattern.as_bytes(), name.as_bytes()),
                simply(pattern.as_bytes(), name.as_bytes())
            );
        }

        #[test]
        fn any_text_is_a_configuration(text in "(\\PC{0,30}\n|(listen|chroot|process_control_timeout) ?= ?\\PC{0,9}\n|\\[\\PC{0,5}\\]\n){0,8}") {
            let mut found = Found::default();
            for line in text.lines() {
                let _ = found.line(line);
            }
            prop_assert!(found.finish().pools.len() <= 8);
        }
    }
}
