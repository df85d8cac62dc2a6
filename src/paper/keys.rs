//! The keys of hosts on paper and of tests: what each is called, what it is for, and which values it
//! takes.
//!
//! One table for all who must know, as for policies: the reader takes from it which keys there are, the
//! JSON Schema everything. How values are read is not in here.

use super::device::USES;
use super::domain::{CONTROLLERS, DEVICE_MODELS, KINDS, LIVES};
use super::expect::Guard;
use crate::model::{PortNumber, Removable, Speed};
use crate::policy::text::{Form, Key, Shape, key, must, names, schema_of};

/// What can be anything that a device says of itself.
const SAID: Form = Form::Lines;
const ID: Form = Form::Like("^[0-9A-Fa-f]{4}:[0-9A-Fa-f]{4}$");
const BUSID: Form = Form::Like("^[0-9]+-[0-9]+(\\.[0-9]+)*$");
const ANCHOR: Form = Form::Like("^[A-Za-z0-9_:.-]+-usb-0:[0-9]+(\\.[0-9]+)*$");
const ADDRESS: Form = Form::Like("^[0-9]+\\.[0-9]+$");
const CLASS: Form = Form::Like("^[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}$");
const RELEASE: Form = Form::Like("^[0-9]+\\.[0-9]+$");
const UUID: Form = Form::Like("^[0-9A-Fa-f-]{32,36}$");
const PORTS: Form = Form::Number(1, PortNumber::MAX.get() as u32);

/// The version of the form.
pub(crate) const VERSION: Key = must("version", Form::Version, "The version of this form: 1.");
/// For people.
pub(crate) const ABOUT: Key = key("about", Form::Lines, "For people. May run over lines.");
/// What there is beside USB.
pub(crate) const DESK: Key = key(
    "desk",
    Form::Each(&Form::Words(|| vec!["keyboard", "pointer"])),
    "What dom0 has besides USB to be operated with. Both, unless it is said.",
);
/// What the kernel has.
pub(crate) const USBBACK: Key =
    key("usbback", Form::Truth, "Whether dom0's kernel has usbback. `false`, unless it is said.");
/// The devices.
pub(crate) const DEVICES: Key = key(
    "devices",
    Form::Named(&Form::Map(&DEVICE_KEYS, 0)),
    "The devices, by names of your own choice.",
);
/// The domains.
pub(crate) const DOMAINS: Key = key(
    "domains",
    Form::Either(&[
        Form::List(&Form::Guest, 0),
        Form::Named(&Form::Either(&[Form::Nothing, Form::Map(&DOMAIN_KEYS, 0)])),
    ]),
    "The domains that are there: a list of names, or a map from names to domains.",
);

/// Everything at the top of a file.
pub(super) const SHEET_KEYS: [Key; 8] = [
    VERSION,
    ABOUT,
    key("policy", Form::Text, "The policy to test: a path, as seen from this file."),
    DESK,
    USBBACK,
    DEVICES,
    DOMAINS,
    key("tests", Form::List(&Form::Map(&TEST_KEYS, 0), 0), "The tests."),
];

/// A device.
pub(crate) const DEVICE_KEYS: [Key; 16] = [
    key("port", BUSID, "Where it is plugged: `1-1.4`."),
    key("anchor", ANCHOR, "Where it is plugged, counted from the PCI device."),
    key("bus_address", ADDRESS, "Bus and device number in decimal."),
    must("id", ID, "Vendor and product: `05e0:1200`."),
    key("manufacturer", SAID, "The manufacturer's name, from the device."),
    key("product", SAID, "The product's name, from the device."),
    key("serial", SAID, "The serial number, from the device."),
    key("class", CLASS, "The class of the device itself: `09:00:01`."),
    key(
        "speed",
        Form::Words(|| Speed::KNOWN.map(Speed::word).to_vec()),
        "The speed at which it runs.",
    ),
    key("usb_version", RELEASE, "The version of USB that it was made for: `2.0`."),
    key(
        "removable",
        Form::Words(|| Removable::ALL.map(Removable::word).to_vec()),
        "Whether its port can be reached from outside, as far as the firmware says so.",
    ),
    key("interfaces", Form::Each(&CLASS), "The class of each of its interfaces: `03:01:01`."),
    key(
        "drivers",
        Form::Each(&Form::Text),
        "dom0's drivers: the first has the first interface, and so on; the last has the rest.",
    ),
    key("authorized", Form::Truth, "`false`: no driver may have it, as in quarantine."),
    key("udev", Form::Map(&UDEV_KEYS, 0), "What udev and sysfs say of it."),
    key("uses", Form::Each(&ONE_USE), "What dom0 does with it."),
];
const UDEV_KEYS: [Key; 3] = [
    key("property", Form::Named(&SAID), "Properties, and their values."),
    key("attribute", Form::Named(&SAID), "Attributes in sysfs."),
    key("tag", Form::Each(&Form::Tag), "Its tags."),
];
/// A thing that dom0 does with a device.
pub(crate) const ONE_USE: Form =
    Form::Either(&[Form::Words(|| USES.to_vec()), Form::Map(&USE_KEYS, 1)]);
const USE_KEYS: [Key; 6] = [
    key("mounted", Form::Text, "A disk that is mounted."),
    key("at", Form::Text, "Where it is mounted."),
    key("swap", Form::Text, "A disk that is swapped to."),
    key("held", Form::Text, "A disk that something else is made of."),
    key("by", Form::Text, "What is made of it: `dm-0`."),
    key("route", Form::Text, "A network interface that carries a route."),
];

/// A domain, without its name.
pub(crate) const DOMAIN_KEYS: [Key; 6] = [
    key("domid", Form::Number(1, 32_751), "Its number."),
    key("uuid", UUID, "Its UUID."),
    key("type", Form::Words(|| words(&KINDS)), "How it is virtualised."),
    key("state", Form::Words(|| words(&LIVES)), "Where it is in its life."),
    key(
        "device_model",
        Form::Words(|| words(&DEVICE_MODELS)),
        "Its QEMU, and whether that serves `qusb`.",
    ),
    key(
        "controllers",
        Form::List(&Form::Map(&CONTROLLER_KEYS, 0), 0),
        "Its USB controllers, counted from 0.",
    ),
];
const CONTROLLER_KEYS: [Key; 4] = [
    key("type", Form::Words(|| words(&CONTROLLERS)), "Who serves it."),
    key("version", Form::Number(1, 2), "The version of USB that it offers."),
    key("ports", PORTS, "How many ports it has."),
    key("in_use", Form::Each(&PORTS), "The ports that somebody has."),
];

const TEST_KEYS: [Key; 9] = [
    must("name", Form::Text, "What it is called."),
    ABOUT,
    key(
        "plugged",
        Form::Each(&Form::Text),
        "Which of the devices are there; all, unless it is said.",
    ),
    key(
        "domains",
        Form::Each(&Form::Text),
        "Which of the domains are there; all, unless it is said.",
    ),
    DESK,
    USBBACK,
    key(
        "uses",
        Form::Named(&Form::Each(&ONE_USE)),
        "What dom0 does with a device besides what the device says.",
    ),
    key(
        "orders",
        Form::Named(&Form::Either(&[Form::Words(|| ORDERS.to_vec()), Form::Map(&ORDER_KEYS, 0)])),
        "What a person has ordered.",
    ),
    must(
        "expect",
        Form::Named(&Form::Either(&[Form::Text, Form::Choice(&EXPECTED_KEYS, &ENDS)])),
        "What is expected of devices: a domain, `dom0`, or a map.",
    ),
];
/// What a person can order besides a domain.
pub(super) const ORDERS: [&str; 2] = ["detach", "hold"];
const ORDER_KEYS: [Key; 2] = [
    must("attach", Form::Guest, "It goes to this domain."),
    key("force", Form::Truth, "Whether what guards can waive is waived."),
];
const EXPECTED_KEYS: [Key; 9] = [
    key("attach", Form::Guest, "It goes to this domain, or is there."),
    key(
        "keep",
        Form::Words(|| vec!["dom0"]),
        "It stays in dom0 because a rule or a person says so.",
    ),
    key("block", Form::True, "It is blocked."),
    key("nothing", Form::True, "No rule matches."),
    key(
        "guard",
        Form::Words(|| Guard::ALL.map(Guard::word).to_vec()),
        "It stays in dom0, whatever its rule says.",
    ),
    key("waits", Form::True, "It stays in dom0 until a domain runs."),
    key("stuck", Form::Guest, "It cannot go to this domain."),
    key("rule", Form::Text, "This rule decides."),
    key("port", PORTS, "It gets this port."),
];
/// The keys that say where a device ends: one of them there must be.
pub(super) const ENDS: [&str; 7] =
    ["attach", "keep", "block", "nothing", "guard", "waits", "stuck"];

pub(super) const SHEET: Shape = Shape { what: "a host on paper", keys: &names(&SHEET_KEYS) };
pub(super) const DEVICE: Shape = Shape { what: "a device", keys: &names(&DEVICE_KEYS) };
pub(super) const UDEV: Shape = Shape { what: "`udev`", keys: &names(&UDEV_KEYS) };
pub(super) const USE: Shape = Shape { what: "a use", keys: &names(&USE_KEYS) };
pub(super) const DOMAIN: Shape = Shape { what: "a domain", keys: &names(&DOMAIN_KEYS) };
pub(super) const CONTROLLER: Shape = Shape { what: "a controller", keys: &names(&CONTROLLER_KEYS) };
pub(super) const TEST: Shape = Shape { what: "a test", keys: &names(&TEST_KEYS) };
pub(super) const EXPECTED: Shape = Shape { what: "an expectation", keys: &names(&EXPECTED_KEYS) };
pub(super) const ORDER: Shape = Shape { what: "an order", keys: &names(&ORDER_KEYS) };

fn words<T>(words: &[(&'static str, T)]) -> Vec<&'static str> {
    words.iter().map(|(word, _)| *word).collect()
}

/// The JSON Schema of files of tests and of recordings in this form, for editors (draft 7).
pub fn json_schema() -> serde_json::Value {
    schema_of("Tests of a policy, or a host on paper, of pvusb-agent", &SHEET_KEYS)
}
