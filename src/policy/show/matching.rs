//! Matches and groups of devices as YAML: a single value alone, several as a list.

use crate::policy::matcher::{Condition, Group, Matcher, TextPattern};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use std::fmt::Display;
use std::sync::Arc;

/// The groups of devices as a map, in the order in which they were written.
pub(super) struct ShownGroups<'p>(pub(super) &'p [Arc<Group>]);

impl ShownGroups<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for ShownGroups<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let groups = self.0.iter();
        serializer.collect_map(groups.map(|group| (group.name(), matches(group.matchers()))))
    }
}

/// A match as a map, its keys in the order in which they were written.
pub(super) struct ShownMatch<'p>(pub(super) &'p Matcher);

impl Serialize for ShownMatch<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for condition in self.0.conditions() {
            map.serialize_key(condition.key())?;
            match condition {
                Condition::Id(values) => map.serialize_value(&texts(values))?,
                Condition::Port(values) => map.serialize_value(&texts(values))?,
                Condition::BusAddress(values) => map.serialize_value(&texts(values))?,
                Condition::Serial(values)
                | Condition::Manufacturer(values)
                | Condition::Product(values)
                | Condition::Driver(values) => map.serialize_value(&texts(values))?,
                Condition::Class(values) => map.serialize_value(&texts(values))?,
                Condition::Category(values) => map.serialize_value(&texts(values))?,
                Condition::Speed(values) => map.serialize_value(&texts(values))?,
                Condition::UsbVersion(values) => map.serialize_value(&texts(values))?,
                Condition::Removable(values) => map.serialize_value(&texts(values))?,
                Condition::Interface(set) => {
                    let parts = set.parts().into_iter().filter(|(_, list)| !list.is_empty());
                    let parts = parts.map(|(word, list)| (word, texts(list))).collect();
                    map.serialize_value(&Pairs(parts))?;
                }
                Condition::Udev(wanted) => map.serialize_value(&Udev {
                    property: named(&wanted.properties),
                    attribute: named(&wanted.attributes),
                    tag: (!wanted.tags.is_empty()).then(|| texts(&wanted.tags)),
                })?,
                Condition::Device(groups) => {
                    let names: Vec<_> = groups.iter().map(|group| group.name()).collect();
                    map.serialize_value(&texts(&names))?;
                }
                Condition::Behind(matchers) | Condition::Not(matchers) => {
                    map.serialize_value(&matches(matchers))?;
                }
                Condition::Any(matchers) | Condition::All(matchers) => {
                    map.serialize_value(&matchers.iter().map(ShownMatch).collect::<Vec<_>>())?;
                }
            }
        }
        map.end()
    }
}

/// One as it is, several as a list.
#[derive(Serialize)]
#[serde(untagged)]
enum OneOrMore<T> {
    One(T),
    More(Vec<T>),
}

impl<T> From<Vec<T>> for OneOrMore<T> {
    fn from(mut values: Vec<T>) -> Self {
        match values.pop() {
            Some(one) if values.is_empty() => Self::One(one),
            last => {
                values.extend(last);
                Self::More(values)
            }
        }
    }
}

fn texts<T: Display>(values: &[T]) -> OneOrMore<String> {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().into()
}

fn matches(matchers: &[Matcher]) -> OneOrMore<ShownMatch<'_>> {
    matchers.iter().map(ShownMatch).collect::<Vec<_>>().into()
}

#[derive(Serialize)]
struct Udev<'p> {
    #[serde(skip_serializing_if = "Option::is_none")]
    property: Option<Pairs<'p>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attribute: Option<Pairs<'p>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<OneOrMore<String>>,
}

/// A map in the order in which it was written.
struct Pairs<'p>(Vec<(&'p str, OneOrMore<String>)>);

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, values)| (name, values)))
    }
}

fn named(pairs: &[(Box<str>, Vec<TextPattern>)]) -> Option<Pairs<'_>> {
    let pairs: Vec<_> = pairs.iter().map(|(name, values)| (&**name, texts(values))).collect();
    (!pairs.is_empty()).then_some(Pairs(pairs))
}
