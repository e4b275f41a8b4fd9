//! Compiling scripts into opcache before somebody asks for them.

use std::path::Path;
use std::time::Duration;

use oxistrano_core::json::{Value, json};
use oxistrano_core::{Failure, RelPath};

use crate::deadline::Deadline;
use crate::php::{Answer, Php, in_json};

/// Scripts in one request, and seconds that it may take: a pool may have one worker only.
const BATCH: usize = 400;
const SECONDS: f64 = 0.4;
/// How many that could not be compiled are named.
const NAMED: usize = 5;

/// What has become of the scripts.
#[derive(Debug, Default)]
pub struct Warmed {
    /// Compiled now.
    pub compiled: u64,
    /// Were there already.
    pub cached: u64,
    /// Are not in this release.
    pub missing: u64,
    /// opcache does not want them: a blacklist, a limit of size, a time in the future.
    pub left_out: u64,
    /// Could not be compiled: name and why.
    pub failed: Vec<(String, String)>,
    /// There was no room for all.
    pub no_room: bool,
    /// There was no time for all.
    pub no_time: bool,
    /// The last answer.
    last: Option<Answer>,
}

/// What is cached below `directories`, names relative to them, the most used first.
#[derive(Debug)]
pub struct Cached {
    /// The names.
    pub names: Vec<String>,
    /// How many scripts.
    pub scripts: u64,
    /// What they take, in bytes.
    pub memory: u64,
}

/// Asks what is cached.
///
/// # Errors
/// When the pool does not say.
pub fn cached(php: &Php, directories: &[&Path], most: u32) -> Result<Cached, Failure> {
    let below = directories.iter().map(|path| in_json(path)).collect::<Result<Vec<_>, _>>()?;
    let answer = php.ask("scripts", json!({"below": below, "most": most}))?;
    // A name that leads out of the release is none.
    let names = answer.texts("/names").into_iter().filter(|name| RelPath::new(name).is_ok());
    Ok(Cached {
        names: names.map(str::to_owned).collect(),
        scripts: answer.number("/scripts_of"),
        memory: answer.number("/memory_of"),
    })
}

/// Compiles `names` below `base`.
///
/// # Errors
/// When the pool does not answer.
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
    // opcache does not keep what was written in the last seconds.
    let protection =
        warmed.last.as_ref().map_or(0, |answer| answer.number("/file_update_protection"));
    deadline.sleep(Duration::from_secs(protection.min(10) + 1))?;
    let young = warmed.batches(php, &base, young, deadline)?;
    warmed.left_out += young.len() as u64;
    Ok(warmed)
}

impl Warmed {
    /// Returns those that are too young to be kept.
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
            let answer = php.ask("compile", arguments).map_err(|failure| {
                failure.state(format!("{} scripts were compiled until then.", self.compiled))
            })?;
            self.compiled += answer.number("/compiled");
            self.cached += answer.number("/cached");
            self.missing += answer.number("/missing");
            self.left_out += answer.number("/left_out");
            young.extend(answer.texts("/young").into_iter().map(str::to_owned));
            for pair in answer.value("/failed").as_array().into_iter().flatten() {
                let text = |index: usize| pair[index].as_str().unwrap_or_default().to_owned();
                self.failed.push((text(0), text(1)));
            }
            // The script that has ended the request.
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
                return Err(Failure::new("unexpected_answer", "the pool compiles nothing")
                    .cause(error.escape_debug().to_string())
                    .state(format!("{} scripts were compiled until then.", self.compiled)));
            }
            at = at.saturating_add(next);
        }
        Ok(young)
    }

    /// What a person should know.
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
                "opcache has no room for the whole release beside what it holds; the most used \
                 scripts came first. {}",
                crate::fresh::ADVICE
            ));
        }
        if self.no_time {
            warnings.push(
                "The time was over before the whole release was compiled: raise timeout."
                    .to_owned(),
            );
        }
        if self.left_out > 0 {
            warnings.push(format!(
                "opcache does not keep {} of the release's scripts: their times lie in the future, \
                 or opcache.blacklist_filename or max_file_size exclude them.",
                self.left_out
            ));
        }
        // Seldom, and it stops no one: PHP keeps the strings elsewhere then.
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
