//! Which controller and port a device gets, and what is told when it gets none.

use crate::harness::backend::{Controller, Guest, Kind};
use crate::harness::time::{PATIENCE, wait_until};
use crate::harness::usb::UsbDevice;
use crate::harness::xenstored::Flavor;
use crate::world::{
    Server, World, differences, everywhere, keyboard, keyboards_to_kiosk, on_both, policy, rules,
};
use pvusb_agent::plan::ports::PORT_REST;
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
