//! What an agent weighs: its memory when it has nothing to do, and how soon it knows where it stands after its
//! start.
//!
//! The promises are those of the program as it is built for installation; `PVUSB_AGENT_PROGRAM` names it
//! (`.ci/run` does). The program that the tests build has debug code, and is held against more.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use crate::harness::agent::Agent;
use crate::harness::time::{PATIENCE, eventually, timed};
use crate::harness::usb::UsbDevice;
use crate::harness::xenstored::Flavor;
use crate::world::{World, keyboards_to_kiosk};
use std::time::Duration;
use std::{env, fs};

/// The most memory of its own, in KiB: heap and stacks.
const OWN: u64 = 2560;
/// The most with what is in memory of the program's and the libraries' files, which the kernel can drop. When the code
/// has changed so much that this fails, `make order` may help.
const ALL: u64 = 6 * 1024;
/// The longest start. The goal is 100 ms, on a machine that has nothing else to do (docs/benchmarks.md); what
/// is held here also holds on a slow one.
const START: Duration = Duration::from_millis(300);
/// So many times as much may the program of the tests take, on a machine that runs other tests.
const UNBUILT: u32 = 10;

const HUBS: u8 = 5;
const DEVICES: u8 = 9;
const DOMAINS: u32 = 20;

/// Fifty devices, of which no rule wants any, and twenty domains.
fn crowded() -> World {
    let mut world = World::new(Flavor::C);
    for hub in 1..=HUBS {
        let name = format!("1-{hub}");
        world.bed.plug(&UsbDevice::hub(&name, hub * 10));
        for port in 1..=DEVICES {
            let device = format!("{name}.{port}");
            world.bed.plug(&UsbDevice::serial_adapter(&device, hub * 10 + port, &device));
        }
    }
    for domid in 1..=DOMAINS {
        drop(world.domain(domid, &format!("domain-{domid}")));
    }
    world
}

/// What is in memory of each of a process' files, stacks and heaps, in KiB, and how much of that is its own:
/// `/proc/PID/smaps`. The totals of `/proc/PID/status` are not exact (`proc(5)`).
fn memory(agent: &Agent) -> (u64, u64) {
    let maps = fs::read_to_string(format!("/proc/{}/smaps", agent.pid())).unwrap();
    let (mut own, mut all, mut is_ours) = (0, 0, true);
    for line in maps.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["Rss:", size, "kB"] if is_ours => all += size.parse::<u64>().unwrap(),
            ["Anonymous:", size, "kB"] if is_ours => own += size.parse::<u64>().unwrap(),
            // A mapping begins. What makes up the devices is no part of an agent.
            [range, ..] if !range.ends_with(':') => {
                let path = words.last().unwrap();
                is_ours = !["umockdev", "fakekernel"].iter().any(|it| path.contains(it));
            }
            _ => {}
        }
    }
    (own, all)
}

/// The environment that the service's unit gives.
fn of_the_unit() -> Vec<(String, String)> {
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/dist/pvusb-agent.service");
    let unit = fs::read_to_string(unit).unwrap();
    let lines = unit.lines().filter_map(|line| line.strip_prefix("Environment=")?.split_once('='));
    let env: Vec<_> = lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    assert_eq!(env.len(), 2, "{env:?}");
    env
}

/// A line of `/proc/PID/status`.
fn status(agent: &Agent, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let value = status.lines().find_map(|it| it.strip_prefix(line)).unwrap();
    value.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn an_agent_with_fifty_devices_and_twenty_domains_is_light_and_soon_at_work() {
    let world = crowded();
    let policy = keyboards_to_kiosk();
    let is_built = env::var_os("PVUSB_AGENT_PROGRAM").is_some();
    let mut env = of_the_unit();
    env.push(("PVUSB_AGENT_LOG".to_owned(), "info".to_owned()));
    let expected = usize::from(HUBS) * usize::from(DEVICES);
    // The best of a few: what is measured is the program, and not who else wanted the processor.
    let mut starts = Vec::new();
    let mut weight = (0, 0);
    for _ in 0..3 {
        let (agent, took) = timed(|| {
            let agent = world.agent_in(&[], &policy, &[], &env);
            let decided =
                || agent.lines().iter().filter(|it| it.contains("no rule matches")).count();
            assert!(eventually(PATIENCE, || (decided() == expected).then_some(())).is_some());
            agent
        });
        starts.push(took);
        // The threads that have read devices end after ten seconds.
        let is_idle = || (status(&agent, "Threads") == 1).then_some(());
        assert!(eventually(PATIENCE, is_idle).is_some());
        weight = memory(&agent);
    }
    let start = starts.into_iter().min().unwrap();
    let (own, all) = weight;
    println!("idle: {own} KiB of its own, {all} KiB resident; all is decided after {start:.0?}");
    let most = if is_built { 1 } else { UNBUILT };
    assert!(start <= START * most, "{start:?}");
    assert!(own <= OWN * u64::from(most) && all <= ALL * u64::from(most), "{own} KiB, {all} KiB");
}
