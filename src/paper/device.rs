//! Devices on paper.

use super::Written;
use super::keys::{DEVICE, UDEV, USE};
use super::read::Pen;
use crate::model::{
    Anchor, BusAddress, BusId, ClassTriple, Device, Interface, InterfaceName, Removable, Speed,
    Text, UdevFacts, UsbId, UsbRelease, Use,
};
use crate::policy::text::{
    Code, Fields, Finding, Node, Span, Value, is_attribute, is_plain_name, list, wrong_shape,
};
use crate::policy::{ClassPattern, IdPattern, ReleasePattern};
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

/// What dom0 can do with a device, in a word.
pub(super) const USES: [&str; 6] = ["mounted", "swap", "held", "route", "keyboard", "pointer"];

/// Stands for no driver where the one of a later interface is to be said.
pub(crate) const NO_DRIVER: &str = "none";

/// The most interfaces that the kernel takes from a configuration (`USB_MAXINTERFACES`,
/// `include/linux/usb.h`).
pub(super) const MAX_INTERFACES: usize = 32;

/// The bus where devices are plugged of which nobody says where. The kernel counts from 1.
const NOWHERE: u16 = 0;

/// The kernel gives a root hub the first number of its bus (`drivers/usb/core/hcd.c:
/// register_root_hub`).
const FIRST_NUMBER: u8 = 2;
const LAST_NUMBER: u8 = 127;

/// A device as it was read, before it has got a place.
struct Draft {
    name: Box<str>,
    span: Span,
    port: Option<(BusId, Span)>,
    address: Option<(BusAddress, Span)>,
    id: UsbId,
    classes: Vec<ClassTriple>,
    drivers: Vec<Box<str>>,
    authorized: bool,
    /// Everything that does not depend on the place.
    facts: Facts,
}

#[derive(Default)]
struct Facts {
    class: Option<ClassTriple>,
    speed: Option<Speed>,
    release: Option<UsbRelease>,
    removable: Option<Removable>,
    manufacturer: Option<Text>,
    product: Option<Text>,
    serial: Option<Text>,
    anchor: Option<Anchor>,
    udev: UdevFacts,
    uses: BTreeSet<Use>,
}

impl Pen<'_, '_> {
    /// The devices of a host, by name.
    pub(crate) fn devices(&mut self, node: &Node) -> Vec<Written> {
        let Value::Map(entries) = &node.value else {
            self.reader.report.add(wrong_shape(node, "a map from names to devices"));
            return Vec::new();
        };
        let mut drafts = Vec::new();
        for entry in entries {
            if self.is_name(entry, "device")
                && let Some(fields) = self.reader.fields(&entry.node, &DEVICE)
                && let Some(draft) = self.draft(&entry.key, &fields)
            {
                drafts.push(draft);
            }
        }
        self.placed(drafts)
    }

    /// A device that is at a port of its own and in no map of devices. Its address is the first of its
    /// bus.
    pub(crate) fn device(&mut self, fields: &Fields<'_>) -> Option<Device> {
        self.reader.required(fields, "port");
        let draft = self.draft("", fields)?;
        let (port, _) = draft.port.clone()?;
        let address = BusAddress { bus: port.bus(), device: FIRST_NUMBER };
        draft.at(port, address)
    }

    /// `None` if anything is wrong with it, which was then told.
    fn draft(&mut self, name: &str, fields: &Fields<'_>) -> Option<Draft> {
        let before = self.reader.report.found();
        let id = self.reader.required(fields, "id").and_then(|node| self.id(node));
        let port = fields.get("port").and_then(|node| Some((self.port(node)?, node.span)));
        let address = fields.get("bus_address").and_then(|node| {
            Some((self.parsed(node, "a bus address", Code::BadBusAddress)?, node.span))
        });
        let classes = fields.get("interfaces").and_then(|node| self.interfaces(node));
        let drivers = fields.get("drivers").and_then(|node| self.drivers(node));
        let authorized = fields.get("authorized").and_then(|node| self.reader.truth(node));
        let facts = self.facts(fields);
        let (classes, drivers) = (classes.unwrap_or_default(), drivers.unwrap_or_default());
        if let Some(node) = fields.get("drivers").filter(|_| drivers.len() > classes.len()) {
            let message = "there are more drivers than interfaces: each has one at least";
            self.wrong(Code::BadFact, node, message);
        }
        let is_right = self.reader.report.found() == before;
        is_right.then_some(Draft {
            name: name.into(),
            span: fields.span,
            port,
            address,
            id: id?,
            classes,
            drivers,
            authorized: authorized.unwrap_or(true),
            facts,
        })
    }

    fn facts(&mut self, fields: &Fields<'_>) -> Facts {
        let mut text = |key| fields.get(key).and_then(|node| self.shown(node));
        Facts {
            manufacturer: text("manufacturer"),
            product: text("product"),
            serial: text("serial"),
            class: fields.get("class").and_then(|node| self.class(node)),
            speed: fields.get("speed").and_then(|node| self.speed(node)),
            release: fields.get("usb_version").and_then(|node| self.release(node)),
            removable: fields.get("removable").and_then(|node| self.removable(node)),
            anchor: fields
                .get("anchor")
                .and_then(|node| self.parsed(node, "an anchored USB port", Code::BadPort)),
            udev: fields.get("udev").map(|node| self.udev(node)).unwrap_or_default(),
            uses: fields.get("uses").and_then(|node| self.uses(node)).unwrap_or_default(),
        }
    }

    fn id(&mut self, node: &Node) -> Option<UsbId> {
        if let Some(pattern) = said_as::<IdPattern>(node)
            && said_as::<UsbId>(node).is_none()
        {
            let message = format!("a device has one id, and `{pattern}` stands for many");
            self.wrong(Code::BadId, node, message);
            return None;
        }
        self.parsed(node, "a USB id", Code::BadId)
    }

    fn port(&mut self, node: &Node) -> Option<BusId> {
        if said_as::<Anchor>(node).is_some() {
            let message = "this is where the port is counted from the PCI device";
            let finding = Finding::new(Code::BadPort, node.span, message);
            self.reader.report.add(finding.help("write it as `anchor`"));
            return None;
        }
        self.parsed(node, "a USB port", Code::BadPort)
    }

    fn class(&mut self, node: &Node) -> Option<ClassTriple> {
        let pattern: ClassPattern =
            self.parsed(node, "a class such as `03:01:01`", Code::BadClass)?;
        let triple = exact(pattern);
        if triple.is_none() {
            let message = format!("a device has one class, and `{pattern}` stands for many");
            let finding = Finding::new(Code::BadClass, node.span, message);
            let nearest = pattern.to_string().replace('*', "00");
            self.reader.report.add(finding.help(format!("did you mean `{nearest}`?")));
        }
        triple
    }

    fn interfaces(&mut self, node: &Node) -> Option<Vec<ClassTriple>> {
        let classes = self.each(node, Self::class)?;
        if classes.len() > MAX_INTERFACES {
            let message = format!("a device has at most {MAX_INTERFACES} interfaces");
            self.wrong(Code::BadFact, node, message);
            return None;
        }
        Some(classes)
    }

    fn drivers(&mut self, node: &Node) -> Option<Vec<Box<str>>> {
        self.each(node, |pen, item| {
            let text = pen.reader.text(item, "the name of a driver")?;
            if text.is_empty() {
                pen.wrong(Code::BadFact, item, "the name of a driver is not empty");
                return None;
            }
            Some(text.into())
        })
    }

    fn speed(&mut self, node: &Node) -> Option<Speed> {
        let words = Speed::KNOWN.map(Speed::word);
        let word = self.reader.word(node, "a speed", &words, Code::BadSpeed)?;
        Speed::KNOWN.into_iter().find(|speed| speed.word() == word)
    }

    fn release(&mut self, node: &Node) -> Option<UsbRelease> {
        let ReleasePattern { major, minor } =
            self.parsed(node, "a version of USB", Code::BadRelease)?;
        if minor.is_none() {
            let message = format!("a device has one version, and `{major}.*` stands for many");
            self.wrong(Code::BadRelease, node, message);
        }
        Some(UsbRelease { major, minor: minor? })
    }

    fn removable(&mut self, node: &Node) -> Option<Removable> {
        let words = Removable::ALL.map(Removable::word);
        Removable::from_word(self.reader.word(node, "a word", &words, Code::BadRemovable)?)
    }

    fn udev(&mut self, node: &Node) -> UdevFacts {
        let Some(fields) = self.reader.fields(node, &UDEV) else { return UdevFacts::default() };
        let mut named = |key, what, is_name| {
            let node = fields.get(key);
            node.map(|node| self.named_texts(node, what, is_name)).unwrap_or_default()
        };
        UdevFacts {
            properties: named("property", "properties", is_plain_name as fn(&str) -> bool),
            attributes: named("attribute", "attributes", is_attribute),
            tags: fields
                .get("tag")
                .and_then(|node| self.each(node, Self::tag))
                .unwrap_or_default()
                .into_iter()
                .collect(),
        }
    }

    fn named_texts(
        &mut self,
        node: &Node,
        what: &str,
        is_name: fn(&str) -> bool,
    ) -> BTreeMap<Box<str>, Text> {
        let Value::Map(entries) = &node.value else {
            let expected = format!("a map from names of {what} to texts");
            self.reader.report.add(wrong_shape(node, &expected));
            return BTreeMap::new();
        };
        let mut pairs = BTreeMap::new();
        for entry in entries {
            if !is_name(&entry.key) {
                let key = Text::from(&*entry.key);
                let message = format!("`{key}` cannot be the name of one of the {what}");
                self.reader.report.add(Finding::new(Code::BadUdevName, entry.key_span, message));
            }
            pairs.extend(self.shown(&entry.node).map(|text| (entry.key.as_str().into(), text)));
        }
        pairs
    }

    fn tag(&mut self, node: &Node) -> Option<Box<str>> {
        let text = self.reader.text(node, "the name of a tag")?;
        if is_plain_name(text) && !text.contains(':') {
            return Some(text.into());
        }
        let message = format!("`{}` cannot be the name of a tag", Text::from(text));
        self.wrong(Code::BadUdevName, node, message);
        None
    }

    /// What dom0 does with a device.
    pub(super) fn uses(&mut self, node: &Node) -> Option<BTreeSet<Use>> {
        Some(self.each(node, Self::one_use)?.into_iter().collect())
    }

    pub(crate) fn one_use(&mut self, node: &Node) -> Option<Use> {
        if !matches!(node.value, Value::Map(_)) {
            let word = self.reader.word(node, "a use", &USES, Code::BadFact)?;
            let (disk, interface) = (|| Text::from("/dev/sdx1"), || Text::from("eth9"));
            return Some(match word {
                "mounted" => Use::Mounted { device: disk(), at: "/mnt".into() },
                "swap" => Use::Swap { device: disk() },
                "held" => Use::Held { device: disk(), holder: "dm-9".into() },
                "route" => Use::Route { interface: interface() },
                "keyboard" => Use::Keyboard,
                _ => Use::Pointer,
            });
        }
        let fields = self.reader.fields(node, &USE)?;
        let keys: Vec<&str> = fields.entries.iter().map(|entry| entry.key.as_str()).collect();
        let mut text = |key: &str| fields.get(key).and_then(|node| self.shown(node));
        match keys.as_slice() {
            ["mounted", "at"] | ["at", "mounted"] => {
                Some(Use::Mounted { device: text("mounted")?, at: text("at")? })
            }
            ["swap"] => Some(Use::Swap { device: text("swap")? }),
            ["held", "by"] | ["by", "held"] => {
                Some(Use::Held { device: text("held")?, holder: text("by")? })
            }
            ["route"] => Some(Use::Route { interface: text("route")? }),
            _ => {
                // Keys that are not known were reported.
                if keys.iter().all(|key| USE.keys.contains(key)) {
                    let forms =
                        ["{mounted: …, at: …}", "{swap: …}", "{held: …, by: …}", "{route: …}"];
                    let message = format!("a use is one of {}", list(&forms));
                    let finding = Finding::new(Code::BadFact, node.span, message);
                    let help = format!("or a word alone: {}", list(&USES));
                    self.reader.report.add(finding.help(help));
                }
                None
            }
        }
    }

    /// Gives each device a place: its own, or one of the places that nobody has.
    fn placed(&mut self, drafts: Vec<Draft>) -> Vec<Written> {
        let mut ports: BTreeMap<BusId, Span> = BTreeMap::new();
        let mut addresses: BTreeMap<BusAddress, Span> = BTreeMap::new();
        for draft in &drafts {
            if let Some((port, span)) = &draft.port {
                self.claim(&mut ports, port, *span);
            }
            if let Some((address, span)) = &draft.address {
                self.claim(&mut addresses, address, *span);
                let elsewhere = draft.port.as_ref().filter(|(port, _)| port.bus() != address.bus);
                if let Some((port, _)) = elsewhere {
                    let message = format!("{port} is on bus {}, and this is not", port.bus());
                    self.reader.report.add(Finding::new(Code::BadFact, *span, message));
                }
            }
        }
        let mut written = Vec::new();
        for draft in drafts {
            let bus = draft.address.as_ref().map_or(NOWHERE, |(address, _)| address.bus);
            let own = draft.port.as_ref().map(|(port, _)| port.clone());
            let port = own.or_else(|| free_port(bus, &ports));
            let number = |port: &BusId| {
                let own = draft.address.as_ref().map(|(address, _)| *address);
                own.or_else(|| free_address(port.bus(), &addresses))
            };
            let place = port.and_then(|port| Some((number(&port)?, port)));
            let Some((address, port)) = place else {
                let message = "there are more than 126 devices on one bus";
                self.reader.report.add(Finding::new(Code::TooMany, draft.span, message));
                return written;
            };
            ports.insert(port.clone(), draft.span);
            addresses.insert(address, draft.span);
            let name = draft.name.clone();
            written.extend(draft.at(port, address).map(|device| Written { name, device }));
        }
        written
    }

    fn claim<K: Ord + Clone + std::fmt::Display>(
        &mut self,
        taken: &mut BTreeMap<K, Span>,
        place: &K,
        span: Span,
    ) {
        if let Some(first) = taken.insert(place.clone(), span) {
            let message = format!("two devices are at {place}");
            let finding = Finding::new(Code::SamePlace, span, message);
            self.reader.report.add(finding.also("the other one", first));
        }
    }
}

impl Draft {
    /// The device at its place. `None` never happens: interfaces of a port have names.
    fn at(self, port: BusId, address: BusAddress) -> Option<Device> {
        let mut interfaces = BTreeMap::new();
        for (number, class) in self.classes.iter().enumerate() {
            let name: InterfaceName = format!("{port}:1.{number}").parse().ok()?;
            // As many drivers as are written: the last one has the rest of the interfaces.
            let driver = self.drivers.get(number).or(self.drivers.last());
            let driver = driver.filter(|driver| ***driver != *NO_DRIVER).cloned();
            let authorized = self.authorized;
            interfaces.insert(name, Interface { class: *class, driver, authorized });
        }
        let Facts { class, speed, release, removable, .. } = self.facts;
        let Facts { manufacturer, product, serial, anchor, udev, uses, .. } = self.facts;
        let plain = Device::new(port, address, self.id);
        Some(Device {
            class: class.unwrap_or(plain.class),
            speed: speed.unwrap_or(plain.speed),
            release,
            removable: removable.unwrap_or_default(),
            manufacturer,
            product,
            serial,
            anchor,
            initialized: Some(1),
            configured: true,
            interfaces,
            uses,
            udev: Box::new(udev),
            ..plain
        })
    }
}

/// What a text can be read as; for what is meant by a wrong one.
fn said_as<T: FromStr>(node: &Node) -> Option<T> {
    match &node.value {
        Value::Text(text) => text.parse().ok(),
        Value::Nothing | Value::List(_) | Value::Map(_) => None,
    }
}

fn exact(pattern: ClassPattern) -> Option<ClassTriple> {
    let ClassPattern { class, subclass, protocol } = pattern;
    Some(ClassTriple { class: class?, subclass: subclass?, protocol: protocol? })
}

/// A port of the bus that nobody has. On a bus that is there, the highest numbers come first: no hub has
/// so many ports.
fn free_port(bus: u16, taken: &BTreeMap<BusId, Span>) -> Option<BusId> {
    let numbers: Box<dyn Iterator<Item = u8>> =
        if bus == NOWHERE { Box::new(1..=u8::MAX) } else { Box::new((1..=u8::MAX).rev()) };
    let mut ports = numbers.filter_map(|number| format!("{bus}-{number}").parse::<BusId>().ok());
    ports.find(|port| !taken.contains_key(port))
}

fn free_address(bus: u16, taken: &BTreeMap<BusAddress, Span>) -> Option<BusAddress> {
    let mut all = (FIRST_NUMBER..=LAST_NUMBER).map(|device| BusAddress { bus, device });
    all.find(|address| !taken.contains_key(address))
}
