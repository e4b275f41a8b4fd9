//! Flushes or cleans Magento's caches.
//!
//! Does: `cache:flush` or `cache:clean`, then purges Varnish. Requires: a release with its
//! configuration. After a failure: says which part was done.

mod docs;
mod prefix;
mod varnish;

use std::time::Duration;

use oxistrano_core::{Context, Documentation, Failure, Literal, Module, Outcome};
use oxistrano_magento::magento_options;

oxistrano_core::choices! {
    /// What to do.
    pub enum State {
        /// The whole storage.
        Flushed = "flushed",
        /// Magento's entries.
        Cleaned = "cleaned",
        /// A separate prefix for one release.
        Prefixed = "prefixed",
    }
}

magento_options! {
    /// The options of `magento_cache`.
    pub struct Options {
        /// V(flushed) empties the cache storage, including entries of other applications
        /// (C(cache:flush)). V(cleaned) removes only Magento's entries (C(cache:clean)).
        /// V(prefixed) runs no command. It writes an C(app/etc/env.php) for the release O(path)
        /// that includes the previous one (the linked file, or the release's own, which is renamed
        /// to C(env.own.php)) and sets O(prefix) for its caches, so that old and new code do not
        /// read each other's entries.
        state: State, default = Some(Literal::Text("flushed"));
        /// With O(state=prefixed), the prefix of all cache keys of this release. It may contain
        /// letters, digits, C(_), C(-) and C(.). Magento accepts only letters, digits and C(_), so
        /// C(-) and C(.) become C(_2d_) and C(_2e_).
        prefix: Option<String>;
        /// With O(state=prefixed), whether to keep the prefix that the release already has.
        keep: bool, default = Some(Literal::Flag(false));
        /// With O(state=prefixed), the release that is live now, for example the path of
        /// C(current). Changes that Magento has written into that release's C(app/etc/env.php) are
        /// first copied to the shared file.
        live: Option<oxistrano_core::AbsPath>;
        /// The cache types, for example V(config). By default, all.
        types: Vec<String>;
        /// Varnish servers whose pages are all purged, as V(HOST:PORT). The request is the one that
        /// Magento sends and its VCL expects: C(PURGE) with C(X-Magento-Tags-Pattern: .*).
        varnish: Vec<varnish::Server>;
        /// Seconds that the command may take.
        timeout: u64, default = Some(Literal::Number(300));
    }
    constraints: [oxistrano_core::Constraint::RequiredIf("state", "prefixed", &["prefix"])];
}

/// The module.
pub struct MagentoCache;

/// The module as a program.
pub const PROGRAM: oxistrano_core::Program = oxistrano_core::Program::of::<MagentoCache>();

impl Module for MagentoCache {
    type Options = Options;
    const NAME: &'static str = "magento_cache";
    const DOCUMENTATION: Documentation = docs::DOCUMENTATION;

    fn run(options: Options, context: &Context) -> Result<Outcome, Failure> {
        if options.state == State::Prefixed {
            let prefix = options.prefix.as_deref().unwrap_or_default();
            let given = prefix::set(&options.path, prefix, options.keep, context.check_mode)?;
            let (carried, warning) = match &options.live {
                Some(live) => prefix::carry(live, &given, context.check_mode)?,
                None => (false, None),
            };
            return Ok(Outcome::new(given.changed || carried)
                .msg(format!("the cache prefix is {}", given.prefix))
                .value("prefix", given.prefix)
                .value("carried", carried)
                .value(
                    "live",
                    options
                        .live
                        .and_then(|live| live.as_path().canonicalize().ok())
                        .map(|live| live.display().to_string()),
                )
                .warnings(warning));
        }
        let magento = options.magento()?;
        let (command, done) = match options.state {
            State::Flushed => ("cache:flush", "Flushed cache types:"),
            State::Cleaned | State::Prefixed => ("cache:clean", "Cleaned cache types:"),
        };
        if context.check_mode {
            return Ok(Outcome::new(true).msg(format!("would run {command}")));
        }
        let mut arguments = vec![command];
        arguments.extend(options.types.iter().map(String::as_str));
        let answer = magento.ask(&arguments, Duration::from_secs(options.timeout))?;
        if answer.rc != 0 || !answer.says(done) {
            return Err(Failure::new("not_flushed", format!("`bin/magento {command}` failed"))
                .cause(answer.reason())
                .remedy("fix that and run it again; the shop may show old content until then")
                .value("answer", answer.to_json()));
        }
        // If one is down, the others must still be purged.
        let failures: Vec<Failure> = options
            .varnish
            .iter()
            .filter_map(|server| server.ban_all(Duration::from_secs(10)).err())
            .collect();
        let others = failures.len().saturating_sub(1);
        if let Some(failure) = failures.into_iter().next() {
            let more = match others {
                0 => String::new(),
                others => format!("and {others} more"),
            };
            return Err(failure.state(format!(
                "{command} succeeded. Varnish there{more} may still show old pages."
            )));
        }
        // One name a line behind the heading.
        let types: Vec<_> =
            answer.stdout.lines().skip_while(|line| *line != done).skip(1).map(str::trim).collect();
        Ok(Outcome::new(true)
            .msg(format!("{done} {}", types.join(", ")))
            .value("types", types)
            .value("answer", answer.to_json())
            .warnings(magento.warning()))
    }
}
