//! What is wrong with a policy: stable codes, a message, a place, a way out.
//!
//! How a problem looks is in `render`.

use super::source::{Excerpt, Position, SourceText, Span};
use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};
use std::sync::Arc;

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The policy is refused.
    Error,
    /// The policy is taken, but hardly says what was meant.
    Warning,
}

/// What kind of problem it is. The numbers are stable: scripts and editors may rely on them, and a
/// number is never given to another problem.
///
/// | numbers | about |
/// |---|---|
/// | P001 – P004 | the file and its characters |
/// | P005 – P011 | YAML, and what of it a policy may use |
/// | P012 – P019 | keys and shapes |
/// | P020 – P039 | values and rules |
/// | P040 – P049, P060 – P069 | matches |
/// | P050 | scenarios |
/// | P051 – P055 | devices, domains and tests on paper |
/// | P070 – P089 | domains, what rules do, files |
/// | P090 – P092 | policies of others that are converted |
/// | P099 | the list of problems itself |
/// | P100 – P199 | warnings: what is understood, and hardly meant |
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    /// P001: the file cannot be read.
    Unreadable,
    /// P002: the text is too long.
    TooLong,
    /// P003: the text is not UTF-8.
    NotUtf8,
    /// P004: a control character, a bidirectional mark or the like.
    HiddenCharacter,
    /// P005: not YAML.
    Syntax,
    /// P006: there is nothing in it.
    Empty,
    /// P007: nested too deeply.
    TooDeep,
    /// P008: too many values.
    TooMany,
    /// P009: a part of YAML that policies do not use: anchors, aliases, tags, merge keys.
    UnusedYaml,
    /// P010: a second document.
    SecondDocument,
    /// P011: a key is given twice.
    DuplicateKey,
    /// P012: a key that is not known here.
    UnknownKey,
    /// P013: a key is missing.
    MissingKey,
    /// P014: a list where a text should be, or the like.
    WrongShape,
    /// P015: a value that runs over several lines.
    SeveralLines,
    /// P016: a version of the language that is not known.
    LanguageVersion,
    /// P020: not a USB id or a pattern of one.
    BadId,
    /// P021: not a USB port or a pattern of ports.
    BadPort,
    /// P022: not a bus address.
    BadBusAddress,
    /// P023: not a domain name.
    BadDomain,
    /// P024: dom0 as the domain to attach to.
    AttachToDom0,
    /// P025: not a duration, or one out of range.
    BadDuration,
    /// P026: not a type of controller that can be made.
    BadControllerType,
    /// P027: not a USB version that a controller can offer.
    BadUsbVersion,
    /// P028: not a count of ports.
    BadPortCount,
    /// P029: `keep` with another word than `dom0`.
    BadKeep,
    /// P030: a match without a key.
    EmptyMatch,
    /// P031: a rule that does not say what is to be done.
    NoAction,
    /// P032: a rule that says more than one thing to be done.
    TwoActions,
    /// P033: a list of domains without a domain.
    NoDomain,
    /// P034: a rule's name that is empty.
    BadRuleName,
    /// P035: neither `true` nor `false`.
    BadTruth,
    /// P036: `keep_last` with another word than `keyboard` and `pointer`.
    BadKeepLast,
    /// P038: not what can become of stale ports.
    BadStalePorts,
    /// P039: not a count of plugs.
    BadPlugCount,
    /// P040: not a pattern of texts: an empty one, a bad regular expression.
    BadTextPattern,
    /// P041: not a class, or a pattern of classes.
    BadClass,
    /// P042: not a category of devices.
    BadCategory,
    /// P043: not a speed.
    BadSpeed,
    /// P044: not a version of USB.
    BadRelease,
    /// P045: not `removable`, `fixed` or `unknown`.
    BadRemovable,
    /// P046: not a name of a property, an attribute or a tag.
    BadUdevName,
    /// P047: a list of alternatives without one.
    EmptyChoice,
    /// P048: a name of a group of devices that is empty or cannot be seen.
    BadGroupName,
    /// P049: a group of devices that is not written above.
    UnknownGroup,
    /// P050: not a value that a scenario of the simulated world takes there.
    BadScenario,
    /// P051: not what a device or a domain on paper can have there.
    BadFact,
    /// P052: a device or a domain that is not written there.
    UnknownName,
    /// P053: two devices in one place, two domains of one number.
    SamePlace,
    /// P054: not what can be expected of a device.
    BadExpectation,
    /// P055: what a test expects is not so.
    Unmet,
    /// P060: more than can be judged in time: too many regular expressions, groups in groups in groups.
    TooIntricate,
    /// P070: not when files are to be read anew.
    BadReload,
    /// P071: not a name that an alias can have.
    BadAlias,
    /// P072: an alias or a group of devices that another file defines too.
    DuplicateName,
    /// P073: not a number that a controller can have.
    BadControllerIndex,
    /// P074: not a port that the controller can have.
    BadTargetPort,
    /// P075: a `when` that says nothing.
    EmptyWhen,
    /// P076: `block` with another word than `true`.
    BadBlock,
    /// P077: what only a rule that attaches can say, in one that does not.
    OnlyWithAttach,
    /// P078: a rule that has to be known again, without a name of its own.
    UnnamedRule,
    /// P079: not what can be done when a device is pulled or becomes another one.
    BadKept,
    /// P090: a text whose format cannot be told, to be converted.
    UnknownFormat,
    /// P091: not what the format says that is converted.
    BadForeignRule,
    /// P092: what becomes of it is not a policy.
    NotConvertible,
    /// P099: there are more problems than are listed.
    MoreProblems,
    /// P100: a rule that is never asked: those above it take all of its devices.
    NeverAsked,
    /// P101: a match that no device can satisfy.
    Impossible,
    /// P102: a rule that has the name of another.
    SameName,
    /// P103: a domain that nothing on this host knows.
    UnknownDomain,
    /// P104: something that PVUSB cannot do for the devices of a rule.
    CannotWork,
    /// P105: a rule that takes dom0's last keyboard or pointer.
    LastInput,
    /// P106: a value without quotes that other readers of YAML take for no text.
    ReadsDifferently,
    /// P199: there are more warnings than are listed.
    MoreWarnings,
}

impl Code {
    /// All codes, in the order of their numbers.
    pub const ALL: [Self; 74] = [
        Self::Unreadable,
        Self::TooLong,
        Self::NotUtf8,
        Self::HiddenCharacter,
        Self::Syntax,
        Self::Empty,
        Self::TooDeep,
        Self::TooMany,
        Self::UnusedYaml,
        Self::SecondDocument,
        Self::DuplicateKey,
        Self::UnknownKey,
        Self::MissingKey,
        Self::WrongShape,
        Self::SeveralLines,
        Self::LanguageVersion,
        Self::BadId,
        Self::BadPort,
        Self::BadBusAddress,
        Self::BadDomain,
        Self::AttachToDom0,
        Self::BadDuration,
        Self::BadControllerType,
        Self::BadUsbVersion,
        Self::BadPortCount,
        Self::BadKeep,
        Self::EmptyMatch,
        Self::NoAction,
        Self::TwoActions,
        Self::NoDomain,
        Self::BadRuleName,
        Self::BadTruth,
        Self::BadKeepLast,
        Self::BadStalePorts,
        Self::BadPlugCount,
        Self::BadTextPattern,
        Self::BadClass,
        Self::BadCategory,
        Self::BadSpeed,
        Self::BadRelease,
        Self::BadRemovable,
        Self::BadUdevName,
        Self::EmptyChoice,
        Self::BadGroupName,
        Self::UnknownGroup,
        Self::BadScenario,
        Self::BadFact,
        Self::UnknownName,
        Self::SamePlace,
        Self::BadExpectation,
        Self::Unmet,
        Self::TooIntricate,
        Self::BadReload,
        Self::BadAlias,
        Self::DuplicateName,
        Self::BadControllerIndex,
        Self::BadTargetPort,
        Self::EmptyWhen,
        Self::BadBlock,
        Self::OnlyWithAttach,
        Self::UnnamedRule,
        Self::BadKept,
        Self::UnknownFormat,
        Self::BadForeignRule,
        Self::NotConvertible,
        Self::MoreProblems,
        Self::NeverAsked,
        Self::Impossible,
        Self::SameName,
        Self::UnknownDomain,
        Self::CannotWork,
        Self::LastInput,
        Self::ReadsDifferently,
        Self::MoreWarnings,
    ];

    /// The number, as it is shown: `P012`.
    pub fn number(self) -> &'static str {
        match self {
            Self::Unreadable => "P001",
            Self::TooLong => "P002",
            Self::NotUtf8 => "P003",
            Self::HiddenCharacter => "P004",
            Self::Syntax => "P005",
            Self::Empty => "P006",
            Self::TooDeep => "P007",
            Self::TooMany => "P008",
            Self::UnusedYaml => "P009",
            Self::SecondDocument => "P010",
            Self::DuplicateKey => "P011",
            Self::UnknownKey => "P012",
            Self::MissingKey => "P013",
            Self::WrongShape => "P014",
            Self::SeveralLines => "P015",
            Self::LanguageVersion => "P016",
            Self::BadId => "P020",
            Self::BadPort => "P021",
            Self::BadBusAddress => "P022",
            Self::BadDomain => "P023",
            Self::AttachToDom0 => "P024",
            Self::BadDuration => "P025",
            Self::BadControllerType => "P026",
            Self::BadUsbVersion => "P027",
            Self::BadPortCount => "P028",
            Self::BadKeep => "P029",
            Self::EmptyMatch => "P030",
            Self::NoAction => "P031",
            Self::TwoActions => "P032",
            Self::NoDomain => "P033",
            Self::BadRuleName => "P034",
            Self::BadTruth => "P035",
            Self::BadKeepLast => "P036",
            Self::BadStalePorts => "P038",
            Self::BadPlugCount => "P039",
            Self::BadTextPattern => "P040",
            Self::BadClass => "P041",
            Self::BadCategory => "P042",
            Self::BadSpeed => "P043",
            Self::BadRelease => "P044",
            Self::BadRemovable => "P045",
            Self::BadUdevName => "P046",
            Self::EmptyChoice => "P047",
            Self::BadGroupName => "P048",
            Self::UnknownGroup => "P049",
            Self::BadScenario => "P050",
            Self::BadFact => "P051",
            Self::UnknownName => "P052",
            Self::SamePlace => "P053",
            Self::BadExpectation => "P054",
            Self::Unmet => "P055",
            Self::TooIntricate => "P060",
            Self::BadReload => "P070",
            Self::BadAlias => "P071",
            Self::DuplicateName => "P072",
            Self::BadControllerIndex => "P073",
            Self::BadTargetPort => "P074",
            Self::EmptyWhen => "P075",
            Self::BadBlock => "P076",
            Self::OnlyWithAttach => "P077",
            Self::UnnamedRule => "P078",
            Self::BadKept => "P079",
            Self::UnknownFormat => "P090",
            Self::BadForeignRule => "P091",
            Self::NotConvertible => "P092",
            Self::MoreProblems => "P099",
            Self::NeverAsked => "P100",
            Self::Impossible => "P101",
            Self::SameName => "P102",
            Self::UnknownDomain => "P103",
            Self::CannotWork => "P104",
            Self::LastInput => "P105",
            Self::ReadsDifferently => "P106",
            Self::MoreWarnings => "P199",
        }
    }

    /// How bad it is.
    pub fn severity(self) -> Severity {
        // As the numbers say.
        if self >= Self::NeverAsked { Severity::Warning } else { Severity::Error }
    }
}

/// One thing that is wrong with a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub(super) code: Code,
    pub(super) message: String,
    pub(super) help: Option<String>,
    pub(super) file: Arc<str>,
    pub(super) at: Option<Excerpt>,
    pub(super) also: Option<(&'static str, Excerpt)>,
}

impl Problem {
    /// What kind of problem it is.
    pub fn code(&self) -> Code {
        self.code
    }

    /// How bad it is.
    pub fn severity(&self) -> Severity {
        self.code.severity()
    }

    /// What is wrong: a fragment in lower case, without a full stop.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it, if that is known.
    pub fn help(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// The name of the text.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Where the culprit starts; `None` when the text could not be had at all.
    pub fn start(&self) -> Option<Position> {
        self.at.as_ref().map(|at| at.start)
    }

    /// Where the culprit ends: the first place after it.
    pub fn end(&self) -> Option<Position> {
        self.at.as_ref().map(|at| at.end)
    }
}

/// The form for editors and scripts: `code`, `severity`, `message`, `file`, `line`, `column`,
/// `end` (`line` and `column` after the last character), `help`. What is not known is `null`.
impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut record = serializer.serialize_struct("Problem", 8)?;
        record.serialize_field("code", self.code.number())?;
        record.serialize_field("severity", &self.severity())?;
        record.serialize_field("message", &self.message)?;
        record.serialize_field("file", &*self.file)?;
        record.serialize_field("line", &self.start().map(|start| start.line))?;
        record.serialize_field("column", &self.start().map(|start| start.column))?;
        record.serialize_field("end", &self.end())?;
        record.serialize_field("help", &self.help)?;
        record.end()
    }
}

/// Everything that is wrong with a policy; never nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// The most problems that are listed for one text.
    pub const MAX: usize = 100;

    /// The one problem of a text that could not be had, with the system's words for it.
    pub fn unreadable(name: &str, why: &str) -> Self {
        Self(vec![Problem {
            code: Code::Unreadable,
            message: format!("the file cannot be read: {why}"),
            help: None,
            file: name.into(),
            at: None,
            also: None,
        }])
    }

    /// The problems of several texts, one after the other; `None` when there are none.
    pub fn joined(parts: impl IntoIterator<Item = Self>) -> Option<Self> {
        let problems: Vec<Problem> = parts.into_iter().flat_map(|part| part.0).collect();
        (!problems.is_empty()).then_some(Self(problems))
    }

    /// These, and then those of another text.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// The same with a way out of each.
    #[must_use]
    pub(super) fn with_help(mut self, help: &str) -> Self {
        self.0.iter_mut().for_each(|problem| problem.help = Some(help.to_owned()));
        self
    }

    /// The problems, in the order of the text.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }

    /// How many there are; never zero.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl std::error::Error for Problems {}

/// A problem whose place is still a range of bytes.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    code: Code,
    span: Span,
    message: String,
    help: Option<String>,
    also: Option<(&'static str, Span)>,
}

impl Finding {
    pub(crate) fn new(code: Code, span: Span, message: impl Into<String>) -> Self {
        Self { code, span, message: message.into(), help: None, also: None }
    }

    /// With a way out.
    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// With a second place that has to do with it.
    pub(crate) fn also(self, label: &'static str, span: Span) -> Self {
        Self { also: Some((label, span)), ..self }
    }
}

/// The problems of one text, while it is being read.
pub(crate) struct Report<'t> {
    source: &'t SourceText,
    findings: Vec<Finding>,
    more: usize,
}

impl<'t> Report<'t> {
    pub(crate) fn new(source: &'t SourceText) -> Self {
        Self { source, findings: Vec::new(), more: 0 }
    }

    /// The text that it is about.
    pub(crate) fn source(&self) -> &'t SourceText {
        self.source
    }

    /// Takes a problem down. A text that is wrong from end to end gets no endless list.
    pub(crate) fn add(&mut self, finding: Finding) {
        if self.is_full() {
            self.count();
        } else {
            self.findings.push(finding);
        }
    }

    /// Whether further problems are only counted.
    pub(crate) fn is_full(&self) -> bool {
        self.findings.len() >= Problems::MAX
    }

    /// How many problems there are so far.
    pub(crate) fn found(&self) -> usize {
        self.findings.len() + self.more
    }

    /// Takes notice of one more problem than is listed.
    pub(crate) fn count(&mut self) {
        self.more += 1;
    }

    /// The problems, in the order of the text; `None` when there are none.
    pub(crate) fn finish(mut self) -> Option<Problems> {
        self.findings.sort_by_key(|finding| finding.span.start);
        if let Some(last) = self.findings.last().filter(|_| self.more > 0) {
            let (code, noun) = match last.code.severity() {
                Severity::Error => (Code::MoreProblems, "problems"),
                Severity::Warning => (Code::MoreWarnings, "warnings"),
            };
            let message = format!("there are {} more {noun}", self.more);
            self.findings.push(Finding::new(code, last.span, message));
        }
        let source = self.source;
        let problems: Vec<_> = self.findings.into_iter().map(|it| place(it, source)).collect();
        (!problems.is_empty()).then_some(Problems(problems))
    }
}

fn place(finding: Finding, source: &SourceText) -> Problem {
    Problem {
        code: finding.code,
        message: finding.message,
        help: finding.help,
        file: Arc::clone(&source.name),
        at: Some(source.excerpt(finding.span)),
        also: finding.also.map(|(label, span)| (label, source.excerpt(span))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_code_has_a_number_of_its_own_and_they_are_in_order() {
        let numbers: Vec<_> = Code::ALL.iter().map(|code| code.number()).collect();
        assert!(numbers.is_sorted());
        assert_eq!(numbers.iter().collect::<BTreeSet<_>>().len(), Code::ALL.len());
    }
}
