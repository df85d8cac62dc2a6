//! Hosts on paper from outside: golden files, properties, and the verbs that read and write them.
//!
//! `tests/paper/reject/*.yaml` with what is said of each in `.stderr`; `SNAPSHOTS=overwrite` writes the
//! expected files anew.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use crate::cli::{assert_golden, code, err, on, out, plug_some, program};
use crate::harness::backend::Controller;
use crate::harness::xenstored::Flavor;
use crate::world::World;
use proptest::prelude::*;
use pvusb_agent::model::{
    BusId, ClassTriple, Device, Interface, InterfaceName, Observed, Removable, Speed, Text,
    UsbRelease, Use,
};
use pvusb_agent::paper::{self, Recording, Sheet};
use pvusb_agent::policy::{Code, MAX_BYTES, Problem, Problems, Source};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn read(text: &str) -> Result<Sheet, Problems> {
    paper::read(Source { name: "host.yaml", bytes: text.as_bytes() })
}

fn codes(problems: &Problems) -> BTreeSet<Code> {
    problems.iter().map(Problem::code).collect()
}

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rejected() -> Vec<PathBuf> {
    let entries = fs::read_dir(top().join("tests/paper/reject")).unwrap();
    let paths: BTreeSet<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.into_iter().filter(|path| path.extension().is_some_and(|it| it == "yaml")).collect()
}

#[test]
fn each_rejected_host_is_answered_as_it_stands_in_its_file() {
    let mut seen = BTreeSet::new();
    for path in rejected() {
        let (name, bytes) = (path.file_name().unwrap().to_str().unwrap(), fs::read(&path).unwrap());
        let problems = paper::read(Source { name, bytes: &bytes }).expect_err(name);
        seen.extend(codes(&problems));
        let assert = snapbox::Assert::new().action_env(snapbox::assert::DEFAULT_ACTION_ENV);
        let expected = path.with_extension("stderr");
        assert.eq(problems.render(false), snapbox::Data::read_from(&expected, None).raw());
    }
    // What a test expects and is not so has an example in tests/fixtures/cli/test.txt.
    let own = [Code::BadFact, Code::UnknownName, Code::SamePlace, Code::BadExpectation];
    let unseen: Vec<_> = own.iter().filter(|code| !seen.contains(code)).collect();
    assert!(unseen.is_empty(), "no example of {unseen:?}");
}

#[test]
fn what_is_not_said_is_usual() {
    let sheet =
        read("{version: 1, devices: {a: {id: '05e0:1200'}, b: {id: '05e0:1200'}}}").unwrap();
    let host = sheet.host();
    let places = host.devices.iter().map(|it| (it.device.busid.to_string(), it.device.is_ready()));
    assert_eq!(places.collect::<Vec<_>>(), [("0-1".to_owned(), true), ("0-2".to_owned(), true)]);
    assert!(host.desk.keyboard && host.desk.pointer && !host.usbback && host.guests.is_empty());
    let one = read("{version: 1, domains: [kiosk]}").unwrap();
    let same = read("{version: 1, domains: {kiosk: }}").unwrap();
    assert_eq!(one.host(), same.host());
}

/// Typing traps: what YAML takes for numbers, dates and truths elsewhere.
#[test]
fn a_value_is_the_text_that_was_written() {
    let text = "version: 1\ndevices:\n  1.10: {id: 0951:1666, port: 1-1, bus_address: 1.10, \
                serial: 0951, product: 1e10, manufacturer: yes, drivers: null, interfaces: 03:01:01}\n";
    let sheet = read(text).unwrap();
    let [written] = &sheet.host().devices[..] else { panic!("{sheet:?}") };
    let device = &written.device;
    assert_eq!((&*written.name, device.address.to_string().as_str()), ("1.10", "1.10"));
    let texts = [&device.serial, &device.product, &device.manufacturer];
    assert_eq!(texts.map(|it| it.as_ref().unwrap().as_str()), ["0951", "1e10", "yes"]);
    assert_eq!(device.bound_to("null").count(), 1);
}

#[test]
fn a_hostile_text_is_refused() {
    let each: Vec<_> = (0..200).map(|i| format!("  d{i}: {{id: '05e0:1200'}}\n")).collect();
    let many = format!("version: 1\ndevices:\n{}", each.concat());
    assert!(codes(&read(&many).unwrap_err()).contains(&Code::TooMany));
    assert!(codes(&read(&"[".repeat(100_000)).unwrap_err()).contains(&Code::Syntax));
    assert!(codes(&read(&" ".repeat(MAX_BYTES + 1)).unwrap_err()).contains(&Code::TooLong));
}

fn text() -> impl Strategy<Value = Option<Text>> {
    prop::option::of(prop_oneof!["[ -~]{0,12}", "\\PC{0,6}", "[0-9._eExo+-]{1,6}"])
        .prop_map(|it| it.map(|text| Text::from(text.as_str())))
}

fn device(busid: &'static str) -> impl Strategy<Value = Device> {
    let class = (0_u8..4, 0_u8..2, 0_u8..3).prop_map(|(class, subclass, protocol)| ClassTriple {
        class,
        subclass,
        protocol,
    });
    let speed = prop::sample::select([&Speed::KNOWN[..], &[Speed::Unknown]].concat());
    let uses = vec![
        Use::Keyboard,
        Use::Mounted { device: "/dev/sdb1".into(), at: "/a: b".into() },
        Use::Held { device: "/dev/sdb1".into(), holder: "dm-0".into() },
        Use::Route { interface: "eth1".into() },
    ];
    let interfaces = prop::collection::vec(class.clone(), 0..4);
    (
        (text(), text(), text(), class, speed, interfaces),
        prop::sample::subsequence(uses, 0..4),
        prop::option::of((0_u8..4, 0_u8..100)),
        prop::sample::select(Removable::ALL.to_vec()),
        prop::collection::btree_map("[A-Z_]{1,8}", text(), 0..3),
    )
        .prop_map(move |(own, uses, release, removable, properties)| {
            let (manufacturer, product, serial, class, speed, interfaces) = own;
            let (port, id) = (busid.parse().unwrap(), "05e0:1200".parse().unwrap());
            let mut device = Device::new(port, "1.10".parse().unwrap(), id);
            device.udev.properties = properties
                .into_iter()
                .filter_map(|(name, value)| Some((name.as_str().into(), value?)))
                .collect();
            let named = interfaces.into_iter().enumerate().map(|(number, class)| {
                let name: InterfaceName = format!("{busid}:1.{number}").parse().unwrap();
                (name, Interface { class, driver: Some("usbhid".into()), authorized: true })
            });
            Device {
                manufacturer,
                product,
                serial,
                class,
                speed,
                removable,
                uses: uses.into_iter().collect(),
                release: release.map(|(major, minor)| UsbRelease { major, minor }),
                initialized: Some(1),
                configured: true,
                interfaces: named.collect(),
                ..device
            }
        })
}

fn recorded(observed: &Observed) -> String {
    let devices: BTreeSet<BusId> = observed.devices.keys().cloned().collect();
    let recording =
        Recording { observed, devices: &devices, udev: None, domains: true, anonymous: false };
    paper::write(&recording).unwrap()
}

proptest! {
    #[test]
    fn what_is_recorded_is_read_back(device in device("1-4")) {
        let devices = BTreeMap::from([(device.busid.clone(), device.clone())]);
        let text = recorded(&Observed { devices, ..Observed::default() });
        let sheet = read(&text).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
        let [written] = &sheet.host().devices[..] else { panic!("{text}") };
        prop_assert_eq!(&written.device, &device, "{}", text);
    }
}

#[test]
fn a_recording_by_umockdev_becomes_one_of_ours() {
    let path = top().join("tests/fixtures/paper/keyboard.umockdev");
    let path = path.to_str().unwrap();
    let output = run_in(top(), &["record", "--host", path, "1-1.4"]);
    assert_eq!((code(&output), err(&output)), (0, ""));
    assert_golden(out(&output), "record-umockdev.txt");
    let all = run_in(top(), &["record", "--host", path, "--udev"]);
    assert!(out(&all).contains("bMaxPower: 90mA"), "{}", out(&all));
}

#[test]
fn what_is_written_is_recorded_by_the_name_that_it_has_there() {
    let dir = tempfile::tempdir().unwrap();
    let text = "version: 1\ndevices:\n  scanner: {port: 1-1, id: \"05e0:1200\"}\n  \
                printer: {port: 1-2, id: \"04b8:0202\"}\n";
    fs::write(dir.path().join("host.yaml"), text).unwrap();
    let one = run_in(dir.path(), &["record", "--host", "host.yaml", "scanner"]);
    assert_eq!((code(&one), err(&one)), (0, ""));
    let sheet = read(out(&one)).unwrap();
    assert_eq!(sheet.host().devices.len(), 1, "{}", out(&one));
    let none = run_in(dir.path(), &["record", "--host", "host.yaml", "scaner"]);
    let told = "pvusb-agent: there is no device scaner in host.yaml\n";
    assert_eq!((code(&none), err(&none)), (1, told));
    let bad = run_in(dir.path(), &["record", "scanner"]);
    assert_eq!(code(&bad), 64, "{}", err(&bad));
}

/// A directory with a policy and tests of it beside it.
fn repository(policy: &str, tests: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("policy.yaml"), policy).unwrap();
    fs::create_dir(dir.path().join("tests")).unwrap();
    for (name, text) in tests {
        fs::write(dir.path().join("tests").join(name), text).unwrap();
    }
    dir
}

const POLICY: &str = "
version: 1
rules:
  - name: front desk scanner
    match: {id: '05e0:1200'}
    attach: kiosk
  - name: sticks
    match: {category: storage}
    attach: {domain: kiosk, controller: {index: 2}}
";

const TESTS: &str = "
version: 1
devices:
  scanner: {id: '05e0:1200', interfaces: '03:01:01', drivers: usbhid}
  stick: {id: '0781:5581', port: 1-2, interfaces: '08:06:50', drivers: usb-storage}
  hub: {id: '05e3:0608', class: '09:00:01', interfaces: '09:00:00'}
domains:
  kiosk: {controllers: [{ports: 2, in_use: 1}]}
  desk:
tests:
  - name: a device goes where its rule says
    expect:
      scanner: {attach: kiosk, rule: front desk scanner, port: 2}
      hub: {guard: hub}
  - name: it waits for its domain
    domains: [desk]
    expect: {scanner: {waits: true}}
  - name: a person goes before the rules
    orders: {scanner: {attach: desk}, stick: hold}
    expect: {scanner: desk, stick: {keep: dom0}}
  - name: what cannot be is said
    plugged: [stick]
    domains: [kiosk]
    expect: {stick: dom0}
  - name: the wrong rule
    plugged: [scanner, hub]
    expect: {scanner: {attach: kiosk, rule: sticks}, hub: {nothing: true}}
";

fn run_in(dir: &Path, args: &[&str]) -> std::process::Output {
    let nowhere = ("XENSTORED_PATH", "/nonexistent/socket");
    program(args).current_dir(dir).env(nowhere.0, nowhere.1).output().unwrap()
}

#[test]
fn a_test_that_fails_shows_the_place_and_why() {
    let dir = repository(POLICY, &[("all.yaml", TESTS)]);
    let output = run_in(dir.path(), &["test", "tests"]);
    assert_eq!((code(&output), err(&output)), (1, ""));
    assert_golden(out(&output), "test.txt");

    let json = run_in(dir.path(), &["test", "--json", "tests/all.yaml"]);
    assert_eq!((code(&json), err(&json)), (1, ""));
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let failed = &json["files"][0]["tests"][4];
    assert_eq!(
        (&json["ok"], &failed["ok"], &failed["line"]),
        (&false.into(), &false.into(), &25.into())
    );
    assert_eq!(failed["failures"][0]["problem"]["code"], "P055");
    assert_eq!(failed["failures"][0]["problem"]["line"], 27);
    assert_eq!(failed["failures"][0]["explanation"]["rules"][0]["rule"], "front desk scanner");
}

#[test]
fn tests_are_chosen_by_file_directory_and_name() {
    let good = TESTS.split("  - name: what cannot be").next().unwrap();
    let dir = repository(POLICY, &[("a.yaml", good), ("b.yaml", TESTS), ("notes.txt", "{")]);
    let said = |args: &[&str]| {
        let output = run_in(dir.path(), &[&["test"], args].concat());
        (code(&output), out(&output).to_owned(), err(&output).to_owned())
    };
    let (status, shown, _) = said(&["tests/a.yaml"]);
    assert_eq!((status, shown.lines().last()), (0, Some("3 tests: 3 passed, 0 failed")));
    assert!(said(&["tests"]).1.ends_with("8 tests: 6 passed, 2 failed\n"));
    assert_eq!(said(&["tests", "--name", "waits for"]).0, 0);
    let list =
        "tests/a.yaml:15: it waits for its domain\ntests/b.yaml:15: it waits for its domain\n";
    assert_eq!(
        said(&["tests", "--name", "waits for", "--list"]),
        (0, list.to_owned(), String::new())
    );

    // A rule that no test is about.
    assert_eq!(said(&["tests/a.yaml", "--every-rule"]).0, 1);
    let untested = said(&["tests/a.yaml", "--every-rule"]).1;
    assert!(untested.ends_with("\nno test of `sticks` (policy.yaml:7)\n"), "{untested}");

    // That nothing was tested is no success.
    for nothing in [&["tests", "--name", "no such"][..], &["/nonexistent/"], &["."]] {
        assert_ne!(said(nothing).0, 0, "{nothing:?}");
    }
    let (status, _, complaint) = said(&["tests", "--name", "no such"]);
    assert_eq!(
        (status, &*complaint),
        (1, "pvusb-agent: there is no test with `no such` in its name; --list shows all\n")
    );
}

/// Who has no tests yet has made no mistake, and is shown how to write one.
#[test]
fn where_there_is_no_test_yet_one_is_shown() {
    let dir = repository(POLICY, &[]);
    let output = run_in(dir.path(), &["test", "tests"]);
    assert_eq!((code(&output), out(&output)), (1, ""));
    assert_golden(err(&output), "test-none.err.txt");
    let json = run_in(dir.path(), &["test", "--json", "tests"]);
    let answer: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((code(&json), &answer["ok"], err(&json)), (1, &false.into(), ""));
    // What is shown is a test.
    let shown = err(&output).split("\n  version").nth(1).unwrap();
    let shown = shown.split("\n`").next().unwrap().replace("\n  ", "\n");
    assert_eq!(read(&format!("version{shown}\n")).unwrap().tests().len(), 1);

    // Without a directory of the installed ones, too.
    if !Path::new("/etc/pvusb-agent/tests").exists() {
        let output = run_in(dir.path(), &["test"]);
        let none =
            "pvusb-agent: there is no test yet in /etc/pvusb-agent/tests\n\nWrite the first one";
        assert_eq!((code(&output), out(&output)), (1, ""));
        assert!(err(&output).starts_with(none), "{}", err(&output));
    }
}

#[test]
fn a_bad_test_or_policy_is_78_and_the_others_are_run() {
    let bad = "version: 1\ntests:\n  - {name: x, expect: {scaner: kiosk}}\n";
    let dir = repository(POLICY, &[("a.yaml", TESTS), ("b.yaml", bad)]);
    let output = run_in(dir.path(), &["test", "tests"]);
    assert_eq!(code(&output), 78);
    assert!(out(&output).ends_with("5 tests: 3 passed, 2 failed\n"), "{}", out(&output));
    assert!(err(&output).contains("tests/b.yaml:3:"), "{}", err(&output));

    fs::write(dir.path().join("new.yaml"), "version: 1\nrulez: []\n").unwrap();
    let output = run_in(dir.path(), &["test", "tests/a.yaml", "--policy", "new.yaml"]);
    assert_eq!((code(&output), out(&output)), (78, ""));
    assert!(err(&output).contains("new.yaml:2:1"), "{}", err(&output));
}

/// Also what stays in dom0 either way: its drivers get it, or nobody does.
#[test]
fn a_diff_tells_what_is_blocked() {
    let rule =
        |action| format!("version: 1\nrules:\n  - {{name: a, match: {{id: '*'}}, {action}}}\n");
    let host = "version: 1\ndevices:\n  plain: {id: '05e0:1200', port: 1-1}\n  mounted: {id: \
                '0951:1666', port: 1-2, uses: mounted}\n";
    let dir = repository(&rule("keep: dom0"), &[("host.yaml", host)]);
    fs::write(dir.path().join("new.yaml"), rule("block: true")).unwrap();
    let diff = ["diff", "new.yaml", "--policy", "policy.yaml", "--host", "tests/host.yaml"];
    let output = run_in(dir.path(), &[&diff[..], &["--exit-code"]].concat());
    assert_eq!((code(&output), err(&output)), (1, ""));
    let expected = "1-1  05e0:1200\n  now:  dom0, a\n  then: blocked, a\n1-2  0951:1666\n  now:  dom0, a\n  \
                    then: dom0, a, but /dev/sdx1 is mounted on /mnt\n";
    assert_eq!(out(&output), expected);
    let json = run_in(dir.path(), &[&diff[..], &["--json"]].concat());
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&json[0]["moves"], &json[0]["after"]["blocked"]), (&true.into(), &true.into()));
    assert_eq!((&json[1]["moves"], &json[1]["after"]["blocked"]), (&false.into(), &false.into()));
}

/// What helps a device out of dom0 is said when somebody wants it out.
#[test]
fn advice_is_for_what_is_wanted_elsewhere() {
    let host = "version: 1\ndevices: {stick: {id: '0951:1666', port: 1-2, uses: mounted}}\ndomains: [kiosk]\n";
    for (action, is_wanted) in
        [("keep: dom0", false), ("attach: kiosk", true), ("block: true", true)]
    {
        let policy = format!("version: 1\nrules: [{{match: {{id: '*'}}, {action}}}]\n");
        let dir = repository(&policy, &[("host.yaml", host)]);
        let explain = ["explain", "stick", "--policy", "policy.yaml", "--host", "tests/host.yaml"];
        let output = run_in(dir.path(), &explain);
        assert!(out(&output).contains("It must stay in dom0: /dev/sdx1 is mounted on /mnt.\n"));
        assert_eq!(out(&output).contains("unmount it"), is_wanted, "{}", out(&output));
    }
}

#[test]
fn explain_of_a_host_on_paper_needs_neither_udev_nor_xenstore() {
    let dir = repository(POLICY, &[("all.yaml", TESTS)]);
    let explain = |args: &[&str]| {
        run_in(dir.path(), &[&["explain", "--host", "tests/all.yaml"], args].concat())
    };
    let policy = ["--policy", "policy.yaml"];
    let output = explain(&[&["scanner"], &policy[..]].concat());
    assert_eq!((code(&output), err(&output)), (0, ""));
    assert_golden(out(&output), "explain-paper.txt");
    for name in ["05e0:1200", "0-1"] {
        assert_eq!(out(&explain(&[&[name], &policy[..]].concat())), out(&output), "{name}");
    }
    for (args, words) in [
        (&["9-9"][..], "there is no such device in tests/all.yaml"),
        (&["printer"], "there is no such device"),
        (&[], "one of scanner, stick, hub"),
    ] {
        let output = explain(&[args, &policy[..]].concat());
        assert_eq!((code(&output), out(&output)), (1, ""), "{args:?}");
        assert!(err(&output).contains(words), "{}", err(&output));
    }
    let new = POLICY.replace("attach: kiosk\n", "attach: desk\n");
    fs::write(dir.path().join("new.yaml"), new).unwrap();
    let diff = ["diff", "new.yaml", "--policy", "policy.yaml", "--host", "tests/all.yaml"];
    let output = run_in(dir.path(), &[&diff[..], &["--exit-code"]].concat());
    assert_eq!((code(&output), err(&output)), (1, ""));
    assert_eq!(
        out(&output),
        "0-1  05e0:1200\n  now:  kiosk, front desk scanner\n  then: desk, front desk scanner\n"
    );
    fs::write(dir.path().join("tests/all.yaml"), "version: 1\ndevicez: {}\n").unwrap();
    assert_eq!(code(&explain(&["scanner"])), 78);
}

/// Keys of several kinds: what a recording leaves out would be asked for.
const MANY_FACTS: &str = "
version: 1
rules:
  - match: {udev: {property: {ID_BUS: nothing, DEVTYPE: '*'}, attribute: {bMaxPower: '*'}}}
    keep: dom0
  - match: {behind: {class: '09'}, driver: usbhid, speed: low}
    keep: dom0
  - match: {serial: A10, manufacturer: FTDI, usb_version: '2.*', removable: removable}
    attach: desk
  - match: {driver: [usbhid, ftdi_sio]}
    attach: kiosk
  - match: {category: storage}
    attach: kiosk
";

#[test]
fn a_recorded_device_is_explained_as_the_live_one_is() {
    let mut world = World::new(Flavor::C);
    let kiosk = world.domain(5, "kiosk");
    world.toolstack.usbctrl_attach(&kiosk.guest, Controller::qusb(0));
    plug_some(&world);
    world.write_policy(MANY_FACTS);
    let (policy, libxl) = (world.policy_path(), world.libxl_dir());
    let paths = ["--policy", policy.to_str().unwrap(), "--libxl-dir", libxl.to_str().unwrap()];

    let output = on(&world, &[&["record", "--domains"], &paths[..]].concat());
    assert_eq!((code(&output), err(&output)), (0, ""));
    // Domains get another one in each run of the test.
    let lines = out(&output).lines().filter(|line| !line.contains("uuid: "));
    assert_golden(&(lines.collect::<Vec<_>>().join("\n") + "\n"), "record.txt");
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("host.yaml"), out(&output)).unwrap();
    for device in ["1-1", "1-1.4", "1-2", "1-3", "1-4"] {
        let live = on(&world, &[&["explain", device], &paths[..]].concat());
        let args = ["explain", device, "--host", "host.yaml", "--policy", policy.to_str().unwrap()];
        let paper = run_in(dir.path(), &args);
        assert_eq!((code(&paper), err(&paper)), (0, ""), "{device}");
        assert_eq!(out(&paper), out(&live), "{device}");
    }

    // What a device is like in a domain is written as it is in dom0.
    let agent = world.agent(MANY_FACTS);
    world.wait_until_given(&kiosk, "1-3");
    world.wait_until_given(&kiosk, "1-4");
    drop(agent);
    let away = on(&world, &[&["record", "1-1.4", "1-3"], &paths[..]].concat());
    let sheet = read(out(&away)).unwrap();
    let names: Vec<_> = sheet.host().devices.iter().map(|it| &*it.name).collect();
    assert_eq!(names, ["1-1", "1-1.4", "1-3"], "with the hub above");
    assert_eq!(sheet.host().devices[2].device.bound_to("ftdi_sio").count(), 1);

    // With its domains it can stand in a rehearsal: there they start with their controllers, and nothing in
    // them.
    let host = on(&world, &[&["record", "--domains"], &paths[..]].concat());
    assert!(out(&host).contains("in_use:"), "{}", out(&host));
    let day = "timeline:\n  - {at: 0s, start: kiosk}\n  - {at: 5s, plug: 1-3}\n  \
               - {at: 30s, expect: {device: 1-3, in: kiosk}}\n";
    fs::write(dir.path().join("day.yaml"), format!("{}{day}", out(&host))).unwrap();
    let played =
        run_in(dir.path(), &["rehearse", "--policy", policy.to_str().unwrap(), "day.yaml"]);
    assert_eq!((code(&played), err(&played)), (0, ""), "{}", out(&played));
    let story = out(&played);
    assert!(story.contains("domain kiosk (1) has controller 0 by its configuration"), "{story}");
    assert!(!story.contains("controller created"), "{story}");

    let hidden = on(&world, &[&["record", "--anonymous", "--udev"], &paths[..]].concat());
    assert!(out(&hidden).contains("serial: serial-1"), "{}", out(&hidden));
    assert!(!out(&hidden).contains("4C530001"), "{}", out(&hidden));
    let nothing = on(&world, &["record", "1-9"]);
    assert_eq!((code(&nothing), out(&nothing)), (1, ""));
}

/// Each fragment says in a file of tests what it does, and does it.
#[test]
fn every_file_of_rules_has_tests_that_pass() {
    let output = run_in(top(), &["test", "--every-rule", "rules/tests"]);
    assert_eq!((code(&output), err(&output)), (0, ""), "{}", out(&output));
    let names = |folder: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(top().join(folder)).unwrap().map(|entry| entry.unwrap().path());
        let files = entries.filter(|path| path.is_file());
        files.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("rules"), names("rules/tests"));
    let mentions = names("rules").into_iter().filter(|name| !out(&output).contains(name.as_str()));
    assert_eq!(mentions.count(), 0);
}

/// The two files of the example in docs/policy.md, as they stand there.
#[test]
fn the_example_of_the_documents_is_as_it_says() {
    let text = fs::read_to_string(top().join("docs/policy.md")).unwrap();
    let block = |first: &str| {
        let start = text.find(&format!("```yaml\n{first}\n")).unwrap_or_else(|| panic!("{first}"));
        let block = &text[start + "```yaml\n".len()..];
        block.split("```").next().unwrap().to_owned()
    };
    let dir =
        repository(&block("# policy.yaml"), &[("office.yaml", &block("# tests/office.yaml"))]);
    let output = run_in(dir.path(), &["test", "tests"]);
    assert_eq!((code(&output), err(&output)), (0, ""), "{}", out(&output));
    let shown = text.split("$ pvusb-agent test tests\n").nth(1).unwrap();
    assert!(shown.starts_with(out(&output)), "{}", out(&output));
}
