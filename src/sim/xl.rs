//! An administrator with xl, and its own, sloppy checks: what it has found free a moment ago it
//! writes, whatever is there by then (`libxl_usb.c`).

use super::store::{Ctl, Hand};
use super::usb::USBBACK;
use super::world::{Happening, World};
use crate::model::{
    BusId, ControllerId, ControllerKind, ControllerSpec, DomId, GuestKind, GuestName, GuestUuid,
    Interface, InterfaceName, NoteState, Place, PortNumber, UsbVersion, XenbusState,
};

/// What xl is about to do.
#[derive(Clone, Debug)]
pub(super) enum XlRun {
    /// Make a controller.
    Make(DomId, GuestUuid, ControllerId, ControllerSpec),
    /// Write a device into this port, of a controller that is made first if need be.
    Fill(GuestUuid, Place, BusId, Option<ControllerKind>),
    /// Give the interfaces to usbback, or clear the port again.
    Take(Place, BusId),
    /// Clear a port.
    Clear(Place, BusId),
    /// Take a controller away.
    Remove(DomId, GuestUuid, ControllerId),
}

impl World {
    /// xl looks and decides now, and acts in a moment.
    fn xl_will(&mut self, run: XlRun) {
        let delay = self.takes(5_000, 400_000);
        self.soon(delay, Happening::Xl(Box::new(run)));
    }

    pub(super) fn xl_controller_attach(&mut self, domain: &GuestName, spec: ControllerSpec) {
        let Some(domid) = self.store.named(domain) else { return };
        let Some(id) = self.store.next_id(domid) else { return };
        let uuid = self.store.domains[&domid].uuid;
        self.xl_will(XlRun::Make(domid, uuid, id, spec));
    }

    pub(super) fn xl_controller_detach(&mut self, domain: &GuestName, controller: ControllerId) {
        let Some(domid) = self.store.named(domain) else { return };
        let uuid = self.store.domains[&domid].uuid;
        let Some(ctl) = self.store.ctl_mut(domid, controller) else { return };
        let mut tenants = ctl.ports.values().filter_map(|port| port.tenant.as_ref());
        if tenants.any(|tenant| !self.usb.sockets.contains_key(&tenant.busid)) {
            return;
        }
        self.tell(|| format!("xl usbctrl-detach {domain} {controller}"));
        self.xl_empties_controller(domid, controller);
        if let Some(ctl) = self.store.ctl_mut(domid, controller) {
            ctl.backend = XenbusState::Closing;
        }
        self.domain_changed(domid);
        self.xl_will(XlRun::Remove(domid, uuid, controller));
    }

    pub(super) fn xl_attach(&mut self, domain: &GuestName, device: &BusId) {
        let Some(domid) = self.store.named(domain) else { return };
        let Some(run) = self.xl_finds_a_port(domid, device) else { return };
        self.tell(|| format!("xl usbdev-attach {domain} {device}"));
        self.xl_will(run);
    }

    pub(super) fn xl_detach(&mut self, device: &BusId) {
        let place = self.store.places_of(device).next();
        // xl finds the device through sysfs, so it cannot clear a stale port.
        let Some(place) = place.filter(|_| self.usb.sockets.contains_key(device)) else { return };
        self.tell(|| format!("xl usbdev-detach {device}"));
        if self.store.ctl(place).is_some_and(|ctl| ctl.kind == ControllerKind::Pv) {
            self.xl_unbinds(device);
        }
        self.xl_will(XlRun::Clear(place, device.clone()));
    }

    /// `libxl_usb.c: get_assigned_devices` and `libxl__device_usbdev_setdefault`.
    fn xl_finds_a_port(&mut self, domid: DomId, device: &BusId) -> Option<XlRun> {
        let plugged = self.usb.sockets.get(device).is_some_and(|socket| !socket.spec.hub());
        let stale =
            self.store.tenants().any(|(_, tenant)| !self.usb.sockets.contains_key(&tenant.busid));
        if !plugged || stale || self.store.places_of(device).next().is_some() {
            return None;
        }
        let uuid = self.store.domains.get(&domid)?.uuid;
        let free =
            self.store.ports().find(|(place, port)| place.domid == domid && port.tenant.is_none());
        if let Some((place, _)) = free {
            return Some(XlRun::Fill(uuid, place, device.clone(), None));
        }
        let controller = self.store.next_id(domid)?;
        let is_hvm = self.store.domains.get(&domid)?.kind == GuestKind::Hvm;
        let kind =
            if self.usb.usbback && !is_hvm { ControllerKind::Pv } else { ControllerKind::Qusb };
        let place = Place { domid, controller, port: PortNumber::FIRST };
        Some(XlRun::Fill(uuid, place, device.clone(), Some(kind)))
    }

    pub(super) fn xl_goes_on(&mut self, run: XlRun) {
        let same = |world: &Self, domid: DomId, uuid: GuestUuid| {
            world.store.domains.get(&domid).is_some_and(|d| d.has_nodes && d.uuid == uuid)
        };
        match run {
            XlRun::Make(domid, uuid, id, spec) => {
                let exists = self.store.ctl_mut(domid, id).is_some();
                if same(self, domid, uuid) && !exists {
                    self.tell(|| format!("xl has made controller {id} in domain {domid}"));
                    self.add_controller(domid, id, Ctl::new(spec, Hand::Xl));
                }
            }
            XlRun::Fill(uuid, place, busid, new) => {
                if !same(self, place.domid, uuid) {
                    return;
                }
                if let (Some(kind), None) = (new, self.store.ctl(place)) {
                    let Some(ports) = PortNumber::new(8) else { return };
                    let spec = ControllerSpec { kind, version: UsbVersion::V2, ports };
                    let ctl = Ctl::new(spec, Hand::Xl);
                    self.add_controller(place.domid, place.controller, ctl);
                }
                if self.store.port(place).is_none() {
                    return;
                }
                self.xl_empties(place);
                let plug_no = self.usb.plug_no(&busid);
                self.store.fill(place, &busid, Hand::Xl, plug_no);
                // In the very port where the agent had put it, it is the agent's again.
                if self.is_noted(&busid, place) {
                    self.taken_out.remove(&busid);
                }
                self.xl_touches(&busid);
                self.port_changed(place);
                if self.store.ctl(place).is_some_and(|ctl| ctl.kind == ControllerKind::Pv) {
                    let delay = self.takes(30_000, 400_000);
                    self.soon(delay, Happening::Xl(Box::new(XlRun::Take(place, busid))));
                }
            }
            XlRun::Take(place, busid) => {
                let listed = self.usb.port_ids.get(&busid) == Some(&place);
                let refused = self
                    .usb
                    .sockets
                    .get(&busid)
                    .is_none_or(|s| s.spec.refused || s.device.unauthorized().next().is_some());
                if !listed || refused {
                    return self.xl_goes_on(XlRun::Clear(place, busid));
                }
                let Some(socket) = self.usb.sockets.get(&busid) else { return };
                let names: Vec<_> = socket.device.interfaces.clone().into_iter().collect();
                for (name, interface) in names {
                    if let Some(driver) = interface.driver.filter(|driver| **driver != *USBBACK) {
                        let noted = self.store.returns.entry(busid.clone()).or_default();
                        noted.insert(name.clone(), driver);
                    }
                    self.set_driver(&name, Some(USBBACK.into()));
                }
                self.store.changed();
                self.rumour_of_notes();
            }
            XlRun::Clear(place, busid) => {
                if self.store.port(place).is_none() {
                    return;
                }
                let is_pv = self.store.ctl(place).is_some_and(|c| c.kind == ControllerKind::Pv);
                self.xl_touches(&busid);
                self.xl_empties(place);
                self.port_changed(place);
                if is_pv {
                    self.xl_gives_back(&busid);
                }
            }
            XlRun::Remove(domid, uuid, id) => {
                if same(self, domid, uuid) && self.store.ctl_mut(domid, id).is_some() {
                    self.xl_empties_controller(domid, id);
                    self.tell(|| format!("xl has removed controller {id} of domain {domid}"));
                    self.drop_controller(domid, id);
                }
            }
        }
    }

    fn xl_empties_controller(&mut self, domid: DomId, controller: ControllerId) {
        let Some(ctl) = self.store.ctl_mut(domid, controller) else { return };
        let is_pv = ctl.kind == ControllerKind::Pv;
        let taken: Vec<_> = ctl
            .ports
            .iter()
            .filter_map(|(port, there)| Some((*port, there.tenant.as_ref()?.busid.clone())))
            .collect();
        for (port, busid) in taken {
            if is_pv {
                self.xl_unbinds(&busid);
            }
            let place = Place { domid, controller, port };
            self.xl_touches(&busid);
            self.xl_empties(place);
            self.port_changed(place);
            if is_pv {
                self.xl_gives_back(&busid);
            }
        }
    }

    /// Writes an empty port. What the agent had there was taken out by hand.
    fn xl_empties(&mut self, place: Place) {
        let Some(tenant) = self.store.port(place).and_then(|port| port.tenant.clone()) else {
            return;
        };
        let busid = tenant.busid.clone();
        let plug_no = self.usb.plug_no(&busid);
        let is_agents = tenant.by == Hand::Agent || self.is_noted(&busid, place);
        if let (true, Some(plug_no)) = (is_agents && plug_no == tenant.plug_no, plug_no)
            && let Some(domain) = self.store.domains.get(&place.domid)
        {
            self.taken_out.insert(busid.clone(), (plug_no, place.domid, domain.uuid));
        }
        self.ends_wake(&busid, place);
        self.store.empty(place);
    }

    /// Whether the agent's note says that it has put this plug there.
    pub(super) fn is_noted(&self, busid: &BusId, place: Place) -> bool {
        let Some(socket) = self.usb.sockets.get(busid) else { return false };
        self.store.notes.get(busid).is_some_and(|note| {
            note.plug == socket.device.plug()
                && self.store.ctl(place).is_none_or(|ctl| ctl.kind == note.kind)
                && matches!(note.state, NoteState::Attached { place: there, .. } if there == place)
        })
    }

    fn xl_touches(&mut self, busid: &BusId) {
        if let Some(plug_no) = self.usb.plug_no(busid) {
            self.touched.insert(busid.clone(), plug_no);
        }
        if let Some(device) = self.usb.sockets.get(busid).map(|socket| socket.device.clone()) {
            self.desk_changes(busid, &device);
        }
    }

    fn xl_unbinds(&mut self, busid: &BusId) {
        let Some(socket) = self.usb.sockets.get(busid) else { return };
        let names: Vec<InterfaceName> = socket.device.bound_to(USBBACK).cloned().collect();
        for name in names {
            self.set_driver(&name, None);
        }
    }

    /// libxl binds what it had noted, and forgets it (`libxl_usb.c: usbdev_rebind`).
    pub(super) fn xl_gives_back(&mut self, busid: &BusId) {
        self.xl_touches(busid);
        self.xl_unbinds(busid);
        let noted = self.store.returns.remove(busid).unwrap_or_default();
        self.store.changed();
        self.rumour_of_notes();
        for (name, driver) in noted {
            let may_have = |i: &mut Interface| i.driver.is_none() && i.authorized;
            let has_none = self.usb.interface_mut(&name).is_some_and(may_have);
            if has_none {
                self.set_driver(&name, Some(driver));
            }
        }
    }
}
