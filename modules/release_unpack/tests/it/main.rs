//! The tests of this crate, in one program: each program more is one more to link.

mod artifact;
mod common;
mod delta;
mod failures;
mod rehearsal;
mod spare;
mod unpack;
