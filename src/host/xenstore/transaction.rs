//! Transactions: their requests, their end, and their repetition.
//!
//! A transaction is ended exactly once: by its commit, or by the guard that is dropped. What is
//! done in one is the caller's business.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use super::error::Error;
use super::perms::Permission;
use super::reply::Reply;
use super::requests::Requests;
use super::session::{Command, Scope};
use super::wire::Kind;

/// How often a transaction is tried. Conflicts are rare; so many mean that somebody else never
/// stops.
const MAX_ATTEMPTS: u32 = 20;

/// The longest pause before another attempt, in milliseconds.
const LONGEST_PAUSE: u64 = 32;

/// What a transaction's body wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<T> {
    /// Put it in force.
    Commit(T),
    /// Leave everything as it was.
    Abort(T),
}

/// An open transaction. Its methods are those of [`Xenstore`](super::Xenstore), and send when they
/// are called, too.
#[derive(Debug)]
pub struct Transaction {
    span: Span,
    deferred: Mutex<Vec<Reply<()>>>,
}

impl Transaction {
    /// A node's value, as [`Xenstore::read`](super::Xenstore::read).
    pub fn read(&self, path: &str) -> Reply<Vec<u8>> {
        self.span.requests().read(path)
    }

    /// The names of a node's children, as [`Xenstore::directory`](super::Xenstore::directory).
    pub fn directory(&self, path: &str) -> Reply<Vec<String>> {
        self.span.requests().directory(path)
    }

    /// A node's permissions, as [`Xenstore::get_perms`](super::Xenstore::get_perms).
    pub fn get_perms(&self, path: &str) -> Reply<Vec<Permission>> {
        self.span.requests().get_perms(path)
    }

    /// Sets a node's value, as [`Xenstore::write`](super::Xenstore::write).
    pub fn write(&self, path: &str, value: &[u8]) -> Reply<()> {
        self.span.requests().write(path, value)
    }

    /// Creates a node, as [`Xenstore::mkdir`](super::Xenstore::mkdir).
    pub fn mkdir(&self, path: &str) -> Reply<()> {
        self.span.requests().mkdir(path)
    }

    /// Removes a node and all below it, as [`Xenstore::rm`](super::Xenstore::rm).
    pub fn rm(&self, path: &str) -> Reply<()> {
        self.span.requests().rm(path)
    }

    /// Replaces a node's permissions, as [`Xenstore::set_perms`](super::Xenstore::set_perms).
    pub fn set_perms(&self, path: &str, permissions: &[Permission]) -> Reply<()> {
        self.span.requests().set_perms(path, permissions)
    }

    /// Leaves a write's reply to the transaction: it is looked at after the commit was sent, so
    /// that writes and commit take one round trip. An error in it is the transaction's error.
    ///
    /// A reply that has failed already, because its path or value was bad, stops the commit. But
    /// what the *daemon* refuses is found only when the commit is on its way: the other writes are
    /// in force then. Await the replies of writes whose refusal must prevent that.
    pub fn defer(&self, reply: Reply<()>) {
        self.deferred.lock().unwrap_or_else(PoisonError::into_inner).push(reply);
    }

    fn new(span: Span) -> Self {
        Self { span, deferred: Mutex::new(Vec::new()) }
    }

    async fn commit(self) -> Result<Ended, Error> {
        let deferred = self.deferred.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut waiting = Vec::with_capacity(deferred.len());
        for reply in deferred {
            // Without this, the guard below would not get the chance to abort.
            waiting.push(reply.or_failed()?);
        }
        let end = self.span.commit();
        let mut first_failure = None;
        for reply in waiting {
            if let Err(error) = reply.await {
                first_failure.get_or_insert(error);
            }
        }
        match (end.await, first_failure) {
            // Nothing is in force, so whatever else failed counts for nothing.
            (Err(Error::Conflict { .. }), _) => Ok(Ended::Conflict),
            (_, Some(error)) | (Err(error), None) => Err(error),
            (Ok(()), None) => Ok(Ended::Committed),
        }
    }
}

/// How a commit ended.
enum Ended {
    Committed,
    Conflict,
}

/// The guard of an open transaction: dropping it aborts.
#[derive(Debug)]
pub(super) struct Span {
    scope: Scope,
    commands: UnboundedSender<Command>,
    open: bool,
}

impl Span {
    pub(super) fn new(scope: Scope, commands: UnboundedSender<Command>) -> Self {
        Self { scope, commands, open: true }
    }

    fn requests(&self) -> Requests<'_> {
        Requests::new(&self.commands, Some(self.scope))
    }

    fn commit(mut self) -> Reply<()> {
        self.open = false;
        self.requests().end(true)
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if self.open {
            // Nobody needs the answer: the transaction is gone whatever it is.
            drop(self.requests().end(false));
        }
    }
}

/// Runs a body in transactions until one of them is not in conflict.
pub(super) async fn repeat<T, E: From<Error>>(
    begin: impl AsyncFn() -> Result<Span, Error>,
    mut body: impl AsyncFnMut(&Transaction) -> Result<Outcome<T>, E>,
) -> Result<T, E> {
    for attempt in 0..MAX_ATTEMPTS {
        if attempt > 0 {
            pause(attempt).await;
        }
        let transaction = Transaction::new(begin().await?);
        match body(&transaction).await? {
            Outcome::Abort(value) => return Ok(value),
            Outcome::Commit(value) => match transaction.commit().await? {
                Ended::Committed => return Ok(value),
                Ended::Conflict => {}
            },
        }
    }
    let (what, path) = (Kind::TransactionEnd, String::new());
    Err(Error::Conflict { what, path, attempts: MAX_ATTEMPTS }.into())
}

/// Steps aside for a random time, so that two who are in each other's way do not stay so.
async fn pause(attempt: u32) {
    let most = 1_u64.checked_shl(attempt).unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE);
    // The keys of a new `RandomState` differ from those before: random enough to get out of step.
    let random = RandomState::new().hash_one(attempt);
    tokio::time::sleep(Duration::from_millis(1 + random % most)).await;
}

#[cfg(test)]
mod tests {
    use futures::future::join;

    use super::super::client::Xenstore;
    use super::super::error::{During, Lost};
    use super::super::notice::Notice;
    use super::super::peer::{Link, Peer, soon};
    use super::*;

    async fn connected() -> (Xenstore, Link) {
        let peer = Peer::new();
        let xs = Xenstore::connect(peer.endpoint()).await.unwrap();
        let link = peer.accept().await;
        (xs, link)
    }

    async fn start(link: &mut Link, id: u32) {
        let asked = link.expect(Kind::TransactionStart, "\0").await;
        link.answer(&asked, format!("{id}\0")).await;
    }

    async fn end(link: &mut Link, id: u32, how: &str) -> super::super::peer::Asked {
        let asked = link.expect(Kind::TransactionEnd, format!("{how}\0")).await;
        assert_eq!(asked.tx_id, id);
        asked
    }

    #[tokio::test]
    async fn writes_and_commit_take_one_round_trip() {
        let (xs, mut link) = connected().await;
        let client = xs.transaction(async |t| {
            let value = t.read("/a").await?;
            t.defer(t.write("/b", &value));
            t.defer(t.rm("/c"));
            Ok::<_, Error>(Outcome::Commit(value))
        });
        let daemon = async {
            start(&mut link, 7).await;
            let asked = link.expect(Kind::Read, "/a\0").await;
            assert_eq!(asked.tx_id, 7);
            link.answer(&asked, "v").await;
            let write = link.expect(Kind::Write, "/b\0v").await;
            let rm = link.expect(Kind::Rm, "/c\0").await;
            let end = end(&mut link, 7, "T").await;
            for asked in [&write, &rm, &end] {
                link.ok(asked).await;
            }
        };
        let (value, ()) = soon(join(client, daemon)).await;
        assert_eq!(value.unwrap(), b"v");
        drop(xs);
        link.expect_end().await;
    }

    #[tokio::test(start_paused = true)]
    async fn conflicts_repeat_the_body_and_end_at_last() {
        let (xs, mut link) = connected().await;
        let mut runs = 0;
        let client = xs.transaction(async |t| {
            runs += 1;
            t.defer(t.write("/a", b""));
            Ok::<_, Error>(Outcome::Commit(()))
        });
        let daemon = async {
            for id in 1..=MAX_ATTEMPTS {
                start(&mut link, id).await;
                let asked = link.expect(Kind::Write, "/a\0").await;
                link.ok(&asked).await;
                let asked = end(&mut link, id, "T").await;
                link.refuse(&asked, "EAGAIN").await;
            }
        };
        let (result, ()) = soon(join(client, daemon)).await;
        assert!(matches!(result, Err(Error::Conflict { attempts: MAX_ATTEMPTS, .. })));
        assert_eq!(runs, MAX_ATTEMPTS);
        link.expect_silence().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_conflict_that_passes_is_not_seen() {
        let (xs, mut link) = connected().await;
        let mut runs = 0;
        let client = xs.transaction(async |_| {
            runs += 1;
            Ok::<_, Error>(Outcome::Commit(runs))
        });
        let daemon = async {
            for (id, errno) in [(1, Some("EAGAIN")), (2, None)] {
                start(&mut link, id).await;
                let asked = end(&mut link, id, "T").await;
                match errno {
                    Some(errno) => link.refuse(&asked, errno).await,
                    None => link.ok(&asked).await,
                }
            }
        };
        let (result, ()) = soon(join(client, daemon)).await;
        assert_eq!(result.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_deferred_failure_is_the_transactions() {
        let (xs, mut link) = connected().await;
        let client = xs.transaction(async |t| {
            t.defer(t.write("/a", b""));
            t.defer(t.write("/b", b""));
            Ok::<_, Error>(Outcome::Commit(()))
        });
        let daemon = async {
            start(&mut link, 1).await;
            let asked = [link.asked().await, link.asked().await];
            link.ok(&asked[0]).await;
            link.refuse(&asked[1], "ENOSPC").await;
            let asked = end(&mut link, 1, "T").await;
            link.ok(&asked).await;
        };
        let (result, ()) = soon(join(client, daemon)).await;
        assert!(matches!(result, Err(Error::NoSpace { path, .. }) if path == "/b"));
    }

    #[tokio::test]
    async fn a_deferred_write_that_was_never_sent_stops_the_commit() {
        let (xs, mut link) = connected().await;
        let client = xs.transaction(async |t| {
            t.defer(t.write("/a", b""));
            t.defer(t.write("bad", b""));
            Ok::<_, Error>(Outcome::Commit(()))
        });
        let daemon = async {
            start(&mut link, 1).await;
            link.expect(Kind::Write, "/a\0").await;
            end(&mut link, 1, "F").await;
        };
        let (result, ()) = soon(join(client, daemon)).await;
        assert!(matches!(result, Err(Error::BadPath { .. })));
    }

    #[tokio::test]
    async fn what_does_not_commit_aborts() {
        #[derive(Debug, PartialEq)]
        struct Mine;
        impl From<Error> for Mine {
            fn from(_: Error) -> Self {
                Self
            }
        }
        let (xs, mut link) = connected().await;
        for id in [1, 2] {
            let client =
                xs.transaction(
                    async |_| {
                        if id == 1 { Ok(Outcome::Abort("kept")) } else { Err(Mine) }
                    },
                );
            let daemon = async {
                start(&mut link, id).await;
                end(&mut link, id, "F").await
            };
            let (result, asked) = soon(join(client, daemon)).await;
            assert_eq!(result, if id == 1 { Ok("kept") } else { Err(Mine) });
            link.ok(&asked).await;
        }
    }

    #[tokio::test]
    async fn a_dropped_transaction_aborts_wherever_it_was() {
        let (xs, mut link) = connected().await;
        let body = async |t: &Transaction| {
            t.read("/a").await?;
            Ok::<_, Error>(Outcome::Commit(()))
        };

        // While the body waits.
        let mut client = Box::pin(xs.transaction(body));
        tokio::select! {
            _ = &mut client => panic!("nothing was answered"),
            () = async { start(&mut link, 1).await; link.expect(Kind::Read, "/a\0").await; } => {}
        }
        drop(client);
        end(&mut link, 1, "F").await;

        // While the start is in flight.
        let mut client = Box::pin(xs.transaction(body));
        let asked = tokio::select! {
            _ = &mut client => panic!("nothing was answered"),
            asked = link.expect(Kind::TransactionStart, "\0") => asked,
        };
        drop(client);
        link.answer(&asked, "2\0").await;
        end(&mut link, 2, "F").await;

        // While its id waits to be looked at.
        let mut client = Box::pin(xs.transaction(body));
        let asked = tokio::select! {
            _ = &mut client => panic!("nothing was answered"),
            asked = link.expect(Kind::TransactionStart, "\0") => asked,
        };
        let reply = xs.read("/b");
        let read = link.asked().await;
        link.answer(&asked, "3\0").await;
        link.answer(&read, "").await;
        soon(reply).await.unwrap();
        drop(client);
        end(&mut link, 3, "F").await;
        link.expect_silence().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_transaction_does_not_survive_its_connection() {
        let peer = Peer::new();
        let (xs, mut notices) = Xenstore::open(peer.endpoint());
        let mut link = peer.accept().await;
        assert!(matches!(soon(notices.next()).await, Some(Notice::Connected)));
        let (told, wait) = tokio::sync::oneshot::channel();
        let mut wait = Some(wait);
        let client = xs.transaction(async |t| {
            if let Some(wait) = wait.take() {
                let _ = wait.await;
            }
            t.write("/a", b"").await?;
            Ok::<_, Error>(Outcome::Commit(()))
        });
        let daemon = async {
            start(&mut link, 1).await;
            drop(link);
            let mut link = peer.accept().await;
            assert!(matches!(soon(notices.next()).await, Some(Notice::Disconnected(_))));
            assert!(matches!(soon(notices.next()).await, Some(Notice::Connected)));
            let _ = told.send(());
            link.expect_silence().await;
        };
        let (result, ()) = soon(join(client, daemon)).await;
        let error = result.unwrap_err();
        let during = During::Unsent { what: Kind::Write, path: "/a".into() };
        assert!(
            matches!(error, Error::Disconnected { during: d, why: Lost::Stale } if d == during)
        );
    }
}
