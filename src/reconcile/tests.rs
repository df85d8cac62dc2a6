//! The machine against a made-up host: whatever happens in whatever order, it comes to the right
//! end.
//!
//! Some devices are keyboards, of which dom0 keeps the last, and some are mounted now and then.
//!
//! The host knows nothing of plans: it applies a step as the executor would, after checking what the
//! executor would check, and plays QEMU and guests at once. Time is made up.

use super::job::STEP_DEADLINE;
use super::lookout::LOOK_DEADLINE;
use super::{Answer, Asked, Event, Input, Output, Reconciler, RequestId, Scope, Sight, Ticket};
use crate::model::{
    Asker, BusAddress, BusId, ClassTriple, Controller, ControllerKind, Desk, Device, DeviceModel,
    DeviceName, DomId, Guest, GuestKind, GuestName, GuestUuid, Interface, InterfaceName, Life,
    Note, NoteState, Order, Place, PortContent, Speed, UsbId, UsbVersion, Use, XenPart, XenView,
    XenbusState,
};
use crate::plan::{
    AfterClear, Claim, Objection, Problem, Request, Standing, Step, StepError, Wanted,
};
use crate::policy::{self, Action, Candidate, Policy, Source};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[cfg(test)]
mod stories;

const PORTS: [&str; 4] = ["1-1", "1-2", "1-2.1", "2-1"];
const IDS: [&str; 3] = ["05e0:1200", "0951:1666", "1111:2222"];
/// The devices with this id are keyboards.
const KEYBOARD: &str = IDS[1];
const NAMES: [&str; 3] = ["kiosk", "desk", "lab"];
const POLICIES: [&str; 4] = [
    "{version: 1, rules: [{match: {id: '05e0:*'}, attach: kiosk}, \
     {match: {port: '1-2.*'}, attach: [desk, kiosk]}, {match: {id: '*:*'}, keep: dom0}]}",
    "{version: 1, defaults: {controller: {ports: 1}, \
     flapping: {plugs: 2, within: 10s, pause: 7s}}, protect: [{port: '1-2'}], \
     rules: [{match: {port: '2-1'}, attach: lab}, \
     {match: {id: '*:*'}, attach: [desk, lab]}]}",
    "{version: 1, rules: []}",
    "{version: 1, rules: [{name: way, match: {id: '05e0:*'}, attach: [kiosk, desk], \
     on_identity_change: keep 3s}, {name: other, match: {id: '1111:*'}, attach: lab, \
     on_identity_change: keep 1s, wait: {attach: 2s}}, {name: held, match: {port: '1-2'}, \
     attach: [lab, kiosk], on_unplug: hold 4s}]}",
];

/// dom0 has a mouse on PS/2, and no keyboard.
const DESK: Desk = Desk { keyboard: false, pointer: true };

/// Something that happens.
#[derive(Clone, Debug)]
enum Op {
    Plug {
        port: usize,
        id: usize,
        hub: bool,
    },
    Unplug {
        port: usize,
    },
    Start {
        domain: usize,
    },
    End {
        domain: usize,
    },
    XlAttach {
        port: usize,
        domain: usize,
    },
    XlDetach {
        port: usize,
    },
    /// A person gives an order; the machine may refuse it.
    Order {
        port: usize,
        wanted: usize,
    },
    /// dom0 mounts a file system of the device, or unmounts it.
    Mount {
        port: usize,
        mounted: bool,
    },
    Policy {
        which: usize,
    },
    /// The oldest step on its way ends, well or not.
    Finish {
        how: How,
    },
    /// The oldest look on its way ends.
    See,
    LoseSight,
    Wait {
        millis: u64,
    },
    /// The agent is killed and started again.
    Restart,
}

#[derive(Clone, Copy, Debug)]
enum How {
    Well,
    Transiently,
    /// It happened, but the agent did not hear of it.
    Unheard,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => (0..PORTS.len(), 0..IDS.len(), prop::bool::weighted(0.1))
            .prop_map(|(port, id, hub)| Op::Plug { port, id, hub }),
        3 => (0..PORTS.len()).prop_map(|port| Op::Unplug { port }),
        3 => (0..NAMES.len()).prop_map(|domain| Op::Start { domain }),
        2 => (0..NAMES.len()).prop_map(|domain| Op::End { domain }),
        1 => (0..PORTS.len(), 0..NAMES.len())
            .prop_map(|(port, domain)| Op::XlAttach { port, domain }),
        1 => (0..PORTS.len()).prop_map(|port| Op::XlDetach { port }),
        2 => (0..PORTS.len(), 0..6_usize).prop_map(|(port, wanted)| Op::Order { port, wanted }),
        2 => (0..PORTS.len(), any::<bool>())
            .prop_map(|(port, mounted)| Op::Mount { port, mounted }),
        1 => (0..POLICIES.len()).prop_map(|which| Op::Policy { which }),
        8 => prop_oneof![6 => Just(How::Well), 1 => Just(How::Transiently), 1 => Just(How::Unheard)]
            .prop_map(|how| Op::Finish { how }),
        10 => Just(Op::See),
        1 => Just(Op::LoseSight),
        3 => (0_u64..5000).prop_map(|millis| Op::Wait { millis }),
        1 => Just(Op::Restart),
    ];
    prop::collection::vec(op, 0..80)
}

/// The made-up host with the machine on top.
struct World {
    now: Instant,
    policy: Arc<Policy>,
    machine: Reconciler,
    looks: Vec<Scope>,
    steps: Vec<(Ticket, Step)>,
    devices: BTreeMap<BusId, Device>,
    mounted: BTreeSet<BusId>,
    xen: XenView,
    /// What was last said of each device.
    said: BTreeMap<BusId, Standing>,
    /// Whatever else was said.
    told: Vec<Event>,
    answers: BTreeMap<RequestId, Result<Answer, Objection>>,
    has_left: bool,
    /// Devices that xl attached, in this plug.
    by_xl: BTreeSet<BusId>,
    /// Devices that xl took out of the agent's port, in this plug, and of which domain.
    taken_out: BTreeMap<BusId, DomId>,
    /// Devices that were pulled while xl had them attached: nothing in the store tells that.
    unnoticed: BTreeSet<BusId>,
    /// Questions that wait for an answer from this agent.
    unanswered: BTreeSet<RequestId>,
    questions: u64,
    counter: u8,
    next_domid: u16,
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to begin with")]
    fn new() -> Self {
        let policy = policy(0);
        let mut world = Self {
            now: Instant::now(),
            machine: Reconciler::new(Arc::clone(&policy)),
            policy,
            looks: Vec::new(),
            steps: Vec::new(),
            devices: BTreeMap::new(),
            mounted: BTreeSet::new(),
            xen: XenView::default(),
            said: BTreeMap::new(),
            told: Vec::new(),
            answers: BTreeMap::new(),
            has_left: false,
            by_xl: BTreeSet::new(),
            taken_out: BTreeMap::new(),
            unnoticed: BTreeSet::new(),
            unanswered: BTreeSet::new(),
            questions: 0,
            counter: 0,
            next_domid: 0,
        };
        world.input(Input::XenstoreBack);
        world
    }

    fn input(&mut self, input: Input) {
        self.machine.handle(self.now, input);
        while let Some(output) = self.machine.poll() {
            match output {
                Output::Look(scope) => self.looks.push(scope),
                Output::Run(ticket, cleared) => {
                    self.check_guards(cleared.step());
                    self.steps.push((ticket, cleared.step().clone()));
                }
                Output::Report(Event::Standing(busid, standing)) => {
                    self.said.insert(busid, standing);
                }
                Output::Report(event) => {
                    assert!(
                        !matches!(event, Event::Refused(..)),
                        "the plan proposes nothing that the interlock must refuse: {event:?}"
                    );
                    self.told.push(event);
                }
                Output::Answer(id, answer) => {
                    assert!(self.unanswered.remove(&id), "{id:?} was not asked, or twice answered");
                    self.answers.insert(id, answer);
                }
                Output::Left => self.has_left = true,
            }
        }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Plug { port, id, hub } => self.plug(PORTS[*port], IDS[*id], *hub),
            Op::Unplug { port } => self.unplug(PORTS[*port]),
            Op::Start { domain } => self.start(NAMES[*domain]),
            Op::End { domain } => self.end(NAMES[*domain]),
            Op::XlAttach { port, domain } => self.xl_attach(PORTS[*port], NAMES[*domain]),
            Op::XlDetach { port } => self.xl_detach(PORTS[*port]),
            Op::Order { port, wanted } => self.order(PORTS[*port], *wanted),
            Op::Mount { port, mounted } => self.mount(PORTS[*port], *mounted),
            Op::Policy { which } => {
                self.policy = policy(*which);
                self.input(Input::Policy(Arc::clone(&self.policy)));
            }
            Op::Finish { how } => self.finish(*how),
            Op::See => self.see(),
            Op::LoseSight => {
                if !self.looks.is_empty() {
                    let scope = self.looks.remove(0);
                    self.input(Input::LookFailed(scope, "no answer".into()));
                }
            }
            Op::Wait { millis } => {
                self.now += Duration::from_millis(*millis);
                self.input(Input::Timeout);
            }
            Op::Restart => {
                self.looks.clear();
                self.steps.clear();
                self.unanswered.clear();
                self.machine = Reconciler::new(Arc::clone(&self.policy));
                self.input(Input::XenstoreBack);
            }
        }
    }

    fn plug(&mut self, port: &str, id: &str, hub: bool) {
        let busid: BusId = port.parse().unwrap();
        if self.devices.contains_key(&busid) {
            return;
        }
        self.counter += 1;
        let class = if hub { 9 } else { 0 };
        let id: UsbId = id.parse().unwrap();
        let interface: InterfaceName = format!("{busid}:1.0").parse().unwrap();
        let triple = |class| ClassTriple { class, subclass: 0, protocol: 0 };
        let interface_class = triple(if hub { 9 } else { 3 });
        let address = BusAddress { bus: busid.bus(), device: self.counter % 127 + 1 };
        let device = Device {
            class: triple(class),
            speed: Speed::Full,
            initialized: Some(u64::from(self.counter)),
            configured: true,
            interfaces: [(
                interface,
                Interface {
                    class: interface_class,
                    driver: Some("usbhid".into()),
                    authorized: true,
                },
            )]
            .into(),
            ..Device::new(busid.clone(), address, id)
        };
        self.devices.insert(busid.clone(), device);
        self.input(Input::Stirred(Scope::Device(busid)));
    }

    fn unplug(&mut self, port: &str) {
        let busid: BusId = port.parse().unwrap();
        self.devices.remove(&busid);
        self.mounted.remove(&busid);
        if self.by_xl.remove(&busid) {
            self.unnoticed.insert(busid.clone());
        }
        self.taken_out.remove(&busid);
        self.input(Input::Stirred(Scope::Device(busid)));
    }

    fn mount(&mut self, port: &str, mounted: bool) {
        let busid: BusId = port.parse().unwrap();
        if mounted && self.devices.contains_key(&busid) && self.xen.places_of(&busid).count() == 0 {
            self.mounted.insert(busid.clone());
        } else if !mounted {
            self.mounted.remove(&busid);
        }
        self.input(Input::Stirred(Scope::Device(busid)));
    }

    fn start(&mut self, name: &str) {
        if self.named(name).is_some() {
            return;
        }
        self.next_domid += 1;
        let domid: DomId = self.next_domid.to_string().parse().unwrap();
        let guest = Guest {
            domid,
            uuid: uuid(domid),
            name: GuestName::new(name),
            kind: GuestKind::Pv,
            life: Life::Running,
            device_model: DeviceModel::Running { qusb: true },
            controllers: BTreeMap::new(),
            broken: BTreeMap::new(),
        };
        self.xen.domids.insert(domid);
        self.xen.guests.insert(domid, guest);
        self.input(Input::Stirred(Scope::Xen));
    }

    fn end(&mut self, name: &str) {
        let Some(domid) = self.named(name) else { return };
        let of_domain = |place: &Place| place.domid == domid;
        self.by_xl.retain(|busid| !self.xen.places_of(busid).any(|place| of_domain(&place)));
        let ports = self.xen.taken_ports().filter(|(place, _)| of_domain(place));
        let back: Vec<BusId> = ports.map(|(_, busid)| busid.clone()).collect();
        self.taken_out.retain(|_, there| *there != domid);
        self.xen.domids.remove(&domid);
        self.xen.guests.remove(&domid);
        self.input(Input::Stirred(Scope::Xen));
        for busid in back {
            self.input(Input::Stirred(Scope::Device(busid)));
        }
    }

    /// xl writes into the first free port there is, and checks as little as it does.
    fn xl_attach(&mut self, port: &str, name: &str) {
        let busid: BusId = port.parse().unwrap();
        let plugged = self.devices.get(&busid).is_some_and(|device| !device.is_hub());
        if !plugged || self.xen.places_of(&busid).next().is_some() {
            return;
        }
        let Some(domid) = self.named(name) else { return };
        let free = self
            .xen
            .ports()
            .find(|(place, content)| place.domid == domid && **content == PortContent::Free)
            .map(|(place, _)| place);
        if let Some(place) = free {
            self.set_port(place, PortContent::Taken(busid.clone()));
            self.taken_out.remove(&busid);
            self.mounted.remove(&busid);
            self.input(Input::Stirred(Scope::Device(busid.clone())));
            // In the very port where the agent had put it, it is the agent's again.
            if !self.xen.is_ours(&busid, place) {
                self.by_xl.insert(busid);
            }
            self.input(Input::Stirred(Scope::Domains([domid].into())));
        }
    }

    fn xl_detach(&mut self, port: &str) {
        let busid: BusId = port.parse().unwrap();
        let Some(place) = self.xen.places_of(&busid).next() else { return };
        // xl finds a port by the device that is plugged, so it cannot clear a stale one.
        if !self.devices.contains_key(&busid) {
            return;
        }
        self.set_port(place, PortContent::Free);
        self.by_xl.remove(&busid);
        // As long as there is a note of this plug, the administrator has overruled the agent.
        if let Some(note) = self.xen.notes.get(&busid)
            && let NoteState::Attached { place, .. } = note.state
            && note.plug == self.devices[&busid].plug()
        {
            self.taken_out.insert(busid.clone(), place.domid);
        }
        self.input(Input::Stirred(Scope::Device(busid)));
        self.input(Input::Stirred(Scope::Domains([place.domid].into())));
    }

    fn order(&mut self, port: &str, wanted: usize) {
        let wanted = match wanted {
            0 => Wanted::Detach,
            1 => Wanted::Hold,
            2 => Wanted::Release,
            domain => Wanted::Attach(NAMES[domain - 3].into()),
        };
        let device = DeviceName::At(port.parse().unwrap());
        self.ask(Request { device, wanted, force: false }, true);
    }

    fn ask(&mut self, request: Request, wait: bool) -> RequestId {
        let who = Asker { uid: 0, pid: 1, user: None };
        self.questions += 1;
        let id = RequestId(self.questions);
        self.unanswered.insert(id);
        self.input(Input::Ask(id, Asked { who, request, wait }));
        id
    }

    fn named(&self, name: &str) -> Option<DomId> {
        self.xen.guests.values().find(|guest| guest.name.as_str() == name).map(|guest| guest.domid)
    }

    fn set_port(&mut self, place: Place, content: PortContent) {
        if let Some(PortContent::Taken(busid)) = self.xen.port(place).cloned() {
            self.unnoticed.remove(&busid);
        }
        let guest = self.xen.guests.get_mut(&place.domid).unwrap();
        guest.controllers.get_mut(&place.controller).unwrap().ports.insert(place.port, content);
    }

    fn see(&mut self) {
        if self.looks.is_empty() {
            return;
        }
        let sight = match self.looks.remove(0) {
            Scope::Usb => Sight::Usb(self.devices.keys().cloned().collect(), false, DESK),
            Scope::Device(busid) => {
                let uses = self.uses(&busid);
                let device = self.devices.get(&busid).cloned();
                Sight::Device(busid, device.map(|device| Device { uses, ..device }))
            }
            Scope::Xen => Sight::Xen(self.xen.clone()),
            Scope::Domains(domids) => Sight::Domains(XenPart {
                domids: self.xen.domids.clone(),
                guests: domids.iter().map(|d| (*d, self.xen.guests.get(d).cloned())).collect(),
                notes: self.xen.notes.clone(),
                overrides: self.xen.overrides.clone(),
                trails: self.xen.trails.clone(),
                returns: self.xen.returns.clone(),
            }),
        };
        self.input(Input::Saw(sight));
    }

    fn finish(&mut self, how: How) {
        if self.steps.is_empty() {
            return;
        }
        let (ticket, step) = self.steps.remove(0);
        let transient = || Err(StepError::Transient("it did not work".into()));
        let result = match how {
            How::Transiently => transient(),
            How::Well => self.perform(&step).map_err(|why| StepError::Stale(why.into())),
            How::Unheard => self
                .perform(&step)
                .map_or_else(|why| Err(StepError::Stale(why.into())), |()| transient()),
        };
        if let Some(domid) = step.domain() {
            self.input(Input::Stirred(Scope::Domains([domid].into())));
        }
        self.input(Input::Finished(ticket, result));
    }

    /// What the executor would do, with what it would check.
    fn perform(&mut self, step: &Step) -> Result<(), &'static str> {
        match step {
            Step::Claim(claim) => {
                self.check(claim)?;
                if self.xen.port(claim.place) != Some(&PortContent::Free) {
                    return Err("the port is taken");
                }
                self.fill(claim);
            }
            Step::CreateController { claim, spec, with_device } => {
                self.check(claim)?;
                let guest = self.xen.guests.get_mut(&claim.place.domid).unwrap();
                if guest.controllers.contains_key(&claim.place.controller) {
                    return Err("the controller is there");
                }
                let controller = Controller {
                    kind: spec.kind,
                    version: Some(UsbVersion::V2),
                    ports: spec.ports.up_to().map(|port| (port, PortContent::Free)).collect(),
                    backend: XenbusState::Connected,
                    frontend: XenbusState::Connected,
                    ours: true,
                };
                guest.controllers.insert(claim.place.controller, controller);
                assert!(with_device, "qusb takes its device at once");
                self.fill(claim);
            }
            Step::ClearPort { place, busid, after, .. } => {
                if self.xen.port(*place) != Some(&PortContent::Taken(busid.clone())) {
                    return Err("the port is another's");
                }
                self.set_port(*place, PortContent::Free);
                match after {
                    AfterClear::Gone => drop(self.xen.notes.remove(busid)),
                    AfterClear::Returning(note) | AfterClear::Replaced(note) => {
                        self.xen.notes.insert(busid.clone(), note.clone());
                    }
                }
            }
            Step::Forget { busid } | Step::ReturnDrivers { busid, .. } => {
                self.xen.notes.remove(busid);
            }
            Step::NoteOrder { busid, said, taken_out } => {
                if let Some(note) = taken_out {
                    let NoteState::Attached { place, .. } = note.state else { panic!("{note:?}") };
                    let there = self.xen.port(place) == Some(&PortContent::Taken(busid.clone()));
                    if there || self.xen.notes.get(busid) != Some(note) {
                        return Err("it is not taken out");
                    }
                    let note = Note { state: NoteState::Returning, ..note.clone() };
                    self.xen.notes.insert(busid.clone(), note);
                    self.taken_out.remove(busid);
                }
                match said {
                    Some(said) => drop(self.xen.overrides.insert(busid.clone(), said.clone())),
                    None => drop(self.xen.overrides.remove(busid)),
                }
            }
            Step::DropTrail { busid, trail } => {
                if self.xen.trails.get(busid) != Some(trail) {
                    return Err("the trail is another one");
                }
                self.xen.trails.remove(busid);
            }
            Step::Authorize { .. }
            | Step::Deauthorize { .. }
            | Step::TakeInterfaces { .. }
            | Step::ReleaseInterfaces { .. }
            | Step::RemoveController { .. }
            | Step::RemoveLeftover(_) => panic!("not in this world: {step:?}"),
        }
        Ok(())
    }

    fn check(&self, claim: &Claim) -> Result<(), &'static str> {
        let guest = self.xen.guests.get(&claim.place.domid).ok_or("the domain is gone")?;
        let device = self.devices.get(&claim.busid).ok_or("the device is gone")?;
        if guest.uuid != claim.uuid || device.plug() != claim.plug {
            return Err("it is another one");
        }
        if self.mounted.contains(&claim.busid) {
            return Err("it is mounted");
        }
        if self.xen.places_of(&claim.busid).next().is_some() {
            return Err("it is attached");
        }
        // The survey would tell. A plan that knows no better comes here again and again.
        let place = claim.place;
        if self.xen.taken_ports().any(|(p, _)| p.domid == place.domid && p.port == place.port) {
            return Err("QEMU would abort: the port's number is in use in another controller");
        }
        assert!(!device.is_hub(), "a hub is never attached");
        Ok(())
    }

    fn fill(&mut self, claim: &Claim) {
        assert!(!self.mounted.contains(&claim.busid), "a mounted device is never attached");
        self.set_port(claim.place, PortContent::Taken(claim.busid.clone()));
        let note = Note {
            plug: claim.plug,
            kind: ControllerKind::Qusb,
            state: NoteState::Attached { place: claim.place, uuid: claim.uuid },
            drivers: Some(claim.drivers.clone()),
        };
        self.xen.notes.insert(claim.busid.clone(), note);
        match &claim.trail {
            Some(trail) => drop(self.xen.trails.insert(claim.busid.clone(), (**trail).clone())),
            None => drop(self.xen.trails.remove(&claim.busid)),
        }
    }

    /// What dom0 does with a device: nothing, if it is in a port.
    fn uses(&self, busid: &BusId) -> BTreeSet<Use> {
        let mut uses = BTreeSet::new();
        if self.xen.places_of(busid).next().is_none() {
            if self.mounted.contains(busid) {
                uses.insert(Use::Mounted { device: "/dev/sdb".into(), at: "/mnt".into() });
            }
            if self.devices.get(busid).is_some_and(is_keyboard) {
                uses.insert(Use::Keyboard);
            }
        }
        uses
    }

    /// No step takes what the machine has seen to be needed.
    fn check_guards(&self, step: &Step) {
        let Some(busid) = step.device().filter(|_| step.takes_from_dom0()) else { return };
        let seen = &self.machine.observed().devices;
        let device = &seen[busid];
        assert!(!device.uses.iter().any(Use::is_storage), "{busid} is mounted");
        assert!(
            self.policy.protection(&Candidate::alone(device)).is_none(),
            "{busid} is protected"
        );
        let leaves = |other: &BusId| {
            let taken = |step: &Step| step.takes_from_dom0() && step.device() == Some(other);
            other == busid
                || self.steps.iter().any(|(_, step)| taken(step))
                || self.xen.places_of(other).any(|place| self.xen.is_ours(other, place))
        };
        let keyboard = |device: &&Device| device.uses.contains(&Use::Keyboard);
        let mut remaining = seen.values().filter(keyboard).filter(|other| !leaves(&other.busid));
        let is_one = device.uses.contains(&Use::Keyboard);
        assert!(!is_one || remaining.next().is_some(), "{busid} is the last keyboard");
    }

    fn check_rules(&self) {
        for busid in self.devices.keys() {
            assert!(self.xen.places_of(busid).count() <= 1, "{busid} is in two ports");
        }
    }

    /// Lets every look end, and time stand still.
    fn see_all(&mut self) {
        for _ in 0..1000 {
            if self.looks.is_empty() {
                return;
            }
            self.see();
        }
        panic!("it never stops looking");
    }

    /// Lets every look end, and time go on, until a step is on its way.
    fn settle(&mut self) {
        for _ in 0..1000 {
            if !self.steps.is_empty() {
                return;
            } else if !self.looks.is_empty() {
                self.see();
            } else if let Some((when, _)) = self.machine.deadline() {
                self.now = self.now.max(when);
                self.input(Input::Timeout);
            }
        }
        panic!("no step is ever taken");
    }

    /// Lets everything that is under way end, until nothing more happens.
    fn come_to_rest(&mut self) {
        // What happened is told in the end, whatever was lost before.
        self.input(Input::Stirred(Scope::Usb));
        self.input(Input::Stirred(Scope::Xen));
        for _ in 0..10_000 {
            if !self.looks.is_empty() {
                self.see();
            } else if !self.steps.is_empty() {
                self.finish(How::Well);
            } else if let Some((when, _)) = self.machine.deadline() {
                self.now = self.now.max(when);
                self.input(Input::Timeout);
            } else {
                return;
            }
            self.check_rules();
        }
        panic!("it never comes to rest");
    }

    /// Whether dom0 must keep a device, found out the slow way.
    fn is_needed(&self, device: &Device) -> bool {
        let in_dom0 = |other: &&Device| self.xen.places_of(&other.busid).next().is_none();
        let keyboards =
            self.devices.values().filter(|other| is_keyboard(other)).filter(in_dom0).count();
        self.mounted.contains(&device.busid)
            || self.policy.protection(&Candidate::alone(device)).is_some()
            || (is_keyboard(device) && keyboards == 1)
    }

    fn rule_named(&self, name: &str) -> Option<&policy::Rule> {
        let mut rules = self.policy.rules().iter();
        let leaves = |rule: &policy::Rule| {
            rule.on_identity_change().is_some() || rule.on_unplug().hold().is_some()
        };
        rules.find(|rule| rule.name() == Some(name) && leaves(rule))
    }

    /// By which rule a device goes the way of the one before it. All time has passed: one that is there
    /// and did not come in time has no trail beside it.
    fn rule_of_follower(&self, busid: &BusId, device: &Device) -> Option<&policy::Rule> {
        let trail = self.xen.trails.get(busid).filter(|_| !device.is_hub())?;
        let is_other = trail.plug.id != device.id;
        let follows = if trail.plug == device.plug() { trail.follows } else { is_other };
        let rule = self.rule_named(&trail.rule).filter(|_| follows)?;
        rule.on_identity_change().map(|_| rule)
    }

    /// Every device is where it should be, found out the slow way.
    fn check_end(&self) {
        for (place, busid) in self.xen.taken_ports() {
            assert!(self.devices.contains_key(busid), "the port {place} is stale");
        }
        for (busid, device) in &self.devices {
            let there = self.xen.places_of(busid).next().map(|place| place.domid);
            if self.by_xl.contains(busid) {
                assert!(there.is_some(), "{busid} was attached by hand");
                continue;
            }
            // Replugged before anybody looked.
            if self.unnoticed.contains(busid) && !self.xen.notes.contains_key(busid) {
                continue;
            }
            if self.taken_out.contains_key(busid) {
                assert_eq!(there, None, "{busid} was taken out by hand");
                continue;
            }
            // An order that was noted about this very plug, or a hold of this id, goes first.
            let said = self.xen.overrides.get(busid).filter(|said| match said.order {
                Order::Hold => said.plug.id == device.id,
                Order::Attach(_) | Order::Stay => said.plug == device.plug(),
            });
            let rule = self.rule_of_follower(busid, device);
            let rule = rule.or_else(|| self.policy.judge(&Candidate::alone(device)));
            let rule = rule.map(policy::Rule::action);
            let targets = match (said.map(|said| &said.order), rule) {
                (Some(Order::Attach(guest)), _) => vec![guest.to_string()],
                (None, Some(Action::Attach(targets))) if !device.is_hub() => {
                    targets.iter().map(ToString::to_string).collect()
                }
                (Some(Order::Stay | Order::Hold), _)
                | (None, Some(Action::Attach(_) | Action::Keep | Action::Block) | None) => {
                    Vec::new()
                }
            };
            let running: Vec<DomId> =
                targets.iter().filter_map(|target| self.named(target)).collect();
            match there {
                Some(domid) => assert!(running.contains(&domid), "{busid} is in domain {domid}"),
                None => assert!(
                    running.is_empty() || self.is_needed(device),
                    "{busid} is not in one of {running:?}"
                ),
            }
        }
        assert!(self.unanswered.is_empty(), "nobody answers {:?}", self.unanswered);
        for (busid, said) in &self.xen.overrides {
            let device = self.devices.get(busid);
            let holds = said.order == Order::Hold
                || device.is_some_and(|device| device.plug() == said.plug);
            assert!(holds, "an order of an earlier plug of {busid} is left");
        }
        for (busid, trail) in &self.xen.trails {
            let device = self.devices.get(busid);
            let rule = self.rule_named(&trail.rule);
            let is_put = self.xen.places_of(busid).any(|place| self.xen.is_ours(busid, place));
            let leads =
                device.is_some_and(|device| trail.plug != device.plug() || trail.follows || is_put);
            assert!(leads && rule.is_some(), "a trail is left at {busid}: {trail:?}");
        }
        for (busid, note) in &self.xen.notes {
            let attached = matches!(note.state, NoteState::Attached { .. });
            assert!(attached && self.devices.contains_key(busid), "a note without a device");
        }
    }
}

fn is_keyboard(device: &Device) -> bool {
    device.id.to_string() == KEYBOARD && !device.is_hub()
}

fn policy(which: usize) -> Arc<Policy> {
    let source = Source { name: "policy.yaml", bytes: POLICIES[which].as_bytes() };
    Arc::new(policy::compile(source).unwrap())
}

fn uuid(domid: DomId) -> GuestUuid {
    format!("6d3ae5a6-2c8c-4c8b-9d1e-{:012x}", domid.get()).parse().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn whatever_happens_every_device_ends_where_it_should_be(ops in ops()) {
        let mut world = World::new();
        for op in &ops {
            world.apply(op);
            world.check_rules();
        }
        world.come_to_rest();
        world.check_end();
    }
}

/// Found by the property above, shrunk, and kept.
fn ends_well(ops: &[Op]) {
    let mut world = World::new();
    for op in ops {
        world.apply(op);
        world.check_rules();
    }
    world.come_to_rest();
    world.check_end();
}

#[test]
fn a_device_that_waits_for_anothers_controller_is_not_forgotten() {
    ends_well(&[
        Op::Plug { port: 0, id: 0, hub: false },
        Op::Start { domain: 2 },
        Op::Policy { which: 1 },
        Op::See,
        Op::Plug { port: 1, id: 0, hub: false },
        Op::See,
        Op::See,
        Op::See,
        Op::End { domain: 2 },
        Op::Wait { millis: 100 },
        Op::Start { domain: 1 },
    ]);
}

#[test]
fn a_port_whose_device_nobody_has_read_yet_is_not_stale() {
    ends_well(&[
        Op::Plug { port: 1, id: 0, hub: false },
        Op::Start { domain: 0 },
        Op::See,
        Op::See,
        Op::See,
        Op::Plug { port: 3, id: 0, hub: false },
        Op::Wait { millis: 100 },
        Op::Finish { how: How::Well },
        Op::XlAttach { port: 3, domain: 0 },
    ]);
}

#[test]
fn a_look_that_failed_leaves_no_job_waiting() {
    ends_well(&[
        Op::Plug { port: 2, id: 0, hub: false },
        Op::See,
        Op::Start { domain: 0 },
        Op::See,
        Op::See,
        Op::See,
        Op::Wait { millis: 100 },
        Op::Policy { which: 1 },
        Op::Finish { how: How::Well },
        Op::LoseSight,
    ]);
}

#[test]
fn whoever_asks_about_a_device_that_is_gone_before_its_turn_is_answered() {
    ends_well(&[
        Op::Plug { port: 0, id: 0, hub: false },
        Op::Start { domain: 0 },
        Op::See,
        Op::See,
        Op::See,
        Op::Wait { millis: 100 },
        Op::Unplug { port: 0 },
        Op::Order { port: 0, wanted: 0 },
    ]);
}

#[test]
fn a_keyboard_that_may_have_left_unheard_does_not_remain() {
    ends_well(&[
        Op::Plug { port: 2, id: 1, hub: false },
        Op::Plug { port: 0, id: 1, hub: false },
        Op::Policy { which: 0 },
        Op::See,
        Op::See,
        Op::Start { domain: 1 },
        Op::See,
        Op::See,
        Op::Policy { which: 1 },
        Op::Wait { millis: 100 },
        Op::See,
        Op::Finish { how: How::Unheard },
    ]);
}

#[test]
fn a_step_that_hangs_is_told_of_and_delays_no_other_device() {
    let mut world = World::new();
    world.start(NAMES[0]);
    world.plug(PORTS[0], IDS[0], false);
    world.settle();
    let (hung, step) = world.steps.remove(0);
    let busids = [PORTS[0], PORTS[3]].map(|port| port.parse::<BusId>().unwrap());
    assert!(matches!(world.said[&busids[0]], Standing::Attaching(_)));

    world.now += STEP_DEADLINE;
    world.input(Input::Timeout);
    let problem = Problem::StepHangs { step: step.name() };
    assert_eq!(world.said[&busids[0]], Standing::Hanging(problem));
    let silent = world.machine.deadline();
    assert_eq!(silent, None, "what hangs is told once, and not asked for again and again");

    world.perform(&step).unwrap();
    world.input(Input::Stirred(Scope::Xen));
    world.plug(PORTS[3], IDS[0], false);
    world.come_to_rest();
    assert!(matches!(world.said[&busids[1]], Standing::Attached { .. }));
    assert!(matches!(world.said[&busids[0]], Standing::Hanging(_)));

    world.input(Input::Finished(hung, Ok(())));
    world.come_to_rest();
    assert!(matches!(world.said[&busids[0]], Standing::Attached { .. }));
    world.check_end();
}

/// A program that lets go of a device, or dies, need not be heard of.
#[test]
fn a_device_that_was_let_go_of_unheard_is_attached_all_the_same() {
    let mut world = World::new();
    world.start(NAMES[0]);
    let busid: BusId = PORTS[0].parse().unwrap();
    let give = |world: &mut World, driver: &str| {
        let device = world.devices.get_mut(&busid).unwrap();
        device.interfaces.values_mut().for_each(|it| it.driver = Some(driver.into()));
    };
    world.plug(PORTS[0], IDS[0], false);
    give(&mut world, "usbfs");
    world.see_all();
    let settled = world.now + Duration::from_millis(100);
    world.now = settled;
    world.input(Input::Timeout);
    assert_eq!(world.looks, [Scope::Device(busid.clone())], "it is looked at again, and only then");
    assert_eq!(world.said[&busid].name(), "settling");
    world.see_all();
    assert_eq!(world.said[&busid].name(), "stuck");

    let mut pauses = Vec::new();
    for _ in 0..6 {
        let (when, _) = world.machine.deadline().unwrap();
        pauses.push((when - world.now).as_secs());
        world.now = when;
        world.input(Input::Timeout);
        world.see_all();
    }
    assert_eq!(pauses, [5, 10, 20, 40, 60, 60]);
    assert_eq!(world.said[&busid].name(), "stuck");

    give(&mut world, "usbhid");
    world.come_to_rest();
    assert!(matches!(world.said[&busid], Standing::Attached { .. }));
    assert_eq!(world.machine.deadline(), None);
}

#[test]
fn whoever_is_held_anew_is_looked_at_as_soon_as_at_first_and_the_first_first() {
    let mut world = World::new();
    world.start(NAMES[0]);
    let hold = |world: &mut World, port: &str| {
        let busid: BusId = port.parse().unwrap();
        world.plug(port, IDS[0], false);
        let device = world.devices.get_mut(&busid).unwrap();
        device.interfaces.values_mut().for_each(|it| it.driver = Some("usbfs".into()));
        world.see_all();
        assert!(!world.machine.is_at_rest(), "it settles");
        world.now += Duration::from_millis(100);
        world.input(Input::Timeout);
        world.see_all();
        assert_eq!(world.said[&busid].name(), "stuck");
        assert!(world.machine.is_at_rest());
    };
    let wait =
        |world: &World| world.machine.deadline().map(|(when, _)| (when - world.now).as_secs());
    hold(&mut world, PORTS[0]);
    for pause in [5, 10, 20] {
        assert_eq!(wait(&world), Some(pause));
        world.now = world.machine.deadline().unwrap().0;
        world.input(Input::Timeout);
        world.see_all();
    }
    hold(&mut world, PORTS[3]);
    assert_eq!(wait(&world), Some(5), "the other one has 40");

    world.apply(&Op::Policy { which: 2 });
    world.see_all();
    assert_eq!(wait(&world), None, "nobody wants them");
    world.now += Duration::from_secs(1);
    world.apply(&Op::Policy { which: 0 });
    world.see_all();
    assert_eq!(wait(&world), Some(5));
}

#[test]
fn a_device_that_somebody_holds_keeps_no_agent_from_ending() {
    let mut world = World::new();
    world.start(NAMES[0]);
    world.plug(PORTS[0], IDS[0], false);
    let device = world.devices.values_mut().next().unwrap();
    device.interfaces.values_mut().for_each(|it| it.driver = Some("usbfs".into()));
    world.now += Duration::from_millis(100);
    world.see_all();
    world.now += Duration::from_millis(100);
    world.input(Input::Timeout);
    world.see_all();
    assert_eq!(world.said.values().next().map(Standing::name), Some("stuck"));
    world.input(Input::Leave { detach: true });
    world.see_all();
    assert!(world.has_left);
}

/// What was said before the order is no answer to it.
#[test]
fn whoever_orders_a_device_that_somebody_holds_is_told_that_and_not_how_it_stood_before() {
    let mut world = World::new();
    world.policy = policy(2);
    world.input(Input::Policy(policy(2)));
    world.start(NAMES[0]);
    world.plug(PORTS[0], IDS[0], false);
    let device = world.devices.values_mut().next().unwrap();
    device.interfaces.values_mut().for_each(|it| it.driver = Some("usbfs".into()));
    world.see_all();
    world.now += Duration::from_secs(1);
    world.input(Input::Timeout);
    assert_eq!(world.said.values().next().map(Standing::name), Some("no rule"));
    world.order(PORTS[0], 3);
    for _ in 0..10 {
        world.see_all();
        if world.steps.is_empty() {
            break;
        }
        world.finish(How::Well);
    }
    let answer = world.answers.values().next().and_then(|answer| answer.as_ref().ok());
    let standing = answer.and_then(|answer| answer.standing.as_ref());
    assert_eq!(standing.map(Standing::name), Some("stuck"));
}

/// What is unreadable for long, such as a device whose reset takes its time, says nothing when it is not.
#[test]
fn a_device_that_could_not_be_read_for_minutes_is_attached_when_it_can_be() {
    let mut world = World::new();
    world.start(NAMES[0]);
    world.see_all();
    world.plug(PORTS[0], IDS[0], false);
    let began = world.now;
    while world.now < began + Duration::from_secs(300) {
        while let Some(scope) = world.looks.pop() {
            world.input(Input::LookFailed(scope, "it is busy".into()));
        }
        world.now = world.machine.deadline().unwrap().0;
        world.input(Input::Timeout);
    }
    let unreadable = |event: &&Event| matches!(event, Event::Unreadable(..));
    assert_eq!(world.told.iter().filter(unreadable).count(), 1, "it is told once");
    world.come_to_rest();
    let busid: BusId = PORTS[0].parse().unwrap();
    assert!(matches!(world.said[&busid], Standing::Attached { .. }));
}

#[test]
fn a_look_that_hangs_is_told_of_once_and_delays_no_other_device() {
    let mut world = World::new();
    world.start(NAMES[0]);
    world.see_all();
    world.plug(PORTS[0], IDS[0], false);
    let hung = world.looks.pop().unwrap();
    world.plug(PORTS[3], IDS[0], false);
    world.come_to_rest();
    world.now += LOOK_DEADLINE;
    for _ in 0..2 {
        world.input(Input::Timeout);
        let unreadable = |event: &&Event| matches!(event, Event::Unreadable(..));
        assert_eq!(world.told.iter().filter(unreadable).count(), 1);
    }
    assert_eq!(world.machine.deadline(), None);
    let [slow, other] = [PORTS[0], PORTS[3]].map(|port| port.parse::<BusId>().unwrap());
    assert!(matches!(world.said[&other], Standing::Attached { .. }));
    assert!(!world.said.contains_key(&slow));

    let device = world.devices.get(&slow).cloned();
    assert_eq!(hung, Scope::Device(slow.clone()));
    world.input(Input::Saw(Sight::Device(slow.clone(), device)));
    world.come_to_rest();
    assert!(matches!(world.said[&slow], Standing::Attached { .. }));
}

/// A device with a loose plug: it is attached once it has stayed plugged for half a minute.
#[test]
fn a_device_that_flaps_is_held_down_until_it_stays() {
    let mut world = World::new();
    world.start(NAMES[0]);
    let busid: BusId = PORTS[0].parse().unwrap();
    let mut last = world.now;
    for _ in 0..11 {
        world.unplug(PORTS[0]);
        world.see();
        world.plug(PORTS[0], IDS[0], false);
        last = world.now;
        world.see_all();
        world.now += Duration::from_millis(50);
    }
    assert!(world.steps.is_empty(), "it has never had the time to settle");
    world.now += Duration::from_millis(50);
    world.input(Input::Timeout);
    assert!(
        matches!(world.said[&busid], Standing::HeldDown { plugs: 11, .. }),
        "{:?}",
        world.said[&busid]
    );
    assert_eq!(world.machine.deadline().unwrap().0, last + Duration::from_secs(30));
    world.come_to_rest();
    assert!(matches!(world.said[&busid], Standing::Attached { .. }));
    assert!(world.now >= last + Duration::from_secs(30));
}
