//! What others left behind, and the agent too: everything about USB on this host that is not as it
//! should be, with what it does to the host and what helps.
//!
//! A pure function over what was seen; nobody is asked, and no policy is needed. What is merely on
//! its way looks for a moment like something that was left behind, so whoever mends asks again in
//! the mend's own transaction.

use super::step::Survey;
use crate::model::{
    BusId, Controller, ControllerFault, ControllerId, ControllerKind, Device, DeviceModel, DomId,
    Guest, GuestName, InterfaceName, Leftover, Life, Note, NoteState, Observed, Place, Plug,
    PortContent, PortNumber, Text, XenbusState,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What kind of finding it is. The numbers are stable: scripts may rely on them, and a number is
/// never given to another kind. `docs/troubleshooting.md` has a word on each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingCode {
    /// D001: a port names a place where nothing is plugged.
    StalePort,
    /// D002: a port names something that is no place.
    StrangePort,
    /// D003: a device is in several ports.
    SeveralPorts,
    /// D004: a port number is used twice in a domain.
    PortNumberTwice,
    /// D005: a backend of a domain that is gone.
    BackendLeft,
    /// D007: drivers are noted for a device that is in no port.
    DriversLeft,
    /// D008: the agent's note of a device speaks of nothing.
    NoteLeft,
    /// D009: usbback has interfaces of a device that is in no port.
    OnUsbback,
    /// D010: interfaces without a driver.
    WithoutDriver,
    /// D011: a controller whose nodes cannot be used.
    UnusableController,
    /// D012: a controller that is not connected.
    NotConnected,
    /// D013: a controller whose backend is closed or gone.
    BackendGone,
    /// D014: a device model that has died and has controllers.
    DeadDeviceModel,
    /// D015: nodes of a domain that is dead.
    DeadDomain,
    /// D016: a domain with controllers that xl cannot count.
    TooManyControllers,
}

impl FindingCode {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 15] = [
        Self::StalePort,
        Self::StrangePort,
        Self::SeveralPorts,
        Self::PortNumberTwice,
        Self::BackendLeft,
        Self::DriversLeft,
        Self::NoteLeft,
        Self::OnUsbback,
        Self::WithoutDriver,
        Self::UnusableController,
        Self::NotConnected,
        Self::BackendGone,
        Self::DeadDeviceModel,
        Self::DeadDomain,
        Self::TooManyControllers,
    ];

    /// The number, as it is shown: `D001`.
    pub fn number(self) -> &'static str {
        match self {
            Self::StalePort => "D001",
            Self::StrangePort => "D002",
            Self::SeveralPorts => "D003",
            Self::PortNumberTwice => "D004",
            Self::BackendLeft => "D005",
            Self::DriversLeft => "D007",
            Self::NoteLeft => "D008",
            Self::OnUsbback => "D009",
            Self::WithoutDriver => "D010",
            Self::UnusableController => "D011",
            Self::NotConnected => "D012",
            Self::BackendGone => "D013",
            Self::DeadDeviceModel => "D014",
            Self::DeadDomain => "D015",
            Self::TooManyControllers => "D016",
        }
    }

    /// Whether it may be quite all right: a device that no driver in dom0 is made for, a controller
    /// that was made a moment ago.
    pub fn is_hint(self) -> bool {
        matches!(self, Self::WithoutDriver | Self::NotConnected | Self::TooManyControllers)
    }
}

/// Something that is not as it should be. Shown, it says what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A port names a place where nothing is plugged.
    StalePort {
        /// The port.
        place: Place,
        /// Who serves its controller.
        kind: ControllerKind,
        /// What it names.
        busid: BusId,
    },
    /// A port names something that is no place.
    StrangePort {
        /// The port.
        place: Place,
        /// Who serves its controller.
        kind: ControllerKind,
        /// What it says.
        content: Text,
    },
    /// A device is in several ports.
    SeveralPorts {
        /// The device.
        busid: BusId,
        /// The ports, with who serves their controllers.
        places: Vec<(Place, ControllerKind)>,
    },
    /// A port number is used in two `qusb` controllers of a domain.
    PortNumberTwice {
        /// The port, in the higher of the controllers.
        place: Place,
        /// The other controller.
        other: ControllerId,
    },
    /// Something that stayed behind when its domain went.
    Left(Leftover),
    /// Drivers are noted for a device that is in no port.
    DriversLeft {
        /// Its place.
        busid: BusId,
    },
    /// The agent's note of a device speaks of nothing.
    NoteLeft {
        /// Its place.
        busid: BusId,
        /// The note.
        note: Note,
    },
    /// usbback has interfaces of a device that is in no port.
    OnUsbback {
        /// The device.
        busid: BusId,
        /// The interfaces.
        interfaces: Vec<InterfaceName>,
    },
    /// A device in no port has interfaces without a driver.
    WithoutDriver {
        /// The device.
        busid: BusId,
        /// The interfaces.
        interfaces: Vec<InterfaceName>,
    },
    /// A controller's nodes cannot be used.
    UnusableController {
        /// The domain.
        domid: DomId,
        /// The controller.
        controller: ControllerId,
        /// What is wrong with them.
        fault: ControllerFault,
    },
    /// A controller is not connected.
    NotConnected {
        /// The domain.
        domid: DomId,
        /// The controller.
        controller: ControllerId,
        /// Who serves it, or should.
        kind: ControllerKind,
        /// Whether its backend serves it, so that it is the guest that is missing.
        served: bool,
    },
    /// A controller's backend is closed or gone.
    BackendGone {
        /// The domain.
        domid: DomId,
        /// The controller.
        controller: ControllerId,
        /// Who served it.
        kind: ControllerKind,
    },
    /// A device model has died and its domain has controllers.
    DeadDeviceModel {
        /// The domain.
        domid: DomId,
        /// Its name.
        name: GuestName,
    },
    /// The hypervisor has dropped a domain, and its nodes are still there.
    DeadDomain {
        /// The domain.
        domid: DomId,
        /// Its name.
        name: GuestName,
    },
    /// A domain has more controllers than xl can count.
    TooManyControllers {
        /// The domain.
        domid: DomId,
        /// The highest number.
        last: ControllerId,
    },
}

/// What can be done about a finding without harm, with all that must still hold when it is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mend {
    /// Empties a port that still names this place, where still nothing is plugged, and forgets what
    /// is noted of it.
    ClearStale {
        /// The port.
        place: Place,
        /// Who serves its controller.
        kind: ControllerKind,
        /// What it names.
        busid: BusId,
    },
    /// Removes what a domain left that is still gone.
    RemoveLeftover(Leftover),
    /// Removes a controller that has still no type, if it has no backend either.
    RemoveHusk {
        /// The domain.
        domid: DomId,
        /// The controller.
        controller: ControllerId,
    },
    /// Removes what is noted of a device that is still gone and in no port, if it is still noted.
    Forget(Noted),
    /// Gives a device that is still in no port back to dom0's drivers, and then forgets what is noted
    /// of it. Meanwhile a note says so, so that nobody else takes it.
    Return {
        /// What is noted of it.
        noted: Noted,
        /// This plug of it, and no other.
        plug: Plug,
    },
}

/// A device in no port, and the agent's note of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// Its place.
    pub busid: BusId,
    /// The note, if there is one.
    pub note: Option<Note>,
    /// All controllers of the host as they were seen: none of their ports may name it.
    pub survey: Survey,
}

/// Everything that is not as it should be, worst first, by code and then by place. Of devices that
/// are there and could not be read (`unread`) nothing is said.
pub fn findings(observed: &Observed, unread: &BTreeSet<BusId>) -> Vec<Finding> {
    let mut found = of_ports(observed);
    found.extend(observed.xen.leftovers.iter().copied().map(Finding::Left));
    found.extend(of_devices(observed));
    found.extend(observed.xen.guests.values().flat_map(of_guest));
    found.retain(|finding| finding.device().is_none_or(|busid| !unread.contains(busid)));
    found.sort_by_key(Finding::code);
    found
}

impl Finding {
    /// What kind of finding it is.
    pub fn code(&self) -> FindingCode {
        match self {
            Self::StalePort { .. } => FindingCode::StalePort,
            Self::StrangePort { .. } => FindingCode::StrangePort,
            Self::SeveralPorts { .. } => FindingCode::SeveralPorts,
            Self::PortNumberTwice { .. } => FindingCode::PortNumberTwice,
            Self::Left(_) => FindingCode::BackendLeft,
            Self::DriversLeft { .. } => FindingCode::DriversLeft,
            Self::NoteLeft { .. } => FindingCode::NoteLeft,
            Self::OnUsbback { .. } => FindingCode::OnUsbback,
            Self::WithoutDriver { .. } => FindingCode::WithoutDriver,
            Self::UnusableController { .. } => FindingCode::UnusableController,
            Self::NotConnected { .. } => FindingCode::NotConnected,
            Self::BackendGone { .. } => FindingCode::BackendGone,
            Self::DeadDeviceModel { .. } => FindingCode::DeadDeviceModel,
            Self::DeadDomain { .. } => FindingCode::DeadDomain,
            Self::TooManyControllers { .. } => FindingCode::TooManyControllers,
        }
    }

    /// The device that it is about, if it is about one.
    pub fn device(&self) -> Option<&BusId> {
        match self {
            Self::StalePort { busid, .. }
            | Self::SeveralPorts { busid, .. }
            | Self::DriversLeft { busid }
            | Self::NoteLeft { busid, .. }
            | Self::OnUsbback { busid, .. }
            | Self::WithoutDriver { busid, .. } => Some(busid),
            Self::StrangePort { .. }
            | Self::PortNumberTwice { .. }
            | Self::Left(_)
            | Self::UnusableController { .. }
            | Self::NotConnected { .. }
            | Self::BackendGone { .. }
            | Self::DeadDeviceModel { .. }
            | Self::DeadDomain { .. }
            | Self::TooManyControllers { .. } => None,
        }
    }

    /// What it does to the host. Where the source of a sentence is not named, `docs/protocol.md`
    /// names it.
    pub fn effect(&self) -> &'static str {
        match self {
            // `libxl_usb.c: get_assigned_devices` looks every one up in sysfs.
            Self::StalePort { .. } | Self::StrangePort { .. } => {
                "every xl usbdev-attach on this host fails, xl cannot detach it, and the removal of \
                 its controller fails, also when the domain is destroyed"
            }
            Self::SeveralPorts { .. } => {
                "two domains or controllers fight for the device: only one of them can have it"
            }
            Self::PortNumberTwice { .. } => {
                "the domain's device model aborts when it meets the number a second time"
            }
            Self::Left(_) => {
                "no xl command removes it: its ports may still hold devices, and a domain that gets \
                 this number finds it there"
            }
            Self::DriversLeft { .. } => {
                "the next device in this place may be bound to a driver that was another's"
            }
            Self::NoteLeft { .. } => {
                "the device is not attached until a running agent, or doctor --fix, has ended it"
            }
            Self::OnUsbback { .. } => "neither dom0 nor any domain can use the device",
            Self::WithoutDriver { .. } => {
                "dom0 cannot use them; that is all right if it has no driver for them"
            }
            Self::UnusableController { fault: ControllerFault::NoType, .. } => {
                "xl usb-list of this domain and every xl usbdev-attach on this host crash"
            }
            Self::UnusableController { fault: ControllerFault::StrangeType(_), .. } => {
                "xl usbctrl-detach of it aborts, and what it holds stays behind with the domain"
            }
            Self::UnusableController { fault: ControllerFault::ForeignBackend(_), .. } => {
                "xl may list no controller of this domain, and cannot remove this one"
            }
            Self::NotConnected { served: false, .. } => {
                "no device in it reaches the guest; that is all right if it was made a moment ago"
            }
            Self::NotConnected { served: true, .. } => {
                "no device in it reaches the guest; that is all right while the guest boots"
            }
            Self::BackendGone { .. } => "no device in it reaches the guest",
            Self::DeadDeviceModel { .. } => {
                "the domain has lost its USB devices, and whatever else its device model served"
            }
            Self::DeadDomain { .. } => {
                "devices in its ports count as assigned, and its name as taken"
            }
            Self::TooManyControllers { .. } => {
                "xl usbctrl-attach picks a number that is in use, and fails"
            }
        }
    }

    /// What a person can do, where `--fix` cannot.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::StalePort { .. } => {
                "doctor --fix, or a running agent, empties it; by hand: xenstore-write NODE ''"
            }
            Self::StrangePort { .. } => {
                "find out who wrote it, then: xenstore-write NODE ''; nothing else can empty it"
            }
            Self::SeveralPorts { .. } => "xl usbdev-detach it from all but one, then plug it anew",
            Self::PortNumberTwice { .. } => {
                "xl usbdev-detach one of the two and attach it to a number that is free in all \
                 controllers of the domain"
            }
            Self::Left(_) | Self::DriversLeft { .. } => {
                "doctor --fix, or a running agent, removes it"
            }
            Self::NoteLeft { .. } => {
                "doctor --fix, or a running agent, ends it; if a program still has the device, end \
                 the program"
            }
            Self::OnUsbback { .. } => "doctor --fix gives it back to dom0's drivers",
            Self::WithoutDriver { .. } => "doctor --fix asks dom0's drivers once more",
            Self::UnusableController { fault: ControllerFault::NoType, .. } => {
                "doctor --fix removes it if it has no backend; otherwise: xenstore-write \
                 NODE/type qusb (or pv, by where its backend is)"
            }
            Self::UnusableController { fault: ControllerFault::StrangeType(_), .. } => {
                "xenstore-write NODE/type qusb (or pv, by where its backend is), then \
                 pvusb-agent controller remove"
            }
            Self::UnusableController { fault: ControllerFault::ForeignBackend(_), .. } => {
                "leave it, if a driver domain serves it on purpose; otherwise destroy the domain \
                 and start it again"
            }
            Self::NotConnected { served: false, .. } => {
                "if it stays so, nothing serves it: pvusb-agent controller remove it; qusb needs a \
                 device model, so put usbctrl=['type=qusb,version=2,ports=8'] into the domain's xl.cfg"
            }
            Self::NotConnected { served: true, .. } => {
                "if it stays so, load xen-hcd in the guest (CONFIG_USB_XEN_HCD)"
            }
            Self::BackendGone { .. } => {
                "pvusb-agent controller remove it and add it anew; a guest that boots may also \
                 connect again"
            }
            Self::DeadDeviceModel { .. } => {
                "/var/log/xen/qemu-dm-NAME.log may say why; start the domain again: xl starts a \
                 device model only with its domain"
            }
            Self::DeadDomain { .. } => {
                "xl destroy it by its number; if xl knows it no more, reboot"
            }
            Self::TooManyControllers { .. } => {
                "pvusb-agent controller remove those that are empty, from the last"
            }
        }
    }

    /// What can be done about it without harm.
    pub fn mend(&self, observed: &Observed) -> Option<Mend> {
        match self {
            Self::StalePort { place, kind, busid } => {
                Some(Mend::ClearStale { place: *place, kind: *kind, busid: busid.clone() })
            }
            Self::Left(leftover) => Some(Mend::RemoveLeftover(*leftover)),
            Self::UnusableController { domid, controller, fault: ControllerFault::NoType } => {
                Some(Mend::RemoveHusk { domid: *domid, controller: *controller })
            }
            Self::DriversLeft { busid }
            | Self::NoteLeft { busid, .. }
            | Self::OnUsbback { busid, .. }
            | Self::WithoutDriver { busid, .. } => give_back(busid, observed),
            Self::StrangePort { .. }
            | Self::SeveralPorts { .. }
            | Self::PortNumberTwice { .. }
            | Self::UnusableController { .. }
            | Self::NotConnected { .. }
            | Self::BackendGone { .. }
            | Self::DeadDeviceModel { .. }
            | Self::DeadDomain { .. }
            | Self::TooManyControllers { .. } => None,
        }
    }
}

/// A device in no port that is plugged goes back to its drivers, unless a program has it or the agent
/// has let it out for somebody else; of one that is not, the notes go.
fn give_back(busid: &BusId, observed: &Observed) -> Option<Mend> {
    let noted = Noted {
        busid: busid.clone(),
        note: observed.xen.notes.get(busid).cloned(),
        survey: Survey::of(&observed.xen),
    };
    match observed.devices.get(busid) {
        None => Some(Mend::Forget(noted)),
        Some(device) if device.bound_to(USBFS).next().is_some() => None,
        Some(device) if noted.note.as_ref().is_some_and(|note| admits(note, device)) => None,
        Some(device) => Some(Mend::Return { noted, plug: device.plug() }),
    }
}

/// Who is to have such a device, only the policy says.
fn admits(note: &Note, device: &Device) -> bool {
    note.state == NoteState::Admitted && note.plug == device.plug()
}

/// The kernel driver that holds a device's interfaces for a `pv` controller.
const USBBACK: &str = "usbback";

/// The kernel driver that holds them for a program.
const USBFS: &str = "usbfs";

fn of_ports(observed: &Observed) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut places: BTreeMap<&BusId, Vec<(Place, ControllerKind)>> = BTreeMap::new();
    for (place, content) in observed.xen.ports() {
        let guest = observed.xen.guests.get(&place.domid);
        let controller = guest.and_then(|guest| guest.controllers.get(&place.controller));
        let Some(kind) = controller.map(|controller| controller.kind) else { continue };
        match content {
            PortContent::Free => {}
            PortContent::Strange(content) => {
                found.push(Finding::StrangePort { place, kind, content: content.clone() });
            }
            PortContent::Taken(busid) => {
                places.entry(busid).or_default().push((place, kind));
                if !observed.devices.contains_key(busid) {
                    found.push(Finding::StalePort { place, kind, busid: busid.clone() });
                }
            }
        }
    }
    let several = places.into_iter().filter(|(_, places)| places.len() > 1);
    found.extend(
        several.map(|(busid, places)| Finding::SeveralPorts { busid: busid.clone(), places }),
    );
    found
}

fn of_devices(observed: &Observed) -> Vec<Finding> {
    let Observed { devices, xen, .. } = observed;
    let is_free = |busid: &BusId| xen.places_of(busid).next().is_none();
    let mut found = Vec::new();
    for (busid, note) in &xen.notes {
        if is_free(busid) && speaks_of_nothing(note, devices.get(busid), observed) {
            found.push(Finding::NoteLeft { busid: busid.clone(), note: note.clone() });
        }
    }
    // Of what the agent has noted it takes care, and what it takes care of is told above.
    let is_nobodys = |busid: &BusId| is_free(busid) && !xen.notes.contains_key(busid);
    // What usbback still has needs what is noted, and is told of below.
    let is_held = |busid: &BusId| devices.get(busid).is_some_and(has_usbback);
    let returns = xen.returns.keys().filter(|busid| is_nobodys(busid) && !is_held(busid));
    found.extend(returns.map(|busid| Finding::DriversLeft { busid: busid.clone() }));
    for (busid, device) in devices.iter().filter(|(busid, _)| is_nobodys(busid)) {
        let held: Vec<_> = device.bound_to(USBBACK).cloned().collect();
        // What is held back has no driver on purpose.
        let may_have_one = |name: &&InterfaceName| device.authorized().any(|other| other == *name);
        let none: Vec<_> = device.driverless().filter(may_have_one).cloned().collect();
        if !held.is_empty() {
            found.push(Finding::OnUsbback { busid: busid.clone(), interfaces: held });
        } else if device.is_ready() && !none.is_empty() {
            found.push(Finding::WithoutDriver { busid: busid.clone(), interfaces: none });
        }
    }
    found
}

fn has_usbback(device: &Device) -> bool {
    device.bound_to(USBBACK).next().is_some()
}

/// A note of a device that is in no port. One whose domain is there says that somebody took the
/// device out; that is as it should be, for as long as the device stays plugged.
fn speaks_of_nothing(note: &Note, device: Option<&Device>, observed: &Observed) -> bool {
    if device.is_none_or(|device| device.plug() != note.plug) {
        return true;
    }
    match note.state {
        NoteState::Returning | NoteState::Admitted => true,
        // As the policy wants it, for as long as the device stays plugged.
        NoteState::Blocked => false,
        NoteState::Attached { place, uuid } => {
            let guest = observed.xen.guests.get(&place.domid);
            guest.is_none_or(|guest| guest.uuid != uuid || guest.life == Life::Dead)
        }
    }
}

fn of_guest(guest: &Guest) -> Vec<Finding> {
    let domid = guest.domid;
    let mut found = numbers_twice(guest);
    for (controller, fault) in &guest.broken {
        let (controller, fault) = (*controller, fault.clone());
        found.push(Finding::UnusableController { domid, controller, fault });
    }
    for (id, controller) in &guest.controllers {
        found.extend(of_controller(guest, *id, controller));
    }
    let has_controllers = guest.controllers.values().any(|c| c.kind == ControllerKind::Qusb);
    if guest.device_model == DeviceModel::Dead && has_controllers && guest.life != Life::Dead {
        found.push(Finding::DeadDeviceModel { domid, name: guest.name.clone() });
    }
    if guest.life == Life::Dead {
        found.push(Finding::DeadDomain { domid, name: guest.name.clone() });
    }
    let last = guest.controllers.keys().chain(guest.broken.keys()).max();
    if let Some(last) = last.filter(|last| **last > ControllerId::LAST) {
        found.push(Finding::TooManyControllers { domid, last: *last });
    }
    found
}

/// Port numbers that two `qusb` controllers of a domain use (see `plan/ports.rs`).
fn numbers_twice(guest: &Guest) -> Vec<Finding> {
    let mut first: BTreeMap<PortNumber, ControllerId> = BTreeMap::new();
    let mut found = Vec::new();
    let qusb = guest.controllers.iter().filter(|(_, c)| c.kind == ControllerKind::Qusb);
    for (id, controller) in qusb {
        let taken = controller.ports.iter().filter(|(_, content)| **content != PortContent::Free);
        for (port, _) in taken {
            match first.get(port) {
                None => drop(first.insert(*port, *id)),
                Some(other) => {
                    let place = Place { domid: guest.domid, controller: *id, port: *port };
                    found.push(Finding::PortNumberTwice { place, other: *other });
                }
            }
        }
    }
    found
}

fn of_controller(guest: &Guest, id: ControllerId, controller: &Controller) -> Option<Finding> {
    let (domid, kind) = (guest.domid, controller.kind);
    if guest.life != Life::Running || kind == ControllerKind::DeviceModel {
        return None;
    }
    match controller.backend {
        XenbusState::Connected | XenbusState::Reconfiguring | XenbusState::Reconfigured => None,
        XenbusState::Initialising => {
            Some(Finding::NotConnected { domid, controller: id, kind, served: false })
        }
        XenbusState::InitWait | XenbusState::Initialised => {
            Some(Finding::NotConnected { domid, controller: id, kind, served: true })
        }
        XenbusState::Unknown | XenbusState::Closing | XenbusState::Closed => {
            Some(Finding::BackendGone { domid, controller: id, kind })
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StalePort { place, busid, .. } => {
                write!(f, "{place} names {busid}, where nothing is plugged")
            }
            Self::StrangePort { place, content, .. } => {
                write!(f, "{place} names `{content}`, which is no place for a device")
            }
            Self::SeveralPorts { busid, places } => {
                let places: Vec<_> = places.iter().map(|(place, _)| place.to_string()).collect();
                write!(f, "{busid} is in several ports: {}", places.join(", "))
            }
            Self::PortNumberTwice { place: Place { domid, controller, port }, other } => write!(
                f,
                "domain {domid} uses port number {port} in its controllers {other} and {controller}"
            ),
            Self::Left(Leftover { domid, kind, controller }) => {
                write!(
                    f,
                    "the backend of {kind} controller {controller} of domain {domid}, which is gone"
                )
            }
            Self::DriversLeft { busid } => {
                write!(f, "drivers are noted for {busid}, which is in no port")
            }
            Self::NoteLeft { busid, note } => match note.state {
                NoteState::Attached { place, .. } => {
                    write!(f, "the agent's note says that {busid} is in {place}, and it is not")
                }
                NoteState::Returning => {
                    write!(f, "the agent's note says that {busid} is on its way back to dom0")
                }
                NoteState::Admitted => {
                    write!(
                        f,
                        "the agent's note says that {busid} was let out and has yet to arrive"
                    )
                }
                NoteState::Blocked => {
                    write!(f, "the agent's note says that {busid} is blocked, and it is gone")
                }
            },
            Self::OnUsbback { busid, interfaces } => {
                write!(f, "usbback has {}, and {busid} is in no port", list(interfaces))
            }
            Self::WithoutDriver { interfaces, .. } => {
                write!(f, "no driver has {}", list(interfaces))
            }
            Self::UnusableController { domid, controller, fault } => {
                write!(f, "domain {domid} controller {controller}: {fault}")
            }
            Self::NotConnected { domid, controller, kind, served: false } => write!(
                f,
                "domain {domid} controller {controller} ({kind}): its backend has not started"
            ),
            Self::NotConnected { domid, controller, kind, served: true } => write!(
                f,
                "domain {domid} controller {controller} ({kind}): the guest has not connected"
            ),
            Self::BackendGone { domid, controller, kind } => write!(
                f,
                "domain {domid} controller {controller} ({kind}): its backend is closed or gone"
            ),
            Self::DeadDeviceModel { domid, name } => {
                write!(f, "the device model of domain {domid} ({name}) has died")
            }
            Self::DeadDomain { domid, name } => {
                write!(f, "domain {domid} ({name}) is dead, and its nodes are still there")
            }
            Self::TooManyControllers { domid, last } => {
                write!(
                    f,
                    "domain {domid} has a controller {last}; xl counts to {}",
                    ControllerId::LAST
                )
            }
        }
    }
}

fn list(interfaces: &[InterfaceName]) -> String {
    interfaces.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
