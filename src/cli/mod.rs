//! One file per verb; here is what they have in common: the command line and the exit codes.
//!
//! Exit codes are those of `sysexits.h`, so that scripts and systemd can tell them apart.

mod by_hand;
pub mod check;
mod complete;
mod controller;
mod convert;
mod devices;
mod diff;
mod doctor;
mod domains;
mod explain;
mod generate;
mod list;
mod log;
mod look;
mod metrics;
mod order;
mod record;
mod rehearse;
mod run;
mod sheet;
mod socket;
mod status;
mod table;
mod test;
mod watch;

use crate::host::xenstore::Endpoint;
use crate::model::chain;
use crate::policy::Policy;
use crate::{policy_file, telemetry};
use clap::{CommandFactory, Parser, Subcommand};
use std::error::Error;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

/// Everything went well.
pub const EX_OK: u8 = 0;
/// The agent refuses, or it could not be done.
pub const EX_REFUSED: u8 = 1;
/// `doctor` has found something.
pub const EX_FINDINGS: u8 = 1;
/// `diff --exit-code` has found something.
pub const EX_CHANGES: u8 = 1;
/// `log --verify`: the audit log does not hold.
pub const EX_BROKEN: u8 = 1;
/// `convert` could not carry everything over.
pub const EX_LOSSES: u8 = 1;
/// The command line is wrong.
pub const EX_USAGE: u8 = 64;
/// udev, xenstore or the agent is not there.
pub const EX_UNAVAILABLE: u8 = 69;
/// The system has no room.
pub const EX_OSERR: u8 = 71;
/// The answer cannot be written.
pub const EX_IOERR: u8 = 74;
/// The policy is bad.
pub const EX_CONFIG: u8 = 78;

/// Where the policy is, unless the command line says otherwise.
pub const DEFAULT_POLICY: &str = "/etc/pvusb-agent/policy.yaml";

/// Hot-plug automation for USB devices in Xen's dom0
#[derive(Debug, Parser)]
#[command(name = "pvusb-agent", version, about, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 all well, 1 refused or not done (doctor, diff: something was found; test: one has failed; \
    convert: something was lost; log: it does not hold), 64 wrong usage, 69 udev, xenstore or the agent is not there, 74 cannot write, \
    78 bad policy or test.\n\
    Environment: XENSTORED_PATH names xenstored's socket, PVUSB_AGENT_SOCKET the agent's; \
    PVUSB_AGENT_LOG is one of error, warn, info, debug, trace.\n\
    Messages: docs/errors.md, in share/doc/pvusb-agent where it was installed, says of each what to do next; docs/messages.md of \
    the lines of the running agent, as journalctl -x does."
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Follow devices and domains, and attach by policy, until told to end
    ///
    /// SIGTERM ends it (attachments stay, unless --detach-on-exit is given), SIGHUP reads the policy
    /// anew; if the new one is bad, the old one stays in force.
    Run(run::RunArgs),
    /// Check policy files and show every problem at its place
    Check(check::CheckArgs),
    /// List the plugged devices, and which rule would take each
    ///
    /// It looks for itself and judges by the policy on the disk; it says so when no agent runs that would
    /// carry the rules out.
    Devices(devices::DevicesArgs),
    /// Tell why a device is where it is: which rules were asked, and what each of them said
    ///
    /// It looks for itself and asks no agent, so it knows nothing of what an agent remembers, such as
    /// devices that are held down. With --host it looks at nothing but files.
    #[command(after_help = explain::HELP)]
    Explain(explain::ExplainArgs),
    /// Tell what another policy would change on this host, device by device
    #[command(after_help = diff::HELP)]
    Diff(diff::DiffArgs),
    /// Write a first policy from what is plugged
    ///
    /// A rule for each device, with what it is in comments. Loading it changes nothing: the rules are
    /// switched off, and what dom0 needs is protected.
    #[command(after_help = generate::HELP)]
    Generate(generate::GenerateArgs),
    /// Convert a policy of xapi, USBGuard, vhotplug or OpenXT
    ///
    /// The policy goes to standard output, with comments where there is no equivalent. What could not be
    /// carried over keeps devices where they are rather than letting them go.
    #[command(after_help = convert::HELP)]
    Convert(convert::ConvertArgs),
    /// Run the tests of a policy: devices and domains that are written down, and what is expected of them
    ///
    /// The agent's own core decides; nothing of this host is looked at but the files.
    #[command(after_help = test::HELP)]
    Test(test::TestArgs),
    /// Write down what is plugged, in the form that `explain --host` and `test` read
    #[command(after_help = record::HELP)]
    Record(record::RecordArgs),
    /// List what is attached where, by the agent and by others
    ///
    /// It looks for itself. Reasons are the running agent's; without one they are by the policy on the disk,
    /// and it says so.
    List(list::ListArgs),
    /// List the domains, their device models and controllers, and how many ports are free
    ///
    /// It looks for itself and asks no agent.
    #[command(after_help = domains::HELP)]
    Domains(domains::DomainsArgs),
    /// Make, remove or list the controllers of a domain by hand
    ///
    /// It can be used beside a running agent, and without one. What is made here is used by the agent
    /// and never removed by it. Only root can make and remove.
    #[command(after_help = controller::HELP)]
    Controller(controller::ControllerArgs),
    /// Give a device to a domain, whatever the policy says
    ///
    /// The order holds until the device is unplugged or the host is booted. If the domain does not run,
    /// the device waits for it in dom0. What somebody attached with xl is left alone.
    #[command(after_help = order::ATTACH_HELP)]
    Attach(order::AttachArgs),
    /// Take a device back to dom0 and leave it there until it is plugged again
    #[command(after_help = order::DETACH_HELP)]
    Detach(order::DetachArgs),
    /// Keep a device in dom0, also when it is plugged again into the same port
    #[command(after_help = order::HOLD_HELP)]
    Hold(order::HoldArgs),
    /// Let the policy decide about a device again
    ///
    /// Takes back what `attach`, `detach` and `hold` said, also what was remembered; a device that was
    /// taken out with xl counts as new.
    #[command(after_help = order::RELEASE_HELP)]
    Release(order::ReleaseArgs),
    /// Let the running agent read its policy anew
    Reload(status::ReloadArgs),
    /// Tell how the running agent is
    Status(status::StatusArgs),
    /// Show what is plugged where, what goes to which domain and what waits, as it happens
    #[command(after_help = watch::HELP)]
    Watch(watch::WatchArgs),
    /// Tell what the running agent has counted, as Prometheus reads it
    #[command(after_help = metrics::HELP)]
    Metrics(metrics::MetricsArgs),
    /// Tell who or what moved which device where and when, from the audit log; verify it
    #[command(after_help = log::HELP)]
    Log(log::LogArgs),
    /// Find what others left behind, say what it does to the host, and mend it
    ///
    /// It can be used beside a running agent, and without one. Hints may be quite all right; they do
    /// not count for the exit code.
    Doctor(doctor::DoctorArgs),
    /// Play a written scenario in a made-up world, and show what the agent would do
    ///
    /// Devices, domains and time are made up; nothing of this host is touched.
    Rehearse(rehearse::RehearseArgs),
}

/// The command line as it is described: what manual pages and completions are made from.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command line; gives the exit code.
pub fn main(args: impl IntoIterator<Item = OsString>) -> u8 {
    let args: Vec<OsString> = args.into_iter().collect();
    let shell = std::env::var_os(complete::VARIABLE);
    if let Some(question) = complete::Question::asked(shell.as_deref(), &args) {
        return complete::run(question, &mut io::stdout().lock());
    }
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let is_mistake = error.use_stderr();
            let written = error.print();
            return match (is_mistake, written) {
                (true, _) => EX_USAGE,
                (false, Ok(())) => EX_OK,
                (false, Err(_)) => EX_IOERR,
            };
        }
    };
    let (mut out, mut err) = (io::stdout().lock(), io::stderr());
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    match cli.verb {
        Verb::Run(args) => {
            let tape = telemetry::set_up();
            run::run(&args, (endpoint(), tape), &mut err, colour)
        }
        Verb::Check(args) => check::run(&args, &mut out, &mut err, colour),
        Verb::Devices(args) => devices::run(&args, &mut out, &mut err, colour),
        Verb::Explain(args) => explain::run(&args, endpoint(), &mut out, &mut err, colour),
        Verb::Diff(args) => diff::run(&args, endpoint(), &mut out, &mut err, colour),
        Verb::Generate(args) => generate::run(&args, endpoint(), &mut out, &mut err, colour),
        Verb::Convert(args) => convert::run(&args, &mut out, &mut err, colour),
        Verb::Test(args) => test::run(&args, &mut out, &mut err, colour),
        Verb::Record(args) => record::run(&args, endpoint(), &mut out, &mut err, colour),
        Verb::List(args) => list::run(&args, endpoint(), &mut out, &mut err, colour),
        Verb::Domains(args) => domains::run(&args, endpoint(), &mut out, &mut err),
        Verb::Controller(args) => controller::run(&args, endpoint(), &mut out, &mut err),
        Verb::Attach(args) => args.run(&mut out, &mut err),
        Verb::Detach(args) => args.run(&mut out, &mut err),
        Verb::Hold(args) => args.run(&mut out, &mut err),
        Verb::Release(args) => args.run(&mut out, &mut err),
        Verb::Reload(args) => args.run(&mut out, &mut err),
        Verb::Status(args) => args.run(&mut out, &mut err),
        Verb::Watch(args) => watch::run(&args, &mut out, &mut err),
        Verb::Metrics(args) => metrics::run(&args, &mut out, &mut err),
        Verb::Log(args) => log::run(&args, &mut out, &mut err),
        Verb::Doctor(args) => doctor::run(&args, endpoint(), &mut out, &mut err),
        Verb::Rehearse(args) => rehearse::run(&args, &mut out, &mut err, colour),
    }
}

fn endpoint() -> Endpoint {
    Endpoint::from_env(|name| std::env::var_os(name))
}

/// Tells on `err` what went wrong, with everything behind it; gives `code`.
fn fail(err: &mut dyn Write, error: &dyn Error, code: u8) -> u8 {
    match writeln!(err, "pvusb-agent: {}", chain(error)) {
        Ok(()) => code,
        Err(_) => EX_IOERR,
    }
}

/// The same, and on a line of its own what helps.
fn fail_with(err: &mut dyn Write, error: &dyn Error, advice: &str, code: u8) -> u8 {
    let code = fail(err, error, code);
    writeln!(err, "pvusb-agent: {advice}").map_or(EX_IOERR, |()| code)
}

/// Writes a JSON Schema; gives the exit code.
fn write_schema(schema: &serde_json::Value, out: &mut dyn Write) -> u8 {
    let written = serde_json::to_writer_pretty(&mut *out, schema)
        .map_err(io::Error::from)
        .and_then(|()| writeln!(out))
        .and_then(|()| out.flush());
    if written.is_ok() { EX_OK } else { EX_IOERR }
}

/// A policy that a verb is about.
enum Loaded {
    /// It was read.
    Policy(Policy),
    /// None was named, and none is installed.
    None,
    /// It was not, which was told; the exit code.
    Failed(u8),
}

/// Loads the policy that was named, or the installed one, with what is remembered beside it.
fn load_policy(named: Option<&Path>, err: &mut dyn Write, colour: bool) -> Loaded {
    match policy_path(named).map(policy_file::load_in_force) {
        None => Loaded::None,
        Some(Ok(in_force)) => Loaded::Policy(in_force.policy),
        Some(Err(problems)) => Loaded::Failed(match write!(err, "{}", problems.render(colour)) {
            Ok(()) => EX_CONFIG,
            Err(_) => EX_IOERR,
        }),
    }
}

/// The policy's file that a verb is about: the one that was named, or the usual one if it is there.
fn policy_path(named: Option<&Path>) -> Option<&Path> {
    let usual = Path::new(DEFAULT_POLICY);
    named.or_else(|| usual.exists().then_some(usual))
}
