//! Since when things are as they are: what the present alone does not show.

use crate::model::{
    BusId, ControllerId, ControllerKind, Device, DeviceModel, DomId, Guest, GuestUuid, Place, Plug,
    XenbusState,
};
use std::collections::BTreeMap;
use std::time::Instant;

/// Since when things are as they are, as far as the agent has seen it. Nothing here is needed for
/// the end state to be right: an agent that starts anew only waits anew.
#[derive(Clone, Debug, Default)]
pub struct Since {
    /// When a plug was first seen ready.
    pub ready: BTreeMap<BusId, (Plug, Instant)>,
    /// When a controller's backend was first seen in its state.
    pub controllers: BTreeMap<(DomId, ControllerId), (XenbusState, Instant)>,
    /// When a port was first seen empty after it had held a device.
    pub emptied: BTreeMap<Place, Instant>,
    /// The plug that a port named when it was first seen to name its device. For ports without a
    /// note this alone tells that the device was pulled and plugged again between two looks.
    pub tenants: BTreeMap<Place, (BusId, Plug)>,
    /// Devices in `pv` ports that usbback was seen to have as a whole.
    pub whole: BTreeMap<BusId, Plug>,
    /// When usbback was first seen without an interface of such a device.
    pub loose: BTreeMap<BusId, Instant>,
    /// When a device was first seen on its way back.
    pub returning: BTreeMap<BusId, Instant>,
    /// Controllers that nobody served and that were removed again, with the device model of then.
    pub unserved: BTreeMap<(DomId, GuestUuid), (ControllerId, ControllerKind, DeviceModel)>,
}

impl Since {
    /// How many moments it holds.
    pub fn size(&self) -> usize {
        self.ready.len()
            + self.controllers.len()
            + self.emptied.len()
            + self.tenants.len()
            + self.whole.len()
            + self.loose.len()
            + self.returning.len()
            + self.unserved.len()
    }

    /// When the controller was first seen in its present state.
    pub fn controller(&self, domid: DomId, id: ControllerId) -> Option<Instant> {
        self.controllers.get(&(domid, id)).map(|(_, when)| *when)
    }

    /// Whether the port was seen to name an earlier plug than the present one of `device`.
    pub fn was_for_another_plug(&self, place: Place, device: &Device) -> bool {
        self.tenants
            .get(&place)
            .is_some_and(|(busid, plug)| *busid == device.busid && !plug.may_become(device.plug()))
    }

    /// The controller of `guest` that nobody served, unless its device model has changed since.
    pub fn unserved(&self, guest: &Guest) -> Option<(ControllerId, ControllerKind)> {
        self.unserved
            .get(&(guest.domid, guest.uuid))
            .filter(|(_, _, device_model)| *device_model == guest.device_model)
            .map(|(controller, kind, _)| (*controller, *kind))
    }
}
