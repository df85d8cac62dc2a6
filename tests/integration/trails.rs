//! Devices that follow another one in its place: a firmware update, a change of mode, a loose plug.

use crate::harness::agent::Agent;
use crate::harness::time::PATIENCE;
use crate::harness::usb::UsbDevice;
use crate::world::{Domain, OWN, World, everywhere, keyboard, on_both, policy, rules};

/// A board, as it is when it works.
fn board(devnum: u8) -> UsbDevice {
    UsbDevice::serial_adapter("1-1", devnum, "A1")
}

/// The same in its boot loader: a disk, as with many.
fn boot_loader(devnum: u8) -> UsbDevice {
    UsbDevice::storage("1-1", devnum, "B00T")
}

/// Boards go to the workshop, their way is kept for so long, and nothing else goes anywhere.
fn boards(keep: &str) -> String {
    rules(&[
        "match: {port: '1-3'}, attach: workshop",
        "match: {category: storage}, keep: dom0",
        &format!("name: boards, match: {{id: '0403:*'}}, attach: workshop, {keep}"),
    ])
}

const KEEP: &str = "on_identity_change: keep 60s";

fn trail(world: &World) -> Option<String> {
    world.node(&format!("{OWN}/trails/1-1"))
}

/// A host with a workshop that has the board, and the agent.
fn with_board(world: &mut World, policy: &str) -> (Domain, Agent) {
    let workshop = world.domain(5, "workshop");
    world.bed.plug(&board(2));
    let mut agent = world.agent(policy);
    world.wait_until_given(&workshop, "1-1");
    agent.wait_for_line("attached device=1-1", PATIENCE);
    (workshop, agent)
}

fn out(world: &World, args: &[&str]) -> String {
    let output = world.verb(args);
    assert_eq!(output.status.code(), Some(0), "{args:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_board_that_is_programmed_keeps_its_way_there_and_back() {
    everywhere(|mut world| {
        let (workshop, mut agent) = with_board(&mut world, &boards(KEEP));
        for (number, device) in [boot_loader(3), board(4), boot_loader(5)].iter().enumerate() {
            world.bed.unplug("1-1");
            agent.wait_for_line("its way is kept for a while device=1-1", PATIENCE);
            let kept = out(&world, &["status"]);
            assert!(kept.contains("kept ways 1"), "{kept}");
            world.bed.plug(device);
            world.wait_until_given(&workshop, "1-1");
            let line = agent.wait_for_line("attached device=1-1", PATIENCE);
            let because =
                format!("because=\"identity kept: boards ({}:6)\"", world.policy_path().display());
            assert!(line.ends_with(&because), "{number}: {line}");
        }
        let (policy, libxl) = (world.policy_path(), world.libxl_dir());
        let paths = ["--policy", policy.to_str().unwrap(), "--libxl-dir", libxl.to_str().unwrap()];
        let explained = out(&world, &[&["explain", "1-1"], &paths[..]].concat());
        assert!(explained.contains("Identity kept: it follows another device"), "{explained}");
        assert!(explained.contains(": identity kept: boards ("), "{explained}");
        let listed = out(&world, &[&["list"], &paths[..]].concat());
        assert!(listed.contains("identity kept: boards ("), "{listed}");
        assert!(out(&world, &["status"]).contains("kept ways 0"));
    });
}

#[test]
fn what_comes_too_late_or_without_a_device_before_it_is_judged_as_what_it_is() {
    on_both(|mut world| {
        let (workshop, mut agent) = with_board(&mut world, &boards("on_identity_change: keep 1s"));
        assert!(trail(&world).is_some());
        world.bed.unplug("1-1");
        world.wait_for_node(&format!("{OWN}/trails/1-1"), None);
        world.bed.plug(&boot_loader(3));
        agent.wait_for_line("a rule keeps it device=1-1", PATIENCE);
        world.settle_by(&workshop, &keyboard("1-3", 4));
        assert!(world.places("1-1").is_empty());
        assert_eq!(trail(&world), None);
    });
}

#[test]
fn a_way_is_kept_over_the_agents_death_and_not_without_its_rule() {
    everywhere(|mut world| {
        let (workshop, mut agent) = with_board(&mut world, &boards(KEEP));
        agent.kill();
        world.bed.unplug("1-1");
        world.bed.plug(&boot_loader(3));
        let mut agent = world.agent(&boards(KEEP));
        world.wait_until_given(&workshop, "1-1");
        agent.kill();
        // Who has followed stays, also for an agent that has never seen the board.
        let mut agent = world.ready_agent(&boards(KEEP));
        world.settle_by(&workshop, &keyboard("1-3", 4));
        world.wait_until_given(&workshop, "1-1");
        world.reload(&mut agent, &boards("wait: {settle: 0ms}"));
        world.wait_until_home("1-1");
        world.wait_for_node(&format!("{OWN}/trails/1-1"), None);
    });
}

#[test]
fn what_is_taken_back_before_it_is_pulled_is_followed_by_nobody() {
    on_both(|mut world| {
        let (workshop, mut agent) = with_board(&mut world, &boards(KEEP));
        assert_eq!(world.verb(&["detach", "1-1"]).status.code(), Some(0));
        world.wait_for_node(&format!("{OWN}/trails/1-1"), None);
        world.bed.unplug("1-1");
        agent.wait_for_line("unplugged device=1-1", PATIENCE);
        world.bed.plug(&boot_loader(3));
        agent.wait_for_line("a rule keeps it device=1-1", PATIENCE);
        world.settle_by(&workshop, &keyboard("1-3", 4));
        assert!(world.places("1-1").is_empty());
    });
}

/// A rule, and another for 1-3. A controller has one port, so that everybody wants the same.
fn one_port(rule: &str) -> String {
    let defaults = "settle: 0ms, flapping: {plugs: 0}, controller: {ports: 1}";
    policy(defaults, &["match: {port: '1-3'}, attach: kiosk", rule])
}

/// kiosk has the device 1-1 in port 1. It is pulled, and desk starts, which stands before kiosk.
fn pulled(world: &mut World, rule: &str) -> (Domain, Domain, Agent) {
    let kiosk = world.domain(5, "kiosk");
    world.bed.plug(&board(2));
    let mut agent = world.agent(&one_port(rule));
    world.wait_until_given(&kiosk, "1-1");
    agent.wait_for_line("attached device=1-1", PATIENCE);
    assert_eq!(world.places("1-1"), [(5, 0, 1)]);
    world.bed.unplug("1-1");
    world.wait_until_forgotten("1-1");
    let desk = world.domain(4, "desk");
    (kiosk, desk, agent)
}

const ADAPTERS: &str = "name: adapters, match: {id: '0403:*'}, attach: [desk, kiosk]";

#[test]
fn a_place_is_held_for_a_device_that_was_pulled_and_given_away_when_it_stays_away() {
    everywhere(|mut world| {
        let rule = format!("{ADAPTERS}, on_unplug: hold 60s");
        let (kiosk, _desk, mut agent) = pulled(&mut world, &rule);
        // Its port is free, and yet another controller is made for another device.
        world.bed.plug(&keyboard("1-3", 3));
        world.wait_until_given(&kiosk, "1-3");
        assert_ne!(world.places("1-3"), [(5, 0, 1)]);
        agent.kill();
        let mut agent = world.agent(&one_port(&rule));
        world.bed.plug(&board(4));
        world.wait_until_given(&kiosk, "1-1");
        assert_eq!(world.places("1-1"), [(5, 0, 1)], "its old port, of its old domain");
        let line = agent.wait_for_line("attached device=1-1", PATIENCE);
        assert!(line.contains("because=\"adapters ("), "{line}");
    });
}

#[test]
fn nothing_is_held_unless_a_rule_says_so_and_not_for_longer() {
    for hold in ["", ", on_unplug: clean", ", on_unplug: hold 500ms"] {
        on_both(|mut world| {
            let (kiosk, desk, mut agent) = pulled(&mut world, &format!("{ADAPTERS}{hold}"));
            world.wait_for_node(&format!("{OWN}/trails/1-1"), None);
            agent.wait_for_line("domain appeared domain=\"desk\"", PATIENCE);
            world.bed.plug(&keyboard("1-3", 3));
            world.wait_until_given(&kiosk, "1-3");
            assert_eq!(world.places("1-3"), [(5, 0, 1)], "{hold}");
            world.bed.plug(&board(4));
            world.wait_until_given(&desk, "1-1");
        });
    }
}

#[test]
fn what_dom0_needs_or_the_policy_protects_follows_nobody() {
    on_both(|mut world| {
        let protected = boards(KEEP).replace("rules:", "protect: [{category: storage}]\nrules:");
        let (workshop, mut agent) = with_board(&mut world, &protected);
        world.bed.unplug("1-1");
        world.bed.plug(&boot_loader(3));
        agent.wait_for_line("it is protected device=1-1", PATIENCE);
        world.settle_by(&workshop, &keyboard("1-3", 4));
        assert!(world.places("1-1").is_empty());
        // It came in time, so it follows as soon as it may.
        world.reload(&mut agent, &boards(KEEP));
        world.wait_until_given(&workshop, "1-1");
    });
}
