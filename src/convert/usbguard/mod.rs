//! USBGuard's rules: which devices dom0 may use.
//!
//! The language is that of `usbguard:doc/man/usbguard-rules.conf.5.adoc` and
//! `src/Library/RuleParser/Grammar.hpp`: one rule in a line, the first that applies decides, and without
//! one the implicit target does, which is to block. What sets mean is in
//! `src/Library/public/usbguard/Rule.hpp: setSolve…`; of `match-all` what the manual says.
//!
//! `allow` becomes `keep: dom0`, `block` and `reject` become `block: true`.

mod parse;

use super::draft::{Draft, Origin, Said};
use super::lines;
use super::write::{Act, Yaml, all_of, conditions, exactly};
use crate::model::{BusId, Text};
use crate::policy::text::{Report, SourceText, Span};
use parse::{Attribute, Condition, Operator, Rule, Set, Target, Value};

const HEAD: [&str; 2] = [
    "What USBGuard allows stays in dom0; what it blocks or rejects nobody gets. To give devices to domains, put rules \
     with `attach` above these.",
    "The agent blocks no hub and nothing that dom0 needs at the moment.",
];

const KINDS: &str = "How many interfaces of one kind a device has is not asked here. Of those that differ in nothing \
                     but the protocol one is enough: they may be settings of one interface, of which one is in use";

/// Whether a line looks like a rule of this format.
pub(super) fn looks_like(line: &str) -> bool {
    let end = line.find(|c: char| c.is_whitespace() || c == '#').unwrap_or(line.len());
    matches!(&line[..end], "allow" | "block" | "reject")
        && !line[end..].trim_start().starts_with(':')
}

/// Reads `text` and says what it means.
pub(super) fn draft<'t>(text: &'t SourceText, report: &mut Report<'_>) -> Draft<'t> {
    let mut draft = Draft::new(text, "USBGuard", &HEAD);
    let mut is_decided = false;
    for (start, line) in lines(text.as_str()) {
        if draft.is_full() {
            return draft;
        }
        match parse::rule(start, line) {
            Ok(None) => {}
            Ok(Some(rule)) => {
                let span = Span { start, end: start + line.len() };
                let origin = draft.origin(span, line);
                is_decided |= add(&rule, origin, &mut draft);
            }
            Err(finding) => report.add(finding),
        }
    }
    if !is_decided {
        let end = Span { start: text.as_str().len(), end: text.as_str().len() };
        let mut origin = draft.origin(end, "what no rule matches");
        let text = "USBGuard blocks it, unless ImplicitPolicyTarget in usbguard-daemon.conf says otherwise. With \
                    `allow` there, take this rule out";
        Draft::remark(&mut origin, text);
        let said = Said { enabled: true, matcher: all_of(Vec::new()), action: Act::Block };
        draft.add(origin, Some("what no rule matches"), said);
    }
    draft
}

/// What an attribute asks of a device, as it can be said here.
enum Asked {
    /// These conditions; without one, nothing.
    These(Vec<(String, Yaml)>),
    /// Something that no device fulfils, and why.
    Never(&'static str),
}

/// Adds a rule. Tells whether no rule below it is ever asked.
fn add(rule: &Rule, mut origin: Origin, draft: &mut Draft<'_>) -> bool {
    let mut asked = Vec::new();
    for (attribute, set) in &rule.attributes {
        let one = match attribute {
            Attribute::Hash | Attribute::ParentHash | Attribute::Label => Asked::These(Vec::new()),
            Attribute::WithInterface => Asked::These(vec![interfaces(set, draft)]),
            Attribute::Id
            | Attribute::Name
            | Attribute::Serial
            | Attribute::ViaPort
            | Attribute::WithConnectType => single(*attribute, set),
        };
        match one {
            Asked::These(conditions) => asked.extend(conditions),
            Asked::Never(why) => {
                Draft::remark(&mut origin, format!("It matches nothing: {why}"));
                draft.leave_out(origin);
                return false;
            }
        }
    }
    let mut enabled = true;
    match rule.when() {
        Some(true) => {}
        Some(false) => {
            Draft::remark(&mut origin, "It matches nothing: its condition is never true");
            draft.leave_out(origin);
            return false;
        }
        None if rule.target == Target::Allow => {
            draft.lose(&mut origin, "the condition behind `if`, so the rule is switched off");
            enabled = false;
        }
        None => {
            draft.lose(&mut origin, "the condition behind `if`, so the rule always counts");
        }
    }
    for (attribute, _) in &rule.attributes {
        if !matches!(attribute, Attribute::Hash | Attribute::ParentHash) {
            continue;
        }
        let name = attribute.word();
        let refuses = rule.target != Target::Allow;
        if rule.is_about_one_id() || refuses && !asked.is_empty() {
            draft.lose(&mut origin, format!("`{name}`; what else the rule asks for counts"));
        } else {
            let text = format!(
                "`{name}`: without it the rule would be about other devices, so it is switched off"
            );
            draft.lose(&mut origin, text);
            enabled = false;
        }
    }
    if rule.target == Target::Reject {
        draft.remark_all(
            "What USBGuard rejects is gone until it is plugged again; here it is blocked, and there to be seen",
        );
    }
    let action = match rule.target {
        Target::Allow => Act::Keep,
        Target::Block | Target::Reject => Act::Block,
    };
    let is_for_all = asked.is_empty() && enabled;
    let name = rule.label().map(Text::to_string);
    draft.add(origin, name.as_deref(), Said { enabled, matcher: all_of(asked), action });
    is_for_all
}

impl Rule {
    /// Whether it asks for one vendor and product in so many words.
    fn is_about_one_id(&self) -> bool {
        self.attributes.iter().any(|(attribute, set)| {
            *attribute == Attribute::Id
                && set.operator != Operator::NoneOf
                && set
                    .values
                    .iter()
                    .all(|value| matches!(value, Value::Id(id) if !id.contains('*')))
        })
    }

    fn label(&self) -> Option<&Text> {
        let label = self.attributes.iter().find(|(attribute, _)| *attribute == Attribute::Label);
        label.and_then(|(_, set)| match set.values.first() {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        })
    }

    /// Whether the condition is always true or never; `None` if that depends.
    fn when(&self) -> Option<bool> {
        let Some((operator, conditions)) = &self.conditions else { return Some(true) };
        let truths = || {
            conditions.iter().map(|condition| match condition {
                Condition::Always => Some(true),
                Condition::Never => Some(false),
                Condition::Depends => None,
            })
        };
        let (any, all) = (truths().any(|it| it == Some(true)), truths().all(|it| it == Some(true)));
        let (none, any_not) =
            (truths().all(|it| it == Some(false)), truths().any(|it| it == Some(false)));
        match operator {
            Operator::OneOf if any => Some(true),
            Operator::OneOf if none => Some(false),
            Operator::NoneOf if any => Some(false),
            Operator::NoneOf if none => Some(true),
            Operator::OneOf | Operator::NoneOf => None,
            Operator::AllOf | Operator::Equals | Operator::EqualsOrdered | Operator::MatchAll => {
                if all {
                    Some(true)
                } else if any_not {
                    Some(false)
                } else {
                    None
                }
            }
        }
    }
}

/// What is asked of an attribute of which a device has one value.
fn single(attribute: Attribute, set: &Set) -> Asked {
    // What can be so at all. A root hub is no device here, and nothing is plugged into a port that cannot be.
    let possible: Vec<Yaml> =
        set.values.iter().filter_map(|value| has_value(attribute, value)).collect();
    let is_whole = possible.len() == set.values.len();
    match set.operator {
        Operator::NoneOf if possible.is_empty() => Asked::These(Vec::new()),
        Operator::NoneOf => Asked::These(vec![("not".to_owned(), any_of(possible))]),
        Operator::Equals | Operator::EqualsOrdered if set.values.len() > 1 => {
            Asked::Never("a device has one of that and not several (`one-of` would be any of them)")
        }
        Operator::OneOf | Operator::MatchAll => match possible.as_slice() {
            [] => Asked::Never("no device here can be like that"),
            _ => Asked::These(conditions(any_of(possible))),
        },
        Operator::AllOf | Operator::Equals | Operator::EqualsOrdered => {
            if is_whole {
                Asked::These(possible.into_iter().flat_map(conditions).collect())
            } else {
                Asked::Never("no device here can be like that")
            }
        }
    }
}

/// The match that a device has this value. `None` if none can.
fn has_value(attribute: Attribute, value: &Value) -> Option<Yaml> {
    let text = match value {
        Value::Id(id) => return Some(Yaml::one("id", Yaml::text(id))),
        Value::Interface(_) => return None,
        Value::Text(text) => text,
    };
    let is_empty = text.as_str().is_empty();
    let key = match attribute {
        Attribute::Serial => "serial",
        Attribute::Name => "product",
        Attribute::ViaPort => {
            let busid = text.as_str().parse::<BusId>().ok()?;
            return Some(Yaml::one("port", Yaml::text(busid.to_string())));
        }
        Attribute::WithConnectType => {
            let pattern = if is_empty { Yaml::text("*") } else { exactly(text) };
            let matcher =
                Yaml::one("udev", Yaml::one("attribute", Yaml::one("port/connect_type", pattern)));
            return Some(if is_empty { Yaml::one("not", matcher) } else { matcher });
        }
        Attribute::Id
        | Attribute::Hash
        | Attribute::ParentHash
        | Attribute::WithInterface
        | Attribute::Label => return None,
    };
    Some(if is_empty {
        // USBGuard writes an empty text for what a device does not have.
        Yaml::one("not", Yaml::one(key, Yaml::text("*")))
    } else {
        Yaml::one(key, exactly(text))
    })
}

/// A match that holds when one of `matches`, each of one key, does.
fn any_of(mut matches: Vec<Yaml>) -> Yaml {
    if matches.len() == 1 {
        return matches.remove(0);
    }
    let mut key = None;
    let mut values = Vec::new();
    for matcher in &matches {
        let Yaml::Map(entries) = matcher else { break };
        let [(name, value @ Yaml::Text(_))] = entries.as_slice() else { break };
        if *key.get_or_insert(name) == name {
            values.push(value.clone());
        }
    }
    match key {
        Some(key) if values.len() == matches.len() => Yaml::one(key, Yaml::List(values)),
        _ => Yaml::one("any", Yaml::List(matches)),
    }
}

/// What is asked of the interfaces, of which a device has several.
fn interfaces(set: &Set, draft: &mut Draft<'_>) -> (String, Yaml) {
    let mut triples: Vec<&str> = Vec::new();
    for value in &set.values {
        if let Value::Interface(triple) = value
            && !triples.contains(&triple.as_str())
        {
            triples.push(triple);
        }
    }
    let listed =
        |triples: Vec<String>| Yaml::one_or_list(triples.into_iter().map(Yaml::Text).collect());
    let all = || listed(triples.iter().map(|triple| (*triple).to_owned()).collect());
    let map = match set.operator {
        Operator::OneOf => all(),
        Operator::AllOf => Yaml::one("all", all()),
        Operator::NoneOf => Yaml::one("none", all()),
        Operator::MatchAll => Yaml::one("only", all()),
        Operator::Equals | Operator::EqualsOrdered => {
            draft.remark_all(KINDS);
            let mut kinds: Vec<String> = Vec::new();
            for triple in &triples {
                // `cc:ss:`, which may be several settings of one interface.
                let kind = triple.get(..6).unwrap_or(triple);
                let alike = triples.iter().filter(|other| other.starts_with(kind)).count();
                let kind = if alike > 1 { format!("{kind}*") } else { (*triple).to_owned() };
                if !kinds.contains(&kind) {
                    kinds.push(kind);
                }
            }
            let mut map = vec![("only".to_owned(), all())];
            if triples.len() > 1 {
                map.push(("all".to_owned(), listed(kinds)));
            }
            Yaml::Map(map)
        }
    };
    ("interface".to_owned(), map)
}
