//! `pvusb-agent metrics`: what the running agent has counted, for Prometheus.

use super::socket::{PATIENCE, SocketArg, write_fault};
use super::{EX_IOERR, EX_OK, EX_REFUSED, EX_UNAVAILABLE, fail};
use crate::control::client::{self, ClientError};
use crate::control::protocol::{Ask, MetricsOutcome, Outcome};
use clap::Args;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) const HELP: &str = "Examples:
  pvusb-agent metrics                     in Prometheus' text format
  pvusb-agent metrics --textfile /var/lib/prometheus/node-exporter/pvusb-agent.prom
                                          for node_exporter, from a timer (docs/monitoring.md)";

/// Arguments of `metrics`.
#[derive(Args, Clone, Debug)]
pub(super) struct MetricsArgs {
    /// Write them to this file instead, all at once, for the textfile collector of Prometheus' node exporter
    #[arg(long, value_name = "FILE")]
    textfile: Option<PathBuf>,
    /// Answer in JSON
    #[arg(long, conflicts_with = "textfile")]
    json: bool,
    #[command(flatten)]
    socket: SocketArg,
}

pub(super) fn run(args: &MetricsArgs, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let patience = Duration::from_secs(PATIENCE);
    let outcome = match client::ask(&args.socket.path(), Ask::Metrics, Some(patience)) {
        Ok(Ok(Outcome::Metrics(outcome))) => outcome,
        Ok(Ok(_)) => return fail(err, &ClientError::HungUp, EX_REFUSED),
        Ok(Err(fault)) => {
            return if write_fault(&fault, err).is_ok() { EX_REFUSED } else { EX_IOERR };
        }
        Err(error @ ClientError::NoAgent(_)) => return fail(err, &error, EX_UNAVAILABLE),
        Err(error) => return fail(err, &error, EX_REFUSED),
    };
    let written = match &args.textfile {
        Some(path) => write_file(path, &outcome.metrics).map_err(|error| (path, error)),
        None => {
            // Whoever reads standard output has gone: there is nobody to tell.
            return if write_out(&outcome, args.json, out).is_ok() { EX_OK } else { EX_IOERR };
        }
    };
    match written {
        Ok(()) => EX_OK,
        Err((path, error)) => fail(err, &TextfileError(path.clone(), error), EX_IOERR),
    }
}

/// The file is not there.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {0}: is the directory there, and may you write to it?")]
struct TextfileError(PathBuf, #[source] io::Error);

fn write_out(outcome: &MetricsOutcome, json: bool, out: &mut dyn Write) -> io::Result<()> {
    if json {
        serde_json::to_writer_pretty(&mut *out, outcome)?;
        writeln!(out)?;
    } else {
        out.write_all(outcome.metrics.as_bytes())?;
    }
    out.flush()
}

/// `node_exporter` reads whatever `*.prom` is there: so the file comes to its name when it is whole.
fn write_file(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let mut file = File::create(&new)?;
    file.write_all(text.as_bytes())?;
    fs::set_permissions(&new, Permissions::from_mode(0o644))?;
    fs::rename(&new, path)
}
