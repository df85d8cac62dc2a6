//! Events to lines. The matches are exhaustive: a new event must be thought about.

use crate::host::{usb, xenstore};
use crate::model::{Device, Leftover, Text};
use crate::plan::{AfterClear, Problem, Standing, Step};
use crate::policy::Problems;
use crate::reconcile::Event;
use std::error::Error;
use std::io;
use tracing::{debug, error, info, warn};

/// Everything that the daemon can say.
#[derive(Debug)]
pub enum Notable<'a> {
    /// It has begun.
    Started {
        /// How many rules the policy has.
        rules: usize,
    },
    /// It has ended as it should.
    Ended,
    /// It has ended although something was still under way.
    EndedUnfinished,
    /// A new policy is in force.
    Reloaded {
        /// How many rules it has.
        rules: usize,
    },
    /// The new policy is bad; the old one stays in force.
    NotReloaded(&'a Problems),
    /// xenstore is there.
    XenstoreBack,
    /// xenstore is not there.
    XenstoreLost(&'a xenstore::Error),
    /// udev cannot be listened to.
    MonitorLost(&'a usb::Error),
    /// systemd could not be told.
    NotNotified(&'a io::Error),
    /// The reconciler has something to say.
    Event(Event),
}

/// Writes it down.
pub fn log(notable: &Notable<'_>) {
    match notable {
        Notable::Started { rules } => info!(rules, "started"),
        Notable::Ended => info!("ended"),
        Notable::EndedUnfinished => warn!("ended although steps were still under way"),
        Notable::Reloaded { rules } => info!(rules, "policy reloaded"),
        Notable::NotReloaded(problems) => {
            for problem in *problems {
                error!(
                    code = problem.code().number(),
                    place = %place(problem),
                    problem = %Text::from(problem.message()),
                    "policy not reloaded, the old one stays in force"
                );
            }
        }
        Notable::XenstoreBack => info!("connected to xenstore"),
        Notable::XenstoreLost(error) => {
            warn!(cause = %chain(*error), "no connection to xenstore, trying again");
        }
        Notable::MonitorLost(error) => error!(cause = %chain(*error), "cannot listen to udev"),
        Notable::NotNotified(error) => warn!(cause = %chain(*error), "cannot notify systemd"),
        Notable::Event(event) => log_event(event),
    }
}

fn log_event(event: &Event) {
    match event {
        Event::Plugged(device) => info!(
            device = %device.busid,
            address = %device.address,
            id = %device.id,
            name = %name(device),
            "plugged"
        ),
        Event::Unplugged(device) => info!(%device, "unplugged"),
        Event::DomainAppeared(domid, domain) => info!(%domain, %domid, "domain appeared"),
        Event::DomainGone(domid, domain) => info!(%domain, %domid, "domain gone"),
        Event::Unreadable(device, cause) => warn!(%device, %cause, "device cannot be read"),
        Event::Standing(device, standing) => log_standing(device, standing),
        Event::Performed(step) => log_performed(step),
        Event::Failed { step, cause, pause: Some(pause) } => {
            let device = step.device().map(ToString::to_string).unwrap_or_default();
            warn!(device, step = step.name(), %cause, again_in = ?pause, "step failed");
        }
        Event::Failed { step, cause, pause: None } => {
            let device = step.device().map(ToString::to_string).unwrap_or_default();
            error!(device, step = step.name(), %cause, "step failed, not tried again");
        }
        Event::Overtaken { step, cause } => {
            let device = step.device().map(ToString::to_string).unwrap_or_default();
            debug!(device, step = step.name(), %cause, "overtaken, looking again");
        }
        Event::Refused(device, refusal) => warn!(%device, %refusal, "refused"),
    }
}

fn log_standing(device: &crate::model::BusId, standing: &Standing) {
    match standing {
        Standing::Hub => debug!(%device, "stays in dom0: it is a hub"),
        Standing::NoRule => info!(%device, "stays in dom0: no rule matches"),
        Standing::Kept { rule } => info!(%device, %rule, "stays in dom0: a rule keeps it"),
        Standing::NoDomainRuns { rule, targets } => {
            let targets: Vec<_> = targets.iter().map(ToString::to_string).collect();
            info!(%device, %rule, domains = targets.join(", "), "stays in dom0: no domain runs");
        }
        Standing::Leaving(route) => debug!(%device, domain = %route, "stays in dom0: ending"),
        Standing::Building(route) => {
            info!(%device, domain = %route, rule = %route.rule, "waits: the domain is being built");
        }
        Standing::Attached { route, place } => info!(
            %device,
            domain = %route,
            controller = %place.controller,
            port = %place.port,
            rule = %route.rule,
            "attached"
        ),
        Standing::AttachedByOthers(place) => {
            info!(%device, %place, "left alone: attached by somebody else");
        }
        Standing::TakenOutByHand(place) => {
            info!(%device, %place, "left alone: taken out by somebody else until it is replugged");
        }
        Standing::Stuck { route, problem } => warn!(
            %device,
            domain = %route,
            rule = %route.rule,
            %problem,
            advice = problem.advice(),
            "cannot be attached"
        ),
        Standing::NotReturned(problem) => log_not_returned(device, problem),
        Standing::WaitingForController { route, controller } => {
            debug!(%device, domain = %route, %controller, "waits for a controller to connect");
        }
        Standing::WaitingForPort(route) => {
            debug!(%device, domain = %route, "waits for a port to rest");
        }
        Standing::NotReady
        | Standing::Settling
        | Standing::Attaching(_)
        | Standing::Detaching { .. }
        | Standing::Returning
        | Standing::Unplugged => debug!(%device, ?standing, "on its way"),
    }
}

fn log_not_returned(device: &crate::model::BusId, problem: &Problem) {
    warn!(%device, %problem, advice = problem.advice(), "not back in dom0");
}

fn log_performed(step: &Step) {
    match step {
        Step::CreateController { claim, spec, .. } => info!(
            domid = %claim.place.domid,
            controller = %claim.place.controller,
            r#type = %spec.kind,
            version = %spec.version,
            ports = %spec.ports,
            "controller created"
        ),
        Step::ClearPort { place, busid, after, .. } => match after {
            AfterClear::Gone => info!(device = %busid, %place, "port cleared"),
            AfterClear::Returning(_) => info!(device = %busid, %place, "detached"),
        },
        Step::RemoveController { domid, controller, .. } => {
            info!(%domid, %controller, "controller removed: nothing serves it");
        }
        Step::RemoveLeftover(Leftover::Backend { domid, controller, .. }) => {
            info!(%domid, %controller, "removed what a domain that is gone had left");
        }
        Step::ReturnDrivers { busid, .. } => info!(device = %busid, "dom0's drivers called back"),
        Step::RemoveLeftover(Leftover::ControllerNotes(_))
        | Step::Claim(_)
        | Step::TakeInterfaces { .. }
        | Step::ReleaseInterfaces { .. }
        | Step::Forget { .. } => {
            let device = step.device().map(ToString::to_string).unwrap_or_default();
            debug!(device, step = step.name(), "done");
        }
    }
}

/// What a person calls the device.
fn name(device: &Device) -> String {
    let parts = [&device.manufacturer, &device.product];
    parts.into_iter().flatten().map(Text::as_str).collect::<Vec<_>>().join(" ")
}

fn place(problem: &crate::policy::Problem) -> String {
    let file = Text::from(problem.file());
    match problem.start() {
        Some(start) => format!("{file}:{}:{}", start.line, start.column),
        None => file.to_string(),
    }
}

/// An error with everything behind it.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
