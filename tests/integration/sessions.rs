//! The sessions that the documents show: docs/kiosk.md from its beginning to its end, and those of other pages one by
//! one. Their files are written, their commands are run on a host like the one that they speak of, and what they print is
//! what stands there.

#![expect(clippy::panic, reason = "helpers of tests fail as tests do")]

use crate::cli::{err, out, program};
use crate::documents::fenced;
use crate::harness::backend::{Controller, Guest, Kind};
use crate::harness::time::{PATIENCE, wait_until};
use crate::harness::usb::UsbDevice;
use crate::harness::xenstored::Flavor;
use crate::world::{World, rules};
use pvusb_agent::audit::Log;
use regex_lite::Regex;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

/// The verbs that look at domains.
const LOOKING: [&str; 3] = ["list", "domains", "doctor"];

#[test]
fn the_kiosk_of_the_documents_is_as_it_says() {
    let text = read("docs/kiosk.md");
    let mut world = World::new(Flavor::C);
    let directory = world.own_directory().to_owned();
    for (_, block) in fenced(&text, "yaml") {
        if let Some(name) = name_of(&block) {
            let file = directory.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, block).unwrap();
        }
    }

    world.bed.remove_desk();
    let inside = plug_what_is_in_the_case(&world);
    let kiosk = world.serve(Guest::new(1, "kiosk").of_kind(Kind::Pvh));
    world.toolstack.usbctrl_attach(&kiosk.guest, Controller::qusb(0));
    let libxl_dir = world.libxl_dir();
    let libxl_dir = libxl_dir.to_str().unwrap();
    let mut agent = None;
    let mut ran = 0;
    for (line, block) in fenced(&text, "console") {
        for (command, shown) in commands(&block) {
            let command = command.trim_start_matches("sudo ");
            if command == "systemctl enable --now pvusb-agent" {
                let policy = fs::read_to_string(world.policy_path()).unwrap();
                agent = Some(world.agent(&policy));
                for busid in inside {
                    world.wait_until_given(&kiosk, busid);
                }
                wait_until(PATIENCE, "the agent knows why", || {
                    let reasons = world.verb(&["list", "--json", "--libxl-dir", libxl_dir]);
                    !out(&reasons).contains("\"because\": null")
                });
            }
            let Some(arguments) = command.strip_prefix("pvusb-agent ") else { continue };
            let mut arguments: Vec<&str> = arguments.split(' ').collect();
            if LOOKING.contains(&arguments[0]) {
                arguments.extend(["--libxl-dir", libxl_dir]);
            }
            let output = program(&arguments).current_dir(&directory).envs(world.env()).output();
            let output = output.unwrap();
            let printed = [output.stdout, output.stderr].concat();
            let printed = String::from_utf8(printed).unwrap();
            // The service's policy is where it is installed.
            let printed = printed.replace(directory.to_str().unwrap(), "/etc/pvusb-agent");
            assert_eq!(printed, shown, "below line {line}: {command}");
            ran += 1;
        }
    }
    assert!(agent.is_some() && ran > 6, "some commands were not found");
}

#[test]
fn orders_by_hand_are_answered_as_the_readme_says() {
    let mut world = World::new(Flavor::C);
    let kiosk = world.domain(5, "kiosk");
    world.bed.plug(&UsbDevice::hub("1-1", 2));
    let scanner = UsbDevice::new("1-1.4", 6, 0x05e0, 0x1200).with_interface([3, 1, 1], None);
    world.bed.plug(&scanner);
    let _agent = world.agent(&rules(&["match: {id: '05e0:1200'}, attach: kiosk"]));
    world.wait_until_given(&kiosk, "1-1.4");
    let directory = world.own_directory().to_str().unwrap().to_owned();
    // Which one it is depends on how long the last one has been empty.
    let ports = Regex::new(r"port \d+").unwrap();
    let mut ran = 0;
    for (command, shown) in session(&read("README.md"), "sudo pvusb-agent attach") {
        let arguments: Vec<&str> = command.split(' ').skip(2).collect();
        let printed = out(&world.verb(&arguments)).replace(&directory, "/etc/pvusb-agent");
        assert_eq!(ports.replace_all(&printed, "port N"), ports.replace_all(&shown, "port N"));
        ran += 1;
    }
    assert_eq!(ran, 4);
}

#[test]
fn the_tests_of_the_policys_reference_pass_as_it_says() {
    let text = read("docs/policy.md");
    let (_, text) = text.split_once("\n## Tests\n").unwrap();
    let directory = tempfile::tempdir().unwrap();
    for (_, block) in fenced(text, "yaml") {
        if let Some(name) = name_of(&block) {
            let file = directory.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, block).unwrap();
        }
    }
    let [(_, shown)] = &session(text, "pvusb-agent test tests")[..] else { panic!() };
    let output = program(&["test", "tests"]).current_dir(&directory).output().unwrap();
    assert_eq!(out(&output), shown);
}

#[test]
fn what_is_converted_is_told_of_as_it_is_shown() {
    let text = read("docs/convert.md");
    let world = World::new(Flavor::C);
    world.write_policy(&rules(&["match: {id: '05e0:1200'}, keep: dom0"]));
    let directory = world.own_directory();
    let xapi = read("tests/convert/xapi-usb-policy.conf");
    fs::write(directory.join("usb-policy.conf"), xapi).unwrap();
    // With what USBGuard does where none applies they are fifteen.
    let rule = |n: u8| match n {
        3 => {
            "allow id 1050:0407 hash \"mTwFPPg1V1yjXAUy1aGnq04PZ3nYdTOvYzrc9v4nVvE=\"\n".to_owned()
        }
        _ => format!("allow id 1234:{n:04}\n"),
    };
    fs::write(directory.join("rules.conf"), (1..=14).map(rule).collect::<String>()).unwrap();
    let run = |arguments: &[&str]| {
        program(arguments).current_dir(directory).envs(world.env()).output().unwrap()
    };

    let first = session(&text, "sudo pvusb-agent generate");
    let [(_, nothing), (_, told), (_, changed)] = &first[..] else { panic!() };
    assert_eq!(nothing, "");
    let output = run(&["convert", "--domain", "kiosk", "usb-policy.conf"]);
    assert_eq!(&String::from_utf8(output.stderr).unwrap(), told);
    fs::write(directory.join("new.yaml"), output.stdout).unwrap();
    let policy = world.policy_path();
    let output = run(&["diff", "new.yaml", "--policy", policy.to_str().unwrap()]);
    assert_eq!((out(&output), err(&output)), (&changed[..], ""));

    let [(_, told)] = &session(&text, "pvusb-agent convert rules.conf")[..] else { panic!() };
    let output = run(&["convert", "rules.conf"]);
    assert_eq!(&String::from_utf8(output.stderr).unwrap(), told);
}

#[test]
fn a_log_that_holds_is_verified_as_it_is_shown() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit");
    let (mut log, _) = Log::open(&path).unwrap();
    for _ in 0..212 {
        log.add(SystemTime::UNIX_EPOCH, ("detached", "detached"), [].into()).unwrap();
    }
    let output = program(&["log", "--verify", "--file", path.to_str().unwrap()]).output().unwrap();
    let [(_, shown)] = &session(&read("docs/monitoring.md"), "sudo pvusb-agent log")[..] else {
        panic!()
    };
    // The page cuts it off.
    let hash = Regex::new("[0-9a-f]+…|[0-9a-f]{64}").unwrap();
    assert_eq!(hash.replace(out(&output), "HASH"), hash.replace(shown, "HASH"));
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The commands of the session in this text that begins so, and what each printed.
fn session(text: &str, begin: &str) -> Vec<(String, String)> {
    let begin = format!("$ {begin}");
    let sessions = fenced(text, "console").into_iter().map(|(_, block)| block);
    let mut found = sessions.filter(|block| block.starts_with(&begin));
    let found = (found.next(), found.next());
    let (Some(block), None) = found else {
        panic!("not one session begins so: {begin}: {found:?}")
    };
    commands(&block)
}

/// What is plugged into the kiosk: the places of what belongs to the domain.
fn plug_what_is_in_the_case(world: &World) -> [&'static str; 3] {
    let full = |busid, devnum, vendor, product| UsbDevice {
        speed: "12",
        ..UsbDevice::new(busid, devnum, vendor, product)
    };
    let touchscreen = full("1-1", 2, 0x0eef, 0x0001).named("eGalax", "TouchController");
    world.bed.plug(&touchscreen.with_interface([3, 0, 0], Some("usbhid")));
    world.bed.plug(&UsbDevice::hub("1-2", 3));
    let scanner = full("1-2.1", 4, 0x05e0, 0x1200).named("Symbol", "Bar Code Scanner");
    let scanner = scanner.with_interface([3, 1, 1], Some("usbhid"));
    world.bed.plug(&scanner.with_input("ID_INPUT_KEYBOARD"));
    let reader = full("1-2.2", 5, 0x076b, 0x3031).named("HID Global", "OMNIKEY 3x21");
    world.bed.plug(&reader.with_interface([0x0b, 0, 0], None));
    ["1-1", "1-2.1", "1-2.2"]
}

/// The file that a piece of YAML is, if its first line says so.
fn name_of(block: &str) -> Option<&str> {
    let (_, name) = block.lines().next()?.split_once("# ")?;
    (Path::new(name).extension()? == "yaml").then_some(name)
}

/// The commands of a session, and what each printed.
fn commands(block: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for line in block.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            found.push((command.to_owned(), String::new()));
        } else if let Some((_, shown)) = found.last_mut() {
            shown.push_str(line);
            shown.push('\n');
        }
    }
    found
}
