//! Reads the plugged devices, each time afresh.
//!
//! This file gathers; what the bytes mean is in [`super::attributes`]. Nothing is kept between two
//! calls: libudev remembers attributes per device object, so no such object outlives a call.

use super::attributes::{self, Attributes, RawDevice, RawInterface, RawUdev};
use super::children::Class;
use super::error::{Error, errno_of};
use super::{inputs, sysfs, uses};
use crate::model::{BusId, Desk, Device, Devices, InterfaceName, Use};
use nix::errno::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// Where the kernel lists USB devices and interfaces (`Documentation/ABI/stable/sysfs-bus-usb`).
const DEVICES: &str = "/sys/bus/usb/devices";
/// The `devnum` of a device that is being reset, as when QEMU lets go of it: it has lost its number and
/// gets the same one again (`drivers/usb/core/hub.c: hub_port_finish_reset, hub_set_address`).
const IN_RESET: &[u8] = b"0";
/// Below which `sys` and `proc` are.
const ROOT: &str = "/";
/// The directory that is there as long as usbback is loaded (`libxl_usb.c: usbback_is_loaded`).
const USBBACK: &str = "/sys/bus/usb/drivers/usbback";

/// Reads USB devices from sysfs and from udev's database.
///
/// A read may block for as long as the kernel holds the lock of a device, which it does while a
/// driver probes or resets it (`drivers/usb/core/sysfs.c: usb_lock_device_interruptible`). So this
/// is made to be used on another thread than the one that must not wait, and with
/// [`Self::plugged`] and [`Self::device`] one thread for each device will do.
#[derive(Clone, Debug, Default)]
pub struct UsbReader {
    attributes: Arc<BTreeSet<Box<str>>>,
}

/// What [`UsbReader::devices`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// The devices.
    pub devices: Devices,
    /// The devices that are there but could not be read, and why.
    pub unreadable: BTreeMap<BusId, Error>,
}

impl UsbReader {
    /// A reader of this host's devices.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that also reads these attributes, given by their paths below a device's directory. One
    /// that a device does not have, or that cannot be read, is left out.
    pub fn asking(attributes: Arc<BTreeSet<Box<str>>>) -> Self {
        Self { attributes }
    }

    /// Reads all devices except root hubs. One that vanishes meanwhile is left out.
    ///
    /// # Errors
    ///
    /// When the devices cannot be listed. That one of them cannot be read is in the [`Scan`].
    pub fn devices(&self) -> Result<Scan, Error> {
        let mut scan = Scan::default();
        for busid in self.plugged()? {
            match self.device(&busid) {
                Ok(Some(device)) => drop(scan.devices.insert(busid, device)),
                Ok(None) => {}
                Err(error) => drop(scan.unreadable.insert(busid, error)),
            }
        }
        Ok(scan)
    }

    /// Lists the devices without reading them. Never blocks on a device.
    ///
    /// Only what has the name of a port is listed: root hubs (`usb1`) and interfaces have other
    /// names.
    ///
    /// # Errors
    ///
    /// When the directory cannot be read. A kernel without USB has no devices.
    pub fn plugged(&self) -> Result<BTreeSet<BusId>, Error> {
        let names = sysfs::names(Path::new(DEVICES))?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Reads one device. `None`: it is not plugged (any more).
    ///
    /// # Errors
    ///
    /// When it is there but cannot be read, or has not the form that the kernel gives a device.
    pub fn device(&self, busid: &BusId) -> Result<Option<Device>, Error> {
        let dir = Path::new(DEVICES).join(busid.to_string());
        let udev = match udev_facts(&dir) {
            Err(Error::Gone { .. }) => return Ok(None),
            facts => facts?,
        };
        let uses = uses::of(Path::new(ROOT), busid)?;
        let Some(mut raw) = gather(busid, &dir)? else { return Ok(None) };
        raw.udev = udev;
        raw.udev.attributes = self.asked(&dir);
        raw.uses = uses;
        raw.into_device(busid.clone()).map(Some)
    }

    /// The attributes that were asked for. An error is no error of the device's: who wrote the policy
    /// may have named what can only be written, or is a directory.
    fn asked(&self, dir: &Path) -> Vec<(Box<str>, Vec<u8>)> {
        let value = |name: &str| sysfs::read(&dir.join(name)).ok().flatten();
        let names = self.attributes.iter();
        names.filter_map(|name| Some((name.clone(), value(name)?))).collect()
    }

    /// The device number of what is plugged now, 1 to 127; `None` when nothing is. Never blocks:
    /// `devnum` is read without the device's lock (`drivers/usb/core/sysfs.c: devnum_show`).
    ///
    /// # Errors
    ///
    /// When the attribute cannot be read or is no number, or the device is being reset.
    pub fn device_number(&self, busid: &BusId) -> Result<Option<u8>, Error> {
        let path = Path::new(DEVICES).join(busid.to_string()).join("devnum");
        let value = match sysfs::read(&path) {
            Ok(None) | Err(Error::Gone { .. }) => return Ok(None),
            Ok(Some(value)) => value,
            Err(error) => return Err(error),
        };
        if value == IN_RESET {
            return Err(Error::Busy { path, source: Errno::EAGAIN });
        }
        let number = std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
        number.map(Some).ok_or(Error::Malformed { path, what: "is no device number" })
    }

    /// What dom0 has on the disks of a device. Never blocks on a device.
    ///
    /// # Errors
    ///
    /// When that cannot be told.
    pub fn storage_uses(&self, busid: &BusId) -> Result<BTreeSet<Use>, Error> {
        uses::of_storage(Path::new(ROOT), busid)
    }

    /// The devices that have disks, network interfaces or input devices. Never blocks on a device.
    ///
    /// # Errors
    ///
    /// When these cannot be listed.
    pub fn with(&self, class: Class) -> Result<BTreeSet<BusId>, Error> {
        uses::devices_with(Path::new(ROOT), class)
    }

    /// What dom0 has besides USB devices to be operated with.
    ///
    /// # Errors
    ///
    /// When the input devices cannot be read.
    pub fn desk(&self) -> Result<Desk, Error> {
        inputs::desk(Path::new(ROOT))
    }

    /// Whether new interfaces on the bus of `busid` get no driver until somebody allows it: the
    /// bus's `interface_authorized_default` (`drivers/usb/core/hcd.c`). Never blocks.
    ///
    /// # Errors
    ///
    /// When the attribute is there and cannot be read.
    pub fn holds_back(&self, busid: &BusId) -> Result<bool, Error> {
        let bus = Path::new(DEVICES).join(format!("usb{}", busid.bus()));
        match sysfs::read(&bus.join("interface_authorized_default")) {
            Ok(None) | Err(Error::Gone { .. }) => Ok(false),
            Ok(Some(value)) => Ok(value == b"0"),
            Err(error) => Err(error),
        }
    }

    /// Whether the kernel's usbback is loaded.
    pub fn usbback_loaded(&self) -> bool {
        sysfs::exists(Path::new(USBBACK))
    }
}

/// Reads udev's database. The entry is found by the device number, so that of an earlier plug in
/// the same port is not taken for this one's.
fn udev_facts(dir: &Path) -> Result<RawUdev, Error> {
    let device =
        udev::Device::from_syspath(dir).map_err(|e| Error::from_errno(dir, errno_of(&e)))?;
    let property = |name| device.property_value(name).map(ToOwned::to_owned);
    let own = |entry: udev::Entry<'_>| (entry.name().to_owned(), entry.value().to_owned());
    Ok(RawUdev {
        initialized: device.is_initialized(),
        since: property("USEC_INITIALIZED"),
        path: property("ID_PATH"),
        properties: device.properties().map(own).collect(),
        tags: property("TAGS").map(|tags| split(&tags)).unwrap_or_default(),
        attributes: Vec::new(),
    })
}

/// Tags as udev writes them: `:uaccess:seat:` (systemd, `sd-device.c: device_get_property_tags`).
fn split(tags: &OsStr) -> Vec<OsString> {
    let tags = tags.as_bytes().split(|byte| *byte == b':').filter(|tag| !tag.is_empty());
    tags.map(|tag| OsStr::from_bytes(tag).to_owned()).collect()
}

/// Reads a device's directory. `None`: it went away meanwhile, or gave its place to another plug.
fn gather(busid: &BusId, dir: &Path) -> Result<Option<RawDevice>, Error> {
    let raw = match read_all(busid, dir) {
        Err(Error::Gone { .. }) => return Ok(None),
        raw => raw?,
    };
    // The kernel gives each plug another number, so this tells that all was read from one. If not,
    // the event of the later plug will make us look again.
    let path = dir.join("devnum");
    let number = match sysfs::read(&path) {
        Err(Error::Gone { .. }) => None,
        number => number?,
    };
    let before = raw.attributes.get("devnum");
    if [number.as_ref(), before].into_iter().flatten().any(|number| number == IN_RESET) {
        // It is there all the time, and no event says when the reset is over.
        return Err(Error::Busy { path, source: Errno::EAGAIN });
    }
    let same_plug = number.as_ref() == before;
    Ok((same_plug && sysfs::exists(dir)).then_some(raw))
}

fn read_all(busid: &BusId, dir: &Path) -> Result<RawDevice, Error> {
    let attributes = read_attributes(dir, &attributes::OF_DEVICE)?;
    let mut interfaces = BTreeMap::new();
    for name in sysfs::names(dir)? {
        let Ok(name) = name.parse::<InterfaceName>() else { continue };
        if name.busid() == busid
            && let Some(interface) = read_interface(&dir.join(name.to_string()))?
        {
            interfaces.insert(name, interface);
        }
    }
    let dir = dir.to_owned();
    Ok(RawDevice { dir, attributes, interfaces, ..RawDevice::default() })
}

/// `None`: the interface went away, as happens when another configuration is chosen.
fn read_interface(dir: &Path) -> Result<Option<RawInterface>, Error> {
    let attributes = read_attributes(dir, &attributes::OF_INTERFACE)?;
    let driver = sysfs::link_name(&dir.join("driver"))?;
    let raw = RawInterface { dir: dir.to_owned(), attributes, driver };
    Ok(sysfs::exists(dir).then_some(raw))
}

fn read_attributes(dir: &Path, names: &[&'static str]) -> Result<Attributes, Error> {
    let mut attributes = Attributes::new();
    for name in names {
        if let Some(value) = sysfs::read(&dir.join(name))? {
            attributes.insert(name, value);
        }
    }
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn busid() -> BusId {
        "1-1".parse().unwrap()
    }

    fn attribute(dir: &Path, name: &str, value: &str) {
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join(name), format!("{value}\n")).unwrap();
    }

    #[test]
    fn a_device_and_its_interfaces_are_gathered() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("1-1");
        attribute(&dir, "devnum", "6");
        attribute(&dir.join("1-1:1.0"), "bInterfaceClass", "03");
        symlink("../../../drivers/usbhid", dir.join("1-1:1.0/driver")).unwrap();
        attribute(&dir.join("1-1:1.1"), "bInterfaceClass", "08");
        attribute(&dir.join("1-1.2"), "devnum", "7");
        attribute(&dir.join("1-1.2:1.0"), "bInterfaceClass", "ff");

        let raw = gather(&busid(), &dir).unwrap().unwrap();
        assert_eq!(raw.attributes, [("devnum", b"6".to_vec())].into());
        let found: Vec<_> = raw
            .interfaces
            .iter()
            .map(|(name, raw)| (name.to_string(), raw.driver.clone()))
            .collect();
        assert_eq!(found, [("1-1:1.0".into(), Some("usbhid".into())), ("1-1:1.1".into(), None)]);
    }

    #[test]
    fn a_device_that_is_not_there_is_no_error() {
        let root = tempfile::tempdir().unwrap();
        assert!(gather(&busid(), &root.path().join("1-1")).unwrap().is_none());
    }

    #[test]
    fn a_device_in_reset_is_busy_and_not_gone() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("1-1");
        attribute(&dir, "devnum", "0");
        assert!(matches!(gather(&busid(), &dir), Err(Error::Busy { .. })));
    }

    #[test]
    fn the_reader_can_be_used_on_another_thread() {
        fn sendable<T: Send + Sync>() {}
        sendable::<UsbReader>();
        sendable::<Scan>();
    }
}
