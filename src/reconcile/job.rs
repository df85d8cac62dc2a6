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
    /// The port that this step has filled, or may have: nobody has seen it since.
    pub(super) filled: Option<Place>,
    /// The looks that must have ended before the next decision.
    pub(super) after: After,
    /// What was last said of it.
    pub(super) said: Option<Standing>,
    /// Not to be decided before.
    pub(super) not_before: Option<Instant>,
    /// While it waits for somebody to let go of its device.
    pub(super) doubt: Option<Doubt>,
    failures: u32,
    overtaken: u32,
    /// Steps that failed for good, each with the domain in which it did.
    barred: BTreeMap<(Option<DomId>, &'static str), Bar>,
    /// The domain of the last step that succeeded: what fails from there on, fails in that domain.
    domid: Option<DomId>,
}

/// A device seems to be held by somebody: it is looked at again, in case that nobody tells when it is not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doubt {
    pub(super) pause: Duration,
    pub(super) again: Instant,
}

/// How long after the first look at a held device the next one comes; each pause is twice the one before.
pub(super) const FIRST_DOUBT: Duration = Duration::from_secs(5);

/// The longest pause between two looks at a held device.
pub(super) const LAST_DOUBT: Duration = Duration::from_secs(60);

/// Why a step is not tried again for now.
#[derive(Debug)]
struct Bar {
    problem: Problem,
    /// What was when the job came to rest after it; until then it holds.
    then: Option<Signature>,
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
        domid: Option<DomId>,
        cause: &str,
        seed: u64,
    ) -> Option<Duration> {
        self.failures += 1;
        if self.failures >= backoff::MAX_ATTEMPTS {
            self.bar(step, domid, Problem::StepFailed { step: step.name(), cause: cause.into() });
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

    /// A step in this domain cannot succeed until something changes.
    pub(super) fn bar(&mut self, step: &Step, domid: Option<DomId>, problem: Problem) {
        let key = (domid.or(self.domid), step.name());
        self.barred.insert(key, Bar { problem, then: None });
        self.failures = 0;
    }

    /// The domains to which the device cannot be attached, and what keeps it from there.
    pub(super) fn bars_to_attaching(&self) -> BTreeMap<DomId, Problem> {
        let attaching = self.barred.iter().filter(|((_, name), _)| ATTACHING.contains(name));
        attaching
            .filter_map(|((domid, _), bar)| domid.map(|domid| (domid, bar.problem.clone())))
            .collect()
    }

    /// What keeps this step from being tried in this domain.
    pub(super) fn bar_to(&self, step: &Step, domid: Option<DomId>) -> Option<&Problem> {
        self.barred.get(&(domid.or(self.domid), step.name())).map(|bar| &bar.problem)
    }

    /// The job has come to rest: from now on it waits for something to change.
    pub(super) fn rest(&mut self, signature: impl Fn(Option<DomId>) -> Signature) {
        for ((domid, _), bar) in &mut self.barred {
            bar.then.get_or_insert_with(|| signature(*domid));
        }
    }

    /// Forgets failures if what they depend on has changed.
    pub(super) fn reconsider(&mut self, signature: impl Fn(Option<DomId>) -> Signature) {
        let before = self.barred.len();
        self.barred.retain(|(domid, _), bar| {
            let now = signature(*domid);
            // What failed in a domain that is gone says nothing about another.
            let is_gone = domid.is_some() && now.guest.is_none();
            !is_gone && bar.then.as_ref().is_none_or(|then| *then == now)
        });
        if self.barred.len() < before {
            self.failures = 0;
            self.not_before = None;
        }
    }

    /// Forgets failures.
    pub(super) fn pardon(&mut self) {
        self.barred.clear();
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
        | Step::DropTrail { .. }
        | Step::RemoveController { .. }
        | Step::RemoveLeftover(_) => None,
    }
}

/// The port that a step has filled when it has succeeded.
pub(super) fn fills(step: &Step) -> Option<Place> {
    let with_device = !matches!(step, Step::CreateController { with_device: false, .. });
    reserves(step).filter(|_| with_device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Guest, GuestKind, GuestName};
    use crate::plan::made_up::{device, place};

    const KIOSK: &str = "6d3ae5a6-2c8c-4c8b-9d1e-000000000001";

    fn domid(number: u16) -> DomId {
        number.to_string().parse().unwrap()
    }

    fn observed(device_model: DeviceModel) -> Observed {
        let mut observed = Observed::default();
        for number in [4, 5] {
            let guest = Guest {
                domid: domid(number),
                uuid: KIOSK.parse().unwrap(),
                name: GuestName::new("kiosk"),
                kind: GuestKind::Pv,
                life: Life::Running,
                device_model: if number == 4 { device_model } else { DeviceModel::Absent },
                controllers: BTreeMap::new(),
                broken: BTreeMap::new(),
            };
            observed.xen.guests.insert(guest.domid, guest);
        }
        observed
    }

    #[test]
    fn what_a_domain_refuses_is_barred_there_alone_until_it_changes() {
        let busid: BusId = "1-1".parse().unwrap();
        let subject = Subject::Device(busid.clone());
        let (take, back) = (
            Step::TakeInterfaces {
                busid: busid.clone(),
                plug: device("1-1").plug(),
                place: place(4, 0, 1),
                interfaces: Vec::new(),
            },
            Step::ReturnDrivers {
                busid: busid.clone(),
                kind: crate::model::ControllerKind::Pv,
                interfaces: Vec::new(),
            },
        );
        let problem = |cause: &str| Problem::StepFailed { step: "step", cause: cause.into() };
        let before = observed(DeviceModel::Absent);
        let seen = |observed: &Observed, domid| Signature::of(&subject, domid, observed);

        let mut job = Job::default();
        job.bar(&take, Some(domid(4)), problem("four"));
        job.bar(&take, Some(domid(5)), problem("five"));
        job.bar(&back, None, problem("back"));
        let both = [(domid(4), problem("four")), (domid(5), problem("five"))];
        assert_eq!(job.bars_to_attaching(), both.into());
        assert_eq!(job.bar_to(&take, Some(domid(5))), Some(&problem("five")));
        assert_eq!(job.bar_to(&take, Some(domid(6))), None);
        assert_eq!(job.bar_to(&back, None), Some(&problem("back")));

        // Until the job has come to rest, what changes is its own doing.
        job.reconsider(|domid| seen(&observed(DeviceModel::Dead), domid));
        assert_eq!(job.bars_to_attaching().len(), 2);
        job.rest(|domid| seen(&before, domid));
        job.reconsider(|domid| seen(&before, domid));
        assert_eq!(job.bars_to_attaching().len(), 2);
        job.not_before = Some(some_instant());
        job.reconsider(|domid| seen(&observed(DeviceModel::Dead), domid));
        assert_eq!(job.bars_to_attaching(), [(domid(5), problem("five"))].into());
        assert_eq!(job.not_before, None);

        // A domain that is gone refuses nothing.
        job.reconsider(|domid| seen(&Observed::default(), domid));
        assert_eq!(job.bars_to_attaching(), BTreeMap::new());
        assert_eq!(job.bar_to(&back, None), Some(&problem("back")));
    }

    /// What fails now and then, and succeeds in between, is not what fails for good.
    #[test]
    fn what_has_failed_before_a_success_does_not_count_any_more() {
        let step = Step::Forget { busid: "1-1".parse().unwrap() };
        let (now, mut job) = (some_instant(), Job::default());
        for _ in 0..3 {
            for number in 1..backoff::MAX_ATTEMPTS {
                let pause = job.failed(now, &step, None, "busy", 7);
                assert_eq!(pause, Some(backoff::pause(number, 7)), "{number}");
            }
            for _ in 0..=FREE_OVERTAKINGS {
                job.overtaken(now, 7);
            }
            assert!(job.not_before.is_some());
            job.succeeded(&step);
            assert_eq!((job.not_before, job.overtaken), (None, 0));
        }
        assert_eq!(job.bar_to(&step, None), None);
        for _ in 0..backoff::MAX_ATTEMPTS {
            job.failed(now, &step, None, "busy", 7);
        }
        assert!(job.bar_to(&step, None).is_some());
    }

    #[expect(clippy::disallowed_methods, reason = "a test needs some instant")]
    fn some_instant() -> Instant {
        Instant::now()
    }
}
