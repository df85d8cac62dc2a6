//! Which domain is meant, and what the device is to get there.

use super::wish::TargetWish;
use crate::model::{Guest, GuestName, GuestUuid, Life, XenView};
use std::fmt;

/// One domain of a rule, or several of one pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Which domains.
    pub guest: GuestPattern,
    /// What the device is to get there.
    pub wish: TargetWish,
}

/// As its domain: `kiosk-*`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.guest.fmt(f)
    }
}

/// What domains are called by. Shown as it is written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GuestPattern {
    /// The name.
    Named(GuestName),
    /// The name, with `*` for any characters or none and `?` for one.
    Like(GuestName),
    /// The UUID.
    Uuid(GuestUuid),
}

impl GuestPattern {
    /// What `text` means: a UUID, a pattern if it has a `*` or `?`, otherwise a name.
    pub fn new(text: &str) -> Self {
        match text.parse() {
            Ok(uuid) => Self::Uuid(uuid),
            Err(_) if text.contains(['*', '?']) => Self::Like(GuestName::new(text)),
            Err(_) => Self::Named(GuestName::new(text)),
        }
    }

    /// Whether `guest` is meant.
    pub fn matches(&self, guest: &Guest) -> bool {
        self.is_called(&guest.name, guest.uuid)
    }

    /// Whether a domain of this name and UUID is meant.
    pub fn is_called(&self, name: &GuestName, uuid: GuestUuid) -> bool {
        match self {
            Self::Named(_) | Self::Like(_) => self.is_like(name),
            Self::Uuid(meant) => *meant == uuid,
        }
    }

    /// Whether a domain of this name is meant by it.
    pub(super) fn is_like(&self, name: &GuestName) -> bool {
        match self {
            Self::Named(meant) => meant == name,
            Self::Like(pattern) => is_like(pattern.as_str(), name.as_str()),
            Self::Uuid(_) => false,
        }
    }

    /// The domain of `xen` that is meant. If there are several, the one that is furthest in its life,
    /// and then the one with the lowest number.
    pub fn find<'x>(&self, xen: &'x XenView) -> Option<&'x Guest> {
        let meant = |life: Life| {
            xen.guests.values().find(move |guest| guest.life == life && self.matches(guest))
        };
        meant(Life::Running).or_else(|| meant(Life::Building))
    }
}

impl fmt::Display for GuestPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) | Self::Like(name) => name.fmt(f),
            Self::Uuid(uuid) => uuid.fmt(f),
        }
    }
}

/// What must be with domains for a rule to count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct When {
    /// One of these runs; empty: no matter.
    pub running: Vec<GuestPattern>,
    /// None of these is there, not even while it is built.
    pub absent: Vec<GuestPattern>,
}

impl When {
    /// Whether it is so.
    pub fn holds(&self, xen: &XenView) -> bool {
        let is_there = |pattern: &GuestPattern, also_built: bool| {
            pattern.find(xen).is_some_and(|guest| guest.life == Life::Running || also_built)
        };
        let runs = self.running.is_empty() || self.running.iter().any(|it| is_there(it, false));
        runs && !self.absent.iter().any(|it| is_there(it, true))
    }
}

/// Whether `text` as a whole is like `pattern`. Takes a step back to the last `*` only, so it is done in
/// the product of the lengths at most.
fn is_like(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut read) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while read < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at + 1, read));
                at += 1;
            }
            Some(c) if *c == '?' || *c == text[read] => {
                at += 1;
                read += 1;
            }
            Some(_) | None => match star {
                Some((after, from)) => {
                    star = Some((after, from + 1));
                    (at, read) = (after, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Said once more, by trying everything.
    fn is_like_slowly(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => {
                (0..=text.len()).any(|skipped| is_like_slowly(rest, &text[skipped..]))
            }
            Some((c, rest)) => text.split_first().is_some_and(|(first, left)| {
                (*c == '?' || c == first) && is_like_slowly(rest, left)
            }),
        }
    }

    proptest! {
        #[test]
        fn a_star_is_any_characters_and_a_question_mark_is_one(
            pattern in "[ab?*é]{0,7}", text in "[abé]{0,7}"
        ) {
            let (chars, of_text): (Vec<_>, Vec<_>) = (pattern.chars().collect(), text.chars().collect());
            prop_assert_eq!(is_like(&pattern, &text), is_like_slowly(&chars, &of_text));
        }
    }

    #[test]
    fn a_uuid_a_pattern_and_a_name_are_told_apart() {
        let uuid = "6D3AE5A6-2c8c-4c8b-9d1e-0c5b7d1f2a30";
        assert!(matches!(GuestPattern::new(uuid), GuestPattern::Uuid(_)));
        assert!(matches!(GuestPattern::new("kiosk-*"), GuestPattern::Like(_)));
        assert!(matches!(GuestPattern::new("6d3ae5a6"), GuestPattern::Named(_)));
    }
}
