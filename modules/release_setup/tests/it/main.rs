//! The tests of this crate, in one program: each program more is one more to link.

mod damage;
mod lock;
mod odd;
mod overlay;
mod setup;
mod spare;
