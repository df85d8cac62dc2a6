//! The answer to a request, as a future.
//!
//! Nothing but the waiting: the request was queued before its reply existed.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::error::{Error, Lost};
use super::wire::{Answer, Fault, Kind};

/// Where the connection puts the answer to one request.
pub(super) type Sink = oneshot::Sender<Result<Answer, Error>>;

/// The answer to a request that is already on its way.
///
/// The request is carried out whether this is awaited or not. Dropping it means not to look at the
/// answer.
#[must_use = "the request is on its way, but its failure goes unseen"]
#[derive(Debug)]
pub struct Reply<T>(State<T>);

#[derive(Debug)]
enum State<T> {
    /// It was not sent.
    Failed(Error),
    Waiting {
        receiver: oneshot::Receiver<Result<Answer, Error>>,
        /// The caller's type of the answer.
        take: fn(Answer) -> Option<T>,
        what: Kind,
        path: String,
    },
    Taken,
}

impl<T> Reply<T> {
    /// A reply that is there at once: the request was not sent.
    pub(super) fn failed(error: Error) -> Self {
        Self(State::Failed(error))
    }

    /// The reply itself, unless its request was not sent.
    ///
    /// # Errors
    /// Why it was not.
    pub(super) fn or_failed(self) -> Result<Self, Error> {
        match self.0 {
            State::Failed(error) => Err(error),
            state @ (State::Waiting { .. } | State::Taken) => Ok(Self(state)),
        }
    }

    /// A reply that will come, and the sink for it.
    pub(super) fn pending(what: Kind, path: &str, take: fn(Answer) -> Option<T>) -> (Sink, Self) {
        let (sink, receiver) = oneshot::channel();
        (sink, Self(State::Waiting { receiver, take, what, path: path.to_owned() }))
    }
}

impl<T> Future for Reply<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let received = match &mut self.0 {
            State::Waiting { receiver, .. } => match Pin::new(receiver).poll(context) {
                Poll::Ready(received) => Some(received),
                Poll::Pending => return Poll::Pending,
            },
            State::Failed(_) | State::Taken => None,
        };
        match (std::mem::replace(&mut self.0, State::Taken), received) {
            (State::Failed(error), _) => Poll::Ready(Err(error)),
            (State::Waiting { take, what, path, .. }, Some(received)) => {
                Poll::Ready(outcome(received, take, what, &path))
            }
            // Polled after its end, which no caller may do: there is nothing more to come.
            (State::Taken | State::Waiting { .. }, _) => Poll::Pending,
        }
    }
}

fn outcome<T>(
    received: Result<Result<Answer, Error>, oneshot::error::RecvError>,
    take: fn(Answer) -> Option<T>,
    what: Kind,
    path: &str,
) -> Result<T, Error> {
    match received {
        Ok(Ok(answer)) => {
            let problem = "answers another question";
            take(answer).ok_or(Error::Protocol { fault: Fault::Payload { kind: what, problem } })
        }
        Ok(Err(error)) => Err(error),
        // The task that owned the connection is gone.
        Err(_) => Err(Error::in_flight(what, path, Lost::Ended)),
    }
}
