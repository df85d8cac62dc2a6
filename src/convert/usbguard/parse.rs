//! One line of USBGuard's rules, read as `src/Library/RuleParser/Grammar.hpp` has it.
//!
//! What the line means is not known here.

use crate::model::Text;
use crate::policy::text::{Code, Finding, Span, nearest};

/// What is done with a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Allow,
    Block,
    Reject,
}

/// What a rule can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attribute {
    Id,
    Name,
    Hash,
    ParentHash,
    Serial,
    ViaPort,
    WithInterface,
    WithConnectType,
    Label,
}

impl Attribute {
    const ALL: [Self; 9] = [
        Self::Id,
        Self::Name,
        Self::Hash,
        Self::ParentHash,
        Self::Serial,
        Self::ViaPort,
        Self::WithInterface,
        Self::WithConnectType,
        Self::Label,
    ];

    /// The word for it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Name => "name",
            Self::Hash => "hash",
            Self::ParentHash => "parent-hash",
            Self::Serial => "serial",
            Self::ViaPort => "via-port",
            Self::WithInterface => "with-interface",
            Self::WithConnectType => "with-connect-type",
            Self::Label => "label",
        }
    }
}

/// How a set is held against what a device has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    AllOf,
    OneOf,
    NoneOf,
    Equals,
    EqualsOrdered,
    MatchAll,
}

impl Operator {
    const ALL: [(Self, &'static str); 6] = [
        (Self::AllOf, "all-of"),
        (Self::OneOf, "one-of"),
        (Self::NoneOf, "none-of"),
        (Self::Equals, "equals"),
        (Self::EqualsOrdered, "equals-ordered"),
        (Self::MatchAll, "match-all"),
    ];
}

/// A value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// `1050:0407`, `1050:*` or `*:*`, in small letters.
    Id(String),
    /// `03:01:01` or with `*`, in small letters.
    Interface(String),
    /// What stood between quotes.
    Text(Text),
}

/// The values of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Set {
    pub(super) operator: Operator,
    pub(super) values: Vec<Value>,
}

/// What is known of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Always,
    Never,
    /// It depends on the time, on chance, or on what was plugged before.
    Depends,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) target: Target,
    pub(super) attributes: Vec<(Attribute, Set)>,
    pub(super) conditions: Option<(Operator, Vec<Condition>)>,
}

/// Reads a line that begins at byte `start` of its text. `None` if there is no rule in it.
pub(super) fn rule(start: usize, line: &str) -> Result<Option<Rule>, Finding> {
    let mut line = Line { start, text: line, at: 0 };
    line.blanks();
    if line.is_over() {
        return Ok(None);
    }
    let from = line.at;
    let word = line.word();
    let target = match word {
        "allow" => Target::Allow,
        "block" => Target::Block,
        "reject" => Target::Reject,
        "match" | "device" => {
            let message = format!("a rule with `{word}` is for commands, not for a file of rules");
            return Err(line.wrong(from, message));
        }
        _ => {
            let finding = line.wrong(from, "a rule begins with `allow`, `block` or `reject`");
            return Err(match nearest(word, &["allow", "block", "reject"]) {
                Some(word) => finding.help(format!("did you mean `{word}`?")),
                None => finding,
            });
        }
    };
    let mut rule = Rule { target, attributes: Vec::new(), conditions: None };
    let mut is_first = true;
    loop {
        let gap = line.blanks();
        if line.is_over() {
            return Ok(Some(rule));
        }
        if gap == 0 {
            let from = line.at;
            line.word();
            return Err(line.wrong(from, "a blank is missing in front of this"));
        }
        let from = line.at;
        // The id may stand behind the target without its name.
        if std::mem::take(&mut is_first)
            && line.rest().starts_with(is_id_start)
            && line.is_id_next()
        {
            let id = line.id()?;
            let set = Set { operator: Operator::Equals, values: vec![id] };
            rule.attributes.push((Attribute::Id, set));
            continue;
        }
        let word = line.word();
        if word == "if" {
            if rule.conditions.is_some() {
                return Err(line.wrong(from, "`if` is given twice"));
            }
            line.gap("if")?;
            rule.conditions = Some(line.set(Line::condition)?);
            continue;
        }
        let Some(attribute) = Attribute::ALL.into_iter().find(|it| it.word() == word) else {
            let words = Attribute::ALL.map(Attribute::word);
            let finding = line.wrong(from, "this is not an attribute of rules");
            return Err(match nearest(word, &words) {
                Some(word) => finding.help(format!("did you mean `{word}`?")),
                None => finding.help(format!("the attributes are {} and if", words.join(", "))),
            });
        };
        if rule.attributes.iter().any(|(known, _)| *known == attribute) {
            return Err(line.wrong(from, format!("`{word}` is given twice")));
        }
        line.gap(word)?;
        let (operator, values) = line.set(match attribute {
            Attribute::Id => Line::id,
            Attribute::WithInterface => Line::interface,
            Attribute::Name
            | Attribute::Hash
            | Attribute::ParentHash
            | Attribute::Serial
            | Attribute::ViaPort
            | Attribute::WithConnectType
            | Attribute::Label => Line::text,
        })?;
        rule.attributes.push((attribute, Set { operator, values }));
    }
}

fn is_id_start(c: char) -> bool {
    c.is_ascii_hexdigit() || c == '*'
}

/// A line, and how far it was read.
struct Line<'t> {
    start: usize,
    text: &'t str,
    at: usize,
}

impl<'t> Line<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    /// Whether nothing follows but a comment.
    fn is_over(&self) -> bool {
        self.rest().is_empty() || self.rest().starts_with('#')
    }

    /// Passes blanks; gives how many there were.
    fn blanks(&mut self) -> usize {
        let rest = self.rest();
        let count = rest.len() - rest.trim_start_matches([' ', '\t']).len();
        self.at += count;
        count
    }

    /// Passes a word.
    fn word(&mut self) -> &'t str {
        let rest = self.rest();
        let ends = |c: char| c.is_whitespace() || matches!(c, '{' | '}' | '"' | '#' | '(' | ')');
        let length = rest.find(ends).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    /// Something is wrong with what stands from `from` to here.
    fn wrong(&self, from: usize, message: impl Into<String>) -> Finding {
        let first = self.text[from..].chars().next().map_or(0, char::len_utf8);
        let to = self.at.max(from + first);
        let span = Span { start: self.start + from, end: self.start + to };
        Finding::new(Code::BadForeignRule, span, message)
    }

    /// The blank between an attribute and its value.
    fn gap(&mut self, word: &str) -> Result<(), Finding> {
        let from = self.at.saturating_sub(word.len());
        if self.blanks() == 0 || self.is_over() {
            return Err(self.wrong(from, format!("`{word}` has no value")));
        }
        Ok(())
    }

    /// One value, or an operator and a set of them.
    fn set<T>(
        &mut self,
        read: fn(&mut Self) -> Result<T, Finding>,
    ) -> Result<(Operator, Vec<T>), Finding> {
        let from = self.at;
        let operator = Operator::ALL.iter().find(|(_, word)| {
            self.rest()
                .strip_prefix(word)
                .is_some_and(|rest| rest.starts_with([' ', '\t', '{']) || rest.is_empty())
        });
        if let Some((_, word)) = operator {
            self.at += word.len();
            let gap = self.blanks();
            if gap == 0 || !self.rest().starts_with('{') {
                return Err(
                    self.wrong(from, format!("after `{word}` comes a blank and a set: `{{ … }}`"))
                );
            }
        }
        let operator = operator.map_or(Operator::Equals, |(operator, _)| *operator);
        if !self.rest().starts_with('{') {
            return Ok((operator, vec![read(self)?]));
        }
        let open = self.at;
        self.at += 1;
        let mut values = Vec::new();
        loop {
            let gap = self.blanks();
            if self.rest().is_empty() {
                self.at = open + 1;
                return Err(self.wrong(open, "this set has no end"));
            }
            if self.rest().starts_with('}') {
                self.at += 1;
                if values.is_empty() {
                    return Err(self.wrong(open, "this set is empty"));
                }
                return Ok((operator, values));
            }
            if gap == 0 && !values.is_empty() {
                let from = self.at;
                return Err(self.wrong(from, "a blank is missing in front of this"));
            }
            values.push(read(self)?);
        }
    }

    /// Whether an id follows, or what is meant as one.
    fn is_id_next(&self) -> bool {
        self.rest().split([' ', '\t', '#', '{']).next().is_some_and(|word| word.contains(':'))
    }

    fn id(&mut self) -> Result<Value, Finding> {
        let from = self.at;
        let word = self.word();
        let half = |half: &str| {
            half == "*" || half.len() == 4 && half.bytes().all(|b| b.is_ascii_hexdigit())
        };
        let is_id = word.split_once(':').is_some_and(|(vendor, product)| {
            half(vendor) && half(product) && (vendor != "*" || product == "*")
        });
        if is_id {
            return Ok(Value::Id(word.to_ascii_lowercase()));
        }
        Err(self.wrong(from, "expected an id such as `1050:0407`, `1050:*` or `*:*`"))
    }

    fn interface(&mut self) -> Result<Value, Finding> {
        let from = self.at;
        let word = self.word();
        let parts: Vec<&str> = word.split(':').collect();
        let is_hex = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
        let is_triple = match parts.as_slice() {
            [class, subclass, protocol] => {
                is_hex(class)
                    && (*subclass == "*" && *protocol == "*"
                        || is_hex(subclass) && (is_hex(protocol) || *protocol == "*"))
            }
            _ => false,
        };
        if is_triple {
            return Ok(Value::Interface(word.to_ascii_lowercase()));
        }
        Err(self
            .wrong(from, "expected a kind of interface such as `03:01:01`, `03:01:*` or `03:*:*`"))
    }

    /// A text between quotes, of any bytes.
    fn text(&mut self) -> Result<Value, Finding> {
        let from = self.at;
        if !self.rest().starts_with('"') {
            self.word();
            return Err(self.wrong(from, "expected a text between quotes"));
        }
        self.at += 1;
        let mut bytes = Vec::new();
        loop {
            let rest = self.rest();
            let Some(c) = rest.chars().next() else {
                self.at = from + 1;
                return Err(self.wrong(from, "the text has no end"));
            };
            self.at += c.len_utf8();
            match c {
                '"' => return Ok(Value::Text(Text::new(&bytes))),
                '\\' => bytes.push(self.escaped()?),
                c => bytes.extend(c.encode_utf8(&mut [0; 4]).bytes()),
            }
        }
    }

    /// What follows a backslash (`src/Library/Utility.cpp: unescapeString`).
    fn escaped(&mut self) -> Result<u8, Finding> {
        let from = self.at - 1;
        let rest = self.rest().as_bytes();
        match rest {
            [byte @ (b'"' | b'\\'), ..] => {
                self.at += 1;
                Ok(*byte)
            }
            [b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digits = &self.rest()[1..3];
                self.at += 3;
                u8::from_str_radix(digits, 16).map_err(|_| self.wrong(from, "this is not a byte"))
            }
            _ => {
                let finding = self.wrong(from, "USBGuard knows no such escape");
                Err(finding.help("there are `\\\"`, `\\\\` and `\\x1b`"))
            }
        }
    }

    /// `!name(argument)`.
    fn condition(&mut self) -> Result<Condition, Finding> {
        const KNOWN: [&str; 7] = [
            "true",
            "false",
            "localtime",
            "allowed-matches",
            "rule-applied",
            "rule-evaluated",
            "random",
        ];
        let from = self.at;
        let is_negated = self.rest().starts_with('!');
        self.at += usize::from(is_negated);
        let rest = self.rest();
        let length =
            rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).unwrap_or(rest.len());
        let name = &rest[..length];
        self.at += length;
        if !KNOWN.contains(&name) {
            let finding = self.wrong(from, "this is not a condition");
            return Err(match nearest(name, &KNOWN) {
                Some(word) => finding.help(format!("did you mean `{word}`?")),
                None => finding.help(format!("the conditions are {}", KNOWN.join(", "))),
            });
        }
        if self.rest().starts_with('(') {
            let Some(length) = self.rest().find(')') else {
                return Err(self.wrong(from, "the argument of this condition has no end"));
            };
            self.at += length + 1;
        }
        Ok(match (name, is_negated) {
            ("true", false) | ("false", true) => Condition::Always,
            ("true", true) | ("false", false) => Condition::Never,
            _ => Condition::Depends,
        })
    }
}
