//! Patterns of USB ids and of places.

use crate::model::{Anchor, BusId, Device, Text, UsbId};
use std::fmt;
use std::str::FromStr;

/// A text that is not the pattern it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct PatternError {
    text: Text,
    expected: &'static str,
}

impl PatternError {
    pub(super) fn new(text: &str, expected: &'static str) -> Self {
        Self { text: text.into(), expected }
    }
}

/// A vendor, a product, both or neither: `05e0:1200`, `05e0:*`, `*:1200`, `*:*` or `*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdPattern {
    /// `idVendor`; `None` for any.
    pub vendor: Option<u16>,
    /// `idProduct`; `None` for any.
    pub product: Option<u16>,
}

impl IdPattern {
    /// Whether `id` is one of those.
    pub fn matches(self, id: UsbId) -> bool {
        self.vendor.is_none_or(|vendor| vendor == id.vendor)
            && self.product.is_none_or(|product| product == id.product)
    }
}

impl FromStr for IdPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        // The model says what an id is. A `*` stands for any number, so any number stands in.
        let parse = || {
            let (vendor, product) = if text == "*" { ("*", "*") } else { text.split_once(':')? };
            let number = |half| if half == "*" { "0000" } else { half };
            let id: UsbId = format!("{}:{}", number(vendor), number(product)).parse().ok()?;
            Some(Self {
                vendor: (vendor != "*").then_some(id.vendor),
                product: (product != "*").then_some(id.product),
            })
        };
        let expected = "a USB id such as `05e0:1200`, `05e0:*` or `*:1200`";
        parse().ok_or_else(|| PatternError::new(text, expected))
    }
}

impl fmt::Display for IdPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let half = |half: Option<u16>| half.map_or("*".into(), |number| format!("{number:04x}"));
        f.pad(&format!("{}:{}", half(self.vendor), half(self.product)))
    }
}

/// A port, or every port below a hub at any depth. The hub itself is not below itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortPattern {
    /// `1-1.4`
    At(BusId),
    /// `1-1.*`
    Below(BusId),
    /// `pci-0000:00:14.0-usb-0:1.4`. Does not match where udev could not tell the path.
    AnchoredAt(Anchor),
    /// `pci-0000:00:14.0-usb-0:1.*`. Does not match where udev could not tell the path.
    AnchoredBelow(Anchor),
}

impl PortPattern {
    /// Whether `device` is plugged there.
    pub fn matches(&self, device: &Device) -> bool {
        let anchor = device.anchor.as_ref();
        match self {
            Self::At(port) => device.busid == *port,
            Self::Below(hub) => device.busid.is_below(hub),
            Self::AnchoredAt(port) => anchor.is_some_and(|anchor| anchor == port),
            Self::AnchoredBelow(hub) => anchor.is_some_and(|anchor| anchor.is_below(hub)),
        }
    }
}

impl FromStr for PortPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let hub = text.strip_suffix(".*");
        let place = hub.unwrap_or(text);
        let busid =
            || Some(if hub.is_some() { Self::Below } else { Self::At }(place.parse().ok()?));
        let anchor = || {
            let pattern = if hub.is_some() { Self::AnchoredBelow } else { Self::AnchoredAt };
            Some(pattern(place.parse().ok()?))
        };
        let expected = "a USB port such as `1-1.4` or `pci-0000:00:14.0-usb-0:1.4`, \
                        or all below a hub such as `1-1.*`";
        busid().or_else(anchor).ok_or_else(|| PatternError::new(text, expected))
    }
}

impl fmt::Display for PortPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(port) => port.fmt(f),
            Self::Below(hub) => f.pad(&format!("{hub}.*")),
            Self::AnchoredAt(port) => port.fmt(f),
            Self::AnchoredBelow(hub) => f.pad(&format!("{hub}.*")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_a_whole_half() {
        let matches = |pattern: &str, id: &str| {
            pattern.parse::<IdPattern>().unwrap().matches(id.parse().unwrap())
        };
        assert!(matches("05E0:*", "05e0:1200") && matches("*:1200", "05e0:1200"));
        assert!(
            matches("*:*", "ffff:0000")
                && matches("*", "ffff:0000")
                && matches("05e0:1200", "05e0:1200")
        );
        assert!(!matches("05e0:*", "05e1:1200") && !matches("*:0000", "05e0:1200"));
        for text in ["", "05e*:1200", "**:1200", "05e0", "05e0:1200:1", ":", "0x05e0:1200"] {
            assert!(text.parse::<IdPattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn patterns_are_shown_as_they_are_written() {
        for text in ["1-1.4", "1-1.*", "pci-0000:00:14.0-usb-0:1.4", "pci-0000:00:14.0-usb-0:1.*"] {
            assert_eq!(text.parse::<PortPattern>().unwrap().to_string(), text);
        }
        for text in ["*", "1-*", "1-1*", "1-1.*.*", "1-1.4:1.0", "usb1", ".*", "1-.*", "1-1.", ""] {
            assert!(text.parse::<PortPattern>().is_err(), "{text}");
        }
        for text in ["05e0:1200", "*:1200", "05e0:*", "*:*"] {
            assert_eq!(text.parse::<IdPattern>().unwrap().to_string(), text);
        }
    }
}
