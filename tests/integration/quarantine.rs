//! Quarantine: no driver of dom0's meets a device before it is decided where it goes.
//!
//! The bus gives new interfaces to no driver (`interface_authorized_default` is 0), as the rule file
//! `udev/60-pvusb-agent-quarantine.rules` has it.

use crate::harness::time::{PATIENCE, wait_until};
use crate::harness::usb::UsbDevice;
use crate::harness::xenstored::Flavor;
use crate::world::{World, everywhere, keyboard, on_both, policy, rules};

const ATTACH: &str = "match: {id: '046d:c31c'}, attach: kiosk";
const KEEP: &str = "match: {id: '046d:c31c'}, keep: dom0";

fn quarantined(rules: &[&str]) -> String {
    policy("settle: 0ms, quarantine: true", rules)
}

/// A host whose buses give new interfaces to no driver.
fn strict(world: World) -> World {
    world.bed.authorize_by_default(false);
    world
}

/// The drivers that were called, and the permissions that were given, in order.
fn orders(world: &World) -> Vec<String> {
    let writes = world.bed.kernel().writes();
    writes.iter().map(|w| format!("{} {}", w.file, w.interface)).collect()
}

fn is_locked(world: &World, busid: &str) -> bool {
    let interfaces = world.bed.interfaces(busid);
    let locked = |i: &String| !world.bed.is_authorized(i) && world.bed.driver(i).is_none();
    !interfaces.is_empty() && interfaces.iter().all(locked)
}

fn wait_until_locked(world: &World, busid: &str) {
    let what = format!("{busid} is in quarantine and nothing is noted of it");
    wait_until(PATIENCE, &what, || is_locked(world, busid) && world.note(busid).is_none());
}

#[test]
fn a_device_goes_to_its_domain_and_into_quarantine_when_that_ends_without_meeting_a_driver() {
    everywhere(|world| {
        let mut world = strict(world);
        let kiosk = world.domain(5, "kiosk");
        let _agent = world.ready_agent(&quarantined(&[ATTACH]));
        world.bed.plug(&keyboard("1-1", 6));
        world.wait_until_given(&kiosk, "1-1");
        world.toolstack.destroy(&kiosk.guest);
        wait_until_locked(&world, "1-1");

        let kiosk = world.domain(6, "kiosk");
        world.wait_until_given(&kiosk, "1-1");
        let called = |order: &String| order.contains("usbhid") || order.contains("probe");
        assert!(!orders(&world).iter().any(called), "{:?}", orders(&world));
    });
}

#[test]
fn a_device_goes_from_one_domain_to_the_next_without_meeting_a_driver() {
    everywhere(|world| {
        let mut world = strict(world);
        let kiosk = world.domain(5, "kiosk");
        let desk = world.domain(6, "desk");
        world.bed.plug(&keyboard("1-1", 6));
        let mut agent = world.agent(&quarantined(&[ATTACH]));
        world.wait_until_given(&kiosk, "1-1");
        let to_desk = quarantined(&["match: {id: '046d:c31c'}, attach: desk"]);
        world.reload(&mut agent, &to_desk);
        world.wait_until_given(&desk, "1-1");
        let called = |order: &String| order.contains("usbhid") || order.contains("probe");
        assert!(!orders(&world).iter().any(called), "{:?}", orders(&world));
    });
}

#[test]
fn a_device_that_stays_in_dom0_gets_its_drivers_when_that_is_decided() {
    on_both(|world| {
        let world = strict(world);
        let mut agent = world.agent(&quarantined(&[ATTACH]));
        world.bed.plug(&UsbDevice::hub("1-1", 2));
        world.wait_until_home("1-1");
        world.bed.plug(&UsbDevice::mouse("1-1.1", 3));
        world.wait_until_home("1-1.1");

        // Its domain may start at any time: until then it is kept from dom0.
        world.bed.plug(&keyboard("1-1.2", 4));
        agent.wait_for_line("none of its domains runs device=1-1.2", PATIENCE);
        assert!(is_locked(&world, "1-1.2"));
        world.reload(&mut agent, &quarantined(&[KEEP]));
        world.wait_until_home("1-1.2");
        agent.wait_for_line("let out of quarantine device=1-1.2", PATIENCE);
    });
}

#[test]
fn nothing_is_decided_before_udev_has_finished_with_a_device() {
    on_both(|world| {
        let world = strict(world);
        let anchored = "match: {port: 'pci-0000:00:14.0-usb-0:1'}, attach: kiosk";
        let mut agent = world.ready_agent(&quarantined(&[anchored]));
        world.bed.add_without_udev(&keyboard("1-1", 6));
        // Makes the agent look at all devices.
        world.bed.plug(&UsbDevice::mouse("1-2", 7));
        world.wait_until_home("1-2");
        assert!(is_locked(&world, "1-1"), "no rule matched yet, but one is going to");
        world.bed.udev_done("1-1");
        agent.wait_for_line("none of its domains runs device=1-1", PATIENCE);
        assert!(is_locked(&world, "1-1"));
    });
}

#[test]
fn without_a_word_in_the_policy_the_agent_lets_nothing_out() {
    on_both(|world| {
        let mut world = strict(world);
        let _kiosk = world.domain(5, "kiosk");
        let mut agent = world.agent(&rules(&[ATTACH]));
        world.bed.plug(&keyboard("1-1", 6));
        world.bed.plug(&UsbDevice::mouse("1-2", 7));
        agent.wait_for_line("its interfaces are not authorized", PATIENCE);
        assert!(is_locked(&world, "1-1") && is_locked(&world, "1-2"));
        assert_eq!(orders(&world), Vec::<String>::new());
    });
}

#[test]
fn killed_at_any_order_to_the_kernel_the_next_start_brings_a_device_where_it_belongs() {
    on_both(|world| {
        let mut world = strict(world);
        let kiosk = world.domain(5, "kiosk");
        let mut points = 0;
        for (rule, devnum) in [(KEEP, 10), (ATTACH, 50)] {
            for passed in 0_u8.. {
                world.bed.kernel().stall_after(usize::from(passed));
                world.bed.plug(&keyboard("1-1", devnum + passed));
                let agent = world.agent(&quarantined(&[rule]));
                let arrived = || match rule {
                    KEEP => world.is_with_its_drivers("1-1"),
                    _ => world.places("1-1").len() == 1,
                };
                let what = "the kernel holds an order up, or there are no more orders";
                wait_until(PATIENCE, what, || world.bed.kernel().blocked() > 0 || arrived());
                let was_last = world.bed.kernel().blocked() == 0;
                drop(agent);
                world.bed.kernel().release_all();

                let agent = world.agent(&quarantined(&[rule]));
                match rule {
                    KEEP => world.wait_until_home("1-1"),
                    _ => world.wait_until_given(&kiosk, "1-1"),
                }
                world.bed.unplug("1-1");
                world.wait_until_forgotten("1-1");
                kiosk.wait_until_empty();
                drop(agent);
                if was_last {
                    break;
                }
                points += 1;
            }
        }
        // Two permissions and two probes; two permissions.
        assert_eq!(points, 6);
    });
}

#[test]
fn the_last_keyboard_of_dom0_is_not_in_quarantine_until_there_is_another() {
    let mut world = strict(World::new(Flavor::C));
    world.bed.remove_desk();
    let _agent = world.ready_agent(&quarantined(&[ATTACH]));
    world.bed.plug(&keyboard("1-1", 6));
    wait_until(PATIENCE, "dom0's drivers have it", || world.is_with_its_drivers("1-1"));
    // Its domain comes, and it stays nevertheless.
    let kiosk = world.domain(5, "kiosk");
    world.bed.plug(&keyboard("1-2", 7));
    world.wait_until_given(&kiosk, "1-2");
    assert!(world.is_home("1-1"));
}
