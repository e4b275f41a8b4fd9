//! Requests pages of the new release before the switch, as a web server would.

use std::path::{Path, PathBuf};
use std::time::Instant;

use oxistrano_core::json::{Map, Value, json};
use oxistrano_core::{Failure, RelPath};
use oxistrano_fastcgi::{Address, ask};

use crate::deadline::Deadline;
use crate::php::params;

/// The limit for a page.
const PAGE: usize = 64 << 20;

/// The parts of a URL that a FastCGI request needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    text: String,
    https: bool,
    /// With the port, if there is one in the URL.
    authority: String,
    host: String,
    port: u16,
    /// Path and query.
    uri: String,
}

impl Url {
    /// Reads `https://shop.example/path?query`.
    ///
    /// # Errors
    /// Why it is not valid.
    pub fn new(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| Err(format!("requests: '{}' {why}", text.escape_debug()));
        let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
        let https = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return wrong("does not begin with http:// or https://"),
        };
        if text.chars().any(|c| c.is_ascii_control() || c == ' ') {
            return wrong("contains a space or a control character");
        }
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, uri) = rest.split_at(end);
        if authority.contains('@') {
            return wrong("contains a user name");
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => match port.parse() {
                Ok(port) => (host, port),
                Err(_) => return wrong("has a port that is not a number"),
            },
            _ => (authority, if https { 443 } else { 80 }),
        };
        if host.is_empty() {
            return wrong("has no host name");
        }
        let uri = if uri.starts_with('/') { uri.to_owned() } else { format!("/{uri}") };
        Ok(Self {
            text: text.to_owned(),
            https,
            authority: authority.to_owned(),
            host: host.to_owned(),
            port,
            uri,
        })
    }

    /// The entry point for it: the one in its path, else the first `index.php`.
    fn entry<'a>(&self, entry_points: &'a [RelPath]) -> Option<&'a RelPath> {
        let path = self.uri.split('?').next().unwrap_or_default();
        let index = entry_points.iter().find(|entry| entry.name() == "index.php")?;
        let named = entry_points.iter().find(|entry| {
            entry.parent() == index.parent()
                && Some(entry.name()) == Path::new(path).file_name()
                && path.matches('/').count() == 1
        });
        Some(named.unwrap_or(index))
    }
}

/// Requests all of them from `release`; each result is a dictionary.
///
/// # Errors
/// Only `interrupted`: the play decides what to do with the answers.
pub fn ask_all(
    address: &Address,
    urls: &[Url],
    release: &Path,
    entry_points: &[RelPath],
    extra: &Map<String, Value>,
    deadline: Deadline,
) -> Result<Vec<Value>, Failure> {
    let there: Vec<RelPath> =
        entry_points.iter().filter(|entry| release.join(entry).is_file()).cloned().collect();
    let mut results = Vec::new();
    for url in urls {
        let started = Instant::now();
        let Some(entry) = url.entry(&there) else {
            results.push(
                json!({"url": url.text, "ok": false, "error": "the release has no index.php"}),
            );
            continue;
        };
        let script: PathBuf = release.join(entry);
        let root = script.parent().unwrap_or(release);
        let mut request = params(&script, &url.uri, "GET")
            .param("SCRIPT_NAME", format!("/{}", entry.name().to_string_lossy()))
            .param("DOCUMENT_ROOT", root.as_os_str().as_encoded_bytes())
            .param("REQUEST_SCHEME", if url.https { "https" } else { "http" })
            .param("SERVER_NAME", url.host.as_str())
            .param("SERVER_PORT", url.port.to_string())
            .param("HTTP_HOST", url.authority.as_str())
            .param("HTTP_USER_AGENT", "oxistrano")
            .param("HTTP_ACCEPT", "text/html,*/*")
            .limit(PAGE);
        if url.https {
            request = request.param("HTTPS", "on");
        }
        for (name, value) in extra {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            request = request.param(name.as_str(), value);
        }
        let result = ask(address, &request, deadline.left());
        let seconds = (started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
        results.push(match result {
            Ok(response) => json!({
                "url": url.text,
                "status": response.status,
                "ok": (200..400).contains(&response.status),
                "seconds": seconds,
                "bytes": response.body.len(),
            }),
            Err(failure) if failure.code() == "interrupted" => return Err(failure),
            Err(failure) => {
                json!({"url": url.text, "ok": false, "seconds": seconds, "error": failure.to_string()})
            }
        });
    }
    Ok(results)
}

/// The warning about those that failed.
pub fn warning(results: &[Value]) -> Option<String> {
    let wrong: Vec<String> = results
        .iter()
        .filter(|result| result["ok"] != true)
        .map(|result| {
            let what = match result["status"].as_u64() {
                Some(status) => status.to_string(),
                None => result["error"].as_str().unwrap_or_default().to_owned(),
            };
            format!("{} ({what})", result["url"].as_str().unwrap_or_default())
        })
        .collect();
    (!wrong.is_empty())
        .then(|| format!("The new release does not answer as expected: {}.", wrong.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<RelPath> {
        ["pub/index.php", "pub/health_check.php", "index.php"]
            .map(|p| RelPath::new(p).unwrap())
            .into()
    }

    #[test]
    fn urls_are_taken_apart() {
        let url = Url::new("https://shop.example:8443/a?b=c#d").unwrap();
        assert_eq!((url.https, url.port, url.host.as_str()), (true, 8443, "shop.example"));
        assert_eq!((url.authority.as_str(), url.uri.as_str()), ("shop.example:8443", "/a?b=c"));
        let url = Url::new("HTTP://[::1]?x").unwrap();
        assert_eq!((url.port, url.host.as_str(), url.uri.as_str()), (80, "[::1]", "/?x"));
        for (text, why) in [
            ("/a", "does not begin"),
            ("ftp://a", "does not begin"),
            ("http://", "has no host name"),
            ("http://a:b/", "port"),
            ("http://a@b/", "user name"),
            ("http://a/b c", "a space"),
        ] {
            let error = Url::new(text).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn the_entry_point_is_the_one_that_the_path_names() {
        let entry = |url: &str, entries: &[RelPath]| {
            Url::new(url).unwrap().entry(entries).map(ToString::to_string)
        };
        let all = entries();
        assert_eq!(entry("http://a/", &all).unwrap(), "pub/index.php");
        assert_eq!(entry("http://a/health_check.php?x", &all).unwrap(), "pub/health_check.php");
        assert_eq!(entry("http://a/b/health_check.php", &all).unwrap(), "pub/index.php");
        assert_eq!(entry("http://a/", &all[2..]).unwrap(), "index.php");
        assert_eq!(entry("http://a/", &[]), None);
    }
}
