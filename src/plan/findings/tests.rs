//! One host that is as it should be, and each way in which it can cease to be.

use super::*;
use crate::model::XenView;
use crate::plan::made_up;
use crate::plan::made_up::{attach, bind, busid, controller, device, domid, fill, guest, host};
use crate::plan::made_up::{interface, place, replugged, uuid};

/// Two domains with two controllers each. 1-1 and 1-2 are attached, 1-3, 1-4 and 1-5 are in dom0.
fn sound() -> Observed {
    let mut kiosk = guest(4, "kiosk");
    let mut desk = guest(5, "desk");
    for id in ["0", "1"] {
        kiosk.controllers.insert(id.parse().unwrap(), controller(ControllerKind::Qusb, 2));
        desk.controllers.insert(id.parse().unwrap(), controller(ControllerKind::Pv, 2));
    }
    let mut observed = host(["1-1", "1-2", "1-3", "1-4", "1-5"].map(device), [kiosk, desk]);
    observed.usbback = true;
    attach(&mut observed, "1-1", place(4, 0, 1));
    attach(&mut observed, "1-2", place(5, 0, 1));
    let held = observed.devices.get_mut(&busid("1-2")).unwrap();
    bind(held, 0, Some(USBBACK));
    bind(held, 1, Some(USBBACK));
    note_drivers(&mut observed, "1-2");
    observed
}

fn plugged<'o>(observed: &'o mut Observed, at: &str) -> &'o mut Device {
    observed.devices.get_mut(&busid(at)).unwrap()
}

fn domain(observed: &mut Observed, number: u16) -> &mut Guest {
    observed.xen.guests.get_mut(&domid(number)).unwrap()
}

fn of_domain(observed: &mut Observed, number: u16, id: u32) -> &mut Controller {
    domain(observed, number).controllers.get_mut(&place(number, id, 1).controller).unwrap()
}

fn note_drivers(observed: &mut Observed, at: &str) {
    let driver = "/sys/bus/usb/drivers/usbhid";
    let noted = [(interface(&format!("{at}:1.0")), driver.into())];
    observed.xen.returns.insert(busid(at), noted.into());
}

fn note(observed: &mut Observed, at: &str, state: NoteState) {
    let note = made_up::note(&observed.devices[&busid(at)], ControllerKind::Qusb, state);
    observed.xen.notes.insert(busid(at), note);
}

/// Each line: the number, what it is, and what would mend it. `?` is before what may be all right.
fn told(observed: &Observed) -> Vec<String> {
    let found = findings(observed, &BTreeSet::new());
    let told = found.iter().map(|finding| {
        let mark = if finding.code().is_hint() { "?" } else { "" };
        let mend = match finding.mend(observed) {
            Some(Mend::ClearStale { place, busid, .. }) => format!("clear {place} of {busid}"),
            Some(Mend::RemoveLeftover(_)) => "remove it".to_owned(),
            Some(Mend::RemoveHusk { domid, controller }) => format!("remove {domid}/{controller}"),
            Some(Mend::Forget(noted)) => format!("forget {}", noted.busid),
            Some(Mend::Return { noted, plug }) => {
                assert_eq!(noted.survey, Survey::of(&observed.xen));
                assert_eq!(noted.note.as_ref(), observed.xen.notes.get(&noted.busid));
                assert_eq!(plug, observed.devices[&noted.busid].plug());
                format!("return {}", noted.busid)
            }
            None => "nothing".to_owned(),
        };
        format!("{mark}{} {finding}: {mend}", finding.code().number())
    });
    told.collect()
}

type Change = fn(&mut Observed);

/// What happens to the sound host, and what is found then: this and nothing else.
const DEFECTS: [(Change, &[&str]); 33] = [
    (
        |it| drop(it.devices.remove(&busid("1-1"))),
        &["D001 domain 4 controller 0 port 1 names 1-1, where nothing is plugged: clear domain 4 \
           controller 0 port 1 of 1-1"],
    ),
    (
        |it| fill(it, place(4, 0, 2), PortContent::Strange("../x".into())),
        &[
            "D002 domain 4 controller 0 port 2 names `../x`, which is no place for a device: nothing",
        ],
    ),
    (
        |it| fill(it, place(5, 1, 2), PortContent::Taken(busid("1-1"))),
        &[
            "D003 1-1 is in several ports: domain 4 controller 0 port 1, domain 5 controller 1 port 2: \
           nothing",
        ],
    ),
    (
        |it| fill(it, place(4, 1, 1), PortContent::Taken(busid("1-3"))),
        &["D004 domain 4 uses port number 1 in its controllers 0 and 1: nothing"],
    ),
    (
        |it| drop(it.xen.returns.insert(busid("1-9"), [].into())),
        &["D007 drivers are noted for 1-9, which is in no port: forget 1-9"],
    ),
    (
        |it| note_drivers(it, "1-3"),
        &["D007 drivers are noted for 1-3, which is in no port: return 1-3"],
    ),
    (
        |it| {
            note_drivers(it, "1-3");
            bind(plugged(it, "1-3"), 1, Some(USBFS));
        },
        &["D007 drivers are noted for 1-3, which is in no port: nothing"],
    ),
    (
        |it| note(it, "1-3", NoteState::Returning),
        &["D008 the agent's note says that 1-3 is on its way back to dom0: return 1-3"],
    ),
    (
        |it| {
            note(it, "1-3", NoteState::Returning);
            it.devices.remove(&busid("1-3"));
        },
        &["D008 the agent's note says that 1-3 is on its way back to dom0: forget 1-3"],
    ),
    (
        |it| note(it, "1-3", NoteState::Admitted),
        &["D008 the agent's note says that 1-3 was let out and has yet to arrive: nothing"],
    ),
    (
        // What was let out is gone, and what is there now was not.
        |it| {
            note(it, "1-3", NoteState::Admitted);
            let device = plugged(it, "1-3");
            device.initialized = replugged(device).initialized;
        },
        &["D008 the agent's note says that 1-3 was let out and has yet to arrive: return 1-3"],
    ),
    (
        // Taken out by hand, and then plugged anew.
        |it| {
            fill(it, place(4, 0, 1), PortContent::Free);
            let device = plugged(it, "1-1");
            device.initialized = replugged(device).initialized;
        },
        &[
            "D008 the agent's note says that 1-1 is in domain 4 controller 0 port 1, and it is not: \
           return 1-1",
        ],
    ),
    (
        |it| drop(it.xen.guests.remove(&domid(4))),
        &[
            "D008 the agent's note says that 1-1 is in domain 4 controller 0 port 1, and it is not: \
           return 1-1",
        ],
    ),
    (
        // The domain was started again and has its number again.
        |it| {
            fill(it, place(4, 0, 1), PortContent::Free);
            domain(it, 4).uuid = uuid(domid(99));
        },
        &[
            "D008 the agent's note says that 1-1 is in domain 4 controller 0 port 1, and it is not: \
           return 1-1",
        ],
    ),
    (
        |it| {
            fill(it, place(4, 0, 1), PortContent::Free);
            domain(it, 4).life = Life::Dead;
        },
        &[
            "D008 the agent's note says that 1-1 is in domain 4 controller 0 port 1, and it is not: \
             return 1-1",
            "D015 domain 4 (kiosk) is dead, and its nodes are still there: nothing",
        ],
    ),
    (
        |it| {
            bind(plugged(it, "1-3"), 0, Some(USBBACK));
            bind(plugged(it, "1-3"), 1, Some(USBBACK));
        },
        &["D009 usbback has 1-3:1.0, 1-3:1.1, and 1-3 is in no port: return 1-3"],
    ),
    (
        // What is noted of its drivers is needed for its way back.
        |it| {
            note_drivers(it, "1-3");
            bind(plugged(it, "1-3"), 0, Some(USBBACK));
            bind(plugged(it, "1-3"), 1, None);
        },
        &["D009 usbback has 1-3:1.0, and 1-3 is in no port: return 1-3"],
    ),
    (|it| bind(plugged(it, "1-3"), 1, None), &["?D010 no driver has 1-3:1.1: return 1-3"]),
    (
        |it| {
            let broken = ControllerFault::NoType;
            domain(it, 4).broken.insert("2".parse().unwrap(), broken);
        },
        &["D011 domain 4 controller 2: its type node is missing: remove 4/2"],
    ),
    (
        |it| {
            let broken = ControllerFault::StrangeType("x".into());
            domain(it, 4).broken.insert("2".parse().unwrap(), broken);
        },
        &["D011 domain 4 controller 2: its type is `x`: nothing"],
    ),
    (
        |it| {
            let broken = ControllerFault::ForeignBackend("/x".into());
            domain(it, 4).broken.insert("2".parse().unwrap(), broken);
        },
        &[
            "D011 domain 4 controller 2: its backend is `/x`, not the one in dom0 that belongs to it: \
           nothing",
        ],
    ),
    (
        |it| of_domain(it, 4, 1).backend = XenbusState::Initialising,
        &["?D012 domain 4 controller 1 (qusb): its backend has not started: nothing"],
    ),
    (
        |it| of_domain(it, 5, 1).backend = XenbusState::InitWait,
        &["?D012 domain 5 controller 1 (pv): the guest has not connected: nothing"],
    ),
    (
        |it| of_domain(it, 5, 1).backend = XenbusState::Closed,
        &["D013 domain 5 controller 1 (pv): its backend is closed or gone: nothing"],
    ),
    (
        |it| domain(it, 4).device_model = DeviceModel::Dead,
        &["D014 the device model of domain 4 (kiosk) has died: nothing"],
    ),
    (
        // Of a domain that is dead, that alone is told.
        |it| {
            let dead = domain(it, 5);
            (dead.life, dead.device_model) = (Life::Dead, DeviceModel::Dead);
            let closed = controller(ControllerKind::Qusb, 2);
            dead.controllers.insert("2".parse().unwrap(), closed);
            of_domain(it, 5, 2).backend = XenbusState::Closed;
        },
        &["D015 domain 5 (desk) is dead, and its nodes are still there: nothing"],
    ),
    (
        |it| {
            let eleventh = controller(ControllerKind::Pv, 2);
            domain(it, 5).controllers.insert("10".parse().unwrap(), eleventh);
        },
        &["?D016 domain 5 has a controller 10; xl counts to 9: nothing"],
    ),
    // What follows is as it should be.
    (
        |it| {
            let tenth = controller(ControllerKind::Pv, 2);
            domain(it, 5).controllers.insert("9".parse().unwrap(), tenth);
        },
        &[],
    ),
    (
        // Taken out by hand: that is noted for as long as it stays plugged.
        |it| {
            fill(it, place(4, 0, 1), PortContent::Free);
            bind(plugged(it, "1-1"), 0, None);
        },
        &[],
    ),
    (
        // Attached with xl, over an older note: the agent is about to forget that.
        |it| {
            note(it, "1-3", NoteState::Returning);
            fill(it, place(4, 1, 2), PortContent::Taken(busid("1-3")));
            fill(it, place(5, 1, 1), PortContent::Taken(busid("1-4")));
            note_drivers(it, "1-4");
            bind(plugged(it, "1-4"), 0, Some(USBBACK));
        },
        &[],
    ),
    (
        // Held back, or not finished with: no driver is to have it yet.
        |it| {
            bind(plugged(it, "1-3"), 1, None);
            let name = interface("1-3:1.1");
            plugged(it, "1-3").interfaces.get_mut(&name).unwrap().authorized = false;
            bind(plugged(it, "1-4"), 0, None);
            plugged(it, "1-4").initialized = None;
        },
        &[],
    ),
    (
        // A number is used twice with usbback, and an emulated controller has no backend.
        |it| {
            fill(it, place(5, 1, 1), PortContent::Taken(busid("1-3")));
            let mut emulated = controller(ControllerKind::DeviceModel, 2);
            emulated.backend = XenbusState::Unknown;
            domain(it, 4).controllers.insert("2".parse().unwrap(), emulated);
        },
        &[],
    ),
    (
        // Who has no `qusb` controller needs no device model.
        |it| domain(it, 5).device_model = DeviceModel::Dead,
        &[],
    ),
];

#[test]
fn every_defect_is_found_as_what_it_is_and_nothing_else_is_found() {
    assert_eq!(told(&sound()), [""; 0]);
    for (number, (change, expected)) in DEFECTS.iter().enumerate() {
        let mut observed = sound();
        change(&mut observed);
        assert_eq!(told(&observed), *expected, "defect {number}");
    }
}

#[test]
fn what_a_domain_left_is_told_and_removed() {
    let domid = domid(9);
    let controller = ControllerId::FIRST;
    let backend = Leftover { domid, kind: ControllerKind::Qusb, controller };
    let xen = XenView { leftovers: [backend].into(), ..XenView::default() };
    let observed = Observed { xen, ..Observed::default() };
    let text = "D005 the backend of qusb controller 0 of domain 9, which is gone: remove it";
    assert_eq!(told(&observed), [text]);
}

#[test]
fn nothing_is_said_of_a_device_that_could_not_be_read() {
    let mut observed = sound();
    observed.devices.remove(&busid("1-1"));
    bind(plugged(&mut observed, "1-3"), 1, None);
    domain(&mut observed, 5).device_model = DeviceModel::Dead;
    of_domain(&mut observed, 5, 1).backend = XenbusState::Closed;
    let unread = ["1-1", "1-3"].map(busid).into();
    let codes: Vec<_> = findings(&observed, &unread).iter().map(Finding::code).collect();
    assert_eq!(codes, [FindingCode::BackendGone]);
}

#[test]
fn the_worst_comes_first_and_its_number_tells_how_bad_it_is() {
    let numbers = FindingCode::ALL.map(FindingCode::number);
    assert!(numbers.is_sorted() && numbers.iter().all(|number| number.starts_with('D')));
    let mut observed = sound();
    for change in [DEFECTS[26], DEFECTS[24], DEFECTS[17], DEFECTS[1], DEFECTS[0]] {
        change.0(&mut observed);
    }
    let codes: Vec<_> = findings(&observed, &BTreeSet::new()).iter().map(Finding::code).collect();
    assert!(codes.len() == 5 && codes.is_sorted(), "{codes:?}");
}

/// What `--fix` can do is said wherever it can do something, and nowhere else.
#[test]
fn every_defect_has_an_effect_of_its_own_and_advice_that_is_true() {
    let mut effects = BTreeMap::new();
    for (change, _) in DEFECTS {
        let mut observed = sound();
        change(&mut observed);
        for finding in findings(&observed, &BTreeSet::new()) {
            let is_mended = finding.mend(&observed).is_some();
            assert!(!is_mended || finding.advice().contains("doctor --fix"), "{finding}");
            effects.insert(finding.effect(), finding.code());
        }
    }
    assert!(effects.len() > 12 && effects.keys().all(|effect| !effect.is_empty()), "{effects:?}");
}
