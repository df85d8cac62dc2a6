//! A first policy from what is plugged, on a host with real libudev and real xenstored.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use crate::harness::time::{PATIENCE, wait_until};
use crate::harness::usb::{UsbBed, UsbDevice};
use crate::harness::xenstored::Flavor;
use crate::world::{World, on_both};
use pvusb_agent::policy::{Action, Rule, Source, compile};
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn run(env: Vec<(String, String)>, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pvusb-agent"));
    command.args(args).env_remove("COLUMNS").env("NO_COLOR", "1").stdin(Stdio::null());
    command.envs(env).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn assert_golden(actual: &str, name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cli").join(name);
    let assert = snapbox::Assert::new().action_env(snapbox::assert::DEFAULT_ACTION_ENV);
    assert.eq(actual.to_owned(), snapbox::Data::read_from(&path, None).raw());
}

/// A hub, a keyboard, a stick, two adapters with numbers of their own, and two devices that are the same.
fn plug_some(world: &World) {
    world.bed.plug(&UsbDevice::hub("1-1", 2));
    world.bed.plug(&UsbDevice::keyboard("1-1.4", 6));
    world.bed.plug(&UsbDevice::storage("1-2", 7, "4C530001"));
    world.bed.plug(&UsbDevice::serial_adapter("1-3", 8, "A10"));
    world.bed.plug(&UsbDevice::serial_adapter("1-4", 9, "A*1"));
    world.bed.plug(&UsbDevice::storage("1-5", 10, "0000"));
    world.bed.plug(&UsbDevice::storage("1-6", 11, "0000"));
}

fn generate(world: &World, more: &[&str]) -> String {
    let libxl = world.libxl_dir();
    let libxl = ["--libxl-dir", libxl.to_str().unwrap()];
    let output = run(world.env(), &[&["generate"], &libxl[..], more].concat());
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    text(&output.stdout).to_owned()
}

/// What would change if `policy` were loaded instead of `old`.
fn diff(world: &World, policy: &str, old: &Path, more: &[&str]) -> Output {
    let new = world.own_directory().join("new.yaml");
    fs::write(&new, policy).unwrap();
    let libxl = world.libxl_dir();
    let args = [new.to_str().unwrap(), "--policy", old.to_str().unwrap(), "--exit-code"];
    let libxl = ["--libxl-dir", libxl.to_str().unwrap()];
    run(world.env(), &[&["diff"], &args[..], &libxl, more].concat())
}

#[test]
fn a_generated_policy_names_every_device_and_changes_nothing() {
    on_both(|mut world| {
        let _kiosk = world.domain(5, "kiosk");
        plug_some(&world);
        let policy = generate(&world, &[]);
        assert_golden(&policy, "generate.txt");
        let old = world.own_directory().join("old.yaml");
        fs::write(&old, "version: 1\nrules: []\n").unwrap();
        let told = diff(&world, &policy, &old, &[]);
        assert_eq!((told.status.code(), text(&told.stdout)), (Some(0), "nothing would change\n"));
        let rules = compile(Source { name: "generated", bytes: policy.as_bytes() }).unwrap();
        assert!(rules.rules().iter().all(|rule| !rule.is_enabled()), "{policy}");
    });
}

#[test]
fn what_the_agent_has_attached_stays_where_it_is_when_a_generated_policy_is_loaded() {
    let mut world = World::new(Flavor::C);
    let kiosk = world.domain(5, "kiosk");
    plug_some(&world);
    let rules = "version: 1
defaults: {settle: 0ms, keep_last: []}
rules:
  - {match: {id: '046d:c31c'}, attach: kiosk}
  - {match: {serial: A10}, attach: kiosk}
  - {match: {port: 1-5}, block: true}
";
    let mut agent = world.agent(rules);
    world.wait_until_given(&kiosk, "1-3");
    world.wait_until_given(&kiosk, "1-1.4");
    wait_until(PATIENCE, "1-5 is blocked", || !world.bed.is_authorized("1-5:1.0"));
    let policy = generate(&world, &[]);
    let told = diff(&world, &policy, &world.policy_path(), &["--json"]);
    let changes: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    assert!(changes.as_array().unwrap().iter().all(|it| it["moves"] == false), "{changes:#}");

    world.reload(&mut agent, &policy);
    // What is asked for later is answered later.
    assert!(world.verb(&["hold", "1-4"]).status.success());
    world.wait_until_given(&kiosk, "1-3");
    world.wait_until_given(&kiosk, "1-1.4");
    assert!(!world.bed.is_authorized("1-5:1.0"));
}

#[test]
fn a_domain_that_is_named_gets_what_dom0_does_not_need() {
    let world = World::new(Flavor::C);
    plug_some(&world);
    let policy = generate(&world, &["--domain", "kiosk"]);
    let policy = compile(Source { name: "generated", bytes: policy.as_bytes() }).unwrap();
    let goes = |rule: &Rule| rule.is_enabled() && matches!(rule.action(), Action::Attach(_));
    assert_eq!((policy.rules().len(), policy.rules().iter().all(goes)), (5, true));
    assert_eq!(policy.protected().len(), 1);
    let bad = run(world.env(), &["generate", "--domain", "dom0"]);
    assert_eq!(bad.status.code(), Some(64));
}

#[test]
fn without_xenstore_and_devices_there_is_still_a_policy() {
    let bed = UsbBed::new();
    bed.host(1, crate::world::PCI);
    let mut env: Vec<(String, String)> = bed.env().into_iter().collect();
    env.push(("XENSTORED_PATH".to_owned(), "/nonexistent/socket".to_owned()));
    let output = run(env, &["generate"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(compile(Source { name: "generated", bytes: &output.stdout }).is_ok());
    assert!(text(&output.stderr).contains("no domain counts as running"));
}
