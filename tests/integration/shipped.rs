//! The rules that come with the program: each file does what it says to the devices that it is about, and
//! leaves all others alone.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use pvusb_agent::model::{Anchor, ClassTriple, Device, Interface, Removable};
use pvusb_agent::policy::{Candidate, Policy, Rule};
use pvusb_agent::policy_file;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A device: its id, the classes of its interfaces, and its driver in dom0.
struct Made(&'static str, &'static [&'static str], &'static str);

const KEYBOARD: Made = Made("046d:c31c", &["03:01:01", "03:00:00"], "usbhid");
const MOUSE: Made = Made("046d:c05a", &["03:01:02"], "usbhid");
const STICK: Made = Made("0781:5581", &["08:06:50"], "usb-storage");
const BAD_STICK: Made = Made("0781:5581", &["08:06:50", "03:01:01"], "usb-storage");
const YUBIKEY: Made = Made("1050:0407", &["03:01:01", "03:00:00", "0b:00:00"], "usbhid");
const NITROKEY: Made = Made("20a0:42b2", &["03:00:00"], "usbhid");
const PRINTER: Made = Made("03f0:1712", &["07:01:02", "ff:00:00"], "usblp");
const FTDI: Made = Made("0403:6001", &["ff:ff:ff"], "ftdi_sio");
const UNKNOWN_FTDI: Made = Made("0403:f06f", &["ff:ff:ff"], "ftdi_sio");
const ARDUINO: Made = Made("2341:0043", &["02:02:01", "0a:00:00"], "cdc_acm");
const TOUCHSCREEN: Made = Made("0eef:0001", &["03:00:00"], "usbhid");
const READER: Made = Made("076b:3031", &["0b:00:00"], "");
const HUB: Made = Made("05e3:0608", &["09:00:00"], "hub");
const ALL: [&Made; 13] = [
    &KEYBOARD,
    &MOUSE,
    &STICK,
    &BAD_STICK,
    &YUBIKEY,
    &NITROKEY,
    &PRINTER,
    &FTDI,
    &UNKNOWN_FTDI,
    &ARDUINO,
    &TOUCHSCREEN,
    &READER,
    &HUB,
];

impl Made {
    fn at(&self, anchor: Option<&str>, removable: Removable) -> Device {
        let address = "1.6".parse().unwrap();
        let mut device = Device::new("1-9".parse().unwrap(), address, self.0.parse().unwrap());
        device.anchor = anchor.map(|text| text.parse::<Anchor>().unwrap());
        device.removable = removable;
        for (number, class) in self.1.iter().enumerate() {
            let name = format!("1-9:1.{number}").parse().unwrap();
            let driver = (!self.2.is_empty()).then(|| self.2.into());
            let part = |at: usize| u8::from_str_radix(&class[at..at + 2], 16).unwrap();
            let class = ClassTriple { class: part(0), subclass: part(3), protocol: part(6) };
            device.interfaces.insert(name, Interface { class, driver, authorized: true });
        }
        device
    }

    fn device(&self) -> Device {
        self.at(None, Removable::Unknown)
    }
}

fn shipped(name: &str) -> Policy {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules").join(name);
    policy_file::load_drop_in(&path).unwrap_or_else(|it| panic!("{}", it.render(false)))
}

/// What the rules say of a device: the rule's name.
fn says(policy: &Policy, device: &Device) -> Option<String> {
    policy.judge(&Candidate::alone(device)).map(|rule| rule.name().unwrap().to_owned())
}

/// The rules of a file say this of these devices, and nothing of all others.
#[track_caller]
fn assert_says(file: &str, expected: &[(&Made, &str)]) {
    let policy = shipped(file);
    for made in ALL {
        let rule = expected.iter().find(|(one, _)| std::ptr::eq(*one, made)).map(|(_, rule)| *rule);
        assert_eq!(says(&policy, &made.device()).as_deref(), rule, "{file}: {}", made.0);
    }
}

#[test]
fn security_keys_go_to_the_vault_and_keyboards_do_not() {
    let rule = "security keys";
    assert_says("security-keys.yaml", &[(&YUBIKEY, rule), (&NITROKEY, rule)]);
}

#[test]
fn sticks_go_to_quarantine_and_those_that_type_to_nobody() {
    let (stick, bad) = ("memory sticks and disks", "sticks that are keyboards as well");
    assert_says("storage-quarantine.yaml", &[(&STICK, stick), (&BAD_STICK, bad)]);
}

#[test]
fn printers_go_to_the_domain_that_prints() {
    assert_says("printers.yaml", &[(&PRINTER, "printers")]);
}

#[test]
fn serial_adapters_are_known_by_class_driver_or_id() {
    let rule = "serial adapters";
    assert_says("serial-adapters.yaml", &[(&FTDI, rule), (&UNKNOWN_FTDI, rule), (&ARDUINO, rule)]);
    // In quarantine they have no driver yet.
    let waiting = Made(FTDI.0, FTDI.1, "").device();
    assert_eq!(says(&shipped("serial-adapters.yaml"), &waiting).as_deref(), Some(rule));
}

#[test]
fn no_keyboard_and_no_mouse_leaves_a_host_whose_input_is_protected() {
    let policy = shipped("host-input.yaml");
    let protected = |made: &Made| policy.protection(&Candidate::alone(&made.device())).is_some();
    for made in ALL {
        let types = made.1.iter().any(|class| ["03:01:01", "03:01:02"].contains(class));
        assert_eq!(protected(made), types, "{}", made.0);
    }
}

#[test]
fn a_kiosk_has_what_is_in_its_case_and_not_what_customers_plug_in() {
    let policy = shipped("kiosk.yaml");
    let inside = |made: &Made, anchor| says(&policy, &made.at(Some(anchor), Removable::Fixed));
    let (port, below) = ("pci-0000:00:14.0-usb-0:1", "pci-0000:00:14.0-usb-0:2.3");
    let touch = Some("touchscreen, scanner and the like".to_owned());
    assert_eq!(inside(&TOUCHSCREEN, port), touch);
    assert_eq!(inside(&KEYBOARD, below), touch, "a scanner types");
    assert_eq!(inside(&READER, below).as_deref(), Some("card reader"));
    assert_eq!(inside(&STICK, below).as_deref(), Some("nothing else in the case"));
    assert_eq!(inside(&BAD_STICK, below).as_deref(), Some("nothing else in the case"));
    assert_eq!(inside(&HUB, "pci-0000:00:14.0-usb-0:1"), None);
    for made in ALL.into_iter().filter(|made| made.0 != HUB.0) {
        let outside = made.at(Some("pci-0000:00:14.0-usb-0:5"), Removable::Removable);
        assert_eq!(says(&policy, &outside).as_deref(), Some("what customers plug in"));
    }
}

#[test]
fn front_sockets_belong_to_whoever_sits_there() {
    let policy = shipped("front-usb-ports.yaml");
    let at = |anchor| says(&policy, &STICK.at(Some(anchor), Removable::Unknown));
    assert_eq!(at("pci-0000:00:14.0-usb-0:5").as_deref(), Some("front left"));
    assert_eq!(at("pci-0000:00:14.0-usb-0:6").as_deref(), Some("front right"));
    assert!(at("pci-0000:00:14.0-usb-0:6.2").is_some());
    assert_eq!(at("pci-0000:00:14.0-usb-0:7"), None);
}

#[test]
fn what_can_be_programmed_keeps_its_way_while_it_is() {
    const PROBE: Made = Made("2e8a:000c", &["ff:00:00", "02:02:00", "0a:00:00"], "cdc_acm");
    const BOOT: Made = Made("2e8a:0003", &["08:06:50", "ff:00:00"], "usb-storage");
    const DFU: Made = Made("1209:0001", &["fe:01:02"], "");
    let rule = "what is programmed in the workshop";
    assert_says("firmware-update.yaml", &[]);
    let policy = shipped("firmware-update.yaml");
    for made in [PROBE, BOOT, DFU] {
        assert_eq!(says(&policy, &made.device()).as_deref(), Some(rule), "{}", made.0);
    }
    let kept: Vec<_> = policy.rules().iter().map(Rule::on_identity_change).collect();
    assert_eq!(kept, [Some(Duration::from_secs(30))]);
}

#[test]
fn every_file_that_is_shipped_has_a_test_here() {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules");
    let files: BTreeSet<PathBuf> =
        fs::read_dir(rules).unwrap().map(|it| it.unwrap().path()).collect();
    for file in files.into_iter().filter(|file| file.is_file()) {
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(include_str!("shipped.rs").contains(&format!("\"{name}\"")), "{name}");
    }
}
