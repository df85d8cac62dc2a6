//! A policy as YAML: the canonical form, with every default filled in.
//!
//! The writing side alone is serde's. What is written here, `read` understands.

mod matching;

use self::matching::{ShownGroups, ShownMatch};
use super::Policy;
use super::defaults::Flapping;
use super::rule::{Action, Rule};
use super::target::{GuestPattern, Target, When};
use super::wish::{KindWish, TargetWish};
use crate::model::{ControllerId, PortNumber, UsbVersion};
use serde::Serialize;
use std::time::Duration;

pub(super) fn policy(policy: &Policy) -> Result<String, serde_yaml::Error> {
    let (controller, keep) = (policy.controller(), policy.keep_last());
    serde_yaml::to_string(&ShownPolicy {
        version: 1,
        defaults: ShownDefaults {
            controller: ShownController {
                kind: controller.kind.word(),
                version: usb_version(controller.version),
                ports: controller.ports.get(),
            },
            settle: duration(policy.settle()),
            keep_last: [("keyboard", keep.keyboard), ("pointer", keep.pointer)]
                .into_iter()
                .filter_map(|(word, kept)| kept.then_some(word))
                .collect(),
            stale_ports: policy.stale_ports().word(),
            flapping: shown_flapping(policy.flapping()),
            quarantine: policy.quarantine(),
            reload: policy.reload().word(),
        },
        devices: ShownGroups(policy.groups()),
        protect: policy.protected().iter().map(ShownMatch).collect(),
        rules: policy.rules().iter().map(shown_rule).collect(),
    })
}

#[derive(Serialize)]
struct ShownPolicy<'p> {
    version: u8,
    defaults: ShownDefaults,
    #[serde(skip_serializing_if = "ShownGroups::is_empty")]
    devices: ShownGroups<'p>,
    protect: Vec<ShownMatch<'p>>,
    rules: Vec<ShownRule<'p>>,
}

#[derive(Serialize)]
struct ShownDefaults {
    controller: ShownController,
    settle: String,
    keep_last: Vec<&'static str>,
    stale_ports: &'static str,
    flapping: ShownFlapping,
    quarantine: bool,
    reload: &'static str,
}

#[derive(Serialize)]
struct ShownFlapping {
    plugs: u32,
    within: String,
    pause: String,
}

#[derive(Serialize)]
struct ShownController {
    #[serde(rename = "type")]
    kind: &'static str,
    version: u8,
    ports: u8,
}

#[derive(Serialize)]
struct ShownRule<'p> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enabled: Option<bool>,
    #[serde(rename = "match")]
    matcher: ShownMatch<'p>,
    #[serde(skip_serializing_if = "Option::is_none")]
    when: Option<ShownWhen>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attach: Option<Vec<ShownTarget>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    block: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<ShownFlapping>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wait: Option<ShownWait>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_identity_change: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_unplug: Option<String>,
}

#[derive(Serialize)]
struct ShownWhen {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    running: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    absent: Vec<String>,
}

#[derive(Serialize)]
struct ShownWait {
    #[serde(skip_serializing_if = "Option::is_none")]
    settle: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attach: Option<String>,
}

/// Without wishes, the domain alone.
#[derive(Serialize)]
#[serde(untagged)]
enum ShownTarget {
    Short(String),
    Long {
        domain: String,
        #[serde(flatten)]
        wish: ShownWish,
    },
}

/// What is asked for in a domain, with the policy's own keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShownWish {
    #[serde(skip_serializing_if = "Option::is_none")]
    controller: Option<ShownWishedController>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct ShownWishedController {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ports: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u32>,
}

fn shown_rule(rule: &Rule) -> ShownRule<'_> {
    let attach = match rule.action() {
        Action::Attach(targets) => Some(targets.iter().map(shown_target).collect()),
        Action::Keep | Action::Block => None,
    };
    let When { running, absent } = rule.when();
    let when = (rule.when() != &When::default())
        .then(|| ShownWhen { running: shown_guests(running), absent: shown_guests(absent) });
    ShownRule {
        name: rule.name(),
        description: rule.description(),
        enabled: (!rule.is_enabled()).then_some(false),
        matcher: ShownMatch(rule.matcher()),
        when,
        attach,
        keep: (*rule.action() == Action::Keep).then_some("dom0"),
        block: (*rule.action() == Action::Block).then_some(true),
        limit: rule.limit().map(shown_flapping),
        wait: (rule.settle().is_some() || rule.patience().is_some()).then(|| ShownWait {
            settle: rule.settle().map(duration),
            attach: rule.patience().map(duration),
        }),
        on_identity_change: rule.on_identity_change().map(|it| format!("keep {}", duration(it))),
        on_unplug: rule.on_unplug().hold().map(|it| format!("hold {}", duration(it))),
    }
}

fn shown_target(target: &Target) -> ShownTarget {
    let domain = shown_guest(&target.guest);
    if target.wish == TargetWish::ANY {
        return ShownTarget::Short(domain);
    }
    ShownTarget::Long { domain, wish: target.wish.into() }
}

impl From<TargetWish> for ShownWish {
    fn from(wish: TargetWish) -> Self {
        let TargetWish { kind, version, ports, index, port } = wish;
        let controller = ShownWishedController {
            kind: kind.map(KindWish::word),
            version: version.map(usb_version),
            ports: ports.map(PortNumber::get),
            index: index.map(ControllerId::get),
        };
        let is_any = TargetWish { port: None, ..wish } == TargetWish::ANY;
        Self { controller: (!is_any).then_some(controller), port: port.map(PortNumber::get) }
    }
}

fn shown_guests(guests: &[GuestPattern]) -> Vec<String> {
    guests.iter().map(shown_guest).collect()
}

/// As it is: what is shown to people is escaped.
fn shown_guest(guest: &GuestPattern) -> String {
    match guest {
        GuestPattern::Named(name) | GuestPattern::Like(name) => name.as_str().to_owned(),
        GuestPattern::Uuid(uuid) => uuid.to_string(),
    }
}

fn shown_flapping(flapping: Flapping) -> ShownFlapping {
    ShownFlapping {
        plugs: flapping.plugs,
        within: duration(flapping.within),
        pause: duration(flapping.pause),
    }
}

fn usb_version(version: UsbVersion) -> u8 {
    u8::from(version == UsbVersion::V2) + 1
}

/// In seconds when they are whole, in milliseconds otherwise. Nothing finer can be written.
fn duration(duration: Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("{}s", duration.as_secs()),
        _ => format!("{}ms", duration.as_millis()),
    }
}
