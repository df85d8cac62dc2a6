//! The handle that callers hold.
//!
//! Every request is queued to the connection when its method is called, in the order of the calls;
//! what comes back is awaited separately. So requests are pipelined simply by calling before
//! awaiting. No state of the connection here.

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
/// All methods but [`connect`](Self::connect) and [`transaction`](Self::transaction) send their
/// request when they are called. Errors that any of them can have:
///
/// * [`Error::BadPath`], [`Error::TooLarge`]: found before sending; nothing was sent;
/// * [`Error::Disconnected`]: at once while there is no connection, and for everything in flight
///   when it is lost. Then the outcome is unknown: see [`During`](super::During);
/// * [`Error::Denied`], [`Error::NoSpace`], [`Error::Refused`]: the daemon said no.
#[derive(Debug, Clone)]
pub struct Xenstore {
    commands: UnboundedSender<Command>,
    /// Where the client's own watches tell.
    mailbox: Arc<Mailbox>,
}

impl Xenstore {
    /// Connects once: for short uses that give up when the connection is lost. Nobody reads this
    /// client's notices, so [`watch`](Self::watch) is of no use on it; the streams of
    /// `xenstore-rs`'s `AsyncWatch` work and end with it.
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
        Ok(Self::over(endpoint, transport))
    }

    /// A client of one connection that is already made.
    pub(super) fn over(endpoint: Endpoint, transport: Transport) -> Self {
        let mailbox = Mailbox::for_notices();
        mailbox.abandon();
        let (commands, connection) = Connection::new(endpoint, Arc::clone(&mailbox));
        tokio::spawn(connection.run_once(transport));
        Self { commands, mailbox }
    }

    /// Keeps a connection for ever: for the daemon. It is made, and made again when it is lost, by
    /// a task on the current tokio runtime: at once if the lost one had lasted a second, then after
    /// 1, 2, 4 and at most 8 s. The task ends when every handle is gone.
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

    /// The names of a node's children, in the daemon's order. Names that are too long for one reply
    /// are fetched in parts, of one and the same state of the directory; or they come in one long
    /// reply, from oxenstored. Up to 4 MiB.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] when the directory changed again and again between
    /// its parts; and the errors of every request.
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

    /// Sets a node's value, of at most [`MAX_VALUE`](super::MAX_VALUE) bytes. Missing nodes on the
    /// way are created.
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

    /// Removes a node and all below it. One that does not exist is fine if its parent does. The
    /// root is never removed.
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

    /// Watches a path and everything below it, or `@introduceDomain` or `@releaseDomain`. Changes
    /// come as [`Notice::Changed`](super::Notice::Changed), one of them at once: for the path
    /// itself.
    ///
    /// The watch lasts until [`unwatch`](Self::unwatch), over every reconnect. Watching a path
    /// twice is watching it once. A watch needs no connection: without one, or when it is lost
    /// meanwhile, the reply is `Ok` and the next connection has the watch.
    ///
    /// # Errors
    /// [`Error::BadPath`], or what the daemon said. Then there is no watch.
    pub fn watch(&self, path: &str) -> Reply<()> {
        self.watch_for(path, &self.mailbox)
    }

    /// Ends a watch. A path that is not watched is fine. Changes that wait to be read are still
    /// told.
    ///
    /// # Errors
    /// [`Error::BadPath`], or what the daemon said. There is no watch in any case.
    pub fn unwatch(&self, path: &str) -> Reply<()> {
        self.unwatch_for(path, &self.mailbox)
    }

    /// Runs `body` in a transaction and commits what it did, or not, as it says.
    ///
    /// When others changed the same nodes meanwhile, everything is done again, `body` included, up
    /// to 20 times with a short random pause. So `body` must have no effect outside of the
    /// transaction. What it reads is not yet true: on C xenstored different reads may see different
    /// moments, and only the commit tells. Keep it short: an open transaction holds up others.
    ///
    /// The transaction is ended however this ends: if `body` fails, if it answers
    /// [`Outcome::Abort`], if the future is dropped. Of `body`'s replies, those that are neither
    /// awaited nor [deferred](Transaction::defer) are not looked at.
    ///
    /// # Errors
    /// What `body` returned; the first error of a deferred write; [`Error::Conflict`] when the
    /// attempts are used up; and the errors of every request. After [`Error::Disconnected`] for the
    /// commit, its outcome is unknown.
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

#[cfg(test)]
mod tests {
    use futures::future::join_all;

    use super::super::path::MAX_VALUE;
    use super::super::peer::{Link, Peer, soon};
    use super::super::perms::Access;
    use super::*;

    async fn connected() -> (Xenstore, Link) {
        let peer = Peer::new();
        let client = Xenstore::connect(peer.endpoint()).await.unwrap();
        let link = peer.accept().await;
        (client, link)
    }

    #[tokio::test]
    async fn every_request_has_its_form() {
        let (xs, mut link) = connected().await;
        let permissions = [
            Permission { access: Access::None, domid: 5 },
            Permission { access: Access::Read, domid: 0 },
        ];

        let reply = xs.read("/a");
        let asked = link.expect(Kind::Read, "/a\0").await;
        assert_eq!(asked.tx_id, 0);
        link.answer(&asked, "value").await;
        assert_eq!(soon(reply).await.unwrap(), b"value");

        let reply = xs.directory("/a");
        let asked = link.expect(Kind::Directory, "/a\0").await;
        link.answer(&asked, "b\0c\0").await;
        assert_eq!(soon(reply).await.unwrap(), ["b", "c"]);

        let reply = xs.get_perms("/a");
        let asked = link.expect(Kind::GetPerms, "/a\0").await;
        link.answer(&asked, "n5\0r0\0").await;
        assert_eq!(soon(reply).await.unwrap(), permissions);

        let reply = xs.is_domain_introduced(5);
        let asked = link.expect(Kind::IsDomainIntroduced, "5\0").await;
        link.answer(&asked, "F\0").await;
        assert!(!soon(reply).await.unwrap());

        for (reply, kind, payload) in [
            (xs.write("/a", b"v\0w"), Kind::Write, "/a\0v\0w"),
            (xs.mkdir("/a"), Kind::Mkdir, "/a\0"),
            (xs.rm("/a"), Kind::Rm, "/a\0"),
            (xs.set_perms("/a", &permissions), Kind::SetPerms, "/a\0n5\0r0\0"),
        ] {
            let asked = link.expect(kind, payload).await;
            link.ok(&asked).await;
            soon(reply).await.unwrap();
        }
    }

    #[tokio::test]
    async fn requests_leave_when_they_are_made_and_in_that_order() {
        let (xs, mut link) = connected().await;
        let replies: Vec<_> = (0..100).map(|n| xs.read(&format!("/{n}"))).collect();
        let mut asked = Vec::new();
        for n in 0..100 {
            asked.push(link.expect(Kind::Read, format!("/{n}\0")).await);
        }
        for asked in asked.iter().rev() {
            link.answer(asked, &asked.payload[1..]).await;
        }
        let values = soon(join_all(replies)).await;
        for (n, value) in values.into_iter().enumerate() {
            assert_eq!(
                value.unwrap(),
                format!("{n}\0").into_bytes(),
                "matched by id, not by order"
            );
        }
    }

    #[tokio::test]
    async fn what_must_not_be_sent_is_not_sent() {
        let (xs, mut link) = connected().await;
        assert!(matches!(xs.read("a").await, Err(Error::BadPath { .. })));
        assert!(matches!(xs.rm("/a/").await, Err(Error::BadPath { .. })));
        assert!(matches!(xs.write("/1-1.4", b"").await, Err(Error::BadPath { .. })));
        assert!(matches!(xs.watch("@other").await, Err(Error::BadPath { .. })));
        let long = [0; MAX_VALUE + 1];
        assert!(matches!(xs.write("/a", &long).await, Err(Error::TooLarge { .. })));
        let many = [Permission { access: Access::None, domid: 5 }; 2000];
        assert!(matches!(xs.set_perms("/a", &many).await, Err(Error::TooLarge { .. })));
        link.expect_silence().await;
    }

    #[tokio::test]
    async fn refusals_name_the_request_and_harm_no_other() {
        let (xs, mut link) = connected().await;
        let (first, second) = (xs.read("/a"), xs.read("/b"));
        let asked = [link.asked().await, link.asked().await];
        link.refuse(&asked[1], "EWHAT\x1b").await;
        link.refuse(&asked[0], "ENOENT").await;
        let error = soon(second).await.unwrap_err();
        assert_eq!(error.to_string(), "read /b: refused by xenstored (EWHAT\\x1b)");
        let error = soon(first).await.unwrap_err();
        assert!(matches!(error, Error::NotFound { what: Kind::Read, path } if path == "/a"));
    }

    #[tokio::test]
    async fn a_long_directory_is_read_in_parts() {
        let (xs, mut link) = connected().await;
        let reply = xs.directory("/a");
        let asked = link.expect(Kind::Directory, "/a\0").await;
        link.refuse(&asked, "E2BIG").await;
        let asked = link.expect(Kind::DirectoryPart, "/a\x000\0").await;
        link.answer(&asked, "7\0b\0cd\0").await;
        let asked = link.expect(Kind::DirectoryPart, "/a\x005\0").await;
        link.answer(&asked, "8\0cd\0").await;
        let asked = link.expect(Kind::DirectoryPart, "/a\x000\0").await;
        link.answer(&asked, "8\0cd\0e\0\0").await;
        assert_eq!(soon(reply).await.unwrap(), ["cd", "e"]);
    }

    #[tokio::test]
    async fn a_long_directory_may_come_in_one_piece() {
        let (xs, mut link) = connected().await;
        let reply = xs.directory("/a");
        let asked = link.expect(Kind::Directory, "/a\0").await;
        link.answer(&asked, "name\0".repeat(100_000)).await;
        assert_eq!(soon(reply).await.unwrap().len(), 100_000);
    }

    #[tokio::test]
    async fn without_a_daemon_there_is_no_client() {
        let peer = Peer::new();
        let endpoint = peer.endpoint();
        drop(peer.vanish());
        let error = Xenstore::connect(endpoint).await.unwrap_err();
        assert!(matches!(error, Error::Connect { .. }));
    }

    #[tokio::test]
    async fn the_connection_ends_with_its_last_handle_but_answers_first() {
        let (xs, mut link) = connected().await;
        let reply = xs.clone().read("/a");
        drop(xs);
        let asked = link.asked().await;
        link.answer(&asked, "value").await;
        assert_eq!(soon(reply).await.unwrap(), b"value");
        link.expect_end().await;
    }

    #[test]
    fn handles_and_replies_cross_threads() {
        fn check<T: Send + Sync>() {}
        fn check_reply<T: Send + Unpin>() {}
        check::<Xenstore>();
        check::<Transaction>();
        check::<Error>();
        check_reply::<Reply<Vec<u8>>>();
    }

    #[test]
    fn a_runtime_that_ends_leaves_nobody_waiting() {
        let runtime =
            || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let first = runtime();
        let peer = first.block_on(async { Peer::new() });
        let (xs, mut notices) = first.block_on(async { Xenstore::open(peer.endpoint()) });
        let reply = xs.read("/a");
        drop(first);
        runtime().block_on(async {
            assert!(matches!(soon(reply).await, Err(Error::Disconnected { .. })));
            assert!(matches!(xs.read("/a").await, Err(Error::Disconnected { .. })));
            assert!(soon(notices.next()).await.is_none());
        });
    }
}
