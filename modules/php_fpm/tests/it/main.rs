//! The tests of this crate, in one program: each program more is one more to link.

mod common;
mod fake;
mod hold;
mod impostor;
mod opcache;
mod reload;
