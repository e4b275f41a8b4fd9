//! A module as a program. Each module builds as a separate program (`cargo run -p release_unpack`)
//! and is part of the shipped one, `oxistrano`, which contains all of them.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::OnceLock;

use serde_json::{Map, Value};

use crate::module::{Callee, Documentation, Module};
use crate::options::OptionSpec;
use crate::protocol;

/// The module that this process runs.
static NAME: OnceLock<&'static str> = OnceLock::new();

/// A job for a process that the module starts itself; `None` if the arguments do not ask for one.
type Job = fn(&[OsString]) -> Option<ExitCode>;

/// A module: its metadata, and how to run it.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// Its options.
    pub options: &'static [OptionSpec],
    /// The rest of its documentation.
    pub documentation: Documentation,
    callee: Callee,
    job: Option<Job>,
}

impl Program {
    /// The program of a module.
    pub const fn of<M: Module>() -> Self {
        let callee = Callee::of::<M>();
        Self {
            name: callee.name,
            options: callee.options,
            documentation: if cfg!(feature = "docs") {
                M::DOCUMENTATION
            } else {
                Documentation::NONE
            },
            callee,
            job: None,
        }
    }

    /// The same for a module that starts itself again ([`crate::command::start_detached`]) for another job.
    #[must_use]
    pub const fn with_job(mut self, job: Job) -> Self {
        self.job = Some(job);
        self
    }

    /// Runs it with this process's arguments. The module's name may come before them: the shipped program needs it.
    pub fn run(&self) -> ExitCode {
        NAME.get_or_init(|| self.name);
        let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
        if arguments.first().is_some_and(|first| first == self.name) {
            arguments.remove(0);
        }
        let done = self.job.and_then(|job| job(&arguments));
        done.unwrap_or_else(|| {
            protocol::main(&self.callee, arguments.first().map(OsString::as_os_str))
        })
    }

    /// Checks arguments as a call does and stops before the module runs. What fuzzing needs.
    ///
    /// # Errors
    /// The result that the call would print.
    pub fn check(&self, arguments: &[u8]) -> Result<(), Map<String, Value>> {
        protocol::check_arguments(&self.callee, arguments)
    }
}

/// The name of the module that this process runs.
pub(crate) fn name() -> Option<&'static str> {
    NAME.get().copied()
}
