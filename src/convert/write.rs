//! Writes policies as people write them: rules with comments, each match on a line if it fits.
//!
//! Knows how YAML is written, and nothing of where a rule comes from.

use crate::model::Text;
use std::fmt::Write;

/// How long a line of comment or of a match may become.
const WIDTH: usize = 100;

/// A value as it is written. What was not chosen here (names, serial numbers) is a [`Yaml::Text`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Yaml {
    /// A text, between quotes.
    Text(String),
    /// A list.
    List(Vec<Self>),
    /// A map.
    Map(Vec<(String, Self)>),
}

impl Yaml {
    /// A text.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A map of one key.
    pub(crate) fn one(key: &str, value: Self) -> Self {
        Self::Map(vec![(key.to_owned(), value)])
    }

    /// One value as it is, several as a list.
    pub(crate) fn one_or_list(mut values: Vec<Self>) -> Self {
        match values.pop() {
            Some(one) if values.is_empty() => one,
            last => {
                values.extend(last);
                Self::List(values)
            }
        }
    }

    /// Writes it on one line.
    pub(crate) fn write_flow(&self, out: &mut String) {
        match self {
            Self::Text(text) => quote(text, out),
            Self::List(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    out.push_str(if at > 0 { ", " } else { "" });
                    item.write_flow(out);
                }
                out.push(']');
            }
            Self::Map(entries) => {
                out.push('{');
                for (at, (key, value)) in entries.iter().enumerate() {
                    out.push_str(if at > 0 { ", " } else { "" });
                    write_key(key, out);
                    value.write_flow(out);
                }
                out.push('}');
            }
        }
    }
}

/// A condition that a text, such as a serial number, is exactly `text`: as a pattern that means nothing
/// else, whatever characters there are in it.
pub(crate) fn exactly(text: &Text) -> Yaml {
    let text = text.as_str();
    let is_regex = text.strip_prefix('/').is_some_and(|rest| rest.contains('/'));
    if is_regex || text.contains(['*', '?']) {
        return Yaml::Text(format!("/^{}$/", regex_lite::escape(text)));
    }
    Yaml::text(text)
}

/// A match of which all of `conditions` must hold, each a key and its value. A key that comes twice is
/// put into `all`; without a condition every device matches.
pub(crate) fn all_of(conditions: Vec<(String, Yaml)>) -> Yaml {
    let mut entries: Vec<(String, Yaml)> = Vec::new();
    let mut more = Vec::new();
    for (key, value) in conditions {
        match (entries.iter_mut().find(|(known, _)| *known == key), key.as_str(), value) {
            (_, "all", Yaml::List(items)) => more.extend(items),
            (Some((_, known)), "not", value) => {
                let mut items = Vec::new();
                for part in [std::mem::replace(known, Yaml::List(Vec::new())), value] {
                    match part {
                        Yaml::List(list) => items.extend(list),
                        other @ (Yaml::Text(_) | Yaml::Map(_)) => items.push(other),
                    }
                }
                *known = Yaml::List(items);
            }
            (Some(_), _, value) => more.push(Yaml::Map(vec![(key, value)])),
            (None, _, value) => entries.push((key, value)),
        }
    }
    if !more.is_empty() {
        entries.push(("all".to_owned(), Yaml::List(more)));
    }
    if entries.is_empty() {
        entries.push(("id".to_owned(), Yaml::text("*:*")));
    }
    Yaml::Map(entries)
}

/// The conditions of a match.
pub(crate) fn conditions(matcher: Yaml) -> Vec<(String, Yaml)> {
    match matcher {
        Yaml::Map(entries) => entries,
        other @ (Yaml::Text(_) | Yaml::List(_)) => vec![("any".to_owned(), other)],
    }
}

/// A rule as it is to be written.
#[derive(Clone, Debug)]
pub(crate) struct RuleText {
    /// What stands above it, one comment after the other.
    pub(crate) comments: Vec<String>,
    /// Its name.
    pub(crate) name: Option<String>,
    /// Whether it counts.
    pub(crate) enabled: bool,
    /// Which devices.
    pub(crate) matcher: Yaml,
    /// Where they go.
    pub(crate) action: Act,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// The first of these domains that runs gets the device.
    Attach(Vec<String>),
    /// dom0 keeps it.
    Keep,
    /// Nobody has it.
    Block,
}

impl RuleText {
    /// Writes the rule as an item of `rules`, with its comments.
    pub(crate) fn write(&self, out: &mut String) {
        for text in &self.comments {
            comment(text, "  ", out);
        }
        self.write_bare(out);
    }

    /// Writes it without its comments.
    pub(crate) fn write_bare(&self, out: &mut String) {
        let mut lines = String::new();
        if let Some(name) = &self.name {
            line("name", &Yaml::text(name), &mut lines);
        }
        if !self.enabled {
            lines.push_str("    enabled: false\n");
        }
        line("match", &self.matcher, &mut lines);
        match &self.action {
            Act::Attach(domains) => {
                let domains = domains.iter().map(Yaml::text).collect();
                line("attach", &Yaml::one_or_list(domains), &mut lines);
            }
            Act::Keep => lines.push_str("    keep: dom0\n"),
            Act::Block => lines.push_str("    block: true\n"),
        }
        // The first line begins the item.
        lines.replace_range(2..4, "- ");
        out.push_str(&lines);
    }

    /// Writes it as comments, so that nothing of it counts.
    pub(crate) fn write_as_comment(&self, out: &mut String) {
        for text in &self.comments {
            comment(text, "  ", out);
        }
    }
}

/// Writes a comment, over as many lines as it takes. Text that was not written here must have been made
/// harmless ([`Text`]).
pub(crate) fn comment(text: &str, indent: &str, out: &mut String) {
    let mut width = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if width == 0 || width + 1 + length > WIDTH {
            out.push_str(if width == 0 { "" } else { "\n" });
            out.push_str(indent);
            out.push('#');
            width = indent.len() + 1;
        }
        out.push(' ');
        out.push_str(word);
        width += 1 + length;
    }
    out.push('\n');
}

/// A text of somebody else's, fit to be shown on one line: what cannot be seen stands in it as an escape,
/// and it is short.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN: usize = 80;
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    // A backslash by itself is not to be doubled: nobody reads this back.
    let text = Text::from(&*words).as_str().replace("\\\\", "\\");
    let mut shown: String = text.chars().take(SHOWN).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// One key of a rule: on one line if it fits, otherwise a map over several.
fn line(key: &str, value: &Yaml, out: &mut String) {
    let mut flow = String::new();
    value.write_flow(&mut flow);
    match value {
        Yaml::Map(entries) if flow.chars().count() + key.len() + 6 > WIDTH => {
            // Writing to a string does not fail.
            let _ = writeln!(out, "    {key}:");
            for (key, value) in entries {
                out.push_str("      ");
                write_key(key, out);
                match value {
                    Yaml::List(items) if items.iter().any(|it| !matches!(it, Yaml::Text(_))) => {
                        out.truncate(out.trim_end().len());
                        out.push('\n');
                        for item in items {
                            out.push_str("        - ");
                            item.write_flow(out);
                            out.push('\n');
                        }
                    }
                    Yaml::List(_) | Yaml::Text(_) | Yaml::Map(_) => {
                        value.write_flow(out);
                        out.push('\n');
                    }
                }
            }
        }
        Yaml::Map(_) | Yaml::List(_) | Yaml::Text(_) => {
            let _ = writeln!(out, "    {key}: {flow}");
        }
    }
}

fn write_key(key: &str, out: &mut String) {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_word = key.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
    if is_word && key.bytes().all(plain) {
        out.push_str(key);
    } else {
        quote(key, out);
    }
    out.push_str(": ");
}

/// Between double quotes, where a backslash and a quote have to be escaped and nothing else that can
/// be seen.
fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Source, TextPattern, compile};
    use proptest::prelude::*;

    #[test]
    fn a_key_that_comes_twice_goes_into_all() {
        let text = |text: &str| Yaml::text(text);
        let pair = |key: &str, value: Yaml| (key.to_owned(), value);
        let matcher = all_of(vec![
            pair("id", text("1111:*")),
            pair("not", Yaml::one("port", text("1-1"))),
            pair("id", text("*:2222")),
            pair("not", Yaml::one("port", text("1-2"))),
        ]);
        let mut flow = String::new();
        matcher.write_flow(&mut flow);
        let expected = "{id: \"1111:*\", not: [{port: \"1-1\"}, {port: \"1-2\"}], \
                        all: [{id: \"*:2222\"}]}";
        assert_eq!(flow, expected);
    }

    proptest! {
        #[test]
        fn exactly_means_this_text_and_no_other(text in ".{1,60}", other in ".{1,60}") {
            let (text, other) = (Text::from(&*text), Text::from(&*other));
            let Yaml::Text(pattern) = exactly(&text) else { unreachable!() };
            // A text that is near the limit may grow past it; then the rule is refused.
            if let Ok(pattern) = pattern.parse::<TextPattern>() {
                prop_assert!(pattern.matches(text.as_str()));
                prop_assert_eq!(pattern.matches(other.as_str()), text == other);
            }
        }

        #[test]
        fn whatever_is_quoted_is_read_as_it_was(name in "\\PC{1,40}", note in "\\PC{0,300}") {
            let name = Text::from(&*name).to_string();
            prop_assume!(!name.trim().is_empty());
            let rule = RuleText {
                comments: vec![Text::from(&*note).to_string()],
                name: Some(name.clone()),
                enabled: true,
                matcher: all_of(Vec::new()),
                action: Act::Keep,
            };
            let mut text = String::from("version: 1\nrules:\n");
            rule.write(&mut text);
            let policy = compile(Source { name: "p", bytes: text.as_bytes() });
            let policy = policy.map_err(|problems| TestCaseError::fail(format!("{problems}\n{text}")))?;
            prop_assert_eq!(policy.rules()[0].name(), Some(&*name));
        }
    }
}
