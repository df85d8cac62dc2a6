//! Everything that was seen, as one value.

use super::attachment::{Note, NoteState, Place};
use super::bus::BusId;
use super::controller::{ControllerId, ControllerKind, PortContent};
use super::device::{Device, InterfaceName};
use super::domain::DomId;
use super::guest::Guest;
use super::order::Override;
use super::trail::Trail;
use std::collections::{BTreeMap, BTreeSet};

/// The plugged devices by their place.
pub type Devices = BTreeMap<BusId, Device>;

/// What libxl or the agent noted of drivers to bind again, from `/libxl/usbback`: per device, per
/// interface, the driver's directory.
pub type Returns = BTreeMap<BusId, BTreeMap<InterfaceName, Box<str>>>;

/// What xenstore shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct XenView {
    /// Every number below `/libxl`, also those of domains that come or go and are not in `guests`.
    pub domids: BTreeSet<DomId>,
    /// The domains.
    pub guests: BTreeMap<DomId, Guest>,
    /// The agent's own notes.
    pub notes: BTreeMap<BusId, Note>,
    /// What people said over the policy's head.
    pub overrides: BTreeMap<BusId, Override>,
    /// What is kept of devices for those that follow them.
    pub trails: BTreeMap<BusId, Trail>,
    /// Drivers noted for the way back.
    pub returns: Returns,
    /// Backends of domains that are gone.
    pub leftovers: BTreeSet<Leftover>,
}

/// A newer look at some domains, and at what is looked at every time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct XenPart {
    /// Every number below `/libxl`.
    pub domids: BTreeSet<DomId>,
    /// The domains that were looked at; `None` for one that is gone.
    pub guests: BTreeMap<DomId, Option<Guest>>,
    /// The agent's own notes.
    pub notes: BTreeMap<BusId, Note>,
    /// What people said over the policy's head.
    pub overrides: BTreeMap<BusId, Override>,
    /// What is kept of devices for those that follow them.
    pub trails: BTreeMap<BusId, Trail>,
    /// Drivers noted for the way back.
    pub returns: Returns,
}

/// A backend directory that stayed behind when its domain went, without its `/libxl` node: nothing else
/// will ever remove it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leftover {
    /// The domain that is gone.
    pub domid: DomId,
    /// Who served it: decides the directory.
    pub kind: ControllerKind,
    /// The controller.
    pub controller: ControllerId,
}

/// What dom0 has besides USB devices to be operated with: on PS/2, I2C and the like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Desk {
    /// A keyboard.
    pub keyboard: bool,
    /// A mouse or touchpad.
    pub pointer: bool,
}

/// Everything that was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The plugged devices.
    pub devices: Devices,
    /// Whether the kernel's usbback is loaded in dom0.
    pub usbback: bool,
    /// What dom0 has besides USB to be operated with.
    pub desk: Desk,
    /// What xenstore shows.
    pub xen: XenView,
}

impl XenView {
    /// Takes over what a newer look at some domains brought.
    pub fn update(&mut self, part: XenPart) {
        self.domids = part.domids;
        self.notes = part.notes;
        self.overrides = part.overrides;
        self.trails = part.trails;
        self.returns = part.returns;
        for (domid, guest) in part.guests {
            match guest {
                Some(guest) => self.guests.insert(domid, guest),
                None => self.guests.remove(&domid),
            };
        }
    }

    /// The order that speaks of `device` as it is plugged now.
    pub fn override_of(&self, device: &Device) -> Option<&Override> {
        self.overrides.get(&device.busid).filter(|order| order.covers(device))
    }

    /// All ports that name `busid`, of whatever domain.
    pub fn places_of<'a>(&'a self, busid: &'a BusId) -> impl Iterator<Item = Place> + 'a {
        self.taken_ports().filter(move |(_, there)| *there == busid).map(|(place, _)| place)
    }

    /// All ports that name a device, with the device.
    pub fn taken_ports(&self) -> impl Iterator<Item = (Place, &BusId)> {
        self.ports().filter_map(|(place, content)| match content {
            PortContent::Taken(busid) => Some((place, busid)),
            PortContent::Free | PortContent::Strange(_) => None,
        })
    }

    /// All ports.
    pub fn ports(&self) -> impl Iterator<Item = (Place, &PortContent)> {
        self.guests.values().flat_map(|guest| {
            guest.controllers.iter().flat_map(|(id, controller)| {
                let at = |port| Place { domid: guest.domid, controller: *id, port };
                controller.ports.iter().map(move |(port, content)| (at(*port), content))
            })
        })
    }

    /// The content of one port.
    pub fn port(&self, place: Place) -> Option<&PortContent> {
        self.guests.get(&place.domid)?.controllers.get(&place.controller)?.ports.get(&place.port)
    }

    /// Whether the agent's note says that it put `busid` at `place`.
    pub fn is_ours(&self, busid: &BusId, place: Place) -> bool {
        self.notes.get(busid).is_some_and(|note| match note.state {
            NoteState::Attached { place: noted, .. } => noted == place,
            NoteState::Returning | NoteState::Admitted | NoteState::Blocked => false,
        })
    }
}
