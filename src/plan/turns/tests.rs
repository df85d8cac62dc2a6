//! Whose turn it is, while time passes and domains come and go.

use super::*;
use crate::model::{ControllerKind, GuestName, Order, Override, PortContent, XenbusState};
use crate::plan::made_up::{
    Scenery, attach, bind, busid, controller, device, domid, fill, guest, host, place,
};
use crate::plan::next::{Next, for_device};
use crate::plan::{Desired, Problem, Reason, Standing};
use proptest::prelude::*;

const POLICY: &str = "{version: 1, defaults: {settle: 0ms}, rules: [{match: {id: '*:*'}, attach: \
                      [desk, kiosk, lab], wait: {attach: 60s}}]}";
const NAMES: [&str; 3] = ["desk", "kiosk", "lab"];
const TURN: Duration = Duration::from_secs(60);
const ALMOST: Duration = Duration::from_millis(59_999);

/// The device 1-1, in dom0, and no domain.
fn scenery() -> Scenery {
    Scenery::new(host([device("1-1")], []), POLICY)
}

/// A domain with a controller in this state.
fn add(it: &mut Scenery, number: u16, name: &str, backend: XenbusState) {
    let mut guest = guest(number, name);
    let controller = crate::model::Controller { backend, ..controller(ControllerKind::Qusb, 2) };
    guest.controllers.insert("0".parse().unwrap(), controller);
    it.observed.xen.domids.insert(guest.domid);
    it.observed.xen.guests.insert(guest.domid, guest);
}

/// Decides as the machine does. Gives who was passed over now.
fn look(it: &mut Scenery) -> Vec<String> {
    let at = busid("1-1");
    let counted = count(&at, &it.moment());
    let passed = counted.iter().flat_map(|it| &it.passed_over);
    let passed = passed.map(|over| over.target.to_string()).collect();
    match counted {
        Some(counted) => drop(it.since.turns.insert(at, counted.turns)),
        None => drop(it.since.turns.remove(&at)),
    }
    passed
}

fn later(it: &mut Scenery, time: Duration) -> Vec<String> {
    it.now += time;
    look(it)
}

/// Where the device should be: a domain, or who is awaited, or `nobody`.
fn wanted(it: &Scenery) -> String {
    let moment = it.moment();
    let obstacles = crate::plan::desired::Obstacles { barred: &it.barred, moment: Some(&moment) };
    let device = &it.observed.devices[&busid("1-1")];
    match crate::plan::desired::desired(&it.policy, device, &it.observed, &obstacles) {
        Desired::In { guest, .. } => guest.name.to_string(),
        Desired::Dom0(Reason::Awaited { target, .. }) => format!("await {target}"),
        Desired::Dom0(Reason::NoDomainRuns(_)) => "nobody".to_owned(),
        Desired::Dom0(other) => panic!("{other:?}"),
    }
}

#[test]
fn one_that_does_not_run_has_its_time_before_the_next_is_tried() {
    let mut it = scenery();
    add(&mut it, 5, "kiosk", XenbusState::Connected);
    assert!(look(&mut it).is_empty());
    assert_eq!(wanted(&it), "await desk");
    let outlook = for_device(&busid("1-1"), &it.moment()).unwrap();
    assert!(matches!(outlook.standing, Standing::Awaiting { .. }), "{outlook:?}");
    assert!(matches!(outlook.next, Next::Until(when, _) if when == it.now + TURN));
    later(&mut it, ALMOST);
    assert_eq!(wanted(&it), "await desk");
    assert_eq!(later(&mut it, Duration::from_millis(1)), ["desk"]);
    assert_eq!(wanted(&it), "kiosk");
    assert!(look(&mut it).is_empty(), "it is said once");
    // What runs in the end is better than what would have to start.
    add(&mut it, 6, "desk", XenbusState::Connected);
    look(&mut it);
    assert_eq!(wanted(&it), "desk");
}

#[test]
fn one_that_runs_and_does_not_connect_has_its_time_and_then_the_next_has_as_much() {
    let mut it = scenery();
    for (number, name) in [(4, "desk"), (5, "kiosk"), (6, "lab")] {
        add(&mut it, number, name, XenbusState::InitWait);
    }
    look(&mut it);
    for (at, name) in NAMES.iter().enumerate() {
        assert_eq!(wanted(&it), *name);
        assert!(later(&mut it, ALMOST).is_empty(), "{at}");
        assert_eq!(later(&mut it, Duration::from_millis(1)), [*name]);
    }
    assert_eq!(wanted(&it), "desk", "as if nothing had been said of time");
    assert!(later(&mut it, TURN * 10).is_empty());

    // Whoever can have it in the end, has another turn.
    it.controller(6, 0).backend = XenbusState::Connected;
    look(&mut it);
    assert_eq!(wanted(&it), "lab");
    it.controller(5, 0).backend = XenbusState::Connected;
    look(&mut it);
    assert_eq!(wanted(&it), "kiosk");
}

#[test]
fn a_domain_that_comes_again_has_a_turn_of_its_own() {
    let mut it = scenery();
    add(&mut it, 4, "desk", XenbusState::InitWait);
    add(&mut it, 5, "kiosk", XenbusState::InitWait);
    look(&mut it);
    assert_eq!(later(&mut it, TURN), ["desk"]);
    assert_eq!(wanted(&it), "kiosk");
    it.observed.xen.guests.remove(&domid(4));
    add(&mut it, 6, "desk", XenbusState::InitWait);
    look(&mut it);
    assert_eq!(wanted(&it), "desk");
}

#[test]
fn one_that_refuses_the_device_has_no_turn() {
    let mut it = scenery();
    add(&mut it, 4, "desk", XenbusState::Connected);
    add(&mut it, 5, "kiosk", XenbusState::Connected);
    it.barred.insert(domid(4), Problem::NoUsbback);
    look(&mut it);
    assert_eq!(wanted(&it), "kiosk");
}

#[test]
fn one_that_comes_late_takes_nothing_from_one_that_has_its_turn() {
    let mut it = scenery();
    add(&mut it, 5, "kiosk", XenbusState::InitWait);
    look(&mut it);
    assert_eq!(later(&mut it, TURN), ["desk"]);
    attach(&mut it.observed, "1-1", place(5, 0, 1));
    look(&mut it);
    add(&mut it, 6, "desk", XenbusState::InitWait);
    look(&mut it);
    assert_eq!(wanted(&it), "kiosk");
    it.now += TURN;
    assert_eq!(wanted(&it), "desk");
}

#[test]
fn the_turn_of_one_that_runs_begins_when_those_before_it_are_over() {
    let mut it = scenery();
    add(&mut it, 5, "kiosk", XenbusState::InitWait);
    look(&mut it);
    later(&mut it, TURN / 4);
    assert_eq!(count(&busid("1-1"), &it.moment()).unwrap().until, Some(it.now + TURN * 3 / 4));
    assert_eq!(later(&mut it, TURN * 3 / 4), ["desk"]);
    assert!(later(&mut it, ALMOST).is_empty());
    assert_eq!(later(&mut it, Duration::from_millis(1)), ["kiosk", "lab"]);
}

#[test]
fn a_turn_that_is_over_stays_over_on_the_way_to_the_next() {
    let mut it = scenery();
    add(&mut it, 4, "desk", XenbusState::InitWait);
    add(&mut it, 5, "kiosk", XenbusState::Connected);
    it.since.controllers.insert(
        (domid(4), place(4, 0, 1).controller),
        (XenbusState::InitWait, it.now + Duration::from_secs(50)),
    );
    attach(&mut it.observed, "1-1", place(4, 0, 1));
    look(&mut it);
    assert_eq!(wanted(&it), "desk");
    assert_eq!(later(&mut it, TURN), ["desk"]);
    assert_eq!(wanted(&it), "kiosk", "it is taken out again");
    let outlook = for_device(&busid("1-1"), &it.moment()).unwrap();
    assert!(matches!(outlook.next, Next::Run(step) if step.name() == "clear port"));

    fill(&mut it.observed, place(4, 0, 1), PortContent::Free);
    let note = it.observed.xen.notes.get_mut(&busid("1-1")).unwrap();
    note.state = crate::model::NoteState::Returning;
    look(&mut it);
    assert_eq!(wanted(&it), "kiosk");
    it.observed.xen.notes.clear();
    look(&mut it);
    assert_eq!(wanted(&it), "kiosk");
    attach(&mut it.observed, "1-1", place(5, 0, 1));
    look(&mut it);
    assert_eq!((wanted(&it), it.since.turns.len()), ("kiosk".to_owned(), 0), "it has arrived");
}

#[test]
fn what_is_held_back_by_something_else_uses_up_nobodys_time() {
    let mut it = scenery();
    add(&mut it, 5, "kiosk", XenbusState::Connected);
    let mount = crate::model::Use::Swap { device: "/dev/sda1".into() };
    it.device("1-1").uses.insert(mount);
    look(&mut it);
    later(&mut it, TURN * 2);
    assert_eq!(wanted(&it), "await desk");
    it.device("1-1").uses.clear();
    look(&mut it);
    later(&mut it, TURN / 2);
    assert_eq!(wanted(&it), "await desk");
    it.barred.insert(domid(5), Problem::NoUsbback);
    later(&mut it, TURN);
    assert_eq!(wanted(&it), "kiosk", "there is nobody else");
}

#[test]
fn no_turn_begins_for_what_is_not_ready_or_is_somebody_elses() {
    let changes: [fn(&mut Device); 3] = [
        |it| it.configured = false,
        |it| bind(it, 0, Some("usbfs")),
        |it| bind(it, 0, Some("usbback")),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut it = scenery();
        change(it.device("1-1"));
        look(&mut it);
        let device = &it.observed.devices[&busid("1-1")];
        assert!(!has_begun(device, &it.moment()), "{number}");
    }
}

/// It would be waited for without an end.
#[test]
fn what_nobody_may_claim_waits_for_no_turn() {
    let mut it = scenery();
    add(&mut it, 5, "kiosk", XenbusState::Connected);
    for interface in it.device("1-1").interfaces.values_mut() {
        interface.authorized = false;
    }
    look(&mut it);
    let outlook = for_device(&busid("1-1"), &it.moment()).unwrap();
    assert!(matches!(outlook.standing, Standing::Awaiting { .. }), "{outlook:?}");
    assert_eq!(outlook.next, Next::Rest);
    later(&mut it, TURN);
    assert_eq!(count(&busid("1-1"), &it.moment()).unwrap().until, None);
}

/// A domain that is connected has not taken the device before usbback has: it may refuse.
#[test]
fn who_has_had_a_turn_has_no_other_when_usbback_refuses() {
    let mut it = scenery();
    let mut kiosk = guest(5, "kiosk");
    kiosk.controllers.insert("0".parse().unwrap(), controller(ControllerKind::Pv, 2));
    it.observed.xen.guests.insert(domid(5), kiosk);
    it.observed.usbback = true;
    look(&mut it);
    assert_eq!(later(&mut it, TURN), ["desk"]);
    attach(&mut it.observed, "1-1", place(5, 0, 1));
    it.observed.xen.notes.get_mut(&busid("1-1")).unwrap().kind = ControllerKind::Pv;
    later(&mut it, TURN * 2);
    assert_eq!(wanted(&it), "kiosk", "its own turn does not go on");
    assert!(!it.since.turns.is_empty());
    for number in [0, 1] {
        bind(it.device("1-1"), number, Some("usbback"));
    }
    look(&mut it);
    assert!(it.since.turns.is_empty(), "it has arrived");
}

#[test]
fn a_device_settles_before_the_first_turn_begins_and_a_replug_begins_anew() {
    let mut it = scenery();
    it.policy = crate::plan::made_up::policy(&POLICY.replace("0ms", "2s"));
    add(&mut it, 5, "kiosk", XenbusState::Connected);
    let ready = (it.device("1-1").plug(), it.now);
    it.since.ready.insert(busid("1-1"), ready);
    let counted = count(&busid("1-1"), &it.moment()).unwrap();
    assert_eq!(counted.until, Some(it.now + Duration::from_secs(2)));
    later(&mut it, Duration::from_secs(2));
    later(&mut it, ALMOST);
    assert_eq!(wanted(&it), "await desk");
    later(&mut it, Duration::from_millis(1));
    assert_eq!(wanted(&it), "kiosk");
    it.device("1-1").initialized = Some(99);
    look(&mut it);
    assert_eq!(wanted(&it), "await desk");
}

#[test]
fn the_turns_of_a_device_that_is_gone_or_ordered_about_are_forgotten() {
    let mut it = scenery();
    look(&mut it);
    assert_eq!(it.since.turns.len(), 1);
    assert!(it.since.turns[&busid("1-1")].are_of(it.observed.devices.get(&busid("1-1"))));
    assert!(!it.since.turns[&busid("1-1")].are_of(None));
    it.leaving = true;
    look(&mut it);
    assert_eq!(it.since.turns.len(), 0);
    it.leaving = false;
    let order = Order::Attach(GuestName::new("lab"));
    let said = Override { plug: it.device("1-1").plug(), order, force: false };
    it.observed.xen.overrides.insert(busid("1-1"), said);
    look(&mut it);
    assert_eq!(it.since.turns.len(), 0);
}

/// Whoever has put it there, and whatever is noted of it.
#[test]
fn nobody_has_a_turn_while_a_port_names_the_device_that_the_agent_has_not_put_there() {
    let mut it = scenery();
    add(&mut it, 5, "kiosk", XenbusState::InitWait);
    attach(&mut it.observed, "1-1", place(5, 0, 1));
    look(&mut it);
    assert_eq!(it.since.turns.len(), 1);
    let mut replugged = it.observed.clone();
    replugged.devices.get_mut(&busid("1-1")).unwrap().initialized = Some(99);
    let mut elsewhere = it.observed.clone();
    let note = elsewhere.xen.notes.get_mut(&busid("1-1")).unwrap();
    note.state = crate::model::NoteState::Returning;
    for observed in [replugged, elsewhere] {
        it.observed = observed;
        look(&mut it);
        assert_eq!(it.since.turns.len(), 0);
    }
}

/// What can be with each domain of the list, and how long it stays so, in seconds.
fn phases() -> impl Strategy<Value = Vec<([u8; 3], u64)>> {
    prop::collection::vec((prop::array::uniform3(0_u8..3), 1_u64..100), 1..12)
}

proptest! {
    /// Whatever domains do: one that could have the device at once is never kept waiting by one that
    /// has had its time; one that has its time keeps it; in the end somebody who can have it, has it.
    #[test]
    fn nobody_who_could_take_it_waits_for_longer_than_a_turn_of_each(phases in phases()) {
        let mut it = scenery();
        look(&mut it);
        for (states, seconds) in phases {
            it.observed.xen.guests.clear();
            for (at, (state, name)) in states.iter().zip(NAMES).enumerate() {
                let number = 4 + u16::try_from(at).unwrap();
                match state {
                    0 => {}
                    1 => add(&mut it, number, name, XenbusState::InitWait),
                    _ => add(&mut it, number, name, XenbusState::Connected),
                }
            }
            look(&mut it);
            for _ in 0..seconds {
                let wanted = wanted(&it);
                let name = wanted.trim_start_matches("await ");
                let first_able = states.iter().position(|state| *state == 2);
                let at = NAMES.iter().position(|it| *it == name);
                prop_assert!(at.is_none_or(|at| first_able.is_none_or(|able| at <= able)));
                prop_assert_eq!(wanted.starts_with("await"), at.is_some_and(|at| states[at] == 0));
                later(&mut it, Duration::from_secs(1));
            }
            for _ in 0..=NAMES.len() {
                later(&mut it, TURN);
            }
            let first_able = states.iter().position(|state| *state == 2);
            if let Some(able) = first_able {
                prop_assert_eq!(wanted(&it), NAMES[able]);
            }
            // A look more changes nothing.
            let turns = it.since.turns.clone();
            look(&mut it);
            prop_assert_eq!(&turns, &it.since.turns);
        }
    }
}
