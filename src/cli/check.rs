//! `pvusb-agent check`: every problem of policy files, shown at its place.
//!
//! Reads and shows. What a problem is, `policy` decides.

use crate::policy::{self, Policy, Problem, Problems, Source};
use crate::policy_file;
use clap::Args;
use serde::Serialize;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;

/// All files are good.
const EX_OK: u8 = 0;
/// The answer cannot be written (`sysexits.h`).
const EX_IOERR: u8 = 74;
/// A file is not a policy (`sysexits.h`).
const EX_CONFIG: u8 = 78;

/// Arguments of `check`.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// Policy files; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<OsString>,
    /// Answer in one JSON document, for editors and scripts
    #[arg(long)]
    pub json: bool,
    /// Show each good policy as it was understood, with the defaults filled in
    #[arg(long, conflicts_with = "json")]
    pub show: bool,
}

/// Checks the files: what is good goes to `out`, problems go to `err`, in `colour` if wanted; all
/// goes to `out` as JSON. Returns the exit code: 0 when all are good, 78 when one is not, 74 when
/// the answer cannot be written.
pub fn run(args: &CheckArgs, out: &mut dyn Write, err: &mut dyn Write, colour: bool) -> u8 {
    let files: Vec<Checked> = args.files.iter().map(Checked::new).collect();
    let written = if args.json {
        write_json(&files, out)
    } else {
        files.iter().try_for_each(|file| write_text(file, args.show, out, err, colour))
    };
    match written.and_then(|()| out.flush()) {
        Err(_) => EX_IOERR,
        Ok(()) if files.iter().all(|file| file.result.is_ok()) => EX_OK,
        Ok(()) => EX_CONFIG,
    }
}

struct Checked {
    name: String,
    result: Result<Policy, Problems>,
}

impl Checked {
    fn new(file: &OsString) -> Self {
        if file == "-" {
            let name = "<stdin>".to_owned();
            return Self { result: from_stdin(&name), name };
        }
        let name = file.to_string_lossy().into_owned();
        Self { name, result: policy_file::load(Path::new(file)) }
    }
}

fn from_stdin(name: &str) -> Result<Policy, Problems> {
    let bytes = policy_file::read_from(io::stdin().lock())
        .map_err(|error| Problems::unreadable(name, &policy_file::words(&error)))?;
    policy::compile(Source { name, bytes: &bytes })
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
            if show {
                // The line stands as a comment above the policy, so that the whole is one.
                let yaml = policy.to_yaml().map_err(io::Error::other)?;
                write!(out, "# {name}: {rules}, no problem\n---\n{yaml}")
            } else {
                writeln!(out, "{name}: {rules}, no problem")
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
    problems: Vec<&'a Problem>,
}

fn write_json(files: &[Checked], out: &mut dyn Write) -> io::Result<()> {
    let files = files.iter().map(|file| FileAnswer {
        file: &file.name,
        ok: file.result.is_ok(),
        rules: file.result.as_ref().ok().map(|policy| policy.rules().len()),
        problems: file.result.as_ref().err().into_iter().flatten().collect(),
    });
    serde_json::to_writer_pretty(&mut *out, &Answer { files: files.collect() })?;
    writeln!(out)
}
