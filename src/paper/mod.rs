//! A HOST ON PAPER: devices, domains and what is expected of them, as YAML.
//!
//! One form for everything that judges devices without this host: recordings, what somebody wrote by hand,
//! tests of a policy, and (in `sim`) the days that are rehearsed. It holds what a policy can ask for, and nothing else.
//!
//! ```yaml
//! version: 1
//! policy: ../policy.yaml
//! devices:
//!   scanner: {id: "05e0:1200", product: Bar Code Scanner, interfaces: ["03:01:01"], drivers: [usbhid]}
//! domains: [kiosk]
//! tests:
//!   - name: the scanner belongs to the kiosk
//!     expect: {scanner: kiosk}
//! ```
//!
//! A recording by `umockdev-record` is understood as well: it has devices and nothing else.
//!
//! The way of a text is that of a policy's: a tree with places, so that every problem is shown at its line
//! and column. What comes of a host, the agent's own core decides ([`Outcome`]); nothing is decided here.
//!
//! Not in here: files, clocks, and any rule about where a device goes.

mod device;
mod domain;
mod expect;
pub(crate) mod keys;
mod outcome;
mod read;
mod test;
mod umockdev;
mod write;

pub(crate) use device::NO_DRIVER;
pub(crate) use domain::{DEVICE_MODELS, KINDS, usual};
pub use expect::{Expectation, Guard, Wanted};
pub use keys::json_schema;
pub use outcome::{End, Outcome};
pub(crate) use read::Pen;
pub use read::read;
pub use test::Test;
pub use write::{Recording, write};

use crate::model::{Desk, Device, DeviceName, Guest, Observed, XenView};
use crate::policy::Problem;
use crate::policy::text::{Code, Finding, Report, SourceText};
use std::fmt;

/// Everything that stands in one text.
pub struct Sheet {
    text: SourceText,
    policy: Option<Box<str>>,
    host: Host,
    tests: Vec<Test>,
}

/// Devices and domains, and what else decides about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The devices, in the order of the text.
    pub devices: Vec<Written>,
    /// The domains that are there, in the order of the text.
    pub guests: Vec<Guest>,
    /// What dom0 has besides USB to be operated with. Both, unless it is said otherwise.
    pub desk: Desk,
    /// Whether dom0's kernel has usbback.
    pub usbback: bool,
}

/// A device and what it is called in its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The name.
    pub name: Box<str>,
    /// The device. It is ready: udev and the kernel have finished with it.
    pub device: Device,
}

impl Sheet {
    /// The path of the policy, as it is written: from where the text is.
    pub fn policy(&self) -> Option<&str> {
        self.policy.as_deref()
    }

    /// The host, with everything that is written of it.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The tests, in the order of the text.
    pub fn tests(&self) -> &[Test] {
        &self.tests
    }

    /// What is seen of the host in `test`, one of [`Self::tests`].
    pub fn observed_in(&self, test: &Test) -> Observed {
        test.observed(&self.host)
    }

    /// An expectation that is not met, shown at its place like any other mistake.
    pub fn unmet(&self, expectation: &Expectation, outcome: &Outcome) -> Option<Problem> {
        let mut report = Report::new(&self.text);
        let message = expectation.complaint(outcome)?;
        report.add(Finding::new(Code::Unmet, expectation.span, message));
        report.finish()?.iter().next().cloned()
    }
}

impl fmt::Debug for Sheet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sheet")
            .field("policy", &self.policy)
            .field("host", &self.host)
            .field("tests", &self.tests)
            .finish_non_exhaustive()
    }
}

impl Default for Host {
    fn default() -> Self {
        Self {
            devices: Vec::new(),
            guests: Vec::new(),
            desk: Desk { keyboard: true, pointer: true },
            usbback: false,
        }
    }
}

impl Host {
    /// What would be seen of it.
    pub fn observed(&self) -> Observed {
        let devices = self.devices.iter().map(|it| (it.device.busid.clone(), it.device.clone()));
        Observed {
            devices: devices.collect(),
            usbback: self.usbback,
            desk: self.desk,
            xen: XenView {
                domids: self.guests.iter().map(|guest| guest.domid).collect(),
                guests: self.guests.iter().map(|guest| (guest.domid, guest.clone())).collect(),
                ..XenView::default()
            },
        }
    }

    /// The devices that are called so: by the name in the text, or as devices are called elsewhere.
    pub fn called(&self, name: &str) -> Vec<&Device> {
        let by_name = self.devices.iter().find(|it| &*it.name == name);
        if let Some(Written { device, .. }) = by_name {
            return vec![device];
        }
        let Ok(name) = name.parse::<DeviceName>() else { return Vec::new() };
        self.devices.iter().map(|it| &it.device).filter(|it| name.is_of(it)).collect()
    }
}
