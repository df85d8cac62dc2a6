//! Why a device is judged as it is: each rule that was asked, with every condition, and what the
//! interlock says.
//!
//! Decides nothing: it asks what decides, and keeps the answers. What would be done now is not here:
//! that takes more than one look ([`preview`](crate::reconcile::preview)).

use super::desired::{Desired, Obstacles, desired};
use super::interlock::{Refusal, Scene, guard};
use super::trail::followed;
use crate::model::{Device, GuestName, Observed, Override, Trail};
use crate::policy::{Candidate, Policy, Rule, TargetWish, Verdict};
use std::collections::BTreeSet;

/// Why a device is judged as it is.
#[derive(Clone, Debug)]
pub struct Explanation<'a> {
    /// The device.
    pub device: &'a Device,
    /// What a person said about this plug: it goes before all rules.
    pub order: Option<&'a Override>,
    /// The device that it follows in its place, and by which rule: that goes before all others.
    pub follows: Option<(&'a Rule, Trail)>,
    /// The rules in the order in which they were asked. The last one matches, or none does.
    pub asked: Vec<Asked<'a>>,
    /// How many rules stand below the one that matches, and were not asked.
    pub unasked: usize,
    /// Why it must stay in dom0, whoever wants it elsewhere.
    pub refusal: Option<Refusal>,
}

/// A rule that was asked.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// The rule.
    pub rule: &'a Rule,
    /// How it judged.
    pub verdict: Verdict,
    /// Why it does not count, whatever it matches.
    pub aside: Option<Aside>,
}

/// Why a rule does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aside {
    /// `enabled: false`.
    SwitchedOff,
    /// Its `when` does not hold.
    NotNow,
}

impl Asked<'_> {
    /// Whether this rule decides.
    pub fn decides(&self) -> bool {
        self.verdict.holds && self.aside.is_none()
    }
}

impl<'a> Explanation<'a> {
    /// Why `device`, one of those that were seen, is judged as it is.
    pub fn of(device: &'a Device, policy: &'a Policy, observed: &'a Observed) -> Self {
        let candidate = Candidate::of(device, observed);
        let mut asked = Vec::new();
        for rule in policy.rules() {
            let not_now = !rule.when().holds(&observed.xen);
            let off = (!rule.is_enabled()).then_some(Aside::SwitchedOff);
            let aside = off.or(not_now.then_some(Aside::NotNow));
            asked.push(Asked { rule, verdict: rule.matcher().examine(&candidate), aside });
            if asked.last().is_some_and(Asked::decides) {
                break;
            }
        }
        let scene = Scene { observed, policy, departing: &BTreeSet::new() };
        Self {
            device,
            order: observed.xen.override_of(device),
            follows: followed(device, policy, observed, None),
            unasked: policy.rules().len() - asked.len(),
            asked,
            refusal: guard(device, &scene).err(),
        }
    }

    /// The rule that matches.
    pub fn rule(&self) -> Option<&'a Rule> {
        self.asked.last().filter(|last| last.decides()).map(|last| last.rule)
    }
}

/// Where a device belongs when everybody has had their say: its rule or its order, and the interlock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The domain; `None` for dom0.
    pub guest: Option<GuestName>,
    /// What it is to get there.
    pub wish: TargetWish,
    /// The rule that matches, as it is called, if a rule decides.
    pub rule: Option<String>,
    /// Why it stays in dom0 although its rule wants it elsewhere.
    pub refusal: Option<Refusal>,
}

impl Destination {
    /// Where `device`, one of those that were seen, belongs. One that is in a domain already is not
    /// kept there or called back by the interlock.
    pub fn of(device: &Device, policy: &Policy, observed: &Observed) -> Self {
        let follows = followed(device, policy, observed, None).map(|(rule, _)| rule);
        let judge = || policy.judge_beside(&Candidate::of(device, observed), &observed.xen);
        let rule = follows.or_else(judge);
        let rule = rule.map(Rule::label);
        let rule = rule.filter(|_| observed.xen.override_of(device).is_none());
        let desired = desired(policy, device, observed, &Obstacles::NONE);
        let Desired::In { guest, wish, .. } = desired else {
            return Self { guest: None, wish: TargetWish::ANY, rule, refusal: None };
        };
        let is_there =
            observed.xen.places_of(&device.busid).any(|place| place.domid == guest.domid);
        let scene = Scene { observed, policy, departing: &BTreeSet::new() };
        let refusal = guard(device, &scene).err().filter(|_| !is_there);
        let guest = Some(guest.name.clone()).filter(|_| refusal.is_none());
        Self { guest, wish, rule, refusal }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ControllerKind, Order, PortContent};
    use crate::plan::made_up::{self, busid, controller, device, fill, guest, host, place, policy};

    const POLICY: &str = "{version: 1, protect: [{port: '1-2'}], rules: [\
                          {name: off, match: {id: '*:*'}, enabled: false, attach: lab}, \
                          {name: later, match: {id: '*:*'}, when: {running: desk}, attach: lab}, \
                          {name: other, match: {id: '1111:*'}, keep: dom0}, \
                          {name: last, match: {id: '05e0:*'}, attach: kiosk}, \
                          {name: unasked, match: {id: '*:*'}, keep: dom0}]}";

    /// The devices 1-1, and 1-2, which dom0 needs; the domain kiosk, with a controller.
    fn seen() -> Observed {
        let mut kiosk = guest(4, "kiosk");
        kiosk.controllers.insert("0".parse().unwrap(), controller(ControllerKind::Qusb, 2));
        host([device("1-1"), device("1-2")], [kiosk])
    }

    #[test]
    fn each_rule_is_asked_until_one_decides_and_those_that_do_not_count_say_why() {
        let (policy, observed) = (policy(POLICY), seen());
        let told = Explanation::of(&observed.devices[&busid("1-1")], &policy, &observed);
        let asked: Vec<_> = told.asked.iter().map(|it| (it.aside, it.decides())).collect();
        let (off, later) = (Some(Aside::SwitchedOff), Some(Aside::NotNow));
        assert_eq!(asked, [(off, false), (later, false), (None, false), (None, true)]);
        assert_eq!((told.unasked, told.rule().and_then(Rule::name)), (1, Some("last")));
        assert_eq!(told.refusal, None);

        let mut other = observed.clone();
        other.devices.get_mut(&busid("1-2")).unwrap().id = "2222:0001".parse().unwrap();
        let nobody = made_up::policy(
            &POLICY.replace("unasked, match: {id: '*:*'}", "x, match: {id: '3333:*'}"),
        );
        let told = Explanation::of(&other.devices[&busid("1-2")], &nobody, &other);
        assert_eq!((told.asked.len(), told.unasked, told.rule()), (5, 0, None));
        assert!(told.refusal.is_some());
    }

    #[test]
    fn what_dom0_needs_belongs_there_unless_its_domain_has_it() {
        let (policy, mut observed) = (policy(POLICY), seen());
        let of = |observed: &Observed, at: &str| {
            let to = Destination::of(&observed.devices[&busid(at)], &policy, observed);
            (to.guest.map(|guest| guest.to_string()), to.rule, to.refusal.is_some())
        };
        let (kiosk, last) = (Some("kiosk".to_owned()), Some("last".to_owned()));
        assert_eq!(of(&observed, "1-1"), (kiosk.clone(), last.clone(), false));
        assert_eq!(of(&observed, "1-2"), (None, last.clone(), true));
        fill(&mut observed, place(4, 0, 1), PortContent::Taken(busid("1-2")));
        assert_eq!(of(&observed, "1-2"), (kiosk.clone(), last.clone(), false));
        let mut desk = guest(5, "desk");
        desk.controllers.insert("0".parse().unwrap(), controller(ControllerKind::Qusb, 2));
        observed.xen.guests.insert(desk.domid, desk);
        observed.xen.guests.remove(&place(4, 0, 1).domid);
        let (plug, order) =
            (observed.devices[&busid("1-1")].plug(), Order::Attach(GuestName::new("desk")));
        observed.xen.overrides.insert(busid("1-1"), Override { plug, order, force: false });
        assert_eq!(
            of(&observed, "1-1"),
            (Some("desk".to_owned()), None, false),
            "a person says so"
        );
    }
}
