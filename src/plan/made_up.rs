//! Small made-up things, as they are seen: what the tests of this part begin with. All are as they
//! should be; a test changes what it is about.

use crate::model::{
    BusId, ClassTriple, Controller, ControllerKind, Device, DeviceModel, DomId, Guest, GuestKind,
    GuestName, GuestUuid, Interface, InterfaceName, Life, Note, NoteState, Observed, Place, Plug,
    PortContent, PortNumber, Speed, UsbVersion, XenView, XenbusState,
};
use crate::plan::{Moment, Problem, Since};
use crate::policy::{self, Policy, Source};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

pub(crate) fn busid(text: &str) -> BusId {
    text.parse().unwrap()
}

pub(crate) fn interface(text: &str) -> InterfaceName {
    text.parse().unwrap()
}

pub(crate) fn domid(number: u16) -> DomId {
    number.to_string().parse().unwrap()
}

pub(crate) fn uuid(domid: DomId) -> GuestUuid {
    format!("6d3ae5a6-2c8c-4c8b-9d1e-{:012x}", domid.get()).parse().unwrap()
}

/// The port of this number, in a controller of a domain.
pub(crate) fn place(domain: u16, controller: u32, port: u8) -> Place {
    let controller = controller.to_string().parse().unwrap();
    Place { domid: domid(domain), controller, port: PortNumber::new(port).unwrap() }
}

/// A plugged device of two interfaces, ready, with its drivers.
pub(crate) fn device(at: &str) -> Device {
    let class = ClassTriple { class: 0xff, subclass: 0, protocol: 0 };
    let interface = |number| {
        let one = Interface { class, driver: Some("usbhid".into()), authorized: true };
        (interface(&format!("{at}:1.{number}")), one)
    };
    let busid = busid(at);
    let address = format!("{}.{}", busid.bus(), 10 + busid.ports()[0]).parse().unwrap();
    Device {
        speed: Speed::High,
        initialized: Some(7),
        configured: true,
        interfaces: [0, 1].map(interface).into(),
        ..Device::new(busid, address, "05e0:1200".parse().unwrap())
    }
}

/// Gives an interface of the device to a driver, or to none.
pub(crate) fn bind(device: &mut Device, number: u8, driver: Option<&str>) {
    let name = interface(&format!("{}:1.{number}", device.busid));
    device.interfaces.get_mut(&name).unwrap().driver = driver.map(Into::into);
}

/// The next plug of the same device in the same place.
pub(crate) fn replugged(device: &Device) -> Plug {
    Plug { initialized: device.initialized.map(|when| when + 1), ..device.plug() }
}

/// A domain that runs and whose device model serves `qusb`, without a controller.
pub(crate) fn guest(number: u16, name: &str) -> Guest {
    Guest {
        domid: domid(number),
        uuid: uuid(domid(number)),
        name: GuestName::new(name),
        kind: GuestKind::Pv,
        life: Life::Running,
        device_model: DeviceModel::Running { qusb: true },
        controllers: BTreeMap::new(),
        broken: BTreeMap::new(),
    }
}

/// A controller of the agent's own that is connected, with this many empty ports.
pub(crate) fn controller(kind: ControllerKind, ports: u8) -> Controller {
    let ports = PortNumber::new(ports).unwrap().up_to();
    Controller {
        kind,
        version: Some(UsbVersion::V2),
        ports: ports.map(|port| (port, PortContent::Free)).collect(),
        backend: XenbusState::Connected,
        frontend: XenbusState::Connected,
        ours: true,
    }
}

/// A note of this plug.
pub(crate) fn note(device: &Device, kind: ControllerKind, state: NoteState) -> Note {
    Note { plug: device.plug(), kind, drivers: None, state }
}

/// The note of a device that the agent has put there.
pub(crate) fn attached(device: &Device, place: Place, kind: ControllerKind) -> Note {
    note(device, kind, NoteState::Attached { place, uuid: uuid(place.domid) })
}

/// Some devices and domains, of which nothing is attached.
pub(crate) fn host(
    devices: impl IntoIterator<Item = Device>,
    guests: impl IntoIterator<Item = Guest>,
) -> Observed {
    let guests: BTreeMap<_, _> = guests.into_iter().map(|guest| (guest.domid, guest)).collect();
    let domids = guests.keys().copied().collect();
    Observed {
        devices: devices.into_iter().map(|device| (device.busid.clone(), device)).collect(),
        xen: XenView { domids, guests, ..XenView::default() },
        ..Observed::default()
    }
}

/// Writes into a port, and nowhere else.
pub(crate) fn fill(observed: &mut Observed, place: Place, content: PortContent) {
    let guest = observed.xen.guests.get_mut(&place.domid).unwrap();
    guest.controllers.get_mut(&place.controller).unwrap().ports.insert(place.port, content);
}

/// Puts a device into a port as the agent does, with its note.
pub(crate) fn attach(observed: &mut Observed, at: &str, place: Place) {
    let busid = busid(at);
    fill(observed, place, PortContent::Taken(busid.clone()));
    let kind = observed.xen.guests[&place.domid].controllers[&place.controller].kind;
    let note = attached(&observed.devices[&busid], place, kind);
    observed.xen.notes.insert(busid, note);
}

pub(crate) fn policy(text: &str) -> Policy {
    policy::compile(Source { name: "policy.yaml", bytes: text.as_bytes() }).unwrap()
}

/// Everything that a decision depends on, as long as nothing is going on.
pub(crate) struct Scenery {
    pub(crate) now: Instant,
    pub(crate) observed: Observed,
    pub(crate) policy: Policy,
    pub(crate) since: Since,
    pub(crate) reserved: BTreeSet<Place>,
    pub(crate) creating: BTreeSet<DomId>,
    pub(crate) departing: BTreeSet<BusId>,
    pub(crate) barred: BTreeMap<DomId, Problem>,
    pub(crate) leaving: bool,
}

impl Scenery {
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to begin with")]
    pub(crate) fn new(observed: Observed, policy_text: &str) -> Self {
        Self {
            now: Instant::now() + Duration::from_secs(1000),
            observed,
            policy: policy(policy_text),
            since: Since::default(),
            reserved: BTreeSet::new(),
            creating: BTreeSet::new(),
            departing: BTreeSet::new(),
            barred: BTreeMap::new(),
            leaving: false,
        }
    }

    pub(crate) fn moment(&self) -> Moment<'_> {
        Moment {
            now: self.now,
            observed: &self.observed,
            policy: &self.policy,
            since: &self.since,
            reserved: &self.reserved,
            creating: &self.creating,
            departing: &self.departing,
            barred: &self.barred,
            leaving: self.leaving,
        }
    }

    /// The time so long ago.
    pub(crate) fn ago(&self, time: Duration) -> Instant {
        self.now.checked_sub(time).unwrap()
    }

    pub(crate) fn device(&mut self, at: &str) -> &mut Device {
        self.observed.devices.get_mut(&busid(at)).unwrap()
    }

    pub(crate) fn guest(&mut self, number: u16) -> &mut Guest {
        self.observed.xen.guests.get_mut(&domid(number)).unwrap()
    }

    pub(crate) fn controller(&mut self, number: u16, id: u32) -> &mut Controller {
        self.guest(number).controllers.get_mut(&place(number, id, 1).controller).unwrap()
    }
}
