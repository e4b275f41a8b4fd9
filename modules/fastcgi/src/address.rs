//! Where a pool listens.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use oxistrano_core::json::Value;
use oxistrano_core::{command, FromValue, Kind, OptionSpec};

/// A name server that does not answer must not hold up a deploy.
const LOOKUP: Duration = Duration::from_secs(10);

/// A unix socket or a TCP port, as `fastcgi_pass` and php-fpm's `listen` write it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// `/run/php/php8.2-fpm.sock`, `unix:/run/php/php8.2-fpm.sock`
    Unix(PathBuf),
    /// `127.0.0.1:9000`, `[::1]:9000`, `php:9000`, `9000`
    Tcp {
        /// A name or an address.
        host: String,
        /// The port, not 0.
        port: u16,
    },
}

impl Address {
    /// Reads one.
    ///
    /// # Errors
    /// Why it is none.
    pub fn new(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| Err(format!("'{}' {why}", text.escape_debug()));
        if text.contains('\0') {
            return wrong("contains a NUL byte");
        }
        let path = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:"));
        if path.is_some() || text.starts_with('/') {
            let path = Path::new(path.unwrap_or(text));
            if !path.is_absolute() {
                return wrong("is no absolute path of a socket");
            }
            // The kernel's limit, with the NUL at the end.
            if path.as_os_str().len() > 107 {
                return wrong("is longer than the path of a socket can be (107 bytes)");
            }
            return Ok(Self::Unix(path.to_owned()));
        }
        let rest = text.strip_prefix("tcp://").unwrap_or(text);
        let (host, port) = rest.rsplit_once(':').unwrap_or(("127.0.0.1", rest));
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        // A name goes to getent as an argument.
        let ordinary = |c: char| c.is_ascii_alphanumeric() || "-._:%".contains(c);
        let known = !host.is_empty() && !host.starts_with('-') && host.chars().all(ordinary);
        match port.parse() {
            Ok(port) if port > 0 && known => Ok(Self::Tcp { host: host.to_owned(), port }),
            _ => wrong("is neither the path of a socket nor HOST:PORT"),
        }
    }

    /// The addresses that a TCP address stands for; without `getaddrinfo`, which a static
    /// program must not call.
    ///
    /// # Errors
    /// Why the name leads nowhere.
    pub(crate) fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        let at = |addresses: Vec<IpAddr>| {
            addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect()
        };
        if let Ok(address) = host.parse() {
            return Ok(at(vec![address]));
        }
        let hosts = fs::read("/etc/hosts").unwrap_or_default();
        let mut found = in_hosts(&String::from_utf8_lossy(&hosts), host);
        if found.is_empty() {
            let argv: Vec<OsString> = ["getent", "ahosts", "--", host].map(OsString::from).into();
            if let Ok(output) = command::run(&argv, Path::new("/"), LOOKUP) {
                found = in_ahosts(&String::from_utf8_lossy(&output.stdout));
            }
        }
        if found.is_empty() && host == "localhost" {
            found.push(Ipv4Addr::LOCALHOST.into());
        }
        if found.is_empty() {
            return Err(format!("neither /etc/hosts nor getent knows '{host}'"));
        }
        Ok(at(found))
    }
}

fn in_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    lines
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let address = words.next()?.parse().ok()?;
            words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
        })
        .collect()
}

/// `192.0.2.1     STREAM php`
fn in_ahosts(text: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in text.lines() {
        let address = line.split_ascii_whitespace().next().and_then(|word| word.parse().ok());
        if let Some(address) = address.filter(|address| !found.contains(address)) {
            found.push(address);
        }
    }
    found
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.to_string_lossy().escape_debug()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

impl FromValue for Address {
    const SPEC: OptionSpec = OptionSpec::of(Kind::Str);
    fn from_value(value: Option<Value>) -> Result<Self, String> {
        Self::new(&String::from_value(value)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp { host: host.to_owned(), port }
    }

    #[test]
    fn all_ways_to_write_one_are_understood() {
        let socket = Address::Unix("/run/php.sock".into());
        for text in ["/run/php.sock", "unix:/run/php.sock", "unix:///run/php.sock"] {
            assert_eq!(Address::new(text).unwrap(), socket);
        }
        for (text, expected) in [
            ("127.0.0.1:9000", tcp("127.0.0.1", 9000)),
            ("9000", tcp("127.0.0.1", 9000)),
            ("tcp://php:9001", tcp("php", 9001)),
            ("[::1]:9000", tcp("::1", 9000)),
        ] {
            assert_eq!(Address::new(text).unwrap(), expected);
        }
        assert_eq!(tcp("::1", 9000).to_string(), "[::1]:9000");
    }

    #[test]
    fn refusals_say_why() {
        let long = format!("/{}", "x".repeat(107));
        for (text, why) in [
            ("", "neither the path"),
            ("php", "neither the path"),
            ("php:0", "neither the path"),
            ("php:65536", "neither the path"),
            (":9000", "neither the path"),
            ("-x:9000", "neither the path"),
            ("a b:9000", "neither the path"),
            ("unix:run/php.sock", "no absolute path"),
            ("/run/a\0b", "NUL byte"),
            (long.as_str(), "longer than the path"),
        ] {
            let error = Address::new(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn names_are_found_in_the_hosts_file() {
        let text = "# php\n127.0.0.1 localhost\n192.0.2.7\tshop PHP # x\n::1 php\nnonsense php\n";
        let expected: Vec<IpAddr> = vec!["192.0.2.7".parse().unwrap(), "::1".parse().unwrap()];
        assert_eq!(in_hosts(text, "php"), expected);
        assert!(in_hosts(text, "x").is_empty());
        assert_eq!(in_ahosts("192.0.2.1 STREAM a\n192.0.2.1 DGRAM\nx\n").len(), 1);
        assert!(!Address::resolve("localhost", 9000).unwrap().is_empty());
        let error = Address::resolve("no-such-host.invalid", 9000).unwrap_err();
        assert!(error.contains("no-such-host.invalid"), "{error}");
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_written_so_that_it_is_accepted_again(text in "\\PC{0,40}|(unix:)?/[a-z./]{0,20}|[a-z0-9.]{1,9}:[0-9]{1,6}") {
            if let Ok(address) = Address::new(&text) {
                if !text.contains(['\\', '\'', '"']) && text.is_ascii() {
                    prop_assert_eq!(Address::new(&address.to_string()), Ok(address));
                }
            }
        }
    }
}
