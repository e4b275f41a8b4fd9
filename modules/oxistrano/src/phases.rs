//! Runs several modules, one after the other, in one remote operation. The action plugin
//! (`plugin_utils/transport.py`) is what calls it; `docs/transport.md` describes it.
//!
//! On standard input is one line of JSON:
//!
//! ```json
//! {"phases": [{"module": "release_setup", "arguments": {}}], "content": null}
//! ```
//!
//! `content` is the number of the phase that gets what follows that line, if one does. For each phase that has run, a line
//! with [`MARK`] and JSON is printed: `output`, what the module has printed; `code`, its exit code as a shell has it; and
//! `seconds`. A phase that does not end with a successful result is the last one.

use std::io::{self, BufRead, Write};
use std::process::ExitCode;
use std::time::Duration;

use oxistrano_core::command::{Output, run_again, somebody_reads};
use oxistrano_core::json::{self, Map, Value, json};
use oxistrano_core::{Failure, input, interrupt, refuse};

use crate::modules::MODULES;

/// The program's first argument for this.
pub const NAME: &str = "release_phases";
/// With what each line of the answer begins.
const MARK: &str = "oxistrano-phase: ";
/// The keys of a result with which a module asks the action plugin for more. It will be called again.
const ASKS: [&str; 2] = ["wanted", "listing_wanted"];

/// Runs them.
pub fn main() -> ExitCode {
    interrupt::install();
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(failure) => refuse(failure),
    }
}

/// The exit code: 0 if all phases have run, 1 if one of them failed or asks for something. A module that did not end as one
/// does has another, from which the script on the host learns that the program may be damaged.
fn run() -> Result<u8, Failure> {
    let failed = |cause: String| Failure::new("usage", "cannot run the phases").cause(cause);
    let asked = read().map_err(failed)?;
    for (number, phase) in asked.phases.iter().enumerate() {
        if let Err(signal) = interrupt::check() {
            return Err(signal.state(format!("{} and what follows it was not run.", phase.module)));
        }
        if !somebody_reads() {
            return Ok(1);
        }
        let ended = run_again(&phase.module, |stdin| {
            // What cannot be written is not read: the module has ended, and says why.
            let _ = phase.write(stdin, asked.content == Some(number));
        });
        let ended = ended.map_err(|error| failed(format!("{}: {error}", phase.module)))?;
        let result = parse(&ended.stdout);
        print(&ended).map_err(|error| failed(error.to_string()))?;
        match (ended.code(), result) {
            (0, Some(result)) if !asks(&result) => {}
            (0, _) => return Ok(1),
            (code, _) => return Ok(u8::try_from(code).unwrap_or(1)),
        }
    }
    Ok(0)
}

struct Asked {
    phases: Vec<Phase>,
    content: Option<usize>,
}

struct Phase {
    module: String,
    /// JSON.
    arguments: String,
}

impl Phase {
    /// Writes what the module reads: its arguments, and after a line feed the content, if it is for this phase.
    fn write(&self, stdin: &mut dyn Write, with_content: bool) -> io::Result<()> {
        stdin.write_all(self.arguments.as_bytes())?;
        if with_content {
            stdin.write_all(b"\n")?;
            io::copy(&mut *input::lock(), &mut &mut *stdin)?;
        }
        Ok(())
    }
}

fn read() -> Result<Asked, String> {
    let mut line = Vec::new();
    input::lock().read_until(b'\n', &mut line).map_err(|error| error.to_string())?;
    let asked: Value = json::from_slice(&line).map_err(|error| error.to_string())?;
    let phases = asked["phases"].as_array().ok_or("phases is not a list")?;
    let phases = phases.iter().map(|phase| {
        let module =
            phase["module"].as_str().filter(|name| MODULES.iter().any(|it| it.name == *name));
        Ok(Phase {
            module: module
                .ok_or_else(|| format!("there is no module {}", phase["module"]))?
                .to_owned(),
            arguments: phase["arguments"].to_string(),
        })
    });
    let content = asked["content"].as_u64().and_then(|number| usize::try_from(number).ok());
    Ok(Asked { phases: phases.collect::<Result<_, String>>()?, content })
}

/// A module's result, which is all that it prints.
fn parse(stdout: &[u8]) -> Option<Map<String, Value>> {
    json::from_slice(stdout.trim_ascii()).ok()
}

fn asks(result: &Map<String, Value>) -> bool {
    ASKS.iter().any(|key| result.contains_key(*key))
}

fn print(ended: &Output) -> io::Result<()> {
    let told = json!({
        "output": String::from_utf8_lossy(&ended.stdout),
        "code": ended.code(),
        "seconds": rounded(ended.elapsed),
    });
    let mut stdout = io::stdout().lock();
    // A login shell may have printed text without a line feed.
    stdout.write_all(format!("\n{MARK}{told}\n").as_bytes())?;
    stdout.flush()
}

fn rounded(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}
