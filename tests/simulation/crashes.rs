//! The agent is killed at every single effect that it has on the host, on either side of it, and
//! started again.

use super::worlds::{epoch, read};
use pvusb_agent::sim::{CrashPoint, Setting, Timed, World};

/// What is done, and how many effects the agent has on the way: a new effect must be counted here.
const DEEDS: [(&str, u64, &str); 14] = [
    (
        "attach to a controller that is there (qusb)",
        1,
        "policy: qusb\nusbback: false\ntimeline:\n  - {at: 0s, start: {domain: kiosk}}\n  - {at: 3s, \
         xl-usbctrl-attach: {domain: kiosk}}\n  - {at: 6s, plug: {port: 1-1, id: '05e0:1200'}}\n",
    ),
    (
        "attach with a new controller (qusb)",
        1,
        "policy: qusb\nusbback: false\ntimeline:\n  - {at: 0s, start: {domain: kiosk}}\n  - {at: 6s, \
         plug: {port: 1-1, id: '05e0:1200'}}\n",
    ),
    (
        "attach with a new controller (pv)",
        8,
        "policy: pv\nusbback: true\ntimeline:\n  - {at: 0s, start: {domain: kiosk}}\n  - {at: 6s, \
         plug: {port: 1-1, id: '05e0:1200', interfaces: ['03:00:00', '02:02:01'], drivers: [usbhid, cdc_acm]}}\n",
    ),
    (
        "detach (qusb)",
        3,
        "policy: qusb\nusbback: false\ntimeline:\n  - {at: 0s, start: {domain: kiosk}}\n  - {at: 6s, \
         plug: {port: 1-1, id: '05e0:1200'}}\n  - {at: 60s, reload: nothing}\n",
    ),
    (
        "detach (pv)",
        14,
        "policy: pv\nusbback: true\ntimeline:\n  - {at: 0s, start: {domain: kiosk}}\n  - {at: 6s, \
         plug: {port: 1-1, id: '05e0:1200', interfaces: ['03:00:00', '02:02:01'], drivers: [usbhid, cdc_acm]}}\n  - {at: 60s, reload: \
         nothing}\n",
    ),
    (
        "unplug",
        2,
        "policy: qusb\nusbback: false\ntimeline:\n  - {at: 0s, start: {domain: kiosk}}\n  - {at: 6s, \
         plug: {port: 1-1, id: '05e0:1200'}}\n  - {at: 60s, unplug: 1-1}\n",
    ),
    (
        "attach by hand (qusb)",
        2,
        "policy: nothing\nusbback: false\ntimeline:\n  - {at: 0s, start: {domain: kiosk}}\n  - {at: 3s, \
         plug: {port: 1-1, id: '05e0:1200'}}\n  - {at: 6s, attach: {device: 1-1, domain: kiosk}}\n",
    ),
    (
        "detach by hand (pv)",
        15,
        "policy: pv\nusbback: true\ntimeline:\n  - {at: 0s, start: {domain: kiosk}}\n  - {at: 6s, plug: \
         {port: 1-1, id: '05e0:1200', interfaces: ['03:00:00', '02:02:01'], drivers: [usbhid, cdc_acm]}}\n  - {at: 60s, hold: {device: \
         1-1}}\n",
    ),
    (
        "attach by hand what was taken out with xl, and let it go (qusb)",
        5,
        "policy: qusb\nusbback: false\ntimeline:\n  - {at: 0s, start: {domain: kiosk}}\n  - {at: 6s, plug: \
         {port: 1-1, id: '05e0:1200'}}\n  - {at: 20s, xl-usbdev-detach: 1-1}\n  - {at: 30s, attach: \
         {device: 1-1, domain: kiosk}}\n  - {at: 60s, unplug: 1-1}\n",
    ),
    (
        "attach where usbback refuses, and then elsewhere",
        8,
        "policy: both\npolicies: {both: '{version: 1, rules: [{match: {id: \"*:*\"}, attach: [kiosk, \
         desk]}]}'}\nusbback: true\ntimeline:\n  - {at: 0s, start: {domain: kiosk}}\n  - {at: 0s, start: \
         {domain: desk, type: hvm}}\n  - {at: 6s, plug: {port: 1-1, id: '05e0:1200', refused: true}}\n",
    ),
    (
        "end of a domain",
        2,
        "policy: qusb\nusbback: false\ntimeline:\n  - {at: 0s, start: {domain: kiosk}}\n  - {at: 6s, \
         plug: {port: 1-1, id: '05e0:1200'}}\n  - {at: 60s, destroy: kiosk}\n",
    ),
    (
        "block, and give back",
        9,
        "policy: blocking\nusbback: false\ntimeline:\n  - {at: 0s, plug: {port: 1-1, id: '1111:2222', interfaces: ['03:00:00', '02:02:01'], \
         drivers: [usbhid, cdc_acm]}}\n  - {at: 60s, reload: nothing}\n",
    ),
    (
        "removal of a controller that nobody serves",
        4,
        "policy: qusb\nusbback: false\ntimeline:\n  - {at: 0s, start: {domain: kiosk, device_model: \
         qusb, deaf: true}}\n  - {at: 6s, plug: {port: 1-1, id: '05e0:1200'}}\n",
    ),
    (
        "removal of what a domain left behind",
        3,
        "policy: qusb\nusbback: false\ntimeline:\n  - {at: 0s, start: {domain: kiosk}}\n  - {at: 6s, \
         plug: {port: 1-1, id: '05e0:1200'}}\n  - {at: 60s, kill-agent: 20s}\n  - {at: 61s, unplug: \
         1-1}\n  - {at: 62s, destroy: kiosk}\n",
    ),
];

#[test]
fn every_crash_point_converges() {
    let mut points = 0;
    let mut wrong = Vec::new();
    for (name, expected, text) in DEEDS {
        let scenario = read(name, &format!("version: 1\n{text}"));
        let setting = scenario.setting(None);
        let whole = play(&setting, &scenario.timeline, None);
        assert_eq!(whole.violations, [], "{name}");
        println!("{name}: {} effects, killed at {} points", whole.effects, 2 * whole.effects);
        if whole.effects != expected {
            wrong.push(format!("{name} has {} effects, not {expected}", whole.effects));
        }
        for effect in 1..=whole.effects {
            for made in [false, true] {
                let point = CrashPoint { effect, made };
                let world = play(&setting, &scenario.timeline, Some(point));
                assert_eq!(world.violations, [], "{name}: killed at {point:?}");
                assert!(world.counts.kills > 0, "{name}: {point:?} was not met");
                points += 1;
            }
        }
    }
    println!("{points} crash points in {} deeds", DEEDS.len());
    assert_eq!(wrong, [] as [String; 0]);
}

fn play(setting: &Setting, timeline: &[Timed], crash: Option<CrashPoint>) -> World {
    let mut world = World::new(setting.clone(), epoch());
    if let Some(point) = crash {
        world.crash_at(point);
    }
    for timed in timeline {
        world.play(timed);
    }
    world.come_to_rest();
    if world.violations.is_empty() {
        world.judge();
    }
    world
}
