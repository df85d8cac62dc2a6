//! The directory of a USB driver, as libxl notes it in xenstore.
//!
//! Only the name and its form. Whether such a driver is there is known when it is used.

use crate::model::Text;
use std::fmt;
use std::str::FromStr;

/// The directory of a driver of USB interfaces: `/sys/bus/usb/drivers/btusb`.
///
/// libxl keeps this text below `/libxl/usbback` to find the way back
/// (`libxl_usb.c: usbback_dev_assign`) and pastes it into a path that is written to. So nothing
/// else than one component below that directory can be held here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DriverDir(Box<str>);

impl DriverDir {
    const PARENT: &str = "/sys/bus/usb/drivers/";
    /// The longest name of a file on Linux (`NAME_MAX`).
    const MAX_NAME: usize = 255;

    /// The directory of usbback, which serves interfaces to guests.
    pub fn usbback() -> Self {
        Self("usbback".into())
    }

    /// The driver's name: `btusb`.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Whether an interface may be given back to this driver. usbback serves guests and usbfs
    /// serves programs: an interface that goes to one of them is not back in dom0.
    pub fn is_way_back(&self) -> bool {
        !["usbback", "usbfs"].contains(&self.name())
    }

    pub(super) fn from_name(name: &str) -> Result<Self, DriverDirError> {
        let plain = !["", ".", ".."].contains(&name)
            && name.len() <= Self::MAX_NAME
            && !name.chars().any(|c| c == '/' || c.is_control());
        plain.then(|| Self(name.into())).ok_or_else(|| DriverDirError(name.into()))
    }
}

/// A text that is not the directory of a USB driver.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the directory of a USB driver such as `/sys/bus/usb/drivers/btusb`")]
pub struct DriverDirError(Text);

impl FromStr for DriverDir {
    type Err = DriverDirError;

    fn from_str(text: &str) -> Result<Self, DriverDirError> {
        let name = text.strip_prefix(Self::PARENT).ok_or_else(|| DriverDirError(text.into()))?;
        Self::from_name(name).map_err(|_| DriverDirError(text.into()))
    }
}

impl fmt::Display for DriverDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}{}", Self::PARENT, self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_one_component_below_the_drivers_is_taken() {
        for text in [
            "",
            "btusb",
            "/sys/bus/usb/drivers",
            "/sys/bus/usb/drivers/",
            "/sys/bus/usb/drivers//",
            "/sys/bus/usb/drivers/.",
            "/sys/bus/usb/drivers/..",
            "/sys/bus/usb/drivers/../../pci/drivers/x",
            "/sys/bus/usb/drivers/btusb/",
            "/sys/bus/usb/drivers/btusb/bind",
            "/sys/bus/usb/drivers/bt\nusb",
            "/sys/bus/usb/drivers/bt\0usb",
            "/sys/bus/pci/drivers/xhci_hcd",
            " /sys/bus/usb/drivers/btusb",
        ] {
            assert!(text.parse::<DriverDir>().is_err(), "{text:?}");
        }
        let long = format!("/sys/bus/usb/drivers/{}", "x".repeat(256));
        assert!(long.parse::<DriverDir>().is_err());
    }

    #[test]
    fn the_text_is_libxls() {
        let text = "/sys/bus/usb/drivers/btusb";
        let dir: DriverDir = text.parse().unwrap();
        assert_eq!((dir.name(), dir.to_string().as_str()), ("btusb", text));
    }

    #[test]
    fn neither_guests_nor_programs_are_a_way_back() {
        let way_back = |name| DriverDir::from_name(name).unwrap().is_way_back();
        assert!(way_back("usbhid") && way_back("usbfs2"));
        assert!(!way_back("usbfs") && !DriverDir::usbback().is_way_back());
    }

    proptest! {
        #[test]
        fn what_is_taken_has_exactly_the_text_that_was_given(text in "/sys/bus/usb/drivers/.{0,9}") {
            if let Ok(dir) = text.parse::<DriverDir>() {
                prop_assert_eq!(dir.to_string(), text);
                prop_assert!(!dir.name().contains('/'));
            }
        }
    }
}
