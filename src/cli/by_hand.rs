//! Has a running agent take down what a verb does without it, so that its audit log tells of that too, with
//! who did it. What is done never depends on it.

use super::socket::SocketArg;
use super::{fail, fail_with};
use crate::control::client::{self, ClientError};
use crate::control::protocol::{Ask, Fault};
use crate::model::{ByHand, Stage, chain};
use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

/// How long the agent has for each line. It only has to take it down.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who has it taken down.
pub(super) struct Clerk {
    socket: PathBuf,
    state: State,
}

/// How far that is possible.
enum State {
    Heard,
    /// No agent runs: then nobody keeps a log, of this or of what `xl` does.
    Alone,
    Unheard(Unheard),
}

/// Why the agent has not taken it down.
#[derive(Debug, thiserror::Error)]
enum Unheard {
    #[error("the agent has not taken this down")]
    Unanswered(#[source] ClientError),
    #[error("the agent has not taken this down: {}", .0.message)]
    Refused(Fault),
}

impl Unheard {
    fn advice(&self) -> Option<&str> {
        match self {
            Self::Unanswered(error) => Some(error.advice()),
            Self::Refused(fault) => fault.advice.as_deref(),
        }
    }
}

impl Clerk {
    /// One for the agent with this socket.
    pub(super) fn of(socket: &SocketArg) -> Self {
        Self { socket: socket.path(), state: State::Heard }
    }

    /// Does `work`, called `act`, and has taken down that it begins and how it ends. An end without a
    /// beginning tells nothing, so after a line that was lost there are no others.
    pub(super) async fn attend<T, E: Error + 'static>(
        &mut self,
        act: &str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.tell(act, Stage::Begun).await;
        let result = work.await;
        let stage = match &result {
            Ok(_) => Stage::Done,
            Err(error) => Stage::Failed(chain(error)),
        };
        self.tell(act, stage).await;
        result
    }

    /// Tells on `err` if a running agent has not taken everything down; gives the exit code, which is that of
    /// the work.
    pub(super) fn report(self, code: u8, err: &mut dyn Write) -> u8 {
        let State::Unheard(unheard) = self.state else { return code };
        match unheard.advice() {
            Some(advice) => fail_with(err, &unheard, advice, code),
            None => fail(err, &unheard, code),
        }
    }

    async fn tell(&mut self, act: &str, stage: Stage) {
        if !matches!(self.state, State::Heard) {
            return;
        }
        let (socket, question) =
            (self.socket.clone(), Ask::ByHand(ByHand { act: act.to_owned(), stage }));
        let asking = move || client::ask(&socket, question, Some(PATIENCE));
        // Off this thread, which the connection to xenstore needs.
        let answer = match tokio::task::spawn_blocking(asking).await {
            Ok(answer) => answer,
            Err(ended) => Err(ClientError::Io(ended.into())),
        };
        self.state = match answer {
            Ok(Ok(_)) => State::Heard,
            Ok(Err(fault)) => State::Unheard(Unheard::Refused(fault)),
            Err(ClientError::NoAgent(_)) => State::Alone,
            Err(error) => State::Unheard(Unheard::Unanswered(error)),
        };
    }
}
