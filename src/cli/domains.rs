//! `pvusb-agent domains`: which domains there are, and what each has to hold USB devices.
//!
//! Reads this host itself and asks no agent. `controller list` tells the same controllers, one by one.

use super::look::{look_if_possible, unseen};
use super::socket::{tell_of_absence, usual_socket};
use super::{EX_IOERR, EX_OK, table};
use crate::host::userdata::UserData;
use crate::host::xenstore::Endpoint;
use crate::model::{Controller, ControllerId, DeviceModel, Guest, PortContent};
use clap::Args;
use serde::Serialize;
use std::io::{self, Write};
use std::path::PathBuf;

pub(super) const HELP: &str = "Examples:
  pvusb-agent domains                     can the kiosk take a device, and where?
  pvusb-agent domains --json | jq -r '.[] | select(.device_model == \"dead\") | .name'";

/// Arguments of `domains`.
#[derive(Args, Clone, Debug)]
pub(super) struct DomainsArgs {
    /// Answer in JSON
    #[arg(long)]
    json: bool,
    /// Where libxl keeps its files about domains
    #[arg(long, value_name = "DIR", default_value = UserData::DIR)]
    libxl_dir: PathBuf,
}

/// A domain as it is told. The names of the fields are an interface.
#[derive(Serialize)]
pub(super) struct Shown {
    domid: u16,
    name: String,
    uuid: String,
    /// `pv`, `pvh` or `hvm`.
    r#type: &'static str,
    /// `building`, `running`, or `dead`: its nodes are left over.
    state: &'static str,
    /// Its QEMU in dom0: `qusb` (runs and serves such controllers), `without-qusb`, `starting`, `dead` or `none`.
    device_model: &'static str,
    /// The same as people are told.
    #[serde(skip)]
    serves: &'static str,
    pub(super) controllers: Vec<ShownController>,
    /// Controllers whose nodes cannot be used.
    broken: Vec<Broken>,
}

/// A controller as it is told.
#[derive(Serialize)]
pub(super) struct ShownController {
    index: u32,
    r#type: String,
    /// Of USB; null when its node does not say 1 or 2.
    version: Option<String>,
    /// The state of its backend: `connected`, or another one of xenbus's.
    pub(super) backend: &'static str,
    /// The same of its frontend, which is the guest's word.
    pub(super) frontend: &'static str,
    /// `agent` or `others`: who made it.
    pub(super) by: &'static str,
    ports: Vec<ShownPort>,
}

#[derive(Serialize)]
struct ShownPort {
    port: u8,
    /// `free`, `taken`, or `strange`: something stands there that is no busid.
    state: &'static str,
    /// What it names.
    busid: Option<String>,
}

#[derive(Serialize)]
struct Broken {
    index: u32,
    problem: String,
}

pub(super) fn run(
    args: &DomainsArgs,
    endpoint: Endpoint,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let xen = match look_if_possible(endpoint, &args.libxl_dir, &[]) {
        Ok((observed, _, None)) => observed.xen,
        Ok((_, _, Some(error))) | Err(error) => return unseen(&error, err),
    };
    let domains: Vec<Shown> = xen.guests.values().map(shown).collect();
    let written =
        if args.json { write_json(&domains, out) } else { write_text(&domains, out, err) };
    match written.and_then(|()| out.flush()) {
        Ok(()) => EX_OK,
        Err(_) => EX_IOERR,
    }
}

/// A domain, as both verbs tell it.
pub(super) fn shown(guest: &Guest) -> Shown {
    let broken = guest.broken.iter();
    Shown {
        domid: guest.domid.get(),
        name: guest.name.to_string(),
        uuid: guest.uuid.to_string(),
        r#type: guest.kind.word(),
        state: guest.life.word(),
        device_model: guest.device_model.word(),
        serves: match guest.device_model {
            DeviceModel::Running { qusb: true } => "serves qusb",
            DeviceModel::Running { qusb: false } => "serves no qusb",
            other @ (DeviceModel::Absent | DeviceModel::Starting | DeviceModel::Dead) => {
                other.word()
            }
        },
        controllers: guest.controllers.iter().map(|(id, it)| shown_controller(*id, it)).collect(),
        broken: broken
            .map(|(id, fault)| Broken { index: id.get(), problem: fault.to_string() })
            .collect(),
    }
}

fn shown_controller(id: ControllerId, controller: &Controller) -> ShownController {
    let ports = controller.ports.iter().map(|(port, content)| {
        let (state, busid) = match content {
            PortContent::Free => ("free", None),
            PortContent::Taken(busid) => ("taken", Some(busid.to_string())),
            PortContent::Strange(text) => ("strange", Some(text.to_string())),
        };
        ShownPort { port: port.get(), state, busid }
    });
    ShownController {
        index: id.get(),
        r#type: controller.kind.to_string(),
        version: controller.version.map(|version| version.to_string()),
        backend: controller.backend.word(),
        frontend: controller.frontend.word(),
        by: if controller.ours { "agent" } else { "others" },
        ports: ports.collect(),
    }
}

impl Shown {
    /// Its name and number.
    pub(super) fn called(&self) -> String {
        format!("{} ({})", self.name, self.domid)
    }
}

impl ShownController {
    /// Its number, type and version.
    pub(super) fn called(&self) -> String {
        let version = self.version.as_deref().map_or_else(String::new, |it| format!(" USB {it}"));
        format!("{} {}{version}", self.index, self.r#type)
    }

    /// How many of its ports are free.
    pub(super) fn free(&self) -> String {
        let free = self.ports.iter().filter(|port| port.state == "free").count();
        format!("{free} of {}", self.ports.len())
    }

    /// The ports that are in use, each with what is in it.
    pub(super) fn in_use(&self) -> String {
        let used = self.ports.iter().filter(|port| port.state != "free");
        let told = used.map(|ShownPort { port, state, busid }| {
            format!("{port}: {}", busid.as_deref().unwrap_or(state))
        });
        told.collect::<Vec<_>>().join(", ")
    }
}

/// Tells domains as JSON.
pub(super) fn write_json(domains: &[Shown], out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, domains)?;
    writeln!(out)
}

/// A line for each controller, and one for a domain without any.
fn write_text(domains: &[Shown], out: &mut dyn Write, err: &mut dyn Write) -> io::Result<()> {
    let headings =
        ["DOMAIN", "TYPE", "STATE", "DEVICE MODEL", "CONTROLLER", "BACKEND", "FREE", "BY"];
    let mut rows = Vec::new();
    for domain in domains {
        let row = |controller: [String; 4]| {
            let [controller, backend, free, by] = controller;
            let [kind, state] = [domain.r#type, domain.state].map(str::to_owned);
            [domain.called(), kind, state, domain.serves.to_owned(), controller, backend, free, by]
        };
        if domain.controllers.is_empty() {
            rows.push(row(["-"; 4].map(str::to_owned)));
        }
        rows.extend(domain.controllers.iter().map(|controller| {
            let [backend, by] = [controller.backend, controller.by].map(str::to_owned);
            row([controller.called(), backend, controller.free(), by])
        }));
    }
    table::write(out, table::width(), headings, &rows)?;
    write_broken(domains, err)?;
    tell_of_absence(&usual_socket(), "", err)
}

/// Tells what is wrong with controllers that cannot be used.
pub(super) fn write_broken(domains: &[Shown], err: &mut dyn Write) -> io::Result<()> {
    for domain in domains {
        for Broken { index, problem } in &domain.broken {
            writeln!(
                err,
                "domain {} ({}), controller {index}: {problem}",
                domain.domid, domain.name
            )?;
        }
    }
    Ok(())
}
