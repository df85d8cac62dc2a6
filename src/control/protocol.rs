//! The words of the control socket: JSON, one message on a line, ended by a newline.
//!
//! A client sends [`Question`]s; each gets one [`Reply`] with the same `id`. Several questions may
//! wait for their replies at once, and the replies come as they are ready. After the reply to `watch`
//! come notices with its `id`, until the connection ends. What a message may not have is refused rather
//! than passed over: somebody meant something by it.
//!
//! ```json
//! {"v":1,"id":1,"ask":"attach","device":"1-1.4","domain":"kiosk"}
//! {"v":1,"id":1,"ok":{"device":"1-1.4","result":"done","standing":"attached","message":"…"}}
//! ```

use super::watch::{Notice, Since, WatchOutcome};
use crate::model::{BusId, ByHand, DeviceName, NameError, Place, Stage, Text};
use crate::plan::{Objection, Outlook, Problem, Refusal, Request, Standing, Wanted};
use crate::reconcile::Answer;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of this protocol.
pub const VERSION: u64 = 1;

/// The longest line that is taken, in bytes, with its newline. A policy's name of a domain, a device
/// and some words fit many times over.
pub const MAX_LINE: usize = 64 << 10;

/// The longest text in a question, in bytes. No device's name, and no name that xl takes, is longer.
const MAX_TEXT: usize = 256;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Comes back in the reply.
    pub id: u64,
    /// What is asked.
    pub ask: Ask,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// `attach`, `detach`, `hold`, `release`: an order.
    Order(OrderAsk),
    /// `status`: how the agent is.
    Status,
    /// `reload`: read the policy anew.
    Reload,
    /// `reasons`: why it keeps devices where they are.
    Reasons,
    /// `watch`: everything, and then what changes.
    Watch(Option<Since>),
    /// `metrics`: what it has counted.
    Metrics,
    /// `by-hand`: something is done without the agent, which is to take it down.
    ByHand(ByHand),
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderAsk {
    /// About which device, to do what.
    pub request: Request,
    /// Whether a rule is to be written that says the same, so that it outlasts the host's boot.
    pub remember: bool,
    /// Whether the reply is to come only when the device has come to rest.
    pub wait: bool,
}

/// A question as it stands on its line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    v: u64,
    id: u64,
    ask: Word,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    domain: Option<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    force: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    remember: bool,
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    wait: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    agent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    act: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stage: Option<StageWord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
}

/// The words of `stage`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StageWord {
    Begun,
    Done,
    Failed,
}

/// The words of `ask`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Word {
    Attach,
    Detach,
    Hold,
    Release,
    Status,
    Reload,
    Reasons,
    Watch,
    Metrics,
    ByHand,
}

/// What of a line is of use even when the rest is not.
#[derive(Deserialize)]
struct Head {
    v: Option<serde_json::Value>,
    id: Option<u64>,
}

/// A reply. It has `ok` or `error`; or it is one of those that follow on `watch`, and has `notice`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    /// The version of the protocol.
    pub v: u64,
    /// That of the question; `null` when it could not be read.
    pub id: Option<u64>,
    /// The answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ok: Option<Outcome>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Fault>,
    /// What has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<Notice>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Outcome {
    /// To an order.
    Order(OrderOutcome),
    /// To `status`.
    Status(StatusOutcome),
    /// To `reload`.
    Reload(ReloadOutcome),
    /// To `reasons`.
    Reasons(ReasonsOutcome),
    /// To `watch`.
    Watch(WatchOutcome),
    /// To `metrics`.
    Metrics(MetricsOutcome),
    /// To `by-hand`.
    TakenDown(TakenDownOutcome),
}

/// What became of an order. It is noted in any case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderOutcome {
    /// The device's busid.
    pub device: String,
    /// How far it is.
    pub result: Progress,
    /// A word for how it stands with the device: `attached`, `ordered`, `no rule`, …; `null` when
    /// nothing is plugged there, or nobody waited.
    pub standing: Option<String>,
    /// The same for people.
    pub message: String,
    /// Where the device is now, if it is in a domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<PlaceOutcome>,
    /// What would have refused it without `force`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waived: Option<String>,
    /// What `remember` wrote, or `release` removed, and where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remembered: Option<String>,
}

/// How far an order is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Progress {
    /// The device is where it was to go.
    Done,
    /// It will go there when something happens that the message names.
    Waits,
    /// The order is noted, and nobody waited for more.
    Accepted,
}

/// A port of a domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlaceOutcome {
    /// The domain's number.
    pub domid: u16,
    /// The controller.
    pub controller: u32,
    /// The port.
    pub port: u8,
}

/// How the agent is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusOutcome {
    /// The agent's version.
    pub version: String,
    /// The policy's file.
    pub policy: String,
    /// How many rules are in force, remembered ones among them.
    pub rules: usize,
    /// How many of them are remembered ones.
    pub remembered_rules: usize,
    /// Whether the last reading of the policy was good; if not, an older one is in force.
    pub policy_is_current: bool,
    /// The files that are in force, in their order; without that of remembered rules.
    #[serde(default)]
    pub files: Vec<FileOutcome>,
    /// Whether the agent has a connection to xenstore.
    pub xenstore: bool,
    /// How many devices are plugged.
    pub devices: usize,
    /// How many of them the agent has attached.
    pub attached: usize,
    /// How many orders by hand are in force.
    pub orders: usize,
    /// In how many places what is plugged there next goes where the device before it was.
    #[serde(default)]
    pub kept_ways: usize,
}

/// A file of the policy in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileOutcome {
    /// Its path.
    pub file: String,
    /// Where it leads, if it is a link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// Whether it is empty, so that one of the same name has no effect.
    pub masked: bool,
}

/// A policy was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReloadOutcome {
    /// How many rules are in force now.
    pub reloaded_rules: usize,
}

/// Why devices are where they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReasonsOutcome {
    /// Of what is in a domain, or on its way there or back: by busid, in the words of `explain`.
    pub because: BTreeMap<String, String>,
}

/// What the agent has counted since its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsOutcome {
    /// In Prometheus' text format.
    pub metrics: String,
}

/// What is done by hand was taken down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TakenDownOutcome {
    /// Always so.
    pub taken_down: bool,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// A word for programs; it never changes. Those of [`Objection::code`], those of
    /// [`Fault::CODES`].
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// What helps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// The devices that are meant perhaps, by busid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<String>,
}

/// Why a line is no question.
#[derive(Debug, thiserror::Error)]
enum BadRequest {
    #[error("the line is not UTF-8 from byte {0} on")]
    NotUtf8(usize),
    #[error("the line is not an object: it begins with no `{{`")]
    NoObject,
    #[error("{0}")]
    Json(Text),
    #[error("`{field}` has no place in {name}")]
    Field { field: &'static str, name: String },
    #[error("{name} needs `{field}`")]
    Missing { name: String, field: &'static str },
    #[error("`{0}` is longer than {MAX_TEXT} bytes")]
    Long(&'static str),
    #[error("`agent` and `since` go together")]
    HalfSince,
    #[error("`cause` goes with the stage `failed`, and with no other")]
    Cause,
    #[error("`device`: {0}")]
    Device(NameError),
}

impl BadRequest {
    fn fault(&self) -> Fault {
        Fault::new("bad-request", self.to_string())
            .advice("docs/protocol.md, \"The control socket\", has what can be asked")
    }
}

impl Question {
    /// Reads a line, without its newline.
    ///
    /// # Errors
    ///
    /// The reply to send instead of an answer; it names the place.
    pub fn read(line: &[u8]) -> Result<Self, Box<Reply>> {
        let text = std::str::from_utf8(line).map_err(|error| {
            Box::new(BadRequest::NotUtf8(error.valid_up_to() + 1).fault().reply(None))
        })?;
        let head: Option<Head> = serde_json::from_str(text).ok();
        let id = head.as_ref().and_then(|head| head.id);
        let bad = |why: BadRequest| Box::new(why.fault().reply(id));
        if let Some(version) = head.and_then(|head| head.v).filter(|v| *v != VERSION) {
            let version = Text::from(&*version.to_string());
            let fault = Fault::new(
                "bad-version",
                format!("version {version} of the protocol is not known"),
            );
            return Err(Box::new(fault.advice("this agent speaks version 1").reply(id)));
        }
        // serde would take a list of the values as well.
        if !text.trim_start().starts_with('{') {
            return Err(bad(BadRequest::NoObject));
        }
        let line: Line = serde_json::from_str(text)
            .map_err(|error| bad(BadRequest::Json(Text::from(&*error.to_string()))))?;
        let id = line.id;
        Ok(Self { id, ask: line.meaning().map_err(bad)? })
    }

    /// The line, with its newline.
    ///
    /// # Errors
    ///
    /// None is known: the writer's interface can fail.
    pub fn write(&self) -> Result<String, serde_json::Error> {
        let mut line = Line {
            v: VERSION,
            id: self.id,
            ask: Word::Status,
            device: None,
            domain: None,
            force: false,
            remember: false,
            wait: true,
            agent: None,
            since: None,
            act: None,
            stage: None,
            cause: None,
        };
        match &self.ask {
            Ask::Status => {}
            Ask::Metrics => line.ask = Word::Metrics,
            Ask::Watch(since) => {
                line.ask = Word::Watch;
                line.agent = since.as_ref().map(|since| since.agent.clone());
                line.since = since.as_ref().map(|since| since.seq);
            }
            Ask::ByHand(ByHand { act, stage }) => {
                line.ask = Word::ByHand;
                line.act = Some(act.clone());
                line.stage = Some(match stage {
                    Stage::Begun => StageWord::Begun,
                    Stage::Done => StageWord::Done,
                    Stage::Failed(cause) => {
                        line.cause = Some(cause.clone());
                        StageWord::Failed
                    }
                });
            }
            Ask::Reload => line.ask = Word::Reload,
            Ask::Reasons => line.ask = Word::Reasons,
            Ask::Order(OrderAsk { request, remember, wait }) => {
                line.device = Some(request.device.to_string());
                (line.force, line.remember, line.wait) = (request.force, *remember, *wait);
                line.ask = match &request.wanted {
                    Wanted::Attach(domain) => {
                        line.domain = Some(domain.to_string());
                        Word::Attach
                    }
                    Wanted::Detach => Word::Detach,
                    Wanted::Hold => Word::Hold,
                    Wanted::Release => Word::Release,
                };
            }
        }
        Ok(serde_json::to_string(&line)? + "\n")
    }
}

impl Line {
    fn meaning(self) -> Result<Ask, BadRequest> {
        let word = self.ask;
        let name = serde_json::to_string(&word).unwrap_or_default().replace('"', "`");
        let refuse = |field: &'static str, is_given: bool| {
            if is_given { Err(BadRequest::Field { field, name: name.clone() }) } else { Ok(()) }
        };
        let is_order = matches!(word, Word::Attach | Word::Detach | Word::Hold | Word::Release);
        refuse("domain", word != Word::Attach && self.domain.is_some())?;
        refuse("force", word != Word::Attach && self.force)?;
        refuse("remember", (!is_order || word == Word::Release) && self.remember)?;
        refuse("device", !is_order && self.device.is_some())?;
        refuse("wait", !is_order && !self.wait)?;
        refuse("agent", word != Word::Watch && self.agent.is_some())?;
        refuse("since", word != Word::Watch && self.since.is_some())?;
        refuse("act", word != Word::ByHand && self.act.is_some())?;
        refuse("stage", word != Word::ByHand && self.stage.is_some())?;
        refuse("cause", word != Word::ByHand && self.cause.is_some())?;
        let required = |field: &'static str, value: Option<String>| {
            let value = value.ok_or_else(|| BadRequest::Missing { name: name.clone(), field })?;
            if value.len() > MAX_TEXT {
                return Err(BadRequest::Long(field));
            }
            Ok(value)
        };
        let wanted = match word {
            Word::Status => return Ok(Ask::Status),
            Word::Reload => return Ok(Ask::Reload),
            Word::Reasons => return Ok(Ask::Reasons),
            Word::Metrics => return Ok(Ask::Metrics),
            Word::ByHand => {
                let missing = |field| BadRequest::Missing { name: name.clone(), field };
                let act = self.act.ok_or_else(|| missing("act"))?;
                let stage = match (self.stage.ok_or_else(|| missing("stage"))?, self.cause) {
                    (StageWord::Begun, None) => Stage::Begun,
                    (StageWord::Done, None) => Stage::Done,
                    (StageWord::Failed, Some(cause)) => Stage::Failed(cause),
                    _ => return Err(BadRequest::Cause),
                };
                return Ok(Ask::ByHand(ByHand { act, stage }));
            }
            Word::Watch => {
                let since = match (self.agent, self.since) {
                    (None, None) => None,
                    (agent @ Some(_), Some(seq)) => {
                        Some(Since { agent: required("agent", agent)?, seq })
                    }
                    _ => return Err(BadRequest::HalfSince),
                };
                return Ok(Ask::Watch(since));
            }
            Word::Attach => Wanted::Attach(required("domain", self.domain)?.into()),
            Word::Detach => Wanted::Detach,
            Word::Hold => Wanted::Hold,
            Word::Release => Wanted::Release,
        };
        let device: DeviceName =
            required("device", self.device)?.parse().map_err(BadRequest::Device)?;
        let request = Request { device, wanted, force: self.force };
        Ok(Ask::Order(OrderAsk { request, remember: self.remember, wait: self.wait }))
    }
}

impl Reply {
    /// An answer.
    pub fn ok(id: u64, outcome: Outcome) -> Self {
        Self { v: VERSION, id: Some(id), ok: Some(outcome), error: None, notice: None }
    }

    /// Something has changed, for who watches.
    pub fn notice(id: u64, notice: Notice) -> Self {
        Self { v: VERSION, id: Some(id), ok: None, error: None, notice: Some(notice) }
    }

    /// The line, with its newline.
    ///
    /// # Errors
    ///
    /// None is known: the writer's interface can fail.
    pub fn write(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string(self)? + "\n")
    }
}

impl ReasonsOutcome {
    /// Who wants each device where it is, or why it is about to leave, as it stands with it.
    pub fn of(outlooks: &BTreeMap<BusId, Outlook>) -> Self {
        let because = |standing: &Standing| {
            if let Standing::Attached { route, .. }
            | Standing::Attaching(route)
            | Standing::WaitingForController { route, .. } = standing
            {
                return Some(route.by.to_string());
            }
            let Standing::Detaching { because, .. } = standing else { return None };
            Some(format!("on its way back: {because}"))
        };
        let each = outlooks.iter();
        let each = each.filter_map(|(busid, it)| Some((busid.to_string(), because(&it.standing)?)));
        Self { because: each.collect() }
    }
}

impl OrderOutcome {
    /// What is said of an order that was noted.
    ///
    /// # Errors
    ///
    /// When the device cannot be where it was to go; the order is noted all the same.
    pub fn of(answer: &Answer) -> Result<Self, Fault> {
        use Standing as S;
        let device = answer.busid.to_string();
        let (result, message, place) = match &answer.standing {
            None => (Progress::Accepted, format!("{device}: the order is noted"), None),
            Some(S::Attached { route, place }) => {
                (Progress::Done, format!("{device} is attached to {route}, {place}"), Some(*place))
            }
            Some(S::Protected { refusal, .. }) => return Err(protected(&device, refusal)),
            Some(S::Blocked { .. }) => {
                (Progress::Done, format!("{device} is blocked, as the policy wants it"), None)
            }
            Some(S::NotBlocked { refusal, .. }) => {
                let message = format!("{device} is in dom0 and is not blocked: {refusal}");
                (Progress::Done, message, None)
            }
            Some(S::HeldDown { route, plugs, pause }) => {
                let message = format!(
                    "{device} was plugged {plugs} times in a short while: it waits until it has stayed \
                     plugged for {} s, then it goes to {route}",
                    pause.as_secs()
                );
                (Progress::Waits, message, None)
            }
            Some(S::StaleOfOthers(place)) => {
                let message =
                    format!("{device} is not plugged, and left in {place}: the policy says so");
                (Progress::Waits, message, Some(*place))
            }
            Some(S::AttachedByOthers(place)) => {
                let message = format!("{device} is left alone: attached by somebody else, {place}");
                (Progress::Waits, message, Some(*place))
            }
            Some(S::Stuck { problem, .. } | S::NotReturned(problem) | S::Hanging(problem)) => {
                return Err(stuck(&device, problem));
            }
            Some(S::Ordered(crate::model::Order::Attach(domain))) => {
                let message = format!("{device} is in dom0 and waits until domain {domain} runs");
                (Progress::Waits, message, None)
            }
            Some(S::NoDomainRuns { targets, .. }) => {
                let targets: Vec<_> = targets.iter().map(ToString::to_string).collect();
                let targets = targets.join(" or ");
                let message = format!("{device} is in dom0 and waits until domain {targets} runs");
                (Progress::Waits, message, None)
            }
            Some(it @ (S::Awaiting { .. } | S::WayKept { .. })) => {
                (Progress::Waits, format!("{device} {it}"), None)
            }
            Some(S::Building(route)) => {
                let message = format!("{device} waits until {route} is built");
                (Progress::Waits, message, None)
            }
            Some(S::Leaving(_)) => {
                (Progress::Waits, format!("{device} waits until the agent runs again"), None)
            }
            Some(S::TakenOutByHand(_)) => {
                let message = format!("{device} is in dom0 and left there: taken out by hand");
                (Progress::Waits, message, None)
            }
            Some(S::Ordered(order)) => {
                let until = match order {
                    crate::model::Order::Hold => "until it is released",
                    crate::model::Order::Stay | crate::model::Order::Attach(_) => {
                        "until it is plugged again"
                    }
                };
                (Progress::Done, format!("{device} is in dom0 and stays there {until}"), None)
            }
            Some(S::Hub | S::NoRule | S::Kept { .. }) => {
                (Progress::Done, format!("{device} is in dom0, as the policy wants it"), None)
            }
            Some(
                standing @ (S::NotReady
                | S::Settling
                | S::WaitingForController { .. }
                | S::WaitingForPort(_)
                | S::Attaching(_)
                | S::Detaching { .. }
                | S::Returning
                | S::DomainEnding(_)
                | S::Unplugged),
            ) => (Progress::Accepted, format!("{device}: {}", standing.name()), None),
        };
        Ok(Self {
            device,
            result,
            standing: answer.standing.as_ref().map(|standing| standing.name().to_owned()),
            message,
            place: place.map(|Place { domid, controller, port }| PlaceOutcome {
                domid: domid.get(),
                controller: controller.get(),
                port: port.get(),
            }),
            waived: answer.waived.as_ref().map(ToString::to_string),
            remembered: None,
        })
    }
}

fn protected(device: &str, refusal: &Refusal) -> Fault {
    Fault::new("refused", format!("{device} stays in dom0: {refusal}; the order is noted"))
        .advice(refusal.advice())
}

fn stuck(device: &str, problem: &Problem) -> Fault {
    Fault::new("stuck", format!("{device}: {problem}; the order is noted")).advice(problem.advice())
}

impl Fault {
    /// The codes that are not those of [`Objection::code`].
    pub const CODES: [&str; 11] = [
        "bad-request",
        "bad-version",
        "line-too-long",
        "too-many-connections",
        "too-many-questions",
        "not-permitted",
        "stuck",
        "bad-policy",
        "not-remembered",
        "watching",
        "too-slow",
    ];

    /// A fault without advice.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), advice: None, candidates: Vec::new() }
    }

    /// With what helps.
    #[must_use]
    pub fn advice(self, advice: &str) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }

    /// The reply to the question with this id.
    pub fn reply(self, id: Option<u64>) -> Reply {
        Reply { v: VERSION, id, ok: None, error: Some(self), notice: None }
    }
}

impl From<&Objection> for Fault {
    fn from(objection: &Objection) -> Self {
        let candidates = match objection {
            Objection::Ambiguous { candidates, .. } => {
                candidates.iter().map(|(busid, _)| busid.to_string()).collect()
            }
            Objection::NotPlugged(_)
            | Objection::NoSuchDomain(_)
            | Objection::BadDomain(_)
            | Objection::AttachToDom0
            | Objection::AttachedByOthers { .. }
            | Objection::Refused(..)
            | Objection::XenstoreLost
            | Objection::Unknown
            | Objection::Leaving
            | Objection::Superseded(_)
            | Objection::Unplugged(_)
            | Objection::Failed(_) => Vec::new(),
        };
        let fault = Self::new(objection.code(), objection.to_string());
        Self { candidates, ..fault.advice(objection.advice()) }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_true(value: &bool) -> bool {
    *value
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(line: &str) -> Fault {
        Question::read(line.as_bytes()).unwrap_err().error.unwrap()
    }

    /// Every message that `docs/protocol.md` shows is one, and is shown as it is written.
    #[test]
    fn the_document_shows_the_protocol_as_it_is() {
        let document = include_str!("../../docs/protocol.md");
        let blocks = document.split("```").skip(1).step_by(2);
        let lines: Vec<&str> =
            blocks.filter_map(|block| block.strip_prefix("json\n")).flat_map(str::lines).collect();
        let (replies, questions): (Vec<&str>, Vec<&str>) = lines.iter().partition(|line| {
            ["\"ok\"", "\"error\"", "\"notice\""].iter().any(|word| line.contains(word))
        });
        assert!(replies.len() > 3 && questions.len() > 3, "{lines:?}");
        for line in questions {
            let question = Question::read(line.as_bytes()).unwrap();
            assert_eq!(question.write().unwrap().trim_end(), line);
        }
        for line in replies {
            let reply: Reply = serde_json::from_str(line).unwrap();
            assert_eq!(reply.write().unwrap().trim_end(), line);
            if let Some(fault) = reply.error {
                let named = document.contains(&format!("| `{}` |", fault.code));
                assert!(named, "the code {} is not explained", fault.code);
            }
        }
        for code in Fault::CODES {
            assert!(document.contains(&format!("| `{code}` |")), "{code} is not explained");
        }
    }

    #[test]
    fn what_is_wrong_with_a_question_is_said_with_its_place() {
        let fault = refused(r#"{"v":1,"id":3,"ask":"detach","device":"1-1","devise":"x"}"#);
        assert_eq!(fault.code, "bad-request");
        assert!(
            fault.message.contains("unknown field `devise`") && fault.message.contains("column")
        );
        for (line, part) in [
            (r#"{"v":1,"id":3,"ask":"dance"}"#, "unknown variant `dance`"),
            (r#"{"v":1,"id":3,"ask":"attach","device":"1-1"}"#, "`attach` needs `domain`"),
            (r#"{"v":1,"id":3,"ask":"detach","device":"usb1"}"#, "`device`: `usb1` is not"),
            (
                r#"{"v":1,"id":3,"ask":"detach","device":"1-1","force":true}"#,
                "`force` has no place",
            ),
            (r#"{"v":1,"id":3,"ask":"status","device":"1-1"}"#, "`device` has no place"),
            (r#"{"v":1,"id":3,"ask":"status","act":"x"}"#, "`act` has no place"),
            (r#"{"v":1,"id":3,"ask":"by-hand","stage":"done"}"#, "`by-hand` needs `act`"),
            (r#"{"v":1,"id":3,"ask":"by-hand","act":"x"}"#, "`by-hand` needs `stage`"),
            (
                r#"{"v":1,"id":3,"ask":"by-hand","act":"x","stage":"done","cause":"y"}"#,
                "`cause` goes with the stage `failed`",
            ),
            (
                r#"{"v":1,"id":3,"ask":"by-hand","act":"x","stage":"failed"}"#,
                "`cause` goes with the stage `failed`",
            ),
            (r#"{"v":1,"id":3,"id":4,"ask":"status"}"#, "duplicate field"),
            (r#"{"v":1,"ask":"status"}"#, "missing field `id`"),
            (r#"{"id":3,"ask":"status"}"#, "missing field `v`"),
            (r#"{"v":1,"id":3,"ask":"status"} x"#, "column 31"),
            ("[1,3,\"status\"]", "not an object"),
            ("", "not an object"),
            ("{", "EOF"),
        ] {
            assert!(refused(line).message.contains(part), "{line}: {:?}", refused(line));
        }
        assert_eq!(refused(r#"{"v":2,"id":3,"ask":"fly","wings":2}"#).code, "bad-version");
        let reply = Question::read(b"{\"v\":1,\xff}").unwrap_err();
        assert!(reply.error.unwrap().message.contains("byte 8"));
    }

    #[test]
    fn the_id_comes_back_even_when_the_rest_is_wrong() {
        let reply = Question::read(br#"{"v":1,"id":77,"ask":"dance"}"#).unwrap_err();
        assert_eq!(reply.id, Some(77));
        let reply = Question::read(br#"{"v":1,"id":"#).unwrap_err();
        assert_eq!(reply.id, None);
    }

    #[test]
    fn a_long_text_is_refused() {
        let name = "x".repeat(300);
        let line = format!(r#"{{"v":1,"id":3,"ask":"attach","device":"1-1","domain":"{name}"}}"#);
        assert!(refused(&line).message.contains("longer than 256"));
    }

    proptest! {
        #[test]
        fn no_line_makes_the_reader_panic(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Question::read(&line);
        }

        #[test]
        fn a_question_reads_as_it_was_written(
            id in any::<u64>(), force in any::<bool>(), remember in any::<bool>(),
            wait in any::<bool>(), domain in "[ -~äß]{1,40}",
        ) {
            let device = "05e0:1200".parse().unwrap();
            let request = Request { device, wanted: Wanted::Attach(domain.into()), force };
            let question = Question { id, ask: Ask::Order(OrderAsk { request, remember, wait }) };
            let line = question.write().unwrap();
            prop_assert_eq!(Question::read(line.trim_end_matches('\n').as_bytes()).unwrap(), question);
        }
    }
}
