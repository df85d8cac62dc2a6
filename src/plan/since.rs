//! Since when things are as they are: what the present alone does not show.

use super::turns::Turns;
use crate::model::{
    BusId, ControllerId, ControllerKind, Device, DeviceModel, DomId, Guest, GuestUuid, Note, Place,
    Plug, Trail, XenbusState,
};
use crate::policy::Flapping;
use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

/// Since when things are as they are, as far as the agent has seen it. Nothing here is needed for
/// the end state to be right: an agent that starts anew only waits anew.
#[derive(Clone, Debug, Default)]
pub struct Since {
    /// When a plug was first seen ready.
    pub ready: BTreeMap<BusId, (Plug, Instant)>,
    /// When plugs were first seen, by their place.
    pub plugs: BTreeMap<BusId, Plugs>,
    /// When a controller's backend was first seen in its state.
    pub controllers: BTreeMap<(DomId, ControllerId), (XenbusState, Instant)>,
    /// When a port was first seen empty after it had held a device.
    pub emptied: BTreeMap<Place, Instant>,
    /// The plug that a port named when it was first seen to name its device. For ports without a
    /// note this alone tells that the device was pulled and plugged again between two looks.
    pub tenants: BTreeMap<Place, (BusId, Plug)>,
    /// Notes whose device was seen to be taken out of the agent's port. What is in that port later is
    /// somebody else's, also if it has the same busid.
    pub taken_out: BTreeMap<BusId, Note>,
    /// Devices in `pv` ports that usbback was seen to have as a whole.
    pub whole: BTreeMap<BusId, Plug>,
    /// When usbback was first seen without an interface of such a device.
    pub loose: BTreeMap<BusId, Instant>,
    /// When a device was first seen in no port any more that somebody else had put into one. Whoever has
    /// taken it out may be calling dom0's drivers back.
    pub freed: BTreeMap<BusId, Instant>,
    /// When a device was first seen on its way back.
    pub returning: BTreeMap<BusId, Instant>,
    /// When the device that a trail speaks of was first seen to be gone.
    pub vanished: BTreeMap<BusId, (Trail, Instant)>,
    /// Whose turn it is to take a device, of the domains of its rule's list.
    pub turns: BTreeMap<BusId, Turns>,
    /// Controllers that nobody served and that were removed again, with the device model of then.
    pub unserved: BTreeMap<(DomId, GuestUuid), (ControllerId, ControllerKind, DeviceModel)>,
}

/// The plugs in one place.
#[derive(Clone, Debug)]
pub struct Plugs {
    /// The last of them.
    pub last: Plug,
    /// When each was first seen, the last one at the end: no more than [`Plugs::MOST`], none older
    /// than [`Flapping::MAX_TIME`] but the last.
    pub seen: VecDeque<Instant>,
}

impl Plugs {
    /// How many are remembered: enough to tell that they are too many.
    pub const MOST: usize = Flapping::MAX_PLUGS as usize + 1;
}

/// A device that was plugged too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldDown {
    /// How often it was plugged within the time that counts.
    pub plugs: u32,
    /// Until when it is not attached, if it is not plugged again before.
    pub until: Instant,
}

impl Since {
    /// How many moments it holds. The plugs in one place count as one: there are at most
    /// [`Plugs::MOST`] of them.
    pub fn size(&self) -> usize {
        self.ready.len()
            + self.controllers.len()
            + self.emptied.len()
            + self.tenants.len()
            + self.taken_out.len()
            + self.whole.len()
            + self.loose.len()
            + self.freed.len()
            + self.returning.len()
            + self.vanished.len()
            + self.turns.len()
            + self.unserved.len()
            + self.plugs.len()
    }

    /// Whether a device was plugged more often than it may be, looking back from its last plug.
    pub fn held_down(&self, busid: &BusId, flapping: Flapping) -> Option<HeldDown> {
        let seen = &self.plugs.get(busid)?.seen;
        let last = *seen.back()?;
        let recent = seen.iter().filter(|when| last.duration_since(**when) <= flapping.within);
        let plugs = u32::try_from(recent.count()).unwrap_or(u32::MAX);
        let too_many = flapping.plugs != 0 && plugs > flapping.plugs;
        too_many.then(|| HeldDown { plugs, until: last + flapping.pause })
    }

    /// When the controller was first seen in its present state.
    pub fn controller(&self, domid: DomId, id: ControllerId) -> Option<Instant> {
        self.controllers.get(&(domid, id)).map(|(_, when)| *when)
    }

    /// Whether the port was seen to name an earlier plug than the present one of `device`.
    pub fn was_for_another_plug(&self, place: Place, device: &Device) -> bool {
        self.tenants
            .get(&place)
            .is_some_and(|(busid, plug)| *busid == device.busid && !plug.may_become(&device.plug()))
    }

    /// The controller of `guest` that nobody served, unless its device model has changed since.
    pub fn unserved(&self, guest: &Guest) -> Option<(ControllerId, ControllerKind)> {
        self.unserved
            .get(&(guest.domid, guest.uuid))
            .filter(|(_, _, device_model)| *device_model == guest.device_model)
            .map(|(controller, kind, _)| (*controller, *kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::NoteState;
    use crate::plan::made_up::{Scenery, busid, device, domid, host, place, uuid};
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn every_moment_counts() {
        let it = Scenery::new(host([device("1-1")], []), "{version: 1, rules: []}");
        let (at, now) = (|| busid("1-1"), it.now);
        let (plug, there) = (it.observed.devices[&at()].plug(), place(4, 0, 1));
        let unserved = (there.controller, ControllerKind::Qusb, DeviceModel::Absent);
        let (uuid_there, rule) = (uuid(domid(4)), "x".into());
        let trail = Trail { plug, place: there, uuid: uuid_there, rule, follows: false };
        let (kind, state) = (ControllerKind::Qusb, NoteState::Returning);
        let note = Note { plug, kind, state, drivers: None };
        let since = Since {
            ready: [(at(), (plug, now))].into(),
            plugs: [(at(), Plugs { last: plug, seen: [now, now].into() })].into(),
            controllers: [((domid(4), there.controller), (XenbusState::Closed, now))].into(),
            emptied: [(there, now)].into(),
            tenants: [(there, (at(), plug))].into(),
            taken_out: [(at(), note)].into(),
            whole: [(at(), plug)].into(),
            loose: [(at(), now)].into(),
            freed: [(at(), now)].into(),
            returning: [(at(), now)].into(),
            vanished: [(at(), (trail, now))].into(),
            turns: [(at(), Turns::new(plug))].into(),
            unserved: [((domid(4), uuid(domid(4))), unserved)].into(),
        };
        assert_eq!(since.size(), 13);
        assert_eq!(Since::default().size(), 0);
    }

    #[test]
    fn one_more_plug_than_any_policy_allows_is_remembered() {
        assert_eq!(Plugs::MOST, usize::try_from(Flapping::MAX_PLUGS).unwrap() + 1);
    }

    proptest! {
        #[test]
        #[expect(clippy::disallowed_methods, reason = "a test needs some instant to begin with")]
        fn a_device_is_held_down_exactly_when_its_last_plug_was_one_too_many(
            gaps in prop::collection::vec(0_u64..20, 1..30),
            plugs in 0_u32..6,
            within in 0_u64..60,
            pause in 0_u64..60,
        ) {
            let busid: BusId = "1-1".parse().unwrap();
            let last = Plug {
                address: "1.2".parse().unwrap(),
                id: "05e0:1200".parse().unwrap(),
                initialized: None,
            };
            let start = Instant::now();
            let times: Vec<u64> =
                gaps.iter().scan(0, |sum, gap| { *sum += gap; Some(*sum) }).collect();
            let seen = times.iter().map(|t| start + Duration::from_secs(*t)).collect();
            let since =
                Since { plugs: [(busid.clone(), Plugs { last, seen })].into(), ..Since::default() };
            let [within_s, pause_s] = [within, pause].map(Duration::from_secs);
            let flapping = Flapping { plugs, within: within_s, pause: pause_s };

            let end = times[times.len() - 1];
            let mut recent = 0;
            for time in &times {
                if time + within >= end {
                    recent += 1;
                }
            }
            let held = since.held_down(&busid, flapping);
            prop_assert_eq!(held.is_some(), plugs > 0 && recent > plugs);
            if let Some(held) = held {
                prop_assert_eq!(held.plugs, recent);
                prop_assert_eq!(held.until, start + Duration::from_secs(end + pause));
            }
        }
    }
}
