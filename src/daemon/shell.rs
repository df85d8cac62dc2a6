//! Between the reconciler and the host: inputs in, outputs performed.

use super::board::Board;
use super::clock::{date, now};
use super::desk::{Desk, Remembered};
use super::events::{Arrival, Arrivals};
use super::manager::Manager;
use super::watching::Watches;
use super::witness::Witness;
use crate::control::protocol::{
    Ask, Fault, FileOutcome, MetricsOutcome, OrderAsk, Outcome, ReasonsOutcome, ReloadOutcome,
    StatusOutcome, TakenDownOutcome,
};
use crate::control::server::{Heard, Responder};
use crate::host::look::XenReader;
use crate::host::perform::Performer;
use crate::host::usb::UsbReader;
use crate::model::{Asker, BusId, Device, Observed, Order, Trail, chain};
use crate::plan::{Scene, Wanted, orders};
use crate::policy::{Policy, Problems, Reload};
use crate::policy_file::remembered::{self, RememberError};
use crate::policy_file::{self, InForce, PolicyFile};
use crate::reconcile::{Asked, Event, Input, Output, Reconciler, RequestId, Scope, Sight, preview};
use crate::telemetry::{self, Gauges, Metrics, Notable, Tape};
use std::collections::BTreeSet;
use std::future::pending;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep_until;

/// How long steps on their way may take when the daemon ends.
const END_DEADLINE: Duration = Duration::from_secs(5);

/// How long it may take to give everything back when the daemon ends with `--detach-on-exit`.
const DETACH_DEADLINE: Duration = Duration::from_secs(20);

pub(super) struct Shell {
    pub(super) machine: Reconciler,
    pub(super) watches: Watches,
    pub(super) xen: XenReader,
    pub(super) performer: Performer,
    pub(super) desk: Desk,
    pub(super) policy: PathBuf,
    /// Whether the last reading of the policy was good.
    pub(super) policy_is_current: bool,
    /// How many of the rules in force are remembered ones.
    pub(super) remembered_rules: usize,
    /// The files of the policy in force.
    pub(super) files: Vec<PolicyFile>,
    /// The directories where a change is to be heard of.
    pub(super) watched: BTreeSet<PathBuf>,
    /// Held while the file of remembered rules is being changed.
    pub(super) file: Arc<Mutex<()>>,
    pub(super) detach_on_exit: bool,
    pub(super) manager: Manager,
    /// What was told and is not shown yet.
    pub(super) tape: Tape,
    pub(super) board: Board,
    pub(super) witness: Witness,
    pub(super) metrics: Metrics,
}

/// Looks, steps and changes of a file on their way.
type Errands = JoinSet<Errand>;

/// How an errand ended.
enum Errand {
    /// This is for the machine.
    Input(Input),
    /// A step has ended, after this time.
    Performed(&'static str, Duration, Input),
    /// The rule of an order was written, or not.
    Remembered { id: RequestId, busid: BusId, who: Asker, result: Result<(), RememberError> },
    /// A release was asked for, and its rule was removed, or there was none, or it could not be.
    Forgotten(Box<Release>, Result<bool, RememberError>),
}

/// A release that has to wait for the file of remembered rules: otherwise the policy would decide with
/// the rule that is to go.
struct Release {
    id: RequestId,
    asked: Asked,
    busid: BusId,
    answer: Responder,
}

impl Shell {
    /// Runs until the end.
    pub(super) async fn run(mut self, mut arrivals: Arrivals) {
        let mut errands = Errands::new();
        let mut give_up: Option<Instant> = None;
        telemetry::log(&Notable::Started { rules: self.machine.policy().rules().len() });
        self.handle(Input::Timeout, &mut errands);
        Manager::ready();
        loop {
            self.manager.alive(now());
            self.tell_status();
            self.show();
            arrivals.policy_files.follow(&self.watched);
            let deadline = self.machine.deadline().map(|(when, _)| when).into_iter();
            let deadline = deadline.chain(give_up).chain(self.manager.deadline());
            let deadline = deadline.chain(self.witness.deadline());
            let inputs = tokio::select! {
                // Each branch gives up nothing when another is first: the arrivals keep what they
                // have, a finished errand stays in its set, and a write with the witness.
                arrival = arrivals.next() => self.arrived(arrival, &mut errands, &mut give_up),
                Some(done) = errands.join_next() => self.returned(ended(done)),
                written = self.witness.written() => {
                    self.witness.returned(written, now());
                    Vec::new()
                }
                () = until(deadline.min()) => vec![Input::Timeout],
            };
            for input in inputs {
                if self.handle(input, &mut errands) {
                    telemetry::log(&Notable::Ended { attached: self.attached() });
                    return self.end().await;
                }
            }
            if give_up.is_some_and(|when| when <= now()) {
                telemetry::log(&Notable::EndedUnfinished);
                return self.end().await;
            }
        }
    }

    /// Shows the last lines and takes them down.
    async fn end(mut self) {
        self.show();
        self.witness.finish(now(), date()).await;
    }

    /// Says in a line what the agent has done.
    fn tell_status(&mut self) {
        let (rules, attached) = (self.machine.policy().rules().len(), self.attached());
        self.manager.status(format!("rules: {rules}, devices attached by them: {attached}"));
    }

    /// Shows what was told and what has changed to those who watch.
    fn show(&mut self) {
        let mut lines = self.tape.take();
        loop {
            for told in lines {
                let at = date();
                self.witness.take_down(&told, at);
                self.board.say(told, at);
            }
            // This can give something to tell.
            self.witness.turn(now(), date());
            lines = self.tape.take();
            if lines.is_empty() {
                break;
            }
        }
        self.board.show(self.machine.observed(), self.machine.is_connected());
    }

    /// How many devices are where the agent has attached them.
    fn attached(&self) -> usize {
        let xen = &self.machine.observed().xen;
        xen.taken_ports().filter(|(place, busid)| xen.is_ours(busid, *place)).count()
    }

    /// Hands one input to the machine and performs what comes out. Tells whether it was the end.
    fn handle(&mut self, input: Input, errands: &mut Errands) -> bool {
        let saw_xen = matches!(input, Input::Saw(Sight::Xen(_) | Sight::Domains(_)));
        self.machine.handle(now(), input);
        if saw_xen {
            self.watches.follow(self.machine.observed());
        }
        let mut left = false;
        while let Some(output) = self.machine.poll() {
            match output {
                Output::Look(scope) => self.look(scope, errands),
                Output::Run(ticket, step) => {
                    let performer = self.performer.clone();
                    let begun = now();
                    errands.spawn_local(async move {
                        let finished = Input::Finished(ticket, performer.perform(&step).await);
                        Errand::Performed(step.step().name(), now() - begun, finished)
                    });
                }
                Output::Answer(id, answer) => self.desk.answered(id, answer),
                Output::Report(event) => {
                    if let Event::Ordered { request, busid, order: Some(order), who, .. } = &event {
                        self.remember(*request, busid, order, who, errands);
                    }
                    self.board.heed(&event);
                    self.metrics.count(&event, now());
                    telemetry::log(&Notable::Event(event));
                }
                Output::Left => left = true,
            }
        }
        left
    }

    /// Looks where the machine says, without holding up the loop: reading a device blocks as long
    /// as the kernel is busy with it.
    fn look(&self, scope: Scope, errands: &mut Errands) {
        let usb = UsbReader::asking(Arc::clone(&self.machine.needs().attributes));
        match scope {
            Scope::Usb => drop(errands.spawn_blocking(move || {
                Errand::Input(match usb.plugged().and_then(|plugged| Ok((plugged, usb.desk()?))) {
                    Ok((plugged, desk)) => {
                        Input::Saw(Sight::Usb(plugged, usb.usbback_loaded(), desk))
                    }
                    Err(error) => Input::LookFailed(Scope::Usb, error.into()),
                })
            })),
            Scope::Device(busid) => drop(errands.spawn_blocking(move || {
                Errand::Input(match usb.device(&busid) {
                    Ok(device) => Input::Saw(Sight::Device(busid, device)),
                    Err(error) => Input::LookFailed(Scope::Device(busid), error.into()),
                })
            })),
            Scope::Xen => {
                let xen = self.xen.clone();
                errands.spawn_local(async move {
                    Errand::Input(match xen.view().await {
                        Ok(view) => Input::Saw(Sight::Xen(view)),
                        Err(error) => Input::LookFailed(Scope::Xen, error.into()),
                    })
                });
            }
            Scope::Domains(domids) => {
                let xen = self.xen.clone();
                errands.spawn_local(async move {
                    Errand::Input(match xen.part(&domids).await {
                        Ok(part) => Input::Saw(Sight::Domains(part)),
                        Err(error) => Input::LookFailed(Scope::Domains(domids), error.into()),
                    })
                });
            }
        }
    }

    /// What an arrival means for the machine.
    fn arrived(
        &mut self,
        arrival: Arrival,
        errands: &mut Errands,
        give_up: &mut Option<Instant>,
    ) -> Vec<Input> {
        match arrival {
            Arrival::Stirred(scopes) => scopes.into_iter().map(Input::Stirred).collect(),
            Arrival::MonitorLost(error) => {
                telemetry::log(&Notable::MonitorLost(&error));
                Vec::new()
            }
            Arrival::XenstoreBack => {
                let performer = self.performer.clone();
                errands.spawn_local(async move {
                    Errand::Input(match performer.prepare().await {
                        Ok(()) => {
                            telemetry::log(&Notable::XenstoreBack);
                            Input::XenstoreBack
                        }
                        // Lost again at once; the next arrival says so.
                        Err(error) => {
                            telemetry::log(&Notable::XenstoreLost(&error));
                            Input::XenstoreLost
                        }
                    })
                });
                Vec::new()
            }
            Arrival::XenstoreLost(error) => {
                telemetry::log(&Notable::XenstoreLost(&error));
                vec![Input::XenstoreLost]
            }
            Arrival::Heard(Heard::Asked { number, who, ask, answer }) => {
                self.asked(RequestId(number), who, ask, answer, errands)
            }
            Arrival::Heard(Heard::Gone(number)) => {
                self.desk.forget(RequestId(number));
                vec![Input::Unasked(RequestId(number))]
            }
            Arrival::Reload => {
                Manager::reloading();
                let inputs = self.reload().ok().map(Input::Policy).into_iter().collect();
                Manager::ready();
                inputs
            }
            // It may have been on its way when that was switched off.
            Arrival::PolicyChanged if self.watched.is_empty() => Vec::new(),
            Arrival::PolicyChanged => {
                self.reload_changed().map(Input::Policy).into_iter().collect()
            }
            Arrival::End => {
                Manager::stopping();
                let patience = if self.detach_on_exit { DETACH_DEADLINE } else { END_DEADLINE };
                *give_up = Some(now() + patience);
                vec![Input::Leave { detach: self.detach_on_exit }]
            }
        }
    }

    /// Reads the policy anew. A bad one changes nothing: the old one stays in force.
    fn reload(&mut self) -> Result<Arc<Policy>, Problems> {
        let loaded = policy_file::load_in_force(&self.policy);
        self.take(loaded)
    }

    /// The same because a file has changed; `None` when it says what is in force.
    fn reload_changed(&mut self) -> Option<Arc<Policy>> {
        let loaded = policy_file::load_in_force(&self.policy);
        if let Ok(InForce { policy, files, .. }) = &loaded
            && self.policy_is_current
            && policy == self.machine.policy()
        {
            self.files.clone_from(files);
            self.watch_files();
            return None;
        }
        self.take(loaded).ok()
    }

    fn take(&mut self, loaded: Result<InForce, Problems>) -> Result<Arc<Policy>, Problems> {
        self.policy_is_current = loaded.is_ok();
        self.metrics.reloaded(loaded.is_ok(), date());
        match loaded {
            Ok(InForce { policy, remembered, files, warnings, mentions: _ }) => {
                if let Some(warnings) = &warnings {
                    telemetry::log(&Notable::Warned(warnings));
                }
                (self.remembered_rules, self.files) = (remembered, files);
                telemetry::log(&Notable::Reloaded { rules: policy.rules().len() });
                self.watch(policy.reload());
                Ok(Arc::new(policy))
            }
            Err(problems) => {
                telemetry::log(&Notable::NotReloaded(&problems));
                self.watch_files();
                Err(problems)
            }
        }
    }

    /// Hears of changes of the policy's files, if the policy in force says so.
    pub(super) fn watch_files(&mut self) {
        self.watch(self.machine.policy().reload());
    }

    fn watch(&mut self, reload: Reload) {
        self.watched = match reload {
            Reload::OnChange => policy_file::directories(&self.policy),
            Reload::OnRequest => BTreeSet::new(),
        };
    }

    /// Somebody asks something through the control socket.
    fn asked(
        &mut self,
        id: RequestId,
        who: Asker,
        ask: Ask,
        mut answer: Responder,
        errands: &mut Errands,
    ) -> Vec<Input> {
        match ask {
            Ask::Order(OrderAsk { request, remember, wait }) => {
                let asked = Asked { who, request, wait };
                if let Some(device) = self.to_forget(&asked) {
                    let (path, file) = (remembered::beside(&self.policy), Arc::clone(&self.file));
                    let busid = device.busid.clone();
                    let release = Box::new(Release { id, asked, busid, answer });
                    errands.spawn_blocking(move || {
                        let _held = file.lock().unwrap_or_else(PoisonError::into_inner);
                        Errand::Forgotten(release, remembered::forget(&path, &device))
                    });
                    return Vec::new();
                }
                let remembered = if remember { Remembered::Wanted } else { Remembered::Nothing };
                self.desk.open(id, answer, remembered);
                vec![Input::Ask(id, asked)]
            }
            Ask::Status => {
                answer.ok(Outcome::Status(self.status()));
                Vec::new()
            }
            Ask::Reasons => {
                let (policy, observed) = (self.machine.policy(), self.machine.observed());
                let outlooks = preview(policy, observed, now());
                answer.ok(Outcome::Reasons(ReasonsOutcome::of(&outlooks)));
                Vec::new()
            }
            Ask::Watch(since) => {
                self.show();
                let seen = (self.machine.observed(), self.machine.is_connected());
                let outcome = self.board.watched(answer.notices(), since.as_ref(), seen);
                answer.ok(Outcome::Watch(outcome));
                Vec::new()
            }
            Ask::Metrics => {
                let metrics = self.metrics.text(&self.gauges());
                answer.ok(Outcome::Metrics(MetricsOutcome { metrics }));
                Vec::new()
            }
            Ask::ByHand(what) => {
                telemetry::log(&Notable::ByHand(&who, &what));
                answer.ok(Outcome::TakenDown(TakenDownOutcome { taken_down: true }));
                Vec::new()
            }
            Ask::Reload => {
                telemetry::log(&Notable::ReloadAsked(&who));
                match self.reload() {
                    Ok(policy) => {
                        let reloaded_rules = policy.rules().len();
                        answer.ok(Outcome::Reload(ReloadOutcome { reloaded_rules }));
                        vec![Input::Policy(policy)]
                    }
                    Err(problems) => {
                        answer.fail(bad_policy(&problems));
                        Vec::new()
                    }
                }
            }
        }
    }

    /// The device of which a remembered rule must be forgotten before it can be released.
    fn to_forget(&self, asked: &Asked) -> Option<Device> {
        if asked.request.wanted != Wanted::Release {
            return None;
        }
        let (observed, policy) = (self.machine.observed(), self.machine.policy());
        let scene = Scene { observed, policy, departing: &BTreeSet::new() };
        let planned = orders::plan(&asked.request, &scene).ok()?;
        observed.devices.get(&planned.busid).cloned()
    }

    /// An order is noted: if it is to be remembered, its rule is written, off the loop.
    fn remember(
        &mut self,
        id: RequestId,
        busid: &BusId,
        order: &Order,
        who: &Asker,
        errands: &mut Errands,
    ) {
        let device = self.machine.observed().devices.get(busid).cloned();
        let Some(device) = device.filter(|_| self.desk.noted(id)) else { return };
        let target = match order {
            Order::Attach(guest) => Some(guest.clone()),
            Order::Stay | Order::Hold => None,
        };
        let (path, file) = (remembered::beside(&self.policy), Arc::clone(&self.file));
        let who = who.clone();
        errands.spawn_blocking(move || {
            let _held = file.lock().unwrap_or_else(PoisonError::into_inner);
            let result = remembered::remember(&path, &device, target.as_ref());
            Errand::Remembered { id, busid: device.busid, who, result }
        });
    }

    /// What an errand that has ended means for the machine.
    fn returned(&mut self, errand: Errand) -> Vec<Input> {
        let path = remembered::beside(&self.policy);
        match errand {
            Errand::Input(input) => vec![input],
            Errand::Performed(step, took, input) => {
                let Input::Finished(_, result) = &input else { return vec![input] };
                self.metrics.performed(step, took, result.is_ok());
                vec![input]
            }
            Errand::Remembered { id, busid, who, result } => {
                match &result {
                    Ok(()) => telemetry::log(&Notable::Remembered(&busid, &path, &who)),
                    Err(error) => telemetry::log(&Notable::NotRemembered(&busid, error)),
                }
                let advice = "the order holds until the next boot";
                let reloaded =
                    result.map_err(|error| not_remembered(&error, advice)).and_then(|()| {
                        let fault = |problems: Problems| bad_policy(&problems);
                        self.reload().map_err(fault)
                    });
                let (inputs, result) = match reloaded {
                    Ok(policy) => {
                        let told = format!("remembered in {}", path.display());
                        (vec![Input::Policy(policy)], Ok(told))
                    }
                    Err(fault) => (Vec::new(), Err(fault)),
                };
                self.desk.remembered(id, result);
                inputs
            }
            Errand::Forgotten(release, result) => {
                let Release { id, asked, busid, answer } = *release;
                let mut inputs = Vec::new();
                let remembered = match result {
                    Ok(false) => Remembered::Nothing,
                    Ok(true) => {
                        telemetry::log(&Notable::Forgotten(&busid, &path, &asked.who));
                        let reloaded = self.reload();
                        Remembered::Done(match reloaded {
                            Ok(policy) => {
                                inputs.push(Input::Policy(policy));
                                Ok(format!("forgotten in {}", path.display()))
                            }
                            Err(problems) => Err(bad_policy(&problems)),
                        })
                    }
                    Err(error) => {
                        telemetry::log(&Notable::NotRemembered(&busid, &error));
                        answer.fail(not_remembered(&error, "nothing was released"));
                        return inputs;
                    }
                };
                self.desk.open(id, answer, remembered);
                inputs.push(Input::Ask(id, asked));
                inputs
            }
        }
    }

    fn gauges(&self) -> Gauges {
        let observed = self.machine.observed();
        Gauges {
            devices: observed.devices.len(),
            attached: self.attached(),
            orders: observed.xen.overrides.len(),
            domains: observed.xen.guests.len(),
            rules: self.machine.policy().rules().len(),
            policy_is_current: self.policy_is_current,
            xenstore: self.machine.is_connected(),
        }
    }

    fn status(&self) -> StatusOutcome {
        let observed = self.machine.observed();
        StatusOutcome {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            policy: self.policy.display().to_string(),
            rules: self.machine.policy().rules().len(),
            remembered_rules: self.remembered_rules,
            policy_is_current: self.policy_is_current,
            files: self.files.iter().map(shown).collect(),
            xenstore: self.machine.is_connected(),
            devices: observed.devices.len(),
            attached: self.attached(),
            orders: observed.xen.overrides.len(),
            kept_ways: kept_ways(observed),
        }
    }
}

/// Places from which a device has gone that another may follow.
fn kept_ways(observed: &Observed) -> usize {
    let is_there = |busid: &BusId, trail: &Trail| {
        let device = observed.devices.get(busid);
        device.is_some_and(|device| trail.plug.may_become(&device.plug()))
    };
    observed.xen.trails.iter().filter(|(busid, trail)| !is_there(busid, trail)).count()
}

fn shown(file: &PolicyFile) -> FileOutcome {
    FileOutcome {
        file: file.path.display().to_string(),
        link: file.link.as_ref().map(|link| link.display().to_string()),
        masked: file.masked,
    }
}

fn bad_policy(problems: &Problems) -> Fault {
    let advice = "the policy that was in force stays in force";
    Fault::new("bad-policy", problems.render(false)).advice(advice)
}

fn not_remembered(error: &RememberError, advice: &str) -> Fault {
    Fault::new("not-remembered", chain(error)).advice(advice)
}

/// How an errand ended. A panic in it is a bug, and goes on here: the service manager
/// starts a new agent, which puts everything right.
fn ended(errand: Result<Errand, JoinError>) -> Errand {
    match errand.map_err(JoinError::try_into_panic) {
        Ok(errand) => errand,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        // Nothing cancels errands.
        Err(Err(_)) => Errand::Input(Input::Timeout),
    }
}

async fn until(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when.into()).await,
        None => pending().await,
    }
}
