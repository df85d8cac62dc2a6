//! What is expected of a device, and whether it is so.

use super::outcome::{End, Outcome};
use crate::model::{BusId, PortNumber, Text, Use};
use crate::plan::Refusal;
use crate::policy::text::Span;
use std::fmt;

/// What is expected of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// What the device is called in its text.
    pub device: Box<str>,
    /// Where it is plugged.
    pub busid: BusId,
    /// Where it is to end.
    pub wanted: Wanted,
    /// The rule that is to decide, as it is called.
    pub rule: Option<Box<str>>,
    /// The port that it is to get.
    pub port: Option<PortNumber>,
    pub(super) span: Span,
}

/// Where a device is to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// In dom0, for whatever reason, unless it is only stuck there.
    Dom0,
    /// There, and for no other reason.
    End(End),
}

/// What holds a device in dom0 whatever its rule says: the interlock's reasons, each in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is one of `plan::Refusal`")]
pub enum Guard {
    Hub,
    Mounted,
    Swap,
    Held,
    Route,
    Keyboard,
    Pointer,
    Protect,
}

impl Guard {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Hub,
        Self::Mounted,
        Self::Swap,
        Self::Held,
        Self::Route,
        Self::Keyboard,
        Self::Pointer,
        Self::Protect,
    ];

    /// Its word in a test.
    pub fn word(self) -> &'static str {
        match self {
            Self::Hub => "hub",
            Self::Mounted => "mounted",
            Self::Swap => "swap",
            Self::Held => "held",
            Self::Route => "route",
            Self::Keyboard => "keyboard",
            Self::Pointer => "pointer",
            Self::Protect => "protect",
        }
    }

    /// The guard that says so; none for a device that is not plugged.
    pub fn of(refusal: &Refusal) -> Option<Self> {
        Some(match refusal {
            Refusal::Hub => Self::Hub,
            Refusal::Storage(Use::Mounted { .. }) => Self::Mounted,
            Refusal::Storage(Use::Swap { .. }) => Self::Swap,
            Refusal::Storage(Use::Held { .. }) => Self::Held,
            Refusal::Storage(Use::Route { .. }) | Refusal::Route { .. } => Self::Route,
            Refusal::Storage(Use::Keyboard) | Refusal::LastKeyboard => Self::Keyboard,
            Refusal::Storage(Use::Pointer) | Refusal::LastPointer => Self::Pointer,
            Refusal::Listed { .. } => Self::Protect,
            Refusal::NotPlugged => return None,
        })
    }
}

impl Expectation {
    /// Whether it is so.
    pub fn is_met(&self, outcome: &Outcome) -> bool {
        let rule = self.rule.as_deref();
        self.wanted.is_met(&outcome.end)
            && rule.is_none_or(|rule| outcome.rule.as_deref() == Some(rule))
            && self.port.is_none_or(|port| outcome.port == Some(port))
    }

    /// What to say when it is not so; `None` when it is.
    pub(super) fn complaint(&self, outcome: &Outcome) -> Option<String> {
        if self.is_met(outcome) {
            return None;
        }
        let name = Text::from(&*self.device);
        let because = &outcome.because;
        if !self.wanted.is_met(&outcome.end) {
            return Some(format!("`{name}` should {}, but it {because}", self.wanted));
        }
        let ruled = |rule: Option<&str>| {
            rule.map_or("no rule".to_owned(), |rule| format!("`{}`", Text::from(rule)))
        };
        let rule = self.rule.as_deref();
        if rule.is_some_and(|rule| outcome.rule.as_deref() != Some(rule)) {
            let (wanted, there) = (ruled(rule), ruled(outcome.rule.as_deref()));
            return Some(format!(
                "`{name}` should {} by {wanted}, but {there} decides",
                self.wanted
            ));
        }
        let ported = |port: Option<PortNumber>| {
            port.map_or("no port".to_owned(), |port| format!("port {port}"))
        };
        let (wanted, there) = (ported(self.port), ported(outcome.port));
        Some(format!("`{name}` should get {wanted}, but it gets {there}"))
    }
}

impl Wanted {
    fn is_met(&self, end: &End) -> bool {
        match self {
            Self::Dom0 => {
                matches!(end, End::Kept | End::Unmatched | End::Guarded(_) | End::Waits)
            }
            Self::End(wanted) => wanted == end,
        }
    }
}

/// As the rest of a sentence: the device should ….
impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dom0 => f.write_str("stay in dom0"),
            Self::End(end) => end.fmt(f),
        }
    }
}
