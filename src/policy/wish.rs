//! What a controller that the agent makes is to be, as far as the policy decides it.
//!
//! A wish, not a specification: `auto` is settled elsewhere, by what the host can do.

use crate::model::{ControllerId, PortNumber, UsbVersion};
use std::fmt;

/// What a new controller is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControllerWish {
    /// Who is to serve it.
    pub kind: KindWish,
    /// The USB version that it is to offer.
    pub version: UsbVersion,
    /// How many ports it is to have.
    pub ports: PortNumber,
}

/// The usual: whoever can, USB 2, eight ports. These are also `xl usbctrl-attach`'s defaults.
impl Default for ControllerWish {
    fn default() -> Self {
        let ports = PortNumber::new(8).unwrap_or(PortNumber::MAX);
        Self { kind: KindWish::Auto, version: UsbVersion::V2, ports }
    }
}

/// What a rule or an alias asks for in a domain. What it leaves open is settled elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetWish {
    /// Who is to serve the controller: others are not used.
    pub kind: Option<KindWish>,
    /// The USB version of the controller: others are not used.
    pub version: Option<UsbVersion>,
    /// How many ports a new controller is to have.
    pub ports: Option<PortNumber>,
    /// The controller's number in its domain.
    pub index: Option<ControllerId>,
    /// The port.
    pub port: Option<PortNumber>,
}

impl TargetWish {
    /// Nothing in particular.
    pub const ANY: Self = Self { kind: None, version: None, ports: None, index: None, port: None };

    /// This, and for what it leaves open the other.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            kind: self.kind.or(other.kind),
            version: self.version.or(other.version),
            ports: self.ports.or(other.ports),
            index: self.index.or(other.index),
            port: self.port.or(other.port),
        }
    }

    /// What a new controller is to be, where `usual` is what the policy says of all. It has the port that
    /// is asked for.
    pub fn over(self, usual: ControllerWish) -> ControllerWish {
        let ports = self.ports.unwrap_or(usual.ports);
        ControllerWish {
            kind: self.kind.unwrap_or(usual.kind),
            version: self.version.unwrap_or(usual.version),
            ports: self.port.map_or(ports, |port| ports.max(port)),
        }
    }
}

/// Who is to serve a controller. Emulated ones cannot be wished for: they are driven through QMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KindWish {
    /// Whoever can.
    Auto,
    /// The kernel's usbback.
    Pv,
    /// The domain's QEMU.
    Qusb,
}

impl KindWish {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Pv, Self::Qusb];

    /// The one that the policy calls by this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// The policy's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Pv => "pv",
            Self::Qusb => "qusb",
        }
    }
}

impl fmt::Display for KindWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}
