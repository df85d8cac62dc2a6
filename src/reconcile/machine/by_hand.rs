//! What people ask for: who is meant, the step that notes it, and the answer.

use super::super::asks::Stage;
use super::super::doors::{Answer, Asked, Output, RequestId, Ticket};
use super::super::event::Event;
use super::super::job::{Job, Subject};
use super::super::lookout::Looks;
use super::Reconciler;
use crate::model::BusId;
use crate::plan::{Objection, Planned, Standing, Step, StepError, Wanted, interlock, orders};
use std::sync::Arc;

impl Reconciler {
    pub(super) fn ask(&mut self, id: RequestId, asked: Asked) {
        self.asks.add(id, asked);
        if self.leaving.is_some() {
            self.decline(id, Objection::Leaving);
        } else if !self.connected {
            self.decline(id, Objection::XenstoreLost);
        }
    }

    /// The agent is ending. What is on its way ends by itself.
    pub(super) fn decline_all(&mut self) {
        for id in self.asks.ids(|stage| !matches!(stage, Stage::Noting(..))) {
            self.decline(id, Objection::Leaving);
        }
    }

    /// What is noted goes on when the connection is back, and what is on its way ends by itself.
    pub(super) fn lose_xenstore(&mut self) {
        self.connected = false;
        for id in self.asks.ids(|stage| matches!(stage, Stage::Fresh(_) | Stage::Aimed(_))) {
            self.decline(id, Objection::XenstoreLost);
        }
    }

    /// Finds out which devices are meant.
    pub(super) fn aim_asks(&mut self) {
        let departing = self.departing();
        for id in self.asks.ids(|stage| matches!(stage, Stage::Fresh(_))) {
            let Some(ask) = self.asks.get(id) else { continue };
            match (orders::plan(&ask.asked.request, &self.scene(&departing)), &ask.stage) {
                (Ok(Planned { busid, .. }), _) => {
                    if let Some(job) = self.jobs.get_mut(&Subject::Device(busid.clone())) {
                        job.pardon();
                    }
                    self.asks.aim(id, busid);
                }
                // It may have been plugged a moment ago.
                (Err(Objection::NotPlugged(_)), Stage::Fresh(None)) => {
                    let turn = self.usb.stir();
                    self.asks.set(id, Stage::Fresh(Some(turn)));
                }
                (Err(Objection::NotPlugged(_)), Stage::Fresh(Some(turn)))
                    if !self.usb.has_seen(*turn) || !self.devices.values().all(Looks::is_idle) => {}
                (Err(objection), _) => self.decline(id, objection),
            }
        }
    }

    /// Begins to note what was asked for the device, if anything was. Tells whether it has.
    pub(super) fn note_next_order(&mut self, busid: &BusId, job: &mut Job) -> bool {
        let departing = self.departing();
        while let Some((id, request, called)) = self.asks.aimed_at(busid) {
            // Another may have been plugged there since it was found.
            let device = self.observed.devices.get(busid);
            let is_another = device.is_some_and(|device| !called.is_of(device));
            if is_another && request.wanted != Wanted::Release {
                self.decline(id, Objection::Unplugged(busid.clone()));
                continue;
            }
            let scene = self.scene(&departing);
            let Planned { step, waived, .. } = match orders::plan(request, &scene) {
                Ok(planned) => planned,
                Err(objection) => {
                    self.decline(id, objection);
                    continue;
                }
            };
            let cleared = step.map(|step| interlock::clear(step, &scene)).transpose();
            match cleared {
                Err(refusal) => {
                    self.decline(id, Objection::Refused(busid.clone(), refusal));
                }
                Ok(None) => self.asks.set(id, Stage::Noted(busid.clone())),
                Ok(Some(cleared)) => {
                    self.asks.waive(id, waived);
                    let ticket = self.ticket();
                    job.flight = Some((ticket, Arc::new(cleared.step().clone())));
                    // xenstore has deadlines of its own.
                    job.begun = None;
                    self.asks.set(id, Stage::Noting(busid.clone(), ticket));
                    self.outbox.push_back(Output::Run(ticket, cleared));
                    return true;
                }
            }
        }
        false
    }

    pub(super) fn noting(&self, ticket: Ticket) -> Option<RequestId> {
        let is = |stage: &Stage| matches!(stage, Stage::Noting(_, noting) if *noting == ticket);
        self.asks.ids(is).first().copied()
    }

    /// The step that was to note an order has ended.
    pub(super) fn noted(
        &mut self,
        id: RequestId,
        subject: &Subject,
        step: &Step,
        result: Result<(), StepError>,
    ) {
        let Step::NoteOrder { busid, said, .. } = step else { return };
        match result {
            Ok(()) => {
                self.supersede(busid);
                let Some(ask) = self.asks.get(id) else { return };
                let (who, wait) = (ask.asked.who.clone(), ask.asked.wait);
                let waived = ask.waived.clone();
                let order = said.as_ref().map(|said| said.order.clone());
                let (request, busid) = (id, busid.clone());
                self.asks.set(id, Stage::Noted(busid.clone()));
                self.report(Event::Ordered { request, who, busid: busid.clone(), order, waived });
                if !wait {
                    self.answer(id, busid, None);
                }
                if let Some(job) = self.jobs.get_mut(subject) {
                    job.pardon();
                    job.succeeded(step);
                }
            }
            Err(StepError::Stale(_)) => self.asks.set(id, Stage::Aimed(busid.clone())),
            Err(StepError::Transient(_) | StepError::Permanent(_)) if !self.connected => {
                self.decline(id, Objection::Unknown);
            }
            Err(StepError::Transient(cause) | StepError::Permanent(cause)) => {
                self.decline(id, Objection::Failed(cause));
            }
        }
    }

    /// Whoever waits for what became of an earlier order about the device waits in vain.
    fn supersede(&mut self, busid: &BusId) {
        for id in self.asks.ids(|stage| *stage == Stage::Noted(busid.clone())) {
            self.decline(id, Objection::Superseded(busid.clone()));
        }
    }

    /// Answers those who wait for a device that stands still.
    pub(super) fn answer_for(&mut self, busid: &BusId, job: &Job) {
        let Some(standing) = job.said.as_ref().filter(|standing| !standing.is_passing()) else {
            return;
        };
        for id in self.asks.ids(|stage| *stage == Stage::Noted(busid.clone())) {
            self.answer(id, busid.clone(), Some(standing.clone()));
        }
    }

    /// Answers those who wait for a device that is not plugged. There may be nothing to decide about
    /// it any more, so its turn may never come.
    pub(super) fn answer_for_gone(&mut self) {
        for id in self.asks.ids(|stage| matches!(stage, Stage::Aimed(_) | Stage::Noted(_))) {
            let Some(ask) = self.asks.get(id) else { continue };
            let (Stage::Aimed(busid) | Stage::Noted(busid)) = ask.stage.clone() else { continue };
            let is_there = self.observed.devices.contains_key(&busid);
            if is_there || self.unread.contains(&busid) {
                continue;
            }
            let is_noted = matches!(ask.stage, Stage::Noted(_));
            match ask.asked.request.wanted {
                Wanted::Release
                    if is_noted || !self.observed.xen.overrides.contains_key(&busid) =>
                {
                    self.answer(id, busid, None);
                }
                Wanted::Release => {}
                Wanted::Attach(_) | Wanted::Detach | Wanted::Hold => {
                    self.decline(id, Objection::Unplugged(busid));
                }
            }
        }
    }

    fn answer(&mut self, id: RequestId, busid: BusId, standing: Option<Standing>) {
        if let Some(ask) = self.asks.take(id) {
            let answer = Answer { busid, standing, waived: ask.waived };
            self.outbox.push_back(Output::Answer(id, Ok(answer)));
        }
    }

    fn decline(&mut self, id: RequestId, objection: Objection) {
        let Some(ask) = self.asks.take(id) else { return };
        let request = ask.asked.request;
        self.report(Event::Declined {
            who: ask.asked.who,
            device: request.device,
            wanted: request.wanted,
            force: request.force,
            cause: objection.to_string().into(),
        });
        self.outbox.push_back(Output::Answer(id, Err(objection)));
    }
}
