//! What the machine remembers of one thing that it takes care of.

use super::backoff;
use super::doors::Ticket;
use super::lookout::Turn;
use crate::model::{
    BusId, ControllerId, DeviceModel, DomId, GuestUuid, Leftover, Life, Observed, Place, Plug,
    XenbusState,
};
use crate::plan::{Problem, Standing, Step};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a job is about. Each has at most one step on its way, so a slow one holds up no other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Device(BusId),
    Controller(DomId, ControllerId),
    Leftover(Leftover),
}

/// How long a step may be on its way before somebody is told. Each of its own waits ends sooner
/// (usbback has five seconds for a port and for an interface, `perform/drivers.rs`; xenstored has
/// thirty for an answer, `xenstore/connection.rs`); a write to sysfs has no end of its own.
pub(super) const STEP_DEADLINE: Duration = Duration::from_secs(60);

/// The memory of one job.
#[derive(Debug, Default)]
pub(super) struct Job {
    /// The step on its way.
    pub(super) flight: Option<(Ticket, Arc<Step>)>,
    /// When the last step began.
    pub(super) begun: Option<Instant>,
    /// The last step that ended, whose effect may not have been seen yet.
    pub(super) landed: Option<Arc<Step>>,
    /// The looks that must have ended before the next decision.
    pub(super) after: After,
    /// What was last said of it.
    pub(super) said: Option<Standing>,
    /// Not to be decided before.
    pub(super) not_before: Option<Instant>,
    failures: u32,
    overtaken: u32,
    barred: BTreeMap<&'static str, Problem>,
    signature: Option<Signature>,
    domid: Option<DomId>,
}

/// The looks to wait for, one of each side.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct After {
    pub(super) usb: Turn,
    pub(super) xen: Turn,
}

/// What must change before a step that failed for good is tried again, if no other policy is loaded
/// (that pardons every job).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signature {
    plug: Option<Plug>,
    drivers: Vec<Option<Box<str>>>,
    guest: Option<GuestSignature>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct GuestSignature {
    uuid: GuestUuid,
    life: Life,
    device_model: DeviceModel,
    backends: BTreeMap<ControllerId, XenbusState>,
}

impl Job {
    /// The step whose port nobody else may have: on its way, or ended and not yet seen.
    pub(super) fn pending(&self) -> Option<&Step> {
        self.flight.as_ref().map(|(_, step)| step).or(self.landed.as_ref()).map(AsRef::as_ref)
    }

    /// When the step on its way is overdue, if one is on its way.
    pub(super) fn overdue(&self) -> Option<(Instant, &Step)> {
        let (_, step) = self.flight.as_ref()?;
        Some((self.begun? + STEP_DEADLINE, step))
    }

    /// A step succeeded.
    pub(super) fn succeeded(&mut self, step: &Step) {
        // What fails from here on, fails in that domain.
        self.domid = step.domain().or(self.domid);
        self.failures = 0;
        self.overtaken = 0;
        self.not_before = None;
    }

    /// A step failed, but may do better later. Gives the pause until then; `None` when it has
    /// failed too often and something must change first.
    pub(super) fn failed(
        &mut self,
        now: Instant,
        step: &Step,
        cause: &str,
        seed: u64,
    ) -> Option<Duration> {
        self.failures += 1;
        if self.failures >= backoff::MAX_ATTEMPTS {
            self.bar(step, Problem::StepFailed { step: step.name(), cause: cause.into() });
            return None;
        }
        let pause = backoff::pause(self.failures, seed);
        self.not_before = Some(now + pause);
        Some(pause)
    }

    /// What a step expected was not so any more. The next look shows what is; only if that goes on
    /// and on does it wait, so that a reading that is wrong for good cannot make it spin.
    pub(super) fn overtaken(&mut self, now: Instant, seed: u64) {
        self.overtaken += 1;
        if self.overtaken > FREE_OVERTAKINGS {
            self.not_before = Some(now + backoff::pause(self.overtaken - FREE_OVERTAKINGS, seed));
        }
    }

    /// A step cannot succeed until something changes.
    pub(super) fn bar(&mut self, step: &Step, problem: Problem) {
        self.barred.insert(step.name(), problem);
        self.domid = step.domain().or(self.domid);
        self.failures = 0;
        self.signature = None;
    }

    /// What keeps the device from being attached.
    pub(super) fn bar_to_attaching(&self) -> Option<&Problem> {
        ATTACHING.iter().find_map(|name| self.barred.get(name))
    }

    /// What keeps this step from being tried.
    pub(super) fn bar_to(&self, step: &Step) -> Option<&Problem> {
        self.barred.get(step.name())
    }

    /// The job has come to rest: from now on it waits for something to change.
    pub(super) fn rest(&mut self, signature: impl FnOnce(Option<DomId>) -> Signature) {
        if !self.barred.is_empty() && self.signature.is_none() {
            self.signature = Some(signature(self.domid));
        }
    }

    /// Forgets failures if what they depend on has changed.
    pub(super) fn reconsider(&mut self, signature: impl FnOnce(Option<DomId>) -> Signature) {
        if self.barred.is_empty() {
            return;
        }
        let now = signature(self.domid);
        // What failed in a domain that is gone says nothing about another.
        let is_gone = self.domid.is_some() && now.guest.is_none();
        if is_gone {
            self.domid = None;
        }
        if is_gone || self.signature.as_ref().is_some_and(|then| *then != now) {
            self.pardon();
        }
    }

    /// Forgets failures.
    pub(super) fn pardon(&mut self) {
        self.barred.clear();
        self.signature = None;
        self.failures = 0;
        self.not_before = None;
    }
}

/// How often in a row a step may be overtaken before the job waits.
const FREE_OVERTAKINGS: u32 = 3;

/// Steps on the way into a domain. If one fails for good, what was done is undone.
const ATTACHING: [&str; 3] = ["claim port", "create controller", "take interfaces"];

impl Signature {
    /// What `subject`, tried in `domid`, depends on.
    pub(super) fn of(subject: &Subject, domid: Option<DomId>, observed: &Observed) -> Self {
        let device = match subject {
            Subject::Device(busid) => observed.devices.get(busid),
            Subject::Controller(..) | Subject::Leftover(_) => None,
        };
        let guest = domid.and_then(|domid| observed.xen.guests.get(&domid));
        Self {
            plug: device.map(crate::model::Device::plug),
            drivers: device
                .map(|device| device.interfaces.values().map(|i| i.driver.clone()).collect())
                .unwrap_or_default(),
            guest: guest.map(|guest| GuestSignature {
                uuid: guest.uuid,
                life: guest.life,
                device_model: guest.device_model,
                backends: guest.controllers.iter().map(|(id, c)| (*id, c.backend)).collect(),
            }),
        }
    }
}

/// The port that a step will fill.
pub(super) fn reserves(step: &Step) -> Option<Place> {
    match step {
        Step::Claim(claim) | Step::CreateController { claim, .. } => Some(claim.place),
        Step::TakeInterfaces { .. }
        | Step::ReleaseInterfaces { .. }
        | Step::ClearPort { .. }
        | Step::ReturnDrivers { .. }
        | Step::Authorize { .. }
        | Step::Deauthorize { .. }
        | Step::Forget { .. }
        | Step::NoteOrder { .. }
        | Step::RemoveController { .. }
        | Step::RemoveLeftover(_) => None,
    }
}
