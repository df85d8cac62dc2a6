//! Small patterns: the version of USB, and what udev knows.

use super::place::PatternError;
use super::text::TextPattern;
use crate::model::{Device, UsbRelease};
use std::fmt;
use std::str::FromStr;

/// A version of USB, or all versions of one generation: `2.0`, `3.*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReleasePattern {
    /// What stands before the point.
    pub major: u8,
    /// What stands after it, in hundredths; `None` for any.
    pub minor: Option<u8>,
}

impl ReleasePattern {
    /// Whether `release` is one of those.
    pub fn matches(self, release: UsbRelease) -> bool {
        self.major == release.major && self.minor.is_none_or(|minor| minor == release.minor)
    }
}

impl FromStr for ReleasePattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let parse = || {
            let (major, minor) = text.split_once('.')?;
            if minor == "*" {
                let UsbRelease { major, .. } = UsbRelease::from_sysfs(&format!("{major}.00"))?;
                return Some(Self { major, minor: None });
            }
            (!minor.is_empty()).then_some(())?;
            let UsbRelease { major, minor } =
                UsbRelease::from_sysfs(&format!("{major}.{minor:0<2}"))?;
            Some(Self { major, minor: Some(minor) })
        };
        let expected = "a version of USB such as `2.0`, `3.2` or `3.*`";
        let plain = text.bytes().all(|b| b.is_ascii_digit() || b".*".contains(&b));
        parse().filter(|_| plain).ok_or_else(|| PatternError::new(text, expected))
    }
}

impl fmt::Display for ReleasePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { major, minor } = *self;
        match minor {
            Some(minor) => UsbRelease { major, minor }.fmt(f),
            None => f.pad(&format!("{major}.*")),
        }
    }
}

/// What a rule asks of udev's properties and tags and of the attributes in sysfs, all of the device
/// itself and not of its interfaces; all of it must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UdevMatch {
    /// Properties, each with patterns of which one must match. In the order of the policy.
    pub properties: Vec<(Box<str>, Vec<TextPattern>)>,
    /// Attributes, in the same way.
    pub attributes: Vec<(Box<str>, Vec<TextPattern>)>,
    /// Tags of which it must have one; none are asked for if there are none.
    pub tags: Vec<Box<str>>,
}

impl UdevMatch {
    /// Whether `device` is like that.
    pub fn matches(&self, device: &Device) -> bool {
        let facts = &device.udev;
        let fits = |(_, patterns): &(Box<str>, Vec<TextPattern>), there: Option<&str>| {
            there.is_some_and(|there| patterns.iter().any(|pattern| pattern.matches(there)))
        };
        let attribute = |name: &str| facts.attributes.get(name).map(crate::model::Text::as_str);
        self.properties.iter().all(|pair| fits(pair, facts.property(&pair.0)))
            && self.attributes.iter().all(|pair| fits(pair, attribute(&pair.0)))
            && (self.tags.is_empty() || self.tags.iter().any(|tag| facts.tags.contains(tag)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_may_be_written_with_one_digit_or_two() {
        let shown = |text: &str| text.parse::<ReleasePattern>().map(|it| it.to_string()).ok();
        let cases =
            [("2.0", "2.0"), ("2.00", "2.0"), ("2.10", "2.1"), ("3.*", "3.*"), ("2.01", "2.01")];
        for (text, expected) in cases {
            assert_eq!(shown(text).as_deref(), Some(expected));
        }
        for text in ["", "2", "3", "*", "2.", ".0", "2.000", "2.0*", "x.*", " 2.0", "USB 2.0"] {
            assert_eq!(shown(text), None, "{text}");
        }
    }
}
