//! The frame of a sheet: what stands at the top level, and what all parts read alike.

use super::keys::SHEET;
use super::{Host, Sheet, umockdev};
use crate::model::{Desk, Text};
use crate::policy::text::{
    Code, Entry, Finding, Node, Reader, Report, SourceText, Span, Value, first_hidden, grow,
    nearest, wrong_shape,
};
use crate::policy::{Problems, Source};
use std::fmt::Display;
use std::str::FromStr;

/// The version of the form that is read here.
const VERSION: &str = "1";

/// Reads the text of a host and its tests, or a recording by `umockdev-record`.
///
/// The time and memory that it takes are bounded, whatever the bytes are: the limits are those of a
/// policy's text.
///
/// # Errors
///
/// Every problem of the text, each with its place.
pub fn read(source: Source<'_>) -> Result<Sheet, Problems> {
    let (text, fault) = SourceText::new(source);
    let mut report = Report::new(&text);
    let (mut policy, mut host, mut tests) = (None, Host::default(), Vec::new());
    if let Some(fault) = fault {
        report.add(fault);
    } else if umockdev::is_one(text.as_str()) {
        host = umockdev::host(text.as_str(), &mut report);
    } else if let Some(root) = grow(&text, &mut report) {
        let mut pen = Pen::new(&mut report);
        if let Some(fields) = pen.reader.fields(&root, &SHEET) {
            if let Some(node) = pen.reader.required(&fields, "version") {
                pen.version(node);
            }
            if let Some(node) = fields.get("about") {
                pen.about(node);
            }
            if let Some(node) = fields.get("policy") {
                policy = pen.reader.text(node, "the path of a policy").map(Into::into);
            }
            if let Some(desk) = fields.get("desk").and_then(|node| pen.desk(node)) {
                host.desk = desk;
            }
            if let Some(there) = fields.get("usbback").and_then(|node| pen.reader.truth(node)) {
                host.usbback = there;
            }
            if let Some(node) = fields.get("devices") {
                host.devices = pen.devices(node);
            }
            if let Some(node) = fields.get("domains") {
                host.guests = pen.domains(node);
            }
            if let Some(node) = fields.get("tests") {
                tests = pen.tests(node, &host);
            }
        }
    }
    match report.finish() {
        Some(problems) => Err(problems),
        None => Ok(Sheet { text, policy, host, tests }),
    }
}

/// What reads the parts of one sheet.
pub(crate) struct Pen<'r, 't> {
    pub(super) reader: Reader<'r, 't>,
}

impl<'r, 't> Pen<'r, 't> {
    /// Reads parts of a text that is no sheet.
    pub(crate) fn new(report: &'r mut Report<'t>) -> Self {
        Self { reader: Reader::new(report) }
    }
}

impl Pen<'_, '_> {
    pub(super) fn wrong(&mut self, code: Code, node: &Node, message: impl Into<String>) {
        self.reader.report.add(Finding::new(code, node.span, message));
    }

    fn version(&mut self, node: &Node) {
        if let Some(text) = self.reader.text(node, "the number 1").filter(|it| *it != VERSION) {
            let message = format!("version `{}` of hosts on paper is not known", Text::from(text));
            let finding = Finding::new(Code::LanguageVersion, node.span, message);
            self.reader.report.add(finding.help("this program knows version 1"));
        }
    }

    /// For people; may run over lines.
    pub(crate) fn about(&mut self, node: &Node) {
        if !matches!(node.value, Value::Text(_)) {
            self.reader.report.add(wrong_shape(node, "a text"));
        }
    }

    pub(crate) fn desk(&mut self, node: &Node) -> Option<Desk> {
        let mut desk = Desk::default();
        for word in self.words(node, &["keyboard", "pointer"])? {
            match word {
                "keyboard" => desk.keyboard = true,
                _ => desk.pointer = true,
            }
        }
        Some(desk)
    }

    /// A list of words, or one word.
    fn words<'n>(&mut self, node: &'n Node, words: &[&str]) -> Option<Vec<&'n str>> {
        self.each(node, |pen, item| pen.reader.word(item, "a word", words, Code::BadFact))
    }

    /// One value, or a list of values, which may be empty. `None` if one of them is wrong.
    pub(super) fn each<'n, T>(
        &mut self,
        node: &'n Node,
        mut read: impl FnMut(&mut Self, &'n Node) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Value::List(items) = &node.value else { return Some(vec![read(self, node)?]) };
        // All of them are read, so that everything that is wrong is told of.
        let values: Vec<_> = items.iter().map(|item| read(self, item)).collect();
        values.into_iter().collect()
    }

    pub(super) fn parsed<T: FromStr<Err: Display>>(
        &mut self,
        node: &Node,
        expected: &str,
        code: Code,
    ) -> Option<T> {
        self.reader.value(node, expected, code)
    }

    /// A text as the agent shows it, escapes included.
    pub(super) fn shown(&mut self, node: &Node) -> Option<Text> {
        let text = self.reader.text(node, "a text")?;
        let shown = Text::from_shown(text);
        if shown.is_none() {
            let message = "no device is shown with this text";
            let finding = Finding::new(Code::BadFact, node.span, message);
            let help = "write it as `pvusb-agent devices --json` shows it: with escapes, and with at \
                        most 256 characters";
            self.reader.report.add(finding.help(help));
        }
        shown
    }

    /// The place in `names` of the one that is written here.
    pub(crate) fn one_of(&mut self, node: &Node, what: &str, names: &[&str]) -> Option<usize> {
        let text = self.reader.text(node, &format!("the name of a {what}"))?;
        let found = names.iter().position(|name| *name == text);
        if found.is_none() {
            self.unknown(node.span, what, text, names);
        }
        found
    }

    pub(crate) fn unknown(&mut self, span: Span, what: &str, text: &str, names: &[&str]) {
        let message = format!("there is no {what} `{}` here", Text::from(text));
        let finding = Finding::new(Code::UnknownName, span, message);
        self.reader.report.add(match nearest(text, names) {
            Some(name) => finding.help(format!("did you mean `{}`?", Text::from(name))),
            None => finding.help(format!("it must be written in `{what}s` of this file")),
        });
    }

    /// Whether a key can be a name.
    pub(super) fn is_name(&mut self, entry: &Entry, what: &str) -> bool {
        let is_right = first_hidden(&entry.key).is_none() && !entry.key.trim().is_empty();
        if !is_right {
            let message = format!("the name of a {what} is not empty and can be seen");
            self.reader.report.add(Finding::new(Code::BadFact, entry.key_span, message));
        }
        is_right
    }
}
