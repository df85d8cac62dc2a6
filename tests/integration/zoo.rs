//! Devices of all kinds, for policies to decide about.

use pvusb_agent::model::{
    Anchor, ClassTriple, Device, Devices, Interface, Removable, Speed, UsbRelease,
};
use pvusb_agent::policy::{Action, Candidate, Policy};
use std::fmt::Write;

/// Port, id, maker, product, serial number, speed in Mbit/s, interfaces, driver.
type Row = (
    &'static str,
    &'static str,
    [&'static str; 3],
    &'static str,
    &'static [&'static str],
    &'static str,
);

const ROWS: [Row; 16] = [
    ("1-1", "17ef:30b4", ["Lenovo", "Dock Hub", ""], "480", &["09:00:00"], "hub"),
    ("1-1.1", "046d:c31c", ["Logitech", "USB Keyboard", ""], "1.5", &["03:01:01"], "usbhid"),
    ("1-1.2", "046d:c05a", ["Logitech", "Optical Mouse", ""], "1.5", &["03:01:02"], "usbhid"),
    (
        "1-1.4",
        "05e0:1200",
        ["Symbol", "Bar Code Scanner", "S/N-0001"],
        "12",
        &["03:01:01"],
        "usbhid",
    ),
    ("1-2", "05e0:1300", ["Symbol Inc.", "Scanner 2", ""], "12", &["03:01:01"], "usbhid"),
    (
        "1-3",
        "0951:1666",
        ["Kingston", "DataTraveler", "E0D55EA57414F"],
        "480",
        &["08:06:50"],
        "usb-storage",
    ),
    ("1-4", "0a5f:0080", ["Zebra", "Label Printer", "ZB01"], "480", &["07:01:02"], "usblp"),
    (
        "1-5",
        "046d:085c",
        ["Logitech", "C922 Webcam", "A1B2"],
        "480",
        &["0e:01:00", "01:01:00"],
        "uvcvideo",
    ),
    (
        "1-6",
        "0d8c:0014",
        ["C-Media", "Headset", ""],
        "12",
        &["01:01:00", "03:00:00"],
        "snd-usb-audio",
    ),
    (
        "1-7",
        "1050:0407",
        ["Yubico", "YubiKey OTP+FIDO+CCID", ""],
        "12",
        &["03:01:01", "03:00:00", "0b:00:00"],
        "usbhid",
    ),
    ("1-8", "076b:3031", ["HID Global", "OMNIKEY 3x21", ""], "12", &["0b:00:00"], ""),
    ("1-9", "0403:6001", ["FTDI", "FT232R USB UART", "A50285BI"], "12", &["ff:ff:ff"], "ftdi_sio"),
    ("1-10", "0eef:0001", ["eGalax", "TouchController", ""], "12", &["03:00:00"], "usbhid"),
    ("1-11", "18d1:4ee7", ["Google", "Pixel", "0A1"], "480", &["ff:42:01"], ""),
    (
        "2-1",
        "174c:55aa",
        ["ASMedia", "UAS Disk", "12345"],
        "5000",
        &["08:06:62", "08:06:50"],
        "uas",
    ),
    ("2-2", "0bda:8153", ["Realtek", "USB 10/100/1000 LAN", "001"], "5000", &["ff:ff:00"], "r8152"),
];

/// All of them, plugged.
pub(crate) fn zoo() -> Devices {
    ROWS.iter().map(device).map(|device| (device.busid.clone(), device)).collect()
}

fn device(row: &Row) -> Device {
    let (port, id, [maker, product, serial], speed, interfaces, driver) = *row;
    let text = |text: &str| (!text.is_empty()).then(|| text.into());
    let (bus, ports) = port.split_once('-').unwrap();
    let anchor = format!("pci-0000:00:14.0-usb-0:{ports}").parse::<Anchor>().ok();
    let speed = Speed::from_sysfs(speed);
    let mut device = Device {
        speed,
        release: UsbRelease::from_sysfs(if speed >= Speed::Super { " 3.20" } else { " 2.00" }),
        removable: if port == "1-10" { Removable::Fixed } else { Removable::Removable },
        manufacturer: text(maker),
        product: text(product),
        serial: text(serial),
        anchor: anchor.filter(|_| bus == "1"),
        initialized: Some(1),
        configured: true,
        ..Device::new(
            port.parse().unwrap(),
            format!("{bus}.{}", ports.len() + 4).parse().unwrap(),
            id.parse().unwrap(),
        )
    };
    for (at, class) in interfaces.iter().enumerate() {
        let byte = |at: usize| u8::from_str_radix(&class[at..at + 2], 16).unwrap();
        let class = ClassTriple { class: byte(0), subclass: byte(3), protocol: byte(6) };
        let driver = (!driver.is_empty()).then(|| driver.into());
        let name = format!("{port}:1.{at}").parse().unwrap();
        device.interfaces.insert(name, Interface { class, driver, authorized: true });
    }
    device.udev.properties.insert("ID_BUS".into(), "usb".into());
    device.udev.tags.insert("seat".into());
    device
}

/// What a policy says of each, a line for each.
pub(crate) fn decisions(policy: &Policy) -> String {
    let devices = zoo();
    let mut lines = String::new();
    for device in devices.values() {
        let candidate = Candidate::new(device, &devices, None);
        let name = device.product.as_ref().map_or("", |it| it.as_str());
        let said = match policy.judge(&candidate) {
            None => "-".to_owned(),
            Some(rule) => {
                let action = match rule.action() {
                    Action::Attach(targets) => {
                        let names: Vec<_> = targets.iter().map(ToString::to_string).collect();
                        format!("attach: {}", names.join(", "))
                    }
                    Action::Keep => "keep: dom0".to_owned(),
                    Action::Block => "block".to_owned(),
                };
                format!("{action} ({})", rule.label())
            }
        };
        let held = if policy.protection(&candidate).is_some() { " protected" } else { "" };
        writeln!(lines, "{:6} {} {name:22} {said}{held}", device.busid, device.id).unwrap();
    }
    lines
}
