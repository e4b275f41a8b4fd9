//! Ansible's binary-module protocol: arguments as JSON in the file named by `argv[1]`
//! (`-`: standard input), one JSON object on standard output, always.

use std::ffi::OsStr;
use std::io::{BufRead, Read, Write};
use std::panic;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Map, Value, json};

use crate::arguments::{check, without_others};
use crate::mask::Mask;
use crate::module::{Callee, Context};
use crate::{Failure, input, interrupt};

/// The key of a result that tells ansible-core from 2.22 on what to mask.
const NEW_SECRETS: &str = "_ansible_new_secrets";

/// Runs a module: `argument` is the file with its arguments, or `-` for standard input.
pub(crate) fn main(module: &Callee, argument: Option<&OsStr>) -> ExitCode {
    interrupt::install();
    answer_a_panic(module.name);
    let result = match argument {
        Some(argument) => {
            read_arguments(argument, module.reads_input).map(|given| execute(module, given))
        }
        None => Err(Failure::new("usage", format!("{} is an Ansible module", module.name))
            .remedy("pass a file with its arguments as JSON, or - for standard input")),
    };
    let result = result.unwrap_or_else(Failure::into_result);
    if module.reads_input && argument.is_some_and(|argument| argument == "-") {
        // If the pipe is closed before the sender has finished, the result is not read.
        let _ = std::io::copy(&mut *input::lock(), &mut std::io::sink());
    }
    print(presentable(result))
}

/// Makes a panic of any thread end the process with a failure that reports it. The stack is not
/// unwound, so the program needs no unwind tables. For everything else, it is as if the process had
/// been killed.
fn answer_a_panic(module: &'static str) {
    static FIRST: AtomicBool = AtomicBool::new(true);
    // Nothing on stderr: a connection with a terminal merges it into the JSON.
    panic::set_hook(Box::new(move |info| {
        if !FIRST.swap(false, Ordering::SeqCst) {
            // The thread that panicked first ends the process.
            loop {
                std::thread::park();
            }
        }
        let failure = Failure::new("panic", format!("{module} stopped because of a bug in it"))
            .cause(info)
            .remedy("please report this message as an issue");
        print(presentable(failure.into_result()));
        std::process::exit(1);
    }));
}

/// A result as it is printed. What [`execute`] did not make is not masked yet.
fn presentable(mut result: Map<String, Value>) -> Map<String, Value> {
    let secrets = result.remove(NEW_SECRETS);
    let mut result = match Mask::default().apply(Value::Object(result)) {
        Value::Object(result) => crate::show::result(result),
        _ => Map::new(),
    };
    result.extend(secrets.map(|secrets| (NEW_SECRETS.to_owned(), secrets)));
    result
}

/// Prints a failure as a module does, if it is not known which module to run.
pub fn refuse(failure: Failure) -> ExitCode {
    print(crate::show::result(failure.into_result()))
}

/// Prints it, unless the process has printed a result before.
fn print(result: Map<String, Value>) -> ExitCode {
    static PRINTED: AtomicBool = AtomicBool::new(false);
    if PRINTED.swap(true, Ordering::SeqCst) {
        return ExitCode::FAILURE;
    }
    let failed = result.get("failed") == Some(&Value::Bool(true));
    // A login shell may print text without a line feed before this. Ansible looks for JSON at the
    // start of a line.
    let text = format!("\n{}\n", Value::Object(result));
    let mut stdout = std::io::stdout().lock();
    // If nobody reads the output any more, only the exit code reports a failure.
    let told = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    ExitCode::from(u8::from(failed || told.is_err()))
}

#[expect(clippy::disallowed_methods, reason = "the file that Ansible has written and named")]
fn read_arguments(argument: &OsStr, leave_rest: bool) -> Result<Map<String, Value>, Failure> {
    let unreadable = |error: std::io::Error| {
        let usage = || Failure::new("usage", "cannot read the module's arguments").cause(error);
        interrupt::check().err().map_or_else(usage, |signal| signal.state("Nothing was changed."))
    };
    let arguments = if argument == "-" && leave_rest {
        let mut input = input::lock();
        let mut arguments = first_value(&mut *input);
        match input.fill_buf().map_err(unreadable)?.first() {
            None => {}
            Some(b'\n') => input.consume(1),
            // There is more text on the line of the arguments.
            Some(_) => {
                arguments = arguments.and_then(|_| serde_json::from_slice(b"{} {}"));
            }
        }
        arguments
    } else if argument == "-" {
        let mut text = Vec::new();
        input::lock().read_to_end(&mut text).map_err(unreadable)?;
        serde_json::from_slice(&text)
    } else {
        serde_json::from_slice(&std::fs::read(argument).map_err(unreadable)?)
    };
    match arguments {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(Failure::new("usage", "the module's arguments are not a JSON object")),
        Err(error) => {
            Err(Failure::new("usage", "the module's arguments are not JSON").cause(error))
        }
    }
}

/// Reads arguments as [`main`] does and stops before the module runs. What fuzzing needs.
///
/// # Errors
/// What [`main`] would print.
pub(crate) fn check_arguments(module: &Callee, text: &[u8]) -> Result<(), Map<String, Value>> {
    let failed = |failure: Failure| Err(failure.into_result());
    match first_value(&mut &*text) {
        Ok(Value::Object(given)) => {
            let checked = check(module, given);
            checked.outcome.map(drop).map_err(|failure| {
                let mut result = failure.into_result();
                result.insert("invocation".into(), Value::Object(checked.shown));
                match checked.mask.apply_to_arguments(Value::Object(result)) {
                    Value::Object(result) => result,
                    _ => Map::new(),
                }
            })
        }
        Ok(_) => failed(Failure::new("usage", "the module's arguments are not a JSON object")),
        Err(error) => {
            failed(Failure::new("usage", "the module's arguments are not JSON").cause(error))
        }
    }
}

/// Reads one JSON value and takes nothing from `input` after it (except after a number).
fn first_value(input: &mut impl Read) -> serde_json::Result<Value> {
    let mut values = serde_json::Deserializer::from_reader(input).into_iter();
    values.next().unwrap_or_else(|| serde_json::from_slice(b""))
}

/// Checks the arguments, runs the module and makes the result.
fn execute(module: &Callee, given: Map<String, Value>) -> Map<String, Value> {
    let (settings, arguments): (Map<_, _>, Map<_, _>) =
        given.into_iter().partition(|(name, _)| name.starts_with("_ansible_"));
    let flag = |name: &str| settings.get(name) == Some(&Value::Bool(true));
    let context = Context { check_mode: flag("_ansible_check_mode"), diff: flag("_ansible_diff") };
    let arguments = without_others(module, arguments, settings.get("_ansible_oxistrano_defaults"));
    let checked = check(module, arguments);
    let result = match checked.outcome {
        Err(failure) => failure.into_result(),
        Ok(ready) => match ready(&context) {
            Ok(outcome) => outcome.into_result(&context),
            Err(failure) => failure.into_result(),
        },
    };
    let mut result = match checked.mask.apply(Value::Object(result)) {
        Value::Object(result) => result,
        _ => Map::new(),
    };
    // The protocol's own words are never secret.
    result.entry("changed").or_insert(false.into());
    if !checked.warnings.is_empty() {
        let warnings = result.entry("warnings").or_insert_with(|| json!([]));
        if let Value::Array(list) = warnings {
            list.extend(checked.warnings.into_iter().map(Value::from));
        }
    }
    // From 2.21 on, ansible-core says whether it wants the arguments; older versions always get them.
    if settings.get("_ansible_inject_invocation") != Some(&Value::Bool(false)) {
        let shown = checked.mask.apply_to_arguments(Value::Object(checked.shown));
        result.insert("invocation".into(), json!({ "module_args": shown }));
    }
    // ansible-core masks these in all its output. Older versions would show them in a warning.
    let secrets = checked.mask.no_log();
    if !secrets.is_empty() && is_version(settings.get("_ansible_version"), (2, 22)) {
        result.insert(NEW_SECRETS.into(), secrets.into());
    }
    result
}

/// Whether this is a version of ansible-core, and not an older one than `least`.
fn is_version(version: Option<&Value>, least: (u32, u32)) -> bool {
    let mut numbers = version.and_then(Value::as_str).unwrap_or_default().split('.');
    let mut number = || numbers.next().and_then(|number| number.parse().ok());
    number().zip(number()).is_some_and(|version| version >= least)
}

#[cfg(test)]
mod tests;
