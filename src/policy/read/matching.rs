//! Which devices: `match`, the groups of `devices` and the entries of `protect`.

use super::keys::{ALL, ANY, BEHIND, GROUPED, INTERFACE, MATCH, NOT, PROTECTED, UDEV};
use super::{Fields, Reader, Shape, shown, wrong_shape};
use crate::model::{Removable, Speed};
use crate::policy::matcher::{
    Category, Condition, Cost, Group, IdPattern, InterfaceSet, Matcher, TextPattern, UdevMatch,
};
use crate::policy::problem::{Code, Finding};
use crate::policy::suggest;
use crate::policy::tree::{Entry, Node, Value};
use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

/// What people write for a category that has another name.
const OTHER_NAMES: [(&str, &str); 25] = [
    ("mouse", "pointer"),
    ("mice", "pointer"),
    ("touchpad", "pointer"),
    ("disk", "storage"),
    ("drive", "storage"),
    ("stick", "storage"),
    ("mass-storage", "storage"),
    ("mass_storage", "storage"),
    ("sound", "audio"),
    ("headset", "audio"),
    ("microphone", "audio"),
    ("camera", "video"),
    ("webcam", "video"),
    ("ccid", "smartcard"),
    ("smart_card", "smartcard"),
    ("card_reader", "smartcard"),
    ("u2f", "fido"),
    ("security_key", "fido"),
    ("token", "fido"),
    ("ethernet", "network"),
    ("net", "network"),
    ("modem", "serial"),
    ("tty", "serial"),
    ("scanner", "imaging"),
    ("android", "phone"),
];

/// Among how many names the one is looked for that was probably meant.
const MAX_NAMES: usize = 500;

impl Reader<'_, '_> {
    /// The groups of `devices`. Each may use those above it.
    pub(super) fn groups(&mut self, node: &Node) {
        let Value::Map(entries) = &node.value else {
            self.report.add(wrong_shape(node, "a map from names to matches"));
            return;
        };
        let earlier = self.known.groups.len();
        let is_earlier = |places: &BTreeMap<Box<str>, usize>, name: &str| {
            places.get(name).is_some_and(|place| *place < earlier)
        };
        for entry in entries {
            if !self.is_name(entry) {
                continue;
            }
            if is_earlier(&self.known.groups_by_name, &entry.key) {
                let message = format!("another file has the group `{}` too", shown(&entry.key));
                self.report.add(Finding::new(Code::DuplicateName, entry.key_span, message));
            }
            let matchers = self.matchers(&entry.node, &GROUPED);
            if let Some(matchers) = matchers.filter(|it| self.is_cheap(&entry.node, it)) {
                let place = self.known.groups.len();
                self.known.groups_by_name.entry(entry.key.as_str().into()).or_insert(place);
                self.known.groups.push(Arc::new(Group::new(&entry.key, matchers)));
            } else {
                self.known.bad_groups.insert(entry.key.as_str().into());
            }
        }
    }

    /// The entries of `protect`.
    pub(super) fn protect(&mut self, node: &Node) -> Vec<Matcher> {
        let items = self.items(node, "a list of matches", "for none, leave `protect` out");
        items.iter().filter_map(|item| self.whole_match(item, &PROTECTED)).collect()
    }

    /// The `match` of a rule.
    pub(super) fn rule_match(&mut self, node: &Node) -> Option<Matcher> {
        self.whole_match(node, &MATCH)
    }

    /// A match that is part of no other.
    fn whole_match(&mut self, node: &Node, shape: &Shape) -> Option<Matcher> {
        let matcher = self.matcher(node, shape)?;
        self.is_cheap(node, std::slice::from_ref(&matcher)).then_some(matcher)
    }

    fn matcher(&mut self, node: &Node, shape: &Shape) -> Option<Matcher> {
        let fields = self.fields(node, shape)?;
        if fields.entries.is_empty() {
            let finding =
                Finding::new(Code::EmptyMatch, node.span, "a match needs at least one key");
            self.report.add(finding.help("to match every device, write `id: \"*:*\"`"));
        }
        let conditions = fields.entries.iter().map(|entry| self.condition(entry));
        let conditions: Vec<_> = conditions.collect();
        Matcher::new(conditions.into_iter().collect::<Option<_>>()?)
    }

    /// One match or a list of them.
    fn matchers(&mut self, node: &Node, shape: &Shape) -> Option<Vec<Matcher>> {
        self.one_of(node, |reader, item| reader.matcher(item, shape))
    }

    /// Whether it can be judged in time. What it takes is counted for the whole policy.
    fn is_cheap(&mut self, node: &Node, matchers: &[Matcher]) -> bool {
        if self.known.values > Self::MAX_VALUES {
            return false;
        }
        let cost = Cost::of(matchers);
        self.known.values = self.known.values.saturating_add(cost.values);
        let message = if cost.depth > Self::MAX_GROUPS_DEEP {
            format!("more than {} groups are in one another", Self::MAX_GROUPS_DEEP)
        } else if self.known.values > Self::MAX_VALUES {
            let most = Self::MAX_VALUES;
            format!(
                "up to here more than {most} values are to be compared, those of groups included"
            )
        } else {
            return true;
        };
        self.report.add(Finding::new(Code::TooIntricate, node.span, message));
        false
    }

    fn condition(&mut self, entry: &Entry) -> Option<Condition> {
        let node = &entry.node;
        Some(match entry.key.as_str() {
            "id" => Condition::Id(self.one_of(node, Self::id)?),
            "port" => Condition::Port(self.values(node, "a USB port", Code::BadPort)?),
            "bus_address" => {
                Condition::BusAddress(self.values(node, "a bus address", Code::BadBusAddress)?)
            }
            "serial" => Condition::Serial(self.texts(node)?),
            "manufacturer" => Condition::Manufacturer(self.texts(node)?),
            "product" => Condition::Product(self.texts(node)?),
            "class" => Condition::Class(self.one_of(node, Self::class)?),
            "interface" => Condition::Interface(self.interface(node)?.into()),
            "category" => Condition::Category(self.one_of(node, Self::category)?),
            "speed" => Condition::Speed(self.one_of(node, Self::speed)?),
            "usb_version" => {
                Condition::UsbVersion(self.values(node, "a version of USB", Code::BadRelease)?)
            }
            "removable" => Condition::Removable(self.one_of(node, Self::removable)?),
            "driver" => Condition::Driver(self.texts(node)?),
            "udev" => Condition::Udev(self.udev(node)?.into()),
            "behind" => Condition::Behind(self.matchers(node, &BEHIND)?),
            "device" => Condition::Device(self.one_of(node, Self::group)?),
            "not" => Condition::Not(self.matchers(node, &NOT)?),
            "any" => Condition::Any(self.list_of_matches(node, &ANY)?),
            "all" => Condition::All(self.list_of_matches(node, &ALL)?),
            // Reported as unknown by `fields`.
            _ => return None,
        })
    }

    /// One value, or a list of values of which any will do. `None` if one of them is wrong.
    fn one_of<T>(
        &mut self,
        node: &Node,
        mut read: impl FnMut(&mut Self, &Node) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Value::List(items) = &node.value else { return Some(vec![read(self, node)?]) };
        if items.is_empty() {
            let message = "this list is empty: nothing would match";
            self.report.add(Finding::new(Code::EmptyChoice, node.span, message));
            return None;
        }
        // All of them are read, so that everything that is wrong is told of.
        let values: Vec<_> = items.iter().map(|item| read(self, item)).collect();
        values.into_iter().collect()
    }

    /// One value that explains itself when it is wrong, or a list.
    fn values<T>(&mut self, node: &Node, expected: &str, code: Code) -> Option<Vec<T>>
    where
        T: FromStr<Err: std::fmt::Display>,
    {
        self.one_of(node, |reader, item| reader.value(item, expected, code))
    }

    fn list_of_matches(&mut self, node: &Node, shape: &Shape) -> Option<Vec<Matcher>> {
        if matches!(node.value, Value::Map(_)) {
            let finding = wrong_shape(node, "a list of matches");
            self.report.add(finding.help("begin each match of the list with `- `"));
            return None;
        }
        self.matchers(node, shape)
    }

    fn id(&mut self, node: &Node) -> Option<IdPattern> {
        let text = self.text(node, "a USB id")?;
        match text.parse() {
            Ok(pattern) => Some(pattern),
            Err(error) => {
                let finding = Finding::new(Code::BadId, node.span, format!("{error}"));
                self.report.add(match repaired_id(text) {
                    Some(id) => finding.help(format!("did you mean `{id}`?")),
                    None => finding,
                });
                None
            }
        }
    }

    fn texts(&mut self, node: &Node) -> Option<Vec<TextPattern>> {
        self.one_of(node, Self::text_pattern)
    }

    fn text_pattern(&mut self, node: &Node) -> Option<TextPattern> {
        let text = self.text(node, "a text, a pattern with `*` and `?`, or a `/regex/`")?;
        if TextPattern::is_written_as_regex(text) {
            self.count_regex(node)?;
        }
        match text.parse() {
            Ok(pattern) => Some(pattern),
            Err(error) => {
                let error: crate::policy::matcher::TextPatternError = error;
                let finding = Finding::new(Code::BadTextPattern, node.span, format!("{error}"));
                self.report.add(match error.advice() {
                    Some(advice) => finding.help(advice),
                    None => finding,
                });
                None
            }
        }
    }

    /// Regular expressions take time and memory that their text does not show, also those that are bad. So
    /// they are counted before they are looked at.
    fn count_regex(&mut self, node: &Node) -> Option<()> {
        self.known.regexes += 1;
        if self.known.regexes > Self::MAX_REGEXES {
            let message = format!("there are more than {} regular expressions", Self::MAX_REGEXES);
            self.report.add(Finding::new(Code::TooIntricate, node.span, message));
            return None;
        }
        Some(())
    }

    fn class(&mut self, node: &Node) -> Option<crate::policy::ClassPattern> {
        let text = self.text(node, "a class such as `03:01:01`")?;
        match text.parse() {
            Ok(pattern) => Some(pattern),
            Err(error) => {
                let finding = Finding::new(Code::BadClass, node.span, format!("{error}"));
                let help = match (repaired_class(text), meant_category(text)) {
                    (Some(class), _) => Some(format!("did you mean `{class}`?")),
                    (None, Some(word)) => Some(format!("for a word, use `category: {word}`")),
                    (None, None) => None,
                };
                self.report.add(match help {
                    Some(help) => finding.help(help),
                    None => finding,
                });
                None
            }
        }
    }

    fn interface(&mut self, node: &Node) -> Option<InterfaceSet> {
        let Value::Map(_) = &node.value else {
            return Some(InterfaceSet {
                any: self.one_of(node, Self::class)?,
                ..InterfaceSet::default()
            });
        };
        let fields = self.fields(node, &INTERFACE)?;
        self.not_empty(&fields, &INTERFACE)?;
        let mut set = InterfaceSet::default();
        let mut is_right = true;
        for entry in fields.entries {
            let patterns = self.one_of(&entry.node, Self::class);
            match (set.part_mut(&entry.key), patterns) {
                (Some(part), Some(patterns)) => *part = patterns,
                _ => is_right = false,
            }
        }
        is_right.then_some(set)
    }

    fn category(&mut self, node: &Node) -> Option<Category> {
        let words = Category::ALL.map(Category::word);
        let text = self.text(node, "a category")?;
        let category = Category::from_word(text);
        if category.is_none() {
            if self.report.is_full() {
                self.report.count();
                return None;
            }
            let message = format!("there is no category `{}`", shown(text));
            let finding = Finding::new(Code::BadCategory, node.span, message);
            self.report.add(finding.help(match meant_category(text) {
                Some(word) => format!("did you mean `{word}`?"),
                None => format!("the categories are {}", super::list(&words)),
            }));
        }
        category
    }

    fn speed(&mut self, node: &Node) -> Option<Speed> {
        let words = Speed::KNOWN.map(Speed::word);
        let word = self.word(node, "a speed", &words, Code::BadSpeed)?;
        Speed::KNOWN.into_iter().find(|speed| speed.word() == word)
    }

    fn removable(&mut self, node: &Node) -> Option<Removable> {
        let words = Removable::ALL.map(Removable::word);
        let text = self.word(node, "a word", &words, Code::BadRemovable)?;
        Removable::from_word(text)
    }

    /// One of a few words.
    pub(crate) fn word<'n>(
        &mut self,
        node: &'n Node,
        expected: &str,
        words: &[&str],
        code: Code,
    ) -> Option<&'n str> {
        let text = self.text(node, expected)?;
        if words.contains(&text) {
            return Some(text);
        }
        if self.report.is_full() {
            self.report.count();
            return None;
        }
        let one_of = if words.len() > 1 { "one of " } else { "" };
        let message = format!("`{}` is not {one_of}{}", shown(text), super::list(words));
        let finding = Finding::new(code, node.span, message);
        self.report.add(match suggest::nearest(text, words) {
            Some(word) => finding.help(format!("did you mean `{word}`?")),
            None => finding,
        });
        None
    }

    fn udev(&mut self, node: &Node) -> Option<UdevMatch> {
        let fields = self.fields(node, &UDEV)?;
        self.not_empty(&fields, &UDEV)?;
        let mut wanted = UdevMatch::default();
        let mut is_right = fields.entries.iter().all(|it| UDEV.keys.contains(&it.key.as_str()));
        if let Some(node) = fields.get("property") {
            let properties = self.named_patterns(node, "properties", is_plain_name);
            is_right &= properties.is_some();
            wanted.properties = properties.unwrap_or_default();
        }
        if let Some(node) = fields.get("attribute") {
            let attributes = self.named_patterns(node, "attributes", is_attribute);
            is_right &= attributes.is_some();
            wanted.attributes = attributes.unwrap_or_default();
        }
        if let Some(node) = fields.get("tag") {
            let tags = self.one_of(node, Self::tag);
            is_right &= tags.is_some();
            wanted.tags = tags.unwrap_or_default();
        }
        is_right.then_some(wanted)
    }

    /// A map from names to patterns of their values.
    fn named_patterns(
        &mut self,
        node: &Node,
        what: &str,
        is_name: fn(&str) -> bool,
    ) -> Option<Vec<(Box<str>, Vec<TextPattern>)>> {
        let Value::Map(entries) = &node.value else {
            self.report.add(wrong_shape(node, &format!("a map from names of {what} to patterns")));
            return None;
        };
        if entries.is_empty() {
            let message = format!("no {what} are named");
            self.report.add(Finding::new(Code::EmptyChoice, node.span, message));
            return None;
        }
        let mut pairs = Some(Vec::new());
        for entry in entries {
            if !is_name(&entry.key) {
                let message =
                    format!("`{}` cannot be the name of one of the {what}", shown(&entry.key));
                self.report.add(Finding::new(Code::BadUdevName, entry.key_span, message));
                pairs = None;
            }
            match (self.texts(&entry.node), &mut pairs) {
                (Some(patterns), Some(pairs)) => pairs.push((entry.key.as_str().into(), patterns)),
                _ => pairs = None,
            }
        }
        pairs
    }

    fn tag(&mut self, node: &Node) -> Option<Box<str>> {
        let text = self.text(node, "the name of a tag")?;
        if is_plain_name(text) && !text.contains(':') {
            return Some(text.into());
        }
        let message = format!("`{}` cannot be the name of a tag", shown(text));
        self.report.add(Finding::new(Code::BadUdevName, node.span, message));
        None
    }

    /// A group that was written above.
    fn group(&mut self, node: &Node) -> Option<Arc<Group>> {
        let text = self.text(node, "the name of a group of `devices`")?;
        let place = self.known.groups_by_name.get(text);
        if let Some(group) = place.and_then(|place| self.known.groups.get(*place)) {
            return Some(Arc::clone(group));
        }
        if self.report.is_full() {
            self.report.count();
            return None;
        }
        // What is wrong with it was said already.
        if !self.known.bad_groups.contains(text) {
            let message = format!("there is no group `{}` above", shown(text));
            let finding = Finding::new(Code::UnknownGroup, node.span, message);
            let names = self.known.groups.iter().take(MAX_NAMES).map(|group| group.name());
            let names: Vec<&str> = names.collect();
            self.report.add(match suggest::nearest(text, &names) {
                Some(name) => finding.help(format!("did you mean `{name}`?")),
                None => {
                    finding.help("groups of devices are written at the top level, in `devices`")
                }
            });
        }
        None
    }

    /// Whether the key of `entry` can be the name of a group.
    fn is_name(&mut self, entry: &Entry) -> bool {
        let hidden = crate::policy::source::first_hidden(&entry.key);
        let is_right = hidden.is_none() && !entry.key.trim().is_empty();
        if !is_right {
            let message = "the name of a group is not empty and can be seen";
            self.report.add(Finding::new(Code::BadGroupName, entry.key_span, message));
        }
        is_right
    }

    fn not_empty(&mut self, fields: &Fields<'_>, shape: &Shape) -> Option<()> {
        if fields.entries.is_empty() {
            let message = format!("{} needs at least one key", shape.what);
            let finding = Finding::new(Code::EmptyChoice, fields.span, message);
            self.report.add(finding.help(format!("the keys are {}", super::list(shape.keys))));
            return None;
        }
        Some(())
    }
}

/// The id that was probably meant: without `0x`, filled up with zeros, of any product.
fn repaired_id(text: &str) -> Option<IdPattern> {
    let half = |half: &str| {
        let digits = half.strip_prefix("0x").or(half.strip_prefix("0X")).unwrap_or(half);
        if digits == "*" { "*".to_owned() } else { format!("{digits:0>4}") }
    };
    match text.split_once(':') {
        Some((vendor, product)) => format!("{}:{}", half(vendor), half(product)).parse().ok(),
        None if text.len() == 4 => format!("{text}:*").parse().ok(),
        None => None,
    }
}

/// The class that was probably meant: without `0x`, filled up with zeros and stars.
fn repaired_class(text: &str) -> Option<crate::policy::ClassPattern> {
    let part = |part: &str| {
        let digits = part.strip_prefix("0x").or(part.strip_prefix("0X")).unwrap_or(part);
        if digits == "*" { "*".to_owned() } else { format!("{digits:0>2}") }
    };
    let mut parts: Vec<_> = text.split(':').take(4).map(part).collect();
    if parts.len() == 2 {
        parts.push("*".to_owned());
    }
    parts.join(":").parse().ok()
}

fn meant_category(text: &str) -> Option<&'static str> {
    let other = OTHER_NAMES.into_iter().find(|(name, _)| *name == text);
    let words = Category::ALL.map(Category::word);
    other.map(|(_, word)| word).or_else(|| suggest::nearest(text, &words))
}

/// A name as udev's rules can give it.
pub(crate) fn is_plain_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"=\"".contains(&byte);
    (1..=128).contains(&name.len()) && name.bytes().all(plain)
}

/// A path below a device's directory in sysfs that does not lead out of it: `power/control`.
pub(crate) fn is_attribute(name: &str) -> bool {
    let part = |part: &str| !matches!(part, "" | "." | "..");
    is_plain_name(name) && name.split('/').all(part)
}
