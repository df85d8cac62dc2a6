//! What dom0 needs stays in dom0: disks in use, the network, the last keyboard and pointer, and what
//! the policy protects.
//!
//! Mounts and routes are real ones, in namespaces of the agent's own; only the hardware under them is
//! made up.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]
#![expect(clippy::print_stdout, reason = "a test that cannot run here says so")]

use crate::harness::agent::Agent;
use crate::harness::time::{PATIENCE, wait_until};
use crate::harness::usb::UsbDevice;
use crate::harness::xenstored::{Flavor, Op};
use crate::world::{World, everywhere, keyboard, policy, rules};
use std::path::Path;
use std::process::Command;

/// A namespace of its own for mounts.
const OWN_MOUNTS: &[&str] = &["unshare", "--mount", "--propagation", "private"];

/// A namespace of its own for the network.
const OWN_NETWORK: &[&str] = &["unshare", "--net"];

const PROTECTED: &str = "stays in dom0: it is protected";

/// Whether namespaces can be made here.
fn can(starter: &[&str]) -> bool {
    let done = Command::new(starter[0]).args(&starter[1..]).arg("true").output();
    let can = done.is_ok_and(|done| done.status.success());
    if !can {
        println!("skipped: only root can make namespaces");
    }
    can
}

/// Runs a command where the agent is.
#[track_caller]
fn beside(agent: &Agent, namespace: &str, command: &[&str]) {
    let pid = agent.pid().to_string();
    let done =
        Command::new("nsenter").args(["-t", &pid, namespace]).args(command).output().unwrap();
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}

#[track_caller]
fn mount(agent: &Agent, source: &str, at: &Path) {
    beside(agent, "--mount", &["mount", "-t", "tmpfs", source, at.to_str().unwrap()]);
}

/// Starts the agent in such a namespace and waits until it listens.
fn ready(world: &World, namespace: &[&str], policy: &str) -> Agent {
    let mut agent = world.agent_in(namespace, policy, &[], &[]);
    agent.wait_for_line("connected to xenstore", PATIENCE);
    agent
}

fn stick(busid: &str, devnum: u8) -> UsbDevice {
    UsbDevice::storage(busid, devnum, "4C530001")
        .with_disk(("sdb", 8, 16), &[("sdb1", 8, 17), ("sdb2", 8, 18)])
}

/// Everything goes to kiosk.
fn all() -> String {
    rules(&["match: {id: '*:*'}, attach: kiosk"])
}

/// No controller was made for a device that is not attached.
#[track_caller]
fn assert_nothing_was_made(world: &World) {
    assert_eq!(world.taken().len(), 0);
    assert_eq!(world.names("/libxl/4/device/vusb"), [""; 0]);
}

#[test]
fn a_mounted_stick_is_not_attached_until_it_is_unmounted() {
    if !can(OWN_MOUNTS) {
        return;
    }
    everywhere(|mut world| {
        let mut agent = ready(&world, OWN_MOUNTS, &all());
        let at = world.directory("media");
        mount(&agent, "/dev/sdb1", &at);
        world.bed.plug(&stick("1-1", 2));
        let kiosk = world.domain(4, "kiosk");
        let line = agent.wait_for_line(PROTECTED, PATIENCE);
        let cause = format!("/dev/sdb1 is mounted on {}", at.display());
        assert!(line.contains(&cause) && line.contains("device=1-1"), "{line}");
        assert_nothing_was_made(&world);

        beside(&agent, "--mount", &["umount", at.to_str().unwrap()]);
        world.wait_until_given(&kiosk, "1-1");
        // It is in the guest: what is mounted now is another one, and nothing is detached.
        mount(&agent, "/dev/sdb1", &at);
        world.settle_by(&kiosk, &UsbDevice::serial_adapter("1-2", 3, "A1"));
        assert_eq!(world.places("1-1").len(), 1);
    });
}

#[test]
fn what_is_mounted_between_the_decision_and_the_commit_is_not_attached() {
    if !can(OWN_MOUNTS) {
        return;
    }
    for flavor in Flavor::BOTH {
        let mut world = World::new(flavor);
        let _kiosk = world.domain(4, "kiosk");
        let mut agent = ready(&world, OWN_MOUNTS, &all());
        agent.wait_for_line("domain appeared", PATIENCE);
        world.proxy.reset();
        world.proxy.pause();
        world.bed.plug(&stick("1-1", 2));
        wait_until(PATIENCE, "the transaction begins", || {
            world.proxy.count(Op::TRANSACTION_START) > 0
        });
        mount(&agent, "/dev/sdb2", &world.directory("late"));
        world.proxy.resume();
        agent.wait_for_line("device 1-1 is in use: /dev/sdb2 is mounted on", PATIENCE);
        agent.wait_for_line(PROTECTED, PATIENCE);
        assert_nothing_was_made(&world);
    }
}

#[test]
fn a_network_adapter_that_carries_a_route_is_not_attached() {
    if !can(OWN_NETWORK) {
        return;
    }
    let mut world = World::new(Flavor::C);
    let kiosk = world.domain(4, "kiosk");
    let mut agent = ready(&world, OWN_NETWORK, &all());
    // The one interface that is in every namespace.
    let ip = |arguments: &str| {
        let words: Vec<&str> = ["ip"].into_iter().chain(arguments.split(' ')).collect();
        beside(&agent, "--net", &words);
    };
    ip("link set lo up");
    ip("route add 10.0.0.0/8 dev lo");
    world.bed.plug(&UsbDevice::network_adapter("1-1", 2, "lo"));
    agent.wait_for_line("lo carries a route of dom0", PATIENCE);
    assert_nothing_was_made(&world);
    let words = ["ip", "route", "del", "10.0.0.0/8", "dev", "lo"];
    beside(&agent, "--net", &words);
    world.wait_until_given(&kiosk, "1-1");
}

#[test]
fn the_last_keyboard_stays_however_many_leave_at_once() {
    everywhere(|mut world| {
        world.bed.remove_desk();
        // A program's keyboard ends with the program.
        world.bed.add_virtual_input("input9", "ID_INPUT_KEYBOARD");
        let kiosk = world.domain(4, "kiosk");
        world.bed.plug(&keyboard("1-1", 2));
        world.bed.plug(&keyboard("1-2", 3));
        let mut agent = ready(
            &world,
            &[],
            &rules(&[
                "match: {id: '046d:c31c'}, attach: kiosk",
                "match: {id: '0403:6001'}, attach: kiosk",
            ]),
        );
        agent.wait_for_line("it is the last keyboard of dom0", PATIENCE);
        wait_until(PATIENCE, "one of them is attached", || world.taken().len() == 1);
        let given = if world.places("1-1").is_empty() { "1-2" } else { "1-1" };
        world.wait_until_given(&kiosk, given);
        // Another keyboard, which no rule wants: now both may go.
        world.bed.plug(&UsbDevice { vendor: 0x1111, ..keyboard("1-3", 4) });
        for busid in ["1-1", "1-2"] {
            world.wait_until_given(&kiosk, busid);
        }
        // It is the last one itself, but nothing comes back for that.
        world.bed.unplug("1-3");
        world.settle_by(&kiosk, &UsbDevice::serial_adapter("1-4", 5, "A1"));
        assert_eq!(world.taken().len(), 2);
    });
}

#[test]
fn a_keyboard_counts_before_udev_has_looked_at_it_and_a_pointer_does_as_well() {
    let mut world = World::new(Flavor::OCaml);
    let kiosk = world.domain(4, "kiosk");
    let mut agent = ready(&world, &[], &all());
    world.bed.remove_desk();
    world.bed.plug(&keyboard("1-1", 2).without_input());
    agent.wait_for_line("it is the last keyboard of dom0", PATIENCE);
    world.bed.plug(&UsbDevice::mouse("1-2", 3));
    agent.wait_for_line("it is the last pointer of dom0", PATIENCE);
    assert_nothing_was_made(&world);
    // dom0 gets others, which are not on USB.
    world.bed.add_desk();
    world.wait_until_given(&kiosk, "1-1");
    world.wait_until_given(&kiosk, "1-2");
}

#[test]
fn a_policy_can_give_the_last_keyboard_away() {
    let mut world = World::new(Flavor::C);
    world.bed.remove_desk();
    let kiosk = world.domain(4, "kiosk");
    world.bed.plug(&keyboard("1-1", 2));
    world.bed.plug(&UsbDevice::mouse("1-2", 3));
    let rules = ["match: {id: '*:*'}, attach: kiosk"];
    let mut agent = ready(&world, &[], &policy("settle: 0ms, keep_last: [pointer]", &rules));
    world.wait_until_given(&kiosk, "1-1");
    agent.wait_for_line("it is the last pointer of dom0", PATIENCE);
    world.reload(&mut agent, &policy("settle: 0ms, keep_last: []", &rules));
    world.wait_until_given(&kiosk, "1-2");
}

#[test]
fn what_the_policy_protects_stays_and_what_is_attached_is_not_taken_back() {
    let mut world = World::new(Flavor::C);
    let kiosk = world.domain(4, "kiosk");
    world.bed.plug(&keyboard("1-1", 2));
    world.bed.plug(&keyboard("1-2", 3));
    let protect = |entry: &str| {
        format!("{}protect: [{{{entry}}}]\n", rules(&["match: {id: '*:*'}, attach: kiosk"]))
    };
    let mut agent = ready(&world, &[], &protect("port: '1-1', id: '046d:*'"));
    agent.wait_for_line("`protect` lists port: 1-1, id: 046d:*", PATIENCE);
    world.wait_until_given(&kiosk, "1-2");
    assert!(world.is_home("1-1"));
    world.reload(&mut agent, &protect("port: '1-2'"));
    world.wait_until_given(&kiosk, "1-1");
    assert_eq!(world.taken().len(), 2, "what is attached stays attached");
}

#[test]
fn devices_tells_what_dom0_does_with_each_and_why_one_stays() {
    if !can(OWN_MOUNTS) {
        return;
    }
    let world = World::new(Flavor::C);
    world.bed.plug(&stick("1-1", 2));
    world.bed.plug(&keyboard("1-2", 3));
    world.write_policy(&all());
    let at = world.directory("media");
    let script = "mount -t tmpfs /dev/sdb1 \"$1\" && shift && exec \"$@\"";
    let ask = |more: &[&str]| {
        let mut command = Command::new(OWN_MOUNTS[0]);
        command.args(&OWN_MOUNTS[1..]).args(["sh", "-c", script, "sh"]).arg(&at);
        let agent = env!("CARGO_BIN_EXE_pvusb-agent");
        command.args(["env".to_owned()]);
        command.args(world.env().iter().map(|(name, value)| format!("{name}={value}")));
        command.args([agent, "devices", "--policy"]).arg(world.policy_path()).args(more);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let mounted = format!("/dev/sdb1 is mounted on {}", at.display());
    assert!(ask(&[]).contains(&format!("stays in dom0: {mounted}\n")), "{}", ask(&[]));
    let rows: serde_json::Value = serde_json::from_str(&ask(&["--json"])).unwrap();
    let used = serde_json::json!([
        {"use": "mounted", "device": "/dev/sdb1", "at": at.display().to_string()}
    ]);
    assert_eq!((&rows[0]["uses"], &rows[1]["uses"][0]["use"]), (&used, &"keyboard".into()));
    assert_eq!(rows[0]["verdict"], format!("stays in dom0: {mounted}"));
    assert_eq!(rows[1]["verdict"], "attach to kiosk");
}
