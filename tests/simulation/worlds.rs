//! Whole worlds: of seeds, of what was found before, and under a storm.

use pvusb_agent::plan::Standing;
use pvusb_agent::policy::Source;
use pvusb_agent::reconcile::Event;
use pvusb_agent::sim::{self, Counts, Scenario, Setting, Told, World};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

#[expect(clippy::disallowed_methods, reason = "worlds need some instant to begin with")]
pub(crate) fn epoch() -> Instant {
    Instant::now()
}

pub(crate) fn read(name: &str, text: &str) -> Scenario {
    let source = Source { name, bytes: text.as_bytes() };
    sim::read(source).unwrap_or_else(|problems| panic!("{}", problems.render(false)))
}

#[test]
fn whatever_happens_every_device_ends_where_it_should_be() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    let seeds = number("PVUSB_AGENT_SEEDS");
    let shrinks = number("PVUSB_AGENT_SHRINKS").unwrap_or(1000);
    let mut counts = Counts::default();
    for seed in 0..u64::from(seeds.unwrap_or(if cfg!(debug_assertions) { 150 } else { 3000 })) {
        let (setting, ops) = (sim::setting(seed), sim::ops(seed, 100));
        let world = sim::play(&setting, &ops, epoch());
        counts.add(&world.counts);
        if let Some(violation) = world.violations.first() {
            let short = sim::shrink(&setting, &ops, epoch(), shrinks);
            let text = sim::write(&setting, &short);
            panic!("seed {seed}: {violation}\nas short as can be:\n{text}");
        }
    }
    println!("{counts}");
    assert!(counts.attached * 10 > counts.judged, "devices hardly ever get anywhere");
    let excused: u64 = counts.excused.values().sum();
    assert!(excused * 8 < counts.judged, "too much is excused: {:?}", counts.excused);
}

#[test]
fn what_was_found_once_is_not_found_again() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/simulation/regressions");
    let mut played = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.display().to_string();
        let scenario = read(&name, &fs::read_to_string(&path).unwrap());
        meets_its_expectations(&name, &scenario);
        played += 1;
    }
    assert!(played > 0);
}

#[test]
fn one_seed_gives_one_world() {
    let run = |seed| {
        let world = sim::play(&sim::setting(seed), &sim::ops(seed, 200), epoch());
        (world.counts.clone(), world.effects, world.time())
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1).1, run(2).1);
}

#[test]
fn what_is_written_is_read_as_it_was() {
    for seed in 0..50 {
        let ops = sim::ops(seed, 100);
        let setting = sim::setting(seed);
        let scenario = read("written.yaml", &sim::write(&setting, &ops));
        assert_eq!(scenario.timeline, ops);
        let again = scenario.setting(None);
        let [then, now] = [&setting, &again].map(|s| (s.usbback, s.held_back, s.desk, s.chance));
        assert_eq!(now, then);
        assert_eq!(again.policies[0].0, setting.policies[0].0);
    }
}

#[test]
fn a_device_that_hangs_delays_no_other() {
    let text = "version: 1\npolicy: qusb\ntimeline:\n  - {at: 0s, start: {domain: kiosk}}\n  - {at: \
                3s, plug: {port: 1-1, id: '05e0:1200'}}\n  - {at: 3s, hang: {device: 1-1, for: \
                10m}}\n  - {at: 3s, plug: {port: 1-2, id: '05e0:1200'}}\n  - {at: 5s, expect: \
                {device: 1-2, in: kiosk}}\n  - {at: 5s, expect: {device: 1-1, in: dom0}}\n  - {at: \
                6s, start: {domain: desk, device_model: qusb, deaf: true}}\n  - {at: 6s, pause: desk}\n  - {at: \
                7s, plug: {port: 1-3, id: '05e0:1200'}}\n  - {at: 11s, expect: {device: 1-3, in: \
                kiosk}}\n  - {at: 12m, expect: {device: 1-1, in: kiosk}}\n";
    meets_its_expectations("hang", &read("hang", text));
}

/// What hangs is told of once, and not asked for again and again; when it ends, all is well.
#[test]
fn a_step_that_hangs_is_told_of_once() {
    let text = "version: 1\npolicy: qusb\ntimeline:\n  - {at: 0s, start: {domain: \
                kiosk}}\n  - {at: 3s, plug: {port: 1-1, id: '05e0:1200'}}\n  - {at: 3200ms, hang: \
                {device: 1-1, for: 10m}}\n  - {at: 12m, expect: {device: 1-1, in: kiosk}}\n";
    let said = what_is_said("1-1", &read("hanging", text));
    let hanging = |standing: &&Standing| matches!(standing, Standing::Hanging(_));
    assert_eq!(said.iter().filter(hanging).count(), 1, "{said:?}");
    assert!(matches!(said.last(), Some(Standing::Attached { .. })), "{said:?}");
}

/// At its start the agent lets free ports rest. A device that is too fast for them needs a controller of
/// its own, and waits for a number that has rested instead of asking for a larger one.
#[test]
fn a_fast_device_waits_for_a_number_to_rest_and_gets_no_larger_controller() {
    let text = "version: 1\npolicy: qusb\ntimeline:\n  - {at: 0s, start: {domain: kiosk}}\n  - {at: 3s, \
                xl-usbctrl-attach: {domain: kiosk, version: 1, ports: 8}}\n  - {at: 10s, kill-agent: \
                1s}\n  - {at: 11200ms, plug: {port: 1-1, id: '05e0:1200', speed: high}}\n";
    let scenario = read("fast", text);
    let mut world = World::new(scenario.setting(None), epoch());
    for timed in &scenario.timeline {
        world.play(timed);
    }
    world.come_to_rest();
    assert_eq!(world.violations, []);
    let (_, place) = world.whereabouts(&"1-1".parse().unwrap()).unwrap();
    assert_eq!((place.controller.get(), place.port.get()), (1, 1));
    assert!(world.time() < Duration::from_secs(20), "{:?}", world.time());
}

/// A device with a loose plug: it is attached once it has stayed plugged for half a minute.
#[test]
fn a_device_that_flaps_is_held_down_until_it_stays() {
    let mut text = String::from(
        "version: 1\npolicies: {loose: '{version: 1, rules: [{match: {id: \"*:*\"}, attach: \
         kiosk}]}'}\ntimeline:\n  - {at: 0s, start: {domain: kiosk}}\n",
    );
    for turn in 0..11 {
        let (plug, unplug) = (5000 + 60 * turn, 5050 + 60 * turn);
        let _ = writeln!(text, "  - {{at: {plug}ms, plug: {{port: 1-1, id: '05e0:1200'}}}}");
        if turn < 10 {
            let _ = writeln!(text, "  - {{at: {unplug}ms, unplug: 1-1}}");
        }
    }
    text += "  - {at: 35s, expect: {device: 1-1, in: dom0}}\n  - {at: 40s, expect: {device: 1-1, \
             in: kiosk}}\n";
    let said = what_is_said("1-1", &read("flapping", &text));
    let held = |standing: &Standing| matches!(standing, Standing::HeldDown { plugs: 11, .. });
    assert!(said.iter().any(held), "{said:?}");
}

/// Plays a scenario and gives what the agent has said of a device.
fn what_is_said(device: &str, scenario: &Scenario) -> Vec<Standing> {
    let setting = Setting { listen: true, ..scenario.setting(None) };
    let world = sim::play(&setting, &scenario.timeline, epoch());
    assert_eq!(world.violations, []);
    let mut said = Vec::new();
    for told in world.told {
        match told {
            Told::Said(_, Event::Standing(busid, standing)) if busid.to_string() == device => {
                said.push(standing);
            }
            Told::Expected(_, verdict) => assert_eq!(verdict.err(), None, "{said:?}"),
            Told::Said(..) | Told::Happened(..) => {}
        }
    }
    said
}

fn meets_its_expectations(name: &str, scenario: &Scenario) {
    let world = sim::play(&scenario.setting(None), &scenario.timeline, epoch());
    assert_eq!(world.violations, [], "{name}");
    let told = world.told.iter();
    let unmet: Vec<_> = told.filter(|told| matches!(told, Told::Expected(_, Err(_)))).collect();
    assert!(unmet.is_empty(), "{name}: {unmet:?}");
}

#[test]
fn a_storm_moves_nobody_beside_it_and_leaves_nothing_behind() {
    let storm = sim::storm(60, 200, epoch());
    println!("{storm}");
    assert_eq!(storm.problems, [] as [String; 0]);
    assert!(storm.slowest < Duration::from_secs(5) && storm.asked >= 8);
    let (first, rest) = storm.sizes;
    assert!(rest <= first + first / 2, "what it remembers grows: {first}, then {rest}");
}
