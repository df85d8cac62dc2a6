//! What the verbs that talk to a running agent have in common.

use super::{EX_IOERR, EX_OK, EX_REFUSED, EX_UNAVAILABLE, fail_with};
use crate::control;
use crate::control::client::{self, ClientError};
use crate::control::protocol::{Ask, Fault, Outcome};
use clap::Args;
use serde::Serialize;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long an answer may take that is not waited for, in seconds.
pub(super) const PATIENCE: u64 = 30;

/// What follows for rules that no agent has.
pub(super) const NOBODY: &str = ", and nobody carries the rules out";

/// Where the agent's socket is.
#[derive(Args, Clone, Debug)]
pub(super) struct SocketArg {
    /// The agent's control socket [default: /run/pvusb-agent/control]
    #[arg(long, value_name = "SOCKET")]
    socket: Option<PathBuf>,
}

impl SocketArg {
    /// The one that was named, or that of the environment, or the usual one.
    pub(super) fn path(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(usual_socket)
    }
}

/// Tells on `err` that the answer is from the host itself, and what follows from that, if no agent runs:
/// whoever believes that one does might wait for it.
pub(super) fn tell_of_absence(socket: &Path, what: &str, err: &mut dyn Write) -> io::Result<()> {
    if client::is_absent(socket) {
        writeln!(err, "pvusb-agent: no agent is running: this is from the host itself{what}")?;
    }
    Ok(())
}

/// Where the agent's socket is for a verb that has no option for it.
pub(super) fn usual_socket() -> PathBuf {
    control::socket_path(|name| std::env::var_os(name))
}

/// Asks, and writes the answer: as JSON, or what `text` makes of it. Gives the exit code.
pub(super) fn ask(
    socket: &SocketArg,
    question: Ask,
    patience: Duration,
    json: bool,
    text: impl FnOnce(&Outcome) -> String,
    (out, err): (&mut dyn Write, &mut dyn Write),
) -> u8 {
    match client::ask(&socket.path(), question, Some(patience)) {
        Ok(Ok(outcome)) => {
            let written = if json {
                write_json(&outcome, out)
            } else {
                writeln!(out, "{}", text(&outcome)).and_then(|()| out.flush())
            };
            if written.is_ok() { EX_OK } else { EX_IOERR }
        }
        Ok(Err(fault)) if json => {
            if write_json(&Refused { error: &fault }, out).is_ok() {
                EX_REFUSED
            } else {
                EX_IOERR
            }
        }
        Ok(Err(fault)) => {
            if write_fault(&fault, err).is_ok() {
                EX_REFUSED
            } else {
                EX_IOERR
            }
        }
        Err(error) => unanswered(&error, err),
    }
}

/// Tells on `err` why the agent has not answered, and what helps; gives the exit code.
pub(super) fn unanswered(error: &ClientError, err: &mut dyn Write) -> u8 {
    let is_there = !matches!(error, ClientError::NoAgent(_));
    fail_with(err, error, error.advice(), if is_there { EX_REFUSED } else { EX_UNAVAILABLE })
}

#[derive(Serialize)]
struct Refused<'a> {
    error: &'a Fault,
}

fn write_json(answer: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, answer)?;
    writeln!(out)?;
    out.flush()
}

pub(super) fn write_fault(fault: &Fault, err: &mut dyn Write) -> io::Result<()> {
    writeln!(err, "pvusb-agent: {}", fault.message)?;
    match &fault.advice {
        Some(advice) => writeln!(err, "pvusb-agent: {advice}"),
        None => Ok(()),
    }
}
