//! Everything that the machine has to say, for the journal, for metrics, for tests.

use crate::model::{BusId, Device, DomId, GuestName};
use crate::plan::{Refusal, Standing, Step};
use std::sync::Arc;
use std::time::Duration;

/// Something worth telling.
#[derive(Clone, Debug)]
pub enum Event {
    /// A device is there that was not there before.
    Plugged(Box<Device>),
    /// A device is gone.
    Unplugged(BusId),
    /// A domain is there that was not there before.
    DomainAppeared(DomId, GuestName),
    /// A domain is gone.
    DomainGone(DomId, GuestName),
    /// A device could not be read. It is left alone until something happens to it.
    Unreadable(BusId, Box<str>),
    /// It stands differently with a device.
    Standing(BusId, Standing),
    /// A step was performed.
    Performed(Arc<Step>),
    /// A step failed and will be tried again after the pause.
    Failed {
        /// The step.
        step: Arc<Step>,
        /// Why.
        cause: Box<str>,
        /// How long until the next try; `None` when something must change first.
        pause: Option<Duration>,
    },
    /// What the step expected was not so any more. It is decided anew.
    Overtaken {
        /// The step.
        step: Arc<Step>,
        /// What was not so.
        cause: Box<str>,
    },
    /// The interlock refused a step.
    Refused(BusId, Refusal),
}
