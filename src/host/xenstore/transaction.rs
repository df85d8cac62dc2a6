//! Transactions: their requests, their end, and their repetition.
//!
//! A transaction is ended exactly once: by its commit, or by the guard that is dropped. What is done in one is the
//! caller's business.

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

/// How often a transaction is tried. Conflicts are rare; so many mean that somebody else never stops.
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

/// An open transaction. Its methods are those of [`Xenstore`](super::Xenstore), and send when they are called, too.
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

    /// Leaves a write's reply to the transaction: it is looked at after the commit was sent, so that writes and commit
    /// take one round trip. An error in it is the transaction's error.
    ///
    /// A reply that has failed already, because its path or value was bad, stops the commit. But what the *daemon*
    /// refuses is found only when the commit is on its way: the other writes are in force then. Await the replies
    /// of writes whose refusal must prevent that.
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
    for attempt in 1..=MAX_ATTEMPTS {
        let transaction = Transaction::new(begin().await?);
        match body(&transaction).await? {
            Outcome::Abort(value) => return Ok(value),
            Outcome::Commit(value) => match transaction.commit().await? {
                Ended::Committed => return Ok(value),
                Ended::Conflict => pause(attempt).await,
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
