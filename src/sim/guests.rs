//! Domains and what belongs to them: their lives, their device models, usbback, their guests.

use super::op::{GuestSpec, ModelSpec};
use super::store::{Ctl, Domain, Hand};
use super::usb::{Micros, PlugNo, USBBACK, USBFS};
use super::world::{GuestFacts, Happening, World, micros};
use crate::model::{
    BusId, ControllerId, ControllerKind, DeviceModel, DomId, GuestName, GuestUuid, InterfaceName,
    Life, Place, PortNumber, XenbusState,
};
use std::collections::BTreeMap;

/// How long the number of a domain that is gone is not used again
/// (`libxl_internal.h: LIBXL_DOMID_REUSE_TIMEOUT`).
const REUSE: Micros = 60_000_000;

/// The highest number that is used as long as there are others: reuse is to be met with.
const FEW_NUMBERS: u16 = 6;

/// The longest that a device model takes until it reads a port. What has rested longer has been
/// seen empty; the agent lets ports rest for 2.5 s.
const QEMU_LAG: Micros = 900_000;

/// A domain's device model in dom0.
#[derive(Clone, Debug)]
pub(super) struct Qemu {
    pub(super) spec: ModelSpec,
    is_ready: bool,
    pub(super) is_alive: bool,
    /// The devices that it has.
    pub(super) held: BTreeMap<(ControllerId, PortNumber), Held>,
}

/// A device that a device model has opened.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) busid: BusId,
    pub(super) plug_no: PlugNo,
    pub(super) tenancy: u64,
    pub(super) by: Hand,
}

/// How far the toolstack is with a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its nodes are written.
    Nodes,
    /// It is built.
    Built,
    /// Being destroyed: one of its controllers goes.
    Controller(ControllerId),
    /// Its nodes go.
    Unlisted,
    /// The hypervisor drops it.
    Gone,
}

impl Qemu {
    fn reads(&self) -> bool {
        self.is_alive && self.is_ready && matches!(self.spec, ModelSpec::Qusb | ModelSpec::Starting)
    }
}

impl World {
    pub(super) fn create_domain(&mut self, spec: &GuestSpec, uuid: Option<GuestUuid>) {
        let Some(domid) = self.free_domid() else { return };
        self.uuids += 1;
        let fresh = format!("6d3ae5a6-2c8c-4c8b-9d1e-{:012x}", self.uuids).parse();
        let Some(uuid) = uuid.or(fresh.ok()) else { return };
        let model = match spec.model {
            ModelSpec::Absent => DeviceModel::Absent,
            ModelSpec::Starting | ModelSpec::WithoutQusb | ModelSpec::Qusb | ModelSpec::Deaf => {
                DeviceModel::Starting
            }
        };
        let domain = Domain {
            domid,
            uuid,
            name: spec.name.clone(),
            kind: spec.kind,
            has_nodes: false,
            is_built: false,
            is_introduced: false,
            model,
            controllers: BTreeMap::new(),
        };
        self.tell(|| format!("domain {} ({domid}) is being built", spec.name));
        self.history.remove(&domid);
        self.ghosts.remove(&domid);
        // What was taken out of a domain of this number, and may be of this UUID, was so until that ended.
        self.taken_out.retain(|_, (_, at, _)| *at != domid);
        self.store.domains.insert(domid, domain);
        let facts =
            GuestFacts { spec: spec.clone(), is_paused: false, is_dying: false, back: false };
        self.guests.insert(domid, facts);
        if spec.model != ModelSpec::Absent {
            let qemu = Qemu {
                spec: spec.model,
                is_ready: spec.model != ModelSpec::Starting,
                is_alive: true,
                held: BTreeMap::new(),
            };
            self.qemus.insert(domid, qemu);
        }
        self.store.changed();
        self.rumour_of_domain(domid);
        let nodes = self.takes(10_000, 200_000);
        self.soon(nodes, Happening::Stage(domid, uuid, Stage::Nodes));
        self.soon(nodes + micros(spec.build), Happening::Stage(domid, uuid, Stage::Built));
    }

    fn free_domid(&self) -> Option<DomId> {
        let is_free = |number: &u16| {
            let domid = number.to_string().parse::<DomId>().ok();
            domid.filter(|domid| {
                let rested = self.history.get(domid).is_none_or(|since| self.now >= since + REUSE);
                rested && !self.store.domains.contains_key(domid) && !self.ghosts.contains(domid)
            })
        };
        (1..=FEW_NUMBERS).chain(FEW_NUMBERS + 1..32_000).find_map(|number| is_free(&number))
    }

    /// Everything below a domain that is of this name, also if it is dead.
    fn any_named(&self, name: &GuestName) -> Option<DomId> {
        let alive = |domid: &DomId| self.guests.get(domid).is_some_and(|facts| !facts.is_dying);
        let dead = || {
            let mut domains = self.store.domains.values().filter(|domain| domain.name == *name);
            domains.find(|domain| alive(&domain.domid)).map(|domain| domain.domid)
        };
        self.store.named(name).filter(alive).or_else(dead)
    }

    pub(super) fn stage(&mut self, domid: DomId, uuid: GuestUuid, stage: Stage) {
        let same = |domain: &&mut Domain| domain.uuid == uuid;
        match stage {
            Stage::Nodes => {
                let qemu = self.qemus.get(&domid);
                let serves = qemu.filter(|qemu| qemu.is_ready).map(|qemu| qemu.spec);
                let Some(domain) = self.store.domains.get_mut(&domid).filter(same) else { return };
                domain.has_nodes = true;
                domain.is_introduced = true;
                if let Some(spec) = serves {
                    domain.model = DeviceModel::Running { qusb: Self::serves_qusb(spec) };
                }
                self.domain_changed(domid);
                self.rumour_of_domains();
            }
            Stage::Built => {
                if self.store.domains.get(&domid).is_some_and(|domain| domain.uuid == uuid) {
                    self.make_configured_controllers(domid);
                }
                let Some(domain) = self.store.domains.get_mut(&domid).filter(same) else { return };
                domain.is_built = true;
                let name = domain.name.clone();
                self.tell(|| format!("domain {name} ({domid}) runs"));
                self.domain_changed(domid);
            }
            Stage::Controller(id) => {
                if self.store.domains.get(&domid).is_some_and(|domain| domain.uuid == uuid) {
                    self.libxl_destroys_controller(domid, id);
                }
            }
            Stage::Unlisted => {
                if self.store.domains.get(&domid).is_none_or(|domain| domain.uuid != uuid) {
                    return;
                }
                let ids: Vec<_> = self.store.domains[&domid].controllers.keys().copied().collect();
                // Made meanwhile, or given up because of a stale port: their backends stay.
                for id in ids {
                    let kind = self.store.domains[&domid].controllers[&id].kind;
                    self.store.backends.insert((domid, kind, id));
                }
                self.store.domains.remove(&domid);
                self.ghosts.insert(domid);
                self.store.changed();
                self.rumour_of_domain(domid);
                self.usbback_reads();
            }
            Stage::Gone => {
                self.ghosts.remove(&domid);
                self.history.insert(domid, self.now);
                self.qemus.remove(&domid);
                self.tell(|| format!("domain {domid} is gone"));
                self.rumour_of_domains();
                if let Some(facts) = self.guests.remove(&domid)
                    && facts.back
                {
                    self.soon(2_000_000, Happening::Back(facts.spec, uuid));
                }
            }
        }
    }

    /// Before the domain runs (`libxl_create.c: domcreate_attach_devices`).
    fn make_configured_controllers(&mut self, domid: DomId) {
        let Some(facts) = self.guests.get(&domid).filter(|facts| !facts.is_dying) else { return };
        let GuestSpec { name, controllers, .. } = facts.spec.clone();
        for spec in controllers {
            let Some(id) = self.store.next_id(domid) else { return };
            self.tell(|| {
                format!("domain {name} ({domid}) has controller {id} by its configuration")
            });
            self.add_controller(domid, id, Ctl::new(spec, Hand::Xl));
        }
    }

    pub(super) fn destroy_domain(&mut self, name: &GuestName, back: bool) {
        let Some(domid) = self.any_named(name) else { return };
        let Some(facts) = self.guests.get_mut(&domid) else { return };
        facts.is_dying = true;
        facts.back = back;
        self.tell(|| format!("domain {name} ({domid}) is being destroyed"));
        let Some(domain) = self.store.domains.get_mut(&domid) else { return };
        // libxl takes the device model's nodes first and does not wait for its end
        // (`libxl_domain.c: libxl__destroy_domid`).
        domain.model = DeviceModel::Absent;
        let uuid = domain.uuid;
        let ids: Vec<_> = domain.controllers.keys().copied().collect();
        self.domain_changed(domid);
        self.end_qemu(domid, true);
        let mut end = 0;
        for id in ids {
            let delay = self.takes(2_000_000, 4_000_000);
            end = end.max(delay);
            self.soon(delay, Happening::Stage(domid, uuid, Stage::Controller(id)));
        }
        let unlisted = end + self.takes(20_000, 300_000);
        let gone = unlisted + self.takes(100_000, 3_000_000);
        self.soon(unlisted, Happening::Stage(domid, uuid, Stage::Unlisted));
        self.soon(gone, Happening::Stage(domid, uuid, Stage::Gone));
    }

    /// libxl gives a controller up if one of its ports names what is not plugged
    /// (`libxl_usb.c: libxl__initiate_device_usbctrl_remove`): its backend stays behind.
    fn libxl_destroys_controller(&mut self, domid: DomId, id: ControllerId) {
        let Some(ctl) = self.store.ctl_mut(domid, id) else { return };
        let kind = ctl.kind;
        let tenants: Vec<(PortNumber, BusId)> = ctl
            .ports
            .iter()
            .filter_map(|(port, there)| Some((*port, there.tenant.as_ref()?.busid.clone())))
            .collect();
        if tenants.iter().any(|(_, busid)| !self.usb.sockets.contains_key(busid)) {
            return;
        }
        for (port, busid) in tenants {
            self.ends_wake(&busid, Place { domid, controller: id, port });
            if kind == ControllerKind::Pv {
                self.xl_gives_back(&busid);
            }
        }
        self.drop_controller(domid, id);
    }

    pub(super) fn reboot(&mut self, name: &GuestName) {
        self.destroy_domain(name, true);
    }

    pub(super) fn crash_domain(&mut self, name: &GuestName) {
        let Some(domid) = self.store.named(name) else { return };
        if self.guests.get(&domid).is_none_or(|facts| facts.is_dying) {
            return;
        }
        let Some(domain) = self.store.domains.get_mut(&domid).filter(|d| d.is_built) else {
            return;
        };
        self.counts.crashes += 1;
        domain.is_introduced = false;
        self.tell(|| format!("domain {name} ({domid}) has crashed, its nodes stay"));
        self.kill_qemu(domid, true);
        self.rumour_of_domains();
    }

    pub(super) fn rename(&mut self, from: &GuestName, to: &GuestName) {
        let Some(domid) = self.store.named(from) else { return };
        if let Some(domain) = self.store.domains.get_mut(&domid) {
            domain.name = to.clone();
        }
        self.renamed_at = self.now;
        self.tell(|| format!("domain {from} ({domid}) is {to} from now on"));
        self.domain_changed(domid);
    }

    pub(super) fn pause(&mut self, name: &GuestName, is_paused: bool) {
        let Some(domid) = self.store.named(name) else { return };
        let Some(facts) = self.guests.get_mut(&domid) else { return };
        facts.is_paused = is_paused;
        let what = if is_paused { "paused" } else { "unpaused" };
        self.tell(|| format!("domain {name} ({domid}) is {what}"));
        self.frontends_act(domid);
    }

    fn frontends_act(&mut self, domid: DomId) {
        let Some(domain) = self.store.domains.get(&domid) else { return };
        let ids: Vec<_> = domain.controllers.keys().copied().collect();
        for id in ids {
            let delay = self.takes(50_000, 2_000_000);
            self.soon(delay, Happening::FrontendActs(domid, id));
        }
    }

    pub(super) fn kill_device_model(&mut self, name: &GuestName) {
        let Some(domid) = self.store.named(name) else { return };
        if self.qemus.get(&domid).is_some_and(|qemu| qemu.is_alive) {
            self.tell(|| format!("the device model of {name} ({domid}) dies"));
            self.kill_qemu(domid, false);
        }
    }

    /// The process ends and its nodes stay: nothing in xenstore tells, but the kernel does, of a process
    /// that serves controllers (`host/device_models.rs`).
    fn kill_qemu(&mut self, domid: DomId, in_peace: bool) {
        if self.qemus.contains_key(&domid) {
            if let Some(domain) = self.store.domains.get_mut(&domid) {
                domain.model = DeviceModel::Dead;
            }
            self.end_qemu(domid, in_peace);
            self.rumour_of_domain(domid);
        }
    }

    /// The process ends. If it can, it gives the drivers back (`host-libusb.c:
    /// usb_host_exit_notifier`).
    fn end_qemu(&mut self, domid: DomId, in_peace: bool) {
        let Some(qemu) = self.qemus.get_mut(&domid) else { return };
        qemu.is_alive = false;
        let held = std::mem::take(&mut qemu.held);
        for held in held.into_values() {
            self.let_go(&held, in_peace);
        }
    }

    fn let_go(&mut self, held: &Held, in_peace: bool) {
        let Some(socket) = self.usb.get(&held.busid, held.plug_no) else { return };
        let on_usbfs: Vec<InterfaceName> = socket.device.bound_to(USBFS).cloned().collect();
        for name in on_usbfs {
            self.set_driver(&name, None);
        }
        if in_peace {
            let delay = self.takes(300_000, 1_500_000);
            self.soon(delay, Happening::Bound(held.busid.clone(), held.plug_no));
        }
    }

    pub(super) fn device_model_ready(&mut self, name: &GuestName) {
        let Some(domid) = self.store.named(name) else { return };
        let Some(qemu) = self.qemus.get_mut(&domid).filter(|q| q.is_alive && !q.is_ready) else {
            return;
        };
        qemu.is_ready = true;
        let Some(domain) = self.store.domains.get_mut(&domid) else { return };
        domain.model = DeviceModel::Running { qusb: true };
        self.tell(|| format!("the device model of {name} ({domid}) is ready"));
        self.domain_changed(domid);
        self.soon(1_000, Happening::QemuReads(domid));
    }

    pub(super) fn guest_writes(&mut self, name: &GuestName, state: XenbusState) {
        let Some(domid) = self.store.named(name) else { return };
        let Some(domain) = self.store.domains.get_mut(&domid) else { return };
        let mut ids = Vec::new();
        for (id, ctl) in &mut domain.controllers {
            ctl.frontend = state;
            ids.push(*id);
        }
        self.tell(|| format!("the guest in {name} writes {state:?} into its frontends"));
        for id in ids {
            let delay = self.takes(2_000, 300_000);
            self.soon(delay, Happening::BackendActs(domid, id));
            self.soon(delay + 50_000, Happening::FrontendActs(domid, id));
        }
    }

    pub(super) fn domain_changed(&mut self, domid: DomId) {
        self.store.changed();
        self.rumour_of_domain(domid);
    }

    pub(super) fn add_controller(&mut self, domid: DomId, id: ControllerId, ctl: Ctl) {
        let kind = ctl.kind;
        self.store.backends.remove(&(domid, kind, id));
        if let Some(domain) = self.store.domains.get_mut(&domid) {
            domain.controllers.insert(id, ctl);
        }
        self.domain_changed(domid);
        self.backend_reads(domid, kind);
    }

    pub(super) fn drop_controller(&mut self, domid: DomId, id: ControllerId) {
        let Some(domain) = self.store.domains.get_mut(&domid) else { return };
        let Some(ctl) = domain.controllers.remove(&id) else { return };
        self.domain_changed(domid);
        self.backend_reads(domid, ctl.kind);
    }

    pub(super) fn port_changed(&mut self, place: Place) {
        self.domain_changed(place.domid);
        let kind = self.store.ctl(place).map_or(ControllerKind::Qusb, |ctl| ctl.kind);
        self.backend_reads(place.domid, kind);
    }

    fn backend_reads(&mut self, domid: DomId, kind: ControllerKind) {
        match kind {
            ControllerKind::Qusb => {
                let delay = self.takes(5_000, QEMU_LAG);
                self.soon(delay, Happening::QemuReads(domid));
            }
            ControllerKind::Pv => {
                let delay = self.takes(3_000, 500_000);
                self.soon(delay, Happening::UsbbackReads);
            }
            ControllerKind::DeviceModel => {}
        }
    }

    /// `xen-usb.c: usbback_backend_changed`: every port is read, whatever has changed.
    pub(super) fn qemu_reads(&mut self, domid: DomId) {
        let Some(mut qemu) = self.qemus.remove(&domid) else { return };
        let aborts = qemu.reads() && self.qemu_reads_ports(domid, &mut qemu);
        self.qemus.insert(domid, qemu);
        if aborts {
            self.counts.aborts += 1;
            self.tell(|| format!("the device model of domain {domid} aborts"));
            self.kill_qemu(domid, false);
        }
    }

    fn qemu_reads_ports(&mut self, domid: DomId, qemu: &mut Qemu) -> bool {
        let controllers = match self.store.domains.get_mut(&domid) {
            Some(domain) => &mut domain.controllers,
            None => &mut BTreeMap::new(),
        };
        let mut is_new = Vec::new();
        let mut content = BTreeMap::new();
        for (id, ctl) in controllers.iter_mut().filter(|(_, c)| c.kind == ControllerKind::Qusb) {
            if ctl.backend == XenbusState::Initialising {
                ctl.backend = XenbusState::InitWait;
                is_new.push(*id);
            }
            for (port, there) in &ctl.ports {
                if let Some(tenant) = &there.tenant {
                    content.insert((*id, *port), tenant.clone());
                }
            }
        }
        for id in is_new {
            self.domain_changed(domid);
            let delay = self.takes(50_000, 2_000_000);
            self.soon(delay, Happening::FrontendActs(domid, id));
            self.soon(1_000, Happening::BackendActs(domid, id));
        }

        let emptied: Vec<_> =
            qemu.held.keys().filter(|key| !content.contains_key(key)).copied().collect();
        for key in emptied {
            if let Some(held) = qemu.held.remove(&key) {
                self.let_go(&held, true);
            }
        }
        for (key, tenant) in content {
            let by_agent = tenant.by == Hand::Agent;
            if let Some(held) = qemu.held.get(&key) {
                // What is there already is left as it is: the new device is lost without a word.
                if held.tenancy != tenant.tenancy && by_agent && held.by == Hand::Agent {
                    let what = format!(
                        "domain {domid} port {}: refilled before its device model saw it empty",
                        key.1
                    );
                    self.violate(0, what);
                }
                continue;
            }
            if let Some((_, other)) = qemu.held.iter().find(|((_, port), _)| *port == key.1) {
                // Whoever came later could have seen the other one, and xl does not look.
                let later = if other.tenancy > tenant.tenancy { other.by } else { tenant.by };
                if later == Hand::Agent {
                    let what = format!("domain {domid}: port number {} is used twice", key.1);
                    self.violate(0, what);
                }
                return true;
            }
            let now = self.now;
            let Some(socket) = self.usb.sockets.get(&tenant.busid) else { return true };
            if socket.known_at.is_none_or(|known| known > now) {
                let busid = &tenant.busid;
                let replugged = tenant.plug_no != Some(socket.plug_no);
                if by_agent && !replugged && !self.policy.settle().is_zero() {
                    let what = format!("{busid} is handed to domain {domid} before it has settled");
                    self.violate(0, what);
                }
                return true;
            }
            let held = Held {
                busid: tenant.busid.clone(),
                plug_no: socket.plug_no,
                tenancy: tenant.tenancy,
                by: tenant.by,
            };
            let delay = self.takes(100_000, 700_000);
            self.soon(delay, Happening::Claimed(held.busid.clone(), held.plug_no, domid));
            let names: Vec<_> = self
                .usb
                .sockets
                .get(&held.busid)
                .map(|socket| socket.device.interfaces.keys().cloned().collect())
                .unwrap_or_default();
            for name in names {
                self.set_driver(&name, None);
            }
            qemu.held.insert(key, held);
        }
        false
    }

    pub(super) fn claimed(&mut self, busid: &BusId, plug_no: PlugNo, domid: DomId) {
        let Some(qemu) = self.qemus.get(&domid).filter(|qemu| qemu.is_alive) else { return };
        if !qemu.held.values().any(|held| held.busid == *busid) {
            return;
        }
        let Some(socket) = self.usb.get(busid, plug_no) else { return };
        // What is not authorized, nobody can claim (`drivers/usb/core/driver.c:
        // usb_driver_claim_interface`).
        let names: Vec<_> = socket.device.authorized().cloned().collect();
        for name in names {
            self.set_driver(&name, Some(USBFS.into()));
        }
        let mut by_itself = false;
        if let Some(qemu) = self.qemus.get_mut(&domid) {
            for held in qemu.held.values_mut().filter(|held| held.busid == *busid) {
                by_itself |= held.plug_no != plug_no;
                held.plug_no = plug_no;
            }
        }
        if by_itself {
            self.touched.insert(busid.clone(), plug_no);
        }
    }

    /// A device that comes back into a place that a device model still has is opened again by
    /// itself (`host-libusb.c: usb_host_auto_timer`).
    pub(super) fn qemus_scan(&mut self, busid: &BusId, plug_no: PlugNo) {
        let holders: Vec<DomId> = self
            .qemus
            .iter()
            .filter(|(_, qemu)| qemu.is_alive)
            .filter(|(_, qemu)| qemu.held.values().any(|held| held.busid == *busid))
            .map(|(domid, _)| *domid)
            .collect();
        for domid in holders {
            let delay = self.takes(1_000_000, 2_000_000);
            self.soon(delay, Happening::Claimed(busid.clone(), plug_no, domid));
        }
    }

    /// usbback reads the ports of its connected controllers into its list.
    pub(super) fn usbback_reads(&mut self) {
        if !self.usb.usbback {
            return;
        }
        let mut list = BTreeMap::new();
        let mut is_new = Vec::new();
        for domain in self.store.domains.values_mut() {
            for (id, ctl) in &mut domain.controllers {
                if ctl.kind != ControllerKind::Pv {
                    continue;
                }
                if ctl.backend == XenbusState::Initialising {
                    ctl.backend = XenbusState::InitWait;
                    is_new.push((domain.domid, *id));
                }
                for (port, there) in &ctl.ports {
                    let place = Place { domid: domain.domid, controller: *id, port: *port };
                    if ctl.backend == XenbusState::Connected
                        && let Some(tenant) = &there.tenant
                    {
                        list.insert(tenant.busid.clone(), place);
                    }
                }
            }
        }
        self.usb.port_ids = list;
        for (domid, id) in is_new {
            self.domain_changed(domid);
            let delay = self.takes(50_000, 2_000_000);
            self.soon(delay, Happening::FrontendActs(domid, id));
        }
    }

    pub(super) fn frontend_acts(&mut self, domid: DomId, id: ControllerId) {
        use XenbusState as S;
        let facts = self.guests.get(&domid);
        if facts.is_none_or(|facts| !facts.spec.frontend || facts.is_paused || facts.is_dying) {
            return;
        }
        let Some(ctl) = self.store.ctl_mut(domid, id) else { return };
        ctl.frontend = match (ctl.frontend, ctl.backend) {
            (S::Initialising, S::InitWait | S::Initialised | S::Connected) => S::Connected,
            (S::Connected, S::Closing | S::Closed) => S::Closed,
            _ => return,
        };
        let delay = self.takes(5_000, 200_000);
        self.soon(delay, Happening::BackendActs(domid, id));
    }

    /// `xen-legacy-backend.c: xen_be_check_state`, and what the kernel's usbback makes of the same.
    pub(super) fn backend_acts(&mut self, domid: DomId, id: ControllerId) {
        use XenbusState as S;
        let reads = self.qemus.get(&domid).is_some_and(Qemu::reads);
        let usbback = self.usb.usbback;
        let Some(ctl) = self.store.ctl_mut(domid, id) else { return };
        let serves = match ctl.kind {
            ControllerKind::Qusb => reads,
            ControllerKind::Pv => usbback,
            ControllerKind::DeviceModel => false,
        };
        let kind = ctl.kind;
        let next = match (ctl.frontend, ctl.backend) {
            _ if !serves => return,
            (S::Initialised | S::Connected, S::InitWait | S::Initialised) => S::Connected,
            (S::Closing, S::InitWait | S::Initialised | S::Connected) => S::Closing,
            (S::Closed, S::InitWait | S::Initialised | S::Connected | S::Closing) => S::Closed,
            (S::Initialising, S::Closed) => S::InitWait,
            _ => return,
        };
        ctl.backend = next;
        self.domain_changed(domid);
        if next == S::InitWait {
            let delay = self.takes(50_000, 500_000);
            self.soon(delay, Happening::FrontendActs(domid, id));
        }
        if kind == ControllerKind::Pv {
            self.backend_reads(domid, kind);
        }
    }

    pub(super) fn is_on_usbback(&self, busid: &BusId) -> bool {
        self.usb.sockets.get(busid).is_some_and(|socket| socket.is_on(USBBACK))
    }

    /// Whether the domain runs and nobody is about to end it.
    pub(super) fn runs(&self, domid: DomId) -> bool {
        self.store
            .domains
            .get(&domid)
            .is_some_and(|domain| domain.has_nodes && domain.life() == Life::Running)
    }
}
