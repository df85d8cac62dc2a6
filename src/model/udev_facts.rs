//! What udev's rules and sysfs say of a device beyond what every device has.

use super::text::Text;
use std::collections::{BTreeMap, BTreeSet};

/// What else is known of a device itself; nothing of its interfaces or of what drivers make of it,
/// which comes and goes with the drivers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UdevFacts {
    /// Properties, as `udevadm info` shows them; at most [`Self::MAX`].
    pub properties: BTreeMap<Box<str>, Text>,
    /// Tags; at most [`Self::MAX`].
    pub tags: BTreeSet<Box<str>>,
    /// Attributes in sysfs, by their path below the device's directory; only those that were asked
    /// for.
    pub attributes: BTreeMap<Box<str>, Text>,
}

impl UdevFacts {
    /// The most properties, and the most tags, that are kept.
    pub const MAX: usize = 256;

    /// The value of a property.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.get(name).map(Text::as_str)
    }
}
