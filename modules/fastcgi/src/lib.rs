//! A FastCGI client: asks a php-fpm pool over its socket or port, one request on one
//! connection, within one deadline.
//!
//! The answer is not trusted, so the [`Decoder`] accepts any bytes in any pieces and returns an
//! answer of bounded size or a [`Problem`].
//!
//! Mechanism only: nothing here knows PHP, opcache or a release.

mod address;
mod beginning;
mod client;
mod connection;
mod decoder;
mod listening;
mod request;
mod response;

pub use address::Address;
pub use beginning::{Found, keeps_connection, moved, param};
pub use client::{NO_ANSWER, TIMEOUT, UNREACHABLE, ask, peers};
pub use connection::try_unix;
pub use decoder::{Decoder, End, Problem};
pub use listening::{
    Connections, Listening, connections, has, holds, is_heard, listening, listens,
};
pub use request::{Request, begins, refusal};
pub use response::Response;
