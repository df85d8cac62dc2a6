//! What a rule does: its name, when it counts, where its devices go and how; and aliases of domains.

use super::keys::{ACTIONS, ALIAS, CLEAN, CONTROLLER_OF_TARGET, LIMIT, RULE, TARGET, WAIT, WHEN};
use super::{DOM0, Domains, Fields, Reader, duration, shown, wrong_shape};
use crate::model::ControllerId;
use crate::policy::Policy;
use crate::policy::problem::{Code, Finding};
use crate::policy::rule::{Action, OnUnplug, Rule};
use crate::policy::source::{first_hidden, hidden};
use crate::policy::target::{GuestPattern, Target, When};
use crate::policy::tree::{Entry, Node, Value};
use crate::policy::wish::TargetWish;
use std::collections::BTreeSet;
use std::time::Duration;

/// What keeps the way of a rule's devices.
const KEEPING: [&str; 2] = ["on_identity_change", "on_unplug"];

impl Reader<'_, '_> {
    /// The aliases of a file. What else is in it is read elsewhere.
    pub(super) fn aliases(&mut self, root: &Node, all: &mut Domains) {
        let Value::Map(entries) = &root.value else { return };
        let Some(domains) = entries.iter().find(|entry| entry.key == "domains") else { return };
        let Value::Map(aliases) = &domains.node.value else {
            self.report.add(wrong_shape(&domains.node, "a map of aliases and their domains"));
            return;
        };
        let earlier: BTreeSet<Box<str>> = all.keys().cloned().collect();
        for alias in aliases {
            let name = alias.key.as_str();
            if earlier.contains(name) {
                let message = format!("another file has the alias `{}` too", shown(name));
                self.report.add(Finding::new(Code::DuplicateName, alias.key_span, message));
            }
            self.alias(alias, all);
        }
    }

    fn alias(&mut self, entry: &Entry, all: &mut Domains) {
        let name = entry.key.as_str();
        let is_name = matches!(GuestPattern::new(name), GuestPattern::Named(_))
            && name.trim() == name
            && !name.is_empty()
            && !DOM0.contains(&name)
            && first_hidden(name).is_none();
        if !is_name {
            let message = format!("`{}` cannot be an alias", shown(name));
            let finding = Finding::new(Code::BadAlias, entry.key_span, message);
            self.report.add(finding.help("an alias is a plain name, and none of dom0's"));
        }
        let (names, wish) = match &entry.node.value {
            Value::Map(_) => {
                let Some(fields) = self.fields(&entry.node, &ALIAS) else { return };
                let wish = fields.get("controller").map(|node| self.target_controller(node));
                (self.required(&fields, "names"), wish.unwrap_or_default())
            }
            Value::Text(_) | Value::List(_) | Value::Nothing => {
                (Some(&entry.node), TargetWish::ANY)
            }
        };
        let guests = names.map(|node| self.guests(node, Self::guest)).unwrap_or_default();
        let targets = guests.into_iter().map(|guest| Target { guest, wish }).collect();
        all.insert(name.into(), targets);
    }

    /// Reads rules, after those that are there.
    pub(super) fn rules(&mut self, node: &Node, policy: &mut Policy) {
        let items = self.items(node, "a list of rules", "for no rules, write `rules: []`");
        let before = policy.rules().len();
        let read = items.iter().enumerate();
        let rules =
            read.filter_map(|(at, item)| self.rule(before + at + 1, item, policy)).collect();
        policy.rules.append(rules);
    }

    fn rule(&mut self, number: usize, node: &Node, policy: &Policy) -> Option<Rule> {
        let fields = self.fields(node, &RULE)?;
        let name = fields.get("name").and_then(|node| self.name(node));
        let description = fields.get("description").and_then(|node| self.lines(node));
        let enabled = fields.get("enabled").and_then(|node| self.truth(node));
        let matcher = self.required(&fields, "match").and_then(|node| self.rule_match(node));
        let when = fields.get("when").map(|node| self.when(node));
        let action = self.action(&fields);
        let usual = policy.flapping();
        let limit = fields.get("limit").map(|node| self.flapping(node, &LIMIT, usual));
        let (settle, patience) = match fields.get("wait").map(|node| (node, action.as_ref())) {
            Some((node, action)) => self.wait(node, action),
            None => (None, None),
        };
        let on_identity_change =
            fields.entry("on_identity_change").and_then(|entry| self.kept(entry, "keep"));
        let on_unplug = fields.entry("on_unplug").and_then(|entry| self.on_unplug(entry));
        self.known_again(&fields, name.as_deref(), action.as_ref());
        let location = self.report.source().location(node.span);
        Some(Rule {
            number,
            name,
            description,
            location,
            enabled: enabled.unwrap_or(true),
            matcher: matcher?,
            when: when.unwrap_or_default(),
            action: action?,
            limit,
            settle,
            patience,
            on_identity_change,
            on_unplug: on_unplug.unwrap_or_default(),
        })
    }

    fn name(&mut self, node: &Node) -> Option<Box<str>> {
        let name = self.text(node, "a name")?;
        if name.trim().is_empty() {
            let message = "the name of the rule is empty";
            self.report.add(Finding::new(Code::BadRuleName, node.span, message));
        }
        Some(name.into())
    }

    /// A text of any number of lines.
    fn lines(&mut self, node: &Node) -> Option<Box<str>> {
        let Value::Text(text) = &node.value else {
            self.report.add(wrong_shape(node, "a text"));
            return None;
        };
        if let Some(c) = text.lines().find_map(first_hidden) {
            self.report.add(hidden(node.span, c));
            return None;
        }
        Some(text.as_str().into())
    }

    fn when(&mut self, node: &Node) -> When {
        let Some(fields) = self.fields(node, &WHEN) else { return When::default() };
        if fields.entries.is_empty() {
            let finding = Finding::new(Code::EmptyWhen, node.span, "`when` says nothing");
            self.report.add(finding.help("write which domain is `running` or `absent`"));
        }
        let mut guests = |key: &str| -> Vec<GuestPattern> {
            let targets = fields.get(key).map(|node| self.guests(node, Self::meant));
            targets.into_iter().flatten().flatten().map(|target| target.guest).collect()
        };
        When { running: guests("running"), absent: guests("absent") }
    }

    /// How long to wait for a new device, and for a domain.
    fn wait(
        &mut self,
        node: &Node,
        action: Option<&Action>,
    ) -> (Option<Duration>, Option<Duration>) {
        let Some(fields) = self.fields(node, &WAIT) else { return (None, None) };
        let settle = fields.get("settle").and_then(|node| self.duration(node, Policy::MAX_SETTLE));
        let attach = fields.entry("attach");
        if let Some(entry) = attach
            && matches!(action, Some(Action::Keep | Action::Block))
        {
            self.needs_attach("`attach` in `wait`", entry);
        }
        (settle, attach.and_then(|entry| self.duration(&entry.node, Rule::MAX_PATIENCE)))
    }

    /// `clean`, or `hold 30s`.
    fn on_unplug(&mut self, entry: &Entry) -> Option<OnUnplug> {
        if is_clean(entry) {
            Some(OnUnplug::Clean)
        } else {
            self.kept(entry, "hold").map(OnUnplug::Hold)
        }
    }

    /// `keep 30s`: how long the way of a device is kept.
    fn kept(&mut self, entry: &Entry, word: &str) -> Option<Duration> {
        let text = self.text(&entry.node, &format!("`{word}` and how long"))?;
        let time = text.strip_prefix(word).filter(|rest| rest.starts_with(' ')).map(str::trim);
        let time = time.and_then(duration).filter(|time| !time.is_zero());
        let longest = Rule::MAX_KEEP;
        if time.is_none_or(|time| time > longest) {
            let message = format!(
                "`{}` is not `{word}` and a time of at most {}s",
                shown(text),
                longest.as_secs()
            );
            let finding = Finding::new(Code::BadKept, entry.node.span, message);
            let or = if word == "hold" { "`clean`, or a time as in " } else { "it as in " };
            self.report.add(finding.help(format!("write {or}`{word} 30s`")));
        }
        time
    }

    /// A rule that keeps the way of its devices is known again by its name, also when the agent has
    /// started anew or another policy is loaded.
    fn known_again(&mut self, fields: &Fields<'_>, name: Option<&str>, action: Option<&Action>) {
        let mut said =
            KEEPING.iter().filter_map(|key| fields.entry(key)).filter(|it| !is_clean(it));
        let Some(entry) = said.next() else { return };
        if matches!(action, Some(Action::Keep | Action::Block)) {
            self.needs_attach(&format!("`{}`", entry.key), entry);
        }
        let problem = match name {
            None if fields.get("name").is_some() => return,
            None => "has none",
            Some(name) if name.len() > Rule::MAX_KEPT_NAME => "has a longer one",
            Some(name) if !self.known.kept_names.insert(name.into()) => "has that of another one",
            Some(_) => return,
        };
        let message = format!(
            "a rule with `{}` needs a name of its own of at most {} bytes, and this one {problem}",
            entry.key,
            Rule::MAX_KEPT_NAME
        );
        let span = fields.entry("name").map_or(entry.key_span, |name| name.node.span);
        let finding = Finding::new(Code::UnnamedRule, span, message);
        self.report
            .add(finding.help("by its name the agent knows it again after it has started anew"));
    }

    /// What only a rule that attaches can say.
    fn needs_attach(&mut self, what: &str, entry: &Entry) {
        let message = format!("{what} is for rules that give a device to a domain");
        self.report.add(Finding::new(Code::OnlyWithAttach, entry.key_span, message));
    }

    fn action(&mut self, fields: &Fields<'_>) -> Option<Action> {
        let said = ACTIONS.iter().filter_map(|action| Some((*action, fields.entry(action)?)));
        let mut said: Vec<(&str, &Entry)> = said.collect();
        said.sort_by_key(|(_, entry)| entry.key_span.start);
        match said.as_slice() {
            [("attach", one)] => self.attach(&one.node),
            [("keep", one)] => self.keep(&one.node),
            [(_, one)] => self.block(&one.node),
            // If one of them is misspelt, that was said already.
            [] if ACTIONS.iter().any(|key| fields.means(key)) => None,
            [] => {
                let message = "the rule says neither `attach` nor `keep` nor `block`";
                self.report.add(Finding::new(Code::NoAction, fields.span, message));
                None
            }
            [(_, first), (_, second), ..] => {
                let message = "a rule says one of `attach`, `keep` and `block`";
                let finding = Finding::new(Code::TwoActions, second.key_span, message);
                self.report.add(finding.also("the other one", first.key_span));
                None
            }
        }
    }

    fn attach(&mut self, node: &Node) -> Option<Action> {
        let before = self.report.found();
        let targets: Vec<Target> = self.guests(node, Self::target).into_iter().flatten().collect();
        (!targets.is_empty() && self.report.found() == before).then_some(Action::Attach(targets))
    }

    /// One thing or a list of them, each read by `one`.
    fn guests<T>(&mut self, node: &Node, one: fn(&mut Self, &Node) -> Option<T>) -> Vec<T> {
        match &node.value {
            Value::List(items) if items.is_empty() => {
                let message = "the list of domains is empty";
                self.report.add(Finding::new(Code::NoDomain, node.span, message));
                Vec::new()
            }
            Value::List(items) => items.iter().filter_map(|item| one(self, item)).collect(),
            Value::Nothing => {
                self.report.add(wrong_shape(node, "the name of a domain or a list of names"));
                Vec::new()
            }
            Value::Text(_) | Value::Map(_) => one(self, node).into_iter().collect(),
        }
    }

    /// What a name, or the long form, stands for.
    fn target(&mut self, node: &Node) -> Option<Vec<Target>> {
        if !matches!(node.value, Value::Map(_)) {
            return self.meant(node);
        }
        let fields = self.fields(node, &TARGET)?;
        let targets = self.required(&fields, "domain").and_then(|node| self.meant(node));
        let controller = fields.get("controller").map(|node| self.target_controller(node));
        let mut wish = controller.unwrap_or_default();
        if let Some(node) = fields.get("port") {
            wish.port = self.value(node, "the number of a port", Code::BadTargetPort);
            if let (Some(port), Some(ports)) = (wish.port, wish.ports)
                && port > ports
            {
                let message = format!("a controller of {ports} ports has no port {port}");
                self.report.add(Finding::new(Code::BadTargetPort, node.span, message));
            }
        }
        let over = |target: Target| Target { wish: wish.or(target.wish), ..target };
        Some(targets?.into_iter().map(over).collect())
    }

    fn target_controller(&mut self, node: &Node) -> TargetWish {
        let mut wish = TargetWish::ANY;
        let Some(fields) = self.fields(node, &CONTROLLER_OF_TARGET) else { return wish };
        wish.kind = fields.get("type").and_then(|node| self.controller_type(node));
        wish.version = fields.get("version").and_then(|node| self.usb_version(node));
        wish.ports = fields.get("ports").and_then(|node| self.port_count(node));
        wish.index = fields.get("index").and_then(|node| self.controller_index(node));
        wish
    }

    fn controller_index(&mut self, node: &Node) -> Option<ControllerId> {
        let last = ControllerId::LAST;
        let expected = format!("a number from 0 to {last}");
        let text = self.text(node, &expected)?;
        let index = text.parse().ok().filter(|index: &ControllerId| *index <= last);
        if index.is_none() {
            let message = format!("`{}` is not {expected}", shown(text));
            self.report.add(Finding::new(Code::BadControllerIndex, node.span, message));
        }
        index
    }

    /// What a domain's name stands for: the domains of an alias, or itself.
    fn meant(&mut self, node: &Node) -> Option<Vec<Target>> {
        let guest = self.guest(node)?;
        let alias = match &guest {
            GuestPattern::Named(name) => self.known.domains.get(name.as_str()),
            GuestPattern::Like(_) | GuestPattern::Uuid(_) => None,
        };
        Some(alias.cloned().unwrap_or_else(|| vec![Target { guest, wish: TargetWish::ANY }]))
    }

    fn guest(&mut self, node: &Node) -> Option<GuestPattern> {
        let name = self.text(node, "the name of a domain")?;
        if name.trim().is_empty() || name.trim() != name {
            let message = "the name of a domain is not empty and has no blanks around it";
            self.report.add(Finding::new(Code::BadDomain, node.span, message));
            return None;
        }
        if DOM0.contains(&name) {
            let message = "every device is in dom0 until it is attached elsewhere";
            let finding = Finding::new(Code::AttachToDom0, node.span, message);
            self.report.add(finding.help("to leave it there, write `keep: dom0` instead"));
            return None;
        }
        Some(GuestPattern::new(name))
    }

    fn block(&mut self, node: &Node) -> Option<Action> {
        let text = self.text(node, "the word `true`")?;
        if text != "true" {
            let message = format!("a device is blocked with `true`, not with `{}`", shown(text));
            let finding = Finding::new(Code::BadBlock, node.span, message);
            self.report.add(finding.help("to leave it in dom0, use `keep: dom0`"));
            return None;
        }
        Some(Action::Block)
    }

    fn keep(&mut self, node: &Node) -> Option<Action> {
        let text = self.text(node, "the word `dom0`")?;
        if text != DOM0[0] {
            let message = format!("a device is kept in `dom0`, not in `{}`", shown(text));
            let finding = Finding::new(Code::BadKeep, node.span, message);
            self.report.add(finding.help("to hand it to a domain, use `attach`"));
            return None;
        }
        Some(Action::Keep)
    }
}

/// Whether that is said which holds if nothing is said.
fn is_clean(entry: &Entry) -> bool {
    matches!(&entry.node.value, Value::Text(text) if text == CLEAN)
}
