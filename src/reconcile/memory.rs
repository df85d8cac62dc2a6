//! Keeping [`Since`] up to date after each look and each step.

use crate::model::{
    BusId, ControllerKind, DomId, Note, NoteState, Observed, Place, PortContent, Trail, XenView,
    XenbusState,
};
use crate::plan::next::{DRIVER_GRACE, is_taken_out, without_usbback};
use crate::plan::ports::PORT_REST;
use crate::plan::{Plugs, Since, Step};
use crate::policy::Flapping;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Takes over what a look has shown. `before` is what xenstore showed before it, and `filled` are the ports
/// that the agent has filled since, or may have; `covered` are the domains that were looked at now; `is_read`
/// tells whether the reading of a device is not older than that of xenstore.
pub(super) fn remember(
    since: &mut Since,
    now: Instant,
    before: &XenView,
    filled: &BTreeSet<Place>,
    covered: &BTreeSet<DomId>,
    observed: &Observed,
    is_read: impl Fn(&BusId) -> bool,
) {
    remember_ready(since, now, observed);
    remember_plugs(since, now, observed);
    remember_controllers(since, now, observed);
    let taken = before.taken_ports().map(|(place, _)| place).chain(filled.iter().copied());
    remember_emptied(since, now, taken, observed);
    remember_freed(since, now, before, observed);
    remember_returning(since, now, observed);
    remember_tenants(since, before, observed, &is_read);
    remember_taken_out(since, covered, observed);
    remember_whole(since, now, observed);
    remember_vanished(since, now, observed, is_read);
    since.turns.retain(|busid, turns| turns.are_of(observed.devices.get(busid)));
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
    if let Step::ClearPort { place, .. } = step {
        // What it names at the next look, somebody has written since.
        since.tenants.remove(place);
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

fn remember_emptied(
    since: &mut Since,
    now: Instant,
    taken: impl Iterator<Item = Place>,
    observed: &Observed,
) {
    // Whoever removes a controller empties its ports: the next one may have the same numbers.
    let is_empty = |place: Place| match observed.xen.port(place) {
        Some(content) => *content == PortContent::Free,
        None => observed.xen.guests.contains_key(&place.domid),
    };
    since.emptied.retain(|place, when| now < *when + PORT_REST && is_empty(*place));
    let emptied = taken.filter(|place| is_empty(*place));
    since.emptied.extend(emptied.map(|place| (place, now)));
}

/// A device that somebody else has taken out of the port into which somebody else had put it.
fn remember_freed(since: &mut Since, now: Instant, before: &XenView, observed: &Observed) {
    let is_free = |busid: &BusId| observed.xen.places_of(busid).next().is_none();
    since.freed.retain(|busid, when| now < *when + DRIVER_GRACE && is_free(busid));
    for (place, busid) in before.taken_ports() {
        if !before.is_ours(busid, place) && is_free(busid) {
            since.freed.insert(busid.clone(), now);
        }
    }
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

/// A device has vanished when its trail is there and it is not plugged any more. An agent that starts anew knows
/// that only when it was looked at: until then nobody has said that it is gone.
fn remember_vanished(
    since: &mut Since,
    now: Instant,
    observed: &Observed,
    is_read: impl Fn(&BusId) -> bool,
) {
    let is_gone = |(busid, trail): &(&BusId, &Trail)| {
        let device = observed.devices.get(busid);
        !device.is_some_and(|device| trail.plug.may_become(&device.plug()))
    };
    let gone: BTreeMap<_, _> = observed.xen.trails.iter().filter(is_gone).collect();
    since.vanished.retain(|busid, (trail, _)| gone.get(busid) == Some(&&*trail));
    for (busid, trail) in gone.into_iter().filter(|(busid, _)| is_read(busid)) {
        since.vanished.entry(busid.clone()).or_insert_with(|| (trail.clone(), now));
    }
}

fn remember_tenants(
    since: &mut Since,
    before: &XenView,
    observed: &Observed,
    is_read: impl Fn(&BusId) -> bool,
) {
    let taken: BTreeMap<Place, &BusId> = observed.xen.taken_ports().collect();
    // The agent has emptied it since, whether that was heard or not: its note and the port change together.
    let was_emptied = |place: Place, busid: &BusId| {
        before.is_ours(busid, place) && !observed.xen.is_ours(busid, place)
    };
    since.tenants.retain(|place, (busid, _)| {
        taken.get(place) == Some(&&*busid) && !was_emptied(*place, busid)
    });
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

/// Which notes speak of a port that somebody has emptied. As long as the note is the same, the agent has
/// filled no port for it since. Notes are read with every look, and before the ports: only of a domain that
/// the look has covered are these not older.
fn remember_taken_out(since: &mut Since, covered: &BTreeSet<DomId>, observed: &Observed) {
    let xen = &observed.xen;
    since.taken_out.retain(|busid, note| xen.notes.get(busid) == Some(note));
    let is_covered = |note: &Note| match note.state {
        NoteState::Attached { place, .. } => covered.contains(&place.domid),
        NoteState::Returning | NoteState::Admitted | NoteState::Blocked => false,
    };
    let out =
        xen.notes.iter().filter(|(busid, note)| is_covered(note) && is_taken_out(busid, note, xen));
    since.taken_out.extend(out.map(|(busid, note)| (busid.clone(), note.clone())));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::AfterClear;
    use crate::plan::made_up::{
        Scenery, attach, bind, busid, controller, device, domid, fill, guest, host, place,
        replugged, uuid,
    };
    use std::time::Duration;

    /// The device 1-1, and a domain with a controller of each kind.
    fn scenery() -> Scenery {
        let mut kiosk = guest(4, "kiosk");
        for (id, kind) in [("0", ControllerKind::Qusb), ("1", ControllerKind::Pv)] {
            kiosk.controllers.insert(id.parse().unwrap(), controller(kind, 2));
        }
        Scenery::new(host([device("1-1")], [kiosk]), "{version: 1, rules: []}")
    }

    /// Looks, so long after the last look, at what is there and was there before.
    fn look(it: &mut Scenery, later: Duration, before: &XenView) {
        it.now += later;
        remember(
            &mut it.since,
            it.now,
            before,
            &BTreeSet::new(),
            &[domid(4)].into(),
            &it.observed,
            |_| true,
        );
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn at_the_start_only_what_qemu_may_have_read_must_rest() {
        let mut it = scenery();
        let mut closed = controller(ControllerKind::Qusb, 2);
        closed.backend = XenbusState::Initialising;
        it.guest(4).controllers.insert("2".parse().unwrap(), closed);
        fill(&mut it.observed, place(4, 0, 2), PortContent::Taken(busid("1-1")));
        remember_start(&mut it.since, it.now, &it.observed.xen);
        assert_eq!(it.since.emptied, [(place(4, 0, 1), it.now)].into());
    }

    #[test]
    fn a_port_that_was_emptied_rests_and_is_then_forgotten() {
        let mut it = scenery();
        let before = it.observed.xen.clone();
        let mut taken = it.observed.clone();
        attach(&mut taken, "1-1", place(4, 0, 1));
        look(&mut it, SECOND, &taken.xen);
        let emptied = it.now;
        look(&mut it, SECOND, &before);
        assert_eq!(it.since.emptied, [(place(4, 0, 1), emptied)].into());
        it.now = emptied + PORT_REST;
        look(&mut it, Duration::ZERO, &before);
        assert!(it.since.emptied.is_empty());

        look(&mut it, SECOND, &taken.xen);
        it.observed = taken;
        look(&mut it, SECOND, &before);
        assert!(it.since.emptied.is_empty(), "it is not empty any more");
    }

    /// xl may empty a port that the agent has filled before anybody has looked.
    #[test]
    fn a_port_that_was_filled_and_emptied_between_two_looks_rests() {
        let mut it = scenery();
        let (nothing, there) = (XenView::default(), place(4, 0, 1));
        remember(
            &mut it.since,
            it.now,
            &nothing,
            &[there].into(),
            &BTreeSet::new(),
            &it.observed,
            |_| true,
        );
        assert_eq!(it.since.emptied, [(there, it.now)].into());
    }

    #[test]
    fn what_others_have_taken_out_may_get_its_drivers_back_for_a_while() {
        let mut it = scenery();
        let free = it.observed.xen.clone();
        fill(&mut it.observed, place(4, 1, 1), PortContent::Taken(busid("1-1")));
        let taken = std::mem::replace(&mut it.observed.xen, free.clone());
        look(&mut it, SECOND, &taken);
        let then = it.now;
        look(&mut it, SECOND, &free);
        assert_eq!(it.since.freed, [(busid("1-1"), then)].into());
        look(&mut it, DRIVER_GRACE, &free);
        assert_eq!(it.since.freed.len(), 0);
        look(&mut it, SECOND, &taken);
        it.observed.xen = taken.clone();
        look(&mut it, Duration::ZERO, &free);
        assert_eq!(it.since.freed.len(), 0, "it is in a port again");
        attach(&mut it.observed, "1-1", place(4, 1, 1));
        let ours = std::mem::replace(&mut it.observed.xen, free);
        look(&mut it, SECOND, &ours);
        assert_eq!(it.since.freed.len(), 0, "that was the agent's");
    }

    #[test]
    fn what_a_trail_speaks_of_has_vanished_since_it_was_first_seen_to_be_gone() {
        let mut it = scenery();
        let (plug, there) = (it.device("1-1").plug(), place(4, 0, 1));
        let (uuid, rule) = (uuid(there.domid), "x".into());
        let trail = Trail { plug, place: there, uuid, rule, follows: false };
        let before = it.observed.xen.clone();
        it.observed.xen.trails.insert(busid("1-1"), trail.clone());
        look(&mut it, SECOND, &before);
        assert!(it.since.vanished.is_empty(), "it is there");
        let device = it.observed.devices.remove(&busid("1-1")).unwrap();
        look(&mut it, SECOND, &before);
        let then = it.now;
        look(&mut it, SECOND, &before);
        assert_eq!(it.since.vanished, [(busid("1-1"), (trail.clone(), then))].into());
        let another = Trail { follows: true, ..trail };
        it.observed.xen.trails.insert(busid("1-1"), another.clone());
        look(&mut it, SECOND, &before);
        assert_eq!(it.since.vanished, [(busid("1-1"), (another, it.now))].into());
        it.observed.devices.insert(busid("1-1"), device);
        look(&mut it, SECOND, &before);
        assert!(it.since.vanished.is_empty(), "it is back");
    }

    #[test]
    fn what_could_not_be_looked_at_since_the_start_has_not_vanished() {
        let mut it = scenery();
        let (plug, there) = (it.device("1-1").plug(), place(4, 0, 1));
        let (uuid, rule) = (uuid(there.domid), "x".into());
        let trail = Trail { plug, place: there, uuid, rule, follows: false };
        it.observed.xen.trails.insert(busid("1-1"), trail);
        it.observed.devices.remove(&busid("1-1"));
        remember_vanished(&mut it.since, it.now, &it.observed, |_| false);
        assert!(it.since.vanished.is_empty(), "nobody has seen that it is gone");
        remember_vanished(&mut it.since, it.now, &it.observed, |_| true);
        remember_vanished(&mut it.since, it.now, &it.observed, |_| false);
        assert_eq!(it.since.vanished.len(), 1, "once seen, another look does not matter");
    }

    #[test]
    fn plugs_are_counted_for_as_long_as_a_policy_may_count_them() {
        let mut it = scenery();
        let nothing = XenView::default();
        for _ in 0..Plugs::MOST + 3 {
            it.device("1-1").initialized = replugged(it.device("1-1")).initialized;
            look(&mut it, Duration::from_millis(1), &nothing);
            look(&mut it, Duration::from_millis(1), &nothing);
        }
        let counted = |it: &Scenery| it.since.plugs.get(&busid("1-1")).map(|it| it.seen.len());
        assert_eq!(counted(&it), Some(Plugs::MOST));
        let [first, second] = [0, 1].map(|nth| it.since.plugs[&busid("1-1")].seen[nth]);
        it.now = first + Flapping::MAX_TIME;
        look(&mut it, Duration::ZERO, &nothing);
        assert_eq!(counted(&it), Some(Plugs::MOST));
        it.now = second + Flapping::MAX_TIME;
        look(&mut it, Duration::ZERO, &nothing);
        assert_eq!(counted(&it), Some(Plugs::MOST - 1));
        look(&mut it, Flapping::MAX_TIME, &nothing);
        assert_eq!(counted(&it), Some(1), "the last one, for as long as it is plugged");
        it.observed.devices.clear();
        look(&mut it, SECOND, &nothing);
        assert_eq!(counted(&it), None);
    }

    #[test]
    fn a_controller_has_been_in_its_state_since_it_was_first_seen_in_it() {
        let mut it = scenery();
        let nothing = XenView::default();
        look(&mut it, SECOND, &nothing);
        let first = it.now;
        look(&mut it, SECOND, &nothing);
        let since = |it: &Scenery| it.since.controller(domid(4), place(4, 0, 1).controller);
        assert_eq!(since(&it), Some(first));
        it.controller(4, 0).backend = XenbusState::Closed;
        look(&mut it, SECOND, &nothing);
        assert_eq!(since(&it), Some(it.now));
    }

    #[test]
    fn a_port_remembers_the_plug_that_it_was_first_seen_to_name() {
        let mut it = scenery();
        let (nothing, there) = (XenView::default(), place(4, 0, 1));
        it.device("1-1").initialized = None;
        fill(&mut it.observed, there, PortContent::Taken(busid("1-1")));
        remember(
            &mut it.since,
            it.now,
            &nothing,
            &BTreeSet::new(),
            &BTreeSet::new(),
            &it.observed,
            |_| false,
        );
        assert_eq!(it.since.tenants.len(), 0, "the reading may be of an earlier plug");
        look(&mut it, SECOND, &nothing);
        it.device("1-1").initialized = Some(7);
        look(&mut it, SECOND, &nothing);
        let plug = it.device("1-1").plug();
        assert_eq!(it.since.tenants, [(there, (busid("1-1"), plug))].into(), "udev has finished");
        it.device("1-1").initialized = Some(8);
        look(&mut it, SECOND, &nothing);
        assert_eq!(it.since.tenants, [(there, (busid("1-1"), plug))].into(), "that is another");
        fill(&mut it.observed, there, PortContent::Free);
        look(&mut it, SECOND, &nothing);
        assert_eq!(it.since.tenants.len(), 0);
    }

    /// xl may fill a port so soon after the agent has cleared it that nobody sees it empty.
    #[test]
    fn a_port_that_the_agent_has_cleared_names_what_is_plugged_when_it_is_filled_again() {
        let mut it = scenery();
        let (nothing, there) = (XenView::default(), place(4, 0, 1));
        fill(&mut it.observed, there, PortContent::Taken(busid("1-1")));
        look(&mut it, SECOND, &nothing);
        it.device("1-1").initialized = replugged(it.device("1-1")).initialized;
        let (busid, kind) = (busid("1-1"), ControllerKind::Qusb);
        let step = Step::ClearPort { place: there, kind, busid, after: AfterClear::Gone };
        remember_step(&mut it.since, &step, &it.observed);
        look(&mut it, SECOND, &nothing);
        let device = it.device("1-1").clone();
        assert!(!it.since.was_for_another_plug(there, &device));

        // If nobody has heard that it was cleared, the note tells.
        it.device("1-1").initialized = replugged(&device).initialized;
        attach(&mut it.observed, "1-1", there);
        let before = it.observed.xen.clone();
        it.observed.xen.notes.clear();
        look(&mut it, SECOND, &before);
        let device = it.device("1-1").clone();
        assert!(!it.since.was_for_another_plug(there, &device));
    }

    #[test]
    fn what_was_taken_out_counts_as_such_for_as_long_as_its_note_says_the_same() {
        let mut it = scenery();
        let (nothing, there) = (XenView::default(), place(4, 0, 1));
        attach(&mut it.observed, "1-1", there);
        look(&mut it, SECOND, &nothing);
        assert_eq!(it.since.taken_out.len(), 0);
        fill(&mut it.observed, there, PortContent::Free);
        look(&mut it, SECOND, &nothing);
        let note = it.observed.xen.notes[&busid("1-1")].clone();
        assert_eq!(it.since.taken_out, [(busid("1-1"), note)].into());
        fill(&mut it.observed, there, PortContent::Taken(busid("1-1")));
        look(&mut it, SECOND, &nothing);
        assert_eq!(it.since.taken_out.len(), 1, "that was somebody else");
        it.observed.xen.notes.clear();
        look(&mut it, SECOND, &nothing);
        assert_eq!(it.since.taken_out.len(), 0);
    }

    #[test]
    fn an_interface_is_loose_since_usbback_was_first_seen_without_it() {
        let mut it = scenery();
        let nothing = XenView::default();
        attach(&mut it.observed, "1-1", place(4, 1, 1));
        look(&mut it, SECOND, &nothing);
        assert_eq!(it.since.loose.len(), 0, "usbback has never had it");
        bind(it.device("1-1"), 0, Some("usbback"));
        bind(it.device("1-1"), 1, Some("usbback"));
        look(&mut it, SECOND, &nothing);
        assert_eq!(it.since.loose.len(), 0);
        bind(it.device("1-1"), 1, None);
        look(&mut it, SECOND, &nothing);
        let first = it.now;
        look(&mut it, SECOND, &nothing);
        assert_eq!(it.since.loose, [(busid("1-1"), first)].into());
        it.device("1-1").initialized = replugged(it.device("1-1")).initialized;
        look(&mut it, SECOND, &nothing);
        assert_eq!((it.since.loose.len(), it.since.whole.len()), (0, 0), "that was another plug");
    }
}
