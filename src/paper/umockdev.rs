//! Devices out of recordings of `umockdev-record`, which bug reports and other test suites hold.
//!
//! A recording is a list of blocks, one for each directory of sysfs: `P: ` its path, `E: ` a property of
//! udev's, `A: ` an attribute, `L: ` a link. A device is recorded with all that is above it, and often
//! without its interfaces: of these udev's `ID_USB_INTERFACES` tells the classes.

use super::device::MAX_INTERFACES;
use super::{Host, Written};
use crate::model::{
    BusId, ClassTriple, Device, Interface, InterfaceName, Removable, Speed, Text, UdevFacts, UsbId,
    UsbRelease, Use,
};
use crate::policy::text::{Code, Finding, Report, Span, is_attribute, is_plain_name};
use std::collections::BTreeMap;
use std::str::FromStr;

/// How a recording begins, as no YAML of ours does.
const BEGIN: &str = "P: /";

/// Whether `text` is a recording.
pub(super) fn is_one(text: &str) -> bool {
    text.starts_with(BEGIN)
}

/// Reads the devices of a recording.
pub(super) fn host(text: &str, report: &mut Report<'_>) -> Host {
    let blocks = blocks(text, report);
    let mut devices: BTreeMap<&str, Device> = BTreeMap::new();
    for block in blocks.iter().filter(|block| block.is("usb_device")) {
        // Root hubs have names of another form.
        let Ok(busid) = block.name().parse() else { continue };
        match block.device(busid) {
            Ok(device) if devices.values().any(|other| is_same_place(other, &device)) => {
                let message =
                    format!("another device is at {} or {}, too", device.busid, device.address);
                report.add(Finding::new(Code::SamePlace, block.span, message));
            }
            Ok(device) => drop(devices.insert(block.path, device)),
            Err(what) => {
                let message = format!("this device has no {what}, or a strange one");
                report.add(Finding::new(Code::BadFact, block.span, message));
            }
        }
    }
    for block in &blocks {
        if block.is("usb_interface")
            && let Some((above, _)) = block.path.rsplit_once('/')
            && let Some(device) = devices.get_mut(above)
        {
            let own = block.interface().filter(|(name, _)| *name.busid() == device.busid);
            device.interfaces.extend(own.filter(|_| device.interfaces.len() < MAX_INTERFACES));
        }
        // The nearest one: a hub has what is behind it below itself, too.
        let mut above = devices.iter_mut().filter(|(path, _)| block.is_below(path));
        if let Some((_, device)) = above.by_ref().max_by_key(|(path, _)| path.len()) {
            device.uses.extend(block.uses());
        }
    }
    let devices = devices.into_values().map(|mut device| {
        add_missing_interfaces(&mut device);
        Written { name: device.busid.to_string().into(), device }
    });
    Host { devices: devices.collect(), ..Host::default() }
}

fn is_same_place(one: &Device, other: &Device) -> bool {
    one.busid == other.busid || one.address == other.address
}

/// One directory of sysfs.
struct Block<'t> {
    path: &'t str,
    span: Span,
    properties: BTreeMap<&'t str, &'t str>,
    attributes: BTreeMap<&'t str, String>,
}

fn blocks<'t>(text: &'t str, report: &mut Report<'_>) -> Vec<Block<'t>> {
    let mut blocks: Vec<Block<'t>> = Vec::new();
    let mut start = 0;
    for line in text.split('\n') {
        let span = Span { start, end: start + line.len() };
        start = span.end + 1;
        let line = line.trim_end_matches('\r');
        let (kind, rest) = line.split_once(": ").unwrap_or((line, ""));
        let pair = rest.split_once('=');
        match (kind, pair, blocks.last_mut()) {
            ("P", ..) => blocks.push(Block {
                path: rest,
                span,
                properties: BTreeMap::new(),
                attributes: BTreeMap::new(),
            }),
            ("E", Some((name, value)), Some(block)) => {
                block.properties.insert(name, value);
            }
            ("A", Some((name, value)), Some(block)) => {
                block.attributes.insert(name, unescaped(value));
            }
            // Nodes, links, binary attributes; an empty line between blocks; comments.
            ("N" | "S" | "L" | "H" | "", ..) => {}
            _ if line.starts_with('#') => {}
            _ => {
                let message = "this is no line of a recording by umockdev";
                report.add(Finding::new(Code::Syntax, span, message));
            }
        }
    }
    blocks
}

/// Line ends and backslashes of attributes are escaped.
fn unescaped(value: &str) -> String {
    let parts = value.split("\\\\").map(|part| part.replace("\\n", "\n"));
    parts.collect::<Vec<_>>().join("\\")
}

impl Block<'_> {
    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    fn is(&self, kind: &str) -> bool {
        self.properties.get("DEVTYPE") == Some(&kind)
    }

    fn is_below(&self, path: &str) -> bool {
        self.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
    }

    fn attribute<T: FromStr>(&self, name: &'static str) -> Result<T, &'static str> {
        let value = self.attributes.get(name).map(|value| value.trim());
        value.and_then(|value| value.parse().ok()).ok_or(name)
    }

    fn hex(&self, name: &'static str) -> Result<u8, &'static str> {
        let value = self.attributes.get(name).map(|value| value.trim());
        value.and_then(|value| u8::from_str_radix(value, 16).ok()).ok_or(name)
    }

    fn text(&self, name: &str) -> Option<Text> {
        self.attributes.get(name).map(|value| Text::new(value.as_bytes()))
    }

    /// The device, as far as its own directory tells; or what is missing.
    fn device(&self, busid: BusId) -> Result<Device, &'static str> {
        let number: String = self.attribute("devnum")?;
        let address = format!("{}.{number}", busid.bus()).parse().map_err(|_| "devnum")?;
        let [vendor, product] =
            ["idVendor", "idProduct"].map(|name| self.attribute::<String>(name));
        let id: UsbId = format!("{}:{}", vendor?, product?).parse().map_err(|_| "idProduct")?;
        let word = |name: &str| self.attributes.get(name).map(String::as_str);
        Ok(Device {
            class: ClassTriple {
                class: self.hex("bDeviceClass")?,
                subclass: self.hex("bDeviceSubClass")?,
                protocol: self.hex("bDeviceProtocol")?,
            },
            speed: word("speed").map_or(Speed::Unknown, Speed::from_sysfs),
            release: word("version").and_then(UsbRelease::from_sysfs),
            removable: word("removable")
                .and_then(|word| Removable::from_word(word.trim()))
                .unwrap_or_default(),
            manufacturer: self.text("manufacturer"),
            product: self.text("product"),
            serial: self.text("serial"),
            anchor: self.properties.get("ID_PATH").and_then(|path| path.parse().ok()),
            initialized: Some(1),
            configured: true,
            udev: Box::new(self.facts()),
            ..Device::new(busid, address, id)
        })
    }

    fn facts(&self) -> UdevFacts {
        let properties = self.properties.iter().filter(|(name, _)| is_plain_name(name));
        let attributes = self.attributes.iter().filter(|(name, _)| is_attribute(name));
        let tags = self.properties.get("TAGS").copied().unwrap_or_default();
        UdevFacts {
            properties: properties
                .take(UdevFacts::MAX)
                .map(|(name, value)| ((*name).into(), Text::from(*value)))
                .collect(),
            tags: tags
                .split(':')
                .filter(|tag| is_plain_name(tag))
                .take(UdevFacts::MAX)
                .map(Into::into)
                .collect(),
            attributes: attributes
                .map(|(name, value)| ((*name).into(), Text::new(value.as_bytes())))
                .collect(),
        }
    }

    fn interface(&self) -> Option<(InterfaceName, Interface)> {
        let class = ClassTriple {
            class: self.hex("bInterfaceClass").ok()?,
            subclass: self.hex("bInterfaceSubClass").ok()?,
            protocol: self.hex("bInterfaceProtocol").ok()?,
        };
        let driver = self.properties.get("DRIVER").filter(|driver| !driver.is_empty());
        let driver = driver.map(|driver| (*driver).into());
        Some((self.name().parse().ok()?, Interface { class, driver, authorized: true }))
    }

    /// What its input devices say (`src/host/usb/inputs.rs` asks for the same of a live one).
    fn uses(&self) -> impl Iterator<Item = Use> {
        let says = |name| self.properties.get(name) == Some(&"1");
        let keyboard = says("ID_INPUT_KEYBOARD").then_some(Use::Keyboard);
        let pointer = says("ID_INPUT_MOUSE") || says("ID_INPUT_TOUCHPAD");
        keyboard.into_iter().chain(pointer.then_some(Use::Pointer))
    }
}

/// `:030101:030000:` (systemd, `udev-builtin-usb_id.c: dev_if_packed_info`), each class once.
fn add_missing_interfaces(device: &mut Device) {
    let packed = device.udev.property("ID_USB_INTERFACES").unwrap_or_default();
    let byte = |text: &str, at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    let triples = packed.split(':').filter_map(|it| {
        Some(ClassTriple { class: byte(it, 0)?, subclass: byte(it, 2)?, protocol: byte(it, 4)? })
    });
    let there: Vec<_> = device.interfaces.values().map(|interface| interface.class).collect();
    let missing: Vec<_> = triples.filter(|class| !there.contains(class)).collect();
    let busid = device.busid.clone();
    let mut names =
        (0..u8::MAX).filter_map(|n| format!("{busid}:1.{n}").parse::<InterfaceName>().ok());
    for class in missing {
        if device.interfaces.len() < MAX_INTERFACES
            && let Some(name) = names.find(|name| !device.interfaces.contains_key(name))
        {
            device.interfaces.insert(name, Interface { class, driver: None, authorized: true });
        }
    }
}
