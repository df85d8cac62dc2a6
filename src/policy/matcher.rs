//! Which devices a rule is about.
//!
//! Inside one match, every condition must hold (AND). The values of one condition are alternatives
//! (OR). Nothing else is implied.

mod candidate;
mod category;
mod class;
mod facts;
mod place;
mod text;
mod verdict;

pub use candidate::Candidate;
pub use category::Category;
pub use class::{ClassPattern, InterfaceSet};
pub use facts::{ReleasePattern, UdevMatch};
pub use place::{IdPattern, PatternError, PortPattern};
pub use text::{TextPattern, TextPatternError};
pub use verdict::{Part, Verdict, Within};

use crate::model::{BusAddress, Removable, Speed, Text};
use std::fmt::{self, Display};
use std::sync::Arc;

/// The conditions of one rule, or of one entry of `protect` or of a group. A device matches when every
/// one of them holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matcher {
    conditions: Vec<Condition>,
}

impl Matcher {
    /// The conditions hold together; `None` when there is none, because that would be a rule about
    /// every device.
    pub fn new(conditions: Vec<Condition>) -> Option<Self> {
        (!conditions.is_empty()).then_some(Self { conditions })
    }

    /// The conditions, in the order in which they were written; never empty.
    pub fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    /// Whether every condition holds for `candidate`.
    pub fn matches(&self, candidate: &Candidate<'_>) -> bool {
        self.conditions.iter().all(|condition| condition.holds(candidate))
    }
}

/// As it is written: `id: 05e0:*, port: 1-1.4`.
impl Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, condition) in self.conditions.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{}: {condition}", condition.key())?;
        }
        Ok(())
    }
}

/// A group of devices that has a name, so that several rules can be about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    name: Box<str>,
    matchers: Vec<Matcher>,
    cost: Cost,
}

impl Group {
    /// A group of the devices that one of these matches.
    pub fn new(name: &str, matchers: Vec<Matcher>) -> Self {
        let mut cost = Cost::of(&matchers);
        cost.depth += 1;
        Self { name: name.into(), matchers, cost }
    }

    /// Its name: one line of visible characters.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The matches of which one must hold.
    pub fn matchers(&self) -> &[Matcher] {
        &self.matchers
    }

    /// Whether `candidate` is one of the group.
    pub fn includes(&self, candidate: &Candidate<'_>) -> bool {
        any(&self.matchers, candidate)
    }
}

/// One thing that a rule asks of a device. Where there are several values, one of them must do; there
/// is always one. Shown as its value is written: `05e0:*`, `[05e0:*, 1050:*]`.
///
/// What a device does not say is never what is asked: one without a serial number matches no pattern of
/// serial numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// `id`: what it says it is.
    Id(Vec<IdPattern>),
    /// `port`: where it is plugged.
    Port(Vec<PortPattern>),
    /// `bus_address`: the address that it has since this plug.
    BusAddress(Vec<BusAddress>),
    /// `serial`: the serial number, from the device.
    Serial(Vec<TextPattern>),
    /// `manufacturer`: the manufacturer's name, from the device.
    Manufacturer(Vec<TextPattern>),
    /// `product`: the product's name, from the device.
    Product(Vec<TextPattern>),
    /// `class`: its own class.
    Class(Vec<ClassPattern>),
    /// `interface`: the classes of its interfaces.
    Interface(Box<InterfaceSet>),
    /// `category`: a kind of device.
    Category(Vec<Category>),
    /// `speed`: the speed at which it runs.
    Speed(Vec<Speed>),
    /// `usb_version`: the version of USB that it was made for.
    UsbVersion(Vec<ReleasePattern>),
    /// `removable`: whether it can be unplugged by hand.
    Removable(Vec<Removable>),
    /// `driver`: a driver that dom0 has for it, or had before it went to a domain.
    Driver(Vec<TextPattern>),
    /// `udev`: what udev and sysfs say of it.
    Udev(Box<UdevMatch>),
    /// `behind`: a hub on the way to it matches one of these.
    Behind(Vec<Matcher>),
    /// `device`: it is of one of these groups.
    Device(Vec<Arc<Group>>),
    /// `not`: it matches none of these.
    Not(Vec<Matcher>),
    /// `any`: it matches one of these.
    Any(Vec<Matcher>),
    /// `all`: it matches all of these.
    All(Vec<Matcher>),
}

impl Condition {
    /// The key under which it is written.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Id(_) => "id",
            Self::Port(_) => "port",
            Self::BusAddress(_) => "bus_address",
            Self::Serial(_) => "serial",
            Self::Manufacturer(_) => "manufacturer",
            Self::Product(_) => "product",
            Self::Class(_) => "class",
            Self::Interface(_) => "interface",
            Self::Category(_) => "category",
            Self::Speed(_) => "speed",
            Self::UsbVersion(_) => "usb_version",
            Self::Removable(_) => "removable",
            Self::Driver(_) => "driver",
            Self::Udev(_) => "udev",
            Self::Behind(_) => "behind",
            Self::Device(_) => "device",
            Self::Not(_) => "not",
            Self::Any(_) => "any",
            Self::All(_) => "all",
        }
    }

    /// The matches that are written in it; those of groups are written elsewhere.
    pub fn parts(&self) -> &[Matcher] {
        match self {
            Self::Behind(matchers)
            | Self::Not(matchers)
            | Self::Any(matchers)
            | Self::All(matchers) => matchers,
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
            | Self::Udev(_)
            | Self::Device(_) => &[],
        }
    }

    /// Whether it holds for `candidate`.
    pub fn holds(&self, candidate: &Candidate<'_>) -> bool {
        let device = candidate.device();
        match self {
            Self::Id(patterns) => patterns.iter().any(|pattern| pattern.matches(device.id)),
            Self::Port(patterns) => patterns.iter().any(|pattern| pattern.matches(device)),
            Self::BusAddress(addresses) => addresses.contains(&device.address),
            Self::Serial(patterns) => is_like(patterns, device.serial.as_ref()),
            Self::Manufacturer(patterns) => is_like(patterns, device.manufacturer.as_ref()),
            Self::Product(patterns) => is_like(patterns, device.product.as_ref()),
            Self::Class(patterns) => patterns.iter().any(|pattern| pattern.matches(device.class)),
            Self::Interface(set) => set.matches(device),
            Self::Category(categories) => categories.iter().any(|it| it.includes(device)),
            Self::Speed(speeds) => speeds.contains(&device.speed),
            Self::UsbVersion(patterns) => {
                device.release.is_some_and(|release| patterns.iter().any(|p| p.matches(release)))
            }
            Self::Removable(words) => words.contains(&device.removable),
            Self::Driver(patterns) => {
                let drivers = candidate.drivers();
                drivers.iter().any(|driver| patterns.iter().any(|pattern| pattern.matches(driver)))
            }
            Self::Udev(wanted) => wanted.matches(device),
            Self::Behind(matchers) => candidate.hubs().any(|hub| any(matchers, &hub)),
            Self::Device(groups) => groups.iter().any(|group| group.includes(candidate)),
            Self::Not(matchers) => !any(matchers, candidate),
            Self::Any(matchers) => any(matchers, candidate),
            Self::All(matchers) => matchers.iter().all(|matcher| matcher.matches(candidate)),
        }
    }
}

impl Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(values) => listed(f, values),
            Self::Port(values) => listed(f, values),
            Self::BusAddress(values) => listed(f, values),
            Self::Serial(values)
            | Self::Manufacturer(values)
            | Self::Product(values)
            | Self::Driver(values) => listed(f, values),
            Self::Class(values) => listed(f, values),
            Self::Interface(set) => {
                let parts: Vec<_> =
                    set.parts().into_iter().filter(|(_, list)| !list.is_empty()).collect();
                match parts.as_slice() {
                    [("any", patterns)] => listed(f, patterns),
                    parts => map(f, parts.iter().map(|(word, list)| (*word, *list))),
                }
            }
            Self::Category(values) => listed(f, values),
            Self::Speed(values) => listed(f, values),
            Self::UsbVersion(values) => listed(f, values),
            Self::Removable(values) => listed(f, values),
            Self::Udev(wanted) => udev(f, wanted),
            Self::Device(groups) => {
                listed(f, &groups.iter().map(|it| it.name()).collect::<Vec<_>>())
            }
            Self::Behind(matchers) | Self::Not(matchers) if matchers.len() == 1 => {
                write!(f, "{{{}}}", matchers[0])
            }
            Self::Behind(matchers)
            | Self::Not(matchers)
            | Self::Any(matchers)
            | Self::All(matchers) => {
                let maps: Vec<_> =
                    matchers.iter().map(|matcher| format!("{{{matcher}}}")).collect();
                write!(f, "[{}]", maps.join(", "))
            }
        }
    }
}

/// What it takes to judge a match. A few lines of groups that use groups could ask for more than any
/// machine has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cost {
    /// How many values are compared, at most.
    pub(super) values: usize,
    /// How many groups are in one another.
    pub(super) depth: usize,
}

impl Cost {
    /// What all of these take.
    pub(super) fn of(matchers: &[Matcher]) -> Self {
        let conditions = matchers.iter().flat_map(|matcher| &matcher.conditions);
        conditions.map(Condition::cost).fold(Self::default(), Self::and)
    }

    fn and(self, other: Self) -> Self {
        Self {
            values: self.values.saturating_add(other.values),
            depth: self.depth.max(other.depth),
        }
    }
}

impl Condition {
    /// How many values it compares itself, without the matches in it; one of these counts as one.
    pub(super) fn own_values(&self) -> usize {
        match self {
            Self::Device(groups) => groups.len(),
            Self::Behind(matchers)
            | Self::Not(matchers)
            | Self::Any(matchers)
            | Self::All(matchers) => matchers.len(),
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
            | Self::Udev(_) => self.cost().values,
        }
    }

    fn cost(&self) -> Cost {
        let values = match self {
            Self::Id(values) => values.len(),
            Self::Port(values) => values.len(),
            Self::BusAddress(values) => values.len(),
            Self::Serial(values)
            | Self::Manufacturer(values)
            | Self::Product(values)
            | Self::Driver(values) => values.len(),
            Self::Class(values) => values.len(),
            Self::Interface(set) => set.parts().iter().map(|(_, list)| list.len()).sum(),
            Self::Category(values) => values.len(),
            Self::Speed(values) => values.len(),
            Self::UsbVersion(values) => values.len(),
            Self::Removable(values) => values.len(),
            Self::Udev(wanted) => {
                let named = wanted.properties.iter().chain(&wanted.attributes);
                named.map(|(_, values)| values.len()).sum::<usize>() + wanted.tags.len()
            }
            Self::Device(groups) => {
                return groups.iter().map(|group| group.cost).fold(Cost::default(), Cost::and);
            }
            Self::Behind(matchers)
            | Self::Not(matchers)
            | Self::Any(matchers)
            | Self::All(matchers) => return Cost::of(matchers),
        };
        Cost { values, depth: 0 }
    }
}

fn any(matchers: &[Matcher], candidate: &Candidate<'_>) -> bool {
    matchers.iter().any(|matcher| matcher.matches(candidate))
}

fn is_like(patterns: &[TextPattern], text: Option<&Text>) -> bool {
    text.is_some_and(|text| patterns.iter().any(|pattern| pattern.matches(text.as_str())))
}

/// One value as it is, several as a list.
fn listed<T: Display>(f: &mut fmt::Formatter<'_>, values: &[T]) -> fmt::Result {
    match values {
        [one] => one.fmt(f),
        _ => write!(f, "[{}]", joined(values)),
    }
}

fn joined<T: Display>(values: &[T]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn map<'a, T: Display + 'a>(
    f: &mut fmt::Formatter<'_>,
    pairs: impl Iterator<Item = (&'a str, &'a [T])>,
) -> fmt::Result {
    let pairs: Vec<_> = pairs.map(|(key, values)| pair(key, values)).collect();
    write!(f, "{{{}}}", pairs.join(", "))
}

fn pair<T: Display>(key: &str, values: &[T]) -> String {
    match values {
        [one] => format!("{key}: {one}"),
        _ => format!("{key}: [{}]", joined(values)),
    }
}

fn udev(f: &mut fmt::Formatter<'_>, wanted: &UdevMatch) -> fmt::Result {
    let named = |word: &str, pairs: &[(Box<str>, Vec<TextPattern>)]| {
        let pairs: Vec<_> = pairs.iter().map(|(name, values)| pair(name, values)).collect();
        (!pairs.is_empty()).then(|| format!("{word}: {{{}}}", pairs.join(", ")))
    };
    let tags = (!wanted.tags.is_empty()).then(|| pair("tag", &wanted.tags));
    let parts =
        [named("property", &wanted.properties), named("attribute", &wanted.attributes), tags];
    write!(f, "{{{}}}", parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_match_without_a_condition_is_none() {
        assert_eq!(Matcher::new(Vec::new()), None);
    }
}
