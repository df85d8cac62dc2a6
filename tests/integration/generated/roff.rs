//! From Markdown to a manual page, as far as the reference of the policy language needs it.
//!
//! Tables become lists: the first column is the term. What is not known here fails, so that nothing is
//! left out unseen.
#![expect(clippy::wildcard_enum_match_arm, reason = "what the reference does not use is not read")]

use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};
use std::fmt::Write;

const HEAD: &str = "\
.\\\" Made from docs/policy.md by `make generated`. Do not edit.
.TH PVUSB\\-AGENT\\-POLICY 5 \"\" pvusb\\-agent \"File Formats\"
.SH NAME
pvusb\\-agent\\-policy \\- which USB device goes to which domain
.SH SYNOPSIS
.nf
/etc/pvusb\\-agent/policy.yaml
/etc/pvusb\\-agent/rules.d/*.yaml
.fi
.SH DESCRIPTION
";
const TAIL: &str = "\
.SH SEE ALSO
.BR xl (1),
.BR xl.cfg (5),
.BR udev (7),
.BR lsusb (8)
.PP
The other documents are in /usr/share/doc/pvusb\\-agent.
";

/// The manual page that says what `markdown` says.
pub(super) fn page(markdown: &str) -> String {
    let mut writer = Writer { out: HEAD.to_owned(), ..Writer::default() };
    for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
        writer.take(event);
    }
    writer.out + TAIL
}

#[derive(Default)]
struct Writer {
    out: String,
    /// The text of the block that is being read.
    line: String,
    /// How deep it is in lists.
    lists: usize,
    /// The words above the columns of a table, and the cells of the row that is being read.
    head: Vec<String>,
    cells: Vec<String>,
    is_code: bool,
    is_strong: bool,
    /// The heading of the whole text is the page's own.
    skips: bool,
}

impl Writer {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(&tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) if self.is_code => self.out.push_str(&escaped_lines(&text)),
            Event::Text(text) => self.line.push_str(&escaped(&text)),
            Event::Code(text) => {
                let after = if self.is_strong { "B" } else { "R" };
                let _ = write!(self.line, "\\fB{}\\f{after}", escaped(&text));
            }
            Event::SoftBreak | Event::HardBreak => self.line.push('\n'),
            other => panic!("{other:?} in the reference"),
        }
    }

    fn start(&mut self, tag: &Tag<'_>) {
        match tag {
            Tag::Heading { level: HeadingLevel::H1, .. } => self.skips = true,
            Tag::Paragraph if self.lists == 0 => self.out.push_str(".PP\n"),
            Tag::List(None) => self.lists += 1,
            Tag::Item => self.out.push_str(".IP \\(bu 2\n"),
            Tag::CodeBlock(CodeBlockKind::Fenced(_)) => {
                self.is_code = true;
                self.out.push_str(".PP\n.RS 4\n.nf\n");
            }
            Tag::Strong => {
                self.is_strong = true;
                self.line.push_str("\\fB");
            }
            Tag::Emphasis => self.line.push_str("\\fI"),
            Tag::Heading { .. }
            | Tag::Paragraph
            | Tag::Table(_)
            | Tag::TableHead
            | Tag::TableRow
            | Tag::TableCell
            | Tag::Link { .. } => {}
            other => panic!("{other:?} in the reference"),
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(level) => self.heading(level),
            TagEnd::Paragraph | TagEnd::Item => self.flush(),
            TagEnd::List(_) => self.lists -= 1,
            TagEnd::CodeBlock => {
                self.is_code = false;
                self.out.push_str(".fi\n.RE\n");
            }
            TagEnd::TableCell => self.cells.push(std::mem::take(&mut self.line)),
            TagEnd::TableHead => self.head = std::mem::take(&mut self.cells),
            TagEnd::TableRow => self.row(),
            TagEnd::Strong | TagEnd::Emphasis => {
                self.is_strong = false;
                self.line.push_str("\\fR");
            }
            TagEnd::Table | TagEnd::Link => {}
            other => panic!("{other:?} in the reference"),
        }
    }

    fn heading(&mut self, level: HeadingLevel) {
        let text = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.skips) {
            return;
        }
        let _ = match level {
            HeadingLevel::H2 => writeln!(
                self.out,
                ".SH \"{}\"",
                text.to_uppercase().replace("\\FB", "").replace("\\FR", "")
            ),
            _ => writeln!(self.out, ".SS \"{text}\""),
        };
    }

    /// A row as a term and what is said of it; from the third column on with the word above it.
    fn row(&mut self) {
        let cells = std::mem::take(&mut self.cells);
        let _ = writeln!(self.out, ".TP\n{}", line_start(&cells[0]));
        let said: Vec<String> = cells
            .iter()
            .zip(&self.head)
            .enumerate()
            .skip(1)
            .filter(|(_, (cell, _))| !cell.is_empty())
            .map(|(at, (cell, head))| match at {
                1 if cells.len() <= 3 => cell.clone(),
                _ => format!("{head}: {cell}"),
            })
            .collect();
        let _ = writeln!(self.out, "{}", line_start(&said.join(". ")));
    }

    fn flush(&mut self) {
        let text = std::mem::take(&mut self.line);
        for line in text.lines() {
            let _ = writeln!(self.out, "{}", line_start(line.trim_end()));
        }
    }
}

/// Nothing in it is an order to roff.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

pub(super) fn escaped_lines(text: &str) -> String {
    text.lines().map(|line| line_start(&escaped(line)) + "\n").collect()
}

/// A line that begins with a dot or a quote would be an order.
fn line_start(line: &str) -> String {
    match line.chars().next() {
        Some('.' | '\'') => format!("\\&{line}"),
        Some(_) => line.to_owned(),
        None => "\\&".to_owned(),
    }
}
