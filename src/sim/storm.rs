//! The storm: loose contacts that plug and unplug devices a thousand times a second, and devices
//! beside them that must not notice.

use super::generate::compile;
use super::op::{GuestSpec, ModelSpec, Op, PlugSpec, Timed};
use super::random::Random;
use super::world::{Setting, World};
use crate::model::{BusId, ClassTriple, Desk, GuestKind, GuestName, UsbId};
use std::fmt;
use std::time::{Duration, Instant};

/// The ports with loose contacts, and those of the devices beside them.
const LOOSE: [&str; 6] = ["1-1", "1-2.1", "1-2.2", "1-2.3", "1-2.4", "2-1"];
const STEADY: [&str; 4] = ["3-1", "3-2", "3-3", "3-4"];

/// How long a device beside the storm may take into its domain: settling, a port's rest of 2.5 s,
/// and a few rounds.
const DEADLINE: Duration = Duration::from_secs(5);

/// The loose contacts belong to one domain, the devices beside them to another. A device that is pulled
/// between the write of its port and its device model's reading makes that abort, and nobody can help
/// it; so the domain in the storm is started again and again.
const POLICY: (&str, &str) = (
    "storm",
    "version: 1\ndefaults: {controller: {type: qusb}, flapping: {plugs: 0}}\nrules:\n  - match: {id: '0951:*'}\n    \
     attach: kiosk\n  - match: {id: '*:*'}\n    attach: lab\n",
);

/// How long each of them stays, and stays away.
const TURN: Duration = Duration::from_secs(15);

/// What a storm came to.
#[derive(Debug)]
pub struct Storm {
    /// How many plugs and unplugs there were.
    pub events: u64,
    /// How often a device beside the storm was plugged and had to be in its domain.
    pub asked: u64,
    /// The longest that one of them took, as far as looked at in steps of 50 ms.
    pub slowest: Duration,
    /// The most that the state machine remembered, in the first tenth and in all of the rest.
    pub sizes: (usize, usize),
    /// What was wrong.
    pub problems: Vec<String>,
}

impl fmt::Display for Storm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, asked, slowest, sizes: (first, rest), problems } = self;
        writeln!(f, "storm: {events} plugs and unplugs")?;
        writeln!(f, "beside it: {asked} plugs, the slowest was attached after {slowest:?}")?;
        writeln!(f, "remembered: {first} things in the first tenth, {rest} after it, at most")?;
        write!(f, "problems: {problems:?}")
    }
}

/// Lets it storm for so many simulated seconds, with so many plugs and unplugs in each.
pub fn storm(seconds: u64, rate: u64, epoch: Instant) -> Storm {
    let policies = compile(&[POLICY]);
    let desk = Desk { keyboard: true, pointer: true };
    let (usbback, held_back) = (false, false);
    let setting = Setting { policies, usbback, held_back, desk, chance: false, listen: false };
    let mut world = World::new(setting, epoch);
    let mut dice = Random::new(rate);
    let play = |world: &mut World, after: Duration, op: Op| {
        world.play(&Timed { after, dice: 0, op });
    };
    for name in ["kiosk", "lab"] {
        play(&mut world, Duration::ZERO, Op::Start(guest(name)));
    }
    play(&mut world, Duration::from_secs(3), plug("1-2", true));

    let mut storm =
        Storm { events: 0, asked: 0, slowest: Duration::ZERO, sizes: (0, 0), problems: Vec::new() };
    let pause = Duration::from_micros(1_000_000 / rate.max(1));
    let ends = world.time() + Duration::from_secs(seconds);
    let begun = world.time();
    let mut turn = world.time();
    let mut waiting: Vec<(BusId, Duration)> = Vec::new();
    let mut is_in = false;
    let mut look_at = world.time();
    while world.time() < ends && world.violations.is_empty() && storm.problems.is_empty() {
        let port = dice.pick(&LOOSE).copied().unwrap_or("1-1");
        let op = if dice.one_in(2) { plug(port, false) } else { unplug(port) };
        storm.events += 1;
        play(&mut world, pause, op);
        let now = world.time();
        if now >= turn {
            turn = now + TURN;
            is_in = !is_in;
            play(&mut world, Duration::ZERO, Op::Reboot(GuestName::new("lab")));
            for port in STEADY {
                play(
                    &mut world,
                    Duration::ZERO,
                    if is_in { plug(port, false) } else { unplug(port) },
                );
                if let (true, Ok(busid)) = (is_in, port.parse()) {
                    storm.asked += 1;
                    waiting.push((busid, now));
                }
            }
        }
        if now >= look_at {
            look_at = now + Duration::from_millis(50);
            waiting.retain(|(busid, since)| {
                let took = now.saturating_sub(*since);
                if world.whereabouts(busid).is_some() {
                    storm.slowest = storm.slowest.max(took);
                    return false;
                }
                if took > DEADLINE {
                    storm.problems.push(format!("{busid} is not attached after {took:?}"));
                }
                took <= DEADLINE
            });
            let size = world.sizes().unwrap_or(0);
            if now < begun + Duration::from_secs(seconds) / 10 {
                storm.sizes.0 = storm.sizes.0.max(size);
            } else {
                storm.sizes.1 = storm.sizes.1.max(size);
            }
        }
    }
    world.come_to_rest();
    if world.violations.is_empty() {
        world.judge();
    }
    storm.problems.extend(world.violations.iter().map(ToString::to_string));
    storm
}

fn guest(name: &str) -> GuestSpec {
    GuestSpec {
        name: GuestName::new(name),
        uuid: None,
        kind: GuestKind::Pv,
        model: ModelSpec::Qusb,
        frontend: true,
        build: Duration::from_secs(1),
        controllers: Vec::new(),
    }
}

fn plug(port: &str, hub: bool) -> Op {
    let steady = STEADY.contains(&port);
    let Ok(port) = port.parse() else { return Op::LoseEvents };
    let id = UsbId { vendor: if steady { 0x0951 } else { 0x05e0 }, product: 0x1200 };
    let class = if hub { ClassTriple::HUB } else { 3 };
    Op::Plug(PlugSpec::new(port, id, class, vec![Some("usbhid".into())]))
}

fn unplug(port: &str) -> Op {
    port.parse().map_or(Op::LoseEvents, Op::Unplug)
}
