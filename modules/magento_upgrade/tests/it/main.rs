//! The tests of this crate, in one program: each program more is one more to link.

mod begun;
mod closed;
mod fails;
mod online;
mod output;
mod upgrade;
