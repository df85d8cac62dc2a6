//! Why a device is judged as it is: each rule that was asked, with every condition, and what the
//! interlock says.
//!
//! Decides nothing: it asks what decides, and keeps the answers. What would be done now is not here:
//! that takes more than one look ([`preview`](crate::reconcile::preview)).

use super::desired::{Desired, Obstacles, desired};
use super::interlock::{Refusal, Scene, guard};
use super::trail::followed;
use crate::model::{Device, GuestName, Observed, Override, Trail};
use crate::policy::{Candidate, Policy, Rule, Verdict};
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
        let Desired::In { guest, .. } = desired(policy, device, observed, &Obstacles::NONE) else {
            return Self { guest: None, rule, refusal: None };
        };
        let is_there =
            observed.xen.places_of(&device.busid).any(|place| place.domid == guest.domid);
        let scene = Scene { observed, policy, departing: &BTreeSet::new() };
        let refusal = guard(device, &scene).err().filter(|_| !is_there);
        let guest = Some(guest.name.clone()).filter(|_| refusal.is_none());
        Self { guest, rule, refusal }
    }
}
