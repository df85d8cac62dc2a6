//! `pvusb-agent watch`: what is plugged where, what goes to which domain, what waits for what; as it happens.

mod screen;

use super::socket::{PATIENCE, SocketArg, unanswered, write_fault};
use super::{EX_IOERR, EX_OK, EX_REFUSED};
use crate::control::client::{ClientError, Watch};
use crate::control::protocol::Fault;
use crate::control::watch::{Notice, Said, Since, WatchOutcome};
use clap::Args;
use screen::{Screen, Style};
use serde::Serialize;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, UNIX_EPOCH};

pub(super) const HELP: &str = "Examples:
  pvusb-agent watch                       a picture that changes, on a terminal; Ctrl-C ends it
  pvusb-agent watch --lines               a line for each thing that happens
  pvusb-agent watch --json | jq -c .      everything first, then each change, a line of JSON each
  pvusb-agent watch --once                one picture

When the agent is started anew, the picture goes on. Elsewhere than on a terminal it tells lines.";

/// Arguments of `watch`.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
#[derive(Args, Clone, Debug)]
pub(super) struct WatchArgs {
    /// Tell lines, also on a terminal
    #[arg(long, conflicts_with = "json")]
    lines: bool,
    /// Show what there is now and end
    #[arg(long, conflicts_with = "lines")]
    once: bool,
    /// Answer in JSON, one line each
    #[arg(long)]
    json: bool,
    /// Show hubs as well
    #[arg(long)]
    hubs: bool,
    #[command(flatten)]
    socket: SocketArg,
}

/// What is said first, and each time that the agent was started anew.
#[derive(Serialize)]
struct First<'a> {
    kind: &'static str,
    #[serde(flatten)]
    outcome: &'a WatchOutcome,
}

/// Why watching has ended.
enum End {
    /// The agent has gone.
    Gone,
    Fault(Fault),
    Failed(ClientError),
    /// What is shown cannot be written any more.
    Unwritten,
    Done,
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Unwritten
    }
}

pub(super) fn run(args: &WatchArgs, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let is_terminal = io::stdout().is_terminal();
    let is_picture = (is_terminal || args.once) && !args.lines && !args.json;
    let colour = is_terminal && std::env::var_os("NO_COLOR").is_none();
    let mut shown = match (args.json, is_picture) {
        (true, _) => Shown::Json,
        (false, true) => Shown::Picture(Box::new(Screen::new(Style {
            hubs: args.hubs,
            colour,
            is_live: is_terminal && !args.once,
        }))),
        (false, false) => Shown::Lines,
    };
    let mut since = None;
    let mut has_begun = false;
    loop {
        match watch(args, &mut shown, &mut since, &mut has_begun, out) {
            End::Done => return EX_OK,
            End::Unwritten => return EX_IOERR,
            End::Fault(fault) => {
                return if write_fault(&fault, err).is_ok() { EX_REFUSED } else { EX_IOERR };
            }
            End::Failed(error @ ClientError::NoAgent(_)) if !has_begun => {
                return unanswered(&error, err);
            }
            End::Failed(ClientError::NoAgent(_)) | End::Gone => {}
            End::Failed(error) => return unanswered(&error, err),
        }
        if shown.gone(out).is_err() {
            return EX_IOERR;
        }
        wait_a_moment();
    }
}

/// Until the agent is perhaps there again.
#[expect(clippy::disallowed_methods, reason = "there is nothing to wait for but time")]
fn wait_a_moment() {
    std::thread::sleep(Duration::from_secs(1));
}

/// Watches one agent until it ends.
fn watch(
    args: &WatchArgs,
    shown: &mut Shown,
    since: &mut Option<Since>,
    has_begun: &mut bool,
    out: &mut dyn Write,
) -> End {
    let patience = Duration::from_secs(PATIENCE);
    let (mut watch, outcome) = match Watch::begin(&args.socket.path(), since.clone(), patience) {
        Ok(Ok(begun)) => begun,
        Ok(Err(fault)) => return End::Fault(fault),
        Err(ClientError::HungUp) if *has_begun => return End::Gone,
        Err(error) => return End::Failed(error),
    };
    *has_begun = true;
    *since = Some(Since { agent: outcome.agent.clone(), seq: outcome.seq });
    if let Err(error) = shown.first(outcome, out) {
        return error.into();
    }
    if args.once {
        return End::Done;
    }
    loop {
        let notice = match watch.notice() {
            Ok(notice) => notice,
            Err(ClientError::HungUp) => return End::Gone,
            Err(error) => return End::Failed(error),
        };
        if let (Notice::Said(said), Some(since)) = (&notice, &mut *since) {
            since.seq = said.seq;
        }
        if let Err(error) = shown.next(notice, out) {
            return error.into();
        }
    }
}

/// How it is shown.
enum Shown {
    Json,
    Lines,
    Picture(Box<Screen>),
}

impl Shown {
    fn first(&mut self, outcome: WatchOutcome, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Json => write_json(&First { kind: "everything", outcome: &outcome }, out),
            Self::Lines => {
                for row in &outcome.devices {
                    writeln!(out, "{} {}", row.busid, row.message)?;
                }
                if !outcome.complete {
                    writeln!(out, "(some lines were missed)")?;
                }
                outcome.said.iter().try_for_each(|said| write_line(said, out))?;
                out.flush()
            }
            Self::Picture(screen) => {
                screen.begin(outcome);
                screen.draw(out)
            }
        }
    }

    fn next(&mut self, notice: Notice, out: &mut dyn Write) -> io::Result<()> {
        match (self, notice) {
            (Self::Json, notice) => write_json(&notice, out),
            (Self::Lines, Notice::Said(said)) => {
                write_line(&said, out)?;
                out.flush()
            }
            (
                Self::Lines,
                Notice::Device(_)
                | Notice::DeviceGone { .. }
                | Notice::Domain(_)
                | Notice::DomainGone { .. }
                | Notice::Xenstore { .. },
            ) => Ok(()),
            (Self::Picture(screen), notice) => {
                screen.change(notice);
                screen.draw(out)
            }
        }
    }

    /// The agent has gone.
    fn gone(&mut self, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Json | Self::Lines => Ok(()),
            Self::Picture(screen) => {
                screen.lose();
                screen.draw(out)
            }
        }
    }
}

fn write_json(what: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, what)?;
    writeln!(out)?;
    out.flush()
}

fn write_line(said: &Said, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}  {:<5} {}", date(said), said.level, said.line)
}

fn date(said: &Said) -> String {
    let at = UNIX_EPOCH + Duration::from_millis(said.at_ms);
    humantime::format_rfc3339_seconds(at).to_string()
}
