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

impl Refusal {
    /// Whether nothing overrides it. A person may waive the others for one plug of a device.
    pub fn is_hard(&self) -> bool {
        match self {
            Self::Hub(_) | Self::NotPlugged(_) => true,
        }
    }
}

/// Lets `step` pass unless it would take a protected device, or a person has waived that.
///
/// # Errors
///
/// The reason, when it would.
pub fn clear(step: Step, observed: &Observed) -> Result<Cleared, Refusal> {
    if let Some(busid) = step.device().filter(|_| step.takes_from_dom0()) {
        match may_leave(busid, observed) {
            Err(refusal) if refusal.is_hard() || !is_waived(busid, observed) => {
                return Err(refusal);
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(Cleared(step))
}

/// Whether the device may leave dom0.
///
/// # Errors
///
/// The reason, when it may not.
pub fn may_leave(busid: &BusId, observed: &Observed) -> Result<(), Refusal> {
    match observed.devices.get(busid) {
        None => Err(Refusal::NotPlugged(busid.clone())),
        Some(device) if device.is_hub() => Err(Refusal::Hub(busid.clone())),
        Some(_) => Ok(()),
    }
}

/// Whether a person has given the present plug of the device away with force.
fn is_waived(busid: &BusId, observed: &Observed) -> bool {
    let device = observed.devices.get(busid);
    let said = device.and_then(|device| observed.xen.override_of(device));
    said.is_some_and(|said| said.force)
}
