//! Purges all pages of the shop from a Varnish server.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use oxistrano_core::json::Value;
use oxistrano_core::{Failure, FromValue, Kind, OptionSpec, interrupt, net, show};
use rustix::event::PollFlags;

/// An answer is a line, not longer than this; the rest is of no interest.
const ANSWER: usize = 4096;
/// Characters of it that are shown.
const SHOWN: usize = 200;

/// The address of a Varnish server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    host: String,
    port: u16,
}

impl FromValue for Server {
    const SPEC: OptionSpec = OptionSpec::of(Kind::Str);

    fn from_value(value: Option<Value>) -> Result<Self, String> {
        let text = String::from_value(value)?;
        let (host, port) = match text.rsplit_once(':') {
            // An IPv6 address contains colons.
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port),
            _ => (text.as_str(), "80"),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = port.parse().map_err(|_| format!("'{text}' is not HOST:PORT"))?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_:".contains(c);
        if host.is_empty() || host.starts_with('-') || !host.chars().all(allowed) {
            return Err(format!("'{text}' is not HOST:PORT"));
        }
        Ok(Self { host, port })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Server {
    /// Bans all pages, as Magento does when it flushes the page cache.
    ///
    /// # Errors
    /// `varnish` when the server cannot be reached, or refuses.
    pub fn ban_all(&self, timeout: Duration) -> Result<(), Failure> {
        let failed = |cause: String| {
            Failure::new("varnish", format!("cannot purge Varnish at {self}")).cause(cause)
        };
        let answer = self.ask(timeout).map_err(|error| match interrupt::check() {
            Err(interrupted) => {
                interrupted.state(format!("Whether Varnish at {self} was purged is not known."))
            }
            Ok(()) if error.kind() == ErrorKind::TimedOut => {
                failed(format!("it did not answer within {} s", timeout.as_secs()))
            }
            Ok(()) => failed(error.to_string()),
        })?;
        let line = answer.lines().next().unwrap_or_default().trim();
        match line.split(' ').nth(1) {
            Some("200") => Ok(()),
            Some("405") => Err(failed(format!("it answered '{}'", show::line(line, SHOWN)))
                .remedy("allow this host in the VCL's acl purge")),
            _ => Err(failed(format!("it answered '{}'", show::line(line, SHOWN)))
                .remedy("check that it uses Magento's VCL (bin/magento varnish:vcl:generate)")),
        }
    }

    /// The time is that of all of it, for all addresses: a server that sends a byte now and then
    /// does not prolong it.
    fn ask(&self, timeout: Duration) -> std::io::Result<String> {
        let deadline = Instant::now() + timeout;
        let mut stream = self.connect(deadline)?;
        let request = format!(
            "PURGE / HTTP/1.1\r\nHost: {}\r\nX-Magento-Tags-Pattern: .*\r\nConnection: close\r\n\r\n",
            self.host
        );
        // A few bytes: the buffer of a new connection takes them at once.
        stream.write_all(request.as_bytes())?;
        let answer = first_line(&mut stream, deadline)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// To the first of its addresses that takes the connection.
    fn connect(&self, deadline: Instant) -> std::io::Result<TcpStream> {
        let mut last = std::io::Error::other("its name has no address");
        for address in net::resolve(&self.host, self.port).map_err(std::io::Error::other)? {
            match net::connect(address, deadline) {
                Ok(socket) => return Ok(TcpStream::from(socket)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// What comes up to the first line's end.
fn first_line(stream: &mut TcpStream, deadline: Instant) -> std::io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    let mut buffer = [0; 512];
    while answer.len() < ANSWER && !answer.contains(&b'\n') {
        while net::wait(&*stream, PollFlags::IN, deadline)?.is_empty() {}
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => answer.extend(buffer.iter().take(count)),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    fn server(text: &str) -> Result<String, String> {
        Server::from_value(Some(text.into())).map(|server| server.to_string())
    }

    #[test]
    fn servers_are_read() {
        assert_eq!(server("cache1").unwrap(), "cache1:80");
        assert_eq!(server("cache1:6081").unwrap(), "cache1:6081");
        assert_eq!(server("[::1]:6081").unwrap(), "::1:6081");
        for wrong in ["", ":80", "a:b", "-a:80", "a b:80", "http://a:80"] {
            assert!(server(wrong).is_err(), "{wrong}");
        }
    }

    fn answering(answer: &'static str) -> (Result<(), Failure>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let varnish = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let count = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..count]).into_owned()
        });
        let server = Server { host: "localhost".into(), port };
        let result = server.ban_all(Duration::from_secs(10));
        (result, varnish.join().unwrap())
    }

    #[test]
    fn the_request_is_magento_s() {
        let (result, request) = answering("HTTP/1.1 200 Purged\r\n\r\n");
        result.unwrap();
        assert!(request.starts_with("PURGE / HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("X-Magento-Tags-Pattern: .*\r\n"), "{request}");
    }

    #[test]
    fn a_server_that_says_a_byte_now_and_then_does_not_prolong_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            while stream.write_all(b"x").is_ok() {
                thread::sleep(Duration::from_millis(50));
            }
        });
        let started = Instant::now();
        let server = Server { host: "127.0.0.1".into(), port };
        let error = server.ban_all(Duration::from_secs(1)).unwrap_err().to_string();
        assert!(error.contains("did not answer within 1 s"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let error = answering("HTTP/1.1 405 Method not allowed\r\n\r\n").0.unwrap_err().to_string();
        assert!(error.contains("acl purge"), "{error}");
        assert!(answering("").0.is_err());
    }
}
