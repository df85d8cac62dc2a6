//! `pvusb-agent rehearse`: what a policy does on a day that somebody has written down.
//!
//! The agent's own state machine runs in the simulated world; nothing of this host is read or
//! touched but the scenario and the policy's files.

use super::{EX_CONFIG, EX_IOERR, EX_OK, write_schema};
use crate::policy::{Location, Problems, Source};
use crate::policy_file;
use crate::sim::{self, Op, Scenario, Told, World};
use crate::telemetry::{self, Notable};
use clap::Args;
use serde::Serialize;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What was expected is not so.
const EX_UNMET: u8 = 1;

/// Arguments of `rehearse`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Example of a scenario:\n  \
    version: 1\n  \
    timeline:\n    \
    - {at: 0s, start: {domain: kiosk}}\n    \
    - {at: 5s, plug: {port: 1-1, id: \"05e0:1200\", product: Scanner}}\n    \
    - {at: 9s, kill-agent: 2s}\n    \
    - {at: 20s, expect: {device: 1-1, in: kiosk}}\n\
    Everything that can stand there is in docs/policy.md; a longer one is docs/scenarios/bad-day.yaml.\n\
    Exit codes: 0 all as expected, 1 not so, 74 cannot write, 78 bad policy or scenario.")]
pub(super) struct RehearseArgs {
    /// The policy's file; without it, the policies that the scenario itself holds
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The scenario's file
    #[arg(value_name = "SCENARIO", required_unless_present = "schema")]
    scenario: Option<PathBuf>,
    /// Answer in one JSON document
    #[arg(long)]
    json: bool,
    /// Print the JSON Schema of scenarios, for editors, and play none
    #[arg(long, conflicts_with_all = ["policy", "scenario", "json"])]
    schema: bool,
}

pub(super) fn run(
    args: &RehearseArgs,
    out: &mut dyn Write,
    err: &mut dyn Write,
    colour: bool,
) -> u8 {
    // Without a schema to print there is a scenario.
    let Some(path) = args.scenario.as_deref().filter(|_| !args.schema) else {
        return write_schema(&sim::json_schema(), out);
    };
    let (scenario, setting) = match load(args, path) {
        Ok(loaded) => loaded,
        Err(problems) => {
            return match write!(err, "{}", problems.render(colour)) {
                Ok(()) => EX_CONFIG,
                Err(_) => EX_IOERR,
            };
        }
    };
    let world = play(&scenario, setting);
    let lines = lines(&scenario, world);
    let written = if args.json { write_json(&lines, out) } else { write_text(&lines, out) };
    match written.and_then(|()| out.flush()) {
        Err(_) => EX_IOERR,
        Ok(()) if lines.iter().all(|line| line.ok != Some(false)) => EX_OK,
        Ok(()) => EX_UNMET,
    }
}

fn load(args: &RehearseArgs, path: &Path) -> Result<(Scenario, sim::Setting), Problems> {
    let policy = args.policy.as_deref().map(policy_file::load_in_force).transpose()?;
    let scenario = load_scenario(path)?;
    let setting = sim::Setting { listen: true, ..scenario.setting(policy.map(|it| it.policy)) };
    Ok((scenario, setting))
}

fn load_scenario(path: &Path) -> Result<Scenario, Problems> {
    let name = path.to_string_lossy();
    let bytes = policy_file::read(path)
        .map_err(|error| Problems::unreadable(&name, &policy_file::words(&error)))?;
    sim::read(Source { name: &name, bytes: &bytes })
}

#[expect(clippy::disallowed_methods, reason = "the made-up time needs some instant to begin with")]
fn play(scenario: &Scenario, setting: sim::Setting) -> World {
    let mut world = World::new(setting, Instant::now());
    for timed in &scenario.timeline {
        world.play(timed);
    }
    world.come_to_rest();
    if world.violations.is_empty() && world.has_agent() {
        world.judge();
    }
    world
}

/// One line of the answer.
#[derive(Serialize)]
struct Line {
    /// Milliseconds since the beginning.
    at_ms: u64,
    /// `host`, `agent`, `expect`, or `rule` for what the agent may never do.
    who: &'static str,
    text: String,
    /// Whether it is as it should be; `null` for what just happens.
    ok: Option<bool>,
}

fn lines(scenario: &Scenario, world: World) -> Vec<Line> {
    let expects = scenario.timeline.iter().zip(&scenario.places);
    let mut places =
        expects.filter(|(timed, _)| matches!(timed.op, Op::Expect(_))).map(|(_, place)| place);
    let mut lines = Vec::new();
    for told in world.told {
        match told {
            Told::Happened(at, text) => lines.push(line(at, "host", text, None)),
            Told::Said(at, event) => {
                let words = telemetry::words(&Notable::Event(event));
                lines.extend(words.map(|text| line(at, "agent", text, None)));
            }
            Told::Expected(at, verdict) => {
                let place = places.next().map(Location::to_string).unwrap_or_default();
                let ok = verdict.is_ok();
                let (Ok(text) | Err(text)) = verdict;
                lines.push(line(at, "expect", format!("{place}: {text}"), Some(ok)));
            }
        }
    }
    for violation in &world.violations {
        lines.push(line(violation.at, "rule", violation.to_string(), Some(false)));
    }
    lines
}

fn line(at: Duration, who: &'static str, text: String, ok: Option<bool>) -> Line {
    Line { at_ms: u64::try_from(at.as_millis()).unwrap_or(u64::MAX), who, text, ok }
}

fn write_text(lines: &[Line], out: &mut dyn Write) -> io::Result<()> {
    for Line { at_ms, who, text, ok } in lines {
        let (minutes, seconds, millis) = (at_ms / 60_000, at_ms / 1000 % 60, at_ms % 1000);
        let mark = match ok {
            None => "",
            Some(true) => "as expected: ",
            Some(false) => "NOT AS IT SHOULD BE: ",
        };
        writeln!(out, "{minutes:02}:{seconds:02}.{millis:03}  {who:<6}  {mark}{text}")?;
    }
    Ok(())
}

#[derive(Serialize)]
struct Answer<'a> {
    ok: bool,
    timeline: &'a [Line],
}

fn write_json(lines: &[Line], out: &mut dyn Write) -> io::Result<()> {
    let ok = lines.iter().all(|line| line.ok != Some(false));
    serde_json::to_writer_pretty(&mut *out, &Answer { ok, timeline: lines })?;
    writeln!(out)
}
