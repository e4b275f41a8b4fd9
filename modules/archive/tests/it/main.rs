//! The tests of this crate, in one program: each program more is one more to link.

mod common;
mod delta;
mod earlier;
mod formats;
mod hostile;
mod spare;
mod tar_features;
mod zip;
