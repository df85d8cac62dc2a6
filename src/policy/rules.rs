//! The rules of a policy, with an index: a device is held against those rules alone that could be about
//! it.
//!
//! A rule that asks for an id, a port, a bus address or a serial number, in so many words, can only
//! match a device that has one of those: it stands in the index under each of them. A rule that asks for
//! a name with wildcards stands there under four bytes in a row that the name must have. All other rules
//! are tried with every device. What comes out is what a plain scan would give
//! (`the_index_decides_as_the_plain_scan_does`).

use super::matcher::{Candidate, Condition, IdPattern, Matcher, PortPattern, TextPattern};
use super::rule::Rule;
use crate::model::{Anchor, BusAddress, BusId, Device};
use std::collections::BTreeMap;
use std::iter;

/// Rules in the order in which they are asked. Equal when they say the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    in_order: Vec<Rule>,
    /// The places of the rules that ask for one of a few facts, by each of these, in order.
    places: BTreeMap<Fact, Vec<usize>>,
    /// The places of all other rules, in order.
    rest: Vec<usize>,
}

/// Something that is known of a device, under which rules can be found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fact {
    Address(BusAddress),
    Serial(Box<str>),
    Id(u16, u16),
    At(BusId),
    AnchoredAt(Anchor),
    Below(BusId),
    AnchoredBelow(Anchor),
    Product(u16),
    Vendor(u16),
    Gram(Field, Gram),
}

/// A text that a device has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Field {
    Serial,
    Manufacturer,
    Product,
}

/// Bytes in a row of such a text.
type Gram = [u8; 4];

/// How many parts of one pattern are looked at, to find the rarest.
const MAX_GRAMS: usize = 64;

impl Rules {
    pub(super) fn new(rules: Vec<Rule>) -> Self {
        // A rule may ask for several things. It stands under the one that the fewest rules ask for.
        let asked: Vec<Vec<Vec<Fact>>> =
            rules.iter().map(|rule| choices(rule.matcher()).collect()).collect();
        let mut counts: BTreeMap<&Fact, usize> = BTreeMap::new();
        for fact in asked.iter().flatten().flatten() {
            *counts.entry(fact).or_default() += 1;
        }
        let crowd =
            |facts: &Vec<Fact>| -> usize { facts.iter().filter_map(|fact| counts.get(fact)).sum() };
        let chosen: Vec<Option<usize>> = asked
            .iter()
            .map(|choices| {
                let crowds = choices.iter().map(crowd).enumerate();
                crowds.min_by_key(|(_, crowd)| *crowd).map(|(choice, _)| choice)
            })
            .collect();

        let mut places: BTreeMap<Fact, Vec<usize>> = BTreeMap::new();
        let mut rest = Vec::new();
        for (place, (choices, chosen)) in asked.into_iter().zip(chosen).enumerate() {
            let Some(facts) = chosen.and_then(|chosen| choices.into_iter().nth(chosen)) else {
                rest.push(place);
                continue;
            };
            for fact in facts {
                places.entry(fact).or_default().push(place);
            }
        }
        Self { in_order: rules, places, rest }
    }

    /// Puts more rules after those that are there.
    pub(super) fn append(&mut self, more: Vec<Rule>) {
        let mut rules = std::mem::take(self).into_vec();
        rules.extend(more);
        *self = Self::new(rules);
    }

    pub(super) fn as_slice(&self) -> &[Rule] {
        &self.in_order
    }

    pub(super) fn into_vec(self) -> Vec<Rule> {
        self.in_order
    }

    /// The rules that match, in order.
    pub(super) fn matching(&self, candidate: &Candidate<'_>) -> impl Iterator<Item = &Rule> {
        let found = facts_of_device(candidate.device());
        let mut found: Vec<usize> =
            found.filter_map(|fact| self.places.get(&fact)).flatten().copied().collect();
        found.sort_unstable();
        found.dedup();
        let mut found = found.into_iter().peekable();
        let mut rest = self.rest.iter().copied().peekable();
        let places = iter::from_fn(move || match (found.peek(), rest.peek()) {
            (Some(one), Some(other)) if one > other => rest.next(),
            (None, _) => rest.next(),
            (Some(_), _) => found.next(),
        });
        places
            .filter_map(|place| self.in_order.get(place))
            .filter(|rule| rule.matcher().matches(candidate))
    }
}

impl PartialEq for Rules {
    fn eq(&self, other: &Self) -> bool {
        self.in_order == other.in_order
    }
}

impl Eq for Rules {}

/// For each condition that names facts, those of which every device that matches has one.
fn choices(matcher: &Matcher) -> impl Iterator<Item = Vec<Fact>> {
    matcher.conditions().iter().flat_map(|condition| {
        let parts = texts(condition).map(|(field, patterns)| parts(field, patterns));
        facts(condition).into_iter().chain(parts.unwrap_or_default())
    })
}

/// What a condition asks of a text of which a device has but one.
fn texts(condition: &Condition) -> Option<(Field, &[TextPattern])> {
    match condition {
        Condition::Serial(patterns) => Some((Field::Serial, patterns)),
        Condition::Manufacturer(patterns) => Some((Field::Manufacturer, patterns)),
        Condition::Product(patterns) => Some((Field::Product, patterns)),
        Condition::Id(_)
        | Condition::Port(_)
        | Condition::BusAddress(_)
        | Condition::Class(_)
        | Condition::Interface(_)
        | Condition::Category(_)
        | Condition::Speed(_)
        | Condition::UsbVersion(_)
        | Condition::Removable(_)
        | Condition::Driver(_)
        | Condition::Udev(_)
        | Condition::Behind(_)
        | Condition::Device(_)
        | Condition::Not(_)
        | Condition::Any(_)
        | Condition::All(_) => None,
    }
}

/// Of one pattern each part is a choice of its own: a text that matches has all of them. Of several, each
/// gives its last part, which tells more than the first where names are counted.
fn parts(field: Field, patterns: &[TextPattern]) -> Vec<Vec<Fact>> {
    if let [pattern] = patterns {
        let grams = pattern.pieces().flat_map(grams).take(MAX_GRAMS);
        return grams.map(|gram| vec![Fact::Gram(field, gram)]).collect();
    }
    let last = |pattern: &TextPattern| pattern.pieces().flat_map(grams).last();
    let all: Option<Vec<Fact>> =
        patterns.iter().map(|it| last(it).map(|gram| Fact::Gram(field, gram))).collect();
    all.into_iter().collect()
}

fn grams(text: &str) -> impl Iterator<Item = Gram> {
    text.as_bytes().windows(4).filter_map(|bytes| bytes.try_into().ok())
}

/// The most telling of these, if there is one.
fn facts_of_match(matcher: &Matcher) -> Option<Vec<Fact>> {
    choices(matcher).min_by_key(|facts| vagueness(facts))
}

/// The same of one condition.
fn facts(condition: &Condition) -> Option<Vec<Fact>> {
    match condition {
        Condition::Id(patterns) => patterns.iter().map(|pattern| fact_of_id(*pattern)).collect(),
        Condition::Port(patterns) => Some(patterns.iter().map(fact_of_port).collect()),
        Condition::BusAddress(addresses) => {
            Some(addresses.iter().map(|address| Fact::Address(*address)).collect())
        }
        Condition::Serial(patterns) => {
            patterns.iter().map(|it| it.literal().map(|text| Fact::Serial(text.into()))).collect()
        }
        Condition::Any(matchers) => all_facts(matchers.iter()),
        Condition::Device(groups) => all_facts(groups.iter().flat_map(|group| group.matchers())),
        Condition::All(matchers) => {
            matchers.iter().filter_map(facts_of_match).min_by_key(|facts| vagueness(facts))
        }
        Condition::Manufacturer(_)
        | Condition::Product(_)
        | Condition::Class(_)
        | Condition::Interface(_)
        | Condition::Category(_)
        | Condition::Speed(_)
        | Condition::UsbVersion(_)
        | Condition::Removable(_)
        | Condition::Driver(_)
        | Condition::Udev(_)
        | Condition::Behind(_)
        | Condition::Not(_) => None,
    }
}

/// The facts of all of these: one of the matches must hold.
fn all_facts<'a>(matchers: impl Iterator<Item = &'a Matcher>) -> Option<Vec<Fact>> {
    let facts: Option<Vec<_>> = matchers.map(facts_of_match).collect();
    facts.map(|facts| {
        let mut facts: Vec<_> = facts.into_iter().flatten().collect();
        facts.sort_unstable();
        facts.dedup();
        facts
    })
}

fn fact_of_id(pattern: IdPattern) -> Option<Fact> {
    match (pattern.vendor, pattern.product) {
        (Some(vendor), Some(product)) => Some(Fact::Id(vendor, product)),
        (Some(vendor), None) => Some(Fact::Vendor(vendor)),
        (None, Some(product)) => Some(Fact::Product(product)),
        (None, None) => None,
    }
}

fn fact_of_port(pattern: &PortPattern) -> Fact {
    match pattern.clone() {
        PortPattern::At(busid) => Fact::At(busid),
        PortPattern::Below(busid) => Fact::Below(busid),
        PortPattern::AnchoredAt(anchor) => Fact::AnchoredAt(anchor),
        PortPattern::AnchoredBelow(anchor) => Fact::AnchoredBelow(anchor),
    }
}

/// How many devices have one of these facts, roughly: by the vaguest of them, then by their number.
fn vagueness(facts: &[Fact]) -> (usize, usize) {
    let of_one = |fact: &Fact| match fact {
        Fact::Address(_) | Fact::Serial(_) | Fact::At(_) | Fact::AnchoredAt(_) => 0,
        Fact::Id(..) => 1,
        Fact::Below(_) | Fact::AnchoredBelow(_) | Fact::Product(_) | Fact::Gram(..) => 2,
        Fact::Vendor(_) => 3,
    };
    (facts.iter().map(of_one).max().unwrap_or(0), facts.len())
}

/// Everything that is known of a device and could be in the index.
fn facts_of_device(device: &Device) -> impl Iterator<Item = Fact> {
    let id = device.id;
    let own = [
        Fact::Address(device.address),
        Fact::Id(id.vendor, id.product),
        Fact::Vendor(id.vendor),
        Fact::Product(id.product),
        Fact::At(device.busid.clone()),
    ];
    let serial = device.serial.as_ref().map(|serial| Fact::Serial(serial.as_str().into()));
    let above = device.busid.hubs().map(Fact::Below);
    let anchored = device.anchor.iter().flat_map(|anchor| {
        iter::once(Fact::AnchoredAt(anchor.clone())).chain(anchor.hubs().map(Fact::AnchoredBelow))
    });
    let texts = [
        (Field::Serial, &device.serial),
        (Field::Manufacturer, &device.manufacturer),
        (Field::Product, &device.product),
    ];
    let parts = texts.into_iter().flat_map(|(field, text)| {
        let text = text.as_ref().map_or("", |text| text.as_str());
        grams(text).map(move |gram| Fact::Gram(field, gram))
    });
    own.into_iter().chain(serial).chain(above).chain(anchored).chain(parts)
}
