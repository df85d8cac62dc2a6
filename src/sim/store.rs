//! xenstore's side of the made-up host: domains, controllers, ports, and the agent's notes.
//!
//! Not nodes, but what nodes say: the executor's transactions appear here as one change each.

use super::usb::PlugNo;
use crate::model::{
    BusId, Controller, ControllerId, ControllerKind, ControllerSpec, DeviceModel, DomId, Guest,
    GuestKind, GuestName, GuestUuid, InterfaceName, Leftover, Life, Note, Override, Place,
    PortContent, PortNumber, Returns, Trail, UsbVersion, XenPart, XenView, XenbusState,
};
use std::collections::{BTreeMap, BTreeSet};

/// Whose doing something was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hand {
    Agent,
    Xl,
}

/// Everything that xenstore and libxl's directory hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Store {
    pub(super) domains: BTreeMap<DomId, Domain>,
    pub(super) notes: BTreeMap<BusId, Note>,
    pub(super) returns: Returns,
    /// What people said over the policy's head.
    pub(super) overrides: BTreeMap<BusId, Override>,
    /// What was left for those that follow.
    pub(super) trails: BTreeMap<BusId, Trail>,
    /// Backends without their domain, by the reason why libxl left them.
    pub(super) backends: BTreeSet<(DomId, ControllerKind, ControllerId)>,
    /// Counts changes, so that a transaction knows whether there was one.
    pub(super) stamp: u64,
    /// How many ports were ever filled.
    pub(super) tenancies: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Domain {
    pub(super) domid: DomId,
    pub(super) uuid: GuestUuid,
    pub(super) name: GuestName,
    pub(super) kind: GuestKind,
    /// Whether its type, its UUID and its name are there.
    pub(super) has_nodes: bool,
    pub(super) is_built: bool,
    pub(super) is_introduced: bool,
    pub(super) model: DeviceModel,
    pub(super) controllers: BTreeMap<ControllerId, Ctl>,
}

#[derive(Clone, Debug)]
pub(super) struct Ctl {
    pub(super) kind: ControllerKind,
    pub(super) version: UsbVersion,
    pub(super) backend: XenbusState,
    pub(super) frontend: XenbusState,
    pub(super) maker: Hand,
    pub(super) ports: BTreeMap<PortNumber, Port>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Port {
    pub(super) tenant: Option<Tenant>,
}

/// What a port names, and since when it does.
#[derive(Clone, Debug)]
pub(super) struct Tenant {
    pub(super) busid: BusId,
    pub(super) by: Hand,
    /// What was plugged there when it was written.
    pub(super) plug_no: Option<PlugNo>,
    /// Tells it from any other.
    pub(super) tenancy: u64,
}

impl Store {
    pub(super) fn changed(&mut self) {
        self.stamp += 1;
    }

    pub(super) fn named(&self, name: &GuestName) -> Option<DomId> {
        let lives = |d: &&Domain| d.has_nodes && d.name == *name && d.life() != Life::Dead;
        self.domains.values().find(lives).map(|domain| domain.domid)
    }

    pub(super) fn ctl(&self, place: Place) -> Option<&Ctl> {
        self.domains.get(&place.domid)?.controllers.get(&place.controller)
    }

    pub(super) fn ctl_mut(&mut self, domid: DomId, id: ControllerId) -> Option<&mut Ctl> {
        self.domains.get_mut(&domid)?.controllers.get_mut(&id)
    }

    pub(super) fn port(&self, place: Place) -> Option<&Port> {
        self.ctl(place)?.ports.get(&place.port)
    }

    pub(super) fn ports(&self) -> impl Iterator<Item = (Place, &Port)> {
        self.domains.values().flat_map(|domain| {
            domain.controllers.iter().flat_map(|(id, ctl)| {
                let at = |port| Place { domid: domain.domid, controller: *id, port };
                ctl.ports.iter().map(move |(port, content)| (at(*port), content))
            })
        })
    }

    pub(super) fn tenants(&self) -> impl Iterator<Item = (Place, &Tenant)> {
        self.ports().filter_map(|(place, port)| Some((place, port.tenant.as_ref()?)))
    }

    pub(super) fn places_of<'a>(&'a self, busid: &'a BusId) -> impl Iterator<Item = Place> + 'a {
        self.tenants().filter(move |(_, tenant)| tenant.busid == *busid).map(|(place, _)| place)
    }

    pub(super) fn fill(&mut self, place: Place, busid: &BusId, by: Hand, plug_no: Option<PlugNo>) {
        self.tenancies += 1;
        let tenant = Tenant { busid: busid.clone(), by, plug_no, tenancy: self.tenancies };
        let ctl = self.ctl_mut(place.domid, place.controller);
        if let Some(port) = ctl.and_then(|ctl| ctl.ports.get_mut(&place.port)) {
            port.tenant = Some(tenant);
        }
        self.changed();
    }

    pub(super) fn empty(&mut self, place: Place) {
        let ctl = self.ctl_mut(place.domid, place.controller);
        if let Some(port) = ctl.and_then(|ctl| ctl.ports.get_mut(&place.port)) {
            port.tenant = None;
        }
        self.changed();
    }

    /// The number that a new controller gets from libxl (`libxl_device.c: libxl__device_nextid`).
    pub(super) fn next_id(&self, domid: DomId) -> Option<ControllerId> {
        let domain = self.domains.get(&domid)?;
        match domain.controllers.keys().max() {
            None => Some(ControllerId::FIRST),
            Some(last) => last.next(),
        }
    }

    /// All of it, as the agent's reader would see it.
    pub(super) fn view(&self) -> XenView {
        XenView {
            domids: self.domids(),
            guests: self
                .domains
                .keys()
                .filter_map(|domid| Some((*domid, self.guest(*domid)?)))
                .collect(),
            notes: self.notes.clone(),
            returns: self.returns.clone(),
            overrides: self.overrides.clone(),
            trails: self.trails.clone(),
            leftovers: self.leftovers(),
        }
    }

    /// The part of it that does not belong to one domain.
    pub(super) fn part(&self) -> XenPart {
        XenPart {
            domids: self.domids(),
            guests: BTreeMap::new(),
            notes: self.notes.clone(),
            returns: self.returns.clone(),
            overrides: self.overrides.clone(),
            trails: self.trails.clone(),
        }
    }

    /// What the node of a port says.
    pub(super) fn view_of_port(&self, place: Place) -> Option<PortContent> {
        self.port(place).map(Port::content)
    }

    fn domids(&self) -> BTreeSet<DomId> {
        self.domains.keys().copied().collect()
    }

    /// One domain, as the agent's reader would see it.
    pub(super) fn guest(&self, domid: DomId) -> Option<Guest> {
        let domain = self.domains.get(&domid).filter(|domain| domain.has_nodes)?;
        let controllers = domain.controllers.iter().map(|(id, ctl)| {
            let ports = ctl.ports.iter().map(|(port, content)| (*port, content.content()));
            let controller = Controller {
                kind: ctl.kind,
                version: Some(ctl.version),
                ports: ports.collect(),
                backend: ctl.backend,
                frontend: ctl.frontend,
                ours: ctl.maker == Hand::Agent,
            };
            (*id, controller)
        });
        Some(Guest {
            domid,
            uuid: domain.uuid,
            name: domain.name.clone(),
            kind: domain.kind,
            life: domain.life(),
            device_model: domain.model,
            controllers: controllers.collect(),
            broken: BTreeMap::new(),
        })
    }

    fn leftovers(&self) -> BTreeSet<Leftover> {
        let gone = |domid: DomId| !self.domains.contains_key(&domid);
        let backends = self.backends.iter().filter(|(domid, ..)| gone(*domid)).copied();
        backends.map(|(domid, kind, controller)| Leftover { domid, kind, controller }).collect()
    }

    /// The drivers noted for the way back.
    pub(super) fn driver_note(&self, interface: &InterfaceName) -> Option<&str> {
        self.returns.get(interface.busid())?.get(interface).map(AsRef::as_ref)
    }
}

impl Domain {
    pub(super) fn life(&self) -> Life {
        match (self.is_built, self.is_introduced) {
            (false, _) => Life::Building,
            (true, true) => Life::Running,
            (true, false) => Life::Dead,
        }
    }
}

impl Ctl {
    pub(super) fn new(spec: ControllerSpec, maker: Hand) -> Self {
        let ControllerSpec { kind, version, ports } = spec;
        Self {
            kind,
            version,
            backend: XenbusState::Initialising,
            frontend: XenbusState::Initialising,
            maker,
            ports: ports.up_to().map(|port| (port, Port::default())).collect(),
        }
    }
}

impl Port {
    fn content(&self) -> PortContent {
        match &self.tenant {
            None => PortContent::Free,
            Some(tenant) => PortContent::Taken(tenant.busid.clone()),
        }
    }
}
