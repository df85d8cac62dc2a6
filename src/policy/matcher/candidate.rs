//! A device as it is judged: with what stands above it and what dom0 did with it.

use crate::model::{Device, Devices, Note, Observed};
use std::collections::BTreeSet;

/// Drivers that have a device for somebody else: a program, a domain.
const NOT_OF_DOM0: [&str; 2] = ["usbfs", "usbback"];

static NO_DEVICES: Devices = Devices::new();

/// A device that is to be judged.
///
/// A rule that matched when the device was in dom0 must match as long as it is in a domain, or the
/// agent would pull it out again. So nothing counts that changes when a device leaves dom0, and of the
/// drivers, which do, those count that were noted when it left.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    device: &'a Device,
    devices: &'a Devices,
    note: Option<&'a Note>,
}

impl<'a> Candidate<'a> {
    /// A device among all that are plugged, with what the agent noted of it.
    pub fn new(device: &'a Device, devices: &'a Devices, note: Option<&'a Note>) -> Self {
        let note = note.filter(|note| note.plug.may_become(&device.plug()));
        Self { device, devices, note }
    }

    /// A device among all that was seen.
    pub fn of(device: &'a Device, observed: &'a Observed) -> Self {
        Self::new(device, &observed.devices, observed.xen.notes.get(&device.busid))
    }

    /// A device of which alone something is known: nothing stands above it.
    pub fn alone(device: &'a Device) -> Self {
        Self::new(device, &NO_DEVICES, None)
    }

    /// The device.
    pub fn device(&self) -> &'a Device {
        self.device
    }

    /// The hubs on the way to it, the nearest first. Root hubs are not devices.
    pub fn hubs(&self) -> impl Iterator<Item = Self> + use<'a> {
        let devices = self.devices;
        let above = self.device.busid.hubs().filter_map(|busid| devices.get(&busid));
        above.map(|device| Self { device, devices, note: None })
    }

    /// The drivers that dom0 has for it, or had when the agent took it.
    pub fn drivers(&self) -> BTreeSet<&'a str> {
        let noted = self.note.and_then(|note| note.drivers.as_ref());
        if let Some(noted) = noted {
            return noted.iter().map(AsRef::as_ref).collect();
        }
        let bound = self.device.interfaces.values().filter_map(|i| i.driver.as_deref());
        bound.filter(|driver| !NOT_OF_DOM0.contains(driver)).collect()
    }
}
