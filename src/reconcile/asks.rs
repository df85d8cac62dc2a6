//! What people have asked for, from the asking to the answer.
//!
//! ```text
//! fresh ──► aimed ──► noting ──► noted ──► answered
//!   │ who is   │ the device's │ on its │ until it stands as it will
//!   │ meant?   │ turn comes   │ way    │
//! ```
//!
//! Nobody is waited for here: an asker who has gone is forgotten, and what is noted stays noted.

use super::doors::{Asked, RequestId, Ticket};
use super::lookout::Turn;
use crate::model::{BusId, DeviceName};
use crate::plan::{Refusal, Request};
use std::collections::BTreeMap;

/// All that was asked and is not answered.
#[derive(Debug, Default)]
pub(super) struct Asks(BTreeMap<RequestId, Ask>);

/// One of them.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) asked: Asked,
    /// What the device was called by whoever asked.
    called: DeviceName,
    pub(super) stage: Stage,
    /// What would have refused it without force.
    pub(super) waived: Option<Refusal>,
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nobody has looked at it. If the device was not found, the look that must have been made since.
    Fresh(Option<Turn>),
    /// It waits for its device's turn.
    Aimed(BusId),
    /// The order is being noted.
    Noting(BusId, Ticket),
    /// The order is noted, and it is waited for what becomes of it.
    Noted(BusId),
}

impl Asks {
    pub(super) fn add(&mut self, id: RequestId, asked: Asked) {
        let called = asked.request.device.clone();
        self.0.insert(id, Ask { asked, called, stage: Stage::Fresh(None), waived: None });
    }

    /// Nobody waits for the answer any more. What is on its way is still told of in the journal.
    pub(super) fn forget(&mut self, id: RequestId) {
        if self.0.get(&id).is_some_and(|ask| !matches!(ask.stage, Stage::Noting(..))) {
            self.0.remove(&id);
        }
    }

    pub(super) fn take(&mut self, id: RequestId) -> Option<Ask> {
        self.0.remove(&id)
    }

    pub(super) fn get(&self, id: RequestId) -> Option<&Ask> {
        self.0.get(&id)
    }

    pub(super) fn set(&mut self, id: RequestId, stage: Stage) {
        if let Some(ask) = self.0.get_mut(&id) {
            ask.stage = stage;
        }
    }

    pub(super) fn waive(&mut self, id: RequestId, waived: Option<Refusal>) {
        if let Some(ask) = self.0.get_mut(&id) {
            ask.waived = waived;
        }
    }

    /// From now on it is about this device, whatever else is called the same later.
    pub(super) fn aim(&mut self, id: RequestId, busid: BusId) {
        if let Some(ask) = self.0.get_mut(&id) {
            ask.asked.request.device = DeviceName::At(busid.clone());
            ask.stage = Stage::Aimed(busid);
        }
    }

    /// Those at stages that `which` accepts, in the order of the asking.
    pub(super) fn ids(&self, which: impl Fn(&Stage) -> bool) -> Vec<RequestId> {
        self.0.iter().filter(|(_, ask)| which(&ask.stage)).map(|(id, _)| *id).collect()
    }

    /// The first that waits for this device's turn, and what it called the device.
    pub(super) fn aimed_at(&self, busid: &BusId) -> Option<(RequestId, &Request, &DeviceName)> {
        self.0
            .iter()
            .find(|(_, ask)| matches!(&ask.stage, Stage::Aimed(at) if at == busid))
            .map(|(id, ask)| (*id, &ask.asked.request, &ask.called))
    }
}
