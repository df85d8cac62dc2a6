//! Where a device should be, by what a person said, by policy and by what runs.

use super::next::Moment;
use super::standing::Problem;
use super::trail::{followed, held_for};
use super::turns::{self, Turned};
use crate::model::{BusId, Device, DomId, Guest, Life, NoteState, Observed, Order, Trail, XenView};
use crate::policy::{Action, Candidate, GuestPattern, Policy, Rule, Target, TargetWish};
use std::collections::BTreeMap;
use std::slice::from_ref;
use std::time::Instant;

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
    /// This rule, which wanted the device before it there.
    Trail(&'a Rule),
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
    /// A domain of this rule's list does not run and has some time left to start.
    Awaited {
        /// The rule.
        rule: &'a Rule,
        /// The domain.
        target: &'a GuestPattern,
        /// Until when the next of the list is not tried.
        until: Instant,
    },
}

/// What is known of the domains of a list besides what was seen.
#[derive(Clone, Copy, Debug)]
pub struct Obstacles<'a> {
    /// Those that do not take the device, and what keeps it from there.
    pub barred: &'a BTreeMap<DomId, Problem>,
    /// When it is, to tell whose time is over. Without it, that of each domain that could be waited
    /// for is.
    pub moment: Option<&'a Moment<'a>>,
}

impl Obstacles<'static> {
    /// Nothing.
    pub const NONE: Self = Self { barred: &BTreeMap::new(), moment: None };
}

/// Where `device` should be. What a person said about this plug goes before the policy, and that it
/// follows another one before what its rules say of it.
///
/// A device that the agent has put into one of its rule's domains stays there as long as that
/// domain runs, even if one that stands before it in the list is started later: nothing is pulled
/// out of a running domain without need. One that does not take it (`barred`), or has not taken it in
/// the time that its rule gives, is passed over, as long as another of the list runs.
pub fn desired<'a>(
    policy: &'a Policy,
    device: &Device,
    observed: &'a Observed,
    obstacles: &Obstacles<'_>,
) -> Desired<'a> {
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
                choose(&device.busid, targets, xen, obstacles.barred)
                    .map_or(Desired::Dom0(Reason::Order(&said.order)), |(guest, wish)| {
                        Desired::In { guest, by: By::Order, wish }
                    })
            }
            Order::Stay | Order::Hold => Desired::Dom0(Reason::Order(&said.order)),
        };
    }
    if let Some((rule, trail)) =
        followed(device, policy, observed, obstacles.moment.map(|it| it.since))
        && let Action::Attach(targets) = rule.action()
    {
        let home = present_home(&device.busid, targets, xen);
        let chosen = home
            .or_else(|| same_guest(&trail, targets, xen, obstacles.barred))
            .or_else(|| first_running(targets, xen, obstacles.barred));
        return chosen.map_or(Desired::Dom0(Reason::NoDomainRuns(rule)), |(guest, wish)| {
            Desired::In { guest, by: By::Trail(rule), wish }
        });
    }
    let Some(rule) = policy.judge_beside(&Candidate::of(device, observed), xen) else {
        return Desired::Dom0(Reason::NoRule);
    };
    match rule.action() {
        Action::Keep => Desired::Dom0(Reason::Kept(rule)),
        Action::Block => Desired::Dom0(Reason::Blocked(rule)),
        Action::Attach(targets) => {
            let since = obstacles.moment.map(|it| it.since);
            let held = held_for(device, rule, observed, since);
            let held = held.and_then(|trail| same_guest(&trail, targets, xen, obstacles.barred));
            // What is not to be had any more is not waited for.
            let held = held.filter(|(guest, wish)| {
                obstacles.moment.is_none_or(|moment| turns::takes(device, guest, *wish, moment))
            });
            match held {
                Some((guest, wish)) => Desired::In { guest, by: By::Rule(rule), wish },
                None => in_turn(device, rule, targets, xen, obstacles),
            }
        }
    }
}

/// Where a device of `rule` belongs, when each domain of its list has its turn.
fn in_turn<'a>(
    device: &Device,
    rule: &'a Rule,
    targets: &'a [Target],
    xen: &'a XenView,
    obstacles: &Obstacles<'_>,
) -> Desired<'a> {
    let turned = obstacles.moment.zip(rule.patience()).map(|(moment, patience)| {
        let home = present_home(&device.busid, targets, xen);
        match home.filter(|(guest, _)| !turns::is_over(device, guest, patience, moment)) {
            Some((guest, wish)) => Turned::In(guest, wish),
            None => turns::whose(device, targets, patience, (xen, moment)),
        }
    });
    let chosen = match turned {
        Some(Turned::Awaits(target, until)) => {
            return Desired::Dom0(Reason::Awaited { rule, target, until });
        }
        Some(Turned::In(guest, wish)) => Some((guest, wish)),
        // All have had their time, or it is not counted.
        Some(Turned::Nobody) | None => choose(&device.busid, targets, xen, obstacles.barred),
    };
    chosen.map_or(Desired::Dom0(Reason::NoDomainRuns(rule)), |(guest, wish)| Desired::In {
        guest,
        by: By::Rule(rule),
        wish,
    })
}

/// The domain of the list in which the agent has put the device, or else the first that takes it.
fn choose<'x>(
    busid: &BusId,
    targets: &[Target],
    xen: &'x XenView,
    barred: &BTreeMap<DomId, Problem>,
) -> Option<(&'x Guest, TargetWish)> {
    present_home(busid, targets, xen).or_else(|| first_running(targets, xen, barred))
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

/// The domain that had the device before, as long as it runs and takes this one.
fn same_guest<'x>(
    trail: &Trail,
    targets: &[Target],
    xen: &'x XenView,
    barred: &BTreeMap<DomId, Problem>,
) -> Option<(&'x Guest, TargetWish)> {
    let guest = xen.guests.get(&trail.place.domid)?;
    let runs = guest.uuid == trail.uuid && guest.life == Life::Running;
    let takes = runs && !barred.contains_key(&guest.domid);
    let target = targets.iter().find(|target| takes && target.guest.matches(guest))?;
    Some((guest, target.wish))
}

/// The first domain of the list that runs and takes the device; if none does, the first that runs.
fn first_running<'x>(
    targets: &[Target],
    xen: &'x XenView,
    barred: &BTreeMap<DomId, Problem>,
) -> Option<(&'x Guest, TargetWish)> {
    let mut there =
        targets.iter().filter_map(|target| Some((target.guest.find(xen)?, target.wish)));
    let takes = |(guest, _): &(&Guest, TargetWish)| !barred.contains_key(&guest.domid);
    there.clone().find(takes).or_else(|| there.next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ControllerKind, GuestName, Override, PortContent};
    use crate::plan::made_up::{
        attach, busid, controller, device, domid, fill, guest, host, place, policy, uuid,
    };

    const EITHER: &str = "{version: 1, rules: [{match: {id: '*:*'}, attach: [kiosk, desk]}]}";

    /// kiosk is domain 4, and desk is 5. The agent has put 1-1 into desk.
    fn seen() -> Observed {
        let mut desk = guest(5, "desk");
        desk.controllers.insert("0".parse().unwrap(), controller(ControllerKind::Qusb, 2));
        let mut observed = host([device("1-1")], [guest(4, "kiosk"), desk]);
        attach(&mut observed, "1-1", place(5, 0, 1));
        observed
    }

    /// The number of the domain in which the device should be; none for dom0.
    fn wanted_in(observed: &Observed) -> Option<u16> {
        match desired(&policy(EITHER), &observed.devices[&busid("1-1")], observed, &Obstacles::NONE)
        {
            Desired::In { guest, .. } => Some(guest.domid.get()),
            Desired::Dom0(_) => None,
        }
    }

    #[test]
    fn nothing_is_pulled_out_of_a_domain_that_runs_because_an_earlier_one_is_there() {
        let observed = seen();
        assert_eq!(wanted_in(&observed), Some(5));
        let desk = |change: fn(&mut Guest)| {
            let mut changed = observed.clone();
            change(changed.xen.guests.get_mut(&domid(5)).unwrap());
            wanted_in(&changed)
        };
        assert_eq!(desk(|it| it.life = Life::Dead), Some(4));
        assert_eq!(desk(|it| it.life = Life::Building), Some(4), "it does not run yet");
        assert_eq!(desk(|it| it.uuid = uuid(domid(9))), Some(4), "it is another one");
        assert_eq!(
            desk(|it| it.name = GuestName::new("lab")),
            Some(4),
            "no rule names it any more"
        );
        let mut free = observed.clone();
        fill(&mut free, place(5, 0, 1), PortContent::Free);
        free.xen.notes.clear();
        assert_eq!(wanted_in(&free), Some(4), "the first of the list");
    }

    #[test]
    fn of_two_domains_of_one_name_the_one_that_runs_is_meant_and_then_the_older() {
        let mut observed = seen();
        observed.xen.notes.clear();
        for (number, life, expected) in
            [(3, Life::Building, 4), (2, Life::Running, 2), (1, Life::Dead, 2)]
        {
            let twin = Guest { life, ..guest(number, "kiosk") };
            observed.xen.guests.insert(twin.domid, twin);
            assert_eq!(wanted_in(&observed), Some(expected));
        }
        observed.xen.guests.retain(|_, guest| guest.life != Life::Running);
        assert_eq!(wanted_in(&observed), Some(3), "one that is built is better than none");
        observed.xen.guests.remove(&domid(3));
        assert_eq!(wanted_in(&observed), None);
    }

    #[test]
    fn a_hub_stays_whatever_anybody_says() {
        let mut observed = seen();
        observed.xen.notes.clear();
        let device = observed.devices.get_mut(&busid("1-1")).unwrap();
        device.class.class = crate::model::ClassTriple::HUB;
        let order = Order::Attach(GuestName::new("desk"));
        let said = Override { plug: device.plug(), order, force: true };
        observed.xen.overrides.insert(busid("1-1"), said);
        assert_eq!(wanted_in(&observed), None);
    }

    #[test]
    fn a_domain_that_refuses_is_passed_over_as_long_as_another_runs() {
        let text = "{version: 1, rules: [{match: {id: '*:*'}, attach: [kiosk, desk, lab]}]}";
        let policy = policy(text);
        let device = device("1-1");
        let lives =
            [(4, "kiosk", Life::Running), (5, "desk", Life::Dead), (6, "lab", Life::Building)];
        let guests = lives.map(|(number, name, life)| Guest { life, ..guest(number, name) });
        let observed = host([device.clone()], guests);
        let refusals = |numbers: &[u16]| {
            let refusal = |number: &u16| (number.to_string().parse().unwrap(), Problem::NoUsbback);
            numbers.iter().map(refusal).collect::<BTreeMap<DomId, _>>()
        };
        for (barred, expected) in [(&[][..], 4), (&[6], 4), (&[4], 6), (&[4, 6], 4), (&[4, 5], 6)] {
            let barred = refusals(barred);
            let obstacles = Obstacles { barred: &barred, moment: None };
            match desired(&policy, &device, &observed, &obstacles) {
                Desired::In { guest, .. } => assert_eq!(guest.domid.get(), expected, "{barred:?}"),
                Desired::Dom0(reason) => panic!("{reason:?}"),
            }
        }
    }
}
