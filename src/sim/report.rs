//! What a run has to say: violations, counts, and the tale of what happened.

use super::op::Op;
use crate::plan::Step;
use crate::reconcile::Event;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule of `docs/architecture.md`; 0 for the end state and for what no rule has a number
    /// for.
    pub rule: u8,
    /// When it was seen.
    pub at: Duration,
    /// What.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, at, what } = self;
        match rule {
            0 => write!(f, "{at:.3?}: {what}"),
            _ => write!(f, "{at:.3?}: against rule {rule}: {what}"),
        }
    }
}

/// Something that was written down.
#[derive(Debug)]
pub enum Told {
    /// It happened on the host.
    Happened(Duration, String),
    /// The agent said it.
    Said(Duration, Event),
    /// What was expected is so, or is not.
    Expected(Duration, Result<String, String>),
}

/// What was counted in a run, or in many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Operations by kind.
    pub ops: BTreeMap<&'static str, u64>,
    /// Things that happened by themselves.
    pub happenings: u64,
    /// Inputs that the state machine took.
    pub inputs: u64,
    /// Steps begun, by kind.
    pub steps: BTreeMap<&'static str, u64>,
    /// Questions of people that were answered.
    pub answered: u64,
    /// Those of them that were refused.
    pub refused: u64,
    /// Steps overtaken or failed.
    pub unsuccessful: u64,
    /// Kills of the agent.
    pub kills: u64,
    /// Faults that struck.
    pub faults: u64,
    /// Domains that crashed and stayed.
    pub crashes: u64,
    /// Device models that aborted.
    pub aborts: u64,
    /// Devices whose place was judged in the end.
    pub judged: u64,
    /// Devices of them that were in a domain.
    pub attached: u64,
    /// Devices that the oracle excused, by reason.
    pub excused: BTreeMap<&'static str, u64>,
}

impl Counts {
    pub(super) fn op(&mut self, op: &Op) {
        *self.ops.entry(op.name()).or_default() += 1;
    }

    pub(super) fn step(&mut self, step: &Step) {
        *self.steps.entry(step.name()).or_default() += 1;
    }

    pub(super) fn excuse(&mut self, why: &'static str) {
        *self.excused.entry(why).or_default() += 1;
    }

    /// Adds what another run has counted.
    pub fn add(&mut self, other: &Self) {
        let sum = |mine: &mut BTreeMap<&'static str, u64>, theirs: &BTreeMap<&'static str, u64>| {
            for (name, count) in theirs {
                *mine.entry(name).or_default() += count;
            }
        };
        sum(&mut self.ops, &other.ops);
        sum(&mut self.steps, &other.steps);
        sum(&mut self.excused, &other.excused);
        self.happenings += other.happenings;
        self.inputs += other.inputs;
        self.answered += other.answered;
        self.refused += other.refused;
        self.unsuccessful += other.unsuccessful;
        self.kills += other.kills;
        self.faults += other.faults;
        self.crashes += other.crashes;
        self.aborts += other.aborts;
        self.judged += other.judged;
        self.attached += other.attached;
    }

    /// How many operations there were.
    pub fn operations(&self) -> u64 {
        self.ops.values().sum()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |counts: &BTreeMap<&'static str, u64>| {
            let items: Vec<_> =
                counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
            items.join(", ")
        };
        writeln!(f, "operations: {} ({})", self.operations(), list(&self.ops))?;
        writeln!(f, "happenings: {}, inputs: {}", self.happenings, self.inputs)?;
        let steps: u64 = self.steps.values().sum();
        writeln!(f, "steps: {steps} ({}), unsuccessful {}", list(&self.steps), self.unsuccessful)?;
        writeln!(f, "answers: {}, refusals of them {}", self.answered, self.refused)?;
        writeln!(f, "kills: {}, faults: {}, aborts: {}", self.kills, self.faults, self.aborts)?;
        write!(f, "judged: {} devices, {} in a domain", self.judged, self.attached)?;
        if !self.excused.is_empty() {
            write!(f, ", excused: {}", list(&self.excused))?;
        }
        Ok(())
    }
}
