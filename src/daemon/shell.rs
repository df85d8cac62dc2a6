//! Between the reconciler and the host: inputs in, outputs performed.

use super::clock::now;
use super::events::{Arrival, Arrivals};
use super::manager::Manager;
use super::watching::Watches;
use crate::host::look::XenReader;
use crate::host::perform::Performer;
use crate::host::usb::UsbReader;
use crate::policy_file;
use crate::reconcile::{Input, Output, Reconciler, Scope, Sight};
use crate::telemetry::{self, Notable};
use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;
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
    pub(super) policy: PathBuf,
    pub(super) detach_on_exit: bool,
    pub(super) manager: Manager,
}

/// Looks and steps on their way; each ends in an input.
type Errands = JoinSet<Input>;

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
            let deadline = self.machine.deadline().map(|(when, _)| when).into_iter();
            let deadline = deadline.chain(give_up).chain(self.manager.deadline());
            let inputs = tokio::select! {
                // Each branch gives up nothing when another is first: the arrivals keep what they
                // have, and a finished errand stays in its set.
                arrival = arrivals.next() => self.arrived(arrival, &mut errands, &mut give_up),
                Some(done) = errands.join_next() => vec![ended(done)],
                () = until(deadline.min()) => vec![Input::Timeout],
            };
            for input in inputs {
                if self.handle(input, &mut errands) {
                    telemetry::log(&Notable::Ended { attached: self.attached() });
                    return;
                }
            }
            if give_up.is_some_and(|when| when <= now()) {
                telemetry::log(&Notable::EndedUnfinished);
                return;
            }
        }
    }

    /// Says in a line what the agent has done.
    fn tell_status(&mut self) {
        let (rules, attached) = (self.machine.policy().rules().len(), self.attached());
        self.manager.status(format!("rules: {rules}, devices attached by them: {attached}"));
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
                    errands.spawn_local(async move {
                        Input::Finished(ticket, performer.perform(&step).await)
                    });
                }
                Output::Report(event) => telemetry::log(&Notable::Event(event)),
                Output::Left => left = true,
            }
        }
        left
    }

    /// Looks where the machine says, without holding up the loop: reading a device blocks as long
    /// as the kernel is busy with it.
    fn look(&self, scope: Scope, errands: &mut Errands) {
        let usb = UsbReader::new();
        match scope {
            Scope::Usb => drop(errands.spawn_blocking(move || match usb.plugged() {
                Ok(plugged) => Input::Saw(Sight::Usb(plugged, usb.usbback_loaded())),
                Err(error) => Input::LookFailed(Scope::Usb, error.into()),
            })),
            Scope::Device(busid) => {
                drop(errands.spawn_blocking(move || match usb.device(&busid) {
                    Ok(device) => Input::Saw(Sight::Device(busid, device)),
                    Err(error) => Input::LookFailed(Scope::Device(busid), error.into()),
                }));
            }
            Scope::Xen => {
                let xen = self.xen.clone();
                errands.spawn_local(async move {
                    match xen.view().await {
                        Ok(view) => Input::Saw(Sight::Xen(view)),
                        Err(error) => Input::LookFailed(Scope::Xen, error.into()),
                    }
                });
            }
            Scope::Domains(domids) => {
                let xen = self.xen.clone();
                errands.spawn_local(async move {
                    match xen.part(&domids).await {
                        Ok(part) => Input::Saw(Sight::Domains(part)),
                        Err(error) => Input::LookFailed(Scope::Domains(domids), error.into()),
                    }
                });
            }
        }
    }

    /// What an arrival means for the machine.
    fn arrived(
        &self,
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
                    match performer.prepare().await {
                        Ok(()) => {
                            telemetry::log(&Notable::XenstoreBack);
                            Input::XenstoreBack
                        }
                        // Lost again at once; the next arrival says so.
                        Err(error) => {
                            telemetry::log(&Notable::XenstoreLost(&error));
                            Input::XenstoreLost
                        }
                    }
                });
                Vec::new()
            }
            Arrival::XenstoreLost(error) => {
                telemetry::log(&Notable::XenstoreLost(&error));
                vec![Input::XenstoreLost]
            }
            Arrival::Reload => {
                Manager::reloading();
                let inputs = self.reload();
                Manager::ready();
                inputs
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
    fn reload(&self) -> Vec<Input> {
        match policy_file::load(&self.policy) {
            Ok(policy) => {
                telemetry::log(&Notable::Reloaded { rules: policy.rules().len() });
                vec![Input::Policy(Arc::new(policy))]
            }
            Err(problems) => {
                telemetry::log(&Notable::NotReloaded(&problems));
                Vec::new()
            }
        }
    }
}

/// The input that an errand ended in. A panic in it is a bug, and goes on here: the service manager
/// starts a new agent, which puts everything right.
fn ended(errand: Result<Input, JoinError>) -> Input {
    match errand.map_err(JoinError::try_into_panic) {
        Ok(input) => input,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        // Nothing cancels errands.
        Err(Err(_)) => Input::Timeout,
    }
}

async fn until(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when.into()).await,
        None => pending().await,
    }
}
