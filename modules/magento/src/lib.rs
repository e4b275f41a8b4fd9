//! What the `magento_*` modules share: running Magento's command, reading its answers, its
//! maintenance flag.
//!
//! The answers were measured on Magento Open Source 2.4.7-p3 with PHP 8.2 and checked
//! against its source; each function says what it relies on.

mod answer;
mod apart;
mod command;
mod configuration;
pub mod maintenance;
pub mod online;
mod options;
pub mod owned;
pub mod pending;
mod place;
pub mod processes;
mod question;
pub mod running;
mod script;
pub mod since;
pub mod status;

pub use answer::Answer;
pub use apart::Apart;
pub use command::{Magento, Php};
pub use place::Place;

#[doc(hidden)]
pub use oxistrano_core as core;
