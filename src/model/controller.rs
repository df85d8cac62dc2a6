//! A virtual USB controller and its ports.

use super::bus::{BusId, NameError};
use super::text::Text;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The number of a controller in its domain: libxl's `devid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ControllerId(u32);

impl ControllerId {
    /// The first controller of a domain.
    pub const FIRST: Self = Self(0);
    /// The highest number that the agent gives out. libxl takes the last entry of a directory
    /// listing plus one as the next number (`libxl_device.c: libxl__device_nextid`), and
    /// oxenstored lists `10` before `9`: with more than ten controllers `xl usbctrl-attach` would
    /// pick a number that exists.
    pub const LAST: Self = Self(9);

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The number after this one, as long as the agent may give it out.
    pub fn next(self) -> Option<Self> {
        (self < Self::LAST).then(|| Self(self.0 + 1))
    }
}

impl FromStr for ControllerId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let plain = text == "0" || (!text.starts_with('0') && !text.starts_with('+'));
        plain
            .then(|| text.parse().ok())
            .flatten()
            .map(Self)
            .ok_or_else(|| NameError::new(text, "a controller number"))
    }
}

impl fmt::Display for ControllerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.to_string())
    }
}

/// Who serves a controller; the words that libxl writes into its `type` node. Any other word there
/// makes `xl usbctrl-detach` abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ControllerKind {
    /// The kernel's usbback in dom0.
    Pv,
    /// The domain's QEMU in dom0, over the PV protocol.
    Qusb,
    /// An emulated controller of an HVM domain. Listed, never used: it is driven through QMP.
    DeviceModel,
}

impl ControllerKind {
    /// libxl's word for it (`libxl_types.idl: usbctrl_type`).
    pub fn word(self) -> &'static str {
        match self {
            Self::Pv => "pv",
            Self::Qusb => "qusb",
            Self::DeviceModel => "devicemodel",
        }
    }

    /// The directory of its backends, below `/local/domain/0/backend`; `None` for an emulated one.
    pub fn backend(self) -> Option<&'static str> {
        match self {
            Self::Pv => Some("vusb"),
            Self::Qusb => Some("qusb"),
            Self::DeviceModel => None,
        }
    }
}

impl FromStr for ControllerKind {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        [Self::Pv, Self::Qusb, Self::DeviceModel]
            .into_iter()
            .find(|kind| kind.word() == text)
            .ok_or_else(|| NameError::new(text, "`pv`, `qusb` or `devicemodel`"))
    }
}

impl fmt::Display for ControllerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// The USB version that a controller offers to its guest. A PV controller offers 1 or 2
/// (`xen/include/public/io/usbif.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UsbVersion {
    /// USB 1.1: low and full speed only.
    V1,
    /// USB 2.0.
    V2,
}

impl fmt::Display for UsbVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::V1 => "1",
            Self::V2 => "2",
        })
    }
}

/// What a new controller is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControllerSpec {
    /// Who serves it: `pv` or `qusb`.
    pub kind: ControllerKind,
    /// The USB version that it offers.
    pub version: UsbVersion,
    /// How many ports it has.
    pub ports: PortNumber,
}

/// The number of a port of a controller, 1 to [`PortNumber::MAX`]. Also a count of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortNumber(u8);

impl PortNumber {
    /// The most ports a controller can have (`USBIF_MAX_PORTNR`, `usbif.h`).
    pub const MAX: Self = Self(31);
    /// The first port.
    pub const FIRST: Self = Self(1);

    /// The number, if it is one of a port.
    pub fn new(number: u8) -> Option<Self> {
        (Self::FIRST.0..=Self::MAX.0).contains(&number).then_some(Self(number))
    }

    /// The number.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// All ports of a controller that has `self` ports.
    pub fn up_to(self) -> impl Iterator<Item = Self> {
        (Self::FIRST.0..=self.0).map(Self)
    }
}

impl FromStr for PortNumber {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let plain = !text.starts_with(['0', '+']);
        plain
            .then(|| text.parse().ok())
            .flatten()
            .and_then(Self::new)
            .ok_or_else(|| NameError::new(text, "a port number from 1 to 31"))
    }
}

impl fmt::Display for PortNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.to_string())
    }
}

/// What a port's node says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortContent {
    /// Empty: free.
    Free,
    /// A busid.
    Taken(BusId),
    /// Something that is not a busid. Not free, and not ours.
    Strange(Text),
}

/// The state of one end of a connection (`xen/include/public/io/xenbus.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum XenbusState {
    /// No state, or not a number that is one.
    Unknown,
    /// 1: the nodes are there.
    Initialising,
    /// 2: the backend waits for the frontend.
    InitWait,
    /// 3: the frontend has offered its rings.
    Initialised,
    /// 4: connected.
    Connected,
    /// 5: going away.
    Closing,
    /// 6: gone.
    Closed,
    /// 7: reconfiguring.
    Reconfiguring,
    /// 8: reconfigured.
    Reconfigured,
}

impl XenbusState {
    /// The word for it, in answers.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Initialising => "initialising",
            Self::InitWait => "waiting",
            Self::Initialised => "initialised",
            Self::Connected => "connected",
            Self::Closing => "closing",
            Self::Closed => "closed",
            Self::Reconfiguring => "reconfiguring",
            Self::Reconfigured => "reconfigured",
        }
    }

    /// Reads a `state` node. A guest writes its own, so anything may stand there.
    pub fn from_node(bytes: &[u8]) -> Self {
        match bytes {
            b"1" => Self::Initialising,
            b"2" => Self::InitWait,
            b"3" => Self::Initialised,
            b"4" => Self::Connected,
            b"5" => Self::Closing,
            b"6" => Self::Closed,
            b"7" => Self::Reconfiguring,
            b"8" => Self::Reconfigured,
            _ => Self::Unknown,
        }
    }
}

/// A controller as dom0's own nodes show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controller {
    /// Who serves it.
    pub kind: ControllerKind,
    /// The USB version that it offers; `None` when the node does not say 1 or 2.
    pub version: Option<UsbVersion>,
    /// The ports up to `num-ports` that have a node.
    pub ports: BTreeMap<PortNumber, PortContent>,
    /// The backend's state; [`XenbusState::Unknown`] for an emulated controller.
    pub backend: XenbusState,
    /// The frontend's state: the guest's word, a hint and no more.
    pub frontend: XenbusState,
    /// Whether the agent made it.
    pub ours: bool,
}

/// Why a controller's nodes cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControllerFault {
    /// `/libxl/…/type` is missing: `xl usb-list` and every `xl usbdev-attach` crash on it.
    #[error("its type node is missing")]
    NoType,
    /// `/libxl/…/type` is a word that is not known.
    #[error("its type is `{0}`")]
    StrangeType(Text),
    /// The backend is not the one in dom0 that its type and number call for.
    #[error("its backend is `{0}`, not the one in dom0 that belongs to it")]
    ForeignBackend(Text),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_end_at_31() {
        assert_eq!(PortNumber::new(0), None);
        assert_eq!(PortNumber::new(32), None);
        assert_eq!(PortNumber::MAX.up_to().count(), 31);
    }

    #[test]
    fn the_agent_gives_out_ten_numbers() {
        let mut id = Some(ControllerId::FIRST);
        let mut count = 0;
        while let Some(this) = id {
            count += 1;
            id = this.next();
        }
        assert_eq!(count, 10);
    }

    #[test]
    fn a_guest_that_writes_nonsense_is_in_an_unknown_state() {
        for nonsense in [&b""[..], b"4\0", b"04", b"9", b"\xff"] {
            assert_eq!(XenbusState::from_node(nonsense), XenbusState::Unknown);
        }
    }
}
