//! The tests of this crate, in one program: each program more is one more to link.

mod common;
mod copy;
mod equivalence;
mod reflink;
mod spare;
mod sync;
