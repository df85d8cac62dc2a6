//! The rules of `docs/architecture.md`, as far as they can be seen from outside while things go on.
//!
//! Whoever changes something on the agent's behalf asks here first; what takes time is looked at
//! between two happenings. The end state is judged in `oracle`.

use super::steps::Asked;
use super::store::Hand;
use super::usb::{Micros, USBBACK};
use super::world::World;
use crate::model::{
    BusId, ControllerId, ControllerKind, DomId, InterfaceName, Life, NoteState, Place,
};
use crate::plan::{AfterClear, Claim, Step};
use crate::policy::StalePorts;
use std::collections::BTreeMap;

/// How long a port may name what is not plugged while nothing keeps the agent from clearing it: the
/// event, a look, a step, and what chance makes of each.
const STALE_FOR: Micros = 4_000_000;

/// What has changed since the agent's last look at a device, it cannot know.
const JUST_NOW: Micros = 1_000_000;

/// How often what takes time is looked at.
const PERIOD: Micros = 250_000;

impl World {
    /// What can be seen at any moment.
    pub(super) fn check_rules(&mut self) {
        if self.now < self.next_check {
            return;
        }
        self.next_check = self.now + PERIOD;
        let hindered = self.faults.values().any(|left| *left > 0)
            || !self.misfortunes.is_empty()
            || self.agent.as_ref().is_none_or(|agent| !agent.connected);
        if hindered {
            self.stale.clear();
            return;
        }
        let is_seen = |place: &Place| {
            self.store.domains.get(&place.domid).is_some_and(|domain| domain.has_nodes)
        };
        let stale: Vec<_> = self
            .store
            .tenants()
            .filter(|(place, tenant)| {
                !self.usb.sockets.contains_key(&tenant.busid)
                    && is_seen(place)
                    // A reading that the kernel holds up says nothing yet.
                    && self.agent.as_ref().is_none_or(|agent| !agent.reads(&tenant.busid))
                    && self.is_to_clear(&tenant.busid, *place)
            })
            .map(|(place, tenant)| (place, tenant.busid.clone()))
            .collect();
        let mut since = BTreeMap::new();
        for (place, busid) in stale {
            let first = self.stale.get(&place).copied().unwrap_or(self.now);
            since.insert(place, first);
            if self.now > first + STALE_FOR {
                self.violate(4, format!("{place} still names {busid}, which is not plugged"));
            }
        }
        self.stale = since;
    }

    /// Whether a stale port is the agent's to clear: its own always is.
    pub(super) fn is_to_clear(&self, busid: &BusId, place: Place) -> bool {
        self.has_note_at(busid, place) || self.policy.stale_ports() == StalePorts::Clear
    }

    /// Whether there is a note that the agent has put something there, of whatever plug.
    fn has_note_at(&self, busid: &BusId, place: Place) -> bool {
        self.store.notes.get(busid).is_some_and(
            |note| matches!(note.state, NoteState::Attached { place: there, .. } if there == place),
        )
    }

    /// A step is on its way.
    pub(super) fn check_step(&mut self, step: &Step) {
        if let Step::ClearPort { place, busid, .. } = step
            && !self.is_to_clear(busid, *place)
        {
            self.violate(
                3,
                format!("{place} is not the agent's, and the policy leaves such ports"),
            );
        }
        self.check_drop(step);
        if let Some(claim) = step.claim() {
            self.check_way(claim);
            self.check_turn(claim);
        }
        self.check_wish(step);
        let Some(busid) = step.device().filter(|_| step.takes_from_dom0()).cloned() else { return };
        // One that took the place of the device that is meant: the executor will find that out.
        let meant = step.plug();
        let is_hub = self.usb.sockets.get(&busid).is_some_and(|socket| {
            let is_meant = meant.is_none_or(|plug| plug.may_become(&socket.device.plug()));
            socket.spec.hub() && is_meant
        });
        if is_hub {
            self.violate(2, format!("{busid} is a hub, and the step is to {}", step.name()));
        }
        self.check_leaving(step);
    }

    /// A port is about to be written for the agent.
    pub(super) fn check_claim(&mut self, claim: &Claim) {
        let Claim { busid, place, .. } = claim;
        let elsewhere = self.store.places_of(busid).next();
        if let Some(elsewhere) = elsewhere {
            self.violate(1, format!("{busid} goes to {place} and is at {elsewhere}"));
        }
        if self.usb.sockets.get(busid).is_some_and(|socket| socket.spec.hub()) {
            self.violate(2, format!("{busid} is a hub and goes to {place}"));
        }
        self.check_unused(busid);
        let plug_no = self.usb.plug_no(busid);
        let socket = self.usb.sockets.get(busid);
        if socket.is_some_and(|socket| socket.device.unauthorized().next().is_some()) {
            self.violate(0, format!("{busid} goes to {place}, where nobody may claim it"));
        }
        // Rule 5: who had it by the agent's hand must have let go.
        let holder = self.qemus.iter().find_map(|(domid, qemu)| {
            let holds = qemu.held.values().any(|held| {
                held.busid == *busid && Some(held.plug_no) == plug_no && held.by == Hand::Agent
            });
            (holds && qemu.is_alive).then_some(*domid)
        });
        // Before it claims the interfaces, nothing on the host tells that a device model has them.
        let is_claimed = self.usb.sockets.get(busid).is_some_and(|socket| {
            socket.is_on(super::usb::USBFS) && self.now > socket.rebound_at + JUST_NOW
        });
        if let Some(domid) = holder.filter(|_| is_claimed) {
            let what = format!("{busid} goes to {place}, and domain {domid} has not let go of it");
            self.violate(5, what);
        }
        if self.is_on_usbback(busid) && self.usb.port_ids.contains_key(busid) {
            self.violate(5, format!("{busid} goes to {place} with an interface on usbback"));
        }
        if self.store.domains.get(&place.domid).is_none_or(|d| d.life() != Life::Running) {
            self.counts.excuse("the domain died between look and claim");
        }
    }

    /// A port is about to be emptied by the agent.
    pub(super) fn check_clear(&mut self, place: Place, busid: &BusId, after: &AfterClear) {
        let Some(tenant) = self.store.port(place).and_then(|port| port.tenant.as_ref()) else {
            return;
        };
        let plug_no = self.usb.plug_no(busid);
        let is_here = plug_no.is_some() && plug_no == tenant.plug_no;
        // In the very port where the agent had put it, what xl writes is the agent's again: nothing
        // in the store tells the two apart.
        let is_xls = tenant.by == Hand::Xl && is_here && !self.is_noted(busid, place);
        // Where by the note the agent has put the plug before, xl has put this one while no agent was there
        // to see the port empty.
        let first_look = self.agent.as_ref().and_then(|agent| agent.first_look);
        let is_unseen = self.has_note_at(busid, place)
            && first_look.is_none_or(|first| tenant.tenancy <= first);
        if is_xls && is_unseen {
            self.counts.excuse("replugged into the agent's port unseen");
        } else if is_xls {
            self.violate(
                3,
                format!("{busid} was put into {place} with xl, and the agent clears it"),
            );
        }
        let is_pv = self.store.ctl(place).is_some_and(|ctl| ctl.kind == ControllerKind::Pv);
        let listed = self.usb.port_ids.get(busid) == Some(&place);
        // What usbback has taken by itself since the agent's last look, the agent cannot know.
        let is_known = self
            .usb
            .sockets
            .get(busid)
            .is_some_and(|socket| self.now > socket.rebound_at + JUST_NOW);
        if is_pv && listed && is_known && self.is_on_usbback(busid) {
            let what = format!("{place} is cleared ({after:?}) under interfaces that usbback has");
            self.violate(0, what);
        }
    }

    /// A controller is about to be removed by the agent.
    pub(super) fn check_remove(&mut self, domid: DomId, id: ControllerId) {
        let maker = self.store.ctl_mut(domid, id).map(|ctl| ctl.maker);
        if maker == Some(Hand::Xl) {
            let what = format!(
                "controller {id} of domain {domid} was made with xl, and the agent removes it"
            );
            self.violate(3, what);
        }
    }

    /// The agent is about to move an interface. When it asked the kernel to, so many ports had ever been
    /// filled.
    pub(super) fn check_interface(&mut self, name: &InterfaceName, asked: &Asked, tenancies: u64) {
        let busid = name.busid();
        let Some(socket) = self.usb.sockets.get(busid) else { return };
        let is_taken = match asked {
            Asked::Driver(driver) => driver.as_deref() == Some(USBBACK),
            Asked::Authorized(allowed) => !allowed,
        };
        if socket.spec.hub() && is_taken {
            return self.violate(2, format!("interface {name} of a hub is taken from dom0"));
        }
        let plug_no = Some(socket.plug_no);
        let others = self.store.tenants().find(|(place, tenant)| {
            tenant.busid == *busid
                && tenant.by == Hand::Xl
                && tenant.tenancy <= tenancies
                && tenant.plug_no == plug_no
                && self.usb.port_ids.get(busid) == Some(place)
                && !self.is_noted(busid, *place)
        });
        let was_on_usbback = socket
            .device
            .interfaces
            .get(name)
            .is_some_and(|interface| interface.driver.as_deref() == Some(USBBACK));
        if let (true, Some((place, _))) = (was_on_usbback, others) {
            let what = format!("interface {name} is taken from {place}, which is xl's");
            self.violate(3, what);
        }
    }

    /// The agent has ended and says that it has given everything back.
    pub(super) fn check_left(&mut self) {
        let left = self.store.tenants().find(|(place, tenant)| {
            tenant.by == Hand::Agent
                && self.usb.plug_no(&tenant.busid) == tenant.plug_no
                && tenant.plug_no.is_some()
                && self.runs(place.domid)
                // What xl has attached as well is as good as xl's.
                && self.store.places_of(&tenant.busid).count() == 1
        });
        if let Some((place, tenant)) = left {
            let what = format!("it has ended and {} is still at {place}", tenant.busid);
            self.violate(0, what);
        }
    }

    pub(super) fn has_touched(&self, busid: &BusId) -> bool {
        self.touched.get(busid).is_some_and(|plug_no| self.usb.plug_no(busid) == Some(*plug_no))
    }
}
