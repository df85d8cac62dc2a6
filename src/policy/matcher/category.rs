//! Categories: words for kinds of devices.
//!
//! Each is defined by class triples, and where these do not tell by udev's properties of the device
//! itself. Nothing is guessed from names. What only a driver could find out (that a HID device is a
//! security key, that a device of no class is a serial adapter) is not known here: it would be
//! forgotten as soon as the device is in a domain.

use super::class::ClassPattern;
use crate::model::{ClassTriple, Device};
use std::fmt;

/// A kind of device. A device can be of several, and of none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(
    missing_docs,
    reason = "each is defined in `Category::triples` and `Category::properties`"
)]
pub enum Category {
    Keyboard,
    Pointer,
    Hid,
    Storage,
    Audio,
    Video,
    SmartCard,
    Fido,
    Network,
    Bluetooth,
    Printer,
    Serial,
    Phone,
    Imaging,
    Hub,
    Firmware,
    Vendor,
}

impl Category {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Keyboard,
        Self::Pointer,
        Self::Hid,
        Self::Storage,
        Self::Audio,
        Self::Video,
        Self::SmartCard,
        Self::Fido,
        Self::Network,
        Self::Bluetooth,
        Self::Printer,
        Self::Serial,
        Self::Phone,
        Self::Imaging,
        Self::Hub,
        Self::Firmware,
        Self::Vendor,
    ];

    /// The one that the policy calls by this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|category| category.word() == word)
    }

    /// The policy's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Keyboard => "keyboard",
            Self::Pointer => "pointer",
            Self::Hid => "hid",
            Self::Storage => "storage",
            Self::Audio => "audio",
            Self::Video => "video",
            Self::SmartCard => "smartcard",
            Self::Fido => "fido",
            Self::Network => "network",
            Self::Bluetooth => "bluetooth",
            Self::Printer => "printer",
            Self::Serial => "serial",
            Self::Phone => "phone",
            Self::Imaging => "imaging",
            Self::Hub => "hub",
            Self::Firmware => "firmware",
            Self::Vendor => "vendor",
        }
    }

    /// The class triples that make a device one of these: its own, or that of any interface. The
    /// numbers are those of usb.org's list of class codes, except where a source is named.
    pub fn triples(self) -> &'static [ClassPattern] {
        const fn class(class: u8) -> ClassPattern {
            ClassPattern::class(class)
        }
        const fn subclass(class: u8, subclass: u8) -> ClassPattern {
            ClassPattern::subclass(class, subclass)
        }
        const fn triple(class: u8, subclass: u8, protocol: u8) -> ClassPattern {
            ClassPattern::triple(class, subclass, protocol)
        }
        match self {
            // HID 1.11, sections 4.2 and 4.3: the boot interfaces alone say what they are.
            Self::Keyboard => const { &[triple(0x03, 0x01, 0x01)] },
            Self::Pointer => const { &[triple(0x03, 0x01, 0x02)] },
            Self::Hid => const { &[class(0x03)] },
            Self::Storage => const { &[class(0x08)] },
            Self::Audio => const { &[class(0x01)] },
            Self::Video => const { &[class(0x0e)] },
            Self::SmartCard => const { &[class(0x0b)] },
            Self::Fido => &[],
            // CDC 1.2, table 4: Ethernet, ATM's heir EEM, NCM, MBIM. The others are RNDIS
            // (`drivers/net/usb/rndis_host.c: products`).
            Self::Network => {
                const {
                    &[
                        subclass(0x02, 0x06),
                        subclass(0x02, 0x0c),
                        subclass(0x02, 0x0d),
                        subclass(0x02, 0x0e),
                        triple(0x02, 0x02, 0xff),
                        triple(0xe0, 0x01, 0x03),
                        triple(0xef, 0x04, 0x01),
                    ]
                }
            }
            Self::Bluetooth => const { &[triple(0xe0, 0x01, 0x01)] },
            Self::Printer => const { &[class(0x07)] },
            // `drivers/usb/class/cdc-acm.c: acm_ids`.
            Self::Serial => {
                const {
                    &[
                        triple(0x02, 0x02, 0x00),
                        triple(0x02, 0x02, 0x01),
                        triple(0x02, 0x02, 0x02),
                        triple(0x02, 0x02, 0x03),
                        triple(0x02, 0x02, 0x04),
                        triple(0x02, 0x02, 0x05),
                        triple(0x02, 0x02, 0x06),
                    ]
                }
            }
            // adb, fastboot and adb over DbC (systemd, `70-uaccess.rules`); iPhones (usbmuxd).
            Self::Phone => {
                const {
                    &[
                        triple(0xff, 0x42, 0x01),
                        triple(0xff, 0x42, 0x03),
                        triple(0xdc, 0x02, 0x01),
                        triple(0xff, 0xfe, 0x02),
                    ]
                }
            }
            Self::Imaging => const { &[class(0x06)] },
            Self::Hub => const { &[class(ClassTriple::HUB)] },
            // Device firmware upgrade.
            Self::Firmware => const { &[subclass(0xfe, 0x01)] },
            Self::Vendor => const { &[class(0xff)] },
        }
    }

    /// The properties of the device that make it one of these when udev's rules have set them to
    /// anything but `0`.
    pub fn properties(self) -> &'static [&'static str] {
        match self {
            // Set for readers that have no class of their own (systemd, `60-fido-id.rules`, and
            // GnuPG's rules).
            Self::SmartCard => &["ID_SMARTCARD_READER"],
            // systemd sets these for the hidraw node, which is a child that goes when the device is in
            // a domain; a rule of the administrator's can set them for the device.
            Self::Fido => &["ID_FIDO_TOKEN", "ID_SECURITY_TOKEN"],
            // libmtp's rules, and systemd's since 258.
            Self::Phone => &["ID_MTP_DEVICE", "ID_DEBUG_APPLIANCE"],
            // libgphoto2's rules.
            Self::Imaging => &["ID_GPHOTO2"],
            Self::Keyboard
            | Self::Pointer
            | Self::Hid
            | Self::Storage
            | Self::Audio
            | Self::Video
            | Self::Network
            | Self::Bluetooth
            | Self::Printer
            | Self::Serial
            | Self::Hub
            | Self::Firmware
            | Self::Vendor => &[],
        }
    }

    /// Whether `device` is one of these.
    pub fn includes(self, device: &Device) -> bool {
        let is = |class: ClassTriple| self.triples().iter().any(|triple| triple.matches(class));
        let says = |name: &&str| device.udev.property(name).is_some_and(|value| value != "0");
        is(device.class)
            || device.interfaces.values().any(|interface| is(interface.class))
            || self.properties().iter().any(says)
    }

    /// All categories that `device` is of.
    pub fn of(device: &Device) -> impl Iterator<Item = Self> + '_ {
        Self::ALL.into_iter().filter(|category| category.includes(device))
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}
