//! The keys of scenarios: what each is called, what it is for, and which values it takes. Those of devices
//! and domains are in `paper`.
//!
//! One table for all who must know, as for policies: the reader takes from it which keys there are, the
//! JSON Schema everything. How values are read is not in here.

use super::op::Fault;
use crate::model::PortNumber;
use crate::paper::keys::{
    ABOUT, DESK, DEVICE_KEYS, DEVICES, DOMAIN_KEYS, DOMAINS, ONE_USE, USBBACK, VERSION,
};
use crate::policy::text::{Form, Key, Shape, joined, key, must, names, schema_of};

const DURATION: Form = Form::Like("^[0-9]+(us|ms|s|m|h)$");
const ID: Form = Form::Like("^[0-9A-Fa-f]{4}:[0-9A-Fa-f]{4}$");
/// A device by its port or its name in `devices`; an order may also call it by its address or id.
const DEVICE: Key = must("device", Form::Text, "The device, by its port or its name.");
const DOMAIN: Key = must("domain", Form::Guest, "The domain.");

const SCENARIO_KEYS: [Key; 11] = [
    VERSION,
    ABOUT,
    key("policy", Form::Text, "The policy that is in force at first, by its name."),
    key("policies", Form::Named(&Form::Lines), "The texts of the policies, by name."),
    USBBACK,
    key("held-back", Form::Truth, "Whether the buses hold new devices back."),
    DESK,
    key("chance", Form::Truth, "Whether chance decides how long things take."),
    DEVICES,
    DOMAINS,
    must("timeline", Form::List(&Form::Choice(&MOMENT_KEYS, &HAPPENINGS), 0), "What happens."),
];

/// What can happen at a moment: one of these keys it must have.
const HAPPENINGS: [&str; 32] = {
    let names = names(&MOMENT_KEYS);
    let mut happenings = [""; 32];
    let mut at = 0;
    while at < happenings.len() {
        happenings[at] = names[at + WHEN];
        at += 1;
    }
    happenings
};
/// How many keys of a moment say when it is.
const WHEN: usize = 3;
const MOMENT_KEYS: [Key; 35] = [
    key("at", DURATION, "When, counted from the beginning."),
    key("after", DURATION, "When, counted from the moment above."),
    key("dice", Form::Like("^[0-9]+$"), "What chance is drawn from until the next moment."),
    key("plug", Form::Either(&[Form::Text, Form::Map(&PLUG_KEYS, 0)]), "A device is plugged."),
    key("unplug", Form::Text, "A device is pulled."),
    key("morph", Form::Map(&MORPH_KEYS, 0), "A device comes back as another one."),
    key("start", Form::Either(&[Form::Guest, Form::Map(&START_KEYS, 0)]), "A domain starts."),
    key("destroy", Form::Guest, "A domain is destroyed."),
    key("reboot", Form::Guest, "A domain ends and comes back."),
    key("crash", Form::Guest, "A domain crashes, and its nodes stay."),
    key("rename", Form::Map(&RENAME_KEYS, 0), "A domain gets another name."),
    key("pause", Form::Guest, "A domain's guest stops answering."),
    key("unpause", Form::Guest, "A domain's guest answers again."),
    key("kill-device-model", Form::Guest, "A domain's device model dies."),
    key(
        "device-model-ready",
        Form::Guest,
        "A domain's device model, which was starting, is ready.",
    ),
    key("frontend", Form::Map(&FRONTEND_KEYS, 0), "A guest writes a state into its frontends."),
    key("xl-usbctrl-attach", Form::Map(&XL_CONTROLLER_KEYS, 0), "Somebody makes a controller."),
    key("xl-usbctrl-detach", Form::Map(&XL_DETACH_KEYS, 0), "Somebody removes a controller."),
    key("xl-usbdev-attach", Form::Map(&XL_ATTACH_KEYS, 0), "Somebody attaches a device with xl."),
    key("xl-usbdev-detach", Form::Text, "Somebody takes a device out with xl."),
    key("attach", Form::Map(&ASK_KEYS, 0), "Somebody orders a device into a domain."),
    key("detach", Form::Map(&ASK_KEYS, 0), "Somebody orders a device into dom0."),
    key("hold", Form::Map(&ASK_KEYS, 0), "Somebody orders that a device stays in dom0."),
    key("release", Form::Map(&ASK_KEYS, 0), "Somebody takes an order back."),
    key("use", Form::Map(&USE_KEYS, 0), "dom0 begins to use a device."),
    key("disuse", Form::Map(&USE_KEYS, 0), "dom0 uses a device no longer."),
    key("fault", Form::Map(&FAULT_KEYS, 0), "The next steps or looks fail."),
    key("hang", Form::Map(&HANG_KEYS, 0), "The kernel is busy with a device."),
    key("lose-events", Form::True, "udev's queue overflows."),
    key("disconnect", DURATION, "xenstore's connection is lost for so long."),
    key("reload", Form::Text, "The policy of this name is loaded."),
    key("kill-agent", DURATION, "The agent is killed, and started again after so long."),
    key("stop-agent", Form::Map(&STOP_KEYS, 0), "The agent is told to end, and started again."),
    key("reboot-host", DURATION, "The host boots anew, and the agent is started after so long."),
    key("expect", Form::Map(&EXPECT_KEYS, 0), "So it must be at this moment."),
];

const PLUG_KEYS: [Key; 17] =
    joined(&DEVICE_KEYS, &[key("refused", Form::Truth, "Whether usbback refuses it.")]);
const START_KEYS: [Key; 10] = joined(
    &DOMAIN_KEYS,
    &[
        DOMAIN,
        key(
            "deaf",
            Form::Truth,
            "Whether its device model says that it serves `qusb`, and never does.",
        ),
        key("frontend", Form::Truth, "Whether its guest has a driver for PVUSB."),
        key("build", DURATION, "How long it is built."),
    ],
);
const ASK_KEYS: [Key; 5] = [
    DEVICE,
    key("domain", Form::Guest, "The domain, of `attach` alone."),
    key("force", Form::Truth, "Whether what guards can waive is waived."),
    key("wait", Form::Truth, "Whether the answer is to come when the device has come to rest."),
    key("remember", Form::Truth, "Whether it is to outlast the host's boot."),
];
const XL_CONTROLLER_KEYS: [Key; 4] = [
    DOMAIN,
    key("type", Form::Words(|| vec!["pv", "qusb"]), "Who serves it."),
    key("version", Form::Number(1, 2), "The version of USB that it offers."),
    key("ports", Form::Number(1, PortNumber::MAX.get() as u32), "How many ports it has."),
];
const MORPH_KEYS: [Key; 2] = [
    must("port", Form::Text, "The device, by its port or its name."),
    must("id", ID, "What it says it is from then on."),
];
const RENAME_KEYS: [Key; 2] =
    [must("from", Form::Guest, "The name that it has."), must("to", Form::Guest, "The new one.")];
const FRONTEND_KEYS: [Key; 2] = [DOMAIN, must("state", Form::Number(0, 8), "The state.")];
const XL_DETACH_KEYS: [Key; 2] =
    [DOMAIN, must("controller", Form::Number(0, 9), "The controller.")];
const XL_ATTACH_KEYS: [Key; 2] = [DOMAIN, DEVICE];
const USE_KEYS: [Key; 2] = [DEVICE, must("as", ONE_USE, "What for.")];
const FAULT_KEYS: [Key; 2] = [
    must("kind", Form::Words(|| Fault::ALL.map(Fault::word).to_vec()), "How."),
    must("times", Form::Number(0, 8), "How many."),
];
const HANG_KEYS: [Key; 2] = [DEVICE, must("for", DURATION, "For how long.")];
const STOP_KEYS: [Key; 2] = [
    must("detach", Form::Truth, "Whether it gives everything back first."),
    must("down", DURATION, "How long after its end it is started again."),
];
const EXPECT_KEYS: [Key; 2] = [DEVICE, must("in", Form::Text, "The domain, or `dom0`.")];

pub(super) const SCENARIO: Shape = Shape { what: "a scenario", keys: &names(&SCENARIO_KEYS) };
pub(super) const MOMENT: Shape = Shape { what: "a moment", keys: &names(&MOMENT_KEYS) };
/// Of a device's place, the world heeds the port alone: addresses it counts itself.
pub(super) const PLUG: Shape = Shape { what: "`plug`", keys: &names(&PLUG_KEYS) };
/// Numbers of domains the world counts itself.
pub(super) const START: Shape = Shape { what: "`start`", keys: &names(&START_KEYS) };
pub(super) const ASK: Shape = Shape { what: "an order", keys: &names(&ASK_KEYS) };
pub(super) const XL_CONTROLLER: Shape =
    Shape { what: "`xl-usbctrl-attach`", keys: &names(&XL_CONTROLLER_KEYS) };
pub(super) const MORPH: Shape = Shape { what: "`morph`", keys: &names(&MORPH_KEYS) };
pub(super) const RENAME: Shape = Shape { what: "`rename`", keys: &names(&RENAME_KEYS) };
pub(super) const FRONTEND: Shape = Shape { what: "`frontend`", keys: &names(&FRONTEND_KEYS) };
pub(super) const XL_DETACH: Shape =
    Shape { what: "`xl-usbctrl-detach`", keys: &names(&XL_DETACH_KEYS) };
pub(super) const XL_ATTACH: Shape =
    Shape { what: "`xl-usbdev-attach`", keys: &names(&XL_ATTACH_KEYS) };
pub(super) const USE: Shape = Shape { what: "`use`", keys: &names(&USE_KEYS) };
pub(super) const FAULT: Shape = Shape { what: "`fault`", keys: &names(&FAULT_KEYS) };
pub(super) const HANG: Shape = Shape { what: "`hang`", keys: &names(&HANG_KEYS) };
pub(super) const STOP: Shape = Shape { what: "`stop-agent`", keys: &names(&STOP_KEYS) };
pub(super) const EXPECT: Shape = Shape { what: "`expect`", keys: &names(&EXPECT_KEYS) };

/// The JSON Schema of scenarios, for editors (draft 7).
pub fn json_schema() -> serde_json::Value {
    schema_of("Scenario of pvusb-agent", &SCENARIO_KEYS)
}
