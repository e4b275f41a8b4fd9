//! The tests of this crate, in one program: each program more is one more to link.

mod copy;
mod spare;
