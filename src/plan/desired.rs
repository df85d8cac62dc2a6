//! Where a device should be, by what a person said, by policy and by what runs.

use crate::model::{BusId, Device, Guest, GuestName, Life, NoteState, Observed, Order, XenView};
use crate::policy::{Action, Candidate, Policy, Rule};
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
            Order::Attach(name) => present_home(&device.busid, from_ref(name), xen)
                .or_else(|| running(name, xen))
                .map_or(Desired::Dom0(Reason::Order(&said.order)), |guest| Desired::In {
                    guest,
                    by: By::Order,
                }),
            Order::Stay | Order::Hold => Desired::Dom0(Reason::Order(&said.order)),
        };
    }
    let Some(rule) = policy.judge(&Candidate::of(device, observed)) else {
        return Desired::Dom0(Reason::NoRule);
    };
    match rule.action() {
        Action::Keep => Desired::Dom0(Reason::Kept(rule)),
        Action::Attach(targets) => present_home(&device.busid, targets, xen)
            .or_else(|| targets.iter().find_map(|name| running(name, xen)))
            .map_or(Desired::Dom0(Reason::NoDomainRuns(rule)), |guest| Desired::In {
                guest,
                by: By::Rule(rule),
            }),
    }
}

/// The domain of the list in which the agent has put the device, if it is still that domain.
fn present_home<'a>(busid: &BusId, targets: &[GuestName], xen: &'a XenView) -> Option<&'a Guest> {
    match xen.notes.get(busid)?.state {
        NoteState::Attached { place, uuid } => xen.guests.get(&place.domid).filter(|guest| {
            guest.uuid == uuid && guest.life == Life::Running && targets.contains(&guest.name)
        }),
        NoteState::Returning | NoteState::Admitted => None,
    }
}

/// The domain of this name. Two can have it for a moment; the one that is furthest in its life, and
/// then the older one, is taken.
fn running<'a>(name: &GuestName, xen: &'a XenView) -> Option<&'a Guest> {
    let named = |life: Life| {
        xen.guests.values().find(move |guest| guest.life == life && guest.name == *name)
    };
    named(Life::Running).or_else(|| named(Life::Building))
}
