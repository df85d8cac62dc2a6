//! What a person asks for by hand: whether it can be, and the step that notes it.
//!
//! An order is noted, and that is all. From then on [`super::desired`] heeds it, so it passes the
//! same steps, the same order of them and the same interlock as what the policy wants.

use super::interlock::{Refusal, Scene, may_leave};
use super::naming::{self, Called, NameFault};
use super::next::{Home, home};
use super::step::{Cause, Step};
use crate::model::{
    BusAddress, BusId, Device, DeviceName, GuestName, Note, Observed, Order, Override, Place, Text,
    XenView,
};
use std::fmt;

/// What a person asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The device that it is about.
    pub device: DeviceName,
    /// What is to be.
    pub wanted: Wanted,
    /// Whether a soft [`Refusal`] is waived for this plug of the device.
    pub force: bool,
}

/// What is to be with a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// It goes to this domain: a name, a number or a UUID.
    Attach(Box<str>),
    /// It goes to dom0 and stays there until it is plugged again.
    Detach,
    /// It stays in dom0, also after it was plugged again.
    Hold,
    /// The policy decides again.
    Release,
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attach(domain) => write!(f, "attach to {}", Text::from(&**domain)),
            Self::Detach => f.write_str("detach"),
            Self::Hold => f.write_str("hold"),
            Self::Release => f.write_str("release"),
        }
    }
}

/// A request that can be met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The device.
    pub busid: BusId,
    /// What notes it; `None` when nothing has to be noted.
    pub step: Option<Step>,
    /// What would have refused it without `force`.
    pub waived: Option<Refusal>,
}

/// Why a request is not met. Each says what it is; [`Objection::advice`] says what helps, and
/// [`Objection::code`] is for programs.
#[derive(Debug, thiserror::Error)]
pub enum Objection {
    /// No such device is there.
    #[error("no device {0} is plugged")]
    NotPlugged(DeviceName),
    /// Several devices are called that.
    #[error("{name} is {} devices: {}", .candidates.len(), listed(.candidates))]
    Ambiguous {
        /// What was asked for.
        name: DeviceName,
        /// Who is called that.
        candidates: Vec<(BusId, BusAddress)>,
    },
    /// A number or UUID that no domain has.
    #[error("there is no domain {0}")]
    NoSuchDomain(Text),
    /// A name that no domain can have.
    #[error("{0} is not the name, number or UUID of a domain")]
    BadDomain(Text),
    /// dom0 as the domain to attach to.
    #[error("a device is not attached to dom0: it is there when it is in no domain")]
    AttachToDom0,
    /// Somebody else put it where it is.
    #[error("{busid} was attached by somebody else: {place}")]
    AttachedByOthers {
        /// The device.
        busid: BusId,
        /// Where it is.
        place: Place,
    },
    /// The interlock refuses.
    #[error("{0} stays in dom0: {1}")]
    Refused(BusId, Refusal),
    /// Nothing can be noted or done now.
    #[error("the agent has no connection to xenstore")]
    XenstoreLost,
    /// The connection was lost just then.
    #[error("the connection to xenstore was lost: whether the order was noted is not known")]
    Unknown,
    /// The agent is ending.
    #[error("the agent is ending")]
    Leaving,
    /// Somebody gave another order.
    #[error("another order about {0} came in between")]
    Superseded(BusId),
    /// It was pulled before it came to rest.
    #[error("{0} was unplugged in between")]
    Unplugged(BusId),
    /// The order could not be noted.
    #[error("the order could not be noted: {0}")]
    Failed(Cause),
}

impl Objection {
    /// A word for programs; it never changes.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotPlugged(_) => "not-plugged",
            Self::Ambiguous { .. } => "ambiguous",
            Self::NoSuchDomain(_) => "no-such-domain",
            Self::BadDomain(_) | Self::AttachToDom0 => "bad-domain",
            Self::AttachedByOthers { .. } => "attached-by-others",
            Self::Refused(..) => "refused",
            Self::XenstoreLost | Self::Unknown => "xenstore-lost",
            Self::Leaving => "ending",
            Self::Superseded(_) => "superseded",
            Self::Unplugged(_) => "unplugged",
            Self::Failed(_) => "failed",
        }
    }

    /// What helps.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::NotPlugged(_) => "`pvusb-agent devices` lists what is plugged",
            Self::Ambiguous { .. } => "name one of them by its busid",
            Self::NoSuchDomain(_) => {
                "`xl list` lists the domains; one that does not run yet is called by its name"
            }
            Self::BadDomain(_) => "`xl list` lists the domains",
            Self::AttachToDom0 => "use `detach` or `hold`",
            Self::AttachedByOthers { .. } => {
                "what was attached with xl is left alone; take it out with `xl usbdev-detach` first"
            }
            Self::Refused(_, refusal) if refusal.is_hard() => refusal.advice(),
            Self::Refused(..) => "a person may override this with --force",
            Self::XenstoreLost => "is xenstored running? the agent tries again by itself",
            Self::Unknown => "ask again",
            Self::Leaving => "ask again when it runs",
            Self::Superseded(_) => "the later order holds",
            Self::Unplugged(_) => "give the order again when it is plugged",
            Self::Failed(_) => "the journal says more",
        }
    }
}

/// What `request` comes to, as things are now.
///
/// # Errors
///
/// When it cannot be met.
pub fn plan(request: &Request, scene: &Scene<'_>) -> Result<Planned, Objection> {
    let observed = scene.observed;
    let busid = resolve(request, observed)?;
    let xen = &observed.xen;
    let Some(device) = observed.devices.get(&busid) else {
        // Only a release finds what is not plugged.
        let step = xen.overrides.contains_key(&busid).then(|| note(&busid, None, None));
        return Ok(Planned { busid, step, waived: None });
    };
    let order = match &request.wanted {
        Wanted::Attach(domain) => Some(Order::Attach(guest_named(domain, xen)?)),
        Wanted::Detach => Some(Order::Stay),
        Wanted::Hold => Some(Order::Hold),
        Wanted::Release => None,
    };
    let by_others = xen.places_of(&busid).find(|place| !xen.is_ours(&busid, *place));
    if let Some(place) = by_others.filter(|_| order.is_some()) {
        return Err(Objection::AttachedByOthers { busid, place });
    }
    // One that is in a domain is not dom0's to lose.
    let is_outside = xen.places_of(&busid).next().is_some();
    let waived = match (&order, if is_outside { Ok(()) } else { may_leave(device, scene) }) {
        (Some(Order::Attach(_)), Err(refusal)) if request.force && !refusal.is_hard() => {
            Some(refusal)
        }
        (Some(Order::Attach(_)), Err(refusal)) => {
            return Err(Objection::Refused(busid, refusal));
        }
        (Some(Order::Attach(_) | Order::Stay | Order::Hold) | None, _) => None,
    };
    let said = order.map(|order| Override { plug: device.plug(), order, force: waived.is_some() });
    let taken_out = taken_out(device, xen);
    let changes = said.is_some() || taken_out.is_some() || xen.overrides.contains_key(&busid);
    let step = changes.then(|| note(&busid, said, taken_out.cloned()));
    Ok(Planned { busid, step, waived })
}

fn note(busid: &BusId, said: Option<Override>, taken_out: Option<Note>) -> Step {
    Step::NoteOrder { busid: busid.clone(), said, taken_out }
}

/// The one device that is meant.
fn resolve(request: &Request, observed: &Observed) -> Result<BusId, Objection> {
    let name = &request.device;
    let mut found: Vec<(BusId, BusAddress)> = observed
        .devices
        .values()
        .filter(|device| name.is_of(device))
        .map(|device| (device.busid.clone(), device.address))
        .collect();
    if found.is_empty() && request.wanted == Wanted::Release {
        let held = observed.xen.overrides.iter().filter(|(busid, said)| match name {
            DeviceName::At(name) => *busid == name,
            DeviceName::Address(_) => false,
            DeviceName::Id(id) => said.plug.id == *id,
        });
        found = held.map(|(busid, said)| (busid.clone(), said.plug.address)).collect();
    }
    match found.as_slice() {
        [] => Err(Objection::NotPlugged(name.clone())),
        [(busid, _)] => Ok(busid.clone()),
        [..] => Err(Objection::Ambiguous { name: name.clone(), candidates: found }),
    }
}

/// The name of the domain that is meant. One that does not run can be called by its name.
fn guest_named(text: &str, xen: &XenView) -> Result<GuestName, Objection> {
    match naming::called(text, xen) {
        Ok(Called::Guest(guest)) => Ok(guest.name.clone()),
        Ok(Called::Name(name)) => Ok(name),
        Err(NameFault::NoSuchDomain(text)) => Err(Objection::NoSuchDomain(text)),
        Err(NameFault::BadDomain(text)) => Err(Objection::BadDomain(text)),
        Err(NameFault::Dom0) => Err(Objection::AttachToDom0),
    }
}

/// The note of a device that somebody took out of the agent's port: an order ends that.
fn taken_out<'a>(device: &Device, xen: &'a XenView) -> Option<&'a Note> {
    let note = xen.notes.get(&device.busid).filter(|note| note.plug == device.plug())?;
    match home(&device.busid, note, xen) {
        Home::TakenOut(_) => Some(note),
        Home::Held { .. } | Home::Abandoned(_) | Home::None => None,
    }
}

fn listed(candidates: &[(BusId, BusAddress)]) -> String {
    let shown = candidates.iter().map(|(busid, address)| format!("{busid} ({address})"));
    shown.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
