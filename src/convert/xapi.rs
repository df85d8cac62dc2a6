//! `usb-policy.conf` of xapi (XCP-ng, XenServer): which devices may be passed through at all.
//!
//! Read as `xen-api:python3/libexec/usb_scan.py` does: a rule is `ALLOW:` or `DENY:` with any of `class`,
//! `subclass`, `prot` (two hexadecimal digits), `vid`, `pid`, `rel` (four). Each *interface* of a device
//! is judged by the first rule that matches it (`match_device_interface`); one that no rule matches is
//! denied; a device may go if all of its interfaces may (`Policy.check`).
//!
//! Our rules judge devices, so the order changes: first, for each `DENY`, who has an interface that it is
//! the first to match; then who has nothing but interfaces that some `ALLOW` matches.

use super::draft::{Draft, Origin, Said};
use super::write::{Act, Yaml, all_of, quoted};
use super::{are_few, lines};
use crate::policy::text::{Code, Finding, Report, SourceText, Span, nearest};

const KEYS: [&str; 6] = ["class", "subclass", "prot", "vid", "pid", "rel"];

const HEAD: [&str; 3] = [
    "xapi says what may be given to any domain, and a person then says to which. Here what may be given goes to \
     the one domain as soon as it is plugged, if the domain runs.",
    "xapi judges each interface of a device, and a device goes if all of its interfaces may. So what stays in dom0 \
     stands first here, whatever its line was.",
    "Hubs are never given away, here as there.",
];

/// Whether a line looks like a rule of this format.
pub(super) fn looks_like(line: &str) -> bool {
    let action = line.split_once(':').map(|(action, _)| action.trim().to_ascii_lowercase());
    matches!(action.as_deref(), Some("allow" | "deny"))
}

/// Reads `text` and says what it means.
pub(super) fn draft<'t>(text: &'t SourceText, domain: &str, report: &mut Report<'_>) -> Draft<'t> {
    let mut rules: Vec<Rule> = Vec::new();
    for (start, line) in lines(text.as_str()) {
        match read(start, line) {
            Ok(rule) => rules.extend(rule),
            Err(finding) => report.add(finding),
        }
    }
    let mut draft = Draft::new(text, "xapi", &HEAD);
    if !are_few(rules.len(), report) {
        return draft;
    }
    // What stands below a rule for everything is never asked.
    let end = rules.iter().position(Rule::is_for_all).map_or(rules.len(), |at| at + 1);
    for (at, rule) in rules.iter().enumerate().filter(|(_, rule)| !rule.allows) {
        if draft.is_full() {
            break;
        }
        let mut origin = rule.origin(&draft);
        if at < end {
            deny(rule, &rules[..at], origin, &mut draft);
        } else {
            Draft::remark(&mut origin, "It was never asked: a rule above it matches everything");
            draft.leave_out(origin);
        }
    }
    for (at, rule) in rules.iter().enumerate().filter(|(_, rule)| rule.allows) {
        if draft.is_full() {
            break;
        }
        let mut origin = rule.origin(&draft);
        if at < end {
            allow(rule, &rules[..end], domain, origin, &mut draft);
        } else {
            Draft::remark(&mut origin, "It was never asked: a rule above it matches everything");
            draft.leave_out(origin);
        }
    }
    draft
}

/// A rule, with what it asks of the device and of the interface. `None` is any.
#[derive(Clone, Debug, Default)]
struct Rule {
    span: Option<Span>,
    /// The rule as it was written, and what the comment behind it says.
    line: String,
    comment: String,
    allows: bool,
    device: [Option<u16>; 3],
    interface: [Option<u8>; 3],
}

impl Rule {
    fn is_for_all(&self) -> bool {
        self.device == [None; 3] && self.interface == [None; 3]
    }

    fn origin(&self, draft: &Draft<'_>) -> Origin {
        draft.origin(self.span.unwrap_or(Span { start: 0, end: 0 }), &self.line)
    }

    fn name(&self) -> Option<&str> {
        Some(self.comment.as_str()).filter(|comment| !comment.is_empty())
    }
}

/// Who has an interface that this rule denies and that nothing above it has allowed.
fn deny(rule: &Rule, above: &[Rule], mut origin: Origin, draft: &mut Draft<'_>) {
    let mut conditions = of_device(rule.device);
    if rule.interface != [None; 3] {
        conditions.push(("interface".to_owned(), triple(rule.interface)));
    }
    let mut is_exact = true;
    // What rules above have allowed of these interfaces, by the devices that they are about.
    let mut partly: Vec<([Option<u16>; 3], Vec<Yaml>)> = Vec::new();
    for earlier in above.iter().filter(|earlier| earlier.allows) {
        if !meet(&earlier.device, &rule.device) || !meet(&earlier.interface, &rule.interface) {
            continue;
        }
        if covers(&earlier.interface, &rule.interface) {
            if covers(&earlier.device, &rule.device) {
                Draft::remark(&mut origin, "It was never asked: a rule above it allows the same");
                return draft.leave_out(origin);
            }
            conditions.push(("not".to_owned(), all_of(of_device(earlier.device))));
            continue;
        }
        // What is about each device of this rule needs no condition.
        let is_for_each = covers(&earlier.device, &rule.device);
        let about = if is_for_each { [None; 3] } else { earlier.device };
        match partly.iter_mut().find(|(device, _)| *device == about) {
            Some((_, allowed)) => allowed.push(triple(earlier.interface)),
            None => partly.push((about, vec![triple(earlier.interface)])),
        }
        // Which interfaces are left can be said only if every interface is meant.
        is_exact &= rule.interface == [None; 3];
    }
    is_exact &= partly.len() < 2;
    for (device, allowed) in partly {
        let mut saved = of_device(device);
        saved.push(("interface".to_owned(), Yaml::one("only", Yaml::one_or_list(allowed))));
        conditions.push(("not".to_owned(), all_of(saved)));
    }
    if !is_exact {
        let text = "which of its interfaces rules above have allowed: a device that also has others stays in dom0";
        draft.lose(&mut origin, text);
    }
    let said = Said { enabled: true, matcher: all_of(conditions), action: Act::Keep };
    draft.add(origin, rule.name(), said);
}

/// Who has nothing but interfaces that are allowed.
fn allow(rule: &Rule, all: &[Rule], domain: &str, mut origin: Origin, draft: &mut Draft<'_>) {
    let allows = || all.iter().filter(|other| other.allows);
    let first = allows().find(|other| other.device == rule.device);
    if let Some(first) = first.filter(|first| first.span != rule.span) {
        Draft::remark(&mut origin, format!("It counts with the rule `{}`", quoted(&first.line)));
        return draft.leave_out(origin);
    }
    let mut conditions = of_device(rule.device);
    // The rules that count for each device that this one is about.
    let beside = allows().filter(|other| covers(&other.device, &rule.device));
    let interfaces: Vec<[Option<u8>; 3]> = beside.map(|other| other.interface).collect();
    if !interfaces.contains(&[None; 3]) {
        let only = interfaces.into_iter().map(triple).collect();
        conditions.push(("interface".to_owned(), Yaml::one("only", Yaml::one_or_list(only))));
        let may_count = allows().any(|other| {
            meet(&other.device, &rule.device)
                && !covers(&other.device, &rule.device)
                && !covers(&rule.device, &other.device)
        });
        if may_count {
            let text =
                "a device that this rule allows in part, and another one the rest, stays in dom0";
            draft.lose(&mut origin, text);
        }
    }
    let action = Act::Attach(vec![domain.to_owned()]);
    draft.add(origin, rule.name(), Said { enabled: true, matcher: all_of(conditions), action });
}

fn of_device([vid, pid, rel]: [Option<u16>; 3]) -> Vec<(String, Yaml)> {
    let half = |half: Option<u16>| half.map_or_else(|| "*".to_owned(), |id| format!("{id:04x}"));
    let mut conditions = Vec::new();
    if vid.is_some() || pid.is_some() {
        let id = format!("{}:{}", half(vid), half(pid));
        conditions.push(("id".to_owned(), Yaml::Text(id)));
    }
    if let Some(rel) = rel {
        // As the kernel shows it: drivers/usb/core/sysfs.c: usb_descriptor_attr_le16.
        let attribute = Yaml::one("bcdDevice", Yaml::Text(format!("{rel:04x}")));
        conditions.push(("udev".to_owned(), Yaml::one("attribute", attribute)));
    }
    conditions
}

fn triple(parts: [Option<u8>; 3]) -> Yaml {
    let part = |part: Option<u8>| part.map_or_else(|| "*".to_owned(), |byte| format!("{byte:02x}"));
    Yaml::Text(parts.map(part).join(":"))
}

/// Whether everything that is like `inner` is like `outer`.
fn covers<T: PartialEq>(outer: &[Option<T>; 3], inner: &[Option<T>; 3]) -> bool {
    outer.iter().zip(inner).all(|(outer, inner)| outer.is_none() || outer == inner)
}

/// Whether something can be like both.
fn meet<T: PartialEq>(one: &[Option<T>; 3], other: &[Option<T>; 3]) -> bool {
    one.iter().zip(other).all(|(one, other)| one.is_none() || other.is_none() || one == other)
}

/// Reads a line; `None` if there is no rule in it.
fn read(start: usize, line: &str) -> Result<Option<Rule>, Finding> {
    let (code, comment) = line.split_once('#').unwrap_or((line, ""));
    if code.trim().is_empty() {
        return Ok(None);
    }
    let place = |from: usize, to: usize| Span { start: start + from, end: start + to };
    let wrong =
        |from, to, message: String| Finding::new(Code::BadForeignRule, place(from, to), message);
    let begin = code.len() - code.trim_start().len();
    let Some(colon) = code.find(':') else {
        let finding = wrong(begin, code.trim_end().len(), "the rule has no `:`".to_owned());
        return Err(finding.help("a rule is `ALLOW:` or `DENY:` with what it matches behind it"));
    };
    let action = code[..colon].trim();
    let allows = match action.to_ascii_lowercase().as_str() {
        "allow" => true,
        "deny" => false,
        _ => {
            let finding = wrong(begin, colon, "a rule begins with `ALLOW:` or `DENY:`".to_owned());
            return Err(match nearest(&action.to_ascii_uppercase(), &["ALLOW", "DENY"]) {
                Some(word) => finding.help(format!("did you mean `{word}`?")),
                None => finding,
            });
        }
    };
    let mut rule = Rule {
        span: Some(place(begin, code.len())),
        line: line.to_owned(),
        comment: comment.trim().to_owned(),
        allows,
        ..Rule::default()
    };
    let mut at = colon + 1;
    let mut seen = Vec::new();
    loop {
        at += blanks(&code[at..]);
        let rest = &code[at..];
        if rest.is_empty() {
            return Ok(Some(rule));
        }
        let length = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let key = rest[..length].to_ascii_lowercase();
        if !KEYS.contains(&key.as_str()) {
            let word = rest.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(rest.len());
            let finding = wrong(
                at,
                at + word.max(1).min(rest.len()),
                format!("expected one of {}", KEYS.join(", ")),
            );
            return Err(match nearest(&key, &KEYS) {
                Some(word) => finding.help(format!("did you mean `{word}`?")),
                None => finding,
            });
        }
        let key_at = at;
        at += length;
        at += blanks(&code[at..]);
        if !code[at..].starts_with('=') {
            return Err(wrong(key_at, key_at + length, format!("expected `=` after `{key}`")));
        }
        at += 1;
        at += blanks(&code[at..]);
        let digits = code[at..].find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(code.len() - at);
        let value = &code[at..at + digits];
        let wanted = if matches!(key.as_str(), "class" | "subclass" | "prot") { 2 } else { 4 };
        if digits != wanted {
            // What stands there instead of a digit may be any character.
            let other = code[at..].chars().next().map_or(0, char::len_utf8);
            let shown = at + if digits == 0 { other } else { digits };
            let from = if digits == 0 && at >= code.len() { key_at } else { at };
            return Err(wrong(from, shown, format!("`{key}` takes {wanted} hexadecimal digits")));
        }
        if seen.contains(&key) {
            return Err(wrong(key_at, key_at + length, format!("`{key}` is given twice")));
        }
        let number = u16::from_str_radix(value, 16).ok();
        let byte = number.and_then(|number| u8::try_from(number).ok());
        match key.as_str() {
            "class" => rule.interface[0] = byte,
            "subclass" => rule.interface[1] = byte,
            "prot" => rule.interface[2] = byte,
            "vid" => rule.device[0] = number,
            "pid" => rule.device[1] = number,
            _ => rule.device[2] = number,
        }
        seen.push(key);
        at += digits;
    }
}

fn blanks(text: &str) -> usize {
    text.len() - text.trim_start().len()
}
