//! Which controllers a person gets, and why others are refused.

use super::*;
use crate::model::{Controller, DeviceModel, GuestKind, UsbVersion};
use crate::plan::made_up::{busid, controller, fill, guest, host, place};
use crate::policy::KindWish;

fn id(number: &str) -> ControllerId {
    number.parse().unwrap()
}

fn kiosk() -> Guest {
    guest(5, "kiosk")
}

fn with(numbers: &[&str]) -> Guest {
    let all = numbers.iter().map(|number| (id(number), controller(ControllerKind::Qusb, 4)));
    Guest { controllers: all.collect(), ..kiosk() }
}

fn want(guest: Guest, wish: ControllerWish, usbback: bool) -> Result<ControllerWanted, Denial> {
    let observed = Observed { usbback, ..host([], [guest]) };
    wanted("kiosk", wish, &observed)
}

fn refused(guest: Guest) -> Denial {
    want(guest, ControllerWish::default(), false).unwrap_err()
}

#[test]
fn the_type_is_the_one_that_the_agent_would_choose() {
    let usual = ControllerWish::default();
    for (kind, usbback, wish, expected) in [
        (GuestKind::Pv, false, KindWish::Auto, ControllerKind::Qusb),
        (GuestKind::Pv, true, KindWish::Auto, ControllerKind::Pv),
        (GuestKind::Hvm, true, KindWish::Auto, ControllerKind::Qusb),
        (GuestKind::Pv, true, KindWish::Qusb, ControllerKind::Qusb),
        (GuestKind::Hvm, true, KindWish::Pv, ControllerKind::Pv),
    ] {
        let guest = Guest { kind, ..kiosk() };
        let wanted = want(guest, ControllerWish { kind: wish, ..usual }, usbback).unwrap();
        assert_eq!((wanted.spec.kind, wanted.spec.version), (expected, UsbVersion::V2));
        assert_eq!((wanted.spec.ports.get(), wanted.controller), (8, ControllerId::FIRST));
    }
}

#[test]
fn the_number_is_one_more_than_the_highest_also_over_a_gap_and_a_broken_one() {
    let mut guest = with(&["0", "3"]);
    guest.broken.insert(id("4"), ControllerFault::NoType);
    let wanted = want(guest, ControllerWish::default(), false).unwrap();
    assert_eq!(wanted.controller, id("5"));
    assert_eq!(wanted.others, ["0", "3", "4"].map(id).into());
    assert_eq!(refused(with(&["9"])).code(), "no-further-controller");
}

#[test]
fn what_nobody_would_serve_is_not_made() {
    for (device_model, problem) in [
        (DeviceModel::Absent, Problem::NoDeviceModel),
        (DeviceModel::Starting, Problem::DeviceModelStarting),
        (DeviceModel::Dead, Problem::DeviceModelDead),
        (DeviceModel::Running { qusb: false }, Problem::DeviceModelWithoutQusb),
    ] {
        // Also when another one works.
        let denial = refused(Guest { device_model, ..with(&["0"]) });
        assert_eq!((denial.advice(), denial.code()), (problem.advice().to_owned(), "not-served"));
        assert_eq!(denial, Denial::Unserved(problem));
    }
    let pv = ControllerWish { kind: KindWish::Pv, ..ControllerWish::default() };
    let denial = want(kiosk(), pv, false).unwrap_err();
    assert!(denial.to_string().contains("usbback") && denial.advice().contains("--type qusb"));
}

#[test]
fn a_domain_that_does_not_run_gets_none() {
    for (life, code, word) in
        [(Life::Building, "domain-building", "when it runs"), (Life::Dead, "domain-dead", "doctor")]
    {
        let denial = refused(Guest { life, ..kiosk() });
        assert!(denial.advice().contains(word) && denial.code() == code, "{denial}");
    }
    for (domain, code) in [("lab", "no-such-domain"), ("", "bad-domain"), ("0", "bad-domain")] {
        let denial = wanted(domain, ControllerWish::default(), &host([], [kiosk()])).unwrap_err();
        assert_eq!(denial.code(), code);
        assert!(!denial.advice().is_empty());
    }
}

#[test]
fn only_an_empty_controller_is_removed_and_the_first_port_in_use_is_told() {
    let mut observed = host([], [with(&["0", "1"])]);
    let first = found("5", id("0"), &observed).unwrap();
    assert_eq!((first.kind, first.ports.len(), first.is_served), (ControllerKind::Qusb, 4, true));
    fill(&mut observed, place(5, 0, 3), PortContent::Taken(busid("1-1.4")));
    let denial = found("kiosk", id("0"), &observed).unwrap_err();
    assert_eq!(denial.to_string(), "controller 0 of kiosk (domain 5) has 1-1.4 in port 3");
    let advice = denial.advice();
    assert!(advice.contains("pvusb-agent detach 1-1.4`"), "{advice}");
    assert!(advice.contains("xl usbdev-detach 5 0 3`"), "{advice}");
    fill(&mut observed, place(5, 1, 1), PortContent::Strange("../x".into()));
    assert_eq!(found("kiosk", id("1"), &observed).unwrap_err().code(), "in-use");
    assert_eq!(found("kiosk", id("2"), &observed).unwrap_err().code(), "no-such-controller");
}

#[test]
fn what_is_not_the_agents_kind_is_left_alone() {
    let emulated =
        Controller { backend: XenbusState::Unknown, ..controller(ControllerKind::DeviceModel, 4) };
    let mut guest = with(&["0"]);
    guest.controllers.insert(id("1"), emulated);
    guest.broken.insert(id("2"), ControllerFault::NoType);
    let observed = host([], [guest]);
    let denial = |number| found("kiosk", id(number), &observed).unwrap_err();
    assert!(denial("1").advice().contains("xl usbctrl-detach 5 1"));
    assert!(denial("2").advice().contains("doctor"));
    assert_eq!(["1", "2"].map(|number| denial(number).code()), ["emulated", "broken"]);
}

#[test]
fn one_that_nobody_has_noticed_need_not_be_closed() {
    let mut guest = with(&["0"]);
    guest.controllers.get_mut(&id("0")).unwrap().backend = XenbusState::Initialising;
    assert!(!found("kiosk", id("0"), &host([], [guest])).unwrap().is_served);
    let wanted = want(kiosk(), ControllerWish::default(), false).unwrap();
    let made = wanted.made();
    assert_eq!((made.is_served, made.ports.len(), made.controller), (false, 8, wanted.controller));
}
