//! The handle that callers hold.
//!
//! Every request is queued to the connection when its method is called, in the order of the calls; what comes back is
//! awaited separately. So requests are pipelined simply by calling before awaiting. No state of the connection here.

use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use super::connection::Connection;
use super::endpoint::Endpoint;
use super::error::{Error, Lost};
use super::notice::{Mailbox, Notices};
use super::path::check_watch;
use super::perms::Permission;
use super::reply::{Reply, Sink};
use super::requests::{Requests, bad_path};
use super::session::Command;
use super::transaction::{Outcome, repeat};
use super::transaction::{Span, Transaction};
use super::transport::Transport;
use super::wire::{Answer, Kind};

/// A handle to a connection to xenstored. Clones share the connection.
///
/// All methods but [`connect`](Self::connect) and [`transaction`](Self::transaction) send their request when they are
/// called. Errors that any of them can have:
///
/// * [`Error::BadPath`], [`Error::TooLarge`]: found before sending; nothing was sent;
/// * [`Error::Disconnected`]: at once while there is no connection, and for everything in flight when it is lost. Then
///   the outcome is unknown: see [`During`](super::During);
/// * [`Error::Denied`], [`Error::NoSpace`], [`Error::Refused`]: the daemon said no.
#[derive(Debug, Clone)]
pub struct Xenstore {
    commands: UnboundedSender<Command>,
    /// Where the client's own watches tell.
    mailbox: Arc<Mailbox>,
}

impl Xenstore {
    /// Connects once: for short uses that give up when the connection is lost. Nobody reads this client's notices, so
    /// [`watch`](Self::watch) is of no use on it; the streams of `xenstore-rs`'s `AsyncWatch` work and end with it.
    ///
    /// # Errors
    /// [`Error::Connect`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn connect(endpoint: Endpoint) -> Result<Self, Error> {
        let transport = match Transport::open(&endpoint).await {
            Ok(transport) => transport,
            Err(error) => return Err(Error::Connect { endpoint, source: Arc::new(error) }),
        };
        let mailbox = Mailbox::for_notices();
        mailbox.abandon();
        let (commands, connection) = Connection::new(endpoint, Arc::clone(&mailbox));
        tokio::spawn(connection.run_once(transport));
        Ok(Self { commands, mailbox })
    }

    /// Keeps a connection for ever: for the daemon. It is made, and made again when it is lost, by a task on the
    /// current tokio runtime: at once if the lost one had lasted a second, then after 1, 2, 4 and at most 8 s. The task
    /// ends when every handle is gone.
    ///
    /// Requests may be made at once: they wait for the first attempt to connect, and for no other.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn open(endpoint: Endpoint) -> (Self, Notices) {
        let mailbox = Mailbox::for_notices();
        let (commands, connection) = Connection::new(endpoint, Arc::clone(&mailbox));
        tokio::spawn(connection.run_for_ever());
        (Self { commands, mailbox: Arc::clone(&mailbox) }, Notices::new(mailbox))
    }

    /// A node's value.
    ///
    /// # Errors
    /// [`Error::NotFound`], and the errors of every request.
    pub fn read(&self, path: &str) -> Reply<Vec<u8>> {
        self.requests().read(path)
    }

    /// The names of a node's children, in the daemon's order. Names that are too long for one reply are fetched in
    /// parts, of one and the same state of the directory; or they come in one long reply, from oxenstored. Up to 4 MiB.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] when the directory changed again and again between its parts; and the
    /// errors of every request.
    pub fn directory(&self, path: &str) -> Reply<Vec<String>> {
        self.requests().directory(path)
    }

    /// A node's permissions, the owner's entry first.
    ///
    /// # Errors
    /// [`Error::NotFound`], and the errors of every request.
    pub fn get_perms(&self, path: &str) -> Reply<Vec<Permission>> {
        self.requests().get_perms(path)
    }

    /// Whether the daemon serves a domain.
    ///
    /// # Errors
    /// The errors of every request.
    pub fn is_domain_introduced(&self, domid: u16) -> Reply<bool> {
        self.requests().is_domain_introduced(domid)
    }

    /// Sets a node's value, of at most [`MAX_VALUE`](super::MAX_VALUE) bytes. Missing nodes on the way are created.
    ///
    /// # Errors
    /// The errors of every request.
    pub fn write(&self, path: &str, value: &[u8]) -> Reply<()> {
        self.requests().write(path, value)
    }

    /// Creates a node with an empty value. One that exists stays as it is.
    ///
    /// # Errors
    /// The errors of every request.
    pub fn mkdir(&self, path: &str) -> Reply<()> {
        self.requests().mkdir(path)
    }

    /// Removes a node and all below it. One that does not exist is fine if its parent does.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the parent does not exist either, and the errors of every request.
    pub fn rm(&self, path: &str) -> Reply<()> {
        self.requests().rm(path)
    }

    /// Replaces a node's permissions. The first entry names the owner.
    ///
    /// # Errors
    /// [`Error::NotFound`], and the errors of every request.
    pub fn set_perms(&self, path: &str, permissions: &[Permission]) -> Reply<()> {
        self.requests().set_perms(path, permissions)
    }

    /// Watches a path and everything below it, or `@introduceDomain` or `@releaseDomain`. Changes come as
    /// [`Notice::Changed`](super::Notice::Changed), one of them at once: for the path itself.
    ///
    /// The watch lasts until [`unwatch`](Self::unwatch), over every reconnect. Watching a path twice is watching it
    /// once. A watch needs no connection: without one, or when it is lost meanwhile, the reply is `Ok` and the next
    /// connection has the watch.
    ///
    /// # Errors
    /// [`Error::BadPath`], or what the daemon said. Then there is no watch.
    pub fn watch(&self, path: &str) -> Reply<()> {
        self.watch_for(path, &self.mailbox)
    }

    /// Ends a watch. A path that is not watched is fine. Changes that wait to be read are still told.
    ///
    /// # Errors
    /// [`Error::BadPath`], or what the daemon said. There is no watch in any case.
    pub fn unwatch(&self, path: &str) -> Reply<()> {
        self.unwatch_for(path, &self.mailbox)
    }

    /// Runs `body` in a transaction and commits what it did, or not, as it says.
    ///
    /// When others changed the same nodes meanwhile, everything is done again, `body` included, up to 20 times with a
    /// short random pause. So `body` must have no effect outside of the transaction. What it reads is not yet true: on
    /// C xenstored different reads may see different moments, and only the commit tells. Keep it short: an open
    /// transaction holds up others.
    ///
    /// The transaction is ended however this ends: if `body` fails, if it answers [`Outcome::Abort`], if the future is
    /// dropped. Of `body`'s replies, those that are neither awaited nor [deferred](Transaction::defer) are not looked
    /// at.
    ///
    /// # Errors
    /// What `body` returned; the first error of a deferred write; [`Error::Conflict`] when the attempts are used up;
    /// and the errors of every request. After [`Error::Disconnected`] for the commit, its outcome is unknown.
    pub async fn transaction<T, E: From<Error>>(
        &self,
        body: impl AsyncFnMut(&Transaction) -> Result<Outcome<T>, E>,
    ) -> Result<T, E> {
        repeat(async || self.begin().await, body).await
    }

    pub(super) fn watch_for(&self, path: &str, reader: &Arc<Mailbox>) -> Reply<()> {
        self.command_watch(Kind::Watch, path, |path, sink| Command::Watch {
            path,
            reader: Arc::clone(reader),
            sink,
        })
    }

    pub(super) fn unwatch_for(&self, path: &str, reader: &Arc<Mailbox>) -> Reply<()> {
        self.command_watch(Kind::Unwatch, path, |path, sink| Command::Unwatch {
            path,
            reader: Arc::clone(reader),
            sink,
        })
    }

    fn command_watch(
        &self,
        kind: Kind,
        path: &str,
        command: impl FnOnce(String, Sink) -> Command,
    ) -> Reply<()> {
        if let Err(fault) = check_watch(path) {
            return Reply::failed(bad_path(kind, path, fault));
        }
        let (sink, reply) = Reply::pending(kind, path, Answer::done);
        match self.commands.send(command(path.to_owned(), sink)) {
            Ok(()) => reply,
            Err(_) => Reply::failed(Error::unsent(kind, path, Lost::Ended)),
        }
    }

    fn requests(&self) -> Requests<'_> {
        Requests::new(&self.commands, None)
    }

    async fn begin(&self) -> Result<Span, Error> {
        let kind = Kind::TransactionStart;
        let (sink, receiver) = oneshot::channel();
        if self.commands.send(Command::Begin(sink)).is_err() {
            return Err(Error::unsent(kind, "", Lost::Ended));
        }
        receiver.await.unwrap_or_else(|_| Err(Error::in_flight(kind, "", Lost::Ended)))
    }
}
