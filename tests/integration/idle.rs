//! An agent that has nothing to do does nothing: no thread of it wakes up, and nothing is sent.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use crate::harness::agent::Agent;
use crate::harness::backend::Controller;
use crate::harness::time::{PATIENCE, eventually, wait_until};
use crate::harness::usb::UsbDevice;
use crate::harness::xenstored::Flavor;
use crate::wire::wait_until_quiet;
use crate::world::{Domain, World};
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// How long it must do nothing.
const SPAN: Duration = Duration::from_secs(4);

/// Each thread of a process with how often it has given up or lost the processor.
fn switches(agent: &Agent) -> BTreeMap<String, Vec<String>> {
    let tasks = fs::read_dir(format!("/proc/{}/task", agent.pid())).unwrap();
    // A thread can end while it is looked at.
    let status = tasks.map_while(Result::ok).filter_map(|task| {
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        let lines = status.lines().filter(|line| line.contains("ctxt_switches"));
        Some((task.file_name().into_string().unwrap(), lines.map(str::to_owned).collect()))
    });
    status.collect()
}

const POLICY: &str = "
version: 1
rules:
  - match: {id: '046d:c31c'}
    attach: kiosk
  - match: {id: '0403:6001'}
    attach: a domain that does not run
";

/// A host with one device attached, one that waits for its domain, and one that no rule wants; and
/// its agent.
fn quiet_world(flavor: Flavor) -> (World, Domain, Agent) {
    let mut world = World::new(flavor);
    let kiosk = world.domain(5, "kiosk");
    world.toolstack.usbctrl_attach(&kiosk.guest, Controller::qusb(0));
    world.bed.plug(&UsbDevice::keyboard("1-1", 6));
    world.bed.plug(&UsbDevice::mouse("1-2", 7));
    world.bed.plug(&UsbDevice::serial_adapter("1-3", 8, "A1"));
    let mut agent = world.agent(POLICY);
    wait_until_quiet(&world, &mut agent);
    agent.wait_for_line("attached", PATIENCE);
    kiosk.wait_until_held("1-1");
    wait_until_quiet_again(&world, &agent);
    (world, kiosk, agent)
}

/// Waits until what the attachment made old has been looked at, and the threads that read devices
/// have ended: they wait for more work for ten seconds.
fn wait_until_quiet_again(world: &World, agent: &Agent) {
    let mut seen = 0;
    wait_until(PATIENCE, "the agent has one thread and asks for nothing", || {
        let before = seen;
        seen = world.proxy.depths().len();
        seen == before && switches(agent).len() == 1
    });
}

#[test]
fn an_idle_agent_does_not_wake_up() {
    let worlds: Vec<_> = std::thread::scope(|scope| {
        let started: Vec<_> =
            Flavor::BOTH.map(|flavor| scope.spawn(move || quiet_world(flavor))).into();
        started.into_iter().map(|world| world.join().unwrap()).collect()
    });
    let look = || -> Vec<_> {
        let each =
            worlds.iter().map(|(world, _, agent)| (switches(agent), world.proxy.depths().len()));
        each.collect()
    };
    let before = look();
    let woken = eventually(SPAN, || Some(look()).filter(|now| *now != before));
    assert_eq!(woken, None, "within {SPAN:?}; before: {before:?}");

    // It is not dead, either, and one that works is seen to.
    for ((world, kiosk, agent), (before, _)) in worlds.into_iter().zip(before) {
        world.bed.unplug("1-1");
        kiosk.wait_until_empty();
        world.wait_for_port(5, 0, 1, "");
        assert_ne!(switches(&agent), before);
    }
}
