//! `pvusb-agent diff`: what another policy would change on this host, device by device.
//!
//! Reads and shows. Where a device belongs, `plan` decides.

use super::sheet::{self, Seen};
use super::{EX_CHANGES, EX_IOERR, EX_OK, Loaded, load_policy};
use crate::host::userdata::UserData;
use crate::host::xenstore::Endpoint;
use crate::model::{Device, Observed, chain};
use crate::plan::{Destination, Explanation};
use crate::policy::{Action, Policy, Rule, ShownWish, TargetWish};
use clap::Args;
use serde::Serialize;
use std::io::{self, Write};
use std::path::PathBuf;

pub(super) const HELP: &str = "Examples:
  pvusb-agent diff new.yaml                 what would change if this were the policy?
  pvusb-agent diff new.yaml --exit-code && echo 'nothing would change'
  pvusb-agent diff new.yaml --policy old.yaml --host pc.yaml
                                            and on a host that was recorded?";

/// Arguments of `diff`.
#[derive(Args, Clone, Debug)]
pub(super) struct DiffArgs {
    /// The policy that is not yet in force
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// The policy to compare with; without it, the installed one
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The host that is written in this file, instead of the one that this is; also a recording by
    /// umockdev-record
    #[arg(long, value_name = "FILE")]
    host: Option<PathBuf>,
    /// End with 1 if something would change
    #[arg(long)]
    exit_code: bool,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
    /// Where libxl keeps its files about domains
    #[arg(long, value_name = "DIR", default_value = UserData::DIR)]
    libxl_dir: PathBuf,
}

/// A device that would go elsewhere, or for another reason. The names of the fields are an interface.
#[derive(Serialize)]
struct Change {
    busid: String,
    id: String,
    name: String,
    before: End,
    after: End,
    /// Whether it would go elsewhere, or be blocked or no longer; otherwise another rule sends it to the same
    /// domain, or something else is asked for there.
    moves: bool,
}

#[derive(PartialEq, Eq, Serialize)]
struct End {
    /// The domain's name, or `dom0`.
    domain: String,
    /// What it is to get there.
    #[serde(flatten)]
    place: ShownWish,
    /// The same in words.
    #[serde(skip)]
    asked: String,
    /// The rule that decides, if one does.
    rule: Option<String>,
    /// Whether it is blocked: dom0's drivers do not get it either.
    blocked: bool,
    /// Why it stays in dom0 although its rule wants it elsewhere, or blocked.
    refusal: Option<String>,
}

pub(super) fn run(
    args: &DiffArgs,
    endpoint: Endpoint,
    out: &mut dyn Write,
    err: &mut dyn Write,
    colour: bool,
) -> u8 {
    let new = match load_policy(Some(&args.new), err, colour) {
        Loaded::Policy(policy) => policy,
        Loaded::None => Policy::default(),
        Loaded::Failed(code) => return code,
    };
    let old = match load_policy(args.policy.as_deref(), err, colour) {
        Loaded::Policy(policy) => policy,
        // Without a policy every device stays in dom0.
        Loaded::None => Policy::default(),
        Loaded::Failed(code) => return code,
    };
    let host = args.host.as_deref();
    let seen = sheet::see(host, endpoint, &args.libxl_dir, &[&old, &new], (err, colour));
    let Seen { observed, unreadable, without_xen, .. } = match seen {
        Ok(seen) => seen,
        Err(code) => return code,
    };
    let changes: Vec<Change> =
        observed.devices.values().filter_map(|it| change(it, &old, &new, &observed)).collect();
    let written = if args.json { write_json(&changes, out) } else { write_text(&changes, out) };
    let left_out = unreadable.iter().try_for_each(|(busid, error)| {
        writeln!(err, "pvusb-agent: {busid} is left out: {}", chain(error))
    });
    let told = without_xen.map_or(Ok(()), |why| {
        writeln!(err, "pvusb-agent: no domain counts as running: {}", chain(&why))
    });
    match written.and(left_out).and(told).and_then(|()| out.flush()) {
        Err(_) => EX_IOERR,
        Ok(()) if args.exit_code && !changes.is_empty() => EX_CHANGES,
        Ok(()) => EX_OK,
    }
}

/// What would change for a device, if anything.
fn change(device: &Device, old: &Policy, new: &Policy, observed: &Observed) -> Option<Change> {
    let xen = &observed.xen;
    let by_others = xen.places_of(&device.busid).any(|place| !xen.is_ours(&device.busid, place));
    let [before, after] = [old, new].map(|policy| end(device, policy, observed));
    (before != after && !by_others && !device.is_hub()).then(|| Change {
        busid: device.busid.to_string(),
        id: device.id.to_string(),
        name: device.called(),
        moves: (&before.domain, before.blocked) != (&after.domain, after.blocked),
        before,
        after,
    })
}

fn end(device: &Device, policy: &Policy, observed: &Observed) -> End {
    let destination = Destination::of(device, policy, observed);
    let explanation = Explanation::of(device, policy, observed);
    let is_block = |rule: &Rule| *rule.action() == Action::Block;
    let to_block = explanation.order.is_none() && explanation.rule().is_some_and(is_block);
    let refusal = if to_block { explanation.refusal } else { destination.refusal };
    let wish = if destination.guest.is_some() { destination.wish } else { TargetWish::ANY };
    End {
        place: wish.into(),
        asked: wish.to_string(),
        domain: destination.guest.map_or_else(|| "dom0".to_owned(), |guest| guest.to_string()),
        rule: destination.rule,
        blocked: to_block && refusal.is_none(),
        refusal: refusal.map(|refusal| refusal.to_string()),
    }
}

fn write_json(changes: &[Change], out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, changes)?;
    writeln!(out)
}

fn write_text(changes: &[Change], out: &mut dyn Write) -> io::Result<()> {
    if changes.is_empty() {
        return writeln!(out, "nothing would change");
    }
    for Change { busid, id, name, before, after, .. } in changes {
        writeln!(out, "{}", format!("{busid}  {id}  {name}").trim_end())?;
        for (when, end) in [("now: ", before), ("then:", after)] {
            let rule = end.rule.as_deref().unwrap_or("no rule matches");
            let place = if end.blocked { "blocked" } else { &end.domain };
            write!(out, "  {when} {place}{}, {rule}", end.asked)?;
            match &end.refusal {
                Some(refusal) => writeln!(out, ", but {refusal}")?,
                None => writeln!(out)?,
            }
        }
    }
    Ok(())
}
