//! Which devices: `match` and the entries of `protect`.

use super::{Reader, Shape};
use crate::model::BusAddress;
use crate::policy::matcher::{Condition, IdPattern, Matcher};
use crate::policy::problem::{Code, Finding};
use crate::policy::tree::{Entry, Node};

const PROTECTED: Shape =
    Shape { what: "an entry of `protect`", keys: &["id", "port", "bus_address"] };
const MATCH: Shape = Shape { what: "`match`", keys: &["id", "port", "bus_address"] };

impl Reader<'_, '_> {
    /// The entries of `protect`.
    pub(super) fn protect(&mut self, node: &Node) -> Vec<Matcher> {
        let items = self.items(node, "a list of matches", "for none, leave `protect` out");
        items.iter().filter_map(|item| self.matcher(item, &PROTECTED)).collect()
    }

    /// The `match` of a rule.
    pub(super) fn rule_match(&mut self, node: &Node) -> Option<Matcher> {
        self.matcher(node, &MATCH)
    }

    fn matcher(&mut self, node: &Node, shape: &Shape) -> Option<Matcher> {
        let fields = self.fields(node, shape)?;
        if fields.entries.is_empty() {
            let finding =
                Finding::new(Code::EmptyMatch, node.span, "a match needs at least one key");
            self.report.add(finding.help("to match every device, write `id: \"*:*\"`"));
        }
        let conditions = fields.entries.iter().filter_map(|entry| self.condition(entry)).collect();
        Matcher::new(conditions)
    }

    fn condition(&mut self, entry: &Entry) -> Option<Condition> {
        let node = &entry.node;
        match entry.key.as_str() {
            "id" => self.id(node).map(Condition::Id),
            "port" => self.value(node, "a USB port", Code::BadPort).map(Condition::Port),
            "bus_address" => {
                let address: Option<BusAddress> =
                    self.value(node, "a bus address", Code::BadBusAddress);
                address.map(Condition::BusAddress)
            }
            // Reported as unknown by `fields`.
            _ => None,
        }
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
}

/// The id that was probably meant: without `0x`, filled up with zeros.
fn repaired_id(text: &str) -> Option<IdPattern> {
    let (vendor, product) = text.split_once(':')?;
    let half = |half: &str| {
        let digits = half.strip_prefix("0x").or(half.strip_prefix("0X")).unwrap_or(half);
        if digits == "*" { "*".to_owned() } else { format!("{digits:0>4}") }
    };
    format!("{}:{}", half(vendor), half(product)).parse().ok()
}
