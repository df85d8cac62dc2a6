//! The interlock: no step that takes a protected device from dom0 passes it.
//!
//! The plan asks [`guard`] before it proposes anything for a device, so that nothing is made for one
//! that must stay. The executor takes only [`Cleared`] steps, and only [`clear`] makes them, so there
//! is no way around it:
//!
//! ```compile_fail
//! use pvusb_agent::plan::{Cleared, Step};
//! fn smuggle(step: Step) -> Cleared { Cleared(step) }
//! ```
//!
//! A device that is in a domain is not judged again: dom0 does nothing with it, and it is not
//! detached because of a guard.

use super::step::Step;
use crate::model::{BusId, Device, Observed, Text, Use};
use crate::policy::{Candidate, Policy};
use std::collections::BTreeSet;

/// A step that the interlock has looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cleared(Step);

impl Cleared {
    /// The step.
    pub fn step(&self) -> &Step {
        &self.0
    }
}

/// Why a device stays in dom0. Shown as a sentence about the device that it was asked of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Devices behind a hub that a guest has would be lost to dom0 unseen, and neither libxl nor
    /// usbback takes one (`libxl_usb.c: is_usbdev_assignable`).
    #[error("it is a hub")]
    Hub,
    /// Nothing is known of the device, so nothing says that it may be taken.
    #[error("it is not plugged")]
    NotPlugged,
    /// dom0 has data on it: [`Use::is_storage`].
    #[error("{0}")]
    Storage(Use),
    /// dom0 talks to a network through this interface of it.
    #[error("{interface} carries a route of dom0")]
    Route {
        /// The interface.
        interface: Text,
    },
    /// Without it nobody could type in dom0.
    #[error("it is the last keyboard of dom0")]
    LastKeyboard,
    /// Without it dom0 would have no mouse or touchpad.
    #[error("it is the last pointer of dom0")]
    LastPointer,
    /// The policy lists it.
    #[error("`protect` lists {entry}")]
    Listed {
        /// The match, as it is written.
        entry: Box<str>,
    },
}

impl Refusal {
    /// Whether nobody may overrule it. The others are about what a person at the machine needs, and
    /// a person may know better.
    pub fn is_hard(&self) -> bool {
        match self {
            Self::Hub | Self::NotPlugged | Self::Storage(_) => true,
            Self::Route { .. } | Self::LastKeyboard | Self::LastPointer | Self::Listed { .. } => {
                false
            }
        }
    }

    /// What helps.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Hub => "plug the devices behind it elsewhere, or write rules for them",
            Self::NotPlugged => "plug it in",
            Self::Storage(Use::Mounted { .. }) => "unmount it; it follows at once",
            Self::Storage(_) => "let dom0 give it up (swapoff, vgchange -an, mdadm --stop, …)",
            Self::Route { .. } => "take the route away; it follows at once",
            Self::LastKeyboard | Self::LastPointer => {
                "plug in another one for dom0, or say in the policy what dom0 can do without: \
                 `defaults: {keep_last: []}`"
            }
            Self::Listed { .. } => "take it out of `protect` in the policy",
        }
    }
}

/// Everything that decides whether a device may leave dom0.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// What was seen.
    pub observed: &'a Observed,
    /// What the policy protects.
    pub policy: &'a Policy,
    /// Devices that steps on their way take from dom0: they count as gone.
    pub departing: &'a BTreeSet<BusId>,
}

/// Why `device` must not leave dom0, unless a person has waived that for this plug of it.
///
/// # Errors
///
/// The reason.
pub fn guard(device: &Device, scene: &Scene<'_>) -> Result<(), Refusal> {
    let said = scene.observed.xen.override_of(device);
    let waived = said.is_some_and(|said| said.force);
    match may_leave(device, scene) {
        Err(refusal) if refusal.is_hard() || !waived => Err(refusal),
        Err(_) | Ok(()) => Ok(()),
    }
}

/// Why `device` must not leave dom0, whatever a person has waived; the hard reasons first.
///
/// # Errors
///
/// The reason.
pub fn may_leave(device: &Device, scene: &Scene<'_>) -> Result<(), Refusal> {
    guard_data(device)?;
    for what in &device.uses {
        if let Use::Route { interface } = what {
            return Err(Refusal::Route { interface: interface.clone() });
        }
    }
    let keep = scene.policy.keep_last();
    let Observed { desk, .. } = scene.observed;
    let others = |what: &Use| others_remain(device, scene, what);
    if keep.keyboard && device.may_be_keyboard() && !desk.keyboard && !others(&Use::Keyboard) {
        return Err(Refusal::LastKeyboard);
    }
    if keep.pointer && device.may_be_pointer() && !desk.pointer && !others(&Use::Pointer) {
        return Err(Refusal::LastPointer);
    }
    match scene.policy.protection(&Candidate::of(device, scene.observed)) {
        Some(entry) => Err(Refusal::Listed { entry: entry.to_string().into() }),
        None => Ok(()),
    }
}

/// The hard reasons alone. They hold until the moment in which the device leaves.
///
/// # Errors
///
/// The reason.
pub fn guard_data(device: &Device) -> Result<(), Refusal> {
    if device.is_hub() {
        return Err(Refusal::Hub);
    }
    match device.uses.iter().find(|what| what.is_storage()) {
        Some(what) => Err(Refusal::Storage(what.clone())),
        None => Ok(()),
    }
}

/// Lets `step` pass unless it would take a protected device, or a person has waived that.
///
/// # Errors
///
/// The reason, when it would.
pub fn clear(step: Step, scene: &Scene<'_>) -> Result<Cleared, Refusal> {
    let taken = step.device().filter(|_| step.takes_from_dom0());
    if let Some(busid) = taken {
        let device = scene.observed.devices.get(busid).ok_or(Refusal::NotPlugged)?;
        if matches!(step, Step::TakeInterfaces { .. }) {
            // Everything else was judged when its port was claimed.
            guard_data(device)?;
        } else {
            guard(device, scene)?;
        }
    }
    Ok(Cleared(step))
}

/// Whether dom0 keeps a device of this use when `device` leaves. Only what udev has seen to be one
/// counts, not what may be one.
fn others_remain(device: &Device, scene: &Scene<'_>, what: &Use) -> bool {
    let xen = &scene.observed.xen;
    let remains = |other: &Device| {
        other.busid != device.busid
            && other.uses.contains(what)
            && !scene.departing.contains(&other.busid)
            && xen.places_of(&other.busid).next().is_none()
    };
    scene.observed.devices.values().any(remains)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        ClassTriple, Controller, ControllerKind, Desk, Devices, DomId, Drivers, Guest, GuestKind,
        GuestName, Interface, Life, PortContent, Speed, XenView, XenbusState,
    };
    use crate::model::{DeviceModel, GuestUuid};
    use crate::plan::made_up::place;
    use crate::plan::{Claim, Survey};
    use crate::policy::{self, Source};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const PORTS: [&str; 3] = ["1-1", "1-2", "1-3"];
    const UUID: &str = "6d3ae5a6-2c8c-4c8b-9d1e-000000000001";

    fn all_uses() -> Vec<Use> {
        let device = || Text::from("/dev/sdb");
        vec![
            Use::Mounted { device: device(), at: "/mnt".into() },
            Use::Swap { device: device() },
            Use::Held { device: device(), holder: "dm-0".into() },
            Use::Route { interface: "eth1".into() },
            Use::Keyboard,
            Use::Pointer,
        ]
    }

    fn device(port: &str, uses: BTreeSet<Use>, class: ClassTriple) -> Device {
        let interface = format!("{port}:1.0").parse().unwrap();
        let (address, id) = ("1.5".parse().unwrap(), "05e0:1200".parse().unwrap());
        Device {
            speed: Speed::High,
            initialized: Some(1),
            configured: true,
            interfaces: [(interface, Interface { class, driver: None, authorized: true })].into(),
            uses,
            ..Device::new(port.parse().unwrap(), address, id)
        }
    }

    /// A domain in whose ports these devices are.
    fn guest(inside: &BTreeSet<BusId>) -> Guest {
        let ports = (1_u8..).zip(inside).map(|(number, busid)| {
            (number.to_string().parse().unwrap(), PortContent::Taken(busid.clone()))
        });
        let controller = Controller {
            kind: ControllerKind::Qusb,
            version: None,
            ports: ports.collect(),
            backend: XenbusState::Connected,
            frontend: XenbusState::Connected,
            ours: false,
        };
        Guest {
            domid: domid(),
            uuid: uuid(),
            name: GuestName::new("kiosk"),
            kind: GuestKind::Pv,
            life: Life::Running,
            device_model: DeviceModel::Running { qusb: true },
            controllers: [("0".parse().unwrap(), controller)].into(),
            broken: BTreeMap::new(),
        }
    }

    fn domid() -> DomId {
        "4".parse().unwrap()
    }

    fn uuid() -> GuestUuid {
        UUID.parse().unwrap()
    }

    fn claim(device: &Device) -> Step {
        Step::Claim(Claim {
            trail: None,
            busid: device.busid.clone(),
            plug: device.plug(),
            place: crate::model::Place {
                domid: domid(),
                controller: "0".parse().unwrap(),
                port: "9".parse().unwrap(),
            },
            uuid: uuid(),
            kind: ControllerKind::Qusb,
            drivers: Drivers::new(),
            survey: Survey::default(),
        })
    }

    fn some_of<T: Clone + Ord + std::fmt::Debug + 'static>(
        all: Vec<T>,
    ) -> impl Strategy<Value = BTreeSet<T>> {
        let most = all.len().min(3);
        prop::sample::subsequence(all, 0..=most).prop_map(|some| some.into_iter().collect())
    }

    fn devices() -> impl Strategy<Value = Devices> {
        let hub = ClassTriple { class: ClassTriple::HUB, subclass: 0, protocol: 0 };
        let other = ClassTriple { class: 0xff, subclass: 0, protocol: 0 };
        let class = prop::sample::select(vec![
            other,
            other,
            hub,
            ClassTriple::BOOT_KEYBOARD,
            ClassTriple::BOOT_MOUSE,
        ]);
        prop::collection::vec((some_of(all_uses()), class), PORTS.len()).prop_map(|facts| {
            let devices = PORTS.iter().zip(facts);
            let devices = devices.map(|(port, (uses, class))| device(port, uses, class));
            devices.map(|device| (device.busid.clone(), device)).collect()
        })
    }

    fn busids() -> impl Strategy<Value = BTreeSet<BusId>> {
        some_of(PORTS.iter().map(|port| port.parse().unwrap()).collect())
    }

    fn policy(keep_last: &str, protect: &str) -> Policy {
        let text = format!(
            "{{version: 1, defaults: {{keep_last: {keep_last}}}, protect: {protect}, rules: []}}"
        );
        policy::compile(Source { name: "policy.yaml", bytes: text.as_bytes() }).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Said once more, in other words: by counting, over all devices at once.
        #[test]
        fn whatever_is_seen_no_cleared_claim_takes_a_protected_device(
            devices in devices(),
            (departing, inside) in (busids(), busids()),
            (keyboard, pointer) in (any::<bool>(), any::<bool>()),
            keep in prop::sample::select(vec!["[]", "[keyboard]", "[pointer]", "[keyboard, pointer]"]),
            protect in prop::sample::select(vec!["[]", "[{port: '1-2'}]"]),
        ) {
            let xen = XenView { guests: [(domid(), guest(&inside))].into(), ..XenView::default() };
            let desk = Desk { keyboard, pointer };
            let observed = Observed { devices, desk, xen, ..Observed::default() };
            let policy = policy(keep, protect);
            let scene = Scene { observed: &observed, policy: &policy, departing: &departing };
            for device in observed.devices.values() {
                let left = |what: &Use, on_desk: bool| {
                    let stay = observed.devices.values().filter(|other| {
                        other.busid != device.busid
                            && !departing.contains(&other.busid)
                            && !inside.contains(&other.busid)
                    });
                    usize::from(on_desk) + stay.filter(|other| other.uses.contains(what)).count()
                };
                let class = |class| device.interfaces.values().any(|i| i.class == class);
                let has = |what: Use| device.uses.contains(&what);
                let storage = device.uses.iter().any(|what| matches!(
                    what,
                    Use::Mounted { .. } | Use::Swap { .. } | Use::Held { .. }
                ));
                let hub = device.interfaces.values().any(|i| i.class.class == 9);
                let hard = storage || hub;
                let soft = has(Use::Route { interface: "eth1".into() })
                    || (protect != "[]" && device.busid.to_string() == "1-2")
                    || (keep.contains("keyboard")
                        && (has(Use::Keyboard) || class(ClassTriple::BOOT_KEYBOARD))
                        && left(&Use::Keyboard, keyboard) == 0)
                    || (keep.contains("pointer")
                        && (has(Use::Pointer) || class(ClassTriple::BOOT_MOUSE))
                        && left(&Use::Pointer, pointer) == 0);
                let answer = clear(claim(device), &scene);
                prop_assert_eq!(answer.is_ok(), !hard && !soft);
                if let Err(refusal) = answer {
                    prop_assert_eq!(refusal.is_hard(), hard);
                    prop_assert!(!refusal.to_string().is_empty() && !refusal.advice().is_empty());
                }
            }
        }
    }

    #[test]
    fn interfaces_of_a_claimed_device_are_taken_unless_data_would_be_lost() {
        let policy = policy("[keyboard, pointer]", "[{port: '1-1'}]");
        let (one, departing) = (device(PORTS[0], [].into(), ClassTriple::BOOT_KEYBOARD), [].into());
        let (busid, plug, place) = (one.busid.clone(), one.plug(), place(4, 0, 1));
        let take = Step::TakeInterfaces { busid, plug, place, interfaces: Vec::new() };
        let mut observed = Observed::default();
        let with = |observed: &Observed| {
            clear(take.clone(), &Scene { observed, policy: &policy, departing: &departing }).err()
        };
        assert_eq!(with(&observed), Some(Refusal::NotPlugged));
        observed.devices.insert(one.busid.clone(), one.clone());
        assert_eq!(with(&observed), None);
        let what = all_uses().remove(0);
        let mounted = Device { uses: [what.clone()].into(), ..one };
        observed.devices.insert(mounted.busid.clone(), mounted);
        assert_eq!(with(&observed), Some(Refusal::Storage(what)));
    }

    #[test]
    fn a_person_may_waive_what_is_soft_for_this_plug_and_nothing_else() {
        let policy = policy("[]", "[{port: '1-1'}]");
        let (mut one, departing) =
            (device(PORTS[0], [].into(), ClassTriple::BOOT_MOUSE), [].into());
        let mut observed = Observed::default();
        let asked = |observed: &Observed, one: &Device| {
            guard(one, &Scene { observed, policy: &policy, departing: &departing }).err()
        };
        let listed = asked(&observed, &one);
        assert!(matches!(listed, Some(Refusal::Listed { .. })), "{listed:?}");
        let order = crate::model::Order::Attach(GuestName::new("kiosk"));
        let mut said = crate::model::Override { plug: one.plug(), order, force: false };
        observed.xen.overrides.insert(one.busid.clone(), said.clone());
        assert_eq!(asked(&observed, &one), listed, "an order alone waives nothing");
        said.force = true;
        observed.xen.overrides.insert(one.busid.clone(), said);
        assert_eq!(asked(&observed, &one), None);
        let swap = Use::Swap { device: "/dev/sdb".into() };
        one.uses = [swap.clone()].into();
        assert_eq!(asked(&observed, &one), Some(Refusal::Storage(swap)), "that is hard");
        one = device(PORTS[0], [].into(), ClassTriple::BOOT_MOUSE);
        one.initialized = Some(2);
        assert_eq!(asked(&observed, &one), listed, "it was plugged anew");
    }

    #[test]
    fn each_refusal_says_what_helps() {
        let mounted = all_uses().remove(0);
        let helps = [
            (Refusal::Hub, "behind it"),
            (Refusal::NotPlugged, "plug it in"),
            (Refusal::Storage(mounted), "unmount"),
            (Refusal::Storage(Use::Swap { device: "x".into() }), "swapoff"),
            (Refusal::Route { interface: "eth1".into() }, "route"),
            (Refusal::LastKeyboard, "keep_last"),
            (Refusal::LastPointer, "keep_last"),
            (Refusal::Listed { entry: "x".into() }, "policy"),
        ];
        for (refusal, word) in helps {
            assert!(refusal.advice().contains(word), "{refusal}: {}", refusal.advice());
        }
    }
}
