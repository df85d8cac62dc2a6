//! Domains on paper.

use super::keys::{CONTROLLER, DOMAIN};
use super::read::Pen;
use crate::model::{
    Controller, ControllerId, ControllerKind, DeviceModel, DomId, Guest, GuestKind, GuestName,
    GuestUuid, Life, PortContent, PortNumber, Text, UsbVersion, XenbusState,
};
use crate::policy::text::{
    Code, DOM0, Entry, Fields, Finding, Node, Span, Value, first_hidden, wrong_shape,
};
use std::collections::BTreeMap;

/// Words for the device model of a domain, the usual one first.
pub(crate) const DEVICE_MODELS: [(&str, DeviceModel); 5] = [
    worded(DeviceModel::Running { qusb: true }),
    worded(DeviceModel::Running { qusb: false }),
    worded(DeviceModel::Starting),
    worded(DeviceModel::Dead),
    worded(DeviceModel::Absent),
];
/// Words for how a domain is virtualised, the usual one first.
pub(crate) const KINDS: [(&str, GuestKind); 3] = [
    (GuestKind::Pv.word(), GuestKind::Pv),
    (GuestKind::Pvh.word(), GuestKind::Pvh),
    (GuestKind::Hvm.word(), GuestKind::Hvm),
];
/// Words for where it is in its life, the usual one first.
pub(super) const LIVES: [(&str, Life); 2] =
    [(Life::Running.word(), Life::Running), (Life::Building.word(), Life::Building)];
/// Words for who serves a controller, the usual one first.
pub(super) const CONTROLLERS: [(&str, ControllerKind); 3] = [
    ("qusb", ControllerKind::Qusb),
    ("pv", ControllerKind::Pv),
    ("devicemodel", ControllerKind::DeviceModel),
];
const VERSIONS: [(&str, UsbVersion); 2] = [("2", UsbVersion::V2), ("1", UsbVersion::V1)];

/// How many ports a controller has if nobody says: as in a policy's defaults.
const PORTS: u8 = 8;

const fn worded(model: DeviceModel) -> (&'static str, DeviceModel) {
    (model.word(), model)
}

impl Pen<'_, '_> {
    /// The domains of a host: names alone, or names with what is known of each.
    pub(crate) fn domains(&mut self, node: &Node) -> Vec<Guest> {
        let mut drafts = Vec::new();
        match &node.value {
            Value::List(items) => {
                let mut names: BTreeMap<&str, Span> = BTreeMap::new();
                for item in items {
                    let Some(name) = self.reader.text(item, "the name of a domain") else {
                        continue;
                    };
                    if let Some(first) = names.insert(name, item.span) {
                        let message = format!("the domain `{}` is given twice", Text::from(name));
                        let finding = Finding::new(Code::SamePlace, item.span, message);
                        self.reader.report.add(finding.also("first given here", first));
                    }
                    drafts.extend(self.guest(name, item.span, None));
                }
            }
            Value::Map(entries) => {
                for Entry { key, key_span, node } in entries {
                    drafts.extend(self.guest(key, *key_span, Some(node)));
                }
            }
            Value::Nothing | Value::Text(_) => {
                let expected = "a list of names, or a map from names to domains";
                self.reader.report.add(wrong_shape(node, expected));
            }
        }
        self.numbered(drafts)
    }

    /// One whose name is right is there whatever is wrong with it: others may name it.
    fn guest(&mut self, name: &str, span: Span, node: Option<&Node>) -> Option<Draft> {
        let is_plain = first_hidden(name).is_none() && name.trim() == name && !name.is_empty();
        if DOM0.contains(&name) || !is_plain {
            let message = format!("`{}` is not the name of a domain that can be", Text::from(name));
            let finding = Finding::new(Code::BadDomain, span, message);
            self.reader.report.add(finding.help("dom0 is there in any case"));
            return None;
        }
        let mut draft = Draft { span, domid: None, guest: usual(GuestName::new(name)) };
        // `kiosk:` and nothing after it is a domain of which nothing else is known.
        let node = node.filter(|node| !matches!(node.value, Value::Nothing));
        if let Some(node) = node
            && let Some(fields) = self.reader.fields(node, &DOMAIN)
        {
            draft.domid = self.describe(&fields, &mut draft.guest);
        }
        Some(draft)
    }

    /// What is written of a domain besides its name; the rest stays as it is in `guest`. Gives the number
    /// that it is to have.
    pub(crate) fn describe(&mut self, fields: &Fields<'_>, guest: &mut Guest) -> Option<DomId> {
        let domid = fields.get("domid").and_then(|node| self.domid(node));
        if let Some(uuid) =
            fields.get("uuid").and_then(|node| self.parsed(node, "a UUID", Code::BadFact))
        {
            guest.uuid = uuid;
        }
        if let Some(kind) = fields.get("type").and_then(|node| self.meant(node, &KINDS)) {
            guest.kind = kind;
        }
        if let Some(life) = fields.get("state").and_then(|node| self.meant(node, &LIVES)) {
            guest.life = life;
        }
        if let Some(model) =
            fields.get("device_model").and_then(|node| self.meant(node, &DEVICE_MODELS))
        {
            guest.device_model = model;
        }
        if let Some(node) = fields.get("controllers") {
            guest.controllers = self.controllers(node);
        }
        domid
    }

    fn domid(&mut self, node: &Node) -> Option<DomId> {
        let domid = self.parsed(node, "a domain number", Code::BadFact);
        if domid == Some(DomId::DOM0) {
            self.wrong(Code::BadFact, node, "this is the number of dom0");
        }
        domid
    }

    /// The controllers of a domain, counted from 0.
    fn controllers(&mut self, node: &Node) -> BTreeMap<ControllerId, Controller> {
        let Value::List(items) = &node.value else {
            self.reader.report.add(wrong_shape(node, "a list of controllers"));
            return BTreeMap::new();
        };
        let mut controllers = BTreeMap::new();
        let mut next = Some(ControllerId::FIRST);
        for item in items {
            let Some(id) = next else {
                let message = format!("a domain has at most {} controllers", controllers.len());
                self.wrong(Code::BadFact, item, message);
                break;
            };
            controllers.extend(self.controller(item).map(|controller| (id, controller)));
            next = id.next();
        }
        controllers
    }

    fn controller(&mut self, node: &Node) -> Option<Controller> {
        let fields = self.reader.fields(node, &CONTROLLER)?;
        let kind = fields.get("type").and_then(|node| self.meant(node, &CONTROLLERS));
        let version = fields.get("version").and_then(|node| self.meant(node, &VERSIONS));
        let count = fields
            .get("ports")
            .and_then(|node| self.parsed(node, "a count of ports", Code::BadPortCount))
            .or(PortNumber::new(PORTS))?;
        let mut ports: BTreeMap<_, _> =
            count.up_to().map(|port| (port, PortContent::Free)).collect();
        let in_use = fields.get("in_use").map(|node| self.ports(node)).unwrap_or_default();
        for (port, span) in in_use {
            // Who has it is of no account: nobody else gets it.
            let content = PortContent::Strange(Text::from("in use"));
            if ports.insert(port, content).is_none() {
                let message = format!("the controller has {count} ports");
                self.reader.report.add(Finding::new(Code::BadFact, span, message));
            }
        }
        Some(Controller {
            kind: kind.unwrap_or(ControllerKind::Qusb),
            version: Some(version.unwrap_or(UsbVersion::V2)),
            ports,
            backend: XenbusState::Connected,
            frontend: XenbusState::Connected,
            ours: false,
        })
    }

    fn ports(&mut self, node: &Node) -> Vec<(PortNumber, Span)> {
        let port = |pen: &mut Self, item: &Node| {
            Some((pen.parsed(item, "a port number", Code::BadTargetPort)?, item.span))
        };
        self.each(node, port).unwrap_or_default()
    }

    /// What a word stands for.
    fn meant<T: Copy>(&mut self, node: &Node, words: &[(&str, T)]) -> Option<T> {
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let text = self.reader.word(node, "a word", &known, Code::BadFact)?;
        words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value)
    }

    /// Gives each domain a number: its own, or the next one that nobody has.
    fn numbered(&mut self, drafts: Vec<Draft>) -> Vec<Guest> {
        let mut taken: BTreeMap<DomId, Span> = BTreeMap::new();
        for Draft { domid, span, .. } in &drafts {
            if let Some(domid) = domid
                && let Some(first) = taken.insert(*domid, *span)
            {
                let message = format!("two domains have the number {domid}");
                let finding = Finding::new(Code::SamePlace, *span, message);
                self.reader.report.add(finding.also("the other one", first));
            }
        }
        let mut guests = Vec::new();
        let mut numbers = (1_u16..).map_while(|number| number.to_string().parse::<DomId>().ok());
        for Draft { span, domid, mut guest } in drafts {
            let Some(domid) = domid.or_else(|| numbers.find(|it| !taken.contains_key(it))) else {
                let message = "there are more domains than a host can have";
                self.reader.report.add(Finding::new(Code::TooMany, span, message));
                break;
            };
            taken.insert(domid, span);
            guest.domid = domid;
            guests.push(guest);
        }
        guests
    }
}

struct Draft {
    span: Span,
    domid: Option<DomId>,
    guest: Guest,
}

/// A domain that runs and whose device model serves `qusb`, without a controller. Its number is still to
/// come.
pub(crate) fn usual(name: GuestName) -> Guest {
    Guest {
        domid: DomId::DOM0,
        uuid: GuestUuid::NIL,
        name,
        kind: GuestKind::Pv,
        life: Life::Running,
        device_model: DeviceModel::Running { qusb: true },
        controllers: BTreeMap::new(),
        broken: BTreeMap::new(),
    }
}
