//! The next step for one device: where it should be against where it is.
//!
//! The order of the questions is the order of safety: what must be undone comes before what is to
//! be done, and what somebody else did is left alone.

use super::desired::{By, Desired, Obstacles, Reason, desired};
use super::interlock::{Scene, guard, guard_data};
use super::ports::{self, Choice, ControllerOutlook};
use super::since::{HeldDown, Since};
use super::standing::{Problem, Route, RouteBy, Standing};
use super::step::{AfterClear, Claim, Step, Survey};
use super::trail;
use super::turns;
use crate::model::{
    BusId, ControllerId, ControllerKind, Device, DeviceModel, DomId, Guest, GuestUuid,
    InterfaceName, Life, Note, NoteState, Observed, Order, Place, PortContent, Trail, XenView,
};
use crate::policy::{Action, Candidate, Policy, Rule, StalePorts};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

/// How long a backend may take to let go of a device after its port was cleared.
pub const RELEASE_DEADLINE: Duration = Duration::from_secs(10);

/// How long dom0's drivers may take to come back by themselves (QEMU binds them again when it
/// closes a device, `host-libusb.c: usb_host_attach_kernel`) before they are called.
pub const DRIVER_GRACE: Duration = Duration::from_millis(2500);

/// How long an interface that usbback had and has no more is left alone. `xl usbdev-detach` and
/// `xl destroy` unbind all interfaces before they clear the port
/// (`libxl_usb.c: libxl__device_usbdev_remove`): one that is bound again in between would lose its
/// port under usbback's feet.
pub const LOOSE_GRACE: Duration = Duration::from_secs(10);

/// The kernel driver that holds a device's interfaces for a `pv` controller.
const USBBACK: &str = "usbback";

/// The kernel driver that holds them for a program, QEMU among them.
const USBFS: &str = "usbfs";

/// Everything that a decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// The time.
    pub now: Instant,
    /// What was seen.
    pub observed: &'a Observed,
    /// What is wanted.
    pub policy: &'a Policy,
    /// Since when things are as they are.
    pub since: &'a Since,
    /// Ports that steps on their way will fill.
    pub reserved: &'a BTreeSet<Place>,
    /// Domains in which a step on its way makes a controller.
    pub creating: &'a BTreeSet<DomId>,
    /// Devices that steps on their way take from dom0.
    pub departing: &'a BTreeSet<BusId>,
    /// Domains to which the device cannot be attached although everything else would allow it, and
    /// what keeps it from there.
    pub barred: &'a BTreeMap<DomId, Problem>,
    /// Whether the agent is about to end and everything is to go back to dom0.
    pub leaving: bool,
}

impl<'a> Moment<'a> {
    /// What the interlock must know.
    pub fn scene(&self) -> Scene<'a> {
        Scene { observed: self.observed, policy: self.policy, departing: self.departing }
    }

    fn desired(&self, device: &Device) -> Desired<'a> {
        let obstacles = Obstacles { barred: self.barred, moment: Some(self) };
        desired(self.policy, device, self.observed, &obstacles)
    }
}

/// How it stands, and what comes next.
#[derive(Clone, Debug, PartialEq)]
pub struct Outlook {
    /// How it stands.
    pub standing: Standing,
    /// What comes next.
    pub next: Next,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Nothing, until something changes.
    Rest,
    /// Nothing until then, for this reason.
    Until(Instant, &'static str),
    /// This.
    Run(Step),
}

impl Outlook {
    fn rest(standing: Standing) -> Self {
        Self { standing, next: Next::Rest }
    }

    fn until(standing: Standing, when: Instant, why: &'static str) -> Self {
        Self { standing, next: Next::Until(when, why) }
    }

    fn run(standing: Standing, step: Step) -> Self {
        Self { standing, next: Next::Run(step) }
    }
}

/// What comes next for whatever is or was plugged at `busid`; `None` if there is nothing to say.
///
/// An order about an earlier plug is dropped when nothing else is to be done: until then it is not
/// heeded, so it does no harm.
pub fn for_device(busid: &BusId, moment: &Moment<'_>) -> Option<Outlook> {
    let outlook = trail::look_after(busid, for_plug(busid, moment), moment);
    let is_busy = outlook.as_ref().is_some_and(|it| matches!(it.next, Next::Run(_)));
    let said = moment.observed.xen.overrides.get(busid);
    let device = moment.observed.devices.get(busid);
    if is_busy || !said.is_some_and(|said| said.is_spent(device)) {
        return outlook;
    }
    let standing = outlook.map_or(Standing::Unplugged, |outlook| outlook.standing);
    let step = Step::NoteOrder { busid: busid.clone(), said: None, taken_out: None };
    Some(Outlook::run(standing, step))
}

fn for_plug(busid: &BusId, moment: &Moment<'_>) -> Option<Outlook> {
    let xen = &moment.observed.xen;
    let note = xen.notes.get(busid);
    let Some(device) = moment.observed.devices.get(busid) else {
        return for_gone(busid, moment);
    };
    let Some(note) = note else {
        return Some(match xen.places_of(busid).next() {
            Some(place)
                if moment.since.was_for_another_plug(place, device)
                    && moment.policy.stale_ports() == StalePorts::Clear =>
            {
                clear_stale(busid, place, moment)
            }
            Some(place) => Outlook::rest(Standing::AttachedByOthers(place)),
            None => for_free(device, moment),
        });
    };
    if !note.plug.may_become(&device.plug()) {
        // Unplugged and plugged again before anybody looked.
        return Some(for_gone_note(busid, note, moment));
    }
    Some(match home(busid, note, xen) {
        Home::Held { place, guest } => for_held(device, note, place, guest, moment),
        Home::Abandoned(place) => detach(device, note, place, "its domain is dead", moment),
        Home::TakenOut(place) => match xen.places_of(busid).next() {
            Some(elsewhere) => Outlook::rest(Standing::AttachedByOthers(elsewhere)),
            None if moment.leaving => forget(busid, Standing::TakenOutByHand(place)),
            None if is_ending(note, place, moment) => Outlook::rest(Standing::DomainEnding(place)),
            None => Outlook::rest(Standing::TakenOutByHand(place)),
        },
        Home::None => match xen.places_of(busid).next() {
            Some(elsewhere) => forget(busid, Standing::AttachedByOthers(elsewhere)),
            None => for_returning(device, note, moment),
        },
    })
}

/// What comes next for a controller of the agent's own that nobody serves: it goes once it is empty.
pub fn for_controller(guest: &Guest, id: ControllerId, moment: &Moment<'_>) -> Next {
    let Some(controller) = guest.controllers.get(&id).filter(|controller| controller.ours) else {
        return Next::Rest;
    };
    match ports::outlook(guest, id, controller, moment) {
        ControllerOutlook::Connecting { until } => Next::Until(until, "a controller to connect"),
        ControllerOutlook::NotServed
            if controller.ports.values().all(|c| *c == PortContent::Free)
                && !moment.creating.contains(&guest.domid) =>
        {
            Next::Run(Step::RemoveController {
                domid: guest.domid,
                uuid: guest.uuid,
                controller: id,
                kind: controller.kind,
                ports: controller.ports.keys().copied().collect(),
            })
        }
        ControllerOutlook::NotServed
        | ControllerOutlook::Usable
        | ControllerOutlook::WithoutFrontend
        | ControllerOutlook::Gone => Next::Rest,
    }
}

/// A busid with nothing plugged: its ports are cleared at once, whoever wrote them, unless the policy
/// leaves those of others. One stale port makes every `xl usbdev-attach` on the host fail
/// (`libxl_usb.c: get_assigned_devices`).
fn for_gone(busid: &BusId, moment: &Moment<'_>) -> Option<Outlook> {
    let xen = &moment.observed.xen;
    let clears = |place: &Place| match moment.policy.stale_ports() {
        StalePorts::Clear => true,
        StalePorts::Leave => xen.is_ours(busid, *place),
    };
    if let Some(place) = xen.places_of(busid).find(clears) {
        return Some(clear_stale(busid, place, moment));
    }
    if xen.notes.contains_key(busid) {
        return Some(forget(busid, Standing::Unplugged));
    }
    match xen.places_of(busid).next() {
        Some(place) => Some(Outlook::rest(Standing::StaleOfOthers(place))),
        None => xen.returns.contains_key(busid).then(|| forget(busid, Standing::Unplugged)),
    }
}

/// The note speaks of an earlier plug. The port that it names is cleared; another port that names
/// the busid may have been written for the present plug, by somebody else.
fn for_gone_note(busid: &BusId, note: &Note, moment: &Moment<'_>) -> Outlook {
    let xen = &moment.observed.xen;
    // What was seen to be taken out of its port is in no port by the agent's hand.
    let is_out = moment.since.taken_out.get(busid) == Some(note);
    let noted = match note.state {
        NoteState::Attached { place, .. } if !is_out => Some(place),
        NoteState::Attached { .. }
        | NoteState::Returning
        | NoteState::Admitted
        | NoteState::Blocked => None,
    };
    match xen.places_of(busid).find(|place| Some(*place) == noted) {
        Some(place) => clear_stale(busid, place, moment),
        None => forget(busid, Standing::Unplugged),
    }
}

/// The next device in the place may be with usbback already: it takes whatever is plugged into a port
/// that it knows and that no other driver wants (`usbstub.c: usbstub_probe`).
fn clear_stale(busid: &BusId, place: Place, moment: &Moment<'_>) -> Outlook {
    let kind = kind_at(place, moment);
    let there = moment.observed.devices.get(busid);
    let interfaces = there.map(on_usbback).unwrap_or_default();
    if kind == ControllerKind::Pv && !interfaces.is_empty() {
        let step = Step::ReleaseInterfaces { busid: busid.clone(), interfaces };
        return Outlook::run(Standing::Unplugged, step);
    }
    // Whoever serves the port may have taken what was plugged there since.
    let after = there.map_or(AfterClear::Gone, |device| {
        let (plug, state) = (device.plug(), NoteState::Returning);
        AfterClear::Replaced(Note { plug, kind, state, drivers: None })
    });
    Outlook::run(Standing::Unplugged, Step::ClearPort { place, kind, busid: busid.clone(), after })
}

fn kind_at(place: Place, moment: &Moment<'_>) -> ControllerKind {
    moment
        .observed
        .xen
        .guests
        .get(&place.domid)
        .and_then(|guest| guest.controllers.get(&place.controller))
        .map_or(ControllerKind::Qusb, |controller| controller.kind)
}

fn forget(busid: &BusId, standing: Standing) -> Outlook {
    Outlook::run(standing, Step::Forget { busid: busid.clone() })
}

/// Where the note says the device is, against what is there.
pub(super) enum Home<'a> {
    /// It is there.
    Held { place: Place, guest: &'a Guest },
    /// The port still names it, but the domain is dead.
    Abandoned(Place),
    /// The domain is there and the port does not name it: somebody took it out.
    TakenOut(Place),
    /// The domain is gone, or the device is on its way back.
    None,
}

pub(super) fn home<'a>(busid: &BusId, note: &Note, xen: &'a XenView) -> Home<'a> {
    let NoteState::Attached { place, uuid } = note.state else {
        return Home::None;
    };
    let guest = xen.guests.get(&place.domid).filter(|guest| guest.uuid == uuid);
    let controller = guest.and_then(|guest| guest.controllers.get(&place.controller));
    // One of another type is not the one that the agent has filled: xl has made it since.
    let named = controller.is_some_and(|controller| {
        controller.kind == note.kind
            && controller.ports.get(&place.port) == Some(&PortContent::Taken(busid.clone()))
    });
    match guest {
        None => Home::None,
        Some(guest) if guest.life == Life::Dead && named => Home::Abandoned(place),
        Some(guest) if guest.life == Life::Dead => Home::None,
        Some(guest) if named => Home::Held { place, guest },
        Some(_) => Home::TakenOut(place),
    }
}

/// Whether somebody took the device out of the port in which, by this note, the agent had put it.
pub fn is_taken_out(busid: &BusId, note: &Note, xen: &XenView) -> bool {
    matches!(home(busid, note, xen), Home::TakenOut(_))
}

/// Whether the domain at `place` has lost the device model that served the device.
fn is_ending(note: &Note, place: Place, moment: &Moment<'_>) -> bool {
    let guest = moment.observed.xen.guests.get(&place.domid);
    note.kind == ControllerKind::Qusb
        && guest.is_some_and(|guest| guest.device_model == DeviceModel::Absent)
}

/// A device that the agent has put into a domain that runs.
fn for_held(
    device: &Device,
    note: &Note,
    place: Place,
    guest: &Guest,
    moment: &Moment<'_>,
) -> Outlook {
    let back =
        |because: &dyn fmt::Display| detach(device, note, place, &because.to_string(), moment);
    if moment.leaving {
        return back(&"the agent is ending");
    }
    if let Some(problem) = moment.barred.get(&guest.domid) {
        return back(problem);
    }
    let route = match moment.desired(device) {
        Desired::In { guest: wanted, by, .. } if wanted.domid == guest.domid => route(wanted, by),
        Desired::In { guest, by, .. } => {
            let route = route(guest, by);
            return back(&format_args!("it goes to {route}: {}", route.by));
        }
        Desired::Dom0(reason) => return back(&format_args!("it {}", at_home(&reason))),
    };
    let Some(controller) = guest.controllers.get(&place.controller) else {
        return Outlook::rest(Standing::TakenOutByHand(place));
    };
    // The states of a controller stay as they were when the device model that served it dies.
    if guest.device_model == DeviceModel::Dead && controller.kind == ControllerKind::Qusb {
        return back(&Problem::DeviceModelDead);
    }
    if moment.policy.quarantine() {
        // Its driver has chosen another configuration, whose interfaces are new ones.
        let interfaces: Vec<_> = device.unauthorized().cloned().collect();
        if !interfaces.is_empty() {
            let (busid, note) = (device.busid.clone(), note.clone());
            let step = Step::Authorize { busid, note, interfaces };
            return Outlook::run(Standing::Attaching(route), step);
        }
    }
    match ports::outlook(guest, place.controller, controller, moment) {
        ControllerOutlook::Usable => match without_usbback(device, note.kind) {
            interfaces if interfaces.is_empty() => {
                Outlook::rest(Standing::Attached { route, place })
            }
            interfaces => match guard_data(device) {
                // Its port was claimed, dom0 still has it, and has begun to use it.
                Err(refusal) => back(&refusal),
                Ok(()) => take_interfaces(device, interfaces, route, place, moment),
            },
        },
        ControllerOutlook::Connecting { until } => Outlook::until(
            Standing::WaitingForController { route, controller: place.controller },
            until,
            "a controller to connect",
        ),
        // Its other end is closing, or the guest is about to connect again: nothing to undo.
        ControllerOutlook::Gone => {
            Outlook::rest(Standing::WaitingForController { route, controller: place.controller })
        }
        ControllerOutlook::NotServed => {
            back(&Problem::NotServed { controller: place.controller, kind: controller.kind })
        }
        ControllerOutlook::WithoutFrontend => {
            back(&Problem::NoFrontend { controller: place.controller })
        }
    }
}

/// Hands interfaces to usbback; those that it had before, only when nobody is taking them away.
fn take_interfaces(
    device: &Device,
    interfaces: Vec<InterfaceName>,
    route: Route,
    place: Place,
    moment: &Moment<'_>,
) -> Outlook {
    let until = moment.since.loose.get(&device.busid).map(|when| *when + LOOSE_GRACE);
    match until.filter(|until| moment.now < *until) {
        Some(until) => Outlook::until(
            Standing::Attached { route, place },
            until,
            "an interface that usbback has lost to be taken out by hand",
        ),
        None => Outlook::run(
            Standing::Attaching(route),
            Step::TakeInterfaces {
                busid: device.busid.clone(),
                plug: device.plug(),
                place,
                interfaces,
            },
        ),
    }
}

/// usbback must have all interfaces of a `pv` device or none.
pub fn without_usbback(device: &Device, kind: ControllerKind) -> Vec<InterfaceName> {
    match kind {
        ControllerKind::Pv => device
            .interfaces
            .iter()
            .filter(|(_, interface)| interface.driver.as_deref() != Some(USBBACK))
            .map(|(name, _)| name.clone())
            .collect(),
        ControllerKind::Qusb | ControllerKind::DeviceModel => Vec::new(),
    }
}

/// Takes a device out of its port. With `pv` the interfaces come first: usbback frees a port's
/// entry even while an interface is bound to it.
///
/// If somebody has put the device into another `pv` port in the same moment, nothing tells whose the
/// interfaces are. Then both ports stay as they are until one of them goes.
fn detach(
    device: &Device,
    note: &Note,
    place: Place,
    because: &str,
    moment: &Moment<'_>,
) -> Outlook {
    let busid = device.busid.clone();
    let interfaces = on_usbback(device);
    let standing = Standing::Detaching { place, because: because.into() };
    if note.kind == ControllerKind::Pv && !interfaces.is_empty() {
        let is_other =
            |other: &Place| *other != place && kind_at(*other, moment) == ControllerKind::Pv;
        if let Some(elsewhere) = moment.observed.xen.places_of(&busid).find(is_other) {
            return Outlook::rest(Standing::AttachedByOthers(elsewhere));
        }
        return Outlook::run(standing, Step::ReleaseInterfaces { busid, interfaces });
    }
    let after = AfterClear::Returning(Note { state: NoteState::Returning, ..note.clone() });
    Outlook::run(standing, Step::ClearPort { place, kind: note.kind, busid, after })
}

/// A device whose port is empty: dom0's drivers get it back.
fn for_returning(device: &Device, note: &Note, moment: &Moment<'_>) -> Outlook {
    let busid = device.busid.clone();
    let interfaces = on_usbback(device);
    if !interfaces.is_empty() {
        return Outlook::run(Standing::Returning, Step::ReleaseInterfaces { busid, interfaces });
    }
    let since = moment.since.returning.get(&busid).copied().unwrap_or(moment.now);
    if let Some(held) = device.bound_to(USBFS).next() {
        let until = since + RELEASE_DEADLINE;
        return if moment.now < until {
            Outlook::until(Standing::Returning, until, "a backend to let go of a device")
        } else {
            Outlook::rest(Standing::NotReturned(Problem::StillHeld(held.clone())))
        };
    }
    // What dom0 needs is not blocked, and gets its drivers back; what is blocked as a whole it does not need.
    let is_blocked = note.state == NoteState::Blocked && device.authorized().next().is_none();
    let may_be_blocked = || is_blocked || guard(device, &moment.scene()).is_ok();
    if let Desired::Dom0(Reason::Blocked(rule)) = moment.desired(device)
        && may_be_blocked()
    {
        // It does not go by dom0's drivers.
        return for_blocked(device, Some(note), rule, moment);
    }
    if moment.policy.quarantine() {
        if let Some(outlook) = for_quarantined(device, moment) {
            return outlook;
        }
    } else if matches!(note.state, NoteState::Blocked | NoteState::Admitted)
        && let Some(step) = authorize(device)
    {
        // Blocked no longer. It is let out as from quarantine, and that has to be ended if it was begun.
        return Outlook::run(Standing::Returning, step);
    }
    if note.kind == ControllerKind::Qusb
        && let Some(outlook) = for_moving(device, moment)
    {
        return outlook;
    }
    let driverless: Vec<_> = device.driverless().cloned().collect();
    if driverless.is_empty() {
        return forget(&busid, Standing::Returning);
    }
    let until = since + DRIVER_GRACE;
    let had_by_qemu = note.kind == ControllerKind::Qusb && note.state == NoteState::Returning;
    if had_by_qemu && moment.now < until {
        return Outlook::until(Standing::Returning, until, "drivers to come back by themselves");
    }
    let step = Step::ReturnDrivers { busid, kind: note.kind, interfaces: driverless };
    Outlook::run(Standing::Returning, step)
}

/// A device that no backend has any more and that goes into a domain as soon as a port is ready: it
/// need not go by dom0. `None` if it does not.
fn for_moving(device: &Device, moment: &Moment<'_>) -> Option<Outlook> {
    let goes = matches!(moment.desired(device), Desired::In { .. });
    let is_soon = |outlook: &Outlook| match outlook.next {
        Next::Run(_) => true,
        Next::Until(..) => {
            matches!(outlook.standing, Standing::Settling | Standing::WaitingForPort(_))
        }
        Next::Rest => false,
    };
    (goes && !moment.leaving).then(|| for_free(device, moment)).filter(is_soon)
}

/// A device in no port that dom0's drivers may have only if it is decided that it stays; `None` if
/// that is so and nothing keeps them from it any more.
fn for_quarantined(device: &Device, moment: &Moment<'_>) -> Option<Outlook> {
    let busid = device.busid.clone();
    let is_needed = guard(device, &moment.scene()).is_err();
    let stays_outside = match moment.desired(device) {
        // Whatever its rule says, it stays in dom0.
        _ if is_needed => false,
        // Straight from one domain to the next, or from quarantine: dom0 is not on the way.
        Desired::In { .. } if !moment.leaving => {
            return Some(whole_in_quarantine(device, for_free(device, moment)));
        }
        Desired::In { .. }
        | Desired::Dom0(
            Reason::NoDomainRuns(_)
            | Reason::Awaited { .. }
            | Reason::Blocked(_)
            | Reason::Order(Order::Attach(_)),
        ) => true,
        Desired::Dom0(
            Reason::Hub
            | Reason::NoRule
            | Reason::Kept(_)
            | Reason::Order(Order::Stay | Order::Hold),
        ) => false,
    };
    if !stays_outside {
        return authorize(device).map(|step| Outlook::run(Standing::Returning, step));
    }
    let interfaces: Vec<_> = device.authorized().cloned().collect();
    Some(if interfaces.is_empty() {
        forget(&busid, Standing::Returning)
    } else {
        let plug = device.plug();
        Outlook::run(Standing::Returning, Step::Deauthorize { busid, plug, note: None, interfaces })
    })
}

/// A device that waits in quarantine for its domain waits there as a whole: an agent that was killed while it
/// let the device out has left a part of it outside.
fn whole_in_quarantine(device: &Device, outlook: Outlook) -> Outlook {
    let interfaces: Vec<_> = device.authorized().cloned().collect();
    let is_half = !interfaces.is_empty() && device.unauthorized().next().is_some();
    if !is_half || outlook.next != Next::Rest {
        return outlook;
    }
    let (busid, plug) = (device.busid.clone(), device.plug());
    let step = Step::Deauthorize { busid, plug, note: None, interfaces };
    Outlook::run(outlook.standing, step)
}

/// Lets drivers have what they may not have yet, if there is anything.
fn authorize(device: &Device) -> Option<Step> {
    let interfaces: Vec<_> = device.unauthorized().cloned().collect();
    let note = Note {
        plug: device.plug(),
        kind: ControllerKind::Qusb,
        state: NoteState::Admitted,
        drivers: None,
    };
    let busid = device.busid.clone();
    (!interfaces.is_empty()).then_some(Step::Authorize { busid, note, interfaces })
}

/// The interfaces that usbback has.
pub fn on_usbback(device: &Device) -> Vec<InterfaceName> {
    device.bound_to(USBBACK).cloned().collect()
}

/// A device that is in no port and of which the agent has no note.
fn for_free(device: &Device, moment: &Moment<'_>) -> Outlook {
    let (guest, by, wish) = match moment.desired(device) {
        Desired::In { guest, by, wish } => (guest, by, wish),
        Desired::Dom0(reason) => return for_dom0(device, &reason, moment),
    };
    let route = route(guest, by);
    if moment.leaving {
        return Outlook::rest(Standing::Leaving(route));
    }
    if let Some(problem) = moment.barred.get(&guest.domid) {
        return Outlook::rest(Standing::Stuck { route, problem: problem.clone() });
    }
    if !device.is_ready() {
        return Outlook::rest(Standing::NotReady);
    }
    // Before anything is made for it, a controller least of all.
    if let Err(refusal) = guard(device, &moment.scene()) {
        let standing = Standing::Protected { route, refusal };
        return with_drivers(device, standing, moment);
    }
    let rule = match by {
        By::Rule(rule) | By::Trail(rule) => Some(rule),
        By::Order => None,
    };
    let settled = settled_at(device, rule, moment);
    if moment.now < settled {
        return Outlook::until(Standing::Settling, settled, "a new device to settle");
    }
    let flapping = rule.and_then(Rule::limit).unwrap_or(moment.policy.flapping());
    match moment.since.held_down(&device.busid, flapping) {
        Some(HeldDown { plugs, until }) if moment.now < until => {
            let standing = Standing::HeldDown { route, plugs, pause: flapping.pause };
            return Outlook::until(standing, until, "a device that flaps to stay plugged");
        }
        Some(_) | None => {}
    }
    if guest.life == Life::Building {
        return Outlook::rest(Standing::Building(route));
    }
    // Another domain's QEMU, it may be: one that scans opens what comes back into a port that it has
    // (`host-libusb.c: usb_host_auto_timer`). Two that have a device fight for it.
    if let Some(held) = device.bound_to(USBFS).next() {
        let problem = Problem::StillHeld(held.clone());
        return Outlook::rest(Standing::Stuck { route, problem });
    }
    // usbback has taken it by itself, when it came into a port that was about to be cleared, or xl is
    // about to attach it: which of the two cannot be told, and in the second it is xl's.
    if let Some(held) = device.bound_to(USBBACK).next() {
        let problem = Problem::OnUsbback(held.clone());
        return Outlook::rest(Standing::Stuck { route, problem });
    }
    // What it is to dom0 is seen only when dom0's drivers have it.
    let back = moment.since.freed.get(&device.busid).map(|when| *when + DRIVER_GRACE);
    let lacks_driver = device.interfaces.values().any(|it| it.authorized && it.driver.is_none());
    if let Some(until) = back.filter(|until| lacks_driver && moment.now < *until) {
        return Outlook::until(Standing::Returning, until, "drivers to come back by themselves");
    }
    let choice = ports::choose(device, guest, wish, moment);
    if matches!(choice, Choice::Take { .. } | Choice::Create { .. })
        && let Some(outlook) = admit(device, &route, moment)
    {
        return outlook;
    }
    match choice {
        Choice::Take { place, kind } => {
            let step = Step::Claim(claim(device, guest, (place, kind), by, moment));
            Outlook::run(Standing::Attaching(route), step)
        }
        Choice::Create { place, spec } => Outlook::run(
            Standing::Attaching(route),
            Step::CreateController {
                claim: claim(device, guest, (place, spec.kind), by, moment),
                spec,
                with_device: spec.kind == ControllerKind::Qusb,
            },
        ),
        Choice::AwaitController { controller, until } => {
            let standing = Standing::WaitingForController { route, controller };
            match until {
                Some(until) => Outlook::until(standing, until, "a controller to connect"),
                None => Outlook::rest(standing),
            }
        }
        Choice::AwaitRest(until) => {
            Outlook::until(Standing::WaitingForPort(route), until, "a port to rest")
        }
        Choice::None(problem) => Outlook::rest(Standing::Stuck { route, problem }),
    }
}

/// When a device that is ready has settled.
pub(super) fn settled_at(device: &Device, rule: Option<&Rule>, moment: &Moment<'_>) -> Instant {
    let ready = match moment.since.ready.get(&device.busid) {
        Some((plug, when)) if *plug == device.plug() => *when,
        _ => moment.now,
    };
    ready + rule.and_then(Rule::settle).unwrap_or(moment.policy.settle())
}

/// A device that stays in dom0. If it is in quarantine it is let out once that is decided: a hub at
/// once, since nothing behind it shows before; others when udev has finished with them, since a rule
/// may ask for what udev finds out.
fn for_dom0(device: &Device, reason: &Reason<'_>, moment: &Moment<'_>) -> Outlook {
    if let Reason::Blocked(rule) = reason {
        return for_blocked(device, None, rule, moment);
    }
    let by_rules = matches!(reason, Reason::NoRule | Reason::Kept(_) | Reason::NoDomainRuns(_));
    // The first rule that matches what is known so far need not be the one that decides.
    let is_early = by_rules && device.initialized.is_none();
    let standing = if is_early { Standing::NotReady } else { at_home(reason) };
    let is_decided = match reason {
        Reason::Hub => device.configured,
        Reason::NoRule | Reason::Kept(_) | Reason::Order(Order::Stay | Order::Hold) => {
            device.is_ready()
        }
        // What dom0 needs would stay if the domain ran.
        Reason::NoDomainRuns(_)
        | Reason::Awaited { .. }
        | Reason::Blocked(_)
        | Reason::Order(Order::Attach(_)) => {
            device.is_ready() && guard(device, &moment.scene()).is_err()
        }
    };
    if is_decided {
        with_drivers(device, standing, moment)
    } else if let Reason::Awaited { until, .. } = reason
        && turns::has_begun(device, moment)
    {
        Outlook::until(standing, *until, "a domain of a rule's list to run")
    } else {
        Outlook::rest(standing)
    }
}

/// A device that nobody is to have. What the agent takes from its drivers it notes, so that it can be
/// undone; what it found without permission it leaves so, without a note.
fn for_blocked(device: &Device, note: Option<&Note>, rule: &Rule, moment: &Moment<'_>) -> Outlook {
    if !device.is_ready() {
        return Outlook::rest(Standing::NotReady);
    }
    let name = rule.told();
    let interfaces: Vec<_> = device.authorized().cloned().collect();
    let is_noted = note.is_some_and(|note| note.state == NoteState::Blocked);
    let standing = Standing::Blocked { rule: name.clone() };
    if interfaces.is_empty() && (note.is_none() || is_noted) {
        return Outlook::rest(standing);
    }
    if let Err(refusal) = guard(device, &moment.scene()) {
        let standing = Standing::NotBlocked { rule: name, refusal };
        return with_drivers(device, standing, moment);
    }
    let (busid, plug) = (device.busid.clone(), device.plug());
    let drivers = Candidate::of(device, moment.observed).drivers();
    let note = Some(Note {
        plug,
        kind: ControllerKind::Qusb,
        state: NoteState::Blocked,
        // A rule that asks for its driver must go on matching.
        drivers: Some(drivers.into_iter().map(Into::into).collect()),
    });
    Outlook::run(standing, Step::Deauthorize { busid, plug, note, interfaces })
}

/// It is decided that the device stays in dom0: with quarantine, its drivers may have it now.
fn with_drivers(device: &Device, standing: Standing, moment: &Moment<'_>) -> Outlook {
    match authorize(device).filter(|_| moment.policy.quarantine()) {
        Some(step) => Outlook::run(standing, step),
        None => Outlook::rest(standing),
    }
}

/// Lets a device out of quarantine that is about to be attached: no backend can claim an interface
/// that is not authorized (`drivers/usb/core/driver.c: usb_driver_claim_interface`). `None` if that
/// is done.
fn admit(device: &Device, route: &Route, moment: &Moment<'_>) -> Option<Outlook> {
    let step = authorize(device)?;
    Some(if moment.policy.quarantine() {
        Outlook::run(Standing::Attaching(route.clone()), step)
    } else {
        let problem = Problem::NotAuthorized;
        Outlook::rest(Standing::Stuck { route: route.clone(), problem })
    })
}

fn claim(
    device: &Device,
    guest: &Guest,
    (place, kind): (Place, ControllerKind),
    by: By<'_>,
    moment: &Moment<'_>,
) -> Claim {
    let drivers = Candidate::of(device, moment.observed).drivers();
    Claim {
        busid: device.busid.clone(),
        plug: device.plug(),
        place,
        uuid: guest.uuid,
        kind,
        drivers: drivers.into_iter().map(Into::into).collect(),
        trail: trail_for(device, (place, guest.uuid), by, &moment.observed.xen),
        survey: Survey::of(&moment.observed.xen),
    }
}

/// What is to be kept of the device for the one that follows it, as long as not too much is kept.
fn trail_for(
    device: &Device,
    (place, uuid): (Place, GuestUuid),
    by: By<'_>,
    xen: &XenView,
) -> Option<Box<Trail>> {
    let (rule, follows) = match by {
        By::Rule(rule) => (rule, false),
        By::Trail(rule) => (rule, true),
        By::Order => return None,
    };
    trail::longest(rule)?;
    let has_room = xen.trails.len() < Trail::MOST || xen.trails.contains_key(&device.busid);
    let rule = rule.name().filter(|_| has_room)?.into();
    Some(Box::new(Trail { plug: device.plug(), place, uuid, rule, follows }))
}

fn at_home(reason: &Reason<'_>) -> Standing {
    match reason {
        Reason::Hub => Standing::Hub,
        Reason::Order(order) => Standing::Ordered((*order).clone()),
        Reason::NoRule => Standing::NoRule,
        Reason::Kept(rule) => Standing::Kept { rule: rule.told() },
        Reason::Blocked(rule) => Standing::Blocked { rule: rule.told() },
        Reason::Awaited { rule, target, .. } => Standing::Awaiting {
            rule: rule.told(),
            target: (*target).clone(),
            patience: rule.patience().unwrap_or_default(),
        },
        Reason::NoDomainRuns(rule) => Standing::NoDomainRuns {
            rule: rule.told(),
            targets: match rule.action() {
                Action::Attach(targets) => {
                    targets.iter().map(|target| target.guest.clone()).collect()
                }
                Action::Keep | Action::Block => Vec::new(),
            },
        },
    }
}

fn route(guest: &Guest, by: By<'_>) -> Route {
    let by = match by {
        By::Rule(rule) => RouteBy::Rule(rule.told()),
        By::Trail(rule) => RouteBy::Trail(rule.told()),
        By::Order => RouteBy::Order,
    };
    Route { guest: guest.name.clone(), domid: guest.domid, by }
}

#[cfg(test)]
mod tests;
