//! From attributes, as bytes, to a [`Device`]. Pure: nothing is read here.
//!
//! The attributes are those of `drivers/usb/core/sysfs.c`. The kernel makes most of them; the
//! three strings are the device's own and may hold anything.

use super::error::Error;
use crate::model::{
    BusId, ClassTriple, Device, Interface, InterfaceName, Removable, Speed, Text, UdevFacts,
    UsbRelease, Use,
};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The attributes of a device that are looked at.
pub(super) const OF_DEVICE: [&str; 14] = [
    "busnum",
    "devnum",
    "idVendor",
    "idProduct",
    "bDeviceClass",
    "bDeviceSubClass",
    "bDeviceProtocol",
    "bConfigurationValue",
    "speed",
    "version",
    "removable",
    "manufacturer",
    "product",
    "serial",
];

/// The attributes of an interface that are looked at.
pub(super) const OF_INTERFACE: [&str; 4] =
    ["bInterfaceClass", "bInterfaceSubClass", "bInterfaceProtocol", "authorized"];

/// The longest name of a property or a tag that is taken.
const MAX_NAME: usize = 128;

/// The attributes that are there, by name.
pub(super) type Attributes = BTreeMap<&'static str, Vec<u8>>;

/// A device as it was read.
#[derive(Clone, Debug, Default)]
pub(super) struct RawDevice {
    /// Where it was read.
    pub(super) dir: PathBuf,
    /// Its attributes.
    pub(super) attributes: Attributes,
    /// Its interfaces.
    pub(super) interfaces: BTreeMap<InterfaceName, RawInterface>,
    /// What udev knows of it.
    pub(super) udev: RawUdev,
    /// What dom0 does with it.
    pub(super) uses: BTreeSet<Use>,
}

/// An interface as it was read.
#[derive(Clone, Debug, Default)]
pub(super) struct RawInterface {
    /// Where it was read.
    pub(super) dir: PathBuf,
    /// Its attributes.
    pub(super) attributes: Attributes,
    /// The name of its driver.
    pub(super) driver: Option<OsString>,
}

/// What udev knows of a device.
#[derive(Clone, Debug, Default)]
pub(super) struct RawUdev {
    /// Whether udev has it in its database.
    pub(super) initialized: bool,
    /// `USEC_INITIALIZED`.
    pub(super) since: Option<OsString>,
    /// `ID_PATH`.
    pub(super) path: Option<OsString>,
    /// All properties.
    pub(super) properties: Vec<(OsString, OsString)>,
    /// All tags.
    pub(super) tags: Vec<OsString>,
    /// The attributes that somebody asks for.
    pub(super) attributes: Vec<(Box<str>, Vec<u8>)>,
}

impl RawDevice {
    /// Puts what was read into the model's words.
    pub(super) fn into_device(self, busid: BusId) -> Result<Device, Error> {
        let fields = Fields { dir: &self.dir, attributes: &self.attributes };
        let address = format!("{}.{}", fields.text("busnum")?, fields.text("devnum")?);
        let address = address.parse().map_err(|_| fields.flaw("devnum", "is not a number"))?;
        let id = format!("{}:{}", fields.text("idVendor")?, fields.text("idProduct")?);
        let device = Device {
            address,
            id: id.parse().map_err(|_| fields.flaw("idProduct", "is not a USB id"))?,
            class: ClassTriple {
                class: fields.hex("bDeviceClass")?,
                subclass: fields.hex("bDeviceSubClass")?,
                protocol: fields.hex("bDeviceProtocol")?,
            },
            speed: fields.text("speed").map_or(Speed::Unknown, Speed::from_sysfs),
            release: fields.text("version").ok().and_then(UsbRelease::from_sysfs),
            // Kernels before 3.3 do not have it.
            removable: fields
                .text("removable")
                .ok()
                .and_then(Removable::from_word)
                .unwrap_or_default(),
            manufacturer: fields.own_words("manufacturer"),
            product: fields.own_words("product"),
            serial: fields.own_words("serial"),
            anchor: self.udev.path.as_deref().and_then(parse),
            initialized: self.udev.initialized(),
            // The file is there but empty as long as no configuration is chosen.
            configured: fields.text("bConfigurationValue").is_ok_and(|text| !text.is_empty()),
            interfaces: self
                .interfaces
                .iter()
                .map(|(name, raw)| Ok((name.clone(), raw.to_interface()?)))
                .collect::<Result<_, Error>>()?,
            uses: self.uses,
            udev: self.udev.facts().into(),
            busid,
        };
        if device.address.bus == device.busid.bus() {
            Ok(device)
        } else {
            Err(fields.flaw("busnum", "is not the bus in the device's name"))
        }
    }
}

impl RawInterface {
    fn to_interface(&self) -> Result<Interface, Error> {
        let fields = Fields { dir: &self.dir, attributes: &self.attributes };
        let class = ClassTriple {
            class: fields.hex("bInterfaceClass")?,
            subclass: fields.hex("bInterfaceSubClass")?,
            protocol: fields.hex("bInterfaceProtocol")?,
        };
        let driver = match &self.driver {
            None => None,
            Some(name) => Some(name.to_str().ok_or_else(|| fields.flaw("driver", "is no text"))?),
        };
        // Kernels before 4.2 do not have it and let all interfaces have drivers.
        let authorized = !fields.text("authorized").is_ok_and(|text| text == "0");
        Ok(Interface { class, driver: driver.map(Into::into), authorized })
    }
}

impl RawUdev {
    /// The time of the first event is a note of the database's (systemd, `sd-device.c:
    /// device_set_usec_initialized`), so where it is, udev has finished. A database without the
    /// time, as other daemons keep it, must not hold a device back for ever.
    fn initialized(&self) -> Option<u64> {
        match &self.since {
            Some(since) => Some(parse(since).unwrap_or(0)),
            None => self.initialized.then_some(0),
        }
    }
}

impl RawUdev {
    /// What is said besides, made harmless. Names are udev's own and administrators'; one that no
    /// policy could name is left out.
    fn facts(self) -> UdevFacts {
        let name = |name: &OsStr| {
            let name = std::str::from_utf8(name.as_bytes()).ok()?;
            let plain = name.len() <= MAX_NAME && name.bytes().all(|b| b.is_ascii_graphic());
            (plain && !name.is_empty()).then(|| Box::<str>::from(name))
        };
        let properties = self
            .properties
            .iter()
            .filter_map(|(key, value)| Some((name(key)?, Text::new(value.as_bytes()))));
        UdevFacts {
            properties: properties.take(UdevFacts::MAX).collect(),
            tags: self.tags.iter().filter_map(|tag| name(tag)).take(UdevFacts::MAX).collect(),
            attributes: self
                .attributes
                .into_iter()
                .map(|(name, value)| (name, Text::new(&value)))
                .collect(),
        }
    }
}

/// The attributes of one directory, and how to complain of them.
struct Fields<'a> {
    dir: &'a Path,
    attributes: &'a Attributes,
}

impl Fields<'_> {
    fn text(&self, name: &'static str) -> Result<&str, Error> {
        let bytes = self.attributes.get(name).ok_or_else(|| self.flaw(name, "is missing"))?;
        std::str::from_utf8(bytes).map_err(|_| self.flaw(name, "is not text"))
    }

    /// A byte as the kernel prints it: two hexadecimal digits.
    fn hex(&self, name: &'static str) -> Result<u8, Error> {
        let text = self.text(name)?;
        let plain = text.len() == 2 && text.bytes().all(|b| b.is_ascii_hexdigit());
        plain
            .then(|| u8::from_str_radix(text, 16).ok())
            .flatten()
            .ok_or_else(|| self.flaw(name, "is not two hexadecimal digits"))
    }

    fn own_words(&self, name: &'static str) -> Option<Text> {
        self.attributes.get(name).map(|bytes| Text::new(bytes))
    }

    fn flaw(&self, name: &'static str, what: &'static str) -> Error {
        Error::Malformed { path: self.dir.join(name), what }
    }
}

fn parse<T: std::str::FromStr>(text: &OsStr) -> Option<T> {
    std::str::from_utf8(text.as_bytes()).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BusAddress, UsbId};
    use proptest::prelude::*;

    const SCANNER: [(&str, &str); 14] = [
        ("busnum", "1"),
        ("devnum", "6"),
        ("idVendor", "05e0"),
        ("idProduct", "1200"),
        ("bDeviceClass", "00"),
        ("bDeviceSubClass", "00"),
        ("bDeviceProtocol", "00"),
        ("bConfigurationValue", "1"),
        ("speed", "12"),
        ("version", " 1.10"),
        ("removable", "fixed"),
        ("manufacturer", "Symbol"),
        ("product", "Bar Code Scanner"),
        ("serial", "S/N:1"),
    ];

    fn busid() -> BusId {
        "1-1.4".parse().unwrap()
    }

    fn scanner() -> RawDevice {
        let own = |(name, value): &(&'static str, &str)| (*name, value.as_bytes().to_vec());
        let class = OF_INTERFACE.into_iter().zip(["03", "01", "02"].map(|b| b.as_bytes().to_vec()));
        let interface = RawInterface {
            dir: "/sys/i".into(),
            attributes: class.collect(),
            driver: Some("usbhid".into()),
        };
        RawDevice {
            dir: "/sys/d".into(),
            attributes: SCANNER.iter().map(own).collect(),
            interfaces: [("1-1.4:1.0".parse().unwrap(), interface)].into(),
            udev: RawUdev {
                initialized: true,
                since: Some("123456".into()),
                path: Some("pci-0000:00:14.0-usb-0:1.4".into()),
                properties: vec![("ID_BUS".into(), "usb".into()), ("a b".into(), "c".into())],
                tags: vec!["seat".into()],
                attributes: vec![("power/control".into(), b"auto\n".to_vec())],
            },
            uses: [Use::Pointer].into(),
        }
    }

    fn with(name: &'static str, value: &[u8]) -> Result<Device, Error> {
        let mut raw = scanner();
        raw.attributes.insert(name, value.to_vec());
        raw.into_device(busid())
    }

    fn without(name: &str) -> Result<Device, Error> {
        let mut raw = scanner();
        raw.attributes.remove(name);
        raw.into_device(busid())
    }

    #[test]
    fn every_field_comes_from_its_attribute() {
        let device = scanner().into_device(busid()).unwrap();
        let class = ClassTriple { class: 3, subclass: 1, protocol: 2 };
        let interface = Interface { class, driver: Some("usbhid".into()), authorized: true };
        let wanted = Device {
            busid: busid(),
            address: BusAddress { bus: 1, device: 6 },
            id: UsbId { vendor: 0x05e0, product: 0x1200 },
            class: ClassTriple { class: 0, subclass: 0, protocol: 0 },
            speed: Speed::Full,
            release: Some(UsbRelease { major: 1, minor: 10 }),
            removable: Removable::Fixed,
            manufacturer: Some("Symbol".into()),
            product: Some("Bar Code Scanner".into()),
            serial: Some("S/N:1".into()),
            anchor: Some("pci-0000:00:14.0-usb-0:1.4".parse().unwrap()),
            initialized: Some(123_456),
            configured: true,
            interfaces: [("1-1.4:1.0".parse().unwrap(), interface)].into(),
            uses: [Use::Pointer].into(),
            udev: Box::new(UdevFacts {
                properties: [("ID_BUS".into(), "usb".into())].into(),
                tags: ["seat".into()].into(),
                attributes: [("power/control".into(), "auto".into())].into(),
            }),
        };
        assert_eq!(device, wanted);
    }

    #[test]
    fn a_device_without_its_numbers_is_malformed_and_says_which() {
        for name in &OF_DEVICE[..7] {
            let path = Path::new("/sys/d").join(name);
            assert_eq!(without(name), Err(Error::Malformed { path, what: "is missing" }));
        }
    }

    #[test]
    fn a_number_in_another_form_is_malformed() {
        let flaws: [(&str, &[u8]); 11] = [
            ("busnum", b"x"),
            ("busnum", b"2"),
            ("busnum", b"\xff"),
            ("devnum", b"0"),
            ("devnum", b"128"),
            ("devnum", b"06"),
            ("idVendor", b"5e0"),
            ("idProduct", b"1200:"),
            ("bDeviceClass", b"+9"),
            ("bDeviceSubClass", b"009"),
            ("bDeviceProtocol", b""),
        ];
        for (name, value) in flaws {
            assert!(matches!(with(name, value), Err(Error::Malformed { .. })), "{name}");
        }
    }

    #[test]
    fn what_a_device_need_not_say_may_be_missing() {
        let device = without("product").unwrap();
        assert_eq!((device.product, device.serial), (None, Some("S/N:1".into())));
        assert_eq!(without("speed").unwrap().speed, Speed::Unknown);
        assert!(!without("bConfigurationValue").unwrap().configured);
    }

    #[test]
    fn an_empty_configuration_is_none() {
        assert!(!with("bConfigurationValue", b"").unwrap().configured);
    }

    #[test]
    fn only_udevs_word_makes_a_device_initialized() {
        let initialized = |initialized, since: Option<&str>| {
            let since = since.map(Into::into);
            RawUdev { initialized, since, ..RawUdev::default() }.initialized()
        };
        assert_eq!(initialized(false, None), None);
        assert_eq!(initialized(true, Some("5")), Some(5));
        assert_eq!(initialized(true, Some("soon")), Some(0));
        assert_eq!(initialized(true, None), Some(0));
        // A mocked sysfs can give the property but has no database.
        assert_eq!(initialized(false, Some("5")), Some(5));
    }

    #[test]
    fn an_anchor_that_is_none_is_left_out() {
        let mut raw = scanner();
        raw.udev.path = Some("platform-dummy_hcd.0".into());
        assert_eq!(raw.into_device(busid()).unwrap().anchor, None);
    }

    #[test]
    fn an_interface_without_its_class_makes_the_device_malformed() {
        let mut raw = scanner();
        for interface in raw.interfaces.values_mut() {
            interface.attributes.remove("bInterfaceClass");
        }
        let path = "/sys/i/bInterfaceClass".into();
        let wanted = Error::Malformed { path, what: "is missing" };
        assert_eq!(raw.into_device(busid()), Err(wanted));
    }

    #[test]
    fn hostile_strings_come_out_harmless() {
        let device = with("product", b"\x1b]0;root\x07\xff\n").unwrap();
        assert_eq!(device.product.unwrap().as_str(), "\\u{1b}]0;root\\u{7}\\xff");
        let device = with("serial", &[b'A'; 10_000]).unwrap();
        assert_eq!(device.serial.unwrap().as_str().chars().count(), Text::MAX_CHARS + 1);
    }

    proptest! {
        #[test]
        fn whatever_one_attribute_holds_the_answer_is_a_device_or_names_it(
            at in 0..OF_DEVICE.len(),
            value in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            match with(OF_DEVICE[at], &value) {
                Ok(device) => {
                    let own = [device.manufacturer, device.product, device.serial];
                    for text in own.into_iter().flatten() {
                        prop_assert!(!text.as_str().chars().any(char::is_control));
                    }
                }
                Err(Error::Malformed { path, .. }) => prop_assert!(path.starts_with("/sys/d")),
                Err(other) => prop_assert!(false, "{other}"),
            }
        }
    }
}
