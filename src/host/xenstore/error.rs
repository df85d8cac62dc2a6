//! The failures of the xenstore client, sorted by what to do about them.
//!
//! Only the types and their texts. Every text is a fragment in lower case; the reasons below an
//! error are in its `source()` chain. Paths and error names are escaped where they are shown:
//! guests choose parts of them.

use std::fmt;
use std::io;
use std::sync::Arc;

use super::endpoint::Endpoint;
use super::path::PathFault;
use super::wire::{Fault, Kind, MAX_SENT};

/// Most characters of a path that are shown in a text.
const SHOWN: usize = 256;

/// Why a request failed, or why there is no connection.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// There is no such node (`ENOENT`). Often simply an answer.
    #[error("{}: no such node", Asked(*.what, .path))]
    NotFound {
        /// What was asked.
        what: Kind,
        /// Of which node.
        path: String,
    },
    /// The daemon does not allow it (`EACCES`, `EPERM`, `EROFS`). Repeating does not help.
    #[error("{}: permission denied", Asked(*.what, .path))]
    Denied {
        /// What was asked.
        what: Kind,
        /// Of which node.
        path: String,
    },
    /// Others changed the same nodes again and again (`EAGAIN`). Nothing was changed. Later it may
    /// work.
    #[error("{}: changed by others meanwhile, {attempts} times in a row", Asked(*.what, .path))]
    Conflict {
        /// What was asked.
        what: Kind,
        /// Of which node; empty for a transaction.
        path: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// A quota or the daemon's memory is used up (`ENOSPC`, `EQUOTA`, `ENOMEM`). Later it may work.
    #[error("{}: no space left in xenstore ({errno})", Asked(*.what, .path))]
    NoSpace {
        /// What was asked.
        what: Kind,
        /// Of which node; empty for a transaction.
        path: String,
        /// The daemon's word.
        errno: String,
    },
    /// The daemon refused for another reason. Repeating does not help.
    #[error("{}: refused by xenstored ({errno})", Asked(*.what, .path))]
    Refused {
        /// What was asked.
        what: Kind,
        /// Of which node; empty for a transaction.
        path: String,
        /// The daemon's word, such as `EINVAL`. Escaped; at most 64 bytes of what was sent.
        errno: String,
    },
    /// The path cannot be one. Nothing was sent. A mistake of the caller, or a name that a guest
    /// chose.
    #[error("{}: bad path", Asked(*.what, .path))]
    BadPath {
        /// What was asked.
        what: Kind,
        /// The path.
        path: String,
        /// What is wrong with it.
        #[source]
        fault: PathFault,
    },
    /// The value or the whole request is too long. Nothing was sent.
    #[error("{}: {len} bytes where at most {limit} are allowed", Asked(*.what, .path))]
    TooLarge {
        /// What was asked.
        what: Kind,
        /// Of which node.
        path: String,
        /// Length in bytes.
        len: usize,
        /// The most that is allowed, in bytes.
        limit: usize,
    },
    /// The daemon sent something that the protocol does not know, and the connection was dropped.
    #[error("xenstored broke the protocol")]
    Protocol {
        /// What was wrong.
        #[source]
        fault: Fault,
    },
    /// There is no connection. See [`During`] for what that means for the request.
    #[error("{during}")]
    Disconnected {
        /// What was going on.
        during: During,
        /// Why there is none.
        #[source]
        why: Lost,
    },
    /// The daemon could not be reached.
    #[error("cannot connect to xenstored at {endpoint}")]
    Connect {
        /// Where it was looked for.
        endpoint: Endpoint,
        /// What the system said.
        source: Arc<io::Error>,
    },
}

impl Error {
    /// The error for a request that the daemon refused with this name.
    pub(super) fn refused(what: Kind, path: &str, errno: String) -> Self {
        let path = path.to_owned();
        match errno.as_str() {
            "ENOENT" => Self::NotFound { what, path },
            "EACCES" | "EPERM" | "EROFS" => Self::Denied { what, path },
            "EAGAIN" => Self::Conflict { what, path, attempts: 1 },
            "ENOSPC" | "EQUOTA" | "ENOMEM" => Self::NoSpace { what, path, errno },
            _ => Self::Refused { what, path, errno },
        }
    }

    /// The error for a request that does not fit into a message.
    pub(super) fn too_large(what: Kind, path: &str, len: usize) -> Self {
        Self::TooLarge { what, path: path.to_owned(), len, limit: MAX_SENT }
    }

    /// The error for a request that may or may not have been carried out.
    pub(super) fn in_flight(what: Kind, path: &str, why: Lost) -> Self {
        Self::Disconnected { during: During::InFlight { what, path: path.to_owned() }, why }
    }

    /// The error for a request that was not sent.
    pub(super) fn unsent(what: Kind, path: &str, why: Lost) -> Self {
        Self::Disconnected { during: During::Unsent { what, path: path.to_owned() }, why }
    }

    /// The error for the loss itself, without a request.
    pub(super) fn lost(why: Lost) -> Self {
        match why {
            Lost::Malformed(fault) => Self::Protocol { fault },
            Lost::Unreachable { endpoint, source } => Self::Connect { endpoint, source },
            Lost::Closed
            | Lost::Silent
            | Lost::Io(_)
            | Lost::Watch { .. }
            | Lost::Stale
            | Lost::Ended => Self::Disconnected { during: During::Nothing, why },
        }
    }
}

/// What was going on when there was no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum During {
    /// No request: it is told as a notice.
    Nothing,
    /// The request was not sent. It changed nothing.
    Unsent {
        /// What was asked.
        what: Kind,
        /// Of which node.
        path: String,
    },
    /// The request may have been carried out or not. Read before doing it again.
    InFlight {
        /// What was asked.
        what: Kind,
        /// Of which node.
        path: String,
    },
}

impl fmt::Display for During {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("lost the connection to xenstored"),
            Self::Unsent { what, path } => {
                write!(f, "{}: not connected to xenstored", Asked(*what, path))
            }
            Self::InFlight { what, path } => {
                let asked = Asked(*what, path);
                write!(f, "{asked}: outcome unknown, lost the connection to xenstored")
            }
        }
    }
}

/// Why there is no connection.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Lost {
    /// The daemon closed it.
    #[error("xenstored closed the connection")]
    Closed,
    /// The daemon takes requests and does not answer them.
    #[error("xenstored has not answered within {} s", super::connection::ANSWER_DEADLINE.as_secs())]
    Silent,
    /// The system failed to read or write.
    #[error("input or output failed")]
    Io(#[source] Arc<io::Error>),
    /// The daemon broke the protocol.
    #[error("xenstored broke the protocol")]
    Malformed(#[source] Fault),
    /// The daemon could not be reached.
    #[error("cannot connect to xenstored at {endpoint}")]
    Unreachable {
        /// Where it was looked for.
        endpoint: Endpoint,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// A watch could not be set again, so that news would have been lost.
    #[error("cannot watch {} again ({errno})", Escaped(.path))]
    Watch {
        /// The watched path.
        path: String,
        /// The daemon's word.
        errno: String,
    },
    /// The transaction was started on an earlier connection and ended with it. Nothing of it is in
    /// force.
    #[error("the transaction ended with an earlier connection")]
    Stale,
    /// The runtime that ran the connection is gone.
    #[error("the client was shut down")]
    Ended,
}

impl From<Fault> for Lost {
    fn from(fault: Fault) -> Self {
        Self::Malformed(fault)
    }
}

/// For those who only know system errors, such as the `xenstore-rs` traits. The error itself stays
/// inside.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::NotFound { .. } => io::ErrorKind::NotFound,
            Error::Denied { .. } => io::ErrorKind::PermissionDenied,
            Error::Conflict { .. } => io::ErrorKind::ResourceBusy,
            Error::NoSpace { .. } => io::ErrorKind::QuotaExceeded,
            Error::Refused { .. } => io::ErrorKind::Other,
            Error::BadPath { .. } | Error::TooLarge { .. } => io::ErrorKind::InvalidInput,
            Error::Protocol { .. } => io::ErrorKind::InvalidData,
            Error::Disconnected { .. } => io::ErrorKind::NotConnected,
            Error::Connect { source, .. } => source.kind(),
        };
        Self::new(kind, error)
    }
}

/// A request in words: `read /a/b`.
struct Asked<'a>(Kind, &'a str);

impl fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(what, path) = self;
        if path.is_empty() { write!(f, "{what}") } else { write!(f, "{what} {}", Escaped(path)) }
    }
}

/// A text from outside: in ASCII, without control characters, not too long.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.chars();
        for character in rest.by_ref().take(SHOWN) {
            write!(f, "{}", character.escape_default())?;
        }
        if rest.next().is_some() { f.write_str("...") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_names_are_sorted_by_what_to_do() {
        let refused = |errno: &str| Error::refused(Kind::Read, "/a", errno.to_owned());
        assert!(matches!(refused("ENOENT"), Error::NotFound { .. }));
        assert!(matches!(refused("EACCES"), Error::Denied { .. }));
        assert!(matches!(refused("EPERM"), Error::Denied { .. }));
        assert!(matches!(refused("EAGAIN"), Error::Conflict { attempts: 1, .. }));
        assert!(matches!(refused("ENOSPC"), Error::NoSpace { .. }));
        assert!(matches!(refused("EQUOTA"), Error::NoSpace { .. }));
        assert!(matches!(refused("EINVAL"), Error::Refused { .. }));
        assert!(
            matches!(refused("Not_found"), Error::Refused { errno, .. } if errno == "Not_found")
        );
    }

    #[test]
    fn texts_are_fragments_and_escaped() {
        let path = "/a\u{1b}[31m\n".to_owned();
        let error = Error::BadPath { what: Kind::Read, path, fault: PathFault::Character };
        assert_eq!(error.to_string(), "read /a\\u{1b}[31m\\n: bad path");
        let error = Error::refused(Kind::SetPerms, "/a", "EINVAL".into());
        assert_eq!(error.to_string(), "set the permissions of /a: refused by xenstored (EINVAL)");
        let error = Error::in_flight(Kind::TransactionEnd, "", Lost::Closed);
        let text = "end a transaction: outcome unknown, lost the connection to xenstored";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn long_paths_are_cut() {
        let error = Error::NotFound { what: Kind::Read, path: "a".repeat(5000) };
        assert!(error.to_string().len() < 300);
    }
}
