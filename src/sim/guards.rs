//! What dom0 needs, and what the policy keeps in it: asked of every step that would take a device.
//!
//! Storage in use is never taken, whatever anybody says. The rest is what a person may waive; some of
//! it the agent learns of from events, which take their time and are lost at times: that it knows by
//! then is asked only when nothing has changed for a while.

use super::steps::Asked;
use super::store::Hand;
use super::usb::{Micros, Socket};
use super::world::World;
use crate::model::{BusId, Device, InterfaceName, Order, Plug, Use};
use crate::plan::Step;
use crate::policy::Flapping;

/// What has not changed for so long the agent knows, whatever was slow or lost.
const LONG_KNOWN: Micros = 20_000_000;

/// The longest from a change of a driver until the agent has read the device, if nothing is lost.
const TOLD: Micros = 400_000;

/// The longest from a transaction's reads to its commit.
const COMMIT: Micros = 20_000;

impl World {
    /// dom0 begins to use a device, if its drivers have it.
    pub(super) fn begin_use(&mut self, busid: &BusId, what: &Use) {
        let now = self.now;
        let Some(socket) = self.usb.sockets.get_mut(busid) else { return };
        if !socket.begin_use(what.clone(), now) {
            return;
        }
        self.tell(|| format!("{busid}: {what}"));
        self.rumour_of_device(busid.clone());
    }

    /// dom0 lets go of a device.
    pub(super) fn end_use(&mut self, busid: &BusId, what: &Use) {
        let Some(socket) = self.usb.sockets.get_mut(busid) else { return };
        if socket.end_use(what) {
            self.tell(|| format!("{busid}: no longer so: {what}"));
            self.rumour_of_device(busid.clone());
        }
    }

    /// Something that dom0 is operated with is gone, and not by the agent's doing.
    pub(super) fn desk_changes(&mut self, busid: &BusId, before: &Device) {
        let was_one = [Use::Keyboard, Use::Pointer].iter().any(|what| before.uses.contains(what));
        let agents = self.store.tenants().any(|(_, t)| t.busid == *busid && t.by == Hand::Agent);
        if was_one && !agents {
            self.desk_changed = self.now;
        }
    }

    /// The agent has read a device.
    pub(super) fn device_read(&mut self, device: &Device) {
        let (now, plug) = (self.now, device.plug());
        let seen = self.seen_plugs.entry(device.busid.clone()).or_default();
        match seen.last_mut() {
            Some((last, _)) if last.may_become(&plug) => *last = plug,
            Some(_) | None => seen.push((plug, now)),
        }
    }

    /// Why a person at the machine, or the policy, needs the device in dom0.
    pub(super) fn why_needed(&self, busid: &BusId, socket: &Socket) -> Option<&'static str> {
        let device = &socket.device;
        if device.uses.iter().any(Use::is_storage) {
            return Some("dom0 has data on it");
        }
        if self.said_of(device).is_some_and(|said| said.force) {
            return None;
        }
        if device.uses.iter().any(|what| matches!(what, Use::Route { .. })) {
            return Some("it carries a route");
        }
        let keep = self.policy.keep_last();
        if keep.keyboard && self.is_last(busid, socket, &Use::Keyboard) {
            return Some("it is the last keyboard");
        }
        if keep.pointer && self.is_last(busid, socket, &Use::Pointer) {
            return Some("it is the last pointer");
        }
        self.is_listed(device).then_some("the policy protects it")
    }

    fn is_listed(&self, device: &Device) -> bool {
        let devices = self.usb.devices();
        self.policy.protection(&self.candidate(device, &devices)).is_some()
    }

    fn is_last(&self, busid: &BusId, socket: &Socket, what: &Use) -> bool {
        let desk = self.setting.desk;
        let (is_one, beside) = if *what == Use::Keyboard {
            (socket.device.may_be_keyboard(), desk.keyboard)
        } else {
            (socket.device.may_be_pointer(), desk.pointer)
        };
        let is_leaving = |other: &BusId| {
            let works = self.agent.iter().flat_map(|agent| agent.works.values());
            works.filter_map(super::steps::Work::leaves).any(|leaving| leaving == other)
        };
        let stays = |other: &Socket| {
            let at = &other.device.busid;
            at != busid
                && other.device.uses.contains(what)
                && self.store.places_of(at).next().is_none()
                && !is_leaving(at)
        };
        is_one && !beside && !self.usb.sockets.values().any(stays)
    }

    /// A step that takes a device from dom0, for a domain or for nobody, is on its way.
    pub(super) fn check_leaving(&mut self, step: &Step) {
        let is_blocking = matches!(step, Step::Deauthorize { note: Some(_), interfaces, .. }
            if !interfaces.is_empty());
        if step.claim().is_none() && !is_blocking {
            return;
        }
        let (Some(busid), Some(plug)) = (step.device(), step.plug()) else { return };
        // What was decided about another plug comes to nothing.
        let Some(socket) = self.usb.sockets.get(busid).filter(|s| s.device.plug() == plug) else {
            return;
        };
        let said = self.said_of(&socket.device);
        if let Some(order @ (Order::Stay | Order::Hold)) = said.map(|said| said.order.clone()) {
            return self
                .violate(0, format!("{busid} is to leave dom0, and a person said: {order}"));
        }
        let is_forced = said.is_some_and(|said| said.force);
        let since = |when: Micros| self.now > when + LONG_KNOWN;
        // That it is a mouse, udev says after its driver has come.
        let is_told = self.now > socket.rebound_at + TOLD;
        let is_known = is_told
            && since(socket.used_since)
            && since(self.desk_changed)
            && self.faults.values().all(|left| *left == 0)
            && self.usb.sockets.values().all(|other| {
                let matters = other.spec.is_input() || other.device.busid == *busid;
                !matters || other.hangs_until + LONG_KNOWN < self.now
            });
        let is_listed = !is_forced && self.is_listed(&socket.device);
        let needed = self.why_needed(busid, socket);
        if is_listed {
            self.violate(2, format!("{busid} is to leave dom0, and the policy protects it"));
        } else if let Some(why) = needed.filter(|_| is_known) {
            self.violate(2, format!("{busid} is to leave dom0: {why}"));
        } else if let Some(until) = self.held_down(busid).filter(|until| self.now < *until)
            && step.claim().is_some()
        {
            let what = format!("{busid} is to leave dom0 and is held down until {until}");
            self.violate(0, what);
        }
    }

    /// Counted once more: the plugs that this agent has seen, looking back from the last one.
    fn held_down(&self, busid: &BusId) -> Option<Micros> {
        let Flapping { plugs, within, pause } = self.policy.flapping();
        let seen = self.seen_plugs.get(busid)?;
        let (_, last) = *seen.last()?;
        let within = super::world::micros(within);
        let recent = seen.iter().filter(|(_, when)| when + within >= last).count();
        let is_held = plugs > 0 && recent > usize::try_from(plugs).unwrap_or(usize::MAX);
        is_held.then(|| last + super::world::micros(pause))
    }

    /// A port is about to be written for the agent. What begins after the transaction has asked,
    /// nobody can know.
    pub(super) fn check_unused(&mut self, busid: &BusId) {
        let data = self.data_since(busid).filter(|since| since + COMMIT < self.now);
        if data.is_some() {
            self.violate(2, format!("{busid} leaves dom0, which has data on it"));
        }
    }

    /// The agent is about to move an interface; it has asked whether dom0 uses the device at `asked`.
    pub(super) fn check_data(&mut self, name: &InterfaceName, asked: &Asked, when: Micros) {
        let is_taken = match asked {
            Asked::Driver(driver) => driver.as_deref() != self.usb.native(name).as_deref(),
            Asked::Authorized(allowed) => !allowed,
        };
        if is_taken && self.data_since(name.busid()).is_some_and(|since| since < when) {
            self.violate(2, format!("interface {name} leaves dom0, which has data on its device"));
        }
    }

    /// Since when dom0 has had data on the device, if it has.
    pub(super) fn data_since(&self, busid: &BusId) -> Option<Micros> {
        let socket = self.usb.sockets.get(busid)?;
        let has_data = socket.device.uses.iter().any(Use::is_storage);
        has_data.then_some(socket.used_since)
    }
}

/// The plugs that an agent has seen in one place, and when it saw each first.
pub(super) type SeenPlugs = Vec<(Plug, Micros)>;
