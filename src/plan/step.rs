//! Steps: small idempotent effects on the host, fully specified.
//!
//! A step leaves no choice to whoever performs it: what it expects to find is part of it, and when
//! it finds something else it changes nothing and says [`StepError::Stale`].

use crate::model::{
    BusId, ControllerId, ControllerKind, ControllerSpec, DomId, Drivers, GuestUuid, InterfaceName,
    Leftover, Note, Override, Place, Plug, PortNumber, Trail, XenView,
};
use std::collections::BTreeSet;

/// One effect on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Writes a device into a free port of a controller that is there, with the agent's note.
    Claim(Claim),
    /// Makes a controller, in one transaction; if `plug` is given, with the device in its port.
    CreateController {
        /// Where the device goes, and in which controller that is to be made. For a controller
        /// without a device: its first port, which stays empty.
        claim: Claim,
        /// What the controller is to be.
        spec: ControllerSpec,
        /// Whether the device's port is written in the same transaction. A `pv` port is written
        /// later: usbback reads its ports only once the frontend is connected.
        with_device: bool,
    },
    /// Hands every interface to usbback, each driver noted for the way back (`pv` only).
    TakeInterfaces {
        /// The device.
        busid: BusId,
        /// This plug of it: the next one in its place has interfaces of the same names, and may be a hub.
        plug: Plug,
        /// Its port, in which usbback must have seen it.
        place: Place,
        /// Its interfaces that are not with usbback yet.
        interfaces: Vec<InterfaceName>,
    },
    /// Takes every interface back from usbback (`pv` only), before the port is cleared: usbback
    /// frees a port's entry under a bound interface (`drivers/usb/host/xen-usbback`).
    ReleaseInterfaces {
        /// The device.
        busid: BusId,
        /// Its interfaces that are with usbback.
        interfaces: Vec<InterfaceName>,
    },
    /// Empties a port, if it still names the device.
    ClearPort {
        /// The port.
        place: Place,
        /// Who serves it.
        kind: ControllerKind,
        /// What it must name.
        busid: BusId,
        /// What becomes of the note.
        after: AfterClear,
    },
    /// Gives the device's interfaces back to dom0's drivers, then forgets the note.
    ReturnDrivers {
        /// The device.
        busid: BusId,
        /// Who had it.
        kind: ControllerKind,
        /// Its interfaces without a driver.
        interfaces: Vec<InterfaceName>,
    },
    /// Lets drivers have interfaces of a device that was in quarantine, because it is decided where
    /// it goes. No driver is looked for yet; the note, which is written before, tells that this is
    /// still to come.
    Authorize {
        /// The device.
        busid: BusId,
        /// What is noted: [`NoteState::Admitted`](crate::model::NoteState::Admitted), or what is noted
        /// already. Its plug is the only one that is let out: nothing was decided about a later one.
        note: Note,
        /// Its interfaces that no driver may have yet.
        interfaces: Vec<InterfaceName>,
    },
    /// Takes interfaces from whatever driver has them, and lets none have them: of a device that comes
    /// back from a domain and goes into quarantine again, until it is decided where it goes next, or of
    /// one that the policy blocks.
    Deauthorize {
        /// The device.
        busid: BusId,
        /// This plug of it: nothing was decided about the next one in its place, which may be a hub.
        plug: Plug,
        /// What is noted before, of one that the policy blocks:
        /// [`NoteState::Blocked`](crate::model::NoteState::Blocked). Without it nothing is noted.
        note: Option<Note>,
        /// Its interfaces that drivers may have.
        interfaces: Vec<InterfaceName>,
    },
    /// Removes the note, and the drivers noted, of a device that is gone or is back.
    Forget {
        /// The device.
        busid: BusId,
    },
    /// Notes what a person said about a device, or takes it back, in one transaction.
    NoteOrder {
        /// The device's place.
        busid: BusId,
        /// What was said; `None` takes it back.
        said: Option<Override>,
        /// The note of a device that somebody took out of the agent's port, if it is: that ends, and
        /// the device counts as on its way back. The port must still be without it.
        taken_out: Option<Note>,
    },
    /// Removes the trail of a device that nobody is to follow any more.
    DropTrail {
        /// The device's place.
        busid: BusId,
        /// What it must still be.
        trail: Trail,
    },
    /// Removes a controller of the agent's own that nobody serves, in one transaction.
    RemoveController {
        /// The domain.
        domid: DomId,
        /// The domain that had this number when the controller was looked at.
        uuid: GuestUuid,
        /// The controller.
        controller: ControllerId,
        /// Who was to serve it.
        kind: ControllerKind,
        /// How many ports it has; all must be empty.
        ports: Vec<PortNumber>,
    },
    /// Removes what a domain left behind that is gone.
    RemoveLeftover(Leftover),
}

impl Step {
    /// The device that the step is about, if it is about one.
    pub fn device(&self) -> Option<&BusId> {
        match self {
            Self::Claim(claim) | Self::CreateController { claim, .. } => Some(&claim.busid),
            Self::TakeInterfaces { busid, .. }
            | Self::ReleaseInterfaces { busid, .. }
            | Self::ClearPort { busid, .. }
            | Self::ReturnDrivers { busid, .. }
            | Self::Authorize { busid, .. }
            | Self::Deauthorize { busid, .. }
            | Self::Forget { busid }
            | Self::DropTrail { busid, .. }
            | Self::NoteOrder { busid, .. } => Some(busid),
            Self::RemoveController { .. } | Self::RemoveLeftover(_) => None,
        }
    }

    /// The port that the step fills, with a controller around it or without.
    pub fn claim(&self) -> Option<&Claim> {
        if let Self::Claim(claim) | Self::CreateController { claim, .. } = self {
            Some(claim)
        } else {
            None
        }
    }

    /// The plug that the step takes from dom0 or lets out of quarantine, and no later one in its place.
    pub fn plug(&self) -> Option<Plug> {
        match self {
            Self::Claim(claim) | Self::CreateController { claim, .. } => Some(claim.plug),
            Self::TakeInterfaces { plug, .. } | Self::Deauthorize { plug, .. } => Some(*plug),
            Self::Authorize { note, .. } => Some(note.plug),
            Self::ReleaseInterfaces { .. }
            | Self::ClearPort { .. }
            | Self::ReturnDrivers { .. }
            | Self::Forget { .. }
            | Self::DropTrail { .. }
            | Self::NoteOrder { .. }
            | Self::RemoveController { .. }
            | Self::RemoveLeftover(_) => None,
        }
    }

    /// The domain whose nodes the step changes, if it changes any.
    pub fn domain(&self) -> Option<DomId> {
        match self {
            Self::Claim(claim) | Self::CreateController { claim, .. } => Some(claim.place.domid),
            Self::ClearPort { place, .. } => Some(place.domid),
            Self::RemoveController { domid, .. } | Self::RemoveLeftover(Leftover { domid, .. }) => {
                Some(*domid)
            }
            Self::TakeInterfaces { .. }
            | Self::ReleaseInterfaces { .. }
            | Self::ReturnDrivers { .. }
            | Self::Authorize { .. }
            | Self::Deauthorize { .. }
            | Self::Forget { .. }
            | Self::DropTrail { .. }
            | Self::NoteOrder { .. } => None,
        }
    }

    /// Whether it takes something from dom0, so that the interlock must look at it.
    pub fn takes_from_dom0(&self) -> bool {
        matches!(
            self,
            Self::Claim(_)
                | Self::CreateController { .. }
                | Self::TakeInterfaces { .. }
                | Self::Deauthorize { .. }
        )
    }

    /// A word for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Claim(_) => "claim port",
            Self::CreateController { .. } => "create controller",
            Self::TakeInterfaces { .. } => "take interfaces",
            Self::ReleaseInterfaces { .. } => "release interfaces",
            Self::ClearPort { .. } => "clear port",
            Self::ReturnDrivers { .. } => "return drivers",
            Self::Authorize { .. } => "authorize",
            Self::Deauthorize { .. } => "deauthorize",
            Self::Forget { .. } => "forget note",
            Self::NoteOrder { .. } => "note order",
            Self::DropTrail { .. } => "drop trail",
            Self::RemoveController { .. } => "remove controller",
            Self::RemoveLeftover(_) => "remove leftover",
        }
    }
}

/// A device and the port that it is to get, with everything that must hold when it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The device's place on the host.
    pub busid: BusId,
    /// This plug of it, and no other.
    pub plug: Plug,
    /// The port.
    pub place: Place,
    /// The domain that must still have this number.
    pub uuid: GuestUuid,
    /// Who serves the controller.
    pub kind: ControllerKind,
    /// The drivers that dom0 has for the device, to be noted: rules can ask for them.
    pub drivers: Drivers,
    /// What is to be kept of it for the one that follows it, if its rule says so.
    pub trail: Option<Box<Trail>>,
    /// All controllers of the host as they were seen: none of them may hold the device.
    pub survey: Survey,
}

/// All domains and controllers of the host, as far as a claim must know them: it checks in its own
/// transaction that there are no others and that none of their ports names the device. Nothing else
/// keeps a device from being given to two domains.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Survey {
    /// Every number below `/libxl`.
    pub domids: BTreeSet<DomId>,
    /// Those of them whose controllers are known. One that comes, goes or is broken has none that
    /// could be looked at, and must not keep all others from their devices.
    pub guests: BTreeSet<DomId>,
    /// Every controller of these, also the ones that cannot be used (without ports then).
    pub controllers: Vec<SurveyedController>,
}

/// One controller in a [`Survey`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SurveyedController {
    /// The domain.
    pub domid: DomId,
    /// The controller.
    pub controller: ControllerId,
    /// Who serves it; `None` when its nodes cannot be used.
    pub kind: Option<ControllerKind>,
    /// Its ports.
    pub ports: Vec<PortNumber>,
}

impl Survey {
    /// What `xen` shows.
    pub fn of(xen: &XenView) -> Self {
        let controllers = xen.guests.values().flat_map(|guest| {
            let sound = guest.controllers.iter().map(|(id, controller)| SurveyedController {
                domid: guest.domid,
                controller: *id,
                kind: Some(controller.kind),
                ports: controller.ports.keys().copied().collect(),
            });
            let broken = guest.broken.keys().map(|id| SurveyedController {
                domid: guest.domid,
                controller: *id,
                kind: None,
                ports: Vec::new(),
            });
            sound.chain(broken)
        });
        Self {
            domids: xen.domids.clone(),
            guests: xen.guests.keys().copied().collect(),
            controllers: controllers.collect(),
        }
    }
}

/// What becomes of the agent's note when a port is cleared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AfterClear {
    /// The device is gone: the note goes too, and the drivers noted for its way back.
    Gone,
    /// The device stays plugged: the note says from now on that it is on its way back.
    Returning(Note),
    /// The device is gone and another is plugged in its place: the drivers noted go, and the note says
    /// of the other that it is on its way back.
    Replaced(Note),
}

/// Why a step did not do what it says, sorted by what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// Worth another try after a pause.
    #[error("{0}")]
    Transient(Cause),
    /// What was seen is not so any more: look again, then decide again.
    #[error("what was seen has changed: {0}")]
    Stale(Cause),
    /// Trying again cannot help until something changes.
    #[error("{0}")]
    Permanent(Cause),
}

/// The error behind a failed step.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::made_up::{device, place, uuid};

    #[test]
    fn what_takes_a_device_names_its_plug_and_what_fills_a_port_all_that_must_hold() {
        let (device, place) = (device("1-1"), place(4, 0, 1));
        let (busid, plug) = (device.busid.clone(), device.plug());
        let claim = Claim {
            busid: busid.clone(),
            plug,
            place,
            uuid: uuid(place.domid),
            kind: ControllerKind::Qusb,
            drivers: Drivers::new(),
            trail: None,
            survey: Survey::default(),
        };
        let step = Step::Claim(claim.clone());
        assert_eq!((step.claim(), step.plug()), (Some(&claim), Some(plug)));
        let interfaces = Vec::new();
        let step = Step::TakeInterfaces { busid: busid.clone(), plug, place, interfaces };
        assert_eq!((step.claim(), step.plug()), (None, Some(plug)));
        let step = Step::Forget { busid };
        assert_eq!((step.claim(), step.plug()), (None, None));
    }
}
