//! The main job: plug, policy, port, unplug.

use crate::harness::backend::{Controller, Guest};
use crate::harness::time::{PATIENCE, timed, wait_until};
use crate::harness::usb::UsbDevice;
use crate::harness::xenstored::{Flavor, Op};
use crate::world::{
    Server, World, everywhere, hurry, keyboard, keyboards_to_kiosk, on_both, on_each, policy, rules,
};
use std::time::Duration;

#[test]
fn a_device_that_is_there_at_the_start_goes_where_the_policy_says() {
    everywhere(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        world.bed.plug(&keyboard("1-1", 6));
        let mut agent = world.agent(&keyboards_to_kiosk());
        agent.wait_for_line(
            "attached device=1-1 domain=\"kiosk\" domid=5 controller=0 port=1",
            PATIENCE,
        );
        world.wait_for_port(5, 0, 1, "1-1");
        world.wait_until_given(&kiosk, "1-1");
    });
}

#[test]
fn a_device_goes_to_the_domain_when_it_is_plugged_and_leaves_nothing_when_it_is_unplugged() {
    everywhere(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        let mut agent = world.ready_agent(&keyboards_to_kiosk());
        world.bed.plug(&keyboard("1-1", 6));
        world.wait_until_given(&kiosk, "1-1");
        agent.wait_for_line("attached device=1-1 ", PATIENCE);
        world.bed.unplug("1-1");
        world.wait_until_forgotten("1-1");
        kiosk.wait_until_empty();
        agent.wait_for_line("port cleared device=1-1 ", PATIENCE);

        world.bed.plug(&keyboard("1-1", 7));
        world.wait_until_given(&kiosk, "1-1");
        world.bed.unplug("1-1");
        world.bed.plug(&keyboard("1-2", 8));
        world.wait_until_given(&kiosk, "1-2");
        world.wait_until_forgotten("1-1");
    });
}

#[test]
fn the_main_job_survives_transactions_that_fail_at_random() {
    let kinds = [Server::Qusb, Server::Pv].map(|server| (Flavor::OCamlRandomEagain, server));
    on_each(kinds, |mut world| {
        let kiosk = world.domain(5, "kiosk");
        world.bed.plug(&keyboard("1-1", 2));
        let mut agent = world.agent(&keyboards_to_kiosk());
        world.wait_until_given(&kiosk, "1-1");
        for devnum in 3..8 {
            world.bed.unplug("1-1");
            world.wait_until_forgotten("1-1");
            world.bed.plug(&keyboard("1-1", devnum));
            world.wait_until_given(&kiosk, "1-1");
        }
        world.reload(&mut agent, &rules(&["match: {id: '*:*'}, keep: dom0"]));
        world.wait_until_home("1-1");
        world.reload(&mut agent, &keyboards_to_kiosk());
        world.wait_until_given(&kiosk, "1-1");
        let kiosk = world.reboot(&kiosk, 6);
        world.wait_until_given(&kiosk, "1-1");
    });
}

#[test]
fn a_device_that_bounces_is_attached_again() {
    everywhere(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        let _agent = world.agent(&keyboards_to_kiosk());
        world.bed.plug(&keyboard("1-1", 2));
        world.wait_until_given(&kiosk, "1-1");
        for devnum in 3..6 {
            world.bed.unplug("1-1");
            world.bed.plug(&keyboard("1-1", devnum));
            let address = format!(" address=1.{devnum} ");
            wait_until(PATIENCE, "the note is of the new plug", || {
                world.note("1-1").is_some_and(|note| note.contains(&address))
            });
            world.wait_until_given(&kiosk, "1-1");
        }
    });
}

#[test]
fn a_device_that_bounced_while_the_agent_slept_is_attached_again() {
    on_both(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        let mut agent = world.agent(&keyboards_to_kiosk());
        world.bed.plug(&keyboard("1-1", 2));
        world.wait_until_given(&kiosk, "1-1");
        agent.kill();
        world.bed.unplug("1-1");
        world.bed.plug(&keyboard("1-1", 3));
        let _agent = world.agent(&keyboards_to_kiosk());
        wait_until(PATIENCE, "the note is of the new plug", || {
            world.note("1-1").is_some_and(|note| note.contains(" address=1.3 "))
        });
        world.wait_until_given(&kiosk, "1-1");
    });
}

#[test]
fn a_device_is_left_alone_until_udev_has_finished_with_it() {
    on_both(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        let _agent = world.ready_agent(&keyboards_to_kiosk());
        world.bed.add_without_udev(&keyboard("1-1", 2));
        world.bed.uevent("1-1", "add");
        world.settle_by(&kiosk, &keyboard("1-2", 3));
        assert!(world.places("1-1").is_empty());
        world.bed.udev_done("1-1");
        world.wait_until_given(&kiosk, "1-1");
    });
}

#[test]
fn a_new_device_settles_as_long_as_the_policy_says() {
    let mut world = World::new(Flavor::C);
    let kiosk = world.domain(5, "kiosk");
    let patient = policy("settle: 700ms", &["match: {id: '*:*'}, attach: kiosk"]);
    let _agent = world.ready_agent(&patient);
    let ((), time) = timed(|| {
        world.bed.plug(&keyboard("1-1", 2));
        world.wait_until_given(&kiosk, "1-1");
    });
    assert!(time >= Duration::from_millis(700), "{time:?}");
}

#[test]
fn a_domain_that_is_created_later_gets_the_device_that_waits() {
    everywhere(|mut world| {
        world.bed.plug(&keyboard("1-1", 2));
        let mut agent = world.agent(&keyboards_to_kiosk());
        agent.wait_for_line("stays in dom0: none of its domains runs device=1-1", PATIENCE);
        let kiosk = world.domain(5, "kiosk");
        world.wait_until_given(&kiosk, "1-1");
    });
}

#[test]
fn a_domain_is_left_alone_until_it_is_built() {
    on_both(|mut world| {
        world.bed.plug(&keyboard("1-1", 2));
        let kiosk = world.doubles(Guest::new(5, "kiosk"));
        let mut agent = world.ready_agent(&keyboards_to_kiosk());
        world.toolstack.begin(&kiosk.guest);
        agent.wait_for_line("waits: the domain is being built device=1-1", PATIENCE);
        world.toolstack.start_device_model(&kiosk.guest);
        // What its configuration names comes first.
        world.toolstack.usbctrl_attach(&kiosk.guest, Controller::qusb(0));
        world.wait_for_node("/local/domain/0/backend/qusb/5/0/state", Some("4"));
        assert!(world.places("1-1").is_empty());
        world.toolstack.finish(&kiosk.guest);
        world.wait_until_given(&kiosk, "1-1");
        assert_eq!(world.places("1-1"), [(5, 0, 1)]);
    });
}

#[test]
fn a_device_model_may_be_late() {
    on_both(|mut world| {
        world.bed.plug(&keyboard("1-1", 2));
        let mut agent = world.ready_agent(&keyboards_to_kiosk());
        let kiosk = world.doubles(Guest::new(5, "kiosk"));
        world.toolstack.begin(&kiosk.guest);
        world.toolstack.finish_without_device_model(&kiosk.guest);
        agent.wait_for_line(" cause=\"the domain has no device model that serves qusb", PATIENCE);
        world.toolstack.begin_device_model(&kiosk.guest);
        agent.wait_for_line(" cause=\"the domain's device model is not running yet", PATIENCE);
        world.toolstack.start_device_model(&kiosk.guest);
        world.wait_until_given(&kiosk, "1-1");
    });
}

#[test]
fn a_stale_port_of_others_is_left_if_the_policy_says_so() {
    on_both(|mut world| {
        let controller = Controller::qusb(0);
        let (kiosk, desk) = (world.domain(5, "kiosk"), world.domain(6, "desk"));
        world.toolstack.usbctrl_attach(&desk.guest, controller);
        world.bed.plug(&keyboard("1-1", 2));
        world.toolstack.usbdev_attach(&desk.guest, controller, (3, "1-1"));
        desk.wait_until_held("1-1");
        let leave =
            policy("settle: 0ms, stale_ports: leave", &["match: {id: '046d:c31c'}, attach: kiosk"]);
        let mut agent = world.ready_agent(&leave);
        agent.wait_for_line("attached by somebody else device=1-1", PATIENCE);
        world.bed.unplug("1-1");
        agent.wait_for_line("every xl usbdev-attach on this host fails", PATIENCE);
        world.settle_by(&kiosk, &keyboard("1-2", 3));
        assert_eq!(world.places("1-1"), [(6, 0, 3)]);
        // Its own ports it clears in any case; settle_by has seen that. Another word, another deed.
        world.reload(&mut agent, &keyboards_to_kiosk());
        world.wait_until_forgotten("1-1");
    });
}

/// Three plugs within a minute are too many here, and two seconds without one are enough.
#[test]
fn a_device_that_flaps_is_held_down_and_then_attached() {
    everywhere(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        let mut agent = world.ready_agent(&policy(
            "settle: 0ms, flapping: {plugs: 2, within: 60s, pause: 2s}",
            &["match: {id: '046d:c31c'}, attach: kiosk"],
        ));
        for devnum in [2, 3] {
            world.bed.plug(&keyboard("1-1", devnum));
            world.wait_until_given(&kiosk, "1-1");
            world.bed.unplug("1-1");
            world.wait_until_forgotten("1-1");
        }
        world.bed.plug(&keyboard("1-1", 4));
        let told = agent.wait_for_line("held down", PATIENCE);
        assert!(told.contains("plugs=3") && told.contains("pause=2s"), "{told}");
        // Another device is another matter.
        world.settle_by(&kiosk, &keyboard("1-2", 5));
        world.wait_until_given(&kiosk, "1-1");
    });
}

#[test]
fn a_stale_port_is_cleared_whoever_wrote_it() {
    everywhere(|mut world| {
        let controller = match world.server() {
            Server::Qusb => Controller::qusb(0),
            Server::Pv => Controller::pv(0),
        };
        let kiosk = world.domain(5, "kiosk");
        world.toolstack.usbctrl_attach(&kiosk.guest, controller);
        world.bed.plug(&UsbDevice::mouse("1-1", 2));
        world.toolstack.usbdev_attach(&kiosk.guest, controller, (3, "1-1"));
        if world.server() == Server::Qusb {
            kiosk.wait_until_held("1-1");
        }
        let mut agent = world.ready_agent(&keyboards_to_kiosk());
        agent.wait_for_line("attached by somebody else device=1-1", PATIENCE);
        world.bed.unplug("1-1");
        world.wait_for_port(5, 0, 3, "");
        agent.kill();

        world.bed.plug(&UsbDevice::mouse("1-2", 3));
        world.toolstack.usbdev_attach(&kiosk.guest, controller, (4, "1-2"));
        if world.server() == Server::Qusb {
            kiosk.wait_until_held("1-2");
        }
        world.bed.unplug("1-2");
        let _agent = world.agent(&keyboards_to_kiosk());
        world.wait_for_port(5, 0, 4, "");
    });
}

/// Stops the agent after each of its requests in turn, unplugs the device, and lets it go on.
#[test]
fn a_device_that_is_unplugged_in_the_middle_of_an_attach_is_in_no_port() {
    on_both(|mut world| {
        hurry(&world);
        let kiosk = world.domain(5, "kiosk");
        let roomy = Controller { ports: 16, ..Controller::qusb(0) };
        world.toolstack.usbctrl_attach(&kiosk.guest, roomy);
        world.wait_for_node("/local/domain/0/backend/qusb/5/0/state", Some("4"));
        let _agent = world.ready_agent(&keyboards_to_kiosk());
        world.settle_by(&kiosk, &keyboard("1-2", 2));
        for (answered, devnum) in (0..36).step_by(3).zip(3..) {
            world.proxy.reset();
            world.proxy.pause_after(answered);
            world.bed.plug(&keyboard("1-1", devnum));
            let held = || kiosk.qemu.held().values().any(|held| held == "1-1");
            wait_until(PATIENCE, "the agent stops", || !world.proxy.is_armed() || held());
            if world.proxy.count(Op::WRITE) > 0 {
                // From here on it is the unplug of a device that is attached.
                kiosk.wait_until_held("1-1");
            }
            world.bed.unplug("1-1");
            world.proxy.disarm();
            world.proxy.resume();
            world.settle_by(&kiosk, &keyboard("1-2", devnum + 50));
            world.wait_until_forgotten("1-1");
            kiosk.wait_until_empty();
        }
    });
}

#[test]
fn two_identical_devices_and_a_new_controller_get_a_port_each() {
    everywhere(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        let _agent = world.ready_agent(&keyboards_to_kiosk());
        world.bed.plug(&keyboard("1-1", 2));
        world.bed.plug(&keyboard("1-2", 3));
        world.wait_until_given(&kiosk, "1-1");
        world.wait_until_given(&kiosk, "1-2");
        assert_eq!(world.names("/libxl/5/device/vusb"), ["0"]);
    });
}

#[test]
fn twenty_devices_at_once_are_all_attached() {
    everywhere(|mut world| {
        world.bed.plug(&UsbDevice::hub("1-1", 2));
        let kiosk = world.domain(5, "kiosk");
        let _agent = world.ready_agent(&keyboards_to_kiosk());
        let busids: Vec<_> = (1..=20).map(|port| format!("1-1.{port}")).collect();
        for (busid, devnum) in busids.iter().zip(3..) {
            world.bed.plug(&keyboard(busid, devnum));
        }
        for busid in &busids {
            world.wait_until_given(&kiosk, busid);
        }
        assert_eq!(world.names("/libxl/5/device/vusb"), ["0", "1", "2"]);
        world.bed.unplug("1-1");
        for busid in &busids {
            world.wait_until_forgotten(busid);
        }
    });
}
