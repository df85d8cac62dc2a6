//! The language: a tree in, a policy out.
//!
//! Each function reads one thing and is total: what is wrong goes into the report, and the reading
//! goes on with what is right. A policy counts only when the report stays empty.
//!
//! Which keys there are is in [`keys`]. What a match says is read in [`matching`], what a rule does in
//! [`actions`].

mod actions;
pub(super) mod keys;
mod matching;

pub(crate) use matching::{is_attribute, is_plain_name};

use super::defaults::{Flapping, Reload, StalePorts};
use super::matcher::Group;
use super::problem::{Code, Finding, Report};
use super::source::{Span, first_hidden, hidden};
use super::target::Target;
use super::tree::{Entry, Node, Value};
use super::wish::{ControllerWish, KindWish};
use super::{KeepLast, Policy, Role, suggest};
use crate::model::{PortNumber, Text, UsbVersion};
use keys::{CONTROLLER, DEFAULTS, DROP_IN, FLAPPING, POLICY, REMEMBERED};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// A kind of map: what messages call it, and the keys that it may have.
pub(crate) struct Shape {
    pub(crate) what: &'static str,
    pub(crate) keys: &'static [&'static str],
}

/// The version of the language that is read here.
const VERSION: &str = "1";

/// The words that mean the control domain, where every device is to begin with.
pub(crate) const DOM0: [&str; 2] = ["dom0", "Domain-0"];

/// What earlier files have left to those after them.
#[derive(Default)]
pub(super) struct Known {
    /// The aliases of all files.
    domains: Domains,
    /// The groups of devices that were read so far.
    groups: Vec<Arc<Group>>,
    /// Their places, by their names.
    groups_by_name: BTreeMap<Box<str>, usize>,
    /// The names of groups that could not be read.
    bad_groups: BTreeSet<Box<str>>,
    /// The names of rules that keep the way of their devices.
    kept_names: BTreeSet<Box<str>>,
    /// How many regular expressions were read so far.
    regexes: usize,
    /// How many values the matches that were read so far compare.
    values: usize,
}

/// Reads the aliases of a file, besides those that are there.
pub(super) fn domains(root: &Node, role: Role, report: &mut Report<'_>, known: &mut Known) {
    if role != Role::Remembered {
        Reader::new(report).aliases(root, &mut known.domains);
    }
}

/// Reads a file into a policy, after what is there. That counts only if nothing was added to the report.
pub(super) fn file(
    root: &Node,
    role: Role,
    report: &mut Report<'_>,
    (known, policy): (&mut Known, &mut Policy),
) {
    let mut reader = Reader { report, known: std::mem::take(known) };
    reader.file(root, role, policy);
    *known = reader.known;
}

/// The aliases of domains, and what each stands for. An alias in an alias is none.
pub(crate) type Domains = BTreeMap<Box<str>, Vec<Target>>;

pub(crate) struct Reader<'r, 't> {
    pub(crate) report: &'r mut Report<'t>,
    known: Known,
}

impl<'r, 't> Reader<'r, 't> {
    /// The most regular expressions that a policy may have.
    const MAX_REGEXES: usize = 1000;
    /// How many groups of devices may be in one another.
    const MAX_GROUPS_DEEP: usize = 8;
    /// The most values that all matches together may compare.
    const MAX_VALUES: usize = 1_000_000;

    /// A reader of one tree.
    pub(crate) fn new(report: &'r mut Report<'t>) -> Self {
        Self { report, known: Known::default() }
    }
}

impl Reader<'_, '_> {
    fn file(&mut self, root: &Node, role: Role, policy: &mut Policy) {
        let shape = match role {
            Role::Main => &POLICY,
            Role::DropIn => &DROP_IN,
            Role::Remembered => &REMEMBERED,
        };
        let Some(fields) = self.fields(root, shape) else { return };
        if let Some(version) = self.required(&fields, "version") {
            self.version(version);
        }
        if let Some(defaults) = fields.get("defaults").filter(|_| role == Role::Main) {
            self.defaults(defaults, policy);
        }
        if let Some(devices) = fields.get("devices") {
            self.groups(devices);
            policy.groups.clone_from(&self.known.groups);
        }
        if let Some(protect) = fields.get("protect") {
            policy.protect.extend(self.protect(protect));
        }
        let rules = match role {
            Role::Main | Role::Remembered => self.required(&fields, "rules"),
            Role::DropIn => fields.get("rules"),
        };
        if let Some(rules) = rules {
            self.rules(rules, policy);
        }
    }

    fn version(&mut self, node: &Node) {
        if let Some(text) = self.text(node, "the number 1").filter(|text| *text != VERSION) {
            let message = format!("version `{}` of the policy language is not known", shown(text));
            let finding = Finding::new(Code::LanguageVersion, node.span, message);
            self.report.add(finding.help("this program knows version 1"));
        }
    }

    fn defaults(&mut self, node: &Node, policy: &mut Policy) {
        let Some(fields) = self.fields(node, &DEFAULTS) else { return };
        if let Some(controller) = fields.get("controller") {
            policy.controller = self.controller(controller);
        }
        if let Some(settle) =
            fields.get("settle").and_then(|node| self.duration(node, Policy::MAX_SETTLE))
        {
            policy.settle = settle;
        }
        if let Some(keep_last) = fields.get("keep_last") {
            policy.keep_last = self.keep_last(keep_last);
        }
        if let Some(ports) = fields.get("stale_ports").and_then(|node| self.stale_ports(node)) {
            policy.stale_ports = ports;
        }
        if let Some(flapping) = fields.get("flapping") {
            policy.flapping = self.flapping(flapping, &FLAPPING, Flapping::default());
        }
        if let Some(quarantine) = fields.get("quarantine").and_then(|node| self.truth(node)) {
            policy.quarantine = quarantine;
        }
        if let Some(reload) = fields.get("reload").and_then(|node| self.reload(node)) {
            policy.reload = reload;
        }
    }

    fn keep_last(&mut self, node: &Node) -> KeepLast {
        let mut keep = KeepLast { keyboard: false, pointer: false };
        for item in
            self.items(node, "a list of `keyboard` and `pointer`", "for neither, write `[]`")
        {
            let Some(text) = self.text(item, "`keyboard` or `pointer`") else { continue };
            match text {
                "keyboard" => keep.keyboard = true,
                "pointer" => keep.pointer = true,
                _ => {
                    let message = format!("`{}` is not `keyboard` or `pointer`", shown(text));
                    let finding = Finding::new(Code::BadKeepLast, item.span, message);
                    let meant = match text {
                        "mouse" | "touchpad" => Some("pointer"),
                        _ => suggest::nearest(text, &["keyboard", "pointer"]),
                    };
                    self.report.add(match meant {
                        Some(word) => finding.help(format!("did you mean `{word}`?")),
                        None => finding,
                    });
                }
            }
        }
        keep
    }

    fn stale_ports(&mut self, node: &Node) -> Option<StalePorts> {
        let text = self.text(node, "the word `clear` or `leave`")?;
        let ports = StalePorts::from_word(text);
        if ports.is_none() {
            let message = format!("stale ports are `clear` or `leave`, not `{}`", shown(text));
            self.report.add(Finding::new(Code::BadStalePorts, node.span, message));
        }
        ports
    }

    fn reload(&mut self, node: &Node) -> Option<Reload> {
        let text = self.text(node, "the word `on_request` or `on_change`")?;
        let reload = Reload::from_word(text);
        if reload.is_none() {
            let message =
                format!("files are read anew `on_request` or `on_change`, not `{}`", shown(text));
            self.report.add(Finding::new(Code::BadReload, node.span, message));
        }
        reload
    }

    /// Of what is not said, `usual` holds.
    fn flapping(&mut self, node: &Node, shape: &Shape, usual: Flapping) -> Flapping {
        let mut flapping = usual;
        let Some(fields) = self.fields(node, shape) else { return flapping };
        if let Some(plugs) = fields.get("plugs").and_then(|node| self.plug_count(node)) {
            flapping.plugs = plugs;
        }
        let longest = Flapping::MAX_TIME;
        if let Some(within) = fields.get("within").and_then(|node| self.duration(node, longest)) {
            flapping.within = within;
        }
        if let Some(pause) = fields.get("pause").and_then(|node| self.duration(node, longest)) {
            flapping.pause = pause;
        }
        flapping
    }

    fn plug_count(&mut self, node: &Node) -> Option<u32> {
        let expected = format!("a number from 0 to {}", Flapping::MAX_PLUGS);
        let text = self.text(node, &expected)?;
        let plain = text.bytes().all(|byte| byte.is_ascii_digit());
        let count = text.parse().ok().filter(|count| plain && *count <= Flapping::MAX_PLUGS);
        if count.is_none() {
            let message = format!("`{}` is not {expected}", shown(text));
            let finding = Finding::new(Code::BadPlugCount, node.span, message);
            self.report.add(finding.help("with 0 a device may be plugged as often as it likes"));
        }
        count
    }

    /// Only the two words that mean the same to every version of YAML.
    pub(crate) fn truth(&mut self, node: &Node) -> Option<bool> {
        let text = self.text(node, "`true` or `false`")?;
        let truth = text.parse().ok();
        if truth.is_none() {
            let message = format!("`{}` is neither `true` nor `false`", shown(text));
            self.report.add(Finding::new(Code::BadTruth, node.span, message));
        }
        truth
    }

    fn controller(&mut self, node: &Node) -> ControllerWish {
        let mut wish = ControllerWish::default();
        let Some(fields) = self.fields(node, &CONTROLLER) else { return wish };
        if let Some(kind) = fields.get("type").and_then(|node| self.controller_type(node)) {
            wish.kind = kind;
        }
        if let Some(version) = fields.get("version").and_then(|node| self.usb_version(node)) {
            wish.version = version;
        }
        if let Some(ports) = fields.get("ports").and_then(|node| self.port_count(node)) {
            wish.ports = ports;
        }
        wish
    }

    fn controller_type(&mut self, node: &Node) -> Option<KindWish> {
        let text = self.text(node, "a type of controller")?;
        let kind = KindWish::from_word(text);
        if kind.is_none() {
            let message = format!("`{}` is not `auto`, `pv` or `qusb`", shown(text));
            self.report.add(Finding::new(Code::BadControllerType, node.span, message));
        }
        kind
    }

    fn usb_version(&mut self, node: &Node) -> Option<UsbVersion> {
        let text = self.text(node, "the number 1 or 2")?;
        let version = [UsbVersion::V1, UsbVersion::V2].into_iter().find(|v| v.to_string() == text);
        if version.is_none() {
            let message = format!("a controller offers USB version 1 or 2, not `{}`", shown(text));
            self.report.add(Finding::new(Code::BadUsbVersion, node.span, message));
        }
        version
    }

    fn port_count(&mut self, node: &Node) -> Option<PortNumber> {
        let text = self.text(node, "a number from 1 to 31")?;
        let count = text.parse().ok();
        if count.is_none() {
            let message = format!("a controller has 1 to 31 ports, not `{}`", shown(text));
            self.report.add(Finding::new(Code::BadPortCount, node.span, message));
        }
        count
    }

    /// A duration of at most `longest`.
    fn duration(&mut self, node: &Node, longest: Duration) -> Option<Duration> {
        let text = self.text(node, "a duration")?;
        let problem = match duration(text) {
            Some(duration) if duration <= longest => return Some(duration),
            Some(_) => format!("`{}` is longer than {}s", shown(text), longest.as_secs()),
            None => format!("`{}` is not a duration", shown(text)),
        };
        let finding = Finding::new(Code::BadDuration, node.span, problem);
        self.report.add(finding.help("write a whole number and its unit: `200ms`, `2s`, `1m`"));
        None
    }

    /// The items of a list; none if it is something else. `help` is for who writes nothing.
    fn items<'n>(&mut self, node: &'n Node, expected: &str, help: &str) -> &'n [Node] {
        let Value::List(items) = &node.value else {
            let finding = wrong_shape(node, expected);
            let nothing = matches!(node.value, Value::Nothing);
            self.report.add(if nothing { finding.help(help) } else { finding });
            return &[];
        };
        items
    }

    /// The fields of a map of this shape. Keys that it does not have are reported.
    pub(crate) fn fields<'n>(&mut self, node: &'n Node, shape: &Shape) -> Option<Fields<'n>> {
        let Value::Map(entries) = &node.value else {
            let expected = format!("{} (a map with {})", shape.what, some(shape.keys));
            self.report.add(wrong_shape(node, &expected));
            return None;
        };
        let unknown = entries.iter().filter(|entry| !shape.keys.contains(&entry.key.as_str()));
        let meant = unknown.filter_map(|entry| Some((self.unknown_key(entry, shape)?, entry)));
        let meant = meant.collect();
        Some(Fields { what: shape.what, span: node.span, entries, meant })
    }

    /// Reports an unknown key. Returns the one that was most likely meant.
    fn unknown_key(&mut self, entry: &Entry, shape: &Shape) -> Option<&'static str> {
        if self.report.is_full() {
            // There may be very many of them, and looking for the nearest key is dear.
            self.report.count();
            return None;
        }
        let message = format!("unknown key `{}` in {}", shown(&entry.key), shape.what);
        let finding = Finding::new(Code::UnknownKey, entry.key_span, message);
        let meant = suggest::key(&entry.key, shape.keys);
        let is_misplaced = shape.what == DROP_IN.what && entry.key == "defaults";
        self.report.add(finding.help(match meant {
            _ if is_misplaced => "what holds for all rules is in the main file alone".to_owned(),
            Some(key) => suggest::advice(&entry.key, key),
            None => format!("the keys here are {}", list(shape.keys)),
        }));
        meant
    }

    /// The value of a key that must be there. If it is misspelt, that was said already.
    pub(crate) fn required<'n>(&mut self, fields: &Fields<'n>, key: &str) -> Option<&'n Node> {
        let node = fields.get(key);
        if node.is_none() && !fields.means(key) {
            let message = format!("{} needs the key `{key}`", fields.what);
            self.report.add(Finding::new(Code::MissingKey, fields.span, message));
        }
        node
    }

    /// A value that explains itself when it is wrong.
    pub(crate) fn value<T>(&mut self, node: &Node, expected: &str, code: Code) -> Option<T>
    where
        T: FromStr<Err: Display>,
    {
        match self.text(node, expected)?.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.report.add(Finding::new(code, node.span, format!("{error}")));
                None
            }
        }
    }

    /// A text of one line that can be seen.
    pub(crate) fn text<'n>(&mut self, node: &'n Node, expected: &str) -> Option<&'n str> {
        let Value::Text(text) = &node.value else {
            self.report.add(wrong_shape(node, expected));
            return None;
        };
        if self.report.source().is_over_lines(node.span) {
            let message = format!("expected {expected}, found a text of several lines");
            self.report.add(Finding::new(Code::SeveralLines, node.span, message));
            return None;
        }
        if let Some(c) = first_hidden(text) {
            self.report.add(hidden(node.span, c));
            return None;
        }
        Some(text)
    }
}

/// The entries of a map whose shape is known.
pub(crate) struct Fields<'n> {
    what: &'static str,
    pub(crate) span: Span,
    pub(crate) entries: &'n [Entry],
    /// The keys that unknown ones were most likely meant to be.
    meant: Vec<(&'static str, &'n Entry)>,
}

impl<'n> Fields<'n> {
    /// The entry of that key, or else the one whose key is a slip of it: that was said, and nothing comes of what is
    /// read, but mistakes in its value are told in the same run. What other programs call it has values of theirs.
    pub(crate) fn entry(&self, key: &str) -> Option<&'n Entry> {
        let is_slip =
            |word: &str, meant: &str| meant == key && suggest::nearest(word, &[key]).is_some();
        let slips = self.meant.iter().filter(|(meant, entry)| is_slip(&entry.key, meant));
        let spelt = self.entries.iter().find(|entry| entry.key == key);
        spelt.or_else(|| slips.map(|(_, entry)| *entry).next())
    }

    /// Whether an unknown key was most likely meant to be this one.
    pub(crate) fn means(&self, key: &str) -> bool {
        self.meant.iter().any(|(meant, _)| *meant == key)
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'n Node> {
        self.entry(key).map(|entry| &entry.node)
    }
}

pub(crate) fn wrong_shape(node: &Node, expected: &str) -> Finding {
    let message = format!("expected {expected}, found {}", node.value.noun());
    Finding::new(Code::WrongShape, node.span, message)
}

/// `a`, `b` and `c`.
pub(crate) fn list(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

/// As many of the words as one reads.
fn some(words: &[&str]) -> String {
    match words {
        [a, b, c, rest @ ..] if rest.len() > 5 => format!("keys such as {}", list(&[*a, *b, *c])),
        _ => list(words),
    }
}

fn shown(text: &str) -> Text {
    Text::from(text)
}

/// A whole number with a unit: `200ms`, `2s`, `1m`; or a bare `0`.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let milliseconds = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60_000),
        "" if number == 0 => Some(0),
        _ => None,
    };
    milliseconds.map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("200ms"), Some(Duration::from_millis(200)));
        assert_eq!(duration("1m"), Some(Duration::from_secs(60)));
        assert_eq!(duration("0"), Some(Duration::ZERO));
        for text in ["", "s", "1", "1.5s", "-1s", "1 s", "1h", "1e3ms", "99999999999999999999s"] {
            assert_eq!(duration(text), None, "{text}");
        }
        assert_eq!(duration("18446744073709551615m"), None);
    }
}
