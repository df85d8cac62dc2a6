//! THE CONTROL SOCKET: how a person, or a program, tells a running agent something.
//!
//! [`protocol`] and [`watch`] are what is said, [`server`] and [`client`] are the two ends. Nothing is decided here:
//! the server hands on what was asked, and the daemon answers. `docs/protocol.md` shows the messages.

mod address;
pub mod client;
mod connection;
pub mod protocol;
pub mod server;
pub mod watch;

use std::ffi::OsString;
use std::path::PathBuf;

/// The agent's socket, unless told otherwise.
pub const SOCKET: &str = "/run/pvusb-agent/control";

/// Where the socket is: `PVUSB_AGENT_SOCKET` of the environment, or the usual place.
pub fn socket_path(env: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    env("PVUSB_AGENT_SOCKET")
        .filter(|path| !path.is_empty())
        .map_or_else(|| SOCKET.into(), Into::into)
}
