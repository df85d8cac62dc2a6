//! What a conversion has come to so far: rules, and what could not be said in them.

use super::write::{Act, RuleText, Yaml, comment, quoted};
use crate::model::Text;
use crate::policy::text::{Code, Finding, Report, SourceText, Span};
use crate::policy::{self, MAX_BYTES, Problems, Source};
use std::collections::BTreeSet;

/// A policy made from somebody else's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Converted {
    /// The policy, in YAML, with comments.
    pub policy: String,
    /// How many rules it has.
    pub rules: usize,
    /// What a reader must know, in the order of the text.
    pub notes: Vec<Note>,
}

impl Converted {
    /// How many things were not carried over.
    pub fn lost(&self) -> usize {
        self.notes.iter().filter(|note| note.is_lost).count()
    }
}

/// Something that a reader of a converted policy must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The line of the original, from 1; `None` for what is about all of it.
    pub line: Option<usize>,
    /// What it is: a sentence without a full stop.
    pub text: String,
    /// Whether something was not carried over. Otherwise it was, and looks other than expected.
    pub is_lost: bool,
}

/// A policy that is being made.
pub(super) struct Draft<'t> {
    source: &'t SourceText,
    head: Vec<String>,
    rules: Vec<RuleText>,
    notes: Vec<Note>,
    names: BTreeSet<String>,
    /// How long the rules are that were added.
    size: usize,
}

/// A rule of the original that is being carried over: where it was, and what is to be said of it.
pub(super) struct Origin {
    line: usize,
    comments: Vec<String>,
}

impl<'t> Draft<'t> {
    /// Begins one from `source`, under these comments.
    pub(super) fn new(source: &'t SourceText, format: &str, head: &[&str]) -> Self {
        let name = Text::from(source.name());
        let first =
            format!("Converted from {} ({format}) by pvusb-agent convert.", quoted(name.as_str()));
        let rest = head.iter().map(|line| (*line).to_owned());
        Self {
            source,
            head: std::iter::once(first).chain(rest).collect(),
            rules: Vec::new(),
            notes: Vec::new(),
            names: BTreeSet::new(),
            size: 0,
        }
    }

    /// The rule of the original that starts at `span`, quoted as `text`.
    pub(super) fn origin(&self, span: Span, text: &str) -> Origin {
        let line = self.source.location(span).position().line;
        let shown = quoted(text);
        let shown = if shown.is_empty() { String::new() } else { format!(": {shown}") };
        Origin { line, comments: vec![format!("line {line}{shown}")] }
    }

    /// Says of a rule that something of it was not carried over.
    pub(super) fn lose(&mut self, origin: &mut Origin, text: impl Into<String>) {
        let text = text.into();
        origin.comments.push(format!("Not carried over: {text}."));
        self.notes.push(Note { line: Some(origin.line), text, is_lost: true });
    }

    /// Says of a rule what a reader would not expect.
    pub(super) fn remark(origin: &mut Origin, text: impl Into<String>) {
        origin.comments.push(format!("{}.", text.into()));
    }

    /// Says that something of the whole was not carried over, once.
    pub(super) fn lose_all(&mut self, text: &str) {
        if !self.notes.iter().any(|note| note.text == text) {
            self.head.push(format!("Not carried over: {text}."));
            self.notes.push(Note { line: None, text: text.to_owned(), is_lost: true });
        }
    }

    /// Says of the whole what a reader would not expect, once.
    pub(super) fn remark_all(&mut self, text: &str) {
        if !self.notes.iter().any(|note| note.text == text) {
            self.head.push(format!("{text}."));
            self.notes.push(Note { line: None, text: text.to_owned(), is_lost: false });
        }
    }

    /// Leaves a rule of the original out; what was said of it stays as a comment.
    pub(super) fn leave_out(&mut self, origin: Origin) {
        self.rules.push(RuleText {
            comments: origin.comments,
            name: None,
            enabled: false,
            matcher: Yaml::List(Vec::new()),
            action: Act::Keep,
        });
    }

    /// Whether it is too long for a policy, so that nothing more needs to be added.
    pub(super) fn is_full(&self) -> bool {
        self.size > MAX_BYTES
    }

    /// Adds a rule. One that cannot be said here is left out, and counts as lost.
    pub(super) fn add(&mut self, mut origin: Origin, name: Option<&str>, rule: Said) {
        let mut rule = RuleText {
            comments: Vec::new(),
            name: name.and_then(|name| self.unused(name)),
            enabled: rule.enabled,
            matcher: rule.matcher,
            action: rule.action,
        };
        let mut text = String::from("version: 1\nrules:\n");
        rule.write_bare(&mut text);
        self.size = self.size.saturating_add(text.len());
        if self.is_full() {
            return;
        }
        if let Err(problem) = compile(&text) {
            self.lose(&mut origin, format!("the rule is left out: {problem}"));
            return self.leave_out(origin);
        }
        rule.comments = origin.comments;
        self.rules.push(rule);
    }

    /// `name`, or with a number behind it what no rule is called yet; `None` if it says nothing.
    fn unused(&mut self, name: &str) -> Option<String> {
        let name = quoted(name);
        let numbered = (2..).map(|number| format!("{name} ({number})"));
        let unused =
            std::iter::once(name.clone()).chain(numbered).find(|it| !self.names.contains(it));
        let unused = unused.filter(|_| !name.is_empty())?;
        self.names.insert(unused.clone());
        Some(unused)
    }

    /// The policy.
    ///
    /// # Errors
    ///
    /// When it has become one that nobody would load: too long, too intricate.
    pub(super) fn finish(mut self, report: &mut Report<'_>) -> Option<Converted> {
        if self.is_full() {
            report.add(not_a_policy(&format!("it is longer than {MAX_BYTES} bytes")));
            return None;
        }
        self.notes.sort_by_key(|note| note.line);
        let mut text = String::new();
        for line in &self.head {
            comment(line, "", &mut text);
        }
        text.push_str("version: 1\n");
        let is_written = |rule: &&RuleText| rule.matcher != Yaml::List(Vec::new());
        let rules = self.rules.iter().filter(is_written).count();
        text.push_str(if rules == 0 { "rules: []\n" } else { "rules:\n" });
        for (at, rule) in self.rules.iter().enumerate() {
            text.push_str(if at > 0 { "\n" } else { "" });
            if is_written(&rule) {
                rule.write(&mut text);
            } else {
                rule.write_as_comment(&mut text);
            }
        }
        match compile(&text) {
            Ok(()) => Some(Converted { policy: text, rules, notes: self.notes }),
            Err(problem) => {
                report.add(not_a_policy(&problem));
                None
            }
        }
    }
}

/// What a rule says, apart from its name.
pub(super) struct Said {
    /// Whether it counts.
    pub(super) enabled: bool,
    /// Which devices.
    pub(super) matcher: Yaml,
    /// Where they go.
    pub(super) action: Act,
}

/// What becomes of the text cannot be loaded.
pub(super) fn not_a_policy(why: &str) -> Finding {
    let message = format!("what becomes of it is not a policy: {why}");
    Finding::new(Code::NotConvertible, Span { start: 0, end: 0 }, message)
}

fn compile(text: &str) -> Result<(), String> {
    let compiled = policy::compile(Source { name: "converted", bytes: text.as_bytes() });
    let first = |problems: Problems| problems.iter().next().map(|it| it.message().to_owned());
    compiled.map(|_| ()).map_err(|problems| first(problems).unwrap_or_default())
}
