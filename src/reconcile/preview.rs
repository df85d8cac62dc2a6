//! What an agent would do about what is seen, if it had seen nothing else for a long time: for those who
//! ask without an agent. It does nothing and keeps nothing.

use super::memory;
use crate::model::{BusId, Observed};
use crate::plan::next::for_device;
use crate::plan::{Moment, Outlook, Since};
use crate::policy::Policy;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Longer than everything that is waited for: settling, resting ports, backends.
const LONG: Duration = Duration::from_secs(3600);

/// How it stands with each device that is plugged, attached or noted, and what would come next.
///
/// What a running agent remembers it does not know: that a device is held down, that a step has failed,
/// that a port rests.
pub fn preview(policy: &Policy, observed: &Observed, now: Instant) -> BTreeMap<BusId, Outlook> {
    let mut since = Since::default();
    let (filled, covered) = (BTreeSet::new(), BTreeSet::new());
    memory::remember(&mut since, now, &observed.xen, &filled, &covered, observed, |_| true);
    let moment = Moment {
        now: now + LONG,
        observed,
        policy,
        since: &since,
        reserved: &BTreeSet::new(),
        creating: &BTreeSet::new(),
        departing: &BTreeSet::new(),
        barred: &BTreeMap::new(),
        leaving: false,
    };
    let noted = observed.xen.notes.keys();
    let attached = observed.xen.taken_ports().map(|(_, busid)| busid);
    let all: BTreeSet<&BusId> = observed.devices.keys().chain(noted).chain(attached).collect();
    let each = all.into_iter();
    each.filter_map(|busid| Some((busid.clone(), for_device(busid, &moment)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ControllerKind;
    use crate::plan::made_up::{Scenery, busid, controller, device, guest, host};
    use crate::plan::{Next, Standing};

    #[test]
    fn each_device_is_previewed_as_if_all_that_passes_by_itself_had_passed() {
        let mut kiosk = guest(4, "kiosk");
        kiosk.controllers.insert("0".parse().unwrap(), controller(ControllerKind::Qusb, 2));
        let text = "{version: 1, rules: [{match: {port: '1-1'}, attach: kiosk}]}";
        let it = Scenery::new(host([device("1-1"), device("1-2")], [kiosk]), text);
        let seen = preview(&it.policy, &it.observed, it.now);
        assert_eq!(seen.len(), 2);
        let next = &seen[&busid("1-1")].next;
        assert!(matches!(next, Next::Run(step) if step.name() == "claim port"), "{next:?}");
        assert_eq!(seen[&busid("1-2")].standing, Standing::NoRule);
    }
}
