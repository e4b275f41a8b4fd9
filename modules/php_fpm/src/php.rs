//! Queries the pool's PHP through the script.

use std::path::{Path, PathBuf};

use oxistrano_core::json::{self, Value, json};
use oxistrano_core::{AbsPath, Failure};
use oxistrano_fastcgi::{Address, Request, Response, ask};

use crate::deadline::Deadline;
use crate::script::{Place, Script};

/// The code of the failure if the pool can run the script in no directory.
pub const NOT_RUN: &str = "script_not_run";

/// The limit for an answer. Magento has some ten thousand scripts with names below 200 bytes.
const ANSWER: usize = 32 << 20;
const NOTHING: &str = "Nothing was changed.";

/// A connection to a pool's PHP.
#[derive(Debug)]
pub struct Php {
    address: Address,
    script: Script,
    deadline: Deadline,
}

/// Why a script did not answer.
enum Refusal {
    /// It may answer from another directory.
    Place(String),
    /// It will not answer from any.
    Pool(Failure),
}

impl Php {
    /// Writes the script to a directory where the pool runs it; the first answer is the pool's
    /// status. `chroot` is the pool's root directory, if it is known to have one.
    ///
    /// # Errors
    /// When there is no such directory, or the pool does not answer.
    pub fn open(
        address: &Address,
        script_dir: Option<&AbsPath>,
        deploy_to: Option<&AbsPath>,
        chroot: Option<&str>,
        deadline: Deadline,
    ) -> Result<(Self, Answer), Failure> {
        let mut tried = Vec::new();
        let mut written = false;
        for place in Place::all(script_dir, deploy_to) {
            let here = place.path();
            let here = here.display();
            let script = match Script::put(&place) {
                Ok(script) => script,
                // A deploy root need not have such a directory.
                Err(_) if matches!(&place, Place::State(_)) && !place.path().exists() => continue,
                Err(failure) if failure.code() == "interrupted" => return Err(failure),
                Err(failure) => {
                    tried.push(failure.to_string());
                    continue;
                }
            };
            written = true;
            let php = Self { address: address.clone(), script, deadline };
            match php.try_ask("status", json!({}))? {
                Ok(answer) => return Ok((php, answer)),
                Err(Refusal::Pool(failure)) => return Err(failure),
                Err(Refusal::Place(why)) => tried.push(format!("in '{here}' {why}")),
            }
        }
        let failure = Failure::new(
            NOT_RUN,
            format!(
                "the pool at '{address}' does not run the module's PHP \
                script"
            ),
        );
        let failure = match chroot {
            Some(root) => failure
                .cause(format!("it has another root directory, '{root}' (chroot)"))
                .remedy("this module cannot work with such a pool, except for state=reloaded or restarted"),
            None if written => failure.cause(tried.join(", ")).remedy(
                "set script_dir (role: magento2_php_fpm_script_dir) to a directory that the \
                 pool's user may read (consider open_basedir, PrivateTmp, containers)",
            ),
            None => failure.cause(tried.join(", ")).remedy(
                "set script_dir (role: magento2_php_fpm_script_dir) to a directory that this user \
                 may write and the pool's user may read",
            ),
        };
        Err(failure.state(NOTHING))
    }

    /// Asks one question.
    ///
    /// # Errors
    /// When there is no usable answer.
    pub fn ask(&self, question: &str, arguments: Value) -> Result<Answer, Failure> {
        match self.try_ask(question, arguments)? {
            Ok(answer) => Ok(answer),
            Err(Refusal::Pool(failure)) => Err(failure),
            Err(Refusal::Place(why)) => {
                Err(Failure::new(NOT_RUN, "the pool no longer runs the module's PHP script")
                    .cause(why)
                    .path(self.script.path()))
            }
        }
    }

    fn try_ask(
        &self,
        question: &str,
        mut arguments: Value,
    ) -> Result<Result<Answer, Refusal>, Failure> {
        arguments["ask"] = question.into();
        let path = self.script.path();
        let request = params(&path, "/oxistrano.php", "POST")
            .param("OXISTRANO_MARK", self.script.mark())
            .body("application/json", arguments.to_string().into_bytes())
            .limit(ANSWER);
        let response = ask(&crate::place::door(&self.address), &request, self.deadline.left())?;
        Ok(self.read(&response))
    }

    /// Parses the answer of a pool. Only its form is trusted.
    fn read(&self, response: &Response) -> Result<Answer, Refusal> {
        let body = String::from_utf8_lossy(&response.body);
        if let Some(between) = body.split(self.script.mark()).nth(1) {
            return match json::from_str(between) {
                Ok(Value::Object(map)) => {
                    Answer::checked(Value::Object(map)).map_err(Refusal::Pool)
                }
                _ => Err(Refusal::Pool(unexpected("its answer is not a JSON object", response))),
            };
        }
        let all = format!("{body} {}", response.stderr);
        if all.contains("security.limit_extensions") {
            let failure = Failure::new(NOT_RUN, "the pool does not run files that end in .php")
                .cause("security.limit_extensions in its configuration does not allow it")
                .remedy("allow .php there")
                .state(NOTHING);
            return Err(Refusal::Pool(failure));
        }
        if all.contains("open_basedir restriction") {
            let allowed =
                all.split("allowed path(s): ").nth(1).and_then(|rest| rest.split(')').next());
            let allowed = allowed.unwrap_or_default().trim_start_matches('(');
            let shown: String = allowed.chars().take(200).collect();
            return Err(Refusal::Place(format!("open_basedir forbids it (allowed: {shown})")));
        }
        match response.status {
            404 => Err(Refusal::Place("the pool does not find it".to_owned())),
            403 => Err(Refusal::Place("the pool's user may not read it".to_owned())),
            _ => Err(Refusal::Pool(unexpected(
                "it did not run the module's PHP script to its end",
                response,
            ))),
        }
    }
}

/// The parameters of a request for a script, as nginx would send them.
pub fn params(script: &Path, uri: &str, method: &str) -> Request {
    use std::os::unix::ffi::OsStrExt;
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    Request::new()
        .param("GATEWAY_INTERFACE", "CGI/1.1")
        .param("SERVER_SOFTWARE", "oxistrano")
        .param("SERVER_PROTOCOL", "HTTP/1.1")
        .param("REQUEST_METHOD", method)
        .param("REQUEST_URI", uri)
        .param("DOCUMENT_URI", path)
        .param("QUERY_STRING", query)
        .param("SCRIPT_FILENAME", script.as_os_str().as_bytes())
        .param("REMOTE_ADDR", "127.0.0.1")
        .param("REDIRECT_STATUS", "200")
}

fn unexpected(cause: &str, response: &Response) -> Failure {
    let clip = |text: &str| text.trim().chars().take(300).collect::<String>();
    let body = clip(&String::from_utf8_lossy(&response.body));
    let said = if response.stderr.is_empty() { body } else { clip(&response.stderr) };
    Failure::new("unexpected_answer", "the pool's PHP gave an unexpected answer")
        .cause(format!("{cause} (status {}): {}", response.status, said.escape_debug()))
        .remedy("php-fpm's log may say more")
}

/// Whether opcache works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcache {
    /// It does, or will again after a pending restart.
    Enabled,
    /// Switched off.
    Disabled,
    /// The extension is not loaded.
    Absent,
}

/// The script's answer: any JSON object, which is not trusted.
#[derive(Debug, Clone)]
pub struct Answer(Value);

impl Answer {
    /// Fails if the script may not query opcache.
    fn checked(value: Value) -> Result<Self, Failure> {
        let answer = Self(value);
        let failed = || Failure::new("opcache_unavailable", "cannot ask opcache").state(NOTHING);
        match answer.text("/opcache") {
            "restricted" => Err(failed()
                .cause(format!(
                    "opcache.restrict_api allows only scripts below '{}'",
                    answer.text("/restrict_api").escape_debug()
                ))
                .remedy(
                    "set script_dir (role: magento2_php_fpm_script_dir) to a directory below \
                     that, which the web server does not serve",
                )),
            "forbidden" => Err(failed()
                .cause(format!("disable_functions has {}", answer.texts("/missing").join(", ")))
                .remedy("allow them for this pool, or use state=reloaded or restarted")),
            "" => Err(failed().cause(match answer.text("/error") {
                "" => "the script did not report it".to_owned(),
                error => error.escape_debug().to_string(),
            })),
            _ => Ok(answer),
        }
    }

    #[cfg(test)]
    pub fn of(value: Value) -> Self {
        Self(value)
    }

    /// Whether opcache works.
    pub fn opcache(&self) -> Opcache {
        match self.text("/opcache") {
            "enabled" => Opcache::Enabled,
            "absent" => Opcache::Absent,
            _ => Opcache::Disabled,
        }
    }

    /// A number by its JSON pointer; 0 if there is none.
    pub fn number(&self, pointer: &str) -> u64 {
        match self.0.pointer(pointer) {
            Some(Value::Number(number)) => number
                .as_u64()
                .unwrap_or_else(|| number.as_f64().map_or(0, |float| float as u64))
                // More than any pool has, so that sums do not overflow.
                .min(1 << 53),
            _ => 0,
        }
    }

    /// A text by its JSON pointer; empty if there is none.
    pub fn text(&self, pointer: &str) -> &str {
        self.0.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// Whether it is true, or a number other than 0.
    pub fn flag(&self, pointer: &str) -> bool {
        self.0.pointer(pointer) == Some(&Value::Bool(true)) || self.number(pointer) > 0
    }

    /// The texts of a list.
    pub fn texts(&self, pointer: &str) -> Vec<&str> {
        let list = self.0.pointer(pointer).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// Any value.
    pub fn value(&self, pointer: &str) -> &Value {
        self.0.pointer(pointer).unwrap_or(&Value::Null)
    }

    /// When the current cache began: its start, or its last restart.
    pub fn cached_since(&self) -> u64 {
        self.number("/statistics/start_time").max(self.number("/statistics/last_restart_time"))
    }

    /// The number of free keys.
    pub fn keys_free(&self) -> u64 {
        let keys = self.number("/statistics/num_cached_keys");
        self.number("/statistics/max_cached_keys").saturating_sub(keys)
    }

    /// Whether a requested restart waits for requests to end.
    pub fn is_pending(&self) -> bool {
        self.flag("/pending")
    }

    /// The key figures, as the result shows them. Sizes in bytes.
    pub fn figures(&self) -> Value {
        let [used, free, wasted] = ["used_memory", "free_memory", "wasted_memory"]
            .map(|name| self.number(&format!("/memory/{name}")));
        let total = (used + free + wasted).max(1);
        let percent = |part: u64| (part as f64 / total as f64 * 1000.0).round() / 10.0;
        let statistic = |name: &str| self.number(&format!("/statistics/{name}"));
        let (hits, misses) = (statistic("hits"), statistic("misses"));
        let asked = (hits + misses).max(1);
        json!({
            "enabled": self.opcache() == Opcache::Enabled,
            "memory_used": used,
            "memory_free": free,
            "memory_wasted": wasted,
            "used_percent": percent(used),
            "wasted_percent": percent(wasted),
            "strings_free": self.number("/strings/free_memory"),
            "scripts": statistic("num_cached_scripts"),
            "keys": statistic("num_cached_keys"),
            "max_keys": statistic("max_cached_keys"),
            "hits": hits,
            "misses": misses,
            "hit_rate": (hits as f64 / asked as f64 * 1000.0).round() / 10.0,
            "oom_restarts": statistic("oom_restarts"),
            "hash_restarts": statistic("hash_restarts"),
            "manual_restarts": statistic("manual_restarts"),
            "start_time": statistic("start_time"),
            "last_restart_time": statistic("last_restart_time"),
            "restart_pending": self.is_pending(),
            "full": self.flag("/full"),
            "validate_timestamps": self.flag("/validate_timestamps"),
            "revalidate_freq": self.number("/revalidate_freq"),
            "jit": self.flag("/jit"),
        })
    }
}

/// A path as the script gets it.
///
/// # Errors
/// `not_utf8`: it is part of a JSON text.
pub fn in_json(path: &Path) -> Result<Value, Failure> {
    path.to_str().map(Value::from).ok_or_else(|| {
        Failure::new("not_utf8", "cannot pass a path that is not UTF-8 to PHP")
            .path(PathBuf::from(path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_answer_has_figures() {
        let answer = Answer::of(json!({
            "opcache": "enabled",
            "memory": {"used_memory": 75, "free_memory": 20, "wasted_memory": 5.0},
            "statistics": {"hits": -1, "misses": "x", "start_time": 1e300, "num_cached_keys": 9},
            "validate_timestamps": 1,
        }));
        let figures = answer.figures();
        assert_eq!((&figures["used_percent"], &figures["hit_rate"]), (&json!(75.0), &json!(0.0)));
        assert_eq!(figures["validate_timestamps"], true);
        assert_eq!((answer.keys_free(), answer.cached_since()), (0, 1 << 53));
        let empty = Answer::of(json!([])).figures();
        assert_eq!((&empty["enabled"], &empty["used_percent"]), (&json!(false), &json!(0.0)));
    }

    #[test]
    fn what_may_not_be_asked_says_why() {
        let why = |value: Value| Answer::checked(value).unwrap_err().to_string();
        let text = why(json!({"opcache": "restricted", "restrict_api": "/srv/x"}));
        assert!(text.contains("below '/srv/x'; set script_dir"), "{text}");
        let text = why(json!({"opcache": "forbidden", "missing": ["opcache_reset"]}));
        assert!(text.contains("disable_functions has opcache_reset"), "{text}");
        assert!(why(json!({"error": "oh\n"})).contains("oh\\n"));
        assert!(why(json!({})).contains("did not report it"));
    }
}
