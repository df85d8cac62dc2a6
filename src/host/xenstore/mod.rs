//! The xenstore client: one connection, many requests in flight, watches that outlive a reconnect.
//!
//! It exists beside the `xenstore-rs` crate, whose traits it implements ([`compat`]), because the
//! agent needs transactions and permissions on the wire, errors when the daemon goes away, and
//! watches that lose nothing. It knows paths and bytes. What the nodes mean is not its business: no
//! node layout, no policy, no logging.
//!
//! # The pieces
//!
//! | file | one reason to change |
//! |---|---|
//! | `wire` | the bytes of the protocol: headers, payloads, limits, error names |
//! | `path` | which paths and values may be sent |
//! | `perms` | permissions as text |
//! | `error` | the failures, sorted by what to do about them |
//! | `endpoint`, `transport` | where the daemon is, and how bytes get there and back |
//! | `listing` | a directory that arrives in parts |
//! | `notice` | what a reader of events gets, and how floods are merged |
//! | `watch` | which paths are watched, and for whom |
//! | `session` | one connection's state: what was asked, what answers it. No IO |
//! | `connection` | the task that owns the socket: IO, reconnect, back-off |
//! | `requests` | how each request is made |
//! | `reply`, `client`, `transaction` | what callers see |
//! | `compat` | the traits of `xenstore-rs` |
//!
//! # What is pipelined
//!
//! A request is queued when its method is called, not when its [`Reply`] is first polled; the queue
//! is written in the order of the calls. So these two reads take one round trip:
//!
//! ```text
//! let (name, state) = (xs.read(name), xs.read(state));
//! let (name, state) = (name.await?, state.await?);
//! ```
//!
//! Replies are matched by request id, never by order. What needs a round trip of its own:
//!
//! * a transaction's start: its id must be known before anything can be asked in it;
//! * each further part of a directory that is too long for one reply.
//!
//! So a transaction takes three round trips, if its reads are asked together and its writes are
//! handed to [`Transaction::defer`]:
//!
//! ```text
//! START ->            | read read read ->   | write write END(T) ->
//!        <- id        |  <- value ...       |    <- OK OK OK
//! ```
//!
//! The connection always reads while it writes: both daemons stop reading from a client that does
//! not. Over the kernel's device nothing is pipelined, because the kernel would mix requests up
//! (`transport`); all else is the same.

mod client;
mod compat;
mod connection;
mod endpoint;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod listing;
mod notice;
mod path;
mod perms;
mod reply;
mod requests;
mod session;
mod transaction;
mod transport;
mod watch;
mod wire;

#[cfg(test)]
mod peer;

pub use client::Xenstore;
pub use endpoint::Endpoint;
pub use error::{During, Error, Lost};
pub use notice::{Notice, Notices};
pub use path::{MAX_PATH, MAX_VALUE, PathFault};
pub use perms::{Access, Permission, PermissionError};
pub use reply::Reply;
pub use transaction::{Outcome, Transaction};
pub use wire::{Fault, Kind};
