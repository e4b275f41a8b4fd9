//! Reports what is deployed.
//!
//! Does: only reads. Requires: nothing.

mod docs;

use oxistrano_core::json::{Value, json};
use oxistrano_core::{Context, Documentation, Failure, Literal, Module, Outcome};
use oxistrano_releases::{Root, release_options, spare};

release_options! {
    /// The options of `release_info`.
    pub struct Options {
        /// How many deploys of the history to return, the newest first. V(0) returns all.
        history: u32, default = Some(Literal::Number(20));
    }
}

/// The module.
pub struct ReleaseInfo;

/// The module as a program.
pub const PROGRAM: oxistrano_core::Program = oxistrano_releases::program::<ReleaseInfo>();

impl Module for ReleaseInfo {
    type Options = Options;
    const NAME: &'static str = "release_info";
    const DOCUMENTATION: Documentation = docs::DOCUMENTATION;

    fn run(options: Options, _: &Context) -> Result<Outcome, Failure> {
        let layout = options.layout();
        let outcome = Outcome::new(false)
            .value("releases_path", layout.releases_path().display().to_string())
            .value("current_path", layout.current_path().display().to_string());
        let Some(root) = Root::open_if_there(&layout)? else {
            return Ok(outcome
                .msg(format!("nothing is deployed to {}", layout.deploy_to))
                .value("active", Value::Null)
                .value("previous", Value::Null)
                .value("releases", json!([]))
                .value("trash", json!([]))
                .value("spare", Value::Null)
                .value("history", json!([]))
                .value("lock", Value::Null)
                .value("disk", Value::Null));
        };
        let releases = root.all_releases()?;
        let dir = root.releases_if_there()?;
        let spare = dir.as_ref().map(spare::find).transpose()?.flatten();
        let limit = if options.history == 0 { usize::MAX } else { options.history as usize };
        let history: Vec<_> = releases
            .history()
            .records()
            .iter()
            .rev()
            .take(limit)
            .map(|record| json!(record))
            .collect();
        let version =
            |release: Option<&oxistrano_releases::Release>| release.map(|r| r.version.to_string());
        let active = version(releases.active());
        let lock = match root.lock() {
            Ok(lock) => json!(lock),
            Err(failure) => json!({ "unreadable": failure.to_string() }),
        };
        Ok(outcome
            .warnings(releases.warnings(&root))
            .msg(match &active {
                Some(active) => format!("{active} is live"),
                None => "nothing is live".to_owned(),
            })
            .value("active", active)
            .value("previous", version(releases.previous()))
            .value("current_via", releases.via().map(|via| via.word()))
            .value("releases", releases.iter().map(|release| release.to_json()).collect::<Vec<_>>())
            .value("trash", json!(releases.trash()))
            .value("spare", json!(spare))
            .value("history", history)
            .value("lock", lock)
            .value("disk", root.disk()))
    }
}
