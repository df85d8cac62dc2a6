//! `pvusb-agent log`: the audit log, read and verified.

use super::{EX_BROKEN, EX_IOERR, EX_OK, EX_UNAVAILABLE, fail, fail_with};
use crate::audit::{self, Anchor, Break, Entry, FileError, Reading};
use clap::Args;
use serde::Serialize;
use std::io::{self, Write};
use std::path::PathBuf;

/// Where the service keeps it.
const LOG: &str = "/var/log/pvusb-agent/audit";

pub(super) const HELP: &str = "Examples:
  pvusb-agent log --last 20               what was moved lately, by whom or by which rule
  pvusb-agent log --device 1-1.4          what happened to the device in this place
  pvusb-agent log --verify                was a line changed, taken out or put in?
  pvusb-agent log --verify --anchor 42:9f86d081884c7d65…
                                          is entry 42 still the one that was noted elsewhere?

Ends with 1 when the log does not hold.";

/// Arguments of `log`.
#[derive(Args, Clone, Debug)]
pub(super) struct LogArgs {
    /// The log's newest file
    #[arg(long, value_name = "FILE", default_value = LOG)]
    file: PathBuf,
    /// Hold each entry against the one before it
    #[arg(long)]
    verify: bool,
    /// Hold an entry against what was noted of it: its number, a colon, its hash
    #[arg(long, value_name = "NUMBER:HASH", requires = "verify")]
    anchor: Option<Anchor>,
    /// Only what is about the device in this place
    #[arg(long, value_name = "BUSID", conflicts_with = "verify")]
    device: Option<String>,
    /// Only the last so many entries
    #[arg(long, value_name = "NUMBER", conflicts_with = "verify")]
    last: Option<usize>,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

/// What `--verify --json` answers.
#[derive(Serialize)]
struct Verdict<'a> {
    holds: bool,
    entries: usize,
    first: Option<u64>,
    last: Option<String>,
    breaks: &'a [Break],
}

pub(super) fn run(args: &LogArgs, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let reading = match audit::read(&args.file, args.anchor) {
        Ok(reading) => reading,
        Err(error) => {
            let advice =
                "the service keeps it (`run --audit FILE`), for root alone; --file names another";
            return fail_with(err, &Unreadable(error), advice, EX_UNAVAILABLE);
        }
    };
    let written = if args.verify {
        write_verdict(args, &reading, out)
    } else {
        write_entries(args, &reading, out)
    };
    match written.and_then(|()| out.flush()) {
        Ok(()) if reading.breaks.is_empty() => EX_OK,
        Ok(()) if args.verify => EX_BROKEN,
        Ok(()) => fail(err, &NotWhole, EX_BROKEN),
        Err(_) => EX_IOERR,
    }
}

/// There is no log to be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the audit log")]
struct Unreadable(#[source] FileError);

/// What is shown may not be what was written.
#[derive(Debug, thiserror::Error)]
#[error("the log does not hold: `pvusb-agent log --verify` says where")]
struct NotWhole;

fn write_entries(args: &LogArgs, reading: &Reading, out: &mut dyn Write) -> io::Result<()> {
    let is_about = |entry: &&Entry| {
        args.device.as_ref().is_none_or(|busid| entry.fields.get("device") == Some(busid))
    };
    let entries: Vec<&Entry> = reading.entries.iter().filter(is_about).collect();
    let skipped = args.last.map_or(0, |last| entries.len().saturating_sub(last));
    let entries = &entries[skipped..];
    if args.json {
        serde_json::to_writer_pretty(&mut *out, entries)?;
        return writeln!(out);
    }
    entries.iter().try_for_each(|entry| writeln!(out, "{}  {}", entry.at, entry.line))
}

fn write_verdict(args: &LogArgs, reading: &Reading, out: &mut dyn Write) -> io::Result<()> {
    let first = reading.entries.first().map(|entry| entry.n);
    let breaks = &reading.breaks;
    if args.json {
        let last = reading.last.map(|last| last.to_string());
        let (holds, entries) = (breaks.is_empty(), reading.entries.len());
        serde_json::to_writer_pretty(&mut *out, &Verdict { holds, entries, first, last, breaks })?;
        return writeln!(out);
    }
    breaks.iter().try_for_each(|it| writeln!(out, "{it}"))?;
    let (Some(first), Some(last)) = (first, reading.last) else {
        return writeln!(out, "the log is empty");
    };
    let verdict = if breaks.is_empty() { "holds" } else { "DOES NOT HOLD" };
    let count = reading.entries.len();
    writeln!(out, "the log {verdict}: {count} entries, from {first} to {}", last.n)?;
    writeln!(out, "last entry: {last}")
}
