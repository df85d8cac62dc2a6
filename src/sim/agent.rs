//! The agent in the made-up host: the real state machine, with looks and steps that take time.
//!
//! It stands for the daemon. What it does to the host, and in how many effects, is in `steps`.

use super::op::{Expectation, Fault};
use super::report::Told;
use super::steps::Work;
use super::usb::Micros;
use super::world::{Happening, Word, World, micros};
use crate::model::{BusId, Device, Guest, XenPart};
use crate::plan::StepError;
use crate::reconcile::{Event, Input, Output, Reconciler, Scope, Sight, Ticket};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How long the daemon waits for its end (`daemon/shell.rs`).
const END_DEADLINE: Micros = 5_000_000;
const DETACH_DEADLINE: Micros = 20_000_000;

/// A running agent.
pub(super) struct Agent {
    pub(super) machine: Reconciler,
    /// When it wants to be called.
    pub(super) wake: Option<Micros>,
    pub(super) connected: bool,
    pub(super) started: Micros,
    /// How many ports had ever been filled when it looked at all of xenstore for the first time.
    pub(super) first_look: Option<u64>,
    pub(super) works: BTreeMap<u64, Work>,
    looks: BTreeMap<u64, Look>,
    /// How it is to end, and how long after that it is started again.
    leaving: Option<(bool, Micros)>,
}

/// A look on its way.
struct Look {
    scope: Scope,
    /// The attributes that it is to bring.
    asked: Arc<BTreeSet<Box<str>>>,
    seen: Seen,
}

/// What a look has seen so far.
enum Seen {
    Nothing,
    Device(Box<Option<Device>>),
    Usb(Sight),
    /// The numbers and the notes; then the domains, in two halves.
    Xen(XenPart, Vec<Guest>, bool),
}

impl Agent {
    /// Whether a look at this device is on its way.
    pub(super) fn reads(&self, busid: &BusId) -> bool {
        let at = Scope::Device(busid.clone());
        self.looks.values().any(|look| look.scope == at)
    }

    /// Whether it was told to end.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// Whether it waits for nothing.
    pub(super) fn is_at_rest(&self) -> bool {
        self.wake.is_none() || self.machine.is_at_rest()
    }

    pub(super) fn why_awake(&self) -> Option<&'static str> {
        self.machine.deadline().map(|(_, why)| why)
    }
}

impl World {
    pub(super) fn start_agent(&mut self) {
        self.life += 1;
        self.agent = Some(Agent {
            machine: Reconciler::new(Arc::clone(&self.policy)),
            wake: None,
            connected: false,
            started: self.now,
            first_look: None,
            works: BTreeMap::new(),
            looks: BTreeMap::new(),
            leaving: None,
        });
        self.input(Input::Timeout);
        let delay = self.takes(1_000, 500_000);
        self.soon(delay, Happening::Reconnect(self.life));
    }

    pub(super) fn kill_agent(&mut self, down: Micros) {
        let Some(agent) = self.agent.take() else { return };
        self.counts.kills += 1;
        // What it had asked of the kernel, the kernel goes on with.
        for work in agent.works.into_values() {
            if let Some((interface, plug_no, asked)) = work.in_kernel {
                let delay = self.takes(1_000, 100_000);
                self.soon(delay, Happening::Orphan(interface, plug_no, asked));
            }
        }
        self.life += 1;
        // Whoever waits for an answer sees that the agent is gone.
        self.asks.clear();
        self.seen_plugs.clear();
        self.failed.clear();
        self.forget_rumours(false);
        self.soon(down, Happening::AgentStarts);
    }

    pub(super) fn stop_agent(&mut self, detach: bool, down: Micros) {
        let deadline = if detach { DETACH_DEADLINE } else { END_DEADLINE };
        let Some(agent) = self.agent.as_mut() else { return };
        if agent.leaving.is_some() {
            return;
        }
        agent.leaving = Some((detach, down));
        self.tell(|| "the agent is told to end".to_owned());
        self.soon(deadline, Happening::GiveUp(self.life));
        self.input(Input::Leave { detach });
    }

    /// The agent has ended, in peace or not.
    pub(super) fn agent_ended(&mut self, in_peace: bool) {
        let leaving = self.agent.as_ref().and_then(|agent| agent.leaving);
        let (detach, down) = leaving.unwrap_or((false, 0));
        self.tell(|| "the agent has ended".to_owned());
        if in_peace && detach {
            self.check_left();
        }
        self.kill_agent(down);
        self.counts.kills -= 1;
    }

    pub(super) fn disconnect(&mut self, duration: Duration) {
        let Some(agent) = self.agent.as_mut().filter(|agent| agent.connected) else { return };
        agent.connected = false;
        self.tell(|| "the connection to xenstore is lost".to_owned());
        self.forget_rumours(true);
        self.input(Input::XenstoreLost);
        let Some(agent) = self.agent.as_mut() else { return };
        let blind: Vec<u64> = agent
            .looks
            .iter()
            .filter(|(_, look)| matches!(look.scope, Scope::Xen | Scope::Domains(_)))
            .map(|(number, _)| *number)
            .collect();
        for number in blind {
            let look = self.agent.as_mut().and_then(|agent| agent.looks.remove(&number));
            if let Some(look) = look {
                self.input(Input::LookFailed(look.scope, "the connection was lost".into()));
            }
        }
        self.soon(micros(duration), Happening::Reconnect(self.life));
    }

    pub(super) fn reconnect(&mut self) {
        let Some(agent) = self.agent.as_mut().filter(|agent| !agent.connected) else { return };
        agent.connected = true;
        self.input(Input::XenstoreBack);
    }

    pub(super) fn reload(&mut self, name: &str) {
        let found = self.setting.policies.iter().find(|(known, _)| **known == *name);
        let Some((_, Some(policy))) = found else {
            return self.tell(|| format!("policy {name} does not compile and changes nothing"));
        };
        self.main = Arc::clone(policy);
        self.tell(|| format!("policy {name} is loaded"));
        self.read_policies();
    }

    pub(super) fn hear(&mut self, word: Word) {
        self.input(Input::Stirred(Self::scope(word)));
    }

    pub(super) fn agent_wakes(&mut self) {
        if let Some(agent) = self.agent.as_mut() {
            agent.wake = None;
        }
        self.input(Input::Timeout);
    }

    pub(super) fn input(&mut self, input: Input) {
        let now = self.instant();
        let Some(agent) = self.agent.as_mut() else { return };
        agent.machine.handle(now, input);
        self.counts.inputs += 1;
        let mut outputs = Vec::new();
        while let Some(output) = agent.machine.poll() {
            outputs.push(output);
        }
        let deadline = agent.machine.deadline().map(|(when, _)| when);
        let wake = deadline.map(|when| self.micros_of(when));
        let present = self.now;
        if let Some(agent) = self.agent.as_mut() {
            // A deadline that has passed is called back a moment later, as a loop would.
            agent.wake = wake.map(|when| when.max(present + 1));
        }
        for output in outputs {
            match output {
                Output::Look(scope) => self.begin_look(scope),
                Output::Run(ticket, cleared) => {
                    self.begin_step(ticket, cleared.step().clone());
                }
                Output::Report(event) => self.hear_report(event),
                Output::Answer(id, result) => self.answered(id, &result),
                Output::Left => return self.agent_ended(true),
            }
        }
    }

    fn hear_report(&mut self, event: Event) {
        match &event {
            Event::Refused(busid, refusal) => {
                let what =
                    format!("the plan proposes what the interlock refuses for {busid}: {refusal}");
                self.violate(2, what);
            }
            Event::Ordered { request, busid, order, .. } => {
                self.check_promise(busid, order.as_ref());
                if let Some(order) = order {
                    self.may_remember(*request, busid, order);
                }
            }
            Event::Failed { .. } | Event::Overtaken { .. } => {
                self.counts.unsuccessful += 1;
                if let Event::Failed { step, .. } = &event {
                    self.failed.extend(step.device().cloned());
                }
            }
            Event::Plugged(_)
            | Event::Unplugged(_)
            | Event::DomainAppeared(..)
            | Event::DomainGone(..)
            | Event::Unreadable(..)
            | Event::Standing(..)
            | Event::TurnOver { .. }
            | Event::Declined { .. }
            | Event::Performed(..) => {}
        }
        if self.setting.listen {
            let at = self.time();
            self.told.push(Told::Said(at, event));
        }
    }

    fn begin_look(&mut self, scope: Scope) {
        let delay = match &scope {
            Scope::Device(busid) => self.takes(200, 20_000) + self.hangs_for(busid),
            Scope::Usb => self.takes(200, 20_000),
            Scope::Xen | Scope::Domains(_) => self.takes(300, 50_000),
        };
        self.numbers += 1;
        let number = self.numbers;
        let Some(agent) = self.agent.as_mut() else { return };
        let asked = Arc::clone(&agent.machine.needs().attributes);
        agent.looks.insert(number, Look { scope, asked, seen: Seen::Nothing });
        self.soon(delay, Happening::Look(self.life, number));
    }

    /// For how long whatever asks the kernel about this device waits.
    pub(super) fn hangs_for(&self, busid: &BusId) -> Micros {
        self.usb.sockets.get(busid).map_or(0, |socket| socket.hangs_until.saturating_sub(self.now))
    }

    pub(super) fn look_goes_on(&mut self, number: u64) {
        let Some(look) = self.agent.as_mut().and_then(|agent| agent.looks.remove(&number)) else {
            return;
        };
        let Look { scope, asked, seen } = look;
        let sight = match (&scope, seen) {
            (Scope::Usb, Seen::Nothing) => {
                let plugged = self.usb.sockets.keys().cloned().collect();
                Err(Seen::Usb(Sight::Usb(plugged, self.usb.usbback, self.setting.desk)))
            }
            (Scope::Device(busid), Seen::Nothing) => {
                let device = self.usb.sockets.get(busid).map(|socket| socket.read(&asked));
                Err(Seen::Device(Box::new(device)))
            }
            (Scope::Xen | Scope::Domains(_), Seen::Nothing) => {
                Err(Seen::Xen(self.store.part(), Vec::new(), false))
            }
            (scope, Seen::Xen(part, mut guests, half)) => {
                // Domains are read one beside the other; each is read at another moment.
                let wanted: Vec<_> = match scope {
                    Scope::Domains(domids) => domids.iter().copied().collect(),
                    Scope::Xen | Scope::Usb | Scope::Device(_) => {
                        part.domids.iter().copied().collect()
                    }
                };
                let now = wanted.iter().filter(|domid| (domid.get() % 2 == 1) == half);
                guests.extend(now.filter_map(|domid| self.store.guest(*domid)));
                if half {
                    Ok(self.xen_sight(scope, part, guests))
                } else {
                    Err(Seen::Xen(part, guests, true))
                }
            }
            (Scope::Device(busid), Seen::Device(device)) => {
                Ok(Sight::Device(busid.clone(), *device))
            }
            (_, Seen::Usb(sight)) => Ok(sight),
            (_, Seen::Device(_)) => return,
        };
        match sight {
            Err(seen) => {
                let delay = self.takes(100, 20_000);
                if let Some(agent) = self.agent.as_mut() {
                    agent.looks.insert(number, Look { scope, asked, seen });
                }
                self.soon(delay, Happening::Look(self.life, number));
            }
            Ok(sight) => {
                let whom = match &scope {
                    Scope::Device(busid) => Some(busid.clone()),
                    Scope::Usb | Scope::Xen | Scope::Domains(_) => None,
                };
                if self.strikes(Fault::Blind, whom.as_ref()) {
                    self.input(Input::LookFailed(scope, "no answer".into()));
                } else {
                    if let Sight::Device(_, Some(device)) = &sight {
                        self.device_read(device);
                    }
                    let tenancies = self.store.tenancies;
                    if let (Sight::Xen(_), Some(agent)) = (&sight, self.agent.as_mut()) {
                        agent.first_look.get_or_insert(tenancies);
                    }
                    self.input(Input::Saw(sight));
                }
            }
        }
    }

    fn xen_sight(&self, scope: &Scope, part: XenPart, guests: Vec<Guest>) -> Sight {
        let mut found: BTreeMap<_, _> =
            guests.into_iter().map(|guest| (guest.domid, guest)).collect();
        match scope {
            Scope::Domains(domids) => {
                let guests = domids.iter().map(|domid| (*domid, found.remove(domid))).collect();
                Sight::Domains(XenPart { guests, ..part })
            }
            Scope::Xen | Scope::Usb | Scope::Device(_) => {
                let mut view = self.store.view();
                // What counts as left over is asked last, against the numbers that were read first.
                view.leftovers.retain(|leftover| {
                    let domid = leftover.domid;
                    !part.domids.contains(&domid) && !self.ghosts.contains(&domid)
                });
                view.domids = part.domids;
                view.notes = part.notes;
                view.returns = part.returns;
                view.overrides = part.overrides;
                view.guests = found;
                Sight::Xen(view)
            }
        }
    }

    pub(super) fn finished(&mut self, ticket: Ticket, result: Result<(), StepError>) {
        self.input(Input::Finished(ticket, result));
    }

    pub(super) fn compare(&mut self, expectation: &Expectation) {
        let Expectation { device, place } = expectation;
        let there = self.whereabouts(device).map(|(name, _)| name);
        let words = |name: &Option<crate::model::GuestName>| match name {
            Some(name) => format!("in {name}"),
            None => "in dom0".to_owned(),
        };
        let verdict = if !self.usb.sockets.contains_key(device) {
            Err(format!("{device} should be {}, and is not plugged", words(place)))
        } else if there == *place {
            Ok(format!("{device} is {}", words(place)))
        } else {
            Err(format!("{device} should be {}, and is {}", words(place), words(&there)))
        };
        let at = self.time();
        self.told.push(Told::Expected(at, verdict));
    }

    /// How much the agent remembers, and how much there is to remember.
    pub fn sizes(&self) -> Option<usize> {
        self.agent.as_ref().map(|agent| agent.machine.size())
    }
}
