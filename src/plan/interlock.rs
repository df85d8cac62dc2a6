//! The interlock: no step that takes a protected device from dom0 passes it.
//!
//! The plan asks [`guard`] before it proposes anything for a device, so that nothing is made for one
//! that must stay. The executor takes only [`Cleared`] steps, and only [`clear`] makes them, so there
//! is no way around it:
//!
//! ```compile_fail
//! use pvusb_agent::plan::{Cleared, Step};
//! fn smuggle(step: Step) -> Cleared { Cleared(step) }
//! ```
//!
//! A device that is in a domain is not judged again: dom0 does nothing with it, and it is not
//! detached because of a guard.

use super::step::Step;
use crate::model::{BusId, Device, Observed, Text, Use};
use crate::policy::Policy;
use std::collections::BTreeSet;

/// A step that the interlock has looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cleared(Step);

impl Cleared {
    /// The step.
    pub fn step(&self) -> &Step {
        &self.0
    }
}

/// Why a device stays in dom0. Shown as a sentence about the device that it was asked of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Devices behind a hub that a guest has would be lost to dom0 unseen, and neither libxl nor
    /// usbback takes one (`libxl_usb.c: is_usbdev_assignable`).
    #[error("it is a hub")]
    Hub,
    /// Nothing is known of the device, so nothing says that it may be taken.
    #[error("it is not plugged")]
    NotPlugged,
    /// dom0 has data on it: [`Use::is_storage`].
    #[error("{0}")]
    Storage(Use),
    /// dom0 talks to a network through this interface of it.
    #[error("{interface} carries a route of dom0")]
    Route {
        /// The interface.
        interface: Text,
    },
    /// Without it nobody could type in dom0.
    #[error("it is the last keyboard of dom0")]
    LastKeyboard,
    /// Without it dom0 would have no mouse or touchpad.
    #[error("it is the last pointer of dom0")]
    LastPointer,
    /// The policy lists it.
    #[error("`protect` lists {entry}")]
    Listed {
        /// The match, as it is written.
        entry: Box<str>,
    },
}

impl Refusal {
    /// Whether nobody may overrule it. The others are about what a person at the machine needs, and
    /// a person may know better.
    pub fn is_hard(&self) -> bool {
        match self {
            Self::Hub | Self::NotPlugged | Self::Storage(_) => true,
            Self::Route { .. } | Self::LastKeyboard | Self::LastPointer | Self::Listed { .. } => {
                false
            }
        }
    }

    /// What helps.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Hub => "plug the devices behind it elsewhere, or write rules for them",
            Self::NotPlugged => "plug it in",
            Self::Storage(Use::Mounted { .. }) => "unmount it; it follows at once",
            Self::Storage(_) => "let dom0 give it up (swapoff, vgchange -an, mdadm --stop, …)",
            Self::Route { .. } => "take the route away; it follows at once",
            Self::LastKeyboard | Self::LastPointer => {
                "plug in another one for dom0, or say in the policy what dom0 can do without: \
                 `defaults: {keep_last: []}`"
            }
            Self::Listed { .. } => "change the policy",
        }
    }
}

/// Everything that decides whether a device may leave dom0.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// What was seen.
    pub observed: &'a Observed,
    /// What the policy protects.
    pub policy: &'a Policy,
    /// Devices that steps on their way take from dom0: they count as gone.
    pub departing: &'a BTreeSet<BusId>,
}

/// Why `device` must not leave dom0; the hard reasons first.
///
/// # Errors
///
/// The reason.
pub fn guard(device: &Device, scene: &Scene<'_>) -> Result<(), Refusal> {
    guard_data(device)?;
    for what in &device.uses {
        if let Use::Route { interface } = what {
            return Err(Refusal::Route { interface: interface.clone() });
        }
    }
    let keep = scene.policy.keep_last();
    let Observed { desk, .. } = scene.observed;
    let others = |what: &Use| others_remain(device, scene, what);
    if keep.keyboard && device.may_be_keyboard() && !desk.keyboard && !others(&Use::Keyboard) {
        return Err(Refusal::LastKeyboard);
    }
    if keep.pointer && device.may_be_pointer() && !desk.pointer && !others(&Use::Pointer) {
        return Err(Refusal::LastPointer);
    }
    match scene.policy.protection(device) {
        Some(entry) => Err(Refusal::Listed { entry: entry.to_string().into() }),
        None => Ok(()),
    }
}

/// The hard reasons alone. They hold until the moment in which the device leaves.
///
/// # Errors
///
/// The reason.
pub fn guard_data(device: &Device) -> Result<(), Refusal> {
    if device.is_hub() {
        return Err(Refusal::Hub);
    }
    match device.uses.iter().find(|what| what.is_storage()) {
        Some(what) => Err(Refusal::Storage(what.clone())),
        None => Ok(()),
    }
}

/// Lets `step` pass unless it would take a protected device.
///
/// # Errors
///
/// The reason, when it would.
pub fn clear(step: Step, scene: &Scene<'_>) -> Result<Cleared, Refusal> {
    let taken = step.device().filter(|_| step.takes_from_dom0());
    if let Some(busid) = taken {
        let device = scene.observed.devices.get(busid).ok_or(Refusal::NotPlugged)?;
        if matches!(step, Step::TakeInterfaces { .. }) {
            // Everything else was judged when its port was claimed.
            guard_data(device)?;
        } else {
            guard(device, scene)?;
        }
    }
    Ok(Cleared(step))
}

/// Whether dom0 keeps a device of this use when `device` leaves. Only what udev has seen to be one
/// counts, not what may be one.
fn others_remain(device: &Device, scene: &Scene<'_>, what: &Use) -> bool {
    let xen = &scene.observed.xen;
    let remains = |other: &Device| {
        other.busid != device.busid
            && other.uses.contains(what)
            && !scene.departing.contains(&other.busid)
            && xen.places_of(&other.busid).next().is_none()
    };
    scene.observed.devices.values().any(remains)
}
