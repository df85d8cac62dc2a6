//! Where a device goes that follows another one in its place.
//!
//! A rule can say `on_identity_change: keep 30s`: whatever is plugged within that time where one of its
//! devices was, goes the same way, as with a firmware update or a change of mode; and `on_unplug: hold 30s`:
//! its place in the domain is held for that long, and the same device comes back to it. What was there, and
//! by which rule, is its [`Trail`] in xenstore. When it was seen to vanish is remembered
//! ([`Since`]): an agent that starts anew counts anew.

use super::next::{Home, Moment, Next, Outlook, home};
use super::since::Since;
use super::standing::Standing;
use super::step::Step;
use crate::model::{BusId, Device, Observed, Place, Trail};
use crate::policy::{Candidate, Policy, Rule};
use std::time::{Duration, Instant};

/// The rule by which `device` goes where the one before it went, if it follows one. It goes before all
/// others. Without `since`, whoever follows has come in time.
pub fn followed<'a>(
    device: &Device,
    policy: &'a Policy,
    observed: &Observed,
    since: Option<&Since>,
) -> Option<(&'a Rule, Trail)> {
    let trail = observed.xen.trails.get(&device.busid)?;
    let rule = rule_of(trail, policy)?;
    let time = rule.on_identity_change()?;
    if device.is_hub() || !rule.when().holds(&observed.xen) {
        return None;
    }
    let follows = if trail.plug.may_become(&device.plug()) {
        trail.follows
    } else {
        trail.plug.id != device.id && since.is_none_or(|since| is_in_time(device, time, since))
    };
    follows.then(|| (rule, trail.clone()))
}

/// The place that is held for `device`, which has come back to where it was and which `rule` gives to a
/// domain.
pub(super) fn held_for(
    device: &Device,
    rule: &Rule,
    observed: &Observed,
    since: Option<&Since>,
) -> Option<Trail> {
    let trail = observed.xen.trails.get(&device.busid)?;
    let time = rule.on_unplug().hold().filter(|_| rule.name() == Some(&trail.rule))?;
    let is_back = trail.plug.id == device.id
        && !trail.plug.may_become(&device.plug())
        && since.is_none_or(|since| is_in_time(device, time, since));
    is_back.then(|| trail.clone())
}

/// The places that are held for others than `device`.
pub(super) fn held_for_others(device: &Device, moment: &Moment<'_>) -> impl Iterator<Item = Place> {
    let xen = &moment.observed.xen;
    let others = xen.trails.iter().filter(|(busid, _)| **busid != device.busid);
    let held = others.filter(|(busid, trail)| {
        let time = rule_of(trail, moment.policy).and_then(|rule| rule.on_unplug().hold());
        let there = moment.observed.devices.get(*busid);
        let has_gone = !there.is_some_and(|there| trail.plug.may_become(&there.plug()));
        let vanished = moment.since.vanished.get(*busid).map_or(moment.now, |(_, when)| *when);
        let guest = xen.guests.get(&trail.place.domid);
        has_gone
            && time.is_some_and(|time| moment.now < vanished + time)
            && guest.is_some_and(|guest| guest.uuid == trail.uuid)
    });
    held.map(|(_, trail)| trail.place)
}

/// The rule that left the trail, if it still leaves some.
fn rule_of<'a>(trail: &Trail, policy: &'a Policy) -> Option<&'a Rule> {
    let mut rules = policy.rules().iter().filter(|rule| rule.is_enabled());
    let rule = rules.find(|rule| rule.name() == Some(&trail.rule))?;
    longest(rule).map(|_| rule)
}

/// For how long a rule's devices leave trails, once they are gone.
pub(super) fn longest(rule: &Rule) -> Option<Duration> {
    rule.on_identity_change().max(rule.on_unplug().hold())
}

/// Whether the device came within this time after the one before it had gone.
fn is_in_time(device: &Device, time: Duration, since: &Since) -> bool {
    let Some((_, vanished)) = since.vanished.get(&device.busid) else { return true };
    let plugs = since.plugs.get(&device.busid);
    let plugs = plugs.filter(|plugs| plugs.last.may_become(&device.plug()));
    let came = plugs.and_then(|plugs| plugs.seen.back());
    came.is_none_or(|came| *came < *vanished + time)
}

/// What becomes of a trail.
enum Fate<'m> {
    /// It stays.
    Stays,
    /// It waits for a follower until then.
    Waits(&'m Rule, Duration, Instant),
    /// It leads nowhere any more.
    Ends,
}

/// Drops a trail that leads nowhere any more, when nothing more pressing is to be done about its place, and
/// looks after one that waits.
pub(super) fn look_after(
    busid: &BusId,
    outlook: Option<Outlook>,
    moment: &Moment<'_>,
) -> Option<Outlook> {
    let Some(trail) = moment.observed.xen.trails.get(busid) else { return outlook };
    let next = outlook.as_ref().map(|outlook| &outlook.next);
    // A port that names what is gone comes first.
    if matches!(next, Some(Next::Run(Step::ClearPort { .. } | Step::ReleaseInterfaces { .. }))) {
        return outlook;
    }
    match fate(busid, trail, moment) {
        Fate::Stays => outlook,
        Fate::Ends => {
            let standing = outlook.map_or(Standing::Unplugged, |outlook| outlook.standing);
            let step = Step::DropTrail { busid: busid.clone(), trail: trail.clone() };
            Some(Outlook { standing, next: Next::Run(step) })
        }
        Fate::Waits(rule, time, until) => {
            let why = "a device that follows another";
            let Some(Outlook { standing, next }) = outlook else {
                let standing = Standing::WayKept { rule: rule.told(), time };
                return Some(Outlook { standing, next: Next::Until(until, why) });
            };
            let next = match next {
                Next::Rest => Next::Until(until, why),
                Next::Until(when, _) if until < when => Next::Until(until, why),
                Next::Until(..) | Next::Run(_) => next,
            };
            Some(Outlook { standing, next })
        }
    }
}

fn fate<'m>(busid: &BusId, trail: &Trail, moment: &Moment<'m>) -> Fate<'m> {
    let xen = &moment.observed.xen;
    let Some(rule) = rule_of(trail, moment.policy) else { return Fate::Ends };
    let time = longest(rule).unwrap_or_default();
    if moment.leaving {
        return Fate::Ends;
    }
    let device = moment.observed.devices.get(busid);
    let is_there = |device: &&Device| trail.plug.may_become(&device.plug());
    if let Some(device) = device.filter(is_there) {
        // Only from a domain does one vanish. A follower may have come back to dom0 for a while, and so it
        // looks when its domain ends: libxl empties the ports first.
        let is_put = xen.places_of(busid).any(|place| xen.is_ours(busid, place));
        let is_ordered = xen.override_of(device).is_some();
        let follows = trail.follows && rule.on_identity_change().is_some();
        return if !is_ordered && (is_put || follows) { Fate::Stays } else { Fate::Ends };
    }
    let note = xen.notes.get(busid).filter(|note| note.plug.may_become(&trail.plug));
    if note.is_some_and(|note| matches!(home(busid, note, xen), Home::TakenOut(_))) {
        return Fate::Ends;
    }
    let since = Some(moment.since);
    let has_come = |device: &Device| {
        let judged = Candidate::of(device, moment.observed);
        let judge = || moment.policy.judge_beside(&judged, xen);
        followed(device, moment.policy, moment.observed, since).is_some()
            || judge().is_some_and(|it| held_for(device, it, moment.observed, since).is_some())
    };
    if device.is_some_and(has_come) {
        return Fate::Stays;
    }
    let vanished = moment.since.vanished.get(busid).map_or(moment.now, |(_, when)| *when);
    let until = vanished + time;
    if moment.now < until { Fate::Waits(rule, time, until) } else { Fate::Ends }
}

#[cfg(test)]
mod tests;
