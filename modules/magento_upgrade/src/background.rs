//! An upgrade in the background, while the play does something else.
//!
//! It is this program once more, in a session of its own, with a file in the state directory as its
//! standard output. A lock on that file (`flock`, held by the process's own handle) tells whether
//! it still runs, even if it was killed. What it prints at its end is its result.

use std::fs::File;
use std::io::{Seek, Write};
use std::process::Stdio;
use std::time::Duration;

use oxistrano_core::command::start_detached;
use oxistrano_core::json::{self, Map, Value, json};
use oxistrano_core::{AbsPath, Dir, Failure, IoContext, Outcome, RelPath, STATE_DIRECTORY, clock};
use oxistrano_magento::running::{self, PREFIX, SUFFIX};
use rustix::fs::{FlockOperation, flock};

use crate::{Options, State};

/// Begins an upgrade with these arguments and returns the name by which [`result`] knows it.
/// Waits for the end of one that an earlier deploy has begun.
///
/// # Errors
/// `still_running` when that takes longer than `patience`; an I/O error. Nothing was begun
/// then.
pub fn begin(
    deploy_to: &AbsPath,
    arguments: &Map<String, Value>,
    patience: Duration,
) -> Result<String, Failure> {
    let root = Dir::open(deploy_to.as_path())?;
    root.make_dir_if_missing(STATE_DIRECTORY)?;
    let state = root.open_dir(STATE_DIRECTORY)?;
    running::wait(deploy_to, patience, false)?;
    let id = format!("{}-{}", clock::word(clock::now()), std::process::id());
    let name = format!("{PREFIX}{id}{SUFFIX}");
    let output = state.create_file(&name, 0o640)?;
    flock(&output, FlockOperation::NonBlockingLockExclusive).or_fail("lock", state.at(&name))?;
    let started = start(output, arguments).or_fail("start the upgrade for", state.at(&name));
    if started.is_err() {
        state.remove_file(&name)?;
    }
    started.map(|()| id)
}

fn start(output: File, arguments: &Map<String, Value>) -> std::io::Result<()> {
    // What it reads is in a file without a name, so that nobody waits for anybody.
    let mut input =
        File::from(rustix::fs::memfd_create("arguments", rustix::fs::MemfdFlags::CLOEXEC)?);
    input.write_all(Value::Object(arguments.clone()).to_string().as_bytes())?;
    input.rewind()?;
    start_detached(["-"], Stdio::from(input), Stdio::from(output))
}

/// Waits for the end of what [`begin`] began, and returns its result.
///
/// # Errors
/// `no_such_upgrade`, `upgrade_lost` when it has ended without one, `still_running`.
pub fn result(
    deploy_to: &AbsPath,
    id: &str,
    patience: Duration,
) -> Result<Map<String, Value>, Failure> {
    let state = Dir::open(deploy_to.as_path())?.open_dir(STATE_DIRECTORY)?;
    let unknown = || {
        Failure::new("no_such_upgrade", format!("there is no upgrade '{}'", id.escape_debug()))
            .remedy("set begun to the id that state=begun returned")
    };
    let name = RelPath::new(format!("{PREFIX}{id}{SUFFIX}"))
        .ok()
        .filter(|name| name.depth() == 1)
        .ok_or_else(unknown)?;
    if state.lookup(&name)?.is_none() {
        return Err(unknown());
    }
    running::wait_for(&state, name.as_path(), patience)?;
    let text = state.read(&name)?.unwrap_or_default();
    let result = json::from_slice(&text).map_err(|_| {
        Failure::new("upgrade_lost", "the upgrade has ended without a result")
            .cause("its process was killed, or the disk is full")
    });
    state.remove_file(&name)?;
    result
}

/// The arguments with which this program does all of it, but for the flag: whether that is
/// lowered is decided when everything else is done as well.
pub fn arguments(options: &Options) -> Map<String, Value> {
    let paths: Vec<_> = options.paths.iter().map(ToString::to_string).collect();
    let arguments = json!({
        "state": State::Finished.word(),
        "how": options.how.word(),
        "deploy_to": options.deploy_to.to_string(),
        "paths": paths,
        "require_maintenance": options.require_maintenance,
        "own_cache": options.own_cache,
        "online": options.online,
        "import_needed": options.import_needed,
        "timeout": options.timeout,
        "path": options.path.to_string(),
        "php": options.php.words(),
        "path_for_php": options.path_for_php.as_ref().map(|path| path.display().to_string()),
        "user": options.user,
        "environment": options.environment,
    });
    match arguments {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// What the process in the background has printed, as if it had been done here.
pub fn from_background(mut result: Map<String, Value>) -> Result<Outcome, Failure> {
    let text = |value: Option<Value>| match value {
        Some(Value::String(text)) => text,
        _ => String::new(),
    };
    let msg = text(result.remove("msg"));
    let failed = result.remove("failed") == Some(Value::Bool(true));
    let changed = result.remove("changed") == Some(Value::Bool(true));
    let warnings = result.remove("warnings");
    for key in ["code", "invocation", "lowered", "maintenance", "path"] {
        result.remove(key);
    }
    if failed {
        let failure = Failure::new("upgrade_failed", msg.trim_end_matches('.'));
        return Err(result
            .into_iter()
            .fold(failure, |failure, (key, value)| failure.value(&key, value)));
    }
    let outcome = Outcome::new(changed).msg(msg);
    let outcome =
        result.into_iter().fold(outcome, |outcome, (key, value)| outcome.value(&key, value));
    let warnings = warnings.as_ref().and_then(Value::as_array).cloned().unwrap_or_default();
    Ok(outcome.warnings(warnings.into_iter().map(|warning| text(Some(warning)))))
}
