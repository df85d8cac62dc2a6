//! The verb `doctor`: it finds what is not as it should be, says what that does to the host, mends what
//! can be mended, and leaves all else as it was.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use crate::harness::agent::Agent;
use crate::harness::backend::Controller;
use crate::harness::time::{PATIENCE, wait_until};
use crate::harness::usb::UsbDevice;
use crate::harness::xenstored::{Flavor, Message, Op};
use crate::world::{Domain, OWN, World, differences, hurry, keyboard, keyboards_to_kiosk, on_both};
use pvusb_agent::plan::FindingCode;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// libxl's controller in which this test's devices are.
const CONTROLLER: u32 = 0;

/// A clean host: a domain with a device that xl attached, and devices in dom0. usbback is there, and
/// has been used.
fn clean() -> impl Fn(&mut World) -> Domain {
    |world| {
        world.bed.load_driver("usbback");
        world.xenstored.client().write("/libxl/usbback", "").unwrap();
        let kiosk = world.domain(5, "kiosk");
        let controller = Controller::qusb(CONTROLLER);
        world.toolstack.usbctrl_attach(&kiosk.guest, controller);
        world.wait_for_node("/local/domain/0/backend/qusb/5/0/state", Some("4"));
        world.bed.plug(&keyboard("1-1", 2));
        world.bed.plug(&keyboard("1-2", 3));
        world.bed.plug(&UsbDevice::hub("1-4", 4));
        world.toolstack.usbdev_attach(&kiosk.guest, controller, (1, "1-1"));
        kiosk.wait_until_held("1-1");
        kiosk
    }
}

fn doctor(world: &World, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pvusb-agent"));
    command.args(["doctor", "--libxl-dir"]).arg(world.libxl_dir());
    command.args(args).envs(world.env()).output().unwrap()
}

fn text(output: &Output) -> &str {
    assert_eq!(std::str::from_utf8(&output.stderr).unwrap(), "");
    std::str::from_utf8(&output.stdout).unwrap()
}

/// The codes of what it finds, with how it ends.
fn found(world: &World) -> (BTreeSet<String>, i32) {
    let output = doctor(world, &["--json"]);
    let answer: Value = serde_json::from_str(text(&output)).unwrap();
    let findings = answer["findings"].as_array().unwrap();
    let codes = findings.iter().map(|told| told["code"].as_str().unwrap().to_owned()).collect();
    for told in findings {
        let words = ["what", "node", "effect", "advice"].map(|key| told[key].as_str().unwrap());
        assert!(words.iter().all(|word| !word.is_empty()), "{told}");
    }
    assert_eq!(answer["healthy"], output.status.success(), "{answer}");
    (codes, output.status.code().unwrap())
}

/// The drivers of all interfaces.
fn drivers(world: &World) -> BTreeMap<String, Option<String>> {
    let interfaces = ["1-1", "1-2", "1-4"].iter().flat_map(|busid| world.bed.interfaces(busid));
    interfaces.map(|interface| (interface.clone(), world.bed.driver(&interface))).collect()
}

fn write(world: &World, path: &str, value: &str) {
    world.xenstored.client().write(path, value).unwrap();
}

/// Something that is wrong, made by hand, and how it is found.
struct Defect {
    code: &'static str,
    is_hint: bool,
    make: fn(&mut World, &Domain),
}

/// Everything that can be mended.
const DEFECTS: [Defect; 9] = [
    Defect { code: "D001", is_hint: false, make: stale_port },
    Defect { code: "D005", is_hint: false, make: backend_left },
    Defect { code: "D007", is_hint: false, make: drivers_left_of_a_device_that_is_gone },
    Defect { code: "D007", is_hint: false, make: drivers_left_of_a_device_that_is_there },
    Defect { code: "D008", is_hint: false, make: note_left },
    Defect { code: "D008", is_hint: false, make: note_left_on_the_way_back },
    Defect { code: "D009", is_hint: false, make: on_usbback },
    Defect { code: "D010", is_hint: true, make: without_driver },
    Defect { code: "D011", is_hint: false, make: husk },
];

fn stale_port(world: &mut World, kiosk: &Domain) {
    world.bed.plug(&keyboard("1-7", 9));
    world.toolstack.usbdev_attach(&kiosk.guest, Controller::qusb(CONTROLLER), (5, "1-7"));
    kiosk.wait_until_held("1-7");
    world.bed.unplug("1-7");
}

fn backend_left(world: &mut World, _kiosk: &Domain) {
    for (node, value) in [("state", "6"), ("frontend", "/local/domain/77/device/vusb/0")] {
        write(world, &format!("/local/domain/0/backend/qusb/77/0/{node}"), value);
    }
}

fn drivers_left_of_a_device_that_is_gone(world: &mut World, _kiosk: &Domain) {
    let driver = "/sys/bus/usb/drivers/usbhid";
    write(world, "/libxl/usbback/1-9_1/1-9_1@1_0/driver_path", driver);
}

fn drivers_left_of_a_device_that_is_there(world: &mut World, _kiosk: &Domain) {
    write(world, "/libxl/usbback/1-2/1-2@1_0/driver_path", "/sys/bus/usb/drivers/other");
}

fn note_left(world: &mut World, kiosk: &Domain) {
    let note = format!(
        "attached type=qusb id=046d:c31c address=1.99 initialized=5 domid=5 uuid={} controller=0 \
         port=2",
        kiosk.guest.uuid
    );
    write(world, &format!("{OWN}/devices/1-2"), &note);
}

fn note_left_on_the_way_back(world: &mut World, kiosk: &Domain) {
    on_usbback(world, kiosk);
    let note = "returning type=pv id=046d:c31c address=1.3 initialized=-";
    write(world, &format!("{OWN}/devices/1-2"), note);
}

fn on_usbback(world: &mut World, _kiosk: &Domain) {
    for number in 0..2 {
        let interface = format!("1-2:1.{number}");
        let driver = world.bed.driver(&interface).unwrap();
        let node = format!("/libxl/usbback/1-2/1-2@1_{number}/driver_path");
        write(world, &node, &format!("/sys/bus/usb/drivers/{driver}"));
        world.bed.set_driver(&interface, Some("usbback"));
    }
}

fn without_driver(world: &mut World, _kiosk: &Domain) {
    world.bed.set_driver("1-2:1.1", None);
}

fn husk(world: &mut World, _kiosk: &Domain) {
    write(world, "/libxl/5/device/vusb/4/frontend", "/local/domain/5/device/vusb/4");
}

#[test]
fn what_can_be_mended_is_found_and_mended_and_nothing_else_changes() {
    on_both(|mut world| {
        hurry(&world);
        let kiosk = clean()(&mut world);
        let (store, bound) = (world.store(), drivers(&world));
        assert_eq!(text(&doctor(&world, &[])), "nothing found\n");
        for Defect { code, is_hint, make } in DEFECTS {
            make(&mut world, &kiosk);
            let (codes, exit) = found(&world);
            assert_eq!((codes, exit), ([code.to_owned()].into(), i32::from(!is_hint)));

            let output = doctor(&world, &["--fix"]);
            let told = text(&output);
            assert!(output.status.success(), "{told}");
            assert!(told.contains(&format!("mended: {code} ")), "{told}");
            assert!(told.ends_with("nothing found\n"), "{told}");
            wait_until(PATIENCE, "QEMU has let go", || kiosk.qemu.held().len() == 1);
            assert_eq!(differences(&store, &world.store()), [""; 0], "{code}");
            assert_eq!(drivers(&world), bound, "{code}");
            assert_eq!(world.names(&format!("{OWN}/devices")), [""; 0], "{code}");
        }
    });
}

#[test]
fn what_cannot_be_mended_is_told_and_left_as_it_is() {
    on_both(|mut world| {
        hurry(&world);
        let _kiosk = clean()(&mut world);
        let desk = world.domain(6, "desk");
        // Its QEMU would fight, or die.
        desk.qemu.pause(true);
        let controllers = [0, 1, 2, 3, 11].map(Controller::qusb);
        for controller in controllers {
            world.toolstack.usbctrl_attach(&desk.guest, controller);
        }
        let [first, second, third, ..] = controllers;
        world.toolstack.usbdev_attach(&desk.guest, first, (1, "1-1"));
        world.toolstack.usbdev_attach(&desk.guest, second, (1, "1-2"));
        world.toolstack.usbdev_attach(&desk.guest, second, (2, "../../x"));
        write(&world, &format!("{}/state", third.backend(6)), "6");
        write(&world, "/libxl/6/device/vusb/3/type", "nonsense");
        write(&world, "/libxl/6/device/vusb/5/type", "qusb");
        write(&world, "/libxl/6/device/vusb/5/backend", "/local/domain/3/backend/qusb/6/5");
        let mut process = Command::new("true").spawn().unwrap();
        process.wait().unwrap();
        world.toolstack.run_device_model_as(&desk.guest, process.id());
        let mut lab = world.domain(7, "lab");
        lab.qemu.kill();
        world.toolstack.die(&lab.guest);

        let store = world.store();
        let (codes, exit) = found(&world);
        let expected = ["D002", "D003", "D004", "D011", "D012", "D013", "D014", "D015", "D016"];
        assert_eq!((codes, exit), (expected.map(String::from).into(), 1));
        let output = doctor(&world, &["--fix"]);
        assert_eq!(output.status.code(), Some(1));
        let told = text(&output);
        assert!(!told.contains("mended"), "{told}");
        for code in expected {
            assert!(told.contains(&format!("\n{code}  ")) || told.starts_with(code), "{told}");
        }
        assert!(told.contains("/local/domain/0/backend/qusb/6/1/port/2\n"), "{told}");
        assert_eq!(differences(&store, &world.store()), [""; 0]);
    });
}

#[test]
fn every_code_is_made_by_a_test_and_explained_in_the_documents() {
    let tests = include_str!("doctor.rs");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(root.join("docs/troubleshooting.md")).unwrap();
    let mut numbers = BTreeSet::new();
    for code in FindingCode::ALL {
        let number = code.number();
        assert!(numbers.insert(number), "{number} twice");
        assert!(tests.contains(&format!("\"{number}\"")), "{number} has no test");
        assert!(document.contains(&format!("| {number} |")), "{number} is not explained");
    }
}

#[test]
fn beside_a_running_agent_nothing_is_found_and_nothing_is_changed() {
    on_both(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        world.bed.plug(&keyboard("1-1", 2));
        let mut agent = world.agent(&keyboards_to_kiosk());
        world.wait_until_given(&kiosk, "1-1");
        agent.wait_for_line("attached device=1-1", PATIENCE);
        let store = world.store();
        let output = doctor(&world, &["--fix"]);
        assert_eq!((text(&output), output.status.code()), ("nothing found\n", Some(0)));
        assert_eq!(store, world.store());
        // What somebody took out by hand is as it should be.
        let (_, devid, port) = world.places("1-1")[0];
        world.toolstack.usbdev_detach(&kiosk.guest, Controller::qusb(devid), port);
        agent.wait_for_line("taken out by somebody else", PATIENCE);
        kiosk.wait_until_empty();
        assert_eq!(text(&doctor(&world, &["--fix"])), "nothing found\n");
        assert!(world.note("1-1").is_some());
    });
}

/// Somebody is faster than the doctor: between its look and its mend the world changes.
#[test]
fn what_has_changed_since_it_was_seen_is_not_mended() {
    on_both(|mut world| {
        hurry(&world);
        let kiosk = clean()(&mut world);
        let starts = |request: &Message| request.op == Op::TRANSACTION_START;
        let changing = |world: &mut World, change: &dyn Fn(&mut World)| {
            world.proxy.pause_at(starts);
            let mut doctor = Agent::start(&["doctor", "--fix"], &world.env());
            wait_until(PATIENCE, "it begins to mend", || !world.proxy.is_armed());
            change(world);
            world.proxy.resume();
            doctor.wait(PATIENCE);
            wait_until(PATIENCE, "it has said all", || doctor.has_closed());
            let told = doctor.lines().join("\n");
            assert!(told.contains("not mended: D0"), "{told}");
        };

        stale_port(&mut world, &kiosk);
        changing(&mut world, &|world| world.bed.plug(&keyboard("1-7", 10)));
        assert_eq!(world.port(5, 0, 5).as_deref(), Some("1-7"));
        world.toolstack.usbdev_detach(&kiosk.guest, Controller::qusb(CONTROLLER), 5);
        wait_until(PATIENCE, "QEMU has let go", || kiosk.qemu.held().len() == 1);
        world.bed.unplug("1-7");

        // The device is attached with xl meanwhile.
        without_driver(&mut world, &kiosk);
        let guest = kiosk.guest.clone();
        changing(&mut world, &|world| {
            world.toolstack.usbdev_attach(&guest, Controller::qusb(CONTROLLER), (6, "1-2"));
            kiosk.wait_until_held("1-2");
        });
        assert_eq!(world.bed.driver("1-2:1.1").as_deref(), Some("usbfs"));
        assert_eq!(world.note("1-2"), None);
    });
}

/// In quarantine a device without a driver is as it should be, and dom0's drivers are the agent's to
/// call.
#[test]
fn what_is_held_back_stays_held_back() {
    on_both(|mut world| {
        let kiosk = clean()(&mut world);
        world.bed.set_attribute("usb1", "interface_authorized_default", "0\n");
        world.bed.authorize_by_default(false);
        world.bed.plug(&keyboard("1-3", 7));
        assert_eq!(text(&doctor(&world, &["--fix"])), "nothing found\n");
        on_usbback(&mut world, &kiosk);
        let output = doctor(&world, &["--fix"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output).contains("not mended: D009"), "{}", text(&output));
        assert_eq!(world.bed.driver("1-2:1.0").as_deref(), Some("usbback"));
        assert_eq!(world.note("1-2"), None);
    });
}

#[test]
fn without_xenstore_it_is_69() {
    let world = World::new(Flavor::C);
    let output = Command::new(env!("CARGO_BIN_EXE_pvusb-agent"))
        .arg("doctor")
        .envs(world.bed.env())
        .env("XENSTORED_PATH", "/nowhere/socket")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(69));
    assert!(output.stdout.is_empty());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("/nowhere/socket") && told.contains("does xenstored run?"), "{told}");
}
