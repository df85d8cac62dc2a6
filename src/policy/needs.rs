//! What must be known of devices besides the usual, so that a policy can judge them.

use super::matcher::{Condition, Matcher};
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
        let mut open: Vec<&Matcher> = matchers.collect();
        while let Some(matcher) = open.pop() {
            for condition in matcher.conditions() {
                if let Condition::Udev(wanted) = condition {
                    attributes.extend(wanted.attributes.iter().map(|(name, _)| name.clone()));
                }
                hubs |= matches!(condition, Condition::Behind(_));
                open.extend(condition.parts());
            }
        }
        Self { attributes: Arc::new(attributes), hubs }
    }
}
