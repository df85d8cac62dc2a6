//! `pvusb-agent record`: plugged devices as a text that `explain --host` and `test` read.
//!
//! Reads and shows. What the text holds, `paper` knows.

use super::look::unseen;
use super::sheet::{self, Seen};
use super::{EX_IOERR, EX_OK, EX_REFUSED, EX_USAGE, Loaded, fail, load_policy};
use crate::host::userdata::UserData;
use crate::host::xenstore::Endpoint;
use crate::model::{BusId, Text, chain};
use crate::paper::{self, Recording};
use crate::policy::Policy;
use clap::Args;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

pub(super) const HELP: &str = "Examples:
  pvusb-agent record >host.yaml                      everything that is plugged
  pvusb-agent record 1-1.4 --anonymous               one device, to show it to somebody
  pvusb-agent explain 1-1.4 --host host.yaml         ask about it, on any machine";

/// Arguments of `record`.
#[derive(Args, Clone, Debug)]
pub(super) struct RecordArgs {
    /// Busids (1-1.4), bus addresses (1.6) or ids (05e0:1200), with --host also names that are written
    /// there; without any, all that is plugged
    #[arg(value_name = "DEVICE")]
    devices: Vec<String>,
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
    let seen = match seen {
        Ok(seen) => seen,
        Err(code) => return code,
    };
    if let Some(error) = seen.without_xen.as_ref().filter(|_| args.domains) {
        return unseen(error, err);
    }
    let devices = match chosen(args, &seen, err) {
        Ok(devices) => devices,
        Err(code) => return code,
    };
    let Seen { observed, unreadable, .. } = seen;
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

/// The devices that are meant; or, when it was told that one of the names means none, the exit code.
fn chosen(args: &RecordArgs, seen: &Seen, err: &mut dyn Write) -> Result<BTreeSet<BusId>, u8> {
    if args.devices.is_empty() {
        return Ok(seen.observed.devices.keys().cloned().collect());
    }
    let mut chosen = BTreeSet::new();
    for name in &args.devices {
        let meant = seen.called(name).map_err(|error| fail(err, &error, EX_USAGE))?;
        if meant.is_empty() {
            let name = Text::from(name.as_str());
            let told = match args.host.as_deref().map(Path::to_string_lossy) {
                Some(file) => {
                    let file = Text::from(&*file);
                    writeln!(err, "pvusb-agent: there is no device {name} in {file}")
                }
                None => writeln!(
                    err,
                    "pvusb-agent: no device {name} is plugged; `pvusb-agent devices` lists all"
                ),
            };
            return Err(if told.is_ok() { EX_REFUSED } else { EX_IOERR });
        }
        chosen.extend(meant);
    }
    Ok(chosen)
}
