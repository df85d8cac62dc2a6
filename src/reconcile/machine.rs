//! The reconciler: inputs and time in, looks, steps and events out.
//!
//! ```text
//!             Stirred            Look              Saw
//!  outside ───────────► old? ──────────► outside ──────► observed
//!                                                           │ plan::for_device
//!             Finished           Run              standing, next step
//!  outside ───────────► old? ◄────────── outside ◄──────────┘
//! ```
//!
//! Nothing that comes in *means* an action: it makes a reading old. When no reading that a job
//! depends on is old, the job is decided anew from what is there. What people ask for is in
//! `by_hand`: it is noted by a step like any other, and then decided about like everything else.

mod by_hand;

use super::asks::Asks;
use super::doors::{Input, Output, Sight, Ticket};
use super::event::Event;
use super::job::{After, Doubt, FIRST_DOUBT, Job, LAST_DOUBT, Signature, Subject, fills, reserves};
use super::lookout::{Begin, Looks, Scope, Turn, XenLooks};
use super::memory;
use crate::model::{BusId, Device, DomId, Leftover, NoteState, Observed, Place, XenView, chain};
use crate::plan::next::{for_controller, for_device, on_usbback};
use crate::plan::turns::{self, Counted, PassedOver};
use crate::plan::{
    Cause, Moment, Next, Outlook, Problem, Scene, Since, Standing, Step, StepError, interlock,
};
use crate::policy::{Needs, Policy};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

/// The state machine. Holds no clock, no descriptor, no task.
#[derive(Debug)]
pub struct Reconciler {
    policy: Arc<Policy>,
    needs: Needs,
    observed: Observed,
    /// Listed as plugged, or named in xenstore, but not read since: nothing is decided about them,
    /// least of all that they are gone. With the look that will do.
    unread: BTreeMap<BusId, Turn>,
    seen_usb: bool,
    seen_xen: bool,
    connected: bool,
    usb: Looks,
    devices: BTreeMap<BusId, Looks>,
    xen: XenLooks,
    since: Since,
    jobs: BTreeMap<Subject, Job>,
    asks: Asks,
    leaving: Option<Leaving>,
    outbox: VecDeque<Output>,
    next_ticket: u64,
    deadline: Option<(Instant, &'static str)>,
    /// When to read again what nothing waits for.
    recheck: Option<(Instant, &'static str)>,
}

/// What is said of a device that cannot be looked at for [`LOOK_DEADLINE`](super::lookout::LOOK_DEADLINE).
const LOOK_HANGS: &str =
    "the kernel has it locked for 30 s; a driver or a program does not get done with it";

/// How the agent is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    /// Attachments stay; steps on their way end.
    AsItIs,
    /// Everything is given back first.
    Detaching,
    /// [`Output::Left`] was given.
    Left,
}

impl Reconciler {
    /// A machine that has seen nothing yet, and decides nothing until it has.
    pub fn new(policy: Arc<Policy>) -> Self {
        let needs = policy.needs();
        let mut machine = Self {
            policy,
            needs,
            observed: Observed::default(),
            unread: BTreeMap::new(),
            seen_usb: false,
            seen_xen: false,
            connected: false,
            usb: Looks::default(),
            devices: BTreeMap::new(),
            xen: XenLooks::default(),
            since: Since::default(),
            jobs: BTreeMap::new(),
            asks: Asks::default(),
            leaving: None,
            outbox: VecDeque::new(),
            next_ticket: 0,
            deadline: None,
            recheck: None,
        };
        machine.usb.stir();
        machine.xen.stir_everything();
        machine
    }

    /// What was seen last.
    pub fn observed(&self) -> &Observed {
        &self.observed
    }

    /// The policy in force.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What the policy in force asks of devices besides the usual: a look must bring it.
    pub fn needs(&self) -> &Needs {
        &self.needs
    }

    /// How many things it remembers: readings, looks, jobs and moments. It stays in proportion to what
    /// is there, however much has happened.
    pub fn size(&self) -> usize {
        self.observed.devices.len()
            + self.unread.len()
            + self.devices.len()
            + self.jobs.len()
            + self.since.size()
            + self.outbox.len()
    }

    /// Whether there is a connection to xenstore.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// When to call [`Self::handle`] with [`Input::Timeout`] if nothing happens before, and why.
    pub fn deadline(&self) -> Option<(Instant, &'static str)> {
        self.deadline.into_iter().chain(self.recheck).min()
    }

    /// Whether nothing is to happen at the deadline but another look at what has come to rest, to make sure.
    pub fn is_at_rest(&self) -> bool {
        self.deadline.is_none()
    }

    /// Takes one input. Drain [`Self::poll`] before the next.
    pub fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Policy(policy) => {
                let needs = policy.needs();
                if needs.attributes != self.needs.attributes {
                    self.read_all_anew();
                }
                self.needs = needs;
                self.policy = policy;
                self.jobs.values_mut().for_each(Job::pardon);
            }
            Input::Stirred(scope) => self.stir(scope),
            Input::Saw(sight) => self.saw(now, sight),
            Input::LookFailed(scope, cause) => self.look_failed(now, scope, &cause),
            Input::XenstoreLost => {
                self.lose_xenstore();
                // Others go on meanwhile: nothing is decided before it was looked at again.
                self.seen_xen = false;
            }
            Input::XenstoreBack => {
                self.connected = true;
                self.xen.stir_everything();
                self.xen.looks.hurry();
                self.jobs.values_mut().for_each(Job::pardon);
            }
            Input::Finished(ticket, result) => self.finished(now, ticket, result),
            Input::Ask(id, asked) => self.ask(id, asked),
            Input::Unasked(id) => self.asks.forget(id),
            Input::Leave { detach } => {
                self.decline_all();
                self.leaving = Some(if detach { Leaving::Detaching } else { Leaving::AsItIs });
            }
            Input::Timeout => {}
        }
        (self.deadline, self.recheck) = (None, None);
        self.decide(now);
        self.begin_looks(now);
        self.watch_looks(now);
        self.leave_if_done();
    }

    /// The next thing to do, until `None`.
    pub fn poll(&mut self) -> Option<Output> {
        self.outbox.pop_front()
    }

    fn stir(&mut self, scope: Scope) {
        match scope {
            Scope::Usb => self.usb.stir(),
            Scope::Device(busid) => self.stir_device(busid),
            Scope::Xen => self.xen.stir_everything(),
            Scope::Domains(domids) => self.xen.stir(domids),
        };
    }

    /// What was read so far does not tell of everything that the policy asks for. Nothing is decided
    /// about a device before it was read again.
    fn read_all_anew(&mut self) {
        let read = self.observed.devices.keys().chain(self.devices.keys());
        let busids: BTreeSet<BusId> = read.cloned().collect();
        for busid in busids {
            // A look that is under way does not bring what is asked for now.
            let turn = self.stir_device(busid.clone());
            self.unread.insert(busid, turn);
        }
    }

    /// Whether a rule could ask for a hub that is not known yet.
    fn lacks_hubs(&self, busid: &BusId) -> bool {
        let is_coming = |hub: &BusId| {
            let is_old = self.devices.get(hub).is_some_and(|looks| !looks.is_idle());
            self.unread.contains_key(hub) || (is_old && !self.observed.devices.contains_key(hub))
        };
        self.needs.hubs && busid.hubs().any(|hub| is_coming(&hub))
    }

    fn stir_device(&mut self, busid: BusId) -> Turn {
        self.devices.entry(busid).or_default().stir()
    }

    fn begin_looks(&mut self, now: Instant) {
        let (mut later, mut seldom) = (None, None);
        let mut begin = |looks: &mut Looks| match looks.begin(now) {
            Begin::Now => true,
            Begin::No => false,
            Begin::At(when) => {
                let soonest = if looks.is_given_up() { &mut seldom } else { &mut later };
                *soonest = Some(soonest.map_or(when, |other: Instant| other.min(when)));
                false
            }
        };
        if begin(&mut self.usb) {
            self.outbox.push_back(Output::Look(Scope::Usb));
        }
        for (busid, looks) in &mut self.devices {
            if begin(looks) {
                self.outbox.push_back(Output::Look(Scope::Device(busid.clone())));
            }
        }
        if self.connected && begin(&mut self.xen.looks) {
            self.outbox.push_back(Output::Look(self.xen.cover()));
        }
        if let Some(when) = later {
            self.wake(when, "another try of a failed look");
        }
        if let Some(when) = seldom {
            self.recheck_at(when, "another try of a look that keeps failing");
        }
    }

    /// Says of a look at a device that should have ended that it hangs. It cannot be called back.
    fn watch_looks(&mut self, now: Instant) {
        let mut next: Option<Instant> = None;
        for (busid, looks) in &mut self.devices {
            let Some(when) = looks.overdue() else { continue };
            if now < when {
                next = Some(next.map_or(when, |other| other.min(when)));
            } else if looks.is_news(LOOK_HANGS) {
                let event = Event::Unreadable(busid.clone(), LOOK_HANGS.into());
                self.outbox.push_back(Output::Report(event));
            }
        }
        if let Some(when) = next {
            self.wake(when, "a look to end");
        }
    }

    fn saw(&mut self, now: Instant, sight: Sight) {
        let before = self.observed.xen.clone();
        let covered = match &sight {
            Sight::Xen(view) => view.domids.clone(),
            Sight::Domains(part) => part.guests.keys().copied().collect(),
            Sight::Usb(..) | Sight::Device(..) => BTreeSet::new(),
        };
        match sight {
            Sight::Usb(plugged, usbback, desk) => {
                self.usb.succeeded();
                self.seen_usb = true;
                self.observed.usbback = usbback;
                self.observed.desk = desk;
                let known: BTreeSet<_> = self.observed.devices.keys().cloned().collect();
                for busid in plugged.difference(&known) {
                    self.unread.entry(busid.clone()).or_default();
                }
                // What is gone is read like all others: the list may be older than the reading.
                for busid in plugged.into_iter().chain(known) {
                    self.stir_device(busid);
                }
            }
            Sight::Device(busid, device) => {
                if let Some(looks) = self.devices.get_mut(&busid) {
                    looks.succeeded();
                }
                let looks = self.devices.get(&busid);
                let will_do = |turn: &Turn| looks.is_none_or(|looks| looks.has_seen(*turn));
                if self.unread.get(&busid).is_some_and(will_do) {
                    self.unread.remove(&busid);
                }
                self.saw_device(busid, device);
            }
            Sight::Xen(view) => {
                self.xen.looks.succeeded();
                if !self.seen_xen {
                    memory::remember_start(&mut self.since, now, &view);
                }
                self.seen_xen = true;
                self.observed.xen = view;
                self.compare_domains(&before);
            }
            Sight::Domains(part) => {
                self.xen.looks.succeeded();
                self.observed.xen.update(part);
                self.compare_domains(&before);
            }
        }
        self.reread_tenants(&before);
        let looks = &self.devices;
        let is_read = |busid: &BusId| looks.get(busid).is_some_and(Looks::is_idle);
        // Somebody may have emptied a port that the agent has filled before it was seen filled.
        let filled = self.jobs.values().filter_map(|job| job.filled).collect();
        let (since, observed) = (&mut self.since, &self.observed);
        memory::remember(since, now, &before, &filled, &covered, observed, is_read);
    }

    /// A port that somebody else has filled or emptied since `before`. In the one case the last reading of
    /// its device may be of the plug before the one that was meant, with udev's word of the new one still to
    /// come; in the other it tells what a domain had, and not what dom0 has again.
    fn reread_tenants(&mut self, before: &XenView) {
        let of_others = |xen: &XenView| -> BTreeSet<(Place, BusId)> {
            let taken = xen.taken_ports().filter(|(place, busid)| !xen.is_ours(busid, *place));
            taken.map(|(place, busid)| (place, busid.clone())).collect()
        };
        let (was, is) = (of_others(before), of_others(&self.observed.xen));
        for (_, busid) in was.symmetric_difference(&is) {
            let turn = self.stir_device(busid.clone());
            self.jobs.entry(Subject::Device(busid.clone())).or_default().after.usb = turn;
        }
    }

    fn look_failed(&mut self, now: Instant, scope: Scope, cause: &Cause) {
        match scope {
            Scope::Usb => self.usb.failed(now),
            Scope::Device(busid) => {
                let Some(looks) = self.devices.get_mut(&busid) else { return };
                looks.failed(now);
                let cause = chain(&**cause);
                if looks.is_news(&cause) {
                    self.report(Event::Unreadable(busid, cause.into()));
                }
            }
            Scope::Xen | Scope::Domains(_) => self.xen.failed(now),
        }
    }

    fn saw_device(&mut self, busid: BusId, device: Option<Device>) {
        let before = self.observed.devices.get(&busid);
        let same_plug = match (before, &device) {
            (Some(before), Some(device)) => before.plug().may_become(&device.plug()),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        let was_there = before.is_some();
        if !same_plug {
            // What failed with the plug before is no reason to let a stale port wait.
            if let Some(job) = self.jobs.get_mut(&Subject::Device(busid.clone())) {
                job.pardon();
            }
            if was_there {
                self.report(Event::Unplugged(busid.clone()));
            }
            if let Some(device) = &device {
                self.report(Event::Plugged(Box::new(device.clone())));
            }
        }
        let Some(device) = device else {
            self.observed.devices.remove(&busid);
            return;
        };
        // Whoever attached it has written the port before: if it is xl's, a look now shows it.
        let is_unexplained = self.observed.xen.places_of(&busid).next().is_none();
        if is_unexplained && !on_usbback(&device).is_empty() {
            let turn = self.xen.stir_everything();
            self.jobs.entry(Subject::Device(busid.clone())).or_default().after.xen = turn;
        }
        self.observed.devices.insert(busid, device);
    }

    fn compare_domains(&mut self, before: &XenView) {
        let after = self.observed.xen.clone();
        for guest in before.guests.values() {
            if after.guests.get(&guest.domid).is_none_or(|now| now.uuid != guest.uuid) {
                self.report(Event::DomainGone(guest.domid, guest.name.clone()));
                // Somebody may have left something behind.
                self.xen.stir_everything();
            }
        }
        for guest in after.guests.values() {
            if before.guests.get(&guest.domid).is_none_or(|then| then.uuid != guest.uuid) {
                self.report(Event::DomainAppeared(guest.domid, guest.name.clone()));
            }
        }

        // A device that is named for the first time, or by another port than before, may have been
        // plugged a moment ago: whether it is gone is known only when it was looked at since.
        let is_new = |(place, _): &(Place, &BusId)| before.port(*place) != after.port(*place);
        let filled = after.taken_ports().filter(is_new).map(|(_, busid)| busid.clone());
        let named_before = named(before);
        let first = named(&after).into_iter().filter(|busid| !named_before.contains(busid));
        for busid in first.chain(filled) {
            if !self.observed.devices.contains_key(&busid) {
                self.stir_device(busid.clone());
                self.unread.entry(busid).or_default();
            }
        }
    }

    fn finished(&mut self, now: Instant, ticket: Ticket, result: Result<(), StepError>) {
        let flown = self.jobs.iter_mut().find_map(|(subject, job)| {
            job.flight.take_if(|(flying, _)| *flying == ticket).map(|(_, step)| (subject, step))
        });
        let Some((subject, step)) = flown else { return };
        let subject = subject.clone();
        let after = self.stir_after(&step);
        if let Some(id) = self.noting(ticket) {
            if let Some(job) = self.jobs.get_mut(&subject) {
                job.after = after;
                job.landed = Some(Arc::clone(&step));
            }
            return self.noted(id, &subject, &step, result);
        }
        let connected = self.connected;
        let domid = self.domain_of(&step);
        let Some(job) = self.jobs.get_mut(&subject) else { return };
        job.after = after;
        // It may have happened although it failed: as long as nobody has looked, its port is taken
        // and its device is gone.
        job.landed = Some(Arc::clone(&step));
        let may_be_made = !matches!(result, Err(StepError::Stale(_)));
        job.filled = fills(&step).filter(|_| may_be_made);
        let event = match result {
            Ok(()) => {
                job.succeeded(&step);
                memory::remember_step(&mut self.since, &step, &self.observed);
                let because = match &job.said {
                    Some(Standing::Detaching { because, .. }) => Some(because.clone()),
                    Some(_) | None => None,
                };
                Event::Performed(step, because)
            }
            Err(StepError::Stale(cause)) => {
                let cause: Box<str> = chain(&*cause).into();
                job.overtaken(now, seed(&subject));
                Event::Overtaken { step, cause }
            }
            // Not the step's fault: it is decided anew when the connection is back.
            Err(StepError::Transient(cause)) if !connected => {
                Event::Overtaken { step, cause: chain(&*cause).into() }
            }
            Err(StepError::Transient(cause)) => {
                let cause: Box<str> = chain(&*cause).into();
                let pause = job.failed(now, &step, domid, &cause, seed(&subject));
                Event::Failed { step, cause, pause }
            }
            Err(StepError::Permanent(cause)) => {
                let cause: Box<str> = chain(&*cause).into();
                let problem = Problem::StepFailed { step: step.name(), cause: cause.clone() };
                job.bar(&step, domid, problem);
                Event::Failed { step, cause, pause: None }
            }
        };
        self.report(event);
    }

    /// Makes old what a step may have changed. Gives the looks that will show it.
    fn stir_after(&mut self, step: &Step) -> After {
        let usb = step.device().map(|busid| self.stir_device(busid.clone()));
        let xen = if matches!(step, Step::RemoveLeftover(_)) {
            self.xen.stir_everything()
        } else {
            self.xen.stir(step.domain())
        };
        After { usb: usb.unwrap_or_default(), xen }
    }

    fn decide(&mut self, now: Instant) {
        if !self.connected || !self.seen_usb || !self.seen_xen {
            return;
        }
        if matches!(self.leaving, Some(Leaving::AsItIs | Leaving::Left)) {
            return;
        }
        let subjects = self.subjects();
        // What a job has done is not seen yet where its device vanished meanwhile. A look that shows its note
        // may be older than its port, and then it seems that somebody has emptied that.
        let looks = &self.xen.looks;
        self.jobs.retain(|subject, job| {
            subjects.contains(subject) || job.flight.is_some() || !looks.has_seen(job.after.xen)
        });
        // As long as there is a job, its looks are counted on: it may wait for one by its number.
        let (observed, jobs) = (&self.observed.devices, &self.jobs);
        self.devices.retain(|busid, looks| {
            let subject = Subject::Device(busid.clone());
            !looks.is_idle()
                || looks.is_given_up()
                || observed.contains_key(busid)
                || subjects.contains(&subject)
                || jobs.contains_key(&subject)
        });
        // Before anything is decided: what a step has reserved for one job, another may wait for.
        for job in self.jobs.values_mut() {
            if self.xen.looks.has_seen(job.after.xen) {
                job.landed = None;
                job.filled = None;
            }
        }
        self.aim_asks();
        for subject in subjects {
            self.decide_one(now, subject);
        }
        self.watch_flights(now);
        self.answer_for_gone();
    }

    fn ticket(&mut self) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        ticket
    }

    /// Says of a step that should have ended that it hangs. It is not given up: a write that hangs
    /// in the kernel cannot be called back, and when it ends, its device is decided anew.
    fn watch_flights(&mut self, now: Instant) {
        let mut jobs = std::mem::take(&mut self.jobs);
        for (subject, job) in &mut jobs {
            let Some((when, step)) = job.overdue() else { continue };
            if now < when {
                self.wake(when, "a step to end");
            } else {
                let standing = Standing::Hanging(Problem::StepHangs { step: step.name() });
                self.say(subject, job, standing);
            }
        }
        self.jobs = jobs;
    }

    /// Everything that there is something to decide about.
    fn subjects(&self) -> BTreeSet<Subject> {
        let Observed { devices, xen, .. } = &self.observed;
        let busids = devices.keys().cloned().chain(named(xen)).map(Subject::Device);
        let controllers = xen.guests.values().flat_map(|guest| {
            let ours = guest.controllers.iter().filter(|(_, controller)| controller.ours);
            ours.map(|(id, _)| Subject::Controller(guest.domid, *id))
        });
        let leftovers = xen.leftovers.iter().copied().map(Subject::Leftover);
        busids.chain(controllers).chain(leftovers).collect()
    }

    fn decide_one(&mut self, now: Instant, subject: Subject) {
        let mut job = self.jobs.remove(&subject).unwrap_or_default();
        if self.is_due(now, &subject, &job) {
            self.decide_job(now, &subject, &mut job);
            // What is looked at again first is not decided yet: what was last said of it may be old.
            if let Subject::Device(busid) = &subject
                && job.flight.is_none()
                && self.devices.get(busid).is_none_or(|looks| looks.has_seen(job.after.usb))
            {
                self.answer_for(busid, &job);
            }
        }
        self.jobs.insert(subject, job);
    }

    /// Whether nothing is under way for the job and every reading that it waits for has come.
    fn is_due(&mut self, now: Instant, subject: &Subject, job: &Job) -> bool {
        if let Subject::Device(busid) = subject {
            let looks = self.devices.get(busid);
            let seen = looks.is_none_or(|looks| looks.has_seen(job.after.usb));
            // What was gone may be there again, as long as it could not be looked at.
            let may_be_back =
                !self.observed.devices.contains_key(busid) && looks.is_some_and(Looks::is_awaited);
            if self.unread.contains_key(busid) || !seen || may_be_back || self.lacks_hubs(busid) {
                return false;
            }
        }
        if let Some(when) = job.not_before.filter(|when| now < *when) {
            self.wake(when, "another try of a failed step");
            return false;
        }
        job.flight.is_none() && self.xen.looks.has_seen(job.after.xen)
    }

    fn decide_job(&mut self, now: Instant, subject: &Subject, job: &mut Job) {
        if let Subject::Device(busid) = subject
            && self.note_next_order(busid, job)
        {
            return;
        }
        let observed = &self.observed;
        let signature = |domid| Signature::of(subject, domid, observed);
        job.reconsider(signature);
        if let Subject::Device(busid) = subject {
            self.take_turns(now, busid, job);
        }
        let observed = &self.observed;
        let signature = |domid| Signature::of(subject, domid, observed);
        let Some(Outlook { standing, next }) = self.outlook(now, subject, job) else { return };
        if next != Next::Rest || !standing.is_held() {
            job.doubt = None;
        }
        match next {
            Next::Rest => {
                job.rest(signature);
                if let Subject::Device(busid) = subject
                    && standing.is_held()
                    && !self.is_confirmed(now, busid, job)
                {
                    return;
                }
            }
            Next::Until(when, why) => self.wake(when, why),
            Next::Run(step) => {
                if let Some(turn) = self.unseen_vacancy(&step) {
                    job.after.xen = turn;
                    return;
                }
                let domid = self.domain_of(&step);
                if let Some(problem) = job.bar_to(&step, domid) {
                    let problem = problem.clone();
                    job.rest(signature);
                    return self.say(subject, job, Standing::NotReturned(problem));
                }
                let departing = self.departing();
                let scene = Scene { observed, policy: &self.policy, departing: &departing };
                match interlock::clear(step.clone(), &scene) {
                    Ok(cleared) => {
                        let ticket = self.ticket();
                        job.flight = Some((ticket, Arc::new(step)));
                        job.begun = Some(now);
                        self.outbox.push_back(Output::Run(ticket, cleared));
                    }
                    Err(refusal) => {
                        job.bar(&step, domid, Problem::Protected(refusal.clone()));
                        if let Subject::Device(busid) = subject {
                            self.report(Event::Refused(busid.clone(), refusal));
                        }
                        return self.decide_job(now, subject, job);
                    }
                }
            }
        }
        self.say(subject, job, standing);
    }

    /// The look that will show a port empty which another job has emptied in that domain a moment ago. Until
    /// then the domain seems to have no room, and a controller would be made for want of a port.
    fn unseen_vacancy(&self, step: &Step) -> Option<Turn> {
        let Step::CreateController { claim, .. } = step else { return None };
        let emptied = |step: &Step| matches!(step, Step::ClearPort { place, .. } if place.domid == claim.place.domid);
        let emptying = self.jobs.values().filter(|job| job.landed.as_deref().is_some_and(emptied));
        emptying.map(|job| job.after.xen).max()
    }

    /// Whether a device that seems to be held was looked at again before that is said, and again from time
    /// to time while it is: whoever has it may let go, or die, and what udev says of that may be late or lost.
    fn is_confirmed(&mut self, now: Instant, busid: &BusId, job: &mut Job) -> bool {
        let (confirmed, pause) = match &job.doubt {
            Some(doubt) if now < doubt.again => {
                self.recheck_at(doubt.again, "somebody to let go of a device");
                return true;
            }
            Some(doubt) => (true, LAST_DOUBT.min(doubt.pause * 2)),
            None => (false, FIRST_DOUBT),
        };
        job.doubt = Some(Doubt { pause, again: now + pause });
        job.after.usb = self.stir_device(busid.clone());
        confirmed
    }

    /// Counts the time that the domains of a rule's list have for the device.
    fn take_turns(&mut self, now: Instant, busid: &BusId, job: &Job) {
        let turns = self.with_moment(now, job, |moment| turns::count(busid, moment));
        let Some(Counted { turns, passed_over, until }) = turns else {
            self.since.turns.remove(busid);
            return;
        };
        if let Some(until) = until {
            self.wake(until, "a domain of a rule's list to take a device");
        }
        for PassedOver { target, patience, rule } in passed_over {
            self.report(Event::TurnOver { busid: busid.clone(), target, patience, rule });
        }
        self.since.turns.insert(busid.clone(), turns);
    }

    /// How it stands with the subject of `job`, and what comes next for it.
    fn outlook(&self, now: Instant, subject: &Subject, job: &Job) -> Option<Outlook> {
        self.with_moment(now, job, |moment| match subject {
            Subject::Device(busid) => for_device(busid, moment),
            Subject::Controller(domid, id) => {
                let guest = self.observed.xen.guests.get(domid)?;
                let next = for_controller(guest, *id, moment);
                Some(Outlook { standing: Standing::NotReady, next })
            }
            Subject::Leftover(leftover) => Some(Outlook {
                standing: Standing::NotReady,
                next: Next::Run(Step::RemoveLeftover(*leftover)),
            }),
        })
    }

    /// Asks about `job` with all that a decision depends on.
    fn with_moment<T>(&self, now: Instant, job: &Job, ask: impl FnOnce(&Moment<'_>) -> T) -> T {
        let pending = || self.jobs.values().filter_map(Job::pending);
        let reserved: BTreeSet<Place> = pending().filter_map(reserves).collect();
        let creating: BTreeSet<DomId> = pending()
            .filter(|step| matches!(step, Step::CreateController { .. }))
            .filter_map(Step::domain)
            .collect();
        let departing = self.departing();
        let barred = job.bars_to_attaching();
        ask(&Moment {
            now,
            observed: &self.observed,
            policy: &self.policy,
            since: &self.since,
            reserved: &reserved,
            creating: &creating,
            departing: &departing,
            barred: &barred,
            leaving: self.leaving.is_some(),
        })
    }

    /// The domain that a step has to do with: interfaces are taken for the one whose port is noted.
    fn domain_of(&self, step: &Step) -> Option<DomId> {
        let noted = || {
            let note = self.observed.xen.notes.get(step.device()?)?;
            match note.state {
                NoteState::Attached { place, .. } => Some(place.domid),
                NoteState::Returning | NoteState::Admitted | NoteState::Blocked => None,
            }
        };
        step.domain().or_else(noted)
    }

    fn scene<'s>(&'s self, departing: &'s BTreeSet<BusId>) -> Scene<'s> {
        Scene { observed: &self.observed, policy: &self.policy, departing }
    }

    /// The devices that dom0 is about to lose, or has lost by a step whose effect nobody has seen.
    fn departing(&self) -> BTreeSet<BusId> {
        let pending = self.jobs.values().filter_map(Job::pending);
        let taking = pending.filter(|step| step.takes_from_dom0());
        taking.filter_map(Step::device).cloned().collect()
    }

    fn say(&mut self, subject: &Subject, job: &mut Job, standing: Standing) {
        if let Subject::Device(busid) = subject
            && job.said.as_ref() != Some(&standing)
        {
            job.said = Some(standing.clone());
            self.report(Event::Standing(busid.clone(), standing));
        }
    }

    fn report(&mut self, event: Event) {
        self.outbox.push_back(Output::Report(event));
    }

    fn wake(&mut self, when: Instant, why: &'static str) {
        if self.deadline.is_none_or(|(earlier, _)| when < earlier) {
            self.deadline = Some((when, why));
        }
    }

    fn recheck_at(&mut self, when: Instant, why: &'static str) {
        if self.recheck.is_none_or(|(earlier, _)| when < earlier) {
            self.recheck = Some((when, why));
        }
    }

    fn leave_if_done(&mut self) {
        let in_flight = self.jobs.values().any(|job| job.flight.is_some());
        let quiet = match self.leaving {
            None | Some(Leaving::Left) => false,
            Some(Leaving::AsItIs) => !in_flight,
            // Without xenstore nothing can be given back: whoever asked for it waits or gives up.
            Some(Leaving::Detaching) => {
                !in_flight
                    && self.connected
                    && self.deadline.is_none()
                    && self.usb.is_idle()
                    && self.xen.looks.is_idle()
                    && self.devices.values().all(Looks::is_idle)
            }
        };
        if quiet {
            self.leaving = Some(Leaving::Left);
            self.outbox.push_back(Output::Left);
        }
    }
}

/// The devices that xenstore speaks of.
fn named(xen: &XenView) -> BTreeSet<BusId> {
    let ports = xen.taken_ports().map(|(_, busid)| busid);
    let noted = xen.notes.keys().chain(xen.overrides.keys()).chain(xen.trails.keys());
    ports.chain(noted).chain(xen.returns.keys()).cloned().collect()
}

/// Spreads the retries of jobs that failed together; the same on every run.
fn seed(subject: &Subject) -> u64 {
    match subject {
        Subject::Device(busid) => busid
            .ports()
            .iter()
            .fold(u64::from(busid.bus()), |seed, port| seed * 31 + u64::from(*port)),
        Subject::Controller(domid, _) | Subject::Leftover(Leftover { domid, .. }) => {
            u64::from(domid.get())
        }
    }
}
