//! `pvusb-agent status` and `reload`: how a running agent is, and a new look at its policy.

use super::socket::{PATIENCE, SocketArg, ask};
use crate::control::protocol::{Ask, FileOutcome, Outcome, StatusOutcome};
use clap::Args;
use std::io::Write;
use std::time::Duration;

/// Arguments of `status`.
#[derive(Args, Clone, Debug)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    asking: Asking,
}

/// Arguments of `reload`.
#[derive(Args, Clone, Debug)]
pub(super) struct ReloadArgs {
    #[command(flatten)]
    asking: Asking,
}

#[derive(Args, Clone, Debug)]
struct Asking {
    /// Answer in JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArg,
}

impl StatusArgs {
    pub(super) fn run(&self, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
        self.asking.run(Ask::Status, (out, err))
    }
}

impl ReloadArgs {
    pub(super) fn run(&self, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
        self.asking.run(Ask::Reload, (out, err))
    }
}

impl Asking {
    fn run(&self, question: Ask, ends: (&mut dyn Write, &mut dyn Write)) -> u8 {
        ask(&self.socket, question, Duration::from_secs(PATIENCE), self.json, text, ends)
    }
}

/// An answer for people.
pub(super) fn text(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Order(order) => order.message.clone(),
        Outcome::Reload(reload) => format!("policy reloaded, {} rules", reload.reloaded_rules),
        Outcome::Status(status) => status_text(status),
        Outcome::TakenDown(_) => "taken down".to_owned(),
        Outcome::Metrics(metrics) => metrics.metrics.trim_end().to_owned(),
        Outcome::Watch(watch) => {
            let each = watch.devices.iter().map(|row| format!("{} {}", row.busid, row.message));
            each.collect::<Vec<_>>().join("\n")
        }
        Outcome::Reasons(reasons) => {
            let each = reasons.because.iter().map(|(busid, because)| format!("{busid}: {because}"));
            each.collect::<Vec<_>>().join("\n")
        }
    }
}

fn status_text(status: &StatusOutcome) -> String {
    let policy = if status.policy_is_current {
        "in force"
    } else {
        "NOT in force: it is bad, and an older one holds"
    };
    let xenstore = if status.xenstore { "connected" } else { "NOT connected" };
    let drop_ins: String = status.files.iter().skip(1).map(file_text).collect();
    [
        format!("version   {}", status.version),
        format!("policy    {}: {policy}{drop_ins}", status.policy),
        format!("rules     {}, {} of them remembered", status.rules, status.remembered_rules),
        format!("xenstore  {xenstore}"),
        format!("devices   {} plugged, {} attached", status.devices, status.attached),
        format!("orders    {}", status.orders),
        format!("kept ways {}", status.kept_ways),
    ]
    .join("\n")
}

fn file_text(file: &FileOutcome) -> String {
    let link = file.link.as_ref().map(|link| format!(" -> {link}")).unwrap_or_default();
    let masked = if file.masked { " (masked)" } else { "" };
    format!("\n          {}{link}{masked}", file.file)
}
