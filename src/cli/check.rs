//! `pvusb-agent check`: every problem of policy files, shown at its place.
//!
//! Reads and shows. What a problem is, `policy` decides; which domains this host knows, `host` tells.

use super::{DEFAULT_POLICY, endpoint, look, write_schema};
use crate::host::configured;
use crate::policy::{self, Linted, Mentions, Policy, Problem, Problems, Role, Source};
use crate::policy_file::{self, DROP_INS, InForce, PolicyFile};
use clap::Args;
use serde::Serialize;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// All files are good.
const EX_OK: u8 = 0;
/// The answer cannot be written (`sysexits.h`).
const EX_IOERR: u8 = 74;
/// A file is not a policy (`sysexits.h`).
const EX_CONFIG: u8 = 78;

/// The main file in a directory of policies.
const MAIN: &str = "policy.yaml";

/// Arguments of `check`.
#[derive(Args, Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub struct CheckArgs {
    /// Policy files, or directories of them; `-` is standard input. Without any: the policy that is
    /// installed, with all its files
    ///
    /// A directory with a policy.yaml is one policy with all its files; of another directory each file
    /// counts by itself, as a drop-in does.
    #[arg(value_name = "FILE")]
    pub files: Vec<OsString>,
    /// Answer in one JSON document, for editors and scripts
    #[arg(long)]
    pub json: bool,
    /// Show each good policy as it was understood, with the defaults filled in
    #[arg(long, conflicts_with = "json")]
    pub show: bool,
    /// Print the JSON Schema of policy files, for editors, and check nothing
    #[arg(long, conflicts_with_all = ["json", "show", "files"])]
    pub schema: bool,
    /// Let warnings count as errors do: with one, the exit code is 78
    #[arg(long)]
    pub deny_warnings: bool,
    /// Where xl's configurations are: a domain that none of them knows, and none that is there now, is
    /// warned of
    #[arg(long, value_name = "DIR", default_value = configured::XL_DIR)]
    pub domains: PathBuf,
}

/// Checks the files: what is good goes to `out`, problems go to `err`, in `colour` if wanted; all
/// goes to `out` as JSON. Returns the exit code: 0 when all are good, 78 when one is not (or has
/// warnings, if these are denied), 74 when the answer cannot be written.
pub fn run(args: &CheckArgs, out: &mut dyn Write, err: &mut dyn Write, colour: bool) -> u8 {
    if args.schema {
        return write_schema(&policy::json_schema(), out);
    }
    let mut files: Vec<Checked> = if args.files.is_empty() {
        vec![Checked::whole(Path::new(DEFAULT_POLICY))]
    } else {
        args.files.iter().flat_map(checked).collect()
    };
    if let Some(known) = look::known_domains(&args.domains, endpoint()) {
        for file in &mut files {
            file.miss(&known);
        }
    }
    let is_good =
        |file: &Checked| file.result.is_ok() && !(args.deny_warnings && file.warnings.is_some());
    let written = if args.json {
        write_json(&files, out)
    } else {
        files.iter().try_for_each(|file| write_text(file, args.show, out, err, colour))
    };
    match written.and_then(|()| out.flush()) {
        Err(_) => EX_IOERR,
        Ok(()) if files.iter().all(is_good) => EX_OK,
        Ok(()) => EX_CONFIG,
    }
}

struct Checked {
    name: String,
    result: Result<Policy, Problems>,
    warnings: Option<Problems>,
    mentions: Mentions,
    /// The files that it has besides the one that names it.
    drop_ins: Vec<PolicyFile>,
}

/// What an argument means.
fn checked(argument: &OsString) -> Vec<Checked> {
    let path = Path::new(argument);
    if argument == "-" {
        let name = "<stdin>".to_owned();
        return vec![Checked::alone(from_stdin(&name), name)];
    }
    let in_drop_ins = |path: &Path| path.parent().is_some_and(|parent| parent.ends_with(DROP_INS));
    if !path.is_dir() {
        let role = if in_drop_ins(path) { Role::DropIn } else { Role::Main };
        return vec![Checked::file(path, role)];
    }
    let main = path.join(MAIN);
    if main.exists() {
        return vec![Checked::whole(&main)];
    }
    match policy_file::drop_ins(path) {
        Ok(paths) if paths.is_empty() => {
            let name = path.to_string_lossy().into_owned();
            let why =
                "there is no policy in this directory: neither policy.yaml nor another *.yaml";
            vec![Checked::alone(Err(Problems::unreadable(&name, why)), name)]
        }
        Ok(paths) => paths.iter().map(|path| Checked::file(path, Role::DropIn)).collect(),
        Err(problems) => vec![Checked::alone(Err(problems), path.to_string_lossy().into_owned())],
    }
}

impl Checked {
    fn alone(result: Result<Linted, Problems>, name: String) -> Self {
        let (result, warnings, mentions) = match result {
            Ok(Linted { policy, warnings, mentions }) => (Ok(policy), warnings, mentions),
            Err(problems) => (Err(problems), None, Mentions::default()),
        };
        Self { name, result, warnings, mentions, drop_ins: Vec::new() }
    }

    fn file(path: &Path, role: Role) -> Self {
        Self::alone(policy_file::lint(path, role), path.to_string_lossy().into_owned())
    }

    /// Warns of the domains that are none of these.
    fn miss(&mut self, known: &[configured::Known]) {
        let missed = self.mentions.unknown_to(known);
        self.warnings = Problems::joined(self.warnings.take().into_iter().chain(missed));
    }

    /// A policy with everything that belongs to it.
    fn whole(main: &Path) -> Self {
        let name = main.to_string_lossy().into_owned();
        match policy_file::load_in_force(main) {
            Ok(InForce { policy, files, warnings, mentions, .. }) => {
                let drop_ins = files.into_iter().filter(|file| file.role == Role::DropIn).collect();
                Self { name, result: Ok(policy), warnings, mentions, drop_ins }
            }
            Err(problems) => Self::alone(Err(problems), name),
        }
    }
}

fn from_stdin(name: &str) -> Result<Linted, Problems> {
    let bytes = policy_file::read_from(io::stdin().lock())
        .map_err(|error| Problems::unreadable(name, &policy_file::words(&error)))?;
    policy::lint_files(&[(Role::Main, Source { name, bytes: &bytes })])
}

fn write_text(
    file: &Checked,
    show: bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
    colour: bool,
) -> io::Result<()> {
    let name = crate::model::Text::from(&*file.name);
    match &file.result {
        Ok(policy) => {
            let rules = counted(policy.rules().len(), "rule");
            let said = match &file.warnings {
                None => "no problem".to_owned(),
                Some(warnings) => {
                    writeln!(err, "{}", warnings.render(colour))?;
                    counted(warnings.len(), "warning")
                }
            };
            let name = match file.drop_ins.len() {
                0 => name.to_string(),
                count => format!("{name} with {}", counted(count, "drop-in")),
            };
            if show {
                // The line stands as a comment above the policy, so that the whole is one.
                let yaml = policy.to_yaml().map_err(io::Error::other)?;
                write!(out, "# {name}: {rules}, {said}\n---\n{yaml}")
            } else {
                writeln!(out, "{name}: {rules}, {said}")
            }
        }
        Err(problems) => {
            writeln!(err, "{}", problems.render(colour))?;
            writeln!(err, "{name}: {}", counted(problems.len(), "problem"))
        }
    }
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[derive(Serialize)]
struct Answer<'a> {
    files: Vec<FileAnswer<'a>>,
}

#[derive(Serialize)]
struct FileAnswer<'a> {
    file: &'a str,
    ok: bool,
    /// How many rules it has; `null` when it is not a policy.
    rules: Option<usize>,
    /// Errors, or warnings when it is one.
    problems: Vec<&'a Problem>,
    /// The drop-ins that it was read with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    drop_ins: Vec<DropInAnswer>,
}

#[derive(Serialize)]
struct DropInAnswer {
    file: String,
    masked: bool,
}

fn write_json(files: &[Checked], out: &mut dyn Write) -> io::Result<()> {
    let files = files.iter().map(|file| FileAnswer {
        file: &file.name,
        ok: file.result.is_ok(),
        rules: file.result.as_ref().ok().map(|policy| policy.rules().len()),
        problems: file
            .result
            .as_ref()
            .err()
            .or(file.warnings.as_ref())
            .into_iter()
            .flatten()
            .collect(),
        drop_ins: file.drop_ins.iter().map(shown).collect(),
    });
    serde_json::to_writer_pretty(&mut *out, &Answer { files: files.collect() })?;
    writeln!(out)
}

fn shown(file: &PolicyFile) -> DropInAnswer {
    DropInAnswer { file: file.path.to_string_lossy().into_owned(), masked: file.masked }
}
