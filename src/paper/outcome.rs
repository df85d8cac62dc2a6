//! What becomes of a device, as the agent's core decides it.

use super::expect::Guard;
use crate::model::{BusId, GuestName, Observed, Order, PortNumber};
use crate::plan::standing::Route;
use crate::plan::{Explanation, Next, Outlook, Standing, Step};
use crate::policy::{Policy, Rule};
use crate::reconcile::preview;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

/// What becomes of a device on a host where nothing else happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Where it ends.
    pub end: End,
    /// The rule that decides, as it is called. None for a device that no rule matches, and for one about
    /// which a person has given an order.
    pub rule: Option<String>,
    /// The port that it gets, if it gets one.
    pub port: Option<PortNumber>,
    /// How it stands with it, as the rest of a sentence.
    pub because: String,
}

/// Where a device ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// In this domain, or on its way there.
    In(GuestName),
    /// In dom0: a rule or a person says so.
    Kept,
    /// Nowhere: a rule wants nobody to have it.
    Blocked,
    /// In dom0: no rule matches.
    Unmatched,
    /// In dom0: this guard holds it, whatever its rule says.
    Guarded(Guard),
    /// In dom0, until a domain runs.
    Waits,
    /// In dom0, although it should go to this domain: it cannot.
    Stuck(GuestName),
    /// Somewhere between: only on a host where something has happened before.
    Between,
}

/// As the rest of a sentence: the device should ….
impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::In(guest) => write!(f, "go to {guest}"),
            Self::Kept => f.write_str("stay in dom0 by a rule"),
            Self::Blocked => f.write_str("be blocked"),
            Self::Unmatched => f.write_str("be matched by no rule"),
            Self::Guarded(guard) => write!(f, "be held in dom0 by the guard `{}`", guard.word()),
            Self::Waits => f.write_str("wait for a domain"),
            Self::Stuck(guest) => write!(f, "be stuck on its way to {guest}"),
            Self::Between => f.write_str("be between dom0 and a domain"),
        }
    }
}

impl Outcome {
    /// What becomes of every device that was seen, at any time: `now` is where the core begins to count.
    pub fn all(policy: &Policy, observed: &Observed, now: Instant) -> BTreeMap<BusId, Self> {
        let outlooks = preview(policy, observed, now);
        let each = observed.devices.values().filter_map(|device| {
            let outlook = outlooks.get(&device.busid)?;
            let explanation = Explanation::of(device, policy, observed);
            let rule = explanation.rule().filter(|_| explanation.order.is_none()).map(Rule::label);
            let outcome = Self {
                end: end(&outlook.standing),
                rule,
                port: port(outlook),
                because: outlook.standing.to_string(),
            };
            Some((device.busid.clone(), outcome))
        });
        each.collect()
    }
}

fn end(standing: &Standing) -> End {
    let to = |route: &Route| End::In(route.guest.clone());
    match standing {
        Standing::Attaching(route)
        | Standing::Attached { route, .. }
        | Standing::Building(route)
        | Standing::WaitingForController { route, .. }
        | Standing::WaitingForPort(route) => to(route),
        Standing::Kept { .. } | Standing::Ordered(Order::Stay | Order::Hold) => End::Kept,
        Standing::Blocked { .. } => End::Blocked,
        Standing::NoRule => End::Unmatched,
        Standing::Hub => End::Guarded(Guard::Hub),
        Standing::Protected { refusal, .. } | Standing::NotBlocked { refusal, .. } => {
            Guard::of(refusal).map_or(End::Between, End::Guarded)
        }
        Standing::NoDomainRuns { .. }
        | Standing::Awaiting { .. }
        | Standing::Ordered(Order::Attach(_)) => End::Waits,
        Standing::Stuck { route, .. } => End::Stuck(route.guest.clone()),
        Standing::NotReady
        | Standing::Settling
        | Standing::HeldDown { .. }
        | Standing::Leaving(_)
        | Standing::Detaching { .. }
        | Standing::Returning
        | Standing::AttachedByOthers(_)
        | Standing::StaleOfOthers(_)
        | Standing::DomainEnding(_)
        | Standing::TakenOutByHand(_)
        | Standing::NotReturned(_)
        | Standing::Hanging(_)
        | Standing::WayKept { .. }
        | Standing::Unplugged => End::Between,
    }
}

fn port(outlook: &Outlook) -> Option<PortNumber> {
    match (&outlook.standing, &outlook.next) {
        (Standing::Attached { place, .. }, _) => Some(place.port),
        (_, Next::Run(Step::Claim(claim) | Step::CreateController { claim, .. })) => {
            Some(claim.place.port)
        }
        _ => None,
    }
}
