//! WHAT SHOULD BE: the text of a policy in, a [`Policy`] or every [`Problem`] out.
//!
//! The way of a text:
//!
//! ```text
//! source   bytes -> text that can be shown, with its lines
//! tree     text -> spanned tree of maps, lists and texts, within hard limits
//! read     tree -> Policy, collecting every problem with its exact place
//! ```
//!
//! Nothing is read into serde types here: they stop at the first error, lose the place and turn
//! `1e10` and `0951` into numbers. Every value is the text that the administrator wrote.
//!
//! Not in here: files, sockets, clocks, the environment, logging, and what is plugged right now. A
//! policy judges the device that it is shown, and that is all.

mod defaults;
mod edit;
mod lint;
mod matcher;
mod needs;
mod problem;
mod read;
mod render;
mod rule;
mod rules;
mod schema;
mod show;
mod source;
mod suggest;
mod target;
mod tree;
mod wish;

pub use defaults::{Flapping, Reload, StalePorts};
pub use edit::{EditError, forget, remember};
pub use lint::Mentions;
pub use matcher::{
    Candidate, Category, ClassPattern, Condition, Group, IdPattern, InterfaceSet, Matcher, Part,
    PatternError, PortPattern, ReleasePattern, TextPattern, TextPatternError, UdevMatch, Verdict,
    Within,
};
pub use needs::{Needs, UdevNames};
pub use problem::{Code, Problem, Problems, Severity};
pub use rule::{Action, OnUnplug, Rule, RuleName};
pub use schema::json_schema;
pub use show::ShownWish;
pub use source::{Location, MAX_BYTES, Position, Source};
pub use target::{GuestPattern, Target, When};
pub use wish::{ControllerWish, KindWish, TargetWish};

/// The parts that texts of other languages than policies are read with, so that all show their
/// problems alike.
pub(crate) mod text {
    pub(crate) use crate::policy::problem::{Code, Finding, Report};
    pub(crate) use crate::policy::read::keys::{Form, Key, joined, key, must, names};
    pub(crate) use crate::policy::read::{
        DOM0, Fields, Reader, Shape, is_attribute, is_plain_name, list, wrong_shape,
    };
    pub(crate) use crate::policy::schema::of as schema_of;
    pub(crate) use crate::policy::source::{SourceText, Span, first_hidden};
    pub(crate) use crate::policy::suggest::nearest;
    pub(crate) use crate::policy::tree::{Entry, Node, Value, grow};
}

use crate::model::XenView;
use rules::Rules;
use std::sync::Arc;
use std::time::Duration;

/// What an administrator wants, as it was written down and understood.
///
/// Two policies are equal when they say the same; where their rules stand in the text does not
/// count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    controller: ControllerWish,
    settle: Duration,
    keep_last: KeepLast,
    groups: Vec<Arc<Group>>,
    protect: Vec<Matcher>,
    stale_ports: StalePorts,
    flapping: Flapping,
    quarantine: bool,
    reload: Reload,
    rules: Rules,
}

/// Of which kind dom0 keeps the last one that it has. Both, unless the policy says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepLast {
    /// Keyboards.
    pub keyboard: bool,
    /// Mice and touchpads.
    pub pointer: bool,
}

impl KeepLast {
    /// The policy's words for the kinds.
    pub const WORDS: [&str; 2] = ["keyboard", "pointer"];
}

impl Default for KeepLast {
    fn default() -> Self {
        Self { keyboard: true, pointer: true }
    }
}

impl Policy {
    /// How long to wait after udev has finished with a device, unless the policy says otherwise.
    pub const DEFAULT_SETTLE: Duration = Duration::from_millis(100);
    /// The longest that a policy may make devices wait.
    pub const MAX_SETTLE: Duration = Duration::from_secs(60);

    /// The rules, in the order in which they are asked.
    pub fn rules(&self) -> &[Rule] {
        self.rules.as_slice()
    }

    /// What a controller that the agent makes is to be.
    pub fn controller(&self) -> ControllerWish {
        self.controller
    }

    /// How long to wait after udev has finished with a device before it is handed on; at most
    /// [`Self::MAX_SETTLE`].
    pub fn settle(&self) -> Duration {
        self.settle
    }

    /// Of which kind dom0 keeps the last one.
    pub fn keep_last(&self) -> KeepLast {
        self.keep_last
    }

    /// The groups of devices, in the order in which they were written.
    pub fn groups(&self) -> &[Arc<Group>] {
        &self.groups
    }

    /// The devices that stay in dom0 whatever the rules say.
    pub fn protected(&self) -> &[Matcher] {
        &self.protect
    }

    /// The first entry of `protect` that matches `candidate`.
    pub fn protection(&self, candidate: &Candidate<'_>) -> Option<&Matcher> {
        self.protect.iter().find(|matcher| matcher.matches(candidate))
    }

    /// What becomes of stale ports that are not the agent's own.
    pub fn stale_ports(&self) -> StalePorts {
        self.stale_ports
    }

    /// When a device counts as flapping.
    pub fn flapping(&self) -> Flapping {
        self.flapping
    }

    /// Whether dom0's drivers may have a new device only when it is decided that it stays in dom0.
    /// That new interfaces are not authorized is the kernel's setting
    /// (`udev/60-pvusb-agent-quarantine.rules`); with this the agent authorizes them.
    pub fn quarantine(&self) -> bool {
        self.quarantine
    }

    /// When the policy's files are read anew.
    pub fn reload(&self) -> Reload {
        self.reload
    }

    /// The first rule that matches `candidate`, whatever domains there are. No rule, no wish: the device
    /// stays where it is.
    pub fn judge(&self, candidate: &Candidate<'_>) -> Option<&Rule> {
        self.matching(candidate).next()
    }

    /// The first rule that matches `candidate` and whose `when` holds.
    pub fn judge_beside(&self, candidate: &Candidate<'_>, xen: &XenView) -> Option<&Rule> {
        self.matching(candidate).find(|rule| rule.when().holds(xen))
    }

    /// All rules that match `candidate` and are not switched off, in the order in which they are asked.
    pub fn matching(&self, candidate: &Candidate<'_>) -> impl Iterator<Item = &Rule> {
        self.rules.matching(candidate).filter(|rule| rule.is_enabled())
    }

    /// What must be known of devices so that it can judge them.
    pub fn needs(&self) -> Needs {
        Needs::of(self.matchers())
    }

    /// What it asks for of what udev and sysfs say.
    pub fn udev_names(&self) -> UdevNames {
        UdevNames::of(self.matchers())
    }

    fn matchers(&self) -> impl Iterator<Item = &Matcher> {
        let groups = self.groups.iter().flat_map(|group| group.matchers());
        let rules = self.rules.as_slice().iter().map(Rule::matcher);
        groups.chain(&self.protect).chain(rules)
    }

    /// The policy as it was understood, in canonical YAML with every default filled in. It compiles
    /// to an equal policy.
    ///
    /// # Errors
    ///
    /// None is known: the writer's interface can fail, a policy's plain values give it no cause.
    pub fn to_yaml(&self) -> Result<String, serde_yaml::Error> {
        show::policy(self)
    }
}

/// Without a word from the administrator: no rules, the usual defaults.
impl Default for Policy {
    fn default() -> Self {
        Self {
            controller: ControllerWish::default(),
            settle: Self::DEFAULT_SETTLE,
            keep_last: KeepLast::default(),
            groups: Vec::new(),
            protect: Vec::new(),
            stale_ports: StalePorts::default(),
            flapping: Flapping::default(),
            quarantine: false,
            reload: Reload::default(),
            rules: Rules::default(),
        }
    }
}

/// Reads the text of one policy file.
///
/// The time and memory that it takes are bounded, whatever the bytes are.
///
/// # Errors
///
/// Every problem of the text, in the order of the text; only the first one when the text is not
/// one that can be read on after it (not UTF-8, not YAML, beyond a limit).
pub fn compile(source: Source<'_>) -> Result<Policy, Problems> {
    compile_files(&[(Role::Main, source)])
}

/// Reads the text of a file of remembered rules: a policy that has rules and no defaults.
///
/// # Errors
///
/// As [`compile`].
pub fn compile_rules(source: Source<'_>) -> Result<Policy, Problems> {
    compile_files(&[(Role::Remembered, source)])
}

/// What a file is to a policy, and so what it may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The policy's own file: everything.
    Main,
    /// One that is dropped in beside it: everything but `defaults`; and nothing has to be in it.
    DropIn,
    /// Rules that the agent was told to remember: rules alone.
    Remembered,
}

/// Reads a policy that is spread over several files. Their rules are asked in the order of the files.
///
/// # Errors
///
/// Every problem of every file, in the order of the files; for each as [`compile`].
pub fn compile_files(files: &[(Role, Source<'_>)]) -> Result<Policy, Problems> {
    read_files(files, |_, policy| policy)
}

/// A policy, and what it says that is understood, and hardly what was meant.
#[derive(Clone, Debug)]
pub struct Linted {
    /// The policy.
    pub policy: Policy,
    /// Problems of which none keeps it from being used.
    pub warnings: Option<Problems>,
    /// The domains that it speaks of.
    pub mentions: Mentions,
}

/// The same as [`compile_files`], with warnings.
///
/// # Errors
///
/// As [`compile_files`].
pub fn lint_files(files: &[(Role, Source<'_>)]) -> Result<Linted, Problems> {
    read_files(files, |files, policy| {
        let (warnings, mentions) = lint::lint(files, &policy);
        Linted { policy, warnings, mentions }
    })
}

/// Reads all files, and gives what `then` makes of them if there is no problem in any.
fn read_files<T>(
    files: &[(Role, Source<'_>)],
    then: impl FnOnce(&[lint::File<'_>], Policy) -> T,
) -> Result<T, Problems> {
    let texts: Vec<_> = files.iter().map(|(_, source)| source::SourceText::new(*source)).collect();
    let mut grown = Vec::new();
    let mut known = read::Known::default();
    for ((role, _), (text, fault)) in files.iter().zip(&texts) {
        let mut report = problem::Report::new(text);
        let root = match fault {
            Some(fault) => {
                report.add(fault.clone());
                None
            }
            None => tree::grow(text, &mut report),
        };
        if let Some(root) = &root {
            // An alias is known to all files.
            read::domains(root, *role, &mut report, &mut known);
        }
        grown.push((*role, root, report));
    }
    let mut policy = Policy::default();
    let mut problems = Vec::new();
    let mut roots = Vec::new();
    for ((role, root, mut report), (source, _)) in grown.into_iter().zip(&texts) {
        if let Some(root) = &root {
            read::file(root, role, &mut report, (&mut known, &mut policy));
        }
        problems.extend(report.finish());
        roots.extend(root.map(|root| (role, root, source)));
    }
    if let Some(problems) = Problems::joined(problems) {
        return Err(problems);
    }
    let files: Vec<_> =
        roots.iter().map(|(role, root, source)| lint::File { role: *role, root, source }).collect();
    Ok(then(&files, policy))
}
