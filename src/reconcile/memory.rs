//! Keeping [`Since`] up to date after each look and each step.

use crate::model::{BusId, ControllerKind, Observed, Place, PortContent, XenView, XenbusState};
use crate::plan::next::without_usbback;
use crate::plan::ports::PORT_REST;
use crate::plan::{Plugs, Since, Step};
use crate::policy::Flapping;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Takes over what a look has shown. `before` is what xenstore showed before it; `is_read` tells
/// whether the reading of a device is not older than that of xenstore.
pub(super) fn remember(
    since: &mut Since,
    now: Instant,
    before: &XenView,
    observed: &Observed,
    is_read: impl Fn(&BusId) -> bool,
) {
    remember_ready(since, now, observed);
    remember_plugs(since, now, observed);
    remember_controllers(since, now, observed);
    remember_emptied(since, now, before, observed);
    remember_returning(since, now, observed);
    remember_tenants(since, observed, is_read);
    remember_whole(since, now, observed);
    since.unserved.retain(|(domid, uuid), _| {
        observed.xen.guests.get(domid).is_some_and(|guest| guest.uuid == *uuid)
    });
}

/// Takes over what the first look has shown, and the first after a time without xenstore: any port that
/// is free may have been emptied just before, by an agent that was killed since or by somebody else.
pub(super) fn remember_start(since: &mut Since, now: Instant, xen: &XenView) {
    let free = xen.ports().filter(|(_, content)| **content == PortContent::Free);
    let served = free.filter(|(place, _)| {
        let guest = xen.guests.get(&place.domid);
        guest.and_then(|guest| guest.controllers.get(&place.controller)).is_some_and(|controller| {
            controller.kind == ControllerKind::Qusb
                && controller.backend != XenbusState::Initialising
        })
    });
    since.emptied.extend(served.map(|(place, _)| (place, now)));
}

/// Takes over what a step has done.
pub(super) fn remember_step(since: &mut Since, step: &Step, observed: &Observed) {
    if let Step::RemoveController { domid, uuid, controller, kind, .. } = step
        && let Some(guest) = observed.xen.guests.get(domid)
    {
        since.unserved.insert((*domid, *uuid), (*controller, *kind, guest.device_model));
    }
    if let Step::TakeInterfaces { busid, .. } = step
        && let Some(device) = observed.devices.get(busid)
    {
        since.whole.insert(busid.clone(), device.plug());
    }
}

fn remember_ready(since: &mut Since, now: Instant, observed: &Observed) {
    let ready: BTreeMap<_, _> = observed
        .devices
        .iter()
        .filter(|(_, device)| device.is_ready())
        .map(|(busid, device)| (busid, device.plug()))
        .collect();
    since.ready.retain(|busid, (plug, _)| ready.get(busid) == Some(plug));
    for (busid, plug) in ready {
        since.ready.entry(busid.clone()).or_insert((plug, now));
    }
}

/// Plugs are counted as they are seen: what was pulled and plugged between two looks is one plug. A
/// place is forgotten when its last plug is too old to count and nothing is plugged there.
fn remember_plugs(since: &mut Since, now: Instant, observed: &Observed) {
    let is_old = |when: &Instant| now.duration_since(*when) > Flapping::MAX_TIME;
    since.plugs.retain(|busid, plugs| {
        observed.devices.contains_key(busid) || plugs.seen.back().is_some_and(|when| !is_old(when))
    });
    for (busid, device) in &observed.devices {
        let plug = device.plug();
        let plugs = since
            .plugs
            .entry(busid.clone())
            .or_insert_with(|| Plugs { last: plug, seen: [now].into() });
        if !plugs.last.may_become(&plug) {
            plugs.seen.push_back(now);
        }
        plugs.last = plug;
        while plugs.seen.len() > Plugs::MOST || plugs.seen.front().is_some_and(is_old) {
            if plugs.seen.len() == 1 {
                break;
            }
            plugs.seen.pop_front();
        }
    }
}

fn remember_controllers(since: &mut Since, now: Instant, observed: &Observed) {
    let states: BTreeMap<_, _> = observed
        .xen
        .guests
        .values()
        .flat_map(|guest| guest.controllers.iter().map(|(id, c)| ((guest.domid, *id), c.backend)))
        .collect();
    since.controllers.retain(|key, (state, _)| states.get(key) == Some(state));
    for (key, state) in states {
        since.controllers.entry(key).or_insert((state, now));
    }
}

fn remember_emptied(since: &mut Since, now: Instant, before: &XenView, observed: &Observed) {
    // Whoever removes a controller empties its ports: the next one may have the same numbers.
    let is_empty = |place: Place| match observed.xen.port(place) {
        Some(content) => *content == PortContent::Free,
        None => observed.xen.guests.contains_key(&place.domid),
    };
    since.emptied.retain(|place, when| now < *when + PORT_REST && is_empty(*place));
    let emptied = before.taken_ports().map(|(place, _)| place).filter(|place| is_empty(*place));
    since.emptied.extend(emptied.map(|place| (place, now)));
}

/// A device is on its way back since no port names it any more.
fn remember_returning(since: &mut Since, now: Instant, observed: &Observed) {
    let xen = &observed.xen;
    let returning: BTreeSet<_> =
        xen.notes.keys().filter(|busid| xen.places_of(busid).next().is_none()).collect();
    since.returning.retain(|busid, _| returning.contains(busid));
    for busid in returning {
        since.returning.entry(busid.clone()).or_insert(now);
    }
}

fn remember_tenants(since: &mut Since, observed: &Observed, is_read: impl Fn(&BusId) -> bool) {
    let taken: BTreeMap<Place, &BusId> = observed.xen.taken_ports().collect();
    since.tenants.retain(|place, (busid, _)| taken.get(place) == Some(&&*busid));
    for (place, busid) in taken {
        if let Some(device) = observed.devices.get(busid).filter(|_| is_read(busid)) {
            let plug = device.plug();
            let tenant = since.tenants.entry(place).or_insert_with(|| (busid.clone(), plug));
            // udev has finished with it since.
            if tenant.1.may_become(&plug) {
                tenant.1 = plug;
            }
        }
    }
}

/// Which devices usbback has had as a whole, and since when it has them no more.
fn remember_whole(since: &mut Since, now: Instant, observed: &Observed) {
    let (mut whole, mut loose) = (BTreeMap::new(), BTreeMap::new());
    for (busid, note) in &observed.xen.notes {
        let device = observed.devices.get(busid).filter(|device| device.plug() == note.plug);
        let Some(device) = device else { continue };
        let complete = without_usbback(device, note.kind).is_empty();
        if complete || since.whole.get(busid) == Some(&note.plug) {
            whole.insert(busid.clone(), note.plug);
            if !complete {
                loose.insert(busid.clone(), since.loose.get(busid).copied().unwrap_or(now));
            }
        }
    }
    since.whole = whole;
    since.loose = loose;
}
