//! Where a device should be, by what a person said, by policy and by what runs.

use super::standing::Problem;
use crate::model::{
    BusId, Device, DomId, Guest, GuestName, Life, NoteState, Observed, Order, XenView,
};
use crate::policy::{Action, Candidate, Policy, Rule};
use std::collections::BTreeMap;
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
/// out of a running domain without need. One that does not take it (`barred`) is passed over, as long
/// as another of the list runs.
pub fn desired<'a>(
    policy: &'a Policy,
    device: &Device,
    observed: &'a Observed,
    barred: &BTreeMap<DomId, Problem>,
) -> Desired<'a> {
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
            .or_else(|| first_running(targets, xen, barred))
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

/// The first domain of the list that runs and takes the device; if none does, the first that runs.
fn first_running<'a>(
    targets: &[GuestName],
    xen: &'a XenView,
    barred: &BTreeMap<DomId, Problem>,
) -> Option<&'a Guest> {
    let mut there = targets.iter().filter_map(|name| running(name, xen));
    let takes = |guest: &&Guest| !barred.contains_key(&guest.domid);
    there.clone().find(takes).or_else(|| there.next())
}

/// The domain of this name. Two can have it for a moment; the one that is furthest in its life, and
/// then the older one, is taken.
fn running<'a>(name: &GuestName, xen: &'a XenView) -> Option<&'a Guest> {
    let named = |life: Life| {
        xen.guests.values().find(move |guest| guest.life == life && guest.name == *name)
    };
    named(Life::Running).or_else(|| named(Life::Building))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DeviceModel, GuestKind};
    use crate::policy::{self, Source};

    fn guest(number: u16, name: &str, life: Life) -> Guest {
        Guest {
            domid: number.to_string().parse().unwrap(),
            uuid: format!("6d3ae5a6-2c8c-4c8b-9d1e-{number:012}").parse().unwrap(),
            name: GuestName::new(name),
            kind: GuestKind::Pv,
            life,
            device_model: DeviceModel::Absent,
            controllers: BTreeMap::new(),
            broken: BTreeMap::new(),
        }
    }

    #[test]
    fn a_domain_that_refuses_is_passed_over_as_long_as_another_runs() {
        let text = "{version: 1, rules: [{match: {id: '*:*'}, attach: [kiosk, desk, lab]}]}";
        let policy =
            policy::compile(Source { name: "policy.yaml", bytes: text.as_bytes() }).unwrap();
        let (busid, address, id) = ("1-1".parse(), "1.5".parse(), "05e0:1200".parse());
        let device = Device::new(busid.unwrap(), address.unwrap(), id.unwrap());
        let mut observed = Observed::default();
        for guest in [
            guest(4, "kiosk", Life::Running),
            guest(5, "desk", Life::Dead),
            guest(6, "lab", Life::Building),
        ] {
            observed.xen.guests.insert(guest.domid, guest);
        }
        let refusals = |numbers: &[u16]| {
            let refusal = |number: &u16| (number.to_string().parse().unwrap(), Problem::NoUsbback);
            numbers.iter().map(refusal).collect::<BTreeMap<DomId, _>>()
        };
        for (barred, expected) in [(&[][..], 4), (&[6], 4), (&[4], 6), (&[4, 6], 4), (&[4, 5], 6)] {
            let barred = refusals(barred);
            match desired(&policy, &device, &observed, &barred) {
                Desired::In { guest, .. } => assert_eq!(guest.domid.get(), expected, "{barred:?}"),
                Desired::Dom0(reason) => panic!("{reason:?}"),
            }
        }
    }
}
