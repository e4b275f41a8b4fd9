//! Reads php-fpm's configuration, for `process_control_timeout` and the pools. It reads only files
//! that no user but root (or the module's user) can have written.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use oxistrano_core::{interrupt, trusted};
use rustix::fs::{Dir, Mode, OFlags, open};

/// The limit for one file; a configuration has a few kilobytes.
const LARGEST: u64 = 1 << 20;
/// The limit for all files together.
const ALL: u64 = 8 << 20;
const MOST_FILES: usize = 1000;
/// The limit for names in the directories of include patterns.
const MOST_NAMES: usize = 50_000;
/// The deepest nesting of includes; php-fpm itself allows 4.
const DEEPEST: usize = 8;

/// The relevant settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How long workers may finish their requests during a reload; 0: not at all.
    pub process_control_timeout: Duration,
    /// The newest modification time of its files.
    pub changed: SystemTime,
    /// Its pools.
    pub pools: Vec<PoolConfig>,
}

/// The configuration of a pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolConfig {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub listen: String,
    /// The root directory of its workers (chroot); empty if there is none.
    pub chroot: String,
}

/// Reads `path` and what it includes; `root` is the root directory of the process.
///
/// # Errors
/// Why it cannot be read.
pub fn read(path: &Path, root: BorrowedFd<'_>, deadline: Instant) -> Result<Config, String> {
    let mut reader =
        Reader { root, deadline, files: 0, bytes: 0, names: 0, found: Found::default() };
    reader.file(path, 0)?;
    Ok(reader.found.finish())
}

struct Reader<'a> {
    root: BorrowedFd<'a>,
    deadline: Instant,
    files: usize,
    bytes: u64,
    names: usize,
    found: Found,
}

impl Reader<'_> {
    fn file(&mut self, path: &Path, depth: usize) -> Result<(), String> {
        if depth > DEEPEST {
            return Err(format!("'{}' is nested too deeply in includes", path.display()));
        }
        self.files += 1;
        if self.files > MOST_FILES {
            return Err(format!("it includes more than {MOST_FILES} files"));
        }
        self.check()?;
        let handle = trusted::look_up(self.root, path).map_err(|error| {
            format!("cannot read '{}': {}", path.display(), std::io::Error::from(error))
        })?;
        let (text, stat) = trusted::read(handle.as_fd(), LARGEST, self.deadline)
            .map_err(|doubt| format!("'{}' {doubt}", path.display()))?;
        self.bytes += text.len() as u64;
        if self.bytes > ALL {
            return Err(format!("its files have more than {ALL} bytes in total"));
        }
        let changed = u64::try_from(stat.st_mtime).unwrap_or(0);
        let changed = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(changed));
        self.found.changed = self.found.changed.max(changed);
        for line in String::from_utf8_lossy(&text).lines() {
            if let Some(pattern) = self.found.line(line) {
                let pattern = Path::new(&pattern);
                // php-fpm's compiled-in prefix, which the process title does not contain.
                let pattern = Path::new("/usr").join(pattern);
                for file in self.glob(&pattern)? {
                    self.file(&file, depth + 1)?;
                }
            }
        }
        Ok(())
    }

    /// The files that match a pattern with `*` and `?`, sorted, as the process sees them.
    fn glob(&mut self, pattern: &Path) -> Result<Vec<PathBuf>, String> {
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
                for name in self.list(&directory)? {
                    if !name.starts_with('.') && matches(part.as_bytes(), name.as_bytes()) {
                        next.push(directory.join(name));
                    }
                }
            }
            next.sort();
            next.truncate(MOST_FILES);
            found = next;
        }
        found.retain(|path| trusted::look_up(self.root, path).is_ok());
        Ok(found)
    }

    /// The names in a directory; none if it cannot be listed.
    #[expect(
        clippy::disallowed_methods,
        reason = "held first, and the very directory that was examined is opened"
    )]
    fn list(&mut self, directory: &Path) -> Result<Vec<String>, String> {
        self.check()?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = trusted::look_up(self.root, directory).and_then(|handle| {
            let name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&handle));
            Dir::new(open(&name, flags, Mode::empty())?)
        });
        let Ok(entries) = opened else { return Ok(Vec::new()) };
        let mut names = Vec::new();
        for entry in entries.flatten() {
            self.names += 1;
            if self.names > MOST_NAMES {
                return Err(format!("its include patterns match more than {MOST_NAMES} names"));
            }
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    }

    fn check(&self) -> Result<(), String> {
        interrupt::check().map_err(|failure| failure.to_string())?;
        match Instant::now() < self.deadline {
            true => Ok(()),
            false => Err("the time limit was reached before all of it was read".to_owned()),
        }
    }
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

/// In linear space and bounded time: only the last star has to be tried again.
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
    use std::fs;

    fn read_below(path: &str, root: &Path) -> Result<Config, String> {
        let root = open(root, OFlags::PATH, Mode::empty()).unwrap();
        read(Path::new(path), root.as_fd(), Instant::now() + Duration::from_secs(60))
    }

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
        let read = || read_below("/php-fpm.conf", scratch.path());
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
        assert!(read().unwrap_err().contains("b.conf' is nested too deeply in includes"));
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let error = read_below("/dev/null", Path::new("/")).unwrap_err();
        assert_eq!(error, "'/dev/null' is a device");
        assert!(read_below("/none", Path::new("/")).unwrap_err().contains("'/none'"));
    }

    #[test]
    fn an_included_fifo_or_file_of_somebody_else_is_named_and_holds_nobody_up() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        fs::write(at("fpm.conf"), "include=/pool.conf\n").unwrap();
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, at("pool.conf"), rustix::fs::FileType::Fifo, mode, 0)
            .unwrap();
        assert_eq!(read_below("/fpm.conf", scratch.path()).unwrap_err(), "'/pool.conf' is a FIFO");
        fs::remove_file(at("pool.conf")).unwrap();
        fs::write(at("pool.conf"), "[www]\n").unwrap();
        assert!(read_below("/fpm.conf", scratch.path()).is_ok());
        if oxistrano_core::users::is_root() {
            std::os::unix::fs::chown(at("pool.conf"), Some(33), None).unwrap();
            let error = read_below("/fpm.conf", scratch.path()).unwrap_err();
            assert_eq!(error, "'/pool.conf' belongs to user id 33");
        }
    }

    #[test]
    fn a_configuration_of_many_large_files_is_not_read_whole() {
        let scratch = tempfile::tempdir().unwrap();
        let line = "; a comment of sixty-four bytes, its line feed counted as well\n";
        let large = line.repeat((1 << 20) / line.len() - 1);
        for index in 0..9 {
            fs::write(scratch.path().join(format!("{index}.conf")), &large).unwrap();
        }
        fs::write(scratch.path().join("fpm"), "include=/*.conf\n").unwrap();
        let error = read_below("/fpm", scratch.path()).unwrap_err();
        assert!(error.contains("more than 8388608 bytes"), "{error}");
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
