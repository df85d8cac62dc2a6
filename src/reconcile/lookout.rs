//! Looking again: which readings are old, and which look will renew them.
//!
//! Looks of one side are made one after the other, so that an older reading never replaces a newer
//! one, and what is stirred while a look is under way is looked at once more.

use crate::model::{BusId, DomId};
use std::collections::BTreeSet;

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All devices.
    Usb,
    /// These devices.
    Devices(BTreeSet<BusId>),
    /// All of xenstore that matters.
    Xen,
    /// These domains, and the agent's notes.
    Domains(BTreeSet<DomId>),
}

/// Counts looks of one side. A look covers everything that was stirred before it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn(u64);

/// What is old on one side.
#[derive(Clone, Debug)]
pub(super) struct Lookout<Key> {
    everything: bool,
    some: BTreeSet<Key>,
    begun: Turn,
    done: Turn,
}

/// What a look is to cover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cover<Key> {
    Everything,
    Some(BTreeSet<Key>),
}

impl<Key: Ord + Clone> Lookout<Key> {
    /// Nothing has been looked at yet.
    pub(super) fn new() -> Self {
        Self { everything: true, some: BTreeSet::new(), begun: Turn(0), done: Turn(0) }
    }

    /// Something changed there. Gives the look that will cover it.
    pub(super) fn stir(&mut self, key: Key) -> Turn {
        self.some.insert(key);
        self.coming()
    }

    /// Anything may have changed. Gives the look that will cover it.
    pub(super) fn stir_everything(&mut self) -> Turn {
        self.everything = true;
        self.coming()
    }

    /// The next look, if one is needed and none is under way.
    pub(super) fn begin(&mut self) -> Option<Cover<Key>> {
        if self.begun != self.done || (!self.everything && self.some.is_empty()) {
            return None;
        }
        self.begun.0 += 1;
        let some = std::mem::take(&mut self.some);
        Some(if std::mem::take(&mut self.everything) {
            Cover::Everything
        } else {
            Cover::Some(some)
        })
    }

    /// The look under way has come to an end; if it failed, everything is old.
    pub(super) fn end(&mut self, succeeded: bool) {
        self.done = self.begun;
        self.everything |= !succeeded;
    }

    /// Whether the look `turn` has ended.
    pub(super) fn has_seen(&self, turn: Turn) -> bool {
        turn <= self.done
    }

    /// Whether nothing is old and no look is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.begun == self.done && !self.everything && self.some.is_empty()
    }

    fn coming(&self) -> Turn {
        Turn(self.begun.0 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stirred_during_a_look_is_looked_at_once_more() {
        let mut lookout = Lookout::<u8>::new();
        assert_eq!(lookout.begin(), Some(Cover::Everything));
        let turn = lookout.stir(7);
        assert_eq!(lookout.begin(), None, "one look at a time");
        lookout.end(true);
        assert!(!lookout.has_seen(turn));
        assert_eq!(lookout.begin(), Some(Cover::Some([7].into())));
        lookout.end(true);
        assert!(lookout.has_seen(turn));
        assert_eq!(lookout.begin(), None);
    }

    #[test]
    fn a_failed_look_makes_everything_old() {
        let mut lookout = Lookout::<u8>::new();
        lookout.begin();
        lookout.end(true);
        lookout.stir(1);
        lookout.begin();
        lookout.end(false);
        assert_eq!(lookout.begin(), Some(Cover::Everything));
    }
}
