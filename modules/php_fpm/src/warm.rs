//! Compiles scripts into opcache before they are requested.

use std::path::Path;
use std::time::Duration;

use oxistrano_core::json::{Value, json};
use oxistrano_core::{Failure, RelPath};
use oxistrano_fastcgi::TIMEOUT;

use crate::deadline::Deadline;
use crate::php::{Answer, Php, in_json};

/// The number of scripts per request, which is kept short because a pool may have only one worker.
const BATCH: usize = 400;
const SECONDS: f64 = 0.4;
/// How many failed scripts a warning names.
const NAMED: usize = 5;

/// The result.
#[derive(Debug, Default)]
pub struct Warmed {
    /// Scripts that were compiled.
    pub compiled: u64,
    /// Scripts that were already cached.
    pub cached: u64,
    /// Scripts that this release does not have.
    pub missing: u64,
    /// Scripts that opcache does not keep: a blacklist, a size limit, a time in the future.
    pub left_out: u64,
    /// Scripts that could not be compiled: name and reason.
    pub failed: Vec<(String, String)>,
    /// opcache had no room for all.
    pub no_room: bool,
    /// The time limit was reached.
    pub no_time: bool,
    /// The last answer.
    last: Option<Answer>,
}

/// The cached scripts below `directories`, with names relative to them, the most used first.
#[derive(Debug)]
pub struct Cached {
    /// The names.
    pub names: Vec<String>,
    /// The number of scripts.
    pub scripts: u64,
    /// Their size in opcache, in bytes.
    pub memory: u64,
}

/// Asks for the cached scripts.
///
/// # Errors
/// When the pool does not answer.
pub fn cached(php: &Php, directories: &[&Path], most: u32) -> Result<Cached, Failure> {
    let below = directories.iter().map(|path| in_json(path)).collect::<Result<Vec<_>, _>>()?;
    let answer = php.ask("scripts", json!({"below": below, "most": most}))?;
    // Names that lead out of the release are ignored.
    let names = answer.texts("/names").into_iter().filter(|name| RelPath::new(name).is_ok());
    Ok(Cached {
        names: names.map(str::to_owned).collect(),
        scripts: answer.number("/scripts_of"),
        memory: answer.number("/memory_of"),
    })
}

/// Compiles `names` below `base`, as far as that is possible in time: a slow pool is no failure.
///
/// # Errors
/// When the pool's answer is not usable.
pub fn compile(
    php: &Php,
    base: &Path,
    names: Vec<String>,
    deadline: Deadline,
) -> Result<Warmed, Failure> {
    let base = in_json(base)?;
    let mut warmed = Warmed::default();
    let young = warmed.batches(php, &base, names, deadline)?;
    if young.is_empty() {
        return Ok(warmed);
    }
    // opcache does not keep files that were written within the last seconds.
    let protection =
        warmed.last.as_ref().map_or(0, |answer| answer.number("/file_update_protection"));
    deadline.sleep(Duration::from_secs(protection.min(10) + 1))?;
    let young = warmed.batches(php, &base, young, deadline)?;
    warmed.left_out += young.len() as u64;
    Ok(warmed)
}

impl Warmed {
    /// Returns those that are too new to be kept.
    fn batches(
        &mut self,
        php: &Php,
        base: &Value,
        names: Vec<String>,
        deadline: Deadline,
    ) -> Result<Vec<String>, Failure> {
        let mut young = Vec::new();
        let mut at = 0;
        while at < names.len() {
            if deadline.is_over() {
                self.no_time = true;
                break;
            }
            let batch = &names[at..names.len().min(at + BATCH)];
            let arguments = json!({"base": base, "names": batch, "seconds": SECONDS});
            let answer = match php.ask("compile", arguments) {
                // The pool runs PHP, as it has answered before: it is busy or slow.
                Err(failure) if failure.code() == TIMEOUT => {
                    self.no_time = true;
                    break;
                }
                answer => answer.map_err(|failure| {
                    failure.state(format!("{} scripts were compiled before that.", self.compiled))
                })?,
            };
            self.compiled += answer.number("/compiled");
            self.cached += answer.number("/cached");
            self.missing += answer.number("/missing");
            self.left_out += answer.number("/left_out");
            young.extend(answer.texts("/young").into_iter().map(str::to_owned));
            for pair in answer.value("/failed").as_array().into_iter().flatten() {
                let text = |index: usize| pair[index].as_str().unwrap_or_default().to_owned();
                self.failed.push((text(0), text(1)));
            }
            // The script that ended the request.
            if !answer.text("/fatal").is_empty() {
                let name = answer.text("/at").to_owned();
                self.failed.push((name, answer.text("/fatal").chars().take(300).collect()));
            }
            let next = usize::try_from(answer.number("/next")).unwrap_or(usize::MAX);
            let no_room = answer.flag("/no_room");
            let error = answer.text("/error").to_owned();
            self.last = Some(answer);
            if no_room {
                self.no_room = true;
                break;
            }
            if next == 0 {
                return Err(Failure::new(
                    "unexpected_answer",
                    "the pool does not compile anything",
                )
                .cause(error.escape_debug().to_string())
                .state(format!("{} scripts were compiled before that.", self.compiled)));
            }
            at = at.saturating_add(next);
        }
        Ok(young)
    }

    /// The warnings.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.failed.is_empty() {
            let named = self.failed.iter().take(NAMED);
            let named: Vec<_> = named
                .map(|(name, why)| format!("{} ({})", name.escape_debug(), why.escape_debug()))
                .collect();
            let more = self.failed.len().saturating_sub(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            warnings.push(format!(
                "{} of the release's scripts cannot be compiled: {}{more}.",
                self.failed.len(),
                named.join(", ")
            ));
        }
        if self.no_room {
            warnings.push(format!(
                "opcache has no room for the whole release in addition to what it holds; the most \
                 used scripts were compiled first. {}",
                crate::fresh::ADVICE
            ));
        }
        if self.no_time {
            warnings.push(
                "The timeout was reached before the whole release was compiled, because the pool \
                 is busy or slow. php-fpm compiles the rest when it is requested. Raise timeout, or \
                 the pool's pm.max_children."
                    .to_owned(),
            );
        }
        if self.left_out > 0 {
            warnings.push(format!(
                "opcache does not keep {} of the release's scripts: their times are in the \
                 future, or opcache.blacklist_filename or max_file_size excludes them.",
                self.left_out
            ));
        }
        // Rare and harmless: PHP then keeps the strings elsewhere.
        let last = self.last.as_ref();
        let strings = last.map_or((0, 1), |a| {
            (a.number("/strings/buffer_size"), a.number("/strings/free_memory"))
        });
        if strings.0 > 0 && strings.1 < strings.0 / 50 {
            warnings.push(
                "opcache's buffer of strings is full: raise opcache.interned_strings_buffer."
                    .to_owned(),
            );
        }
        warnings
    }

    /// As the result shows it.
    pub fn figures(&self) -> Value {
        json!({
            "compiled": self.compiled,
            "cached": self.cached,
            "missing": self.missing,
            "left_out": self.left_out,
            "failed": self.failed.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        })
    }

    /// The key figures of opcache after it.
    pub fn opcache(&self) -> Option<&Answer> {
        self.last.as_ref()
    }
}
