//! Which port of which controller a device gets, or what stands in the way.

use super::next::Moment;
use super::standing::Problem;
use super::trail::{held_for, held_for_others};
use crate::model::{
    Controller, ControllerId, ControllerKind, ControllerSpec, Device, DeviceModel, Guest,
    GuestKind, Observed, Place, PortContent, PortNumber, Speed, UsbVersion, XenbusState,
};
use crate::policy::{Candidate, ControllerWish, KindWish, TargetWish};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How long a backend may take to notice a controller. libxl waits as long
/// (`LIBXL_INIT_TIMEOUT`).
pub const BACKEND_DEADLINE: Duration = Duration::from_secs(10);

/// How long a guest may take to connect to a controller that its backend serves. A guest that is
/// just booting loads its drivers within this time.
pub const FRONTEND_DEADLINE: Duration = Duration::from_secs(30);

/// How long a port stays empty before another device gets it. QEMU reads a port's present value
/// when it gets round to it, so a port that is emptied and filled at once still holds the old
/// device (`hw/usb/xen-usb.c: usbback_process_port`); seen to work after about a second.
pub const PORT_REST: Duration = Duration::from_millis(2500);

/// What to do to get a port for a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Take this one.
    Take {
        /// The port.
        place: Place,
        /// Who serves it.
        kind: ControllerKind,
    },
    /// Make this controller and take one of its ports.
    Create {
        /// The port.
        place: Place,
        /// The controller.
        spec: ControllerSpec,
    },
    /// A controller is about to connect.
    AwaitController {
        /// The controller.
        controller: ControllerId,
        /// When it is too late; `None` while a step is on its way.
        until: Option<Instant>,
    },
    /// A port is about to have rested.
    AwaitRest(Instant),
    /// There is none.
    None(Problem),
}

/// Chooses a port in `guest` for `device`: the first free port of the first connected controller
/// that can carry it and that is as wished; else it waits for a controller that is connecting; else it
/// makes one.
///
/// A port that is held for a device that was pulled goes to nobody else; that device gets it, if it can be
/// had.
pub fn choose(device: &Device, guest: &Guest, wish: TargetWish, moment: &Moment<'_>) -> Choice {
    let held: BTreeSet<Place> = held_for_others(device, moment).collect();
    if held.is_empty() {
        return choose_among(device, guest, wish, moment);
    }
    let reserved = moment.reserved.union(&held).copied().collect();
    choose_among(device, guest, wish, &Moment { reserved: &reserved, ..*moment })
}

fn choose_among(device: &Device, guest: &Guest, wish: TargetWish, moment: &Moment<'_>) -> Choice {
    if let Some(choice) = held_place(device, guest, wish, moment) {
        return choice;
    }
    let mut rest_ends: Option<Instant> = None;
    let mut connecting: Option<(ControllerId, Instant)> = None;
    let mut without_frontend: Option<ControllerId> = None;

    for (id, controller) in &guest.controllers {
        let is_fit = is_wished(*id, controller, wish) && carries(controller, device);
        if !is_fit || !is_served(controller.kind, guest, moment) {
            continue;
        }
        match outlook(guest, *id, controller, moment) {
            ControllerOutlook::Usable => match free_port(guest, *id, controller, wish, moment) {
                Free::Now(place) => return Choice::Take { place, kind: controller.kind },
                Free::At(when) => rest_ends = Some(rest_ends.map_or(when, |other| other.min(when))),
                Free::Never => {}
            },
            ControllerOutlook::Connecting { until }
                if has_room(guest, *id, controller, wish, moment) =>
            {
                connecting = connecting.or(Some((*id, until)));
            }
            ControllerOutlook::WithoutFrontend => {
                without_frontend = without_frontend.or(Some(*id));
            }
            ControllerOutlook::Connecting { .. }
            | ControllerOutlook::NotServed
            | ControllerOutlook::Gone => {}
        }
    }

    if let Some(when) = rest_ends {
        Choice::AwaitRest(when)
    } else if let Some((controller, until)) = connecting {
        Choice::AwaitController { controller, until: Some(until) }
    } else if let Some(controller) = without_frontend {
        Choice::None(Problem::NoFrontend { controller })
    } else {
        create(device, guest, wish, moment).unwrap_or_else(Choice::None)
    }
}

/// The port that is held for the device, if it can be had.
fn held_place(
    device: &Device,
    guest: &Guest,
    wish: TargetWish,
    moment: &Moment<'_>,
) -> Option<Choice> {
    let rule =
        moment.policy.judge_beside(&Candidate::of(device, moment.observed), &moment.observed.xen);
    let trail = held_for(device, rule?, moment.observed, Some(moment.since))?;
    let place = trail.place;
    let controller = guest.controllers.get(&place.controller)?;
    let is_there = (place.domid, trail.uuid) == (guest.domid, guest.uuid)
        && controller.ports.get(&place.port) == Some(&PortContent::Free)
        && wish.port.is_none_or(|port| port == place.port)
        && is_wished(place.controller, controller, wish)
        && carries(controller, device)
        && is_served(controller.kind, guest, moment)
        && outlook(guest, place.controller, controller, moment) == ControllerOutlook::Usable;
    match vacancy(place, guest, controller.kind, moment) {
        Free::Now(place) if is_there => Some(Choice::Take { place, kind: controller.kind }),
        Free::At(when) if is_there => Some(Choice::AwaitRest(when)),
        Free::Now(_) | Free::At(_) | Free::Never => None,
    }
}

/// What is to be expected of a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControllerOutlook {
    /// Both ends are connected.
    Usable,
    /// One end is still on its way.
    Connecting {
        /// When it is too late.
        until: Instant,
    },
    /// The backend has not noticed it within [`BACKEND_DEADLINE`].
    NotServed,
    /// The guest has not connected within [`FRONTEND_DEADLINE`].
    WithoutFrontend,
    /// It is closing, closed, or in a state that makes no sense.
    Gone,
}

/// What is to be expected of the controller `id` of `guest`.
pub fn outlook(
    guest: &Guest,
    id: ControllerId,
    controller: &Controller,
    moment: &Moment<'_>,
) -> ControllerOutlook {
    let in_time = |deadline: Duration, late: ControllerOutlook| {
        let since = moment.since.controller(guest.domid, id).unwrap_or(moment.now);
        let until = since + deadline;
        if moment.now < until { ControllerOutlook::Connecting { until } } else { late }
    };
    match controller.backend {
        XenbusState::Connected => ControllerOutlook::Usable,
        XenbusState::Initialising => in_time(BACKEND_DEADLINE, ControllerOutlook::NotServed),
        XenbusState::InitWait | XenbusState::Initialised => {
            in_time(FRONTEND_DEADLINE, ControllerOutlook::WithoutFrontend)
        }
        XenbusState::Unknown
        | XenbusState::Closing
        | XenbusState::Closed
        | XenbusState::Reconfiguring
        | XenbusState::Reconfigured => ControllerOutlook::Gone,
    }
}

/// A version 1 controller drops a high-speed device (`xen-usb.c: usbback_portid_add`).
fn carries(controller: &Controller, device: &Device) -> bool {
    controller.version.is_some_and(|version| version_carries(version, device.speed))
}

fn version_carries(version: UsbVersion, speed: Speed) -> bool {
    match version {
        UsbVersion::V2 => true,
        UsbVersion::V1 => matches!(speed, Speed::Low | Speed::Full | Speed::Unknown),
    }
}

fn is_served(kind: ControllerKind, guest: &Guest, moment: &Moment<'_>) -> bool {
    match kind {
        ControllerKind::Pv => moment.observed.usbback,
        ControllerKind::Qusb => guest.device_model == DeviceModel::Running { qusb: true },
        ControllerKind::DeviceModel => false,
    }
}

/// Whether a controller is one of those that are asked for.
fn is_wished(id: ControllerId, controller: &Controller, wish: TargetWish) -> bool {
    let is_kind = match wish.kind {
        None | Some(KindWish::Auto) => true,
        Some(KindWish::Pv) => controller.kind == ControllerKind::Pv,
        Some(KindWish::Qusb) => controller.kind == ControllerKind::Qusb,
    };
    is_kind
        && wish.index.is_none_or(|index| index == id)
        && wish.version.is_none_or(|version| controller.version == Some(version))
}

fn has_room(
    guest: &Guest,
    id: ControllerId,
    controller: &Controller,
    wish: TargetWish,
    moment: &Moment<'_>,
) -> bool {
    !matches!(free_port(guest, id, controller, wish, moment), Free::Never)
}

enum Free {
    Now(Place),
    At(Instant),
    Never,
}

fn free_port(
    guest: &Guest,
    id: ControllerId,
    controller: &Controller,
    wish: TargetWish,
    moment: &Moment<'_>,
) -> Free {
    let free = controller.ports.iter().filter(|(port, content)| {
        **content == PortContent::Free && wish.port.is_none_or(|wished| wished == **port)
    });
    let places = free.map(|(port, _)| Place { domid: guest.domid, controller: id, port: *port });
    first_vacant(places, guest, controller.kind, moment)
}

/// The first of these places that can be filled now, or else when one can be.
fn first_vacant(
    places: impl Iterator<Item = Place>,
    guest: &Guest,
    kind: ControllerKind,
    moment: &Moment<'_>,
) -> Free {
    let mut earliest: Option<Instant> = None;
    for place in places {
        match vacancy(place, guest, kind, moment) {
            Free::Now(place) => return Free::Now(place),
            Free::At(when) => earliest = Some(earliest.map_or(when, |other| other.min(when))),
            Free::Never => {}
        }
    }
    earliest.map_or(Free::Never, Free::At)
}

/// Whether an empty place can be filled. With `qusb` a port number is used once in a whole domain:
/// QEMU names the state of a device by its port number alone, and aborts when it meets the same
/// name in a second controller (`usb_get_dev_path` in `hw/usb/bus.c`; the assertion is in
/// `migration/savevm.c: vmstate_register_with_alias_id`; seen with QEMU 7.2).
fn vacancy(place: Place, guest: &Guest, kind: ControllerKind, moment: &Moment<'_>) -> Free {
    let by_number = kind == ControllerKind::Qusb;
    let clashes = |other: &Place| {
        *other == place || (by_number && other.domid == place.domid && other.port == place.port)
    };
    let taken = guest.controllers.iter().any(|(id, controller)| {
        let port = controller.ports.get(&place.port);
        by_number
            && *id != place.controller
            && controller.kind == ControllerKind::Qusb
            && port.is_some_and(|content| *content != PortContent::Free)
    });
    if taken || moment.reserved.iter().any(clashes) {
        return Free::Never;
    }
    let emptied = moment.since.emptied.iter().filter(|(other, _)| clashes(other));
    match emptied.map(|(_, when)| *when + PORT_REST).max() {
        Some(rested) if moment.now < rested => Free::At(rested),
        _ => Free::Now(place),
    }
}

fn create(
    device: &Device,
    guest: &Guest,
    wish: TargetWish,
    moment: &Moment<'_>,
) -> Result<Choice, Problem> {
    if let Some(controller) = wish.index.filter(|index| guest.controllers.contains_key(index)) {
        return Err(no_room_in(guest, controller, wish, device, moment));
    }
    let observed = moment.observed;
    let spec = settled(wish.over(moment.policy.controller()), guest, observed);
    // A domain without a device model whose controllers are all full is one without a free port;
    // without any controller it is one without a device model. The cure differs.
    expect_served(spec.kind, guest, observed).map_err(|problem| {
        let is_full = problem == Problem::NoDeviceModel && has_working(guest);
        if is_full { Problem::NoFreePort } else { problem }
    })?;
    if !version_carries(spec.version, device.speed) {
        return Err(Problem::TooFast(spec.version));
    }
    let unserved = moment.since.unserved(guest).filter(|(_, kind)| *kind == spec.kind);
    if let Some((controller, kind)) = unserved {
        return Err(Problem::NotServed { controller, kind });
    }
    if let Some((controller, _)) = guest.controllers.iter().find(|(id, controller)| {
        controller.ours
            && controller.kind == spec.kind
            && outlook(guest, **id, controller, moment) == ControllerOutlook::NotServed
    }) {
        return Err(Problem::NotServed { controller: *controller, kind: spec.kind });
    }
    let next = next_id(guest);
    if let Some(wanted) = wish.index.filter(|wanted| next != Some(*wanted)) {
        return Err(Problem::NoSuchController { wanted, next });
    }
    let controller = next.ok_or(Problem::NoFreePort)?;
    if moment.creating.contains(&guest.domid) {
        return Ok(Choice::AwaitController { controller, until: None });
    }
    let place = |port| Place { domid: guest.domid, controller, port };
    let ports = PortNumber::MAX.up_to().filter(|port| wish.port.is_none_or(|wish| wish == *port));
    let mut numbers = ports.map(|port| vacancy(place(port), guest, spec.kind, moment));
    // The first that will do is worth its rest: from a later one on, the controller would be larger.
    match numbers.find(|number| !matches!(number, Free::Never)).unwrap_or(Free::Never) {
        Free::Now(place) => {
            // One that is asked for is among those of the specification.
            let first = if wish.port.is_some() { PortNumber::FIRST } else { place.port };
            let ports = with_room(spec.ports, first);
            Ok(Choice::Create { place, spec: ControllerSpec { ports, ..spec } })
        }
        Free::At(when) => Ok(Choice::AwaitRest(when)),
        Free::Never => Err(wish.port.map_or(Problem::NoFreePort, Problem::PortNotFree)),
    }
}

/// What is in the way in the one controller that is asked for.
fn no_room_in(
    guest: &Guest,
    controller: ControllerId,
    wish: TargetWish,
    device: &Device,
    moment: &Moment<'_>,
) -> Problem {
    let is_fit = guest.controllers.get(&controller).is_some_and(|there| {
        is_wished(controller, there, wish)
            && carries(there, device)
            && is_served(there.kind, guest, moment)
            && outlook(guest, controller, there, moment) == ControllerOutlook::Usable
    });
    match wish.port {
        _ if !is_fit => Problem::UnfitController { controller },
        Some(port) => Problem::PortNotFree(port),
        None => Problem::NoFreePort,
    }
}

/// As many ports from `first` on as were asked for, as far as a controller can have them.
fn with_room(asked: PortNumber, first: PortNumber) -> PortNumber {
    let ports = asked.get().saturating_add(first.get() - PortNumber::FIRST.get());
    PortNumber::new(ports).unwrap_or(PortNumber::MAX)
}

fn has_working(guest: &Guest) -> bool {
    guest.controllers.values().any(|controller| controller.backend == XenbusState::Connected)
}

/// Whether there is somebody to serve a new controller of this kind.
///
/// # Errors
///
/// What is missing.
pub(super) fn expect_served(
    kind: ControllerKind,
    guest: &Guest,
    observed: &Observed,
) -> Result<(), Problem> {
    match (kind, guest.device_model) {
        (ControllerKind::Pv, _) if observed.usbback => Ok(()),
        (ControllerKind::Pv, _) => Err(Problem::NoUsbback),
        (_, DeviceModel::Running { qusb: true }) => Ok(()),
        (_, DeviceModel::Running { qusb: false }) => Err(Problem::DeviceModelWithoutQusb),
        (_, DeviceModel::Starting) => Err(Problem::DeviceModelStarting),
        (_, DeviceModel::Dead) => Err(Problem::DeviceModelDead),
        (_, DeviceModel::Absent) => Err(Problem::NoDeviceModel),
    }
}

/// The type by the rule `auto` of libxl (`libxl_usb.c: libxl__device_usbctrl_setdefault`), except
/// that an HVM domain gets `qusb`: its emulated controllers can be driven only through QMP.
pub(super) fn settled(wish: ControllerWish, guest: &Guest, observed: &Observed) -> ControllerSpec {
    let kind = match (wish.kind, guest.kind) {
        (KindWish::Pv, _) => ControllerKind::Pv,
        (KindWish::Auto, GuestKind::Pv | GuestKind::Pvh) if observed.usbback => ControllerKind::Pv,
        (KindWish::Qusb | KindWish::Auto, _) => ControllerKind::Qusb,
    };
    ControllerSpec { kind, version: wish.version, ports: wish.ports }
}

/// One more than the highest number in use, as libxl counts, never a gap: see
/// [`ControllerId::LAST`].
pub(super) fn next_id(guest: &Guest) -> Option<ControllerId> {
    match guest.controllers.keys().chain(guest.broken.keys()).max() {
        None => Some(ControllerId::FIRST),
        Some(last) => last.next(),
    }
}

#[cfg(test)]
mod tests;
