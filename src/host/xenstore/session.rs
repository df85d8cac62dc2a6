//! One connection's state: what was asked, what answers it, what must be written.
//!
//! No IO and no clock: bytes come in through [`Session::receive`], bytes go out through
//! [`Session::outgoing`], the time is an argument. It ends with its connection; what outlives
//! connections is not kept here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use tokio::sync::mpsc::WeakUnboundedSender;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::error::{Error, Lost};
use super::listing::{self, Listing, Next};
use super::notice::Mailbox;
use super::reply::Sink;
use super::transaction::Span;
use super::watch::{Ticket, Watches};
use super::wire::{self, Answer, Decoder, Fault, Kind, Message, Payload};

/// What a handle wants from the connection.
#[derive(Debug)]
pub(super) enum Command {
    Ask(Request),
    /// Start a transaction. The answer is a guard: wherever it is dropped, the transaction ends.
    Begin(oneshot::Sender<Result<Span, Error>>),
    Watch {
        path: String,
        reader: Arc<Mailbox>,
        sink: Sink,
    },
    Unwatch {
        path: String,
        reader: Arc<Mailbox>,
        sink: Sink,
    },
}

/// A request with one reply.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) kind: Kind,
    /// What it is about, for errors; empty for transactions.
    pub(super) path: String,
    pub(super) scope: Option<Scope>,
    pub(super) payload: Payload,
    pub(super) sink: Sink,
}

/// The transaction that a request belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scope {
    /// The daemon's id, unique on its connection only.
    pub(super) tx_id: u32,
    /// Which connection that was: the daemon gives the same ids again on the next one.
    pub(super) epoch: u64,
}

/// How many requests may be under way on one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    Many,
    /// The next one is written when the one before is answered.
    One,
}

/// The state of one connection.
#[derive(Debug)]
pub(super) struct Session {
    pace: Pace,
    epoch: u64,
    commands: WeakUnboundedSender<Command>,
    last_id: u32,
    in_flight: BTreeMap<u32, InFlight>,
    /// Requests that set the watches of earlier connections again, while they are in flight.
    setting_up: BTreeSet<u32>,
    /// Whole messages; of the first one, `written` bytes are gone.
    outbox: VecDeque<Vec<u8>>,
    written: usize,
    decoder: Decoder,
}

#[derive(Debug)]
struct InFlight {
    kind: Kind,
    tx_id: u32,
    path: String,
    purpose: Purpose,
    /// Since when its answer is waited for. A listing in parts waits since its first one.
    since: Instant,
}

/// What a listing that comes in parts is about.
struct Asked {
    tx_id: u32,
    path: String,
    since: Instant,
}

#[derive(Debug)]
enum Purpose {
    Answer(Sink),
    Part(Listing, Sink),
    Begin(oneshot::Sender<Result<Span, Error>>),
    Watch { token: u64 },
}

impl Session {
    /// The state of a connection that was just made. The watches are the first thing that it asks
    /// for.
    pub(super) fn new(
        pace: Pace,
        epoch: u64,
        commands: WeakUnboundedSender<Command>,
        watches: &mut Watches,
        now: Instant,
    ) -> Self {
        let mut session = Self {
            pace,
            epoch,
            commands,
            last_id: 0,
            in_flight: BTreeMap::new(),
            setting_up: BTreeSet::new(),
            outbox: VecDeque::new(),
            written: 0,
            decoder: Decoder::default(),
        };
        for ticket in watches.ask_all() {
            let req_id = session.send_watch(ticket, now);
            session.setting_up.insert(req_id);
        }
        session
    }

    /// Whether all watches of earlier connections are set again.
    pub(super) fn is_set_up(&self) -> bool {
        self.setting_up.is_empty()
    }

    /// Whether nothing is to be written and no reply is to come.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.outbox.is_empty()
    }

    /// Since when the oldest of the answers that are still to come is waited for. Ids go up, so it is
    /// that of the lowest one; when they begin anew, for a moment a younger one stands for it.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        self.in_flight.first_key_value().map(|(_, asked)| asked.since)
    }

    /// What is to be written next: the rest of one message, never more.
    pub(super) fn outgoing(&self) -> Option<&[u8]> {
        // Each message in the outbox is a request in flight; the others are written and not answered.
        let unanswered = self.in_flight.len().saturating_sub(self.outbox.len());
        if self.pace == Pace::One && unanswered > 0 {
            return None;
        }
        self.outbox.front().and_then(|message| message.get(self.written..))
    }

    /// So many bytes of [`outgoing`](Self::outgoing) were written.
    pub(super) fn written(&mut self, count: usize) {
        self.written += count;
        if self.outbox.front().is_some_and(|message| self.written >= message.len()) {
            self.outbox.pop_front();
            self.written = 0;
        }
    }

    /// Takes a command: its request goes behind those that wait to be written.
    pub(super) fn submit(&mut self, command: Command, watches: &mut Watches, now: Instant) {
        match command {
            Command::Ask(request) => self.submit_request(request, now),
            Command::Begin(sink) => match Payload::strings(&[""]) {
                Ok(payload) => {
                    let purpose = Purpose::Begin(sink);
                    self.send(Kind::TransactionStart, 0, String::new(), &payload, purpose, now);
                }
                Err(len) => {
                    let error = Error::too_large(Kind::TransactionStart, "", len);
                    let _ = sink.send(Err(error));
                }
            },
            Command::Watch { path, reader, sink } => {
                if let Some(ticket) = watches.add(path, reader, sink) {
                    self.send_watch(ticket, now);
                }
            }
            Command::Unwatch { path, reader, sink } => match watches.remove(&path, &reader) {
                Some(ticket) => {
                    let purpose = Purpose::Answer(sink);
                    self.send(Kind::Unwatch, 0, path, &ticket.payload, purpose, now);
                }
                None => deliver(sink, Ok(Answer::Done)),
            },
        }
    }

    /// Takes bytes from the daemon and hands out what they answer.
    ///
    /// # Errors
    /// The connection cannot be used any further.
    pub(super) fn receive(&mut self, bytes: &[u8], watches: &mut Watches) -> Result<(), Lost> {
        self.decoder.feed(bytes);
        while let Some(message) = self.decoder.take_message()? {
            if message.kind == Kind::WatchEvent {
                watches.event(&wire::decode_event(&message.payload)?);
            } else {
                self.reply(message, watches)?;
            }
        }
        Ok(())
    }

    /// The connection is gone: everybody who waits for a reply hears it now.
    pub(super) fn fail(self, why: &Lost) {
        for InFlight { kind, path, purpose, .. } in self.in_flight.into_values() {
            let error = Error::in_flight(kind, &path, why.clone());
            match purpose {
                Purpose::Answer(sink) | Purpose::Part(_, sink) => deliver(sink, Err(error)),
                Purpose::Begin(sink) => {
                    let _ = sink.send(Err(error));
                }
                // Those who wait for a watch are in the book of watches.
                Purpose::Watch { .. } => {}
            }
        }
    }

    fn submit_request(&mut self, request: Request, now: Instant) {
        let Request { kind, path, scope, payload, sink } = request;
        match scope {
            Some(Scope { epoch, .. }) if epoch != self.epoch => {
                deliver(sink, Err(Error::unsent(kind, &path, Lost::Stale)));
            }
            _ => {
                let tx_id = scope.map_or(0, |scope| scope.tx_id);
                self.send(kind, tx_id, path, &payload, Purpose::Answer(sink), now);
            }
        }
    }

    fn send_watch(&mut self, ticket: Ticket, now: Instant) -> u32 {
        let Ticket { token, path, payload } = ticket;
        self.send(Kind::Watch, 0, path, &payload, Purpose::Watch { token }, now)
    }

    fn send(
        &mut self,
        kind: Kind,
        tx_id: u32,
        path: String,
        payload: &Payload,
        purpose: Purpose,
        since: Instant,
    ) -> u32 {
        let req_id = self.free_id();
        self.outbox.push_back(wire::encode(kind, req_id, tx_id, payload));
        self.in_flight.insert(req_id, InFlight { kind, tx_id, path, purpose, since });
        req_id
    }

    /// An id that no request in flight has. 0 is left out: watch events carry it.
    fn free_id(&mut self) -> u32 {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            if self.last_id != 0 && !self.in_flight.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }

    fn reply(&mut self, message: Message, watches: &mut Watches) -> Result<(), Lost> {
        let Message { kind: got, req_id, tx_id, payload } = message;
        let asked = self.in_flight.get(&req_id).ok_or(Fault::UnknownRequest { req_id })?;
        let kind = asked.kind;
        if got != kind && got != Kind::Error {
            return Err(Fault::WrongKind { asked: kind, got }.into());
        }
        if tx_id != asked.tx_id {
            return Err(Fault::WrongTransaction { kind, asked: asked.tx_id, got: tx_id }.into());
        }
        // The payload is read before the request leaves the books: if it is malformed, the request
        // still hears of it with all others in flight.
        let result = if got == Kind::Error {
            Err(wire::decode_error_name(&payload)?)
        } else {
            Ok(wire::decode_answer(kind, payload)?)
        };
        self.setting_up.remove(&req_id);
        match self.in_flight.remove(&req_id) {
            Some(asked) => self.settle(asked, result, watches),
            None => Ok(()),
        }
    }

    /// Hands a result, an answer or the name of an error, to those who wait for it.
    fn settle(
        &mut self,
        asked: InFlight,
        result: Result<Answer, String>,
        watches: &mut Watches,
    ) -> Result<(), Lost> {
        let InFlight { kind, tx_id, path, purpose, since } = asked;
        match (purpose, result) {
            (Purpose::Watch { token }, Ok(_)) => watches.set(token),
            (Purpose::Watch { token }, Err(errno)) => watches.refused(token, errno)?,
            (Purpose::Begin(sink), Ok(Answer::Transaction(tx_id))) => self.begun(tx_id, sink),
            (Purpose::Begin(_), Ok(_)) => {}
            (Purpose::Begin(sink), Err(errno)) => {
                let _ = sink.send(Err(Error::refused(kind, &path, errno)));
            }
            (Purpose::Part(listing, sink), Ok(Answer::Part(part))) => {
                self.list_further(listing, part, Asked { tx_id, path, since }, sink);
            }
            (Purpose::Answer(sink), Err(errno)) if kind == Kind::Directory && errno == "E2BIG" => {
                self.ask_part(Listing::new(), Asked { tx_id, path, since }, sink);
            }
            (Purpose::Answer(sink) | Purpose::Part(_, sink), result) => {
                deliver(sink, result.map_err(|errno| Error::refused(kind, &path, errno)));
            }
        }
        Ok(())
    }

    fn begun(&mut self, tx_id: u32, sink: oneshot::Sender<Result<Span, Error>>) {
        // Without a handle there is nobody who waits, and the connection is about to be closed.
        if let Some(commands) = self.commands.upgrade() {
            let span = Span::new(Scope { tx_id, epoch: self.epoch }, commands);
            // If nobody waits any more, the guard comes back, is dropped here, and ends the
            // transaction.
            let _ = sink.send(Ok(span));
        }
    }

    fn list_further(&mut self, mut listing: Listing, part: wire::Part, asked: Asked, sink: Sink) {
        let what = Kind::Directory;
        let path = || asked.path.clone();
        match listing.add(part) {
            Next::Ask => self.ask_part(listing, asked, sink),
            Next::Done(names) => deliver(sink, Ok(Answer::Names(names))),
            Next::Changing => {
                let attempts = listing::MAX_ATTEMPTS;
                deliver(sink, Err(Error::Conflict { what, path: path(), attempts }));
            }
            Next::TooLong => deliver(sink, Err(Error::refused(what, &path(), "E2BIG".to_owned()))),
        }
    }

    fn ask_part(&mut self, listing: Listing, asked: Asked, sink: Sink) {
        let Asked { tx_id, path, since } = asked;
        let kind = Kind::DirectoryPart;
        match Payload::strings(&[path.as_str(), &listing.offset().to_string()]) {
            Ok(payload) => {
                self.send(kind, tx_id, path, &payload, Purpose::Part(listing, sink), since);
            }
            Err(len) => deliver(sink, Err(Error::too_large(kind, &path, len))),
        }
    }
}

/// Answers a command without a connection. With a `future` one in sight, watches are kept as
/// wishes.
pub(super) fn refuse(command: Command, watches: &mut Watches, why: &Lost, future: bool) {
    match command {
        Command::Ask(Request { kind, path, sink, .. }) => {
            deliver(sink, Err(Error::unsent(kind, &path, why.clone())));
        }
        Command::Begin(sink) => {
            let _ = sink.send(Err(Error::unsent(Kind::TransactionStart, "", why.clone())));
        }
        Command::Watch { path, reader, sink } if future => {
            // The ticket is not sent now: the next connection asks for every watch in the book.
            let _ = watches.add(path, reader, sink);
            watches.park();
        }
        Command::Watch { path, reader, sink } => {
            deliver(sink, Err(Error::unsent(Kind::Watch, &path, why.clone())));
            if !reader.outlives_watches() {
                reader.close();
            }
        }
        Command::Unwatch { path, reader, sink } => {
            let _ = watches.remove(&path, &reader);
            deliver(sink, Ok(Answer::Done));
        }
    }
}

fn deliver(sink: Sink, result: Result<Answer, Error>) {
    // Whoever asked may have stopped waiting: then nobody wants the answer.
    let _ = sink.send(result);
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use proptest::prelude::*;
    use tokio::sync::mpsc::unbounded_channel;

    use super::super::reply::Reply;
    use super::super::requests::Requests;
    use super::*;

    const ASKED: u32 = 8;

    /// A session with requests in flight, of several kinds, and their replies.
    fn session() -> (Session, Watches, Vec<Reply<()>>) {
        session_at(Pace::Many)
    }

    fn session_at(pace: Pace) -> (Session, Watches, Vec<Reply<()>>) {
        let (commands, mut queue) = unbounded_channel();
        let mut watches = Watches::default();
        let mut session = Session::new(pace, 1, commands.downgrade(), &mut watches, Instant::now());
        let scope = Some(Scope { tx_id: 5, epoch: 1 });
        let requests = [Requests::new(&commands, None), Requests::new(&commands, scope)];
        let mut replies = Vec::new();
        for requests in &requests {
            replies.extend([requests.mkdir("/a"), requests.rm("/a"), requests.write("/a", b"")]);
            drop(requests.directory("/a"));
        }
        while let Ok(command) = queue.try_recv() {
            session.submit(command, &mut watches, Instant::now());
        }
        (session, watches, replies)
    }

    fn is_ready(reply: &mut Reply<()>) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        matches!(Pin::new(reply).poll(&mut context), Poll::Ready(_))
    }

    #[test]
    fn messages_are_written_one_by_one() {
        let (mut session, ..) = session();
        let first = session.outgoing().unwrap().to_vec();
        assert_eq!(first.len(), wire::HEADER_LEN + 3, "`mkdir` and nothing of the next one");
        session.written(1);
        assert_eq!(session.outgoing().unwrap(), &first[1..]);
        session.written(first.len() - 1);
        assert_eq!(session.outgoing().unwrap()[0..4], (Kind::Rm as u32).to_ne_bytes());
    }

    #[test]
    fn one_at_a_time_waits_for_each_answer() {
        let (mut session, mut watches, _replies) = session_at(Pace::One);
        for n in 1..=ASKED {
            let message = session.outgoing().unwrap().to_vec();
            session.written(5);
            assert_eq!(session.outgoing().unwrap(), &message[5..], "the rest of it may go");
            session.written(message.len() - 5);
            assert_eq!(session.outgoing(), None, "request {n} is not answered");
            let mut answer = Vec::new();
            for field in [Kind::Error as u32, n, word(&message, 8), 7] {
                answer.extend_from_slice(&field.to_ne_bytes());
            }
            answer.extend_from_slice(b"ENOENT\0");
            session.receive(&answer, &mut watches).unwrap();
        }
        assert!(session.is_idle());
    }

    fn word(message: &[u8], at: usize) -> u32 {
        u32::from_ne_bytes(message[at..at + 4].try_into().unwrap())
    }

    #[test]
    fn a_request_of_an_earlier_connection_is_not_sent() {
        let (commands, mut queue) = unbounded_channel();
        let mut watches = Watches::default();
        let mut session =
            Session::new(Pace::Many, 2, commands.downgrade(), &mut watches, Instant::now());
        let scope = Some(Scope { tx_id: 5, epoch: 1 });
        let mut reply = Requests::new(&commands, scope).mkdir("/a");
        session.submit(queue.try_recv().unwrap(), &mut watches, Instant::now());
        assert!(is_ready(&mut reply));
        assert!(session.is_idle());
    }

    #[test]
    fn ids_are_not_given_twice() {
        let (mut session, ..) = session();
        session.last_id = u32::MAX;
        assert_eq!(session.free_id(), ASKED + 1, "0 and those in flight are left out");
    }

    proptest! {
        /// Whatever comes, nothing panics, and in the end everybody has an answer.
        #[test]
        fn everybody_hears(
            messages in prop::collection::vec(
                (
                    prop::sample::select(vec![1_u32, 11, 12, 13, 15, 16, 22, 99]),
                    0..ASKED + 2,
                    prop::sample::select(vec![0_u32, 5]),
                    prop::sample::select(vec![
                        "OK\0", "", "E2BIG\0", "EIO\0", "1\0a\0", "/a\x001\0", "?",
                    ]),
                ),
                0..40,
            ),
        ) {
            let (mut session, mut watches, mut replies) = session();
            for (kind, req_id, tx_id, payload) in messages {
                let mut bytes = Vec::new();
                for field in [kind, req_id, tx_id, u32::try_from(payload.len()).unwrap()] {
                    bytes.extend_from_slice(&field.to_ne_bytes());
                }
                bytes.extend_from_slice(payload.as_bytes());
                if session.receive(&bytes, &mut watches).is_err() {
                    break;
                }
            }
            session.fail(&Lost::Closed);
            prop_assert!(replies.iter_mut().all(is_ready));
        }
    }
}
