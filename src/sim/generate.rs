//! From a seed to a world and what happens in it.

use super::op::{Fault, GuestSpec, ModelSpec, Op, PlugSpec, Timed, uses};
use super::random::Random;
use super::world::Setting;
use crate::model::{
    BusId, ClassTriple, ControllerId, ControllerKind, ControllerSpec, Desk, DeviceName, GuestKind,
    GuestName, PortNumber, Speed, UsbId, UsbVersion, Use, XenbusState,
};
use crate::plan::{Request, Wanted};
use crate::policy::{self, Policy, Source};
use std::sync::Arc;
use std::time::Duration;

const PORTS: [&str; 9] = ["1-1", "1-2", "1-2.1", "1-2.2", "1-2.3", "1-2.3.1", "2-1", "2-2", "3-4"];
const HUBS: [&str; 2] = ["1-2", "1-2.3"];
const IDS: [&str; 4] = ["05e0:1200", "0951:1666", "1111:2222", "2e8a:0003"];
const NAMES: [&str; 4] = ["kiosk", "desk", "lab", "spare"];

/// The policies that seeds load. In most of them a device may be plugged as often as it likes, since
/// whatever is held down is not attached. The last one does not compile.
pub const POLICIES: [(&str, &str); 18] = [
    (
        "kiosk",
        "version: 1\ndefaults: {flapping: {plugs: 0}}\nrules:\n  - match: {id: '05e0:*'}\n    attach: \
         kiosk\n  - match: {port: '1-2.*'}\n    attach: [desk, kiosk]\n  - match: {id: '*:*'}\n    keep: dom0\n",
    ),
    (
        "everything",
        "version: 1\ndefaults: {keep_last: [], controller: {ports: 1}, flapping: {plugs: 2, within: 10s, pause: \
         7s}}\nrules:\n  - match: {port: '2-1'}\n    \
         attach: lab\n  - match: {id: '*:*'}\n    attach: [desk, lab]\n",
    ),
    ("nothing", "version: 1\nrules: []\n"),
    (
        "qusb",
        "version: 1\ndefaults: {controller: {type: qusb, ports: 2}, settle: 300ms, flapping: \
         {plugs: 0}}\nrules:\n  - \
         match: {id: '0951:*'}\n    attach: [lab, spare]\n  - match: {id: '*:*'}\n    attach: \
         [kiosk, desk]\n",
    ),
    (
        "pv",
        "version: 1\ndefaults: {controller: {type: pv, ports: 3}, stale_ports: leave, flapping: {plugs: \
         0}}\nrules:\n  - match: {id: \
         '*:*'}\n    attach: [kiosk, desk, lab]\n",
    ),
    (
        "quarantine",
        "version: 1\ndefaults: {quarantine: true, flapping: {plugs: 0}}\nrules:\n  - match: {id: \
         '05e0:*'}\n    attach: [kiosk, desk]\n  - match: {id: '1111:*'}\n    keep: dom0\n  - match: \
         {port: '1-2.*'}\n    attach: lab\n",
    ),
    (
        "quarantine-all",
        "version: 1\ndefaults: {quarantine: true, controller: {type: qusb}, flapping: {plugs: \
         0}}\nrules:\n  - match: {id: '*:*'}\n    attach: [desk, lab, kiosk]\n",
    ),
    (
        "guarded",
        "version: 1\ndefaults: {keep_last: [keyboard], stale_ports: leave, flapping: {plugs: 3, within: \
         20s, pause: 10s}}\nprotect:\n  - {id: '2e8a:*'}\n  - {port: '1-2.2'}\nrules:\n  - match: {id: \
         '0951:*'}\n    attach: [spare, lab]\n  - match: {id: '*:*'}\n    attach: [kiosk, desk]\n",
    ),
    (
        "blocking",
        "version: 1\ndefaults: {keep_last: [keyboard], flapping: {plugs: 0}}\nprotect:\n  - {port: '2-2'}\n\
         rules:\n  - match: {id: '1111:*'}\n    block: true\n  - match: {id: '0951:*'}\n    when: {running: \
         desk}\n    block: true\n  - match: {id: '*:*'}\n    attach: [kiosk, lab]\n",
    ),
    (
        "shifts",
        "version: 1\ndefaults: {quarantine: true, flapping: {plugs: 0}}\nrules:\n  - match: {id: '05e0:*'}\n    \
         when: {running: 'd*', absent: [lab, 'sp?re']}\n    attach: desk\n  - match: {id: '05e0:*'}\n    \
         attach: ['ki*', spare]\n  - match: {port: '1-2.*'}\n    when: {absent: kiosk}\n    block: \
         true\n  - match: {id: '*:*'}\n    when: {running: [lab, spare]}\n    attach: [lab, kiosk]\n",
    ),
    (
        "ways",
        "version: 1\ndefaults: {keep_last: [], flapping: {plugs: 0}}\nrules:\n  - name: board\n    match: {id: \
         '2e8a:*'}\n    attach: [kiosk, lab]\n    on_identity_change: keep 20s\n    on_unplug: hold 5s\n  - \
         name: stick\n    match: {id: '0951:*'}\n    attach: [desk, lab]\n    on_unplug: hold 30s\n  - match: \
         {id: '1111:*'}\n    keep: dom0\n  - name: front\n    match: {port: '1-2.*'}\n    attach: [lab, spare, \
         kiosk]\n    wait: {attach: 5s}\n    on_identity_change: keep 2s\n  - match: {id: '*:*'}\n    attach: \
         [spare, desk]\n",
    ),
    (
        "turns",
        "version: 1\ndefaults: {keep_last: [keyboard], controller: {ports: 2}, flapping: {plugs: 0}}\nrules:\n  - \
         match: {id: '05e0:*'}\n    when: {running: desk}\n    attach: [lab, desk]\n    wait: {attach: 20s}\n  - \
         name: any\n    match: {id: '*:*'}\n    attach: [kiosk, 'd*', lab, spare]\n    wait: {attach: 3s, settle: \
         500ms}\n    on_unplug: hold 8s\n",
    ),
    (
        "quarantine-ways",
        "version: 1\ndefaults: {quarantine: true, controller: {type: qusb, ports: 1}, flapping: {plugs: 0}}\n\
         protect:\n  - {id: '1111:*'}\nrules:\n  - name: board\n    match: {id: ['2e8a:*', '1111:*']}\n    attach: \
         [desk, kiosk]\n    wait: {attach: 10s}\n    on_identity_change: keep 30s\n  - name: rest\n    match: {port: \
         '1-*'}\n    attach: [kiosk, spare]\n    on_unplug: hold 20s\n    on_identity_change: keep 10s\n",
    ),
    (
        "ports",
        "version: 1\ndefaults: {keep_last: [pointer], flapping: {plugs: 0}}\nrules:\n  - match: {id: '05e0:*'}\n    \
         attach: {domain: kiosk, controller: {index: 0, ports: 4}, port: 2}\n  - match: {id: '0951:*'}\n    attach: \
         [{domain: desk, controller: {type: pv}}, {domain: lab, controller: {type: qusb, version: 1}}, kiosk]\n  - \
         match: {port: '1-2.*'}\n    attach: [{domain: lab, port: 3}, {domain: spare, controller: {index: 1}}]\n  - \
         match: {id: '*:*'}\n    attach: [{domain: spare, controller: {version: 1, ports: 1}}, desk]\n",
    ),
    (
        "ports-in-turn",
        "version: 1\ndefaults: {keep_last: [], controller: {ports: 1}, flapping: {plugs: 0}}\nrules:\n  - name: \
         any\n    match: {id: '*:*'}\n    attach: [{domain: desk, port: 1}, {domain: kiosk, controller: {type: \
         qusb}}, {domain: lab, controller: {index: 1, ports: 2}, port: 2}]\n    wait: {attach: 4s}\n    \
         on_unplug: hold 10s\n    on_identity_change: keep 10s\n",
    ),
    (
        "docks",
        "version: 1\ndefaults: {keep_last: [], flapping: {plugs: 0}}\nrules:\n  - match: {behind: {id: '2e8a:*'}, \
         udev: {property: {ID_SERIAL_SHORT: '0815'}}}\n    attach: [kiosk, lab]\n  - match: {behind: {id: \
         ['05e0:*', '0951:*']}}\n    attach: [desk, kiosk]\n  - match: {udev: {attribute: {bMaxPower: \
         '200mA'}}}\n    attach: [lab, desk]\n  - match: {udev: {tag: seat}}\n    keep: dom0\n  - match: {id: \
         '*:*'}\n    attach: [spare, desk, kiosk]\n",
    ),
    (
        "drivers",
        "version: 1\ndefaults: {keep_last: [keyboard], flapping: {plugs: 0}}\nrules:\n  - match: {driver: 'cdc_*'}\n    \
         attach: [kiosk, lab]\n  - match: {driver: usb-storage, id: '0951:*'}\n    attach: [desk, kiosk, spare]\n  - \
         match: {driver: usbhid}\n    when: {running: desk}\n    block: true\n  - match: {driver: usbhid}\n    attach: \
         [spare, lab]\n  - match: {not: {driver: usb-storage}}\n    keep: dom0\n  - match: {id: '*:*'}\n    attach: \
         [lab, desk]\n",
    ),
    ("broken", "version: 1\nrules: maybe\n"),
];

/// Compiles policies; one that is bad is there without a meaning.
pub fn compile(policies: &[(&str, &str)]) -> Vec<(Box<str>, Option<Arc<Policy>>)> {
    let compile = |(name, text): &(&str, &str)| {
        let source = Source { name, bytes: text.as_bytes() };
        (Box::from(*name), policy::compile(source).ok().map(Arc::new))
    };
    policies.iter().map(compile).collect()
}

/// The world of a seed.
pub fn setting(seed: u64) -> Setting {
    let mut dice = Random::new(seed ^ 0x5e77_1465);
    let mut policies = compile(&POLICIES);
    let held_back = dice.one_in(4);
    let first = usize::try_from(dice.below(POLICIES.len() as u64 - 1)).unwrap_or(0);
    // Where new devices are held back, the first policy mostly lets them out.
    let letting_out = [5, 6, 9, 12][first % 4];
    let first = if held_back && dice.below(4) > 0 { letting_out } else { first };
    policies.swap(0, first);
    let usbback = dice.one_in(2);
    let desk = Desk { keyboard: dice.one_in(2), pointer: dice.one_in(2) };
    Setting { policies, usbback, held_back, desk, chance: true, listen: false }
}

/// What happens in the world of a seed.
pub fn ops(seed: u64, count: usize) -> Vec<Timed> {
    let mut maker = Maker { dice: Random::new(seed), haste: 1 };
    // Some worlds are busier than others.
    maker.haste = 1 + maker.dice.below(4);
    // Most have domains from the start, so that devices have somewhere to go.
    let mut ops = Vec::new();
    for name in NAMES {
        if maker.dice.below(4) > 0 {
            let spec = maker.guest(name);
            ops.push(maker.timed(Op::Start(spec)));
        }
    }
    for hub in HUBS {
        if maker.dice.below(3) > 0 {
            let plug = maker.device(hub, true).map(Op::Plug);
            ops.extend(plug.map(|op| maker.timed(op)));
        }
    }
    ops.truncate(count);
    while ops.len() < count {
        if let Some(op) = maker.op() {
            ops.push(maker.timed(op));
        }
    }
    ops
}

struct Maker {
    dice: Random,
    haste: u64,
}

impl Maker {
    fn timed(&mut self, op: Op) -> Timed {
        let usual = 400 * self.haste;
        let after = match self.dice.below(100) {
            // Within milliseconds of the one before.
            0..35 => self.dice.below(10),
            35..70 => self.dice.below(usual),
            70..97 => self.dice.below(5 * usual),
            97..99 => self.dice.below(20_000),
            _ => self.dice.below(100_000),
        };
        let micros = after * 1000 + self.dice.below(1000);
        Timed { after: Duration::from_micros(micros), dice: self.dice.next() >> 32, op }
    }

    fn op(&mut self) -> Option<Op> {
        if self.dice.one_in(600) {
            return Some(Op::RebootHost { down: self.span(5_000) });
        }
        Some(match self.dice.below(118) {
            0..24 => {
                let port = self.port_text();
                let hub = HUBS.contains(&port) && self.dice.below(8) > 0 || self.dice.one_in(20);
                Op::Plug(self.device(port, hub)?)
            }
            24..41 => Op::Unplug(self.port()?),
            // Another device in the same place, or the same one again.
            41..43 | 114.. => Op::Morph { port: self.port()?, id: self.id() },
            43..51 => {
                let name = self.name_text();
                Op::Start(self.guest(name))
            }
            51..55 => Op::Destroy(self.name()),
            55..58 => Op::Reboot(self.name()),
            58..59 => Op::Crash(self.name()),
            59..60 => Op::Rename { from: self.name(), to: self.name() },
            60..61 => Op::Pause(self.name()),
            61..63 => Op::Unpause(self.name()),
            63..64 => Op::KillDeviceModel(self.name()),
            64..65 => Op::DeviceModelReady(self.name()),
            65..67 => Op::Frontend { domain: self.name(), state: self.state() },
            67..69 => self.xl_controller(),
            69..70 => Op::XlControllerDetach { domain: self.name(), controller: self.controller() },
            70..74 => Op::XlAttach { domain: self.name(), device: self.port()? },
            74..78 => Op::XlDetach { device: self.port()? },
            78..84 => {
                let kind = self.dice.pick(&Fault::ALL).copied().unwrap_or(Fault::Conflict);
                let times = u8::try_from(1 + self.dice.below(3)).unwrap_or(1);
                Op::Fault { kind, times }
            }
            84..87 => Op::Hang { port: self.port()?, duration: self.span(8_000) },
            87..89 => Op::LoseEvents,
            89..91 => Op::Disconnect { duration: self.span(4_000) },
            91..94 => {
                let name = self.dice.pick(&POLICIES).map_or("nothing", |(name, _)| name);
                Op::Reload(name.into())
            }
            94..99 => Op::Kill { down: self.span(1_500) },
            99..100 => Op::Stop { detach: self.dice.one_in(2), down: self.span(1_500) },
            100..107 => self.ask()?,
            107..111 => Op::Use { device: self.port()?, what: self.what()? },
            111..114 => Op::Disuse { device: self.port()?, what: self.what()? },
        })
    }

    fn ask(&mut self) -> Option<Op> {
        let device = match self.dice.below(4) {
            0 => DeviceName::Id(self.id()),
            _ => DeviceName::At(self.port()?),
        };
        let wanted = match self.dice.below(8) {
            0..4 => Wanted::Attach(self.name_text().into()),
            4 => Wanted::Detach,
            5 => Wanted::Hold,
            _ => Wanted::Release,
        };
        let (force, wait) = (self.dice.one_in(3), self.dice.one_in(2));
        let remember = wanted != Wanted::Release && self.dice.one_in(6);
        Some(Op::Ask { request: Request { device, wanted, force }, wait, remember })
    }

    fn what(&mut self) -> Option<Use> {
        self.dice.pick(&uses()).cloned()
    }

    fn xl_controller(&mut self) -> Op {
        Op::XlControllerAttach { domain: self.name(), spec: self.controller_spec() }
    }

    fn controller_spec(&mut self) -> ControllerSpec {
        let pv = self.dice.one_in(3);
        ControllerSpec {
            kind: if pv { ControllerKind::Pv } else { ControllerKind::Qusb },
            version: if self.dice.one_in(4) { UsbVersion::V1 } else { UsbVersion::V2 },
            ports: self.ports(),
        }
    }

    fn device(&mut self, port: &str, hub: bool) -> Option<PlugSpec> {
        let count = if hub { 1 } else { 1 + self.dice.below(3) };
        let natives = ["usbhid", "usb-storage", "cdc_acm"];
        let drivers = (0..count)
            .map(|_| match self.dice.below(4) {
                0 if !hub => None,
                _ if hub => Some("hub".into()),
                _ => self.dice.pick(&natives).map(|driver| Box::from(*driver)),
            })
            .collect();
        let class = if hub { ClassTriple::HUB } else { 3 };
        let mut spec = PlugSpec::new(port.parse().ok()?, self.id(), class, drivers);
        spec.device.serial = self.dice.one_in(2).then(|| "0815".into());
        spec.device.speed = if self.dice.one_in(4) { Speed::High } else { Speed::Full };
        spec.refused = self.dice.one_in(12);
        let keyboard = !hub && self.dice.one_in(5);
        if !hub && self.dice.one_in(6) {
            spec.make_input(Use::Pointer);
        }
        if keyboard {
            spec.make_input(Use::Keyboard);
        }
        Some(spec)
    }

    fn guest(&mut self, name: &str) -> GuestSpec {
        let kinds = [GuestKind::Pv, GuestKind::Pvh, GuestKind::Hvm];
        let model = match self.dice.below(12) {
            0 => ModelSpec::Absent,
            1 => ModelSpec::Starting,
            2 => ModelSpec::WithoutQusb,
            3 => ModelSpec::Deaf,
            _ => ModelSpec::Qusb,
        };
        GuestSpec {
            name: GuestName::new(name),
            uuid: None,
            kind: self.dice.pick(&kinds).copied().unwrap_or(GuestKind::Pv),
            model,
            frontend: !self.dice.one_in(10),
            build: self.span(3_000),
            controllers: (0..self.dice.below(4).saturating_sub(1))
                .map(|_| self.controller_spec())
                .collect(),
        }
    }

    fn span(&mut self, millis: u64) -> Duration {
        Duration::from_millis(self.dice.below(millis))
    }

    fn port_text(&mut self) -> &'static str {
        self.dice.pick(&PORTS).copied().unwrap_or("1-1")
    }

    fn port(&mut self) -> Option<BusId> {
        self.port_text().parse().ok()
    }

    fn id(&mut self) -> UsbId {
        let id = self.dice.pick(&IDS).and_then(|id| id.parse().ok());
        id.unwrap_or(UsbId { vendor: 1, product: 1 })
    }

    fn name_text(&mut self) -> &'static str {
        self.dice.pick(&NAMES).copied().unwrap_or("kiosk")
    }

    fn name(&mut self) -> GuestName {
        GuestName::new(self.name_text())
    }

    fn ports(&mut self) -> PortNumber {
        let number = u8::try_from(1 + self.dice.below(8)).unwrap_or(1);
        PortNumber::new(number).unwrap_or(PortNumber::FIRST)
    }

    fn controller(&mut self) -> ControllerId {
        let mut id = ControllerId::FIRST;
        for _ in 0..self.dice.below(3) {
            id = id.next().unwrap_or(id);
        }
        id
    }

    fn state(&mut self) -> XenbusState {
        use XenbusState as S;
        let states = [S::Initialising, S::Connected, S::Closing, S::Closed, S::Unknown];
        self.dice.pick(&states).copied().unwrap_or(S::Closed)
    }
}
