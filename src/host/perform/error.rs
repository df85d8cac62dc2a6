//! Why a step was not performed, and what that means for the one who asked.

use crate::host::{usb, xenstore};
use crate::model::{BusId, DomId, InterfaceName, Place, Use};
use crate::plan::StepError;

/// Why a step was not performed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Changed(#[from] Changed),
    #[error(transparent)]
    Xenstore(#[from] xenstore::Error),
    #[error(transparent)]
    Usb(#[from] usb::Error),
    #[error("usbback has not noticed the port of device {0}")]
    NotNoticed(BusId),
    #[error("usbback does not take interface {0}")]
    NotTaken(InterfaceName),
    #[error("the work on a driver was cut short")]
    CutShort(#[from] tokio::task::JoinError),
}

/// What the step expected and did not find.
#[derive(Debug, thiserror::Error)]
pub(super) enum Changed {
    #[error("device {0} is not plugged as it was")]
    Device(BusId),
    #[error("device {0} is in use: {1}")]
    InUse(BusId, Use),
    #[error("usbback has interface {0} since")]
    Taken(InterfaceName),
    #[error("domain {0} is gone or another")]
    Domain(DomId),
    #[error("the controller of {0} is not as it was")]
    Controller(Place),
    #[error("{0} is not as it was")]
    Port(Place),
    #[error("device {0} is in a port already: {1}")]
    Attached(BusId, Place),
    #[error("there are other domains or controllers than before")]
    Survey,
    #[error("the controller is in use")]
    ControllerInUse,
    #[error("what is noted of device {0} is not as it was")]
    Note(BusId),
    #[error("something is plugged at {0}")]
    Plugged(BusId),
    #[error("the bus of {0} holds new devices back: only a running agent says who may have them")]
    HeldBack(BusId),
    #[error("the controller has a type or a backend")]
    Whole,
    #[error("domain {0} is back")]
    DomainBack(DomId),
}

impl Failure {
    /// Sorts by what to do about it; every kind is named, so that a new one must be thought about.
    pub(super) fn sort(self) -> StepError {
        use xenstore::Error as Xs;
        match self {
            Self::Changed(changed) => StepError::Stale(changed.into()),
            Self::NotNoticed(_) => StepError::Transient(self.into()),
            // It was tried for as long as it can take: the device is of a kind that usbback refuses.
            Self::NotTaken(_) => StepError::Permanent(self.into()),
            Self::CutShort(error) => StepError::Transient(error.into()),
            Self::Usb(error) => match error {
                usb::Error::Gone { .. } => StepError::Stale(error.into()),
                usb::Error::Busy { .. }
                | usb::Error::Refused { .. }
                | usb::Error::Io { .. }
                | usb::Error::Monitor { .. }
                | usb::Error::NoUdev => StepError::Transient(error.into()),
                usb::Error::Denied { .. } | usb::Error::Malformed { .. } => {
                    StepError::Permanent(error.into())
                }
            },
            Self::Xenstore(error) => match error {
                Xs::NotFound { .. } => StepError::Stale(error.into()),
                Xs::Denied { .. }
                | Xs::Refused { .. }
                | Xs::BadPath { .. }
                | Xs::TooLarge { .. } => StepError::Permanent(error.into()),
                Xs::Conflict { .. }
                | Xs::NoSpace { .. }
                | Xs::Protocol { .. }
                | Xs::Disconnected { .. }
                | Xs::Connect { .. } => StepError::Transient(error.into()),
            },
        }
    }
}
