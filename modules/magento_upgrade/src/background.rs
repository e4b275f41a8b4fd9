//! An upgrade in the background, while the play continues.
//!
//! It is another process of this program, in its own session, with a file in the state directory as
//! standard output. A lock on that file (`flock`, by the process's own handle) shows whether it is
//! still running, even if it was killed. It prints its result at the end.

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

/// Starts an upgrade with these arguments and returns its id for [`result`]. Waits first until an
/// upgrade of an earlier deploy has ended.
///
/// # Errors
/// `still_running` when that takes longer than `patience`; an I/O error. In both cases nothing was started.
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
    // Its input is in an unnamed file, so that neither process waits for the other.
    let mut input =
        File::from(rustix::fs::memfd_create("arguments", rustix::fs::MemfdFlags::CLOEXEC)?);
    input.write_all(Value::Object(arguments.clone()).to_string().as_bytes())?;
    input.rewind()?;
    start_detached(["-"], Stdio::from(input), Stdio::from(output))
}

/// Waits for the end of an upgrade that [`begin`] has started, and returns its result.
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
        Failure::new(
            "no_such_upgrade",
            format!("the upgrade '{}' does not exist", id.escape_debug()),
        )
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
        Failure::new("upgrade_lost", "the upgrade ended without a result")
            .cause("its process was killed, or the disk is full")
    });
    state.remove_file(&name)?;
    result
}

/// The arguments of the background process: the whole upgrade without lowering the flag, which is
/// decided after everything else is done.
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

/// Converts the result of the background process.
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
