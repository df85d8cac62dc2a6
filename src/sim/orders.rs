//! What people ask of the agent, and what becomes of it.
//!
//! What is noted in the store is what counts, for the agent and for the oracle. Here it is held that
//! nothing else is noted than what somebody has asked for, that what is promised is noted, and that
//! nothing is dropped before its time.

use super::world::{Asking, Happening, World};
use crate::model::{
    Asker, BusId, Device, DeviceName, Note, NoteState, Order, Override, PortContent,
};
use crate::plan::{Objection, Request, Wanted};
use crate::reconcile::{Answer, Asked, Input, RequestId};

impl World {
    /// Somebody asks. If no agent is there, nobody hears it.
    pub(super) fn ask(&mut self, request: &Request, wait: bool, remember: bool) {
        if self.agent.is_none() {
            return;
        }
        self.tell(|| format!("pvusb-agent {} {}", request.wanted, request.device));
        self.may_forget(request);
        self.numbers += 1;
        let id = RequestId(self.numbers);
        let asking = Asking { request: request.clone(), waits: wait, remember };
        self.asks.insert(id, asking);
        if wait && self.dice.one_in(4) {
            let patience = self.takes(1_000_000, 60_000_000);
            self.soon(patience, Happening::Unasks(id));
        }
        let who = Asker { uid: 0, pid: 1, user: None };
        self.input(Input::Ask(id, Asked { who, request: request.clone(), wait }));
    }

    /// Whoever has asked does not wait any longer. What is being noted is noted all the same.
    pub(super) fn unask(&mut self, id: RequestId) {
        if let Some(asking) = self.asks.get_mut(&id).filter(|asking| asking.waits) {
            asking.waits = false;
            self.input(Input::Unasked(id));
        }
    }

    /// The agent has answered, and nobody waits any more.
    pub(super) fn answered(&mut self, id: RequestId, result: &Result<Answer, Objection>) {
        if self.asks.remove(&id).is_none() {
            self.violate(0, "an answer that nobody has asked for".to_owned());
        }
        self.counts.answered += 1;
        self.counts.refused += u64::from(result.is_err());
        self.tell(|| match result {
            Ok(answer) => format!("the answer: {} is noted", answer.busid),
            Err(objection) => format!("the answer: {objection}"),
        });
    }

    /// The agent says that something is noted.
    pub(super) fn check_promise(&mut self, busid: &BusId, order: Option<&Order>) {
        let noted = self.store.overrides.get(busid).map(|said| &said.order);
        if noted != order {
            let what = format!("{busid}: the agent has promised {order:?}, and {noted:?} is noted");
            self.violate(10, what);
        }
    }

    /// `host/perform/order.rs: expect_taken_out`.
    pub(super) fn may_note(
        &self,
        busid: &BusId,
        taken_out: Option<&Note>,
    ) -> Result<(), &'static str> {
        let Some(note) = taken_out else { return Ok(()) };
        let NoteState::Attached { place, .. } = note.state else { return Ok(()) };
        if self.store.notes.get(busid) != Some(note) {
            return Err("the note is not as it was");
        }
        let is_there = self
            .store
            .view_of_port(place)
            .is_some_and(|content| content == PortContent::Taken(busid.clone()));
        if is_there { Err("the port is not as it was") } else { Ok(()) }
    }

    /// Notes an order, or takes it back.
    pub(super) fn note_order(
        &mut self,
        busid: &BusId,
        said: Option<&Override>,
        taken_out: Option<&Note>,
    ) {
        self.check_order(busid, said);
        if let Some(note) = taken_out {
            let returning = Note { state: NoteState::Returning, ..note.clone() };
            self.store.notes.insert(busid.clone(), returning);
            // Any order ends that.
            self.taken_out.remove(busid);
        }
        match said {
            Some(said) => self.store.overrides.insert(busid.clone(), said.clone()),
            None => self.store.overrides.remove(busid),
        };
        self.rumour_of_notes();
    }

    fn check_order(&mut self, busid: &BusId, said: Option<&Override>) {
        let is_asked = |wanted: &dyn Fn(&Request) -> bool| {
            self.asks.values().any(|Asking { request, .. }| {
                let is_meant = match &request.device {
                    DeviceName::At(at) => at == busid,
                    DeviceName::Id(id) => said.is_none_or(|said| said.plug.id == *id),
                    DeviceName::Address(address) => {
                        said.is_none_or(|said| said.plug.address == *address)
                    }
                };
                is_meant && wanted(request)
            })
        };
        let is_right = match said {
            Some(said) => is_asked(&|request| {
                let is_same = match (&request.wanted, &said.order) {
                    (Wanted::Attach(name), Order::Attach(guest)) => **name == *guest.as_str(),
                    (Wanted::Detach, Order::Stay) | (Wanted::Hold, Order::Hold) => true,
                    _ => false,
                };
                is_same && (request.force || !said.force)
            }),
            None => is_asked(&|request| request.wanted == Wanted::Release) || self.is_spent(busid),
        };
        if !is_right {
            let order = said.map(|said| &said.order);
            self.violate(0, format!("{busid}: {order:?} is noted, and nobody has asked for it"));
        }
    }

    /// Whether what is said about this place can never again speak of anything.
    pub(super) fn is_spent(&self, busid: &BusId) -> bool {
        self.store.overrides.get(busid).is_some_and(|said| match said.order {
            Order::Attach(_) | Order::Stay => self
                .usb
                .sockets
                .get(busid)
                .is_none_or(|socket| !said.plug.may_become(&socket.device.plug())),
            Order::Hold => false,
        })
    }

    /// What a person has said about the device as it is plugged now.
    pub(super) fn said_of(&self, device: &Device) -> Option<&Override> {
        let said = self.store.overrides.get(&device.busid)?;
        let is_of_this = match said.order {
            Order::Attach(_) | Order::Stay => said.plug.may_become(&device.plug()),
            Order::Hold => said.plug.id == device.id,
        };
        is_of_this.then_some(said)
    }
}
