//! `pvusb-agent generate`: a first policy from what is plugged.
//!
//! Looks and writes. What the policy says, `generate` decides.

use super::convert::no_domain;
use super::look::{look_if_possible, unseen};
use super::{EX_IOERR, EX_OK, EX_REFUSED, EX_USAGE, fail};
use crate::generate;
use crate::host::userdata::UserData;
use crate::host::xenstore::Endpoint;
use crate::model::chain;
use crate::policy::{Source, compile};
use clap::Args;
use std::io::Write;
use std::path::PathBuf;

pub(super) const HELP: &str = "Examples:
  pvusb-agent generate >policy.yaml && pvusb-agent diff policy.yaml
  pvusb-agent generate --domain kiosk >policy.yaml";

/// Arguments of `generate`.
#[derive(Args, Clone, Debug)]
pub(super) struct GenerateArgs {
    /// The domain that gets what dom0 does not need; without it, no rule is switched on
    #[arg(long, value_name = "NAME")]
    domain: Option<String>,
    /// Where libxl keeps its files about domains
    #[arg(long, value_name = "DIR", default_value = UserData::DIR)]
    libxl_dir: PathBuf,
}

/// Writes the policy to `out`; what could not be looked at is told on `err`. Gives the exit code.
pub(super) fn run(
    args: &GenerateArgs,
    endpoint: Endpoint,
    out: &mut dyn Write,
    err: &mut dyn Write,
    colour: bool,
) -> u8 {
    if let Some(mistake) = args.domain.as_deref().and_then(no_domain) {
        return fail(err, &mistake, EX_USAGE);
    }
    let (observed, unreadable, without_xen) = match look_if_possible(endpoint, &args.libxl_dir, &[])
    {
        Ok(seen) => seen,
        Err(error) => return unseen(&error, err),
    };
    let text = generate::policy(&observed, args.domain.as_deref());
    // No host has more devices than a policy may have; a fault of ours would end here.
    if let Err(problems) = compile(Source { name: "<generated>", bytes: text.as_bytes() }) {
        return match write!(err, "{}", problems.render(colour)) {
            Ok(()) => EX_REFUSED,
            Err(_) => EX_IOERR,
        };
    }
    let left_out = unreadable.iter().try_for_each(|(busid, error)| {
        writeln!(err, "pvusb-agent: {busid} is left out: {}", chain(error))
    });
    let told = without_xen.map_or(Ok(()), |why| {
        writeln!(err, "pvusb-agent: no domain counts as running: {}", chain(&why))
    });
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written.and(left_out).and(told) {
        Ok(()) => EX_OK,
        Err(_) => EX_IOERR,
    }
}
