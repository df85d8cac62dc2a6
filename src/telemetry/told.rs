//! One line as it was told: its message and its fields, for all who read it. Nothing is worded here.

use super::catalogue::{self, Message};
use std::fmt;
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

/// A line that was told.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// How much it matters.
    pub level: Level,
    /// What happened, in constant words.
    pub message: String,
    /// To what, by whom, why: in the order of the line.
    pub fields: Vec<(&'static str, Value)>,
}

/// What a field says.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number.
    Number(u64),
    /// One word, such as a busid or `true`.
    Word(String),
    /// Anything that could have blanks in it. Control characters are escaped by
    /// [`Text`](crate::model::Text) already.
    Text(String),
}

impl Told {
    /// What `tracing` carries.
    pub(super) fn of(event: &Event<'_>) -> Self {
        let level = *event.metadata().level();
        let mut told = Self { level, message: String::new(), fields: Vec::new() };
        event.record(&mut told);
        told
    }

    /// What the catalogue knows of its message.
    pub fn kind(&self) -> Option<&'static Message> {
        catalogue::find(&self.message)
    }

    /// The field of this name.
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.fields.iter().find(|(field, _)| *field == name).map(|(_, value)| value)
    }

    /// The line, in colours for a terminal.
    pub(super) fn line(&self, colour: bool) -> String {
        let mut line = self.message.clone();
        for (name, value) in &self.fields {
            // The name in italics, the sign dim: what is read first are the values.
            let [name_on, sign_on, off] =
                if colour { ["\x1b[3m", "\x1b[2m", "\x1b[0m"] } else { [""; 3] };
            let value = value.to_string();
            line.extend([" ", name_on, name, off, sign_on, "=", off, &value]);
        }
        line
    }

    fn add(&mut self, field: &Field, value: Value) {
        let name = field.name();
        if name == "message" {
            self.message = value.into_text();
        } else {
            self.fields.push((name.strip_prefix("r#").unwrap_or(name), value));
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line(false))
    }
}

impl Value {
    /// The value without quotes.
    pub fn into_text(self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Word(text) | Self::Text(text) => text,
        }
    }
}

/// Text of more than one word stands between quotes, so that one sees where it ends.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Word(word) => f.write_str(word),
            Self::Text(text) => write!(f, "\"{}\"", text.replace('"', "\\\"")),
        }
    }
}

/// `%value` and `?value` of the macros come as words; a text comes as it is.
impl Visit for Told {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, Value::Number(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, Value::Text(value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, Value::Word(format!("{value:?}")));
    }
}
