//! Where the thing lies that a finding is about, for people who look at it with `xenstore-ls`.

use super::paths::{ControllerPaths, DomainPaths, device_note, usbback};
use crate::model::{BusId, ControllerKind, Leftover, Place};
use crate::plan::Finding;
use std::path::Path;

/// The node, or the directory in sysfs. The first one, when there are several.
pub(crate) fn node_of(finding: &Finding) -> String {
    match finding {
        Finding::StalePort { place, kind, .. } | Finding::StrangePort { place, kind, .. } => {
            port(*place, *kind)
        }
        Finding::SeveralPorts { places, busid } => match places.first() {
            Some((place, kind)) => port(*place, *kind),
            None => sysfs(busid),
        },
        Finding::PortNumberTwice { place, .. } => port(*place, ControllerKind::Qusb),
        Finding::Left(Leftover { domid, kind, controller })
        | Finding::NotConnected { domid, controller, kind, .. }
        | Finding::BackendGone { domid, controller, kind } => {
            ControllerPaths::new(*domid, *controller, *kind).backend
        }
        Finding::DriversLeft { busid } => usbback(busid),
        Finding::NoteLeft { busid, .. } => device_note(busid),
        Finding::OnUsbback { busid, .. } | Finding::WithoutDriver { busid, .. } => sysfs(busid),
        Finding::UnusableController { domid, controller, .. } => {
            ControllerPaths::new(*domid, *controller, ControllerKind::Qusb).libxl
        }
        Finding::DeadDeviceModel { domid, .. } => DomainPaths(*domid).device_model_pid(),
        Finding::DeadDomain { domid, .. } => DomainPaths(*domid).kind(),
        Finding::TooManyControllers { domid, .. } => DomainPaths(*domid).controllers(),
    }
}

fn port(place: Place, kind: ControllerKind) -> String {
    ControllerPaths::new(place.domid, place.controller, kind).port(place.port)
}

fn sysfs(busid: &BusId) -> String {
    Path::new("/sys/bus/usb/devices").join(busid.to_string()).display().to_string()
}
