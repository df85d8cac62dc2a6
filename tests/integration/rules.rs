//! Which domain a device goes to: lists, rules and their order, what is never attached.

use crate::harness::time::PATIENCE;
use crate::harness::usb::UsbDevice;
use crate::harness::xenstored::Flavor;
use crate::world::{World, everywhere, keyboard, keyboards_to_kiosk, on_both, policy, rules};

fn desk_or_kiosk() -> String {
    rules(&["match: {id: '046d:*'}, attach: [desk, kiosk]"])
}

#[test]
fn the_first_of_the_list_that_runs_gets_the_device_and_keeps_it() {
    everywhere(|mut world| {
        world.bed.plug(&keyboard("1-1", 2));
        let kiosk = world.domain(4, "kiosk");
        let mut agent = world.agent(&desk_or_kiosk());
        world.wait_until_given(&kiosk, "1-1");

        // The preferred one starts later: what is attached stays, what is new goes there.
        let desk = world.domain(5, "desk");
        agent.wait_for_line("domain appeared domain=\"desk\"", PATIENCE);
        world.bed.plug(&keyboard("1-2", 3));
        world.wait_until_given(&desk, "1-2");
        world.wait_until_given(&kiosk, "1-1");

        world.toolstack.destroy(&desk.guest);
        world.wait_until_given(&kiosk, "1-2");
        world.toolstack.destroy(&kiosk.guest);
        world.wait_until_home("1-1");
        world.wait_until_home("1-2");
    });
}

#[test]
fn the_preferred_domain_is_taken_when_both_run() {
    on_both(|mut world| {
        let _kiosk = world.domain(4, "kiosk");
        let desk = world.domain(5, "desk");
        world.bed.plug(&keyboard("1-1", 2));
        let _agent = world.agent(&desk_or_kiosk());
        world.wait_until_given(&desk, "1-1");
    });
}

#[test]
fn a_device_follows_the_name_of_a_domain() {
    on_both(|mut world| {
        let mut kiosk = world.domain(4, "other");
        world.bed.plug(&keyboard("1-1", 2));
        let mut agent = world.agent(&keyboards_to_kiosk());
        agent.wait_for_line("none of its domains runs device=1-1", PATIENCE);
        world.toolstack.rename(&mut kiosk.guest, "kiosk");
        world.wait_until_given(&kiosk, "1-1");
    });
}

#[test]
fn what_no_rule_wants_and_what_a_rule_keeps_stays_in_dom0() {
    on_both(|mut world| {
        let kiosk = world.domain(4, "kiosk");
        let mut agent = world.ready_agent(&rules(&[
            "name: mine, match: {port: '1-1'}, keep: dom0",
            "match: {id: '046d:c31c'}, attach: kiosk",
        ]));
        world.bed.plug(&keyboard("1-1", 2));
        agent.wait_for_line("a rule keeps it device=1-1 rule=\"mine\"", PATIENCE);
        world.bed.plug(&UsbDevice::mouse("1-2", 3));
        agent.wait_for_line("no rule matches device=1-2", PATIENCE);
        world.settle_by(&kiosk, &keyboard("1-3", 4));
        assert!(world.taken().is_empty());
    });
}

#[test]
fn the_first_rule_that_matches_decides() {
    let mut world = World::new(Flavor::C);
    let kiosk = world.domain(4, "kiosk");
    let desk = world.domain(5, "desk");
    world.bed.plug(&keyboard("1-1", 2));
    world.bed.plug(&keyboard("1-2", 3));
    let _agent = world.agent(&rules(&[
        "match: {port: '1-2'}, attach: desk",
        "match: {id: '046d:*'}, attach: kiosk",
        "match: {id: '*:*'}, keep: dom0",
    ]));
    world.wait_until_given(&kiosk, "1-1");
    world.wait_until_given(&desk, "1-2");
}

#[test]
fn a_hub_is_never_attached_but_what_is_behind_it_is() {
    everywhere(|mut world| {
        let kiosk = world.domain(4, "kiosk");
        world.bed.plug(&UsbDevice::hub("1-1", 2));
        let mut agent = world.ready_agent(&rules(&["match: {id: '*:*'}, attach: kiosk"]));
        agent.wait_for_line("it is a hub device=1-1", PATIENCE);
        world.bed.plug(&keyboard("1-1.4", 3));
        world.wait_until_given(&kiosk, "1-1.4");
        assert_eq!(world.taken().len(), 1);
        world.bed.unplug("1-1");
        world.wait_until_forgotten("1-1.4");
    });
}

#[test]
fn a_rule_can_name_a_port_everything_behind_a_hub_or_a_bus_address() {
    let mut world = World::new(Flavor::OCaml);
    let kiosk = world.domain(4, "kiosk");
    let desk = world.domain(5, "desk");
    world.bed.host(2, "0000:00:1a.0");
    world.bed.plug(&UsbDevice::hub("1-1", 2));
    world.bed.plug(&UsbDevice::hub("2-1", 2));
    let _agent = world.ready_agent(&rules(&[
        "match: {port: '1-1.*'}, attach: kiosk",
        "match: {bus_address: '1.9'}, attach: kiosk",
        "match: {port: 'pci-0000:00:1a.0-usb-0:1.*'}, attach: desk",
        "match: {port: 'pci-0000:00:1a.0-usb-0:3'}, attach: kiosk",
    ]));
    for (busid, devnum) in
        [("1-1.2", 3), ("1-10", 4), ("1-2", 9), ("1-3", 10), ("2-1.2", 3), ("2-3", 4), ("2-30", 5)]
    {
        world.bed.plug(&keyboard(busid, devnum));
    }
    for busid in ["1-1.2", "1-2", "2-3"] {
        world.wait_until_given(&kiosk, busid);
    }
    world.wait_until_given(&desk, "2-1.2");
    assert_eq!(world.taken().len(), 4);
}

#[test]
fn a_rule_anchored_at_a_pci_address_survives_another_bus_number() {
    let mut world = World::new(Flavor::C);
    let kiosk = world.domain(4, "kiosk");
    world.bed.host(3, "0000:03:00.0");
    let _agent = world.ready_agent(&policy(
        "settle: 0ms",
        &["match: {port: 'pci-0000:03:00.0-usb-0:2'}, attach: kiosk"],
    ));
    world.bed.plug(&keyboard("1-2", 2));
    world.bed.plug(&keyboard("3-2", 2));
    world.wait_until_given(&kiosk, "3-2");
    assert_eq!(world.taken().len(), 1);
}

/// A keyboard about which udev and sysfs have more to say.
fn talkative(busid: &str, devnum: u8) -> UsbDevice {
    let mut device = keyboard(busid, devnum).with_tag("front-desk");
    device.properties.push(("ID_DESK".into(), "left".into()));
    device.attributes.push(("bMaxPower".into(), b"100mA\n".to_vec()));
    device.removable = "fixed";
    device
}

/// Everything about it that only dom0 knows, and that is gone or hidden while it is away.
const BY_EVERYTHING: &str = "match: {driver: usbhid, removable: fixed, behind: {category: hub}, \
    udev: {property: {ID_DESK: left}, tag: front-desk, attribute: {bMaxPower: '100mA'}}}, \
    attach: kiosk";

#[test]
fn what_only_dom0_knows_of_a_device_counts_as_long_as_it_is_away() {
    everywhere(|mut world| {
        world.bed.plug(&UsbDevice::hub("1-1", 2));
        world.bed.plug(&talkative("1-1.4", 3));
        world.bed.plug(&keyboard("1-1.3", 4));
        let kiosk = world.domain(4, "kiosk");
        let both = [BY_EVERYTHING, "match: {port: '1-3'}, attach: kiosk"];
        let mut agent = world.agent(&rules(&both));
        world.wait_until_given(&kiosk, "1-1.4");
        let taken = world.taken();
        assert_eq!(taken.len(), 1);

        // Judged again, also by an agent that has not seen it in dom0.
        world.reload(&mut agent, &rules(&both));
        world.settle_by(&kiosk, &keyboard("1-3", 5));
        agent.kill();
        let _agent = world.ready_agent(&rules(&both));
        world.settle_by(&kiosk, &keyboard("1-3", 6));
        assert!(taken.iter().all(|(at, busid)| world.taken().get(at) == Some(busid)), "{taken:?}");
    });
}

#[test]
fn an_attribute_that_a_new_policy_asks_for_is_read_before_it_decides() {
    on_both(|mut world| {
        world.bed.plug(&talkative("1-1", 2));
        let kiosk = world.domain(4, "kiosk");
        let mut agent = world.agent(&keyboards_to_kiosk());
        world.wait_until_given(&kiosk, "1-1");
        let taken = world.taken();

        let rule = "match: {udev: {attribute: {bMaxPower: '100mA'}}}, attach: kiosk";
        world.reload(&mut agent, &rules(&[rule]));
        world.settle_by(&kiosk, &talkative("1-2", 3));
        assert!(taken.iter().all(|(at, busid)| world.taken().get(at) == Some(busid)), "{taken:?}");
    });
}
