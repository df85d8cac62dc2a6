//! What a person asks for about controllers: whether one can be made or removed, and what must hold
//! when it is.
//!
//! The agent makes controllers by itself, for devices ([`super::ports`]). One that is made here is nobody's
//! but the person's: the agent uses it and never removes it.

use super::naming::{NameFault, guest_called};
use super::ports::{expect_served, next_id, settled};
use super::standing::Problem;
use crate::model::{
    BusId, ControllerFault, ControllerId, ControllerKind, ControllerSpec, DomId, Guest, GuestName,
    GuestUuid, Life, Observed, PortContent, PortNumber, Text, XenbusState,
};
use crate::policy::ControllerWish;
use std::collections::BTreeSet;
use std::fmt;

/// A controller that can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerWanted {
    /// The domain.
    pub domain: NamedDomain,
    /// The domain that must still have this number.
    pub uuid: GuestUuid,
    /// The number that it gets: one more than the highest in use.
    pub controller: ControllerId,
    /// What it is to be.
    pub spec: ControllerSpec,
    /// All controllers that the domain has: there must be no others.
    pub others: BTreeSet<ControllerId>,
}

impl ControllerWanted {
    /// The same once it was made, as long as nobody serves it.
    pub fn made(&self) -> ControllerFound {
        ControllerFound {
            domain: self.domain.clone(),
            uuid: self.uuid,
            controller: self.controller,
            kind: self.spec.kind,
            ports: self.spec.ports.up_to().collect(),
            is_served: false,
        }
    }
}

/// A controller that can be removed: no port of it names a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerFound {
    /// The domain.
    pub domain: NamedDomain,
    /// The domain that must still have this number.
    pub uuid: GuestUuid,
    /// The controller.
    pub controller: ControllerId,
    /// Who serves it, or is to.
    pub kind: ControllerKind,
    /// Its ports; all must still be empty.
    pub ports: Vec<PortNumber>,
    /// Whether its backend has taken notice of it, so that it must be told of the end.
    pub is_served: bool,
}

/// A domain as it is told to whoever asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedDomain {
    /// Its name.
    pub name: GuestName,
    /// Its number.
    pub domid: DomId,
}

impl fmt::Display for NamedDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (domain {})", self.name, self.domid)
    }
}

/// Why a controller is not made, or not removed. Each says what it is; [`Denial::advice`] says what
/// helps, and [`Denial::code`] is for programs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// No domain is meant.
    #[error(transparent)]
    Name(#[from] NameFault),
    /// The toolstack is not done with the domain.
    #[error("{0} is still being built")]
    Building(NamedDomain),
    /// Only its nodes are there.
    #[error("{0} is gone, and its nodes were left behind")]
    Dead(NamedDomain),
    /// Nobody would serve a new controller, or nobody did.
    #[error("{0}")]
    Unserved(#[source] Problem),
    /// All numbers are used.
    #[error("{0} can have no further controller: numbers end at {last}", last = ControllerId::LAST)]
    NoFurther(NamedDomain),
    /// There is no such controller.
    #[error("{domain} has no controller {controller}")]
    NoSuchController {
        /// The domain.
        domain: NamedDomain,
        /// What was asked for.
        controller: ControllerId,
    },
    /// Its nodes are such that nothing can be said of its ports.
    #[error("controller {controller} of {domain} cannot be removed: {fault}")]
    Broken {
        /// The domain.
        domain: NamedDomain,
        /// The controller.
        controller: ControllerId,
        /// What is wrong with it.
        fault: ControllerFault,
    },
    /// It is an emulated one, which is driven through QMP.
    #[error(
        "controller {controller} of {domain} is an emulated one, which the agent does not touch"
    )]
    Emulated {
        /// The domain.
        domain: NamedDomain,
        /// The controller.
        controller: ControllerId,
    },
    /// A port of it names a device.
    #[error("controller {controller} of {domain} has {busid} in port {port}")]
    Occupied {
        /// The domain.
        domain: NamedDomain,
        /// The controller.
        controller: ControllerId,
        /// The first port that is in use.
        port: PortNumber,
        /// What is in it.
        busid: BusId,
    },
    /// In a port of it stands what is no device's name.
    #[error(
        "controller {controller} of {domain} has `{content}` in port {port}, which is no device"
    )]
    Strange {
        /// The domain.
        domain: NamedDomain,
        /// The controller.
        controller: ControllerId,
        /// The port.
        port: PortNumber,
        /// What stands there.
        content: Text,
    },
}

impl Denial {
    /// A word for programs; it never changes.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Name(NameFault::NoSuchDomain(_)) => "no-such-domain",
            Self::Name(NameFault::BadDomain(_) | NameFault::Dom0) => "bad-domain",
            Self::Building(_) => "domain-building",
            Self::Dead(_) => "domain-dead",
            Self::Unserved(_) => "not-served",
            Self::NoFurther(_) => "no-further-controller",
            Self::NoSuchController { .. } => "no-such-controller",
            Self::Broken { .. } => "broken",
            Self::Emulated { .. } => "emulated",
            Self::Occupied { .. } | Self::Strange { .. } => "in-use",
        }
    }

    /// What helps.
    pub fn advice(&self) -> String {
        match self {
            Self::Name(NameFault::NoSuchDomain(_) | NameFault::BadDomain(_)) => {
                "`pvusb-agent domains` lists the domains".to_owned()
            }
            Self::Name(NameFault::Dom0) => "name another domain".to_owned(),
            Self::Building(_) => {
                "ask again when it runs: a controller that is made before takes a \
                                  number that xl is about to use"
                    .to_owned()
            }
            Self::Dead(_) | Self::Broken { .. } => {
                "`pvusb-agent doctor` says what it does to the host, and what helps".to_owned()
            }
            Self::Unserved(Problem::NoUsbback) => {
                "ask for --type qusb, or load the usbback module".to_owned()
            }
            Self::Unserved(problem) => problem.advice().to_owned(),
            Self::NoFurther(_) => {
                "remove the last one, or make fewer with more ports in the domain's xl.cfg"
                    .to_owned()
            }
            Self::NoSuchController { domain, .. } => {
                format!("`pvusb-agent controller list {}` lists those that it has", domain.domid)
            }
            Self::Emulated { domain, controller } => {
                format!("use `xl usbctrl-detach {} {controller}`", domain.domid)
            }
            Self::Occupied { domain, controller, port, busid } => format!(
                "detach it first: `pvusb-agent detach {busid}`, or `xl usbdev-detach {} {controller} \
                 {port}` if it was attached with xl",
                domain.domid
            ),
            Self::Strange { .. } => {
                "`pvusb-agent doctor` names the node; empty it with xenstore-write".to_owned()
            }
        }
    }
}

/// The controller that a person wants in a domain.
///
/// # Errors
///
/// When it cannot be made.
pub fn wanted(
    domain: &str,
    wish: ControllerWish,
    observed: &Observed,
) -> Result<ControllerWanted, Denial> {
    let guest = running(domain, observed)?;
    let spec = settled(wish, guest, observed);
    expect_served(spec.kind, guest, observed).map_err(Denial::Unserved)?;
    Ok(ControllerWanted {
        domain: told(guest),
        uuid: guest.uuid,
        controller: next_id(guest).ok_or_else(|| Denial::NoFurther(told(guest)))?,
        spec,
        others: guest.controllers.keys().chain(guest.broken.keys()).copied().collect(),
    })
}

/// The controller that a person wants to be rid of, whoever made it. It need not be the last one: neither
/// libxl nor the agent fills the gap, since both count from the highest number on.
///
/// # Errors
///
/// When it must stay.
pub fn found(
    domain: &str,
    id: ControllerId,
    observed: &Observed,
) -> Result<ControllerFound, Denial> {
    let guest = running(domain, observed)?;
    let domain = told(guest);
    if let Some(fault) = guest.broken.get(&id) {
        return Err(Denial::Broken { domain, controller: id, fault: fault.clone() });
    }
    let Some(controller) = guest.controllers.get(&id) else {
        return Err(Denial::NoSuchController { domain, controller: id });
    };
    if controller.kind == ControllerKind::DeviceModel {
        return Err(Denial::Emulated { domain, controller: id });
    }
    for (port, content) in &controller.ports {
        let (port, content) = (*port, content.clone());
        match content {
            PortContent::Free => {}
            PortContent::Taken(busid) => {
                return Err(Denial::Occupied { domain, controller: id, port, busid });
            }
            PortContent::Strange(content) => {
                return Err(Denial::Strange { domain, controller: id, port, content });
            }
        }
    }
    Ok(ControllerFound {
        domain,
        uuid: guest.uuid,
        controller: id,
        kind: controller.kind,
        ports: controller.ports.keys().copied().collect(),
        is_served: controller.backend != XenbusState::Initialising,
    })
}

/// The domain that is meant, if it runs.
fn running<'a>(domain: &str, observed: &'a Observed) -> Result<&'a Guest, Denial> {
    let guest = guest_called(domain, &observed.xen)?;
    match guest.life {
        Life::Running => Ok(guest),
        Life::Building => Err(Denial::Building(told(guest))),
        Life::Dead => Err(Denial::Dead(told(guest))),
    }
}

fn told(guest: &Guest) -> NamedDomain {
    NamedDomain { name: guest.name.clone(), domid: guest.domid }
}

#[cfg(test)]
mod tests;
