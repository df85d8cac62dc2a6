//! What can happen from outside: the vocabulary of scenarios and of seeds.
//!
//! Operations are values, so that a run is a list of them: it can be printed, cut down, kept and
//! played again. How they are written in YAML is in `scenario`.

use crate::model::{
    BusId, ControllerId, ControllerKind, GuestKind, GuestName, PortNumber, Speed, Text, UsbId,
    UsbVersion, Use, XenbusState,
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
        /// Who serves it.
        kind: ControllerKind,
        /// The USB version that it offers.
        version: UsbVersion,
        /// How many ports it has.
        ports: PortNumber,
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
#[expect(clippy::struct_excessive_bools, reason = "each is a property of its own")]
pub struct PlugSpec {
    /// Where.
    pub port: BusId,
    /// What it says it is.
    pub id: UsbId,
    /// What it calls itself.
    pub product: Option<Box<str>>,
    /// Its serial number; twins have none.
    pub serial: Option<Box<str>>,
    /// Its speed.
    pub speed: Speed,
    /// Whether it is a hub.
    pub hub: bool,
    /// For each of its interfaces the driver that dom0 has for it.
    pub interfaces: Vec<Option<Box<str>>>,
    /// Whether usbback refuses it.
    pub refused: bool,
    /// Whether it is a keyboard.
    pub keyboard: bool,
    /// Whether it is a mouse or the like.
    pub pointer: bool,
}

/// A domain as it is created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestSpec {
    /// Its name.
    pub name: GuestName,
    /// How it is virtualised.
    pub kind: GuestKind,
    /// Its device model.
    pub model: ModelSpec,
    /// Whether its guest has a driver for PVUSB.
    pub frontend: bool,
    /// How long it takes to build.
    pub build: Duration,
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

/// What dom0 can begin to do with a device, with its word in a scenario.
pub(super) fn uses() -> [(&'static str, Use); 4] {
    let device = || Text::from("/dev/sdb1");
    [
        ("mounted", Use::Mounted { device: device(), at: "/mnt".into() }),
        ("swap", Use::Swap { device: device() }),
        ("held", Use::Held { device: device(), holder: "dm-0".into() }),
        ("route", Use::Route { interface: "eth1".into() }),
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
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Absent, Self::Starting, Self::WithoutQusb, Self::Qusb, Self::Deaf];

    /// Its word in a scenario.
    pub fn word(self) -> &'static str {
        match self {
            Self::Absent => "none",
            Self::Starting => "starting",
            Self::WithoutQusb => "without-qusb",
            Self::Qusb => "qusb",
            Self::Deaf => "deaf",
        }
    }
}
