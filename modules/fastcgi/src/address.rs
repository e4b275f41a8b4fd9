//! The address of a pool.

use std::fmt;
use std::path::{Path, PathBuf};

use oxistrano_core::json::Value;
use oxistrano_core::{FromValue, Kind, OptionSpec};

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
    /// Parses an address.
    ///
    /// # Errors
    /// Why it is not valid.
    pub fn new(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| Err(format!("'{}' {why}", text.escape_debug()));
        if text.contains('\0') {
            return wrong("contains a NUL byte");
        }
        let path = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:"));
        if path.is_some() || text.starts_with('/') {
            let path = Path::new(path.unwrap_or(text));
            if !path.is_absolute() {
                return wrong("is not the absolute path of a socket");
            }
            // The kernel's limit, with the NUL at the end.
            if path.as_os_str().len() > 107 {
                return wrong("is longer than a socket path can be (107 bytes)");
            }
            return Ok(Self::Unix(path.to_owned()));
        }
        let rest = text.strip_prefix("tcp://").unwrap_or(text);
        let (host, port) = rest.rsplit_once(':').unwrap_or(("127.0.0.1", rest));
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        // Names are passed to getent as arguments.
        let ordinary = |c: char| c.is_ascii_alphanumeric() || "-._:%".contains(c);
        let known = !host.is_empty() && !host.starts_with('-') && host.chars().all(ordinary);
        match port.parse() {
            Ok(port) if port > 0 && known => Ok(Self::Tcp { host: host.to_owned(), port }),
            _ => wrong("is neither a socket path nor HOST:PORT"),
        }
    }
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
            ("", "neither a socket path"),
            ("php", "neither a socket path"),
            ("php:0", "neither a socket path"),
            ("php:65536", "neither a socket path"),
            (":9000", "neither a socket path"),
            ("-x:9000", "neither a socket path"),
            ("a b:9000", "neither a socket path"),
            ("unix:run/php.sock", "not the absolute path"),
            ("/run/a\0b", "NUL byte"),
            (long.as_str(), "longer than a socket path"),
        ] {
            let error = Address::new(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_written_so_that_it_is_accepted_again(text in "\\PC{0,40}|(unix:)?/[a-z./]{0,20}|[a-z0-9.]{1,9}:[0-9]{1,6}") {
            if let Ok(address) = Address::new(&text)
                && !text.contains(['\\', '\'', '"']) && text.is_ascii() {
                    prop_assert_eq!(Address::new(&address.to_string()), Ok(address));
                }
        }
    }
}
