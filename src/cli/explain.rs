//! `pvusb-agent explain`: why a device is where it is, rule by rule.
//!
//! Reads and shows. What a rule says, `policy` decides; what would be done, `reconcile`.

use super::look::{Error, look_if_possible, unseen};
use super::sheet;
use super::socket::{NOBODY, tell_of_absence, usual_socket};
use super::{EX_IOERR, EX_OK, EX_REFUSED, EX_UNAVAILABLE, EX_USAGE, Loaded, fail, load_policy};
use crate::host::userdata::UserData;
use crate::host::xenstore::Endpoint;
use crate::model::{BusId, Device, DeviceName, Observed, Text, chain};
use crate::paper::Host;
use crate::plan::{Aside, Explanation, Next, Outlook, Refusal, Standing, Step};
use crate::policy::{Action, Part, Policy, Rule, Verdict};
use crate::reconcile::preview;
use clap::Args;
use serde::Serialize;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

pub(super) const HELP: &str = "Examples:
  pvusb-agent explain 1-1.4                      why is what is plugged there where it is?
  pvusb-agent explain 05e0:1200 --policy new.yaml   and by that policy?
  pvusb-agent record >host.yaml                  keep what is plugged here, and
  pvusb-agent explain 1-1.4 --host host.yaml     ask about it anywhere";

/// Arguments of `explain`.
#[derive(Args, Clone, Debug)]
pub(super) struct ExplainArgs {
    /// A busid (1-1.4), a bus address (1.6) or an id (05e0:1200); with --host, also its name there.
    /// Of a host with a single device, that one need not be named
    #[arg(value_name = "DEVICE", required_unless_present = "host")]
    device: Option<String>,
    /// The host that is written in this file, instead of the one that this is; also a recording by
    /// umockdev-record
    #[arg(long, value_name = "FILE")]
    host: Option<PathBuf>,
    /// The policy to judge by; without it, the installed one
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
    /// Where libxl keeps its files about domains
    #[arg(long, value_name = "DIR", default_value = UserData::DIR)]
    libxl_dir: PathBuf,
}

/// The answer. The names of the fields are an interface.
#[derive(Serialize)]
pub(super) struct Answer {
    busid: String,
    bus_address: String,
    id: String,
    name: String,
    /// What a person said, if that goes before the policy.
    order: Option<String>,
    /// Which device it follows in its place, if its way is kept, and the rule that goes before the others.
    follows: Option<FollowsAnswer>,
    rules: Vec<RuleAnswer>,
    /// How many rules stand below the one that matches.
    unasked: usize,
    /// Why it must stay in dom0, and what would help, if somebody wants it elsewhere.
    refusal: Option<String>,
    advice: Option<&'static str>,
    /// How it stands with it.
    standing: Option<&'static str>,
    /// The same as the rest of a sentence.
    because: Option<String>,
    /// What would be done next.
    next: Option<String>,
}

#[derive(Serialize)]
struct FollowsAnswer {
    /// The id of the device before.
    id: String,
    rule: String,
    location: String,
}

#[derive(Serialize)]
struct RuleAnswer {
    rule: String,
    location: String,
    matches: bool,
    /// Why it does not count, whatever it matches: `enabled` or `when`.
    aside: Option<&'static str>,
    action: String,
    conditions: Vec<ConditionAnswer>,
}

#[derive(Serialize)]
struct ConditionAnswer {
    key: &'static str,
    wanted: String,
    found: Option<String>,
    holds: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    within: Vec<WithinAnswer>,
}

#[derive(Serialize)]
struct WithinAnswer {
    of: String,
    matches: bool,
    conditions: Vec<ConditionAnswer>,
}

pub(super) fn run(
    args: &ExplainArgs,
    endpoint: Endpoint,
    out: &mut dyn Write,
    err: &mut dyn Write,
    colour: bool,
) -> u8 {
    let explained = match &args.host {
        Some(path) => on_paper(path, args, err, colour).map(|answer| (answer, None)),
        None => on_this_host(args, endpoint, err, colour),
    };
    let (answer, without_xen) = match explained {
        Ok(explained) => explained,
        Err(code) => return code,
    };
    let written = if args.json {
        serde_json::to_writer_pretty(&mut *out, &answer)
            .map_err(io::Error::from)
            .and_then(|()| writeln!(out))
    } else {
        write_text(&answer, out).and_then(|()| match &without_xen {
            Some(error) => write_missing(error, err),
            // Of another policy, or another host, nobody expects that an agent carries it out.
            None if args.host.is_some() || args.policy.is_some() => Ok(()),
            None => tell_of_absence(&usual_socket(), NOBODY, err),
        })
    };
    match written.and_then(|()| out.flush()) {
        Ok(()) => EX_OK,
        Err(_) => EX_IOERR,
    }
}

/// The answer about a device of this host; or, when that was told already, the exit code.
fn on_this_host(
    args: &ExplainArgs,
    endpoint: Endpoint,
    err: &mut dyn Write,
    colour: bool,
) -> Result<(Answer, Option<Error>), u8> {
    let name = args.device.as_deref().unwrap_or_default();
    let name: DeviceName = name.parse().map_err(|error| fail(err, &error, EX_USAGE))?;
    let policy = loaded(args.policy.as_deref(), err, colour)?;
    let (observed, unreadable, without_xen) =
        look_if_possible(endpoint, &args.libxl_dir, &[&policy])
            .map_err(|error| unseen(&error, err))?;
    let found: Vec<_> = observed.devices.values().filter(|it| name.is_of(it)).collect();
    let [device] = found[..] else {
        let why = unreadable.iter().find(|(busid, _)| name == DeviceName::At((*busid).clone()));
        return Err(match why {
            Some((_, error)) => fail(err, error, EX_UNAVAILABLE),
            None => not_one(&name, &found, err),
        });
    };
    Ok((explain(device, &policy, &observed, without_xen.is_none()), without_xen))
}

/// The same about a device of a host on paper.
fn on_paper(
    path: &Path,
    args: &ExplainArgs,
    err: &mut dyn Write,
    colour: bool,
) -> Result<Answer, u8> {
    let sheet = sheet::load(path).map_err(|problems| sheet::refuse(&problems, err, colour))?;
    let named = args.policy.clone().or_else(|| sheet::policy_named_in(&sheet, path));
    let policy = loaded(named.as_deref(), err, colour)?;
    let (host, observed) = (sheet.host(), sheet.host().observed());
    let found = match &args.device {
        Some(name) => host.called(name),
        None => host.devices.iter().map(|written| &written.device).collect(),
    };
    let [device] = found[..] else {
        return Err(not_one_of(host, &found, path, err));
    };
    Ok(explain(device, &policy, &observed, true))
}

fn not_one_of(host: &Host, found: &[&Device], path: &Path, err: &mut dyn Write) -> u8 {
    let is_found = |at: &BusId| found.iter().any(|device| device.busid == *at);
    let names = host.devices.iter().filter(|it| is_found(&it.device.busid));
    let names: Vec<_> = names.map(|it| Text::from(&*it.name).to_string()).collect();
    let file = Text::from(&*path.to_string_lossy());
    let written = if names.is_empty() {
        writeln!(err, "pvusb-agent: there is no such device in {file}")
    } else {
        let list = names.join(", ");
        writeln!(err, "pvusb-agent: {file} has several devices: say which, one of {list}")
    };
    if written.is_ok() { EX_REFUSED } else { EX_IOERR }
}

fn loaded(named: Option<&Path>, err: &mut dyn Write, colour: bool) -> Result<Policy, u8> {
    match load_policy(named, err, colour) {
        Loaded::Policy(policy) => Ok(policy),
        Loaded::None => Ok(Policy::default()),
        Loaded::Failed(code) => Err(code),
    }
}

fn not_one(name: &DeviceName, found: &[&Device], err: &mut dyn Write) -> u8 {
    let written = if found.is_empty() {
        writeln!(err, "pvusb-agent: no device {name} is plugged; `pvusb-agent devices` lists all")
    } else {
        let busids: Vec<_> = found.iter().map(|device| device.busid.to_string()).collect();
        let list = busids.join(", ");
        writeln!(err, "pvusb-agent: several devices are called {name}: say which, one of {list}")
    };
    if written.is_ok() { EX_REFUSED } else { EX_IOERR }
}

#[expect(
    clippy::disallowed_methods,
    reason = "what would come next needs some present to begin with"
)]
pub(super) fn explain(
    device: &Device,
    policy: &Policy,
    observed: &Observed,
    with_xen: bool,
) -> Answer {
    let explanation = Explanation::of(device, policy, observed);
    let outlook = preview(policy, observed, Instant::now()).remove(&device.busid);
    let outlook = outlook.filter(|_| with_xen);
    // Nothing is to be done about a device that nobody wants elsewhere.
    let standing = outlook.as_ref().map(|outlook| &outlook.standing);
    let stays = |standing| matches!(standing, &Standing::NoRule | &Standing::Kept { .. });
    let is_wanted = !standing.is_some_and(stays);
    Answer {
        busid: device.busid.to_string(),
        bus_address: device.address.to_string(),
        id: device.id.to_string(),
        name: device.called(),
        order: explanation.order.map(|said| said.order.to_string()),
        follows: explanation.follows.as_ref().map(|(rule, trail)| FollowsAnswer {
            id: trail.plug.id.to_string(),
            rule: rule.label(),
            location: rule.location().to_string(),
        }),
        rules: explanation
            .asked
            .iter()
            .map(|asked| RuleAnswer {
                rule: asked.rule.label(),
                location: asked.rule.location().to_string(),
                matches: asked.verdict.holds,
                aside: asked.aside.map(|aside| match aside {
                    Aside::SwitchedOff => "enabled",
                    Aside::NotNow => "when",
                }),
                action: action_words(asked.rule),
                conditions: conditions(&asked.verdict),
            })
            .collect(),
        unasked: explanation.unasked,
        refusal: explanation.refusal.as_ref().map(ToString::to_string),
        advice: explanation.refusal.as_ref().filter(|_| is_wanted).map(Refusal::advice),
        standing: outlook.as_ref().map(|outlook| outlook.standing.name()),
        because: outlook.as_ref().map(|outlook| outlook.standing.to_string()),
        next: outlook.as_ref().map(next_words),
    }
}

fn conditions(verdict: &Verdict) -> Vec<ConditionAnswer> {
    verdict.parts.iter().map(condition).collect()
}

fn condition(part: &Part) -> ConditionAnswer {
    let within = part.within.iter().map(|within| WithinAnswer {
        of: within.of.clone(),
        matches: within.verdict.holds,
        conditions: conditions(&within.verdict),
    });
    ConditionAnswer {
        key: part.key,
        wanted: part.wanted.clone(),
        found: part.found.clone(),
        holds: part.holds,
        within: within.collect(),
    }
}

fn action_words(rule: &Rule) -> String {
    match rule.action() {
        Action::Keep => "keep: dom0".to_owned(),
        Action::Block => "block: true".to_owned(),
        Action::Attach(targets) => {
            let targets: Vec<_> = targets.iter().map(ToString::to_string).collect();
            let patience = rule.patience().map(|it| format!(" (each has {it:?})"));
            format!("attach: {}{}", targets.join(", "), patience.unwrap_or_default())
        }
    }
}

fn next_words(outlook: &Outlook) -> String {
    match &outlook.next {
        Next::Rest => "nothing".to_owned(),
        Next::Until(_, why) => format!("waits for {why}"),
        Next::Run(Step::Claim(claim)) => format!("attach it: {}", claim.place),
        Next::Run(Step::CreateController { claim, spec, .. }) => format!(
            "make a controller ({}, USB {}, {} ports) and attach it there: {}",
            spec.kind, spec.version, spec.ports, claim.place
        ),
        Next::Run(step) => step.name().to_owned(),
    }
}

pub(super) fn write_text(answer: &Answer, out: &mut dyn Write) -> io::Result<()> {
    let Answer { busid, id, name, .. } = answer;
    writeln!(out, "{}", format!("{busid}  {id}  {name}").trim_end())?;
    if let Some(order) = &answer.order {
        writeln!(out, "\nBy hand: {order}. That goes before every rule.")?;
    }
    if let Some(FollowsAnswer { id: before, rule, location }) = &answer.follows {
        // Its own trail names it once it is attached.
        let what = if before == id { "another device" } else { before };
        writeln!(
            out,
            "\nIdentity kept: it follows {what} in its port, and goes the same way. That goes before every \
             rule.\n  {rule} ({location})"
        )?;
    }
    if answer.rules.is_empty() {
        writeln!(out, "\nThere is no rule.")?;
    }
    for rule in &answer.rules {
        let matches = match (rule.matches, rule.aside) {
            (_, Some("enabled")) => "is switched off",
            (true, Some(_)) => "matches, but its `when` does not hold",
            (true, None) => "matches",
            (false, _) => "does not match",
        };
        writeln!(out, "\n{} ({}) {matches}", rule.rule, rule.location)?;
        // Of a rule that does not match, what holds is no news.
        write_conditions(&rule.conditions, !rule.matches, 4, out)?;
        if rule.matches && rule.aside.is_none() {
            writeln!(out, "  {}", rule.action)?;
        }
    }
    match answer.unasked {
        0 => {}
        1 => writeln!(out, "\n1 rule below was not asked.")?,
        count => writeln!(out, "\n{count} rules below were not asked.")?,
    }
    if let Some(refusal) = &answer.refusal {
        writeln!(out, "\nIt must stay in dom0: {refusal}.")?;
        answer.advice.iter().try_for_each(|advice| writeln!(out, "  {advice}"))?;
    }
    if let (Some(because), Some(next)) = (&answer.because, &answer.next) {
        writeln!(out, "\nIt {because}.\nNext: {next}.")?;
    }
    Ok(())
}

fn write_conditions(
    conditions: &[ConditionAnswer],
    failed_only: bool,
    indent: usize,
    out: &mut dyn Write,
) -> io::Result<()> {
    for condition in conditions.iter().filter(|it| !failed_only || !it.holds) {
        let sign = if condition.holds { "yes" } else { "no " };
        let ConditionAnswer { key, wanted, .. } = condition;
        let found = match &condition.found {
            Some(found) => format!("it has {found}"),
            None if condition.within.is_empty() => "it has none".to_owned(),
            None => String::new(),
        };
        let line = format!("{:indent$}{sign} {key}: {wanted}   {found}", "");
        writeln!(out, "{}", line.trim_end())?;
        for within in &condition.within {
            let matches = if within.matches { "matches" } else { "does not match" };
            writeln!(out, "{:indent$}      {} {matches}", "", within.of)?;
            write_conditions(&within.conditions, false, indent + 8, out)?;
        }
    }
    Ok(())
}

fn write_missing(without_xen: &Error, err: &mut dyn Write) -> io::Result<()> {
    writeln!(err, "pvusb-agent: nothing is said of domains and ports: {}", chain(without_xen))
}
