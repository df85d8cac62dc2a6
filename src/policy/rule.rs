//! One rule: which devices, and where they belong.

use super::defaults::Flapping;
use super::matcher::Matcher;
use super::source::Location;
use super::target::{Target, When};
use crate::model::Text;
use std::fmt;
use std::time::Duration;

/// One rule of a policy. Shown as logs name it: `rule "front desk scanner" (policy.yaml:5)`.
///
/// Two rules are equal when they say the same; where they stand does not count.
#[derive(Clone, Debug)]
pub struct Rule {
    pub(super) number: usize,
    pub(super) name: Option<Box<str>>,
    pub(super) description: Option<Box<str>>,
    pub(super) location: Location,
    pub(super) enabled: bool,
    pub(super) matcher: Matcher,
    pub(super) when: When,
    pub(super) action: Action,
    pub(super) limit: Option<Flapping>,
    pub(super) settle: Option<Duration>,
    pub(super) patience: Option<Duration>,
    pub(super) on_identity_change: Option<Duration>,
    pub(super) on_unplug: OnUnplug,
}

impl Rule {
    /// The longest time that a domain can be given.
    pub const MAX_PATIENCE: Duration = Duration::from_secs(3600);
    /// The longest time that the way of a device can be kept.
    pub const MAX_KEEP: Duration = Duration::from_secs(600);
    /// The longest name of a rule that keeps the way of its devices, in bytes: it is noted in xenstore, where
    /// a node has 4096 at most (`xs_wire.h: XENSTORE_PAYLOAD_MAX`).
    pub const MAX_KEPT_NAME: usize = 200;

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

    /// How it is told of.
    pub fn told(&self) -> RuleName {
        RuleName { label: self.label().into(), location: self.location.clone() }
    }

    /// What people say about it. May run over lines.
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }

    /// Whether it counts. One that is switched off is as if it were not there.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// What must be with domains for it to count.
    pub fn when(&self) -> &When {
        &self.when
    }

    /// When its devices count as flapping, if not as all others.
    pub fn limit(&self) -> Option<Flapping> {
        self.limit
    }

    /// How long to wait after udev has finished with one of its devices, if not as long as with all others.
    pub fn settle(&self) -> Option<Duration> {
        self.settle
    }

    /// How long each domain of its list may take before the next one is tried; at most
    /// [`Self::MAX_PATIENCE`]. `None`: one that runs has all the time there is, one that does not run none.
    pub fn patience(&self) -> Option<Duration> {
        self.patience
    }

    /// How long whatever comes where one of its devices was goes the same way, once that is gone; at most
    /// [`Self::MAX_KEEP`]. Only a rule that attaches has it, and it has a name.
    pub fn on_identity_change(&self) -> Option<Duration> {
        self.on_identity_change
    }

    /// What becomes of the place of one of its devices that is pulled. Only a rule that attaches holds it,
    /// and it has a name.
    pub fn on_unplug(&self) -> OnUnplug {
        self.on_unplug
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
        let Self {
            name,
            description,
            enabled,
            matcher,
            when,
            action,
            limit,
            settle,
            patience,
            on_identity_change,
            on_unplug,
            ..
        } = self;
        *name == other.name
            && *description == other.description
            && *enabled == other.enabled
            && *matcher == other.matcher
            && *when == other.when
            && *action == other.action
            && *limit == other.limit
            && *settle == other.settle
            && *patience == other.patience
            && *on_identity_change == other.on_identity_change
            && *on_unplug == other.on_unplug
    }
}

impl Eq for Rule {}

/// A rule as people are told of it, shown as `front desk scanner (policy.yaml:5)`. Two are equal when they
/// are called the same: a rule that has moved in its file is no news.
#[derive(Clone, Debug)]
pub struct RuleName {
    label: Box<str>,
    location: Location,
}

impl RuleName {
    /// What it is called, without its place: its name, or its number. Escaped for showing.
    pub fn label(&self) -> &str {
        &self.label
    }
}

impl PartialEq for RuleName {
    fn eq(&self, other: &Self) -> bool {
        self.label == other.label
    }
}

impl Eq for RuleName {}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.label, self.location)
    }
}

/// What becomes of the place in a domain of a device that is pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUnplug {
    /// Its port is cleared, and whoever comes first gets it.
    #[default]
    Clean,
    /// Its port is cleared, and nobody else gets it for so long: the same device in the same place comes back
    /// to the same domain and port. At most [`Rule::MAX_KEEP`].
    Hold(Duration),
}

impl OnUnplug {
    /// How long the place is held.
    pub fn hold(self) -> Option<Duration> {
        match self {
            Self::Clean => None,
            Self::Hold(time) => Some(time),
        }
    }
}

/// Where a device belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// `attach`: to the first of these domains that runs. Never empty.
    Attach(Vec<Target>),
    /// `keep: dom0`: it stays in dom0.
    Keep,
    /// `block: true`: no driver and no domain has it.
    Block,
}
