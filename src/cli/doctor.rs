//! `pvusb-agent doctor`: what others left behind, what it does to the host, and mending it.
//!
//! What is wrong is found by `plan::findings`, and mended by `host::perform`. Here it is told, also to a running
//! agent, which takes it down.

use super::by_hand::Clerk;
use super::look::{Error, Unreadable, look, unseen};
use super::socket::SocketArg;
use super::{EX_FINDINGS, EX_IOERR, EX_OK};
use crate::host::look::XenReader;
use crate::host::nodes::node_of;
use crate::host::perform::Performer;
use crate::host::usb::{Drivers, UsbReader};
use crate::host::userdata::UserData;
use crate::host::xenstore::{Endpoint, Xenstore};
use crate::model::{BusId, Observed, chain};
use crate::plan::Finding;
use crate::plan::findings::findings;
use clap::Args;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::PathBuf;

/// Arguments of `doctor`.
#[derive(Args, Clone, Debug)]
pub(super) struct DoctorArgs {
    /// Mend what can be mended without harm, and look again
    #[arg(long)]
    fix: bool,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
    /// Where libxl keeps its files about domains
    #[arg(long, value_name = "DIR", default_value = UserData::DIR)]
    libxl_dir: PathBuf,
    #[command(flatten)]
    socket: SocketArg,
}

/// How often it looks again after it has mended something: one mend can bring to light what another
/// had hidden.
const ROUNDS: usize = 4;

/// The answer. The names of the fields are an interface.
#[derive(Default, Serialize)]
struct Answer {
    /// Whether nothing is left but hints.
    healthy: bool,
    /// What was tried, in this order.
    tried: Vec<Try>,
    /// What is left.
    findings: Vec<Told>,
    /// Devices that could not be read: nothing is said of them.
    unreadable: BTreeMap<String, String>,
}

/// One finding.
#[derive(Serialize)]
struct Told {
    code: &'static str,
    /// Whether it may be quite all right.
    hint: bool,
    what: String,
    node: String,
    effect: &'static str,
    advice: &'static str,
    /// Whether `--fix` can mend it.
    mendable: bool,
}

/// One thing that `--fix` tried.
#[derive(Serialize)]
struct Try {
    code: &'static str,
    what: String,
    node: String,
    /// `null` when it did what it was to do; otherwise why not.
    failed: Option<String>,
}

pub(super) fn run(
    args: &DoctorArgs,
    endpoint: Endpoint,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return unseen(&Error::Runtime(error), err),
    };
    let mut clerk = Clerk::of(&args.socket);
    let answer = runtime.block_on(examine(args, endpoint, &mut clerk));
    // A write to sysfs that the kernel does not let go of must not keep the answer back.
    runtime.shutdown_background();
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return clerk.report(unseen(&error, err), err),
    };
    let written = if args.json { write_json(&answer, out) } else { write_text(&answer, out) };
    let code = match written.and_then(|()| out.flush()) {
        Ok(()) if answer.healthy => EX_OK,
        Ok(()) => EX_FINDINGS,
        Err(_) => EX_IOERR,
    };
    clerk.report(code, err)
}

async fn examine(
    args: &DoctorArgs,
    endpoint: Endpoint,
    clerk: &mut Clerk,
) -> Result<Answer, Error> {
    let xs = Xenstore::connect(endpoint).await?;
    let xen = XenReader::new(xs.clone(), UserData::new(&args.libxl_dir));
    let performer = Performer::new(xs, xen.clone(), UsbReader::new(), Drivers::new());
    let mut answer = Answer::default();
    let (mut observed, mut unreadable) = look(&xen).await?;
    for _ in 0..ROUNDS {
        let tried = if args.fix {
            mend((&performer, clerk), &observed, &unreadable, &mut answer.tried).await
        } else {
            false
        };
        if !tried {
            break;
        }
        (observed, unreadable) = look(&xen).await?;
    }
    let found = findings(&observed, &unread(&unreadable));
    answer.healthy = found.iter().all(|finding| finding.code().is_hint());
    answer.findings = found.iter().map(|finding| told(finding, &observed)).collect();
    answer.unreadable =
        unreadable.iter().map(|(busid, why)| (busid.to_string(), chain(why))).collect();
    Ok(answer)
}

fn unread(unreadable: &Unreadable) -> BTreeSet<BusId> {
    unreadable.keys().cloned().collect()
}

/// Tries what can be mended and was not tried before. Tells whether it tried anything.
async fn mend(
    (performer, clerk): (&Performer, &mut Clerk),
    observed: &Observed,
    unreadable: &Unreadable,
    tries: &mut Vec<Try>,
) -> bool {
    let before = tries.len();
    for finding in findings(observed, &unread(unreadable)) {
        let (code, what) = (finding.code().number(), finding.to_string());
        let is_new = !tries.iter().any(|tried| tried.code == code && tried.what == what);
        if let Some(mend) = finding.mend(observed).filter(|_| is_new) {
            let act = format!("mend {code} {what}");
            let mended = clerk.attend(&act, performer.mend(&mend)).await;
            let failed = mended.err().map(|error| error.to_string());
            tries.push(Try { code, what, node: node_of(&finding), failed });
        }
    }
    tries.len() > before
}

fn told(finding: &Finding, observed: &Observed) -> Told {
    Told {
        code: finding.code().number(),
        hint: finding.code().is_hint(),
        what: finding.to_string(),
        node: node_of(finding),
        effect: finding.effect(),
        advice: finding.advice(),
        mendable: finding.mend(observed).is_some(),
    }
}

fn write_json(answer: &Answer, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, answer)?;
    writeln!(out)
}

fn write_text(answer: &Answer, out: &mut dyn Write) -> io::Result<()> {
    for Try { code, what, failed, .. } in &answer.tried {
        match failed {
            None => writeln!(out, "mended: {code} {what}")?,
            Some(cause) => writeln!(out, "not mended: {code} {what}: {cause}")?,
        }
    }
    for Told { code, hint, what, node, effect, advice, .. } in &answer.findings {
        let word = if *hint { " (a hint)" } else { "" };
        writeln!(out, "{code}  {what}{word}")?;
        writeln!(out, "      node: {node}")?;
        writeln!(out, "      does: {effect}")?;
        writeln!(out, "      help: {advice}")?;
    }
    for (busid, why) in &answer.unreadable {
        writeln!(out, "nothing is known of {busid}, which cannot be read: {why}")?;
    }
    let hints = answer.findings.iter().filter(|told| told.hint).count();
    match (answer.findings.len() - hints, hints) {
        (0, 0) => writeln!(out, "nothing found"),
        (found, 0) => writeln!(out, "{}", counted(found, "finding")),
        (found, hints) => {
            writeln!(out, "{}, {}", counted(found, "finding"), counted(hints, "hint"))
        }
    }
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
