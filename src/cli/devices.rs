//! `pvusb-agent devices`: what is plugged, and which rule would take it.

use super::look::unseen;
use super::socket::{NOBODY, tell_of_absence, usual_socket};
use super::{EX_IOERR, EX_OK, Loaded, load_policy, table};
use crate::host::usb::UsbReader;
use crate::model::{Device, Observed, Text, Use, chain};
use crate::plan::interlock::{Scene, guard};
use crate::policy::{Action, Candidate, Category, Policy, Rule};
use clap::Args;
use serde::Serialize;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;

/// Arguments of `devices`.
#[derive(Args, Clone, Debug)]
pub(super) struct DevicesArgs {
    /// The policy to judge by; without it, the installed one if there is one
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

/// One device, as it is told. The names of the fields are an interface.
#[derive(Serialize)]
struct Row {
    bus_address: String,
    busid: String,
    id: String,
    class: String,
    interfaces: Vec<String>,
    drivers: Vec<String>,
    category: Vec<&'static str>,
    speed: &'static str,
    usb_version: Option<String>,
    removable: &'static str,
    /// What it is called: by itself, or by the database of USB ids where it says nothing.
    name: String,
    manufacturer: Option<String>,
    product: Option<String>,
    serial: Option<String>,
    anchor: Option<String>,
    hub: bool,
    ready: bool,
    uses: Vec<ShownUse>,
    rule: Option<String>,
    verdict: String,
}

/// One thing that dom0 does with a device. The names are an interface, too.
#[derive(Serialize)]
#[serde(tag = "use", rename_all = "lowercase")]
enum ShownUse {
    Mounted { device: String, at: String },
    Swap { device: String },
    Held { device: String, holder: String },
    Route { interface: String },
    Keyboard,
    Pointer,
}

pub(super) fn run(
    args: &DevicesArgs,
    out: &mut dyn Write,
    err: &mut dyn Write,
    colour: bool,
) -> u8 {
    let policy = match load_policy(args.policy.as_deref(), err, colour) {
        Loaded::Policy(policy) => Some(policy),
        Loaded::None => None,
        Loaded::Failed(code) => return code,
    };
    let needs = policy.as_ref().map(Policy::needs).unwrap_or_default();
    let usb = UsbReader::asking(needs.attributes);
    let (scan, desk) = match usb.devices().and_then(|scan| Ok((scan, usb.desk()?))) {
        Ok(found) => found,
        Err(error) => return unseen(&error.into(), err),
    };
    for (busid, error) in &scan.unreadable {
        if writeln!(err, "pvusb-agent: {busid} is left out: {}", chain(error)).is_err() {
            return EX_IOERR;
        }
    }
    let observed = Observed { devices: scan.devices, desk, ..Observed::default() };
    let rows: Vec<Row> =
        observed.devices.values().map(|device| row(device, policy.as_ref(), &observed)).collect();
    let written = if args.json {
        write_json(&rows, out)
    } else {
        // Of another policy, or of none, nobody expects that an agent carries it out.
        let is_in_force = policy.is_some() && args.policy.is_none();
        write_text(&rows, out).and_then(|()| {
            if is_in_force { tell_of_absence(&usual_socket(), NOBODY, err) } else { Ok(()) }
        })
    };
    match written.and_then(|()| out.flush()) {
        Ok(()) => EX_OK,
        Err(_) => EX_IOERR,
    }
}

fn row(device: &Device, policy: Option<&Policy>, observed: &Observed) -> Row {
    let text = |text: &Option<Text>| text.as_ref().map(ToString::to_string);
    let candidate = Candidate::of(device, observed);
    let rule = policy.filter(|_| !device.is_hub()).and_then(|policy| policy.judge(&candidate));
    Row {
        bus_address: device.address.to_string(),
        busid: device.busid.to_string(),
        id: device.id.to_string(),
        class: device.class.to_string(),
        interfaces: device.interfaces.values().map(|i| i.class.to_string()).collect(),
        drivers: candidate.drivers().into_iter().map(|it| Text::from(it).to_string()).collect(),
        category: Category::of(device).map(Category::word).collect(),
        speed: device.speed.word(),
        usb_version: device.release.map(|release| release.to_string()),
        removable: device.removable.word(),
        name: device.called(),
        manufacturer: text(&device.manufacturer),
        product: text(&device.product),
        serial: text(&device.serial),
        anchor: device.anchor.as_ref().map(ToString::to_string),
        hub: device.is_hub(),
        ready: device.is_ready(),
        uses: device.uses.iter().map(shown_use).collect(),
        rule: rule.map(Rule::label),
        verdict: verdict(device, policy, rule, observed),
    }
}

fn shown_use(what: &Use) -> ShownUse {
    let text = Text::to_string;
    match what {
        Use::Mounted { device, at } => ShownUse::Mounted { device: text(device), at: text(at) },
        Use::Swap { device } => ShownUse::Swap { device: text(device) },
        Use::Held { device, holder } => {
            ShownUse::Held { device: text(device), holder: text(holder) }
        }
        Use::Route { interface } => ShownUse::Route { interface: text(interface) },
        Use::Keyboard => ShownUse::Keyboard,
        Use::Pointer => ShownUse::Pointer,
    }
}

fn verdict(
    device: &Device,
    policy: Option<&Policy>,
    rule: Option<&Rule>,
    observed: &Observed,
) -> String {
    match (policy, rule.map(Rule::action)) {
        _ if device.is_hub() => "stays in dom0: hub".to_owned(),
        (None, _) => "no policy".to_owned(),
        (Some(_), None) => "stays in dom0: no rule".to_owned(),
        (Some(_), Some(Action::Keep)) => "stays in dom0".to_owned(),
        (Some(policy), Some(Action::Block)) => {
            let scene = Scene { observed, policy, departing: &BTreeSet::new() };
            match guard(device, &scene) {
                Ok(()) => "blocked".to_owned(),
                Err(refusal) => format!("stays in dom0: {refusal}"),
            }
        }
        (Some(policy), Some(Action::Attach(targets))) => {
            let scene = Scene { observed, policy, departing: &BTreeSet::new() };
            if let Err(refusal) = guard(device, &scene) {
                return format!("stays in dom0: {refusal}");
            }
            let names: Vec<_> = targets.iter().map(ToString::to_string).collect();
            format!("attach to {}", names.join(" or "))
        }
    }
}

fn write_json(rows: &[Row], out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, rows)?;
    writeln!(out)
}

fn write_text(rows: &[Row], out: &mut dyn Write) -> io::Result<()> {
    let headings = ["BUS.DEV", "BUSID", "ID", "CLASS", "NAME", "RULE", "VERDICT"];
    let cells = |row: &Row| {
        [
            row.bus_address.clone(),
            row.busid.clone(),
            row.id.clone(),
            // A device whose class is zero is what its interfaces are.
            match row.interfaces.first() {
                Some(first) if row.class.starts_with("00") => first.clone(),
                _ => row.class.clone(),
            },
            row.name.clone(),
            row.rule.clone().unwrap_or_else(|| "-".to_owned()),
            row.verdict.clone(),
        ]
    };
    table::write(out, table::width(), headings, &rows.iter().map(cells).collect::<Vec<_>>())
}
