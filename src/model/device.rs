//! A USB device as sysfs and udev show it.

use super::bus::{Anchor, BusAddress, BusId, ClassTriple, NameError, UsbId};
use super::text::Text;
use super::udev_facts::UdevFacts;
use super::usage::Use;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

/// One plugged USB device. Root hubs are not devices in this sense: nothing can be done with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Where it is plugged.
    pub busid: BusId,
    /// Its address since this plug.
    pub address: BusAddress,
    /// What it says it is.
    pub id: UsbId,
    /// `bDeviceClass` and what follows; `00:00:00` when the interfaces tell.
    pub class: ClassTriple,
    /// The speed at which it runs.
    pub speed: Speed,
    /// The version of USB that it was made for (`bcdUSB`), if sysfs tells.
    pub release: Option<UsbRelease>,
    /// Whether it can be unplugged by hand, as far as the firmware says so.
    pub removable: Removable,
    /// The manufacturer's name, from the device.
    pub manufacturer: Option<Text>,
    /// The product's name, from the device.
    pub product: Option<Text>,
    /// The serial number, from the device.
    pub serial: Option<Text>,
    /// Where it is plugged, counted from the PCI device, if udev could tell.
    pub anchor: Option<Anchor>,
    /// When udev first saw this plug, in microseconds of the monotonic clock
    /// (`USEC_INITIALIZED`). `None` until udev has finished with the device.
    pub initialized: Option<u64>,
    /// Whether the kernel has chosen a configuration (`bConfigurationValue` is not empty).
    pub configured: bool,
    /// The interfaces of the chosen configuration.
    pub interfaces: BTreeMap<InterfaceName, Interface>,
    /// What dom0 does with it. A device that is in a guest has no uses.
    pub uses: BTreeSet<Use>,
    /// What else udev and sysfs say of it.
    pub udev: Box<UdevFacts>,
}

impl Device {
    /// A device of which nothing is known but where and what it is.
    pub fn new(busid: BusId, address: BusAddress, id: UsbId) -> Self {
        Self {
            busid,
            address,
            id,
            class: ClassTriple { class: 0, subclass: 0, protocol: 0 },
            speed: Speed::Unknown,
            release: None,
            removable: Removable::Unknown,
            manufacturer: None,
            product: None,
            serial: None,
            anchor: None,
            initialized: None,
            configured: false,
            interfaces: BTreeMap::new(),
            uses: BTreeSet::new(),
            udev: Box::default(),
        }
    }

    /// Its maker's name and its own, to be shown: what it says itself, and where it says nothing, what the
    /// database of USB ids has, which udev has looked up (systemd, `50-udev-default.rules`: `hwdb
    /// --subsystem=usb`). Empty if neither knows it.
    pub fn called(&self) -> String {
        let names = self.names().into_iter();
        let called = names.filter_map(|(own, named)| own.or_else(|| self.udev.property(named)));
        called.collect::<Vec<_>>().join(" ")
    }

    /// The properties that stand for what it does not say itself in [`Self::called`].
    pub fn named_by(&self) -> impl Iterator<Item = &'static str> {
        self.names().into_iter().filter(|(own, _)| own.is_none()).map(|(_, named)| named)
    }

    /// What it says of its maker and of itself, and the property that udev has for each.
    fn names(&self) -> [(Option<&str>, &'static str); 2] {
        fn said(own: Option<&Text>) -> Option<&str> {
            own.map(Text::as_str).filter(|own| !own.trim().is_empty())
        }
        [
            (said(self.manufacturer.as_ref()), "ID_VENDOR_FROM_DATABASE"),
            (said(self.product.as_ref()), "ID_MODEL_FROM_DATABASE"),
        ]
    }

    /// Whether it is a hub: by its class, or by one of its interfaces.
    pub fn is_hub(&self) -> bool {
        self.class.class == ClassTriple::HUB
            || self.interfaces.values().any(|interface| interface.class.class == ClassTriple::HUB)
    }

    /// Whether dom0 may have its keyboard in it: udev has found one, or an interface says that it is
    /// one, which is known before udev has looked (a boot interface).
    pub fn may_be_keyboard(&self) -> bool {
        self.uses.contains(&Use::Keyboard) || self.has_interface(ClassTriple::BOOT_KEYBOARD)
    }

    /// Whether dom0 may have its pointer in it, in the same sense.
    pub fn may_be_pointer(&self) -> bool {
        self.uses.contains(&Use::Pointer) || self.has_interface(ClassTriple::BOOT_MOUSE)
    }

    fn has_interface(&self, class: ClassTriple) -> bool {
        self.interfaces.values().any(|interface| interface.class == class)
    }

    /// Whether udev and the kernel have finished with it, so that it may be handed on.
    pub fn is_ready(&self) -> bool {
        self.initialized.is_some() && self.configured
    }

    /// What tells this plug from the next one in the same port.
    pub fn plug(&self) -> Plug {
        Plug { address: self.address, id: self.id, initialized: self.initialized }
    }

    /// The interfaces that have no driver.
    pub fn driverless(&self) -> impl Iterator<Item = &InterfaceName> {
        self.interfaces
            .iter()
            .filter(|(_, interface)| interface.driver.is_none())
            .map(|(name, _)| name)
    }

    /// The interfaces that drivers may have.
    pub fn authorized(&self) -> impl Iterator<Item = &InterfaceName> {
        self.interfaces.iter().filter(|(_, interface)| interface.authorized).map(|(name, _)| name)
    }

    /// The interfaces that no driver may have until they are authorized.
    pub fn unauthorized(&self) -> impl Iterator<Item = &InterfaceName> {
        self.interfaces.iter().filter(|(_, interface)| !interface.authorized).map(|(name, _)| name)
    }

    /// The interfaces that `driver` has.
    pub fn bound_to(&self, driver: &str) -> impl Iterator<Item = &InterfaceName> {
        self.interfaces
            .iter()
            .filter(move |(_, interface)| interface.driver.as_deref() == Some(driver))
            .map(|(name, _)| name)
    }
}

/// One interface of a device's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// `bInterfaceClass` and what follows.
    pub class: ClassTriple,
    /// The name of the kernel driver that has it (`usbhid`; `usbfs` when a program has it).
    pub driver: Option<Box<str>>,
    /// Whether the kernel lets drivers have it (`authorized`). On a bus whose
    /// `interface_authorized_default` is 0, a new interface has to wait for that.
    pub authorized: bool,
}

/// The kernel's name for an interface: `1-1.4:1.0` is interface 0 of configuration 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InterfaceName {
    busid: BusId,
    configuration: u8,
    number: u8,
}

impl InterfaceName {
    /// The device that it belongs to.
    pub fn busid(&self) -> &BusId {
        &self.busid
    }

    /// The name as a xenstore key: `1-1_4@1_0`. This is libxl's encoding
    /// (`libxl_usb.c: usb_interface_xenstore_encode`).
    pub fn to_key(&self) -> String {
        self.to_string().replace('.', "_").replace(':', "@")
    }

    /// Reads what [`Self::to_key`] wrote.
    ///
    /// # Errors
    ///
    /// When the key does not name an interface.
    pub fn from_key(key: &str) -> Result<Self, NameError> {
        key.replace('_', ".").replace('@', ":").parse()
    }
}

impl FromStr for InterfaceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let parse = || {
            let (busid, rest) = text.split_once(':')?;
            let (configuration, number) = rest.split_once('.')?;
            let small = |t: &str| {
                let plain = !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
                plain.then(|| t.parse().ok()).flatten()
            };
            Some(Self {
                busid: busid.parse().ok()?,
                configuration: small(configuration)?,
                number: small(number)?,
            })
        };
        parse().ok_or_else(|| NameError::new(text, "a USB interface such as `1-1.4:1.0`"))
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}:{}.{}", self.busid, self.configuration, self.number))
    }
}

/// What tells one plug of a device from another in the same port.
///
/// The kernel counts device numbers up on each plug, and udev notes the time of each, so two plugs
/// differ even when device and port are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plug {
    /// The address since this plug.
    pub address: BusAddress,
    /// What the device says it is.
    pub id: UsbId,
    /// When udev first saw this plug, in microseconds.
    pub initialized: Option<u64>,
}

impl Plug {
    /// Whether `later` is the same plug, seen at the same time or later: what udev has not finished
    /// with is the same when it has.
    pub fn may_become(&self, later: &Self) -> bool {
        self.address == later.address
            && self.id == later.id
            && (self.initialized.is_none() || self.initialized == later.initialized)
    }
}

/// The speed of a device, as sysfs's `speed` tells it in Mbit/s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Speed {
    /// Not told, or a number that is not known here.
    Unknown,
    /// 1.5 Mbit/s.
    Low,
    /// 12 Mbit/s.
    Full,
    /// 480 Mbit/s.
    High,
    /// 5000 Mbit/s.
    Super,
    /// 10000 Mbit/s and more.
    SuperPlus,
}

impl Speed {
    /// Those that are known, the slowest first.
    pub const KNOWN: [Self; 5] = [Self::Low, Self::Full, Self::High, Self::Super, Self::SuperPlus];

    /// Reads sysfs's `speed` attribute (`drivers/usb/core/sysfs.c: speed_show`).
    pub fn from_sysfs(text: &str) -> Self {
        match text.trim() {
            "1.5" => Self::Low,
            "12" => Self::Full,
            "480" => Self::High,
            "5000" => Self::Super,
            "10000" | "20000" => Self::SuperPlus,
            _ => Self::Unknown,
        }
    }

    /// The word for it, as in the USB specifications.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Low => "low",
            Self::Full => "full",
            Self::High => "high",
            Self::Super => "super",
            Self::SuperPlus => "super+",
        }
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// A version of USB as devices state it: `bcdUSB`, whose digits are decimal. Shown with as many
/// digits as it needs: 0x0200 as `2.0`, 0x0210 as `2.1`, 0x0201 as `2.01`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UsbRelease {
    /// What stands before the point: 0 to 99.
    pub major: u8,
    /// What stands after it, in hundredths: 0 to 99.
    pub minor: u8,
}

impl UsbRelease {
    /// Reads sysfs's `version` attribute, ` 2.00` (`drivers/usb/core/sysfs.c: version_show`). `None`
    /// for what is no version: the number is the device's own.
    pub fn from_sysfs(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once('.')?;
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let fits = (1..=2).contains(&major.len()) && minor.len() == 2;
        (fits && digits(major) && digits(minor)).then_some(())?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

impl fmt::Display for UsbRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { major, minor } = self;
        f.pad(&match minor % 10 {
            0 => format!("{major}.{}", minor / 10),
            _ => format!("{major}.{minor:02}"),
        })
    }
}

/// Whether a device can be unplugged by hand: sysfs's `removable`, which the kernel takes from hub
/// descriptors and ACPI (`drivers/usb/core/hub.c: set_usb_port_removable`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Removable {
    /// It can.
    Removable,
    /// It is built in.
    Fixed,
    /// Nobody says.
    #[default]
    Unknown,
}

impl Removable {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Removable, Self::Fixed, Self::Unknown];

    /// The one that sysfs and the policy call by this word
    /// (`Documentation/ABI/testing/sysfs-devices-removable`).
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|removable| removable.word() == word)
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Removable => "removable",
            Self::Fixed => "fixed",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Removable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_of_usb_has_no_more_digits_than_it_needs() {
        let shown = |text| UsbRelease::from_sysfs(text).map(|release| release.to_string());
        let cases = [(" 2.00", "2.0"), (" 2.10", "2.1"), (" 1.10", "1.1"), (" 2.01", "2.01")];
        for (text, expected) in cases {
            assert_eq!(shown(text).as_deref(), Some(expected));
        }
        for text in ["", "2", "2.0", "2.000", "a.00", " 2.1x", "+2.00", "200.00"] {
            assert_eq!(UsbRelease::from_sysfs(text), None, "{text}");
        }
    }

    #[test]
    fn what_a_device_does_not_say_of_itself_the_database_says() {
        let text = |text: &str| Some(Text::new(text.as_bytes()));
        let id = "046d:c52b".parse().unwrap();
        let mut device = Device::new("1-1".parse().unwrap(), "1.5".parse().unwrap(), id);
        assert_eq!(device.called(), "");
        for (name, value) in [("VENDOR", "Logitech, Inc."), ("MODEL", "Unifying Receiver")] {
            let name = format!("ID_{name}_FROM_DATABASE");
            device.udev.properties.insert(name.into(), Text::new(value.as_bytes()));
        }
        assert_eq!(device.called(), "Logitech, Inc. Unifying Receiver");
        device.manufacturer = text("Logitech");
        assert_eq!(device.called(), "Logitech Unifying Receiver");
        device.product = text(" ");
        assert_eq!(device.called(), "Logitech Unifying Receiver");
        device.product = text("USB Receiver");
        assert_eq!(device.called(), "Logitech USB Receiver");
    }

    #[test]
    fn interface_names_round_trip_as_keys() {
        let name: InterfaceName = "3-1.2:1.0".parse().unwrap();
        assert_eq!(name.to_key(), "3-1_2@1_0");
        assert_eq!(InterfaceName::from_key("3-1_2@1_0"), Ok(name));
        assert!("3-1.2:1".parse::<InterfaceName>().is_err());
        assert!("3-1.2:1.+1".parse::<InterfaceName>().is_err());
        assert!("../x:1.0".parse::<InterfaceName>().is_err());
    }
}
