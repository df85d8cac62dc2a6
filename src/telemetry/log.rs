//! Events to lines. The matches are exhaustive: a new event must be thought about.

use crate::audit::{self, Anchor};
use crate::host::{usb, xenstore};
use crate::model::{
    Asker, BusId, ByHand, ControllerSpec, DomId, Leftover, Order, Place, Stage, Text, chain,
};
use crate::plan::standing::{Route, RouteBy};
use crate::plan::{AfterClear, Standing, Step};
use crate::policy::{GuestPattern, Problems, RuleName};
use crate::reconcile::Event;
use std::error::Error;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::time::Duration;
use tracing::{debug, error, info, warn};

/// Everything that the daemon can say.
#[derive(Debug)]
pub enum Notable<'a> {
    /// It has begun.
    Started {
        /// How many rules the policy has.
        rules: usize,
    },
    /// `PVUSB_AGENT_LOG` is none of the words that it can be.
    UnknownLevel(&'a OsStr),
    /// It has ended as it should.
    Ended {
        /// How many devices stay where it had attached them.
        attached: usize,
    },
    /// It has ended although something was still under way.
    EndedUnfinished,
    /// A new policy is in force.
    Reloaded {
        /// How many rules it has.
        rules: usize,
    },
    /// The policy is taken, but hardly says what was meant.
    Warned(&'a Problems),
    /// The new policy is bad; the old one stays in force.
    NotReloaded(&'a Problems),
    /// Somebody wants the policy to be read anew.
    ReloadAsked(&'a Asker),
    /// Somebody does something without the agent, and has it taken down.
    ByHand(&'a Asker, &'a ByHand),
    /// A rule for a device was written there: somebody wants it to be remembered.
    Remembered(&'a BusId, &'a Path, &'a Asker),
    /// The rule of a device was removed there: somebody has released it.
    Forgotten(&'a BusId, &'a Path, &'a Asker),
    /// The file of remembered rules could not be changed for a device.
    NotRemembered(&'a BusId, &'a (dyn Error + 'static)),
    /// There is no control socket, for this reason.
    NoControl(&'a (dyn Error + 'static)),
    /// This group lets nobody in: the system knows none of this name, or cannot be asked.
    NoGroup(&'a str, Option<&'a io::Error>),
    /// The audit log goes on after this entry.
    Audited(Anchor),
    /// The audit log cannot be written, or not in time.
    AuditLost(&'a audit::Standstill),
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
        Notable::UnknownLevel(word) => warn!(
            PVUSB_AGENT_LOG = Text::from(&*word.to_string_lossy()).as_str(),
            "how much to tell is error, warn, info, debug or trace: info is taken"
        ),
        Notable::Ended { attached } => info!(attached, "ended, what is attached stays attached"),
        Notable::EndedUnfinished => warn!("ended although steps were still under way"),
        Notable::Reloaded { rules } => info!(rules, "policy reloaded"),
        Notable::NotReloaded(problems) => {
            for problem in *problems {
                error!(
                    code = problem.code().number(),
                    place = %place(problem),
                    problem = Text::from(problem.message()).as_str(),
                    "policy not reloaded, the old one stays in force"
                );
            }
        }
        Notable::Warned(warnings) => {
            for warning in *warnings {
                warn!(
                    code = warning.code().number(),
                    place = %place(warning),
                    problem = Text::from(warning.message()).as_str(),
                    "the policy hardly says what was meant"
                );
            }
        }
        Notable::ReloadAsked(who) => info!(who = who.to_string(), "reload asked for"),
        Notable::ByHand(who, what) => log_by_hand(who, what),
        Notable::Remembered(device, file, who) => {
            let (file, who) = (Text::from(&*file.to_string_lossy()), who.to_string());
            info!(%device, file = file.as_str(), who, "remembered");
        }
        Notable::Forgotten(device, file, who) => {
            let (file, who) = (Text::from(&*file.to_string_lossy()), who.to_string());
            info!(%device, file = file.as_str(), who, "forgotten");
        }
        Notable::NotRemembered(device, error) => {
            error!(%device, cause = chain(*error), "cannot change the remembered rules");
        }
        Notable::NoControl(error) => {
            error!(cause = chain(*error), "no control socket, going on without it");
        }
        Notable::NoGroup(group, error) => {
            let group = Text::from(*group);
            let cause = error.map_or_else(|| "no such group".to_owned(), ToString::to_string);
            error!(group = group.as_str(), cause, "this group lets nobody in");
        }
        Notable::Audited(anchor) => info!(after = %anchor, "audit log goes on"),
        Notable::AuditLost(error) => {
            error!(cause = chain(*error), "audit log cannot be written, going on without it");
        }
        Notable::XenstoreBack => info!("connected to xenstore"),
        Notable::XenstoreLost(error) => {
            warn!(cause = chain(*error), "no connection to xenstore, trying again");
        }
        Notable::MonitorLost(error) => {
            error!(cause = chain(*error), "cannot listen to udev");
        }
        Notable::NotNotified(error) => {
            warn!(cause = chain(*error), "cannot notify systemd");
        }
        Notable::Event(event) => log_event(event),
    }
}

fn log_event(event: &Event) {
    match event {
        Event::Plugged(device) => {
            let (busid, address, id) = (&device.busid, &device.address, &device.id);
            let name = device.called();
            info!(device = %busid, %address, %id, name, "plugged");
        }
        Event::Unplugged(device) => info!(%device, "unplugged"),
        Event::DomainAppeared(domid, domain) => {
            info!(domain = domain.to_string(), %domid, "domain appeared");
        }
        Event::DomainGone(domid, domain) => {
            info!(domain = domain.to_string(), %domid, "domain gone");
        }
        Event::Unreadable(device, cause) => {
            warn!(%device, cause = &**cause, "device cannot be read");
        }
        Event::Standing(device, standing) => log_standing(device, standing),
        Event::Performed(step, because) => log_performed(step, because.as_deref()),
        Event::Failed { step, cause, pause } => log_failed(step, cause, *pause),
        Event::Overtaken { step, cause } => {
            let (device, cause) = (subject(step), &**cause);
            debug!(%device, step = step.name(), cause, "overtaken, looking again");
        }
        Event::Ordered { request: _, who, busid, order, waived } => {
            let (device, who) = (busid, who.to_string());
            match (order, waived) {
                (Some(order), Some(refusal)) => {
                    let (order, waived) = (order.to_string(), refusal.to_string());
                    warn!(%device, order, waived, who, "ordered with force");
                }
                (Some(order), None) => {
                    let order = order.to_string();
                    info!(%device, order, who, "ordered");
                }
                (None, _) => info!(%device, who, "released"),
            }
        }
        Event::Declined { who, device, wanted, force, cause } => {
            let (who, cause) = (who.to_string(), &**cause);
            let order = wanted.to_string();
            warn!(%device, order, force, cause, who, "order declined");
        }
        Event::TurnOver { busid, target, patience, rule } => {
            let (domain, rule) = (target.to_string(), rule.label());
            info!(
                device = %busid, domain, rule, wait = ?patience,
                "passed over: the domain has not taken the device in the time that it has"
            );
        }
        Event::Refused(device, refusal) => {
            warn!(%device, cause = refusal.to_string(), "refused");
        }
    }
}

fn log_by_hand(who: &Asker, ByHand { act, stage }: &ByHand) {
    let (act, who) = (Text::from(&**act), who.to_string());
    let act = act.as_str();
    match stage {
        Stage::Begun => info!(act, who, "begun by hand"),
        Stage::Done => info!(act, who, "done by hand"),
        Stage::Failed(cause) => {
            warn!(act, cause = Text::from(&**cause).as_str(), who, "not done by hand");
        }
    }
}

fn log_standing(device: &BusId, standing: &Standing) {
    match standing {
        Standing::Hub => debug!(%device, "stays in dom0: it is a hub"),
        Standing::NoRule => info!(%device, "stays in dom0: no rule matches"),
        Standing::Kept { rule } => {
            info!(%device, rule = rule.label(), "stays in dom0: a rule keeps it");
        }
        Standing::Blocked { rule } => {
            info!(%device, rule = rule.label(), "nobody gets it: a rule blocks it");
        }
        Standing::NotBlocked { rule, refusal } => {
            let (cause, advice) = (refusal.to_string(), refusal.advice());
            warn!(
                %device, rule = rule.label(), cause, advice,
                "stays in dom0 and is not blocked: it is protected"
            );
        }
        Standing::Ordered(Order::Attach(domain)) => {
            let domain = domain.to_string();
            info!(%device, domain, "stays in dom0: its domain, by an order, does not run");
        }
        Standing::Ordered(Order::Stay) => {
            info!(%device, "stays in dom0 until it is replugged: by an order");
        }
        Standing::Ordered(Order::Hold) => {
            info!(%device, "stays in dom0 until it is released: by an order");
        }
        Standing::NoDomainRuns { rule, targets } => {
            let targets: Vec<_> = targets.iter().map(ToString::to_string).collect();
            let (domains, rule) = (targets.join(", "), rule.label());
            info!(%device, domains, rule, "stays in dom0: none of its domains runs");
        }
        Standing::Awaiting { rule, target, patience } => {
            log_awaiting(device, rule, target, *patience);
        }
        Standing::HeldDown { route, plugs, pause } => {
            let Words { domain, domid, rule } = Words::of(route);
            warn!(
                %device, domain, %domid, rule, plugs, pause = ?pause,
                "held down: plugged too often, attached when it has stayed plugged for the pause"
            );
        }
        Standing::StaleOfOthers(Place { domid, controller, port }) => warn!(
            %device, %domid, %controller, %port,
            "left alone: nothing is plugged there, and a port that somebody else wrote names it; \
             until it is emptied, every xl usbdev-attach on this host fails"
        ),
        Standing::Building(route) => {
            let Words { domain, domid, rule } = Words::of(route);
            info!(%device, domain, %domid, rule, "waits: the domain is being built");
        }
        Standing::Attached { route, place: Place { controller, port, .. } } => {
            let Words { domain, domid, .. } = Words::of(route);
            let because = route.by.to_string();
            info!(%device, domain, %domid, %controller, %port, because, "attached");
        }
        Standing::AttachedByOthers(Place { domid, controller, port }) => {
            info!(%device, %domid, %controller, %port, "left alone: attached by somebody else");
        }
        Standing::TakenOutByHand(Place { domid, controller, port }) => info!(
            %device, %domid, %controller, %port,
            "left alone: taken out by somebody else, until it is replugged"
        ),
        Standing::Protected { route, refusal } => {
            let Words { domain, domid, rule } = Words::of(route);
            let (cause, advice) = (refusal.to_string(), refusal.advice());
            info!(
                %device, domain, %domid, rule, cause, advice,
                "stays in dom0: it is protected"
            );
        }
        Standing::Stuck { route, problem } => {
            let Words { domain, domid, rule } = Words::of(route);
            let (cause, advice) = (problem.to_string(), problem.advice());
            warn!(%device, domain, %domid, rule, cause, advice, "cannot be attached");
        }
        Standing::NotReturned(problem) => {
            let (cause, advice) = (problem.to_string(), problem.advice());
            warn!(%device, cause, advice, "not back in dom0");
        }
        Standing::Hanging(problem) => {
            let (cause, advice) = (problem.to_string(), problem.advice());
            warn!(%device, cause, advice, "hangs");
        }
        Standing::WaitingForController { route, controller } => {
            let Words { domain, domid, .. } = Words::of(route);
            debug!(%device, domain, %domid, %controller, "waits for a controller to connect");
        }
        Standing::Leaving(route) | Standing::Attaching(route) | Standing::WaitingForPort(route) => {
            let Words { domain, domid, .. } = Words::of(route);
            debug!(%device, domain, %domid, state = standing.name(), "on its way");
        }
        Standing::WayKept { rule, time } => log_way_kept(device, rule, *time),
        Standing::NotReady
        | Standing::Settling
        | Standing::Detaching { .. }
        | Standing::Returning
        | Standing::DomainEnding(_)
        | Standing::Unplugged => debug!(%device, state = standing.name(), "on its way"),
    }
}

fn log_way_kept(device: &BusId, rule: &RuleName, keep: Duration) {
    let rule = rule.label();
    info!(%device, rule, ?keep, "its way is kept for a while");
}

fn log_awaiting(device: &BusId, rule: &RuleName, target: &GuestPattern, wait: Duration) {
    let (domain, rule) = (target.to_string(), rule.label());
    info!(
        %device, domain, rule, ?wait,
        "stays in dom0 for now: a domain of its list does not run and has a while to start"
    );
}

fn log_performed(step: &Step, because: Option<&str>) {
    match step {
        Step::CreateController { claim, spec, .. } => {
            let Place { domid, controller, .. } = claim.place;
            let ControllerSpec { kind, version, ports } = spec;
            info!(%domid, %controller, r#type = %kind, %version, %ports, "controller created");
        }
        Step::ClearPort { place: Place { domid, controller, port }, busid, after, .. } => {
            let device = busid;
            match after {
                AfterClear::Gone | AfterClear::Replaced(_) => {
                    info!(%device, %domid, %controller, %port, "port cleared");
                }
                AfterClear::Returning(_) => {
                    let because = because.unwrap_or_default();
                    info!(%device, %domid, %controller, %port, because, "detached");
                }
            }
        }
        Step::RemoveController { domid, controller, .. } => {
            info!(%domid, %controller, "controller removed: nothing serves it");
        }
        Step::RemoveLeftover(Leftover { domid, controller, .. }) => {
            info!(%domid, %controller, "removed what a domain that is gone had left");
        }
        Step::ReturnDrivers { busid, .. } => info!(device = %busid, "dom0's drivers called back"),
        Step::Authorize { busid, .. } => info!(device = %busid, "let out of quarantine"),
        Step::Deauthorize { busid, note: Some(_), .. } => {
            info!(device = %busid, "taken from its drivers");
        }
        Step::Deauthorize { busid, note: None, .. } => {
            info!(device = %busid, "put back into quarantine");
        }
        Step::Claim(_)
        | Step::TakeInterfaces { .. }
        | Step::ReleaseInterfaces { .. }
        | Step::Forget { .. }
        | Step::DropTrail { .. }
        | Step::NoteOrder { .. } => debug!(device = %subject(step), step = step.name(), "done"),
    }
}

fn log_failed(step: &Step, cause: &str, pause: Option<Duration>) {
    let (device, step, cause) = (subject(step), step.name(), cause);
    match pause {
        Some(pause) => warn!(%device, step, cause, again_in = ?pause, "step failed"),
        None => {
            error!(%device, step, cause, "step failed, not tried again until something changes");
        }
    }
}

/// Where a device is to go, in the words of the log.
struct Words<'a> {
    domain: String,
    domid: &'a DomId,
    rule: String,
}

impl<'a> Words<'a> {
    fn of(route: &'a Route) -> Self {
        Self {
            domain: route.guest.to_string(),
            domid: &route.domid,
            rule: match &route.by {
                RouteBy::Rule(rule) | RouteBy::Trail(rule) => rule.label().to_owned(),
                RouteBy::Order => route.by.to_string(),
            },
        }
    }
}

/// The device that a step is about; `-` for none.
fn subject(step: &Step) -> String {
    step.device().map_or_else(|| "-".to_owned(), ToString::to_string)
}

fn place(problem: &crate::policy::Problem) -> String {
    let file = Text::from(problem.file());
    match problem.start() {
        Some(start) => format!("{file}:{}:{}", start.line, start.column),
        None => file.to_string(),
    }
}
