//! Who is meant, and what is refused.

use super::*;
use crate::model::{ControllerKind, PortContent, Use};
use crate::plan::made_up::{
    attach, busid, controller, device, domid, fill, guest, host, place, policy, replugged, uuid,
};
use std::collections::BTreeSet;

const POLICY: &str = "{version: 1, protect: [{port: '1-3'}], rules: []}";

/// 1-1 is attached, 1-2 to 1-5 are in dom0. 1-3 is protected and 1-4 is in use.
fn seen() -> Observed {
    let mut kiosk = guest(4, "kiosk");
    kiosk.controllers.insert("0".parse().unwrap(), controller(ControllerKind::Qusb, 3));
    let mut devices = ["1-1", "1-2", "1-3", "1-4", "1-5"].map(device);
    devices[4].id = "0951:1666".parse().unwrap();
    devices[3].uses = [Use::Mounted { device: "/dev/sdb".into(), at: "/mnt".into() }].into();
    let mut observed = host(devices, [kiosk, guest(5, "desk")]);
    attach(&mut observed, "1-1", place(4, 0, 1));
    observed
}

/// `attach DEVICE DOMAIN`, `detach DEVICE`, `hold DEVICE` or `release DEVICE`, and `--force`.
fn ask(observed: &Observed, text: &str) -> Result<Planned, Objection> {
    let words: Vec<&str> = text.split(' ').collect();
    let wanted = match words[0] {
        "attach" => Wanted::Attach(words[2].into()),
        "detach" => Wanted::Detach,
        "hold" => Wanted::Hold,
        _ => Wanted::Release,
    };
    let force = text.ends_with("--force");
    let request = Request { device: words[1].parse().unwrap(), wanted, force };
    let (policy, departing) = (policy(POLICY), BTreeSet::new());
    plan(&request, &Scene { observed, policy: &policy, departing: &departing })
}

/// What is noted, in a word: of which device, what, and whether it is forced.
fn noted(observed: &Observed, text: &str) -> String {
    match ask(observed, text) {
        Err(objection) => objection.to_string(),
        Ok(Planned { step: None, busid, .. }) => format!("{busid}: nothing"),
        Ok(Planned { step: Some(Step::NoteOrder { busid, said, taken_out }), .. }) => {
            let order = said.as_ref().map_or("released".to_owned(), |said| said.order.to_string());
            let force = if said.is_some_and(|said| said.force) { ", forced" } else { "" };
            let back = if taken_out.is_some() { ", no more taken out" } else { "" };
            format!("{busid}: {order}{force}{back}")
        }
        Ok(Planned { step, .. }) => panic!("{step:?}"),
    }
}

fn say(observed: &mut Observed, at: &str, order: Order) {
    let plug = observed.devices[&busid(at)].plug();
    observed.xen.overrides.insert(busid(at), Override { plug, order, force: false });
}

#[test]
fn a_device_is_called_by_place_address_or_id_and_must_be_the_only_one() {
    let observed = seen();
    for name in ["1-5", "1.15", "0951:1666"] {
        assert_eq!(noted(&observed, &format!("hold {name}")), "1-5: hold in dom0");
    }
    assert_eq!(
        noted(&observed, "hold 05e0:1200"),
        "05e0:1200 is 4 devices: 1-1 (1.11), 1-2 (1.12), 1-3 (1.13), 1-4 (1.14)"
    );
    for name in ["1-9", "1.99", "1111:2222"] {
        assert_eq!(
            noted(&observed, &format!("hold {name}")),
            format!("no device {name} is plugged")
        );
    }
}

#[test]
fn a_domain_is_called_by_name_number_or_uuid_and_one_that_does_not_run_by_its_name() {
    let observed = seen();
    let desk = uuid(domid(5)).to_string();
    for name in ["desk", "5", &desk] {
        assert_eq!(noted(&observed, &format!("attach 1-2 {name}")), "1-2: attach to desk");
    }
    assert_eq!(noted(&observed, "attach 1-2 lab"), "1-2: attach to lab");
    assert_eq!(noted(&observed, "attach 1-2 lab7"), "1-2: attach to lab7");
    let other = uuid(domid(6)).to_string();
    for name in ["6", "99999", &other] {
        let expected = format!("there is no domain {name}");
        assert_eq!(noted(&observed, &format!("attach 1-2 {name}")), expected);
    }
    for name in ["0", "dom0", "Domain-0"] {
        let objection = ask(&observed, &format!("attach 1-2 {name}")).unwrap_err();
        assert!(matches!(objection, Objection::AttachToDom0), "{objection}");
    }
    for name in ["", "\u{a0}desk", "de\u{7}sk"] {
        let objection = ask(&observed, &format!("attach 1-2 {name}")).unwrap_err();
        assert!(matches!(objection, Objection::BadDomain(_)), "{name}: {objection}");
    }
}

#[test]
fn force_waives_what_a_person_may_know_better_and_nothing_else() {
    let observed = seen();
    let refused = "1-3 stays in dom0: `protect` lists ";
    assert!(noted(&observed, "attach 1-3 desk").starts_with(refused));
    assert_eq!(noted(&observed, "attach 1-3 desk --force"), "1-3: attach to desk, forced");
    let waived = ask(&observed, "attach 1-3 desk --force").unwrap().waived;
    assert!(matches!(waived, Some(Refusal::Listed { .. })), "{waived:?}");
    for text in ["attach 1-4 desk", "attach 1-4 desk --force"] {
        assert_eq!(noted(&observed, text), "1-4 stays in dom0: /dev/sdb is mounted on /mnt");
    }
    // There is nothing to waive, or nothing leaves dom0.
    assert_eq!(noted(&observed, "attach 1-2 desk --force"), "1-2: attach to desk");
    assert_eq!(noted(&observed, "hold 1-3 --force"), "1-3: hold in dom0");
    assert_eq!(noted(&observed, "detach 1-4"), "1-4: stay in dom0");
}

#[test]
fn what_is_in_a_domain_may_go_to_another_whatever_dom0_would_want() {
    let mut observed = seen();
    fill(&mut observed, place(4, 0, 1), PortContent::Free);
    attach(&mut observed, "1-3", place(4, 0, 2));
    assert_eq!(noted(&observed, "attach 1-3 desk"), "1-3: attach to desk");
}

#[test]
fn an_order_about_what_xl_attached_is_refused_and_a_release_is_not() {
    let mut observed = seen();
    say(&mut observed, "1-2", Order::Hold);
    fill(&mut observed, place(4, 0, 2), PortContent::Taken(busid("1-2")));
    for order in ["attach 1-2 desk", "detach 1-2", "hold 1-2"] {
        let expected = "1-2 was attached by somebody else: domain 4 controller 0 port 2";
        assert_eq!(noted(&observed, order), expected);
    }
    assert_eq!(noted(&observed, "release 1-2"), "1-2: released");
    assert_eq!(noted(&observed, "detach 1-1"), "1-1: stay in dom0", "that one is the agent's");
}

#[test]
fn an_order_and_a_release_end_that_a_device_was_taken_out() {
    let mut observed = seen();
    assert_eq!(noted(&observed, "release 1-1"), "1-1: nothing", "it is where it was put");
    fill(&mut observed, place(4, 0, 1), PortContent::Free);
    assert_eq!(noted(&observed, "release 1-1"), "1-1: released, no more taken out");
    assert_eq!(noted(&observed, "attach 1-1 4"), "1-1: attach to kiosk, no more taken out");
    let plug = replugged(&observed.devices[&busid("1-1")]);
    observed.devices.get_mut(&busid("1-1")).unwrap().initialized = plug.initialized;
    assert_eq!(noted(&observed, "release 1-1"), "1-1: nothing", "that was an earlier plug");
}

#[test]
fn a_release_takes_back_what_was_said_also_of_what_is_not_plugged() {
    let mut observed = seen();
    assert_eq!(noted(&observed, "release 1-2"), "1-2: nothing");
    say(&mut observed, "1-2", Order::Stay);
    say(&mut observed, "1-5", Order::Hold);
    assert_eq!(noted(&observed, "release 1-2"), "1-2: released");
    assert_eq!(noted(&observed, "release 1-3"), "1-3: nothing", "what is plugged goes first");
    observed.devices.clear();
    for name in ["1-5", "0951:1666"] {
        assert_eq!(noted(&observed, &format!("release {name}")), "1-5: released");
    }
    for text in ["release 1-3", "release 1.15", "hold 1-5"] {
        let objection = ask(&observed, text).unwrap_err();
        assert!(matches!(objection, Objection::NotPlugged(_)), "{text}: {objection}");
    }
}

#[test]
fn each_objection_has_its_word_and_says_what_helps() {
    let device: DeviceName = "1-1".parse().unwrap();
    let (busid, place) = (busid("1-1"), place(4, 0, 1));
    let candidates = Vec::new();
    let all = [
        (Objection::NotPlugged(device.clone()), "not-plugged", "devices"),
        (Objection::Ambiguous { name: device, candidates }, "ambiguous", "busid"),
        (Objection::NoSuchDomain("x".into()), "no-such-domain", "by its name"),
        (Objection::BadDomain("x".into()), "bad-domain", "xl list"),
        (Objection::AttachToDom0, "bad-domain", "detach"),
        (
            Objection::AttachedByOthers { busid: busid.clone(), place },
            "attached-by-others",
            "usbdev-detach",
        ),
        (Objection::Refused(busid.clone(), Refusal::Hub), "refused", "write rules for them"),
        (Objection::Refused(busid.clone(), Refusal::LastPointer), "refused", "--force"),
        (Objection::XenstoreLost, "xenstore-lost", "by itself"),
        (Objection::Unknown, "xenstore-lost", "ask again"),
        (Objection::Leaving, "ending", "when it runs"),
        (Objection::Superseded(busid.clone()), "superseded", "later order"),
        (Objection::Unplugged(busid), "unplugged", "plugged"),
        (Objection::Failed("x".into()), "failed", "journal"),
    ];
    for (objection, code, advice) in all {
        assert_eq!(objection.code(), code);
        assert!(objection.advice().contains(advice), "{objection}: {}", objection.advice());
    }
    let said = |wanted: Wanted| wanted.to_string();
    assert_eq!(said(Wanted::Attach("a\u{1b}b".into())), "attach to a\\u{1b}b");
    assert_eq!(
        [Wanted::Detach, Wanted::Hold, Wanted::Release].map(said),
        ["detach", "hold", "release"]
    );
}
