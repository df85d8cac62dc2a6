//! Who follows whom, and what becomes of trails.

use super::*;
use crate::model::{
    ControllerKind, GuestName, Life, NoteState, Order, Override, Place, Plug, PortContent, UsbId,
};
use crate::plan::desired::{By, Desired, Obstacles, desired};
use crate::plan::made_up::{
    Scenery, attach, busid, controller, device, domid, fill, guest, host, place, policy, replugged,
    uuid,
};
use crate::plan::next::for_device;
use crate::plan::{Plugs, Problem};
use proptest::prelude::*;

const POLICY: &str = "{version: 1, defaults: {settle: 0ms}, rules: [{match: {id: '0483:*'}, keep: dom0}, \
                      {name: boards, match: {id: '05e0:*'}, attach: [desk, kiosk], \
                      on_identity_change: keep 30s}, {match: {port: '1-2'}, attach: desk}]}";
const KEEP: Duration = Duration::from_secs(30);

/// desk is domain 4 and kiosk domain 5; each has a controller. The agent has put 1-1 into kiosk.
fn scenery() -> Scenery {
    let guests = [(4, "desk"), (5, "kiosk")].map(|(number, name)| {
        let mut guest = guest(number, name);
        let id = place(4, 0, 1).controller;
        guest.controllers.insert(id, controller(ControllerKind::Qusb, 2));
        guest
    });
    let mut it = Scenery::new(host([device("1-1")], guests), POLICY);
    attach(&mut it.observed, "1-1", place(5, 0, 1));
    leave_trail(&mut it, "1-1", place(5, 0, 1), false);
    it
}

fn leave_trail(it: &mut Scenery, at: &str, place: Place, follows: bool) {
    let plug = it.device(at).plug();
    let trail = Trail { plug, place, uuid: uuid(place.domid), rule: "boards".into(), follows };
    it.observed.xen.trails.insert(busid(at), trail);
}

/// The device is pulled now and its port cleared.
fn pull(it: &mut Scenery) {
    it.observed.devices.clear();
    it.observed.xen.notes.clear();
    fill(&mut it.observed, place(5, 0, 1), PortContent::Free);
    let trail = it.observed.xen.trails[&busid("1-1")].clone();
    it.since.vanished.insert(busid("1-1"), (trail, it.now));
}

/// So much later, a device of this id is plugged there.
fn plug(it: &mut Scenery, later: Duration, id: &str) {
    it.now += later;
    let mut other = device("1-1");
    other.id = id.parse::<UsbId>().unwrap();
    other.initialized = Some(99);
    let plugs = Plugs { last: other.plug(), seen: [it.now].into() };
    it.since.plugs.insert(busid("1-1"), plugs);
    it.observed.devices.insert(busid("1-1"), other);
}

/// The domain in which 1-1 should be, and by what; `dom0`.
fn wanted(it: &Scenery) -> String {
    let moment = it.moment();
    let obstacles = Obstacles { barred: &it.barred, moment: Some(&moment) };
    match desired(&it.policy, &it.observed.devices[&busid("1-1")], &it.observed, &obstacles) {
        Desired::In { guest, by: By::Trail(rule), .. } => {
            format!("{} by {}", guest.name, rule.label())
        }
        Desired::In { guest, .. } => guest.name.to_string(),
        Desired::Dom0(_) => "dom0".to_owned(),
    }
}

fn next(it: &Scenery) -> String {
    match for_device(&busid("1-1"), &it.moment()).map(|outlook| outlook.next) {
        None => "nothing".to_owned(),
        Some(Next::Rest) => "rest".to_owned(),
        Some(Next::Until(when, _)) => format!("wait {}", (when - it.now).as_secs()),
        Some(Next::Run(step)) => step.name().to_owned(),
    }
}

#[test]
fn another_identity_goes_the_same_way_before_every_rule_and_only_in_time() {
    let mut it = scenery();
    assert_eq!((next(&it), wanted(&it)), ("rest".into(), "kiosk".into()));
    pull(&mut it);
    assert_eq!(next(&it), "wait 30");
    let outlook = for_device(&busid("1-1"), &it.moment()).unwrap();
    assert!(matches!(outlook.standing, Standing::WayKept { time: KEEP, .. }), "{outlook:?}");

    let almost = Duration::from_millis(29_999);
    for (later, expected) in [(Duration::ZERO, true), (almost, true), (KEEP, false)] {
        let mut it = Scenery { now: it.now, ..scenery() };
        pull(&mut it);
        plug(&mut it, later, "0483:df11");
        let (way, step) =
            if expected { ("kiosk by boards", "claim port") } else { ("dom0", "drop trail") };
        assert_eq!((wanted(&it).as_str(), next(&it).as_str()), (way, step), "{later:?}");
    }
    it.now += KEEP;
    assert_eq!(next(&it), "drop trail");
}

#[test]
fn who_followed_stays_until_it_is_unplugged_and_is_followed_again() {
    let mut it = scenery();
    pull(&mut it);
    plug(&mut it, Duration::from_secs(1), "0483:df11");
    let outlook = for_device(&busid("1-1"), &it.moment()).unwrap();
    let Next::Run(Step::Claim(claim)) = outlook.next else { panic!("{:?}", outlook.next) };
    let trail = *claim.trail.unwrap();
    assert!(trail.follows && &*trail.rule == "boards" && trail.plug == it.device("1-1").plug());
    assert_eq!(trail.place, claim.place);
    attach(&mut it.observed, "1-1", claim.place);
    it.observed.xen.trails.insert(busid("1-1"), trail);
    it.since.vanished.clear();
    it.now += KEEP * 100;
    assert_eq!((wanted(&it), next(&it)), ("kiosk by boards".into(), "rest".into()));

    // Its domain ends and comes back: it goes there again. What its first domain was does not matter.
    let mut ended = it.observed.clone();
    ended.xen.guests.remove(&place(5, 0, 1).domid);
    ended.xen.notes.clear();
    std::mem::swap(&mut it.observed, &mut ended);
    assert_eq!((wanted(&it), next(&it)), ("desk by boards".into(), "claim port".into()));
    std::mem::swap(&mut it.observed, &mut ended);

    // Back to what it was: that is another identity again, and it follows as well.
    pull(&mut it);
    plug(&mut it, Duration::from_secs(1), "05e0:1200");
    assert_eq!(wanted(&it), "kiosk by boards");
}

#[test]
fn who_follows_goes_to_the_next_of_the_list_if_the_domain_of_before_cannot_have_it() {
    let way = |change: fn(&mut Scenery)| {
        let mut it = scenery();
        pull(&mut it);
        plug(&mut it, Duration::from_secs(1), "0483:df11");
        change(&mut it);
        wanted(&it)
    };
    assert_eq!(way(|_| ()), "kiosk by boards");
    let changes: [fn(&mut Scenery); 4] = [
        |it| it.guest(5).life = Life::Dead,
        |it| it.guest(5).uuid = uuid(domid(9)),
        |it| it.guest(5).name = GuestName::new("lab"),
        |it| drop(it.barred.insert(domid(5), Problem::NoUsbback)),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        assert_eq!(way(change), "desk by boards", "{number}");
    }
}

#[test]
fn the_same_identity_follows_nobody() {
    let mut it = scenery();
    pull(&mut it);
    plug(&mut it, Duration::from_secs(1), "05e0:1200");
    assert_eq!((wanted(&it), next(&it)), ("desk".into(), "claim port".into()), "as its rule says");
}

#[test]
fn the_guards_and_what_people_say_hold_for_followers() {
    let mut it = scenery();
    pull(&mut it);
    plug(&mut it, Duration::from_secs(1), "0483:df11");
    let mounted = it.observed.clone();
    it.device("1-1").uses.insert(crate::model::Use::Swap { device: "/dev/sda1".into() });
    assert_eq!(next(&it), "rest", "it stays in dom0, and its trail with it");
    it.now += KEEP;
    assert_eq!(next(&it), "rest");
    it.observed = mounted;
    assert_eq!(next(&it), "claim port", "it came in time");
    let said = Override { plug: it.device("1-1").plug(), order: Order::Stay, force: false };
    it.observed.xen.overrides.insert(busid("1-1"), said);
    assert_eq!(wanted(&it), "dom0");
    it.observed.xen.overrides.clear();
    it.device("1-1").class.class = crate::model::ClassTriple::HUB;
    assert_eq!(wanted(&it), "dom0");
}

#[test]
fn a_trail_ends_when_its_device_has_left_the_domain_otherwise_than_by_vanishing() {
    let taken_out = |it: &mut Scenery| {
        fill(&mut it.observed, place(5, 0, 1), PortContent::Free);
    };
    let detached = |it: &mut Scenery| {
        taken_out(it);
        let note = it.observed.xen.notes.get_mut(&busid("1-1")).unwrap();
        note.state = NoteState::Returning;
    };
    let ordered = |it: &mut Scenery| {
        let order = Order::Attach(GuestName::new("kiosk"));
        let said = Override { plug: it.device("1-1").plug(), order, force: false };
        it.observed.xen.overrides.insert(busid("1-1"), said);
    };
    let changes: [&dyn Fn(&mut Scenery); 7] = [
        &taken_out,
        &|it| {
            taken_out(it);
            it.observed.devices.clear();
        },
        &detached,
        &ordered,
        &|it| {
            it.leaving = {
                pull(it);
                true
            }
        },
        &|it| it.policy = policy(&POLICY.replace("name: boards", "name: others")),
        &|it| it.policy = policy(&POLICY.replace(", on_identity_change: keep 30s", "")),
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut it = scenery();
        change(&mut it);
        assert_eq!(next(&it), "drop trail", "{number}");
        it.observed.xen.trails.clear();
        assert_ne!(next(&it), "drop trail", "{number}");
    }
}

/// So it looks for a moment when the domain ends, too: libxl empties the ports first.
#[test]
fn who_has_followed_and_was_taken_out_goes_by_its_rule_until_it_is_pulled() {
    let mut it = scenery();
    leave_trail(&mut it, "1-1", place(5, 0, 1), true);
    fill(&mut it.observed, place(5, 0, 1), PortContent::Free);
    assert_eq!(next(&it), "rest");
    it.observed.devices.clear();
    assert_eq!(next(&it), "drop trail", "it has not vanished from there");
}

#[test]
fn a_port_that_names_what_is_gone_is_cleared_before_anything_is_kept_or_dropped() {
    let mut it = scenery();
    it.observed.devices.clear();
    assert_eq!(next(&it), "clear port");
    plug(&mut it, Duration::ZERO, "0483:df11");
    assert_eq!(next(&it), "clear port", "another one is there already");
    it.policy = policy("{version: 1, rules: []}");
    assert_eq!(next(&it), "clear port");
}

#[test]
fn only_rules_that_say_so_leave_trails_and_not_more_than_a_few() {
    let trail = |it: &Scenery, at: &str| {
        let outlook = for_device(&busid(at), &it.moment()).unwrap();
        let Next::Run(Step::Claim(claim)) = outlook.next else { panic!("{:?}", outlook.next) };
        claim.trail.map(|trail| *trail)
    };
    let mut it = scenery();
    pull(&mut it);
    it.observed.xen.trails.clear();
    it.observed.devices = [device("1-1"), device("1-2")].map(|it| (it.busid.clone(), it)).into();
    it.device("1-2").id = "1111:2222".parse().unwrap();
    assert_eq!(trail(&it, "1-2"), None);
    let first = trail(&it, "1-1").unwrap();
    assert!(!first.follows);
    for port in 0..Trail::MOST {
        it.observed.xen.trails.insert(format!("3-{}", port + 1).parse().unwrap(), first.clone());
    }
    assert_eq!(trail(&it, "1-1"), None);
    it.observed.xen.trails.remove(&busid("3-1"));
    assert_eq!(trail(&it, "1-1"), Some(first));
}

const HOLDING: &str = "{version: 1, defaults: {settle: 0ms}, rules: [{name: boards, match: {id: '05e0:*'}, \
                       attach: [desk, kiosk], on_unplug: hold 30s}]}";

/// The port that is taken next for a device.
fn taken_next(it: &Scenery, at: &str) -> Option<Place> {
    match for_device(&busid(at), &it.moment()).unwrap().next {
        Next::Run(Step::Claim(claim)) => Some(claim.place),
        Next::Rest | Next::Until(..) | Next::Run(_) => None,
    }
}

#[test]
fn who_comes_back_in_time_goes_to_its_old_place_and_nobody_else_gets_it_meanwhile() {
    let mut it = scenery();
    it.policy = policy(HOLDING);
    pull(&mut it);
    let desk = it.observed.xen.guests.remove(&place(4, 0, 1).domid).unwrap();
    it.observed.devices.insert(busid("1-2"), device("1-2"));
    assert_eq!(next(&it), "wait 30");
    assert_eq!(taken_next(&it, "1-2"), Some(place(5, 0, 2)));
    let mut late = it.now + Duration::from_millis(29_999);
    std::mem::swap(&mut it.now, &mut late);
    assert_eq!(taken_next(&it, "1-2"), Some(place(5, 0, 2)));
    it.now += Duration::from_millis(1);
    assert_eq!(taken_next(&it, "1-2"), Some(place(5, 0, 1)));
    it.now = late;

    it.observed.xen.guests.insert(desk.domid, desk);
    assert_eq!(taken_next(&it, "1-2"), Some(place(4, 0, 1)), "desk runs now");
    plug(&mut it, Duration::from_secs(1), "05e0:1200");
    assert_eq!((wanted(&it), taken_next(&it, "1-1")), ("kiosk".into(), Some(place(5, 0, 1))));
    it.since.emptied.insert(place(5, 0, 1), it.now);
    assert_eq!(next(&it), "wait 2", "QEMU must see it empty");
    it.since.emptied.clear();
    fill(&mut it.observed, place(5, 0, 1), PortContent::Taken(busid("1-7")));
    assert_eq!(taken_next(&it, "1-1"), Some(place(5, 0, 2)), "xl was faster");
    it.guest(5).life = Life::Dead;
    assert_eq!(wanted(&it), "desk");
}

#[test]
fn a_place_is_held_for_the_same_device_of_the_same_rule_in_time_alone() {
    let back = |later: Duration, id: &str, rules: &str| {
        let mut it = scenery();
        it.policy = policy(rules);
        pull(&mut it);
        plug(&mut it, later, id);
        (wanted(&it), next(&it))
    };
    let soon = Duration::from_secs(1);
    let kiosk = ("kiosk".to_owned(), "claim port".to_owned());
    let desk = ("desk".to_owned(), "claim port".to_owned());
    assert_eq!(back(soon, "05e0:1200", HOLDING), kiosk);
    assert_eq!(back(soon, "05e0:1300", HOLDING), desk, "another device");
    assert_eq!(back(KEEP, "05e0:1200", HOLDING), ("desk".into(), "drop trail".into()));
    assert_eq!(back(soon, "05e0:1200", &HOLDING.replace(", on_unplug: hold 30s", "")).0, "desk");
    let other =
        HOLDING.replace("rules: [", "rules: [{match: {port: '1-1'}, attach: [desk, kiosk]}, ");
    assert_eq!(back(soon, "05e0:1200", &other), desk);
    // Both at once, each with its own time.
    let both = HOLDING.replace("hold 30s", "hold 5s, on_identity_change: keep 30s");
    let later = Duration::from_secs(10);
    assert_eq!(back(soon, "05e0:1200", &both), kiosk);
    assert_eq!(back(later, "05e0:1200", &both).0, "desk");
    assert_eq!(back(later, "05e0:1300", &both).0, "kiosk by boards");
}

#[test]
fn the_held_place_is_the_port_that_the_device_had_if_its_rule_allows_that() {
    let mut it = scenery();
    it.policy = policy(HOLDING);
    pull(&mut it);
    it.observed.xen.trails.get_mut(&busid("1-1")).unwrap().place = place(5, 0, 2);
    plug(&mut it, Duration::from_secs(1), "05e0:1200");
    assert_eq!(taken_next(&it, "1-1"), Some(place(5, 0, 2)), "not the first");
    let wish = |port| {
        let wish = format!("{{domain: kiosk, port: {port}}}");
        policy(&HOLDING.replace("[desk, kiosk]", &format!("[desk, {wish}]")))
    };
    it.policy = wish(2);
    assert_eq!(taken_next(&it, "1-1"), Some(place(5, 0, 2)));
    it.policy = wish(1);
    assert_eq!(taken_next(&it, "1-1"), Some(place(5, 0, 1)));
    it.since.emptied.insert(place(5, 0, 2), it.now);
    assert_eq!(taken_next(&it, "1-1"), Some(place(5, 0, 1)), "it rests for nobody");
}

#[test]
fn who_would_follow_by_a_rule_that_does_not_hold_now_follows_nobody() {
    let when = |when: &str| policy(&POLICY.replace("keep 30s", &format!("keep 30s, when: {when}")));
    let mut it = scenery();
    pull(&mut it);
    plug(&mut it, Duration::from_secs(1), "0483:df11");
    it.policy = when("{running: desk}");
    assert_eq!(wanted(&it), "kiosk by boards");
    it.policy = when("{absent: desk}");
    assert_eq!(wanted(&it), "dom0");
}

#[test]
fn a_trail_ends_in_time_also_while_a_device_waits_for_something_else() {
    for (later, expected) in [(20, "wait 2"), (29, "wait 1")] {
        let mut it = scenery();
        it.policy = policy(&POLICY.replace("settle: 0ms", "settle: 2s"));
        pull(&mut it);
        plug(&mut it, Duration::from_secs(later), "05e0:1200");
        assert_eq!(next(&it), expected);
    }
}

#[test]
fn what_came_back_in_time_keeps_its_claim_to_its_place_while_dom0_needs_it() {
    let mut it = scenery();
    it.policy = policy(HOLDING);
    pull(&mut it);
    plug(&mut it, Duration::from_secs(1), "05e0:1200");
    it.device("1-1").uses.insert(crate::model::Use::Swap { device: "/dev/sda1".into() });
    it.now += KEEP;
    assert_eq!(next(&it), "rest");
    it.device("1-1").uses.clear();
    assert_eq!(taken_next(&it, "1-1"), Some(place(5, 0, 1)));
}

proptest! {
    /// Whoever follows has another id, came in time, and is no hub; and then it follows, whatever the
    /// rules say of it.
    #[test]
    fn a_follower_is_another_one_in_time(
        id in prop::sample::select(vec!["05e0:1200", "05e0:1300", "0483:df11", "1111:2222"]),
        later in 0_u64..60,
        hub in any::<bool>(),
        again in any::<bool>(),
    ) {
        let mut it = scenery();
        pull(&mut it);
        plug(&mut it, Duration::from_secs(later), id);
        if hub {
            it.device("1-1").class.class = crate::model::ClassTriple::HUB;
        }
        if again {
            // Pulled and plugged once more: what counts is when it came last.
            let next: Plug = replugged(it.device("1-1"));
            it.device("1-1").initialized = next.initialized;
            it.now += Duration::from_secs(1);
            let plugs = it.since.plugs.get_mut(&busid("1-1")).unwrap();
            plugs.last = next;
            plugs.seen.push_back(it.now);
        }
        let seconds = later + u64::from(again);
        let expected = id != "05e0:1200" && seconds < 30 && !hub;
        prop_assert_eq!(wanted(&it).ends_with("by boards"), expected);
        prop_assert_eq!(next(&it) == "drop trail", !expected && seconds >= 30);
    }
}
