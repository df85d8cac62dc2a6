//! One rule: which devices, and where they belong.

use super::matcher::Matcher;
use super::source::Location;
use crate::model::{GuestName, Text};
use std::fmt;

/// One rule of a policy. Shown as logs name it: `rule "front desk scanner" (policy.yaml:5)`.
///
/// Two rules are equal when they say the same; where they stand does not count.
#[derive(Clone, Debug)]
pub struct Rule {
    pub(super) number: usize,
    pub(super) name: Option<Box<str>>,
    pub(super) location: Location,
    pub(super) matcher: Matcher,
    pub(super) action: Action,
}

impl Rule {
    /// The name that it was given: one line of visible characters.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The name, or else the number that it has in its policy: `rule 3`. Escaped for showing.
    pub fn label(&self) -> String {
        match &self.name {
            Some(name) => Text::from(&**name).to_string(),
            None => format!("rule {}", self.number),
        }
    }

    /// Where it was written down.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// Which devices it is about.
    pub fn matcher(&self) -> &Matcher {
        &self.matcher
    }

    /// Where they belong.
    pub fn action(&self) -> &Action {
        &self.action
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "rule \"{}\" ({})", Text::from(&**name), self.location),
            None => write!(f, "rule {} ({})", self.number, self.location),
        }
    }
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.matcher, &self.action) == (&other.name, &other.matcher, &other.action)
    }
}

impl Eq for Rule {}

/// Where a device belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// `attach`: to the first of these domains that runs. Never empty.
    Attach(Vec<GuestName>),
    /// `keep: dom0`: it stays in dom0.
    Keep,
}
