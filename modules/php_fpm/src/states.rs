//! The implementation of each state.

use std::path::Path;

use oxistrano_core::json::Value;
use oxistrano_core::{Context, Failure, Outcome};
use oxistrano_fastcgi::TIMEOUT;

use crate::act;
use crate::fresh::{self, Live, Room};
use crate::hold;
use crate::master;
use crate::options::{Method, Plan, WhenFull};
use crate::php::{self, Answer, Opcache, Php};
use crate::place;
use crate::pool::{self, Pool};
use crate::requests;
use crate::warm;

impl Plan {
    pub fn limits(&self) -> hold::Limits {
        hold::Limits {
            seconds: self.options.hold,
            most: self.options.hold_most as usize,
            except: self.options.hold_except.clone(),
            current: self
                .options
                .deploy_to
                .as_ref()
                .map(|root| root.as_path().join(&self.options.current_dir)),
        }
    }

    pub fn live(&self) -> Result<Live, Failure> {
        // Checked in `new`.
        let deploy_to = self
            .options
            .deploy_to
            .as_ref()
            .ok_or_else(|| Failure::new("invalid_arguments", "deploy_to is required"))?;
        let options = &self.options;
        Live::look(deploy_to, &options.current_dir, &options.releases_dir, &options.served_as)
    }

    pub(super) fn forced(
        &self,
        pool: &Pool,
        method: Method,
        context: &Context,
    ) -> Result<Outcome, Failure> {
        let done = done(method);
        if context.check_mode {
            return Ok(Outcome::new(true).msg(format!("would have {done}")));
        }
        // A reset needs PHP's answer, a reload works better with it, and a restart must work for a pool that hangs.
        let (php, mut warnings) = match method {
            Method::Restart => (None, Vec::new()),
            Method::Reset => (Some(pool.php()?), Vec::new()),
            Method::Reload => match pool.php() {
                Ok(php) => (Some(php), Vec::new()),
                Err(failure) if is_only_unseen(&failure) => {
                    let warning = "The reload could be verified only by the process list";
                    (None, vec![format!("{warning}: {failure}")])
                }
                Err(failure) => return Err(failure.state("Nothing was changed.")),
            },
        };
        let asked = php.as_ref().map(|(php, answer)| (php, answer));
        let known = match php.as_ref().map(|(php, answer)| self.known(php, answer)) {
            Some(Ok(known)) => known,
            Some(Err(why)) => {
                let state = "What opcache held was not compiled again.";
                warnings.push(why.instead_of_state(state).to_string());
                None
            }
            None => None,
        };
        warnings.extend(act::act(pool, asked, method, self.options.service.as_deref())?);
        let outcome = Outcome::new(true).msg(done).value("method", method.word());
        let outcome = described(outcome, pool).warnings(warnings);
        match (php, known) {
            (Some((php, _)), Some((live, known))) => {
                warmed_again(outcome, &php, &live, known, pool, method)
            }
            _ => Ok(outcome),
        }
    }

    /// The live release, and the scripts in opcache of it and of earlier ones. `None` if it was not asked for, or there are
    /// none; the error says why that is not known.
    fn known(&self, php: &Php, before: &Answer) -> Result<Option<(Live, warm::Cached)>, Failure> {
        let Some(deploy_to) = &self.options.deploy_to else { return Ok(None) };
        let live = self.live()?;
        let answer = live.ask(php, &self.entry_points)?;
        let known = self.cached(php, &live, &answer)?;
        let scripts = before.figures()["scripts"].as_u64().unwrap_or(0);
        match known.names.is_empty() {
            false => Ok(Some((live, known))),
            // One may be our own.
            true if scripts <= 1 => Ok(None),
            true => {
                let what =
                    format!("none of the {scripts} scripts in opcache is below '{deploy_to}'");
                Err(Failure::new("other_root", what)
                    .remedy("set deploy_to to the root that this pool serves"))
            }
        }
    }

    fn cached(&self, php: &Php, live: &Live, answer: &Answer) -> Result<warm::Cached, Failure> {
        let directories = fresh::directories(live, answer);
        let directories: Vec<&Path> = directories.iter().map(AsRef::as_ref).collect();
        warm::cached(php, &directories, self.options.max_files)
    }

    pub(super) fn fresh(&self, pool: &Pool, context: &Context) -> Result<Outcome, Failure> {
        let live = self.live()?;
        let (php, before) = pool.php()?;
        let outcome = |changed| described(Outcome::new(changed), pool);
        if before.opcache() != Opcache::Enabled {
            let why = format!(
                "opcache is not enabled in this pool; workers may remember old paths for {} s \
                 (realpath_cache_ttl)",
                before.number("/realpath_cache_ttl")
            );
            return Ok(outcome(false).msg(why.clone()).value("needed", false).value("why", why));
        }
        let answer = live.ask(&php, &self.entry_points)?;
        let verdict = fresh::judge(&live, &answer, pool::now());
        let room = Room::of(&live, &answer);
        let outcome = |changed| {
            outcome(changed)
                .value("needed", verdict.needed)
                .value("why", verdict.why.as_str())
                .value("nearly_full", room.nearly_full)
                .value("room", room.figures.clone())
        };
        let method = match (verdict.needed, room.nearly_full, self.options.when_full) {
            (true, _, _) => Some(self.options.method),
            (false, true, WhenFull::Reset) => Some(Method::Reset),
            (false, true, WhenFull::Reload) => Some(Method::Reload),
            _ => None,
        };
        let preloaded = fresh::preloaded(&live, &answer, method);
        let outcome = |changed| outcome(changed).warnings(preloaded.clone());
        let Some(method) = method else {
            return Ok(outcome(false).msg(verdict.why.as_str()).warnings(room.warning()));
        };
        // A full cache is either the reason, or is solved by this.
        let reason =
            if verdict.needed { verdict.why.clone() } else { room.warning().unwrap_or_default() };
        let outcome = |changed| outcome(changed).value("method", method.word());
        if context.check_mode {
            return Ok(outcome(true).msg(format!("would have {}: {reason}", done(method))));
        }
        let known = self.cached(&php, &live, &answer)?;
        let warnings =
            act::act(pool, Some((&php, &answer)), method, self.options.service.as_deref())?;
        let outcome = outcome(true).msg(format!("{}: {reason}", done(method))).warnings(warnings);
        warmed_again(outcome, &php, &live, known, pool, method)
    }

    pub(super) fn warmed(&self, pool: &Pool, context: &Context) -> Result<Outcome, Failure> {
        let release = self.release()?;
        if context.check_mode {
            let would = format!("would compile the scripts of '{}'", self.shown_release());
            return Ok(Outcome::new(true).msg(would));
        }
        let Some(release) = release else {
            return Err(Failure::new("no_release", "cannot warm opcache")
                .cause(format!("'{}' does not exist", self.shown_release()))
                .remedy("make the release first (release_unpack or release_copy)")
                .state("Nothing was changed."));
        };
        // The first deploy has no live release.
        let live = match self.live() {
            Ok(live) => Some(live),
            Err(failure) if failure.code() == "nothing_live" => None,
            Err(failure) => return Err(failure),
        };
        let unchanged = |pool: &Pool, why: &str| {
            Ok(described(Outcome::new(false), pool).msg(why).value("fits", true))
        };
        if live.as_ref().is_some_and(|live| live.directory) {
            let why = "current is a directory: php-fpm serves its files, not the release's, and \
                they cannot be compiled before they are replaced";
            return unchanged(pool, why);
        }
        let (php, before) = pool.php()?;
        if before.opcache() != Opcache::Enabled {
            return unchanged(
                pool,
                "opcache is not enabled in this pool: there is nothing to warm",
            );
        }
        let mut notes = Vec::new();
        let none = warm::Cached { names: Vec::new(), scripts: 0, memory: 0 };
        let known = match &live {
            // The used scripts of the live release.
            Some(live) => match warm::cached(&php, &[&live.real], self.options.max_files) {
                // The pool runs PHP, as it has answered before: it is busy or slow.
                Err(failure) if failure.code() == TIMEOUT => {
                    notes.push(format!(
                        "The scripts that visitors use are not known, so they were not compiled: \
                         {failure}"
                    ));
                    none
                }
                known => known?,
            },
            None => none,
        };
        let mut names = known.names;
        if names.is_empty() && notes.is_empty() {
            notes.push(
                "opcache holds no scripts of a live release, so it is not known which are used: \
                 only the entry points were compiled."
                    .to_owned(),
            );
        }
        // First, because they are requested first.
        for entry in self.entry_points.iter().rev() {
            let entry = entry.to_string();
            if !names.contains(&entry) && release.join(&entry).is_file() {
                names.insert(0, entry);
            }
        }
        let warmed = warm::compile(&php, &release, names, pool.deadline)?;
        let results = requests::ask_all(
            &place::door(&pool.address),
            &self.urls,
            &release,
            &self.entry_points,
            &self.options.request_params,
            pool.deadline,
        )?;
        let figures = warmed.opcache().map_or(Value::Null, Answer::figures);
        let msg = format!(
            "compiled {} scripts of '{}', {} were already cached",
            warmed.compiled,
            release.display(),
            warmed.cached
        );
        Ok(described(Outcome::new(warmed.compiled > 0), pool)
            .msg(msg)
            .value("fits", !warmed.no_room)
            .value("warmed", warmed.figures())
            .value("live_scripts", known.scripts)
            .value("live_memory", known.memory)
            .value("opcache", figures)
            .warnings(notes)
            .warnings(warmed.warnings())
            .warnings(requests::warning(&results))
            .value("requests", results))
    }
}

/// The pool works, but does not run our script.
fn is_only_unseen(failure: &Failure) -> bool {
    [php::NOT_RUN, "opcache_unavailable", "unexpected_answer"].contains(&failure.code())
}

/// Compiles the scripts that were cached before for the live release. If that fails, it is only a warning.
fn warmed_again(
    outcome: Outcome,
    php: &Php,
    live: &Live,
    known: warm::Cached,
    pool: &Pool,
    method: Method,
) -> Result<Outcome, Failure> {
    match warm::compile(php, &live.real, known.names, pool.deadline) {
        Ok(warmed) => Ok(outcome.value("warmed", warmed.figures()).warnings(warmed.warnings())),
        Err(failure) if failure.code() == "interrupted" => Err(failure
            .instead_of_state(format!("The module has {}; opcache is not warmed.", done(method)))),
        Err(failure) => {
            Ok(outcome.warning(format!("opcache could not be warmed again: {failure}")))
        }
    }
}

fn done(method: Method) -> &'static str {
    match method {
        Method::Reset => "reset opcache",
        Method::Reload => "reloaded php-fpm",
        Method::Restart => "restarted php-fpm",
    }
}

pub(super) fn status(pool: &Pool) -> Result<Outcome, Failure> {
    let (_script, answer): (Php, Answer) = pool.php()?;
    let busy = pool.busy();
    let figures = answer.figures();
    let msg = match answer.opcache() {
        Opcache::Enabled => format!(
            "PHP {}, opcache uses {} % of its memory for {} scripts, hit rate {} %",
            answer.text("/php"),
            figures["used_percent"],
            figures["scripts"],
            figures["hit_rate"]
        ),
        Opcache::Disabled => format!("PHP {}, opcache is switched off", answer.text("/php")),
        Opcache::Absent => format!("PHP {}, opcache is not loaded", answer.text("/php")),
    };
    Ok(hold::described(described(Outcome::new(false), pool), &pool.address)
        .msg(msg)
        .value("php_version", answer.text("/php"))
        .value("opcache", figures)
        .value("active", busy.accepted)
        .value("queue", busy.queued)
        .value("pool", pool.configured().map(|pool| pool.name.as_str())))
}

/// Adds what is known of the pool's master.
fn described(outcome: Outcome, pool: &Pool) -> Outcome {
    let master = pool.found.master();
    outcome
        .value("master_pid", pool.found.pid())
        .value("master_in_doubt", pool.found.why())
        .value("unit", master.and_then(master::Master::unit))
        .value("config", master.and_then(|m| m.config.as_ref()).map(|p| p.display().to_string()))
        .value("process_control_timeout", pool.process_control_timeout())
}
