//! Why a match holds or does not: for each condition what was asked and what was there.

use super::{Candidate, Condition, Group, Matcher};
use crate::model::{Device, Text};
use std::fmt::Display;

/// How a match was judged, condition by condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether all conditions hold.
    pub holds: bool,
    /// The conditions, in the order in which they were written.
    pub parts: Vec<Part>,
}

/// How one condition was judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The key under which it is written.
    pub key: &'static str,
    /// What is asked, as it is written.
    pub wanted: String,
    /// What was there. `None`: the device says nothing of the kind.
    pub found: Option<String>,
    /// Whether it holds.
    pub holds: bool,
    /// How the matches in it were judged, all of them.
    pub within: Vec<Within>,
}

/// How a match inside a condition was judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Within {
    /// Of what it was asked: `1-1` for a hub, `scanners` for a group, `1st` for a place in a list.
    pub of: String,
    /// The answer.
    pub verdict: Verdict,
}

impl Matcher {
    /// Judges as [`Self::matches`] does, and tells why.
    pub fn examine(&self, candidate: &Candidate<'_>) -> Verdict {
        let parts: Vec<_> = self.conditions.iter().map(|it| it.examine(candidate)).collect();
        Verdict { holds: parts.iter().all(|part| part.holds), parts }
    }
}

impl Condition {
    /// Judges as [`Self::holds`] does, and tells why.
    pub fn examine(&self, candidate: &Candidate<'_>) -> Part {
        Part {
            key: self.key(),
            wanted: self.to_string(),
            found: self.found(candidate),
            holds: self.holds(candidate),
            within: self.within(candidate),
        }
    }

    fn within(&self, candidate: &Candidate<'_>) -> Vec<Within> {
        let listed = |matchers: &[Matcher], of: &dyn Fn(usize) -> String| -> Vec<Within> {
            let each = matchers.iter().enumerate();
            each.map(|(at, it)| Within { of: of(at), verdict: it.examine(candidate) }).collect()
        };
        match self {
            Self::Not(matchers) | Self::Any(matchers) | Self::All(matchers) => {
                listed(matchers, &|at| format!("{}", at + 1))
            }
            Self::Device(groups) => groups
                .iter()
                .flat_map(|group: &std::sync::Arc<Group>| {
                    listed(group.matchers(), &|_| Text::from(group.name()).to_string())
                })
                .collect(),
            Self::Behind(matchers) => candidate
                .hubs()
                .flat_map(|hub| {
                    let of = hub.device().busid.to_string();
                    let each = matchers.iter();
                    each.map(move |it| Within { of: of.clone(), verdict: it.examine(&hub) })
                })
                .collect(),
            Self::Id(_)
            | Self::Port(_)
            | Self::BusAddress(_)
            | Self::Serial(_)
            | Self::Manufacturer(_)
            | Self::Product(_)
            | Self::Class(_)
            | Self::Interface(_)
            | Self::Category(_)
            | Self::Speed(_)
            | Self::UsbVersion(_)
            | Self::Removable(_)
            | Self::Driver(_)
            | Self::Udev(_) => Vec::new(),
        }
    }

    /// The value that the device has.
    fn found(&self, candidate: &Candidate<'_>) -> Option<String> {
        let device = candidate.device();
        let text = |text: &Option<Text>| text.as_ref().map(ToString::to_string);
        match self {
            Self::Id(_) => Some(device.id.to_string()),
            Self::Port(_) => Some(match &device.anchor {
                Some(anchor) => format!("{} ({anchor})", device.busid),
                None => device.busid.to_string(),
            }),
            Self::BusAddress(_) => Some(device.address.to_string()),
            Self::Serial(_) => text(&device.serial),
            Self::Manufacturer(_) => text(&device.manufacturer),
            Self::Product(_) => text(&device.product),
            Self::Class(_) => Some(device.class.to_string()),
            Self::Interface(_) => joined(device.interfaces.values().map(|it| it.class)),
            Self::Category(_) => joined(super::Category::of(device)),
            Self::Speed(_) => Some(device.speed.to_string()),
            Self::UsbVersion(_) => device.release.map(|release| release.to_string()),
            Self::Removable(_) => Some(device.removable.to_string()),
            Self::Driver(_) => joined(candidate.drivers().into_iter().map(Text::from)),
            Self::Udev(wanted) => joined(known_of(wanted, device).into_iter()),
            Self::Behind(_) => joined(candidate.hubs().map(|hub| hub.device().busid.clone())),
            Self::Device(_) | Self::Not(_) | Self::Any(_) | Self::All(_) => None,
        }
    }
}

/// What udev and sysfs say of what is asked for.
fn known_of(wanted: &super::UdevMatch, device: &Device) -> Vec<String> {
    let facts = &device.udev;
    let said = |name: &str, value: Option<&Text>| value.map(|value| format!("{name}={value}"));
    let properties =
        wanted.properties.iter().filter_map(|(name, _)| said(name, facts.properties.get(name)));
    let attributes =
        wanted.attributes.iter().filter_map(|(name, _)| said(name, facts.attributes.get(name)));
    let tags = (!wanted.tags.is_empty()).then(|| joined(facts.tags.iter())).flatten();
    properties.chain(attributes).chain(tags.map(|tags| format!("tags {tags}"))).collect()
}

/// `a, b`; `None` when there is nothing.
fn joined(values: impl Iterator<Item: Display>) -> Option<String> {
    let values: Vec<_> = values.map(|value| value.to_string()).collect();
    (!values.is_empty()).then(|| values.join(", "))
}
