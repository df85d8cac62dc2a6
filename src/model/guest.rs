//! A domain as xenstore shows it.

use super::controller::{Controller, ControllerFault, ControllerId};
use super::domain::{DomId, GuestName, GuestUuid};
use std::collections::BTreeMap;

/// One domain that libxl made, other than dom0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// Its number now.
    pub domid: DomId,
    /// What stays over its reboots.
    pub uuid: GuestUuid,
    /// Its name.
    pub name: GuestName,
    /// How it is virtualised.
    pub kind: GuestKind,
    /// Where it is between creation and end.
    pub life: Life,
    /// The state of its device model in dom0.
    pub device_model: DeviceModel,
    /// Its controllers.
    pub controllers: BTreeMap<ControllerId, Controller>,
    /// Controllers whose nodes cannot be used.
    pub broken: BTreeMap<ControllerId, ControllerFault>,
}

/// How a domain is virtualised (`/libxl/<domid>/type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestKind {
    /// Paravirtualised.
    Pv,
    /// PV in an HVM container.
    Pvh,
    /// Fully virtualised.
    Hvm,
}

impl GuestKind {
    /// libxl's word for it (`tools/libs/light/libxl_types.idl: domain_type`).
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pv => "pv",
            Self::Pvh => "pvh",
            Self::Hvm => "hvm",
        }
    }
}

/// Where a domain is between creation and end, as far as xenstore can tell. A domain that is
/// paused, shut down or crashed but kept looks like a running one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// The toolstack is still building it. A controller made now takes the number that the
    /// toolstack is about to use, and the whole creation fails.
    Building,
    /// It is there.
    Running,
    /// The hypervisor has dropped it and its nodes were left behind.
    Dead,
}

impl Life {
    /// The word for it, in policies' tests and in answers.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Building => "building",
            Self::Running => "running",
            Self::Dead => "dead",
        }
    }
}

/// The state of a domain's device model (its QEMU) in dom0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceModel {
    /// There is none.
    Absent,
    /// It is there but not yet running.
    Starting,
    /// It runs.
    Running {
        /// Whether it serves `qusb` controllers.
        qusb: bool,
    },
    /// Its process is gone, though its nodes say that it runs.
    Dead,
}

impl DeviceModel {
    /// The word for it, in policies' tests and in answers.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Absent => "none",
            Self::Starting => "starting",
            Self::Running { qusb: true } => "qusb",
            Self::Running { qusb: false } => "without-qusb",
            Self::Dead => "dead",
        }
    }
}
