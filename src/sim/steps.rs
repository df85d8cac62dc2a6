//! What the executor does for each step, one effect after the other.
//!
//! This is `host/perform` once more, without nodes: it asks what that asks, in the same order, and
//! changes the same in as many commits and writes. Between any two of them anything else may
//! happen, the agent's end among it.

use super::op::Fault;
use super::store::{Ctl, Hand};
use super::usb::{Micros, PlugNo, USBBACK, USBFS};
use super::world::{Happening, World};
use crate::model::{
    BusId, ControllerId, ControllerKind, DomId, GuestUuid, Interface, InterfaceName, Leftover,
    Note, NoteState, Place, Plug, PortNumber, XenbusState,
};
use crate::plan::{AfterClear, Claim, Step, StepError};
use crate::reconcile::Ticket;
use std::collections::BTreeSet;

/// `host/perform/drivers.rs: NOTICE_TRIES` and `PAUSE`.
const NOTICE_TRIES: u32 = 50;
const PAUSE: Micros = 100_000;

/// `host/xenstore/transaction.rs: MAX_ATTEMPTS`.
const MAX_ATTEMPTS: u32 = 20;

/// A step on its way.
pub(super) struct Work {
    ticket: Ticket,
    step: Step,
    phase: Phase,
    /// The interface that it is at.
    at: usize,
    tries: u32,
    /// What was changed in xenstore before the transaction's reads.
    stamp: u64,
    /// When it was last asked whether dom0 has data on the device.
    asked: Micros,
    /// How many ports had ever been filled when the kernel was asked: what was filled later, the agent
    /// could not know.
    tenancies: u64,
    /// What the kernel was asked for, of which plug, and has not answered.
    pub(super) in_kernel: Option<(InterfaceName, Option<PlugNo>, Asked)>,
}

/// What the kernel can be asked to do with an interface.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    /// To take it from its driver, and to give it to this one.
    Driver(Option<Box<str>>),
    /// To let drivers have it, or not.
    Authorized(bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Begin,
    Ask,
    Commit,
    Unbind,
    Unbound,
    Bind,
    Bound,
    Answer,
}

/// How a step goes on.
enum Way {
    Later(Micros),
    Done(Result<(), StepError>),
    /// The agent is no more.
    Gone,
}

/// Who has an interface.
enum Bound {
    Gone,
    Free,
    To(Box<str>),
}

type Checked = Result<(), &'static str>;

fn stale(why: &'static str) -> Way {
    Way::Done(Err(StepError::Stale(why.into())))
}

fn transient(why: &'static str) -> Way {
    Way::Done(Err(StepError::Transient(why.into())))
}

impl Work {
    /// The device that is about to leave dom0 by this.
    pub(super) fn leaves(&self) -> Option<&BusId> {
        let is_claim = matches!(self.step, Step::Claim(_) | Step::CreateController { .. });
        self.step.device().filter(|_| is_claim)
    }
}

impl World {
    pub(super) fn begin_step(&mut self, ticket: Ticket, step: Step) {
        self.counts.step(&step);
        self.check_step(&step);
        let usual = self.takes(200, 20_000);
        // Who is about to take a device reads it first; the others ask the kernel later, or never.
        let reads = matches!(step, Step::Claim(_) | Step::CreateController { .. });
        let device = step.device().filter(|_| reads);
        let delay = usual + device.map_or(0, |busid| self.hangs_for(busid));
        self.numbers += 1;
        let number = self.numbers;
        let work = Work {
            ticket,
            step,
            phase: Phase::Begin,
            at: 0,
            tries: 0,
            stamp: 0,
            asked: 0,
            tenancies: 0,
            in_kernel: None,
        };
        let Some(agent) = self.agent.as_mut() else { return };
        agent.works.insert(number, work);
        self.soon(delay, Happening::Step(self.life, number));
    }

    pub(super) fn step_goes_on(&mut self, number: u64) {
        let Some(agent) = self.agent.as_mut() else { return };
        let Some(mut work) = agent.works.remove(&number) else { return };
        match self.advance(&mut work) {
            Way::Gone => {}
            Way::Later(delay) => {
                if let Some(agent) = self.agent.as_mut() {
                    agent.works.insert(number, work);
                    self.soon(delay, Happening::Step(self.life, number));
                }
            }
            Way::Done(result) => {
                // A failure of another kind ends the row as well.
                if result.is_ok() || matches!(result, Err(StepError::Stale(_))) {
                    self.misfortunes.remove(&work.step.device().cloned());
                }
                self.finished(work.ticket, result);
            }
        }
    }

    fn advance(&mut self, work: &mut Work) -> Way {
        let step = work.step.clone();
        match &step {
            Step::Claim(claim) => {
                let ask = |world: &Self| world.may_claim(claim);
                self.transact(work, ask, |world| world.claim(claim))
            }
            Step::CreateController { claim, spec, with_device } => {
                let ask = |world: &Self| world.may_create(claim);
                self.transact(work, ask, |world| {
                    let ctl = Ctl::new(*spec, Hand::Agent);
                    world.add_controller(claim.place.domid, claim.place.controller, ctl);
                    if *with_device {
                        world.claim(claim);
                    }
                })
            }
            Step::TakeInterfaces { busid, plug, place, interfaces } => {
                let is_same = self.is_plugged(busid, *plug);
                self.take(work, busid, is_same, *place, interfaces)
            }
            Step::ReleaseInterfaces { interfaces, .. } => self.release(work, interfaces),
            Step::ClearPort { place, kind, busid, after } => {
                let ask = |world: &Self| {
                    let port = world.store.ctl(*place).filter(|ctl| ctl.kind == *kind);
                    let tenant = port.ok_or("the controller is not as it was")?;
                    let tenant = tenant.ports.get(&place.port).and_then(|p| p.tenant.as_ref());
                    match tenant {
                        Some(tenant) if tenant.busid == *busid => Ok(()),
                        Some(_) | None => Err("the port is not as it was"),
                    }
                };
                self.transact(work, ask, |world| world.clear(*place, busid, after))
            }
            Step::ReturnDrivers { busid, kind, interfaces } => {
                self.return_drivers(work, busid, *kind, interfaces)
            }
            Step::Authorize { busid, note, interfaces } => {
                self.authorize(work, busid, note, interfaces)
            }
            Step::Deauthorize { busid, plug, note, interfaces } => {
                self.deauthorize(work, busid, *plug, note.as_ref(), interfaces)
            }
            Step::NoteOrder { busid, said, taken_out } => {
                let ask = |world: &Self| world.may_note(busid, taken_out.as_ref());
                let note = |world: &mut Self| {
                    world.note_order(busid, said.as_ref(), taken_out.as_ref());
                };
                self.transact(work, ask, note)
            }
            Step::DropTrail { busid, trail } => {
                let ask = |world: &Self| {
                    let is_same = world.store.trails.get(busid) == Some(trail);
                    if is_same { Ok(()) } else { Err("the trail is another one") }
                };
                self.transact(work, ask, |world| {
                    world.drop_trail(busid);
                    world.rumour_of_notes();
                })
            }
            Step::Forget { busid } => self.transact(work, |_| Ok(()), |world| world.forget(busid)),
            Step::RemoveController { domid, uuid, controller, ports, .. } => {
                let ask = |world: &Self| world.may_remove(*domid, *uuid, *controller, ports);
                self.transact(work, ask, |world| world.remove_controller(*domid, *controller))
            }
            Step::RemoveLeftover(leftover) => {
                let Leftover { domid, .. } = leftover;
                let ask = |world: &Self| {
                    let back =
                        world.ghosts.contains(domid) || world.store.domains.contains_key(domid);
                    if back { Err("the domain is back") } else { Ok(()) }
                };
                self.transact(work, ask, |world| world.remove_leftover(*leftover))
            }
        }
    }

    /// One transaction: its reads, its commit, its answer.
    fn transact(
        &mut self,
        work: &mut Work,
        ask: impl Fn(&Self) -> Checked,
        make: impl FnOnce(&mut Self),
    ) -> Way {
        if !self.agent.as_ref().is_some_and(|agent| agent.connected) {
            return transient("the connection was lost");
        }
        match work.phase {
            Phase::Commit => {
                let whom = work.step.device().cloned();
                if self.strikes(Fault::Conflict, whom.as_ref()) {
                    return transient("the transaction conflicts again and again");
                }
                if self.strikes(Fault::Full, whom.as_ref()) {
                    return transient("xenstore is full");
                }
                if work.stamp != self.store.stamp {
                    work.tries += 1;
                    work.phase = Phase::Ask;
                    if work.tries >= MAX_ATTEMPTS {
                        return transient("the transaction conflicts again and again");
                    }
                    return Way::Later(self.takes(500, 5_000));
                }
                let unheard = self.strikes(Fault::Unheard, whom.as_ref());
                if self.effect(|world| {
                    world.store.changed();
                    make(world);
                }) {
                    return Way::Gone;
                }
                if unheard {
                    return transient("the answer was lost");
                }
                work.phase = Phase::Answer;
                Way::Later(self.takes(200, 10_000))
            }
            Phase::Answer => Way::Done(Ok(())),
            Phase::Begin
            | Phase::Ask
            | Phase::Unbind
            | Phase::Unbound
            | Phase::Bind
            | Phase::Bound => {
                if let Err(why) = ask(self) {
                    return stale(why);
                }
                work.stamp = self.store.stamp;
                work.phase = Phase::Commit;
                Way::Later(self.takes(300, 10_000))
            }
        }
    }

    /// Makes one effect, unless the agent is to be killed right here. Tells whether it was killed.
    fn effect(&mut self, make: impl FnOnce(&mut Self)) -> bool {
        self.effects += 1;
        let crash = self.crash.filter(|crash| crash.effect == self.effects);
        let life = self.life;
        if crash.is_none_or(|crash| crash.made) {
            make(self);
        }
        if crash.is_some() {
            self.kill_agent(300_000);
        }
        self.life != life
    }

    fn may_create(&self, claim: &Claim) -> Checked {
        self.same_domain(claim.place.domid, claim.uuid)?;
        self.unattached(claim)?;
        self.unused(&claim.busid)?;
        self.still_plugged(claim)
    }

    /// `host/perform/claim.rs: claim`, in its order.
    fn may_claim(&self, claim: &Claim) -> Checked {
        let socket = self.usb.sockets.get(&claim.busid);
        if socket.is_none_or(|socket| socket.device.plug() != claim.plug) {
            return Err("the device is not plugged as it was");
        }
        self.same_domain(claim.place.domid, claim.uuid)?;
        let ctl = self.store.ctl(claim.place);
        let ctl = ctl.filter(|ctl| ctl.kind == claim.kind).ok_or("no such controller")?;
        if ctl.backend != XenbusState::Connected {
            return Err("the controller is not connected");
        }
        if ctl.ports.get(&claim.place.port).is_none_or(|port| port.tenant.is_some()) {
            return Err("the port is not as it was");
        }
        self.unattached(claim)?;
        self.unused(&claim.busid)?;
        self.still_plugged(claim)
    }

    /// `host/perform/claim.rs: expect_unused`.
    fn unused(&self, busid: &BusId) -> Checked {
        if self.data_since(busid).is_some() { Err("dom0 uses the device") } else { Ok(()) }
    }

    fn same_domain(&self, domid: DomId, uuid: GuestUuid) -> Checked {
        let domain = self.store.domains.get(&domid).filter(|domain| domain.has_nodes);
        match domain {
            Some(domain) if domain.uuid == uuid => Ok(()),
            Some(_) | None => Err("the domain is gone or another"),
        }
    }

    /// `host/perform/check.rs: Unattached`.
    fn unattached(&self, claim: &Claim) -> Checked {
        let domids: BTreeSet<_> = self.store.domains.keys().copied().collect();
        if domids != claim.survey.domids {
            return Err("there are other domains than before");
        }
        for domid in &claim.survey.guests {
            let there: BTreeSet<ControllerId> = match self.store.domains.get(domid) {
                Some(domain) => domain.controllers.keys().copied().collect(),
                None => BTreeSet::new(),
            };
            let known = claim.survey.controllers.iter().filter(|seen| seen.domid == *domid);
            if there != known.map(|seen| seen.controller).collect() {
                return Err("there are other controllers than before");
            }
        }
        for seen in &claim.survey.controllers {
            for port in &seen.ports {
                let place = Place { domid: seen.domid, controller: seen.controller, port: *port };
                let tenant = self.store.port(place).and_then(|port| port.tenant.as_ref());
                if tenant.is_some_and(|tenant| tenant.busid == claim.busid) {
                    return Err("the device is in a port already");
                }
                let same_number = (place.domid, place.port)
                    == (claim.place.domid, claim.place.port)
                    && seen.kind == Some(ControllerKind::Qusb)
                    && claim.kind == ControllerKind::Qusb;
                if same_number && tenant.is_some() {
                    return Err("the port's number is in use");
                }
            }
        }
        Ok(())
    }

    fn still_plugged(&self, claim: &Claim) -> Checked {
        let is_same = self.is_plugged(&claim.busid, claim.plug);
        if is_same { Ok(()) } else { Err("the device is not plugged as it was") }
    }

    /// `host/usb/reader.rs: device_number`, against that of a plug.
    fn is_plugged(&self, busid: &BusId, plug: Plug) -> bool {
        let socket = self.usb.sockets.get(busid);
        socket.is_some_and(|socket| socket.device.address.device == plug.address.device)
    }

    fn may_remove(
        &self,
        domid: DomId,
        uuid: GuestUuid,
        controller: ControllerId,
        ports: &[PortNumber],
    ) -> Checked {
        self.same_domain(domid, uuid)?;
        let ctl = self.store.domains.get(&domid).and_then(|d| d.controllers.get(&controller));
        let ctl = ctl.ok_or("the controller is gone")?;
        let is_empty =
            |port: &PortNumber| ctl.ports.get(port).is_some_and(|port| port.tenant.is_none());
        if ctl.backend != XenbusState::Initialising || !ports.iter().all(is_empty) {
            return Err("the controller is in use");
        }
        Ok(())
    }

    fn claim(&mut self, claim: &Claim) {
        self.check_claim(claim);
        let plug_no = self.usb.plug_no(&claim.busid);
        self.store.returns.remove(&claim.busid);
        self.store.fill(claim.place, &claim.busid, Hand::Agent, plug_no);
        let state = NoteState::Attached { place: claim.place, uuid: claim.uuid };
        let drivers = Some(claim.drivers.clone());
        let note = Note { plug: claim.plug, kind: claim.kind, state, drivers };
        self.store.notes.insert(claim.busid.clone(), note);
        self.leave_trail(claim);
        self.port_changed(claim.place);
        self.rumour_of_notes();
    }

    fn clear(&mut self, place: Place, busid: &BusId, after: &AfterClear) {
        self.check_clear(place, busid, after);
        self.store.empty(place);
        match after {
            AfterClear::Gone => self.forget(busid),
            AfterClear::Returning(note) => {
                self.ends_wake(busid, place);
                self.note(busid, note);
            }
            AfterClear::Replaced(note) => {
                self.forget(busid);
                self.note(busid, note);
            }
        }
        self.port_changed(place);
    }

    fn note(&mut self, busid: &BusId, note: &Note) {
        self.store.notes.insert(busid.clone(), note.clone());
        self.rumour_of_notes();
    }

    fn forget(&mut self, busid: &BusId) {
        self.store.notes.remove(busid);
        self.store.returns.remove(busid);
        // The agent that ends forgets what was taken out of its hands (`plan/next.rs: for_device`).
        self.taken_out.remove(busid);
        self.rumour_of_notes();
    }

    fn remove_controller(&mut self, domid: DomId, controller: ControllerId) {
        self.check_remove(domid, controller);
        self.drop_controller(domid, controller);
    }

    fn remove_leftover(&mut self, leftover: Leftover) {
        let Leftover { domid, kind, controller } = leftover;
        self.store.backends.remove(&(domid, kind, controller));
        self.rumour_of_domains();
    }

    /// Asks the kernel to take an interface from its driver or to give it to one.
    fn ask_kernel(&mut self, work: &mut Work, name: &InterfaceName, driver: Option<&str>) -> Way {
        self.ask_kernel_for(work, name, Asked::Driver(driver.map(Into::into)))
    }

    fn ask_kernel_for(&mut self, work: &mut Work, name: &InterfaceName, asked: Asked) -> Way {
        work.in_kernel = Some((name.clone(), self.usb.plug_no(name.busid()), asked));
        work.tenancies = self.store.tenancies;
        let hangs = self.hangs_for(name.busid());
        Way::Later(hangs + self.takes(500, 400_000))
    }

    /// The kernel has done so. Tells whether the agent is still there.
    fn kernel_done(&mut self, work: &mut Work) -> bool {
        let Some((name, plug_no, asked)) = work.in_kernel.take() else { return true };
        let (when, tenancies) = (work.asked, work.tenancies);
        !self.effect(|world| {
            if world.is_void(&name, plug_no, &asked) {
                return;
            }
            world.check_interface(&name, &asked, tenancies);
            world.check_data(&name, &asked, when);
            world.kernel_does(&name, plug_no, asked);
        })
    }

    /// An interface is given to no second driver: it must be taken from the first one before
    /// (`drivers/base/dd.c: device_driver_attach`).
    fn has_another(&self, name: &InterfaceName, asked: &Asked) -> bool {
        let Asked::Driver(Some(driver)) = asked else { return false };
        matches!(self.driver(name), Bound::To(other) if other != *driver)
    }

    /// What was asked of one plug is not done to the next: the kernel has looked up the device, not its name.
    fn is_void(&self, name: &InterfaceName, plug_no: Option<PlugNo>, asked: &Asked) -> bool {
        self.usb.plug_no(name.busid()) != plug_no || self.has_another(name, asked)
    }

    pub(super) fn kernel_does(
        &mut self,
        name: &InterfaceName,
        plug_no: Option<PlugNo>,
        asked: Asked,
    ) {
        if self.is_void(name, plug_no, &asked) {
            return;
        }
        match asked {
            Asked::Driver(driver) => self.set_driver(name, driver),
            Asked::Authorized(allowed) => self.set_authorized(name, allowed),
        }
    }

    /// `host/perform/quarantine.rs: authorize`.
    fn authorize(
        &mut self,
        work: &mut Work,
        busid: &BusId,
        note: &Note,
        interfaces: &[InterfaceName],
    ) -> Way {
        if work.phase == Phase::Begin {
            if !self.agent.as_ref().is_some_and(|agent| agent.connected) {
                return transient("the connection was lost");
            }
            work.phase = Phase::Ask;
            if self.effect(|world| {
                world.store.changed();
                world.note(busid, note);
            }) {
                return Way::Gone;
            }
            return Way::Later(self.takes(200, 5_000));
        }
        let is_next = work.in_kernel.is_none() && work.at < interfaces.len();
        if is_next && !self.is_plugged(busid, note.plug) {
            return stale("the device is not plugged as it was");
        }
        self.set_authorizations(work, interfaces, true)
    }

    /// `host/perform/quarantine.rs: deauthorize`.
    fn deauthorize(
        &mut self,
        work: &mut Work,
        busid: &BusId,
        plug: Plug,
        note: Option<&Note>,
        interfaces: &[InterfaceName],
    ) -> Way {
        if let (Phase::Begin, Some(note)) = (work.phase, note) {
            if !self.agent.as_ref().is_some_and(|agent| agent.connected) {
                return transient("the connection was lost");
            }
            work.phase = Phase::Ask;
            if self.effect(|world| {
                world.store.changed();
                world.note(busid, note);
            }) {
                return Way::Gone;
            }
            return Way::Later(self.takes(200, 5_000));
        }
        if matches!(work.phase, Phase::Begin | Phase::Ask) {
            if let Err(why) = self.unused(busid) {
                return stale(why);
            }
            work.asked = self.now;
            work.phase = Phase::Unbind;
        }
        let is_next = work.in_kernel.is_none() && work.at < interfaces.len();
        if is_next && !self.is_plugged(busid, plug) {
            return stale("the device is not plugged as it was");
        }
        let is_usbbacks = |name| matches!(self.driver(name), Bound::To(it) if *it == *USBBACK);
        if is_next && interfaces.get(work.at).is_some_and(is_usbbacks) {
            return stale("usbback has the interface since");
        }
        self.set_authorizations(work, interfaces, false)
    }

    fn set_authorizations(
        &mut self,
        work: &mut Work,
        interfaces: &[InterfaceName],
        allowed: bool,
    ) -> Way {
        if work.in_kernel.is_some() {
            if !self.kernel_done(work) {
                return Way::Gone;
            }
            work.at += 1;
            return Way::Later(self.takes(200, 5_000));
        }
        let Some(name) = interfaces.get(work.at) else { return Way::Done(Ok(())) };
        if matches!(self.driver(name), Bound::Gone) {
            return stale("the interface is gone");
        }
        if self.strikes(Fault::Busy, Some(name.busid())) {
            return transient("the kernel refuses");
        }
        self.ask_kernel_for(work, name, Asked::Authorized(allowed))
    }

    fn driver(&self, name: &InterfaceName) -> Bound {
        let socket = self.usb.sockets.get(name.busid());
        match socket.and_then(|socket| socket.device.interfaces.get(name)) {
            None => Bound::Gone,
            Some(Interface { driver: None, .. }) => Bound::Free,
            Some(Interface { driver: Some(driver), .. }) => Bound::To(driver.clone()),
        }
    }

    /// `host/perform/drivers.rs: take_interfaces`.
    fn take(
        &mut self,
        work: &mut Work,
        busid: &BusId,
        is_same: bool,
        place: Place,
        interfaces: &[InterfaceName],
    ) -> Way {
        // The list may still have a port that was cleared.
        let is_listed = self.usb.port_ids.get(busid) == Some(&place);
        if work.phase == Phase::Begin {
            if is_listed {
                if let Err(why) = self.unused(busid) {
                    return stale(why);
                }
                work.asked = self.now;
                work.phase = Phase::Ask;
                return Way::Later(self.takes(200, 5_000));
            }
            work.tries += 1;
            if work.tries > NOTICE_TRIES {
                return transient("usbback has not noticed the port");
            }
            return Way::Later(PAUSE);
        }
        let Some(name) = interfaces.get(work.at) else { return Way::Done(Ok(())) };
        let next = |work: &mut Work| {
            work.at += 1;
            work.phase = Phase::Ask;
            Way::Later(100)
        };
        match work.phase {
            Phase::Begin | Phase::Ask if !is_same => stale("the device is not plugged as it was"),
            Phase::Begin | Phase::Ask => match self.driver(name) {
                Bound::To(driver) if *driver == *USBBACK => next(work),
                Bound::To(driver) => {
                    // Noted before it is unbound.
                    if *driver != *USBFS {
                        let noted = self.effect(|world| {
                            let notes = world.store.returns.entry(busid.clone()).or_default();
                            notes.insert(name.clone(), driver);
                            world.store.changed();
                            world.rumour_of_notes();
                        });
                        if noted {
                            return Way::Gone;
                        }
                    }
                    work.phase = Phase::Unbind;
                    Way::Later(self.takes(200, 5_000))
                }
                Bound::Free | Bound::Gone => {
                    work.phase = Phase::Bind;
                    Way::Later(100)
                }
            },
            Phase::Unbind => {
                if self.strikes(Fault::Busy, Some(busid)) {
                    return transient("the kernel refuses to unbind");
                }
                work.phase = Phase::Unbound;
                self.ask_kernel(work, name, None)
            }
            Phase::Unbound => {
                if !self.kernel_done(work) {
                    return Way::Gone;
                }
                work.phase = Phase::Bind;
                Way::Later(self.takes(200, 5_000))
            }
            Phase::Bind => match self.driver(name) {
                Bound::Gone => stale("the interface is gone"),
                Bound::To(driver) if *driver == *USBBACK => next(work),
                Bound::To(_) => transient("another driver has the interface"),
                Bound::Free => {
                    if !is_listed {
                        return transient("usbback has not noticed the port");
                    }
                    let socket = self.usb.sockets.get(busid);
                    if socket.is_none_or(|socket| socket.spec.refused) || !self.is_authorized(name)
                    {
                        return Way::Done(Err(StepError::Permanent(
                            "usbback does not take the interface".into(),
                        )));
                    }
                    work.phase = Phase::Bound;
                    self.ask_kernel(work, name, Some(USBBACK))
                }
            },
            Phase::Bound => {
                // The port may have been cleared meanwhile: then usbback refuses.
                if !is_listed {
                    work.in_kernel = None;
                    return transient("usbback does not take the interface any more");
                }
                if !self.kernel_done(work) {
                    return Way::Gone;
                }
                match self.driver(name) {
                    Bound::To(driver) if *driver == *USBBACK => next(work),
                    Bound::Gone | Bound::Free | Bound::To(_) => {
                        transient("another driver has the interface")
                    }
                }
            }
            Phase::Commit | Phase::Answer => Way::Done(Ok(())),
        }
    }

    fn release(&mut self, work: &mut Work, interfaces: &[InterfaceName]) -> Way {
        let Some(name) = interfaces.get(work.at) else { return Way::Done(Ok(())) };
        if work.in_kernel.is_some() {
            if !self.kernel_done(work) {
                return Way::Gone;
            }
            work.at += 1;
            return Way::Later(self.takes(200, 5_000));
        }
        if !matches!(self.driver(name), Bound::To(driver) if *driver == *USBBACK) {
            work.at += 1;
            return Way::Later(100);
        }
        if self.strikes(Fault::Busy, Some(name.busid())) {
            return transient("the kernel refuses to unbind");
        }
        self.ask_kernel(work, name, None)
    }

    fn return_drivers(
        &mut self,
        work: &mut Work,
        busid: &BusId,
        kind: ControllerKind,
        interfaces: &[InterfaceName],
    ) -> Way {
        let Some(name) = interfaces.get(work.at) else {
            return self.transact(work, |_| Ok(()), |world| world.forget(busid));
        };
        if let Some((name, _, asked)) = work.in_kernel.clone() {
            if !self.kernel_done(work) {
                return Way::Gone;
            }
            if self.has_another(&name, &asked) {
                return transient("another driver has the interface");
            }
            work.at += 1;
            return Way::Later(self.takes(200, 5_000));
        }
        match self.driver(name) {
            Bound::Gone => return stale("the interface is gone"),
            Bound::To(_) => {
                work.at += 1;
                return Way::Later(100);
            }
            Bound::Free => {}
        }
        if self.strikes(Fault::Busy, Some(busid)) {
            return transient("the driver refuses");
        }
        let noted = self.store.driver_note(name).map(Box::from);
        let noted = noted.filter(|_| kind == ControllerKind::Pv);
        // What no driver wants stays without one, and that is no error.
        match noted.or_else(|| self.usb.native(name)).filter(|_| self.is_authorized(name)) {
            None => {
                work.at += 1;
                Way::Later(100)
            }
            Some(driver) => self.ask_kernel(work, name, Some(&driver)),
        }
    }
}
