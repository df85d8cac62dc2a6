//! Which controller and port a device gets, and what is told when it gets none; and controllers by hand.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use crate::cli::{code, err, out};
use crate::harness::agent::Agent;
use crate::harness::backend::{Controller, Guest, Kind};
use crate::harness::time::{PATIENCE, wait_until};
use crate::harness::usb::UsbDevice;
use crate::harness::xenstored::{Flavor, Message, Op};
use crate::world::{
    Domain, OWN, Server, World, differences, everywhere, hurry, keyboard, keyboards_to_kiosk,
    on_both, policy, rules,
};
use pvusb_agent::plan::ports::PORT_REST;
use serde_json::Value;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

/// How long the agent waits for a guest's frontend, and some more.
const FRONTEND: Duration = Duration::from_secs(45);

/// The nodes of the backend of controller 0 of domain 5.
fn backend(world: &World, kind: &str, node: &str) -> Option<String> {
    world.node(&format!("/local/domain/0/backend/{kind}/5/0/{node}"))
}

#[test]
fn a_new_controller_is_what_host_and_policy_say() {
    for (guest, usbback, wish, kind, version, ports) in [
        (Kind::Pv, false, "", "qusb", "2", "8"),
        (Kind::Hvm, false, "", "qusb", "2", "8"),
        (Kind::Pvh, true, "", "pv", "2", "8"),
        (Kind::Hvm, true, "", "qusb", "2", "8"),
        (Kind::Pv, true, "type: qusb, ports: 3", "qusb", "2", "3"),
        (Kind::Pv, true, "type: pv, version: 1, ports: 31", "pv", "1", "31"),
    ] {
        let mut world = World::new(Flavor::C);
        if usbback {
            world.load_usbback();
        }
        let kiosk = world.serve(Guest::new(5, "kiosk").of_kind(guest));
        world.bed.plug(&keyboard("1-1", 2));
        let wish = format!("settle: 0ms, controller: {{{wish}}}");
        let _agent = world.agent(&policy(&wish, &["match: {id: '*:*'}, attach: kiosk"]));
        let directory = if kind == "pv" { "vusb" } else { "qusb" };
        wait_until(PATIENCE, kind, || backend(&world, directory, "state").as_deref() == Some("4"));
        let node = |node| backend(&world, directory, node).unwrap();
        assert_eq!([node("type"), node("usb-ver"), node("num-ports")], [kind, version, ports]);
        wait_until(PATIENCE, "the port is written", || world.places("1-1") == [(5, 0, 1)]);
        if kind == "qusb" {
            kiosk.wait_until_held("1-1");
        } else {
            world.wait_until_given(&kiosk, "1-1");
        }
    }
}

#[test]
fn a_controller_of_the_configuration_is_used() {
    everywhere(|mut world| {
        let controller = match world.server() {
            Server::Qusb => Controller::qusb(0),
            Server::Pv => Controller::pv(0),
        };
        let kiosk = world.domain(5, "kiosk");
        world.toolstack.usbctrl_attach(&kiosk.guest, Controller { ports: 2, ..controller });
        let _agent = world.agent(&keyboards_to_kiosk());
        for port in 1..=3 {
            let busid = format!("1-{port}");
            world.bed.plug(&keyboard(&busid, port + 1));
            world.wait_until_given(&kiosk, &busid);
        }
        // Both ports of the first are taken, so a second one was made. QEMU does not survive a port
        // number that is used twice.
        let port = if world.server() == Server::Qusb { 3 } else { 1 };
        assert_eq!(world.places("1-3"), [(5, 1, port)]);
        let is_marked = |devid| {
            world
                .names(&format!("/libxl/5/device/vusb/{devid}"))
                .contains(&"pvusb-agent".to_owned())
        };
        assert_eq!([0, 1].map(is_marked), [false, true]);
    });
}

#[test]
fn no_more_controllers_are_made_than_can_be() {
    on_both(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        for devid in 0..9 {
            let port = devid + 1;
            world.toolstack.usbctrl_attach(&kiosk.guest, Controller { ports: port, ..qusb(devid) });
            let busid = format!("1-{port}");
            world.bed.plug(&UsbDevice::mouse(&busid, u8::try_from(devid).unwrap() + 2));
            world.toolstack.usbdev_attach(&kiosk.guest, qusb(devid), (port, &busid));
        }
        let small = "settle: 0ms, controller: {ports: 1}";
        let rule = ["match: {id: '046d:c31c'}, attach: kiosk"];
        let mut agent = world.agent(&policy(small, &rule));
        world.bed.plug(&keyboard("1-20", 20));
        world.wait_until_given(&kiosk, "1-20");
        world.bed.plug(&keyboard("1-21", 21));
        agent.wait_for_line("cannot be attached device=1-21", PATIENCE);
        assert!(agent.lines().iter().any(|line| line.contains(" cause=\"no free port")));
        assert_eq!(world.names("/libxl/5/device/vusb").len(), 10);
        // A port that gets free is taken.
        world.bed.unplug("1-20");
        world.wait_until_given(&kiosk, "1-21");
    });
}

fn qusb(devid: u32) -> Controller {
    Controller::qusb(devid)
}

#[test]
#[expect(clippy::disallowed_methods, reason = "nothing tells that a port has rested")]
fn a_controller_of_usb_1_gets_no_fast_device() {
    on_both(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        world.toolstack.usbctrl_attach(&kiosk.guest, Controller { version: 1, ..qusb(0) });
        let _agent = world.ready_agent(&rules(&["match: {id: '*:*'}, attach: kiosk"]));
        // An agent that has just begun does not know since when a port is empty.
        thread::sleep(PORT_REST + Duration::from_millis(500));
        world.bed.plug(&UsbDevice::storage("1-1", 2, "fast"));
        world.wait_until_given(&kiosk, "1-1");
        world.bed.plug(&keyboard("1-2", 3));
        world.wait_until_given(&kiosk, "1-2");
        assert_eq!((world.places("1-1"), world.places("1-2")), (vec![(5, 1, 1)], vec![(5, 0, 2)]));
    });
}

#[test]
fn a_device_that_is_too_fast_for_the_policy_is_told() {
    let mut world = World::new(Flavor::C);
    let _kiosk = world.domain(5, "kiosk");
    let mut agent = world.ready_agent(&policy(
        "settle: 0ms, controller: {version: 1}",
        &["match: {id: '*:*'}, attach: kiosk"],
    ));
    world.bed.plug(&UsbDevice::storage("1-1", 2, "fast"));
    agent.wait_for_line(" cause=\"a version 1 controller cannot carry this device", PATIENCE);
}

#[test]
fn what_is_missing_is_told_apart() {
    for (guest, wish, problem) in [
        (
            Guest::new(5, "kiosk").without_qusb(),
            "",
            " cause=\"the domain's device model does not serve qusb\" advice=\"put usbctrl=",
        ),
        (
            Guest::new(5, "kiosk"),
            "type: pv",
            " cause=\"dom0's kernel has no usbback, which a pv controller needs\" advice=",
        ),
    ] {
        let mut world = World::new(Flavor::C);
        let _kiosk = world.serve(guest);
        world.bed.plug(&keyboard("1-1", 2));
        let wish = format!("settle: 0ms, controller: {{{wish}}}");
        let mut agent = world.agent(&policy(&wish, &["match: {id: '*:*'}, attach: kiosk"]));
        agent.wait_for_line(problem, PATIENCE);
        assert!(world.names("/libxl/5/device/vusb").is_empty());
    }

    let mut world = World::new(Flavor::C);
    let guest = Guest::new(5, "kiosk").without_qusb();
    world.toolstack.begin(&guest);
    world.toolstack.finish_without_device_model(&guest);
    world.bed.plug(&keyboard("1-1", 2));
    let mut agent = world.agent(&keyboards_to_kiosk());
    agent.wait_for_line(
        " cause=\"the domain has no device model that serves qusb\" advice=\"put usbctrl=",
        PATIENCE,
    );
}

#[test]
fn a_guest_without_a_frontend_is_told_and_gets_its_device_when_it_has_one() {
    everywhere(|mut world| {
        let kiosk = world.doubles(Guest::new(5, "kiosk"));
        kiosk.frontend.pause(true);
        world.toolstack.create(&kiosk.guest);
        world.bed.plug(&keyboard("1-1", 2));
        let mut agent = world.agent(&keyboards_to_kiosk());
        let told = agent.wait_for_line(" cause=\"the guest has no PVUSB frontend", FRONTEND);
        assert!(told.contains("device=1-1 ") && told.contains("CONFIG_USB_XEN_HCD"), "{told}");
        wait_until(PATIENCE, "1-1 is back", || world.is_home("1-1"));
        kiosk.frontend.pause(false);
        world.wait_until_given(&kiosk, "1-1");
        assert_eq!(world.names("/libxl/5/device/vusb"), ["0"]);
    });
}

#[test]
fn a_controller_that_nobody_serves_is_removed_again() {
    everywhere(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        kiosk.qemu.pause(true);
        if let Some(usbback) = &world.usbback {
            usbback.pause(true);
        }
        let before = world.store();
        let agent = world.ready_agent(&keyboards_to_kiosk());
        world.bed.plug(&keyboard("1-1", 2));
        // Either may be told first.
        for said in
            [" cause=\"nothing serves controller 0", "controller removed: nothing serves it"]
        {
            wait_until(PATIENCE, said, || agent.lines().iter().any(|line| line.contains(said)));
        }
        wait_until(PATIENCE, "1-1 is back", || world.is_home("1-1"));
        assert_eq!(differences(&before, &world.store()), [""; 0]);
    });
}

/// `pvusb-agent controller`, with libxl's files where this host has them.
fn by_hand(world: &World, args: &[&str]) -> Output {
    let libxl_dir = world.libxl_dir();
    world.verb(&[&["controller"], args, &["--libxl-dir", libxl_dir.to_str().unwrap()]].concat())
}

/// The same in JSON, with how it ends.
fn told(world: &World, args: &[&str]) -> (Value, i32) {
    let output = by_hand(world, &[args, &["--json"]].concat());
    assert_eq!(err(&output), "");
    (serde_json::from_str(out(&output)).unwrap(), code(&output))
}

/// Starts it and does not wait for its end.
fn begin(world: &World, args: &[&str]) -> Agent {
    let libxl_dir = world.libxl_dir();
    world.start_verb(
        &[&["controller"], args, &["--libxl-dir", libxl_dir.to_str().unwrap()]].concat(),
    )
}

/// What the verb is told to have refused, and that nothing was changed.
#[track_caller]
fn assert_refused(world: &World, args: &[&str], words: &[&str]) {
    let store = world.store();
    let output = by_hand(world, args);
    assert_eq!((code(&output), out(&output)), (1, ""), "{args:?}");
    for word in words {
        assert!(err(&output).contains(word), "{args:?}: {}", err(&output));
    }
    let (answer, exit) = told(world, args);
    assert_eq!(exit, 1);
    for key in ["code", "message", "advice"] {
        assert!(!answer["error"][key].as_str().unwrap().is_empty(), "{answer}");
    }
    assert_eq!(store, world.store(), "{args:?}");
}

fn is_marked(world: &World, devid: u32) -> bool {
    world.node(&format!("/libxl/5/device/vusb/{devid}/pvusb-agent")).is_some()
}

#[test]
fn a_controller_is_added_listed_and_removed_by_hand_and_leaves_no_trace() {
    everywhere(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        let (before, server) = (world.store(), world.server());
        let (kind, directory) =
            if server == Server::Pv { ("pv", "vusb") } else { ("qusb", "qusb") };
        let (added, exit) = told(&world, &["add", "kiosk"]);
        assert_eq!((exit, &added["domid"], &added["controller"]), (0, &5.into(), &0.into()));
        assert_eq!([&added["name"], &added["type"], &added["version"]], ["kiosk", kind, "2"]);
        assert!(
            ["waiting", "initialised", "connected"].map(Value::from).contains(&added["backend"])
        );
        assert_eq!(added["ports"], 8);
        wait_until(PATIENCE, "the guest connects", || {
            backend(&world, directory, "state").as_deref() == Some("4")
        });
        assert!(!is_marked(&world, 0));
        assert_eq!(world.names(OWN), [""; 0]);

        // The second one, by its number and its UUID.
        let uuid = kiosk.guest.uuid.clone();
        let output = by_hand(&world, &["add", &uuid, "--version", "1", "--ports", "16"]);
        assert_eq!((code(&output), err(&output)), (0, ""));
        let start = format!("controller 1 of kiosk (domain 5): {kind}, USB 1, 16 ports, ");
        assert!(out(&output).starts_with(&start), "{}", out(&output));

        world.bed.plug(&keyboard("1-1", 2));
        let controller = match server {
            Server::Qusb => Controller::qusb(0),
            Server::Pv => Controller::pv(0),
        };
        world.toolstack.usbdev_attach(&kiosk.guest, controller, (3, "1-1"));
        let (list, exit) = told(&world, &["list", "5"]);
        assert_eq!((exit, list.as_array().unwrap().len()), (0, 1));
        let shown = &list[0]["controllers"];
        assert_eq!([&shown[0]["by"], &shown[1]["by"]], ["others", "others"]);
        assert_eq!([&shown[0]["ports"][2]["busid"], &shown[1]["version"]], ["1-1", "1"]);
        let output = by_hand(&world, &["list"]);
        assert_eq!((code(&output), err(&output)), (0, ""));
        let lines: Vec<&str> = out(&output).lines().collect();
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[1].contains(&format!("kiosk (5)  0 {kind} USB 2")), "{lines:?}");
        assert!(lines[1].ends_with("7 of 8    others  3: 1-1"), "{lines:?}");
        assert!(lines[2].ends_with("16 of 16  others"), "{lines:?}");

        assert_refused(
            &world,
            &["remove", "kiosk", "0"],
            &["has 1-1 in port 3", "`pvusb-agent detach 1-1`", "`xl usbdev-detach 5 0 3`"],
        );
        world.toolstack.usbdev_detach(&kiosk.guest, controller, 3);
        kiosk.wait_until_empty();
        // Not the last one: the gap stays.
        let output = by_hand(&world, &["remove", "kiosk", "0"]);
        assert_eq!((code(&output), err(&output)), (0, ""));
        assert_eq!(out(&output), "controller 0 of kiosk (domain 5) is removed\n");
        assert_eq!(world.names("/libxl/5/device/vusb"), ["1"]);
        let (added, exit) = told(&world, &["add", "kiosk"]);
        assert_eq!((&added["controller"], exit), (&2.into(), 0));
        for controller in [1, 2] {
            let (removed, exit) = told(&world, &["remove", "5", &controller.to_string()]);
            assert_eq!((&removed["controller"], exit), (&controller.into(), 0));
            assert_eq!(removed["closed"], true, "{removed}");
        }
        assert_eq!(differences(&before, &world.store()), [""; 0]);
    });
}

#[test]
fn what_cannot_be_made_or_removed_is_told_and_nothing_is_changed() {
    on_both(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        let _without = world.serve(Guest::new(6, "without").without_qusb());
        let building = Guest::new(7, "building");
        world.toolstack.begin(&building);
        let full = world.domain(8, "full");
        for devid in 0..10 {
            world.toolstack.usbctrl_attach(&full.guest, Controller { ports: 1, ..qusb(devid) });
        }
        let mut dead = world.domain(9, "dead");
        dead.qemu.kill();
        world.toolstack.die(&dead.guest);
        world.toolstack.usbctrl_attach(&kiosk.guest, qusb(0));
        world.wait_for_node("/local/domain/0/backend/qusb/5/0/state", Some("4"));
        let mut store = world.xenstored.client();
        store.write("/libxl/5/device/vusb/1/frontend", "").unwrap();
        world.wait_for_node("/local/domain/0/backend/qusb/8/9/state", Some("4"));

        for (args, words) in [
            (&["add", "lab"][..], &["there is no domain lab", "pvusb-agent domains"][..]),
            (&["add", "99"], &["there is no domain 99"]),
            (&["add", "0"], &["dom0"]),
            (&["add", "kiosk", "--type", "pv"], &["has no usbback", "--type qusb"]),
            (&["add", "without"], &["does not serve qusb", "usbctrl=["]),
            (&["add", "building"], &["is still being built", "when it runs"]),
            (&["add", "dead"], &["is gone", "doctor"]),
            (&["add", "full"], &["full (domain 8) can have no further controller", "xl.cfg"]),
            (&["remove", "lab", "0"], &["there is no domain lab"]),
            (&["remove", "kiosk", "3"], &["kiosk (domain 5) has no controller 3", "list 5`"]),
            (&["remove", "kiosk", "1"], &["its type node is missing", "doctor"]),
            (&["list", "lab"], &["there is no domain lab"]),
        ] {
            assert_refused(&world, args, words);
        }
        let output = by_hand(&world, &["list", "kiosk"]);
        assert_eq!(code(&output), 0);
        assert_eq!(err(&output), "domain 5 (kiosk), controller 1: its type node is missing\n");
    });
}

#[test]
fn a_controller_by_hand_that_nobody_serves_is_removed_again() {
    everywhere(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        kiosk.qemu.pause(true);
        if let Some(usbback) = &world.usbback {
            usbback.pause(true);
        }
        let before = world.store();
        let output = by_hand(&world, &["add", "kiosk"]);
        assert_eq!((code(&output), out(&output)), (1, ""));
        assert!(err(&output).contains("nothing serves controller 0"), "{}", err(&output));
        assert!(err(&output).contains("was removed again"), "{}", err(&output));
        assert_eq!(differences(&before, &world.store()), [""; 0]);
        // xl leaves one that nobody serves, and it is removed without waiting for anybody.
        let controller = match world.server() {
            Server::Qusb => Controller::qusb(0),
            Server::Pv => Controller::pv(0),
        };
        world.toolstack.usbctrl_attach(&kiosk.guest, controller);
        let (removed, exit) = told(&world, &["remove", "kiosk", "0"]);
        assert_eq!((exit, &removed["closed"]), (0, &true.into()), "{removed}");
        assert_eq!(differences(&before, &world.store()), [""; 0]);
    });
}

#[test]
fn a_controller_whose_guest_does_not_let_go_is_removed_all_the_same() {
    everywhere(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        let before = world.store();
        assert_eq!(code(&by_hand(&world, &["add", "kiosk"])), 0);
        let directory = if world.server() == Server::Pv { "vusb" } else { "qusb" };
        wait_until(PATIENCE, "the guest connects", || {
            backend(&world, directory, "state").as_deref() == Some("4")
        });
        kiosk.frontend.pause(true);
        let output = by_hand(&world, &["remove", "kiosk", "0"]);
        assert_eq!((code(&output), err(&output)), (0, ""));
        assert!(out(&output).ends_with("had not closed within 10s\n"), "{}", out(&output));
        assert_eq!(differences(&before, &world.store()), [""; 0]);
    });
}

#[test]
fn a_controller_whose_backend_is_closed_or_gone_is_removed() {
    on_both(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        let before = world.store();
        let node = "/local/domain/0/backend/qusb/5/0";
        let change: [fn(&World, &str); 2] = [
            |world, node| world.xenstored.client().write(&format!("{node}/state"), "6").unwrap(),
            |world, node| world.xenstored.client().rm(node).unwrap(),
        ];
        for spoil in change {
            world.toolstack.usbctrl_attach(&kiosk.guest, qusb(0));
            world.wait_for_node(&format!("{node}/state"), Some("4"));
            spoil(&world, node);
            let (removed, exit) = told(&world, &["remove", "kiosk", "0"]);
            assert_eq!((exit, &removed["closed"]), (0, &true.into()), "{removed}");
            world.wait_for_node(node, None);
            assert_eq!(world.names("/libxl/5/device/vusb"), [""; 0]);
            assert_eq!(world.names("/local/domain/5/device/vusb"), [""; 0]);
        }
        // The removed backend leaves empty parents, which the one who removes a whole controller takes along.
        let left = differences(&before, &world.store());
        assert!(
            left.iter().all(|left| left.starts_with("/local/domain/0/backend/qusb")),
            "{left:?}"
        );
    });
}

/// Beside an agent: it uses the controller, never removes it, and makes no other.
#[test]
fn an_agent_uses_a_controller_made_by_hand_and_leaves_it_there() {
    everywhere(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        let mut agent = world.ready_agent(&keyboards_to_kiosk());
        let (added, exit) = told(&world, &["add", "kiosk", "--ports", "3"]);
        assert_eq!((&added["controller"], exit), (&0.into(), 0));
        world.bed.plug(&keyboard("1-1", 2));
        world.wait_until_given(&kiosk, "1-1");
        assert_eq!(world.places("1-1"), [(5, 0, 1)]);
        assert_refused(&world, &["remove", "kiosk", "0"], &["has 1-1 in port 1"]);
        world.bed.unplug("1-1");
        world.wait_until_forgotten("1-1");
        world.settle_by(&kiosk, &keyboard("1-2", 3));
        assert_eq!(world.names("/libxl/5/device/vusb"), ["0"]);
        assert!(!is_marked(&world, 0));
        let said = |words: &str| agent.lines().iter().any(|line| line.contains(words));
        assert!(!said("controller created") && !said("controller removed"));

        let output = by_hand(&world, &["remove", "kiosk", "0"]);
        assert_eq!((code(&output), err(&output)), (0, ""));
        assert_eq!(world.names("/libxl/5/device/vusb"), [""; 0]);
        // Then the agent makes one of its own again, and that one can be removed by hand too.
        world.bed.plug(&keyboard("1-3", 4));
        agent.wait_for_line("controller created", PATIENCE);
        world.wait_until_given(&kiosk, "1-3");
        assert!(is_marked(&world, 0));
        world.bed.unplug("1-3");
        world.wait_until_forgotten("1-3");
        kiosk.wait_until_empty();
        assert_eq!(code(&by_hand(&world, &["remove", "kiosk", "0"])), 0);
        assert_eq!(world.names("/libxl/5/device/vusb"), [""; 0]);
    });
}

/// Between the look and the transaction the world changes: nothing is done.
#[test]
fn what_has_changed_since_it_was_seen_is_left_alone() {
    on_both(|mut world| {
        hurry(&world);
        let kiosk = world.domain(5, "kiosk");
        world.toolstack.usbctrl_attach(&kiosk.guest, qusb(0));
        world.wait_for_node("/local/domain/0/backend/qusb/5/0/state", Some("4"));
        world.bed.plug(&keyboard("1-1", 2));
        let starts = |request: &Message| request.op == Op::TRANSACTION_START;
        let late = |world: &mut World, args: &[&str], change: &dyn Fn(&mut World, &Domain)| {
            world.proxy.pause_at(starts);
            let mut verb = begin(world, args);
            wait_until(PATIENCE, "it begins", || !world.proxy.is_armed());
            change(world, &kiosk);
            let store = world.store();
            world.proxy.resume();
            assert_eq!(verb.wait(PATIENCE).code(), Some(1));
            wait_until(PATIENCE, "it has said all", || verb.has_closed());
            let told = verb.lines().join("\n");
            assert!(told.contains("what was seen has changed") && told.contains("list"), "{told}");
            assert_eq!(differences(&store, &world.store()), [""; 0]);
        };
        late(&mut world, &["remove", "kiosk", "0"], &|world, kiosk| {
            world.toolstack.usbdev_attach(&kiosk.guest, qusb(0), (2, "1-1"));
            kiosk.wait_until_held("1-1");
        });
        late(&mut world, &["add", "kiosk"], &|world, kiosk| {
            world.toolstack.usbctrl_attach(&kiosk.guest, qusb(1));
            let state = "/local/domain/0/backend/qusb/5/1/state";
            world.wait_for_node(state, Some("4"));
        });
    });
}

#[test]
fn without_xenstore_controllers_are_69_and_without_being_root_that_is_said() {
    let mut world = World::new(Flavor::C);
    let _kiosk = world.domain(5, "kiosk");
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("pvusb-agent");
    // In another process, as in `control.rs`.
    let built = env!("CARGO_BIN_EXE_pvusb-agent");
    assert!(Command::new("cp").arg(built).arg(&program).status().unwrap().success());
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let verbs = [&["add", "kiosk"][..], &["remove", "kiosk", "0"], &["list"]];
    for args in verbs {
        let output = Command::new(&program)
            .arg("controller")
            .args(args)
            .envs(world.bed.env())
            .env("XENSTORED_PATH", "/nowhere/socket")
            .output()
            .unwrap();
        assert_eq!((code(&output), out(&output)), (69, ""));
        assert!(err(&output).contains("/nowhere/socket"), "{}", err(&output));
        assert!(!err(&output).contains("only root"), "{}", err(&output));
    }
    // Only root can be somebody else.
    if Command::new("id").arg("-u").output().unwrap().stdout != b"0\n" {
        return;
    }
    let socket = dir.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, Permissions::from_mode(0o600)).unwrap();
    for args in verbs {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
        let output =
            command.arg("controller").args(args).env("XENSTORED_PATH", &socket).output().unwrap();
        assert_eq!((code(&output), out(&output)), (69, ""), "{}", err(&output));
        assert!(err(&output).contains("only root can read and change"), "{}", err(&output));
    }
}
