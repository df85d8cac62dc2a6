//! Patterns of texts: exact, with wildcards, or a regular expression.

use std::fmt;
use std::str::FromStr;

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextPatternError {
    /// An empty text matches nothing.
    #[error("an empty text matches nothing")]
    Empty,
    /// Longer than [`TextPattern::MAX_CHARS`].
    #[error("a pattern has at most {} characters", TextPattern::MAX_CHARS)]
    TooLong,
    /// Letters after the last `/`.
    #[error("nothing may follow the `/` at the end of a regular expression")]
    Flags,
    /// Not a regular expression.
    #[error("this is not a regular expression: {0}")]
    Regex(String),
}

impl TextPatternError {
    /// What helps.
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Empty => Some("for a device that has the text, whatever it is, write `\"*\"`"),
            Self::Flags => Some("to ignore case, begin it with `/(?i)`"),
            Self::TooLong | Self::Regex(_) => None,
        }
    }
}

/// A text as a whole, one with `*` (any characters) and `?` (one character) in it, or `/regex/`, which
/// is looked for anywhere in the text. Capitals count.
///
/// What it is held against is the text as it is shown ([`Text`](crate::model::Text)): what could harm
/// a terminal stands in it as an escape.
#[derive(Clone, Debug)]
pub struct TextPattern {
    written: Box<str>,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Exact,
    Glob,
    Regex(regex_lite::Regex),
}

impl TextPattern {
    /// The most characters that a pattern may have.
    pub const MAX_CHARS: usize = 256;
    /// The most bytes that a regular expression may grow to when it is made ready.
    const MAX_REGEX_BYTES: usize = 1 << 15;

    /// Whether `text` is one of those.
    pub fn matches(&self, text: &str) -> bool {
        match &self.kind {
            Kind::Exact => *self.written == *text,
            Kind::Glob => glob(&self.written, text),
            Kind::Regex(regex) => regex.is_match(text),
        }
    }

    /// The one text that it matches, if it is only one.
    pub(in crate::policy) fn literal(&self) -> Option<&str> {
        matches!(self.kind, Kind::Exact).then_some(&self.written)
    }

    /// What stands in every text that it matches; nothing for a regular expression.
    pub(in crate::policy) fn pieces(&self) -> impl Iterator<Item = &str> {
        let written = match &self.kind {
            Kind::Exact | Kind::Glob => &*self.written,
            Kind::Regex(_) => "",
        };
        // One without wildcards is one piece: it has no `*` and no `?`.
        written.split(['*', '?']).filter(|piece| !piece.is_empty())
    }

    /// Whether every text that it matches is also one that `other` matches. "No" may also mean that it
    /// is not known.
    pub(in crate::policy) fn is_in(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            _ if self == other => true,
            (_, Kind::Glob) if other.written.bytes().all(|byte| byte == b'*') => true,
            (Kind::Exact, _) => other.matches(&self.written),
            (Kind::Glob, Kind::Glob) => is_glob_in(&self.written, &other.written),
            (Kind::Regex(_), _) | (Kind::Glob, Kind::Exact | Kind::Regex(_)) => false,
        }
    }

    /// Whether `text` is to be a regular expression.
    pub(in crate::policy) fn is_written_as_regex(text: &str) -> bool {
        text.len() > 1 && text.starts_with('/') && text.ends_with('/')
    }
}

impl FromStr for TextPattern {
    type Err = TextPatternError;

    fn from_str(text: &str) -> Result<Self, TextPatternError> {
        if text.is_empty() {
            return Err(TextPatternError::Empty);
        }
        if text.chars().nth(Self::MAX_CHARS).is_some() {
            return Err(TextPatternError::TooLong);
        }
        let kind = match text.strip_prefix('/').and_then(|rest| rest.rsplit_once('/')) {
            Some((regex, "")) => Kind::Regex(ready(regex)?),
            Some((_, rest)) if rest.len() <= 2 && rest.bytes().all(|b| b"gimsux".contains(&b)) => {
                return Err(TextPatternError::Flags);
            }
            Some(_) | None if text.contains(['*', '?']) => Kind::Glob,
            Some(_) | None => Kind::Exact,
        };
        Ok(Self { written: text.into(), kind })
    }
}

fn ready(regex: &str) -> Result<regex_lite::Regex, TextPatternError> {
    let mut builder = regex_lite::RegexBuilder::new(regex);
    builder.size_limit(TextPattern::MAX_REGEX_BYTES).nest_limit(32);
    builder.build().map_err(|error| TextPatternError::Regex(error.to_string()))
}

/// Two patterns are equal when they are written alike.
impl PartialEq for TextPattern {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl Eq for TextPattern {}

impl fmt::Display for TextPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.written)
    }
}

/// Whether the wildcards of `pattern` can stand for what is in `text`. Takes no more steps than the
/// product of the lengths: a `*` that was too short grows, those before it are left as they are.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, bytes) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut here) = (0, 0);
    // Where to go on when what follows the last `*` does not fit: behind it, and one further on.
    let mut again = None;
    loop {
        match (pattern.get(at), bytes.get(here)) {
            (Some(b'*'), _) => {
                at += 1;
                again = Some((at, here));
            }
            (None, None) => return true,
            (Some(b'?'), Some(_)) => (at, here) = (at + 1, after(text, here)),
            (Some(wanted), Some(there)) if wanted == there => (at, here) = (at + 1, here + 1),
            _ => {
                let Some((behind, from)) = again else { return false };
                if from >= bytes.len() {
                    return false;
                }
                let from = after(text, from);
                again = Some((behind, from));
                (at, here) = (behind, from);
            }
        }
    }
}

/// Whether the wildcards of `outer` can stand for the letters and wildcards of `inner`: a `*` for
/// anything, a `?` for one letter or another `?`.
fn is_glob_in(inner: &str, outer: &str) -> bool {
    // Which beginnings of `inner` the part of `outer` that was read stands for.
    let inner: Vec<char> = inner.chars().collect();
    let mut ends = vec![false; inner.len() + 1];
    ends[0] = true;
    for wanted in outer.chars() {
        let mut next = vec![false; ends.len()];
        let mut open = false;
        for at in 0..ends.len() {
            if wanted == '*' {
                open |= ends[at];
                next[at] = open;
            } else if at > 0 && ends[at - 1] {
                let there = inner[at - 1];
                next[at] = there != '*' && (wanted == '?' || wanted == there);
            }
        }
        ends = next;
    }
    ends.last().is_some_and(|is_whole| *is_whole)
}

/// Where the character after the one at `here` begins.
fn after(text: &str, here: usize) -> usize {
    (here + 1..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, text: &str) -> bool {
        pattern.parse::<TextPattern>().unwrap().matches(text)
    }

    #[test]
    fn a_text_is_meant_as_a_whole_and_a_regex_anywhere_in_it() {
        assert!(matches("SN1", "SN1") && !matches("SN1", "SN12") && !matches("sn1", "SN1"));
        assert!(matches("SN*", "SN12") && matches("?N1?", "SN12") && !matches("SN?", "SN"));
        assert!(matches("*", "") && matches("*", "x") && matches("*a*b", "xaxb"));
        assert!(matches("M?ller*", "Müller GmbH") && !matches("M??ller", "Müller"));
        assert!(matches("/N1/", "SN12") && !matches("/^N1/", "SN12") && matches("/(?i)sn/", "SN1"));
        assert!(matches("/dev/bus", "/dev/bus") && matches("/dev/*", "/dev/bus"));
        assert!(matches("/", "/") && matches("//", "anything"));
    }

    #[test]
    fn what_is_no_pattern_says_why() {
        let error = |text: &str| text.parse::<TextPattern>().unwrap_err();
        assert_eq!(error(""), TextPatternError::Empty);
        assert_eq!(error("/scanner/i"), TextPatternError::Flags);
        assert_eq!(error(&"a".repeat(257)), TextPatternError::TooLong);
        for text in ["/(/", "/[/", "/a{99999}/", "/\\w{10}{10}{10}{10}/"] {
            assert!(matches!(error(text), TextPatternError::Regex(_)), "{text}");
        }
    }

    #[test]
    fn a_pattern_is_in_one_that_asks_for_less() {
        let is_in = |a: &str, b: &str| {
            a.parse::<TextPattern>().unwrap().is_in(&b.parse::<TextPattern>().unwrap())
        };
        assert!(
            is_in("SN1", "SN?") && is_in("SN?", "SN*") && is_in("*b*", "*") && is_in("/a/", "*")
        );
        assert!(is_in("SN1", "/N/") && is_in("a*c", "a*") && is_in("a*bc*", "*c*"));
        assert!(!is_in("SN*", "SN?") && !is_in("SN?", "SN1") && !is_in("*", "?*"));
    }

    proptest! {
        #[test]
        fn what_is_in_a_pattern_is_matched_by_it(
            one in "[ab*?]{1,5}", other in "[ab*?]{1,5}", text in "[ab]{0,6}"
        ) {
            let [one, other]: [TextPattern; 2] = [one, other].map(|it| it.parse().unwrap());
            prop_assert!(!one.is_in(&other) || !one.matches(&text) || other.matches(&text));
        }

        #[test]
        fn a_glob_matches_what_the_same_regex_matches(
            pattern in "[ab*?]{1,8}", text in "[ab]{0,8}"
        ) {
            let regex = format!("/^{}$/", pattern.replace('*', ".*").replace('?', "."));
            let glob = if pattern.contains(['*', '?']) { pattern } else { format!("{pattern}*") };
            prop_assume!(glob.len() < 9 && regex.len() > 3);
            let regex = format!("/^{}$/", glob.replace('*', ".*").replace('?', "."));
            prop_assert_eq!(matches(&glob, &text), matches(&regex, &text));
        }
    }
}
