//! What is easily got wrong: one answer each, always the same. docs/situations.md lists them for
//! administrators.

use crate::harness::backend::Guest;
use crate::harness::time::{PATIENCE, wait_until};
use crate::harness::usb::UsbDevice;
use crate::world::{everywhere, keyboard, keyboards_to_kiosk, on_both, rules};

#[test]
fn a_busid_that_another_device_takes_at_once_is_judged_by_what_is_there() {
    everywhere(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        world.bed.plug(&keyboard("1-1", 6));
        world.bed.plug(&UsbDevice::mouse("1-2", 7));
        let agent = world.agent(&keyboards_to_kiosk());
        world.wait_until_given(&kiosk, "1-1");
        agent.signal("STOP");
        for busid in ["1-1", "1-2"] {
            world.bed.unplug(busid);
        }
        world.bed.plug(&UsbDevice::mouse("1-1", 8));
        world.bed.plug(&keyboard("1-2", 9));
        agent.signal("CONT");
        world.wait_until_given(&kiosk, "1-2");
        world.wait_until_home("1-1");
    });
}

#[test]
fn a_device_that_comes_back_as_another_is_judged_as_that() {
    everywhere(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        let _agent = world.agent(&keyboards_to_kiosk());
        world.bed.plug(&keyboard("1-1", 6));
        world.wait_until_given(&kiosk, "1-1");
        // A bootloader: another id in the same port.
        world.bed.unplug("1-1");
        world.bed.plug(&UsbDevice::new("1-1", 7, 0x046d, 0xb007).with_interface([255, 0, 0], None));
        world.wait_until_home("1-1");
        kiosk.wait_until_empty();
        world.bed.unplug("1-1");
        world.bed.plug(&keyboard("1-1", 8));
        world.wait_until_given(&kiosk, "1-1");
    });
}

#[test]
fn a_device_that_moves_to_another_port_is_attached_there_and_nowhere_else() {
    everywhere(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        world.bed.plug(&UsbDevice::hub("1-2", 2));
        world.bed.plug(&keyboard("1-1", 6));
        let agent = world.agent(&keyboards_to_kiosk());
        world.wait_until_given(&kiosk, "1-1");
        agent.signal("STOP");
        world.bed.unplug("1-1");
        world.bed.plug(&keyboard("1-2.3", 7));
        agent.signal("CONT");
        world.wait_until_given(&kiosk, "1-2.3");
        world.wait_until_forgotten("1-1");
        assert_eq!(world.taken().len(), 1);
    });
}

#[test]
fn a_hub_full_of_devices_that_is_pulled_leaves_no_port_behind() {
    everywhere(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        let _agent = world.agent(&keyboards_to_kiosk());
        world.bed.plug(&UsbDevice::hub("1-1", 2));
        let busids: Vec<String> = (1..=4).map(|port| format!("1-1.{port}")).collect();
        for (busid, devnum) in busids.iter().zip(3..) {
            world.bed.plug(&keyboard(busid, devnum));
        }
        for busid in &busids {
            world.wait_until_given(&kiosk, busid);
        }
        world.bed.unplug("1-1");
        for busid in &busids {
            world.wait_until_forgotten(busid);
        }
        assert!(world.taken().is_empty());
        kiosk.wait_until_empty();
    });
}

#[test]
fn twins_are_told_apart_by_their_ports() {
    everywhere(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        let desk = world.domain(6, "desk");
        let left = "match: {id: '046d:c31c', port: '1-1'}, attach: kiosk";
        let right = "match: {id: '046d:c31c', port: '1-2'}, attach: desk";
        world.bed.plug(&keyboard("1-1", 2));
        world.bed.plug(&keyboard("1-2", 3));
        let agent = world.agent(&rules(&[left, right]));
        world.wait_until_given(&kiosk, "1-1");
        world.wait_until_given(&desk, "1-2");
        // They change places. Nothing in them tells which is which.
        agent.signal("STOP");
        world.bed.unplug("1-1");
        world.bed.unplug("1-2");
        world.bed.plug(&keyboard("1-2", 4));
        world.bed.plug(&keyboard("1-1", 5));
        agent.signal("CONT");
        world.wait_until_given(&kiosk, "1-1");
        world.wait_until_given(&desk, "1-2");
    });
}

#[test]
fn a_domain_that_is_renamed_loses_what_was_meant_for_its_old_name() {
    on_both(|mut world| {
        let mut kiosk = world.domain(5, "kiosk");
        world.bed.plug(&keyboard("1-1", 6));
        let _agent = world.agent(&keyboards_to_kiosk());
        world.wait_until_given(&kiosk, "1-1");
        world.toolstack.rename(&mut kiosk.guest, "other");
        world.wait_until_home("1-1");
        world.toolstack.rename(&mut kiosk.guest, "kiosk");
        world.wait_until_given(&kiosk, "1-1");
    });
}

#[test]
fn of_two_domains_of_one_name_the_older_has_the_device_and_the_other_gets_it_when_that_is_gone() {
    on_both(|mut world| {
        let first = world.domain(5, "kiosk");
        world.bed.plug(&keyboard("1-1", 6));
        let _agent = world.agent(&keyboards_to_kiosk());
        world.wait_until_given(&first, "1-1");
        // As in a local migration: for a moment both are there.
        let second = world.domain(6, "kiosk");
        world.settle_by(&first, &keyboard("1-2", 7));
        world.wait_until_given(&first, "1-1");
        world.toolstack.destroy(&first.guest);
        world.wait_until_given(&second, "1-1");
    });
}

#[test]
fn a_domain_number_that_another_domain_gets_means_nothing() {
    on_both(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        world.bed.plug(&keyboard("1-1", 6));
        let agent = world.agent(&keyboards_to_kiosk());
        world.wait_until_given(&kiosk, "1-1");
        agent.signal("STOP");
        world.toolstack.destroy(&kiosk.guest);
        kiosk.wait_until_empty();
        drop(kiosk);
        let other = world.serve(Guest::new(5, "other"));
        agent.signal("CONT");
        world.wait_until_home("1-1");
        assert!(other.qemu.held().is_empty());
        assert!(world.taken().is_empty());
    });
}

#[test]
fn a_controller_that_xl_removes_under_the_agent_takes_its_device_out_by_hand() {
    everywhere(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        world.bed.plug(&keyboard("1-1", 6));
        let mut agent = world.agent(&keyboards_to_kiosk());
        world.wait_until_given(&kiosk, "1-1");
        agent.wait_for_line("attached device=1-1 ", PATIENCE);
        world.toolstack.usbctrl_detach(&kiosk.guest, 0);
        agent.wait_for_line("left alone: taken out by somebody else", PATIENCE);
        world.settle_by(&kiosk, &keyboard("1-2", 7));
        assert!(world.places("1-1").is_empty());
        world.bed.unplug("1-1");
        world.bed.plug(&keyboard("1-1", 8));
        world.wait_until_given(&kiosk, "1-1");
    });
}

#[test]
fn a_paused_domain_keeps_what_it_has_and_delays_nobody() {
    on_both(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        let desk = world.domain(6, "desk");
        let to_desk = "match: {id: '046d:c077'}, attach: desk";
        let to_kiosk = "match: {id: '046d:c31c'}, attach: kiosk";
        let _agent = world.ready_agent(&rules(&[to_desk, to_kiosk]));
        // Paused: its driver answers nothing any more.
        kiosk.frontend.pause(true);
        world.bed.plug(&keyboard("1-1", 6));
        wait_until(PATIENCE, "the paused domain has a port", || world.places("1-1").len() == 1);
        world.bed.plug(&UsbDevice::mouse("1-2", 7));
        world.wait_until_given(&desk, "1-2");
        kiosk.frontend.pause(false);
        world.wait_until_given(&kiosk, "1-1");
    });
}

#[test]
fn a_domain_that_is_saved_and_restored_has_its_devices_again() {
    everywhere(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        world.bed.plug(&keyboard("1-1", 6));
        let _agent = world.agent(&keyboards_to_kiosk());
        world.wait_until_given(&kiosk, "1-1");
        // Saved, or migrated away: it is destroyed here, and comes back with its UUID.
        world.toolstack.destroy(&kiosk.guest);
        world.wait_until_home("1-1");
        let kiosk = world.serve(Guest { domid: 9, ..kiosk.guest.clone() });
        world.wait_until_given(&kiosk, "1-1");
    });
}

#[test]
fn a_domain_that_dies_while_its_controller_is_made_leaves_nothing() {
    on_both(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        let guest = kiosk.guest.clone();
        world.bed.plug(&keyboard("1-1", 6));
        let _agent = world.agent(&keyboards_to_kiosk());
        // At the very moment when the agent makes its controller, somewhere in these.
        for _ in 0..3 {
            world.toolstack.destroy(&guest);
            world.wait_until_home("1-1");
            world.toolstack.create(&guest);
            wait_until(PATIENCE, "a controller", || !world.taken().is_empty());
        }
        world.toolstack.destroy(&guest);
        world.wait_until_home("1-1");
        let what = "no backend is left";
        wait_until(PATIENCE, what, || world.names("/local/domain/0/backend/qusb").is_empty());
    });
}
