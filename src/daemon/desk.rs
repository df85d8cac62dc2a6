//! The questions of people at the control socket that wait for their answers.

use crate::control::protocol::{Fault, OrderAsk, OrderOutcome, Outcome};
use crate::control::server::Responder;
use crate::plan::Objection;
use crate::reconcile::{Answer, RequestId};
use std::collections::BTreeMap;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Desk(BTreeMap<RequestId, Open>);

#[derive(Debug)]
struct Open {
    responder: Responder,
}

impl Desk {
    /// An order was asked for.
    pub(super) fn open(&mut self, id: RequestId, _ask: &OrderAsk, responder: Responder) {
        self.0.insert(id, Open { responder });
    }

    /// Whoever asked is gone.
    pub(super) fn forget(&mut self, id: RequestId) {
        self.0.remove(&id);
    }

    /// The machine has answered.
    pub(super) fn answered(&mut self, id: RequestId, answer: Result<Answer, Objection>) {
        let Some(Open { responder }) = self.0.remove(&id) else { return };
        let outcome = answer.map_err(|objection| Fault::from(&objection));
        match outcome.and_then(|answer| OrderOutcome::of(&answer)) {
            Ok(outcome) => responder.ok(Outcome::Order(outcome)),
            Err(fault) => responder.fail(fault),
        }
    }
}
