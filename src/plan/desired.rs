//! Where a device should be, by what a person said, by policy and by what runs.

use crate::model::{BusId, Device, Guest, Life, NoteState, Observed, Order, XenView};
use crate::policy::{Action, Candidate, GuestPattern, Policy, Rule, Target, TargetWish};
use std::slice::from_ref;

/// Where a device should be.
#[derive(Clone, Debug, PartialEq)]
pub enum Desired<'a> {
    /// In this domain.
    In {
        /// The domain.
        guest: &'a Guest,
        /// Who wants it there.
        by: By<'a>,
        /// What it is to get there.
        wish: TargetWish,
    },
    /// In dom0.
    Dom0(Reason<'a>),
}

/// Who wants a device in a domain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum By<'a> {
    /// This rule.
    Rule(&'a Rule),
    /// A person.
    Order,
}

/// Why a device should be in dom0.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason<'a> {
    /// It is a hub.
    Hub,
    /// A person wants it there, or in a domain that does not run.
    Order(&'a Order),
    /// No rule matches it.
    NoRule,
    /// This rule keeps it.
    Kept(&'a Rule),
    /// This rule wants nobody to have it, dom0 neither.
    Blocked(&'a Rule),
    /// This rule wants it elsewhere, but none of its domains runs.
    NoDomainRuns(&'a Rule),
}

/// Where `device` should be. What a person said about this plug goes before the policy.
///
/// A device that the agent has put into one of its rule's domains stays there as long as that
/// domain runs, even if one that stands before it in the list is started later: nothing is pulled
/// out of a running domain without need.
pub fn desired<'a>(policy: &'a Policy, device: &Device, observed: &'a Observed) -> Desired<'a> {
    let xen = &observed.xen;
    if device.is_hub() {
        return Desired::Dom0(Reason::Hub);
    }
    if let Some(said) = xen.override_of(device) {
        return match &said.order {
            Order::Attach(name) => {
                let target =
                    Target { guest: GuestPattern::Named(name.clone()), wish: TargetWish::ANY };
                let targets = from_ref(&target);
                choose(&device.busid, targets, xen)
                    .map_or(Desired::Dom0(Reason::Order(&said.order)), |(guest, wish)| {
                        Desired::In { guest, by: By::Order, wish }
                    })
            }
            Order::Stay | Order::Hold => Desired::Dom0(Reason::Order(&said.order)),
        };
    }
    let Some(rule) = policy.judge_beside(&Candidate::of(device, observed), xen) else {
        return Desired::Dom0(Reason::NoRule);
    };
    match rule.action() {
        Action::Keep => Desired::Dom0(Reason::Kept(rule)),
        Action::Block => Desired::Dom0(Reason::Blocked(rule)),
        Action::Attach(targets) => choose(&device.busid, targets, xen).map_or(
            Desired::Dom0(Reason::NoDomainRuns(rule)),
            |(guest, wish)| Desired::In { guest, by: By::Rule(rule), wish },
        ),
    }
}

/// The domain of the list in which the agent has put the device, or else the first that is there.
fn choose<'x>(
    busid: &BusId,
    targets: &[Target],
    xen: &'x XenView,
) -> Option<(&'x Guest, TargetWish)> {
    present_home(busid, targets, xen)
        .or_else(|| targets.iter().find_map(|target| Some((target.guest.find(xen)?, target.wish))))
}

fn present_home<'x>(
    busid: &BusId,
    targets: &[Target],
    xen: &'x XenView,
) -> Option<(&'x Guest, TargetWish)> {
    let NoteState::Attached { place, uuid } = xen.notes.get(busid)?.state else { return None };
    let guest = xen.guests.get(&place.domid)?;
    let is_there = guest.uuid == uuid && guest.life == Life::Running;
    let target = targets.iter().find(|target| is_there && target.guest.matches(guest))?;
    Some((guest, target.wish))
}
