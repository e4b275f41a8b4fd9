//! The tests of this crate, in one program: each program more is one more to link.

mod common;
mod fake;
mod hold;
mod hold_as_owner;
mod hold_except;
mod hold_flag;
mod hold_killed;
mod hold_limits;
mod hold_refused;
mod holding;
mod impostor;
mod opcache;
mod reload;
