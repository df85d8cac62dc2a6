//! What must hold of a device, whatever sysfs and udev say of it.

use super::attributes::{OF_DEVICE, OF_INTERFACE, RawDevice, RawInterface, RawUdev};
use super::children::{Origin, origin};
use super::driver_dir::DriverDir;
use crate::model::{BusId, Text, UdevFacts};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The attributes of a device and its interface and udev's properties, a line each: first an address
/// that makes the rest worth reading, then what is said.
///
/// What is understood has the name that it was read under, and can be shown.
///
/// # Panics
///
/// When that does not hold.
pub fn device(bytes: &[u8]) {
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let mut lines = lines.into_iter();
    let name = lines.next().map(OsStr::from_bytes).unwrap_or_default();
    let Origin::Usb(busid) = origin(&Path::new("../../devices/usb1").join(name)) else { return };
    let owned = |line: &[u8]| OsString::from(OsStr::from_bytes(line));

    let dir = Path::new("/sys/bus/usb/devices").join(busid.to_string());
    let attributes = OF_DEVICE.into_iter().zip(lines.by_ref()).map(own).collect();
    let interface = RawInterface {
        dir: dir.clone(),
        attributes: OF_INTERFACE.into_iter().zip(lines.by_ref()).map(own).collect(),
        driver: lines.next().map(owned),
    };
    let udev = RawUdev {
        initialized: lines.len() > 1,
        since: lines.next().map(owned),
        path: lines.next().map(owned),
        properties: lines
            .by_ref()
            .take(3)
            .map(|line| match line.iter().position(|byte| *byte == b'=') {
                Some(at) => (owned(&line[..at]), owned(&line[at + 1..])),
                None => (owned(line), OsString::new()),
            })
            .collect(),
        attributes: lines
            .next()
            .map(|line| ("power/control".into(), line.to_owned()))
            .into_iter()
            .collect(),
        tags: lines.map(owned).collect(),
    };
    let interfaces = format!("{busid}:1.0").parse().into_iter().map(|n| (n, interface.clone()));
    let raw = RawDevice {
        dir,
        attributes,
        interfaces: interfaces.collect(),
        udev,
        ..RawDevice::default()
    };
    if let Ok(device) = raw.into_device(busid.clone()) {
        assert_eq!((device.busid.bus(), &device.busid), (device.address.bus, &busid));
        let words = [device.manufacturer, device.product, device.serial];
        assert!(words.iter().flatten().all(is_shown));
        let UdevFacts { properties, tags, attributes } = *device.udev;
        assert!(properties.values().chain(attributes.values()).all(is_shown));
        assert!(properties.keys().chain(&tags).all(|name| !name.chars().any(char::is_control)));
        assert!(tags.len() <= UdevFacts::MAX);
        assert_eq!(busid.to_string().parse::<BusId>().ok(), Some(busid));
    }
    if let Some(Ok(dir)) =
        interface.driver.as_deref().and_then(OsStr::to_str).map(str::parse::<DriverDir>)
    {
        assert!(!dir.name().contains('/'));
    }
}

fn own((name, value): (&'static str, &[u8])) -> (&'static str, Vec<u8>) {
    (name, value.to_owned())
}

fn is_shown(text: &Text) -> bool {
    !text.as_str().chars().any(char::is_control)
}
