//! Why the daemon cannot run.

use crate::control::server::AddressError;
use crate::host::usb;
use crate::policy::Problems;
use std::io;

/// Why the daemon cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The policy is bad.
    #[error("the policy cannot be used")]
    Policy(Problems),
    /// Another agent has the control socket: two would be in each other's way.
    #[error(transparent)]
    Control(AddressError),
    /// udev cannot be listened to.
    #[error("cannot listen to udev")]
    Usb(#[from] usb::Error),
    /// The kernel does not tell of mounts or routes.
    #[error("cannot listen to changes of mounts, swap space and routes")]
    Uses(#[source] io::Error),
    /// libxl's directory cannot be watched.
    #[error("cannot watch libxl's files about domains")]
    UserData(#[source] io::Error),
    /// The system has no room for a loop or its signals.
    #[error("cannot set up the event loop")]
    Runtime(#[source] io::Error),
}

impl From<Problems> for Error {
    fn from(problems: Problems) -> Self {
        Self::Policy(problems)
    }
}
