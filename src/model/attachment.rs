//! Which device is where, and the agent's note of what it did.

use super::controller::{ControllerId, ControllerKind, PortNumber};
use super::device::Plug;
use super::domain::{DomId, GuestUuid};
use std::collections::BTreeSet;
use std::fmt;

/// A port of a controller of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The domain.
    pub domid: DomId,
    /// The controller.
    pub controller: ControllerId,
    /// The port.
    pub port: PortNumber,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "domain {} controller {} port {}", self.domid, self.controller, self.port)
    }
}

/// Names of kernel drivers.
pub type Drivers = BTreeSet<Box<str>>;

/// The agent's note in xenstore about one device, kept under its busid. It is written in the same
/// transaction as the port, so it tells after a crash what was the agent's doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The plug that it speaks of. A later plug in the same port is another matter.
    pub plug: Plug,
    /// Who serves the controller.
    pub kind: ControllerKind,
    /// How far it went.
    pub state: NoteState,
    /// The drivers that dom0 had for it when the agent took it. `None` in a note that an earlier
    /// version of the agent wrote.
    pub drivers: Option<Drivers>,
}

/// How far the agent went with a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteState {
    /// The agent put it there.
    Attached {
        /// Where.
        place: Place,
        /// The domain that had this number then.
        uuid: GuestUuid,
    },
    /// The port is empty again; dom0's drivers are to have the device back.
    Returning,
    /// It was in quarantine and is let out; who is to have it has not got it yet.
    Admitted,
    /// The policy wants nobody to have it, so the agent has taken its interfaces from all drivers.
    Blocked,
}
