//! The answer: CGI's headers (RFC 3875, section 6) and what follows them.

use std::fmt;

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// `Status`, else 302 with a `Location`, else 200.
    pub status: u16,
    /// Names, unchanged, and values; without `Status`.
    pub headers: Vec<(String, String)>,
    /// What follows the headers.
    pub body: Vec<u8>,
    /// The beginning of what the program wrote to the error stream.
    pub stderr: String,
}

/// Why it is not a valid answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(&'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Response {
    /// Splits headers and body.
    ///
    /// # Errors
    /// When the headers are incomplete or invalid.
    pub fn new(stdout: Vec<u8>, stderr: &[u8]) -> Result<Self, Malformed> {
        let mut headers = Vec::new();
        let mut at = 0;
        loop {
            let rest = stdout.get(at..).unwrap_or_default();
            let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                return Err(Malformed(if stdout.is_empty() {
                    "its answer is empty"
                } else {
                    "its answer has no end of headers"
                }));
            };
            at += end + 1;
            let line = String::from_utf8_lossy(rest.get(..end).unwrap_or_default());
            let line = line.trim_end_matches('\r');
            if line.is_empty() {
                break;
            }
            let (name, value) =
                line.split_once(':').ok_or(Malformed("its answer has an invalid header line"))?;
            headers.push((name.trim().to_owned(), value.trim().to_owned()));
        }
        let find =
            |wanted: &str| headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        let status = match find("Status") {
            Some((_, text)) => text
                .split(' ')
                .next()
                .and_then(|code| code.parse().ok())
                .filter(|code| (100..1000).contains(code))
                .ok_or(Malformed("the status of its answer is not a number"))?,
            None if find("Location").is_some() => 302,
            None => 200,
        };
        headers.retain(|(name, _)| !name.eq_ignore_ascii_case("Status"));
        let mut body = stdout;
        body.drain(..at);
        let stderr = String::from_utf8_lossy(stderr).trim().to_owned();
        Ok(Self { status, headers, body, stderr })
    }

    /// The first header with this name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|header| header.0.eq_ignore_ascii_case(name));
        found.map(|header| header.1.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(text: &[u8]) -> Result<Response, Malformed> {
        Response::new(text.to_vec(), b" oh \n")
    }

    #[test]
    fn status_headers_and_body_are_told_apart() {
        let response =
            of(b"status: 404 Not Found\r\nX-A: b: c\r\n\r\nFile not found.\n\n").unwrap();
        assert_eq!((response.status, response.header("x-a")), (404, Some("b: c")));
        assert_eq!(response.body, b"File not found.\n\n");
        assert_eq!((response.header("status"), response.stderr.as_str()), (None, "oh"));
        assert_eq!(of(b"Content-type: text/html\n\n").unwrap().status, 200);
        assert_eq!(of(b"Location: /setup/\r\n\r\n").unwrap().status, 302);
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for (text, why) in [
            (&b""[..], "empty"),
            (b"Content-type: text/html\r\n", "has no end of headers"),
            (b"nonsense\r\n\r\n", "invalid header line"),
            (b"Status: soon\r\n\r\n", "not a number"),
            (b"Status: 7\r\n\r\n", "not a number"),
        ] {
            let error = of(text).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_none(
            bytes in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..200),
                "(Status: [0-9]{1,4}|[A-Z]:[a-z ]{0,3})?(\r?\n[a-z]?:?){0,4}\\PC{0,20}"
                    .prop_map(String::into_bytes),
            ]
        ) {
            if let Ok(response) = of(&bytes) {
                prop_assert!((100..1000).contains(&response.status));
                prop_assert!(bytes.ends_with(&response.body));
            }
        }
    }
}
