//! What comes next for one device, at moments that are hard to come by.

use super::*;
use crate::model::{Override, Use};
use crate::plan::made_up::{
    self, Scenery, attach, attached, bind, busid, controller, device, fill, guest, host, place,
    replugged,
};

const POLICY: &str = "{version: 1, rules: [{match: {id: '05e0:*'}, attach: [kiosk, desk]}]}";
const QUARANTINE: &str = "{version: 1, defaults: {quarantine: true}, protect: [{port: '1-2'}], rules: \
                          [{match: {id: '05e0:*'}, attach: [kiosk, desk]}]}";

/// The devices 1-1 and 1-2, and the domain 4, kiosk, with a controller of this kind.
fn scenery(policy: &str, kind: ControllerKind) -> Scenery {
    let mut kiosk = guest(4, "kiosk");
    kiosk.controllers.insert(ControllerId::FIRST, controller(kind, 2));
    let mut scenery = Scenery::new(host([device("1-1"), device("1-2")], [kiosk]), policy);
    scenery.observed.usbback = kind == ControllerKind::Pv;
    for at in ["1-1", "1-2"] {
        let seen = (scenery.device(at).plug(), scenery.ago(Duration::from_secs(100)));
        scenery.since.ready.insert(busid(at), seen);
    }
    scenery
}

fn outlook(scenery: &Scenery, at: &str) -> Outlook {
    for_device(&busid(at), &scenery.moment()).unwrap()
}

/// What is done next, in a word; `rest`, or `wait` and how many milliseconds.
fn next(scenery: &Scenery, at: &str) -> String {
    match outlook(scenery, at).next {
        Next::Rest => "rest".to_owned(),
        Next::Until(when, _) => format!("wait {}", (when - scenery.now).as_millis()),
        Next::Run(step) => step.name().to_owned(),
    }
}

/// Writes the note of a device that is in no port.
fn note(scenery: &mut Scenery, at: &str, kind: ControllerKind, state: NoteState) {
    let note = made_up::note(scenery.device(at), kind, state);
    scenery.observed.xen.notes.insert(busid(at), note);
}

/// Says since how many milliseconds a device has been on its way back.
fn returning_for(scenery: &mut Scenery, at: &str, millis: u64) {
    let since = scenery.ago(Duration::from_millis(millis));
    scenery.since.returning.insert(busid(at), since);
}

/// The next plug of a device is in the port in which the agent had put the one before.
#[test]
fn a_port_that_somebody_had_emptied_is_not_cleared_for_the_next_plug() {
    let mut it = scenery(POLICY, ControllerKind::Qusb);
    attach(&mut it.observed, "1-1", place(4, 0, 1));
    it.device("1-1").initialized = replugged(it.device("1-1")).initialized;
    assert_eq!(next(&it, "1-1"), "clear port", "nobody was seen to empty it");
    let note = it.observed.xen.notes[&busid("1-1")].clone();
    it.since.taken_out.insert(busid("1-1"), note);
    assert_eq!(next(&it, "1-1"), "forget note");
    it.observed.xen.notes.clear();
    assert_eq!(outlook(&it, "1-1").standing, Standing::AttachedByOthers(place(4, 0, 1)));
}

/// xl has removed the agent's controller, made one of another type, and attached the device to that.
#[test]
fn a_controller_of_another_type_is_not_the_one_that_the_agent_has_filled() {
    let mut it = scenery("{version: 1, rules: []}", ControllerKind::Pv);
    attach(&mut it.observed, "1-1", place(4, 0, 1));
    assert_eq!(next(&it, "1-1"), "clear port");
    it.controller(4, 0).kind = ControllerKind::Qusb;
    let left_alone = Outlook::rest(Standing::AttachedByOthers(place(4, 0, 1)));
    assert_eq!(outlook(&it, "1-1"), left_alone);
}

/// xl does not look whether the agent has attached the device since xl has last looked.
#[test]
fn interfaces_of_a_device_in_two_ports_are_left_with_usbback() {
    let mut it = scenery(POLICY, ControllerKind::Pv);
    attach(&mut it.observed, "1-1", place(4, 0, 1));
    for number in [0, 1] {
        bind(it.device("1-1"), number, Some("usbback"));
    }
    it.guest(4).life = Life::Dead;
    assert_eq!(next(&it, "1-1"), "release interfaces");
    let mut desk = guest(5, "desk");
    desk.controllers.insert(ControllerId::FIRST, controller(ControllerKind::Pv, 2));
    it.observed.xen.guests.insert(desk.domid, desk);
    let elsewhere = place(5, 0, 2);
    fill(&mut it.observed, elsewhere, PortContent::Taken(busid("1-1")));
    let left_alone = Outlook::rest(Standing::AttachedByOthers(elsewhere));
    assert_eq!(outlook(&it, "1-1"), left_alone);
    unbind(&mut it, "1-1");
    assert_eq!(next(&it, "1-1"), "clear port", "they are nobody's");
}

/// As long as dom0's drivers are not back, nothing tells that it is dom0's last mouse.
#[test]
fn what_xl_has_taken_out_gets_its_drivers_back_before_it_is_attached() {
    let mut it = scenery(POLICY, ControllerKind::Qusb);
    it.since.freed.insert(busid("1-1"), it.ago(Duration::from_secs(1)));
    assert_eq!(next(&it, "1-1"), "claim port", "they are back");
    unbind(&mut it, "1-1");
    assert_eq!(next(&it, "1-1"), "wait 1500");
    hold_back(&mut it, "1-1", true);
    assert_eq!(next(&it, "1-1"), "rest", "it can have none");
    hold_back(&mut it, "1-1", false);
    it.since.freed.insert(busid("1-1"), it.ago(DRIVER_GRACE));
    assert_eq!(next(&it, "1-1"), "claim port");
}

fn unbind(scenery: &mut Scenery, at: &str) {
    for number in [0, 1] {
        bind(scenery.device(at), number, None);
    }
}

fn hold_back(scenery: &mut Scenery, at: &str, is_held: bool) {
    for interface in scenery.device(at).interfaces.values_mut() {
        interface.authorized = !is_held;
    }
}

/// xl's port names a device that was pulled, and plugged again before anybody looked.
#[test]
fn a_port_of_xl_that_names_an_earlier_plug_is_cleared_unless_the_policy_leaves_such_ports() {
    let leave = "{version: 1, defaults: {stale_ports: leave}, rules: []}";
    for (policy, expected) in [(POLICY, "clear port"), (leave, "rest")] {
        let mut it = scenery(policy, ControllerKind::Qusb);
        let (there, at) = (place(4, 0, 1), busid("1-1"));
        fill(&mut it.observed, there, PortContent::Taken(at.clone()));
        assert_eq!(outlook(&it, "1-1").standing, Standing::AttachedByOthers(there));
        let plug = it.device("1-1").plug();
        it.since.tenants.insert(there, (at.clone(), plug));
        assert_eq!(next(&it, "1-1"), "rest");
        it.device("1-1").initialized = replugged(it.device("1-1")).initialized;
        assert_eq!(next(&it, "1-1"), expected);
        it.since.tenants.insert(there, (busid("1-2"), plug));
        assert_eq!(next(&it, "1-1"), "rest", "the port was for another device then");
    }
}

#[test]
fn what_was_taken_out_by_hand_stays_out_unless_its_domain_ends_or_the_agent_leaves() {
    let mut it = scenery(POLICY, ControllerKind::Qusb);
    attach(&mut it.observed, "1-1", place(4, 0, 1));
    fill(&mut it.observed, place(4, 0, 1), PortContent::Free);
    let taken_out = Standing::TakenOutByHand(place(4, 0, 1));
    assert_eq!(outlook(&it, "1-1"), Outlook::rest(taken_out.clone()));

    it.guest(4).device_model = DeviceModel::Absent;
    let ending = Standing::DomainEnding(place(4, 0, 1));
    assert_eq!(outlook(&it, "1-1"), Outlook::rest(ending), "libxl takes the device model first");
    it.observed.xen.notes.get_mut(&busid("1-1")).unwrap().kind = ControllerKind::Pv;
    assert_eq!(outlook(&it, "1-1"), Outlook::rest(taken_out), "usbback needs no device model");

    it.leaving = true;
    assert_eq!(next(&it, "1-1"), "forget note");
    it.leaving = false;
    it.guest(4).life = Life::Dead;
    assert_eq!(next(&it, "1-1"), "forget note", "it is back, with its drivers");
    unbind(&mut it, "1-1");
    assert_eq!(next(&it, "1-1"), "return drivers");
}

#[test]
fn a_device_model_that_has_died_gives_back_what_it_served_and_nothing_else() {
    let mut it = scenery(POLICY, ControllerKind::Qusb);
    attach(&mut it.observed, "1-1", place(4, 0, 1));
    assert_eq!(next(&it, "1-1"), "rest");
    it.guest(4).device_model = DeviceModel::Dead;
    assert_eq!(next(&it, "1-1"), "clear port");

    let mut it = scenery(POLICY, ControllerKind::Pv);
    attach(&mut it.observed, "1-1", place(4, 0, 1));
    for number in [0, 1] {
        bind(it.device("1-1"), number, Some("usbback"));
    }
    it.guest(4).device_model = DeviceModel::Dead;
    assert_eq!(next(&it, "1-1"), "rest");
}

#[test]
fn a_pv_device_that_dom0_has_begun_to_use_is_not_taken_after_all() {
    let mut it = scenery(POLICY, ControllerKind::Pv);
    attach(&mut it.observed, "1-1", place(4, 0, 1));
    assert_eq!(next(&it, "1-1"), "take interfaces");
    let mounted = Use::Mounted { device: "/dev/sdb".into(), at: "/mnt".into() };
    it.device("1-1").uses = [mounted].into();
    assert_eq!(next(&it, "1-1"), "clear port");
}

/// xl unbinds the interfaces one by one before it clears the port.
#[test]
fn an_interface_that_usbback_has_lost_is_left_alone_for_a_while() {
    let mut it = scenery(POLICY, ControllerKind::Pv);
    attach(&mut it.observed, "1-1", place(4, 0, 1));
    let lost = it.ago(Duration::from_secs(4));
    it.since.loose.insert(busid("1-1"), lost);
    assert_eq!(next(&it, "1-1"), "wait 6000");
    it.now += Duration::from_secs(6);
    assert_eq!(next(&it, "1-1"), "take interfaces");
    it.now += Duration::from_secs(1);
    assert_eq!(next(&it, "1-1"), "take interfaces");
}

#[test]
fn a_backend_has_ten_seconds_to_let_go_and_then_it_is_said_that_it_has_not() {
    let mut it = scenery(POLICY, ControllerKind::Qusb);
    note(&mut it, "1-1", ControllerKind::Qusb, NoteState::Returning);
    bind(it.device("1-1"), 1, Some("usbfs"));
    returning_for(&mut it, "1-1", 4000);
    assert_eq!(next(&it, "1-1"), "wait 6000");
    for later in [6, 1] {
        it.now += Duration::from_secs(later);
        let held = Problem::StillHeld("1-1:1.1".parse().unwrap());
        assert_eq!(outlook(&it, "1-1"), Outlook::rest(Standing::NotReturned(held)));
    }
}

/// QEMU calls dom0's drivers itself when it closes a device; usbback, and quarantine, do not.
#[test]
fn drivers_that_come_back_by_themselves_are_given_the_time() {
    let stay = "{version: 1, rules: []}";
    let mut it = scenery(stay, ControllerKind::Qusb);
    note(&mut it, "1-1", ControllerKind::Qusb, NoteState::Returning);
    unbind(&mut it, "1-1");
    returning_for(&mut it, "1-1", 1000);
    assert_eq!(next(&it, "1-1"), "wait 1500");
    it.now += Duration::from_millis(1500);
    assert_eq!(next(&it, "1-1"), "return drivers");
    it.now += Duration::from_millis(1);
    assert_eq!(next(&it, "1-1"), "return drivers");
    for (kind, state) in
        [(ControllerKind::Pv, NoteState::Returning), (ControllerKind::Qusb, NoteState::Admitted)]
    {
        note(&mut it, "1-1", kind, state);
        returning_for(&mut it, "1-1", 1000);
        assert_eq!(next(&it, "1-1"), "return drivers");
    }
}

#[test]
fn a_device_goes_from_one_domain_straight_to_the_next_if_a_port_is_ready() {
    let mut it = scenery(POLICY, ControllerKind::Qusb);
    unbind(&mut it, "1-1");
    note(&mut it, "1-1", ControllerKind::Qusb, NoteState::Returning);
    returning_for(&mut it, "1-1", 3000);
    assert_eq!(next(&it, "1-1"), "claim port");
    it.since.emptied = [1, 2].map(|port| (place(4, 0, port), it.now)).into();
    assert_eq!(next(&it, "1-1"), "wait 2500", "no longer than a port rests");
    it.since.emptied.clear();
    it.leaving = true;
    assert_eq!(next(&it, "1-1"), "return drivers");
    it.leaving = false;
    it.guest(4).device_model = DeviceModel::Dead;
    assert_eq!(next(&it, "1-1"), "return drivers", "who knows when");
    it.guest(4).name = crate::model::GuestName::new("lab");
    assert_eq!(next(&it, "1-1"), "return drivers", "nobody wants it");

    let mut it = scenery(POLICY, ControllerKind::Pv);
    unbind(&mut it, "1-1");
    note(&mut it, "1-1", ControllerKind::Pv, NoteState::Returning);
    assert_eq!(next(&it, "1-1"), "return drivers", "what usbback had goes by dom0");
}

#[test]
fn what_comes_back_goes_into_quarantine_only_if_it_may_go_to_a_domain_again() {
    let mut it = scenery(QUARANTINE, ControllerKind::Qusb);
    for at in ["1-1", "1-2"] {
        unbind(&mut it, at);
        note(&mut it, at, ControllerKind::Qusb, NoteState::Returning);
        returning_for(&mut it, at, 3000);
    }
    assert_eq!(next(&it, "1-1"), "claim port", "straight to the next domain");
    assert_eq!(next(&it, "1-2"), "return drivers", "dom0 needs it, whatever its rule says");
    hold_back(&mut it, "1-2", true);
    assert_eq!(next(&it, "1-2"), "authorize");

    it.leaving = true;
    assert_eq!(next(&it, "1-1"), "deauthorize", "another agent may want it there");
    hold_back(&mut it, "1-1", true);
    assert_eq!(next(&it, "1-1"), "forget note");
    it.leaving = false;
    assert_eq!(next(&it, "1-1"), "authorize", "it is let out right before its port is written");

    it.guest(4).life = Life::Building;
    assert_eq!(next(&it, "1-1"), "rest", "it waits for its domain outside");
    let first = it.device("1-1").interfaces.values_mut().next().unwrap();
    first.authorized = true;
    assert_eq!(
        next(&it, "1-1"),
        "deauthorize",
        "an agent that was killed has let out a part of it"
    );
    hold_back(&mut it, "1-1", true);

    it.observed.xen.guests.clear();
    assert_eq!(next(&it, "1-1"), "forget note", "its domain does not run: it stays outside");
    hold_back(&mut it, "1-1", false);
    assert_eq!(next(&it, "1-1"), "deauthorize");
    let said = |it: &mut Scenery, order| {
        let said = Override { plug: it.device("1-1").plug(), order, force: false };
        it.observed.xen.overrides.insert(busid("1-1"), said);
    };
    said(&mut it, Order::Attach(crate::model::GuestName::new("lab")));
    assert_eq!(next(&it, "1-1"), "deauthorize");
    said(&mut it, Order::Stay);
    assert_eq!(next(&it, "1-1"), "return drivers", "that is decided");
    hold_back(&mut it, "1-1", true);
    assert_eq!(next(&it, "1-1"), "authorize");
}

#[test]
fn the_next_plug_settles_anew() {
    let mut it = scenery(POLICY, ControllerKind::Qusb);
    assert_eq!(next(&it, "1-1"), "claim port");
    it.device("1-1").initialized = replugged(it.device("1-1")).initialized;
    assert_eq!(next(&it, "1-1"), format!("wait {}", it.policy.settle().as_millis()));
    assert_eq!(outlook(&it, "1-1").standing, Standing::Settling);
}

/// Several notes and ports that say different things about one plug.
#[test]
fn a_port_that_was_written_for_the_present_plug_is_not_cleared_for_an_earlier_note() {
    let mut it = scenery(POLICY, ControllerKind::Qusb);
    attach(&mut it.observed, "1-1", place(4, 0, 1));
    it.device("1-1").initialized = replugged(it.device("1-1")).initialized;
    assert_eq!(next(&it, "1-1"), "clear port");
    fill(&mut it.observed, place(4, 0, 1), PortContent::Free);
    fill(&mut it.observed, place(4, 0, 2), PortContent::Taken(busid("1-1")));
    assert_eq!(next(&it, "1-1"), "forget note");
    let now = attached(it.device("1-1"), place(4, 0, 2), ControllerKind::Qusb);
    it.observed.xen.notes.insert(busid("1-1"), now);
    assert_eq!(next(&it, "1-1"), "rest");
}

/// A rule above may ask for what udev is still finding out.
#[test]
fn no_rule_is_named_as_the_one_that_decides_before_udev_is_done() {
    for rules in ["", "{match: {id: '*:*'}, keep: dom0}", "{match: {id: '*:*'}, attach: lab}"] {
        let policy = format!("{{version: 1, rules: [{rules}]}}");
        let mut it = scenery(&policy, ControllerKind::Qusb);
        let decided = outlook(&it, "1-1");
        assert!(!decided.standing.is_passing(), "{decided:?}");
        let when = it.device("1-1").initialized.take();
        assert_eq!(outlook(&it, "1-1"), Outlook::rest(Standing::NotReady));
        it.device("1-1").initialized = when;
        it.device("1-1").configured = false;
        assert_eq!(outlook(&it, "1-1"), decided, "somebody may want it to have no driver");
    }
}

#[test]
fn a_device_is_blocked_once_it_is_ready_and_what_was_found_blocked_gets_no_note() {
    let block =
        "{version: 1, protect: [{port: '1-2'}], rules: [{match: {id: '*:*'}, block: true}]}";
    let mut it = scenery(block, ControllerKind::Qusb);
    assert_eq!(next(&it, "1-1"), "deauthorize");
    assert!(matches!(outlook(&it, "1-2").standing, Standing::NotBlocked { .. }));
    assert_eq!(next(&it, "1-2"), "rest", "dom0 needs it");
    it.device("1-1").configured = false;
    assert_eq!(outlook(&it, "1-1"), Outlook::rest(Standing::NotReady));
    it.device("1-1").configured = true;
    hold_back(&mut it, "1-1", true);
    assert!(matches!(outlook(&it, "1-1").standing, Standing::Blocked { .. }));
    assert_eq!(next(&it, "1-1"), "rest", "that is somebody else's doing");
    note(&mut it, "1-1", ControllerKind::Qusb, NoteState::Blocked);
    assert_eq!(next(&it, "1-1"), "rest");
    hold_back(&mut it, "1-1", false);
    assert_eq!(next(&it, "1-1"), "deauthorize", "somebody has let it out again");
    note(&mut it, "1-1", ControllerKind::Qusb, NoteState::Returning);
    hold_back(&mut it, "1-1", true);
    assert_eq!(next(&it, "1-1"), "deauthorize", "it is noted as something else");

    unbind(&mut it, "1-2");
    note(&mut it, "1-2", ControllerKind::Qusb, NoteState::Returning);
    returning_for(&mut it, "1-2", 3000);
    assert_eq!(next(&it, "1-2"), "return drivers", "dom0 needs it, and a domain had it");
}

#[test]
fn a_controller_of_the_agents_that_nobody_serves_goes_once_it_is_empty() {
    let mut it = scenery(POLICY, ControllerKind::Qusb);
    let next = |it: &Scenery| {
        let guest = it.observed.xen.guests.values().next().unwrap();
        match for_controller(guest, ControllerId::FIRST, &it.moment()) {
            Next::Run(step) => step.name(),
            Next::Until(..) => "wait",
            Next::Rest => "rest",
        }
    };
    assert_eq!(next(&it), "rest");
    it.controller(4, 0).backend = crate::model::XenbusState::Initialising;
    assert_eq!(next(&it), "wait");
    let key = (it.guest(4).domid, ControllerId::FIRST);
    let since = (crate::model::XenbusState::Initialising, it.ago(ports::BACKEND_DEADLINE));
    it.since.controllers.insert(key, since);
    assert_eq!(next(&it), "remove controller");
    it.creating.insert(key.0);
    assert_eq!(next(&it), "rest", "another one is being made, whose number follows");
    it.creating.clear();
    fill(&mut it.observed, place(4, 0, 2), PortContent::Taken(busid("1-1")));
    assert_eq!(next(&it), "rest");
    fill(&mut it.observed, place(4, 0, 2), PortContent::Free);
    it.controller(4, 0).ours = false;
    assert_eq!(next(&it), "rest", "somebody else made it");
}
