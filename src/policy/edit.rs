//! Adding one rule to a text and removing one, with everything else left as a person wrote it.
//!
//! Text is put in or taken out at places that the tree knows, and the result is read again: if it does
//! not say exactly what it should, there is no result.

use super::matcher::{Candidate, Condition, IdPattern, PortPattern};
use super::problem::{Problems, Report};
use super::rule::{Action, Rule};
use super::rules::Rules;
use super::source::{Source, SourceText, Span};
use super::target::GuestPattern;
use super::tree::{self, Node, Value};
use super::{Policy, compile_rules};
use crate::model::{Device, GuestName};

/// What a text of remembered rules begins with.
const HEADER: &str = "\
# What `pvusb-agent attach`, `detach` and `hold` were told to remember. These rules are asked before those
# of the policy beside this file. It is yours to edit: `pvusb-agent reload` reads it anew, and only rules
# that the agent adds or removes are touched by it.
version: 1
rules: []
";

/// Why a text was not edited.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// It is bad already.
    #[error("it has problems")]
    Bad(#[source] Problems),
    /// It is written in a way that leaves no safe place for the change.
    #[error("it cannot be changed safely as it is written; change it by hand")]
    Unsafe,
    /// A rule that stands before the new one takes the device.
    #[error("{0} stands before it and takes the device")]
    Shadowed(Box<Rule>),
}

/// Adds a rule of this one device, in its port, in place of the one that there was; gives the text.
/// No text at all begins a new one.
///
/// # Errors
///
/// When that cannot be done; the text then is to stay as it is.
pub fn remember(
    source: Option<Source<'_>>,
    device: &Device,
    target: Option<&GuestName>,
) -> Result<String, EditError> {
    let name = source.map_or("remembered.yaml", |source| source.name);
    let text = match source {
        Some(source) => forget(source, device)?.map_or_else(|| own(source), Ok)?,
        None => HEADER.to_owned(),
    };
    let added = append(name, &text, &written(device, target))?;
    let policy = compile_rules(Source { name, bytes: added.as_bytes() }).map_err(unsafe_text)?;
    // Only what this device is and where it is counts: the new rule asks for nothing else.
    match policy.judge(&Candidate::alone(device)) {
        Some(rule) if is_about(rule, device) && says(rule, target) => Ok(added),
        // A domain whose name means something else in a rule.
        Some(rule) if is_about(rule, device) => Err(EditError::Unsafe),
        Some(rule) => Err(EditError::Shadowed(Box::new(rule.clone()))),
        None => Err(EditError::Unsafe),
    }
}

/// Removes the rule of this one device in its port; gives the text, `None` when there is none.
///
/// # Errors
///
/// When that cannot be done; the text then is to stay as it is.
pub fn forget(source: Source<'_>, device: &Device) -> Result<Option<String>, EditError> {
    let policy = compile_rules(source).map_err(EditError::Bad)?;
    let Some(at) = policy.rules().iter().position(|rule| is_about(rule, device)) else {
        return Ok(None);
    };
    let text = own(source)?;
    let mut kept = policy.rules.into_vec();
    kept.remove(at);
    let removed = remove(source.name, &text, at)?;
    let bytes = removed.as_bytes();
    let after = compile_rules(Source { name: source.name, bytes }).map_err(unsafe_text)?;
    if after.rules() != kept {
        return Err(EditError::Unsafe);
    }
    // It may have been given twice.
    let next = forget(Source { name: source.name, bytes }, device)?;
    Ok(Some(next.unwrap_or(removed)))
}

/// Whether a rule is what [`remember`] writes for this device, and no more.
fn is_about(rule: &Rule, device: &Device) -> bool {
    let is_id = |condition: &Condition| {
        let id = IdPattern { vendor: Some(device.id.vendor), product: Some(device.id.product) };
        *condition == Condition::Id(vec![id])
    };
    let is_port = |condition: &Condition| {
        let Condition::Port(ports) = condition else { return false };
        match ports.as_slice() {
            [PortPattern::At(busid)] => *busid == device.busid,
            [PortPattern::AnchoredAt(anchor)] => device.anchor.as_ref() == Some(anchor),
            _ => false,
        }
    };
    let conditions = rule.matcher().conditions();
    conditions.len() == 2 && conditions.iter().any(is_id) && conditions.iter().any(is_port)
}

/// Whether the rule sends its device to `target` and to nothing else.
fn says(rule: &Rule, target: Option<&GuestName>) -> bool {
    match (rule.action(), target) {
        (Action::Attach(targets), Some(name)) => {
            let meant = GuestPattern::Named(name.clone());
            matches!(targets.as_slice(), [target] if target.guest == meant)
        }
        (Action::Keep, None) => true,
        (Action::Attach(_) | Action::Keep | Action::Block, _) => false,
    }
}

/// The lines of a rule, without indentation.
fn written(device: &Device, target: Option<&GuestName>) -> [String; 3] {
    let port = match &device.anchor {
        Some(anchor) => anchor.to_string(),
        None => device.busid.to_string(),
    };
    let id = device.id;
    let action = match target {
        Some(guest) => format!("  attach: {}", quoted(guest.as_str())),
        None => "  keep: dom0".to_owned(),
    };
    let name = match target {
        Some(guest) => format!("by hand: {id} to {}", guest.as_str()),
        None => format!("by hand: {id} stays in dom0"),
    };
    [
        format!("- name: {}", quoted(&name)),
        format!("  match: {{id: \"{id}\", port: \"{port}\"}}"),
        action,
    ]
}

/// A text of JSON is one of YAML.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn append(name: &str, text: &str, rule: &[String; 3]) -> Result<String, EditError> {
    let rules = rules_of(name, text)?;
    let Value::List(items) = &rules.value else { return Err(EditError::Unsafe) };
    let (mut text, indent, end) = match items.last() {
        None => {
            // An empty list is written `[]`.
            let key = text[..rules.span.start].trim_end();
            let without = [key, &text[rules.span.end..]].concat();
            (without, "  ".to_owned(), key.len())
        }
        Some(last) => (text.to_owned(), indentation(text, last)?.to_owned(), last.span.end),
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    let at = text[end..].find('\n').map_or(text.len(), |newline| end + newline + 1);
    let lines: String = rule.iter().flat_map(|line| [indent.as_str(), line, "\n"]).collect();
    text.insert_str(at, &lines);
    Ok(text)
}

fn remove(name: &str, text: &str, which: usize) -> Result<String, EditError> {
    let rules = rules_of(name, text)?;
    let Value::List(items) = &rules.value else { return Err(EditError::Unsafe) };
    let item = items.get(which).ok_or(EditError::Unsafe)?;
    let indent = indentation(text, item)?;
    let start = text[..item.span.start].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[item.span.end..].find('\n').map_or(text.len(), |at| item.span.end + at + 1);
    let rest = text[item.span.end..end].trim();
    if !(rest.is_empty() || rest.starts_with('#')) || start + indent.len() > item.span.start {
        return Err(EditError::Unsafe);
    }
    let mut left = [&text[..start], &text[end..]].concat();
    if items.len() == 1 {
        let key = text[..start].rfind("rules:").ok_or(EditError::Unsafe)?;
        left.insert_str(key + "rules:".len(), " []");
    }
    Ok(left)
}

/// What stands before the dash of an item that begins on a line of its own.
fn indentation<'t>(text: &'t str, item: &Node) -> Result<&'t str, EditError> {
    let Span { start, .. } = item.span;
    let line = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
    let before = &text[line..start];
    let indent = &before[..before.len() - before.trim_start_matches(' ').len()];
    if before.trim() == "-" { Ok(indent) } else { Err(EditError::Unsafe) }
}

/// The value of `rules`.
fn rules_of(name: &str, text: &str) -> Result<Node, EditError> {
    let (text, _) = SourceText::new(Source { name, bytes: text.as_bytes() });
    let root = tree::grow(&text, &mut Report::new(&text)).ok_or(EditError::Unsafe)?;
    let Value::Map(entries) = root.value else { return Err(EditError::Unsafe) };
    let rules = entries.into_iter().find(|entry| entry.key == "rules");
    rules.map(|entry| entry.node).ok_or(EditError::Unsafe)
}

/// The text itself. One that begins with a byte order mark has its places shifted: it is left alone.
fn own(source: Source<'_>) -> Result<String, EditError> {
    let text = String::from_utf8(source.bytes.to_vec()).map_err(|_| EditError::Unsafe)?;
    if text.starts_with('\u{feff}') || text.contains('\r') {
        Err(EditError::Unsafe)
    } else {
        Ok(text)
    }
}

/// A bad result is not the person's fault.
fn unsafe_text(_: Problems) -> EditError {
    EditError::Unsafe
}

impl Policy {
    /// These rules, and then the ones of `policy`, with its defaults.
    #[must_use]
    pub fn before(self, policy: Self) -> Self {
        let mut rules = self.rules.into_vec();
        rules.extend(policy.rules.into_vec());
        Self { rules: Rules::new(rules), ..policy }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Target, TargetWish};
    use super::*;
    use crate::model::BusAddress;
    use proptest::prelude::*;

    fn device(busid: &str, id: &str, anchor: Option<&str>) -> Device {
        let address = BusAddress { bus: 1, device: 6 };
        Device {
            anchor: anchor.map(|anchor| anchor.parse().unwrap()),
            initialized: Some(1),
            configured: true,
            ..Device::new(busid.parse().unwrap(), address, id.parse().unwrap())
        }
    }

    fn source(text: &str) -> Source<'_> {
        Source { name: "remembered.yaml", bytes: text.as_bytes() }
    }

    fn kiosk() -> GuestName {
        GuestName::new("kiosk")
    }

    #[test]
    fn what_is_remembered_reads_well_and_is_forgotten_without_a_trace() {
        let scanner = device("1-1.4", "05e0:1200", Some("pci-0000:00:14.0-usb-0:1.4"));
        let stick = device("1-2", "0951:1666", None);
        let one = remember(None, &scanner, Some(&kiosk())).unwrap();
        let two = remember(Some(source(&one)), &stick, None).unwrap();
        let expected = HEADER.replace("rules: []\n", "rules:\n")
            + "  - name: \"by hand: 05e0:1200 to kiosk\"\n    \
               match: {id: \"05e0:1200\", port: \"pci-0000:00:14.0-usb-0:1.4\"}\n    \
               attach: \"kiosk\"\n  \
               - name: \"by hand: 0951:1666 stays in dom0\"\n    \
               match: {id: \"0951:1666\", port: \"1-2\"}\n    keep: dom0\n";
        assert_eq!(two, expected);
        let back = forget(source(&two), &stick).unwrap().unwrap();
        assert_eq!(back, one);
        assert_eq!(forget(source(&back), &scanner).unwrap().unwrap(), HEADER);
        assert_eq!(forget(source(HEADER), &scanner).unwrap(), None);
    }

    #[test]
    fn a_device_has_one_rule_the_last_one() {
        let scanner = device("1-1.4", "05e0:1200", None);
        let text = remember(None, &scanner, Some(&kiosk())).unwrap();
        let text = remember(Some(source(&text)), &scanner, None).unwrap();
        let policy = compile_rules(source(&text)).unwrap();
        assert_eq!(policy.rules().len(), 1);
        assert_eq!(*policy.rules()[0].action(), Action::Keep);
    }

    /// A file that a person has been at.
    const EDITED: &str = "\
# mine\nrules:   # the rules\n- match: {id: 05e0:1200, port: 1-1.4}   # the scanner\n  attach: kiosk # yes\n\
# about the next one\n-   name: all of one maker\n    match:\n      id: '0951:*'\n    keep: dom0\n\n\
# the end\nversion: 1\n";

    #[test]
    fn comments_and_other_rules_stay_as_a_person_wrote_them() {
        let scanner = device("1-1.4", "05e0:1200", None);
        let text = forget(source(EDITED), &scanner).unwrap().unwrap();
        let expected = EDITED.replace(
            "- match: {id: 05e0:1200, port: 1-1.4}   # the scanner\n  attach: kiosk # yes\n",
            "",
        );
        assert_eq!(text, expected);
        let text = remember(Some(source(EDITED)), &device("1-3", "1111:2222", None), None).unwrap();
        let rest: String = text.replace(
            "- name: \"by hand: 1111:2222 stays in dom0\"\n  \
             match: {id: \"1111:2222\", port: \"1-3\"}\n  keep: dom0\n",
            "",
        );
        assert_eq!(rest, EDITED);
    }

    #[test]
    fn what_cannot_be_edited_safely_is_left_alone() {
        let scanner = device("1-1.4", "05e0:1200", None);
        for text in [
            "{version: 1, rules: [{match: {id: '05e0:1200', port: 1-1.4}, keep: dom0}]}",
            "version: 1\nrules: [{match: {id: '05e0:1200', port: 1-1.4}, keep: dom0}]\n",
            "version: 1\r\nrules:\r\n- match: {id: '05e0:1200', port: 1-1.4}\r\n  keep: dom0\r\n",
        ] {
            let result = forget(source(text), &scanner);
            assert!(matches!(result, Err(EditError::Unsafe)), "{text}: {result:?}");
            let result = remember(Some(source(text)), &scanner, None);
            assert!(matches!(result, Err(EditError::Unsafe)), "{text}: {result:?}");
        }
        let bad = "version: 1\nrulez: []\n";
        assert!(matches!(remember(Some(source(bad)), &scanner, None), Err(EditError::Bad(_))));
        let defaults = "version: 1\ndefaults: {settle: 1s}\nrules: []\n";
        assert!(matches!(remember(Some(source(defaults)), &scanner, None), Err(EditError::Bad(_))));
    }

    #[test]
    fn a_rule_that_would_never_be_asked_is_not_written() {
        let text = "version: 1\nrules:\n- match: {id: '*:*'}\n  keep: dom0\n";
        let result =
            remember(Some(source(text)), &device("1-1", "05e0:1200", None), Some(&kiosk()));
        assert!(matches!(result, Err(EditError::Shadowed(_))), "{result:?}");
    }

    proptest! {
        #[test]
        fn whatever_a_domain_is_called_the_rule_says_it(name in "\\PC{1,40}") {
            let scanner = device("1-1.4", "05e0:1200", None);
            if let Ok(text) = remember(None, &scanner, Some(&GuestName::new(&name))) {
                let policy = compile_rules(source(&text)).unwrap();
                prop_assert_eq!(policy.rules()[0].action(), &Action::Attach(vec![Target {
                    guest: GuestPattern::Named(GuestName::new(&name)),
                    wish: TargetWish::ANY,
                }]));
                prop_assert_eq!(forget(source(&text), &scanner).unwrap().unwrap(), HEADER);
            }
        }
    }
}
