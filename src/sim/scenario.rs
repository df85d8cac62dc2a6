//! Scenarios: a host, a timeline and what is expected of it, as YAML.
//!
//! The text is read like a policy's, into a tree with places, so that every problem is shown at its
//! line and column. A seed that fails is written in the same form ([`write()`]), and is played again by
//! whatever plays scenarios.
//!
//! ```yaml
//! version: 1
//! usbback: no
//! timeline:
//!   - at: 0s
//!     start: {domain: kiosk}
//!   - at: 5s
//!     plug: {port: 1-1, id: "05e0:1200", product: Scanner}
//!   - at: 10s
//!     expect: {device: 1-1, in: kiosk}
//! ```

use super::generate::{POLICIES, compile};
use super::op::{Expectation, Fault, GuestSpec, ModelSpec, Op, PlugSpec, Timed, uses};
use super::world::Setting;
use crate::model::{
    BusId, ControllerId, ControllerKind, Desk, DeviceName, GuestKind, GuestName, PortNumber, Speed,
    UsbId, UsbVersion, XenbusState,
};
use crate::plan::{Request, Wanted};
use crate::policy::Policy;
use crate::policy::text::{Code, Finding, Node, Reader, Report, Shape, SourceText, Value, grow};
use crate::policy::{Location, Problems, Source};
use std::fmt::Write;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// A scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// The name of the policy that is in force at first.
    pub policy: Option<String>,
    /// The texts of the policies that can be loaded, by name; without any, those of the seeds.
    pub policies: Vec<(String, String)>,
    /// Whether dom0's kernel has usbback.
    pub usbback: bool,
    /// Whether the buses hold new devices back.
    pub held_back: bool,
    /// What dom0 has besides USB devices to be operated with. Both, unless it is said otherwise.
    pub desk: Desk,
    /// Whether chance decides how long things take.
    pub chance: bool,
    /// What happens.
    pub timeline: Vec<Timed>,
    /// Where each of these was written.
    pub places: Vec<Location>,
}

const SCENARIO: Shape = Shape {
    what: "a scenario",
    keys: &[
        "version",
        "about",
        "policy",
        "policies",
        "usbback",
        "held-back",
        "desk",
        "chance",
        "timeline",
    ],
};

const MOMENT: Shape = Shape {
    what: "a moment",
    keys: &[
        "at",
        "after",
        "dice",
        "plug",
        "unplug",
        "morph",
        "start",
        "destroy",
        "reboot",
        "crash",
        "rename",
        "pause",
        "unpause",
        "kill-device-model",
        "device-model-ready",
        "frontend",
        "xl-usbctrl-attach",
        "xl-usbctrl-detach",
        "xl-usbdev-attach",
        "xl-usbdev-detach",
        "attach",
        "detach",
        "hold",
        "release",
        "use",
        "disuse",
        "fault",
        "hang",
        "lose-events",
        "disconnect",
        "reload",
        "kill-agent",
        "stop-agent",
        "reboot-host",
        "expect",
    ],
};

const PLUG: Shape = Shape {
    what: "`plug`",
    keys: &[
        "port", "id", "product", "serial", "speed", "hub", "drivers", "refused", "keyboard",
        "pointer",
    ],
};
const START: Shape =
    Shape { what: "`start`", keys: &["domain", "type", "device-model", "frontend", "build"] };
const ASK: Shape =
    Shape { what: "an order", keys: &["device", "domain", "force", "wait", "remember"] };
const XL_CONTROLLER: Shape =
    Shape { what: "`xl-usbctrl-attach`", keys: &["domain", "type", "version", "ports"] };

/// Reads the text of a scenario.
///
/// # Errors
///
/// Every problem of the text, each with its place.
pub fn read(source: Source<'_>) -> Result<Scenario, Problems> {
    let (text, fault) = SourceText::new(source);
    let mut report = Report::new(&text);
    let mut scenario = Scenario {
        policy: None,
        policies: Vec::new(),
        usbback: false,
        held_back: false,
        desk: Desk { keyboard: true, pointer: true },
        chance: false,
        timeline: Vec::new(),
        places: Vec::new(),
    };
    if let Some(fault) = fault {
        report.add(fault);
    } else if let Some(root) = grow(&text, &mut report) {
        Writer { reader: Reader::new(&mut report) }.scenario(&root, &mut scenario);
    }
    match report.finish() {
        Some(problems) => Err(problems),
        None => Ok(scenario),
    }
}

impl Scenario {
    /// The world in which it plays. `policy`, if given, is in force at first.
    pub fn setting(&self, policy: Option<Policy>) -> Setting {
        let texts: Vec<(&str, &str)> = match self.policies.as_slice() {
            [] => POLICIES.to_vec(),
            own => own.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect(),
        };
        let mut policies = compile(&texts);
        if let Some(policy) = policy {
            policies.insert(0, ("--policy".into(), Some(Arc::new(policy))));
        } else if let Some(at) = self
            .policy
            .as_ref()
            .and_then(|first| policies.iter().position(|(name, _)| **name == **first))
        {
            policies.swap(0, at);
        }
        let Self { usbback, held_back, desk, chance, .. } = *self;
        Setting { policies, usbback, held_back, desk, chance, listen: false }
    }
}

struct Writer<'r, 't> {
    reader: Reader<'r, 't>,
}

impl Writer<'_, '_> {
    fn wrong(&mut self, node: &Node, message: impl Into<String>) {
        self.reader.report.add(Finding::new(Code::BadScenario, node.span, message));
    }

    fn scenario(&mut self, root: &Node, scenario: &mut Scenario) {
        let Some(fields) = self.reader.fields(root, &SCENARIO) else { return };
        if let Some(version) = self.reader.required(&fields, "version")
            && self.reader.text(version, "the number 1").is_some_and(|text| text != "1")
        {
            self.wrong(version, "this program knows version 1 of scenarios");
        }
        if let Some(node) = fields.get("usbback") {
            scenario.usbback = self.truth(node).unwrap_or_default();
        }
        if let Some(node) = fields.get("held-back") {
            scenario.held_back = self.truth(node).unwrap_or_default();
        }
        if let Some(node) = fields.get("desk") {
            self.desk(node, &mut scenario.desk);
        }
        if let Some(node) = fields.get("chance") {
            scenario.chance = self.truth(node).unwrap_or_default();
        }
        for (key, what) in [("about", "a text"), ("policy", "the name of a policy")] {
            let text = fields.get(key).and_then(|node| self.reader.text(node, what));
            if key == "policy" {
                scenario.policy = text.map(str::to_owned);
            }
        }
        if let Some(node) = fields.get("policies") {
            self.policies(node, scenario);
        }
        let Some(timeline) = self.reader.required(&fields, "timeline") else { return };
        let Value::List(items) = &timeline.value else {
            return self.wrong(timeline, "the timeline is a list of moments");
        };
        let mut now = Duration::ZERO;
        for item in items {
            if let Some(timed) = self.moment(item, now) {
                now += timed.after;
                scenario.timeline.push(timed);
                scenario.places.push(self.reader.report.source().location(item.span));
            }
        }
    }

    fn desk(&mut self, node: &Node, desk: &mut Desk) {
        let Value::List(items) = &node.value else {
            return self.wrong(node, "a list of `keyboard` and `pointer`");
        };
        *desk = Desk::default();
        for item in items {
            match self.word(item, &[("keyboard", true), ("pointer", false)]) {
                Some(true) => desk.keyboard = true,
                Some(false) => desk.pointer = true,
                None => {}
            }
        }
    }

    fn policies(&mut self, node: &Node, scenario: &mut Scenario) {
        let Value::Map(entries) = &node.value else {
            return self.wrong(node, "the policies are a map of names and texts");
        };
        for entry in entries {
            match &entry.node.value {
                Value::Text(text) => scenario.policies.push((entry.key.clone(), text.clone())),
                Value::Nothing | Value::List(_) | Value::Map(_) => {
                    self.wrong(&entry.node, "the text of a policy stands after a `|`");
                }
            }
        }
    }

    fn moment(&mut self, node: &Node, now: Duration) -> Option<Timed> {
        let fields = self.reader.fields(node, &MOMENT)?;
        let after = match (fields.get("at"), fields.get("after")) {
            (Some(at), None) => {
                let time = self.duration(at)?;
                let Some(after) = time.checked_sub(now) else {
                    self.wrong(at, "this is before the moment that stands above it");
                    return None;
                };
                after
            }
            (None, Some(after)) => self.duration(after)?,
            (None, None) => {
                self.wrong(node, "a moment needs the key `at`, or `after`");
                return None;
            }
            (Some(_), Some(after)) => {
                self.wrong(after, "a moment has `at` or `after`, not both");
                return None;
            }
        };
        let dice = match fields.get("dice") {
            Some(node) => self.number(node, u64::MAX)?,
            None => 0,
        };
        let mut happens =
            fields.entries.iter().filter(|e| !["at", "after", "dice"].contains(&e.key.as_str()));
        let Some(entry) = happens.next() else {
            self.wrong(node, "nothing happens at this moment");
            return None;
        };
        if let Some(second) = happens.next() {
            self.wrong(&second.node, "one thing happens at a moment: write another one");
            return None;
        }
        Some(Timed { after, dice, op: self.op(&entry.key, &entry.node)? })
    }

    fn op(&mut self, key: &str, node: &Node) -> Option<Op> {
        Some(match key {
            "plug" => Op::Plug(self.plug(node)?),
            "unplug" => Op::Unplug(self.port(node)?),
            "morph" => {
                let [port, id] = self.two(node, "`morph`", &["port", "id"])?;
                Op::Morph { port: self.port(port)?, id: self.parsed(id, "a USB id")? }
            }
            "start" => Op::Start(self.guest(node)?),
            "destroy" => Op::Destroy(self.name(node)?),
            "reboot" => Op::Reboot(self.name(node)?),
            "crash" => Op::Crash(self.name(node)?),
            "rename" => {
                let [from, to] = self.two(node, "`rename`", &["from", "to"])?;
                Op::Rename { from: self.name(from)?, to: self.name(to)? }
            }
            "pause" => Op::Pause(self.name(node)?),
            "unpause" => Op::Unpause(self.name(node)?),
            "kill-device-model" => Op::KillDeviceModel(self.name(node)?),
            "device-model-ready" => Op::DeviceModelReady(self.name(node)?),
            "frontend" => {
                let [domain, state] = self.two(node, "`frontend`", &["domain", "state"])?;
                let number = self.number(state, 8)?.to_string();
                let state = XenbusState::from_node(number.as_bytes());
                Op::Frontend { domain: self.name(domain)?, state }
            }
            "xl-usbctrl-attach" => self.xl_controller(node)?,
            "xl-usbctrl-detach" => {
                let keys = &["domain", "controller"];
                let [domain, controller] = self.two(node, "`xl-usbctrl-detach`", keys)?;
                let controller: ControllerId = self.parsed(controller, "a controller's number")?;
                Op::XlControllerDetach { domain: self.name(domain)?, controller }
            }
            "xl-usbdev-attach" => {
                let keys = &["domain", "device"];
                let [domain, device] = self.two(node, "`xl-usbdev-attach`", keys)?;
                Op::XlAttach { domain: self.name(domain)?, device: self.port(device)? }
            }
            "xl-usbdev-detach" => Op::XlDetach { device: self.port(node)? },
            "attach" => self.ask(node, true, |domain| Wanted::Attach(domain.into()))?,
            "detach" => self.ask(node, false, |_| Wanted::Detach)?,
            "hold" => self.ask(node, false, |_| Wanted::Hold)?,
            "release" => self.ask(node, false, |_| Wanted::Release)?,
            "use" | "disuse" => {
                let [device, what] = self.two(node, "`use`", &["device", "as"])?;
                let (device, what) = (self.port(device)?, self.word(what, &uses())?);
                if key == "use" { Op::Use { device, what } } else { Op::Disuse { device, what } }
            }
            "fault" => {
                let [kind, times] = self.two(node, "`fault`", &["kind", "times"])?;
                let words = Fault::ALL.map(|fault| (fault.word(), fault));
                let times = u8::try_from(self.number(times, 8)?).ok()?;
                Op::Fault { kind: self.word(kind, &words)?, times }
            }
            "hang" => {
                let [port, time] = self.two(node, "`hang`", &["device", "for"])?;
                Op::Hang { port: self.port(port)?, duration: self.duration(time)? }
            }
            "lose-events" => Op::LoseEvents,
            "disconnect" => Op::Disconnect { duration: self.duration(node)? },
            "reload" => Op::Reload(self.reader.text(node, "the name of a policy")?.into()),
            "kill-agent" => Op::Kill { down: self.duration(node)? },
            "stop-agent" => {
                let [detach, down] = self.two(node, "`stop-agent`", &["detach", "down"])?;
                Op::Stop { detach: self.truth(detach)?, down: self.duration(down)? }
            }
            "reboot-host" => Op::RebootHost { down: self.duration(node)? },
            "expect" => {
                let [device, place] = self.two(node, "`expect`", &["device", "in"])?;
                let place = self.name(place)?;
                let place = (place.as_str() != "dom0").then_some(place);
                Op::Expect(Expectation { device: self.port(device)?, place })
            }
            // Reported as unknown already.
            _ => return None,
        })
    }

    fn plug(&mut self, node: &Node) -> Option<PlugSpec> {
        let fields = self.reader.fields(node, &PLUG)?;
        let port = self.reader.required(&fields, "port");
        let id = self.reader.required(&fields, "id");
        let port: BusId = self.port(port?)?;
        let id: UsbId = self.parsed(id?, "a USB id")?;
        let hub = match fields.get("hub") {
            Some(node) => self.truth(node)?,
            None => false,
        };
        let speeds = [
            ("low", Speed::Low),
            ("full", Speed::Full),
            ("high", Speed::High),
            ("super", Speed::Super),
            ("super+", Speed::SuperPlus),
        ];
        let speed = match fields.get("speed") {
            Some(node) => self.word(node, &speeds)?,
            None => Speed::Full,
        };
        let interfaces = match fields.get("drivers") {
            Some(node) => self.drivers(node)?,
            None if hub => vec![Some("hub".into())],
            None => vec![Some("usbhid".into())],
        };
        let refused = match fields.get("refused") {
            Some(node) => self.truth(node)?,
            None => false,
        };
        let mut truth = |key| match fields.get(key) {
            Some(node) => self.truth(node),
            None => Some(false),
        };
        let (keyboard, pointer) = (truth("keyboard")?, truth("pointer")?);
        let mut text = |key| match fields.get(key) {
            Some(node) => self.reader.text(node, "a text").map(|text| Some(Box::from(text))),
            None => Some(None),
        };
        let (product, serial) = (text("product")?, text("serial")?);
        Some(PlugSpec {
            port,
            id,
            product,
            serial,
            speed,
            hub,
            interfaces,
            refused,
            keyboard,
            pointer,
        })
    }

    fn drivers(&mut self, node: &Node) -> Option<Vec<Option<Box<str>>>> {
        let Value::List(items) = &node.value else {
            self.wrong(node, "a list of drivers, one for each interface; `none` for no driver");
            return None;
        };
        let driver = |item: &Node| {
            let text = self.reader.text(item, "a driver")?;
            Some((text != "none").then(|| Box::from(text)))
        };
        items.iter().map(driver).collect()
    }

    fn guest(&mut self, node: &Node) -> Option<GuestSpec> {
        let fields = self.reader.fields(node, &START)?;
        let name = self.reader.required(&fields, "domain")?;
        let name = self.name(name)?;
        let kinds = [("pv", GuestKind::Pv), ("pvh", GuestKind::Pvh), ("hvm", GuestKind::Hvm)];
        let kind = match fields.get("type") {
            Some(node) => self.word(node, &kinds)?,
            None => GuestKind::Pv,
        };
        let model = match fields.get("device-model") {
            Some(node) => self.word(node, &ModelSpec::ALL.map(|model| (model.word(), model)))?,
            None => ModelSpec::Qusb,
        };
        let frontend = match fields.get("frontend") {
            Some(node) => self.truth(node)?,
            None => true,
        };
        let build = match fields.get("build") {
            Some(node) => self.duration(node)?,
            None => Duration::from_secs(1),
        };
        Some(GuestSpec { name, kind, model, frontend, build })
    }

    fn ask(
        &mut self,
        node: &Node,
        has_domain: bool,
        wanted: impl Fn(&str) -> Wanted,
    ) -> Option<Op> {
        let fields = self.reader.fields(node, &ASK)?;
        let device = self.reader.required(&fields, "device")?;
        let device: DeviceName = self.parsed(device, "a busid, a bus address or an id")?;
        let domain = match fields.get("domain") {
            Some(domain) if has_domain => self.reader.text(domain, "the name of a domain")?,
            Some(domain) => {
                self.wrong(domain, "only `attach` has a domain");
                return None;
            }
            None if has_domain => {
                self.wrong(node, "`attach` needs the key `domain`");
                return None;
            }
            None => "",
        };
        let request = Request { device, wanted: wanted(domain), force: false };
        let force = match fields.get("force") {
            Some(node) => self.truth(node)?,
            None => false,
        };
        let wait = match fields.get("wait") {
            Some(node) => self.truth(node)?,
            None => true,
        };
        let remember = match fields.get("remember") {
            Some(node) => self.truth(node)?,
            None => false,
        };
        Some(Op::Ask { request: Request { force, ..request }, wait, remember })
    }

    fn xl_controller(&mut self, node: &Node) -> Option<Op> {
        let fields = self.reader.fields(node, &XL_CONTROLLER)?;
        let domain = self.reader.required(&fields, "domain")?;
        let domain = self.name(domain)?;
        let kinds = [("pv", ControllerKind::Pv), ("qusb", ControllerKind::Qusb)];
        let kind = match fields.get("type") {
            Some(node) => self.word(node, &kinds)?,
            None => ControllerKind::Qusb,
        };
        let version = match fields.get("version") {
            Some(node) => self.word(node, &[("1", UsbVersion::V1), ("2", UsbVersion::V2)])?,
            None => UsbVersion::V2,
        };
        let ports = match fields.get("ports") {
            Some(node) => self.parsed(node, "a number from 1 to 31")?,
            None => PortNumber::new(8)?,
        };
        Some(Op::XlControllerAttach { domain, kind, version, ports })
    }

    /// A map with exactly these two keys.
    fn two<'n>(
        &mut self,
        node: &'n Node,
        what: &'static str,
        keys: &'static [&'static str; 2],
    ) -> Option<[&'n Node; 2]> {
        let fields = self.reader.fields(node, &Shape { what, keys })?;
        let first = self.reader.required(&fields, keys[0]);
        let second = self.reader.required(&fields, keys[1]);
        Some([first?, second?])
    }

    fn parsed<T: FromStr<Err: std::fmt::Display>>(
        &mut self,
        node: &Node,
        expected: &str,
    ) -> Option<T> {
        self.reader.value(node, expected, Code::BadScenario)
    }

    fn port(&mut self, node: &Node) -> Option<BusId> {
        self.parsed(node, "a USB port")
    }

    fn name(&mut self, node: &Node) -> Option<GuestName> {
        self.reader.text(node, "the name of a domain").map(GuestName::new)
    }

    fn truth(&mut self, node: &Node) -> Option<bool> {
        self.word(node, &[("yes", true), ("no", false), ("true", true), ("false", false)])
    }

    fn number(&mut self, node: &Node, most: u64) -> Option<u64> {
        let number: Option<u64> = self.reader.text(node, "a number")?.parse().ok();
        let number = number.filter(|number| *number <= most);
        if number.is_none() {
            self.wrong(node, format!("this is not a number up to {most}"));
        }
        number
    }

    fn word<T: Clone>(&mut self, node: &Node, words: &[(&str, T)]) -> Option<T> {
        let text = self.reader.text(node, "a word")?;
        let found = words.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let words: Vec<_> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
            self.wrong(node, format!("expected one of {}", words.join(", ")));
        }
        found.map(|(_, value)| value.clone())
    }

    fn duration(&mut self, node: &Node) -> Option<Duration> {
        let duration = duration(self.reader.text(node, "a duration")?);
        if duration.is_none() {
            self.wrong(
                node,
                "write a whole number and its unit: `50us`, `200ms`, `2s`, `1m`, `1h`",
            );
        }
        duration
    }
}

fn duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let micros = match unit {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        _ => return None,
    };
    number.checked_mul(micros).map(Duration::from_micros)
}

/// Writes a scenario that plays these operations in the world of a seed. It names the policies that
/// seeds load.
pub fn write(setting: &Setting, ops: &[Timed]) -> String {
    let mut text = String::from("version: 1\n");
    let first = setting.policies.first().map_or("nothing", |(name, _)| name);
    let (usbback, held_back) = (yes(setting.usbback), yes(setting.held_back));
    // Writing into a String cannot fail.
    let _ = writeln!(text, "policy: {first}\nusbback: {usbback}");
    let desk = [(setting.desk.keyboard, "keyboard"), (setting.desk.pointer, "pointer")];
    let desk: Vec<_> =
        desk.iter().filter(|(is_there, _)| *is_there).map(|(_, word)| *word).collect();
    let _ = writeln!(text, "held-back: {held_back}\ndesk: [{}]\nchance: yes", desk.join(", "));
    text.push_str("timeline:\n");
    for Timed { after, dice, op } in ops {
        let _ = writeln!(text, "  - after: {}us\n    dice: {dice}", after.as_micros());
        let _ = writeln!(text, "    {}: {}", op.name(), value(op));
    }
    text
}

fn yes(truth: bool) -> &'static str {
    if truth { "yes" } else { "no" }
}

fn value(op: &Op) -> String {
    let micros = |duration: &Duration| format!("{}us", duration.as_micros());
    match op {
        Op::Plug(spec) => plug_value(spec),
        Op::Unplug(port) => port.to_string(),
        Op::Morph { port, id } => format!("{{port: {port}, id: \"{id}\"}}"),
        Op::Start(spec) => {
            let kind = match spec.kind {
                GuestKind::Pv => "pv",
                GuestKind::Pvh => "pvh",
                GuestKind::Hvm => "hvm",
            };
            format!(
                "{{domain: {}, type: {kind}, device-model: {}, frontend: {}, build: {}}}",
                spec.name,
                spec.model.word(),
                yes(spec.frontend),
                micros(&spec.build)
            )
        }
        Op::Destroy(name)
        | Op::Reboot(name)
        | Op::Crash(name)
        | Op::Pause(name)
        | Op::Unpause(name)
        | Op::KillDeviceModel(name)
        | Op::DeviceModelReady(name) => name.to_string(),
        Op::Rename { from, to } => format!("{{from: {from}, to: {to}}}"),
        Op::Frontend { domain, state } => {
            format!("{{domain: {domain}, state: {}}}", *state as u8)
        }
        Op::XlControllerAttach { domain, kind, version, ports } => {
            format!("{{domain: {domain}, type: {kind}, version: {version}, ports: {ports}}}")
        }
        Op::XlControllerDetach { domain, controller } => {
            format!("{{domain: {domain}, controller: {controller}}}")
        }
        Op::XlAttach { domain, device } => format!("{{domain: {domain}, device: {device}}}"),
        Op::XlDetach { device } => device.to_string(),
        Op::Ask { request: Request { device, wanted, force }, wait, remember } => {
            let domain = match wanted {
                Wanted::Attach(domain) => format!(", domain: {domain}"),
                Wanted::Detach | Wanted::Hold | Wanted::Release => String::new(),
            };
            format!(
                "{{device: \"{device}\"{domain}, force: {}, wait: {}, remember: {}}}",
                yes(*force),
                yes(*wait),
                yes(*remember)
            )
        }
        Op::Use { device, what } | Op::Disuse { device, what } => {
            let words = uses();
            let word =
                words.iter().find(|(_, other)| other == what).map_or("held", |(word, _)| word);
            format!("{{device: {device}, as: {word}}}")
        }
        Op::Fault { kind, times } => format!("{{kind: {}, times: {times}}}", kind.word()),
        Op::Hang { port, duration } => format!("{{device: {port}, for: {}}}", micros(duration)),
        Op::LoseEvents => "yes".to_owned(),
        Op::Disconnect { duration } => micros(duration),
        Op::Reload(name) => name.to_string(),
        Op::Kill { down } | Op::RebootHost { down } => micros(down),
        Op::Stop { detach, down } => {
            format!("{{detach: {}, down: {}}}", yes(*detach), micros(down))
        }
        Op::Expect(Expectation { device, place }) => {
            let place = place.as_ref().map_or("dom0", GuestName::as_str);
            format!("{{device: {device}, in: {place}}}")
        }
    }
}

fn plug_value(spec: &PlugSpec) -> String {
    let speed = match spec.speed {
        Speed::Low => "low",
        Speed::Full | Speed::Unknown => "full",
        Speed::High => "high",
        Speed::Super => "super",
        Speed::SuperPlus => "super+",
    };
    let drivers: Vec<_> =
        spec.interfaces.iter().map(|driver| driver.as_deref().unwrap_or("none")).collect();
    let mut text = format!("{{port: {}, id: \"{}\", speed: {speed}", spec.port, spec.id);
    for (key, value) in [("product", &spec.product), ("serial", &spec.serial)] {
        if let Some(value) = value {
            let _ = write!(text, ", {key}: {value:?}");
        }
    }
    let (hub, refused) = (yes(spec.hub), yes(spec.refused));
    let _ = write!(text, ", hub: {hub}, drivers: [{}], refused: {refused}", drivers.join(", "));
    let (keyboard, pointer) = (yes(spec.keyboard), yes(spec.pointer));
    let _ = write!(text, ", keyboard: {keyboard}, pointer: {pointer}}}");
    text
}
