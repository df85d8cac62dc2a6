//! A small blocking client: one request at a time, for setting up stores and for the doubles.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::super::time::PATIENCE;
use super::wire::{Message, Op};

/// Why a request failed.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The daemon answered with an error, by name: `ENOENT`, `EAGAIN`, …
    Refused(String),
    /// The connection is lost or was silent for too long.
    Lost(io::Error),
}

impl Fault {
    /// Whether the daemon answered with the error of this name.
    pub(crate) fn is(&self, name: &str) -> bool {
        matches!(self, Self::Refused(found) if found == name)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(name) => write!(f, "refused: {name}"),
            Self::Lost(error) => write!(f, "connection lost: {error}"),
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

/// A connection, as dom0. Every request has a deadline.
#[derive(Debug)]
pub(crate) struct RawClient {
    stream: UnixStream,
    events: VecDeque<Message>,
    last: u32,
    transaction: u32,
}

impl RawClient {
    /// Connects to the daemon, or to a [`Proxy`](super::Proxy).
    pub(crate) fn connect(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, events: VecDeque::new(), last: 0, transaction: 0 })
    }

    /// A handle by which another thread can end this connection, whatever it waits for.
    pub(crate) fn closer(&self) -> Closer {
        Closer(self.stream.try_clone().expect("a socket"))
    }

    /// Sends a request in the transaction that is open, if one is, and does not wait. Returns the
    /// request's number.
    pub(crate) fn send(&mut self, op: Op, payload: &[u8]) -> io::Result<u32> {
        self.last += 1;
        let (request, transaction) = (self.last, self.transaction);
        Message { op, request, transaction, payload: payload.to_owned() }
            .write(&mut self.stream)?;
        Ok(request)
    }

    /// Waits for the reply to a request; keeps the events that come before it.
    pub(crate) fn receive(&mut self, request: u32) -> io::Result<Message> {
        loop {
            let message = Message::read(&mut self.stream)?;
            if message.op == Op::WATCH_EVENT {
                self.events.push_back(message);
            } else if message.request == request {
                return Ok(message);
            }
        }
    }

    /// Sends a request and waits for its reply, whatever it is.
    pub(crate) fn request(&mut self, op: Op, payload: &[u8]) -> io::Result<Message> {
        let request = self.send(op, payload)?;
        self.receive(request)
    }

    /// Sends a request and waits for what it asked for.
    pub(crate) fn call(&mut self, op: Op, payload: &[u8]) -> Result<Message, Fault> {
        let reply = self.request(op, payload)?;
        if reply.op == Op::ERROR { Err(Fault::Refused(reply.path())) } else { Ok(reply) }
    }

    /// A node's value.
    pub(crate) fn read(&mut self, path: &str) -> Result<Vec<u8>, Fault> {
        Ok(self.call(Op::READ, &strings(&[path]))?.payload)
    }

    /// A node's value as text; `None` if there is no such node.
    pub(crate) fn get(&mut self, path: &str) -> Result<Option<String>, Fault> {
        match self.read(path) {
            Ok(value) => Ok(Some(String::from_utf8_lossy(&value).into_owned())),
            Err(fault) if fault.is("ENOENT") => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Writes a node, making it and its parents if they are missing.
    pub(crate) fn write(&mut self, path: &str, value: impl AsRef<[u8]>) -> Result<(), Fault> {
        let payload = [path.as_bytes(), b"\0", value.as_ref()].concat();
        self.call(Op::WRITE, &payload).map(drop)
    }

    /// Makes an empty node if there is none.
    pub(crate) fn mkdir(&mut self, path: &str) -> Result<(), Fault> {
        self.call(Op::MKDIR, &strings(&[path])).map(drop)
    }

    /// Removes a node and all below; not finding it is fine.
    pub(crate) fn rm(&mut self, path: &str) -> Result<(), Fault> {
        match self.call(Op::RM, &strings(&[path])) {
            Err(fault) if !fault.is("ENOENT") => Err(fault),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// The names of a node's children, in the daemon's order; none if there is no such node.
    pub(crate) fn directory(&mut self, path: &str) -> Result<Vec<String>, Fault> {
        match self.call(Op::DIRECTORY, &strings(&[path])) {
            Ok(reply) if reply.payload.is_empty() => Ok(Vec::new()),
            Ok(reply) => Ok(reply.strings()),
            Err(fault) if fault.is("ENOENT") => Ok(Vec::new()),
            Err(fault) => Err(fault),
        }
    }

    /// A node's permissions: the owner (`n0`), then who else may (`r5`).
    pub(crate) fn perms(&mut self, path: &str) -> Result<Vec<String>, Fault> {
        Ok(self.call(Op::GET_PERMS, &strings(&[path]))?.strings())
    }

    /// Sets a node's permissions.
    pub(crate) fn set_perms(&mut self, path: &str, perms: &[&str]) -> Result<(), Fault> {
        self.call(Op::SET_PERMS, &strings(&[&[path], perms].concat())).map(drop)
    }

    /// Whether the domain was introduced and lives.
    pub(crate) fn is_introduced(&mut self, domid: u32) -> Result<bool, Fault> {
        let reply = self.call(Op::IS_DOMAIN_INTRODUCED, format!("{domid}\0").as_bytes())?;
        Ok(reply.path() == "T")
    }

    /// Watches a node and all below.
    pub(crate) fn watch(&mut self, path: &str, token: &str) -> Result<(), Fault> {
        self.call(Op::WATCH, &strings(&[path, token])).map(drop)
    }

    /// Ends a watch.
    pub(crate) fn unwatch(&mut self, path: &str, token: &str) -> Result<(), Fault> {
        self.call(Op::UNWATCH, &strings(&[path, token])).map(drop)
    }

    /// The next event: path and token. Fails when none comes in [`PATIENCE`].
    pub(crate) fn event(&mut self) -> io::Result<(String, String)> {
        let message = match self.events.pop_front() {
            Some(message) => message,
            None => Message::read(&mut self.stream)?,
        };
        let mut strings = message.strings().into_iter();
        Ok((strings.next().unwrap_or_default(), strings.next().unwrap_or_default()))
    }

    /// The next event, if one begins to arrive within `patience`.
    pub(crate) fn event_within(
        &mut self,
        patience: Duration,
    ) -> io::Result<Option<(String, String)>> {
        if self.events.is_empty() {
            self.stream.set_read_timeout(Some(patience))?;
            let mut first = [0];
            let begun = self.stream.read_exact(&mut first);
            self.stream.set_read_timeout(Some(PATIENCE))?;
            match begun {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
            self.events.push_back(Message::read(&mut first.as_slice().chain(&self.stream))?);
        }
        self.event().map(Some)
    }

    /// Does `work` in a transaction, again from the start for as long as the daemon says `EAGAIN`.
    /// When `work` fails, the transaction is dropped.
    pub(crate) fn transact<T>(
        &mut self,
        mut work: impl FnMut(&mut Self) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        loop {
            let start = self.call(Op::TRANSACTION_START, b"\0")?;
            self.transaction = start.path().parse().expect("a transaction's number");
            let result = work(self);
            let end = self.call(Op::TRANSACTION_END, if result.is_ok() { b"T\0" } else { b"F\0" });
            self.transaction = 0;
            match end {
                Ok(_) => return result,
                Err(fault) if fault.is("EAGAIN") => {}
                Err(fault) => return Err(fault),
            }
        }
    }
}

/// See [`RawClient::closer`].
#[derive(Debug)]
pub(crate) struct Closer(UnixStream);

impl Closer {
    /// Ends the connection.
    pub(crate) fn close(&self) {
        // A connection that has ended already needs no closing.
        drop(self.0.shutdown(Shutdown::Both));
    }
}

/// A payload of strings.
fn strings(parts: &[&str]) -> Vec<u8> {
    parts.iter().flat_map(|part| part.bytes().chain([0])).collect()
}
