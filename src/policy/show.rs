//! A policy as YAML: the canonical form, with every default filled in.
//!
//! The writing side alone is serde's. What is written here, `read` understands.

mod matching;

use self::matching::{ShownGroups, ShownMatch};
use super::Policy;
use super::rule::{Action, Rule};
use crate::model::{GuestName, UsbVersion};
use serde::Serialize;
use std::time::Duration;

pub(super) fn policy(policy: &Policy) -> Result<String, serde_yaml::Error> {
    let (controller, keep) = (policy.controller(), policy.keep_last());
    serde_yaml::to_string(&ShownPolicy {
        version: 1,
        defaults: ShownDefaults {
            controller: ShownController {
                kind: controller.kind.word(),
                version: u8::from(controller.version == UsbVersion::V2) + 1,
                ports: controller.ports.get(),
            },
            settle: duration(policy.settle()),
            keep_last: [("keyboard", keep.keyboard), ("pointer", keep.pointer)]
                .into_iter()
                .filter_map(|(word, kept)| kept.then_some(word))
                .collect(),
            stale_ports: policy.stale_ports().word(),
            flapping: ShownFlapping {
                plugs: policy.flapping().plugs,
                within: duration(policy.flapping().within),
                pause: duration(policy.flapping().pause),
            },
            quarantine: policy.quarantine(),
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
    #[serde(rename = "match")]
    matcher: ShownMatch<'p>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attach: Option<Vec<&'p str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep: Option<&'static str>,
}

fn shown_rule(rule: &Rule) -> ShownRule<'_> {
    let (attach, keep) = match rule.action() {
        Action::Attach(guests) => (Some(guests.iter().map(GuestName::as_str).collect()), None),
        Action::Keep => (None, Some("dom0")),
    };
    ShownRule { name: rule.name(), matcher: ShownMatch(rule.matcher()), attach, keep }
}

/// In seconds when they are whole, in milliseconds otherwise. Nothing finer can be written.
fn duration(duration: Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("{}s", duration.as_secs()),
        _ => format!("{}ms", duration.as_millis()),
    }
}
