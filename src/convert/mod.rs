//! SOMEBODY ELSE'S POLICY in, a policy of ours out: xapi's, USBGuard's, vhotplug's, OpenXT's.
//!
//! Each format has a file of its own: it reads the text, with every mistake at its place, and says in
//! our language what the rules mean there, in the order in which they are asked there. What has no
//! equivalent is told, and errs to one side where it can: no rule lets a device go where it would not
//! have gone before. `docs/convert.md` has the exceptions.
//!
//! What comes out is a policy that `check` takes, whatever went in.
//!
//! Not in here: files, what is plugged, what runs. Facts about the formats are from the projects' own
//! documentation and sources, which each file names.

mod draft;
mod openxt;
mod usbguard;
mod vhotplug;
pub(crate) mod write;
mod xapi;

pub use draft::{Converted, Note};

use crate::policy::text::{Code, Finding, Node, Report, SourceText, Span, Value, grow};
use crate::policy::{Problems, Source};

/// Whose policy it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// XCP-ng's and XenServer's `usb-policy.conf`.
    Xapi,
    /// USBGuard's rules.
    UsbGuard,
    /// The JSON of vhotplug and ghaf.
    Vhotplug,
    /// OpenXT's `usb-rules`, as JSON.
    OpenXt,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Xapi, Self::UsbGuard, Self::Vhotplug, Self::OpenXt];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Xapi => "xapi",
            Self::UsbGuard => "usbguard",
            Self::Vhotplug => "vhotplug",
            Self::OpenXt => "openxt",
        }
    }

    /// Whether its rules name no domain, so that one has to be given.
    pub fn needs_domain(self) -> bool {
        self == Self::Xapi
    }
}

/// Which format a text is in, if it is unmistakable. A text that cannot be read is in none.
pub fn detect(source: Source<'_>) -> Option<Format> {
    let (text, fault) = SourceText::new(source);
    if fault.is_some() {
        return None;
    }
    if text.as_str().trim_start().starts_with('{') {
        return detect_json(&grow(&text, &mut Report::new(&text))?);
    }
    let mut found = None;
    for line in text.as_str().lines().map(str::trim_start) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let format = match (xapi::looks_like(line), usbguard::looks_like(line)) {
            (true, false) => Format::Xapi,
            (false, true) => Format::UsbGuard,
            _ => return None,
        };
        if found.is_some_and(|found| found != format) {
            return None;
        }
        found = Some(format);
    }
    found
}

fn detect_json(root: &Node) -> Option<Format> {
    let Value::Map(entries) = &root.value else { return None };
    let keys = || entries.iter().map(|entry| entry.key.as_str());
    let is_number = |key: &str| key.bytes().all(|byte| byte.is_ascii_digit());
    let vhotplug = keys().any(|key| vhotplug::SECTIONS.contains(&key));
    let openxt =
        keys().any(|key| key == openxt::RULES) || keys().count() > 0 && keys().all(is_number);
    match (vhotplug, openxt) {
        (true, false) => Some(Format::Vhotplug),
        (false, true) => Some(Format::OpenXt),
        _ => None,
    }
}

/// Converts the text of a policy. `domain` is where xapi's devices go; the others say that themselves.
///
/// # Errors
///
/// Every mistake of the text, at its place; also when what becomes of it is too much for a policy.
pub fn convert(source: Source<'_>, format: Format, domain: &str) -> Result<Converted, Problems> {
    let (text, fault) = SourceText::new(source);
    let mut report = Report::new(&text);
    let mut converted = None;
    if let Some(fault) = fault {
        report.add(fault);
    } else {
        let draft = match format {
            Format::Xapi => Some(xapi::draft(&text, domain, &mut report)),
            Format::UsbGuard => Some(usbguard::draft(&text, &mut report)),
            Format::Vhotplug => {
                grow(&text, &mut report).map(|root| vhotplug::draft(&text, &root, &mut report))
            }
            Format::OpenXt => {
                grow(&text, &mut report).map(|root| openxt::draft(&text, &root, &mut report))
            }
        };
        if report.found() == 0 {
            converted = draft.and_then(|draft| draft.finish(&mut report));
        }
    }
    match (report.finish(), converted) {
        (None, Some(converted)) => Ok(converted),
        (Some(problems), _) => Err(problems),
        // Without a word in the report there is something.
        (None, None) => Err(Problems::unreadable(source.name, "nothing became of it")),
    }
}

/// The problem of a text whose format cannot be told.
pub fn unknown_format(source: Source<'_>) -> Problems {
    let (text, fault) = SourceText::new(source);
    let mut report = Report::new(&text);
    let message = "the format of this text cannot be told";
    let finding = Finding::new(Code::UnknownFormat, Span { start: 0, end: 0 }, message);
    let words = Format::ALL.map(Format::word).join(", ");
    report.add(fault.unwrap_or_else(|| finding.help(format!("say `--from` with one of {words}"))));
    report.finish().unwrap_or_else(|| Problems::unreadable(source.name, message))
}

/// The most rules of a text whose rules are held against each other.
const MAX_RULES: usize = 10_000;

/// Whether there are few enough rules to be held against each other; it is told if not.
fn are_few(count: usize, report: &mut Report<'_>) -> bool {
    if count > MAX_RULES {
        report.add(draft::not_a_policy(&format!("there are more than {MAX_RULES} rules")));
    }
    count <= MAX_RULES
}

/// The lines of a text with the place where each starts; without what ends them.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut start = 0;
    text.split_inclusive('\n').map(move |line| {
        let at = start;
        start += line.len();
        (at, line.trim_end_matches(['\n', '\r']))
    })
}
