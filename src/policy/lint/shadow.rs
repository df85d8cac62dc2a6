//! Rules that are never asked: those above them take every device that they are about.
#![expect(clippy::wildcard_enum_match_arm, reason = "of what is not thought of there are no words")]

use super::logic::{self, Budget, Known};
use crate::policy::matcher::{Condition, IdPattern, Matcher, PortPattern, TextPattern};
use crate::policy::rule::Rule;
use crate::policy::target::When;
use std::collections::BTreeMap;

/// How much is compared in one policy. Past that a rule that is never asked is not found.
const COMPARISONS: usize = 2_000_000;

/// For each rule that is never asked the rules that take its devices, in order, by their places.
pub(super) fn shadowed(rules: &[Rule]) -> BTreeMap<usize, Vec<usize>> {
    let budget = Budget::new(COMPARISONS);
    let mut above = Above::default();
    let mut shadowed = BTreeMap::new();
    for (place, rule) in rules.iter().enumerate().filter(|(_, rule)| rule.is_enabled()) {
        if budget.is_spent() {
            break;
        }
        let known = logic::known(rule.matcher());
        let mut named = Vec::new();
        all_words(rule.matcher(), &mut named);
        // Those that could take it; the others cannot.
        let candidates = || above.of(&named).filter(|at| may_count(&rules[*at], rule));
        let taker = |known: &Known<'_>| {
            candidates().find(|at| logic::implies(known, rules[*at].matcher(), &budget))
        };
        let one = taker(&known).map(|one| vec![one]);
        let has_candidates = candidates().next().is_some();
        let takers = one.or_else(|| has_candidates.then(|| one_for_each(&known, taker)).flatten());
        if let Some(takers) = takers {
            shadowed.insert(place, takers);
        }
        above.add(place, rule.matcher());
    }
    shadowed
}

/// Whether `above` counts as long as `rule` does.
fn may_count(above: &Rule, rule: &Rule) -> bool {
    *above.when() == When::default() || above.when() == rule.when()
}

/// For each case of a condition a rule that takes the devices of that case.
fn one_for_each(
    known: &Known<'_>,
    taker: impl Fn(&Known<'_>) -> Option<usize>,
) -> Option<Vec<usize>> {
    known.iter().enumerate().find_map(|(at, condition)| {
        let cases = logic::cases(condition);
        let takers: Option<Vec<usize>> =
            cases.iter().map(|case| taker(&logic::in_case(known, at, case))).collect();
        let mut takers = takers.filter(|takers| !takers.is_empty())?;
        takers.sort_unstable();
        takers.dedup();
        Some(takers)
    })
}

/// The rules above, so that not each has to be asked about each: one that asks for a few values, in so
/// many words, cannot take the devices of a match that names none of them.
#[derive(Default)]
struct Above<'p> {
    places: BTreeMap<Word<'p>, Vec<usize>>,
    rest: Vec<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Word<'p> {
    Id(u16, u16),
    Vendor(u16),
    Text(&'static str, &'p str),
    Port(u16, &'p [u8]),
}

impl<'p> Above<'p> {
    fn add(&mut self, place: usize, matcher: &'p Matcher) {
        let words = matcher.conditions().iter().filter_map(words).find(|it| !it.is_empty());
        let Some(words) = words else {
            self.rest.push(place);
            return;
        };
        for word in words {
            self.places.entry(word).or_default().push(place);
        }
    }

    /// Those that could take the devices of a match that names these.
    fn of<'a>(&'a self, named: &'a [Word<'p>]) -> impl Iterator<Item = usize> + 'a {
        let named = named.iter().filter_map(|word| self.places.get(word)).flatten();
        named.chain(&self.rest).copied()
    }
}

/// The values of a condition, if it names all of them.
fn words(condition: &Condition) -> Option<Vec<Word<'_>>> {
    fn texts<'p>(key: &'static str, patterns: &'p [TextPattern]) -> Option<Vec<Word<'p>>> {
        patterns.iter().map(|it| it.literal().map(|text| Word::Text(key, text))).collect()
    }
    match condition {
        Condition::Id(patterns) => patterns
            .iter()
            .map(|IdPattern { vendor, product }| match (vendor, product) {
                (Some(vendor), Some(product)) => Some(Word::Id(*vendor, *product)),
                (Some(vendor), None) => Some(Word::Vendor(*vendor)),
                (None, _) => None,
            })
            .collect(),
        Condition::Port(patterns) => patterns
            .iter()
            .map(|pattern| match pattern {
                PortPattern::At(port) => Some(Word::Port(port.bus(), port.ports())),
                _ => None,
            })
            .collect(),
        Condition::Serial(patterns) => texts("serial", patterns),
        Condition::Manufacturer(patterns) => texts("manufacturer", patterns),
        Condition::Product(patterns) => texts("product", patterns),
        _ => None,
    }
}

/// Every value that a match names, and what is true of whoever has it.
fn all_words<'p>(matcher: &'p Matcher, named: &mut Vec<Word<'p>>) {
    for condition in matcher.conditions() {
        match condition {
            Condition::Id(patterns) => {
                for IdPattern { vendor, product } in patterns {
                    if let Some(vendor) = vendor {
                        named.push(Word::Vendor(*vendor));
                        named.extend(product.map(|product| Word::Id(*vendor, product)));
                    }
                }
            }
            Condition::Any(matchers) | Condition::All(matchers) => {
                for matcher in matchers {
                    all_words(matcher, named);
                }
            }
            Condition::Device(groups) => {
                let matchers = groups.iter().flat_map(|group| group.matchers());
                matchers.for_each(|it| all_words(it, named));
            }
            _ => {
                let some = match condition {
                    // Of a list, those that can be named.
                    Condition::Port(patterns) => patterns
                        .iter()
                        .filter_map(|pattern| match pattern {
                            PortPattern::At(port) => Some(Word::Port(port.bus(), port.ports())),
                            _ => None,
                        })
                        .collect(),
                    _ => words(condition).unwrap_or_default(),
                };
                named.extend(some);
            }
        }
    }
}
