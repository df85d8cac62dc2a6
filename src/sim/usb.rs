//! The kernel's and udev's side of the made-up host: what is plugged, and who has its interfaces.

use super::op::PlugSpec;
use crate::model::{
    BusAddress, BusId, Device, Devices, Interface, InterfaceName, Place, UdevFacts, Use,
};
use std::collections::{BTreeMap, BTreeSet};

/// Microseconds since the world began.
pub(super) type Micros = u64;

/// Tells plugs apart for the world itself, whatever the device says.
pub(super) type PlugNo = u64;

pub(super) const USBBACK: &str = "usbback";
pub(super) const USBFS: &str = "usbfs";

/// All USB devices of the host.
#[derive(Clone, Debug, Default)]
pub(super) struct Usb {
    pub(super) sockets: BTreeMap<BusId, Socket>,
    /// Whether usbback is loaded.
    pub(super) usbback: bool,
    /// Whether no driver may have the interfaces of a new device (`interface_authorized_default`).
    pub(super) held_back: bool,
    /// The devices that usbback has been told of (`usbstub.c: usbstub_show_portids`).
    pub(super) port_ids: BTreeMap<BusId, Place>,
    addresses: BTreeMap<u16, u8>,
    plugs: PlugNo,
}

/// A plugged device.
#[derive(Clone, Debug)]
pub(super) struct Socket {
    /// What sysfs and udev's database say of it now.
    pub(super) device: Device,
    pub(super) spec: PlugSpec,
    pub(super) plug_no: PlugNo,
    /// When udev had finished with it and whoever listens there had heard it.
    pub(super) known_at: Option<Micros>,
    /// When a driver of it last changed.
    pub(super) rebound_at: Micros,
    /// Until when the kernel is busy with it.
    pub(super) hangs_until: Micros,
    /// What dom0 has begun to do with it: disks and routes.
    in_use: BTreeSet<Use>,
    /// Since when it does what it does.
    pub(super) used_since: Micros,
}

impl Usb {
    pub(super) fn new(usbback: bool, held_back: bool) -> Self {
        Self { usbback, held_back, ..Self::default() }
    }

    /// The host has booted anew, and nothing is found yet. Gives what was plugged.
    pub(super) fn boot(&mut self) -> impl Iterator<Item = Socket> + use<> {
        let fresh = Self { plugs: self.plugs, ..Self::new(self.usbback, self.held_back) };
        std::mem::replace(self, fresh).sockets.into_values()
    }

    /// A device appears. It has neither configuration nor an entry in udev's database yet. Behind a hub
    /// without its driver nothing appears.
    pub(super) fn plug(&mut self, spec: &PlugSpec) -> Option<PlugNo> {
        let busid = &spec.device.busid;
        let parent = parent(busid);
        let works =
            |socket: &Socket| socket.spec.hub() && socket.device.unauthorized().next().is_none();
        let has_parent = parent.is_none_or(|hub| self.sockets.get(&hub).is_some_and(works));
        if self.sockets.contains_key(busid) || !has_parent {
            return None;
        }
        self.plugs += 1;
        let number = self.addresses.entry(busid.bus()).or_insert(1);
        *number = *number % 127 + 1;
        let mut udev = Box::<UdevFacts>::default();
        udev.attributes.clone_from(&spec.device.udev.attributes);
        // The kernel has it of every device. Something that does not change.
        let power = format!("{}mA", 100 * spec.device.interfaces.len());
        udev.attributes.entry("bMaxPower".into()).or_insert(power.as_str().into());
        let device = Device {
            address: BusAddress { bus: busid.bus(), device: *number },
            anchor: None,
            initialized: None,
            configured: false,
            interfaces: BTreeMap::new(),
            uses: BTreeSet::new(),
            udev,
            ..spec.device.clone()
        };
        let socket = Socket {
            device,
            spec: spec.clone(),
            plug_no: self.plugs,
            known_at: None,
            rebound_at: 0,
            hangs_until: 0,
            in_use: BTreeSet::new(),
            used_since: 0,
        };
        self.sockets.insert(busid.clone(), socket);
        Some(self.plugs)
    }

    /// Everything at and below this place goes. Gives what went, the farthest first.
    pub(super) fn unplug(&mut self, busid: &BusId) -> Vec<Socket> {
        let mut gone: Vec<BusId> = self
            .sockets
            .keys()
            .filter(|other| *other == busid || other.is_below(busid))
            .cloned()
            .collect();
        gone.sort_by_key(|busid| std::cmp::Reverse(busid.ports().len()));
        gone.iter().filter_map(|busid| self.sockets.remove(busid)).collect()
    }

    pub(super) fn get(&self, busid: &BusId, plug_no: PlugNo) -> Option<&Socket> {
        self.sockets.get(busid).filter(|socket| socket.plug_no == plug_no)
    }

    pub(super) fn get_mut(&mut self, busid: &BusId, plug_no: PlugNo) -> Option<&mut Socket> {
        self.sockets.get_mut(busid).filter(|socket| socket.plug_no == plug_no)
    }

    /// All devices, as a look would see them.
    pub(super) fn devices(&self) -> Devices {
        let devices = self.sockets.values().map(|socket| &socket.device);
        devices.map(|device| (device.busid.clone(), device.clone())).collect()
    }

    pub(super) fn plug_no(&self, busid: &BusId) -> Option<PlugNo> {
        self.sockets.get(busid).map(|socket| socket.plug_no)
    }

    pub(super) fn interface_mut(&mut self, name: &InterfaceName) -> Option<&mut Interface> {
        self.sockets.get_mut(name.busid())?.device.interfaces.get_mut(name)
    }

    /// The driver that dom0 has for an interface.
    pub(super) fn native(&self, name: &InterfaceName) -> Option<Box<str>> {
        self.sockets.get(name.busid())?.native(name)
    }
}

impl Socket {
    /// What a reading shows that asks for these attributes.
    pub(super) fn read(&self, asked: &BTreeSet<Box<str>>) -> Device {
        let mut device = self.device.clone();
        device.udev.attributes.retain(|name, _| asked.contains(name));
        device
    }

    /// The kernel has chosen a configuration: the interfaces are there, without drivers. On a bus that
    /// holds new devices back, no driver may have them yet.
    pub(super) fn configure(&mut self, held_back: bool) {
        self.device.configured = true;
        let interfaces = self.spec.device.interfaces.iter();
        let born =
            |it: &Interface| Interface { class: it.class, driver: None, authorized: !held_back };
        self.device.interfaces =
            interfaces.map(|(name, interface)| (name.clone(), born(interface))).collect();
    }

    /// udev has finished with it.
    pub(super) fn initialize(&mut self, now: Micros) {
        self.device.initialized = Some(now);
        self.device.anchor = self.spec.device.anchor.clone();
        let attributes = std::mem::take(&mut self.device.udev.attributes);
        *self.device.udev = UdevFacts { attributes, ..(*self.spec.device.udev).clone() };
        self.apply_rules();
        self.refresh();
    }

    /// What udev's own rules say of a device, if nothing else is written of it.
    fn apply_rules(&mut self) {
        let facts = &mut self.device.udev;
        facts.properties.entry("ID_BUS".into()).or_insert("usb".into());
        if let Some(serial) = &self.device.serial {
            facts.properties.entry("ID_SERIAL_SHORT".into()).or_insert(serial.clone());
        }
        if self.spec.inputs().next().is_some() {
            facts.tags.insert("seat".into());
        }
    }

    /// dom0 begins to use it, if its own drivers have it. Tells whether it does.
    pub(super) fn begin_use(&mut self, what: Use, now: Micros) -> bool {
        let is_new = self.is_driven() && self.in_use.insert(what);
        if is_new {
            self.used_since = now;
            self.refresh();
        }
        is_new
    }

    /// dom0 uses it no longer. Tells whether it did.
    pub(super) fn end_use(&mut self, what: &Use) -> bool {
        let was = self.in_use.remove(what);
        self.refresh();
        was
    }

    /// What dom0 does with it, after a driver or udev's word of it has changed. A disk whose driver
    /// is gone is no disk any more.
    pub(super) fn refresh(&mut self) {
        let is_driven = self.is_driven();
        if !is_driven {
            self.in_use.clear();
        }
        let mut uses = self.in_use.clone();
        let is_seen = is_driven && self.device.initialized.is_some();
        if is_seen {
            uses.extend(self.spec.inputs().cloned());
        }
        self.device.uses = uses;
    }

    /// Whether dom0's own driver has its first interface, the one that matters.
    fn is_driven(&self) -> bool {
        let first = self.device.interfaces.iter().next();
        first.is_some_and(|(name, interface)| {
            interface.driver.is_some() && interface.driver == self.native(name)
        })
    }

    pub(super) fn native(&self, name: &InterfaceName) -> Option<Box<str>> {
        self.spec.device.interfaces.get(name)?.driver.clone()
    }

    /// The device as it is when dom0's drivers have it.
    pub(super) fn in_dom0(&self) -> Device {
        let mut device = self.device.clone();
        for (name, interface) in &mut device.interfaces {
            interface.driver = self.native(name);
        }
        device
    }

    /// Whether this driver is one of those that dom0 has for its interfaces.
    pub(super) fn is_native(&self, driver: &str) -> bool {
        let mut natives = self.spec.device.interfaces.values();
        natives.any(|interface| interface.driver.as_deref() == Some(driver))
    }

    pub(super) fn is_on(&self, driver: &str) -> bool {
        self.device.bound_to(driver).next().is_some()
    }
}

/// The hub that something plugged here hangs on; `None` for a root hub.
pub(super) fn parent(busid: &BusId) -> Option<BusId> {
    let text = busid.to_string();
    text.rsplit_once('.').and_then(|(parent, _)| parent.parse().ok())
}
