//! What can happen from outside: the vocabulary of scenarios and of seeds.
//!
//! Operations are values, so that a run is a list of them: it can be printed, cut down, kept and
//! played again. How they are written in YAML is in `scenario`.

use crate::model::{
    BusAddress, BusId, ClassTriple, ControllerId, ControllerSpec, Device, DeviceModel, GuestKind,
    GuestName, GuestUuid, Interface, InterfaceName, Speed, Text, UsbId, Use, XenbusState,
};
use crate::plan::{Request, Wanted};
use std::time::Duration;

/// An operation and its moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timed {
    /// How long after the operation before it.
    pub after: Duration,
    /// What chance is drawn from until the next operation. It belongs to the operation, so that
    /// leaving out another one does not throw all dice anew.
    pub dice: u64,
    /// The operation.
    pub op: Op,
}

/// Something that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Somebody plugs a device.
    Plug(PlugSpec),
    /// Somebody pulls it; what hangs below a hub goes with it.
    Unplug(BusId),
    /// The device leaves the bus and comes back as another one, as boot loaders and mode switches
    /// do.
    Morph {
        /// Where.
        port: BusId,
        /// What it says it is from then on.
        id: UsbId,
    },
    /// The toolstack creates a domain.
    Start(GuestSpec),
    /// The toolstack destroys it. Migration away and saving look the same from here.
    Destroy(GuestName),
    /// It is destroyed and comes back two seconds later, with another number and the same UUID
    /// (`xl_vmcontrol.c`). A restored domain looks the same.
    Reboot(GuestName),
    /// It crashes and its nodes stay.
    Crash(GuestName),
    /// It gets another name.
    Rename {
        /// The name that it has.
        from: GuestName,
        /// The name that it gets.
        to: GuestName,
    },
    /// Its guest stops answering.
    Pause(GuestName),
    /// Its guest answers again.
    Unpause(GuestName),
    /// Its device model ends without a word.
    KillDeviceModel(GuestName),
    /// Its device model, which was starting, becomes ready.
    DeviceModelReady(GuestName),
    /// Its guest writes a state into all its frontends, whatever it has been up to.
    Frontend {
        /// The domain.
        domain: GuestName,
        /// The state.
        state: XenbusState,
    },
    /// `xl usbctrl-attach`.
    XlControllerAttach {
        /// The domain.
        domain: GuestName,
        /// What it is like.
        spec: ControllerSpec,
    },
    /// `xl usbctrl-detach`.
    XlControllerDetach {
        /// The domain.
        domain: GuestName,
        /// The controller.
        controller: ControllerId,
    },
    /// `xl usbdev-attach`, without naming a port.
    XlAttach {
        /// The domain.
        domain: GuestName,
        /// The device.
        device: BusId,
    },
    /// `xl usbdev-detach`.
    XlDetach {
        /// The device, which the person has found in a port.
        device: BusId,
    },
    /// Somebody asks something of the agent, and waits until the device has come to rest, or only until
    /// it is noted.
    Ask {
        /// What.
        request: Request,
        /// Whether the answer is to come only when the device has come to rest.
        wait: bool,
        /// Whether it is to be remembered over the host's boot.
        remember: bool,
    },
    /// dom0 begins to use a device: mounts it, say.
    Use {
        /// The device.
        device: BusId,
        /// What for.
        what: Use,
    },
    /// dom0 uses it no longer.
    Disuse {
        /// The device.
        device: BusId,
        /// What for.
        what: Use,
    },
    /// The next this many steps or looks fail, in this way.
    Fault {
        /// How.
        kind: Fault,
        /// How many.
        times: u8,
    },
    /// The kernel is busy with a device: whatever is asked of it waits.
    Hang {
        /// The device.
        port: BusId,
        /// For how long.
        duration: Duration,
    },
    /// udev's queue overflows: events on their way are lost, which is noticed a moment later.
    LoseEvents,
    /// xenstore's connection is lost, and comes back.
    Disconnect {
        /// After this time.
        duration: Duration,
    },
    /// The policy of this name is loaded. One that does not compile changes nothing.
    Reload(Box<str>),
    /// The agent is killed, and started again.
    Kill {
        /// After this time.
        down: Duration,
    },
    /// The agent is told to end, and started again.
    Stop {
        /// Whether it gives everything back first.
        detach: bool,
        /// How long after its end it is started again.
        down: Duration,
    },
    /// The host boots anew: xenstore is empty, domains are gone, devices are found again.
    RebootHost {
        /// How long after that the agent is started.
        down: Duration,
    },
    /// Nothing happens by itself: so it must be. Rehearsals are made of these.
    Expect(Expectation),
}

/// A device as it is plugged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlugSpec {
    /// What it is like when the kernel and udev have finished with it and dom0 has it. The world gives it
    /// its address.
    pub device: Device,
    /// Whether usbback refuses it.
    pub refused: bool,
}

impl PlugSpec {
    /// A device of which nothing is known but this, with an interface for each of these drivers, of that
    /// class.
    pub(super) fn new(port: BusId, id: UsbId, class: u8, drivers: Vec<Option<Box<str>>>) -> Self {
        let address = BusAddress { bus: port.bus(), device: 2 };
        let class = ClassTriple { class, subclass: 0, protocol: 0 };
        let name = |number: usize| format!("{port}:1.{number}").parse::<InterfaceName>().ok();
        let interface = |driver| Interface { class, driver, authorized: true };
        let interfaces = drivers.into_iter().enumerate();
        let interfaces = interfaces.filter_map(|(at, it)| Some((name(at)?, interface(it))));
        let mut device = Device {
            speed: Speed::Full,
            initialized: Some(1),
            configured: true,
            interfaces: interfaces.collect(),
            ..Device::new(port, address, id)
        };
        if class.class == ClassTriple::HUB {
            device.class = class;
        }
        Self { device, refused: false }
    }

    /// Makes it a keyboard, or a mouse or the like. Its first interface says so as well.
    pub(super) fn make_input(&mut self, what: Use) {
        let is_keyboard = what == Use::Keyboard;
        let boot = if is_keyboard { ClassTriple::BOOT_KEYBOARD } else { ClassTriple::BOOT_MOUSE };
        if let Some(interface) = self.device.interfaces.values_mut().next() {
            interface.class = boot;
        }
        self.device.uses.insert(what);
    }

    /// Whether it is a hub.
    pub(super) fn hub(&self) -> bool {
        self.device.is_hub()
    }

    /// Whether it is a keyboard, or a mouse or the like.
    pub(super) fn is_input(&self) -> bool {
        self.inputs().next().is_some()
    }

    /// What a person can do with it.
    pub(super) fn inputs(&self) -> impl Iterator<Item = &Use> {
        let is_input = |what: &&Use| matches!(what, Use::Keyboard | Use::Pointer);
        self.device.uses.iter().filter(is_input)
    }
}

/// A domain as it is created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestSpec {
    /// Its name.
    pub name: GuestName,
    /// Its UUID, if it is not to be a new one.
    pub uuid: Option<GuestUuid>,
    /// How it is virtualised.
    pub kind: GuestKind,
    /// Its device model.
    pub model: ModelSpec,
    /// Whether its guest has a driver for PVUSB.
    pub frontend: bool,
    /// How long it takes to build.
    pub build: Duration,
    /// The controllers of its configuration, from number 0 (`usbctrl` in `xl.cfg(5)`).
    pub controllers: Vec<ControllerSpec>,
}

/// The device model of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelSpec {
    /// None.
    Absent,
    /// One that starts and becomes ready when it is told to.
    Starting,
    /// One that was built without USB.
    WithoutQusb,
    /// One that serves `qusb`.
    Qusb,
    /// One that says it serves `qusb` and never answers.
    Deaf,
}

/// A way to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Commits conflict until the client gives up.
    Conflict,
    /// Commits are refused because something is full.
    Full,
    /// Commits are made, but the answer is lost.
    Unheard,
    /// The kernel refuses to bind or unbind.
    Busy,
    /// Looks bring nothing.
    Blind,
}

/// What must be so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// The device.
    pub device: BusId,
    /// The domain that has it; `None` for dom0.
    pub place: Option<GuestName>,
}

impl Op {
    /// A word for summaries; also its key in a scenario.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Plug(_) => "plug",
            Self::Unplug(_) => "unplug",
            Self::Morph { .. } => "morph",
            Self::Start(_) => "start",
            Self::Destroy(_) => "destroy",
            Self::Reboot(_) => "reboot",
            Self::Crash(_) => "crash",
            Self::Rename { .. } => "rename",
            Self::Pause(_) => "pause",
            Self::Unpause(_) => "unpause",
            Self::KillDeviceModel(_) => "kill-device-model",
            Self::DeviceModelReady(_) => "device-model-ready",
            Self::Frontend { .. } => "frontend",
            Self::XlControllerAttach { .. } => "xl-usbctrl-attach",
            Self::XlControllerDetach { .. } => "xl-usbctrl-detach",
            Self::XlAttach { .. } => "xl-usbdev-attach",
            Self::XlDetach { .. } => "xl-usbdev-detach",
            Self::Ask { request, .. } => match request.wanted {
                Wanted::Attach(_) => "attach",
                Wanted::Detach => "detach",
                Wanted::Hold => "hold",
                Wanted::Release => "release",
            },
            Self::Use { .. } => "use",
            Self::Disuse { .. } => "disuse",
            Self::Fault { .. } => "fault",
            Self::Hang { .. } => "hang",
            Self::LoseEvents => "lose-events",
            Self::Disconnect { .. } => "disconnect",
            Self::Reload(_) => "reload",
            Self::Kill { .. } => "kill-agent",
            Self::Stop { .. } => "stop-agent",
            Self::RebootHost { .. } => "reboot-host",
            Self::Expect(_) => "expect",
        }
    }
}

/// What dom0 can begin to do with a device.
pub(super) fn uses() -> [Use; 4] {
    let device = || Text::from("/dev/sdb1");
    [
        Use::Mounted { device: device(), at: "/mnt".into() },
        Use::Swap { device: device() },
        Use::Held { device: device(), holder: "dm-0".into() },
        Use::Route { interface: "eth1".into() },
    ]
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Conflict, Self::Full, Self::Unheard, Self::Busy, Self::Blind];

    /// Its word in a scenario.
    pub fn word(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Full => "full",
            Self::Unheard => "unheard",
            Self::Busy => "busy",
            Self::Blind => "blind",
        }
    }
}

impl ModelSpec {
    /// What it is by what it looks like. `None` for one that is dead: no domain begins with that.
    pub(super) fn of(model: DeviceModel) -> Option<Self> {
        match model {
            DeviceModel::Absent => Some(Self::Absent),
            DeviceModel::Starting => Some(Self::Starting),
            DeviceModel::Running { qusb: false } => Some(Self::WithoutQusb),
            DeviceModel::Running { qusb: true } => Some(Self::Qusb),
            DeviceModel::Dead => None,
        }
    }

    /// What it looks like.
    pub(super) fn seen(self) -> DeviceModel {
        match self {
            Self::Absent => DeviceModel::Absent,
            Self::Starting => DeviceModel::Starting,
            Self::WithoutQusb => DeviceModel::Running { qusb: false },
            Self::Qusb | Self::Deaf => DeviceModel::Running { qusb: true },
        }
    }
}
