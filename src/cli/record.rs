//! `pvusb-agent record`: plugged devices as a text that `explain --host` and `test` read.
//!
//! Reads and shows. What the text holds, `paper` knows.

use super::sheet;
use super::{EX_IOERR, EX_OK, EX_REFUSED, EX_UNAVAILABLE, Loaded, fail, load_policy};
use crate::host::userdata::UserData;
use crate::host::xenstore::Endpoint;
use crate::model::{BusId, DeviceName, Observed, chain};
use crate::paper::{self, Recording};
use crate::policy::Policy;
use clap::Args;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;

pub(super) const HELP: &str = "Examples:
  pvusb-agent record >host.yaml                      everything that is plugged
  pvusb-agent record 1-1.4 --anonymous               one device, to show it to somebody
  pvusb-agent explain 1-1.4 --host host.yaml         ask about it, on any machine";

/// Arguments of `record`.
#[derive(Args, Clone, Debug)]
pub(super) struct RecordArgs {
    /// Busids (1-1.4), bus addresses (1.6) or ids (05e0:1200); without any, all that is plugged
    #[arg(value_name = "DEVICE")]
    devices: Vec<DeviceName>,
    /// The host that is written in this file, instead of the one that this is; also a recording by
    /// umockdev-record
    #[arg(long, value_name = "FILE")]
    host: Option<PathBuf>,
    /// The policy that says which of udev's properties count; without it, the installed one
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Write everything that udev says, whether a policy asks for it or not
    #[arg(long)]
    udev: bool,
    /// Write the domains and their controllers, too
    #[arg(long)]
    domains: bool,
    /// Replace serial numbers, and name no disk and no directory of this host
    #[arg(long)]
    anonymous: bool,
    /// Where libxl keeps its files about domains
    #[arg(long, value_name = "DIR", default_value = UserData::DIR)]
    libxl_dir: PathBuf,
}

pub(super) fn run(
    args: &RecordArgs,
    endpoint: Endpoint,
    out: &mut dyn Write,
    err: &mut dyn Write,
    colour: bool,
) -> u8 {
    let policy = match load_policy(args.policy.as_deref(), err, colour) {
        Loaded::Policy(policy) => policy,
        Loaded::None => Policy::default(),
        Loaded::Failed(code) => return code,
    };
    let host = args.host.as_deref();
    let seen = sheet::see(host, endpoint, &args.libxl_dir, &[&policy], (err, colour));
    let (observed, unreadable, without_xen) = match seen {
        Ok(seen) => seen,
        Err(code) => return code,
    };
    if let Some(error) = without_xen.filter(|_| args.domains) {
        return fail(err, &error, EX_UNAVAILABLE);
    }
    let devices = match chosen(&args.devices, &observed) {
        Ok(devices) => devices,
        Err(name) => {
            let told = writeln!(
                err,
                "pvusb-agent: no device {name} is plugged; `pvusb-agent devices` lists all"
            );
            return if told.is_ok() { EX_REFUSED } else { EX_IOERR };
        }
    };
    let names = policy.udev_names();
    let written = paper::write(&Recording {
        observed: &observed,
        devices: &devices,
        udev: (!args.udev).then_some(&names),
        domains: args.domains,
        anonymous: args.anonymous,
    });
    let written =
        written.map_err(io::Error::other).and_then(|text| writeln!(out, "{}", text.trim_end()));
    let left_out = unreadable.iter().try_for_each(|(busid, error)| {
        writeln!(err, "pvusb-agent: {busid} is left out: {}", chain(error))
    });
    match written.and(left_out).and_then(|()| out.flush()) {
        Ok(()) => EX_OK,
        Err(_) => EX_IOERR,
    }
}

/// The devices that are meant.
///
/// # Errors
///
/// The first name that means none.
fn chosen<'a>(
    names: &'a [DeviceName],
    observed: &Observed,
) -> Result<BTreeSet<BusId>, &'a DeviceName> {
    if names.is_empty() {
        return Ok(observed.devices.keys().cloned().collect());
    }
    let mut chosen = BTreeSet::new();
    for name in names {
        let meant = observed.devices.values().filter(|device| name.is_of(device));
        let meant: Vec<_> = meant.map(|device| device.busid.clone()).collect();
        if meant.is_empty() {
            return Err(name);
        }
        chosen.extend(meant);
    }
    Ok(chosen)
}
