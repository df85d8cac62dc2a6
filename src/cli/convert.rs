//! `pvusb-agent convert`: somebody else's policy as one of ours.
//!
//! Reads and shows. What the rules mean, `convert` says.

use super::{EX_CONFIG, EX_IOERR, EX_LOSSES, EX_OK, EX_USAGE};
use crate::convert::{self, Converted, Format, Note, convert, detect};
use crate::model::Text;
use crate::policy::{Problems, Source, compile};
use crate::policy_file;
use clap::{Args, ValueEnum};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};

pub(super) const HELP: &str = "Examples:
  pvusb-agent convert --domain kiosk /etc/xensource/usb-policy.conf >policy.yaml
  pvusb-agent convert --from usbguard /etc/usbguard/rules.conf >policy.yaml

The exit code is 1 if something was not carried over: it is told, and stands in the policy at its place.";

/// Arguments of `convert`.
#[derive(Args, Clone, Debug)]
pub(super) struct ConvertArgs {
    /// The policy to convert; `-` is standard input
    #[arg(value_name = "FILE")]
    file: OsString,
    /// Whose policy it is; without it, that is told by its text
    #[arg(long, value_name = "FORMAT")]
    from: Option<Format>,
    /// The domain that gets what xapi's policy allows; the others name their domains
    #[arg(long, value_name = "NAME")]
    domain: Option<String>,
}

impl ValueEnum for Format {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        let help = match self {
            Self::Xapi => "usb-policy.conf of XCP-ng and XenServer",
            Self::UsbGuard => "rules.conf of USBGuard",
            Self::Vhotplug => "JSON of vhotplug and ghaf",
            Self::OpenXt => "usb-rules of OpenXT's database, as JSON",
        };
        Some(clap::builder::PossibleValue::new(self.word()).help(help))
    }
}

/// What is wrong with `--domain`.
#[derive(Debug, thiserror::Error)]
pub(super) enum DomainMistake {
    #[error("its rules name no domain: say --domain NAME")]
    Missing,
    #[error("its rules do not ask for --domain: leave it out")]
    NotAsked,
    #[error("--domain: {0}")]
    NoDomain(String),
}

/// Why `name` cannot be a domain that a rule names.
pub(super) fn no_domain(name: &str) -> Option<DomainMistake> {
    let rule = serde_json::json!({"match": {"id": "*:*"}, "attach": name});
    let text = serde_json::json!({"version": "1", "rules": [rule]}).to_string();
    let problems = compile(Source { name: "--domain", bytes: text.as_bytes() }).err()?;
    problems.iter().next().map(|it| DomainMistake::NoDomain(it.message().to_owned()))
}

/// Converts: the policy goes to `out`, what is to be known about it to `err`. Gives the exit code.
pub(super) fn run(
    args: &ConvertArgs,
    out: &mut dyn Write,
    err: &mut dyn Write,
    colour: bool,
) -> u8 {
    let name = if args.file == "-" { "<stdin>".into() } else { args.file.to_string_lossy() };
    let bytes = match read(args) {
        Ok(bytes) => bytes,
        Err(error) => {
            return refuse(&Problems::unreadable(&name, &policy_file::words(&error)), err, colour);
        }
    };
    let source = Source { name: &name, bytes: &bytes };
    let Some(format) = args.from.or_else(|| detect(source)) else {
        return refuse(&convert::unknown_format(source), err, colour);
    };
    let mistake = match (&args.domain, format.needs_domain()) {
        (None, true) => Some(DomainMistake::Missing),
        (Some(_), false) => Some(DomainMistake::NotAsked),
        (Some(domain), true) => no_domain(domain),
        (None, false) => None,
    };
    let shown = Text::from(&*name);
    if let Some(mistake) = mistake {
        let written = writeln!(err, "pvusb-agent: {shown} ({}): {mistake}", format.word());
        return if written.is_ok() { EX_USAGE } else { EX_IOERR };
    }
    let domain = args.domain.as_deref().unwrap_or_default();
    let converted = match convert(source, format, domain) {
        Ok(converted) => converted,
        Err(problems) => return refuse(&problems, err, colour),
    };
    let written = out.write_all(converted.policy.as_bytes()).and_then(|()| out.flush());
    match written.and_then(|()| tell(&converted, &shown, format, err)) {
        Err(_) => EX_IOERR,
        Ok(()) if converted.lost() > 0 => EX_LOSSES,
        Ok(()) => EX_OK,
    }
}

fn read(args: &ConvertArgs) -> io::Result<Vec<u8>> {
    if args.file == "-" {
        return policy_file::read_from(io::stdin().lock());
    }
    policy_file::read_from(File::open(&args.file)?)
}

fn refuse(problems: &Problems, err: &mut dyn Write, colour: bool) -> u8 {
    match write!(err, "{}", problems.render(colour)) {
        Ok(()) => EX_CONFIG,
        Err(_) => EX_IOERR,
    }
}

/// What was not carried over, line by line, and how many rules there are.
fn tell(converted: &Converted, name: &Text, format: Format, err: &mut dyn Write) -> io::Result<()> {
    for Note { line, text, .. } in converted.notes.iter().filter(|note| note.is_lost) {
        match line {
            Some(line) => writeln!(err, "{name}:{line}: not carried over: {text}")?,
            None => writeln!(err, "{name}: not carried over: {text}")?,
        }
    }
    let rules = converted.rules;
    let rules = format!("{rules} rule{}", if rules == 1 { "" } else { "s" });
    let lost = match converted.lost() {
        0 => "everything was carried over".to_owned(),
        1 => "1 thing was not carried over".to_owned(),
        count => format!("{count} things were not carried over"),
    };
    writeln!(err, "{name} ({}): {rules}, {lost}", format.word())
}
