//! What the modules for Magento and php-fpm are called with, and in which state of the shop.

use std::fs;
use std::os::unix::fs::symlink;

use oxistrano_harness::{Value, json};

use crate::stage::Stage;
use crate::world::Changes;

/// A call of a module.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// For people.
    pub name: &'static str,
    /// The module.
    pub module: &'static str,
    /// Whether the releases have one `var`.
    pub shares_var: bool,
    /// Whether it makes the same system calls each time, whatever else runs on the machine.
    pub is_steady: bool,
    /// Brings the shop into the state that it is called in.
    pub prepare: fn(&Stage),
    /// Its arguments.
    pub arguments: fn(&Stage) -> Value,
    /// What it may change.
    pub changes: Changes,
    /// The beginning of what may only change when all the rest has changed: a shop is not opened
    /// before its database is upgraded.
    pub last: Option<&'static str>,
    /// What is called after it was disturbed; it has to succeed.
    pub again: fn(&Stage, &Value, &str) -> Result<(), String>,
}

const SHARED: Changes = &["shop/shared/var/.maintenance.flag", "shop/shared/var/.maintenance.ip"];
const OWN: Changes = &[
    "shop/releases/1/var/.maintenance.flag",
    "shop/releases/1/var/.maintenance.ip",
    "shop/releases/2/var/.maintenance.flag",
    "shop/releases/2/var/.maintenance.ip",
    "shop/releases/2/var",
];
const UPGRADE: Changes = &[
    "shop/shared/var/.maintenance.flag",
    "php/db/schema",
    "php/db/data",
    "php/db/config",
    "shop/.oxistrano/magento_upgrade.*",
];
const CRON: Changes = &["cron/crontab"];
const FLUSH: Changes = &["php/db/cache", "peers/varnish"];
const PREFIX: Changes = &["shop/releases/2/app/etc/env.php"];
/// The script is put below the state directory, and goes again.
const POOL: Changes = &["peers/opcache", "shop/.oxistrano/script"];

/// All of them.
pub fn calls() -> Vec<Call> {
    let call = |name, module, arguments, changes| Call {
        name,
        module,
        shares_var: true,
        is_steady: true,
        prepare: |_| (),
        arguments,
        changes,
        last: None,
        again: the_same,
    };
    let flag = |name, prepare, arguments| Call {
        prepare,
        ..call(name, "magento_maintenance", arguments, SHARED)
    };
    let own = |name, prepare, arguments| Call {
        shares_var: false,
        changes: OWN,
        ..flag(name, prepare, arguments)
    };
    let upgrade = |name, arguments| Call {
        prepare: close,
        last: Some("shop/shared/var/"),
        again: close_and_again,
        ..call(name, "magento_upgrade", arguments, UPGRADE)
    };
    let cron =
        |name, prepare, arguments| Call { prepare, ..call(name, "magento_cron", arguments, CRON) };
    let pool =
        |name, arguments| Call { is_steady: false, ..call(name, "php_fpm", arguments, POOL) };
    vec![
        flag("magento_maintenance, raised", |_| (), raised),
        flag("magento_maintenance, raised, with other addresses", close, raised),
        flag("magento_maintenance, raised, over a link to nowhere", dangling_flag, raised),
        own("magento_maintenance, raised, two vars", |_| (), raised),
        own("magento_maintenance, raised, var still to be made", without_var, raised),
        flag("magento_maintenance, lowered", close, lowered),
        own("magento_maintenance, lowered, two vars", close, lowered),
        flag("magento_maintenance, lowered, somebody else's", foreign_flag, lowered),
        flag("magento_maintenance, lowered, somebody else's, forced", foreign_flag, forced),
        own("magento_maintenance, kept", foreign_flag, kept),
        own("magento_maintenance, kept, var still to be made", closed_without_var, kept),
        upgrade("magento_upgrade", |stage| upgraded(stage, "upgrade")),
        upgrade("magento_upgrade, in parts", |stage| upgraded(stage, "parts")),
        upgrade("magento_upgrade, import", |stage| upgraded(stage, "import")),
        Call { again: begin_and_await, ..upgrade("magento_upgrade, begun", begun) },
        Call {
            prepare: close_and_begin,
            again: await_or_upgrade,
            ..upgrade("magento_upgrade, waited for", awaited)
        },
        Call { is_steady: false, ..cron("magento_cron, held", |_| (), held) },
        cron("magento_cron, running", hold, running),
        call("magento_cache, flushed", "magento_cache", flushed, FLUSH),
        call("magento_cache, cleaned", "magento_cache", cleaned, FLUSH),
        call("magento_cache, prefixed", "magento_cache", prefixed, PREFIX),
        Call {
            prepare: |stage| drop(stage.must("magento_cache", &prefixed(stage))),
            ..call("magento_cache, prefixed, another", "magento_cache", other_prefix, PREFIX)
        },
        call("magento_status", "magento_status", |stage| stage.with_php(json!({})), &[]),
        pool("php_fpm, status", |stage| stage.with_pool(json!({"state": "status"}))),
        pool("php_fpm, warmed", warmed),
        pool("php_fpm, fresh", |stage| stage.with_pool(json!({}))),
        pool("php_fpm, reset", |stage| stage.with_pool(json!({"state": "reset"}))),
    ]
}

const BOTH: [&str; 2] = ["current", "releases/2"];

fn maintenance(stage: &Stage, mut more: Value) -> Value {
    more["paths"] = json!(BOTH);
    stage.with(more)
}

fn raised(stage: &Stage) -> Value {
    let addresses = ["203.0.113.7", "2001:db8::7"];
    maintenance(stage, json!({"state": "raised", "allowed_ips": addresses, "reason": "a deploy"}))
}

fn lowered(stage: &Stage) -> Value {
    maintenance(stage, json!({"state": "lowered"}))
}

fn forced(stage: &Stage) -> Value {
    maintenance(stage, json!({"state": "lowered", "force": true}))
}

fn kept(stage: &Stage) -> Value {
    maintenance(stage, json!({"state": "kept"}))
}

fn close(stage: &Stage) {
    let arguments = json!({"state": "raised", "allowed_ips": ["192.0.2.1"]});
    stage.must("magento_maintenance", &maintenance(stage, arguments));
}

/// By `maintenance:enable` and `maintenance:allow-ips` of the live release.
fn foreign_flag(stage: &Stage) {
    let var = stage.root().join("current/var");
    fs::write(var.join(".maintenance.flag"), "").expect("a flag");
    fs::write(var.join(".maintenance.ip"), "192.0.2.1").expect("addresses");
}

fn dangling_flag(stage: &Stage) {
    let flag = stage.root().join("shared/var/.maintenance.flag");
    symlink("nowhere", flag).expect("a link");
}

fn without_var(stage: &Stage) {
    fs::remove_dir(stage.root().join("releases/2/var")).expect("var");
}

fn closed_without_var(stage: &Stage) {
    foreign_flag(stage);
    without_var(stage);
}

fn upgraded(stage: &Stage, how: &str) -> Value {
    stage.with_php(json!({"how": how, "lower": true, "paths": BOTH}))
}

fn begun(stage: &Stage) -> Value {
    stage.with_php(json!({"state": "begun", "paths": BOTH}))
}

/// Where the one that [`close_and_begin`] has begun left its name.
const BEGUN: &str = "begun";

fn close_and_begin(stage: &Stage) {
    close(stage);
    let id = stage.must("magento_upgrade", &begun(stage))["id"].clone();
    fs::write(stage.beside(BEGUN), id.as_str().expect("its name")).expect("a file");
}

fn awaited(stage: &Stage) -> Value {
    let id = fs::read_to_string(stage.beside(BEGUN)).expect("its name");
    stage.with_php(json!({"begun": id, "lower": true, "paths": BOTH}))
}

fn held(stage: &Stage) -> Value {
    stage.with(json!({"state": "held", "wait": 0}))
}

fn hold(stage: &Stage) {
    stage.must("magento_cron", &held(stage));
}

fn running(stage: &Stage) -> Value {
    let path = stage.root().join("releases/2");
    stage.with(json!({"state": "running", "path": path.to_str()}))
}

/// Not a module of the deploy root, but of a release.
fn of_release(stage: &Stage, arguments: Value) -> Value {
    let mut arguments = stage.with_php(arguments);
    if let Some(arguments) = arguments.as_object_mut() {
        arguments.remove("deploy_to");
    }
    arguments
}

fn flushed(stage: &Stage) -> Value {
    of_release(stage, json!({"varnish": stage.varnish()}))
}

fn cleaned(stage: &Stage) -> Value {
    of_release(stage, json!({"state": "cleaned", "types": ["config", "layout"]}))
}

fn prefixed(stage: &Stage) -> Value {
    of_release(stage, json!({"state": "prefixed", "prefix": "2_"}))
}

fn other_prefix(stage: &Stage) -> Value {
    of_release(stage, json!({"state": "prefixed", "prefix": "3_"}))
}

fn warmed(stage: &Stage) -> Value {
    let release = stage.root().join("releases/2");
    stage.with_pool(json!({"state": "warmed", "release_path": release.to_str()}))
}

fn the_same(stage: &Stage, arguments: &Value, module: &str) -> Result<(), String> {
    let said = stage.run(module, arguments);
    match said.is_well() {
        true => Ok(()),
        false => Err(said.message()),
    }
}

/// As the next deploy does it: closes the shop, if it is open, and upgrades.
fn close_and_again(stage: &Stage, arguments: &Value, module: &str) -> Result<(), String> {
    close(stage);
    the_same(stage, arguments, module)
}

/// Begins it again, and waits for its end as the role does.
fn begin_and_await(stage: &Stage, arguments: &Value, module: &str) -> Result<(), String> {
    let said = stage.run(module, arguments);
    let id = said.value.as_ref().and_then(|value| value["id"].as_str());
    let id = id.ok_or_else(|| said.message())?;
    let end = stage.with_php(json!({"begun": id, "lower": true, "paths": BOTH}));
    the_same(stage, &end, module)
}

/// Waits again; where its result was read already, the next deploy does all of it.
fn await_or_upgrade(stage: &Stage, arguments: &Value, module: &str) -> Result<(), String> {
    let said = stage.run(module, arguments);
    match said.code() {
        "no_such_upgrade" => close_and_again(stage, &upgraded(stage, "upgrade"), module),
        _ if said.is_well() => Ok(()),
        _ => Err(said.message()),
    }
}
