//! Which paths are watched, and for whom.
//!
//! The book outlives connections: a watch is a wish that is kept until it is taken back. This file
//! says what must be sent; sending it is the session's work. Several readers may watch the same
//! path: the daemon sees one watch.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::{Error, Lost};
use super::notice::Mailbox;
use super::reply::Sink;
use super::wire::{Answer, Event, Kind, Payload};

/// All watches of a client.
#[derive(Debug, Default)]
pub(super) struct Watches {
    last_token: u64,
    by_token: BTreeMap<u64, Watch>,
    by_path: BTreeMap<String, u64>,
}

#[derive(Debug)]
struct Watch {
    path: String,
    payload: Payload,
    readers: Vec<Arc<Mailbox>>,
    /// Who waits for the daemon's word.
    sinks: Vec<Sink>,
    /// How far it is on the current connection.
    state: State,
    /// Whether it was promised: its loss would be a loss of news.
    promised: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unasked,
    Asked,
    Set,
}

/// A WATCH or UNWATCH to be sent.
#[derive(Debug)]
pub(super) struct Ticket {
    /// A number that no other watch of this client has or had. An event that is still on its way
    /// when its watch is taken back can therefore not be mistaken for one of a later watch.
    pub(super) token: u64,
    pub(super) path: String,
    /// Path and token.
    pub(super) payload: Payload,
}

impl Watches {
    /// Adds a reader to a path. The answer goes to `sink` when it is known.
    ///
    /// Returns the WATCH that must be sent, if one must.
    pub(super) fn add(&mut self, path: String, reader: Arc<Mailbox>, sink: Sink) -> Option<Ticket> {
        if let Some(watch) = self.by_path.get(&path).and_then(|token| self.by_token.get_mut(token))
        {
            watch.join(reader, sink);
            return None;
        }
        self.last_token += 1;
        let token = self.last_token;
        let payload = match Payload::strings(&[path.as_str(), &token.to_string()]) {
            Ok(payload) => payload,
            Err(len) => {
                answer(sink, Err(Error::too_large(Kind::Watch, &path, len)));
                return None;
            }
        };
        let watch = Watch {
            path: path.clone(),
            payload,
            readers: vec![reader],
            sinks: vec![sink],
            state: State::Asked,
            promised: false,
        };
        let ticket = watch.ticket(token);
        self.by_token.insert(token, watch);
        self.by_path.insert(path, token);
        Some(ticket)
    }

    /// Takes a reader from a path. Returns the UNWATCH that must be sent: when it was the last
    /// reader and the daemon was asked on this connection.
    pub(super) fn remove(&mut self, path: &str, reader: &Arc<Mailbox>) -> Option<Ticket> {
        let token = *self.by_path.get(path)?;
        let watch = self.by_token.get_mut(&token)?;
        watch.readers.retain(|other| !Arc::ptr_eq(other, reader));
        if !watch.readers.is_empty() {
            return None;
        }
        let mut watch = self.forget(token)?;
        watch.answer_all(&Ok(Answer::Done));
        (watch.state != State::Unasked).then(|| watch.ticket(token))
    }

    /// Every WATCH that a new connection needs.
    pub(super) fn ask_all(&mut self) -> Vec<Ticket> {
        let watches = self.by_token.iter_mut();
        watches
            .map(|(token, watch)| {
                watch.state = State::Asked;
                watch.ticket(*token)
            })
            .collect()
    }

    /// The daemon has set a watch.
    pub(super) fn set(&mut self, token: u64) {
        if let Some(watch) = self.by_token.get_mut(&token) {
            watch.state = State::Set;
            watch.promised = true;
            watch.answer_all(&Ok(Answer::Done));
        }
    }

    /// The daemon has refused to set a watch.
    ///
    /// # Errors
    /// When it had been promised. The connection must not be used then: its readers would miss news
    /// and not know it.
    pub(super) fn refused(&mut self, token: u64, errno: String) -> Result<(), Lost> {
        match self.by_token.get(&token) {
            Some(watch) if watch.promised => Err(Lost::Watch { path: watch.path.clone(), errno }),
            _ => {
                if let Some(mut watch) = self.forget(token) {
                    let error = Error::refused(Kind::Watch, &watch.path, errno);
                    watch.answer_all(&Err(error));
                    watch.close();
                }
                Ok(())
            }
        }
    }

    /// Tells the readers of a watch. An event of a watch that is no more is nothing.
    pub(super) fn event(&self, event: &Event) {
        let token = event.token.parse::<u64>().ok();
        if let Some(watch) = token.and_then(|token| self.by_token.get(&token)) {
            for reader in &watch.readers {
                reader.changed(&watch.path, &event.path);
            }
        }
    }

    /// The connection is gone and another one will come. The wishes stay, and whoever waits for one
    /// hears so.
    pub(super) fn park(&mut self) {
        for watch in self.by_token.values_mut() {
            watch.state = State::Unasked;
            watch.promised = true;
            watch.answer_all(&Ok(Answer::Done));
        }
    }

    /// The connection is gone for good.
    pub(super) fn end(&mut self, why: &Lost) {
        for mut watch in std::mem::take(&mut self.by_token).into_values() {
            let error = Error::in_flight(Kind::Watch, &watch.path, why.clone());
            watch.answer_all(&Err(error));
            watch.close();
        }
        self.by_path.clear();
    }

    fn forget(&mut self, token: u64) -> Option<Watch> {
        let watch = self.by_token.remove(&token)?;
        self.by_path.remove(&watch.path);
        Some(watch)
    }
}

impl Watch {
    fn ticket(&self, token: u64) -> Ticket {
        Ticket { token, path: self.path.clone(), payload: self.payload.clone() }
    }

    fn join(&mut self, reader: Arc<Mailbox>, sink: Sink) {
        if !self.readers.iter().any(|other| Arc::ptr_eq(other, &reader)) {
            // The daemon's first event of this watch has gone to the earlier readers only.
            reader.changed(&self.path, &self.path);
            self.readers.push(reader);
        }
        self.sinks.push(sink);
        if self.state == State::Set {
            self.answer_all(&Ok(Answer::Done));
        }
    }

    fn answer_all(&mut self, result: &Result<Answer, Error>) {
        for sink in self.sinks.drain(..) {
            answer(sink, result.clone());
        }
    }

    fn close(&self) {
        for reader in &self.readers {
            if !reader.outlives_watches() {
                reader.close();
            }
        }
    }
}

fn answer(sink: Sink, result: Result<Answer, Error>) {
    // Whoever asked may have stopped waiting.
    let _ = sink.send(result);
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use tokio::sync::oneshot;

    use super::*;

    fn sink() -> (Sink, oneshot::Receiver<Result<Answer, Error>>) {
        oneshot::channel()
    }

    fn has_news(reader: &Mailbox) -> bool {
        reader.poll_take(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn readers_share_a_watch_and_the_last_one_ends_it() {
        let mut watches = Watches::default();
        let readers = [Mailbox::for_changes(), Mailbox::for_changes()];
        let (first, mut first_answer) = sink();
        let (second, mut second_answer) = sink();
        let ticket = watches.add("/a".into(), Arc::clone(&readers[0]), first).unwrap();
        assert!(watches.add("/a".into(), Arc::clone(&readers[1]), second).is_none());
        assert!(first_answer.try_recv().is_err(), "nobody has an answer before the daemon");
        watches.set(ticket.token);
        assert!(first_answer.try_recv().unwrap().is_ok());
        assert!(second_answer.try_recv().unwrap().is_ok());

        watches.event(&Event { path: "/a/1".into(), token: ticket.token.to_string() });
        assert!(readers.iter().all(|reader| has_news(reader)));

        assert!(watches.remove("/a", &readers[0]).is_none());
        assert_eq!(watches.remove("/a", &readers[1]).unwrap().token, ticket.token);
        assert!(watches.remove("/a", &readers[1]).is_none());
    }

    #[test]
    fn a_late_event_is_not_the_next_watchs() {
        let mut watches = Watches::default();
        let reader = Mailbox::for_changes();
        let old = watches.add("/a".into(), Arc::clone(&reader), sink().0).unwrap();
        assert!(watches.remove("/a", &reader).is_some());
        let new = watches.add("/a".into(), Arc::clone(&reader), sink().0).unwrap();
        assert_ne!(old.token, new.token);
        watches.set(old.token);
        watches.event(&Event { path: "/a".into(), token: old.token.to_string() });
        assert!(!has_news(&reader));
    }

    #[test]
    fn a_parked_wish_needs_no_unwatch_and_is_asked_again() {
        let mut watches = Watches::default();
        let reader = Mailbox::for_changes();
        let (sink, mut answer) = sink();
        let ticket = watches.add("/a".into(), Arc::clone(&reader), sink).unwrap();
        watches.park();
        assert!(answer.try_recv().unwrap().is_ok());
        assert_eq!(watches.ask_all().len(), 1);
        assert!(matches!(watches.refused(ticket.token, "EACCES".into()), Err(Lost::Watch { .. })));
        watches.park();
        assert!(watches.remove("/a", &reader).is_none());
        assert!(watches.ask_all().is_empty());
    }

    #[test]
    fn the_end_closes_streams() {
        let mut watches = Watches::default();
        let reader = Mailbox::for_changes();
        let (sink, mut answer) = sink();
        watches.add("/a".into(), Arc::clone(&reader), sink).unwrap();
        watches.end(&Lost::Closed);
        assert!(matches!(answer.try_recv(), Ok(Err(Error::Disconnected { .. }))));
        let mut context = Context::from_waker(Waker::noop());
        assert!(matches!(reader.poll_take(&mut context), Poll::Ready(None)));
    }
}
