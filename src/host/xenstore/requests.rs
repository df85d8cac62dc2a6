//! How each request is made: its checks, its payload, and the type of its answer.
//!
//! Shared by the client and its transactions, which differ in the transaction id only. Every method
//! queues its request before it returns.

use tokio::sync::mpsc::UnboundedSender;

use super::error::Error;
use super::error::Lost;
use super::path::{self, MAX_VALUE, PathFault};
use super::perms::Permission;
use super::reply::Reply;
use super::session::{Command, Request, Scope};
use super::wire::{Answer, Kind, Payload};

/// Requests of one transaction, or of none.
pub(super) struct Requests<'a> {
    commands: &'a UnboundedSender<Command>,
    scope: Option<Scope>,
}

impl<'a> Requests<'a> {
    pub(super) fn new(commands: &'a UnboundedSender<Command>, scope: Option<Scope>) -> Self {
        Self { commands, scope }
    }

    pub(super) fn read(&self, path: &str) -> Reply<Vec<u8>> {
        self.ask_about(Kind::Read, path, Answer::value)
    }

    pub(super) fn directory(&self, path: &str) -> Reply<Vec<String>> {
        self.ask_about(Kind::Directory, path, Answer::names)
    }

    pub(super) fn get_perms(&self, path: &str) -> Reply<Vec<Permission>> {
        self.ask_about(Kind::GetPerms, path, Answer::permissions)
    }

    pub(super) fn is_domain_introduced(&self, domid: u16) -> Reply<bool> {
        let kind = Kind::IsDomainIntroduced;
        let domid = domid.to_string();
        let payload = strings(kind, &domid, &[&domid]);
        self.ask(kind, &domid, payload, Answer::flag)
    }

    pub(super) fn write(&self, path: &str, value: &[u8]) -> Reply<()> {
        let kind = Kind::Write;
        let payload = check(kind, path).and_then(|()| {
            let len = value.len();
            if len > MAX_VALUE {
                let path = path.to_owned();
                return Err(Error::TooLarge { what: kind, path, len, limit: MAX_VALUE });
            }
            Payload::path_and_value(path, value).map_err(|len| Error::too_large(kind, path, len))
        });
        self.ask(kind, path, payload, Answer::done)
    }

    pub(super) fn mkdir(&self, path: &str) -> Reply<()> {
        self.ask_about(Kind::Mkdir, path, Answer::done)
    }

    pub(super) fn rm(&self, path: &str) -> Reply<()> {
        self.ask_about(Kind::Rm, path, Answer::done)
    }

    pub(super) fn set_perms(&self, path: &str, permissions: &[Permission]) -> Reply<()> {
        let kind = Kind::SetPerms;
        let payload = check(kind, path).and_then(|()| {
            let permissions = permissions.iter().map(ToString::to_string);
            let words: Vec<String> = std::iter::once(path.to_owned()).chain(permissions).collect();
            strings(kind, path, &words)
        });
        self.ask(kind, path, payload, Answer::done)
    }

    /// Ends the transaction.
    pub(super) fn end(&self, commit: bool) -> Reply<()> {
        let kind = Kind::TransactionEnd;
        let payload = strings(kind, "", &[if commit { "T" } else { "F" }]);
        self.ask(kind, "", payload, Answer::done)
    }

    /// A request whose payload is a path.
    fn ask_about<T>(&self, kind: Kind, path: &str, take: fn(Answer) -> Option<T>) -> Reply<T> {
        let payload = check(kind, path).and_then(|()| strings(kind, path, &[path]));
        self.ask(kind, path, payload, take)
    }

    fn ask<T>(
        &self,
        kind: Kind,
        path: &str,
        payload: Result<Payload, Error>,
        take: fn(Answer) -> Option<T>,
    ) -> Reply<T> {
        let payload = match payload {
            Ok(payload) => payload,
            Err(error) => return Reply::failed(error),
        };
        let (sink, reply) = Reply::pending(kind, path, take);
        let scope = self.scope;
        let request = Request { kind, path: path.to_owned(), scope, payload, sink };
        match self.commands.send(Command::Ask(request)) {
            Ok(()) => reply,
            Err(_) => Reply::failed(Error::unsent(kind, path, Lost::Ended)),
        }
    }
}

/// The error of a path that must not be sent.
pub(super) fn bad_path(what: Kind, path: &str, fault: PathFault) -> Error {
    Error::BadPath { what, path: path.to_owned(), fault }
}

fn check(kind: Kind, path: &str) -> Result<(), Error> {
    let checked = if kind == Kind::Rm { path::check_removal(path) } else { path::check(path) };
    checked.map_err(|fault| bad_path(kind, path, fault))
}

fn strings<S: AsRef<str>>(kind: Kind, path: &str, strings: &[S]) -> Result<Payload, Error> {
    Payload::strings(strings).map_err(|len| Error::too_large(kind, path, len))
}
