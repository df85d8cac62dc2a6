//! Patterns of class triples, and sets of interfaces.

use super::place::PatternError;
use crate::model::{ClassTriple, Device};
use std::fmt;
use std::str::FromStr;

/// Class, subclass and protocol, each two hexadecimal digits or `*`: `03:01:01`, `08:*:*`. The class
/// alone means every subclass and protocol: `08`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassPattern {
    /// The class; `None` for any.
    pub class: Option<u8>,
    /// The subclass; `None` for any.
    pub subclass: Option<u8>,
    /// The protocol; `None` for any.
    pub protocol: Option<u8>,
}

impl ClassPattern {
    /// Every triple of a class.
    pub const fn class(class: u8) -> Self {
        Self { class: Some(class), subclass: None, protocol: None }
    }

    /// Every triple of a subclass.
    pub const fn subclass(class: u8, subclass: u8) -> Self {
        Self { class: Some(class), subclass: Some(subclass), protocol: None }
    }

    /// One triple.
    pub const fn triple(class: u8, subclass: u8, protocol: u8) -> Self {
        Self { class: Some(class), subclass: Some(subclass), protocol: Some(protocol) }
    }

    /// Whether `triple` is one of those.
    pub fn matches(self, triple: ClassTriple) -> bool {
        let is = |wanted: Option<u8>, there| wanted.is_none_or(|wanted| wanted == there);
        is(self.class, triple.class)
            && is(self.subclass, triple.subclass)
            && is(self.protocol, triple.protocol)
    }
}

impl FromStr for ClassPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let byte = |text: &str| {
            if text == "*" {
                return Some(None);
            }
            let plain = text.len() == 2 && text.bytes().all(|b| b.is_ascii_hexdigit());
            plain.then(|| u8::from_str_radix(text, 16).ok()).flatten().map(Some)
        };
        let parse = || {
            let mut parts = text.split(':');
            let class = byte(parts.next()?)?;
            let (subclass, protocol) = match (parts.next(), parts.next(), parts.next()) {
                (None, ..) => (None, None),
                (Some(subclass), Some(protocol), None) => (byte(subclass)?, byte(protocol)?),
                _ => return None,
            };
            Some(Self { class, subclass, protocol })
        };
        let expected = "a class such as `03:01:01`, `08:*:*` or `08`";
        parse().ok_or_else(|| PatternError::new(text, expected))
    }
}

impl fmt::Display for ClassPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let byte = |byte: Option<u8>| byte.map_or("*".into(), |byte| format!("{byte:02x}"));
        let [class, subclass, protocol] = [self.class, self.subclass, self.protocol].map(byte);
        f.pad(&format!("{class}:{subclass}:{protocol}"))
    }
}

/// What a rule asks of the interfaces that a device has; all of it must hold. An empty list asks
/// nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceSet {
    /// One interface at least is one of these.
    pub any: Vec<ClassPattern>,
    /// For each of these there is an interface.
    pub all: Vec<ClassPattern>,
    /// There is an interface, and each is one of these.
    pub only: Vec<ClassPattern>,
    /// No interface is one of these.
    pub none: Vec<ClassPattern>,
}

impl InterfaceSet {
    /// The four lists with the words for them.
    pub fn parts(&self) -> [(&'static str, &[ClassPattern]); 4] {
        [("any", &self.any), ("all", &self.all), ("only", &self.only), ("none", &self.none)]
    }

    /// The same, to be written to.
    pub(in crate::policy) fn part_mut(&mut self, word: &str) -> Option<&mut Vec<ClassPattern>> {
        match word {
            "any" => Some(&mut self.any),
            "all" => Some(&mut self.all),
            "only" => Some(&mut self.only),
            "none" => Some(&mut self.none),
            _ => None,
        }
    }

    /// Whether the interfaces of `device` are like that.
    pub fn matches(&self, device: &Device) -> bool {
        let has = |pattern: &ClassPattern| {
            device.interfaces.values().any(|interface| pattern.matches(interface.class))
        };
        let is_one_of = |patterns: &[ClassPattern], class| {
            patterns.iter().any(|pattern| pattern.matches(class))
        };
        let mut classes = device.interfaces.values().map(|interface| interface.class);
        (self.any.is_empty() || self.any.iter().any(has))
            && self.all.iter().all(has)
            && (self.only.is_empty()
                || !device.interfaces.is_empty() && classes.all(|it| is_one_of(&self.only, it)))
            && !self.none.iter().any(has)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_alone_means_all_of_it() {
        let shown = |text: &str| text.parse::<ClassPattern>().map(|it| it.to_string()).ok();
        let cases = [("03:01:01", "03:01:01"), ("08", "08:*:*"), ("FF:*:0a", "ff:*:0a")];
        for (text, expected) in cases {
            assert_eq!(shown(text).as_deref(), Some(expected));
        }
        for text in ["", "3", "003", "03:01", "03:01:01:01", "0x03", "storage", "03:1:1", "+3"] {
            assert_eq!(shown(text), None, "{text}");
        }
    }
}
