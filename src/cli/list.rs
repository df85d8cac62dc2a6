//! `pvusb-agent list`: what is attached where, by the agent and by others, and why.
//!
//! Why, `reconcile` decides, as for `explain`.

use super::look::look_if_possible;
use super::{EX_IOERR, EX_OK, EX_UNAVAILABLE, Loaded, fail, load_policy, table};
use crate::host::userdata::UserData;
use crate::host::xenstore::Endpoint;
use crate::model::{BusId, Device, Observed, Place, Text, XenView};
use crate::plan::{Outlook, Standing};
use crate::policy::Policy;
use crate::reconcile::preview;
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

/// Arguments of `list`.
#[derive(Args, Clone, Debug)]
pub(super) struct ListArgs {
    /// The policy to tell reasons by; without it, the installed one if there is one
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
    /// Where libxl keeps its files about domains
    #[arg(long, value_name = "DIR", default_value = UserData::DIR)]
    libxl_dir: PathBuf,
}

/// One taken port, as it is told. The names of the fields are an interface.
#[derive(Serialize)]
struct Row {
    domid: u16,
    domain: String,
    controller: u32,
    r#type: String,
    port: u8,
    busid: String,
    bus_address: Option<String>,
    id: Option<String>,
    name: Option<String>,
    /// `agent` or `others`.
    by: &'static str,
    /// Why the agent keeps it there, in the words of `explain`; null for what others attached, and when
    /// there is no policy to tell it by.
    because: Option<String>,
    /// Whether nothing is plugged there any more.
    stale: bool,
}

pub(super) fn run(
    args: &ListArgs,
    endpoint: Endpoint,
    out: &mut dyn Write,
    err: &mut dyn Write,
    colour: bool,
) -> u8 {
    let policy = match load_policy(args.policy.as_deref(), err, colour) {
        Loaded::Policy(policy) => Some(policy),
        Loaded::Failed(code) if args.policy.is_some() => return code,
        // What is attached can be told all the same.
        Loaded::None | Loaded::Failed(_) => None,
    };
    let asked: Vec<&Policy> = policy.iter().collect();
    let observed = match look_if_possible(endpoint, &args.libxl_dir, &asked) {
        Ok((observed, _, None)) => observed,
        Ok((_, _, Some(error))) | Err(error) => return fail(err, &error, EX_UNAVAILABLE),
    };
    let xen = &observed.xen;
    let reasons = reasons(policy.as_ref(), &observed);
    let rows: Vec<Row> = xen
        .taken_ports()
        .map(|(place, busid)| row(&observed, place, busid, reasons.get(busid)))
        .collect();
    let written = if args.json {
        write_json(&rows, out)
    } else {
        write_text(&rows, out).and_then(|()| write_broken(xen, err))
    };
    match written.and_then(|()| out.flush()) {
        Ok(()) => EX_OK,
        Err(_) => EX_IOERR,
    }
}

#[expect(clippy::disallowed_methods, reason = "what comes next needs some present to begin with")]
fn reasons(policy: Option<&Policy>, observed: &Observed) -> BTreeMap<BusId, String> {
    let none = Policy::default();
    let outlooks = preview(policy.unwrap_or(&none), observed, Instant::now()).into_iter();
    let reasons = outlooks.filter_map(|(busid, Outlook { standing, .. })| {
        Some((busid, because(&standing, policy.is_some())?))
    });
    reasons.collect()
}

fn row(observed: &Observed, place: Place, busid: &BusId, because: Option<&String>) -> Row {
    let view = &observed.xen;
    let guest = view.guests.get(&place.domid);
    let kind = guest.and_then(|guest| Some(guest.controllers.get(&place.controller)?.kind));
    let device = observed.devices.get(busid);
    let is_ours = view.is_ours(busid, place);
    Row {
        domid: place.domid.get(),
        domain: guest.map(|guest| guest.name.to_string()).unwrap_or_default(),
        controller: place.controller.get(),
        r#type: kind.map(|kind| kind.to_string()).unwrap_or_default(),
        port: place.port.get(),
        busid: busid.to_string(),
        bus_address: device.map(|device| device.address.to_string()),
        id: device.map(|device| device.id.to_string()),
        name: device.map(name),
        by: if is_ours { "agent" } else { "others" },
        because: because.filter(|_| is_ours && device.is_some()).cloned(),
        stale: device.is_none(),
    }
}

/// Who wants it there, or, if there are rules to tell it by, why it is about to leave.
fn because(standing: &Standing, with_rules: bool) -> Option<String> {
    if let Standing::Attached { route, .. }
    | Standing::Attaching(route)
    | Standing::WaitingForController { route, .. } = standing
    {
        return Some(route.by.to_string());
    }
    let Standing::Detaching { because, .. } = standing else { return None };
    with_rules.then(|| format!("on its way back: {because}"))
}

fn name(device: &Device) -> String {
    let parts = [&device.manufacturer, &device.product];
    parts.into_iter().flatten().map(Text::as_str).collect::<Vec<_>>().join(" ")
}

fn write_json(rows: &[Row], out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, rows)?;
    writeln!(out)
}

fn write_text(rows: &[Row], out: &mut dyn Write) -> io::Result<()> {
    let headings = [
        "DOMID",
        "DOMAIN",
        "CONTROLLER",
        "TYPE",
        "PORT",
        "BUSID",
        "BUS.DEV",
        "ID",
        "BY",
        "NAME",
        "BECAUSE",
    ];
    let cells = |row: &Row| {
        let none = || "-".to_owned();
        [
            row.domid.to_string(),
            row.domain.clone(),
            row.controller.to_string(),
            row.r#type.clone(),
            row.port.to_string(),
            row.busid.clone(),
            row.bus_address.clone().unwrap_or_else(none),
            row.id.clone().unwrap_or_else(none),
            row.by.to_owned(),
            row.name.clone().unwrap_or_else(|| "(nothing is plugged there: stale)".to_owned()),
            row.because.clone().unwrap_or_else(none),
        ]
    };
    table::write(out, headings, &rows.iter().map(cells).collect::<Vec<_>>())
}

/// Controllers whose nodes cannot be used are worth a word: xl may crash on them.
fn write_broken(view: &XenView, err: &mut dyn Write) -> io::Result<()> {
    for guest in view.guests.values() {
        for (id, fault) in &guest.broken {
            writeln!(err, "domain {} ({}), controller {id}: {fault}", guest.domid, guest.name)?;
        }
    }
    Ok(())
}
