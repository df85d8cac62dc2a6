//! One device, one domain, and what stands in the way.

use super::*;
use crate::plan::made_up::{Scenery, busid, controller, device, domid, fill, guest, host, place};

const QUSB: &str = "{version: 1, defaults: {controller: {type: qusb, ports: 4}}, rules: []}";
const PV: &str = "{version: 1, defaults: {controller: {type: pv}}, rules: []}";

/// The device 1-1, and domain 4 with controllers 0, 1 … of this kind with two empty ports each.
fn scenery(policy: &str, kind: ControllerKind, controllers: u8) -> Scenery {
    let mut kiosk = guest(4, "kiosk");
    for id in 0..controllers {
        kiosk.controllers.insert(id.to_string().parse().unwrap(), controller(kind, 2));
    }
    let mut scenery = Scenery::new(host([device("1-1")], [kiosk]), policy);
    scenery.observed.usbback = kind == ControllerKind::Pv;
    scenery
}

fn chosen(scenery: &Scenery) -> Choice {
    as_wished(scenery, TargetWish::ANY)
}

fn as_wished(scenery: &Scenery, wish: TargetWish) -> Choice {
    let observed = &scenery.observed;
    let (device, guest) = (&observed.devices[&busid("1-1")], &observed.xen.guests[&domid(4)]);
    choose(device, guest, wish, &scenery.moment())
}

fn take(place: Place, kind: ControllerKind) -> Choice {
    Choice::Take { place, kind }
}

/// Makes the controller one that has been in this state for so long.
fn pending(it: &mut Scenery, id: u32, state: XenbusState, age: Duration) {
    it.controller(4, id).backend = state;
    let since = (state, it.ago(age));
    it.since.controllers.insert((domid(4), place(4, id, 1).controller), since);
}

fn fill_up(it: &mut Scenery, id: u32) {
    for port in [1, 2] {
        fill(&mut it.observed, place(4, id, port), PortContent::Strange("x".into()));
    }
}

#[test]
fn a_controller_of_version_1_carries_no_fast_device() {
    let mut it = scenery(QUSB, ControllerKind::Qusb, 2);
    it.controller(4, 0).version = Some(UsbVersion::V1);
    assert_eq!(chosen(&it), take(place(4, 1, 1), ControllerKind::Qusb));
    it.device("1-1").speed = Speed::Full;
    assert_eq!(chosen(&it), take(place(4, 0, 1), ControllerKind::Qusb));
    it.controller(4, 0).version = None;
    assert_eq!(chosen(&it), take(place(4, 1, 1), ControllerKind::Qusb), "who knows what it is");

    let v1 = "{version: 1, defaults: {controller: {type: qusb, version: 1}}, rules: []}";
    let mut it = scenery(v1, ControllerKind::Qusb, 0);
    assert_eq!(chosen(&it), Choice::None(Problem::TooFast(UsbVersion::V1)));
    it.device("1-1").speed = Speed::Low;
    assert!(matches!(chosen(&it), Choice::Create { .. }));
}

#[test]
fn a_controller_is_waited_for_until_its_deadline_and_only_if_it_has_room() {
    let mut it = scenery(QUSB, ControllerKind::Qusb, 1);
    let controller = ControllerId::FIRST;
    pending(&mut it, 0, XenbusState::InitWait, Duration::from_secs(29));
    let until = it.now + Duration::from_secs(1);
    assert_eq!(chosen(&it), Choice::AwaitController { controller, until: Some(until) });
    pending(&mut it, 0, XenbusState::InitWait, FRONTEND_DEADLINE);
    assert_eq!(chosen(&it), Choice::None(Problem::NoFrontend { controller }));
    pending(&mut it, 0, XenbusState::Initialising, BACKEND_DEADLINE);
    let unserved = Problem::NotServed { controller, kind: ControllerKind::Qusb };
    assert_eq!(chosen(&it), Choice::None(unserved));

    pending(&mut it, 0, XenbusState::InitWait, Duration::ZERO);
    fill_up(&mut it, 0);
    assert!(matches!(chosen(&it), Choice::Create { .. }), "it has no room");
}

/// QEMU calls a device by its port's number; usbback does not.
#[test]
fn a_port_number_is_used_once_in_a_domain_with_qusb_and_once_in_a_controller_with_pv() {
    let mut it = scenery(QUSB, ControllerKind::Qusb, 2);
    fill_up(&mut it, 0);
    let Choice::Create { place: first, spec } = chosen(&it) else { panic!("{:?}", chosen(&it)) };
    assert_eq!(first, place(4, 2, 3), "1 and 2 are in use, so both ports of controller 1 are");
    assert_eq!(spec.ports.get(), 6, "four that can be used");
    fill(&mut it.observed, place(4, 0, 2), PortContent::Free);
    it.reserved.insert(place(4, 0, 2));
    assert!(matches!(chosen(&it), Choice::Create { .. }), "another step is about to use 2");
    it.reserved = [place(5, 0, 2)].into();
    assert_eq!(chosen(&it), take(place(4, 0, 2), ControllerKind::Qusb), "that is another domain");

    let mut it = scenery(PV, ControllerKind::Pv, 2);
    fill_up(&mut it, 0);
    assert_eq!(chosen(&it), take(place(4, 1, 1), ControllerKind::Pv));
    it.reserved = [place(4, 0, 1), place(4, 1, 1)].into();
    assert_eq!(chosen(&it), take(place(4, 1, 2), ControllerKind::Pv));
}

#[test]
fn a_port_rests_until_qemu_has_seen_it_empty() {
    let mut it = scenery(QUSB, ControllerKind::Qusb, 1);
    fill(&mut it.observed, place(4, 0, 1), PortContent::Strange("x".into()));
    let emptied = it.ago(Duration::from_secs(2));
    it.since.emptied.insert(place(4, 0, 2), emptied);
    assert_eq!(chosen(&it), Choice::AwaitRest(emptied + PORT_REST));
    it.now = emptied + PORT_REST;
    assert_eq!(chosen(&it), take(place(4, 0, 2), ControllerKind::Qusb));
}

#[test]
fn without_a_device_model_it_depends_on_what_works_what_is_missing() {
    let mut it = scenery(QUSB, ControllerKind::Qusb, 1);
    it.guest(4).device_model = DeviceModel::Absent;
    assert_eq!(chosen(&it), Choice::None(Problem::NoFreePort));
    it.controller(4, 0).backend = XenbusState::Closed;
    assert_eq!(chosen(&it), Choice::None(Problem::NoDeviceModel));
    for (state, problem) in [
        (DeviceModel::Running { qusb: false }, Problem::DeviceModelWithoutQusb),
        (DeviceModel::Starting, Problem::DeviceModelStarting),
        (DeviceModel::Dead, Problem::DeviceModelDead),
    ] {
        it.guest(4).device_model = state;
        assert_eq!(chosen(&it), Choice::None(problem));
    }
    let mut it = scenery(PV, ControllerKind::Pv, 0);
    it.observed.usbback = false;
    assert_eq!(chosen(&it), Choice::None(Problem::NoUsbback));
}

/// libxl counts on from the highest number, also from one whose nodes are broken.
#[test]
fn no_number_above_nine_is_given_out_and_no_gap_is_filled() {
    let mut it = scenery(QUSB, ControllerKind::Qusb, 0);
    let fault = crate::model::ControllerFault::NoType;
    it.guest(4).broken.insert("8".parse().unwrap(), fault.clone());
    assert!(matches!(chosen(&it), Choice::Create { place: at, .. } if at == place(4, 9, 1)));
    it.guest(4).broken.insert("9".parse().unwrap(), fault);
    assert_eq!(chosen(&it), Choice::None(Problem::NoFreePort));
}

#[test]
fn only_a_controller_and_a_port_that_are_asked_for_will_do() {
    let any = TargetWish::ANY;
    let [first, second, third, fifth] = [0, 1, 2, 4].map(|id| place(4, id, 1).controller);
    let port = |number| PortNumber::new(number);
    let pv = |it: &mut Scenery| {
        it.observed.usbback = true;
        it.guest(4).controllers.insert(second, controller(ControllerKind::Pv, 2));
    };
    let mut it = scenery(QUSB, ControllerKind::Qusb, 1);
    pv(&mut it);
    let taken = |kind, id, number| take(place(4, id, number), kind);
    let (by_qemu, by_usbback) = (ControllerKind::Qusb, ControllerKind::Pv);
    for (wish, expected) in [
        (TargetWish { kind: Some(KindWish::Auto), ..any }, taken(by_qemu, 0, 1)),
        (TargetWish { kind: Some(KindWish::Qusb), ..any }, taken(by_qemu, 0, 1)),
        (TargetWish { kind: Some(KindWish::Pv), ..any }, taken(by_usbback, 1, 1)),
        (TargetWish { index: Some(second), ..any }, taken(by_usbback, 1, 1)),
        (TargetWish { port: port(2), ..any }, taken(by_qemu, 0, 2)),
        (
            TargetWish { index: Some(first), kind: Some(KindWish::Pv), ..any },
            Choice::None(Problem::UnfitController { controller: first }),
        ),
        (
            TargetWish { index: Some(first), version: Some(UsbVersion::V1), ..any },
            Choice::None(Problem::UnfitController { controller: first }),
        ),
        (
            TargetWish { index: Some(fifth), ..any },
            Choice::None(Problem::NoSuchController { wanted: fifth, next: Some(third) }),
        ),
        (
            TargetWish { index: Some(first), port: port(9), ..any },
            Choice::None(Problem::PortNotFree(port(9).unwrap())),
        ),
    ] {
        assert_eq!(as_wished(&it, wish), expected, "{wish:?}");
    }

    // The next number can be asked for: that controller is made, and has the port that is asked for.
    let wish = TargetWish { index: Some(third), port: port(7), ..any };
    let Choice::Create { place: made, spec } = as_wished(&it, wish) else {
        panic!("{:?}", as_wished(&it, wish))
    };
    assert_eq!((made, spec.ports.get()), (place(4, 2, 7), 7));

    fill_up(&mut it, 0);
    let wish = TargetWish { index: Some(first), ..any };
    assert_eq!(as_wished(&it, wish), Choice::None(Problem::NoFreePort));
    it.guest(4).device_model = DeviceModel::Dead;
    let unfit = Choice::None(Problem::UnfitController { controller: first });
    assert_eq!(as_wished(&it, wish), unfit, "nobody serves it");
    it.guest(4).device_model = DeviceModel::Running { qusb: true };
    it.controller(4, 0).backend = XenbusState::Closed;
    assert_eq!(as_wished(&it, wish), unfit, "it is closed");
    it.controller(4, 0).backend = XenbusState::Connected;
    it.controller(4, 0).version = Some(UsbVersion::V1);
    assert_eq!(as_wished(&it, wish), unfit, "the device is too fast for it");
}
