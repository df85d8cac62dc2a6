//! `pvusb-agent list`: what is attached where, by the agent and by others.

use super::{EX_IOERR, EX_OK, EX_OSERR, EX_UNAVAILABLE, fail, table};
use crate::host::look::XenReader;
use crate::host::usb::UsbReader;
use crate::host::userdata::UserData;
use crate::host::xenstore::{self, Endpoint, Xenstore};
use crate::model::{BusId, Device, Devices, Place, Text, XenView};
use clap::Args;
use serde::Serialize;
use std::io::{self, Write};
use std::path::Path;

/// Arguments of `list`.
#[derive(Args, Clone, Debug)]
pub(super) struct ListArgs {
    /// Answer in JSON
    #[arg(long)]
    json: bool,
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
    /// Whether nothing is plugged there any more.
    stale: bool,
}

pub(super) fn run(
    args: &ListArgs,
    endpoint: Endpoint,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(err, &error, EX_OSERR),
    };
    let view = match runtime.block_on(look(endpoint)) {
        Ok(view) => view,
        Err(error) => return fail(err, &error, EX_UNAVAILABLE),
    };
    // A host without USB, or one whose sysfs cannot be read, still has ports to list.
    let devices = match UsbReader::new().devices() {
        Ok(scan) => scan.devices,
        Err(error) => return fail(err, &error, EX_UNAVAILABLE),
    };
    let rows: Vec<Row> =
        view.taken_ports().map(|(place, busid)| row(&view, &devices, place, busid)).collect();
    let written = if args.json {
        write_json(&rows, out)
    } else {
        write_text(&rows, out).and_then(|()| write_broken(&view, err))
    };
    match written.and_then(|()| out.flush()) {
        Ok(()) => EX_OK,
        Err(_) => EX_IOERR,
    }
}

async fn look(endpoint: Endpoint) -> Result<XenView, xenstore::Error> {
    let xs = Xenstore::connect(endpoint).await?;
    XenReader::new(xs, UserData::new(Path::new(UserData::DIR))).view().await
}

fn row(view: &XenView, devices: &Devices, place: Place, busid: &BusId) -> Row {
    let guest = view.guests.get(&place.domid);
    let kind = guest.and_then(|guest| Some(guest.controllers.get(&place.controller)?.kind));
    let device = devices.get(busid);
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
        by: if view.is_ours(busid, place) { "agent" } else { "others" },
        stale: device.is_none(),
    }
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
    let headings =
        ["DOMID", "DOMAIN", "CONTROLLER", "TYPE", "PORT", "BUSID", "BUS.DEV", "ID", "BY", "NAME"];
    let cells = |row: &Row| {
        let unplugged = || "-".to_owned();
        [
            row.domid.to_string(),
            row.domain.clone(),
            row.controller.to_string(),
            row.r#type.clone(),
            row.port.to_string(),
            row.busid.clone(),
            row.bus_address.clone().unwrap_or_else(unplugged),
            row.id.clone().unwrap_or_else(unplugged),
            row.by.to_owned(),
            row.name.clone().unwrap_or_else(|| "(nothing is plugged there: stale)".to_owned()),
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
