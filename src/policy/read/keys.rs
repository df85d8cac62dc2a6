//! The keys of the language: what each is called, what it is for, and which values it takes.
//!
//! One table for all who must know: the reader takes from it which keys there are, the lint of values
//! which of them are texts, and the JSON Schema everything. How values are read is not in here. Hosts on
//! paper and scenarios have tables of the same kind.

use super::Shape;
use crate::model::{ControllerId, PortNumber, Removable, Speed};
use crate::policy::KeepLast;
use crate::policy::defaults::{Flapping, Reload, StalePorts};
use crate::policy::matcher::Category;
use crate::policy::wish::KindWish;

/// A key that a map may have.
#[derive(Clone, Copy)]
pub(crate) struct Key {
    /// How it is written.
    pub(in crate::policy) name: &'static str,
    /// Which values it takes.
    pub(in crate::policy) form: Form,
    /// What it is for: a sentence.
    pub(in crate::policy) about: &'static str,
    /// Whether it must be there.
    pub(in crate::policy) must: bool,
}

/// Which values a key takes.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    /// The version of the language.
    Version,
    /// A text of one line: a name.
    Text,
    /// A text of any number of lines.
    Lines,
    /// `true` or `false`.
    Truth,
    /// `true` alone.
    True,
    /// One of these words.
    Words(fn() -> Vec<&'static str>),
    /// A whole number from the first to the second.
    Number(u32, u32),
    /// A duration with its unit.
    Duration,
    /// This word and a duration: `keep 30s`.
    For(&'static str),
    /// A USB id or a pattern of ids.
    Id,
    /// A USB port or a pattern of ports.
    Port,
    /// Bus and device number.
    BusAddress,
    /// A class triple or a pattern.
    Class,
    /// A version of USB or a pattern.
    Release,
    /// A text that is like this (a regular expression).
    Like(&'static str),
    /// Nothing at all: the key alone.
    Nothing,
    /// A text, a pattern of texts or a regular expression.
    Pattern,
    /// The name of a tag of udev's.
    Tag,
    /// The name of a group of devices.
    Group,
    /// What a domain is called by, or an alias.
    Guest,
    /// A match.
    Match,
    /// A map with these keys, and at least so many of them.
    Map(&'static [Key], usize),
    /// A map with these keys, exactly one of the second ones among them.
    Choice(&'static [Key], &'static [&'static str]),
    /// A map from names of one's own choice.
    Named(&'static Form),
    /// A list of at least so many.
    List(&'static Form, usize),
    /// One, or a list of at least one.
    Some(&'static Form),
    /// One, or a list of any number, none among them.
    Each(&'static Form),
    /// One of these.
    Either(&'static [Form]),
}

/// A key that may be left out.
pub(crate) const fn key(name: &'static str, form: Form, about: &'static str) -> Key {
    Key { name, form, about, must: false }
}

/// A key that must be there.
pub(crate) const fn must(name: &'static str, form: Form, about: &'static str) -> Key {
    Key { name, form, about, must: true }
}

/// The keys of one map and those of another.
pub(crate) const fn joined<const A: usize, const B: usize, const N: usize>(
    first: &[Key; A],
    second: &[Key; B],
) -> [Key; N] {
    assert!(A + B == N, "there is a place for each");
    let mut all = [first[0]; N];
    let mut at = 1;
    while at < N {
        all[at] = if at < A { first[at] } else { second[at - A] };
        at += 1;
    }
    all
}

/// The names of the keys, for the shape of a map.
pub(crate) const fn names<const N: usize>(keys: &[Key; N]) -> [&'static str; N] {
    let mut names = [""; N];
    let mut at = 0;
    while at < N {
        names[at] = keys[at].name;
        at += 1;
    }
    names
}

const VERSION: Key = must("version", Form::Version, "The version of this language: 1.");
const DOMAINS: Key = key(
    "domains",
    Form::Named(&Form::Either(&[Form::Some(&Form::Guest), Form::Map(&ALIAS_KEYS, 0)])),
    "Aliases: other names for domains, to be used in rules.",
);
const DEVICES: Key = key(
    "devices",
    Form::Named(&Form::Some(&Form::Match)),
    "Groups of devices that have a name, for rules to ask for with `device`.",
);
const PROTECT: Key = key(
    "protect",
    Form::List(&Form::Match, 0),
    "Devices that never leave dom0, whatever the rules say.",
);
const RULES_ABOUT: &str = "The rules. The first one that matches a device decides.";
const RULES: Form = Form::List(&Form::Choice(&RULE_KEYS, &ACTIONS), 0);

/// The main file.
pub(in crate::policy) const POLICY_KEYS: [Key; 6] = [
    VERSION,
    key(
        "defaults",
        Form::Map(&DEFAULTS_KEYS, 0),
        "What holds for all rules. All of it may be left out.",
    ),
    DOMAINS,
    DEVICES,
    PROTECT,
    must("rules", RULES, RULES_ABOUT),
];
/// A file that is dropped in beside it.
pub(in crate::policy) const DROP_IN_KEYS: [Key; 5] =
    [VERSION, DOMAINS, DEVICES, PROTECT, key("rules", RULES, RULES_ABOUT)];
const REMEMBERED_KEYS: [Key; 2] = [VERSION, must("rules", RULES, RULES_ABOUT)];

const DEFAULTS_KEYS: [Key; 7] = [
    key(
        "controller",
        Form::Map(&CONTROLLER_KEYS, 0),
        "What a controller is like that is made when a domain has none with a free port.",
    ),
    key(
        "settle",
        Form::Duration,
        "How long to wait after udev has finished with a device. Up to 60s.",
    ),
    key(
        "keep_last",
        Form::List(&Form::Words(|| KeepLast::WORDS.to_vec()), 0),
        "Of which kind dom0 keeps the last one that it has, whatever the rules say.",
    ),
    key(
        "stale_ports",
        Form::Words(|| StalePorts::ALL.map(StalePorts::word).to_vec()),
        "What becomes of a port that names a place where nothing is plugged.",
    ),
    key(
        "flapping",
        Form::Map(&FLAPPING_KEYS, 0),
        "When a device counts as flapping, and is held down.",
    ),
    key(
        "quarantine",
        Form::Truth,
        "Whether dom0's drivers get a new device only when it is decided that it stays in dom0.",
    ),
    key(
        "reload",
        Form::Words(|| Reload::ALL.map(Reload::word).to_vec()),
        "When the policy's files are read anew.",
    ),
];
const FLAPPING_KEYS: [Key; 3] = [
    key(
        "plugs",
        Form::Number(0, Flapping::MAX_PLUGS),
        "More plugs than this are too many; 0: none ever are.",
    ),
    key("within", Form::Duration, "The time within which they count."),
    key("pause", Form::Duration, "How long the device must stay plugged then."),
];
const PORTS: Form = Form::Number(1, PortNumber::MAX.get() as u32);
const KIND: Key = key(
    "type",
    Form::Words(|| KindWish::ALL.map(KindWish::word).to_vec()),
    "Who serves it: `qusb` (the domain's QEMU), `pv` (the kernel's usbback) or `auto`.",
);
const OFFERED: Key =
    key("version", Form::Number(1, 2), "The version of USB that it offers to the guest.");
const CONTROLLER_KEYS: [Key; 3] = [KIND, OFFERED, key("ports", PORTS, "How many ports it has.")];
const WISH_KEYS: [Key; 4] = [
    KIND,
    OFFERED,
    key("ports", PORTS, "How many ports a new controller gets."),
    key(
        "index",
        Form::Number(0, ControllerId::LAST.get()),
        "The controller's number in its domain.",
    ),
];
const WISH: Key =
    key("controller", Form::Map(&WISH_KEYS, 0), "Which of the domain's controllers is meant.");
const ALIAS_KEYS: [Key; 2] =
    [must("names", Form::Some(&Form::Guest), "The domains, the first that runs."), WISH];
const TARGET_KEYS: [Key; 3] = [
    must("domain", Form::Guest, "The domain."),
    WISH,
    key("port", PORTS, "The port of the controller."),
];

/// A rule.
pub(in crate::policy) const RULE_KEYS: [Key; 12] = [
    key("name", Form::Text, "What the rule is called in logs."),
    key("description", Form::Lines, "What people say about it. May run over lines."),
    key("enabled", Form::Truth, "`false`: as if the rule were not there."),
    must("match", Form::Match, "Which devices: all of these keys must hold."),
    key("when", Form::Map(&WHEN_KEYS, 1), "The rule counts only while it is so."),
    key(
        "attach",
        Form::Some(&Form::Either(&[Form::Guest, Form::Map(&TARGET_KEYS, 0)])),
        "The domain that the device belongs to; of a list, the first that runs.",
    ),
    key("keep", Form::Words(|| vec!["dom0"]), "The device stays in dom0."),
    key("block", Form::True, "Nobody has the device: neither dom0's drivers nor a domain."),
    key(
        "limit",
        Form::Map(&FLAPPING_KEYS, 0),
        "When its devices count as flapping, instead of `defaults.flapping`.",
    ),
    key("wait", Form::Map(&WAIT_KEYS, 0), "How long to wait, instead of as `defaults` say."),
    key(
        "on_identity_change",
        Form::For("keep"),
        "So long after an unplug, whatever comes into the same port goes to the same domain.",
    ),
    key(
        "on_unplug",
        Form::Either(&[Form::Words(|| vec![CLEAN]), Form::For("hold")]),
        "Whether the place of a device is held for it after it was pulled, and how long.",
    ),
];
/// What is done at an unplug if nothing else is said.
pub(super) const CLEAN: &str = "clean";
/// What a rule can do: one of these keys it must have.
pub(in crate::policy) const ACTIONS: [&str; 3] = ["attach", "keep", "block"];

const WHEN_KEYS: [Key; 2] = [
    key("running", Form::Some(&Form::Guest), "One of these domains runs."),
    key("absent", Form::Some(&Form::Guest), "None of these is there, not even while it is built."),
];
const WAIT_KEYS: [Key; 2] = [
    key("settle", Form::Duration, "How long to wait after udev has finished with the device."),
    key(
        "attach",
        Form::Duration,
        "How long a domain of the list may take until the next one is tried.",
    ),
];

/// A match, wherever it stands.
pub(in crate::policy) const MATCH_KEYS: [Key; 19] = [
    key("id", Form::Some(&Form::Id), "Vendor and product, as lsusb shows them."),
    key("port", Form::Some(&Form::Port), "Where it is plugged; with `.*`, below that hub."),
    key(
        "bus_address",
        Form::Some(&Form::BusAddress),
        "Bus and device number in decimal, as lsusb counts. Changes on every plug.",
    ),
    key("serial", Form::Some(&Form::Pattern), "The serial number, from the device."),
    key("manufacturer", Form::Some(&Form::Pattern), "The manufacturer's name, from the device."),
    key("product", Form::Some(&Form::Pattern), "The product's name, from the device."),
    key("class", Form::Some(&Form::Class), "The class of the device itself."),
    key(
        "interface",
        Form::Either(&[Form::Some(&Form::Class), Form::Map(&INTERFACE_KEYS, 1)]),
        "The classes of its interfaces.",
    ),
    key(
        "category",
        Form::Some(&Form::Words(|| Category::ALL.map(Category::word).to_vec())),
        "A kind of device, by its classes and udev's properties.",
    ),
    key(
        "speed",
        Form::Some(&Form::Words(|| Speed::KNOWN.map(Speed::word).to_vec())),
        "The speed at which it runs.",
    ),
    key("usb_version", Form::Some(&Form::Release), "The version of USB that it was made for."),
    key(
        "removable",
        Form::Some(&Form::Words(|| Removable::ALL.map(Removable::word).to_vec())),
        "Whether its port can be reached from outside, as far as the firmware says so.",
    ),
    key("driver", Form::Some(&Form::Pattern), "A driver that dom0 has for it."),
    key("udev", Form::Map(&UDEV_KEYS, 1), "What udev and sysfs say of it."),
    key("behind", Form::Some(&Form::Match), "A hub on the way to it matches."),
    key("device", Form::Some(&Form::Group), "It is of a group of `devices`."),
    key("not", Form::Some(&Form::Match), "It matches none of these."),
    key("any", Form::List(&Form::Match, 1), "It matches one of these."),
    key("all", Form::List(&Form::Match, 1), "It matches all of these."),
];
const CLASSES: Form = Form::Some(&Form::Class);
const INTERFACE_KEYS: [Key; 4] = [
    key("any", CLASSES, "One interface at least is one of these."),
    key("all", CLASSES, "For each of these there is an interface."),
    key("only", CLASSES, "There is an interface, and each is one of these."),
    key("none", CLASSES, "No interface is one of these."),
];
const UDEV_KEYS: [Key; 3] = [
    key("property", Form::Named(&Form::Some(&Form::Pattern)), "Properties, and their values."),
    key("attribute", Form::Named(&Form::Some(&Form::Pattern)), "Attributes in sysfs."),
    key("tag", Form::Some(&Form::Tag), "A tag that it has."),
];

pub(super) const POLICY: Shape = Shape { what: "a policy", keys: &names(&POLICY_KEYS) };
pub(super) const DROP_IN: Shape = Shape { what: "a drop-in", keys: &names(&DROP_IN_KEYS) };
pub(super) const REMEMBERED: Shape =
    Shape { what: "a file of remembered rules", keys: &names(&REMEMBERED_KEYS) };
pub(super) const DEFAULTS: Shape = Shape { what: "`defaults`", keys: &names(&DEFAULTS_KEYS) };
pub(super) const FLAPPING: Shape = Shape { what: "`flapping`", keys: &names(&FLAPPING_KEYS) };
pub(super) const CONTROLLER: Shape = Shape { what: "`controller`", keys: &names(&CONTROLLER_KEYS) };
pub(super) const RULE: Shape = Shape { what: "a rule", keys: &names(&RULE_KEYS) };
pub(super) const LIMIT: Shape = Shape { what: "`limit`", keys: &names(&FLAPPING_KEYS) };
pub(super) const WAIT: Shape = Shape { what: "`wait`", keys: &names(&WAIT_KEYS) };
pub(super) const WHEN: Shape = Shape { what: "`when`", keys: &names(&WHEN_KEYS) };
pub(super) const TARGET: Shape = Shape { what: "`attach`", keys: &names(&TARGET_KEYS) };
pub(super) const ALIAS: Shape = Shape { what: "an alias of domains", keys: &names(&ALIAS_KEYS) };
pub(super) const CONTROLLER_OF_TARGET: Shape =
    Shape { what: "`controller`", keys: &names(&WISH_KEYS) };
const MATCH_NAMES: [&str; 19] = names(&MATCH_KEYS);
pub(super) const MATCH: Shape = Shape { what: "`match`", keys: &MATCH_NAMES };
pub(super) const PROTECTED: Shape = Shape { what: "an entry of `protect`", keys: &MATCH_NAMES };
pub(super) const GROUPED: Shape = Shape { what: "a match of `devices`", keys: &MATCH_NAMES };
pub(super) const BEHIND: Shape = Shape { what: "`behind`", keys: &MATCH_NAMES };
pub(super) const NOT: Shape = Shape { what: "`not`", keys: &MATCH_NAMES };
pub(super) const ANY: Shape = Shape { what: "an entry of `any`", keys: &MATCH_NAMES };
pub(super) const ALL: Shape = Shape { what: "an entry of `all`", keys: &MATCH_NAMES };
pub(super) const INTERFACE: Shape = Shape { what: "`interface`", keys: &names(&INTERFACE_KEYS) };
pub(super) const UDEV: Shape = Shape { what: "`udev`", keys: &names(&UDEV_KEYS) };
