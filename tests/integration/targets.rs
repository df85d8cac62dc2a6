//! Which domain a rule means, which controller and port it asks for there, and when it counts.

use crate::harness::time::PATIENCE;
use crate::world::{World, keyboard, on_both, rules};

fn world() -> World {
    World::new(crate::harness::xenstored::Flavor::C)
}

#[test]
fn a_domain_is_found_by_pattern_and_by_alias() {
    on_both(|mut world| {
        let desk = world.domain(7, "desk-7");
        let kiosk = world.domain(4, "kiosk");
        let policy = rules(&[
            "match: {port: '1-1'}, attach: 'desk-*'",
            "match: {port: '1-2'}, attach: front",
        ]);
        let _agent =
            world.agent(&policy.replace("rules:", "domains: {front: [nobody, kiosk]}\nrules:"));
        world.bed.plug(&keyboard("1-1", 2));
        world.bed.plug(&keyboard("1-2", 3));
        world.wait_until_given(&desk, "1-1");
        world.wait_until_given(&kiosk, "1-2");
        // Of several that are meant, the lowest number.
        let older = world.domain(5, "desk-5");
        world.bed.unplug("1-1");
        world.wait_until_forgotten("1-1");
        world.bed.plug(&keyboard("1-1", 9));
        world.wait_until_given(&older, "1-1");
    });
}

#[test]
fn a_rule_counts_while_the_domains_are_as_it_says() {
    on_both(|mut world| {
        let kiosk = world.domain(4, "kiosk");
        let desk = world.domain(5, "desk");
        let mut agent = world.agent(&rules(&[
            "match: {id: '046d:*'}, when: {running: [maintenance]}, keep: dom0",
            "match: {id: '046d:*'}, enabled: false, attach: desk",
            "match: {id: '046d:*'}, when: {absent: night}, attach: kiosk",
            "match: {id: '046d:*'}, attach: desk",
        ]));
        world.bed.plug(&keyboard("1-1", 2));
        world.wait_until_given(&kiosk, "1-1");
        let night = world.domain(6, "night");
        world.wait_until_given(&desk, "1-1");
        world.toolstack.destroy(&night.guest);
        world.wait_until_given(&kiosk, "1-1");
        let maintenance = world.domain(7, "maintenance");
        world.wait_until_home("1-1");
        agent.wait_for_line("a rule keeps it device=1-1", PATIENCE);
        world.toolstack.destroy(&maintenance.guest);
        world.wait_until_given(&kiosk, "1-1");
    });
}

#[test]
fn a_device_gets_the_port_and_the_controller_that_its_rule_asks_for() {
    on_both(|mut world| {
        let kiosk = world.domain(4, "kiosk");
        let _agent = world.agent(&rules(&[
            "match: {port: '1-1'}, attach: {domain: kiosk, controller: {index: 0, ports: 2}, port: 2}",
            "match: {port: '1-2'}, attach: {domain: kiosk, controller: {index: 1}, port: 5}",
        ]));
        world.bed.plug(&keyboard("1-1", 2));
        world.wait_until_given(&kiosk, "1-1");
        world.bed.plug(&keyboard("1-2", 3));
        world.wait_until_given(&kiosk, "1-2");
        let taken = world.taken();
        let expected = [((4, 0, 2), "1-1".to_owned()), ((4, 1, 5), "1-2".to_owned())];
        assert_eq!(taken, expected.into());
    });
}

#[test]
fn what_cannot_be_had_is_said_once_and_had_when_it_can_be() {
    let mut world = world();
    let kiosk = world.domain(4, "kiosk");
    let mut agent = world.agent(&rules(&[
        "match: {port: '1-1'}, attach: {domain: kiosk, port: 3}",
        "match: {port: '1-2'}, attach: {domain: kiosk, port: 3}",
        "match: {port: '1-3'}, attach: {domain: kiosk, controller: {index: 5}}",
        "match: {port: '1-4'}, attach: kiosk",
    ]));
    world.bed.plug(&keyboard("1-1", 2));
    world.wait_until_given(&kiosk, "1-1");
    world.bed.plug(&keyboard("1-2", 3));
    agent.wait_for_line("port 3, which its rule asks for, is not to be had", PATIENCE);
    world.bed.plug(&keyboard("1-3", 4));
    agent.wait_for_line("controller 5, which its rule asks for, is not there", PATIENCE);
    // Nothing is tried over and over.
    world.settle_by(&kiosk, &keyboard("1-4", 9));
    let said = |what: &str| agent.lines().iter().filter(|line| line.contains(what)).count();
    assert_eq!((said("port 3, which"), said("controller 5, which")), (1, 1));
    world.bed.unplug("1-1");
    world.wait_until_given(&kiosk, "1-2");
}

#[test]
fn a_domain_that_takes_too_long_is_passed_over_for_the_next() {
    on_both(|mut world| {
        let kiosk = world.domain(4, "kiosk");
        let mut agent = world.agent(&rules(&[
            "name: slow, match: {port: '1-1'}, attach: [desk, kiosk], wait: {attach: 5s}",
            "match: {port: '1-2'}, attach: kiosk",
        ]));
        // It does not run.
        world.bed.plug(&keyboard("1-1", 2));
        agent.wait_for_line("does not run and has a while to start device=1-1", PATIENCE);
        world.settle_by(&kiosk, &keyboard("1-2", 3));
        assert!(world.places("1-1").is_empty());
        agent.wait_for_line("passed over", PATIENCE);
        world.wait_until_given(&kiosk, "1-1");

        // It runs and its guest has no driver: the device goes on to the next, and stays there.
        world.bed.unplug("1-1");
        world.wait_until_forgotten("1-1");
        let desk = world.domain(5, "desk");
        desk.frontend.pause(true);
        world.bed.plug(&keyboard("1-1", 9));
        world.wait_until_given(&kiosk, "1-1");
        let passed: Vec<_> =
            agent.lines().into_iter().filter(|it| it.contains("passed over")).collect();
        assert_eq!(passed.len(), 2, "{passed:?}");
        assert!(
            passed.iter().all(|it| it.contains("domain=\"desk\" rule=\"slow\" wait=5s")),
            "{passed:?}"
        );
        desk.frontend.pause(false);
        world.settle_by(&kiosk, &keyboard("1-2", 10));
        world.wait_until_given(&kiosk, "1-1");
    });
}

#[test]
fn a_rule_has_its_own_limit_and_its_own_patience() {
    let mut world = world();
    let kiosk = world.domain(4, "kiosk");
    let mut agent = world.agent(&rules(&[
        "match: {port: '1-1'}, attach: kiosk, limit: {plugs: 1, within: 60s, pause: 1s}",
        "match: {port: '1-2'}, attach: kiosk, wait: {settle: 60s}",
    ]));
    world.bed.plug(&keyboard("1-2", 3));
    world.bed.plug(&keyboard("1-1", 4));
    world.wait_until_given(&kiosk, "1-1");
    world.bed.unplug("1-1");
    world.wait_until_forgotten("1-1");
    world.bed.plug(&keyboard("1-1", 5));
    agent.wait_for_line("held down", PATIENCE);
    world.wait_until_given(&kiosk, "1-1");
    assert!(!world.taken().values().any(|busid| busid == "1-2"), "it has not settled");
}
