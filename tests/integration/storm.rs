//! Plugs and unplugs without end: the end state is right, memory does not grow, and who has nothing to
//! do with it is served in time.
//!
//! By usbback: a QEMU does not survive a device that is pulled between the write of its port and QEMU's
//! reading of it (docs/protocol.md), which in a storm happens whatever the agent does. Holding devices
//! down and settling are switched off, so that every plug counts.
//!
//! A breeze of a few seconds, because other tests run beside it; a storm for as long as
//! `PVUSB_AGENT_STORM_SECONDS` says. A simulated hour of a tenfold storm is `cargo run --release --example soak -- --storm`.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use crate::harness::agent::Agent;
use crate::harness::time::{PATIENCE, paced, timed, wait_until};
use crate::harness::usb::{UsbBed, UsbDevice};
use crate::harness::xenstored::Flavor;
use crate::world::{World, hurry, keyboard, rules};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{env, fs, thread};

/// Plugs and unplugs a second, in a storm.
const STORM: u32 = 100;
/// The same in a breeze, and how long it lasts, in seconds.
const BREEZE: (u32, u64) = (20, 5);
/// How many ports it rages in: those of one hub.
const PORTS: usize = 8;
/// Within this a device outside of the storm must be where it belongs. Alone it takes some
/// milliseconds; on a machine that is busy with other tests everything takes longer.
const DEADLINE: Duration = Duration::from_secs(5);
/// By how much the agent may grow from the end of the first third on, in KiB: what its allocator
/// does not give back at once.
const GROWTH: u64 = 1024;

#[test]
fn a_storm_of_plugs_leaves_the_right_state_and_flat_memory_and_delays_nobody_else() {
    let seconds = env::var("PVUSB_AGENT_STORM_SECONDS").ok();
    let (rate, seconds) = seconds.map_or(BREEZE, |text| (STORM, text.parse().unwrap()));
    let mut world = World::new(Flavor::OCaml);
    world.load_usbback();
    hurry(&world);
    world.bed.host(2, "0000:00:15.0");
    let (stormy, calm) = (world.domain(5, "stormy"), world.domain(6, "calm"));
    world.bed.plug(&UsbDevice::hub("2-1", 2));
    let agent = world.ready_agent(&rules(&[
        "match: {id: '046d:c31c', port: '2-1.*'}, attach: stormy",
        "match: {id: '046d:c31c', port: '1-1'}, attach: calm",
    ]));

    let over = AtomicBool::new(false);
    let bed = world.bed.clone();
    let ((plugged, lasted), (sizes, served)) = thread::scope(|scope| {
        let storm = scope.spawn(|| {
            let raged = timed(|| rage(&bed, rate, seconds));
            over.store(true, Ordering::Relaxed);
            raged
        });
        let mut sizes = Vec::new();
        let mut served = Vec::new();
        while !over.load(Ordering::Relaxed) {
            // What is plugged into another port goes to another domain, and back.
            let number = 10 + u8::try_from(served.len() % 100).unwrap();
            world.bed.plug(&keyboard("1-1", number));
            let noted = || world.note("1-1").is_some_and(|note| note.starts_with("attached "));
            let ((), took) = timed(|| wait_until(PATIENCE, "1-1 is attached", noted));
            served.push(took);
            world.wait_until_given(&calm, "1-1");
            world.bed.unplug("1-1");
            world.wait_until_forgotten("1-1");
            sizes.push(resident(&agent));
        }
        (storm.join().unwrap(), (sizes, served))
    });

    let worst = served.iter().max().unwrap();
    let (first, last) = (sizes[sizes.len() / 3], *sizes.last().unwrap());
    println!(
        "{} plugs and unplugs in {lasted:.0?}; {} attachments beside it, the slowest in {worst:.0?}; \
         resident memory {first} KiB after a third, {last} KiB at the end",
        u64::from(rate) * seconds,
        served.len()
    );
    for (port, plugged) in (1..).zip(plugged) {
        let busid = format!("2-1.{port}");
        if plugged {
            world.wait_until_given(&stormy, &busid);
        } else {
            world.wait_until_forgotten(&busid);
        }
    }
    assert!(*worst < DEADLINE, "a device outside of the storm waited {worst:?}");
    assert!(last < first + GROWTH, "the agent grew from {first} KiB to {last} KiB: {sizes:?}");
}

/// Plugs what is out and unplugs what is in, in an order that has no pattern. Tells which ports are
/// taken in the end.
fn rage(bed: &UsbBed, rate: u32, seconds: u64) -> [bool; PORTS] {
    let mut plugged = [false; PORTS];
    let mut random = 1_u32;
    paced(rate, Duration::from_secs(seconds), |count| {
        // The constants of Numerical Recipes; the low bits have short periods.
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let port = (random >> 16) as usize % PORTS;
        let busid = format!("2-1.{}", port + 1);
        if plugged[port] {
            bed.unplug(&busid);
        } else {
            bed.plug(&keyboard(&busid, 3 + u8::try_from(count % 120).unwrap()));
        }
        plugged[port] = !plugged[port];
    });
    plugged
}

/// The memory that the process has, in KiB.
fn resident(agent: &Agent) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
