//! YAML text in, a tree of maps, lists and texts out, each with its place in the text.
//!
//! Knows nothing of policies. Every limit is here: after this step there is nothing deep, nothing
//! endless and nothing that refers to something else.

use super::problem::{Code, Finding, Report};
use super::source::{SourceText, Span};
use crate::model::Text;
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Tag};
use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::str::CharIndices;

/// How deep maps and lists may be nested. The language needs 4.
const MAX_DEPTH: usize = 16;
/// How many values and keys there may be.
const MAX_NODES: usize = 200_000;
/// How many of the characters that start a value the parser may take in without telling of anything.
/// It takes a flow collection in as a whole before it tells of its start (it might be a key), at a
/// hundred times the memory of the text.
const MAX_MARKS: usize = 150_000;

/// A value and where it stands.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) value: Value,
}

/// A value as YAML's structure knows it. There are no numbers and no booleans: they are texts.
#[derive(Debug)]
pub(crate) enum Value {
    /// No value: `key:` and nothing after it.
    Nothing,
    /// A text, without its quotes.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the text. No key comes twice.
    Map(Vec<Entry>),
}

impl Value {
    /// What it is called in messages.
    pub(crate) fn noun(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

/// A key of a map with its value.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Span,
    pub(crate) node: Node,
}

/// Reads the one document of `text`. `None` when it is not one that can be read; then the report
/// says why.
pub(crate) fn grow(text: &SourceText, report: &mut Report<'_>) -> Option<Node> {
    match read(text.as_str(), report) {
        Ok(root) => Some(root),
        Err(finding) => {
            report.add(finding);
            None
        }
    }
}

fn read(text: &str, report: &mut Report<'_>) -> Result<Node, Finding> {
    let offsets = Offsets::new(text);
    let mut tree = Tree::default();
    let mut documents = 0;
    let marks = Marks::default();
    for event in Parser::new_from_iter(Fed { rest: text.char_indices(), marks: &marks }) {
        if let Some(start) = marks.end.take() {
            let message = format!("there are more than {MAX_MARKS} values in one");
            return Err(Finding::new(Code::TooMany, Span { start, end: start + 1 }, message));
        }
        marks.count.set(0);
        let (event, span) = event.map_err(|error| syntax(text, &offsets, &error))?;
        let span = offsets.span(text, span);
        match event {
            Event::Scalar(value, style, anchor, tag) => {
                refuse_properties(text, span, anchor, tag.as_deref())?;
                tree.add(scalar(span, value, style))?;
            }
            Event::SequenceStart(anchor, tag) => {
                refuse_properties(text, span, anchor, tag.as_deref())?;
                tree.open(span, Items::List(Vec::new()))?;
            }
            Event::MappingStart(anchor, tag) => {
                refuse_properties(text, span, anchor, tag.as_deref())?;
                tree.open(span, Items::Map { entries: Vec::new(), key: None })?;
            }
            Event::SequenceEnd | Event::MappingEnd => tree.close(span, report)?,
            Event::Alias(_) => return Err(alias(text, span.start)),
            Event::DocumentStart(_) => {
                documents += 1;
                if documents > 1 {
                    let message = "one file is one YAML document, this starts a second one";
                    return Err(Finding::new(Code::SecondDocument, span, message));
                }
            }
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd | Event::Nothing => {}
        }
    }
    tree.root.filter(|root| !matches!(root.value, Value::Nothing)).ok_or_else(|| {
        let message = "there is nothing in it";
        let finding = Finding::new(Code::Empty, Span { start: 0, end: 0 }, message);
        finding
            .help("it begins with `version: 1`; the least policy has `rules: []` on the next line")
    })
}

/// The tree while it grows. Its depth is that of `open`: nothing recurses.
#[derive(Default)]
struct Tree {
    open: Vec<Open>,
    root: Option<Node>,
    nodes: usize,
}

/// A list or map whose end has not come yet.
struct Open {
    start: usize,
    items: Items,
}

enum Items {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, key: Option<(String, Span)> },
}

impl Tree {
    fn open(&mut self, span: Span, items: Items) -> Result<(), Finding> {
        if self.open.len() == MAX_DEPTH {
            let message = format!("maps and lists are nested more than {MAX_DEPTH} deep");
            return Err(Finding::new(Code::TooDeep, span, message));
        }
        self.open.push(Open { start: span.start, items });
        Ok(())
    }

    fn add(&mut self, node: Node) -> Result<(), Finding> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            let message = format!("there are more than {MAX_NODES} values");
            return Err(Finding::new(Code::TooMany, node.span, message));
        }
        match self.open.last_mut().map(|open| &mut open.items) {
            None => self.root = Some(node),
            Some(Items::List(items)) => items.push(node),
            Some(Items::Map { entries, key: waiting }) => match waiting.take() {
                None => *waiting = Some(key(node)?),
                Some((key, key_span)) => {
                    let nothing = matches!(node.value, Value::Nothing);
                    // There is nothing to point at but the key.
                    let span = if nothing { key_span } else { node.span };
                    entries.push(Entry { key, key_span, node: Node { span, ..node } });
                }
            },
        }
        Ok(())
    }

    fn close(&mut self, end: Span, report: &mut Report<'_>) -> Result<(), Finding> {
        let Some(Open { start, items }) = self.open.pop() else { return Ok(()) };
        let (last, value) = match items {
            Items::List(items) => (items.last().map(|item| item.span), Value::List(items)),
            Items::Map { entries, .. } => {
                report_duplicates(&entries, report);
                let last = entries.last().map(|entry| entry.node.span);
                (last, Value::Map(entries))
            }
        };
        // A flow collection ends in a bracket. A block ends where the next thing starts, which is
        // far off when comments follow: its last value counts.
        let is_flow = end.start < end.end;
        let end = if is_flow { end.end } else { last.map_or(start, |last| last.end) };
        self.add(Node { span: Span { start, end: end.max(start) }, value })
    }
}

fn scalar(span: Span, value: Cow<'_, str>, style: ScalarStyle) -> Node {
    let is_nothing = value.is_empty() && style == ScalarStyle::Plain;
    let value = if is_nothing { Value::Nothing } else { Value::Text(value.into_owned()) };
    Node { span, value }
}

fn key(node: Node) -> Result<(String, Span), Finding> {
    match node.value {
        Value::Text(text) if text == "<<" => Err(unused_yaml(node.span, "merge keys")),
        Value::Text(text) => Ok((text, node.span)),
        Value::Nothing | Value::List(_) | Value::Map(_) => {
            let message = format!("expected a key, found {}", node.value.noun());
            Err(Finding::new(Code::WrongShape, node.span, message))
        }
    }
}

fn report_duplicates(entries: &[Entry], report: &mut Report<'_>) {
    let mut seen: BTreeMap<&str, Span> = BTreeMap::new();
    for entry in entries {
        let first = *seen.entry(&entry.key).or_insert(entry.key_span);
        if first != entry.key_span {
            let message = format!("the key `{}` is given twice", Text::from(&*entry.key));
            let finding = Finding::new(Code::DuplicateKey, entry.key_span, message);
            report.add(finding.also("first given here", first));
        }
    }
}

/// Anchors and tags hang on a value, of whatever kind.
fn refuse_properties(
    text: &str,
    span: Span,
    anchor: usize,
    tag: Option<&Tag>,
) -> Result<(), Finding> {
    if anchor > 0 {
        return Err(unused_yaml(word_from(text, last_before(text, span.start, '&')), "anchors"));
    }
    if tag.is_some() {
        return Err(unused_yaml(word_from(text, last_before(text, span.start, '!')), "tags"));
    }
    Ok(())
}

fn unused_yaml(span: Span, what: &str) -> Finding {
    let finding = Finding::new(Code::UnusedYaml, span, format!("YAML's {what} are not used here"));
    match what {
        "anchors" | "merge keys" => finding.help("write it out where it is used"),
        "tags" => finding.help("if this is text, put it between quotes"),
        _ => finding,
    }
}

/// `id: *:1200` without quotes is an alias to YAML.
fn alias(text: &str, start: usize) -> Finding {
    let finding = unused_yaml(word_from(text, start), "aliases");
    finding.help("`*` starts an alias in YAML: if this is text, put it between quotes")
}

fn syntax(text: &str, offsets: &Offsets, error: &ScanError) -> Finding {
    let start = offsets.byte(text, error.marker().index());
    if text[start..].starts_with('*') {
        return alias(text, start);
    }
    let is_tab = error.info().contains("tab");
    // At a tab, the parser may have stopped before it.
    let tab = text[start..].find('\t').filter(|_| is_tab);
    let start = start + tab.unwrap_or_default();
    let end = start + text[start..].chars().next().map_or(0, char::len_utf8);
    let message = format!("this is not YAML: {}", Text::from(error.info()));
    let finding = Finding::new(Code::Syntax, Span { start, end }, message);
    if is_tab {
        return finding.help("indent with blanks");
    }
    if text[start..].starts_with(':') {
        return finding.help("a text with `: ` in it must stand between quotes");
    }
    finding
}

/// The place of the last `mark` that starts at or before `start`.
fn last_before(text: &str, start: usize, mark: char) -> usize {
    if text[start..].starts_with(mark) {
        return start;
    }
    text[..start].rfind(mark).unwrap_or(start)
}

/// The word that starts at `start`.
fn word_from(text: &str, start: usize) -> Span {
    let ends = |c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']' | '{' | '}');
    let length = text[start..].find(ends).unwrap_or(text.len() - start);
    Span { start, end: start + length }
}

/// How much the parser has taken in since it last told of something.
#[derive(Default)]
struct Marks {
    count: Cell<usize>,
    /// Where it was too much.
    end: Cell<Option<usize>>,
}

/// The text as the parser gets it: it ends where the parser has taken in too much at once.
struct Fed<'t> {
    rest: CharIndices<'t>,
    marks: &'t Marks,
}

impl Iterator for Fed<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        if self.marks.end.get().is_some() {
            return None;
        }
        let (at, c) = self.rest.next()?;
        if matches!(c, ',' | '[' | '{' | ':' | '&' | '*' | '!') {
            let count = self.marks.count.get() + 1;
            self.marks.count.set(count);
            if count > MAX_MARKS {
                self.marks.end.set(Some(at));
                return None;
            }
        }
        Some(c)
    }
}

/// Where each character starts: the parser counts characters.
struct Offsets(Option<Vec<usize>>);

impl Offsets {
    fn new(text: &str) -> Self {
        // In ASCII, characters are bytes.
        Self((!text.is_ascii()).then(|| text.char_indices().map(|(at, _)| at).collect()))
    }

    fn byte(&self, text: &str, index: usize) -> usize {
        let at = match &self.0 {
            None => index,
            Some(starts) => starts.get(index).copied().unwrap_or(text.len()),
        };
        at.min(text.len())
    }

    /// A span of the parser, without the blanks that it sometimes takes in at the end.
    fn span(&self, text: &str, span: saphyr_parser::Span) -> Span {
        let start = self.byte(text, span.start.index());
        let end = self.byte(text, span.end.index()).max(start);
        Span { start, end: start + text[start..end].trim_end().len() }
    }
}
