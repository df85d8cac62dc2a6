//! What must be known of devices besides the usual, so that a policy can judge them.

use super::matcher::{Condition, Matcher, UdevMatch};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a policy asks for that is not read of every device in any case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Attributes in sysfs, by their path below a device's directory.
    pub attributes: Arc<BTreeSet<Box<str>>>,
    /// Whether a rule asks for the hubs on the way to a device.
    pub hubs: bool,
}

impl Needs {
    /// What all of these ask for. Groups are not followed: give their matches, too.
    pub(super) fn of<'m>(matchers: impl Iterator<Item = &'m Matcher>) -> Self {
        let mut attributes = BTreeSet::new();
        let mut hubs = false;
        each_condition(matchers, |condition| {
            if let Condition::Udev(wanted) = condition {
                attributes.extend(names(&wanted.attributes));
            }
            hubs |= matches!(condition, Condition::Behind(_));
        });
        Self { attributes: Arc::new(attributes), hubs }
    }
}

/// What a policy asks for of what udev and sysfs say, by name: for who keeps a device and leaves out what
/// counts for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UdevNames {
    /// Names of properties.
    pub properties: BTreeSet<Box<str>>,
    /// Attributes, by their path below a device's directory.
    pub attributes: BTreeSet<Box<str>>,
    /// Tags.
    pub tags: BTreeSet<Box<str>>,
}

impl UdevNames {
    /// What all of these ask for. Groups are not followed: give their matches, too.
    pub(super) fn of<'m>(matchers: impl Iterator<Item = &'m Matcher>) -> Self {
        let mut asked = Self::default();
        each_condition(matchers, |condition| {
            if let Condition::Udev(wanted) = condition {
                let UdevMatch { properties, attributes, tags } = &**wanted;
                asked.properties.extend(names(properties));
                asked.attributes.extend(names(attributes));
                asked.tags.extend(tags.iter().cloned());
            }
        });
        asked
    }
}

fn names<P>(pairs: &[(Box<str>, P)]) -> impl Iterator<Item = Box<str>> {
    pairs.iter().map(|(name, _)| name.clone())
}

fn each_condition<'m>(
    matchers: impl Iterator<Item = &'m Matcher>,
    mut tell: impl FnMut(&Condition),
) {
    let mut open: Vec<&Matcher> = matchers.collect();
    while let Some(matcher) = open.pop() {
        for condition in matcher.conditions() {
            tell(condition);
            open.extend(condition.parts());
        }
    }
}
