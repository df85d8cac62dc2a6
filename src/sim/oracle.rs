//! Where every device should be in the end, found out the slow way.
//!
//! This knows nothing of plans. It counts together what is plugged, what runs, what was done by
//! hand, and what the policy says of a device, and asks of each device: is there a reason for it to
//! be where it is, and none for it to be elsewhere?
//!
//! # What it excuses
//!
//! Each excuse is counted, so that one that swallows too much is seen.
//!
//! * `replugged unseen`: a device that was pulled and plugged again while a port that xl had filled
//!   named it. Nothing in the store tells the two plugs apart; the agent knows only if it has looked
//!   in between.
//! * `replugged into the agent's port unseen`: xl takes a device out of the agent's port, and puts the next
//!   plug there while the agent is down and its note of the plug before is not gone yet. Nothing in the
//!   store tells that from a port that has become stale.
//! * `attached twice by xl`: xl does not look whether the agent has attached the device meanwhile.
//! * `still held`: a program has not let go of the device within the deadline.
//! * `xl was here`: the drivers of a device that xl has had its hands on in this plug, or that a backend
//!   took by itself when it came into a stale port. What these leave half done is not the agent's.

use super::op::ModelSpec;
use super::store::{Ctl, Domain, Hand};
use super::usb::{Socket, USBBACK, USBFS};
use super::wishes::is_wished;
use super::world::World;
use crate::model::{
    BusId, ControllerId, ControllerKind, Device, DeviceModel, Devices, DomId, GuestKind, GuestName,
    Life, NoteState, Order, Place, PortNumber, Speed, UsbVersion, XenbusState,
};
use crate::policy::{Action, Candidate, GuestPattern, KindWish, Rule, Target, TargetWish, When};
use std::collections::BTreeSet;

impl World {
    /// Judges the end state: the agent is up, and nothing more is going to happen.
    pub fn judge(&mut self) {
        let mut found = Vec::new();
        let mut excuses = Vec::new();
        for (busid, socket) in &self.usb.sockets {
            self.counts.judged += 1;
            match self.judge_device(busid, socket) {
                Verdict::Right { attached } => self.counts.attached += u64::from(attached),
                Verdict::Excused(why) => excuses.push(why),
                Verdict::Wrong(what) => found.push(what),
            }
            match self.judge_drivers(busid, socket) {
                Verdict::Right { .. } => {}
                Verdict::Excused(why) => excuses.push(why),
                Verdict::Wrong(what) => found.push(what),
            }
        }
        self.judge_ports(&mut found);
        self.judge_notes(&mut found);
        self.judge_controllers(&mut found);
        self.judge_orders(&mut found);
        self.judge_trails(&mut found);
        if let Some(size) = self.sizes() {
            let things = self.usb.sockets.len() + self.store.domains.len();
            let ports = self.store.ports().count();
            if size > 20 * (things + ports + 4) {
                found.push(format!(
                    "the agent remembers {size} things of {things} and {ports} ports"
                ));
            }
        }
        for why in excuses {
            self.counts.excuse(why);
        }
        for what in found {
            self.violate(0, what);
        }
    }

    fn judge_device(&self, busid: &BusId, socket: &Socket) -> Verdict {
        let mut ours = Vec::new();
        let mut by_xl = false;
        for (place, tenant) in self.store.tenants().filter(|(_, t)| t.busid == *busid) {
            let is_ours = tenant.by == Hand::Agent || self.is_noted(busid, place);
            match (is_ours, tenant.plug_no == Some(socket.plug_no)) {
                (true, true) => ours.push(place),
                (true, false) => {
                    return Verdict::Wrong(format!(
                        "{busid} was replugged and is still at {place}"
                    ));
                }
                (false, true) => by_xl = true,
                (false, false) => return Verdict::Excused("replugged unseen"),
            }
        }
        if by_xl {
            return if ours.is_empty() {
                Verdict::Right { attached: false }
            } else {
                Verdict::Excused("attached twice by xl")
            };
        }
        if let [first, second, ..] = ours.as_slice() {
            return Verdict::Wrong(format!("{busid} is at {first} and at {second}"));
        }
        let there = ours.first().copied();
        if self.is_taken_out(busid, socket) {
            return match there {
                None => Verdict::Right { attached: false },
                Some(place) => Verdict::Wrong(format!("{busid} was taken out, and is at {place}")),
            };
        }
        let targets = self.targets(socket);
        match there {
            Some(place) => match self.why_not_there(&targets, place) {
                None => Verdict::Right { attached: true },
                Some(why) => Verdict::Wrong(format!("{busid} is at {place}: {why}")),
            },
            None => self.judge_absence(busid, socket, &targets),
        }
    }

    /// A device that is in no port: the first of its domains that runs and does not refuse it could
    /// have it.
    fn judge_absence(&self, busid: &BusId, socket: &Socket, targets: &[Target]) -> Verdict {
        let mut domains = self.there(targets);
        if domains.is_empty() || self.why_needed(busid, socket).is_some() {
            return Verdict::Right { attached: false };
        }
        if self.is_held(busid, socket) {
            return Verdict::Excused("still held");
        }
        // Who follows waits for the domain of the one before.
        let same = self.same_domain_as_before(socket, targets);
        // Each domain of a list has had its turn.
        let is_counted = self.has_turns(socket) && same.is_none();
        domains.splice(0..0, same);
        for (domain, wish) in domains {
            match self.why_not_possible(socket, domain, wish) {
                Some(REFUSED) => {}
                Some(_) if is_counted => {}
                Some(_) => break,
                None => {
                    return Verdict::Wrong(format!(
                        "{busid} is not in domain {} ({}), where it should be",
                        domain.domid, domain.name
                    ));
                }
            }
        }
        Verdict::Right { attached: false }
    }

    /// What a person has said, or else the policy, and no more.
    fn targets(&self, socket: &Socket) -> Vec<Target> {
        if socket.spec.hub() {
            return Vec::new();
        }
        match self.said_of(&socket.device).map(|said| &said.order) {
            Some(Order::Attach(name)) => {
                let guest = GuestPattern::Named(name.clone());
                return vec![Target { guest, wish: TargetWish::ANY }];
            }
            Some(Order::Stay | Order::Hold) => return Vec::new(),
            None => {}
        }
        match self.rule(socket).map(Rule::action) {
            Some(Action::Attach(targets)) => targets.clone(),
            Some(Action::Keep | Action::Block) | None => Vec::new(),
        }
    }

    /// The rule that decides about this device: that of the one before it, if it follows one, or else the
    /// first that is of this one.
    fn rule(&self, socket: &Socket) -> Option<&Rule> {
        let followed = self.followed(socket).map(|(rule, _)| rule);
        followed.or_else(|| self.first_matching(socket))
    }

    /// The first rule that is of this device and counts now.
    pub(super) fn first_matching(&self, socket: &Socket) -> Option<&Rule> {
        let devices = self.usb.devices();
        let candidate = self.candidate(&socket.device, &devices);
        let mut rules = self.policy.matching(&candidate);
        rules.find(|rule| self.counts_now(rule.when()))
    }

    /// A device as rules are meant to judge it: by the drivers that it had in dom0, wherever it is now.
    pub(super) fn candidate<'a>(
        &'a self,
        device: &'a Device,
        devices: &'a Devices,
    ) -> Candidate<'a> {
        Candidate::new(device, devices, self.store.notes.get(&device.busid))
    }

    pub(super) fn counts_now(&self, when: &When) -> bool {
        let is_any = |meant: &[GuestPattern], also_built: bool| {
            self.store.domains.values().filter(|domain| domain.has_nodes).any(|domain| {
                let is_so = match domain.life() {
                    Life::Running => true,
                    Life::Building => also_built,
                    Life::Dead => false,
                };
                is_so && meant.iter().any(|it| it.is_called(&domain.name, domain.uuid))
            })
        };
        (when.running.is_empty() || is_any(&when.running, false)) && !is_any(&when.absent, true)
    }

    /// The domain that had the one before, if it runs and is still of the list.
    fn same_domain_as_before(
        &self,
        socket: &Socket,
        targets: &[Target],
    ) -> Option<(&Domain, TargetWish)> {
        let (_, trail) = self.followed(socket)?;
        if self.said_of(&socket.device).is_some() {
            return None;
        }
        let domain = self.store.domains.get(&trail.place.domid)?;
        let is_it = domain.uuid == trail.uuid && domain.has_nodes && domain.life() == Life::Running;
        let target = targets.iter().find(|it| it.guest.is_called(&domain.name, domain.uuid))?;
        is_it.then_some((domain, target.wish))
    }

    /// Whether the domains of its list have turns. Whoever follows another one, or goes where a person
    /// says, waits for one domain.
    fn has_turns(&self, socket: &Socket) -> bool {
        let is_said = self.said_of(&socket.device).is_some();
        let rule = self.first_matching(socket).and_then(Rule::patience);
        !is_said && self.followed(socket).is_none() && rule.is_some()
    }

    /// Whether nobody is to have it, by the policy and by nobody's word against that.
    fn is_blocked(&self, socket: &Socket) -> bool {
        let is_free = !socket.spec.hub() && self.said_of(&socket.device).is_none();
        is_free && self.rule(socket).is_some_and(|rule| *rule.action() == Action::Block)
    }

    /// A device that the policy blocks, and that is in no port.
    fn judge_blocked(&self, busid: &BusId, socket: &Socket) -> Verdict {
        if self.is_held(busid, socket) {
            return Verdict::Excused("still held");
        }
        let is_open = socket.device.authorized().next().is_some();
        if is_open && self.why_needed(busid, socket).is_none() && !self.is_taken_out(busid, socket)
        {
            return Verdict::Wrong(format!("{busid} is not blocked"));
        }
        Verdict::Right { attached: false }
    }

    /// Those of these that are there; of two with one name the older, running before one that is being
    /// built.
    fn there(&self, targets: &[Target]) -> Vec<(&Domain, TargetWish)> {
        let there = targets.iter().filter_map(|target| {
            let named = |life| {
                self.store.domains.values().find(|domain| {
                    domain.has_nodes
                        && target.guest.is_called(&domain.name, domain.uuid)
                        && domain.life() == life
                })
            };
            let domain = named(Life::Running).or_else(|| named(Life::Building))?;
            Some((domain, target.wish))
        });
        there.collect()
    }

    fn is_taken_out(&self, busid: &BusId, socket: &Socket) -> bool {
        self.taken_out.get(busid).is_some_and(|(plug_no, domid, uuid)| {
            let domain = self.store.domains.get(domid);
            *plug_no == socket.plug_no
                && domain.is_some_and(|d| d.has_nodes && d.uuid == *uuid && d.life() != Life::Dead)
        })
    }

    fn is_held(&self, busid: &BusId, socket: &Socket) -> bool {
        // usbback took it by itself, while a port named what was plugged there before; or xl has written
        // another device over it, and the device model keeps the first (`xen-usb.c: usbback_portid_add`).
        if (socket.is_on(USBBACK) || socket.is_on(USBFS)) && self.has_touched(busid) {
            return true;
        }
        let note = self.store.notes.get(busid);
        let returning = note.is_some_and(|note| note.state == NoteState::Returning);
        returning && socket.is_on(USBFS)
    }

    fn why_not_there(&self, targets: &[Target], place: Place) -> Option<&'static str> {
        let domain = self.store.domains.get(&place.domid)?;
        let Some(ctl) = domain.controllers.get(&place.controller) else {
            return Some("there is no such controller");
        };
        if domain.life() != Life::Running {
            return Some("the domain does not run");
        }
        if !targets.iter().any(|target| target.guest.is_called(&domain.name, domain.uuid)) {
            return Some("no rule wants it there");
        }
        if ctl.kind == ControllerKind::Qusb && domain.model == DeviceModel::Dead {
            return Some("its device model is dead");
        }
        match ctl.backend {
            XenbusState::Initialising => Some("nobody serves the controller"),
            XenbusState::InitWait | XenbusState::Initialised => Some("the guest has not connected"),
            XenbusState::Unknown
            | XenbusState::Connected
            | XenbusState::Closing
            | XenbusState::Closed
            | XenbusState::Reconfiguring
            | XenbusState::Reconfigured => None,
        }
    }

    /// Why the domain cannot have the device, if it cannot.
    fn why_not_possible(
        &self,
        socket: &Socket,
        domain: &Domain,
        wish: TargetWish,
    ) -> Option<&'static str> {
        if domain.life() != Life::Running {
            return Some("it is being built");
        }
        if !self.policy.quarantine() && socket.device.unauthorized().next().is_some() {
            return Some("nobody may claim it");
        }
        let fits = |version: UsbVersion| {
            version == UsbVersion::V2
                || !matches!(
                    socket.spec.device.speed,
                    Speed::High | Speed::Super | Speed::SuperPlus
                )
        };
        let qusb = domain.model == DeviceModel::Running { qusb: true };
        let served = |ctl: &Ctl| match ctl.kind {
            ControllerKind::Pv => self.usb.usbback,
            ControllerKind::Qusb => qusb,
            ControllerKind::DeviceModel => false,
        };
        let wishes = |port: PortNumber| wish.port.is_none_or(|wished| wished == port);
        let (mut waits, mut possible, mut refuses) = (false, false, false);
        for (id, ctl) in &domain.controllers {
            let is_fit = is_wished(wish, *id, ctl.kind, ctl.version) && fits(ctl.version);
            if !served(ctl) || !is_fit {
                continue;
            }
            match ctl.backend {
                XenbusState::Connected => {
                    let free = ctl.ports.iter().any(|(port, there)| {
                        there.tenant.is_none()
                            && wishes(*port)
                            && !is_used(domain, ctl.kind, *id, *port)
                    });
                    // Which controller is tried first depends on which of its ports rest.
                    let is_refused = ctl.kind == ControllerKind::Pv && socket.spec.refused;
                    if free && is_refused {
                        return Some(REFUSED);
                    }
                    possible |= free;
                    refuses |= is_refused;
                }
                XenbusState::InitWait | XenbusState::Initialised => waits = true,
                XenbusState::Unknown
                | XenbusState::Initialising
                | XenbusState::Closing
                | XenbusState::Closed
                | XenbusState::Reconfiguring
                | XenbusState::Reconfigured => {}
            }
        }
        if possible {
            // One that is full now may have been free when it was tried. The refusal is the domain's.
            return refuses.then_some(REFUSED);
        }
        if waits {
            return Some("its guest does not connect");
        }
        if wish.index.is_some_and(|index| domain.controllers.contains_key(&index)) {
            return Some("that controller cannot take it");
        }
        let usual = self.policy.controller();
        let pv = match (wish.kind.unwrap_or(usual.kind), domain.kind) {
            (KindWish::Pv, _) => true,
            (KindWish::Auto, GuestKind::Pv | GuestKind::Pvh) => self.usb.usbback,
            (KindWish::Auto | KindWish::Qusb, _) => false,
        };
        let kind = if pv { ControllerKind::Pv } else { ControllerKind::Qusb };
        if (pv && !self.usb.usbback) || (!pv && !qusb) {
            return Some("nobody could serve a controller");
        }
        if !fits(wish.version.unwrap_or(usual.version)) {
            return Some("it is too fast");
        }
        let deaf = self.qemus.get(&domain.domid).is_none_or(|q| q.spec == ModelSpec::Deaf);
        if !pv && deaf {
            return Some("its device model does not answer");
        }
        let facts = self.guests.get(&domain.domid)?;
        if !facts.spec.frontend || facts.is_paused {
            return Some("its guest would not connect");
        }
        let last = domain.controllers.keys().max().map(|id| id.get());
        if last.is_some_and(|last| last >= ControllerId::LAST.get()) {
            return Some("there can be no more controllers");
        }
        let next = self.store.next_id(domain.domid);
        if wish.index.is_some_and(|index| Some(index) != next) {
            return Some("it would not be the next controller");
        }
        let mut ports = PortNumber::MAX.up_to().filter(|port| wishes(*port));
        let room = ports
            .any(|port| !domain.controllers.keys().any(|id| is_taken(domain, kind, *id, port)));
        match room {
            false => Some("every port number is in use"),
            true if refuses || (pv && socket.spec.refused) => Some(REFUSED),
            true => None,
        }
    }

    fn judge_drivers(&self, busid: &BusId, socket: &Socket) -> Verdict {
        let right = Verdict::Right { attached: false };
        let is_in_port = self.store.places_of(busid).next().is_some();
        if is_in_port || !socket.device.configured {
            return right;
        }
        if self.is_blocked(socket) {
            return self.judge_blocked(busid, socket);
        }
        if self.has_touched(busid) {
            return Verdict::Excused("xl was here");
        }
        for (name, interface) in &socket.device.interfaces {
            if interface.driver.as_deref() == Some(USBFS) {
                return Verdict::Excused("still held");
            }
            let native = socket.native(name).filter(|_| interface.authorized);
            let is_outside = interface.driver.is_none() && self.waits_outside(busid, socket);
            if interface.driver != native && !is_outside {
                return Verdict::Wrong(format!(
                    "interface {name} is back in dom0 and has {:?} instead of {native:?}",
                    interface.driver
                ));
            }
        }
        self.judge_quarantine(busid, socket)
    }

    /// With quarantine, what stays in dom0 may have its drivers, and what comes back from a domain and
    /// does not stay may not, whole.
    fn judge_quarantine(&self, busid: &BusId, socket: &Socket) -> Verdict {
        if !self.policy.quarantine() || self.is_taken_out(busid, socket) {
            return Verdict::Right { attached: false };
        }
        let authorized = socket.device.authorized().count();
        let targets = self.targets(socket);
        let stays = targets.is_empty() || self.why_needed(busid, socket).is_some();
        if stays && authorized < socket.device.interfaces.len() {
            return Verdict::Wrong(format!("{busid} stays in dom0 and is not let out"));
        }
        if authorized > 0 && authorized < socket.device.interfaces.len() {
            return Verdict::Wrong(format!("{busid} is half in quarantine"));
        }
        Verdict::Right { attached: false }
    }

    /// Whether the device, in quarantine by the policy, is on its way from one domain to another that
    /// cannot have it yet: dom0 is not on that way.
    fn waits_outside(&self, busid: &BusId, socket: &Socket) -> bool {
        let is_noted = self.store.notes.get(busid).is_some_and(|note| match note.state {
            NoteState::Returning | NoteState::Admitted | NoteState::Blocked => true,
            // Where it was is no more.
            NoteState::Attached { place, uuid } => self
                .store
                .domains
                .get(&place.domid)
                .is_none_or(|domain| domain.uuid != uuid || domain.life() == Life::Dead),
        });
        is_noted
            && self.policy.quarantine()
            && !self.there(&self.targets(socket)).is_empty()
            && self.why_needed(busid, socket).is_none()
    }

    fn judge_ports(&self, found: &mut Vec<String>) {
        for (place, tenant) in self.store.tenants() {
            let is_seen = self.store.domains.get(&place.domid).is_some_and(|d| d.has_nodes);
            let is_to_clear = is_seen && self.is_to_clear(&tenant.busid, place);
            if is_to_clear && !self.usb.sockets.contains_key(&tenant.busid) {
                found.push(format!("{place} names {}, which is not plugged", tenant.busid));
            }
        }
        for leftover in self.store.view().leftovers {
            found.push(format!("{leftover:?} was left behind"));
        }
    }

    fn judge_notes(&self, found: &mut Vec<String>) {
        for (busid, note) in &self.store.notes {
            let Some(socket) = self.usb.sockets.get(busid) else {
                found.push(format!("there is a note of {busid}, which is not plugged"));
                continue;
            };
            let is_held = self.is_held(busid, socket) || self.waits_outside(busid, socket);
            let is_there = match note.state {
                NoteState::Attached { place, .. } => {
                    self.store.places_of(busid).any(|there| there == place)
                }
                NoteState::Returning | NoteState::Admitted | NoteState::Blocked => false,
            };
            let is_blocked = note.state == NoteState::Blocked && self.is_blocked(socket);
            let strange = note.drivers.iter().flatten().find(|driver| !socket.is_native(driver));
            if !note.plug.may_become(&socket.device.plug()) {
                found.push(format!("the note of {busid} speaks of an earlier plug"));
            } else if !is_there && !is_held && !is_blocked && !self.is_taken_out(busid, socket) {
                found.push(format!("the note of {busid} says {:?}", note.state));
            } else if let Some(driver) = strange {
                found.push(format!(
                    "the note of {busid} has {driver} for a driver that dom0 had for it"
                ));
            }
        }
        for busid in self.store.returns.keys() {
            // Of a port that is left as it is, what is noted is left as well.
            let is_left = self.store.places_of(busid).any(|place| !self.is_to_clear(busid, place));
            if !self.usb.sockets.contains_key(busid) && !is_left {
                found.push(format!("drivers are noted for {busid}, which is not plugged"));
            }
        }
    }

    /// What can speak of nothing any more is dropped, and whoever has asked has an answer.
    fn judge_orders(&self, found: &mut Vec<String>) {
        for (busid, said) in &self.store.overrides {
            if self.is_spent(busid) {
                found.push(format!("{busid}: an order of an earlier plug is left: {}", said.order));
            }
        }
        // As long as a guest may connect again, it is waited for: the patience is the asker's.
        let is_open = self.store.tenants().any(|(place, _)| {
            self.store.ctl(place).is_some_and(|ctl| ctl.backend != XenbusState::Connected)
        });
        for asking in self.asks.values().filter(|asking| asking.waits && !is_open) {
            let (wanted, device) = (&asking.request.wanted, &asking.request.device);
            found.push(format!("nobody was answered who asked to {wanted} {device}"));
        }
    }

    /// What the agent has made and nobody serves goes again.
    fn judge_controllers(&self, found: &mut Vec<String>) {
        for domain in self.store.domains.values().filter(|domain| domain.has_nodes) {
            for (id, ctl) in &domain.controllers {
                let empty = ctl.ports.values().all(|port| port.tenant.is_none());
                let ours = ctl.maker == Hand::Agent;
                if ours && empty && ctl.backend == XenbusState::Initialising {
                    found.push(format!("nobody serves controller {id} of {}", domain.domid));
                }
            }
        }
    }
}

/// Why a domain cannot have a device that another can.
const REFUSED: &str = "usbback refuses it";

/// What is said of a device.
enum Verdict {
    Right { attached: bool },
    Excused(&'static str),
    Wrong(String),
}

/// Whether a port's number is taken in another controller, which is one number space for a device
/// model.
fn is_used(domain: &Domain, kind: ControllerKind, id: ControllerId, port: PortNumber) -> bool {
    kind == ControllerKind::Qusb
        && domain
            .controllers
            .keys()
            .any(|other| *other != id && is_taken(domain, kind, *other, port))
}

fn is_taken(domain: &Domain, kind: ControllerKind, id: ControllerId, port: PortNumber) -> bool {
    kind == ControllerKind::Qusb
        && domain
            .controllers
            .get(&id)
            .filter(|ctl| ctl.kind == kind)
            .and_then(|ctl| ctl.ports.get(&port))
            .is_some_and(|port| port.tenant.is_some())
}

/// The domains that are there, for whoever wants to show them.
impl World {
    /// The domains of this world: number and name.
    pub fn domains(&self) -> BTreeSet<(DomId, GuestName)> {
        let domains = self.store.domains.values().filter(|domain| domain.has_nodes);
        domains.map(|domain| (domain.domid, domain.name.clone())).collect()
    }
}
