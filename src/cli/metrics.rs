//! `pvusb-agent metrics`: what the running agent has counted, for Prometheus.

use super::socket::{PATIENCE, SocketArg, ask};
use super::status::text;
use super::{EX_IOERR, EX_OK, fail};
use crate::control::protocol::Ask;
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
    let mut page = Vec::new();
    let code = ask(&args.socket, Ask::Metrics, patience, args.json, text, (&mut page, err));
    match &args.textfile {
        Some(path) if code == EX_OK => match write_file(path, &page) {
            Ok(()) => EX_OK,
            Err(error) => fail(err, &TextfileError(path.clone(), error), EX_IOERR),
        },
        Some(_) | None => match out.write_all(&page).and_then(|()| out.flush()) {
            Ok(()) => code,
            Err(_) => EX_IOERR,
        },
    }
}

/// The file is not there.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {0}: is the directory there, and may you write to it?")]
struct TextfileError(PathBuf, #[source] io::Error);

/// `node_exporter` reads whatever `*.prom` is there: so the file comes to its name when it is whole.
fn write_file(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let mut file = File::create(&new)?;
    file.write_all(text)?;
    fs::set_permissions(&new, Permissions::from_mode(0o644))?;
    fs::rename(&new, path)
}
