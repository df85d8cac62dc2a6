//! Everything that the machine has to say, for the journal, for metrics, for tests.

use super::doors::RequestId;
use crate::model::{Asker, BusId, Device, DeviceName, DomId, GuestName, Order};
use crate::plan::{Refusal, Standing, Step, Wanted};
use crate::policy::{GuestPattern, RuleName};
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
    /// A step was performed; one that takes a device out of its port, for this reason.
    Performed(Arc<Step>, Option<Box<str>>),
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
    /// What a person said is noted.
    Ordered {
        /// The question.
        request: RequestId,
        /// Who said it.
        who: Asker,
        /// The device.
        busid: BusId,
        /// What was said; `None` takes back what was said before.
        order: Option<Order>,
        /// What would have refused it, had it not been forced.
        waived: Option<Refusal>,
    },
    /// A person asked for something that cannot be.
    Declined {
        /// Who asked.
        who: Asker,
        /// The device, as it was called.
        device: DeviceName,
        /// For what.
        wanted: Wanted,
        /// Whether with force.
        force: bool,
        /// Why not.
        cause: Box<str>,
    },
    /// A domain has not taken a device in the time that its rule gives. The next of the list is tried, if
    /// there is one.
    TurnOver {
        /// The device.
        busid: BusId,
        /// The domain, as the rule calls it.
        target: GuestPattern,
        /// How long it had.
        patience: Duration,
        /// The rule.
        rule: RuleName,
    },
    /// The interlock refused a step.
    Refused(BusId, Refusal),
}
