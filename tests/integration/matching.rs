//! Matches from outside: what they mean, that the index changes nothing, and that what is explained is
//! what was decided.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use proptest::prelude::*;
use pvusb_agent::model::{
    ControllerKind, Device, Devices, Interface, Note, NoteState, Removable, Speed, UsbRelease,
};
use pvusb_agent::policy::{
    Candidate, Code, Policy, Role, Rule, Source, Verdict, compile, lint_files,
};
use std::collections::BTreeSet;

fn read(text: &str) -> Policy {
    compile(Source { name: "policy.yaml", bytes: text.as_bytes() })
        .unwrap_or_else(|problems| panic!("{problems}\n{text}"))
}

const GROUPS: &str = "devices:\n  scanners: [{id: \"05e0:1200\"}, {serial: S1}]\n  \
    sticks: {category: storage}\n  both: {any: [{device: scanners}, {device: sticks}]}\n";

/// A policy of one rule.
fn rule(matcher: &str) -> Policy {
    read(&format!("version: 1\n{GROUPS}rules:\n- match: {matcher}\n  attach: a\n"))
}

/// Keys with values that meet the devices of [`device`] often.
const LEAVES: [&str; 48] = [
    "id: '05e0:1200'",
    "id: '05e0:*'",
    "id: '*:1200'",
    "id: '*'",
    "id: ['05e0:1200', 'abcd:1200']",
    "id: ['05e0:1200', '*']",
    "port: 1-1",
    "port: 1-1.4",
    "port: 1-1.*",
    "port: [1-1, 1-1.4.*]",
    "port: 'pci-0000:00:14.0-usb-0:1.4'",
    "port: ['pci-0000:00:14.0-usb-0:1.*', 2-1]",
    "bus_address: '1.2'",
    "bus_address: ['1.1', '1.3']",
    "serial: S1",
    "serial: [S1, S2]",
    "serial: 'S*'",
    "serial: ['/1$/', S2]",
    "manufacturer: '?ymbol'",
    "product: '*'",
    "product: '/(?i)SCAN/'",
    "product: '*canne?'",
    "product: ['*Stick*', Scanner]",
    "manufacturer: ['Sym*', '*ther']",
    "serial: 'S???*'",
    "class: '00'",
    "class: ['09', 'ff:*:*']",
    "interface: '03'",
    "interface: {only: ['03', '08:06:50']}",
    "interface: {all: ['03', '08'], none: 'ff'}",
    "interface: {none: '03:01:01'}",
    "category: hub",
    "category: [keyboard, storage]",
    "category: vendor",
    "speed: [low, full]",
    "speed: super",
    "usb_version: ['2.0', '3.*']",
    "removable: [fixed, unknown]",
    "driver: usbhid",
    "driver: ['usb-*', ftdi_sio]",
    "udev: {property: {ID_X: '1'}}",
    "udev: {property: {ID_X: '*'}, tag: seat}",
    "udev: {attribute: {power/control: [auto, 'on']}}",
    "udev: {tag: [seat, other]}",
    "device: scanners",
    "device: [sticks, scanners]",
    "device: both",
    "behind: {category: hub}",
];

/// A match in the braces of YAML, with matches in it.
fn written_match() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(LEAVES.to_vec()).prop_map(str::to_owned);
    let key_of = |text: &str| text.split(':').next().unwrap_or_default().to_owned();
    let condition = leaf.prop_recursive(3, 12, 3, move |inner| {
        let inner = prop::collection::vec(inner, 1..3);
        let one = inner.clone().prop_map(move |all| braced(&all, &key_of));
        let list = prop::collection::vec(one.clone(), 1..3).prop_map(|all| all.join(", "));
        prop_oneof![
            one.clone().prop_map(|one| format!("not: {one}")),
            one.prop_map(|one| format!("behind: {one}")),
            list.clone().prop_map(|list| format!("not: [{list}]")),
            list.clone().prop_map(|list| format!("any: [{list}]")),
            list.prop_map(|list| format!("all: [{list}]")),
        ]
    });
    prop::collection::vec(condition, 1..3).prop_map(move |all| braced(&all, &key_of))
}

/// Conditions as a map: the first of each key.
fn braced(conditions: &[String], key_of: &dyn Fn(&str) -> String) -> String {
    let mut seen = BTreeSet::new();
    let own: Vec<_> =
        conditions.iter().filter(|it| seen.insert(key_of(it))).map(String::as_str).collect();
    format!("{{{}}}", own.join(", "))
}

fn rules() -> impl Strategy<Value = Policy> {
    prop::collection::vec(written_match(), 1..12).prop_map(|matches| {
        let rules: Vec<_> =
            matches.iter().map(|it| format!("- match: {it}\n  attach: a\n")).collect();
        read(&format!("version: 1\n{GROUPS}rules:\n{}", rules.concat()))
    })
}

/// Rules of which many are special cases of others, as a policy's text: each on a line of its own.
fn rules_with_relatives() -> impl Strategy<Value = String> {
    let pick = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..5);
    let picks = prop::collection::vec(pick, 0..6);
    (prop::collection::vec(written_match(), 1..8), picks).prop_map(|(first, picks)| {
        let mut matches = first.clone();
        for (one, other, kind) in picks {
            let (one, other) = (one.get(&first).clone(), other.get(&first).clone());
            matches.push(match kind {
                0 => one,
                1 => format!("{{all: [{one}, {other}]}}"),
                2 => format!("{{any: [{one}, {other}]}}"),
                3 => format!("{{all: [{one}, {{not: {other}}}]}}"),
                _ => format!("{{not: [{one}, {other}]}}"),
            });
        }
        let rules: Vec<_> =
            matches.iter().map(|it| format!("- {{match: {it}, attach: a}}\n")).collect();
        format!("version: 1\n{GROUPS}rules:\n{}", rules.concat())
    })
}

/// A device in this port, of a small world.
fn device(port: &'static str) -> impl Strategy<Value = Device> {
    let id = prop::sample::select(vec!["05e0:1200", "05e0:1300", "abcd:1200", "0000:0000"]);
    let text = |texts: [&'static str; 2]| prop::option::of(prop::sample::select(texts.to_vec()));
    let strings = (text(["S1", "S2"]), text(["Symbol", "Other"]), text(["Scanner", "Stick"]));
    let class = prop::sample::select(vec!["00:00:00", "09:00:01", "ff:00:00"]);
    let interfaces = prop::collection::vec(
        (
            prop::sample::select(vec!["03:01:01", "08:06:50", "ff:ff:ff", "09:00:00"]),
            prop::option::of(prop::sample::select(vec!["usbhid", "usb-storage", "usbfs"])),
        ),
        0..3,
    );
    let small = (
        prop::sample::select(Speed::KNOWN.to_vec()),
        prop::sample::select(Removable::ALL.to_vec()),
        prop::option::of(prop::sample::select(vec![" 2.00", " 3.20", " 1.10"])),
        1_u8..4,
        any::<bool>(),
    );
    let udev = (any::<bool>(), any::<bool>(), text(["auto", "off"]));
    (id, strings, class, interfaces, small, udev).prop_map(
        move |(id, (serial, maker, product), class, interfaces, small, udev)| {
            let (speed, removable, release, number, anchored) = small;
            let triple = |text: &str| {
                let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
                let (class, subclass, protocol) = (byte(0), byte(3), byte(6));
                pvusb_agent::model::ClassTriple { class, subclass, protocol }
            };
            let busid: pvusb_agent::model::BusId = port.parse().unwrap();
            let address = format!("{}.{number}", busid.bus()).parse().unwrap();
            let anchor = format!("pci-0000:00:14.0-usb-0:{}", &port[2..]);
            let mut device = Device {
                class: triple(class),
                speed,
                removable,
                release: release.and_then(UsbRelease::from_sysfs),
                serial: serial.map(Into::into),
                manufacturer: maker.map(Into::into),
                product: product.map(Into::into),
                anchor: anchored.then(|| anchor.parse().unwrap()),
                initialized: Some(1),
                configured: true,
                ..Device::new(busid, address, id.parse().unwrap())
            };
            for (at, (class, driver)) in interfaces.into_iter().enumerate() {
                let driver = driver.map(Into::into);
                let interface = Interface { class: triple(class), driver, authorized: true };
                device.interfaces.insert(format!("{port}:1.{at}").parse().unwrap(), interface);
            }
            let (property, tag, attribute) = udev;
            if property {
                device.udev.properties.insert("ID_X".into(), "1".into());
            }
            if tag {
                device.udev.tags.insert("seat".into());
            }
            if let Some(value) = attribute {
                device.udev.attributes.insert("power/control".into(), value.into());
            }
            device
        },
    )
}

/// What is plugged: hubs, or what else there is, in one another.
fn devices() -> impl Strategy<Value = Devices> {
    let all = (device("1-1"), device("1-1.4"), device("1-1.4.2"), device("2-1"));
    all.prop_map(|(a, b, c, d)| [a, b, c, d].map(|it| (it.busid.clone(), it)).into())
}

/// A verdict holds when its parts do, down to the values.
fn assert_adds_up(verdict: &Verdict) {
    assert_eq!(verdict.holds, verdict.parts.iter().all(|part| part.holds), "{verdict:#?}");
    for part in &verdict.parts {
        let within = || part.within.iter().map(|within| within.verdict.holds);
        match part.key {
            "behind" | "device" | "any" => assert_eq!(part.holds, within().any(|holds| holds)),
            "all" => assert_eq!(part.holds, within().all(|holds| holds)),
            "not" => assert_eq!(part.holds, !within().any(|holds| holds)),
            _ => assert!(part.within.is_empty()),
        }
        part.within.iter().for_each(|within| assert_adds_up(&within.verdict));
    }
}

proptest! {
    #[test]
    fn the_index_decides_as_the_plain_scan_does(policy in rules(), devices in devices()) {
        for device in devices.values() {
            let candidate = Candidate::new(device, &devices, None);
            let found: Vec<_> = policy.matching(&candidate).map(std::ptr::from_ref).collect();
            let scan = policy.rules().iter().filter(|rule| rule.matcher().matches(&candidate));
            prop_assert_eq!(&found, &scan.map(std::ptr::from_ref).collect::<Vec<_>>());
            let judged = policy.judge(&candidate).map(std::ptr::from_ref);
            prop_assert_eq!(judged, found.first().copied());
        }
    }

    #[test]
    fn what_is_explained_is_what_was_decided(policy in rules(), devices in devices()) {
        for device in devices.values() {
            let candidate = Candidate::new(device, &devices, None);
            for rule in policy.rules() {
                let verdict = rule.matcher().examine(&candidate);
                prop_assert_eq!(verdict.holds, rule.matcher().matches(&candidate));
                assert_adds_up(&verdict);
            }
        }
    }

    #[test]
    fn a_rule_that_is_said_to_be_shadowed_is_never_reached(
        text in rules_with_relatives(), worlds in prop::collection::vec(devices(), 8)
    ) {
        let source = Source { name: "policy.yaml", bytes: text.as_bytes() };
        let linted = lint_files(&[(Role::Main, source)]).unwrap();
        let policy = linted.policy;
        let line_of = |rule: &Rule| rule.location().position().line;
        for warning in linted.warnings.iter().flatten() {
            let line = warning.start().unwrap().line;
            let Some(rule) = policy.rules().iter().find(|it| line_of(it) == line) else { continue };
            for devices in &worlds {
                for device in devices.values() {
                    let candidate = Candidate::new(device, devices, None);
                    let judged = policy.judge(&candidate).map(std::ptr::from_ref);
                    if warning.code() == Code::NeverAsked {
                        prop_assert!(judged != Some(std::ptr::from_ref(rule)), "{warning}\n{device:?}");
                    }
                    if warning.code() == Code::Impossible {
                        prop_assert!(!rule.matcher().matches(&candidate), "{warning}\n{device:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_match_that_is_shown_is_read_back(policy in rules()) {
        prop_assert_eq!(&read(&policy.to_yaml().unwrap()), &policy);
    }
}

/// A scanner behind a hub, as one is in many offices.
fn office() -> Devices {
    let plain = |port: &str, id: &str| Device {
        initialized: Some(1),
        configured: true,
        ..Device::new(port.parse().unwrap(), "1.5".parse().unwrap(), id.parse().unwrap())
    };
    let triple =
        |class, subclass, protocol| pvusb_agent::model::ClassTriple { class, subclass, protocol };
    let hub = Device { class: triple(9, 0, 1), ..plain("1-1", "17ef:30b4") };
    let interface =
        Interface { class: triple(3, 1, 1), driver: Some("usbhid".into()), authorized: true };
    let mut scanner = Device {
        speed: Speed::Full,
        release: UsbRelease::from_sysfs(" 1.10"),
        manufacturer: Some("Symbol".into()),
        product: Some("Bar Code Scanner".into()),
        interfaces: [("1-1.4:1.0".parse().unwrap(), interface)].into(),
        ..plain("1-1.4", "05e0:1200")
    };
    scanner.udev.properties.insert("ID_SMARTCARD_READER".into(), "1".into());
    [hub, scanner].map(|device| (device.busid.clone(), device)).into()
}

#[test]
fn each_key_means_what_the_reference_says() {
    let devices = office();
    let scanner = &devices[&"1-1.4".parse().unwrap()];
    let candidate = Candidate::new(scanner, &devices, None);
    let cases = [
        // A device that does not say it is never what is asked for, whatever that is.
        ("{serial: '*'}", false),
        ("{not: {serial: '*'}}", true),
        ("{manufacturer: Symbol, product: '*scanner'}", false),
        ("{manufacturer: Symbol, product: '/(?i)scanner$/'}", true),
        ("{usb_version: '1.1'}", true),
        ("{speed: full, removable: unknown}", true),
        ("{interface: {only: '03'}, not: {interface: '08'}}", true),
        ("{interface: {all: ['03', '08']}}", false),
        ("{category: [storage, keyboard]}", true),
        ("{category: smartcard}", true),
        ("{behind: {id: '17ef:30b4'}}", true),
        ("{behind: {id: '05e0:1200'}}", false),
        ("{behind: {behind: {id: '*'}}}", false),
        ("{behind: {not: {id: '*'}}}", false),
        ("{device: both}", true),
        ("{any: [{id: '1111:2222'}, {driver: usbhid, port: 1-1.*}]}", true),
    ];
    for (matcher, expected) in cases {
        assert_eq!(rule(matcher).judge(&candidate).is_some(), expected, "{matcher}");
    }
}

#[test]
fn a_driver_counts_as_long_as_its_device_is_away() {
    let policy = rule("{driver: usbhid}");
    let mut devices = office();
    let busid = "1-1.4".parse().unwrap();
    let scanner = devices.get_mut(&busid).unwrap();
    let plug = scanner.plug();
    scanner.interfaces.values_mut().for_each(|it| it.driver = Some("usbfs".into()));
    let scanner = &devices[&busid];
    let judged = |drivers, plug| {
        let kind = ControllerKind::Qusb;
        let note = Note { plug, kind, state: NoteState::Returning, drivers };
        policy.judge(&Candidate::new(scanner, &devices, Some(&note))).is_some()
    };
    assert!(judged(Some(["usbhid".into()].into()), plug));
    assert!(!judged(Some(BTreeSet::new()), plug) && !judged(None, plug));
    let other = pvusb_agent::model::Plug { initialized: Some(2), ..plug };
    assert!(!judged(Some(["usbhid".into()].into()), other), "the note is of an earlier plug");
}

#[test]
fn a_verdict_names_what_was_there() {
    let devices = office();
    let scanner = &devices[&"1-1.4".parse().unwrap()];
    let policy = rule("{serial: S1, usb_version: '2.0', behind: {removable: fixed}}");
    let verdict = policy.rules()[0].matcher().examine(&Candidate::new(scanner, &devices, None));
    let told: Vec<_> = verdict
        .parts
        .iter()
        .map(|part| (part.key, part.wanted.as_str(), part.found.as_deref(), part.holds))
        .collect();
    let expected = [
        ("serial", "S1", None, false),
        ("usb_version", "2.0", Some("1.1"), false),
        ("behind", "{removable: fixed}", Some("1-1"), false),
    ];
    assert_eq!(told, expected);
    let within = &verdict.parts[2].within[0];
    assert_eq!(
        (within.of.as_str(), within.verdict.parts[0].found.as_deref()),
        ("1-1", Some("unknown"))
    );
}

#[test]
fn groups_that_multiply_are_refused() {
    let group = |i: usize| {
        format!("  g{i}: [{}]\n", vec![format!("{{device: g{}}}", i - 1); 40].join(", "))
    };
    let groups: String = (1..6).map(group).collect();
    let text = format!("version: 1\ndevices:\n  g0: {{id: '*'}}\n{groups}rules: []\n");
    let problems = compile(Source { name: "p", bytes: text.as_bytes() }).unwrap_err();
    let messages: Vec<_> = problems.iter().map(|it| it.message().to_owned()).collect();
    assert!(messages[0].starts_with("up to here more than 1000000 values"), "{messages:?}");
}
