//! What follows from a match: whether every device that it is about is one that another match is about,
//! and whether there can be such a device at all.
//!
//! An answer of "yes" is a proof; "no" may also mean that it was not found out. Nothing here looks at a
//! device (`a_rule_that_is_said_to_be_shadowed_is_never_reached` does).
#![expect(clippy::wildcard_enum_match_arm, reason = "what is not thought of proves nothing")]
#![expect(clippy::trivially_copy_pass_by_ref, reason = "lists of all kinds are compared alike")]

use crate::model::{BusAddress, Removable};
use crate::policy::matcher::{
    Category, ClassPattern, Condition, IdPattern, InterfaceSet, Matcher, PortPattern,
    ReleasePattern, TextPattern, UdevMatch,
};
use std::borrow::Cow;
use std::cell::Cell;

/// How deep one question may lead to others.
const MAX_DEPTH: u8 = 12;
/// Into how many cases a condition is split at most.
const MAX_CASES: usize = 64;

/// What is known of a device: all of these hold.
pub(super) type Known<'m> = Vec<Cow<'m, Condition>>;

/// How much may still be compared. When it is spent, every answer is "no".
pub(super) struct Budget(Cell<usize>);

impl Budget {
    pub(super) fn new(comparisons: usize) -> Self {
        Self(Cell::new(comparisons))
    }

    pub(super) fn is_spent(&self) -> bool {
        self.0.get() == 0
    }

    fn spend(&self, comparisons: usize) -> bool {
        self.0.set(self.0.get().saturating_sub(comparisons));
        !self.is_spent()
    }
}

/// What is known of a device that `matcher` is about.
pub(super) fn known(matcher: &Matcher) -> Known<'_> {
    let mut known = Known::new();
    add(&mut known, matcher);
    known
}

/// Takes in what `matcher` says. What holds without "or" is taken apart.
fn add<'m>(known: &mut Known<'m>, matcher: &'m Matcher) {
    for condition in matcher.conditions() {
        match condition {
            Condition::All(matchers) => matchers.iter().for_each(|matcher| add(known, matcher)),
            Condition::Any(matchers) if matchers.len() == 1 => add(known, &matchers[0]),
            Condition::Device(groups) if groups.len() == 1 && groups[0].matchers().len() == 1 => {
                add(known, &groups[0].matchers()[0]);
            }
            _ => known.push(Cow::Borrowed(condition)),
        }
    }
}

/// The cases that a condition leaves, each with what is known in it: one of them is so. None when it
/// leaves but one, or too many.
pub(super) fn cases<'m>(condition: &Cow<'m, Condition>) -> Vec<Known<'m>> {
    let cases = match condition {
        Cow::Borrowed(condition) => borrowed_cases(condition),
        // It was split before.
        Cow::Owned(_) => Vec::new(),
    };
    if (2..=MAX_CASES).contains(&cases.len()) { cases } else { Vec::new() }
}

fn borrowed_cases(condition: &Condition) -> Vec<Known<'_>> {
    fn each<T: Clone>(values: &[T], one: fn(Vec<T>) -> Condition) -> Vec<Known<'_>> {
        if values.len() > MAX_CASES {
            return Vec::new();
        }
        values.iter().map(|value| vec![Cow::Owned(one(vec![value.clone()]))]).collect()
    }
    match condition {
        Condition::Id(values) => each(values, Condition::Id),
        Condition::Port(values) => each(values, Condition::Port),
        Condition::BusAddress(values) => each(values, Condition::BusAddress),
        Condition::Serial(values) => each(values, Condition::Serial),
        Condition::Manufacturer(values) => each(values, Condition::Manufacturer),
        Condition::Product(values) => each(values, Condition::Product),
        Condition::Driver(values) => each(values, Condition::Driver),
        Condition::Class(values) => each(values, Condition::Class),
        Condition::Category(values) => each(values, Condition::Category),
        Condition::Speed(values) => each(values, Condition::Speed),
        Condition::UsbVersion(values) => each(values, Condition::UsbVersion),
        Condition::Removable(values) => each(values, Condition::Removable),
        Condition::Interface(set) if set.any.len() > 1 => {
            let rest = InterfaceSet { any: Vec::new(), ..(**set).clone() };
            let with = |pattern: &ClassPattern| {
                let set = InterfaceSet { any: vec![*pattern], ..rest.clone() };
                vec![Cow::Owned(Condition::Interface(set.into()))]
            };
            set.any.iter().take(MAX_CASES + 1).map(with).collect()
        }
        Condition::Any(matchers) => matchers.iter().take(MAX_CASES + 1).map(known).collect(),
        Condition::Device(groups) => {
            let matchers = groups.iter().flat_map(|group| group.matchers());
            matchers.take(MAX_CASES + 1).map(known).collect()
        }
        Condition::Interface(_)
        | Condition::Udev(_)
        | Condition::Behind(_)
        | Condition::Not(_)
        | Condition::All(_) => Vec::new(),
    }
}

/// The same with what is known in one case of the condition at `at`.
pub(super) fn in_case<'m>(known: &Known<'m>, at: usize, case: &Known<'m>) -> Known<'m> {
    let others = known.iter().enumerate().filter(|(other, _)| *other != at);
    others.map(|(_, condition)| condition.clone()).chain(case.iter().cloned()).collect()
}

/// Whether every device of which this is known is one that `matcher` is about.
pub(super) fn implies(known: &Known<'_>, matcher: &Matcher, budget: &Budget) -> bool {
    Asker { budget, depth: MAX_DEPTH }.implies_match(known, matcher)
}

/// Whether this holds for every device of which that is known.
pub(super) fn implies_condition(known: &Known<'_>, wanted: &Condition, budget: &Budget) -> bool {
    Asker { budget, depth: MAX_DEPTH }.implies(known, wanted)
}

/// Whether there can be no device of which this is known.
pub(super) fn is_contradictory(known: &Known<'_>, budget: &Budget) -> bool {
    Asker { budget, depth: MAX_DEPTH }.is_contradictory(known)
}

#[derive(Clone, Copy)]
struct Asker<'b> {
    budget: &'b Budget,
    depth: u8,
}

impl Asker<'_> {
    /// Who asks further questions, each of so many comparisons; `None` when that is enough.
    fn deeper(self, comparisons: usize) -> Option<Self> {
        let depth = self.depth.checked_sub(1)?;
        // A small one costs as much as the question itself.
        self.budget.spend(1 + comparisons / 16).then_some(Self { depth, ..self })
    }

    fn implies_match(self, known: &Known<'_>, matcher: &Matcher) -> bool {
        matcher.conditions().iter().all(|wanted| self.implies(known, wanted))
    }

    fn implies(self, known: &Known<'_>, wanted: &Condition) -> bool {
        let comparisons = size_of(known).saturating_mul(wanted.own_values());
        let Some(asker) = self.deeper(comparisons) else { return false };
        if is_always_so(wanted) || known.iter().any(|one| asker.one_implies(one, wanted)) {
            return true;
        }
        let structural = match wanted {
            Condition::Any(matchers) => matchers.iter().any(|it| asker.implies_match(known, it)),
            Condition::All(matchers) => matchers.iter().all(|it| asker.implies_match(known, it)),
            Condition::Not(matchers) => matchers.iter().all(|it| asker.excludes(known, it)),
            Condition::Device(groups) => groups
                .iter()
                .flat_map(|group| group.matchers())
                .any(|it| asker.implies_match(known, it)),
            Condition::Interface(set) => implies_interfaces(known, set),
            Condition::Udev(facts) => implies_facts(known, facts),
            Condition::Id(_)
            | Condition::Port(_)
            | Condition::BusAddress(_)
            | Condition::Serial(_)
            | Condition::Manufacturer(_)
            | Condition::Product(_)
            | Condition::Class(_)
            | Condition::Category(_)
            | Condition::Speed(_)
            | Condition::UsbVersion(_)
            | Condition::Removable(_)
            | Condition::Driver(_)
            | Condition::Behind(_) => false,
        };
        structural || asker.implies_in_every_case(known, wanted)
    }

    /// Of a condition that is an "or" of matches, each case is asked by itself.
    fn implies_in_every_case(self, known: &Known<'_>, wanted: &Condition) -> bool {
        known.iter().enumerate().filter(|(_, condition)| is_or(condition)).any(|(at, condition)| {
            let cases = cases(condition);
            !cases.is_empty()
                && cases.iter().all(|case| self.implies(&in_case(known, at, case), wanted))
        })
    }

    fn excludes(self, known: &Known<'_>, matcher: &Matcher) -> bool {
        let mut both = known.clone();
        add(&mut both, matcher);
        self.is_contradictory(&both)
    }

    fn is_contradictory(self, known: &Known<'_>) -> bool {
        let size = size_of(known);
        let Some(asker) = self.deeper(size.saturating_mul(size)) else { return false };
        known.iter().enumerate().any(|(at, one)| {
            known[at..].iter().any(|other| are_disjoint(one, other))
                || match &**one {
                    Condition::Not(matchers) => {
                        let others = in_case(known, at, &Known::new());
                        matchers.iter().any(|it| asker.implies_match(&others, it))
                    }
                    Condition::Behind(matchers) => {
                        matchers.iter().all(|it| asker.is_contradictory(&self::known(it)))
                    }
                    condition if is_or(condition) => {
                        let cases = cases(one);
                        !cases.is_empty()
                            && cases
                                .iter()
                                .all(|case| asker.is_contradictory(&in_case(known, at, case)))
                    }
                    _ => false,
                }
        })
    }

    /// Whether one condition alone is enough for another.
    fn one_implies(self, known: &Condition, wanted: &Condition) -> bool {
        use Condition as C;
        match (known, wanted) {
            (C::Id(a), C::Id(b)) => each_in(a, b, is_id_in),
            (C::Port(a), C::Port(b)) => each_in(a, b, is_port_in),
            (C::BusAddress(a), C::BusAddress(b)) => a.iter().all(|it| b.contains(it)),
            (C::Serial(a), C::Serial(b))
            | (C::Manufacturer(a), C::Manufacturer(b))
            | (C::Product(a), C::Product(b))
            | (C::Driver(a), C::Driver(b)) => are_texts_in(a, b),
            (C::Class(a), C::Class(b)) => each_in(a, b, is_class_in),
            (C::Class(a), C::Category(b)) => a.iter().all(|it| is_class_of(*it, b)),
            (C::Interface(a), C::Category(b)) => {
                let all_of = |list: &[ClassPattern]| {
                    !list.is_empty() && list.iter().all(|it| is_class_of(*it, b))
                };
                all_of(&a.any) || all_of(&a.only) || a.all.iter().any(|it| is_class_of(*it, b))
            }
            (C::Category(a), C::Category(b)) => a.iter().all(|it| is_category_in(*it, b)),
            (C::Speed(a), C::Speed(b)) => a.iter().all(|it| b.contains(it)),
            (C::UsbVersion(a), C::UsbVersion(b)) => each_in(a, b, is_release_in),
            (C::Removable(a), C::Removable(b)) => a.iter().all(|it| b.contains(it)),
            (C::Behind(a), C::Behind(b)) => a.iter().all(|one| {
                let of_hub = self::known(one);
                b.iter().any(|it| self.implies_match(&of_hub, it))
            }),
            (C::Device(a), C::Device(b)) => a.iter().all(|it| b.contains(it)),
            _ => false,
        }
    }
}

/// How many values there are to compare.
fn size_of(known: &Known<'_>) -> usize {
    known.iter().map(|condition| condition.own_values()).sum()
}

/// Whether a condition holds when one of several matches does.
fn is_or(condition: &Condition) -> bool {
    matches!(condition, Condition::Any(_) | Condition::Device(_))
}

/// Whether it holds for every device.
fn is_always_so(condition: &Condition) -> bool {
    match condition {
        Condition::Id(patterns) => {
            patterns.iter().any(|it| it.vendor.is_none() && it.product.is_none())
        }
        Condition::Removable(words) => Removable::ALL.iter().all(|it| words.contains(it)),
        _ => false,
    }
}

/// Whether no device can be both.
fn are_disjoint(one: &Condition, other: &Condition) -> bool {
    use Condition as C;
    match (one, other) {
        (C::Id(a), C::Id(b)) => none_with(a, b, |a, b| !are_ids_apart(*a, *b)),
        (C::Port(a), C::Port(b)) => none_with(a, b, |a, b| !are_ports_apart(a, b)),
        (C::BusAddress(a), C::BusAddress(b)) => none_with(a, b, |a, b| a == b),
        (C::Port(ports), C::BusAddress(addresses)) | (C::BusAddress(addresses), C::Port(ports)) => {
            none_with(ports, addresses, |port, address| !is_other_bus(port, *address))
        }
        (C::Serial(a), C::Serial(b))
        | (C::Manufacturer(a), C::Manufacturer(b))
        | (C::Product(a), C::Product(b)) => are_texts_apart(a, b),
        (C::Class(a), C::Class(b)) => none_with(a, b, |a, b| !are_classes_apart(*a, *b)),
        (C::Interface(a), C::Interface(b)) => {
            are_interfaces_apart(a, b) || are_interfaces_apart(b, a)
        }
        (C::Speed(a), C::Speed(b)) => none_with(a, b, |a, b| a == b),
        (C::UsbVersion(a), C::UsbVersion(b)) => {
            none_with(a, b, |a, b| is_release_in(a, b) || is_release_in(b, a))
        }
        (C::Removable(a), C::Removable(b)) => none_with(a, b, |a, b| a == b),
        (C::Udev(a), C::Udev(b)) => {
            let apart = |a: &[Named], b: &[Named]| {
                a.iter().any(|(name, x)| {
                    b.iter().any(|(other, y)| name == other && are_texts_apart(x, y))
                })
            };
            apart(&a.properties, &b.properties) || apart(&a.attributes, &b.attributes)
        }
        _ => false,
    }
}

type Named = (Box<str>, Vec<TextPattern>);

/// Whether each of `a` is in one of `b`.
fn each_in<T>(a: &[T], b: &[T], is_in: impl Fn(&T, &T) -> bool) -> bool {
    a.iter().all(|one| b.iter().any(|other| is_in(one, other)))
}

/// Whether no one of `a` can go with one of `b`.
fn none_with<A, B>(a: &[A], b: &[B], goes_with: impl Fn(&A, &B) -> bool) -> bool {
    !a.iter().any(|one| b.iter().any(|other| goes_with(one, other)))
}

fn is_id_in(a: &IdPattern, b: &IdPattern) -> bool {
    let half = |a: Option<u16>, b: Option<u16>| b.is_none() || a == b;
    half(a.vendor, b.vendor) && half(a.product, b.product)
}

fn are_ids_apart(a: IdPattern, b: IdPattern) -> bool {
    let half = |a: Option<u16>, b: Option<u16>| a.is_some() && b.is_some() && a != b;
    half(a.vendor, b.vendor) || half(a.product, b.product)
}

fn is_port_in(a: &PortPattern, b: &PortPattern) -> bool {
    use PortPattern::{AnchoredAt, AnchoredBelow, At, Below};
    match (a, b) {
        (At(a), At(b)) => a == b,
        (At(a), Below(b)) => a.is_below(b),
        (Below(a), Below(b)) => a == b || a.is_below(b),
        (AnchoredAt(a), AnchoredAt(b)) => a == b,
        (AnchoredAt(a), AnchoredBelow(b)) => a.is_below(b),
        (AnchoredBelow(a), AnchoredBelow(b)) => a == b || a.is_below(b),
        _ => false,
    }
}

fn are_ports_apart(a: &PortPattern, b: &PortPattern) -> bool {
    use PortPattern::{AnchoredAt, AnchoredBelow, At, Below};
    match (a, b) {
        (At(a), At(b)) => a != b,
        (At(a), Below(b)) | (Below(b), At(a)) => !a.is_below(b),
        (Below(a), Below(b)) => a != b && !a.is_below(b) && !b.is_below(a),
        (AnchoredAt(a), AnchoredAt(b)) => a != b,
        (AnchoredAt(a), AnchoredBelow(b)) | (AnchoredBelow(b), AnchoredAt(a)) => !a.is_below(b),
        (AnchoredBelow(a), AnchoredBelow(b)) => a != b && !a.is_below(b) && !b.is_below(a),
        // Which bus an anchor is on is known to the host alone.
        _ => false,
    }
}

/// The kernel numbers devices by bus, and names ports by it (`drivers/usb/core/usb.c: usb_alloc_dev`).
fn is_other_bus(port: &PortPattern, address: BusAddress) -> bool {
    match port {
        PortPattern::At(port) | PortPattern::Below(port) => port.bus() != address.bus,
        PortPattern::AnchoredAt(_) | PortPattern::AnchoredBelow(_) => false,
    }
}

fn is_class_in(a: &ClassPattern, b: &ClassPattern) -> bool {
    let part = |a: Option<u8>, b: Option<u8>| b.is_none() || a == b;
    part(a.class, b.class) && part(a.subclass, b.subclass) && part(a.protocol, b.protocol)
}

fn are_classes_apart(a: ClassPattern, b: ClassPattern) -> bool {
    let part = |a: Option<u8>, b: Option<u8>| a.is_some() && b.is_some() && a != b;
    part(a.class, b.class) || part(a.subclass, b.subclass) || part(a.protocol, b.protocol)
}

/// Whether a device that has such a class, or an interface of it, is of one of the categories.
fn is_class_of(class: ClassPattern, categories: &[Category]) -> bool {
    let mut triples = categories.iter().flat_map(|it| it.triples());
    triples.any(|triple| is_class_in(&class, triple))
}

fn is_category_in(one: Category, categories: &[Category]) -> bool {
    categories.contains(&one)
        || one.triples().iter().all(|triple| is_class_of(*triple, categories))
            && one
                .properties()
                .iter()
                .all(|name| categories.iter().any(|category| category.properties().contains(name)))
}

fn is_release_in(a: &ReleasePattern, b: &ReleasePattern) -> bool {
    a.major == b.major && (b.minor.is_none() || a.minor == b.minor)
}

/// Whether what is known of the interfaces is enough for all that is asked of them.
fn implies_interfaces(known: &Known<'_>, wanted: &InterfaceSet) -> bool {
    let sets = || {
        known.iter().filter_map(|condition| match &**condition {
            Condition::Interface(set) => Some(&**set),
            _ => None,
        })
    };
    // There is an interface that is in one of these.
    let has = |of: &[ClassPattern]| {
        let fits = |list: &[ClassPattern]| !list.is_empty() && each_in(list, of, is_class_in);
        sets().any(|set| {
            fits(&set.any)
                || fits(&set.only)
                || set.all.iter().any(|it| each_in(&[*it], of, is_class_in))
        })
    };
    let has_none = |pattern: &ClassPattern| {
        sets().any(|set| {
            set.none.iter().any(|it| is_class_in(pattern, it))
                || !set.only.is_empty()
                    && set.only.iter().all(|it| are_classes_apart(*it, *pattern))
        })
    };
    let only = |of: &[ClassPattern]| {
        sets().any(|set| !set.only.is_empty() && each_in(&set.only, of, is_class_in))
    };
    (wanted.any.is_empty() || has(&wanted.any))
        && wanted.all.iter().all(|it| has(&[*it]))
        && (wanted.only.is_empty() || only(&wanted.only))
        && wanted.none.iter().all(has_none)
}

/// Whether what `a` says of what there is cannot go with what `b` says of what there is not.
fn are_interfaces_apart(a: &InterfaceSet, b: &InterfaceSet) -> bool {
    let none_is_left = |list: &[ClassPattern]| {
        let is_out = |it: &ClassPattern| {
            b.none.iter().any(|none| is_class_in(it, none))
                || !b.only.is_empty() && b.only.iter().all(|only| are_classes_apart(*it, *only))
        };
        !list.is_empty() && list.iter().all(is_out)
    };
    none_is_left(&a.any)
        || none_is_left(&a.only)
        || a.all.iter().any(|it| none_is_left(std::slice::from_ref(it)))
}

/// Whether what is known of udev's facts is enough for all that is asked of them.
fn implies_facts(known: &Known<'_>, wanted: &UdevMatch) -> bool {
    let facts = || {
        known.iter().filter_map(|condition| match &**condition {
            Condition::Udev(facts) => Some(&**facts),
            _ => None,
        })
    };
    let is_said = |said: &[Named], (name, patterns): &Named| {
        said.iter().any(|(other, there)| name == other && are_texts_in(there, patterns))
    };
    wanted.properties.iter().all(|it| facts().any(|known| is_said(&known.properties, it)))
        && wanted.attributes.iter().all(|it| facts().any(|known| is_said(&known.attributes, it)))
        && (wanted.tags.is_empty()
            || facts().any(|known| {
                !known.tags.is_empty() && known.tags.iter().all(|tag| wanted.tags.contains(tag))
            }))
}

fn are_texts_in(a: &[TextPattern], b: &[TextPattern]) -> bool {
    each_in(a, b, TextPattern::is_in)
}

fn are_texts_apart(a: &[TextPattern], b: &[TextPattern]) -> bool {
    none_with(a, b, |a, b| match (a.literal(), b.literal()) {
        (Some(text), _) => b.matches(text),
        (None, Some(text)) => a.matches(text),
        (None, None) => true,
    })
}
