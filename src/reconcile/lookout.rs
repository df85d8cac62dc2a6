//! Looking again: which readings are old, and which look will renew them.
//!
//! Looks at one thing are made one after the other, so that an older reading never replaces a newer
//! one, and what is stirred while a look is under way is looked at once more. Devices are looked at
//! one by one: reading one can block for as long as the kernel is busy with it, and that must not
//! delay another.

use crate::model::{BusId, DomId};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Which devices are plugged.
    Usb,
    /// One device.
    Device(BusId),
    /// All of xenstore that matters.
    Xen,
    /// These domains, and the agent's notes.
    Domains(BTreeSet<DomId>),
}

/// How long to wait before a look that failed is made again.
const AGAIN: Duration = Duration::from_secs(1);

/// How often in a row a look that failed is awaited. After that nothing waits for it any more.
const MAX_FAILURES: u32 = 5;

/// How long to wait before a look is made again that nothing waits for any more. Nobody tells when a
/// device can be read again: when a reset is over, for example (`host/usb/reader.rs`).
const SELDOM: Duration = Duration::from_secs(60);

/// How long a look may be under way before somebody is told. A device cannot be read as long as the kernel
/// has it locked, and a transfer that is not answered ends after 5 s (`drivers/usb/core/message.c`,
/// `include/linux/usb.h: USB_CTRL_GET_TIMEOUT`).
pub(super) const LOOK_DEADLINE: Duration = Duration::from_secs(30);

/// Counts looks. A look covers everything that was stirred before it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn(u64);

/// The looks at one thing.
#[derive(Clone, Debug, Default)]
pub(super) struct Looks {
    old: bool,
    /// The last look that began. It never goes back: a look that failed keeps its number, so that
    /// the next one covers all that was stirred before it.
    begun: Turn,
    /// When the look under way began.
    under_way: Option<Instant>,
    /// The last look that brought something.
    done: Turn,
    failures: u32,
    not_before: Option<Instant>,
    /// What was last said of looks that fail or do not end; until one brings something.
    said: Option<Box<str>>,
}

/// Whether a look is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    Now,
    At(Instant),
    No,
}

impl Looks {
    /// Something changed. Gives the look that will cover it.
    pub(super) fn stir(&mut self) -> Turn {
        if self.is_given_up() {
            self.not_before = None;
        }
        self.old = true;
        self.failures = 0;
        Turn(self.begun.0 + 1)
    }

    /// Begins a look if one is needed, none is under way, and a failed one is far enough behind.
    pub(super) fn begin(&mut self, now: Instant) -> Begin {
        if !self.old || self.under_way.is_some() {
            return Begin::No;
        }
        match self.not_before {
            Some(when) if now < when => Begin::At(when),
            _ => {
                self.begun.0 += 1;
                self.under_way = Some(now);
                self.old = false;
                self.not_before = None;
                Begin::Now
            }
        }
    }

    /// The look under way brought something.
    pub(super) fn succeeded(&mut self) {
        self.under_way = None;
        self.done = self.begun;
        self.failures = 0;
        self.said = None;
    }

    /// The look under way brought nothing.
    pub(super) fn failed(&mut self, now: Instant) {
        self.under_way = None;
        self.failures += 1;
        self.old = true;
        self.not_before = Some(now + if self.is_given_up() { SELDOM } else { AGAIN });
    }

    /// Whether it is news that this keeps the looks from bringing something.
    pub(super) fn is_news(&mut self, trouble: &str) -> bool {
        let is_news = self.said.as_deref() != Some(trouble);
        self.said = Some(trouble.into());
        is_news
    }

    /// When the look under way is overdue, if one is under way.
    pub(super) fn overdue(&self) -> Option<Instant> {
        Some(self.under_way? + LOOK_DEADLINE)
    }

    /// Whether looks have failed so often that nothing waits for the next one.
    pub(super) fn is_given_up(&self) -> bool {
        self.failures > MAX_FAILURES
    }

    /// A failed look need not wait any longer.
    pub(super) fn hurry(&mut self) {
        self.not_before = None;
    }

    /// Whether the look `turn`, or one after it, has brought something.
    pub(super) fn has_seen(&self, turn: Turn) -> bool {
        turn <= self.done
    }

    /// Whether a newer look than the last one is under way, or has failed and is made again.
    pub(super) fn is_awaited(&self) -> bool {
        self.under_way.is_some() || (self.old && self.not_before.is_some() && !self.is_given_up())
    }

    /// Whether no look is under way, and none is to be waited for.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_none() && (!self.old || self.is_given_up())
    }
}

/// The looks at xenstore, and what the next one is to cover.
#[derive(Clone, Debug, Default)]
pub(super) struct XenLooks {
    pub(super) looks: Looks,
    everything: bool,
    domids: BTreeSet<DomId>,
    covering: Cover,
}

#[derive(Clone, Debug, Default)]
struct Cover {
    everything: bool,
    domids: BTreeSet<DomId>,
}

impl XenLooks {
    /// Anything may have changed.
    pub(super) fn stir_everything(&mut self) -> Turn {
        self.everything = true;
        self.looks.stir()
    }

    /// These domains may have changed; the notes are looked at in any case.
    pub(super) fn stir(&mut self, domids: impl IntoIterator<Item = DomId>) -> Turn {
        self.domids.extend(domids);
        self.looks.stir()
    }

    /// What to look at, when [`Looks::begin`] said that it is time.
    pub(super) fn cover(&mut self) -> Scope {
        self.covering = Cover {
            everything: std::mem::take(&mut self.everything),
            domids: std::mem::take(&mut self.domids),
        };
        match &self.covering {
            Cover { everything: true, .. } => Scope::Xen,
            Cover { everything: false, domids } => Scope::Domains(domids.clone()),
        }
    }

    /// The look under way brought nothing: what it was to cover is to be covered still.
    pub(super) fn failed(&mut self, now: Instant) {
        let Cover { everything, domids } = std::mem::take(&mut self.covering);
        self.everything |= everything;
        self.domids.extend(domids);
        self.looks.failed(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to begin with")]
    fn what_is_stirred_during_a_look_is_looked_at_once_more() {
        let now = Instant::now();
        let mut looks = Looks::default();
        let first = looks.stir();
        assert_eq!(looks.begin(now), Begin::Now);
        let second = looks.stir();
        assert_eq!(looks.begin(now), Begin::No, "one look at a time");
        looks.succeeded();
        assert!(looks.has_seen(first) && !looks.has_seen(second));
        assert_eq!(looks.begin(now), Begin::Now);
        looks.succeeded();
        assert!(looks.has_seen(second) && looks.is_idle());
        assert_eq!(looks.begin(now), Begin::No);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to begin with")]
    fn what_is_stirred_during_a_look_that_fails_is_seen_by_the_next() {
        let now = Instant::now();
        let mut looks = Looks::default();
        let before = looks.stir();
        assert_eq!(looks.begin(now), Begin::Now);
        let during = looks.stir();
        looks.failed(now);
        assert!(!looks.has_seen(before) && !looks.has_seen(during));
        assert_eq!(looks.begin(now + AGAIN), Begin::Now);
        looks.succeeded();
        assert!(looks.has_seen(before) && looks.has_seen(during));
        assert!(looks.is_idle());
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to begin with")]
    fn a_failed_look_is_made_again_a_few_times_and_covers_the_same() {
        let now = Instant::now();
        let mut xen = XenLooks::default();
        let domids: BTreeSet<DomId> = ["7".parse().unwrap()].into();
        let turn = xen.stir(domids.clone());
        for _ in 0..MAX_FAILURES {
            assert_eq!(xen.looks.begin(now), Begin::Now);
            assert_eq!(xen.cover(), Scope::Domains(domids.clone()));
            assert!(xen.looks.is_awaited());
            xen.failed(now);
            assert_eq!(xen.looks.begin(now), Begin::At(now + AGAIN));
            assert!(xen.looks.is_awaited());
            xen.looks.hurry();
            assert!(!xen.looks.has_seen(turn));
        }
        assert_eq!(xen.looks.begin(now), Begin::Now);
        xen.cover();
        xen.failed(now);
        assert!(!xen.looks.is_awaited() && xen.looks.is_idle());
        assert_eq!(xen.looks.begin(now), Begin::At(now + SELDOM), "nothing waits for it");
        xen.stir(None);
        assert_eq!(xen.looks.begin(now), Begin::Now);
        assert_eq!(xen.cover(), Scope::Domains(domids));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to begin with")]
    fn what_keeps_looks_from_bringing_something_is_news_once() {
        let now = Instant::now();
        let mut looks = Looks::default();
        looks.stir();
        assert_eq!(looks.begin(now), Begin::Now);
        assert_eq!(looks.overdue(), Some(now + LOOK_DEADLINE));
        assert!(looks.is_news("busy") && !looks.is_news("busy") && looks.is_news("broken"));
        looks.failed(now);
        assert_eq!(looks.overdue(), None);
        assert!(!looks.is_news("broken"));
        assert_eq!(looks.begin(now + AGAIN), Begin::Now);
        looks.succeeded();
        assert!(looks.is_news("broken"), "between the two it could be read");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to begin with")]
    fn after_a_look_at_everything_that_failed_everything_is_looked_at() {
        let now = Instant::now();
        let mut xen = XenLooks::default();
        xen.stir_everything();
        assert_eq!((xen.looks.begin(now), xen.cover()), (Begin::Now, Scope::Xen));
        xen.failed(now);
        assert_eq!((xen.looks.begin(now + AGAIN), xen.cover()), (Begin::Now, Scope::Xen));
    }
}
