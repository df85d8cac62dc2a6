//! The file of remembered rules beside the policy. It outlives the host's boot, which no order does.
//!
//! This is what `daemon/shell.rs` does: a rule is written when its order is noted, and removed before what it
//! is about is released. Then the policy is read anew.

use super::world::{Happening, World};
use crate::model::{BusId, Device, GuestName, Order};
use crate::plan::{Request, Scene, Wanted, orders};
use crate::policy::{self, Policy, Source};
use crate::reconcile::{Input, RequestId};
use std::collections::BTreeSet;
use std::sync::Arc;

const NAME: &str = "remembered.yaml";

impl World {
    /// An order is noted. If it is to be remembered, its rule is written in a moment.
    pub(super) fn may_remember(&mut self, id: RequestId, busid: &BusId, order: &Order) {
        let is_wanted = self.asks.get(&id).is_some_and(|asking| asking.remember);
        let observed = self.agent.as_ref().map(|agent| agent.machine.observed());
        let device = observed.and_then(|observed| observed.devices.get(busid)).cloned();
        let Some(device) = device.filter(|_| is_wanted) else { return };
        let target = match order {
            Order::Attach(guest) => Some(guest.clone()),
            Order::Stay | Order::Hold => None,
        };
        let delay = self.takes(2_000, 200_000);
        self.soon(delay, Happening::Remembers(self.life, Box::new(device), target));
    }

    /// The rule is written, and the policy is read anew.
    pub(super) fn remembers(&mut self, device: &Device, target: Option<&GuestName>) {
        let source = self.remembered.as_deref().map(source);
        match policy::remember(source, device, target) {
            Ok(text) => {
                self.tell(|| format!("a rule of {} is remembered", device.busid));
                self.remembered = Some(text);
                self.read_policies();
                self.check_remembered(device, target);
            }
            Err(error) => self.violate(0, format!("a rule of {}: {error}", device.busid)),
        }
    }

    /// What is remembered of a device goes before the policy: held by what it is for, whoever finds rules.
    fn check_remembered(&mut self, device: &Device, target: Option<&GuestName>) {
        let devices = [(device.busid.clone(), device.clone())].into();
        let candidate = policy::Candidate::new(device, &devices, None);
        let says = self.policy.matching(&candidate).next().map(|rule| rule.action().clone());
        let is_so = match (&says, target) {
            (Some(policy::Action::Attach(targets)), Some(name)) => {
                matches!(targets.as_slice(), [one] if one.to_string() == name.as_str())
            }
            (Some(policy::Action::Keep), None) => true,
            _ => false,
        };
        if !is_so {
            self.violate(
                0,
                format!("{} is remembered, and the policy says {says:?}", device.busid),
            );
        }
    }

    /// What is released is forgotten first.
    pub(super) fn may_forget(&mut self, request: &Request) {
        if request.wanted != Wanted::Release {
            return;
        }
        let Some(machine) = self.agent.as_ref().map(|agent| &agent.machine) else { return };
        let (observed, policy) = (machine.observed(), machine.policy());
        let scene = Scene { observed, policy, departing: &BTreeSet::new() };
        let planned = orders::plan(request, &scene).ok();
        let device = planned.and_then(|planned| observed.devices.get(&planned.busid)).cloned();
        let (Some(device), Some(text)) = (device, &self.remembered) else { return };
        match policy::forget(source(text), &device) {
            Ok(None) => {}
            Ok(Some(text)) => {
                self.tell(|| format!("the rule of {} is forgotten", device.busid));
                self.remembered = Some(text);
                self.read_policies();
            }
            Err(error) => self.violate(0, format!("the rule of {}: {error}", device.busid)),
        }
    }

    /// The policy and what is remembered, put together as from files.
    pub(super) fn read_policies(&mut self) {
        let first = match self.remembered.as_deref().map(|text| policy::compile_rules(source(text)))
        {
            None => Policy::default(),
            Some(Ok(first)) => first,
            Some(Err(problems)) => {
                return self.violate(0, format!("what is remembered cannot be read: {problems}"));
            }
        };
        self.policy = Arc::new(first.before((*self.main).clone()));
        // What was left may have to be cleared from now on.
        self.stale.clear();
        if self.agent.is_some() {
            self.input(Input::Policy(Arc::clone(&self.policy)));
        }
    }
}

fn source(text: &str) -> Source<'_> {
    Source { name: NAME, bytes: text.as_bytes() }
}
