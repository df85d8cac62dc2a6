//! `block`: no driver and no domain has a device, until the policy says otherwise.

use crate::harness::time::{PATIENCE, wait_until};
use crate::harness::usb::UsbDevice;
use crate::harness::xenstored::Flavor;
use crate::world::{World, keyboard, on_both, policy, rules};

const BLOCK: &str = "match: {id: '046d:c31c'}, block: true";
const KEEP: &str = "match: {id: '046d:c31c'}, keep: dom0";
const ATTACH: &str = "match: {id: '046d:c31c'}, attach: kiosk";

fn is_blocked(world: &World, busid: &str) -> bool {
    let interfaces = world.bed.interfaces(busid);
    let locked = |i: &String| !world.bed.is_authorized(i) && world.bed.driver(i).is_none();
    let noted = world.note(busid).is_some_and(|note| note.starts_with("blocked "));
    !interfaces.is_empty() && interfaces.iter().all(locked) && noted
}

#[track_caller]
fn wait_until_blocked(world: &World, busid: &str) {
    wait_until(PATIENCE, "it is blocked, and that is noted", || is_blocked(world, busid));
}

#[test]
fn nobody_gets_what_a_rule_blocks_until_the_policy_says_otherwise() {
    on_both(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        world.bed.plug(&keyboard("1-1", 2));
        let mut agent = world.agent(&rules(&[BLOCK]));
        wait_until_blocked(&world, "1-1");
        agent.wait_for_line("nobody gets it: a rule blocks it device=1-1", PATIENCE);
        // What is plugged later, too, and what the agent did it undoes.
        world.bed.unplug("1-1");
        world.wait_until_forgotten("1-1");
        world.bed.plug(&keyboard("1-1", 3));
        wait_until_blocked(&world, "1-1");
        world.reload(&mut agent, &rules(&[KEEP]));
        world.wait_until_home("1-1");
        world.reload(&mut agent, &rules(&[BLOCK]));
        wait_until_blocked(&world, "1-1");
        world.reload(&mut agent, &rules(&[ATTACH]));
        world.wait_until_given(&kiosk, "1-1");
        // From a domain it does not go by dom0's drivers, as far as it is the agent who calls them.
        world.reload(&mut agent, &rules(&[BLOCK]));
        wait_until_blocked(&world, "1-1");
        // No rule at all is another policy, too.
        world.reload(&mut agent, &rules(&["match: {id: '1111:2222'}, keep: dom0"]));
        world.wait_until_home("1-1");
    });
}

#[test]
fn what_dom0_needs_is_not_blocked_and_a_hub_never() {
    let world = World::new(Flavor::C);
    world.bed.remove_desk();
    let mut agent = world.ready_agent(&policy("settle: 0ms", &["match: {id: '*:*'}, block: true"]));
    world.bed.plug(&UsbDevice::hub("1-1", 2));
    world.bed.plug(&keyboard("1-1.1", 3));
    agent.wait_for_line("stays in dom0 and is not blocked: it is protected", PATIENCE);
    world.bed.plug(&keyboard("1-1.2", 4));
    wait_until(PATIENCE, "one of two is blocked", || {
        is_blocked(&world, "1-1.1") != is_blocked(&world, "1-1.2")
    });
    assert!(world.is_home("1-1"));
}

#[test]
fn with_quarantine_what_is_blocked_never_meets_a_driver() {
    on_both(|world| {
        world.bed.authorize_by_default(false);
        let quarantined = |rule: &str| policy("settle: 0ms, quarantine: true", &[rule]);
        let mut agent = world.ready_agent(&quarantined(BLOCK));
        world.bed.plug(&keyboard("1-1", 2));
        agent.wait_for_line("nobody gets it: a rule blocks it device=1-1", PATIENCE);
        let writes = world.bed.kernel().writes();
        assert!(writes.is_empty(), "{}", writes.len());
        world.reload(&mut agent, &quarantined(KEEP));
        world.wait_until_home("1-1");
        world.reload(&mut agent, &quarantined(BLOCK));
        wait_until_blocked(&world, "1-1");
        world.reload(&mut agent, &quarantined(KEEP));
        world.wait_until_home("1-1");
    });
}

/// xl gives a device to usbback, interface by interface, before it writes the port.
#[test]
fn what_somebody_attaches_while_it_is_being_blocked_is_not_taken_from_usbback() {
    let world = World::new(Flavor::C);
    world.bed.load_driver("usbback");
    world.bed.plug(&keyboard("1-1", 2));
    let mut agent = world.ready_agent(&rules(&[KEEP]));
    world.bed.kernel().stall_after(0);
    world.write_policy(&rules(&[BLOCK]));
    agent.signal("HUP");
    wait_until(PATIENCE, "the first permission is taken", || world.bed.kernel().blocked() > 0);
    let second = &world.bed.interfaces("1-1")[1];
    world.bed.set_driver(second, Some("usbback"));
    world.bed.kernel().release_all();
    agent.wait_for_line(&format!("usbback has interface {second} since"), PATIENCE);
    assert!(world.bed.is_authorized(second));
    world.bed.set_driver(second, None);
    wait_until_blocked(&world, "1-1");
}

#[test]
fn killed_at_any_order_to_the_kernel_the_next_start_blocks_it_or_gives_it_back() {
    on_both(|world| {
        let mut points = 0;
        let mut devnum = 2;
        for (first, then) in [(KEEP, BLOCK), (BLOCK, KEEP)] {
            for passed in 0_u8.. {
                world.bed.kernel().stall_after(usize::MAX);
                world.bed.plug(&keyboard("1-1", devnum));
                devnum += 1;
                let arrived = |rule: &str| match rule {
                    BLOCK => is_blocked(&world, "1-1"),
                    _ => world.is_with_its_drivers("1-1") && world.note("1-1").is_none(),
                };
                let mut agent = world.agent(&rules(&[first]));
                wait_until(PATIENCE, "it is as the first policy says", || arrived(first));
                agent.wait_for_line("device=1-1", PATIENCE);
                world.bed.kernel().stall_after(usize::from(passed));
                world.write_policy(&rules(&[then]));
                agent.signal("HUP");
                let what = "the kernel holds an order up, or there are no more orders";
                wait_until(PATIENCE, what, || world.bed.kernel().blocked() > 0 || arrived(then));
                let was_last = world.bed.kernel().blocked() == 0;
                drop(agent);
                world.bed.kernel().release_all();

                let agent = world.agent(&rules(&[then]));
                wait_until(PATIENCE, "it is as the second policy says", || arrived(then));
                drop(agent);
                world.bed.unplug("1-1");
                let agent = world.agent(&rules(&[then]));
                world.wait_until_forgotten("1-1");
                drop(agent);
                if was_last {
                    break;
                }
                points += 1;
            }
        }
        // Two permissions taken; two given, and two probes.
        assert_eq!(points, 6);
    });
}
