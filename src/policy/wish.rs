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

/// In words, after the domain's name: ` on controller 1 (pv, USB 2, 4 ports), port 3`. Nothing if nothing is
/// asked for.
impl fmt::Display for TargetWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, version, ports, index, port } = *self;
        let traits = [
            kind.map(|kind| kind.to_string()),
            version.map(|version| format!("USB {version}")),
            ports.map(|ports| format!("{ports} ports")),
        ];
        let traits: Vec<_> = traits.into_iter().flatten().collect();
        match (index, traits.is_empty()) {
            (Some(index), _) => write!(f, " on controller {index}")?,
            (None, false) => f.write_str(" on a controller")?,
            (None, true) => {}
        }
        if !traits.is_empty() {
            write!(f, " ({})", traits.join(", "))?;
        }
        let comma = if index.is_none() && traits.is_empty() { " on" } else { "," };
        port.map_or(Ok(()), |port| write!(f, "{comma} port {port}"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_in_a_domain_is_told_in_words() {
        let number = |number| PortNumber::new(number).unwrap();
        let port = TargetWish { port: Some(number(3)), ..TargetWish::ANY };
        let index = TargetWish { index: Some("1".parse().unwrap()), ..TargetWish::ANY };
        let kind = Some(KindWish::Pv);
        let made =
            TargetWish { kind, version: Some(UsbVersion::V2), ports: Some(number(4)), ..port };
        let told =
            [TargetWish::ANY, port, index, made, index.or(made)].map(|it| format!("desk{it}"));
        let expected = [
            "desk",
            "desk on port 3",
            "desk on controller 1",
            "desk on a controller (pv, USB 2, 4 ports), port 3",
            "desk on controller 1 (pv, USB 2, 4 ports), port 3",
        ];
        assert_eq!(told, expected);
    }
}
