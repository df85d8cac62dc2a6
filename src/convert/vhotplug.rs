//! The JSON of vhotplug and ghaf: which virtual machine gets which device.
//!
//! Read as `vhotplug:vhotplug/config.py` does: of `usbPassthrough`, the first entry decides of which
//! something in `allow` matches and nothing in `deny` (`vm_for_usb_device`). Within one match, `removable`
//! must hold, and then *one* of the others: vendor and product id; a name; bus and port; the class; an
//! interface; the driver's path (`_match_usb`). README.md can be read as if all had to hold; the code asks
//! for one. Zeros and empty texts count as left out.
//!
//! `usbAuthorization` says what the host itself may use; everything else it does not get
//! (`vhotplug/vhotplug.py`, `vhotplug/device.py: deauthorize_unmatched_usb`).

use super::draft::{Draft, Origin, Said};
use super::write::{Act, Yaml, all_of, conditions, quoted};
use crate::model::Removable;
use crate::policy::text::{Code, Entry, Finding, Node, Report, SourceText, Value};
use crate::policy::{IdPattern, TextPattern};

/// The parts of such a file.
pub(super) const SECTIONS: [&str; 7] = [
    PASSTHROUGH,
    "pciPassthrough",
    "evdevPassthrough",
    "acpiPassthrough",
    AUTHORIZATION,
    "vms",
    "general",
];
const PASSTHROUGH: &str = "usbPassthrough";
const AUTHORIZATION: &str = "usbAuthorization";

const HEAD: [&str; 1] =
    ["Virtual machines are named as they are there: the domains must be called the same."];

/// The keys of an entry of `usbPassthrough` that say nothing of devices and domains.
const ASIDE: [&str; 1] = ["tag"];
/// The keys that a match can have.
const MATCH: [&str; 18] = [
    "vendorId",
    "productId",
    "vendorName",
    "productName",
    "bus",
    "port",
    "deviceClass",
    "deviceSubclass",
    "deviceProtocol",
    "interfaceClass",
    "interfaceSubclass",
    "interfaceProtocol",
    "driverPath",
    "removable",
    "description",
    "disable",
    "enable",
    "name",
];

/// Says what a file means.
pub(super) fn draft<'t>(text: &'t SourceText, root: &Node, report: &mut Report<'_>) -> Draft<'t> {
    let mut draft = Draft::new(text, "vhotplug", &HEAD);
    let mut reader = Reader { report, draft: &mut draft };
    let Some(sections) = reader.map(root) else { return draft };
    for section in sections {
        match section.key.as_str() {
            PASSTHROUGH => {
                for item in reader.list(&section.node) {
                    reader.passthrough(item);
                }
            }
            AUTHORIZATION | "vms" | "general" => {}
            key if SECTIONS.contains(&key) => {
                let text = format!("`{key}`, which is not about USB devices");
                reader.draft.remark_all(&format!("Left out: {text}"));
            }
            key => {
                let text = format!("`{}`, which is not known here", quoted(key));
                reader.draft.lose_all(&text);
            }
        }
    }
    // It counts for what no entry of `usbPassthrough` matches, wherever it stands.
    if let Some(section) = sections.iter().find(|section| section.key == AUTHORIZATION) {
        reader.authorization(&section.node);
    }
    draft
}

struct Reader<'r, 't, 'd> {
    report: &'r mut Report<'t>,
    draft: &'r mut Draft<'d>,
}

/// What a match says here.
struct Matched {
    /// The matches of which one must hold.
    any: Vec<Yaml>,
    /// Whether all of it could be said.
    is_whole: bool,
}

impl Reader<'_, '_, '_> {
    fn passthrough(&mut self, node: &Node) {
        let Some(entries) = self.map(node) else { return };
        let description = self.text_of(entries, "description");
        let mut origin = self.draft.origin(node.span, description.as_deref().unwrap_or_default());
        for entry in entries {
            let key = entry.key.as_str();
            let known =
                ["description", "targetVm", "allowedVms", "allow", "deny", "enable", "disable"];
            if key == "skipOnSuspend" {
                self.draft.lose(
                    &mut origin,
                    "`skipOnSuspend`: the agent does nothing when the host suspends",
                );
            } else if !known.contains(&key) && !ASIDE.contains(&key) {
                let key = quoted(key);
                self.draft.lose(&mut origin, format!("`{key}`, which is not known here"));
            }
        }
        let target = self.text_of(entries, "targetVm").filter(|name| !name.is_empty());
        let allowed: Vec<String> = match get(entries, "allowedVms") {
            Some(node) => {
                let items = self.list(node);
                items.iter().filter_map(|item| self.text(item)).collect()
            }
            None => Vec::new(),
        };
        let enabled = !self.is_disabled(entries);
        let allow = self.matches(entries, "allow", &mut origin);
        let deny = self.matches(entries, "deny", &mut origin);
        if allow.any.is_empty() {
            Draft::remark(&mut origin, "It matches nothing");
            return self.draft.leave_out(origin);
        }
        let mut asked = conditions(any_of(allow.any));
        if !deny.any.is_empty() {
            asked.push(("not".to_owned(), Yaml::one_or_list(deny.any)));
        }
        let action = match (target, allowed.as_slice()) {
            (None, []) => {
                Draft::remark(&mut origin, "It names no virtual machine, so it was passed over");
                return self.draft.leave_out(origin);
            }
            _ if !deny.is_whole => {
                let text = "all that it denies, so what it matches stays in dom0";
                self.draft.lose(&mut origin, text);
                Act::Keep
            }
            (Some(target), _) => Act::Attach(vec![target]),
            (None, names) => {
                let names = names.join(", ");
                let text = format!(
                    "that a person chooses one of {}; it stays in dom0 until somebody says `pvusb-agent attach`",
                    quoted(&names)
                );
                self.draft.lose(&mut origin, text);
                Act::Keep
            }
        };
        let said = Said { enabled, matcher: all_of(asked), action };
        self.draft.add(origin, description.as_deref(), said);
    }

    /// What the host may use itself.
    fn authorization(&mut self, node: &Node) {
        let Some(entries) = self.map(node) else { return };
        let is_on = match (get(entries, "disable"), get(entries, "enable")) {
            (Some(node), _) => !self.truth(node),
            (None, Some(node)) => self.truth(node),
            (None, None) => false,
        };
        let deauthorize = get(entries, "deauthorizeUnmatched").is_some_and(|node| self.truth(node));
        let mut origin = self.draft.origin(node.span, AUTHORIZATION);
        if !is_on {
            Draft::remark(&mut origin, "It is switched off there");
            return self.draft.leave_out(origin);
        }
        let host = self.matches(entries, "hostAllow", &mut origin);
        if !host.any.is_empty() {
            let matcher = any_of(host.any);
            let said = Said { enabled: true, matcher, action: Act::Keep };
            self.draft.add(origin, Some("what the host may use"), said);
        } else if !host.is_whole {
            self.draft.leave_out(origin);
        }
        let mut origin = self.draft.origin(node.span, AUTHORIZATION);
        if !deauthorize {
            let text =
                "What is plugged when the program starts is left alone there, and blocked here";
            Draft::remark(&mut origin, text);
        }
        let said = Said { enabled: true, matcher: all_of(Vec::new()), action: Act::Block };
        self.draft.add(origin, Some("what nobody may use"), said);
    }

    /// The matches of a list; those that never match are left out.
    fn matches(&mut self, entries: &[Entry], key: &str, origin: &mut Origin) -> Matched {
        let mut all = Matched { any: Vec::new(), is_whole: true };
        let Some(node) = get(entries, key) else { return all };
        for item in self.list(node) {
            let Some(entries) = self.map(item) else { continue };
            if self.is_disabled(entries) {
                let description = self.text_of(entries, "description").unwrap_or_default();
                let name = quoted(&description);
                Draft::remark(
                    origin,
                    format!("Switched off in `{key}`: {name}").trim_end_matches([' ', ':']),
                );
                continue;
            }
            let one = self.one_match(entries, key, origin);
            all.any.extend(one.any);
            all.is_whole &= one.is_whole;
        }
        all
    }

    fn one_match(&mut self, entries: &[Entry], list: &str, origin: &mut Origin) -> Matched {
        for entry in entries.iter().filter(|entry| !MATCH.contains(&entry.key.as_str())) {
            let key = quoted(&entry.key);
            self.draft.lose(origin, format!("`{key}` in `{list}`, which is not known here"));
        }
        let mut one = Matched { any: Vec::new(), is_whole: true };
        self.id(entries, origin, &mut one);
        for (key, known, own) in [
            ("vendorName", "ID_VENDOR_FROM_DATABASE", "ID_VENDOR"),
            ("productName", "ID_MODEL_FROM_DATABASE", "ID_MODEL"),
        ] {
            self.name(entries, (key, list), (known, own), origin, &mut one);
        }
        self.place(entries, origin, &mut one);
        self.class(entries, "device", "class", origin, &mut one);
        self.class(entries, "interface", "interface", origin, &mut one);
        if self.text_of(entries, "driverPath").is_some_and(|path| !path.is_empty()) {
            let text = format!(
                "`driverPath` in `{list}`, a pattern of a module's path; a rule with `driver: [r8152, asix]` or the \
                 like may do instead"
            );
            self.draft.lose(origin, text);
            one.is_whole = false;
        }
        if one.any.len() > 1 && is_mixed(entries) {
            let text = "Where several things are asked for, one is enough there, and so it is here";
            self.draft.remark_all(text);
        }
        if let Some(node) = get(entries, "removable") {
            self.removable(node, &mut one);
        }
        one
    }

    fn id(&mut self, entries: &[Entry], origin: &mut Origin, one: &mut Matched) {
        let ids = ["vendorId", "productId"].map(|key| self.text_of(entries, key));
        match ids.map(|id| id.filter(|id| !id.is_empty())) {
            [Some(vendor), Some(product)] => {
                let id = format!("{vendor}:{product}").to_ascii_lowercase();
                match id.parse::<IdPattern>() {
                    Ok(pattern) if !id.contains('*') => {
                        one.any.push(Yaml::one("id", Yaml::Text(pattern.to_string())));
                    }
                    Ok(_) | Err(_) => {
                        Draft::remark(origin, format!("No device has the id {}", quoted(&id)));
                    }
                }
            }
            [None, None] => {}
            _ => Draft::remark(origin, "Half an id matches nothing there"),
        }
    }

    /// A regular expression of a name: the one of udev's database, or else the device's own.
    fn name(
        &mut self,
        entries: &[Entry],
        (key, list): (&str, &str),
        (known, own): (&str, &str),
        origin: &mut Origin,
        one: &mut Matched,
    ) {
        let regex = self.text_of(entries, key).filter(|regex| !regex.is_empty());
        let Some(regex) = regex else { return };
        let Some(pattern) = from_start(&regex) else {
            let regex = quoted(&regex);
            let text = format!(
                "`{key}` in `{list}`, a regular expression that is not known here: {regex}"
            );
            self.draft.lose(origin, text);
            one.is_whole = false;
            return;
        };
        let property = |name: &str, pattern: &str| {
            Yaml::one("udev", Yaml::one("property", Yaml::one(name, Yaml::text(pattern))))
        };
        one.any.push(property(known, &pattern));
        let mut of_itself = conditions(property(own, &pattern));
        of_itself.push(("not".to_owned(), property(known, "*")));
        one.any.push(all_of(of_itself));
    }

    fn place(&mut self, entries: &[Entry], origin: &mut Origin, one: &mut Matched) {
        match ["bus", "port"].map(|key| self.number_of(entries, key)) {
            [Some(bus), Some(port)] => {
                let port = format!("{bus}-{port}");
                let ports = [port.clone(), format!("{port}.*")].map(Yaml::Text);
                one.any.push(Yaml::one("port", Yaml::List(ports.into())));
            }
            [None, None] => {}
            _ => Draft::remark(origin, "`bus` and `port` match nothing there without each other"),
        }
    }

    fn class(
        &mut self,
        entries: &[Entry],
        prefix: &str,
        key: &str,
        origin: &mut Origin,
        one: &mut Matched,
    ) {
        let parts = ["Class", "Subclass", "Protocol"]
            .map(|part| self.number_of(entries, &format!("{prefix}{part}")));
        let [Some(_), ..] = parts else { return };
        let byte = |part: Option<u32>| match part.map(u8::try_from) {
            None => Some("*".to_owned()),
            Some(Ok(byte)) => Some(format!("{byte:02x}")),
            Some(Err(_)) => None,
        };
        match parts.map(byte) {
            [Some(class), Some(subclass), Some(protocol)] => {
                let triple = format!("{class}:{subclass}:{protocol}");
                one.any.push(Yaml::one(key, Yaml::Text(triple)));
            }
            _ => Draft::remark(origin, "A class is at most 255"),
        }
    }

    /// It must hold besides.
    fn removable(&mut self, node: &Node, one: &mut Matched) {
        let mut words = Vec::new();
        for item in self.list(node) {
            let word = self.text(item).map(|word| word.to_lowercase());
            words.extend(word.filter(|word| Removable::from_word(word).is_some()).map(Yaml::Text));
        }
        let any = std::mem::take(&mut one.any);
        if !words.is_empty() && !any.is_empty() {
            let mut all = conditions(any_of(any));
            all.push(("removable".to_owned(), Yaml::one_or_list(words)));
            one.any.push(all_of(all));
        }
    }

    /// As `config.py: _disabled`.
    fn is_disabled(&mut self, entries: &[Entry]) -> bool {
        match (get(entries, "disable"), get(entries, "enable")) {
            (Some(node), _) => self.truth(node),
            (None, Some(node)) => !self.truth(node),
            (None, None) => false,
        }
    }

    fn truth(&mut self, node: &Node) -> bool {
        match &node.value {
            Value::Nothing => false,
            Value::Text(text) => match text.as_str() {
                "true" | "1" => true,
                "false" | "0" | "null" | "" => false,
                _ => self.wrong(node, "expected true or false").is_some(),
            },
            Value::List(_) | Value::Map(_) => self.wrong(node, "expected true or false").is_some(),
        }
    }

    fn map<'n>(&mut self, node: &'n Node) -> Option<&'n [Entry]> {
        match &node.value {
            Value::Map(entries) => Some(entries),
            Value::Nothing | Value::Text(_) | Value::List(_) => {
                self.wrong(node, "expected an object (`{ … }`)");
                None
            }
        }
    }

    fn list<'n>(&mut self, node: &'n Node) -> &'n [Node] {
        match &node.value {
            Value::List(items) => items,
            Value::Nothing | Value::Text(_) | Value::Map(_) => {
                self.wrong(node, "expected a list (`[ … ]`)");
                &[]
            }
        }
    }

    fn text(&mut self, node: &Node) -> Option<String> {
        match &node.value {
            Value::Text(text) => Some(text.clone()),
            Value::Nothing | Value::List(_) | Value::Map(_) => {
                self.wrong(node, "expected a text");
                None
            }
        }
    }

    /// The text of a key, if it is there and not `null`.
    fn text_of(&mut self, entries: &[Entry], key: &str) -> Option<String> {
        let node = get(entries, key)?;
        self.text(node).filter(|text| text != "null")
    }

    /// The number of a key. Zero counts as left out.
    fn number_of(&mut self, entries: &[Entry], key: &str) -> Option<u32> {
        let text = self.text_of(entries, key)?;
        let number = text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
        if number.is_none() {
            let node = get(entries, key)?;
            self.wrong(node, "expected a decimal number");
        }
        number.filter(|number| *number != 0)
    }

    /// Reports it; gives nothing, so that it can stand for a value.
    fn wrong(&mut self, node: &Node, message: &str) -> Option<()> {
        self.report.add(Finding::new(Code::BadForeignRule, node.span, message));
        None
    }
}

fn get<'n>(entries: &'n [Entry], key: &str) -> Option<&'n Node> {
    entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node)
}

/// Whether a match asks for several things that have nothing to do with each other.
fn is_mixed(entries: &[Entry]) -> bool {
    let groups: [&[&str]; 5] = [
        &["vendorId", "productId"],
        &["vendorName", "productName"],
        &["bus", "port"],
        &["deviceClass"],
        &["interfaceClass"],
    ];
    let has = |key: &&str| get(entries, key).is_some();
    let names = groups[1].iter().filter(|key| has(key)).count();
    groups.iter().filter(|keys| keys.iter().any(has)).count() > 1 || names > 1
}

/// A match that holds when one of these does.
fn any_of(mut matches: Vec<Yaml>) -> Yaml {
    if matches.len() == 1 {
        return matches.remove(0);
    }
    Yaml::one("any", Yaml::List(matches))
}

/// A regular expression that is looked for at the start of a text whatever the capitals, as a pattern
/// of ours. `None` if it is none here.
fn from_start(regex: &str) -> Option<String> {
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let inner = regex.strip_prefix(".*").map(|rest| rest.strip_suffix(".*").unwrap_or(rest));
    let pattern = match inner {
        Some(inner) if !inner.is_empty() && inner.chars().all(is_plain) => format!("/(?i){inner}/"),
        _ => format!("/(?i)^(?:{regex})/"),
    };
    // By itself too, so that a bracket too many does not close the one that was put around it.
    let whole = format!("/{regex}/").parse::<TextPattern>().is_ok();
    (whole && pattern.parse::<TextPattern>().is_ok()).then_some(pattern)
}
