//! What was seen of a host, as a text that is read back.
//!
//! The writing side alone is serde's. What is written here, `read` understands.

use super::domain::{CONTROLLERS, DEVICE_MODELS, KINDS, LIVES};
use crate::model::{
    BusId, ClassTriple, Controller, Device, Guest, Observed, PortContent, Speed, Text, Use,
};
use crate::policy::{Candidate, Category, UdevNames};
use serde::Serialize;
use serde::ser::Serializer;
use std::collections::{BTreeMap, BTreeSet};

/// What is to be written of a host.
#[derive(Clone, Copy, Debug)]
pub struct Recording<'a> {
    /// What was seen.
    pub observed: &'a Observed,
    /// The devices; the hubs above them are written, too.
    pub devices: &'a BTreeSet<BusId>,
    /// Which properties, attributes and tags count, besides the properties that make a category, and
    /// those that name a device that does not name itself.
    /// `None`: all.
    pub udev: Option<&'a UdevNames>,
    /// Whether the domains are written.
    pub domains: bool,
    /// Whether serial numbers are replaced, and what dom0 does with a device is said without names.
    pub anonymous: bool,
}

/// Writes it. What a device is like in a domain is written as it is in dom0.
///
/// # Errors
///
/// None is known: the writer's interface can fail, plain values give it no cause.
pub fn write(recording: &Recording<'_>) -> Result<String, serde_yaml::Error> {
    let observed = recording.observed;
    let with_hubs: BTreeSet<BusId> =
        recording.devices.iter().flat_map(|it| it.hubs().chain([it.clone()])).collect();
    let devices: Vec<&Device> =
        with_hubs.iter().filter_map(|busid| observed.devices.get(busid)).collect();
    let masks = Masks::new(recording.anonymous, &devices);
    let shown = devices.iter().map(|device| {
        let candidate = Candidate::of(device, observed);
        (device.busid.to_string(), shown_device(&candidate, recording, &masks))
    });
    let desk = [("keyboard", observed.desk.keyboard), ("pointer", observed.desk.pointer)];
    let guests = observed.xen.guests.values().filter(|_| recording.domains);
    let guests =
        guests.filter_map(|guest| Some((guest.name.as_str().to_owned(), shown_guest(guest)?)));
    serde_yaml::to_string(&ShownHost {
        version: 1,
        desk: desk.into_iter().filter_map(|(word, is_there)| is_there.then_some(word)).collect(),
        usbback: observed.usbback.then_some(true),
        devices: Pairs(shown.collect()),
        domains: Pairs(guests.collect()),
    })
}

#[derive(Serialize)]
struct ShownHost {
    version: u8,
    desk: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usbback: Option<bool>,
    devices: Pairs<ShownDevice>,
    #[serde(skip_serializing_if = "Pairs::is_empty")]
    domains: Pairs<ShownGuest>,
}

/// A map in the order of its pairs.
struct Pairs<V>(Vec<(String, V)>);

impl<V> Pairs<V> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<V: Serialize> Serialize for Pairs<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

#[derive(Serialize)]
struct ShownDevice {
    port: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    anchor: Option<String>,
    bus_address: String,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    manufacturer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    product: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    speed: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usb_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    removable: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    interfaces: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    drivers: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorized: Option<bool>,
    #[serde(skip_serializing_if = "ShownUdev::is_empty")]
    udev: ShownUdev,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    uses: Vec<ShownUse>,
}

#[derive(Serialize)]
struct ShownUdev {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    property: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    attribute: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tag: Vec<String>,
}

impl ShownUdev {
    fn is_empty(&self) -> bool {
        self.property.is_empty() && self.attribute.is_empty() && self.tag.is_empty()
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum ShownUse {
    Word(&'static str),
    Mounted { mounted: String, at: String },
    Swap { swap: String },
    Held { held: String, by: String },
    Route { route: String },
}

#[derive(Serialize)]
struct ShownGuest {
    domid: u16,
    uuid: String,
    r#type: &'static str,
    state: &'static str,
    device_model: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    controllers: Vec<ShownController>,
}

#[derive(Serialize)]
struct ShownController {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    ports: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    in_use: Vec<u8>,
}

fn shown_device(
    candidate: &Candidate<'_>,
    recording: &Recording<'_>,
    masks: &Masks,
) -> ShownDevice {
    let device = candidate.device();
    let text = |text: &Option<Text>| text.as_ref().map(|text| masks.hide(text.as_str()));
    let drivers = candidate.drivers().into_iter().take(device.interfaces.len());
    // What the agent itself has taken from drivers would be theirs if it did not run.
    let is_noted = recording.observed.xen.notes.contains_key(&device.busid);
    let is_shut = !is_noted && device.unauthorized().next().is_some();
    let plain = ClassTriple { class: 0, subclass: 0, protocol: 0 };
    ShownDevice {
        port: device.busid.to_string(),
        anchor: device.anchor.as_ref().map(ToString::to_string),
        bus_address: device.address.to_string(),
        id: device.id.to_string(),
        manufacturer: text(&device.manufacturer),
        product: text(&device.product),
        serial: text(&device.serial),
        class: (device.class != plain).then(|| device.class.to_string()),
        speed: (device.speed != Speed::Unknown).then(|| device.speed.word()),
        usb_version: device.release.map(|release| release.to_string()),
        removable: (device.removable != crate::model::Removable::Unknown)
            .then(|| device.removable.word()),
        interfaces: device.interfaces.values().map(|it| it.class.to_string()).collect(),
        drivers: drivers.map(ToOwned::to_owned).collect(),
        authorized: is_shut.then_some(false),
        udev: shown_udev(device, recording.udev, masks),
        uses: device.uses.iter().map(|it| shown_use(it, recording.anonymous)).collect(),
    }
}

fn shown_udev(device: &Device, asked: Option<&UdevNames>, masks: &Masks) -> ShownUdev {
    let of_categories: BTreeSet<&str> =
        Category::ALL.iter().flat_map(|it| it.properties()).copied().collect();
    let named_by: Vec<_> = device.named_by().collect();
    let counts = |name: &str| {
        let is_asked = |asked: &UdevNames| asked.properties.contains(name);
        asked.is_none_or(is_asked) || of_categories.contains(name) || named_by.contains(&name)
    };
    let hide = |value: &Text| masks.hide(value.as_str());
    let facts = &device.udev;
    let tags = facts.tags.iter();
    ShownUdev {
        property: facts
            .properties
            .iter()
            .filter(|(name, _)| counts(name))
            .map(|(name, value)| (name.to_string(), hide(value)))
            .collect(),
        attribute: facts
            .attributes
            .iter()
            .filter(|(name, _)| asked.is_none_or(|asked| asked.attributes.contains(*name)))
            .map(|(name, value)| (name.to_string(), hide(value)))
            .collect(),
        tag: tags
            .filter(|tag| asked.is_none_or(|asked| asked.tags.contains(*tag)))
            .map(ToString::to_string)
            .collect(),
    }
}

fn shown_use(what: &Use, anonymous: bool) -> ShownUse {
    let text = |text: &Text| text.as_str().to_owned();
    match what {
        Use::Keyboard => ShownUse::Word("keyboard"),
        Use::Pointer => ShownUse::Word("pointer"),
        Use::Mounted { .. } if anonymous => ShownUse::Word("mounted"),
        Use::Swap { .. } if anonymous => ShownUse::Word("swap"),
        Use::Held { .. } if anonymous => ShownUse::Word("held"),
        Use::Route { .. } if anonymous => ShownUse::Word("route"),
        Use::Mounted { device, at } => ShownUse::Mounted { mounted: text(device), at: text(at) },
        Use::Swap { device } => ShownUse::Swap { swap: text(device) },
        Use::Held { device, holder } => ShownUse::Held { held: text(device), by: text(holder) },
        Use::Route { interface } => ShownUse::Route { route: text(interface) },
    }
}

/// `None` for a domain that is dead: its nodes are left over.
fn shown_guest(guest: &Guest) -> Option<ShownGuest> {
    Some(ShownGuest {
        domid: guest.domid.get(),
        uuid: guest.uuid.to_string(),
        r#type: word(&guest.kind, &KINDS)?,
        state: word(&guest.life, &LIVES)?,
        device_model: word(&guest.device_model, &DEVICE_MODELS)?,
        controllers: guest.controllers.values().filter_map(shown_controller).collect(),
    })
}

fn shown_controller(controller: &Controller) -> Option<ShownController> {
    let in_use = controller.ports.iter().filter(|(_, content)| **content != PortContent::Free);
    Some(ShownController {
        r#type: word(&controller.kind, &CONTROLLERS)?,
        version: controller.version.map(|version| version.to_string()),
        ports: controller.ports.len(),
        in_use: in_use.map(|(port, _)| port.get()).collect(),
    })
}

fn word<T: PartialEq>(value: &T, words: &[(&'static str, T)]) -> Option<&'static str> {
    words.iter().find(|(_, other)| other == value).map(|(word, _)| *word)
}

/// What stands for each serial number. Equal ones stay equal.
struct Masks(Vec<(String, String)>);

impl Masks {
    fn new(anonymous: bool, devices: &[&Device]) -> Self {
        let serials: BTreeSet<&Text> =
            devices.iter().filter(|_| anonymous).filter_map(|it| it.serial.as_ref()).collect();
        let mut masks = Vec::new();
        for (number, serial) in (1..).zip(serials) {
            let mask = format!("serial-{number}");
            masks.push((serial.as_str().to_owned(), mask.clone()));
            // As udev writes it in `ID_SERIAL`.
            masks.push((serial.as_str().replace(' ', "_"), mask));
        }
        // A serial number may be part of another.
        masks.sort_by_key(|(serial, _)| std::cmp::Reverse(serial.len()));
        masks.retain(|(serial, _)| !serial.is_empty());
        Self(masks)
    }

    fn hide(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (serial, mask) in &self.0 {
            text = text.replace(serial.as_str(), mask);
        }
        text
    }
}
