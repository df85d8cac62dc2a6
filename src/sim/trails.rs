//! Who follows whom in its place, and what is held for whom, counted once more.
//!
//! What is noted in the store is what counts, for the agent and for the oracle. Here it is held that it
//! is noted when a rule wants it and in no other case, that it is heeded, and that nothing is dropped
//! before its time. How late something is the agent counts from what it has seen, which may be later
//! than what has happened, never earlier.

use super::store::Hand;
use super::usb::{Micros, PlugNo, Socket};
use super::world::{World, micros};
use crate::model::{BusId, Life, Order, Place, Plug, Trail};
use crate::plan::{Claim, Step};
use crate::policy::{Action, Rule};
use std::time::Duration;

/// How much later than it has happened the agent may have seen something, whatever was slow or lost.
const LATE: Micros = 20_000_000;

/// What the world knows of the plug that a trail speaks of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wake {
    plug_no: Option<PlugNo>,
    /// When it was pulled.
    gone_at: Option<Micros>,
    /// Whether it was taken out of its port, by xl before or after that, or given back by the agent.
    is_out: bool,
}

impl World {
    /// A port was written for the agent, and what the claim says is kept.
    pub(super) fn leave_trail(&mut self, claim: &Claim) {
        let Claim { busid, trail, .. } = claim;
        let Some(trail) = trail else { return self.drop_trail(busid) };
        let wake = Wake { plug_no: self.usb.plug_no(busid), gone_at: None, is_out: false };
        self.store.trails.insert(busid.clone(), (**trail).clone());
        self.wakes.insert(busid.clone(), wake);
    }

    pub(super) fn drop_trail(&mut self, busid: &BusId) {
        self.store.trails.remove(busid);
        self.wakes.remove(busid);
    }

    /// A device is pulled.
    pub(super) fn may_vanish(&mut self, busid: &BusId, plug_no: PlugNo) {
        let now = self.now;
        if let Some(wake) = self.wakes.get_mut(busid).filter(|it| it.plug_no == Some(plug_no)) {
            wake.gone_at.get_or_insert(now);
        }
    }

    /// A port is emptied, by hand, because the domain ends, or because the agent gives the device back. What
    /// is pulled only then has not vanished from there.
    pub(super) fn ends_wake(&mut self, busid: &BusId, place: Place) {
        let is_there = self.store.trails.get(busid).is_some_and(|trail| trail.place == place);
        if let Some(wake) = self.wakes.get_mut(busid).filter(|_| is_there) {
            wake.is_out = true;
        }
    }

    /// The rule that left a trail, if it still leaves some.
    pub(super) fn rule_of(&self, trail: &Trail) -> Option<&Rule> {
        let mut rules = self.policy.rules().iter();
        rules.find(|rule| {
            rule.is_enabled() && rule.name() == Some(&trail.rule) && kept_for(rule).is_some()
        })
    }

    /// The rule that decides about a device because it was about the one before it, by what is noted. One
    /// that came too late is without a trail in the end.
    pub(super) fn followed(&self, socket: &Socket) -> Option<(&Rule, &Trail)> {
        let device = &socket.device;
        let trail = self.store.trails.get(&device.busid)?;
        let rule = self.rule_of(trail)?;
        let is_so = if trail.plug.may_become(&device.plug()) {
            trail.follows
        } else {
            trail.plug.id != device.id
        };
        let counts = rule.on_identity_change().is_some() && self.counts_now(rule.when());
        (is_so && counts && !socket.spec.hub()).then_some((rule, trail))
    }

    /// A port is about to be asked for: by which rule, and whether that is kept.
    pub(super) fn check_way(&mut self, claim: &Claim) {
        let Some(socket) = self.usb.sockets.get(&claim.busid) else { return };
        // What was decided about another plug comes to nothing.
        if socket.device.plug() != claim.plug {
            return;
        }
        let wrong = self.wrong_way(claim, socket).or_else(|| self.wrong_place(claim, socket));
        if let Some(what) = wrong {
            self.violate(0, what);
        }
    }

    fn wrong_way(&self, claim: &Claim, socket: &Socket) -> Option<String> {
        let Claim { busid, trail: left, .. } = claim;
        if self.said_of(&socket.device).is_some() {
            return left.is_some().then(|| format!("{busid} goes by order and leaves a trail"));
        }
        let follows = match self.follows(socket) {
            Follows::Surely => true,
            Follows::No => false,
            Follows::Perhaps => return None,
        };
        let rule = if follows { self.followed(socket)?.0 } else { self.surely_matching(socket)? };
        match left {
            None if kept_for(rule).is_some() => Some(format!("{busid} leaves no trail of {rule}")),
            Some(left) if rule.name() != Some(&left.rule) || kept_for(rule).is_none() => {
                let other = &left.rule;
                Some(format!("{busid} leaves a trail of {other}, and goes by {rule}"))
            }
            Some(left) if left.follows != follows => {
                Some(format!("{busid} says that it follows: {}, by {rule}", left.follows))
            }
            Some(_) | None => None,
        }
    }

    /// The domain that had the one before has the next one, and what is held is for nobody else. Whether who has
    /// come back could have its own place again is for the agent's eyes to say, so it is not asked for here.
    fn wrong_place(&self, claim: &Claim, socket: &Socket) -> Option<String> {
        let Claim { busid, place, .. } = claim;
        let other = self.store.trails.keys().find(|other| {
            *other != busid && self.held_for(other).is_some_and(|held| held == *place)
        });
        if let Some(other) = other {
            return Some(format!("{busid} goes to {place}, which is held for {other}"));
        }
        // A person says where it goes, whoever was there before it.
        if self.said_of(&socket.device).is_some() {
            return None;
        }
        let trail = self.store.trails.get(busid)?;
        let surely = matches!(self.follows(socket), Follows::Surely);
        let domain = self.store.domains.get(&trail.place.domid)?;
        let runs = domain.uuid == trail.uuid && domain.life() == Life::Running && domain.has_nodes;
        let Action::Attach(targets) = self.rule_of(trail)?.action() else { return None };
        let is_named = targets.iter().any(|it| it.guest.is_called(&domain.name, domain.uuid));
        // One that has refused the device, or failed, is passed over, and so is one of another name.
        let may_be_barred = socket.spec.refused || self.failed.contains(busid);
        let may_be_barred = may_be_barred || !self.knows_names();
        if !surely || !runs || !is_named || may_be_barred {
            return None;
        }
        if place.domid != trail.place.domid {
            return Some(format!(
                "{busid} goes to {place}, and the one before was at {}",
                trail.place
            ));
        }
        None
    }

    /// The place that is held for what was plugged here and is gone.
    fn held_for(&self, busid: &BusId) -> Option<Place> {
        let trail = self.store.trails.get(busid)?;
        let time = self.rule_of(trail)?.on_unplug().hold()?;
        let gone = self.wakes.get(busid)?.gone_at?;
        let domain = self.store.domains.get(&trail.place.domid)?;
        (self.now < gone + micros(time) && domain.uuid == trail.uuid).then_some(trail.place)
    }

    /// Whether it has surely come in time to have its place back.
    fn comes_back(&self, socket: &Socket) -> bool {
        let device = &socket.device;
        let Some(trail) = self.store.trails.get(&device.busid) else { return false };
        let Some(rule) = self.rule_of(trail) else { return false };
        let time = rule.on_unplug().hold();
        let is_same = self.surely_matching(socket).is_some_and(|it| it.name() == rule.name());
        !trail.plug.may_become(&device.plug())
            && trail.plug.id == device.id
            && is_same
            && time.is_some_and(|time| self.came_in_time(socket, time) == Some(true))
    }

    fn follows(&self, socket: &Socket) -> Follows {
        let Some((rule, trail)) = self.followed(socket) else {
            // A rule that counts for some domains may count for the agent and no longer for the world.
            let trail = self.store.trails.get(&socket.device.busid);
            let rule = trail.and_then(|trail| self.rule_of(trail));
            let is_sure = rule.is_none_or(|rule| is_always(rule) || trail.is_none());
            return if is_sure { Follows::No } else { Follows::Perhaps };
        };
        if !is_always(rule) {
            return Follows::Perhaps;
        }
        if trail.plug.may_become(&socket.device.plug()) {
            return Follows::Surely;
        }
        let time = rule.on_identity_change().unwrap_or_default();
        match self.came_in_time(socket, time) {
            Some(true) => Follows::Surely,
            Some(false) => Follows::No,
            None => Follows::Perhaps,
        }
    }

    /// Whether the agent must have seen it come within this time after the one before had gone; `None` if
    /// that is for its eyes to say.
    fn came_in_time(&self, socket: &Socket, time: Duration) -> Option<bool> {
        let busid = &socket.device.busid;
        let gone = self.wakes.get(busid)?.gone_at?;
        let seen = self.seen_at(busid, socket.device.plug())?;
        // An agent that starts anew counts anew.
        let started = self.agent.as_ref()?.started;
        if seen < gone + micros(time) {
            Some(true)
        } else if seen > gone.max(started) + micros(time) + LATE {
            Some(false)
        } else {
            None
        }
    }

    /// Whether the agent must know how each domain is called by now.
    pub(super) fn knows_names(&self) -> bool {
        self.renamed_at == 0 || self.now > self.renamed_at + LATE
    }

    /// When this agent has first read this plug.
    pub(super) fn seen_at(&self, busid: &BusId, plug: Plug) -> Option<Micros> {
        let (last, when) = self.seen_plugs.get(busid)?.last()?;
        last.may_become(&plug).then_some(*when)
    }

    /// A trail is about to be dropped.
    pub(super) fn check_drop(&mut self, step: &Step) {
        let Step::DropTrail { busid, trail } = step else { return };
        let is_leaving = self.agent.as_ref().is_some_and(super::agent::Agent::is_leaving);
        if is_leaving || self.store.trails.get(busid) != Some(trail) {
            return;
        }
        if let Some(what) = self.leads_somewhere(busid, trail) {
            self.violate(0, format!("the trail of {busid} is dropped, and {what}"));
        }
    }

    fn leads_somewhere(&self, busid: &BusId, trail: &Trail) -> Option<&'static str> {
        let rule = self.rule_of(trail)?;
        let wake = self.wakes.get(busid)?;
        // What a person has ordered about is followed by nobody.
        let is_ordered = self.store.overrides.get(busid).is_some_and(|said| match said.order {
            Order::Attach(_) | Order::Stay => said.plug.may_become(&trail.plug),
            Order::Hold => said.plug.id == trail.plug.id,
        });
        if is_ordered {
            return None;
        }
        let Some(gone) = wake.gone_at else {
            let is_put = self.store.tenants().any(|(place, tenant)| {
                tenant.busid == *busid
                    && place == trail.place
                    && tenant.by == Hand::Agent
                    && tenant.plug_no == wake.plug_no
                    && self.runs(place.domid)
            });
            let follows = trail.follows && rule.on_identity_change().is_some();
            return if is_put {
                Some("its device is in its port")
            } else if follows {
                Some("it is the rule of who is there")
            } else {
                None
            };
        };
        // What was taken out of its port did not vanish from there.
        // Where its domain has ended as well, which of the two came first is for the agent's eyes to say.
        let has_domain = self.store.domains.get(&trail.place.domid);
        let has_domain = has_domain.is_some_and(|domain| domain.uuid == trail.uuid);
        if self.now < gone + micros(kept_for(rule)?) && !wake.is_out && has_domain {
            return Some("its time is not over");
        }
        let socket = self.usb.sockets.get(busid)?;
        let waits = matches!(self.follows(socket), Follows::Surely) || self.comes_back(socket);
        (waits && !wake.is_out).then_some("its follower is there")
    }

    /// A trail in the end: of what is in its port or follows, or waited for by who is there.
    pub(super) fn judge_trails(&self, found: &mut Vec<String>) {
        for (busid, trail) in &self.store.trails {
            let Some(rule) = self.rule_of(trail) else {
                found.push(format!("a trail of {} is left at {busid}", trail.rule));
                continue;
            };
            let Some(socket) = self.usb.sockets.get(busid) else {
                found.push(format!("a trail is left at {busid}, where nothing is plugged"));
                continue;
            };
            let device = &socket.device;
            let leads = if trail.plug.may_become(&device.plug()) {
                let follows = trail.follows && rule.on_identity_change().is_some();
                let is_put = self.store.places_of(busid).any(|place| self.is_noted(busid, place));
                (is_put || follows) && self.said_of(device).is_none()
            } else {
                let is_back = trail.plug.id == device.id && rule.on_unplug().hold().is_some();
                self.followed(socket).is_some()
                    || (is_back && self.first_matching(socket).is_some_and(|it| it == rule))
            };
            if !leads {
                found.push(format!("the trail of {busid} leads nowhere: {}", trail.rule));
            }
        }
    }
}

enum Follows {
    Surely,
    Perhaps,
    No,
}

/// For how long something is kept of what a rule has attached, once it is gone.
fn kept_for(rule: &Rule) -> Option<Duration> {
    rule.on_identity_change().max(rule.on_unplug().hold())
}

pub(super) fn is_always(rule: &Rule) -> bool {
    rule.when().running.is_empty() && rule.when().absent.is_empty()
}
