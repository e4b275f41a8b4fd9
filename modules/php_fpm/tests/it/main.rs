//! The tests of this crate, in one program: each program more is one more to link.

mod common;
mod fake;
mod hold;
mod hold_as_owner;
mod hold_except;
mod impostor;
mod opcache;
mod reload;
