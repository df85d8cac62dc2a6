//! Cutting a list of operations down to what a violation needs: delta debugging
//! (Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input", 2002), the simple
//! half of it.

use super::op::Timed;
use super::report::Violation;
use super::world::{Setting, World};
use std::time::{Duration, Instant};

/// Plays a list in a fresh world, lets it come to rest and judges the end.
pub fn play(setting: &Setting, ops: &[Timed], epoch: Instant) -> World {
    let mut world = World::new(setting.clone(), epoch);
    for timed in ops {
        if !world.violations.is_empty() {
            break;
        }
        world.play(timed);
    }
    world.come_to_rest();
    if world.violations.is_empty() {
        world.judge();
    }
    world
}

/// The shortest list to be found that ends in a violation of the same rule as `ops` does. At most
/// `tries` lists are played.
pub fn shrink(setting: &Setting, ops: &[Timed], epoch: Instant, mut tries: u32) -> Vec<Timed> {
    let mut best = ops.to_vec();
    let Some(first) = play(setting, ops, epoch).violations.into_iter().next() else { return best };
    let fails = |ops: &[Timed]| {
        let violations = play(setting, ops, epoch).violations;
        violations.first().is_some_and(|violation| same(&first, violation))
    };
    let mut size = best.len() / 2;
    while size > 0 && tries > 0 {
        let mut at = 0;
        let before = best.len();
        while at < best.len() && tries > 0 {
            let shorter = without(&best, at, size);
            tries -= 1;
            if fails(&shorter) {
                best = shorter;
            } else {
                at += size;
            }
        }
        // What could not go before may go now.
        size = if best.len() < before { size.min(best.len() / 2).max(1) } else { size / 2 };
        if best.len() < before && size == 1 && best.len() + 1 == before {
            size = 1;
        }
    }
    round(&best, fails, &mut tries)
}

/// Round moments are easier to read.
fn round(ops: &[Timed], fails: impl Fn(&[Timed]) -> bool, tries: &mut u32) -> Vec<Timed> {
    let mut best = ops.to_vec();
    for at in 0..best.len() {
        for unit in [1_000_000, 100_000, 10_000, 1_000] {
            if *tries == 0 {
                return best;
            }
            *tries -= 1;
            let mut rounder = best.clone();
            let micros = u64::try_from(rounder[at].after.as_micros()).unwrap_or(0);
            rounder[at].after = Duration::from_micros(micros / unit * unit);
            if fails(&rounder) {
                best = rounder;
                break;
            }
        }
    }
    best
}

/// Without the operations from `at` on; their time passes all the same.
fn without(ops: &[Timed], at: usize, count: usize) -> Vec<Timed> {
    let end = (at + count).min(ops.len());
    let lost: Duration = ops[at..end].iter().map(|timed| timed.after).sum();
    let mut shorter: Vec<_> = ops[..at].iter().chain(&ops[end..]).cloned().collect();
    if let Some(next) = shorter.get_mut(at) {
        next.after += lost;
    }
    shorter
}

/// Whether both are of one kind: the same rule and, for what no rule has a number for, the same
/// words but for names and numbers.
fn same(one: &Violation, other: &Violation) -> bool {
    let words = |text: &str| {
        let is_word = |word: &&str| word.len() > 3 && word.chars().all(char::is_alphabetic);
        text.split(' ').filter(is_word).map(str::to_owned).collect::<Vec<_>>()
    };
    one.rule == other.rule && words(&one.what) == words(&other.what)
}
