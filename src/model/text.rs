//! Text from hostile places, made harmless once, where it comes in.

use std::error::Error;
use std::fmt;

/// A string that a device, a guest or a stranger chose: escaped and bounded.
///
/// Control characters, bidirectional marks and bytes that are not UTF-8 are written as escapes
/// (`\u{1b}`, `\xff`), a backslash as `\\`; what is longer than [`Text::MAX_CHARS`] ends in `…`.
/// So a value of this type can be shown, logged and stored as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Text(Box<str>);

impl Text {
    /// The most characters that are kept. A USB string descriptor holds at most 126 UTF-16 units
    /// (USB 2.0, section 9.6.7), so no honest string is cut.
    pub const MAX_CHARS: usize = 256;

    /// Escapes and bounds `bytes`. A trailing newline, as sysfs writes it, is dropped.
    pub fn new(bytes: &[u8]) -> Self {
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let mut out = String::with_capacity(bytes.len().min(Self::MAX_CHARS));
        let mut room = Self::MAX_CHARS;
        for chunk in bytes.utf8_chunks() {
            let valid = chunk.valid().chars().map(escape_char);
            let invalid = chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}"));
            for piece in valid.chain(invalid) {
                let Some(rest) = room.checked_sub(piece.chars().count()) else {
                    out.push('…');
                    return Self(out.into());
                };
                room = rest;
                out.push_str(&piece);
            }
        }
        Self(out.into())
    }

    /// Takes a text that is escaped already, as [`Self::as_str`] gives it. `None` for one that no bytes
    /// would be shown as.
    pub fn from_shown(text: &str) -> Option<Self> {
        let is_shown = |c: char| c == '\\' || escape_char(c).chars().eq([c]);
        let fits = text.chars().count() <= Self::MAX_CHARS + 1;
        (fits && text.chars().all(is_shown)).then(|| Self(text.into()))
    }

    /// The escaped text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn escape_char(c: char) -> String {
    match c {
        '"' | '\'' => c.to_string(),
        _ => c.escape_debug().to_string(),
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::new(text.as_bytes())
    }
}

/// What went wrong, with everything behind it: `cannot use /x: EIO: I/O error`.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn honest_text_stays_as_it_is() {
        assert_eq!(Text::from("Müller's \"Scanner\" 3000").as_str(), "Müller's \"Scanner\" 3000");
    }

    #[test]
    fn a_terminal_is_never_given_an_order() {
        assert_eq!(Text::from("\x1b[2Jroot\r\n").as_str(), "\\u{1b}[2Jroot\\r");
        assert_eq!(Text::from("a\u{202e}b").as_str(), "a\\u{202e}b");
        assert_eq!(Text::new(b"\xff\xfe\\").as_str(), "\\xff\\xfe\\\\");
    }

    #[test]
    fn what_is_shown_is_not_escaped_once_more() {
        assert_eq!(Text::from_shown("a\\u{1b}b").unwrap().as_str(), "a\\u{1b}b");
        for text in ["a\x1bb", "\n", "a\u{202e}b", &"x".repeat(Text::MAX_CHARS + 2)] {
            assert_eq!(Text::from_shown(text), None, "{text:?}");
        }
    }

    #[test]
    fn ten_kilobytes_are_cut_and_say_so() {
        let long = Text::new(&[b'x'; 10_000]);
        assert_eq!(long.as_str().chars().count(), Text::MAX_CHARS + 1);
        assert!(long.as_str().ends_with('…'));
    }

    proptest! {
        #[test]
        fn whatever_the_bytes_the_text_is_printable_and_bounded(
            bytes in proptest::collection::vec(any::<u8>(), 0..2000)
        ) {
            let text = Text::new(&bytes);
            prop_assert!(!text.as_str().chars().any(char::is_control));
            prop_assert!(text.as_str().chars().count() <= Text::MAX_CHARS + 1);
            prop_assert_eq!(Text::from_shown(text.as_str()), Some(text));
        }
    }
}
