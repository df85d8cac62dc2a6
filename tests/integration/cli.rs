//! The verbs that answer and end, as a person and a script meet them: text, JSON, exit codes.
//!
//! What stands in `tests/fixtures/cli` is what they print; `SNAPSHOTS=overwrite` writes it anew.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use crate::harness::backend::Controller;
use crate::harness::time::PATIENCE;
use crate::harness::usb::UsbDevice;
use crate::harness::xenstored::Flavor;
use crate::world::World;
use std::fs::{self, File};
use std::io::{Write, pipe};
use std::path::Path;
use std::process::{Command, Output, Stdio};

const POLICY: &str = "
version: 1
rules:
  - name: memory sticks
    match: {id: '0781:*'}
    attach: [desk, kiosk]
  - name: the operator's own keyboard
    match: {port: '1-1.4'}
    keep: dom0
  - match: {bus_address: '1.9'}
    attach: kiosk
";

/// The program, with nothing of the caller's terminal.
fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pvusb-agent"));
    command.args(args).env_remove("COLUMNS").env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// The program on a host.
fn on(world: &World, args: &[&str]) -> Output {
    program(args).envs(world.env()).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn err(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[track_caller]
fn assert_golden(actual: &str, name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cli").join(name);
    let assert = snapbox::Assert::new().action_env(snapbox::assert::DEFAULT_ACTION_ENV);
    assert.eq(actual.to_owned(), snapbox::Data::read_from(&path, None).raw());
}

/// A bus with a keyboard behind a hub, a memory stick, and two devices of the same make.
fn plug_some(world: &World) {
    world.bed.plug(&UsbDevice::hub("1-1", 2));
    world.bed.plug(&UsbDevice::keyboard("1-1.4", 6));
    world.bed.plug(&UsbDevice::storage("1-2", 7, "4C530001"));
    world.bed.plug(&UsbDevice::serial_adapter("1-3", 8, "A10"));
    world.bed.plug(&UsbDevice::serial_adapter("1-4", 9, "A11"));
}

#[test]
fn each_verb_explains_itself() {
    for (args, name) in [
        (&["--help"][..], "help.txt"),
        (&["run", "--help"], "help-run.txt"),
        (&["check", "--help"], "help-check.txt"),
        (&["devices", "--help"], "help-devices.txt"),
        (&["list", "--help"], "help-list.txt"),
        (&["attach", "--help"], "help-attach.txt"),
        (&["detach", "--help"], "help-detach.txt"),
        (&["hold", "--help"], "help-hold.txt"),
        (&["release", "--help"], "help-release.txt"),
        (&["reload", "--help"], "help-reload.txt"),
        (&["status", "--help"], "help-status.txt"),
        (&["doctor", "--help"], "help-doctor.txt"),
    ] {
        let output = program(args).output().unwrap();
        assert_eq!((code(&output), err(&output)), (0, ""), "{args:?}");
        assert_golden(out(&output), name);
    }
    let version = program(&["--version"]).output().unwrap();
    assert_eq!(out(&version), concat!("pvusb-agent ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn wrong_usage_is_64_and_says_so_where_answers_do_not_go() {
    for args in [
        &[][..],
        &["nonsense"],
        &["devices", "--nonsense"],
        &["list", "too much"],
        &["check", "--json", "--show", "x"],
        &["run", "--policy"],
    ] {
        let output = program(args).output().unwrap();
        assert_eq!((code(&output), out(&output)), (64, ""), "{args:?}");
        assert!(err(&output).contains("--help"), "{args:?}: {}", err(&output));
    }
}

#[test]
fn devices_says_what_is_plugged_and_which_rule_takes_it() {
    let world = World::new(Flavor::C);
    plug_some(&world);
    world.bed.add_without_udev(&UsbDevice::mouse("1-5", 10));
    world.write_policy(POLICY);
    let policy = world.policy_path();
    let policy = policy.to_str().unwrap();

    let output = on(&world, &["devices", "--policy", policy]);
    assert_eq!((code(&output), err(&output)), (0, ""));
    assert_golden(out(&output), "devices.txt");

    let output = on(&world, &["devices", "--json", "--policy", policy]);
    assert_eq!((code(&output), err(&output)), (0, ""));
    assert_golden(out(&output), "devices.json");
    let devices: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let ready = |busid: &str| {
        let mut devices = devices.as_array().unwrap().iter();
        devices.find(|device| device["busid"] == busid).unwrap()["ready"].clone()
    };
    assert_eq!((ready("1-2"), ready("1-5")), (true.into(), false.into()));
}

#[test]
fn devices_needs_no_policy_and_refuses_a_bad_one() {
    let world = World::new(Flavor::C);
    plug_some(&world);
    // A machine on which the agent is installed has one.
    if !Path::new("/etc/pvusb-agent/policy.yaml").exists() {
        let output = on(&world, &["devices"]);
        assert_eq!((code(&output), err(&output)), (0, ""));
        assert_eq!(out(&output).matches("no policy").count(), 4, "{}", out(&output));
    }
    world.write_policy("version: 1\nrulez: []\n");
    let policy = world.policy_path();
    let output = on(&world, &["devices", "--policy", policy.to_str().unwrap()]);
    assert_eq!((code(&output), out(&output)), (78, ""));
    assert!(err(&output).contains("policy.yaml:2:1"), "{}", err(&output));
    let output = on(&world, &["devices", "--policy", "/nowhere/policy.yaml"]);
    assert_eq!((code(&output), out(&output)), (78, ""));
    assert!(err(&output).contains("/nowhere/policy.yaml"), "{}", err(&output));
}

#[test]
fn list_says_what_is_attached_where_and_by_whom() {
    for flavor in Flavor::BOTH {
        let mut world = World::new(flavor);
        let empty = on(&world, &["list"]);
        assert_eq!((code(&empty), err(&empty)), (0, ""));
        assert_eq!(out(&empty).lines().count(), 1, "{flavor:?}: {}", out(&empty));
        assert_eq!(out(&on(&world, &["list", "--json"])), "[]\n", "{flavor:?}");

        let (desk, kiosk) = (world.domain(3, "desk"), world.domain(5, "kiosk"));
        plug_some(&world);
        world.toolstack.usbctrl_attach(&kiosk.guest, Controller::qusb(0));
        world.toolstack.usbdev_attach(&kiosk.guest, Controller::qusb(0), (8, "1-3"));
        kiosk.wait_until_held("1-3");
        let mut agent = world.agent(POLICY);
        agent.wait_for_line("attached device=1-2", PATIENCE);
        desk.wait_until_held("1-2");
        kiosk.wait_until_held("1-4");
        // What an agent that does not run could not tidy up.
        agent.kill();
        world.bed.unplug("1-4");
        let mut store = world.xenstored.client();
        store.write("/libxl/3/device/vusb/4/frontend", "").unwrap();

        let output = on(&world, &["list"]);
        assert_eq!(code(&output), 0);
        assert_golden(out(&output), "list.txt");
        assert_golden(err(&output), "list.err.txt");
        let output = on(&world, &["list", "--json"]);
        assert_eq!((code(&output), err(&output)), (0, ""));
        assert_golden(out(&output), "list.json");
    }
}

#[test]
fn without_xenstore_list_is_69() {
    let world = World::new(Flavor::C);
    let output = program(&["list"])
        .envs(world.bed.env())
        .env("XENSTORED_PATH", "/nowhere/socket")
        .output()
        .unwrap();
    assert_eq!((code(&output), out(&output)), (69, ""));
    assert!(err(&output).contains("/nowhere/socket"), "{}", err(&output));
    // One that dies while it is asked is not there, either.
    world.proxy.refuse(true);
    let output = on(&world, &["list"]);
    assert_eq!((code(&output), out(&output)), (69, ""));
    assert!(err(&output).starts_with("pvusb-agent: "), "{}", err(&output));
}

#[test]
fn check_tells_good_policies_from_bad_ones() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        fs::write(dir.path().join(name), text).unwrap();
        name.to_owned()
    };
    let (good, bad) =
        (file("good.yaml", POLICY), file("bad.yaml", "version: 1\nrules:\n  - match: {id: 5}\n"));
    let check = |args: &[&str]| {
        let args = [&["check"], args].concat();
        program(&args).current_dir(dir.path()).output().unwrap()
    };

    let output = check(&[&good]);
    assert_eq!((code(&output), err(&output)), (0, ""));
    assert_eq!(out(&output), "good.yaml: 3 rules, no problem\n");

    let output = check(&[&bad, &good, "nowhere.yaml"]);
    assert_eq!(code(&output), 78);
    assert_eq!(out(&output), "good.yaml: 3 rules, no problem\n");
    assert_golden(err(&output), "check.err.txt");

    let output = check(&["--json", &bad, &good]);
    assert_eq!((code(&output), err(&output)), (78, ""));
    assert_golden(out(&output), "check.json");

    let mut piped = program(&["check", "-"]);
    piped.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut piped = piped.spawn().unwrap();
    piped.stdin.take().unwrap().write_all(POLICY.as_bytes()).unwrap();
    let output = piped.wait_with_output().unwrap();
    assert_eq!((code(&output), out(&output)), (0, "<stdin>: 3 rules, no problem\n"));

    // What it shows is a policy, and the same one.
    let shown = check(&["--show", &good]);
    fs::write(dir.path().join("shown.yaml"), out(&shown)).unwrap();
    let again = check(&["--show", "shown.yaml"]);
    assert_eq!(code(&again), 0, "{}", err(&again));
    let rest = |output: &Output| out(output).split_once('\n').unwrap().1.to_owned();
    assert_eq!(rest(&shown), rest(&again));
}

#[test]
fn an_answer_that_nobody_reads_is_74_and_no_panic() {
    let world = World::new(Flavor::C);
    plug_some(&world);
    world.write_policy(POLICY);
    let policy = world.policy_path();
    let policy = policy.to_str().unwrap();
    for args in [
        &["devices", "--policy", policy][..],
        &["devices", "--policy", policy, "--json"],
        &["list"],
        &["list", "--json"],
        &["doctor"],
        &["doctor", "--json"],
        &["check", policy],
        &["check", "--json", policy],
        &["check", "--show", policy],
        &["--help"],
        &["--version"],
    ] {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let full = File::options().write(true).open("/dev/full").unwrap();
        for stdout in [Stdio::from(writer), Stdio::from(full)] {
            let output = program(args).envs(world.env()).stdout(stdout).output().unwrap();
            assert_eq!((code(&output), err(&output)), (74, ""), "{args:?}");
        }
    }
}
