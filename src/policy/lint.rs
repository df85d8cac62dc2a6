//! WARNINGS: what a policy says that is understood, and hardly what was meant.
//!
//! A lint is sure of what it says, or silent: a rule counts as never asked when that is proved
//! ([`logic`]). Works on the compiled policy and, for the places, on the trees that it was read from.
//!
//! Not in here: what only a host knows. It asks [`Mentions`] which domains the policy speaks of.

mod logic;
mod sense;
mod shadow;
mod values;

use self::sense::{Sense, Unfit};
use super::matcher::Category;
use super::problem::{Code, Finding, Problems, Report};
use super::read::keys::{DROP_IN_KEYS, Form, Key, MATCH_KEYS, POLICY_KEYS, RULE_KEYS};
use super::rule::Rule;
use super::source::{SourceText, Span};
use super::target::GuestPattern;
use super::tree::{Entry, Node, Value};
use super::{Policy, Role, suggest};
use crate::model::{GuestName, GuestUuid, Text};
use std::collections::{BTreeMap, BTreeSet};

/// A file of a policy, as it was read.
pub(super) struct File<'t> {
    pub(super) role: Role,
    pub(super) root: &'t Node,
    pub(super) source: &'t SourceText,
}

/// The domains that a policy speaks of, each with the first place where it does.
#[derive(Clone, Debug, Default)]
pub struct Mentions(Vec<(GuestPattern, Problems)>);

impl Mentions {
    /// A warning for each domain that is none of `known`; aliases are none. `None` when there is nothing
    /// to warn of.
    pub fn unknown_to(&self, known: &[(GuestName, Option<GuestUuid>)]) -> Option<Problems> {
        let is_known = |guest: &GuestPattern| {
            known.iter().any(|(name, uuid)| match (guest, uuid) {
                (GuestPattern::Uuid(wanted), Some(uuid)) => wanted == uuid,
                // Whose UUID nobody has written down may have any.
                (GuestPattern::Uuid(_), None) => true,
                (GuestPattern::Named(wanted), _) => wanted == name,
                (GuestPattern::Like(_), _) => guest.is_like(name),
            })
        };
        let names: Vec<&str> = known.iter().map(|(name, _)| name.as_str()).collect();
        let unknown = self.0.iter().filter(|(guest, _)| !is_known(guest));
        Problems::joined(unknown.map(|(guest, problems)| {
            let meant = match guest {
                GuestPattern::Named(name) => suggest::nearest(name.as_str(), &names),
                GuestPattern::Like(_) | GuestPattern::Uuid(_) => None,
            };
            match meant {
                Some(name) => {
                    problems.clone().with_help(&format!("did you mean `{}`?", Text::from(name)))
                }
                None => problems.clone(),
            }
        }))
    }
}

/// Looks a policy through that was read from these files without a problem.
pub(super) fn lint(files: &[File<'_>], policy: &Policy) -> (Option<Problems>, Mentions) {
    let aliases: BTreeSet<&str> =
        files.iter().flat_map(|file| entries(file.root, "domains")).map(|it| &*it.key).collect();
    let mut reports: Vec<Report<'_>> = files.iter().map(|file| Report::new(file.source)).collect();
    let mut mentions = Vec::new();
    let mut seen = BTreeSet::new();
    for (file, report) in files.iter().zip(&mut reports) {
        let keys: &[Key] = if file.role == Role::Main { &POLICY_KEYS } else { &DROP_IN_KEYS };
        let (mentions, seen) = (&mut mentions, &mut seen);
        let mut walk = Walk { report, aliases: &aliases, mentions, seen };
        walk.map(file.root, keys);
    }
    let mut sense = Sense::new(policy);
    lint_matches(files, policy, &sense, &mut reports);
    lint_rules(files, policy.rules(), &mut sense, &mut reports);
    (Problems::joined(reports.into_iter().filter_map(Report::finish)), Mentions(mentions))
}

/// Goes through the values of a file with what the language knows of each.
struct Walk<'w, 't> {
    report: &'w mut Report<'t>,
    aliases: &'w BTreeSet<&'w str>,
    mentions: &'w mut Vec<(GuestPattern, Problems)>,
    /// The domains that were mentioned already: the first place is enough.
    seen: &'w mut BTreeSet<GuestPattern>,
}

impl Walk<'_, '_> {
    fn map(&mut self, node: &Node, keys: &[Key]) {
        let Value::Map(entries) = &node.value else { return };
        for entry in entries {
            if let Some(key) = keys.iter().find(|key| key.name == entry.key) {
                self.value(&entry.node, &key.form);
            }
        }
    }

    fn value(&mut self, node: &Node, form: &Form) {
        match (&node.value, form) {
            (Value::List(items), Form::List(each, _) | Form::Some(each) | Form::Each(each)) => {
                for item in items {
                    self.value(item, each);
                }
            }
            (_, Form::Some(one) | Form::Each(one)) => self.value(node, one),
            (Value::Map(_), Form::Match) => self.map(node, &MATCH_KEYS),
            (Value::Map(_), Form::Map(keys, _) | Form::Choice(keys, _)) => self.map(node, keys),
            (Value::Map(entries), Form::Named(each)) => {
                for entry in entries {
                    self.text(entry.key_span, &entry.key, &Form::Text);
                    self.value(&entry.node, each);
                }
            }
            (_, Form::Either(forms)) => {
                let is_map = matches!(node.value, Value::Map(_));
                let fitting = forms
                    .iter()
                    .find(|form| matches!(form, Form::Map(..) | Form::Choice(..)) == is_map);
                if let Some(form) = fitting {
                    self.value(node, form);
                }
            }
            (Value::Text(text), _) => self.text(node.span, text, form),
            _ => {}
        }
    }

    fn text(&mut self, span: Span, text: &str, form: &Form) {
        let source = self.report.source();
        let is_plain = !source.as_str()[span.start..].starts_with(['"', '\'', '|', '>']);
        if let Some(meaning) = values::other_meaning(text, form).filter(|_| is_plain) {
            let text = Text::from(text);
            let message =
                format!("without quotes, other readers of YAML take `{text}` for {meaning}");
            let finding = Finding::new(Code::ReadsDifferently, span, message);
            self.report.add(finding.help(format!("write `\"{text}\"`")));
        }
        if !matches!(form, Form::Guest) || self.aliases.contains(text) {
            return;
        }
        let guest = GuestPattern::new(text);
        if self.seen.insert(guest.clone()) {
            let message = format!("nothing on this host knows a domain `{}`", Text::from(text));
            let mut report = Report::new(source);
            report.add(Finding::new(Code::UnknownDomain, span, message));
            self.mentions.extend(report.finish().map(|it| (guest, it)));
        }
    }
}

/// Matches that no device can satisfy, wherever they stand.
fn lint_matches(
    files: &[File<'_>],
    policy: &Policy,
    sense: &Sense<'_>,
    reports: &mut [Report<'_>],
) {
    let mut protected = policy.protected().iter();
    let mut groups = policy.groups().iter();
    for (file, report) in files.iter().zip(reports) {
        for (node, matcher) in items(file.root, "protect").zip(&mut protected) {
            if sense.is_impossible(matcher) {
                report.add(impossible(node.span, "this entry of `protect`"));
            }
        }
        for (entry, group) in entries(file.root, "devices").zip(&mut groups) {
            let nodes = list_of(&entry.node);
            for (node, matcher) in nodes.zip(group.matchers()) {
                if sense.is_impossible(matcher) {
                    let what = format!("this match of the group `{}`", Text::from(group.name()));
                    report.add(impossible(node.span, &what));
                }
            }
        }
    }
}

fn impossible(span: Span, what: &str) -> Finding {
    let message = format!("no device can satisfy {what}");
    Finding::new(Code::Impossible, span, message).help("all keys of a match must hold together")
}

fn lint_rules(
    files: &[File<'_>],
    rules: &[Rule],
    sense: &mut Sense<'_>,
    reports: &mut [Report<'_>],
) {
    // Where each rule stands: its file and its node.
    let places: Vec<(usize, &Node)> = files
        .iter()
        .enumerate()
        .flat_map(|(at, file)| items(file.root, "rules").map(move |node| (at, node)))
        .collect();
    let shadowed = shadow::shadowed(rules);
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, (rule, (file, node))) in rules.iter().zip(&places).enumerate() {
        let other = |other: usize| {
            places.get(other).filter(|(of, _)| of == file).map(|(_, node)| head(node))
        };
        let report = &mut reports[*file];
        if let Some(name) = rule.name() {
            let first = *names.entry(name).or_insert(at);
            if first != at {
                let span = value_of(node, "name").map_or(node.span, |it| it.span);
                report.add(same_name(&rules[first], span, other(first)));
            }
        }
        if !rule.is_enabled() {
            continue;
        }
        let span = value_of(node, "match").map_or(node.span, |it| it.span);
        if sense.is_impossible(rule.matcher()) {
            report.add(impossible(span, "this `match`"));
            continue;
        }
        if let Some(takers) = shadowed.get(&at) {
            let also = takers.first().and_then(|first| other(*first));
            let takers: Vec<&Rule> = takers.iter().map(|at| &rules[*at]).collect();
            report.add(never_asked(rule, &takers, head(node), also));
            continue;
        }
        if let Some((unfit, key)) = sense.unfit(rule) {
            let keys = value_of(node, "match").and_then(|it| value_of(it, key));
            report.add(cannot_work(&unfit, keys.map_or(span, |it| it.span)));
        }
        if let Some(category) = sense.last_input(rule) {
            report.add(last_input(category, span));
        }
    }
}

fn same_name(first: &Rule, span: Span, other: Option<Span>) -> Finding {
    let message = format!("there is another rule of this name: {first}");
    let finding = Finding::new(Code::SameName, span, message);
    let finding = finding.help("logs and `explain` call rules by their names");
    match other {
        Some(span) => finding.also("the other one", span),
        None => finding,
    }
}

fn never_asked(rule: &Rule, takers: &[&Rule], span: Span, also: Option<Span>) -> Finding {
    let by = match takers {
        [one] => format!("{one} takes all of its devices"),
        many => {
            let names: Vec<String> = many.iter().take(4).map(ToString::to_string).collect();
            let more = if many.len() > 4 { " and others" } else { "" };
            format!("{}{more} take all of its devices", names.join(", "))
        }
    };
    let label = match rule.name() {
        Some(name) => format!("rule \"{}\"", Text::from(name)),
        None => rule.label(),
    };
    let message = format!("{label} is never asked: {by}");
    let finding = Finding::new(Code::NeverAsked, span, message);
    let finding = finding.help("put it above, or take it out");
    match also {
        Some(span) => finding.also("takes them first", span),
        None => finding,
    }
}

fn cannot_work(unfit: &Unfit, span: Span) -> Finding {
    let (message, help) = match unfit {
        Unfit::Isochronous(category) => (
            format!("PVUSB carries no isochronous transfers: {category} devices appear in the domain and do not work"),
            "give the domain the whole USB host adapter (PCI passthrough)",
        ),
        Unfit::Hub => (
            "hubs are never attached".to_owned(),
            "for what is plugged into a hub, use `behind` or a `port` with `.*`",
        ),
        Unfit::TooFast => (
            "a controller of version 1 takes no device that runs at high speed or faster".to_owned(),
            "use `version: 2`",
        ),
        Unfit::Super => (
            "PVUSB has no SuperSpeed: such a device runs at high speed, and one with streams or isochronous transfers is refused".to_owned(),
            "for the full speed, give the domain the whole USB host adapter (PCI passthrough)",
        ),
    };
    Finding::new(Code::CannotWork, span, message).help(help)
}

fn last_input(category: Category, span: Span) -> Finding {
    let message =
        format!("this takes every {category}, the last one too: `keep_last` does not hold it");
    let finding = Finding::new(Code::LastInput, span, message);
    finding.help("add it to `keep_last`, or put a rule above that keeps the operator's in dom0")
}

/// A rule by its first line: its name, or whatever comes first.
fn head(node: &Node) -> Span {
    let name = value_of(node, "name").or_else(|| value_of(node, RULE_KEYS[3].name));
    name.map_or(node.span, |it| it.span)
}

fn value_of<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    let Value::Map(entries) = &node.value else { return None };
    entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node)
}

fn entries<'n>(root: &'n Node, key: &str) -> impl Iterator<Item = &'n Entry> + use<'n> {
    let node = value_of(root, key);
    let entries = node.and_then(|node| match &node.value {
        Value::Map(entries) => Some(entries.as_slice()),
        Value::Nothing | Value::Text(_) | Value::List(_) => None,
    });
    entries.unwrap_or_default().iter()
}

fn items<'n>(root: &'n Node, key: &str) -> impl Iterator<Item = &'n Node> + use<'n> {
    value_of(root, key).map(list_of).into_iter().flatten()
}

/// The items of a list; one that is none is its only item.
fn list_of(node: &Node) -> impl Iterator<Item = &Node> {
    match &node.value {
        Value::List(items) => items.as_slice(),
        Value::Nothing | Value::Text(_) | Value::Map(_) => std::slice::from_ref(node),
    }
    .iter()
}
