//! `pvusb-agent list`: what is attached where, by the agent and by others, and why.
//!
//! Why, the running agent says, by the policy that it has in force. Without one, `reconcile` decides by the
//! policy on the disk, as for `explain`.

use super::look::{look_if_possible, unseen};
use super::socket::{SocketArg, tell_of_absence};
use super::{DEFAULT_POLICY, EX_IOERR, EX_OK, Loaded, load_policy, table};
use crate::control::client;
use crate::control::protocol::{Ask, Outcome, ReasonsOutcome};
use crate::host::userdata::UserData;
use crate::host::xenstore::Endpoint;
use crate::model::{BusId, Device, Observed, Place, XenView};
use crate::plan::{Outlook, Standing};
use crate::policy::Policy;
use crate::reconcile::preview;
use clap::Args;
use serde::Serialize;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Arguments of `list`.
#[derive(Args, Clone, Debug)]
pub(super) struct ListArgs {
    /// The policy to tell reasons by; without it, that of the running agent, or else the installed one if
    /// there is one
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
    /// Where libxl keeps its files about domains
    #[arg(long, value_name = "DIR", default_value = UserData::DIR)]
    libxl_dir: PathBuf,
    #[command(flatten)]
    socket: SocketArg,
}

/// How long an agent may take to tell its reasons. It has them at hand; one that is stuck holds up
/// nothing.
const PATIENCE: Duration = Duration::from_secs(3);

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
    let of_agent = if args.policy.is_none() { reasons_of_agent(&args.socket) } else { None };
    let loaded = match &of_agent {
        Some(_) => Loaded::None,
        None => load_policy(args.policy.as_deref(), err, colour),
    };
    let policy = match loaded {
        Loaded::Policy(policy) => Some(policy),
        Loaded::Failed(code) if args.policy.is_some() => return code,
        // What is attached can be told all the same.
        Loaded::None | Loaded::Failed(_) => None,
    };
    let asked: Vec<&Policy> = policy.iter().collect();
    let observed = match look_if_possible(endpoint, &args.libxl_dir, &asked) {
        Ok((observed, _, None)) => observed,
        Ok((_, _, Some(error))) | Err(error) => return unseen(&error, err),
    };
    let xen = &observed.xen;
    let has_answered = of_agent.is_some();
    let reasons = of_agent.unwrap_or_else(|| reasons(policy.as_ref(), &observed));
    let rows: Vec<Row> = xen
        .taken_ports()
        .map(|(place, busid)| row(&observed, place, busid, reasons.because.get(&busid.to_string())))
        .collect();
    let written = if args.json {
        write_json(&rows, out)
    } else {
        let by = match (&args.policy, &policy) {
            (Some(named), _) => format!(", reasons by {}", named.display()),
            (None, Some(_)) => format!(", reasons by {DEFAULT_POLICY}"),
            (None, None) => String::new(),
        };
        write_text(&rows, out).and_then(|()| write_broken(xen, err)).and_then(|()| {
            if has_answered { Ok(()) } else { tell_of_absence(&args.socket.path(), &by, err) }
        })
    };
    match written.and_then(|()| out.flush()) {
        Ok(()) => EX_OK,
        Err(_) => EX_IOERR,
    }
}

/// Why the agent keeps devices where they are, by the policy that it has. `None` if none answers.
fn reasons_of_agent(socket: &SocketArg) -> Option<ReasonsOutcome> {
    match client::ask(&socket.path(), Ask::Reasons, Some(PATIENCE)) {
        Ok(Ok(Outcome::Reasons(reasons))) => Some(reasons),
        Ok(_) | Err(_) => None,
    }
}

/// The same by a policy, or, without one, as far as it can be told without.
#[expect(clippy::disallowed_methods, reason = "what comes next needs some present to begin with")]
fn reasons(policy: Option<&Policy>, observed: &Observed) -> ReasonsOutcome {
    let none = Policy::default();
    let mut outlooks = preview(policy.unwrap_or(&none), observed, Instant::now());
    // Without rules everything would be about to leave.
    let is_leaving = |outlook: &Outlook| matches!(outlook.standing, Standing::Detaching { .. });
    outlooks.retain(|_, outlook| policy.is_some() || !is_leaving(outlook));
    ReasonsOutcome::of(&outlooks)
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
        name: device.map(Device::called),
        by: if is_ours { "agent" } else { "others" },
        because: because.filter(|_| is_ours && device.is_some()).cloned(),
        stale: device.is_none(),
    }
}

fn write_json(rows: &[Row], out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, rows)?;
    writeln!(out)
}

fn write_text(rows: &[Row], out: &mut dyn Write) -> io::Result<()> {
    let headings = ["DOMAIN", "PORT", "BUSID", "DEVICE", "BY", "BECAUSE"];
    let cells = |row: &Row| {
        let device = match (&row.id, &row.name) {
            (Some(id), Some(name)) => format!("{id} {name}").trim_end().to_owned(),
            _ => "(nothing is plugged there: stale)".to_owned(),
        };
        [
            format!("{} ({})", row.domain, row.domid),
            format!("{}/{} {}", row.controller, row.port, row.r#type),
            row.busid.clone(),
            device,
            row.by.to_owned(),
            row.because.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    };
    table::write(out, table::width(), headings, &rows.iter().map(cells).collect::<Vec<_>>())
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
