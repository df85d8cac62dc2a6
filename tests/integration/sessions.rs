//! The sessions that docs/kiosk.md shows. Its files are written, its commands are run on a host like the one that it
//! speaks of, and what they print is what stands there.

use crate::cli::{out, program};
use crate::documents::fenced;
use crate::harness::backend::{Controller, Guest, Kind};
use crate::harness::time::{PATIENCE, wait_until};
use crate::harness::usb::UsbDevice;
use crate::harness::xenstored::Flavor;
use crate::world::World;
use std::fs;
use std::path::Path;

/// The verbs that look at domains.
const LOOKING: [&str; 3] = ["list", "domains", "doctor"];

#[test]
fn the_kiosk_of_the_documents_is_as_it_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/kiosk.md");
    let text = fs::read_to_string(path).unwrap();
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
