//! How it stands with a device: the answer to "why is it where it is?".

use super::interlock::Refusal;
use crate::model::{
    ControllerId, ControllerKind, DomId, GuestName, InterfaceName, Order, Place, PortNumber,
    UsbVersion,
};
use crate::policy::{GuestPattern, RuleName};
use std::fmt;
use std::time::Duration;

/// How it stands with a device. Values carry all that a person needs to understand it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// udev or the kernel has not finished with it.
    NotReady,
    /// It is ready; the settling time runs.
    Settling,
    /// It stays in dom0: it is a hub.
    Hub,
    /// It stays in dom0: no rule matches.
    NoRule,
    /// It stays in dom0: a rule says so.
    Kept {
        /// The rule.
        rule: RuleName,
    },
    /// Nobody has it, dom0 neither: a rule says so.
    Blocked {
        /// The rule.
        rule: RuleName,
    },
    /// A rule wants nobody to have it, and dom0 needs it: it keeps its drivers.
    NotBlocked {
        /// The rule.
        rule: RuleName,
        /// What it is needed for.
        refusal: Refusal,
    },
    /// It stays in dom0: a person said so, or gave it to a domain that does not run.
    Ordered(Order),
    /// It stays in dom0 until it has been plugged for a while: it was plugged too often.
    HeldDown {
        /// Where it is to go.
        route: Route,
        /// How often it was plugged within the time that the policy counts.
        plugs: u32,
        /// How long it must stay plugged.
        pause: Duration,
    },
    /// It stays in dom0 until one of its domains runs.
    NoDomainRuns {
        /// The rule.
        rule: RuleName,
        /// The domains it wants.
        targets: Vec<GuestPattern>,
    },
    /// It stays in dom0 for now: a domain of its rule's list does not run, and has a while to start before
    /// the next one is tried.
    Awaiting {
        /// The rule.
        rule: RuleName,
        /// The domain.
        target: GuestPattern,
        /// How long it has.
        patience: Duration,
    },
    /// It stays in dom0: the agent is ending.
    Leaving(Route),
    /// Its domain is still being built.
    Building(Route),
    /// It waits for a controller to connect.
    WaitingForController {
        /// Where it is to go.
        route: Route,
        /// The controller.
        controller: ControllerId,
    },
    /// It waits until a port has rested: QEMU must see it empty before it can be used again.
    WaitingForPort(Route),
    /// It is on its way into a domain.
    Attaching(Route),
    /// The agent has put it into a domain, and it is connected.
    Attached {
        /// Where it was to go.
        route: Route,
        /// Where it is.
        place: Place,
    },
    /// It is on its way back to dom0.
    Detaching {
        /// Where it was.
        place: Place,
        /// Why it is taken out, as people are told.
        because: Box<str>,
    },
    /// Its port is empty; dom0's drivers are to have it back.
    Returning,
    /// Somebody else attached it; it is left alone.
    AttachedByOthers(Place),
    /// Nothing is plugged there, and somebody else's port names it. The policy leaves such ports.
    StaleOfOthers(Place),
    /// It was taken out of its port, as it seems because its domain is being destroyed: libxl drops
    /// the device model first (`libxl_domain.c: libxl__destroy_domid`).
    DomainEnding(Place),
    /// Somebody took it out of the port where the agent had put it; it is left alone until it is
    /// plugged again or its domain ends.
    TakenOutByHand(Place),
    /// It stays in dom0, whatever its rule says: dom0 needs it.
    Protected {
        /// Where it would go.
        route: Route,
        /// What it is needed for.
        refusal: Refusal,
    },
    /// It cannot go where it should.
    Stuck {
        /// Where it should go.
        route: Route,
        /// What is in the way.
        problem: Problem,
    },
    /// Its port is empty, but something keeps it from dom0.
    NotReturned(Problem),
    /// A step on its way does not end. Nothing else happens to the device until it does.
    Hanging(Problem),
    /// Nothing is plugged there, and what comes there within this time goes where the device before it was.
    WayKept {
        /// The rule that says so.
        rule: RuleName,
        /// How long.
        time: Duration,
    },
    /// A device that was unplugged while it was attached: its port is being cleared.
    Unplugged,
}

impl Standing {
    /// A word for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotReady => "not ready",
            Self::Settling => "settling",
            Self::Hub => "hub",
            Self::NoRule => "no rule",
            Self::Kept { .. } => "kept",
            Self::Blocked { .. } => "blocked",
            Self::NotBlocked { .. } => "not blocked",
            Self::Ordered(_) => "ordered",
            Self::HeldDown { .. } => "held down",
            Self::NoDomainRuns { .. } => "no domain runs",
            Self::Awaiting { .. } => "awaiting domain",
            Self::Leaving(_) => "leaving",
            Self::Building(_) => "domain is built",
            Self::WaitingForController { .. } => "waiting for controller",
            Self::WaitingForPort(_) => "waiting for port",
            Self::Attaching(_) => "attaching",
            Self::Attached { .. } => "attached",
            Self::Detaching { .. } => "detaching",
            Self::Returning => "returning",
            Self::AttachedByOthers(_) => "attached by others",
            Self::StaleOfOthers(_) => "stale port of others",
            Self::DomainEnding(_) => "domain is ending",
            Self::TakenOutByHand(_) => "taken out by hand",
            Self::Protected { .. } => "protected",
            Self::Stuck { .. } => "stuck",
            Self::NotReturned(_) => "not returned",
            Self::Hanging(_) => "hanging",
            Self::WayKept { .. } => "way kept",
            Self::Unplugged => "unplugged",
        }
    }

    /// Whether it waits for somebody to let go of its interfaces.
    pub fn is_held(&self) -> bool {
        matches!(
            self,
            Self::Stuck { problem: Problem::StillHeld(_) | Problem::OnUsbback(_), .. }
                | Self::NotReturned(Problem::StillHeld(_))
        )
    }

    /// Whether it will change by itself within moments, so that nobody need be told.
    pub fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::NotReady
                | Self::Settling
                | Self::Attaching(_)
                | Self::Detaching { .. }
                | Self::Returning
                | Self::Unplugged
                | Self::DomainEnding(_)
                | Self::WaitingForController { .. }
                | Self::WaitingForPort(_)
        )
    }
}

/// Where a device is to go, and by whose will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The domain's name.
    pub guest: GuestName,
    /// The domain's number.
    pub domid: DomId,
    /// Who wants it there.
    pub by: RouteBy,
}

/// Who wants a device in a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteBy {
    /// This rule.
    Rule(RuleName),
    /// This rule, which wanted the device before it there.
    Trail(RuleName),
    /// A person.
    Order,
}

/// What is in the way. Each says what it is; [`Problem::advice`] says what helps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A `qusb` controller is needed and there is no device model to serve it.
    #[error("the domain has no device model that serves qusb")]
    NoDeviceModel,
    /// There is a device model, built without USB support.
    #[error("the domain's device model does not serve qusb")]
    DeviceModelWithoutQusb,
    /// The device model has not become ready.
    #[error("the domain's device model is not running yet")]
    DeviceModelStarting,
    /// Its process has ended.
    #[error("the domain's device model has died")]
    DeviceModelDead,
    /// A `pv` controller is wanted and the kernel has no usbback.
    #[error("dom0's kernel has no usbback, which a pv controller needs")]
    NoUsbback,
    /// The backend never took notice of a controller.
    #[error(
        "nothing serves controller {controller}: its backend did not start within the deadline"
    )]
    NotServed {
        /// The controller.
        controller: ControllerId,
        /// Who was to serve it.
        kind: ControllerKind,
    },
    /// The guest never connected.
    #[error(
        "the guest has no PVUSB frontend: controller {controller} was not connected within the deadline"
    )]
    NoFrontend {
        /// The controller.
        controller: ControllerId,
    },
    /// Every port is in use and no more controllers can be made.
    #[error("no free port, and no further controller can be made")]
    NoFreePort,
    /// The controller that its rule asks for cannot serve it.
    #[error(
        "controller {controller}, which its rule asks for, is not served, or of another type or version"
    )]
    UnfitController {
        /// The controller.
        controller: ControllerId,
    },
    /// The controller that its rule asks for cannot be made: numbers have no gaps.
    #[error("controller {wanted}, which its rule asks for, is not there, and the next one is {}",
        .next.map_or("none".to_owned(), |next| next.to_string()))]
    NoSuchController {
        /// The one that is asked for.
        wanted: ControllerId,
        /// The next one that can be made.
        next: Option<ControllerId>,
    },
    /// The port that its rule asks for is in use, or no controller has it.
    #[error("port {0}, which its rule asks for, is not to be had")]
    PortNotFree(PortNumber),
    /// The device is too fast for what the policy allows to be made.
    #[error("a version {0} controller cannot carry this device")]
    TooFast(UsbVersion),
    /// The kernel lets nobody have its interfaces, and the agent was not told to change that.
    #[error("its interfaces are not authorized")]
    NotAuthorized,
    /// The interlock refused.
    #[error("{0}")]
    Protected(#[from] Refusal),
    /// A step failed and will not be tried again until something changes.
    #[error("{step}: {cause}")]
    StepFailed {
        /// The step.
        step: &'static str,
        /// Why.
        cause: Box<str>,
    },
    /// A step has been on its way for longer than it can take.
    #[error("{step}: has not ended within the deadline")]
    StepHangs {
        /// The step.
        step: &'static str,
    },
    /// A program in dom0 still has interfaces of the device.
    #[error("a program still has interface {0}")]
    StillHeld(InterfaceName),
    /// usbback has an interface of a device that is in no port.
    #[error("usbback has interface {0}, and no port names the device")]
    OnUsbback(InterfaceName),
}

impl Problem {
    /// What helps.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::NoDeviceModel | Self::DeviceModelWithoutQusb => {
                "put usbctrl=['type=qusb,version=2,ports=8'] into the domain's xl.cfg and start it \
                 again: xl starts a device model only for a controller whose type is written out"
            }
            Self::DeviceModelStarting => "look at /var/log/xen/qemu-dm-NAME.log if this stays so",
            Self::DeviceModelDead => {
                "/var/log/xen/qemu-dm-NAME.log may say why; start the domain again: xl starts a \
                 device model only with its domain"
            }
            Self::NoUsbback => {
                "set `controller: {type: qusb}` in the policy, or load the usbback module"
            }
            Self::NotServed { .. } => {
                "look at /var/log/xen/qemu-dm-NAME.log; the controller was removed again"
            }
            Self::NoFrontend { .. } => {
                "the guest's kernel needs CONFIG_USB_XEN_HCD: load the module xen-hcd in the guest; \
                 the device follows when it connects"
            }
            Self::NoFreePort => "detach a device, or give the controller more ports",
            Self::UnfitController { .. } | Self::NoSuchController { .. } => {
                "let the rule leave the number open, or make the controller in the domain's xl.cfg"
            }
            Self::PortNotFree(_) => {
                "it follows when the port is free; or let the rule leave the port open"
            }
            Self::TooFast(_) => "set `controller: {version: 2}` in the policy",
            Self::NotAuthorized => {
                "something else holds new devices back (USBGuard?) and must let this one pass; if \
                 that is the agent's job, set `quarantine: true` in the policy's defaults"
            }
            Self::Protected(refusal) => refusal.advice(),
            Self::StepFailed { .. } => {
                "it is tried again when the device is replugged, the domain changes or the policy \
                 is reloaded"
            }
            Self::StepHangs { .. } => {
                "a driver in dom0 does not let go of the device: see dmesg; unplugging the device \
                 usually ends it, and no other device waits for it"
            }
            Self::StillHeld(_) => "end the program that has it open (see /proc/*/fd)",
            Self::OnUsbback(_) => {
                "replug the device, or let `pvusb-agent doctor --fix` give it back to dom0"
            }
        }
    }
}

impl fmt::Display for RouteBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(rule) => rule.fmt(f),
            Self::Trail(rule) => write!(f, "identity kept: {rule}"),
            Self::Order => f.write_str("an order by hand"),
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (domain {})", self.guest, self.domid)
    }
}

/// What the device does and why, as the rest of a sentence: `stays in dom0: no rule matches`.
impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReady => f.write_str("is new: udev or the kernel has not finished with it"),
            Self::Settling => f.write_str("is new: it settles"),
            Self::Hub => f.write_str("stays in dom0: it is a hub"),
            Self::NoRule => f.write_str("stays in dom0: no rule matches"),
            Self::Kept { rule } => write!(f, "stays in dom0: {rule}"),
            Self::Blocked { rule } => write!(f, "is blocked, so that nobody has it: {rule}"),
            Self::NotBlocked { rule, refusal } => {
                write!(f, "is not blocked, although {rule} says so: {refusal}")
            }
            Self::Ordered(Order::Attach(guest)) => {
                write!(f, "stays in dom0: by an order it belongs to {guest}, which does not run")
            }
            Self::Ordered(Order::Stay) => {
                f.write_str("stays in dom0 until it is replugged: by an order")
            }
            Self::Ordered(Order::Hold) => {
                f.write_str("stays in dom0 until it is released: by an order")
            }
            Self::HeldDown { plugs, pause, .. } => write!(
                f,
                "is held down: it was plugged {plugs} times, and must stay plugged for {pause:?}"
            ),
            Self::NoDomainRuns { rule, targets } => {
                let targets: Vec<_> = targets.iter().map(ToString::to_string).collect();
                write!(f, "stays in dom0: {} does not run ({rule})", targets.join(" or "))
            }
            Self::Awaiting { rule, target, patience } => write!(
                f,
                "stays in dom0 for now: {target} does not run and has {patience:?} to start ({rule})"
            ),
            Self::Leaving(_) => f.write_str("stays in dom0: the agent is ending"),
            Self::Building(route) => write!(f, "waits: {route} is being built"),
            Self::WaitingForController { route, controller } => {
                write!(f, "waits until controller {controller} of {route} is connected")
            }
            Self::WaitingForPort(route) => write!(f, "waits until a port of {route} has rested"),
            Self::Attaching(route) => write!(f, "goes to {route}: {}", route.by),
            Self::Attached { route, place } => write!(
                f,
                "is in {route}, controller {} port {}: {}",
                place.controller, place.port, route.by
            ),
            Self::Detaching { place, because } => {
                write!(f, "is on its way back from {place}: {because}")
            }
            Self::Returning => f.write_str("is on its way back to dom0's drivers"),
            Self::AttachedByOthers(place) => {
                write!(f, "is left alone: somebody else attached it, {place}")
            }
            Self::StaleOfOthers(place) => write!(
                f,
                "is not plugged, and {place} names it: the policy leaves what others wrote"
            ),
            Self::DomainEnding(place) => write!(f, "waits: its domain is ending ({place})"),
            Self::TakenOutByHand(place) => {
                write!(f, "is left alone until it is replugged: somebody took it out of {place}")
            }
            Self::Protected { refusal, .. } => write!(f, "stays in dom0: {refusal}"),
            Self::Stuck { route, problem } => write!(f, "cannot go to {route}: {problem}"),
            Self::NotReturned(problem) => write!(f, "is not back in dom0: {problem}"),
            Self::Hanging(problem) => write!(f, "hangs: {problem}"),
            Self::WayKept { rule, time } => {
                write!(f, "is not plugged: its way is kept for {time:?} ({rule})")
            }
            Self::Unplugged => f.write_str("is unplugged: its port is being cleared"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::made_up::{domid, place, policy};
    use std::collections::BTreeSet;

    fn route(by: RouteBy) -> Route {
        Route { guest: GuestName::new("kiosk"), domid: domid(4), by }
    }

    fn problems() -> Vec<(Problem, &'static str)> {
        let controller = ControllerId::FIRST;
        let interface: InterfaceName = "1-1:1.0".parse().unwrap();
        let (step, cause) = ("claim port", "x".into());
        vec![
            (Problem::NoDeviceModel, "usbctrl=["),
            (Problem::DeviceModelWithoutQusb, "usbctrl=["),
            (Problem::DeviceModelStarting, "if this stays so"),
            (Problem::DeviceModelDead, "start the domain again"),
            (Problem::NoUsbback, "load the usbback module"),
            (Problem::NotServed { controller, kind: ControllerKind::Qusb }, "removed again"),
            (Problem::NoFrontend { controller }, "xen-hcd"),
            (Problem::NoFreePort, "more ports"),
            (Problem::TooFast(UsbVersion::V1), "version: 2"),
            (Problem::NotAuthorized, "quarantine: true"),
            (Problem::Protected(Refusal::NotPlugged), "plug it in"),
            (Problem::StepFailed { step, cause }, "replugged"),
            (Problem::StepHangs { step }, "dmesg"),
            (Problem::StillHeld(interface.clone()), "/proc/*/fd"),
            (Problem::OnUsbback(interface), "doctor --fix"),
        ]
    }

    #[test]
    fn each_problem_says_what_helps() {
        for (problem, word) in problems() {
            assert!(problem.advice().contains(word), "{problem}: {}", problem.advice());
        }
    }

    #[test]
    fn nobody_is_told_of_what_passes_by_itself() {
        let (place, by_order) = (place(4, 0, 1), || route(RouteBy::Order));
        let passing = [
            Standing::NotReady,
            Standing::Settling,
            Standing::Attaching(by_order()),
            Standing::Detaching { place, because: "the agent is ending".into() },
            Standing::Returning,
            Standing::Unplugged,
            Standing::DomainEnding(place),
            Standing::WaitingForPort(by_order()),
        ];
        let staying = [
            Standing::NoRule,
            Standing::Attached { route: by_order(), place },
            Standing::TakenOutByHand(place),
            Standing::NotReturned(Problem::NoFreePort),
        ];
        assert!(passing.iter().all(Standing::is_passing));
        assert!(!staying.iter().any(Standing::is_passing));
        let names: BTreeSet<_> = passing.iter().chain(&staying).map(Standing::name).collect();
        assert_eq!(names.len(), passing.len() + staying.len(), "{names:?}");
        assert!(!names.contains(""));
        let told: BTreeSet<_> = passing.iter().chain(&staying).map(Standing::to_string).collect();
        assert_eq!(told.len(), names.len(), "{told:?}");
    }

    #[test]
    fn a_route_names_the_domain_and_who_wants_it() {
        assert_eq!(route(RouteBy::Order).to_string(), "kiosk (domain 4)");
        assert_eq!(RouteBy::Order.to_string(), "an order by hand");
        let text = "{version: 1, rules: [{name: scanner, match: {id: '*'}, attach: kiosk}]}";
        let rule = policy(text).rules()[0].told();
        assert_eq!(RouteBy::Rule(rule).to_string(), "scanner (policy.yaml:1)");
    }
}
