//! Rules that say nothing, or that cannot do what they say.

use super::logic::{self, Budget};
use crate::model::{Speed, UsbVersion};
use crate::policy::matcher::{Category, Condition, Matcher};
use crate::policy::rule::{Action, Rule};
use crate::policy::target::Target;
use crate::policy::{KeepLast, Policy};
use std::borrow::Cow;

/// How much is compared in one policy.
const COMPARISONS: usize = 2_000_000;

/// Who looks at one policy, as long as the budget lasts.
pub(super) struct Sense<'p> {
    policy: &'p Policy,
    budget: Budget,
    /// The kinds of input of which a rule that was seen keeps some in dom0.
    kept: Vec<Category>,
}

/// What PVUSB cannot do for devices.
pub(super) enum Unfit {
    /// They are moved with isochronous transfers (`docs/protocol.md`; QEMU's `hw/usb/xen-usb.c:
    /// usbback_init_packet` fails them).
    Isochronous(Category),
    /// Hubs are never attached.
    Hub,
    /// A controller of version 1 takes nothing that runs faster than full speed (`hw/usb/xen-usb.c:
    /// usbback_portid_add`: "wrong speed").
    TooFast,
    /// PVUSB knows no `SuperSpeed`.
    Super,
}

impl<'p> Sense<'p> {
    pub(super) fn new(policy: &'p Policy) -> Self {
        Self { policy, budget: Budget::new(COMPARISONS), kept: Vec::new() }
    }

    /// Whether no device can satisfy a match.
    pub(super) fn is_impossible(&self, matcher: &Matcher) -> bool {
        logic::is_contradictory(&logic::known(matcher), &self.budget)
    }

    /// What a rule asks of PVUSB that cannot be, and the key that says so.
    pub(super) fn unfit(&self, rule: &Rule) -> Option<(Unfit, &'static str)> {
        let Action::Attach(targets) = rule.action() else { return None };
        let kinds = [
            (Category::Video, Unfit::Isochronous(Category::Video)),
            (Category::Audio, Unfit::Isochronous(Category::Audio)),
            (Category::Hub, Unfit::Hub),
        ];
        for (category, unfit) in kinds {
            let wanted = Condition::Category(vec![category]);
            if let Some(key) = self.asks_for(rule.matcher(), &wanted) {
                return Some((unfit, key));
            }
        }
        let known = logic::known(rule.matcher());
        let fast = |speeds: &[Speed]| {
            logic::implies_condition(&known, &Condition::Speed(speeds.to_vec()), &self.budget)
        };
        let usual = self.policy.controller().version;
        let version = |it: &Target| it.wish.version.unwrap_or(usual);
        if fast(&[Speed::High, Speed::Super, Speed::SuperPlus])
            && targets.iter().all(|it| version(it) == UsbVersion::V1)
        {
            return Some((Unfit::TooFast, "speed"));
        }
        fast(&[Speed::Super, Speed::SuperPlus]).then_some((Unfit::Super, "speed"))
    }

    /// The key of a match by which a device that is like that is asked for, alone or as one of several.
    fn asks_for(&self, matcher: &Matcher, wanted: &Condition) -> Option<&'static str> {
        let known = logic::known(matcher);
        known.iter().enumerate().find_map(|(at, condition)| {
            let is_class = matches!(
                &**condition,
                Condition::Category(_)
                    | Condition::Class(_)
                    | Condition::Interface(_)
                    | Condition::Any(_)
                    | Condition::Device(_)
            );
            if !is_class {
                return None;
            }
            let mut cases = logic::cases(condition);
            if cases.is_empty() {
                cases.push(vec![condition.clone()]);
            }
            let asks = cases.iter().any(|case| {
                logic::implies_condition(case, wanted, &self.budget)
                    && !logic::is_contradictory(&logic::in_case(&known, at, case), &self.budget)
            });
            asks.then(|| condition.key())
        })
    }

    /// The category of input of which a rule takes every device, so that dom0's last one goes too. To be
    /// asked of each rule in order.
    pub(super) fn last_input(&mut self, rule: &Rule) -> Option<Category> {
        let KeepLast { keyboard, pointer } = self.policy.keep_last();
        let kinds = [(Category::Keyboard, keyboard), (Category::Pointer, pointer)];
        let given = kinds.into_iter().filter(|(_, is_kept)| !is_kept).map(|(category, _)| category);
        if *rule.action() == Action::Keep {
            // Whoever keeps some input in dom0 has thought of it.
            let kept: Vec<_> = given.filter(|it| self.is_about_input(rule, *it)).collect();
            self.kept.extend(kept);
            return None;
        }
        given.filter(|category| !self.kept.contains(category)).find(|category| {
            let all = vec![Cow::Owned(Condition::Category(vec![*category]))];
            let takes = |matcher: &Matcher| logic::implies(&all, matcher, &self.budget);
            takes(rule.matcher()) && !self.policy.protected().iter().any(takes)
        })
    }

    fn is_about_input(&self, rule: &Rule, category: Category) -> bool {
        let inputs = Condition::Category(vec![category, Category::Hid]);
        names_a_device(rule.matcher())
            || logic::implies_condition(&logic::known(rule.matcher()), &inputs, &self.budget)
    }
}

/// Whether a match is about single devices or places.
fn names_a_device(matcher: &Matcher) -> bool {
    matcher.conditions().iter().any(|condition| {
        matches!(
            condition,
            Condition::Id(_) | Condition::Port(_) | Condition::BusAddress(_) | Condition::Serial(_)
        )
    })
}
