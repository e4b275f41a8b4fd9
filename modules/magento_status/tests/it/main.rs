//! The tests of this crate, in one program: each program more is one more to link.

mod apart;
mod command;
mod common;
mod online;
mod status;
