//! The verbs that answer and end, as a person and a script meet them: text, JSON, exit codes.
//!
//! What stands in `tests/fixtures/cli` is what they print; `SNAPSHOTS=overwrite` writes it anew.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use crate::harness::backend::Controller;
use crate::harness::time::PATIENCE;
use crate::harness::usb::UsbDevice;
use crate::harness::xenstored::Flavor;
use crate::world::World;
use nix::pty::{OpenptyResult, Winsize, openpty};
use std::fs::{self, File};
use std::io::{Read, Write, pipe};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

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

/// What a verb that has looked for itself says when no agent runs.
const WITHOUT_AGENT: &str = "pvusb-agent: no agent is running: this is from the host itself\n";

/// Where a policy may be installed on the machine that runs the tests.
const INSTALLED: &str = "/etc/pvusb-agent";

/// Whether it can be hidden from the program, which takes namespaces: in a chroot there are none (unshare(2)).
static HIDES: LazyLock<bool> = LazyLock::new(|| {
    let tried = Command::new("unshare").args(["--map-root-user", "--mount", "true"]).output();
    tried.is_ok_and(|done| done.status.success())
});

/// The program, with nothing of the caller's terminal, and if possible without the policy that is installed.
pub(crate) fn program(args: &[&str]) -> Command {
    let program = env!("CARGO_BIN_EXE_pvusb-agent");
    let mut command = Command::new(program);
    if Path::new(INSTALLED).exists() && *HIDES {
        command = Command::new("unshare");
        let hide = format!("mount -t tmpfs none {INSTALLED} && exec \"$0\" \"$@\"");
        command.args(["--map-root-user", "--mount", "sh", "-c", &hide, program]);
    }
    command.args(args).env_remove("COLUMNS").env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// The program on a host.
pub(crate) fn on(world: &World, args: &[&str]) -> Output {
    program(args).envs(world.env()).output().unwrap()
}

/// What the program writes to a terminal of so many columns.
fn on_terminal(world: &World, columns: u16, args: &[&str]) -> String {
    let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let OpenptyResult { master, slave } = openpty(&size, None).unwrap();
    // The descriptor of the command's own is closed with it: the end of what is read.
    let status = program(args).envs(world.env()).stdout(slave).status().unwrap();
    assert!(status.success());
    let mut text = Vec::new();
    // Once nobody has the other end open, reading fails; what was written comes first.
    let _ = File::from(master).read_to_end(&mut text);
    String::from_utf8(text).unwrap().replace("\r\n", "\n")
}

pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

pub(crate) fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

pub(crate) fn err(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[track_caller]
pub(crate) fn assert_golden(actual: &str, name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cli").join(name);
    let assert = snapbox::Assert::new().action_env(snapbox::assert::DEFAULT_ACTION_ENV);
    assert.eq(actual.to_owned(), snapbox::Data::read_from(&path, None).raw());
}

/// A bus with a keyboard behind a hub, a memory stick, and two devices of the same make.
pub(crate) fn plug_some(world: &World) {
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
        (&["explain", "--help"], "help-explain.txt"),
        (&["diff", "--help"], "help-diff.txt"),
        (&["generate", "--help"], "help-generate.txt"),
        (&["convert", "--help"], "help-convert.txt"),
        (&["test", "--help"], "help-test.txt"),
        (&["record", "--help"], "help-record.txt"),
        (&["list", "--help"], "help-list.txt"),
        (&["domains", "--help"], "help-domains.txt"),
        (&["controller", "--help"], "help-controller.txt"),
        (&["controller", "add", "--help"], "help-controller-add.txt"),
        (&["controller", "remove", "--help"], "help-controller-remove.txt"),
        (&["controller", "list", "--help"], "help-controller-list.txt"),
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
        &["explain"],
        &["test", "--json", "--list"],
        &["run", "--policy"],
        &["controller"],
        &["controller", "add"],
        &["controller", "add", "kiosk", "--ports", "32"],
        &["controller", "add", "kiosk", "--type", "devicemodel"],
        &["controller", "add", "kiosk", "--version", "3"],
        &["controller", "remove", "kiosk"],
        &["controller", "remove", "kiosk", "first"],
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
    let on_80_columns = on_terminal(&world, 80, &["devices", "--policy", policy]);
    assert!(on_80_columns.lines().all(|line| line.chars().count() <= 80), "{on_80_columns}");
    assert_golden(&on_80_columns, "devices-80.txt");

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
        let is_bare = !Path::new(INSTALLED).exists() || *HIDES;
        assert_eq!(code(&empty), 0);
        assert!(!is_bare || err(&empty) == WITHOUT_AGENT, "{}", err(&empty));
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

        let list = |more: &[&str]| on(&world, &[&["list"], more].concat());
        let libxl_dir = world.libxl_dir();
        let (libxl_dir, policy) = (libxl_dir.to_str().unwrap(), world.policy_path());
        let by = ["--libxl-dir", libxl_dir, "--policy", policy.to_str().unwrap()];
        let own_directory = format!("{}/", world.own_directory().display());
        let shown = |output: &Output| out(output).replace(&own_directory, "");
        let output = list(&by);
        assert_eq!(code(&output), 0);
        assert_golden(&shown(&output), "list.txt");
        assert_golden(&err(&output).replace(&own_directory, ""), "list.err.txt");
        let output = list(&[&by[..], &["--json"]].concat());
        assert_eq!((code(&output), err(&output)), (0, ""));
        assert_golden(&shown(&output), "list.json");
        let domains = |more: &[&str]| on(&world, &[&["domains"], &by[..2], more].concat());
        assert_golden(out(&domains(&[])), "domains.txt");
        assert_golden(err(&domains(&[])), "domains.err.txt");
        let json: serde_json::Value = serde_json::from_slice(&domains(&["--json"]).stdout).unwrap();
        let [desk, kiosk] = [&json[0], &json[1]];
        assert_eq!((&desk["name"], &desk["device_model"]), (&"desk".into(), &"qusb".into()));
        assert_eq!(desk["broken"][0]["index"], 4);
        let ports = &kiosk["controllers"][0]["ports"];
        assert_eq!((&ports[7]["busid"], &ports[1]["state"]), (&"1-3".into(), &"free".into()));
        // Without a policy there is no reason to be told.
        let output = on(&world, &["list", "--json"]);
        assert_eq!(code(&output), 0);
        assert!(!is_bare || out(&output).matches("\"because\": null").count() == 3);
        world.write_policy("version: 2");
        assert_eq!(code(&list(&by)), 78);
    }
}

#[test]
fn verbs_that_look_for_themselves_say_that_no_agent_runs_and_only_then() {
    let mut world = World::new(Flavor::C);
    let _kiosk = world.domain(5, "kiosk");
    plug_some(&world);
    let mut agent = world.agent(POLICY);
    agent.wait_for_line("attached device=1-4", PATIENCE);
    let policy = world.policy_path();
    let by = ["--policy", policy.to_str().unwrap(), "--libxl-dir"];
    let libxl_dir = world.libxl_dir();
    let by = [&by[..], &[libxl_dir.to_str().unwrap()]].concat();
    let notes = |world: &World| {
        let verbs: [&[&str]; 3] = [
            &[&["list"], &by[..]].concat(),
            &[&["domains"], &by[2..]].concat(),
            // Whether another policy is carried out is no question.
            &[&["explain", "1-4"], &by[..]].concat(),
        ];
        verbs.map(|verb| err(&on(world, verb)).replace(by[1], "FILE"))
    };
    assert_eq!(notes(&world), ["", "", ""]);
    agent.kill();
    let by_file = WITHOUT_AGENT.replace('\n', ", reasons by FILE\n");
    assert_eq!(notes(&world), [&by_file, WITHOUT_AGENT, ""]);
    // What is read by programs has no word for people.
    assert_eq!(err(&on(&world, &[&["list", "--json"], &by[..]].concat())), "");
}

#[test]
fn a_socket_that_takes_no_connection_is_named_with_the_cause() {
    let dir = tempfile::tempdir().unwrap();
    // Longer than `sun_path` (unix(7)), and of another type.
    let datagrams = dir.path().join("datagrams");
    let _socket = std::os::unix::net::UnixDatagram::bind(&datagrams).unwrap();
    for path in [dir.path().join("x".repeat(120)), datagrams] {
        let output = program(&["status", "--socket", path.to_str().unwrap()]).output().unwrap();
        assert_eq!((code(&output), out(&output)), (1, ""));
        let first = format!("pvusb-agent: cannot connect to {}: ", path.display());
        assert!(err(&output).starts_with(&first), "{}", err(&output));
        assert!(err(&output).contains("`--socket` names its socket"), "{}", err(&output));
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

/// Keys of several kinds, and a rule that needs the ones above it to have said no.
const MANY_KEYS: &str = "
version: 1
devices:
  adapters: {id: '0403:*'}
protect:
  - {id: '0403:6001', port: '1-4'}
rules:
  - name: not used now
    enabled: false
    match: {id: '0403:6001'}
    block: true
  - name: only while the night shift works
    match: {id: '0403:6001'}
    when: {running: night}
    keep: dom0
  - name: keyboards at the front
    match: {category: keyboard, port: ['1-5', '1-6.*'], not: {serial: '*'}}
    attach: desk
  - name: what the shop floor plugs in
    match: {device: adapters}
    attach: [floor, kiosk]
  - name: behind the desk's hub
    match: {behind: {port: '1-1'}}
    attach: kiosk
  - match: {id: '*:*'}
    keep: dom0
";

#[test]
fn explain_says_of_each_rule_what_it_asked_and_what_was_there() {
    let mut world = World::new(Flavor::C);
    let kiosk = world.domain(5, "kiosk");
    plug_some(&world);
    world.write_policy(MANY_KEYS);
    let (policy, libxl) = (world.policy_path(), world.libxl_dir());
    let explain = |device: &str| {
        let paths = ["--policy", policy.to_str().unwrap(), "--libxl-dir", libxl.to_str().unwrap()];
        let output = on(&world, &[&["explain", device], &paths[..]].concat());
        assert_eq!((code(&output), err(&output)), (0, ""), "{device}");
        out(&output).replace(&format!("{}/", world.own_directory().display()), "")
    };
    assert_golden(&explain("1-1.4"), "explain-behind.txt");
    assert_golden(&explain("1.8"), "explain-group.txt");
    assert_golden(&explain("1-4"), "explain-protected.txt");
    assert_golden(&explain("1-2"), "explain-kept.txt");
    assert_golden(&explain("1-1"), "explain-hub.txt");

    // What would come next is what the agent does.
    let _agent = world.agent(MANY_KEYS);
    world.wait_until_given(&kiosk, "1-3");
    world.wait_until_given(&kiosk, "1-1.4");
    // Which of the two came first is chance.
    let attached = explain("1-3").replace("controller 0 port 1", "controller 0 port 2");
    assert_golden(&attached, "explain-attached.txt");
    let args = ["explain", "1-3", "--json", "--policy", policy.to_str().unwrap(), "--libxl-dir"];
    let json = on(&world, &[&args[..], &[libxl.to_str().unwrap()]].concat());
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["rules"][2]["conditions"][0]["holds"], false);
    assert_eq!(json["standing"], "attached");
}

#[test]
fn explain_without_xenstore_says_what_it_can() {
    let bed = crate::harness::usb::UsbBed::new();
    bed.host(1, crate::world::PCI);
    bed.plug(&UsbDevice::keyboard("1-1", 6));
    let policy = tempfile::NamedTempFile::new().unwrap();
    fs::write(policy.path(), POLICY).unwrap();
    let args = ["explain", "1-1", "--policy", policy.path().to_str().unwrap()];
    let run = |args: &[&str]| {
        program(args).envs(bed.env()).env("XENSTORED_PATH", "/nonexistent/socket").output().unwrap()
    };
    let output = run(&args);
    assert_eq!(code(&output), 0);
    assert!(out(&output).contains("It must stay in dom0"), "the only keyboard: {}", out(&output));
    assert!(err(&output).contains("nothing is said of domains and ports"), "{}", err(&output));
    for (device, words) in [("1-9", "no device 1-9 is plugged"), ("05e0:1200", "no device 05e0")] {
        let output = run(&["explain", device]);
        assert_eq!(code(&output), 1);
        assert!(err(&output).contains(words), "{}", err(&output));
    }
    assert_eq!(code(&run(&["explain", "kiosk"])), 64);
}

#[test]
fn explain_of_an_id_that_several_devices_have_names_them() {
    let world = World::new(Flavor::C);
    plug_some(&world);
    let output = on(&world, &["explain", "0403:6001"]);
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("one of 1-3, 1-4"), "{}", err(&output));
}

#[test]
fn diff_tells_what_another_policy_would_change_and_touches_nothing() {
    let mut world = World::new(Flavor::C);
    let kiosk = world.domain(5, "kiosk");
    let _desk = world.domain(6, "desk");
    plug_some(&world);
    let _agent = world.agent(MANY_KEYS);
    world.wait_until_given(&kiosk, "1-3");
    world.wait_until_given(&kiosk, "1-1.4");
    let (old, new) = (world.policy_path(), world.own_directory().join("new.yaml"));
    let libxl = world.libxl_dir();
    let diff = |text: &str, more: &[&str]| {
        fs::write(&new, text).unwrap();
        let files = [new.to_str().unwrap(), "--policy", old.to_str().unwrap()];
        let libxl = ["--libxl-dir", libxl.to_str().unwrap()];
        on(&world, &[&["diff"][..], &files, &libxl, more].concat())
    };
    let same = diff(MANY_KEYS, &["--exit-code"]);
    assert_eq!((code(&same), out(&same)), (0, "nothing would change\n"));
    let other = MANY_KEYS.replace("floor, kiosk", "desk").replace("protect:", "protect: []\nx:");
    let bad = diff(&other, &[]);
    assert_eq!(code(&bad), 78, "{}", err(&bad));
    let other = MANY_KEYS.replace("floor, kiosk", "desk").replace("port: '1-4'", "port: '1-7'");
    let other =
        other.replace("attach: kiosk", "attach: {domain: kiosk, controller: {index: 1}, port: 3}");
    let before = world.store();
    let changed = diff(&other, &["--exit-code"]);
    assert_eq!((code(&changed), err(&changed)), (1, ""));
    assert_golden(out(&changed), "diff.txt");
    assert_eq!(code(&diff(&other, &[])), 0);
    let json: serde_json::Value =
        serde_json::from_slice(&diff(&other, &["--json"]).stdout).unwrap();
    let [kiosk, desk] = [&json[0], &json[1]];
    assert_eq!((&kiosk["after"]["port"], &kiosk["moves"]), (&3.into(), &false.into()));
    assert_eq!(kiosk["after"]["controller"]["index"], 1);
    assert_eq!(desk["after"]["domain"], "desk");
    assert_eq!(crate::world::differences(&before, &world.store()), [""; 0]);
}
