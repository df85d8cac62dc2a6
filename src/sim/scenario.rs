//! Scenarios: a host, a timeline and what is expected of it, as YAML.
//!
//! The text is read like a policy's, into a tree with places, so that every problem is shown at its
//! line and column. A seed that fails is written in the same form ([`write()`]), and is played again by
//! whatever plays scenarios.
//!
//! Devices and domains are those of `paper`, and are read by its reader; what only a world needs is
//! said beside them.
//!
//! ```yaml
//! version: 1
//! usbback: false
//! devices:
//!   stick: {port: 1-2, id: "0951:1666", interfaces: "08:06:50", drivers: usb-storage}
//! timeline:
//!   - at: 0s
//!     start: {domain: kiosk}
//!   - at: 5s
//!     plug: {port: 1-1, id: "05e0:1200", product: Scanner}
//!   - at: 6s
//!     plug: stick
//!   - at: 10s
//!     expect: {device: 1-1, in: kiosk}
//! ```

use super::generate::{POLICIES, compile};
use super::keys::{
    ASK, EXPECT, FAULT, FRONTEND, HANG, MOMENT, MORPH, PLUG, RENAME, SCENARIO, START, STOP, USE,
    XL_ATTACH, XL_CONTROLLER, XL_DETACH,
};
use super::op::{Expectation, Fault, GuestSpec, ModelSpec, Op, PlugSpec, Timed};
use super::world::Setting;
use crate::model::{
    BusId, ClassTriple, Controller, ControllerId, ControllerKind, ControllerSpec, Desk, Device,
    DeviceName, Guest, GuestName, GuestUuid, Interface, PortNumber, Speed, Text, UsbVersion, Use,
    XenbusState,
};
use crate::paper::{DEVICE_MODELS, KINDS, NO_DRIVER, Pen, Written, usual};
use crate::plan::{Request, Wanted};
use crate::policy::text::{
    Code, Entry, Finding, Node, Reader, Report, Shape, SourceText, Value, grow, list, nearest,
};
use crate::policy::{self, Location, Policy, Problems, Source};
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
        let reader = Reader::new(&mut report);
        let (devices, guests, policies) = (Vec::new(), Vec::new(), Vec::new());
        Writer { reader, devices, guests, policies }.scenario(&root, &mut scenario);
    }
    match report.finish() {
        Some(problems) => Err(problems),
        None => Ok(scenario),
    }
}

impl Scenario {
    /// The world in which it plays. `policy`, if given, is in force at first.
    pub fn setting(&self, policy: Option<Policy>) -> Setting {
        let mut policies = compile(&self.texts());
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

    /// The policies that can be loaded.
    fn texts(&self) -> Vec<(&str, &str)> {
        match self.policies.as_slice() {
            [] => POLICIES.to_vec(),
            own => own.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect(),
        }
    }
}

struct Writer<'r, 't> {
    reader: Reader<'r, 't>,
    /// What can be plugged by its name.
    devices: Vec<Written>,
    /// What can be started by its name.
    guests: Vec<Guest>,
    /// What can be loaded by its name.
    policies: Vec<String>,
}

impl<'t> Writer<'_, 't> {
    /// What reads the parts that stand in other texts, too.
    fn pen(&mut self) -> Pen<'_, 't> {
        Pen::new(self.reader.report)
    }

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
            scenario.usbback = self.reader.truth(node).unwrap_or_default();
        }
        if let Some(node) = fields.get("held-back") {
            scenario.held_back = self.reader.truth(node).unwrap_or_default();
        }
        if let Some(desk) = fields.get("desk").and_then(|node| self.pen().desk(node)) {
            scenario.desk = desk;
        }
        if let Some(node) = fields.get("devices") {
            self.devices = self.pen().devices(node);
        }
        if let Some(node) = fields.get("domains") {
            self.guests = self.pen().domains(node);
        }
        if let Some(node) = fields.get("chance") {
            scenario.chance = self.reader.truth(node).unwrap_or_default();
        }
        if let Some(node) = fields.get("about") {
            self.pen().about(node);
        }
        if let Some(node) = fields.get("policies") {
            self.policies(node, scenario);
        }
        self.policies = scenario.texts().iter().map(|(name, _)| (*name).to_owned()).collect();
        if let Some(node) = fields.get("policy") {
            scenario.policy = self.policy(node);
        }
        if let Some(node) = fields.get("policies") {
            self.first_policy(node, scenario);
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

    /// The name of a policy that can be loaded.
    fn policy(&mut self, node: &Node) -> Option<String> {
        let text = self.reader.text(node, "the name of a policy")?;
        if self.policies.iter().any(|name| name == text) {
            return Some(text.to_owned());
        }
        let names: Vec<&str> = self.policies.iter().map(String::as_str).collect();
        let message = format!("there is no policy `{}` here", Text::from(text));
        let finding = Finding::new(Code::UnknownName, node.span, message);
        self.reader.report.add(match nearest(text, &names) {
            Some(name) => finding.help(format!("did you mean `{}`?", Text::from(name))),
            None => finding.help(format!("the policies here are {}", list(&names))),
        });
        None
    }

    /// The policy that is in force at first is a good one. That a bad one is loaded later may be what
    /// somebody wants to see.
    fn first_policy(&mut self, node: &Node, scenario: &Scenario) {
        let Value::Map(entries) = &node.value else { return };
        let is_first = |entry: &&Entry| scenario.policy.as_ref().is_none_or(|it| *it == entry.key);
        let Some(entry) = entries.iter().find(is_first) else { return };
        let Value::Text(text) = &entry.node.value else { return };
        let source = Source { name: &entry.key, bytes: text.as_bytes() };
        let Err(problems) = policy::compile(source) else { return };
        if let Some(problem) = problems.iter().next() {
            let line = problem.start().map_or(1, |at| at.line);
            let message = format!("this policy is bad, in its line {line}: {}", problem.message());
            self.reader.report.add(Finding::new(Code::BadScenario, entry.key_span, message));
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
                let [port, id] = self.two(node, &MORPH)?;
                Op::Morph { port: self.port(port)?, id: self.parsed(id, "a USB id")? }
            }
            "start" => Op::Start(self.guest(node)?),
            "destroy" => Op::Destroy(self.name(node)?),
            "reboot" => Op::Reboot(self.name(node)?),
            "crash" => Op::Crash(self.name(node)?),
            "rename" => {
                let [from, to] = self.two(node, &RENAME)?;
                Op::Rename { from: self.name(from)?, to: self.name(to)? }
            }
            "pause" => Op::Pause(self.name(node)?),
            "unpause" => Op::Unpause(self.name(node)?),
            "kill-device-model" => Op::KillDeviceModel(self.name(node)?),
            "device-model-ready" => Op::DeviceModelReady(self.name(node)?),
            "frontend" => {
                let [domain, state] = self.two(node, &FRONTEND)?;
                let number = self.number(state, 8)?.to_string();
                let state = XenbusState::from_node(number.as_bytes());
                Op::Frontend { domain: self.name(domain)?, state }
            }
            "xl-usbctrl-attach" => self.xl_controller(node)?,
            "xl-usbctrl-detach" => {
                let [domain, controller] = self.two(node, &XL_DETACH)?;
                let controller: ControllerId = self.parsed(controller, "a controller's number")?;
                Op::XlControllerDetach { domain: self.name(domain)?, controller }
            }
            "xl-usbdev-attach" => {
                let [domain, device] = self.two(node, &XL_ATTACH)?;
                Op::XlAttach { domain: self.name(domain)?, device: self.port(device)? }
            }
            "xl-usbdev-detach" => Op::XlDetach { device: self.port(node)? },
            "attach" => self.ask(node, true, |domain| Wanted::Attach(domain.into()))?,
            "detach" => self.ask(node, false, |_| Wanted::Detach)?,
            "hold" => self.ask(node, false, |_| Wanted::Hold)?,
            "release" => self.ask(node, false, |_| Wanted::Release)?,
            "use" | "disuse" => {
                let [device, what] = self.two(node, &USE)?;
                let (device, what) = (self.port(device)?, self.pen().one_use(what)?);
                if matches!(what, Use::Keyboard | Use::Pointer) {
                    self.wrong(
                        node,
                        "whether it is a keyboard or a pointer is said when it is plugged",
                    );
                    return None;
                }
                if key == "use" { Op::Use { device, what } } else { Op::Disuse { device, what } }
            }
            "fault" => {
                let [kind, times] = self.two(node, &FAULT)?;
                let words = Fault::ALL.map(|fault| (fault.word(), fault));
                let times = u8::try_from(self.number(times, 8)?).ok()?;
                Op::Fault { kind: self.word(kind, &words)?, times }
            }
            "hang" => {
                let [port, time] = self.two(node, &HANG)?;
                Op::Hang { port: self.port(port)?, duration: self.duration(time)? }
            }
            "lose-events" => Op::LoseEvents,
            "disconnect" => Op::Disconnect { duration: self.duration(node)? },
            "reload" => Op::Reload(self.policy(node)?.into()),
            "kill-agent" => Op::Kill { down: self.duration(node)? },
            "stop-agent" => {
                let [detach, down] = self.two(node, &STOP)?;
                Op::Stop { detach: self.reader.truth(detach)?, down: self.duration(down)? }
            }
            "reboot-host" => Op::RebootHost { down: self.duration(node)? },
            "expect" => {
                let [device, place] = self.two(node, &EXPECT)?;
                let place = self.name(place)?;
                let place = (place.as_str() != "dom0").then_some(place);
                Op::Expect(Expectation { device: self.port(device)?, place })
            }
            // Reported as unknown already.
            _ => return None,
        })
    }

    fn plug(&mut self, node: &Node) -> Option<PlugSpec> {
        if let Value::Text(_) = node.value {
            let names: Vec<&str> = self.devices.iter().map(|it| &*it.name).collect();
            let at = Pen::new(self.reader.report).one_of(node, "device", &names)?;
            let device = self.devices.get(at)?.device.clone();
            return self.plugged(node, device, false);
        }
        let fields = self.reader.fields(node, &PLUG)?;
        let refused = match fields.get("refused") {
            Some(node) => self.reader.truth(node)?,
            None => false,
        };
        let device = self.pen().device(&fields)?;
        self.plugged(node, device, refused)
    }

    /// What the world has to know of a device and nobody has said.
    fn plugged(&mut self, node: &Node, mut device: Device, refused: bool) -> Option<PlugSpec> {
        if device.unauthorized().next().is_some() {
            self.wrong(node, "what is new is held back on a host with `held-back: true`");
            return None;
        }
        if device.speed == Speed::Unknown {
            device.speed = Speed::Full;
        }
        if device.interfaces.is_empty() {
            let (class, driver) = if device.is_hub() {
                (device.class, "hub")
            } else if device.uses.contains(&Use::Keyboard) {
                (ClassTriple::BOOT_KEYBOARD, "usbhid")
            } else if device.uses.contains(&Use::Pointer) {
                (ClassTriple::BOOT_MOUSE, "usbhid")
            } else {
                (ClassTriple { class: 3, subclass: 0, protocol: 0 }, "usbhid")
            };
            let name = format!("{}:1.0", device.busid).parse().ok()?;
            let interface = Interface { class, driver: Some(driver.into()), authorized: true };
            device.interfaces.insert(name, interface);
        }
        Some(PlugSpec { device, refused })
    }

    fn guest(&mut self, node: &Node) -> Option<GuestSpec> {
        if let Value::Text(_) = node.value {
            let guest = self.known_guest(node)?;
            return self.started(node, guest);
        }
        let fields = self.reader.fields(node, &START)?;
        let name = self.reader.required(&fields, "domain")?;
        let mut guest = self.known_guest(name)?;
        self.pen().describe(&fields, &mut guest);
        let mut spec = self.started(node, guest)?;
        if let Some(node) = fields.get("frontend") {
            spec.frontend = self.reader.truth(node)?;
        }
        if let Some(node) = fields.get("build") {
            spec.build = self.duration(node)?;
        }
        if let Some(node) = fields.get("deaf")
            && self.reader.truth(node)?
        {
            if spec.model != ModelSpec::Qusb {
                self.wrong(node, "only a device model that serves `qusb` can be deaf to it");
                return None;
            }
            spec.model = ModelSpec::Deaf;
        }
        Some(spec)
    }

    /// A domain of `domains`; or, if there are none, one of which nothing is known.
    fn known_guest(&mut self, node: &Node) -> Option<Guest> {
        let name = self.name(node)?;
        if self.guests.is_empty() {
            return Some(usual(name));
        }
        let names: Vec<&str> = self.guests.iter().map(|guest| guest.name.as_str()).collect();
        let at = Pen::new(self.reader.report).one_of(node, "domain", &names)?;
        self.guests.get(at).cloned()
    }

    fn started(&mut self, node: &Node, guest: Guest) -> Option<GuestSpec> {
        let Some(model) = ModelSpec::of(guest.device_model) else {
            self.wrong(node, "no domain starts with a device model that is dead: kill it then");
            return None;
        };
        let uuid = Some(guest.uuid).filter(|uuid| *uuid != GuestUuid::NIL);
        let (frontend, build) = (true, Duration::from_secs(1));
        let controllers = guest.controllers.values().filter_map(configured).collect();
        let Guest { name, kind, .. } = guest;
        Some(GuestSpec { name, uuid, kind, model, frontend, build, controllers })
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
            Some(node) => self.reader.truth(node)?,
            None => false,
        };
        let wait = match fields.get("wait") {
            Some(node) => self.reader.truth(node)?,
            None => true,
        };
        let remember = match fields.get("remember") {
            Some(node) => self.reader.truth(node)?,
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
        Some(Op::XlControllerAttach { domain, spec: ControllerSpec { kind, version, ports } })
    }

    /// The values of a map that has exactly two keys.
    fn two<'n>(&mut self, node: &'n Node, shape: &Shape) -> Option<[&'n Node; 2]> {
        let fields = self.reader.fields(node, shape)?;
        let mut values = shape.keys.iter().map(|key| self.reader.required(&fields, key));
        let [first, second] = [values.next()?, values.next()?];
        Some([first?, second?])
    }

    fn parsed<T: FromStr<Err: std::fmt::Display>>(
        &mut self,
        node: &Node,
        expected: &str,
    ) -> Option<T> {
        self.reader.value(node, expected, Code::BadScenario)
    }

    /// A port, or the one of a device that has a name.
    fn port(&mut self, node: &Node) -> Option<BusId> {
        let by_name = match &node.value {
            Value::Text(text) => self.devices.iter().find(|it| *it.name == **text),
            Value::Nothing | Value::List(_) | Value::Map(_) => None,
        };
        match by_name {
            Some(Written { device, .. }) => Some(device.busid.clone()),
            None => self.parsed(node, "a USB port"),
        }
    }

    fn name(&mut self, node: &Node) -> Option<GuestName> {
        self.reader.text(node, "the name of a domain").map(GuestName::new)
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

/// As the configuration says it: what the ports have in them comes in the world. `None` for an emulated
/// one, which nobody in the world uses.
fn configured(controller: &Controller) -> Option<ControllerSpec> {
    controller.kind.backend()?;
    let ports = *controller.ports.keys().next_back()?;
    Some(ControllerSpec { kind: controller.kind, version: controller.version?, ports })
}

/// Writes a scenario that plays these operations in the world of a seed. It names the policies that
/// seeds load.
pub fn write(setting: &Setting, ops: &[Timed]) -> String {
    let mut text = String::from("version: 1\n");
    let first = setting.policies.first().map_or("nothing", |(name, _)| name);
    let Setting { usbback, held_back, .. } = setting;
    // Writing into a String cannot fail.
    let _ = writeln!(text, "policy: {first}\nusbback: {usbback}");
    let desk = [(setting.desk.keyboard, "keyboard"), (setting.desk.pointer, "pointer")];
    let desk: Vec<_> =
        desk.iter().filter(|(is_there, _)| *is_there).map(|(_, word)| *word).collect();
    let _ = writeln!(text, "held-back: {held_back}\ndesk: [{}]\nchance: true", desk.join(", "));
    text.push_str("timeline:\n");
    for Timed { after, dice, op } in ops {
        let _ = writeln!(text, "  - after: {}us\n    dice: {dice}", after.as_micros());
        let _ = writeln!(text, "    {}: {}", op.name(), value(op));
    }
    text
}

fn value(op: &Op) -> String {
    let micros = |duration: &Duration| format!("{}us", duration.as_micros());
    match op {
        Op::Plug(spec) => plug_value(spec),
        Op::Unplug(port) => port.to_string(),
        Op::Morph { port, id } => format!("{{port: {port}, id: \"{id}\"}}"),
        Op::Start(spec) => {
            let GuestSpec { name, uuid: _, kind, model, frontend, build, controllers } = spec;
            let (kind, build) = (word(kind, &KINDS), micros(build));
            let controllers =
                controllers.iter().map(|spec| format!("{{{}}}", controller_value(*spec)));
            let controllers: Vec<_> = controllers.collect();
            let controllers = controllers.join(", ");
            let deaf = if *model == ModelSpec::Deaf { "deaf: true, " } else { "" };
            let model = word(&model.seen(), &DEVICE_MODELS);
            format!(
                "{{domain: {name}, type: {kind}, device_model: {model}, {deaf}frontend: {frontend}, \
                 build: {build}, controllers: [{controllers}]}}"
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
        Op::XlControllerAttach { domain, spec } => {
            format!("{{domain: {domain}, {}}}", controller_value(*spec))
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
                "{{device: \"{device}\"{domain}, force: {force}, wait: {wait}, remember: {remember}}}"
            )
        }
        Op::Use { device, what } | Op::Disuse { device, what } => {
            format!("{{device: {device}, as: {}}}", use_value(what))
        }
        Op::Fault { kind, times } => format!("{{kind: {}, times: {times}}}", kind.word()),
        Op::Hang { port, duration } => format!("{{device: {port}, for: {}}}", micros(duration)),
        Op::LoseEvents => "true".to_owned(),
        Op::Disconnect { duration } => micros(duration),
        Op::Reload(name) => name.to_string(),
        Op::Kill { down } | Op::RebootHost { down } => micros(down),
        Op::Stop { detach, down } => {
            format!("{{detach: {detach}, down: {}}}", micros(down))
        }
        Op::Expect(Expectation { device, place }) => {
            let place = place.as_ref().map_or("dom0", GuestName::as_str);
            format!("{{device: {device}, in: {place}}}")
        }
    }
}

fn controller_value(ControllerSpec { kind, version, ports }: ControllerSpec) -> String {
    format!("type: {kind}, version: {version}, ports: {ports}")
}

/// Of a device's facts, those that seeds give it.
fn plug_value(PlugSpec { device, refused }: &PlugSpec) -> String {
    let list = |items: Vec<String>| items.join(", ");
    let interfaces = || device.interfaces.values();
    let classes = interfaces().map(|it| format!("\"{}\"", it.class)).collect();
    let drivers =
        interfaces().map(|it| it.driver.as_deref().unwrap_or(NO_DRIVER).to_owned()).collect();
    let uses = device.uses.iter().map(use_value).collect();
    let mut text = format!("{{port: {}, id: \"{}\"", device.busid, device.id);
    for (key, value) in [("product", &device.product), ("serial", &device.serial)] {
        if let Some(value) = value {
            let _ = write!(text, ", {key}: {:?}", value.as_str());
        }
    }
    if device.is_hub() {
        let _ = write!(text, ", class: \"{}\"", device.class);
    }
    let _ = write!(
        text,
        ", speed: {}, interfaces: [{}], drivers: [{}], uses: [{}], refused: {refused}}}",
        device.speed.word(),
        list(classes),
        list(drivers),
        list(uses)
    );
    text
}

/// In flow style, so that it can stand anywhere.
fn use_value(what: &Use) -> String {
    match what {
        Use::Mounted { device, at } => format!("{{mounted: {device}, at: {at}}}"),
        Use::Swap { device } => format!("{{swap: {device}}}"),
        Use::Held { device, holder } => format!("{{held: {device}, by: {holder}}}"),
        Use::Route { interface } => format!("{{route: {interface}}}"),
        Use::Keyboard => "keyboard".to_owned(),
        Use::Pointer => "pointer".to_owned(),
    }
}

/// The word of a value that has one.
fn word<T: PartialEq>(value: &T, words: &[(&'static str, T)]) -> &'static str {
    words.iter().find(|(_, other)| other == value).map_or("", |(word, _)| word)
}
