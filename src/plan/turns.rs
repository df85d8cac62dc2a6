//! Whose turn it is to take a device: how long each domain of a rule's list may take before the next one
//! is tried (`wait: {attach: 60s}`).
//!
//! The turn of a domain that does not run begins when the device could go there if it ran; that of one
//! that runs, when the device is to go there. Every turn ends when a domain has the device and is
//! connected. One whose time is over is passed over until it could take the device at once: then it has
//! another turn. Only these moments are remembered ([`Since`](super::Since)): an agent that starts anew
//! counts anew.

use super::interlock::guard;
use super::next::{Home, Moment, home, settled_at, without_usbback};
use super::ports::{self, Choice, ControllerOutlook};
use super::trail::followed;
use crate::model::{BusId, Device, DomId, Guest, GuestUuid, Life, Plug, XenView};
use crate::policy::{Action, Candidate, GuestPattern, Rule, RuleName, Target, TargetWish};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The turns that have begun of the domains of a list, for one plug of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turns {
    plug: Plug,
    /// By their place in the list.
    begun: BTreeMap<usize, Turn>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Turn {
    /// The domain, as the list calls it.
    target: GuestPattern,
    /// The domain that was there; `None`: none was.
    guest: Option<(DomId, GuestUuid)>,
    since: Instant,
    /// Whether it was passed over.
    is_over: bool,
}

/// The turns as they are from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// All of them.
    pub turns: Turns,
    /// Those of the list that are passed over from now on.
    pub passed_over: Vec<PassedOver>,
    /// When there is something to count again.
    pub until: Option<Instant>,
}

/// A domain that has not taken a device in its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// The domain, as the list calls it.
    pub target: GuestPattern,
    /// How long it had.
    pub patience: Duration,
    /// The rule.
    pub rule: RuleName,
}

/// Who of a list has the turn.
pub(super) enum Turned<'a> {
    /// This domain.
    In(&'a Guest, TargetWish),
    /// One that does not run, until then.
    Awaits(&'a GuestPattern, Instant),
    /// Nobody any more.
    Nobody,
}

impl Turns {
    /// Of this plug, with none begun.
    pub fn new(plug: Plug) -> Self {
        Self { plug, begun: BTreeMap::new() }
    }

    /// Whether they are those of `device`, as it is plugged now.
    pub fn are_of(&self, device: Option<&Device>) -> bool {
        device.is_some_and(|device| self.plug.may_become(&device.plug()))
    }

    /// When the turn of a target began, if it has, and is still that of `guest`.
    fn since(&self, at: usize, target: &Target, guest: Option<&Guest>) -> Option<Instant> {
        let turn = self.begun.get(&at).filter(|turn| turn.is_of(target, guest));
        turn.map(|turn| turn.since)
    }

    fn begin(&mut self, at: usize, target: &Target, guest: Option<&Guest>, now: Instant) {
        let guest = guest.map(who);
        let target = target.guest.clone();
        self.begun.insert(at, Turn { target, guest, since: now, is_over: false });
    }
}

impl Turn {
    fn is_of(&self, target: &Target, guest: Option<&Guest>) -> bool {
        self.target == target.guest && self.guest == guest.map(who)
    }
}

fn who(guest: &Guest) -> (DomId, GuestUuid) {
    (guest.domid, guest.uuid)
}

/// Who of `targets` has the turn to take `device`, which is in none of them.
pub(super) fn whose<'a>(
    device: &Device,
    targets: &'a [Target],
    patience: Duration,
    (xen, moment): (&'a XenView, &Moment<'_>),
) -> Turned<'a> {
    let turns = remembered(device, moment);
    for (at, target) in targets.iter().enumerate() {
        let guest = target.guest.find(xen);
        let since = turns.and_then(|turns| turns.since(at, target, guest)).unwrap_or(moment.now);
        let until = since + patience;
        match guest {
            None if moment.now < until => return Turned::Awaits(&target.guest, until),
            Some(guest) if moment.barred.contains_key(&guest.domid) => {}
            Some(guest) if moment.now < until || takes(device, guest, target.wish, moment) => {
                return Turned::In(guest, target.wish);
            }
            Some(_) | None => {}
        }
    }
    Turned::Nobody
}

/// Whether a turn has begun for `device`. None has for one that waits for something else than a domain.
pub(super) fn has_begun(device: &Device, moment: &Moment<'_>) -> bool {
    remembered(device, moment).is_some_and(|turns| !turns.begun.is_empty())
}

/// Whether the turn of `guest`, which has the device and is not connected to it yet, is over.
pub(super) fn is_over(
    device: &Device,
    guest: &Guest,
    patience: Duration,
    moment: &Moment<'_>,
) -> bool {
    let turns = remembered(device, moment).into_iter().flat_map(|turns| turns.begun.values());
    let mut of_guest = turns.filter(|turn| turn.guest == Some(who(guest)));
    of_guest.any(|turn| moment.now >= turn.since + patience)
}

/// Counts on. `None` when nothing is to be counted: the device is where it should be, or no domain is in
/// its way.
pub fn count(busid: &BusId, moment: &Moment<'_>) -> Option<Counted> {
    let device = moment.observed.devices.get(busid)?;
    let (rule, targets, patience) = counted_rule(device, moment)?;
    let mut turns = remembered(device, moment).cloned().unwrap_or(Turns::new(device.plug()));
    turns.plug = device.plug();
    match stage(device, moment) {
        Stage::Settled => return None,
        Stage::Leaving => {}
        // It has had its turn. If usbback refuses the device, the others need not have theirs anew.
        Stage::Taken(guest) => turns.begun.retain(|_, turn| turn.guest != Some(who(guest))),
        Stage::Connecting(guest) => {
            let of_guest = |(_, target): &(usize, &Target)| target.guest.matches(guest);
            if let Some((at, target)) = targets.iter().enumerate().find(of_guest)
                && turns.since(at, target, Some(guest)).is_none()
            {
                turns.begin(at, target, Some(guest), moment.now);
            }
        }
        Stage::Free => match free_to_go(device, rule, moment) {
            Ok(()) => begin_turns(&mut turns, device, (targets, patience), moment),
            // It waits for something else than a domain.
            Err(until) => {
                let turns = Turns::new(device.plug());
                return Some(Counted { turns, passed_over: Vec::new(), until });
            }
        },
    }
    let passed_over = pass_over(&mut turns, device, (targets, patience), moment).into_iter();
    let passed_over = passed_over.map(|target| PassedOver { target, patience, rule: rule.told() });
    let passed_over = passed_over.collect();
    let ends = turns.begun.values().map(|turn| turn.since + patience);
    let until = ends.filter(|end| moment.now < *end).min();
    Some(Counted { turns, passed_over, until })
}

fn remembered<'m>(device: &Device, moment: &Moment<'m>) -> Option<&'m Turns> {
    moment.since.turns.get(&device.busid).filter(|turns| turns.are_of(Some(device)))
}

/// Whether `guest` could have the device at once.
pub(super) fn takes(device: &Device, guest: &Guest, wish: TargetWish, moment: &Moment<'_>) -> bool {
    guest.life == Life::Running
        && matches!(
            ports::choose(device, guest, wish, moment),
            Choice::Take { .. } | Choice::Create { .. } | Choice::AwaitRest(_)
        )
}

/// The rule that decides about a device, if it gives its domains so long and no longer.
fn counted_rule<'m>(
    device: &Device,
    moment: &Moment<'m>,
) -> Option<(&'m Rule, &'m [Target], Duration)> {
    let xen = &moment.observed.xen;
    if moment.leaving || device.is_hub() || xen.override_of(device).is_some() {
        return None;
    }
    if followed(device, moment.policy, moment.observed, Some(moment.since)).is_some() {
        return None;
    }
    let rule = moment.policy.judge_beside(&Candidate::of(device, moment.observed), xen)?;
    let Action::Attach(targets) = rule.action() else { return None };
    Some((rule, targets, rule.patience()?))
}

/// How far a device is.
enum Stage<'m> {
    /// In no port, and nothing is noted of it.
    Free,
    /// In a port of a domain that is not connected yet.
    Connecting(&'m Guest),
    /// In a port of a domain that is connected, and usbback has yet to take it.
    Taken(&'m Guest),
    /// On its way from one place to the next.
    Leaving,
    /// In a domain, or left alone.
    Settled,
}

fn stage<'m>(device: &Device, moment: &Moment<'m>) -> Stage<'m> {
    let xen = &moment.observed.xen;
    let is_in_port = xen.places_of(&device.busid).next().is_some();
    let Some(note) = xen.notes.get(&device.busid) else {
        return if is_in_port { Stage::Settled } else { Stage::Free };
    };
    match home(&device.busid, note, xen) {
        _ if !note.plug.may_become(&device.plug()) => Stage::Settled,
        Home::Held { place, guest } => {
            let controller = guest.controllers.get(&place.controller);
            match controller.map(|it| ports::outlook(guest, place.controller, it, moment)) {
                Some(ControllerOutlook::Usable)
                    if !without_usbback(device, note.kind).is_empty()
                        && moment.since.whole.get(&device.busid) != Some(&note.plug) =>
                {
                    Stage::Taken(guest)
                }
                Some(ControllerOutlook::Usable | ControllerOutlook::Gone) | None => Stage::Settled,
                Some(
                    ControllerOutlook::Connecting { .. }
                    | ControllerOutlook::NotServed
                    | ControllerOutlook::WithoutFrontend,
                ) => Stage::Connecting(guest),
            }
        }
        Home::TakenOut(_) => Stage::Settled,
        Home::None if is_in_port => Stage::Settled,
        Home::Abandoned(_) | Home::None => Stage::Leaving,
    }
}

/// Whether a domain alone is what a device waits for. If not, until when, as far as that is known.
fn free_to_go(device: &Device, rule: &Rule, moment: &Moment<'_>) -> Result<(), Option<Instant>> {
    let is_held = ["usbfs", "usbback"].iter().any(|it| device.bound_to(it).next().is_some());
    // Nobody may claim it, whichever domain it is for.
    let is_outside = !moment.policy.quarantine() && device.unauthorized().next().is_some();
    if !device.is_ready() || is_held || is_outside || guard(device, &moment.scene()).is_err() {
        return Err(None);
    }
    let flapping = rule.limit().unwrap_or(moment.policy.flapping());
    let held_down = moment.since.held_down(&device.busid, flapping).map(|held| held.until);
    let until = held_down.into_iter().chain([settled_at(device, Some(rule), moment)]).max();
    if until.is_some_and(|until| moment.now < until) { Err(until) } else { Ok(()) }
}

/// Begins the turns of those that do not run, and of the first that does and is not passed over.
fn begin_turns(
    turns: &mut Turns,
    device: &Device,
    (targets, patience): (&[Target], Duration),
    moment: &Moment<'_>,
) {
    let (xen, now) = (&moment.observed.xen, moment.now);
    turns.begun.retain(|at, turn| {
        targets.get(*at).is_some_and(|target| turn.is_of(target, target.guest.find(xen)))
    });
    let mut is_open = true;
    for (at, target) in targets.iter().enumerate() {
        let guest = target.guest.find(xen);
        let since = turns.since(at, target, guest);
        let has_time = since.is_some_and(|since| now < since + patience);
        match guest {
            None if since.is_none() => {
                turns.begin(at, target, None, now);
                is_open = false;
            }
            None => is_open &= !has_time,
            Some(guest) if !is_open || moment.barred.contains_key(&guest.domid) => {}
            Some(_) if has_time => is_open = false,
            Some(guest) if since.is_none() || takes(device, guest, target.wish, moment) => {
                turns.begin(at, target, Some(guest), now);
                is_open = false;
            }
            Some(_) => {}
        }
    }
}

/// Marks those before the one that has the turn. Gives those that were not marked yet.
fn pass_over(
    turns: &mut Turns,
    device: &Device,
    (targets, patience): (&[Target], Duration),
    moment: &Moment<'_>,
) -> Vec<GuestPattern> {
    let mut passed = Vec::new();
    for (at, target) in targets.iter().enumerate() {
        let guest = target.guest.find(&moment.observed.xen);
        if guest.is_some_and(|guest| moment.barred.contains_key(&guest.domid)) {
            continue;
        }
        let Some(turn) = turns.begun.get_mut(&at).filter(|turn| turn.is_of(target, guest)) else {
            break;
        };
        let can_take = guest.is_some_and(|guest| takes(device, guest, target.wish, moment));
        if moment.now < turn.since + patience || can_take {
            break;
        }
        if !turn.is_over {
            turn.is_over = true;
            passed.push(target.guest.clone());
        }
    }
    passed
}

#[cfg(test)]
mod tests;
