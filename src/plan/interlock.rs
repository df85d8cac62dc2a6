//! The interlock: no step that takes a protected device from dom0 passes it.
//!
//! The executor takes only [`Cleared`] steps, and only [`clear`] makes them, so there is no way
//! around it:
//!
//! ```compile_fail
//! use pvusb_agent::plan::{Cleared, Step};
//! fn smuggle(step: Step) -> Cleared { Cleared(step) }
//! ```

use super::step::Step;
use crate::model::{BusId, Observed};

/// A step that the interlock has looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cleared(Step);

impl Cleared {
    /// The step.
    pub fn step(&self) -> &Step {
        &self.0
    }
}

/// A step that would take a protected device from dom0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Devices behind a hub that a guest has would be lost to dom0 unseen, and neither libxl nor
    /// usbback takes one (`libxl_usb.c: is_usbdev_assignable`).
    #[error("{0} is a hub")]
    Hub(BusId),
    /// Nothing is known of the device, so nothing says that it may be taken.
    #[error("{0} is not plugged")]
    NotPlugged(BusId),
}

/// Lets `step` pass unless it would take a protected device.
///
/// # Errors
///
/// The reason, when it would.
pub fn clear(step: Step, observed: &Observed) -> Result<Cleared, Refusal> {
    if let Some(busid) = step.device().filter(|_| step.takes_from_dom0()) {
        match observed.devices.get(busid) {
            None => return Err(Refusal::NotPlugged(busid.clone())),
            Some(device) if device.is_hub() => return Err(Refusal::Hub(busid.clone())),
            Some(_) => {}
        }
    }
    Ok(Cleared(step))
}
