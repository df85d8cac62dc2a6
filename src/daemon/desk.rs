//! The orders of people at the control socket that wait for their answers: from the machine, and from
//! the file of remembered rules.

use crate::control::protocol::{Fault, OrderOutcome, Outcome};
use crate::control::server::Responder;
use crate::plan::Objection;
use crate::reconcile::{Answer, RequestId};
use std::collections::BTreeMap;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Desk(BTreeMap<RequestId, Open>);

#[derive(Debug)]
struct Open {
    /// None when whoever asked is gone.
    responder: Option<Responder>,
    answer: Option<Result<Answer, Objection>>,
    remembered: Remembered,
}

/// How far it is with the file of remembered rules.
#[derive(Debug)]
pub(super) enum Remembered {
    /// Nothing is to be written.
    Nothing,
    /// A rule is to be written as soon as the order is noted.
    Wanted,
    /// A rule is being written.
    UnderWay,
    /// What was done there.
    Done(Result<String, Fault>),
}

impl Desk {
    /// An order was asked for.
    pub(super) fn open(&mut self, id: RequestId, responder: Responder, remembered: Remembered) {
        self.0.insert(id, Open { responder: Some(responder), answer: None, remembered });
    }

    /// Whoever asked is gone. What is noted is remembered all the same.
    pub(super) fn forget(&mut self, id: RequestId) {
        if let Some(open) = self.0.get_mut(&id) {
            open.responder = None;
        }
        self.close(id);
    }

    /// The order is noted. Tells whether a rule is to be written now.
    pub(super) fn noted(&mut self, id: RequestId) -> bool {
        let Some(open) = self.0.get_mut(&id) else { return false };
        let wanted = matches!(open.remembered, Remembered::Wanted);
        if wanted {
            open.remembered = Remembered::UnderWay;
        }
        wanted
    }

    /// The rule was written, or not.
    pub(super) fn remembered(&mut self, id: RequestId, result: Result<String, Fault>) {
        if let Some(open) = self.0.get_mut(&id) {
            open.remembered = Remembered::Done(result);
        }
        self.close(id);
    }

    /// The machine has answered.
    pub(super) fn answered(&mut self, id: RequestId, answer: Result<Answer, Objection>) {
        if let Some(open) = self.0.get_mut(&id) {
            open.answer = Some(answer);
        }
        self.close(id);
    }

    /// Replies if everything is there that belongs into the reply.
    fn close(&mut self, id: RequestId) {
        let Some(open) = self.0.get(&id) else { return };
        let is_gone = open.responder.is_none() && !matches!(open.remembered, Remembered::UnderWay);
        let is_writing = matches!(open.remembered, Remembered::UnderWay);
        if !is_gone && (open.answer.is_none() || is_writing) {
            return;
        }
        let Some(Open { responder, answer, remembered }) = self.0.remove(&id) else { return };
        let (Some(responder), Some(answer)) = (responder, answer) else { return };
        match reply(answer, remembered) {
            Ok(outcome) => responder.ok(Outcome::Order(outcome)),
            Err(fault) => responder.fail(fault),
        }
    }
}

fn reply(answer: Result<Answer, Objection>, remembered: Remembered) -> Result<OrderOutcome, Fault> {
    let answer = answer.map_err(|objection| Fault::from(&objection))?;
    let mut outcome = OrderOutcome::of(&answer)?;
    if let Remembered::Done(result) = remembered {
        outcome.remembered = Some(result?);
    }
    Ok(outcome)
}
