//! What every Oxistrano module needs.
//!
//! * The **protocol**: a [`Program`] reads the arguments as Ansible hands them to a binary
//!   module, converts and checks them against the options declared with [`options!`],
//!   runs the module and prints exactly one JSON object, whatever happens.
//! * **File operations for a process that may be root in a tree that others can
//!   write**: [`Dir`] handles, [`RelPath`], bounded removal.
//! * **Users, modes, times, child processes**, without NSS, a shell or a date library.
//!
//! Mechanism only: `oxistrano-releases` knows what a release is.

mod arguments;
pub mod clock;
pub mod command;
mod convert;
pub mod dir;
pub mod effective;
mod failure;
pub mod input;
pub mod interrupt;
pub mod mask;
pub mod mode;
mod module;
pub mod net;
mod options;
pub mod process;
pub mod program;
mod protocol;
mod relpath;
pub mod remove;
pub mod secrets;
pub mod show;
mod temporary;
pub mod trusted;
pub mod users;

pub use convert::Kind;
pub use dir::Dir;
pub use failure::{Failure, IoContext};
pub use mode::Mode;
pub use module::{Context, Diff, Documentation, Module, Outcome};
pub use options::{Constraint, FromValue, Literal, OptionSpec, Options, ReturnSpec, Values};
#[doc(hidden)]
pub use options::{lines_of_documentation, take};
pub use program::Program;
pub use protocol::refuse;
pub use relpath::{AbsPath, RelPath};

/// The directory in a deploy root that the modules keep their own files in.
pub const STATE_DIRECTORY: &str = ".oxistrano";

/// JSON values as they travel between Ansible and a module.
pub use serde_json as json;
