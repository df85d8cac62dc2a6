//! What is plugged in, and what happens in sysfs and in udevd when that changes. Whether a driver
//! wants an interface is decided elsewhere (see [`kernel`](super::kernel)).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::device::{Child, Interface, UsbDevice};
use super::properties;
use super::sysfs::{self, Sysfs};
use super::udevd::{Record, Udevd};

/// A machine's USB buses.
#[derive(Debug)]
pub(super) struct State {
    /// What the kernel shows of them.
    pub(super) sysfs: Sysfs,
    /// What udevd says of them.
    pub(super) udevd: Udevd,
    /// PCI addresses of the controllers, by bus.
    pub(super) hosts: BTreeMap<u8, String>,
    /// The devices, by busid.
    pub(super) plugged: BTreeMap<String, Plugged>,
    /// Whether drivers may have new interfaces: the buses' `interface_authorized_default`.
    pub(super) authorized_default: bool,
    /// How many devices were ever plugged in.
    incarnations: u64,
}

/// A device that is plugged in.
#[derive(Debug)]
pub(super) struct Plugged {
    /// What it is.
    pub(super) device: UsbDevice,
    /// Below /sys.
    path: String,
    /// What udevd sets: known when it is plugged in, in the database when udevd is done.
    id_path: String,
    /// Which of all devices that were ever plugged in.
    pub(super) incarnation: u64,
    /// Whether udevd is done with it.
    pub(super) initialized: bool,
    /// The interfaces' drivers, by the interfaces' names.
    pub(super) drivers: BTreeMap<String, Option<String>>,
    /// The interfaces that no driver may have.
    unauthorized: BTreeSet<String>,
}

impl State {
    /// A machine without any bus, whose files are below `root`.
    pub(super) fn new(root: &Path) -> Self {
        Self {
            sysfs: Sysfs::new(root),
            udevd: Udevd::new(root),
            hosts: BTreeMap::new(),
            plugged: BTreeMap::new(),
            authorized_default: true,
            incarnations: 0,
        }
    }

    /// Adds a device to sysfs. Its interfaces have no drivers yet, and udevd has not seen it.
    pub(super) fn add(&mut self, device: &UsbDevice) {
        let busid = &device.busid;
        assert!(!self.plugged.contains_key(busid), "{busid} is taken");
        let pci = self.hosts.get(&device.bus()).unwrap_or_else(|| panic!("no bus for {busid}"));
        let parent = match device.parent() {
            None => format!("devices/pci{}/{pci}", &pci[..pci.len().min(7)]),
            Some(hub) => {
                let hub =
                    self.plugged.get(&hub).unwrap_or_else(|| panic!("no hub {hub} for {busid}"));
                hub.path.clone()
            }
        };
        let id_path = match (&device.id_path, device.parent()) {
            (Some(id_path), _) => id_path.clone(),
            (None, None) => format!("pci-{pci}"),
            (None, Some(_)) => format!("pci-{pci}-usb-0:{}", device.port_path()),
        };
        let path = format!("{parent}/{busid}");
        self.sysfs.add_device(&path, device);
        let names = device.interfaces.iter().map(|interface| device.interface_name(interface));
        let drivers = names.map(|name| (name, None)).collect();
        let device = device.clone();
        self.incarnations += 1;
        let incarnation = self.incarnations;
        let plugged = Plugged {
            device,
            path,
            id_path,
            incarnation,
            initialized: false,
            drivers,
            unauthorized: BTreeSet::new(),
        };
        let interfaces: Vec<String> = plugged.drivers.keys().cloned().collect();
        self.plugged.insert(plugged.device.busid.clone(), plugged);
        for interface in interfaces {
            self.authorize(&interface, self.authorized_default);
        }
    }

    /// udevd processes a device: its records are written and its events sent.
    pub(super) fn udev_done(&mut self, busid: &str) {
        self.plugged.get_mut(busid).expect("it is plugged in").initialized = true;
        let mut records = vec![(self.device_record(busid), true)];
        records.extend(self.interface_records(busid));
        for (record, has_driver) in records {
            self.udevd.store(&record);
            self.udevd.send("add", &record);
            if has_driver {
                self.udevd.send("bind", &record);
            }
        }
        for record in self.child_records(busid) {
            self.udevd.store(&record);
            self.udevd.send("add", &record);
        }
    }

    /// Adds an input device at `parent`, which is below /sys and has nothing to do with USB.
    pub(super) fn add_child_at(&mut self, parent: &str, child: &Child) {
        let path = format!("{parent}/{}", child.below);
        self.sysfs.add_child(&path, child);
        let record = child_record(&path, child);
        self.udevd.store(&record);
        self.udevd.send("add", &record);
    }

    /// Removes it again.
    pub(super) fn remove_child_at(&mut self, parent: &str, child: &Child) {
        let path = format!("{parent}/{}", child.below);
        self.sysfs.remove_child(&path, child);
        let record = child_record(&path, child);
        self.udevd.forget(&record);
        self.udevd.send("remove", &record);
    }

    /// Removes a device, after all that is plugged into it, and sends the events.
    pub(super) fn remove(&mut self, busid: &str) {
        let prefix = match busid.strip_prefix("usb") {
            Some(bus) => format!("{bus}-"),
            None => format!("{busid}."),
        };
        let is_below = |other: &&String| other.starts_with(&prefix);
        let mut below: Vec<String> = self.plugged.keys().filter(is_below).cloned().collect();
        // A device comes after its hub in this order, and goes before it.
        while let Some(child) = below.pop() {
            self.remove_one(&child);
        }
        self.remove_one(busid);
    }

    fn remove_one(&mut self, busid: &str) {
        let mut records = self.interface_records(busid);
        records.push((self.device_record(busid), true));
        for name in self.plugged[busid].drivers.keys().cloned().collect::<Vec<_>>() {
            self.change_driver(&name, None);
        }
        let plugged = self.plugged.remove(busid).expect("it is plugged in");
        self.sysfs.remove_device(&plugged.path, &plugged.device);
        for (record, has_driver) in records {
            self.udevd.forget(&record);
            if has_driver {
                self.udevd.send("unbind", &record);
            }
            self.udevd.send("remove", &record);
        }
    }

    /// The device that an interface belongs to, and the interface's driver.
    pub(super) fn find(&self, interface: &str) -> Option<(&Plugged, &Option<String>)> {
        self.plugged.values().find_map(|p| p.drivers.get(interface).map(|driver| (p, driver)))
    }

    /// The driver that would bind to an interface by itself.
    pub(super) fn own_driver(&self, interface: &str) -> Option<&'static str> {
        let (plugged, _) = self.find(interface)?;
        plugged.interface(interface).driver
    }

    /// Says whether drivers may have an interface. Without the permission it has none; with it none
    /// is looked for.
    pub(super) fn authorize(&mut self, interface: &str, allowed: bool) {
        if !allowed {
            self.set_driver(interface, None);
        }
        let Some((plugged, _)) = self.find(interface) else { return };
        let (busid, dir) = (plugged.device.busid.clone(), format!("{}/{interface}", plugged.path));
        self.sysfs.attribute(&dir, "authorized", if allowed { "1\n" } else { "0\n" });
        let plugged = self.plugged.get_mut(&busid).expect("it was just found");
        if allowed {
            plugged.unauthorized.remove(interface);
        } else {
            plugged.unauthorized.insert(interface.to_owned());
        }
    }

    /// Whether drivers may have an interface.
    pub(super) fn is_authorized(&self, interface: &str) -> bool {
        self.find(interface).is_some_and(|(plugged, _)| !plugged.unauthorized.contains(interface))
    }

    /// Changes an interface's driver and sends the events. One that is not authorized gets none
    /// (`drivers/usb/core/driver.c: usb_driver_claim_interface, usb_probe_interface`).
    pub(super) fn set_driver(&mut self, interface: &str, driver: Option<&str>) {
        if driver.is_some() && !self.is_authorized(interface) {
            return;
        }
        let Some((plugged, old)) = self.find(interface) else { return };
        let (busid, old) = (plugged.device.busid.clone(), old.clone());
        if old.as_deref() == driver {
            return;
        }
        self.change_driver(interface, driver);
        if !self.plugged[&busid].initialized {
            return;
        }
        let record = self.interface_record(interface);
        if old.is_some() {
            self.udevd.send("unbind", &record);
        }
        if driver.is_some() {
            self.udevd.send("bind", &record);
        }
    }

    /// Changes an interface's driver in sysfs. What its own driver has made goes and comes with it.
    fn change_driver(&mut self, interface: &str, driver: Option<&str>) {
        let (plugged, old) = self.find(interface).expect("it exists");
        let own = plugged.interface(interface).driver;
        let makes = plugged.interface(interface).number == 0 && own.is_some();
        let (had, has) = (makes && old.as_deref() == own, makes && driver == own);
        let busid = plugged.device.busid.clone();
        if had && !has {
            for record in self.child_records(&busid) {
                self.udevd.forget(&record);
                self.udevd.send("remove", &record);
            }
            let plugged = &self.plugged[&busid];
            for child in &plugged.device.children {
                self.sysfs.remove_child(&plugged.child_path(child), child);
            }
        }
        self.link_driver(&busid, interface, driver);
        if has && !had {
            let plugged = &self.plugged[&busid];
            for child in &plugged.device.children {
                self.sysfs.add_child(&plugged.child_path(child), child);
            }
            if plugged.initialized {
                for record in self.child_records(&busid) {
                    self.udevd.store(&record);
                    self.udevd.send("add", &record);
                }
            }
        }
    }

    fn link_driver(&mut self, busid: &str, interface: &str, driver: Option<&str>) {
        let plugged = self.plugged.get_mut(busid).expect("it was just found");
        let old = plugged.drivers.insert(interface.to_owned(), driver.map(str::to_owned)).flatten();
        self.sysfs.set_driver(
            &format!("{}/{interface}", plugged.path),
            &plugged.device,
            plugged.interface(interface),
            (old.as_deref(), driver),
        );
    }

    /// A device as udevd knows it.
    pub(super) fn device_record(&self, busid: &str) -> Record {
        let plugged = self.plugged.get(busid).unwrap_or_else(|| panic!("no device {busid}"));
        Record {
            id: format!("c189:{}", plugged.device.minor()),
            subsystem: "usb",
            devtype: "usb_device",
            devpath: format!("/{}", plugged.path),
            variables: sysfs::device_variables(&plugged.device),
            properties: properties::of(&plugged.device, &plugged.id_path),
            tags: plugged.device.tags.clone(),
        }
    }

    /// The records of a device's interfaces, and whether each has a driver.
    fn interface_records(&self, busid: &str) -> Vec<(Record, bool)> {
        let plugged = self.plugged.get(busid).unwrap_or_else(|| panic!("no device {busid}"));
        let drivers = plugged.drivers.iter();
        drivers.map(|(name, driver)| (self.interface_record(name), driver.is_some())).collect()
    }

    /// The records of what the device's drivers have made.
    fn child_records(&self, busid: &str) -> Vec<Record> {
        let plugged = &self.plugged[busid];
        let first = plugged.device.interfaces.first();
        let made = first.is_some_and(|first| {
            let name = plugged.device.interface_name(first);
            plugged.drivers[&name].as_deref() == first.driver
        });
        let children = plugged.device.children.iter().filter(|_| made);
        children.map(|child| child_record(&plugged.child_path(child), child)).collect()
    }

    fn interface_record(&self, name: &str) -> Record {
        let (plugged, driver) = self.find(name).expect("it exists");
        let interface = plugged.interface(name);
        let suffix = name.split_once(':').map_or("", |(_, suffix)| suffix);
        Record {
            id: format!("+usb:{name}"),
            subsystem: "usb",
            devtype: "usb_interface",
            devpath: format!("/{}/{name}", plugged.path),
            variables: sysfs::interface_variables(&plugged.device, interface, driver.as_deref()),
            properties: vec![("ID_PATH".to_owned(), format!("{}:{suffix}", plugged.id_path))],
            tags: Vec::new(),
        }
    }
}

fn child_record(path: &str, child: &Child) -> Record {
    let (major, minor) = child.number;
    Record {
        id: match child.subsystem {
            "block" => format!("b{major}:{minor}"),
            other => format!("+{other}:{}", child.name),
        },
        subsystem: child.subsystem,
        devtype: "",
        devpath: format!("/{path}"),
        variables: sysfs::child_variables(child),
        properties: child.properties.clone(),
        tags: Vec::new(),
    }
}

impl Plugged {
    /// Where something is that the driver of its first interface has made.
    fn child_path(&self, child: &Child) -> String {
        let first = self.device.interfaces.first().expect("a driver has an interface");
        format!("{}/{}/{}", self.path, self.device.interface_name(first), child.below)
    }

    fn interface(&self, name: &str) -> &Interface {
        let named = |interface: &&Interface| self.device.interface_name(interface) == name;
        self.device.interfaces.iter().find(named).expect("it exists")
    }
}
