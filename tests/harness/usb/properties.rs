//! The properties that udev's built-in helpers find out about a device. Rules and the database's
//! files are not here.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::device::UsbDevice;

/// What `usb_id`, `path_id` and the hardware database find out about a device.
pub(super) fn of(device: &UsbDevice, id_path: &str) -> Vec<(String, String)> {
    let (vendor, product) = (format!("{:04x}", device.vendor), format!("{:04x}", device.product));
    let name_of = |string: &Option<Vec<u8>>, otherwise: &str| {
        string.as_deref().map(udev_name).filter(|n| !n.is_empty()).unwrap_or(otherwise.to_owned())
    };
    let (maker, model) =
        (name_of(&device.manufacturer, &vendor), name_of(&device.product_name, &product));
    let short = device.serial.as_deref().map(udev_name).filter(|name| !name.is_empty());
    let serial = short.iter().fold(format!("{maker}_{model}"), |all, s| format!("{all}_{s}"));
    let mut interfaces = String::from(":");
    for interface in &device.interfaces {
        let [class, subclass, protocol] = interface.class;
        write!(interfaces, "{class:02x}{subclass:02x}{protocol:02x}:").expect("a string");
    }
    let mut properties: BTreeMap<String, String> = [
        ("ID_BUS", "usb".to_owned()),
        ("ID_MODEL", model),
        ("ID_MODEL_ID", product),
        ("ID_PATH", id_path.to_owned()),
        ("ID_PATH_TAG", id_path.replace(['.', ':'], "_")),
        ("ID_REVISION", format!("{:04x}", device.revision)),
        ("ID_SERIAL", serial),
        ("ID_USB_INTERFACES", interfaces),
        ("ID_VENDOR", maker),
        ("ID_VENDOR_FROM_DATABASE", in_database(device.vendor)),
        ("ID_VENDOR_ID", vendor),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    properties.extend(short.map(|short| ("ID_SERIAL_SHORT".to_owned(), short)));
    properties.extend(device.properties.iter().cloned());
    properties.into_iter().collect()
}

/// Whose this id is, by a database that is smaller than usb.ids.
fn in_database(vendor: u16) -> String {
    match vendor {
        0x05e3 => "Genesys Logic, Inc.".to_owned(),
        other => format!("Vendor {other:04x} Inc."),
    }
}

/// A string of a device as udev's properties show it: what is not harmless becomes an underscore.
fn udev_name(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.trim()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "#+-.:=@_".contains(c) { c } else { '_' })
        .collect()
}
