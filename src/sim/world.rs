//! The made-up host: what is going on in it, in the order of time.
//!
//! Whatever takes time is a [`Happening`] in a queue; the world takes the next one, lets it happen,
//! and looks whether the rules still hold. Nothing happens twice at a time, so a run is a line.

use super::agent::Agent;
use super::guards::SeenPlugs;
use super::guests::{Qemu, Stage};
use super::op::{Fault, GuestSpec, ModelSpec, Op, PlugSpec, Timed};
use super::random::Random;
use super::report::{Counts, Told, Violation};
use super::steps::Asked;
use super::store::Store;
use super::trails::Wake;
use super::usb::{Micros, PlugNo, Usb};
use super::xl::XlRun;
use crate::model::{
    BusId, ControllerId, Desk, Device, DomId, GuestName, GuestUuid, InterfaceName, Place, Text, Use,
};
use crate::plan::Request;
use crate::policy::Policy;
use crate::reconcile::{RequestId, Scope};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How a world is set up, before anything happens in it.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a property of its own")]
pub struct Setting {
    /// The policies that can be loaded, by name; `None` for one that does not compile. The first
    /// one is in force at the start.
    pub policies: Vec<(Box<str>, Option<Arc<Policy>>)>,
    /// Whether dom0's kernel has usbback.
    pub usbback: bool,
    /// Whether the buses hold new devices back (`interface_authorized_default`).
    pub held_back: bool,
    /// What dom0 has besides USB devices to be operated with.
    pub desk: Desk,
    /// Whether chance decides how long things take. Without it they take as long as they usually do.
    pub chance: bool,
    /// Whether what happens is written down.
    pub listen: bool,
}

/// Where to kill the agent: at which of its effects, counted from 1, and on which side of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashPoint {
    /// The effect.
    pub effect: u64,
    /// Whether it is made before the kill.
    pub made: bool,
}

/// The made-up host with the agent on top.
pub struct World {
    pub(super) setting: Setting,
    epoch: Instant,
    pub(super) now: Micros,
    pub(super) dice: Random,
    queue: BTreeMap<(Micros, u64), Happening>,
    queued: u64,
    pub(super) usb: Usb,
    pub(super) store: Store,
    pub(super) qemus: BTreeMap<DomId, Qemu>,
    pub(super) guests: BTreeMap<DomId, GuestFacts>,
    /// Numbers of domains that are gone, and since when.
    pub(super) history: BTreeMap<DomId, Micros>,
    /// Known to the hypervisor, although its nodes are gone.
    pub(super) ghosts: BTreeSet<DomId>,
    pub(super) uuids: u64,
    /// The policy's own file.
    pub(super) main: Arc<Policy>,
    /// The text of the file of remembered rules.
    pub(super) remembered: Option<String>,
    /// Both together.
    pub(super) policy: Arc<Policy>,
    pub(super) agent: Option<Agent>,
    /// Counts the agent's lives: what belongs to an earlier one is void.
    pub(super) life: u64,
    pub(super) numbers: u64,
    /// What is on its way to the agent's ears.
    pub(super) rumours: BTreeSet<Word>,
    pub(super) faults: BTreeMap<Fault, u8>,
    /// How often in a row the same thing was made to fail.
    pub(super) misfortunes: BTreeMap<Option<BusId>, u8>,
    /// Devices taken out of the agent's port by xl, in this plug, and of which domain.
    pub(super) taken_out: BTreeMap<BusId, (PlugNo, DomId, GuestUuid)>,
    /// Devices that xl has had its hands on, or a backend by itself, in this plug.
    pub(super) touched: BTreeMap<BusId, PlugNo>,
    /// What people have asked of this agent.
    pub(super) asks: BTreeMap<RequestId, Asking>,
    /// The plugs that this agent has seen, by their place.
    pub(super) seen_plugs: BTreeMap<BusId, SeenPlugs>,
    /// What the world knows of those that trails speak of.
    pub(super) wakes: BTreeMap<BusId, Wake>,
    /// Devices about which a step of this agent has failed.
    pub(super) failed: BTreeSet<BusId>,
    /// When a domain last got another name.
    pub(super) renamed_at: Micros,
    /// When something that dom0 is operated with last went, not by the agent's doing.
    pub(super) desk_changed: Micros,
    /// Since when a port has named what is not plugged, as far as nothing kept the agent from it.
    pub(super) stale: BTreeMap<Place, Micros>,
    pub(super) next_check: Micros,
    pub(super) crash: Option<CrashPoint>,
    /// How many effects the agent has had, over all its lives.
    pub effects: u64,
    /// What was counted.
    pub counts: Counts,
    /// What was against the rules.
    pub violations: Vec<Violation>,
    /// What happened, if somebody listens.
    pub told: Vec<Told>,
}

/// What somebody has asked of the agent.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    pub(super) request: Request,
    /// Whether they still wait for what becomes of it.
    pub(super) waits: bool,
    /// Whether it is to be remembered.
    pub(super) remember: bool,
}

/// What is true of a domain's guest and known to no one outside.
#[derive(Clone, Debug)]
pub(super) struct GuestFacts {
    pub(super) spec: GuestSpec,
    pub(super) is_paused: bool,
    /// Whether it is being destroyed.
    pub(super) is_dying: bool,
    /// Whether it comes back after that.
    pub(super) back: bool,
}

/// Something that the agent may hear of; the same word on its way twice is heard once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Word {
    Usb,
    Device(BusId),
    Xen,
    Notes,
    Domain(DomId),
}

/// Something that will happen.
#[derive(Clone, Debug)]
pub(super) enum Happening {
    /// The kernel has chosen a configuration.
    Configured(BusId, PlugNo),
    /// dom0's drivers take the interfaces that nobody has.
    Bound(BusId, PlugNo),
    /// udev has finished.
    Initialized(BusId, PlugNo),
    /// Those who listen to udev have heard of the device.
    Known(BusId, PlugNo),
    /// A device comes (back).
    Replug(PlugSpec),
    /// A domain's device model reads its backends.
    QemuReads(DomId),
    /// A guest chooses a configuration: its device model claims the interfaces.
    Claimed(BusId, PlugNo, DomId),
    /// usbback reads the ports of its controllers.
    UsbbackReads,
    /// A guest looks at its frontend.
    FrontendActs(DomId, ControllerId),
    /// A backend looks at its frontend.
    BackendActs(DomId, ControllerId),
    /// A domain goes on being built or destroyed.
    Stage(DomId, GuestUuid, Stage),
    /// A rebooted domain comes back.
    Back(GuestSpec, GuestUuid),
    /// The toolstack starts a domain.
    Starts(GuestSpec),
    /// A rule is written into the file of remembered ones.
    Remembers(u64, Box<Device>, Option<GuestName>),
    /// xl goes on.
    Xl(Box<XlRun>),
    /// The agent hears.
    Hear(u64, Word),
    /// A look goes on.
    Look(u64, u64),
    /// A step goes on.
    Step(u64, u64),
    /// What a killed agent had asked of the kernel happens all the same.
    Orphan(InterfaceName, Option<PlugNo>, Asked),
    /// The connection to xenstore is back.
    Reconnect(u64),
    /// The agent is started.
    AgentStarts,
    /// Somebody who has asked waits no longer.
    Unasks(RequestId),
    /// The agent's patience with its own end is over.
    GiveUp(u64),
}

impl World {
    /// A world in which nothing has happened, and whose agent has just been started at `epoch`.
    pub fn new(setting: Setting, epoch: Instant) -> Self {
        let policy = setting.policies.first().and_then(|(_, policy)| policy.clone());
        let usb = Usb::new(setting.usbback, setting.held_back);
        let mut world = Self {
            setting,
            epoch,
            // Not zero, so that there is a past.
            now: 1_000_000,
            dice: Random::new(0),
            queue: BTreeMap::new(),
            queued: 0,
            usb,
            store: Store::default(),
            qemus: BTreeMap::new(),
            guests: BTreeMap::new(),
            history: BTreeMap::new(),
            ghosts: BTreeSet::new(),
            uuids: 0,
            main: policy.clone().unwrap_or_default(),
            remembered: None,
            policy: policy.unwrap_or_default(),
            agent: None,
            life: 0,
            numbers: 0,
            rumours: BTreeSet::new(),
            faults: BTreeMap::new(),
            misfortunes: BTreeMap::new(),
            taken_out: BTreeMap::new(),
            touched: BTreeMap::new(),
            asks: BTreeMap::new(),
            seen_plugs: BTreeMap::new(),
            wakes: BTreeMap::new(),
            failed: BTreeSet::new(),
            renamed_at: 0,
            desk_changed: 0,
            stale: BTreeMap::new(),
            next_check: 0,
            crash: None,
            effects: 0,
            counts: Counts::default(),
            violations: Vec::new(),
            told: Vec::new(),
        };
        world.start_agent();
        world
    }

    /// Kills the agent at this effect, and starts it again.
    pub fn crash_at(&mut self, point: CrashPoint) {
        self.crash = Some(point);
    }

    /// Lets one operation happen at its time, after everything that comes before it.
    pub fn play(&mut self, timed: &Timed) {
        let until = self.now + micros(timed.after);
        self.run_until(until);
        self.dice = Random::new(timed.dice);
        self.counts.op(&timed.op);
        self.apply(&timed.op);
        self.check_rules();
    }

    /// Lets time pass.
    pub fn run_until(&mut self, until: Micros) {
        while self.violations.is_empty() {
            match self.next_moment() {
                Some(when) if when <= until => self.go_on(),
                Some(_) | None => break,
            }
        }
        self.now = self.now.max(until);
    }

    /// Lets time pass until nothing more is going to happen. If that takes too long, it is a
    /// violation.
    pub fn come_to_rest(&mut self) {
        self.faults.clear();
        let started = self.now;
        for turn in 0_u32.. {
            if !self.violations.is_empty() || self.is_at_rest() {
                return;
            }
            if turn > 200_000 || self.now - started > 3_600_000_000 {
                let why = self.agent.as_ref().and_then(Agent::why_awake).unwrap_or("something");
                self.violate(0, format!("it never comes to rest: it waits for {why}"));
                return;
            }
            self.go_on();
        }
    }

    /// Whether nothing more is going to happen, but for looks by which the agent makes sure of that.
    fn is_at_rest(&self) -> bool {
        self.queue.is_empty() && self.agent.as_ref().is_none_or(Agent::is_at_rest)
    }

    fn next_moment(&self) -> Option<Micros> {
        let queued = self.queue.keys().next().map(|(when, _)| *when);
        let wake = self.agent.as_ref().and_then(|agent| agent.wake);
        [queued, wake].into_iter().flatten().min()
    }

    fn go_on(&mut self) {
        let queued = self.queue.keys().next().map(|(when, _)| *when);
        let wake = self.agent.as_ref().and_then(|agent| agent.wake);
        match (queued, wake) {
            (queued, Some(wake)) if queued.is_none_or(|queued| wake < queued) => {
                self.now = self.now.max(wake);
                self.agent_wakes();
            }
            _ => {
                let Some(((when, _), happening)) = self.queue.pop_first() else { return };
                self.now = self.now.max(when);
                self.counts.happenings += 1;
                self.happen(happening);
            }
        }
        self.check_rules();
    }

    pub(super) fn soon(&mut self, delay: Micros, happening: Happening) {
        self.queued += 1;
        self.queue.insert((self.now + delay, self.queued), happening);
    }

    /// How long something takes that usually takes `usual` and never more than `most`.
    pub(super) fn takes(&mut self, usual: Micros, most: Micros) -> Micros {
        if !self.setting.chance {
            return usual;
        }
        let end = if self.dice.one_in(8) { most } else { (2 * usual).min(most) };
        self.dice.below(end + 1)
    }

    pub(super) fn instant(&self) -> Instant {
        self.epoch + Duration::from_micros(self.now)
    }

    /// The world's time of an instant, rounded up, so that what is to come has come.
    pub(super) fn micros_of(&self, when: Instant) -> Micros {
        let since = when.saturating_duration_since(self.epoch);
        micros(since) + u64::from(!since.subsec_nanos().is_multiple_of(1000))
    }

    pub(super) fn violate(&mut self, rule: u8, what: String) {
        let at = self.time();
        self.violations.push(Violation { rule, at, what });
    }

    /// How long the world has been going on.
    pub fn time(&self) -> Duration {
        Duration::from_micros(self.now - 1_000_000)
    }

    pub(super) fn tell(&mut self, what: impl FnOnce() -> String) {
        if self.setting.listen {
            let at = self.time();
            self.told.push(Told::Happened(at, what()));
        }
    }

    /// Whether the agent is up.
    pub fn has_agent(&self) -> bool {
        self.agent.is_some()
    }

    /// The domain in whose port the device is now, and the port.
    pub fn whereabouts(&self, busid: &BusId) -> Option<(GuestName, Place)> {
        let place = self.store.places_of(busid).next()?;
        Some((self.store.domains.get(&place.domid)?.name.clone(), place))
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Plug(spec) => self.plug(spec),
            Op::Unplug(busid) => self.unplug(busid),
            Op::Morph { port, id } => self.morph(port, *id),
            Op::Start(spec) => self.create_domain(spec, spec.uuid),
            Op::Destroy(name) => self.destroy_domain(name, false),
            Op::Reboot(name) => self.reboot(name),
            Op::Crash(name) => self.crash_domain(name),
            Op::Rename { from, to } => self.rename(from, to),
            Op::Pause(name) => self.pause(name, true),
            Op::Unpause(name) => self.pause(name, false),
            Op::KillDeviceModel(name) => self.kill_device_model(name),
            Op::DeviceModelReady(name) => self.device_model_ready(name),
            Op::Frontend { domain, state } => self.guest_writes(domain, *state),
            Op::XlControllerAttach { domain, spec } => self.xl_controller_attach(domain, *spec),
            Op::XlControllerDetach { domain, controller } => {
                self.xl_controller_detach(domain, *controller);
            }
            Op::XlAttach { domain, device } => self.xl_attach(domain, device),
            Op::XlDetach { device } => self.xl_detach(device),
            Op::Ask { request, wait, remember } => self.ask(request, *wait, *remember),
            Op::RebootHost { down } => self.reboot_host(micros(*down)),
            Op::Use { device, what } => self.begin_use(device, what),
            Op::Disuse { device, what } => self.end_use(device, what),
            Op::Fault { kind, times } => {
                let count = self.faults.entry(*kind).or_default();
                *count = count.saturating_add(*times).min(8);
            }
            Op::Hang { port, duration } => {
                let until = self.now + micros(*duration);
                if let Some(socket) = self.usb.sockets.get_mut(port) {
                    socket.hangs_until = until;
                    self.tell(|| format!("the kernel is busy with {port} for {duration:?}"));
                }
            }
            Op::LoseEvents => {
                self.tell(|| "udev's queue overflows".to_owned());
                self.lose_events();
            }
            Op::Disconnect { duration } => self.disconnect(*duration),
            Op::Reload(name) => self.reload(name),
            Op::Kill { down } => {
                self.tell(|| "the agent is killed".to_owned());
                self.kill_agent(micros(*down));
            }
            Op::Stop { detach, down } => self.stop_agent(*detach, micros(*down)),
            Op::Expect(expectation) => self.compare(expectation),
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Configured(busid, plug_no) => self.configured(&busid, plug_no),
            Happening::Bound(busid, plug_no) => self.bound(&busid, plug_no),
            Happening::Initialized(busid, plug_no) => self.initialized(&busid, plug_no),
            Happening::Known(busid, plug_no) => {
                let now = self.now;
                if let Some(socket) = self.usb.get_mut(&busid, plug_no) {
                    socket.known_at = Some(now);
                }
            }
            Happening::Replug(spec) => self.plug(&spec),
            Happening::QemuReads(domid) => self.qemu_reads(domid),
            Happening::Claimed(busid, plug_no, domid) => self.claimed(&busid, plug_no, domid),
            Happening::UsbbackReads => self.usbback_reads(),
            Happening::FrontendActs(domid, id) => self.frontend_acts(domid, id),
            Happening::BackendActs(domid, id) => self.backend_acts(domid, id),
            Happening::Stage(domid, uuid, stage) => self.stage(domid, uuid, stage),
            Happening::Back(spec, uuid) => self.create_domain(&spec, Some(uuid)),
            Happening::Starts(spec) => self.create_domain(&spec, None),
            Happening::Remembers(life, device, target) => {
                if life == self.life {
                    self.remembers(&device, target.as_ref());
                }
            }
            Happening::Xl(run) => self.xl_goes_on(*run),
            Happening::Hear(life, word) => {
                if life == self.life {
                    self.rumours.remove(&word);
                    self.hear(word);
                }
            }
            Happening::Look(life, number) if life == self.life => self.look_goes_on(number),
            Happening::Step(life, number) if life == self.life => self.step_goes_on(number),
            Happening::Look(..) | Happening::Step(..) => {}
            Happening::Orphan(interface, plug_no, asked) => {
                self.kernel_does(&interface, plug_no, asked);
            }
            Happening::Reconnect(life) => {
                if life == self.life {
                    self.reconnect();
                }
            }
            Happening::AgentStarts => {
                if self.agent.is_none() {
                    self.tell(|| "the agent is started".to_owned());
                    self.start_agent();
                }
            }
            Happening::Unasks(id) => self.unask(id),
            Happening::GiveUp(life) => {
                if life == self.life && self.agent.is_some() {
                    self.agent_ended(false);
                }
            }
        }
    }

    fn plug(&mut self, spec: &PlugSpec) {
        let Some(plug_no) = self.usb.plug(spec) else { return };
        let busid = spec.device.busid.clone();
        self.tell(|| {
            let product = spec.device.product.as_ref().map_or("a device", Text::as_str);
            format!("{product} ({}) is plugged into {busid}", spec.device.id)
        });
        let configured = self.takes(3_000, 40_000);
        let bound = configured + self.takes(2_000, 60_000);
        let initialized = self.takes(8_000, 1_500_000);
        self.soon(configured, Happening::Configured(busid.clone(), plug_no));
        self.soon(bound, Happening::Bound(busid.clone(), plug_no));
        self.soon(initialized, Happening::Initialized(busid, plug_no));
    }

    fn unplug(&mut self, busid: &BusId) {
        for socket in self.usb.unplug(busid) {
            let gone = socket.device.busid.clone();
            self.tell(|| format!("{gone} is pulled"));
            self.desk_changes(&gone, &socket.device);
            self.taken_out.remove(&gone);
            self.may_vanish(&gone, socket.plug_no);
            self.rumour_of_device(gone);
        }
    }

    fn morph(&mut self, port: &BusId, id: crate::model::UsbId) {
        let Some(socket) = self.usb.sockets.get(port).filter(|socket| !socket.spec.hub()) else {
            return;
        };
        let mut spec = socket.spec.clone();
        spec.device.id = id;
        self.unplug(port);
        let back = self.takes(300_000, 2_000_000);
        self.soon(back, Happening::Replug(spec));
    }

    fn configured(&mut self, busid: &BusId, plug_no: PlugNo) {
        let listed = self.usb.port_ids.contains_key(busid);
        let held_back = self.usb.held_back;
        let Some(socket) = self.usb.get_mut(busid, plug_no) else { return };
        if socket.device.configured {
            return;
        }
        socket.configure(held_back);
        // usbback's id table matches everything: what no driver wants is its own, if it is told of
        // the port (`usbstub.c: usbstub_probe`).
        if listed && !held_back && !socket.spec.hub() && !socket.spec.refused {
            let orphans: Vec<_> = socket
                .device
                .driverless()
                .filter(|name| socket.native(name).is_none())
                .cloned()
                .collect();
            if !orphans.is_empty() {
                self.touched.insert(busid.clone(), plug_no);
            }
            for name in orphans {
                self.set_driver(&name, Some(super::usb::USBBACK.into()));
            }
        }
    }

    /// dom0's drivers take what nobody has.
    fn bound(&mut self, busid: &BusId, plug_no: PlugNo) {
        let Some(socket) = self.usb.get(busid, plug_no) else { return };
        let driverless: Vec<_> = socket.device.driverless().cloned().collect();
        for name in driverless {
            if let Some(driver) = self.usb.native(&name).filter(|_| self.is_authorized(&name)) {
                self.set_driver(&name, Some(driver));
            }
        }
        // What is mounted as soon as it is there, say. Who is an input device, udev finds out.
        let uses = self.usb.get(busid, plug_no).map(|socket| socket.spec.device.uses.clone());
        for what in uses.into_iter().flatten() {
            if !matches!(what, Use::Keyboard | Use::Pointer) {
                self.begin_use(busid, &what);
            }
        }
    }

    fn initialized(&mut self, busid: &BusId, plug_no: PlugNo) {
        let now = self.now;
        let Some(socket) = self.usb.get_mut(busid, plug_no) else { return };
        // udev is told after the kernel has chosen a configuration.
        if !socket.device.configured {
            return self.soon(1_000, Happening::Initialized(busid.clone(), plug_no));
        }
        socket.initialize(now);
        let known = self.takes(5_000, 60_000);
        self.soon(known, Happening::Known(busid.clone(), plug_no));
        self.qemus_scan(busid, plug_no);
        self.rumour_of_device(busid.clone());
    }

    pub(super) fn set_driver(&mut self, name: &InterfaceName, driver: Option<Box<str>>) {
        let now = self.now;
        if let Some(socket) = self.usb.sockets.get_mut(name.busid()) {
            socket.rebound_at = now;
        }
        let Some(interface) = self.usb.interface_mut(name) else { return };
        interface.driver = driver;
        let Some(socket) = self.usb.sockets.get_mut(name.busid()) else { return };
        let before = socket.device.clone();
        socket.refresh();
        if socket.device.uses != before.uses {
            self.desk_changes(name.busid(), &before);
        }
        self.rumour_of_device(name.busid().clone());
    }

    /// What may have no driver loses the one that it has; what may have one gets none by that alone, and
    /// nobody is told (`drivers/usb/core/message.c: usb_authorize_interface`).
    pub(super) fn set_authorized(&mut self, name: &InterfaceName, allowed: bool) {
        let Some(interface) = self.usb.interface_mut(name) else { return };
        interface.authorized = allowed;
        if !allowed && interface.driver.is_some() {
            self.set_driver(name, None);
        }
    }

    pub(super) fn is_authorized(&self, name: &InterfaceName) -> bool {
        let device = self.usb.sockets.get(name.busid()).map(|socket| &socket.device);
        device.and_then(|device| device.interfaces.get(name)).is_some_and(|i| i.authorized)
    }

    /// udev tells of a device, in a moment.
    pub(super) fn rumour_of_device(&mut self, busid: BusId) {
        let delay = self.takes(2_000, 300_000);
        self.rumour(Word::Device(busid), delay);
    }

    /// A watch fires for something of a domain.
    pub(super) fn rumour_of_domain(&mut self, domid: DomId) {
        let delay = self.takes(500, 100_000);
        self.rumour(Word::Domain(domid), delay);
    }

    /// A watch fires for all domains.
    pub(super) fn rumour_of_domains(&mut self) {
        let delay = self.takes(500, 100_000);
        self.rumour(Word::Xen, delay);
    }

    pub(super) fn rumour_of_notes(&mut self) {
        let delay = self.takes(500, 100_000);
        self.rumour(Word::Notes, delay);
    }

    fn rumour(&mut self, word: Word, delay: Micros) {
        let is_usb = matches!(word, Word::Usb | Word::Device(_));
        let hears = self.agent.as_ref().is_some_and(|agent| is_usb || agent.connected);
        if hears && self.rumours.insert(word.clone()) {
            self.soon(delay, Happening::Hear(self.life, word));
        }
    }

    fn lose_events(&mut self) {
        let lost: Vec<_> = self
            .queue
            .iter()
            .filter(|(_, what)| matches!(what, Happening::Hear(_, Word::Device(_) | Word::Usb)))
            .map(|(key, _)| *key)
            .collect();
        for key in lost {
            if let Some(Happening::Hear(_, word)) = self.queue.remove(&key) {
                self.rumours.remove(&word);
            }
        }
        // libudev says that it has lost something; the agent then looks at everything.
        let delay = self.takes(1_000, 200_000);
        self.rumour(Word::Usb, delay);
    }

    /// Nothing of what was to come comes.
    pub(super) fn forget_happenings(&mut self) {
        self.queue.clear();
        self.rumours.clear();
    }

    /// Forgets what was on its way to the ears of an agent or a connection that is gone.
    pub(super) fn forget_rumours(&mut self, of_xen_only: bool) {
        let is_void = |word: &Word| !of_xen_only || !matches!(word, Word::Usb | Word::Device(_));
        self.queue.retain(|_, what| !matches!(what, Happening::Hear(_, word) if is_void(word)));
        self.rumours.retain(|word| !is_void(word));
    }

    pub(super) fn scope(word: Word) -> Scope {
        match word {
            Word::Usb => Scope::Usb,
            Word::Device(busid) => Scope::Device(busid),
            Word::Xen => Scope::Xen,
            Word::Notes => Scope::Domains(BTreeSet::new()),
            Word::Domain(domid) => Scope::Domains([domid].into()),
        }
    }

    /// Whether this misfortune is due to whatever it would happen to. The same thing never has more
    /// than four in a row: faults are passing ones, and the agent gives up after eight.
    pub(super) fn strikes(&mut self, kind: Fault, whom: Option<&BusId>) -> bool {
        let Some(left) = self.faults.get_mut(&kind).filter(|left| **left > 0) else { return false };
        let in_a_row = self.misfortunes.entry(whom.cloned()).or_default();
        if *in_a_row >= 4 {
            return false;
        }
        *in_a_row += 1;
        *left -= 1;
        self.counts.faults += 1;
        true
    }

    pub(super) fn serves_qusb(spec: ModelSpec) -> bool {
        matches!(spec, ModelSpec::Qusb | ModelSpec::Deaf | ModelSpec::Starting)
    }
}

pub(super) fn micros(duration: Duration) -> Micros {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 4)
}
