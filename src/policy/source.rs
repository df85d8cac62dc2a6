//! The text of a policy: what was given, where its lines are, and how a place in it is shown.
//!
//! Knows nothing of YAML or of policies.

use super::problem::{Code, Finding};
use crate::model::Text;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// The most bytes that a policy may have.
pub const MAX_BYTES: usize = 1 << 20;

/// The text of a policy, before anything is known about it.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The name that messages give it: usually its path.
    pub name: &'a str,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// A place in a text, as editors count: line and column from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// Where something of a policy was written down. Shown as `policy.yaml:5`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    file: Arc<str>,
    position: Position,
}

impl Location {
    /// The name of the text.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The place in the text.
    pub fn position(&self) -> Position {
        self.position
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", Text::from(&*self.file), self.position.line)
    }
}

/// A part of a text: a range of bytes on character boundaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// A place in a text, made ready to be shown: safe for a terminal and short, whatever the text is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Excerpt {
    pub(super) start: Position,
    pub(super) end: Position,
    /// The line where it starts, or the part of it that counts. Character for character the text,
    /// so that columns can be counted in it, unless `is_cut`.
    pub(super) line: String,
    /// Whether the start of the line was left out.
    pub(super) is_cut: bool,
    /// What is meant, in bytes of `line`.
    pub(super) mark: Range<usize>,
}

impl Excerpt {
    /// The most characters of a line that are shown.
    const SHOWN: usize = 120;
    /// How many of them come before the marked part when the start of the line is left out.
    const BEFORE: usize = 60;
}

/// A text that can be shown, with its lines.
pub(crate) struct SourceText {
    pub(super) name: Arc<str>,
    text: String,
    /// Where each line starts; never empty.
    lines: Vec<usize>,
}

impl SourceText {
    /// Takes the text in. If it is not fit to be read, it says why, and keeps what can be shown.
    pub(crate) fn new(source: Source<'_>) -> (Self, Option<Finding>) {
        let kept = &source.bytes[..source.bytes.len().min(MAX_BYTES)];
        // Some editors start a UTF-8 text with a byte order mark. It says nothing.
        let kept = kept.strip_prefix("\u{feff}".as_bytes()).unwrap_or(kept);
        let text = String::from_utf8_lossy(kept).into_owned();
        let fault = if source.bytes.len() > MAX_BYTES {
            Some(too_long(&text))
        } else {
            not_utf8(kept).or_else(|| not_shown(&text))
        };
        let starts =
            text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(starts).collect();
        (Self { name: source.name.into(), text, lines }, fault)
    }

    /// The name that messages give it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The text.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Where `span` starts.
    pub(crate) fn location(&self, span: Span) -> Location {
        Location { file: Arc::clone(&self.name), position: self.position(span.start) }
    }

    /// Whether `span` ends on a later line than it starts.
    pub(super) fn is_over_lines(&self, span: Span) -> bool {
        self.text.get(span.start..span.end).is_some_and(|part| part.contains('\n'))
    }

    /// The start of `span`, ready to be shown.
    pub(super) fn excerpt(&self, span: Span) -> Excerpt {
        let line = self.line(self.line_of(span.start));
        let start = span.start.clamp(line.start, line.end);
        let end = span.end.clamp(start, line.end);
        let before = &self.text[line.start..start];
        let from = match back(before, Excerpt::SHOWN - Excerpt::BEFORE) {
            0 => 0,
            _ => back(before, Excerpt::BEFORE),
        };
        let mut shown = String::from(if from > 0 { "…" } else { "" });
        shown.extend(before[from..].chars().map(harmless));
        let mark_start = shown.len();
        let mut mark_end = mark_start;
        let room = Excerpt::SHOWN.saturating_sub(before[from..].chars().count());
        let mut rest = self.text[start..line.end].char_indices();
        for (at, c) in rest.by_ref().take(room) {
            shown.push(harmless(c));
            if start + at < end {
                mark_end = shown.len();
            }
        }
        if rest.next().is_some() {
            shown.push('…');
        }
        Excerpt {
            start: self.position(span.start),
            end: self.position(span.end),
            line: shown,
            is_cut: from > 0,
            mark: mark_start..mark_end,
        }
    }

    fn position(&self, at: usize) -> Position {
        let line = self.line_of(at);
        let range = self.line(line);
        let before = &self.text[range.start..at.clamp(range.start, range.end)];
        Position { line: line + 1, column: before.chars().count() + 1 }
    }

    fn line_of(&self, at: usize) -> usize {
        self.lines.partition_point(|start| *start <= at).saturating_sub(1)
    }

    /// The bytes of a line, without its end.
    fn line(&self, line: usize) -> Range<usize> {
        let start = self.lines.get(line).copied().unwrap_or(self.text.len());
        let end = self.lines.get(line + 1).copied().unwrap_or(self.text.len());
        let trimmed = self.text[start..end].trim_end_matches(['\n', '\r']);
        start..start + trimmed.len()
    }
}

/// Whether a character may stand in a policy: one that is seen and that only does what it shows.
/// Controls would give orders to a terminal, line separators would break lines where no editor
/// does, and bidirectional marks would make a rule read as what it is not.
pub(super) fn is_shown(c: char) -> bool {
    let bidirectional = matches!(c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let separator = matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}');
    let no_character = u32::from(c) & 0xfffe == 0xfffe;
    !(c.is_control() || bidirectional || separator || no_character)
}

/// The first character that may not stand in the value `text`.
pub(crate) fn first_hidden(text: &str) -> Option<char> {
    text.chars().find(|c| !is_shown(*c))
}

fn too_long(text: &str) -> Finding {
    let end = Span { start: text.len(), end: text.len() };
    Finding::new(Code::TooLong, end, format!("the text is longer than {MAX_BYTES} bytes"))
}

fn not_utf8(bytes: &[u8]) -> Option<Finding> {
    let start = std::str::from_utf8(bytes).err()?.valid_up_to();
    let byte = bytes.get(start)?;
    // `from_utf8_lossy` put one U+FFFD there.
    let span = Span { start, end: start + char::REPLACEMENT_CHARACTER.len_utf8() };
    let finding = Finding::new(Code::NotUtf8, span, format!("the byte 0x{byte:02x} is not UTF-8"));
    Some(finding.help("save the file as UTF-8 text"))
}

fn not_shown(text: &str) -> Option<Finding> {
    let mut chars = text.char_indices().peekable();
    while let Some((start, c)) = chars.next() {
        let is_line_end = c == '\r' && chars.peek().is_some_and(|(_, next)| *next == '\n');
        if !is_shown(c) && !is_line_end && c != '\n' && c != '\t' {
            let span = Span { start, end: start + c.len_utf8() };
            return Some(hidden(span, c));
        }
    }
    None
}

/// What to say about a character that may not stand in a policy.
pub(super) fn hidden(span: Span, c: char) -> Finding {
    let message = format!("the character U+{:04X} may not stand here", u32::from(c));
    Finding::new(Code::HiddenCharacter, span, message)
}

/// Where the last `count` characters of `text` start.
fn back(text: &str, count: usize) -> usize {
    text.char_indices().rev().take(count).last().map_or(text.len(), |(at, _)| at)
}

/// A character as it may be shown: one for one.
fn harmless(c: char) -> char {
    if is_shown(c) || c == '\t' { c } else { char::REPLACEMENT_CHARACTER }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(text: &str) -> SourceText {
        SourceText::new(Source { name: "p.yaml", bytes: text.as_bytes() }).0
    }

    #[test]
    fn columns_count_characters() {
        let text = text("é: x\r\nß: yz\n");
        let excerpt = text.excerpt(Span { start: 11, end: 13 });
        assert_eq!(excerpt.start, Position { line: 2, column: 4 });
        assert_eq!(excerpt.end, Position { line: 2, column: 6 });
        assert_eq!(&excerpt.line[excerpt.mark.clone()], "yz");
        assert_eq!(excerpt.line, "ß: yz");
    }

    #[test]
    fn a_long_line_is_cut_around_the_mark() {
        let text = text(&format!("{}HERE{}", "a".repeat(5000), "b".repeat(5000)));
        let excerpt = text.excerpt(Span { start: 5000, end: 5004 });
        assert_eq!(&excerpt.line[excerpt.mark.clone()], "HERE");
        assert!(excerpt.line.starts_with("…a") && excerpt.line.ends_with("b…"));
        assert_eq!(excerpt.start.column, 5001);
        assert!(excerpt.line.chars().count() <= Excerpt::SHOWN + 2);
    }

    #[test]
    fn a_terminal_is_never_given_an_order() {
        let text = text("a\x1b[2Jb\u{202e}");
        let excerpt = text.excerpt(Span { start: 1, end: 2 });
        assert_eq!(excerpt.line, "a\u{fffd}[2Jb\u{fffd}");
    }

    #[test]
    fn a_lone_carriage_return_is_no_line_end() {
        let fault = |bytes: &[u8]| SourceText::new(Source { name: "", bytes }).1.is_some();
        assert!(fault(b"a\rb") && fault(b"a\r") && fault(b"\xff") && fault(b"\0"));
        assert!(!fault(b"a\r\nb\tc\n") && !fault("\u{feff}a".as_bytes()));
    }

    proptest! {
        #[test]
        fn every_place_can_be_shown(bytes in proptest::collection::vec(any::<u8>(), 0..300), a in 0_usize..400, b in 0_usize..400) {
            let (text, _) = SourceText::new(Source { name: "", bytes: &bytes });
            let on_boundary = |mut at: usize| {
                at = at.min(text.as_str().len());
                while !text.as_str().is_char_boundary(at) { at -= 1; }
                at
            };
            let excerpt = text.excerpt(Span { start: on_boundary(a.min(b)), end: on_boundary(a.max(b)) });
            prop_assert!(excerpt.start <= excerpt.end);
            prop_assert!(excerpt.line.get(excerpt.mark).is_some());
            prop_assert!(excerpt.line.chars().all(|c| is_shown(c) || c == '\t'));
        }
    }
}
