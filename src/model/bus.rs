//! Names on the USB side: where a device is plugged and what it says it is.

use std::fmt;
use std::str::FromStr;

/// A text that is not the name it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct NameError {
    text: super::Text,
    expected: &'static str,
}

impl NameError {
    pub(super) fn new(text: &str, expected: &'static str) -> Self {
        Self { text: text.into(), expected }
    }
}

/// The kernel's name for a place where a device can be plugged: `1-1.4` is port 4 of the hub in
/// port 1 of bus 1.
///
/// It names a place, not a device: what is plugged there later gets the same name. Root hubs
/// (`usb1`) and interfaces (`1-1.4:1.0`) have names of another form. The text form is at most
/// [`BusId::MAX_LEN`] bytes long and has no leading zeros, as the kernel writes it
/// (`drivers/usb/core/usb.c: usb_alloc_dev`). The order is that of the numbers: `1-2` before `1-10`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BusId {
    bus: u16,
    ports: Box<[u8]>,
}

impl BusId {
    /// The longest name that every backend takes: usbback keeps it in 20 bytes with its NUL.
    pub const MAX_LEN: usize = 19;
    const EXPECTED: &str = "a USB port such as `1-1.4`";

    /// The bus number, as in `/sys/bus/usb/devices/usb1`.
    pub fn bus(&self) -> u16 {
        self.bus
    }

    /// The port numbers from the root hub outwards; never empty.
    pub fn ports(&self) -> &[u8] {
        &self.ports
    }

    /// Whether this place is somewhere below the hub that is plugged at `hub`.
    pub fn is_below(&self, hub: &Self) -> bool {
        self.bus == hub.bus
            && self.ports.len() > hub.ports.len()
            && self.ports.starts_with(&hub.ports)
    }

    /// The places of the hubs on the way to it, the nearest first, without the root hub.
    pub fn hubs(&self) -> impl Iterator<Item = Self> + '_ {
        let lengths = (1..self.ports.len()).rev();
        lengths.map(|length| Self { bus: self.bus, ports: self.ports[..length].into() })
    }

    /// The name as a xenstore key, where `.` is not allowed: `1-1_4`. This is libxl's encoding
    /// (`libxl_usb.c: usb_interface_xenstore_encode`).
    pub fn to_key(&self) -> String {
        self.to_string().replace('.', "_")
    }

    /// Reads what [`Self::to_key`] wrote.
    ///
    /// # Errors
    ///
    /// When the key does not name a port.
    pub fn from_key(key: &str) -> Result<Self, NameError> {
        if key.contains('.') {
            return Err(NameError::new(key, Self::EXPECTED));
        }
        key.replace('_', ".").parse()
    }
}

impl FromStr for BusId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let parse = || {
            let (bus, ports) = text.split_once('-')?;
            let ports = ports.split('.').map(number).collect::<Option<Box<[u8]>>>()?;
            let fits = text.len() <= Self::MAX_LEN;
            (fits && !ports.contains(&0)).then_some(())?;
            Some(Self { bus: number(bus)?, ports })
        };
        parse().ok_or_else(|| NameError::new(text, Self::EXPECTED))
    }
}

impl fmt::Display for BusId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}-{}", self.bus, join_ports(&self.ports)))
    }
}

/// Bus and device number in decimal, as `lsusb` counts them: `1.6`. The device number changes on
/// every plug. (`xl usb-list` prints both in hexadecimal.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BusAddress {
    /// The bus number.
    pub bus: u16,
    /// The device number on that bus, 1 to 127.
    pub device: u8,
}

impl FromStr for BusAddress {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let parse = || {
            let (bus, device) = text.split_once('.')?;
            let device = number(device).filter(|device| (1..=127).contains(device))?;
            Some(Self { bus: number(bus)?, device })
        };
        parse().ok_or_else(|| NameError::new(text, "a bus address such as `1.6` (decimal)"))
    }
}

impl fmt::Display for BusAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{}", self.bus, self.device))
    }
}

/// Vendor and product as the device states them: `05e0:1200`. Nothing proves them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UsbId {
    /// `idVendor`.
    pub vendor: u16,
    /// `idProduct`.
    pub product: u16,
}

impl FromStr for UsbId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let parse = || {
            let (vendor, product) = text.split_once(':')?;
            Some(Self { vendor: hex4(vendor)?, product: hex4(product)? })
        };
        parse().ok_or_else(|| NameError::new(text, "a USB id such as `05e0:1200`"))
    }
}

impl fmt::Display for UsbId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:04x}:{:04x}", self.vendor, self.product))
    }
}

/// Class, subclass and protocol of a device or an interface: `03:01:01` is a boot keyboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClassTriple {
    /// `bDeviceClass` or `bInterfaceClass`.
    pub class: u8,
    /// The subclass.
    pub subclass: u8,
    /// The protocol.
    pub protocol: u8,
}

impl ClassTriple {
    /// The class of hubs (USB 2.0, table 11-13).
    pub const HUB: u8 = 0x09;
    /// An interface that is a keyboard to a BIOS (HID 1.11, sections 4.2 and 4.3).
    pub const BOOT_KEYBOARD: Self = Self { class: 3, subclass: 1, protocol: 1 };
    /// An interface that is a mouse to a BIOS.
    pub const BOOT_MOUSE: Self = Self { class: 3, subclass: 1, protocol: 2 };
}

impl fmt::Display for ClassTriple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:02x}:{:02x}:{:02x}", self.class, self.subclass, self.protocol))
    }
}

/// A place named from the PCI device outwards, which survives a renumbering of buses:
/// `pci-0000:00:14.0-usb-0:1.4`, the form of udev's `ID_PATH`
/// (systemd, `udev-builtin-path_id.c`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Anchor {
    root: Box<str>,
    ports: Box<[u8]>,
}

impl Anchor {
    const EXPECTED: &str = "an anchored USB port such as `pci-0000:00:14.0-usb-0:1.4`";

    /// What the root hub hangs on: `pci-0000:00:14.0`.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// The port numbers from the root hub outwards; never empty.
    pub fn ports(&self) -> &[u8] {
        &self.ports
    }

    /// The places of the hubs on the way to it, the nearest first, without the root hub.
    pub fn hubs(&self) -> impl Iterator<Item = Self> + '_ {
        let lengths = (1..self.ports.len()).rev();
        lengths.map(|length| Self { root: self.root.clone(), ports: self.ports[..length].into() })
    }

    /// Whether this place is somewhere below the hub at `hub`.
    pub fn is_below(&self, hub: &Self) -> bool {
        self.root == hub.root
            && self.ports.len() > hub.ports.len()
            && self.ports.starts_with(&hub.ports)
    }
}

impl FromStr for Anchor {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let parse = || {
            let (root, ports) = text.split_once("-usb-0:")?;
            let root_is_plain = !root.is_empty()
                && root.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_:.".contains(&b));
            let ports = ports.split('.').map(number).collect::<Option<Box<[u8]>>>()?;
            (root_is_plain && !ports.contains(&0)).then(|| Self { root: root.into(), ports })
        };
        parse().ok_or_else(|| NameError::new(text, Self::EXPECTED))
    }
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}-usb-0:{}", self.root, join_ports(&self.ports)))
    }
}

/// A decimal number as the kernel prints it: digits only, no leading zero.
fn number<N: FromStr>(text: &str) -> Option<N> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

fn hex4(text: &str) -> Option<u16> {
    let plain = text.len() == 4 && text.bytes().all(|b| b.is_ascii_hexdigit());
    plain.then(|| u16::from_str_radix(text, 16).ok()).flatten()
}

fn join_ports(ports: &[u8]) -> String {
    ports.iter().map(u8::to_string).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_path_out_of_sysfs_is_not_a_bus_id() {
        for text in [
            "",
            "1",
            "1-",
            "-1",
            "usb1",
            "1-1:1.0",
            "1-1.",
            "1-.1",
            "1-0",
            "../../x",
            "1-1/..",
            "01-1",
            "1-01",
            "1-1 ",
            "+1-1",
            "1-1.1.1.1.1.1.1.1.1.1",
            "1-256",
            "1-1\n",
        ] {
            assert!(text.parse::<BusId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn bus_ids_sort_by_number() {
        let mut ids: Vec<BusId> =
            ["1-10", "1-2", "10-1", "1-2.1", "2-1"].iter().map(|t| t.parse().unwrap()).collect();
        ids.sort();
        let texts: Vec<_> = ids.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["1-2", "1-2.1", "1-10", "2-1", "10-1"]);
    }

    #[test]
    fn below_a_hub_is_not_the_hub_and_not_its_namesake() {
        let hub: BusId = "1-1".parse().unwrap();
        let below = |text: &str| text.parse::<BusId>().unwrap().is_below(&hub);
        assert!(below("1-1.4") && below("1-1.4.2"));
        assert!(!below("1-1") && !below("1-10") && !below("1-10.4") && !below("2-1.4"));
    }

    #[test]
    fn the_way_to_a_port_goes_by_its_hubs() {
        let hubs = |text: &str| {
            let busid: BusId = text.parse().unwrap();
            busid.hubs().map(|hub| hub.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(hubs("1-1.4.2"), ["1-1.4", "1-1"]);
        assert_eq!(hubs("1-10"), [""; 0]);
    }

    #[test]
    fn one_point_ten_is_not_one_point_one() {
        let address: BusAddress = "1.10".parse().unwrap();
        assert_eq!(address, BusAddress { bus: 1, device: 10 });
        assert!("1.0".parse::<BusAddress>().is_err() && "1.128".parse::<BusAddress>().is_err());
    }

    #[test]
    fn capitals_in_an_id_are_welcome() {
        assert_eq!("05E0:aBcD".parse::<UsbId>().unwrap().to_string(), "05e0:abcd");
        assert!("5e0:1200".parse::<UsbId>().is_err() && "+5e0:1200".parse::<UsbId>().is_err());
    }

    #[test]
    fn an_anchor_reads_udevs_id_path() {
        let anchor: Anchor = "pci-0000:00:14.0-usb-0:1.4".parse().unwrap();
        assert_eq!((anchor.root(), anchor.ports()), ("pci-0000:00:14.0", &[1, 4][..]));
        assert!("pci-0000:00:14.0-usb-0:1.4:1.0".parse::<Anchor>().is_err());
        assert!("pci-0000:00:14.0-usb-0:".parse::<Anchor>().is_err());
    }

    proptest! {
        #[test]
        fn bus_ids_round_trip(bus in 0_u16..1000, ports in proptest::collection::vec(1_u8..=15, 1..=5)) {
            let id = BusId { bus, ports: ports.into() };
            prop_assert_eq!(id.to_string().parse::<BusId>(), Ok(id.clone()));
            prop_assert_eq!(BusId::from_key(&id.to_key()), Ok(id));
        }

        #[test]
        fn no_text_makes_a_parser_panic(text in ".{0,40}") {
            let _ = (text.parse::<BusId>(), text.parse::<UsbId>());
            let _ = (text.parse::<BusAddress>(), text.parse::<Anchor>());
        }
    }
}
