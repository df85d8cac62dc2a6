//! Paths. FE, BE and LX are the three directories of a controller, as in `docs/protocol.md`.

use crate::model::{
    BusId, ControllerId, ControllerKind, DomId, GuestUuid, InterfaceName, PortNumber,
};

/// libxl's own directory: one entry per domain. dom0 alone can read it.
pub(in crate::host) const LIBXL: &str = "/libxl";

/// Where libxl keeps the drivers of interfaces that usbback has (`libxl_usb.c: USBBACK_INFO_PATH`).
pub(in crate::host) const USBBACK: &str = "/libxl/usbback";

/// The agent's own directory.
pub(in crate::host) const OWN: &str = "/tool/pvusb-agent";

/// The agent's notes of devices, by busid.
pub(in crate::host) const DEVICE_NOTES: &str = "/tool/pvusb-agent/devices";

/// What people said over the policy's head, by busid.
pub(in crate::host) const OVERRIDES: &str = "/tool/pvusb-agent/overrides";

/// What is kept of devices for those that follow them, by busid.
pub(in crate::host) const TRAILS: &str = "/tool/pvusb-agent/trails";

/// The nodes of a domain.
#[derive(Clone, Copy, Debug)]
pub(in crate::host) struct DomainPaths(pub(in crate::host) DomId);

impl DomainPaths {
    /// Says where the domain's UUID is: `/vm/<uuid>`. Not the guest's to write.
    pub(in crate::host) fn vm(self) -> String {
        format!("/local/domain/{}/vm", self.0)
    }

    /// The domain's name. Not the guest's to write.
    pub(in crate::host) fn name(self) -> String {
        format!("/local/domain/{}/name", self.0)
    }

    /// `pv`, `pvh` or `hvm`; made with the domain and gone with it.
    pub(in crate::host) fn kind(self) -> String {
        format!("{LIBXL}/{}/type", self.0)
    }

    /// Its controllers, as dom0 knows them.
    pub(in crate::host) fn controllers(self) -> String {
        format!("{LIBXL}/{}/device/vusb", self.0)
    }

    /// The state of its device model in dom0: `running` when it is.
    pub(in crate::host) fn device_model_state(self) -> String {
        format!("/local/domain/0/device-model/{}/state", self.0)
    }

    /// The process of its device model (`libxl_dm.c: libxl__spawn_local_dm`). Not the guest's to write.
    pub(in crate::host) fn device_model_pid(self) -> String {
        format!("/local/domain/{}/image/device-model-pid", self.0)
    }

    /// There when its device model serves qusb (`xen-legacy-backend.c: xen_be_register`).
    pub(in crate::host) fn device_model_qusb(self) -> String {
        format!("/local/domain/0/device-model/{}/backends/qusb", self.0)
    }
}

/// The nodes of one controller.
#[derive(Clone, Debug)]
pub(in crate::host) struct ControllerPaths {
    /// FE: the guest's own directory. It owns it and can write anything there.
    pub(in crate::host) frontend: String,
    /// BE: the backend's directory in dom0; LX itself for an emulated controller, which has none.
    pub(in crate::host) backend: String,
    /// LX: libxl's directory.
    pub(in crate::host) libxl: String,
}

impl ControllerPaths {
    pub(in crate::host) fn new(domid: DomId, id: ControllerId, kind: ControllerKind) -> Self {
        let libxl = format!("{LIBXL}/{domid}/device/vusb/{id}");
        Self {
            // The frontend's kind is vusb whoever serves it (`libxl_usb.c:
            // libxl__device_from_usbctrl`); Linux matches no other.
            frontend: format!("/local/domain/{domid}/device/vusb/{id}"),
            backend: match backend_root(kind) {
                Some(root) => format!("{root}/{domid}/{id}"),
                None => libxl.clone(),
            },
            libxl,
        }
    }

    /// A node of the backend.
    pub(in crate::host) fn be(&self, node: &str) -> String {
        format!("{}/{node}", self.backend)
    }

    /// A node of libxl's directory.
    pub(in crate::host) fn lx(&self, node: &str) -> String {
        format!("{}/{node}", self.libxl)
    }

    /// A node of the frontend.
    pub(in crate::host) fn fe(&self, node: &str) -> String {
        format!("{}/{node}", self.frontend)
    }

    /// Says that the agent made the controller. It lies among libxl's own nodes, so that it goes with
    /// them whoever removes the controller (`libxl_device.c: libxl__device_destroy`): the next one of
    /// this number may be xl's.
    pub(in crate::host) fn mark(&self) -> String {
        self.lx("pvusb-agent")
    }

    /// The node of a port: the one that its server reads.
    pub(in crate::host) fn port(&self, port: PortNumber) -> String {
        format!("{}/port/{port}", self.backend)
    }
}

/// The directory of all backends of a kind.
pub(in crate::host) fn backend_root(kind: ControllerKind) -> Option<String> {
    kind.backend().map(|kind| format!("/local/domain/0/backend/{kind}"))
}

/// The agent's note of a device.
pub(in crate::host) fn device_note(busid: &BusId) -> String {
    format!("{DEVICE_NOTES}/{}", busid.to_key())
}

/// What a person said about a device.
pub(in crate::host) fn override_node(busid: &BusId) -> String {
    format!("{OVERRIDES}/{}", busid.to_key())
}

/// What is kept of a device for the one that follows it.
pub(in crate::host) fn trail_node(busid: &BusId) -> String {
    format!("{TRAILS}/{}", busid.to_key())
}

/// The drivers noted for a device's way back.
pub(in crate::host) fn usbback(busid: &BusId) -> String {
    format!("{USBBACK}/{}", busid.to_key())
}

/// The driver noted for an interface's way back.
pub(in crate::host) fn driver_path(interface: &InterfaceName) -> String {
    format!("{}/{}/driver_path", usbback(interface.busid()), interface.to_key())
}

/// The UUID in a domain's `vm` node. The path that it names need not exist any more: two domains
/// can share it during a migration on one host.
pub(in crate::host) fn parse_vm(value: &[u8]) -> Option<GuestUuid> {
    std::str::from_utf8(value).ok()?.strip_prefix("/vm/")?.parse().ok()
}
