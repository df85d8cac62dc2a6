//! Where the nodes of domains and controllers are. Nothing is read or written here.

/// A domain's home.
pub(super) fn home(domid: u32) -> String {
    format!("/local/domain/{domid}")
}

/// The toolstack's own nodes of a domain.
pub(super) fn libxl(domid: u32) -> String {
    format!("/libxl/{domid}")
}

/// The device model's nodes of a domain.
pub(super) fn device_model(domid: u32) -> String {
    format!("/local/domain/0/device-model/{domid}")
}

/// A controller's nodes that the guest owns.
pub(super) fn frontend(domid: u32, devid: u32) -> String {
    format!("{}/device/vusb/{devid}", home(domid))
}

/// All controllers of a backend `kind` (`qusb` or `vusb`) for a domain.
pub(super) fn backends(kind: &str, domid: u32) -> String {
    format!("/local/domain/0/backend/{kind}/{domid}")
}

/// A controller's nodes that only the toolstack can read.
pub(super) fn libxl_device(domid: u32, devid: u32) -> String {
    format!("{}/device/vusb/{devid}", libxl(domid))
}
