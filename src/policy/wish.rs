//! What a controller that the agent makes is to be, as far as the policy decides it.
//!
//! A wish, not a specification: `auto` is settled elsewhere, by what the host can do.

use crate::model::{PortNumber, UsbVersion};
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
