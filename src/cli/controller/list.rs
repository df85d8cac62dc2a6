//! `pvusb-agent controller list`: the controllers, one in each line.

use super::super::domains::{Shown, shown, write_broken, write_json};
use super::super::look::{look_if_possible, unseen};
use super::super::{EX_IOERR, EX_OK, table};
use super::ListArgs;
use super::refusal::Refusal;
use crate::host::xenstore::Endpoint;
use crate::plan::{Denial, guest_called};
use std::io::{self, Write};

pub(super) fn run(
    args: &ListArgs,
    endpoint: Endpoint,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let xen = match look_if_possible(endpoint, &args.common.libxl_dir, &[]) {
        Ok((observed, _, None)) => observed.xen,
        Ok((_, _, Some(error))) | Err(error) => return unseen(&error, err),
    };
    let domains: Vec<Shown> = match &args.domain {
        None => xen.guests.values().map(shown).collect(),
        Some(domain) => match guest_called(domain, &xen) {
            Ok(guest) => vec![shown(guest)],
            Err(fault) => {
                let refusal = Refusal::from(Denial::from(fault));
                return refusal.write(args.common.json, out, err).unwrap_or(EX_IOERR);
            }
        },
    };
    let written =
        if args.common.json { write_json(&domains, out) } else { write_text(&domains, out, err) };
    match written.and_then(|()| out.flush()) {
        Ok(()) => EX_OK,
        Err(_) => EX_IOERR,
    }
}

fn write_text(domains: &[Shown], out: &mut dyn Write, err: &mut dyn Write) -> io::Result<()> {
    let headings = ["DOMAIN", "CONTROLLER", "BACKEND", "GUEST", "FREE", "BY", "IN USE"];
    let rows = domains.iter().flat_map(|domain| {
        domain.controllers.iter().map(|controller| {
            let [backend, guest, by] =
                [controller.backend, controller.frontend, controller.by].map(str::to_owned);
            let [called, free] = [controller.called(), controller.free()];
            [domain.called(), called, backend, guest, free, by, controller.in_use()]
        })
    });
    table::write(out, table::width(), headings, &rows.collect::<Vec<_>>())?;
    write_broken(domains, err)
}
