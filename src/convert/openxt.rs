//! OpenXT's `usb-rules`, as its database shows them in JSON: which virtual machine gets which device.
//!
//! Read as `vusb-daemon:src/db.c` and `src/policy.c` do. Rules have numbers. A new device goes where the
//! first `always` rule that matches it says, or else the first `default` rule
//! (`policy_auto_assign_new_device`), if the first rule of any kind that matches the device and that
//! machine does not deny it (`policy_is_allowed`). `allow` and `deny` say what a person may do by hand.
//!
//! A focused machine with `usb-auto-passthrough` is not in the rules, and has no equivalent.

use super::are_few;
use super::draft::{Draft, Said};
use super::write::{Act, Yaml, all_of, exactly, quoted};
use crate::model::{Text, UsbRelease};
use crate::policy::text::{Code, Entry, Finding, Node, Report, SourceText, Span, Value};

/// The key of the rules in the whole database.
pub(super) const RULES: &str = "usb-rules";

const HEAD: [&str; 2] = [
    "Each `always` and `default` rule stands below those that deny it its devices. Those of `always` come first, as there.",
    "OpenXT's rules name machines by UUID; write names instead if you like.",
];

const FLAGS: [(&str, Flag); 8] = [
    ("keyboard", Flag { is_it: &["keyboard"], may_be: &["keyboard"] }),
    ("mouse", Flag { is_it: &["pointer"], may_be: &["pointer"] }),
    ("game_controller", Flag { is_it: &[], may_be: &["hid"] }),
    ("mass_storage", Flag { is_it: &["storage"], may_be: &["storage"] }),
    ("optical", Flag { is_it: &[], may_be: &["storage"] }),
    ("nic", Flag { is_it: &["network"], may_be: &["network"] }),
    ("bluetooth", Flag { is_it: &["bluetooth"], may_be: &["bluetooth"] }),
    ("audio", Flag { is_it: &["audio"], may_be: &["audio"] }),
];

/// Attributes that nothing below a device has (`drivers/usb/core/sysfs.c: dev_attrs`, `dev_string_attrs`).
const OF_DEVICES: [&str; 13] = [
    "bDeviceClass",
    "bDeviceProtocol",
    "bDeviceSubClass",
    "bMaxPower",
    "bNumConfigurations",
    "bNumInterfaces",
    "bcdDevice",
    "idProduct",
    "idVendor",
    "manufacturer",
    "product",
    "serial",
    "speed",
];

/// A kind of device in our categories.
struct Flag {
    /// Devices of these are of the kind.
    is_it: &'static [&'static str],
    /// Devices of the kind are of these.
    may_be: &'static [&'static str],
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Always,
    Default,
    Allow,
    Deny,
}

/// A rule. What it asks of devices is said twice: so that it is certainly meant, and so that it may be.
struct Rule {
    span: Span,
    position: u16,
    command: Command,
    description: Option<String>,
    /// Vendor and product; `None` for any.
    id: (Option<u16>, Option<u16>),
    /// Devices that it certainly matches; `None` if that cannot be said.
    surely: Option<Vec<(String, Yaml)>>,
    /// All devices that it can match.
    perhaps: Vec<(String, Yaml)>,
    vm: Option<String>,
    /// What could not be said exactly.
    lost: Vec<String>,
}

/// Says what the rules mean.
pub(super) fn draft<'t>(text: &'t SourceText, root: &Node, report: &mut Report<'_>) -> Draft<'t> {
    let mut draft = Draft::new(text, "OpenXT", &HEAD);
    let mut reader = Reader { report };
    let Some(entries) = reader.map(root) else { return draft };
    let rules = match entries.iter().find(|entry| entry.key == RULES) {
        Some(entry) => match reader.map(&entry.node) {
            Some(rules) => rules,
            None => return draft,
        },
        None => entries,
    };
    let mut rules: Vec<Rule> = rules.iter().filter_map(|entry| reader.rule(entry)).collect();
    rules.sort_by_key(|rule| rule.position);
    if !are_few(rules.len(), reader.report) {
        return draft;
    }
    if rules.windows(2).any(|pair| pair[0].position == pair[1].position) {
        let finding = "two rules have the same number";
        reader.report.add(Finding::new(Code::BadForeignRule, root.span, finding));
    }
    for command in [Command::Always, Command::Default] {
        for (at, rule) in rules.iter().enumerate().filter(|(_, rule)| rule.command == command) {
            route(rule, &rules[..at], &mut draft);
        }
    }
    for rule in rules.iter().filter(|rule| rule.command == Command::Allow) {
        let mut origin = draft.origin(rule.span, &rule.title());
        Draft::remark(&mut origin, "A person may attach such devices by hand, here as there");
        draft.leave_out(origin);
    }
    for (at, rule) in rules.iter().enumerate().filter(|(_, rule)| rule.command == Command::Deny) {
        refuse(rule, &rules[..at], &mut draft);
    }
    draft
}

/// A rule that gives devices to a machine, below those that deny them to it.
fn route(rule: &Rule, above: &[Rule], draft: &mut Draft<'_>) {
    if draft.is_full() {
        return;
    }
    let mut origin = draft.origin(rule.span, &rule.title());
    let Some(vm) = &rule.vm else {
        Draft::remark(&mut origin, "It names no machine, so such devices stay where they are");
        let said = Said { enabled: true, matcher: all_of(rule.perhaps.clone()), action: Act::Keep };
        return draft.add(origin, rule.description.as_deref(), said);
    };
    for lost in &rule.lost {
        draft.lose(&mut origin, lost.clone());
    }
    let Some(surely) = &rule.surely else {
        draft.lose(&mut origin, "which devices it means cannot be said, so it is left out");
        return draft.leave_out(origin);
    };
    let counts = |other: &&Rule| other.vm.as_ref().is_none_or(|other| other == vm);
    for (at, deny) in above.iter().enumerate().filter(|(_, other)| other.command == Command::Deny) {
        if draft.is_full() {
            return;
        }
        if !counts(&deny) {
            continue;
        }
        let mut conditions = vec![(
            "all".to_owned(),
            Yaml::List(vec![all_of(rule.perhaps.clone()), all_of(deny.perhaps.clone())]),
        )];
        let allowed =
            above[..at].iter().filter(|other| other.command != Command::Deny && counts(other));
        for earlier in allowed.filter_map(|other| other.surely.clone()) {
            conditions.push(("not".to_owned(), all_of(earlier)));
        }
        let mut origin = draft.origin(deny.span, &deny.title());
        Draft::remark(
            &mut origin,
            format!("It denies these devices to the rule of number {}", rule.position),
        );
        let said = Said { enabled: true, matcher: all_of(conditions), action: Act::Keep };
        draft.add(origin, None, said);
    }
    let action = Act::Attach(vec![vm.clone()]);
    let said = Said { enabled: true, matcher: all_of(surely.clone()), action };
    draft.add(origin, rule.description.as_deref(), said);
}

/// A rule that denies: nothing below it gives such devices away either.
fn refuse(rule: &Rule, above: &[Rule], draft: &mut Draft<'_>) {
    if draft.is_full() {
        return;
    }
    let mut origin = draft.origin(rule.span, &rule.title());
    draft.lose_all(
        "that `deny` holds for what a person does by hand: here an order by hand goes before the rules. What must stay in \
         dom0 can be listed in `protect`",
    );
    for lost in &rule.lost {
        draft.lose(&mut origin, lost.clone());
    }
    if rule.vm.is_some() {
        Draft::remark(
            &mut origin,
            "It is about one machine, and stands above what would give it such devices",
        );
        return draft.leave_out(origin);
    }
    let mut conditions = rule.perhaps.clone();
    for earlier in above.iter().filter(|other| other.command != Command::Deny && other.vm.is_none())
    {
        if let Some(surely) = earlier.surely.clone() {
            conditions.push(("not".to_owned(), all_of(surely)));
        }
    }
    let said = Said { enabled: true, matcher: all_of(conditions), action: Act::Keep };
    draft.add(origin, rule.description.as_deref(), said);
}

impl Rule {
    fn title(&self) -> String {
        let command = match self.command {
            Command::Always => "always",
            Command::Default => "default",
            Command::Allow => "allow",
            Command::Deny => "deny",
        };
        let description = self.description.as_deref().unwrap_or_default();
        format!("{} {command} {description}", self.position)
    }

    fn ask(&mut self, key: &str, value: &Yaml) {
        self.perhaps.push((key.to_owned(), value.clone()));
        if let Some(surely) = &mut self.surely {
            surely.push((key.to_owned(), value.clone()));
        }
    }
}

struct Reader<'r, 't> {
    report: &'r mut Report<'t>,
}

impl Reader<'_, '_> {
    fn rule(&mut self, entry: &Entry) -> Option<Rule> {
        let is_number = entry.key.bytes().all(|byte| byte.is_ascii_digit());
        let Some(position) = entry.key.parse().ok().filter(|_| is_number) else {
            self.wrong(entry.key_span, "expected the number of a rule, 0 to 65535");
            return None;
        };
        let mut rule = Rule {
            span: entry.key_span,
            position,
            // Without a command it denies (`policy_parse_command_string`).
            command: Command::Deny,
            description: None,
            id: (None, None),
            surely: Some(Vec::new()),
            perhaps: Vec::new(),
            vm: None,
            lost: Vec::new(),
        };
        for field in self.map(&entry.node)? {
            match field.key.as_str() {
                "command" => rule.command = self.command(&field.node)?,
                "description" => rule.description = Some(self.text(&field.node)?.to_owned()),
                "device" => {
                    for key in self.map(&field.node)? {
                        self.device(key, &mut rule);
                    }
                    rule.ask_id();
                }
                "vm" => {
                    for key in self.map(&field.node)? {
                        match key.key.as_str() {
                            "uuid" => rule.vm = Some(self.uuid(&key.node)?),
                            _ => rule.unknown(key),
                        }
                    }
                }
                _ => rule.unknown(field),
            }
        }
        Some(rule)
    }

    fn command(&mut self, node: &Node) -> Option<Command> {
        match self.text(node)?.to_ascii_lowercase().as_str() {
            "always" => Some(Command::Always),
            "default" => Some(Command::Default),
            "allow" => Some(Command::Allow),
            "deny" | "" => Some(Command::Deny),
            _ => {
                self.wrong(node.span, "a command is always, default, allow or deny");
                None
            }
        }
    }

    fn uuid(&mut self, node: &Node) -> Option<String> {
        let text = self.text(node)?;
        if text.parse::<crate::model::GuestUuid>().is_err() {
            self.wrong(node.span, "expected a UUID");
            return None;
        }
        Some(text.to_owned())
    }

    /// What is asked of the device (`db.c: parse_device`).
    fn device(&mut self, entry: &Entry, rule: &mut Rule) -> Option<()> {
        let node = &entry.node;
        match entry.key.as_str() {
            "vendor_id" => {
                rule.id.0 = Some(self.id(node)?).filter(|id| *id != 0);
            }
            "device_id" => {
                rule.id.1 = Some(self.id(node)?).filter(|id| *id != 0);
            }
            "serial" => {
                let text = Text::from(self.text(node)?);
                if text.as_str().is_empty() {
                    self.wrong(node.span, "no device has an empty serial number");
                    return None;
                }
                rule.ask("serial", &exactly(&text));
            }
            "sysattr" | "property" => {
                let is_property = entry.key == "property";
                for pair in self.map(node)? {
                    let value = self.text(&pair.node)?;
                    rule.ask_udev(&pair.key, value, is_property);
                }
            }
            key => match FLAGS.iter().find(|(name, _)| *name == key) {
                Some((name, flag)) => {
                    let is_wanted = !self.text(node)?.starts_with('0');
                    rule.ask_flag(name, flag, is_wanted);
                }
                None => rule.unknown(entry),
            },
        }
        Some(())
    }

    /// Up to four hexadecimal digits; zero counts as left out.
    fn id(&mut self, node: &Node) -> Option<u16> {
        let text = self.text(node)?;
        let digits = text.strip_prefix("0x").or(text.strip_prefix("0X")).unwrap_or(text);
        let is_hex =
            (1..=4).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
        match u16::from_str_radix(digits, 16) {
            Ok(id) if is_hex => Some(id),
            _ => {
                self.wrong(node.span, "expected up to four hexadecimal digits");
                None
            }
        }
    }

    fn map<'n>(&mut self, node: &'n Node) -> Option<&'n [Entry]> {
        match &node.value {
            Value::Map(entries) => Some(entries),
            Value::Nothing | Value::Text(_) | Value::List(_) => {
                self.wrong(node.span, "expected an object (`{ … }`)");
                None
            }
        }
    }

    fn text<'n>(&mut self, node: &'n Node) -> Option<&'n str> {
        match &node.value {
            Value::Text(text) => Some(text),
            Value::Nothing | Value::List(_) | Value::Map(_) => {
                self.wrong(node.span, "expected a text");
                None
            }
        }
    }

    fn wrong(&mut self, span: Span, message: &str) {
        self.report.add(Finding::new(Code::BadForeignRule, span, message));
    }
}

impl Rule {
    fn unknown(&mut self, entry: &Entry) {
        self.lost.push(format!("`{}`, which is not known here", quoted(&entry.key)));
    }

    fn ask_id(&mut self) {
        let half =
            |half: Option<u16>| half.map_or_else(|| "*".to_owned(), |id| format!("{id:04x}"));
        if self.id != (None, None) {
            self.ask("id", &Yaml::Text(format!("{}:{}", half(self.id.0), half(self.id.1))));
        }
    }

    fn ask_flag(&mut self, name: &str, flag: &Flag, is_wanted: bool) {
        let category = |words: &[&str]| {
            Yaml::one(
                "category",
                Yaml::one_or_list(words.iter().map(|word| Yaml::text(*word)).collect()),
            )
        };
        let (surely, perhaps) = match (is_wanted, flag.is_it) {
            (true, []) => (None, Some(category(flag.may_be))),
            (false, []) => (Some(Yaml::one("not", category(flag.may_be))), None),
            (true, words) => (Some(category(words)), Some(category(words))),
            (false, words) => {
                let none = Yaml::one("not", category(words));
                (Some(none.clone()), Some(none))
            }
        };
        if flag.is_it.is_empty() {
            let words = flag.may_be.join(", ");
            self.lost.push(format!("`{name}` exactly: there is only the category {words}"));
        } else if matches!(name, "keyboard" | "mouse") {
            self.lost.push(format!(
                "`{name}` without a boot interface, which udev finds out and a rule here cannot ask for"
            ));
        }
        match (surely, &mut self.surely) {
            (Some(matcher), Some(all)) => all.extend(super::write::conditions(matcher)),
            (None, all) => *all = None,
            (Some(_), None) => {}
        }
        self.perhaps.extend(perhaps.into_iter().flat_map(super::write::conditions));
    }

    /// OpenXT asks the device and everything below it (`udev.c: udev_device_tree_match`).
    fn ask_udev(&mut self, name: &str, value: &str, is_property: bool) {
        let shown = Text::from(value.trim());
        let release = UsbRelease::from_sysfs(value);
        let class = Some(value.trim())
            .filter(|it| it.len() == 2 && it.bytes().all(|b| b.is_ascii_hexdigit()));
        if let ("version", false, Some(release)) = (name, is_property, release) {
            self.ask("usb_version", &Yaml::Text(release.to_string()));
            return;
        }
        if let ("bInterfaceClass", false, Some(class)) = (name, is_property, class) {
            self.ask("interface", &Yaml::Text(class.to_ascii_lowercase()));
            return;
        }
        let kind = if is_property { "property" } else { "attribute" };
        if shown.as_str().is_empty() {
            self.lost.push(format!("that `{}` is empty", quoted(name)));
            self.surely = None;
            return;
        }
        let asked = Yaml::one(kind, Yaml::one(name, exactly(&shown)));
        if !is_property && OF_DEVICES.contains(&name) {
            self.ask("udev", &asked);
            return;
        }
        self.lost.push(format!(
            "that `{}` may also be a {kind} of something below the device: only the device itself is asked",
            quoted(name)
        ));
        if let Some(surely) = &mut self.surely {
            surely.push(("udev".to_owned(), asked));
        }
    }
}
